#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""objdump.py LIBHVMI [COUNT]: the instructions of this system's C library decode to the lengths and targets
that objdump finds."""

import ctypes
import re
import shutil
import subprocess
import sys

X86_64 = 3
NONE = 2**64 - 1
LINE = re.compile(r"^ *([0-9a-f]+):\t((?:[0-9a-f]{2} )+) *\t?(.*)$")
BRANCH = re.compile(r"(?:bnd |notrack )?(?:j[a-z]+|call|loop[a-z]*|xbegin)(?:,p[nt])? +(?:0x)?([0-9a-f]+)(?: <.*>)?$")


class Insn(ctypes.Structure):
    _fields_ = [("size", ctypes.c_size_t), ("gva", ctypes.c_uint64), ("target", ctypes.c_uint64),
                ("mode", ctypes.c_uint32), ("category", ctypes.c_uint32), ("flags", ctypes.c_uint32),
                ("len", ctypes.c_uint32), ("bytes", ctypes.c_uint8 * 16)]


def skip(why):
    print("skipped:", why)
    sys.exit(77)


def main():
    if not shutil.which("objdump"):
        skip("there is no objdump")
    maps = open("/proc/self/maps").read()
    libc = re.search(r"\S*/libc(?:-[0-9.]+)?\.so\S*", maps)
    if not libc:
        skip("this Python has no shared C library")
    hvmi = ctypes.CDLL(sys.argv[1])
    decode = hvmi.hvmi_insn_decode
    decode.argtypes = [ctypes.c_uint32, ctypes.c_uint64, ctypes.c_char_p, ctypes.c_size_t, ctypes.c_void_p,
                       ctypes.c_void_p]
    wanted = int(sys.argv[2]) if len(sys.argv) > 2 else 50000
    dump = subprocess.Popen(["objdump", "-d", "-w", "-j", ".text", "-M", "intel", libc.group()],
                            stdout=subprocess.PIPE, text=True)
    insn, seen, branches = Insn(size=ctypes.sizeof(Insn)), 0, 0
    for line in dump.stdout:
        match = LINE.match(line)
        if not match or "(bad)" in line:
            continue
        address, code, text = int(match[1], 16), bytes.fromhex(match[2]), match[3].strip()
        if re.fullmatch(r"(rex[.A-Z]*|data16|addr32|repz|repnz|lock|[cdefgs]s|notrack|bnd)*", text):
            continue            # prefixes on a line of their own
        status = decode(X86_64, address, code, len(code), ctypes.byref(insn), None)
        assert status == 0, "%s: status %d" % (line.rstrip(), status)
        # FWAIT is an instruction of its own, which objdump joins with the next.
        assert insn.len == len(code) or code[0] == 0x9b, "%s: length %d" % (line.rstrip(), insn.len)
        branch = BRANCH.match(text)
        if branch:
            assert insn.target == int(branch[1], 16), "%s: target %x" % (line.rstrip(), insn.target)
            branches += 1
        elif not text.startswith("xbegin"):
            assert insn.target == NONE, "%s: target %x" % (line.rstrip(), insn.target)
        seen += 1
        if seen == wanted:
            break
    dump.kill()
    dump.wait()
    if not seen:
        skip("objdump shows nothing of x86-64")
    print("%d instructions, %d of them branches, are as objdump has them" % (seen, branches))
    assert branches > seen // 50


main()
