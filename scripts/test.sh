#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Builds libhvmi in every way that matters and runs all the tests.
set -eu
cd "$(dirname "$0")/.."

quick= rigs=
for argument; do
	case $argument in
	--quick) quick=1 ;;
	--rigs) rigs=1 ;;
	*)
		echo "usage: scripts/test.sh [--quick | --rigs]   (--quick: without guests;"
		echo "       --rigs: on real Xen in emulated machines, too)"
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
	ctest --test-dir "$folder" --output-on-failure --no-tests=error "$@"
}

# What boots, each kind under its label: guests whose images are read, live ones, real Xen.
booting='guests|live|qemu|rigs'
booted='guests|live|qemu'
[ -z "$rigs" ] || booted=$booting

# Guests and rigs are fetched and made while the builds go on.
if [ -z "$quick" ]; then
	mkdir -p build-gcc
	{
		[ -z "$rigs" ] || tests/rigs/rig.py prepare || :
		tests/guests/guest.py make-all --jobs 1
	} >build-gcc/prepare.log 2>&1 &
	preparing=$!
	trap 'kill $preparing 2>/dev/null || :' EXIT
fi
build build-gcc -DCMAKE_C_COMPILER=gcc -DCMAKE_CXX_COMPILER=g++
run build-gcc -LE "$booting" -j "$jobs"
build build-asan -DCMAKE_C_COMPILER=clang -DCMAKE_CXX_COMPILER=clang++ \
	-DCMAKE_BUILD_TYPE=RelWithDebInfo -DHVMI_SANITIZE=address,undefined
run build-asan -L "unit|conformance" -LE "$booting" -j "$jobs"
build build-tsan -DCMAKE_C_COMPILER=gcc -DCMAKE_CXX_COMPILER=g++ \
	-DCMAKE_BUILD_TYPE=RelWithDebInfo -DHVMI_SANITIZE=thread -DHVMI_EXAMPLES=OFF
run build-tsan -L threads -j "$jobs"
build build-fuzz -DCMAKE_C_COMPILER=clang -DCMAKE_CXX_COMPILER=clang++ \
	-DCMAKE_BUILD_TYPE=RelWithDebInfo -DHVMI_SANITIZE=address,undefined -DHVMI_FUZZ=ON \
	-DHVMI_TESTS=OFF -DHVMI_EXAMPLES=OFF
run build-fuzz -L fuzz -j "$jobs"
if [ -z "$quick" ]; then
	# What could not be made fails or skips its own test, with its reason.
	wait "$preparing" || tail -n 20 build-gcc/prepare.log
	trap - EXIT
	run build-gcc -L "$booted" -j "$jobs"
fi
echo "All tests passed."
