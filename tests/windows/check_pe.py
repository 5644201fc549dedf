#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""check_pe.py PE_DUMP: builds libraries with clang and lld-link, maps them as Windows would, and
compares what the library reads with what llvm-readobj reads in the file; then with pages absent."""
import os
import re
import shutil
import struct
import subprocess
import sys
import tempfile

dump = sys.argv[1]
if not all(shutil.which(tool) for tool in ("clang", "lld-link", "llvm-readobj", "llvm-rc",
                                           "llvm-dlltool")):
    print("clang, lld and llvm are needed")
    sys.exit(77)
failures = []
SOURCE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "image.c")
RC = """1 VERSIONINFO
FILEVERSION 10,0,17763,379
PRODUCTVERSION 10,1,2,3
BEGIN BLOCK "StringFileInfo" BEGIN BLOCK "040904b0" BEGIN VALUE "FileVersion", "any" END END END
"""
BASES = {"x64": 0xFFFFF80412340000, "x86": 0x81230000}


def check(good, *what):
    if not good:
        failures.append(" ".join(map(str, what))[:500])


def run(*command, cwd=None):
    result = subprocess.run(command, capture_output=True, text=True, cwd=cwd)
    if result.returncode:
        sys.exit(f"{' '.join(command)}: {result.stdout}{result.stderr}")
    return result.stdout


def build(folder, arch):
    triple = {"x64": "x86_64", "x86": "i686"}[arch] + "-pc-windows-msvc"
    machine = {"x64": "i386:x86-64", "x86": "i386"}[arch]
    with open(os.path.join(folder, "version.rc"), "w") as file:
        file.write(RC)
    run("llvm-rc", "/FO", "version.res", "version.rc", cwd=folder)
    libraries = []
    for module, names in (("OTHER.dll", ["other_named", "other_numbered @17 NONAME"]),
                          ("second.sys", ["second_module"])):
        with open(os.path.join(folder, "module.def"), "w") as file:
            file.write(f"LIBRARY {module}\nEXPORTS\n" + "\n".join(names) + "\n")
        libraries.append(f"{module}-{arch}.lib")
        run("llvm-dlltool", "-m", machine, "-d", "module.def", "-l", libraries[-1], "-D", module,
            cwd=folder)
    run("clang", f"--target={triple}", "-O1", "-g", "-gcodeview", "-ffreestanding", "-fno-builtin",
        "-funwind-tables",
        "-mstack-probe-size=100000", "-fno-stack-protector", "-c", SOURCE, "-o", f"image-{arch}.obj",
        cwd=folder)
    with open(os.path.join(folder, "many.def"), "w") as file:
        file.write(f"LIBRARY image-{arch}.dll\nEXPORTS\n" + "".join(
            f"a_name_among_many_{i:04}=small_frame\n" for i in range(600)))
    run("lld-link", "/nologo", "/debug", "/dll", "/noentry", "/nodefaultlib", "/safeseh:no",
        "/export:forwarded=NTDLL.RtlSomething", "/export:by_number=NTDLL.#12",
        "/export:only_numbered,@40,NONAME", "/force:unresolved", f"/out:image-{arch}.dll",
        f"/pdb:image-{arch}.pdb", "/pdbaltpath:d:\\build\\image.pdb", f"image-{arch}.obj",
        "/def:many.def", "version.res", *libraries, cwd=folder)
    return os.path.join(folder, f"image-{arch}.dll")


def mapped(path):
    """The file as a loader lays it out in memory, and its sections."""
    data = open(path, "rb").read()
    at = struct.unpack_from("<I", data, 60)[0]
    count, optional = struct.unpack_from("<H", data, at + 6)[0], struct.unpack_from(
        "<H", data, at + 20)[0]
    size, headers = struct.unpack_from("<II", data, at + 24 + 56)
    image = bytearray(size)
    image[:headers] = data[:headers]
    sections = []
    for i in range(count):
        name, bytes_, rva, raw_bytes, raw = struct.unpack_from(
            "<8sIIII", data, at + 24 + optional + 40 * i)
        length = min(raw_bytes, bytes_)
        image[rva:rva + length] = data[raw:raw + length]
        sections.append((name.rstrip(b"\0").decode(), rva, bytes_))
    return bytes(image), sections


def read(image, base, *absent):
    ret = {}
    for line in run(dump, image, hex(base), *map(str, absent)).splitlines():
        kind, *fields = line.split("\t")
        ret.setdefault(kind, []).append(fields)
    return ret


def blocks(text, word):
    return re.findall(rf"^  {word} {{\n(.*?)^  }}", text, re.M | re.S)


def compare(path, arch):
    base = BASES[arch]
    image, sections = mapped(path)
    with open(path + ".image", "wb") as file:
        file.write(image)
    got = read(path + ".image", base)
    check([(s[0], int(s[1], 16) - base, int(s[2], 16)) for s in got["section"]] == sections,
          arch, got["section"], sections)
    check("5" in [s[3] for s in got["section"] if s[0] == ".text"], got["section"])
    text = run("llvm-readobj", "--coff-exports", path)
    exports = re.findall(r"Export {\s+Ordinal: (\d+)\s+Name: (\S*)\s+RVA: (0x\w+)", text)
    at = struct.unpack_from("<I", image, 60)[0]
    first, length = struct.unpack_from("<II", image, at + 24 + (112 if arch == "x64" else 96))
    wanted = set()
    for ordinal, name, rva in exports:
        rva = int(rva, 16)
        if first <= rva < first + length:
            wanted.add((int(ordinal), name, None, image[rva:image.index(b"\0", rva)].decode()))
        elif rva:
            wanted.add((int(ordinal), name, base + rva, ""))
    found = {(int(o), n, int(g, 16) if g != "0xffffffffffffffff" else None, f)
             for o, n, g, f, _ in got["export"]}
    check(found == wanted, arch, "exports", found ^ wanted)
    check(len(wanted) >= 600, arch, len(wanted))
    check((40, "") in {w[:2] for w in wanted} and sum(bool(f) for *_, f in wanted) == 2,
          arch, "has no export by ordinal alone, or no forwarded ones")
    text = run("llvm-readobj", "--coff-imports", path)
    wanted = []
    for module in re.findall(r"Import {\n(.*?)\n}", text, re.S):
        name = re.search(r"Name: (\S+)", module).group(1)
        slot = base + int(re.search(r"ImportAddressTableRVA: (0x\w+)", module).group(1), 16)
        for symbol, hint in re.findall(r"Symbol: (.*?) ?\((\d+)\)", module):
            wanted.append((name, symbol, int(hint), slot))
            slot += 8 if arch == "x64" else 4
    found = [(m, n, int(h if n else o), int(s, 16)) for m, n, o, h, s, _ in got["import"]]
    check(found == wanted, arch, "imports", found, wanted)
    check(len(found) == 3 and any(not n for _, n, _, _ in found), found)
    text = run("llvm-readobj", "--coff-debug-directory", path)
    name = re.search(r"PDBFileName: (.*)", text).group(1)
    guid = re.search(r"PDBGUID: {(.*)}", text)
    check(got["debug"][0][1] == name.replace("\\\\", "\\"), arch, got["debug"], name)
    if guid:
        check(got["debug"][0][0] == guid.group(1).replace("-", "") + "1", got["debug"], guid.group(1))
    check(got["version"] == [["", "10.0.17763.379", "10.1.2.3"]], got["version"])
    if arch == "x64":
        compare_functions(path, base, got)
    print(arch, len(got["export"]), "exports,", len(found), "imports,",
          len(got.get("function", [])), "functions")
    with_pages_absent(path, base, image, got)


def compare_functions(path, base, got):
    """Each frame, by its parts as llvm-readobj tells them."""
    wanted = []
    text = run("llvm-readobj", "--unwind", path)
    preferred = struct.unpack_from("<Q", open(path, "rb").read(),
                                   struct.unpack_from("<I", open(path, "rb").read(), 60)[0] + 48)[0]
    for function in re.findall(r"RuntimeFunction {\n(.*?)\n  }\n", text, re.S):
        start = int(re.search(r"StartAddress: .*?\(?(0x\w+)\)?$", function, re.M).group(1), 16)
        end = int(re.search(r"EndAddress: .*?\(?(0x\w+)\)?$", function, re.M).group(1), 16)
        frame = re.search(r"FrameRegister: (\S+)", function).group(1)
        offset = re.search(r"FrameOffset: (\S+)", function).group(1)
        wanted.append((start - preferred + base, end - preferred + base,
                       int(re.search(r"PrologSize: (\d+)", function).group(1)),
                       frame != "-", int(offset, 16) * 16 if offset != "-" else 0,
                       [int(v, 16) for v in re.findall(r"(0x\w+): \w+", function)],
                       int(re.search(r"UnwindCodeCount: (\d+)", function).group(1))))
    found = []
    for start, end, flags, prolog, register, offset, *codes in got["function"]:
        codes = [int(c, 16) for c in codes[0].split()] if codes else []
        places, i = [], 0
        while i < len(codes):
            places.append(codes[i] & 0xFF)
            kind, info = codes[i] >> 8 & 15, codes[i] >> 12
            i += {0: 1, 1: 3 if info else 2, 2: 1, 3: 1, 4: 2, 5: 3, 8: 2, 9: 3, 10: 1}[kind]
        found.append((int(start, 16), int(end, 16), int(prolog), register != "0", int(offset),
                      places, len(codes)))
    check(found == wanted, "functions", found, wanted)
    check(len(found) >= 5 and any(f[3] for f in found), found)


def with_pages_absent(path, base, image, whole):
    """Whatever is absent: nothing is made up, and most of the rest is still there."""
    partial = 0
    for page in range(len(image) // 4096):
        got = read(path + ".image", base, page)
        if "error" in got:
            check(page == 0 and got["error"][0][0] == "EFAULT", page, got["error"])
            continue
        for kind in ("section", "function"):
            check(all(f in whole.get(kind, []) for f in got.get(kind, [])), page, kind)
        known = {tuple(f[1:4]) for f in whole["export"]}
        for _, name, gva, forward, flags in got.get("export", []):
            if flags in ("0", "1"):
                check((name, gva, forward) in known, page, name, gva)
            else:
                partial += 1
        places = {tuple(f[:5]) for f in whole["import"]}
        for *fields, flags in got.get("import", []):
            if flags == "0" and fields[0]:
                check(tuple(fields) in places, page, fields)
    check(partial > 0, "no page made exports partial")


with tempfile.TemporaryDirectory() as folder:
    for arch in ("x64", "x86"):
        compare(build(folder, arch), arch)
    if os.environ.get("KEEP_PE"):
        for name in os.listdir(folder):
            shutil.copy(os.path.join(folder, name), os.environ["KEEP_PE"])
if failures:
    print("\n".join(failures[:20]), f"\n{len(failures)} failures", sep="")
sys.exit(bool(failures))
