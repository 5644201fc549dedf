# SPDX-License-Identifier: Apache-2.0
"""Physical memory and page tables of a guest."""

import random
import struct

PAGE = 4096
P, W, U, NX = 1, 2, 4, 1 << 63


class Memory:
    """RAM from 0 on; pages are given out scattered."""

    def __init__(self, size, seed=1):
        self.size = size
        self.pages = {}
        self.free = list(range(0x100000, size, PAGE))
        random.Random(seed).shuffle(self.free)

    def page(self, contiguous=None):
        gpa = self.free.pop() if contiguous is None else contiguous
        self.pages[gpa] = bytearray(PAGE)
        return gpa

    def contiguous(self, count, alignment=PAGE):
        """So many pages in one piece."""
        taken = set(self.pages)
        free = set(self.free)
        for start in range(0x100000, self.size, alignment):
            run = [start + PAGE * i for i in range(count)]
            if all(gpa in free for gpa in run) and not taken.intersection(run):
                self.free = [gpa for gpa in self.free if not start <= gpa < start + PAGE * count]
                for gpa in run:
                    self.pages[gpa] = bytearray(PAGE)
                return start
        raise MemoryError

    def write(self, gpa, data):
        while data:
            n = min(len(data), PAGE - gpa % PAGE)
            page = self.pages.setdefault(gpa - gpa % PAGE, bytearray(PAGE))
            page[gpa % PAGE:gpa % PAGE + n] = data[:n]
            gpa, data = gpa + n, data[n:]

    def read(self, gpa, size):
        out = b""
        while size:
            n = min(size, PAGE - gpa % PAGE)
            page = self.pages.get(gpa - gpa % PAGE, bytes(PAGE))
            out += page[gpa % PAGE:gpa % PAGE + n]
            gpa, size = gpa + n, size - n
        return out

    def save(self, path):
        with open(path, "wb") as file:
            file.truncate(self.size)
            for gpa in sorted(self.pages):
                file.seek(gpa)
                file.write(self.pages[gpa])


class Tables:
    """An address space. `shared` is whose upper half this one has, too."""

    def __init__(self, memory, mode, shared=None):
        self.memory, self.mode = memory, mode
        self.entry = 4 if mode == "x86" else 8
        if mode == "pae":
            # Four page directories, behind a table of 32 bytes somewhere in a page.
            self.directories = [memory.page() for _ in range(4)]
            self.root = memory.page() + 0x60
            for i, gpa in enumerate(self.directories):
                memory.write(self.root + 8 * i, struct.pack("<Q", gpa | P))
                memory.write(self.directories[3] + 8 * i, struct.pack("<Q", gpa | 0x63))
        else:
            self.root = memory.page()
            index = 0x300 if mode == "x86" else 0x1ed if shared is None else shared.self_index
            self.self_index = index
            self.put(self.root, index, self.root | 0x63)
        self.shared = shared

    def put(self, table, index, value):
        self.memory.write(table + index * self.entry,
                          value.to_bytes(self.entry, "little"))

    def get(self, table, index):
        return int.from_bytes(self.memory.read(table + index * self.entry, self.entry), "little")

    def table(self, table, index):
        entry = self.get(table, index)
        if not entry & P:
            entry = self.memory.page() | 0x67
            self.put(table, index, entry)
        return entry & 0x000ffffffffff000

    def last_table(self, gva):
        if self.mode in ("4level", "arm64"):
            table = self.root
            for shift in (39, 30, 21):
                table = self.table(table, gva >> shift & 511)
            return table, gva >> 12 & 511
        if self.mode == "pae":
            return self.table(self.directories[gva >> 30], gva >> 21 & 511), gva >> 12 & 511
        return self.table(self.root, gva >> 22), gva >> 12 & 1023

    def map(self, gva, gpa, flags=P | W):
        table, index = self.last_table(gva)
        if self.mode == "arm64":
            # A page that was used; AP and UXN, PXN in place of what x86 has there.
            flags = 0x403 | (0 if flags & W else 0x80) | (0x40 if flags & U else 0) | \
                (3 << 53 if flags & NX else 0)
        self.put(table, index, gpa | flags)

    def set_entry(self, gva, value):
        """A page-table entry as it is, for what is not present."""
        table, index = self.last_table(gva)
        self.put(table, index, value)

    def share(self):
        """Take the kernel's half over, when all of that is there."""
        other = self.shared
        if self.mode in ("4level", "arm64"):
            for i in range(256, 512):
                if i != self.self_index:
                    self.put(self.root, i, other.get(other.root, i))
        elif self.mode == "pae":
            for directory in (2, 3):
                for i in range(512):
                    if directory == 3 and i < 4:
                        continue
                    self.put(self.directories[directory], i,
                             other.get(other.directories[directory], i))
        else:
            for i in range(0x200, 0x400):
                if i != 0x300:
                    self.put(self.root, i, other.get(other.root, i))

    def translate(self, gva):
        if self.mode in ("4level", "arm64"):
            table = self.root
            for shift in (39, 30, 21, 12):
                entry = self.get(table, gva >> shift & 511)
                if not entry & P:
                    return None
                table = entry & 0x0000fffffffff000
            return table | gva & 0xfff
        if self.mode == "pae":
            table, shifts, mask = self.directories[gva >> 30], (21, 12), 511
        else:
            table, shifts, mask = self.root, (22, 12), 1023
        for shift in shifts:
            entry = self.get(table, gva >> shift & mask)
            if not entry & P:
                return None
            table = entry & 0x000ffffffffff000
        return table | gva & 0xfff
