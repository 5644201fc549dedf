/* SPDX-License-Identifier: Apache-2.0 */
/* Writes kernel symbol tables in any layout, for tests. Aborts if memory ends. */
#ifndef HVMI_TESTS_KALLSYMS_BUILD_H
#define HVMI_TESTS_KALLSYMS_BUILD_H

#include "os/linux/kallsyms.h"

struct kallsyms_build_symbol {
	uint64_t gva;
	char kind;
	char *name;
};

struct kallsyms_build_layout {
	const char *name;
	bool addresses_behind;	/* 6.4: behind the token index, as are the seqs */
	enum kallsyms_mode mode;
	uint32_t marker_bytes;	/* and those of the count of symbols */
	bool uleb_lengths;
	uint32_t seqs_bytes;	/* 0: none */
	uint32_t alignment;	/* of tables */
	uint64_t base_error;	/* what relative_base is too low by */
};

/* Symbols, and the tokens that compress them. */
struct kallsyms_build_names {
	struct kallsyms_build_symbol *symbols;
	uint32_t count;
	uint8_t **codes;	/* each symbol's name */
	uint32_t *lengths;
	char *tokens[256];
};

/*
 * Like those of a kernel: some per-cpu ones at 0 and up, then _text, _stext and others from
 * KALLSYMS_BUILD_TEXT on, some at the same address, in the order of a table. Names have at most
 * name_max characters, a few of them that many.
 */
#define KALLSYMS_BUILD_TEXT 0xffffffff93000000ull
void kallsyms_build_names(struct kallsyms_build_names *ret, uint32_t count, uint32_t percpu,
			  uint32_t name_max);
void kallsyms_build_names_deinit(struct kallsyms_build_names *names);

struct kallsyms_build {
	uint8_t *bytes;		/* with other things before and behind the tables */
	size_t len, capacity;
	struct kallsyms at;	/* what kallsyms_locate() is to find, if bytes[0] is at address 0 */
};

/*
 * The tables; bytes[0] stands at @p gva, which is a multiple of 8. In modes other than
 * KALLSYMS_PERCPU there must be no per-cpu symbols.
 */
void kallsyms_build(struct kallsyms_build *ret, const struct kallsyms_build_layout *layout,
		    const struct kallsyms_build_names *names, uint64_t gva);
void kallsyms_build_deinit(struct kallsyms_build *build);

/* Pseudo-random numbers, the same in each run. */
uint32_t kallsyms_build_random(uint64_t *state);

#endif
