/* SPDX-License-Identifier: Apache-2.0 */
#include <inttypes.h>

#include "os/linux/kallsyms_format.h"

/* Names expand to about so many times their length; what is too much is given back. */
#define EXPANSION 3u
#define SLIDE_UNIT 4096u
#define NO_SYMBOL UINT32_MAX

struct loader {
	const struct source *source;
	struct kallsyms *kallsyms;
	struct hvmi_error *err;
	uint32_t marker_count;
	uint8_t *addresses;
	uint32_t *markers;		/* and one more: the end */
	uint32_t text, stext;		/* symbols by number */
	struct symbols symbols;
	struct tokens tokens;
	uint8_t names[SEGMENT_MAX];
};

static int damaged(struct loader *loader, uint64_t address, const char *what)
{
	return hvmi_error_set(loader->err, -EBADMSG, address,
			      "the kernel's symbol table at 0x%" PRIx64 " is damaged: %s; if the "
			      "guest was running, take its memory again while it is paused",
			      loader->kallsyms->names_at, what);
}

static int read_table(struct loader *loader, uint64_t address, void *buf, size_t len)
{
	int ret = source_read(loader->source, address, buf, len);
	if (ret < 0)
		return hvmi_error_set(loader->err, ret, address,
				      "cannot read %zu bytes of the kernel's symbol table at 0x%"
				      PRIx64 ": the memory image may be incomplete", len, address);
	return 0;
}

static int read_tokens(struct loader *loader)
{
	const struct kallsyms *kallsyms = loader->kallsyms;
	uint64_t len = kallsyms->token_index_at + TOKEN_INDEX_BYTES - kallsyms->token_table_at;

	if (len > KALLSYMS_TOKEN_TABLE_MAX)
		return damaged(loader, kallsyms->token_table_at, "its tokens are too long");
	int ret = read_table(loader, kallsyms->token_table_at, loader->names, (size_t)len);
	if (ret < 0)
		return ret;
	if (tokens_parse(&loader->tokens, loader->names, (size_t)len) < 0)
		return damaged(loader, kallsyms->token_table_at,
			       "its tokens and their index do not agree");
	return 0;
}

static int read_markers(struct loader *loader)
{
	const struct kallsyms *kallsyms = loader->kallsyms;
	uint32_t n = loader->marker_count, bytes = kallsyms->marker_bytes;
	CLEANUP_FREE uint8_t *raw = malloc((size_t)n * bytes);

	loader->markers = malloc(((size_t)n + 1) * sizeof(*loader->markers));
	if (!raw || !loader->markers)
		return -ENOMEM;
	int ret = read_table(loader, kallsyms->markers_at, raw, (size_t)n * bytes);
	if (ret < 0)
		return ret;
	for (uint32_t i = 0; i <= n; i++) {
		uint64_t marker = kallsyms->names_len;
		if (i < n)
			marker = bytes == 8 ? load_le64(raw + (size_t)i * 8)
					    : load_le32(raw + (size_t)i * 4);
		if (i == 0 ? marker != 0
			   : marker <= loader->markers[i - 1] ||
			     marker - loader->markers[i - 1] > SEGMENT_MAX)
			return damaged(loader, kallsyms->markers_at + (uint64_t)i * bytes,
				       "its markers do not ascend");
		loader->markers[i] = (uint32_t)marker;
	}
	return 0;
}

static const uint8_t *entry(const struct loader *loader, uint32_t index)
{
	return loader->addresses + (size_t)index * address_bytes(loader->kallsyms->address_mode);
}

static int read_addresses(struct loader *loader)
{
	const struct kallsyms *kallsyms = loader->kallsyms;
	size_t len = (size_t)kallsyms->count * address_bytes(kallsyms->address_mode);

	loader->addresses = malloc_filled(len);
	if (!loader->addresses)
		return -ENOMEM;
	int ret = read_table(loader, kallsyms->offsets_at, loader->addresses, len);
	if (ret < 0)
		return ret;

	struct address_order order = {0};
	for (uint32_t i = 0; i < kallsyms->count; i++)
		address_order_add(&order, address_decode(kallsyms, entry(loader, i), i));
	if (!address_order_plausible(&order, kallsyms))
		return damaged(loader, kallsyms->offsets_at, "its addresses do not ascend");
	return 0;
}

static bool name_is(const uint8_t *name, size_t len, const char *what, size_t what_len)
{
	return len == 1 + what_len && memcmp(name + 1, what, what_len) == 0;
}

/* The names of one segment, which fill [names, names + len). */
static int add_segment(struct loader *loader, uint32_t segment, const uint8_t *names, size_t len)
{
	struct kallsyms *kallsyms = loader->kallsyms;
	uint32_t index = segment * NAMES_PER_MARKER;
	uint32_t end = MIN(index + NAMES_PER_MARKER, kallsyms->count);
	uint64_t at_gpa = kallsyms->names_at + loader->markers[segment];
	bool uleb = names_span(names, len, end - index, true) == len;
	uint8_t name[NAME_BUFFER];
	size_t at = 0;

	if (!uleb && names_span(names, len, end - index, false) != len)
		return damaged(loader, at_gpa, "its names do not end at its markers");
	for (; index < end; index++) {
		size_t start = at, n = name_length(names, len, &at, uleb);
		size_t expanded = tokens_expand(&loader->tokens, names + at, n, name);

		kallsyms->uleb_lengths |= at - start == 2;
		at += n;
		if (expanded < 2)
			return damaged(loader, at_gpa + start, "it has a symbol without a name");
		if (name_is(name, expanded, "_text", 5) && loader->text == NO_SYMBOL)
			loader->text = index;
		if (name_is(name, expanded, "_stext", 6) && loader->stext == NO_SYMBOL)
			loader->stext = index;
		int ret = symbols_add(&loader->symbols,
				      address_decode(kallsyms, entry(loader, index), index),
				      name[0], (const char *)name + 1, expanded - 1);
		if (ret < 0)
			return ret;
	}
	return 0;
}

static int add_symbols(struct loader *loader)
{
	const struct kallsyms *kallsyms = loader->kallsyms;
	uint64_t estimate = (uint64_t)kallsyms->names_len * EXPANSION + kallsyms->count;
	int ret = symbols_reserve(&loader->symbols, kallsyms->count,
				  (uint32_t)MIN(estimate, SYMBOL_NAMES_MAX));

	for (uint32_t first = 0, next; ret == 0 && first < loader->marker_count; first = next) {
		uint32_t from = loader->markers[first];
		next = first + 1;
		while (next < loader->marker_count &&
		       loader->markers[next + 1] - from <= sizeof(loader->names))
			next++;
		ret = read_table(loader, kallsyms->names_at + from, loader->names,
				 loader->markers[next] - from);
		for (uint32_t i = first; ret == 0 && i < next; i++)
			ret = add_segment(loader, i, loader->names + (loader->markers[i] - from),
					  loader->markers[i + 1] - loader->markers[i]);
	}
	return ret;
}

static int shift_addresses(struct loader *loader, uint64_t shift)
{
	struct symbols *symbols = &loader->symbols;

	if (shift % SLIDE_UNIT)
		return damaged(loader, loader->kallsyms->offsets_at,
			       "_stext is not where the running kernel has it, so the table is "
			       "another kernel's");
	for (uint32_t i = 0; shift && i < symbols->count; i++)
		if (address_moves(loader->kallsyms, entry(loader, i)))
			symbols->gva[i] += shift;
	loader->kallsyms->shift = shift;
	return 0;
}

static bool text_is_inside(const struct loader *loader, const struct kallsyms_hints *hints,
			   uint64_t shift)
{
	if (loader->text == NO_SYMBOL)
		return true;
	uint64_t text = loader->symbols.gva[loader->text] + shift;
	return text >= KERNEL_HALF &&
	       (hints->image_len == 0 || text - hints->image_gva < hints->image_len);
}

/* All code lies behind _text, wherever a wrong encoding would put it. */
static bool code_is_behind_text(const struct loader *loader)
{
	const struct symbols *symbols = &loader->symbols;
	uint32_t below = 0, code = 0;

	for (uint32_t i = 0; loader->text != NO_SYMBOL && i < symbols->count; i++) {
		bool is_code = (symbols->names[symbols->name[i]] | 0x20) == 't';
		code += is_code;
		below += is_code && symbols->gva[i] < symbols->gva[loader->text];
	}
	return below <= code / INVERSIONS;
}

static int settle(struct loader *loader, const struct kallsyms_hints *hints)
{
	const struct kallsyms *kallsyms = loader->kallsyms;
	bool relative = kallsyms->address_mode == KALLSYMS_PCREL;
	bool virtual = !relative || hints->have_shift;
	uint64_t shift = relative && hints->have_shift ? hints->shift : 0;

	if (!code_is_behind_text(loader))
		return damaged(loader, kallsyms->offsets_at, "much of its code lies before _text");
	if (hints->stext_gva && loader->stext != NO_SYMBOL) {
		uint64_t by_stext = hints->stext_gva - loader->symbols.gva[loader->stext];
		/* VMCOREINFO may be left over from an earlier boot; where the image is decides. */
		if (!virtual || hints->image_len == 0 || !text_is_inside(loader, hints, shift) ||
		    text_is_inside(loader, hints, by_stext))
			shift = by_stext;
		virtual = true;
	}
	if (virtual && !text_is_inside(loader, hints, shift))
		return hvmi_error_set(loader->err, -EBADMSG, kallsyms->names_at,
				      "the kernel's symbol table at 0x%" PRIx64 " puts _text at 0x%"
				      PRIx64 ", outside of the running kernel: it is probably left "
				      "over from an earlier boot", kallsyms->names_at,
				      loader->symbols.gva[loader->text] + shift);
	return shift_addresses(loader, shift);
}

static int load(struct loader *loader, const struct kallsyms_hints *hints)
{
	int ret = read_tokens(loader);

	if (ret == 0)
		ret = read_markers(loader);
	if (ret == 0)
		ret = read_addresses(loader);
	if (ret == 0)
		ret = add_symbols(loader);
	if (ret == 0)
		ret = settle(loader, hints);
	if (ret == 0)
		ret = symbols_freeze(&loader->symbols);
	return ret;
}

/* Errors of what is below, which has no sentence for them. */
static void explain(struct loader *loader, int code)
{
	uint64_t at = loader->kallsyms->names_at;
	uint32_t count = loader->kallsyms->count;

	if (code == -ENOMEM)
		hvmi_error_set(loader->err, code, at, "out of memory for %u kernel symbols", count);
	else if (code == -EOVERFLOW)
		hvmi_error_set(loader->err, code, at,
			       "the symbol table at 0x%" PRIx64 " has more than %u bytes of names: "
			       "no kernel needs that, the guest may be hostile",
			       at, SYMBOL_NAMES_MAX);
}

int kallsyms_load(const struct source *source, struct kallsyms *kallsyms,
		  const struct kallsyms_hints *hints, struct symbols *ret, struct hvmi_error *err)
{
	struct loader *loader = malloc(sizeof(*loader));

	if (!loader)
		return hvmi_error_set(err, -ENOMEM, HVMI_NO_ADDRESS, "out of memory");
	loader->source = source;
	loader->kallsyms = kallsyms;
	loader->err = err;
	loader->marker_count = markers_for(kallsyms->count);
	loader->addresses = NULL;
	loader->markers = NULL;
	loader->text = loader->stext = NO_SYMBOL;
	loader->symbols = (struct symbols){0};

	int result = load(loader, hints);
	if (result == 0) {
		*ret = loader->symbols;
	} else {
		explain(loader, result);
		symbols_deinit(&loader->symbols);
	}
	free(loader->addresses);
	free(loader->markers);
	free(loader);
	return result;
}
