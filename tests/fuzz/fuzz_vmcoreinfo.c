/* SPDX-License-Identifier: Apache-2.0 */
#include "os/linux/vmcoreinfo.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	size_t offset;
	struct vmcoreinfo info;
	if (vmcoreinfo_probe(data, size, &offset) == 0)
		vmcoreinfo_parse(data + offset, size - offset, &info);
	vmcoreinfo_parse(data, size, &info);
	return 0;
}
