/* SPDX-License-Identifier: Apache-2.0 */
#include "os/windows/object.h"

#include <stdio.h>
#include <strings.h>

#include <hvmi/windows.h>

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
	for (uint32_t depth = 0; object; depth++) {
		uint64_t directory = 0;
		if (depth == OBJECT_DEPTH_MAX)
			return -EBADMSG;
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

/* Directories. */

#define BUCKETS 37u		/* NUMBER_HASH_BUCKETS, in all releases */
#define ENTRIES_BOUND 262144u

void directory_begin(const struct hvmi_os *os, struct directory_walk *walk, uint64_t directory)
{
	bool known = windows_has(os, WINDOWS_DIRECTORY_BUCKETS) && windows_has(os, WINDOWS_ENTRY_NEXT);
	*walk = (struct directory_walk){ .directory = directory, .buckets = known ? BUCKETS : 0,
					 .left = ENTRIES_BOUND };
}

int directory_next(const struct hvmi_os *os, struct hvmi_space *space, struct directory_walk *walk,
		   uint64_t *object_ret)
{
	uint32_t n = windows_data(os)->pointer_bytes;
	for (;;) {
		while (!walk->entry) {
			if (walk->bucket == walk->buckets)
				return 0;
			uint64_t at = walk->directory + windows_offset(os, WINDOWS_DIRECTORY_BUCKETS) +
				      walk->bucket++ * n;
			walk->hare = 0;
			walk->power = walk->steps = 1;
			if (windows_pointer_at(os, space, at, &walk->entry)) {
				walk->damage = -EFAULT;
				walk->entry = 0;
			}
		}
		uint64_t entry = walk->entry, object;
		/* Brent's algorithm: a circle comes back to where a power of two began. */
		bool circle = entry == walk->hare;
		if (walk->steps++ == walk->power) {
			walk->hare = entry;
			walk->power *= 2;
			walk->steps = 1;
		}
		if (circle || walk->left-- == 0 || !windows_is_kernel(os, entry) ||
		    windows_read_pointer(os, space, WINDOWS_ENTRY_NEXT, entry, &walk->entry) ||
		    windows_read_pointer(os, space, WINDOWS_ENTRY_OBJECT, entry, &object)) {
			walk->damage = -EBADMSG;
			walk->entry = 0;
			if (walk->left == UINT32_MAX)
				walk->left = 0;
			continue;
		}
		*object_ret = object;
		return 1;
	}
}

int directory_find(const struct hvmi_os *os, struct hvmi_space *space, uint64_t directory,
		   const char *name, size_t len, uint64_t *object_ret)
{
	struct directory_walk walk;
	uint64_t object, parent;
	CLEANUP_FREE char *text = malloc(OBJECT_NAME_BYTES);
	if (!text)
		return -ENOMEM;
	directory_begin(os, &walk, directory);
	while (directory_next(os, space, &walk, &object) == 1)
		if (windows_object_name(os, space, object, text, OBJECT_NAME_BYTES, &parent) == 0 &&
		    strlen(text) == len && strncasecmp(text, name, len) == 0) {
			*object_ret = object;
			return 0;
		}
	return -ENOENT;
}

/* Types. */

int windows_object_type(const struct hvmi_os *os, struct hvmi_space *space, uint64_t object,
			char name[32])
{
	const struct windows_os *data = windows_data(os);
	uint64_t value;
	name[0] = '\0';
	if (!windows_has(os, WINDOWS_HEADER_BODY))
		return -ENOENT;
	uint64_t header = object - windows_offset(os, WINDOWS_HEADER_BODY);
	int rc = windows_read_pointer(os, space, WINDOWS_HEADER_TYPE, header, &value);
	if (rc != -ENOENT) {
		if (rc || !windows_is_kernel(os, value) || !windows_has(os, WINDOWS_TYPE_NAME))
			return rc ? rc : -EFAULT;
		return windows_string(space, value + windows_offset(os, WINDOWS_TYPE_NAME),
				      data->pointer_bytes, name, 32, NULL);
	}
	rc = windows_read(os, space, WINDOWS_HEADER_TYPE_INDEX, header, &value);
	if (rc)
		return rc;
	if (data->id.major >= 10)
		value ^= data->type_cookie ^ header >> 8;
	const struct windows_type *type = &data->types[value & 0xff];
	if (!type->object)
		return -ENOENT;
	memcpy(name, type->name, sizeof(type->name));
	return 0;
}

static void add_type(struct hvmi_os *os, struct hvmi_space *space, uint64_t object)
{
	struct windows_os *data = windows_data(os);
	char name[32];
	uint64_t index;
	if (!windows_is_kernel(os, object) || !windows_has(os, WINDOWS_TYPE_NAME) ||
	    windows_read(os, space, WINDOWS_TYPE_INDEX, object, &index) ||
	    index >= WINDOWS_TYPES_MAX || data->types[index].object ||
	    windows_string(space, object + windows_offset(os, WINDOWS_TYPE_NAME),
			   data->pointer_bytes, name, sizeof(name), NULL) || !name[0])
		return;
	data->types[index].object = object;
	memcpy(data->types[index].name, name, sizeof(name));
}

/*
 * Types are found from the kernel's export PsProcessType: its own header says in which directory it
 * is, and there are all others. That directory's header leads to the root. The cookie is what makes
 * System a process.
 */
void windows_settle_objects(struct hvmi_os *os, struct hvmi_space *space)
{
	struct windows_os *data = windows_data(os);
	const struct symbols *symbols = &os->profile->symbols;
	uint64_t gva, process_type = 0, directory = 0, object, index, value;
	char name[64], text[32];
	uint32_t count = 0;
	const char *source = "PsProcessType and the directory that it is in";
	if (symbols_find(symbols, "PsProcessType", &gva) ||
	    windows_pointer_at(os, space, gva, &process_type) ||
	    windows_object_name(os, space, process_type, name, sizeof(name), &directory) ||
	    strcmp(name, "Process"))
		process_type = directory = 0;
	if (directory) {
		struct directory_walk walk;
		directory_begin(os, &walk, directory);
		while (directory_next(os, space, &walk, &object) == 1)
			add_type(os, space, object);
		windows_object_name(os, space, directory, name, sizeof(name), &data->root_directory);
	}
	if (!data->root_directory && symbols_find(symbols, "ObpRootDirectoryObject", &gva) == 0 &&
	    windows_pointer_at(os, space, gva, &object) == 0 && windows_is_kernel(os, object))
		data->root_directory = object;
	if (!directory && symbols_find(symbols, "ObTypeIndexTable", &gva) == 0) {
		source = "ObTypeIndexTable";
		for (uint32_t i = 2; i < WINDOWS_TYPES_MAX; i++)
			if (windows_pointer_at(os, space, gva + i * data->pointer_bytes, &object) == 0)
				add_type(os, space, object);
	}
	if (data->system && data->id.major >= 10 && windows_has(os, WINDOWS_HEADER_BODY)) {
		uint64_t header = data->system - windows_offset(os, WINDOWS_HEADER_BODY);
		if (process_type &&
		    windows_read(os, space, WINDOWS_TYPE_INDEX, process_type, &index) == 0 &&
		    windows_read(os, space, WINDOWS_HEADER_TYPE_INDEX, header, &value) == 0)
			data->type_cookie = (uint8_t)(value ^ index ^ header >> 8);
	}
	for (uint32_t i = 0; i < WINDOWS_TYPES_MAX; i++)
		count += data->types[i].object != 0;
	bool agrees = data->system &&
		      windows_object_type(os, space, data->system, text) == 0 &&
		      strcmp(text, "Process") == 0;
	snprintf(name, sizeof(name), "%u", count);
	os_fact(os, "object types", count && agrees ? HVMI_CONFIDENCE_HIGH :
		count ? HVMI_CONFIDENCE_LOW : HVMI_CONFIDENCE_UNKNOWN, HVMI_NO_ADDRESS, 0, name,
		"%s%s", count ? source : "the object manager's types were not found",
		count && agrees ? "; System is a process" : "");
}

int windows_only(const struct hvmi_os *os, struct hvmi_error *err)
{
	return os->ops->kind == HVMI_OS_WINDOWS ? 0 :
		hvmi_error_set(err, -ENOTSUP, HVMI_NO_ADDRESS, "the guest is %s: only Windows has "
			       "this", os->ops->name);
}

/* Public. */

struct hvmi_object_iter {
	struct hvmi_os *os;
	struct hvmi_space *space;
	struct directory_walk walk;
	char name[OBJECT_NAME_BYTES];
};

/* The directory at a path. */
static int find_directory(const struct hvmi_os *os, struct hvmi_space *space, const char *path,
			  uint64_t *ret)
{
	uint64_t at = windows_data(os)->root_directory;
	while (path && *path) {
		path += strspn(path, "\\");
		size_t len = strcspn(path, "\\");
		if (!len)
			break;
		int rc = directory_find(os, space, at, path, len, &at);
		if (rc)
			return rc;
		path += len;
	}
	*ret = at;
	return 0;
}

HVMI_API int hvmi_object_iter_create(struct hvmi_os *os, const char *path,
				     struct hvmi_object_iter **ret, struct hvmi_error *err)
{
	uint64_t directory;
	int rc = windows_only(os, err);
	if (rc)
		return rc;
	if (!windows_data(os)->root_directory)
		return hvmi_error_set(err, -ENOTSUP, HVMI_NO_ADDRESS, "the object manager's root "
				      "directory was not found in Windows %s", os->release);
	struct hvmi_object_iter *iter = calloc(1, sizeof(*iter));
	if (!iter)
		return hvmi_error_set(err, -ENOMEM, HVMI_NO_ADDRESS, "out of memory");
	iter->os = os;
	rc = hvmi_os_kernel_space(os, &iter->space, err);
	if (!rc) {
		rc = find_directory(os, iter->space, path, &directory);
		if (rc)
			hvmi_error_set(err, rc, HVMI_NO_ADDRESS, "there is no directory %s",
				       path ? path : "");
	}
	if (rc) {
		hvmi_object_iter_destroy(iter);
		return rc;
	}
	directory_begin(os, &iter->walk, directory);
	*ret = iter;
	return 0;
}

HVMI_API int hvmi_object_next(struct hvmi_object_iter *iter, struct hvmi_object *ret,
			      struct hvmi_error *err)
{
	uint64_t object, parent;
	if (directory_next(iter->os, iter->space, &iter->walk, &object) != 1) {
		int damage = iter->walk.damage;
		iter->walk.damage = 0;
		return damage ? hvmi_error_set(err, damage, iter->walk.directory,
					       "the directory at 0x%llx is damaged",
					       (unsigned long long)iter->walk.directory) : 0;
	}
	struct hvmi_object found = { .object = object, .name = iter->name };
	if (windows_object_name(iter->os, iter->space, object, iter->name, sizeof(iter->name),
				&parent))
		iter->name[0] = '\0';
	windows_object_type(iter->os, iter->space, object, found.type);
	if (result_copy(ret, &found, sizeof(found)))
		return hvmi_error_set(err, -EINVAL, HVMI_NO_ADDRESS, "hvmi_object.size is not set");
	return 1;
}

HVMI_API void hvmi_object_iter_destroy(struct hvmi_object_iter *iter)
{
	if (!iter)
		return;
	hvmi_space_destroy(iter->space);
	free(iter);
}
