#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Compare what the tools see in a guest's images with what the guest said of itself."""

import argparse
import hashlib
import json
import mmap
import pathlib
import re
import subprocess
import sys
import tempfile
import urllib.parse

import guest as guests

LINKED_AT = 0xffffffff81000000      # where x86-64 kernels are linked: _text without KASLR
TICK_NS = 10_000_000                # USER_HZ is 100 on x86
MISMATCHES_SHOWN = 12
# A path's newline is \012 in /proc, which escapes nothing else; \x0a in what the tools print.
NEWLINE = re.compile(r"\\(x0a|.)")


def in_proc(escaped):
    return r"\\012" if escaped.group(1) == "x0a" else escaped.group()


def bytes_of(text):
    """Bytes that truth.json has as ASCII with %XX."""
    return urllib.parse.unquote_to_bytes(text)


def escape(data):
    """What hvmi_text_escape() makes of bytes."""
    out = []
    for c in data.decode("utf-8", "surrogateescape"):
        code = ord(c)
        if 0xdc80 <= code <= 0xdcff:
            out.append("\\x%02x" % (code - 0xdc00))
        elif code < 0x20 or 0x7f <= code < 0xa0:
            out.extend("\\x%02x" % b for b in c.encode())
        else:
            out.append("\\\\" if c == "\\" else c)
    return "".join(out)


class Checker:
    every = 1       # which of the processes are asked for one by one

    def __init__(self, tools, image, truth):
        self.tools, self.image, self.truth = tools, image, truth
        self.before, self.after = truth["before"], truth["after"]
        self.passed = self.failed = 0

    def run(self, tool, *arguments, status=0, raw=False):
        command = [self.tools / ("hvmi-" + tool), str(self.image), *map(str, arguments)]
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=300,
                              check=False)
        if done.returncode != status:
            raise AssertionError(f"{command} ended with {done.returncode}: {done.stderr.decode()}")
        return done.stdout if raw else done.stdout.decode()

    def json(self, tool, *arguments):
        return json.loads(self.run(tool, *arguments, "--json"))

    def test(self, name, function):
        wrong = []
        try:
            function(wrong)
        except (AssertionError, KeyError, ValueError, subprocess.TimeoutExpired) as problem:
            wrong.append(f"{type(problem).__name__}: {problem}")
        self.passed += not wrong
        self.failed += bool(wrong)
        print(f"{'not ok' if wrong else 'ok'} - {self.image.name}: {name}", flush=True)
        for line in wrong[:MISMATCHES_SHOWN]:
            print(f"    {line}")
        if len(wrong) > MISMATCHES_SHOWN:
            print(f"    and {len(wrong) - MISMATCHES_SHOWN} more")

    # What the guest said.

    def symbols(self):
        """Of the kernel proper: name, type and address, as often as they occur."""
        lines = (line.split() for line in self.truth["kallsyms"].splitlines())
        return [(int(f[0], 16), f[1], f[2]) for f in lines if len(f) == 3]

    def steady(self, key, name):
        """Of a list, what is the same before and after, and all that either has."""
        sides = [{x[name]: x for x in side[key]} for side in (self.before, self.after)]
        both = {k: v for k, v in sides[0].items() if sides[1].get(k) == v}
        return both, sides

    # The comparisons.

    def check_info(self, wrong):
        info = self.json("info")
        text = next(a for a, _, name in self.symbols() if name == "_text")
        levels = 5 if self.truth["machine"]["la57"] else 4
        for key, want in (("os", "linux"), ("release", self.truth["kernel"]["release"]),
                          ("arch", "x86"), ("levels", levels),
                          ("slide", hex(text - LINKED_AT)), ("kernel", hex(text)),
                          ("banner", self.truth["kernel"]["version"])):
            if info.get(key) != want:
                wrong.append(f"{key}: {info.get(key)!r}, not {want!r}")

    def check_btf(self, wrong):
        fact = next(f for f in self.json("info")["facts"] if f["name"] == "btf")
        blob = self.run("read", "gpa:" + fact["gpa"], fact["len"], "--raw", raw=True)
        want = self.truth["btf"]["vmlinux"]
        if hashlib.md5(blob).hexdigest() != want["md5"]:
            wrong.append(f"md5 of {len(blob)} bytes differs from the guest's {want['size']}")

    def check_symbols(self, wrong):
        got = [(int(s["address"], 16), s["kind"], s["name"])
               for s in self.json("symbol", "--all")]
        want = self.symbols()
        for what, one, other in (("missing", want, got), ("invented", got, want)):
            rest = set(one) - set(other)
            wrong.extend(f"{what}: {a:#x} {k} {n}" for a, k, n in sorted(rest))
        if len(got) != len(want):
            wrong.append(f"{len(got)} symbols, not {len(want)}")
        if len(want) < 1000:
            wrong.append(f"the guest gave no more than {len(want)} symbols")

    def check_symbol_lookup(self, wrong):
        for name in ("init_task", "schedule", "vfs_read", "linux_banner"):
            want = {a for a, _, n in self.symbols() if n == name}
            got = int(self.json("symbol", name)["address"], 16)
            if got not in want:
                wrong.append(f"{name} at {got:#x}")
            near = self.json("symbol", hex(got + 1))
            if int(near["address"], 16) != got or near["offset"] != 1:
                wrong.append(f"near {name}: {near}")

    def check_tasks(self, wrong, *arguments):
        """Every task, or every process: the same ones, each field the same."""
        threads = "--threads" in arguments
        got = {t["pid"]: t for t in self.json("ps", *arguments)}
        steady, sides = self.steady("tasks", "pid")
        for pid, t in steady.items():
            if not threads and pid != t["tgid"]:
                continue
            if pid not in got:
                wrong.append(f"{pid} ({t['comm']}) is missing")
                continue
            self.compare_task(wrong, got[pid], t)
        for pid in got.keys() - sides[0].keys() - sides[1].keys():
            wrong.append(f"{pid} ({got[pid]['comm']}) is invented")
        if not any(not t["kernel"] for t in steady.values()):
            wrong.append("the guest told of no process")

    def compare_task(self, wrong, got, want):
        fields = {
            "tgid": want["tgid"], "ppid": want["ppid"],
            "uid": want["uid"][0], "euid": want["uid"][1],
            "gid": want["gid"][0], "egid": want["gid"][1],
            "comm": escape(bytes_of(want["comm"])), "kernel_thread": want["kernel"],
            "threads": want["threads"], "state": want["state"],
        }
        if want.get("teller"):
            del fields["state"]     # it runs while it tells, and waits while it is looked at
        elif want["kernel"] and got["state"] in "RSDI":
            del fields["state"]     # it may do some work between the tellings
        for key, value in fields.items():
            if got[key] != value:
                wrong.append(f"{want['pid']} ({want['comm']}): {key} {got[key]!r}, not {value!r}")
        if got["start_ns"] // TICK_NS != want["starttime"]:
            wrong.append(f"{want['pid']}: started at {got['start_ns']} ns, "
                         f"not in tick {want['starttime']}")

    def check_modules(self, wrong):
        got = self.json("modules")
        want = [{"name": m["name"], "base": m["address"], "size": m["size"],
                 "state": m["state"].lower()} for m in self.before["modules"]]
        got = [{k: m[k] for k in ("name", "base", "size", "state")} for m in got]
        wrong.extend(f"missing: {m}" for m in want if m not in got)
        wrong.extend(f"invented: {m}" for m in got if m not in want)
        if len(want) < 5:
            wrong.append(f"the guest had no more than {len(want)} modules")

    def check_maps(self, wrong):
        steady, _ = self.steady("processes", "pid")
        regions = 0
        for pid, process in sorted(steady.items())[::self.every]:
            if self.teller(pid):
                continue
            want = [{"start": hex(int(m["start"], 16)), "end": hex(int(m["end"], 16)),
                     "prot": m["perms"][:3],
                     "shared": m["perms"][3] == "s", "offset": m["offset"],
                     "device": m["dev"], "inode": m["inode"],
                     "path": escape(bytes_of(m["path"]))}
                    for m in process["maps"]]
            got = [{k: m[k] for k in ("start", "end", "prot", "shared", "offset", "device", "inode",
                                      "path")} for m in self.json("maps", pid)]
            for m in got:
                m["path"] = NEWLINE.sub(in_proc, m["path"])
            regions += len(want)
            wrong.extend(f"{pid}: missing: {m}" for m in want if m not in got)
            wrong.extend(f"{pid}: invented: {m}" for m in got if m not in want)
        if regions < 1000 // self.every:
            wrong.append(f"the guest told of no more than {regions} regions")

    def teller(self, pid):
        return any(t["pid"] == pid and t.get("teller") for t in self.before["tasks"])

    def check_strings(self, wrong):
        got = {t["pid"]: t for t in self.json("ps", "--arguments", "--environment")}
        steady, _ = self.steady("processes", "pid")
        for pid, process in sorted(steady.items()):
            for key, field in (("arguments", "cmdline"), ("environment", "environ")):
                data = bytes_of(process[field])
                want = [escape(s) for s in (data[:-1] if data.endswith(b"\0") else data)
                        .split(b"\0")] if data else []
                if got[pid][key] != want:
                    wrong.append(f"{pid}: {key} {got[pid][key]!r}, not {want!r}")

    def check_translation(self, wrong):
        """The frame behind the first page of a region of every process, as pagemap has it."""
        steady, _ = self.steady("processes", "pid")
        asked = 0
        for pid, process in sorted(steady.items())[::self.every]:
            present = [m for m in process["maps"] if "pfn" in m]
            for m in present[:1] + present[-1:]:
                asked += 1
                gpa = self.json("translate", m["start"], "--pid", pid)["gpa"]
                want = hex(int(m["pfn"], 16) << 12)
                if gpa != want:
                    wrong.append(f"{pid}: {m['start']} is at {gpa}, not {want}")
        if asked < 50 // self.every:
            wrong.append(f"only {asked} addresses could be asked for")

    def check_all(self):
        self.test("info", self.check_info)
        self.test("BTF", self.check_btf)
        self.test("every symbol", self.check_symbols)
        self.test("symbols by name and address", self.check_symbol_lookup)
        self.test("every process", self.check_tasks)
        self.test("every thread", lambda wrong: self.check_tasks(wrong, "--threads"))
        self.test("arguments and environments", self.check_strings)
        self.test("every module", self.check_modules)
        self.test("every region of every process", self.check_maps)
        self.test("translations", self.check_translation)

    def check_facts(self, wrong, absent):
        names = [f["name"] for f in self.json("info")["facts"]]
        wrong.extend(f"{name} was to be wiped" for name in absent if name in names)
        wrong.extend(f"{name} is missing" for name in ("kallsyms", "btf", "release", "kernel",
                     "slide", "levels", "root", "init_task") if name not in names)

    def check_short(self):
        """For the other formats: the same memory must give the same answers."""
        self.test("info", self.check_info)
        self.test("every thread", lambda wrong: self.check_tasks(wrong, "--threads"))
        self.test("arguments and environments", self.check_strings)
        self.test("every module", self.check_modules)


def cripple(folder, work):
    """Copies of the raw image that lack, one after the other, what makes recognition easy."""
    image = work / "crippled.raw"
    subprocess.run(["cp", "--sparse=always", folder / "ram.raw", image], check=True)
    with open(image, "r+b") as file, mmap.mmap(file.fileno(), 0) as memory:
        memory[:1 << 20] = bytes(1 << 20)
        yield "no low memory", image, []
        at = 0
        while (at := memory.find(b"OSRELEASE=", at)) >= 0:
            if at % 4096 in (0, 24):
                memory[at:at + 64] = bytes(64)
            at += 1
        yield "no low memory, no VMCOREINFO", image, ["vmcoreinfo"]


def check_images(folder, truth, tools):
    """The raw image in full; the other formats hold the same memory and must say the same."""
    counts = [0, 0]
    images = [folder / n for n in ("ram.raw", "guest.elf", "guest-paging.elf")]
    images = [i for i in images + sorted(folder.glob("guest.kdump-*")) if i.exists()]
    for image in images:
        checker = Checker(tools, image, truth)
        if image == images[0]:
            checker.check_all()
        else:
            checker.check_short()
        counts[0] += checker.passed
        counts[1] += checker.failed
    return counts


def check_crippled(folder, truth, tools):
    counts = [0, 0]
    with tempfile.TemporaryDirectory(prefix="hvmi-") as work:
        for name, image, absent in cripple(folder, pathlib.Path(work)):
            checker = Checker(tools, image, truth)
            checker.test(name, lambda wrong, c=checker, a=absent: c.check_facts(wrong, a))
            checker.check_short()
            counts[0] += checker.passed
            counts[1] += checker.failed
    return counts


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("guest", help="a name that guest.py lists")
    parser.add_argument("--build", required=True, type=pathlib.Path, help="the build folder")
    parser.add_argument("--crippled", action="store_true",
                        help="without what makes recognition easy")
    parser.add_argument("--timeout", type=float, default=600, help="seconds to make the guest")
    arguments = parser.parse_args()
    guests.catch_signals()
    try:
        folder = pathlib.Path(guests.make(arguments.guest, arguments.timeout))
    except guests.Skipped as reason:
        print(f"skipped: {reason}")
        return guests.SKIPPED
    except guests.Failure as reason:
        print(f"the guest could not be made: {reason}")
        print("0 passed, 1 failed")
        return 1
    truth = json.loads((folder / "truth.json").read_text())
    compare = check_crippled if arguments.crippled else check_images
    passed, failed = compare(folder, truth, arguments.build / "examples")
    print(f"{passed} passed, {failed} failed")
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main())
