#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""counting.py [--update] COUNT-PROGRAM: instructions of each operation, by valgrind's callgrind,
next to those in instructions.txt. One that takes more than 10 % more fails. Exit status 77: no
valgrind, or a build whose instructions say nothing (not gcc's release build)."""
import os
import re
import shutil
import subprocess
import sys
import tempfile

FIGURES = os.path.join(os.path.dirname(os.path.abspath(__file__)), "instructions.txt")
TOLERANCE = 1.10


def instructions(program, case, times):
    with tempfile.TemporaryDirectory() as folder:
        result = subprocess.run(
            ["valgrind", "--tool=callgrind", f"--callgrind-out-file={folder}/out", program, case,
             str(times)], capture_output=True, text=True, timeout=300)
    if result.returncode:
        sys.exit(f"{case}: {result.stderr}")
    return int(re.search(r"Collected : (\d+)", result.stderr).group(1))


def main():
    update = "--update" in sys.argv
    program = sys.argv[-1]
    if not shutil.which("valgrind"):
        print("valgrind is missing")
        return 77
    with open(FIGURES, encoding="ascii") as f:
        committed = {line.split()[0]: int(line.split()[1]) for line in f if line[0] != "#"}
    failed, lines = False, []
    with open("/proc/cpuinfo", encoding="utf-8") as f:
        avx2 = " avx2" in f.read()
    for case, figure in committed.items():
        if case.startswith("search") and not avx2:
            print(f"{case:24} skipped: no AVX2 here")
            lines.append(f"{case} {figure}\n")
            continue
        # What is done once is in both.
        few, many = (2000, 12000) if "64" not in case else (20, 120)
        count = (instructions(program, case, many) - instructions(program, case, few)) / (many - few)
        regressed = count > figure * TOLERANCE
        failed |= regressed
        print(f"{case:24} {count:10.0f}  committed {figure:10}{'  TOO MANY' if regressed else ''}")
        lines.append(f"{case} {count:.0f}\n")
    if update:
        with open(FIGURES, encoding="ascii") as f:
            head = [line for line in f if line[0] == "#"]
        with open(FIGURES, "w", encoding="ascii") as f:
            f.writelines(head + lines)
        return 0
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
