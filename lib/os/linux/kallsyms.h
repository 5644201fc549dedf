/* SPDX-License-Identifier: Apache-2.0 */
/* The kernel's own symbol table, in every layout since Linux 4.6: kernel/kallsyms.c. */
#ifndef HVMI_LIB_KALLSYMS_H
#define HVMI_LIB_KALLSYMS_H

#include "profile/profile.h"

/* Where the tables are, in the addresses of the source they were found in. */
struct kallsyms {
	uint64_t num_syms_at, names_at, markers_at, token_table_at, token_index_at, seqs_at, offsets_at;
	uint64_t end;			/* behind the last table */
	uint32_t count;			/* symbols */
	uint32_t marker_bytes;		/* 4 or 8 */
	uint32_t names_len;		/* bytes */
	uint32_t address_mode;		/* enum kallsyms_mode */
	uint64_t relative_base;		/* as found, or 0 */
	uint64_t relative_base_at;	/* 0: there is none */
	bool uleb_lengths;		/* 6.1: names longer than 127 */
};

enum kallsyms_mode {
	KALLSYMS_UNDECIDED = 0,
	KALLSYMS_ABSOLUTE,		/* 8-byte addresses (no BASE_RELATIVE) */
	KALLSYMS_RELATIVE,		/* base + (u32)offset */
	KALLSYMS_PERCPU,		/* ABSOLUTE_PERCPU: negative offsets are relative */
	KALLSYMS_PCREL			/* 7.0: each entry relative to its own place */
};

/*
 * Find a token table in bytes, from *offset on (moved to the find): 0, or -ENOENT. Quick enough
 * to run over all of a guest's memory. A table that straddles the end is not found: overlap
 * windows by KALLSYMS_TOKEN_TABLE_MAX.
 */
#define KALLSYMS_TOKEN_TABLE_MAX 8192u
int kallsyms_scan(const void *bytes, size_t len, size_t *offset);

/*
 * From a token table's address, find and check all other tables.
 * -ENOENT: this is none.
 */
int kallsyms_locate(const struct source *source, uint64_t token_table, struct kallsyms *ret);

/* What is known of the running kernel when symbols are decoded; zero: unknown. */
struct kallsyms_hints {
	/* Where the source's addresses are mapped in the guest's kernel: gva = address + shift. */
	bool have_shift;
	uint64_t shift;
	/* The image in guest-virtual addresses, to judge address modes by. */
	uint64_t image_gva, image_len;
	/* Known addresses, from VMCOREINFO. */
	uint64_t stext_gva;
};

/*
 * Decode every symbol into an empty table and freeze it. Decides the address mode (the caller sees
 * it in kallsyms->address_mode). In KALLSYMS_PCREL without have_shift, the addresses put in the
 * table are those of the source.
 */
int kallsyms_load(const struct source *source, struct kallsyms *kallsyms,
		  const struct kallsyms_hints *hints, struct symbols *ret, struct hvmi_error *err);

#endif
