/* SPDX-License-Identifier: Apache-2.0 */
/*
 * LiME's own format: headers of 32 bytes, each before the bytes of its range: magic, version,
 * first and last address (inclusive), 8 reserved bytes. From "The LiME Memory Range Header Version
 * 1 Specification", doc/README.md of LiME. AVML writes the same as its version 1.
 */
#include "image.h"
#include "lime.h"

#include <inttypes.h>
#include <stdio.h>

int lime_header(const struct dump_parse *parse, uint64_t offset, struct lime_header *ret)
{
	uint8_t raw[LIME_HEADER_BYTES];
	int rc = parse_read(parse, offset, raw, sizeof(raw), "a range header");
	if (rc)
		return rc;
	uint32_t magic = load_le32(raw), version = load_le32(raw + 4);
	uint64_t first = load_le64(raw + 8), last = load_le64(raw + 16);
	if (magic != LIME_MAGIC && magic != AVML_MAGIC)
		return parse_error(parse, -EBADMSG, "no range header at offset %" PRIu64
				   ": the file is damaged, or memory and headers are padded, "
				   "which is not supported", offset);
	if (version != (magic == LIME_MAGIC ? 1 : 2))
		return parse_error(parse, -ENOTSUP, "the range header at offset %" PRIu64
				   " has version %u, which is not known", offset, version);
	if (first > last || last == UINT64_MAX)
		return parse_error(parse, -EBADMSG, "the range header at offset %" PRIu64
				   " says 0x%" PRIx64 "-0x%" PRIx64 ": the file is damaged",
				   offset, first, last);
	*ret = (struct lime_header){ .compressed = magic == AVML_MAGIC, .gpa = first,
				     .len = last - first + 1 };
	return 0;
}

bool lime_at_end(const struct dump_parse *parse, uint64_t offset)
{
	uint64_t left = parse->input.size - offset;
	uint8_t rest[PAGE_BYTES];
	/* What was copied in blocks may end in zeros up to a block's end. */
	size_t len = MIN(left, sizeof(rest));
	if (left && input_read(&parse->input, offset, rest, len))
		return false;
	for (size_t i = 0; i < len; i++)
		if (rest[i])
			return left < LIME_HEADER_BYTES;
	return left <= sizeof(rest);
}

int lime_parse(const struct dump_parse *parse, struct dump_image *image)
{
	uint64_t offset = 0, size = parse->input.size;
	snprintf(image->format, sizeof(image->format), "LiME");
	while (offset == 0 || !lime_at_end(parse, offset)) {
		struct lime_header header;
		int rc = lime_header(parse, offset, &header);
		if (rc)
			return rc;
		if (header.compressed)
			return parse_error(parse, -EBADMSG, "a compressed block of AVML at offset "
					   "%" PRIu64 " follows ranges of LiME: the file is "
					   "damaged", offset);
		offset += LIME_HEADER_BYTES;
		uint64_t len = MIN(header.len, size - offset);
		rc = parse_add(parse, image, header.gpa, len, offset);
		if (rc)
			return rc;
		offset += len;
		if (len < header.len)
			parse_warn(parse, "the file was cut short: 0x%" PRIx64 " bytes of memory "
				   "from 0x%" PRIx64 " on are absent", header.len - len,
				   header.gpa + len);
	}
	if (offset < size && size - offset < LIME_HEADER_BYTES)
		parse_warn(parse, "%" PRIu64 " bytes at the end of the file are left out",
			   size - offset);
	int rc = parse_settle(parse, image);
	if (!rc && image->layout.overlap)
		parse_warn(parse, "0x%" PRIx64 " bytes of memory are in the file more than once",
			   image->layout.overlap);
	return rc;
}
