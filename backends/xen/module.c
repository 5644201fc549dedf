/* SPDX-License-Identifier: Apache-2.0 */
/* `xen:NAME`, `xen:NUMBER`, `xen:UUID`. */
#include <stdio.h>

#include "events.h"
#include "watch.h"

const struct hvmi_backend *hvmi_backend_entry(uint32_t version_major, uint32_t version_minor);

/* Numbers of domains come again only after thousands of others. */
static int identity(void *machine, char *buf, size_t size)
{
	const struct domain *d = machine;
	char uuid[40];
	domain_format_uuid(d->uuid, uuid);
	int len = snprintf(buf, size, "Xen, domain %u, UUID %s", d->id, uuid);
	return len > 0 && (size_t)len < size ? 0 : -EOVERFLOW;
}

HVMI_API const struct hvmi_backend *hvmi_backend_entry(uint32_t version_major, uint32_t version_minor)
{
	static const struct hvmi_backend backend = {
		.size = sizeof(backend),
		.scheme = "xen",
		.open = domain_open,
		.close = domain_close,
		.describe = domain_describe,
		.range = domain_range,
		.read = memory_read,
		.write = memory_write,
		.get_registers = vcpu_get_registers,
		.set_registers = vcpu_set_registers,
		.pause = domain_pause,
		.resume = domain_resume,
		.capability = domain_capability,
		.inject = domain_inject,
		.events_open = events_open,
		.events_close = events_close,
		.event_request = events_request,
		.event_cancel = events_cancel,
		.event_next = events_next,
		.event_answer = events_answer,
		.view_create = view_create,
		.view_destroy = view_destroy,
		.view_switch = view_switch,
		.view_set_rights = view_set_rights,
		.view_get_rights = view_get_rights,
		.view_remap = view_remap,
		.page_create = page_create,
		.page_destroy = page_destroy,
		.watch_open = watch_open,
		.watch_close = watch_close,
		.watch_next = watch_next,
		.map_pages = memory_map_pages,
		.unmap_pages = memory_unmap_pages,
		.map_generation = memory_generation,
		.identity = identity,
	};
	(void)version_minor;
	return version_major == HVMI_VERSION_MAJOR ? &backend : NULL;
}
