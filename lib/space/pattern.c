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

/*
 * Vectors follow each other. Each byte is looked up as the first, the second and the third of an anchor;
 * what the first two gave is moved up to the place of the third, over the border of vectors. So a
 * candidate at place k of a vector begins PATTERN_ANCHOR - 1 bytes before it.
 */
_Static_assert(PATTERN_ANCHOR == 3, "three look-ups");

/* The first 64 bytes at or behind `i`, a multiple of 64, with a candidate, or where fewer are left. */
typedef size_t (*next_fn)(const struct pattern_set *set, const uint8_t *bytes, size_t i, size_t len,
			  uint8_t buckets[64]);

struct found32 {
	__m256i first, second, third;
};

AVX2 static inline struct found32 look_up(const struct pattern_set *set, const uint8_t *at)
{
	__m256i nibble = _mm256_set1_epi8(0xf), bytes = _mm256_loadu_si256((const void *)at);
	__m256i low = _mm256_and_si256(bytes, nibble);
	__m256i high = _mm256_and_si256(_mm256_srli_epi16(bytes, 4), nibble);
#define BOTH(k) _mm256_and_si256(_mm256_shuffle_epi8(table(set->low[k]), low), \
				 _mm256_shuffle_epi8(table(set->high[k]), high))
	return (struct found32){ BOTH(0), BOTH(1), BOTH(2) };
#undef BOTH
}

AVX2 static inline __m256i candidates(const struct found32 *before, const struct found32 *now)
{
	__m256i first = _mm256_permute2x128_si256(before->first, now->first, 0x21);
	__m256i second = _mm256_permute2x128_si256(before->second, now->second, 0x21);
	first = _mm256_alignr_epi8(now->first, first, 14);
	second = _mm256_alignr_epi8(now->second, second, 15);
	return _mm256_and_si256(_mm256_and_si256(first, second), now->third);
}

/* Calls nothing, so that the tables stay in registers. */
AVX2 static __attribute__((noinline)) size_t next_avx2(const struct pattern_set *set,
						       const uint8_t *bytes, size_t i, size_t len,
						       uint8_t buckets[64])
{
	struct found32 before = { _mm256_setzero_si256(), _mm256_setzero_si256(),
				  _mm256_setzero_si256() };
	if (i)
		before = look_up(set, bytes + i - 32);
	for (; i + 64 <= len; i += 64) {
		struct found32 x = look_up(set, bytes + i), y = look_up(set, bytes + i + 32);
		__m256i a = candidates(&before, &x), b = candidates(&x, &y);
		__m256i any = _mm256_or_si256(a, b);
		before = y;
		if (__builtin_expect(_mm256_testz_si256(any, any), 1))
			continue;
		_mm256_storeu_si256((void *)buckets, a);
		_mm256_storeu_si256((void *)(buckets + 32), b);
		break;
	}
	return i;
}

#define AVX512 __attribute__((target("avx512bw")))

struct found64 {
	__m512i first, second, third;
};

AVX512 static inline __m512i table_wide(const uint8_t nibbles[16])
{
	return _mm512_broadcast_i32x4(_mm_loadu_si128((const void *)nibbles));
}

AVX512 static inline struct found64 look_up_wide(const struct pattern_set *set, const uint8_t *at)
{
	__m512i nibble = _mm512_set1_epi8(0xf), bytes = _mm512_loadu_si512(at);
	__m512i low = _mm512_and_si512(bytes, nibble);
	__m512i high = _mm512_and_si512(_mm512_srli_epi16(bytes, 4), nibble);
#define BOTH(k) _mm512_and_si512(_mm512_shuffle_epi8(table_wide(set->low[k]), low), \
				 _mm512_shuffle_epi8(table_wide(set->high[k]), high))
	return (struct found64){ BOTH(0), BOTH(1), BOTH(2) };
#undef BOTH
}

AVX512 static __attribute__((noinline)) size_t next_avx512(const struct pattern_set *set,
							   const uint8_t *bytes, size_t i,
							   size_t len, uint8_t buckets[64])
{
	struct found64 before = { _mm512_setzero_si512(), _mm512_setzero_si512(),
				  _mm512_setzero_si512() };
	if (i)
		before = look_up_wide(set, bytes + i - 64);
	for (; i + 64 <= len; i += 64) {
		struct found64 now = look_up_wide(set, bytes + i);
		__m512i first = _mm512_alignr_epi32(now.first, before.first, 12);
		__m512i second = _mm512_alignr_epi32(now.second, before.second, 12);
		first = _mm512_alignr_epi8(now.first, first, 14);
		second = _mm512_alignr_epi8(now.second, second, 15);
		__m512i m = _mm512_and_si512(_mm512_and_si512(first, second), now.third);
		before = now;
		if (__builtin_expect(!_mm512_test_epi8_mask(m, m), 1))
			continue;
		_mm512_storeu_si512(buckets, m);
		break;
	}
	return i;
}

AVX2 static uint64_t places_of(const uint8_t buckets[64])
{
	__m256i a = _mm256_loadu_si256((const void *)buckets), zero = _mm256_setzero_si256();
	__m256i b = _mm256_loadu_si256((const void *)(buckets + 32));
	uint32_t low = ~(uint32_t)_mm256_movemask_epi8(_mm256_cmpeq_epi8(a, zero));
	uint32_t high = ~(uint32_t)_mm256_movemask_epi8(_mm256_cmpeq_epi8(b, zero));
	return low | (uint64_t)high << 32;
}

static int run_wide(const struct pattern_run *run, next_fn next)
{
	uint8_t buckets[64];
	size_t i = 0;
	for (;; i += 64) {
		i = next(run->set, run->bytes, i, run->len, buckets);
		if (i + 64 > run->len)
			return run_plain(run, i - MIN(i, (size_t)PATTERN_ANCHOR - 1));
		for (uint64_t places = places_of(buckets); places; places &= places - 1) {
			uint32_t place = (uint32_t)__builtin_ctzll(places);
			int rc = compare(run, i + place - (PATTERN_ANCHOR - 1), buckets[place]);
			if (rc)
				return rc;
		}
	}
}
#endif

int pattern_set_run(const struct pattern_set *set, enum pattern_engine engine, const uint8_t *bytes,
		    size_t len, size_t begin_max, uint64_t base, hvmi_search_fn found,
		    void *context, uint64_t *at_ret)
{
	struct pattern_run run = { set, bytes, len, begin_max, base, found, context, at_ret };
#ifdef __x86_64__
	if (engine == PATTERN_BEST && __builtin_cpu_supports("avx512bw"))
		return run_wide(&run, next_avx512);
	if (engine != PATTERN_PLAIN && __builtin_cpu_supports("avx2"))
		return run_wide(&run, next_avx2);
#endif
	(void)engine;
	return run_plain(&run, 0);
}
