/* SPDX-License-Identifier: Apache-2.0 */
/*
 * kdump-compressed images, which makedumpfile and QEMU write: behind the headers a bitmap of the
 * pages that are RAM, one of those that are in the dump, and for each of these a descriptor
 * (offset, size, flags: the IMPLEMENTATION file of makedumpfile, struct page_desc).
 *
 * Not libkdumpfile: 0.5.1 uses freed memory whenever it closes such an image, takes no flattened
 * ones, and serves one thread at a time; and what is in these files may come from the guest.
 */
#include "cache.h"
#include "kdump_header.h"
#include "unpack.h"

#include <inttypes.h>
#include <stdio.h>

/* Bytes of a bitmap, and descriptors, that are looked at together. */
#define WINDOW 4096u
#define DESCRIPTOR_BYTES 24u
#define DESCRIPTORS (WINDOW / DESCRIPTOR_BYTES)
#define ZEROS_LOOKED_FOR 65536u
/* What a compressor may make of a page at worst. */
#define PACKED_MAX(page) (2 * (size_t)(page))

struct descriptor {
	uint64_t offset;
	uint32_t len, flags;
};

struct kdump {
	struct dump_input input;
	struct kdump_header header;
	/* Descriptors before each window of the second bitmap. */
	uint64_t *ranks;
	/* Where the one page of zeros lies that all of them share; UINT64_MAX: there is none. */
	uint64_t zeros_at;
	struct dump_cache *cache;
};

/* Walks the runs of set bits of a bitmap. */
struct runs {
	const struct dump_input *input;
	uint64_t bitmap_at;
	uint64_t bit, end;
	uint64_t window_at;	/* byte of the bitmap */
	size_t window_len;
	uint8_t window[WINDOW];
};

static void runs_init(struct runs *runs, const struct dump_input *input, uint64_t bitmap_at,
		      uint64_t from, uint64_t end)
{
	runs->input = input;
	runs->bitmap_at = bitmap_at;
	runs->bit = from;
	runs->end = end;
	runs->window_len = 0;
}

/* Moves runs->bit to the first bit of that value, or to the end of the window it is in. */
static void skip(struct runs *runs, bool set)
{
	uint64_t end = MIN(runs->end, (runs->window_at + runs->window_len) * 8);
	uint8_t none = set ? 0 : 0xff;
	while (runs->bit < end) {
		uint8_t bits = runs->window[runs->bit / 8 - runs->window_at];
		if (bits == none)
			runs->bit = MIN(end, (runs->bit | 7) + 1);
		else if ((bits >> runs->bit % 8 & 1) == set)
			return;
		else
			runs->bit++;
	}
}

/* 1: a run, or a part of it that ends with the window; 0: no more. */
static int runs_next(struct runs *runs, uint64_t *first_ret, uint64_t *count_ret)
{
	while (runs->bit < runs->end) {
		uint64_t byte = runs->bit / 8;
		if (!runs->window_len || byte - runs->window_at >= runs->window_len) {
			size_t len = MIN(WINDOW, (runs->end + 7) / 8 - byte);
			int rc = input_read(runs->input, runs->bitmap_at + byte, runs->window, len);
			if (rc)
				return rc;
			runs->window_at = byte;
			runs->window_len = len;
		}
		skip(runs, true);
		uint64_t first = runs->bit;
		skip(runs, false);
		if (runs->bit > first) {
			*first_ret = first;
			*count_ret = runs->bit - first;
			return 1;
		}
	}
	return 0;
}

/* RAM, from the first bitmap; descriptors, from the second. */
static int read_bitmaps(const struct dump_parse *parse, struct kdump *kdump,
			struct dump_image *image, uint64_t *found_ret)
{
	const struct kdump_header *h = &kdump->header;
	uint64_t first, count, found = 0, bytes = h->block_size;
	struct runs runs;
	int rc;
	runs_init(&runs, &parse->input, h->ram_at, 0, h->pages);
	while ((rc = runs_next(&runs, &first, &count)) == 1) {
		/* Offsets say nothing here; they equal addresses, so that runs join. */
		rc = parse_add(parse, image, first * bytes, count * bytes, first * bytes);
		if (rc)
			return rc;
	}
	kdump->ranks = calloc(h->pages / (8 * WINDOW) + 1, sizeof(*kdump->ranks));
	if (!kdump->ranks)
		return parse_error(parse, -ENOMEM, "out of memory");
	for (uint64_t at = 0; at < h->pages && !rc; at += 8 * WINDOW) {
		kdump->ranks[at / (8 * WINDOW)] = found;
		runs_init(&runs, &parse->input, h->dumped_at, MAX(at, h->first),
			  MIN(at + 8 * WINDOW, h->end));
		while ((rc = runs_next(&runs, &first, &count)) == 1)
			found += count;
	}
	if (rc)
		return parse_error(parse, rc, "the bitmaps cannot be read");
	if (!found)
		return parse_error(parse, -EBADMSG, "this kdump holds no pages");
	if (found > (parse->input.size - h->descriptors_at) / DESCRIPTOR_BYTES)
		parse_warn(parse, "the file was cut short: it should have %" PRIu64 " pages, and "
			   "lacks some of their descriptors already", found);
	*found_ret = found;
	return parse_settle(parse, image);
}

/* The number of the page's descriptor. -EFAULT: it was not dumped. */
static int find_descriptor(const struct kdump *kdump, uint64_t pfn, uint64_t *ret)
{
	const struct kdump_header *h = &kdump->header;
	uint8_t window[WINDOW];
	if (pfn < h->first || pfn >= h->end)
		return -EFAULT;
	uint64_t at = pfn / (8 * WINDOW) * (8 * WINDOW), rank = kdump->ranks[pfn / (8 * WINDOW)];
	size_t len = (pfn - at) / 8 + 1;
	int rc = input_read(&kdump->input, h->dumped_at + at / 8, window, len);
	if (rc)
		return rc;
	if (!(window[len - 1] >> pfn % 8 & 1))
		return -EFAULT;
	/* Pages before those that this file is about have no descriptors. */
	uint64_t from = at < h->first ? h->first - at : 0;
	if (from) {
		memset(window, 0, from / 8);
		window[from / 8] &= (uint8_t)(0xff << from % 8);
	}
	window[len - 1] &= (uint8_t)((1 << pfn % 8) - 1);
	for (size_t i = 0; i < len; i++)
		rank += (unsigned)__builtin_popcount(window[i]);
	*ret = rank;
	return 0;
}

/* -EFAULT: the file ends before them. */
static int read_descriptors(const struct kdump *kdump, uint64_t index, struct descriptor *ret,
			    size_t count)
{
	uint8_t raw[DESCRIPTORS * DESCRIPTOR_BYTES];
	int rc = input_read(&kdump->input, kdump->header.descriptors_at + index * DESCRIPTOR_BYTES,
			    raw, count * DESCRIPTOR_BYTES);
	for (size_t i = 0; i < count && !rc; i++) {
		const uint8_t *from = raw + i * DESCRIPTOR_BYTES;
		ret[i] = (struct descriptor){ .offset = load_le64(from), .len = load_le32(from + 8),
					      .flags = load_le32(from + 12) };
	}
	return rc;
}

static int unpack_page(const struct kdump *kdump, const struct descriptor *d, uint8_t *buf)
{
	size_t page = kdump->header.block_size;
	uint32_t method = d->flags & KDUMP_COMPRESSED;
	if (!method)
		return d->len == page ? input_read(&kdump->input, d->offset, buf, page) : -EBADMSG;
	if (d->len > PACKED_MAX(page))
		return -EBADMSG;
	uint8_t *packed = malloc(PACKED_MAX(page));
	if (!packed)
		return -ENOMEM;
	int rc = input_read(&kdump->input, d->offset, packed, d->len);
	if (!rc)
		rc = unpack(method, packed, d->len, buf, page);
	free(packed);
	return rc;
}

/* A cache entry: page frame `key`. */
static int fill_page(void *context, uint64_t key, uint8_t *entry, size_t *valid_ret)
{
	const struct kdump *kdump = context;
	struct descriptor d;
	uint64_t index;
	int rc = find_descriptor(kdump, key, &index);
	if (!rc)
		rc = read_descriptors(kdump, index, &d, 1);
	if (!rc)
		rc = unpack_page(kdump, &d, entry);
	*valid_ret = kdump->header.block_size;
	return rc;
}

static int read_pages(void *state, const struct dump_piece *piece, uint64_t gpa, void *buf,
		      size_t len)
{
	struct kdump *kdump = state;
	size_t page = kdump->header.block_size;
	(void)piece;
	for (size_t done = 0, n; done < len; done += n) {
		size_t offset = (gpa + done) % page;
		n = MIN(len - done, page - offset);
		int rc = cache_read(kdump->cache, (gpa + done) / page, offset, (char *)buf + done,
				    n);
		if (rc)
			return rc;
	}
	return 0;
}

/* Writers share one page of zeros, and put it before all others. Without it searches are slower. */
static void find_zeros(struct kdump *kdump, uint64_t found, uint8_t *page)
{
	struct descriptor d[DESCRIPTORS];
	uint64_t first = kdump->header.descriptors_at + found * DESCRIPTOR_BYTES;
	kdump->zeros_at = UINT64_MAX;
	for (uint64_t at = 0, n; at < MIN(found, ZEROS_LOOKED_FOR); at += n) {
		n = MIN(found - at, DESCRIPTORS);
		if (read_descriptors(kdump, at, d, n))
			return;
		for (size_t i = 0; i < n; i++) {
			if (d[i].offset != first)
				continue;
			if (unpack_page(kdump, &d[i], page))
				return;
			for (size_t j = 0; j < kdump->header.block_size; j++)
				if (page[j])
					return;
			kdump->zeros_at = first;
			return;
		}
	}
}

/* Of the pages from `first` on, leaves out those of zeros. 0: all `count` are. */
static uint64_t skip_zeros(const struct kdump *kdump, uint64_t *first, uint64_t count)
{
	struct descriptor d[DESCRIPTORS];
	uint64_t index;
	if (kdump->zeros_at == UINT64_MAX || find_descriptor(kdump, *first, &index))
		return count;
	while (count) {
		size_t n = MIN(count, DESCRIPTORS), i = 0, j;
		if (read_descriptors(kdump, index, d, n))
			return count;
		while (i < n && d[i].offset == kdump->zeros_at)
			i++;
		*first += i;
		if (i < n) {
			for (j = i; j < n && d[j].offset != kdump->zeros_at; j++)
				;
			return j - i;
		}
		count -= n;
		index += n;
	}
	return 0;
}

static int next_data(void *state, const struct dump_piece *piece, uint64_t gpa,
		     struct hvmi_range *ret)
{
	const struct kdump *kdump = state;
	const struct kdump_header *h = &kdump->header;
	uint64_t first, count, bytes = h->block_size;
	struct runs runs;
	int rc;
	runs_init(&runs, &kdump->input, h->dumped_at, MAX(gpa / bytes, h->first),
		  MIN((piece->gpa + piece->len) / bytes, h->end));
	while ((rc = runs_next(&runs, &first, &count)) == 1) {
		count = skip_zeros(kdump, &first, count);
		if (!count)
			continue;
		uint64_t start = MAX(gpa, first * bytes);
		*ret = (struct hvmi_range){ .gpa = start, .len = (first + count) * bytes - start };
		return 0;
	}
	return rc ? rc : -ENOENT;
}

static void close_pages(void *state)
{
	struct kdump *kdump = state;
	cache_destroy(kdump->cache);
	free(kdump->ranks);
	free(kdump);
}

static const struct dump_decoder decoder = {
	.read = read_pages,
	.next_data = next_data,
	.close = close_pages,
};

static int open_pages(const struct dump_parse *parse, struct kdump *kdump,
		      struct dump_image *image)
{
	struct kdump_header *h = &kdump->header;
	int rc = kdump_header_parse(parse, h, &image->arch);
	if (rc)
		return rc;
	const char *missing = unpack_missing(h->status);
	if (missing)
		return parse_error(parse, -ENOTSUP, "this kdump is compressed with %s, and this "
				   "library was built without it: take an ELF core instead",
				   missing);
	if (h->split)
		parse_warn(parse, "this is one part of a split kdump: the pages in other parts are "
			   "absent");
	if (h->notes_len)
		rc = notes_parse(parse, h->notes_at, h->notes_len, image);
	if (!rc && h->vmcoreinfo_len)
		rc = vmcoreinfo_read(parse, h->vmcoreinfo_at, h->vmcoreinfo_len, image);
	if (rc)
		return rc;
	snprintf(image->format, sizeof(image->format), "kdump-compressed%s",
		 image->notes.qemu ? " (QEMU)" : "");
	uint64_t found;
	rc = read_bitmaps(parse, kdump, image, &found);
	if (rc)
		return rc;
	kdump->cache = cache_create(h->block_size, 64, 16, fill_page, kdump);
	uint8_t *page = malloc(h->block_size);
	if (!kdump->cache || !page)
		rc = parse_error(parse, -ENOMEM, "out of memory");
	else
		find_zeros(kdump, found, page);
	free(page);
	return rc;
}

int kdump_open(const struct dump_parse *parse, struct dump_image *image,
	       const struct dump_decoder **decoder_ret, void **state_ret)
{
	struct kdump *kdump = calloc(1, sizeof(*kdump));
	if (!kdump)
		return parse_error(parse, -ENOMEM, "out of memory");
	kdump->input = parse->input;
	int rc = open_pages(parse, kdump, image);
	if (rc) {
		close_pages(kdump);
		return rc;
	}
	*decoder_ret = &decoder;
	*state_ret = kdump;
	return 0;
}
