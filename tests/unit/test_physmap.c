/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory that is mapped piecemeal. Every piece of the sim backend is a mapping of its own that is gone
 * once it is given back, so a reader that uses one too long dies.
 */
#include "suite.h"
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../../backends/sim/machine.h"
#include "machine.h"
#include "vm/vm.h"

#include <hvmi/space.h>

#define LEN (64 * MIB)
#define THREADS 4
/* Each unmapping costs the thread sanitizer milliseconds. */
#ifdef __SANITIZE_THREAD__
#define READS 500
#else
#define READS 2000
#endif

static struct sim *sim_of(struct hvmi_vm *vm)
{
	return vm->machine;
}

static struct hvmi_vm *open_chunks(uint32_t flags, uint64_t budget, const char *script)
{
	struct hvmi_open_options options = { .size = sizeof(options), .flags = flags,
					     .map_budget = budget };
	struct hvmi_vm *vm;
	struct hvmi_error err;
	if (machine_try(script, strlen(script), &options, &vm, &err)) {
		fprintf(stderr, "%s\n", err.text);
		abort();
	}
	return vm;
}

/* Every 8 bytes hold their own address. */
static void fill(struct hvmi_vm *vm)
{
	struct hvmi_range r;
	for (uint32_t i = 0; hvmi_vm_range(vm, i, &r) == 0; i++) {
		uint64_t left, *words = (uint64_t *)(void *)sim_ram(sim_of(vm), r.gpa, &left);
		for (uint64_t word = 0; word < r.len / 8; word++)
			words[word] = r.gpa + 8 * word;
	}
}

static void check(struct hvmi_vm *vm, uint64_t gpa, size_t len)
{
	uint64_t *buf = malloc(len);
	size_t done;
	ck_assert_int_eq(hvmi_vm_read(vm, gpa, buf, len, &done), 0);
	ck_assert_uint_eq(done, len);
	size_t good = 0;
	while (good < len / 8 && buf[good] == gpa + 8 * good)
		good++;
	ck_assert_uint_eq(good, len / 8);
	free(buf);
}

START_TEST(whole_chunks)
{
	struct hvmi_vm *vm = open_chunks(0, 0, "chunks\nram 0 0xa0000\nram 0x100000 8M\n"
					       "ram 0x40000000 0x1800\n");
	struct hvmi_vm_info info = { .size = sizeof(info) };
	struct sim *sim = sim_of(vm);
	hvmi_vm_get_info(vm, &info);
	ck_assert_uint_eq(info.flags & HVMI_VM_MAPPED, HVMI_VM_MAPPED);
	ck_assert_uint_eq(sim->calls[SIM_METHOD_map_pages], 1);
	ck_assert_uint_eq(sim->mapped_pages, 0);
	fill(vm);
	check(vm, 0x1008, 64);
	ck_assert_uint_eq(sim->mapped_pages, 0xa0);
	check(vm, 0x9f000, 0x1000);
	/* The other range in the same 2 MiB. */
	check(vm, 0x100000, 0x100000);
	ck_assert_uint_eq(sim->mapped_pages, 0xa0 + 0x100);
	ck_assert_uint_eq(sim->calls[SIM_METHOD_map_pages], 3);
	check(vm, 0x1ffff8, 0x400010);
	ck_assert_uint_eq(sim->calls[SIM_METHOD_map_pages], 6);
	/* The end of a range inside a page is read. */
	check(vm, 0x40000000, 0x1800);
	ck_assert_uint_eq(sim->calls[SIM_METHOD_map_pages], 7);
	ck_assert_uint_eq(sim->calls[SIM_METHOD_read], 1);
	uint64_t word;
	ck_assert_int_eq(hvmi_vm_read(vm, 0xa0000, &word, 8, NULL), -EFAULT);
	ck_assert_int_eq(hvmi_vm_read(vm, 1ull << 60, &word, 8, NULL), -EFAULT);
	hvmi_close(vm);
}
END_TEST

START_TEST(absent_pages)
{
	struct hvmi_vm *vm = open_chunks(0, 0, "chunks\nram 0 8M\nabsent 0x203000 0x2000\n");
	struct sim *sim = sim_of(vm);
	uint8_t buf[0x4000];
	size_t done;
	fill(vm);
	ck_assert_int_eq(hvmi_vm_read(vm, 0x202000, buf, sizeof(buf), &done), -EFAULT);
	ck_assert_uint_eq(done, 0x1000);
	check(vm, 0x205000, 0x1000);
	uint64_t maps = sim->calls[SIM_METHOD_map_pages];
	const void *mapping;
	ck_assert_int_eq(hvmi_vm_map(vm, 0x202ff0, 0x20, &mapping), -EFAULT);
	ck_assert_int_eq(hvmi_vm_map(vm, 0x204000, 8, &mapping), -EFAULT);
	ck_assert_int_eq(hvmi_vm_read(vm, 0x204ff8, buf, 8, &done), -EFAULT);
	/* Each asked for one page again, and gave it back. */
	ck_assert_uint_eq(sim->calls[SIM_METHOD_map_pages], maps + 3);
	ck_assert_uint_eq(sim->mapped_pages, CHUNK_PAGES);
	/* The guest gets its pages back. */
	sim->absent_count = 0;
	check(vm, 0x202000, 0x4000);
	ck_assert_uint_eq(sim->mapped_pages, CHUNK_PAGES);
	ck_assert_int_eq(hvmi_vm_map(vm, 0x202ff0, 0x20, &mapping), 0);
	ck_assert_uint_eq(load_le64(mapping), 0x202ff0);
	hvmi_vm_unmap(vm, mapping, 0x20);
	hvmi_close(vm);
}
END_TEST

START_TEST(budget)
{
	struct hvmi_vm *vm = open_chunks(0, 8 * MIB, "chunks\nram 0 64M\n");
	struct sim *sim = sim_of(vm);
	fill(vm);
	for (int round = 0; round < 3; round++)
		for (uint64_t gpa = 0; gpa < LEN; gpa += CHUNK_SIZE)
			check(vm, gpa + 8 * (uint64_t)round, 64);
	ck_assert_uint_le(sim->mapped_peak, 8 * MIB / FRAME_SIZE);
	/* What is used between two visits of the clock's hand stays. */
	for (uint64_t gpa = 0; gpa < LEN; gpa += CHUNK_SIZE) {
		check(vm, 0, 8);
		uint64_t maps = sim->calls[SIM_METHOD_map_pages];
		check(vm, gpa, 8);
		check(vm, 0, 8);
		ck_assert_uint_le(sim->calls[SIM_METHOD_map_pages], maps + 2);
	}
	hvmi_close(vm);
	vm = open_chunks(0, 1, "chunks\nram 0 64M\n");
	fill(vm);
	check(vm, 0, LEN);
	ck_assert_uint_eq(sim_of(vm)->mapped_peak, CHUNK_PAGES);
	hvmi_close(vm);
}
END_TEST

#ifndef __SANITIZE_THREAD__
/*
 * 1 TiB, of which some is used again and again. ThreadSanitizer leaves room for it only where the kernel
 * happens to begin at a high address.
 */
START_TEST(large_machine)
{
	struct hvmi_vm *vm = open_chunks(0, 64 * MIB, "chunks\nram 0 1T\n");
	struct sim *sim = sim_of(vm);
	uint64_t wrong = 0, seldom = 0, state = 1;
	for (uint64_t i = 0; i < 2 * READS; i++) {
		state = state * 6364136223846793005ull + 1442695040888963407ull;
		/* Three of four reads are of 16 MiB that lie apart. */
		bool often = i % 4;
		uint64_t gpa = often ? (state >> 33) % 8 * (100 * GIB) + (state >> 40) % CHUNK_SIZE :
				       (state >> 20) % (1024 * GIB);
		uint64_t word = 1, maps = sim->calls[SIM_METHOD_map_pages];
		wrong += hvmi_vm_read(vm, gpa & ~7ull, &word, 8, NULL) || word;
		seldom += often && sim->calls[SIM_METHOD_map_pages] != maps;
	}
	ck_assert_uint_eq(wrong, 0);
	ck_assert_uint_le(sim->mapped_peak, 64 * MIB / FRAME_SIZE);
	/* The working set stays mapped: hardly more than its first touches. */
	ck_assert_uint_le(seldom, 100);
	hvmi_close(vm);
}
END_TEST
#endif

START_TEST(holding)
{
	struct hvmi_vm *vm = open_chunks(0, 4 * MIB, "chunks\nram 0 64M\n");
	struct sim *sim = sim_of(vm);
	const void *one, *same, *two, *three;
	fill(vm);
	ck_assert_int_eq(hvmi_vm_map(vm, 0x1000, 0x1000, &one), 0);
	ck_assert_int_eq(hvmi_vm_map(vm, 0x1ffff8, 8, &same), 0);
	ck_assert_int_eq(hvmi_vm_map(vm, 0x1ffff8, 16, &two), -ENOTSUP);
	ck_assert_int_eq(hvmi_vm_map(vm, LEN - 8, 16, &two), -EFAULT);
	check(vm, 0, LEN);
	ck_assert_uint_eq(load_le64(one), 0x1000);
	ck_assert_uint_eq(load_le64(same), 0x1ffff8);
	ck_assert_int_eq(hvmi_vm_map(vm, 0x200000, 0x1000, &two), 0);
	/* All of the budget is held: copies go through read(). */
	ck_assert_int_eq(hvmi_vm_map(vm, 0x400000, 0x1000, &three), -EBUSY);
	uint64_t reads = sim->calls[SIM_METHOD_read];
	check(vm, 0x400000, 0x400000);
	ck_assert_uint_eq(sim->calls[SIM_METHOD_read], reads + 2);
	/* Dropped, they stay until they are given back. */
	sim->generation++;
	ck_assert_int_eq(hvmi_vm_pause(vm, NULL), 0);
	ck_assert_uint_eq(load_le64(one), 0x1000);
	ck_assert_uint_eq(load_le64(two), 0x200000);
	hvmi_vm_unmap(vm, one, 0x1000);
	ck_assert_uint_eq(load_le64(same), 0x1ffff8);
	ck_assert_uint_eq(sim->mapped_pages, 2 * CHUNK_PAGES);
	hvmi_vm_unmap(vm, same, 8);
	ck_assert_uint_eq(sim->mapped_pages, CHUNK_PAGES);
	check(vm, 0x1000, 0x1000);
	hvmi_vm_unmap(vm, two, 0x1000);
	ck_assert_uint_eq(sim->mapped_pages, CHUNK_PAGES);
	ck_assert_int_eq(hvmi_vm_resume(vm, NULL), 0);
	hvmi_close(vm);
}
END_TEST

START_TEST(generations)
{
	struct hvmi_vm *vm = open_chunks(0, 0, "chunks\nram 0 8M\n");
	struct sim *sim = sim_of(vm);
	fill(vm);
	check(vm, 0, 8 * MIB);
	uint64_t maps = sim->calls[SIM_METHOD_map_pages];
	struct hvmi_space_config config = { .size = sizeof(config) };
	struct hvmi_space *space;
	ck_assert_int_eq(hvmi_space_create(vm, &config, &space, NULL), 0);
	hvmi_space_destroy(space);
	ck_assert_uint_eq(sim->mapped_pages, 4 * CHUNK_PAGES);
	sim->generation++;
	ck_assert_int_eq(hvmi_space_create(vm, &config, &space, NULL), 0);
	hvmi_space_destroy(space);
	ck_assert_uint_eq(sim->mapped_pages, 0);
	check(vm, 0, 8 * MIB);
	ck_assert_uint_eq(sim->calls[SIM_METHOD_map_pages], maps + 4);
	hvmi_close(vm);
}
END_TEST

START_TEST(writing)
{
	struct hvmi_vm *vm = open_chunks(HVMI_OPEN_WRITE, 0, "chunks\nram 0 8M\n"
							     "absent 0x3000 0x1000\n");
	struct sim *sim = sim_of(vm);
	static uint8_t bytes[0x3000];
	size_t done;
	memset(bytes, 0x5a, sizeof(bytes));
	ck_assert_int_eq(hvmi_vm_write(vm, 0x1ff800, bytes, 0x1000, NULL), 0);
	uint64_t left;
	ck_assert_int_eq(memcmp(sim_ram(sim, 0x1ff800, &left), bytes, 0x1000), 0);
	ck_assert_int_eq(hvmi_vm_write(vm, 0x1800, bytes, 0x3000, &done), -EFAULT);
	ck_assert_uint_eq(done, 0x1800);
	ck_assert_uint_eq(sim->calls[SIM_METHOD_write], 0);
	hvmi_close(vm);
}
END_TEST

START_TEST(failures)
{
	/* The first call is the probe of hvmi_open(). */
	struct hvmi_vm *vm = open_chunks(0, 0, "chunks\nram 0 8M\nfail map_pages 2 ENOMEM\n"
					       "fail map_pages 4 ESRCH\n");
	struct sim *sim = sim_of(vm);
	fill(vm);
	check(vm, 0x1000, 8);
	ck_assert_uint_eq(sim->calls[SIM_METHOD_read], 1);
	check(vm, 0x1000, 8);
	ck_assert_uint_eq(sim->calls[SIM_METHOD_read], 1);
	uint64_t word;
	ck_assert_int_eq(hvmi_vm_read(vm, 0x200000, &word, 8, NULL), -ESRCH);
	check(vm, 0x200000, 8);
	ck_assert_uint_eq(sim->mapped_pages, 2 * CHUNK_PAGES);
	hvmi_close(vm);
	vm = open_chunks(0, 0, "chunks\nram 0 8M\nfail map_pages 1 ENOTSUP\n");
	ck_assert_ptr_null(vm->physmap);
	fill(vm);
	check(vm, 0, 8 * MIB);
	hvmi_close(vm);
}
END_TEST

static _Atomic(bool) stop;

static void *reader(void *context)
{
	struct hvmi_vm *vm = context;
	uint64_t state = (uint64_t)pthread_self() | 1;
	for (int i = 0; i < READS; i++) {
		state = state * 6364136223846793005ull + 1442695040888963407ull;
		uint64_t gpa = (state >> 20) % (LEN - 4096) & ~7ull, words[16];
		const void *mapping;
		if (hvmi_vm_read(vm, gpa, words, sizeof(words), NULL))
			return context;
		for (size_t word = 0; word < ARRAY_SIZE(words); word++)
			if (words[word] != gpa + 8 * word)
				return context;
		if (i % 8 == 0 && hvmi_vm_map(vm, gpa, 8, &mapping) == 0) {
			bool good = load_le64(mapping) == gpa;
			hvmi_vm_unmap(vm, mapping, 8);
			if (!good)
				return context;
		}
	}
	return NULL;
}

static void *dropper(void *context)
{
	struct hvmi_vm *vm = context;
	while (!atomic_load(&stop)) {
		__atomic_add_fetch(&sim_of(vm)->generation, 1, __ATOMIC_RELAXED);
		vm_refresh(vm);
		usleep(2000);
	}
	return NULL;
}

/* Readers, eviction and dropping, all at once. */
START_TEST(threads)
{
	struct hvmi_vm *vm = open_chunks(0, 8 * MIB, "chunks\nram 0 64M\n");
	fill(vm);
	pthread_t readers[THREADS], other;
	void *result;
	ck_assert_int_eq(pthread_create(&other, NULL, dropper, vm), 0);
	for (int i = 0; i < THREADS; i++)
		ck_assert_int_eq(pthread_create(&readers[i], NULL, reader, vm), 0);
	for (int i = 0; i < THREADS; i++) {
		pthread_join(readers[i], &result);
		ck_assert_ptr_null(result);
	}
	atomic_store(&stop, true);
	pthread_join(other, NULL);
	/* What is held counts; nothing else goes beyond the budget. */
	ck_assert_uint_le(sim_of(vm)->mapped_peak, 8 * MIB / FRAME_SIZE);
	struct sim *sim = sim_of(vm);
	ck_assert_uint_gt(sim->calls[SIM_METHOD_unmap_pages], 50);
	hvmi_close(vm);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("physmap");
	TCase *tcase = tcase_create("physmap");
	tcase_add_test(tcase, whole_chunks);
	tcase_add_test(tcase, absent_pages);
	tcase_add_test(tcase, budget);
#ifndef __SANITIZE_THREAD__
	tcase_add_test(tcase, large_machine);
#endif
	tcase_add_test(tcase, holding);
	tcase_add_test(tcase, generations);
	tcase_add_test(tcase, writing);
	tcase_add_test(tcase, failures);
	tcase_add_test(tcase, threads);
	suite_add_tcase(suite, tcase);
	return run_suite(suite);
}
