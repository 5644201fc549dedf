/* SPDX-License-Identifier: Apache-2.0 */
#include "space/space.h"

/* A copy of the entries [first, end) of a table: each is read once a visit. */
struct table {
	uint64_t rights;	/* of the way to it */
	uint32_t first, end;
	uint8_t bytes[SPACE_TABLE_ENTRIES_MAX * 4];
};

/* A walk over all entries between two addresses, in the order of addresses. */
struct tour {
	struct hvmi_space *space;
	uint64_t linear;	/* where it is */
	uint64_t last;
	uint32_t depth;		/* of the table it is in; 0: the root */
	struct table tables[SPACE_LEVELS_MAX];
};

static uint64_t span_mask(const struct space_level *level)
{
	return (1ull << level->shift) - 1;
}

/* What of a table lies where no RAM is stays out of [first, end). */
static int tour_load(struct tour *tour, uint32_t depth, uint64_t gpa, uint64_t rights)
{
	const struct hvmi_space *space = tour->space;
	const struct space_level *level = &space->levels[depth];
	struct table *table = &tour->tables[depth];
	uint32_t first = tour->linear >> level->shift & level->index_mask, last = level->index_mask;
	uint64_t table_mask = (uint64_t)level->index_mask << level->shift | span_mask(level);
	if (tour->last - tour->linear <= table_mask - (tour->linear & table_mask))
		last = tour->last >> level->shift & level->index_mask;
	size_t size = (size_t)(last - first + 1) << space->entry_shift, done;
	uint64_t from = gpa + ((uint64_t)first << space->entry_shift);
	int rc = hvmi_vm_read(space->vm, from, table->bytes, size, &done);
	if (rc && rc != -EFAULT)
		return rc;
	table->rights = rights;
	table->first = first;
	table->end = first + (uint32_t)(done >> space->entry_shift);
	tour->depth = depth;
	return 0;
}

static uint64_t tour_entry(const struct tour *tour)
{
	const struct space_level *level = &tour->space->levels[tour->depth];
	const struct table *table = &tour->tables[tour->depth];
	uint32_t index = tour->linear >> level->shift & level->index_mask;
	if (index >= table->end)
		return 0;
	return entry_load(table->bytes + ((size_t)(index - table->first)
					  << tour->space->entry_shift), tour->space->entry_shift);
}

/* To what the next entry covers, up into the table that holds it. */
static void tour_advance(struct tour *tour)
{
	const struct space_level *levels = tour->space->levels;
	tour->linear = (tour->linear | span_mask(&levels[tour->depth])) + 1;
	while (tour->depth && !(tour->linear & span_mask(&levels[tour->depth - 1])))
		tour->depth--;
}

/*
 * The run that starts at tour->linear or, if nothing is mapped there, the first one behind it.
 * As hvmi_space_next_mapping(); tour->linear is left behind the run or where to go on.
 */
static int tour_next_run(struct tour *tour, struct hvmi_mapping *run)
{
	struct hvmi_space *space = tour->space;
	uint64_t half = 1ull << (space->address_bits - 1);
	for (uint32_t budget = HVMI_SPACE_STEP_BUDGET; tour->linear <= tour->last; budget--) {
		if (!budget)
			return run->len ? 1 : -EOVERFLOW;
		/* The halves of the space touch here, but not as 64-bit addresses. */
		if (run->len && space->sign_extended && tour->linear == half)
			return 1;
		const struct space_level *level = &space->levels[tour->depth];
		uint64_t entry = tour_entry(tour);
		enum entry_kind kind = entry_kind(level, entry);
		uint64_t rights = rights_combine(tour->tables[tour->depth].rights, level, entry);
		if (kind == ENTRY_KIND_TABLE) {
			uint64_t table = entry & space->table_mask;
			int rc = tour_load(tour, tour->depth + 1, table, rights);
			if (rc == 0)
				continue;
			if (!run->len)
				tour_advance(tour);
			return run->len ? 1 : rc;
		}
		if (kind != ENTRY_KIND_PAGE) {
			if (run->len)
				return 1;
			tour_advance(tour);
			continue;
		}
		uint64_t offset = tour->linear & span_mask(level);
		uint64_t gpa = entry_page(level, entry) | offset;
		if (!run->len) {
			run->gva = space_gva(space, tour->linear);
			run->gpa = gpa;
			run->rights = rights_public(rights);
		} else if (run->gpa + run->len != gpa || run->rights != rights_public(rights)) {
			return 1;
		}
		run->len += span_mask(level) + 1 - offset;
		tour_advance(tour);
	}
	return run->len != 0;
}

/* [gva, last] as linear addresses, the canonical hole left out; false: nothing of it is. */
static bool clip(const struct hvmi_space *space, uint64_t gva, uint64_t last, uint64_t *first_ret,
		 uint64_t *last_ret)
{
	uint64_t half = 1ull << (space->address_bits - 1);
	/* UINT64_MAX is where a run at the very end leaves a cursor. */
	if (gva > last || gva == UINT64_MAX)
		return false;
	if (!space_linear(space, gva, first_ret)) {
		if (!space->sign_extended)
			return false;
		*first_ret = half;
	}
	if (!space_linear(space, last, last_ret))
		*last_ret = space->sign_extended ? half - 1 : half - 1 + half;
	return *first_ret <= *last_ret;
}

HVMI_API int hvmi_space_next_mapping(struct hvmi_space *space, uint64_t *cursor, uint64_t last,
				     struct hvmi_mapping *ret)
{
	struct hvmi_mapping run = { .len = 0 };
	struct tour tour;
	tour.space = space;
	if (!clip(space, *cursor, last, &tour.linear, &tour.last))
		return 0;
	int rc;
	if (!space->level_count) {
		run = (struct hvmi_mapping){ .gva = tour.linear, .gpa = tour.linear,
					     .len = tour.last - tour.linear + 1,
					     .rights = rights_public(RIGHTS_ALL) };
		tour.linear = tour.last + 1;
		rc = 1;
	} else {
		rc = tour_load(&tour, 0, space->root, RIGHTS_ALL);
		if (rc)
			tour.linear = tour.last + 1;
		else
			rc = tour_next_run(&tour, &run);
	}
	if (rc == 0)
		return 0;
	if (tour.linear > tour.last) {
		uint64_t over = tour.linear - tour.last - 1;
		run.len -= MIN(run.len, over);
	}
	if (rc == 1 && result_copy(ret, &run, sizeof(run)))
		return -EINVAL;
	if (tour.linear <= tour.last)
		*cursor = space_gva(space, tour.linear);
	else
		*cursor = last == UINT64_MAX ? UINT64_MAX : last + 1;
	return rc;
}
