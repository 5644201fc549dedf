/* SPDX-License-Identifier: Apache-2.0 */
#include "os/linux/kallsyms_format.h"

/*
 * The index is what is searched for: 256 ascending numbers of 2 bytes, at a multiple of 4. Wherever
 * it lies, a step meets 4 of them, and only every eighth cache line is touched.
 */
#define STEP_LEN 8u
#define STEP (TOKEN_INDEX_BYTES - STEP_LEN)
#define PREFETCH_STEPS 24u
/* A token is a part of a name. */
#define TOKEN_BYTES_MAX (NAME_MAX_LEN + 1)
#define TABLE_MAX (KALLSYMS_TOKEN_TABLE_MAX - TOKEN_INDEX_BYTES)

static inline bool index_follows(uint16_t at, uint16_t next)
{
	return (uint16_t)(next - at - 1u) < TOKEN_BYTES_MAX;
}

/* May these be a part of an index? */
static inline bool maybe_index(const uint8_t *p)
{
	uint16_t at[STEP_LEN / 2];
	memcpy(at, p, sizeof(at));
	return index_follows(at[0], at[1]) && index_follows(at[1], at[2]) &&
	       index_follows(at[2], at[3]);
}

/* The index that [at, at + STEP_LEN) is a part of. */
static bool find_index(const uint8_t *bytes, size_t len, size_t at, uint16_t index[TOKENS],
		       size_t *index_at)
{
	size_t low = at - MIN(at, STEP), high = at + MIN(len - at, TOKEN_INDEX_BYTES);
	uint16_t words[TOKEN_INDEX_BYTES];
	size_t count = (high - low) / 2, first = (at - low) / 2;

	for (size_t i = 0; i < count; i++)
		words[i] = load_le16(bytes + low + 2 * i);
	while (first > 0 && words[first] != 0 && index_follows(words[first - 1], words[first]))
		first--;
	if (words[first] != 0 || count - first < TOKENS)
		return false;
	for (size_t i = first + 1; i < first + TOKENS; i++)
		if (!index_follows(words[i - 1], words[i]))
			return false;
	memcpy(index, words + first, TOKENS * sizeof(*index));
	*index_at = low + 2 * first;
	return true;
}

/* Does each token of the table at `start` begin behind a NUL? */
static bool tokens_fit(const uint8_t *table, const uint16_t index[TOKENS])
{
	for (uint32_t i = 1; i < TOKENS; i++)
		if (table[index[i] - 1] != 0)
			return false;
	return true;
}

/* The table that ends, but for padding, at `end`; its index is behind that. */
static bool find_table(const uint8_t *bytes, size_t end, const uint16_t index[TOKENS],
		       size_t *table_ret)
{
	struct {
		uint8_t bytes[KALLSYMS_TOKEN_TABLE_MAX];
		struct tokens tokens;
	} copy;
	size_t len = MIN(end, TABLE_MAX);

	memcpy(copy.bytes, bytes + end - len, len + TOKEN_INDEX_BYTES);
	for (size_t gap = 1; gap <= MIN(len, ALIGNMENT) && copy.bytes[len - gap] == 0; gap++) {
		const uint8_t *before = memrchr(copy.bytes, 0, len - gap);
		size_t last = before ? (size_t)(before - copy.bytes) + 1 : 0;

		if (last < index[TOKENS - 1])
			continue;
		size_t start = last - index[TOKENS - 1];
		if (tokens_fit(copy.bytes + start, index) &&
		    tokens_parse(&copy.tokens, copy.bytes + start,
				 len + TOKEN_INDEX_BYTES - start) == 0) {
			*table_ret = end - len + start;
			return true;
		}
	}
	return false;
}

/* The memory may be a running guest's: what was not copied only chooses what to copy. */
int kallsyms_scan(const void *bytes, size_t len, size_t *offset)
{
	const uint8_t *b = bytes;

	for (size_t at = *offset & ~(size_t)3; at < len && len - at >= STEP_LEN; at += STEP) {
		__builtin_prefetch((const void *)((uintptr_t)b + at + PREFETCH_STEPS * STEP));
		if (__builtin_expect(!maybe_index(b + at), 1))
			continue;
		uint16_t index[TOKENS];
		size_t index_at, table;
		if (find_index(b, len, at, index, &index_at) &&
		    find_table(b, index_at, index, &table) && table >= *offset) {
			*offset = table;
			return 0;
		}
	}
	return -ENOENT;
}
