/* SPDX-License-Identifier: Apache-2.0 */
#include "suite.h"
#include <stdio.h>
#include <stdlib.h>

#include "profile/profile.h"

static struct hvmi_profile *profile;

static void setup(void)
{
	profile = profile_create();
	ck_assert_ptr_nonnull(profile);
}

static void teardown(void)
{
	profile_destroy(profile);
}

static void add(uint64_t gva, char kind, const char *name)
{
	ck_assert_int_eq(symbols_add(&profile->symbols, gva, (unsigned char)kind, name,
				     strlen(name)), 0);
}

START_TEST(symbols_by_name)
{
	struct hvmi_error err = {0};
	uint64_t gva = 5;

	ck_assert_int_eq(hvmi_profile_symbol(profile, "start", &gva, &err), -ENOENT);
	ck_assert_ptr_nonnull(strstr(err.text, "not known"));

	add(0x3000, 't', "twice");
	add(0x2000, 't', "twice");
	add(0x5000, 't', "thrice");
	add(0x6000, 'T', "thrice");
	add(0x7000, 'D', "thrice");
	add(0x1000, 'T', "start");
	add(0x8000, 0, "");
	ck_assert_int_eq(symbols_freeze(&profile->symbols), 0);
	ck_assert_int_eq(hvmi_profile_symbol(profile, "start", &gva, NULL), 0);
	ck_assert_uint_eq(gva, 0x1000);
	ck_assert_int_eq(hvmi_profile_symbol(profile, "twice", &gva, NULL), 0);
	ck_assert_uint_eq(gva, 0x2000);
	ck_assert_int_eq(hvmi_profile_symbol(profile, "thrice", &gva, NULL), 0);
	ck_assert_uint_eq(gva, 0x6000);
	ck_assert_int_eq(hvmi_profile_symbol(profile, "", &gva, NULL), 0);
	ck_assert_uint_eq(gva, 0x8000);
	ck_assert_int_eq(hvmi_profile_symbol(profile, "star", &gva, &err), -ENOENT);
	ck_assert_str_eq(err.text, "the kernel has no symbol 'star'");
	ck_assert_uint_eq(gva, 0x8000);
	ck_assert_int_eq(hvmi_profile_symbol(NULL, "start", &gva, NULL), -EINVAL);
}
END_TEST

START_TEST(symbols_by_address)
{
	struct hvmi_symbol symbol = {.size = sizeof(symbol)};
	uint64_t offset = 0;
	static const struct {
		uint64_t gva;
		const char *name;	/* NULL: none */
		uint64_t offset;
	} want[] = {
		{0x0fff, NULL, 0},
		{0x1000, "first", 0},
		{0x1fff, "first", 0xfff},
		{0x2000, "global", 0},
		{0x2001, "global", 1},
		{0x9000, "percpu_end", 0},
		{0x9001, NULL, 0},		/* a gap larger than any object */
		{0x400000, NULL, 0},
		{0xffffffff80fffff, NULL, 0},
		{0xffffffff81000000, "_text", 0},
		{0xffffffff81000010, "_text", 0x10},
		{0xffffffff82000000, "_end", 0},
		{0xffffffff82000001, NULL, 0},
		{UINT64_MAX, NULL, 0},
	};

	ck_assert_int_eq(hvmi_profile_symbol_at(profile, 0x1000, &symbol, NULL), -ENOENT);
	add(0xffffffff82000000, 'B', "_end");
	add(0x2000, 't', "local");
	add(0x2000, 'T', "global");
	add(0x2000, 'D', "global_too");
	add(0x1000, 't', "first");
	add(0x1000, 't', "second");
	add(0x9000, 'A', "percpu_end");
	add(0xffffffff81000000, 'T', "_text");
	ck_assert_int_eq(symbols_freeze(&profile->symbols), 0);
	for (size_t i = 0; i < ARRAY_SIZE(want); i++) {
		int status = hvmi_profile_symbol_at(profile, want[i].gva, &symbol, &offset);
		ck_assert_int_eq(status, want[i].name ? 0 : -ENOENT);
		if (!want[i].name)
			continue;
		ck_assert_str_eq(symbol.name, want[i].name);
		ck_assert_uint_eq(symbol.gva, want[i].gva - want[i].offset);
		ck_assert_uint_eq(offset, want[i].offset);
	}
}
END_TEST

START_TEST(symbols_in_order)
{
	enum { COUNT = 5000 };
	struct hvmi_symbol symbol = {.size = sizeof(symbol)};
	uint32_t cursor = 0, count = 0;
	uint64_t last = 0, gva;
	char name[32];

	ck_assert_int_eq(symbols_reserve(&profile->symbols, COUNT / 2, 10), 0);
	for (uint64_t i = 0; i < COUNT; i++) {
		snprintf(name, sizeof(name), "symbol_%u", (unsigned int)i);
		add(i * 0x9e3779b97f4a7c15u, i % 2 ? 'T' : 't', name);
	}
	ck_assert_int_eq(symbols_freeze(&profile->symbols), 0);
	ck_assert_uint_eq(profile->symbols.capacity, COUNT);
	ck_assert_uint_eq(profile->symbols.names_capacity, profile->symbols.names_len);
	while (hvmi_profile_next_symbol(profile, &cursor, &symbol) == 1) {
		ck_assert_uint_ge(symbol.gva, last);
		ck_assert(symbol.kind == 'T' || symbol.kind == 't');
		last = symbol.gva;
		count++;
	}
	ck_assert_uint_eq(count, COUNT);
	for (uint64_t i = 0; i < COUNT; i++) {
		snprintf(name, sizeof(name), "symbol_%u", (unsigned int)i);
		ck_assert_int_eq(hvmi_profile_symbol(profile, name, &gva, NULL), 0);
		ck_assert_uint_eq(gva, i * 0x9e3779b97f4a7c15u);
	}
}
END_TEST

START_TEST(symbols_have_bounds)
{
	struct symbols *symbols = &profile->symbols;
	char *name = malloc(SYMBOL_NAMES_MAX);

	ck_assert_ptr_nonnull(name);
	memset(name, 'x', SYMBOL_NAMES_MAX);
	ck_assert_int_eq(symbols_reserve(symbols, SYMBOLS_MAX + 1, 0), -EOVERFLOW);
	ck_assert_int_eq(symbols_reserve(symbols, 0, SYMBOL_NAMES_MAX + 1), -EOVERFLOW);
	ck_assert_int_eq(symbols_add(symbols, 1, 't', name, SYMBOL_NAMES_MAX - 1), -EOVERFLOW);
	ck_assert_int_eq(symbols_add(symbols, 1, 't', name, SYMBOL_NAMES_MAX - 2), 0);
	ck_assert_int_eq(symbols_add(symbols, 1, 't', name, 1), -EOVERFLOW);
	ck_assert_int_eq(symbols_add(symbols, 1, 't', name, SIZE_MAX), -EOVERFLOW);
	ck_assert_int_eq(symbols_freeze(symbols), 0);
	symbols_deinit(symbols);
	int status = 0;
	for (uint32_t i = 0; i < SYMBOLS_MAX && status == 0; i++)
		status = symbols_add(symbols, i, 't', name, 3);
	ck_assert_int_eq(status, 0);
	ck_assert_int_eq(symbols_add(symbols, 0, 't', name, 3), -EOVERFLOW);
	/* All have one name, and the index is still built at once. */
	ck_assert_int_eq(symbols_freeze(symbols), 0);
	free(name);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("symbols");
	TCase *tests = tcase_create("symbols");

	tcase_add_checked_fixture(tests, setup, teardown);
	tcase_add_test(tests, symbols_by_name);
	tcase_add_test(tests, symbols_by_address);
	tcase_add_test(tests, symbols_in_order);
	tcase_add_test(tests, symbols_have_bounds);
	suite_add_tcase(suite, tests);
	return run_suite(suite);
}
