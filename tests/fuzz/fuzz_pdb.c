/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A PDB: as a whole file where the input begins as one, else its streams, each as its length in two
 * bytes and its bytes.
 */
#include <stdlib.h>

#include "btf_walk.h"
#include "pdb_build.h"
#include "profile/pdb.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void load(const uint8_t *bytes, size_t len)
{
	struct hvmi_profile *profile = profile_create();
	struct hvmi_error err = { 0 };
	struct pdb_id id;

	if (!profile)
		abort();
	int status = pdb_identify(bytes, len, &id, &err);
	if (status < 0 && (status != err.code || !err.text[0]))
		abort();
	status = pdb_load(bytes, len, 0xfffff80000000000, &profile->types, &profile->symbols, &err);
	if (status < 0) {
		if (status != err.code || !err.text[0] || profile->types.type_count ||
		    profile->symbols.count)
			abort();
	} else {
		if (symbols_freeze(&profile->symbols) < 0)
			abort();
		if (profile->types.type_count)
			btf_walk(profile);
	}
	profile_destroy(profile);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct pdb_build_stream streams[PDB_BUILD_STREAMS];
	uint32_t count = 0;

	if (size >= PDB_MAGIC_BYTES && memcmp(data, PDB_MAGIC, PDB_MAGIC_BYTES) == 0) {
		load(data, size);
		return 0;
	}
	for (size_t at = 0; count < PDB_BUILD_STREAMS && size - at >= 2;) {
		uint32_t len = (uint32_t)MIN(load_le16(data + at), size - at - 2);
		streams[count++] = (struct pdb_build_stream){ data + at + 2, len };
		at += 2 + len;
	}
	size_t len;
	uint8_t *file = pdb_build(streams, count, &len);
	if (!file)
		abort();
	load(file, len);
	free(file);
	return 0;
}
