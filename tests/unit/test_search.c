/* SPDX-License-Identifier: Apache-2.0 */
/* Searches find what a comparison at every place finds, each once. */
#include "suite.h"
#include <stdlib.h>
#include <string.h>

#include "../../backends/sim/machine.h"
#include "machine.h"
#include "page_tables.h"
#include "space/pattern.h"
#include "vm/vm.h"

static uint64_t state = 88172645463325252ull;
static uint64_t draw(uint64_t below)
{
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return state % below;
}

/* A sum does not depend on the order. */
struct tally {
	uint64_t count, sum;
};

static void add(struct tally *tally, uint32_t pattern, uint64_t address)
{
	tally->count++;
	tally->sum += (address + 1) * 0x9e3779b97f4a7c15ull ^ (pattern + 1) * 0xff51afd7ed558ccdull;
}

static int found(void *context, uint32_t pattern, uint64_t address)
{
	add(context, pattern, address);
	return 0;
}

static bool equal(const struct hvmi_pattern *p, const uint8_t *bytes)
{
	for (uint32_t i = 0; i < p->len; i++)
		if ((bytes[i] ^ ((const uint8_t *)p->bytes)[i]) &
		    (p->mask ? ((const uint8_t *)p->mask)[i] : 0xff))
			return false;
	return true;
}

static struct tally naive(const struct hvmi_pattern *patterns, uint32_t count, const uint8_t *bytes,
			  size_t len, uint64_t base)
{
	struct tally tally = { 0 };
	for (size_t i = 0; i < len; i++)
		for (uint32_t k = 0; k < count; k++)
			if (patterns[k].len <= len - i && equal(&patterns[k], bytes + i) &&
			    (patterns[k].align < 2 || (base + i) % patterns[k].align == 0))
				add(&tally, k, base + i);
	return tally;
}

enum { PATTERNS = 40, PATTERN_MAX = 12 };
static uint8_t wanted[PATTERNS][PATTERN_MAX], masks[PATTERNS][PATTERN_MAX];
static struct hvmi_pattern patterns[PATTERNS];

/* Few values, so that there are matches, and near matches. */
static uint32_t draw_patterns(uint32_t values)
{
	uint32_t count = 1 + (uint32_t)draw(PATTERNS);
	for (uint32_t k = 0; k < count; k++) {
		patterns[k] = (struct hvmi_pattern){ .bytes = wanted[k],
						     .len = 1 + (uint32_t)draw(PATTERN_MAX),
						     .align = draw(4) ? 0 : 1u << draw(4),
						     .mask = draw(2) ? masks[k] : NULL };
		for (uint32_t i = 0; i < PATTERN_MAX; i++) {
			wanted[k][i] = (uint8_t)(draw(values) * 0x31);
			masks[k][i] = draw(3) ? 0xff : (uint8_t)draw(256);
		}
		masks[k][0] |= 1;
	}
	return count;
}

START_TEST(engines)
{
	static struct pattern_set set;
	uint32_t wrong = 0;
	uint64_t matches = 0;
	for (int round = 0; round < 400; round++) {
		uint32_t values = 2 + (uint32_t)draw(4), count = draw_patterns(values);
		size_t len = draw(300);
		/* Exactly so long, for a sanitizer to see what is read behind it. */
		uint8_t *bytes = malloc(len + !len);
		for (size_t i = 0; i < len; i++)
			bytes[i] = (uint8_t)(draw(values) * 0x31);
		ck_assert_int_eq(pattern_set_init(&set, patterns, count), 0);
		struct tally expected = naive(patterns, count, bytes, len, 0x1004);
		for (int engine = PATTERN_BEST; engine <= PATTERN_PLAIN; engine++) {
			struct tally tally = { 0 };
			uint64_t at;
			pattern_set_run(&set, (enum pattern_engine)engine, bytes, len, len, 0x1004,
					found, &tally, &at);
			wrong += tally.count != expected.count || tally.sum != expected.sum;
		}
		matches += expected.count;
		free(bytes);
	}
	ck_assert_uint_eq(wrong, 0);
	ck_assert_uint_gt(matches, 1000);
}
END_TEST

#define RAM (4 * MIB)

static struct hvmi_vm *open_machine(const char *script)
{
	struct hvmi_vm *vm = machine_open(HVMI_OPEN_WRITE, "%s", script);
	uint64_t left;
	uint8_t *ram = sim_ram(vm->machine, 0, &left);
	for (size_t i = 0; i < RAM; i += 1 + draw(40))
		ram[i] = (uint8_t)(draw(6) * 0x31);
	sim_written(vm->machine, 0, RAM);
	return vm;
}

/* _i: how memory is reached */
START_TEST(physical)
{
	static const char *const scripts[] = {
		"ram 0 4M\n", "nomap\nram 0 4M\n", "chunks\nram 0 4M\n", "ram 0 4M\nabsent 0x123000 0x2000\n",
	};
	struct hvmi_vm *vm = open_machine(scripts[_i]);
	uint64_t left;
	const uint8_t *ram = sim_ram(vm->machine, 0, &left);
	for (int round = 0; round < 10; round++) {
		struct tally tally = { 0 }, pieces = { 0 }, expected;
		uint32_t count = draw_patterns(6);
		for (uint32_t i = 0; i < count; i++)
			patterns[i].len = MAX(patterns[i].len, 4);
		struct hvmi_search search = { .size = sizeof(search), .patterns = patterns,
					      .pattern_count = count, .found = found,
					      .context = &tally };
		uint64_t next = 0;
		ck_assert_int_eq(hvmi_search(vm, &search, &next, NULL), 0);
		ck_assert_uint_eq(next, UINT64_MAX);
		expected = naive(patterns, count, ram, _i == 3 ? 0x123000 : RAM, 0);
		if (_i == 3) {
			struct tally rest = naive(patterns, count, ram + 0x125000, RAM - 0x125000,
						  0x125000);
			expected.count += rest.count;
			expected.sum += rest.sum;
		}
		ck_assert_uint_eq(tally.count, expected.count);
		ck_assert_uint_eq(tally.sum, expected.sum);
		/* In pieces it is the same. */
		search.context = &pieces;
		search.budget = 1 + draw(500000);
		int rc = -EOVERFLOW;
		for (next = 0; rc == -EOVERFLOW;) {
			search.first = next;
			rc = hvmi_search(vm, &search, &next, NULL);
			ck_assert(rc == 0 || next > search.first);
		}
		ck_assert_int_eq(rc, 0);
		ck_assert_uint_eq(pieces.count, expected.count);
		ck_assert_uint_eq(pieces.sum, expected.sum);
	}
	ck_assert(!vm->physmap || !vm->physmap->held);
	hvmi_close(vm);
}
END_TEST

struct one {
	uint32_t calls, pattern;
	uint64_t address;
};

static int first_only(void *context, uint32_t pattern, uint64_t address)
{
	*(struct one *)context = (struct one){ ((struct one *)context)->calls + 1, pattern, address };
	return 1;
}

START_TEST(virtual)
{
	struct hvmi_vm *vm = machine_open(HVMI_OPEN_WRITE, "ram 0 16M\n");
	struct page_tables tables;
	page_tables_init(&tables, vm, HVMI_PAGING_X86_4LEVEL, 0x100000);
	struct hvmi_space *space = page_tables_space(&tables, 0, 0);
	/* Neighbours that lie apart, and in the wrong order. */
	page_tables_map(&tables, 0x7f0000000000, 0x900000, 1, 0);
	page_tables_map(&tables, 0x7f0000001000, 0x800000, 1, 0);
	page_tables_map(&tables, 0x7f0000003000, 0xa00000, 1, 0);
	hvmi_vm_write(vm, 0x900ffa, "needle", 6, NULL);
	hvmi_vm_write(vm, 0x900800, "hay needl", 9, NULL);
	hvmi_vm_write(vm, 0x900ffd, "nee", 3, NULL);
	hvmi_vm_write(vm, 0x800000, "dle", 3, NULL);
	hvmi_vm_write(vm, 0x800ffa, "needle", 6, NULL);
	hvmi_vm_write(vm, 0xa00000, "needle", 6, NULL);
	/* Not mapped. */
	hvmi_vm_write(vm, 0xb00000, "needle", 6, NULL);
	struct hvmi_pattern pattern = { .bytes = "needle", .len = 6 };
	struct one one = { 0 };
	struct hvmi_search search = { .size = sizeof(search), .space = space, .patterns = &pattern,
				      .pattern_count = 1, .found = first_only, .context = &one };
	static const uint64_t expected[] = { 0x7f0000000ffd, 0x7f0000001ffa, 0x7f0000003000 };
	for (size_t i = 0; i < ARRAY_SIZE(expected); i++) {
		ck_assert_int_eq(hvmi_search(vm, &search, &search.first, NULL), 1);
		ck_assert_uint_eq(one.address, expected[i]);
	}
	ck_assert_int_eq(hvmi_search(vm, &search, &search.first, NULL), 0);
	/* A match may begin at last, and no later. */
	search.first = 0;
	search.last = expected[0] - 1;
	ck_assert_int_eq(hvmi_search(vm, &search, NULL, NULL), 0);
	search.last = expected[0];
	ck_assert_int_eq(hvmi_search(vm, &search, NULL, NULL), 1);
	hvmi_space_destroy(space);
	hvmi_close(vm);
}
END_TEST

START_TEST(misuse)
{
	struct hvmi_vm *vm = machine_open(0, "ram 0 1M\n");
	struct hvmi_pattern bad[] = {
		{ .bytes = "a", .len = 0 }, { .bytes = NULL, .len = 1 },
		{ .bytes = "a", .mask = "\0", .len = 1 }, { .bytes = "a", .len = 1, .align = 3 },
		{ .bytes = "a", .len = HVMI_PATTERN_BYTES + 1 },
	};
	struct one one = { 0 };
	struct hvmi_search search = { .size = sizeof(search), .pattern_count = 1,
				      .found = first_only, .context = &one };
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		search.patterns = &bad[i];
		ck_assert_int_eq(hvmi_search(vm, &search, NULL, NULL), -EINVAL);
	}
	search.patterns = NULL;
	ck_assert_int_eq(hvmi_search(vm, &search, NULL, NULL), -EINVAL);
	ck_assert_uint_eq(one.calls, 0);
	hvmi_close(vm);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("search");
	TCase *tcase = tcase_create("search");
	tcase_add_test(tcase, engines);
	tcase_add_loop_test(tcase, physical, 0, 4);
	tcase_add_test(tcase, virtual);
	tcase_add_test(tcase, misuse);
	suite_add_tcase(suite, tcase);
	return run_suite(suite);
}
