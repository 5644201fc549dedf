/* SPDX-License-Identifier: Apache-2.0 */
/* What compressed a page, undone. */
#ifndef HVMI_BACKENDS_DUMP_UNPACK_H
#define HVMI_BACKENDS_DUMP_UNPACK_H

#include <stddef.h>
#include <stdint.h>

/*
 * LZO1X as liblzo's lzo1x_1_compress() makes it. 0: exactly `size` bytes came out and nothing was
 * left over; else -EBADMSG.
 */
int lzo_unpack(const uint8_t *packed, size_t len, uint8_t *buf, size_t size);

/*
 * Undoes `method`, one of KDUMP_*; exactly `size` bytes must come out. -EBADMSG: they do not;
 * -ENOTSUP: no such method here.
 */
int unpack(uint32_t method, const uint8_t *packed, size_t len, uint8_t *buf, size_t size);

/* What of a set of methods this library was built without, as a name; NULL: nothing. */
const char *unpack_missing(uint32_t methods);

#endif
