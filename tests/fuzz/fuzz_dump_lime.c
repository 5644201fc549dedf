/* SPDX-License-Identifier: Apache-2.0 */
/* LiME's ranges, and AVML's blocks down to the bytes that they decompress to. */
#include "fuzz_dump.h"

static void read_some(const struct dump_image *image, const struct dump_decoder *decoder,
		      void *state)
{
	static uint8_t buf[100000];
	for (size_t i = 0; i < image->layout.count && i < 16; i++) {
		const struct dump_piece *piece = &image->layout.pieces[i];
		const uint64_t offsets[] = { 0, 65536, piece->len / 2, piece->len - 1 };
		for (size_t j = 0; j < ARRAY_SIZE(offsets); j++) {
			uint64_t at = MIN(offsets[j], piece->len - 1);
			decoder->read(state, piece, piece->gpa + at, buf,
				      MIN(sizeof(buf), piece->len - at));
		}
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_bytes bytes;
	struct dump_parse parse = fuzz_parse(&bytes, data, size);
	struct dump_image image = { 0 };
	const struct dump_decoder *decoder;
	void *state;
	if (lime_parse(&parse, &image) == 0)
		fuzz_check(&image, size);
	image_deinit(&image);
	if (avml_open(&parse, &image, &decoder, &state) == 0) {
		fuzz_check(&image, INT64_MAX);
		read_some(&image, decoder, state);
		decoder->close(state);
	}
	image_deinit(&image);
	return 0;
}
