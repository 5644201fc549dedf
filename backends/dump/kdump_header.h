/* SPDX-License-Identifier: Apache-2.0 */
/* Headers of kdump-compressed images. */
#ifndef HVMI_BACKENDS_DUMP_KDUMP_HEADER_H
#define HVMI_BACKENDS_DUMP_KDUMP_HEADER_H

#include "image.h"

/* How a page is compressed: flags of its descriptor, and of all pages in the header. */
enum { KDUMP_ZLIB = 1, KDUMP_LZO = 2, KDUMP_SNAPPY = 4, KDUMP_ZSTD = 0x20 };
#define KDUMP_COMPRESSED (KDUMP_ZLIB | KDUMP_LZO | KDUMP_SNAPPY | KDUMP_ZSTD)

struct kdump_header {
	bool wide;		/* 64-bit layout */
	bool split;		/* one of several files */
	uint32_t version;
	uint32_t status;	/* KDUMP_* and others */
	uint32_t block_size;	/* of the file, and of a page */
	uint64_t ram_at;	/* the bitmap of pages that are RAM, */
	uint64_t dumped_at;	/* and of those that are in the dump */
	uint64_t descriptors_at;
	uint64_t pages;		/* page frames that the bitmaps tell of */
	uint64_t first, end;	/* those that this file is about */
	uint64_t vmcoreinfo_at, vmcoreinfo_len;
	uint64_t notes_at, notes_len;
};

int kdump_header_parse(const struct dump_parse *parse, struct kdump_header *ret,
		       uint32_t *arch_ret);

#endif
