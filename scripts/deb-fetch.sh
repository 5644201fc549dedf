#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
set -eu

usage() {
	cat <<'USAGE'
usage: deb-fetch.sh SUITE PACKAGE...

Prints the path of a folder into which Debian packages of SUITE and all that they depend on are unpacked
(without documentation, translations and icons), fetching them if needed. PACKAGES in it names them with their versions. Nothing is
installed and no maintainer script is run. Root is not needed.

Which versions those are, the archive says; it is asked again after six hours. Folders are kept in
${XDG_CACHE_HOME:-$HOME/.cache}/hvmi/debs until they were not used for a week, and the last one is used
when the mirror cannot be reached. The mirror is found as by kernel-fetch.sh.

Exit status: 0, or 77 when the mirror lacks the suite or a package, or 1.
USAGE
}

case ${1-} in
-h | --help) usage; exit 0 ;;
esac
if [ $# -lt 2 ]; then
	usage >&2
	exit 1
fi
program=deb-fetch.sh
. "$(dirname "$0")/apt-suite.sh"
suite_lock "$1"
shift

debs=$cache/debs
mkdir -p "$debs"
hash_of() {
	sha256sum | cut -c 1-12
}
latest=$debs/latest-$suite-$(echo "$*" | hash_of)

give() {
	touch "$1"
	echo "$1"
	exit 0
}
# The last folder that was resolved, if there is one; otherwise give up.
cached() {
	if [ -e "$latest" ] && [ -e "$debs/$(cat "$latest")" ]; then
		echo "$program: $*: using what is in the cache" >&2
		give "$debs/$(cat "$latest")"
	fi
	lacking "$*"
}
if recent "$latest" && [ -e "$debs/$(cat "$latest")" ]; then
	give "$debs/$(cat "$latest")"
fi

suite_open
for package; do
	apt-cache -c "$apt/apt.conf" show "$package" >/dev/null 2>&1 ||
		cached "the Debian mirror has no package $package in $suite"
done
uris=$(apt-get -c "$apt/apt.conf" -qq -y --print-uris install "$@" 2>"$apt/install.log") ||
	cached "$* cannot be had from $suite: $(tail -n 1 "$apt/install.log")"
names=$(echo "$uris" | sed -n "s/^'[^']*' \([^ ]*\)\.deb .*/\1/p" | LC_ALL=C sort)
key=$suite-$1-$(echo "$names" | hash_of)
dir=$debs/$key
if [ ! -e "$dir" ]; then
	find "$debs" -mindepth 1 -maxdepth 1 -mtime +7 -exec rm -rf {} +
	apt-get -c "$apt/apt.conf" -qq -y --download-only install "$@" >"$apt/download.log" 2>&1 ||
		cached "the Debian mirror does not give $*: $(tail -n 1 "$apt/download.log")"
	work=$(mktemp -d "$debs/.work.XXXXXX")
	# Where bin, lib and sbin belong, before a package brings its own.
	mkdir -p "$work/usr/bin" "$work/usr/lib" "$work/usr/lib64" "$work/usr/sbin"
	ln -s usr/bin usr/lib usr/lib64 usr/sbin "$work"
	for name in $names; do
		dpkg-deb --fsys-tarfile "$apt/cache/archives/$name.deb" |
			tar -x -C "$work" --no-same-owner --keep-directory-symlink \
				--exclude './usr/share/doc' --exclude './usr/share/man' --exclude './usr/share/locale' \
				--exclude './usr/share/icons'
	done
	echo "$names" >"$work/PACKAGES"
	chmod 755 "$work"
	mv "$work" "$dir"
	work=
	apt-get -c "$apt/apt.conf" clean
fi
echo "$key" >"$latest.new"
mv "$latest.new" "$latest"
give "$dir"
