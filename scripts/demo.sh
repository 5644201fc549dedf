#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Builds libhvmi, boots a small Debian guest in QEMU's emulator, takes its memory, and shows what
# libhvmi sees in it.
set -eu
cd "$(dirname "$0")/.."

if [ "${1:-}" = --help ]; then
	echo "usage: scripts/demo.sh"
	exit 0
fi

scripts/setup.sh
cmake -S . -B build -G Ninja -DHVMI_TESTS=OFF >build-demo.log
cmake --build build >>build-demo.log
rm build-demo.log
echo "Booting a Debian guest in emulation (about half a minute, once) ..."
guest=$(tests/guests/guest.py demo)

show() {
	printf '\n$ %s\n' "$*"
	"$@"
}
PATH=$PWD/build/examples:$PATH
show hvmi-info "$guest/ram.raw"
show hvmi-ps --tree "$guest/ram.raw"
show hvmi-modules "$guest/ram.raw"
show hvmi-maps "$guest/ram.raw" 1
printf '\nThe image is %s. The tools are in build/examples: try hvmi-struct, hvmi-symbol, hvmi-read.\n' "$guest/ram.raw"
