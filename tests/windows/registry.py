# SPDX-License-Identifier: Apache-2.0
"""Hives of a guest, in the format of their files, and the maps by which the kernel finds cells."""

import struct

from guest import filetime, to_ns
from memory import PAGE, P, U, W

NO_CELL = 0xffffffff


class Hive:
    def __init__(self, guest, path, mount, process=None):
        """`process`: whose user memory holds it (since 1803), or None: kernel memory."""
        self.guest, self.process = guest, process
        self.blocks = ([], [])      # (bin, offset) by number, of stable and volatile memory
        self.free = [0, 0]          # where the next cell goes
        self.body = guest.alloc(guest.layouts.size("_CMHIVE"))
        self.put("_HHIVE", "Signature", 0xbee0bee0)
        self.base = self.memory(PAGE)
        self.write(self.base, b"regf")
        self.put("_HHIVE", "BaseBlock", self.base)
        guest.unicode(guest.at(self.body, "_CMHIVE", "FileFullPath"), path)
        if guest.has("_CMHIVE", "HiveRootPath"):
            guest.unicode(guest.at(self.body, "_CMHIVE", "HiveRootPath"), mount)
        guest.list_add(guest.symbol("CmpHiveListHead"), guest.at(self.body, "_CMHIVE", "HiveList"))

    def put(self, tag, member, value):
        self.guest.put(self.body, tag, member, value)

    def memory(self, size):
        if not self.process:
            return self.guest.alloc(size, PAGE)
        at = self.process.setdefault("next_hive", 0x10000000)
        self.process["next_hive"] += size + PAGE
        for offset in range(0, size, PAGE):
            self.process["tables"].map(at + offset, self.guest.memory.page(), P | W | U)
        return at

    def write(self, gva, data):
        self.guest.write(gva, data, self.process["tables"] if self.process else None)

    def cell(self, data, volatile=False):
        """Put data into a new cell; returns its index."""
        size = -(-(len(data) + 4) // 8) * 8
        blocks = self.blocks[volatile]
        # A bin of its own for what does not fit.
        if not blocks or self.free[volatile] + size > len(blocks) * PAGE:
            bytes_ = -(-(size + 0x20) // PAGE) * PAGE
            at = self.memory(bytes_)
            self.write(at, b"hbin" + struct.pack("<II", len(blocks) * PAGE, bytes_))
            self.free[volatile] = len(blocks) * PAGE + 0x20
            blocks += [(at, offset) for offset in range(0, bytes_, PAGE)]
        index = self.free[volatile]
        self.free[volatile] += size
        at, offset = blocks[index // PAGE]
        self.write(at + offset + index % PAGE, struct.pack("<i", -size) + data)
        return index | volatile << 31

    def value(self, name, kind, data, compressed=True):
        raw = name.encode("latin-1" if compressed else "utf-16-le")
        if len(data) <= 4:
            size, where = len(data) | 0x80000000, int.from_bytes(data.ljust(4, b"\0"), "little")
        elif len(data) > 16344:
            parts = [self.cell(data[i:i + 16344]) for i in range(0, len(data), 16344)]
            cells = self.cell(b"".join(struct.pack("<I", part) for part in parts))
            size, where = len(data), self.cell(struct.pack("<2sHI", b"db", len(parts), cells))
        else:
            size, where = len(data), self.cell(data)
        return self.cell(struct.pack("<2sHIIIHH", b"vk", len(raw), size, where, kind,
                                     int(compressed), 0) + raw)

    def key(self, name, keys=(), values=(), volatile_keys=(), kind="lh", written=5,
            volatile=False):
        """Its subkeys and values are cells that are there."""
        compressed = all(ord(c) < 256 for c in name)
        raw = name.encode("latin-1") if compressed else name.encode("utf-16-le", "surrogatepass")
        lists = [self.list(cells, kind) for cells in (keys, volatile_keys)]
        value_list = self.cell(b"".join(struct.pack("<I", v) for v in values)) if values else NO_CELL
        return self.cell(struct.pack(
            "<2sHQIIIIIIIIIIIIIIIHH", b"nk", 0x20 * compressed, filetime(written), 0, 0, len(keys),
            len(volatile_keys), *lists, len(values), value_list, NO_CELL, NO_CELL, 0, 0, 0, 0, 0,
            len(raw), 0) + raw, volatile)

    def list(self, cells, kind):
        if not cells:
            return NO_CELL
        if kind == "ri":
            half = len(cells) // 2
            parts = [self.list(cells[:half], "lf"), self.list(cells[half:], "li")]
            return self.cell(b"ri" + struct.pack("<HII", 2, *parts))
        packed = (struct.pack("<II", c, 0) if kind in ("lf", "lh") else struct.pack("<I", c)
                  for c in cells)
        return self.cell(kind.encode() + struct.pack("<H", len(cells)) + b"".join(packed))

    def finish(self, root):
        guest = self.guest
        self.write(self.base + 0x24, struct.pack("<I", root))
        old = guest.build < 10000
        words = 4 if guest.build < 9200 else 3 if old or guest.build >= 17134 else 5
        storage = guest.layouts.offset("_HHIVE", "Storage")
        dual = (guest.layouts.size("_HHIVE") - storage) // 2
        n = guest.pointer
        for volatile, blocks in enumerate(self.blocks):
            table = guest.alloc(512 * words * n, PAGE)
            for i, (at, offset) in enumerate(blocks):
                entry = table + i * words * n
                guest.ptr(entry, at + offset if old else offset)
                guest.ptr(entry + n, at | 5)
            directory = guest.alloc(1024 * n, PAGE)
            guest.ptr(directory, table)
            where = self.body + storage + volatile * dual
            guest.number(where, len(blocks) * PAGE, 4)
            guest.ptr(where + n, directory)


def build(guest, process):
    path, mount = "\\SystemRoot\\System32\\Config\\SYSTEM", "\\REGISTRY\\MACHINE\\SYSTEM"
    hive = Hive(guest, path, mount, process)
    text = "%SystemRoot%\\caf\u00e9\0".encode("utf-16-le")
    big = bytes(range(256)) * 160
    values = [("Current", 4, b"\1\0\0\0"), ("", 2, text), ("Big", 3, big), ("\u0416", 3, b"12345"),
              ("Empty", 3, b"")]
    cells = [hive.value(name, kind, data, all(ord(c) < 256 for c in name))
             for name, kind, data in values]
    select = hive.key("Select", values=cells)
    many = ["Key%03d" % i for i in range(40)]
    parent = hive.key("Many", [hive.key(name) for name in many], kind="ri")
    temporary = hive.key("Temporary", volatile=True)
    odd = ["A\ud800", "A\udc00", "A", "A\0", "\0"]
    strange = hive.key("Odd", [hive.key(name) for name in odd])
    names = ["\u041a\u043b\u044e\u0447", "Many", "Odd", "Select"]
    root = hive.key("ROOT", [hive.key(names[0]), parent, strange, select], volatile_keys=[temporary])
    hive.finish(root)
    Hive(guest, "", "", process).finish(NO_CELL)
    guest.truth["hive"] = {
        "path": path, "mount": mount if guest.has("_CMHIVE", "HiveRootPath") else None,
        "object": hex(hive.body), "root": names + ["Temporary"], "many": many,
        # As tools print them.
        "odd": [name.replace("\0", "\\xc0\\x80").encode("utf-8", "surrogatepass").decode("utf-8", "backslashreplace")
                for name in odd],
        "values": [{"name": name, "type": kind, "size": len(data), "data": data.hex()}
                   for name, kind, data in values],
        "written_ns": to_ns(filetime(5))}
