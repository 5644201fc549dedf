# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=sh
# Domains that are not there or go, others that were first, and programs that are killed: each has its own error, and
# the guest goes on.

# refused TEXT COMMAND...: it fails, not by a signal, and says why
refused() {
	refused_text=$1
	shift
	refused_status=0
	"$@" >/run/refused 2>&1 || refused_status=$?
	cat /run/refused
	[ $refused_status != 0 ] && [ $refused_status -lt 126 ] && grep -q -- "$refused_text" /run/refused
}
# eventually TEXT COMMAND...: as refused, within a minute
eventually() {
	eventually_tries=300
	until refused "$@" >/run/eventually; do
		eventually_tries=$((eventually_tries - 1))
		[ $eventually_tries != 0 ] || { cat /run/eventually; return 1; }
		usleep 200000
	done
}
check "there is no such domain, by name" refused "there is no domain 'nosuch'" hvmi-info xen:nosuch
check "there is no such domain, by number" refused "there is no domain '31999'" hvmi-info xen:31999
check "a domain does not look at itself" refused "cannot look at itself" hvmi-info xen:0
# The folder that the initramfs was made from was root's alone.
chmod 755 /
check "somebody without permission is told so" refused "EACCES.*root" hvmi-agent nobody xen:guest

# agent_begin NAME STAGE ARGUMENT...: one that runs; returns once it says so, or 77 if it cannot
agent_begin() {
	agent_out=/run/agent-$1 agent_stage=$2
	shift 2
	hvmi-agent "$@" >"$agent_out" 2>&1 &
	agent=$!
	agent_tries=600
	until grep -q "^$agent_stage" "$agent_out"; do
		agent_tries=$((agent_tries - 1))
		if [ $agent_tries = 0 ] || ! kill -0 $agent 2>/dev/null; then
			agent_status=0
			kill -9 $agent 2>/dev/null
			wait $agent || agent_status=$?
			cat "$agent_out"
			[ $agent_status = 77 ] && return 77
			return 1
		fi
		usleep 200000
	done
}
agent_end() {
	kill "$1" && wait "$1"
}

second_agent() {
	agent_begin first holding events xen:guest || return
	first=$agent
	refused "EBUSY" hvmi-agent open xen:guest || return
	guest_alive guest || return
	agent_end $first && hvmi-agent open xen:guest && guest_alive guest
}
check "a second program is told of the first, which goes on" second_agent

other_agent() {
	xen-access "$(xl domid guest)" breakpoint >/run/xen-access 2>&1 &
	other=$!
	# It opens its event channel once it has the ring.
	other_tries=600
	# shellcheck disable=SC2010 # what they lead to
	until [ $other_tries = 0 ] || ls -l /proc/$other/fd 2>/dev/null | grep -q evtchn; do
		other_tries=$((other_tries - 1))
		usleep 100000
	done
	other_status=0
	refused "EBUSY" hvmi-agent open xen:guest || other_status=$?
	# Asked to end, it would set the rights of a million pages first.
	kill -9 $other
	wait $other
	[ $other_status = 0 ] && hvmi-agent open xen:guest && guest_alive guest
}
check "a program without libhvmi that has the ring is left alone" other_agent

# killed WAY: one that holds something like that is killed, and the next one puts it right
killed() {
	agent_begin "$1" hanging "$1" xen:guest || return
	kill -9 $agent
	wait $agent 2>/dev/null
	hvmi-agent open xen:guest && guest_alive guest
}
for way in cpuid access view step pause; do
	check "a killed program's leavings are put right: $way" killed $way
done

# ended PID LINE FILE: it does, well, within a minute, and has said that
ended() {
	ended_tries=300
	while kill -0 "$1" 2>/dev/null; do
		ended_tries=$((ended_tries - 1))
		[ $ended_tries = 0 ] && break
		usleep 200000
	done
	[ $ended_tries != 0 ] || { echo "$3 does not end"; kill -9 "$1"; }
	wait "$1" && grep -q "$2" "$3" || { cat "$3"; return 1; }
}
# While somebody holds its memory a domain that was destroyed is there, but dying.
destroyed() {
	guest_create guest9 || return
	doomed=$(xl domid guest9)
	agent_begin memory holding memory xen:guest9 || return
	memory=$agent
	agent_begin events holding events xen:guest9 || return
	events=$agent
	kill -STOP $memory
	timeout 60 xl destroy guest9
	destroyed_status=$?
	echo "xl destroy: $destroyed_status"
	xl list
	ended $events "ESRCH.*gone" /run/agent-events || destroyed_status=1
	refused "gone, or is being destroyed" hvmi-info "xen:$doomed" || destroyed_status=1
	kill -CONT $memory
	ended $memory "^read: ESRCH" /run/agent-memory || destroyed_status=1
	# Xen forgets it a moment later.
	eventually "there is no domain" hvmi-info "xen:$doomed" || destroyed_status=1
	[ $destroyed_status = 0 ] && guest_alive guest
}
# within SECONDS COMMAND...: what it says; where everything is, if it takes longer
within() {
	within_left=$1
	shift
	"$@" >/run/within 2>&1 &
	within_pid=$!
	while kill -0 $within_pid 2>/dev/null && [ "$within_left" -gt 0 ]; do
		within_left=$((within_left - 1))
		sleep 1
	done
	cat /run/within
	if [ "$within_left" -gt 0 ]; then
		wait $within_pid
		return
	fi
	ps -o pid,ppid,stat,args | grep -v '\['
	for within_of in $(pidof hvmi-agent xl); do
		echo "$within_of: $(cat /proc/"$within_of"/wchan) $(cat /proc/"$within_of"/syscall)"
	done
	kill -9 $within_pid $(pidof hvmi-agent xl)
	return 1
}
check "a domain is destroyed while its memory and its events are held" within 240 destroyed
check "the guest is well after all this" hvmi-conformance xen:guest --only guests-view --timeout 60
