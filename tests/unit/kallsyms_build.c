/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>

#include "kallsyms_build.h"

#define LONG_TOKEN 40u

static void *allocate(size_t len)
{
	void *p = calloc(1, len ? len : 1);
	if (!p)
		abort();
	return p;
}

uint32_t kallsyms_build_random(uint64_t *state)
{
	*state = *state * 6364136223846793005u + 1442695040888963407u;
	return (uint32_t)(*state >> 33);
}

/* A name out of parts that recur, with a tail of what does not. */
static char *make_name(uint64_t *state, uint32_t len_max, bool longest)
{
	static const char *const parts[] = {
		"tcp", "sched", "page", "lock", "init", "free", "x86", "vfs", "read", "write",
		"inode", "queue", "timer", "alloc", "map", "irq", "dev", "net", "sock", "bpf",
	};
	static const char letters[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.$";
	char *name = allocate(len_max + 1);
	uint32_t words = 1 + kallsyms_build_random(state) % 5, len = 0;

	for (uint32_t i = 0; i < words; i++) {
		const char *part = parts[kallsyms_build_random(state) % ARRAY_SIZE(parts)];
		if (len + 1 + strlen(part) <= len_max)
			len += (uint32_t)sprintf(name + len, "%s%s", i ? "_" : "", part);
	}
	uint32_t tail = len + kallsyms_build_random(state) % 4;
	if (longest || tail > len_max)
		tail = len_max;
	while (len < tail)
		name[len++] = letters[kallsyms_build_random(state) % (sizeof(letters) - 1)];
	return name;
}

static void make_symbols(struct kallsyms_build_names *names, uint32_t percpu, uint32_t name_max)
{
	static const char kinds[] = "TTTtttDdRrBbW?";
	uint64_t state = 1, gva = 0;

	for (uint32_t i = 0; i < names->count; i++) {
		struct kallsyms_build_symbol *symbol = &names->symbols[i];
		uint32_t index = i - percpu;
		if (index == 0)
			gva = KALLSYMS_BUILD_TEXT;
		symbol->gva = gva;
		symbol->kind = kinds[kallsyms_build_random(&state) % (sizeof(kinds) - 1)];
		if (i < percpu)
			symbol->kind = 'A';
		else if (index < 2)
			symbol->kind = 'T';
		if (index < 2) {
			symbol->name = make_name(&state, 7, false);
			strcpy(symbol->name, index ? "_stext" : "_text");
		} else {
			symbol->name = make_name(&state, name_max, i % 50 == 0);
		}
		/* Every seventh shares its address with the next. */
		if (index != 0 && i % 7)
			gva += 16 + kallsyms_build_random(&state) % 4096;
	}
}

/* Gives the most frequent pair of codes a code of its own. Returns whether there was one. */
static bool merge_pair(struct kallsyms_build_names *names, uint32_t *counts, uint8_t code)
{
	uint32_t best = 0;

	memset(counts, 0, 65536 * sizeof(*counts));
	for (uint32_t i = 0; i < names->count; i++)
		for (uint32_t j = 0; j + 1 < names->lengths[i]; j++)
			counts[names->codes[i][j] << 8 | names->codes[i][j + 1]]++;
	for (uint32_t pair = 1; pair < 65536; pair++)
		if (counts[pair] > counts[best] &&
		    strlen(names->tokens[pair >> 8]) + strlen(names->tokens[pair & 0xff]) <=
			    LONG_TOKEN)
			best = pair;
	if (counts[best] < 2)
		return false;

	const char *left = names->tokens[best >> 8], *right = names->tokens[best & 0xff];
	char *token = allocate(strlen(left) + strlen(right) + 1);
	strcat(strcpy(token, left), right);
	free(names->tokens[code]);
	names->tokens[code] = token;
	for (uint32_t i = 0; i < names->count; i++) {
		uint8_t *codes = names->codes[i];
		uint32_t len = 0;
		for (uint32_t j = 0; j < names->lengths[i]; j++) {
			bool pair = j + 1 < names->lengths[i] &&
				    (uint32_t)(codes[j] << 8 | codes[j + 1]) == best;
			codes[len++] = pair ? code : codes[j];
			j += pair;
		}
		names->lengths[i] = len;
	}
	return true;
}

void kallsyms_build_names(struct kallsyms_build_names *ret, uint32_t count, uint32_t percpu,
			  uint32_t name_max)
{
	struct kallsyms_build_names names = {.count = count};
	bool used[256] = {false};
	uint32_t *counts = allocate(65536 * sizeof(*counts));

	names.symbols = allocate(count * sizeof(*names.symbols));
	names.codes = allocate(count * sizeof(*names.codes));
	names.lengths = allocate(count * sizeof(*names.lengths));
	make_symbols(&names, percpu, name_max);
	for (uint32_t i = 0; i < 256; i++)
		names.tokens[i] = allocate(2);
	for (uint32_t i = 0; i < count; i++) {
		const struct kallsyms_build_symbol *symbol = &names.symbols[i];
		names.lengths[i] = (uint32_t)strlen(symbol->name) + 1;
		names.codes[i] = allocate(names.lengths[i]);
		names.codes[i][0] = (uint8_t)symbol->kind;
		memcpy(names.codes[i] + 1, symbol->name, names.lengths[i] - 1);
		for (uint32_t j = 0; j < names.lengths[i]; j++) {
			used[names.codes[i][j]] = true;
			names.tokens[names.codes[i][j]][0] = (char)names.codes[i][j];
		}
	}
	for (uint32_t code = 0; code < 256; code++)
		if (!used[code] && !merge_pair(&names, counts, (uint8_t)code))
			break;
	free(counts);
	*ret = names;
}

void kallsyms_build_names_deinit(struct kallsyms_build_names *names)
{
	for (uint32_t i = 0; i < names->count; i++) {
		free(names->symbols[i].name);
		free(names->codes[i]);
	}
	for (uint32_t i = 0; i < 256; i++)
		free(names->tokens[i]);
	free(names->symbols);
	free(names->codes);
	free(names->lengths);
}

static void put(struct kallsyms_build *build, uint64_t value, uint32_t bytes)
{
	if (build->len + 8 > build->capacity) {
		build->capacity = build->capacity * 2 + 4096;
		build->bytes = realloc(build->bytes, build->capacity);
		if (!build->bytes)
			abort();
	}
	for (uint32_t i = 0; i < bytes; i++)
		build->bytes[build->len++] = (uint8_t)(value >> 8 * i);
}

static uint64_t begin(struct kallsyms_build *build, uint32_t alignment)
{
	while (build->len % alignment)
		put(build, 0, 1);
	return build->len;
}

static void put_names(struct kallsyms_build *build, const struct kallsyms_build_layout *layout,
		      const struct kallsyms_build_names *names)
{
	struct kallsyms *at = &build->at;
	uint32_t *markers = allocate((names->count / 256 + 1) * sizeof(*markers)), marker_count = 0;

	at->num_syms_at = begin(build, layout->alignment);
	put(build, names->count, layout->marker_bytes);
	at->names_at = begin(build, layout->alignment);
	for (uint32_t i = 0; i < names->count; i++) {
		uint32_t len = names->lengths[i];
		if (i % 256 == 0)
			markers[marker_count++] = (uint32_t)(build->len - at->names_at);
		if (len > 127 && layout->uleb_lengths) {
			put(build, (len & 0x7f) | 0x80, 1);
			put(build, len >> 7, 1);
			at->uleb_lengths = true;
		} else if (len <= 255) {
			put(build, len, 1);
		} else {
			abort();
		}
		for (uint32_t j = 0; j < len; j++)
			put(build, names->codes[i][j], 1);
	}
	at->names_len = (uint32_t)(build->len - at->names_at);
	at->markers_at = begin(build, layout->alignment);
	for (uint32_t i = 0; i < marker_count; i++)
		put(build, markers[i], layout->marker_bytes);
	free(markers);
}

/* Any order will do: each number once. */
static void put_seqs(struct kallsyms_build *build, const struct kallsyms_build_layout *layout,
		     uint32_t count)
{
	uint64_t state = 2;
	uint32_t *seqs = allocate(count * sizeof(*seqs));

	if (layout->seqs_bytes) {
		build->at.seqs_at = begin(build, layout->alignment);
		build->at.seqs_bytes = layout->seqs_bytes;
	}
	for (uint32_t i = 0; i < count; i++) {
		uint32_t j = kallsyms_build_random(&state) % (i + 1);
		seqs[i] = seqs[j];
		seqs[j] = i;
	}
	for (uint32_t i = 0; i < count && layout->seqs_bytes; i++) {
		if (layout->seqs_bytes == 4)
			put(build, seqs[i], 4);
		else
			put(build, seqs[i] >> 16 | (seqs[i] & 0xff00) | (seqs[i] & 0xff) << 16, 3);
	}
	free(seqs);
}

static void put_tokens(struct kallsyms_build *build, const struct kallsyms_build_layout *layout,
		       const struct kallsyms_build_names *names)
{
	uint32_t start[256];

	build->at.token_table_at = begin(build, layout->alignment);
	for (uint32_t i = 0; i < 256; i++) {
		start[i] = (uint32_t)(build->len - build->at.token_table_at);
		for (const char *p = names->tokens[i]; *p; p++)
			put(build, (uint8_t)*p, 1);
		put(build, 0, 1);
	}
	build->at.token_index_at = begin(build, layout->alignment);
	for (uint32_t i = 0; i < 256; i++)
		put(build, start[i], 2);
}

static void put_addresses(struct kallsyms_build *build, const struct kallsyms_build_layout *layout,
			  const struct kallsyms_build_names *names, uint64_t gva)
{
	bool has_base = layout->mode == KALLSYMS_RELATIVE || layout->mode == KALLSYMS_PERCPU;
	uint64_t base = KALLSYMS_BUILD_TEXT;

	build->at.address_mode = layout->mode;
	build->at.offsets_at = begin(build, layout->alignment);
	for (uint32_t i = 0; i < names->count; i++) {
		uint64_t at = names->symbols[i].gva;
		if (layout->mode == KALLSYMS_ABSOLUTE)
			put(build, at, 8);
		else if (layout->mode == KALLSYMS_PCREL)
			put(build, at - (gva + build->len), 4);
		else if (layout->mode == KALLSYMS_RELATIVE)
			put(build, at - base, 4);
		else
			put(build, at >= KALLSYMS_BUILD_TEXT ? base - 1 - at : at, 4);
	}
	if (has_base) {
		build->at.relative_base = base - layout->base_error;
		build->at.relative_base_at = begin(build, layout->alignment);
		put(build, build->at.relative_base, 8);
	}
}

void kallsyms_build(struct kallsyms_build *ret, const struct kallsyms_build_layout *layout,
		    const struct kallsyms_build_names *names, uint64_t gva)
{
	struct kallsyms_build build = {.at = {.count = names->count,
					      .marker_bytes = layout->marker_bytes}};
	uint64_t state = 3;

	for (uint32_t i = 0; i < 1000; i++)
		put(&build, kallsyms_build_random(&state), 1);
	if (!layout->addresses_behind)
		put_addresses(&build, layout, names, gva);
	put_names(&build, layout, names);
	if (!layout->addresses_behind)
		put_seqs(&build, layout, names->count);
	put_tokens(&build, layout, names);
	if (layout->addresses_behind) {
		put_addresses(&build, layout, names, gva);
		put_seqs(&build, layout, names->count);
	}
	build.at.end = build.len;
	for (uint32_t i = 0; i < 1000; i++)
		put(&build, kallsyms_build_random(&state), 1);
	*ret = build;
}

void kallsyms_build_deinit(struct kallsyms_build *build)
{
	free(build->bytes);
}
