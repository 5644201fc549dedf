/* SPDX-License-Identifier: Apache-2.0 */
#include "profile/profile.h"

void types_deinit(struct types *types)
{
	free(types->types);
	free(types->members);
	free(types->enumerators);
	free(types->names);
	free(types->buckets);
	free(types->enumerator_buckets);
	*types = (struct types){0};
}
