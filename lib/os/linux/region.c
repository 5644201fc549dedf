/* SPDX-License-Identifier: Apache-2.0 */
#include "os/linux/maple.h"
#include "os/linux/path.h"

#include <stdio.h>

/* include/linux/mm.h */
#define VM_READ 1u
#define VM_WRITE 2u
#define VM_EXEC 4u
#define VM_MAYSHARE 0x80u

#define REGIONS_BOUND (16u * 1024 * 1024)
#define ANON_NAME_BYTES 80u	/* ANON_VMA_NAME_MAX_LEN */

struct region_iter {
	struct hvmi_os *os;
	struct hvmi_space *space;
	struct hvmi_task task;
	uint64_t mm;
	uint64_t heap_start, heap_end, stack;
	uint64_t special_mapping_name;	/* the function that names [vdso] and its like */
	struct maple_walk tree;
	uint64_t list;			/* the next region, before maple trees */
	uint64_t end;			/* of the region before */
	uint64_t gate;			/* the [vsyscall] region, still to come, or 0 */
	uint32_t left;
	bool has_tree, at_gate, ended, live;
	struct linux_file file;
};

/* The one region that processes share and that is in no list: arch/x86/entry/vsyscall. */
static uint64_t find_gate(const struct hvmi_os *os, struct hvmi_space *space, uint64_t mm)
{
	/* { EMULATE, XONLY, NONE } since 5.3 */
	const struct symbols *symbols = &os->profile->symbols;
	uint64_t gate, mode_at, flags;
	uint32_t mode = 0;
	int64_t last_mode;
	if (symbols_find(symbols, "gate_vma", &gate))
		return 0;
	if (symbols_find(symbols, "vsyscall_mode", &mode_at) == 0 &&
	    hvmi_profile_enumerator(os->profile, "XONLY", &last_mode, NULL) == 0 &&
	    hvmi_space_read(space, mode_at, &mode, sizeof(mode), NULL) == 0 && mode > last_mode)
		return 0;
	/* 32-bit processes lack it: MM_CONTEXT_HAS_VSYSCALL is bit 1 of the flags since 5.8. */
	if (linux_read(os, space, LINUX_MM_CONTEXT_FLAGS, mm, &flags) == 0 && !(flags & 2))
		return 0;
	if (linux_read(os, space, LINUX_MM_IA32, mm, &flags) == 0 && flags)
		return 0;
	return gate;
}

/* The task's mm, which may be 0. */
static int find_owned(struct region_iter *iter, struct hvmi_error *err)
{
	uint64_t object = iter->task.object;
	if (iter->live) {
		int rc = linux_task_mm(iter->os, iter->space, &iter->task, &iter->mm, err);
		return rc || !iter->mm ? rc : linux_regions_rest(iter->os, iter->space, iter->mm, err);
	}
	if (linux_read(iter->os, iter->space, LINUX_TASK_MM, object, &iter->mm))
		return hvmi_error_set(err, -EFAULT, object, "the task at 0x%llx cannot be read",
				      (unsigned long long)object);
	return 0;
}

int linux_region_begin(struct hvmi_os *os, const struct hvmi_task *task, uint32_t flags,
		       void **state_ret, struct hvmi_error *err)
{
	static const enum linux_member needed[] = { LINUX_TASK_MM, LINUX_VMA_START, LINUX_VMA_END,
						    LINUX_VMA_FLAGS };
	int rc = linux_require(os, "regions", needed, ARRAY_SIZE(needed), err);
	if (rc)
		return rc;
	struct region_iter *iter = calloc(1, sizeof(*iter));
	if (!iter)
		return hvmi_error_set(err, -ENOMEM, HVMI_NO_ADDRESS, "out of memory");
	iter->os = os;
	iter->left = REGIONS_BOUND;
	iter->has_tree = linux_has(os, LINUX_MM_TREE);
	iter->live = flags & OS_LIST_LIVE;
	iter->task = *task;
	rc = hvmi_os_kernel_space(os, &iter->space, err);
	if (!rc)
		rc = find_owned(iter, err);
	uint64_t root;
	if (!rc && iter->mm) {
		linux_read(os, iter->space, LINUX_MM_BRK_START, iter->mm, &iter->heap_start);
		linux_read(os, iter->space, LINUX_MM_BRK, iter->mm, &iter->heap_end);
		linux_read(os, iter->space, LINUX_MM_STACK, iter->mm, &iter->stack);
		symbols_find(&os->profile->symbols, "special_mapping_name",
			     &iter->special_mapping_name);
		iter->gate = find_gate(os, iter->space, iter->mm);
		if (linux_read(os, iter->space, iter->has_tree ? LINUX_MM_TREE : LINUX_MM_LIST,
			       iter->mm, &root))
			rc = hvmi_error_set(err, -ENOTSUP, iter->mm,
					    "this kernel's mm_struct has neither a maple tree nor a "
					    "list of regions");
		else if (iter->has_tree)
			rc = maple_begin(&iter->tree, os, iter->space, root, err);
		else
			iter->list = root;
	}
	if (rc) {
		linux_region_end(iter);
		return rc;
	}
	*state_ret = iter;
	return 0;
}

void linux_region_end(void *state)
{
	struct region_iter *iter = state;
	hvmi_space_destroy(iter->space);
	free(iter);
}

/* The next vm_area_struct and what it covers. */
static int next_area(struct region_iter *iter, struct hvmi_region *region, struct hvmi_error *err)
{
	uint64_t first = 0, last = 0;
	int rc = 0;
	if (!iter->has_tree) {
		region->object = iter->list;
		rc = iter->list != 0;
	} else {
		rc = maple_next(&iter->tree, &region->object, &first, &last, err);
	}
	if (rc == 0 && iter->gate) {
		region->object = iter->gate;
		iter->gate = 0;
		iter->at_gate = true;
		rc = 1;
	}
	if (rc != 1)
		return rc;
	if (linux_read(iter->os, iter->space, LINUX_VMA_START, region->object, &region->start) ||
	    linux_read(iter->os, iter->space, LINUX_VMA_END, region->object, &region->end) ||
	    region->start >= region->end || region->start < iter->end ||
	    (first && (region->start != first || region->end - 1 != last)))
		return hvmi_error_set(err, -EBADMSG, region->object,
				      "the regions of the process are inconsistent at 0x%llx",
				      (unsigned long long)region->object);
	if (iter->left-- == 0)
		return hvmi_error_set(err, -EOVERFLOW, region->object,
				      "the list of regions does not end");
	iter->end = region->end;
	if (!iter->has_tree &&
	    linux_read(iter->os, iter->space, LINUX_VMA_NEXT, region->object, &iter->list))
		iter->list = 0;
	return 1;
}

static bool anon_name(const struct region_iter *iter, uint64_t area, char name[ANON_NAME_BYTES])
{
	uint64_t object, text;
	return linux_read(iter->os, iter->space, LINUX_VMA_ANON_NAME, area, &object) == 0 &&
	       object &&
	       linux_address(iter->os, iter->space, LINUX_ANON_NAME_TEXT, object, &text) == 0 &&
	       hvmi_space_read_string(iter->space, text, name, ANON_NAME_BYTES, NULL) == 0;
}

/* What /proc/PID/maps shows for a region without a file: show_map_vma() in fs/proc/task_mmu.c. */
static void name_anonymous(struct region_iter *iter, const struct hvmi_region *region)
{
	const struct hvmi_os *os = iter->os;
	char name[ANON_NAME_BYTES];
	uint64_t function, mapping, text;
	if (iter->special_mapping_name &&
	    linux_read(os, iter->space, LINUX_VMA_OPS_NAME, region->object, &function) == 0 &&
	    function == iter->special_mapping_name &&
	    linux_read(os, iter->space, LINUX_VMA_SPECIAL_NAME, region->object, &mapping) == 0 &&
	    linux_read(os, iter->space, LINUX_SPECIAL_NAME, mapping, &text) == 0) {
		hvmi_space_read_string(iter->space, text, iter->file.path, ANON_NAME_BYTES, NULL);
		return;
	}
	/* Since 6.6 a region that only touches the heap's borders is none of it. */
	bool strict = linux_data(os)->version >= (6 << 8 | 6);
	bool heap = strict ? region->start < iter->heap_end && region->end > iter->heap_start :
			     region->start <= iter->heap_end && region->end >= iter->heap_start;
	if (heap)
		snprintf(iter->file.path, sizeof(iter->file.path), "[heap]");
	else if (region->start <= iter->stack && region->end >= iter->stack)
		snprintf(iter->file.path, sizeof(iter->file.path), "[stack]");
	else if (anon_name(iter, region->object, name))
		snprintf(iter->file.path, sizeof(iter->file.path), "[anon:%s]", name);
}

static void describe_file(struct region_iter *iter, struct hvmi_region *region, uint64_t file)
{
	const struct hvmi_os *os = iter->os;
	char name[ANON_NAME_BYTES];
	uint64_t value;
	region->flags |= HVMI_REGION_FILE;
	if (linux_read(os, iter->space, LINUX_VMA_OFFSET, region->object, &value) == 0)
		region->offset = value * FRAME_SIZE;
	if (linux_file_read(os, iter->space, file, &iter->file))
		region->flags |= HVMI_REGION_PATH_PARTIAL;
	region->inode = iter->file.inode;
	region->device = iter->file.device;
	/* Shared memory may carry a name of the process's own since 6.2; before, the field is
	 * not the file-backed regions'. */
	if (linux_data(os)->version >= (6 << 8 | 2) && anon_name(iter, region->object, name))
		snprintf(iter->file.path, sizeof(iter->file.path), "[anon_shmem:%s]", name);
}

/* The mm has been the task's all the time: else its memory may have been something else's. */
static int check_owner(const struct region_iter *iter, struct hvmi_error *err)
{
	uint64_t mm;
	int rc = linux_task_mm(iter->os, iter->space, &iter->task, &mm, err);
	if (rc || mm != iter->mm)
		return hvmi_error_set(err, -EBUSY, HVMI_NO_ADDRESS,
				      "process %d ended, or began another program",
				      (int)iter->task.pid);
	return 0;
}

int linux_region_next(void *state, struct hvmi_region *ret, struct hvmi_error *err)
{
	struct region_iter *iter = state;
	if (iter->ended || !iter->mm)
		return 0;
	*ret = (struct hvmi_region){ .path = iter->file.path };
	iter->file.path[0] = '\0';
	uint64_t flags, file = 0;
	int rc = next_area(iter, ret, err);
	if (rc != 1) {
		iter->ended = true;
		return rc == 0 && iter->live ? check_owner(iter, err) : rc;
	}
	if (linux_read(iter->os, iter->space, LINUX_VMA_FLAGS, ret->object, &flags)) {
		iter->ended = true;
		return hvmi_error_set(err, -EBADMSG, ret->object, "the region at 0x%llx cannot be read",
				      (unsigned long long)ret->object);
	}
	ret->rights = (flags & VM_READ ? HVMI_RIGHT_READ : 0) |
		      (flags & VM_WRITE ? HVMI_RIGHT_WRITE : 0) |
		      (flags & VM_EXEC ? HVMI_RIGHT_EXECUTE : 0);
	ret->flags = flags & VM_MAYSHARE ? HVMI_REGION_SHARED : 0;
	if (iter->at_gate)
		snprintf(iter->file.path, sizeof(iter->file.path), "[vsyscall]");
	else if (linux_read(iter->os, iter->space, LINUX_VMA_FILE, ret->object, &file) == 0 && file)
		describe_file(iter, ret, file);
	else
		name_anonymous(iter, ret);
	return 1;
}
