/* SPDX-License-Identifier: Apache-2.0 */
#include "cache.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

struct entry {
	uint64_t key;
	uint64_t used;		/* 0: empty */
	size_t valid;
	uint8_t *bytes;		/* made on first use */
};

struct set {
	pthread_mutex_t lock;
	uint64_t clock;
	struct entry *entries;
};

struct dump_cache {
	size_t entry_bytes, sets, ways;
	dump_cache_fill fill;
	void *context;
	struct entry *entries;
	struct set set[];
};

struct dump_cache *cache_create(size_t entry_bytes, size_t sets, size_t ways, dump_cache_fill fill,
				void *context)
{
	struct dump_cache *cache = calloc(1, sizeof(*cache) + sets * sizeof(cache->set[0]));
	if (!cache)
		return NULL;
	cache->entries = calloc(sets * ways, sizeof(*cache->entries));
	if (!cache->entries) {
		free(cache);
		return NULL;
	}
	cache->entry_bytes = entry_bytes;
	cache->sets = sets;
	cache->ways = ways;
	cache->fill = fill;
	cache->context = context;
	for (size_t i = 0; i < sets; i++) {
		pthread_mutex_init(&cache->set[i].lock, NULL);
		cache->set[i].entries = cache->entries + i * ways;
	}
	return cache;
}

void cache_destroy(struct dump_cache *cache)
{
	if (!cache)
		return;
	for (size_t i = 0; i < cache->sets; i++)
		pthread_mutex_destroy(&cache->set[i].lock);
	for (size_t i = 0; i < cache->sets * cache->ways; i++)
		free(cache->entries[i].bytes);
	free(cache->entries);
	free(cache);
}

/* The entry that holds key, or the one to give up for it. */
static struct entry *choose(const struct dump_cache *cache, struct set *set, uint64_t key)
{
	struct entry *oldest = set->entries;
	for (size_t i = 0; i < cache->ways; i++) {
		struct entry *entry = &set->entries[i];
		if (entry->used && entry->key == key)
			return entry;
		if (entry->used < oldest->used)
			oldest = entry;
	}
	oldest->used = 0;
	return oldest;
}

static int fill(const struct dump_cache *cache, struct entry *entry, uint64_t key)
{
	if (!entry->bytes)
		entry->bytes = malloc(cache->entry_bytes);
	if (!entry->bytes)
		return -ENOMEM;
	entry->key = key;
	return cache->fill(cache->context, key, entry->bytes, &entry->valid);
}

int cache_read(struct dump_cache *cache, uint64_t key, size_t offset, void *buf, size_t len)
{
	/* Neighbours are to go to different sets, however far apart keys are. */
	struct set *set = &cache->set[key * 0x9e3779b97f4a7c15ull >> 40 & (cache->sets - 1)];
	pthread_mutex_lock(&set->lock);
	struct entry *entry = choose(cache, set, key);
	int rc = entry->used ? 0 : fill(cache, entry, key);
	if (!rc) {
		entry->used = ++set->clock;
		if (offset > entry->valid || len > entry->valid - offset)
			rc = -EFAULT;
		else
			memcpy(buf, entry->bytes + offset, len);
	}
	pthread_mutex_unlock(&set->lock);
	return rc;
}
