/* SPDX-License-Identifier: Apache-2.0 */
/* What is compiled into the library of Windows kernels: see data/windows and layouts.def. */
#ifndef HVMI_LIB_WINDOWS_TABLES_H
#define HVMI_LIB_WINDOWS_TABLES_H

#include "os/windows/knowledge.h"

/* How well a built-in layout suits. */
enum tables_match {
	TABLES_NEAREST,		/* of another build */
	TABLES_BUILD,		/* of this build, of another or an unknown revision */
	TABLES_EXACT		/* of this build and revision */
};

struct tables_layout {
	enum tables_match match;
	char release[24];	/* whose _EPROCESS was taken, "10.0.17763.107" */
};

/*
 * The structures of the release that is nearest: this one, else the same build (the revision
 * below before the one above), else the newest build that is older, else the oldest. A structure
 * that it lacks comes from the next nearest that has it. -ENOENT: none of this machine; -ENOMEM.
 */
int tables_types(const struct windows_kernel_id *id, struct types *ret,
		 struct tables_layout *layout_ret);

/*
 * Add the symbols of the kernel with this PDB id, slid by id->base, and give its release. -ENOENT:
 * not known; -ENOMEM.
 */
int tables_symbols(const struct windows_kernel_id *id, struct symbols *symbols,
		   char release_ret[24]);

/* Release number `index` of the layouts, for tests and listings. False: no more. */
bool tables_release(uint32_t index, struct windows_kernel_id *ret);

#endif
