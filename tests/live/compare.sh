#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Compares what the tools see in a running guest with what the guest printed on its console. Wants no
# more than a shell and awk, as busybox has them.
set -eu

if [ $# -lt 2 ] || [ "$1" = --help ]; then
	cat <<'USAGE'
usage: compare.sh TARGET CONSOLE-LOG [FOLDER-OF-THE-TOOLS]

CONSOLE-LOG holds, between lines "GUEST: begin WHAT" and "GUEST: end WHAT", the last of each:
    ps          lines PID PPID NAME, of processes
    modules     /proc/modules
    maps PID    /proc/PID/maps; any number of processes
The guest must have been at rest since. Kernel workers (kworker/...) come and go, and are left out.
Exit status: 0 all is equal, 1 something is not, or the log holds none of it.
USAGE
	[ "${1-}" = --help ] && exit 0
	exit 2
fi
target=$1
log=$2
tools=${3:+$3/}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM
failed=0
compared=0

# The last block of that name, complete, without what a terminal adds.
said() {
	tr -d '\r' <"$log" | awk -v name="$1" '
		$0 == "GUEST: begin " name { text = ""; on = 1; next }
		$0 == "GUEST: end " name { if (on) { last = text; found = 1 } on = 0; next }
		on { text = text $0 "\n" }
		END { printf "%s", last; exit !found }'
}

# same WHAT: $work/said and $work/seen, both sorted, are equal and not empty.
same() {
	compared=$((compared + 1))
	sort "$work/said" >"$work/a"
	sort "$work/seen" >"$work/b"
	if [ -s "$work/a" ] && cmp -s "$work/a" "$work/b"; then
		echo "ok - $1: $(wc -l <"$work/a") lines are equal"
		return
	fi
	echo "not ok - $1: what the guest said (-) and what was seen (+):"
	diff "$work/a" "$work/b" | sed -n 's/^</-/p; s/^>/+/p; s/^\([-+][^-+]\)/\1/p' | head -n 40
	[ -s "$work/a" ] || echo "the guest said nothing"
	failed=$((failed + 1))
}

# hvmi-* without what they say on standard error, unless they fail.
see() {
	if ! "$tools$@" >"$work/out" 2>"$work/err"; then
		echo "not ok - $*: $(cat "$work/err")"
		failed=$((failed + 1))
		: >"$work/out"
	fi
}

# Lines PID PPID NAME, from behind a regular expression that both numbers are in, as those of the guest.
# The kernel's threads are in brackets for hvmi-ps, and have longer names in /proc than in memory.
processes() {
	awk -v behind="$1" '
		{ name = $0; sub(behind, "", name); gsub(/^\[|\]$/, "", name) }
		$1 ~ /^[0-9]+$/ && name !~ /^kworker\// { print $1, $2, substr(name, 1, 15) }'
}

if said ps >"$work/block"; then
	processes '^[0-9]+ [0-9]+ ' <"$work/block" >"$work/said"
	see hvmi-ps "$target"
	processes '^ *[0-9]+ +[0-9]+ +[0-9?]+ . +[0-9?]+ +[0-9.?]+ ' <"$work/out" >"$work/seen"
	same processes
fi
if said modules >"$work/block"; then
	awk '{ print $1, $6, $2, tolower($5) }' "$work/block" >"$work/said"
	see hvmi-modules "$target"
	awk 'NR > 1 { print $1, $2, $3, $4 }' "$work/out" >"$work/seen"
	same modules
fi
pids=$(tr -d '\r' <"$log" | sed -n 's/^GUEST: begin maps \([0-9][0-9]*\)$/\1/p' | sort -nu)
for pid in $pids; do
	said "maps $pid" >"$work/block" || continue
	awk '{ $1 = $1; print }' "$work/block" >"$work/said"
	see hvmi-maps "$target" "$pid"
	awk '{ $1 = $1; print }' "$work/out" >"$work/seen"
	same "regions of process $pid"
done
if [ "$compared" = 0 ]; then
	echo "not ok - $log holds nothing that the guest said"
	failed=1
fi
[ "$failed" = 0 ]
