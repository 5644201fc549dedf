# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=sh
# The suite of tests/conformance on the live guest. Its own results are tests of this run.
conformance() {
	hvmi-conformance "$@" >/run/conformance.out 2>&1
	cat /run/conformance.out
	conformance_line=$(grep -E '^[0-9]+ passed, [0-9]+ failed' /run/conformance.out | tail -n 1)
	if [ -z "$conformance_line" ]; then
		check "hvmi-conformance $1 ends with a summary" false
		return
	fi
	# shellcheck disable=SC2086
	set -- $(echo "$conformance_line" | tr -cd '0-9 ')
	passed=$((passed + $1)) failed=$((failed + $2)) skipped=$((skipped + ${3:-0}))
}
conformance xen:guest --cycles "${CYCLES:-50}" --timeout 15
check "the guest ticks after it" guest_alive guest
