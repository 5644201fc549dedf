/* SPDX-License-Identifier: Apache-2.0 */
/* Inside a detour. */
#ifndef HVMI_LIB_DETOUR_H
#define HVMI_LIB_DETOUR_H

#include <hvmi/detour.h>

#include "os/os.h"

/* A jump that crosses a page is two patches; the memory has this many pages at most. */
#define DETOUR_PATCHES 4u
/* Of the moved instructions and the code, aligned, and a byte that is no padding. */
#define DETOUR_MEMORY_MAX (HVMI_MOVED_BYTES + HVMI_DETOUR_CODE + 64u)
#define DETOUR_JUMP_MAX 14u

struct detour_part {
	uint64_t gva;
	uint32_t len, flags;		/* HVMI_PATCH_* */
	uint8_t bytes[DETOUR_MEMORY_MAX];
	uint8_t planned_over[DETOUR_MEMORY_MAX];	/* what was there */
	uint64_t ids[DETOUR_PATCHES];	/* 0: not placed */
};

struct hvmi_detour {
	struct hvmi_os *os;
	struct hvmi_space *space;
	struct hvmi_journal *journal;	/* NULL: not placed */
	struct hvmi_detour_info info;
	uint32_t code_room;
	struct detour_part memory, jump;
	bool lost;		/* what is at the jump's place is the guest's, and may lead here */
};

/* detour_plan.c: all but os and space. */
int detour_plan(struct hvmi_detour *detour, const struct hvmi_detour_request *request,
		struct hvmi_error *err);

#endif
