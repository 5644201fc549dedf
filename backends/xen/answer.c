/* SPDX-License-Identifier: Apache-2.0 */
/* How vCPUs go on. */
#include <errno.h>
#include <string.h>

#include "events.h"

#include <xen/vm_event.h>

void answer_release(struct domain *d, struct waiting *w)
{
	struct events *e = d->events;
	struct waiting **at = &e->waiting;
	while (*at != w)
		at = &(*at)->next;
	*at = w->next;
	w->next = e->spare;
	e->spare = w;
}

static void send(struct domain *d, struct waiting *w, const struct abi_response *response)
{
	abi_respond(d->events->ring.version, w->raw, response);
	d->events->answered[w->vcpu] |= w->request.paused;
	ring_put(d, &d->events->ring, w->raw);
	answer_release(d, w);
}

/* The exception that the guest caused, which Xen took from it. */
static int reinject(struct domain *d, const struct waiting *w, struct hvmi_error *err)
{
	bool breakpoint = w->kind == HVMI_EVENT_BREAKPOINT;
	struct hvmi_injection injection = {
		.size = sizeof(injection), .vector = breakpoint ? 3 : 1,
		.type = w->request.trap_type, .error_code = HVMI_NO_ERROR_CODE,
		.insn_length = w->insn_length,
		/* For #DB Xen wants the pending debug exceptions there. */
		.cr2 = breakpoint ? 0 : w->request.pending_debug,
	};
	return domain_inject(d, w->vcpu, &injection, err);
}

void answer_plainly(struct domain *d, struct waiting *w)
{
	struct events *e = d->events;
	struct abi_response response = { .reason = w->request.reason };
	if (w->request.paused) {
		/* An instruction that Xen stopped before is executed again; a trap would be lost. */
		if (w->kind == HVMI_EVENT_DEBUG && w->insn_length == 0)
			reinject(d, w, NULL);
		if (e->stepping[w->vcpu] && !e->step_monitor) {
			response.flags |= VM_EVENT_FLAG_TOGGLE_SINGLESTEP;
			e->stepping[w->vcpu] = false;
		}
	}
	send(d, w, &response);
}

static struct waiting *find(const struct events *e, const struct hvmi_event *event)
{
	for (struct waiting *w = e->waiting; w; w = w->next)
		if (w->vcpu == event->vcpu && w->kind == event->kind)
			return w;
	return NULL;
}

static int impossible(const struct domain *d, int code, const char *why, struct hvmi_error *err)
{
	return hvmi_error_set(err, code, HVMI_NO_ADDRESS, "%s: the answer cannot be given: %s",
			      d->label, why);
}

static int check(const struct domain *d, const struct waiting *w, const struct hvmi_answer *a,
		 struct hvmi_error *err)
{
	const struct events *e = d->events;
	const uint32_t forks = HVMI_ANSWER_RESET_FORK_STATE | HVMI_ANSWER_RESET_FORK_MEMORY;
	uint32_t f = a->flags;
	bool written = w->kind == HVMI_EVENT_REGISTER || w->kind == HVMI_EVENT_MSR;
	if (f & HVMI_ANSWER_STEP && !e->step_all && !e->step_wanted[w->vcpu])
		return impossible(d, -EINVAL, "HVMI_EVENT_STEP was not requested for its vCPU", err);
	if (f & HVMI_ANSWER_DENY && (!written || !e->deny_enabled))
		return impossible(d, -EINVAL, "only writes of registers and MSRs can be denied, if "
				  "they were requested with HVMI_REQUEST_MAY_DENY", err);
	if (f & HVMI_ANSWER_EMULATE && written)
		return impossible(d, -EINVAL, "the instruction has been executed", err);
	if (f & HVMI_ANSWER_READ_DATA &&
	    a->data_len > abi_bytes(e->ring.version) - abi_bytes(3) + 252)
		return impossible(d, -EINVAL, "this Xen takes less data", err);
	if (f & HVMI_ANSWER_RESET_TRACE && e->ring.version < 7)
		return impossible(d, -ENOTSUP, "processor traces need Xen 4.15", err);
	if (f & forks && !xen_since(&d->xen, 17, 0))
		return impossible(d, -ENOTSUP, "forks can be reset from Xen 4.17 on", err);
	if (f & (HVMI_ANSWER_VIEW | HVMI_ANSWER_FAST_STEP))
		return views_check(d, a->view, err);
	return 0;
}

/* What a response cannot set is set directly. */
static int set_others(struct domain *d, uint32_t vcpu, const struct hvmi_event *event,
		      const struct hvmi_registers *values, struct hvmi_error *err)
{
	struct hvmi_registers others = { 0 };
	bool any = false;
	for (uint32_t id = 1; id < HVMI_REGISTERS_MAX; id++) {
		if (!hvmi_registers_known(values, id) || abi_sets(id))
			continue;
		if (hvmi_registers_known(event->registers, id) &&
		    event->registers->values[id] == values->values[id])
			continue;
		hvmi_registers_set(&others, id, values->values[id]);
		any = true;
	}
	return any ? vcpu_set_registers(d, vcpu, &others, err) : 0;
}

/*
 * The registers of a CPUID event hold what CPUID gave: executed anew, it would take that for its leaf.
 * What is left is to go behind it.
 */
static void pass_cpuid(const struct waiting *w, const struct hvmi_event *event,
		       struct hvmi_registers *next, struct abi_response *r)
{
	hvmi_registers_set(next, HVMI_X86_RIP,
			   event->registers->values[HVMI_X86_RIP] + w->insn_length);
	r->flags |= VM_EVENT_FLAG_SET_REGISTERS;
	r->registers = next;
}

/*
 * Xen emulates by the reason that the response names: for an access, if the page's rights still forbid
 * it; for a descriptor access, always; for a breakpoint, with given bytes. It does not compare it
 * with the reason of the request.
 */
static void emulate(const struct hvmi_answer *a, struct abi_response *r)
{
	r->flags |= VM_EVENT_FLAG_EMULATE;
	if (a->flags & HVMI_ANSWER_EMULATE_NO_WRITE)
		r->flags |= VM_EVENT_FLAG_EMULATE_NOWRITE;
	if (a->flags & HVMI_ANSWER_READ_DATA)
		r->flags |= VM_EVENT_FLAG_SET_EMUL_READ_DATA;
	if (a->flags & HVMI_ANSWER_INSN_DATA) {
		r->flags |= VM_EVENT_FLAG_SET_EMUL_INSN_DATA;
		r->reason = VM_EVENT_REASON_SOFTWARE_BREAKPOINT;
	} else if (r->reason != VM_EVENT_REASON_MEM_ACCESS) {
		r->reason = VM_EVENT_REASON_DESCRIPTOR_ACCESS;
	}
	r->data = a->data;
	r->data_len = a->data_len;
}

static void step(struct events *e, uint32_t vcpu, const struct hvmi_answer *a,
		 struct abi_response *r)
{
	bool on = a->flags & HVMI_ANSWER_STEP;
	if (a->flags & (HVMI_ANSWER_STEP | HVMI_ANSWER_STEP_OFF) && e->stepping[vcpu] != on) {
		r->flags |= VM_EVENT_FLAG_TOGGLE_SINGLESTEP;
		e->stepping[vcpu] = on;
	}
	if (a->flags & HVMI_ANSWER_FAST_STEP) {
		r->flags |= VM_EVENT_FLAG_FAST_SINGLESTEP | VM_EVENT_FLAG_ALTERNATE_P2M;
		r->step_view = (uint16_t)a->view;
		r->view = HVMI_VIEW_HOST;
		/* It ends by itself. */
		e->stepping[vcpu] = false;
	} else if (a->flags & HVMI_ANSWER_VIEW) {
		r->flags |= VM_EVENT_FLAG_ALTERNATE_P2M;
		r->view = (uint16_t)a->view;
	}
}

/* What can fail, before anything is given away. */
static int prepare(struct domain *d, struct waiting *w, const struct hvmi_event *event,
		   const struct hvmi_answer *a, struct hvmi_error *err)
{
	int rc = check(d, w, a, err);
	if (!rc && a->flags & HVMI_ANSWER_FAST_STEP)
		rc = monitor_steps(d, true, err);
	if (!rc && a->flags & HVMI_ANSWER_REGISTERS)
		rc = set_others(d, w->vcpu, event, a->registers, err);
	if (!rc && a->flags & HVMI_ANSWER_INJECT)
		rc = domain_inject(d, w->vcpu, a->injection, err);
	if (!rc && a->flags & HVMI_ANSWER_REINJECT)
		rc = reinject(d, w, err);
	return rc;
}

int events_answer(void *machine, const struct hvmi_event *event, const struct hvmi_answer *a,
		  struct hvmi_error *err)
{
	static const struct {
		uint32_t ours, xens;
	} plain[] = {
		{ HVMI_ANSWER_DENY, VM_EVENT_FLAG_DENY },
		{ HVMI_ANSWER_REGISTERS, VM_EVENT_FLAG_SET_REGISTERS },
		{ HVMI_ANSWER_CONFIRM, VM_EVENT_FLAG_GET_NEXT_INTERRUPT },
		{ HVMI_ANSWER_RESET_TRACE, VM_EVENT_FLAG_RESET_VMTRACE },
		{ HVMI_ANSWER_RESET_FORK_STATE, VM_EVENT_FLAG_RESET_FORK_STATE },
		{ HVMI_ANSWER_RESET_FORK_MEMORY, VM_EVENT_FLAG_RESET_FORK_MEMORY },
	};
	struct domain *d = machine;
	struct events *e = d->events;
	struct waiting *w = find(e, event);
	if (!w)
		return hvmi_error_set(err, -ENOENT, HVMI_NO_ADDRESS, "%s: vCPU %u does not wait",
				      d->label, event->vcpu);
	int rc = prepare(d, w, event, a, err);
	if (rc)
		return rc;
	const uint32_t given = HVMI_ANSWER_REGISTERS | HVMI_ANSWER_INSN_DATA | HVMI_ANSWER_READ_DATA;
	struct hvmi_registers next = { 0 };
	struct abi_response response = { .reason = w->request.reason, .registers = a->registers };
	for (size_t i = 0; i < sizeof(plain) / sizeof(*plain); i++)
		if (a->flags & plain[i].ours)
			response.flags |= plain[i].xens;
	step(e, w->vcpu, a, &response);
	if (a->flags & HVMI_ANSWER_EMULATE && w->kind == HVMI_EVENT_CPUID && !(a->flags & given))
		pass_cpuid(w, event, &next, &response);
	else if (a->flags & HVMI_ANSWER_EMULATE)
		emulate(a, &response);
	send(d, w, &response);
	return 0;
}
