#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What is told of guests whose structures were damaged on purpose: check_hostile.py TOOLS GUEST DUMP.

Each test damages one thing in a copy of the memory. What is listed ends, in time, and is what was put
in: less may be told, nothing is invented.
"""

import pathlib
import shutil
import struct
import subprocess
import sys
import unittest

import dumps
import guest as guests
import system
from hostile import SECONDS, Damaged

TOOLS, NAME, DUMP = pathlib.Path(sys.argv[1]), sys.argv[2], sys.argv[3]


class Hostile(Damaged):
    tools = TOOLS

    @classmethod
    def build(cls):
        guest = guests.Guest(NAME, cls.path, known="x64" in NAME)
        cls.explorer, cls.last = system.populate(guest)
        return guest

    def some_of(self, told, truth, *keys):
        """Each that is told was put in, and once."""
        rows = [tuple(str(one[key]) for key in keys) for one in told]
        self.assertEqual(len(set(rows)), len(rows))
        self.assertLessEqual(set(rows), {tuple(str(one[key]) for key in keys) for one in truth})

    def link(self, record):
        return self.guest.at(record["body"], "_EPROCESS", "ActiveProcessLinks")

    # Processes.

    def processes(self, listed):
        code, told = self.run_tool("ps")
        self.assertEqual(code, 1)
        self.some_of(told, self.truth, "pid", "ppid", "comm", "object")
        self.assertEqual(len(told), listed)

    def test_cyclic_processes(self):
        """A circle that leaves the head out: followed from the other end as well."""
        middle = self.guest.processes[len(self.truth) // 2]
        self.guest.ptr(self.link(self.guest.processes[-1]), self.link(middle))
        self.processes(len(self.truth))

    def test_wild_process(self):
        """The list is cut where it leads nowhere, and followed from its other end."""
        self.guest.ptr(self.link(self.guest.processes[3]), 0x4141414141414141)
        self.processes(len(self.truth))

    def test_smeared_processes(self):
        """Links of one process were saved before it was unlinked, those of others after."""
        one, three = self.guest.processes[2], self.guest.processes[4]
        self.guest.ptr(self.link(one), self.link(three))
        code, told = self.run_tool("ps")
        self.assertEqual(code, 1)
        self.some_of(told, self.truth, "pid", "comm", "object")
        self.assertGreaterEqual(len(told), len(self.truth) - 1)

    def test_freed_process(self):
        """A process that was freed and its memory given away while the memory was saved."""
        record = self.guest.processes[4]
        at, size = record["body"], self.guest.layouts.size("_EPROCESS")
        self.guest.write(at, b"\xcc" * size)
        self.processes(len(self.truth) - 1)

    def test_self_linked_process(self):
        self.guest.ptr(self.link(self.guest.processes[5]), self.link(self.guest.processes[5]))
        self.processes(len(self.truth))

    # Processors.

    def registers(self, change=None, **header):
        """What a dump tells of RIP, when its debugger data or its header was changed."""
        plain, path = self.guest.debugger_plain, self.path / "memory.dmp"
        if change:
            data = bytearray(plain)
            change(data)
            self.guest.debugger_plain = bytes(data)
        dumps.crash(self.guest, path, dumps.BITMAP if self.guest.wide else dumps.FULL)
        self.guest.debugger_plain = plain
        if header:
            with open(path, "r+b") as file:
                file.seek(0x34 if self.guest.wide else 0x24)
                file.write(struct.pack("<I", header["processors"]))
        done = subprocess.run([DUMP, path], stdout=subprocess.PIPE, timeout=SECONDS, check=True)
        rows = (line.split("\t") for line in done.stdout.decode().splitlines())
        return {int(row[1]): int(row[3], 0) for row in rows
                if row[0] == "register" and row[2] == "rip"}

    def test_processors(self):
        def block(value):
            return lambda data: struct.pack_into("<Q", data, 0x218, value)

        everyone = self.registers()
        rips = [processor["rip"] for processor in self.guest.frozen]
        self.assertEqual(everyone, dict(enumerate(rips)))
        self.assertEqual(self.registers(processors=0xffffffff), everyone)
        header = {0: rips[0]}
        for value in (0x4141414141414141, 0, self.guest.symbol("KdDebuggerDataBlock")):
            self.assertEqual(self.registers(block(value)), header)
        # All are the first.
        where = self.guest.symbol("KiProcessorBlock")
        for i in range(1, guests.PROCESSORS):
            self.guest.ptr(where + i * self.n, self.guest.prcb)
        self.assertEqual(self.registers(), header)

    # Threads.

    def test_cyclic_threads(self):
        threads = [int(one["object"], 16) for one in self.explorer["truth"]["thread_list"]]
        link = self.guest.layouts.offset("_ETHREAD", "ThreadListEntry")
        self.guest.ptr(threads[2] + link, threads[1] + link)
        code, told = self.run_tool("ps", "--threads")
        self.assertEqual(code, 1)
        truth = [thread for one in self.truth for thread in one["thread_list"]]
        self.some_of(told, truth, "pid", "tgid", "object")
        self.assertEqual(len(told), len(truth))

    def test_wild_threads(self):
        head = self.guest.at(self.explorer["body"], "_EPROCESS", "ThreadListHead")
        self.guest.ptr(head, 0xdead0000)
        self.guest.ptr(head + self.n, 0xdead0000)
        code, told = self.run_tool("ps", "--threads")
        self.assertEqual(code, 1)
        truth = [thread for one in self.truth for thread in one["thread_list"]]
        self.assertEqual(len(told), len(truth) - 4)

    # Modules.

    def test_cyclic_modules(self):
        links = [int(one["object"], 16) for one in self.guest.modules]
        self.guest.ptr(links[4], links[2])
        code, told = self.run_tool("modules")
        self.assertEqual(code, 1)
        self.assertEqual([one["object"] for one in told], list(map(hex, links)))

    def test_wild_module(self):
        links = [int(one["object"], 16) for one in self.guest.modules]
        self.guest.ptr(links[2], 0)
        self.guest.ptr(links[2] + self.n, 0x1000)
        code, told = self.run_tool("modules")
        self.assertEqual(code, 1)
        self.some_of(told, self.guest.modules, "name", "path", "base", "size", "object")

    def test_cyclic_process_modules(self):
        """A process owns its own list."""
        tables, layouts = self.explorer["tables"], self.guest.layouts
        peb = self.guest.read_number(self.guest.at(self.explorer["body"], "_EPROCESS", "Peb"), self.n)
        ldr = self.guest.read_number(peb + layouts.offset("_PEB", "Ldr"), self.n, tables)
        head = ldr + layouts.offset("_PEB_LDR_DATA", "InLoadOrderModuleList")
        first = self.guest.read_number(head, self.n, tables)
        self.guest.ptr(first, first, tables)
        pid = self.explorer["truth"]["pid"]
        code, told = self.run_tool("modules", "--pid", pid)
        self.assertEqual(code, 1)
        self.some_of(told, self.explorer["truth"]["modules"], "name", "path", "base", "size")

    # Names.

    def test_zero_length_names(self):
        """Lengths of zero with a buffer, and without."""
        entry = int(self.guest.modules[2]["object"], 16)
        other = int(self.guest.modules[3]["object"], 16)
        self.guest.number(self.guest.at(entry, "_LDR_DATA_TABLE_ENTRY", "BaseDllName"), 0, 2)
        self.guest.write(self.guest.at(other, "_LDR_DATA_TABLE_ENTRY", "FullDllName"),
                         bytes(2 * self.n))
        code, told = self.run_tool("modules")
        self.assertEqual(code, 0)
        truth = [dict(one) for one in self.guest.modules]
        truth[2]["name"] = truth[3]["path"] = ""
        for one, expected in zip(told, truth):
            self.assertEqual((one["name"] or "", one["path"] or "", one["object"]),
                             (expected["name"], expected["path"], expected["object"]))
        self.assertEqual(len(told), len(truth))

    def test_zero_length_objects(self):
        """A named object whose name is empty: a directory of such is no path."""
        device = self.guest.directories["Device"]
        info = self.guest.name_info[device]
        self.guest.number(self.guest.at(info, "_OBJECT_HEADER_NAME_INFO", "Name"), 0, 2)
        pid = self.explorer["truth"]["pid"]
        code, told = self.run_tool("handles", pid)
        self.assertEqual(code, 0)
        names = {one["handle"]: one["name"] for one in told}
        self.assertEqual(names[hex(0x404 * 4)], "")

    def test_long_names(self):
        """Lengths that are odd, more than there is room for, or of memory that is not there."""
        for index, (length, room) in enumerate(((7, 8), (0xfffe, 8), (0xfffe, 0xfffe))):
            entry = int(self.guest.modules[1 + index]["object"], 16)
            where = self.guest.at(entry, "_LDR_DATA_TABLE_ENTRY", "BaseDllName")
            self.guest.number(where, length, 2)
            self.guest.number(where + 2, room, 2)
            if index == 2:
                self.guest.ptr(where + self.n, 0xffffffff80000000 if self.guest.wide else
                               0x90000000)
        code, told = self.run_tool("modules")
        self.assertEqual(code, 0)
        self.assertEqual([one["name"] or "" for one in told[1:4]], ["", "", ""])
        self.assertEqual([one["object"] for one in told],
                         [one["object"] for one in self.guest.modules])

    def test_circle_of_directories(self):
        """Whose names would have no beginning."""
        directories = self.guest.directories
        info = self.guest.name_info[directories["Device"]]
        self.guest.put(info, "_OBJECT_HEADER_NAME_INFO", "Directory", directories["Device"])
        code, told = self.run_tool("maps", self.explorer["truth"]["pid"])
        regions = self.explorer["truth"]["regions"]
        self.some_of(told, regions, "start", "end", "prot", "object")
        self.assertEqual(len(told), len(regions))
        for one in told:
            self.assertNotIn("\\Device\\Device", one["path"])

    def test_circle_of_keys(self):
        handle = next(one for one in self.explorer["truth"]["handles"] if one["type"] == "Key")
        body = int(handle["object"], 16)
        control = self.guest.read_number(self.guest.at(body, "_CM_KEY_BODY", "KeyControlBlock"),
                                         self.n)
        self.guest.put(control, "_CM_KEY_CONTROL_BLOCK", "ParentKcb", control)
        code, told = self.run_tool("handles", self.explorer["truth"]["pid"])
        self.assertEqual({one["handle"]: one["name"] for one in told}[handle["handle"]], "")
        self.assertEqual(len(told), len(self.explorer["truth"]["handles"]))

    # Regions.

    def vad_links(self):
        """[(gva of a link, what it leads to)] of all children in explorer's tree."""
        import processes
        left, right, _ = (self.guest.layouts.offset("_MMVAD_SHORT", name)
                          for name in processes.tree_names(self.guest))
        nodes = [int(one["object"], 16) for one in self.explorer["truth"]["regions"]]
        return [(node + side, self.guest.read_number(node + side, self.n))
                for node in nodes for side in (left, right)]

    def regions(self, code=1):
        got, told = self.run_tool("maps", self.explorer["truth"]["pid"])
        self.assertEqual(got, code)
        self.some_of(told, self.explorer["truth"]["regions"], "start", "end", "prot", "protection",
                     "object", "path")
        ends = [int(one["end"], 16) for one in told]
        self.assertTrue(all(int(one["start"], 16) >= end for one, end in zip(told[1:], ends)))
        return told

    def test_cyclic_vads(self):
        """Each leaf leads to the first node."""
        first = next(node for _, node in self.vad_links() if node)
        for at, to in self.vad_links():
            if not to:
                self.guest.ptr(at, first)
        told = self.regions()
        self.assertGreater(len(told), 0)

    def test_wild_vads(self):
        links = [at for at, to in self.vad_links() if to]
        self.guest.ptr(links[0], 0x41414140)
        self.guest.ptr(links[-1], (1 << 8 * self.n) - 16)
        self.regions()

    def test_overlapping_vads(self):
        """A region that was made to reach over its neighbours."""
        node = int(self.explorer["truth"]["regions"][3]["object"], 16)
        self.guest.put(node, "_MMVAD_SHORT", "StartingVpn", 0x10)
        self.guest.put(node, "_MMVAD_SHORT", "EndingVpn", 0x500)
        code, told = self.run_tool("maps", self.explorer["truth"]["pid"])
        self.assertEqual(code, 1)
        ends = [int(one["end"], 16) for one in told]
        self.assertTrue(all(int(one["start"], 16) >= end for one, end in zip(told[1:], ends)))
        truth = self.explorer["truth"]["regions"]
        objects = {one["object"] for one in truth}
        self.assertLessEqual({one["object"] for one in told}, objects)

    def test_reversed_vad(self):
        node = int(self.explorer["truth"]["regions"][2]["object"], 16)
        self.guest.put(node, "_MMVAD_SHORT", "EndingVpn", 1)
        told = self.regions()
        self.assertNotIn(hex(node), [one["object"] for one in told])

    # Counts.

    def table(self):
        return self.guest.read_number(self.guest.at(self.explorer["body"], "_EPROCESS",
                                                    "ObjectTable"), self.n)

    def test_huge_handle_table(self):
        """Three levels of tables that are all one page, which leads to itself."""
        page = self.guest.alloc(4096, 4096)
        for i in range(4096 // self.n):
            self.guest.ptr(page + i * self.n, page)
        self.guest.put(self.table(), "_HANDLE_TABLE", "TableCode", page | 2)
        self.guest.put(self.table(), "_HANDLE_TABLE", "NextHandleNeedingPool", 0xfffffffc)
        code, told = self.run_tool("handles", self.explorer["truth"]["pid"])
        self.assertEqual((code, told), (1, []))

    def test_handle_levels(self):
        """Levels that do not exist, and tables that are nowhere."""
        self.guest.put(self.table(), "_HANDLE_TABLE", "TableCode", 3)
        self.assertEqual(self.run_tool("handles", self.explorer["truth"]["pid"])[1], [])
        self.guest.put(self.table(), "_HANDLE_TABLE", "TableCode", 0x41414140 | 2)
        code, told = self.run_tool("handles", self.explorer["truth"]["pid"])
        self.assertEqual((code, told), (1, []))

    def test_huge_counts_of_tokens(self):
        """Groups and privileges without end, an index far outside, a SID that is too long."""
        token = self.guest.read_number(self.guest.at(self.explorer["body"], "_EPROCESS", "Token"),
                                       self.n) & ~(2 * self.n - 1)
        self.guest.put(token, "_TOKEN", "UserAndGroupCount", 0xffffffff)
        if self.guest.has("_TOKEN", "IntegrityLevelIndex"):
            self.guest.put(token, "_TOKEN", "IntegrityLevelIndex", 0xfffffff0)
        groups = self.guest.read_number(self.guest.at(token, "_TOKEN", "UserAndGroups"), self.n)
        sid = self.guest.read_number(groups, self.n)
        self.guest.number(sid + 1, 255, 1)
        self.guest.memory.save(self.path / "memory.raw")
        done = subprocess.run([DUMP, self.machine], stdout=subprocess.PIPE, timeout=SECONDS,
                              check=True)
        pid = str(self.explorer["truth"]["pid"]).encode()
        rows = [line.split(b"\t") for line in done.stdout.splitlines()]
        self.assertEqual([row[2] for row in rows if row[:2] == [b"token", pid]], [b"EBADMSG"])

    # What drivers leave behind.

    def test_cyclic_devices(self):
        driver = next(one for one in self.guest.truth["drivers"] if len(one["devices"]) == 2)
        device = int(driver["devices"][-1]["object"], 16)
        self.guest.put(device, "_DEVICE_OBJECT", "NextDevice",
                       int(driver["devices"][0]["object"], 16))
        code, told = self.run_tool("drivers", "--devices")
        self.assertEqual(code, 1)
        self.assertEqual(len(told), len(self.guest.truth["drivers"]))
        listed = next(one for one in told if one["object"] == driver["object"])["devices"]
        self.assertLess(len(listed), 16)
        self.assertLessEqual({one["object"] for one in listed},
                             {one["object"] for one in driver["devices"]})

    def test_cyclic_directory(self):
        """Buckets whose entries go in circles."""
        where = self.guest.at(self.guest.directories["Driver"], "_OBJECT_DIRECTORY", "HashBuckets")
        entries = [self.guest.read_number(where + i * self.n, self.n) for i in range(37)]
        for entry in filter(None, entries):
            self.guest.put(entry, "_OBJECT_DIRECTORY_ENTRY", "ChainLink", entry)
        code, told = self.run_tool("drivers")
        self.assertEqual(code, 1)
        self.assertLessEqual({one["object"] for one in told},
                             {one["object"] for one in self.guest.truth["drivers"]})

    def test_cyclic_callbacks(self):
        record = int(self.guest.truth["callbacks"][-1]["object"], 16)
        self.guest.ptr(record, record)
        code, told = self.run_tool("callbacks")
        self.assertEqual(code, 1)
        self.some_of(told, self.guest.truth["callbacks"], "kind", "function", "object", "detail")

    def test_wild_callbacks(self):
        """Blocks that are nowhere are no callbacks."""
        where = self.guest.symbol("PspCreateProcessNotifyRoutine")
        for i in range(8, 40):
            self.guest.ptr(where + i * self.n, 0x4141414141414140 + 16 * i)
        code, told = self.run_tool("callbacks")
        self.some_of(told, self.guest.truth["callbacks"], "kind", "function", "object", "detail")
        self.assertEqual(len(told), len(self.guest.truth["callbacks"]))

    # The registry.

    def cells(self, magic):
        """Addresses of cells that begin so."""
        found = []
        for gpa in sorted(self.guest.memory.pages):
            page = bytes(self.guest.memory.pages[gpa])
            at = page.find(magic)
            while at >= 0:
                found.append(gpa + at)
                at = page.find(magic, at + 1)
        return found

    def test_huge_counts_of_keys(self):
        """Keys that say they have four billion subkeys and values."""
        for gpa in self.cells(b"nk\x20\0"):
            self.guest.memory.write(gpa + 0x14, struct.pack("<II", 0xffffffff, 0xffffffff))
            self.guest.memory.write(gpa + 0x24, struct.pack("<I", 0xffffffff))
        code, told = self.run_tool("registry", "SYSTEM")
        self.assertEqual(code, 1)
        for key in told:
            names = [sub["name"] for sub in key["keys"]]
            self.assertLessEqual(set(names), set(self.guest.truth["hive"]["root"]))
            self.assertEqual(key["values"], [])

    def test_lists_of_themselves(self):
        """An index of subkeys whose parts are itself."""
        hit = 0
        for gpa in self.cells(b"ri\2\0"):
            self.guest.memory.write(gpa + 8, self.guest.memory.read(gpa + 4, 4))
            hit += 1
        self.assertEqual(hit, 1)
        code, told = self.run_tool("registry", "SYSTEM", "Many")
        self.assertLessEqual({sub["name"] for key in told for sub in key["keys"]},
                             set(self.guest.truth["hive"]["many"]))

    def test_huge_value(self):
        """Data that is longer than its cell."""
        for gpa in self.cells(b"vk\3\0"):
            self.guest.memory.write(gpa + 4, struct.pack("<I", 0x7fffffff))
        code, told = self.run_tool("registry", "SYSTEM", "Select")
        self.assertEqual(code, 1)
        names = {one["name"]: one for one in self.guest.truth["hive"]["values"]}
        for key in told:
            for value in key["values"]:
                self.assertEqual(value, names[value["name"]])

    def test_cyclic_hives(self):
        head = self.guest.symbol("CmpHiveListHead")
        first = self.guest.read_number(head, self.n)
        self.guest.ptr(first, first)
        code, told = self.run_tool("registry")
        self.assertEqual(code, 1)
        self.assertLessEqual(len(told), 2)


if __name__ == "__main__":
    if not all(map(shutil.which, ("clang", "lld-link"))):
        print("clang or lld is missing: guests cannot be built")
        sys.exit(77)
    unittest.main(argv=sys.argv[:1] + sys.argv[4:])
