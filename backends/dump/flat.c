/* SPDX-License-Identifier: Apache-2.0 */
/*
 * makedumpfile's flattened form, which QEMU writes unless it is asked for a "-raw" one: a header
 * of 4096 bytes (signature, type 1 and version 1 as big-endian 64-bit numbers), then records of a
 * big-endian offset and length and so many bytes, up to an offset of -1 (makedumpfile(8), -F;
 * struct MakedumpfileHeader and MakedumpfileDataHeader of QEMU's include/sysemu/dump.h). Where two
 * records tell of the same bytes, the later one holds.
 */
#include "image.h"

#include <inttypes.h>

#define HEADER_BYTES 4096u
#define RECORD_BYTES 16u
/* The image in order has all bytes of the flattened one, and hardly more. */
#define HOLES_MAX (1ull << 30)
/* 256 GiB as QEMU writes them, in memory of 400 MiB. */
#define RECORDS_MAX (16u << 20)
/* Records that overlap one another: headers that were written again. */
#define OVERLAP_MAX 256u

struct record {
	uint64_t offset;	/* where its bytes belong */
	uint64_t at;		/* where they are */
	uint64_t len;
};

struct dump_flat {
	struct dump_input input;
	struct record *records;
	size_t count, capacity;
};

static uint64_t load_be64(const uint8_t *b)
{
	return __builtin_bswap64(load_le64(b));
}

static int add(struct dump_flat *flat, const struct record *record)
{
	if (flat->count == flat->capacity) {
		size_t capacity = flat->capacity ? flat->capacity * 2 : 64;
		struct record *records = realloc(flat->records, capacity * sizeof(*records));
		if (!records)
			return -ENOMEM;
		flat->records = records;
		flat->capacity = capacity;
	}
	flat->records[flat->count++] = *record;
	return 0;
}

static int read_records(const struct dump_parse *parse, struct dump_flat *flat)
{
	uint64_t at = HEADER_BYTES;
	for (;;) {
		uint8_t raw[RECORD_BYTES];
		int rc = parse_read(parse, at, raw, sizeof(raw), "a flattened record");
		if (rc)
			return rc;
		struct record record = { .offset = load_be64(raw), .len = load_be64(raw + 8),
					 .at = at + RECORD_BYTES };
		if (record.offset == UINT64_MAX)
			return 0;
		if (record.len == 0 || record.len > parse->input.size - record.at ||
		    record.offset > parse->input.size + HOLES_MAX)
			return parse_error(parse, -EBADMSG, "the flattened record at offset %" PRIu64
					   " makes no sense: the file is damaged or was cut short",
					   at);
		if (flat->count == RECORDS_MAX)
			return parse_error(parse, -EOVERFLOW, "more than %u flattened records are "
					   "not supported: put the file in order with "
					   "makedumpfile -R", RECORDS_MAX);
		if (add(flat, &record))
			return parse_error(parse, -ENOMEM, "out of memory");
		at = record.at + record.len;
	}
}

/* By offset; in the order of the file where that is the same. */
static int compare(const void *a, const void *b)
{
	const struct record *x = a, *y = b;
	if (x->offset != y->offset)
		return x->offset < y->offset ? -1 : 1;
	return x->at < y->at ? -1 : x->at > y->at;
}

static int compare_edges(const void *a, const void *b)
{
	const uint64_t *x = a, *y = b;
	return *x < *y ? -1 : *x > *y;
}

/* What holds of records that overlap: between each two edges, the last in the file. */
static int paint(const struct record *from, size_t count, struct dump_flat *to)
{
	uint64_t edges[2 * OVERLAP_MAX];
	for (size_t i = 0; i < count; i++) {
		edges[2 * i] = from[i].offset;
		edges[2 * i + 1] = from[i].offset + from[i].len;
	}
	qsort(edges, 2 * count, sizeof(edges[0]), compare_edges);
	for (size_t e = 0; e + 1 < 2 * count; e++) {
		const struct record *top = NULL;
		for (size_t i = 0; i < count; i++)
			if (from[i].offset <= edges[e] &&
			    edges[e] - from[i].offset < from[i].len &&
			    (!top || from[i].at > top->at))
				top = &from[i];
		if (!top || edges[e] == edges[e + 1])
			continue;
		struct record part = { .offset = edges[e], .len = edges[e + 1] - edges[e],
				       .at = top->at + (edges[e] - top->offset) };
		if (add(to, &part))
			return -ENOMEM;
	}
	return 0;
}

/* Ascending and disjoint. */
static int put_in_order(const struct dump_parse *parse, struct dump_flat *flat)
{
	struct dump_flat ordered = { 0 };
	int rc = 0;
	bool disjoint = true;
	if (flat->count)
		qsort(flat->records, flat->count, sizeof(*flat->records), compare);
	for (size_t i = 1; i < flat->count; i++)
		disjoint &= flat->records[i].offset - flat->records[i - 1].offset >=
			    flat->records[i - 1].len;
	if (disjoint)
		return 0;
	for (size_t i = 0, n; i < flat->count && !rc; i += n) {
		uint64_t end = flat->records[i].offset + flat->records[i].len;
		for (n = 1; i + n < flat->count && flat->records[i + n].offset < end; n++)
			end = MAX(end, flat->records[i + n].offset + flat->records[i + n].len);
		rc = n == 1 ? add(&ordered, &flat->records[i]) :
		     n > OVERLAP_MAX ? -EBADMSG : paint(&flat->records[i], n, &ordered);
	}
	free(flat->records);
	flat->records = ordered.records;
	flat->count = ordered.count;
	flat->capacity = ordered.capacity;
	return rc == -EBADMSG ? parse_error(parse, rc, "more than %u flattened records overlap: "
					    "the file is damaged", OVERLAP_MAX) :
	       rc ? parse_error(parse, rc, "out of memory") : 0;
}

/* The first record that ends above `offset`. */
static size_t find(const struct dump_flat *flat, uint64_t offset)
{
	size_t low = 0, high = flat->count;
	while (low < high) {
		size_t middle = low + (high - low) / 2;
		const struct record *r = &flat->records[middle];
		if (r->offset + r->len > offset)
			high = middle;
		else
			low = middle + 1;
	}
	return low;
}

static int read_ordered(void *context, uint64_t offset, void *buf, size_t len)
{
	const struct dump_flat *flat = context;
	uint8_t *to = buf;
	for (size_t i = find(flat, offset); len; i++) {
		const struct record *r = i < flat->count ? &flat->records[i] : NULL;
		/* What no record tells of is zeros, as in a sparse file. */
		size_t gap = !r ? len : r->offset > offset ? MIN(len, r->offset - offset) : 0;
		memset(to, 0, gap);
		to += gap;
		offset += gap;
		len -= gap;
		if (!len)
			return 0;
		size_t n = MIN(len, r->len - (offset - r->offset));
		int rc = input_read(&flat->input, r->at + (offset - r->offset), to, n);
		if (rc)
			return rc;
		to += n;
		offset += n;
		len -= n;
	}
	return 0;
}

void flat_close(struct dump_flat *flat)
{
	if (!flat)
		return;
	free(flat->records);
	free(flat);
}

int flat_open(const struct dump_parse *parse, struct dump_flat **ret, struct dump_input *input_ret)
{
	uint8_t raw[32];
	int rc = parse_read(parse, 0, raw, sizeof(raw), "the header of a flattened kdump");
	if (rc)
		return rc;
	if (load_be64(raw + 16) != 1 || load_be64(raw + 24) != 1)
		return parse_error(parse, -ENOTSUP, "flattened kdump of type %" PRIu64 ", version %"
				   PRIu64 " is not known", load_be64(raw + 16),
				   load_be64(raw + 24));
	struct dump_flat *flat = calloc(1, sizeof(*flat));
	if (!flat)
		return parse_error(parse, -ENOMEM, "out of memory");
	flat->input = parse->input;
	rc = read_records(parse, flat);
	if (!rc)
		rc = put_in_order(parse, flat);
	if (rc) {
		flat_close(flat);
		return rc;
	}
	const struct record *last = flat->count ? &flat->records[flat->count - 1] : NULL;
	*input_ret = (struct dump_input){ .read = read_ordered, .context = flat,
					  .size = last ? last->offset + last->len : 0 };
	*ret = flat;
	return 0;
}
