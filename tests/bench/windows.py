#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What Windows guests cost: windows.py WINDOWS-BENCH.

Makes an image of 4 GiB with holes, without registers, a guest of 500 processes with paths, and a PDB of
10 MB, and measures each next to a baseline; of the ISF files the largest.
"""

import os
import pathlib
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(1, str(HERE.parent / "windows"))
import guest as guests  # noqa: E402
import processes  # noqa: E402
import system  # noqa: E402

PROCESSES, GIB = 500, 1 << 30


def make_guest(folder):
    """With 500 processes; page tables of their own are what takes most of it."""
    guests.RAM = 256 << 20
    guest = guests.Guest("1809-x64", folder)
    system.populate(guest)
    for i in range(PROCESSES - len(guest.processes)):
        processes.create(guest, "many%d.exe" % i, 0x1000 + 4 * i, 4, created=100 + i, session=1,
                         path=processes.VOLUME + "\\Program Files\\Many\\many%d.exe" % i)
    guest.save(folder)
    return folder / "memory.raw"


def make_sparse(folder):
    """Its kernel in the upper half of 4 GiB, with data that is no page table before it."""
    guests.RAM = 4 * GIB
    init = guests.Memory.__init__

    def high(memory, size, seed=1):
        init(memory, 64 << 20, seed)
        memory.size = size
        memory.free = [gpa + 3 * GIB for gpa in memory.free]
        memory.contiguous = lambda count: contiguous(memory, count)

    def contiguous(memory, count):
        start = 2 * GIB + (64 << 20)
        for i in range(count):
            memory.pages[start + 4096 * i] = bytearray(4096)
        return start

    guests.Memory.__init__ = high
    guest = guests.Guest("1809-x64", folder)
    guests.Memory.__init__ = init
    system.populate(guest)
    guest.save(folder)
    path = folder / "memory.raw"
    with open(path, "r+b") as file:
        for at in range(16 << 20, 2 * GIB, 64 << 20):
            file.seek(at)
            file.write(os.urandom(4 << 20))
    return path


def make_pdb(folder):
    lines = []
    for i in range(11500):
        lines.append("struct type_%d { struct type_%d *next; %s };" % (
            i, i // 2, " ".join("unsigned int member_%d_of_it;" % k for k in range(48))))
        lines.append("struct type_%d variable_of_type_%d;" % (i, i))
    (folder / "types.c").write_text("\n".join(lines) + "\nvoid start(void) { }\n")
    subprocess.run(["clang", "--target=x86_64-pc-windows-msvc", "-O0", "-g", "-gcodeview", "-c",
                    folder / "types.c", "-o", folder / "types.obj"], check=True)
    subprocess.run(["lld-link", "/nologo", "/subsystem:native", "/nodefaultlib", "/entry:start",
                    "/debug", "/opt:noref", "/pdb:%s" % (folder / "types.pdb"),
                    "/out:%s" % (folder / "types.exe"), folder / "types.obj"], check=True)
    return folder / "types.pdb"


def main():
    def run(kind, path):
        size = os.stat(path)
        print("%s of %.1f MiB, %.1f MiB of it data" % (path.name, size.st_size / 2 ** 20,
                                                     size.st_blocks / 2 ** 11), flush=True)
        subprocess.run([sys.argv[1], kind, path], check=True)

    with tempfile.TemporaryDirectory() as name:
        for kind, make in (("attach", make_sparse), ("list", make_guest), ("load", make_pdb)):
            folder = pathlib.Path(name) / kind
            folder.mkdir()
            run(kind, make(folder))
    run("load", max((guests.DATA / "isf").glob("*.xz"), key=lambda path: path.stat().st_size))


if __name__ == "__main__":
    main()
