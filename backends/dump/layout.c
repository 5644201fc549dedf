/* SPDX-License-Identifier: Apache-2.0 */
#include "image.h"

static int compare(const void *a, const void *b)
{
	const struct dump_piece *x = a, *y = b;
	if (x->gpa != y->gpa)
		return x->gpa < y->gpa ? -1 : 1;
	if (x->len != y->len)
		return x->len > y->len ? -1 : 1;
	return x->offset < y->offset ? -1 : x->offset > y->offset;
}

static bool continues(const struct dump_piece *last, const struct dump_piece *next)
{
	return last->gpa + last->len == next->gpa && last->offset + last->len == next->offset;
}

/* Sorts, cuts what is there already, joins what continues. */
static void compact(struct dump_layout *layout)
{
	size_t kept = 0;
	uint64_t end = 0;
	if (layout->count)
		qsort(layout->pieces, layout->count, sizeof(*layout->pieces), compare);
	for (size_t i = 0; i < layout->count; i++) {
		struct dump_piece piece = layout->pieces[i];
		if (piece.gpa < end) {
			uint64_t twice = MIN(end - piece.gpa, piece.len);
			if (__builtin_add_overflow(layout->overlap, twice, &layout->overlap))
				layout->overlap = UINT64_MAX;
			piece.gpa += twice;
			piece.len -= twice;
			piece.offset += twice;
			if (piece.len == 0)
				continue;
		}
		end = piece.gpa + piece.len;
		if (kept && continues(&layout->pieces[kept - 1], &piece))
			layout->pieces[kept - 1].len += piece.len;
		else
			layout->pieces[kept++] = piece;
	}
	layout->count = kept;
}

static int make_room(struct dump_layout *layout)
{
	if (layout->count < layout->capacity)
		return 0;
	compact(layout);
	/* Unless much was joined, the next time would be soon. */
	if (layout->capacity && layout->count <= layout->capacity / 2)
		return 0;
	if (layout->count > HVMI_RANGES_MAX)
		return -EOVERFLOW;
	size_t capacity = layout->capacity ? layout->capacity * 2 : 64;
	struct dump_piece *pieces = realloc(layout->pieces, capacity * sizeof(*pieces));
	if (!pieces)
		return -ENOMEM;
	layout->pieces = pieces;
	layout->capacity = capacity;
	return 0;
}

int layout_add(struct dump_layout *layout, uint64_t gpa, uint64_t len, uint64_t offset)
{
	if (len == 0)
		return 0;
	if (gpa > UINT64_MAX - len || offset > UINT64_MAX - len)
		return -EBADMSG;
	struct dump_piece piece = { .gpa = gpa, .len = len, .offset = offset };
	if (layout->count && continues(&layout->pieces[layout->count - 1], &piece)) {
		layout->pieces[layout->count - 1].len += len;
		return 0;
	}
	if (++layout->added > LAYOUT_ADDED_MAX)
		return -EOVERFLOW;
	int rc = make_room(layout);
	if (rc)
		return rc;
	layout->pieces[layout->count++] = piece;
	return 0;
}

int layout_settle(struct dump_layout *layout)
{
	compact(layout);
	return layout->count > HVMI_RANGES_MAX ? -EOVERFLOW : 0;
}

const struct dump_piece *layout_find(const struct dump_layout *layout, uint64_t gpa)
{
	size_t low = 0, high = layout->count;
	while (low < high) {
		size_t middle = low + (high - low) / 2;
		const struct dump_piece *piece = &layout->pieces[middle];
		if (gpa < piece->gpa)
			high = middle;
		else if (gpa - piece->gpa < piece->len)
			return piece;
		else
			low = middle + 1;
	}
	return NULL;
}

void layout_deinit(struct dump_layout *layout)
{
	free(layout->pieces);
	*layout = (struct dump_layout){ 0 };
}
