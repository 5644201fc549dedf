/* SPDX-License-Identifier: Apache-2.0 */
#include "os/windows/windows.h"

static const struct os_member_name member_names[WINDOWS_MEMBER_COUNT] = {
#define MEMBER(id, type, paths) { type, paths },
#include "os/windows/members.def"
#undef MEMBER
};

void windows_members_find(const struct hvmi_profile *profile,
			  struct hvmi_member members[WINDOWS_MEMBER_COUNT])
{
	os_members_find(profile, member_names, members, WINDOWS_MEMBER_COUNT);
}

bool windows_is_kernel(const struct hvmi_os *os, uint64_t gva)
{
	return windows_data(os)->pointer_bytes == 8 ? gva >> 47 == 0x1ffff :
						      gva >= 0x80000000u && gva <= UINT32_MAX;
}

int windows_pointer_at(const struct hvmi_os *os, struct hvmi_space *space, uint64_t gva,
		       uint64_t *ret)
{
	uint8_t bytes[8] = { 0 };
	int rc = hvmi_space_read(space, gva, bytes, windows_data(os)->pointer_bytes, NULL);
	if (!rc)
		*ret = load_le64(bytes);
	return rc;
}

int windows_read(const struct hvmi_os *os, struct hvmi_space *space, enum windows_member member,
		 uint64_t object, uint64_t *ret)
{
	const struct hvmi_member *m = &windows_data(os)->members[member];
	if (!m->hop_count)
		return -ENOENT;
	int rc = hvmi_member_read(m, space, object, ret);
	if (rc != -EINVAL || m->bytes == 0 || m->bytes > 8)
		return rc;
	/* A union or struct that holds one number, such as _LARGE_INTEGER. */
	uint8_t bytes[8] = { 0 };
	rc = hvmi_space_read(space, object + m->hops[0], bytes, m->bytes, NULL);
	if (!rc)
		*ret = load_le64(bytes);
	return rc;
}

int windows_read_pointer(const struct hvmi_os *os, struct hvmi_space *space,
			 enum windows_member member, uint64_t object, uint64_t *ret)
{
	if (!windows_has(os, member))
		return -ENOENT;
	return windows_pointer_at(os, space, object + windows_offset(os, member), ret);
}

uint64_t windows_fast_ref(const struct hvmi_os *os, uint64_t value)
{
	/* Objects are aligned to twice the size of a pointer; so many references are counted. */
	return value & ~(uint64_t)(windows_data(os)->pointer_bytes == 8 ? 15 : 7);
}

int windows_require(const struct hvmi_os *os, const char *what, const enum windows_member *members,
		    size_t count, struct hvmi_error *err)
{
	for (size_t i = 0; i < count; i++)
		if (!windows_has(os, members[i]))
			return hvmi_error_set(err, -ENOTSUP, HVMI_NO_ADDRESS,
					      "%s cannot be listed: where '%s' is in %s of Windows "
					      "%s is unknown", what, member_names[members[i]].paths,
					      member_names[members[i]].type, os->release);
	return 0;
}

int windows_symbol(const struct hvmi_os *os, const char *what, const char *name, uint64_t *ret,
		   struct hvmi_error *err)
{
	const struct windows_kernel_id *id = &windows_data(os)->id;
	char key[WINDOWS_PDB_KEY_BYTES] = "";
	if (symbols_find(&os->profile->symbols, name, ret) == 0)
		return 0;
	if (!id->pdb_name[0])
		return hvmi_error_set(err, -ENOTSUP, HVMI_NO_ADDRESS,
				      "%s cannot be listed: where %s of Windows %s is is unknown, and so "
				      "is the kernel's PDB id: give its PDB or ISF file", what, name,
				      os->release);
	windows_pdb_key(id->guid, id->age, key);
	return hvmi_error_set(err, -ENOTSUP, HVMI_NO_ADDRESS,
			      "%s cannot be listed: where %s of Windows %s is is unknown: give %s %s, or "
			      "an ISF file of it", what, name, os->release, id->pdb_name, key);
}
