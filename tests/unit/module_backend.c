/* SPDX-License-Identifier: Apache-2.0 */
/* A backend in a module: one page of RAM that holds WHAT of its target. */
#include <stdlib.h>
#include <string.h>

#include <hvmi/backend.h>

HVMI_API const struct hvmi_backend *hvmi_backend_entry(uint32_t major, uint32_t minor);

static int module_open(const struct hvmi_target *target, const struct hvmi_backend_host *host,
		       void **ret, struct hvmi_error *err)
{
	(void)host;
	const char *size = hvmi_target_option(target, "size");
	uint64_t bytes = 4096;
	if (size && hvmi_parse_u64(size, &bytes))
		return hvmi_error_set(err, -EINVAL, HVMI_NO_ADDRESS, "size= is no number");
	char *page = calloc(1, 4096);
	if (!page)
		return -ENOMEM;
	strncpy(page, hvmi_target_what(target), 4095);
	*ret = page;
	return 0;
}

static int module_describe(void *machine, struct hvmi_machine *ret)
{
	(void)machine;
	ret->ranges = 1;
	return 0;
}

static int module_range(void *machine, uint32_t index, struct hvmi_range *ret)
{
	(void)machine;
	(void)index;
	*ret = (struct hvmi_range){ 0x1000, 4096 };
	return 0;
}

static int module_read(void *machine, uint64_t gpa, void *buf, size_t len)
{
	memcpy(buf, (char *)machine + (gpa - 0x1000), len);
	return 0;
}

const struct hvmi_backend *hvmi_backend_entry(uint32_t major, uint32_t minor)
{
	static const struct hvmi_backend backend = {
		.size = sizeof(backend),
		.scheme = "module",
		.open = module_open,
		.close = free,
		.describe = module_describe,
		.range = module_range,
		.read = module_read,
	};
	(void)minor;
	return major == HVMI_VERSION_MAJOR ? &backend : NULL;
}
