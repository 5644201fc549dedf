/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Program databases as Microsoft's linker and lld write them: MSF 7.00 files with CodeView types and
 * symbols. Format: the microsoft-pdb repository's headers (cvinfo.h, 2016) and LLVM's documentation
 * "The PDB File Format" (16).
 */
#ifndef HVMI_LIB_PDB_H
#define HVMI_LIB_PDB_H

#include "profile/profile.h"

/* Longest file that is read: the largest kernel's has 20 MiB. */
#define PDB_BYTES_MAX (512u * MIB)
/* What a file begins with. */
#define PDB_MAGIC "Microsoft C/C++ MSF 7.00\r\n\032DS\0\0"
#define PDB_MAGIC_BYTES 32u

struct pdb_id {
	uint8_t guid[16];	/* as the bytes lie in the image's CodeView record */
	uint32_t age;		/* of the image */
	uint16_t machine;	/* IMAGE_FILE_MACHINE_*, 0: unknown */
};

/* Which image a file is of. -EBADMSG: it is no PDB. */
int pdb_identify(const void *bytes, size_t len, struct pdb_id *ret, struct hvmi_error *err);

/*
 * Load types (types_freeze()d) and symbols (added, slid by `base`, not frozen). A file without types
 * leaves *types alone. 32-bit names lose their decoration: _NtClose@4 is NtClose. -EBADMSG, -ENOMEM,
 * -EOVERFLOW; then types and symbols are as before.
 */
int pdb_load(const void *bytes, size_t len, uint64_t base, struct types *types,
	     struct symbols *symbols, struct hvmi_error *err);

#endif
