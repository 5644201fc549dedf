/* SPDX-License-Identifier: Apache-2.0 */
/* Scripts of the sim backend. What opens files is left out. */
#include <stdlib.h>
#include <string.h>

#include "machine.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void look_around(struct hvmi_vm *vm)
{
	struct hvmi_vm_info info = { .size = sizeof(info) };
	if (hvmi_vm_get_info(vm, &info))
		abort();
	struct hvmi_range range;
	for (uint32_t i = 0; i < info.ranges && i < 64; i++) {
		char c = 'x';
		if (hvmi_vm_range(vm, i, &range))
			abort();
		hvmi_vm_read(vm, range.gpa, &c, 1, NULL);
		hvmi_vm_write(vm, range.gpa + range.len - 1, &c, 1, NULL);
	}
	uint64_t from = 0;
	for (int i = 0; i < 64 && hvmi_vm_next_data(vm, from, &range) == 0; i++) {
		if (range.gpa < from || !range.len)
			abort();
		from = range.gpa + range.len;
	}
	for (uint32_t vcpu = 0; vcpu < info.vcpus && vcpu < 4; vcpu++)
		for (uint32_t id = 0; id <= HVMI_REGISTER_END; id++) {
			uint64_t value;
			if (hvmi_vm_register(vm, vcpu, id, &value) == 0)
				hvmi_vm_set_register(vm, vcpu, id, value + 1);
		}
	if (hvmi_vm_pause(vm, NULL) == 0)
		hvmi_vm_resume(vm, NULL);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (memmem(data, size, "load", 4) || memmem(data, size, "note", 4))
		return 0;
	struct hvmi_open_options options = { .size = sizeof(options), .flags = HVMI_OPEN_WRITE };
	struct hvmi_vm *vm = NULL;
	struct hvmi_error err = { .code = 0 };
	int rc = machine_try(data, size, &options, &vm, &err);
	if (rc) {
		/* Every failure is of the closed set and comes with a sentence. */
		if (vm || err.code != rc || strlen(err.text) < 10 ||
		    strcmp(hvmi_error_name(rc), "unknown") == 0)
			abort();
		return 0;
	}
	look_around(vm);
	hvmi_close(vm);
	return 0;
}
