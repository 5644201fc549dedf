/* SPDX-License-Identifier: Apache-2.0 */
#include "os/linux/linux.h"

static const struct os_member_name member_names[LINUX_MEMBER_COUNT] = {
#define MEMBER(id, type, paths) { type, paths },
#include "os/linux/members.def"
#undef MEMBER
};

void linux_members_find(const struct hvmi_profile *profile,
			struct hvmi_member members[LINUX_MEMBER_COUNT])
{
	os_members_find(profile, member_names, members, LINUX_MEMBER_COUNT);
}

int linux_read(const struct hvmi_os *os, struct hvmi_space *space, enum linux_member member,
	       uint64_t object, uint64_t *ret)
{
	if (!linux_has(os, member))
		return -ENOENT;
	return hvmi_member_read(&linux_data(os)->members[member], space, object, ret);
}

int linux_address(const struct hvmi_os *os, struct hvmi_space *space, enum linux_member member,
		  uint64_t object, uint64_t *ret)
{
	if (!linux_has(os, member))
		return -ENOENT;
	return hvmi_member_address(&linux_data(os)->members[member], space, object, ret);
}

uint64_t linux_container(const struct hvmi_os *os, enum linux_member member, uint64_t address)
{
	return address - linux_data(os)->members[member].hops[0];
}

int linux_require(const struct hvmi_os *os, const char *what, const enum linux_member *members,
		  size_t count, struct hvmi_error *err)
{
	for (size_t i = 0; i < count; i++) {
		if (linux_has(os, members[i]))
			continue;
		if (os->profile->types.type_count == 0)
			return hvmi_error_set(err, -ENOTSUP, HVMI_NO_ADDRESS,
					      "%s cannot be listed: kernel %s carries no BTF type "
					      "information (CONFIG_DEBUG_INFO_BTF)", what,
					      os->release);
		return hvmi_error_set(err, -ENOTSUP, HVMI_NO_ADDRESS,
				      "%s cannot be listed: struct %s of kernel %s has no '%s'", what,
				      member_names[members[i]].type, os->release,
				      member_names[members[i]].paths);
	}
	return 0;
}
