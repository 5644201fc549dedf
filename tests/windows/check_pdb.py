#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""check_pdb.py PROFILE_DUMP DATA: builds PDBs with clang and lld-link, with the structures of
several Windows releases and what C++ has, and compares what the library reads with what llvm-pdbutil
does."""
import collections
import lzma
import os
import re
import shutil
import subprocess
import sys
import tempfile

dump, data = sys.argv[1:]
tools = {tool: shutil.which(tool) for tool in ("clang", "lld-link", "llvm-pdbutil")}
if not all(tools.values()):
    print("clang, lld and llvm are needed")
    sys.exit(77)
failures = []
RELEASES = [("x86", "5.1.2600.5512"), ("x86", "6.1.7601.17514"), ("x64", "6.1.7601.17514"),
            ("x64", "10.0.17763.107"), ("x64", "10.0.22631.2428"), ("x86", "10.0.19041.264")]
TARGETS = {"x86": "i686-pc-windows-msvc", "x64": "x86_64-pc-windows-msvc"}
SCALARS = {"UCHAR": ("unsigned char", 1), "CHAR": ("char", 1), "USHORT": ("unsigned short", 2),
           "SHORT": ("short", 2), "WCHAR": ("wchar_t", 2), "ULONG": ("unsigned long", 4),
           "LONG": ("long", 4), "ULONGLONG": ("unsigned long long", 8),
           "LONGLONG": ("long long", 8)}


def check(good, *what):
    if not good:
        failures.append(" ".join(map(str, what)))


def run(*command):
    result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode:
        sys.exit(f"{' '.join(command)}: {result.stdout}{result.stderr}")
    return result.stdout


def source_of(arch, release):
    """C in which every structure of a release has its members where the dump has them."""
    structs = collections.OrderedDict()
    for line in lzma.open(f"{data}/struct-layouts.tsv.xz", "rt"):
        row = line.rstrip("\n").split("\t")
        if row[:2] == [release, arch]:
            structs.setdefault(row[2], []).append((row[3], int(row[4], 16), row[5]))
    out, done = ["#pragma pack(1)", "typedef __WCHAR_TYPE__ wchar_t;"], set()

    def declare(type_, name, size_left):
        match = re.match(r"(enum )?(\w*)([* a-z]*)((?:\[\d+\])*)$", type_)
        enum, base, pointers, arrays = match.groups()
        if "*" in pointers or base == "fnptr":
            if base == "fnptr":
                return f"int (*{name}{arrays})(void *, ...)"
            base = SCALARS[base][0] if base in SCALARS else (
                "void" if base in ("VOID", "") else f"struct {base}")
            return f"{base} {pointers.replace('volatile', '')}{name}{arrays}"
        if base in SCALARS:
            return f"{SCALARS[base][0]} {name}{arrays}"
        if base in structs:
            emit(base)
            return f"struct {base} {name}{arrays}"
        return f"unsigned char {name}[{max(min(size_left, 4), 1)}]"

    def emit(struct):
        if struct in done:
            return
        done.add(struct)
        rows = structs[struct]
        size, lines, seen, bit, where = rows[0][1], [], set(), 0, None
        for i, (name, offset, type_) in enumerate(rows[1:]):
            if name in seen or offset >= size:
                continue
            seen.add(name)
            width = ""
            if ":" in type_:
                type_, bits = type_.split(":")
                bits, limit = int(bits), SCALARS[type_][1] * 8
                if (offset, limit) != where or bit + bits > limit:
                    where, bit = (offset, limit), 0
                gap = f"{SCALARS[type_][0]} : {bit}; " if bit else ""
                width, bit = f" : {bits}", bit + bits
            else:
                gap, where = "", None
            pad = f"unsigned char pad_{i}[{offset}]; " if offset else ""
            lines.append(f"\tstruct {{ {pad}{gap}{declare(type_, name, size - offset)}{width}; }};")
        out.append(f"struct {struct} {{ union {{\n\tunsigned char all_bytes[{size}];\n" +
                   "\n".join(lines) + "\n}; };")
        out.append(f"struct {struct} a{struct};")

    for struct in structs:
        emit(struct)
    members = ", ".join(f"large_{i} = {i * 3}" for i in range(6000))
    out.append(f"enum _LARGE {{ {members} }};\nenum _LARGE a_large;")
    out.append("int entry(void) { return 0; }")
    return "\n".join(out) + "\n"


def build(folder, name, arch, source):
    base = os.path.join(folder, f"{name}-{arch}")
    language = ["-std=c++17", "-fno-rtti"] if source.endswith(".cpp") else []
    run("clang", f"--target={TARGETS[arch]}", "-g", "-gcodeview", "-O0", "-ffreestanding",
        "-fno-exceptions", "-fno-threadsafe-statics", "-Wno-everything", *language, "-c", source,
        "-o", base + ".obj")
    run("lld-link", "/nologo", "/debug", "/dll", "/noentry", "/nodefaultlib", "/force", "/opt:noref",
        "/safeseh:no", f"/out:{base}.dll", f"/pdb:{base}.pdb", base + ".obj")
    return base


class Pdb:
    """What llvm-pdbutil says, taken apart."""

    SIZES = {"char": 1, "signed char": 1, "unsigned char": 1, "bool": 1, "wchar_t": 2, "short": 2,
             "unsigned short": 2, "int": 4, "unsigned": 4, "long": 4, "unsigned long": 4,
             "float": 4, "double": 8, "__int64": 8, "unsigned __int64": 8, "int64_t": 8,
             "void": 0, "HRESULT": 4}

    def __init__(self, path, pointer):
        self.pointer, self.records = pointer, {}
        for line in run("llvm-pdbutil", "dump", "-types", path).splitlines():
            match = re.match(r" +(0x[0-9A-F]+) \| (LF_\w+) \[size = \d+\](.*)", line)
            if match:
                current = self.records[match.group(1)] = [match.group(2), match.group(3), []]
            elif self.records and line.startswith("           "):
                current[2].append(line.strip())
        self.definitions = {}
        for index in self.records:
            tag = self.tag(index)
            if tag and not tag["forward"]:
                self.definitions.setdefault(tag["unique"] or tag["name"], tag)
        text = run("llvm-pdbutil", "dump", "-section-headers", path)
        self.sections = [int(v, 16) for v in re.findall(r"([0-9A-F]+) virtual address", text)]
        self.publics = []
        text = run("llvm-pdbutil", "dump", "-publics", path)
        for name, section, offset in re.findall(
                r"S_PUB32 \[size = \d+\] `(.*)`\n.*addr = (\d+):(\d+)", text):
            if 0 < int(section) <= len(self.sections):
                self.publics.append((name, self.sections[int(section) - 1] + int(offset)))
        text = run("llvm-pdbutil", "dump", "-summary", path)
        self.guid = re.search(r"GUID: \{(.*)\}", text).group(1)
        self.age = int(re.search(r"Age: (\d+)", text).group(1))

    def tag(self, index):
        kind, head, body = self.records[index]
        if kind not in ("LF_STRUCTURE", "LF_CLASS", "LF_UNION", "LF_ENUM"):
            return None
        text = " ".join(body)
        unique = re.search(r"unique name: `(.*?)`", text)
        fields = re.search(r"field list: (0x[0-9A-F]+)", text)
        size = re.search(r"sizeof (\d+)", text)
        return {"name": head.strip()[1:-1], "unique": unique and unique.group(1),
                "forward": "forward ref" in text, "fields": fields and fields.group(1),
                "size": int(size.group(1)) if size else None, "text": text, "kind": kind}

    def definition(self, index):
        tag = self.tag(index)
        if not tag or not tag["forward"]:
            return tag
        return self.definitions.get(tag["unique"] or tag["name"], tag)

    def size(self, index, text=""):
        if index not in self.records:
            if "*" in text:
                return self.pointer
            return self.SIZES[text]
        kind, head, body = self.records[index]
        text = " ".join(body)
        if kind == "LF_POINTER":
            return 4 if "mode = data member" in text else self.pointer
        if kind == "LF_MODIFIER":
            match = re.search(r"referent = (0x[0-9A-F]+) ?(?:\((.*?)\))?", text)
            return self.size(match.group(1), match.group(2) or "")
        if kind == "LF_ARRAY":
            return int(re.search(r"size: (\d+)", text).group(1))
        if kind == "LF_BITFIELD":
            match = re.search(r"type = (0x[0-9A-F]+) \((.*?)\)", text)
            return self.size(match.group(1), match.group(2))
        tag = self.definition(index)
        if tag["kind"] == "LF_ENUM":
            match = re.search(r"underlying type: (0x[0-9A-F]+) ?(?:\((.*?)\))?", tag["text"])
            return self.size(match.group(1), match.group(2) or "")
        return tag["size"]

    def lines(self, fields):
        """Of a field list and those that continue it."""
        while fields:
            body = re.sub(r"\n(?!- )", " ", "\n".join(self.records[fields][2])).split("\n")
            fields = None
            for line in body:
                match = re.match(r"- LF_INDEX.*(0x[0-9A-F]+)", line)
                if match:
                    fields = match.group(1)
                else:
                    yield line

    def members(self, fields):
        for line in self.lines(fields):
            match = re.match(r"- LF_MEMBER \[name = `(.*)`, Type = (0x[0-9A-F]+)(?: \((.*)\))?, "
                             r"offset = (\d+)", line)
            if match:
                name, type_, text, offset = match.groups()
                bits, first = 0, int(offset) * 8
                record = self.records.get(type_)
                if record and record[0] == "LF_BITFIELD":
                    found = re.search(r"bit offset = (\d+), # bits = (\d+)", " ".join(record[2]))
                    first, bits = first + int(found.group(1)), int(found.group(2))
                yield name, first, bits, self.size(type_, text or "")
            match = re.match(r"- LF_BCLASS", line)
            if match:
                found = re.search(r"type = (0x[0-9A-F]+).*?offset = (\d+)", line)
                yield "", int(found.group(2)) * 8, 0, self.size(found.group(1))

    def enumerators(self, fields):
        for line in self.lines(fields):
            match = re.match(r"- LF_ENUMERATE \[(.*) = (-?\d+)\]", line)
            if match:
                yield match.group(1), int(match.group(2))


def undecorated(name):
    match = re.match(r"[_@]([^?]+?)(@\d+)?$", name)
    return match.group(1) if match and not name.startswith("@") or match and match.group(2) else name


def compare(base, arch):
    pdb = Pdb(base + ".pdb", 4 if arch == "x86" else 8)
    structs, enums, symbols, ident = {}, {}, collections.defaultdict(set), None
    members = collections.defaultdict(list)
    for line in run(dump, "pdb", base + ".pdb").splitlines():
        kind, *f = line.split("\t")
        if kind == "T":
            structs[f[0]] = (int(f[1]), int(f[2]))
        elif kind == "M":
            members[f[0]].append((f[1], int(f[2]), int(f[3]), int(f[4])))
        elif kind == "E":
            enums.setdefault(f[0], []).append((f[1], int(f[2])))
        elif kind == "S":
            symbols[f[0]].add(int(f[1], 16))
        elif kind == "I":
            ident = f
    check(ident[0] == pdb.guid.replace("-", "") + f"{pdb.age:X}", base, ident, pdb.guid)
    counted, seen = collections.Counter(), set()
    for index in pdb.records:
        tag = pdb.tag(index)
        if not tag or tag["forward"] or "<unnamed" in tag["name"] or tag["name"] in seen:
            continue
        name = tag["name"]
        seen.add(name)
        if tag["kind"] == "LF_ENUM":
            wanted = list(pdb.enumerators(tag["fields"]))
            wanted = [(n, v - (1 << 64) if v >= 1 << 63 else v) for n, v in wanted]
            check(enums.get(name) == wanted, base, name, "has", str(enums.get(name))[:200],
                  "and not", str(wanted)[:200])
            check(structs.get(name, [0])[0] == 7, base, name, "is no enum")
            counted["enumerators"] += len(wanted)
            continue
        wanted = list(pdb.members(tag["fields"]))
        check(members.get(name, []) == wanted, base, name, "has",
              [m for m in members.get(name, []) if m not in wanted][:5], "and not",
              [m for m in wanted if m not in members.get(name, [])][:5])
        kind = 6 if tag["kind"] == "LF_UNION" else 5
        check(structs.get(name) == (kind, tag["size"]), base, name, structs.get(name), tag["size"])
        counted["structs"] += 1
        counted["members"] += len(wanted)
        counted["bits"] += sum(bits != 0 for _, _, bits, _ in wanted)
    for name, rva in pdb.publics:
        plain = undecorated(name) if arch == "x86" else name
        check(rva in symbols.get(plain, ()), base, "symbol", name, hex(rva), symbols.get(plain))
        counted["publics"] += 1
    print(os.path.basename(base), dict(counted))
    return counted


with tempfile.TemporaryDirectory() as folder:
    for arch, release in RELEASES:
        path = os.path.join(folder, f"{release}.c")
        with open(path, "w") as file:
            file.write(source_of(arch, release))
        counted = compare(build(folder, release, arch, path), arch)
        check(counted["structs"] > 60 and counted["publics"] > 60, release, counted)
    for arch in ("x86", "x64"):
        shapes = os.path.join(os.path.dirname(os.path.abspath(__file__)), "shapes.cpp")
        counted = compare(build(folder, "shapes", arch, shapes), arch)
        check(counted["structs"] >= 12 and counted["enumerators"] >= 7, counted)
    keep = os.environ.get("KEEP_PDB")
    if keep:
        for name in os.listdir(folder):
            shutil.copy(os.path.join(folder, name), keep)
if failures:
    print("\n".join(failures[:30]), f"\n{len(failures)} failures", sep="")
sys.exit(bool(failures))
