#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Look at a guest while it runs: in a storm of changes, where nothing that is listed may be wrong, and at
rest, where everything must be as the guest says."""

import argparse
import os
import pathlib
import subprocess
import sys
import urllib.parse

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(1, os.path.join(HERE, "..", "guests"))
import check  # noqa: E402
import guest as guests  # noqa: E402
import truth  # noqa: E402


class Recorder(check.Checker):
    """Asks all that the check asks, while the guest is at rest, and remembers the answers: what the guest
    says afterwards is part of what they are compared with."""

    every = 4       # each question is a program that recognises the guest anew

    def __init__(self, tools, target, told):
        super().__init__(tools, pathlib.Path(target), told)
        self.target, self.answers, self.asking = target, {}, True

    def run(self, tool, *arguments, status=0, raw=False):
        key = (tool, *map(str, arguments))
        if self.asking:
            command = [self.tools / ("hvmi-" + tool), self.target, *key[1:]]
            self.answers[key] = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                               timeout=300, check=False)
        done = self.answers[key]
        if done.returncode != status:
            raise AssertionError(f"{key} ended with {done.returncode}: {done.stderr.decode()}")
        return done.stdout if raw else done.stdout.decode()

    def check_all(self):
        super().check_all()
        self.test("every thread, paused", lambda wrong: self.check_tasks(wrong, "--threads", "--pause"))
        self.test("every module, paused", self.check_paused_modules)

    def check_paused_modules(self, wrong):
        if self.json("modules", "--pause") != self.json("modules"):
            wrong.append("they are others than those of the running guest")

    def test(self, name, function):
        if not self.asking:
            super().test(name, function)
            return
        try:
            function([])
        except (AssertionError, KeyError, ValueError, subprocess.TimeoutExpired):
            pass                # told again when it is compared


def say(path, section):
    """A console's log with what the guest says of itself, as compare.sh reads it."""
    tasks = [t for t in section["tasks"] if t["pid"] == t["tgid"]]
    text = "boot\r\nGUEST: begin ps\r\n"
    text += "".join("%d %d %s\r\n" % (t["pid"], t["ppid"], check.escape(check.bytes_of(t["comm"])))
                    for t in tasks)
    text += "GUEST: end ps\r\nGUEST: begin modules\r\n"
    text += "".join("%s %d %d - %s %s\r\n" % (m["name"], m["size"], m["refs"], m["state"], m["address"])
                    for m in section["modules"])
    text += "GUEST: end modules\r\n"
    process = next(p for p in section["processes"] if p["cmdline"].startswith("actor%00memory%00"))
    text += "GUEST: begin maps %d\r\n" % process["pid"]
    text += "".join("%s-%s %s %08x %s %d %s\r\n" % (
        m["start"][2:], m["end"][2:], m["perms"], int(m["offset"], 16), m["dev"], m["inode"],
        urllib.parse.unquote(m["path"])) for m in process["maps"])
    text += "GUEST: end maps %d\r\n" % process["pid"]
    path.write_text(text, newline="")
    return text


def check_compare(tools, target, folder, section):
    """compare.sh finds that all is as the guest said, and finds what is not."""
    failed = 0
    log = folder / "said.log"
    text = say(log, section)
    shell = ["/bin/busybox", "sh", os.path.join(HERE, "compare.sh"), target, str(log), str(tools)]
    wrong = text.replace("GUEST: begin modules\r\n", "GUEST: begin modules\r\nnone 1 0 - Live 0x1\r\n")
    for what, content, status in (("agrees", text, 0), ("sees a module that is not there", wrong, 1),
                                  ("sees that nothing was said", "boot\r\n", 1)):
        log.write_text(content, newline="")
        done = subprocess.run(shell, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=300,
                              check=False)
        good = done.returncode == status
        failed += not good
        print(f"{'ok' if good else 'not ok'} - compare.sh {what}")
        if not good:
            print(done.stdout)
    return failed


def look(machine, arguments):
    tools = arguments.build.absolute() / "examples"
    target = "qemu:" + os.path.join(machine.folder, "qmp")
    told = machine.tell("machine")
    machine.tell("storm")
    failed = subprocess.run([arguments.build / "tests" / "live" / "storm", target, str(arguments.rounds)],
                            timeout=600, check=False).returncode != 0
    machine.answer()
    before = machine.tell("before")
    registers = guests.Qmp(machine.qmp_stream).hmp("info registers -a")

    def whole(after):
        return truth.assemble(machine.name, machine.variant, registers, told, before, after)
    checker = Recorder(tools, target, whole(before))
    checker.check_all()
    failed += check_compare(tools, target, pathlib.Path(machine.folder), checker.before)
    machine.answer()
    checker.truth = whole(machine.tell("after"))
    checker.after, checker.asking = checker.truth["after"], False
    checker.check_all()
    return checker.passed, checker.failed + failed


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("guest", help="a name that guest.py lists")
    parser.add_argument("--build", required=True, type=pathlib.Path, help="the build folder")
    parser.add_argument("--rounds", type=int, default=1000, help="of lists in the storm")
    parser.add_argument("--timeout", type=float, default=800, help="seconds for all of it")
    arguments = parser.parse_args()
    guests.catch_signals()
    try:
        with guests.running(arguments.guest, arguments.timeout, storm=True) as machine:
            passed, failed = look(machine, arguments)
    except guests.Skipped as reason:
        print(f"skipped: {reason}")
        return guests.SKIPPED
    except guests.Failure as reason:
        print(f"the guest could not be looked at: {reason}")
        print("0 passed, 1 failed")
        return 1
    print(f"{passed} passed, {failed} failed")
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main())
