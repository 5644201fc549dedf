/* SPDX-License-Identifier: Apache-2.0 */
#include "rights.h"
#include "suite.h"

#include <errno.h>

static struct rights rights;

static void setup(void)
{
	ck_assert_int_eq(rights_init(&rights, 0x10233), 0);
}

static void teardown(void)
{
	rights_free(&rights);
}

START_TEST(sparse)
{
	static const uint64_t pages[] = { 0, 1, 511, 512, 0x10000, 0x10233 };
	for (size_t i = 0; i < sizeof(pages) / sizeof(*pages); i++) {
		ck_assert_int_eq(rights_get(&rights, pages[i]), -1);
		ck_assert_int_eq(rights_reserve(&rights, pages[i], 1), 0);
		/* Room is no value. */
		ck_assert_int_eq(rights_get(&rights, pages[i]), -1);
		rights_set(&rights, pages[i], (int)i);
	}
	uint64_t gfn = 0;
	for (size_t i = 0; i < sizeof(pages) / sizeof(*pages); i++, gfn++) {
		ck_assert(rights_next(&rights, &gfn));
		ck_assert_uint_eq(gfn, pages[i]);
		ck_assert_int_eq(rights_get(&rights, gfn), (int)i);
	}
	ck_assert(!rights_next(&rights, &gfn));
	/* No rights at all are some that were set; none is what was not. */
	ck_assert_int_eq(rights_get(&rights, 0), 0);
	rights_set(&rights, 0, -1);
	ck_assert_int_eq(rights_get(&rights, 0), -1);
	gfn = 0;
	ck_assert(rights_next(&rights, &gfn));
	ck_assert_uint_eq(gfn, 1);
}
END_TEST

START_TEST(bounds)
{
	/* To the end of the leaf that holds the last page, and no further. */
	ck_assert_int_eq(rights_reserve(&rights, 0x10233, 2), 0);
	ck_assert_int_eq(rights_reserve(&rights, 0x10233, 512), -EFAULT);
	ck_assert_int_eq(rights_reserve(&rights, UINT64_MAX / 4096, 1), -EFAULT);
	rights_set(&rights, UINT64_MAX, 1);
	ck_assert_int_eq(rights_get(&rights, UINT64_MAX), -1);
	uint64_t gfn = UINT64_MAX;
	ck_assert(!rights_next(&rights, &gfn));
	/* A run over several leaves. */
	ck_assert_int_eq(rights_reserve(&rights, 500, 1100), 0);
	for (uint64_t i = 500; i < 1600; i++)
		rights_set(&rights, i, 5);
	ck_assert_int_eq(rights_get(&rights, 499), -1);
	ck_assert_int_eq(rights_get(&rights, 1599), 5);
	ck_assert_int_eq(rights_get(&rights, 1600), -1);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("xen_rights");
	TCase *tests = tcase_create("rights");

	tcase_add_checked_fixture(tests, setup, teardown);
	tcase_add_test(tests, sparse);
	tcase_add_test(tests, bounds);
	suite_add_tcase(suite, tests);
	return run_suite(suite);
}
