/* SPDX-License-Identifier: Apache-2.0 */
#include "xen.h"

#include <ctype.h>

#define DOMAINS_MAX 32752u	/* DOMID_FIRST_RESERVED, xen/include/public/xen.h */

int xen_domain_from(const struct xen_libs *libs, uint32_t id, struct xen_domain *ret)
{
	/* Room for a struct that a later release made longer. */
	union {
		xc_domaininfo_t info;
		uint8_t room[1024];
	} buffer;
	if (id >= DOMAINS_MAX)
		return -ENOENT;
	memset(&buffer, 0, sizeof(buffer));
	int count = libs->xc_domain_getinfolist(libs->xch, id, 1, &buffer.info);
	if (count < 0)
		return xen_code(errno);
	if (count == 0)
		return -ENOENT;
	const xc_domaininfo_t *info = &buffer.info;
	*ret = (struct xen_domain){
		.id = info->domain,
		.hvm = info->flags & XEN_DOMINF_hvm_guest,
		.dying = info->flags & XEN_DOMINF_dying,
		.paused = info->flags & XEN_DOMINF_paused,
		.shut_down = info->flags & XEN_DOMINF_shutdown,
		.hap = info->flags & XEN_DOMINF_hap,
		.pages = info->tot_pages,
		.max_pages = info->max_pages,
		.vcpus = info->max_vcpu_id == XEN_INVALID_MAX_VCPU_ID ? 0 : info->max_vcpu_id + 1,
	};
	memcpy(ret->uuid, info->handle, sizeof(ret->uuid));
	return 0;
}

int xen_domain_alive(const struct xen *xen)
{
	struct xen_domain now;
	int rc = xen_domain_from(&xen->libs, xen->domain.id, &now);
	if (rc == -ENOENT)
		return -ESRCH;
	if (rc)
		return rc;
	/* Ids are given again only after 32 thousand others, but then to another machine. */
	bool same = now.id == xen->domain.id && !memcmp(now.uuid, xen->domain.uuid, 16);
	return same && !now.dying ? 0 : -ESRCH;
}

int xen_failed(const struct xen *xen, struct hvmi_error *err, const char *what)
{
	int error = errno;
	if (xen_domain_alive(xen) == -ESRCH)
		return hvmi_error_set(err, -ESRCH, HVMI_NO_ADDRESS,
				      "domain %u is gone, or is being destroyed", xen->domain.id);
	return hvmi_error_set(err, xen_code(error), HVMI_NO_ADDRESS, "domain %u: %s: %s",
			      xen->domain.id, what, strerror(error));
}

void xen_domain_name(const struct xen_libs *libs, uint32_t id, char *name, size_t size)
{
	char path[64];
	unsigned len = 0;
	name[0] = '\0';
	if (!libs->store)
		return;
	snprintf(path, sizeof(path), "/local/domain/%u/name", id);
	char *text = libs->xs_read(libs->store, XBT_NULL, path, &len);
	if (text)
		snprintf(name, size, "%.*s", (int)len, text);
	free(text);
}

void xen_uuid_text(const uint8_t uuid[16], char text[37])
{
	char *to = text;
	for (int i = 0; i < 16; i++)
		to += sprintf(to, i == 4 || i == 6 || i == 8 || i == 10 ? "-%02x" : "%02x",
			      uuid[i]);
}

static bool is_number(const char *what, uint32_t *ret)
{
	char *end;
	unsigned long number = strtoul(what, &end, 10);
	if (!isdigit((unsigned char)*what) || *end || number >= DOMAINS_MAX)
		return false;
	*ret = (uint32_t)number;
	return true;
}

static bool matches(const struct xen_libs *libs, const struct xen_domain *domain,
		    const char *what)
{
	char uuid[37], name[256];
	xen_uuid_text(domain->uuid, uuid);
	if (strcasecmp(what, uuid) == 0)
		return true;
	xen_domain_name(libs, domain->id, name, sizeof(name));
	return *name && strcmp(what, name) == 0;
}

int xen_domain_find(const struct xen_libs *libs, const char *what, struct xen_domain *ret,
		    struct hvmi_error *err)
{
	struct xen_domain domain = { 0 };
	uint32_t id = 0, wanted;
	bool number = is_number(what, &wanted), found = false;
	int rc = 0;
	if (number) {
		rc = xen_domain_from(libs, wanted, &domain);
		found = !rc && domain.id == wanted;
	} else {
		while (!found && (rc = xen_domain_from(libs, id, &domain)) == 0) {
			found = matches(libs, &domain, what);
			id = domain.id + 1;
		}
	}
	if (rc && rc != -ENOENT)
		return hvmi_error_set(err, rc, HVMI_NO_ADDRESS,
				      "Xen does not list its domains (%s): run as root in dom0",
				      hvmi_error_name(rc));
	if (!found)
		return hvmi_error_set(err, -ENOENT, HVMI_NO_ADDRESS,
				      "Xen has no domain '%s'%s: hvmi-list xen lists them", what,
				      libs->store || number ? "" :
				      " (names cannot be had, because xenstored does not answer)");
	if (domain.dying)
		return hvmi_error_set(err, -ESRCH, HVMI_NO_ADDRESS,
				      "domain %u is being destroyed", domain.id);
	if (domain.id == 0)
		return hvmi_error_set(err, -ENOTSUP, HVMI_NO_ADDRESS,
				      "domain 0 is where this runs: it cannot look into itself");
	*ret = domain;
	return 0;
}

static void xen_close(void *machine)
{
	struct xen *xen = machine;
	xen_holder_close(xen->holder);
	xen_libs_close(&xen->libs);
	free(xen->ranges);
	free(xen);
}

static int xen_open(const struct hvmi_target *target, const struct hvmi_backend_host *host,
		    void **ret, struct hvmi_error *err)
{
	struct xen *xen = calloc(1, sizeof(*xen));
	if (!xen)
		return hvmi_error_set(err, -ENOMEM, HVMI_NO_ADDRESS, "out of memory");
	xen->host = host;
	int rc = xen_libs_open(&xen->libs, err);
	if (!rc)
		rc = xen_domain_find(&xen->libs, hvmi_target_what(target), &xen->domain, err);
	if (!rc)
		rc = xen_memory_ranges(xen, err);
	if (rc) {
		xen_close(xen);
		return rc;
	}
	if (host->flags & HVMI_OPEN_WRITE)
		xen->holder = xen_holder_open(xen);
	*ret = xen;
	return 0;
}

static int xen_describe(void *machine, struct hvmi_machine *ret)
{
	const struct xen *xen = machine;
	ret->arch = HVMI_ARCH_X86;
	ret->vcpus = xen->domain.vcpus;
	ret->ranges = xen->range_count;
	snprintf(ret->format, sizeof(ret->format), "Xen %u.%u %s domain %u", xen->libs.major,
		 xen->libs.minor, xen->domain.hvm ? "HVM/PVH" : "PV", xen->domain.id);
	return 0;
}

static int xen_range(void *machine, uint32_t index, struct hvmi_range *ret)
{
	const struct xen *xen = machine;
	*ret = xen->ranges[index];
	return 0;
}

HVMI_API const struct hvmi_backend *hvmi_backend_entry(uint32_t version_major,
							uint32_t version_minor);

HVMI_API const struct hvmi_backend *hvmi_backend_entry(uint32_t version_major,
							uint32_t version_minor)
{
	static const struct hvmi_backend backend = {
		.size = sizeof(backend),
		.scheme = "xen",
		.open = xen_open,
		.close = xen_close,
		.describe = xen_describe,
		.range = xen_range,
		.read = xen_read,
		.write = xen_write,
		.map_pages = xen_map_pages,
		.unmap_pages = xen_unmap_pages,
		.map_generation = xen_map_generation,
		.pause = xen_pause,
		.resume = xen_resume,
		.get_registers = xen_get_registers,
		.set_registers = xen_set_registers,
		.capability = xen_capability,
		.inject = xen_inject,
		.events_open = xen_events_open,
		.events_close = xen_events_close,
		.event_request = xen_event_request,
		.event_cancel = xen_event_cancel,
		.event_next = xen_event_next,
		.event_answer = xen_event_answer,
		.view_create = xen_view_create,
		.view_destroy = xen_view_destroy,
		.view_switch = xen_view_switch,
		.view_set_rights = xen_view_set_rights,
		.view_get_rights = xen_view_get_rights,
		.view_remap = xen_view_remap,
		.page_create = xen_page_create,
		.page_destroy = xen_page_destroy,
		.watch_open = xen_watch_open,
		.watch_close = xen_watch_close,
		.watch_next = xen_watch_next,
	};
	(void)version_minor;
	return version_major == HVMI_VERSION_MAJOR ? &backend : NULL;
}
