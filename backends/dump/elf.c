/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ELF cores of machines: of QEMU's dump-guest-memory, kexec's /proc/vmcore, VirtualBox and Xen. The
 * layout of headers is that of the ELF-64 Object File Format and of the System V ABI, chapter 4
 * and 5; PN_XNUM is in the Linux elf(5) manual page.
 */
#include "elf.h"

#include <inttypes.h>
#include <stdio.h>

#define ET_REL 1
#define ET_EXEC 2
#define ET_DYN 3
#define ET_CORE 4
#define PT_LOAD 1
#define PT_NOTE 4
#define PN_XNUM 0xffff
#define SEGMENTS_MAX LAYOUT_ADDED_MAX

struct segment {
	uint32_t type;
	uint64_t offset, gva, gpa, len;
};

int elf_section(const struct dump_parse *parse, const struct elf_header *header, uint64_t index,
		struct elf_section *ret)
{
	uint8_t raw[64];
	uint64_t at;
	if (__builtin_mul_overflow(index, header->section_size, &at) ||
	    __builtin_add_overflow(at, header->sections_at, &at))
		return parse_error(parse, -EBADMSG, "section headers wrap around");
	int rc = parse_read(parse, at, raw, header->wide ? 64 : 40, "a section header");
	if (rc)
		return rc;
	ret->name = load_le32(raw);
	ret->type = load_le32(raw + 4);
	ret->offset = header->wide ? load_le64(raw + 24) : load_le32(raw + 16);
	ret->len = header->wide ? load_le64(raw + 32) : load_le32(raw + 20);
	ret->link = load_le32(raw + (header->wide ? 40 : 24));
	ret->info = load_le32(raw + (header->wide ? 44 : 28));
	return 0;
}

static int read_header(const struct dump_parse *parse, struct elf_header *ret)
{
	uint8_t raw[64] = { 0 };
	int rc = parse_read(parse, 0, raw, 52, "the ELF header");
	if (rc)
		return rc;
	if (memcmp(raw, "\177ELF", 4) != 0)
		return parse_error(parse, -EBADMSG, "this is no ELF file");
	if (raw[4] != 1 && raw[4] != 2)
		return parse_error(parse, -EBADMSG, "ELF class %u is not known: the file is "
				   "damaged", raw[4]);
	if (raw[5] != 1)
		return parse_error(parse, -ENOTSUP, "this ELF file is not little-endian");
	*ret = (struct elf_header){ .wide = raw[4] == 2 };
	if (ret->wide) {
		rc = parse_read(parse, 0, raw, 64, "the ELF header");
		if (rc)
			return rc;
	}
	const uint8_t *tail = raw + (ret->wide ? 52 : 40);
	ret->type = load_le16(raw + 16);
	ret->machine = load_le16(raw + 18);
	ret->segments_at = ret->wide ? load_le64(raw + 32) : load_le32(raw + 28);
	ret->sections_at = ret->wide ? load_le64(raw + 40) : load_le32(raw + 32);
	ret->segment_size = load_le16(tail + 2);
	ret->segment_count = load_le16(tail + 4);
	ret->section_size = load_le16(tail + 6);
	ret->section_count = load_le16(tail + 8);
	ret->names_index = load_le16(tail + 10);
	return 0;
}

/* Counts that do not fit in the header are in the first section's. */
static int read_counts(const struct dump_parse *parse, struct elf_header *header)
{
	if (header->sections_at && header->section_size < (header->wide ? 64 : 40)) {
		if (header->segment_count == PN_XNUM || !header->segment_count)
			return parse_error(parse, -EBADMSG, "section headers of %u bytes are too "
					   "small: the file is damaged", header->section_size);
		header->sections_at = 0;
	}
	if (header->segment_count == PN_XNUM && header->sections_at) {
		struct elf_section first;
		int rc = elf_section(parse, header, 0, &first);
		if (rc)
			return rc;
		header->segment_count = first.info;
	}
	if (header->segment_count > SEGMENTS_MAX)
		return parse_error(parse, -EOVERFLOW, "%" PRIu64 " segments are more than the %u "
				   "that are supported", header->segment_count, SEGMENTS_MAX);
	if (header->segment_count && header->segment_size < (header->wide ? 56 : 32))
		return parse_error(parse, -EBADMSG, "segment headers of %u bytes are too small: "
				   "the file is damaged", header->segment_size);
	return 0;
}

static int check_kind(const struct dump_parse *parse, const struct elf_header *header,
		      struct dump_image *image)
{
	if (header->type != ET_CORE)
		return parse_error(parse, -EBADMSG, "this is %s, not a memory image (add "
				   "format=raw if it is raw memory all the same)",
				   header->type == ET_REL ? "an ELF object file" :
				   header->type == ET_EXEC ? "an ELF program" :
				   header->type == ET_DYN ? "an ELF program or library" :
				   "an ELF file of an unknown type");
	if (header->machine == EM_386 || header->machine == EM_X86_64)
		image->arch = HVMI_ARCH_X86;
	else if (header->machine == EM_AARCH64)
		image->arch = HVMI_ARCH_ARM64;
	else
		return parse_error(parse, -ENOTSUP, "this is a core of a machine of ELF type %u; "
				   "x86 and arm64 are supported", header->machine);
	return 0;
}

static void decode_segment(const struct elf_header *header, const uint8_t *raw,
			   struct segment *ret)
{
	ret->type = load_le32(raw);
	if (header->wide) {
		ret->offset = load_le64(raw + 8);
		ret->gva = load_le64(raw + 16);
		ret->gpa = load_le64(raw + 24);
		ret->len = load_le64(raw + 32);
	} else {
		ret->offset = load_le32(raw + 4);
		ret->gva = load_le32(raw + 8);
		ret->gpa = load_le32(raw + 12);
		ret->len = load_le32(raw + 16);
	}
}

/* What the segments of a file have in common. */
struct survey {
	uint64_t loads;		/* PT_LOAD with bytes in the file */
	uint64_t cut;		/* of them, how many reach beyond its end */
	uint64_t absent;	/* bytes that do */
	bool physical;		/* some has a physical address */
	bool virtual;		/* some has a virtual one */
};

static int take_load(const struct dump_parse *parse, const struct elf_header *header,
		     const struct segment *segment, struct survey *survey,
		     struct dump_image *image)
{
	uint64_t size = parse->input.size;
	/* Both mean that the memory is not there: device memory, or kernel addresses of kcore. */
	if (segment->len == 0 || segment->gpa == (header->wide ? UINT64_MAX : UINT32_MAX))
		return 0;
	survey->loads++;
	survey->physical |= segment->gpa != 0;
	survey->virtual |= segment->gva != 0;
	uint64_t here = segment->offset < size ? MIN(segment->len, size - segment->offset) : 0;
	if (here < segment->len) {
		survey->cut++;
		if (__builtin_add_overflow(survey->absent, segment->len - here, &survey->absent))
			survey->absent = UINT64_MAX;
	}
	return parse_add(parse, image, segment->gpa, here, segment->offset);
}

static int take_segments(const struct dump_parse *parse, const struct elf_header *header,
			 struct survey *survey, struct dump_image *image)
{
	uint8_t raw[8192];
	uint64_t size = header->segment_size, left = header->segment_count;
	uint64_t at = header->segments_at;
	if (size > sizeof(raw))
		return parse_error(parse, -EBADMSG, "segment headers of %" PRIu64 " bytes are too "
				   "large: the file is damaged", size);
	while (left) {
		size_t n = MIN(left, sizeof(raw) / size);
		int rc = parse_read(parse, at, raw, n * size, "the table of segments");
		if (rc)
			return rc;
		for (size_t i = 0; i < n; i++) {
			struct segment segment;
			decode_segment(header, raw + i * size, &segment);
			if (segment.type == PT_LOAD)
				rc = take_load(parse, header, &segment, survey, image);
			else if (segment.type == PT_NOTE)
				rc = notes_parse(parse, segment.offset, segment.len, image);
			if (rc)
				return rc;
		}
		left -= n;
		at += n * size;
	}
	return 0;
}

int elf_parse(const struct dump_parse *parse, struct dump_image *image)
{
	struct elf_header header;
	struct survey survey = { 0 };
	int rc = read_header(parse, &header);
	if (!rc)
		rc = check_kind(parse, &header, image);
	if (!rc)
		rc = read_counts(parse, &header);
	if (rc)
		return rc;
	if (header.segment_count == 0) {
		rc = xen_parse(parse, &header, image);
		return rc == -ENOENT ? parse_error(parse, -EBADMSG, "this ELF core has no "
						   "segments of memory") : rc;
	}
	snprintf(image->format, sizeof(image->format), "ELF core");
	rc = take_segments(parse, &header, &survey, image);
	if (rc)
		return rc;
	if (image->vmcoreinfo && !image->notes.qemu && !image->notes.vbox)
		snprintf(image->format, sizeof(image->format), "ELF core (vmcore)");
	if (survey.loads > 1 && survey.virtual && !survey.physical)
		return parse_error(parse, -EBADMSG, "this is the core of a process, not of a "
				   "machine: it tells no physical addresses");
	if (survey.cut)
		parse_warn(parse, "%" PRIu64 " of %" PRIu64 " segments reach beyond the end of "
			   "the file: 0x%" PRIx64 " bytes of memory are absent; was the file cut "
			   "short?", survey.cut, survey.loads, survey.absent);
	if (survey.cut && image->layout.count == 0)
		return parse_error(parse, -EBADMSG, "the file was cut short before its memory");
	return parse_settle(parse, image);
}
