# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=sh
# Read by scripts that fetch Debian packages of any suite and leave the system's apt alone. The caller has set
# $program and defines cached(), which ends the script: with what is in the cache, or else with lacking().

cache=${XDG_CACHE_HOME:-$HOME/.cache}/hvmi

lacking() {
	echo "$program: $*" >&2
	exit 77
}

# Takes the lock of the suite until the script ends.
suite_lock() {
	suite=$1
	command -v apt-get >/dev/null || lacking "apt-get is not there: Debian packages are fetched with it"
	command -v dpkg-deb >/dev/null || lacking "dpkg-deb is not there: Debian packages are unpacked with it"
	apt=$cache/apt/$suite
	mkdir -p "$apt"
	exec 9>"$apt/lock"
	flock 9
}

# Whether the file is there and the archive needs not be asked again.
recent() {
	[ -e "$1" ] && [ -n "$(find "$1" -mmin -360)" ]
}

suite_sources() {
	echo "deb [signed-by=$keyring] $mirror $suite main"
	if [ "$1" = yes ]; then
		echo "deb [signed-by=$keyring] $security $suite-security main"
	fi
}

# Brings the suite's lists up to date; then `apt-get -c "$apt/apt.conf"` works on them.
suite_open() {
	# The mirror's URIs, whichever way and for whichever suite the machine names them.
	# shellcheck disable=SC2016 # apt's variable, not the shell's
	uris=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 2>/dev/null | sort -u) || uris=
	mirror=${HVMI_DEBIAN_MIRROR:-$(echo "$uris" | grep -E '/debian/?$' | head -n 1)}
	security=
	if [ -z "${HVMI_DEBIAN_MIRROR-}" ]; then
		security=$(echo "$uris" | grep -E '/debian-security/?$' | head -n 1)
	fi
	[ -n "$mirror" ] || cached "this machine's apt has no Debian mirror (set HVMI_DEBIAN_MIRROR)"
	keyring=/usr/share/keyrings/debian-archive-keyring.gpg
	[ -e $keyring ] || cached "$keyring is not there (package debian-archive-keyring)"

	mkdir -p "$apt/state/lists/partial" "$apt/cache/archives/partial"
	: >"$apt/status"
	cat >"$apt/apt.conf" <<-CONF
		APT::Architecture "amd64";
		APT::Architectures { "amd64"; };
		APT::Install-Recommends "false";
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

	recent "$apt/fresh" && return 0
	# A mirror that lacks the suite's security part is as good as one that has it.
	for with_security in yes no; do
		if [ $with_security = yes ] && { [ -z "$security" ] || [ "$suite" = sid ]; }; then
			continue
		fi
		suite_sources $with_security >"$apt/sources.list"
		if apt-get -c "$apt/apt.conf" -qq -o APT::Update::Error-Mode=any update \
			>"$apt/update.log" 2>&1; then
			: >"$apt/fresh"
			return 0
		fi
	done
	cached "the Debian mirror has no suite $suite, or cannot be reached"
}

# What is left behind by a script that was interrupted goes with $work.
work=
cleanup() {
	if [ -n "$work" ]; then rm -rf "$work"; fi
}
trap cleanup EXIT
trap 'exit 1' HUP INT TERM
