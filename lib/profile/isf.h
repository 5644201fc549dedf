/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Volatility 3's intermediate symbol format: JSON, plain or in .xz. Schema 6.2.0 and the older ones
 * that have the same parts.
 */
#ifndef HVMI_LIB_ISF_H
#define HVMI_LIB_ISF_H

#include "profile/profile.h"

/* Longest file, and longest text in it: those of kernels have 7 to 40 MiB. */
#define ISF_BYTES_MAX (256u * MIB)

struct isf {
	void *json;
	bool has_pdb;		/* it was made of a PDB: */
	char pdb_name[64];
	uint8_t guid[16];	/* as the bytes lie in the image's CodeView record */
	uint32_t age;
	uint16_t machine;	/* IMAGE_FILE_MACHINE_*, 0: unknown */
	uint32_t pointer_bytes;
};

/* Whether bytes may be such a file: the beginning of an .xz file or of JSON. */
bool isf_probe(const void *bytes, size_t len);

/*
 * Take a file apart. -EBADMSG: it is none; -ENOTSUP: the library was built without jansson or
 * liblzma; -ENOMEM.
 */
int isf_open(const void *bytes, size_t len, struct isf *ret, struct hvmi_error *err);
void isf_close(struct isf *isf);

/*
 * Load types (frozen) and symbols (added, slid by `base`, not frozen). -EBADMSG, -ENOMEM, -EOVERFLOW;
 * then both are as before.
 */
int isf_load(const struct isf *isf, uint64_t base, struct types *types, struct symbols *symbols,
	     struct hvmi_error *err);

#endif
