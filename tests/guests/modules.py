#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""modules.py FOLDER OUT NAME...: unpacks kernel modules and what they depend on into OUT, where the file
"list" then names them in the order in which they can be loaded. FOLDER is a /lib/modules/RELEASE, with
or without an index. Names that it does not have are left out: they may be built in, or be of another
release."""

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
    if len(sys.argv) < 4 or "--help" in sys.argv or "-h" in sys.argv:
        print(__doc__)
        return 0 if len(sys.argv) > 1 else 1
    folder, out, wanted = sys.argv[1], sys.argv[2], sys.argv[3:]
    files = {}
    for folder, _, names in os.walk(os.path.realpath(folder)):
        for name in names:
            if ".ko" in name:
                files[module_name(name)] = os.path.join(folder, name)
    done = []

    def visit(name):
        if name in done or name not in files:
            return
        data = unpack(files[name])
        for other in depends(data):
            visit(other)
        with open(os.path.join(out, name + ".ko"), "wb") as f:
            f.write(data)
        done.append(name)

    for name in wanted:
        visit(name.replace("-", "_"))
    with open(os.path.join(out, "list"), "w") as f:
        f.writelines(name + ".ko\n" for name in done)
    return 0


if __name__ == "__main__":
    sys.exit(main())
