/* SPDX-License-Identifier: Apache-2.0 */
/* Hooks and the places that they share. */
#include "hook/hook.h"

uint64_t place_event_key(uint32_t kind, uint64_t which)
{
	return (uint64_t)kind << 32 | which;
}

static int no_memory(struct hvmi_error *err)
{
	hvmi_error_set(err, -ENOMEM, HVMI_NO_ADDRESS, "out of memory");
	return -ENOMEM;
}

/* The place, made if there is none; it is in its table, and not placed. */
static int get_place(struct hvmi_hooks *hooks, enum place_type type, uint64_t key, struct place **ret,
		     struct hvmi_error *err)
{
	struct place *place = place_find(hooks, type, key);
	if (!place) {
		if (table_reserve(&hooks->tables[type]))
			return no_memory(err);
		place = pool_get(&hooks->place_pool);
		if (!place)
			return no_memory(err);
		*place = (struct place){ .key = key, .type = (uint8_t)type,
					 .rights = HVMI_RIGHT_READ | HVMI_RIGHT_WRITE |
						   HVMI_RIGHT_EXECUTE };
		place->last = &place->parts;
		table_add(&hooks->tables[type], key, place);
		hooks->place_count++;
	}
	*ret = place;
	return 0;
}

/* It goes, if nobody needs it; whoever looks at it in a callback still may. */
static void put_place(struct hvmi_hooks *hooks, struct place *place)
{
	if (place->first || place->parts || place->int3s || place->placed)
		return;
	table_remove(&hooks->tables[place->type], place->key);
	hooks->place_count--;
	for (uint32_t i = 0; i < hooks->vm->description.vcpus; i++) {
		struct vcpu_turn *v = &hooks->vcpus[i];
		for (uint32_t n = 0; n < v->lifted_count; n++)
			if (v->lifted[n] == place)
				v->lifted[n--] = v->lifted[--v->lifted_count];
		v->emulated = v->emulated == place ? NULL : v->emulated;
		v->table = v->table == place ? NULL : v->table;
	}
	place->next_spare = hooks->spare_places;
	hooks->spare_places = place;
	if (!hooks->depth)
		places_reap(hooks);
}

void places_reap(struct hvmi_hooks *hooks)
{
	while (hooks->spare_places) {
		struct place *next = hooks->spare_places->next_spare;
		pool_put(&hooks->place_pool, hooks->spare_places);
		hooks->spare_places = next;
	}
}

/* A hook joins the list that begins at @p at. */
static void join(struct hot **at, struct hot *hot)
{
	while (*at)
		at = &(*at)->next;
	hot->next = NULL;
	*at = hot;
}

/* Its next stays: a callback's loop may stand at it. */
static void leave(struct hot **at, const struct hot *hot)
{
	while (*at != hot)
		at = &(*at)->next;
	*at = hot->next;
}

static void link_hook(struct place *place, struct ref *ref)
{
	ref->place = place;
	join(&place->first, ref->hook->hot);
}

static void link_part(struct place *page, struct ref *ref)
{
	ref->place = page;
	ref->next = NULL;
	*page->last = ref;
	page->last = &ref->next;
}

/* As leave(). */
static void unlink_part(struct ref *ref)
{
	struct place *place = ref->place;
	struct ref **at = &place->parts;
	while (*at != ref)
		at = &(*at)->next;
	*at = ref->next;
	if (!*at)
		place->last = at;
}

/* What getting over a place takes. */
static int need_step(struct hvmi_hooks *hooks, uint8_t step_over, bool need, struct hvmi_error *err)
{
	enum shared what;
	switch (step_over) {
	case HVMI_STEP_OVER_FAST:
	case HVMI_STEP_OVER_VIEW:
	case HVMI_STEP_OVER_RESTORE:
		what = SHARED_STEP;
		break;
	case HVMI_STEP_OVER_TRAP_FLAG:
		what = SHARED_DEBUG;
		break;
	case HVMI_STEP_OVER_EMULATE:
		if (hooks->abilities & CAN_UNIMPLEMENTED) {
			what = SHARED_UNIMPLEMENTED;
			break;
		}
		return 0;
	default:
		return 0;
	}
	return need ? shared_need(hooks, what, err) : shared_release(hooks, what, err);
}

/* One shared request and what stepping takes, both or none. */
static int need_both(struct hvmi_hooks *hooks, enum shared what, uint8_t step_over, bool need,
		     struct hvmi_error *err)
{
	int rc = need ? shared_need(hooks, what, err) : shared_release(hooks, what, err);
	if (rc)
		return rc;
	rc = need_step(hooks, step_over, need, err);
	if (rc && need)
		shared_release(hooks, what, NULL);
	else if (rc)
		shared_need(hooks, what, NULL);
	return rc;
}

static int page_get(struct hvmi_hooks *hooks, uint64_t gpa, uint8_t step_over, struct place **ret,
		    struct hvmi_error *err)
{
	struct place *page;
	int rc = get_place(hooks, PLACE_PAGE, gpa / FRAME_SIZE * FRAME_SIZE, &page, err);
	if (rc)
		return rc;
	if (!page->placed) {
		page->step_over = step_over;
		rc = need_both(hooks, SHARED_ACCESS, step_over, true, err);
		if (rc) {
			put_place(hooks, page);
			return rc;
		}
		page->placed = true;
	}
	*ret = page;
	return 0;
}

static int page_put(struct hvmi_hooks *hooks, struct place *page, struct hvmi_error *err)
{
	if (page->parts || page->int3s || page->watch_count)
		return 0;
	int rc = need_both(hooks, SHARED_ACCESS, page->step_over, false, err);
	if (rc)
		return rc;
	page->placed = false;
	put_place(hooks, page);
	return 0;
}

int page_watch(struct hvmi_hooks *hooks, uint64_t gpa, struct place **ret, struct hvmi_error *err)
{
	struct place *page = place_find(hooks, PLACE_PAGE, gpa / FRAME_SIZE * FRAME_SIZE);
	if (page && page->watch_count) {
		page->watch_count++;
		*ret = page;
		return 0;
	}
	if (page && page->int3s)
		return hvmi_error_set(err, -EBUSY, gpa, "there are int3s in the page table at 0x%llx",
				      (unsigned long long)gpa);
	if (hooks->table_count == HOOK_TABLES_MAX)
		return hvmi_error_set(err, -EOVERFLOW, gpa, "%u pages of page tables are watched "
				      "already: hook fewer addresses, or with HVMI_HOOK_FIXED",
				      HOOK_TABLES_MAX);
	int rc = page_get(hooks, gpa, follow_step_over(hooks->abilities), &page, err);
	if (rc)
		return rc;
	page->watch_count = 1;
	rc = page_update(hooks, page, err);
	/* What the write made of an entry is seen after a step, whatever gets over it. */
	if (!rc)
		rc = shared_need(hooks, SHARED_STEP, err);
	if (rc) {
		page->watch_count = 0;
		page_update(hooks, page, NULL);
		page_put(hooks, page, NULL);
		return rc;
	}
	hooks->table_count++;
	*ret = page;
	return 0;
}

void page_unwatch(struct hvmi_hooks *hooks, struct place *page)
{
	struct hvmi_error err;
	if (--page->watch_count)
		return;
	hooks->table_count--;
	if (page_update(hooks, page, &err))
		vm_log(hooks->vm, HVMI_LOG_ERROR, "%s", err.text);
	shared_release(hooks, SHARED_STEP, NULL);
	page_put(hooks, page, NULL);
}

static int place_page(struct hvmi_hook *hook, struct ref *ref, uint64_t gpa, struct hvmi_error *err)
{
	struct hvmi_hooks *hooks = hook->hooks;
	struct place *page;
	int rc = page_get(hooks, gpa, (uint8_t)hook->plan.step_over, &page, err);
	if (rc)
		return rc;
	for (uint32_t i = 0; i < 3; i++)
		page->counts[i] += hook->hot->access >> i & 1;
	rc = page_update(hooks, page, err);
	if (rc) {
		for (uint32_t i = 0; i < 3; i++)
			page->counts[i] -= hook->hot->access >> i & 1;
		page_put(hooks, page, NULL);
		return rc;
	}
	link_part(page, ref);
	hooks->page_ref_count++;
	return 0;
}

static int unplace_page(struct hvmi_hook *hook, struct ref *ref, struct hvmi_error *err)
{
	struct hvmi_hooks *hooks = hook->hooks;
	struct place *page = ref->place;
	for (uint32_t i = 0; i < 3; i++)
		page->counts[i] -= hook->hot->access >> i & 1;
	int rc = page_update(hooks, page, err);
	if (rc) {
		for (uint32_t i = 0; i < 3; i++)
			page->counts[i] += hook->hot->access >> i & 1;
		return rc;
	}
	unlink_part(ref);
	hooks->page_ref_count--;
	/* Requests that stay are no harm. */
	page_put(hooks, page, NULL);
	return 0;
}

static void release_int3(struct hvmi_hooks *hooks, struct place *place)
{
	if (place->page)
		page_put(hooks, place->page, NULL);
	place->page = NULL;
	if (place->cloaked)
		shared_release(hooks, SHARED_STEP, NULL);
	need_both(hooks, SHARED_INT3, place->step_over, false, NULL);
}

/* What an int3 needs of the machine, and of its page, if it is not to be seen. */
static int need_for_int3(struct hvmi_hooks *hooks, struct place *place, struct hvmi_error *err)
{
	int rc = need_both(hooks, SHARED_INT3, place->step_over, true, err);
	if (rc)
		return rc;
	/* Some of what touches its page is executed with the int3 away. */
	if (place->cloaked)
		rc = shared_need(hooks, SHARED_STEP, err);
	if (rc) {
		need_both(hooks, SHARED_INT3, place->step_over, false, NULL);
		return rc;
	}
	if (place->hidden || place->cloaked)
		rc = page_get(hooks, place->key, place->step_over, &place->page, err);
	if (rc)
		release_int3(hooks, place);
	return rc;
}

static int place_int3(struct hvmi_hook *hook, struct ref *ref, uint64_t gpa, struct hvmi_error *err)
{
	struct hvmi_hooks *hooks = hook->hooks;
	struct place *place;
	int rc = get_place(hooks, PLACE_INT3, gpa, &place, err);
	if (!rc && !place->placed) {
		place->hidden = hook->plan.mechanism == HVMI_MECHANISM_HIDDEN_INT3;
		place->cloaked = hook->plan.mechanism == HVMI_MECHANISM_CLOAKED_INT3;
		place->step_over = (uint8_t)hook->plan.step_over;
		rc = need_for_int3(hooks, place, err);
		if (!rc) {
			rc = int3_put(hooks, place, err);
			if (rc)
				release_int3(hooks, place);
		}
		if (rc) {
			put_place(hooks, place);
			return rc;
		}
	}
	if (rc)
		return rc;
	link_hook(place, ref);
	return 0;
}

static int unplace_int3(struct hvmi_hook *hook, struct ref *ref, struct hvmi_error *err)
{
	struct hvmi_hooks *hooks = hook->hooks;
	struct place *place = ref->place;
	if (place->first == hook->hot && !hook->hot->next) {
		int rc = int3_take(hooks, place, err);
		if (rc)
			return rc;
		release_int3(hooks, place);
	}
	leave(&place->first, hook->hot);
	put_place(hooks, place);
	return 0;
}

/* In a request of events 0 is no address. */
static int need_address(const struct hvmi_hook *hook, struct hvmi_error *err)
{
	return hook->address ? 0 :
	       hvmi_error_set(err, -ENOTSUP, 0, "%s machines have no breakpoints and watchpoints at "
			      "address 0", hook->hooks->vm->backend.scheme);
}

static struct hvmi_event_request breakpoint_at(uint64_t gva)
{
	return (struct hvmi_event_request){ .size = sizeof(struct hvmi_event_request),
					    .kind = HVMI_EVENT_BREAKPOINT, .gva = gva };
}

static int place_breakpoint(struct hvmi_hook *hook, struct hvmi_error *err)
{
	struct hvmi_hooks *hooks = hook->hooks;
	const struct hvmi_event_request r = breakpoint_at(hook->address);
	struct hot *first = table_find(&hooks->breakpoints, hook->address);
	if (first) {
		join(&first, hook->hot);
		return 0;
	}
	int rc = need_address(hook, err);
	if (!rc && table_reserve(&hooks->breakpoints))
		rc = no_memory(err);
	if (!rc)
		rc = hvmi_events_request(hooks->events, &r, err);
	if (rc)
		return rc;
	join(&first, hook->hot);
	table_add(&hooks->breakpoints, hook->address, first);
	hooks->place_count++;
	return 0;
}

static int unplace_breakpoint(struct hvmi_hook *hook, struct hvmi_error *err)
{
	struct hvmi_hooks *hooks = hook->hooks;
	const struct hvmi_event_request r = breakpoint_at(hook->address);
	struct hot *first = table_find(&hooks->breakpoints, hook->address);
	if (first != hook->hot || first->next) {
		leave(&first, hook->hot);
		table_set(&hooks->breakpoints, hook->address, first);
		return 0;
	}
	int rc = hvmi_events_cancel(hooks->events, &r, err);
	if (rc)
		return rc;
	table_remove(&hooks->breakpoints, hook->address);
	hooks->place_count--;
	return 0;
}

/* Of watchpoints that an access hits, machines tell one: they must not overlap. */
static int place_watchpoint(struct hvmi_hook *hook, struct ref *ref, struct hvmi_error *err)
{
	struct hvmi_hooks *hooks = hook->hooks;
	const struct table *table = &hooks->tables[PLACE_WATCHPOINT];
	const struct hvmi_event_request r = {
		.size = sizeof(r), .kind = HVMI_EVENT_WATCHPOINT, .gva = hook->address,
		.len = hook->last - hook->address + 1, .access = hook->hot->access,
	};
	struct place *place;
	int rc = need_address(hook, err);
	if (rc)
		return rc;
	for (size_t i = 0; i < table->room; i++) {
		const struct place *p = table->slots[i].value;
		if (!p || hook->last < p->request.gva ||
		    hook->address > p->request.gva + (p->request.len - 1))
			continue;
		if (p->request.gva != r.gva || p->request.len != r.len ||
		    p->request.access != r.access)
			return hvmi_error_set(err, -EBUSY, hook->address,
					      "a watchpoint at 0x%llx overlaps this one, and the "
					      "machine tells only one of those that are hit: hook "
					      "the same range and access, or ranges that do not overlap",
					      (unsigned long long)p->request.gva);
	}
	rc = get_place(hooks, PLACE_WATCHPOINT, hook->address, &place, err);
	if (rc)
		return rc;
	if (!place->placed) {
		rc = hvmi_events_request(hooks->events, &r, err);
		if (rc) {
			put_place(hooks, place);
			return rc;
		}
		place->request = r;
		place->placed = true;
		hooks->watchpoint_count++;
	}
	link_hook(place, ref);
	return 0;
}

static int unplace_watchpoint(struct hvmi_hook *hook, struct ref *ref, struct hvmi_error *err)
{
	struct hvmi_hooks *hooks = hook->hooks;
	struct place *place = ref->place;
	if (place->first == hook->hot && !hook->hot->next) {
		int rc = hvmi_events_cancel(hooks->events, &place->request, err);
		if (rc)
			return rc;
		place->placed = false;
		hooks->watchpoint_count--;
	}
	leave(&place->first, hook->hot);
	put_place(hooks, place);
	return 0;
}

struct place *place_watchpoint_at(const struct hvmi_hooks *hooks, uint64_t gva)
{
	const struct table *table = &hooks->tables[PLACE_WATCHPOINT];
	struct place *place = table_find(table, gva);
	for (size_t i = 0; !place && i < table->room; i++) {
		struct place *p = table->slots[i].value;
		place = p && gva - p->request.gva < p->request.len ? p : NULL;
	}
	return place;
}

static uint32_t event_of(uint32_t kind)
{
	static const uint32_t events[HVMI_HOOK_KIND_END] = {
		[HVMI_HOOK_REGISTER] = HVMI_EVENT_REGISTER, [HVMI_HOOK_MSR] = HVMI_EVENT_MSR,
		[HVMI_HOOK_DESCRIPTOR] = HVMI_EVENT_DESCRIPTOR, [HVMI_HOOK_CPUID] = HVMI_EVENT_CPUID,
		[HVMI_HOOK_GUEST_REQUEST] = HVMI_EVENT_GUEST_REQUEST,
		[HVMI_HOOK_BREAKPOINT] = HVMI_EVENT_BREAKPOINT, [HVMI_HOOK_DEBUG] = HVMI_EVENT_DEBUG,
		[HVMI_HOOK_PROCESS_SWITCH] = HVMI_EVENT_REGISTER,
	};
	return events[kind];
}

/* What all hooks of a place together want to be told. */
static struct hvmi_event_request wanted(const struct place *place)
{
	struct hvmi_event_request r = {
		.size = sizeof(r), .kind = (uint32_t)(place->key >> 32), .ignored = UINT64_MAX,
		.flags = HVMI_REQUEST_ON_CHANGE,
	};
	for (const struct hot *hot = place->first; hot; hot = hot->next) {
		if (hot->kind != HVMI_HOOK_PROCESS_SWITCH && !(hot->flags & HVMI_HOOK_ON_CHANGE))
			r.flags &= ~HVMI_REQUEST_ON_CHANGE;
		r.flags |= hot->flags & HVMI_HOOK_MAY_DENY ? HVMI_REQUEST_MAY_DENY : 0;
		r.flags |= hot->flags & HVMI_HOOK_USER ? HVMI_REQUEST_USER : 0;
		r.ignored &= hot->hook->request.ignored;
	}
	if (r.kind == HVMI_EVENT_REGISTER)
		r.reg = (uint32_t)place->key;
	else if (r.kind == HVMI_EVENT_MSR)
		r.msr = (uint32_t)place->key;
	else
		r.flags &= ~HVMI_REQUEST_ON_CHANGE;
	if (r.reg != HVMI_X86_CR4)
		r.ignored = 0;
	return r;
}

static int event_update(struct hvmi_hooks *hooks, struct place *place, struct hvmi_error *err)
{
	uint32_t kind = (uint32_t)(place->key >> 32);
	int rc = 0;
	if (kind == HVMI_EVENT_BREAKPOINT || kind == HVMI_EVENT_DEBUG) {
		enum shared what = kind == HVMI_EVENT_DEBUG ? SHARED_DEBUG : SHARED_INT3;
		if (!place->first == !place->placed)
			return 0;
		rc = place->first ? shared_need(hooks, what, err) : shared_release(hooks, what, err);
		place->placed ^= rc == 0;
		return rc;
	}
	struct hvmi_event_request r = wanted(place);
	if (place->placed && place->first && place->request.flags == r.flags &&
	    place->request.ignored == r.ignored)
		return 0;
	if (place->placed)
		rc = hvmi_events_cancel(hooks->events, &place->request, err);
	if (rc || !place->first) {
		place->placed &= rc != 0;
		return rc;
	}
	rc = hvmi_events_request(hooks->events, &r, err);
	if (!rc)
		place->request = r;
	else if (place->placed)
		place->placed = !hvmi_events_request(hooks->events, &place->request, NULL);
	place->placed |= rc == 0;
	return rc;
}

static int place_event(struct hvmi_hook *hook, struct ref *ref, struct hvmi_error *err)
{
	const struct hvmi_hook_request *r = &hook->request;
	uint64_t which = hook->hot->kind == HVMI_HOOK_REGISTER ? r->reg :
			 hook->hot->kind == HVMI_HOOK_PROCESS_SWITCH ? HVMI_X86_CR3 : r->msr;
	struct place *place;
	int rc = get_place(hook->hooks, PLACE_EVENT, place_event_key(event_of(hook->hot->kind), which),
			   &place, err);
	if (rc)
		return rc;
	link_hook(place, ref);
	rc = event_update(hook->hooks, place, err);
	if (rc) {
		leave(&place->first, hook->hot);
		put_place(hook->hooks, place);
	}
	return rc;
}

static int unplace_event(struct hvmi_hook *hook, struct ref *ref, struct hvmi_error *err)
{
	struct place *place = ref->place;
	leave(&place->first, hook->hot);
	int rc = event_update(hook->hooks, place, err);
	if (rc)
		link_hook(place, ref);
	put_place(hook->hooks, place);
	return rc;
}

static int need_ram(struct hvmi_hook *hook, uint64_t address, uint64_t gpa, struct hvmi_error *err)
{
	uint8_t byte;
	int rc = hvmi_vm_read(hook->hooks->vm, gpa, &byte, 1, NULL);
	return rc ? hvmi_error_set(err, rc, address,
				   "what is at 0x%llx (guest-physical 0x%llx) cannot be hooked: it "
				   "is no RAM, or absent", (unsigned long long)address,
				   (unsigned long long)gpa) : 0;
}

/*
 * Where a part of the hook is, which has to be RAM; HVMI_NO_ADDRESS: nowhere, and that is allowed. What
 * led there is watched from now on.
 */
static int find_gpa(struct hvmi_hook *hook, struct ref *ref, uint64_t *ret, struct hvmi_error *err)
{
	struct hvmi_walk walk = { .size = sizeof(walk), .gpa = HVMI_NO_ADDRESS };
	*ret = ref->gva;
	if (!hook->hot->space)
		return need_ram(hook, ref->gva, ref->gva, err);
	/* One that is put back may have waited. */
	bool again = hook->hot->state != HOOK_PENDING;
	int rc = hvmi_space_walk(hook->hot->space->space, ref->gva, &walk, err);
	if (rc && !(rc == -EFAULT && (again || hook->hot->flags & HVMI_HOOK_WAIT)))
		return rc;
	rc = rc ? 0 : need_ram(hook, ref->gva, walk.gpa, err);
	*ret = rc && again ? HVMI_NO_ADDRESS : walk.gpa;
	rc = again ? 0 : rc;
	if (!rc && hook->follows == HVMI_HOOK_STATE_FOLLOWS && hook_is_moved(hook))
		rc = follow_begin(ref, &walk, err);
	return rc;
}

int ref_place(struct ref *ref, uint64_t gpa, struct hvmi_error *err)
{
	struct hvmi_hook *hook = ref->hook;
	const struct place *page = place_find(hook->hooks, PLACE_PAGE, gpa / FRAME_SIZE * FRAME_SIZE);
	int rc = need_ram(hook, ref->gva, gpa, err);
	if (rc)
		return rc;
	if (hook->plan.mechanism == HVMI_MECHANISM_PAGE)
		return place_page(hook, ref, gpa, err);
	if (page && page->watch_count)
		return hvmi_error_set(err, -EBUSY, ref->gva, "0x%llx is in a page table that hooks "
				      "depend on: an int3 would be no entry",
				      (unsigned long long)ref->gva);
	return place_int3(hook, ref, gpa, err);
}

int ref_unplace(struct ref *ref, struct hvmi_error *err)
{
	struct hvmi_hook *hook = ref->hook;
	int rc = hook->plan.mechanism == HVMI_MECHANISM_PAGE ? unplace_page(hook, ref, err) :
							       unplace_int3(hook, ref, err);
	if (!rc)
		ref->place = NULL;
	return rc;
}

static int place_ref(struct hvmi_hook *hook, struct ref *ref, struct hvmi_error *err)
{
	uint64_t gpa = HVMI_NO_ADDRESS;
	if (hook->follows == HVMI_HOOK_STATE_GONE)
		return 0;
	int rc = hook->plan.mechanism == HVMI_MECHANISM_EVENT ? 0 : find_gpa(hook, ref, &gpa, err);
	if (rc)
		return rc;
	if (ref == hook->refs)
		hook->gpa = gpa;
	switch (hook->plan.mechanism) {
	case HVMI_MECHANISM_BREAKPOINT:
		return place_breakpoint(hook, err);
	case HVMI_MECHANISM_WATCHPOINT:
		return place_watchpoint(hook, ref, err);
	case HVMI_MECHANISM_EVENT:
		return place_event(hook, ref, err);
	default:
		rc = gpa == HVMI_NO_ADDRESS ? 0 : ref_place(ref, gpa, err);
		if (rc)
			follow_end(ref);
		return rc;
	}
}

static int unplace_ref(struct hvmi_hook *hook, struct ref *ref, struct hvmi_error *err)
{
	int rc;
	switch (hook->plan.mechanism) {
	case HVMI_MECHANISM_BREAKPOINT:
		return unplace_breakpoint(hook, err);
	case HVMI_MECHANISM_WATCHPOINT:
		return unplace_watchpoint(hook, ref, err);
	case HVMI_MECHANISM_EVENT:
		return unplace_event(hook, ref, err);
	default:
		rc = ref->place ? ref_unplace(ref, err) : 0;
		if (!rc)
			follow_end(ref);
		return rc;
	}
}

/* One for each page where there are pages, else one. */
static int make_refs(struct hvmi_hook *hook, struct hvmi_error *err)
{
	bool pages = hook->plan.mechanism == HVMI_MECHANISM_PAGE;
	uint64_t first = hook->address / FRAME_SIZE, count = 1;
	if (pages)
		count = hook->last / FRAME_SIZE - first + 1;
	if (!hook->refs) {
		hook->refs = count == 1 ? &hook->one : calloc(count, sizeof(*hook->refs));
		if (!hook->refs)
			return no_memory(err);
		hook->ref_count = count;
	}
	for (uint64_t i = 0; i < count; i++)
		hook->refs[i] = (struct ref){ .hook = hook,
					      .gva = i ? (first + i) * FRAME_SIZE : hook->address };
	return 0;
}

int hook_place(struct hvmi_hook *hook, struct hvmi_error *err)
{
	int rc = make_refs(hook, err);
	for (uint64_t i = 0; !rc && i < hook->ref_count; i++) {
		rc = place_ref(hook, &hook->refs[i], err);
		while (rc && i-- > 0)
			unplace_ref(hook, &hook->refs[i], NULL);
		if (rc)
			return rc;
	}
	return rc;
}

int hook_unplace(struct hvmi_hook *hook, struct hvmi_error *err)
{
	for (uint64_t i = 0; i < hook->ref_count; i++) {
		int rc = unplace_ref(hook, &hook->refs[i], err);
		while (rc && i-- > 0)
			place_ref(hook, &hook->refs[i], NULL);
		if (rc)
			return rc;
	}
	return 0;
}

/* What a place left in the machine, though the machine would not have it back in order. */
static void force_out(struct hvmi_hooks *hooks, struct place *place)
{
	if (place->type == PLACE_INT3 && place->placed)
		int3_take(hooks, place, NULL);
	if (place->type == PLACE_PAGE && (place->copy || place->placed)) {
		place->int3s = place->watch_count = 0;
		memset(place->counts, 0, sizeof(place->counts));
		page_update(hooks, place, NULL);
	}
	free(place->marks);
	pool_put(&hooks->place_pool, place);
}

void places_clear(struct hvmi_hooks *hooks)
{
	for (uint32_t type = 0; type < PLACE_TYPES; type++) {
		struct table *table = &hooks->tables[type];
		for (size_t i = 0; i < table->room; i++)
			if (table->slots[i].value)
				force_out(hooks, table->slots[i].value);
		free(table->slots);
		*table = (struct table){ 0 };
	}
	free(hooks->breakpoints.slots);
	hooks->breakpoints = (struct table){ 0 };
}
