/* SPDX-License-Identifier: Apache-2.0 */
#include "image.h"

#include <inttypes.h>
#include <stdio.h>

static int compare(const void *a, const void *b)
{
	const struct dump_hole *x = a, *y = b;
	return x->start < y->start ? -1 : x->start > y->start;
}

static int check_holes(const struct dump_parse *parse, const struct dump_hole *holes, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		const struct dump_hole *hole = &holes[i];
		/* No whole pages: firmware takes the last KiB below 640 KiB, and LiME leaves it out. */
		if (hole->len == 0 || hole->start > UINT64_MAX - hole->len)
			return parse_error(parse, -EINVAL, "hole=0x%" PRIx64 "+0x%" PRIx64
					   " is empty or reaches behind the end of the address "
					   "space", hole->start, hole->len);
		if (i && hole->start - holes[i - 1].start < holes[i - 1].len)
			return parse_error(parse, -EINVAL, "the holes at 0x%" PRIx64
					   " and 0x%" PRIx64 " overlap", holes[i - 1].start,
					   hole->start);
	}
	return 0;
}

int raw_parse(const struct dump_parse *parse, uint64_t base, struct dump_hole *holes,
	      size_t hole_count, struct dump_image *image)
{
	uint64_t size = parse->input.size, done = 0, gpa = base;
	if (hole_count)
		qsort(holes, hole_count, sizeof(*holes), compare);
	int rc = check_holes(parse, holes, hole_count);
	if (rc)
		return rc;
	if (base % PAGE_BYTES)
		return parse_error(parse, -EINVAL, "base=0x%" PRIx64 " is no multiple of 4096",
				   base);
	snprintf(image->format, sizeof(image->format), "raw");
	for (size_t i = 0; i < hole_count; i++) {
		const struct dump_hole *hole = &holes[i];
		if (hole->start > gpa) {
			uint64_t len = MIN(hole->start - gpa, size - done);
			rc = parse_add(parse, image, gpa, len, done);
			if (rc)
				return rc;
			done += len;
		}
		if (done == size) {
			parse_warn(parse, "the hole at 0x%" PRIx64 " changes nothing: the memory "
				   "ends before it", hole->start);
			break;
		}
		gpa = MAX(gpa, hole->start + hole->len);
	}
	if (size - done > UINT64_MAX - gpa)
		return parse_error(parse, -EINVAL, "base= or hole= puts memory behind the end of "
				   "the address space");
	rc = parse_add(parse, image, gpa, size - done, done);
	if (rc)
		return rc;
	uint64_t end = gpa + (size - done);
	if (end % PAGE_BYTES)
		parse_warn(parse, "memory ends at 0x%" PRIx64 ", where the last page has only "
			   "%" PRIu64 " bytes; was the file cut short, or is a hole missing?", end,
			   end % PAGE_BYTES);
	return parse_settle(parse, image);
}
