/* SPDX-License-Identifier: Apache-2.0 */
/* The events of a domain while they are open, its views and pages with them. */
#ifndef XEN_EVENTS_H
#define XEN_EVENTS_H

#include "abi.h"
#include "domain.h"
#include "rights.h"
#include "ring.h"

/* Xen has 10 views with view 0; later releases may have more. */
#define VIEWS_MAX 256u

/* A request that was taken and waits for its answer. */
struct waiting {
	struct waiting *next;
	uint32_t vcpu, kind, insn_length;
	struct abi_request request;
	uint8_t raw[ABI_BYTES_MAX];
};

struct remap {
	uint64_t gfn, target;
};

struct view {
	bool exists;
	uint32_t default_rights;
	struct rights rights;
	struct remap *remaps;
	size_t remap_count;
};

/* A page of ours in the domain. */
struct own_page {
	uint64_t gfn;
	void *host;
	bool used;
};

struct events {
	struct ring ring;
	int epoll, wake;
	bool awake;		/* `wake` is readable */
	struct xs_handle *store;	/* that tells when domains go; or NULL */
	bool gone;
	struct waiting *waiting, *spare;
	/* Requested. */
	uint32_t requested[HVMI_EVENT_KIND_END];	/* how often, by kind */
	bool deny_enabled;	/* writes wait for their answers */
	bool step_monitor;	/* Xen tells of steps */
	bool step_all;
	bool *step_wanted;	/* by vCPU */
	bool *stepping;		/* by vCPU: Xen steps it */
	bool *answered;		/* by vCPU: what it was answered may still have to be done */
	/* view.c */
	bool altp2m;
	struct view *views;	/* VIEWS_MAX; view 0 has rights only */
	struct own_page *pages;
	size_t page_count, page_room;
	uint64_t room;		/* pages that may be made before the limit has to be raised again */
};

int events_open(void *machine, uint32_t flags, int *fd_ret, struct hvmi_error *err);
void events_close(void *machine);
int events_request(void *machine, const struct hvmi_event_request *request, struct hvmi_error *err);
int events_cancel(void *machine, const struct hvmi_event_request *request, struct hvmi_error *err);
int events_next(void *machine, struct hvmi_event *event, struct hvmi_registers *registers,
		struct hvmi_error *err);
int events_answer(void *machine, const struct hvmi_event *event, const struct hvmi_answer *answer,
		  struct hvmi_error *err);

/* monitor.c: have Xen tell of a kind of event, or no longer. */
int monitor_request(struct domain *d, const struct hvmi_event_request *request, bool enable,
		    struct hvmi_error *err);
/* Everything off that a program can have asked for. */
void monitor_all_off(struct domain *d);
/* Steps, also for fast ones, which need Xen to be told. */
int monitor_steps(struct domain *d, bool enable, struct hvmi_error *err);
void monitor_stop_stepping(struct domain *d, uint32_t vcpu);

/* answer.c: let a vCPU that waits go on as if nobody had been there. */
void answer_plainly(struct domain *d, struct waiting *w);
void answer_release(struct domain *d, struct waiting *w);

int view_create(void *machine, uint32_t rights, uint32_t *view_ret, struct hvmi_error *err);
int view_destroy(void *machine, uint32_t view, struct hvmi_error *err);
int view_switch(void *machine, uint32_t view, struct hvmi_error *err);
int view_set_rights(void *machine, uint32_t view, uint64_t gpa, uint64_t pages, uint32_t rights,
		    struct hvmi_error *err);
int view_get_rights(void *machine, uint32_t view, uint64_t gpa, uint32_t *rights_ret,
		    struct hvmi_error *err);
int view_remap(void *machine, uint32_t view, uint64_t gpa, uint64_t target,
	       struct hvmi_error *err);
int page_create(void *machine, uint64_t *gpa_ret, void **host_ret, struct hvmi_error *err);
int page_destroy(void *machine, uint64_t gpa, struct hvmi_error *err);

/* For closing: rights of view 0 as they were; views away; pages away. */
void views_restore_rights(struct domain *d);
void views_close(struct domain *d);
void pages_close(struct domain *d);
/*
 * The rights that a page has in a view, as far as we set them: RWX if we did not. Accesses that they
 * allow are due to somebody before us.
 */
uint32_t views_rights(const struct domain *d, uint32_t view, uint64_t gfn);
/* A page that somebody before us left without rights gets them back. */
void views_heal(struct domain *d, uint32_t view, uint64_t gfn);
int views_check(const struct domain *d, uint32_t view, struct hvmi_error *err);

#endif
