/* SPDX-License-Identifier: Apache-2.0 */
/* What recognising a kernel takes of its image in guest memory. */
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
	uint32_t bytes;			/* SizeOfImage */
	uint16_t machine;
	uint16_t section_count;
	struct windows_section sections[IMAGE_SECTIONS_MAX];
	char name[32];			/* in its export directory; "": none, or it is not in memory */
	char pdb_name[IMAGE_PDB_NAME];	/* "": no CodeView record, or it is not in memory */
	uint8_t pdb_guid[16];
	uint32_t pdb_age;
};

/* -EFAULT: its headers are not in memory; -EBADMSG: no PE image is there; -ENOMEM. */
int windows_image_read(struct hvmi_space *space, uint64_t base, struct windows_image *ret);

#endif
