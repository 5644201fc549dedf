# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=sh
# Figures, which nothing is asserted of.
measured() {
	hvmi-speed "$1" xen:guest "$(xl domid guest)" "$2" >/run/speed 2>&1
	measured_status=$?
	sed 's/^/# /' /run/speed >>/run/figures
	cat /run/speed
	return $measured_status
}
rm -f /run/figures
check "mapping is measured beside a bare loop" measured map 9
if [ "${int3_told:-1}" = 1 ]; then
	check "breakpoints are measured beside xen-access" measured breakpoints 3
fi
cat /run/figures
