/* SPDX-License-Identifier: Apache-2.0 */
#include "unpack.h"

#include <errno.h>

#include "kdump_header.h"

#ifdef HVMI_HAVE_SNAPPY
#include <snappy-c.h>
#endif
#ifdef HVMI_HAVE_ZLIB
#include <zlib.h>
#endif
#ifdef HVMI_HAVE_ZSTD
#include <zstd.h>
#endif

#ifdef HVMI_HAVE_ZLIB
static bool zlib_unpack(const uint8_t *packed, size_t len, uint8_t *buf, size_t size)
{
	uLongf plain = size;
	return uncompress(buf, &plain, packed, len) == Z_OK && plain == size;
}
#endif

#ifdef HVMI_HAVE_SNAPPY
static bool snappy_unpack(const uint8_t *packed, size_t len, uint8_t *buf, size_t size)
{
	size_t plain = size;
	return snappy_uncompress((const char *)packed, len, (char *)buf, &plain) == SNAPPY_OK &&
	       plain == size;
}
#endif

int unpack(uint32_t method, const uint8_t *packed, size_t len, uint8_t *buf, size_t size)
{
	switch (method) {
	case KDUMP_LZO:
		return lzo_unpack(packed, len, buf, size);
#ifdef HVMI_HAVE_ZLIB
	case KDUMP_ZLIB:
		return zlib_unpack(packed, len, buf, size) ? 0 : -EBADMSG;
#endif
#ifdef HVMI_HAVE_SNAPPY
	case KDUMP_SNAPPY:
		return snappy_unpack(packed, len, buf, size) ? 0 : -EBADMSG;
#endif
#ifdef HVMI_HAVE_ZSTD
	case KDUMP_ZSTD:
		return ZSTD_decompress(buf, size, packed, len) == size ? 0 : -EBADMSG;
#endif
	default:
		return -ENOTSUP;
	}
}

const char *unpack_missing(uint32_t methods)
{
	(void)methods;
#ifndef HVMI_HAVE_ZLIB
	if (methods & KDUMP_ZLIB)
		return "zlib";
#endif
#ifndef HVMI_HAVE_SNAPPY
	if (methods & KDUMP_SNAPPY)
		return "snappy";
#endif
#ifndef HVMI_HAVE_ZSTD
	if (methods & KDUMP_ZSTD)
		return "zstd";
#endif
	return NULL;
}
