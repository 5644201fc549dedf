/* SPDX-License-Identifier: Apache-2.0 */
/* Verdicts of several hooks become one answer. */
#include "hook/hook.h"

void verdict_merge(struct turn *turn, struct hvmi_hook *hook, const struct hvmi_verdict *verdict)
{
	struct hvmi_hooks *hooks = turn->hooks;
	bool data = verdict->action == HVMI_VERDICT_EMULATE_READ ||
		    verdict->action == HVMI_VERDICT_EMULATE_INSN;
	if (verdict->action >= HVMI_VERDICT_END ||
	    verdict->flags & ~(HVMI_VERDICT_VIEW | HVMI_VERDICT_INJECT) ||
	    (data && (!verdict->data_len || verdict->data_len > HVMI_ANSWER_DATA_MAX)) ||
	    (verdict->action == HVMI_VERDICT_EMULATE_INSN && verdict->data_len != 16)) {
		hook->refused++;
		vm_log(hooks->vm, HVMI_LOG_WARNING, "a hook's verdict makes no sense");
		return;
	}
	if (verdict->action > turn->action) {
		turn->action = verdict->action;
		turn->winner = hook;
		turn->data_len = verdict->data_len;
		if (data)
			memcpy(hooks->merged_data, hooks->verdict_data, verdict->data_len);
	}
	for (uint32_t i = 0; i < 4; i++)
		for (uint64_t left = hooks->verdict_registers.known[i] &
				     ~hooks->merged_registers.known[i]; left; left &= left - 1) {
			uint32_t id = 64 * i + (uint32_t)__builtin_ctzll(left);
			hvmi_registers_set(&hooks->merged_registers, id,
					   hooks->verdict_registers.values[id]);
		}
	if (verdict->steps > turn->steps) {
		turn->steps = verdict->steps;
		turn->stepper = hook;
	}
	if (verdict->flags & ~turn->flags & HVMI_VERDICT_VIEW)
		turn->view = verdict->view;
	if (verdict->flags & ~turn->flags & HVMI_VERDICT_INJECT)
		turn->injection = verdict->injection;
	turn->flags |= verdict->flags;
}

/* A verdict that cannot be: it is counted with the hook whose it is, and the guest goes on. */
static void refuse(struct turn *turn, struct hvmi_hook *hook, const char *why)
{
	if (!hook)
		return;
	if (!hook->refused++)
		vm_log(turn->hooks->vm, HVMI_LOG_WARNING,
		       "a verdict of the %s hook at 0x%llx cannot be carried out: %s",
		       hvmi_hook_kind_name(hook->hot->kind), (unsigned long long)hook->address, why);
}

static bool any_registers(const struct hvmi_registers *r)
{
	return r->known[0] | r->known[1] | r->known[2] | r->known[3];
}

static bool moved(const struct turn *turn)
{
	const struct hvmi_registers *r = &turn->hooks->merged_registers;
	return hvmi_registers_known(r, HVMI_X86_RIP) &&
	       (!turn->rip_known || r->values[HVMI_X86_RIP] != turn->rip);
}

/* Whether something before the instruction stands in its way, or tells of an exception. */
static uint32_t go_on_flags(const struct turn *turn)
{
	uint32_t abilities = turn->hooks->abilities;
	switch (turn->event->kind) {
	case HVMI_EVENT_BREAKPOINT:
		return turn->event->insn_length ? HVMI_ANSWER_REINJECT : 0;
	case HVMI_EVENT_DEBUG:
		return HVMI_ANSWER_REINJECT;
	case HVMI_EVENT_ACCESS:
	case HVMI_EVENT_CPUID:
	case HVMI_EVENT_DESCRIPTOR:
	case HVMI_EVENT_IO:
		return abilities & CAN_EMULATE ? HVMI_ANSWER_EMULATE : 0;
	default:
		return 0;
	}
}

int pass_on(struct turn *turn, struct hvmi_error *err)
{
	struct hvmi_answer a = { .size = sizeof(a), .flags = go_on_flags(turn) };
	if (!(turn->event->flags & HVMI_EVENT_WAITS))
		return 0;
	if (turn->event->kind == HVMI_EVENT_STEP)
		a.flags = HVMI_ANSWER_STEP_OFF;
	int rc = hvmi_events_answer(turn->hooks->events, turn->event, &a, err);
	/* Something of the kind cannot be said to this machine: then nothing at all. */
	return rc && a.flags ? hvmi_events_answer(turn->hooks->events, turn->event, NULL, err) : rc;
}

static int go_on(struct turn *turn, struct place *place, struct hvmi_answer *a,
		 uint8_t clean[CLEAN_MAX], struct hvmi_error *err)
{
	if (moved(turn))
		return 0;
	if (place && place->placed)
		return step_over(turn, place, a, clean, err);
	/* A place that went in a callback: the instruction is as it was, and is executed now. */
	if (!place)
		a->flags |= go_on_flags(turn);
	return 0;
}

static bool is_register_write(const struct turn *turn)
{
	uint32_t kind = turn->event->kind;
	return kind == HVMI_EVENT_REGISTER || kind == HVMI_EVENT_MSR ||
	       kind == HVMI_EVENT_DESCRIPTOR;
}

/* Behind the instruction without executing it. */
static int skip(struct turn *turn, struct hvmi_answer *a, struct hvmi_error *err)
{
	const struct hvmi_event *e = turn->event;
	const struct hvmi_insn *insn;
	uint32_t len = e->insn_length;
	if (is_register_write(turn)) {
		a->flags |= HVMI_ANSWER_DENY;
		return 0;
	}
	/* A trap comes behind its instruction: not to deliver it is all. */
	if (moved(turn) || (e->kind == HVMI_EVENT_DEBUG && !len))
		return 0;
	bool ours = e->kind == HVMI_EVENT_ACCESS ||
		    (e->kind == HVMI_EVENT_BREAKPOINT && turn->first &&
		     turn->first->hot->kind != HVMI_HOOK_BREAKPOINT);
	if (ours) {
		int rc = turn_insn(turn, &insn, err);
		if (rc)
			return rc;
		len = insn->len;
	}
	if (!turn->rip_known)
		return hvmi_error_set(err, -ENOTSUP, HVMI_NO_ADDRESS,
				      "where the vCPU stands is not known");
	hvmi_registers_set(&turn->hooks->merged_registers, HVMI_X86_RIP, turn->rip + len);
	return 0;
}

static int act(struct turn *turn, struct place *place, struct hvmi_answer *a,
	       uint8_t clean[CLEAN_MAX], struct hvmi_error *err)
{
	struct hvmi_hooks *hooks = turn->hooks;
	/* CPUID's results are registers: who sets them does its work. */
	if (turn->action == HVMI_VERDICT_CONTINUE && turn->event->kind == HVMI_EVENT_CPUID &&
	    any_registers(&hooks->merged_registers))
		return skip(turn, a, err);
	switch (turn->action) {
	case HVMI_VERDICT_EMULATE_READ:
	case HVMI_VERDICT_EMULATE_INSN:
		a->flags |= HVMI_ANSWER_EMULATE;
		a->flags |= turn->action == HVMI_VERDICT_EMULATE_READ ? HVMI_ANSWER_READ_DATA :
									HVMI_ANSWER_INSN_DATA;
		a->data = hooks->merged_data;
		a->data_len = turn->data_len;
		return 0;
	case HVMI_VERDICT_REINJECT:
		if (turn->event->kind != HVMI_EVENT_BREAKPOINT)
			return go_on(turn, place, a, clean, err);
		a->flags |= HVMI_ANSWER_REINJECT;
		return 0;
	case HVMI_VERDICT_DENY:
		if (turn->event->kind == HVMI_EVENT_ACCESS && turn->writes &&
		    hooks->abilities & CAN_EMULATE) {
			a->flags |= HVMI_ANSWER_EMULATE | HVMI_ANSWER_EMULATE_NO_WRITE;
			return 0;
		}
		return skip(turn, a, err);
	case HVMI_VERDICT_SKIP:
		return skip(turn, a, err);
	default:
		return go_on(turn, place, a, clean, err);
	}
}

/* What is beside the action. */
static int add_rest(struct turn *turn, struct hvmi_answer *a, struct hvmi_error *err)
{
	struct hvmi_hooks *hooks = turn->hooks;
	if (turn->flags & HVMI_VERDICT_VIEW) {
		if (turn->vcpu->over)
			turn->vcpu->back = turn->view;
		else if (a->flags & HVMI_ANSWER_FAST_STEP)
			a->view = turn->view;
		else {
			a->flags |= HVMI_ANSWER_VIEW;
			a->view = turn->view;
		}
	}
	if (turn->flags & HVMI_VERDICT_INJECT) {
		a->flags |= HVMI_ANSWER_INJECT;
		a->injection = &turn->injection;
		turn->injection.size = sizeof(turn->injection);
	}
	if (turn->steps) {
		int rc = hooks->shared[SHARED_STEP] ? 0 : shared_need(hooks, SHARED_STEP, err);
		if (rc)
			return rc;
		a->flags |= HVMI_ANSWER_STEP;
		turn->vcpu->steps = turn->steps;
		turn->vcpu->stepper = turn->stepper;
	}
	/* Data and registers are one field of some machines' answers. */
	if (any_registers(&hooks->merged_registers) &&
	    a->flags & (HVMI_ANSWER_READ_DATA | HVMI_ANSWER_INSN_DATA))
		return hvmi_vm_set_registers(hooks->vm, turn->event->vcpu, &hooks->merged_registers,
					     err);
	if (any_registers(&hooks->merged_registers)) {
		a->flags |= HVMI_ANSWER_REGISTERS;
		a->registers = &hooks->merged_registers;
	}
	return 0;
}

/* The guest has to go on, whatever a hook wanted. */
static int without_verdict(struct turn *turn, struct place *place, const char *why,
			   struct hvmi_error *err)
{
	struct hvmi_hooks *hooks = turn->hooks;
	struct hvmi_answer a = { .size = sizeof(a) };
	uint8_t clean[CLEAN_MAX];
	refuse(turn, turn->winner ? turn->winner : turn->first, why);
	memset(hooks->merged_registers.known, 0, sizeof(hooks->merged_registers.known));
	step_forget(hooks, turn->event->vcpu);
	turn->action = HVMI_VERDICT_CONTINUE;
	turn->flags = turn->steps = 0;
	int rc = go_on(turn, place, &a, clean, err);
	if (!rc && any_registers(&hooks->merged_registers)) {
		a.flags |= HVMI_ANSWER_REGISTERS;
		a.registers = &hooks->merged_registers;
	}
	cloak_prepare(turn, &a, clean);
	follow_prepare(turn, &a);
	return rc ? rc : hvmi_events_answer(hooks->events, turn->event, &a, err);
}

int verdict_carry_out(struct turn *turn, struct place *place, struct hvmi_error *err)
{
	struct hvmi_answer a = { .size = sizeof(a) };
	struct hvmi_error why = { .text = "" };
	uint8_t clean[CLEAN_MAX];
	if (!(turn->event->flags & HVMI_EVENT_WAITS))
		return 0;
	if (turn->winner && !(turn->winner->plan.verdicts >> turn->action & 1))
		return without_verdict(turn, place, "this machine cannot do that to it", err);
	int rc = act(turn, place, &a, clean, &why);
	if (!rc)
		rc = add_rest(turn, &a, &why);
	if (!rc)
		cloak_prepare(turn, &a, clean);
	follow_prepare(turn, &a);
	if (!rc)
		rc = hvmi_events_answer(turn->hooks->events, turn->event, &a, &why);
	return rc ? without_verdict(turn, place, why.text, err) : 0;
}
