#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Registers, pauses, breakpoints, watchpoints, steps and writes on one live Linux guest."""

import re
import time

from machine import ALL_VCPUS, Drive, Failed, Symbols, expect, leftovers, linux, run, wait_until


class Scene:
    def __init__(self, build, folder):
        self.machine = linux(folder, "m", "-machine", "q35,memory-backend=ram", "-object",
                             "memory-backend-memfd,id=ram,size=256M,share=on")
        self.drive = Drive(build)
        self.folder = folder
        self.of_nobody = self.descriptors()
        self.symbols = Symbols(build, self.machine)
        for name in ("jiffies_64", "scheduler_tick", "__schedule", "default_idle", "calc_global_load_tick"):
            self.symbols[name]      # while nobody is connected

    def descriptors(self):
        """How many QEMU has open."""
        return len(leftovers(self.machine.process.pid))

    def clock(self):
        """The guest's jiffies_64: it moves while the guest runs."""
        gpa = int(self.machine.qmp.hmp("gva2gpa %#x" % self.symbols["jiffies_64"]).split()[-1], 16)
        return int.from_bytes(self.drive.read(gpa, 8, self.folder), "little")

    def runs(self):
        begun = self.clock()
        wait_until(lambda: self.clock() != begun, "the guest to go on")
        expect(self.machine.status() == "running", self.machine.status())

    def stands(self):
        expect(self.machine.status() != "running", "it runs")
        begun = self.clock()
        time.sleep(0.2)
        expect(self.clock() == begun, "time passes")


def printed(scene, vcpu):
    """`info registers` in other words than the backend's."""
    text = scene.machine.qmp.hmp("info registers", **{"cpu-index": vcpu})
    want = {}
    for theirs, ours in [("RAX", "rax"), ("R8 ", "r8"), ("R15", "r15"), ("RSP", "rsp"), ("RIP", "rip"),
                         ("RFL", "rflags"), ("CR0", "cr0"), ("CR2", "cr2"), ("CR3", "cr3"), ("CR4", "cr4"),
                         ("DR6", "dr6"), ("DR7", "dr7"), ("EFER", "efer")]:
        want[ours] = int(re.search(r"\b%s=([0-9a-f]+)" % theirs, text).group(1), 16)
    for name in ("ES", "CS", "SS", "DS", "FS", "GS", "TR", "LDT"):
        words = re.search(r"^%-3s=([0-9a-f]{4}) (\w+) (\w+) (\w+)" % name, text, re.M).groups()
        selector, base, limit, flags = (int(w, 16) for w in words)
        rights = flags >> 8 & 0xf0ff
        ours = "ldtr" if name == "LDT" else name.lower()
        want.update({ours + ".selector": selector, ours + ".base": base, ours + ".limit": limit,
                     ours + ".rights": rights if rights & 0x80 else rights | 0x10000})
    for name in ("GDT", "IDT"):
        base, limit = re.search(r"%s=\s+(\w+) (\w+)" % name, text).groups()
        want.update({name.lower() + "r.base": int(base, 16), name.lower() + "r.limit": int(limit, 16)})
    return want


def check_read_only(scene):
    """Looking needs no debugger, and what is not opened for writing is not written."""
    drive = scene.drive
    opened = drive("open", scene.machine.target)
    expect(opened["arch"] == 1 and opened["vcpus"] == 2, opened)
    scene.runs()
    drive("pause")
    scene.stands()
    for vcpu in (0, 1):
        got, want = drive("registers", vcpu), printed(scene, vcpu)
        expect({k: got.get(k) for k in want} == want, "registers of vCPU", vcpu, got, want)
    drive("pause")
    drive("resume")
    scene.stands()
    drive("resume")
    scene.runs()
    drive.fails("EACCES", "", "set", 0, "rax=1")
    drive.fails("EACCES", "", "events")
    drive.fails("EACCES", "", "write", 0x1000, "00")
    expect(scene.machine.gdbstub_is_off(), "a gdbstub is on")
    drive("close")


def check_pauses_of_others(scene):
    """A machine that others paused stays paused."""
    drive, qmp = scene.drive, scene.machine.qmp
    drive("open", scene.machine.target, "w")
    qmp("stop")
    drive("pause")
    drive("resume")
    scene.stands()
    drive("events")
    scene.stands()
    drive("noevents")
    scene.stands()
    qmp("cont")
    scene.runs()

    # The same while we are connected to the stub, and it is they who go on.
    drive("events")
    scene.runs()
    qmp("stop")
    expect(drive("next", 300) is None, "an event of nothing")
    drive("pause")
    drive("resume")
    scene.stands()
    qmp("cont")
    expect(drive("next", 300) is None, "an event of nothing")
    scene.runs()
    drive("request", "breakpoint", scene.symbols["scheduler_tick"])
    event = drive("next", 60000)
    expect(event and event["kind"] == "breakpoint", "no event after others had paused", event)

    # Not even they get past an event that waits.
    scene.stands()
    qmp("cont")
    other = drive("next", 500)
    expect(other is None or other["vcpu"] != event["vcpu"], "the same event again", other)
    scene.stands()
    drive("answer", event["id"])
    if other:
        drive("answer", other["id"])
    expect(drive("drain", 2, 60000)["count"] == 2, "it does not go on")
    drive("noevents")
    scene.runs()
    expect(scene.machine.gdbstub_is_off(), "a gdbstub is on")
    drive("close")


def check_breakpoints(scene):
    drive = scene.drive
    tick = scene.symbols["scheduler_tick"]
    drive("open", scene.machine.target, "w")
    drive("events")
    drive("request", "breakpoint", tick)
    drive.fails("EINVAL", "", "request", "breakpoint", tick)
    vcpus = []
    # One that is idle has no ticks for a while.
    while len(vcpus) < 20 or len(set(vcpus)) < 2:
        event = drive("next", 60000)
        expect(event["kind"] == "breakpoint" and event["gva"] == tick and event["rip"] == tick, event)
        expect(event["flags"] & 1, "it does not wait")
        vcpus.append(event["vcpu"])
        expect(len(vcpus) < 5000 and event["vcpu"] in (0, 1), "events of vCPUs", set(vcpus))
        drive("answer", event["id"])

    # While one waits: registers are those of the event, nothing moves, pauses count beside it.
    event = drive("next", 60000)
    now = drive("registers", event["vcpu"])
    expect(now["rip"] == tick and now["rdi"] == event["rdi"] and "cr8" in now and "kernel_gs_base" in now, now)
    scene.stands()
    expect(drive("next", 200) is None, "a second event")
    drive("pause")
    drive("answer", event["id"])
    scene.stands()
    drive("resume")
    event = drive("next", 60000)
    drive("pause")
    drive("resume")
    scene.stands()
    drive("answer", event["id"])

    # The guest does not see it.
    gpa = int(scene.machine.qmp.hmp("gva2gpa %#x" % tick).split()[-1], 16)
    expect(drive.read(gpa, 1, scene.folder) != b"\xcc", "an int3 in the guest's memory")

    # A second one while the first is met, one that goes while its event waits, and asynchronous ones.
    schedule = scene.symbols["__schedule"]
    drive("request", "breakpoint", schedule)
    seen = set()
    while seen != {tick, schedule}:
        event = drive("next", 60000)
        seen.add(event["gva"])
        drive("answer", event["id"])
    event = drive("next", 60000)
    drive("cancel", "breakpoint", event["gva"])
    drive("answer", event["id"])
    drive("cancel", "breakpoint", tick if event["gva"] == schedule else schedule)
    expect(drive("drain", 1, 500)["count"] == 0, "events of what was cancelled")
    scene.runs()
    drive("request", "breakpoint", tick, "async")
    for _ in range(5):
        event = drive("next", 60000)
        expect(event["gva"] == tick and not event["flags"] & 1, event)

    # Events that nobody took or answered do not keep the guest.
    drive("cancel", "breakpoint", tick)
    drive("request", "breakpoint", tick)
    drive("next", 60000)
    drive("noevents")
    scene.runs()
    expect(scene.machine.gdbstub_is_off(), "a gdbstub is on")
    drive("close")


def check_steps(scene):
    drive = scene.drive
    drive("open", scene.machine.target, "w")
    drive("events")
    tick = scene.symbols["scheduler_tick"]
    drive("request", "breakpoint", tick)
    drive("request", "step", ALL_VCPUS)
    for vcpu in (0, 1):
        event = drive("next", 60000)
        while event["vcpu"] != vcpu:
            drive("answer", event["id"])
            event = drive("next", 60000)
        addresses = [event["rip"]]
        drive("answer", event["id"], "step")
        while len(addresses) < 12:
            event = drive("next", 60000)
            if event["kind"] == "step":
                expect(event["vcpu"] == vcpu, event)
                addresses.append(event["rip"])
            drive("answer", event["id"], "stepoff" if len(addresses) == 12 else "-")
        expect(addresses[0] == tick and 0 < addresses[1] - tick < 16, [hex(a) for a in addresses])
        expect(len(set(addresses)) > 6, [hex(a) for a in addresses])
    drive("cancel", "breakpoint", tick)
    expect(drive("drain", 1, 500)["count"] == 0, "steps of nobody")

    # A step that ends at a breakpoint: both are told.
    second = addresses[1]
    drive("request", "breakpoint", tick)
    drive("request", "breakpoint", second)
    event = drive("next", 60000)
    while event["gva"] != tick:
        drive("answer", event["id"])
        event = drive("next", 60000)
    drive("answer", event["id"], "step")
    step, point = drive("next", 60000), drive("next", 60000)
    expect(step["kind"] == "step" and step["rip"] == second, step)
    expect(point["kind"] == "breakpoint" and point["gva"] == second, point)
    drive("answer", step["id"], "stepoff")
    scene.stands()
    drive("answer", point["id"])
    drive("cancel", "breakpoint", tick)
    drive("cancel", "breakpoint", second)

    # Both vCPUs at once, also while one of them waits in a HLT.
    drive("request", "breakpoint", tick)
    stepping = set()
    while stepping != {0, 1}:
        event = drive("next", 60000)
        if event["kind"] == "breakpoint":
            stepping.add(event["vcpu"])
            drive("answer", event["id"], "step")
        else:
            drive("answer", event["id"])
    drive("cancel", "breakpoint", tick)
    count = {0: 0, 1: 0}
    while min(count.values()) < 10:
        event = drive("next", 60000)
        expect(event["kind"] == "step", event)
        count[event["vcpu"]] += 1
        drive("answer", event["id"])
    drive("cancel", "step", ALL_VCPUS)
    scene.runs()

    # An idle vCPU's HLT is stepped over although it does not end.
    drive("request", "breakpoint", scene.symbols["default_idle"])
    expect(drive("drain", 3, 60000)["count"] == 3, "it hangs in default_idle()")
    drive("noevents")
    drive("close")


def check_watchpoints(scene):
    drive = scene.drive
    drive("open", scene.machine.target, "w")
    drive("events")
    jiffies = scene.symbols["jiffies_64"]
    before = scene.clock()
    drive("request", "watchpoint", jiffies, 8, "w")
    for _ in range(3):
        event = drive("next", 60000)
        expect(event["kind"] == "watchpoint" and event["gva"] == jiffies and event["len"] == 8 and
               event["access"] == 2, event)
        now = scene.clock()
        expect(now > before, "the write was not done:", now, "after", before)
        before = now
        drive("answer", event["id"])
    drive("cancel", "watchpoint", jiffies, 8, "w")
    drive("request", "watchpoint", jiffies & ~0xfff, 4096, "rw")
    event = drive("next", 60000)
    expect(event["kind"] == "watchpoint" and event["len"] == 4096 and event["access"] == 3, event)
    drive("answer", event["id"])
    drive("noevents")
    scene.runs()
    drive("close")


def check_registers(scene):
    """Registers are set whole or not at all, and a vCPU goes on with them."""
    drive = scene.drive
    drive("open", scene.machine.target, "w")
    drive("pause")
    old = drive("registers", 1)
    drive("set", 1, "r12=0x123456789abcdef0", "rbx=0x1")
    now = drive("registers", 1)
    expect(now["r12"] == 0x123456789abcdef0 and now["rbx"] == 1, now)
    expect(printed(scene, 1)["rip"] == old["rip"], "another register changed")
    drive.fails("ENOTSUP", "idtr.base", "set", 1, "r12=0x1", "idtr.base=0x1000")
    expect(drive("registers", 1)["r12"] == 0x123456789abcdef0, "a part was set")
    whole = ["%s=%#x" % (k, v) for k, v in old.items()]
    drive("set", 1, *whole)
    now = drive("registers", 1)
    expect({k: now[k] for k in old} == old, "they were not put back", now)
    drive("resume")
    scene.runs()

    # An answer sends the vCPU elsewhere: here, out of the function at once.
    tick = scene.symbols["calc_global_load_tick"]
    drive("events")
    drive("request", "breakpoint", tick)
    for _ in range(5):
        event = drive("next", 60000)
        stack = drive("registers", event["vcpu"])["rsp"]
        gpa = int(scene.machine.qmp.hmp("gva2gpa %#x" % stack,
                                        **{"cpu-index": event["vcpu"]}).split()[-1], 16)
        back = int.from_bytes(drive.read(gpa, 8, scene.folder), "little")
        drive("answer", event["id"], "-", "rip=%#x" % back, "rsp=%#x" % (stack + 8))
    drive("noevents")
    scene.runs()
    expect(scene.machine.gdbstub_is_off(), "a gdbstub is on")
    drive("close")


def check_writes(scene):
    """Code that is changed is what runs next, though the emulator has its translation."""
    drive = scene.drive
    drive("open", scene.machine.target, "w")
    load = scene.symbols["calc_global_load_tick"]
    gpa = int(scene.machine.qmp.hmp("gva2gpa %#x" % load).split()[-1], 16)
    # A JMP to itself: the vCPU that comes here next stays.
    drive("events")
    drive("request", "breakpoint", load)
    expect(drive("drain", 2, 60000)["count"] == 2, "it is not called")
    drive("cancel", "breakpoint", load)
    saved = drive.read(gpa, 2, scene.folder)
    drive("write", gpa, "ebfe")
    expect(drive.read(gpa, 2, scene.folder) == b"\xeb\xfe", "not written")

    def caught():
        drive("pause")
        there = [v for v in (0, 1) if drive("registers", v)["rip"] == load]
        drive("resume")
        return there
    wait_until(caught, "the new code to run")
    drive("write", gpa, saved.hex())
    expect(drive.read(gpa, 2, scene.folder) == saved, "not put back")
    wait_until(lambda: not caught(), "the old code to run")
    drive("noevents")
    scene.runs()
    drive.fails("EFAULT", "", "write", 0xfee00000, "00")
    drive("close")

    drive("open", scene.machine.target + ",write=plain", "w")
    drive("write", 0x1000, "0102")
    expect(drive.read(0x1000, 2, scene.folder) == b"\1\2", "not written")
    expect(scene.machine.gdbstub_is_off(), "it went through the gdbstub")
    drive("close")
    drive.fails("EINVAL", "write=", "open", scene.machine.target + ",write=maybe", "w")


def check_repeated(scene):
    """Open and close, and every time the guest goes on and nothing is left."""
    drive = scene.drive
    begun = leftovers(drive.process.pid)
    for i in range(200):
        drive("open", scene.machine.target, "w")
        if i % 20 == 0:
            drive("events")
            drive("request", "breakpoint", scene.symbols["scheduler_tick"])
            expect(drive("drain", 1, 60000)["count"] == 1, "no event")
            drive("pause")
        drive("close") if i % 20 else (drive("noevents"), drive("close"))
    left = leftovers(drive.process.pid)
    expect(left == begun, "descriptors are left:", left, "and not", begun)
    # QEMU closes its end when it comes to it.
    wait_until(lambda: scene.descriptors() == scene.of_nobody, "QEMU to have %d descriptors, it has" % scene.of_nobody,
               scene.descriptors)
    drive("open", scene.machine.target)
    scene.runs()
    drive("close")
    expect(scene.machine.gdbstub_is_off(), "a gdbstub is on")


def test_live(build, folder):
    scene = Scene(build, folder)
    for check in (check_read_only, check_pauses_of_others, check_breakpoints, check_steps,
                  check_watchpoints, check_registers, check_writes, check_repeated):
        begun = time.monotonic()
        try:
            check(scene)
        except (AssertionError, Failed):
            print(check.__name__, "failed; logged:", scene.drive.logged)
            raise
        print("  %s: %.1f s" % (check.__name__, time.monotonic() - begun), flush=True)
    expect(not scene.drive.logged or all("paused by another" in line or "RAM" in line
                                         for line in scene.drive.logged), scene.drive.logged)
    scene.drive.close()
    scene.machine.close()


if __name__ == "__main__":
    run([test_live])
