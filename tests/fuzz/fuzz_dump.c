/* SPDX-License-Identifier: Apache-2.0 */
/* A whole file, of whichever format it says it is, through the public interface. */
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include <hvmi/hvmi.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void look_around(struct hvmi_vm *vm)
{
	static uint8_t buf[70000];
	struct hvmi_vm_info info = { .size = sizeof(info) };
	struct hvmi_range range;
	uint64_t gpa = 0, value;
	size_t len;
	hvmi_vm_get_info(vm, &info);
	for (uint32_t i = 0; i < 16 && hvmi_vm_range(vm, i, &range) == 0; i++) {
		hvmi_vm_read(vm, range.gpa, buf, sizeof(buf), &len);
		hvmi_vm_read(vm, range.gpa + range.len / 2, buf, 8, &len);
		hvmi_vm_read(vm, range.gpa + range.len - 1, buf, sizeof(buf), &len);
	}
	for (int i = 0; i < 64 && hvmi_vm_next_data(vm, gpa, &range) == 0; i++) {
		if (range.gpa < gpa || range.len == 0)
			abort();
		hvmi_vm_read(vm, range.gpa, buf, 64, &len);
		gpa = range.gpa + range.len;
	}
	for (uint32_t id = 0; id <= HVMI_REGISTER_END; id++)
		hvmi_vm_register(vm, info.vcpus - 1, id, &value);
	hvmi_vm_note(vm, "VMCOREINFO", buf, sizeof(buf), &len);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char target[64];
	struct hvmi_vm *vm;
	struct hvmi_error err = { 0 };
	int fd = memfd_create("fuzz", MFD_CLOEXEC);
	if (fd < 0)
		return 0;
	if (write(fd, data, size) == (ssize_t)size) {
		snprintf(target, sizeof(target), "dump:/proc/self/fd/%d", fd);
		if (hvmi_open(target, NULL, &vm, &err) == 0) {
			look_around(vm);
			hvmi_close(vm);
		} else if (!err.text[0]) {
			abort();
		}
	}
	close(fd);
	return 0;
}
