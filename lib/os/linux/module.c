/* SPDX-License-Identifier: Apache-2.0 */
#include "os/linux/linux.h"

#define MODULES_BOUND 65536u
#define MODULE_PARTS_MAX 32u	/* enum mod_mem_type has 7 */

struct module_iter {
	struct hvmi_os *os;
	struct hvmi_space *space;
	struct list_walk walk;
};

int linux_module_begin(struct hvmi_os *os, uint32_t flags, void **state_ret,
		       struct hvmi_error *err)
{
	static const enum linux_member needed[] = { LINUX_MODULE_LIST, LINUX_MODULE_NAME };
	int rc = linux_require(os, "modules", needed, ARRAY_SIZE(needed), err);
	if (rc)
		return rc;
	if (!linux_data(os)->modules)
		return hvmi_error_set(err, -ENOTSUP, HVMI_NO_ADDRESS,
				      "modules cannot be listed: kernel %s has no symbol 'modules' "
				      "(CONFIG_MODULES, CONFIG_KALLSYMS_ALL)", os->release);
	struct module_iter *iter = calloc(1, sizeof(*iter));
	if (!iter)
		return hvmi_error_set(err, -ENOMEM, HVMI_NO_ADDRESS, "out of memory");
	iter->os = os;
	rc = hvmi_os_kernel_space(os, &iter->space, err);
	if (rc) {
		free(iter);
		return rc;
	}
	list_begin(&iter->walk, iter->space, linux_data(os)->modules, 8, MODULES_BOUND);
	iter->walk.live = flags & OS_LIST_LIVE;
	*state_ret = iter;
	return 0;
}

void linux_module_end(void *state)
{
	struct module_iter *iter = state;
	hvmi_space_destroy(iter->space);
	free(iter);
}

/* Since 6.4 a module's parts are an array: struct module_memory mem[MOD_MEM_NUM_TYPES]. */
static uint64_t parts_size(const struct module_iter *iter, uint64_t object)
{
	const struct linux_os *data = linux_data(iter->os);
	const struct hvmi_member *mem = &data->members[LINUX_MODULE_MEM];
	struct hvmi_type array = { .size = sizeof(array) };
	uint64_t sum = 0;
	if (hvmi_profile_type(iter->os->profile, mem->type, &array) ||
	    array.kind != HVMI_TYPE_ARRAY || array.count == 0)
		return 0;
	for (uint32_t i = 0; i < MIN(array.count, MODULE_PARTS_MAX); i++) {
		struct hvmi_member size = data->members[LINUX_MODULE_MEM_SIZE];
		uint64_t bytes;
		size.hops[0] += i * (mem->bytes / array.count);
		if (hvmi_member_read(&size, iter->space, object, &bytes) == 0)
			sum += bytes;
	}
	return sum;
}

int linux_module_next(void *state, struct hvmi_module *ret, struct hvmi_error *err)
{
	struct module_iter *iter = state;
	uint64_t link, name, value;
	int rc = list_next(&iter->walk, &link, "modules", err);
	if (rc != 1)
		return rc;
	uint64_t object = linux_container(iter->os, LINUX_MODULE_LIST, link);
	*ret = (struct hvmi_module){ .object = object, .path = "" };
	if (linux_address(iter->os, iter->space, LINUX_MODULE_NAME, object, &name) ||
	    hvmi_space_read_string(iter->space, name, ret->name, sizeof(ret->name), NULL))
		return hvmi_error_set(err, -EBADMSG, object,
				      "the list of modules leads to 0x%llx, where there is none",
				      (unsigned long long)object);
	/* enum module_state: live, coming, going, unformed since 3.5. */
	if (linux_read(iter->os, iter->space, LINUX_MODULE_STATE, object, &value) == 0 && value < 4)
		ret->state = HVMI_MODULE_LIVE + (uint32_t)value;
	if (linux_has(iter->os, LINUX_MODULE_MEM)) {
		linux_read(iter->os, iter->space, LINUX_MODULE_MEM_BASE, object, &ret->base);
		ret->bytes = parts_size(iter, object);
	} else {
		linux_read(iter->os, iter->space, LINUX_MODULE_BASE, object, &ret->base);
		linux_read(iter->os, iter->space, LINUX_MODULE_SIZE, object, &ret->bytes);
		if (linux_read(iter->os, iter->space, LINUX_MODULE_INIT_SIZE, object, &value) == 0)
			ret->bytes += value;
	}
	return 1;
}
