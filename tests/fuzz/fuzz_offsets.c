/* SPDX-License-Identifier: Apache-2.0 */
/* An offsets file, applied twice: what the first left behind is what the second changes. */
#include <stdlib.h>

#include "btf_walk.h"
#include "profile/offsets.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct hvmi_profile *profile = profile_create();
	struct hvmi_error err = { 0 };
	struct offsets_id id;

	if (!profile)
		abort();
	offsets_identify((const char *)data, size, &id);
	int first = offsets_load((const char *)data, size, 0, 8, &profile->types, &profile->symbols,
				 &err);
	if (first < 0 && (first != err.code || profile->types.type_count || profile->symbols.count))
		abort();
	if (first == 0) {
		if (offsets_load((const char *)data, size, 0, 8, &profile->types,
				 &profile->symbols, &err) < 0 ||
		    symbols_freeze(&profile->symbols) < 0)
			abort();
		btf_walk(profile);
	}
	profile_destroy(profile);
	return 0;
}
