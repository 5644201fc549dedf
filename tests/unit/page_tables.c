/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "page_tables.h"

/* Written apart from lib/space on purpose: neither may copy a mistake of the other. */

uint32_t page_tables_levels(uint32_t paging)
{
	switch (paging) {
	case HVMI_PAGING_X86_32: return 2;
	case HVMI_PAGING_X86_PAE: return 3;
	case HVMI_PAGING_X86_4LEVEL: return 4;
	case HVMI_PAGING_X86_5LEVEL: return 5;
	}
	abort();
}

uint32_t page_tables_shift(uint32_t paging, uint32_t level)
{
	static const uint8_t shifts_32[] = { 0, 12, 22 };
	static const uint8_t shifts[] = { 0, 12, 21, 30, 39, 48 };
	return paging == HVMI_PAGING_X86_32 ? shifts_32[level] : shifts[level];
}

uint32_t page_tables_entry_size(uint32_t paging)
{
	return paging == HVMI_PAGING_X86_32 ? 4 : 8;
}

uint64_t page_tables_get(const struct page_tables *t, uint64_t entry_gpa)
{
	uint64_t value = 0;
	if (hvmi_vm_read(t->vm, entry_gpa, &value, page_tables_entry_size(t->paging), NULL))
		abort();
	return value;
}

void page_tables_set(const struct page_tables *t, uint64_t entry_gpa, uint64_t value)
{
	if (hvmi_vm_write(t->vm, entry_gpa, &value, page_tables_entry_size(t->paging), NULL))
		abort();
}

static uint64_t new_table(struct page_tables *t)
{
	static const uint8_t zeros[4096];
	uint64_t at = t->next;
	if (hvmi_vm_write(t->vm, at, zeros, sizeof(zeros), NULL))
		abort();
	t->next += 4096;
	return at;
}

void page_tables_init(struct page_tables *t, struct hvmi_vm *vm, uint32_t paging, uint64_t at)
{
	*t = (struct page_tables){ .vm = vm, .paging = paging, .next = at };
	t->root = new_table(t);
	/* PDPTEs of PAE may begin at any multiple of 32. */
	if (paging == HVMI_PAGING_X86_PAE)
		t->root += 0x7e0;
}

uint64_t page_tables_entry(struct page_tables *t, uint64_t gva, uint32_t level)
{
	uint32_t entry_size = page_tables_entry_size(t->paging);
	uint64_t table = t->root;
	for (uint32_t l = page_tables_levels(t->paging);; l--) {
		uint64_t entries = t->paging == HVMI_PAGING_X86_32 ? 1024 : 512;
		if (t->paging == HVMI_PAGING_X86_PAE && l == 3)
			entries = 4;
		uint64_t index = (gva >> page_tables_shift(t->paging, l)) % entries;
		uint64_t at = table + index * entry_size;
		if (l == level)
			return at;
		uint64_t entry = page_tables_get(t, at);
		if (!(entry & PT_P) || entry & PT_PS) {
			entry = new_table(t) | PT_P;
			if (t->paging != HVMI_PAGING_X86_PAE || l != 3)
				entry |= PT_W | PT_U;
			page_tables_set(t, at, entry);
		}
		table = entry & 0x000ffffffffff000;
	}
}

uint64_t page_tables_map(struct page_tables *t, uint64_t gva, uint64_t gpa, uint32_t level,
			 uint64_t flags)
{
	uint64_t at = page_tables_entry(t, gva, level);
	uint64_t entry = gpa | flags | PT_P;
	if (level > 1)
		entry |= PT_PS;
	if (t->paging == HVMI_PAGING_X86_32 && level == 2)
		entry = (entry & 0xffffffff) | (gpa >> 32) << 13;
	page_tables_set(t, at, entry);
	return at;
}

struct hvmi_space *page_tables_space(const struct page_tables *t, uint32_t flags,
				     uint32_t physical_bits)
{
	struct hvmi_space_config config = { .size = sizeof(config), .root = t->root,
					    .paging = t->paging, .flags = flags,
					    .physical_bits = physical_bits };
	struct hvmi_space *space;
	struct hvmi_error err;
	if (hvmi_space_create(t->vm, &config, &space, &err)) {
		fprintf(stderr, "%s\n", err.text);
		abort();
	}
	return space;
}
