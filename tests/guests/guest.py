#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Makes memory images of real Linux guests, and the truth about what was in them.

A guest is a Debian kernel in QEMU's emulator with a known cast of processes. It writes what it knows of
itself to a virtio port, keeps still while the machine is paused and dumped, and writes it again.
README.md has the variants, the files of a guest's folder and the schema of truth.json."""

import argparse
import concurrent.futures
import contextlib
import hashlib
import json
import os
import re
import select
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time

import truth

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(1, os.path.join(HERE, ".."))
from children import (CACHE, COMMAND_LINE, SKIPPED, Failure, Skipped, catch_signals, fetch_kernel,  # noqa: E402
                      kill, run, start)

INTEL = "Skylake-Client-v1"

# kernel: as kernel-fetch.sh knows it. The kernel decides about page-table isolation by the processor,
# so every variant says which it is.
PLAIN = dict(cpu=INTEL, ram_mib=512, smp=2, machine="q35", cmdline="pti=off")
VARIANTS = {
    "6.1-cloud": dict(PLAIN, kernel="6.1-cloud"),
    "6.1-cloud+la57": dict(PLAIN, kernel="6.1-cloud", cpu=INTEL + ",+la57"),
    "6.1-cloud+pti": dict(PLAIN, kernel="6.1-cloud", cmdline="pti=on"),
    "6.12-cloud": dict(PLAIN, kernel="6.12-cloud"),
    "6.12-cloud+la57": dict(PLAIN, kernel="6.12-cloud", cpu=INTEL + ",+la57"),
    "highmem": dict(PLAIN, kernel="6.1-cloud", ram_mib=1024, machine="q35,max-ram-below-4g=256M"),
    "bullseye-cloud": dict(PLAIN, kernel="bullseye-cloud"),
    "trixie-cloud": dict(PLAIN, kernel="trixie-cloud"),
    "sid-cloud": dict(PLAIN, kernel="sid-cloud"),
    "forky-cloud": dict(PLAIN, kernel="forky-cloud", optional=True),
    "sid-cloud+la57": dict(PLAIN, kernel="sid-cloud", cpu=INTEL + ",+la57", optional=True),
}
FORMATS = {"kdump-zlib": "guest.kdump-zlib", "kdump-lzo": "guest.kdump-lzo", "kdump-snappy": "guest.kdump-snappy"}


def log(name, text):
    print("%s: %s" % (name, text), file=sys.stderr, flush=True)


class Stream:
    """Bytes from a socket, with one deadline for all of a guest's life."""

    def __init__(self, sock, deadline, alive):
        self.sock, self.deadline, self.alive, self.pending = sock, deadline, alive, bytearray()

    def more(self):
        while True:
            left = self.deadline - time.monotonic()
            if left <= 0:
                raise Failure("it took too long")
            if select.select([self.sock], [], [], min(left, 1))[0]:
                data = self.sock.recv(1 << 20)
                if not data:
                    raise Failure("the emulator ended")
                self.pending += data
                return
            if not self.alive():
                raise Failure("the emulator ended")

    def take(self, count):
        while len(self.pending) < count:
            self.more()
        data = bytes(self.pending[:count])
        del self.pending[:count]
        return data

    def line(self):
        while b"\n" not in self.pending:
            self.more()
        return self.take(self.pending.index(b"\n") + 1)


class Qmp:
    def __init__(self, stream):
        self.stream = stream
        json.loads(stream.line())
        self.command("qmp_capabilities")

    def command(self, name, **arguments):
        request = {"execute": name}
        if arguments:
            request["arguments"] = arguments
        self.stream.sock.sendall(json.dumps(request).encode() + b"\n")
        while True:
            answer = json.loads(self.stream.line())
            if "error" in answer:
                raise Failure("%s: %s" % (name, answer["error"]["desc"]))
            if "return" in answer:
                return answer["return"]

    def hmp(self, line):
        return self.command("human-monitor-command", **{"command-line": line}).replace("\r", "")


def read_section(stream, name):
    """{path: bytes} of one section of guest/truth.h's stream."""
    files, current = {}, None
    while True:
        kind, length = struct.unpack("<cI", stream.take(5))
        payload = stream.take(length)
        if kind == b"B" and payload != name.encode() or kind not in b"BNDE":
            raise Failure("the guest's stream is out of step")
        if kind == b"N":
            current = files.setdefault(payload.decode(), bytearray())
            del current[:]
        elif kind == b"D":
            current += payload
        elif kind == b"E":
            return files


def make_sparse(path):
    """Gives the file's zeroes back."""
    block = 1 << 16
    zero = bytes(block)
    new = path + ".sparse"
    with open(path, "rb") as old, open(new, "wb") as out:
        while True:
            data = old.read(block)
            if not data:
                break
            if data == zero:
                out.seek(len(data), os.SEEK_CUR)
            else:
                out.write(data)
        out.truncate(os.path.getsize(path))
    os.rename(new, path)


def unflatten(path, out):
    """QEMU writes kdump files flattened, as for a pipe: pieces that say where they belong."""
    with open(path, "rb") as f, open(out, "wb") as raw:
        if not f.read(4096).startswith(b"makedumpfile\0"):
            raise Failure("%s is not flattened" % path)
        while True:
            offset, size = struct.unpack(">qq", f.read(16))
            if offset < 0:
                break
            raw.seek(offset)
            raw.write(f.read(size))


def hash_of_scripts():
    digest = hashlib.sha256(COMMAND_LINE.encode())
    folders = [HERE, os.path.join(HERE, "guest")]
    for folder in folders:
        for name in sorted(os.listdir(folder)):
            if name.endswith((".py", ".sh", ".c", ".h", ".def")):
                with open(os.path.join(folder, name), "rb") as f:
                    digest.update(name.encode() + b"\0" + f.read())
    return digest.hexdigest()[:12]


initramfs_lock = threading.Lock()


def initramfs_for(kernel):
    """One for each kernel, shared by its variants."""
    folder = os.path.join(CACHE, "guests", "initramfs")
    path = os.path.join(folder, "%s-%s.img" % (os.path.basename(kernel), hash_of_scripts()))
    with initramfs_lock:
        if not os.path.exists(path):
            os.makedirs(folder, exist_ok=True)
            new = "%s.%d.new" % (path, os.getpid())
            status, out, err = run([os.path.join(HERE, "build-initramfs.sh"), kernel, new])
            if status == SKIPPED:
                raise Skipped(err)
            if status:
                raise Failure("the initramfs was not built:\n%s\n%s" % (out, err))
            os.rename(new, path)
    return path


class Machine:
    def __init__(self, name, variant, kernel, initramfs, folder, timeout, live=False, storm=False):
        self.name, self.variant, self.folder = name, variant, folder
        self.console = os.path.join(folder, "console.log")
        qmp_here, qmp_there = socket.socketpair()
        truth_here, truth_there = socket.socketpair()
        cmdline = COMMAND_LINE + "oops=panic " + variant["cmdline"] + " hvmi_storm=1" * storm
        board = variant["machine"] + ",memory-backend=ram" * live
        command = [
            "qemu-system-x86_64", "-accel", "tcg,thread=single", "-machine", board,
            "-cpu", variant["cpu"], "-smp", str(variant["smp"]), "-m", "%dM" % variant["ram_mib"],
            "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
            "-kernel", os.path.join(kernel, "vmlinuz"), "-initrd", initramfs, "-append", cmdline,
            "-serial", "file:" + self.console,
            "-chardev", "socket,id=qmp,fd=%d" % qmp_there.fileno(), "-mon", "chardev=qmp,mode=control",
            "-device", "vmcoreinfo", "-device", "virtio-serial-pci",
            "-chardev", "socket,id=truth,fd=%d" % truth_there.fileno(),
            "-device", "virtserialport,chardev=truth,name=hvmi.truth",
        ]
        if live:
            command += ["-object", "memory-backend-memfd,id=ram,share=on,size=%dM" % variant["ram_mib"],
                        "-qmp", "unix:%s,server=on,wait=off" % os.path.join(folder, "qmp")]
        self.errors = open(os.path.join(folder, "qemu.log"), "wb")
        self.process = start(command, stdout=self.errors, stderr=self.errors, cwd=folder,
                             pass_fds=[qmp_there.fileno(), truth_there.fileno()])
        qmp_there.close()
        truth_there.close()
        self.begun = time.monotonic()
        deadline = self.begun + timeout

        def alive():
            return self.process.poll() is None
        self.stream = Stream(truth_here, deadline, alive)
        self.qmp_stream = Stream(qmp_here, deadline, alive)
        self.sockets = [truth_here, qmp_here]

    def close(self):
        kill(self.process)
        for sock in self.sockets:
            sock.close()
        self.errors.close()

    def tail(self):
        text = ""
        for path in (os.path.join(self.folder, "qemu.log"), self.console):
            if os.path.exists(path):
                with open(path, errors="replace") as f:
                    text += "".join("  | " + line.rstrip() + "\n" for line in f.readlines()[-40:])
        return text

    def tell(self, section):
        """What the guest says next: {path: bytes}."""
        files = read_section(self.stream, section)
        log(self.name, "%s told after %.0f s" % (section, time.monotonic() - self.begun))
        return files

    def answer(self):
        """Let the guest go on."""
        self.stream.sock.sendall(b"\n")

    def run(self):
        qmp = Qmp(self.qmp_stream)
        machine, before = self.tell("machine"), self.tell("before")

        # The last bytes are here before the writer has gone to sleep: all others wait for an interrupt when nobody
        # works. And a pause in which the spinning process is in its loop shows more than one in which it was
        # interrupted.
        for _ in range(200):
            time.sleep(0.5)
            qmp.command("stop")
            registers = qmp.hmp("info registers -a")
            if registers.count("HLT=1") == self.variant["smp"] - 1 and any(
                    c["cpl"] == "0x3" and c["rbx"] == truth.SPIN_RBX for c in truth.cpus_of(registers)):
                break
            qmp.command("cont")
        else:
            raise Failure("the process \"spin\" does not spin, or others do not sleep:\n" + registers)
        formats = qmp.command("query-dump-guest-memory-capability")["formats"]
        self.write("registers.txt", registers)
        self.write("mtree.txt", qmp.hmp("info mtree -f"))
        if "max-ram-below-4g" not in self.variant["machine"]:
            qmp.command("pmemsave", val=0, size=self.variant["ram_mib"] << 20,
                        filename=os.path.join(self.folder, "ram.raw"))
        self.dump(qmp, "guest.elf", paging=False)
        self.dump(qmp, "guest-paging.elf", paging=True)
        for kind, name in FORMATS.items():
            if kind in formats:
                self.dump(qmp, name, paging=False, format=kind)
        log(self.name, "dumped after %.0f s" % (time.monotonic() - self.begun))

        qmp.command("cont")
        self.answer()
        after = self.tell("after")
        qmp.command("quit")
        self.process.wait(120)
        kdump = os.path.join(self.folder, FORMATS["kdump-zlib"])
        if os.path.exists(kdump):
            unflatten(kdump, kdump + "-raw")
        for name in ("ram.raw", "guest.elf", "guest-paging.elf"):
            path = os.path.join(self.folder, name)
            if os.path.exists(path):
                make_sparse(path)
        with open(os.path.join(self.folder, "vmlinux.btf"), "wb") as f:
            f.write(machine.get("/sys/kernel/btf/vmlinux", b""))
        whole = truth.assemble(self.name, self.variant, registers, machine, before, after)
        with open(os.path.join(self.folder, "truth.json"), "w") as f:
            truth.write(whole, f)
        log(self.name, "done after %.0f s" % (time.monotonic() - self.begun))

    def write(self, name, text):
        with open(os.path.join(self.folder, name), "w") as f:
            f.write(text)

    def dump(self, qmp, name, **arguments):
        qmp.command("dump-guest-memory", protocol="file:" + os.path.join(self.folder, name), **arguments)


def kernel_for(name):
    if shutil.which("qemu-system-x86_64") is None:
        raise Skipped("qemu-system-x86_64 is not there (package qemu-system-x86)")
    return fetch_kernel(VARIANTS[name]["kernel"])


@contextlib.contextmanager
def running(name, timeout, storm=False):
    """A Machine that runs, with its memory shared and a monitor at the socket "qmp" of its folder."""
    kernel = kernel_for(name)
    os.makedirs(os.path.join(CACHE, "guests"), exist_ok=True)
    initramfs = initramfs_for(kernel)
    with tempfile.TemporaryDirectory(prefix="hvmi-") as folder:
        machine = Machine(name, VARIANTS[name], kernel, initramfs, folder, timeout, live=True, storm=storm)
        try:
            yield machine
        except Failure as e:
            machine.close()
            raise Failure("%s\n%s" % (e, machine.tail()))
        finally:
            machine.close()


def run_beside(name, command, timeout):
    """Run a command while a guest is up, its target in HVMI_TARGET. Its exit status."""
    with running(name, timeout) as machine:
        machine.tell("machine")
        machine.tell("before")
        child = start(command, env=dict(os.environ, HVMI_TARGET="qemu:" + os.path.join(machine.folder, "qmp")))
        try:
            return child.wait()
        finally:
            kill(child)


def make(name, timeout):
    """The guest's folder in the cache, made if it is not there."""
    variant = VARIANTS[name]
    kernel = kernel_for(name)
    key = "%s_%s_%s" % (name, os.path.basename(kernel), hash_of_scripts())
    final = os.path.join(CACHE, "guests", key)
    if os.path.exists(final):
        os.utime(final)
        return final
    initramfs = initramfs_for(kernel)
    work = tempfile.mkdtemp(prefix=".work.", dir=os.path.join(CACHE, "guests"))
    try:
        machine = Machine(name, variant, kernel, initramfs, work, timeout)
        try:
            machine.run()
        except Failure as e:
            machine.close()
            raise Failure("%s\n%s" % (e, machine.tail()))
        finally:
            machine.close()
        for file in os.listdir(work):
            os.chmod(os.path.join(work, file), 0o644)
        os.chmod(work, 0o755)
        try:
            os.rename(work, final)
        except OSError:
            if not os.path.exists(final):       # somebody else may have made the same one
                raise
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return final


def prune():
    """What was not used for a week goes: other versions of the scripts or of a kernel."""
    folder = os.path.join(CACHE, "guests")
    for parent in (folder, os.path.join(folder, "initramfs")):
        for entry in os.scandir(parent) if os.path.isdir(parent) else ():
            # Others that make or prune something at the same time rename and remove, too.
            with contextlib.suppress(FileNotFoundError):
                age = time.time() - entry.stat().st_mtime
                if age > (1 if entry.name.startswith(".work.") else 7) * 86400:
                    if not entry.is_dir():
                        os.unlink(entry.path)
                    elif entry.name != "initramfs":
                        shutil.rmtree(entry.path, ignore_errors=True)


def copy_out(folder, out):
    os.makedirs(out, exist_ok=True)
    for name in sorted(os.listdir(folder)):
        new = os.path.join(out, name + ".new")
        subprocess.run(["cp", "--sparse=always", "--reflink=auto", os.path.join(folder, name), new], check=True)
        os.rename(new, os.path.join(out, name))


def one(name, args):
    try:
        if args.command == "run":
            return run_beside(name, args.argv, args.timeout)
        folder = make(name, args.timeout)
    except Skipped as e:
        log(name, "skipped: %s" % e)
        return SKIPPED
    except Failure as e:
        log(name, "FAILED: %s" % e)
        return 1
    if args.out:
        out = os.path.join(args.out, name) if args.command == "make-all" else args.out
        copy_out(folder, out)
        folder = out
    print(folder, flush=True)
    return 0


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    sub = commands.add_parser("list", help="the names of the full test run's variants")
    sub.add_argument("--all", action="store_true", help="the others too")
    for name, text in (("make", "one guest"), ("make-all", "every guest of the full test run"),
                       ("run", "run a command while a guest is up")):
        sub = commands.add_parser(name, help=text)
        if name != "make-all":
            sub.add_argument("name", choices=VARIANTS, metavar="NAME")
        if name == "run":
            sub.add_argument("argv", nargs=argparse.REMAINDER, metavar="COMMAND", help="with HVMI_TARGET in its environment")
        if name == "make-all":
            sub.add_argument("--jobs", type=int, default=2, help="how many at a time")
        if name != "run":
            sub.add_argument("--out", metavar="DIR", help="copy the result here, and print this folder")
        sub.add_argument("--timeout", type=float, default=600, help="seconds for one guest")
    args = parser.parse_args()
    catch_signals()
    names = [n for n, v in VARIANTS.items() if not v.get("optional")]
    if args.command == "list":
        print("\n".join(VARIANTS if args.all else names))
        return 0
    os.makedirs(os.path.join(CACHE, "guests"), exist_ok=True)
    prune()
    if args.command != "make-all":
        return one(args.name, args)
    with concurrent.futures.ThreadPoolExecutor(args.jobs) as pool:
        results = list(pool.map(lambda n: one(n, args), names))
    return 1 if 1 in results else SKIPPED if SKIPPED in results else 0


if __name__ == "__main__":
    sys.exit(main())
