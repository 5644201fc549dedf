/* SPDX-License-Identifier: Apache-2.0 */
/* What the tools share that hook a running machine. */
#ifndef HOOKING_H
#define HOOKING_H

#include "tool.h"

struct hooking {
	struct tool *tool;
	struct hvmi_events *events;
	struct hvmi_hooks *hooks;
	uint64_t limit, count;	/* of hits; 0: no limit */
};

/* Open events and hooks of tool->vm, which was opened with tool->write. Signals wait from now on. */
void hooking_begin(struct hooking *h, struct tool *tool);
/* Add one; false: it was told why not. */
bool hooking_add(struct hooking *h, struct hvmi_hook_request *request);
/* Dispatch until a signal asks to end, or there were enough hits. */
void hooking_run(struct hooking *h);
/* The machine is as it was. */
void hooking_end(struct hooking *h);

/* Who runs there: the process of a vCPU of a Linux guest, while it is in the kernel or enters it. */
struct who {
	int32_t pid, tgid;
	char name[16];
};
struct who_finder {
	uint64_t current;	/* of the per-CPU area, HVMI_NO_ADDRESS: not found */
	struct hvmi_member pid, tgid, comm;
	struct hvmi_space *kernel;
};
bool who_begin(struct who_finder *finder, struct tool *tool);
bool who_runs(const struct who_finder *finder, const struct hvmi_registers *registers, struct who *ret);
void who_end(struct who_finder *finder);

#endif
