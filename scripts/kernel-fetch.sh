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

lacking() {
	echo "kernel-fetch.sh: $*" >&2
	exit 77
}

case $name in
6.1-cloud) suite=bookworm meta=linux-image-cloud-amd64 ;;
6.12-cloud) suite=bookworm meta=linux-image-6.12-cloud-amd64 ;;
*[!a-z]*-cloud | -cloud) lacking "no such kernel: $name (see --help)" ;;
*-cloud) suite=${name%-cloud} meta=linux-image-cloud-amd64 ;;
*) lacking "no such kernel: $name (see --help)" ;;
esac
command -v apt-get >/dev/null || lacking "apt-get is not there: Debian kernels are fetched with it"
command -v dpkg-deb >/dev/null || lacking "dpkg-deb is not there: Debian packages are unpacked with it"

cache=${XDG_CACHE_HOME:-$HOME/.cache}/hvmi/kernels
apt=$cache/apt-$suite
mkdir -p "$apt"
latest=$cache/latest-$name

work=
cleanup() {
	if [ -n "$work" ]; then rm -rf "$work"; fi
}
trap cleanup EXIT
trap 'exit 1' HUP INT TERM

# One run at a time for each suite; the lock goes with the descriptor.
exec 9>"$apt/lock"
flock 9

# The last folder that was resolved, if there is one; otherwise give up.
cached() {
	if [ -e "$latest" ] && [ -e "$cache/$(cat "$latest")/vmlinuz" ]; then
		echo "kernel-fetch.sh: $*: using what is in the cache" >&2
		echo "$cache/$(cat "$latest")"
		exit 0
	fi
	lacking "$*"
}

# Asked not long ago.
if [ -e "$latest" ] && [ -e "$cache/$(cat "$latest")/vmlinuz" ] &&
	[ -n "$(find "$latest" -mmin -360)" ]; then
	echo "$cache/$(cat "$latest")"
	exit 0
fi

# The mirror's URIs, whichever way and for whichever suite the machine names them.
# shellcheck disable=SC2016 # apt's variable, not the shell's
uris=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 2>/dev/null | sort -u) || uris=
main=${HVMI_DEBIAN_MIRROR:-$(echo "$uris" | grep -E '/debian/?$' | head -n 1)}
security=
if [ -z "${HVMI_DEBIAN_MIRROR-}" ]; then
	security=$(echo "$uris" | grep -E '/debian-security/?$' | head -n 1)
fi
[ -n "$main" ] || cached "this machine's apt has no Debian mirror (set HVMI_DEBIAN_MIRROR)"

keyring=/usr/share/keyrings/debian-archive-keyring.gpg
[ -e $keyring ] || cached "$keyring is not there (package debian-archive-keyring)"

mkdir -p "$apt/state/lists/partial" "$apt/cache/archives/partial"
: >"$apt/status"
cat >"$apt/apt.conf" <<CONF
APT::Architecture "amd64";
APT::Architectures { "amd64"; };
APT::Sandbox::User "root";
Acquire::Check-Valid-Until "false";
Acquire::Languages "none";
Acquire::Retries "2";
Acquire::IndexTargets::deb::Contents-deb::DefaultEnabled "false";
Dir::State "$apt/state";
Dir::State::status "$apt/status";
Dir::Cache "$apt/cache";
Dir::Etc::sourcelist "$apt/sources.list";
Dir::Etc::sourceparts "/dev/null";
Dir::Etc::preferences "/dev/null";
Dir::Etc::preferencesparts "/dev/null";
CONF

sources() {
	echo "deb [signed-by=$keyring] $main $suite main"
	if [ "$1" = yes ]; then
		echo "deb [signed-by=$keyring] $security $suite-security main"
	fi
}

update() {
	# A mirror that lacks the suite's security part is as good as one that has it.
	for with_security in yes no; do
		if [ $with_security = yes ] && { [ -z "$security" ] || [ "$suite" = sid ]; }; then
			continue
		fi
		sources $with_security >"$apt/sources.list"
		if apt-get -c "$apt/apt.conf" -qq -o APT::Update::Error-Mode=any update \
			>"$apt/update.log" 2>&1; then
			: >"$apt/fresh"
			return 0
		fi
	done
	return 1
}

if [ -z "$(find "$apt" -maxdepth 1 -name fresh -mmin -360)" ]; then
	update || cached "the Debian mirror has no suite $suite, or cannot be reached"
fi

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
dir=$cache/$key
if [ ! -e "$dir/vmlinuz" ]; then
	work=$(mktemp -d "$cache/.work.XXXXXX")
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
