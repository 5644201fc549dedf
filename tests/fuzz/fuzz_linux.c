/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Lists, trees and paths of a Linux guest, every byte of them hostile: the input is the memory, and
 * structures in it are small enough for a fuzzer to hit.
 */
#include <stdlib.h>

#include "memory_vm.h"
#include "os/linux/linux.h"

/* How much of a list is looked at: each is bounded, their product is not small. */
#define TASKS 16
#define REGIONS 64

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Two members lie behind a pointer, as in real kernels; the others follow each other. */
static void make_members(struct hvmi_member members[LINUX_MEMBER_COUNT])
{
	for (uint32_t i = 0; i < LINUX_MEMBER_COUNT; i++)
		members[i] = (struct hvmi_member){ .size = sizeof(members[i]), .bytes = 8,
						   .kind = HVMI_TYPE_INTEGER, .hop_count = 1,
						   .hops = { (uint64_t)i % 16 * 8 } };
	members[LINUX_TASK_COMM].bytes = 16;
	members[LINUX_TASK_THREAD_HEAD].hop_count = 2;
	members[LINUX_FILE_INODE].hop_count = 2;
	members[LINUX_RANGE_PIVOT].hops[0] = 8;
	members[LINUX_RANGE_PIVOT].bytes = 15 * 8;
	members[LINUX_RANGE_SLOT].hops[0] = 16 * 8;
	members[LINUX_RANGE_SLOT].bytes = 16 * 8;
	members[LINUX_ARANGE_PIVOT].hops[0] = 8;
	members[LINUX_ARANGE_PIVOT].bytes = 9 * 8;
	members[LINUX_ARANGE_SLOT].hops[0] = 10 * 8;
	members[LINUX_ARANGE_SLOT].bytes = 10 * 8;
}

static void walk_tasks(struct hvmi_os *os, uint32_t flags)
{
	struct hvmi_task_iter *iter;
	if (hvmi_task_iter_create(os, flags, &iter, NULL))
		return;
	struct hvmi_task task = { .size = sizeof(task) };
	char strings[64];
	size_t len;
	for (int i = 0; i < TASKS && hvmi_task_next(iter, &task, NULL) == 1; i++) {
		hvmi_task_arguments(os, &task, strings, sizeof(strings), &len, NULL);
		hvmi_task_environment(os, &task, strings, sizeof(strings), &len, NULL);
		struct hvmi_region_iter *regions;
		if (hvmi_region_iter_create(os, &task, 0, &regions, NULL))
			continue;
		struct hvmi_region region = { .size = sizeof(region) };
		for (int k = 0; k < REGIONS && hvmi_region_next(regions, &region, NULL) == 1; k++)
			if (region.start >= region.end || !region.path)
				abort();
		hvmi_region_iter_destroy(regions);
	}
	hvmi_task_iter_destroy(iter);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	/* The first bytes say which kernel it is like and where its lists begin. */
	if (size < 64)
		return 0;
	struct hvmi_vm *vm = memory_vm(data, size);
	struct hvmi_os *os = calloc(1, sizeof(*os));
	struct linux_os *linux_os = calloc(1, sizeof(*linux_os));
	if (!vm || !os || !linux_os)
		abort();
	os->vm = vm;
	os->ops = linux_ops();
	os->data = linux_os;
	os->profile = profile_create();
	os->kernel = (struct hvmi_space_config){ .size = sizeof(os->kernel) };
	make_members(linux_os->members);
	if (data[0] & 1)
		linux_os->members[LINUX_MM_TREE].hop_count = 0;
	if (data[0] & 2)
		linux_os->version = 7 << 8;
	if (data[0] & 4) {
		/* As of a running machine, which only happens not to change. */
		vm->description.flags = 0;
		atomic_store(&vm->still, 0);
		linux_os->members[LINUX_TASK_LOCK].hop_count = 0;
	}
	linux_task_plan(linux_os);
	linux_os->init_task = data[1] * 8u;
	linux_os->modules = data[2] * 8u;
	walk_tasks(os, 0);
	walk_tasks(os, HVMI_TASKS_THREADS);
	struct hvmi_module_iter *iter;
	if (hvmi_module_iter_create(os, 0, &iter, NULL) == 0) {
		struct hvmi_module module = { .size = sizeof(module) };
		for (int i = 0; i < TASKS && hvmi_module_next(iter, &module, NULL) == 1; i++)
			;
		hvmi_module_iter_destroy(iter);
	}
	hvmi_os_detach(os);
	hvmi_close(vm);
	return 0;
}
