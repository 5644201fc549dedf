#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Runs the conformance suite on QEMU machines with the cooperating guest, or on an image of one.

    live.py qemu --build DIR [--cycles N]    two live machines
    live.py dump --build DIR                 an image, as dump-guest-memory writes it
    live.py boot --build DIR                 one live machine, until it is interrupted: says its target

Exit status 77: something that is needed is not there."""

import argparse
import json
import os
import shutil
import socket
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, ".."))
sys.path.insert(0, os.path.join(HERE, "..", "rigs"))
import children  # noqa: E402
import images  # noqa: E402
from children import Failure, Skipped  # noqa: E402

PATIENCE = 240      # seconds until a guest has booted, on a loaded machine


class Machine:
    def __init__(self, folder, name):
        self.console = os.path.join(folder, name + ".console")
        self.path = os.path.join(folder, name + ".qmp")
        self.log = os.path.join(folder, name + ".log")
        kernel = children.fetch("kernel-fetch.sh", "6.1-cloud")
        with open(self.log, "wb") as log:
            self.process = children.start([
                "qemu-system-x86_64", "-accel", "tcg,thread=single", "-machine", "q35,memory-backend=ram",
                "-object", "memory-backend-memfd,id=ram,size=256M,share=on", "-m", "256M",
                "-cpu", "Skylake-Client-v1", "-smp", "2", "-nodefaults", "-no-user-config",
                "-display", "none", "-no-reboot", "-kernel", os.path.join(kernel, "vmlinuz"),
                "-initrd", os.path.join(images.guest(), "initramfs"),
                "-append", children.COMMAND_LINE + "oops=panic pti=off",
                "-serial", "file:" + self.console, "-qmp", "unix:%s,server=on,wait=off" % self.path,
                "-qmp", "unix:%s.mine,server=on,wait=off" % self.path], stdout=log, stderr=log)

    def text(self):
        with open(self.console, errors="replace") as f:
            return f.read()

    def wait(self):
        end = time.monotonic() + PATIENCE
        while not os.path.exists(self.console) or "GUEST: up" not in self.text():
            if self.process.poll() is not None or time.monotonic() > end:
                raise Failure("the guest did not boot:\n%s" % self.tail())
            time.sleep(0.2)

    def dump(self, path):
        sock = socket.socket(socket.AF_UNIX)
        sock.settimeout(PATIENCE)
        sock.connect(self.path + ".mine")
        with sock.makefile("rw") as stream:
            stream.readline()
            for name, arguments in (("qmp_capabilities", {}), ("dump-guest-memory", {
                    "paging": False, "protocol": "file:" + path})):
                stream.write(json.dumps({"execute": name, "arguments": arguments}) + "\n")
                stream.flush()
                while True:
                    answer = json.loads(stream.readline())
                    if "error" in answer:
                        raise Failure("%s: %s" % (name, answer["error"]["desc"]))
                    if "return" in answer:
                        break
        sock.close()

    def tail(self):
        text = ""
        for path in (self.log, self.console):
            if os.path.exists(path):
                with open(path, errors="replace") as f:
                    text += "".join("  | " + line.rstrip() + "\n" for line in f.readlines()[-30:])
        return text


def suite(build, *arguments):
    command = [os.path.join(build, "tests", "conformance", "hvmi-conformance"),
               "--module-dir", os.path.join(build, "hvmi"), "--timeout", "120"]
    child = children.start(command + list(arguments))
    try:
        return child.wait()
    finally:
        children.kill(child)


def run(what, build, cycles, folder):
    if what != "dump" and not os.path.exists(os.path.join(build, "hvmi", "hvmi-backend-qemu.so")):
        raise Skipped("the qemu backend was not built")
    machines = [Machine(folder, name) for name in (("one", "two") if what == "qemu" else ("one",))]
    try:
        for machine in machines:
            machine.wait()
        if what == "boot":
            print("qemu:" + machines[0].path, flush=True)
            machines[0].process.wait()
            return 0
        if what == "dump":
            image = os.path.join(folder, "guest.elf")
            machines[0].dump(image)
            return suite(build, image, "--cycles", str(cycles))
        status = suite(build, "qemu:" + machines[0].path, "--second", "qemu:" + machines[1].path,
                       "--cycles", str(cycles))
        if status:
            print(machines[0].tail())
        return status
    finally:
        for machine in machines:
            children.kill(machine.process)


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("qemu", "dump", "boot"))
    parser.add_argument("--build", required=True, help="the build folder")
    parser.add_argument("--cycles", type=int, default=1000)
    arguments = parser.parse_args()
    children.catch_signals()
    if not shutil.which("qemu-system-x86_64"):
        print("live.py: qemu-system-x86_64 is not there (package qemu-system-x86)", file=sys.stderr)
        return children.SKIPPED
    try:
        with tempfile.TemporaryDirectory(prefix="hvmi-conformance.") as folder:
            return run(arguments.what, os.path.abspath(arguments.build), arguments.cycles, folder)
    except Skipped as e:
        print("live.py: skipped: %s" % e, file=sys.stderr)
        return children.SKIPPED
    except Failure as e:
        print("live.py: %s" % e, file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
