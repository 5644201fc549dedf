/* SPDX-License-Identifier: Apache-2.0 */
/* Over what is at a place, and single-steps that verdicts ask for. */
#include "hook/hook.h"

#define RFLAGS_TF (1u << 8)
#define PENDING_STEP (1u << 14)
#define RWX (HVMI_RIGHT_READ | HVMI_RIGHT_WRITE | HVMI_RIGHT_EXECUTE)

bool step_has_lifted(const struct vcpu_turn *v, const struct place *place)
{
	for (uint32_t i = 0; i < v->lifted_count; i++)
		if (v->lifted[i] == place)
			return true;
	return false;
}

int step_lift(struct turn *turn, struct place *place, uint32_t rights, struct hvmi_error *err)
{
	struct vcpu_turn *v = turn->vcpu;
	bool has = step_has_lifted(v, place);
	if (!has && v->lifted_count == LIFTED_MAX)
		return hvmi_error_set(err, -EOVERFLOW, place->key,
				      "the instruction touches more than %u hooked pages", LIFTED_MAX);
	int rc = place_lift(turn->hooks, place, rights, err);
	if (rc)
		return rc;
	if (has)
		place->lifters--;
	else
		v->lifted[v->lifted_count++] = place;
	v->lifted_at = turn->rip;
	return 0;
}

void step_put_back(struct hvmi_hooks *hooks, struct vcpu_turn *v)
{
	struct hvmi_error err;
	while (v->lifted_count)
		if (place_return(hooks, v->lifted[--v->lifted_count], &err))
			vm_log(hooks->vm, HVMI_LOG_ERROR, "%s", err.text);
	if (v->wrote)
		pages_resync(hooks);
	v->wrote = false;
}

void step_meet(struct turn *turn, const struct place *page)
{
	struct hvmi_hooks *hooks = turn->hooks;
	uint64_t rip;
	/* Who comes here has done his own. */
	step_put_back(hooks, turn->vcpu);
	/* Others are behind theirs if they are elsewhere: one may have halted before that was told. */
	for (uint32_t i = 0; i < hooks->vm->description.vcpus; i++) {
		struct vcpu_turn *v = &hooks->vcpus[i];
		if (step_has_lifted(v, page) &&
		    hvmi_vm_register(hooks->vm, i, HVMI_X86_RIP, &rip) == 0 && rip != v->lifted_at)
			step_put_back(hooks, v);
	}
}

void step_forget(struct hvmi_hooks *hooks, uint32_t vcpu)
{
	struct vcpu_turn *v = &hooks->vcpus[vcpu];
	step_put_back(hooks, v);
	*v = (struct vcpu_turn){ 0 };
}

/* What a page allows while the instruction is executed as it is. */
static uint32_t bare_rights(struct turn *turn, const struct place *place)
{
	/* Whoever else executes a page whose int3s are away would get past them. */
	return place->type != PLACE_PAGE || !place->marks || place->copy || turn_lies_in(turn, place) ?
		       RWX : HVMI_RIGHT_READ | HVMI_RIGHT_WRITE;
}

static int lift_bare(struct turn *turn, struct place *place, struct hvmi_error *err)
{
	place = place->cloaked ? place->page : place;
	return step_lift(turn, place, bare_rights(turn, place), err);
}

/* One step, of the instruction as it is in memory. */
static int step_bare(struct turn *turn, struct hvmi_answer *a, bool trap_flag, struct hvmi_error *err)
{
	struct hvmi_registers *set = &turn->hooks->merged_registers;
	uint64_t flags = 0;
	if (!trap_flag) {
		a->flags |= HVMI_ANSWER_STEP;
		turn->vcpu->over = true;
		turn->vcpu->back = turn->event->view;
		return 0;
	}
	if (hvmi_registers_get(turn->event->registers, HVMI_X86_RFLAGS, &flags))
		return hvmi_error_set(err, -ENOTSUP, turn->rip, "the vCPU's flags are not known");
	hvmi_registers_get(set, HVMI_X86_RFLAGS, &flags);
	turn->vcpu->trap_flag = !(flags & RFLAGS_TF);
	hvmi_registers_set(set, HVMI_X86_RFLAGS, flags | RFLAGS_TF);
	return 0;
}

struct place *place_at(struct turn *turn)
{
	struct hvmi_space *space;
	uint64_t gpa;
	if (!turn->hooks->tables[PLACE_INT3].count || !turn->rip_known || cpu_space(turn, &space, NULL) ||
	    hvmi_space_translate(space, turn->rip, &gpa))
		return NULL;
	return place_find(turn->hooks, PLACE_INT3, gpa);
}

/* 16 bytes of code without our int3s. */
static int clean_bytes(struct turn *turn, uint8_t clean[CLEAN_MAX], struct hvmi_error *err)
{
	struct hvmi_space *space;
	size_t done = 0;
	int rc = cpu_space(turn, &space, err);
	if (rc)
		return rc;
	memset(clean, 0, 16);
	rc = clean_read(turn->hooks, space, turn->rip, clean, 16, &done);
	return rc && !done ? hvmi_error_set(err, rc, turn->rip, "the code at 0x%llx cannot be read",
					    (unsigned long long)turn->rip) : 0;
}

int step_over(struct turn *turn, struct place *place, struct hvmi_answer *a,
	      uint8_t clean[CLEAN_MAX], struct hvmi_error *err)
{
	struct hvmi_hooks *hooks = turn->hooks;
	uint8_t how = place->step_over;
	/* Where something is to be done behind it, or more steps follow, it has to be told. */
	if (how == HVMI_STEP_OVER_FAST &&
	    (turn->wrote || turn->tables || turn->steps || turn->vcpu->steps))
		how = HVMI_STEP_OVER_VIEW;
	turn->vcpu->wrote = turn->wrote;
	switch (how) {
	case HVMI_STEP_OVER_FAST:
		a->flags |= HVMI_ANSWER_FAST_STEP;
		a->view = turn->event->view;
		return 0;
	case HVMI_STEP_OVER_VIEW:
		a->flags |= HVMI_ANSWER_STEP | HVMI_ANSWER_VIEW;
		a->view = HVMI_VIEW_HOST;
		turn->vcpu->over = true;
		turn->vcpu->back = turn->event->view;
		return 0;
	case HVMI_STEP_OVER_EMULATE:
		a->flags |= HVMI_ANSWER_EMULATE;
		/* What is emulated is what is in memory, which may be patched. */
		turn->vcpu->emulated = place->type == PLACE_PAGE ? place : NULL;
		if (place->type == PLACE_PAGE)
			place = hooks->abilities & CAN_EMULATE_DATA ? place_at(turn) : NULL;
		if (!place || !place->placed || place->hidden)
			return 0;
		a->flags |= HVMI_ANSWER_INSN_DATA;
		a->data = clean;
		a->data_len = 16;
		return clean_bytes(turn, clean, err);
	default:
		break;
	}
	int rc = lift_bare(turn, place, err);
	return rc ? rc : step_bare(turn, a, how == HVMI_STEP_OVER_TRAP_FLAG, err);
}

/* The hook that asked for steps is told of one; it may ask for more. */
static void call_stepper(struct turn *turn)
{
	struct vcpu_turn *v = turn->vcpu;
	struct hvmi_hook *hook = v->stepper;
	if (!v->steps || !hook || hook->hot->state == HOOK_DEAD) {
		v->steps = 0;
		return;
	}
	v->steps--;
	struct hvmi_hook_event told = { .flags = HVMI_HOOK_EVENT_STEP, .gva = turn->rip,
					.gpa = HVMI_NO_ADDRESS, .steps_left = v->steps };
	call_hook(turn, hook->hot, &told);
	if (!turn->hooks->events)
		return;
	if (turn->steps)
		v->steps = turn->steps;
	turn->steps = 0;
}

int step_event(struct turn *turn, struct hvmi_error *err)
{
	struct hvmi_hooks *hooks = turn->hooks;
	struct vcpu_turn *v = turn->vcpu;
	struct hvmi_answer a = { .size = sizeof(a) };
	if (!v->over && !v->steps) {
		hooks->others++;
		if (!hooks->options.other)
			return pass_on(turn, err);
		hooks->options.other(hooks->options.context, turn->event);
		return 0;
	}
	step_put_back(hooks, v);
	if (v->tables) {
		follow_look(hooks, v);
		follow_tell(turn);
		if (!hooks->events)
			return 0;
	}
	if (v->over && turn->event->view != v->back) {
		a.flags |= HVMI_ANSWER_VIEW;
		a.view = v->back;
	}
	v->over = false;
	call_stepper(turn);
	if (!hooks->events)
		return 0;
	a.flags |= v->steps ? HVMI_ANSWER_STEP : HVMI_ANSWER_STEP_OFF;
	if (turn->flags & HVMI_VERDICT_VIEW) {
		a.flags |= HVMI_ANSWER_VIEW;
		a.view = turn->view;
	}
	if (turn->flags & HVMI_VERDICT_INJECT) {
		a.flags |= HVMI_ANSWER_INJECT;
		turn->injection.size = sizeof(turn->injection);
		a.injection = &turn->injection;
	}
	const struct hvmi_registers *r = &hooks->merged_registers;
	if (r->known[0] | r->known[1] | r->known[2] | r->known[3]) {
		a.flags |= HVMI_ANSWER_REGISTERS;
		a.registers = r;
	}
	if (!(turn->event->flags & HVMI_EVENT_WAITS))
		return 0;
	int rc = hvmi_events_answer(hooks->events, turn->event, &a, err);
	if (rc && turn->first) {
		turn->first->refused++;
		a.flags &= HVMI_ANSWER_STEP | HVMI_ANSWER_STEP_OFF | HVMI_ANSWER_VIEW;
		rc = hvmi_events_answer(hooks->events, turn->event, &a, err);
	}
	return rc;
}

bool step_by_trap_flag(struct turn *turn, int *rc_ret, struct hvmi_error *err)
{
	struct hvmi_hooks *hooks = turn->hooks;
	struct vcpu_turn *v = turn->vcpu;
	struct hvmi_answer a = { .size = sizeof(a) };
	uint64_t flags = 0;
	if (!v->lifted_count || !(turn->event->pending_debug & PENDING_STEP))
		return false;
	step_put_back(hooks, v);
	/* The guest steps itself: the exception is its own too. */
	if (!v->trap_flag)
		return false;
	v->trap_flag = false;
	if (hvmi_registers_get(turn->event->registers, HVMI_X86_RFLAGS, &flags) == 0 &&
	    flags & RFLAGS_TF) {
		hvmi_registers_set(&hooks->merged_registers, HVMI_X86_RFLAGS,
				   flags & ~(uint64_t)RFLAGS_TF);
		a.flags |= HVMI_ANSWER_REGISTERS;
		a.registers = &hooks->merged_registers;
	}
	*rc_ret = hvmi_events_answer(hooks->events, turn->event, &a, err);
	return true;
}

int step_unimplemented(struct turn *turn, struct hvmi_error *err)
{
	struct hvmi_hooks *hooks = turn->hooks;
	struct hvmi_answer a = { .size = sizeof(a) };
	struct vcpu_turn *v = turn->vcpu;
	struct place *here[] = { place_at(turn), v->emulated };
	bool step = hooks->abilities & CAN_STEP, any = false;
	enum shared what = step ? SHARED_STEP : SHARED_DEBUG;
	int rc = step || hooks->abilities & CAN_DEBUG ? 0 : -ENOTSUP;
	/* What is away for its emulation has to be away for the step too. */
	for (uint32_t i = 0, held = v->lifted_count; !rc && i < 2 + held; i++) {
		struct place *place = i < 2 ? here[i] : v->lifted[i - 2];
		if (place && place->placed) {
			rc = lift_bare(turn, place, err);
			any = true;
		}
	}
	if (!rc)
		rc = !any ? -ENOTSUP : hooks->shared[what] ? 0 : shared_need(hooks, what, err);
	if (!rc)
		rc = step_bare(turn, &a, !step, err);
	if (!rc && !step) {
		a.flags |= HVMI_ANSWER_REGISTERS;
		a.registers = &hooks->merged_registers;
	}
	/* The guest gets #UD from the hypervisor then, or goes on as it can. */
	if (rc) {
		step_put_back(hooks, v);
		vm_log(hooks->vm, HVMI_LOG_WARNING,
		       "the instruction at 0x%llx cannot be emulated, nor stepped over",
		       (unsigned long long)turn->rip);
	}
	return hvmi_events_answer(hooks->events, turn->event, rc ? NULL : &a, err);
}
