/* SPDX-License-Identifier: Apache-2.0 */
/* An event, and the hooks that it is about. */
#include <time.h>

#include "hook/hook.h"

#define EFER_LMA (1u << 10)

static uint64_t now_ns(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

/* Two readings for each call: the clock takes longer than all else. */
static inline uint64_t ticks(void)
{
#ifdef __x86_64__
	return __builtin_ia32_rdtsc();
#else
	return now_ns();
#endif
}

void hooks_start_clock(struct hvmi_hooks *hooks)
{
	hooks->begun_ns = now_ns();
	hooks->begun_ticks = ticks();
}

uint64_t hooks_ns(const struct hvmi_hooks *hooks, uint64_t spent)
{
	uint64_t passed = ticks() - hooks->begun_ticks;
	return passed ? (uint64_t)((double)spent / (double)passed *
				   (double)(now_ns() - hooks->begun_ns)) : 0;
}

static struct hvmi_verdict call_back(struct turn *turn, struct hot *hot, struct hvmi_hook_event *told)
{
	struct hvmi_hooks *hooks = turn->hooks;
	struct hvmi_verdict verdict = { .size = sizeof(verdict),
					.registers = &hooks->verdict_registers,
					.data = hooks->verdict_data };
	memset(hooks->verdict_registers.known, 0, sizeof(hooks->verdict_registers.known));
	told->size = sizeof(*told);
	told->hooks = hooks;
	told->hook = hot->hook;
	told->event = turn->event;
	told->registers = turn->event->registers;
	told->kind = hot->kind;
	uint64_t begun = ticks();
	hot->callback(hot->context, told, &verdict);
	hot->ticks += ticks() - begun;
	return verdict;
}

void call_hook(struct turn *turn, struct hot *hot, struct hvmi_hook_event *told)
{
	hot->hits++;
	turn->hooks->hits++;
	if (!turn->first)
		turn->first = hot->hook;
	const struct hvmi_verdict verdict = call_back(turn, hot, told);
	if (turn->hooks->events)
		verdict_merge(turn, hot->hook, &verdict);
}

void tell_hook(struct turn *turn, struct hot *hot, struct hvmi_hook_event *told)
{
	call_back(turn, hot, told);
}

/* All EXECUTE hooks from @p hot on. */
static void call_execute(struct turn *turn, struct hot *hot, uint64_t gva, uint64_t gpa, bool by_gva)
{
	for (; hot && turn->hooks->events; hot = hot->next) {
		if (!hook_awake(turn, hot))
			continue;
		/* What is found by its gpa may be mapped at other addresses too. */
		if ((!by_gva && hot->space && hot->hook->address != gva) ||
		    !hook_reached(turn, hot, by_gva)) {
			hot->hook->filtered++;
			continue;
		}
		struct hvmi_hook_event told = { .gva = gva, .gpa = gpa };
		call_hook(turn, hot, &told);
	}
}

void call_int3(struct turn *turn, struct place *place, uint64_t gva)
{
	call_execute(turn, place->first, gva, place->key, false);
}

/* Nobody's: the caller's own, or one whose hook has gone. */
static int other(struct turn *turn, struct hvmi_error *err)
{
	struct hvmi_hooks *hooks = turn->hooks;
	hooks->others++;
	if (!hooks->options.other)
		return pass_on(turn, err);
	hooks->options.other(hooks->options.context, turn->event);
	return 0;
}

static int finish(struct turn *turn, struct place *place, struct hvmi_error *err)
{
	if (!turn->hooks->events)
		return 0;
	if (!turn->first)
		turn->hooks->filtered++;
	return verdict_carry_out(turn, place, err);
}

static int breakpoint_event(struct turn *turn, struct hvmi_error *err)
{
	const struct hvmi_event *e = turn->event;
	struct hot *first = table_find(&turn->hooks->breakpoints, e->gva);
	if (!first)
		return other(turn, err);
	call_execute(turn, first, e->gva, e->gpa, true);
	return finish(turn, NULL, err);
}

static int watchpoint_event(struct turn *turn, struct hvmi_error *err)
{
	struct place *place = place_watchpoint_at(turn->hooks, turn->event->gva);
	if (!place)
		return other(turn, err);
	for (struct hot *hot = place->first; hot && turn->hooks->events; hot = hot->next) {
		if (!hook_awake(turn, hot))
			continue;
		if (!hook_reached(turn, hot, true)) {
			hot->hook->filtered++;
			continue;
		}
		struct hvmi_hook_event told = {
			.flags = HVMI_HOOK_EVENT_DONE | HVMI_HOOK_EVENT_INEXACT, .gpa = HVMI_NO_ADDRESS,
			.gva = turn->event->gva, .len = turn->event->len,
			.access = turn->event->access,
		};
		call_hook(turn, hot, &told);
	}
	return finish(turn, NULL, err);
}

/* CR3 without what is not address: in long mode PCID. */
static bool is_other_root(const struct hvmi_event *e)
{
	uint64_t efer = 0;
	hvmi_registers_get(e->registers, HVMI_X86_EFER, &efer);
	uint32_t paging = efer & EFER_LMA ? HVMI_PAGING_X86_4LEVEL : HVMI_PAGING_X86_PAE;
	return root_of(e->old_value, paging) != root_of(e->new_value, paging);
}

/* What the hook wants to know of the writes that its place tells. */
static bool is_wanted(const struct hot *hot, const struct hvmi_event *e)
{
	switch (hot->kind) {
	case HVMI_HOOK_REGISTER:
	case HVMI_HOOK_MSR:
		if (hot->flags & HVMI_HOOK_ON_CHANGE && e->old_value == e->new_value)
			return false;
		return e->old_value == e->new_value ||
		       (e->old_value ^ e->new_value) & ~hot->hook->request.ignored;
	case HVMI_HOOK_DESCRIPTOR:
		return !hot->hook->request.reg || hot->hook->request.reg == e->reg;
	case HVMI_HOOK_PROCESS_SWITCH:
		return is_other_root(e);
	default:
		return true;
	}
}

static void call_event(struct turn *turn, struct place *place)
{
	for (struct hot *hot = place->first; hot && turn->hooks->events; hot = hot->next) {
		if (!hook_awake(turn, hot))
			continue;
		if (!is_wanted(hot, turn->event)) {
			hot->hook->filtered++;
			continue;
		}
		struct hvmi_hook_event told = {
			.gva = turn->event->gva, .gpa = turn->event->gpa,
			.access = turn->event->access,
		};
		call_hook(turn, hot, &told);
	}
}

static int kind_event(struct turn *turn, uint64_t which, struct hvmi_error *err)
{
	struct place *place = place_find(turn->hooks, PLACE_EVENT,
					 place_event_key(turn->event->kind, which));
	if (!place)
		return other(turn, err);
	call_event(turn, place);
	return finish(turn, NULL, err);
}

/* Whether there is an int3 of the guest's own: it may be one of ours that has gone meanwhile. */
static bool guest_has_int3(struct turn *turn, uint64_t gpa)
{
	uint8_t bytes[HVMI_INSN_BYTES];
	uint32_t len = MAX(turn->event->insn_length, 1);
	/* With prefixes, it is the last byte. */
	if (len > sizeof(bytes) || gpa == HVMI_NO_ADDRESS ||
	    hvmi_vm_read(turn->hooks->vm, gpa, bytes, len, NULL))
		return true;
	return bytes[len - 1] == INT3;
}

static int int3_event(struct turn *turn, struct hvmi_error *err)
{
	struct hvmi_hooks *hooks = turn->hooks;
	const struct hvmi_event *e = turn->event;
	struct hvmi_space *space;
	uint64_t gpa = e->gpa;
	if (gpa == HVMI_NO_ADDRESS && (cpu_space(turn, &space, NULL) ||
				       hvmi_space_translate(space, e->gva, &gpa)))
		gpa = HVMI_NO_ADDRESS;
	struct place *ours = place_find(hooks, PLACE_INT3, gpa);
	if (ours && ours->placed) {
		turn->step_over = ours->step_over;
		call_int3(turn, ours, e->gva);
		if (hooks->events && hooks->page_ref_count + hooks->table_count &&
		    ours->original != INT3)
			call_accesses(turn, false);
		/* Where the guest has one too, it gets its exception. */
		if (!hooks->events || ours->original != INT3)
			return finish(turn, ours, err);
	} else if (!guest_has_int3(turn, gpa)) {
		const struct hvmi_answer plain = { .size = sizeof(plain) };
		hooks->others++;
		return hvmi_events_answer(hooks->events, e, &plain, err);
	}
	struct place *place = place_find(hooks, PLACE_EVENT, place_event_key(e->kind, 0));
	if (place)
		call_event(turn, place);
	if (!place && !turn->first)
		return other(turn, err);
	return finish(turn, NULL, err);
}

/* Whether what was stopped is allowed by now: the page was put right after the event was told. */
static bool is_allowed_now(const struct turn *turn)
{
	const struct hvmi_event *e = turn->event;
	uint32_t rights;
	return hvmi_view_get_rights(turn->hooks->events, e->view, e->gpa / FRAME_SIZE * FRAME_SIZE,
				    &rights, NULL) == 0 && (rights & e->access) == e->access;
}

static int access_event(struct turn *turn, struct hvmi_error *err)
{
	const struct hvmi_answer again = { .size = sizeof(again) };
	struct hvmi_hooks *hooks = turn->hooks;
	struct place *page = place_find(hooks, PLACE_PAGE,
					turn->event->gpa / FRAME_SIZE * FRAME_SIZE);
	if (!page && !hooks->options.other && is_allowed_now(turn)) {
		hooks->others++;
		return hvmi_events_answer(hooks->events, turn->event, &again, err);
	}
	if (!page)
		return other(turn, err);
	/* Its int3s are away for a step: who has done it puts them back, others come again. */
	if (page_forbids(page, turn->event->access)) {
		step_meet(turn, page);
		return hvmi_events_answer(hooks->events, turn->event, &again, err);
	}
	turn->step_over = page->step_over;
	if (page->watch_count)
		follow_note(turn, page);
	call_accesses(turn, true);
	for (struct ref *ref = page->parts; hooks->events && ref; ref = ref->next)
		if (hook_awake(turn, ref->hook->hot) && ref->hook->called_at != turn->event->id)
			ref->hook->filtered++;
	return finish(turn, page, err);
}

static int deal(struct turn *turn, struct hvmi_error *err)
{
	const struct hvmi_event *e = turn->event;
	int rc;
	switch (e->kind) {
	case HVMI_EVENT_BREAKPOINT:
		return e->insn_length ? int3_event(turn, err) : breakpoint_event(turn, err);
	case HVMI_EVENT_WATCHPOINT:
		return watchpoint_event(turn, err);
	case HVMI_EVENT_ACCESS:
		return access_event(turn, err);
	case HVMI_EVENT_STEP:
		return step_event(turn, err);
	case HVMI_EVENT_UNIMPLEMENTED:
		return step_unimplemented(turn, err);
	case HVMI_EVENT_DEBUG:
		return step_by_trap_flag(turn, &rc, err) ? rc : kind_event(turn, 0, err);
	case HVMI_EVENT_REGISTER:
		return kind_event(turn, e->reg, err);
	case HVMI_EVENT_MSR:
		return kind_event(turn, e->msr, err);
	default:
		return kind_event(turn, 0, err);
	}
}

int dispatch_event(struct hvmi_hooks *hooks, const struct hvmi_event *event, struct hvmi_error *err)
{
	struct turn turn;
	/* Not the instruction and its error, which are large. */
	memset(&turn, 0, offsetof(struct turn, insn));
	memset(&turn.winner, 0, sizeof(turn) - offsetof(struct turn, winner));
	turn.hooks = hooks;
	turn.event = event;
	turn.serial = hooks->serial;
	turn.insn_rc = 1;
	turn.vcpu = event->vcpu < hooks->vm->description.vcpus ? &hooks->vcpus[event->vcpu] : NULL;
	turn.rip_known = hvmi_registers_get(event->registers, HVMI_X86_RIP, &turn.rip) == 0;
	if (!turn.vcpu)
		return hvmi_error_set(err, -EBADMSG, HVMI_NO_ADDRESS,
				      "the machine tells of a vCPU %u that it does not have",
				      event->vcpu);
	memset(hooks->merged_registers.known, 0, sizeof(hooks->merged_registers.known));
	hooks->events_taken++;
	hooks->turn = &turn;
	int rc = deal(&turn, err);
	hooks->turn = NULL;
	return rc;
}
