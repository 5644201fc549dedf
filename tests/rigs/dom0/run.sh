# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=sh
# What is run in dom0 when nothing else is asked for: the files of tests.d in their order.
. /rig/lib.sh
for file in /rig/tests.d/*.sh; do
	echo "# ${file##*/}, $(cut -d " " -f 1 /proc/uptime) s after the start"
	. "$file"
done
summary
