# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=sh
# A domain without alternate views: hooks are made of something else there. Where no domain has views, those of
# 20-conformance.sh were that already.
if xl dmesg | grep -q VMX; then
	check "a domain without views is up" guest_start plain
	conformance xen:plain --cycles "${CYCLES:-50}" --timeout 60 --only 'hook-*' --only 'detour*' --only killed \
		--only guests-view
	check "the domain without views ticks after it" guest_alive plain
	xl destroy plain
fi
