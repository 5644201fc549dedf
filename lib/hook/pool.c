/* SPDX-License-Identifier: Apache-2.0 */
/* Hooks and places among many others of their kind. */
#include <sys/mman.h>

#include "hook/hook.h"

#define LINE 64u
#define CHUNK ((size_t)2 * MIB)
/* The first chunk is small: most have few hooks. */
#define FIRST_CHUNK ((size_t)16 * KIB)

static bool grow(struct pool *pool)
{
	size_t bytes = pool->chunks ? CHUNK : FIRST_CHUNK;
	void *chunk = aligned_alloc(pool->chunks ? CHUNK : LINE, bytes);
	if (!chunk)
		return false;
	if (bytes == CHUNK)
		madvise(chunk, bytes, MADV_HUGEPAGE);
	*(void **)chunk = pool->chunks;
	pool->chunks = chunk;
	pool->fresh = (uint8_t *)chunk + LINE;
	pool->left = (bytes - LINE) / pool->size;
	return true;
}

void *pool_get(struct pool *pool)
{
	void *object = pool->spare;
	if (object) {
		pool->spare = *(void **)object;
	} else {
		if (!pool->left && !grow(pool))
			return NULL;
		object = pool->fresh;
		pool->fresh += pool->size;
		pool->left--;
	}
	return memset(object, 0, pool->size);
}

void pool_put(struct pool *pool, void *object)
{
	*(void **)object = pool->spare;
	pool->spare = object;
}

void pool_free(struct pool *pool)
{
	while (pool->chunks) {
		void *next = *(void **)pool->chunks;
		free(pool->chunks);
		pool->chunks = next;
	}
}
