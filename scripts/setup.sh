#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Installs the Debian packages that building (and, with --tests, testing) libhvmi needs.
set -eu

case ${1:-} in
'' | --tests) ;;
*)
	echo "usage: scripts/setup.sh [--tests]"
	[ "$1" = --help ] && exit 0
	exit 2
	;;
esac

packages='gcc g++ libc6-dev cmake ninja-build pkg-config zlib1g-dev libzstd-dev libsnappy-dev
	libjansson-dev liblzma-dev make libelf1 libzydis-dev libcapstone-dev
	qemu-system-x86 busybox-static cpio python3 xz-utils zstd libc6-dev-i386'
if [ "${1:-}" = --tests ]; then
	packages="$packages clang libclang-rt-dev lld llvm check mandoc binutils valgrind
		qemu-system-arm libunicorn-dev libvirt-dev libvirt-daemon-system libvirt-clients
		libxen-dev grub-common grub-pc-bin xorriso mtools"
fi

missing=
for package in $packages; do
	dpkg-query -W -f '${db:Status-Abbrev}' "$package" 2>/dev/null | grep -q '^.i' ||
		missing="$missing $package"
done
[ -z "$missing" ] && exit 0

run=
if [ "$(id -u)" != 0 ]; then
	run=sudo
fi
$run apt-get update -q
# shellcheck disable=SC2086 # words
$run env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends $missing
