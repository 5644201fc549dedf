/* SPDX-License-Identifier: Apache-2.0 */
/* Over what is at a place, and single-steps that verdicts ask for. */
#include "hook/hook.h"

#define RFLAGS_TF (1u << 8)
#define PENDING_STEP (1u << 14)
#define RWX (HVMI_RIGHT_READ | HVMI_RIGHT_WRITE | HVMI_RIGHT_EXECUTE)

/* Take a place away for a step of one vCPU, and put it back. */
static int lift(struct hvmi_hooks *hooks, struct place *place, bool away, struct hvmi_error *err)
{
	uint8_t byte = away ? place->original : INT3;
	if (place->type == PLACE_PAGE)
		return hvmi_view_set_rights(hooks->events, hooks->view, place->key, 1,
					    away ? RWX : place->rights, err);
	if (place->hidden) {
		place->page->copy[place->key % FRAME_SIZE] = byte;
		return 0;
	}
	/* The step may have been over code that changes itself: what is there now is the guest's. */
	uint8_t now;
	if (!away && hvmi_vm_read(hooks->vm, place->key, &now, 1, NULL) == 0)
		place->original = now;
	int rc = hvmi_vm_write(hooks->vm, place->key, &byte, 1, NULL);
	return rc ? hvmi_error_set(err, rc, place->key, "the code at 0x%llx cannot be written",
				   (unsigned long long)place->key) : 0;
}

static void put_back(struct hvmi_hooks *hooks, struct vcpu_turn *v)
{
	struct hvmi_error err;
	struct place *place = v->lifted;
	v->lifted = NULL;
	if (place && place->placed && lift(hooks, place, false, &err))
		vm_log(hooks->vm, HVMI_LOG_ERROR, "%s", err.text);
	if (v->wrote)
		pages_resync(hooks);
	v->wrote = false;
}

void step_forget(struct hvmi_hooks *hooks, uint32_t vcpu)
{
	struct vcpu_turn *v = &hooks->vcpus[vcpu];
	put_back(hooks, v);
	*v = (struct vcpu_turn){ 0 };
}

static int step_away(struct turn *turn, struct place *place, struct hvmi_answer *a, bool trap_flag,
		     struct hvmi_error *err)
{
	struct hvmi_hooks *hooks = turn->hooks;
	uint64_t flags = 0;
	if (trap_flag && hvmi_registers_get(turn->event->registers, HVMI_X86_RFLAGS, &flags))
		return hvmi_error_set(err, -ENOTSUP, place->key, "the vCPU's flags are not known");
	int rc = lift(hooks, place, true, err);
	if (rc)
		return rc;
	turn->vcpu->lifted = place;
	if (!trap_flag) {
		a->flags |= HVMI_ANSWER_STEP;
		turn->vcpu->over = true;
		turn->vcpu->back = turn->event->view;
		return 0;
	}
	hvmi_registers_get(&hooks->merged_registers, HVMI_X86_RFLAGS, &flags);
	turn->vcpu->trap_flag = !(flags & RFLAGS_TF);
	hvmi_registers_set(&hooks->merged_registers, HVMI_X86_RFLAGS, flags | RFLAGS_TF);
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
static int clean_bytes(struct turn *turn, uint8_t clean[16], struct hvmi_error *err)
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

int step_over(struct turn *turn, struct place *place, struct hvmi_answer *a, uint8_t clean[16],
	      struct hvmi_error *err)
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
		return step_away(turn, place, a, how == HVMI_STEP_OVER_TRAP_FLAG, err);
	}
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
	put_back(hooks, v);
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
	if (!v->lifted || !(turn->event->pending_debug & PENDING_STEP))
		return false;
	put_back(hooks, v);
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
	struct place *place = place_at(turn);
	bool step = hooks->abilities & CAN_STEP;
	if (!place || !place->placed)
		place = turn->vcpu->emulated;
	enum shared what = step ? SHARED_STEP : SHARED_DEBUG;
	int rc = -ENOTSUP;
	if (place && place->placed && (step || hooks->abilities & CAN_DEBUG)) {
		rc = hooks->shared[what] ? 0 : shared_need(hooks, what, err);
		if (!rc)
			rc = step_away(turn, place, &a, !step, err);
		if (!rc && !step) {
			a.flags |= HVMI_ANSWER_REGISTERS;
			a.registers = &hooks->merged_registers;
		}
	}
	/* The guest gets #UD from the hypervisor then, or goes on as it can. */
	if (rc)
		vm_log(hooks->vm, HVMI_LOG_WARNING,
		       "the instruction at 0x%llx cannot be emulated, nor stepped over",
		       (unsigned long long)turn->rip);
	return hvmi_events_answer(hooks->events, turn->event, rc ? NULL : &a, err);
}
