# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=sh
# The suite of tests/conformance on the live guest.

# Whether Xen is told of an int3 at all: its own xen-access is asked. QEMU's emulated SVM raises int3 as a software
# interrupt, which no intercept of exceptions meets, and has none of ICEBP and XSETBV either.
int3_is_told() {
	xen-access "$(xl domid guest)" breakpoint >/run/xen-access 2>&1 &
	witness=$!
	sleep 3
	timeout 60 hvmi-agent int3 xen:guest
	sleep 1
	kill $witness
	wait $witness 2>/dev/null
	grep -q "^Breakpoint" /run/xen-access
}
except=
int3_told=1
if xl dmesg | grep -q "SVM" && ! int3_is_told >/run/witness 2>&1; then
	int3_told=0
	except=--no-int3
	for name in int3-own int3-placed debug-icebp write-xcr0 hook-execution hook-verdict hook-transaction hook-cycles; do
		except="$except --except $name"
		skip "$name" "the emulated processor tells Xen of no int3, ICEBP and XSETBV: xen-access met no int3 either"
	done
fi
second=
! xl domid guest2 >/dev/null 2>&1 || second="--second xen:guest2"
# shellcheck disable=SC2086
conformance xen:guest --cycles "${CYCLES:-50}" --timeout 60 $second $except
check "the guest ticks after it" guest_alive guest
