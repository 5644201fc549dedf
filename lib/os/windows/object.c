/* SPDX-License-Identifier: Apache-2.0 */
#include "os/windows/object.h"

/* _OBJECT_HEADER.InfoMask: optional headers, the first nearest to the header. */
#define INFO_CREATOR 1u
#define INFO_NAME 2u

/* Where the name's header is, 0 if there is none. */
static int find_name_info(const struct hvmi_os *os, struct hvmi_space *space, uint64_t object,
			  uint64_t *ret)
{
	uint64_t value, creator = 0, bytes;
	if (!windows_has(os, WINDOWS_HEADER_BODY))
		return -ENOENT;
	uint64_t header = object - windows_offset(os, WINDOWS_HEADER_BODY);
	*ret = 0;
	int rc = windows_read(os, space, WINDOWS_HEADER_NAME_OFFSET, header, &value);
	if (rc != -ENOENT) {
		if (!rc && value)
			*ret = header - value;
		return rc;
	}
	rc = windows_read(os, space, WINDOWS_HEADER_INFO_MASK, header, &value);
	if (rc || !(value & INFO_NAME))
		return rc;
	if ((value & INFO_CREATOR &&
	     hvmi_profile_sizeof(os->profile, "_OBJECT_HEADER_CREATOR_INFO", &creator, NULL)) ||
	    hvmi_profile_sizeof(os->profile, "_OBJECT_HEADER_NAME_INFO", &bytes, NULL))
		return -ENOENT;
	*ret = header - creator - bytes;
	return 0;
}

int windows_object_name(const struct hvmi_os *os, struct hvmi_space *space, uint64_t object,
			char *buf, size_t size, uint64_t *directory_ret)
{
	uint64_t info;
	size_t len;
	buf[0] = '\0';
	if (!windows_is_kernel(os, object))
		return -EFAULT;
	if (!windows_has(os, WINDOWS_NAME_INFO_NAME))
		return -ENOENT;
	int rc = find_name_info(os, space, object, &info);
	if (rc)
		return rc;
	*directory_ret = 0;
	if (!info)
		return 0;
	rc = windows_string(space, info + windows_offset(os, WINDOWS_NAME_INFO_NAME),
			    windows_data(os)->pointer_bytes, buf, size, &len);
	if (!rc && len >= size)
		rc = -EOVERFLOW;
	if (!rc)
		windows_read_pointer(os, space, WINDOWS_NAME_INFO_DIRECTORY, info, directory_ret);
	return rc;
}

int windows_object_path(const struct hvmi_os *os, struct hvmi_space *space, uint64_t object,
			char *buf, size_t size)
{
	CLEANUP_FREE char *name = malloc(OBJECT_NAME_BYTES);
	if (!name)
		return -ENOMEM;
	/* From the object upwards, each in front of what is there. */
	size_t start = size - 1;
	buf[0] = buf[start] = '\0';
	for (uint32_t depth = 0; object && depth < OBJECT_DEPTH_MAX; depth++) {
		uint64_t directory = 0;
		int rc = windows_object_name(os, space, object, name, OBJECT_NAME_BYTES, &directory);
		if (rc)
			return rc;
		size_t len = strlen(name);
		if (!len)
			break;
		/* The root directory is called "\". */
		if (strcmp(name, "\\") == 0)
			break;
		if (len + 1 > start)
			return -EOVERFLOW;
		start -= len;
		memcpy(buf + start, name, len);
		/* What is in no directory has a name that is not a path. */
		if (directory)
			buf[--start] = '\\';
		object = directory;
	}
	memmove(buf, buf + start, size - start);
	return 0;
}

int windows_file_path(const struct hvmi_os *os, struct hvmi_space *space, uint64_t file, char *buf,
		      size_t size)
{
	uint64_t device;
	buf[0] = '\0';
	if (!windows_has(os, WINDOWS_FILE_NAME))
		return -ENOENT;
	/* A device without a name, or one that cannot be read, loses the beginning only. */
	int rc = windows_read_pointer(os, space, WINDOWS_FILE_DEVICE, file, &device);
	if (!rc)
		rc = windows_object_path(os, space, device, buf, size);
	if (rc)
		buf[0] = '\0';
	size_t prefix = strlen(buf), len = 0;
	int name_rc = windows_string(space, file + windows_offset(os, WINDOWS_FILE_NAME),
				     windows_data(os)->pointer_bytes, buf + prefix, size - prefix,
				     &len);
	if (name_rc) {
		buf[0] = '\0';
		return name_rc;
	}
	if (len >= size - prefix)
		return -EOVERFLOW;
	return rc ? rc : prefix ? 0 : -ENOENT;
}
