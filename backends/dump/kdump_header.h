/* SPDX-License-Identifier: Apache-2.0 */
/* Headers of kdump-compressed images, judged before libkdumpfile sees them. */
#ifndef HVMI_BACKENDS_DUMP_KDUMP_HEADER_H
#define HVMI_BACKENDS_DUMP_KDUMP_HEADER_H

#include "image.h"

struct kdump_header {
	bool wide;		/* 64-bit layout */
	bool split;		/* one of several files */
	uint32_t version;
	uint32_t block_size;	/* of the file, and of a page */
	uint64_t bitmaps_at, bitmaps_len;
	uint64_t pages;		/* page frames that the bitmaps tell of */
	uint64_t vmcoreinfo_at, vmcoreinfo_len;
	uint64_t notes_at, notes_len;
};

/* Reads the headers, and refuses what libkdumpfile would choke on. */
int kdump_header_parse(const struct dump_parse *parse, struct kdump_header *ret,
		       uint32_t *arch_ret);

#endif
