/* SPDX-License-Identifier: Apache-2.0 */
/* Objects of the object manager: their headers, names, types and directories. */
#ifndef HVMI_LIB_WINDOWS_OBJECT_H
#define HVMI_LIB_WINDOWS_OBJECT_H

#include "os/windows/windows.h"

/* What a directory's component has at most: a UNICODE_STRING of 65,534 bytes, in UTF-8. */
#define OBJECT_NAME_BYTES (3u * 32768)
/* Directories deep. */
#define OBJECT_DEPTH_MAX 32u

/* The name of an object's header, "" if it has none. -ENOENT: not known where; -EFAULT. */
int windows_object_name(const struct hvmi_os *os, struct hvmi_space *space, uint64_t object,
			char *buf, size_t size, uint64_t *directory_ret);

/* "\\Device\\HarddiskVolume2": the name with those of its directories. Errors as above; -EOVERFLOW. */
int windows_object_path(const struct hvmi_os *os, struct hvmi_space *space, uint64_t object,
			char *buf, size_t size);

#endif
