/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where a domain has memory. Nobody tells: the map that a guest is given is not kept, and what it
 * was may have changed. But Xen says of each page whether it is memory, without touching it. One page
 * of each 2 MiB is asked for; where that changes from one to the next, all of them. What ballooned out
 * is a part of a range, and absent.
 */
#include "domain.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <xen/hvm/hvm_op.h>

#define CHUNK 512u
/* Pages that a domain has outside of its memory: for its devices, and for Xen's rings. */
#define SLACK 512u
/* More pages of a chunk that are asked for where some memory was not found. */
#define STRIDE 64u

struct search {
	const struct domain *d;
	struct xen_hvm_get_mem_type *question;
	uint8_t *chunks;	/* whether there is memory in it */
	uint64_t count;
	uint64_t pages;		/* found so far */
	bool gone;
};

static bool is_memory(struct search *s, uint64_t gfn)
{
	const struct xen *xen = &s->d->xen;
	*s->question = (struct xen_hvm_get_mem_type){ .domid = (domid_t)s->d->id, .pfn = gfn };
	int rc = xen->l.xencall2(xen->call, __HYPERVISOR_hvm_op, HVMOP_get_mem_type,
				 (uintptr_t)s->question);
	if (rc < 0)
		s->gone = true;
	return rc == 0 && s->question->mem_type != HVMMEM_mmio_dm;
}

static int add_range(struct domain *d, uint64_t first, uint64_t end)
{
	if (first == end)
		return 0;
	if (d->range_count % 16 == 0) {
		struct hvmi_range *ranges =
			realloc(d->ranges, (d->range_count + 16) * sizeof(*ranges));
		if (!ranges)
			return -ENOMEM;
		d->ranges = ranges;
	}
	d->ranges[d->range_count++] =
		(struct hvmi_range){ .gpa = first * PAGE, .len = (end - first) * PAGE };
	return 0;
}

/* The first chunk page by page: the hole below 1 MiB is in it. Where memory goes on from, or CHUNK. */
static int first_chunk(struct search *s, struct domain *d, uint64_t *rest_ret)
{
	uint64_t start = 0;
	bool inside = false;
	for (uint64_t gfn = 0; gfn < CHUNK; gfn++) {
		bool memory = gfn <= d->max_gfn && is_memory(s, gfn);
		if (memory && !inside)
			start = gfn;
		if (!memory && inside && add_range(d, start, gfn))
			return -ENOMEM;
		s->pages += memory;
		inside = memory;
	}
	*rest_ret = inside ? start : CHUNK;
	return 0;
}

/* Runs of chunks with memory, their ends exactly. */
static int collect(struct search *s, struct domain *d)
{
	uint64_t start;
	d->range_count = 0;
	s->pages = 0;
	int rc = first_chunk(s, d, &start);
	bool inside = start < CHUNK;
	for (uint64_t c = 1; !rc && c <= s->count; c++) {
		bool memory = c < s->count && s->chunks[c];
		if (memory && !inside) {
			start = c * CHUNK;
			while (!s->chunks[c - 1] && start > (c - 1) * CHUNK && is_memory(s, start - 1))
				start--;
			while (start < (c + 1) * CHUNK && !is_memory(s, start))
				start++;
		} else if (!memory && inside) {
			uint64_t end = c * CHUNK;
			while (end > (c - 1) * CHUNK && end > start && !is_memory(s, end - 1))
				end--;
			/* The first chunk's were counted. */
			s->pages += end - (start < CHUNK ? CHUNK : start);
			rc = add_range(d, start, end);
		}
		inside = memory;
	}
	return rc;
}

static int search(struct search *s, struct domain *d, uint64_t pages, struct hvmi_error *err)
{
	for (uint64_t c = 1; c < s->count && !s->gone; c++)
		s->chunks[c] = is_memory(s, c * CHUNK);
	int rc = collect(s, d);
	if (!rc && !s->gone && s->pages + SLACK < pages) {
		/* There is more, in chunks whose first page is absent. */
		for (uint64_t c = 1; c < s->count && !s->gone; c++)
			for (uint64_t i = STRIDE - 1; !s->chunks[c] && i < CHUNK; i += STRIDE)
				s->chunks[c] = is_memory(s, c * CHUNK + i);
		rc = collect(s, d);
	}
	if (rc == -ENOMEM)
		return hvmi_error_set(err, rc, HVMI_NO_ADDRESS, "out of memory");
	if (s->gone && !domain_alive(d))
		return domain_gone(d, err);
	if (rc || s->gone || !d->range_count)
		return hvmi_error_set(err, -EIO, HVMI_NO_ADDRESS,
				      "Xen does not tell where the memory of %s is", d->label);
	return 0;
}

/*
 * The toolstack puts memory below 4 GiB, and what has no room there, from 4 GiB on. A guest can move
 * single pages further up, where nobody looks for them, or the search would have no end.
 */
static uint64_t chunks_of(const struct domain *d, const struct domain_info *info)
{
	uint64_t last = (1ull << 20) + (info->max_pages > info->pages ? info->max_pages : info->pages);
	return (d->max_gfn < last ? d->max_gfn : last) / CHUNK + 1;
}

static int find_hvm(struct domain *d, struct hvmi_error *err)
{
	struct domain_info info;
	int rc = domain_get_info(&d->xen, d->id, &info);
	if (rc)
		return domain_gone(d, err);
	struct search s = { .d = d, .count = chunks_of(d, &info) };
	s.chunks = calloc(s.count, 1);
	s.question = d->xen.l.xencall_alloc_buffer(d->xen.call, sizeof(*s.question));
	rc = s.chunks && s.question ? search(&s, d, info.pages, err) :
		 hvmi_error_set(err, -ENOMEM, HVMI_NO_ADDRESS, "out of memory");
	if (s.question)
		d->xen.l.xencall_free_buffer(d->xen.call, s.question);
	free(s.chunks);
	return rc;
}

int ranges_find(struct domain *d, struct hvmi_error *err)
{
	if (d->kind == DOMAIN_PV) {
		d->max_gfn = pv_pages(d->pv) - 1;
		return add_range(d, 0, d->max_gfn + 1) ?
		       hvmi_error_set(err, -ENOMEM, HVMI_NO_ADDRESS, "out of memory") : 0;
	}
	xen_pfn_t max = 0;
	if (d->xen.l.xc_domain_maximum_gpfn(d->xen.xc, d->id, &max))
		return domain_fail(d, err, "asking for its highest page");
	/* The widest guest-physical address of any processor: Intel SDM volume 3, 4.1.4. */
	if (max >> (52 - 12))
		return hvmi_error_set(err, -EIO, HVMI_NO_ADDRESS,
				      "Xen says that the highest page of %s is 0x%llx", d->label,
				      (unsigned long long)max);
	d->max_gfn = max;
	return find_hvm(d, err);
}
