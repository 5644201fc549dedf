# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=sh
# For the scripts that run in dom0.

. /rig/settings
consoles=/var/log/xen/console

# console NAME: the file that holds what the guest printed
console() {
	echo "$consoles/guest-$1.log"
}

# guest_says NAME TEXT: whether it did, so far
guest_says() {
	grep -q -- "$2" "$(console "$1")" 2>/dev/null
}

# await SECONDS NAME TEXT: until the guest says it. A loop of short-lived processes would take from the guest most of
# what an emulated processor can do.
await() {
	rm -f /run/await
	mkfifo /run/await
	tail -n "${AWAIT_FROM:-+1}" -F "$(console "$2")" >/run/await 2>/dev/null &
	await_tail=$!
	await_status=0
	timeout "$1" grep -q -m 1 -- "$3" </run/await || await_status=$?
	kill $await_tail
	wait $await_tail 2>/dev/null
	return $await_status
}

# guest_config NAME: prints its configuration; "pv" is a PV guest, all others are PVH, "plain" without views
guest_config() {
	cat <<-CONFIG
		name="$1"
		kernel="/root/guest/vmlinuz"
		ramdisk="/root/guest/initramfs"
		cmdline="console=hvc0 earlyprintk=xen quiet panic=1 ${GUEST_CMDLINE-mitigations=off cryptomgr.notests}"
		memory=${GUEST_MEMORY:-128}
	CONFIG
	if [ "$1" = pv ]; then
		echo 'type="pv"'
		echo 'vcpus=1'
	else
		echo 'type="pvh"'
		echo "vcpus=${GUEST_VCPUS:-1}"
		echo 'shadow_memory=64'
		[ "$1" = plain ] || echo 'altp2m="external"'
	fi
}

# guest_create NAME: begins it and does not wait
guest_create() {
	guest_config "$1" >"/etc/xen/$1.cfg"
	# Without -e a monitor stays behind.
	xl create -q -e "/etc/xen/$1.cfg"
}

# guest_start NAME: until it is up
guest_start() {
	guest_create "$1" && await "${GUEST_TIMEOUT:-300}" "$1" "GUEST: up"
}

# guests_start N: "guest", "guest2", ...
guests_start() {
	guests_i=1
	while [ $guests_i -le "$1" ]; do
		guests_name=guest$guests_i
		[ $guests_i = 1 ] && guests_name=guest
		guest_start $guests_name || echo "dom0: $guests_name did not come up"
		guests_i=$((guests_i + 1))
	done
}

# ticks NAME: how many the guest has counted
ticks() {
	sed -n 's/.*GUEST: tick \([0-9]*\).*/\1/p' "$(console "$1")" | tail -n 1
}
# guest_alive NAME: whether it ticks on
guest_alive() {
	AWAIT_FROM=0 await 60 "$1" "GUEST: tick"
}

passed=0 failed=0 skipped=0
# check NAME COMMAND...: a test that passes if the command succeeds; its output is shown if it does not
check() {
	check_name=$1
	shift
	check_status=0
	"$@" >/run/check.out 2>&1 || check_status=$?
	case $check_status in
	0) passed=$((passed + 1)); echo "ok - $check_name" ;;
	77) skipped=$((skipped + 1)); echo "ok - $check_name # SKIP $(tail -n 1 /run/check.out)" ;;
	*)
		failed=$((failed + 1))
		echo "not ok - $check_name: $* (status $check_status)"
		tail -n 40 /run/check.out | sed 's/^/#   /'
		;;
	esac
}
# conformance TARGET OPTION...: the results of tests/conformance are tests of this run
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
skip() {
	skipped=$((skipped + 1))
	echo "ok - $1 # SKIP $2"
}
summary() {
	if [ $skipped = 0 ]; then
		echo "$passed passed, $failed failed"
	else
		echo "$passed passed, $failed failed, $skipped skipped"
	fi
	[ $failed = 0 ] && [ $passed != 0 ]
}
