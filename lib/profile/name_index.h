/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An index by name that is built once. Buckets lie one behind the other in one array, so that
 * building takes the same time whatever the names are. Guests choose the names: a secret of each
 * index keeps them from choosing names that fall into one bucket.
 */
#ifndef HVMI_LIB_NAME_INDEX_H
#define HVMI_LIB_NAME_INDEX_H

#include "util/util.h"

struct name_index {
	uint32_t *starts;	/* of each bucket in ids[]; one more for the end */
	uint32_t *ids;		/* in the same allocation */
	uint32_t bucket_count;	/* a power of two; 0: empty */
	uint64_t secret;
};

uint64_t name_secret(void);
uint32_t name_hash(const char *name, size_t len, uint64_t secret);

/*
 * Index `count` things. hashes[i] is the name_hash() of ids[i], or of i where ids is NULL. Within a
 * bucket they keep their order. -ENOMEM.
 */
int name_index_build(struct name_index *ret, const uint32_t *hashes, uint64_t secret,
		     const uint32_t *ids, uint32_t count);
void name_index_deinit(struct name_index *index);

/* The things that may have a name: the caller compares. */
static inline const uint32_t *name_index_bucket(const struct name_index *index, const char *name,
						size_t len, uint32_t *count_ret)
{
	if (index->bucket_count == 0) {
		*count_ret = 0;
		return NULL;
	}
	uint32_t hash = name_hash(name, len, index->secret);
	const uint32_t *start = &index->starts[hash & (index->bucket_count - 1)];
	*count_ret = start[1] - start[0];
	return index->ids + start[0];
}

#endif
