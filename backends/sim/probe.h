/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A machine whose vCPUs do something: what a mailbox in its memory tells them to. docs/man/hvmi-sim.5
 * has the mailbox and the instructions that are known.
 */
#ifndef HVMI_BACKEND_SIM_PROBE_H
#define HVMI_BACKEND_SIM_PROBE_H

#include "machine.h"

#define PROBE_QUEUE 64u
#define PROBE_VIEWS_MAX 16u
#define PROBE_RIGHTS (HVMI_RIGHT_READ | HVMI_RIGHT_WRITE | HVMI_RIGHT_EXECUTE)

/* How one page of a view differs. */
struct view_page {
	uint64_t gpa;
	uint64_t target;	/* HVMI_NO_ADDRESS: its own frame */
	uint32_t rights;
};

struct view {
	bool used;
	uint32_t rights;
	size_t page_count;
	struct view_page *pages;
};

/* A page that the guest does not know of. */
struct extra_page {
	uint64_t gpa;
	uint8_t *bytes;
	struct extra_page *next;
};

struct queued {
	struct hvmi_event event;
	struct hvmi_registers registers;
};

/* Turns of a string instruction that one emulation does at most, as Xen's. */
#define PROBE_TURNS 4096u

/* What was answered for the instruction that a vCPU stands before; ends with it. */
struct pass {
	uint64_t rip;
	uint32_t told;		/* kinds whose event was answered, by bit */
	uint32_t flags;		/* HVMI_ANSWER_* of those answers */
	uint32_t turns;		/* of a string instruction that were emulated */
	uint8_t data[HVMI_ANSWER_DATA_MAX];
	uint32_t data_len;
};

struct run {
	uint32_t view;
	uint32_t next_view;	/* behind a fast step */
	bool fast_step;
	bool step;
	uint32_t waits;		/* for so many answers */
	bool inject;
	bool confirm;
	struct hvmi_injection injection;
	struct pass pass;
	uint8_t xmm[16][16];
};

struct sim_probe {
	uint64_t mailbox;
	bool paged;		/* addresses are translated where CR0.PG is set */
	/* The command that is being carried out. */
	bool busy;
	uint32_t vcpu;
	uint64_t command;
	int64_t status;
	bool open;
	int fd;
	size_t request_count;
	struct hvmi_event_request *requests;
	size_t head, queued;
	struct queued queue[PROBE_QUEUE];
	struct view views[PROBE_VIEWS_MAX];
	struct extra_page *extra;
	uint64_t next_extra;	/* gpa */
	struct run *runs;	/* one for each vCPU */
};

/* What an instruction came to. */
enum cpu_result {
	CPU_DONE,	/* it was executed */
	CPU_STOPPED,	/* the vCPU waits, and meets the instruction again */
	CPU_FAULT,	/* memory that is not there */
	CPU_UNKNOWN	/* an instruction that is not */
};

/* Execute one instruction of the vCPU that is busy. */
enum cpu_result cpu_execute(struct sim *sim);

/* Where a linear address of the busy vCPU is, as it is now; false: nowhere. */
bool cpu_translate(struct sim *sim, uint64_t gva, uint64_t *gpa_ret);

/* An exception or interrupt arrives at the guest. */
void cpu_deliver(struct sim *sim, uint32_t vector, uint64_t cr2);

/* Where gpa is in the view that the vCPU is in; NULL: nowhere. */
uint8_t *probe_page(struct sim *sim, uint64_t gpa, uint32_t *rights_ret);

/* What a vCPU may do with a page in its view; false: there is none. */
bool probe_rights(struct sim *sim, uint32_t vcpu, uint64_t gpa, uint32_t *ret);

const struct hvmi_event_request *probe_request(const struct sim_probe *probe, uint32_t kind);

/*
 * Tell an event of the busy vCPU, if it was requested and is not answered yet. 1: the vCPU has to wait
 * for the answer.
 */
int probe_tell(struct sim *sim, const struct hvmi_event_request *request, struct hvmi_event event);

/* Whether the instruction at hand goes on as HVMI_ANSWER_* says. */
bool probe_answered(const struct sim_probe *probe, uint32_t flags);

/* What is known of a vCPU. */
void probe_snapshot(const struct sim_vcpu *vcpu, struct hvmi_registers *ret);

/* Begin, once the script has been run. */
int probe_start(struct sim *sim);

/* Do what there is to do, until it waits or is done. */
void probe_run(struct sim *sim);

/* Give everything back, and free what the probe has. */
void probe_free(struct sim *sim);

/* Destroy all views and pages. */
void views_free(struct sim_probe *probe);

/* The backend's methods. */
int probe_capability(void *machine, uint32_t capability, struct hvmi_error *err);
int probe_inject(void *machine, uint32_t vcpu, const struct hvmi_injection *injection,
		 struct hvmi_error *err);
int probe_events_open(void *machine, uint32_t flags, int *fd_ret, struct hvmi_error *err);
void probe_events_close(void *machine);
int probe_event_request(void *machine, const struct hvmi_event_request *request,
			struct hvmi_error *err);
int probe_event_cancel(void *machine, const struct hvmi_event_request *request,
		       struct hvmi_error *err);
int probe_event_next(void *machine, struct hvmi_event *event, struct hvmi_registers *registers,
		     struct hvmi_error *err);
int probe_event_answer(void *machine, const struct hvmi_event *event,
		       const struct hvmi_answer *answer, struct hvmi_error *err);
int probe_view_create(void *machine, uint32_t rights, uint32_t *view_ret, struct hvmi_error *err);
int probe_view_destroy(void *machine, uint32_t view, struct hvmi_error *err);
int probe_view_switch(void *machine, uint32_t view, struct hvmi_error *err);
int probe_view_set_rights(void *machine, uint32_t view, uint64_t gpa, uint64_t pages,
			  uint32_t rights, struct hvmi_error *err);
int probe_view_get_rights(void *machine, uint32_t view, uint64_t gpa, uint32_t *rights_ret,
			  struct hvmi_error *err);
int probe_view_remap(void *machine, uint32_t view, uint64_t gpa, uint64_t target,
		     struct hvmi_error *err);
int probe_page_create(void *machine, uint64_t *gpa_ret, void **host_ret, struct hvmi_error *err);
int probe_page_destroy(void *machine, uint64_t gpa, struct hvmi_error *err);

#endif
