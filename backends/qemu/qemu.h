/* SPDX-License-Identifier: Apache-2.0 */
/* A machine of QEMU's. */
#ifndef HVMI_BACKEND_QEMU_H
#define HVMI_BACKEND_QEMU_H

#include <pthread.h>

#include "monitor.h"
#include "ram.h"
#include "stub.h"

#define QEMU_VCPUS_MAX 4096u

/* A breakpoint or watchpoint that was asked for. */
struct qemu_point {
	struct hvmi_event_request request;
	char type;		/* as in stub_point() */
};

/* Something that happened and was not taken yet. */
struct qemu_pending {
	struct qemu_pending *next;
	struct hvmi_event event;
	struct hvmi_registers registers;
};

struct qemu_vcpu {
	bool standing;		/* at a breakpoint that was told, whose instruction is to be executed */
	uint64_t standing_at;
	bool stepping;
	bool rip_known;
	uint64_t rip;		/* where it was when the machine was stopped */
	uint32_t empty_steps;	/* that executed nothing, one after the other */
};

/* Events, while they are open. */
struct qemu_events {
	int fd;			/* the one that is polled: of what follows */
	int wake;		/* an eventfd: something is pending */
	int timer;		/* a vCPU that is stepped has had its time, or one has to look */
	uint32_t turn;
	struct qemu_point *points;
	size_t point_count;
	struct hvmi_event_request *steps;
	size_t step_count;
	struct qemu_pending *first, **last;
	uint32_t waiting;	/* told or pending, and not yet answered */
};

struct qemu {
	const struct hvmi_backend_host *host;
	pthread_mutex_t lock;	/* for all that follows but RAM that is mapped or copied */
	struct monitor monitor;
	char *name;		/* for messages */
	struct ram ram;
	uint32_t arch;
	bool tcg;		/* it translates code, and does not see it change */
	bool write_plain;	/* even so, write without telling it */
	char version[24];
	int thread;		/* of its first vCPU, on QEMU's host */
	char identity[96];	/* as the method gives it */
	uint32_t vcpu_count;
	struct qemu_vcpu *vcpus;
	uint32_t *cpu_index;	/* QEMU's, by ours */
	struct stub *stub;	/* or NULL: it was not needed yet */
	struct qemu_events *events;	/* or NULL */

	/* Who wants it to stand still; events.waiting is one more. */
	bool paused;		/* hvmi_vm_pause() */
	bool others_paused;	/* it did not run when we came, or was stopped since */
};

/*
 * Attach to the machine behind @p monitor, which is taken over with @p name, also on failure. Names
 * are allocated.
 */
int qemu_attach(struct monitor *monitor, char *name, const struct hvmi_target *target,
		const struct hvmi_backend_host *host, void **ret, struct hvmi_error *err);

/* Set registers of a machine that is held, by its gdbstub. */
int qemu_set_held(struct qemu *q, uint32_t vcpu, const struct hvmi_registers *values,
		  struct hvmi_error *err);

/* The methods, but for scheme, open() and watch_*(). */
void qemu_close(void *machine);
int qemu_describe(void *machine, struct hvmi_machine *ret);
int qemu_range(void *machine, uint32_t index, struct hvmi_range *ret);
int qemu_read(void *machine, uint64_t gpa, void *buf, size_t len);
int qemu_write(void *machine, uint64_t gpa, const void *buf, size_t len);
int qemu_map(void *machine, uint32_t index, const void **ret);
int qemu_next_data(void *machine, uint32_t index, uint64_t gpa, struct hvmi_range *ret);
int qemu_pause(void *machine, struct hvmi_error *err);
int qemu_resume(void *machine, struct hvmi_error *err);
int qemu_identity(void *machine, char *buf, size_t size);
int qemu_adopt_pause(void *machine, struct hvmi_error *err);
int qemu_get_registers(void *machine, uint32_t vcpu, struct hvmi_registers *ret,
		       struct hvmi_error *err);
int qemu_set_registers(void *machine, uint32_t vcpu, const struct hvmi_registers *values,
		       struct hvmi_error *err);
int qemu_capability(void *machine, uint32_t capability, struct hvmi_error *err);
int qemu_events_open(void *machine, uint32_t flags, int *fd_ret, struct hvmi_error *err);
void qemu_events_close(void *machine);
int qemu_event_request(void *machine, const struct hvmi_event_request *request,
		       struct hvmi_error *err);
int qemu_event_cancel(void *machine, const struct hvmi_event_request *request,
		      struct hvmi_error *err);
int qemu_event_next(void *machine, struct hvmi_event *event, struct hvmi_registers *registers,
		    struct hvmi_error *err);
int qemu_event_answer(void *machine, const struct hvmi_event *event,
		      const struct hvmi_answer *answer, struct hvmi_error *err);

#define QEMU_METHODS                                                                               \
	.size = sizeof(struct hvmi_backend), .close = qemu_close, .describe = qemu_describe,       \
	.range = qemu_range, .read = qemu_read, .write = qemu_write, .map = qemu_map,              \
	.next_data = qemu_next_data, .pause = qemu_pause, .resume = qemu_resume,                   \
	.get_registers = qemu_get_registers, .set_registers = qemu_set_registers,                  \
	.capability = qemu_capability, .events_open = qemu_events_open,                            \
	.events_close = qemu_events_close, .event_request = qemu_event_request,                    \
	.event_cancel = qemu_event_cancel, .event_next = qemu_event_next,                          \
	.event_answer = qemu_event_answer, .identity = qemu_identity,                              \
	.adopt_pause = qemu_adopt_pause

/* What each module exports. */
HVMI_API const struct hvmi_backend *hvmi_backend_entry(uint32_t version_major,
						       uint32_t version_minor);

#endif
