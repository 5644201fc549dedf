/* SPDX-License-Identifier: Apache-2.0 */
/* Which bytes an instruction is going to touch, and whose they are. */
#include "hook/hook.h"

#define RFLAGS_DF (1u << 10)

/* A part of an access that lies in one page. */
struct piece {
	const struct hvmi_insn_access *access;
	uint64_t gva, gpa, len;
	uint64_t before;	/* gpa behind the piece before it, HVMI_NO_ADDRESS for the first */
	uint64_t first_gpa;	/* of the access */
	uint32_t flags;		/* HVMI_HOOK_EVENT_INEXACT */
};

static bool overlap(uint64_t first, uint64_t last, uint64_t from, uint64_t len)
{
	return from <= last && from + (len - 1) >= first;
}

static bool is_hit(struct turn *turn, const struct hvmi_hook *hook, const struct piece *p)
{
	if (!(hook->hot->access & p->access->kind))
		return false;
	/* One access is one call, though it lies in several pages of the hook. */
	if (!hook->hot->space)
		return overlap(hook->address, hook->last, p->gpa, p->len) &&
		       !(p->before == p->gpa && hook->address < p->gpa);
	return overlap(hook->address, hook->last, p->gva, p->len) &&
	       !(p->before != HVMI_NO_ADDRESS && hook->address < p->gva) &&
	       hook_reached(turn, hook->hot, false);
}

static void call_page(struct turn *turn, struct place *page, const struct piece *p)
{
	for (struct ref *ref = page->parts; ref && turn->hooks->events; ref = ref->next) {
		struct hvmi_hook *hook = ref->hook;
		if (!hook_awake(turn, hook->hot) || !is_hit(turn, hook, p))
			continue;
		struct hvmi_hook_event told = {
			.flags = p->flags, .gva = p->access->gva, .gpa = p->first_gpa,
			.len = p->access->len, .access = p->access->kind,
		};
		if (p->access->flags & HVMI_ACCESS_VALUE) {
			told.value_len = p->access->value_len;
			memcpy(told.value, p->access->value, sizeof(told.value));
		}
		turn->writes |= p->access->kind & HVMI_RIGHT_WRITE;
		hook->called_at = turn->event->id;
		call_hook(turn, hook->hot, &told);
	}
}

static bool goes_down(const struct turn *turn)
{
	uint64_t flags = 0;
	hvmi_registers_get(turn->event->registers, HVMI_X86_RFLAGS, &flags);
	return flags & RFLAGS_DF;
}

struct hvmi_insn_access access_begin(const struct turn *turn, const struct hvmi_insn_access *all,
				     uint64_t most)
{
	struct hvmi_insn_access now = *all;
	if (!all->unit || all->unit >= all->len)
		return now;
	now.len = MIN(MAX(most, all->unit), all->len);
	now.gva = goes_down(turn) ? all->gva + all->len - now.len : all->gva;
	return now;
}

/* Of a string instruction what it touches before the next event can come. */
static struct hvmi_insn_access next_turn(const struct turn *turn, const struct hvmi_insn_access *all)
{
	struct hvmi_insn_access one = access_begin(turn, all, all->unit);
	if (!all->unit || turn->step_over != HVMI_STEP_OVER_EMULATE)
		return one;
	/* One that is emulated goes on as far as the page. */
	uint64_t at = one.gva % FRAME_SIZE;
	return access_begin(turn, all, goes_down(turn) ? at + all->unit : FRAME_SIZE - at);
}

bool access_gpa(struct turn *turn, uint64_t gva, uint64_t *ret)
{
	const struct hvmi_event *e = turn->event;
	struct hvmi_space *space;
	/* Of a page walk it is where the table is. */
	if (!(e->flags & HVMI_EVENT_IN_PAGE_WALK) && e->gva != HVMI_NO_ADDRESS &&
	    e->gpa != HVMI_NO_ADDRESS && e->gva / FRAME_SIZE == gva / FRAME_SIZE) {
		*ret = e->gpa / FRAME_SIZE * FRAME_SIZE + gva % FRAME_SIZE;
		return true;
	}
	return cpu_space(turn, &space, NULL) == 0 && hvmi_space_translate(space, gva, ret) == 0;
}

static void call_access(struct turn *turn, const struct hvmi_insn_access *access, uint32_t flags)
{
	struct hvmi_hooks *hooks = turn->hooks;
	struct piece p = { .access = access, .before = HVMI_NO_ADDRESS,
			   .first_gpa = HVMI_NO_ADDRESS, .flags = flags };
	for (uint64_t done = 0; done < access->len && hooks->events; done += p.len) {
		p.gva = access->gva + done;
		p.len = MIN(access->len - done, FRAME_SIZE - p.gva % FRAME_SIZE);
		if (!access_gpa(turn, p.gva, &p.gpa)) {
			p.before = HVMI_NO_ADDRESS;
			continue;
		}
		if (done == 0)
			p.first_gpa = p.gpa;
		struct place *page = place_find(hooks, PLACE_PAGE, p.gpa / FRAME_SIZE * FRAME_SIZE);
		if (page) {
			turn->wrote |= page->copy && access->kind & HVMI_RIGHT_WRITE;
			if (page->watch_count && access->kind & HVMI_RIGHT_WRITE)
				follow_note(turn, page);
			call_page(turn, page, &p);
		}
		p.before = p.gpa + p.len;
	}
}

/* What is not decoded, or not at a known address: all that is known is where it faulted. */
static void call_inexact(struct turn *turn, uint64_t len)
{
	const struct hvmi_event *e = turn->event;
	const struct hvmi_insn_access access = { .gva = e->gva, .len = len, .kind = e->access };
	if (e->gva != HVMI_NO_ADDRESS)
		call_access(turn, &access, HVMI_HOOK_EVENT_INEXACT);
}

/*
 * Execution that was stopped by rights does not come to an int3 that is there too, nor does an instruction
 * whose page walk was stopped: it is executed where there are none.
 */
static void call_covered_int3(struct turn *turn)
{
	const struct hvmi_event *e = turn->event;
	bool walk = e->flags & HVMI_EVENT_IN_PAGE_WALK;
	struct place *place = walk ? place_at(turn) : e->access & HVMI_RIGHT_EXECUTE ?
		place_find(turn->hooks, PLACE_INT3, e->gpa) : NULL;
	if (place && place->placed &&
	    !step_has_lifted(turn->vcpu, place->cloaked ? place->page : place))
		call_int3(turn, place, walk ? turn->rip : e->gva);
}

void call_accesses(struct turn *turn, bool faulted)
{
	const struct hvmi_event *e = turn->event;
	struct hvmi_insn_accesses all = { .size = sizeof(all) };
	const struct hvmi_insn *insn;
	if (faulted)
		call_covered_int3(turn);
	bool known = turn_insn(turn, &insn, NULL) == 0 &&
		     hvmi_insn_get_accesses(insn, e->registers, &all, NULL) == 0;
	if (!known && turn->hooks->table_count)
		follow_note(turn, NULL);
	bool explained = !faulted || e->flags & HVMI_EVENT_IN_PAGE_WALK;
	for (uint32_t i = 0; known && i < all.count && turn->hooks->events; i++) {
		/* Or the whole space: what is touched is not known any better. */
		if (all.items[i].flags & HVMI_ACCESS_UNKNOWN ||
		    (all.items[i].len > HVMI_HOOK_BYTES && !all.items[i].unit)) {
			if (turn->hooks->table_count && all.items[i].kind & HVMI_RIGHT_WRITE)
				follow_note(turn, NULL);
			continue;
		}
		const struct hvmi_insn_access now = next_turn(turn, &all.items[i]);
		if (now.len > HVMI_HOOK_BYTES || now.len - 1 > UINT64_MAX - now.gva)
			continue;
		explained |= faulted && now.kind & e->access && e->gva - now.gva < now.len;
		call_access(turn, &now, 0);
	}
	if (!explained && turn->hooks->events)
		call_inexact(turn, 1);
}
