/* SPDX-License-Identifier: Apache-2.0 */
/* Files of the user that know a kernel. */
#ifndef HVMI_LIB_WINDOWS_FILES_H
#define HVMI_LIB_WINDOWS_FILES_H

#include "os/windows/knowledge.h"

enum files_format { FILES_PDB, FILES_ISF, FILES_OFFSETS };

/* What a file held. */
struct files_knowledge {
	enum files_format format;
	bool has_id;		/* it says which kernel it is of: */
	char key[WINDOWS_PDB_KEY_BYTES];
	bool is_other;		/* of another one */
	struct types types;	/* empty: none */
	struct symbols symbols;
	char *offsets;		/* FILES_OFFSETS: its text, to be applied to what is known */
	size_t offsets_len;
};

/*
 * Read a file that knows the kernel `id`. What is of another kernel is read with `force` alone: else
 * it is -EINVAL. -ENOENT, -EACCES, -EIO; -EBADMSG: not a file of these kinds; -ENOTSUP; -ENOMEM.
 */
int files_load(const char *path, const struct windows_kernel_id *id, bool force,
	       struct files_knowledge *ret, struct hvmi_error *err);
void files_free(struct files_knowledge *knowledge);

/*
 * Find a file of this kernel in folders (see hvmi_os_options.symbol_path) and read it. Files that are
 * of another kernel or damaged are passed over. -ENOENT: none; -ENOMEM.
 */
int files_search(struct hvmi_vm *vm, const char *folders, const struct windows_kernel_id *id,
		 struct files_knowledge *ret, char *path_ret, size_t path_size);

#endif
