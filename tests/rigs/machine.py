# SPDX-License-Identifier: Apache-2.0
"""The emulated machines: how each is started, and the disk through which dom0 is told what to do."""

import io
import os
import re
import shutil
import sys
import time

from children import Failure, Skipped, kill, start

MIB = 1 << 20
# What Xen or a kernel says when nothing will come any more.
DEAD = re.compile(rb"Panic on CPU|Kernel panic - not syncing|Reboot disabled on cmdline|FATAL TRAP|Hardware Dom0 crashed")


class Disk:
    """dom0/init says what is where."""
    REQUEST, ANSWER_HEADER, ANSWER, SIZE = MIB, 4096, 192 * MIB, 512 * MIB

    def __init__(self, out):
        self.path = os.path.join(out, "disk.img")

    def create(self):
        with open(self.path, "wb") as f:
            f.truncate(self.SIZE)

    def exists(self):
        return os.path.exists(self.path)

    def remove(self):
        os.unlink(self.path)

    @staticmethod
    def fields(f, offset):
        f.seek(offset)
        return f.read(512).split(b"\n")[0].decode(errors="replace").split()

    def request(self, payload, mode, guests=0):
        """Its number."""
        if len(payload) > self.ANSWER - self.REQUEST:
            raise Failure("the payload is too large: %d MiB" % (len(payload) // MIB))
        with open(self.path, "r+b") as f:
            before = self.fields(f, 0)
            number = int(before[1]) + 1 if before and before[0] == "hvmi" else 1
            f.seek(self.REQUEST)
            f.write(payload)
            f.flush()
            f.seek(0)
            header = "hvmi %d %d %s %d\n" % (number, len(payload), mode, guests)
            f.write(header.encode().ljust(512, b"\0"))
        return number

    def answer(self, number):
        """(status, file of the archive), or None if there is none yet."""
        with open(self.path, "rb") as f:
            fields = self.fields(f, self.ANSWER_HEADER)
            if len(fields) != 4 or fields[0] != "hvmi" or int(fields[1]) != number:
                return None
            f.seek(self.ANSWER)
            return int(fields[3]), io.BytesIO(f.read(int(fields[2])))


class Log:
    """A file that grows."""

    def __init__(self, path):
        self.file = open(path, "rb")

    def to_end(self):
        self.file.seek(0, os.SEEK_END)

    def show(self):
        new = self.file.read()
        sys.stdout.buffer.write(new)
        sys.stdout.buffer.flush()
        return new


class Emulator:
    """serial.log is what Xen and dom0's kernel say, dom0.log what the script says."""

    def __init__(self, out, command, **arguments):
        self.out = out
        self.serial = os.path.join(out, "serial.log")
        self.script = os.path.join(out, "dom0.log")
        for path in (self.serial, self.script):
            open(path, "wb").close()
        self.errors = open(os.path.join(out, "emulator.log"), "wb")
        self.process = start(command, stdout=self.errors, stderr=self.errors, cwd=out, **arguments)

    def close(self):
        kill(self.process)
        self.errors.close()

    def tail(self):
        text = ""
        for path in (self.errors.name, self.serial, self.script):
            with open(path, errors="replace") as f:
                text += "".join("  | " + line.rstrip() + "\n" for line in f.readlines()[-40:])
        return text

    def ended(self):
        return self.process.poll() is not None

    def follow(self, deadline, until, show=True):
        """Shows what the script says until the condition is met; returns it."""
        script, said, tail = Log(self.script), b"", b""
        with open(self.serial, "rb") as serial:
            while True:
                done, ended = until(), self.ended()
                said += script.show() if show else b""
                if done:
                    return said.decode(errors="replace")
                if ended:
                    raise Failure("the emulator ended")
                tail = tail[-200:] + serial.read()
                dead = DEAD.search(tail)
                if dead:
                    raise Failure("Xen or dom0 died: " + dead.group().decode())
                if time.monotonic() > deadline:
                    raise Failure("it took too long")
                time.sleep(0.2)


class Qemu(Emulator):
    """AMD with SVM. Xen 4.17 and Linux 6.1 do not get along with QEMU's SMAP (dom0 dies in Xen's bounce frame),
    RDTSCP (the PVH guest is stuck in Xen's instruction emulation) and MONITOR (#UD in Xen's idle loop)."""
    CPU = "EPYC,+svm,+npt,-smap,-smep,-rdtscp,-monitor"

    @staticmethod
    def check():
        if shutil.which("qemu-system-x86_64") is None:
            raise Skipped("qemu-system-x86_64 is not there (package qemu-system-x86)")

    @staticmethod
    def boot_image(system):
        return system

    def __init__(self, out, system, vcpus):
        image = {n: os.path.join(system, n) for n in ("xen", "vmlinux", "dom0.img")}
        xen = "com1=115200,8n1 console=com1 loglvl=all guest_loglvl=all dom0_mem=768M dom0_max_vcpus=1 noreboot"
        dom0 = "console=hvc0 earlyprintk=xen quiet"
        super().__init__(out, [
            "qemu-system-x86_64", "-accel", "tcg,thread=single", "-machine", "pc", "-cpu", self.CPU,
            "-m", "2048M", "-smp", str(vcpus), "-nodefaults", "-no-user-config", "-display", "none",
            "-no-reboot", "-kernel", image["xen"], "-append", xen,
            "-initrd", "%s %s,%s" % (image["vmlinux"], dom0, image["dom0.img"]),
            "-serial", "file:serial.log", "-serial", "file:dom0.log",
            "-drive", "file=disk.img,format=raw,if=ide,index=0,file.locking=off"])


class Bochs(Emulator):
    @staticmethod
    def check():
        raise Skipped("not yet")
