/* SPDX-License-Identifier: Apache-2.0 */
/*
 * struct disk_dump_header and struct kdump_sub_header as the IMPLEMENTATION file of makedumpfile
 * and QEMU's include/sysemu/dump.h (DiskDumpHeader64, KdumpSubHeader64 and the same of 32 bits)
 * give them.
 */
#include "kdump_header.h"

#include <inttypes.h>

#define VERSION_MAX 16u
#define BLOCK_MAX 65536u
/* The bitmaps of 16 TiB, and notes of thousands of vCPUs. */
#define BITMAPS_MAX (1ull << 30)
#define NOTES_MAX (64u << 20)

/* Fields whose place depends on the width of the machine that wrote them. */
struct places {
	uint16_t status, block_size, sub_blocks, bitmap_blocks, max_mapnr;
	/* In the sub-header. */
	uint16_t split, first, end, vmcoreinfo, notes, first_64, end_64, max_mapnr_64;
	uint16_t len;
};

static const struct places places64 = {
	.status = 424, .block_size = 428, .sub_blocks = 432, .bitmap_blocks = 436,
	.max_mapnr = 440, .split = 12, .first = 16, .end = 24, .vmcoreinfo = 32, .notes = 48,
	.first_64 = 80, .end_64 = 88, .max_mapnr_64 = 96, .len = 104,
};
static const struct places places32 = {
	.status = 412, .block_size = 416, .sub_blocks = 420, .bitmap_blocks = 424,
	.max_mapnr = 428, .split = 8, .first = 12, .end = 16, .vmcoreinfo = 20, .notes = 32,
	.first_64 = 56, .end_64 = 64, .max_mapnr_64 = 72, .len = 80,
};

#define MACHINE_AT (12 + 4 * 65)
#define MACHINE_BYTES 65

static bool plausible(const uint8_t *raw, const struct places *p)
{
	uint32_t size = load_le32(raw + p->block_size), sub = load_le32(raw + p->sub_blocks);
	return size >= PAGE_BYTES && size <= BLOCK_MAX && (size & (size - 1)) == 0 && sub >= 1 &&
	       sub < 65536;
}

/* An area that the sub-header tells of. Offsets have 64 bits always. */
static int area(const struct dump_parse *parse, const struct kdump_header *header,
		const uint8_t *at, uint64_t most, const char *what, uint64_t *offset_ret,
		uint64_t *len_ret)
{
	uint64_t offset = load_le64(at);
	uint64_t len = header->wide ? load_le64(at + 8) : load_le32(at + 8);
	if (len > most || (len && (offset > parse->input.size ||
				   len > parse->input.size - offset)))
		return parse_error(parse, -EBADMSG, "%s should take 0x%" PRIx64 " bytes at offset "
				   "0x%" PRIx64 ", which the file does not have: it is damaged or "
				   "was cut short", what, len, offset);
	*offset_ret = offset;
	*len_ret = len;
	return 0;
}

static int sub_header(const struct dump_parse *parse, const struct places *p,
		      struct kdump_header *header)
{
	uint8_t raw[104];
	int rc = parse_read(parse, header->block_size, raw, p->len, "the kdump sub-header");
	if (rc)
		return rc;
	/* Fields came with versions; before, they were zeros of the block's rest. */
	header->split = header->version >= 2 && load_le32(raw + p->split);
	if (header->version >= 3)
		rc = area(parse, header, raw + p->vmcoreinfo, DUMP_VMCOREINFO_MAX, "VMCOREINFO",
			  &header->vmcoreinfo_at, &header->vmcoreinfo_len);
	if (!rc && header->version >= 4)
		rc = area(parse, header, raw + p->notes, NOTES_MAX, "the notes",
			  &header->notes_at, &header->notes_len);
	if (rc)
		return rc;
	if (header->version >= 6)
		header->pages = load_le64(raw + p->max_mapnr_64);
	header->end = header->pages;
	if (!header->split)
		return 0;
	if (header->version >= 6) {
		header->first = load_le64(raw + p->first_64);
		header->end = load_le64(raw + p->end_64);
	} else {
		header->first = header->wide ? load_le64(raw + p->first) : load_le32(raw + p->first);
		header->end = header->wide ? load_le64(raw + p->end) : load_le32(raw + p->end);
	}
	header->end = MIN(header->end, header->pages);
	return 0;
}

static int bitmaps(const struct dump_parse *parse, uint32_t sub_blocks, uint32_t bitmap_blocks,
		   struct kdump_header *header)
{
	uint64_t at = (1 + (uint64_t)sub_blocks) * header->block_size;
	uint64_t len = (uint64_t)bitmap_blocks * header->block_size;
	if (len > BITMAPS_MAX)
		return parse_error(parse, -EOVERFLOW, "bitmaps of %" PRIu64 " bytes are larger "
				   "than is supported", len);
	if (at > parse->input.size || len > parse->input.size - at)
		return parse_error(parse, -EBADMSG, "the file was cut short in its bitmaps");
	/* Two bitmaps, one after the other. */
	uint64_t each = bitmap_blocks / 2 * (uint64_t)header->block_size;
	if (header->pages == 0 || header->pages > each * 8)
		return parse_error(parse, -EBADMSG, "bitmaps of %" PRIu64 " bytes cannot tell of "
				   "%" PRIu64 " pages: the file is damaged", len, header->pages);
	header->ram_at = at;
	header->dumped_at = at + each;
	header->descriptors_at = at + len;
	return 0;
}

static uint32_t machine_arch(const uint8_t *raw)
{
	const char *machine = (const char *)raw + MACHINE_AT;
	if (strncmp(machine, "x86_64", MACHINE_BYTES) == 0 ||
	    (machine[0] == 'i' && strncmp(machine + 2, "86", MACHINE_BYTES - 2) == 0))
		return HVMI_ARCH_X86;
	return strncmp(machine, "aarch64", MACHINE_BYTES) == 0 ? HVMI_ARCH_ARM64 :
								 HVMI_ARCH_UNKNOWN;
}

int kdump_header_parse(const struct dump_parse *parse, struct kdump_header *ret,
		       uint32_t *arch_ret)
{
	uint8_t raw[464];
	int rc = parse_read(parse, 0, raw, sizeof(raw), "the kdump header");
	if (rc)
		return rc;
	if (memcmp(raw, "KDUMP   ", 8) != 0 && memcmp(raw, "DISKDUMP", 8) != 0)
		return parse_error(parse, -EBADMSG, "this is no kdump-compressed image");
	struct kdump_header header = { .version = load_le32(raw + 8) };
	const struct places *p = plausible(raw, &places64) ? &places64 : &places32;
	header.wide = p == &places64;
	if (!plausible(raw, p) || header.version == 0 || header.version > VERSION_MAX)
		return parse_error(parse, -EBADMSG, "the kdump header makes no sense: the file is "
				   "damaged, or of a big-endian machine");
	header.status = load_le32(raw + p->status);
	header.block_size = load_le32(raw + p->block_size);
	header.pages = load_le32(raw + p->max_mapnr);
	rc = sub_header(parse, p, &header);
	if (!rc)
		rc = bitmaps(parse, load_le32(raw + p->sub_blocks),
			     load_le32(raw + p->bitmap_blocks), &header);
	if (rc)
		return rc;
	*ret = header;
	*arch_ret = machine_arch(raw);
	return 0;
}
