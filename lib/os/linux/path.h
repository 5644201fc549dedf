/* SPDX-License-Identifier: Apache-2.0 */
/* Paths of open files, as d_path() gives them: fs/d_path.c. */
#ifndef HVMI_LIB_PATH_H
#define HVMI_LIB_PATH_H

#include "os/linux/linux.h"

#define PATH_BYTES 4096u	/* PATH_MAX */

/* What /proc says of a mapped file. */
struct linux_file {
	uint64_t inode;
	uint32_t device;		/* (major << 20) | minor */
	char path[PATH_BYTES];
};

/*
 * The file as its user opened it: a file of an overlay, not the one beneath that holds its pages.
 * The path is that in the mount namespace it was opened in, raw bytes, up to that namespace's root,
 * with " (deleted)" behind a file without a name. What cannot be read is zero.
 * Returns 0, or -EBADMSG if a part of the path could not be read: it holds what could, or "".
 */
int linux_file_read(const struct hvmi_os *os, struct hvmi_space *space, uint64_t file,
		    struct linux_file *ret);

#endif
