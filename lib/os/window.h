/* SPDX-License-Identifier: Apache-2.0 */
/* Many members of one object, read by a few copies of the memory around them. */
#ifndef HVMI_LIB_WINDOW_H
#define HVMI_LIB_WINDOW_H

#include <hvmi/profile.h>

#include "util/util.h"

#define WINDOW_IDS 64u		/* members are known by numbers below it */
#define WINDOW_PIECES 8u
#define WINDOW_BYTES 1024u
#define WINDOW_MARK_BYTES 128u

/* Which pieces of an object hold its members; made once. */
struct window_plan {
	const struct hvmi_member *members;	/* the operating system's table, by id */
	uint32_t count, piece_count;
	uint8_t ids[WINDOW_IDS];
	uint64_t deep;		/* bits by id: marks follow its pointers */
	struct {
		uint32_t from, len, at;	/* offset in the object, bytes, offset in the copy */
	} pieces[WINDOW_PIECES];
	struct {
		uint16_t at, bytes;	/* in the copy; 0 bytes: it is not in it */
		uint8_t piece;
		uint8_t whole;		/* 4 or 8: a number of so many whole bytes, in the copy or behind
					 * a pointer in it; 0: anything else */
		bool is_signed, behind;
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
	uint32_t missing;		/* bit i: piece i could not be copied */
	uint8_t bytes[WINDOW_BYTES];
};

/* Copy the pieces of an object. What cannot be copied is tried member by member when it is asked for. */
void window_open(struct window *window, const struct window_plan *plan, struct hvmi_space *space,
		 uint64_t object);
/* As hvmi_member_read(); -ENOENT: the kernel lacks it. */
int window_read(const struct window *window, uint32_t id, uint64_t *ret);
/* The bytes of a member that is no number. */
int window_bytes(const struct window *window, uint32_t id, void *buf, size_t len);

/*
 * What the members hold, and where pointers in them lead to, not what is there, but for those of
 * plan->deep: bytes in `marks`, or 0 if they could not be read.
 */
size_t window_marks(const struct window *window, uint8_t marks[WINDOW_MARK_BYTES]);

#endif
