/* SPDX-License-Identifier: Apache-2.0 */
#include "suite.h"
#include <stdlib.h>
#include <string.h>

#include "machine.h"
#include "page_tables.h"

#define PAGE 4096ull
#define TABLES 0x100000ull
#define RUNS_MAX 20000

static const uint32_t paging_modes[] = { HVMI_PAGING_X86_32, HVMI_PAGING_X86_PAE,
					 HVMI_PAGING_X86_4LEVEL, HVMI_PAGING_X86_5LEVEL };

struct run {
	uint64_t gva, gpa, len;
	uint32_t rights;
};

static struct hvmi_vm *vm;
static struct page_tables tables;
static struct hvmi_space *space;
static struct run runs[RUNS_MAX];
static size_t run_count;

static void start(uint32_t paging)
{
	vm = machine_open(HVMI_OPEN_WRITE, "ram 0 16M\n");
	page_tables_init(&tables, vm, paging, TABLES);
	space = page_tables_space(&tables, HVMI_SPACE_PSE | HVMI_SPACE_NX, 0);
}

static void stop(void)
{
	hvmi_space_destroy(space);
	hvmi_close(vm);
}

static uint64_t random_u64(void)
{
	static uint64_t state = 0x2545f4914f6cdd1d;
	state ^= state << 13;
	state ^= state >> 7;
	return state ^= state << 17;
}

static void collect(uint64_t first, uint64_t last)
{
	run_count = 0;
	uint64_t cursor = first;
	for (;;) {
		struct hvmi_mapping m = { .size = sizeof(m) };
		uint64_t before = cursor;
		int rc = hvmi_space_next_mapping(space, &cursor, last, &m);
		ck_assert_int_ge(rc, 0);
		if (rc == 0) {
			ck_assert_uint_eq(cursor, before);
			return;
		}
		ck_assert_uint_gt(cursor, before);
		ck_assert_uint_ge(m.gva, before);
		ck_assert_uint_gt(m.len, 0);
		ck_assert_uint_le(m.len - 1, last - m.gva);
		ck_assert_uint_lt(run_count, RUNS_MAX);
		runs[run_count++] = (struct run){ m.gva, m.gpa, m.len, m.rights };
	}
}

static void expect(size_t index, uint64_t gva, uint64_t gpa, uint64_t len)
{
	ck_assert_uint_lt(index, run_count);
	ck_assert_uint_eq(runs[index].gva, gva);
	ck_assert_uint_eq(runs[index].gpa, gpa);
	ck_assert_uint_eq(runs[index].len, len);
}

/* Every page of [first, last] on its own, merged. */
static void check_naively(uint64_t first, uint64_t last)
{
	collect(first, last);
	struct run run = { .len = 0 };
	size_t found = 0;
	for (uint64_t gva = first & -PAGE;; gva += PAGE) {
		struct hvmi_walk walk = { .size = sizeof(walk) };
		bool mapped = hvmi_space_walk(space, gva, &walk, NULL) == 0;
		if (run.len && (!mapped || walk.gpa != run.gpa + run.len ||
				walk.rights != run.rights || gva != run.gva + run.len)) {
			ck_assert_uint_lt(found, run_count);
			ck_assert_mem_eq(&runs[found], &run, offsetof(struct run, rights) + 4);
			found++;
			run.len = 0;
		}
		if (mapped) {
			uint64_t skip = gva < first ? first - gva : 0;
			uint64_t len = (last - gva < PAGE ? last - gva + 1 : PAGE) - skip;
			if (!run.len)
				run = (struct run){ gva + skip, walk.gpa + skip, 0, walk.rights };
			run.len += len;
		}
		if (last - gva < PAGE)
			break;
	}
	if (run.len) {
		ck_assert_uint_lt(found, run_count);
		ck_assert_mem_eq(&runs[found], &run, offsetof(struct run, rights) + 4);
		found++;
	}
	ck_assert_uint_eq(found, run_count);
}

START_TEST(nothing_is_mapped)
{
	start(paging_modes[_i]);
	collect(0, UINT64_MAX);
	ck_assert_uint_eq(run_count, 0);
	collect(0, 0);
	ck_assert_uint_eq(run_count, 0);
	uint64_t cursor = 0x2000;
	struct hvmi_mapping m = { .size = sizeof(m) };
	ck_assert_int_eq(hvmi_space_next_mapping(space, &cursor, 0x1000, &m), 0);
	page_tables_map(&tables, 0x3000, 0, 1, 0);
	m.size = 0;
	ck_assert_int_eq(hvmi_space_next_mapping(space, &cursor, UINT64_MAX, &m), -EINVAL);
	ck_assert_uint_eq(cursor, 0x2000);
	stop();
	/* Not even a root. */
	vm = machine_open(0, "ram 0 1M\n");
	struct hvmi_space_config config = { .size = sizeof(config), .root = 0x100000,
					    .paging = paging_modes[_i] };
	ck_assert_int_eq(hvmi_space_create(vm, &config, &space, NULL), 0);
	collect(0, UINT64_MAX);
	ck_assert_uint_eq(run_count, 0);
	stop();
}
END_TEST

/* The first and the last page, and those at both ends of the canonical hole. */
START_TEST(ends_of_the_space)
{
	uint32_t paging = paging_modes[_i];
	start(paging);
	if (paging <= HVMI_PAGING_X86_PAE) {
		page_tables_map(&tables, 0, 0x5000, 1, 0);
		page_tables_map(&tables, 0xfffff000, 0x6000, 1, 0);
		collect(0, UINT64_MAX);
		ck_assert_uint_eq(run_count, 2);
		expect(0, 0, 0x5000, PAGE);
		expect(1, 0xfffff000, 0x6000, PAGE);
		collect(0xfffff123, UINT64_MAX);
		expect(0, 0xfffff123, 0x6123, 0xedd);
		collect(0x100000000, UINT64_MAX);
		ck_assert_uint_eq(run_count, 0);
	} else {
		uint64_t half = 1ull << (paging == HVMI_PAGING_X86_4LEVEL ? 47 : 56);
		/* Contiguous in guest-physical memory; the middle ones adjoin in the tables only. */
		page_tables_map(&tables, 0, 0x5000, 1, 0);
		page_tables_map(&tables, half - PAGE, 0x6000, 1, 0);
		page_tables_map(&tables, -half, 0x7000, 1, 0);
		page_tables_map(&tables, -PAGE, 0x8000, 1, 0);
		collect(0, UINT64_MAX);
		ck_assert_uint_eq(run_count, 4);
		expect(0, 0, 0x5000, PAGE);
		expect(1, half - PAGE, 0x6000, PAGE);
		expect(2, -half, 0x7000, PAGE);
		expect(3, -PAGE, 0x8000, PAGE);
		/* Both ends of the question in the hole. */
		collect(half, -half - 1);
		ck_assert_uint_eq(run_count, 0);
		collect(half + 12345, -half);
		ck_assert_uint_eq(run_count, 1);
		expect(0, -half, 0x7000, 1);
		collect(half - 1, half + 999);
		ck_assert_uint_eq(run_count, 1);
		expect(0, half - 1, 0x6fff, 1);
		collect(-1ull - 1, UINT64_MAX);
		expect(0, -2ull, 0x8ffe, 2);
		collect(UINT64_MAX, UINT64_MAX);
		ck_assert_uint_eq(run_count, 0);
	}
	stop();
}
END_TEST

/* One run over borders of tables of every level, and over pages of every size. */
START_TEST(runs_go_on)
{
	uint32_t paging = paging_modes[_i];
	uint32_t top = page_tables_levels(paging);
	start(paging);
	for (uint32_t level = 2; level <= top + 1; level++) {
		/* Halves of the space meet only where addresses have 32 bits. */
		if (level > top && paging > HVMI_PAGING_X86_PAE)
			break;
		uint64_t border = 0x80000000;
		if (level <= top)
			border = 1ull << page_tables_shift(paging, level);
		for (uint64_t i = 0; i < 8; i++)
			page_tables_map(&tables, border - 4 * PAGE + i * PAGE,
					0x500000 + i * PAGE, 1, PT_W);
		collect(border - 16 * PAGE, border + 16 * PAGE);
		ck_assert_uint_eq(run_count, 1);
		expect(0, border - 4 * PAGE, 0x500000, 8 * PAGE);
	}
	stop();
	start(paging);
	/* Small, large (and huge) pages in a row. */
	uint64_t large = 1ull << page_tables_shift(paging, 2);
	uint64_t base = paging >= HVMI_PAGING_X86_4LEVEL ? 1ull << 30 : 4 * large;
	for (uint64_t i = 1; i <= 3; i++)
		page_tables_map(&tables, base - i * PAGE, base - i * PAGE, 1, 0);
	uint64_t end = base;
	if (paging >= HVMI_PAGING_X86_4LEVEL) {
		page_tables_map(&tables, base, base, 3, 0);
		end += 1ull << 30;
	}
	page_tables_map(&tables, end, end, 2, 0);
	end += large;
	page_tables_map(&tables, end, end, 1, 0);
	end += PAGE;
	collect(0, UINT64_MAX);
	ck_assert_uint_eq(run_count, 1);
	expect(0, base - 3 * PAGE, base - 3 * PAGE, end - (base - 3 * PAGE));
	/* Begun and ended within pages. */
	collect(base + 5, base + 6);
	expect(0, base + 5, base + 5, 2);
	/* A difference in rights, and only there, ends it. */
	page_tables_map(&tables, end - PAGE, end - PAGE, 1, PT_U);
	collect(0, UINT64_MAX);
	ck_assert_uint_eq(run_count, 2);
	expect(1, end - PAGE, end - PAGE, PAGE);
	stop();
}
END_TEST

/* An entry out of what tests like: pages in a row, tables of a pool, and what is wrong. */
static uint64_t random_entry(uint32_t paging, uint32_t level, uint64_t *next_page, uint32_t pool)
{
	uint64_t flags = PT_P | (random_u64() % 8 ? PT_W | PT_U : random_u64() & (PT_W | PT_U));
	uint64_t size = 1ull << page_tables_shift(paging, level);
	if (paging == HVMI_PAGING_X86_PAE && level == 3)
		flags = PT_P;
	switch (random_u64() % 16) {
	case 0: case 1:
		return random_u64() & ~PT_P;
	case 2:
		return random_u64() | PT_P;	/* mostly reserved bits */
	case 3:
		return 0x70000000 | flags;	/* a table where no RAM is, or a page */
	case 4:
		*next_page = random_u64() & 0x3ffff000;
		break;
	}
	bool page = level == 1 || (random_u64() % 4 == 0 && level <= 3 &&
				   !(level == 3 && paging == HVMI_PAGING_X86_PAE));
	if (!page)
		return (TABLES + random_u64() % pool * PAGE) | flags;
	uint64_t gpa = (*next_page + size - 1) & -size;
	*next_page = gpa + size;
	return gpa | flags | (level > 1 ? PT_PS : 0);
}

/*
 * Tables that refer to each other at random, at any level: each page of the pool serves as a table
 * of several. What is asked are the surroundings of borders of every level, and random places.
 */
START_TEST(random_tables)
{
	uint32_t paging = paging_modes[_i % 4];
	uint32_t entry_size = page_tables_entry_size(paging);
	uint32_t top = page_tables_levels(paging), pool = 12;
	for (int round = 0; round < 6; round++) {
		start(paging);
		for (uint32_t table = 0; table < pool; table++) {
			uint64_t next_page = random_u64() & 0x3ffff000;
			/* A pool table is made for one level, but may be met at others. */
			uint32_t level = table == 0 ? top : 1 + table % top;
			for (uint64_t i = 0; i < PAGE / entry_size; i++)
				page_tables_set(&tables, TABLES + table * PAGE + i * entry_size,
						random_entry(paging, level, &next_page, pool));
		}
		for (int i = 0; i < 24; i++) {
			uint32_t level = 1 + random_u64() % top;
			uint64_t bits = paging == HVMI_PAGING_X86_5LEVEL ? 57 :
					paging == HVMI_PAGING_X86_4LEVEL ? 48 : 32;
			uint64_t middle = random_u64() >> (64 - bits) &
					  UINT64_MAX << page_tables_shift(paging, level);
			if (bits > 32 && middle >> (bits - 1))
				middle |= UINT64_MAX << bits;
			uint64_t around = 1200 * PAGE;
			uint64_t first = middle < around ? 0 : middle - around;
			uint64_t last = middle > UINT64_MAX - around ? UINT64_MAX : middle + around;
			check_naively(first + random_u64() % PAGE, last - random_u64() % PAGE);
		}
		stop();
	}
}
END_TEST

/* A few pages far apart in 57 bits: found at once. */
START_TEST(sparse)
{
	start(HVMI_PAGING_X86_5LEVEL);
	for (uint64_t i = 0; i < 40; i++)
		page_tables_map(&tables, i << 50, i * 2 * PAGE, 1, 0);
	collect(0, UINT64_MAX);
	ck_assert_uint_eq(run_count, 40);
	for (uint64_t i = 0; i < 40; i++)
		expect(i, i << 50, i * 2 * PAGE, PAGE);
	stop();
}
END_TEST

/* Every entry of every level leads on, but no page is at the end. */
START_TEST(budget)
{
	uint32_t paging = paging_modes[_i];
	uint32_t top = page_tables_levels(paging);
	start(paging);
	for (uint32_t level = top; level > 1; level--)
		for (uint64_t i = 0; i < 512; i++)
			page_tables_set(&tables, TABLES + (top - level) * PAGE + i * 8,
					(TABLES + (top - level + 1) * PAGE) | PT_P | PT_W | PT_U);
	struct hvmi_mapping m = { .size = sizeof(m) };
	uint64_t cursor = 0, previous = 0;
	for (int i = 0; i < 2; i++) {
		int rc = hvmi_space_next_mapping(space, &cursor, UINT64_MAX, &m);
		ck_assert_int_eq(rc, -EOVERFLOW);
		/* 2^24 entries are 2^15 tables of 2 MiB each, less those above them. */
		ck_assert_uint_gt(cursor, previous + (60ull << 30));
		ck_assert_uint_lt(cursor, previous + (64ull << 30));
		previous = cursor;
	}
	stop();
}
END_TEST

/* A root that refers to itself: every address is mapped, to one of the table's own entries. */
START_TEST(self_reference)
{
	uint32_t paging = paging_modes[_i];
	start(paging);
	for (uint64_t i = 0; i < 512; i++)
		page_tables_set(&tables, TABLES + i * 8, TABLES | PT_P | PT_W | PT_U);
	struct hvmi_mapping m = { .size = sizeof(m) };
	uint64_t cursor = 0;
	for (uint64_t i = 0; i < 5000; i++) {
		ck_assert_int_eq(hvmi_space_next_mapping(space, &cursor, UINT64_MAX, &m), 1);
		ck_assert_uint_eq(m.gva, i * PAGE);
		ck_assert_uint_eq(m.gpa, TABLES);
		ck_assert_uint_eq(m.len, PAGE);
	}
	stop();
}
END_TEST

/* A backend without map() of which one read fails, once. */
static uint32_t reads, failing_read;

static int counted_read(void *machine, uint64_t gpa, void *buf, size_t len)
{
	if (++reads == failing_read)
		return -EIO;
	return hvmi_backend_sim()->read(machine, gpa, buf, len);
}

/* An error of the machine is told, but only once what came before it was; then it goes on. */
START_TEST(machine_errors)
{
	struct hvmi_backend backend = *hvmi_backend_sim();
	backend.read = counted_read;
	backend.map = NULL;
	struct hvmi_open_options options = { .size = sizeof(options), .flags = HVMI_OPEN_WRITE,
					     .backend = &backend };
	ck_assert_int_eq(machine_try("ram 0 16M\n", 10, &options, &vm, NULL), 0);
	page_tables_init(&tables, vm, HVMI_PAGING_X86_4LEVEL, TABLES);
	space = page_tables_space(&tables, HVMI_SPACE_NX, 0);
	uint64_t large = 2 << 20;
	page_tables_map(&tables, 0, 0, 2, 0);
	page_tables_map(&tables, large, large, 1, 0);
	page_tables_map(&tables, 3 * large, 3 * large, 1, 0);
	/* Reads 1 to 3 are of the upper tables, 4 and 5 of those that hold PTEs. */
	struct hvmi_mapping m = { .size = sizeof(m) };
	for (failing_read = 1; failing_read <= 3; failing_read++) {
		uint64_t cursor = 0;
		reads = 0;
		ck_assert_int_eq(hvmi_space_next_mapping(space, &cursor, UINT64_MAX, &m), -EIO);
		ck_assert_uint_gt(cursor, 0);
		ck_assert_int_eq(hvmi_space_next_mapping(space, &cursor, UINT64_MAX, &m), 0);
	}
	failing_read = 4;
	uint64_t cursor = 0;
	reads = 0;
	ck_assert_int_eq(hvmi_space_next_mapping(space, &cursor, UINT64_MAX, &m), 1);
	ck_assert_uint_eq(m.len, large);
	ck_assert_uint_eq(cursor, large);
	failing_read = reads + 4;
	ck_assert_int_eq(hvmi_space_next_mapping(space, &cursor, UINT64_MAX, &m), -EIO);
	ck_assert_uint_eq(cursor, 2 * large);
	ck_assert_int_eq(hvmi_space_next_mapping(space, &cursor, UINT64_MAX, &m), 1);
	ck_assert_uint_eq(m.gva, 3 * large);
	/* All of it takes each table once. */
	failing_read = 0;
	cursor = 0;
	reads = 0;
	ck_assert_int_eq(hvmi_space_next_mapping(space, &cursor, UINT64_MAX, &m), 1);
	ck_assert_uint_eq(m.len, large + PAGE);
	ck_assert_uint_eq(reads, 4);
	stop();
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("space_mapping");
	TCase *tcase = tcase_create("space_mapping");
	tcase_add_loop_test(tcase, nothing_is_mapped, 0, 4);
	tcase_add_loop_test(tcase, ends_of_the_space, 0, 4);
	tcase_add_loop_test(tcase, runs_go_on, 0, 4);
	tcase_add_loop_test(tcase, random_tables, 0, 4);
	tcase_add_test(tcase, sparse);
	tcase_add_loop_test(tcase, budget, 2, 4);
	tcase_add_loop_test(tcase, self_reference, 2, 4);
	tcase_add_test(tcase, machine_errors);
	suite_add_tcase(suite, tcase);
	return run_suite(suite);
}
