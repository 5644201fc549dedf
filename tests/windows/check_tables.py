#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""check_tables.py PROFILE_DUMP DATA: the built-in layouts are those of data/windows, and those of
the type dumps agree with the symbol files of kernels of the same build."""
import collections
import glob
import json
import lzma
import subprocess
import sys

dump, data = sys.argv[1:]
failures = []
MACHINES = {"x86": "332", "x64": "34404"}


def check(good, *what):
    if not good:
        failures.append(" ".join(map(str, what)))


def run(*arguments):
    return subprocess.run([dump, *arguments], check=True, capture_output=True, text=True).stdout


def load(machine, release):
    """{struct: (size, {member: (byte offset, bit, bits)})}"""
    build, revision = release.split(".")[2:]
    structs, header = {}, None
    for line in run("tables", machine, build, revision).splitlines():
        kind, *fields = line.split("\t")
        if kind == "R":
            header = fields
        elif kind == "T":
            structs[fields[0]] = (int(fields[2]), {}, int(fields[1]))
        elif kind == "M":
            structs[fields[0]][1][fields[1]] = (int(fields[2]), int(fields[3]), int(fields[4]))
    return header, structs


# Every release is found, and holds what its dump says.
tsv = collections.defaultdict(lambda: collections.defaultdict(lambda: collections.defaultdict(list)))
for line in lzma.open(f"{data}/struct-layouts.tsv.xz", "rt"):
    if not line.startswith("#"):
        release, arch, struct, member, offset, type_ = line.rstrip("\n").split("\t")
        tsv[MACHINES[arch], release][struct][member].append((int(offset, 16), type_))
releases = [tuple(line.split("\t")) for line in run("releases").splitlines()]
check(set(tsv) <= set(releases), "releases are missing:", set(tsv) - set(releases))
members = bits = 0
loaded = {}
for key in releases:
    header, structs = load(*key)
    loaded[key] = structs
    check(header == [key[1], "1" if key[1].endswith(".0") else "2"], "release", key, "gives", header)
    for struct, (size, layout, kind) in structs.items():
        rows = tsv.get(key, {}).get(struct)
        if not rows or kind not in (5, 6):
            continue
        check(size == rows[""][0][0], key, struct, "has size", size)
        for member, (bit_offset, bit_size, _) in layout.items():
            places = rows.get(member, [])
            check(any(bit_offset // 8 - 8 < o <= bit_offset // 8 for o, _ in places),
                  key, struct, member, "is at", bit_offset)
            check(any(t.endswith(f":{bit_size}") if bit_size else ":" not in t
                      for _, t in places), key, struct, member, "has bits", bit_size)
            members += 1
            bits += bit_size != 0

# The dumps and the symbol files are independent of each other. Between their revisions a few
# structures really differ.
DIFFER = {("19041", "_KTHREAD"), ("19041", "_KAPC")}
builds = {}
for line in lzma.open(f"{data}/ntoskrnl-symbol-rvas.tsv.xz", "rt"):
    builds[line.split("\t")[1]] = line.split("\t")[0].split(".")
NEAR = {"17763": "10.0.17763.107", "19041": "10.0.19041.1288", "22000": "10.0.22000.194"}


def flatten(types, struct, base, ret):
    for name, field in types[struct]["fields"].items():
        type_, offset = field["type"], base + field["offset"]
        if type_.get("name", "").startswith(("__unnamed_", "__anonymous_")):
            flatten(types, type_["name"], offset, ret)
        elif type_["kind"] == "bitfield":
            ret[name].append((offset * 8 + type_["bit_position"], type_["bit_length"]))
        else:
            ret[name].append((offset * 8, 0))


agreed = 0
for path in sorted(glob.glob(f"{data}/isf/*.json.xz")):
    build = builds[path.split("/")[-1][:-8]][2]
    if build not in NEAR:
        continue
    types = json.load(lzma.open(path))["user_types"]
    for struct, (size, layout, _) in loaded["34404", NEAR[build]].items():
        if struct not in types or (build, struct) in DIFFER:
            continue
        places = collections.defaultdict(list)
        flatten(types, struct, 0, places)
        for member, (bit_offset, bit_size, _) in layout.items():
            check((bit_offset, bit_size) in places[member], build, struct, member, "is at",
                  bit_offset, bit_size, "and not at", places[member])
            agreed += 1

# Paths that the library lives by lead somewhere.
for key, structs in loaded.items():
    for struct in ("_EPROCESS", "_KPROCESS", "_ETHREAD", "_KTHREAD", "_LIST_ENTRY",
                   "_UNICODE_STRING", "_LARGE_INTEGER", "_KEVENT", "_MMVAD_SHORT"):
        check(structs.get(struct, (0, {}))[1], key, "lacks", struct)

# The nearest release, where the wanted one is not there.
for machine, wanted, got in (
    ("34404", "10.0.17763.400", ["10.0.17763.379", "1"]),
    ("34404", "10.0.17763.300", ["10.0.17763.107", "1"]),
    ("34404", "10.0.18363.900", ["10.0.18362.418", "0"]),
    ("34404", "10.0.19044.1", ["10.0.19041.3570", "0"]),
    ("34404", "10.0.26100.1", ["10.0.22631.2428", "0"]),
    ("332", "5.1.2600.2180", ["5.1.2600.5512", "1"]),
    ("332", "5.0.2195.0", ["5.1.2600.5512", "0"]),
    ("332", "10.0.22000.1", ["10.0.19045.2965", "0"]),
):
    header, _ = load(machine, wanted)
    check(header == got, wanted, "gives", header)

print(f"{len(releases)} releases, {members} members ({bits} bit-fields) as in the dumps, {agreed} as "
      "in symbol files")
if failures:
    print("\n".join(failures[:40]), f"\n{len(failures)} failures", sep="")
    sys.exit(1)
check(members > 20000 and agreed > 3000, "too little was compared")
sys.exit(bool(failures))
