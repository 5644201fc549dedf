/* SPDX-License-Identifier: Apache-2.0 */
/* What places are in the machine: requests, rights and copies of pages, int3s. */
#include "hook/hook.h"

#define RWX (HVMI_RIGHT_READ | HVMI_RIGHT_WRITE | HVMI_RIGHT_EXECUTE)
#define MARKS (FRAME_SIZE / 64)

static const uint32_t shared_kinds[SHARED_COUNT] = {
	[SHARED_STEP] = HVMI_EVENT_STEP, [SHARED_ACCESS] = HVMI_EVENT_ACCESS,
	[SHARED_INT3] = HVMI_EVENT_BREAKPOINT, [SHARED_DEBUG] = HVMI_EVENT_DEBUG,
	[SHARED_UNIMPLEMENTED] = HVMI_EVENT_UNIMPLEMENTED,
};

static struct hvmi_event_request shared_request(enum shared what)
{
	return (struct hvmi_event_request){
		.size = sizeof(struct hvmi_event_request), .kind = shared_kinds[what],
		.vcpu = what == SHARED_STEP ? HVMI_ALL_VCPUS : 0,
	};
}

int shared_need(struct hvmi_hooks *hooks, enum shared what, struct hvmi_error *err)
{
	struct hvmi_event_request r = shared_request(what);
	int rc = hooks->shared[what] ? 0 : hvmi_events_request(hooks->events, &r, err);
	hooks->shared[what] += rc == 0;
	return rc;
}

int shared_release(struct hvmi_hooks *hooks, enum shared what, struct hvmi_error *err)
{
	struct hvmi_event_request r = shared_request(what);
	if (hooks->shared[what] > 1) {
		hooks->shared[what]--;
		return 0;
	}
	int rc = hvmi_events_cancel(hooks->events, &r, err);
	hooks->shared[what] -= rc == 0;
	return rc;
}

int view_need(struct hvmi_hooks *hooks, struct hvmi_error *err)
{
	uint32_t view;
	if (hooks->view != HVMI_VIEW_HOST || !(hooks->abilities & CAN_VIEWS))
		return 0;
	int rc = hvmi_view_create(hooks->events, RWX, &view, err);
	if (rc)
		return rc;
	rc = hvmi_view_switch(hooks->events, view, err);
	if (rc)
		hvmi_view_destroy(hooks->events, view, NULL);
	else
		hooks->view = view;
	return rc;
}

static int make_copy(struct hvmi_hooks *hooks, struct place *page, struct hvmi_error *err)
{
	uint8_t bytes[FRAME_SIZE];
	void *host;
	int rc = hvmi_vm_read(hooks->vm, page->key, bytes, sizeof(bytes), NULL);
	if (rc)
		return hvmi_error_set(err, rc, page->key, "the page at 0x%llx cannot be read",
				      (unsigned long long)page->key);
	rc = hvmi_page_create(hooks->events, &page->copy_gpa, &host, err);
	if (rc)
		return rc;
	memcpy(host, bytes, sizeof(bytes));
	page->copy = host;
	rc = hvmi_view_remap(hooks->events, hooks->view, page->key, page->copy_gpa, err);
	if (rc) {
		hvmi_page_destroy(hooks->events, page->copy_gpa, NULL);
		page->copy = NULL;
	}
	/* The remap gave it the view's own rights. */
	page->rights = RWX;
	return rc;
}

static int drop_copy(struct hvmi_hooks *hooks, struct place *page, struct hvmi_error *err)
{
	int rc = hvmi_view_remap(hooks->events, hooks->view, page->key, HVMI_NO_ADDRESS, err);
	if (rc)
		return rc;
	page->rights = RWX;
	hvmi_page_destroy(hooks->events, page->copy_gpa, NULL);
	page->copy = NULL;
	return 0;
}

static int set_rights(struct hvmi_hooks *hooks, const struct place *page, uint32_t rights,
		      struct hvmi_error *err)
{
	return hvmi_view_set_rights(hooks->events, hooks->view, page->key, 1, rights, err);
}

int page_update(struct hvmi_hooks *hooks, struct place *page, struct hvmi_error *err)
{
	int rc = view_need(hooks, err);
	if (!rc && page->int3s && !page->marks) {
		page->marks = calloc(MARKS, sizeof(*page->marks));
		if (!page->marks)
			rc = hvmi_error_set(err, -ENOMEM, page->key, "out of memory");
	}
	/* Without a view of their own int3s are in the page itself. */
	if (!rc && page->int3s && !page->copy && hooks->view != HVMI_VIEW_HOST)
		rc = make_copy(hooks, page, err);
	else if (!rc && !page->int3s && page->copy)
		rc = drop_copy(hooks, page, err);
	if (rc)
		return rc;
	/* Processors have no pages that can be written and not read (EPT: a misconfiguration). */
	uint32_t taken = page->counts[0] || page->int3s ? HVMI_RIGHT_READ | HVMI_RIGHT_WRITE : 0;
	taken |= page->counts[1] || page->watch_count ? HVMI_RIGHT_WRITE : 0;
	taken |= page->counts[2] ? HVMI_RIGHT_EXECUTE : 0;
	uint32_t rights = RWX & ~taken;
	/* One that is lifted gets them when it is put back, unless that may never be: its last int3 goes. */
	bool last = page->marks && !page->int3s;
	if (page->lifters ? last || rights == RWX : rights != page->rights)
		rc = set_rights(hooks, page, rights, err);
	if (rc)
		return rc;
	page->rights = rights;
	page->lifted_rights = last ? rights : page->lifted_rights;
	if (!page->int3s) {
		free(page->marks);
		page->marks = NULL;
	}
	return 0;
}

uint32_t next_mark(const struct place *page, uint32_t at)
{
	while (at < FRAME_SIZE && !(page->marks[at / 64] >> at % 64))
		at = (at / 64 + 1) * 64;
	return at < FRAME_SIZE ? at + (uint32_t)__builtin_ctzll(page->marks[at / 64] >> at % 64) :
				 FRAME_SIZE;
}

void page_resync(struct hvmi_hooks *hooks, struct place *page)
{
	uint8_t bytes[FRAME_SIZE];
	if (!page->copy || hvmi_vm_read(hooks->vm, page->key, bytes, sizeof(bytes), NULL))
		return;
	for (uint32_t at = next_mark(page, 0); at < FRAME_SIZE; at = next_mark(page, at + 1)) {
		struct place *place = place_find(hooks, PLACE_INT3, page->key + at);
		if (place)
			place->original = bytes[at];
		bytes[at] = INT3;
	}
	memcpy(page->copy, bytes, sizeof(bytes));
}

void pages_resync(struct hvmi_hooks *hooks)
{
	const struct table *pages = &hooks->tables[PLACE_PAGE];
	for (size_t i = 0; i < pages->room; i++)
		if (pages->slots[i].value)
			page_resync(hooks, pages->slots[i].value);
}

static int read_original(struct hvmi_hooks *hooks, struct place *place, struct hvmi_error *err)
{
	int rc = hvmi_vm_read(hooks->vm, place->key, &place->original, 1, NULL);
	return rc ? hvmi_error_set(err, rc, place->key, "the code at 0x%llx cannot be read",
				   (unsigned long long)place->key) : 0;
}

static void mark(struct place *page, uint64_t gpa, bool on)
{
	uint64_t at = gpa % FRAME_SIZE, bit = 1ull << at % 64;
	page->marks[at / 64] = on ? page->marks[at / 64] | bit : page->marks[at / 64] & ~bit;
}

/* In the guest's own memory; first in the journal, if there is one. */
static int put_plain(struct hvmi_hooks *hooks, struct place *place, struct hvmi_error *err)
{
	const uint8_t int3 = INT3;
	struct hvmi_patch patch = { .size = sizeof(patch), .gpa = place->key, .len = 1,
				    .gva = HVMI_NO_ADDRESS, .bytes = &int3 };
	int rc = read_original(hooks, place, err);
	if (!rc && hooks->options.journal) {
		rc = hvmi_patch_place(hooks->options.journal, &patch, err);
		place->patch = rc ? 0 : patch.id;
		return rc;
	}
	if (rc)
		return rc;
	rc = hvmi_vm_write(hooks->vm, place->key, &int3, 1, NULL);
	return rc ? hvmi_error_set(err, rc, place->key, "the code at 0x%llx cannot be written",
				   (unsigned long long)place->key) : 0;
}

/* What the guest has put over it stays. */
static int take_plain(struct hvmi_hooks *hooks, struct place *place, struct hvmi_error *err)
{
	uint8_t now;
	int rc;
	if (place->patch) {
		rc = hvmi_patch_undo(hooks->options.journal, place->patch, err);
		if (rc && rc != -EBADMSG)
			return rc;
		place->patch = 0;
		return 0;
	}
	rc = hvmi_vm_read(hooks->vm, place->key, &now, 1, NULL);
	if (!rc && now == INT3)
		rc = hvmi_vm_write(hooks->vm, place->key, &place->original, 1, NULL);
	return rc ? hvmi_error_set(err, rc, place->key, "the code at 0x%llx cannot be put back",
				   (unsigned long long)place->key) : 0;
}

static int put_hidden(struct hvmi_hooks *hooks, struct place *place, struct hvmi_error *err)
{
	int rc = read_original(hooks, place, err);
	if (rc)
		return rc;
	mark(place->page, place->key, true);
	place->page->copy[place->key % FRAME_SIZE] = INT3;
	return 0;
}

static int put_cloaked(struct hvmi_hooks *hooks, struct place *place, struct hvmi_error *err)
{
	/* While its page is lifted it is not to be there: it comes with the others. */
	int rc = place->page->lifters ? 0 : put_plain(hooks, place, err);
	if (rc)
		return rc;
	place->away = place->page->lifters;
	mark(place->page, place->key, true);
	hooks->cloak_count++;
	return 0;
}

int int3_put(struct hvmi_hooks *hooks, struct place *place, struct hvmi_error *err)
{
	struct place *page = place->page;
	int rc = 0;
	if (page) {
		page->int3s++;
		rc = page_update(hooks, page, err);
	}
	if (!rc)
		rc = place->hidden ? put_hidden(hooks, place, err) :
		     place->cloaked ? put_cloaked(hooks, place, err) : put_plain(hooks, place, err);
	if (rc && page) {
		page->int3s--;
		page_update(hooks, page, NULL);
	}
	place->placed = !rc;
	return rc;
}

int int3_take(struct hvmi_hooks *hooks, struct place *place, struct hvmi_error *err)
{
	struct place *page = place->page;
	int rc = place->hidden || place->away ? 0 : take_plain(hooks, place, err);
	if (rc)
		return rc;
	if (page) {
		if (place->hidden)
			page->copy[place->key % FRAME_SIZE] = place->original;
		mark(page, place->key, false);
		page->int3s--;
		rc = page_update(hooks, page, err);
	}
	if (rc) {
		page->int3s++;
		page_update(hooks, page, NULL);
		mark(page, place->key, true);
		if (page->copy)
			page->copy[place->key % FRAME_SIZE] = INT3;
		else if (!place->away)
			put_plain(hooks, place, NULL);
		return rc;
	}
	hooks->cloak_count -= place->cloaked;
	place->placed = place->away = false;
	return 0;
}

/* An int3 in the guest's memory goes and comes. */
static int lift_int3(struct hvmi_hooks *hooks, struct place *place, bool away, struct hvmi_error *err)
{
	/* The step may have been over code that changes itself: what is there then is the guest's. */
	int rc = away ? take_plain(hooks, place, err) : put_plain(hooks, place, err);
	if (!rc)
		place->away = away;
	return rc;
}

static int lift_page(struct hvmi_hooks *hooks, struct place *page, bool away, struct hvmi_error *err)
{
	uint32_t rights = away ? page->lifted_rights : page->rights;
	bool cloaks = page->marks && !page->copy;
	/* In between nobody is to see some of them, or to get past others. */
	int rc = cloaks ? set_rights(hooks, page, 0, err) : 0;
	uint32_t at = cloaks && !(rc && away) ? next_mark(page, 0) : FRAME_SIZE;
	for (; at < FRAME_SIZE; at = next_mark(page, at + 1)) {
		struct place *place = place_find(hooks, PLACE_INT3, page->key + at);
		int place_rc = place && place->away != away ? lift_int3(hooks, place, away, err) : 0;
		rc = rc ? rc : place_rc;
	}
	int last = cloaks && !rights ? 0 : set_rights(hooks, page, rights, err);
	return rc ? rc : last;
}

static int lift(struct hvmi_hooks *hooks, struct place *place, bool away, struct hvmi_error *err)
{
	if (place->type == PLACE_PAGE)
		return lift_page(hooks, place, away, err);
	if (!place->hidden)
		return lift_int3(hooks, place, away, err);
	place->page->copy[place->key % FRAME_SIZE] = away ? place->original : INT3;
	return 0;
}

int place_lift(struct hvmi_hooks *hooks, struct place *place, uint32_t rights, struct hvmi_error *err)
{
	int rc;
	if (place->lifters) {
		bool wider = place->type == PLACE_PAGE && rights & ~place->lifted_rights;
		rights |= place->lifted_rights;
		rc = wider ? set_rights(hooks, place, rights, err) : 0;
	} else {
		place->lifted_rights = rights;
		rc = lift(hooks, place, true, err);
		if (rc)
			lift(hooks, place, false, NULL);
	}
	if (rc)
		return rc;
	place->lifted_rights = rights;
	place->lifters++;
	return 0;
}

int place_return(struct hvmi_hooks *hooks, struct place *place, struct hvmi_error *err)
{
	return --place->lifters || !place->placed ? 0 : lift(hooks, place, false, err);
}
