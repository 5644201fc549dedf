#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A domain of libvirt's, in its session mode and so without root's libvirtd: found, read, changed, followed."""

import os
import shutil
import signal
import subprocess
import sys

from machine import PATIENCE, SKIPPED, Drive, answers, expect, halt, need, run, wait_until

DOMAIN = """<domain type='qemu'>
  <name>%(name)s</name><memory unit='MiB'>64</memory><vcpu>2</vcpu>
  %(backing)s
  <os><type arch='x86_64' machine='q35'>hvm</type></os>
  <devices><emulator>%(qemu)s</emulator></devices>
</domain>"""
SHARED = "<memoryBacking><source type='memfd'/><access mode='shared'/></memoryBacking>"
URI = "qemu:///session"


class Libvirt:
    """A session of nobody's, or of who runs the test, with all its files in one folder."""

    def __init__(self, build, folder):
        self.folder = os.path.join(folder, "session")
        os.makedirs(self.folder)
        self.prefix = ["env"] + ["%s=%s" % (name, self.folder) for name in (
            "HOME", "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME")]
        self.build = build
        if not os.geteuid():
            os.chmod(folder, 0o755)
            os.chown(self.folder, 65534, 65534)
            self.prefix = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--"] + self.prefix
            self.build = os.path.join(folder, "build")
            os.makedirs(os.path.join(self.build, "tests", "qemu"))
            shutil.copytree(os.path.join(build, "hvmi"), os.path.join(self.build, "hvmi"))
            shutil.copy(os.path.join(build, "libhvmi.so.1"), self.build)
            shutil.copy(os.path.join(build, "tests", "qemu", "drive"), self.build + "/tests/qemu")
        self.prefix.append("LD_LIBRARY_PATH=" + self.build)

    def virsh(self, *arguments, text=None):
        done = subprocess.run(self.prefix + ["virsh", "-q", "-c", URI, *arguments], input=text,
                              capture_output=True, text=True, timeout=PATIENCE)
        expect(done.returncode == 0, arguments, done.stderr)
        return done.stdout

    def create(self, name, backing=SHARED):
        path = os.path.join(self.folder, name + ".xml")
        with open(path, "w") as f:
            f.write(DOMAIN % {"name": name, "backing": backing, "qemu": shutil.which("qemu-system-x86_64")})
        os.chmod(path, 0o644)
        self.virsh("create", path)

    def state(self, name):
        return self.virsh("domstate", name).strip()

    def becomes(self, name, state):
        """QEMU tells libvirt of what it was not asked for by libvirt, which is a moment later."""
        wait_until(lambda: self.state(name) == state, "%s to be %s, it is" % (name, state), lambda: self.state(name))

    def hmp(self, name, line):
        return self.virsh("qemu-monitor-command", name, "--hmp", line)

    def pid(self, name):
        path = os.path.join(self.folder, "libvirt", "qemu", "run", name + ".pid")
        with open(path) as f:
            return int(f.read())

    def end(self):
        for name in ("plain", "private", "third"):
            subprocess.run(self.prefix + ["virsh", "-q", "-c", URI, "destroy", name], capture_output=True,
                           timeout=PATIENCE)
        for daemon in ("libvirtd.pid", "virtlogd.pid"):
            path = os.path.join(self.folder, "libvirt", daemon)
            if os.path.exists(path):
                with open(path) as f:
                    pid = int(f.read())
                os.kill(pid, signal.SIGTERM)
                wait_until(lambda: not os.path.exists("/proc/%d" % pid), daemon + " to end")


def news_of(drive, name):
    def one():
        news = drive("news")
        return news if news and news["target"].endswith(name) else None
    return wait_until(one, "news of " + name)


def check(libvirt, drive):
    target = "libvirt:%s#plain" % URI
    drive.fails("ENOENT", "knows no domain 'nobody'", "open", "libvirt:%s#nobody" % URI)
    drive.fails("ENOTSUP", "QEMU's is needed", "open", "libvirt:test:///default#test")

    opened = drive("open", target, "w")
    expect(opened["format"].endswith("RAM shared") and opened["vcpus"] == 2, opened)
    expect(opened["ranges"] == "0+4000000", opened)
    drive("pause")
    libvirt.becomes("plain", "paused")
    words = libvirt.hmp("plain", "xp /8gx 0xf0000")
    want = b"".join(int(w, 16).to_bytes(8, "little") for line in words.split("\n") if ":" in line
                    for w in line.split(":")[1].split())
    expect(drive.read(0xf0000, 64, libvirt.folder) == want and any(want), "memory differs")
    expect(drive("registers", 1)["cr0"] & 1 in (0, 1), "no registers")
    drive("resume")
    libvirt.becomes("plain", "running")

    # The gdbstub, over a descriptor that libvirt hands to QEMU.
    drive("events")
    drive("write", 0x5000, "01020304")
    expect(drive.read(0x5000, 4, libvirt.folder) == bytes([1, 2, 3, 4]), "not written")
    libvirt.virsh("suspend", "plain")
    expect(drive("next", 300) is None, "an event of nothing")
    drive("pause")
    drive("resume")
    expect(libvirt.state("plain") == "paused", "a pause of libvirt's was ended")
    libvirt.virsh("resume", "plain")
    expect(drive("next", 1000) is None, "an event of nothing")
    libvirt.becomes("plain", "running")
    drive("noevents")
    expect("hvmi-gdb" not in libvirt.hmp("plain", "info chardev"), "the gdbstub is on")
    libvirt.becomes("plain", "running")
    drive("close")

    libvirt.create("private", "")
    opened = drive("open", "libvirt:%s#private" % URI)
    expect("shared" not in opened["format"], opened)
    expect(any("access shared" in line for line in drive.logged), drive.logged)
    drive("close")

    drive("watch", "libvirt:" + URI)
    expect(news_of(drive, "plain")["change"] == 1, "not present")
    libvirt.virsh("suspend", "plain")
    news = news_of(drive, "plain")
    expect(news["change"] == 4 and news["paused"] == 1, news)
    libvirt.virsh("resume", "plain")
    expect(news_of(drive, "plain")["change"] == 5, "not resumed")
    libvirt.create("third")
    expect(news_of(drive, "third")["change"] == 2, "not appeared")
    libvirt.virsh("destroy", "third")
    expect(news_of(drive, "third")["change"] == 3, "not gone")
    drive("nowatch")

    # A QEMU that hangs, and one that is killed, under us.
    drive("open", target, "w")
    drive("pause")
    data = drive.read(0xf0000, 4096, libvirt.folder)
    pid = libvirt.pid("plain")
    halt(pid)
    drive.fails("ETIMEDOUT", "does not answer", "registers", 0)
    os.kill(pid, signal.SIGCONT)
    wait_until(lambda: answers(drive), "it to answer")
    os.kill(pid, signal.SIGKILL)
    drive.fails("ESRCH", "is gone", "registers", 0)
    expect(drive.read(0xf0000, 4096, libvirt.folder) == data, "mapped RAM has gone")
    drive("close")
    wait_until(lambda: "plain" not in libvirt.virsh("list", "--all", "--name").split(), "libvirt to forget the domain")
    drive.fails("ENOENT", "", "open", target)


def test_libvirt(build, folder):
    libvirt = Libvirt(build, folder)
    try:
        libvirt.create("plain")
    except (AssertionError, subprocess.TimeoutExpired) as e:
        print("skipped: libvirt does not start a domain here:", e)
        sys.exit(SKIPPED)
    try:
        drive = Drive(libvirt.build, libvirt.prefix)
        check(libvirt, drive)
        drive.close()
    finally:
        libvirt.end()


if __name__ == "__main__":
    need("virsh", "libvirt-clients")
    need("libvirtd", "libvirt-daemon-system")
    run([test_libvirt])
