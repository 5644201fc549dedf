/* SPDX-License-Identifier: Apache-2.0 */
#include "os/linux/kallsyms_format.h"

int tokens_parse(struct tokens *ret, const void *bytes, size_t len)
{
	uint8_t index[TOKEN_INDEX_BYTES];
	size_t at = 0;

	len = MIN(len, sizeof(ret->text));
	memcpy(ret->text, bytes, len);
	for (uint32_t i = 0; i < TOKENS; i++) {
		const uint8_t *token = ret->text + at, *end = memchr(token, 0, len - at);
		if (!end)
			return -ENOENT;
		ret->start[i] = (uint16_t)at;
		ret->len[i] = (uint16_t)(end - token);
		memset(ret->head[i], 0, TOKEN_HEAD);
		memcpy(ret->head[i], token, MIN(ret->len[i], TOKEN_HEAD));
		index[2 * i] = (uint8_t)at;
		index[2 * i + 1] = (uint8_t)(at >> 8);
		at += ret->len[i] + 1u;
	}
	for (size_t gap = 0; gap < ALIGNMENT && at + sizeof(index) <= len; gap++, at++) {
		if (memcmp(ret->text + at, index, sizeof(index)) == 0) {
			ret->index_at = (uint32_t)at;
			return 0;
		}
	}
	return -ENOENT;
}

size_t names_span(const uint8_t *names, size_t len, uint32_t count, bool uleb)
{
	size_t at = 0;

	for (uint32_t i = 0; i < count; i++) {
		size_t n = name_length(names, len, &at, uleb);
		if (n == 0)
			return 0;
		at += n;
	}
	return at;
}

bool address_order_plausible(const struct address_order *order, const struct kallsyms *kallsyms)
{
	uint32_t mode = kallsyms->address_mode;

	/* No table is without a range: memory of zeros is in order too. */
	if (order->inversions > order->seen / INVERSIONS || order->last < order->first ||
	    order->last - order->first < kallsyms->count)
		return false;
	/* Code comes before the table. */
	if (mode == KALLSYMS_PCREL)
		return order->first < kallsyms->offsets_at;
	if (mode != KALLSYMS_ABSOLUTE && kallsyms->relative_base < KERNEL_HALF)
		return false;
	return order->last >= KERNEL_HALF;
}
