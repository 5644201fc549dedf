#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The command line of the hvmi-* tools: usage, exit codes, JSON, and what needs no real guest."""

import json
import os
import pathlib
import pty
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import unittest

TOOLS, MAN = (pathlib.Path(argument).resolve() for argument in sys.argv[1:3])
# What stands behind the target.
OPERANDS = {
    "info": [], "list": [], "maps": ["1"], "modules": [], "ps": [], "read": ["0", "16"],
    "callbacks": [], "disas": ["init_task"], "drivers": [], "handles": ["1"], "registry": ["SYSTEM", "Select"],
    "break": ["schedule"], "trace": [], "watch": ["jiffies_64", "8"],
    "recover": [], "struct": ["task_struct"], "symbol": ["init_task"], "translate": ["init_task"],
}
OPTIONAL = {"registry"}     # tools whose operands may be left out
OK, PARTIAL, USAGE, TARGET, OS, INTERNAL = range(6)


def run(name, *arguments, **options):
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "timeout": 60, **options}
    return subprocess.run([TOOLS / ("hvmi-" + name), *map(str, arguments)], check=False, **options)


class Case(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()

    @classmethod
    def tearDownClass(cls):
        cls.folder.cleanup()

    def file(self, name, data=b""):
        path = pathlib.Path(self.folder.name, name)
        path.write_bytes(data)
        return path

    def sim(self, *lines):
        return "sim:%s" % self.file("script", "\n".join(lines).encode())

    def fails(self, code, name, *arguments, **options):
        """It ends with `code` and one line of the tool's on stderr; returns that line."""
        done = run(name, *arguments, **options)
        lines = done.stderr.decode().splitlines()
        self.assertEqual((done.returncode, len(lines)), (code, 1), (name, arguments, lines))
        self.assertTrue(lines[0].startswith("hvmi-%s: " % name), lines)
        if code in (USAGE, TARGET):
            self.assertEqual(done.stdout or b"", b"")
        self.stdout = done.stdout
        return lines[0]

    def succeeds(self, name, *arguments):
        done = run(name, *arguments)
        self.assertEqual((done.returncode, done.stderr), (OK, b""), (name, arguments))
        return done.stdout

    def json(self, name, *arguments):
        return json.loads(self.succeeds(name, *arguments, "--json"))


class Usage(Case):
    def test_help(self):
        for name in OPERANDS:
            for option in ("--help", "-h"):
                text = self.succeeds(name, option).decode()
                self.assertTrue(text.startswith("Usage: hvmi-%s %s" % (name, "WHERE" if name == "list" else "TARGET")),
                                text)
                self.assertIn("Exit status", text)
                self.assertLessEqual(max(map(len, text.splitlines())), 90)
            # Help is had whatever else is there.
            self.assertEqual(self.succeeds(name, "/nonexistent", "--help").decode(), text)

    def test_version(self):
        for name in OPERANDS:
            self.assertRegex(self.succeeds(name, "--version").decode(),
                             r"\Ahvmi-%s \d+\.\d+\.\d+\n\Z" % name)

    def test_operands(self):
        for name, operands in OPERANDS.items():
            self.fails(USAGE, name)
            self.fails(USAGE, name, "/nonexistent", *operands, "x", "x")
            for count in range(0 if name in OPTIONAL else len(operands)):
                self.fails(USAGE, name, "/nonexistent", *operands[:count])

    def test_options(self):
        for name, operands in OPERANDS.items():
            self.fails(USAGE, name, "/nonexistent", *operands, "--nonsense")
            self.fails(USAGE, name, "--json=x", "/nonexistent", *operands)
            # In any place; after -- there are none.
            self.fails(TARGET, name, "--json", "/nonexistent", *operands)
            self.fails(TARGET, name, "/nonexistent", "--verbose", *operands, "--json")
            line = self.fails(TARGET, name, "--", "--json", *operands)
            self.assertIn("--json", line)

    def test_values(self):
        for arguments in (("ps", "x", "--pid"), ("ps", "x", "--pid", "one"), ("ps", "x", "--watch", "0"),
                          ("ps", "x", "--watch", "1", "--tree"),
                          ("ps", "x", "--pid", "0x80000000"), ("maps", "x", "one"),
                          ("read", "x", "0", "many"), ("read", "x", "0", "99999999999999999999"),
                          ("read", "x", "0", "1", "--raw", "--string"),
                          ("read", "x", "0", "1", "--raw", "--json"),
                          ("read", "x", "0", "2M", "--string"),
                          ("read", "x", "0", "0", "--string"),
                          ("translate", "x", "0", "--levels", "4"),
                          ("translate", "x", "0", "--root", "0", "--pid", "1"),
                          ("translate", "x", "0", "--root", "0", "--levels", "6"),
                          ("translate", "x", "0", "--root", "0", "--levels", "1"),
                          ("translate", "x", "0", "--root", "here"),
                          ("recover", "x", "--wait", "long"),
                          ("disas", "x", "0", "--mode", "8"), ("disas", "x", "0", "--count", "1048577"),
                          ("trace", "x", "--call", "nonsense"), ("trace", "x", "--pid", "one"),
                          ("watch", "x", "0", "8", "--access", "rq"), ("watch", "x", "0", "1G"),
                          ("break", "x", "0", "--stack", "513"),
                          ("translate", "x", "0", "--all", "--root", "0")):
            self.fails(USAGE, *arguments)

    def test_places(self):
        image = self.file("image", bytes(4096))
        for place in ("", "x", "gpa:", "gpa:x", "kernel:", "12x:0", "x:0", ":0", "99999999999:0",
                      "gpa:linux_banner", "0x", "12z", "kernel:+1"):
            self.fails(USAGE, "read", image, place, "1")

    def test_manual(self):
        for name in OPERANDS:
            page = (MAN / ("hvmi-%s.1" % name)).read_text()
            documented = set(re.findall(r"\bFl \\?-([a-z]+)", page))
            options = set(re.findall(r"--([a-z]+)", self.succeeds(name, "--help").decode()))
            self.assertEqual(options - documented, set(), name)
            self.assertEqual(documented - options, set(), name)
            self.assertIn(".Sh EXAMPLES", page)

    @unittest.skipUnless(shutil.which("mandoc"), "mandoc is missing")
    def test_manual_lint(self):
        pages = sorted(MAN.glob("hvmi-*.1")) + [MAN / "libhvmi.3"]
        done = subprocess.run(["mandoc", "-T", "lint", "-W", "warning", *pages],
                              stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False)
        self.assertEqual(done.stdout.decode(), "")
        self.assertGreater(len(pages), len(OPERANDS))


class Targets(Case):
    def test_unopenable(self):
        self.file("plain")
        elf = b"\x7fELF\x02\x01\x01" + bytes(57)
        for target in ("/nonexistent", self.folder.name, "/dev/null", "", "dump:", "nonsense:x",
                       "sim:/nonexistent", self.file("empty"), self.file("text", b"Hello\n" * 999),
                       self.file("cut.elf", elf), self.file("cut.kdump", b"KDUMP   " + bytes(99)),
                       "%s,nonsense=1" % self.file("zeros", bytes(4096)),
                       "%s/plain/x" % self.folder.name, self.sim("nonsense")):
            for name, operands in OPERANDS.items():
                self.fails(TARGET, name, target, *operands)
                self.fails(TARGET, name, target, *operands, "--json")

    def test_no_list(self):
        for where in ("dump", "sim", "sim:x"):
            self.assertIn("which machines there are", self.fails(TARGET, "list", where))
        for where in ("", "/", ":", "Xen", "no-such-scheme", "a" * 100):
            self.fails(TARGET, "list", where)

    @unittest.skipIf(os.geteuid() == 0, "root may read everything")
    def test_unreadable(self):
        path = self.file("secret", bytes(4096))
        path.chmod(0)
        self.fails(TARGET, "ps", path)

    def test_no_system(self):
        for target in (self.file("zeros", bytes(1 << 20)), self.file("random", random.Random(1).randbytes(1 << 20)),
                       self.file("odd", bytes(4097)),
                       self.sim("ram 0 1M", "ram 0x100000000 4K", "vcpu 0 cr3 0")):
            for name, operands in OPERANDS.items():
                if name in ("list", "recover"):
                    continue
                if name == "read":
                    operands = ["kernel:linux_banner", "1"]
                self.fails(OS, name, target, *operands)
                if name != "info":
                    self.assertEqual(self.stdout, b"")

    def test_info_without_system(self):
        target = self.sim("ram 0x1000 8K", "ram 0x100000000 4K", "vcpu 0 cr3 0")
        self.fails(OS, "info", target)
        self.assertIn(b"12 KiB in 2 ranges", self.stdout)
        self.fails(OS, "info", target, "--json")
        info = json.loads(self.stdout)
        self.assertIsNone(info["os"])
        self.assertEqual(info["ranges"], [{"gpa": "0x1000", "len": 8192},
                                          {"gpa": "0x100000000", "len": 4096}])
        self.assertEqual((info["ram"], info["vcpus"], info["scheme"], info["facts"]),
                         (12288, 1, "sim", []))


class Output(Case):
    def test_no_room(self):
        image = self.file("image", bytes(65536))
        for name, operands in OPERANDS.items():
            for option in ("--help", "--version"):
                with open("/dev/full", "wb") as full:
                    self.fails(INTERNAL, name, image, *operands, option, stdout=full)
        for option in ((), ("--raw",), ("--json",), ("--string",)):
            with open("/dev/full", "wb") as full:
                self.fails(INTERNAL, "read", image, "0", "64K", *option, stdout=full)

    def test_closed(self):
        done = subprocess.run(["sh", "-c", '"$0" --help >&-', TOOLS / "hvmi-ps"],
                              stderr=subprocess.PIPE, check=False)
        self.assertEqual(done.returncode, INTERNAL)
        self.assertEqual(done.stderr.count(b"\n"), 1)

    def test_reader_leaves(self):
        image = self.file("image", bytes(1 << 20))
        child = subprocess.Popen([TOOLS / "hvmi-read", image, "0", "1M"], stdout=subprocess.PIPE,
                                 stderr=subprocess.PIPE)
        child.stdout.read(16)
        child.stdout.close()
        self.assertEqual(child.stderr.read(), b"")
        child.stderr.close()
        self.assertEqual(child.wait(60), -signal.SIGPIPE)

    def test_raw_to_a_terminal(self):
        image = self.file("image", bytes(4096))
        leader, follower = pty.openpty()
        try:
            self.fails(USAGE, "read", image, "0", "16", "--raw", stdout=follower)
        finally:
            os.close(leader)
            os.close(follower)

    def test_verbose(self):
        done = run("info", "--verbose", self.file("odd", bytes(4097)))
        self.assertEqual(done.returncode, OS)
        self.assertTrue(all(line.startswith("hvmi-info: ")
                            for line in done.stderr.decode().splitlines()))


class Read(Case):
    def setUp(self):
        self.data = bytes(range(256)) * 1024
        self.image = self.file("image", self.data)

    def test_raw(self):
        for place, length in (("0", "256K"), ("gpa:0x11", "70000"), ("0x3ffff", "1"), ("0", "0")):
            start = int(place.replace("gpa:", ""), 0)
            size = 1 << 18 if length == "256K" else int(length)
            self.assertEqual(self.succeeds("read", self.image, place, length, "--raw"),
                             self.data[start:start + size])

    def test_hex_dump(self):
        lines = self.succeeds("read", "--", self.image, "0x3a", "0x14").decode().splitlines()
        self.assertEqual(lines, [
            "000000000000003a "
            " 3a 3b 3c 3d 3e 3f 40 41  42 43 44 45 46 47 48 49  |:;<=>?@ABCDEFGHI|",
            "000000000000004a  4a 4b 4c 4d                                       |JKLM|"])

    def test_json(self):
        self.assertEqual(self.json("read", self.image, "0x10", "3"),
                         {"address": "0x10", "bytes": "101112", "read": 3})

    def test_partial(self):
        line = self.fails(PARTIAL, "read", self.image, "0x3fffe", "4")
        self.assertIn("2 of 4", line)
        self.assertIn("0x40000", line)
        self.assertEqual(self.stdout.decode(), "000000000003fffe  fe ff%s|..|\n" % (45 * " "))
        self.fails(PARTIAL, "read", self.image, "0x3fffe", "1T", "--raw")
        self.assertEqual(self.stdout, b"\xfe\xff")
        self.fails(PARTIAL, "read", self.image, "0x3fffe", "4", "--json")
        self.assertEqual(json.loads(self.stdout),
                         {"address": "0x3fffe", "bytes": "feff", "read": 2})
        self.fails(PARTIAL, "read", self.image, "0xffffffffffffffff", "0xffffffffffffffff")
        self.assertEqual(self.stdout, b"")

    def test_string(self):
        text = b"caf\xc3\xa9 \\ \x1b[31m\xff\xc2\x9b \xf0\x9f\x90\xa7\n"
        want = "café \\\\ \\x1b[31m\\xff\\xc2\\x9b \U0001f427\\x0a"
        image = self.file("string", text + bytes(4096 - len(text)))
        self.assertEqual(self.succeeds("read", image, "0", "--string").decode(), want + "\n")
        self.assertEqual(self.json("read", image, "0", "100", "--string"),
                         {"address": "0x0", "string": want, "read": len(text)})
        self.fails(PARTIAL, "read", image, "0", "3", "--string")
        self.assertEqual(self.stdout, b"caf\n")

    def test_string_without_end(self):
        image = self.file("string", bytes(4096) + b"x" * 904)
        line = self.fails(PARTIAL, "read", image, "4096", "--string")
        self.assertIn("0x1388", line)
        self.assertEqual(self.stdout, b"x" * 904 + b"\n")

    def test_every_character(self):
        """What escaping lets through, JSON takes."""
        points = [c for c in range(1, 0x110000, 7) if not 0xd800 <= c < 0xe000]
        text = "".join(map(chr, points)).encode()
        image = self.file("string", text + bytes(8192 - len(text) % 4096))
        for start in range(0, len(text), 1 << 20):
            done = run("read", image, start, "1M", "--string", "--json")
            self.assertIn(done.returncode, (OK, PARTIAL))
            json.loads(done.stdout)

    def test_failing_medium(self):
        target = self.sim("ram 0 64K", "nomap", "fail read 1 EIO 1000")
        self.fails(INTERNAL, "read", target, "0", "16")

    def test_absent_page(self):
        target = self.sim("ram 0 64K", "absent 0x2000 4K")
        line = self.fails(PARTIAL, "read", target, "0x1000", "64K", "--raw")
        self.assertIn("4096 of 65536", line)
        self.assertEqual(self.stdout, bytes(4096))


class Disassemble(Case):
    # push rbp; jmp 0x1001; (bad); call; the page ends in an instruction
    CODE = {0x1000: "55 eb fd", 0x1003: "06", 0x1004: "e8 00 01 00 00", 0x1ffc: "90 90 48 8b"}

    def setUp(self):
        self.target = self.sim("ram 0x1000 4K", *("bytes 0x%x %s" % item for item in self.CODE.items()))

    def test_text(self):
        lines = self.succeeds("disas", self.target, "gpa:0x1000", "--count", "4").decode().splitlines()
        self.assertEqual([re.split("  +", line) for line in lines], [
            ["0000000000001000", "55", "push rbp"],
            ["0000000000001001", "eb fd", "jmp 0x0000000000001000"],
            ["0000000000001003", "06", "(bad)"],
            ["0000000000001004", "e8 00 01 00 00", "call 0x0000000000001109"]])

    def test_json(self):
        first, second = self.json("disas", self.target, "gpa:0x1001", "--count", "2")
        self.assertEqual(first, {"address": "0x1001", "bytes": "eb fd", "text": "jmp 0x0000000000001000",
                                 "symbol": None, "target": "0x1000", "target_symbol": None})
        self.assertEqual((second["bytes"], second["text"]), ("06", None))

    def test_mode(self):
        for mode, text in (("16", "push es"), ("32", "push es")):
            entry = self.json("disas", self.target, "gpa:0x1003", "--count", "1", "--mode", mode)[0]
            self.assertEqual(entry["text"], text)

    def test_end(self):
        self.assertIn("0x1ffe", self.fails(PARTIAL, "disas", self.target, "gpa:0x1ffc"))
        self.assertEqual(len(self.stdout.splitlines()), 2)
        self.fails(PARTIAL, "disas", self.target, "gpa:0x5000", "--json")
        self.assertEqual(json.loads(self.stdout), [])


class Translate(Case):
    def setUp(self):
        present, user, large = 3, 4, 0x80
        self.target = self.sim(
            "ram 0 1M",
            # 5 levels at 0x6000, of which the lower 4 are those at 0x1000.
            "u64 0x6000 0x%x" % (0x1000 | present | user),
            "u64 0x1000 0x%x" % (0x2000 | present | user),
            "u64 0x2000 0x%x" % (0x3000 | present | user),
            "u64 0x3000 0x%x 0x%x" % (0x4000 | present | user, 0x200000 | large | present),
            "u64 0x4008 0x%x 0x%x" % (0x8000000000005000 | present | user, 0xa001),
            # 32-bit: 0x400000 is a large page.
            "u32 0x7000 0x%x 0x%x" % (0x8000 | present, 0x400000 | large | present),
            "u32 0x8000 0x%x" % (0x9000 | present))

    def translate(self, address, *options):
        return self.json("translate", self.target, address, *options)

    def test_page(self):
        walk = self.translate("0x1234", "--root", "0x1000")
        self.assertEqual(walk, {
            "gva": "0x1234", "gpa": "0x5234", "page_size": 4096, "rights": "rw-u",
            "fault": None, "fault_level": None,
            "entries": [{"level": 4, "gpa": "0x1000", "value": "0x2007"},
                        {"level": 3, "gpa": "0x2000", "value": "0x3007"},
                        {"level": 2, "gpa": "0x3000", "value": "0x4007"},
                        {"level": 1, "gpa": "0x4008", "value": "0x8000000000005007"}]})
        five = self.translate("0x1234", "--root", "0x6000", "--levels", "5")
        self.assertEqual([e["level"] for e in five["entries"]], [5, 4, 3, 2, 1])
        self.assertEqual(five["gpa"], "0x5234")
        text = self.succeeds("translate", self.target, "0x1234", "--root", "0x1000").decode()
        self.assertEqual(text.splitlines()[-1],
                         "gpa    0x0000000000005234, 4 KiB page, rw-u")
        self.assertEqual(len(text.splitlines()), 6)

    def test_large_page(self):
        walk = self.translate("0x200010", "--root=0x1000", "--levels=4")
        self.assertEqual((walk["gpa"], walk["page_size"], walk["rights"]),
                         ("0x200010", 2 << 20, "rwx-"))
        walk = self.translate("0x400010", "--root=0x7000", "--levels=2")
        self.assertEqual((walk["gpa"], walk["page_size"]), ("0x400010", 4 << 20))
        walk = self.translate("0x10", "--root=0x7000", "--levels=2")
        self.assertEqual((walk["gpa"], walk["page_size"]), ("0x9010", 4096))

    def test_fault(self):
        line = self.fails(PARTIAL, "translate", self.target, "0", "--root", "0x1000")
        self.assertIn("PTE", line)
        self.assertIn("0x4000", line)
        for address, fault, level in (("0", "not-present", 1), ("0x8000000000", "not-present", 4),
                                      ("0x800000000000", "non-canonical", None)):
            self.fails(PARTIAL, "translate", self.target, address, "--root", "0x1000", "--json")
            walk = json.loads(self.stdout)
            self.assertEqual((walk["fault"], walk["fault_level"], walk["gpa"], walk["rights"]),
                             (fault, level, None, None))
        self.fails(PARTIAL, "translate", self.target, "0", "--root", "0x100000", "--json")
        self.assertEqual(json.loads(self.stdout)["fault"], "no-memory")

    def test_all(self):
        runs = self.json("translate", self.target, "--all", "--root", "0x1000")
        self.assertEqual(runs, [
            {"gva": "0x1000", "gpa": "0x5000", "len": 4096, "rights": "rw-u"},
            {"gva": "0x2000", "gpa": "0xa000", "len": 4096, "rights": "r-x-"},
            {"gva": "0x200000", "gpa": "0x200000", "len": 2 << 20, "rights": "rwx-"}])
        lines = self.succeeds("translate", self.target, "--all", "--root", "0x1000").decode()
        self.assertEqual(lines.splitlines()[0],
                         "0000000000001000-0000000000001fff rw-u gpa 0x5000")
        self.assertEqual(self.json("translate", self.target, "--all", "--root", "0x50000"), [])

    def test_tables_without_end(self):
        """64 Gi entries, none of which maps anything."""
        target = self.sim("ram 0 64K", *("u64 0x%x%s" % (table, " 0x%x" % (table + 0x1003) * 512)
                                         for table in (0x1000, 0x2000, 0x3000)))
        self.fails(PARTIAL, "translate", target, "--all", "--root", "0x1000", "--json")
        self.assertEqual(json.loads(self.stdout), [])


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
