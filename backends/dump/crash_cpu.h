/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Registers of all processors of a crash dump. Its header has those of one; the kernel saved the others'
 * in their KPRCBs when it froze them, where its debugger data leads to.
 */
#ifndef HVMI_BACKENDS_DUMP_CRASH_CPU_H
#define HVMI_BACKENDS_DUMP_CRASH_CPU_H

#include "image.h"
#include "vcpu.h"

/* What the header tells. */
struct crash_state {
	uint64_t root;		/* DirectoryTableBase */
	uint64_t debugger;	/* KdDebuggerDataBlock */
	uint32_t processors;
	bool wide, pae;
};

/*
 * Fill in vCPUs by the index that they have in KiProcessorBlock, of an image whose layout is settled and
 * which has none. What cannot be found stays unknown. -ENOENT: nothing was found; -ENOMEM, with a
 * sentence.
 */
int crash_processors(const struct dump_parse *parse, struct dump_image *image,
		     const struct crash_state *state);

#endif
