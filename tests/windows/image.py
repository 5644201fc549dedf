# SPDX-License-Identifier: Apache-2.0
"""The kernel image of a guest: built with clang and lld-link, then laid out as a loader does."""

import pathlib
import re
import struct
import subprocess

HERE = pathlib.Path(__file__).resolve().parent


class Image:
    """An image in memory: bytes by RVA, and where its symbols are."""

    def __init__(self, folder, arch, export_modules, release=None):
        """`release`: what its version resource says; None: it has none."""
        folder.mkdir(parents=True, exist_ok=True)
        self.pdb = folder / "ntkrnlmp.pdb"
        out, table = folder / "ntoskrnl.exe", folder / "ntoskrnl.map"
        wide = arch != "x86"
        machine = {"x86": "i686", "x64": "x86_64", "arm64": "aarch64"}[arch]
        subprocess.run(["clang", "--target=%s-pc-windows-msvc" % machine, "-O0", "-g", "-gcodeview",
                        "-ffreestanding", "-fno-stack-protector", "-c", HERE / "kernel.c",
                        *(["-DEXPORT_MODULES"] if export_modules else []),
                        "-o", folder / "kernel.obj"], check=True)
        subprocess.run(["lld-link", "/nologo", "/subsystem:native", "/driver", "/nodefaultlib",
                        "/entry:KiSystemStartup", "/opt:noref", "/debug", "/timestamp:0x5f000000",
                        "/pdbaltpath:ntkrnlmp.pdb", "/pdb:%s" % self.pdb, "/map:%s" % table,
                        "/safeseh:no", "/base:0x%x" % (0x140000000 if wide else 0x400000),
                        "/out:%s" % out, folder / "kernel.obj",
                        *([self.version(folder, release)] if release else [])], check=True)
        self.load(out.read_bytes(), wide)
        self.read_map(table.read_text())

    @staticmethod
    def version(folder, release):
        numbers = release.replace(".", ",")
        (folder / "version.rc").write_text(
            "1 VERSIONINFO\nFILEVERSION %s\nPRODUCTVERSION %s\nBEGIN\nEND\n" % (numbers, numbers))
        subprocess.run(["llvm-rc", "/FO", folder / "version.res", folder / "version.rc"], check=True)
        return folder / "version.res"

    def load(self, data, wide):
        nt = struct.unpack_from("<I", data, 0x3c)[0]
        count, = struct.unpack_from("<H", data, nt + 6)
        optional, = struct.unpack_from("<H", data, nt + 20)
        self.optional = nt + 24
        self.size, headers = struct.unpack_from("<II", data, self.optional + 56)
        self.bytes = bytearray(self.size)
        self.bytes[:headers] = data[:headers]
        self.wide = wide
        self.sections = {}
        for i in range(count):
            at = self.optional + optional + 40 * i
            size, rva, raw_size, raw = struct.unpack_from("<IIII", data, at + 8)
            self.sections[data[at:at + 8].rstrip(b"\0").decode()] = (rva, size)
            self.bytes[rva:rva + min(size, raw_size)] = data[raw:raw + min(size, raw_size)]
        self.bytes = self.bytes[:self.size]

    def read_map(self, text):
        base = int(re.search(r"Preferred load address is (\w+)", text).group(1), 16)
        self.symbols = {}
        for name, address in re.findall(r"^ \w+:\w+\s+(\S+)\s+([0-9a-f]{8,16}) ", text, re.M):
            self.symbols[name.lstrip("_") if not self.wide else name] = int(address, 16) - base

    def relocate(self, base):
        """What a loader does: addresses in the image, and the base in its header."""
        at = self.optional + (24 if self.wide else 28)
        word, size = ("<Q", 8) if self.wide else ("<I", 4)
        moved = base - struct.unpack_from(word, self.bytes, at)[0]
        struct.pack_into(word, self.bytes, at, base)
        block, left = self.sections.get(".reloc", (0, 0))
        while left > 8:
            page, length = struct.unpack_from("<II", self.bytes, block)
            for entry, in struct.iter_unpack("<H", self.bytes[block + 8:block + length]):
                if entry >> 12 in (3, 10):      # IMAGE_REL_BASED_HIGHLOW, _DIR64
                    where = page + (entry & 0xfff)
                    value = struct.unpack_from(word, self.bytes, where)[0] + moved
                    struct.pack_into(word, self.bytes, where, value & (1 << 8 * size) - 1)
            block, left = block + length, left - length

    def codeview(self):
        """Offset of the RSDS record."""
        return self.bytes.index(b"RSDS")

    def grow(self, size):
        """More memory behind the image, in its last section."""
        nt = struct.unpack_from("<I", self.bytes, 0x3c)[0]
        count, = struct.unpack_from("<H", self.bytes, nt + 6)
        optional, = struct.unpack_from("<H", self.bytes, nt + 20)
        at = self.optional + optional + 40 * count
        struct.pack_into("<8sIIIIIIHHI", self.bytes, at, b"ALMOSTRO", size - self.size, self.size,
                         0, 0, 0, 0, 0, 0, 0xc8000040)
        struct.pack_into("<H", self.bytes, nt + 6, count + 1)
        struct.pack_into("<I", self.bytes, self.optional + 56, size)
        self.size = size
