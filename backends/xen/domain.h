/* SPDX-License-Identifier: Apache-2.0 */
/* A domain that is open. */
#ifndef XEN_DOMAIN_H
#define XEN_DOMAIN_H

#include <pthread.h>
#include <stdatomic.h>

#include "xen.h"

enum domain_kind { DOMAIN_PV, DOMAIN_HVM, DOMAIN_PVH };

/* What Xen tells of a domain: struct xen_domctl_getdomaininfo, whose layout depends on the release. */
struct domain_info {
	uint32_t id;
	uint32_t flags;		/* XEN_DOMINF_* */
	uint64_t pages;		/* that it has now */
	uint64_t max_pages;
	uint64_t shared_info;	/* frame */
	uint32_t vcpus;
	uint8_t uuid[16];
	enum domain_kind kind;
};

struct pv;
struct journal;
struct events;

struct domain {
	struct xen xen;
	xenforeignmemory_handle *memory;
	xendevicemodel_handle *model;	/* for injections: if opened for writing */
	uint32_t id;
	uint8_t uuid[16];
	enum domain_kind kind;
	uint32_t vcpus;
	bool write, hap;
	char label[160];		/* "domain 5 (web01)" */
	uint64_t max_gfn;
	struct hvmi_range *ranges;
	uint32_t range_count;
	uint32_t monitor_events;	/* 1 << XEN_DOMCTL_MONITOR_EVENT_* */
	atomic_uint_fast64_t own_pages;	/* that we gave it */
	struct pv *pv;			/* PV only */
	struct journal *journal;	/* once something is changed */
	struct events *events;		/* while they are open */
};

/* -ESRCH: there is none of that number. */
int domain_get_info(const struct xen *xen, uint32_t id, struct domain_info *ret);
/* The first domain whose number is `from` or higher: as above. */
int domain_next_info(const struct xen *xen, uint32_t from, struct domain_info *ret);
/* Its name in xenstore, or "". */
void domain_name(const struct xen *xen, struct xs_handle *store, uint32_t id, char *buf,
		 size_t size);
void domain_format_uuid(const uint8_t uuid[16], char buf[40]);
const char *domain_kind_name(enum domain_kind kind);

/*
 * A call for the domain failed with errno: the code, and a sentence. What it really means, if the
 * domain is gone, is -ESRCH.
 */
int domain_fail(const struct domain *d, struct hvmi_error *err, const char *format, ...)
	HVMI_PRINTF(3, 4);
/* Whether it is the one that was opened, and lives. */
bool domain_alive(const struct domain *d);
int domain_gone(const struct domain *d, struct hvmi_error *err);

/* Methods. */
int domain_open(const struct hvmi_target *target, const struct hvmi_backend_host *host, void **ret,
		struct hvmi_error *err);
void domain_close(void *machine);
int domain_describe(void *machine, struct hvmi_machine *ret);
int domain_range(void *machine, uint32_t index, struct hvmi_range *ret);
int domain_pause(void *machine, struct hvmi_error *err);
int domain_resume(void *machine, struct hvmi_error *err);
int domain_inject(void *machine, uint32_t vcpu, const struct hvmi_injection *injection,
		  struct hvmi_error *err);
int domain_capability(void *machine, uint32_t capability, struct hvmi_error *err);

/* ranges.c: where it has memory. */
int ranges_find(struct domain *d, struct hvmi_error *err);

/* memory.c */
int memory_read(void *machine, uint64_t gpa, void *buf, size_t len);
int memory_write(void *machine, uint64_t gpa, const void *buf, size_t len);
int memory_map_pages(void *machine, uint64_t gpa, uint32_t pages, const void **ret, int32_t *status);
void memory_unmap_pages(void *machine, const void *mapping, uint32_t pages);
uint64_t memory_generation(void *machine);

/* vcpu.c */
int vcpu_get_registers(void *machine, uint32_t vcpu, struct hvmi_registers *ret,
		       struct hvmi_error *err);
int vcpu_set_registers(void *machine, uint32_t vcpu, const struct hvmi_registers *values,
		       struct hvmi_error *err);

/* pv.c: registers, and the frames of pages. */
int pv_open(struct domain *d, const struct domain_info *info, struct hvmi_error *err);
void pv_close(struct pv *pv);
/* pages that the P2M has room for */
uint64_t pv_pages(const struct pv *pv);
/* frames[i]: the machine frame of page pfn + i, or INVALID_MFN. */
int pv_frames(const struct domain *d, uint64_t pfn, uint32_t pages, xen_pfn_t *frames);
int pv_get_registers(const struct domain *d, uint32_t vcpu, struct hvmi_registers *ret,
		     struct hvmi_error *err);

#endif
