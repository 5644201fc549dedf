#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Code of a live Linux guest that is in use, or not; detours of it; and programs that are killed while they
place things in it, again and again: the guest is whole afterwards, to the byte, and works."""

import json
import os
import random
import signal
import subprocess
import sys
import time

from machine import Symbols, child, expect, linux, run, wait_until

ROUNDS = int(os.environ.get("HVMI_KILLS", "12"))
HOT = "scheduler_tick"
# Nobody runs these in a guest that goes on.
COLD = ["panic", "emergency_restart", "kernel_power_off", "kernel_halt"]


def own_patch(now, then, at):
    """Bytes of what Linux itself may have changed there; 0: none."""
    for size, forms in ((5, (b"\x0f\x1f\x44\x00\x00", b"\xe9", b"\xe8")), (2, (b"\x66\x90", b"\xeb"))):
        # The first bytes may be equal: a call to elsewhere.
        for start in range(at, at - size, -1):
            if any(then.startswith(f, start) for f in forms) and any(now.startswith(f, start) for f in forms):
                return start + size - at
    return 0


class Scene:
    def __init__(self, build, folder):
        self.build, self.folder = build, folder
        self.machine = linux(folder, "m", "-machine", "q35,memory-backend=ram", "-object",
                             "memory-backend-memfd,id=ram,size=256M,share=on")
        self.symbols = Symbols(build, self.machine)
        self.journals = os.path.join(folder, "journals")
        os.mkdir(self.journals, 0o700)
        # The rest of the page that the vDSO's data is in: the kernel may write to it, and does not.
        self.counter = self.symbols["__vvar_page"] + 0xfc0
        expect(self.read(self.counter, 16) == bytes(16), "the counter's place is in use")
        self.text = self.symbols["_text"], self.symbols["_etext"]
        self.begun = self.steady_text()
        self.places = [self.symbols[name] for name in COLD + [HOT]] + [self.text[1]]

    def gpa(self, gva):
        return int(self.machine.qmp.hmp("gva2gpa %#x" % gva).split()[-1], 16)

    def read(self, gva, length):
        return self.machine.pmemsave(self.gpa(gva), length, os.path.join(self.folder, "bytes"))

    def read_text(self):
        """All of it, and the padding behind it."""
        first, last = self.text
        return self.read(first, ((last | 4095) + 1) - first)

    def steady_text(self):
        """When the guest does not change it: while it does there are int3s of its own in it."""
        texts = [self.read_text()]

        def is_steady():
            at = self.clock()
            wait_until(lambda: self.clock() > at + 100, "the guest to go on")
            texts.append(self.read_text())
            return texts[-1] == texts[-2]
        wait_until(is_steady, "the guest's text to be steady")
        return texts[-1]

    def clock(self):
        """Ticks, of which there are 250 in a second."""
        return int.from_bytes(self.read(self.symbols["jiffies_64"], 8), "little")

    def is_whole(self):
        """But for what the kernel changes itself: jump labels and static calls. It may be at that just now."""
        wait_until(lambda: not self.wrong_bytes(), "the text to be whole, it differs at", self.wrong_bytes)

    def wrong_bytes(self):
        now, then = self.read_text(), self.begun
        at, wrong = 0, []
        while now[at:] != then[at:]:
            while now[at:at + 4096] == then[at:at + 4096]:
                at += 4096
            at = next(i for i in range(at, at + 4096) if now[i] != then[i])
            size = own_patch(now, then, at)
            if not size or any(place <= self.text[0] + at < place + 4096 for place in self.places):
                wrong.append("%#x: %s was %s" % (self.text[0] + at, now[at:at + 8].hex(), then[at:at + 8].hex()))
            at += size or 16
        return wrong[:8]

    def calls(self):
        return int.from_bytes(self.read(self.counter, 8), "little")

    def place(self, *arguments, **options):
        command = [os.path.join(self.build, "tests", "qemu", "place"), self.machine.target, self.journals]
        return child(command + [str(a) for a in arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                     text=True, **options)

    def say(self, *arguments):
        process = self.place(*arguments)
        out = process.communicate(timeout=300)[0]
        expect(process.returncode == 0, arguments, out)
        return out

    def recover(self, status=0):
        done = subprocess.run([os.path.join(self.build, "examples", "hvmi-recover"), self.machine.target,
                               "--directory", self.journals, "--json", "--wait", "60"],
                              stdout=subprocess.PIPE, timeout=300, check=False)
        expect(done.returncode == status, "hvmi-recover ended with", done.returncode, done.stdout)
        return json.loads(done.stdout)

    def works(self):
        expect(self.machine.status() == "running", self.machine.status())
        at = self.clock()
        wait_until(lambda: self.clock() > at, "the guest to go on")
        with open(os.path.join(self.folder, "m.console"), errors="replace") as f:
            text = f.read()
        expect("Oops" not in text and "BUG" not in text and "panic -" not in text, text[-3000:])


def check_quiet(scene):
    # What sleeps is in schedule(); nobody powers the machine off.
    out = scene.say("quiet", "schedule", *COLD)
    lines = dict(line.split(" ", 1) for line in out.splitlines())
    expect(int(lines["schedule"].split()[0]) > 10, out)
    expect("kthreadd" in out or "kworker" in out or ":1:" in out, out)
    for name in COLD:
        expect(lines[name] == "0", out)
    print(out.splitlines()[0])
    scene.works()


def check_detour(scene):
    process = scene.place("detour", HOT, scene.counter)
    line = process.stdout.readline()
    expect(line.startswith("placed "), line)
    print(line.strip())
    first = scene.calls()
    wait_until(lambda: scene.calls() > first + 200, "calls through the detour")
    expect(scene.read_text() != scene.begun, "nothing was placed")
    scene.works()
    out = process.communicate("\n", timeout=300)[0]
    expect(process.returncode == 0 and out == "undone\n", out)
    scene.is_whole()
    last = scene.calls()
    scene.works()
    time.sleep(0.5)
    expect(scene.calls() == last, "it is called still")
    expect(os.listdir(scene.journals) == [], os.listdir(scene.journals))
    print("%d calls" % last)


def check_kills(scene):
    chance = random.Random(4711)
    sums, begun, i = {"restored": 0}, time.monotonic(), 0
    # On a busy machine some are killed before they did much.
    while i < ROUNDS or sums["restored"] <= ROUNDS and i < 10 * ROUNDS:
        process = scene.place("storm", HOT, scene.counter, i, *COLD)
        line = process.stdout.readline()
        expect(line == "ready\n", line)
        time.sleep(chance.random() * 0.6)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        expect(process.returncode == -signal.SIGKILL, "storm ended with", process.returncode)
        told = scene.recover()
        for key, value in told.items():
            sums[key] = sums.get(key, 0) + int(value)
        expect(told["changed"] == told["failed"] == told["waiting"] == 0, told)
        scene.is_whole()
        expect(os.listdir(scene.journals) == [], os.listdir(scene.journals))
        if i % 8 == 0:
            scene.works()
        i += 1
    scene.works()
    expect(sums["restored"] > ROUNDS, sums)
    expect(not scene.recover()["journal"], "a journal is left")
    print("%d kills in %.0f s: %s" % (i, time.monotonic() - begun, sums))


def test_place(build, folder):
    scene = Scene(build, folder)
    try:
        check_quiet(scene)
        check_detour(scene)
        check_kills(scene)
    finally:
        scene.machine.close()


if __name__ == "__main__":
    sys.stdout.reconfigure(line_buffering=True)
    run([test_place])
