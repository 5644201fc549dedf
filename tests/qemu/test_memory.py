#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Memory of QEMU's machines is what QEMU itself says, byte for byte, and lies where it says."""

import os
import random
import shutil
import tempfile

from machine import Drive, Machine, expect, need, run

MIB = 1 << 20


def patterned(folder, length=3 * MIB):
    """A file of bytes that are nowhere else."""
    path = os.path.join(folder, "pattern")
    with open(path, "wb") as f:
        f.write(random.Random(1).randbytes(length))
    return path


def ranges_of(opened):
    return [tuple(int(n, 16) for n in r.split("+")) for r in opened["ranges"].split(",")]


def compare(drive, machine, folder, ranges, most=1 << 30):
    drive("pause")
    for gpa, length in ranges:
        length = min(length, most)
        expect(drive.read(gpa, length, folder) ==
               machine.pmemsave(gpa, length, os.path.join(folder, "saved")),
               "memory at %#x differs" % gpa)
    drive("resume")


def check(build, folder, arguments, want, way, mapped, most=1 << 30, prefix=(), program="qemu-system-x86_64"):
    machine = Machine(folder, "m", *arguments, program=program)
    drive = Drive(build, prefix)
    opened = drive("open", machine.target)
    got = ranges_of(opened)
    expect(got == want, "ranges", [tuple(map(hex, r)) for r in got])
    expect(opened["format"].endswith(way), opened["format"])
    expect(bool(opened["flags"] & 2) == mapped, "flags", opened["flags"])
    compare(drive, machine, folder, got, most)
    expect(machine.status() == "running", machine.status())
    expect(machine.gdbstub_is_off(), "a gdbstub is on")
    drive("close")
    drive.close()
    machine.close()
    return drive.logged


def memfd(size):
    return ["-object", "memory-backend-memfd,id=ram,size=%s,share=on" % size, "-m", size]


def test_q35_memfd(build, folder):
    pattern = patterned(folder)
    check(build, folder, ["-machine", "q35,memory-backend=ram", *memfd("96M"), "-smp", "2",
                          "-device", "loader,file=%s,addr=0x5000000,force-raw=on" % pattern],
          [(0, 96 * MIB)], "RAM shared", True)


def test_pc_above_4g_file_with_vga(build, folder):
    """RAM that is split, in a file, with a hole for the screen; and a second backend that is none."""
    pattern = patterned(folder)
    ram = os.path.join(folder, "ram")
    check(build, folder, ["-machine", "pc,memory-backend=ram,max-ram-below-4g=32M", "-vga", "std",
                          "-object", "memory-backend-file,id=ram,size=96M,share=on,mem-path=" + ram,
                          "-m", "96M",
                          "-device", "loader,file=%s,addr=0x100000000,force-raw=on" % pattern],
          [(0, 0xa0000), (0xc0000, 32 * MIB - 0xc0000), (1 << 32, 64 * MIB)], "RAM shared", True)


def test_q35_5g(build, folder):
    """As large as they are in earnest: below 4 GiB are 2 GiB. Only pieces are compared."""
    pattern = patterned(folder, 1 * MIB)
    check(build, folder, ["-machine", "q35,memory-backend=ram", *memfd("5G"),
                          "-device", "loader,file=%s,addr=0x100000000,force-raw=on" % pattern],
          [(0, 2048 * MIB), (1 << 32, 3072 * MIB)], "RAM shared", True, most=2 * MIB)


def test_two_nodes(build, folder):
    """NUMA: a backend for each node."""
    pattern = patterned(folder)
    arguments = ["-machine", "q35", "-m", "64M", "-smp", "2"]
    for node in (0, 1):
        arguments += ["-object", "memory-backend-memfd,id=node%d,size=32M,share=on" % node,
                      "-numa", "node,nodeid=%d,cpus=%d,memdev=node%d" % (node, node, node)]
    arguments += ["-device", "loader,file=%s,addr=0x1f00000,force-raw=on" % pattern]
    check(build, folder, arguments, [(0, 32 * MIB), (32 * MIB, 32 * MIB)], "RAM shared", True)


def test_not_shared(build, folder):
    pattern = patterned(folder)
    logged = check(build, folder, ["-machine", "pc", "-m", "96M",
                                   "-device", "loader,file=%s,addr=0x5000000,force-raw=on" % pattern],
                   [(0, 96 * MIB)], "RAM copied", False)
    expect(any("memory-backend-memfd" in line and "share=on" in line for line in logged), logged)


def as_nobody(folder, machine_path):
    os.chmod(folder, 0o755)
    os.chmod(machine_path, 0o777)
    return ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]


def test_no_permission(build, folder):
    """Who may use the monitor but not look into the process reads slowly, or maps the file he may read."""
    if os.geteuid():
        print("test_no_permission: skipped, it needs root to be somebody else")
        return
    pattern = patterned(folder, 65536)
    ram = os.path.join(folder, "ram")
    with tempfile.TemporaryDirectory(prefix="hvmi-qemu.") as elsewhere:
        os.chmod(elsewhere, 0o777)
        program = os.path.join(elsewhere, "build")
        os.makedirs(os.path.join(program, "tests", "qemu"))
        shutil.copytree(os.path.join(build, "hvmi"), os.path.join(program, "hvmi"))
        shutil.copy(os.path.join(build, "libhvmi.so.1"), program)
        shutil.copy(os.path.join(build, "tests", "qemu", "drive"), os.path.join(program, "tests", "qemu"))
        for shared in (False, True):
            backend = ["-machine", "q35", "-m", "32M"] if not shared else [
                "-machine", "q35,memory-backend=ram", "-m", "32M", "-object",
                "memory-backend-file,id=ram,size=32M,share=on,mem-path=" + ram]
            machine = Machine(folder, "m", *backend,
                              "-device", "loader,file=%s,addr=0x1000000,force-raw=on" % pattern)
            if shared:
                os.chmod(ram, 0o644)
            drive = Drive(program, ["env", "LD_LIBRARY_PATH=" + program] + as_nobody(folder, machine.path))
            opened = drive("open", machine.target)
            expect(opened["format"].endswith("RAM shared" if shared else "RAM through the monitor"), opened)
            drive("pause")
            path = os.path.join(elsewhere, "read")
            drive("read", 0x1000001, 65536 - 3, path)
            with open(path, "rb") as f, open(pattern, "rb") as g:
                expect(f.read() == g.read()[1:-2], "what the monitor says differs")
            expect(shared or any("CAP_SYS_PTRACE" in line for line in drive.logged), drive.logged)
            drive("resume")
            drive("close")
            drive.close()
            machine.close()


def test_arm64(build, folder):
    if not shutil.which("qemu-system-aarch64"):
        print("test_arm64: skipped, qemu-system-aarch64 is not there (package qemu-system-arm)")
        return
    pattern = patterned(folder)
    check(build, folder, ["-machine", "virt,memory-backend=ram", "-cpu", "cortex-a57", *memfd("64M"),
                          "-device", "loader,file=%s,addr=0x42000000,force-raw=on" % pattern],
          [(0x40000000, 64 * MIB)], "RAM shared", True, program="qemu-system-aarch64")


if __name__ == "__main__":
    need("setpriv", "util-linux")
    run([test_q35_memfd, test_pc_above_4g_file_with_vga, test_q35_5g, test_two_nodes, test_not_shared,
         test_no_permission, test_arm64])
