/* SPDX-License-Identifier: Apache-2.0 */
#include <sys/random.h>
#include <time.h>

#include "profile/name_index.h"

/* Things to a bucket, at most on average: a look-up compares few, and a bucket costs little. */
#define PER_BUCKET 4u

uint64_t name_secret(void)
{
	uint64_t secret;
	struct timespec now;

	if (getrandom(&secret, sizeof(secret), GRND_NONBLOCK) == sizeof(secret))
		return secret;
	/* A sandbox may forbid it; what no guest sees is still better than nothing. */
	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_nsec * 0x9e3779b97f4a7c15u ^ (uintptr_t)&now;
}

/*
 * Four bytes at a time into eight bytes of state: a difference spreads by the secret to where the
 * next four bytes cannot reach to undo it.
 */
uint32_t name_hash(const char *name, size_t len, uint64_t secret)
{
	const uint64_t odd = secret | 1;
	uint64_t hash = secret ^ len;
	uint32_t word;

	for (; len >= sizeof(word); name += sizeof(word), len -= sizeof(word)) {
		memcpy(&word, name, sizeof(word));
		hash = (hash ^ word) * odd;
		hash ^= hash >> 32;
	}
	word = 0;
	for (size_t i = 0; i < len; i++)
		word = word << 8 | (uint8_t)name[i];
	return (uint32_t)((hash ^ word) * odd >> 32);
}

int name_index_build(struct name_index *ret, const uint32_t *hashes, uint64_t secret,
		     const uint32_t *ids, uint32_t count)
{
	struct name_index index = {.bucket_count = 1, .secret = secret};

	while ((uint64_t)index.bucket_count * PER_BUCKET < count)
		index.bucket_count *= 2;
	size_t starts = (size_t)index.bucket_count + 1;
	index.starts = calloc(starts + count, sizeof(*index.starts));
	if (!index.starts)
		return -ENOMEM;
	index.ids = index.starts + starts;

	/* Each start is first the end of its bucket; filling from the back moves it forward. */
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
