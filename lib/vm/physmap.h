/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Guest-physical memory of a backend that maps pages: a radix of chunks, each mapped whole when it is
 * first touched, within a budget of bytes.
 *
 * Readers take no lock. What is found in the radix may be used between physmap_enter() and
 * physmap_exit(): a chunk is taken out of the radix first, then everyone is waited for who could have
 * found it, then it is unmapped. So nothing may be waited for, and no method of the backend called,
 * in between.
 */
#ifndef HVMI_LIB_PHYSMAP_H
#define HVMI_LIB_PHYSMAP_H

#include <pthread.h>
#include <stdatomic.h>

#include <hvmi/vm.h>

#include "util/util.h"

#define CHUNK_SHIFT 21
#define CHUNK_SIZE (1ull << CHUNK_SHIFT)
#define CHUNK_PAGES (CHUNK_SIZE / FRAME_SIZE)
#define LEAF_CHUNKS 512u
#define PHYSMAP_GPA_BITS 52	/* Intel SDM volume 3, 4.1.4: MAXPHYADDR is at most 52 */
#define PHYSMAP_BUDGET (256 * MIB)
#define READER_SLOTS 64u

/* The part of a 2 MiB chunk that lies in one range. */
struct chunk {
	/* These do not change while it is in the radix. */
	const uint8_t *host;
	uint64_t gpa;
	uint32_t pages;
	uint32_t absent_count;
	uint64_t absent[CHUNK_PAGES / 64];	/* a bit for each page that must not be touched */

	_Atomic(struct chunk *) sibling;	/* of another range in the same 2 MiB */
	_Atomic(uint8_t) used;		/* since the clock's hand went by */
	/* Of the lock. */
	bool dropped;			/* out of the radix; the last hold unmaps it */
	uint32_t holds;			/* of hvmi_vm_map() */
	uint32_t clock_index;
	struct chunk *next;		/* of what is held, or is about to be unmapped */
};

struct chunk_leaf {
	_Atomic(struct chunk *) chunks[LEAF_CHUNKS];
};

/* Readers that are inside, by the parity of the phase in which they came. */
struct reader_slot {
	_Atomic(uint32_t) inside[2];
	uint8_t apart[120];	/* two lines: the adjacent one is prefetched */
};

struct physmap {
	struct hvmi_vm *vm;
	/* 1 GiB each; as many as the machine's RAM reaches. */
	_Atomic(struct chunk_leaf *) *leaves;
	uint64_t leaf_count;
	/* Grows before a mapping goes: pointers that were found at another number are void. */
	_Atomic(uint64_t) sequence;
	_Atomic(uint32_t) phase;
	pthread_mutex_t lock;	/* of all below, and of changes of the radix */
	struct chunk **clock;	/* chunks that are in the radix */
	uint32_t clock_count, clock_size, hand;
	struct chunk *held;		/* what hvmi_vm_map() gave out, dropped or not */
	uint64_t budget, mapped;	/* bytes; what is being mapped counts */
	_Atomic(uint64_t) generation;	/* what the backend's map_generation() last said */
	struct reader_slot slots[READER_SLOTS];
};

/* budget: bytes, 0: PHYSMAP_BUDGET. */
int physmap_create(struct hvmi_vm *vm, uint64_t budget, struct physmap **ret);
/* Unmaps everything. NULL is allowed. */
void physmap_destroy(struct physmap *map);

/* Copy, as the backend's read() and write(), but as far as it goes: at most to the chunk's end. */
struct physmap_copy {
	uint8_t *to;		/* one of the two is NULL */
	const uint8_t *from;
};
/*
 * done_ret > 0, or an error: -EFAULT: no RAM, -ENOTSUP: this cannot be mapped, ask read() or
 * write().
 */
int physmap_copy(struct physmap *map, uint64_t gpa, struct physmap_copy copy, size_t len,
		 size_t *done_ret);

/* hvmi_vm_map() and hvmi_vm_unmap(). unhold: false: this is no mapping of ours. */
int physmap_hold(struct physmap *map, uint64_t gpa, size_t len, const void **ret);
bool physmap_unhold(struct physmap *map, const void *mapping);

/* Drop everything that is mapped if the backend says that it may be out of date. */
void physmap_refresh(struct physmap *map);

/* Begin to use what is in the radix. Returns what physmap_exit() wants. */
static inline _Atomic(uint32_t) *physmap_enter(struct physmap *map)
{
	uint64_t thread = (uint64_t)pthread_self() * 0x9e3779b97f4a7c15ull;
	uint32_t phase = atomic_load_explicit(&map->phase, memory_order_relaxed);
	_Atomic(uint32_t) *inside = &map->slots[thread >> 58].inside[phase & 1];
	/* Ordered before what is found in the radix is looked at, and before `sequence` is. */
	atomic_fetch_add(inside, 1);
	return inside;
}

static inline void physmap_exit(_Atomic(uint32_t) *inside)
{
	atomic_fetch_sub_explicit(inside, 1, memory_order_release);
}

/* The chunk that holds gpa, or NULL: not mapped now. Inside only. */
static inline struct chunk *physmap_chunk(const struct physmap *map, uint64_t gpa)
{
	uint64_t top = gpa >> CHUNK_SHIFT >> 9;
	if (top >= map->leaf_count)
		return NULL;
	struct chunk_leaf *leaf = atomic_load(&map->leaves[top]);
	struct chunk *chunk = leaf ? atomic_load(&leaf->chunks[gpa >> CHUNK_SHIFT & 511]) : NULL;
	while (chunk && gpa - chunk->gpa >= (uint64_t)chunk->pages * FRAME_SIZE)
		chunk = atomic_load(&chunk->sibling);
	return chunk;
}

static inline bool chunk_absent(const struct chunk *chunk, uint64_t page)
{
	return chunk->absent_count && (chunk->absent[page / 64] >> page % 64 & 1);
}

/*
 * Host pointer to gpa, NULL if it is not mapped now, and how many of the `want` bytes from there are
 * in one piece. Inside only.
 */
static inline const uint8_t *physmap_pointer(const struct physmap *map, uint64_t gpa,
					     uint64_t want, uint64_t *len_ret)
{
	struct chunk *chunk = physmap_chunk(map, gpa);
	if (!chunk)
		return NULL;
	uint64_t offset = gpa - chunk->gpa, end = (uint64_t)chunk->pages * FRAME_SIZE;
	if (chunk_absent(chunk, offset / FRAME_SIZE))
		return NULL;
	if (!atomic_load_explicit(&chunk->used, memory_order_relaxed))
		atomic_store_explicit(&chunk->used, 1, memory_order_relaxed);
	end = MIN(end - offset, want) + offset;
	for (uint64_t page = offset / FRAME_SIZE + 1; page * FRAME_SIZE < end; page++)
		if (chunk_absent(chunk, page))
			end = page * FRAME_SIZE;
	*len_ret = end - offset;
	return chunk->host + offset;
}

#endif
