/* SPDX-License-Identifier: Apache-2.0 */
/* Builds x86 page tables in the memory of a machine that can be written to. */
#ifndef HVMI_TESTS_PAGE_TABLES_H
#define HVMI_TESTS_PAGE_TABLES_H

#include <hvmi/space.h>

#define PT_P 1ull
#define PT_W 2ull
#define PT_U 4ull
#define PT_PS 0x80ull
#define PT_NX (1ull << 63)

struct page_tables {
	struct hvmi_vm *vm;
	uint32_t paging;	/* enum hvmi_paging */
	uint64_t root;
	uint64_t next;		/* where the next table goes */
};

/* Tables are put at `at` and upwards, the root first. */
void page_tables_init(struct page_tables *t, struct hvmi_vm *vm, uint32_t paging, uint64_t at);

/* 2 to 5; bits of an address below the index of a level; bytes of an entry. */
uint32_t page_tables_levels(uint32_t paging);
uint32_t page_tables_shift(uint32_t paging, uint32_t level);
uint32_t page_tables_entry_size(uint32_t paging);

/*
 * Where the entry of a level (1: PTE) for an address is. Tables on the way to it are made where
 * they are missing, with every right.
 */
uint64_t page_tables_entry(struct page_tables *t, uint64_t gva, uint32_t level);
uint64_t page_tables_get(const struct page_tables *t, uint64_t entry_gpa);
void page_tables_set(const struct page_tables *t, uint64_t entry_gpa, uint64_t value);

/* Map a page of a level; flags are PT_W, PT_U, PT_NX. Returns where its entry is. */
uint64_t page_tables_map(struct page_tables *t, uint64_t gva, uint64_t gpa, uint32_t level,
			 uint64_t flags);

/* The space that the tables make. physical_bits as in hvmi_space_config. */
struct hvmi_space *page_tables_space(const struct page_tables *t, uint32_t flags,
				     uint32_t physical_bits);

#endif
