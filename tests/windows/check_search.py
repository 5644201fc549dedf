#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What is found in a kernel whose symbols nobody has: check_search.py TOOLS GUEST.

Heads, arrays and tables are told where they are; what only looks like one is not taken for it, and
what could be two things is neither: then the PDB that would help is named.
"""

import pathlib
import shutil
import struct
import subprocess
import sys
import tempfile
import unittest

import guest as guests
import objects
import system
from hostile import Damaged

TOOLS, NAME = pathlib.Path(sys.argv[1]), sys.argv[2]

LISTS = {"bugcheck": "KeBugCheckCallbackListHead",
         "bugcheck-reason": "KeBugCheckReasonCallbackListHead"}
ARRAYS = {"process": "PspCreateProcessNotifyRoutine", "thread": "PspCreateThreadNotifyRoutine",
          "image": "PspLoadImageNotifyRoutine"}


class Search(Damaged):
    tools = TOOLS

    @classmethod
    def build(cls):
        guest = guests.Guest(NAME, cls.path)
        cls.explorer, cls.last = system.populate(guest)
        return guest

    def setUp(self):
        super().setUp()
        # Behind zeros: a variable before them would begin an array.
        self.decoy = self.guest.symbol("Decoys") + 8 * self.n
        self.kinds = dict(ARRAYS, **LISTS)
        self.kinds["registry"] = "CmpCallBackVector" if self.guest.major == 5 else "CallbackListHead"
        self.plain = self.guest.build < 9200    # debugger data tells of lists and of drivers

    def head(self, records):
        """A list in the kernel's data."""
        self.decoy += 2 * self.n
        self.guest.list_init(self.decoy)
        for record in records:
            self.guest.list_add(self.decoy, record)
        return self.decoy

    def word(self, value):
        self.decoy += 2 * self.n
        self.guest.ptr(self.decoy, value)
        return self.decoy

    def driver(self):
        return int(self.guest.modules[1]["base"], 16)

    def told(self, without=()):
        """All of what was put in but some kinds of callbacks, hives and the rest."""
        code, told = self.run_tool("callbacks")
        truth = [one for one in self.guest.truth["callbacks"] if one["kind"] not in without]
        keys = ("kind", "function", "context", "object", "detail")
        self.assertEqual([[one[key] for key in keys] for one in told],
                         [[one[key] for key in keys] for one in truth])
        self.assertEqual(code, int(any(kind in self.kinds for kind in without)))
        for tool, truth, arguments in (("registry", [self.guest.truth["hive"]["object"]], []),
                                       ("drivers", [one["name"] for one in
                                                    self.guest.truth["unloaded"]], ["--unloaded"])):
            code, told = self.run_tool(tool, *arguments)
            if tool in without:
                self.assertEqual((code, told), (1, []))
                self.wanted(tool, *arguments)
            else:
                key = "object" if tool == "registry" else "name"
                self.assertEqual((code, [one[key] for one in told][:len(truth)]), (0, truth))

    def wanted(self, tool, *arguments):
        """The PDB that helps is named."""
        done = subprocess.run([TOOLS / ("hvmi-" + tool), self.machine, *arguments],
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=60, check=False)
        self.assertEqual((done.returncode, done.stdout), (1, b""))
        self.assertIn(b"give %s, or an ISF" % self.guest.truth["pdb"].encode(), done.stderr)

    def test_found(self):
        self.told()
        facts = {fact["name"]: fact for fact in self.run_tool("info")[1]["facts"]}
        names = ["CmpHiveListHead", self.kinds["registry"], "KeServiceDescriptorTableShadow",
                 "KeBugCheckReasonCallbackListHead", *ARRAYS.values()]
        for name in names + ([] if self.plain else ["KeBugCheckCallbackListHead",
                                                    "MmUnloadedDrivers"]):
            self.assertEqual((facts[name]["value"], facts[name]["confidence"]),
                             (hex(self.guest.symbol(name)), "medium"))

    # Decoys.

    def hive(self, signature=0xbee0bee0):
        body = self.guest.alloc(self.guest.layouts.size("_CMHIVE"))
        self.guest.put(body, "_HHIVE", "Signature", signature)
        return self.guest.at(body, "_CMHIVE", "HiveList")

    def record(self, wrong=0, reason=None, function=None):
        record, text = self.guest.alloc(0x60), self.guest.alloc(16)
        self.guest.write(text, b"decoy")
        objects.bugcheck_record(self.guest, record, function or self.driver() + 0x100, text, reason)
        at = record + (6 if reason is None else 4) * self.n
        self.guest.ptr(at, self.guest.read_number(at, self.n) + wrong)
        return record

    def altitude(self, text, function=None):
        record = self.guest.alloc(0x60)
        self.guest.ptr(record + 3 * self.n + 16, function or self.driver() + 0x200)
        self.guest.unicode(record + 4 * self.n + 16, text)
        return record

    def drivers(self, *rows):
        """An array of unloaded drivers: (name, start, end, seconds), or None."""
        size = 4 * self.n + 8
        array = self.guest.alloc(50 * size)
        for i, row in enumerate(rows):
            if row:
                at, (name, start, end, seconds) = array + i * size, row
                self.guest.unicode(at, name)
                self.guest.ptr(at + 2 * self.n, start)
                self.guest.ptr(at + 3 * self.n, end)
                self.guest.number(at + 4 * self.n, guests.filetime(seconds), 8)
        return array

    def test_decoys_of_hives(self):
        self.head([self.hive(), self.hive(0xbee0bee1)])
        broken = self.hive()
        self.head([broken])
        self.guest.ptr(broken, self.decoy + 0x100)
        self.head([])
        self.word(self.hive())
        self.told()

    def test_decoys_of_lists(self):
        self.head([self.record(wrong=1)])
        self.head([self.record(wrong=1, reason=2)])
        # Pages that are added, and triage data, have lists of their own.
        self.head([self.record(reason=4), self.record(reason=6)])
        self.head([self.record(reason=7)])
        self.head([self.record(), self.record(wrong=8)])
        self.head([self.record(function=0x10000)])
        # Of no module alone: not shown to be one.
        self.head([self.record(function=self.driver() + 0x7000000)])
        for text in ("", "32x", "1.2.3", ".5", "\u0663"):
            self.head([self.altitude(text)])
        self.head([self.altitude("1000", 0x10000)])
        self.head([self.altitude("1000"), self.altitude("")])
        self.told()

    def test_decoys_of_drivers(self):
        good = ("old.sys", self.driver(), self.driver() + 0x1000, 60)
        for bad in (("old.sys", good[2], good[1], 60), ("old.sys", good[1] + 1, good[2], 60),
                    ("old.sys", 0x10000, 0x11000, 60), ("old", *good[1:]), ("\1\2\3.s", *good[1:]),
                    ("old.sys", good[1], good[2], -10 ** 9)):
            self.word(self.drivers(bad))
            self.word(self.drivers(good, bad))
        self.word(self.drivers(good, None, good))
        self.word(self.drivers(None, good))
        self.told()

    def test_decoys_of_arrays(self):
        """Arrays that no routine uses: whatever they are for."""
        for _ in range(3):
            block = self.guest.alloc(4 * self.n)
            self.guest.ptr(block + self.n, self.driver() + 0x4000)
            self.word(block | 7)
        self.told()

    def test_two_of_each(self):
        self.head([self.hive(), self.hive()])
        without = ["registry"]     # the tool, and what is below it
        code, told = self.run_tool("registry")
        self.assertEqual((code, told), (1, []))
        self.wanted("registry")
        if self.plain:
            return
        self.word(self.drivers(("old.sys", self.driver(), self.driver() + 0x1000, 60)))
        self.head([self.record()])
        self.head([self.record(reason=3)])
        without = ["drivers", "bugcheck", "bugcheck-reason"]
        self.head([self.altitude("1000")])
        code, told = self.run_tool("callbacks")
        self.assertEqual({one["kind"] for one in told}, set(ARRAYS))
        self.assertEqual(code, 1)
        code, told = self.run_tool("drivers", "--unloaded")
        self.assertEqual((code, told), (1, []))
        self.wanted("drivers", "--unloaded")

    # Arrays, and the code that leads to them.

    def test_no_callbacks(self):
        """Zeros are not shown to be an array."""
        for kind in ("process", "image"):
            self.guest.write(self.guest.symbol(ARRAYS[kind]), bytes(64 * self.n))
        self.told(without=("process", "image"))

    def test_wild_arrays(self):
        """What is in the first entries of each is a callback or nothing."""
        where = self.guest.symbol(ARRAYS["thread"])
        self.guest.ptr(where + 3 * self.n, 0x41414141)
        self.told(without=("thread",))

    def test_hidden_driver(self):
        """A routine of no module is what one looks for."""
        one = next(row for row in self.guest.truth["callbacks"] if row["kind"] == "process")
        hidden = self.driver() + 0x7000000
        self.guest.ptr(int(one["object"], 16) + self.n, hidden)
        one = dict(one, function=hex(hidden))
        _, told = self.run_tool("callbacks")
        self.assertIn((one["object"], one["function"], None),
                      [(row["object"], row["function"], row["module"]) for row in told])

    def code(self, name):
        """Damage a routine."""
        self.guest.write(self.guest.base + self.guest.image.symbols[name], b"\xcc\xc3" * 4)

    def test_no_code(self):
        self.code("PsRemoveLoadImageNotifyRoutine")
        self.code("PsSetCreateThreadNotifyRoutine")
        self.told(without=("image", "thread"))

    def test_same_array(self):
        """Two routines that lead to one array: it is not shown whose it is."""
        symbols = self.guest.image.symbols
        for verb, other in (("Set", "PsSetLoadImage"), ("Remove", "PsRemoveLoadImage")):
            start = symbols["Ps%sCreateThreadNotifyRoutine" % verb]
            end = symbols[other + "NotifyRoutine"]
            self.guest.write(self.guest.base + start,
                             b"\xe9" + struct.pack("<i", end - start - 5))
        self.told(without=("thread", "image"))

    # Services.

    def services(self):
        return self.run_tool("callbacks", "--services")

    def test_other_tables(self):
        """Tables that begin as win32k's does, or as the kernel's."""
        shadow = self.guest.symbol("KeServiceDescriptorTableShadow")
        copy = self.guest.tables
        size = 8 * self.n
        data = b"".join(self.guest.memory.read(copy.translate(shadow + i * self.n), self.n)
                        for i in range(8))
        self.guest.write(self.decoy + size, data[:size // 2] + bytes(size // 2))
        code, told = self.services()
        self.assertEqual((code, len(told)),
                         (0, len(self.guest.truth["services"] + self.guest.truth["session_services"])))
        # One for filtered programs, as 10 has it.
        self.guest.write(self.decoy + 4 * size, data)
        code, told = self.services()
        self.assertEqual(code, 0 if self.guest.wide else 1)
        expected = len(self.guest.truth["services"]) + \
            (len(self.guest.truth["session_services"]) if self.guest.wide else 0)
        self.assertEqual(len(told), expected)

    @unittest.skipIf("x64" not in NAME, "the code is that of x64")
    def test_no_dispatcher(self):
        self.code("KiSystemServiceRepeat")
        code, told = self.services()
        self.assertEqual((code, told), (1, []))
        self.wanted("callbacks", "--services")


if __name__ == "__main__":
    if not all(map(shutil.which, ("clang", "lld-link", "llvm-rc"))):
        print("clang, lld or llvm is missing: guests cannot be built")
        sys.exit(77)
    unittest.main(argv=sys.argv[:1] + sys.argv[3:])
