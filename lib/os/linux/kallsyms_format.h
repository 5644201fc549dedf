/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What finding and loading the kernel's symbol table share. Names are sequences of bytes, each of
 * which stands for a token; the first character of what they expand to is the kind letter of nm.
 */
#ifndef HVMI_LIB_KALLSYMS_FORMAT_H
#define HVMI_LIB_KALLSYMS_FORMAT_H

#include "os/linux/kallsyms.h"

#define TOKENS 256u
#define TOKEN_INDEX_BYTES (2u * TOKENS)
/* Each table starts at a multiple of 8, or of 4 since 7.0. */
#define ALIGNMENT 8u

/* There is a marker, the offset of a name in the names, for every so many symbols. */
#define NAMES_PER_MARKER 256u
#define MARKERS_MAX ((SYMBOLS_MAX + NAMES_PER_MARKER - 1) / NAMES_PER_MARKER)
/* KSYM_NAME_LEN: the kind letter and what the kernel itself shows of a name. */
#define NAME_MAX_LEN 512u
/* A length byte and a token; two length bytes and as many tokens as there are characters. */
#define SEGMENT_MIN (2u * NAMES_PER_MARKER)
#define SEGMENT_MAX ((2u + NAME_MAX_LEN) * NAMES_PER_MARKER)

#define KERNEL_HALF 0xffff000000000000u

static inline uint64_t align_up(uint64_t value, uint64_t alignment)
{
	return (value + alignment - 1) & ~(alignment - 1);
}

static inline uint32_t markers_for(uint32_t symbols)
{
	return symbols / NAMES_PER_MARKER + (symbols % NAMES_PER_MARKER != 0);
}

/* Tokens up to this length, which is nearly all, are copied whole without looking at it. */
#define TOKEN_HEAD 16u
#define NAME_BUFFER (NAME_MAX_LEN + TOKEN_HEAD)

struct tokens {
	uint32_t index_at;	/* offset of the index from the table's start */
	uint16_t start[TOKENS];
	uint16_t len[TOKENS];
	uint8_t head[TOKENS][TOKEN_HEAD];
	uint8_t text[KALLSYMS_TOKEN_TABLE_MAX];
};

/* From bytes that start with a token table and also hold its index. -ENOENT: they do not. */
int tokens_parse(struct tokens *ret, const void *bytes, size_t len);

/* Writes the name, cut off at NAME_MAX_LEN, without a NUL; returns its length. */
static inline size_t tokens_expand(const struct tokens *tokens, const uint8_t *name, size_t len,
				   uint8_t ret[NAME_BUFFER])
{
	const uint8_t *end = name + len;
	size_t done = 0;

	/* The hottest loop of all. */
	for (; name < end && done < NAME_MAX_LEN; name++) {
		size_t n = tokens->len[*name];
		memcpy(ret + done, tokens->head[*name], TOKEN_HEAD);
		if (__builtin_expect(n > TOKEN_HEAD, 0)) {
			n = MIN(n, NAME_MAX_LEN - done);
			memcpy(ret + done, tokens->text + tokens->start[*name], n);
		}
		done += n;
	}
	return MIN(done, NAME_MAX_LEN);
}

/*
 * The length in front of a name: one byte; since 6.1 two if the first has its top bit set. Moves
 * *at behind it. 0: there is no whole name of this kind in [*at, len).
 */
static inline size_t name_length(const uint8_t *names, size_t len, size_t *at, bool uleb)
{
	if (*at >= len)
		return 0;
	size_t n = names[(*at)++];
	if (uleb && n & 0x80) {
		if (*at >= len || names[*at] & 0x80)
			return 0;
		n = (n & 0x7f) | (size_t)names[(*at)++] << 7;
	}
	return n <= len - *at ? n : 0;
}

/* Bytes that so many names take, or 0 if they do not fit. */
size_t names_span(const uint8_t *names, size_t len, uint32_t count, bool uleb);

static inline uint32_t address_bytes(uint32_t mode)
{
	return mode == KALLSYMS_ABSOLUTE ? 8 : 4;
}

/* Does the address move with the kernel's image, unlike an offset in the per-cpu area? */
static inline bool address_moves(const struct kallsyms *kallsyms, const uint8_t *entry)
{
	if (kallsyms->address_mode == KALLSYMS_ABSOLUTE)
		return load_le64(entry) >= KERNEL_HALF;
	return kallsyms->address_mode != KALLSYMS_PERCPU || load_le32(entry) >> 31;
}

/* Address number @p index, out of its entry. */
static inline uint64_t address_decode(const struct kallsyms *kallsyms, const uint8_t *entry,
				      uint32_t index)
{
	if (kallsyms->address_mode == KALLSYMS_ABSOLUTE)
		return load_le64(entry);

	uint32_t offset = load_le32(entry);
	uint64_t extended = (uint64_t)(int64_t)(int32_t)offset;
	if (kallsyms->address_mode == KALLSYMS_PCREL)
		return kallsyms->offsets_at + 4 * (uint64_t)index + extended;
	if (kallsyms->address_mode == KALLSYMS_RELATIVE)
		return kallsyms->relative_base + offset;
	return offset >> 31 ? kallsyms->relative_base - 1 - extended : offset;
}

/* Addresses in their order, to see whether they ascend as those of a real table do. */
struct address_order {
	uint64_t first, last;
	uint32_t seen, inversions;
};

/* One in so many may be out of order before we disbelieve. */
#define INVERSIONS 16u

static inline void address_order_add(struct address_order *order, uint64_t address)
{
	if (order->seen++ == 0)
		order->first = address;
	else
		order->inversions += address < order->last;
	order->last = address;
}

/* Is that what a table of this mode looks like? */
bool address_order_plausible(const struct address_order *order, const struct kallsyms *kallsyms);

#endif
