/* SPDX-License-Identifier: Apache-2.0 */
#include "suite.h"
#include <stdlib.h>
#include <string.h>

#include "machine.h"
#include "page_tables.h"

/*
 * Of the region at BASE pages 0 to 3 are mapped to frames that are not in order, page 4 is a hole,
 * pages 5 and 6 are contiguous, page 7 is mapped to where no RAM is. Behind a hole comes a page of
 * 2 MiB.
 */
#define PAGE 4096ull
#define BASE 0xffff800000400000ull
#define LARGE 0xffff800000800000ull
static const uint64_t frames[] = { 0x10000, 0x30000, 0x31000, 0x20000 };

static struct hvmi_vm *vm;
static struct page_tables tables;
static struct hvmi_space *space;

static void start(const char *script, uint32_t flags)
{
	vm = machine_open(flags, "%s", script);
	page_tables_init(&tables, vm, HVMI_PAGING_X86_4LEVEL, 0x100000);
	space = page_tables_space(&tables, HVMI_SPACE_NX, 0);
	for (size_t i = 0; i < 4; i++)
		page_tables_map(&tables, BASE + i * PAGE, frames[i], 1, 0);
	page_tables_map(&tables, BASE + 5 * PAGE, 0x50000, 1, 0);
	page_tables_map(&tables, BASE + 6 * PAGE, 0x51000, 1, 0);
	page_tables_map(&tables, BASE + 7 * PAGE, 0x70000000, 1, 0);
	page_tables_map(&tables, LARGE, 0x400000, 2, 0);
	static uint64_t words[0x60000 / 8];
	for (size_t i = 0; i < sizeof(words) / 8; i++)
		words[i] = i * 8;
	ck_assert_int_eq(hvmi_vm_write(vm, 0, words, sizeof(words), NULL), 0);
}

/* The same checks with memory that is mapped and with memory that is copied. */
static void setup(void)
{
	start("ram 0 16M\n", HVMI_OPEN_WRITE);
}

static void setup_nomap(void)
{
	start("ram 0 16M\nnomap\n", HVMI_OPEN_WRITE);
}

static void teardown(void)
{
	hvmi_space_destroy(space);
	hvmi_close(vm);
}

/* What stands at an offset from BASE, byte by byte. */
static uint8_t expected_byte(uint64_t offset)
{
	uint64_t gpa = frames[offset / PAGE] + offset % PAGE;
	return (uint8_t)((gpa & ~7ull) >> 8 * (gpa & 7));
}

START_TEST(read_across_pages)
{
	static uint8_t buf[5 * PAGE], expected[4 * PAGE];
	for (uint64_t i = 0; i < 4 * PAGE; i++)
		expected[i] = expected_byte(i);
	for (uint64_t from = 0; from < 4 * PAGE; from += 509)
		for (uint64_t len = 0; from + len <= 4 * PAGE; len = len * 2 + 1) {
			size_t done = 77;
			memset(buf, 0xee, sizeof(buf));
			ck_assert_int_eq(hvmi_space_read(space, BASE + from, buf, len, &done), 0);
			ck_assert_uint_eq(done, len);
			ck_assert(memcmp(buf, expected + from, len) == 0);
			ck_assert_uint_eq(buf[len], 0xee);
		}
}
END_TEST

START_TEST(read_up_to_holes)
{
	static uint8_t buf[20 * PAGE];
	size_t done;
	ck_assert_int_eq(hvmi_space_read(space, BASE + 100, buf, 5 * PAGE, &done), -EFAULT);
	ck_assert_uint_eq(done, 4 * PAGE - 100);
	for (uint64_t i = 0; i < done; i++)
		ck_assert_uint_eq(buf[i], expected_byte(100 + i));
	/* Mapped, but to no RAM. */
	ck_assert_int_eq(hvmi_space_read(space, BASE + 5 * PAGE + 1, buf, 3 * PAGE, &done),
			 -EFAULT);
	ck_assert_uint_eq(done, 2 * PAGE - 1);
	ck_assert_int_eq(hvmi_space_read(space, BASE + 4 * PAGE, buf, 1, &done), -EFAULT);
	ck_assert_uint_eq(done, 0);
	ck_assert_int_eq(hvmi_space_read(space, BASE + 4 * PAGE, buf, 1, NULL), -EFAULT);
	ck_assert_int_eq(hvmi_space_read(space, BASE + 4 * PAGE, buf, 0, &done), 0);
}
END_TEST

/* Addresses never wrap around, even if both ends are mapped. */
START_TEST(read_at_the_ends_of_the_space)
{
	uint8_t buf[16];
	size_t done;
	page_tables_map(&tables, -PAGE, 0x10000, 1, 0);
	page_tables_map(&tables, 0, 0x10000, 1, 0);
	page_tables_map(&tables, 0x7ffffffff000, 0x10000, 1, 0);
	ck_assert_int_eq(hvmi_space_read(space, -8ull, buf, 8, &done), 0);
	ck_assert_int_eq(hvmi_space_read(space, -8ull, buf, 9, &done), -EFAULT);
	ck_assert_uint_eq(done, 8);
	ck_assert_int_eq(hvmi_space_read(space, 0x7ffffffffff8, buf, 16, &done), -EFAULT);
	ck_assert_uint_eq(done, 8);
	const void *host;
	ck_assert_int_eq(hvmi_space_map(space, -8ull, 16, &host), -EFAULT);
	char string[64];
	memset(string, 'x', sizeof(string));
	ck_assert_int_eq(hvmi_space_write(space, -4ull, string, 4, NULL), 0);
	size_t len;
	ck_assert_int_eq(hvmi_space_read_string(space, -4ull, string, sizeof(string), &len),
			 -EFAULT);
	ck_assert_uint_eq(len, 4);
	ck_assert_str_eq(string, "xxxx");
}
END_TEST

START_TEST(write_across_pages)
{
	static uint8_t buf[5 * PAGE], back[5 * PAGE];
	size_t done;
	for (size_t i = 0; i < sizeof(buf); i++)
		buf[i] = (uint8_t)(i * 7 + (i >> 8));
	ck_assert_int_eq(hvmi_space_write(space, BASE + 10, buf, 3 * PAGE, &done), 0);
	ck_assert_uint_eq(done, 3 * PAGE);
	ck_assert_int_eq(hvmi_space_read(space, BASE + 10, back, 3 * PAGE, NULL), 0);
	ck_assert_mem_eq(buf, back, 3 * PAGE);
	/* Where the frames are, and nothing beside them. */
	ck_assert_int_eq(hvmi_vm_read(vm, frames[3] + 9, back, 2, NULL), 0);
	ck_assert_uint_eq(back[0], buf[3 * PAGE - 1]);
	ck_assert_uint_eq(back[1], expected_byte(3 * PAGE + 10));
	ck_assert_int_eq(hvmi_space_write(space, BASE + 3 * PAGE, buf, 2 * PAGE, &done), -EFAULT);
	ck_assert_uint_eq(done, PAGE);
	ck_assert_int_eq(hvmi_space_write(space, BASE + 7 * PAGE, buf, 1, &done), -EFAULT);
	ck_assert_uint_eq(done, 0);
}
END_TEST

START_TEST(strings)
{
	char buf[3 * PAGE];
	size_t len;
	/* Ends in the next page, at every distance from the border. */
	for (size_t before = 0; before <= 20; before++) {
		uint64_t gva = BASE + PAGE - before;
		ck_assert_int_eq(hvmi_space_write(space, gva, "twenty characters...", 21, NULL), 0);
		memset(buf, 'x', sizeof(buf));
		ck_assert_int_eq(hvmi_space_read_string(space, gva, buf, sizeof(buf), &len), 0);
		ck_assert_uint_eq(len, 20);
		ck_assert_str_eq(buf, "twenty characters...");
		for (size_t size = 1; size <= 20; size++) {
			memset(buf, 'x', sizeof(buf));
			ck_assert_int_eq(hvmi_space_read_string(space, gva, buf, size, &len),
					 -EOVERFLOW);
			ck_assert_uint_eq(len, size - 1);
			ck_assert_uint_eq(strlen(buf), size - 1);
			ck_assert_mem_eq(buf, "twenty characters...", size - 1);
			ck_assert_int_eq(buf[size], 'x');
		}
		ck_assert_int_eq(hvmi_space_read_string(space, gva, buf, 21, NULL), 0);
	}
	ck_assert_int_eq(hvmi_space_read_string(space, BASE, buf, 0, &len), -EINVAL);
	ck_assert_int_eq(hvmi_space_read_string(space, BASE, NULL, 8, &len), -EINVAL);
	/* Up to the hole. */
	memset(buf, 'y', sizeof(buf));
	ck_assert_int_eq(hvmi_space_write(space, BASE + 3 * PAGE, buf, PAGE, NULL), 0);
	uint64_t end = BASE + 4 * PAGE;
	ck_assert_int_eq(hvmi_space_read_string(space, end - 700, buf, sizeof(buf), &len),
			 -EFAULT);
	ck_assert_uint_eq(len, 700);
	ck_assert_uint_eq(strlen(buf), 700);
	ck_assert_int_eq(hvmi_space_read_string(space, BASE + 4 * PAGE, buf, sizeof(buf), &len),
			 -EFAULT);
	ck_assert_uint_eq(len, 0);
	ck_assert_str_eq(buf, "");
	/* The terminator is the last byte before it. */
	ck_assert_int_eq(hvmi_space_write(space, BASE + 4 * PAGE - 1, "", 1, NULL), 0);
	ck_assert_int_eq(hvmi_space_read_string(space, end - 700, buf, sizeof(buf), &len), 0);
	ck_assert_uint_eq(len, 699);
}
END_TEST

START_TEST(mapping)
{
	const void *host;
	uint8_t byte;
	ck_assert_int_eq(hvmi_space_map(space, BASE + 5 * PAGE + 5, 2 * PAGE - 5, &host), 0);
	ck_assert_int_eq(hvmi_vm_read(vm, 0x51fff, &byte, 1, NULL), 0);
	ck_assert_uint_eq(((const uint8_t *)host)[2 * PAGE - 6], byte);
	ck_assert_uint_eq(byte, 0);
	ck_assert_int_eq(hvmi_vm_read(vm, 0x5005, &byte, 1, NULL), 0);
	hvmi_vm_unmap(vm, host, 2 * PAGE - 5);
	ck_assert_int_eq(hvmi_space_map(space, BASE + PAGE, 2 * PAGE, &host), 0);
	hvmi_vm_unmap(vm, host, 2 * PAGE);
	ck_assert_int_eq(hvmi_space_map(space, LARGE + 1, 2 * 1024 * 1024 - 1, &host), 0);
	hvmi_vm_unmap(vm, host, 2 * 1024 * 1024 - 1);
	ck_assert_int_eq(hvmi_space_map(space, BASE, PAGE + 1, &host), -ENOTSUP);
	ck_assert_int_eq(hvmi_space_map(space, BASE + 3 * PAGE, PAGE + 1, &host), -EFAULT);
	ck_assert_int_eq(hvmi_space_map(space, BASE + 7 * PAGE, 1, &host), -EFAULT);
	ck_assert_int_eq(hvmi_space_map(space, BASE + 4 * PAGE, 1, &host), -EFAULT);
	ck_assert_int_eq(hvmi_space_map(space, BASE, SIZE_MAX, &host), -EFAULT);
}
END_TEST

START_TEST(no_mapping)
{
	const void *host;
	ck_assert_int_eq(hvmi_space_map(space, BASE, 1, &host), -ENOTSUP);
}
END_TEST

START_TEST(writes_need_leave)
{
	struct hvmi_vm *fixed = machine_open(0, "ram 0 1M\n");
	struct hvmi_space_config config = { .size = sizeof(config),
					    .paging = HVMI_PAGING_X86_4LEVEL };
	struct hvmi_space *there;
	ck_assert_int_eq(hvmi_space_create(fixed, &config, &there, NULL), 0);
	size_t done = 7;
	ck_assert_int_eq(hvmi_space_write(there, 0, "x", 1, &done), -EACCES);
	ck_assert_uint_eq(done, 0);
	hvmi_space_destroy(there);
	hvmi_close(fixed);
}
END_TEST

/* Errors of the machine are not told as holes of the guest. */
START_TEST(machine_errors)
{
	start("ram 0 16M\nnomap\nfail read 100 ESRCH 1000000\n", HVMI_OPEN_WRITE);
	uint8_t buf[16];
	int rc = 0;
	for (int i = 0; i < 1000 && rc == 0; i++)
		rc = hvmi_space_read(space, BASE + PAGE - 8, buf, sizeof(buf), NULL);
	ck_assert_int_eq(rc, -ESRCH);
	teardown();
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("space_memory");
	for (int nomap = 0; nomap <= 1; nomap++) {
		TCase *tcase = tcase_create(nomap ? "copied" : "mapped");
		tcase_add_checked_fixture(tcase, nomap ? setup_nomap : setup, teardown);
		tcase_add_test(tcase, read_across_pages);
		tcase_add_test(tcase, read_up_to_holes);
		if (!nomap)
			tcase_add_test(tcase, read_at_the_ends_of_the_space);
		tcase_add_test(tcase, write_across_pages);
		tcase_add_test(tcase, strings);
		tcase_add_test(tcase, nomap ? no_mapping : mapping);
		suite_add_tcase(suite, tcase);
	}
	TCase *tcase = tcase_create("errors");
	tcase_add_test(tcase, writes_need_leave);
	tcase_add_test(tcase, machine_errors);
	suite_add_tcase(suite, tcase);
	return run_suite(suite);
}
