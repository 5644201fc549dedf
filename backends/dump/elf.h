/* SPDX-License-Identifier: Apache-2.0 */
/* What the readers of ELF cores share; constants are those of the ELF specification. */
#ifndef HVMI_BACKENDS_DUMP_ELF_H
#define HVMI_BACKENDS_DUMP_ELF_H

#include "image.h"

#define EM_386 3
#define EM_X86_64 62
#define EM_AARCH64 183

struct elf_header {
	bool wide;		/* ELFCLASS64 */
	uint16_t type, machine;
	uint64_t segments_at, sections_at;
	uint64_t segment_count, section_count;
	uint16_t segment_size, section_size;	/* bytes of one header */
	uint32_t names_index;
};

struct elf_section {
	uint32_t name, type;
	uint64_t offset, len;
	uint32_t info, link;
};

int elf_section(const struct dump_parse *parse, const struct elf_header *header, uint64_t index,
		struct elf_section *ret);

/* A core of Xen, which has sections and no segments. -ENOENT: it is none; no sentence is set. */
int xen_parse(const struct dump_parse *parse, const struct elf_header *header,
	      struct dump_image *image);

#endif
