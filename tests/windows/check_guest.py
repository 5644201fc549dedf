#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What the tools say of a guest that was built: check_guest.py TOOLS GUEST [OPTION...].

Everything that the builder put in must be told, and nothing else.
"""

import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import unittest

import dumps
import guest as guests
import processes
import system

TOOLS, NAME = pathlib.Path(sys.argv[1]), sys.argv[2]
KPTI, KNOWN, UNKNOWN = ("--" + option in sys.argv for option in ("kpti", "known", "unknown"))
DUMP, = [a[7:] for a in sys.argv if a.startswith("--dump=")]
ARM64 = "arm64" in NAME
KEEP = [a[7:] for a in sys.argv if a.startswith("--keep=")]


class Case(unittest.TestCase):
    maxDiff = None

    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        folder = pathlib.Path(KEEP[0] if KEEP else cls.folder.name)
        folder.mkdir(exist_ok=True)
        cls.guest = guests.Guest(NAME, folder, KPTI, KNOWN, UNKNOWN)
        system.populate(cls.guest)
        cls.sim = "sim:%s" % cls.guest.save(folder)
        cls.raw = str(folder / "memory.raw")
        cls.dump = str(folder / "memory.dmp")
        cls.elsewhere = folder
        dumps.crash(cls.guest, cls.dump, dumps.BITMAP if cls.guest.wide else dumps.FULL)
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

    def run_tool_refused(self, name, *arguments):
        done = subprocess.run([TOOLS / ("hvmi-" + name), *map(str, arguments)], timeout=120,
                              stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, check=False)
        self.assertEqual(done.returncode, 4, done.stderr)
        self.assertIn(b"malformed", done.stderr)

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
            source = facts["types"]["source"]
            if self.guest.versioned:
                self.assertEqual(source, "built in, of %s, this very release" % self.guest.release)
            else:
                self.assertRegex(source, r"of %s\.\d+, the same build" % truth["release"])
        # Without registers it shows in processes if it is on.
        told_off = ["off"] if self.guest.wide else []
        for target, off in ((self.sim, told_off), (self.raw, []), (self.dump, told_off)):
            kpti = [fact["value"] for fact in self.run_tool("info", target)["facts"]
                    if fact["name"] == "kpti"]
            self.assertEqual(kpti, ["on"] if KPTI else off, target)

    @unittest.skipIf(KNOWN, "its PDB is not there")
    def test_pdb(self):
        """A PDB without the kernel's structures gives its symbols; structures are still known."""
        pdb = self.elsewhere / "ntkrnlmp.pdb"
        name, key = self.guest.truth["pdb"].split()
        store = self.elsewhere / "store" / name / key
        store.mkdir(parents=True)
        shutil.copy(pdb, store / name)
        for option, value in (("--profile", pdb), ("--symbol-path", store.parents[1])):
            info = self.run_tool("info", self.raw, option, value)
            facts = {fact["name"]: fact for fact in info["facts"]}
            self.assertIn("has the kernel's PDB id", facts["symbols"]["source"])
            self.assertIn("built in", facts["types"]["source"])
            told = self.run_tool("ps", self.raw, option, value)
            self.compare(told, self.truth, "pid", "ppid", "comm", "object", "path", "threads")
        cut = self.elsewhere / "cut.pdb"
        cut.write_bytes(pdb.read_bytes()[:30000])
        shutil.copy(cut, store / name)
        self.run_tool_refused("info", self.raw, "--profile", cut)
        # What is damaged on a path is passed over.
        self.compare(self.run_tool("ps", self.raw, "--symbol-path", store.parents[1]), self.truth,
                     "pid", "comm", "object")

    def test_processes(self):
        for told in self.each("ps"):
            self.compare(told, self.truth, "pid", "ppid", "comm", "object", "root", "session",
                         "created_ns", "start_ns", "exited", "exited_ns", "exit_status",
                         "protection", "integrity", "is_32bit", "path", "threads",
                         "kernel_thread")

    def test_debugger(self):
        """What runs since 8 has its debugger data encoded; a dump has it plain."""
        plain = self.guest.build < 9200
        for target, found in ((self.raw, plain), (self.dump, True)):
            facts = {fact["name"]: fact for fact in self.run_tool("info", target)["facts"]}
            self.assertEqual("debugger data" in facts, found, target)
            if found:
                self.assertEqual(facts["debugger data"]["value"],
                                 hex(self.guest.symbol("KdDebuggerDataBlock")))
                told = self.run_tool("drivers", target, "--unloaded")
                self.compare(told, self.guest.truth["unloaded"], "name", "start", "end", "time_ns")

    def test_crash_dump(self):
        info = self.run_tool("info", self.dump)
        facts = {fact["name"]: fact for fact in info["facts"]}
        self.assertIn("that the dump's header tells", facts["kernel"]["source"])
        self.assertEqual((info["kernel"], info["root"], info["release"]),
                         (self.guest.truth["base"], self.truth[0]["root"],
                          self.guest.truth["release"]))
        self.assertIn("PsActiveProcessHead; System", facts["processes"]["source"])
        told = self.run_tool("ps", self.dump)
        self.compare(told, self.truth, "pid", "ppid", "comm", "object", "root", "path")
        for kind, options in (("process", ()), ("thread", ("--threads",))):
            told = self.run_tool("ps", self.dump, "--running", *options)
            self.assertEqual([row["object"] for row in told],
                             [processor[kind] for processor in self.guest.frozen])

    def test_processors(self):
        """A dump's registers of each processor, of which its header has those of one."""
        told = {}
        for vcpu, name, value in self.rows(self.dump)["register"]:
            told.setdefault(int(vcpu), {})[name] = int(value, 0)
        self.assertEqual(sorted(told), list(range(guests.PROCESSORS)))
        for vcpu, processor in enumerate(self.guest.frozen):
            for name, value in processor.items():
                if name not in ("thread", "process"):
                    self.assertEqual(told[vcpu].get(name), value, (vcpu, name))

    def test_vmware(self):
        state = dumps.vmware(self.guest, self.elsewhere)
        info = self.run_tool("info", state)
        facts = {fact["name"]: fact for fact in info["facts"]}
        self.assertEqual((info["format"], info["kernel"], info["root"]),
                         ("VMware state and memory", self.guest.truth["base"],
                          self.truth[0]["root"]))
        if not KPTI:
            self.assertIn("entry points of vCPU 0", facts["kernel"]["source"])
        self.compare(self.run_tool("ps", state), self.truth, "pid", "comm", "object")

    def rows(self, target):
        done = subprocess.run([DUMP, target], stdout=subprocess.PIPE, timeout=120, check=True)
        rows = {}
        for line in done.stdout.decode().splitlines():
            kind, *row = line.split("\t")
            rows.setdefault(kind, []).append(row)
        return rows

    def test_occupants(self):
        """Threads that wait or are ready return into the kernel; the vCPU is in it."""
        rows = self.rows(self.dump)
        # The vCPUs' stack pointers are above what is on their threads' stacks.
        current = [processor["thread"] for processor in self.guest.frozen]
        expected = [["2", str(t["tgid"]), str(t["pid"]), t["returns_from"]] for one in self.truth
                    for i, t in enumerate(one["thread_list"])
                    if i % 4 in (0, 2) and t["object"] not in current]
        self.assertEqual([row[:3] + row[4:] for row in rows["occupant"] if row[0] == "2"], expected)
        self.assertEqual([row[0] for row in rows["occupant"] if row[0] != "2"],
                         ["1"] * guests.PROCESSORS)
        self.assertIn(["occupant", ""], rows["end"])
        # Nothing tells where vCPUs are in memory alone.
        self.assertIn(["occupant", "ENOTSUP"], self.rows(self.raw)["end"])

    def test_tokens(self):
        for target in (self.sim, self.raw):
            rows = self.rows(target)
            self.assertEqual(rows["token"], [
                [str(one["pid"]), one["sid"], one["integrity"] or "0x0", str(one["session"]),
                 hex(processes.PRESENT), hex(processes.ENABLED)] for one in self.truth])
            self.assertIn(["token", ""], rows["end"])

    def test_objects(self):
        for target in (self.sim, self.raw):
            rows = self.rows(target)
            for path, directory in (("\\", "\\"), ("\\Device", "Device"),
                                    ("\\objecttypes", "ObjectTypes")):
                self.assertEqual(sorted(row[1:] for row in rows["object"] if row[0] == path),
                                 sorted(self.guest.directory_truth[directory]))
                self.assertIn([path, ""], rows["end"])
            self.assertIn(["\\None", "ENOENT"], rows["end"])

    def test_descriptors(self):
        """IDT and GDT, up to their limits."""
        rows = self.rows(self.sim)
        names = ("limit", "selector", "type", "dpl", "present", "ist")
        for kind, truth in (("gate", "gates"), ("segment", "segments")):
            told = [[int(field, 0) for field in row] for row in rows[kind]]
            self.assertEqual(told, [[i, one["base"], *(one[name] for name in names)]
                                    for i, one in enumerate(self.guest.truth[truth])])
            self.assertIn([kind, "ENOENT"], rows["end"])
        self.assertIn(["gate", "ENOTSUP"], self.rows(self.raw)["end"])

    def test_session_services(self):
        for target in (self.sim, self.raw):
            rows = self.rows(target)
            self.assertEqual(rows["service"], self.guest.truth["session_services"])
            self.assertIn(["service", "ENOENT"], rows["end"])

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

    def test_symbols(self):
        truth = self.guest.truth
        for told in self.each("callbacks"):
            self.compare(told, truth["callbacks"], "kind", "function", "context", "object",
                         "detail", "module")
        for told in self.each("drivers", "--unloaded"):
            self.compare(told, truth["unloaded"], "name", "start", "end", "time_ns")
        for told in self.each("callbacks", "--services"):
            self.compare(told[:len(truth["services"])], truth["services"], "number", "function",
                         "arguments")
            self.assertEqual([one["number"] for one in told[len(truth["services"]):]],
                             [row[0] for row in truth["session_services"]])

    def test_registry(self):
        truth = self.guest.truth["hive"]
        for told in self.each("registry"):
            self.compare(told[:1], [truth], "path", "mount", "object")
            self.assertEqual(len(told), 2)
        for root, in self.each("registry", "system"):
            self.assertEqual([key["name"] for key in root["keys"]], truth["root"])
            self.assertEqual([key["written_ns"] for key in root["keys"]],
                             [truth["written_ns"]] * 5)
        for key, in self.each("registry", "SYSTEM", "SELECT"):
            self.assertEqual(key["values"], truth["values"])
        for key, in self.each("registry", truth["object"], "\\many\\"):
            self.assertEqual([sub["name"] for sub in key["keys"]], truth["many"])
        for key, in self.each("registry", "SYSTEM", "Odd"):
            self.assertEqual([sub["name"] for sub in key["keys"]], truth["odd"])
        # Such a name can be given, too.
        for name in b"A\xed\xa0\x80", b"A\xc0\x80":
            self.run_tool("registry", self.sim, "SYSTEM", os.fsdecode(b"Odd\\" + name))
        self.run_tool("registry", self.sim, "SYSTEM", os.fsdecode(b"Odd\\A\xed\xbf\xbf"), code=1)
        self.run_tool("registry", self.sim, "SYSTEM", "None", code=1)
        self.run_tool("registry", self.sim, "SAM", code=1)


@unittest.skipUnless(UNKNOWN, "of an unknown build")
class Unknown(Case):
    """Less is told, and nothing that is wrong."""

    def each(self, name, *arguments, code=0):
        """A machine of arm64 comes as a crash dump only."""
        if ARM64:
            yield self.run_tool(name, self.dump, *arguments, code=code)
        else:
            yield from super().each(name, *arguments, code=code)

    @unittest.skipUnless(ARM64, "of arm64")
    def test_arm64(self):
        truth = self.guest.truth
        for info in self.each("info"):
            facts = {fact["name"]: fact for fact in info["facts"]}
            self.assertEqual((info["os"], info["arch"], info["levels"], info["kernel"],
                              info["kernel_gpa"], info["root"], info["format"]),
                             ("windows", "arm64", 4, truth["base"], truth["base_gpa"],
                              self.truth[0]["root"], "Windows crash dump (bitmap, arm64)"))
            self.assertEqual(facts["pdb"]["value"], truth["pdb"])
            self.assertIn(truth["lab"], info["banner"])
            self.assertEqual(facts["processes"]["value"],
                             hex(self.guest.symbol("PsActiveProcessHead")))

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
            for told in self.each(name, *arguments, code=1):
                self.assertEqual(told, [])

    def test_facts(self):
        for info in self.each("info"):
            facts = {fact["name"]: fact for fact in info["facts"]}
            self.assertEqual(info["release"], self.guest.truth["release"])
            self.assertEqual(facts["positions"]["confidence"], "low")


if __name__ == "__main__":
    if not all(map(shutil.which, ("clang", "lld-link", "llvm-rc"))):
        print("clang, lld or llvm is missing: guests cannot be built")
        sys.exit(77)
    unittest.main(argv=sys.argv[:1])
