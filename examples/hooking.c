/* SPDX-License-Identifier: Apache-2.0 */
#include "hooking.h"

#include <poll.h>
#include <signal.h>

static volatile sig_atomic_t stopped;
static sigset_t signals_before;

static void stop(int signal)
{
	(void)signal;
	stopped = 1;
}

/* Blocked but while waiting, so that none comes where the machine is half changed. */
static void take_signals(void)
{
	static const int ending[] = { SIGINT, SIGTERM, SIGHUP };
	struct sigaction action = { .sa_handler = stop };
	sigset_t blocked;
	sigemptyset(&blocked);
	for (size_t i = 0; i < sizeof(ending) / sizeof(*ending); i++) {
		sigaddset(&blocked, ending[i]);
		sigaction(ending[i], &action, NULL);
	}
	signal(SIGPIPE, SIG_IGN);
	sigprocmask(SIG_BLOCK, &blocked, &signals_before);
}

void hooking_begin(struct hooking *h, struct tool *tool)
{
	h->tool = tool;
	take_signals();
	int rc = hvmi_events_open(tool->vm, NULL, &h->events, &tool->err);
	if (!rc)
		rc = hvmi_hooks_open(h->events, NULL, &h->hooks, &tool->err);
	if (rc)
		tool_die(rc == -ENOMEM ? TOOL_INTERNAL : TOOL_TARGET, "%s", tool->err.text);
}

bool hooking_add(struct hooking *h, struct hvmi_hook_request *request)
{
	request->size = sizeof(*request);
	int rc = hvmi_hook_add(h->hooks, request, NULL, &h->tool->err);
	if (rc)
		tool_failed(h->tool, rc);
	return rc == 0;
}

void hooking_run(struct hooking *h)
{
	struct pollfd fd = { .fd = hvmi_hooks_fd(h->hooks), .events = POLLIN };
	int rc = 0;
	while (!stopped && rc >= 0 && !ferror(stdout) && !(h->limit && h->count >= h->limit)) {
		if (ppoll(&fd, 1, NULL, &signals_before) == 1)
			rc = hvmi_hooks_dispatch(h->hooks, 0, &h->tool->err);
		fflush(stdout);
	}
	if (rc < 0)
		tool_failed(h->tool, rc);
}

void hooking_end(struct hooking *h)
{
	hvmi_hooks_close(h->hooks);
	hvmi_events_close(h->events);
	sigprocmask(SIG_SETMASK, &signals_before, NULL);
}

bool who_begin(struct who_finder *finder, struct tool *tool)
{
	const struct hvmi_profile *profile = hvmi_os_profile(tool->os);
	finder->pid.size = finder->tgid.size = finder->comm.size = sizeof(finder->pid);
	/* Since Linux 6.2 and until 6.14 it is the first member of pcpu_hot. */
	if (hvmi_profile_symbol(profile, "current_task", &finder->current, NULL) &&
	    hvmi_profile_symbol(profile, "pcpu_hot", &finder->current, &tool->err))
		return false;
	return hvmi_profile_member(profile, "struct task_struct", "pid", &finder->pid, &tool->err) == 0 &&
	       hvmi_profile_member(profile, "struct task_struct", "tgid", &finder->tgid,
				   &tool->err) == 0 &&
	       hvmi_profile_member(profile, "struct task_struct", "comm", &finder->comm,
				   &tool->err) == 0 &&
	       hvmi_os_kernel_space(tool->os, &finder->kernel, &tool->err) == 0;
}

bool who_runs(const struct who_finder *finder, const struct hvmi_registers *registers, struct who *ret)
{
	uint64_t gs = 0, task, pid, tgid, comm;
	/* Before SWAPGS it is the other one; kernel addresses are in the upper half. */
	hvmi_registers_get(registers, HVMI_X86_GS_BASE, &gs);
	if (!(gs >> 63))
		hvmi_registers_get(registers, HVMI_X86_KERNEL_GS_BASE, &gs);
	if (!(gs >> 63) ||
	    hvmi_space_read(finder->kernel, gs + finder->current, &task, sizeof(task), NULL) ||
	    hvmi_member_read(&finder->pid, finder->kernel, task, &pid) ||
	    hvmi_member_read(&finder->tgid, finder->kernel, task, &tgid) ||
	    hvmi_member_address(&finder->comm, finder->kernel, task, &comm) ||
	    hvmi_space_read(finder->kernel, comm, ret->name, sizeof(ret->name), NULL))
		return false;
	ret->pid = (int32_t)pid;
	ret->tgid = (int32_t)tgid;
	ret->name[sizeof(ret->name) - 1] = '\0';
	return true;
}

void who_end(struct who_finder *finder)
{
	hvmi_space_destroy(finder->kernel);
}
