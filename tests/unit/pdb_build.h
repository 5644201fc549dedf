/* SPDX-License-Identifier: Apache-2.0 */
/* An MSF 7.00 file around streams. */
#ifndef HVMI_TESTS_PDB_BUILD_H
#define HVMI_TESTS_PDB_BUILD_H

#include <stddef.h>
#include <stdint.h>

#define PDB_BUILD_STREAMS 16u

struct pdb_build_stream {
	const void *bytes;
	uint32_t len;
};

/* The file, to be freed, or NULL. Blocks have 512 bytes. */
uint8_t *pdb_build(const struct pdb_build_stream streams[], uint32_t count, size_t *len_ret);

#endif
