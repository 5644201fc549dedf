/* SPDX-License-Identifier: Apache-2.0 */
/* Inside an address space. "4.x" in comments is a section of the Intel SDM volume 3 (2023-06). */
#ifndef HVMI_LIB_SPACE_H
#define HVMI_LIB_SPACE_H

#include <endian.h>

#include <hvmi/space.h>

#include "util/util.h"
#include "vm/vm.h"

#define SPACE_LEVELS_MAX 5u
#define SPACE_TABLE_ENTRIES_MAX 1024u	/* of 4 bytes; 512 of 8 */

#define ENTRY_PRESENT (1ull << 0)
#define ENTRY_WRITE (1ull << 1)
#define ENTRY_USER (1ull << 2)
#define ENTRY_ACCESSED (1ull << 5)
#define ENTRY_DIRTY (1ull << 6)
#define ENTRY_PS (1ull << 7)
#define ENTRY_NX (1ull << 63)
/* Of arm64, where they are other bits: Arm ARM (DDI 0487), D8.3. */
#define ENTRY_ARM64_TABLE (1ull << 1)
#define ENTRY_ARM64_ACCESSED (1ull << 10)

/* What the entries of one level mean in one address space, such that one algorithm does for all. */
struct space_level {
	uint32_t shift;			/* of the index in an address: log2 of an entry's reach */
	uint32_t index_mask;
	/* An entry refers to a table or maps a page if (entry & test) == value. */
	uint64_t table_test, table_value;
	uint64_t page_test, page_value;
	uint64_t page_mask;		/* address bits of a page in their place ... */
	uint64_t page_high;		/* ... and those that belong PSE36_SHIFT bits higher */
	bool arm64;
	uint64_t given;			/* rights that the entries of this level do not limit */
};
#define PSE36_SHIFT 19			/* 4.3: bits 20:13 of a PDE are bits 39:32 of the page */

struct space_cache;

struct hvmi_space {
	struct hvmi_vm *vm;
	struct space_cache *cache;	/* NULL until something is in it */
	struct hvmi_space_config config;
	struct space_level levels[SPACE_LEVELS_MAX];	/* the root's first */
	uint32_t level_count;		/* 0: without paging */
	uint32_t entry_shift;		/* log2 of an entry's bytes */
	uint32_t address_bits;		/* of a linear address */
	bool sign_extended;		/* 64-bit addresses: the top bit is repeated */
	bool four;			/* four levels of 512 entries, addresses of 48 bits */
	bool direct;			/* entries of 8 bytes, and no memory is mapped piecemeal */
	uint64_t noted;			/* bits of an entry in which the CPU notes its use */
	uint64_t table_mask;		/* address bits of a table in an entry */
	uint64_t root;
	/* The RAM that table entries came from last; starts is 0 if it cannot be pointed to. */
	struct {
		uint64_t gpa;
		uint64_t starts;	/* offsets at which a whole entry lies inside */
		uintptr_t to_host;	/* what makes a host address of a gpa */
	} window;
};

enum entry_kind { ENTRY_KIND_ABSENT, ENTRY_KIND_RESERVED, ENTRY_KIND_TABLE, ENTRY_KIND_PAGE };

static inline enum entry_kind entry_kind(const struct space_level *level, uint64_t entry)
{
	if ((entry & level->table_test) == level->table_value)
		return ENTRY_KIND_TABLE;
	if ((entry & level->page_test) == level->page_value)
		return ENTRY_KIND_PAGE;
	return entry & ENTRY_PRESENT ? ENTRY_KIND_RESERVED : ENTRY_KIND_ABSENT;
}

static inline uint64_t entry_page(const struct space_level *level, uint64_t entry)
{
	return (entry & level->page_mask) | (entry & level->page_high) << PSE36_SHIFT;
}

/*
 * Rights are combined in the form of an entry with NX inverted, so that every right is the AND
 * over all levels (4.6). Begin with RIGHTS_ALL.
 */
#define RIGHTS_ALL UINT64_MAX

/*
 * An entry of arm64 as x86 would say it. A table: APTable in bits 62:61, UXNTable 60, PXNTable 59; a
 * page or block: AP[2:1] in bits 7:6, UXN 54, PXN 53. Execution is what the page's owner may.
 */
static inline uint64_t rights_arm64(const struct space_level *level, uint64_t entry)
{
	bool table = (entry & level->table_test) == level->table_value;
	bool user = table ? !(entry >> 61 & 1) : entry >> 6 & 1;
	bool read_only = entry >> (table ? 62 : 7) & 1;
	bool never = table ? (entry >> 59 & 3) == 3 : entry >> (user ? 54 : 53) & 1;
	return ENTRY_PRESENT | (read_only ? 0 : ENTRY_WRITE) | (user ? ENTRY_USER : 0) |
	       (never ? ENTRY_NX : 0);
}

static inline uint64_t rights_combine(uint64_t rights, const struct space_level *level,
				      uint64_t entry)
{
	if (__builtin_expect(level->arm64, 0))
		entry = rights_arm64(level, entry);
	return rights & ((entry ^ ENTRY_NX) | level->given);
}

static inline uint32_t rights_public(uint64_t rights)
{
	return HVMI_RIGHT_READ | (rights & ENTRY_WRITE ? HVMI_RIGHT_WRITE : 0) |
	       (rights & ENTRY_USER ? HVMI_RIGHT_USER : 0) |
	       (rights & ENTRY_NX ? HVMI_RIGHT_EXECUTE : 0);
}

/* One load each: guests change entries at any time, and what is judged must be what is used. */
struct packed_u64 {
	uint64_t value;
} __attribute__((packed, may_alias));
struct packed_u32 {
	uint32_t value;
} __attribute__((packed, may_alias));

static inline uint64_t entry_load(const void *from, uint32_t entry_shift)
{
	if (entry_shift == 2)
		return le32toh(((const volatile struct packed_u32 *)from)->value);
	return le64toh(((const volatile struct packed_u64 *)from)->value);
}

/* space_entry_read() where the window does not reach; moves the window. */
int space_entry_read_slow(struct hvmi_space *space, uint64_t gpa, uint64_t *ret);

/* Copy one entry, once. */
static inline int space_entry_read(struct hvmi_space *space, uint32_t entry_shift, uint64_t gpa,
				   uint64_t *ret)
{
	uint64_t offset = gpa - space->window.gpa;
	if (__builtin_expect(offset >= space->window.starts, 0))
		return space_entry_read_slow(space, gpa, ret);
	*ret = entry_load((const void *)(space->window.to_host + gpa), entry_shift);
	return 0;
}

/* What an entry of zeros means: -EFAULT, or -EIO where the medium lost what was there. */
int space_entry_lost(const struct hvmi_space *space, uint64_t gpa);

/*
 * Linear addresses as the tables see them: a number below 2^address_bits. false: not an address
 * of this mode (vol. 1, 3.3.7.1 "Canonical Addressing").
 */
static inline bool space_linear(const struct hvmi_space *space, uint64_t gva, uint64_t *ret)
{
	uint32_t unused = 64 - space->address_bits;
	uint64_t linear = gva << unused >> unused;
	*ret = linear;
	return gva == (space->sign_extended ? (uint64_t)((int64_t)(gva << unused) >> unused) :
					      linear);
}

static inline uint64_t space_gva(const struct hvmi_space *space, uint64_t linear)
{
	uint32_t unused = 64 - space->address_bits;
	return space->sign_extended ? (uint64_t)((int64_t)(linear << unused) >> unused) : linear;
}

/* The entries that a walk read, the root's first. */
struct walk_record {
	uint32_t count;
	uint64_t gpas[SPACE_LEVELS_MAX];
	uint64_t values[SPACE_LEVELS_MAX];
};

/*
 * A translation in use. The one way for all that reads or writes through a space is: begin, copy, and
 * again from the start if end says that it did not hold.
 */
struct space_use {
	uint64_t gpa, left;	/* left: bytes to the end of the page */
	uint64_t still;		/* hvmi_vm.still when it began */
	uint32_t shift;
	bool cached;
	uint32_t set, way;	/* where, if it is cached */
	struct walk_record record;	/* if it is not */
};
/* Some bytes of an object, and where they go. */
struct space_piece {
	uint32_t from, len, at;
};
/*
 * Copy pieces of the first `len` bytes of an object, under one translation; false: they are not all in one
 * remembered page, and have to be read one by one.
 */
bool space_read_pieces(struct hvmi_space *space, uint64_t object, size_t len,
		       const struct space_piece *pieces, uint32_t count, uint8_t *buf);

/* Times that one translation is tried while the guest changes it. */
#define SPACE_TRIES 100

/* True at this moment, from the cache or by a walk. Errors as hvmi_space_translate(). */
int space_begin(struct hvmi_space *space, uint64_t gva, struct space_use *use);
/* Was it true all the time? Then it is remembered. */
bool space_end(struct hvmi_space *space, uint64_t gva, const struct space_use *use);

/*
 * The common case of a walk, while nothing can change meanwhile: entries of 8 bytes, all of them in the
 * window, and a page at the end. false: it is not that; walk. What is told of nothing else is true.
 * `levels` is a constant: of tables of 512 entries that map 4 KiB at the end, under sign-extended
 * addresses; or 0: as the space says.
 */
static inline __attribute__((always_inline)) bool
space_quick_walk_of(const struct hvmi_space *space, const uint32_t levels, uint64_t gva,
		    uint64_t *gpa_ret, uint32_t *shift_ret)
{
	uint64_t linear = gva << (52 - 9 * levels) >> (52 - 9 * levels), table = space->root;
	if (levels ? (int64_t)gva >> (11 + 9 * levels) != (int64_t)gva >> 63 :
		     !space_linear(space, gva, &linear))
		return false;
	const uint32_t count = levels ? levels : space->level_count;
	for (uint32_t i = 0; i < count; i++) {
		const struct space_level *level = &space->levels[i];
		uint32_t shift = levels ? 12 + 9 * (levels - 1 - i) : level->shift;
		uint64_t at = table + ((linear >> shift & (levels ? 511 : level->index_mask)) << 3);
		if (at - space->window.gpa >= space->window.starts)
			return false;
		uint64_t entry = entry_load((const void *)(space->window.to_host + at), 3);
		table = entry & space->table_mask;
		if (__builtin_expect((entry & level->table_test) == level->table_value, 1))
			continue;
		if ((entry & level->page_test) != level->page_value)
			return false;
		*gpa_ret = (entry & level->page_mask) | (linear & ((1ull << shift) - 1));
		*shift_ret = shift;
		return true;
	}
	return false;
}

static inline bool space_quick_walk(const struct hvmi_space *space, uint64_t gva,
				    uint64_t *gpa_ret, uint32_t *shift_ret)
{
	return space->four ? space_quick_walk_of(space, 4, gva, gpa_ret, shift_ret) :
			     space_quick_walk_of(space, 0, gva, gpa_ret, shift_ret);
}

/* Begin and end; for what uses a translation later, when it may have changed anyway. */
int space_resolve(struct hvmi_space *space, uint64_t gva, uint64_t *gpa_ret, uint64_t *left_ret);

/* How a vCPU translates; its registers are asked for unless they are @p known (NULL: none is). */
int space_config_of_vcpu(struct hvmi_vm *vm, uint32_t vcpu, const struct hvmi_registers *known,
			 struct hvmi_space_config *ret, struct hvmi_error *err);

/* Fill in levels, root and the like from space->config; -EINVAL: it makes no sense. */
int space_set_mode(struct hvmi_space *space, struct hvmi_error *err);

#endif
