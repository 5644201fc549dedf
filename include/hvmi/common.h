/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file common.h
 * Version, visibility and the rules that hold for every header of libhvmi.
 *
 * Functions return 0 or a negative error (see error.h); a positive number only where documented.
 * Outputs come last and are untouched on failure. A public struct that starts with `size` is filled
 * by the caller with its sizeof before the call; the library never writes past it, so programs
 * built against an older header keep working. Strings are bytes with a terminating NUL; what came
 * from a guest may hold any other byte (hvmi_text_escape() makes it printable).
 */
#ifndef HVMI_COMMON_H
#define HVMI_COMMON_H

#include <stddef.h>
#include <stdint.h>

#if defined(__GNUC__)
#define HVMI_API __attribute__((visibility("default")))
#define HVMI_PRINTF(format_index, first_index)                                                     \
	__attribute__((format(printf, format_index, first_index)))
#else
#define HVMI_API
#define HVMI_PRINTF(format_index, first_index)
#endif

#ifdef __cplusplus
extern "C" {
#endif

#define HVMI_VERSION_MAJOR 1
#define HVMI_VERSION_MINOR 0
#define HVMI_VERSION_PATCH 0

/** No address: the value of address fields that say nothing. */
#define HVMI_NO_ADDRESS UINT64_MAX

/** The version of the library that is running, "1.0.0". Static. Any thread. */
HVMI_API const char *hvmi_version(void);

/**
 * Make bytes of a guest printable: valid UTF-8 stays, except that control characters, DEL and
 * malformed sequences become \\xNN and a backslash becomes \\\\. The result is always valid UTF-8.
 * @param bytes  @p len bytes, may hold NULs
 * @param buf    receives at most @p size bytes with the terminating NUL (may be NULL if size is 0)
 * @return the length the whole result has, without the NUL, as snprintf does. Any thread.
 */
HVMI_API size_t hvmi_text_escape(const void *bytes, size_t len, char *buf, size_t size);

/**
 * A number: decimal, 0x hex, with an optional suffix K, M, G, T (powers of 1024).
 * @return -EINVAL: malformed; -EOVERFLOW: above 2^64 - 1. Any thread.
 */
HVMI_API int hvmi_parse_u64(const char *text, uint64_t *ret);

#ifdef __cplusplus
}
#endif
#endif
