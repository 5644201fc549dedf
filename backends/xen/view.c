/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Rights of pages, and alternate views (altp2m). Xen lets a change of a page in view 0 overwrite the
 * entry of that page in every other view, and fills in entries of other views with the rights that
 * view 0 has: what a view is to have is remembered here, and set again where Xen forgot it.
 */
#include <errno.h>
#include <stdlib.h>

#include "events.h"

#define RWX ((uint32_t)(HVMI_RIGHT_READ | HVMI_RIGHT_WRITE | HVMI_RIGHT_EXECUTE))
/* Since Xen 4.20. */
#define ACCESS_R_PW 10

static int to_xen(const struct domain *d, uint32_t rights, xenmem_access_t *ret,
		  struct hvmi_error *err)
{
	static const xenmem_access_t of[] = { XENMEM_access_n, XENMEM_access_r, XENMEM_access_w,
					      XENMEM_access_rw, XENMEM_access_x, XENMEM_access_rx,
					      XENMEM_access_wx, XENMEM_access_rwx };
	if ((rights & (HVMI_RIGHT_READ | HVMI_RIGHT_WRITE)) == HVMI_RIGHT_WRITE)
		return hvmi_error_set(err, -ENOTSUP, HVMI_NO_ADDRESS,
				      "%s: processors have no pages that can be written and not read",
				      d->label);
	if (rights == (HVMI_RIGHT_READ | HVMI_RIGHT_PAGE_WALK)) {
		*ret = (xenmem_access_t)ACCESS_R_PW;
		return 0;
	}
	/* What can be written, can be by page walks. */
	if (rights & HVMI_RIGHT_PAGE_WALK && !(rights & HVMI_RIGHT_WRITE))
		return hvmi_error_set(err, -ENOTSUP, HVMI_NO_ADDRESS,
				      "%s: Xen has the right of page walks beside that to read only",
				      d->label);
	*ret = of[rights & RWX];
	return 0;
}

static struct view *view_of(const struct domain *d, uint32_t view)
{
	return view < VIEWS_MAX && d->events->views[view].exists ? &d->events->views[view] : NULL;
}

int views_check(const struct domain *d, uint32_t view, struct hvmi_error *err)
{
	return view_of(d, view) ? 0 :
	       hvmi_error_set(err, -EINVAL, HVMI_NO_ADDRESS, "%s has no view %u", d->label, view);
}

uint32_t views_rights(const struct domain *d, uint32_t view, uint64_t gfn)
{
	const struct view *v = view_of(d, view);
	int rights = v ? rights_get(&v->rights, gfn) : -1;
	return rights >= 0 ? (uint32_t)rights : v ? v->default_rights : RWX;
}

/* One page as it should be in a view but view 0. */
static int apply(struct domain *d, uint32_t number, uint64_t gfn)
{
	const struct xen *xen = &d->xen;
	const struct view *v = &d->events->views[number];
	xenmem_access_t access = XENMEM_access_rwx;
	for (size_t i = 0; i < v->remap_count; i++)
		if (v->remaps[i].gfn == gfn &&
		    xen->l.xc_altp2m_change_gfn(xen->xc, d->id, (uint16_t)number, gfn,
						v->remaps[i].target))
			return -1;
	to_xen(d, views_rights(d, number, gfn), &access, NULL);
	return xen->l.xc_altp2m_set_mem_access(xen->xc, d->id, (uint16_t)number, gfn, access);
}

/* After a change in view 0. */
static int apply_everywhere(struct domain *d, uint64_t gfn, uint64_t pages)
{
	for (uint32_t number = 1; d->events->altp2m && number < VIEWS_MAX; number++) {
		if (!d->events->views[number].exists)
			continue;
		for (uint64_t i = 0; i < pages; i++)
			if (apply(d, number, gfn + i))
				return -1;
	}
	return 0;
}

static int set_host(struct domain *d, uint64_t gfn, uint64_t pages, xenmem_access_t access)
{
	const struct xen *xen = &d->xen;
	bool others = d->events->altp2m;
	/* Views must not be wrong while it runs. */
	if (others && xen->l.xc_domain_pause(xen->xc, d->id))
		return -1;
	int rc = 0;
	for (uint64_t at = 0, n; at < pages && !rc; at += n) {
		n = pages - at < 1u << 20 ? pages - at : 1u << 20;
		rc = xen->l.xc_set_mem_access(xen->xc, d->id, access, gfn + at, (uint32_t)n);
	}
	if (others) {
		int error = errno;
		int applied = apply_everywhere(d, gfn, pages);
		error = rc ? error : errno;
		xen->l.xc_domain_unpause(xen->xc, d->id);
		errno = error;
		rc = rc ? rc : applied;
	}
	return rc;
}

void views_heal(struct domain *d, uint32_t view, uint64_t gfn)
{
	if (gfn > d->max_gfn)
		return;
	if (view != HVMI_VIEW_HOST && view_of(d, view))
		apply(d, view, gfn);
	else if (view == HVMI_VIEW_HOST)
		set_host(d, gfn, 1, XENMEM_access_rwx);
}

static int check_memory(const struct domain *d, uint64_t gpa, uint64_t pages, struct hvmi_error *err)
{
	if (gpa / PAGE <= d->max_gfn && pages <= d->max_gfn - gpa / PAGE + 1)
		return 0;
	return hvmi_error_set(err, -EFAULT, gpa, "%s has no memory there", d->label);
}

int view_set_rights(void *machine, uint32_t view, uint64_t gpa, uint64_t pages, uint32_t rights,
		    struct hvmi_error *err)
{
	struct domain *d = machine;
	xenmem_access_t access = XENMEM_access_rwx;
	int rc = views_check(d, view, err);
	if (!rc)
		rc = to_xen(d, rights, &access, err);
	if (!rc)
		rc = check_memory(d, gpa, pages, err);
	if (rc)
		return rc;
	struct view *v = view_of(d, view);
	uint64_t gfn = gpa / PAGE, i = 0;
	if (rights_reserve(&v->rights, gfn, pages))
		return hvmi_error_set(err, -ENOMEM, HVMI_NO_ADDRESS, "out of memory");
	int plain = rights == RWX && view == HVMI_VIEW_HOST ? -1 : (int)rights;
	if (view == HVMI_VIEW_HOST) {
		rc = set_host(d, gfn, pages, access);
		i = rc ? 0 : pages;
	}
	for (; i < pages && view != HVMI_VIEW_HOST; i++) {
		rc = d->xen.l.xc_altp2m_set_mem_access(d->xen.xc, d->id, (uint16_t)view, gfn + i,
						       access);
		if (rc)
			break;
	}
	int error = errno;
	/* Also what may have been set before a failure, so that it is undone one day. */
	for (uint64_t n = 0; n < (view == HVMI_VIEW_HOST ? pages : i); n++)
		rights_set(&v->rights, gfn + n, rc && view == HVMI_VIEW_HOST ? (int)RWX : plain);
	errno = error;
	return rc ? domain_fail(d, err, "setting rights of pages from 0x%llx on in view %u",
				(unsigned long long)gpa, view) : 0;
}

int view_get_rights(void *machine, uint32_t view, uint64_t gpa, uint32_t *rights_ret,
		    struct hvmi_error *err)
{
	static const uint32_t of[] = { 0, 1, 2, 3, 4, 5, 6, 7, 5, 0, HVMI_RIGHT_READ |
				       HVMI_RIGHT_PAGE_WALK };
	const struct domain *d = machine;
	xenmem_access_t access;
	int rc = views_check(d, view, err);
	if (!rc)
		rc = check_memory(d, gpa, 1, err);
	if (rc)
		return rc;
	if (view != HVMI_VIEW_HOST) {
		*rights_ret = views_rights(d, view, gpa / PAGE);
		return 0;
	}
	if (d->xen.l.xc_get_mem_access(d->xen.xc, d->id, gpa / PAGE, &access)) {
		if (errno == ESRCH && domain_alive(d))
			return hvmi_error_set(err, -EFAULT, gpa, "%s has no memory there", d->label);
		return domain_fail(d, err, "asking for rights");
	}
	*rights_ret = access < sizeof(of) / sizeof(*of) ? of[access] : RWX;
	return 0;
}

static int enable(struct domain *d, struct hvmi_error *err)
{
	if (d->events->altp2m)
		return 0;
	if (d->xen.l.xc_altp2m_set_domain_state(d->xen.xc, d->id, true))
		return domain_fail(d, err, "beginning with alternate views");
	d->events->altp2m = true;
	return 0;
}

/*
 * Before Xen 4.22 a new view's pages have the rights that they have in view 0, whatever was asked for;
 * afterwards too, where view 0's are set page by page.
 */
static int spread_default(struct domain *d, uint32_t number)
{
	const struct events *e = d->events;
	if (e->views[number].default_rights != RWX && !xen_since(&d->xen, 22, 0)) {
		for (uint32_t i = 0; i < d->range_count; i++)
			for (uint64_t gpa = d->ranges[i].gpa;
			     gpa < d->ranges[i].gpa + d->ranges[i].len; gpa += PAGE)
				if (apply(d, number, gpa / PAGE))
					return -1;
		return 0;
	}
	for (uint64_t gfn = 0; rights_next(&e->views[0].rights, &gfn); gfn++)
		if (apply(d, number, gfn))
			return -1;
	return 0;
}

int view_create(void *machine, uint32_t rights, uint32_t *view_ret, struct hvmi_error *err)
{
	struct domain *d = machine;
	const struct xen *xen = &d->xen;
	xenmem_access_t access = XENMEM_access_rwx;
	uint16_t number = 0;
	int rc = to_xen(d, rights, &access, err);
	if (!rc)
		rc = enable(d, err);
	if (rc)
		return rc;
	if (xen->l.xc_altp2m_create_view(xen->xc, d->id, access, &number)) {
		if (errno == EINVAL || errno == ENOSPC)
			return hvmi_error_set(err, -EOVERFLOW, HVMI_NO_ADDRESS,
					      "%s: Xen has no more views (10 with view 0)", d->label);
		return domain_fail(d, err, "making a view");
	}
	struct view *v = number < VIEWS_MAX ? &d->events->views[number] : NULL;
	if (!v || rights_init(&v->rights, d->max_gfn)) {
		xen->l.xc_altp2m_destroy_view(xen->xc, d->id, number);
		return hvmi_error_set(err, -ENOMEM, HVMI_NO_ADDRESS, "out of memory");
	}
	v->exists = true;
	v->default_rights = rights;
	if (spread_default(d, number)) {
		rc = domain_fail(d, err, "setting rights in a new view (shadow_memory may be too "
				 "small)");
		view_destroy(d, number, NULL);
		return rc;
	}
	*view_ret = number;
	return 0;
}

static void forget(struct view *v)
{
	rights_free(&v->rights);
	free(v->remaps);
	*v = (struct view){ 0 };
}

/* vCPUs that are in it, paused or not, go to view 0: there is no telling one from another. */
int view_destroy(void *machine, uint32_t view, struct hvmi_error *err)
{
	struct domain *d = machine;
	const struct xen *xen = &d->xen;
	int rc = views_check(d, view, err);
	if (rc)
		return rc;
	if (xen->l.xc_altp2m_destroy_view(xen->xc, d->id, (uint16_t)view)) {
		if (errno != EBUSY || xen->l.xc_altp2m_switch_to_view(xen->xc, d->id, 0) ||
		    xen->l.xc_altp2m_destroy_view(xen->xc, d->id, (uint16_t)view))
			return domain_fail(d, err, "destroying view %u", view);
	}
	forget(&d->events->views[view]);
	return 0;
}

int view_switch(void *machine, uint32_t view, struct hvmi_error *err)
{
	struct domain *d = machine;
	int rc = views_check(d, view, err);
	if (!rc && d->events->altp2m &&
	    d->xen.l.xc_altp2m_switch_to_view(d->xen.xc, d->id, (uint16_t)view))
		rc = domain_fail(d, err, "switching to view %u", view);
	return rc;
}

static void drop_remap(struct view *v, uint64_t gfn)
{
	for (size_t i = 0; i < v->remap_count; i++)
		if (v->remaps[i].gfn == gfn)
			v->remaps[i--] = v->remaps[--v->remap_count];
}

int view_remap(void *machine, uint32_t view, uint64_t gpa, uint64_t target, struct hvmi_error *err)
{
	struct domain *d = machine;
	uint64_t gfn = gpa / PAGE;
	int rc = views_check(d, view, err);
	if (!rc)
		rc = check_memory(d, gpa, 1, err);
	if (rc)
		return rc;
	struct view *v = view_of(d, view);
	struct remap *remaps = realloc(v->remaps, (v->remap_count + 1) * sizeof(*remaps));
	if (!remaps)
		return hvmi_error_set(err, -ENOMEM, HVMI_NO_ADDRESS, "out of memory");
	v->remaps = remaps;
	if (d->xen.l.xc_altp2m_change_gfn(d->xen.xc, d->id, (uint16_t)view, gfn,
					  target == HVMI_NO_ADDRESS ? UINT64_MAX : target / PAGE))
		return domain_fail(d, err, "giving the page at 0x%llx another frame",
				   (unsigned long long)gpa);
	drop_remap(v, gfn);
	if (target != HVMI_NO_ADDRESS)
		v->remaps[v->remap_count++] = (struct remap){ gfn, target / PAGE };
	/* Xen gives it those of the target. */
	rights_set(&v->rights, gfn, -1);
	return apply(d, view, gfn) ? domain_fail(d, err, "setting its rights") : 0;
}

void views_restore_rights(struct domain *d)
{
	struct rights *host = &d->events->views[0].rights;
	if (d->events->altp2m)
		d->xen.l.xc_altp2m_switch_to_view(d->xen.xc, d->id, 0);
	for (uint64_t gfn = 0; rights_next(host, &gfn); gfn++) {
		d->xen.l.xc_set_mem_access(d->xen.xc, d->id, XENMEM_access_rwx, gfn, 1);
		rights_set(host, gfn, -1);
	}
}

void views_close(struct domain *d)
{
	const struct xen *xen = &d->xen;
	if (!d->events->altp2m)
		return;
	xen->l.xc_altp2m_switch_to_view(xen->xc, d->id, 0);
	for (uint32_t i = 1; i < VIEWS_MAX; i++) {
		if (!d->events->views[i].exists)
			continue;
		xen->l.xc_altp2m_destroy_view(xen->xc, d->id, (uint16_t)i);
		forget(&d->events->views[i]);
	}
	xen->l.xc_altp2m_set_domain_state(xen->xc, d->id, false);
	d->events->altp2m = false;
}
