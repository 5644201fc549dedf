/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Crash dumps of Windows. The input is what differs from an empty header: offset and length in two
 * bytes each, then the bytes; the first two bytes are the length of the whole file.
 */
#include "fuzz_dump.h"

#define FILE_BYTES (64u * PAGE_BYTES)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static uint8_t file[FILE_BYTES];
	struct fuzz_bytes bytes;
	struct dump_image image = { 0 };

	if (size < 2)
		return 0;
	size_t len = load_le16(data) % (FILE_BYTES + 1);
	memset(file, 0, sizeof(file));
	for (size_t at = 2; size - at >= 4;) {
		size_t to = load_le16(data + at), n = MIN(load_le16(data + at + 2), size - at - 4);
		n = MIN(n, sizeof(file) - to);
		memcpy(file + to, data + at + 4, n);
		at += 4 + n;
	}
	struct dump_parse parse = fuzz_parse(&bytes, file, len);
	int rc = crash_parse(&parse, &image);
	if (rc == 0)
		fuzz_check(&image, len);
	else if (bytes.err.code != rc || !bytes.err.text[0])
		abort();
	image_deinit(&image);
	return 0;
}
