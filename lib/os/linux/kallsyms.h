/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The kernel's own symbol table, in every layout since Linux 4.6: kernel/kallsyms.c. Layouts are
 * told apart by what is there, never by a version. Machines are 64-bit and little-endian.
 */
#ifndef HVMI_LIB_KALLSYMS_H
#define HVMI_LIB_KALLSYMS_H

#include "profile/profile.h"

enum kallsyms_mode {
	KALLSYMS_UNDECIDED = 0,
	KALLSYMS_ABSOLUTE,		/* 8-byte addresses (no BASE_RELATIVE) */
	KALLSYMS_RELATIVE,		/* base + (u32)offset */
	KALLSYMS_PERCPU,		/* ABSOLUTE_PERCPU: negative offsets are relative */
	KALLSYMS_PCREL			/* 7.0: each entry relative to its own place */
};

/* Where the tables are, in the addresses of the source they were found in. */
struct kallsyms {
	uint64_t num_syms_at, names_at, markers_at, token_table_at, token_index_at, offsets_at;
	uint64_t seqs_at;		/* 0: there are none (6.2) */
	uint64_t end;			/* behind the last table */
	uint32_t count;			/* symbols */
	uint32_t marker_bytes;		/* 4 or 8 */
	uint32_t names_len;		/* bytes */
	uint32_t seqs_bytes;		/* each: 3, 4, or 0 */
	uint32_t address_mode;		/* enum kallsyms_mode */
	bool uleb_lengths;		/* names longer than 127 were met: 6.1 */
	uint64_t relative_base;		/* as found, or 0 */
	uint64_t relative_base_at;	/* 0: there is none */
	/*
	 * Set by kallsyms_load(): what it added to addresses as found. PCREL: from the source's to
	 * guest-virtual ones. Else 0 in a running kernel's own table; other values mean a copy that
	 * was not relocated, or that is from an earlier boot.
	 */
	uint64_t shift;
};

/*
 * Find a token table in bytes, from *offset on (moved to the find): 0, or -ENOENT. Quick enough
 * to run over all of a guest's memory, which may change meanwhile. The bytes start at a multiple
 * of 4 in it. A table that straddles the end is not found: overlap windows by
 * KALLSYMS_TOKEN_TABLE_MAX. To go on behind a find, add 1.
 */
#define KALLSYMS_TOKEN_TABLE_MAX 8192u	/* with its index */
int kallsyms_scan(const void *bytes, size_t len, size_t *offset);

/*
 * From a token table's address, find and check all other tables. Names and addresses are checked
 * at their ends and in the middle only: all of them are by kallsyms_load(). Reads less than 4 MiB,
 * or 32 MiB where numbers that could be seqs_of_names come before the table. Over all the finds
 * of kallsyms_scan() in hostile memory the cost is linear too, some 15 ns for each byte of it.
 * -ENOENT: this is none. -ENOMEM.
 */
int kallsyms_locate(const struct source *source, uint64_t token_table, struct kallsyms *ret);

/* What is known of the running kernel when symbols are decoded; zero: unknown. */
struct kallsyms_hints {
	/* Where the source's addresses are mapped in the guest's kernel: gva = address + shift. */
	bool have_shift;
	uint64_t shift;
	/* The image in guest-virtual addresses: a table whose _text is outside is refused. */
	uint64_t image_gva, image_len;
	/* Known addresses, from VMCOREINFO. */
	uint64_t stext_gva;
};

/*
 * Decode every symbol into an empty table and freeze it, and set kallsyms->shift. With stext_gva
 * known, all addresses that move with the image are shifted so that _stext is there; unless that
 * takes _text out of the image, if that is known, and it was inside before. In KALLSYMS_PCREL with
 * neither have_shift nor stext_gva, the addresses put in the table are those of the source. A name
 * of more than 511 characters is cut off there, as the kernel does.
 * -EBADMSG: damaged, or not the running kernel's. -EFAULT and other errors of the source.
 */
int kallsyms_load(const struct source *source, struct kallsyms *kallsyms,
		  const struct kallsyms_hints *hints, struct symbols *ret, struct hvmi_error *err);

#endif
