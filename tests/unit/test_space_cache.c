/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Remembered translations: that they are used, and that none is ever stale, whatever way memory is
 * reached and whatever changes it.
 */
#include "suite.h"
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "../../backends/sim/machine.h"
#include "machine.h"
#include "page_tables.h"
#include "space/cache.h"

#define TABLES 0x100000u
#define RAM (64 * MIB)

static struct hvmi_vm *vm;
static struct page_tables tables;
static struct hvmi_space *space, *uncached;

static const struct kind {
	const char *script;
	bool still;
	uint64_t budget;
} kinds[] = {
	{ "ram 0 64M\n", false, 0 },
	{ "ram 0 64M\nstatic\n", true, 0 },
	{ "nomap\nram 0 64M\n", false, 0 },
	{ "nomap\nram 0 64M\nstatic\n", true, 0 },
	{ "chunks\nram 0 64M\n", false, 0 },
	{ "chunks\nram 0 64M\n", false, 6 * MIB },
	{ "chunks\nram 0 64M\nstatic\n", true, 6 * MIB },
	{ "ram 0 0x1001000\nram 0x1001000 0x2fff000\n", false, 0 },
};

static void start(const struct kind *kind, uint32_t paging)
{
	struct hvmi_open_options options = { .size = sizeof(options), .flags = HVMI_OPEN_WRITE,
					     .map_budget = kind->budget };
	ck_assert_int_eq(machine_try(kind->script, strlen(kind->script), &options, &vm, NULL), 0);
	page_tables_init(&tables, vm, paging, TABLES);
	space = page_tables_space(&tables, HVMI_SPACE_PSE | HVMI_SPACE_NX, 0);
	uncached = page_tables_space(&tables, HVMI_SPACE_PSE | HVMI_SPACE_NX | HVMI_SPACE_UNCACHED,
				     0);
}

static void stop(void)
{
	hvmi_space_destroy(space);
	hvmi_space_destroy(uncached);
	hvmi_close(vm);
}

static uint8_t *at_gpa(uint64_t gpa)
{
	uint64_t left;
	return sim_ram(vm->machine, gpa, &left);
}

static uint64_t put(uint64_t gpa, uint64_t value)
{
	ck_assert_int_eq(hvmi_vm_write(vm, gpa, &value, sizeof(value), NULL), 0);
	return value;
}

static uint64_t get(uint64_t gva)
{
	uint64_t value;
	size_t done;
	/* Assertions that hold cost a system call. */
	if (hvmi_space_read(space, gva, &value, sizeof(value), &done) || done != sizeof(value))
		ck_abort_msg("0x%llx cannot be read", (unsigned long long)gva);
	return value;
}

/* How many translations are in the cache. */
static uint32_t count(void)
{
	uint32_t n = 0;
	for (uint32_t set = 0; space->cache && set < CACHE_SETS; set++)
		for (uint32_t way = 0; way < CACHE_WAYS; way++)
			n += space->cache->sets[set].tags[way] >> TAG_TURN_SHIFT ==
			     space->cache->turn >> TAG_TURN_SHIFT;
	return n;
}

START_TEST(remaps_are_seen)
{
	const struct kind *kind = &kinds[_i];
	start(kind, HVMI_PAGING_X86_4LEVEL);
	uint64_t gva = 0x7f0000000000, other = gva + FRAME_SIZE;
	uint64_t entry = page_tables_map(&tables, gva, 0x800000, 1, 0);
	page_tables_map(&tables, other, 0x801000, 1, 0);
	put(0x800000, 1);
	put(0x801000, 2);
	put(0x900000, 3);
	for (int i = 0; i < 3; i++) {
		ck_assert_uint_eq(get(gva), 1);
		ck_assert_uint_eq(get(other), 2);
	}
	ck_assert_uint_eq(count(), 2);
	page_tables_set(&tables, entry, 0x900000 | PT_P);
	ck_assert_uint_eq(get(gva), 3);
	uint64_t gpa, value;
	ck_assert_int_eq(hvmi_space_translate(space, gva + 5, &gpa), 0);
	ck_assert_uint_eq(gpa, 0x900005);
	page_tables_set(&tables, entry, 0);
	ck_assert_int_eq(hvmi_space_read(space, gva, &value, 8, NULL), -EFAULT);
	ck_assert_int_eq(hvmi_space_translate(space, gva, &gpa), -EFAULT);
	page_tables_set(&tables, entry, 0x800000 | PT_P | PT_W);
	ck_assert_uint_eq(get(gva), 1);
	/* A level above, with the leaf's entry left alone. */
	uint64_t pde = page_tables_entry(&tables, gva, 2), old = page_tables_get(&tables, pde);
	page_tables_set(&tables, pde, 0);
	ck_assert_int_eq(hvmi_space_read(space, gva, &value, 8, NULL), -EFAULT);
	page_tables_set(&tables, pde, old);
	ck_assert_uint_eq(get(gva), 1);
	ck_assert_uint_eq(get(other), 2);
	/* Writes go where the translation leads now. */
	page_tables_set(&tables, entry, 0x900000 | PT_P);
	value = 4;
	ck_assert_int_eq(hvmi_space_write(space, gva, &value, 8, NULL), 0);
	ck_assert_int_eq(hvmi_vm_read(vm, 0x900000, &value, 8, NULL), 0);
	ck_assert_uint_eq(value, 4);
	stop();
}
END_TEST

/* What the processor notes in an entry is no change. */
START_TEST(accessed_and_dirty)
{
	start(&kinds[0], HVMI_PAGING_X86_4LEVEL);
	uint64_t entry = page_tables_map(&tables, 0x1000, 0x800000, 1, PT_W);
	put(0x800000, 7);
	ck_assert_uint_eq(get(0x1000), 7);
	page_tables_set(&tables, entry, page_tables_get(&tables, entry) | ENTRY_ACCESSED | ENTRY_DIRTY);
	struct cached at;
	ck_assert(cache_find(space->cache, 0x1000, &at));
	ck_assert(cache_holds(space, at.set, at.way));
	page_tables_set(&tables, entry, page_tables_get(&tables, entry) | PT_U);
	ck_assert(!cache_holds(space, at.set, at.way));
	ck_assert_uint_eq(get(0x1000), 7);
	ck_assert(cache_holds(space, at.set, at.way));
	stop();
}
END_TEST

/* Nothing is checked while the machine is paused, and nothing from before is believed. */
START_TEST(pausing)
{
	start(&kinds[_i], HVMI_PAGING_X86_4LEVEL);
	uint64_t entry = page_tables_map(&tables, 0x1000, 0x800000, 1, 0);
	put(0x800000, 1);
	put(0x900000, 2);
	ck_assert_uint_eq(get(0x1000), 1);
	/* The guest writes its tables itself. */
	memcpy(at_gpa(entry), &(uint64_t){ 0x900000 | PT_P }, 8);
	ck_assert_int_eq(hvmi_vm_pause(vm, NULL), 0);
	ck_assert_uint_eq(get(0x1000), 2);
	ck_assert_uint_eq(get(0x1000), 2);
	/* So this is not seen ... */
	memcpy(at_gpa(entry), &(uint64_t){ 0x800000 | PT_P }, 8);
	ck_assert_uint_eq(get(0x1000), 2);
	/* ... until it may have run, */
	ck_assert_int_eq(hvmi_vm_pause(vm, NULL), 0);
	ck_assert_int_eq(hvmi_vm_resume(vm, NULL), 0);
	ck_assert_uint_eq(get(0x1000), 2);
	ck_assert_int_eq(hvmi_vm_resume(vm, NULL), 0);
	ck_assert_uint_eq(get(0x1000), 1);
	ck_assert_int_eq(hvmi_vm_pause(vm, NULL), 0);
	ck_assert_uint_eq(get(0x1000), 1);
	/* or something was written. */
	put(entry, 0x900000 | PT_P);
	ck_assert_uint_eq(get(0x1000), 2);
	ck_assert_int_eq(hvmi_vm_resume(vm, NULL), 0);
	stop();
}
END_TEST

START_TEST(large_pages)
{
	const struct kind *kind = &kinds[_i];
	start(kind, HVMI_PAGING_X86_4LEVEL);
	uint32_t wrong = 0;
	page_tables_map(&tables, 0x40000000, 0, 3, 0);
	page_tables_map(&tables, 0x80000000, 0x1000000, 2, 0);
	for (uint64_t gpa = 0x400000; gpa < RAM; gpa += FRAME_SIZE)
		memcpy(at_gpa(gpa) + 8, &gpa, 8);
	for (uint64_t offset = 0x400000; offset < RAM; offset += FRAME_SIZE)
		wrong += get(0x40000008 + offset) != offset;
	for (uint64_t offset = 0; offset < 0x200000; offset += FRAME_SIZE)
		wrong += get(0x80000008 + offset) != 0x1000000 + offset;
	ck_assert_uint_eq(wrong, 0);
	/* One for each 2 MiB; more only where a page is not in one piece. */
	if (_i == 7)
		ck_assert_uint_eq(count(), 31 + 2 * 512 - 2);
	else if (!kind->budget)
		ck_assert_uint_eq(count(), 31);
	/* Where a page goes on behind RAM. */
	uint64_t value;
	ck_assert_int_eq(hvmi_space_read(space, 0x40000000 + RAM, &value, 8, NULL), -EFAULT);
	ck_assert_int_eq(hvmi_space_read(space, 0x40000000 + RAM, &value, 8, NULL), -EFAULT);
	stop();
}
END_TEST

static uint64_t state = 88172645463325252ull;
static uint64_t draw(uint64_t below)
{
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return state % below;
}

/* Pages come, go and move; what is read is what an uncached space reads, every time. */
START_TEST(like_uncached)
{
	static const uint32_t modes[] = { HVMI_PAGING_X86_32, HVMI_PAGING_X86_PAE,
					  HVMI_PAGING_X86_4LEVEL, HVMI_PAGING_X86_5LEVEL };
	const struct kind *kind = &kinds[(size_t)_i / ARRAY_SIZE(modes)];
	start(kind, modes[(size_t)_i % ARRAY_SIZE(modes)]);
	for (uint64_t gpa = 0x400000; gpa < RAM; gpa += 64)
		memcpy(at_gpa(gpa), &gpa, 8);
	uint32_t good = 0, mapped = 0, wrong = 0;
	/* Where little fits in the budget, nearly every read maps something. */
	for (int i = 0; i < (kind->budget ? 1000 : 20000); i++) {
		uint64_t gva = draw(64) * FRAME_SIZE + draw(3) * 0x40000000;
		uint64_t frame = 0x400000 + draw((RAM - 0x400000) / FRAME_SIZE) * FRAME_SIZE;
		if (i % 8 == 0) {
			uint64_t flags = draw(5) ? PT_P | draw(2) * PT_W : 0;
			uint64_t entry = page_tables_entry(&tables, gva, 1);
			page_tables_set(&tables, entry, frame | flags);
		}
		if (i % 1024 == 0)
			((struct sim *)vm->machine)->generation++;
		uint64_t at = gva + draw(FRAME_SIZE + 64), a[4] = { 0 }, b[4] = { 0 };
		size_t len = 1 + draw(sizeof(a)), done_a, done_b;
		int rc_a = hvmi_space_read(space, at, a, len, &done_a);
		int rc_b = hvmi_space_read(uncached, at, b, len, &done_b);
		wrong += rc_a != rc_b || done_a != done_b || memcmp(a, b, done_a) != 0;
		mapped += rc_a == 0;
		uint64_t gpa_a = 1, gpa_b = 1;
		rc_a = hvmi_space_translate(space, at, &gpa_a);
		rc_b = hvmi_space_translate(uncached, at, &gpa_b);
		wrong += rc_a != rc_b || gpa_a != gpa_b;
		good++;
	}
	ck_assert_uint_eq(wrong, 0);
	ck_assert_uint_gt(mapped, good / 4);
	stop();
}
END_TEST

static void replace_space(const struct page_tables *t)
{
	hvmi_space_destroy(space);
	space = page_tables_space(t, HVMI_SPACE_PSE | HVMI_SPACE_NX, 0);
}

/* The next handle of the same space knows what the one before it knew, and that of another does not. */
START_TEST(handed_on)
{
	struct page_tables others;
	start(&kinds[_i], HVMI_PAGING_X86_4LEVEL);
	page_tables_init(&others, vm, HVMI_PAGING_X86_4LEVEL, TABLES + 0x80000);
	uint64_t gva = 0x7f0000000000, second = gva + FRAME_SIZE;
	uint64_t entry = page_tables_map(&tables, gva, 0x800000, 1, 0);
	page_tables_map(&tables, second, 0x801000, 1, 0);
	page_tables_map(&others, gva, 0x802000, 1, 0);
	for (uint64_t i = 0; i < 3; i++)
		put(0x800000 + i * FRAME_SIZE, i);
	ck_assert_uint_eq(get(gva), 0);
	ck_assert_uint_eq(get(second), 1);
	replace_space(&tables);
	ck_assert_uint_eq(get(second), 1);
	ck_assert_uint_eq(count(), 2);
	replace_space(&others);
	ck_assert_uint_eq(get(gva), 2);
	ck_assert_uint_eq(count(), 1);
	replace_space(&tables);
	ck_assert_uint_eq(get(gva), 0);
	replace_space(&tables);
	page_tables_set(&tables, entry, 0x801000 | PT_P);
	ck_assert_uint_eq(get(gva), 1);
	stop();
}
END_TEST

/* Many at once say what each says alone; also where they overlap, cross pages, or fail. */
START_TEST(scatter)
{
	enum { ITEMS = 600 };
	const struct kind *kind = &kinds[_i];
	start(kind, HVMI_PAGING_X86_4LEVEL);
	for (uint64_t gpa = 0x400000; gpa < RAM; gpa += 8)
		memcpy(at_gpa(gpa), &gpa, 8);
	for (uint64_t page = 0; page < 64; page++)
		if (page % 5)
			page_tables_map(&tables, page * FRAME_SIZE, 0x400000 + page * 0x31000, 1, 0);
	page_tables_map(&tables, 0x40000000, 0x800000, 2, 0);
	static struct hvmi_io items[ITEMS];
	static uint8_t bufs[ITEMS][64], single[64];
	uint32_t wrong = 0, failed = 0;
	for (uint32_t round = 0; round < 4; round++) {
		int first = 0;
		for (uint32_t i = 0; i < ITEMS; i++) {
			uint64_t address = draw(2) ? draw(64 * FRAME_SIZE) :
					   0x40000000 + draw(0x210000);
			struct hvmi_space *spaces[] = { space, uncached, NULL };
			items[i] = (struct hvmi_io){ .space = spaces[draw(3)], .address = address,
						     .buf = bufs[i], .len = draw(65) };
		}
		int rc = hvmi_read_v(vm, items, ITEMS);
		for (uint32_t i = 0; i < ITEMS; i++) {
			size_t done;
			int expected = items[i].space ?
				hvmi_space_read(uncached, items[i].address, single, items[i].len,
						&done) :
				hvmi_vm_read(vm, items[i].address, single, items[i].len, &done);
			wrong += items[i].status != expected || items[i].done != done ||
				 memcmp(single, bufs[i], done) != 0;
			first = first ? first : expected;
			failed += expected != 0;
		}
		ck_assert_int_eq(rc, first);
	}
	ck_assert_uint_eq(wrong, 0);
	ck_assert_uint_gt(failed, 100);
	uint64_t values[3] = { 11, 12, 13 };
	struct hvmi_io writes[] = {
		{ .space = space, .address = 0x1000, .buf = &values[0], .len = 8 },
		{ .space = space, .address = 0x5000, .buf = &values[1], .len = 8 },
		{ .address = 0x600000, .buf = &values[2], .len = 8 },
	};
	ck_assert_int_eq(hvmi_write_v(vm, writes, 3), -EFAULT);
	ck_assert_int_eq(writes[0].status, 0);
	ck_assert_int_eq(writes[1].status, -EFAULT);
	ck_assert_uint_eq(writes[1].done, 0);
	ck_assert_int_eq(writes[2].status, 0);
	ck_assert_uint_eq(get(0x1000), 11);
	ck_assert_int_eq(memcmp(at_gpa(0x600000), &values[2], 8), 0);
	stop();
}
END_TEST

/* Near pieces are one call where a call is dear. */
START_TEST(coalescing)
{
	start(&kinds[3], HVMI_PAGING_X86_4LEVEL);
	struct hvmi_io items[64];
	uint64_t values[64];
	for (uint64_t i = 0; i < 64; i++) {
		memcpy(at_gpa(0x400000 + 64 * i), &i, 8);
		items[i] = (struct hvmi_io){ .address = 0x400000 + 64 * (63 - i),
					     .buf = &values[i], .len = 8 };
	}
	uint64_t reads = ((struct sim *)vm->machine)->calls[SIM_METHOD_read];
	ck_assert_int_eq(hvmi_read_v(vm, items, 64), 0);
	ck_assert_uint_eq(((struct sim *)vm->machine)->calls[SIM_METHOD_read], reads + 1);
	for (uint64_t i = 0; i < 64; i++)
		ck_assert_uint_eq(values[i], 63 - i);
	stop();
}
END_TEST

#ifndef __SANITIZE_THREAD__
/*
 * A guest that moves a page again and again. Each page tells the number of its mapping while it is
 * mapped, and something else as soon as it is not. Bits 62:52 of an entry are the system's own (SDM
 * volume 3, 4.5.4); they make each differ from all that a read could have seen before.
 */
#define MOVED_FRAMES 8192u
#define MOVES 2000000u		/* at least */
#define GONE UINT64_MAX
#define MOVED_GVA 0x7f0000000000ull

static _Atomic(uint64_t) complete;
static atomic_bool enough, ended;
static uint64_t moved_entry;

static void *guest(void *context)
{
	(void)context;
	uint64_t *entry = (uint64_t *)(void *)at_gpa(moved_entry);
	uint8_t *frames = at_gpa(0x800000);
	for (uint64_t i = 1; i <= MOVES || !atomic_load(&enough); i++) {
		uint64_t from = (i - 1) % MOVED_FRAMES * FRAME_SIZE;
		uint64_t to = i % MOVED_FRAMES * FRAME_SIZE;
		uint64_t number = i / MOVED_FRAMES % 2048 << 52;
		__atomic_store_n((uint64_t *)(void *)(frames + to), i, __ATOMIC_RELEASE);
		__atomic_store_n(entry, (0x800000 + to) | PT_P | number, __ATOMIC_SEQ_CST);
		atomic_store(&complete, i);
		__atomic_store_n((uint64_t *)(void *)(frames + from), GONE, __ATOMIC_RELEASE);
	}
	atomic_store(&ended, true);
	return NULL;
}

START_TEST(never_stale)
{
	start(&kinds[_i], HVMI_PAGING_X86_4LEVEL);
	put(0x800000, 0);
	moved_entry = page_tables_map(&tables, MOVED_GVA, 0x800000, 1, 0);
	atomic_store(&complete, 0);
	atomic_store(&enough, false);
	atomic_store(&ended, false);
	pthread_t thread;
	ck_assert_int_eq(pthread_create(&thread, NULL, guest, NULL), 0);
	uint64_t reads = 0, stale = 0, busy = 0, moves = 0, last = 0;
	for (; !atomic_load(&ended); reads++) {
		uint64_t value, before = atomic_load(&complete);
		int rc = hvmi_space_read(reads % 2 ? space : uncached, MOVED_GVA, &value, 8, NULL);
		if (rc)
			busy++;
		else
			stale += value == GONE || value < before;
		moves += before != last;
		last = before;
		/* Where guest and reader share a processor, a turn of either shows the other one move. */
		if (moves > 10)
			atomic_store(&enough, true);
	}
	pthread_join(thread, NULL);
	ck_assert_uint_eq(stale, 0);
	ck_assert_uint_lt(busy, reads / 2);
	stop();
}
END_TEST
#endif

int main(void)
{
	Suite *suite = suite_create("space_cache");
	TCase *tcase = tcase_create("space_cache");
	tcase_add_loop_test(tcase, remaps_are_seen, 0, (int)ARRAY_SIZE(kinds));
	tcase_add_test(tcase, accessed_and_dirty);
	tcase_add_loop_test(tcase, pausing, 0, 1);
	tcase_add_loop_test(tcase, pausing, 2, 3);
	tcase_add_loop_test(tcase, pausing, 4, 6);
	tcase_add_loop_test(tcase, large_pages, 0, (int)ARRAY_SIZE(kinds));
	tcase_add_loop_test(tcase, like_uncached, 0, 4 * (int)ARRAY_SIZE(kinds));
	tcase_add_loop_test(tcase, handed_on, 0, (int)ARRAY_SIZE(kinds));
	tcase_add_loop_test(tcase, scatter, 0, (int)ARRAY_SIZE(kinds));
	tcase_add_test(tcase, coalescing);
#ifndef __SANITIZE_THREAD__
	tcase_add_loop_test(tcase, never_stale, 0, 1);
	tcase_add_loop_test(tcase, never_stale, 2, 3);
	tcase_add_loop_test(tcase, never_stale, 4, 5);
#endif
	suite_add_tcase(suite, tcase);
	return run_suite(suite);
}
