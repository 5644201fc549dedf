# SPDX-License-Identifier: Apache-2.0
"""Starts QEMU and tests/qemu/drive for the tests here."""

import glob
import json
import os
import re
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "guests"))
import guest  # noqa: E402

SKIPPED = 77
PATIENCE = 600      # seconds until something that takes a moment is given up, on a machine with much else to do

ALL_VCPUS = 0xffffffff


def need(program, package):
    if not shutil.which(program):
        print("skipped: %s is not there (package %s)" % (program, package))
        sys.exit(SKIPPED)


def expect(condition, *what):
    if not condition:
        raise AssertionError(" ".join(str(w) for w in what))


def wait_until(condition, what, *seen):
    """What the condition gives; functions in `seen` tell what there was instead."""
    end = time.monotonic() + PATIENCE
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(" ".join(["waited in vain:", what] + [str(tell()) for tell in seen]))
        time.sleep(0.05)


def child(command, **arguments):
    return subprocess.Popen(["setpriv", "--pdeathsig", "KILL", "--"] + command, **arguments)


def halt(pid):
    """Stop a process: all of its threads stand when this returns."""
    os.kill(pid, signal.SIGSTOP)

    def states():
        found = set()
        for path in glob.glob("/proc/%d/task/*/stat" % pid):
            with open(path) as f:
                found.add(f.read().rsplit(")", 1)[1].split()[0])
        return found
    wait_until(lambda: states() == {"T"}, "process %d to stand, its threads are" % pid, states)


class Qmp:
    """A monitor of the test's own."""

    def __init__(self, path, process):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(PATIENCE)

        def connected():
            return self.sock.connect_ex(path) == 0 or process.poll() is not None
        wait_until(connected, "QEMU to start")
        expect(process.poll() is None, "QEMU does not start")
        self.file = self.sock.makefile("rb")
        self.file.readline()
        self("qmp_capabilities")

    def __call__(self, name, **arguments):
        self.sock.sendall(json.dumps({"execute": name, "arguments": arguments}).encode() + b"\n")
        while True:
            answer = json.loads(self.file.readline())
            if "return" in answer:
                return answer["return"]
            expect("error" not in answer, name, answer)

    def hmp(self, line, **arguments):
        return self("human-monitor-command", **{"command-line": line}, **arguments).replace("\r", "")

    def close(self):
        self.file.close()
        self.sock.close()


class Machine:
    """QEMU with two monitors, one for the library (.target) and one for the test (.qmp)."""

    def __init__(self, folder, name, *arguments, program="qemu-system-x86_64", accel="tcg,thread=single"):
        self.path = os.path.join(folder, name + ".qmp")
        self.target = "qemu:" + self.path
        mine = os.path.join(folder, name + ".test")
        self.log = os.path.join(folder, name + ".log")
        command = [program, "-accel", accel, "-nodefaults", "-no-user-config", "-display", "none"]
        for path in (self.path, mine):
            if os.path.exists(path):
                os.unlink(path)
            command += ["-qmp", "unix:%s,server=on,wait=off" % path]
        with open(self.log, "wb") as log:
            self.process = child(command + list(arguments), stdin=subprocess.DEVNULL, stdout=log,
                                 stderr=log)
        try:
            self.qmp = Qmp(mine, self.process)
        except AssertionError:
            with open(self.log) as log:
                print(log.read())
            raise

    def status(self):
        return self.qmp("query-status")["status"]

    def gdbstub_is_off(self):
        return not [c for c in self.qmp("query-chardev") if c["label"] in ("gdb", "hvmi-gdb")]

    def pmemsave(self, gpa, length, path):
        self.qmp("pmemsave", val=gpa, size=length, filename=path)
        with open(path, "rb") as f:
            data = f.read()
        os.unlink(path)
        return data

    def kill(self):
        self.process.kill()
        self.process.wait()

    def close(self):
        self.kill()
        self.qmp.close()


def linux(folder, name, *arguments, ram_mib=256, vcpus=2):
    """A Linux guest that ticks: kernel and initramfs of tests/guests, with what is to be told going nowhere."""
    try:
        kernel = guest.fetch_kernel("6.1-cloud")
        os.makedirs(os.path.join(guest.CACHE, "guests"), exist_ok=True)
        initramfs = guest.initramfs_for(kernel)
    except guest.Skipped as e:
        print("skipped: %s" % e)
        sys.exit(SKIPPED)
    console = os.path.join(folder, name + ".console")
    machine = Machine(
        folder, name, "-cpu", guest.INTEL, "-m", "%dM" % ram_mib, "-smp", str(vcpus),
        "-kernel", os.path.join(kernel, "vmlinuz"), "-initrd", initramfs,
        "-append", guest.COMMAND_LINE + "pti=off nokaslr", "-serial", "file:" + console,
        "-device", "virtio-serial-pci", "-chardev", "null,id=truth",
        "-device", "virtserialport,chardev=truth,name=hvmi.truth", *arguments)

    def up():
        with open(console, errors="replace") as f:
            text = f.read()
        expect("Kernel panic" not in text, text[-2000:])
        return "modules loaded" in text
    wait_until(up, "the guest to be up")
    return machine


class Symbols:
    """Addresses of a guest's symbols, as the tool says them."""

    def __init__(self, build, machine):
        self.command = [os.path.join(build, "examples", "hvmi-symbol"), machine.target]
        self.known = {}

    def __getitem__(self, name):
        if name not in self.known:
            out = subprocess.run(self.command + [name], check=True, capture_output=True, text=True).stdout
            self.known[name] = int(out.split()[0], 16)
        return self.known[name]


class Failed(Exception):
    """What drive answered with: .code, .text."""

    def __init__(self, code, text):
        super().__init__("%s: %s" % (code, text))
        self.code, self.text = code, text


class Drive:
    """A process with the library in it."""

    def __init__(self, build, prefix=()):
        self.logged, self.unread = [], b""
        self.process = child(list(prefix) + [os.path.join(build, "tests", "qemu", "drive")],
                             stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def line(self, words):
        """Nothing that the library does may hang."""
        while b"\n" not in self.unread:
            ready = select.select([self.process.stdout], [], [], PATIENCE)[0]
            expect(ready, "drive hangs at", words)
            data = os.read(self.process.stdout.fileno(), 65536)
            expect(data, "drive ended with", self.process.poll(), "at", words)
            self.unread += data
        line, _, self.unread = self.unread.partition(b"\n")
        return line.decode()

    def __call__(self, *words):
        """The answer's fields, or None where there was none."""
        self.process.stdin.write(" ".join(str(w) for w in words).encode() + b"\n")
        self.process.stdin.flush()
        while True:
            kind, _, rest = self.line(words).partition(" ")
            if kind == "log":
                self.logged.append(rest)
            elif kind == "ok":
                fields = dict(re.findall(r"([^ =]+)=(.*?)(?= [^ =]+=|$)", rest))
                return {k: int(v, 16) if v.startswith("0x") else int(v) if v.isdigit() else v
                        for k, v in fields.items()}
            elif kind == "none":
                return None
            else:
                raise Failed(*rest.split(" ", 1))

    def fails(self, code, text, *words):
        try:
            self(*words)
        except Failed as e:
            expect(e.code == code and text in e.text, "expected %s ... %s, got" % (code, text), e)
            return e.text
        raise AssertionError("%s did not fail" % (words,))

    def read(self, gpa, length, folder):
        path = os.path.join(folder, "read")
        self("read", gpa, length, path)
        with open(path, "rb") as f:
            return f.read()

    def kill(self):
        self.process.kill()
        self.process.wait()

    def close(self):
        self.process.stdin.close()
        expect(self.process.wait(PATIENCE) == 0, "drive ended with", self.process.returncode)
        self.process.stdout.close()


def answers(drive):
    try:
        return "rip" in drive("registers", 0)
    except Failed as e:
        expect(e.code == "ETIMEDOUT", e)
        return False


def run(tests, package="qemu-system-x86"):
    """Run functions of (build, folder); report each."""
    need("qemu-system-x86_64", package)
    build = sys.argv[1]
    only = sys.argv[2:]
    for test in tests:
        if only and test.__name__ not in only:
            continue
        begun = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="hvmi-qemu.") as folder:
            test(build, folder)
        print("%s: passed, %.1f s" % (test.__name__, time.monotonic() - begun), flush=True)


def leftovers(pid):
    """Descriptors of a process, to see that none is left."""
    names = []
    for path in glob.glob("/proc/%d/fd/*" % pid):
        try:
            names.append(os.readlink(path))
        except FileNotFoundError:
            pass        # closed since
    return sorted(names)
