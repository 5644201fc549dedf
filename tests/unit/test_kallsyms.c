/* SPDX-License-Identifier: Apache-2.0 */
#include <check.h>
#include <inttypes.h>
#include <stdio.h>

#include "kallsyms_build.h"

/* Where the tests put tables, in the source's and in the guest's addresses. */
#define GPA 0x5100000ull
#define GVA (KALLSYMS_BUILD_TEXT + 2 * MIB)
#define COUNT 2001u
#define PERCPU 40u

static const struct kallsyms_build_layout layouts[] = {
	{ "4.6 absolute", false, KALLSYMS_ABSOLUTE, 8, false, 0, 8, 0 },
	{ "4.6 relative", false, KALLSYMS_RELATIVE, 8, false, 0, 8, 0 },
	{ "4.6 per-cpu", false, KALLSYMS_PERCPU, 8, false, 0, 8, 0 },
	{ "4.20 absolute", false, KALLSYMS_ABSOLUTE, 4, false, 0, 8, 0 },
	{ "4.20 relative", false, KALLSYMS_RELATIVE, 4, false, 0, 8, 0 },
	{ "4.20 per-cpu", false, KALLSYMS_PERCPU, 4, false, 0, 8, 0 },
	{ "6.1 relative", false, KALLSYMS_RELATIVE, 4, true, 0, 8, 0 },
	{ "6.1 per-cpu", false, KALLSYMS_PERCPU, 4, true, 0, 8, 0 },
	{ "6.1 per-cpu, seqs backported", false, KALLSYMS_PERCPU, 4, true, 3, 8, 0 },
	{ "6.1 relative, seqs backported", false, KALLSYMS_RELATIVE, 4, true, 3, 8, 0 },
	{ "6.2 relative, seqs of 4 bytes", false, KALLSYMS_RELATIVE, 4, true, 4, 8, 0 },
	{ "6.2 per-cpu, seqs of 4 bytes", false, KALLSYMS_PERCPU, 4, true, 4, 8, 0 },
	{ "6.2 absolute", false, KALLSYMS_ABSOLUTE, 4, true, 3, 8, 0 },
	{ "6.4 absolute", true, KALLSYMS_ABSOLUTE, 4, true, 3, 8, 0 },
	{ "6.4 relative", true, KALLSYMS_RELATIVE, 4, true, 3, 8, 0 },
	{ "6.4 per-cpu", true, KALLSYMS_PERCPU, 4, true, 3, 8, 0 },
	{ "6.4 per-cpu, seqs of 4 bytes", true, KALLSYMS_PERCPU, 4, true, 4, 8, 0 },
	{ "6.4 relative, no seqs", true, KALLSYMS_RELATIVE, 4, true, 0, 8, 0 },
	{ "7.0", true, KALLSYMS_PCREL, 4, true, 3, 4, 0 },
	{ "7.0, no seqs", true, KALLSYMS_PCREL, 4, true, 0, 4, 0 },
	{ "7.0, aligned to 8", true, KALLSYMS_PCREL, 4, true, 3, 8, 0 },
};
static const struct kallsyms_build_layout per_cpu_6_4 = {
	"6.4 per-cpu", true, KALLSYMS_PERCPU, 4, true, 3, 8, 0
};
static const struct kallsyms_build_layout pcrel_7_0 = {
	"7.0", true, KALLSYMS_PCREL, 4, true, 3, 4, 0
};

static uint32_t percpu_of(const struct kallsyms_build_layout *layout)
{
	return layout->mode == KALLSYMS_PERCPU ? PERCPU : 0;
}

/* Compressing names takes the longest, so each set is made once, before the tests fork. */
static struct names_set {
	uint32_t count, percpu, name_max;
	struct kallsyms_build_names names;
} sets[64];

static struct kallsyms_build_names *names_of(uint32_t count, uint32_t percpu, uint32_t name_max)
{
	struct names_set *set = sets;

	while (set->count && (set->count != count || set->percpu != percpu ||
			      set->name_max != name_max))
		if (++set == sets + ARRAY_SIZE(sets))
			abort();
	if (!set->count) {
		*set = (struct names_set){ count, percpu, name_max, { 0 } };
		kallsyms_build_names(&set->names, count, percpu, name_max);
	}
	return &set->names;
}

/* A table in memory, ready to be found. */
struct fixture {
	const struct kallsyms_build_names *names;
	struct kallsyms_build build;
	struct bytes_source bytes;
	struct source source;
	struct kallsyms found;
	struct symbols symbols;
	struct hvmi_error err;
};

static void fixture_init(struct fixture *f, const struct kallsyms_build_layout *layout,
			 uint32_t count, uint32_t name_max)
{
	memset(f, 0, sizeof(*f));
	f->names = names_of(count, percpu_of(layout), name_max);
	kallsyms_build(&f->build, layout, f->names, GVA);
	f->bytes = (struct bytes_source){ f->build.bytes, f->build.len, GPA };
	f->source = (struct source){ bytes_source_read, &f->bytes };
}

static void fixture_deinit(struct fixture *f)
{
	symbols_deinit(&f->symbols);
	kallsyms_build_deinit(&f->build);
}

static int locate(struct fixture *f)
{
	return kallsyms_locate(&f->source, GPA + f->build.at.token_table_at, &f->found);
}

static int load(struct fixture *f, const struct kallsyms_hints *hints)
{
	symbols_deinit(&f->symbols);
	memset(&f->err, 0, sizeof(f->err));
	int ret = kallsyms_load(&f->source, &f->found, hints, &f->symbols, &f->err);
	if (ret < 0) {
		/* Nothing is half done, and somebody can act on it. */
		ck_assert_uint_eq(f->symbols.count, 0);
		ck_assert_int_eq(f->err.code, ret);
		ck_assert_uint_gt(strlen(f->err.text), 20);
	}
	return ret;
}

/* Every symbol is as it was built, but for what is added to those that move. */
static void check_symbols(const struct fixture *f, uint64_t added)
{
	ck_assert_uint_eq(f->symbols.count, f->names->count);
	for (uint32_t i = 0; i < f->names->count; i++) {
		const struct kallsyms_build_symbol *expected = &f->names->symbols[i];
		struct hvmi_symbol symbol;
		symbols_get(&f->symbols, i, &symbol);
		ck_assert_str_eq(symbol.name, expected->name);
		ck_assert_uint_eq(symbol.kind, (uint8_t)expected->kind);
		ck_assert_uint_eq(symbol.gva, expected->gva +
						      (expected->gva >> 63 ? added : 0));
	}
	uint64_t gva;
	ck_assert_int_eq(symbols_find(&f->symbols, "_stext", &gva), 0);
	ck_assert_uint_eq(gva, KALLSYMS_BUILD_TEXT + added);
}

static void check_found(const struct fixture *f)
{
	const struct kallsyms *built = &f->build.at, *found = &f->found;

	ck_assert_uint_eq(found->num_syms_at, GPA + built->num_syms_at);
	ck_assert_uint_eq(found->names_at, GPA + built->names_at);
	ck_assert_uint_eq(found->markers_at, GPA + built->markers_at);
	ck_assert_uint_eq(found->token_table_at, GPA + built->token_table_at);
	ck_assert_uint_eq(found->token_index_at, GPA + built->token_index_at);
	ck_assert_uint_eq(found->offsets_at, GPA + built->offsets_at);
	ck_assert_uint_eq(found->seqs_at, built->seqs_at ? GPA + built->seqs_at : 0);
	ck_assert_uint_eq(found->seqs_bytes, built->seqs_bytes);
	ck_assert_uint_eq(found->end, GPA + built->end);
	ck_assert_uint_eq(found->count, built->count);
	ck_assert_uint_eq(found->marker_bytes, built->marker_bytes);
	ck_assert_uint_eq(found->names_len, built->names_len);
	ck_assert_uint_eq(found->address_mode, built->address_mode);
	ck_assert_uint_eq(found->relative_base, built->relative_base);
	ck_assert_uint_eq(found->relative_base_at,
			  built->relative_base_at ? GPA + built->relative_base_at : 0);
}

/* Scan, locate and load, with nothing known and with everything. */
static void check_layout(const struct kallsyms_build_layout *layout, uint32_t count,
			 uint32_t name_max)
{
	struct kallsyms_hints none = { 0 };
	struct kallsyms_hints all = {
		.have_shift = true,
		.shift = GVA - GPA,
		.image_gva = KALLSYMS_BUILD_TEXT,
		.image_len = 16 * MIB,
		.stext_gva = KALLSYMS_BUILD_TEXT,
	};
	bool pcrel = layout->mode == KALLSYMS_PCREL;
	struct fixture f;
	size_t at = 0;

	fixture_init(&f, layout, count, name_max);
	ck_assert_int_eq(kallsyms_scan(f.build.bytes, f.build.len, &at), 0);
	ck_assert_uint_eq(at, f.build.at.token_table_at);
	at++;
	ck_assert_int_eq(kallsyms_scan(f.build.bytes, f.build.len, &at), -ENOENT);
	ck_assert_int_eq(locate(&f), 0);
	check_found(&f);

	ck_assert_msg(load(&f, &none) == 0, "%s: %s", layout->name, f.err.text);
	check_symbols(&f, pcrel ? GPA - GVA : 0);
	ck_assert_uint_eq(f.found.shift, 0);
	ck_assert_uint_eq(f.found.uleb_lengths, f.build.at.uleb_lengths);
	ck_assert_msg(load(&f, &all) == 0, "%s: %s", layout->name, f.err.text);
	check_symbols(&f, 0);
	ck_assert_uint_eq(f.found.shift, pcrel ? GVA - GPA : 0);
	fixture_deinit(&f);
}

START_TEST(layouts_decode_exactly)
{
	const struct kallsyms_build_layout *layout = &layouts[_i];

	check_layout(layout, COUNT, layout->uleb_lengths ? 511 : 127);
	/* An even number of symbols and markers: other paddings. */
	check_layout(layout, 2048, layout->uleb_lengths ? 300 : 100);
	/* The fewest, and no name with a length of two bytes. */
	check_layout(layout, 513, 60);
}
END_TEST

START_TEST(long_names_with_one_length_byte)
{
	check_layout(&layouts[5], COUNT, 200);
}
END_TEST

START_TEST(overlong_names_are_cut)
{
	struct kallsyms_hints hints = { 0 };
	struct fixture f;
	uint32_t cut = 0;

	fixture_init(&f, &per_cpu_6_4, COUNT, 700);
	ck_assert_int_eq(locate(&f), 0);
	ck_assert_int_eq(load(&f, &hints), 0);
	for (uint32_t i = 0; i < COUNT; i++) {
		struct hvmi_symbol symbol;
		symbols_get(&f.symbols, i, &symbol);
		size_t len = strlen(f.names->symbols[i].name);
		ck_assert_uint_eq(strlen(symbol.name), MIN(len, 511));
		ck_assert_int_eq(strncmp(symbol.name, f.names->symbols[i].name, 511), 0);
		cut += len > 511;
	}
	ck_assert_uint_gt(cut, 10);
	fixture_deinit(&f);
}
END_TEST

START_TEST(tables_that_were_not_relocated)
{
	static const enum kallsyms_mode modes[] = { KALLSYMS_RELATIVE, KALLSYMS_PERCPU };
	struct kallsyms_build_layout layout = per_cpu_6_4;
	struct kallsyms_hints hints = { .image_gva = KALLSYMS_BUILD_TEXT, .image_len = 16 * MIB };
	struct fixture f;

	layout.mode = modes[_i];
	layout.base_error = 0x12000000;
	fixture_init(&f, &layout, COUNT, 60);
	ck_assert_int_eq(locate(&f), 0);
	ck_assert_int_eq(load(&f, &hints), -EBADMSG);
	ck_assert_ptr_nonnull(strstr(f.err.text, "_text at 0xffffffff81000000"));

	hints.stext_gva = KALLSYMS_BUILD_TEXT;
	ck_assert_int_eq(load(&f, &hints), 0);
	check_symbols(&f, 0);
	ck_assert_uint_eq(f.found.shift, layout.base_error);

	/* A page offset is no slide. */
	hints.stext_gva += 0x40;
	ck_assert_int_eq(load(&f, &hints), -EBADMSG);
	ck_assert_ptr_nonnull(strstr(f.err.text, "_stext"));
	fixture_deinit(&f);
}
END_TEST

START_TEST(hints_that_disagree)
{
	static const struct kallsyms_build_layout *const both[] = { &per_cpu_6_4, &pcrel_7_0 };
	struct kallsyms_hints hints = {
		.have_shift = true,
		.shift = GVA - GPA,
		.image_gva = KALLSYMS_BUILD_TEXT,
		.image_len = 16 * MIB,
		.stext_gva = KALLSYMS_BUILD_TEXT + 0x4000000,
	};
	struct fixture f;

	fixture_init(&f, both[_i], COUNT, 60);
	ck_assert_int_eq(locate(&f), 0);
	ck_assert_int_eq(load(&f, &hints), 0);
	check_symbols(&f, 0);
	hints.image_len = 0;
	ck_assert_int_eq(load(&f, &hints), 0);
	check_symbols(&f, 0x4000000);
	hints.image_len = 16 * MIB;
	hints.image_gva += 0x8000000;
	ck_assert_int_eq(load(&f, &hints), -EBADMSG);
	fixture_deinit(&f);
}
END_TEST

START_TEST(code_before_text)
{
	struct kallsyms_hints hints = { 0 };
	struct fixture f;

	/* Where _text was there is another now. */
	struct kallsyms_build_names *names = names_of(COUNT, 0, 60);
	uint8_t *codes = names->codes[0];
	uint32_t len = names->lengths[0];
	names->codes[0] = names->codes[1000];
	names->lengths[0] = names->lengths[1000];
	names->codes[1000] = codes;
	names->lengths[1000] = len;
	fixture_init(&f, &pcrel_7_0, COUNT, 60);
	names->codes[1000] = names->codes[0];
	names->lengths[1000] = names->lengths[0];
	names->codes[0] = codes;
	names->lengths[0] = len;
	ck_assert_int_eq(locate(&f), 0);
	ck_assert_int_eq(load(&f, &hints), -EBADMSG);
	ck_assert_ptr_nonnull(strstr(f.err.text, "before _text"));
	fixture_deinit(&f);
}
END_TEST

START_TEST(places_of_relative_entries)
{
	struct kallsyms_hints hints = { .have_shift = true, .shift = GVA - GPA };
	struct fixture f;

	fixture_init(&f, &pcrel_7_0, COUNT, 60);
	ck_assert_int_eq(locate(&f), 0);
	ck_assert_int_eq(load(&f, &hints), 0);
	check_symbols(&f, 0);
	hints = (struct kallsyms_hints){ .stext_gva = KALLSYMS_BUILD_TEXT };
	ck_assert_int_eq(load(&f, &hints), 0);
	check_symbols(&f, 0);
	ck_assert_uint_eq(f.found.shift, GVA - GPA);
	/* Not an address of a kernel. */
	hints = (struct kallsyms_hints){ .have_shift = true, .shift = 4096 };
	ck_assert_int_eq(load(&f, &hints), -EBADMSG);
	fixture_deinit(&f);
}
END_TEST

/* Memory that ends in the middle of what it should hold, in front or behind. */
START_TEST(truncated_memory)
{
	const struct kallsyms_build_layout *layout = &layouts[_i];
	struct kallsyms_hints hints = { 0 };
	struct fixture f;

	fixture_init(&f, layout, 700, 60);
	const struct kallsyms *at = &f.build.at;
	const uint64_t cuts[] = {
		at->num_syms_at, at->names_at, at->markers_at, at->seqs_at, at->token_table_at,
		at->token_index_at, at->offsets_at, at->relative_base_at, at->end,
	};
	for (uint32_t i = 0; i < ARRAY_SIZE(cuts); i++) {
		for (int64_t around = -9; around <= 9; around += 3) {
			size_t cut = (size_t)((int64_t)cuts[i] + around), offset = 0;
			if (cut > f.build.len)
				continue;
			for (int behind = 0; behind < 2; behind++) {
				size_t len = behind ? f.build.len - cut : cut;
				/* An exact copy, so that AddressSanitizer sees a read too far. */
				uint8_t *part = malloc(MAX(len, 1u));
				memcpy(part, f.build.bytes + (behind ? cut : 0), len);
				uint64_t base = GPA + (behind ? cut : 0);
				f.bytes = (struct bytes_source){ part, len, base };
				offset = 0;
				kallsyms_scan(part, len, &offset);
				if (locate(&f) == 0)
					load(&f, &hints);
				free(part);
			}
		}
	}
	fixture_deinit(&f);
}
END_TEST

START_TEST(table_at_the_end_of_memory)
{
	struct fixture f;

	fixture_init(&f, &layouts[8], 700, 60);
	/* Its index is the last thing there is. */
	f.bytes.len = f.build.at.end;
	size_t at = 0;
	ck_assert_int_eq(kallsyms_scan(f.build.bytes, f.bytes.len, &at), 0);
	ck_assert_int_eq(locate(&f), 0);
	for (size_t less = 1; less < 600; less++) {
		at = 0;
		ck_assert_int_eq(kallsyms_scan(f.build.bytes, f.bytes.len - less, &at), -ENOENT);
	}
	/* At the ends of the address space there is nothing either. */
	struct source source = { bytes_source_read, &f.bytes };
	ck_assert_int_eq(kallsyms_locate(&source, 0, &f.found), -ENOENT);
	ck_assert_int_eq(kallsyms_locate(&source, UINT64_MAX, &f.found), -ENOENT);
	fixture_deinit(&f);
}
END_TEST

/* Tables wherever they are, and all of them. */
START_TEST(scan_finds_each_table)
{
	struct fixture f;
	const size_t len = 256 * KIB;
	uint64_t state = 9;

	fixture_init(&f, &per_cpu_6_4, 513, 60);
	const uint8_t *table = f.build.bytes + f.build.at.token_table_at;
	size_t table_len = f.build.at.token_index_at - f.build.at.token_table_at + 512;
	uint8_t *memory = malloc(len);
	for (uint32_t round = 0; round < 200; round++) {
		memset(memory, round % 3 ? 0 : 0xff, len);
		size_t first = kallsyms_build_random(&state) % (len / 2 - table_len) & ~3u;
		size_t second = len / 2 + (kallsyms_build_random(&state) % 4096 & ~3u);
		memcpy(memory + first, table, table_len);
		memcpy(memory + second, table, table_len);
		size_t at = 0;
		ck_assert_int_eq(kallsyms_scan(memory, len, &at), 0);
		ck_assert_uint_eq(at, first);
		ck_assert_int_eq(kallsyms_scan(memory, len, &at), 0);
		ck_assert_uint_eq(at, first);
		at++;
		ck_assert_int_eq(kallsyms_scan(memory, len, &at), 0);
		ck_assert_uint_eq(at, second);
		at = len;
		ck_assert_int_eq(kallsyms_scan(memory, len, &at), -ENOENT);
	}
	free(memory);
	fixture_deinit(&f);
}
END_TEST

/* A token that does not end, and an index that lies. */
START_TEST(damaged_tokens)
{
	struct fixture f;

	fixture_init(&f, &per_cpu_6_4, COUNT, 60);
	uint8_t *tokens = f.build.bytes + f.build.at.token_table_at;
	uint8_t *index = f.build.bytes + f.build.at.token_index_at;
	for (uint32_t i = 1; i < 256; i++) {
		size_t at = 0;
		uint8_t *nul = tokens + load_le16(index + 2 * i) - 1;
		*nul = 'x';
		ck_assert_int_eq(kallsyms_scan(f.build.bytes, f.build.len, &at), -ENOENT);
		ck_assert_int_eq(locate(&f), -ENOENT);
		*nul = 0;
		index[2 * i] ^= 1;
		ck_assert_int_eq(kallsyms_scan(f.build.bytes, f.build.len, &at), -ENOENT);
		ck_assert_int_eq(locate(&f), -ENOENT);
		index[2 * i] ^= 1;
	}
	ck_assert_int_eq(locate(&f), 0);
	tokens[load_le16(index + 200) - 1] = 'x';
	ck_assert_int_eq(load(&f, &(struct kallsyms_hints){ 0 }), -EBADMSG);
	fixture_deinit(&f);
}
END_TEST

static void expect_damage(struct fixture *f, uint64_t at, uint8_t value, const char *what)
{
	struct kallsyms_hints hints = { 0 };
	uint8_t *byte = f->build.bytes + at, before = *byte;

	ck_assert_int_eq(locate(f), 0);
	*byte = value;
	ck_assert_int_eq(load(f, &hints), -EBADMSG);
	ck_assert_msg(strstr(f->err.text, what) != NULL, "%s", f->err.text);
	*byte = before;
	ck_assert_int_eq(load(f, &hints), 0);
}

/* What changed, or was not looked at, after the tables were located. */
START_TEST(damage_is_said)
{
	struct fixture f;

	fixture_init(&f, &per_cpu_6_4, COUNT, 60);
	const struct kallsyms *at = &f.build.at;
	uint64_t name = at->names_at + load_le32(f.build.bytes + at->markers_at + 4 * 4);
	expect_damage(&f, at->markers_at, 1, "markers");
	expect_damage(&f, at->markers_at + 4 * 4 + 2, 0xff, "markers");
	expect_damage(&f, at->markers_at + 4 * 4, (uint8_t)(f.build.bytes[at->markers_at + 16] + 1),
		      "names");
	expect_damage(&f, name, 0, "names");
	expect_damage(&f, name, 0x7f, "names");
	expect_damage(&f, name, 0xff, "names");
	ck_assert_int_eq(locate(&f), 0);
	memset(f.build.bytes + at->offsets_at, 0, (size_t)at->count * 4);
	ck_assert_int_eq(load(&f, &(struct kallsyms_hints){ 0 }), -EBADMSG);
	ck_assert_ptr_nonnull(strstr(f.err.text, "addresses"));
	ck_assert_int_eq(locate(&f), -ENOENT);
	fixture_deinit(&f);
}
END_TEST

static void refuse(struct fixture *f, uint64_t at, uint8_t flip)
{
	f->build.bytes[at] ^= flip;
	ck_assert_int_eq(locate(f), -ENOENT);
	f->build.bytes[at] ^= flip;
	ck_assert_int_eq(locate(f), 0);
}

START_TEST(damage_is_no_table)
{
	const struct kallsyms_build_layout *layout = &layouts[_i];
	struct fixture f;

	fixture_init(&f, layout, COUNT, 60);
	const struct kallsyms *at = &f.build.at;
	ck_assert_int_eq(locate(&f), 0);
	refuse(&f, at->num_syms_at, 1);
	refuse(&f, at->num_syms_at + 2, 0xff);
	refuse(&f, at->num_syms_at + 3, 0xff);
	refuse(&f, at->names_at, 0x20);
	refuse(&f, at->markers_at, 1);
	refuse(&f, at->markers_at + layout->marker_bytes, 1);
	refuse(&f, at->markers_at + 3 * layout->marker_bytes + 3, 1);
	if (at->relative_base_at)
		refuse(&f, at->relative_base_at + 7, 0xff);
	fixture_deinit(&f);
}
END_TEST

/* Any bytes at all wrong: an answer, no matter which. */
START_TEST(random_damage)
{
	const struct kallsyms_build_layout *layout = &layouts[_i];
	struct kallsyms_hints hints = { .stext_gva = KALLSYMS_BUILD_TEXT };
	struct fixture f;
	uint64_t state = 17;

	fixture_init(&f, layout, 600, 60);
	uint8_t *whole = malloc(f.build.len);
	memcpy(whole, f.build.bytes, f.build.len);
	for (uint32_t round = 0; round < 300; round++) {
		for (uint32_t i = 0; i <= round % 16; i++)
			f.build.bytes[kallsyms_build_random(&state) % f.build.len] =
				(uint8_t)kallsyms_build_random(&state);
		size_t at = 0;
		kallsyms_scan(f.build.bytes, f.build.len, &at);
		if (locate(&f) == 0) {
			/* And again behind its back. */
			f.build.bytes[kallsyms_build_random(&state) % f.build.len] ^= 0x80;
			load(&f, &hints);
		}
		memcpy(f.build.bytes, whole, f.build.len);
	}
	free(whole);
	fixture_deinit(&f);
}
END_TEST

START_TEST(random_memory)
{
	const size_t len = 4 * MIB;
	uint8_t *memory = malloc(len);
	struct bytes_source bytes = { memory, len, 0 };
	struct source source = { bytes_source_read, &bytes };
	struct kallsyms found;
	uint64_t state = 5;
	size_t at = 0;

	for (size_t i = 0; i < len; i++)
		memory[i] = (uint8_t)kallsyms_build_random(&state);
	ck_assert_int_eq(kallsyms_scan(memory, len, &at), -ENOENT);
	for (uint64_t i = 0; i < 4096; i++)
		ck_assert_int_eq(kallsyms_locate(&source, i * 1024, &found), -ENOENT);
	memset(memory, 0, len);
	ck_assert_int_eq(kallsyms_scan(memory, len, &at), -ENOENT);
	ck_assert_int_eq(kallsyms_locate(&source, len / 2, &found), -ENOENT);
	free(memory);
}
END_TEST

/* A source that counts, and that fails from a read on. */
struct counting {
	struct bytes_source bytes;
	uint64_t reads, read_bytes, fail_at;
};

static int counting_read(void *context, uint64_t address, void *buf, size_t len)
{
	struct counting *counting = context;

	counting->read_bytes += len;
	if (++counting->reads == counting->fail_at)
		return -EIO;
	return bytes_source_read(&counting->bytes, address, buf, len);
}

START_TEST(failing_reads)
{
	struct kallsyms_hints hints = { 0 };
	struct fixture f;

	fixture_init(&f, &layouts[_i], 600, 60);
	ck_assert_int_eq(locate(&f), 0);
	struct counting counting = { f.bytes, 0, 0, 0 };
	f.source = (struct source){ counting_read, &counting };
	ck_assert_int_eq(load(&f, &hints), 0);
	uint64_t reads = counting.reads;
	for (uint64_t i = 1; i <= reads; i++) {
		counting.reads = 0;
		counting.fail_at = i;
		ck_assert_int_eq(load(&f, &hints), -EIO);
	}
	/* Locating reads less and less, where it can, before it gives up. */
	for (uint64_t i = 1; i <= 60; i++) {
		counting.reads = 0;
		counting.fail_at = i;
		int ret = locate(&f);
		ck_assert(ret == 0 || ret == -ENOENT);
	}
	fixture_deinit(&f);
}
END_TEST

/* Memory full of token tables, each with something before it that could be what belongs there. */
START_TEST(cost_of_false_tables)
{
	const size_t len = 8 * MIB;
	struct fixture f;

	fixture_init(&f, &layouts[8], 513, 60);
	const uint8_t *table = f.build.bytes + f.build.at.token_table_at;
	size_t table_len = f.build.at.token_index_at - f.build.at.token_table_at + 512;
	size_t space = _i == 0 ? 0 : _i == 1 ? 64 : _i == 2 ? 2048 : 65536;
	size_t each = (table_len + space + 3) & ~(size_t)3;
	uint8_t *memory = calloc(1, len);
	uint32_t tables = 0, found = 0;
	for (size_t at = 0; at + each <= len; at += each, tables++) {
		/* Markers; of names that are not there. */
		for (uint32_t i = 0; i < space / 4 && _i != 3; i++)
			memory[at + 4 * i] = 0, memory[at + 4 * i + 1] = (uint8_t)(i * 4),
			memory[at + 4 * i + 2] = (uint8_t)(i * 4 >> 8);
		memcpy(memory + at + space, table, table_len);
	}
	struct counting counting = { { memory, len, GPA }, 0, 0, 0 };
	struct source source = { counting_read, &counting };
	for (size_t at = 0; kallsyms_scan(memory, len, &at) == 0; at++, found++) {
		uint64_t before = counting.read_bytes;
		ck_assert_int_eq(kallsyms_locate(&source, GPA + at, &f.found), -ENOENT);
		ck_assert_uint_lt(counting.read_bytes - before, MIB);
	}
	ck_assert_uint_eq(found, tables);
	free(memory);
	fixture_deinit(&f);
}
END_TEST

static int write_corpus(const char *folder)
{
	for (uint32_t i = 0; i < ARRAY_SIZE(layouts); i++) {
		static const uint32_t chosen[] = { 0, 2, 8, 11, 14, 18 };
		struct fixture f;
		char path[4096];
		bool wanted = false;
		for (uint32_t j = 0; j < ARRAY_SIZE(chosen); j++)
			wanted |= chosen[j] == i;
		if (!wanted)
			continue;
		snprintf(path, sizeof(path), "%s/layout-%02u", folder, i);
		FILE *file = fopen(path, "wb");
		if (!file) {
			perror(path);
			return 1;
		}
		fixture_init(&f, &layouts[i], 520, layouts[i].uleb_lengths && i == 14 ? 300 : 20);
		fwrite(f.build.bytes, 1, f.build.len, file);
		fclose(file);
		fixture_deinit(&f);
	}
	return 0;
}

int main(int argc, char **argv)
{
	if (argc == 3 && strcmp(argv[1], "--write-corpus") == 0)
		return write_corpus(argv[2]);

	const int layout_count = (int)ARRAY_SIZE(layouts);
	static const uint32_t often[][2] = {
		{ COUNT, 511 }, { COUNT, 127 }, { COUNT, 60 }, { 2048, 300 }, { 2048, 100 },
		{ 513, 60 }, { 700, 60 }, { 600, 60 },
	};
	for (uint32_t i = 0; i < ARRAY_SIZE(often); i++) {
		names_of(often[i][0], 0, often[i][1]);
		names_of(often[i][0], PERCPU, often[i][1]);
	}
	Suite *suite = suite_create("kallsyms");
	TCase *tcase = tcase_create("kallsyms");
	tcase_add_loop_test(tcase, layouts_decode_exactly, 0, layout_count);
	tcase_add_test(tcase, long_names_with_one_length_byte);
	tcase_add_test(tcase, overlong_names_are_cut);
	tcase_add_loop_test(tcase, tables_that_were_not_relocated, 0, 2);
	tcase_add_loop_test(tcase, hints_that_disagree, 0, 2);
	tcase_add_test(tcase, code_before_text);
	tcase_add_test(tcase, places_of_relative_entries);
	tcase_add_loop_test(tcase, truncated_memory, 0, layout_count);
	tcase_add_test(tcase, table_at_the_end_of_memory);
	tcase_add_test(tcase, scan_finds_each_table);
	tcase_add_test(tcase, damaged_tokens);
	tcase_add_test(tcase, damage_is_said);
	tcase_add_loop_test(tcase, damage_is_no_table, 0, layout_count);
	tcase_add_loop_test(tcase, random_damage, 0, layout_count);
	tcase_add_test(tcase, random_memory);
	tcase_add_loop_test(tcase, failing_reads, 0, layout_count);
	tcase_add_loop_test(tcase, cost_of_false_tables, 0, 4);
	suite_add_tcase(suite, tcase);
	SRunner *runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	int failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	for (struct names_set *set = sets; set->count; set++)
		kallsyms_build_names_deinit(&set->names);
	return failed != 0;
}
