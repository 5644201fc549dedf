/* SPDX-License-Identifier: Apache-2.0 */
/* Guest memory, mapped by the page. */
#include "domain.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#define BATCH 512u

int memory_map_pages(void *machine, uint64_t gpa, uint32_t pages, const void **ret, int32_t *status)
{
	const struct domain *d = machine;
	xen_pfn_t frames[BATCH];
	int errors[BATCH];
	if (d->kind == DOMAIN_PV) {
		int rc = pv_frames(d, gpa / PAGE, pages, frames);
		if (rc)
			return rc;
	} else {
		for (uint32_t i = 0; i < pages; i++)
			frames[i] = gpa / PAGE + i;
	}
	/* The library waits for what Xen's pager has to bring back. */
	void *host = d->xen.l.xenforeignmemory_map(d->memory, d->id,
						   d->write ? PROT_READ | PROT_WRITE : PROT_READ,
						   pages, frames, errors);
	if (!host)
		return domain_alive(d) ? errno == ENOMEM ? -ENOMEM : -EIO : -ESRCH;
	uint32_t absent = 0;
	for (uint32_t i = 0; i < pages; i++) {
		status[i] = errors[i] ? -EFAULT : 0;
		absent += errors[i] != 0;
	}
	if (absent == pages && !domain_alive(d)) {
		d->xen.l.xenforeignmemory_unmap(d->memory, host, pages);
		return -ESRCH;
	}
	*ret = host;
	return 0;
}

void memory_unmap_pages(void *machine, const void *mapping, uint32_t pages)
{
	const struct domain *d = machine;
	d->xen.l.xenforeignmemory_unmap(d->memory, (void *)(uintptr_t)mapping, pages);
}

static int copy(struct domain *d, uint64_t gpa, void *to, const void *from, size_t len)
{
	int32_t status[BATCH];
	for (size_t done = 0, n; done < len; done += n) {
		size_t offset = (gpa + done) % PAGE;
		n = len - done < BATCH * PAGE - offset ? len - done : BATCH * PAGE - offset;
		uint32_t pages = (uint32_t)((offset + n + PAGE - 1) / PAGE);
		const void *host;
		int rc = memory_map_pages(d, gpa + done - offset, pages, &host, status);
		if (rc)
			return rc;
		for (uint32_t i = 0; i < pages && !rc; i++)
			rc = status[i];
		uint8_t *at = (uint8_t *)(uintptr_t)host + offset;
		if (!rc && to)
			memcpy((char *)to + done, at, n);
		else if (!rc)
			memcpy(at, (const char *)from + done, n);
		memory_unmap_pages(d, host, pages);
		if (rc)
			return rc;
	}
	return 0;
}

int memory_read(void *machine, uint64_t gpa, void *buf, size_t len)
{
	return copy(machine, gpa, buf, NULL, len);
}

int memory_write(void *machine, uint64_t gpa, const void *buf, size_t len)
{
	return copy(machine, gpa, NULL, buf, len);
}

/*
 * A page that is given back while it is mapped stays mapped, and its place may get another one. There
 * is no count of such changes; the number of pages tells of most. A domain that is gone has none.
 */
uint64_t memory_generation(void *machine)
{
	const struct domain *d = machine;
	struct domain_info info;
	int rc = domain_get_info(&d->xen, d->id, &info);
	if (rc == -ESRCH || (rc == 0 && info.flags & XEN_DOMINF_dying))
		return UINT64_MAX;
	return rc ? 0 : info.pages - atomic_load(&d->own_pages);
}
