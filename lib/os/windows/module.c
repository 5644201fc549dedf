/* SPDX-License-Identifier: Apache-2.0 */
/* What loaders have loaded: the kernel's, and those of processes. */
#include "os/windows/windows.h"

#define MODULES_BOUND 16384u
#define PATH_BYTES (3u * 32768)

struct module_iter {
	struct hvmi_os *os;
	struct hvmi_space *space;
	const struct windows_user_layout *layout;
	struct list_walk walk;
	uint64_t peb_32;		/* the 32-bit list still to come, or 0 */
	bool process, live;
	char path[PATH_BYTES];
};

const struct windows_user_layout *windows_user_layout(bool wide)
{
	/* _PEB, _PEB_LDR_DATA, _RTL_USER_PROCESS_PARAMETERS, _LDR_DATA_TABLE_ENTRY. */
	static const struct windows_user_layout layout64 = {
		8, 0x10, 0x18, 0x20, 0x10, 0x60, 0x70, 0x80, 0x30, 0x38, 0x40, 0x48, 0x58,
	}, layout32 = {
		4, 0x08, 0x0c, 0x10, 0x0c, 0x38, 0x40, 0x48, 0x18, 0x1c, 0x20, 0x24, 0x2c,
	};
	return wide ? &layout64 : &layout32;
}

static int read_pointer(struct hvmi_space *space, const struct windows_user_layout *layout,
			uint64_t gva, uint64_t *ret)
{
	uint8_t bytes[8] = { 0 };
	int rc = hvmi_space_read(space, gva, bytes, layout->pointer_bytes, NULL);
	if (!rc)
		*ret = load_le64(bytes);
	return rc;
}

static int iter_create(struct hvmi_os *os, uint32_t flags, struct module_iter **ret,
		       struct hvmi_error *err)
{
	struct module_iter *iter = calloc(1, sizeof(*iter));
	if (!iter)
		return hvmi_error_set(err, -ENOMEM, HVMI_NO_ADDRESS, "out of memory");
	iter->os = os;
	iter->live = flags & OS_LIST_LIVE;
	iter->layout = windows_user_layout(windows_data(os)->pointer_bytes == 8);
	*ret = iter;
	return 0;
}

int windows_module_begin(struct hvmi_os *os, uint32_t flags, void **state_ret,
			 struct hvmi_error *err)
{
	struct module_iter *iter = NULL;
	if (!windows_data(os)->modules)
		return hvmi_error_set(err, -ENOTSUP, HVMI_NO_ADDRESS,
				      "modules cannot be listed: PsLoadedModuleList of Windows %s was "
				      "not found", os->release);
	int rc = iter_create(os, flags, &iter, err);
	if (rc)
		return rc;
	rc = hvmi_os_kernel_space(os, &iter->space, err);
	if (rc) {
		free(iter);
		return rc;
	}
	list_begin(&iter->walk, iter->space, windows_data(os)->modules,
		   iter->layout->pointer_bytes, MODULES_BOUND);
	iter->walk.live = iter->live;
	*state_ret = iter;
	return 0;
}

/* Begin the list of one loader. */
static int begin_peb(struct module_iter *iter, uint64_t peb, struct hvmi_error *err)
{
	uint64_t ldr;
	int rc = read_pointer(iter->space, iter->layout, peb + iter->layout->peb_ldr, &ldr);
	if (rc)
		return hvmi_error_set(err, rc, peb, "the PEB at 0x%llx is not in memory",
				      (unsigned long long)peb);
	/* Before the loader has run there is none. */
	if (!ldr) {
		iter->walk = (struct list_walk){ .done = true };
		return 0;
	}
	list_begin(&iter->walk, iter->space, ldr + iter->layout->ldr_modules,
		   iter->layout->pointer_bytes, MODULES_BOUND);
	iter->walk.live = iter->live;
	return 0;
}

int windows_module_begin_task(struct hvmi_os *os, const struct hvmi_task *task, uint32_t flags,
			      void **state_ret, struct hvmi_error *err)
{
	struct module_iter *iter = NULL;
	struct hvmi_task process = *task;
	if (!(task->flags & HVMI_TASK_LEADER))
		return hvmi_error_set(err, -EINVAL, task->object,
				      "modules are those of processes, not of a thread");
	int rc = iter_create(os, flags, &iter, err);
	if (rc)
		return rc;
	iter->process = true;
	iter->walk.done = true;
	rc = hvmi_task_space(os, &process, &iter->space, err);
	/* Its half of the kernel is every process's. */
	if (!rc && iter->live)
		rc = windows_task_check(os, iter->space, task, err);
	if (!rc && !(task->valid & HVMI_TASK_HAS_USER_BLOCK))
		rc = hvmi_error_set(err, -EFAULT, task->object,
				    "where the PEB of process %d is cannot be read", (int)task->pid);
	if (!rc && task->user_block)
		rc = begin_peb(iter, task->user_block, err);
	if (rc) {
		windows_module_end(iter);
		return rc;
	}
	iter->peb_32 = task->user_block_32;
	*state_ret = iter;
	return 0;
}

void windows_module_end(void *state)
{
	struct module_iter *iter = state;
	hvmi_space_destroy(iter->space);
	free(iter);
}

static void read_module(struct module_iter *iter, uint64_t object, struct hvmi_module *ret)
{
	const struct windows_user_layout *l = iter->layout;
	uint8_t bytes[4];
	size_t len;
	*ret = (struct hvmi_module){ .object = object, .path = iter->path,
				     .state = HVMI_MODULE_LIVE,
				     .flags = iter->process && l->pointer_bytes == 4 &&
					      windows_data(iter->os)->pointer_bytes == 8 ?
						      HVMI_MODULE_32BIT : 0 };
	read_pointer(iter->space, l, object + l->module_base, &ret->base);
	read_pointer(iter->space, l, object + l->module_entry, &ret->entry);
	if (hvmi_space_read(iter->space, object + l->module_bytes, bytes, sizeof(bytes), NULL) == 0)
		ret->bytes = load_le32(bytes);
	if (windows_string(iter->space, object + l->module_name, l->pointer_bytes, ret->name,
			   sizeof(ret->name), &len))
		ret->name[0] = '\0';
	if (windows_string(iter->space, object + l->module_path, l->pointer_bytes, iter->path,
			   sizeof(iter->path), &len))
		iter->path[0] = '\0';
}

int windows_module_next(void *state, struct hvmi_module *ret, struct hvmi_error *err)
{
	struct module_iter *iter = state;
	uint64_t link;
	int rc = list_next(&iter->walk, &link, "modules", err);
	if (rc == 0 && iter->peb_32) {
		uint64_t peb = iter->peb_32;
		iter->peb_32 = 0;
		iter->layout = windows_user_layout(false);
		rc = begin_peb(iter, peb, err);
		if (!rc)
			rc = list_next(&iter->walk, &link, "modules", err);
	}
	if (rc != 1)
		return rc;
	read_module(iter, link, ret);
	return 1;
}
