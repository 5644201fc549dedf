/* SPDX-License-Identifier: Apache-2.0 */
/* What Xen is to tell of. */
#include <errno.h>
#include <string.h>

#include "events.h"

#include <xen/domctl.h>
#include <xen/vm_event.h>

static int already(int rc)
{
	/* It was on, or off. */
	return rc && errno == EEXIST ? 0 : rc;
}

/* From 4.14 on writes are carried out before the event unless Xen is told, for the whole domain. */
static int allow_deny(struct domain *d, struct hvmi_error *err)
{
	if (d->events->deny_enabled)
		return 0;
	d->events->deny_enabled = !xen_since(&d->xen, 14, 0);
	if (d->events->deny_enabled)
		return 0;
	/* It fills in the version that it has itself. */
	struct xen_domctl op = { .cmd = XEN_DOMCTL_monitor_op, .domain = (domid_t)d->id };
	op.u.monitor_op.op = XEN_DOMCTL_MONITOR_OP_CONTROL_REGISTERS;
	if (d->xen.l.xc_domctl(d->xen.xc, &op))
		return domain_fail(d, err, "having writes wait for their answers");
	d->events->deny_enabled = true;
	return 0;
}

static int control_index(uint32_t reg)
{
	switch (reg) {
	case HVMI_X86_CR0:
		return VM_EVENT_X86_CR0;
	case HVMI_X86_CR3:
		return VM_EVENT_X86_CR3;
	case HVMI_X86_CR4:
		return VM_EVENT_X86_CR4;
	default:
		return VM_EVENT_X86_XCR0;
	}
}

static int check(const struct domain *d, const struct hvmi_event_request *r, struct hvmi_error *err)
{
	const char *wrong = NULL;
	bool sync_only = r->kind != HVMI_EVENT_REGISTER && r->kind != HVMI_EVENT_GUEST_REQUEST &&
			 r->kind != HVMI_EVENT_DEBUG && r->kind != HVMI_EVENT_EXIT;
	if (r->flags & HVMI_REQUEST_ASYNC && sync_only)
		wrong = "always has the vCPU wait for an answer to this kind of event";
	else if (r->flags & HVMI_REQUEST_MAY_DENY && r->kind == HVMI_EVENT_REGISTER &&
		 r->reg == HVMI_X86_XCR0)
		wrong = "cannot deny writes of XCR0, but those of CR0, CR3, CR4";
	else if (r->flags & HVMI_REQUEST_MAY_DENY && r->kind == HVMI_EVENT_DESCRIPTOR)
		wrong = "cannot deny accesses to descriptor tables: skip the instruction by setting "
			"RIP";
	else if (r->flags & HVMI_REQUEST_MAY_DENY && r->flags & HVMI_REQUEST_ASYNC)
		wrong = "cannot deny what does not wait";
	if (!wrong)
		return 0;
	return hvmi_error_set(err, -ENOTSUP, HVMI_NO_ADDRESS, "%s: Xen %s", d->label, wrong);
}

void monitor_stop_stepping(struct domain *d, uint32_t vcpu)
{
	d->xen.l.xc_domain_debug_control(d->xen.xc, d->id, XEN_DOMCTL_DEBUG_OP_SINGLE_STEP_OFF,
					 vcpu);
	d->events->stepping[vcpu] = false;
}

int monitor_steps(struct domain *d, bool enable, struct hvmi_error *err)
{
	struct events *e = d->events;
	if (e->step_monitor == enable)
		return 0;
	if (already(d->xen.l.xc_monitor_singlestep(d->xen.xc, d->id, enable)))
		return domain_fail(d, err, "asking for steps");
	e->step_monitor = enable;
	return 0;
}

static int request_steps(struct domain *d, const struct hvmi_event_request *r, bool enable,
			 struct hvmi_error *err)
{
	struct events *e = d->events;
	if (r->vcpu == HVMI_ALL_VCPUS)
		e->step_all = enable;
	else
		e->step_wanted[r->vcpu] = enable;
	if (enable)
		return monitor_steps(d, true, err);
	for (uint32_t vcpu = 0; vcpu < d->vcpus; vcpu++)
		if (e->stepping[vcpu] && !e->step_all && !e->step_wanted[vcpu])
			monitor_stop_stepping(d, vcpu);
	return 0;
}

static int call(const struct domain *d, const struct hvmi_event_request *r, bool enable)
{
	const struct xen_libs *l = &d->xen.l;
	xc_interface *xc = d->xen.xc;
	bool sync = !(r->flags & HVMI_REQUEST_ASYNC);
	bool on_change = r->flags & HVMI_REQUEST_ON_CHANGE;
	switch (r->kind) {
	case HVMI_EVENT_BREAKPOINT:
		return l->xc_monitor_software_breakpoint(xc, d->id, enable);
	case HVMI_EVENT_REGISTER:
		return l->xc_monitor_write_ctrlreg(xc, d->id, (uint16_t)control_index(r->reg), enable,
						   sync, r->ignored, on_change);
	case HVMI_EVENT_MSR:
		return l->xc_monitor_mov_to_msr(xc, d->id, (uint32_t)r->msr, enable, on_change);
	case HVMI_EVENT_CPUID:
		return l->xc_monitor_cpuid(xc, d->id, enable);
	case HVMI_EVENT_DEBUG:
		return l->xc_monitor_debug_exceptions(xc, d->id, enable, sync);
	case HVMI_EVENT_DESCRIPTOR:
		return l->xc_monitor_descriptor_access(xc, d->id, enable);
	case HVMI_EVENT_GUEST_REQUEST:
		return l->xc_monitor_guest_request(xc, d->id, enable, sync,
						   r->flags & HVMI_REQUEST_USER);
	case HVMI_EVENT_UNIMPLEMENTED:
		return l->xc_monitor_emul_unimplemented(xc, d->id, enable);
	case HVMI_EVENT_EXIT:
		return l->xc_monitor_vmexit(xc, d->id, enable, sync);
	case HVMI_EVENT_IO:
		return l->xc_monitor_io(xc, d->id, enable);
	default:
		/* ACCESS comes by rights of pages, INTERRUPT by an answer. */
		return 0;
	}
}

int monitor_request(struct domain *d, const struct hvmi_event_request *r, bool enable,
		    struct hvmi_error *err)
{
	int rc = enable ? check(d, r, err) : 0;
	if (!rc && r->kind == HVMI_EVENT_MSR && r->msr >> 32)
		rc = hvmi_error_set(err, -EINVAL, HVMI_NO_ADDRESS, "there is no MSR 0x%llx",
				    (unsigned long long)r->msr);
	if (!rc && enable && r->flags & HVMI_REQUEST_MAY_DENY)
		rc = allow_deny(d, err);
	if (rc)
		return rc;
	if (r->kind == HVMI_EVENT_STEP)
		return request_steps(d, r, enable, err);
	if (already(call(d, r, enable)) == 0)
		return 0;
	if (errno == EINVAL && r->kind == HVMI_EVENT_MSR)
		return hvmi_error_set(err, -ENOTSUP, HVMI_NO_ADDRESS,
				      "%s: Xen does not tell of writes of MSR 0x%llx, but of those "
				      "below 0x2000, from 0x40000000 and from 0xc0000000 on", d->label,
				      (unsigned long long)r->msr);
	return domain_fail(d, err, "asking for events of kind %s", hvmi_event_name(r->kind));
}

void monitor_all_off(struct domain *d)
{
	static const uint32_t kinds[] = {
		HVMI_EVENT_BREAKPOINT, HVMI_EVENT_CPUID, HVMI_EVENT_DEBUG, HVMI_EVENT_DESCRIPTOR,
		HVMI_EVENT_GUEST_REQUEST, HVMI_EVENT_UNIMPLEMENTED, HVMI_EVENT_EXIT, HVMI_EVENT_IO,
	};
	static const uint32_t registers[] = { HVMI_X86_CR0, HVMI_X86_CR3, HVMI_X86_CR4,
					      HVMI_X86_XCR0 };
	struct hvmi_event_request r = { .size = sizeof(r) };
	/* MSRs go with the ring: each of them would have to be named. */
	for (size_t i = 0; i < sizeof(kinds) / sizeof(*kinds); i++) {
		r.kind = kinds[i];
		if (d->events->requested[r.kind])
			call(d, &r, false);
	}
	for (size_t i = 0; i < 4; i++) {
		r = (struct hvmi_event_request){ .size = sizeof(r), .kind = HVMI_EVENT_REGISTER,
						 .reg = registers[i] };
		if (d->events->requested[r.kind])
			call(d, &r, false);
	}
	memset(d->events->requested, 0, sizeof(d->events->requested));
	monitor_steps(d, false, NULL);
}
