# SPDX-License-Identifier: Apache-2.0
"""From the raw files that a guest sent (guest/truth.h) to truth.json, whose schema README.md has."""

import hashlib
import json
import re
import struct

SCHEMA = 1
PF_KTHREAD = 0x00200000
SPIN_RBX = "0x1122334455667788"     # guest/actor_tasks.c


def text_of(data):
    """Bytes as printable ASCII: what is not, and %, as %XX."""
    return "".join(chr(b) if 0x20 <= b < 0x7f and b != 0x25 else "%%%02X" % b for b in bytes(data))


def hex_of(value):
    return "0x%x" % value


def stat_of(data):
    """The fields of a stat file from 3 on, under proc(5)'s numbers."""
    return dict(enumerate(data[data.rindex(b")") + 2:].split(), 3))


def status_of(data):
    fields = {}
    for line in data.decode("ascii", "replace").splitlines():
        name, _, value = line.partition(":")
        fields.setdefault(name, value.strip())
    return fields


def numbers(text):
    return [int(n) for n in text.split()]


# What follows the name of a kworker in /proc is not in the task: what it works on, or has worked on.
KWORKER = re.compile(rb"kworker/(u?\d+:\d+[A-Z]?|R)(?=[-+]|$)")


def own_comm(comm, kernel, sched):
    """What task_struct.comm holds: 15 bytes, while /proc shows more for kernel threads."""
    if not kernel:
        return comm
    if sched:
        return sched[:sched.rindex(b" (")]
    short = KWORKER.match(comm)
    if short and not short.group().endswith(b"/R"):
        return short.group()
    return comm[:15]


def task_of(tid, files):
    if not {"stat", "status", "comm"} <= files.keys():
        return None         # it went while it was looked at
    stat, status = stat_of(files["stat"]), status_of(files["status"])
    kernel = bool(int(stat[9]) & PF_KTHREAD)
    comm = bytes(files["comm"])[:-1]
    task = {
        "pid": tid,
        "tgid": int(status["Tgid"]),
        "ppid": int(status["PPid"]),
        "tracer": int(status["TracerPid"]),
        "uid": numbers(status["Uid"]),
        "gid": numbers(status["Gid"]),
        "groups": numbers(status["Groups"]),
        "comm": text_of(own_comm(comm, kernel, bytes(files.get("sched", b"")))),
        "proc_comm": text_of(comm),
        "state": stat[3].decode(),
        "starttime": int(stat[22]),
        "kernel": kernel,
        "threads": int(status["Threads"]),
        "flags": int(stat[9]),
        "pgrp": int(stat[5]),
        "session": int(stat[6]),
        "tty": int(stat[7]),
        "nspid": numbers(status["NSpid"]),
        "cap_eff": status["CapEff"],
        "seccomp": int(status.get("Seccomp", 0)),
        "policy": int(stat[41]),
        "nice": int(stat[19]),
    }
    if tid == 1:
        task["teller"] = True
    return task


def maps_of(maps, pagemap, links):
    entries = struct.unpack("<%dQ" % (len(pagemap) // 8), pagemap)
    result = []
    for index, line in enumerate(bytes(maps).split(b"\n")[:-1]):
        span, perms, offset, dev, inode, *rest = line.split(b" ", 5)
        start, _, end = span.partition(b"-")
        vma = {
            "start": "0x" + start.decode(),
            "end": "0x" + end.decode(),
            "perms": perms.decode(),
            "offset": "0x" + offset.decode().lstrip("0").rjust(1, "0"),
            "dev": dev.decode(),
            "inode": int(inode),
            "path": text_of(rest[0].lstrip(b" ") if rest else b""),
        }
        link = links.get("%x-%x" % (int(start, 16), int(end, 16)))
        if link is not None:
            vma["path_raw"] = text_of(link)
        if index < len(entries) and entries[index] >> 63:
            vma["pfn"] = hex_of(entries[index] & ((1 << 55) - 1))
        result.append(vma)
    return result


# proc(5)'s numbers of the fields that come from mm_struct.
MM_FIELDS = {26: "start_code", 27: "end_code", 28: "start_stack", 45: "start_data", 46: "end_data",
             47: "start_brk", 48: "arg_start", 49: "arg_end", 50: "env_start", 51: "env_end"}


def process_of(pid, files):
    stat = stat_of(files["stat"])

    def links_in(folder):
        prefix = folder + "/"
        return {n[len(prefix):-2]: data for n, data in files.items() if n.startswith(prefix) and n.endswith("->")}

    def link(name):
        return text_of(files[name + "->"]) if name + "->" in files else None

    return {
        "pid": pid,
        "cmdline": text_of(files.get("cmdline", b"")),
        "environ": text_of(files.get("environ", b"")),
        "auxv": bytes(files.get("auxv", b"")).hex(),
        "exe": link("exe"),
        "cwd": link("cwd"),
        "root": link("root"),
        "fds": {n: text_of(d) for n, d in sorted(links_in("fd").items(), key=lambda i: int(i[0]))},
        "ns": {n: text_of(d) for n, d in sorted(links_in("ns").items())},
        "mm": {name: hex_of(int(stat[n])) for n, name in MM_FIELDS.items()},
        "maps": maps_of(files.get("maps", b""), bytes(files.get("pagemap", b"")), links_in("map_files")),
    }


def modules_of(data):
    result = []
    for line in bytes(data).decode().splitlines():
        name, size, refs, users, state, address, *taints = line.split()
        result.append({
            "name": name, "size": int(size), "refs": int(refs),
            "used_by": [u for u in users.split(",") if u and u != "-"],
            "state": state, "address": address, "taints": taints[0] if taints else "",
        })
    return result


TASK_PATH = re.compile(r"/proc/(\d+)/task/(\d+)/(.*)")
PROCESS_PATH = re.compile(r"/proc/(\d+)/((?!task/).*)")


def section_of(files):
    tasks, processes = {}, {}
    for path, data in files.items():
        match = TASK_PATH.match(path)
        if match:
            tasks.setdefault((int(match[1]), int(match[2])), {})[match[3]] = data
            continue
        match = PROCESS_PATH.match(path)
        if match:
            processes.setdefault(int(match[1]), {})[match[2]] = data
    for pid, own in processes.items():
        own["stat"] = tasks.get((pid, pid), {}).get("stat")
    return {
        "uptime": float(files["/proc/uptime"].split()[0]),
        "tasks": [t for t in (task_of(tid, own) for (_, tid), own in sorted(tasks.items())) if t],
        "processes": [process_of(pid, own) for pid, own in sorted(processes.items()) if own["stat"]],
        "modules": modules_of(files["/proc/modules"]),
        "mounts": text_of(files["/proc/self/mountinfo"]).split("%0A")[:-1],
        "net": {name: text_of(files.get("/proc/net/" + name, b"")).split("%0A")[:-1]
                for name in ("tcp", "udp", "unix")},
        "sysv_shm": text_of(files.get("/proc/sysvipc/shm", b"")).split("%0A")[:-1],
    }


def cpus_of(registers):
    """The lines of QEMU's register dump that can be had from no other place."""
    result = []
    for block in re.split(r"CPU#\d+\n", registers)[1:]:
        values = dict(re.findall(r"\b(CR[0-9]|RIP|RBX|R12|R13|CPL|EFER) ?=([0-9a-f]+)", block))
        for name, key in (("GS", "gs_base"), ("FS", "fs_base")):
            match = re.search(r"^%s =\S+ ([0-9a-f]+)" % name, block, re.M)
            if match:
                values[key] = match[1]
        result.append({k.lower(): hex_of(int(v, 16)) for k, v in values.items()})
    return result


def assemble(name, variant, registers, machine, before, after):
    flags = re.search(rb"^flags\s*:(.*)$", machine["/proc/cpuinfo"], re.M)[1].split()
    cpus = cpus_of(registers)
    note = machine.get("/sys/kernel/vmcoreinfo", b"").split()

    def line(path):
        return bytes(machine[path]).decode().rstrip("\n")

    return {
        "schema": SCHEMA,
        "guest": name,
        "kernel": {
            "release": line("/proc/sys/kernel/osrelease"),
            "version": line("/proc/version"),
            "cmdline": line("/proc/cmdline"),
        },
        "machine": {
            "ram_bytes": variant["ram_mib"] << 20,
            "vcpus": variant["smp"],
            "cpu_model": variant["cpu"],
            "la57": bool(int(cpus[0]["cr4"], 16) >> 12 & 1),
            "pti": b"pti" in flags,
            "clock_ticks": 100,
            "boot_time": int(re.search(rb"^btime (\d+)", machine["/proc/stat"], re.M)[1]),
            "hostname": line("/proc/sys/kernel/hostname"),
            "boot_id": line("/proc/sys/kernel/random/boot_id"),
        },
        "cpus": cpus,
        "vmcoreinfo": {"gpa": hex_of(int(note[0], 16)), "size": int(note[1], 16)} if note else None,
        "iomem": line("/proc/iomem").split("\n"),
        "btf": {path.rsplit("/", 1)[1]: {"md5": hashlib.md5(data).hexdigest(), "size": len(data)}
                for path, data in sorted(machine.items()) if path.startswith("/sys/kernel/btf/")},
        "before": section_of(before),
        "after": section_of(after),
        "kallsyms": line("/proc/kallsyms") + "\n",
    }


def write(value, f, depth=0):
    """JSON with a line for every task and every process, and none for less."""
    if depth < 3 and isinstance(value, (dict, list)) and value:
        pairs = list(value.items()) if isinstance(value, dict) else [(None, v) for v in value]
        f.write("{" if isinstance(value, dict) else "[")
        for index, (key, item) in enumerate(pairs):
            f.write(("," if index else "") + "\n" + " " * (depth + 1))
            if key is not None:
                f.write(json.dumps(key) + ": ")
            write(item, f, depth + 1)
        f.write("\n" + " " * depth + ("}" if isinstance(value, dict) else "]"))
    else:
        json.dump(value, f)
    if depth == 0:
        f.write("\n")
