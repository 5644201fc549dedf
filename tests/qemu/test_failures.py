#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What is no machine, what may not be reached, and machines that end under us: each its own error, nothing
hangs, nothing is left, and other machines do not notice."""

import os
import signal
import socket
import threading

from machine import Drive, Machine, Symbols, answers, expect, halt, leftovers, linux, run, wait_until

SMALL = ["-machine", "q35,memory-backend=ram", "-m", "32M", "-object",
         "memory-backend-memfd,id=ram,size=32M,share=on"]


def server(path, answer):
    """Something that listens at a socket and says one thing."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen(4)
    kept = []

    def serve():
        while True:
            try:
                kept.append(listener.accept()[0])
            except OSError:
                return
            try:
                if answer is None:
                    kept.pop().close()
                else:
                    kept[-1].sendall(answer)
            except OSError:
                pass
    threading.Thread(target=serve, daemon=True).start()
    return listener


def test_no_machines(build, folder):
    drive = Drive(build)
    drive.fails("ENOENT", "there is no socket", "open", "qemu:" + folder + "/nothing")
    # Not before it answered once: a program that starts has its libraries open.
    begun = leftovers(drive.process.pid)
    drive.fails("EINVAL", "path of a unix socket", "open", "qemu:/" + "x" * 200)
    plain = os.path.join(folder, "plain")
    open(plain, "w").close()
    drive.fails("ENOENT", "it is no socket", "open", "qemu:" + plain)
    stale = socket.socket(socket.AF_UNIX)
    stale.bind(os.path.join(folder, "stale"))
    drive.fails("ENOENT", "nobody listens", "open", "qemu:" + folder + "/stale")
    for name, answer, code, text in [
            ("human", b"QEMU 7.2.0 monitor - type 'help' for more information\r\n(qemu) ", "EBADMSG", "no QMP"),
            ("noise", b"\xff" * 100000 + b"\n", "EBADMSG", "no QMP"),
            ("json", b"[1, 2, 3]\n", "EBADMSG", "no QMP"),
            ("deep", b"[" * 100000 + b"\n", "EBADMSG", "no QMP"),
            ("endless", b"x" * (17 << 20), "EOVERFLOW", "longer than"),
            ("hasty", None, "ESRCH", "closes the connection"),
            ("silent", b"", "ETIMEDOUT", "QMP serves one client at a time"),
            ("greets", b'{"QMP": {}}\nnonsense\n{"return": 1, "id": 1}\n{"id": 2}\n', "EBADMSG", "no QMP answer")]:
        listener = server(os.path.join(folder, name), answer)
        drive.fails(code, text, "open", "qemu:%s/%s" % (folder, name))
        listener.close()
    left = leftovers(drive.process.pid)
    expect(left == begun, "descriptors are left:", left, "and not", begun)
    drive.close()


def test_held_by_another(build, folder):
    machine = Machine(folder, "m", *SMALL)
    first, second = Drive(build), Drive(build)
    first("open", machine.target)
    second.fails("ETIMEDOUT", "QMP serves one client at a time", "open", machine.target)
    expect(len(first.read(0, 4096, folder)) == 4096, "the first one was disturbed")
    first("close")
    second("open", machine.target)
    second("close")
    for drive in (first, second):
        drive.close()
    machine.close()


def test_permission(build, folder):
    if os.geteuid():
        print("test_permission: skipped, it needs root to be somebody else")
        return
    machine = Machine(folder, "m", *SMALL)
    os.chmod(folder, 0o700)
    inner = os.path.join(folder, "m.qmp")
    os.chmod(inner, 0o600)
    # Another user's library process: only its own rights are taken away.
    drive = Drive(build, ["setpriv", "--bounding-set=-all", "--inh-caps=-all", "--"])
    os.chown(inner, 65534, 65534)
    drive.fails("EACCES", "no permission", "open", machine.target)
    drive.close()
    machine.close()


def test_two_machines_and_kills(build, folder):
    """QEMU is killed in the middle of everything; the machine beside it goes on being watched."""
    beside = linux(folder, "beside", *SMALL[:2], "-object",
                   "memory-backend-memfd,id=ram,size=256M,share=on")
    other = Drive(build)
    tick = Symbols(build, beside)["scheduler_tick"]
    other("open", beside.target, "w")
    other("events")
    other("request", "breakpoint", tick)
    expect(other("drain", 2, 60000)["count"] == 2, "no events")

    drive = Drive(build)
    begun = None
    for i, steps in enumerate([
            [], [("pause",)], [("events",)], [("events",), ("pause",)], [("set", 0, "rbx=0x1")],
            [("events",), ("request", "breakpoint", "0x7c00"), ("pause",)]]):
        machine = Machine(folder, "m", *SMALL)
        drive("open", machine.target, "w")
        data = drive.read(0x100000, 4096, folder)
        for step in steps:
            drive(*step)
        machine.kill()
        drive.fails("ESRCH", "is gone", "registers", 0)
        drive.fails("ESRCH", "is gone", "set", 0, "rbx=0x2")
        if ("pause",) in steps:
            drive.fails("ESRCH", "is gone", "resume")
        else:
            drive.fails("ESRCH", "is gone", "pause")
        if ("events",) in steps:
            drive.fails("ESRCH", "is gone", "next", 10000)
            drive.fails("ESRCH", "is gone", "request", "breakpoint", 0x1000)
            drive("noevents")
        else:
            drive.fails("ESRCH", "is gone", "events")
        drive.fails("ESRCH", "", "write", 0x1000, "00")
        expect(drive.read(0x100000, 4096, folder) == data, "mapped RAM has gone")
        drive("close")
        if i == 0:
            begun = leftovers(drive.process.pid)
        expect(leftovers(drive.process.pid) == begun, "descriptors are left after", steps)
        machine.close()

    # Private RAM goes with the process: cleanly, and never another process's memory.
    machine = Machine(folder, "m", "-machine", "pc", "-m", "32M")
    drive("open", machine.target)
    machine.kill()
    drive.fails("ESRCH", "", "read", 0x1000, 16, os.path.join(folder, "read"))
    drive("close")
    drive.close()
    machine.close()

    expect(other("drain", 5, 60000)["count"] == 5, "the machine beside was disturbed")
    other("noevents")
    expect(beside.status() == "running", beside.status())

    # And the other way round: a program that was killed is put right by the next.
    other("events")
    other("request", "breakpoint", tick)
    expect(other("next", 60000), "no event")
    other.kill()
    wait_until(lambda: beside.status() == "debug", "the guest to stand where the program left it, it is",
               beside.status)
    other = Drive(build)
    other("open", beside.target, "w")
    other("events")
    wait_until(lambda: beside.status() == "running", "the guest to go on, it is", beside.status)
    expect(other("drain", 1, 500)["count"] == 0, "breakpoints of the dead")
    other("noevents")
    expect(beside.status() == "running" and beside.gdbstub_is_off(), "it was not put right")
    other("close")
    other.close()
    beside.close()


def test_stopped(build, folder):
    """A QEMU that does not answer at all: bounded, and fine again afterwards."""
    machine = Machine(folder, "m", *SMALL)
    drive = Drive(build)
    drive("open", machine.target, "w")
    halt(machine.process.pid)
    drive.fails("ETIMEDOUT", "does not answer", "registers", 0)
    drive.fails("ETIMEDOUT", "does not answer", "pause")
    expect(len(drive.read(0, 4096, folder)) == 4096, "mapped RAM is not there")
    machine.process.send_signal(signal.SIGCONT)
    wait_until(lambda: answers(drive), "it to answer")
    drive("pause")
    drive("resume")
    drive("close")
    expect(machine.status() == "running", machine.status())
    drive.close()
    machine.close()


def test_foreign_gdbstub(build, folder):
    """A stub that somebody turned on is used if it is free, and stays on; a debugger's is left alone."""
    path = os.path.join(folder, "gdb")
    machine = Machine(folder, "m", *SMALL, "-gdb", "unix:%s,server=on,wait=off" % path)
    drive = Drive(build)
    drive("open", machine.target, "w")
    drive("events")
    expect(machine.status() == "running", machine.status())
    drive("pause")
    drive("resume")
    drive("noevents")
    expect(machine.status() == "running", machine.status())
    debugger = socket.socket(socket.AF_UNIX)
    debugger.connect(path)
    debugger.sendall(b"$?#3f")
    wait_until(lambda: machine.status() != "running", "the debugger to stop it, it is", machine.status)
    drive.fails("EBUSY", "another program is connected", "events")
    debugger.sendall(b"+$D#44")
    wait_until(lambda: machine.status() == "running", "the debugger to go, it is", machine.status)
    debugger.close()
    drive("close")
    drive.close()
    machine.close()


if __name__ == "__main__":
    run([test_no_machines, test_held_by_another, test_permission, test_foreign_gdbstub, test_stopped,
         test_two_machines_and_kills])
