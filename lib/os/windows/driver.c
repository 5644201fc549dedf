/* SPDX-License-Identifier: Apache-2.0 */
/* Drivers, their devices, and what was unloaded. */
#include <stdio.h>

#include <hvmi/windows.h>

#include "os/windows/object.h"

#define DEVICES_BOUND 65536u
#define UNLOADED_MAX 50u		/* MI_UNLOADED_DRIVERS */

struct hvmi_driver_iter {
	struct hvmi_os *os;
	struct hvmi_space *space;
	struct directory_walk walk;
	uint32_t place;			/* which of the directories comes next */
	int damage;
	char name[OBJECT_NAME_BYTES], service[512];
};

static const char *const places[] = { "Driver", "FileSystem" };

HVMI_API int hvmi_driver_iter_create(struct hvmi_os *os, struct hvmi_driver_iter **ret,
				     struct hvmi_error *err)
{
	static const enum windows_member needed[] = { WINDOWS_DRIVER_START, WINDOWS_DRIVER_UNLOAD,
						      WINDOWS_DIRECTORY_BUCKETS };
	int rc = windows_only(os, err);
	if (!rc)
		rc = windows_require(os, "drivers", needed, ARRAY_SIZE(needed), err);
	if (rc)
		return rc;
	if (!windows_data(os)->root_directory)
		return hvmi_error_set(err, -ENOTSUP, HVMI_NO_ADDRESS, "drivers cannot be listed: the "
				      "object manager's root directory was not found in Windows %s",
				      os->release);
	struct hvmi_driver_iter *iter = calloc(1, sizeof(*iter));
	if (!iter)
		return hvmi_error_set(err, -ENOMEM, HVMI_NO_ADDRESS, "out of memory");
	iter->os = os;
	rc = hvmi_os_kernel_space(os, &iter->space, err);
	if (rc) {
		free(iter);
		return rc;
	}
	*ret = iter;
	return 0;
}

HVMI_API void hvmi_driver_iter_destroy(struct hvmi_driver_iter *iter)
{
	if (!iter)
		return;
	hvmi_space_destroy(iter->space);
	free(iter);
}

static void read_driver(struct hvmi_driver_iter *iter, uint64_t object, struct hvmi_driver *driver)
{
	const struct hvmi_os *os = iter->os;
	struct hvmi_space *space = iter->space;
	uint32_t n = windows_data(os)->pointer_bytes;
	uint64_t extension;
	*driver = (struct hvmi_driver){ .object = object, .name = iter->name,
					.service = iter->service };
	windows_read_pointer(os, space, WINDOWS_DRIVER_START, object, &driver->start);
	windows_read(os, space, WINDOWS_DRIVER_BYTES, object, &driver->bytes);
	windows_read_pointer(os, space, WINDOWS_DRIVER_SECTION, object, &driver->module);
	windows_read_pointer(os, space, WINDOWS_DRIVER_DEVICE, object, &driver->device);
	windows_read_pointer(os, space, WINDOWS_DRIVER_UNLOAD, object, &driver->unload);
	/* MajorFunction follows DriverUnload: wdm.h. */
	uint64_t at = object + windows_offset(os, WINDOWS_DRIVER_UNLOAD) + n;
	for (uint32_t i = 0; i < HVMI_DISPATCH_COUNT; i++)
		windows_pointer_at(os, space, at + i * n, &driver->dispatch[i]);
	if (windows_object_path(os, space, object, iter->name, sizeof(iter->name)))
		iter->name[0] = '\0';
	iter->service[0] = '\0';
	if (windows_has(os, WINDOWS_EXTENSION_SERVICE) &&
	    windows_read_pointer(os, space, WINDOWS_DRIVER_EXTENSION, object, &extension) == 0 &&
	    windows_is_kernel(os, extension) &&
	    windows_string(space, extension + windows_offset(os, WINDOWS_EXTENSION_SERVICE), n,
			   iter->service, sizeof(iter->service), NULL))
		iter->service[0] = '\0';
}

HVMI_API int hvmi_driver_next(struct hvmi_driver_iter *iter, struct hvmi_driver *ret,
			      struct hvmi_error *err)
{
	const struct hvmi_os *os = iter->os;
	uint64_t object, directory;
	struct hvmi_driver driver;
	char type[32];
	for (;;) {
		if (directory_next(os, iter->space, &iter->walk, &object) == 1) {
			/* Where types are unknown, everything in these directories is a driver. */
			if (windows_object_type(os, iter->space, object, type) == 0 &&
			    strcmp(type, "Driver") != 0)
				continue;
			read_driver(iter, object, &driver);
			if (result_copy(ret, &driver, sizeof(driver)))
				return hvmi_error_set(err, -EINVAL, HVMI_NO_ADDRESS,
						      "hvmi_driver.size is not set");
			return 1;
		}
		if (iter->walk.damage)
			iter->damage = iter->walk.damage;
		if (iter->place == ARRAY_SIZE(places))
			break;
		const char *name = places[iter->place++];
		iter->walk = (struct directory_walk){ 0 };
		if (directory_find(os, iter->space, windows_data(os)->root_directory, name,
				   strlen(name), &directory) == 0)
			directory_begin(os, &iter->walk, directory);
		else if (iter->place == 1)
			iter->damage = -EFAULT;
	}
	int damage = iter->damage;
	iter->damage = 0;
	return damage ? hvmi_error_set(err, damage, HVMI_NO_ADDRESS, "the directory of drivers is "
				       "damaged, or parts of it are not in memory") : 0;
}

/* Devices. */

struct hvmi_device_iter {
	struct hvmi_os *os;
	struct hvmi_space *space;
	uint64_t next, seen;
	uint32_t left, power, steps;
	char name[OBJECT_NAME_BYTES];
};

HVMI_API int hvmi_device_iter_create(struct hvmi_os *os, const struct hvmi_driver *driver,
				     struct hvmi_device_iter **ret, struct hvmi_error *err)
{
	static const enum windows_member needed[] = { WINDOWS_DEVICE_NEXT };
	struct hvmi_driver d;
	int rc = windows_only(os, err);
	if (!rc)
		rc = windows_require(os, "devices", needed, ARRAY_SIZE(needed), err);
	if (rc)
		return rc;
	if (!driver || options_copy(&d, sizeof(d), driver))
		return hvmi_error_set(err, -EINVAL, HVMI_NO_ADDRESS,
				      "the driver is not one that this library gave");
	struct hvmi_device_iter *iter = calloc(1, sizeof(*iter));
	if (!iter)
		return hvmi_error_set(err, -ENOMEM, HVMI_NO_ADDRESS, "out of memory");
	iter->os = os;
	iter->next = d.device;
	iter->left = DEVICES_BOUND;
	iter->power = iter->steps = 1;
	rc = hvmi_os_kernel_space(os, &iter->space, err);
	if (rc) {
		free(iter);
		return rc;
	}
	*ret = iter;
	return 0;
}

HVMI_API void hvmi_device_iter_destroy(struct hvmi_device_iter *iter)
{
	if (!iter)
		return;
	hvmi_space_destroy(iter->space);
	free(iter);
}

HVMI_API int hvmi_device_next(struct hvmi_device_iter *iter, struct hvmi_device *ret,
			      struct hvmi_error *err)
{
	const struct hvmi_os *os = iter->os;
	uint64_t object = iter->next, type = 0;
	if (!object)
		return 0;
	bool circle = object == iter->seen;
	if (iter->steps++ == iter->power) {
		iter->seen = object;
		iter->power *= 2;
		iter->steps = 1;
	}
	iter->next = 0;
	if (circle || iter->left-- == 0)
		return hvmi_error_set(err, -EBADMSG, object, "the list of devices does not end");
	if (!windows_is_kernel(os, object) ||
	    windows_read_pointer(os, iter->space, WINDOWS_DEVICE_NEXT, object, &iter->next)) {
		iter->next = 0;
		return hvmi_error_set(err, -EBADMSG, object,
				      "the list of devices leads to 0x%llx, where there is none",
				      (unsigned long long)object);
	}
	struct hvmi_device device = { .object = object, .name = iter->name };
	windows_read_pointer(os, iter->space, WINDOWS_DEVICE_DRIVER, object, &device.driver);
	windows_read_pointer(os, iter->space, WINDOWS_DEVICE_ATTACHED, object, &device.attached);
	windows_read(os, iter->space, WINDOWS_DEVICE_TYPE, object, &type);
	device.type = (uint32_t)type;
	if (windows_object_path(os, iter->space, object, iter->name, sizeof(iter->name)))
		iter->name[0] = '\0';
	if (result_copy(ret, &device, sizeof(device)))
		return hvmi_error_set(err, -EINVAL, HVMI_NO_ADDRESS, "hvmi_device.size is not set");
	return 1;
}

/* Unloaded drivers. */

HVMI_API int hvmi_unloaded_read(struct hvmi_os *os, uint32_t index, struct hvmi_unloaded *ret,
				struct hvmi_error *err)
{
	struct hvmi_unloaded unloaded = { 0 };
	struct hvmi_space *space;
	uint64_t gva, array = 0, at = 0;
	uint8_t tail[24];
	int rc = windows_only(os, err);
	if (rc)
		return rc;
	rc = windows_symbol(os, "unloaded drivers", "MmUnloadedDrivers", &gva, err);
	if (rc)
		return rc;
	if (index >= UNLOADED_MAX)
		return hvmi_error_set(err, -ENOENT, HVMI_NO_ADDRESS, "there is no entry %u", index);
	rc = hvmi_os_kernel_space(os, &space, err);
	if (rc)
		return rc;
	/* { UNICODE_STRING Name; PVOID StartAddress, EndAddress; LARGE_INTEGER CurrentTime; } */
	uint32_t n = windows_data(os)->pointer_bytes;
	rc = windows_pointer_at(os, space, gva, &array);
	if (!rc && !array)
		rc = -ENOENT;
	if (!rc) {
		at = array + index * (uint64_t)(4 * n + 8);
		rc = hvmi_space_read(space, at + 2 * n, tail, 2 * n + 8, NULL);
	}
	if (!rc) {
		unloaded.start = n == 8 ? load_le64(tail) : load_le32(tail);
		unloaded.end = n == 8 ? load_le64(tail + n) : load_le32(tail + n);
		unloaded.time_ns = windows_time_ns(load_le64(tail + 2 * n));
		if (windows_string(space, at, n, unloaded.name, sizeof(unloaded.name), NULL))
			unloaded.name[0] = '\0';
		if (!unloaded.start && !unloaded.name[0])
			rc = -ENOENT;
	}
	hvmi_space_destroy(space);
	if (rc)
		return hvmi_error_set(err, rc, at, rc == -ENOENT ? "there is no unloaded driver %u" :
				      "unloaded driver %u is not in memory", index);
	if (result_copy(ret, &unloaded, sizeof(unloaded)))
		return hvmi_error_set(err, -EINVAL, HVMI_NO_ADDRESS,
				      "hvmi_unloaded.size is not set");
	return 0;
}
