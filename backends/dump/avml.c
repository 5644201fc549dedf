/* SPDX-License-Identifier: Apache-2.0 */
/*
 * AVML's compressed images: blocks of a LiME header with AVML's magic number and version 2, a
 * stream in snappy's framing format, and the stream's length in 8 bytes (src/image.rs and src/io/snappy.rs
 * of microsoft/avml). Blocks of zeros are left out by newer versions.
 *
 * All blocks one after the other, decompressed, are called the stream here; a block is cut in
 * granules of 64 KiB, which is what AVML's encoder puts in a chunk.
 */
#include "cache.h"
#include "lime.h"
#include "snappy_frame.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>

#define GRANULE FRAME_PLAIN_MAX
#define TRAILER_BYTES 8u
/* 16 TiB as AVML writes them. */
#define BLOCKS_MAX (1u << 20)
/* Chunks of a block that give little or nothing; only a hostile file has many. */
#define SMALL_CHUNK 1024u
#define SMALL_CHUNKS_MAX 65536u

/* Where a granule begins. */
struct mark {
	uint64_t offset;	/* of the chunk that holds its first byte */
	uint64_t plain;		/* where that chunk begins in the block */
};

/* How far the chunks of a block have been walked. */
struct progress {
	uint64_t offset, plain;
	uint32_t small;
	int result;		/* what ended it; 1: nothing yet */
};

struct block {
	uint64_t gpa, len;
	uint64_t stream;	/* where it begins in the stream */
	uint64_t offset, end;	/* of its chunks in the file */
	struct mark *marks;	/* of granules found so far; guarded by marks_lock */
	size_t mark_count, mark_capacity;
	struct progress progress;
};

struct avml {
	struct dump_input input;
	struct block *blocks;
	size_t count, capacity;
	uint64_t stream;	/* bytes of all blocks */
	struct dump_cache *cache;
	pthread_mutex_t marks_lock;
	struct crc32c_tables crc;
};

static int block_add(const struct dump_parse *parse, struct avml *avml, const struct block *block)
{
	if (avml->count == BLOCKS_MAX)
		return parse_error(parse, -EOVERFLOW, "more than %u blocks are not supported",
				   BLOCKS_MAX);
	if (avml->count == avml->capacity) {
		size_t capacity = avml->capacity ? avml->capacity * 2 : 64;
		struct block *blocks = realloc(avml->blocks, capacity * sizeof(*blocks));
		if (!blocks)
			return parse_error(parse, -ENOMEM, "out of memory");
		avml->blocks = blocks;
		avml->capacity = capacity;
	}
	avml->blocks[avml->count] = *block;
	avml->blocks[avml->count++].progress = (struct progress){ .offset = block->offset,
								  .result = 1 };
	return 0;
}

/* Goes one chunk on. What result says then: 1 go on, 0 the block is complete, or an error. */
static int advance(const struct block *block, struct frame_walk *walk, struct progress *progress)
{
	struct frame_chunk chunk;
	int rc = frame_walk_next(walk, &chunk);
	/* A stream that ends before its block does is cut short, too. */
	if (rc <= 0)
		return progress->result = rc ? rc : -EFAULT;
	if (chunk.plain < SMALL_CHUNK && ++progress->small > SMALL_CHUNKS_MAX)
		return progress->result = -EBADMSG;
	if (chunk.plain > block->len - progress->plain)
		return progress->result = -EBADMSG;
	progress->plain += chunk.plain;
	progress->offset = walk->at;
	return progress->result = progress->plain < block->len;
}

static int block_header(const struct dump_parse *parse, uint64_t offset, struct block *ret)
{
	struct lime_header header;
	int rc = lime_header(parse, offset, &header);
	if (rc)
		return rc;
	if (!header.compressed)
		return parse_error(parse, -EBADMSG, "a range of LiME at offset %" PRIu64 " follows "
				   "compressed blocks: the file is damaged", offset);
	*ret = (struct block){ .gpa = header.gpa, .len = header.len,
			       .offset = offset + LIME_HEADER_BYTES };
	return 0;
}

/*
 * The lengths behind the blocks lead from the end of the file to its start without reading what is
 * in between. -ENOENT: they do not; then the file was cut short, or is damaged.
 */
static int find_backward(const struct dump_parse *parse, struct avml *avml)
{
	/* Sentences of tries that failed are of no use. */
	struct dump_parse quiet = *parse;
	quiet.err = NULL;
	uint64_t end = parse->input.size;
	while (end) {
		uint8_t raw[TRAILER_BYTES];
		struct block block;
		if (end < LIME_HEADER_BYTES + TRAILER_BYTES ||
		    input_read(&parse->input, end - TRAILER_BYTES, raw, sizeof(raw)))
			return -ENOENT;
		uint64_t len = load_le64(raw);
		if (len > end - LIME_HEADER_BYTES - TRAILER_BYTES)
			return -ENOENT;
		uint64_t start = end - TRAILER_BYTES - len - LIME_HEADER_BYTES;
		if (block_header(&quiet, start, &block))
			return -ENOENT;
		block.end = end - TRAILER_BYTES;
		int rc = block_add(parse, avml, &block);
		if (rc)
			return rc;
		end = start;
	}
	for (size_t i = 0; i < avml->count / 2; i++) {
		struct block swap = avml->blocks[i];
		avml->blocks[i] = avml->blocks[avml->count - 1 - i];
		avml->blocks[avml->count - 1 - i] = swap;
	}
	return 0;
}

/* From the start, chunk by chunk: what is there of a file that was cut short. */
static int find_forward(const struct dump_parse *parse, struct avml *avml)
{
	uint64_t offset = 0, size = parse->input.size;
	uint32_t budget = LAYOUT_ADDED_MAX;
	avml->count = 0;
	while (offset == 0 || !lime_at_end(parse, offset)) {
		struct block block = { 0 };
		struct frame_walk walk;
		int rc = block_header(parse, offset, &block);
		if (rc)
			return rc;
		struct progress progress = { .offset = block.offset, .result = 1 };
		frame_walk_init(&walk, &parse->input, block.offset, size);
		while (budget && advance(&block, &walk, &progress) == 1)
			budget--;
		if (!budget)
			return parse_error(parse, -EOVERFLOW, "the blocks are not in order and "
					   "too many to be searched: the file is damaged");
		if (progress.result == -EBADMSG || progress.result == -EIO)
			return parse_error(parse, progress.result, "the compressed block of "
					   "0x%" PRIx64 " cannot be read at offset %" PRIu64
					   ": the file is damaged", block.gpa, progress.offset);
		block.end = progress.result ? size : progress.offset;
		rc = block_add(parse, avml, &block);
		if (rc)
			return rc;
		if (progress.result) {
			parse_warn(parse, "the file was cut short: memory from 0x%" PRIx64
				   " on is absent", block.gpa + progress.plain);
			return 0;
		}
		offset = progress.offset + MIN(TRAILER_BYTES, size - progress.offset);
	}
	return 0;
}

/* The granule's mark; walks on as far as it takes. marks_lock is held. */
static int find_mark(const struct avml *avml, struct block *block, uint64_t granule,
		     struct mark *ret)
{
	struct progress *progress = &block->progress;
	struct frame_walk walk;
	frame_walk_init(&walk, &avml->input, progress->offset, block->end);
	while (granule >= block->mark_count) {
		if (progress->result != 1)
			return progress->result == 0 ? -EFAULT : progress->result;
		struct mark mark = { .offset = progress->offset, .plain = progress->plain };
		advance(block, &walk, progress);
		/* Granules whose first byte that chunk holds; at most one of them is new. */
		if (progress->plain <= block->mark_count * GRANULE)
			continue;
		if (block->mark_count == block->mark_capacity) {
			size_t capacity = block->mark_capacity ? block->mark_capacity * 2 : 16;
			struct mark *marks = realloc(block->marks, capacity * sizeof(*marks));
			if (!marks) {
				/* As if the chunk had not been looked at. */
				progress->offset = mark.offset;
				progress->plain = mark.plain;
				progress->result = 1;
				return -ENOMEM;
			}
			block->marks = marks;
			block->mark_capacity = capacity;
		}
		block->marks[block->mark_count++] = mark;
	}
	*ret = block->marks[granule];
	return 0;
}

static const struct block *block_of(const struct avml *avml, uint64_t stream)
{
	size_t low = 0, high = avml->count;
	while (high - low > 1) {
		size_t middle = low + (high - low) / 2;
		if (stream < avml->blocks[middle].stream)
			high = middle;
		else
			low = middle;
	}
	return &avml->blocks[low];
}

/* A cache entry: the granule that begins at `key` of the stream. */
static int fill_granule(void *context, uint64_t key, uint8_t *entry, size_t *valid_ret)
{
	struct avml *avml = context;
	struct block *block = &avml->blocks[block_of(avml, key) - avml->blocks];
	uint64_t from = key - block->stream, end = MIN(from + GRANULE, block->len);
	struct mark mark;
	pthread_mutex_lock(&avml->marks_lock);
	int rc = find_mark(avml, block, from / GRANULE, &mark);
	pthread_mutex_unlock(&avml->marks_lock);
	if (rc)
		return rc;
	uint8_t *plain = malloc(GRANULE);
	if (!plain)
		return -ENOMEM;
	struct frame_walk walk;
	struct frame_chunk chunk;
	frame_walk_init(&walk, &avml->input, mark.offset, block->end);
	uint64_t at = mark.plain;
	uint32_t empty = 0;
	while (at < end && empty < SMALL_CHUNKS_MAX && (rc = frame_walk_next(&walk, &chunk)) == 1) {
		empty += chunk.plain == 0;
		if (chunk.plain && at + chunk.plain > from) {
			rc = frame_decode(&avml->input, &avml->crc, &chunk, plain);
			if (rc)
				break;
			uint64_t first = MAX(at, from), last = MIN(at + chunk.plain, end);
			memcpy(entry + (first - from), plain + (first - at), last - first);
		}
		at += chunk.plain;
	}
	free(plain);
	/* What lies before damage is good. */
	if (at <= from)
		return rc < 0 ? rc : -EFAULT;
	*valid_ret = MIN(at, end) - from;
	return 0;
}

static int avml_read(void *state, const struct dump_piece *piece, uint64_t gpa, void *buf,
		     size_t len)
{
	struct avml *avml = state;
	uint64_t stream = piece->offset + (gpa - piece->gpa);
	for (size_t done = 0, n; done < len; done += n, stream += n) {
		const struct block *block = block_of(avml, stream);
		uint64_t at = stream - block->stream;
		size_t offset = at % GRANULE;
		n = MIN(len - done, MIN(GRANULE - offset, block->len - at));
		int rc = cache_read(avml->cache, stream - offset, offset, (char *)buf + done, n);
		if (rc)
			return rc;
	}
	return 0;
}

static void avml_close(void *state)
{
	struct avml *avml = state;
	for (size_t i = 0; i < avml->count; i++)
		free(avml->blocks[i].marks);
	free(avml->blocks);
	cache_destroy(avml->cache);
	pthread_mutex_destroy(&avml->marks_lock);
	free(avml);
}

static const struct dump_decoder decoder = {
	.read = avml_read,
	.close = avml_close,
};

static int find_blocks(const struct dump_parse *parse, struct avml *avml,
		       struct dump_image *image)
{
	int rc = find_backward(parse, avml);
	if (rc == -ENOENT)
		rc = find_forward(parse, avml);
	for (size_t i = 0; i < avml->count && !rc; i++) {
		struct block *block = &avml->blocks[i];
		if (block->len > INT64_MAX - avml->stream)
			return parse_error(parse, -EBADMSG, "blocks are impossibly large: the file "
					   "is damaged");
		block->stream = avml->stream;
		avml->stream += block->len;
		rc = parse_add(parse, image, block->gpa, block->len, block->stream);
	}
	if (!rc)
		rc = parse_settle(parse, image);
	if (!rc && image->layout.overlap)
		parse_warn(parse, "0x%" PRIx64 " bytes of memory are in the file more than once",
			   image->layout.overlap);
	return rc;
}

int avml_open(const struct dump_parse *parse, struct dump_image *image,
	      const struct dump_decoder **decoder_ret, void **state_ret)
{
#ifndef HVMI_HAVE_SNAPPY
	return parse_error(parse, -ENOTSUP, "this is a compressed AVML image, and this library was "
			   "built without snappy: convert it with avml-convert");
#endif
	struct avml *avml = calloc(1, sizeof(*avml));
	if (!avml)
		return parse_error(parse, -ENOMEM, "out of memory");
	avml->input = parse->input;
	pthread_mutex_init(&avml->marks_lock, NULL);
	crc32c_init(&avml->crc);
	avml->cache = cache_create(GRANULE, 16, 4, fill_granule, avml);
	snprintf(image->format, sizeof(image->format), "AVML");
	int rc = avml->cache ? find_blocks(parse, avml, image) :
			       parse_error(parse, -ENOMEM, "out of memory");
	if (rc) {
		avml_close(avml);
		return rc;
	}
	*decoder_ret = &decoder;
	*state_ret = avml;
	return 0;
}
