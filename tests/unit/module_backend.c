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

struct watch {
	char words[100];
	size_t next;
};

/* Watching: each word of WHERE is a machine that is there; "broken" is an error. "refuse" is no place. */
static int module_watch_open(const char *where, const struct hvmi_backend_host *host, void **ret,
			     int *fd_ret, struct hvmi_error *err)
{
	if (!strcmp(where, "refuse"))
		return hvmi_error_set(err, -EACCES, HVMI_NO_ADDRESS, "refused");
	struct watch *watch = calloc(1, sizeof(*watch));
	if (!watch)
		return -ENOMEM;
	strncpy(watch->words, where, sizeof(watch->words) - 1);
	host->log(host, HVMI_LOG_INFO, "watching '%s', flags %u", where, host->flags);
	*ret = watch;
	*fd_ret = 0;
	return 0;
}

static int module_watch_next(void *state, struct hvmi_machine_news *ret, struct hvmi_error *err)
{
	struct watch *watch = state;
	const char *word = watch->words + watch->next;
	size_t len = strcspn(word, " ");
	if (!len)
		return 0;
	if (!strncmp(word, "broken", len))
		return hvmi_error_set(err, -EIO, HVMI_NO_ADDRESS, "broken");
	ret->change = HVMI_MACHINE_PRESENT;
	ret->id = 5;
	memcpy(ret->name, word, len);
	watch->next += len + (word[len] == ' ');
	return 1;
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
		.watch_open = module_watch_open,
		.watch_close = free,
		.watch_next = module_watch_next,
	};
	(void)minor;
	return major == HVMI_VERSION_MAJOR ? &backend : NULL;
}
