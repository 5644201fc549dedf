/* SPDX-License-Identifier: Apache-2.0 */
#include "space/space.h"

#define PHYSICAL_BITS_MIN 32u
#define PHYSICAL_BITS_MAX 52u	/* 4.1.4 */
#define PSE36_BITS_MAX 40u	/* 4.3: M is the minimum of 40 and MAXPHYADDR */

/* Bits high to low, both inclusive; none if high < low. */
static uint64_t bits(uint32_t high, uint32_t low)
{
	return high < low ? 0 : UINT64_MAX >> (63 - (high - low)) << low;
}

/* What an entry of a mode may be; columns of tables 4-4 to 4-20. */
struct level_mode {
	uint8_t index_bits;
	bool large;		/* PS makes it a page; for HVMI_PAGING_X86_32 if CR4.PSE */
	bool ps_reserved;
	bool no_rights;
	uint16_t low_reserved;	/* below bit 12, in every entry */
};

struct mode {
	uint8_t entry_shift;
	uint8_t address_bits;
	bool sign_extended;
	uint8_t level_count;
	struct level_mode levels[SPACE_LEVELS_MAX];	/* the root's first */
};

static const struct mode modes[] = {
	[HVMI_PAGING_NONE] = { .address_bits = 32 },
	[HVMI_PAGING_X86_32] = { .entry_shift = 2, .address_bits = 32,
				 .level_count = 2, .levels = {
		{ .index_bits = 10, .large = true },
		{ .index_bits = 10 },
	} },
	/* Bits 2:1 and 8:5 of a PDPTE are reserved, and it limits nothing: 4.4.1. */
	[HVMI_PAGING_X86_PAE] = { .entry_shift = 3, .address_bits = 32,
				  .level_count = 3, .levels = {
		{ .index_bits = 2, .no_rights = true, .low_reserved = 0x1e6 },
		{ .index_bits = 9, .large = true },
		{ .index_bits = 9 },
	} },
	[HVMI_PAGING_X86_4LEVEL] = { .entry_shift = 3, .address_bits = 48, .sign_extended = true,
				     .level_count = 4, .levels = {
		{ .index_bits = 9, .ps_reserved = true },
		{ .index_bits = 9, .large = true },
		{ .index_bits = 9, .large = true },
		{ .index_bits = 9 },
	} },
	[HVMI_PAGING_ARM64] = { .entry_shift = 3, .address_bits = 48, .sign_extended = true,
				.level_count = 4, .levels = {
		{ .index_bits = 9 },
		{ .index_bits = 9 },
		{ .index_bits = 9 },
		{ .index_bits = 9 },
	} },
	[HVMI_PAGING_X86_5LEVEL] = { .entry_shift = 3, .address_bits = 57, .sign_extended = true,
				     .level_count = 5, .levels = {
		{ .index_bits = 9, .ps_reserved = true },
		{ .index_bits = 9, .ps_reserved = true },
		{ .index_bits = 9, .large = true },
		{ .index_bits = 9, .large = true },
		{ .index_bits = 9 },
	} },
};

/*
 * Arm ARM (DDI 0487), D8.3: bit 0 valid; bit 1 a table, at the last level a page; else a block, which
 * may be 2 MiB or 1 GiB.
 */
static void set_level_arm64(struct space_level *level)
{
	bool leaf = level->shift == 12, block = !leaf && level->shift < 39;
	level->arm64 = true;
	level->table_test = leaf ? 0 : ENTRY_PRESENT | ENTRY_ARM64_TABLE;
	level->table_value = ENTRY_PRESENT | ENTRY_ARM64_TABLE;
	level->page_test = leaf || block ? ENTRY_PRESENT | ENTRY_ARM64_TABLE : 0;
	level->page_value = leaf ? ENTRY_PRESENT | ENTRY_ARM64_TABLE : ENTRY_PRESENT;
	level->page_mask = bits(47, level->shift);
}

/* Reserved in every entry of 8 bytes: 4.4.2 (PAE), 4.5.4 (4-level and 5-level). */
static uint64_t reserved_high(const struct hvmi_space_config *config, uint32_t physical_bits,
			      const struct level_mode *m)
{
	bool pae = config->paging == HVMI_PAGING_X86_PAE;
	/* 4-level and 5-level paging ignore bits 62:52, PAE reserves them. */
	uint64_t reserved = bits(pae ? 62 : 51, physical_bits) | m->low_reserved;
	if (!(config->flags & HVMI_SPACE_NX) || m->no_rights)
		reserved |= ENTRY_NX;
	return reserved;
}

static bool may_be_large(const struct hvmi_space_config *config, const struct level_mode *m)
{
	return m->large &&
	       (config->paging != HVMI_PAGING_X86_32 || config->flags & HVMI_SPACE_PSE);
}

static void set_level(struct hvmi_space *space, const struct level_mode *m, uint32_t shift,
		      struct space_level *ret)
{
	const struct hvmi_space_config *config = &space->config;
	uint32_t physical_bits = config->physical_bits ? config->physical_bits : PHYSICAL_BITS_MAX;
	*ret = (struct space_level){
		.shift = shift,
		.index_mask = (1u << m->index_bits) - 1,
		.given = m->no_rights ? ENTRY_WRITE | ENTRY_USER : 0,
	};
	bool leaf = shift == 12;
	uint64_t page_flag = leaf || !may_be_large(config, m) ? 0 : ENTRY_PS;
	uint64_t reserved_page, reserved_table;
	if (config->paging == HVMI_PAGING_X86_32) {
		uint32_t m36 = MIN(physical_bits, PSE36_BITS_MAX);
		ret->page_mask = bits(31, shift);
		ret->page_high = leaf ? 0 : bits(m36 - 20, 13);
		reserved_page = leaf ? 0 : bits(21, m36 - 19);
		reserved_table = 0;
	} else {
		ret->page_mask = bits(51, shift);
		reserved_table = reserved_page = reserved_high(config, physical_bits, m);
		/* Bit 12 of an entry that maps a large page is PAT. */
		reserved_page |= leaf ? 0 : bits(shift - 1, 13);
		reserved_table |= m->ps_reserved ? ENTRY_PS : 0;
	}
	/* A test of 0 never gives the value: there are no such entries at this level. */
	ret->table_value = ret->page_value = ENTRY_PRESENT;
	if (!leaf)
		ret->table_test = ENTRY_PRESENT | page_flag | reserved_table;
	if (leaf || page_flag) {
		ret->page_test = ENTRY_PRESENT | page_flag | reserved_page;
		ret->page_value |= page_flag;
	}
}

int space_set_mode(struct hvmi_space *space, struct hvmi_error *err)
{
	const struct hvmi_space_config *config = &space->config;
	if (config->paging >= ARRAY_SIZE(modes))
		return hvmi_error_set(err, -EINVAL, HVMI_NO_ADDRESS,
				      "%u is no paging mode: see enum hvmi_paging", config->paging);
	if (config->flags & ~(HVMI_SPACE_PSE | HVMI_SPACE_NX | HVMI_SPACE_UNCACHED |
			      HVMI_SPACE_WINDOWS) || config->reserved)
		return hvmi_error_set(err, -EINVAL, HVMI_NO_ADDRESS,
				      "struct hvmi_space_config holds flags that this version does "
				      "not know");
	uint32_t physical_bits = config->physical_bits ? config->physical_bits : PHYSICAL_BITS_MAX;
	if (physical_bits < PHYSICAL_BITS_MIN || physical_bits > PHYSICAL_BITS_MAX)
		return hvmi_error_set(err, -EINVAL, HVMI_NO_ADDRESS,
				      "physical addresses of %u bits do not exist: give %u to %u, "
				      "or 0 if it is not known", physical_bits, PHYSICAL_BITS_MIN,
				      PHYSICAL_BITS_MAX);
	const struct mode *mode = &modes[config->paging];
	space->level_count = mode->level_count;
	space->entry_shift = mode->entry_shift;
	space->address_bits = mode->address_bits;
	space->sign_extended = mode->sign_extended;
	uint32_t shift = 12;
	for (uint32_t i = mode->level_count; i-- > 0; shift += mode->levels[i].index_bits) {
		set_level(space, &mode->levels[i], shift, &space->levels[i]);
		if (config->paging == HVMI_PAGING_ARM64)
			set_level_arm64(&space->levels[i]);
	}
	if (!mode->level_count)
		return 0;
	space->direct = mode->entry_shift == 3 && !space->vm->physmap;
	space->four = config->paging == HVMI_PAGING_X86_4LEVEL;
	/* Of a PDPTE of PAE they are reserved. */
	space->noted = config->paging == HVMI_PAGING_X86_PAE ? 0 :
		       config->paging == HVMI_PAGING_ARM64   ? ENTRY_ARM64_ACCESSED :
							       ENTRY_ACCESSED | ENTRY_DIRTY;
	/* CR3: tables 4-3, 4-7 and 4-12. The four PDPTEs of PAE are aligned to 32 bytes only. */
	space->table_mask = bits(mode->entry_shift == 2		     ? 31 :
				 config->paging == HVMI_PAGING_ARM64 ? 47 : 51, 12);
	if (config->paging == HVMI_PAGING_X86_PAE)
		space->root = config->root & bits(31, 5);
	else
		space->root = config->root & space->table_mask;
	if (space->root & bits(51, physical_bits))
		return hvmi_error_set(err, -EINVAL, HVMI_NO_ADDRESS,
				      "the root 0x%llx is above the %u bits of physical addresses",
				      (unsigned long long)config->root, physical_bits);
	return 0;
}
