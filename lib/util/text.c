/* SPDX-License-Identifier: Apache-2.0 */
#include "util/util.h"

/*
 * Length of the well-formed UTF-8 sequence at the start of `bytes`, or 0: RFC 3629, section 4. C1
 * control characters count as malformed: terminals act on them.
 */
static size_t utf8_sequence(const uint8_t *bytes, size_t len)
{
	uint8_t lead = bytes[0];
	if (lead < 0x80)
		return 1;
	size_t n = lead >= 0xc2 && lead <= 0xdf ? 2 : lead >= 0xe0 && lead <= 0xef ? 3 :
		   lead >= 0xf0 && lead <= 0xf4 ? 4 : 0;
	if (n == 0 || n > len)
		return 0;
	for (size_t i = 1; i < n; i++)
		if ((bytes[i] & 0xc0) != 0x80)
			return 0;
	if ((lead == 0xc2 && bytes[1] < 0xa0) || (lead == 0xe0 && bytes[1] < 0xa0) ||
	    (lead == 0xed && bytes[1] > 0x9f) || (lead == 0xf0 && bytes[1] < 0x90) ||
	    (lead == 0xf4 && bytes[1] > 0x8f))
		return 0;
	return n;
}

struct text_out {
	char *buf;
	size_t size, len;
	size_t kept;	/* what fits whole */
};

static void text_put(struct text_out *out, const void *bytes, size_t len)
{
	/* Never half a sequence: once one does not fit, nothing behind it does. */
	if (out->kept == out->len && out->len + len < out->size) {
		memcpy(out->buf + out->len, bytes, len);
		out->kept += len;
	}
	out->len += len;
}

static size_t text_copy(const void *bytes, size_t len, char *buf, size_t size, bool backslash)
{
	static const char hex[] = "0123456789abcdef";
	const uint8_t *in = bytes;
	struct text_out out = { .buf = buf, .size = size };
	for (size_t i = 0, n; i < len; i += n) {
		n = utf8_sequence(in + i, len - i);
		if (n == 1 && in[i] == '\\' && backslash) {
			text_put(&out, "\\\\", 2);
		} else if (n > 1 || (n == 1 && in[i] >= 0x20 && in[i] != 0x7f)) {
			text_put(&out, in + i, n);
		} else {
			char escape[4] = { '\\', 'x', hex[in[i] >> 4], hex[in[i] & 15] };
			text_put(&out, escape, sizeof(escape));
			n = 1;
		}
	}
	if (size)
		buf[out.kept] = '\0';
	return out.len;
}

HVMI_API size_t hvmi_text_escape(const void *bytes, size_t len, char *buf, size_t size)
{
	return text_copy(bytes, len, buf, size, true);
}

size_t text_sanitise(const void *bytes, size_t len, char *buf, size_t size)
{
	return text_copy(bytes, len, buf, size, false);
}
