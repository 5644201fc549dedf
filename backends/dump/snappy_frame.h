/* SPDX-License-Identifier: Apache-2.0 */
/* Snappy's framing format: framing_format.txt of google/snappy. */
#ifndef HVMI_BACKENDS_DUMP_SNAPPY_FRAME_H
#define HVMI_BACKENDS_DUMP_SNAPPY_FRAME_H

#include "image.h"

#define FRAME_PLAIN_MAX 65536u

/* Walks chunks; a small window saves system calls where chunks are tiny. */
struct frame_walk {
	const struct dump_input *input;
	uint64_t at, end;	/* of the next chunk, and of all of them */
	uint64_t window_at;
	size_t window_len;
	uint8_t window[4096];
};

struct frame_chunk {
	uint64_t offset;	/* of its payload, behind the checksum */
	uint32_t len;		/* of its payload */
	uint32_t plain;		/* bytes it gives; 0 for chunks that hold none */
	uint32_t checksum;	/* of them */
	bool compressed;
};

struct crc32c_tables {
	uint32_t of[8][256];
};

void crc32c_init(struct crc32c_tables *tables);
uint32_t crc32c(const struct crc32c_tables *tables, const void *bytes, size_t len);
/* The framing format's checksum. */
uint32_t crc32c_masked(const struct crc32c_tables *tables, const void *bytes, size_t len);

void frame_walk_init(struct frame_walk *walk, const struct dump_input *input, uint64_t from,
		     uint64_t end);
/*
 * The next chunk. 0: the end; 1: *ret is one. -EFAULT: it is cut short, -EBADMSG: it is malformed.
 */
int frame_walk_next(struct frame_walk *walk, struct frame_chunk *ret);

/*
 * The chunk's `plain` bytes. -EBADMSG: it is malformed or its checksum is wrong; -ENOTSUP: this
 * library was built without snappy.
 */
int frame_decode(const struct dump_input *input, const struct crc32c_tables *tables,
		 const struct frame_chunk *chunk, uint8_t *buf);

#endif
