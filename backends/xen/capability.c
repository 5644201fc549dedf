/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What can be had from a domain. Xen's bits say what it was built with, not what works; the release,
 * the processor and the domain's configuration decide together.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "domain.h"

#include <xen/domctl.h>
#include <xen/hvm/params.h>

/* Since 4.17 and 4.18: not in every header. */
#define MONITOR_EVENT_VMEXIT 12
#define MONITOR_EVENT_IO 13

static int no(const struct domain *d, struct hvmi_error *err, const char *why)
{
	return hvmi_error_set(err, -ENOTSUP, HVMI_NO_ADDRESS, "%s: %s", d->label, why);
}

static int has_event(const struct domain *d, uint32_t bit, const void *function,
		     struct hvmi_error *err)
{
	if (d->monitor_events >> bit & 1 && function)
		return 0;
	return no(d, err, "this release of Xen does not tell of it: a newer one may");
}

static int has_rights(const struct domain *d, struct hvmi_error *err)
{
	if (d->xen.amd)
		return no(d, err, "Xen has rights of pages on Intel processors only (VT-x with EPT)");
	if (!d->hap)
		return no(d, err, "rights of pages need hardware-assisted paging: remove hap=0 from "
			  "the domain's configuration, or from Xen's command line");
	if (!d->xen.l.xc_set_mem_access || !d->xen.l.xc_get_mem_access)
		return no(d, err, "the libxenctrl of this Xen has no xc_set_mem_access()");
	return 0;
}

static int has_steps(const struct domain *d, struct hvmi_error *err)
{
	if (d->xen.amd)
		return no(d, err, "Xen single-steps on Intel processors only; emulate the instruction "
			  "instead");
	if (d->monitor_events >> XEN_DOMCTL_MONITOR_EVENT_SINGLESTEP & 1 &&
	    d->xen.l.xc_monitor_singlestep)
		return 0;
	return no(d, err, "the processor has no monitor trap flag, with which Xen single-steps: "
		  "emulate the instruction instead");
}

static int has_views(const struct domain *d, struct hvmi_error *err)
{
	const struct xen *xen = &d->xen;
	uint64_t mode = 0;
	bool on;
	int rc = has_rights(d, err);
	if (rc)
		return rc;
	if (!xen->l.xc_altp2m_get_domain_state || !xen->l.xc_altp2m_set_domain_state ||
	    !xen->l.xc_altp2m_create_view || !xen->l.xc_altp2m_destroy_view ||
	    !xen->l.xc_altp2m_switch_to_view || !xen->l.xc_altp2m_set_mem_access ||
	    !xen->l.xc_altp2m_change_gfn)
		return no(d, err, "the libxenctrl of this Xen has no altp2m");
	if (xen->l.xc_altp2m_get_domain_state(xen->xc, d->id, &on) && errno == EOPNOTSUPP)
		return no(d, err, "altp2m is off in Xen: add altp2m=1 to Xen's command line and "
			  "restart the host");
	if (xen->l.xc_hvm_param_get(xen->xc, d->id, HVM_PARAM_ALTP2M, &mode))
		return domain_fail(d, err, "asking for its altp2m mode");
	if (mode == XEN_ALTP2M_disabled)
		return no(d, err, "altp2m is off: add altp2m=\"external\" to its configuration and "
			  "restart it");
	if (mode == XEN_ALTP2M_limited)
		return no(d, err, "its altp2m is for itself (\"limited\"): use altp2m=\"external\" in "
			  "its configuration and restart it");
	return 0;
}

static int has_fast_step(const struct domain *d, struct hvmi_error *err)
{
	int rc = has_views(d, err);
	if (!rc)
		rc = has_steps(d, err);
	if (!rc && !xen_since(&d->xen, 14, 0))
		rc = no(d, err, "fast single-steps need Xen 4.14");
	return rc;
}

static int has_confirm(const struct domain *d, struct hvmi_error *err)
{
	if (d->xen.amd && !xen_since(&d->xen, 17, 3))
		return no(d, err, "on AMD processors injections can be confirmed from Xen 4.17.3 on");
	return has_event(d, XEN_DOMCTL_MONITOR_EVENT_INTERRUPT, d, err);
}

/* Only the log of Xen's start says whether the processor can. */
static int has_page_walk_right(const struct domain *d, struct hvmi_error *err)
{
	const struct xen *xen = &d->xen;
	int rc = has_rights(d, err);
	if (rc)
		return rc;
	if (!xen_since(xen, 20, 0))
		return no(d, err, "the right of page walks needs Xen 4.20");
	unsigned size = 1u << 18;
	uint32_t index = 0;
	char *log = calloc(1, size + 1);
	bool found = false;
	if (log && xen->l.xc_readconsolering &&
	    xen->l.xc_readconsolering(xen->xc, log, &size, 0, 0, &index) == 0)
		found = memmem(log, size, "EPT Paging-Write", 16);
	free(log);
	return found ? 0 : no(d, err, "the right of page walks needs a processor with EPT "
			      "paging-write control (Intel, from 12th generation on), and Xen's log "
			      "of its start does not say that this is one");
}

static int has_vmexit(const struct domain *d, struct hvmi_error *err)
{
	if (d->xen.amd)
		return no(d, err, "Xen tells of VM exits on Intel processors only");
	return has_event(d, MONITOR_EVENT_VMEXIT, (void *)d->xen.l.xc_monitor_vmexit, err);
}

#define EVENT(kind, bit, function)                                                                 \
	case HVMI_CAN_EVENT + HVMI_EVENT_##kind:                                                   \
		return has_event(d, XEN_DOMCTL_MONITOR_EVENT_##bit,                                \
				 (void *)d->xen.l.xc_monitor_##function, err);

static int of_hvm(const struct domain *d, uint32_t capability, struct hvmi_error *err)
{
	switch (capability) {
	case HVMI_CAN_SET_REGISTERS:
	case HVMI_CAN_INJECT:
	case HVMI_CAN_EMULATE:
	case HVMI_CAN_EMULATE_DATA:
	case HVMI_CAN_DENY:
		return 0;
	case HVMI_CAN_VIEWS:
	case HVMI_CAN_REMAP:
	case HVMI_CAN_PAGES:
		return has_views(d, err);
	case HVMI_CAN_FAST_STEP:
		return has_fast_step(d, err);
	case HVMI_CAN_CONFIRM:
	case HVMI_CAN_EVENT + HVMI_EVENT_INTERRUPT:
		return has_confirm(d, err);
	case HVMI_CAN_PAGE_WALK_RIGHT:
		return has_page_walk_right(d, err);
	case HVMI_CAN_EVENT + HVMI_EVENT_ACCESS:
		return has_rights(d, err);
	case HVMI_CAN_EVENT + HVMI_EVENT_STEP:
		return has_steps(d, err);
	case HVMI_CAN_EVENT + HVMI_EVENT_EXIT:
		return has_vmexit(d, err);
	case HVMI_CAN_EVENT + HVMI_EVENT_IO:
		return has_event(d, MONITOR_EVENT_IO, (void *)d->xen.l.xc_monitor_io, err);
	case HVMI_CAN_INT3:
	EVENT(BREAKPOINT, SOFTWARE_BREAKPOINT, software_breakpoint)
	EVENT(REGISTER, WRITE_CTRLREG, write_ctrlreg)
	EVENT(MSR, MOV_TO_MSR, mov_to_msr)
	EVENT(CPUID, CPUID, cpuid)
	EVENT(DEBUG, DEBUG_EXCEPTION, debug_exceptions)
	EVENT(DESCRIPTOR, DESC_ACCESS, descriptor_access)
	EVENT(GUEST_REQUEST, GUEST_REQUEST, guest_request)
	EVENT(UNIMPLEMENTED, EMUL_UNIMPLEMENTED, emul_unimplemented)
	case HVMI_CAN_BREAKPOINTS:
		return no(d, err, "Xen has no breakpoints by address: place int3 (it tells of every "
			  "one), in an alternate view if the guest is not to see it");
	case HVMI_CAN_EVENT + HVMI_EVENT_WATCHPOINT:
		return no(d, err, "Xen has no watchpoints: take rights from the page");
	default:
		return no(d, err, "Xen does not do this");
	}
}

int domain_capability(void *machine, uint32_t capability, struct hvmi_error *err)
{
	const struct domain *d = machine;
	if (capability == HVMI_CAN_PAUSE)
		return 0;
	if (d->kind == DOMAIN_PV)
		return no(d, err, "PV guests have memory and registers only: run it as a PVH guest "
			  "(type=\"pvh\")");
	return of_hvm(d, capability, err);
}
