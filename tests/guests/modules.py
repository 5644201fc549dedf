#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""modules.py FOLDER NAME...: the files of kernel modules and of what they depend on, one a line, in
the order in which they can be loaded. FOLDER is a /lib/modules/RELEASE without an index. Names that it
does not have are left out: they may be built in, or be of another release.

modules.py --unpack FILE: the module's bytes, decompressed, to standard output."""

import lzma
import os
import subprocess
import sys


def unpack(path):
    with open(path, "rb") as f:
        data = f.read()
    if path.endswith(".xz"):
        return lzma.decompress(data)
    if path.endswith(".zst"):
        return subprocess.run(["zstd", "-dc"], input=data, stdout=subprocess.PIPE, check=True).stdout
    return data


def module_name(path):
    return os.path.basename(path).split(".ko")[0].replace("-", "_")


def depends(data):
    """The depends= entry of .modinfo, which depmod reads too."""
    for at in (data.find(b"\0depends="), data.find(b"depends=")):
        if at >= 0:
            text = data[at:].lstrip(b"\0")[len(b"depends="):]
            return [n.replace("-", "_") for n in text.split(b"\0", 1)[0].decode().split(",") if n]
    return []


def main():
    if len(sys.argv) < 3 or "--help" in sys.argv or "-h" in sys.argv:
        print(__doc__)
        return 0 if len(sys.argv) > 1 else 1
    if sys.argv[1] == "--unpack":
        sys.stdout.buffer.write(unpack(sys.argv[2]))
        return 0

    files = {}
    for folder, _, names in os.walk(os.path.realpath(sys.argv[1])):
        for name in names:
            if ".ko" in name:
                files[module_name(name)] = os.path.join(folder, name)
    order = []

    def visit(name):
        if name in order or name not in files:
            return
        for other in depends(unpack(files[name])):
            visit(other)
        order.append(name)

    for name in sys.argv[2:]:
        visit(name.replace("-", "_"))
    for name in order:
        print(files[name])
    return 0


if __name__ == "__main__":
    sys.exit(main())
