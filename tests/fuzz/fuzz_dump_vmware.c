/* SPDX-License-Identifier: Apache-2.0 */
/* States of VMware, with memory inside, or beside if the first byte is odd. */
#include "fuzz_dump.h"

#define BESIDE_BYTES (1u << 20)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_bytes bytes;
	struct dump_image image = { 0 };
	bool beside = false;

	if (size == 0)
		return 0;
	struct dump_parse parse = fuzz_parse(&bytes, data + 1, size - 1);
	int rc = vmware_parse(&parse, data[0] & 1 ? BESIDE_BYTES : 0, &image, &beside);
	if (rc == 0)
		fuzz_check(&image, beside ? BESIDE_BYTES : size - 1);
	else if (bytes.err.code != rc || !bytes.err.text[0])
		abort();
	image_deinit(&image);
	return 0;
}
