/* SPDX-License-Identifier: Apache-2.0 */
/* Many members of one object and of what it points to, read by a few copies of the memory around them. */
#ifndef HVMI_LIB_WINDOW_H
#define HVMI_LIB_WINDOW_H

#include <hvmi/profile.h>

#include "space/space.h"

#define WINDOW_IDS 64u		/* members are known by numbers below it */
#define WINDOW_PIECES 16u
#define WINDOW_BYTES 1024u
#define WINDOW_MARK_BYTES 128u

#define WINDOW_OWN UINT8_MAX

/* Which pieces of an object, and of what its pointers lead to, hold its members; made once. */
struct window_plan {
	const struct hvmi_member *members;	/* the operating system's table, by id */
	uint32_t count, piece_count, own_count;
	uint32_t own_len;	/* of the object, to the end of the last of its own pieces */
	uint8_t ids[WINDOW_IDS];
	uint64_t deep;		/* bits by id: marks follow its pointers */
	struct space_piece pieces[WINDOW_PIECES];	/* the object's own first */
	uint8_t pointers[WINDOW_PIECES];	/* the id of a member that leads there, or WINDOW_OWN */
	struct {
		uint16_t at, bytes;	/* in the copy; 0 bytes: it is not in it */
		uint8_t piece;
		uint8_t whole;		/* 4 or 8: a number of so many whole bytes; 0: anything else */
		bool is_signed;
		uint8_t number_piece;	/* where that number is: of the object, or behind its pointer */
		uint16_t number_at;
	} places[WINDOW_IDS];
};

/*
 * A plan for members[ids[...]]. A member that lies too far from the others, or is too large, is read by
 * itself; one that the kernel lacks is left out.
 */
void window_plan(struct window_plan *plan, const struct hvmi_member *members, const uint8_t *ids,
		 size_t count, uint64_t deep);

struct window {
	const struct window_plan *plan;
	struct hvmi_space *space;
	uint64_t object;
	uint32_t tried, copied;		/* bits of pieces */
	uint8_t bytes[WINDOW_BYTES];
};

/*
 * Copy the pieces of an object; those behind pointers when something of them is asked for. What cannot be copied is
 * tried member by member.
 */
void window_open(struct window *window, const struct window_plan *plan, struct hvmi_space *space,
		 uint64_t object);
/* One piece, once; false: it could not be copied. */
bool window_copy(struct window *window, uint32_t piece);
/* As window_read(), whatever the member is. */
int window_read_any(const struct window *window, uint32_t id, uint64_t *ret);

/* As hvmi_member_read(); -ENOENT: the kernel lacks it. */
static inline int window_read(struct window *window, uint32_t id, uint64_t *ret)
{
	const struct window_plan *plan = window->plan;
	const uint32_t piece = plan->places[id].number_piece, whole = plan->places[id].whole;
	const uint8_t *bytes = window->bytes + plan->places[id].number_at;
	if (!whole || (!(window->copied >> piece & 1) && !window_copy(window, piece)))
		return window_read_any(window, id, ret);
	if (whole == 8)
		*ret = load_le64(bytes);
	else if (plan->places[id].is_signed)
		*ret = (uint64_t)(int64_t)(int32_t)load_le32(bytes);
	else
		*ret = load_le32(bytes);
	return 0;
}

/* The bytes of a member that is no number. */
int window_bytes(const struct window *window, uint32_t id, void *buf, size_t len);

/*
 * What the members hold, and where pointers in them lead to, not what is there, but for those of
 * plan->deep: bytes in `marks`, or 0 if they could not be read.
 */
size_t window_marks(struct window *window, uint8_t marks[WINDOW_MARK_BYTES]);

#endif
