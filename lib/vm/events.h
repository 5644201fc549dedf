/* SPDX-License-Identifier: Apache-2.0 */
/* Inside the events of a machine. */
#ifndef HVMI_LIB_EVENTS_H
#define HVMI_LIB_EVENTS_H

#include "vm/vm.h"

/* An event that was taken: it waits for its answer, or was the last that does not wait. */
struct taken {
	struct hvmi_event event;
	struct hvmi_registers registers;
	struct taken *next;
};

/* Breakpoints and watchpoints are requests too; no hypervisor has room for this many. */
#define REQUESTS_MAX (1024u * 1024)

struct hvmi_events {
	struct hvmi_vm *vm;
	int fd;
	uint64_t last_id;
	struct hvmi_event_request *requests;
	size_t request_count, request_room;
	struct taken *waiting, *spare;
	uint32_t answers;	/* HVMI_ANSWER_* that this machine cannot carry out */
	/* Who takes the events, and has to give back what it has placed; or NULL. */
	void *hooks;
	void (*hooks_close)(void *hooks);
};

#endif
