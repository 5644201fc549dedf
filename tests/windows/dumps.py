# SPDX-License-Identifier: Apache-2.0
"""Files in which a guest's memory is found: crash dumps of Windows, and states of VMware."""

import struct

from memory import PAGE

MACHINES = {"x86": 0x14c, "x64": 0x8664, "arm64": 0xaa64}
FULL, BITMAP = 1, 5


def crash_header(guest, kind):
    """DUMP_HEADER32 and DUMP_HEADER64."""
    wide = guest.wide
    header = bytearray(b"PAGE" * ((0x2000 if wide else 0x1000) // 4))
    header[4:8] = b"DU64" if wide else b"DUMP"
    word = "<Q" if wide else "<I"
    root = guest.processes[-1]["tables"].root
    places = dict(root=0x10, modules=0x20, processes=0x28, machine=0x30, processors=0x34,
                  debugger=0x80, context=0x348, type=0xf98) if wide else \
        dict(root=0x10, modules=0x18, processes=0x1c, machine=0x20, processors=0x24,
             debugger=0x60, context=0x320, type=0xf88)
    struct.pack_into("<II", header, 8, 15, guest.build)
    for name, value in (("root", root), ("modules", guest.symbol("PsLoadedModuleList")),
                        ("processes", guest.symbol("PsActiveProcessHead")),
                        ("debugger", guest.symbol("KdDebuggerDataBlock"))):
        struct.pack_into(word, header, places[name], value)
    struct.pack_into("<II", header, places["machine"], MACHINES[guest.arch], 1 + len(guest.others))
    struct.pack_into("<I", header, places["type"], kind)
    if not wide:
        header[0x5c] = guest.mode == "pae"
    context(guest, header, places["context"])
    return header


def frame(guest, rip, rsp, number):
    """CONTEXT as far as it is read, with numbers of its own."""
    if guest.wide:
        data = bytearray(0x4d0)
        struct.pack_into("<I", data, 0x30, 0x10000f)
        struct.pack_into("<Q", data, 0x78, 0x1111 * (1 + number))
        struct.pack_into("<Q", data, 0x98, rsp)
        struct.pack_into("<Q", data, 0xf8, rip)
    else:
        data = bytearray(0x2cc)
        struct.pack_into("<I", data, 0, 0x1001f)
        struct.pack_into("<I", data, 0x90, 0x30)
        struct.pack_into("<I", data, 0xb0, 0x1111 * (1 + number))
        struct.pack_into("<I", data, 0xb8, rip)
        struct.pack_into("<I", data, 0xc4, rsp)
    return bytes(data)


def context(guest, header, at):
    """CONTEXT: on the kernel stack of the thread that runs."""
    if guest.arch != "arm64":
        data = frame(guest, guest.symbol("NtService"), guest.current_stack, 0)
        header[at:at + len(data)] = data


def freeze(guest):
    """What the kernel saves of its processors when it stops; returns what registers they have."""
    truth = []
    places = [{"kpcr": guest.kpcr, "prcb": guest.prcb}, *guest.others]
    for i, processor in enumerate(places):
        process = guest.processes[-1 - i]
        thread, rsp = process["thread"], process["stack"]
        rip = guest.symbol("NtService") + i
        kpcr, prcb = processor["kpcr"], processor["prcb"]
        state = guest.at(prcb, "_KPRCB", "ProcessorState")
        root = process["tables"].root
        for name, value in (("Cr0", 0x80050033), ("Cr3", root), ("Cr4", 0x6f8)):
            guest.put(state, "_KPROCESSOR_STATE", "SpecialRegisters." + name, value)
        special = guest.at(state, "_KPROCESSOR_STATE", "SpecialRegisters")
        # Its own GDT, in which the KPCR's segment is.
        gdt = kpcr + 0xd000
        guest.write(gdt + 0x30, struct.pack("<HHBBBB", 0x1f8, kpcr & 0xffff, kpcr >> 16 & 0xff, 0x93,
                                            0xc0, kpcr >> 24 & 0xff))
        for name, limit, base in (("Gdtr", 0x7f, gdt), ("Idtr", 0xfff, guest.idt)):
            at = guest.at(special, "_KSPECIAL_REGISTERS", name) + (6 if guest.wide else 2)
            guest.number(at, limit, 2)
            guest.ptr(at + 2, base)
        if guest.wide:
            guest.put(special, "_KSPECIAL_REGISTERS", "MsrGsBase", kpcr)
            guest.put(special, "_KSPECIAL_REGISTERS", "MsrLStar", guest.registers()["lstar"])
        where = guest.at(state, "_KPROCESSOR_STATE", "ContextFrame")
        # It may lie elsewhere, with what XSAVE saves behind it.
        if guest.has("_KPRCB", "Context") and i == 1:
            where = guest.frames
        if guest.has("_KPRCB", "Context"):
            guest.put(prcb, "_KPRCB", "Context", where)
        guest.write(where, frame(guest, rip, rsp, i))
        guest.put(prcb, "_KPRCB", "CurrentThread", thread)
        guest.put(thread, "_KTHREAD", "State", 2)
        truth.append({"rip": rip, "rsp": rsp, "rax": 0x1111 * (1 + i), "cr3": root, "cr0": 0x80050033,
                      "idtr.base": guest.idt, "gdtr.base": gdt, "gdtr.limit": 0x7f,
                      ("gs.base" if guest.wide else "fs.base"): kpcr, "thread": hex(thread),
                      "process": hex(process["body"])})
    return truth


def crash(guest, path, kind):
    """What Windows writes, with its debugger data decoded."""
    guest.write(guest.symbol("KdDebuggerDataBlock"), guest.debugger_plain)
    guest.frozen = freeze(guest)
    header = crash_header(guest, kind)
    frames = sorted(gpa // PAGE for gpa in guest.memory.pages)
    if kind == FULL:
        # One run, or there would be too many for the header.
        first, count = frames[0], frames[-1] + 1 - frames[0]
        at, word = (0x88, "Q") if guest.wide else (0x64, "I")
        pairs = (1, count, first, count)
        struct.pack_into("<" + ("I4x3Q" if word == "Q" else "4I"), header, at, *pairs)
        frames = range(first, first + count)
        body = bytes(header)
    else:
        bits = bytearray(frames[-1] // 8 + 1)
        for frame in frames:
            bits[frame // 8] |= 1 << frame % 8
        first = -(-(0x2038 + len(bits)) // PAGE) * PAGE
        head = b"FDMPDUMP" + bytes(24) + struct.pack("<QQQ", first, len(frames), len(bits) * 8)
        body = (bytes(header) + head + bytes(bits)).ljust(first, b"\0")
    with open(path, "wb") as file:
        file.write(body)
        for frame in frames:
            page = guest.memory.pages.get(frame * PAGE)
            if page is None:
                file.seek(PAGE, 1)
            else:
                file.write(page)
        file.truncate(file.tell())
    guest.write(guest.symbol("KdDebuggerDataBlock"), guest.debugger_data)


def vmware(guest, folder):
    """A .vmss beside its .vmem: groups of tags, of which cpu tells registers."""
    registers = guest.registers()

    def tag(name, indices, data):
        return struct.pack("<BB", len(indices) << 6 | len(data), len(name)) + name + \
            b"".join(struct.pack("<I", i) for i in indices) + data

    tags = b"".join(tag(b"CR64", (0, int(name[2:])), struct.pack("<Q", registers[name]))
                    for name in ("cr0", "cr3", "cr4"))
    tags += tag(b"rip", (0,), struct.pack("<Q", guest.symbol("NtService"))) + b"\0\0"
    memory = tag(b"regionsCount", (), struct.pack("<I", 0)) + b"\0\0"
    at = 12 + 2 * 80
    groups = struct.pack("<64sQQ", b"cpu", at, len(tags)) + \
        struct.pack("<64sQQ", b"memory", at + len(tags), len(memory))
    (folder / "memory.vmss").write_bytes(struct.pack("<III", 0xbed2bed2, 8, 2) + groups + tags +
                                         memory)
    guest.memory.save(folder / "memory.vmem")
    return str(folder / "memory.vmss")
