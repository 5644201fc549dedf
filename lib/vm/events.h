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
	uint32_t *index;	/* hash table: a number in requests plus 1, 0: free */
	size_t index_room;
	struct taken *waiting, *spare;
	uint32_t answers;	/* HVMI_ANSWER_* that this machine cannot carry out */
	/* Who takes the events, and has to give back what it has placed; or NULL. */
	void *hooks;
	void (*hooks_close)(void *hooks);
};

/* requests.c: NULL if it was not requested. */
struct hvmi_event_request *request_find(const struct hvmi_events *events,
					const struct hvmi_event_request *r);
/* Room first: what was requested must be remembered. */
int request_make_room(struct hvmi_events *events, struct hvmi_error *err);
void request_add(struct hvmi_events *events, const struct hvmi_event_request *r);
/* @p r is what request_find() gave. */
void request_remove(struct hvmi_events *events, struct hvmi_event_request *r);

#endif
