/* SPDX-License-Identifier: Apache-2.0 */
/* Members of objects in guest memory. */
#include "suite.h"
#include <stdlib.h>

#include "btf_build.h"
#include "machine.h"
#include "profile/btf.h"

#define TASK_GVA 0x1000u
#define MM_GVA 0x2ff8u		/* its pgd lies in the next page */
#define END 0x10000u		/* of memory */

static struct btf_build build;
static struct btf_sample ids;
static struct hvmi_profile *profile;
static struct hvmi_vm *vm;
static struct hvmi_space *space;

static void setup(void)
{
	struct hvmi_space_config config = {.size = sizeof(config), .paging = HVMI_PAGING_NONE};
	struct hvmi_error err = {0};
	size_t len;

	btf_build_init(&build);
	btf_build_sample(&build, &ids);
	uint32_t word = btf_build_int(&build, "word", 8, 0);
	btf_build_type(&build, "packed", KIND_STRUCT, true, 1, 16);
	btf_build_bit_field(&build, "straddling", word, 60, 64);
	uint32_t wide = btf_build_int(&build, "__int128", 16, 0);
	btf_build_type(&build, "wide", KIND_STRUCT, false, 1, 16);
	btf_build_member(&build, "value", wide, 0);
	uint8_t *blob = btf_build_blob(&build, 24, false, &len);
	profile = profile_create();
	ck_assert_ptr_nonnull(profile);
	ck_assert_msg(btf_load(blob, len, &profile->types, &err) == 0, "%s", err.text);
	vm = machine_open(HVMI_OPEN_WRITE, "arch x86\nram 0 64K\n");
	ck_assert_msg(hvmi_space_create(vm, &config, &space, &err) == 0, "%s", err.text);
}

static void teardown(void)
{
	hvmi_space_destroy(space);
	hvmi_close(vm);
	profile_destroy(profile);
	btf_build_deinit(&build);
}

static void poke(uint64_t gva, uint64_t value, size_t len)
{
	uint8_t bytes[8];
	for (size_t i = 0; i < sizeof(bytes); i++)
		bytes[i] = (uint8_t)(value >> 8 * i);
	ck_assert_int_eq(hvmi_vm_write(vm, gva, bytes, len, NULL), 0);
}

static uint64_t read_as(const char *type, uint64_t object, const char *path)
{
	struct hvmi_member member = {.size = sizeof(member)};
	struct hvmi_error err = {0};
	uint64_t value = 0, again = 1;

	int status = hvmi_profile_read(profile, space, object, type, path, &value, &err);
	ck_assert_msg(status == 0, "%s: %s", path, err.text);
	ck_assert_int_eq(hvmi_profile_member(profile, type, path, &member, NULL), 0);
	ck_assert_int_eq(hvmi_member_read(&member, space, object, &again), 0);
	ck_assert_uint_eq(value, again);
	return value;
}

static uint64_t read_task(const char *path)
{
	return read_as("struct task", TASK_GVA, path);
}

START_TEST(numbers)
{
	poke(TASK_GVA + 0, 0x8000000000000001, 8);
	poke(TASK_GVA + 24, 0xfffffffe, 4);
	poke(TASK_GVA + 72, 0xffffffff, 4);
	poke(TASK_GVA + 76, 0x01, 1);
	poke(TASK_GVA + 55, 0x80, 1);
	poke(TASK_GVA + 116, 0x12345678, 4);
	ck_assert_uint_eq(read_task("state"), 0x8000000000000001);
	ck_assert_int_eq((int64_t)read_task("pid"), -2);
	ck_assert_uint_eq(read_task("low"), 0xfffe);
	ck_assert_uint_eq(read_task("high"), 0xffff);
	ck_assert_int_eq((int64_t)read_task("st"), -1);
	ck_assert_uint_eq(read_task("dead"), 1);
	ck_assert_int_eq((int64_t)read_task("comm[15]"), -128);
	ck_assert_uint_eq(read_task("matrix[1][2]"), 0x12345678);
}
END_TEST

START_TEST(bit_fields)
{
	poke(TASK_GVA + 28, 1 | 5 << 1 | 3 << 4 | 0xabcdeu << 6, 4);
	poke(TASK_GVA + 78, 0xf801, 2);
	ck_assert_uint_eq(read_task("in_exec"), 1);
	ck_assert_uint_eq(read_task("kind"), 5);
	ck_assert_uint_eq(read_task("wide"), 0xabcde);
	ck_assert_int_eq((int64_t)read_task("prio"), -2047);
	/* 64 bits in nine bytes. */
	poke(TASK_GVA + 0, 0x5555555555555555, 8);
	poke(TASK_GVA + 7, 0x1fedcba987654321, 8);
	poke(TASK_GVA + 15, 0x0a, 1);
	ck_assert_uint_eq(read_as("packed", TASK_GVA, "straddling"), 0xa1fedcba98765432);
}
END_TEST

START_TEST(pointers_are_followed)
{
	struct hvmi_member member = {.size = sizeof(member)};
	uint64_t gva = 0;

	poke(TASK_GVA + 32, MM_GVA, 8);
	poke(MM_GVA + 8, 0x1122334455667788, 8);
	poke(TASK_GVA + 88, MM_GVA - 32, 8);
	poke(MM_GVA - 32, 99, 8);
	ck_assert_uint_eq(read_task("mm"), MM_GVA);
	ck_assert_uint_eq(read_task("mm.pgd"), 0x1122334455667788);
	ck_assert_uint_eq(read_task("mms[1]->users"), 99);
	ck_assert_uint_eq(read_task("mms[1][1].pgd"), 0x1122334455667788);
	ck_assert_int_eq(hvmi_profile_member(profile, "task", "mm.raw[5]", &member, NULL), 0);
	ck_assert_int_eq(hvmi_member_address(&member, space, TASK_GVA, &gva), 0);
	ck_assert_uint_eq(gva, MM_GVA + 5);
	ck_assert_int_eq(hvmi_profile_member(profile, "task", "comm", &member, NULL), 0);
	ck_assert_int_eq(hvmi_member_address(&member, space, TASK_GVA, &gva), 0);
	ck_assert_uint_eq(gva, TASK_GVA + 40);
	/* The address of what is not there can be told, but not where its pointers lead. */
	ck_assert_int_eq(hvmi_member_address(&member, space, 0x123456789000, &gva), 0);
	ck_assert_uint_eq(gva, 0x123456789000 + 40);
	ck_assert_int_eq(hvmi_profile_member(profile, "task", "mm.pgd", &member, NULL), 0);
	ck_assert_int_eq(hvmi_member_address(&member, space, 0x123456789000, &gva), -EFAULT);
}
END_TEST

/* Pointers of a 32-bit kernel, whose addresses wrap there. */
START_TEST(short_pointers)
{
	profile->pointer_bytes = 4;
	poke(TASK_GVA + 32, MM_GVA, 8);
	poke(TASK_GVA + 36, 0xffffffff, 4);
	poke(MM_GVA + 8, 0x1122334455667788, 8);
	ck_assert_uint_eq(read_task("mm"), MM_GVA);
	ck_assert_uint_eq(read_task("mm.pgd"), 0x55667788);
	ck_assert_uint_eq(read_as("task", 0x100000000 + TASK_GVA, "mm.pgd"), 0x55667788);
}
END_TEST

START_TEST(what_cannot_be_read)
{
	static const char *const no_numbers[] = {"comm", "tasks", "load", "matrix[0]", "flex"};
	struct hvmi_member member = {.size = sizeof(member)};
	struct hvmi_error err = {0};
	uint64_t value = 42;

	for (size_t i = 0; i < ARRAY_SIZE(no_numbers); i++) {
		ck_assert_int_eq(hvmi_profile_read(profile, space, TASK_GVA, "task", no_numbers[i],
						   &value, &err), -EINVAL);
		ck_assert_int_eq(hvmi_profile_member(profile, "task", no_numbers[i], &member,
						     NULL), 0);
		ck_assert_int_eq(hvmi_member_read(&member, space, TASK_GVA, &value), -EINVAL);
	}
	ck_assert_int_eq(hvmi_profile_read(profile, space, TASK_GVA, "wide", "value", &value, &err),
			 -EINVAL);
	ck_assert_str_eq(err.text,
			 "'value' of wide is no number of at most 8 bytes but __int128");
	ck_assert_int_eq(hvmi_profile_read(profile, space, TASK_GVA, "task", "pidd", &value, &err),
			 -ENOENT);
	/* The pointer leads to where no RAM is. */
	poke(TASK_GVA + 32, 0x20000, 8);
	ck_assert_int_eq(hvmi_profile_read(profile, space, TASK_GVA, "struct task", "mm.pgd",
					   &value, &err), -EFAULT);
	ck_assert_uint_eq(err.address, 0x20008);
	ck_assert_str_eq(err.text, "cannot read 'mm.pgd' of the struct task at 0x1000: nothing is "
				   "mapped at 0x20008");
	/* The object does. */
	ck_assert_int_eq(hvmi_profile_read(profile, space, 0x30000, "struct task", "mm.pgd",
					   &value, &err), -EFAULT);
	ck_assert_uint_eq(err.address, 0x30020);
	ck_assert_uint_eq(value, 42);
}
END_TEST

/* A bit-field in the last bytes of memory: what its declared type has behind them is not read. */
START_TEST(nothing_else_is_read)
{
	poke(END - 9, 0xabcdef0123456789, 8);
	poke(END - 1, 0x5a, 1);
	ck_assert_uint_eq(read_as("packed", END - 16, "straddling"), 0xaabcdef012345678);
	poke(END - 2, 0xf801, 2);
	ck_assert_int_eq((int64_t)read_as("task", END - 80, "prio"), -2047);
}
END_TEST

START_TEST(members_are_judged)
{
	struct hvmi_member good = {.size = sizeof(good)}, bad;
	uint64_t value = 42;

	ck_assert_int_eq(hvmi_profile_member(profile, "task", "pid", &good, NULL), 0);
	bad = good;
	bad.size = 16;
	ck_assert_int_eq(hvmi_member_read(&bad, space, TASK_GVA, &value), -EINVAL);
	bad = good;
	bad.hop_count = 0;
	ck_assert_int_eq(hvmi_member_read(&bad, space, TASK_GVA, &value), -EINVAL);
	bad.hop_count = HVMI_PATH_HOPS + 1;
	ck_assert_int_eq(hvmi_member_address(&bad, space, TASK_GVA, &value), -EINVAL);
	bad = good;
	bad.pointer_bytes = 9;
	ck_assert_int_eq(hvmi_member_read(&bad, space, TASK_GVA, &value), -EINVAL);
	bad = good;
	bad.bytes = 9;
	ck_assert_int_eq(hvmi_member_read(&bad, space, TASK_GVA, &value), -EINVAL);
	bad = good;
	bad.bit_size = 65;
	ck_assert_int_eq(hvmi_member_read(&bad, space, TASK_GVA, &value), -EINVAL);
	bad.bit_size = 1;
	bad.bit_offset = UINT32_MAX;
	ck_assert_int_eq(hvmi_member_read(&bad, space, TASK_GVA, &value), -EINVAL);
	ck_assert_int_eq(hvmi_member_read(NULL, space, TASK_GVA, &value), -EINVAL);
	ck_assert_int_eq(hvmi_member_read(&good, NULL, TASK_GVA, &value), -EINVAL);
	ck_assert_uint_eq(value, 42);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("member");
	TCase *tests = tcase_create("member");

	tcase_add_checked_fixture(tests, setup, teardown);
	tcase_add_test(tests, numbers);
	tcase_add_test(tests, bit_fields);
	tcase_add_test(tests, pointers_are_followed);
	tcase_add_test(tests, short_pointers);
	tcase_add_test(tests, what_cannot_be_read);
	tcase_add_test(tests, nothing_else_is_read);
	tcase_add_test(tests, members_are_judged);
	suite_add_tcase(suite, tests);
	return run_suite(suite);
}
