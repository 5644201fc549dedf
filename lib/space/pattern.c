/* SPDX-License-Identifier: Apache-2.0 */
#include "space/pattern.h"

#ifdef __x86_64__
#include <immintrin.h>
#endif

static uint8_t mask_of(const struct hvmi_pattern *p, uint32_t offset)
{
	return offset >= p->len ? 0 : p->mask ? ((const uint8_t *)p->mask)[offset] : 0xff;
}

static uint8_t byte_of(const struct hvmi_pattern *p, uint32_t offset)
{
	return offset >= p->len ? 0 : ((const uint8_t *)p->bytes)[offset];
}

/* How much a byte narrows down where a pattern may be; memory is full of zeros, ones and text. */
static uint32_t rarity(const struct hvmi_pattern *p, uint32_t offset)
{
	uint8_t byte = byte_of(p, offset);
	uint32_t weight = byte == 0 ? 1 : byte == 0xff || byte == 1 ? 3 :
			  byte >= 0x20 && byte < 0x7f ? 6 : 8;
	return weight * (uint32_t)__builtin_popcount(mask_of(p, offset));
}

static uint32_t choose_anchor(const struct hvmi_pattern *p)
{
	uint32_t best = 0, best_score = 0;
	for (uint32_t offset = 0; offset < p->len; offset++) {
		uint32_t score = 0;
		for (uint32_t i = 0; i < PATTERN_ANCHOR; i++)
			score += rarity(p, offset + i);
		if (score > best_score) {
			best = offset;
			best_score = score;
		}
	}
	return best;
}

int pattern_set_init(struct pattern_set *set, const struct hvmi_pattern *patterns, uint32_t count)
{
	memset(set, 0, sizeof(*set));
	if (!patterns || !count || count > HVMI_PATTERNS_MAX)
		return -EINVAL;
	set->patterns = patterns;
	set->count = count;
	for (uint32_t i = 0; i < count; i++) {
		const struct hvmi_pattern *p = &patterns[i];
		bool matters = false;
		for (uint32_t k = 0; p->bytes && p->len <= HVMI_PATTERN_BYTES && k < p->len; k++)
			matters |= mask_of(p, k) != 0;
		if (!matters || p->align & (p->align - 1))
			return -EINVAL;
		set->len_max = MAX(set->len_max, p->len);
		set->anchors[i] = (uint16_t)choose_anchor(p);
		uint8_t bucket = (uint8_t)(1u << i % PATTERN_BUCKETS);
		for (uint32_t k = 0; k < PATTERN_ANCHOR; k++) {
			uint8_t byte = byte_of(p, set->anchors[i] + k);
			uint8_t mask = mask_of(p, set->anchors[i] + k);
			for (uint32_t v = 0; v < 16; v++) {
				set->low[k][v] |= ((v ^ byte) & mask & 0xf) ? 0 : bucket;
				set->high[k][v] |= ((v << 4 ^ byte) & mask & 0xf0) ? 0 : bucket;
			}
		}
	}
	for (uint32_t k = 0; k < PATTERN_ANCHOR; k++)
		for (uint32_t v = 0; v < 256; v++)
			set->both[k][v] = set->low[k][v & 15] & set->high[k][v >> 4];
	return 0;
}

/* What is looked through, and whom to tell. */
struct pattern_run {
	const struct pattern_set *set;
	const uint8_t *bytes;
	size_t len, begin_max;
	uint64_t base;
	hvmi_search_fn found;
	void *context;
	uint64_t *at_ret;
};

static bool equal(const struct hvmi_pattern *p, const uint8_t *bytes)
{
	if (!p->mask)
		return memcmp(bytes, p->bytes, p->len) == 0;
	const uint8_t *mask = p->mask, *wanted = p->bytes;
	for (uint32_t i = 0; i < p->len; i++)
		if ((bytes[i] ^ wanted[i]) & mask[i])
			return false;
	return true;
}

/* The anchors of some pattern in each of these buckets may be at `at`. */
static __attribute__((noinline)) int compare(const struct pattern_run *run, size_t at,
					     uint32_t buckets)
{
	const struct pattern_set *set = run->set;
	for (; buckets; buckets &= buckets - 1)
		for (uint32_t i = (uint32_t)__builtin_ctz(buckets); i < set->count;
		     i += PATTERN_BUCKETS) {
			const struct hvmi_pattern *p = &set->patterns[i];
			size_t begin = at - set->anchors[i];
			if (at < set->anchors[i] || begin >= run->begin_max ||
			    p->len > run->len - begin || !equal(p, run->bytes + begin) ||
			    (p->align && (run->base + begin) & (p->align - 1)))
				continue;
			int rc = run->found(run->context, i, run->base + begin);
			if (rc) {
				*run->at_ret = run->base + begin;
				return rc;
			}
		}
	return 0;
}

static int run_plain(const struct pattern_run *run, size_t from)
{
	const struct pattern_set *set = run->set;
	const uint8_t *b = run->bytes;
	for (size_t i = from; i < run->len; i++) {
		uint32_t buckets = set->both[0][b[i]];
		/* Bytes behind the end matter to nobody whose pattern ends before it. */
		if (i + 1 < run->len)
			buckets &= set->both[1][b[i + 1]];
		if (i + 2 < run->len)
			buckets &= set->both[2][b[i + 2]];
		int rc = buckets ? compare(run, i, buckets) : 0;
		if (rc)
			return rc;
	}
	return 0;
}

#ifdef __x86_64__
#define AVX2 __attribute__((target("avx2")))

AVX2 static inline __m256i table(const uint8_t nibbles[16])
{
	return _mm256_broadcastsi128_si256(_mm_loadu_si128((const void *)nibbles));
}

AVX2 static inline __m256i look_up(__m256i low, __m256i high, const uint8_t *at)
{
	__m256i nibble = _mm256_set1_epi8(0xf), bytes = _mm256_loadu_si256((const void *)at);
	return _mm256_and_si256(
		_mm256_shuffle_epi8(low, _mm256_and_si256(bytes, nibble)),
		_mm256_shuffle_epi8(high, _mm256_and_si256(_mm256_srli_epi16(bytes, 4), nibble)));
}

AVX2 static int run_avx2(const struct pattern_run *run)
{
	const struct pattern_set *set = run->set;
	/* In registers: the compiler cannot know that no callback changes them. */
	__m256i low0 = table(set->low[0]), high0 = table(set->high[0]);
	__m256i low1 = table(set->low[1]), high1 = table(set->high[1]);
	__m256i low2 = table(set->low[2]), high2 = table(set->high[2]);
	size_t i = 0;
	for (; i + 32 + PATTERN_ANCHOR <= run->len; i += 32) {
		const uint8_t *at = run->bytes + i;
		__m256i m = _mm256_and_si256(_mm256_and_si256(look_up(low0, high0, at),
							      look_up(low1, high1, at + 1)),
					     look_up(low2, high2, at + 2));
		if (__builtin_expect(_mm256_testz_si256(m, m), 1))
			continue;
		uint8_t buckets[32];
		_mm256_storeu_si256((void *)buckets, m);
		uint32_t places = ~(uint32_t)_mm256_movemask_epi8(
			_mm256_cmpeq_epi8(m, _mm256_setzero_si256()));
		for (; places; places &= places - 1) {
			uint32_t place = (uint32_t)__builtin_ctz(places);
			int rc = compare(run, i + place, buckets[place]);
			if (rc)
				return rc;
		}
	}
	return run_plain(run, i);
}
#endif

int pattern_set_run(const struct pattern_set *set, enum pattern_engine engine, const uint8_t *bytes,
		    size_t len, size_t begin_max, uint64_t base, hvmi_search_fn found,
		    void *context, uint64_t *at_ret)
{
	struct pattern_run run = { set, bytes, len, begin_max, base, found, context, at_ret };
#ifdef __x86_64__
	if (engine == PATTERN_BEST && __builtin_cpu_supports("avx2"))
		return run_avx2(&run);
#endif
	(void)engine;
	return run_plain(&run, 0);
}
