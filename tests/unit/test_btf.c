/* SPDX-License-Identifier: Apache-2.0 */
#include "suite.h"
#include <stdio.h>
#include <stdlib.h>

#include "btf_build.h"
#include "btf_walk.h"
#include "profile/btf.h"

/* Every form that a blob can have. */
static const struct {
	uint32_t header_len;
	bool layout;
} forms[] = {{24, false}, {32, false}, {32, true}, {40, true}};

static int load_bytes(const uint8_t *blob, size_t len, struct hvmi_profile **ret,
		      struct hvmi_error *err)
{
	/* Exact copies: AddressSanitizer then sees a read past the end. */
	uint8_t *copy = malloc(len ? len : 1);
	ck_assert_ptr_nonnull(copy);
	memcpy(copy, blob, len);
	struct hvmi_profile *profile = profile_create();
	ck_assert_ptr_nonnull(profile);
	int status = btf_load(copy, len, &profile->types, err);
	if (status < 0) {
		ck_assert_uint_eq(profile->types.type_count, 0);
		profile_destroy(profile);
		return status;
	}
	*ret = profile;
	return 0;
}

static int load(struct btf_build *build, uint32_t header_len, bool layout,
		struct hvmi_profile **ret, struct hvmi_error *err)
{
	size_t len;
	uint64_t blob_len;
	uint8_t *blob = btf_build_blob(build, header_len, layout, &len);

	ck_assert_int_eq(btf_probe(blob, len, &blob_len), 0);
	ck_assert_uint_eq(blob_len, len);
	int status = load_bytes(blob, len, ret, err);
	free(blob);
	return status;
}

static struct hvmi_type type_at(const struct hvmi_profile *profile, uint32_t id)
{
	struct hvmi_type type = {.size = sizeof(type)};
	ck_assert_int_eq(hvmi_profile_type(profile, id, &type), 0);
	return type;
}

static struct hvmi_type_member member_at(const struct hvmi_profile *profile, uint32_t id,
					 uint32_t index)
{
	struct hvmi_type_member member = {.size = sizeof(member)};
	ck_assert_int_eq(hvmi_profile_member_at(profile, id, index, &member), 0);
	return member;
}

static void check_kinds(const struct hvmi_profile *profile, const struct btf_sample *ids)
{
	const struct {
		uint32_t id, kind;
		uint64_t bytes;
		uint32_t flags, count;
		const char *name;
	} want[] = {
		{0, HVMI_TYPE_VOID, 0, 0, 0, ""},
		{ids->u32, HVMI_TYPE_TYPEDEF, 4, 0, 0, "u32"},
		{ids->list_head, HVMI_TYPE_STRUCT, 16, 0, 2, "list_head"},
		{ids->state, HVMI_TYPE_ENUM, 4, HVMI_TYPE_SIGNED, 2, "state"},
		{ids->flags, HVMI_TYPE_ENUM, 4, 0, 2, "flags"},
		{ids->big, HVMI_TYPE_ENUM, 8, 0, 2, "big"},
		{ids->mm, HVMI_TYPE_STRUCT, 32, 0, 1, "mm"},
		{ids->task, HVMI_TYPE_STRUCT, 128, 0, 18, "task"},
		{ids->cred, HVMI_TYPE_FORWARD, 0, 0, 0, "cred"},
		{ids->hook, HVMI_TYPE_POINTER, 8, 0, 0, ""},
		{ids->function, HVMI_TYPE_FUNCTION, 0, 0, 3, "run"},
		{ids->restricted, HVMI_TYPE_QUALIFIER, 8, 0, 0, ""},
		{ids->tagged, HVMI_TYPE_QUALIFIER, 1, 0, 0, "user"},
		{ids->variable, HVMI_TYPE_UNKNOWN, 0, 0, 0, "current"},
		{ids->section, HVMI_TYPE_UNKNOWN, 0, 0, 0, ".data..percpu"},
		{ids->tag, HVMI_TYPE_UNKNOWN, 0, 0, 0, "note"},
		{ids->number, HVMI_TYPE_FLOAT, 8, 0, 0, "double"},
		{ids->matrix, HVMI_TYPE_ARRAY, 24, 0, 2, ""},
	};
	for (size_t i = 0; i < ARRAY_SIZE(want); i++) {
		struct hvmi_type type = type_at(profile, want[i].id);
		ck_assert_uint_eq(type.id, want[i].id);
		ck_assert_uint_eq(type.kind, want[i].kind);
		ck_assert_uint_eq(type.bytes, want[i].bytes);
		ck_assert_uint_eq(type.flags, want[i].flags);
		ck_assert_uint_eq(type.count, want[i].count);
		ck_assert_str_eq(type.name, want[i].name);
	}
}

START_TEST(every_kind_in_every_form)
{
	struct btf_build build;
	struct btf_sample ids;
	struct hvmi_profile *profile = NULL;
	struct hvmi_error err = {0};
	struct hvmi_type last = {.size = sizeof(last)};

	btf_build_init(&build);
	btf_build_sample(&build, &ids);
	int status = load(&build, forms[_i].header_len, forms[_i].layout, &profile, &err);
	ck_assert_msg(status == 0, "%s", err.text);
	check_kinds(profile, &ids);
	ck_assert_int_eq(hvmi_profile_type(profile, build.count, &last), 0);
	ck_assert_int_eq(hvmi_profile_type(profile, build.count + 1, &last), -ENOENT);

	struct hvmi_type_member wide = member_at(profile, ids.task, 6);
	ck_assert_str_eq(wide.name, "wide");
	ck_assert_uint_eq(wide.bit_offset, 28 * 8 + 6);
	ck_assert_uint_eq(wide.bit_size, 20);
	ck_assert_uint_eq(wide.type, ids.u32);
	struct hvmi_type_member tasks = member_at(profile, ids.task, 1);
	ck_assert_uint_eq(tasks.bit_offset, 64);
	ck_assert_uint_eq(tasks.bit_size, 0);
	ck_assert_uint_eq(tasks.type, ids.list_head);
	ck_assert_str_eq(member_at(profile, ids.task, 2).name, "");

	int64_t value = 0;
	ck_assert_int_eq(hvmi_profile_enumerator(profile, "DEAD", &value, NULL), 0);
	ck_assert_int_eq(value, -1);
	ck_assert_int_eq(hvmi_profile_enumerator(profile, "FLAG_HIGH", &value, NULL), 0);
	ck_assert_int_eq(value, 0x80000000);
	ck_assert_int_eq(hvmi_profile_enumerator(profile, "BIG_HIGH", &value, NULL), 0);
	ck_assert_int_eq(value, 0x123456789abcdef0);
	btf_walk(profile);
	profile_destroy(profile);
	btf_build_deinit(&build);
}
END_TEST

/* struct { int a : 3, b : 5; int whole; } as it was told before there was kind_flag. */
START_TEST(older_bit_fields)
{
	struct btf_build build;
	struct hvmi_profile *profile = NULL;
	struct hvmi_error err = {0};

	btf_build_init(&build);
	uint32_t whole = btf_build_int(&build, "unsigned int", 4, 0);
	uint32_t three = btf_build_bits(&build, "unsigned int", 4, 0, 3);
	uint32_t five = btf_build_bits(&build, "unsigned int", 4, 3, 5);
	uint32_t alias = btf_build_of(&build, KIND_TYPEDEF, "five_t", five);
	uint32_t old = btf_build_type(&build, "old", KIND_STRUCT, false, 4, 8);
	btf_build_member(&build, "a", three, 0);
	btf_build_member(&build, "b", five, 0);
	btf_build_member(&build, "c", alias, 8);
	btf_build_member(&build, "whole", whole, 32);
	ck_assert_int_eq(load(&build, 24, false, &profile, &err), 0);
	const uint32_t offsets[] = {0, 3, 11, 32}, sizes[] = {3, 5, 5, 0};
	for (uint32_t i = 0; i < 4; i++) {
		ck_assert_uint_eq(member_at(profile, old, i).bit_offset, offsets[i]);
		ck_assert_uint_eq(member_at(profile, old, i).bit_size, sizes[i]);
	}
	btf_walk(profile);
	profile_destroy(profile);
	btf_build_deinit(&build);
}
END_TEST

/* Before 6.1 no enum was marked as signed, and values were defined to be. */
START_TEST(older_enums)
{
	struct btf_build build;
	struct hvmi_profile *profile = NULL;
	struct hvmi_error err = {0};
	int64_t value = 0;

	btf_build_init(&build);
	uint32_t old = btf_build_type(&build, "old", KIND_ENUM, false, 2, 4);
	btf_build_enumerator(&build, "MINUS", (uint32_t)-5);
	btf_build_enumerator(&build, "PLUS", 5);
	uint32_t plain = btf_build_type(&build, "plain", KIND_ENUM, false, 1, 4);
	btf_build_enumerator(&build, "SEVEN", 7);
	ck_assert_int_eq(load(&build, 24, false, &profile, &err), 0);
	ck_assert_uint_eq(type_at(profile, old).flags, HVMI_TYPE_SIGNED);
	ck_assert_uint_eq(type_at(profile, plain).flags, 0);
	ck_assert_int_eq(hvmi_profile_enumerator(profile, "MINUS", &value, NULL), 0);
	ck_assert_int_eq(value, -5);
	profile_destroy(profile);
	btf_build_deinit(&build);
}
END_TEST

/* The longer vlen of 7.2. */
START_TEST(many_elements)
{
	enum { COUNT = 70000 };
	struct btf_build build;
	struct hvmi_profile *profile = NULL;
	struct hvmi_error err = {0};
	const char *name;
	int64_t value = 0;

	btf_build_init(&build);
	uint32_t id = btf_build_type(&build, "many", KIND_ENUM, false, COUNT, 4);
	uint32_t text = btf_build_name(&build, "X");
	uint8_t *bytes = realloc(build.types, build.types_len + COUNT * 8);
	ck_assert_ptr_nonnull(bytes);
	build.types = bytes;
	for (uint32_t i = 0; i < COUNT; i++, build.types_len += 8) {
		const uint32_t pair[2] = {text, i};
		memcpy(build.types + build.types_len, pair, sizeof(pair));
	}
	uint32_t after = btf_build_int(&build, "int", 4, 1);
	ck_assert_int_eq(load(&build, 32, true, &profile, &err), 0);
	ck_assert_uint_eq(type_at(profile, id).count, COUNT);
	ck_assert_str_eq(type_at(profile, after).name, "int");
	ck_assert_int_eq(hvmi_profile_enumerator_at(profile, id, COUNT - 1, &name, &value), 0);
	ck_assert_int_eq(value, COUNT - 1);
	profile_destroy(profile);
	btf_build_deinit(&build);
}
END_TEST

/* A kind of the future, 40: 8 bytes, and 5 for each of its elements. */
START_TEST(unknown_kinds)
{
	struct btf_build build;
	struct hvmi_profile *profile = NULL;
	struct hvmi_error err = {0};

	btf_build_init(&build);
	btf_build_int(&build, "int", 4, 1);
	uint32_t strange = btf_build_type(&build, "strange", 40, true, 4, 0xffffffff);
	for (int i = 0; i < 7; i++)
		btf_build_word(&build, 0xffffffff);
	uint32_t after = btf_build_int(&build, "long int", 8, 1);
	build.layout[40][0] = 8;
	build.layout[40][1] = 5;

	build.layout_count = 41;
	ck_assert_int_eq(load(&build, 32, true, &profile, &err), 0);
	ck_assert_uint_eq(type_at(profile, strange).kind, HVMI_TYPE_UNKNOWN);
	ck_assert_str_eq(type_at(profile, after).name, "long int");
	btf_walk(profile);
	profile_destroy(profile);

	build.layout_count = 40;
	ck_assert_int_eq(load(&build, 32, true, &profile, &err), -EBADMSG);
	ck_assert_ptr_nonnull(strstr(err.text, "kind 40"));
	ck_assert_int_eq(load(&build, 24, false, &profile, &err), -EBADMSG);

	build.layout_count = 41;
	build.layout[KIND_STRUCT][1] = 16;
	ck_assert_int_eq(load(&build, 32, true, &profile, &err), -EBADMSG);
	ck_assert_ptr_nonnull(strstr(err.text, "kind 4"));
	btf_build_deinit(&build);
}
END_TEST

START_TEST(headers_are_judged)
{
	struct btf_build build;
	struct btf_sample ids;
	struct hvmi_profile *profile = NULL;
	struct hvmi_error err;
	uint64_t blob_len = 77;
	size_t len;
	static const struct {
		uint32_t at, value;
	} wrong[] = {
		{0, 0x0001eb9e},	/* magic */
		{0, 0x0002eb9f},	/* version */
		{0, 0x0101eb9f},	/* flags */
		{4, 20}, {4, 25}, {4, 4096},
		{8, 4}, {8, 2},		/* a gap before the types, types off their alignment */
		{12, 0}, {12, 13}, {12, 0xfffffffc},
		{16, 0}, {16, 0xffffffff},
		{20, 0}, {20, 1}, {20, 0xfffffff0},
		{24, 8}, {24, 0xfffffffc}, {28, 3}, {28, 0xfffffffc},
	};

	btf_build_init(&build);
	btf_build_sample(&build, &ids);
	uint8_t *blob = btf_build_blob(&build, 32, true, &len);
	for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
		uint32_t right;
		memcpy(&right, blob + wrong[i].at, 4);
		memcpy(blob + wrong[i].at, &wrong[i].value, 4);
		ck_assert_msg(btf_probe(blob, len, &blob_len) == -EBADMSG, "%zu", i);
		ck_assert_int_eq(load_bytes(blob, len, &profile, &err), -EBADMSG);
		ck_assert_uint_eq(err.text[0], 't');
		memcpy(blob + wrong[i].at, &right, 4);
	}
	ck_assert_uint_eq(blob_len, 77);
	for (size_t n = 0; n < 32; n++)
		ck_assert_int_eq(btf_probe(blob, n, &blob_len), -EBADMSG);
	ck_assert_int_eq(btf_probe(blob, 32, &blob_len), 0);
	ck_assert_uint_eq(blob_len, len);
	for (size_t n = 0; n < len; n++)
		ck_assert_int_eq(load_bytes(blob, n, &profile, &err), -EBADMSG);
	free(blob);
	btf_build_deinit(&build);
}
END_TEST

/* Each byte of a good blob takes values that hurt: it is refused, or makes a consistent graph. */
START_TEST(mutations)
{
	static const uint8_t values[] = {0x00, 0x01, 0x7f, 0x80, 0xff};
	struct btf_build build;
	struct btf_sample ids;
	struct hvmi_profile *profile = NULL;
	struct hvmi_error err;
	size_t len, loaded = 0, refused = 0;

	btf_build_init(&build);
	btf_build_sample(&build, &ids);
	/* Without and with a layout section. */
	uint8_t *blob = btf_build_blob(&build, forms[2 * _i].header_len, forms[2 * _i].layout,
				       &len);
	for (size_t at = 0; at < len; at++) {
		uint8_t right = blob[at];
		for (size_t i = 0; i < ARRAY_SIZE(values); i++) {
			blob[at] = values[i];
			int status = load_bytes(blob, len, &profile, &err);
			ck_assert(status == 0 || status == -EBADMSG);
			refused += status < 0;
			if (status < 0)
				continue;
			loaded++;
			btf_walk(profile);
			profile_destroy(profile);
		}
		blob[at] = right;
	}
	ck_assert_uint_gt(loaded, 0);
	ck_assert_uint_gt(refused, 0);
	free(blob);
	btf_build_deinit(&build);
}
END_TEST

START_TEST(strings_are_judged)
{
	struct btf_build build;
	struct hvmi_profile *profile = NULL;
	struct hvmi_error err;
	char name[TYPE_NAME_MAX + 2];

	btf_build_init(&build);
	memset(name, 'x', sizeof(name));
	name[TYPE_NAME_MAX] = '\0';
	btf_build_int(&build, name, 4, 0);
	btf_build_int(&build, "after", 4, 0);
	ck_assert_int_eq(load(&build, 24, false, &profile, &err), 0);
	profile_destroy(profile);
	name[TYPE_NAME_MAX] = 'x';
	name[TYPE_NAME_MAX + 1] = '\0';
	btf_build_int(&build, name, 4, 0);
	ck_assert_int_eq(load(&build, 24, false, &profile, &err), -EBADMSG);
	btf_build_deinit(&build);

	btf_build_init(&build);
	btf_build_int(&build, "a\nb", 4, 0);
	ck_assert_int_eq(load(&build, 24, false, &profile, &err), -EBADMSG);
	btf_build_deinit(&build);
}
END_TEST

START_TEST(modules_are_not_taken_for_kernels)
{
	struct btf_build build;
	uint64_t blob_len;
	size_t len;

	btf_build_init(&build);
	btf_build_int(&build, "int", 4, 0);
	uint8_t *blob = btf_build_blob(&build, 24, false, &len);
	blob[24] = 0xff;		/* the first type's name: in the kernel's strings */
	ck_assert_int_eq(btf_probe(blob, len, &blob_len), -EBADMSG);
	free(blob);
	btf_build_deinit(&build);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("btf");
	TCase *tests = tcase_create("btf");

	tcase_add_loop_test(tests, every_kind_in_every_form, 0, ARRAY_SIZE(forms));
	tcase_add_test(tests, older_bit_fields);
	tcase_add_test(tests, older_enums);
	tcase_add_test(tests, many_elements);
	tcase_add_test(tests, unknown_kinds);
	tcase_add_test(tests, headers_are_judged);
	tcase_add_loop_test(tests, mutations, 0, 2);
	tcase_add_test(tests, strings_are_judged);
	tcase_add_test(tests, modules_are_not_taken_for_kernels);
	suite_add_tcase(suite, tests);
	return run_suite(suite);
}
