/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HVMI_TESTS_INSN_BYTES_H
#define HVMI_TESTS_INSN_BYTES_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

/* Bytes out of pairs of hexadecimal digits; their count. */
static inline size_t insn_bytes(const char *hex, uint8_t *to)
{
	size_t len = 0;
	unsigned int byte;
	for (; sscanf(hex + 2 * len, "%2x", &byte) == 1; len++)
		to[len] = (uint8_t)byte;
	return len;
}

#endif
