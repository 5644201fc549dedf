/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Translations that are remembered, and never stale: with each is kept which entries of the page
 * tables it came from and what they held, and it is believed only while they hold that. The check comes
 * after the copy, so what was copied was mapped there at one moment of the call. While a machine does
 * not run (hvmi_vm.still) nothing changes and nothing is checked.
 */
#ifndef HVMI_LIB_CACHE_H
#define HVMI_LIB_CACHE_H

#include "space/space.h"

#define CACHE_WAYS 4u
#define CACHE_SMALL_SETS 1024u	/* pages of 4 KiB, and pieces of larger ones that do not lie in one piece */
#define CACHE_LARGE_SETS 256u	/* 2 MiB, and pieces of larger ones */
#define CACHE_SETS (CACHE_SMALL_SETS + CACHE_LARGE_SETS)
#define CACHE_SMALL_SHIFT 12u
#define CACHE_LARGE_SHIFT 21u

/* A tag: which turn of the cache, and the number of the page; 0: empty. */
#define TAG_TURN_SHIFT 52
#define TAG_TURNS 4096u

/* One line. */
struct cache_set {
	uint64_t tags[CACHE_WAYS];
	const uint8_t *hosts[CACHE_WAYS];	/* of the page's first byte; NULL: copied by hvmi_vm_read() */
} __attribute__((aligned(64)));

/* What makes a translation true. */
struct cache_proof {
	uint64_t sequence;	/* of the physmap when the pointers were found; 0 without one */
	uint32_t count;
	bool by_gpa;		/* places are guest-physical addresses, else host pointers */
	uint64_t places[SPACE_LEVELS_MAX];
	uint64_t values[SPACE_LEVELS_MAX];
};

struct space_cache {
	struct hvmi_space_config config;	/* whose translations they are */
	struct physmap *map;	/* without it pointers are good for ever */
	uint64_t still;		/* hvmi_vm.still of this turn */
	uint64_t turn;		/* as in the tags, never 0 */
	uint32_t victim;
	bool large_first;
	struct cache_set sets[CACHE_SETS];	/* the small ones first */
	uint64_t gpas[CACHE_SETS][CACHE_WAYS];	/* of the page's first byte */
	struct cache_proof proofs[CACHE_SETS][CACHE_WAYS];
};

/* A translation in the cache. */
struct cached {
	uint32_t set, way;
	uint64_t offset;	/* in its page */
	uint64_t left;		/* to the page's end */
};

/* A new turn, in which nothing that is in the cache is valid, for what vm->still is now. */
void cache_turn(struct space_cache *cache, uint64_t still);

/* Remember a translation; makes the cache if there is none yet. Running out of memory is no matter. */
void cache_fill(struct hvmi_space *space, uint64_t still, uint64_t gva, uint64_t gpa, uint32_t shift,
		const struct walk_record *record);
/* Give back a space's cache; the machine keeps one for the next space. NULL is allowed. */
void space_cache_release(struct hvmi_vm *vm, struct space_cache *cache);

/* Do the entries hold what they held? Call it after the copy. */
bool record_holds(struct hvmi_space *space, const struct walk_record *record);
bool cache_holds(struct hvmi_space *space, uint32_t set, uint32_t way);

/* The same where proof->places are pointers, which must be valid. */
static inline bool proof_holds(const struct hvmi_space *space, const struct cache_proof *proof)
{
	uint64_t changed = 0;
	/* After the copy, whatever order the processor likes. */
	fence_loads();
	if (__builtin_expect(space->entry_shift == 3, 1))
		for (uint32_t i = 0; i < proof->count; i++)
			changed |= entry_load((const void *)proof->places[i], 3) ^ proof->values[i];
	else
		for (uint32_t i = 0; i < proof->count; i++)
			changed |= entry_load((const void *)proof->places[i], 2) ^ proof->values[i];
	return !(changed & ~space->noted);
}

static inline uint32_t cache_way(const struct cache_set *set, uint64_t tag)
{
	/* Not a search with a branch for each: which way it is cannot be predicted. */
	return (uint32_t)(set->tags[0] == tag) | (uint32_t)(set->tags[1] == tag) << 1 |
	       (uint32_t)(set->tags[2] == tag) << 2 | (uint32_t)(set->tags[3] == tag) << 3;
}

/* The sets of a size of pages, and where a page of it is. */
static inline uint32_t cache_index(uint32_t shift, uint64_t page)
{
	return shift == CACHE_SMALL_SHIFT ?
	       (uint32_t)(page ^ page >> 10) & (CACHE_SMALL_SETS - 1) :
	       CACHE_SMALL_SETS + ((uint32_t)(page ^ page >> 8) & (CACHE_LARGE_SETS - 1));
}

static inline __attribute__((always_inline)) bool
cache_find_size(const struct space_cache *cache, uint64_t gva, uint32_t shift, struct cached *ret)
{
	uint64_t page = gva >> shift;
	uint32_t set = cache_index(shift, page);
	uint32_t ways = cache_way(&cache->sets[set], page | cache->turn);
	if (__builtin_expect(!ways, 0))
		return false;
	ret->set = set;
	ret->way = (uint32_t)__builtin_ctz(ways);
	ret->offset = gva & ((1ull << shift) - 1);
	ret->left = (1ull << shift) - ret->offset;
	return true;
}

/* cache must be of this turn. The size that was found last is tried first. */
static inline bool cache_find(struct space_cache *cache, uint64_t gva, struct cached *ret)
{
	if (cache->large_first) {
		if (cache_find_size(cache, gva, CACHE_LARGE_SHIFT, ret))
			return true;
		if (!cache_find_size(cache, gva, CACHE_SMALL_SHIFT, ret))
			return false;
		cache->large_first = false;
		return true;
	}
	if (cache_find_size(cache, gva, CACHE_SMALL_SHIFT, ret))
		return true;
	if (!cache_find_size(cache, gva, CACHE_LARGE_SHIFT, ret))
		return false;
	cache->large_first = true;
	return true;
}

#endif
