#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
set -eu

usage() {
	cat <<'USAGE'
usage: build.sh KERNEL OUT

Builds the initramfs (gzip) of the cooperating guest. KERNEL is a folder as kernel-fetch.sh gives it, OUT
the file to write. Where the kernel's headers cannot be had the guest goes without its module, which is
said, and the tests that need it skip.

Needs gcc, make, cpio, and a static C library; what is missing is said and the exit status is 77.
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
for tool in "$cc" make cpio gzip; do
	command -v "$tool" >/dev/null || { echo "build.sh: $tool is not there" >&2; exit 77; }
done

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM
umask 022
root=$work/root
mkdir -p "$root/proc" "$root/sys" "$root/dev"

$cc -std=gnu11 -O2 -g0 -Wall -Wextra -static -pthread -o "$root/init" "$here/init.c" "$here/probe.c" \
	"$here/say.c" "$here/code.S"

mkdir "$work/module"
cp "$here/Kbuild" "$here/module.c" "$here/mailbox.h" "$here/code.S" "$work/module"
if headers=$("$here/../../../scripts/headers-fetch.sh" "$kernel") &&
	make -C "$headers" CC="$cc" M="$work/module" modules >"$work/module.log" 2>&1; then
	strip --strip-debug -o "$root/hvmi_probe.ko" "$work/module/hvmi_probe.ko"
else
	if [ -e "$work/module.log" ]; then
		tail -n 20 "$work/module.log" >&2
	fi
	echo "build.sh: the guest has no module" >&2
fi

(cd "$root" && find . | LC_ALL=C sort | cpio --quiet -o -H newc -R 0:0) | gzip -9n >"$work/initramfs"
mv "$work/initramfs" "$out"
