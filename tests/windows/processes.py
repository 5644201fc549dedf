# SPDX-License-Identifier: Apache-2.0
"""Processes of a guest: their kernel objects, page tables, VADs, tokens, PEBs and modules."""

import struct

from guest import DATA, filetime, to_ns
from layouts import Layouts
from memory import PAGE, P, Tables, U, W

VOLUME = "\\Device\\HarddiskVolume2"
# MM_PROTECTION_MASK values: the rights that ps shows, and PAGE_* as VirtualQuery gives it.
PROTECTIONS = {0x18: ("---", 0x1), 1: ("r--", 0x2), 2: ("--x", 0x10), 3: ("r-x", 0x20),
               4: ("rw-", 0x4), 5: ("rw-", 0x8), 6: ("rwx", 0x40), 7: ("rwx", 0x80),
               0x14: ("rw-", 0x104), 0xc: ("rw-", 0x204), 0x1c: ("rw-", 0x404)}


PRESENT, ENABLED = 0x1ff2ffffbc, 0x60900000


class User:
    """User memory of one process."""

    def __init__(self, guest, tables, wide):
        self.guest, self.tables, self.wide = guest, tables, wide
        self.next = self.end = 0x2000000

    def alloc(self, size):
        at = -(-self.next // 16) * 16
        self.next = at + size
        while self.end < self.next:
            self.tables.map(self.end, self.guest.memory.page(), P | W | U)
            self.end += PAGE
        return at


def create(guest, name, pid, ppid, **options):
    """A process, listed. See the defaults for what it can have."""
    o = {"created": 10, "exited": None, "status": 0, "session": 0, "sid": (5, 18),
         "integrity": 0x4000, "protection": 0, "path": None, "command": None,
         "environment": None, "modules": (), "threads": 1, "vads": (), "peb": True,
         "paged_out": False, "wow64": False, "kernel": False, "listed": True, **options}
    put = guest.put
    body = guest.object("Process", "_EPROCESS")
    tables = Tables(guest.memory, guest.mode, guest.tables)
    guest.number(body, 3, 1)
    guest.ptr(guest.at(body, "_KPROCESS", "DirectoryTableBase"), tables.root |
              (2 if guest.kpti else 0))
    record = {"body": body, "tables": tables, "name": name}
    if guest.kpti:
        record["user_root"] = user_root(guest)
        put(body, "_KPROCESS", "UserDirectoryTableBase", record["user_root"] | 1)
    put(body, "_EPROCESS", "UniqueProcessId", pid)
    put(body, "_EPROCESS", "InheritedFromUniqueProcessId", ppid)
    guest.write(guest.at(body, "_EPROCESS", "ImageFileName"),
                name.encode("latin-1")[:14] + b"\0")
    put(body, "_EPROCESS", "CreateTime", filetime(o["created"]))
    if o["exited"] is not None:
        put(body, "_EPROCESS", "ExitTime", filetime(o["exited"]))
        put(body, "_EPROCESS", "ExitStatus", o["status"])
    if o["protection"] and guest.has("_EPROCESS", "Protection"):
        put(body, "_EPROCESS", "Protection", o["protection"])
    token(guest, body, o)
    user = User(guest, tables, guest.wide)
    truth = {"pid": pid, "ppid": ppid, "comm": name[:14], "created_ns": to_ns(filetime(o["created"])),
             "start_ns": o["created"] * 10 ** 9, "session": o["session"], "object": hex(body),
             "root": hex(tables.root), "exited": o["exited"] is not None,
             "exited_ns": None if o["exited"] is None else to_ns(filetime(o["exited"])),
             "exit_status": None if o["exited"] is None else o["status"],
             "protection": hex(o["protection"]) if guest.has("_EPROCESS", "Protection") else None,
             "integrity": hex(o["integrity"]) if guest.major >= 6 else None,
             "is_32bit": o["wow64"], "path": o["path"], "threads": o["threads"],
             "sid": "S-1-" + "-".join(map(str, o["sid"])),
             "arguments": None, "modules": [], "regions": []}
    if o["path"]:
        o["vads"] = image_path(guest, body, o["path"], list(o["vads"]))
    if o["exited"] is not None:
        # Its page tables are someone else's by now.
        page = guest.memory.page()
        guest.memory.write(page, guest.random.randbytes(4096))
        guest.ptr(guest.at(body, "_KPROCESS", "DirectoryTableBase"), page)
        truth["root"] = None
    elif not o["kernel"]:
        peb(guest, record, body, user, o, truth)
    vads(guest, body, o["vads"], truth)
    guest.list_init(guest.at(body, "_EPROCESS", "ThreadListHead"))
    truth["kernel_thread"] = o["kernel"]
    threads(guest, record, body, pid, o, truth)
    if o["listed"]:
        guest.list_add(guest.symbol("PsActiveProcessHead"),
                       guest.at(body, "_EPROCESS", "ActiveProcessLinks"))
    record["truth"], record["user"] = truth, user
    guest.processes.append(record)
    return record


def image_path(guest, body, path, regions):
    """The program: in the process where there is a place for it, else what is mapped."""
    file = path[len(VOLUME):]
    if guest.has("_EPROCESS", "SeAuditProcessCreationInfo"):
        at = guest.alloc(2 * guest.pointer)
        guest.unicode(at, path)
        guest.put(body, "_EPROCESS", "SeAuditProcessCreationInfo.ImageFileName", at)
    elif guest.has("_EPROCESS", "ImageFilePointer"):
        guest.put(body, "_EPROCESS", "ImageFilePointer", file_object(guest, file))
    else:
        guest.put(body, "_EPROCESS", "SectionBaseAddress", 0x400000)
        if all(region["start"] != 0x400000 for region in regions):
            regions.append({"start": 0x400000, "end": 0x410000, "protection": 7, "private": False,
                            "image": True, "file": file})
    return regions


def user_root(guest):
    """What KVA shadow leaves of the kernel in user mode: entry code, IDT, KPCR, shared data."""
    shadow = Tables(guest.memory, guest.mode)
    shadow.put(shadow.root, shadow.self_index, 0)
    for name in ("KiSystemCall64Shadow", "KiPageFaultShadow"):
        page = guest.symbol(name) & ~0xfff
        shadow.map(page, guest.tables.translate(page))
    for i in range(16):
        shadow.map(guest.kpcr + PAGE * i, guest.tables.translate(guest.kpcr + PAGE * i))
    return shadow.root


def sid_bytes(authority, *parts):
    return struct.pack("<BB6s", 1, len(parts), authority.to_bytes(6, "big")) + \
        b"".join(struct.pack("<I", part) for part in parts)


def token(guest, body, o):
    at = guest.object("Token", "_TOKEN")
    sids = [sid_bytes(*o["sid"]), sid_bytes(1, 0), sid_bytes(5, 32, 544)]
    if guest.major >= 6:
        guest.put(at, "_TOKEN", "IntegrityLevelIndex", len(sids))
        sids.append(sid_bytes(16, o["integrity"]))
        guest.put(at, "_TOKEN", "Privileges.Present", PRESENT)
        guest.put(at, "_TOKEN", "Privileges.Enabled", ENABLED)
    else:
        # LUID_AND_ATTRIBUTES
        kinds = [i for i in range(64) if PRESENT >> i & 1]
        privileges = guest.alloc(12 * len(kinds))
        guest.write(privileges, b"".join(struct.pack("<III", i, 0, 2 * (ENABLED >> i & 1))
                                         for i in kinds))
        guest.put(at, "_TOKEN", "PrivilegeCount", len(kinds))
        guest.put(at, "_TOKEN", "Privileges", privileges)
    groups = guest.alloc(len(sids) * 2 * guest.pointer)
    for i, sid in enumerate(sids):
        where = guest.alloc(len(sid))
        guest.write(where, sid)
        guest.ptr(groups + 2 * guest.pointer * i, where)
        guest.number(groups + 2 * guest.pointer * i + guest.pointer, 7, 4)
    guest.put(at, "_TOKEN", "UserAndGroups", groups)
    guest.put(at, "_TOKEN", "UserAndGroupCount", len(sids))
    guest.put(at, "_TOKEN", "SessionId", o["session"])
    guest.ptr(guest.at(body, "_EPROCESS", "Token"), at | 5)
    return at


def loader(guest, user, layouts, at, modules, truth, narrow):
    """_PEB_LDR_DATA with its modules; `at` is where the PEB points to it."""
    n, tables = layouts.pointer, user.tables
    ldr = user.alloc(layouts.size("_PEB_LDR_DATA"))
    guest.number(at, ldr, n, tables)
    head = ldr + layouts.offset("_PEB_LDR_DATA", "InLoadOrderModuleList")
    guest.number(head, head, n, tables)
    guest.number(head + n, head, n, tables)
    for name, path, base, size in modules:
        entry = user.alloc(layouts.size("_LDR_DATA_TABLE_ENTRY"))
        for member, value, width in (("DllBase", base, n), ("EntryPoint", base + 0x1234, n),
                                     ("SizeOfImage", size, 4)):
            guest.number(entry + layouts.offset("_LDR_DATA_TABLE_ENTRY", member), value, width,
                         tables)
        for member, text in (("FullDllName", path), ("BaseDllName", name)):
            raw = text.encode("utf-16-le")
            guest.unicode(entry + layouts.offset("_LDR_DATA_TABLE_ENTRY", member), text,
                          user.alloc(len(raw) + 2), tables, n)
        guest.list_add(head, entry + layouts.offset("_LDR_DATA_TABLE_ENTRY", "InLoadOrderLinks"),
                       tables, n)
        truth["modules"].append({"name": name, "path": path, "base": hex(base), "size": size,
                                 "entry": hex(base + 0x1234), "is_32bit": narrow})


def narrow_layouts(guest):
    release = guest.release if guest.build < 22000 else "10.0.19041.264"
    if release.startswith("10.0.18362"):
        release = "10.0.18362.1"
    return Layouts(DATA / "struct-layouts.tsv.xz", release, "x86")


def peb(guest, record, body, user, o, truth):
    layouts, tables = guest.layouts, user.tables
    at = 0x7fdab123000 if guest.wide else 0x7ffdf000
    for i in range(2):
        tables.map(at + PAGE * i, guest.memory.page(), P | W | U)
    guest.put(body, "_EPROCESS", "Peb", at)
    record["peb"] = at
    if o["paged_out"]:
        # In the page file.
        tables.set_entry(at, 0x12345 << (32 if guest.mode != "x86" else 12) | 4 << 5)
        return
    guest.number(layouts.offset("_PEB", "ImageBaseAddress") + at, 0x400000, guest.pointer, tables)
    if o["modules"]:
        loader(guest, user, layouts, layouts.offset("_PEB", "Ldr") + at, o["modules"], truth, False)
    parameters = user.alloc(layouts.size("_RTL_USER_PROCESS_PARAMETERS"))
    guest.number(at + layouts.offset("_PEB", "ProcessParameters"), parameters, guest.pointer, tables)
    command = o["command"]
    if command is not None:
        raw = command if isinstance(command, bytes) else command.encode("utf-16-le")
        guest.unicode(parameters + layouts.offset("_RTL_USER_PROCESS_PARAMETERS", "CommandLine"),
                      raw, user.alloc(len(raw) + 2), tables)
        # As tools print it: an unpaired surrogate by its bytes.
        text = raw.decode("utf-16-le", "surrogatepass").encode("utf-8", "surrogatepass").decode("utf-8", "backslashreplace")
        truth["arguments"] = [text] if text else []
    else:
        truth["arguments"] = []
    if o["environment"]:
        raw = "".join(one + "\0" for one in o["environment"]).encode("utf-16-le") + b"\0\0"
        where = user.alloc(len(raw))
        guest.write(where, raw, tables)
        guest.number(parameters + layouts.offset("_RTL_USER_PROCESS_PARAMETERS", "Environment"),
                     where, guest.pointer, tables)
        truth["environment"] = o["environment"]
    if o["wow64"]:
        wow64(guest, body, user, o, truth)


def wow64(guest, body, user, o, truth):
    narrow = narrow_layouts(guest)
    at = 0x7efde000
    user.tables.map(at, guest.memory.page(), P | W | U)
    member = "WoW64Process" if guest.has("_EPROCESS", "WoW64Process") else "Wow64Process"
    value = at
    for tag, field in (("_EWOW64PROCESS", "Peb"), ("_WOW64_PROCESS", "Wow64")):
        if guest.has(tag, field):
            value = guest.alloc(guest.layouts.size(tag))
            guest.ptr(guest.at(value, tag, field), at)
            break
    guest.put(body, "_EPROCESS", member, value)
    loader(guest, user, narrow, at + narrow.offset("_PEB", "Ldr"),
           [("ntdll.dll", "C:\\Windows\\SysWOW64\\ntdll.dll", 0x77000000, 0x180000),
            ("kernel32.dll", "C:\\Windows\\SysWOW64\\kernel32.dll", 0x76000000, 0xd0000)],
           truth, True)
    truth["user_block_32"] = hex(at)


# VADs.

def file_object(guest, name):
    """A file on the volume."""
    at = guest.object("File", "_FILE_OBJECT")
    guest.put(at, "_FILE_OBJECT", "DeviceObject", guest.volume)
    guest.unicode(guest.at(at, "_FILE_OBJECT", "FileName"), name)
    return at


def vad(guest, start, end, protection, private=True, image=False, file=None):
    tag = "_MMVAD_SHORT" if private else "_MMVAD"
    at = guest.alloc(guest.layouts.size(tag))
    guest.put(at, "_MMVAD_SHORT", "StartingVpn", start >> 12)
    guest.put(at, "_MMVAD_SHORT", "EndingVpn", (end >> 12) - 1)
    if guest.has("_MMVAD_SHORT", "StartingVpnHigh"):
        guest.put(at, "_MMVAD_SHORT", "StartingVpnHigh", start >> 44)
        guest.put(at, "_MMVAD_SHORT", "EndingVpnHigh", (end >> 12) - 1 >> 32)
    guest.put(at, "_MMVAD_SHORT", "VadFlags.Protection", protection)
    guest.put(at, "_MMVAD_SHORT", "VadFlags.PrivateMemory", int(private))
    if guest.has("_MMVAD_FLAGS", "VadType"):
        guest.put(at, "_MMVAD_SHORT", "VadFlags.VadType", 2 if image else 0)
    else:
        guest.put(at, "_MMVAD_SHORT", "VadFlags.ImageMap", int(image))
    if not private:
        area = guest.alloc(guest.layouts.size("_CONTROL_AREA"))
        if file:
            counted = 3 if guest.major >= 6 else 0
            guest.ptr(guest.at(area, "_CONTROL_AREA", "FilePointer"),
                      file_object(guest, file) | counted)
        if guest.has("_MMVAD", "Subsection"):
            subsection = guest.alloc(guest.layouts.size("_SUBSECTION"))
            guest.put(subsection, "_SUBSECTION", "ControlArea", area)
            guest.put(at, "_MMVAD", "Subsection", subsection)
        else:
            guest.put(at, "_MMVAD", "ControlArea", area)
    return at


def vads(guest, body, regions, truth):
    nodes = []
    for region in sorted(regions, key=lambda r: r["start"]):
        at = vad(guest, **region)
        nodes.append(at)
        rights, page = PROTECTIONS[region["protection"]]
        private, file = region.get("private", True), region.get("file")
        shared = not private and region["protection"] & 7 not in (5, 7)
        truth["regions"].append({
            "start": hex(region["start"]), "end": hex(region["end"]), "prot": rights,
            "protection": hex(page), "private": private, "image": region.get("image", False),
            "shared": shared, "guard": page & 0x100 != 0, "object": hex(at),
            "path": VOLUME + file if file else ""})
    left, right, parent = (guest.layouts.offset("_MMVAD_SHORT", name)
                           for name in tree_names(guest))
    skewed = guest.major == 5 and not guest.wide

    def build(first, last, above):
        if first > last:
            return 0
        # A splay tree may be a list.
        middle = first if skewed else (first + last) // 2
        node = nodes[middle]
        guest.ptr(node + left, build(first, middle - 1, node))
        guest.ptr(node + right, build(middle + 1, last, node))
        # The balance is in the low bits of the parent.
        guest.ptr(node + parent, above | (0 if skewed else (middle & 1)))
        return node

    where = guest.at(body, "_EPROCESS", "VadRoot")
    if guest.layouts.structs["_EPROCESS"]["VadRoot"][1] == "_MM_AVL_TABLE":
        tag = guest.layouts.structs["_MM_AVL_TABLE"]["BalancedRoot"][1]
        guest.put(where, tag, "RightChild", build(0, len(nodes) - 1, where))
        guest.put(where, "_MM_AVL_TABLE", "NumberGenericTableElements", len(nodes))
    else:
        guest.ptr(where, build(0, len(nodes) - 1, 0))


def tree_names(guest):
    if guest.has("_MMVAD_SHORT", "LeftChild"):
        return "LeftChild", "RightChild", "Parent"
    if guest.layouts.structs["_MMVAD_SHORT"]["VadNode"][1] == "_MM_AVL_NODE":
        return "VadNode.LeftChild", "VadNode.RightChild", "VadNode.Parent"
    return "VadNode.Left", "VadNode.Right", "VadNode.ParentValue"


# Threads.

def threads(guest, record, body, pid, o, truth):
    guest.put(body, "_EPROCESS", "ActiveThreads", o["threads"])
    truth["thread_list"] = []
    for i in range(o["threads"]):
        at = guest.object("Thread", "_ETHREAD")
        tid = pid + 4 * (i + 1)
        guest.number(at, 6, 1)
        guest.put(at, "_ETHREAD", "Cid.UniqueProcess", pid)
        guest.put(at, "_ETHREAD", "Cid.UniqueThread", tid)
        shift = 3 if guest.major == 5 else 0
        guest.put(at, "_ETHREAD", "CreateTime", filetime(o["created"] + i) << shift)
        state = (5, 2, 1, 4)[i % 4]
        guest.put(at, "_KTHREAD", "State", state)
        if guest.has("_KTHREAD", "Process"):
            guest.put(at, "_KTHREAD", "Process", body)
        guest.put(at, "_KTHREAD", "ApcState.Process", body)
        kernel_start = guest.symbol("NtService")
        guest.put(at, "_ETHREAD", "StartAddress", kernel_start)
        start = kernel_start
        if not o["kernel"]:
            start = 0x401000 + 0x10 * i
            guest.put(at, "_ETHREAD", "Win32StartAddress", start)
            guest.put(at, "_KTHREAD", "Teb", 0x7ffde000 - PAGE * i)
        stack = guest.alloc(0x3000, PAGE)
        guest.put(at, "_KTHREAD", "InitialStack", stack + 0x3000)
        if guest.has("_KTHREAD", "StackBase"):
            guest.put(at, "_KTHREAD", "StackBase", stack + 0x3000)
        guest.put(at, "_KTHREAD", "StackLimit", stack)
        guest.put(at, "_KTHREAD", "KernelStack", stack + 0x1000)
        # Where it returns to, and below that where it once would have.
        for where in (0xff0, 0x2000 + guest.pointer):
            guest.ptr(stack + where, guest.symbol("NtService") + 1)
        guest.list_add(guest.at(body, "_EPROCESS", "ThreadListHead"),
                       guest.at(at, "_ETHREAD", "ThreadListEntry"))
        truth["thread_list"].append({
            "pid": tid, "tgid": pid, "object": hex(at), "process": hex(body),
            "state": {5: "S", 2: "R", 1: "R", 4: "X"}[state], "entry": hex(start),
            "created_ns": to_ns(filetime(o["created"] + i)), "stack_start": hex(stack),
            "stack_end": hex(stack + 0x3000),
            "returns_from": hex(stack + 0x2000 + guest.pointer),
            "user_block": "0x0" if o["kernel"] else hex(0x7ffde000 - PAGE * i)})
        record["thread"] = at
        guest.current_stack = record["stack"] = stack + 0x2f00
        guest.put(guest.prcb, "_KPRCB", "CurrentThread", at)
