/* SPDX-License-Identifier: Apache-2.0 */
/*
 * LZO1X, from the description of its stream in Linux's Documentation/staging/lzo.rst (bitstream
 * version 0). liblzo is not used because its license would bind whoever links this library.
 */
#include "unpack.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>

struct stream {
	const uint8_t *in, *in_end;
	uint8_t *out_start, *out, *out_end;
};

/* One instruction: a block to copy from what came out before, and literals behind it. */
struct copy {
	size_t len, distance;
	unsigned literals;
};

static bool take(struct stream *s, unsigned *ret)
{
	if (s->in == s->in_end)
		return false;
	*ret = *s->in++;
	return true;
}

/* A length whose bits are zero goes on in bytes: 255 for each that is zero, and one that is not. */
static bool take_length(struct stream *s, unsigned bits, unsigned mask, size_t *ret)
{
	size_t len = bits & mask;
	unsigned byte = 0;
	if (len == 0) {
		for (len = mask; take(s, &byte) && byte == 0; len += 255)
			if (len > (size_t)(s->out_end - s->out_start))
				return false;
		if (byte == 0)
			return false;
		len += byte;
	}
	*ret = len;
	return true;
}

/* Two bytes: 14 bits of a distance and 2 of a number of literals. */
static bool take_distance(struct stream *s, size_t *distance_ret, unsigned *literals_ret)
{
	unsigned low, high;
	if (!take(s, &low) || !take(s, &high))
		return false;
	*distance_ret = high << 6 | low >> 2;
	*literals_ret = low & 3;
	return true;
}

static bool copy_literals(struct stream *s, size_t len)
{
	if (len > (size_t)(s->in_end - s->in) || len > (size_t)(s->out_end - s->out))
		return false;
	memcpy(s->out, s->in, len);
	s->in += len;
	s->out += len;
	return true;
}

static bool copy_block(struct stream *s, const struct copy *copy)
{
	if (copy->distance > (size_t)(s->out - s->out_start) ||
	    copy->len > (size_t)(s->out_end - s->out))
		return false;
	/* What is copied may be what this copy wrote. */
	const uint8_t *from = s->out - copy->distance;
	for (size_t i = 0; i < copy->len; i++)
		s->out[i] = from[i];
	s->out += copy->len;
	return true;
}

/* `state` is how many literals came before: 0 to 3, or 4 for more. */
static bool decode_copy(struct stream *s, unsigned code, unsigned state, struct copy *ret)
{
	unsigned byte;
	if (code >= 64) {
		if (!take(s, &byte))
			return false;
		ret->len = code >= 128 ? 5 + (code >> 5 & 3) : 3 + (code >> 5 & 1);
		ret->distance = (byte << 3) + (code >> 2 & 7) + 1;
		ret->literals = code & 3;
	} else if (code >= 32) {
		if (!take_length(s, code, 31, &ret->len) ||
		    !take_distance(s, &ret->distance, &ret->literals))
			return false;
		ret->len += 2;
		ret->distance += 1;
	} else if (code >= 16) {
		if (!take_length(s, code, 7, &ret->len) ||
		    !take_distance(s, &ret->distance, &ret->literals))
			return false;
		ret->len += 2;
		ret->distance += 16384 + ((size_t)(code & 8) << 11);
	} else {
		if (!take(s, &byte))
			return false;
		ret->len = state == 4 ? 3 : 2;
		ret->distance = (byte << 2) + (code >> 2) + (state == 4 ? 2049 : 1);
		ret->literals = code & 3;
	}
	return true;
}

static bool run(struct stream *s)
{
	unsigned code, state = 0;
	if (s->in != s->in_end && *s->in > 17) {
		size_t len = *s->in++ - 17u;
		if (!copy_literals(s, len))
			return false;
		state = len < 4 ? (unsigned)len : 4;
	}
	while (take(s, &code)) {
		struct copy copy;
		if (code < 16 && state == 0) {
			size_t len;
			if (!take_length(s, code, 15, &len) || !copy_literals(s, len + 3))
				return false;
			state = 4;
			continue;
		}
		if (!decode_copy(s, code, state, &copy))
			return false;
		/* The end of the stream. */
		if (code >= 16 && code < 32 && copy.distance == 16384)
			return copy.len == 3 && s->in == s->in_end;
		if (!copy_block(s, &copy) || !copy_literals(s, copy.literals))
			return false;
		state = copy.literals;
	}
	return false;
}

int lzo_unpack(const uint8_t *packed, size_t len, uint8_t *buf, size_t size)
{
	struct stream s = { .in = packed, .in_end = packed + len, .out_start = buf, .out = buf,
			    .out_end = buf + size };
	return run(&s) && s.out == s.out_end ? 0 : -EBADMSG;
}
