#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Runs real Xen, a real dom0 and a real PVH guest in an emulated machine, and tests libhvmi in dom0.

README.md says what the rigs are, what one needs, and how to work with one that keeps running."""

import argparse
import contextlib
import fcntl
import json
import os
import re
import shlex
import shutil
import sys
import tarfile
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(1, os.path.join(HERE, ".."))
import images  # noqa: E402
import machine  # noqa: E402
from children import SKIPPED, Failure, Skipped, catch_signals  # noqa: E402

# The limits are for a machine that has much else to do: alone each needs a fifth of them.
RIGS = {
    "svm": dict(emulator=machine.Qemu, suite="bookworm", xen="4.17", timeout=2400),
    "vmx": dict(emulator=machine.Bochs, suite="bookworm", xen="4.17", timeout=2400),
    "vmx-4.20": dict(emulator=machine.Bochs, suite="trixie", xen="4.20", timeout=2400),
}
SUMMARY = re.compile(r"^(\d+) passed, (\d+) failed(?:, (\d+) skipped)?$", re.MULTILINE)


def log(text):
    print("rig: " + text, file=sys.stderr, flush=True)


def scripts_of(folder):
    for where, _, names in sorted(os.walk(folder)):
        for name in sorted(names):
            yield os.path.join(where, name)


def settings(pairs):
    """As the shell reads them."""
    split = (pair.partition("=") for pair in pairs)
    return "".join("%s=%s\n" % (name, shlex.quote(value)) for name, _, value in split).encode()


def make_payload(args, system, tree, guest=None):
    payload = images.Payload()
    if args.build:
        with open(os.path.join(system, "dom0.img.libraries")) as f:
            payload.add_build(args.build, tree, set(f.read().split()))
    payload.add(os.path.join(HERE, "../live/compare.sh"), "rig/compare.sh")
    dom0 = os.path.join(HERE, "dom0")
    for path in scripts_of(dom0):
        payload.add(path, "rig/" + os.path.relpath(path, dom0))
    if guest:
        payload.add_text(settings(args.set), "rig/settings")
        for name in ("vmlinuz", "initramfs"):
            payload.add(os.path.join(guest, name), "root/guest/" + name)
    for path in args.add:
        payload.add(path, "root/" + os.path.basename(path))
    return payload


def unpack_answer(answer, out):
    results = os.path.join(out, "results")
    shutil.rmtree(results, ignore_errors=True)
    os.makedirs(results)
    with tarfile.open(fileobj=answer) as tar:
        for member in tar:
            if member.isfile() and ".." not in member.name.split("/"):
                tar.extract(member, results, set_attrs=False)


def verdict(output, status):
    found = SUMMARY.findall(output.replace("\r", ""))
    if not found:
        raise Failure("the script gave no summary (its status is %d)" % status)
    passed, failed = int(found[-1][0]), int(found[-1][1])
    return 0 if status == 0 and passed and not failed else 1


def prepare(name):
    rig = RIGS[name]
    rig["emulator"].check()
    system, tree = images.system(rig)
    boot = rig["emulator"].boot_image(system)
    return system, tree, images.guest(), boot


@contextlib.contextmanager
def booted(args, out, command, mode):
    """(emulator, disk, deadline): dom0 begins with the command once the guests are up."""
    rig = RIGS[args.rig]
    system, tree, guest, boot = prepare(args.rig)
    payload = make_payload(args, system, tree, guest)
    payload.add_text(command, "root/command")
    disk = machine.Disk(out)
    disk.create()
    disk.request(payload.finish(), mode, args.guests)
    begun = time.monotonic()
    emulator = rig["emulator"](out, boot, args.vcpus)
    try:
        yield emulator, disk, time.monotonic() + (args.timeout or rig["timeout"])
    except Failure as e:
        raise Failure("%s\n%s" % (e, emulator.tail()))
    finally:
        emulator.close()
        disk.remove()
        log("%s ran %.0f s and used %.0f s of a processor" % (args.rig, time.monotonic() - begun, emulator.used()))


def run(args, out):
    with open(args.script, "rb") as f:
        command = f.read()
    with booted(args, out, command, "once") as (emulator, disk, deadline):
        output = emulator.follow(deadline, emulator.ended)
        answer = disk.answer(1)
        if not answer:
            raise Failure("dom0 ended before the script did")
        status, archive = answer
        unpack_answer(archive, out)
        return verdict(output, status)


def shell(args, out):
    system, tree = images.system(RIGS[args.rig])
    with booted(args, out, b"", "stay") as (emulator, disk, deadline):
        with open(os.path.join(out, "rig.json"), "w") as f:
            json.dump(dict(system=system, tree=tree), f)
        emulator.follow(deadline, lambda: disk.answer(1))
        log("ready: rig.py exec %s COMMAND" % out)
        emulator.follow(float("inf"), emulator.ended, show=False)
    return 0


def execute(args, out):
    with open(os.path.join(out, "rig.json")) as f:
        state = json.load(f)
    with open(os.path.join(out, "lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        payload = make_payload(args, state["system"], state["tree"])
        payload.add_text(" ".join(args.command_line).encode() + b"\n", "root/command")
        disk, log_file = machine.Disk(out), machine.Log(os.path.join(out, "dom0.log"))
        if not disk.exists():
            raise Failure("no rig runs in %s" % out)
        log_file.to_end()
        number = disk.request(payload.finish(), "once" if args.off else "stay")
        deadline = time.monotonic() + (args.timeout or 600)
        while True:
            answer = disk.answer(number) if disk.exists() else None
            log_file.show()
            if answer:
                unpack_answer(answer[1], out)
                return answer[0]
            if not disk.exists():
                raise Failure("the rig is gone")
            if time.monotonic() > deadline:
                raise Failure("it took too long")
            time.sleep(0.1)


def common(parser):
    parser.add_argument("--timeout", type=float, metavar="S", help="seconds")
    parser.add_argument("--add", action="append", default=[], metavar="FILE", help="a file for dom0's /root")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    sub = commands.add_parser("prepare", help="fetch and build what rigs boot (all, if none is named)")
    sub.add_argument("rigs", nargs="*", metavar="RIG")
    for name, text in (("run", "boot, run a script in dom0, and power off"),
                       ("shell", "boot, and keep running for exec")):
        sub = commands.add_parser(name, help=text)
        sub.add_argument("rig", choices=RIGS, metavar="RIG", help=", ".join(RIGS))
        sub.add_argument("--build", required=name == "run", metavar="DIR", help="the build folder that is tested")
        sub.add_argument("--out", required=name == "shell", metavar="DIR",
                         help="keep serial.log, dom0.log and results/ here")
        if name == "run":
            sub.add_argument("--script", default=os.path.join(HERE, "dom0/run.sh"), metavar="FILE",
                             help="the script for dom0 (dom0/run.sh)")
        sub.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="a variable for dom0/lib.sh")
        sub.add_argument("--guests", type=int, default=1, metavar="N", help="how many run when the script begins")
        sub.add_argument("--vcpus", type=int, default=1, metavar="N", help="processors of the machine")
        common(sub)
    sub = commands.add_parser("exec", help="run a shell command in the dom0 of a rig that keeps running")
    sub.add_argument("out", metavar="DIR", help="what --out was")
    sub.add_argument("--build", metavar="DIR", help="bring over this build folder before")
    sub.add_argument("--off", action="store_true", help="power off afterwards")
    common(sub)
    sub.add_argument("command_line", nargs=argparse.REMAINDER, metavar="COMMAND")
    args = parser.parse_args()
    catch_signals()
    try:
        if args.command == "prepare":
            for name in args.rigs or RIGS:
                prepare(name)
            return 0
        if args.out:
            out = os.path.abspath(args.out)
            os.makedirs(out, exist_ok=True)
            return dict(run=run, shell=shell, exec=execute)[args.command](args, out)
        with tempfile.TemporaryDirectory(prefix="rig.") as out:
            return run(args, out)
    except Skipped as e:
        log("skipped: %s" % e)
        return SKIPPED
    except Failure as e:
        log("FAILED: %s" % e)
        return 1


if __name__ == "__main__":
    sys.exit(main())
