/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file error.h
 * Errors: a negative code out of a closed set, and a sentence a person can act on.
 *
 * The codes are negative errno values of the host:
 *   -EINVAL     misuse: an argument or an option is wrong
 *   -EFAULT     no memory there: not RAM, or not mapped
 *   -ENOTSUP    cannot be had from this backend, machine or guest
 *   -ESRCH      the machine is gone
 *   -ENOENT     not found
 *   -EBADMSG    guest data or a file is malformed
 *   -ETIMEDOUT  not in the time given
 *   -EBUSY      somebody else holds it, or keeps changing it
 *   -ENOMEM     out of memory
 *   -EOVERFLOW  a bound of the library was reached, or a buffer is too small
 *   -EACCES     no permission
 *   -EIO        the medium failed under us
 */
#ifndef HVMI_ERROR_H
#define HVMI_ERROR_H

#include <errno.h>

#include <hvmi/common.h>

#ifdef __cplusplus
extern "C" {
#endif

/** Bytes of hvmi_error.text, with the NUL. */
#define HVMI_ERROR_TEXT 400

/**
 * What went wrong. Owned by the caller, needs no initialisation, and is written only when a call
 * fails. This struct is frozen: it never grows.
 */
struct hvmi_error {
	int32_t code;			/**< what the call returned */
	uint32_t reserved;
	uint64_t address;		/**< a guest address, or HVMI_NO_ADDRESS */
	char text[HVMI_ERROR_TEXT];	/**< what failed, on what, what to do; printable UTF-8 */
};

/** The name of a code of the closed set, "EFAULT"; "unknown" for others. Static. Any thread. */
HVMI_API const char *hvmi_error_name(int code);

/**
 * Fill @p err (may be NULL) with a code and a formatted sentence; for backends.
 * @return @p code
 */
HVMI_API int hvmi_error_set(struct hvmi_error *err, int code, uint64_t address, const char *format,
			    ...) HVMI_PRINTF(4, 5);

#ifdef __cplusplus
}
#endif
#endif
