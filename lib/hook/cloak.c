/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Cloaked int3s: they are in the guest's own memory, and it does not see them. Their pages can only be
 * executed, and what else touches them is emulated. Where an instruction meets an int3, what it reads is
 * given to it, or the int3s of the page are away while it is executed; meanwhile nobody else can execute the
 * page. What it wrote is what belongs there from then on.
 */
#include "hook/hook.h"

/* Turns of a string instruction that one emulation does at most: Xen, hvmemul_linear_to_phys(). */
#define EMULATED_TURNS 4096u

/* What an instruction has to do with cloaked int3s. */
struct meeting {
	struct place *pages[LIFTED_MAX];	/* whose int3s it touches, or may */
	uint32_t count;
	bool known;		/* all that it touches is */
	bool strings;
	uint32_t accesses;
	struct hvmi_insn_access last;
	const struct hvmi_insn *insn;
};

static void add_page(struct meeting *m, struct place *page)
{
	for (uint32_t i = 0; i < m->count; i++)
		if (m->pages[i] == page)
			return;
	if (m->count < LIFTED_MAX)
		m->pages[m->count++] = page;
}

static struct place *cloaked_page(struct turn *turn, uint64_t gpa)
{
	struct place *page = place_find(turn->hooks, PLACE_PAGE, gpa / FRAME_SIZE * FRAME_SIZE);
	return page && page->marks && !page->copy ? page : NULL;
}

static void meet_access(struct turn *turn, struct meeting *m, const struct hvmi_insn_access *access)
{
	uint64_t n;
	for (uint64_t done = 0; done < access->len; done += n) {
		uint64_t gva = access->gva + done, gpa, at = gva % FRAME_SIZE;
		n = MIN(access->len - done, FRAME_SIZE - at);
		struct place *page = access_gpa(turn, gva, &gpa) ? cloaked_page(turn, gpa) : NULL;
		if (page && next_mark(page, (uint32_t)at) < at + n)
			add_page(m, page);
	}
}

/* Those that it is going to be executed with; @p room is for them. */
static const struct hvmi_registers *registers_of(const struct turn *turn, struct hvmi_registers *room)
{
	const struct hvmi_registers *set = &turn->hooks->merged_registers;
	if (!(set->known[0] | set->known[1] | set->known[2] | set->known[3]))
		return turn->event->registers;
	*room = *turn->event->registers;
	for (uint32_t id = 1; id < HVMI_REGISTER_END; id++)
		if (hvmi_registers_known(set, id))
			hvmi_registers_set(room, id, set->values[id]);
	return room;
}

static void meet(struct turn *turn, struct meeting *m)
{
	const struct hvmi_event *e = turn->event;
	struct hvmi_insn_accesses all = { .size = sizeof(all) };
	struct hvmi_registers room;
	m->known = turn_insn(turn, &m->insn, NULL) == 0 &&
		   hvmi_insn_get_accesses(m->insn, registers_of(turn, &room), &all, NULL) == 0 &&
		   !(all.flags & HVMI_ACCESSES_INCOMPLETE);
	for (uint32_t i = 0; i < all.count; i++) {
		const struct hvmi_insn_access *access = &all.items[i];
		bool string = access->unit && access->unit < access->len;
		if (access->kind == HVMI_RIGHT_EXECUTE)
			continue;
		/* CMPS and SCAS are emulated turn by turn. */
		uint64_t turns = access->flags & HVMI_ACCESS_BOUND ? 1 : EMULATED_TURNS;
		m->last = access_begin(turn, access, string ? turns * access->unit : 0);
		m->strings |= string;
		m->accesses++;
		if (access->flags & HVMI_ACCESS_UNKNOWN || m->last.len > HVMI_HOOK_BYTES ||
		    m->last.len - 1 > UINT64_MAX - m->last.gva)
			m->known = false;
		else
			meet_access(turn, m, &m->last);
	}
	/* What is not known may meet those where it was stopped; where else, it is stopped again. */
	struct place *page = e->kind == HVMI_EVENT_ACCESS && e->gpa != HVMI_NO_ADDRESS ?
				     cloaked_page(turn, e->gpa) : NULL;
	if (page && (!m->known || e->flags & HVMI_EVENT_IN_PAGE_WALK))
		add_page(m, page);
}

/*
 * Whether it is right to give it what it reads: all that it reads of memory is that, in whatever pieces the
 * emulator reads it, and the guest's own page tables allow it, since it was stopped behind them.
 */
static bool is_exact(struct turn *turn, const struct hvmi_answer *a, const struct meeting *m)
{
	const struct hvmi_event *e = turn->event;
	const struct hvmi_insn_access *read = &m->last;
	return m->known && m->accesses == 1 && a->flags == HVMI_ANSWER_EMULATE &&
	       e->kind == HVMI_EVENT_ACCESS && !(e->flags & HVMI_EVENT_IN_PAGE_WALK) &&
	       e->access == HVMI_RIGHT_READ && m->insn->mode == HVMI_INSN_X86_64 &&
	       (m->insn->category == HVMI_INSN_OTHER || m->insn->category == HVMI_INSN_VECTOR) &&
	       read->kind == HVMI_RIGHT_READ && !m->strings &&
	       !(read->flags & (HVMI_ACCESS_CONDITIONAL | HVMI_ACCESS_BOUND)) &&
	       read->len <= CLEAN_MAX && e->gva - read->gva < read->len &&
	       read->gva % FRAME_SIZE + read->len <= FRAME_SIZE;
}

static bool give_read(struct turn *turn, struct hvmi_answer *a, const struct meeting *m,
		      uint8_t clean[CLEAN_MAX])
{
	struct hvmi_space *space;
	size_t done = 0;
	if (cpu_space(turn, &space, NULL) ||
	    clean_read(turn->hooks, space, m->last.gva, clean, m->last.len, &done))
		return false;
	a->flags |= HVMI_ANSWER_READ_DATA;
	a->data = clean;
	a->data_len = (uint32_t)m->last.len;
	return true;
}

/*
 * Whether the processor can execute it: nothing else stands in its way, and it has no need of the right that
 * is kept from all others. Strings are emulated many turns at once.
 */
static bool is_bare(struct turn *turn, const struct hvmi_answer *a, const struct meeting *m)
{
	const struct hvmi_event *e = turn->event;
	bool stopped_there = false;
	if (e->kind != HVMI_EVENT_ACCESS || e->access & HVMI_RIGHT_EXECUTE || turn->first ||
	    turn->tables || m->strings || a->flags & HVMI_ANSWER_INSN_DATA)
		return false;
	for (uint32_t i = 0; i < m->count; i++) {
		struct place *page = m->pages[i];
		stopped_there |= e->gpa / FRAME_SIZE * FRAME_SIZE == page->key;
		if (page->parts || page->watch_count || turn_lies_in(turn, page))
			return false;
	}
	return stopped_there;
}

static void lift_all(struct turn *turn, struct hvmi_answer *a, const struct meeting *m)
{
	const bool bare = is_bare(turn, a, m);
	const uint32_t rights = bare ? HVMI_RIGHT_READ | HVMI_RIGHT_WRITE : 0;
	struct hvmi_error err;
	int rc = 0;
	for (uint32_t i = 0; !rc && i < m->count; i++)
		rc = step_lift(turn, m->pages[i], rights, &err);
	/* The guest goes on all the same. */
	if (rc) {
		step_put_back(turn->hooks, turn->vcpu);
		vm_log(turn->hooks->vm, HVMI_LOG_ERROR, "%s", err.text);
		return;
	}
	if (bare)
		a->flags &= ~HVMI_ANSWER_EMULATE;
	/* What is emulated is done when the next instruction has been executed, or was stopped. */
	a->flags |= HVMI_ANSWER_STEP;
	turn->vcpu->over = true;
	turn->vcpu->back = turn->event->view;
}

void cloak_prepare(struct turn *turn, struct hvmi_answer *a, uint8_t clean[CLEAN_MAX])
{
	/* What a verdict gave is what is read, or executed. */
	if (!turn->hooks->cloak_count || !(a->flags & HVMI_ANSWER_EMULATE) ||
	    turn->action == HVMI_VERDICT_EMULATE_READ || turn->action == HVMI_VERDICT_EMULATE_INSN)
		return;
	struct meeting m = { .count = 0 };
	meet(turn, &m);
	if (m.count && !(is_exact(turn, a, &m) && give_read(turn, a, &m, clean)))
		lift_all(turn, a, &m);
}
