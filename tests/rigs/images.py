# SPDX-License-Identifier: Apache-2.0
"""What a rig boots: Xen, dom0's kernel and initramfs, the guest's, and the payload. All but the payload is cached."""

import contextlib
import fcntl
import gzip
import hashlib
import io
import lzma
import os
import re
import shutil
import struct
import subprocess
import sys
import tarfile
import tempfile
import time

from children import CACHE, SKIPPED, Failure, Skipped, fetch, fetch_kernel, run

HERE = os.path.dirname(os.path.abspath(__file__))
TESTS = os.path.dirname(HERE)
FOLDER = os.path.join(CACHE, "rigs")

PROGRAMS = ["xl", "xenstored", "xenconsoled", "xenconsole", "xen-access", "xen-init-dom0", "xenctx", "xen-cpuid",
            "xen-hvmctx", "xen-hvmcrash", "xen-diag", "xentrace", "xenstore", "xenstore-control"]
XENSTORE = ["chmod", "exists", "list", "ls", "read", "rm", "watch", "write"]
# libgcc_s is opened by pthread_cancel(); the libraries of libxen by whoever picks one by its version.
OPENED = re.compile(r"(libgcc_s|libxen\w+)\.so\.[0-9.]+$")
MODULES = ["xen-privcmd", "xen-evtchn", "xenfs", "xen-gntdev", "xen-gntalloc", "ata_piix", "sd_mod"]


@contextlib.contextmanager
def locked(path):
    with open(path, "w") as f:
        fcntl.flock(f, fcntl.LOCK_EX)
        yield


def cached(key, build):
    """The folder FOLDER/key, which build(work folder) fills if it is not there."""
    final = os.path.join(FOLDER, key)
    os.makedirs(FOLDER, exist_ok=True)
    with locked(os.path.join(FOLDER, "lock-" + key.split("-")[0])):
        if os.path.exists(final):
            os.utime(final)
            return final
        prune()
        work = tempfile.mkdtemp(prefix=".work.", dir=FOLDER)
        try:
            build(work)
            os.chmod(work, 0o755)
            os.rename(work, final)
        finally:
            shutil.rmtree(work, ignore_errors=True)
    return final


def prune():
    """What was not used for a week goes."""
    for entry in os.scandir(FOLDER):
        # Others that build something of another kind at the same time rename it.
        with contextlib.suppress(FileNotFoundError):
            if entry.is_dir() and time.time() - entry.stat().st_mtime > 7 * 86400:
                shutil.rmtree(entry.path, ignore_errors=True)


def digest(*parts):
    h = hashlib.sha256()
    for part in parts:
        h.update(part.encode() + b"\0")
    return h.hexdigest()[:12]


def digest_of_files(*paths):
    h = hashlib.sha256()
    for path in paths:
        with open(path, "rb") as f:
            h.update(f.read() + b"\0")
    return h.hexdigest()[:12]


def unpack_kernel(vmlinuz, out):
    """The ELF file within a bzImage (Documentation/x86/boot.rst): nobody has to decompress it in an emulator."""
    with open(vmlinuz, "rb") as f:
        image = f.read()
    if image[0x202:0x206] != b"HdrS":
        raise Failure("%s is no bzImage" % vmlinuz)
    offset, length = struct.unpack_from("<II", image, 0x248)
    begin = ((image[0x1f1] or 4) + 1) * 512 + offset
    data = image[begin:begin + length]
    if data.startswith(b"\xfd7zXZ"):
        data = lzma.LZMADecompressor(lzma.FORMAT_XZ).decompress(data)
    elif data.startswith(b"\x28\xb5\x2f\xfd"):
        # The length of the result, which follows, is no part of the format.
        data = subprocess.run(["zstd", "-dcq"], input=data[:-4], stdout=subprocess.PIPE).stdout
    with open(out, "wb") as f:
        f.write(data if data.startswith(b"\x7fELF") else image)


class Libraries:
    """The shared libraries of an unpacked tree, by name."""

    def __init__(self, tree):
        self.found = {}
        for folder in ("usr/lib/x86_64-linux-gnu", "usr/lib64"):
            self.add(os.path.join(tree, folder))
        # Xen has private ones.
        for name in os.listdir(os.path.join(tree, "usr/lib")):
            if name.startswith("xen-"):
                self.add(os.path.join(tree, "usr/lib", name, "lib/x86_64-linux-gnu"))

    def add(self, folder):
        for name in os.listdir(folder) if os.path.isdir(folder) else ():
            if ".so" in name:
                self.found.setdefault(name, os.path.join(folder, name))

    def needed(self, files):
        """{name: path} of all that the files need, directly or not."""
        result, queue = {}, [(f, None) for f in files]
        while queue:
            path, host = queue.pop()
            status, out, err = run(["readelf", "-d", path])
            if status:
                raise Failure("readelf: %s" % err)
            for name in re.findall(r"\(NEEDED\).*\[(.*)\]", out):
                if name in result:
                    continue
                if name not in self.found:
                    host = host or host_libraries(path)
                    if name not in host:
                        raise Failure("%s needs %s, which is nowhere" % (path, name))
                result[name] = self.found.get(name) or host[name]
                queue.append((result[name], None))
        return result


def host_libraries(path):
    """{name: path} as this machine would load them."""
    _, out, _ = run(["ldd", path])
    return dict(re.findall(r"^\s*(\S+) => (/\S+)", out, re.MULTILINE))


def archive(root, out):
    """A cpio archive, not compressed: an emulated processor would need longer to decompress it than to copy it."""
    command = "find . | LC_ALL=C sort | cpio --quiet -o -H newc -R 0:0"
    with open(out, "wb") as f:
        if subprocess.run(["sh", "-c", command], cwd=root, stdout=f).returncode:
            raise Failure("cpio failed")


def build_dom0(tree, kernel, out):
    with tempfile.TemporaryDirectory() as root:
        for name in ("proc", "sys", "dev", "tmp", "root", "run/xen", "run/xenstored", "etc/xen", "modules", "results",
                     "usr/bin", "usr/lib/x86_64-linux-gnu", "usr/lib64", "var/log/xen/console", "var/lib/xen",
                     "var/lib/xenstored", "var/lock"):
            os.makedirs(os.path.join(root, name))
        os.mkdir(os.path.join(root, "bin"))
        os.symlink("usr/lib", os.path.join(root, "lib"))
        os.symlink("usr/lib64", os.path.join(root, "lib64"))
        os.symlink("/run", os.path.join(root, "var/run"))
        shutil.copy(os.path.join(tree, "bin/busybox"), os.path.join(root, "bin"))
        private = [os.path.join(tree, "usr/lib", n, "bin") for n in os.listdir(os.path.join(tree, "usr/lib"))
                   if n.startswith("xen-")]
        programs = []
        for name in PROGRAMS:
            places = [os.path.join(p, name) for p in private + [os.path.join(tree, "usr/bin")]]
            place = next((p for p in places if os.path.exists(p)), None)
            if place:
                programs.append(place)
                shutil.copy(place, os.path.join(root, "usr/bin"))
        for name in XENSTORE:
            os.symlink("xenstore", os.path.join(root, "usr/bin/xenstore-" + name))
        libraries = Libraries(tree)
        opened = [p for n, p in libraries.found.items() if OPENED.match(n)]
        wanted = libraries.needed(programs + opened)
        wanted.update({os.path.basename(p): p for p in opened})
        for name, path in wanted.items():
            shutil.copy(path, os.path.join(root, "usr/lib/x86_64-linux-gnu", name))
        with open(out + ".libraries", "w") as f:
            f.writelines(name + "\n" for name in sorted(wanted))
        loader = "ld-linux-x86-64.so.2"
        shutil.copy(libraries.found[loader], os.path.join(root, "usr/lib64", loader))
        status, _, err = run([sys.executable, os.path.join(TESTS, "guests/modules.py"),
                              os.path.join(kernel, "modules"), os.path.join(root, "modules")] + MODULES)
        if status:
            raise Failure("modules.py: " + err)
        shutil.copy(os.path.join(HERE, "dom0/init"), os.path.join(root, "init"))
        archive(root, out)


def packages(rig):
    return fetch("deb-fetch.sh", rig["suite"], "xen-hypervisor-%s-amd64" % rig["xen"], "xen-utils-" + rig["xen"],
                 "xenstore-utils", "busybox-static")


def system(rig):
    """The folder with xen, vmlinux and dom0.img."""
    tree, kernel = packages(rig), fetch_kernel("6.1")

    def build(work):
        with gzip.open(os.path.join(tree, "boot/xen-%s-amd64.gz" % rig["xen"])) as f, \
                open(os.path.join(work, "xen"), "wb") as out:
            shutil.copyfileobj(f, out)
        unpack_kernel(os.path.join(kernel, "vmlinuz"), os.path.join(work, "vmlinux"))
        build_dom0(tree, kernel, os.path.join(work, "dom0.img"))
    scripts = digest_of_files(__file__, os.path.join(HERE, "dom0/init"))
    return cached("system-" + digest(tree, kernel, scripts), build), tree


def guest():
    """The folder with vmlinuz and initramfs."""
    kernel = fetch_kernel("6.1-cloud")
    ours = os.path.join(HERE, "guest/init")
    other = os.path.join(TESTS, "conformance/guest")
    sources = [os.path.join(other, n) for n in sorted(os.listdir(other))] if os.path.isdir(other) else []
    sources = [s for s in sources if os.path.isfile(s)]
    builder = os.path.join(other, "build.sh")

    def build(work):
        shutil.copy(os.path.join(kernel, "vmlinuz"), os.path.join(work, "vmlinuz"))
        out = os.path.join(work, "initramfs")
        if builder in sources:
            status, text, err = run([builder, kernel, out])
            if status == SKIPPED:
                raise Skipped(err)
            if status:
                raise Failure("the guest was not built:\n%s\n%s" % (text, err))
            return
        with tempfile.TemporaryDirectory() as root:
            for name in ("bin", "proc", "sys", "dev", "tmp"):
                os.mkdir(os.path.join(root, name))
            shutil.copy("/bin/busybox", os.path.join(root, "bin"))
            shutil.copy(ours, os.path.join(root, "init"))
            archive(root, out)
    return cached("guest-" + digest(kernel, digest_of_files(__file__, ours, *sources)), build)


def is_elf(path):
    with open(path, "rb") as f:
        return f.read(4) == b"\x7fELF"


class Payload:
    """An archive to be unpacked in dom0."""

    def __init__(self):
        self.bytes = io.BytesIO()
        self.tar = tarfile.open(fileobj=self.bytes, mode="w", format=tarfile.GNU_FORMAT)

    def add(self, path, name):
        self.tar.add(os.path.realpath(path), name.lstrip("/"))

    def add_text(self, text, name):
        info = tarfile.TarInfo(name.lstrip("/"))
        info.size, info.mode = len(text), 0o755
        self.tar.addfile(info, io.BytesIO(text))

    def add_build(self, build, tree, there):
        """The library, the backends, the tools and the tests of a build folder, with what they need and is
        not there yet."""
        places = {}
        for folder, pattern, to in (
                ("", r"libhvmi\.so\.1", "/usr/lib/x86_64-linux-gnu"),
                ("hvmi", r"hvmi-backend-.*\.so", "/usr/lib/x86_64-linux-gnu/hvmi"),
                ("examples", r"hvmi-.*", "/usr/bin"),
                ("tests/conformance", r"hvmi-.*", "/usr/bin"),
                ("tests/rigs", r"hvmi-.*", "/usr/bin")):
            folder = os.path.join(build, folder)
            for name in sorted(os.listdir(folder)) if os.path.isdir(folder) else ():
                path = os.path.join(folder, name)
                if re.fullmatch(pattern, name) and os.path.isfile(path) and is_elf(path):
                    places[path] = os.path.join(to, name)
        if not any(p.endswith("libhvmi.so.1") for p in places):
            raise Failure("%s holds no libhvmi.so.1" % build)
        libraries = Libraries(tree)
        libraries.add(build)
        for name, path in libraries.needed(places).items():
            if name not in there:
                places.setdefault(path, os.path.join("/usr/lib/x86_64-linux-gnu", name))
        for path, name in places.items():
            self.add(path, name)

    def finish(self):
        self.tar.close()
        return self.bytes.getvalue()
