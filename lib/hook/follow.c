/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Hooks of virtual addresses follow their translation. The entries that the walk of an address used are
 * remembered, and their pages cannot be written to. After a write has been carried out they are compared
 * with memory; where one differs, the walk is made anew, and the hook goes where it leads.
 */
#include "hook/hook.h"

#include "space/space.h"

/* An entry that walks used. */
struct watch {
	struct watch *next;	/* of its page */
	struct place *page;
	struct tie *first;
	uint64_t gpa, value;	/* value: when it was looked at last */
	uint64_t mask;		/* without what the CPU notes in it */
	uint32_t bytes;
};

struct tie {
	struct tie *next, **back;
	struct watch *watch;
	struct trail *trail;
};

/* The walk of one part of a hook. */
struct trail {
	struct ref *ref;	/* NULL: it is not needed any more, and in the list of stale ones */
	struct trail *next_stale;
	bool stale, ended;
	uint32_t walked, count;	/* ties: those of the walk come first */
	uint64_t gpa;		/* where it led to */
	struct watch *witness;
	struct tie ties[SPACE_LEVELS_MAX + 1];
};

uint8_t follow_step_over(uint32_t abilities)
{
	const uint32_t needs = CAN_ACCESS | CAN_STEP;
	if ((abilities & needs) != needs)
		return 0;
	return abilities & CAN_VIEWS   ? HVMI_STEP_OVER_VIEW :
	       abilities & CAN_EMULATE ? HVMI_STEP_OVER_EMULATE : 0;
}

static bool upper_half(const struct hvmi_hook *hook)
{
	return hook->hot->space->space->sign_extended && hook->address >> 63;
}

static int add_tie(struct trail *trail, uint64_t gpa, uint64_t value, struct hvmi_error *err)
{
	const struct hvmi_space *space = trail->ref->hook->hot->space->space;
	struct hvmi_hooks *hooks = trail->ref->hook->hooks;
	const uint32_t bytes = 1u << space->entry_shift;
	struct place *page = place_find(hooks, PLACE_PAGE, gpa / FRAME_SIZE * FRAME_SIZE);
	struct watch *w = page ? page->watches : NULL;
	while (w && (w->gpa != gpa || w->bytes != bytes || w->mask != ~space->noted))
		w = w->next;
	if (!w) {
		w = calloc(1, sizeof(*w));
		int rc = w ? page_watch(hooks, gpa, &page, err) :
			     hvmi_error_set(err, -ENOMEM, HVMI_NO_ADDRESS, "out of memory");
		if (rc) {
			free(w);
			return rc;
		}
		*w = (struct watch){ .next = page->watches, .page = page, .gpa = gpa, .bytes = bytes,
				     .mask = ~space->noted, .value = value & ~space->noted };
		page->watches = w;
	}
	struct tie *tie = &trail->ties[trail->count++];
	*tie = (struct tie){ .next = w->first, .back = &w->first, .watch = w, .trail = trail };
	if (w->first)
		w->first->back = &tie->next;
	w->first = tie;
	return 0;
}

static void drop_ties(struct hvmi_hooks *hooks, struct trail *trail)
{
	while (trail->count) {
		struct tie *tie = &trail->ties[--trail->count];
		struct watch *w = tie->watch, **at = &w->page->watches;
		*tie->back = tie->next;
		if (tie->next)
			tie->next->back = tie->back;
		if (w->first)
			continue;
		while (*at != w)
			at = &(*at)->next;
		*at = w->next;
		page_unwatch(hooks, w->page);
		free(w);
	}
}

static void drop_trail(struct hvmi_hooks *hooks, struct trail *trail)
{
	drop_ties(hooks, trail);
	trail->ref = NULL;
	if (!trail->stale)
		free(trail);
}

/*
 * The last entry of the root that is present: with all systems one of the kernel's own, which every root
 * has for as long as it is one. A page that becomes something else is cleared or written over first.
 */
static uint64_t find_witness(struct hook_space *s)
{
	const struct hvmi_space *space = s->space;
	uint8_t table[FRAME_SIZE];
	uint32_t entries = space->levels[0].index_mask + 1;
	if (s->witness)
		return s->witness;
	s->witness = HVMI_NO_ADDRESS;
	if (hvmi_vm_read(space->vm, space->root, table, (size_t)entries << space->entry_shift, NULL))
		return s->witness;
	for (uint32_t i = 0; i < entries; i++)
		if (table[(size_t)i << space->entry_shift] & ENTRY_PRESENT)
			s->witness = space->root + ((uint64_t)i << space->entry_shift);
	return s->witness;
}

/* What tells that the space has ended. */
static int add_witness(struct trail *trail, const struct hvmi_walk *walk, struct hvmi_error *err)
{
	struct hvmi_hook *hook = trail->ref->hook;
	uint64_t value = 0;
	/* Entries of the upper half that are used do not go, and are cleared before the last one is. */
	if (upper_half(hook) && trail->walked && walk->entries[0].value & ENTRY_PRESENT) {
		trail->witness = trail->ties[0].watch;
		return 0;
	}
	uint64_t gpa = find_witness(hook->hot->space);
	if (gpa == HVMI_NO_ADDRESS ||
	    hvmi_vm_read(hook->hooks->vm, gpa, &value, 1u << hook->hot->space->space->entry_shift, NULL))
		return 0;
	int rc = add_tie(trail, gpa, le64toh(value), err);
	if (!rc)
		trail->witness = trail->ties[trail->count - 1].watch;
	return rc;
}

static int make_trail(struct ref *ref, const struct hvmi_walk *walk, struct trail **ret,
		      struct hvmi_error *err)
{
	struct trail *trail = calloc(1, sizeof(*trail));
	if (!trail)
		return hvmi_error_set(err, -ENOMEM, HVMI_NO_ADDRESS, "out of memory");
	trail->ref = ref;
	trail->gpa = walk->gpa;
	/* What cannot be read is no memory that could be written to. */
	uint32_t count = walk->entry_count - (walk->fault == HVMI_FAULT_NO_MEMORY);
	int rc = 0;
	for (uint32_t i = 0; !rc && i < count; i++)
		rc = add_tie(trail, walk->entries[i].gpa, walk->entries[i].value, err);
	trail->walked = trail->count;
	if (!rc)
		rc = add_witness(trail, walk, err);
	if (rc) {
		drop_trail(ref->hook->hooks, trail);
		return rc;
	}
	*ret = trail;
	return 0;
}

int follow_begin(struct ref *ref, const struct hvmi_walk *walk, struct hvmi_error *err)
{
	return make_trail(ref, walk, &ref->trail, err);
}

void follow_end(struct ref *ref)
{
	if (ref->trail)
		drop_trail(ref->hook->hooks, ref->trail);
	ref->trail = NULL;
}

uint32_t follow_state(const struct hvmi_hook *hook)
{
	if (hook->follows != HVMI_HOOK_STATE_FOLLOWS || !hook_is_moved(hook))
		return hook->follows;
	for (uint64_t i = 0; i < hook->ref_count; i++)
		if (!hook->refs[i].place)
			return HVMI_HOOK_STATE_WAITS;
	return HVMI_HOOK_STATE_FOLLOWS;
}

void follow_note(struct turn *turn, struct place *table)
{
	turn->table = turn->tables && turn->table != table ? NULL : table;
	turn->tables = true;
}

void follow_prepare(struct turn *turn, struct hvmi_answer *answer)
{
	struct vcpu_turn *v = turn->vcpu;
	if (!turn->tables || !turn->hooks->table_count)
		return;
	/* A callback may have taken away what depended on it. */
	struct place *table = turn->table && turn->table->watch_count ? turn->table : NULL;
	v->table = v->tables && v->table != table ? NULL : table;
	v->tables = true;
	if (answer->flags & HVMI_ANSWER_STEP)
		return;
	/* What is emulated is done when the next instruction has been executed. */
	v->over = true;
	v->back = answer->flags & HVMI_ANSWER_VIEW ? answer->view : turn->event->view;
	answer->flags |= HVMI_ANSWER_STEP;
}

/* Whether an entry that every root has does not say any more what it said. */
static bool has_ended(const struct watch *w, uint64_t now)
{
	/* Of 4 bytes, it may be a large page that is split. */
	uint64_t frame = w->bytes == 8 ? 0x000ffffffffff000 : 0;
	return w->value & ENTRY_PRESENT && (!(now & ENTRY_PRESENT) || (w->value ^ now) & frame);
}

static void look_at(struct hvmi_hooks *hooks, const struct place *page)
{
	for (struct watch *w = page->watches; w; w = w->next) {
		uint64_t now = 0;
		if (hvmi_vm_read(hooks->vm, w->gpa, &now, w->bytes, NULL))
			continue;
		now = le64toh(now) & w->mask;
		if (now == w->value)
			continue;
		bool ended = has_ended(w, now);
		w->value = now;
		for (struct tie *tie = w->first; tie; tie = tie->next) {
			struct trail *trail = tie->trail;
			trail->ended |= ended && trail->witness == w;
			if (trail->stale)
				continue;
			trail->stale = true;
			trail->next_stale = hooks->stale;
			hooks->stale = trail;
		}
	}
}

static int walk_again(const struct ref *ref, struct hvmi_walk *ret, struct hvmi_error *err)
{
	*ret = (struct hvmi_walk){ .size = sizeof(*ret), .gpa = HVMI_NO_ADDRESS };
	int rc = hvmi_space_walk(ref->hook->hot->space->space, ref->gva, ret, err);
	ref->hook->hooks->walks++;
	return rc == -EFAULT ? 0 : rc;
}

/* Whether it leads through the same entries to the same memory. */
static bool is_same(const struct trail *trail)
{
	struct hvmi_walk walk;
	if (trail->ended || walk_again(trail->ref, &walk, NULL) || walk.gpa != trail->gpa ||
	    walk.entry_count != trail->walked || (walk.gpa != HVMI_NO_ADDRESS && !trail->ref->place))
		return false;
	for (uint32_t i = 0; i < trail->walked; i++)
		if (trail->ties[i].watch->gpa != walk.entries[i].gpa)
			return false;
	return true;
}

static void complain(const struct ref *ref, const struct hvmi_error *err)
{
	vm_log(ref->hook->hooks->vm, HVMI_LOG_WARNING, "the hook at 0x%llx does not follow: %s",
	       (unsigned long long)ref->gva, err->text);
}

static void moved(struct hvmi_hook *hook)
{
	struct hvmi_hooks *hooks = hook->hooks;
	hook->moves++;
	if (hook->told_due || !(hook->hot->flags & HVMI_HOOK_TELL_MOVES))
		return;
	hook->told_due = true;
	hook->next_told = hooks->told;
	hooks->told = hook;
}

/* The space has ended. What of the kernel is hooked for all spaces stays. */
static void end(struct hvmi_hook *hook)
{
	struct hvmi_error err;
	bool stays = upper_half(hook) && !(hook->hot->flags & HVMI_HOOK_ONLY_SPACE);
	for (uint64_t i = 0; i < hook->ref_count; i++) {
		struct ref *ref = &hook->refs[i];
		if (!stays && ref->place && ref_unplace(ref, &err))
			complain(ref, &err);
		follow_end(ref);
	}
	hook->hot->space->witness = 0;
	hook->follows = stays ? HVMI_HOOK_STATE_FIXED : HVMI_HOOK_STATE_GONE;
	hook->gpa = stays ? hook->gpa : HVMI_NO_ADDRESS;
	moved(hook);
}

static void move(struct trail *trail)
{
	struct ref *ref = trail->ref;
	struct hvmi_hook *hook = ref->hook;
	struct hvmi_walk walk;
	struct hvmi_error err;
	struct trail *next = NULL;
	if (trail->ended) {
		end(hook);
		return;
	}
	int rc = walk_again(ref, &walk, &err);
	if (!rc)
		rc = make_trail(ref, &walk, &next, &err);
	/* What cannot be watched cannot be followed: until what is watched changes again, it waits. */
	uint64_t gpa = rc ? HVMI_NO_ADDRESS : walk.gpa;
	if (rc)
		complain(ref, &err);
	const bool was = ref->place, leaves = was && gpa != trail->gpa;
	if (leaves && ref_unplace(ref, &err))
		complain(ref, &err);
	/* What was a table may be where it goes now. */
	if (next) {
		ref->trail = next;
		drop_trail(hook->hooks, trail);
	}
	if (!ref->place && gpa != HVMI_NO_ADDRESS && ref_place(ref, gpa, &err))
		complain(ref, &err);
	if (ref == hook->refs)
		hook->gpa = ref->place ? gpa : HVMI_NO_ADDRESS;
	if (leaves || (!was && ref->place))
		moved(hook);
}

/* Those whose way is another one; the rest is done with. */
static struct trail *take_changed(struct hvmi_hooks *hooks)
{
	struct trail *changed = NULL;
	while (hooks->stale) {
		struct trail *trail = hooks->stale;
		hooks->stale = trail->next_stale;
		if (is_same(trail)) {
			trail->stale = false;
			continue;
		}
		trail->next_stale = changed;
		changed = trail;
	}
	return changed;
}

void follow_look(struct hvmi_hooks *hooks, struct vcpu_turn *v)
{
	const struct table *pages = &hooks->tables[PLACE_PAGE];
	struct hvmi_error err;
	v->tables = false;
	if (v->table)
		look_at(hooks, v->table);
	for (size_t i = 0; !v->table && i < pages->room; i++)
		if (pages->slots[i].value)
			look_at(hooks, pages->slots[i].value);
	v->table = NULL;
	struct trail *changed = take_changed(hooks);
	if (!changed)
		return;
	/* As for any other change: while the machine stands, and what it has told is taken. */
	bool paused = hvmi_vm_pause(hooks->vm, &err) == 0;
	if (!paused || events_drain(hooks, &err))
		vm_log(hooks->vm, HVMI_LOG_WARNING, "hooks move while the machine runs: %s", err.text);
	while (changed) {
		struct trail *trail = changed;
		changed = trail->next_stale;
		if (trail->ref)
			move(trail);
		trail->stale = false;
		if (!trail->ref)
			free(trail);
	}
	if (paused && hvmi_vm_resume(hooks->vm, &err))
		vm_log(hooks->vm, HVMI_LOG_ERROR, "%s", err.text);
}

void follow_tell(struct turn *turn)
{
	struct hvmi_hooks *hooks = turn->hooks;
	while (hooks->events && hooks->told) {
		struct hvmi_hook *hook = hooks->told;
		hooks->told = hook->next_told;
		hook->told_due = false;
		struct hvmi_hook_event told = {
			.flags = HVMI_HOOK_EVENT_MOVED, .gva = hook->address, .gpa = hook->gpa,
			.state = follow_state(hook),
		};
		if (hook->hot->state == HOOK_LIVE)
			tell_hook(turn, hook->hot, &told);
	}
}
