/* SPDX-License-Identifier: Apache-2.0 */
#include "vm/vm.h"

/* Where this list ends the core's knowledge of backends ends: it never includes one's header. */
const struct hvmi_backend *hvmi_backend_dump(void);
const struct hvmi_backend *hvmi_backend_sim(void);

const struct hvmi_backend *builtin_backend(const char *scheme)
{
	static const struct hvmi_backend *(*const entries[])(void) = {
		hvmi_backend_dump,
		hvmi_backend_sim,
	};
	for (size_t i = 0; i < ARRAY_SIZE(entries); i++)
		if (strcmp(entries[i]()->scheme, scheme) == 0)
			return entries[i]();
	return NULL;
}
