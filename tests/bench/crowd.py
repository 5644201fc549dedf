#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Makes an image of a real Linux guest with many processes, for hvmi-bench: crowd.py OUT [--count 2000]."""

import argparse
import os
import re
import socket
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(1, os.path.join(HERE, "..", "guests"))
import guest as guests  # noqa: E402


def make_initramfs(folder):
    root = os.path.join(folder, "root")
    os.mkdir(root)
    subprocess.run([os.environ.get("CC", "gcc"), "-std=gnu11", "-O1", "-static", "-o",
                    os.path.join(root, "init"), os.path.join(HERE, "crowd.c")], check=True)
    path = os.path.join(folder, "initramfs")
    with open(path, "wb") as out:
        subprocess.run(["cpio", "--quiet", "-o", "-H", "newc"], input=b"init\n", stdout=out, cwd=root, check=True)
    return path


def make(arguments, folder):
    kernel = guests.fetch_kernel(arguments.kernel)
    console = os.path.join(folder, "console")
    here, there = socket.socketpair()
    process = guests.start([
        "qemu-system-x86_64", "-accel", "tcg,thread=single", "-machine", "q35", "-cpu", guests.INTEL,
        "-m", "%dM" % arguments.mib, "-nodefaults", "-no-user-config", "-display", "none",
        "-kernel", os.path.join(kernel, "vmlinuz"), "-initrd", make_initramfs(folder),
        "-append", guests.COMMAND_LINE + "pti=off crowd=%d" % arguments.count, "-serial", "file:" + console,
        "-chardev", "socket,id=qmp,fd=%d" % there.fileno(), "-mon", "chardev=qmp,mode=control"],
        pass_fds=[there.fileno()])
    there.close()
    try:
        deadline = time.monotonic() + arguments.timeout
        qmp = guests.Qmp(guests.Stream(here, deadline, lambda: process.poll() is None))
        told = None
        while not told:
            time.sleep(0.5)
            if time.monotonic() > deadline or process.poll() is not None:
                raise guests.Failure("the guest did not start its processes")
            with open(console, errors="replace") as f:
                told = re.search(r"crowd: (\d+) started", f.read())
        time.sleep(2)
        qmp.command("stop")
        qmp.command("pmemsave", val=0, size=arguments.mib << 20, filename=os.path.abspath(arguments.out))
        qmp.command("quit")
        process.wait(30)
    finally:
        guests.kill(process)
        here.close()
    guests.make_sparse(arguments.out)
    print("%s: %s processes were started" % (arguments.out, told.group(1)))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", metavar="OUT")
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--kernel", default="6.1-cloud", help="as scripts/kernel-fetch.sh knows it")
    parser.add_argument("--mib", type=int, default=512, help="of RAM")
    parser.add_argument("--timeout", type=float, default=300)
    arguments = parser.parse_args()
    guests.catch_signals()
    try:
        with tempfile.TemporaryDirectory(prefix="hvmi-") as folder:
            make(arguments, folder)
    except guests.Skipped as reason:
        print("skipped: %s" % reason)
        return guests.SKIPPED
    except guests.Failure as reason:
        print("failed: %s" % reason)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
