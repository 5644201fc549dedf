/* SPDX-License-Identifier: Apache-2.0 */
/* Many byte patterns in a buffer. */
#ifndef HVMI_LIB_PATTERN_H
#define HVMI_LIB_PATTERN_H

#include <hvmi/search.h>

#include "util/util.h"

#define PATTERN_BUCKETS 8u
#define PATTERN_ANCHOR 3u

/*
 * Every pattern has an anchor: up to three of its bytes, the rarest. Patterns are spread over eight
 * buckets; a bit in the tables says that the anchor of some pattern in its bucket may have this
 * nibble there, so the AND of six look-ups tells for a place which buckets to compare.
 */
struct pattern_set {
	const struct hvmi_pattern *patterns;
	uint32_t count;
	uint32_t len_max;
	uint16_t anchors[HVMI_PATTERNS_MAX];
	uint8_t low[PATTERN_ANCHOR][16], high[PATTERN_ANCHOR][16];
	uint8_t both[PATTERN_ANCHOR][256];
};

/* -EINVAL: see hvmi_search(). The patterns must outlive the set. */
int pattern_set_init(struct pattern_set *set, const struct hvmi_pattern *patterns, uint32_t count);

/* Which look-ups are used at most; for tests. */
enum pattern_engine { PATTERN_BEST, PATTERN_AVX2, PATTERN_PLAIN };

/*
 * Tell every match that lies in `bytes` and begins before `begin_max`; base: the address of bytes[0].
 * Returns what the callback ended with, and where it began in *at_ret, or 0.
 */
int pattern_set_run(const struct pattern_set *set, enum pattern_engine engine, const uint8_t *bytes,
		    size_t len, size_t begin_max, uint64_t base, hvmi_search_fn found,
		    void *context, uint64_t *at_ret);

#endif
