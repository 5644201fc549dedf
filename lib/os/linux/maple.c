/* SPDX-License-Identifier: Apache-2.0 */
#include "os/linux/maple.h"

#include <inttypes.h>

/* A pointer to a node carries its type in bits 3 to 6. */
enum { MAPLE_LEAF_64 = 1, MAPLE_RANGE_64 = 2, MAPLE_ARANGE_64 = 3 };
#define NODE_MASK UINT64_C(0xff)
/* The lowest two bits of an entry that is neither a value nor a pointer: xa_is_internal(). */
#define INTERNAL_MASK 3u
#define INTERNAL 2u

static int push(struct maple_walk *walk, uint64_t encoded, uint64_t first, uint64_t last,
		struct hvmi_error *err)
{
	uint32_t type = (encoded >> 3) & 15;
	uint64_t gva = encoded & ~NODE_MASK;
	if (walk->depth == MAPLE_DEPTH_MAX || walk->nodes_left == 0)
		return hvmi_error_set(err, -EOVERFLOW, gva,
				      "the tree of regions is deeper or larger than Linux makes it");
	if (type != MAPLE_LEAF_64 && type != MAPLE_RANGE_64 && type != MAPLE_ARANGE_64)
		return hvmi_error_set(err, -EBADMSG, gva,
				      "the tree of regions has a node of unknown type %u", type);
	walk->nodes_left--;
	struct maple_level *level = &walk->levels[walk->depth];
	if (hvmi_space_read(walk->space, gva, level->bytes, sizeof(level->bytes), NULL))
		return hvmi_error_set(err, -EBADMSG, gva,
				      "a node of the tree of regions at 0x%" PRIx64 " is not in "
				      "memory", gva);
	/* A node that was taken out of the tree is its own parent. */
	if ((level->bytes[0] & ~NODE_MASK) == gva)
		return hvmi_error_set(err, -EBADMSG, gva,
				      "a node of the tree of regions at 0x%" PRIx64 " is dead", gva);
	level->gva = gva;
	level->first = level->next = first;
	level->last = last;
	level->slot = 0;
	level->leaf = type == MAPLE_LEAF_64;
	level->occupied = false;
	level->root = first == 0 && last == UINT64_MAX && walk->depth == 0;
	/* Slots and pivots of the two kinds of nodes lie differently. */
	const struct hvmi_member *members = linux_data(walk->os)->members;
	level->pivots = members[type == MAPLE_ARANGE_64 ? LINUX_ARANGE_PIVOT : LINUX_RANGE_PIVOT];
	level->slots = members[type == MAPLE_ARANGE_64 ? LINUX_ARANGE_SLOT : LINUX_RANGE_SLOT];
	walk->depth++;
	return 0;
}

int maple_begin(struct maple_walk *walk, const struct hvmi_os *os, struct hvmi_space *space,
		uint64_t root, struct hvmi_error *err)
{
	const struct hvmi_member *members = linux_data(os)->members;
	static const enum linux_member needed[] = { LINUX_RANGE_PIVOT, LINUX_RANGE_SLOT,
						    LINUX_ARANGE_PIVOT, LINUX_ARANGE_SLOT };
	int rc = linux_require(os, "regions", needed, ARRAY_SIZE(needed), err);
	if (rc)
		return rc;
	for (size_t i = 0; i < ARRAY_SIZE(needed); i++) {
		const struct hvmi_member *m = &members[needed[i]];
		if (m->bytes > MAPLE_NODE_BYTES || m->hops[0] > MAPLE_NODE_BYTES - m->bytes ||
		    m->hops[0] % 8 || m->bytes < 8)
			return hvmi_error_set(err, -ENOTSUP, HVMI_NO_ADDRESS,
					      "this kernel's maple tree has larger nodes than "
					      "%u bytes", MAPLE_NODE_BYTES);
	}
	walk->os = os;
	walk->space = space;
	walk->depth = 0;
	walk->nodes_left = MAPLE_NODES_MAX;
	/* An empty tree, or a single entry at index 0, where no region can be. */
	if ((root & INTERNAL_MASK) != INTERNAL || root <= FRAME_SIZE)
		return 0;
	return push(walk, root, 0, UINT64_MAX, err);
}

/* Of the slot at level->slot: its last index. Returns false if the pivots make no sense. */
static bool slot_end(const struct maple_level *level, uint64_t *ret)
{
	uint32_t pivot_count = (uint32_t)(level->pivots.bytes / 8);
	uint64_t pivot = level->slot < pivot_count ?
				 level->bytes[level->pivots.hops[0] / 8 + level->slot] :
				 level->last;
	/* A pivot of 0 behind the first slot: this one goes to the node's end. */
	if (pivot == 0 && level->slot > 0)
		pivot = level->last;
	if (pivot < level->next || pivot > level->last)
		return false;
	*ret = pivot;
	return true;
}

int maple_next(struct maple_walk *walk, uint64_t *entry_ret, uint64_t *first_ret,
	       uint64_t *last_ret, struct hvmi_error *err)
{
	while (walk->depth) {
		struct maple_level *level = &walk->levels[walk->depth - 1];
		uint64_t last;
		if (level->slot >= level->slots.bytes / 8 || !slot_end(level, &last)) {
			walk->depth = 0;
			return hvmi_error_set(err, -EBADMSG, level->gva,
					      "a node of the tree of regions at 0x%" PRIx64
					      " is malformed", level->gva);
		}
		uint64_t entry = level->bytes[level->slots.hops[0] / 8 + level->slot];
		uint64_t first = level->next, gva = level->gva;
		level->slot++;
		level->next = last + 1;
		level->occupied |= entry != 0;
		/* Pop before anything goes below: the node may have been visited to its end. */
		bool leaf = level->leaf, root = level->root;
		if (last == level->last)
			walk->depth--;
		/*
		 * Linux keeps no node without entries but the root. Believing in some would let a
		 * small tree take forever to show nothing.
		 */
		if (entry == 0 && !root && (!leaf || (last == level->last && !level->occupied))) {
			walk->depth = 0;
			return hvmi_error_set(err, -EBADMSG, gva,
					      "a node of the tree of regions at 0x%" PRIx64
					      " is empty", gva);
		}
		if (entry == 0)
			continue;
		if (leaf && !(entry & INTERNAL_MASK)) {
			*entry_ret = entry;
			*first_ret = first;
			*last_ret = last;
			return 1;
		}
		if (!leaf) {
			int rc = push(walk, entry, first, last, err);
			if (rc) {
				walk->depth = 0;
				return rc;
			}
		}
	}
	return 0;
}
