/* SPDX-License-Identifier: Apache-2.0 */
/* A blob as guest memory holds it: probed, loaded, and every question asked about it. */
#include <stdlib.h>
#include <string.h>

#include "btf_walk.h"
#include "profile/btf.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct hvmi_profile *profile = profile_create();
	struct hvmi_error err;
	uint64_t blob_len;

	if (!profile)
		abort();
	if (btf_probe(data, size, &blob_len) < 0)
		blob_len = UINT64_MAX;
	void *copy = malloc(size ? size : 1);
	if (!copy)
		abort();
	if (size)
		memcpy(copy, data, size);
	int status = btf_load(copy, size, &profile->types, &err);
	/* What the probe refuses for its header is not loaded either, apart from its first type. */
	if (status == 0 && blob_len > size && blob_len != UINT64_MAX)
		abort();
	if (status < 0 && (status != err.code || !err.text[0]))
		abort();
	if (status == 0)
		btf_walk(profile);
	profile_destroy(profile);
	return 0;
}
