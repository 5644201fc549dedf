/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Pages of our own in a domain, above all that it has. They stay in it until the events are closed:
 * when Xen takes a page that some view may refer to, it resets the view.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "events.h"
#include "journal.h"

/* The domain's limit is raised by so many at a time. */
#define ROOM 64u

static int raise_limit(struct domain *d, struct hvmi_error *err)
{
	struct events *e = d->events;
	struct journal_record *journal = journal_record(d);
	struct domain_info info;
	if (e->room)
		return 0;
	if (domain_get_info(&d->xen, d->id, &info))
		return domain_gone(d, err);
	if (!journal->max_pages)
		journal->max_pages = info.max_pages;
	if (d->xen.l.xc_domain_setmaxmem(d->xen.xc, d->id, (info.max_pages + ROOM) * (PAGE / 1024)))
		return domain_fail(d, err, "raising its memory limit");
	e->room = ROOM;
	return 0;
}

static void *map(const struct domain *d, uint64_t gfn)
{
	xen_pfn_t arr[1] = { gfn };
	int errors[1] = { 0 };
	void *host = d->xen.l.xenforeignmemory_map(d->memory, d->id, PROT_READ | PROT_WRITE, 1, arr,
						   errors);
	if (host && errors[0]) {
		d->xen.l.xenforeignmemory_unmap(d->memory, host, 1);
		errno = errors[0] < 0 ? -errors[0] : errors[0];
		return NULL;
	}
	return host;
}

static int add_page(struct domain *d, struct hvmi_error *err)
{
	struct events *e = d->events;
	struct journal_record *journal = journal_record(d);
	const struct xen_libs *l = &d->xen.l;
	if (!journal->pages) {
		xen_pfn_t max = d->max_gfn;
		if (l->xc_domain_maximum_gpfn(d->xen.xc, d->id, &max))
			return domain_fail(d, err, "asking for its highest page");
		journal->first_page = (max > d->max_gfn ? max : d->max_gfn) + 1;
	}
	xen_pfn_t gfn = journal->first_page + journal->pages;
	/* First: one that is killed in between leaves nothing that is not known. */
	journal->pages++;
	if (l->xc_domain_populate_physmap_exact(d->xen.xc, d->id, 1, 0, 0, &gfn)) {
		int error = errno;
		journal->pages--;
		errno = error;
		return domain_fail(d, err, "giving it a page (Xen needs free memory, and the domain "
				   "shadow_memory)");
	}
	atomic_fetch_add(&d->own_pages, 1);
	e->room--;
	void *host = map(d, gfn);
	e->pages[e->page_count++] = (struct own_page){ .gfn = gfn, .host = host };
	return host ? 0 : domain_fail(d, err, "mapping a page that it was given");
}

static struct own_page *find_page(const struct events *e, uint64_t gfn)
{
	for (size_t i = 0; i < e->page_count; i++)
		if (e->pages[i].gfn == gfn && e->pages[i].used)
			return &e->pages[i];
	return NULL;
}

int page_create(void *machine, uint64_t *gpa_ret, void **host_ret, struct hvmi_error *err)
{
	struct domain *d = machine;
	struct events *e = d->events;
	struct own_page *page = NULL;
	for (size_t i = 0; i < e->page_count && !page; i++)
		if (!e->pages[i].used && e->pages[i].host)
			page = &e->pages[i];
	if (!page) {
		if (e->page_count == e->page_room) {
			size_t room = e->page_room ? 2 * e->page_room : 16;
			struct own_page *pages = realloc(e->pages, room * sizeof(*pages));
			if (!pages)
				return hvmi_error_set(err, -ENOMEM, HVMI_NO_ADDRESS, "out of memory");
			e->pages = pages;
			e->page_room = room;
		}
		int rc = raise_limit(d, err);
		if (!rc)
			rc = add_page(d, err);
		if (rc)
			return rc;
		page = &e->pages[e->page_count - 1];
	}
	memset(page->host, 0, PAGE);
	page->used = true;
	*gpa_ret = page->gfn * PAGE;
	*host_ret = page->host;
	return 0;
}

int page_destroy(void *machine, uint64_t gpa, struct hvmi_error *err)
{
	struct domain *d = machine;
	struct own_page *page = find_page(d->events, gpa / PAGE);
	if (!page)
		return hvmi_error_set(err, -ENOENT, gpa, "%s: this is no page that was made", d->label);
	page->used = false;
	return 0;
}

void pages_close(struct domain *d)
{
	struct events *e = d->events;
	struct journal_record *journal = journal_record(d);
	for (size_t i = 0; i < e->page_count; i++)
		if (e->pages[i].host)
			d->xen.l.xenforeignmemory_unmap(d->memory, e->pages[i].host, 1);
	journal_return_pages(d, journal->first_page, journal->pages, journal->max_pages);
	journal->pages = journal->max_pages = journal->first_page = 0;
	atomic_store(&d->own_pages, 0);
	e->page_count = 0;
}
