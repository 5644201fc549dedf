#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# consumers.sh BUILD-FOLDER CC CXX: installs the build elsewhere and uses only what was installed.
set -eu
build=$1 cc=$2 cxx=$3
here=$(cd "$(dirname "$0")" && pwd)
tree=$here/../..
stage=$(mktemp -d)
trap 'rm -rf "$stage"' EXIT
fail() {
	echo "$*" >&2
	exit 1
}

cmake --install "$build" --prefix "$stage/root" >"$stage/log" || fail "$(cat "$stage/log")"
pc=$(find "$stage/root" -name hvmi.pc)
[ -n "$pc" ] || fail "hvmi.pc is not installed"
export PKG_CONFIG_PATH="${pc%/*}"
libdir=$(pkg-config --variable=libdir hvmi)
include=$(pkg-config --variable=includedir hvmi)
cflags=$(pkg-config --cflags hvmi)
strict="-pedantic -Wall -Wextra -Werror"
export LD_LIBRARY_PATH="$libdir"

# Words are to be split in what follows.
# shellcheck disable=SC2046,SC2086
{
	# The programs.
	printf image >"$stage/image"
	truncate -s 4096 "$stage/image"
	$cc -std=c99 $strict "$here/consumer.c" -o "$stage/c" $(pkg-config --cflags --libs hvmi)
	$cxx -std=c++11 $strict "$here/consumer.cpp" -o "$stage/c++" \
		$(pkg-config --cflags --libs hvmi)
	for program in c c++; do
		[ "$("$stage/$program" "$stage/image")" = ok ] || fail "$program does not work"
		readelf -d "$stage/$program" | grep -q 'NEEDED.*\[libhvmi\.so\.1\]' ||
			fail "$program does not ask for libhvmi.so.1"
	done

	# Each header alone.
	for header in "$include"/hvmi/*.h; do
		echo "#include <hvmi/${header##*/}>" >"$stage/header.c"
		for language in c99 c11; do
			$cc -std=$language $strict $cflags -fsyntax-only "$stage/header.c"
		done
		for language in c++11 c++17; do
			$cxx -x c++ -std=$language $strict $cflags -fsyntax-only "$stage/header.c"
		done
	done
	for header in "$tree"/include/hvmi/*.h; do
		cmp "$header" "$include/hvmi/${header##*/}"
	done

	# The tools' sources.
	if pkg-config --exists jansson; then
		for source in "$tree"/examples/*.c; do
			$cc -std=gnu11 -D_GNU_SOURCE -Wall -Wextra -Werror $cflags -fsyntax-only \
				"$source"
		done
	fi
}

# What is in the library, and what it needs.
library=$libdir/libhvmi.so
{ [ -L "$library" ] && [ -L "$library.1" ]; } || fail "the links to the library are missing"
readelf -d "$library" | grep -q 'SONAME.*\[libhvmi\.so\.1\]' || fail "the soname is wrong"
readelf -d "$library" | grep -E 'TEXTREL|RUNPATH|RPATH' && fail "the library has these"
readelf -d "$library" | sed -n 's/.*NEEDED.*\[\(.*\)\]/\1/p' >"$stage/needed"
grep -vE '^(libc|libsnappy|libz|libzstd|liblzma|libjansson|libZydis|libZycore|libcapstone|ld-linux-.*)\.so' \
	"$stage/needed" && fail "the library should not need these"
awk '/^HVMI_/ { node = $1 } /^global:/ { on = 1 } /^local:/ { on = 0 }
	on && /;/ { sub(/;.*/, ""); sub(/^[ \t]*/, ""); print $0 "@@" node }' \
	"$tree/lib/libhvmi.map" | sort >"$stage/map"
nm -D --defined-only "$library" | awk '$3 ~ /@@/ || $2 != "A" { print $3 }' | sort \
	>"$stage/symbols"
diff -u "$stage/map" "$stage/symbols" || fail "the symbols are not those of lib/libhvmi.map"
[ -s "$stage/map" ] || fail "lib/libhvmi.map names no symbols"
# A function that a header declares and the map does not name cannot be linked.
cat "$include"/hvmi/*.h | tr '\n' ' ' | grep -oE 'HVMI_API [^;(]*\(' |
	sed -n 's/.*[ *]\(hvmi_[a-z0-9_]*\)($/\1/p' | sort >"$stage/declared"
sed 's/@@.*//' "$stage/map" | diff -u "$stage/declared" - ||
	fail "the headers do not declare what lib/libhvmi.map names"

# The tools and the manual.
bindir=$(dirname "$(find "$stage/root" -name hvmi-info -type f)")
for tool in "$bindir"/hvmi-*; do
	[ "$tool" = "$bindir/hvmi-*" ] && break
	"$tool" --version >/dev/null || fail "$tool does not work"
	find "$stage/root" -name "${tool##*/}.1" | grep -q . || fail "$tool has no manual page"
done
find "$stage/root" -name libhvmi.3 | grep -q . || fail "libhvmi(3) is not installed"
echo ok
