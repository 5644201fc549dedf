/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file view.h
 * What a machine's vCPUs may do with which page, and which frame they find there.
 *
 * View 0 is the machine's own memory. Alternate views are copies of it in which pages have other
 * rights or other frames; a vCPU runs in one view at a time. Accesses that a view does not allow are
 * events (HVMI_EVENT_ACCESS), so the machine's events must be open, and closing them destroys the
 * views. One thread at a time per machine.
 */
#ifndef HVMI_VIEW_H
#define HVMI_VIEW_H

#include <hvmi/event.h>
#include <hvmi/space.h>

#ifdef __cplusplus
extern "C" {
#endif

/** The machine's own memory. */
#define HVMI_VIEW_HOST 0u

/** A right beside HVMI_RIGHT_READ, _WRITE, _EXECUTE: the CPU may write it as a page table. */
#define HVMI_RIGHT_PAGE_WALK 16u

/**
 * Make a view, equal to view 0 but for the rights.
 * @param rights  HVMI_RIGHT_* that its pages have, all of them: no events
 */
HVMI_API int hvmi_view_create(struct hvmi_events *events, uint32_t rights, uint32_t *view_ret,
			      struct hvmi_error *err);

/** Destroy a view; vCPUs that are in it go to view 0 first. */
HVMI_API int hvmi_view_destroy(struct hvmi_events *events, uint32_t view, struct hvmi_error *err);

/** Have all vCPUs run in a view. HVMI_ANSWER_VIEW does it for one. */
HVMI_API int hvmi_view_switch(struct hvmi_events *events, uint32_t view, struct hvmi_error *err);

/** Set the rights of @p pages pages from @p gpa (a multiple of 4 KiB) in a view. */
HVMI_API int hvmi_view_set_rights(struct hvmi_events *events, uint32_t view, uint64_t gpa,
				  uint64_t pages, uint32_t rights, struct hvmi_error *err);

/** The rights of a page in a view. */
HVMI_API int hvmi_view_get_rights(struct hvmi_events *events, uint32_t view, uint64_t gpa,
				  uint32_t *rights_ret, struct hvmi_error *err);

/**
 * In a view, but view 0, have the page at @p gpa be the frame at @p target; @p target
 * HVMI_NO_ADDRESS: its own again. Its rights are those of the view's default afterwards.
 */
HVMI_API int hvmi_view_remap(struct hvmi_events *events, uint32_t view, uint64_t gpa,
			     uint64_t target, struct hvmi_error *err);

/**
 * A page of RAM that the guest does not know of, as a target of hvmi_view_remap(), full of zeros.
 * It has a guest-physical address above all others, is no part of the machine's ranges, and goes
 * with the events if it is not destroyed before.
 * @param host_ret  its 4 KiB in this process, to be read and written
 */
HVMI_API int hvmi_page_create(struct hvmi_events *events, uint64_t *gpa_ret, void **host_ret,
			      struct hvmi_error *err);

/** Give a page back; no view may refer to it. */
HVMI_API int hvmi_page_destroy(struct hvmi_events *events, uint64_t gpa, struct hvmi_error *err);

#ifdef __cplusplus
}
#endif
#endif
