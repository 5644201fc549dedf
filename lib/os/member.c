/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>

#include "os/os.h"

void os_members_find(const struct hvmi_profile *profile, const struct os_member_name *names,
		     struct hvmi_member *members, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		const char *path = names[i].paths;
		while (*path) {
			char one[64];
			size_t len = strcspn(path, "|");
			snprintf(one, sizeof(one), "%.*s", (int)len, path);
			struct hvmi_member member = { .size = sizeof(member) };
			if (hvmi_profile_member(profile, names[i].type, one, &member, NULL) == 0) {
				members[i] = member;
				break;
			}
			path += len + (path[len] == '|');
		}
	}
}
