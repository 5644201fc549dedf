/* SPDX-License-Identifier: Apache-2.0 */
#include "xen.h"

#include <cpuid.h>

/* XEN_DOMCTL_MONITOR_EVENT_*: 1 << these is what Xen says of a domain. */
#define EVENT_IO 13	/* since 4.18 */
#define EVENT_ALWAYS 31	/* nothing to ask */

enum vendor { VENDOR_INTEL, VENDOR_AMD, VENDOR_OTHER };

static enum vendor vendor(void)
{
	unsigned a = 0, b = 0, c = 0, d = 0;
	char name[13] = "";
	if (!__get_cpuid(0, &a, &b, &c, &d))
		return VENDOR_OTHER;
	memcpy(name, &b, 4);
	memcpy(name + 4, &d, 4);
	memcpy(name + 8, &c, 4);
	return !strcmp(name, "GenuineIntel") ? VENDOR_INTEL :
	       !strcmp(name, "AuthenticAMD") ? VENDOR_AMD : VENDOR_OTHER;
}

static int no(struct hvmi_error *err, const char *why)
{
	return hvmi_error_set(err, -ENOTSUP, HVMI_NO_ADDRESS, "%s", why);
}

static int old(const struct xen *xen, struct hvmi_error *err, const char *since)
{
	return hvmi_error_set(err, -ENOTSUP, HVMI_NO_ADDRESS,
			      "Xen %u.%u has it not: it is there since %s", xen->libs.major,
			      xen->libs.minor, since);
}

static int need_hvm(const struct xen *xen, struct hvmi_error *err)
{
	return xen->domain.hvm ? 0 :
	       no(err, "a PV guest has memory and registers only: give the domain type=\"pvh\" or "
		       "\"hvm\"");
}

/* Rights of pages and single steps need Intel's EPT and monitor trap flag. */
static int need_intel(const struct xen *xen, struct hvmi_error *err)
{
	int rc = need_hvm(xen, err);
	if (rc)
		return rc;
	if (vendor() != VENDOR_INTEL)
		return no(err, "Xen has it on Intel processors only (VT-x with EPT): on AMD "
			       "breakpoints with emulation are what is left");
	return xen->domain.hap ? 0 : no(err, "the domain runs without hardware-assisted paging: "
					     "set hap=1 in its configuration and restart it");
}

static int need_events(const struct xen *xen, unsigned event, bool function,
		       struct hvmi_error *err)
{
	const struct xen_libs *libs = &xen->libs;
	uint32_t events = 0;
	int rc = need_hvm(xen, err);
	if (rc)
		return rc;
	if (!function)
		return no(err, "the library of this Xen release has no function for it");
	if (libs->xc_monitor_get_capabilities(libs->xch, xen->domain.id, &events) < 0)
		return xen_failed(xen, err, "its capabilities cannot be told");
	if (event != EVENT_ALWAYS && !(events >> event & 1))
		return no(err, event == XEN_DOMCTL_MONITOR_EVENT_SINGLESTEP ?
				       "this processor has no monitor trap flag: Intel's VT-x has" :
				       "this Xen does not offer it on this processor");
	return 0;
}

static int need_altp2m(const struct xen *xen, struct hvmi_error *err)
{
	const struct xen_libs *libs = &xen->libs;
	bool state;
	int rc = need_intel(xen, err);
	if (rc)
		return rc;
	if (!libs->xc_altp2m_get_domain_state || !libs->xc_altp2m_create_view)
		return no(err, "the library of this Xen release has no alternate views");
	if (libs->xc_altp2m_get_domain_state(libs->xch, xen->domain.id, &state) == 0) {
		uint64_t mode = 1;
		if (libs->xc_hvm_param_get(libs->xch, xen->domain.id, HVM_PARAM_ALTP2M, &mode) < 0 ||
		    mode)
			return 0;
	} else if (errno == EOPNOTSUPP || errno == ENOSYS) {
		return no(err, "altp2m is off in Xen: add altp2m=1 to Xen's command line and "
			       "restart the host");
	}
	return hvmi_error_set(err, -ENOTSUP, HVMI_NO_ADDRESS,
			      "altp2m is off for domain %u: add altp2m=\"external\" to its "
			      "configuration and restart it", xen->domain.id);
}

/* An INVEPT-like trick of recent processors: paging-write access, Intel SDM volume 3, 29.3.3.2. */
static int need_page_walk_right(const struct xen *xen, struct hvmi_error *err)
{
	int rc = need_intel(xen, err);
	return rc ? rc : xen_since(&xen->libs, 4, 20) ? 0 : old(xen, err, "4.20");
}

int xen_capability(void *machine, uint32_t capability, struct hvmi_error *err)
{
	const struct xen *xen = machine;
	const struct xen_libs *l = &xen->libs;
	int rc;
	switch (capability) {
	case HVMI_CAN_PAUSE:
		return 0;
	case HVMI_CAN_SET_REGISTERS:
	case HVMI_CAN_INJECT:
	case HVMI_CAN_DENY:
		return need_hvm(xen, err);
	case HVMI_CAN_PAGES:
		return need_hvm(xen, err);
	case HVMI_CAN_BREAKPOINTS:
		return no(err, "Xen places no breakpoints: write an int3 and request breakpoints "
			       "without an address");
	case HVMI_CAN_INT3:
	case HVMI_CAN_EVENT + HVMI_EVENT_BREAKPOINT:
		return need_events(xen, XEN_DOMCTL_MONITOR_EVENT_SOFTWARE_BREAKPOINT,
				   l->xc_monitor_software_breakpoint, err);
	case HVMI_CAN_VIEWS:
	case HVMI_CAN_REMAP:
		return need_altp2m(xen, err);
	case HVMI_CAN_EMULATE:
	case HVMI_CAN_EMULATE_DATA:
		return need_hvm(xen, err);
	case HVMI_CAN_FAST_STEP:
		rc = need_altp2m(xen, err);
		return rc ? rc : xen_since(l, 4, 14) ? 0 : old(xen, err, "4.14");
	case HVMI_CAN_CONFIRM:
		return need_events(xen, XEN_DOMCTL_MONITOR_EVENT_INTERRUPT, true, err);
	case HVMI_CAN_PAGE_WALK_RIGHT:
		return need_page_walk_right(xen, err);
	case HVMI_CAN_EVENT + HVMI_EVENT_ACCESS:
		rc = need_intel(xen, err);
		return rc ? rc : l->xc_set_mem_access ? 0 : no(err, "this Xen has no mem_access");
	case HVMI_CAN_EVENT + HVMI_EVENT_STEP:
		return need_events(xen, XEN_DOMCTL_MONITOR_EVENT_SINGLESTEP,
				   l->xc_monitor_singlestep, err);
	case HVMI_CAN_EVENT + HVMI_EVENT_REGISTER:
		return need_events(xen, XEN_DOMCTL_MONITOR_EVENT_WRITE_CTRLREG,
				   l->xc_monitor_write_ctrlreg, err);
	case HVMI_CAN_EVENT + HVMI_EVENT_MSR:
		return need_events(xen, XEN_DOMCTL_MONITOR_EVENT_MOV_TO_MSR,
				   l->xc_monitor_mov_to_msr, err);
	case HVMI_CAN_EVENT + HVMI_EVENT_CPUID:
		return need_events(xen, XEN_DOMCTL_MONITOR_EVENT_CPUID, l->xc_monitor_cpuid, err);
	case HVMI_CAN_EVENT + HVMI_EVENT_DEBUG:
		return need_events(xen, XEN_DOMCTL_MONITOR_EVENT_DEBUG_EXCEPTION,
				   l->xc_monitor_debug_exceptions, err);
	case HVMI_CAN_EVENT + HVMI_EVENT_DESCRIPTOR:
		return need_events(xen, XEN_DOMCTL_MONITOR_EVENT_DESC_ACCESS,
				   l->xc_monitor_descriptor_access, err);
	case HVMI_CAN_EVENT + HVMI_EVENT_GUEST_REQUEST:
		return need_events(xen, XEN_DOMCTL_MONITOR_EVENT_GUEST_REQUEST,
				   l->xc_monitor_guest_request, err);
	case HVMI_CAN_EVENT + HVMI_EVENT_UNIMPLEMENTED:
		return need_events(xen, XEN_DOMCTL_MONITOR_EVENT_EMUL_UNIMPLEMENTED,
				   l->xc_monitor_emul_unimplemented, err);
	case HVMI_CAN_EVENT + HVMI_EVENT_EXIT:
		/* AMD's says that it can, and never does. */
		rc = need_intel(xen, err);
		return rc ? rc : need_events(xen, XEN_DOMCTL_MONITOR_EVENT_VMEXIT,
					     l->xc_monitor_vmexit, err);
	case HVMI_CAN_EVENT + HVMI_EVENT_IO:
		return l->xc_monitor_io ? need_events(xen, EVENT_IO, true, err) :
					  old(xen, err, "4.18");
	case HVMI_CAN_EVENT + HVMI_EVENT_INTERRUPT:
		return no(err, "such events come in answer to HVMI_ANSWER_CONFIRM");
	case HVMI_CAN_EVENT + HVMI_EVENT_WATCHPOINT:
		return no(err, "Xen has no watchpoints: use the rights of pages");
	default:
		return no(err, "the Xen backend does not know it");
	}
}
