/* SPDX-License-Identifier: Apache-2.0 */
/* Bytes as the file that a parser of the dump backend reads. */
#ifndef HVMI_TESTS_FUZZ_DUMP_H
#define HVMI_TESTS_FUZZ_DUMP_H

#include "image.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct fuzz_bytes {
	const uint8_t *bytes;
	struct hvmi_backend_host host;
	struct hvmi_error err;
};

static inline int fuzz_read(void *context, uint64_t offset, void *buf, size_t len)
{
	const struct fuzz_bytes *bytes = context;
	memcpy(buf, bytes->bytes + offset, len);
	return 0;
}

static inline void HVMI_PRINTF(3, 4)
fuzz_log(const struct hvmi_backend_host *host, uint32_t level, const char *format, ...)
{
	(void)host;
	(void)level;
	(void)format;
}

static inline struct dump_parse fuzz_parse(struct fuzz_bytes *bytes, const uint8_t *data,
					   size_t size)
{
	*bytes = (struct fuzz_bytes){ .bytes = data,
				      .host = { .size = sizeof(bytes->host), .log = fuzz_log } };
	return (struct dump_parse){
		.input = { .read = fuzz_read, .context = bytes, .size = size },
		.name = "fuzz",
		.host = &bytes->host,
		.err = &bytes->err,
	};
}

/* What the core relies on, and what the reading of memory does. */
static inline void fuzz_check(const struct dump_image *image, uint64_t limit)
{
	uint64_t end = 0;
	for (size_t i = 0; i < image->layout.count; i++) {
		const struct dump_piece *piece = &image->layout.pieces[i];
		if (piece->len == 0 || piece->gpa < end || piece->gpa > UINT64_MAX - piece->len ||
		    piece->offset > limit || piece->len > limit - piece->offset ||
		    layout_find(&image->layout, piece->gpa + piece->len - 1) != piece)
			abort();
		end = piece->gpa + piece->len;
	}
	if (image->layout.count > HVMI_RANGES_MAX || image->vcpu_count > DUMP_VCPUS_MAX ||
	    image->vmcoreinfo_len > DUMP_VMCOREINFO_MAX)
		abort();
}

#endif
