/* SPDX-License-Identifier: Apache-2.0 */
#include "xen.h"

#include <sys/mman.h>

/* Frames at which a chunk is asked whether it is RAM: a guest may have ballooned some out. */
#define SAMPLES 8u
/* Between these the toolstack keeps devices and pages of its own: tools/libs/light, x86 layout. */
#define HOLE_START 0xf0000000ull
#define HOLE_END 0x100000000ull

/* Which of these frames the domain has. Mapping them changes nothing in it. */
static int probe(struct xen *xen, size_t count, const xen_pfn_t *frames, int *errors)
{
	void *at = xen->libs.xenforeignmemory_map(xen->libs.memory, xen->domain.id, PROT_READ,
						  count, frames, errors);
	if (!at)
		return xen_code(errno);
	xen->libs.xenforeignmemory_unmap(xen->libs.memory, at, count);
	return 0;
}

static int add_range(struct xen *xen, uint64_t first, uint64_t end)
{
	struct hvmi_range *last = xen->range_count ? &xen->ranges[xen->range_count - 1] : NULL;
	if (last && last->gpa + last->len == first * XEN_PAGE) {
		last->len += (end - first) * XEN_PAGE;
		return 0;
	}
	struct hvmi_range *ranges = realloc(xen->ranges, (xen->range_count + 1) * sizeof(*ranges));
	if (!ranges)
		return -ENOMEM;
	xen->ranges = ranges;
	ranges[xen->range_count++] = (struct hvmi_range){ .gpa = first * XEN_PAGE,
							   .len = (end - first) * XEN_PAGE };
	return 0;
}

/* The last frame of a chunk whose first is there: its end may be the end of RAM. */
static int chunk_end(struct xen *xen, uint64_t first, uint64_t end, uint64_t *end_ret)
{
	int errors[XEN_CHUNK] = { 0 };
	xen_pfn_t frames[XEN_CHUNK];
	for (uint64_t i = 0; i < end - first; i++)
		frames[i] = first + i;
	int rc = probe(xen, end - first, frames, errors);
	while (!rc && end > first && errors[end - first - 1])
		end--;
	*end_ret = end;
	return rc;
}

/*
 * Xen does not tell the memory map of another domain, so it is looked at: a chunk of 2 MiB is RAM if
 * a sample of it is there. In the hole below 4 GiB only what continues RAM from below counts.
 */
static int probe_ranges(struct xen *xen)
{
	enum { BATCH = XEN_CHUNK / SAMPLES };
	uint64_t frames_end = xen->max_gfn + 1;
	for (uint64_t at = 0; at < frames_end; at += (uint64_t)BATCH * XEN_CHUNK) {
		int errors[XEN_CHUNK] = { 0 };
		xen_pfn_t frames[XEN_CHUNK];
		for (uint64_t i = 0; i < XEN_CHUNK; i++)
			frames[i] = at + i * (XEN_CHUNK / SAMPLES);
		int rc = probe(xen, XEN_CHUNK, frames, errors);
		for (uint64_t c = 0; c < BATCH && !rc; c++) {
			uint64_t first = at + c * XEN_CHUNK, end = first + XEN_CHUNK;
			bool there = false;
			for (uint64_t i = 0; i < SAMPLES; i++)
				there |= !errors[c * SAMPLES + i];
			const struct hvmi_range *last =
				xen->range_count ? &xen->ranges[xen->range_count - 1] : NULL;
			bool continues = last && last->gpa + last->len == first * XEN_PAGE;
			bool hole = first * XEN_PAGE >= HOLE_START && first * XEN_PAGE < HOLE_END;
			if (!there || first >= frames_end || (hole && !continues))
				continue;
			if (errors[c * SAMPLES + SAMPLES - 1])
				rc = chunk_end(xen, first, end, &end);
			if (!rc && end > first)
				rc = add_range(xen, first, end);
		}
		if (rc)
			return rc;
	}
	return 0;
}

/* What a domain may have at most, where looking would fill it: memory that is populated on demand. */
static int assume_ranges(struct xen *xen)
{
	uint64_t low_end = HOLE_START / XEN_PAGE, high = HOLE_END / XEN_PAGE;
	int rc = add_range(xen, 0, xen->max_gfn < low_end ? xen->max_gfn + 1 : low_end);
	return !rc && xen->max_gfn >= high ? add_range(xen, high, xen->max_gfn + 1) : rc;
}

int xen_memory_ranges(struct xen *xen, struct hvmi_error *err)
{
	struct xen_libs *libs = &xen->libs;
	xen_pfn_t max = 0;
	uint64_t total = 0, cached = 0, on_demand = 0;
	xen->pages = xen->domain.pages;
	/* Frames of a PV domain are the machine's: those that are not its own are absent. */
	if (!xen->domain.hvm) {
		unsigned long last = 0;
		if (libs->xc_maximum_ram_page(libs->xch, &last) < 0)
			return xen_failed(xen, err, "the machine's memory cannot be told");
		xen->max_gfn = last;
		if (add_range(xen, 0, xen->max_gfn + 1))
			return hvmi_error_set(err, -ENOMEM, HVMI_NO_ADDRESS, "out of memory");
		xen->host->log(xen->host, HVMI_LOG_WARNING,
			       "domain %u is a PV guest: guest-physical addresses are the "
			       "machine's, as its page tables hold them", xen->domain.id);
		return 0;
	}
	if (libs->xc_domain_maximum_gpfn(libs->xch, xen->domain.id, &max) < 0)
		return xen_failed(xen, err, "its highest frame cannot be told");
	xen->max_gfn = max;
	if (libs->xc_domain_get_pod_target(libs->xch, xen->domain.id, &total, &cached,
					   &on_demand) < 0)
		on_demand = 0;
	int rc = on_demand ? assume_ranges(xen) : probe_ranges(xen);
	if (rc)
		return hvmi_error_set(err, rc, HVMI_NO_ADDRESS,
				      "the memory of domain %u cannot be mapped (%s)",
				      xen->domain.id, hvmi_error_name(rc));
	if (!xen->range_count)
		return hvmi_error_set(err, -ENOENT, HVMI_NO_ADDRESS,
				      "domain %u has no memory (is it being built?)",
				      xen->domain.id);
	return 0;
}

int xen_map_pages(void *machine, uint64_t gpa, uint32_t pages, const void **ret, int32_t *status)
{
	struct xen *xen = machine;
	int errors[XEN_CHUNK] = { 0 };
	xen_pfn_t frames[XEN_CHUNK];
	for (uint32_t i = 0; i < pages; i++)
		frames[i] = gpa / XEN_PAGE + i;
	int access = xen->host->flags & HVMI_OPEN_WRITE ? PROT_READ | PROT_WRITE : PROT_READ;
	void *at = xen->libs.xenforeignmemory_map(xen->libs.memory, xen->domain.id, access, pages,
						  frames, errors);
	if (!at)
		return xen_domain_alive(xen) == -ESRCH ? -ESRCH : xen_code(errno);
	for (uint32_t i = 0; i < pages; i++)
		status[i] = errors[i] ? -EFAULT : 0;
	*ret = at;
	return 0;
}

void xen_unmap_pages(void *machine, const void *mapping, uint32_t pages)
{
	struct xen *xen = machine;
	xen->libs.xenforeignmemory_unmap(xen->libs.memory, (void *)(uintptr_t)mapping, pages);
}

/* Pages from one mapping: to or from is NULL. */
static int copy(void *machine, uint64_t gpa, uint8_t *to, const uint8_t *from, size_t len)
{
	for (size_t done = 0; done < len;) {
		uint64_t first = (gpa + done) & ~(uint64_t)(XEN_PAGE - 1);
		uint64_t skip = gpa + done - first;
		uint64_t want = (skip + (len - done) + XEN_PAGE - 1) / XEN_PAGE;
		uint32_t pages = want < XEN_CHUNK ? (uint32_t)want : XEN_CHUNK;
		size_t n = pages * (size_t)XEN_PAGE - skip;
		int32_t status[XEN_CHUNK];
		const void *at;
		n = n < len - done ? n : len - done;
		int rc = xen_map_pages(machine, first, pages, &at, status);
		if (rc)
			return rc;
		for (uint32_t i = 0; i < pages && !rc; i++)
			rc = status[i];
		uint8_t *host = (uint8_t *)(uintptr_t)at + skip;
		if (!rc && to)
			memcpy(to + done, host, n);
		else if (!rc)
			memcpy(host, from + done, n);
		xen_unmap_pages(machine, at, pages);
		if (rc)
			return rc;
		done += n;
	}
	return 0;
}

int xen_read(void *machine, uint64_t gpa, void *buf, size_t len)
{
	return copy(machine, gpa, buf, NULL, len);
}

int xen_write(void *machine, uint64_t gpa, const void *buf, size_t len)
{
	return copy(machine, gpa, NULL, buf, len);
}

/* A guest that gives pages back and takes others has another number of them in between. */
uint64_t xen_map_generation(void *machine)
{
	struct xen *xen = machine;
	struct xen_domain now;
	if (xen_domain_from(&xen->libs, xen->domain.id, &now) || now.id != xen->domain.id)
		return __atomic_load_n(&xen->generation, __ATOMIC_RELAXED);
	if (__atomic_exchange_n(&xen->pages, now.pages, __ATOMIC_RELAXED) != now.pages)
		return __atomic_add_fetch(&xen->generation, 1, __ATOMIC_RELAXED);
	return __atomic_load_n(&xen->generation, __ATOMIC_RELAXED);
}
