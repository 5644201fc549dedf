/* SPDX-License-Identifier: Apache-2.0 */
/* Chunks of snappy's framing format. The checksum is made right, so that data gets through. */
#include "fuzz_dump.h"
#include "snappy_frame.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static uint8_t plain[FRAME_PLAIN_MAX];
	static struct crc32c_tables tables;
	struct fuzz_bytes bytes;
	struct dump_parse parse = fuzz_parse(&bytes, data, size);
	struct frame_walk walk;
	struct frame_chunk chunk;
	crc32c_init(&tables);
	frame_walk_init(&walk, &parse.input, 0, size);
	while (frame_walk_next(&walk, &chunk) == 1) {
		if (chunk.plain > FRAME_PLAIN_MAX || chunk.offset > size ||
		    chunk.len > size - chunk.offset)
			abort();
		if (!chunk.plain)
			continue;
		frame_decode(&parse.input, &tables, &chunk, plain);
		chunk.checksum = crc32c_masked(&tables, plain, chunk.plain);
		frame_decode(&parse.input, &tables, &chunk, plain);
	}
	return 0;
}
