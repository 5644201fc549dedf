/* SPDX-License-Identifier: Apache-2.0 */
/* Lists of the guest. */
#ifndef HVMI_LIB_LIST_H
#define HVMI_LIB_LIST_H

#include <hvmi/space.h>

#include "util/util.h"

/*
 * A walk along a circular, doubly linked list whose links are two pointers, next then previous:
 * Linux's struct list_head, Windows' LIST_ENTRY.
 */
struct list_walk {
	struct hvmi_space *space;
	uint64_t head, at;
	uint64_t before;	/* the link that led to `at` */
	uint64_t damaged;	/* the link behind which the list is broken, once it is */
	struct hvmi_error damage;
	uint32_t left;		/* steps that it may still take */
	uint32_t pointer_bytes;
	bool broken, done;
	bool live;		/* set after list_begin(): the machine runs meanwhile */
};
/* `pointer_bytes` is 4 or 8; `bound`: most entries that are believed. */
void list_begin(struct list_walk *walk, struct hvmi_space *space, uint64_t head, uint32_t pointer_bytes,
		uint32_t bound);
/*
 * The next link: 1, or 0 back at the head. -EBADMSG: the links do not agree, or there is no memory,
 * and all that can be reached from either end was given; -EOVERFLOW: the bound is reached. After
 * anything but 1 the walk has ended.
 *
 * Of a running machine a list is not followed from its other end. The link that was given before has
 * to hold still when the next one is given, else -EBUSY: an entry that was taken out keeps its way
 * on, and one that was put in again elsewhere has another one.
 */
int list_next(struct list_walk *walk, uint64_t *link_ret, const char *what,
	      struct hvmi_error *err);

/* Whether the link that was given last and the one before it link to each other now. */
bool list_holds(const struct list_walk *walk);

#endif
