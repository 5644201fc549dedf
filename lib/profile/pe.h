/* SPDX-License-Identifier: Apache-2.0 */
/* Inside the reader of mapped PE images: from a source of bytes, so that tests need no guest. */
#ifndef HVMI_LIB_PE_H
#define HVMI_LIB_PE_H

#include <hvmi/pe.h>

#include "util/util.h"

enum pe_directory {
	PE_EXPORT = 0, PE_IMPORT = 1, PE_RESOURCE = 2, PE_EXCEPTION = 3, PE_DEBUG = 6,
	PE_DIRECTORIES = 16
};

/* Names are cut here; mangled ones of C++ reach 4 KiB. */
#define PE_NAME_BYTES 4097u
#define PE_MODULE_BYTES 261u
#define PE_SECTIONS_MAX 96u		/* what Windows loads */
#define PE_EXPORTS_MAX 65536u		/* ordinals have 16 bits */

struct pe_range {
	uint32_t rva, bytes;
};

/* Tables of the export directory, read once. What was not in memory is PE_MISSING. */
#define PE_MISSING UINT32_MAX
struct pe_exports {
	uint32_t ordinal_base, function_count, name_count;
	uint32_t *functions, *names, *ordinals;
	uint8_t *named;		/* by function: whether a name leads to it */
	bool unsure;		/* some of that is not in memory */
};

struct hvmi_pe {
	struct source source;
	struct hvmi_space *space;
	uint64_t base;
	uint32_t bytes;
	struct hvmi_pe_info info;
	struct pe_range directories[PE_DIRECTORIES];
	uint32_t sections_rva;
	struct pe_exports *exports;	/* NULL: not read yet */
	char name[PE_NAME_BYTES], other[PE_NAME_BYTES];
};

/* Without hvmi_space: what is at `base` of a source. */
int pe_open(const struct source *source, uint64_t base, struct hvmi_pe **ret,
	    struct hvmi_error *err);

/* -EFAULT: a part of it is absent, -EBADMSG: it lies outside the image; other errors of reading. */
int pe_read(const struct hvmi_pe *pe, uint32_t rva, void *buf, uint32_t len);
/* A NUL-terminated text, cut at size - 1 bytes. */
int pe_read_text(const struct hvmi_pe *pe, uint32_t rva, char *buf, uint32_t size);
/* For what failed to be read. */
int pe_failed(int rc, const struct hvmi_pe *pe, const char *what, struct hvmi_error *err);
/* The name of the image in its export directory. -ENOENT: it has none; else as pe_read(). */
int pe_export_name(const struct hvmi_pe *pe, char *buf, uint32_t size);
void pe_exports_free(struct pe_exports *exports);

#endif
