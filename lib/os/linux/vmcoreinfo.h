/* SPDX-License-Identifier: Apache-2.0 */
/*
 * VMCOREINFO: lines of KEY=VALUE that the kernel writes for makedumpfile and crash, into a page of
 * its own and into an ELF note: Documentation/admin-guide/kdump/vmcoreinfo.rst, kernel/crash_core.c.
 */
#ifndef HVMI_LIB_VMCOREINFO_H
#define HVMI_LIB_VMCOREINFO_H

#include "util/util.h"

#define VMCOREINFO_BYTES_MAX 4096u

struct vmcoreinfo {
	bool have_stext, have_root, have_phys_base, have_slide, have_levels;
	char release[128];	/* "" if it is missing */
	uint64_t stext;		/* SYMBOL(_stext) */
	uint64_t root;		/* SYMBOL(swapper_pg_dir), guest-virtual */
	uint64_t phys_base;	/* gpa = gva - 0xffffffff80000000 + phys_base, modulo 2^64 */
	uint64_t slide;		/* KERNELOFFSET */
	uint32_t levels;	/* 4 or 5 */
};

/*
 * Where the text begins in a page that may hold it: at its start, or behind the header of an ELF
 * note. -ENOENT: it is none. For searches: quick to say no.
 */
int vmcoreinfo_probe(const void *page, size_t len, size_t *offset_ret);

/* Parse the text; ends at a NUL or at len. -EBADMSG: it does not begin with OSRELEASE. */
int vmcoreinfo_parse(const void *text, size_t len, struct vmcoreinfo *ret);

#endif
