#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Hooks in a live Linux guest: the tools that are built on them see exactly what a program in it did."""

import collections
import errno
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys

from machine import HERE, PATIENCE, SKIPPED, Machine, child, expect, guest, need, run, wait_until

VCPUS = 2
CHILDREN = 5        # the last one's program has 32 bits
CALLS = 300         # getppid() by each child
WAYS = {11: "SYSENTER", 12: "SYSCALL"}      # what guest/narrow.c ends with


class Counter(Machine):
    """A guest whose only program is guest/counter.c, which starts guest/narrow.c."""

    def __init__(self, folder, cpu="Skylake-Client-v1"):
        need("gcc", "gcc")
        need("cpio", "cpio")
        try:
            kernel = guest.fetch_kernel("6.1-cloud")
        except guest.Skipped as e:
            print("skipped: %s" % e)
            sys.exit(SKIPPED)
        root = os.path.join(folder, "root")
        for name in ("proc", "dev"):
            os.makedirs(os.path.join(root, name), exist_ok=True)
        subprocess.run(["gcc", "-O1", "-static", "-no-pie", "-Wall", "-o", os.path.join(root, "init"),
                        os.path.join(HERE, "guest", "counter.c")], check=True)
        subprocess.run(["gcc", "-m32", "-O1", "-Wall", "-ffreestanding", "-fno-pic", "-no-pie",
                        "-fno-stack-protector", "-nostdlib", "-static", "-o", os.path.join(root, "narrow"),
                        os.path.join(HERE, "guest", "narrow.c")], check=True)
        console = os.path.join(root, "dev", "console")
        if os.getuid() == 0 and not os.path.exists(console):
            os.mknod(console, 0o600 | 0o020000, os.makedev(5, 1))
        initramfs = os.path.join(folder, "initramfs")
        with open(initramfs, "wb") as out:
            subprocess.run("find . | cpio --quiet -o -H newc -R 0:0", shell=True, cwd=root, stdout=out, check=True)
        serial = os.path.join(folder, "serial")
        super().__init__(
            folder, "counter", "-machine", "q35,memory-backend=ram", "-object",
            "memory-backend-memfd,id=ram,size=256M,share=on", "-cpu", cpu, "-m", "256M",
            "-smp", str(VCPUS), "-kernel", os.path.join(kernel, "vmlinuz"), "-initrd", initramfs,
            "-append", guest.COMMAND_LINE + "pti=on", "-no-reboot",
            "-serial", "unix:%s,server=on,wait=off" % serial)
        self.serial = socket.socket(socket.AF_UNIX)
        self.serial.settimeout(PATIENCE)
        self.serial.connect(serial)
        self.text = ""
        up = self.wait_for(r"GUEST: up (\d+) written 0x([0-9a-f]+)\n")
        self.pid, self.written = int(up.group(1)), int(up.group(2), 16)

    def wait_for(self, pattern):
        while True:
            found = re.search(pattern, self.text)
            if found:
                return found
            data = self.serial.recv(65536)
            expect(data, "the guest ended:", self.text[-2000:])
            self.text += data.decode(errors="replace").replace("\r", "")
            expect("Kernel panic" not in self.text and "Oops" not in self.text, self.text[-3000:])

    def go(self, calls):
        """Have the children make calls: {pid: {name: count}}."""
        self.text = ""
        self.serial.sendall(b"go %d\n" % calls)
        done = self.wait_for(r"GUEST: done (\d+) bad\n")
        expect(done.group(1) == "0", self.text)
        told = {}
        for line in re.findall(r"GUEST: child (\d+) getppid (\d+) openat (\d+) getuid (\d+) getgid32 (\d+) "
                               r"open32 (\d+)", self.text):
            pid, getppid, openat, getuid, getgid32, open32 = map(int, line)
            told[pid] = {("x86-64", "getppid"): getppid, ("x86-64", "openat"): openat, ("x86-64", "getuid"): getuid,
                         ("x86-64", "exit_group"): 1, ("i386", "getgid"): getgid32, ("i386", "open"): open32}
        pid, way, getppid, opened, mmap2 = map(int, re.search(
            r"GUEST: narrow (\d+) way (\d+) getppid (\d+) open (\d+) mmap2 (\d+)", self.text).groups())
        told[pid] = {("x86-64", "execve"): 1, ("i386", "getppid"): getppid, ("i386", "open"): opened,
                     ("i386", "mmap2"): mmap2, ("i386", "exit"): 1}
        self.way = WAYS.get(way)
        expect(len(told) == CHILDREN, self.text)
        return told


class Tool:
    """A tool that runs until it is asked to end."""

    def __init__(self, build, folder, name, *arguments):
        self.out = os.path.join(folder, name + ".out")
        with open(self.out, "w") as out:
            self.process = child([os.path.join(build, "examples", "hvmi-" + name), *map(str, arguments)],
                                 stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.PIPE, text=True)
        line = self.process.stderr.readline()
        expect("end with Ctrl-C" in line, name, "says", line, self.process.poll() and self.process.stderr.read())

    def end(self, number=signal.SIGINT, status=0):
        if number:
            self.process.send_signal(number)
        expect(self.process.wait(PATIENCE) == status, self.process.args, "ended with", self.process.returncode,
               self.process.stderr.read())
        self.process.stderr.close()
        with open(self.out) as f:
            return f.read()


def kernel_text(machine, build, folder):
    """The bytes of the kernel's text, as QEMU reads them."""
    symbols = {}
    for name in ("_text", "_etext"):
        out = subprocess.run([os.path.join(build, "examples", "hvmi-symbol"), machine.target, name], check=True,
                             capture_output=True, text=True).stdout
        symbols[name] = int(out.split()[0], 16)
    gpa = int(machine.qmp.hmp("gva2gpa %#x" % symbols["_text"]).split()[-1], 16)
    return machine.pmemsave(gpa, symbols["_etext"] - symbols["_text"], os.path.join(folder, "text"))


def check_counts(machine, build, folder):
    """Calls of all kinds, by all ways into the kernel."""
    trace = Tool(build, folder, "trace", machine.target, "--summary", "--json")
    told = machine.go(CALLS)
    seen = collections.defaultdict(dict)
    for item in json.loads(trace.end()):
        seen[item["pid"]][item["abi"], item["call"]] = item["count"]
    for pid, calls in told.items():
        expect(seen[pid] == calls, "process", pid, "made", calls, "and was seen to make", seen[pid])
    for name in "fork", "wait4":
        expect(seen[machine.pid]["x86-64", name] == CHILDREN, seen[machine.pid])


def check_trace(machine, build, folder):
    check_counts(machine, build, folder)
    expect(machine.way == "SYSENTER", "programs of 32 bits use", machine.way)
    # One kind of call, with its paths, until there were enough; nothing of it stays.
    trace = Tool(build, folder, "trace", machine.target, "--call", "openat", "--json", "--count", 40)
    machine.go(40)
    items = json.loads(trace.end(number=None))
    expect(len(items) == 40, len(items))
    paths = collections.defaultdict(list)
    for item in items:
        expect(item["call"] == "openat" and item["number"] == 257 and item["arguments"][0] == -100, item)
        number, index = re.fullmatch(r"/no/such/(\d)/(\d+)", item["arguments"][1]).groups()
        paths[number, item["pid"]].append(int(index))
    for indices in paths.values():
        expect(indices == list(range(len(indices))), "paths out of order", paths)
    trace = Tool(build, folder, "trace", machine.target, "--call", "open", "--json")
    machine.go(16)
    items = json.loads(trace.end())
    expect(sorted((i["abi"], i["number"], i["arguments"]) for i in items) ==
           [("i386", 5, ["/no/such/%s" % name, "0x1", "0x0"]) for name in ["32"] * 8 + ["narrow"] * 8], items)
    check_sixth(machine, build, folder)
    check_results(machine, build, folder)
    trace = Tool(build, folder, "trace", machine.target, "--pid", machine.pid)
    machine.go(8)
    lines = trace.end(signal.SIGTERM).splitlines()
    expect(lines and all(int(line.split()[0]) == machine.pid for line in lines), lines[:5])
    expect(sum("fork(" in line for line in lines) == CHILDREN, lines)


def check_results(machine, build, folder):
    """What calls return, by each way into the kernel."""
    trace = Tool(build, folder, "trace", machine.target, "--results", "--json")
    told = machine.go(16)
    results = collections.defaultdict(list)
    for item in json.loads(trace.end()):
        results[item["pid"], item["abi"], item["call"]].append(item["result"])
    for pid, calls in told.items():
        for (abi, name), count in calls.items():
            got = results[pid, abi, name]
            expect(len(got) == count, pid, abi, name, got)
            if name in ("open", "openat"):
                expect(set(got) == {-errno.ENOENT}, name, got)
            elif name == "getppid":
                expect(set(got) == {machine.pid}, name, got)
            elif name in ("getuid", "getgid", "execve"):
                expect(set(got) == {0}, name, got)
            elif name == "mmap2":
                expect(all(r % 4096 == 0 and r & 0xffffffff for r in got), name, got)
            else:
                expect(name in ("exit", "exit_group") and got == [None], name, got)
    expect(sorted(results[machine.pid, "x86-64", "fork"]) == sorted(told), results[machine.pid, "x86-64", "fork"])
    expect(sorted(results[machine.pid, "x86-64", "wait4"]) == sorted(told), told)
    trace = Tool(build, folder, "trace", machine.target, "--results", "--call", "open", "--count", 3)
    machine.go(8)
    lines = trace.end(number=None).splitlines()
    expect(len(lines) == 3, lines)
    for line in lines:
        expect(re.search(r'i386 open\("/no/such/(32|narrow)", 0x1, 0x0\) = -2 \(No such file or directory\)$', line), lines)
    # The parent waits for its children when there were enough: that is no sixth.
    trace = Tool(build, folder, "trace", machine.target, "--results", "--count", 5)
    machine.go(2)
    lines = trace.end(number=None).splitlines()
    expect(len(lines) == 5, lines)


def check_sixth(machine, build, folder):
    """The sixth argument, which 32-bit programs have on their stacks."""
    trace = Tool(build, folder, "trace", machine.target, "--call", "mmap2", "--json")
    machine.go(24)
    items = json.loads(trace.end())
    expect([i["abi"] for i in items] == ["i386"] * 3, items)
    # guest/narrow.c gives the number of its call as an offset in pages.
    expect([int(str(i["arguments"][5]), 0) for i in items] == [0, 8, 16], items)


def check_watch(machine, build, folder):
    """A variable of one process: only that process's writes are told, though all have it at that address."""
    watch = Tool(build, folder, "watch", machine.target, "%d:%#x" % (machine.pid, machine.written), 8, "--json")
    machine.go(12)
    machine.go(13)
    items = json.loads(watch.end())
    # The children write too, into their own copies of the page; what is watched is the parent's.
    expect([(i["tid"], i["access"].replace("-", ""), i["length"], i["done"]) for i in items] ==
           [(machine.pid, "w", 8, True)] * 2, items)
    expect([int.from_bytes(bytes.fromhex(i["bytes"]), "little") for i in items] == [1012, 1013], items)


def check_break(machine, build, folder):
    stop = Tool(build, folder, "break", machine.target, "__x64_sys_getuid", "--json", "--count", 8)
    told = machine.go(8)
    items = json.loads(stop.end(number=None))
    expect(len(items) == 8, len(items))
    for item in items:
        expect(item["pid"] in told and item["name"] == "init", item)
        expect(item["stack"][0]["symbol"].startswith("do_syscall_64+"), item["stack"])
        expect(int(item["registers"]["rsp"], 16) >> 63, item)
    stop = Tool(build, folder, "break", machine.target, "__x64_sys_getuid")
    machine.go(4)
    text = stop.end()
    expect(text.count("vCPU ") == 4 and "rip " in text, text[:2000])


def check_soak(machine, build, folder):
    """Hooks come and go on hot kernel functions while the guest works and checks its own work."""
    cycles = int(os.environ.get("HVMI_SOAK_CYCLES", "300"))
    soak = child([os.path.join(build, "tests", "live", "soak"), machine.target, str(cycles)],
                 stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
    rounds = 0
    while soak.poll() is None:
        machine.go(20)
        rounds += 1
    out = soak.stdout.read()
    soak.stdout.close()
    told = re.fullmatch(r"cycles (\d+) hits (\d+)\n", out)
    expect(soak.returncode == 0 and told and int(told.group(1)) >= cycles, soak.returncode, out)
    expect(int(told.group(2)) > cycles // 10, "hardly anything was hit", out)
    print("  %s, the guest worked %d rounds" % (out.strip(), rounds))


def test_tools(build, folder):
    machine = Counter(folder)
    try:
        text = kernel_text(machine, build, folder)
        for check in (check_trace, check_watch, check_break, check_soak):
            check(machine, build, folder)
            expect(kernel_text(machine, build, folder) == text, "the kernel's text has changed in", check.__name__)
            print("  %s: good" % check.__name__, flush=True)
        machine.go(50)
        expect(kernel_text(machine, build, folder) == text, "the kernel's text has changed")
        expect(machine.status() == "running" and machine.gdbstub_is_off(), machine.status())
    finally:
        machine.serial.close()
        machine.close()


def test_amd(build, folder):
    """Where programs of 32 bits enter the kernel with SYSCALL."""
    machine = Counter(folder, "EPYC-v1")
    try:
        check_counts(machine, build, folder)
        expect(machine.way == "SYSCALL", "programs of 32 bits use", machine.way)
        check_sixth(machine, build, folder)
        check_results(machine, build, folder)
    finally:
        machine.serial.close()
        machine.close()


if __name__ == "__main__":
    if not shutil.which("setpriv"):
        need("setpriv", "util-linux")
    run([test_tools, test_amd])
