/* SPDX-License-Identifier: Apache-2.0 */
/* A domain of Xen. */
#ifndef HVMI_BACKEND_XEN_H
#define HVMI_BACKEND_XEN_H

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "libs.h"

#define XEN_PAGE 4096u
#define XEN_CHUNK 512u	/* pages that are mapped in one call */

/* What the hypervisor says of a domain: the fields that no release changed. */
struct xen_domain {
	uint32_t id;
	bool hvm, dying, paused, shut_down, hap;
	uint64_t pages, max_pages;
	uint32_t vcpus;
	uint8_t uuid[16];
};

struct xen_events;

struct xen {
	struct xen_libs libs;
	const struct hvmi_backend_host *host;
	struct xen_domain domain;	/* when it was opened */
	uint64_t max_gfn;		/* the highest that the domain has */
	uint32_t range_count;
	struct hvmi_range *ranges;
	uint64_t generation, pages;	/* for map_generation(); with atomic access */
	struct xen_holder *holder;	/* or NULL: opened for reading */
	struct xen_events *events;	/* or NULL */
};

/* domain.c */
/* The first domain with this id or a higher one. -ENOENT: none. */
int xen_domain_from(const struct xen_libs *libs, uint32_t id, struct xen_domain *ret);
/* By NAME, ID or UUID. */
int xen_domain_find(const struct xen_libs *libs, const char *what, struct xen_domain *ret,
		    struct hvmi_error *err);
/* -ESRCH: it is gone, or about to be. */
int xen_domain_alive(const struct xen *xen);
/* Its name; "" if it has none. */
void xen_domain_name(const struct xen_libs *libs, uint32_t id, char *name, size_t size);
void xen_uuid_text(const uint8_t uuid[16], char text[37]);
/* A sentence about a failed call, or that the domain is gone. Reads errno. */
int xen_failed(const struct xen *xen, struct hvmi_error *err, const char *what);

/*
 * holder.c: what a program holds of a domain, in a file in /run that survives it: how often it paused the
 * domain, and whether it held the ring. Locks tell whether it is alive.
 */
struct xen_holder;
/* Puts right what dead holders left. NULL without an error where there is no place for the file. */
struct xen_holder *xen_holder_open(struct xen *xen);
void xen_holder_close(struct xen_holder *holder);
void xen_holder_pauses(struct xen_holder *holder, int change);
/* -EBUSY: another program that uses this library holds the ring. */
int xen_holder_take_ring(struct xen_holder *holder);
void xen_holder_drop_ring(struct xen_holder *holder);

/* memory.c */
int xen_memory_ranges(struct xen *xen, struct hvmi_error *err);
int xen_read(void *machine, uint64_t gpa, void *buf, size_t len);
int xen_write(void *machine, uint64_t gpa, const void *buf, size_t len);
int xen_map_pages(void *machine, uint64_t gpa, uint32_t pages, const void **ret, int32_t *status);
void xen_unmap_pages(void *machine, const void *mapping, uint32_t pages);
uint64_t xen_map_generation(void *machine);

/* vcpu.c */
int xen_get_registers(void *machine, uint32_t vcpu, struct hvmi_registers *ret,
		      struct hvmi_error *err);
int xen_set_registers(void *machine, uint32_t vcpu, const struct hvmi_registers *values,
		      struct hvmi_error *err);
int xen_inject(void *machine, uint32_t vcpu, const struct hvmi_injection *injection,
	       struct hvmi_error *err);
int xen_pause(void *machine, struct hvmi_error *err);
int xen_resume(void *machine, struct hvmi_error *err);

/* capability.c */
int xen_capability(void *machine, uint32_t capability, struct hvmi_error *err);

/* events.c */
int xen_events_open(void *machine, uint32_t flags, int *fd_ret, struct hvmi_error *err);
void xen_events_close(void *machine);
int xen_event_request(void *machine, const struct hvmi_event_request *request,
		      struct hvmi_error *err);
int xen_event_cancel(void *machine, const struct hvmi_event_request *request,
		     struct hvmi_error *err);
int xen_event_next(void *machine, struct hvmi_event *event, struct hvmi_registers *registers,
		   struct hvmi_error *err);
int xen_event_answer(void *machine, const struct hvmi_event *event,
		     const struct hvmi_answer *answer, struct hvmi_error *err);

/* Let go what a dead program left in the domain. Called without events open. */
int xen_ring_recover(struct xen *xen);

/* view.c */
int xen_view_create(void *machine, uint32_t rights, uint32_t *view_ret, struct hvmi_error *err);
int xen_view_destroy(void *machine, uint32_t view, struct hvmi_error *err);
int xen_view_switch(void *machine, uint32_t view, struct hvmi_error *err);
int xen_view_set_rights(void *machine, uint32_t view, uint64_t gpa, uint64_t pages,
			uint32_t rights, struct hvmi_error *err);
int xen_view_get_rights(void *machine, uint32_t view, uint64_t gpa, uint32_t *rights_ret,
			struct hvmi_error *err);
int xen_view_remap(void *machine, uint32_t view, uint64_t gpa, uint64_t target,
		   struct hvmi_error *err);
int xen_page_create(void *machine, uint64_t *gpa_ret, void **host_ret, struct hvmi_error *err);
int xen_page_destroy(void *machine, uint64_t gpa, struct hvmi_error *err);

/* watch.c */
int xen_watch_open(const char *where, const struct hvmi_backend_host *host, void **ret,
		   int *fd_ret, struct hvmi_error *err);
void xen_watch_close(void *watch);
int xen_watch_next(void *watch, struct hvmi_machine_news *ret, struct hvmi_error *err);

#endif
