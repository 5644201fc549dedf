#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Turns the snapshot of a real Windows into what the backends open: snapshot.py ARCHIVE FOLDER.

FOLDER gets machine.sim (all registers) and machine.elf (a core as QEMU writes it, which lacks the
MSRs), machine.dmp (a crash dump of Windows), run-*.raw (what machine.sim loads) and answers.json.
"""

import json
import pathlib
import struct
import sys
import tarfile

PAGE = 4096
SEGMENTS = ("cs", "ds", "es", "fs", "gs", "ss")


def read(archive):
    """Pages by address, and the two JSON files."""
    pages, texts = {}, {}
    with tarfile.open(archive) as tar:
        for member in tar:
            path = pathlib.PurePath(member.name)
            if path.suffix == ".bin":
                pages[int(path.stem, 16)] = tar.extractfile(member).read()
            elif path.name in ("context.json", "answers.json"):
                texts[path.name] = json.load(tar.extractfile(member))
    return pages, texts["context.json"], texts["answers.json"]


def runs_of(pages):
    """[(gpa, bytes)] of pages that follow each other."""
    runs = []
    for gpa in sorted(pages):
        if runs and runs[-1][0] + len(runs[-1][1]) == gpa:
            runs[-1][1].extend(pages[gpa])
        else:
            runs.append((gpa, bytearray(pages[gpa])))
    return runs


def sim(folder, runs, context):
    names = {"gs_base": "gs.base", "kernel_gs_base": "kernel_gs_base", "rflags": "rflags",
             "idtr": "idtr.base", "idtl": "idtr.limit", "gdtr": "gdtr.base", "gdtl": "gdtr.limit"}
    for name in ("rax rbx rcx rdx rsi rdi rbp rsp r8 r9 r10 r11 r12 r13 r14 r15 rip cr0 cr3 cr4 cr8 "
                 "efer star lstar cstar").split():
        names[name] = name
    lines = ["arch x86", "static"]
    for gpa, data in runs:
        part = "run-%x.raw" % gpa
        (folder / part).write_bytes(data)
        lines += ["ram 0x%x 0x%x" % (gpa, len(data)), "load 0x%x %s" % (gpa, part)]
    lines += ["vcpu 0 %s 0x%x" % (names[name], context[name]) for name in names]
    (folder / "machine.sim").write_text("\n".join(lines) + "\n")


def crash(folder, runs, context):
    """A crash dump with a bitmap, as Windows writes since 8."""
    header = bytearray(b"PAGE" * (0x2000 // 4))
    header[4:8] = b"DU64"
    struct.pack_into("<IIQ", header, 8, 15, 17763, context["cr3"])
    struct.pack_into("<II", header, 0x30, 0x8664, 1)
    struct.pack_into("<I", header, 0xF98, 5)
    record = 0x348
    header[record:record + 0x4D0] = bytes(0x4D0)
    struct.pack_into("<I", header, record + 0x30, 0x10000F)
    struct.pack_into("<I", header, record + 0x44, context["rflags"])
    for i, name in enumerate("rax rcx rdx rbx rsp rbp rsi rdi r8 r9 r10 r11 r12 r13 r14 r15 rip".split()):
        struct.pack_into("<Q", header, record + 0x78 + 8 * i, context[name])
    frames = [gpa // PAGE + i for gpa, data in runs for i in range(len(data) // PAGE)]
    bits = max(frames) + 1
    bitmap = bytearray((bits + 7) // 8)
    for frame in frames:
        bitmap[frame // 8] |= 1 << frame % 8
    first = (0x2038 + len(bitmap) + PAGE - 1) // PAGE * PAGE
    head = b"FDMPDUMP" + bytes(24) + struct.pack("<QQQ", first, len(frames), bits)
    body = (bytes(header) + head + bytes(bitmap)).ljust(first, b"\0")
    (folder / "machine.dmp").write_bytes(body + b"".join(bytes(data) for _, data in runs))


def qemu_state(c):
    """QEMUCPUState, version 1: target/i386/arch_dump.c of QEMU."""
    state = struct.pack("<II", 1, 440)
    for name in "rax rbx rcx rdx rsi rdi rsp rbp".split():
        state += struct.pack("<Q", c[name])
    state += struct.pack("<8Q", *(c["r%d" % i] for i in range(8, 16)))
    state += struct.pack("<QQ", c["rip"], c["rflags"])

    def segment(selector, limit, flags, base):
        return struct.pack("<IIIIQ", selector, limit, flags, 0, base)

    for name in SEGMENTS:
        s = c[name]
        base = c["gs_base"] if name == "gs" else s["base"]
        state += segment(s["selector"], s["limit"], s["flags"] << 8, base)
    state += segment(0, 0, 0, 0) * 2
    state += segment(0, c["gdtl"], 0, c["gdtr"]) + segment(0, c["idtl"], 0, c["idtr"])
    state += struct.pack("<5Q", c["cr0"], 0, 0, c["cr3"], c["cr4"])
    return state + struct.pack("<Q", c["kernel_gs_base"])


def note(name, kind, desc):
    name += b"\0"
    pad = lambda data: data + bytes(-len(data) % 4)
    return struct.pack("<III", len(name), len(desc), kind) + pad(name) + pad(desc)


def elf(folder, runs, context):
    notes = note(b"CORE", 1, bytes(336)) + note(b"QEMU", 0, qemu_state(context))
    count = len(runs) + 1
    at = 64 + 56 * count
    out = struct.pack("<16sHHIQQQIHHHHHH", b"\x7fELF\2\1\1", 4, 62, 1, 0, 64, 0, 0, 64, 56, count, 0,
                      0, 0)
    out += struct.pack("<IIQQQQQQ", 4, 0, at, 0, 0, len(notes), len(notes), 4)
    at += len(notes)
    for gpa, data in runs:
        out += struct.pack("<IIQQQQQQ", 1, 0, at, 0, gpa, len(data), len(data), 0)
        at += len(data)
    with open(folder / "machine.elf", "wb") as file:
        file.write(out + notes)
        for _, data in runs:
            file.write(data)


def main():
    archive, folder = sys.argv[1], pathlib.Path(sys.argv[2])
    pages, context, answers = read(archive)
    runs = runs_of(pages)
    folder.mkdir(parents=True, exist_ok=True)
    sim(folder, runs, context)
    elf(folder, runs, context)
    crash(folder, runs, context)
    (folder / "answers.json").write_text(json.dumps(answers))


if __name__ == "__main__":
    main()
