/* SPDX-License-Identifier: Apache-2.0 */
#include "domain.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "events.h"
#include "journal.h"

/* Xen gives numbers up to this to domains: DOMID_FIRST_RESERVED. */
#define DOMAINS_MAX 0x7ff0u

/* struct xen_domctl_getdomaininfo, up to its part of the architecture: from Xen 4.16 on 8 bytes more. */
enum {
	INFO_DOMAIN = 0, INFO_FLAGS = 4, INFO_PAGES = 8, INFO_MAX_PAGES = 16, INFO_SHARED_INFO = 48,
	INFO_MAX_VCPU = 68, INFO_HANDLE = 76, INFO_ARCH_OLD = 96, INFO_ARCH = 104,
};
_Static_assert(offsetof(xc_domaininfo_t, flags) == INFO_FLAGS &&
	       offsetof(xc_domaininfo_t, max_pages) == INFO_MAX_PAGES &&
	       offsetof(xc_domaininfo_t, shared_info_frame) == INFO_SHARED_INFO &&
	       offsetof(xc_domaininfo_t, max_vcpu_id) == INFO_MAX_VCPU &&
	       offsetof(xc_domaininfo_t, handle) == INFO_HANDLE, "another layout");

static uint64_t load64(const uint8_t *at)
{
	uint64_t value;
	memcpy(&value, at, sizeof(value));
	return value;
}

static uint32_t load32(const uint8_t *at)
{
	uint32_t value;
	memcpy(&value, at, sizeof(value));
	return value;
}

int domain_next_info(const struct xen *xen, uint32_t from, struct domain_info *ret)
{
	/* However large the structure is in this release. */
	union {
		xc_domaininfo_t info;
		uint8_t bytes[512];
	} raw = { .bytes = { 0 } };
	int count = xen->l.xc_domain_getinfolist(xen->xc, from, 1, &raw.info);
	if (count < 0)
		return xen_code(errno);
	if (count == 0)
		return -ESRCH;
	const uint8_t *b = raw.bytes;
	*ret = (struct domain_info){
		.id = load32(b + INFO_DOMAIN) & 0xffff, .flags = load32(b + INFO_FLAGS),
		.pages = load64(b + INFO_PAGES), .max_pages = load64(b + INFO_MAX_PAGES),
		.shared_info = load64(b + INFO_SHARED_INFO),
		.vcpus = load32(b + INFO_MAX_VCPU) + 1,
	};
	memcpy(ret->uuid, b + INFO_HANDLE, sizeof(ret->uuid));
	/* PVH guests have no interrupt controller of a PC. */
	uint32_t emulated = load32(b + (xen_since(xen, 16, 0) ? INFO_ARCH : INFO_ARCH_OLD));
	ret->kind = !(ret->flags & XEN_DOMINF_hvm_guest) ? DOMAIN_PV :
		    emulated & XEN_X86_EMU_PIC ? DOMAIN_HVM : DOMAIN_PVH;
	return 0;
}

int domain_get_info(const struct xen *xen, uint32_t id, struct domain_info *ret)
{
	struct domain_info info;
	int rc = domain_next_info(xen, id, &info);
	if (!rc && info.id != id)
		rc = -ESRCH;
	if (!rc)
		*ret = info;
	return rc;
}

void domain_name(const struct xen *xen, struct xs_handle *store, uint32_t id, char *buf,
		 size_t size)
{
	char path[64];
	snprintf(path, sizeof(path), "/local/domain/%u/name", id);
	if (!xen_store_read(xen, store, path, buf, size))
		buf[0] = '\0';
}

void domain_format_uuid(const uint8_t uuid[16], char buf[40])
{
	char *at = buf;
	for (int i = 0; i < 16; i++) {
		if (i == 4 || i == 6 || i == 8 || i == 10)
			*at++ = '-';
		at += sprintf(at, "%02x", uuid[i]);
	}
}

const char *domain_kind_name(enum domain_kind kind)
{
	static const char *const names[] = { "pv", "hvm", "pvh" };
	return names[kind];
}

bool domain_alive(const struct domain *d)
{
	struct domain_info info;
	int rc = domain_get_info(&d->xen, d->id, &info);
	/* Numbers are used again. */
	return rc ? rc != -ESRCH : !(info.flags & XEN_DOMINF_dying) &&
				   memcmp(info.uuid, d->uuid, sizeof(d->uuid)) == 0;
}

int domain_gone(const struct domain *d, struct hvmi_error *err)
{
	return hvmi_error_set(err, -ESRCH, HVMI_NO_ADDRESS,
			      "%s is gone, or is being destroyed: close it, so that Xen can free "
			      "its memory", d->label);
}

int domain_fail(const struct domain *d, struct hvmi_error *err, const char *format, ...)
{
	int error = errno;
	if (!domain_alive(d))
		return domain_gone(d, err);
	char what[200];
	va_list args;
	va_start(args, format);
	vsnprintf(what, sizeof(what), format, args);
	va_end(args);
	/* The machine is there: it was something else that was not found. */
	int code = error == ESRCH ? -ENOENT : xen_code(error);
	return hvmi_error_set(err, code, HVMI_NO_ADDRESS, "%s: %s failed: %s", d->label, what,
			      error == EACCES || error == EPERM ?
			      "no permission (run as root in dom0)" : strerror(error));
}

static bool parse_uuid(const char *text, uint8_t uuid[16])
{
	int digits = 0;
	for (; *text; text++) {
		if (*text == '-' && (digits == 8 || digits == 12 || digits == 16 || digits == 20) &&
		    text[1] != '-')
			continue;
		const char *hex = "0123456789abcdef";
		const char *at = strchr(hex, *text | 0x20);
		if (!at || digits == 32)
			return false;
		uint8_t nibble = (uint8_t)(at - hex);
		uuid[digits / 2] = (uint8_t)(digits % 2 ? uuid[digits / 2] | nibble : nibble << 4);
		digits++;
	}
	return digits == 32;
}

/* NUMBER, UUID or NAME, in this order. */
static int find(struct domain *d, const char *what, struct domain_info *ret, struct hvmi_error *err)
{
	const struct xen *xen = &d->xen;
	uint8_t uuid[16] = { 0 };
	uint64_t number;
	bool by_uuid = parse_uuid(what, uuid);
	bool by_number = !by_uuid && strspn(what, "0123456789") == strlen(what) &&
			 hvmi_parse_u64(what, &number) == 0;
	struct xs_handle *store = xen->l.xs_open(0);
	char name[128] = "";
	int rc = by_number ? number < DOMAINS_MAX ?
			     domain_get_info(xen, (uint32_t)number, ret) : -ESRCH : -ESRCH;
	if (by_number && rc == 0)
		domain_name(xen, store, ret->id, name, sizeof(name));
	/* A name may consist of digits, too. */
	for (uint32_t id = 0; rc == -ESRCH && id < DOMAINS_MAX; id = ret->id + 1) {
		rc = domain_next_info(xen, id, ret);
		if (rc)
			break;
		domain_name(xen, store, ret->id, name, sizeof(name));
		if (by_uuid ? memcmp(ret->uuid, uuid, sizeof(uuid)) != 0 : strcmp(name, what) != 0)
			rc = -ESRCH;
	}
	if (rc == -ESRCH && !store && !by_uuid && !by_number)
		rc = hvmi_error_set(err, -EACCES, HVMI_NO_ADDRESS,
				    "xenstore, which knows the names of domains, cannot be reached: "
				    "run as root in dom0, or name the domain by number or UUID");
	else if (rc == -ESRCH)
		rc = hvmi_error_set(err, -ENOENT, HVMI_NO_ADDRESS,
				    "there is no domain '%s' (number, name or UUID): hvmi-list xen "
				    "tells which there are", what);
	else if (rc)
		rc = hvmi_error_set(err, rc, HVMI_NO_ADDRESS, "Xen does not tell its domains%s",
				    rc == -EACCES ? ": run as root, in dom0" : "");
	if (rc == 0)
		snprintf(d->label, sizeof(d->label), "domain %u%s%s%s", ret->id, name[0] ? " (" : "",
			 name, name[0] ? ")" : "");
	if (store)
		xen->l.xs_close(store);
	return rc;
}

static int take_info(struct domain *d, const struct domain_info *info, struct hvmi_error *err)
{
	d->id = info->id;
	d->kind = info->kind;
	d->vcpus = info->vcpus;
	d->hap = info->flags & XEN_DOMINF_hap;
	memcpy(d->uuid, info->uuid, sizeof(d->uuid));
	if (d->id == 0)
		return hvmi_error_set(err, -ENOTSUP, HVMI_NO_ADDRESS,
				      "domain 0 is where this program runs: it cannot look at itself");
	if (info->flags & XEN_DOMINF_dying)
		return domain_gone(d, err);
	if (d->vcpus == 0 || d->vcpus > 8192)
		return hvmi_error_set(err, -EBUSY, HVMI_NO_ADDRESS,
				      "%s has no vCPUs: it is being built, try again", d->label);
	return 0;
}

static int attach(struct domain *d, const char *what, struct hvmi_error *err)
{
	struct domain_info info;
	int rc = find(d, what, &info, err);
	if (!rc)
		rc = take_info(d, &info, err);
	if (rc)
		return rc;
	d->memory = d->xen.l.xenforeignmemory_open(&d->xen.logger.base, 0);
	if (!d->memory)
		return domain_fail(d, err, "opening /dev/xen/privcmd for its memory");
	if (d->write && d->kind != DOMAIN_PV) {
		d->model = d->xen.l.xendevicemodel_open(&d->xen.logger.base, 0);
		if (!d->model)
			return domain_fail(d, err, "opening /dev/xen/privcmd for injections");
	}
	if (d->kind == DOMAIN_PV)
		rc = pv_open(d, &info, err);
	else if (d->xen.l.xc_monitor_get_capabilities)
		d->xen.l.xc_monitor_get_capabilities(d->xen.xc, d->id, &d->monitor_events);
	if (!rc)
		rc = ranges_find(d, err);
	return rc ? rc : journal_recover(d, err);
}

int domain_open(const struct hvmi_target *target, const struct hvmi_backend_host *host, void **ret,
		struct hvmi_error *err)
{
	struct domain *d = calloc(1, sizeof(*d));
	if (!d)
		return hvmi_error_set(err, -ENOMEM, HVMI_NO_ADDRESS, "out of memory");
	int rc = xen_connect(&d->xen, host, err);
	if (rc) {
		free(d);
		return rc;
	}
	d->write = host->flags & HVMI_OPEN_WRITE;
	rc = attach(d, hvmi_target_what(target), err);
	if (rc) {
		domain_close(d);
		return rc;
	}
	*ret = d;
	return 0;
}

void domain_close(void *machine)
{
	struct domain *d = machine;
	journal_close(d);
	pv_close(d->pv);
	if (d->model)
		d->xen.l.xendevicemodel_close(d->model);
	if (d->memory)
		d->xen.l.xenforeignmemory_close(d->memory);
	xen_disconnect(&d->xen);
	free(d->ranges);
	free(d);
}

int domain_describe(void *machine, struct hvmi_machine *ret)
{
	const struct domain *d = machine;
	ret->arch = HVMI_ARCH_X86;
	ret->vcpus = d->vcpus;
	ret->ranges = d->range_count;
	snprintf(ret->format, sizeof(ret->format), d->kind == DOMAIN_PV ? "Xen PV, Xen %u.%u" :
		 d->kind == DOMAIN_PVH ? "Xen %u.%u, PVH" : "Xen %u.%u, HVM", d->xen.major,
		 d->xen.minor);
	return 0;
}

int domain_range(void *machine, uint32_t index, struct hvmi_range *ret)
{
	*ret = ((struct domain *)machine)->ranges[index];
	return 0;
}

int domain_pause(void *machine, struct hvmi_error *err)
{
	struct domain *d = machine;
	/* First: one that is killed in between leaves a domain that can be helped. */
	int rc = journal_add_pause(d, 1, err);
	if (rc)
		return rc;
	if (d->xen.l.xc_domain_pause(d->xen.xc, d->id) == 0)
		return 0;
	rc = domain_fail(d, err, "pausing it");
	journal_add_pause(d, -1, NULL);
	return rc;
}

int domain_resume(void *machine, struct hvmi_error *err)
{
	struct domain *d = machine;
	if (d->xen.l.xc_domain_unpause(d->xen.xc, d->id))
		return domain_fail(d, err, "resuming it");
	journal_add_pause(d, -1, NULL);
	return 0;
}

int domain_inject(void *machine, uint32_t vcpu, const struct hvmi_injection *injection,
		  struct hvmi_error *err)
{
	struct domain *d = machine;
	if (d->kind == DOMAIN_PV)
		return hvmi_error_set(err, -ENOTSUP, HVMI_NO_ADDRESS,
				      "%s is a PV guest: nothing can be injected", d->label);
	int rc = d->xen.l.xendevicemodel_inject_event(
		d->model, (domid_t)d->id, (int)vcpu, (uint8_t)injection->vector,
		(uint8_t)injection->type, injection->error_code, (uint8_t)injection->insn_length,
		injection->cr2);
	if (rc && errno == EBUSY)
		return hvmi_error_set(err, -EBUSY, HVMI_NO_ADDRESS,
				      "vCPU %u of %s has an injection waiting: let it run first", vcpu,
				      d->label);
	return rc ? domain_fail(d, err, "injecting vector %u into vCPU %u", injection->vector, vcpu) :
		    0;
}
