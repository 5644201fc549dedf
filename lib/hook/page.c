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
	page->marks = calloc(MARKS, sizeof(*page->marks));
	if (!page->marks)
		return hvmi_error_set(err, -ENOMEM, page->key, "out of memory");
	rc = hvmi_page_create(hooks->events, &page->copy_gpa, &host, err);
	if (rc) {
		free(page->marks);
		page->marks = NULL;
		return rc;
	}
	memcpy(host, bytes, sizeof(bytes));
	page->copy = host;
	rc = hvmi_view_remap(hooks->events, hooks->view, page->key, page->copy_gpa, err);
	if (rc) {
		hvmi_page_destroy(hooks->events, page->copy_gpa, NULL);
		free(page->marks);
		page->marks = NULL;
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
	free(page->marks);
	page->marks = NULL;
	page->copy = NULL;
	return 0;
}

int page_update(struct hvmi_hooks *hooks, struct place *page, struct hvmi_error *err)
{
	int rc = view_need(hooks, err);
	if (!rc && page->int3s && !page->copy)
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
	if (rights == page->rights)
		return 0;
	rc = hvmi_view_set_rights(hooks->events, hooks->view, page->key, 1, rights, err);
	if (!rc)
		page->rights = rights;
	return rc;
}

void page_resync(struct hvmi_hooks *hooks, struct place *page)
{
	uint8_t bytes[FRAME_SIZE];
	if (!page->copy || hvmi_vm_read(hooks->vm, page->key, bytes, sizeof(bytes), NULL))
		return;
	for (uint32_t i = 0; i < MARKS; i++)
		for (uint64_t left = page->marks[i]; left; left &= left - 1) {
			uint32_t at = 64 * i + (uint32_t)__builtin_ctzll(left);
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
	if (hooks->options.journal) {
		int rc = hvmi_patch_place(hooks->options.journal, &patch, err);
		place->patch = rc ? 0 : patch.id;
		return rc;
	}
	int rc = hvmi_vm_write(hooks->vm, place->key, &int3, 1, NULL);
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

int int3_put(struct hvmi_hooks *hooks, struct place *place, struct hvmi_error *err)
{
	int rc = read_original(hooks, place, err);
	if (!rc && place->hidden) {
		place->page->int3s++;
		rc = page_update(hooks, place->page, err);
		if (rc) {
			place->page->int3s--;
			page_update(hooks, place->page, NULL);
			return rc;
		}
		mark(place->page, place->key, true);
		place->page->copy[place->key % FRAME_SIZE] = INT3;
	} else if (!rc) {
		rc = put_plain(hooks, place, err);
	}
	place->placed = !rc;
	return rc;
}

int int3_take(struct hvmi_hooks *hooks, struct place *place, struct hvmi_error *err)
{
	int rc = 0;
	if (place->hidden) {
		place->page->copy[place->key % FRAME_SIZE] = place->original;
		mark(place->page, place->key, false);
		place->page->int3s--;
		rc = page_update(hooks, place->page, err);
		if (rc) {
			place->page->int3s++;
			mark(place->page, place->key, true);
			place->page->copy[place->key % FRAME_SIZE] = INT3;
		}
	} else {
		rc = take_plain(hooks, place, err);
	}
	place->placed = rc != 0;
	return rc;
}
