/* SPDX-License-Identifier: Apache-2.0 */
#include "os/windows/image.h"

#include <ctype.h>

#include "profile/pe.h"

#define IMAGE_BYTES_MAX (256u * 1024 * 1024)

/* Names are told as they are: they have no spaces and no control characters. */
static bool is_plain(const char *text)
{
	for (; *text; text++)
		if (!isgraph((unsigned char)*text))
			return false;
	return true;
}

static void read_sections(struct hvmi_pe *pe, struct windows_image *image)
{
	struct hvmi_pe_section from = { .size = sizeof(from) };
	for (uint32_t i = 0; image->section_count < IMAGE_SECTIONS_MAX; i++) {
		int rc = hvmi_pe_section(pe, i, &from);
		if (rc == -EBADMSG)
			continue;
		if (rc)
			return;
		struct windows_section *to = &image->sections[image->section_count++];
		*to = (struct windows_section){ .rva = (uint32_t)(from.gva - image->base),
						.bytes = (uint32_t)from.bytes,
						.flags = from.characteristics };
		memcpy(to->name, from.name, sizeof(to->name));
		for (char *c = to->name; *c; c++)
			if (!isgraph((unsigned char)*c))
				*c = '?';
	}
}

static void read_names(struct hvmi_pe *pe, struct windows_image *image)
{
	struct hvmi_pe_debug debug = { .size = sizeof(debug) };
	if (pe_export_name(pe, image->name, sizeof(image->name)) || !is_plain(image->name))
		image->name[0] = '\0';
	if (hvmi_pe_debug(pe, &debug, NULL) || !debug.name[0] || !is_plain(debug.name))
		return;
	memcpy(image->pdb_name, debug.name, IMAGE_PDB_NAME - 1);
	memcpy(image->pdb_guid, debug.guid, sizeof(image->pdb_guid));
	image->pdb_age = debug.age;
}

int windows_image_read(struct hvmi_space *space, uint64_t base, struct windows_image *ret)
{
	struct hvmi_pe_info info = { .size = sizeof(info) };
	struct hvmi_pe *pe;
	int rc = hvmi_pe_open(space, base, &pe, NULL);
	if (rc)
		return rc;
	hvmi_pe_get_info(pe, &info);
	if (info.bytes < FRAME_SIZE || info.bytes > IMAGE_BYTES_MAX) {
		hvmi_pe_close(pe);
		return -EBADMSG;
	}
	memset(ret, 0, sizeof(*ret));
	ret->base = base;
	ret->bytes = (uint32_t)info.bytes;
	ret->machine = (uint16_t)info.machine;
	read_sections(pe, ret);
	read_names(pe, ret);
	hvmi_pe_close(pe);
	return 0;
}
