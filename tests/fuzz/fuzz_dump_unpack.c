/* SPDX-License-Identifier: Apache-2.0 */
/* Compressed pages: the first byte says how, LZO1X being the one whose decoder is ours. */
#include <stdlib.h>
#include <string.h>

#include "kdump_header.h"
#include "unpack.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const size_t sizes[] = { 4096, 1, 65536 };
	if (size < 1)
		return 0;
	/* Exact copies, so that a byte too far is seen. */
	uint8_t *packed = malloc(size);
	if (packed)
		memcpy(packed, data + 1, size - 1);
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]) && packed; i++) {
		uint8_t *plain = malloc(sizes[i]);
		if (plain) {
			unpack(data[0], packed, size - 1, plain, sizes[i]);
			if (data[0] != KDUMP_LZO)
				lzo_unpack(packed, size - 1, plain, sizes[i]);
		}
		free(plain);
	}
	free(packed);
	return 0;
}
