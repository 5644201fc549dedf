/* SPDX-License-Identifier: Apache-2.0 */
#include "suite.h"
#include <stdio.h>
#include <stdlib.h>

#include "btf_build.h"
#include "profile/btf.h"

static struct btf_build build;
static struct btf_sample ids;
static struct hvmi_profile *profile;

static void load(void)
{
	struct hvmi_error err = {0};
	size_t len;
	uint8_t *blob = btf_build_blob(&build, 24, false, &len);

	profile = profile_create();
	ck_assert_ptr_nonnull(profile);
	ck_assert_msg(btf_load(blob, len, &profile->types, &err) == 0, "%s", err.text);
}

static void setup(void)
{
	btf_build_init(&build);
	btf_build_sample(&build, &ids);
	load();
}

static void teardown(void)
{
	profile_destroy(profile);
	btf_build_deinit(&build);
}

START_TEST(types_by_name)
{
	struct hvmi_type type = {.size = sizeof(type)};
	struct hvmi_error err = {0};
	uint64_t bytes = 7;
	const struct {
		const char *name;
		uint32_t id;
	} want[] = {
		{"task", ids.task}, {"struct task", ids.task}, {"u32", ids.u32},
		{"enum state", ids.state}, {"state", ids.state}, {"big", ids.big},
		{"struct cred", ids.cred}, {"cred", ids.cred}, {"double", ids.number},
	};

	for (size_t i = 0; i < ARRAY_SIZE(want); i++) {
		ck_assert_int_eq(hvmi_profile_find_type(profile, want[i].name, &type, &err), 0);
		ck_assert_uint_eq(type.id, want[i].id);
	}
	ck_assert_int_eq(hvmi_profile_sizeof(profile, "unsigned long", &bytes, &err), -ENOENT);
	ck_assert_int_eq(hvmi_profile_sizeof(profile, "long", &bytes, &err), 0);
	ck_assert_uint_eq(bytes, 8);
	ck_assert_int_eq(hvmi_profile_sizeof(profile, "unsigned short", &bytes, &err), 0);
	ck_assert_uint_eq(bytes, 2);
	ck_assert_int_eq(hvmi_profile_sizeof(profile, "u32", &bytes, &err), 0);
	ck_assert_uint_eq(bytes, 4);
	ck_assert_int_eq(hvmi_profile_sizeof(profile, "struct cred", &bytes, &err), -ENOENT);
	ck_assert_str_eq(err.text, "type 'struct cred' has no size");
	ck_assert_uint_eq(bytes, 4);
	ck_assert_int_eq(hvmi_profile_find_type(profile, "union task", &type, &err), -ENOENT);
	ck_assert_int_eq(hvmi_profile_find_type(profile, "struct u32", &type, &err), -ENOENT);
	ck_assert_int_eq(hvmi_profile_find_type(profile, "struct tasq", &type, &err), -ENOENT);
	ck_assert_str_eq(err.text,
			 "the kernel has no type 'struct tasq' (did you mean 'task'?)");
	ck_assert_int_eq(hvmi_profile_find_type(profile, "nothing_like_it", &type, &err), -ENOENT);
	ck_assert_str_eq(err.text, "the kernel has no type 'nothing_like_it'");
	ck_assert_int_eq(hvmi_profile_find_type(profile, "", &type, &err), -ENOENT);
	ck_assert_int_eq(hvmi_profile_find_type(profile, "run", &type, &err), -ENOENT);
}
END_TEST

/* A name that a struct, a typedef, a base type and two forwards share. */
START_TEST(types_in_order)
{
	struct hvmi_type type = {.size = sizeof(type)};

	btf_build_of(&build, KIND_FWD, "x", 0);
	uint32_t forward_union = btf_build_type(&build, "x", KIND_FWD, true, 0, 0);
	uint32_t base = btf_build_int(&build, "x", 4, 0);
	btf_build_of(&build, KIND_TYPEDEF, "x", base);
	uint32_t first = btf_build_type(&build, "x", KIND_STRUCT, false, 0, 1);
	btf_build_type(&build, "x", KIND_STRUCT, false, 0, 2);
	profile_destroy(profile);
	load();
	ck_assert_int_eq(hvmi_profile_find_type(profile, "x", &type, NULL), 0);
	ck_assert_uint_eq(type.id, first);
	ck_assert_int_eq(hvmi_profile_find_type(profile, "struct x", &type, NULL), 0);
	ck_assert_uint_eq(type.id, first);
	ck_assert_int_eq(hvmi_profile_find_type(profile, "union x", &type, NULL), 0);
	ck_assert_uint_eq(type.id, forward_union);
}
END_TEST

struct wanted_member {
	const char *path;
	uint64_t bytes;
	uint32_t kind, flags, bit_offset, bit_size, hop_count;
	uint64_t hops[3];
};

START_TEST(members_by_path)
{
	static const struct wanted_member want[] = {
		{"state", 8, HVMI_TYPE_INTEGER, 1, 0, 0, 1, {0}},
		{"tasks", 16, HVMI_TYPE_STRUCT, 0, 0, 0, 1, {8}},
		{"tasks.prev", 8, HVMI_TYPE_POINTER, 0, 0, 0, 1, {16}},
		{"tasks.next.prev", 8, HVMI_TYPE_POINTER, 0, 0, 0, 2, {8, 8}},
		{"pid", 4, HVMI_TYPE_INTEGER, 1, 0, 0, 1, {24}},
		{"high", 2, HVMI_TYPE_INTEGER, 0, 0, 0, 1, {26}},
		{"in_exec", 4, HVMI_TYPE_INTEGER, 0, 0, 1, 1, {28}},
		{"kind", 4, HVMI_TYPE_INTEGER, 0, 1, 3, 1, {28}},
		{"wide", 4, HVMI_TYPE_INTEGER, 0, 6, 20, 1, {28}},
		{"mm", 8, HVMI_TYPE_POINTER, 0, 0, 0, 1, {32}},
		{"mm.pgd", 8, HVMI_TYPE_POINTER, 0, 0, 0, 2, {32, 8}},
		{"mm->pgd", 8, HVMI_TYPE_POINTER, 0, 0, 0, 2, {32, 8}},
		{"mm[2].pgd", 8, HVMI_TYPE_POINTER, 0, 0, 0, 2, {32, 72}},
		{"mm.raw[31]", 1, HVMI_TYPE_INTEGER, 3, 0, 0, 2, {32, 31}},
		{"comm", 16, HVMI_TYPE_ARRAY, 0, 0, 0, 1, {40}},
		{"comm[15]", 1, HVMI_TYPE_INTEGER, 3, 0, 0, 1, {55}},
		{"hook", 8, HVMI_TYPE_POINTER, 0, 0, 0, 1, {64}},
		{"st", 4, HVMI_TYPE_ENUM, 1, 0, 0, 1, {72}},
		{"dead", 1, HVMI_TYPE_INTEGER, 4, 0, 0, 1, {76}},
		{"prio", 2, HVMI_TYPE_INTEGER, 1, 0, 12, 1, {78}},
		{"mms[1].users", 8, HVMI_TYPE_INTEGER, 1, 0, 0, 2, {88, 0}},
		{"matrix", 24, HVMI_TYPE_ARRAY, 0, 0, 0, 1, {96}},
		{"matrix[1]", 12, HVMI_TYPE_ARRAY, 0, 0, 0, 1, {108}},
		{"matrix[1][2]", 4, HVMI_TYPE_INTEGER, 1, 0, 0, 1, {116}},
		{"load", 8, HVMI_TYPE_FLOAT, 0, 0, 0, 1, {120}},
		{"flex", 0, HVMI_TYPE_ARRAY, 0, 0, 0, 1, {128}},
		{"flex[1000]", 1, HVMI_TYPE_INTEGER, 3, 0, 0, 1, {1128}},
	};
	struct hvmi_member member = {.size = sizeof(member)};
	struct hvmi_error err = {0};

	for (size_t i = 0; i < ARRAY_SIZE(want); i++) {
		int status = hvmi_profile_member(profile, "struct task", want[i].path, &member,
						 &err);
		ck_assert_msg(status == 0, "%s: %s", want[i].path, err.text);
		ck_assert_uint_eq(member.bytes, want[i].bytes);
		ck_assert_uint_eq(member.kind, want[i].kind);
		ck_assert_uint_eq(member.flags, want[i].flags);
		ck_assert_uint_eq(member.bit_offset, want[i].bit_offset);
		ck_assert_uint_eq(member.bit_size, want[i].bit_size);
		ck_assert_uint_eq(member.hop_count, want[i].hop_count);
		ck_assert_uint_eq(member.pointer_bytes, 8);
		for (uint32_t hop = 0; hop < member.hop_count; hop++)
			ck_assert_uint_eq(member.hops[hop], want[i].hops[hop]);
	}
}
END_TEST

START_TEST(paths_that_lead_nowhere)
{
	static const struct {
		const char *type, *path;
		int code;
		const char *text;
	} want[] = {
		{"task", "comn", -ENOENT,
		 "struct task has no member 'comn' (did you mean 'comm'?)"},
		{"task", "mm.user", -ENOENT,
		 "struct mm has no member 'user' (did you mean 'users'?)"},
		{"task", "nothing", -ENOENT, "struct task has no member 'nothing'"},
		{"task", "pid.x", -ENOENT, "'x' in 'pid.x': int is no struct or union"},
		{"task", "cred.uid", -ENOENT,
		 "'uid' in 'cred.uid': const struct cred is not defined in this kernel, only "
		 "declared"},
		{"task", "mms.users", -ENOENT,
		 "'users' in 'mms.users': struct mm *[2] is an array and wants an index"},
		{"task", "comm[16]", -ENOENT, "[16] in 'comm[16]': char [16] has only 16 elements"},
		{"task", "pid[0]", -ENOENT, "[0] in 'pid[0]': int is no array and no pointer"},
		{"task", "kind[0]", -ENOENT, "[0] in 'kind[0]': u32 is no array and no pointer"},
		{"task", "kind.x", -ENOENT, "'x' in 'kind.x': a bit-field has no members"},
		{"task", "mm.pgd[1]", -ENOENT,
		 "[1] in 'mm.pgd[1]': the elements of void * have no size"},
		{"task", "flex[18446744073709551615]", -EOVERFLOW, NULL},
		{"task", "flex[18446744073709551616]", -EOVERFLOW, NULL},
		{"task", "mm[18446744073709551615]", -EOVERFLOW, NULL},
		{"task", "", -EINVAL, "'' is no path to a member: write \"a.b[2].c\""},
		{"task", ".", -EINVAL, NULL},
		{"task", ".mm", -EINVAL, NULL},
		{"task", "mm.", -EINVAL, NULL},
		{"task", "mm->", -EINVAL, NULL},
		{"task", "mm-pgd", -EINVAL, NULL},
		{"task", "mm>pgd", -EINVAL, NULL},
		{"task", "mm..pgd", -EINVAL, NULL},
		{"task", "comm[", -EINVAL, NULL},
		{"task", "comm[]", -EINVAL, NULL},
		{"task", "comm[x]", -EINVAL, NULL},
		{"task", "comm[-1]", -EINVAL, NULL},
		{"task", "comm[1", -EINVAL, NULL},
		{"task", "comm]", -EINVAL, NULL},
		{"task", "comm[1]x", -EINVAL, NULL},
		{"nobody", "mm", -ENOENT, "the kernel has no type 'nobody'"},
		{"list_head", "next.next.next.next.next.next.next.next.next", -EOVERFLOW,
		 "'next.next.next.next.next.next.next.next.next' goes through more than 7 "
		 "pointers"},
	};
	struct hvmi_member member = {.size = sizeof(member), .bytes = 77};

	for (size_t i = 0; i < ARRAY_SIZE(want); i++) {
		struct hvmi_error err = {0};
		ck_assert_int_eq(hvmi_profile_member(profile, want[i].type, want[i].path, &member,
						     &err), want[i].code);
		ck_assert_int_eq(err.code, want[i].code);
		if (want[i].text)
			ck_assert_str_eq(err.text, want[i].text);
		ck_assert_int_eq(hvmi_profile_member(profile, want[i].type, want[i].path, &member,
						     NULL), want[i].code);
	}
	ck_assert_uint_eq(member.bytes, 77);
	ck_assert_int_eq(hvmi_profile_member(profile, "list_head",
					     "next.next.next.next.next.next.next.next", &member,
					     NULL), 0);
	ck_assert_uint_eq(member.hop_count, HVMI_PATH_HOPS);
}
END_TEST

/* Types that only an attacker writes. */
START_TEST(hostile_types)
{
	static const struct {
		const char *type, *path;
		int code;
	} want[] = {
		{"self", "a", -EBADMSG}, {"circle", "a", -EBADMSG}, {"outside", "a", -EBADMSG},
		{"crooked", "a", -EBADMSG}, {"wide", "a", -EBADMSG}, {"fan0", "a", -EBADMSG},
	};
	struct hvmi_member member = {.size = sizeof(member)};
	struct hvmi_type type = {.size = sizeof(type)};
	struct btf_build *b = &build;
	uint32_t count = b->count, word = btf_build_int(b, "word", 8, 0);
	char text[64];

	/* struct self { struct self; }; typedef circle circle; */
	btf_build_type(b, "self", KIND_STRUCT, false, 1, 8);
	btf_build_member(b, "", count + 2, 0);
	btf_build_of(b, KIND_TYPEDEF, "circle", count + 3);
	btf_build_type(b, "outside", KIND_STRUCT, false, 1, 8);
	btf_build_member(b, "a", word, 8);
	btf_build_type(b, "crooked", KIND_STRUCT, false, 1, 16);
	btf_build_member(b, "a", word, 4);
	btf_build_type(b, "wide", KIND_STRUCT, true, 1, 64);
	btf_build_bit_field(b, "a", word, 0, 65);
	uint32_t array = word;
	for (int i = 0; i < 10; i++)
		array = btf_build_array(b, array, UINT32_MAX);
	btf_build_type(b, "huge", KIND_STRUCT, false, 1, 64);
	btf_build_member(b, "a", array, 0);
	uint32_t endless = btf_build_array(b, b->count + 1, 0);
	btf_build_type(b, "flexible", KIND_STRUCT, false, 1, 8);
	btf_build_member(b, "a", endless, 8 * 8);
	/* Ten structs deep, each of 100 of the next: 100^10 members. */
	for (int i = 0; i < 10; i++) {
		char name[24];
		snprintf(name, sizeof(name), "fan%d", i);
		btf_build_type(b, name, KIND_STRUCT, false, 100, 8);
		for (int m = 0; m < 100; m++)
			btf_build_member(b, "", i < 9 ? b->count + 1 : word, 0);
	}
	/* A pointer to itself, and a function whose parameters are functions like it. */
	uint32_t pointer = btf_build_of(b, KIND_PTR, "", b->count + 1);
	uint32_t function = btf_build_type(b, "", KIND_FUNC_PROTO, false, 100, b->count + 1);
	for (int i = 0; i < 100; i++)
		btf_build_enumerator(b, "", function);
	profile_destroy(profile);
	load();

	for (size_t i = 0; i < ARRAY_SIZE(want); i++) {
		struct hvmi_error err = {0};
		int status = hvmi_profile_member(profile, want[i].type, want[i].path, &member,
						 &err);
		ck_assert_msg(status == want[i].code, "%s: %d %s", want[i].type, status, err.text);
		ck_assert_ptr_nonnull(strstr(err.text, "damaged"));
	}
	ck_assert_int_eq(hvmi_profile_member(profile, "huge", "a", &member, NULL), 0);
	ck_assert_uint_eq(member.bytes, 0);
	ck_assert_int_eq(hvmi_profile_member(profile, "huge", "a[1]", &member, NULL), -ENOENT);
	ck_assert_int_eq(hvmi_profile_member(profile, "flexible", "a[1]", &member, NULL), -ENOENT);
	ck_assert_int_eq(hvmi_profile_find_type(profile, "circle", &type, NULL), 0);
	ck_assert_uint_eq(type.bytes, 0);
	ck_assert_int_eq(hvmi_profile_type(profile, array, &type), 0);
	ck_assert_uint_eq(type.bytes, 0);
	ck_assert_int_gt(hvmi_profile_type_spelling(profile, pointer, text, sizeof(text)), 10);
	ck_assert_int_gt(hvmi_profile_type_spelling(profile, function, text, sizeof(text)), 10);
	ck_assert_int_lt(hvmi_profile_type_spelling(profile, function, NULL, 0), 100000);
}
END_TEST

/* What a compiler makes of packed bit-fields that cross their type's storage. */
START_TEST(bit_fields_across_words)
{
	struct hvmi_member member = {.size = sizeof(member)};

	uint32_t word = btf_build_int(&build, "word", 8, 0);
	btf_build_type(&build, "packed", KIND_STRUCT, true, 2, 16);
	btf_build_bit_field(&build, "a", word, 60, 64);
	btf_build_bit_field(&build, "b", word, 124, 4);
	profile_destroy(profile);
	load();
	ck_assert_int_eq(hvmi_profile_member(profile, "packed", "a", &member, NULL), 0);
	ck_assert_uint_eq(member.hops[0], 7);
	ck_assert_uint_eq(member.bit_offset, 4);
	ck_assert_uint_eq(member.bit_size, 64);
	ck_assert_int_eq(hvmi_profile_member(profile, "packed", "b", &member, NULL), 0);
	ck_assert_uint_eq(member.hops[0], 8);
	ck_assert_uint_eq(member.bit_offset, 60);
}
END_TEST

/* A pointer to a type, or to the qualified type. */
static uint32_t pointer_to(uint32_t type, uint32_t qualifier)
{
	if (qualifier)
		type = btf_build_of(&build, qualifier, "", type);
	return btf_build_of(&build, KIND_PTR, "", type);
}

START_TEST(types_are_spelt_as_in_c)
{
	struct btf_build *b = &build;
	uint32_t char_id = btf_build_int(b, "char", 1, 2);
	uint32_t string = pointer_to(char_id, KIND_CONST);
	uint32_t strings = pointer_to(string, KIND_CONST);
	uint32_t array = btf_build_array(b, char_id, 4);
	uint32_t nested = btf_build_array(b, array, 2);
	uint32_t nothing = btf_build_type(b, "", KIND_FUNC_PROTO, false, 0, 0);
	uint32_t table = btf_build_array(b, pointer_to(nothing, 0), 3);
	uint32_t callback = pointer_to(nothing, 0), array_pointer = pointer_to(array, 0);
	uint32_t returns_array = btf_build_type(b, "", KIND_FUNC_PROTO, false, 1, array_pointer);
	btf_build_enumerator(b, "", callback);
	const struct {
		uint32_t id;
		const char *text;
	} want[] = {
		{0, "void"},
		{ids.u32, "u32"},
		{ids.list_head, "struct list_head"},
		{ids.state, "enum state"},
		{ids.cred, "struct cred"},
		{ids.matrix, "int [2][3]"},
		{ids.restricted, "const char *restrict"},
		{ids.tagged, "const char"},
		{ids.hook, "int (*)(struct task *, const char *restrict, ...)"},
		{ids.function, "int (struct task *, const char *restrict, ...)"},
		{pointer_to(ids.list_head, 0), "struct list_head *"},
		{pointer_to(0, 0), "void *"},
		{strings, "const char *const *"},
		{pointer_to(strings, 0), "const char *const **"},
		{btf_build_of(b, KIND_VOLATILE, "", strings), "const char *const *volatile"},
		{array, "char [4]"},
		{btf_build_array(b, string, 4), "const char *[4]"},
		{pointer_to(array, 0), "char (*)[4]"},
		{pointer_to(array, KIND_CONST), "const char (*)[4]"},
		{pointer_to(nested, 0), "char (*)[2][4]"},
		{nothing, "void (void)"},
		{pointer_to(nothing, 0), "void (*)(void)"},
		{table, "void (*[3])(void)"},
		{pointer_to(table, 0), "void (*(*)[3])(void)"},
		{pointer_to(returns_array, 0), "char (*(*)(void (*)(void)))[4]"},
		{btf_build_type(b, "", KIND_STRUCT, false, 0, 0), "struct {...}"},
		{btf_build_type(b, "", KIND_UNION, false, 0, 0), "union {...}"},
		{btf_build_type(b, "", KIND_ENUM, false, 0, 4), "enum {...}"},
		{btf_build_type(b, "u", KIND_FWD, true, 0, 0), "union u"},
	};
	char text[128], few[8];

	profile_destroy(profile);
	load();
	for (size_t i = 0; i < ARRAY_SIZE(want); i++) {
		int len = hvmi_profile_type_spelling(profile, want[i].id, text, sizeof(text));
		ck_assert_str_eq(text, want[i].text);
		ck_assert_int_eq(len, strlen(text));
	}
	ck_assert_int_eq(hvmi_profile_type_spelling(profile, ids.list_head, few, sizeof(few)), 16);
	ck_assert_str_eq(few, "struct ");
	ck_assert_int_eq(hvmi_profile_type_spelling(profile, ids.list_head, NULL, 0), 16);
	ck_assert_int_eq(hvmi_profile_type_spelling(profile, 999999, text, sizeof(text)), -ENOENT);
	ck_assert_int_eq(hvmi_profile_type_spelling(profile, 0, NULL, 5), -EINVAL);
}
END_TEST

START_TEST(enumerators)
{
	struct hvmi_error err = {0};
	const char *name = NULL;
	int64_t value = 0;

	ck_assert_int_eq(hvmi_profile_enumerator_at(profile, ids.state, 1, &name, &value), 0);
	ck_assert_str_eq(name, "DEAD");
	ck_assert_int_eq(value, -1);
	ck_assert_int_eq(hvmi_profile_enumerator_at(profile, ids.state, 2, &name, &value), -ENOENT);
	ck_assert_int_eq(hvmi_profile_enumerator_at(profile, ids.task, 0, &name, &value), -ENOENT);
	ck_assert_int_eq(hvmi_profile_enumerator(profile, "ALIVE", &value, &err), -ENOENT);
	ck_assert_str_eq(err.text, "the kernel has no enumerator 'ALIVE'");
}
END_TEST

/* Programs that were built against another version of a struct. */
START_TEST(other_sizes_of_structs)
{
	struct {
		struct hvmi_type type;
		uint64_t later;
	} newer = {.type.size = sizeof(newer), .later = 5};
	struct hvmi_type none = {.size = 0};

	ck_assert_int_eq(hvmi_profile_type(profile, ids.task, &newer.type), 0);
	ck_assert_uint_eq(newer.type.size, sizeof(newer));
	ck_assert_uint_eq(newer.type.bytes, 128);
	ck_assert_uint_eq(newer.later, 0);
	ck_assert_int_eq(hvmi_profile_type(profile, ids.task, &none), -EINVAL);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("profile");
	TCase *tests = tcase_create("profile");

	tcase_add_checked_fixture(tests, setup, teardown);
	tcase_add_test(tests, types_by_name);
	tcase_add_test(tests, types_in_order);
	tcase_add_test(tests, members_by_path);
	tcase_add_test(tests, paths_that_lead_nowhere);
	tcase_add_test(tests, hostile_types);
	tcase_add_test(tests, bit_fields_across_words);
	tcase_add_test(tests, types_are_spelt_as_in_c);
	tcase_add_test(tests, enumerators);
	tcase_add_test(tests, other_sizes_of_structs);
	suite_add_tcase(suite, tests);
	return run_suite(suite);
}
