/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A bounded cache of what was decompressed, for any number of threads. It is split into sets with a
 * lock each, so that threads rarely wait for another's decompression.
 */
#ifndef HVMI_BACKENDS_DUMP_CACHE_H
#define HVMI_BACKENDS_DUMP_CACHE_H

#include <stddef.h>
#include <stdint.h>

struct dump_cache;

/*
 * Fills an entry with what `key` names: at most the entry's size, *valid_ret bytes of it are there.
 * Called for different keys by several threads at once.
 */
typedef int (*dump_cache_fill)(void *context, uint64_t key, uint8_t *entry, size_t *valid_ret);

/* NULL: out of memory. `sets` is a power of two. */
struct dump_cache *cache_create(size_t entry_bytes, size_t sets, size_t ways, dump_cache_fill fill,
				void *context);
void cache_destroy(struct dump_cache *cache);

/* Copies [offset, offset + len) of an entry. -EFAULT: not all is there; or what fill() says. */
int cache_read(struct dump_cache *cache, uint64_t key, size_t offset, void *buf, size_t len);

#endif
