# SPDX-License-Identifier: Apache-2.0
"""The emulated machines: how each is started, and the disk through which dom0 is told what to do."""

import io
import os
import re
import resource
import select
import shutil
import sys
import time
import tty

import images
from children import Failure, Skipped, kill, run, start

MIB = 1 << 20
XEN_OPTIONS = "com1=115200,8n1 console=com1 loglvl=all guest_loglvl=all dom0_max_vcpus=1 noreboot " \
    "spec-ctrl=no xpti=no bootscrub=0 console_timestamps=boot"
# What takes long in an emulator and shows nothing of libhvmi: checks, scrubbing, mitigations.
DOM0_OPTIONS = "console=hvc0 earlyprintk=xen quiet mitigations=off rodata=off cryptomgr.notests"
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
        self.serial = os.path.join(out, "serial.log")
        self.script = os.path.join(out, "dom0.log")
        for path in (self.serial, self.script):
            open(path, "wb").close()
        self.errors = open(os.path.join(out, "emulator.log"), "wb")
        self.process = start(command, stdout=self.errors, stderr=self.errors, cwd=out, **arguments)

    def close(self):
        kill(self.process)
        self.errors.close()

    @staticmethod
    def used():
        """Seconds of a processor, of what ended."""
        usage = resource.getrusage(resource.RUSAGE_CHILDREN)
        return usage.ru_utime + usage.ru_stime

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
                self.wait()

    @staticmethod
    def wait():
        time.sleep(0.2)


class Qemu(Emulator):
    """AMD with SVM. Xen 4.17 and Linux 6.1 do not get along with QEMU's SMAP (dom0 dies in Xen's bounce frame),
    RDTSCP (the PVH guest is stuck in Xen's instruction emulation) and MONITOR (#UD in Xen's idle loop). QEMU does not
    intercept XSETBV: Xen does not know what the guest's XCR0 is, gives it another one when it goes on, and the guest's
    kernel warns that it cannot restore vector registers. Without XSAVE there is none. Where Xen switches vector
    registers when they are used next, and not at once, programs in dom0 find those of the guest."""
    CPU = "EPYC,+svm,+npt,-smap,-smep,-rdtscp,-monitor,-xsave,-avx"

    @staticmethod
    def check():
        if shutil.which("qemu-system-x86_64") is None:
            raise Skipped("qemu-system-x86_64 is not there (package qemu-system-x86)")

    @staticmethod
    def boot_image(system):
        return system

    def __init__(self, out, system, vcpus):
        image = {n: os.path.join(system, n) for n in ("xen", "vmlinux", "dom0.img")}
        super().__init__(out, [
            "qemu-system-x86_64", "-accel", "tcg,thread=single", "-machine", "pc", "-cpu", self.CPU,
            "-m", "2048M", "-smp", str(vcpus), "-nodefaults", "-no-user-config", "-display", "none",
            "-no-reboot", "-kernel", image["xen"], "-append", XEN_OPTIONS + " dom0_mem=768M,max:768M spec-ctrl=eager-fpu=1",
            "-initrd", "%s %s,%s" % (image["vmlinux"], DOM0_OPTIONS, image["dom0.img"]),
            "-serial", "file:serial.log", "-serial", "file:dom0.log",
            "-drive", "file=disk.img,format=raw,if=ide,index=0,file.locking=off"])


class Bochs(Emulator):
    """Intel with VMX, EPT and MTF, from Debian 13's package: older ones have no MTF. Its files need not be installed,
    its loader is told where they are. Of its models this one has all that Xen wants and nothing that Xen 4.17 or
    dom0 cannot bear: under corei7_skylake_x VMLAUNCH fails on posted interrupts, newer ones lose dom0.
    apicv=0: where the delivery of a virtual interrupt meets an EPT violation, which happens all the time in a view
    that Xen fills as it is used, Bochs leaves the event before it in the IDT-vectoring information. Xen then
    injects that one again, and the guest's kernel dies of a page fault that it has dealt with."""
    CONFIG = """
cpu: model=corei7_haswell_4770, count={vcpus}, ips=40000000, reset_on_triple_fault=0, ignore_bad_msrs=1
megs: 1536
romimage: file={share}/BIOS-bochs-latest
vgaromimage: file={share}/VGABIOS-lgpl-latest
display_library: term
ata0-master: type=cdrom, path={boot}/boot.iso, status=inserted
ata1: enabled=1, ioaddr1=0x170, ioaddr2=0x370, irq=15
ata1-master: type=disk, path=disk.img, mode=flat, cylinders=0
boot: cdrom
clock: sync=none, time0=1700000000
com1: enabled=1, mode=file, dev=serial.log
com2: enabled=1, mode=file, dev=dom0.log
speaker: enabled=0, mode=none
sound: driver=dummy
plugin_ctrl: biosdev=0, parallel=0, gameport=0, speaker=0
log: bochs.log
panic: action=fatal
error: action=report
info: action=ignore
debug: action=ignore
"""
    GRUB = """set timeout=0
multiboot /boot/xen placeholder {xen}
module /boot/vmlinux placeholder {dom0}
module /boot/dom0.img
boot
"""

    @classmethod
    def check(cls):
        for tool, package in (("grub-mkrescue", "grub-common"), ("xorriso", "xorriso"), ("mformat", "mtools")):
            if shutil.which(tool) is None:
                raise Skipped("%s is not there (package %s)" % (tool, package))
        if not os.path.isdir(cls.GRUB_MODULES):
            raise Skipped("%s is not there (package grub-pc-bin)" % cls.GRUB_MODULES)
        cls.tree = images.fetch("deb-fetch.sh", "trixie", "bochs", "bochs-term", "bochsbios")

    GRUB_MODULES = "/usr/lib/grub/i386-pc"

    @classmethod
    def boot_image(cls, system):
        config = cls.GRUB.format(
            xen=XEN_OPTIONS + " dom0_mem=512M,max:512M altp2m=1 hap_1gb=0 hap_2mb=0 ucode=no apicv=0",
            dom0=DOM0_OPTIONS)

        def build(work):
            boot = os.path.join(work, "iso/boot")
            os.makedirs(os.path.join(boot, "grub"))
            for name in ("xen", "vmlinux", "dom0.img"):
                os.link(os.path.join(system, name), os.path.join(boot, name))
            with open(os.path.join(boot, "grub/grub.cfg"), "w") as f:
                f.write(config)
            status, _, err = run(["grub-mkrescue", "-d", cls.GRUB_MODULES, "-o", os.path.join(work, "boot.iso"),
                                  os.path.join(work, "iso")])
            if status:
                raise Failure("grub-mkrescue: " + err)
            shutil.rmtree(os.path.join(work, "iso"))
        return images.cached("iso-" + images.digest(system, config), build)

    def __init__(self, out, boot, vcpus):
        share = os.path.join(self.tree, "usr/share/bochs")
        libraries = os.path.join(self.tree, "usr/lib/x86_64-linux-gnu")
        with open(os.path.join(out, "bochsrc"), "w") as f:
            f.write(self.CONFIG.format(vcpus=vcpus, share=share, boot=boot))
        with open(os.path.join(out, "debugger"), "w") as f:
            f.write("c\n")
        self.screen = None
        environment = dict(os.environ, TERM="vt100", BXSHARE=share, LTDL_LIBRARY_PATH=libraries + "/bochs/plugins")
        super().__init__(out, [
            libraries + "/ld-linux-x86-64.so.2", "--library-path", libraries,
            os.path.join(self.tree, "usr/bin/bochs-bin"), "-q", "-unlock", "-f", "bochsrc", "-rc", "debugger"],
            env=environment)

    def find_screen(self):
        """The display that asks for least is a terminal, which it makes itself. Somebody must read what is shown
        there, or the emulator waits once the terminal is full."""
        folder = "/proc/%d/fdinfo" % self.process.pid
        try:
            for fd in os.listdir(folder):
                with open(os.path.join(folder, fd)) as f:
                    found = re.search(r"^tty-index:\s*(\d+)", f.read(), re.MULTILINE)
                if found:
                    self.screen = os.open("/dev/pts/" + found.group(1), os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
                    tty.setraw(self.screen)
                    return
        except OSError:
            pass

    def wait(self):
        if self.screen is None:
            time.sleep(0.2)
            self.find_screen()
        elif select.select([self.screen], [], [], 0.2)[0]:
            try:
                os.read(self.screen, 65536)
            except OSError:
                time.sleep(0.2)

    def close(self):
        super().close()
        if self.screen is not None:
            os.close(self.screen)
