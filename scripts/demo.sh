#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Builds libhvmi, boots a small Debian guest in QEMU's emulator, and shows what libhvmi sees in it while it
# runs.
set -eu
cd "$(dirname "$0")/.."

case ${1:-} in
'') ;;
--show)
	# Beside the guest, which guest.py keeps up as long as this runs.
	PATH=$PWD/build/examples:$PATH
	show() {
		printf '\n$ %s\n' "$*"
		"$@"
	}
	show hvmi-info "$HVMI_TARGET"
	show hvmi-ps --tree "$HVMI_TARGET"
	show hvmi-modules "$HVMI_TARGET"
	show hvmi-maps "$HVMI_TARGET" 1
	exit
	;;
*)
	echo "usage: scripts/demo.sh"
	[ "$1" = --help ] && exit 0
	exit 2
	;;
esac

scripts/setup.sh
cmake -S . -B build -G Ninja -DHVMI_TESTS=OFF >build-demo.log
cmake --build build >>build-demo.log
rm build-demo.log
echo "Booting a Debian guest in emulation (about half a minute) ..."
tests/guests/guest.py run 6.1-cloud scripts/demo.sh --show &
guest=$!
trap 'kill $guest 2>/dev/null || :' EXIT
trap 'exit 1' HUP INT TERM
wait $guest
trap - EXIT
cat <<'NEXT'

The guest was looked at while it ran, and is powered off now. The tools are in build/examples: try them on a
QEMU of your own (-qmp unix:SOCKET,server=on,wait=off) as qemu:SOCKET, or on an image of a machine's memory.
NEXT
