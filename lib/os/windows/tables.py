#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Turns data/windows/ into the tables that tables.c includes.

tables.py layouts.def OUTPUT symbol-rvas.tsv.xz LAYOUTS... [members.def ...]

LAYOUTS are .tsv, .tsv.xz, or ISF files (.json.xz, whose release is looked up in the symbol RVAs). A
members.def names paths that the library looks up: one that no release has is an error.
"""
import json
import lzma
import re
import sys
from collections import OrderedDict

SCALARS = OrderedDict(
    # name: (what C calls it, bytes, hvmi_type_kind, HVMI_TYPE_*)
    [
        ("VOID", ("", 0, "VOID", 0)),
        ("CHAR", ("char", 1, "INTEGER", 1 | 2)),
        ("UCHAR", ("unsigned char", 1, "INTEGER", 0)),
        ("WCHAR", ("wchar_t", 2, "INTEGER", 2)),
        ("SHORT", ("short", 2, "INTEGER", 1)),
        ("USHORT", ("unsigned short", 2, "INTEGER", 0)),
        ("LONG", ("long", 4, "INTEGER", 1)),
        ("ULONG", ("unsigned long", 4, "INTEGER", 0)),
        ("LONGLONG", ("long long", 8, "INTEGER", 1)),
        ("ULONGLONG", ("unsigned long long", 8, "INTEGER", 0)),
    ]
)
MACHINES = {"x86": 0x14C, "x64": 0x8664}
NONE = 0xFFFF
# A union that encloses more than this from a struct's start is none: see drop_relative().
ENCLOSED_MAX = 0x40


def opened(path):
    return lzma.open(path, "rt") if path.endswith(".xz") else open(path)


def strip_comments(text):
    return re.sub(r"/\*.*?\*/", "", text, flags=re.S)


def read_wanted(path):
    wanted, bits = OrderedDict(), {}
    text = strip_comments(open(path).read())
    text = re.sub(r'"\s*"', "", text)
    for struct, members in re.findall(r'LAYOUT\("(\w+)", "([\w* ]+)"\)', text):
        if struct in wanted:
            sys.exit(f"{path}: {struct} is there twice")
        wanted[struct] = members.split()
    for struct, member, bit in re.findall(r'BITS\("(\w+)", "(\w+)", (\d+)\)', text):
        bits[struct, member] = int(bit)
    return wanted, bits


class Layout:
    """One struct: bytes, whether it is a union, rows of [name, offset, type, bit size, bit]."""

    def __init__(self, size, union):
        self.size, self.union, self.rows = size, union, []


def read_tsv(path, releases, wanted):
    for line in opened(path):
        if line.startswith("#"):
            continue
        release, arch, struct, member, offset, type_ = line.rstrip("\n").split("\t")
        if struct not in wanted:
            continue
        structs = releases.setdefault((arch, release), OrderedDict())
        if not member:
            structs[struct] = Layout(int(offset, 16), type_ == "union")
            continue
        bit_size = 0
        if ":" in type_:
            type_, bit_size = type_.split(":")
        structs[struct].rows.append([member, int(offset, 16), type_, int(bit_size), None])


ISF_SCALARS = {
    "void": "VOID", "char": "CHAR", "unsigned char": "UCHAR", "wchar": "WCHAR", "short": "SHORT",
    "unsigned short": "USHORT", "int": "LONG", "unsigned int": "ULONG", "long": "LONG",
    "unsigned long": "ULONG", "long long": "LONGLONG", "unsigned long long": "ULONGLONG",
}


def isf_type(type_, enums):
    kind = type_["kind"]
    if kind == "base":
        return ISF_SCALARS.get(type_["name"], "VOID")
    if kind == "pointer":
        target = isf_type(type_["subtype"], enums)
        if target == "fnptr":
            return target
        return target + ("*" if target.endswith("*") else " *")
    if kind == "array":
        return isf_type(type_["subtype"], enums) + f"[{type_['count']}]"
    if kind == "function":
        return "fnptr"
    if kind == "enum":
        return "enum " + type_["name"]
    if kind in ("struct", "union", "class"):
        return "" if is_unnamed(type_["name"]) else type_["name"]
    sys.exit(f"ISF: a type of kind {kind}")


def is_unnamed(name):
    return "unnamed" in name or "anonymous" in name


def read_isf(path, releases, wanted, builds):
    data = json.load(opened(path))
    pdb = data["metadata"]["windows"]["pdb"]
    types = data["user_types"]
    structs = releases.setdefault(("x64", builds[f"{pdb['GUID']}-{pdb['age']}"]), OrderedDict())

    def add(layout, struct, base):
        for name, field in types[struct]["fields"].items():
            type_, offset = field["type"], base + field["offset"]
            bit_size, bit = 0, None
            if type_["kind"] == "bitfield":
                bit_size, bit = type_["bit_length"], type_["bit_position"]
                type_ = type_["type"]
            if type_["kind"] in ("struct", "union") and is_unnamed(type_["name"]):
                add(layout, type_["name"], offset)
            else:
                layout.rows.append([name, offset, isf_type(type_, data["enums"]), bit_size, bit])

    for struct in wanted:
        if struct in types:
            layout = Layout(types[struct]["size"], types[struct]["kind"] == "union")
            add(layout, struct, 0)
            layout.rows.sort(key=lambda row: row[1])
            structs[struct] = layout


def scalar_bytes(type_):
    return SCALARS[type_][1] if type_ in SCALARS else None


def drop_relative(layout):
    """The dumps give members of a struct inside a named union from the start of that union: what
    falls far back to 0 and is no union over all that was before. What falls back to where a
    member begins is a union from there on."""
    kept, begins, high, union, relative = [], set(), 0, None, False
    for row in layout.rows:
        offset = row[1]
        if offset >= high:
            union, relative = None, False
        elif offset + ENCLOSED_MAX < high:
            if offset in begins and offset and not relative:
                union = offset
            relative = union is None or offset < union
        if not relative:
            kept.append(row)
            begins.add(offset)
            high = max(high, offset)
    layout.rows = kept


def place_bits(layout, struct, bits):
    """Bit-fields are listed without their position: they follow each other while the offset and the
    width of what holds them stay the same. A run among others that does not fill its holder is
    uncertain."""
    runs, key = [], None
    for row in layout.rows:
        if not row[3]:
            key = None
            continue
        if row[4] is not None:
            continue
        bytes_ = scalar_bytes(row[2]) or 4
        if key != (row[1], bytes_) or runs[-1][0] + row[3] > bytes_ * 8:
            key = (row[1], bytes_)
            runs.append([0, bytes_ * 8, []])
        row[4] = runs[-1][0]
        runs[-1][0] += row[3]
        runs[-1][2].append(row)
    uncertain = set()
    for used, width, rows in runs:
        # A struct of nothing but one run begins with it; what is left has no name.
        if used != width and len(rows) != len(layout.rows):
            uncertain.update(id(row) for row in rows)
    rows = []
    for row in layout.rows:
        told = bits.get((struct, row[0]))
        if told is not None and row[3]:
            row[4] = told
        elif id(row) in uncertain:
            continue
        rows.append(row)
    layout.rows = rows


def finish(releases, wanted, bits):
    for structs in releases.values():
        for struct, layout in structs.items():
            if any(row[4] is None for row in layout.rows if row[3]) or not layout.rows or not any(
                row[3] for row in layout.rows
            ):
                drop_relative(layout)
            place_bits(layout, struct, bits)
            rows, seen = [], set()
            for row in layout.rows:
                name = row[0]
                if name in seen or (wanted[struct] != ["*"] and name not in wanted[struct]):
                    continue
                if re.match(r"(Spare|Reserved|Prcb?Pad|Padding|Unused|Fill)\w*$", name):
                    continue
                if row[1] >= max(layout.size, 1) and not row[2].endswith("[1]"):
                    continue
                seen.add(name)
                rows.append(row)
            layout.rows = rows


class Strings:
    def __init__(self):
        self.text, self.places = b"\0", {"": 0}

    def add(self, name):
        if name not in self.places:
            self.places[name] = len(self.text)
            self.text += name.encode() + b"\0"
        return self.places[name]

    def emit(self, name, out):
        items = self.text.decode().split("\0")[:-1]
        out.append(f"static const char {name}[] =")
        line = ""
        for item in items:
            if len(line) + len(item) > 80:
                out.append(f'\t"{line}"')
                line = ""
            line += item + "\\0"
        out.append(f'\t"{line}";')


TYPE = re.compile(r"(enum |struct |union )?(\w*)((?: ?\*| ?volatile| ?const)*)((?:\[\d+\])*)$")


def type_row(text, strings):
    """(base, name, pointers, elements): an array of pointers to the base."""
    match = TYPE.match(text)
    if not match:
        sys.exit(f"a type that is not understood: {text}")
    keyword, base, pointers, arrays = match.groups()
    stars = pointers.count("*")
    elements = 0
    for count in re.findall(r"\d+", arrays):
        elements = (elements or 1) * int(count)
    scalars = list(SCALARS)
    if base == "fnptr":
        return len(scalars), 0, 0, elements
    if base in ("", "struct", "union") and stars:
        base = "VOID"
    if base in SCALARS:
        return scalars.index(base), 0, stars, elements
    if keyword == "enum ":
        return len(scalars) + 1, strings.add(base), stars, elements
    return len(scalars) + 2, strings.add(base), stars, elements


def number(release):
    return tuple(int(part) for part in release.split("."))


def emit_layouts(releases, wanted, out):
    strings, types, type_ids = Strings(), [], {}
    structs = [s for s in wanted if any(s in r for r in releases.values())]
    members, layouts, layout_ids = [], [], {}
    order = sorted(releases, key=lambda key: (MACHINES[key[0]], number(key[1])[2:]))
    table = []
    for key in order:
        row = []
        for struct in structs:
            layout = releases[key].get(struct)
            if not layout:
                row.append(NONE)
                continue
            rows = []
            for name, offset, type_, bit_size, bit in layout.rows:
                if type_ not in type_ids:
                    type_ids[type_] = len(types)
                    types.append(type_row(type_, strings))
                rows.append((strings.add(name), offset, type_ids[type_], bit_size, bit or 0))
            same = (structs.index(struct), layout.size, layout.union, tuple(rows))
            if same not in layout_ids:
                layout_ids[same] = len(layouts)
                layouts.append((len(members), len(rows), layout.size, int(layout.union)))
                members += rows
            row.append(layout_ids[same])
        table.append(row)
    struct_names = [strings.add(s) for s in structs]
    for what, count in (("names", len(strings.text)), ("types", len(types)),
                        ("layouts", len(layouts))):
        if count >= NONE:
            sys.exit(f"too many {what}: {count}")

    out.append(f"#define STRUCTS {len(structs)}u")
    strings.emit("names", out)
    out.append("static const struct table_type table_types[] = {")
    out += ["\t{%d, %d, %d, %d}," % (n, b, p, e) for b, n, p, e in types]
    out.append("};")
    out.append("static const struct table_member table_members[] = {")
    for i in range(0, len(members), 4):
        out.append("\t" + " ".join("{%d,%d,%d,%d,%d}," % m for m in members[i:i + 4]))
    out.append("};")
    out.append("static const struct table_layout table_layouts[] = {")
    out += ["\t{%d, %d, %d, %d}," % layout for layout in layouts]
    out.append("};")
    out.append("static const uint16_t struct_names[STRUCTS] = {")
    out.append("\t" + ", ".join(map(str, struct_names)))
    out.append("};")
    out.append(f"#define LAYOUT_MEMBERS_MAX {max(layout[1] for layout in layouts)}u")
    out.append("static const struct table_release {")
    out.append("\tuint16_t machine, major, minor;")
    out.append("\tuint32_t build, revision;")
    out.append("\tuint16_t layouts[STRUCTS];\t/* STRUCTS_NONE: it lacks this one */")
    out.append("} table_releases[] = {")
    for key, row in zip(order, table):
        major, minor, build, revision = number(key[1])
        out.append(f"\t{{{MACHINES[key[0]]:#x}, {major}, {minor}, {build}, {revision},")
        out.append("\t {" + ",".join(map(str, row)) + "}},")
    out.append("};")
    return (len(strings.text) + len(types) * 8 + len(members) * 8 + len(layouts) * 12 +
            len(table) * (16 + 2 * len(structs)), len(layouts), len(members), order, structs)


def emit_symbols(path, out):
    lines = [line.rstrip("\n").split("\t") for line in opened(path)]
    symbols = lines[0][3:]
    rows = []
    for line in lines[1:]:
        guid, age = line[1].split("-")
        # As the bytes lie in the CodeView record: the first three fields are little-endian.
        raw = bytes.fromhex(guid)
        raw = raw[3::-1] + raw[5:3:-1] + raw[7:5:-1] + raw[8:]
        values = [int(v, 16) if v else 0 for v in line[3:]]
        values += [0] * (len(symbols) - len(values))
        rows.append((raw, int(age), line[0], values))
    rows.sort()
    out.append(f"#define SYMBOLS {len(symbols)}u")
    out.append("static const char *const symbol_names[SYMBOLS] = {")
    out += [f'\t"{s}",' for s in symbols]
    out.append("};")
    out.append("/* By guid. */")
    out.append("static const struct table_kernel {")
    out.append("\tuint8_t guid[16];")
    out.append("\tuint32_t age;")
    out.append("\tuint16_t major, minor;")
    out.append("\tuint32_t build, revision, rvas[SYMBOLS];")
    out.append("} table_kernels[] = {")
    for raw, age, release, values in rows:
        major, minor, build, revision = number(release)
        out.append("\t{{" + ",".join(f"{b:#x}" for b in raw) + f"}}, {age}, {major}, {minor}, "
                   f"{build}, {revision},")
        for i in range(0, len(values), 10):
            out.append("\t " + ("{" if i == 0 else "") +
                       ",".join(f"{v:#x}" for v in values[i:i + 10]) +
                       ("}}," if i + 10 >= len(values) else ","))
    out.append("};")
    return len(rows) * (32 + 4 * len(symbols)), len(rows), len(symbols)


def check_members(path, releases, wanted):
    """Each path of a members.def must lead somewhere in some release."""

    def leads(structs, struct, names):
        for name in names:
            name = name.split("[")[0]
            rows = structs.get(struct)
            row = next((r for r in rows.rows if r[0] == name), None) if rows else None
            if not row:
                return False
            struct = TYPE.match(row[2]).group(2)
        return True

    merged = {}
    for key in releases:
        merged[key] = dict(releases.get((key[0], "0.0.0.0"), {}))
        merged[key].update(releases[key])
    for struct, paths in re.findall(r'MEMBER\(\w+, "(\w+)", "([^"]+)"\)',
                                    strip_comments(open(path).read())):
        if not any(leads(structs, struct, one.split(".")) for one in paths.split("|")
                   for structs in merged.values()):
            sys.exit(f"{path}: no release in data/windows has {struct} with '{paths}' among what "
                     "layouts.def keeps")


def main():
    wanted_path, output, symbols, *rest = sys.argv[1:]
    wanted, bits = read_wanted(wanted_path)
    builds = {}
    for line in opened(symbols):
        fields = line.split("\t")
        builds[fields[1]] = fields[0]
    releases = OrderedDict()
    for path in rest:
        if path.endswith((".tsv", ".tsv.xz")):
            read_tsv(path, releases, wanted)
        elif path.endswith(".json.xz"):
            read_isf(path, releases, wanted, builds)
    for struct in wanted:
        if not any(struct in structs for structs in releases.values()):
            sys.exit(f"{wanted_path}: no release has {struct}")
    finish(releases, wanted, bits)
    for path in rest:
        if path.endswith(".def"):
            check_members(path, releases, wanted)
    out = ["/* Made by lib/os/windows/tables.py from data/windows. */"]
    layout_bytes, layouts, members, order, structs = emit_layouts(releases, wanted, out)
    symbol_bytes, kernels, names = emit_symbols(symbols, out)
    with open(output, "w") as file:
        file.write("\n".join(out) + "\n")
    print(f"Windows tables: {len(structs)} structs of {len(order) - 2} releases in {layouts} layouts "
          f"with {members} members, {(layout_bytes + 1023) // 1024} KiB; {names} symbols of "
          f"{kernels} kernels, {(symbol_bytes + 1023) // 1024} KiB")


main()
