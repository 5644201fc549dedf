/* SPDX-License-Identifier: Apache-2.0 */
#include "profile/name_index.h"

/* Around four things to a bucket: a look-up compares few names, and the buckets cost a byte each. */
#define PER_BUCKET 4u

uint32_t name_hash(const char *name, size_t len)
{
	const uint64_t odd = 0x9e3779b97f4a7c15u;
	uint64_t hash = len;

	while (len > 0) {
		uint64_t word = 0;
		size_t n = MIN(len, sizeof(word));
		if (n == sizeof(word))
			memcpy(&word, name, sizeof(word));
		else
			memcpy(&word, name, n);
		hash = (hash ^ word) * odd;
		hash ^= hash >> 29;
		name += n;
		len -= n;
	}
	return (uint32_t)(hash * odd >> 32);
}

int name_index_build(struct name_index *ret, const uint32_t *hashes, const uint32_t *ids,
		     uint32_t count)
{
	struct name_index index = {.bucket_count = 1};

	while ((uint64_t)index.bucket_count * PER_BUCKET < count)
		index.bucket_count *= 2;
	size_t starts = (size_t)index.bucket_count + 1;
	index.starts = calloc(starts + count, sizeof(*index.starts));
	if (!index.starts)
		return -ENOMEM;
	index.ids = index.starts + starts;

	/* Each start is first the end of its bucket; filling from the back moves it to the front. */
	uint32_t mask = index.bucket_count - 1;
	for (uint32_t i = 0; i < count; i++)
		index.starts[hashes[i] & mask]++;
	for (size_t i = 1; i < starts; i++)
		index.starts[i] += index.starts[i - 1];
	for (uint32_t i = count; i-- > 0;)
		index.ids[--index.starts[hashes[i] & mask]] = ids ? ids[i] : i;
	*ret = index;
	return 0;
}

void name_index_deinit(struct name_index *index)
{
	free(index->starts);
	*index = (struct name_index){0};
}
