# SPDX-License-Identifier: Apache-2.0
"""Handles, drivers, callbacks and services of a guest."""

import struct

from guest import filetime, to_ns
from memory import PAGE
from processes import VOLUME, file_object


# Handles.

def handle_entry(guest, header, access):
    """_HANDLE_TABLE_ENTRY that leads to an object's header."""
    if not guest.has("_HANDLE_TABLE_ENTRY", "ObjectPointerBits"):
        return (struct.pack("<QII", header | 1, access, 0) if guest.wide else
                struct.pack("<II", header | 1, access))
    _, _, bits, at = guest.layouts.structs["_HANDLE_TABLE_ENTRY"]["ObjectPointerBits"]
    if guest.wide:
        low = (header >> 4 & (1 << bits) - 1) << at | 1
        return struct.pack("<QII", low, access | 0x2000000, 0)
    return struct.pack("<II", (header >> 3 & (1 << bits) - 1) << at | 1, access | 0x4000000)


def handle_table(guest, process, handles):
    """`handles`: {number: (object, access)}."""
    size = guest.layouts.size("_HANDLE_TABLE_ENTRY")
    per_leaf, per_table = PAGE // size, PAGE // guest.pointer
    top = max(handles) // 4
    leaves = {}
    for number, (body, access) in handles.items():
        index = number // 4
        leaf = leaves.setdefault(index // per_leaf, guest.alloc(PAGE, PAGE))
        header = body - guest.layouts.offset("_OBJECT_HEADER", "Body")
        guest.write(leaf + index % per_leaf * size, handle_entry(guest, header, access))
    level = 0 if top < per_leaf else 1 if top < per_leaf * per_table else 2
    # Tables are filled from their beginning.
    for i in range(max(leaves)):
        if i not in leaves and (level == 1 or i // per_table == max(leaves) // per_table):
            leaves[i] = guest.alloc(PAGE, PAGE)
    if level == 0:
        code = leaves[0]
    else:
        middle = {}
        for i, leaf in leaves.items():
            table = middle.setdefault(i // per_table, guest.alloc(PAGE, PAGE))
            guest.ptr(table + i % per_table * guest.pointer, leaf)
        code = middle.get(0)
        if level == 2:
            code = guest.alloc(PAGE, PAGE)
            for i in range(max(middle) + 1):
                guest.ptr(code + i * guest.pointer, middle.get(i) or guest.alloc(PAGE, PAGE))
    table = guest.alloc(guest.layouts.size("_HANDLE_TABLE"))
    guest.put(table, "_HANDLE_TABLE", "TableCode", code | level)
    guest.put(table, "_HANDLE_TABLE", "NextHandleNeedingPool", (max(leaves) + 1) * per_leaf * 4)
    guest.put(process["body"], "_EPROCESS", "ObjectTable", table)


def key_body(guest, path):
    """A _CM_KEY_BODY with the control blocks of its path."""
    parent = 0
    for part in path.strip("\\").split("\\"):
        compressed = all(ord(c) < 256 for c in part)
        raw = part.encode("latin-1" if compressed else "utf-16-le")
        block = guest.alloc(guest.layouts.offset("_CM_NAME_CONTROL_BLOCK", "Name") + len(raw) + 8)
        guest.put(block, "_CM_NAME_CONTROL_BLOCK", "Compressed", int(compressed))
        guest.put(block, "_CM_NAME_CONTROL_BLOCK", "NameLength", len(raw))
        guest.write(guest.at(block, "_CM_NAME_CONTROL_BLOCK", "Name"), raw)
        control = guest.alloc(guest.layouts.size("_CM_KEY_CONTROL_BLOCK"))
        guest.put(control, "_CM_KEY_CONTROL_BLOCK", "NameBlock", block)
        guest.put(control, "_CM_KEY_CONTROL_BLOCK", "ParentKcb", parent)
        parent = control
    body = guest.object("Key", "_CM_KEY_BODY")
    guest.put(body, "_CM_KEY_BODY", "KeyControlBlock", parent)
    return body


def handles(guest, process, other):
    """Of every kind, in a table of each depth; truth["handles"] says which."""
    guest.directory("BaseNamedObjects", "\\")
    event = guest.object("Event", "_KEVENT", 0x40, "Global Event", "BaseNamedObjects")
    plain = guest.object("Event", "_KEVENT", 0x40)
    file = file_object(guest, "\\Users\\caf\u00e9.txt")
    path = "\\REGISTRY\\MACHINE\\SYSTEM\\\u041a\u043b\u044e\u0447\\Sub"
    key = key_body(guest, path)
    name, pid = other["truth"]["comm"], other["truth"]["pid"]
    thread = other["thread"]
    tid = other["truth"]["thread_list"][-1]["pid"]
    table = {
        4: (event, 0x1f0003, "Event", "\\BaseNamedObjects\\Global Event"),
        8: (file, 0x12019f, "File", VOLUME + "\\Users\\caf\u00e9.txt"),
        0x10: (key, 0x20019, "Key", path),
        0x14: (other["body"], 0x1fffff, "Process", "%s (%d)" % (name, pid)),
        0x18: (thread, 0x1fffff, "Thread", "%s (%d, %d)" % (name, pid, tid)),
        0x1c: (plain, 0x100000, "Event", ""),
        0x404 * 4: (guest.directories["Device"], 3, "Directory", "\\Device"),
    }
    handle_table(guest, process, {number: row[:2] for number, row in table.items()})
    process["truth"]["handles"] = [
        {"handle": hex(number), "object": hex(body), "access": hex(access), "type": kind,
         "name": name} for number, (body, access, kind, name) in table.items()]


# Drivers.

def drivers(guest):
    guest.truth["drivers"] = []
    for i, module in enumerate(guest.modules[1:]):
        name = module["name"].split(".")[0]
        body = guest.object("Driver", "_DRIVER_OBJECT", guest.layouts.size("_DRIVER_OBJECT") + 0x100,
                            name, "Driver")
        base = int(module["base"], 16)
        for member, value in (("DriverStart", base), ("DriverSize", module["size"]),
                              ("DriverSection", int(module["object"], 16)),
                              ("DriverUnload", base + 0x2000)):
            guest.put(body, "_DRIVER_OBJECT", member, value)
        table = guest.at(body, "_DRIVER_OBJECT", "DriverUnload") + guest.pointer
        dispatch = [base + 0x3000 + 0x10 * j for j in range(28)]
        for j, function in enumerate(dispatch):
            guest.ptr(table + j * guest.pointer, function)
        extension = guest.alloc(guest.layouts.size("_DRIVER_EXTENSION"))
        guest.put(body, "_DRIVER_OBJECT", "DriverExtension", extension)
        guest.unicode(guest.at(extension, "_DRIVER_EXTENSION", "ServiceKeyName"), name + "svc")
        devices = []
        above = 0
        for j in range(i % 3):
            device = guest.object("Device", "_DEVICE_OBJECT", None,
                                  *(("%s%d" % (name, j), "Device") if j else ()))
            guest.put(device, "_DEVICE_OBJECT", "DriverObject", body)
            guest.put(device, "_DEVICE_OBJECT", "NextDevice", above)
            guest.put(device, "_DEVICE_OBJECT", "DeviceType", 0x22 + j)
            devices.insert(0, {"object": hex(device), "type": 0x22 + j, "attached": "0x0",
                               "name": "\\Device\\%s%d" % (name, j) if j else None})
            above = device
        guest.put(body, "_DRIVER_OBJECT", "DeviceObject", above)
        guest.truth["drivers"].append({
            "name": "\\Driver\\" + name, "service": name + "svc", "start": module["base"],
            "size": module["size"], "module": module["object"], "object": hex(body),
            "unload": hex(base + 0x2000), "dispatch": [hex(f) for f in dispatch],
            "devices": devices})


def unloaded(guest):
    array = guest.alloc(50 * (4 * guest.pointer + 8))
    guest.ptr(guest.symbol("MmUnloadedDrivers"), array)
    guest.truth["unloaded"] = []
    for i in range(3):
        at = array + i * (4 * guest.pointer + 8)
        base = int(guest.modules[1]["base"], 16) + 0x1000000 * (i + 1)
        name = "old%d.sys" % i
        guest.unicode(at, name)
        guest.ptr(at + 2 * guest.pointer, base)
        guest.ptr(at + 3 * guest.pointer, base + 0x9000)
        guest.number(at + 4 * guest.pointer, filetime(50 + i), 8)
        guest.truth["unloaded"].append({"name": name, "start": hex(base), "end": hex(base + 0x9000),
                                        "time_ns": to_ns(filetime(50 + i))})


# What the kernel calls.

def callbacks(guest):
    n = guest.pointer
    told = guest.truth["callbacks"] = []

    def expect(kind, function, context, record, detail):
        told.append({"kind": kind, "function": hex(function), "context": hex(context),
                     "object": hex(record), "detail": detail,
                     "module": guest.modules[1]["name"]})

    base = int(guest.modules[1]["base"], 16)
    arrays = [("process", "PspCreateProcessNotifyRoutine"),
              ("thread", "PspCreateThreadNotifyRoutine"), ("image", "PspLoadImageNotifyRoutine")]
    if guest.major == 5:
        arrays.append(("registry", "CmpCallBackVector"))
    for number, (kind, symbol) in enumerate(arrays):
        for slot in (0, 1, 5):
            block = guest.alloc(4 * n)
            function = base + 0x4000 + 0x100 * number + 0x10 * slot
            guest.ptr(block + n, function)
            guest.ptr(block + 2 * n, slot)
            guest.ptr(guest.symbol(symbol) + slot * n, block | (15 if guest.wide else 7))
            expect(kind, function, slot, block, "")
    if guest.major >= 6:
        # LIST_ENTRY, two numbers, cookie, context, function, altitude.
        record = guest.alloc(0x60)
        at = record + 2 * n + 8 + 8
        guest.ptr(at, 0x1234)
        guest.ptr(at + n, base + 0x4800)
        guest.unicode(at + 2 * n, "321000.5")
        guest.list_add(guest.symbol("CallbackListHead"), record)
        expect("registry", base + 0x4800, 0x1234, record, "321000.5")
    for kind, symbol in (("bugcheck", "KeBugCheckCallbackListHead"),
                         ("bugcheck-reason", "KeBugCheckReasonCallbackListHead")):
        record, text = guest.alloc(0x60), guest.alloc(16)
        guest.write(text, b"vol\xe9")
        reason = kind != "bugcheck"
        bugcheck_record(guest, record, base + 0x4900, text, 2 if reason else None)
        guest.list_add(guest.symbol(symbol), record)
        expect(kind, base + 0x4900, 0 if reason else 0x5678, record, "vol\u00e9")


def bugcheck_record(guest, record, routine, text, reason=None):
    """KBUGCHECK_CALLBACK_RECORD, or KBUGCHECK_REASON_CALLBACK_RECORD; inserted."""
    n = guest.pointer
    fields = (routine, 0x5678, 0x40, text) if reason is None else (routine, text)
    for i, value in enumerate((*fields, sum(fields) + (reason or 0))):
        guest.ptr(record + (2 + i) * n, value)
    if reason is not None:
        guest.number(record + 5 * n, reason, 4)
        guest.number(record + 5 * n + 4, 1, 1)
    else:
        guest.number(record + 7 * n, 1, 1)


def services(guest):
    """The kernel's table."""
    n, table = guest.pointer, guest.symbol("KiServiceTable")
    descriptor = guest.symbol("KeServiceDescriptorTable")
    count, first = 40, guest.symbol("NtService")
    arguments = guest.alloc(count)
    guest.ptr(descriptor, table)
    guest.ptr(descriptor + 2 * n, count)
    guest.ptr(descriptor + 3 * n, arguments)
    told = guest.truth["services"] = []
    for i in range(count):
        function = first + i if i != 7 else int(guest.modules[2]["base"], 16)
        if guest.wide and i == 7:
            function = first - 0x20
        function &= ~15 if guest.wide and guest.major == 5 else -1
        words = i % 5
        if not guest.wide:
            guest.number(table + 4 * i, function, 4)
            guest.number(arguments + i, 4 * words, 1)
        else:
            offset = function - table
            offset = offset << 4 if guest.major >= 6 else offset & ~15
            guest.number(table + 4 * i, offset | words, 4)
            function = table + (offset >> 4 if guest.major >= 6 else offset)
        told.append({"number": hex(i), "function": hex(function),
                     "arguments": words * guest.pointer})


def session_services(guest, process):
    """win32k's table, in memory that only processes of a session have."""
    n, kernel = guest.pointer, guest.symbol("KiServiceTable")
    shadow = guest.symbol("KeServiceDescriptorTableShadow")
    # Between what others share.
    table = 0xfffff90000100000 if guest.wide else 0xbf800000
    page = guest.memory.page()
    process["session_pages"] = [(table, page)]
    count, arguments = 9, table + 0x800
    for at, base, limit in ((shadow, kernel, 40), (shadow + 4 * n, table, count)):
        guest.ptr(at, base)
        guest.ptr(at + 2 * n, limit)
        guest.ptr(at + 3 * n, arguments)
    told = guest.truth["session_services"] = []
    for i in range(count):
        function, words = table + 0x20 * i + 0x100, i % 4
        if guest.wide:
            offset = function - table
            value = (offset << 4 if guest.major >= 6 else offset) | words
        else:
            value = function
            guest.memory.write(page + 0x800 + i, bytes([4 * words]))
        guest.memory.write(page + 4 * i, struct.pack("<I", value))
        told.append([hex(0x1000 + i), hex(function), str(words * n)])
