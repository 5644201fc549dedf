/* SPDX-License-Identifier: Apache-2.0 */
#include "vm/events.h"

#define RIGHTS_ALL                                                                                 \
	(HVMI_RIGHT_READ | HVMI_RIGHT_WRITE | HVMI_RIGHT_EXECUTE | HVMI_RIGHT_PAGE_WALK)

static int check_rights(struct hvmi_vm *vm, uint32_t rights, struct hvmi_error *err)
{
	if (rights & ~RIGHTS_ALL)
		return hvmi_error_set(err, -EINVAL, HVMI_NO_ADDRESS, "unknown rights 0x%x", rights);
	if (rights & HVMI_RIGHT_PAGE_WALK)
		return hvmi_vm_capability(vm, HVMI_CAN_PAGE_WALK_RIGHT, err);
	return 0;
}

/* Pages from gpa on, no address of them above 2^52 (Intel SDM volume 3, 4.1.4: MAXPHYADDR). */
static int check_pages(uint64_t gpa, uint64_t pages, struct hvmi_error *err)
{
	const uint64_t end = 1ull << 52;
	if (gpa % FRAME_SIZE || gpa >= end || pages == 0 || pages > (end - gpa) / FRAME_SIZE)
		return hvmi_error_set(err, -EINVAL, gpa,
				      "%llu pages at 0x%llx are no run of whole pages",
				      (unsigned long long)pages, (unsigned long long)gpa);
	return 0;
}

static int check_alternate(uint32_t view, const char *what, struct hvmi_error *err)
{
	if (view != HVMI_VIEW_HOST)
		return 0;
	return hvmi_error_set(err, -EINVAL, HVMI_NO_ADDRESS, "view 0 cannot be %s", what);
}

/* Rights of view 0 may be there where alternate views are not. */
static int check_view(struct hvmi_vm *vm, uint32_t view, bool method, struct hvmi_error *err)
{
	if (view != HVMI_VIEW_HOST)
		return hvmi_vm_capability(vm, HVMI_CAN_VIEWS, err);
	if (!method)
		return hvmi_error_set(err, -ENOTSUP, HVMI_NO_ADDRESS,
				      "%s machines have no rights of pages", vm->backend.scheme);
	return hvmi_vm_capability(vm, HVMI_CAN_EVENT + HVMI_EVENT_ACCESS, err);
}

HVMI_API int hvmi_view_create(struct hvmi_events *events, uint32_t rights, uint32_t *view_ret,
			      struct hvmi_error *err)
{
	struct hvmi_vm *vm = events->vm;
	int rc = hvmi_vm_capability(vm, HVMI_CAN_VIEWS, err);
	if (!rc)
		rc = check_rights(vm, rights, err);
	return rc ? rc : vm->backend.view_create(vm->machine, rights, view_ret, err);
}

HVMI_API int hvmi_view_destroy(struct hvmi_events *events, uint32_t view, struct hvmi_error *err)
{
	struct hvmi_vm *vm = events->vm;
	int rc = check_alternate(view, "destroyed", err);
	if (!rc)
		rc = hvmi_vm_capability(vm, HVMI_CAN_VIEWS, err);
	return rc ? rc : vm->backend.view_destroy(vm->machine, view, err);
}

HVMI_API int hvmi_view_switch(struct hvmi_events *events, uint32_t view, struct hvmi_error *err)
{
	struct hvmi_vm *vm = events->vm;
	int rc = hvmi_vm_capability(vm, HVMI_CAN_VIEWS, err);
	return rc ? rc : vm->backend.view_switch(vm->machine, view, err);
}

HVMI_API int hvmi_view_set_rights(struct hvmi_events *events, uint32_t view, uint64_t gpa,
				  uint64_t pages, uint32_t rights, struct hvmi_error *err)
{
	struct hvmi_vm *vm = events->vm;
	int rc = check_pages(gpa, pages, err);
	if (!rc)
		rc = check_rights(vm, rights, err);
	if (!rc)
		rc = check_view(vm, view, vm->backend.view_set_rights, err);
	return rc ? rc : vm->backend.view_set_rights(vm->machine, view, gpa, pages, rights, err);
}

HVMI_API int hvmi_view_get_rights(struct hvmi_events *events, uint32_t view, uint64_t gpa,
				  uint32_t *rights_ret, struct hvmi_error *err)
{
	struct hvmi_vm *vm = events->vm;
	int rc = check_pages(gpa, 1, err);
	if (!rc)
		rc = check_view(vm, view, vm->backend.view_get_rights, err);
	return rc ? rc : vm->backend.view_get_rights(vm->machine, view, gpa, rights_ret, err);
}

HVMI_API int hvmi_view_remap(struct hvmi_events *events, uint32_t view, uint64_t gpa,
			     uint64_t target, struct hvmi_error *err)
{
	struct hvmi_vm *vm = events->vm;
	int rc = check_alternate(view, "remapped", err);
	if (!rc)
		rc = check_pages(gpa, 1, err);
	if (!rc && target != HVMI_NO_ADDRESS)
		rc = check_pages(target, 1, err);
	if (!rc)
		rc = hvmi_vm_capability(vm, HVMI_CAN_REMAP, err);
	return rc ? rc : vm->backend.view_remap(vm->machine, view, gpa, target, err);
}

HVMI_API int hvmi_page_create(struct hvmi_events *events, uint64_t *gpa_ret, void **host_ret,
			      struct hvmi_error *err)
{
	struct hvmi_vm *vm = events->vm;
	int rc = hvmi_vm_capability(vm, HVMI_CAN_PAGES, err);
	return rc ? rc : vm->backend.page_create(vm->machine, gpa_ret, host_ret, err);
}

HVMI_API int hvmi_page_destroy(struct hvmi_events *events, uint64_t gpa, struct hvmi_error *err)
{
	struct hvmi_vm *vm = events->vm;
	int rc = check_pages(gpa, 1, err);
	if (!rc)
		rc = hvmi_vm_capability(vm, HVMI_CAN_PAGES, err);
	return rc ? rc : vm->backend.page_destroy(vm->machine, gpa, err);
}
