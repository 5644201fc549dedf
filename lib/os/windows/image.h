/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A PE image as it lies in guest memory: just what recognising a kernel and looking up its exports
 * takes. Microsoft Portable Executable and Common Object File Format Specification 11.
 */
#ifndef HVMI_LIB_WINDOWS_IMAGE_H
#define HVMI_LIB_WINDOWS_IMAGE_H

#include <hvmi/space.h>

#include "util/util.h"

#define IMAGE_SECTIONS_MAX 64u
#define IMAGE_PDB_NAME 64u

struct windows_section {
	char name[9];
	uint32_t rva, bytes;
	uint32_t flags;			/* IMAGE_SCN_* */
};
#define SECTION_EXECUTE 0x20000000u
#define SECTION_WRITE 0x80000000u

struct windows_image {
	uint64_t base;			/* guest-virtual */
	uint64_t linked_base;		/* ImageBase; loaders write the real one there */
	uint32_t bytes;			/* SizeOfImage */
	uint32_t timestamp;
	uint32_t entry_rva;
	uint16_t machine;
	uint16_t section_count;
	uint32_t export_rva, export_bytes;
	struct windows_section sections[IMAGE_SECTIONS_MAX];
	char pdb_name[IMAGE_PDB_NAME];	/* "": no CodeView record, or it is not in memory */
	uint8_t pdb_guid[16];
	uint32_t pdb_age;
};

/* Headers and CodeView record. -EFAULT: not in memory; -EBADMSG: no PE image is there. */
int windows_image_read(struct hvmi_space *space, uint64_t base, struct windows_image *ret);

/* The name of the image in its export directory. -ENOENT, -EFAULT. */
int windows_image_export_name(struct hvmi_space *space, const struct windows_image *image,
			      char *buf, size_t size);

/* The address of an export. -ENOENT: there is none (or parts of the directory are not in memory). */
int windows_image_export(struct hvmi_space *space, const struct windows_image *image,
			 const char *name, uint64_t *gva_ret);

/* An export that has a name and is in the image itself. */
struct windows_export {
	uint32_t name;			/* offset in names */
	uint32_t rva;
};
/* All exports, as far as they are in memory. Both are freed by the caller. -ENOENT, -ENOMEM. */
int windows_image_exports(struct hvmi_space *space, const struct windows_image *image,
			  struct windows_export **ret, char **names_ret, uint32_t *count_ret);

#endif
