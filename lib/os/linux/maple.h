/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The maple tree, which holds a process's regions since Linux 6.1: Documentation/core-api/
 * maple_tree.rst, include/linux/maple_tree.h.
 */
#ifndef HVMI_LIB_MAPLE_H
#define HVMI_LIB_MAPLE_H

#include "os/linux/linux.h"

#define MAPLE_NODE_BYTES 256u
#define MAPLE_DEPTH_MAX 16u
/* Most nodes that one walk visits: 2^20 hold more regions than a process can have. */
#define MAPLE_NODES_MAX 1048576u

struct maple_walk {
	const struct hvmi_os *os;
	struct hvmi_space *space;
	uint32_t depth;		/* 0: nothing (more) to visit */
	uint32_t nodes_left;
	struct maple_level {
		uint64_t bytes[MAPLE_NODE_BYTES / 8];	/* a copy of the node */
		uint64_t gva, first, last;		/* of the node: indices it covers */
		uint64_t next;				/* the first index not visited yet */
		uint32_t slot;				/* that holds it */
		bool leaf, occupied, root;
		struct hvmi_member pivots, slots;	/* where this kind of node has them */
	} levels[MAPLE_DEPTH_MAX];
};

/* `root` is the tree's ma_root. */
int maple_begin(struct maple_walk *walk, const struct hvmi_os *os, struct hvmi_space *space,
		uint64_t root, struct hvmi_error *err);

/* The next entry and the indices it covers: 1, 0 at the end, -EBADMSG, -EOVERFLOW. */
int maple_next(struct maple_walk *walk, uint64_t *entry_ret, uint64_t *first_ret,
	       uint64_t *last_ret, struct hvmi_error *err);

#endif
