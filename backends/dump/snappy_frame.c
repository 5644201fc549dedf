/* SPDX-License-Identifier: Apache-2.0 */
#include "snappy_frame.h"

#ifdef HVMI_HAVE_SNAPPY
#include <snappy-c.h>
#endif

enum { CHUNK_COMPRESSED = 0, CHUNK_PLAIN = 1, CHUNK_SKIPPABLE = 0x80, CHUNK_STREAM = 0xff };

#define STREAM_IDENTIFIER "sNaPpY"
/* What snappy makes of FRAME_PLAIN_MAX bytes at worst: 32 + n + n / 6. */
#define COMPRESSED_MAX 76490u

/* Reflected CRC-32C, RFC 3720 appendix B.4; eight bytes at a time. */
void crc32c_init(struct crc32c_tables *tables)
{
	for (uint32_t i = 0; i < 256; i++) {
		uint32_t crc = i;
		for (int bit = 0; bit < 8; bit++)
			crc = crc >> 1 ^ (crc & 1 ? 0x82f63b78u : 0);
		tables->of[0][i] = crc;
	}
	for (uint32_t i = 0; i < 256; i++)
		for (int j = 1; j < 8; j++) {
			uint32_t crc = tables->of[j - 1][i];
			tables->of[j][i] = crc >> 8 ^ tables->of[0][crc & 0xff];
		}
}

uint32_t crc32c(const struct crc32c_tables *tables, const void *bytes, size_t len)
{
	const uint32_t(*t)[256] = tables->of;
	const uint8_t *p = bytes;
	uint32_t crc = ~0u;
	for (; len >= 8; len -= 8, p += 8) {
		uint32_t low = crc ^ load_le32(p), high = load_le32(p + 4);
		crc = t[7][low & 0xff] ^ t[6][low >> 8 & 0xff] ^ t[5][low >> 16 & 0xff] ^
		      t[4][low >> 24] ^ t[3][high & 0xff] ^ t[2][high >> 8 & 0xff] ^
		      t[1][high >> 16 & 0xff] ^ t[0][high >> 24];
	}
	for (; len; len--, p++)
		crc = crc >> 8 ^ t[0][(crc ^ *p) & 0xff];
	return ~crc;
}

uint32_t crc32c_masked(const struct crc32c_tables *tables, const void *bytes, size_t len)
{
	uint32_t crc = crc32c(tables, bytes, len);
	return (crc >> 15 | crc << 17) + 0xa282ead8u;
}

void frame_walk_init(struct frame_walk *walk, const struct dump_input *input, uint64_t from,
		     uint64_t end)
{
	walk->input = input;
	walk->at = from;
	walk->end = end;
	walk->window_len = 0;
}

/* len bytes at walk->at, at most 16, or NULL and *rc_ret. */
static const uint8_t *look(struct frame_walk *walk, size_t len, int *rc_ret)
{
	if (len > walk->end - walk->at) {
		*rc_ret = -EFAULT;
		return NULL;
	}
	if (!walk->window_len || walk->at < walk->window_at ||
	    walk->at - walk->window_at > walk->window_len ||
	    len > walk->window_len - (walk->at - walk->window_at)) {
		walk->window_len = 0;
		size_t n = MIN(sizeof(walk->window), walk->end - walk->at);
		*rc_ret = input_read(walk->input, walk->at, walk->window, n);
		if (*rc_ret)
			return NULL;
		walk->window_at = walk->at;
		walk->window_len = n;
	}
	return walk->window + (walk->at - walk->window_at);
}

/* Length of the bytes that a compressed payload gives: a little-endian base-128 number. */
static int plain_length(const uint8_t *bytes, size_t len, uint32_t *ret)
{
	uint32_t value = 0;
	for (size_t i = 0; i < len && i < 3; i++) {
		value |= (uint32_t)(bytes[i] & 0x7f) << 7 * i;
		if (!(bytes[i] & 0x80)) {
			*ret = value;
			return value <= FRAME_PLAIN_MAX ? 0 : -EBADMSG;
		}
	}
	return -EBADMSG;
}

static int data_chunk(struct frame_walk *walk, uint32_t type, uint32_t len,
		      struct frame_chunk *ret)
{
	int rc = 0;
	/* The checksum, and what may be a length. */
	if (len < 4 || (type == CHUNK_COMPRESSED && len < 5) || len - 4 > COMPRESSED_MAX)
		return -EBADMSG;
	size_t n = 4 + MIN(len, 7u);
	const uint8_t *head = look(walk, n, &rc);
	if (!head)
		return rc;
	*ret = (struct frame_chunk){ .offset = walk->at + 8, .len = len - 4, .plain = len - 4,
				     .checksum = load_le32(head + 4),
				     .compressed = type == CHUNK_COMPRESSED };
	if (ret->compressed)
		return plain_length(head + 8, n - 8, &ret->plain);
	return ret->plain <= FRAME_PLAIN_MAX ? 0 : -EBADMSG;
}

int frame_walk_next(struct frame_walk *walk, struct frame_chunk *ret)
{
	int rc = 0;
	if (walk->at == walk->end)
		return 0;
	const uint8_t *head = look(walk, 4, &rc);
	if (!head)
		return rc;
	uint32_t type = head[0], len = load_le32(head) >> 8;
	struct frame_chunk chunk = { .offset = walk->at + 4, .len = len };
	if (type == CHUNK_COMPRESSED || type == CHUNK_PLAIN) {
		rc = data_chunk(walk, type, len, &chunk);
	} else if (type == CHUNK_STREAM) {
		if (len != sizeof(STREAM_IDENTIFIER) - 1)
			return -EBADMSG;
		head = look(walk, 4 + len, &rc);
		if (head && memcmp(head + 4, STREAM_IDENTIFIER, len) != 0)
			rc = -EBADMSG;
	} else if (type < CHUNK_SKIPPABLE) {
		rc = -EBADMSG;
	}
	if (rc)
		return rc;
	if (len > walk->end - walk->at - 4)
		return -EFAULT;
	walk->at += 4 + (uint64_t)len;
	*ret = chunk;
	return 1;
}

static int uncompress(const struct frame_chunk *chunk, const uint8_t *packed, uint8_t *buf)
{
#ifdef HVMI_HAVE_SNAPPY
	size_t plain = chunk->plain;
	if (snappy_uncompress((const char *)packed, chunk->len, (char *)buf, &plain) != SNAPPY_OK ||
	    plain != chunk->plain)
		return -EBADMSG;
	return 0;
#else
	(void)chunk;
	(void)packed;
	(void)buf;
	return -ENOTSUP;
#endif
}

int frame_decode(const struct dump_input *input, const struct crc32c_tables *tables,
		 const struct frame_chunk *chunk, uint8_t *buf)
{
	int rc;
	if (chunk->compressed) {
		uint8_t *packed = malloc(chunk->len);
		if (!packed)
			return -ENOMEM;
		rc = input_read(input, chunk->offset, packed, chunk->len);
		if (!rc)
			rc = uncompress(chunk, packed, buf);
		free(packed);
	} else {
		rc = input_read(input, chunk->offset, buf, chunk->plain);
	}
	if (rc)
		return rc;
	return crc32c_masked(tables, buf, chunk->plain) == chunk->checksum ? 0 : -EBADMSG;
}
