/* SPDX-License-Identifier: Apache-2.0 */
#include "ring.h"

#include <sys/mman.h>

/* XENMEM_access_*: bits 0 to 2 are our rights. Since 4.20 there is one more. */
#define ACCESS_ALL 7u
#define ACCESS_R_PW 10u

static int access_of(uint32_t rights, xenmem_access_t *ret, struct hvmi_error *err)
{
	uint32_t plain = rights & ACCESS_ALL;
	if (rights & HVMI_RIGHT_PAGE_WALK && plain == HVMI_RIGHT_READ) {
		*ret = (xenmem_access_t)ACCESS_R_PW;
		return 0;
	}
	if (rights & HVMI_RIGHT_PAGE_WALK && !(plain & HVMI_RIGHT_WRITE))
		return hvmi_error_set(err, -ENOTSUP, HVMI_NO_ADDRESS,
				      "Xen has HVMI_RIGHT_PAGE_WALK together with read only");
	/* Intel SDM volume 3, 29.3.3.1: such an entry is a misconfiguration. */
	if (plain & HVMI_RIGHT_WRITE && !(plain & HVMI_RIGHT_READ))
		return hvmi_error_set(err, -ENOTSUP, HVMI_NO_ADDRESS,
				      "no page can be written that cannot be read");
	*ret = (xenmem_access_t)plain;
	return 0;
}

static int no_view(const struct xen_events *events, uint32_t view, struct hvmi_error *err)
{
	if (view == HVMI_VIEW_HOST || (view < XEN_VIEWS && events->views[view]))
		return 0;
	return hvmi_error_set(err, -ENOENT, HVMI_NO_ADDRESS, "there is no view %u", view);
}

bool xen_view_expected(struct xen *xen, const struct hvmi_event *event)
{
	struct xen_events *events = xen->events;
	uint64_t gfn = event->gpa / XEN_PAGE;
	uint32_t view = event->view < XEN_VIEWS ? event->view : 0;
	if (view)	/* its default rights are a wish too */
		return true;
	if (events->restricted && gfn < events->frames &&
	    (events->restricted[gfn / 64] >> gfn % 64 & 1))
		return true;
	xen->libs.xc_set_mem_access(xen->libs.xch, xen->domain.id, XENMEM_access_rwx, gfn, 1);
	return false;
}

int xen_view_create(void *machine, uint32_t rights, uint32_t *view_ret, struct hvmi_error *err)
{
	struct xen *xen = machine;
	struct xen_events *events = xen->events;
	const struct xen_libs *libs = &xen->libs;
	xenmem_access_t access = XENMEM_access_rwx;
	uint16_t view = 0;
	int rc = access_of(rights, &access, err);
	if (rc)
		return rc;
	if (!events->views_on &&
	    libs->xc_altp2m_set_domain_state(libs->xch, xen->domain.id, true) < 0)
		return xen_failed(xen, err, "views cannot be had (altp2m)");
	events->views_on = true;
	if (libs->xc_altp2m_create_view(libs->xch, xen->domain.id, access, &view) < 0)
		return errno == ENOSPC || errno == EINVAL ?
			       hvmi_error_set(err, -ENOMEM, HVMI_NO_ADDRESS,
					      "domain %u has no room for another view: Xen has %u, "
					      "view 0 among them", xen->domain.id, XEN_VIEWS) :
			       xen_failed(xen, err, "a view cannot be made");
	if (view >= XEN_VIEWS) {
		libs->xc_altp2m_destroy_view(libs->xch, xen->domain.id, view);
		return hvmi_error_set(err, -EOVERFLOW, HVMI_NO_ADDRESS, "Xen gives view %u, and "
				      "%u are known", view, XEN_VIEWS);
	}
	events->views[view] = true;
	*view_ret = view;
	return 0;
}

int xen_view_destroy(void *machine, uint32_t view, struct hvmi_error *err)
{
	struct xen *xen = machine;
	const struct xen_libs *libs = &xen->libs;
	int rc = no_view(xen->events, view, err);
	if (rc)
		return rc;
	if (libs->xc_altp2m_destroy_view(libs->xch, xen->domain.id, (uint16_t)view) < 0) {
		if (errno != EBUSY)
			return xen_failed(xen, err, "the view cannot be destroyed");
		/* vCPUs are in it. */
		if (libs->xc_altp2m_switch_to_view(libs->xch, xen->domain.id, 0) < 0 ||
		    libs->xc_altp2m_destroy_view(libs->xch, xen->domain.id, (uint16_t)view) < 0)
			return xen_failed(xen, err, "the view cannot be destroyed");
	}
	xen->events->views[view] = false;
	return 0;
}

int xen_view_switch(void *machine, uint32_t view, struct hvmi_error *err)
{
	struct xen *xen = machine;
	const struct xen_libs *libs = &xen->libs;
	int rc = no_view(xen->events, view, err);
	if (rc || (view == HVMI_VIEW_HOST && !xen->events->views_on))
		return rc;
	return libs->xc_altp2m_switch_to_view(libs->xch, xen->domain.id, (uint16_t)view) < 0 ?
		       xen_failed(xen, err, "the view cannot be switched to") : 0;
}

/* Remember which frames of view 0 are not as they were. */
static int mark(struct xen_events *events, uint64_t gfn, uint64_t pages, bool restricted)
{
	if (!events->restricted && !restricted)
		return 0;
	if (!events->restricted)
		events->restricted = calloc(events->frames / 64 + 1, sizeof(uint64_t));
	if (!events->restricted)
		return -ENOMEM;
	for (uint64_t i = gfn; i < gfn + pages; i++) {
		uint64_t bit = 1ull << i % 64, *word = &events->restricted[i / 64];
		*word = restricted ? *word | bit : *word & ~bit;
	}
	return 0;
}

int xen_view_set_rights(void *machine, uint32_t view, uint64_t gpa, uint64_t pages,
			uint32_t rights, struct hvmi_error *err)
{
	struct xen *xen = machine;
	struct xen_events *events = xen->events;
	const struct xen_libs *libs = &xen->libs;
	xenmem_access_t access = XENMEM_access_rwx;
	uint64_t gfn = gpa / XEN_PAGE;
	int rc = access_of(rights, &access, err);
	if (!rc)
		rc = no_view(events, view, err);
	if (rc)
		return rc;
	if (gfn >= events->frames || pages > events->frames - gfn)
		return hvmi_error_set(err, -EFAULT, gpa, "domain %u has no memory there",
				      xen->domain.id);
	if (view == HVMI_VIEW_HOST) {
		if (pages > UINT32_MAX)
			return hvmi_error_set(err, -EINVAL, gpa, "these are too many pages");
		if (mark(events, gfn, pages, true))
			return hvmi_error_set(err, -ENOMEM, gpa, "out of memory");
		if (libs->xc_set_mem_access(libs->xch, xen->domain.id, access, gfn,
					    (uint32_t)pages) < 0)
			return xen_failed(xen, err, "rights of pages cannot be set");
		if (access == XENMEM_access_rwx)
			mark(events, gfn, pages, false);
		return 0;
	}
	for (uint64_t i = 0; i < pages; i++)
		if (libs->xc_altp2m_set_mem_access(libs->xch, xen->domain.id, (uint16_t)view,
						   gfn + i, access) < 0)
			return errno == ESRCH && xen_domain_alive(xen) == 0 ?
				       hvmi_error_set(err, -EFAULT, (gfn + i) * XEN_PAGE,
						      "domain %u has no page there",
						      xen->domain.id) :
				       xen_failed(xen, err, "rights of pages cannot be set");
	return 0;
}

int xen_view_get_rights(void *machine, uint32_t view, uint64_t gpa, uint32_t *rights_ret,
			struct hvmi_error *err)
{
	struct xen *xen = machine;
	const struct xen_libs *libs = &xen->libs;
	xenmem_access_t access = XENMEM_access_rwx;
	uint64_t gfn = gpa / XEN_PAGE;
	int rc = no_view(xen->events, view, err);
	if (rc)
		return rc;
	rc = view == HVMI_VIEW_HOST ?
		     libs->xc_get_mem_access(libs->xch, xen->domain.id, gfn, &access) :
		     libs->xc_altp2m_get_mem_access(libs->xch, xen->domain.id, (uint16_t)view, gfn,
						    &access);
	if (rc < 0)
		return xen_failed(xen, err, "rights of the page cannot be read");
	if ((unsigned)access > ACCESS_ALL)
		*rights_ret = (unsigned)access == ACCESS_R_PW && xen_since(libs, 4, 20) ?
				      HVMI_RIGHT_READ | HVMI_RIGHT_PAGE_WALK : ACCESS_ALL;
	else
		*rights_ret = (uint32_t)access;
	return 0;
}

int xen_view_remap(void *machine, uint32_t view, uint64_t gpa, uint64_t target,
		   struct hvmi_error *err)
{
	struct xen *xen = machine;
	const struct xen_libs *libs = &xen->libs;
	int rc = no_view(xen->events, view, err);
	if (rc)
		return rc;
	xen_pfn_t frame = target == HVMI_NO_ADDRESS ? (xen_pfn_t)~0ull : target / XEN_PAGE;
	return libs->xc_altp2m_change_gfn(libs->xch, xen->domain.id, (uint16_t)view,
					  gpa / XEN_PAGE, frame) < 0 ?
		       xen_failed(xen, err, "the page cannot be remapped") : 0;
}

/* The frame behind all that the guest knows of; the limit of its memory is raised for it. */
static int add_frame(struct xen *xen, uint64_t *gfn_ret, struct hvmi_error *err)
{
	struct xen_events *events = xen->events;
	const struct xen_libs *libs = &xen->libs;
	struct xen_domain now;
	xen_pfn_t max = 0;
	if (!events->first_free) {
		if (xen_domain_from(libs, xen->domain.id, &now) || now.id != xen->domain.id ||
		    libs->xc_domain_maximum_gpfn(libs->xch, xen->domain.id, &max) < 0)
			return xen_failed(xen, err, "its memory cannot be told");
		events->first_free = max + 1;
		events->max_pages = now.max_pages;
	}
	uint64_t limit = (events->max_pages + events->page_count + 1) * (XEN_PAGE / 1024);
	xen_pfn_t frame = events->first_free;
	if (libs->xc_domain_setmaxmem(libs->xch, xen->domain.id, limit) < 0 ||
	    libs->xc_domain_populate_physmap_exact(libs->xch, xen->domain.id, 1, 0, 0,
						   &frame) < 0)
		return xen_failed(xen, err, "it cannot be given a page (is memory of the host "
				  "free?)");
	events->first_free++;
	*gfn_ret = frame;
	return 0;
}

static void remove_frame(struct xen *xen, uint64_t gfn)
{
	const struct xen_libs *libs = &xen->libs;
	xen_pfn_t frame = gfn;
	libs->xc_domain_decrease_reservation_exact(libs->xch, xen->domain.id, 1, 0, &frame);
}

int xen_page_create(void *machine, uint64_t *gpa_ret, void **host_ret, struct hvmi_error *err)
{
	struct xen *xen = machine;
	struct xen_events *events = xen->events;
	struct xen_libs *libs = &xen->libs;
	uint64_t gfn = 0;
	struct xen_page *pages = realloc(events->pages, (events->page_count + 1) * sizeof(*pages));
	if (!pages)
		return hvmi_error_set(err, -ENOMEM, HVMI_NO_ADDRESS, "out of memory");
	events->pages = pages;
	int rc = add_frame(xen, &gfn, err);
	if (rc)
		return rc;
	int error = 0;
	xen_pfn_t frame = gfn;
	void *host = libs->xenforeignmemory_map(libs->memory, xen->domain.id,
						PROT_READ | PROT_WRITE, 1, &frame, &error);
	if (!host || error) {
		if (host)
			libs->xenforeignmemory_unmap(libs->memory, host, 1);
		remove_frame(xen, gfn);
		return hvmi_error_set(err, -EIO, gfn * XEN_PAGE, "the new page cannot be mapped");
	}
	memset(host, 0, XEN_PAGE);
	pages[events->page_count++] = (struct xen_page){ .gfn = gfn, .host = host };
	*gpa_ret = gfn * XEN_PAGE;
	*host_ret = host;
	return 0;
}

static void release_page(struct xen *xen, const struct xen_page *page)
{
	xen->libs.xenforeignmemory_unmap(xen->libs.memory, page->host, 1);
	remove_frame(xen, page->gfn);
}

int xen_page_destroy(void *machine, uint64_t gpa, struct hvmi_error *err)
{
	struct xen *xen = machine;
	struct xen_events *events = xen->events;
	for (size_t i = 0; i < events->page_count; i++) {
		if (events->pages[i].gfn * XEN_PAGE != gpa)
			continue;
		release_page(xen, &events->pages[i]);
		events->pages[i] = events->pages[--events->page_count];
		return 0;
	}
	return hvmi_error_set(err, -ENOENT, gpa, "0x%llx is no page of hvmi_page_create()",
			      (unsigned long long)gpa);
}

void xen_views_release(struct xen *xen, struct xen_events *events)
{
	const struct xen_libs *libs = &xen->libs;
	uint64_t *bits = events->restricted;
	/* Runs of frames, one call each. */
	for (uint64_t gfn = 0; bits && gfn < events->frames;) {
		uint64_t end = gfn;
		if (!bits[gfn / 64]) {
			gfn = (gfn / 64 + 1) * 64;
			continue;
		}
		while (end < events->frames && (bits[end / 64] >> end % 64 & 1))
			end++;
		if (end > gfn)
			libs->xc_set_mem_access(libs->xch, xen->domain.id, XENMEM_access_rwx, gfn,
						(uint32_t)(end - gfn));
		gfn = end + 1;
	}
	if (!events->views_on)
		return;
	libs->xc_altp2m_switch_to_view(libs->xch, xen->domain.id, 0);
	for (uint16_t i = 1; i < XEN_VIEWS; i++)
		if (events->views[i])
			libs->xc_altp2m_destroy_view(libs->xch, xen->domain.id, i);
	libs->xc_altp2m_set_domain_state(libs->xch, xen->domain.id, false);
}

void xen_pages_release(struct xen *xen, struct xen_events *events)
{
	const struct xen_libs *libs = &xen->libs;
	for (size_t i = 0; i < events->page_count; i++)
		release_page(xen, &events->pages[i]);
	if (events->first_free)
		libs->xc_domain_setmaxmem(libs->xch, xen->domain.id,
					  events->max_pages * (XEN_PAGE / 1024));
}
