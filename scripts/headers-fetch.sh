#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
set -eu

usage() {
	cat <<'USAGE'
usage: headers-fetch.sh KERNEL

Prints the path of a folder in which modules for a Debian kernel can be built:
    make -C FOLDER M=... modules
KERNEL is a folder as kernel-fetch.sh gives it. The kernel's headers are fetched if needed, from the
archive that the kernel came from, and kept in ${XDG_CACHE_HOME:-$HOME/.cache}/hvmi/headers. Nothing is
installed.

Exit status: 0, or 77 when the archive lacks them, or 1.
USAGE
}

case ${1-} in
-h | --help) usage; exit 0 ;;
esac
if [ $# -ne 1 ]; then
	usage >&2
	exit 1
fi
lacking() {
	echo "headers-fetch.sh: $*" >&2
	exit 77
}

release=$(cat "$1/release")
cache=${XDG_CACHE_HOME:-$HOME/.cache}/hvmi
key=$(basename "$1" | sed 's/^linux-image-/linux-headers-/')
dir=$cache/headers/$key
tree=$dir/usr/src/linux-headers-$release
mkdir -p "$cache/headers"
exec 8>"$cache/headers/lock"
flock 8
if [ -e "$tree/Makefile" ]; then
	echo "$tree"
	exit 0
fi

# Which archive that was, kernel-fetch.sh left behind.
apt=
for conf in "$cache"/kernels/apt-*/apt.conf "$cache"/apt/*/apt.conf; do
	[ -e "$conf" ] || continue
	if apt-cache -c "$conf" show "linux-headers-$release" >/dev/null 2>&1; then
		apt=$(dirname "$conf")
	fi
done
[ -n "$apt" ] || lacking "no Debian archive that is known has linux-headers-$release"
exec 9>"$apt/lock"
flock 9

depends=$(apt-cache -c "$apt/apt.conf" show --no-all-versions "linux-headers-$release" |
	sed -n 's/^Depends: //p' | head -n 1 | tr ',|' '\n' | sed 's/^ *//; s/[ (].*//' |
	grep -E '^linux-(headers|kbuild|base)-[0-9]')
work=$(mktemp -d "$cache/headers/.work.XXXXXX")
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM
mkdir "$work/deb" "$work/tree"
# shellcheck disable=SC2086 # words
(cd "$work/deb" && apt-get -c "$apt/apt.conf" -qq download "linux-headers-$release" $depends) \
	>"$work/log" 2>&1 || lacking "linux-headers-$release cannot be had: $(tail -n 1 "$work/log")"
for deb in "$work"/deb/*.deb; do
	dpkg-deb -x "$deb" "$work/tree"
done

# They name each other by where they are installed.
cd "$work/tree/usr/src/linux-headers-$release"
for file in Makefile .config include/generated/autoconf.h .kernelvariables; do
	if [ -f "$file" ] && grep -q /usr/ "$file"; then
		sed -i "s|/usr/src/|$dir/usr/src/|g; s|/usr/lib/linux-kbuild|$dir/usr/lib/linux-kbuild|g" "$file"
	fi
done
find "$work/tree/usr/src" -type l | while read -r link; do
	target=$(readlink "$link")
	case $target in
	/usr/*) ln -sfn "$dir$target" "$link" ;;
	esac
done
rm -rf "$dir"
mv "$work/tree" "$dir"
[ -e "$tree/Makefile" ] || { echo "headers-fetch.sh: $key has no Makefile" >&2; exit 1; }
echo "$tree"
