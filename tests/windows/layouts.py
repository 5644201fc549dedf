# SPDX-License-Identifier: Apache-2.0
"""Structures of a release, from data/windows/struct-layouts.tsv.xz."""

import lzma
import re

WIDTHS = {"UCHAR": 1, "CHAR": 1, "USHORT": 2, "SHORT": 2, "WCHAR": 2, "ULONG": 4, "LONG": 4,
          "ULONGLONG": 8, "LONGLONG": 8, "_LARGE_INTEGER": 8, "_ULARGE_INTEGER": 8}


class Layouts:
    def __init__(self, path, release, arch):
        self.pointer = 8 if arch == "x64" else 4
        self.structs, self.sizes = {}, {}
        prefix = "%s\t%s\t" % (release, arch)
        last, bit = None, 0
        with lzma.open(path, "rt") as rows:
            for row in rows:
                if not row.startswith(prefix):
                    continue
                _, _, tag, member, offset, kind = row.rstrip("\n").split("\t")
                if not member:
                    self.sizes[tag] = int(offset, 16)
                    continue
                offset, width = int(offset, 16), None
                kind, colon, bits = kind.partition(":")
                if colon:
                    # Bit-fields of one place follow each other.
                    width = int(bits)
                    bit = bit if last == (tag, offset) else 0
                    last = (tag, offset)
                    if bit + width > 8 * WIDTHS[kind]:
                        bit = 0
                else:
                    last = None
                self.structs.setdefault(tag, {}).setdefault(member, (offset, kind, width, bit))
                bit = bit + width if colon else 0
        if not self.structs:
            raise KeyError("%s %s" % (release, arch))

    def has(self, tag, member):
        return member in self.structs.get(tag, {})

    def offset(self, tag, path):
        """Of a member, through members that are structures."""
        total = 0
        for name in path.split("."):
            offset, kind, _, _ = self.structs[tag][name]
            total += offset
            tag = kind
        return total

    def size(self, tag):
        return self.sizes[tag]

    def width(self, tag, member):
        """Bytes of a member."""
        kind = self.structs[tag][member][1].replace("volatile", "").strip()
        array = re.fullmatch(r"(.*?)\[(\d+)\]", kind)
        if array:
            return int(array.group(2)) * self.plain(array.group(1))
        return self.plain(kind)

    def plain(self, kind):
        kind = kind.strip()
        if "*" in kind or kind in ("fnptr", "_EX_FAST_REF", "_EX_PUSH_LOCK"):
            return self.pointer
        if kind.startswith("enum"):
            return 4
        return WIDTHS.get(kind) or self.sizes[kind]
