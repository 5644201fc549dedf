/* SPDX-License-Identifier: Apache-2.0 */
#include "space/cache.h"

#include <sys/mman.h>

void cache_turn(struct space_cache *cache, uint64_t still)
{
	uint64_t turn = (cache->turn >> TAG_TURN_SHIFT) + 1;
	if (turn == TAG_TURNS) {
		memset(cache->sets, 0, sizeof(cache->sets));
		turn = 1;
	}
	cache->turn = turn << TAG_TURN_SHIFT;
	cache->still = still;
}

/* Not from the heap: what is not used of it is not there. */
static struct space_cache *cache_take(const struct hvmi_space *space, uint64_t still)
{
	struct hvmi_vm *vm = space->vm;
	struct space_cache *cache = atomic_exchange(&vm->spare_cache, NULL);
	if (!cache) {
		cache = mmap(NULL, sizeof(*cache), PROT_READ | PROT_WRITE,
			     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
		if (cache == MAP_FAILED)
			return NULL;
	}
	cache->map = vm->physmap;
	/* Often it was the same space's, of another handle: then what is in it is as good as it was. */
	if (memcmp(&cache->config, &space->config, sizeof(cache->config)))
		cache_turn(cache, still);
	cache->config = space->config;
	return cache;
}

static void cache_free(struct space_cache *cache)
{
	if (cache)
		munmap(cache, sizeof(*cache));
}

void space_cache_release(struct hvmi_vm *vm, struct space_cache *cache)
{
	if (cache)
		cache_free(atomic_exchange(&vm->spare_cache, cache));
}

void space_cache_free_spare(struct hvmi_vm *vm)
{
	cache_free(atomic_exchange(&vm->spare_cache, NULL));
}

static bool entries_hold(struct hvmi_space *space, const uint64_t *gpas, const uint64_t *values,
			 uint32_t count)
{
	uint64_t changed = 0;
	fence_loads();
	for (uint32_t i = 0; i < count; i++) {
		uint64_t value;
		if (space_entry_read(space, space->entry_shift, gpas[i], &value))
			return false;
		changed |= value ^ values[i];
	}
	return !(changed & ~space->noted);
}

bool record_holds(struct hvmi_space *space, const struct walk_record *record)
{
	return entries_hold(space, record->gpas, record->values, record->count);
}

bool cache_holds(struct hvmi_space *space, uint32_t set, uint32_t way)
{
	const struct cache_proof *proof = &space->cache->proofs[set][way];
	struct physmap *map = space->cache->map;
	if (proof->by_gpa)
		return entries_hold(space, proof->places, proof->values, proof->count);
	if (!map)
		return proof_holds(space, proof);
	_Atomic(uint32_t) *inside = physmap_enter(map);
	bool holds = proof->sequence == atomic_load(&map->sequence) && proof_holds(space, proof);
	physmap_exit(inside);
	return holds;
}

/* Host pointer to [gpa, gpa + len) if all of it is in one piece. */
static const uint8_t *in_one_piece(const struct hvmi_vm *vm, uint64_t gpa, uint64_t len)
{
	uint64_t left;
	const uint8_t *host = vm_pointer(vm, gpa, &left);
	if (!host && vm->physmap)
		host = physmap_pointer(vm->physmap, gpa, len, &left);
	return host && left >= len ? host : NULL;
}

static void proof_make(const struct hvmi_space *space, const struct walk_record *record,
		       struct cache_proof *proof)
{
	proof->count = record->count;
	proof->by_gpa = false;
	memcpy(proof->values, record->values, sizeof(proof->values));
	for (uint32_t i = 0; i < record->count && !proof->by_gpa; i++) {
		const uint8_t *host = in_one_piece(space->vm, record->gpas[i],
						   1ull << space->entry_shift);
		proof->places[i] = (uintptr_t)host;
		proof->by_gpa = !host;
	}
	if (proof->by_gpa)
		memcpy(proof->places, record->gpas, sizeof(proof->places));
}

/* An empty way, or one after the other. */
static uint32_t choose_way(struct space_cache *cache, const struct cache_set *set)
{
	for (uint32_t way = 0; way < CACHE_WAYS; way++)
		if (set->tags[way] >> TAG_TURN_SHIFT != cache->turn >> TAG_TURN_SHIFT)
			return way;
	return cache->victim++ % CACHE_WAYS;
}

static void fill(struct hvmi_space *space, uint64_t gva, uint64_t gpa, uint32_t shift,
		 const struct walk_record *record, uint64_t sequence)
{
	struct space_cache *cache = space->cache;
	uint64_t offset = gva & ((1ull << CACHE_LARGE_SHIFT) - 1);
	const uint8_t *host = NULL;
	uint32_t class = CACHE_SMALL_SHIFT;
	if (shift >= CACHE_LARGE_SHIFT) {
		host = in_one_piece(space->vm, gpa - offset, 1ull << CACHE_LARGE_SHIFT);
		class = host || !space->vm->pointers ? CACHE_LARGE_SHIFT : CACHE_SMALL_SHIFT;
	}
	if (class == CACHE_SMALL_SHIFT) {
		offset &= FRAME_SIZE - 1;
		host = in_one_piece(space->vm, gpa - offset, FRAME_SIZE);
	}
	uint64_t page = gva >> class;
	uint32_t index = cache_index(class, page);
	struct cache_set *set = &cache->sets[index];
	uint64_t tag = page | cache->turn;
	uint32_t ways = cache_way(set, tag);
	uint32_t way = ways ? (uint32_t)__builtin_ctz(ways) : choose_way(cache, set);
	set->tags[way] = tag;
	set->hosts[way] = host;
	cache->gpas[index][way] = gpa - offset;
	/* Nothing is checked while the machine does not run; but pointers may go. */
	if (!cache->still || space->vm->physmap) {
		cache->proofs[index][way].sequence = sequence;
		proof_make(space, record, &cache->proofs[index][way]);
	}
}

void cache_fill(struct hvmi_space *space, uint64_t still, uint64_t gva, uint64_t gpa, uint32_t shift,
		const struct walk_record *record)
{
	if (space->config.flags & HVMI_SPACE_UNCACHED)
		return;
	if (!space->cache)
		space->cache = cache_take(space, still);
	if (!space->cache)
		return;
	if (space->cache->still != still)
		cache_turn(space->cache, still);
	struct physmap *map = space->vm->physmap;
	if (!map) {
		fill(space, gva, gpa, shift, record, 0);
		return;
	}
	_Atomic(uint32_t) *inside = physmap_enter(map);
	fill(space, gva, gpa, shift, record, atomic_load(&map->sequence));
	physmap_exit(inside);
}
