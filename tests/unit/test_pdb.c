/* SPDX-License-Identifier: Apache-2.0 */
/* What clang and lld do not write; tests/windows/check_pdb.py compares what they do. */
#include "suite.h"

#include <stdio.h>
#include <stdlib.h>

#include "pdb_build.h"
#include "profile/pdb.h"

enum { INFO = 1, TYPES, DEBUG, RECORDS, SECTIONS, OMAP, ORIGINAL, STREAMS };

struct bytes {
	uint8_t at[2048];
	uint32_t len;
};

static struct bytes parts[STREAMS];

static void put(struct bytes *bytes, uint64_t value, uint32_t len)
{
	ck_assert_uint_le(bytes->len + len, sizeof(bytes->at));
	for (uint32_t i = 0; i < len; i++)
		bytes->at[bytes->len++] = (uint8_t)(value >> 8 * i);
}

static void put_text(struct bytes *bytes, const char *text)
{
	for (const char *p = text; *p; p++)
		put(bytes, (uint8_t)*p, 1);
	put(bytes, 0, 1);
}

static void set(struct bytes *bytes, uint32_t at, uint32_t value, uint32_t len)
{
	for (uint32_t i = 0; i < len; i++)
		bytes->at[at + i] = (uint8_t)(value >> 8 * i);
}

static void put_symbol(uint32_t kind, uint32_t flags, uint32_t section, uint32_t offset,
		       const char *name)
{
	struct bytes *to = &parts[RECORDS];
	uint32_t start = to->len;

	put(to, 0, 2);
	put(to, kind, 2);
	put(to, flags, 4);
	put(to, offset, 4);
	put(to, section, 2);
	if (kind == 0x1009)
		put(to, strlen(name), 1);
	put_text(to, name);
	while (to->len % 4)
		put(to, 0, 1);
	set(to, start, to->len - start - 2, 2);
}

static void put_section(struct bytes *to, uint32_t rva)
{
	uint32_t start = to->len;
	put(to, 0, 40 - 32);
	for (int i = 0; i < 4; i++)
		put(to, 0, 8);
	set(to, start + 12, rva, 4);
}

/* An x86 image of two sections, without types. */
static void begin(void)
{
	memset(parts, 0, sizeof(parts));
	put(&parts[INFO], 20000404, 4);
	put(&parts[INFO], 0x11223344, 4);
	put(&parts[INFO], 7, 4);
	for (uint32_t i = 0; i < 16; i++)
		put(&parts[INFO], i, 1);
	struct bytes *debug = &parts[DEBUG];
	for (int i = 0; i < 8; i++)
		put(debug, 0, 8);
	set(debug, 0, UINT32_MAX, 4);
	set(debug, 8, 2, 4);
	set(debug, 20, RECORDS, 2);
	set(debug, 48, 22, 4);
	set(debug, 58, 0x14c, 2);
	for (int i = 0; i < 11; i++)
		put(debug, 0xffff, 2);
	set(debug, 64 + 10, SECTIONS, 2);
	put_section(&parts[SECTIONS], 0x1000);
	put_section(&parts[SECTIONS], 0x5000);
}

static int load(struct symbols *symbols, struct types *types, struct hvmi_error *err)
{
	struct pdb_build_stream streams[STREAMS];
	size_t len;

	for (uint32_t i = 0; i < STREAMS; i++)
		streams[i] = (struct pdb_build_stream){ parts[i].at, parts[i].len };
	uint8_t *file = pdb_build(streams, STREAMS, &len);
	ck_assert_ptr_nonnull(file);
	int rc = pdb_load(file, len, 0x80400000, types, symbols, err);
	ck_assert_int_eq(rc < 0 ? 0 : symbols_freeze(symbols), 0);
	free(file);
	return rc;
}

static uint64_t find(const struct symbols *symbols, const char *name)
{
	uint64_t gva = 0;
	ck_assert_msg(symbols_find(symbols, name, &gva) == 0, "%s", name);
	return gva;
}

START_TEST(names_and_places)
{
	struct symbols symbols = { 0 };
	struct types types = { 0 };

	begin();
	put_symbol(0x110e, 2, 1, 0x10, "_NtClose@4");
	put_symbol(0x110e, 0, 2, 0x20, "_PsActiveProcessHead");
	put_symbol(0x110e, 2, 1, 0x30, "@KfRaiseIrql@4");
	put_symbol(0x110e, 2, 1, 0x40, "?method@class@@QAEXXZ");
	put_symbol(0x110e, 2, 1, 0x44, "@odd");
	put_symbol(0x1009, 0, 2, 0x50, "_OldStyle");
	put_symbol(0x110e, 0, 3, 0x60, "_NoSuchSection");
	put_symbol(0x110d, 0, 2, 0x20, "_PsActiveProcessHead");
	put_symbol(0x110c, 0, 2, 0x70, "_Local");
	ck_assert_int_eq(load(&symbols, &types, NULL), 0);
	ck_assert_uint_eq(types.type_count, 0);
	ck_assert_uint_eq(find(&symbols, "NtClose"), 0x80401010);
	ck_assert_uint_eq(find(&symbols, "PsActiveProcessHead"), 0x80405020);
	ck_assert_uint_eq(find(&symbols, "KfRaiseIrql"), 0x80401030);
	ck_assert_uint_eq(find(&symbols, "?method@class@@QAEXXZ"), 0x80401040);
	ck_assert_uint_eq(find(&symbols, "@odd"), 0x80401044);
	ck_assert_uint_eq(find(&symbols, "OldStyle"), 0x80405050);
	ck_assert_uint_eq(find(&symbols, "Local"), 0x80405070);
	ck_assert_uint_eq(symbols.count, 7);
	symbols_deinit(&symbols);
}
END_TEST

/* Kernels until 2003 were rearranged after linking: places are those of before. */
START_TEST(rearranged)
{
	static const uint32_t omap[][2] = { { 0x2000, 0x9000 }, { 0x2100, 0 }, { 0x2200, 0x8000 } };
	struct symbols symbols = { 0 };
	struct types types = { 0 };
	uint64_t gva;

	begin();
	set(&parts[DEBUG], 64 + 8, OMAP, 2);
	set(&parts[DEBUG], 64 + 20, ORIGINAL, 2);
	put_section(&parts[ORIGINAL], 0x2000);
	for (size_t i = 0; i < ARRAY_SIZE(omap); i++) {
		put(&parts[OMAP], omap[i][0], 4);
		put(&parts[OMAP], omap[i][1], 4);
	}
	put_symbol(0x110e, 2, 1, 0x10, "_First");
	put_symbol(0x110e, 2, 1, 0x110, "_Gone");
	put_symbol(0x110e, 2, 1, 0x204, "_Last");
	ck_assert_int_eq(load(&symbols, &types, NULL), 0);
	ck_assert_uint_eq(find(&symbols, "First"), 0x80409010);
	ck_assert_uint_eq(find(&symbols, "Last"), 0x80408004);
	ck_assert_int_eq(symbols_find(&symbols, "Gone", &gva), -ENOENT);
	symbols_deinit(&symbols);
}
END_TEST

START_TEST(identity)
{
	struct pdb_build_stream streams[STREAMS] = { 0 };
	struct pdb_id id;
	size_t len;

	begin();
	for (uint32_t i = 0; i < STREAMS; i++)
		streams[i] = (struct pdb_build_stream){ parts[i].at, parts[i].len };
	uint8_t *file = pdb_build(streams, STREAMS, &len);
	ck_assert_int_eq(pdb_identify(file, len, &id, NULL), 0);
	ck_assert_uint_eq(id.age, 2);
	ck_assert_uint_eq(id.machine, 0x14c);
	ck_assert_mem_eq(id.guid, parts[INFO].at + 12, 16);
	/* However it is cut short, it is refused; its last block is full of zeros. */
	for (size_t cut = 0; cut + 512 < len; cut += 64) {
		struct symbols symbols = { 0 };
		struct types types = { 0 };
		struct hvmi_error err;
		uint8_t *copy = malloc(cut ? cut : 1);
		memcpy(copy, file, cut);
		ck_assert_int_eq(pdb_load(copy, cut, 0, &types, &symbols, &err), -EBADMSG);
		ck_assert_int_ne(err.text[0], 0);
		free(copy);
	}
	free(file);
}
END_TEST

static void put_types_header(uint32_t count)
{
	struct bytes *to = &parts[TYPES];
	for (int i = 0; i < 7; i++)
		put(to, 0, 8);
	set(to, 4, 56, 4);
	set(to, 8, 0x1000, 4);
	set(to, 12, 0x1000 + count, 4);
}

static uint32_t begin_record(uint32_t kind)
{
	put(&parts[TYPES], 0, 2);
	put(&parts[TYPES], kind, 2);
	return parts[TYPES].len - 4;
}

static void end_record(uint32_t start)
{
	struct bytes *to = &parts[TYPES];
	while (to->len % 4)
		put(to, 0xf0 + 4 - to->len % 4, 1);
	set(to, start, to->len - start - 2, 2);
	set(to, 16, to->len - 56, 4);
}

static void put_fields(const char *member, uint32_t type, uint32_t next)
{
	uint32_t start = begin_record(0x1203);
	struct bytes *to = &parts[TYPES];
	put(to, 0x150d, 2);
	put(to, 3, 2);
	put(to, type, 4);
	put(to, 0x8004, 2);
	put(to, 0x10000, 4);
	put_text(to, member);
	while (to->len % 4)
		put(to, 0xf0 + 4 - to->len % 4, 1);
	if (next) {
		put(to, 0x1404, 2);
		put(to, 0, 2);
		put(to, next, 4);
	}
	end_record(start);
}

static void put_struct(const char *name, uint32_t properties, uint32_t fields, uint32_t bytes)
{
	uint32_t start = begin_record(0x1505);
	struct bytes *to = &parts[TYPES];
	put(to, 1, 2);
	put(to, properties, 2);
	put(to, fields, 4);
	put(to, 0, 8);
	put(to, 0x8004, 2);
	put(to, bytes, 4);
	put_text(to, name);
	end_record(start);
}

START_TEST(lists)
{
	struct symbols symbols = { 0 };
	struct hvmi_profile *profile = profile_create();
	struct hvmi_member member = { .size = sizeof(member) };

	/* A list that continues, members far off, a definition behind its use. */
	begin();
	put_types_header(5);
	put_struct("_LATER", 0x80, 0, 0);		/* 0x1000 */
	put_fields("far", 0x1000, 0);		/* 0x1001 */
	put_fields("near", 0x20, 0x1001);	/* 0x1002 */
	put_struct("_OWNER", 0, 0x1002, 0x20020);	/* 0x1003 */
	put_struct("_LATER", 0, 0x1001, 0x10010);	/* 0x1004: holds itself, which is nonsense */
	profile->pointer_bytes = 4;
	ck_assert_int_eq(load(&symbols, &profile->types, NULL), 0);
	ck_assert_int_eq(hvmi_profile_member(profile, "_OWNER", "far", &member, NULL), 0);
	ck_assert_uint_eq(member.hops[0], 0x10000);
	ck_assert_uint_eq(member.kind, HVMI_TYPE_STRUCT);
	ck_assert_uint_eq(member.bytes, 0x10010);
	ck_assert_int_eq(hvmi_profile_member(profile, "_OWNER", "near", &member, NULL), 0);
	ck_assert_uint_eq(member.bytes, 1);
	profile_destroy(profile);
	symbols_deinit(&symbols);
}
END_TEST

START_TEST(endless_lists)
{
	struct symbols symbols = { 0 };
	struct types types = { 0 };
	struct hvmi_error err;

	/* A list that continues itself ends; one that is none is refused. */
	begin();
	put_types_header(2);
	put_fields("again", 0x22, 0x1000);
	put_struct("_ENDLESS", 0, 0x1000, 0x20000);
	ck_assert_int_eq(load(&symbols, &types, &err), 0);
	ck_assert_uint_le(types.member_count, 64);
	types_deinit(&types);

	begin();
	put_types_header(1);
	put_struct("_ITSELF", 0, 0x1000, 0);
	ck_assert_int_eq(load(&symbols, &types, &err), -EBADMSG);
	ck_assert_str_eq(err.text, "this PDB is malformed: type 0x1000 makes no sense");
	begin();
	put_types_header(1000);
	ck_assert_int_eq(load(&symbols, &types, &err), -EBADMSG);
	symbols_deinit(&symbols);
}
END_TEST

/* Names stay where they were read, but for those that are too long, and those of simple types. */
START_TEST(long_names)
{
	char name[TYPE_NAME_MAX + 8];
	struct symbols symbols = { 0 };
	struct hvmi_profile *profile = profile_create();
	struct hvmi_member member = { .size = sizeof(member) };
	struct hvmi_type type = { .size = sizeof(type) };

	memset(name, 'n', sizeof(name) - 1);
	name[sizeof(name) - 1] = '\0';
	begin();
	put_types_header(2);
	put_fields("member", 0x74, 0);
	put_struct(name, 0, 0x1000, 0x10004);
	profile->pointer_bytes = 4;
	ck_assert_int_eq(load(&symbols, &profile->types, NULL), 0);
	name[TYPE_NAME_MAX] = '\0';
	ck_assert_int_eq(hvmi_profile_find_type(profile, name, &type, NULL), 0);
	ck_assert_str_eq(type.name, name);
	ck_assert_int_eq(hvmi_profile_member(profile, name, "member", &member, NULL), 0);
	ck_assert_uint_eq(member.bytes, 4);
	ck_assert_int_eq(hvmi_profile_find_type(profile, "int", &type, NULL), 0);
	ck_assert_str_eq(type.name, "int");
	ck_assert_str_eq(profile->types.names, "");
	profile_destroy(profile);
	symbols_deinit(&symbols);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("pdb");
	TCase *cases = tcase_create("pdb");
	tcase_add_test(cases, names_and_places);
	tcase_add_test(cases, rearranged);
	tcase_add_test(cases, identity);
	tcase_add_test(cases, lists);
	tcase_add_test(cases, endless_lists);
	tcase_add_test(cases, long_names);
	suite_add_tcase(suite, cases);
	return run_suite(suite);
}
