/* SPDX-License-Identifier: Apache-2.0 */
/* A hive of the registry in memory: cells, and what the kernel finds them by. */
#ifndef HVMI_LIB_WINDOWS_HIVE_H
#define HVMI_LIB_WINDOWS_HIVE_H

#include "os/windows/windows.h"

#define HIVE_NO_CELL UINT32_MAX

struct hive {
	const struct hvmi_os *os;
	struct hvmi_space *kernel;
	struct hvmi_space *user;	/* of the process Registry, since 1803; or NULL */
	uint64_t object;		/* _CMHIVE */
	struct hive_storage {
		uint32_t bytes;
		uint64_t map;		/* _HMAP_DIRECTORY */
		uint32_t stride;	/* of _HMAP_ENTRY */
	} storage[2];			/* stable, volatile */
};

/* -EFAULT, -EBADMSG: it is no hive; -ENOTSUP: it is unknown how it is laid out. */
int hive_open(struct hvmi_os *os, uint64_t object, struct hive *ret, struct hvmi_error *err);
void hive_close(struct hive *hive);

/* The root's cell. */
int hive_root(const struct hive *hive, uint32_t *cell_ret);

/*
 * Copy the beginning of a cell's data, at most `size` bytes. -EFAULT: not in memory; -EBADMSG: it is
 * not an allocated cell.
 */
int hive_cell(const struct hive *hive, uint32_t cell, void *buf, uint32_t size, uint32_t *len_ret);

#endif
