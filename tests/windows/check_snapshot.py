#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What the tools say of the snapshot of a real Windows 10 1809: check_snapshot.py TOOLS ARCHIVE."""

import json
import pathlib
import subprocess
import sys
import tempfile
import unittest

import snapshot

TOOLS, ARCHIVE = map(pathlib.Path, sys.argv[1:3])
FOLDER = tempfile.TemporaryDirectory()


def run(name, target, *arguments):
    done = subprocess.run([TOOLS / ("hvmi-" + name), target, *map(str, arguments)],
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=60, check=False)
    return done.returncode, done.stdout.decode(), done.stderr.decode()


def setUpModule():
    """Every class works on the same two machines."""
    global ANSWERS
    folder = pathlib.Path(FOLDER.name)
    pages, context, ANSWERS = snapshot.read(ARCHIVE)
    runs = snapshot.runs_of(pages)
    snapshot.sim(folder, runs, context)
    snapshot.elf(folder, runs, context)
    snapshot.crash(folder, runs, context)




class Snapshot(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        folder = pathlib.Path(FOLDER.name)
        cls.answers = ANSWERS
        cls.targets = ["sim:%s" % (folder / "machine.sim"), str(folder / "machine.elf")]

    def json(self, name, target, *arguments, code=0):
        returned, out, err = run(name, target, *arguments, "--json")
        self.assertEqual(returned, code, err)
        return json.loads(out)

    def test_recognition(self):
        answers = self.answers
        for target in self.targets:
            info = self.json("info", target)
            facts = {fact["name"]: fact for fact in info["facts"]}
            self.assertEqual(info["os"], "windows")
            self.assertEqual(info["release"], "10.0.%d" % answers["build"])
            self.assertEqual(info["kernel"], answers["nt_base"])
            self.assertEqual(info["kernel_len"], int(answers["nt_size"], 16))
            self.assertEqual(info["root"], hex(int(answers["process_dtb"], 16) & ~0xfff))
            name, key = answers["nt_pdb"].split()
            self.assertEqual(facts["pdb"]["value"], "%s %s" % (name, key.replace("-", "")))
            self.assertEqual(facts["modules"]["value"], answers["PsLoadedModuleList"])
            self.assertIn("rs5_release", info["banner"])
        self.assertEqual(self.json("info", self.targets[0])["facts"][-2]["value"], "on")

    def test_modules(self):
        self.assertEqual(len(self.answers["modules"]), 198)
        for target in self.targets:
            modules = [{"entry": m["object"], "base": m["base"], "size": hex(m["size"]),
                        "name": m["name"]} for m in self.json("modules", target)]
            self.assertEqual(modules, self.answers["modules"])

    def test_current(self):
        answers = self.answers
        for target in self.targets:
            process, = self.json("ps", target, "--running")
            self.assertEqual((process["comm"], process["pid"], process["object"]),
                             (answers["process_name"], answers["pid"],
                              answers["current_process"]))
            self.assertEqual(process["root"], hex(int(answers["process_dtb"], 16) & ~0xfff))
            thread, = self.json("ps", target, "--running", "--threads")
            self.assertEqual((thread["object"], thread["process"], thread["tgid"]),
                             (answers["current_thread"], answers["current_process"],
                              answers["pid"]))

    def test_translations(self):
        self.assertEqual(len(self.answers["translations"]), 11)
        for target in self.targets:
            for gva, gpa in self.answers["translations"]:
                self.assertEqual(self.json("translate", target, gva)["gpa"], gpa)

    def test_absent(self):
        """What is not in the snapshot is an error or unknown; what is there is told."""
        for target in self.targets:
            listed = self.json("ps", target, code=1)
            self.assertIn(self.answers["pid"], [process["pid"] for process in listed])
            for process in listed:
                self.assertTrue(process["comm"].endswith(".exe"), process)
                self.assertEqual(process["pid"] % 4, 0)
            self.json("ps", target, "--threads", code=1)
            self.json("ps", target, "--arguments", "--environment", code=1)
            self.assertEqual(self.json("maps", target, self.answers["pid"], code=1), [])
            self.json("modules", target, "--pid", self.answers["pid"], code=1)
            self.assertEqual(run("read", target, "kernel:0xfffff8051a0a0000", 16)[0], 1)
            self.assertEqual(run("maps", target, 4)[0], 1)


class Supplied(unittest.TestCase):
    """Profiles that the user gives."""

    isf = pathlib.Path(__file__).parents[2] / "data/windows/isf/8B11040A5928757B11390AC78F6B6925-1.json.xz"

    def setUp(self):
        self.target = pathlib.Path(FOLDER.name) / "machine.elf"

    def explain(self, *arguments):
        code, out, err = run("info", self.target, "--explain", "--json", *arguments)
        if code:
            return code, err
        return code, {fact["name"]: fact for fact in json.loads(out)["facts"]}

    def test_other_kernel(self):
        code, err = self.explain("--profile", self.isf)
        if "built without" in err:
            self.skipTest(err)
        self.assertEqual(code, 4)
        self.assertIn("is of another kernel", err)
        code, facts = self.explain("--profile", self.isf, "--force-profile")
        self.assertEqual(code, 0)
        self.assertIn("as forced", facts["types"]["source"])
        self.assertEqual(facts["symbols"]["value"], "34920 symbols")

    def test_symbol_path(self):
        code, facts = self.explain("--symbol-path", self.isf.parent)
        self.assertEqual(code, 0)
        self.assertIn("built in", facts["types"]["source"])

    def test_offsets(self):
        path = pathlib.Path(FOLDER.name) / "mine.offsets"
        path.write_text("symbol Mine 0x10\nmember _EPROCESS.Mine 0x20 u32\n")
        code, out, _ = run("symbol", self.target, "Mine", "--profile", path)
        self.assertEqual((code, out.split()[-1]), (0, "Mine"))
        path.write_text("symbol Mine\n")
        code, err = self.explain("--profile", path)
        self.assertEqual(code, 4)
        self.assertIn("line 1", err)


class CrashDump(unittest.TestCase):
    """The same memory as Windows itself would write it, with fewer registers."""

    def test_recognition(self):
        folder = pathlib.Path(FOLDER.name)
        infos = []
        for name in ("machine.elf", "machine.dmp"):
            code, out, err = run("info", folder / name, "--json")
            self.assertEqual(code, 0, err)
            infos.append(json.loads(out))
        for key in ("os", "release", "kernel", "kernel_gpa", "kernel_len", "ram"):
            self.assertEqual(infos[0][key], infos[1][key], key)
        self.assertEqual(infos[1]["format"], "Windows crash dump (bitmap, x64)")
        lists = [json.loads(run("modules", folder / name, "--json")[1])
                 for name in ("machine.elf", "machine.dmp")]
        self.assertEqual(lists[0], lists[1])
        self.assertGreater(len(lists[1]), 190)


class Images(unittest.TestCase):
    """The PE images of the kernel's modules, of which hardly a page is in the snapshot."""

    def test_modules(self):
        target = pathlib.Path(FOLDER.name) / "machine.elf"
        out = subprocess.run([sys.argv[3], target], stdout=subprocess.PIPE, timeout=60,
                             check=True).stdout.decode()
        rows = [line.split("\t") for line in out.splitlines()]
        known = {row[1]: row for row in rows if len(row) > 3}
        self.assertGreater(len(rows), 190)
        self.assertEqual(sorted(known), ["WdFilter.sys", "cng.sys", "hal.dll", "ntoskrnl.exe"])
        facts = json.loads(run("info", target, "--explain", "--json")[1])["facts"]
        key = next(fact["value"] for fact in facts if fact["name"] == "pdb").split()[-1]
        self.assertEqual(known["ntoskrnl.exe"][2], key)
        self.assertEqual(int(known["ntoskrnl.exe"][8]), 222)
        self.assertTrue(all(len(row[2]) >= 33 for row in known.values()))
        self.assertTrue(all(row[2] == "EFAULT" for row in rows if len(row) == 3))


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
