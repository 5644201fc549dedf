/* SPDX-License-Identifier: Apache-2.0 */
/* ELF cores: headers, segments, notes of QEMU, Linux and VirtualBox, sections of Xen. */
#include "fuzz_dump.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_bytes bytes;
	struct dump_parse parse = fuzz_parse(&bytes, data, size);
	struct dump_image image = { 0 };
	if (elf_parse(&parse, &image) == 0)
		fuzz_check(&image, size);
	else if (!bytes.err.text[0])
		abort();
	image_deinit(&image);
	return 0;
}
