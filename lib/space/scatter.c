/* SPDX-License-Identifier: Apache-2.0 */
#include "space/cache.h"

/*
 * Many pieces at once. A piece alone waits for memory once for each level of the page tables and once
 * for its bytes; in a batch those waits go on at the same time. Only prefetching is done ahead: the
 * reads themselves are the ordinary ones, and find all that they need near.
 */
#define BATCH 32u
#define SORTED_BATCH 256u
/* Pieces of one page are read in one go if no more than this lies between them. */
#define GAP_MAX 256u

struct ahead {
	const struct hvmi_space *space;
	uint64_t linear, table;
	uint32_t depth;
};

static void prefetch_bytes(const struct hvmi_vm *vm, const struct hvmi_space *space, uint64_t gpa)
{
	if (space && gpa - space->window.gpa < space->window.starts) {
		__builtin_prefetch((const void *)(space->window.to_host + gpa));
		return;
	}
	uint64_t left;
	const void *host = vm_pointer(vm, gpa, &left);
	if (host)
		__builtin_prefetch(host);
}

/* Where the entry is that comes next; false: not near enough to be told. */
static bool prefetch_entry(const struct ahead *a)
{
	const struct space_level *level = &a->space->levels[a->depth];
	uint64_t at = a->table + ((a->linear >> level->shift & level->index_mask) << 3);
	if (at - a->space->window.gpa >= a->space->window.starts)
		return false;
	__builtin_prefetch((const void *)(a->space->window.to_host + at));
	return true;
}

/* One level further. false: this one is through. */
static bool advance(const struct hvmi_vm *vm, struct ahead *a)
{
	const struct hvmi_space *space = a->space;
	const struct space_level *level = &space->levels[a->depth];
	uint64_t at = a->table + ((a->linear >> level->shift & level->index_mask) << 3);
	uint64_t entry = entry_load((const void *)(space->window.to_host + at), 3);
	enum entry_kind kind = entry_kind(level, entry);
	if (kind == ENTRY_KIND_PAGE)
		prefetch_bytes(vm, space, entry_page(level, entry) |
						  (a->linear & ((1ull << level->shift) - 1)));
	if (kind != ENTRY_KIND_TABLE || ++a->depth == space->level_count)
		return false;
	a->table = entry & space->table_mask;
	return prefetch_entry(a);
}

static void prefetch_batch(const struct hvmi_vm *vm, const struct hvmi_io *items, size_t count)
{
	struct ahead ahead[BATCH];
	uint32_t left = 0;
	for (size_t i = 0; i < count; i++) {
		struct hvmi_space *space = items[i].space;
		struct ahead a = { .space = space };
		struct cached at;
		__builtin_prefetch(items[i].buf, 1);
		if (!space) {
			prefetch_bytes(vm, NULL, items[i].address);
			continue;
		}
		if (space->cache && cache_find(space->cache, items[i].address, &at)) {
			const uint8_t *host = space->cache->sets[at.set].hosts[at.way];
			if (host)
				__builtin_prefetch(host + at.offset);
			continue;
		}
		a.table = space->root;
		if (space->direct && space->level_count &&
		    space_linear(space, items[i].address, &a.linear) && prefetch_entry(&a))
			ahead[left++] = a;
	}
	while (left) {
		uint32_t kept = 0;
		for (uint32_t i = 0; i < left; i++)
			if (advance(vm, &ahead[i]))
				ahead[kept++] = ahead[i];
		left = kept;
	}
}

static void item_run(struct hvmi_vm *vm, struct hvmi_io *item, bool write)
{
	item->done = 0;
	if (item->space && item->space->vm != vm)
		item->status = -EINVAL;
	else if (item->space)
		item->status = write ? hvmi_space_write(item->space, item->address, item->buf,
							item->len, &item->done) :
				       hvmi_space_read(item->space, item->address, item->buf,
						       item->len, &item->done);
	else
		item->status = write ? hvmi_vm_write(vm, item->address, item->buf, item->len,
						     &item->done) :
				       hvmi_vm_read(vm, item->address, item->buf, item->len,
						    &item->done);
}

static int by_address(const void *a, const void *b)
{
	const struct hvmi_io *x = *(const struct hvmi_io *const *)a;
	const struct hvmi_io *y = *(const struct hvmi_io *const *)b;
	if (x->space != y->space)
		return (uintptr_t)x->space < (uintptr_t)y->space ? -1 : 1;
	return x->address < y->address ? -1 : x->address > y->address;
}

/* The bytes from the first of these that lie in its page and near each other, and how many items. */
static size_t coalesce(struct hvmi_io *const *items, size_t count, size_t *len_ret)
{
	uint64_t start = items[0]->address, room = FRAME_SIZE - start % FRAME_SIZE, end = 0;
	size_t n = 0;
	for (; n < count && items[n]->space == items[0]->space; n++) {
		uint64_t offset = items[n]->address - start;
		if (offset > end + GAP_MAX || offset > room || items[n]->len > room - offset)
			break;
		end = MAX(end, offset + items[n]->len);
	}
	*len_ret = end;
	return n;
}

/* Where each access is a call of the backend: few calls, in the order of addresses. */
static void read_sorted(struct hvmi_vm *vm, struct hvmi_io *items, size_t count)
{
	struct hvmi_io *sorted[SORTED_BATCH];
	uint8_t bytes[FRAME_SIZE];
	for (size_t i = 0; i < count; i++)
		sorted[i] = &items[i];
	qsort(sorted, count, sizeof(*sorted), by_address);
	for (size_t i = 0, n; i < count; i += n) {
		size_t len;
		n = coalesce(&sorted[i], count - i, &len);
		struct hvmi_io all = { .space = sorted[i]->space, .address = sorted[i]->address,
				       .buf = bytes, .len = len };
		if (n > 1)
			item_run(vm, &all, false);
		else
			n = 1;
		for (size_t k = i; k < i + n; k++) {
			if (n == 1 || all.status) {
				item_run(vm, sorted[k], false);
				continue;
			}
			memcpy(sorted[k]->buf, bytes + (sorted[k]->address - all.address),
			       sorted[k]->len);
			sorted[k]->done = sorted[k]->len;
			sorted[k]->status = 0;
		}
	}
}

static int first_error(const struct hvmi_io *items, size_t count)
{
	for (size_t i = 0; i < count; i++)
		if (items[i].status)
			return items[i].status;
	return 0;
}

HVMI_API int hvmi_read_v(struct hvmi_vm *vm, struct hvmi_io *items, size_t count)
{
	size_t step = vm->pointers && !vm->physmap ? BATCH : SORTED_BATCH;
	for (size_t i = 0; i < count; i += step) {
		size_t n = MIN(step, count - i);
		if (step == SORTED_BATCH) {
			read_sorted(vm, items + i, n);
			continue;
		}
		prefetch_batch(vm, items + i, n);
		for (size_t k = i; k < i + n; k++)
			item_run(vm, &items[k], false);
	}
	return first_error(items, count);
}

HVMI_API int hvmi_write_v(struct hvmi_vm *vm, struct hvmi_io *items, size_t count)
{
	/* In their order: they may overlap. */
	for (size_t i = 0; i < count; i++)
		item_run(vm, &items[i], true);
	return first_error(items, count);
}
