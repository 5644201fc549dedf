# SPDX-License-Identifier: Apache-2.0
"""Builds the memory of a Windows guest, and says what is in it.

The kernel's structures are laid out as data/windows/struct-layouts.tsv.xz says for a release, the
kernel's image is a real PE with a real PDB (image.py). What is put in is also put into `truth`, which
is what the library must say, and nothing else.
"""

import lzma
import pathlib
import random
import struct

from image import Image
from layouts import WIDTHS, Layouts
from memory import NX, PAGE, P, Memory, Tables, U, W

DATA = pathlib.Path(__file__).resolve().parents[2] / "data" / "windows"
EPOCH = 116444736000000000
BOOT = EPOCH + 16000000000000000        # in 2020
RAM = 32 << 20
PROCESSORS = 3

# Name: release, architecture, paging.
RELEASES = {
    "xp-x86": ("5.1.2600.5512", "x86", "x86"),
    "xp-pae": ("5.1.2600.5512", "x86", "pae"),
    "2003-x64": ("5.2.3790.3959", "x64", "4level"),
    "vista-x64": ("6.0.6002.18005", "x64", "4level"),
    "7-x64": ("6.1.7601.17514", "x64", "4level"),
    "7-pae": ("6.1.7601.17514", "x86", "pae"),
    "8-x64": ("6.2.9200.16384", "x64", "4level"),
    "8.1-x64": ("6.3.9600.17415", "x64", "4level"),
    "10240-x64": ("10.0.10240.16384", "x64", "4level"),
    "1809-x64": ("10.0.17763.107", "x64", "4level"),
    "19041-x64": ("10.0.19041.264", "x64", "4level"),
    "19041-pae": ("10.0.19041.264", "x86", "pae"),
    "22000-x64": ("10.0.22000.194", "x64", "4level"),
    "22631-x64": ("10.0.22631.2428", "x64", "4level"),
    # Laid out as on x64: the layouts of arm64 are not known.
    "22631-arm64": ("10.0.22631.2428", "arm64", "arm64"),
}

TYPES = ["Type", "Directory", "SymbolicLink", "Token", "Process", "Thread", "Event", "Mutant",
         "Section", "Device", "Driver", "File", "Key"]


def filetime(seconds):
    return BOOT + seconds * 10000000


def to_ns(time):
    return (time - EPOCH) * 100


class Guest:
    """
    `known`: as the kernel of a row of the symbol RVAs, else of a PDB that nobody knows.
    `unknown`: of a build that nobody knows, whose processes are laid out otherwise.
    """

    def __init__(self, name, folder, kpti=False, known=False, unknown=False, seed=1):
        self.release, self.arch, self.mode = RELEASES[name]
        self.major, self.minor, self.build, _ = map(int, self.release.split("."))
        self.wide = self.arch != "x86"
        self.pointer = 8 if self.wide else 4
        self.kpti = kpti
        self.random = random.Random(seed)
        self.layouts = Layouts(DATA / "struct-layouts.tsv.xz", self.release,
                               "x64" if self.wide else "x86")
        if unknown:
            self.build += 9000
            self.shift_processes()
        self.memory = Memory(RAM, seed)
        self.tables = Tables(self.memory, self.mode)
        self.processes, self.threads, self.modules = [], [], []
        self.next_pool = 0x85000000 if not self.wide else \
            0xffffab8000000000 if self.build >= 9600 else 0xfffffa8001000000
        self.pool_end = self.next_pool
        self.truth = {"release": "%d.%d.%d" % (self.major, self.minor, self.build),
                      "kpti": kpti}
        # Where the version is not in memory, the build alone is known.
        self.versioned = not known and not unknown and self.arch != "arm64"
        self.image = Image(folder, self.arch, self.major >= 10,
                           self.release if self.versioned else None)
        self.known = None
        self.place_image(known)
        self.shared_data()
        self.types()
        self.processor()
        self.debugger()

    def shift_processes(self):
        for tag in ("_EPROCESS", "_ETHREAD"):
            members = self.layouts.structs[tag]
            for name, (offset, kind, width, bit) in members.items():
                if offset:
                    members[name] = offset + 0x28, kind, width, bit
            self.layouts.sizes[tag] += 0x28

    # Memory.

    def write(self, gva, data, tables=None):
        tables = tables or self.tables
        while data:
            n = min(len(data), PAGE - gva % PAGE)
            gpa = tables.translate(gva)
            if gpa is None:
                raise KeyError(hex(gva))
            self.memory.write(gpa, data[:n])
            gva, data = gva + n, data[n:]

    def read_number(self, gva, size, tables=None):
        gpa = (tables or self.tables).translate(gva)
        return int.from_bytes(self.memory.read(gpa, size), "little")

    def number(self, gva, value, size, tables=None):
        self.write(gva, (value & (1 << 8 * size) - 1).to_bytes(size, "little"), tables)

    def ptr(self, gva, value, tables=None):
        self.number(gva, value, self.pointer, tables)

    def alloc(self, size, alignment=16):
        """Kernel memory of zeros."""
        at = -(-self.next_pool // alignment) * alignment
        self.next_pool = at + size
        while self.pool_end < self.next_pool:
            self.tables.map(self.pool_end, self.memory.page(), P | W | (NX if self.wide else 0))
            self.pool_end += PAGE
        return at

    def put(self, base, tag, path, value, tables=None):
        """A member of a structure at `base`; bit-fields too."""
        parts = path.split(".")
        for name in parts[:-1]:
            offset, tag, _, _ = self.layouts.structs[tag][name]
            base += offset
        offset, kind, width, bit = self.layouts.structs[tag][parts[-1]]
        if width is None:
            self.number(base + offset, value, self.layouts.width(tag, parts[-1]), tables)
            return
        size = WIDTHS[kind]
        old = self.read_number(base + offset, size, tables)
        mask = (1 << width) - 1 << bit
        self.number(base + offset, old & ~mask | value << bit & mask, size, tables)

    def has(self, tag, member):
        return self.layouts.has(tag, member)

    def at(self, base, tag, path):
        return base + self.layouts.offset(tag, path)

    def unicode(self, gva, text, buffer=None, tables=None, pointer=None):
        """A UNICODE_STRING; `text` may be bytes of broken UTF-16."""
        pointer = pointer or self.pointer
        data = text if isinstance(text, bytes) else text.encode("utf-16-le", "surrogatepass")
        if buffer is None:
            buffer = self.alloc(len(data) + 2) if data else 0
        if data:
            self.write(buffer, data, tables)
        self.number(gva, len(data), 2, tables)
        self.number(gva + 2, len(data) + 2, 2, tables)
        self.number(gva + pointer, buffer, pointer, tables)

    def list_init(self, head, tables=None):
        self.ptr(head, head, tables)
        self.ptr(head + self.pointer, head, tables)

    def list_add(self, head, link, tables=None, pointer=None):
        """At the end."""
        n = pointer or self.pointer
        last = self.read_number(head + n, n, tables)
        for gva, value in ((link, head), (link + n, last), (last, link), (head + n, link)):
            self.number(gva, value, n, tables)

    # The kernel.

    def place_image(self, known):
        image = self.image
        if known:
            self.take_row()
        self.base = 0xfffff80312a00000 + 0x5000 if self.wide else 0x82605000
        if not self.wide and self.major == 5:
            self.base = 0x804d7000
        image.relocate(self.base)
        lab = "%d.1.%sfre.test_release.200101-0000" % (self.build,
                                                       {"x64": "amd64"}.get(self.arch, self.arch))
        rva = image.symbols["NtBuildLab"]
        image.bytes[rva:rva + len(lab) + 1] = lab.encode() + b"\0"
        struct.pack_into("<I", image.bytes, image.symbols["NtBuildNumber"],
                         self.build | 0xf0000000)
        self.image_gpa = self.memory.contiguous(-(-image.size // PAGE) if not self.known else
                                                -(-len(image.bytes) // PAGE))
        for rva in range(0, len(image.bytes), PAGE):
            self.tables.map(self.base + rva, self.image_gpa + rva)
        self.memory.write(self.image_gpa, bytes(image.bytes))
        if self.known:
            for name in self.known:
                if name in image.symbols:
                    for rva in (self.known[name], self.known[name] + 0x400):
                        page = self.base + rva - rva % PAGE
                        if self.tables.translate(page) is None:
                            self.tables.map(page, self.memory.page())
        guid = image.bytes[image.codeview() + 4:image.codeview() + 20]
        age, = struct.unpack_from("<I", image.bytes, image.codeview() + 20)
        a, b, c = struct.unpack_from("<IHH", guid)
        self.truth.update(
            base=hex(self.base), base_gpa=hex(self.image_gpa), size=image.size, lab=lab,
            pdb="ntkrnlmp.pdb %08X%04X%04X%s%X" % (a, b, c, guid[8:].hex().upper(), age))
        for head in ("PsActiveProcessHead", "PsLoadedModuleList", "CallbackListHead",
                     "KeBugCheckCallbackListHead", "KeBugCheckReasonCallbackListHead",
                     "CmpHiveListHead"):
            self.list_init(self.symbol(head))

    def take_row(self):
        """Be a kernel whose symbols are in the table: that of this build."""
        with lzma.open(DATA / "ntoskrnl-symbol-rvas.tsv.xz", "rt") as rows:
            names = next(rows).rstrip("\n").split("\t")
            for row in rows:
                fields = row.rstrip("\n").split("\t")
                if int(fields[0].split(".")[2]) == self.build:
                    break
            else:
                raise KeyError(self.build)
        self.known = {name: int(rva, 16) for name, rva in zip(names[3:], fields[3:]) if rva}
        guid, _, age = fields[1].partition("-")
        raw = (struct.pack("<IHH", int(guid[:8], 16), int(guid[8:12], 16), int(guid[12:16], 16)) +
               bytes.fromhex(guid[16:]))
        at = self.image.codeview()
        self.image.bytes[at + 4:at + 20] = raw
        struct.pack_into("<I", self.image.bytes, at + 20, int(age))
        self.image.grow(0xd00000)

    def symbol(self, name):
        if self.known and name in self.known and (name == "KiProcessorBlock" or
                                                  not name.startswith("Ki")):
            return self.base + self.known[name]
        return self.base + self.image.symbols[name]

    def shared_data(self):
        gva = 0xfffff78000000000 if self.wide else 0xffdf0000
        page = bytearray(PAGE)
        struct.pack_into("<QI", page, 8, 5000 * 10000000, 0)
        struct.pack_into("<I", page, 0x10, struct.unpack_from("<I", page, 0xc)[0])
        now = filetime(5000)
        struct.pack_into("<QI", page, 0x14, now, now >> 32)
        page[0x30:0x30 + 20] = "C:\\WINDOWS".encode("utf-16-le")
        if self.major >= 10:
            struct.pack_into("<I", page, 0x260, self.build)
        struct.pack_into("<II", page, 0x26c, self.major, self.minor)
        self.shared_gpa = self.memory.page()
        self.memory.write(self.shared_gpa, bytes(page))
        self.tables.map(gva, self.shared_gpa)
        # What is under the last entry of each root: the HAL's memory.
        self.tables.map(0xffffffffffd00000 if self.wide else 0xffd00000, self.memory.page())

    def processor(self):
        """KPCR, KPRCB, IDT."""
        self.kpcr = 0xfffff80305000000 if self.wide else 0x82f00000
        for i in range(16):
            self.tables.map(self.kpcr + PAGE * i, self.memory.page())
        self.prcb = self.kpcr + (0x180 if self.wide else 0x120)
        self.put(self.kpcr, "_KPCR", "CurrentPrcb" if self.wide else "Prcb", self.prcb)
        self.put(self.kpcr, "_KPCR", "Self" if self.wide else "SelfPcr", self.kpcr)
        handler = self.symbol("KiPageFaultShadow" if self.kpti else "KiPageFault")
        gate = struct.pack("<HHHHII" if self.wide else "<HHHH", handler & 0xffff, 0x10, 0x8e00,
                           handler >> 16 & 0xffff, *((handler >> 32, 0) if self.wide else ()))
        self.idt = self.kpcr + 0xf000
        self.write(self.idt, gate * 32)
        # One with an interrupt stack for user mode, one that is not there.
        special = bytearray(gate)
        special[5] = 0xee
        special[4] = 3 if self.wide else 0
        self.write(self.idt + 3 * len(gate), bytes(special))
        special[5] = 0xe
        self.write(self.idt + 9 * len(gate), bytes(special))
        truth = {"limit": 0, "selector": 0x10, "base": handler}
        self.others = [self.other_processor(i) for i in range(1, PROCESSORS)]
        self.frames = self.alloc(PAGE, PAGE)
        self.truth["gates"] = [
            {**truth, "type": 14, "dpl": 3 if i == 3 else 0, "present": int(i != 9),
             "ist": 3 if self.wide and i in (3, 9) else 0} for i in range(32)]
        self.segments()

    def other_processor(self, number):
        """A KPCR and KPRCB that only the kernel's own list of processors leads to."""
        kpcr = self.kpcr + 0x20000 * number
        for i in range(16):
            self.tables.map(kpcr + PAGE * i, self.memory.page())
        prcb = kpcr + self.prcb - self.kpcr
        self.put(kpcr, "_KPCR", "CurrentPrcb" if self.wide else "Prcb", prcb)
        self.put(kpcr, "_KPCR", "Self" if self.wide else "SelfPcr", kpcr)
        self.put(prcb, "_KPRCB", "Number", number)
        return {"kpcr": kpcr, "prcb": prcb}

    def segments(self):
        """A GDT of five entries: none, code, data, and a TSS, which takes two in long mode."""
        self.gdt = self.kpcr + 0xe000
        tss = self.kpcr + 0x4000

        def segment(base, limit, access, flags):
            return struct.pack("<HHBBBB", limit & 0xffff, base & 0xffff, base >> 16 & 0xff, access,
                               flags << 4 | limit >> 16, base >> 24 & 0xff)

        self.write(self.gdt, bytes(8) + segment(0, 0xfffff, 0x9b, 0xa if self.wide else 0xc) +
                   segment(0, 0xfffff, 0xf3, 0xc) + segment(tss, 0x67, 0x8b, 0) +
                   struct.pack("<Q", tss >> 32))

        def told(base, limit, kind, dpl, present):
            return {"base": base, "limit": limit, "selector": 0, "type": kind, "dpl": dpl,
                    "present": present, "ist": 0}

        high = tss >> 32
        self.truth["segments"] = [
            told(0, 0, 0, 0, 0), told(0, 0xffffffff, 0x1b, 0, 1), told(0, 0xffffffff, 0x13, 3, 1),
            told(tss, 0x67, 0xb, 0, 1),
            # The rest of the base is no descriptor; this is what its bits say.
            told(high >> 16, high & 0xffff, 0, 0, 0)]

    def debugger(self):
        """KDDEBUGGER_DATA64; what runs since 8 has it encoded."""
        size = 0x290 if self.build < 3790 else 0x318 if self.build < 6000 else \
            0x330 if self.build < 7600 else 0x340 if self.build < 9200 else 0x360
        data = bytearray(size)
        struct.pack_into("<4sI", data, 0x10, b"KDBG", len(data))
        struct.pack_into("<Q", data, 0x18, self.base)
        for name, at in (("PsLoadedModuleList", 0x48), ("PsActiveProcessHead", 0x50),
                         ("PspCidTable", 0x58), ("KeBugCheckCallbackListHead", 0x80),
                         ("ObpRootDirectoryObject", 0x98), ("NtBuildLab", 0x208),
                         ("KiProcessorBlock", 0x218), ("MmUnloadedDrivers", 0x220),
                         ("MmLastUnloadedDriver", 0x228)):
            struct.pack_into("<Q", data, at, self.symbol(name))
        for path, at in (("ProcessorState.ContextFrame", 0x2bc), ("Number", 0x2be),
                         ("ProcessorState.SpecialRegisters", 0x2f2)):
            if at < size:
                struct.pack_into("<H", data, at, self.layouts.offset("_KPRCB", path))
        if size > 0x338 and self.has("_KPRCB", "Context"):
            struct.pack_into("<H", data, 0x338, self.layouts.offset("_KPRCB", "Context"))
        self.debugger_plain = self.debugger_data = bytes(data)
        if self.build >= 9200:
            self.debugger_data = self.random.randbytes(len(data))
        self.write(self.symbol("KdDebuggerDataBlock"), self.debugger_data)
        for i, prcb in enumerate((self.prcb, *(other["prcb"] for other in self.others))):
            self.ptr(self.symbol("KiProcessorBlock") + i * self.pointer, prcb)

    # Objects.

    def types(self):
        self.type_objects, self.directories = {}, {}
        self.kinds, self.directory_truth = {}, {}
        self.cookie = 0x5a if self.major >= 10 else 0
        if self.cookie and (self.known is None or "ObHeaderCookie" in self.known):
            self.number(self.symbol("ObHeaderCookie"), self.cookie, 1)
        indexes = {name: 2 + i for i, name in enumerate(TYPES)}
        self.type_indexes = indexes
        for name in TYPES:
            # Headers need types: they are filled in below.
            self.type_objects[name] = None
        pending = []
        for name in TYPES:
            body = self.object_memory("_OBJECT_TYPE", self.layouts.size("_OBJECT_TYPE"), name)
            self.type_objects[name] = body
            self.unicode(self.at(body, "_OBJECT_TYPE", "Name"), name)
            index = indexes[name]
            self.put(body, "_OBJECT_TYPE", "Index", index)
            self.ptr(self.symbol("ObTypeIndexTable") + index * self.pointer, body)
            pending.append(body)
        for body in pending:
            self.set_type(body, "Type")
        root = self.directory("\\", None)
        self.ptr(self.symbol("ObpRootDirectoryObject"), root)
        for name in ("ObjectTypes", "Device", "Driver"):
            self.directory(name, "\\")
        for name, body in self.type_objects.items():
            self.insert(body, name, "ObjectTypes")
        for symbol, name in (("PsProcessType", "Process"), ("PsThreadType", "Thread"),
                             ("IoFileObjectType", "File"), ("IoDriverObjectType", "Driver")):
            self.ptr(self.symbol(symbol), self.type_objects[name])

    def object_memory(self, _tag, size, name):
        """Room for an object with its headers; the name's if there is one."""
        header, info = self.layouts.offset("_OBJECT_HEADER", "Body"), 0
        creator = self.random.random() < 0.3 and not self.has("_OBJECT_HEADER", "NameInfoOffset")
        if name is not None:
            info = self.layouts.size("_OBJECT_HEADER_NAME_INFO")
        extra = self.layouts.size("_OBJECT_HEADER_CREATOR_INFO") if creator else 0
        start = self.alloc(info + extra + header + size)
        body = start + info + extra + header
        head = body - header
        if name is not None:
            self.unicode(self.at(start, "_OBJECT_HEADER_NAME_INFO", "Name"), name)
        if self.has("_OBJECT_HEADER", "NameInfoOffset"):
            self.put(head, "_OBJECT_HEADER", "NameInfoOffset", info)
        else:
            self.put(head, "_OBJECT_HEADER", "InfoMask",
                     (2 if name is not None else 0) | (1 if creator else 0))
        self.put(head, "_OBJECT_HEADER", "PointerCount", 3)
        self.name_info = {**getattr(self, "name_info", {}), body: start if name else None}
        return body

    def set_type(self, body, kind):
        self.kinds[body] = kind
        head = body - self.layouts.offset("_OBJECT_HEADER", "Body")
        if self.has("_OBJECT_HEADER", "TypeIndex"):
            index = self.type_indexes[kind] ^ (self.cookie ^ head >> 8 & 0xff if self.cookie else 0)
            self.put(head, "_OBJECT_HEADER", "TypeIndex", index)
        else:
            self.put(head, "_OBJECT_HEADER", "Type", self.type_objects[kind])

    def object(self, kind, tag, size=None, name=None, directory=None):
        body = self.object_memory(tag, size or self.layouts.size(tag), name)
        self.set_type(body, kind)
        if directory:
            self.insert(body, name, directory)
        return body

    def directory(self, name, parent):
        body = self.object("Directory", "_OBJECT_DIRECTORY", name=name)
        self.directories[name] = body
        if parent:
            self.insert(body, name, parent)
        return body

    def insert(self, body, name, directory):
        """Into a hash bucket of a directory."""
        where = self.directories[directory]
        self.directory_truth.setdefault(directory, []).append([name, self.kinds[body], hex(body)])
        bucket = self.at(where, "_OBJECT_DIRECTORY", "HashBuckets") + \
            sum(name.encode()) % 37 * self.pointer
        entry = self.alloc(self.layouts.size("_OBJECT_DIRECTORY_ENTRY"))
        self.put(entry, "_OBJECT_DIRECTORY_ENTRY", "Object", body)
        self.put(entry, "_OBJECT_DIRECTORY_ENTRY", "ChainLink",
                 self.read_number(bucket, self.pointer))
        self.ptr(bucket, entry)
        self.put(self.name_info[body], "_OBJECT_HEADER_NAME_INFO", "Directory", where)

    def devices(self):
        """A volume with its driver."""
        self.volume = self.object("Device", "_DEVICE_OBJECT", name="HarddiskVolume2",
                                  directory="Device")

    # Modules of the kernel.

    def module(self, name, path, base, size):
        entry = self.alloc(self.layouts.size("_LDR_DATA_TABLE_ENTRY"))
        for member, value in (("DllBase", base), ("EntryPoint", base + 0x1000),
                              ("SizeOfImage", size)):
            self.put(entry, "_LDR_DATA_TABLE_ENTRY", member, value)
        self.unicode(self.at(entry, "_LDR_DATA_TABLE_ENTRY", "FullDllName"), path)
        self.unicode(self.at(entry, "_LDR_DATA_TABLE_ENTRY", "BaseDllName"), name)
        self.list_add(self.symbol("PsLoadedModuleList"),
                      self.at(entry, "_LDR_DATA_TABLE_ENTRY", "InLoadOrderLinks"))
        self.modules.append({"name": name, "path": path, "base": hex(base), "size": size,
                             "object": hex(entry)})
        return entry

    # Saving.

    def save(self, folder, registers=True):
        for process in self.processes:
            if process.get("tables"):
                process["tables"].share()
            for gva, gpa in process.get("session_pages", ()):
                process["tables"].map(gva, gpa)
        self.memory.save(folder / "memory.raw")
        lines = ["arch x86", "ram 0 0x%x" % RAM, "load 0 memory.raw"]
        for name, value in self.registers().items() if registers else ():
            lines.append("vcpu 0 %s 0x%x" % (name, value))
        (folder / "machine.sim").write_text("\n".join(lines) + "\n")
        return folder / "machine.sim"

    def registers(self):
        current = self.processes[-1]
        root = current["user_root"] if self.kpti else current["tables"].root
        registers = {"cr0": 0x80050033, "cr3": root, "idtr.base": self.idt,
                     "idtr.limit": 32 * (16 if self.wide else 8) - 1, "gdtr.base": self.gdt,
                     "gdtr.limit": 5 * 8 - 1,
                     "cr4": 0x6f8 if self.mode != "x86" else 0x6d8,
                     "efer": 0xd01 if self.wide else 0x800 * (self.mode == "pae")}
        if self.wide:
            registers["lstar"] = self.symbol("KiSystemCall64Shadow" if self.kpti else
                                             "KiSystemCall64")
            registers["kernel_gs_base" if self.kpti else "gs.base"] = self.kpcr
            registers["gs.base" if self.kpti else "kernel_gs_base"] = 0x7ff712340000
        else:
            registers["sysenter_eip"] = self.symbol("KiFastCallEntry")
            registers["fs.base"] = self.kpcr
        return registers
