#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""check_isf.py PROFILE_DUMP DATA: every type, member, enumerator and symbol of the ISF files is what
Python reads there, from .xz and from plain JSON."""
import collections
import glob
import json
import lzma
import os
import subprocess
import sys
import tempfile

dump, data = sys.argv[1:]
failures = []
KINDS = {"struct": 5, "class": 5, "union": 6}


def check(good, *what):
    if not good:
        failures.append(" ".join(map(str, what))[:400])


def size_of(isf, type_):
    kind = type_["kind"]
    if kind == "pointer":
        return isf["base_types"]["pointer"]["size"]
    if kind == "array":
        return type_["count"] * size_of(isf, type_["subtype"])
    if kind == "bitfield":
        return size_of(isf, type_["type"])
    if kind == "base":
        return isf["base_types"][type_["name"]]["size"]
    if kind == "enum":
        return isf["enums"][type_["name"]]["size"]
    if kind == "function":
        return 0
    return isf["user_types"].get(type_["name"], {"size": 0})["size"]


def compare(path, isf):
    run = subprocess.run([dump, "isf", path], capture_output=True, text=True)
    if "built without" in run.stderr:
        sys.exit(77)
    check(run.returncode == 0, path, run.stderr)
    types, symbols = {}, collections.defaultdict(set)
    members, enums, ident = collections.defaultdict(list), collections.defaultdict(list), None
    for line in run.stdout.splitlines():
        kind, *f = line.split("\t")
        if kind == "T":
            types[f[0]] = (int(f[1]), int(f[2]))
        elif kind == "M":
            members[f[0]].append((f[1], int(f[2]), int(f[3]), int(f[4])))
        elif kind == "E":
            enums[f[0]].append((f[1], int(f[2])))
        elif kind == "S":
            symbols[f[0]].add(int(f[1], 16))
        elif kind == "I":
            ident = f
    pdb = isf["metadata"]["windows"]["pdb"]
    check(ident == [f"{pdb['GUID']}{pdb['age']:X}", str(pdb["machine_type"]), pdb["database"]],
          path, ident)
    counts = collections.Counter()
    for name, of in isf["user_types"].items():
        check(types.get(name) == (KINDS[of["kind"]], of["size"]), path, name, types.get(name))
        wanted = []
        for member, field in of["fields"].items():
            type_ = field["type"]
            bits, bit = type_.get("bit_length", 0), type_.get("bit_position", 0)
            wanted.append((member, field["offset"] * 8 + bit, bits, size_of(isf, type_)))
        check(members.get(name, []) == wanted, path, name, members.get(name), wanted)
        counts["types"] += 1
        counts["members"] += len(wanted)
    for name, of in isf["enums"].items():
        if name not in isf["user_types"]:
            check(enums.get(name, []) == list(of["constants"].items()), path, name)
            counts["enumerators"] += len(of["constants"])
    for name, of in isf["symbols"].items():
        check(symbols.get(name) == {of["address"]}, path, name, symbols.get(name))
        counts["symbols"] += 1
    print(os.path.basename(path), dict(counts))
    check(counts["members"] > 5000 and counts["symbols"] > 20000, path, counts)


paths = sorted(glob.glob(f"{data}/isf/*.json.xz"))
check(len(paths) == 5, paths)
for path in paths:
    compare(path, json.load(lzma.open(path)))
with tempfile.TemporaryDirectory() as folder:
    plain = os.path.join(folder, "plain.json")
    with open(plain, "wb") as file:
        file.write(lzma.open(paths[0]).read())
    compare(plain, json.load(open(plain)))
if failures:
    print("\n".join(failures[:20]), f"\n{len(failures)} failures", sep="")
sys.exit(bool(failures))
