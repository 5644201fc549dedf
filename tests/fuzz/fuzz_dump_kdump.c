/* SPDX-License-Identifier: Apache-2.0 */
/* kdump-compressed images, flattened or not, down to the bytes of pages. */
#include "fuzz_dump.h"

static void read_some(const struct dump_image *image, const struct dump_decoder *decoder,
		      void *state)
{
	static uint8_t buf[70000];
	for (size_t i = 0; i < image->layout.count && i < 16; i++) {
		const struct dump_piece *piece = &image->layout.pieces[i];
		uint64_t gpa = piece->gpa, end = piece->gpa + piece->len;
		struct hvmi_range data;
		decoder->read(state, piece, gpa, buf, MIN(sizeof(buf), piece->len));
		for (int j = 0; j < 64 && gpa < end; j++) {
			if (decoder->next_data(state, piece, gpa, &data))
				break;
			if (data.gpa < gpa || data.len == 0 || data.gpa >= end ||
			    data.len > end - data.gpa)
				abort();
			decoder->read(state, piece, data.gpa, buf, MIN(sizeof(buf), data.len));
			gpa = data.gpa + data.len;
		}
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_bytes bytes;
	struct dump_parse parse = fuzz_parse(&bytes, data, size);
	struct dump_image image = { 0 };
	struct dump_flat *flat = NULL;
	const struct dump_decoder *decoder;
	void *state;
	if (size >= 12 && memcmp(data, "makedumpfile", 12) == 0 &&
	    flat_open(&parse, &flat, &parse.input))
		return 0;
	if (kdump_open(&parse, &image, &decoder, &state) == 0) {
		fuzz_check(&image, UINT64_MAX);
		read_some(&image, decoder, state);
		decoder->close(state);
	}
	image_deinit(&image);
	flat_close(flat);
	return 0;
}
