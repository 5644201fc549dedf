/* SPDX-License-Identifier: Apache-2.0 */
/* Views of a machine with a probe, and pages that its guest does not know of. */
#include <stdlib.h>
#include <string.h>

#include "probe.h"

/* Most pages of one view that differ from it. */
#define VIEW_PAGES_MAX 65536u

static uint8_t *frame_at(struct sim *sim, uint64_t gpa)
{
	uint64_t left;
	for (struct extra_page *page = sim->probe->extra; page; page = page->next)
		if (page->gpa == gpa / SIM_PAGE * SIM_PAGE)
			return page->bytes + gpa % SIM_PAGE;
	for (size_t i = 0; i < sim->absent_count; i++)
		if (sim_overlap(&sim->absent[i], gpa, 1))
			return NULL;
	uint8_t *at = sim_ram(sim, gpa, &left);
	/* It may be written to by whoever asked. */
	if (at)
		sim_written(sim, gpa, 1);
	return at;
}

static struct view_page *find_page(struct view *view, uint64_t gpa)
{
	for (size_t i = 0; i < view->page_count; i++)
		if (view->pages[i].gpa == gpa / SIM_PAGE * SIM_PAGE)
			return &view->pages[i];
	return NULL;
}

uint8_t *probe_page(struct sim *sim, uint64_t gpa, uint32_t *rights_ret)
{
	struct sim_probe *probe = sim->probe;
	struct view *view = &probe->views[probe->runs[probe->vcpu].view];
	const struct view_page *page = find_page(view, gpa);
	*rights_ret = page ? page->rights : view->used ? view->rights : PROBE_RIGHTS;
	if (page && page->target != HVMI_NO_ADDRESS)
		return frame_at(sim, page->target + gpa % SIM_PAGE);
	return frame_at(sim, gpa);
}

bool probe_rights(struct sim *sim, uint32_t vcpu, uint64_t gpa, uint32_t *ret)
{
	return probe_view_get_rights(sim, sim->probe->runs[vcpu].view, gpa, ret, NULL) == 0;
}

void views_free(struct sim_probe *probe)
{
	for (size_t i = 0; i < PROBE_VIEWS_MAX; i++)
		free(probe->views[i].pages);
	memset(probe->views, 0, sizeof(probe->views));
	for (struct extra_page *page = probe->extra, *next; page; page = next) {
		next = page->next;
		free(page->bytes);
		free(page);
	}
	probe->extra = NULL;
}

static int no_view(struct hvmi_error *err, uint32_t view)
{
	return hvmi_error_set(err, -ENOENT, HVMI_NO_ADDRESS, "sim: there is no view %u", view);
}

static bool exists(const struct sim_probe *probe, uint32_t view)
{
	return view == HVMI_VIEW_HOST || (view < PROBE_VIEWS_MAX && probe->views[view].used);
}

int probe_view_create(void *machine, uint32_t rights, uint32_t *view_ret, struct hvmi_error *err)
{
	struct sim_probe *probe = ((struct sim *)machine)->probe;
	for (uint32_t i = 1; i < PROBE_VIEWS_MAX; i++) {
		if (probe->views[i].used)
			continue;
		probe->views[i] = (struct view){ .used = true, .rights = rights };
		*view_ret = i;
		return 0;
	}
	return hvmi_error_set(err, -EOVERFLOW, HVMI_NO_ADDRESS, "sim: there are %u views already",
			      PROBE_VIEWS_MAX);
}

int probe_view_destroy(void *machine, uint32_t view, struct hvmi_error *err)
{
	struct sim *sim = machine;
	if (view == HVMI_VIEW_HOST || !exists(sim->probe, view))
		return no_view(err, view);
	for (size_t i = 0; i < sim->vcpu_count; i++) {
		struct run *run = &sim->probe->runs[i];
		if (run->view == view)
			run->view = HVMI_VIEW_HOST;
		if (run->next_view == view)
			run->next_view = HVMI_VIEW_HOST;
	}
	free(sim->probe->views[view].pages);
	sim->probe->views[view] = (struct view){ 0 };
	return 0;
}

int probe_view_switch(void *machine, uint32_t view, struct hvmi_error *err)
{
	struct sim *sim = machine;
	if (!exists(sim->probe, view))
		return no_view(err, view);
	for (size_t i = 0; i < sim->vcpu_count; i++) {
		sim->probe->runs[i].view = view;
		sim->probe->runs[i].next_view = view;
	}
	return 0;
}

/* The entry of a page in a view, made if there is none. */
static int need_page(struct sim *sim, uint32_t view, uint64_t gpa, struct view_page **ret,
		     struct hvmi_error *err)
{
	struct view *v = &sim->probe->views[view];
	struct view_page *page = find_page(v, gpa);
	if (!frame_at(sim, gpa))
		return hvmi_error_set(err, -EFAULT, gpa, "sim: there is no page 0x%llx",
				      (unsigned long long)gpa);
	if (!page) {
		if (v->page_count == VIEW_PAGES_MAX)
			return hvmi_error_set(err, -EOVERFLOW, gpa,
					      "sim: more than %u pages of view %u differ",
					      VIEW_PAGES_MAX, view);
		page = realloc(v->pages, (v->page_count + 1) * sizeof(*page));
		if (!page)
			return hvmi_error_set(err, -ENOMEM, gpa, "sim: out of memory");
		v->pages = page;
		page += v->page_count++;
		*page = (struct view_page){ .gpa = gpa, .target = HVMI_NO_ADDRESS,
					    .rights = v->used ? v->rights : PROBE_RIGHTS };
	}
	*ret = page;
	return 0;
}

int probe_view_set_rights(void *machine, uint32_t view, uint64_t gpa, uint64_t pages,
			  uint32_t rights, struct hvmi_error *err)
{
	struct sim *sim = machine;
	struct view_page *page = NULL;
	if (!exists(sim->probe, view))
		return no_view(err, view);
	for (uint64_t i = 0; i < pages; i++) {
		int r = need_page(sim, view, gpa + i * SIM_PAGE, &page, err);
		if (r)
			return r;
		page->rights = rights;
	}
	return 0;
}

int probe_view_get_rights(void *machine, uint32_t view, uint64_t gpa, uint32_t *rights_ret,
			  struct hvmi_error *err)
{
	struct sim *sim = machine;
	if (!exists(sim->probe, view))
		return no_view(err, view);
	if (!frame_at(sim, gpa))
		return hvmi_error_set(err, -EFAULT, gpa, "sim: there is no page 0x%llx",
				      (unsigned long long)gpa);
	struct view *v = &sim->probe->views[view];
	const struct view_page *page = find_page(v, gpa);
	*rights_ret = page ? page->rights : v->used ? v->rights : PROBE_RIGHTS;
	return 0;
}

int probe_view_remap(void *machine, uint32_t view, uint64_t gpa, uint64_t target,
		     struct hvmi_error *err)
{
	struct sim *sim = machine;
	struct view_page *page = NULL;
	if (view == HVMI_VIEW_HOST || !exists(sim->probe, view))
		return no_view(err, view);
	if (target != HVMI_NO_ADDRESS && !frame_at(sim, target))
		return hvmi_error_set(err, -EFAULT, target, "sim: there is no page 0x%llx",
				      (unsigned long long)target);
	int r = need_page(sim, view, gpa, &page, err);
	if (r)
		return r;
	page->target = target;
	page->rights = sim->probe->views[view].rights;
	return 0;
}

int probe_page_create(void *machine, uint64_t *gpa_ret, void **host_ret, struct hvmi_error *err)
{
	struct sim *sim = machine;
	struct sim_probe *probe = sim->probe;
	struct extra_page *page = calloc(1, sizeof(*page));
	uint8_t *bytes = calloc(1, SIM_PAGE);
	if (!page || !bytes) {
		free(page);
		free(bytes);
		return hvmi_error_set(err, -ENOMEM, HVMI_NO_ADDRESS, "sim: out of memory");
	}
	for (size_t i = 0; i < sim->range_count; i++) {
		const struct hvmi_range *at = &sim->ranges[i].at;
		if (probe->next_extra < at->gpa + at->len)
			probe->next_extra = (at->gpa + at->len + SIM_PAGE - 1) / SIM_PAGE *
					    SIM_PAGE;
	}
	*page = (struct extra_page){ .gpa = probe->next_extra, .bytes = bytes,
				     .next = probe->extra };
	probe->next_extra += SIM_PAGE;
	probe->extra = page;
	*gpa_ret = page->gpa;
	*host_ret = bytes;
	return 0;
}

int probe_page_destroy(void *machine, uint64_t gpa, struct hvmi_error *err)
{
	struct sim_probe *probe = ((struct sim *)machine)->probe;
	for (size_t v = 0; v < PROBE_VIEWS_MAX; v++)
		for (size_t i = 0; i < probe->views[v].page_count; i++)
			if (probe->views[v].pages[i].target == gpa)
				return hvmi_error_set(err, -EBUSY, gpa,
						      "sim: view %zu has the page", v);
	for (struct extra_page **at = &probe->extra; *at; at = &(*at)->next) {
		struct extra_page *page = *at;
		if (page->gpa != gpa)
			continue;
		*at = page->next;
		free(page->bytes);
		free(page);
		return 0;
	}
	return hvmi_error_set(err, -ENOENT, gpa, "sim: no page was created at 0x%llx",
			      (unsigned long long)gpa);
}
