/* SPDX-License-Identifier: Apache-2.0 */
#include "os/windows/windows.h"

/* 1601-01-01 to 1970-01-01 in 100 ns. */
#define EPOCH_1970 116444736000000000ull

uint64_t windows_time_ns(uint64_t filetime)
{
	/* Up to the year 2200. */
	if (filetime <= EPOCH_1970 || filetime - EPOCH_1970 > 72583000000000000ull)
		return 0;
	return (filetime - EPOCH_1970) * 100;
}

static size_t encode(uint32_t c, char out[4])
{
	if (c && c < 0x80) {
		out[0] = (char)c;
		return 1;
	}
	size_t n = c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
	static const uint8_t lead[] = { 0, 0, 0xc0, 0xe0, 0xf0 };
	for (size_t i = n; i-- > 1; c >>= 6)
		out[i] = (char)(0x80 | (c & 0x3f));
	out[0] = (char)(lead[n] | c);
	return n;
}

size_t windows_utf8(const uint8_t *utf16, size_t bytes, char *buf, size_t size)
{
	size_t len = 0, end = 0;
	bool fits = size > 0;
	for (size_t i = 0; i + 1 < bytes; i += 2) {
		uint32_t c = load_le16(utf16 + i);
		if (c >= 0xd800 && c < 0xe000) {
			uint32_t low = i + 3 < bytes ? load_le16(utf16 + i + 2) : 0;
			if (c < 0xdc00 && low >= 0xdc00 && low < 0xe000) {
				c = 0x10000 + ((c - 0xd800) << 10) + (low - 0xdc00);
				i += 2;
			}
		}
		char out[4];
		size_t n = encode(c, out);
		fits = fits && len + n < size;
		if (fits) {
			memcpy(buf + len, out, n);
			end = len + n;
		}
		len += n;
	}
	if (size)
		buf[end] = '\0';
	return len;
}

size_t windows_latin1(const uint8_t *text, size_t bytes, char *buf, size_t size)
{
	size_t len = 0, end = 0;
	bool fits = size > 0;
	for (size_t i = 0; i < bytes; i++) {
		char out[4];
		size_t n = encode(text[i], out);
		fits = fits && len + n < size;
		if (fits) {
			memcpy(buf + len, out, n);
			end = len + n;
		}
		len += n;
	}
	if (size)
		buf[end] = '\0';
	return len;
}

int windows_string(struct hvmi_space *space, uint64_t gva, uint32_t pointer_bytes, char *buf,
		   size_t size, size_t *len_ret)
{
	uint8_t head[16] = { 0 };
	int rc = hvmi_space_read(space, gva, head, 2 * pointer_bytes, NULL);
	if (rc)
		return rc;
	uint16_t bytes = load_le16(head), room = load_le16(head + 2);
	uint64_t at = pointer_bytes == 8 ? load_le64(head + 8) : load_le32(head + 4);
	if (bytes % 2 || bytes > room || (bytes && !at))
		return -EBADMSG;
	CLEANUP_FREE uint8_t *text = malloc(bytes ? bytes : 1);
	if (!text)
		return -ENOMEM;
	rc = bytes ? hvmi_space_read(space, at, text, bytes, NULL) : 0;
	if (rc)
		return rc;
	size_t len = windows_utf8(text, bytes, buf, size);
	if (len_ret)
		*len_ret = len;
	return 0;
}
