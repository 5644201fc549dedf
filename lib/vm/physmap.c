/* SPDX-License-Identifier: Apache-2.0 */
#include "vm/physmap.h"

#include <sched.h>

#include "vm/vm.h"

/* A chunk that others evict or replace as often as it is mapped is read through the backend. */
#define TRIES 4

int physmap_create(struct hvmi_vm *vm, uint64_t budget, struct physmap **ret)
{
	const struct vm_range *last = &vm->ranges[vm->range_count - 1];
	struct physmap *map = aligned_alloc(128, (sizeof(*map) + 127) / 128 * 128);
	if (!map)
		return -ENOMEM;
	memset(map, 0, sizeof(*map));
	map->vm = vm;
	map->budget = budget ? budget : PHYSMAP_BUDGET;
	uint64_t last_gpa = MIN(last->gpa + last->len - 1, (1ull << PHYSMAP_GPA_BITS) - 1);
	map->leaf_count = last_gpa / (LEAF_CHUNKS * CHUNK_SIZE) + 1;
	/* Nothing of it is there until it is touched. */
	map->leaves = calloc(map->leaf_count, sizeof(*map->leaves));
	if (!map->leaves) {
		free(map);
		return -ENOMEM;
	}
	pthread_mutex_init(&map->lock, NULL);
	if (vm->backend.map_generation)
		atomic_init(&map->generation, vm->backend.map_generation(vm->machine));
	*ret = map;
	return 0;
}

static void chunk_destroy(struct physmap *map, struct chunk *chunk)
{
	map->vm->backend.unmap_pages(map->vm->machine, chunk->host, chunk->pages);
	free(chunk);
}

void physmap_destroy(struct physmap *map)
{
	if (!map)
		return;
	for (uint32_t i = 0; i < map->clock_count; i++)
		chunk_destroy(map, map->clock[i]);
	for (struct chunk *chunk = map->held, *next; chunk; chunk = next) {
		next = chunk->next;
		if (chunk->dropped)
			chunk_destroy(map, chunk);
	}
	for (uint64_t i = 0; i < map->leaf_count; i++)
		free(atomic_load_explicit(&map->leaves[i], memory_order_relaxed));
	free(map->leaves);
	free(map->clock);
	pthread_mutex_destroy(&map->lock);
	free(map);
}

/* The radix. All with the lock held. */

static _Atomic(struct chunk *) *radix_slot(struct physmap *map, uint64_t gpa)
{
	struct chunk_leaf *leaf = atomic_load(&map->leaves[gpa >> CHUNK_SHIFT >> 9]);
	return leaf ? &leaf->chunks[gpa >> CHUNK_SHIFT & (LEAF_CHUNKS - 1)] : NULL;
}

static int chunk_insert(struct physmap *map, struct chunk *chunk)
{
	_Atomic(struct chunk *) *slot = radix_slot(map, chunk->gpa);
	if (!slot) {
		struct chunk_leaf *leaf = calloc(1, sizeof(*leaf));
		if (!leaf)
			return -ENOMEM;
		atomic_store(&map->leaves[chunk->gpa >> CHUNK_SHIFT >> 9], leaf);
		slot = radix_slot(map, chunk->gpa);
	}
	if (map->clock_count == map->clock_size) {
		uint32_t size = map->clock_size ? 2 * map->clock_size : 64;
		struct chunk **grown = realloc(map->clock, size * sizeof(*grown));
		if (!grown)
			return -ENOMEM;
		map->clock = grown;
		map->clock_size = size;
	}
	chunk->clock_index = map->clock_count;
	map->clock[map->clock_count++] = chunk;
	atomic_init(&chunk->sibling, atomic_load(slot));
	atomic_store(slot, chunk);
	return 0;
}

/* Readers may still use it: collect it for retire(). */
static void chunk_remove(struct physmap *map, struct chunk *chunk, struct chunk **retired)
{
	_Atomic(struct chunk *) *at = radix_slot(map, chunk->gpa);
	while (atomic_load(at) != chunk)
		at = &atomic_load(at)->sibling;
	atomic_store(at, atomic_load(&chunk->sibling));
	struct chunk *last = map->clock[--map->clock_count];
	map->clock[chunk->clock_index] = last;
	last->clock_index = chunk->clock_index;
	if (chunk->holds) {
		chunk->dropped = true;
		return;
	}
	chunk->next = *retired;
	*retired = chunk;
}

static void wait_for_readers(struct physmap *map, uint32_t phase)
{
	for (uint32_t i = 0; i < READER_SLOTS; i++)
		while (atomic_load(&map->slots[i].inside[phase]))
			sched_yield();
}

/* Wait until no reader can use what was removed, and unmap it. */
static void retire(struct physmap *map, struct chunk *retired, bool wait)
{
	if (wait) {
		atomic_fetch_add(&map->sequence, 1);
		/*
		 * Readers that come keep the count of the present phase from reaching 0, so it ends. Those
		 * who took its number and come only now see what was removed before.
		 */
		uint32_t phase = atomic_load(&map->phase) & 1;
		wait_for_readers(map, !phase);
		atomic_store(&map->phase, !phase);
		wait_for_readers(map, phase);
	}
	for (struct chunk *next; retired; retired = next) {
		next = retired->next;
		map->mapped -= (uint64_t)retired->pages * FRAME_SIZE;
		chunk_destroy(map, retired);
	}
}

/* Clock: what was not used since the hand was there last goes. -EBUSY: all is held. */
static int make_room(struct physmap *map, uint64_t bytes)
{
	if (map->mapped == 0 || bytes + map->mapped <= map->budget)
		return 0;
	/* Waiting for readers is dear: some more are evicted at once. */
	uint64_t slack = map->budget / 16, excess = map->mapped + bytes - map->budget + slack;
	struct chunk *retired = NULL;
	uint64_t gone = 0;
	for (uint64_t steps = 2ull * map->clock_count; steps && gone < excess && map->clock_count;
	     steps--) {
		if (map->hand >= map->clock_count)
			map->hand = 0;
		struct chunk *chunk = map->clock[map->hand];
		if (!chunk->holds && !atomic_exchange_explicit(&chunk->used, 0,
							      memory_order_relaxed)) {
			gone += (uint64_t)chunk->pages * FRAME_SIZE;
			chunk_remove(map, chunk, &retired);
		} else {
			map->hand++;
		}
	}
	if (retired)
		retire(map, retired, true);
	return map->mapped == 0 || map->mapped + bytes <= map->budget ? 0 : -EBUSY;
}

/* Bringing chunks in. */

static int chunk_create(struct physmap *map, uint64_t gpa, uint32_t pages, struct chunk **ret)
{
	int32_t status[CHUNK_PAGES] = { 0 };
	const void *host = NULL;
	struct chunk *chunk = calloc(1, sizeof(*chunk));
	if (!chunk)
		return -ENOMEM;
	int rc = map->vm->backend.map_pages(map->vm->machine, gpa, pages, &host, status);
	if (rc) {
		free(chunk);
		return rc;
	}
	chunk->host = host;
	chunk->gpa = gpa;
	chunk->pages = pages;
	for (uint32_t i = 0; i < pages; i++)
		if (status[i]) {
			chunk->absent[i / 64] |= 1ull << i % 64;
			chunk->absent_count++;
		}
	atomic_init(&chunk->used, 1);
	*ret = chunk;
	return 0;
}

/* The whole pages around gpa that lie in one chunk and one range. */
static int chunk_place(const struct physmap *map, uint64_t gpa, uint64_t *gpa_ret,
		       uint32_t *pages_ret)
{
	const struct vm_range *r = vm_range_of(map->vm, gpa);
	if (!r)
		return -EFAULT;
	if (r->host || gpa >> PHYSMAP_GPA_BITS)
		return -ENOTSUP;
	uint64_t chunk = gpa & ~(CHUNK_SIZE - 1);
	uint64_t first = MAX(chunk, (r->gpa + FRAME_SIZE - 1) & ~(uint64_t)(FRAME_SIZE - 1));
	uint64_t end = MIN(chunk + CHUNK_SIZE, (r->gpa + r->len) & ~(uint64_t)(FRAME_SIZE - 1));
	/* What is left of a page at an end of a range. */
	if (gpa < first || gpa >= end)
		return -ENOTSUP;
	*gpa_ret = first;
	*pages_ret = (uint32_t)((end - first) / FRAME_SIZE);
	return 0;
}

/*
 * Map the chunk that holds gpa, in the place of `old`, which may be NULL. Returns 0 also where another
 * thread was faster: look again.
 */
static int bring(struct physmap *map, uint64_t gpa, const struct chunk *old)
{
	uint64_t first;
	uint32_t pages;
	int rc = chunk_place(map, gpa, &first, &pages);
	if (rc)
		return rc;
	uint64_t bytes = (uint64_t)pages * FRAME_SIZE;
	pthread_mutex_lock(&map->lock);
	rc = physmap_chunk(map, gpa) != old ? 1 : make_room(map, bytes);
	map->mapped += rc ? 0 : bytes;
	uint64_t generation = atomic_load(&map->generation);
	pthread_mutex_unlock(&map->lock);
	if (rc)
		return rc < 0 ? rc : 0;

	struct chunk *chunk = NULL, *retired = NULL;
	rc = chunk_create(map, first, pages, &chunk);

	pthread_mutex_lock(&map->lock);
	struct chunk *present = physmap_chunk(map, gpa);
	bool stale = generation != atomic_load(&map->generation) || (present && present != old);
	if (!rc && !stale) {
		if (present)
			chunk_remove(map, present, &retired);
		rc = chunk_insert(map, chunk);
		if (present)
			retire(map, retired, true);
	}
	if (chunk && (rc || stale)) {
		chunk->next = NULL;
		retire(map, chunk, false);
	} else if (rc) {
		map->mapped -= bytes;
	}
	pthread_mutex_unlock(&map->lock);
	return rc;
}

/* A page that was absent when its chunk was mapped; the whole chunk is mapped again if it is not now. */
static int bring_absent(struct physmap *map, uint64_t gpa, const struct chunk *old)
{
	struct hvmi_vm *vm = map->vm;
	const void *host;
	int32_t status = 0;
	int rc = vm->backend.map_pages(vm->machine, gpa & ~(uint64_t)(FRAME_SIZE - 1), 1, &host,
				       &status);
	if (rc)
		return rc;
	vm->backend.unmap_pages(vm->machine, host, 1);
	return status ? status : bring(map, gpa, old);
}

int physmap_copy(struct physmap *map, uint64_t gpa, struct physmap_copy copy, size_t len,
		 size_t *done_ret)
{
	for (int i = 0; i < TRIES; i++) {
		uint64_t left;
		_Atomic(uint32_t) *inside = physmap_enter(map);
		const uint8_t *host = physmap_pointer(map, gpa, len, &left);
		if (host) {
			if (copy.to)
				memcpy(copy.to, host, left);
			else
				memcpy((void *)(uintptr_t)host, copy.from, left);
			physmap_exit(inside);
			*done_ret = left;
			return 0;
		}
		/* Only compared from here on. */
		const struct chunk *absent = physmap_chunk(map, gpa);
		physmap_exit(inside);
		int rc = absent ? bring_absent(map, gpa, absent) : bring(map, gpa, NULL);
		if (rc)
			return rc == -EBUSY || rc == -ENOMEM ? -ENOTSUP : rc;
	}
	return -ENOTSUP;
}

int physmap_hold(struct physmap *map, uint64_t gpa, size_t len, const void **ret)
{
	for (int i = 0; i < TRIES; i++) {
		int rc = 0;
		uint64_t left, absent = gpa;
		pthread_mutex_lock(&map->lock);
		struct chunk *chunk = physmap_chunk(map, gpa);
		const uint8_t *host = physmap_pointer(map, gpa, len, &left);
		if (host && left < len) {
			uint64_t end = chunk->gpa + (uint64_t)chunk->pages * FRAME_SIZE;
			absent = gpa + left;
			rc = absent == end ? -ENOTSUP : 0;
		} else if (host) {
			if (chunk->holds++ == 0) {
				chunk->next = map->held;
				map->held = chunk;
			}
			*ret = host;
		}
		pthread_mutex_unlock(&map->lock);
		if (rc || (host && left >= len))
			return rc;
		rc = chunk ? bring_absent(map, absent, chunk) : bring(map, gpa, NULL);
		if (rc)
			return rc;
	}
	return -EBUSY;
}

bool physmap_unhold(struct physmap *map, const void *mapping)
{
	pthread_mutex_lock(&map->lock);
	struct chunk **at = &map->held, *chunk;
	while ((chunk = *at) && (uintptr_t)mapping - (uintptr_t)chunk->host >=
					(uint64_t)chunk->pages * FRAME_SIZE)
		at = &chunk->next;
	if (chunk && --chunk->holds == 0) {
		*at = chunk->next;
		chunk->next = NULL;
		if (chunk->dropped)
			retire(map, chunk, false);
	}
	pthread_mutex_unlock(&map->lock);
	return chunk != NULL;
}

void physmap_refresh(struct physmap *map)
{
	struct hvmi_vm *vm = map->vm;
	if (!vm->backend.map_generation)
		return;
	uint64_t generation = vm->backend.map_generation(vm->machine);
	if (generation == atomic_load(&map->generation))
		return;
	pthread_mutex_lock(&map->lock);
	struct chunk *retired = NULL;
	while (map->clock_count)
		chunk_remove(map, map->clock[0], &retired);
	/* What is being mapped at this moment sees that it is out of date already. */
	atomic_store(&map->generation, generation);
	retire(map, retired, true);
	pthread_mutex_unlock(&map->lock);
}
