/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Debugger data, and what is searched for in a kernel without symbols: the input is the memory from
 * 0x80000000 on, of which two thirds are an image, half code and half data, and the rest is pool.
 */
#include <stdlib.h>

#include "memory_vm.h"
#include "os/windows/debugger.h"
#include "os/windows/search.h"

#define KERNEL 0x80000000u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Whatever is found is in the image. */
static void check(const struct hvmi_os *os, uint32_t bytes)
{
	static const char *const names[] = {
		"CmpHiveListHead", "CallbackListHead", "CmpCallBackVector", "KeBugCheckCallbackListHead",
		"KeBugCheckReasonCallbackListHead", "PspCreateProcessNotifyRoutine",
		"PspCreateThreadNotifyRoutine", "PspLoadImageNotifyRoutine", "MmUnloadedDrivers",
		"KeServiceDescriptorTableShadow", "PsActiveProcessHead",
	};
	uint64_t gva;
	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		if (symbols_find(&os->profile->symbols, names[i], &gva) == 0 && gva - KERNEL >= bytes)
			abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	/* The first bytes say which kernel it is like and where its modules begin. */
	static const uint32_t builds[] = { 2600, 7601, 9200, 19041 };
	if (size < 64)
		return 0;
	memory_base = KERNEL;
	struct hvmi_vm *vm = memory_vm(data, size);
	struct hvmi_os *os = calloc(1, sizeof(*os));
	struct windows_os *windows = calloc(1, sizeof(*windows));
	struct hvmi_space *space;
	if (!vm || !os || !windows)
		abort();
	bool wide = data[0] & 4;
	uint32_t bytes = (uint32_t)MIN(size / 3 * 2, 64 * KIB), half = bytes / 2 & ~7u;
	os->vm = vm;
	os->ops = windows_ops();
	os->data = windows;
	os->profile = profile_create();
	os->profile->pointer_bytes = windows->pointer_bytes = wide ? 8 : 4;
	os->kernel = (struct hvmi_space_config){ .size = sizeof(os->kernel) };
	windows->user_end = KERNEL;
	windows->id = (struct windows_kernel_id){
		.machine = wide ? WINDOWS_MACHINE_X64 : WINDOWS_MACHINE_X86, .base = KERNEL,
		.build = builds[data[0] & 3], .major = data[0] & 3 ? 6 : 5,
	};
	struct windows_image *image = &windows->found.image;
	*image = (struct windows_image){
		.base = KERNEL, .bytes = bytes, .machine = windows->id.machine, .section_count = 2,
		.sections = { { ".text", 0, half, SECTION_EXECUTE },
			      { ".data", half, bytes - half, SECTION_WRITE } },
	};
	windows->modules = KERNEL + data[1] * 8u;
	if (windows_knowledge_load(os, &windows->id, &windows->knowledge, NULL) ||
	    hvmi_os_kernel_space(os, &space, NULL))
		abort();
	windows_members_find(os->profile, windows->members);
	windows->members[WINDOWS_HIVE_LINKS].hops[0] = data[3] % 16 * 8u;
	static const char *const exports[] = { "PsSetLoadImageNotifyRoutine",
					       "PsRemoveLoadImageNotifyRoutine" };
	for (uint32_t i = 0; i < ARRAY_SIZE(exports); i++)
		if (windows_knowledge_symbol(os, exports[i], KERNEL + data[2] * 8u + i * 0x80))
			abort();
	if (symbols_freeze(&os->profile->symbols))
		abort();
	windows_debugger_read(os, space);
	windows_search(os, space);
	check(os, bytes);
	hvmi_space_destroy(space);
	hvmi_os_detach(os);
	hvmi_close(vm);
	return 0;
}
