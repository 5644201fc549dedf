/* SPDX-License-Identifier: Apache-2.0 */
/* An ISF file: what it says of itself, its types and symbols. */
#include <stdlib.h>

#include "btf_walk.h"
#include "profile/isf.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct hvmi_profile *profile = profile_create();
	struct hvmi_error err = { 0 };
	struct isf isf;

	if (!profile)
		abort();
	int status = isf_open(data, size, &isf, &err);
	if (status == 0) {
		profile->pointer_bytes = isf.pointer_bytes;
		status = isf_load(&isf, 0, &profile->types, &profile->symbols, &err);
		isf_close(&isf);
		if (status == 0 && symbols_freeze(&profile->symbols) < 0)
			abort();
		if (status == 0)
			btf_walk(profile);
		else if (profile->types.type_count || profile->symbols.count)
			abort();
	}
	if (status < 0 && (status != err.code || !err.text[0]))
		abort();
	profile_destroy(profile);
	return 0;
}
