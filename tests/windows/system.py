# SPDX-License-Identifier: Apache-2.0
"""What is in the guests of the tests: the same system in every release."""

import objects
import processes
import registry


def populate(guest):
    """Fill it; returns the processes that have most."""
    guest.devices()
    system32 = "\\WINDOWS\\system32\\"
    guest.module("ntoskrnl.exe", "\\SystemRoot\\system32\\ntoskrnl.exe", guest.base,
                 guest.image.size)
    base = 0xfffff80320000000 if guest.wide else 0x88000000
    for i, name in enumerate(("hal.dll", "ntfs.sys", "tcpip.sys", "caf\u00e9-\u65e5\u672c.sys",
                              "volmgr.sys")):
        guest.module(name, "\\SystemRoot\\system32\\drivers\\" + name, base + 0x100000 * i,
                     0x20000 + 0x1000 * i)
    system = processes.create(guest, "System", 4, 0, kernel=True, threads=5)
    guest.ptr(guest.symbol("PsInitialSystemProcess"), system["body"])
    hives = None
    if guest.build >= 17134:
        hives = processes.create(guest, "Registry", 0x58, 4, created=10, kernel=True)
    registry.build(guest, hives)
    objects.drivers(guest)
    objects.unloaded(guest)
    objects.callbacks(guest)
    objects.services(guest)
    processes.create(guest, "smss.exe", 0x1a0, 4, created=11, path=processes.VOLUME + system32 +
                     "smss.exe", command="\\SystemRoot\\System32\\smss.exe", protection=0x61)
    processes.create(guest, "gone.exe", 0x200, 0x1a0, created=12, exited=99, status=0xc0000005,
                     threads=0)
    processes.create(guest, "paged.exe", 0x204, 0x1a0, created=13, paged_out=True)
    high = 0x70000000 if not guest.wide else \
        0x7ff700000000 if guest.build >= 9600 else 0x7fe00000000
    regions = [
        {"start": 0x10000, "end": 0x20000, "protection": 4},
        {"start": 0x20000, "end": 0x21000, "protection": 1, "private": False},
        {"start": 0x30000, "end": 0x130000, "protection": 0x14},
        {"start": 0x200000, "end": 0x201000, "protection": 0x18},
        {"start": 0x210000, "end": 0x220000, "protection": 6},
        {"start": 0x230000, "end": 0x231000, "protection": 0xc},
        {"start": 0x240000, "end": 0x241000, "protection": 0x1c},
        {"start": 0x250000, "end": 0x252000, "protection": 2},
        {"start": 0x400000, "end": 0x4b0000, "protection": 7, "private": False, "image": True,
         "file": "\\WINDOWS\\explorer.exe"},
        {"start": 0x500000, "end": 0x510000, "protection": 5, "private": False,
         "file": "\\Users\\J\u00f6rg\\\u6587\u66f8.dat"},
        {"start": high, "end": high + 0x190000, "protection": 7, "private": False, "image": True,
         "file": "\\WINDOWS\\System32\\ntdll.dll"},
    ]
    explorer = processes.create(
        guest, "explorer.exe", 0x5dc, 0x1a0, created=60, session=1, integrity=0x2000,
        sid=(5, 21, 1111111111, 2222222222, 3333333333, 1001), threads=4, vads=regions,
        path=processes.VOLUME + "\\WINDOWS\\explorer.exe",
        command="C:\\WINDOWS\\Explorer.EXE /n \"\u00dcber \U0001f427\"",
        environment=["=C:=C:\\Users", "PATH=C:\\WINDOWS;C:\\caf\u00e9", "X="],
        modules=[("explorer.exe", "C:\\WINDOWS\\explorer.exe", 0x400000, 0xb0000),
                 ("ntdll.dll", "C:\\WINDOWS\\System32\\ntdll.dll", high, 0x190000)])
    processes.create(guest, "broken.exe", 0x5e8 + 24, 0x5dc, created=61, session=1,
                     command=b"a\0\x00\xd8b\0\x00\xdc\x3d\xd8\x27\xdcz\0")
    if guest.wide:
        processes.create(guest, "wow.exe", 0x700, 0x5dc, created=70, session=1, integrity=0x1000,
                         wow64=True, command="wow", vads=[
                             {"start": 0x10000, "end": 0x20000, "protection": 4}],
                         modules=[("wow.exe", "C:\\wow.exe", 0x400000, 0x1000),
                                  ("wow64.dll", "C:\\Windows\\System32\\wow64.dll",
                                   0x7ff600000000, 0x50000)])
    last = processes.create(guest, "last.exe", 0x800, 0x5dc, created=80, session=1, command="")
    objects.handles(guest, explorer, last)
    objects.session_services(guest, explorer)
    return explorer, last
