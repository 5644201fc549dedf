/* SPDX-License-Identifier: Apache-2.0 */
/*
 * kdump-compressed images, which makedumpfile and QEMU write. Their headers, notes and bitmaps are
 * read here, so that hostile ones are refused; libkdumpfile finds and decompresses pages.
 */
#include "kdump_header.h"

#ifndef HVMI_HAVE_KDUMPFILE

int kdump_open(const struct dump_parse *parse, int fd, struct dump_image *image,
	       const struct dump_decoder **decoder_ret, void **state_ret)
{
	(void)fd;
	(void)image;
	(void)decoder_ret;
	(void)state_ret;
	return parse_error(parse, -ENOTSUP, "this is a kdump-compressed image, and this library "
			   "was built without libkdumpfile: take an ELF core instead");
}

#else

#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>

#include <libkdumpfile/kdumpfile.h>

#include "cache.h"

/* Bytes of a bitmap that are looked at together. */
#define WINDOW 4096u
/* libkdumpfile keeps 24 bytes for each run of pages. */
#define RUNS_MAX (32u << 20)
#define CONTEXTS_KEPT 16u

struct kdump {
	struct dump_input input;
	struct kdump_header header;
	uint64_t dumped_at;		/* the bitmap of pages that are in the file */
	uint32_t page_bytes;
	struct dump_cache *cache;
	/* A context serves one thread at a time; there are as many as are used at once. */
	pthread_mutex_t lock;
	kdump_ctx_t *first;
	kdump_ctx_t *idle[CONTEXTS_KEPT];
	size_t idle_count;
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

/* Moves runs->bit to the first bit of that value, in the window that it is in at the latest. */
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

/* RAM, from the first bitmap; and a look at whether the second is sane. */
static int read_bitmaps(const struct dump_parse *parse, struct kdump *kdump,
			struct dump_image *image)
{
	const struct kdump_header *h = &kdump->header;
	uint64_t first, count, found = 0, bytes = kdump->page_bytes;
	struct runs runs;
	int rc;
	runs_init(&runs, &parse->input, h->bitmaps_at, 0, h->pages);
	while ((rc = runs_next(&runs, &first, &count)) == 1) {
		/* Offsets say nothing here; they equal addresses, so that runs join. */
		rc = parse_add(parse, image, first * bytes, count * bytes, first * bytes);
		if (rc)
			return rc;
	}
	if (!rc) {
		runs_init(&runs, &parse->input, kdump->dumped_at, 0, h->pages);
		while ((rc = runs_next(&runs, &first, &count)) == 1 && found < RUNS_MAX)
			found++;
	}
	if (found == RUNS_MAX)
		return parse_error(parse, -EOVERFLOW, "the pages in the file make more than the %u "
				   "runs that are supported", RUNS_MAX);
	if (rc)
		return parse_error(parse, rc, "the bitmaps cannot be read");
	if (!found)
		return parse_error(parse, -EBADMSG, "this kdump holds no pages");
	return parse_settle(parse, image);
}

static int status_code(kdump_status status)
{
	switch (status) {
	case KDUMP_OK:
		return 0;
	case KDUMP_ERR_NODATA:
		return -EFAULT;
	case KDUMP_ERR_SYSTEM:
		return -EIO;
	case KDUMP_ERR_NOTIMPL:
		return -ENOTSUP;
	case KDUMP_ERR_BUSY:
		return -EBUSY;
	case KDUMP_ERR_EOF:
	case KDUMP_ERR_CORRUPT:
	default:
		return -EBADMSG;
	}
}

static kdump_ctx_t *take_context(struct kdump *kdump)
{
	kdump_ctx_t *context = NULL;
	pthread_mutex_lock(&kdump->lock);
	if (kdump->idle_count)
		context = kdump->idle[--kdump->idle_count];
	else
		context = kdump_clone(kdump->first, 0);
	pthread_mutex_unlock(&kdump->lock);
	return context;
}

static void give_context(struct kdump *kdump, kdump_ctx_t *context)
{
	pthread_mutex_lock(&kdump->lock);
	if (kdump->idle_count < CONTEXTS_KEPT)
		kdump->idle[kdump->idle_count++] = context;
	else
		kdump_free(context);
	pthread_mutex_unlock(&kdump->lock);
}

/* A cache entry: page number `key`. */
static int fill_page(void *context, uint64_t key, uint8_t *entry, size_t *valid_ret)
{
	struct kdump *kdump = context;
	size_t len = kdump->page_bytes;
	kdump_ctx_t *reader = take_context(kdump);
	if (!reader)
		return -ENOMEM;
	int rc = status_code(kdump_read(reader, KDUMP_MACHPHYSADDR, key * len, entry, &len));
	give_context(kdump, reader);
	*valid_ret = kdump->page_bytes;
	return rc;
}

static int read_pages(void *state, const struct dump_piece *piece, uint64_t gpa, void *buf,
		      size_t len)
{
	struct kdump *kdump = state;
	(void)piece;
	for (size_t done = 0, n; done < len; done += n) {
		uint64_t page = (gpa + done) / kdump->page_bytes;
		size_t offset = (gpa + done) % kdump->page_bytes;
		n = MIN(len - done, kdump->page_bytes - offset);
		int rc = cache_read(kdump->cache, page, offset, (char *)buf + done, n);
		if (rc)
			return rc;
	}
	return 0;
}

static int next_data(void *state, const struct dump_piece *piece, uint64_t gpa,
		     struct hvmi_range *ret)
{
	struct kdump *kdump = state;
	uint64_t first, count, bytes = kdump->page_bytes;
	struct runs runs;
	runs_init(&runs, &kdump->input, kdump->dumped_at, gpa / bytes,
		  (piece->gpa + piece->len) / bytes);
	int rc = runs_next(&runs, &first, &count);
	if (rc != 1)
		return rc ? rc : -ENOENT;
	uint64_t start = MAX(gpa, first * bytes);
	*ret = (struct hvmi_range){ .gpa = start, .len = (first + count) * bytes - start };
	return 0;
}

static void close_pages(void *state)
{
	struct kdump *kdump = state;
	for (size_t i = 0; i < kdump->idle_count; i++)
		kdump_free(kdump->idle[i]);
	if (kdump->first)
		kdump_free(kdump->first);
	cache_destroy(kdump->cache);
	pthread_mutex_destroy(&kdump->lock);
	free(kdump);
}

static const struct dump_decoder decoder = {
	.read = read_pages,
	.next_data = next_data,
	.close = close_pages,
};

static int open_library(const struct dump_parse *parse, struct kdump *kdump, int fd)
{
	kdump->first = kdump_new();
	if (!kdump->first)
		return parse_error(parse, -ENOMEM, "out of memory");
	/* A mapping that it reads itself would raise SIGBUS where a file is cut short. */
	kdump_status status = kdump_set_number_attr(kdump->first, KDUMP_ATTR_FILE_MMAP_POLICY,
						    KDUMP_MMAP_NEVER);
	if (status == KDUMP_OK)
		status = kdump_open_fd(kdump->first, fd);
	if (status == KDUMP_OK)
		return 0;
	const char *reason = kdump_get_err(kdump->first);
	return parse_error(parse, status == KDUMP_ERR_SYSTEM ? -EIO : -EBADMSG,
			   "libkdumpfile cannot open this kdump: %s", reason ? reason : "?");
}

static int open_pages(const struct dump_parse *parse, struct kdump *kdump, int fd,
		      struct dump_image *image)
{
	struct kdump_header *h = &kdump->header;
	int rc = kdump_header_parse(parse, h, &image->arch);
	if (rc)
		return rc;
	kdump->page_bytes = h->block_size;
	kdump->dumped_at = h->bitmaps_at + h->bitmaps_len / h->block_size / 2 * h->block_size;
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
	rc = read_bitmaps(parse, kdump, image);
	if (!rc)
		rc = open_library(parse, kdump, fd);
	if (rc)
		return rc;
	kdump->cache = cache_create(kdump->page_bytes, 64, 16, fill_page, kdump);
	return kdump->cache ? 0 : parse_error(parse, -ENOMEM, "out of memory");
}

int kdump_open(const struct dump_parse *parse, int fd, struct dump_image *image,
	       const struct dump_decoder **decoder_ret, void **state_ret)
{
	struct kdump *kdump = calloc(1, sizeof(*kdump));
	if (!kdump)
		return parse_error(parse, -ENOMEM, "out of memory");
	kdump->input = parse->input;
	pthread_mutex_init(&kdump->lock, NULL);
	int rc = open_pages(parse, kdump, fd, image);
	if (rc) {
		close_pages(kdump);
		return rc;
	}
	*decoder_ret = &decoder;
	*state_ret = kdump;
	return 0;
}

#endif
