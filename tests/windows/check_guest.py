#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What the tools say of a guest that was built: check_guest.py TOOLS GUEST [OPTION...].

Everything that the builder put in must be told, and nothing else.
"""

import json
import pathlib
import shutil
import subprocess
import sys
import tempfile
import unittest

import guest as guests
import objects
import processes
import registry

TOOLS, NAME = pathlib.Path(sys.argv[1]), sys.argv[2]
KPTI, KNOWN, UNKNOWN = ("--" + option in sys.argv for option in ("kpti", "known", "unknown"))
KEEP = [a[7:] for a in sys.argv if a.startswith("--keep=")]


def populate(guest):
    """The same system in every release."""
    guest.devices()
    system32 = "\\WINDOWS\\system32\\"
    guest.module("ntoskrnl.exe", "\\SystemRoot\\system32\\ntoskrnl.exe", guest.base,
                 guest.image.size)
    base = 0xfffff80320000000 if guest.wide else 0x88000000
    for i, name in enumerate(("hal.dll", "ntfs.sys", "tcpip.sys", "caf\u00e9-\u65e5\u672c.sys",
                              "volmgr.sys")):
        guest.module(name, "\\SystemRoot\\system32\\drivers\\" + name, base + 0x100000 * i,
                     0x20000 + 0x1000 * i)
    system = processes.create(guest, "System", 4, 0, kernel=True, threads=5)
    guest.ptr(guest.symbol("PsInitialSystemProcess"), system["body"])
    hives = None
    if guest.build >= 17134:
        hives = processes.create(guest, "Registry", 0x58, 4, created=10, kernel=True)
    registry.build(guest, hives)
    objects.drivers(guest)
    objects.unloaded(guest)
    objects.callbacks(guest)
    objects.services(guest)
    processes.create(guest, "smss.exe", 0x1a0, 4, created=11, path=processes.VOLUME + system32 +
                     "smss.exe", command="\\SystemRoot\\System32\\smss.exe", protection=0x61)
    processes.create(guest, "gone.exe", 0x200, 0x1a0, created=12, exited=99, status=0xc0000005,
                     threads=0)
    processes.create(guest, "paged.exe", 0x204, 0x1a0, created=13, paged_out=True)
    high = 0x70000000 if not guest.wide else \
        0x7ff700000000 if guest.build >= 9600 else 0x7fe00000000
    regions = [
        {"start": 0x10000, "end": 0x20000, "protection": 4},
        {"start": 0x20000, "end": 0x21000, "protection": 1, "private": False},
        {"start": 0x30000, "end": 0x130000, "protection": 0x14},
        {"start": 0x200000, "end": 0x201000, "protection": 0x18},
        {"start": 0x210000, "end": 0x220000, "protection": 6},
        {"start": 0x230000, "end": 0x231000, "protection": 0xc},
        {"start": 0x240000, "end": 0x241000, "protection": 0x1c},
        {"start": 0x250000, "end": 0x252000, "protection": 2},
        {"start": 0x400000, "end": 0x4b0000, "protection": 7, "private": False, "image": True,
         "file": "\\WINDOWS\\explorer.exe"},
        {"start": 0x500000, "end": 0x510000, "protection": 5, "private": False,
         "file": "\\Users\\J\u00f6rg\\\u6587\u66f8.dat"},
        {"start": high, "end": high + 0x190000, "protection": 7, "private": False, "image": True,
         "file": "\\WINDOWS\\System32\\ntdll.dll"},
    ]
    explorer = processes.create(
        guest, "explorer.exe", 0x5dc, 0x1a0, created=60, session=1, integrity=0x2000,
        sid=(5, 21, 1111111111, 2222222222, 3333333333, 1001), threads=4, vads=regions,
        path=processes.VOLUME + "\\WINDOWS\\explorer.exe",
        command="C:\\WINDOWS\\Explorer.EXE /n \"\u00dcber \U0001f427\"",
        environment=["=C:=C:\\Users", "PATH=C:\\WINDOWS;C:\\caf\u00e9", "X="],
        modules=[("explorer.exe", "C:\\WINDOWS\\explorer.exe", 0x400000, 0xb0000),
                 ("ntdll.dll", "C:\\WINDOWS\\System32\\ntdll.dll", high, 0x190000)])
    processes.create(guest, "broken.exe", 0x5e8 + 24, 0x5dc, created=61, session=1,
                     command=b"a\0\x00\xd8b\0\x00\xdc\x3d\xd8\x27\xdcz\0")
    if guest.wide:
        processes.create(guest, "wow.exe", 0x700, 0x5dc, created=70, session=1, integrity=0x1000,
                         wow64=True, command="wow", vads=[
                             {"start": 0x10000, "end": 0x20000, "protection": 4}],
                         modules=[("wow.exe", "C:\\wow.exe", 0x400000, 0x1000),
                                  ("wow64.dll", "C:\\Windows\\System32\\wow64.dll",
                                   0x7ff600000000, 0x50000)])
    last = processes.create(guest, "last.exe", 0x800, 0x5dc, created=80, session=1, command="")
    objects.handles(guest, explorer, last)


class Case(unittest.TestCase):
    maxDiff = None

    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        folder = pathlib.Path(KEEP[0] if KEEP else cls.folder.name)
        folder.mkdir(exist_ok=True)
        cls.guest = guests.Guest(NAME, folder, KPTI, KNOWN, UNKNOWN)
        populate(cls.guest)
        cls.sim = "sim:%s" % cls.guest.save(folder)
        cls.raw = str(folder / "memory.raw")
        cls.truth = [record["truth"] for record in cls.guest.processes]

    @classmethod
    def tearDownClass(cls):
        cls.folder.cleanup()

    def run_tool(self, name, *arguments, code=0):
        done = subprocess.run([TOOLS / ("hvmi-" + name), *map(str, arguments), "--json"],
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=120,
                              check=False)
        self.assertEqual(done.returncode, code, (name, arguments, done.stderr))
        # Tools print a backslash of the guest as two.
        return json.loads(done.stdout.replace(b"\\\\\\\\", b"\\\\"))

    def each(self, name, *arguments, code=0):
        for target in (self.sim, self.raw):
            yield self.run_tool(name, target, *arguments, code=code)

    def compare(self, told, truth, *keys):
        """What was put in is told, in this order."""
        self.assertEqual([{key: one[key] for key in keys} for one in told],
                         [{key: one[key] for key in keys} for one in truth])


@unittest.skipIf(UNKNOWN, "little is told of an unknown build")
class Guest(Case):
    def test_recognition(self):
        truth = self.guest.truth
        for info in self.each("info"):
            facts = {fact["name"]: fact for fact in info["facts"]}
            self.assertEqual((info["os"], info["release"], info["kernel"], info["kernel_gpa"],
                              info["kernel_len"]),
                             ("windows", truth["release"], truth["base"], truth["base_gpa"],
                              truth["size"]))
            self.assertEqual(info["levels"], {"x86": 2, "pae": 3, "4level": 4}[self.guest.mode])
            self.assertEqual(info["root"], self.truth[0]["root"])
            self.assertEqual(facts["pdb"]["value"], truth["pdb"])
            self.assertIn(truth["lab"], info["banner"])
            self.assertEqual(facts["system"]["value"], self.truth[0]["object"])
            self.assertEqual(facts["processes"]["value"],
                             hex(self.guest.symbol("PsActiveProcessHead")))
            self.assertNotIn("positions", facts)
        kpti = self.run_tool("info", self.sim)["facts"]
        kpti = [fact["value"] for fact in kpti if fact["name"] == "kpti"]
        self.assertEqual(kpti, ["on" if KPTI else "off"] if self.guest.wide else [])

    def test_processes(self):
        for told in self.each("ps"):
            self.compare(told, self.truth, "pid", "ppid", "comm", "object", "root", "session",
                         "created_ns", "start_ns", "exited", "exited_ns", "exit_status",
                         "protection", "integrity", "is_32bit", "path", "threads",
                         "kernel_thread")

    def test_threads(self):
        threads = [thread for one in self.truth for thread in one["thread_list"]]
        for told in self.each("ps", "--threads"):
            self.compare(told, threads, "pid", "tgid", "object", "process", "state", "entry",
                         "created_ns", "stack_start", "stack_end", "user_block")
        self.assertEqual(self.run_tool("ps", self.sim, "--running")[0]["pid"],
                         self.truth[-1]["pid"])

    def test_arguments(self):
        for told in self.each("ps", "--arguments", "--environment", code=1):
            for one, truth in zip(told, self.truth):
                if truth["comm"] in ("gone.exe", "System", "Registry"):
                    self.assertEqual(one["arguments"], [], one)
                    continue
                arguments = truth["arguments"]
                self.assertEqual(one["arguments"], arguments, one)
                if "environment" in truth:
                    self.assertEqual(one["environment"], truth["environment"])

    def test_modules(self):
        for told in self.each("modules"):
            self.compare(told, self.guest.modules, "name", "path", "base", "size", "object")

    def test_process_modules(self):
        for truth in self.truth:
            if truth["comm"] in ("gone.exe", "paged.exe", "System", "Registry"):
                self.run_tool("modules", self.sim, "--pid", truth["pid"],
                              code=0 if truth["kernel_thread"] else 1)
                continue
            for told in self.each("modules", "--pid", truth["pid"]):
                self.compare(told, truth["modules"], "name", "path", "base", "size", "entry",
                             "is_32bit")

    def test_regions(self):
        for truth in self.truth:
            for told in self.each("maps", truth["pid"]):
                self.compare(told, truth["regions"], "start", "end", "prot", "protection",
                             "private", "image", "shared", "guard", "object", "path")

    def test_hostile(self):
        """Whatever is rewritten in its memory, the library ends soon and with a sentence."""
        program = TOOLS.parent / "tests" / "guests" / "hostile"
        done = subprocess.run([program, self.raw, "40", "6", "1"], stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, timeout=300, check=False)
        self.assertEqual(done.returncode, 0, done.stdout)

    def test_handles(self):
        for truth in self.truth:
            for told in self.each("handles", truth["pid"]):
                self.compare(told, truth.get("handles", []), "handle", "object", "access", "type",
                             "name")

    def test_drivers(self):
        truth = sorted(self.guest.truth["drivers"], key=lambda driver: driver["object"])
        for told in self.each("drivers", "--devices"):
            self.compare(sorted(told, key=lambda driver: driver["object"]), truth, "name",
                         "service", "start", "size", "module", "object", "unload", "dispatch",
                         "devices")

    @unittest.skipUnless(KNOWN, "these need symbols that are not exported")
    def test_symbols(self):
        truth = self.guest.truth
        for told in self.each("callbacks"):
            self.compare(told, truth["callbacks"], "kind", "function", "context", "object",
                         "detail", "module")
        for told in self.each("drivers", "--unloaded"):
            self.compare(told, truth["unloaded"], "name", "start", "end", "time_ns")
        for told in self.each("callbacks", "--services", code=1):
            self.compare(told, truth["services"], "number", "function", "arguments")

    @unittest.skipUnless(KNOWN, "hives need a symbol that is not exported")
    def test_registry(self):
        truth = self.guest.truth["hive"]
        for told in self.each("registry"):
            self.compare(told[:1], [truth], "path", "mount", "object")
            self.assertEqual(len(told), 2)
        for root, in self.each("registry", "system"):
            self.assertEqual([key["name"] for key in root["keys"]], truth["root"])
            self.assertEqual([key["written_ns"] for key in root["keys"]],
                             [truth["written_ns"]] * 4)
        for key, in self.each("registry", "SYSTEM", "SELECT"):
            self.assertEqual(key["values"], truth["values"])
        for key, in self.each("registry", truth["object"], "\\many\\"):
            self.assertEqual([sub["name"] for sub in key["keys"]], truth["many"])
        self.run_tool("registry", self.sim, "SYSTEM", "None", code=1)
        self.run_tool("registry", self.sim, "SAM", code=1)


@unittest.skipUnless(UNKNOWN, "of an unknown build")
class Unknown(Case):
    """Less is told, and nothing that is wrong."""

    def test_processes(self):
        for told in self.each("ps"):
            self.compare(told, self.truth, "pid", "comm", "object", "root")
            for process in told:
                for key, value in process.items():
                    if key not in ("pid", "tgid", "comm", "object", "root", "process"):
                        self.assertFalse(value, (key, value))

    def test_modules(self):
        for told in self.each("modules"):
            self.compare(told, self.guest.modules, "name", "path", "base", "size", "object")

    def test_refused(self):
        for name, arguments in (("ps", ["--threads"]), ("maps", [0x5dc]),
                                ("modules", ["--pid", 0x5dc])):
            self.assertEqual(self.run_tool(name, self.sim, *arguments, code=1), [])

    def test_facts(self):
        for info in self.each("info"):
            facts = {fact["name"]: fact for fact in info["facts"]}
            self.assertEqual(info["release"], self.guest.truth["release"])
            self.assertEqual(facts["positions"]["confidence"], "low")


if __name__ == "__main__":
    if not all(map(shutil.which, ("clang", "lld-link"))):
        print("clang or lld is missing: guests cannot be built")
        sys.exit(77)
    unittest.main(argv=sys.argv[:1])
