#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
set -eu

usage() {
	cat <<'USAGE'
usage: build-initramfs.sh KERNEL OUT

Builds the initramfs of the test guest: programs of this machine (busybox, bash, sleep, and the
libraries that they need), the guest's own programs from guest/*.c, and modules of the kernel.
KERNEL is a folder as kernel-fetch.sh gives it, OUT the file to write.

Needs gcc, cpio, mkfs.ext4, python3, bash and a static busybox; CC names another compiler. What is
missing is said and the exit status is 77.
USAGE
}

case ${1-} in
-h | --help) usage; exit 0 ;;
esac
if [ $# -ne 2 ]; then
	usage >&2
	exit 1
fi
here=$(cd "$(dirname "$0")" && pwd)
kernel=$(cd "$1" && pwd)
out=$(cd "$(dirname "$2")" && pwd)/$(basename "$2")
cc=${CC:-gcc}

need() {
	command -v "$1" >/dev/null || { echo "build-initramfs.sh: $1 is not there (package $2)" >&2; exit 77; }
}
need "$cc" gcc
need cpio cpio
need bash bash
need /bin/busybox busybox-static
need /sbin/mkfs.ext4 e2fsprogs

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM
root=$work/root
mkdir -p "$root/bin" "$root/usr/bin" "$root/proc" "$root/sys" "$root/dev" "$root/run" "$root/tmp" \
	"$root/root" "$root/etc" "$root/modules"
umask 022

# The channel of the truth, what tells QEMU where VMCOREINFO is, then modules to be found: file systems,
# block devices and codecs that every Debian cloud kernel has, with what they depend on.
modules='virtio_pci virtio_console qemu_fw_cfg virtio_blk virtio_net virtio_rng loop dm_mod dm_crypt ext4 fuse
	overlay vfat nls_utf8 nls_ascii nls_cp437 nls_iso8859_1 9p squashfs crc32c_generic crc32c_intel configfs
	binfmt_misc tun veth bridge nf_tables'
# shellcheck disable=SC2086
python3 "$here/modules.py" "$kernel/modules" "$root/modules" $modules

flags='-std=gnu11 -O1 -g0 -Wall -Wextra'
# shellcheck disable=SC2086
$cc $flags -static -o "$root/init" "$here/guest/init.c" "$here/guest/scene.c" "$here/guest/truth.c"
# shellcheck disable=SC2086
$cc $flags -fPIE -pie -o "$root/usr/bin/actor" "$here"/guest/actor*.c -lpthread
# shellcheck disable=SC2086
$cc $flags -fPIE -pie -o "$root/usr/bin/storm" "$here/guest/storm.c" -lpthread
for name in exec-a exec-b; do
	ln -s storm "$root/usr/bin/$name"
done
mkdir -p "$root/modules/storm"
cp "$root/modules/nls_iso8859_1.ko" "$root/modules/storm/" 2>/dev/null || :
# A compiler that cannot make 32-bit code: the guest does without.
# shellcheck disable=SC2086
$cc $flags -m32 -ffreestanding -nostdlib -static -fno-pie -no-pie -fno-stack-protector \
	-fcf-protection=none -o "$root/usr/bin/tiny32" "$here/guest/tiny32.c" 2>"$work/tiny32.log" ||
	echo "build-initramfs.sh: no 32-bit process: $(head -n 1 "$work/tiny32.log")" >&2

cp /bin/busybox "$root/bin/busybox"
ln -s busybox "$root/bin/sh"
cp -L /bin/bash "$root/usr/bin/bash"
cp -L /bin/sleep "$root/usr/bin/sleep"
for program in bash sleep actor storm; do
	ldd "$root/usr/bin/$program" | grep -o '/[^ ]*' >>"$work/libraries"
done
sort -u "$work/libraries" | while read -r library; do
	mkdir -p "$root$(dirname "$library")"
	cp -L "$library" "$root$library"
done
echo 'root:x:0:0:root:/root:/bin/sh' >"$root/etc/passwd"

truncate -s 2M "$root/ext4.img"
/sbin/mkfs.ext4 -q -F -m 0 "$root/ext4.img"

# Not compressed: an emulated processor would need longer to decompress it than to copy it.
(cd "$root" && find . | LC_ALL=C sort | cpio --quiet -o -H newc -R 0:0) >"$work/initramfs"
mv "$work/initramfs" "$out"
