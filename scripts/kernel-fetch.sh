#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
set -eu

usage() {
	cat <<'USAGE'
usage: kernel-fetch.sh NAME

Prints the path of a folder that holds an unpacked Debian kernel package, fetching it if needed:
    vmlinuz    the bzImage
    modules    the folder of its modules
    release    what `uname -r` says under it
    config, System.map

NAME:
    6.1           linux-image-amd64 of bookworm
    6.1-cloud     linux-image-cloud-amd64 of bookworm
    6.12-cloud    linux-image-6.12-cloud-amd64 of bookworm
    SUITE-cloud   linux-image-cloud-amd64 of another Debian suite: bullseye, trixie, forky, sid

Which version that is, the archive says; it is asked again after six hours. Folders are kept in
${XDG_CACHE_HOME:-$HOME/.cache}/hvmi/kernels, one for each version, and the last one is used when the
mirror cannot be reached.

The mirror is the one the machine's apt is configured for, or $HVMI_DEBIAN_MIRROR (the URI that holds
dists/; security updates are then left out). The system's apt is only read, never changed.

Exit status: 0, or 77 when the mirror lacks the suite or the package, or 1.
USAGE
}

case ${1-} in
-h | --help) usage; exit 0 ;;
esac
if [ $# -ne 1 ]; then
	usage >&2
	exit 1
fi
name=$1

program=kernel-fetch.sh
. "$(dirname "$0")/apt-suite.sh"

case $name in
6.1) suite=bookworm meta=linux-image-amd64 ;;
6.1-cloud) suite=bookworm meta=linux-image-cloud-amd64 ;;
6.12-cloud) suite=bookworm meta=linux-image-6.12-cloud-amd64 ;;
*[!a-z]*-cloud | -cloud) lacking "no such kernel: $name (see --help)" ;;
*-cloud) suite=${name%-cloud} meta=linux-image-cloud-amd64 ;;
*) lacking "no such kernel: $name (see --help)" ;;
esac
suite_lock "$suite"
kernels=$cache/kernels
mkdir -p "$kernels"
latest=$kernels/latest-$name

# The last folder that was resolved, if there is one; otherwise give up.
cached() {
	if [ -e "$latest" ] && [ -e "$kernels/$(cat "$latest")/vmlinuz" ]; then
		echo "$program: $*: using what is in the cache" >&2
		echo "$kernels/$(cat "$latest")"
		exit 0
	fi
	lacking "$*"
}

if recent "$latest" && [ -e "$kernels/$(cat "$latest")/vmlinuz" ]; then
	echo "$kernels/$(cat "$latest")"
	exit 0
fi

suite_open

# field PACKAGE FIELD: of the candidate version, one line
field() {
	apt-cache -c "$apt/apt.conf" show --no-all-versions "$1" 2>/dev/null | sed -n "s/^$2: //p" | head -n 1
}

# The packages of one kernel version that a package depends on.
kernel_deps() {
	field "$1" Depends | tr ',|' '\n' | sed 's/^ *//; s/[ (].*//' |
		grep -E '^linux-(image|binary|modules|base)-[0-9]' || true
}

image=$(kernel_deps "$meta" | grep '^linux-image-' | head -n 1)
[ -n "$image" ] || cached "the Debian mirror has no package $meta in $suite"
version=$(field "$image" Version)
[ -n "$version" ] || cached "the Debian mirror has no package $image in $suite"

key=${image}_$(echo "$version" | tr ':/' '__')
dir=$kernels/$key
if [ ! -e "$dir/vmlinuz" ]; then
	work=$(mktemp -d "$kernels/.work.XXXXXX")
	mkdir "$work/deb" "$work/tree"
	# Some releases keep the image, its modules and the signed binary in one package, others do not.
	packages="$image $(kernel_deps "$image")"
	# shellcheck disable=SC2086
	(cd "$work/deb" && apt-get -c "$apt/apt.conf" -qq download $packages) >"$apt/download.log" 2>&1 ||
		cached "the Debian mirror does not give $image"
	for deb in "$work"/deb/*.deb; do
		dpkg-deb -x "$deb" "$work/tree"
	done
	rm -rf "$work/deb" "$work/tree/usr/share"
	(
		cd "$work/tree"
		modules=$(find . -type d -path '*lib/modules/*' -name kernel | head -n 1)
		modules=${modules%/kernel}
		ln -s "$modules" modules
		basename "$modules" >release
		for what in vmlinuz config System.map; do
			file=$(find . -type f '(' -name "$what" -o -name "$what-*" ')' | head -n 1)
			if [ -n "$file" ]; then ln -s "$file" "$what"; fi
		done
		[ -e vmlinuz ] && [ -e modules ]
	) || { echo "kernel-fetch.sh: $image $version holds no vmlinuz or no modules" >&2; exit 1; }
	rm -rf "$dir"
	mv "$work/tree" "$dir"
fi
echo "$key" >"$latest.new"
mv "$latest.new" "$latest"
echo "$dir"
