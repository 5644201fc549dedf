#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Builds libhvmi in every way that matters and runs all the tests.
set -eu
cd "$(dirname "$0")/.."

guests=1 rigs=1
for argument; do
	case $argument in
	--quick) guests='' rigs='' ;;
	--no-rigs) rigs='' ;;
	*)
		echo "usage: scripts/test.sh [--quick | --no-rigs]   (--quick: without guests;"
		echo "       --no-rigs: without real Xen in emulated machines)"
		[ "$argument" = --help ] && exit 0
		exit 2
		;;
	esac
done

scripts/setup.sh --tests
jobs=$(nproc)

build() {
	folder=$1
	shift
	echo "== $folder: $*"
	mkdir -p "$folder"
	cmake -S . -B "$folder" -G Ninja -DHVMI_WERROR=ON "$@" >"$folder/log" 2>&1 &&
		cmake --build "$folder" >>"$folder/log" 2>&1 || {
		tail -n 40 "$folder/log"
		exit 1
	}
}
run() {
	folder=$1
	shift
	# As long as there are rigs, they need a processor.
	parallel=$jobs
	if [ "$jobs" != 1 ] && [ -n "$rigging" ] && kill -0 "$rigging" 2>/dev/null; then
		parallel=$((jobs - 1))
	fi
	ctest --test-dir "$folder" --output-on-failure --no-tests=error -j "$parallel" "$@"
}

# What goes on beside the rest does not outlive this script, however it ends, nor does what it began.
beside='setpriv --pdeathsig TERM --'
preparing='' rigging=''
# shellcheck disable=SC2086 # numbers
trap 'kill $preparing $rigging 2>/dev/null || :' EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM

# What boots, each kind under its label: guests whose images are read, live ones, real Xen.
booted='guests|live|qemu'
booting="$booted|rigs"

# Guests and rigs are fetched and made while the builds go on.
if [ -n "$guests" ]; then
	mkdir -p build-gcc
	$beside sh -c "[ -z '$rigs' ] || $beside tests/rigs/rig.py prepare
		exec tests/guests/guest.py make-all --jobs 1" >build-gcc/prepare.log 2>&1 &
	preparing=$!
fi
build build-gcc -DCMAKE_C_COMPILER=gcc -DCMAKE_CXX_COMPILER=g++
run build-gcc -LE "$booting"
# The rigs take about 20 minutes of one processor, all three together: they run beside all that follows. A
# folder of tests other than build-gcc has its own logs.
if [ -n "$rigs" ]; then
	echo "== rigs: beside what follows, see build-gcc/rigs.log"
	$beside ctest --test-dir build-gcc/tests/rigs --output-on-failure -j $(((jobs + 1) / 2)) \
		>build-gcc/rigs.log 2>&1 &
	rigging=$!
fi
build build-asan -DCMAKE_C_COMPILER=clang -DCMAKE_CXX_COMPILER=clang++ \
	-DCMAKE_BUILD_TYPE=RelWithDebInfo -DHVMI_SANITIZE=address,undefined
run build-asan -L "unit|conformance" -LE "$booting"
build build-tsan -DCMAKE_C_COMPILER=gcc -DCMAKE_CXX_COMPILER=g++ \
	-DCMAKE_BUILD_TYPE=RelWithDebInfo -DHVMI_SANITIZE=thread -DHVMI_EXAMPLES=OFF
run build-tsan -L threads
build build-fuzz -DCMAKE_C_COMPILER=clang -DCMAKE_CXX_COMPILER=clang++ \
	-DCMAKE_BUILD_TYPE=RelWithDebInfo -DHVMI_SANITIZE=address,undefined -DHVMI_FUZZ=ON \
	-DHVMI_TESTS=OFF -DHVMI_EXAMPLES=OFF -DHVMI_FUZZ_SECONDS=10
run build-fuzz -L fuzz
if [ -n "$guests" ]; then
	# What could not be made fails or skips its own test, with its reason.
	wait "$preparing" || tail -n 20 build-gcc/prepare.log
	preparing=''
	run build-gcc -L "$booted"
fi
if [ -n "$rigs" ]; then
	status=0
	wait "$rigging" || status=$?
	rigging=''
	echo "== rigs"
	cat build-gcc/rigs.log
	for rig in build-gcc/tests/rigs/*/dom0.log; do
		[ ! -e "$rig" ] || echo "$rig: $(tail -n 1 "$rig")"
	done
	[ "$status" = 0 ] || exit "$status"
fi
echo "All tests passed."
