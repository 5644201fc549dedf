/* SPDX-License-Identifier: Apache-2.0 */
/* Paths of open files, as d_path() gives them: fs/d_path.c. */
#ifndef HVMI_LIB_PATH_H
#define HVMI_LIB_PATH_H

#include "os/linux/linux.h"

#define PATH_BYTES 4096u	/* PATH_MAX */

/*
 * The path of a struct file in the mount namespace it was opened in, raw bytes, up to that
 * namespace's root. " (deleted)" behind a file without a name.
 * Returns 0, or -EBADMSG if a part could not be read: then `buf` holds what could, or "".
 */
int linux_file_path(const struct hvmi_os *os, struct hvmi_space *space, uint64_t file,
		    char buf[PATH_BYTES]);

#endif
