/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Cores that Xen's `xl dump-core` writes: ELF files of sections without segments, as
 * docs/misc/dump-core-format.txt of Xen describes them.
 */
#include "elf.h"
#include "vcpu.h"

#include <inttypes.h>
#include <stdio.h>

#define XEN_MAGIC_HVM 0xf00febeeu
#define XEN_MAGIC_PV 0xf00febedu
#define NOTE_HEADER 0x2000001u
#define NOTE_FORMAT_VERSION 0x2000003u
#define INVALID_PFN UINT64_MAX

/* A terabyte and more; what is more cannot have been written by one xl. */
#define XEN_PAGES_MAX (1u << 30)

enum { NOTES, PRSTATUS, PAGES, PFN, P2M, SECTIONS };

struct xen_core {
	bool present[SECTIONS];
	struct elf_section sections[SECTIONS];
	uint64_t magic, vcpus, pages, page_size;
};

static int find_sections(const struct dump_parse *parse, const struct elf_header *header,
			 struct xen_core *core)
{
	static const char *const names[SECTIONS] = {
		[NOTES] = ".note.Xen", [PRSTATUS] = ".xen_prstatus", [PAGES] = ".xen_pages",
		[PFN] = ".xen_pfn", [P2M] = ".xen_p2m",
	};
	struct elf_section strings;
	int rc = elf_section(parse, header, header->names_index, &strings);
	if (rc)
		return rc;
	uint64_t size = parse->input.size;
	if (strings.offset > size || strings.len > size - strings.offset)
		return parse_error(parse, -EBADMSG, "the names of sections should lie at offset %"
				   PRIu64 ", but the file has only %" PRIu64 " bytes: copy it "
				   "again, whole", strings.offset, size);
	for (uint64_t i = 0; i < header->section_count; i++) {
		struct elf_section section;
		char name[16] = "";
		rc = elf_section(parse, header, i, &section);
		if (rc)
			return rc;
		if (section.name >= strings.len)
			continue;
		size_t len = MIN(sizeof(name) - 1, strings.len - section.name);
		if (input_read(&parse->input, strings.offset + section.name, name, len))
			continue;
		for (size_t j = 0; j < SECTIONS; j++)
			if (strcmp(name, names[j]) == 0 && !core->present[j]) {
				core->present[j] = true;
				core->sections[j] = section;
			}
	}
	return 0;
}

/* The notes that say what the sections hold. */
static int read_notes(const struct dump_parse *parse, struct xen_core *core)
{
	const struct elf_section *notes = &core->sections[NOTES];
	uint64_t at = notes->offset, left = notes->len;
	for (int i = 0; i < 64 && left >= 16; i++) {
		uint8_t raw[16 + 32];
		int rc = parse_read(parse, at, raw, 16, "a Xen note");
		if (rc)
			return rc;
		uint32_t name_len = load_le32(raw), len = load_le32(raw + 4);
		uint32_t type = load_le32(raw + 8);
		uint64_t room = 16 + (((uint64_t)len + 3) & ~3ull);
		if (name_len != 4 || memcmp(raw + 12, "Xen", 4) != 0 || room > left)
			break;
		if (type == NOTE_HEADER && len >= 32) {
			rc = parse_read(parse, at + 16, raw + 16, 32, "the Xen header note");
			if (rc)
				return rc;
			core->magic = load_le64(raw + 16);
			core->vcpus = load_le64(raw + 24);
			core->pages = load_le64(raw + 32);
			core->page_size = load_le64(raw + 40);
		} else if (type == NOTE_FORMAT_VERSION && len >= 8) {
			rc = parse_read(parse, at + 16, raw + 16, 8, "the Xen version note");
			if (rc)
				return rc;
			if (load_le64(raw + 16) >> 32)
				return parse_error(parse, -ENOTSUP, "this Xen core has format "
						   "version %u.%u, which is not known",
						   load_le32(raw + 20), load_le32(raw + 16));
		}
		at += room;
		left -= room;
	}
	if (core->magic != XEN_MAGIC_HVM && core->magic != XEN_MAGIC_PV)
		return parse_error(parse, -EBADMSG, "the Xen core lacks its header note: the file "
				   "is damaged");
	if (core->page_size != PAGE_BYTES)
		return parse_error(parse, -ENOTSUP, "the Xen core has pages of %" PRIu64 " bytes; "
				   "4096 are supported", core->page_size);
	return 0;
}

static int take_vcpus(const struct dump_parse *parse, const struct xen_core *core,
		      struct dump_image *image)
{
	const struct elf_section *section = &core->sections[PRSTATUS];
	if (!core->present[PRSTATUS] || core->vcpus == 0 || image->arch != HVMI_ARCH_X86)
		return 0;
	uint64_t each = section->len / core->vcpus;
	if (each != XEN_CONTEXT64_BYTES && each != XEN_CONTEXT32_BYTES) {
		parse_warn(parse, "vCPU contexts of %" PRIu64 " bytes are not known: registers are "
			   "left out", each);
		return 0;
	}
	for (uint64_t i = 0; i < MIN(core->vcpus, DUMP_VCPUS_MAX); i++) {
		uint8_t context[XEN_CONTEXT64_BYTES];
		uint64_t at;
		if (__builtin_add_overflow(section->offset, i * each, &at) ||
		    input_read(&parse->input, at, context, each)) {
			parse_warn(parse, "the registers from vCPU %" PRIu64 " on are absent", i);
			return 0;
		}
		struct dump_vcpu *vcpu = image_vcpu(image, i);
		if (!vcpu)
			return parse_error(parse, -ENOMEM, "out of memory");
		vcpu_from_xen(vcpu, context, each == XEN_CONTEXT64_BYTES,
			      core->magic == XEN_MAGIC_HVM);
	}
	return 0;
}

/* What could be had of the pages. */
struct pages {
	uint64_t bytes;		/* of .xen_pages that are in the file */
	uint64_t absent;
};

static int take_page(const struct dump_parse *parse, const struct xen_core *core, uint64_t index,
		     uint64_t pfn, struct pages *pages, struct dump_image *image)
{
	if (pfn == INVALID_PFN)
		return 0;
	if (pfn > UINT64_MAX / PAGE_BYTES - 1)
		return parse_error(parse, -EBADMSG, "page %" PRIu64 " has the frame number 0x%"
				   PRIx64 ": the file is damaged", index, pfn);
	if (index * PAGE_BYTES >= pages->bytes || pages->bytes - index * PAGE_BYTES < PAGE_BYTES) {
		pages->absent++;
		return 0;
	}
	return parse_add(parse, image, pfn * PAGE_BYTES, PAGE_BYTES,
			 core->sections[PAGES].offset + index * PAGE_BYTES);
}

static int take_pages(const struct dump_parse *parse, const struct xen_core *core,
		      struct dump_image *image)
{
	bool pfn = core->present[PFN];
	const struct elf_section *index = &core->sections[pfn ? PFN : P2M];
	const struct elf_section *section = &core->sections[PAGES];
	size_t entry = pfn ? 8 : 16;
	uint64_t size = parse->input.size, count = MIN(core->pages, index->len / entry);
	struct pages pages = { 0 };
	if (section->offset < size)
		pages.bytes = MIN(section->len, size - section->offset);
	if (count > XEN_PAGES_MAX)
		return parse_error(parse, -EOVERFLOW, "%" PRIu64 " pages are more than the %u that "
				   "are supported", count, XEN_PAGES_MAX);
	for (uint64_t i = 0; i < count;) {
		uint8_t raw[8192];
		uint64_t n = MIN(count - i, sizeof(raw) / entry);
		int rc = parse_read(parse, index->offset + i * entry, raw, n * entry,
				    "the table of page numbers");
		if (rc)
			return rc;
		for (uint64_t j = 0; j < n; j++) {
			rc = take_page(parse, core, i + j, load_le64(raw + j * entry), &pages,
				       image);
			if (rc)
				return rc;
		}
		i += n;
	}
	if (pages.absent)
		parse_warn(parse, "%" PRIu64 " pages lie beyond the end of the file and are absent; "
			   "was it cut short?", pages.absent);
	return 0;
}

int xen_parse(const struct dump_parse *parse, const struct elf_header *header,
	      struct dump_image *image)
{
	struct xen_core core = { 0 };
	if (header->section_count == 0 || header->sections_at == 0 || !header->wide)
		return -ENOENT;
	int rc = find_sections(parse, header, &core);
	if (rc)
		return rc;
	if (!core.present[NOTES] && !core.present[PAGES])
		return -ENOENT;
	if (!core.present[NOTES] || !core.present[PAGES] ||
	    (!core.present[PFN] && !core.present[P2M]))
		return parse_error(parse, -EBADMSG, "the Xen core lacks a section that it must "
				   "have: the file is damaged");
	rc = read_notes(parse, &core);
	if (rc)
		return rc;
	bool pv = core.magic == XEN_MAGIC_PV;
	snprintf(image->format, sizeof(image->format), "ELF core (Xen %s)", pv ? "PV" : "HVM");
	if (pv)
		parse_warn(parse, "this is a PV guest, whose page tables hold machine addresses: "
			   "only guest-physical memory can be read");
	rc = take_vcpus(parse, &core, image);
	if (!rc)
		rc = take_pages(parse, &core, image);
	return rc ? rc : parse_settle(parse, image);
}
