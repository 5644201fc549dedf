/* SPDX-License-Identifier: Apache-2.0 */
/* Recognition over arbitrary physical memory. */
#include <hvmi/hvmi.h>

#include "memory_vm.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct hvmi_vm *vm = memory_vm(data, size);
	struct hvmi_os *os;
	if (vm && hvmi_os_attach(vm, NULL, &os, NULL) == 0)
		hvmi_os_detach(os);
	hvmi_close(vm);
	return 0;
}
