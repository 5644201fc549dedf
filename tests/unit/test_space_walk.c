/* SPDX-License-Identifier: Apache-2.0 */
#include "suite.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "machine.h"
#include "page_tables.h"

/* The machine: 16 MiB, tables from 1 MiB on; no RAM above. */
#define TABLES 0x100000ull
#define NO_RAM 0x1000000ull

/* Every size of page in every mode. */
static const struct kind {
	uint32_t paging, level;
	uint64_t physical_max;	/* the highest address such a page may have */
} kinds[] = {
	{ HVMI_PAGING_X86_32, 1, 0xffffffff },
	{ HVMI_PAGING_X86_32, 2, 0xffffffffff },
	{ HVMI_PAGING_X86_PAE, 1, 0xfffffffffffff },
	{ HVMI_PAGING_X86_PAE, 2, 0xfffffffffffff },
	{ HVMI_PAGING_X86_4LEVEL, 1, 0xfffffffffffff },
	{ HVMI_PAGING_X86_4LEVEL, 2, 0xfffffffffffff },
	{ HVMI_PAGING_X86_4LEVEL, 3, 0xfffffffffffff },
	{ HVMI_PAGING_X86_5LEVEL, 1, 0xfffffffffffff },
	{ HVMI_PAGING_X86_5LEVEL, 2, 0xfffffffffffff },
	{ HVMI_PAGING_X86_5LEVEL, 3, 0xfffffffffffff },
};
#define KINDS (int)(sizeof(kinds) / sizeof(*kinds))

static const uint32_t paging_modes[] = { HVMI_PAGING_X86_32, HVMI_PAGING_X86_PAE,
					 HVMI_PAGING_X86_4LEVEL, HVMI_PAGING_X86_5LEVEL };

static struct hvmi_vm *vm;
static struct page_tables tables;
static struct hvmi_space *space;

static void start(uint32_t paging, uint32_t flags, uint32_t physical_bits)
{
	vm = machine_open(HVMI_OPEN_WRITE, "ram 0 16M\n");
	page_tables_init(&tables, vm, paging, TABLES);
	space = page_tables_space(&tables, flags, physical_bits);
}

static void stop(void)
{
	hvmi_space_destroy(space);
	hvmi_close(vm);
}

static uint64_t random_u64(void)
{
	static uint64_t state = 0x9e3779b97f4a7c15;
	state ^= state << 13;
	state ^= state >> 7;
	return state ^= state << 17;
}

static uint64_t random_gva(uint32_t paging)
{
	uint64_t gva = random_u64();
	switch (paging) {
	case HVMI_PAGING_X86_4LEVEL: return (uint64_t)((int64_t)(gva << 16) >> 16);
	case HVMI_PAGING_X86_5LEVEL: return (uint64_t)((int64_t)(gva << 7) >> 7);
	default: return gva & 0xffffffff;
	}
}

static struct hvmi_walk walk_ok(uint64_t gva)
{
	struct hvmi_walk walk = { .size = sizeof(walk) };
	struct hvmi_error err;
	int rc = hvmi_space_walk(space, gva, &walk, &err);
	ck_assert_msg(rc == 0, "%s", err.text);
	uint64_t gpa;
	ck_assert_int_eq(hvmi_space_translate(space, gva, &gpa), 0);
	ck_assert_uint_eq(gpa, walk.gpa);
	ck_assert_uint_eq(walk.gva, gva);
	ck_assert_uint_eq(walk.fault, HVMI_FAULT_NONE);
	ck_assert_uint_eq(walk.fault_level, 0);
	return walk;
}

static struct hvmi_walk walk_fault(uint64_t gva, uint32_t fault)
{
	struct hvmi_walk walk = { .size = sizeof(walk), .rights = 1, .page_size = 1 };
	struct hvmi_error err = { .code = 0 };
	ck_assert_int_eq(hvmi_space_walk(space, gva, &walk, &err), -EFAULT);
	ck_assert_int_eq(err.code, -EFAULT);
	ck_assert_uint_eq(err.address, gva);
	ck_assert_uint_gt(strlen(err.text), 20);
	uint64_t gpa = 12345;
	ck_assert_int_eq(hvmi_space_translate(space, gva, &gpa), -EFAULT);
	ck_assert_uint_eq(gpa, 12345);
	ck_assert_uint_eq(walk.gva, gva);
	ck_assert_uint_eq(walk.gpa, HVMI_NO_ADDRESS);
	ck_assert_uint_eq(walk.page_size, 0);
	ck_assert_uint_eq(walk.rights, 0);
	ck_assert_uint_eq(walk.fault, fault);
	if (fault == HVMI_FAULT_NON_CANONICAL) {
		ck_assert_uint_eq(walk.entry_count, 0);
		ck_assert_uint_eq(walk.fault_level, 0);
	} else {
		ck_assert_uint_gt(walk.entry_count, 0);
		ck_assert_uint_eq(walk.fault_level, walk.entries[walk.entry_count - 1].level);
	}
	return walk;
}

START_TEST(pages)
{
	const struct kind *kind = &kinds[_i];
	uint64_t size = 1ull << page_tables_shift(kind->paging, kind->level);
	for (int round = 0; round < 300; round++) {
		start(kind->paging, HVMI_SPACE_PSE | HVMI_SPACE_NX, 0);
		uint64_t gva = random_gva(kind->paging) & -size;
		uint64_t gpa = random_u64() & kind->physical_max & -size;
		page_tables_map(&tables, gva, gpa, kind->level, 0);
		uint64_t offsets[] = { 0, 1, size - 1, random_u64() % size };
		for (size_t i = 0; i < 4; i++) {
			struct hvmi_walk walk = walk_ok(gva + offsets[i]);
			ck_assert_uint_eq(walk.gpa, gpa + offsets[i]);
			ck_assert_uint_eq(walk.page_size, size);
			uint32_t top = page_tables_levels(kind->paging);
			ck_assert_uint_eq(walk.entry_count, top - kind->level + 1);
			for (uint32_t j = 0; j < walk.entry_count; j++) {
				uint64_t at = page_tables_entry(&tables, gva, top - j);
				ck_assert_uint_eq(walk.entries[j].level, top - j);
				ck_assert_uint_eq(walk.entries[j].gpa, at);
				ck_assert_uint_eq(walk.entries[j].value,
						  page_tables_get(&tables, at));
			}
		}
		stop();
	}
}
END_TEST

/* Pages of 4 MiB reach above 4 GiB through bits 20:13 of their entry, as far as there are such. */
START_TEST(pse36)
{
	for (uint32_t bits = 32; bits <= 52; bits++) {
		start(HVMI_PAGING_X86_32, HVMI_SPACE_PSE, bits);
		uint32_t reach = bits < 40 ? bits : 40;
		for (uint32_t bit = 22; bit < reach; bit++) {
			page_tables_map(&tables, 0x400000, 1ull << bit, 2, 0);
			ck_assert_uint_eq(walk_ok(0x456789).gpa, (1ull << bit) + 0x56789);
		}
		for (uint32_t bit = reach; bit <= 40; bit++) {
			page_tables_map(&tables, 0x400000, 1ull << bit, 2, 0);
			ck_assert_uint_eq(walk_fault(0x456789, HVMI_FAULT_RESERVED).fault_level, 2);
		}
		stop();
	}
}
END_TEST

/* Without CR4.PSE bit 7 of a PDE means nothing. */
START_TEST(no_pse)
{
	start(HVMI_PAGING_X86_32, 0, 0);
	uint64_t pte = page_tables_map(&tables, 0xc0001000, 0x5000, 1, PT_W);
	uint64_t pde = page_tables_entry(&tables, 0xc0001000, 2);
	page_tables_set(&tables, pde, page_tables_get(&tables, pde) | PT_PS);
	struct hvmi_walk walk = walk_ok(0xc0001234);
	ck_assert_uint_eq(walk.gpa, 0x5234);
	ck_assert_uint_eq(walk.page_size, 4096);
	ck_assert_uint_eq(walk.entries[1].gpa, pte);
	stop();
}
END_TEST

/* Every index of every level finds its own entry. */
START_TEST(indices)
{
	uint32_t paging = paging_modes[_i];
	uint32_t top = page_tables_levels(paging);
	start(paging, HVMI_SPACE_PSE | HVMI_SPACE_NX, 0);
	page_tables_map(&tables, 0, 0x5000, 1, PT_W);
	for (uint32_t level = top; level > 0; level--) {
		uint32_t shift = page_tables_shift(paging, level);
		uint32_t count = paging == HVMI_PAGING_X86_32 ? 1024 : 512;
		if (paging == HVMI_PAGING_X86_PAE && level == top)
			count = 4;
		uint64_t first = page_tables_entry(&tables, 0, level);
		for (uint64_t index = 1; index < count; index++) {
			uint64_t gva = index << shift;
			if (level == top && top >= 4 && index >= 256)
				gva |= UINT64_MAX << (shift + 9);
			struct hvmi_walk walk = walk_fault(gva, HVMI_FAULT_NOT_PRESENT);
			ck_assert_uint_eq(walk.fault_level, level);
			ck_assert_uint_eq(walk.entry_count, top - level + 1);
			ck_assert_uint_eq(walk.entries[top - level].gpa,
					  first + index * page_tables_entry_size(paging));
		}
	}
	stop();
}
END_TEST

/* Every combination of rights over all levels of every size of page. */
START_TEST(rights)
{
	const struct kind *kind = &kinds[_i];
	uint32_t top = page_tables_levels(kind->paging);
	for (int nx = 0; nx <= 1; nx++) {
		uint32_t choices = nx && kind->paging != HVMI_PAGING_X86_32 ? 8 : 4;
		start(kind->paging, HVMI_SPACE_PSE | (nx ? HVMI_SPACE_NX : 0), 0);
		page_tables_map(&tables, 0xc0000000, 0, kind->level, 0);
		uint32_t limited = kind->paging == HVMI_PAGING_X86_PAE ? 2 : top;
		uint64_t at[6], base[6];
		uint32_t combinations = 1;
		for (uint32_t level = kind->level; level <= limited; level++) {
			at[level] = page_tables_entry(&tables, 0xc0000000, level);
			base[level] = page_tables_get(&tables, at[level]) & ~(PT_W | PT_U);
			combinations *= choices;
		}
		for (uint32_t c = 0; c < combinations; c++) {
			uint32_t expected = HVMI_RIGHT_READ | HVMI_RIGHT_WRITE |
					    HVMI_RIGHT_EXECUTE | HVMI_RIGHT_USER;
			for (uint32_t level = kind->level, rest = c; level <= limited; level++) {
				uint32_t choice = rest % choices;
				rest /= choices;
				page_tables_set(&tables, at[level], base[level] |
						(choice & 1 ? PT_W : 0) | (choice & 2 ? PT_U : 0) |
						(choice & 4 ? PT_NX : 0));
				if (!(choice & 1))
					expected &= ~HVMI_RIGHT_WRITE;
				if (!(choice & 2))
					expected &= ~HVMI_RIGHT_USER;
				if (choice & 4)
					expected &= ~HVMI_RIGHT_EXECUTE;
			}
			ck_assert_uint_eq(walk_ok(0xc0000000).rights, expected);
		}
		stop();
	}
}
END_TEST

/* What tables 4-4 to 4-20 of the SDM say, literally, but for MAXPHYADDR and NX. */
static uint64_t reserved_bits(uint32_t paging, uint32_t level, bool page, uint32_t bits, bool nx)
{
	uint64_t above = (1ull << 52) - (1ull << bits);
	uint64_t no_nx = nx ? 0 : PT_NX;
	switch (paging) {
	case HVMI_PAGING_X86_32:
		if (level == 1 || !page)
			return 0;
		switch (bits) {
		case 32: return 0x3fe000;
		case 33: return 0x3fc000;
		case 36: return 0x3e0000;
		case 39: return 0x300000;
		default: return 0x200000;
		}
	case HVMI_PAGING_X86_PAE:
		if (level == 3)
			return 0xfff00000000001e6 | above;
		return 0x7ff0000000000000 | above | no_nx | (page && level == 2 ? 0x1fe000 : 0);
	default:
		if (level >= 4)
			return 0x80 | above | no_nx;
		if (page && level == 3)
			return 0x3fffe000 | above | no_nx;
		if (page && level == 2)
			return 0x1fe000 | above | no_nx;
		return above | no_nx;
	}
}

static void check_reserved_bits(const struct kind *kind, uint32_t bits, bool nx)
{
	uint64_t gva = 0xc0000000;
	start(kind->paging, HVMI_SPACE_PSE | (nx ? HVMI_SPACE_NX : 0), bits);
	page_tables_map(&tables, gva, 0, kind->level, 0);
	uint32_t width = 8 * page_tables_entry_size(kind->paging);
	for (uint32_t level = kind->level; level <= page_tables_levels(kind->paging); level++) {
		uint64_t reserved = reserved_bits(kind->paging, level, level == kind->level, bits,
						  nx);
		uint64_t at = page_tables_entry(&tables, gva, level);
		uint64_t good = page_tables_get(&tables, at);
		for (uint32_t bit = 0; bit < width; bit++) {
			uint64_t bad = good | 1ull << bit;
			/* It would be another kind of entry. */
			if (level > kind->level && bit == 7 && !(reserved & PT_PS))
				continue;
			page_tables_set(&tables, at, bad);
			struct hvmi_walk walk = { .size = sizeof(walk) };
			int rc = hvmi_space_walk(space, gva, &walk, NULL);
			bool faults = rc && walk.fault == HVMI_FAULT_RESERVED &&
				      walk.fault_level == level;
			ck_assert_msg(faults == (reserved >> bit & 1),
				      "mode %u level %u page level %u bit %u, %u bits, nx %d",
				      kind->paging, level, kind->level, bit, bits, nx);
			if (faults) {
				walk_fault(gva, HVMI_FAULT_RESERVED);
				ck_assert_uint_eq(walk.entries[walk.entry_count - 1].gpa, at);
				ck_assert_uint_eq(walk.entries[walk.entry_count - 1].value, bad);
				/* An entry that is not present has no reserved bits. */
				page_tables_set(&tables, at, bad & ~PT_P);
				walk_fault(gva, HVMI_FAULT_NOT_PRESENT);
			}
		}
		page_tables_set(&tables, at, good);
		walk_ok(gva);
	}
	stop();
}

START_TEST(reserved)
{
	static const uint32_t all_bits[] = { 32, 33, 36, 39, 40, 46, 52 };
	for (size_t i = 0; i < sizeof(all_bits) / sizeof(*all_bits); i++) {
		check_reserved_bits(&kinds[_i], all_bits[i], false);
		check_reserved_bits(&kinds[_i], all_bits[i], true);
	}
}
END_TEST

START_TEST(not_present_and_no_memory)
{
	const struct kind *kind = &kinds[_i];
	uint64_t gva = 0xc0000000;
	uint32_t top = page_tables_levels(kind->paging);
	for (uint32_t level = kind->level; level <= top; level++) {
		start(kind->paging, HVMI_SPACE_PSE | HVMI_SPACE_NX, 0);
		page_tables_map(&tables, gva, 0, kind->level, 0);
		uint64_t at = page_tables_entry(&tables, gva, level);
		uint64_t good = page_tables_get(&tables, at);
		page_tables_set(&tables, at, good & ~PT_P);
		struct hvmi_walk walk = walk_fault(gva, HVMI_FAULT_NOT_PRESENT);
		ck_assert_uint_eq(walk.fault_level, level);
		ck_assert_uint_eq(walk.entry_count, top - level + 1);
		ck_assert_uint_eq(walk.entries[top - level].gpa, at);
		ck_assert_uint_eq(walk.entries[top - level].value, good & ~PT_P);
		if (level > kind->level) {
			page_tables_set(&tables, at, NO_RAM | PT_P);
			walk = walk_fault(gva, HVMI_FAULT_NO_MEMORY);
			ck_assert_uint_eq(walk.fault_level, level - 1);
			ck_assert_uint_eq(walk.entry_count, top - level + 2);
			ck_assert_uint_ge(walk.entries[top - level + 1].gpa, NO_RAM);
			ck_assert_uint_eq(walk.entries[top - level + 1].value, 0);
		}
		stop();
	}
}
END_TEST

START_TEST(canonical)
{
	static const struct {
		uint32_t paging;
		uint64_t good[4], bad[5];
	} cases[] = {
		{ HVMI_PAGING_X86_32, { 0, 1, 0x80000000, 0xffffffff },
		  { 0x100000000, 0x8000000000000000, 0xffffffff80000000, 0xffff800000000000,
		    UINT64_MAX } },
		{ HVMI_PAGING_X86_PAE, { 0, 1, 0x80000000, 0xffffffff },
		  { 0x100000000, 0x8000000000000000, 0xffffffff80000000, 0xffff800000000000,
		    UINT64_MAX } },
		{ HVMI_PAGING_X86_4LEVEL,
		  { 0, 0x7fffffffffff, 0xffff800000000000, UINT64_MAX },
		  { 0x800000000000, 0xffff7fffffffffff, 0x7fffffffffffffff, 0x8000000000000000,
		    0x0001000000000000 } },
		{ HVMI_PAGING_X86_5LEVEL,
		  { 0, 0xffffffffffffff, 0xff00000000000000, UINT64_MAX },
		  { 0x100000000000000, 0xfeffffffffffffff, 0x7fffffffffffffff,
		    0x8000000000000000, 0x0200000000000000 } },
	};
	start(cases[_i].paging, 0, 0);
	for (size_t i = 0; i < 4; i++)
		walk_fault(cases[_i].good[i], HVMI_FAULT_NOT_PRESENT);
	for (size_t i = 0; i < 5; i++)
		walk_fault(cases[_i].bad[i], HVMI_FAULT_NON_CANONICAL);
	stop();
}
END_TEST

/* A backend without map() whose reads are counted, and one of which fails. */
static uint32_t reads, failing_read;

static int counted_read(void *machine, uint64_t gpa, void *buf, size_t len)
{
	if (++reads == failing_read)
		return -EIO;
	return hvmi_backend_sim()->read(machine, gpa, buf, len);
}

START_TEST(entries_are_read_once)
{
	const struct kind *kind = &kinds[_i];
	struct hvmi_backend backend = *hvmi_backend_sim();
	backend.read = counted_read;
	backend.map = NULL;
	struct hvmi_open_options options = { .size = sizeof(options), .flags = HVMI_OPEN_WRITE,
					     .backend = &backend };
	const char script[] = "ram 0 16M\n";
	ck_assert_int_eq(machine_try(script, strlen(script), &options, &vm, NULL), 0);
	page_tables_init(&tables, vm, kind->paging, TABLES);
	space = page_tables_space(&tables, HVMI_SPACE_PSE | HVMI_SPACE_UNCACHED, 0);
	page_tables_map(&tables, 0xc0000000, 0, kind->level, 0);
	uint32_t levels = page_tables_levels(kind->paging) - kind->level + 1;
	uint64_t gpa;
	reads = 0;
	ck_assert_int_eq(hvmi_space_translate(space, 0xc0000000, &gpa), 0);
	ck_assert_uint_eq(reads, levels);
	reads = 0;
	struct hvmi_walk walk = { .size = sizeof(walk), .gva = 7 };
	ck_assert_int_eq(hvmi_space_walk(space, 0xc0000000, &walk, NULL), 0);
	ck_assert_uint_eq(reads, levels);
	/* What is no fault of the guest's is not told as one. */
	for (failing_read = 1; failing_read <= levels; failing_read++) {
		struct hvmi_walk untouched = { .size = sizeof(walk), .gva = 7 };
		reads = 0;
		ck_assert_int_eq(hvmi_space_translate(space, 0xc0000000, &gpa), -EIO);
		reads = 0;
		ck_assert_int_eq(hvmi_space_walk(space, 0xc0000000, &untouched, NULL), -EIO);
		ck_assert_uint_eq(untouched.gva, 7);
	}
	failing_read = 0;
	stop();
}
END_TEST

START_TEST(result_sizes)
{
	start(HVMI_PAGING_X86_4LEVEL, 0, 0);
	page_tables_map(&tables, 0, 0x5000, 1, 0);
	struct hvmi_error err;
	struct hvmi_walk walk = { .size = 0, .gva = 7 };
	ck_assert_int_eq(hvmi_space_walk(space, 0, &walk, &err), -EINVAL);
	ck_assert_int_eq(err.code, -EINVAL);
	ck_assert_int_eq(hvmi_space_walk(space, 0x1000, &walk, NULL), -EINVAL);
	ck_assert_uint_eq(walk.gva, 7);
	/* An older program, whose struct ends earlier. */
	walk.size = offsetof(struct hvmi_walk, rights);
	ck_assert_int_eq(hvmi_space_walk(space, 0, &walk, NULL), 0);
	ck_assert_uint_eq(walk.gpa, 0x5000);
	ck_assert_uint_eq(walk.rights, 0);
	stop();
}
END_TEST

/* RAM that ends within an entry does not have it. */
START_TEST(cut_entries)
{
	for (uint64_t cut = 1; cut <= 8; cut++) {
		vm = machine_open(HVMI_OPEN_WRITE, "ram 0 %u\n%s", 0x2000 - (unsigned)cut,
				  _i ? "nomap\n" : "");
		struct hvmi_space_config config = { .size = sizeof(config), .root = 0x1000,
						    .paging = HVMI_PAGING_X86_4LEVEL };
		ck_assert_int_eq(hvmi_space_create(vm, &config, &space, NULL), 0);
		walk_fault(0, HVMI_FAULT_NOT_PRESENT);
		walk_fault(-1ull << 40, HVMI_FAULT_NOT_PRESENT);
		walk_fault(-1ull, HVMI_FAULT_NO_MEMORY);
		stop();
		/* The rest of it may be in the next range. */
		vm = machine_open(HVMI_OPEN_WRITE, "ram 0 %u\nram %u 4K\n%s",
				  0x2000 - (unsigned)cut, 0x2000 - (unsigned)cut,
				  _i ? "nomap\n" : "");
		ck_assert_int_eq(hvmi_space_create(vm, &config, &space, NULL), 0);
		uint64_t entry = 0x123456789000 & ~PT_P;
		ck_assert_int_eq(hvmi_vm_write(vm, 0x1ff8, &entry, 8, NULL), 0);
		walk_fault(0, HVMI_FAULT_NOT_PRESENT);
		struct hvmi_walk walk = walk_fault(-1ull, HVMI_FAULT_NOT_PRESENT);
		ck_assert_uint_eq(walk.entries[0].value, entry);
		stop();
	}
}
END_TEST

static int file = -1;

static int map_file(void *machine, uint32_t index, const void **ret)
{
	(void)machine;
	(void)index;
	*ret = mmap(NULL, 1 << 20, PROT_READ, MAP_SHARED, file, 0);
	return *ret == MAP_FAILED ? -ENOMEM : 0;
}

/* What reads as zeros because a file was cut short is no entry that is not present. */
START_TEST(lost_tables)
{
	struct hvmi_backend backend = *hvmi_backend_sim();
	backend.map = map_file;
	struct hvmi_open_options options = { .size = sizeof(options), .backend = &backend };
	file = memfd_create("ram", MFD_CLOEXEC);
	uint64_t entry = 0x3000 | PT_P;
	ck_assert_int_eq(ftruncate(file, 1 << 20), 0);
	ck_assert_int_eq(pwrite(file, &entry, 8, 0x1000), 8);
	ck_assert_int_eq(machine_try("ram 0 1M\n", 9, &options, &vm, NULL), 0);
	struct hvmi_space_config config = { .size = sizeof(config), .root = 0x1000,
					    .paging = HVMI_PAGING_X86_4LEVEL };
	ck_assert_int_eq(hvmi_space_create(vm, &config, &space, NULL), 0);
	uint64_t gpa, cursor = 0;
	walk_fault(0, HVMI_FAULT_NOT_PRESENT);
	ck_assert_int_eq(ftruncate(file, 0x2000), 0);
	ck_assert_int_eq(hvmi_space_translate(space, 0, &gpa), -EIO);
	ck_assert_int_eq(hvmi_space_translate(space, 1ull << 39, &gpa), -EFAULT);
	struct hvmi_mapping m = { .size = sizeof(m) };
	ck_assert_int_eq(hvmi_space_next_mapping(space, &cursor, UINT64_MAX, &m), -EIO);
	ck_assert_uint_eq(cursor, 1ull << 39);
	ck_assert_int_eq(hvmi_space_next_mapping(space, &cursor, UINT64_MAX, &m), 0);
	stop();
	close(file);
}
END_TEST

/* Arm ARM (DDI 0487), D8.3: pages and blocks, and rights that each level takes away. */
START_TEST(arm64)
{
	static const struct {
		uint64_t table, entry;	/* flags of the tables above, and of the page */
		uint32_t level, rights;
	} cases[] = {
		{ 0, 0x403, 1, HVMI_RIGHT_READ | HVMI_RIGHT_WRITE | HVMI_RIGHT_EXECUTE },
		{ 0, 0x483, 1, HVMI_RIGHT_READ | HVMI_RIGHT_EXECUTE },
		{ 0, 0x443 | 1ull << 54, 1, HVMI_RIGHT_READ | HVMI_RIGHT_WRITE | HVMI_RIGHT_USER },
		{ 0, 0x443 | 1ull << 53, 1,
		  HVMI_RIGHT_READ | HVMI_RIGHT_WRITE | HVMI_RIGHT_USER | HVMI_RIGHT_EXECUTE },
		{ 0, 0x403 | 1ull << 53, 1, HVMI_RIGHT_READ | HVMI_RIGHT_WRITE },
		{ 1ull << 62, 0x443, 1, HVMI_RIGHT_READ | HVMI_RIGHT_USER | HVMI_RIGHT_EXECUTE },
		{ 1ull << 61, 0x443, 1, HVMI_RIGHT_READ | HVMI_RIGHT_WRITE | HVMI_RIGHT_EXECUTE },
		{ 3ull << 59, 0x403, 1, HVMI_RIGHT_READ | HVMI_RIGHT_WRITE },
		{ 0, 0x401, 2, HVMI_RIGHT_READ | HVMI_RIGHT_WRITE | HVMI_RIGHT_EXECUTE },
		{ 0, 0x401, 3, HVMI_RIGHT_READ | HVMI_RIGHT_WRITE | HVMI_RIGHT_EXECUTE },
	};
	const uint64_t gva = 0xfffff80312345678ull, frame = 0x40000000;
	vm = machine_open(HVMI_OPEN_WRITE, "arch arm64\nram 0 16M\n");
	struct hvmi_space_config config = { .size = sizeof(config), .root = TABLES,
					    .paging = HVMI_PAGING_ARM64 };
	ck_assert_int_eq(hvmi_space_create(vm, &config, &space, NULL), 0);
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		uint64_t table = TABLES;
		for (uint32_t level = 4; level > 0; level--, table += 0x1000) {
			bool last = level == cases[i].level;
			uint64_t at = table + (gva >> (3 + 9 * level) & 511) * 8;
			uint64_t entry = last ? frame | cases[i].entry :
						(table + 0x1000) | 3 | cases[i].table;
			ck_assert_int_eq(hvmi_vm_write(vm, at, &entry, 8, NULL), 0);
			if (last)
				break;
		}
		struct hvmi_walk walk = walk_ok(gva);
		uint64_t size = 1ull << (3 + 9 * cases[i].level);
		ck_assert_uint_eq(walk.page_size, size);
		ck_assert_uint_eq(walk.gpa, frame | (gva & (size - 1)));
		ck_assert_uint_eq(walk.rights, cases[i].rights);
	}
	/* A block where there is none: at the root, and at the last level. */
	uint64_t entry = frame | 0x401;
	ck_assert_int_eq(hvmi_vm_write(vm, TABLES + (gva >> 39 & 511) * 8, &entry, 8, NULL), 0);
	walk_fault(gva, HVMI_FAULT_RESERVED);
	hvmi_space_destroy(space);
	config.paging = HVMI_PAGING_X86_4LEVEL;
	ck_assert_int_eq(hvmi_space_create(vm, &config, &space, NULL), -EINVAL);
	hvmi_close(vm);
	vm = machine_open(0, "arch x86\nram 0 16M\n");
	config.paging = HVMI_PAGING_ARM64;
	ck_assert_int_eq(hvmi_space_create(vm, &config, &space, NULL), -EINVAL);
	hvmi_close(vm);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("space_walk");
	TCase *tcase = tcase_create("space_walk");
	tcase_add_loop_test(tcase, pages, 0, KINDS);
	tcase_add_test(tcase, pse36);
	tcase_add_test(tcase, no_pse);
	tcase_add_loop_test(tcase, indices, 0, 4);
	tcase_add_loop_test(tcase, rights, 0, KINDS);
	tcase_add_loop_test(tcase, reserved, 0, KINDS);
	tcase_add_loop_test(tcase, not_present_and_no_memory, 0, KINDS);
	tcase_add_loop_test(tcase, canonical, 0, 4);
	tcase_add_loop_test(tcase, entries_are_read_once, 0, KINDS);
	tcase_add_test(tcase, result_sizes);
	tcase_add_loop_test(tcase, cut_entries, 0, 2);
	tcase_add_test(tcase, lost_tables);
	tcase_add_test(tcase, arm64);
	suite_add_tcase(suite, tcase);
	return run_suite(suite);
}
