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

/* The name of an object's type. -ENOENT: unknown; -EFAULT. */
int windows_object_type(const struct hvmi_os *os, struct hvmi_space *space, uint64_t object,
			char name[32]);

/* A walk through a directory, bucket after bucket. */
struct directory_walk {
	uint64_t directory, entry;
	uint32_t bucket, buckets;
	uint32_t left;		/* entries that are still believed, over all buckets */
	uint64_t hare;		/* an entry seen before: meeting it again is a circle */
	uint32_t power, steps;
	int damage;
};
void directory_begin(const struct hvmi_os *os, struct directory_walk *walk, uint64_t directory);
/* The next object: 1, 0 at the end. A damaged bucket is left, and walk->damage says so. */
int directory_next(const struct hvmi_os *os, struct hvmi_space *space, struct directory_walk *walk,
		   uint64_t *object_ret);
/* An object below a directory by its name, without case. -ENOENT. */
int directory_find(const struct hvmi_os *os, struct hvmi_space *space, uint64_t directory,
		   const char *name, size_t len, uint64_t *object_ret);

#endif
