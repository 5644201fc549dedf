/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Lists, trees, tables and cells of a Windows guest, every byte of them hostile: the input is the
 * memory around 0x80000000, half of it a process's and half the kernel's, and members are where a
 * fuzzer hits them.
 */
#include <stdlib.h>

#include <hvmi/windows.h>

#include "memory_vm.h"
#include "os/windows/object.h"

#define KERNEL 0x80000000u
/* How much of a list is looked at: each is bounded, their product is not small. */
#define TAKEN 16
#define SYMBOLS 10u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void walk_registry(struct hvmi_os *os, const struct hvmi_hive *hive)
{
	struct hvmi_key key = { .size = sizeof(key) };
	struct hvmi_key_iter *keys;
	struct hvmi_value_iter *values;
	struct hvmi_value value = { .size = sizeof(value) };
	volatile uint8_t sum = 0;
	if (hvmi_key_find(os, hive, "", &key, NULL))
		return;
	if (hvmi_value_iter_create(os, &key, &values, NULL) == 0) {
		for (int i = 0; i < TAKEN && hvmi_value_next(values, &value, NULL) == 1; i++)
			for (uint32_t k = 0; value.data && k < value.bytes; k++)
				sum = (uint8_t)(sum + value.data[k]);
		hvmi_value_iter_destroy(values);
	}
	if (hvmi_key_iter_create(os, &key, &keys, NULL) == 0) {
		for (int i = 0; i < TAKEN && hvmi_key_next(keys, &key, NULL) == 1; i++)
			;
		hvmi_key_iter_destroy(keys);
	}
}

static void walk_process(struct hvmi_os *os, const struct hvmi_task *task)
{
	char text[64];
	size_t len;
	struct hvmi_token token = { .size = sizeof(token) };
	struct hvmi_region_iter *regions;
	struct hvmi_region region = { .size = sizeof(region) };
	struct hvmi_handle_iter *handles;
	struct hvmi_handle handle = { .size = sizeof(handle) };
	struct hvmi_module_iter *modules;
	struct hvmi_module module = { .size = sizeof(module) };
	hvmi_task_arguments(os, task, text, sizeof(text), &len, NULL);
	hvmi_task_environment(os, task, text, sizeof(text), &len, NULL);
	hvmi_task_path(os, task, text, sizeof(text), NULL);
	hvmi_token_read(os, task, &token, NULL);
	if (hvmi_region_iter_create(os, task, 0, &regions, NULL) == 0) {
		uint64_t end = 0;
		for (int i = 0; i < TAKEN && hvmi_region_next(regions, &region, NULL) == 1; i++) {
			if (region.start < end || region.start >= region.end || !region.path)
				abort();
			end = region.end;
		}
		hvmi_region_iter_destroy(regions);
	}
	if (hvmi_handle_iter_create(os, task, &handles, NULL) == 0) {
		for (int i = 0; i < TAKEN && hvmi_handle_next(handles, &handle, NULL) == 1; i++)
			;
		hvmi_handle_iter_destroy(handles);
	}
	if (hvmi_module_iter_create_task(os, task, 0, &modules, NULL) == 0) {
		for (int i = 0; i < TAKEN && hvmi_module_next(modules, &module, NULL) == 1; i++)
			;
		hvmi_module_iter_destroy(modules);
	}
}

static void walk_tasks(struct hvmi_os *os, uint32_t flags)
{
	struct hvmi_task_iter *iter;
	struct hvmi_task task = { .size = sizeof(task) };
	if (hvmi_task_iter_create(os, flags, &iter, NULL))
		return;
	for (int i = 0; i < TAKEN && hvmi_task_next(iter, &task, NULL) == 1; i++)
		walk_process(os, &task);
	hvmi_task_iter_destroy(iter);
}

static void walk_kernel(struct hvmi_os *os)
{
	struct hvmi_module_iter *modules;
	struct hvmi_module module = { .size = sizeof(module) };
	struct hvmi_driver_iter *drivers;
	struct hvmi_driver driver = { .size = sizeof(driver) };
	struct hvmi_device_iter *devices;
	struct hvmi_device device = { .size = sizeof(device) };
	struct hvmi_callback_iter *callbacks;
	struct hvmi_callback callback = { .size = sizeof(callback) };
	struct hvmi_hive_iter *hives;
	struct hvmi_hive hive = { .size = sizeof(hive) };
	struct hvmi_service service = { .size = sizeof(service) };
	struct hvmi_unloaded unloaded = { .size = sizeof(unloaded) };
	if (hvmi_module_iter_create(os, 0, &modules, NULL) == 0) {
		for (int i = 0; i < TAKEN && hvmi_module_next(modules, &module, NULL) == 1; i++)
			;
		hvmi_module_iter_destroy(modules);
	}
	if (hvmi_driver_iter_create(os, &drivers, NULL) == 0) {
		for (int i = 0; i < TAKEN && hvmi_driver_next(drivers, &driver, NULL) == 1; i++) {
			if (hvmi_device_iter_create(os, &driver, &devices, NULL))
				continue;
			while (hvmi_device_next(devices, &device, NULL) == 1)
				;
			hvmi_device_iter_destroy(devices);
		}
		hvmi_driver_iter_destroy(drivers);
	}
	if (hvmi_callback_iter_create(os, &callbacks, NULL) == 0) {
		while (hvmi_callback_next(callbacks, &callback, NULL) == 1)
			;
		hvmi_callback_iter_destroy(callbacks);
	}
	if (hvmi_hive_iter_create(os, &hives, NULL) == 0) {
		for (int i = 0; i < TAKEN && hvmi_hive_next(hives, &hive, NULL) == 1; i++)
			walk_registry(os, &hive);
		hvmi_hive_iter_destroy(hives);
	}
	for (uint32_t i = 0; i < TAKEN; i++) {
		hvmi_service_read(os, i % 2, i, &service, NULL);
		hvmi_unloaded_read(os, i, &unloaded, NULL);
	}
}

/* The lists' places are words of the input. */
static void add_symbols(struct hvmi_os *os, const uint8_t *data)
{
	static const char *const names[SYMBOLS] = {
		"CmpHiveListHead", "CallbackListHead", "KeBugCheckCallbackListHead",
		"KeBugCheckReasonCallbackListHead", "PspCreateProcessNotifyRoutine",
		"MmUnloadedDrivers", "KeServiceDescriptorTable", "KeServiceDescriptorTableShadow",
		"PsProcessType", "ObTypeIndexTable",
	};
	for (uint32_t i = 0; i < SYMBOLS; i++)
		if (windows_knowledge_symbol(os, names[i], KERNEL + data[i] * 4u))
			abort();
	if (symbols_freeze(&os->profile->symbols))
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	/* The first bytes say which kernel it is like and where its lists begin. */
	static const uint32_t builds[] = { 2600, 7601, 9200, 19041 };
	if (size < 64)
		return 0;
	memory_base = KERNEL - (size / 2 & ~(size_t)63);
	struct hvmi_vm *vm = memory_vm(data, size);
	struct hvmi_os *os = calloc(1, sizeof(*os));
	struct windows_os *windows = calloc(1, sizeof(*windows));
	if (!vm || !os || !windows)
		abort();
	os->vm = vm;
	os->ops = windows_ops();
	os->data = windows;
	os->profile = profile_create();
	os->kernel = (struct hvmi_space_config){ .size = sizeof(os->kernel) };
	windows->pointer_bytes = 4;
	windows->user_end = 0x80000000u;
	windows->id = (struct windows_kernel_id){
		.machine = WINDOWS_MACHINE_X86, .base = KERNEL, .build = builds[data[0] & 3],
		.major = data[0] & 3 ? 6 : 5, .minor = data[0] & 3 ? 1 : 1,
	};
	windows->found.config = os->kernel;
	windows->found.image.base = windows->found.image_gpa = KERNEL;
	windows->found.image.bytes = FRAME_SIZE;
	if (windows_knowledge_load(os, &windows->id, &windows->knowledge, NULL))
		abort();
	add_symbols(os, data + 4);
	windows_members_find(os->profile, windows->members);
	/* As near to each other as in no kernel. */
	for (uint32_t i = 0; i < WINDOWS_MEMBER_COUNT; i++)
		windows->members[i].hops[0] = data[0] & 4 ? windows->members[i].hops[0] % 64 :
							    i % 16 * 4;
	windows_process_plan(windows);
	windows->modules = KERNEL + data[1] * 4u;
	if (data[0] & 8)
		windows->processes = KERNEL + data[2] * 4u;
	else
		windows->anchor = KERNEL + data[2] * 4u;
	windows->system = KERNEL + data[3] * 4u;
	struct hvmi_space *space;
	if (hvmi_os_kernel_space(os, &space, NULL))
		abort();
	windows_settle_objects(os, space);
	hvmi_space_destroy(space);
	walk_tasks(os, 0);
	walk_tasks(os, HVMI_TASKS_THREADS);
	walk_kernel(os);
	hvmi_os_detach(os);
	hvmi_close(vm);
	return 0;
}
