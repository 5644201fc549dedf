# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=sh
# What the tools see in the live guest is what it says of itself.
compared() {
	hvmi-conformance xen:guest --say --timeout 60 || return
	sh /rig/compare.sh xen:guest "$(console guest)"
}
check "processes, modules and maps are as the guest prints them" compared
