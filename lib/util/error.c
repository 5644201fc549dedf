/* SPDX-License-Identifier: Apache-2.0 */
#include <stdarg.h>
#include <stdio.h>

#include "util/util.h"

#define STRINGIFY(x) #x
#define STRING(x) STRINGIFY(x)

HVMI_API const char *hvmi_version(void)
{
	return STRING(HVMI_VERSION_MAJOR) "." STRING(HVMI_VERSION_MINOR) "." STRING(
		HVMI_VERSION_PATCH);
}

HVMI_API const char *hvmi_error_name(int code)
{
	static const struct {
		int code;
		const char *name;
	} names[] = {
		{ 0, "OK" },
		{ -EINVAL, "EINVAL" },
		{ -EFAULT, "EFAULT" },
		{ -ENOTSUP, "ENOTSUP" },
		{ -ESRCH, "ESRCH" },
		{ -ENOENT, "ENOENT" },
		{ -EBADMSG, "EBADMSG" },
		{ -ETIMEDOUT, "ETIMEDOUT" },
		{ -EBUSY, "EBUSY" },
		{ -ENOMEM, "ENOMEM" },
		{ -EOVERFLOW, "EOVERFLOW" },
		{ -EACCES, "EACCES" },
		{ -EIO, "EIO" },
	};
	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		if (names[i].code == code)
			return names[i].name;
	return "unknown";
}

HVMI_API int hvmi_error_set(struct hvmi_error *err, int code, uint64_t address, const char *format,
			    ...)
{
	if (!err)
		return code;
	/* The arguments may be parts of *err, as when a sentence is wrapped in another. */
	char raw[2 * HVMI_ERROR_TEXT];
	va_list args;
	va_start(args, format);
	vsnprintf(raw, sizeof(raw), format, args);
	va_end(args);
	text_sanitise(raw, strlen(raw), err->text, sizeof(err->text));
	err->code = code;
	err->reserved = 0;
	err->address = address;
	return code;
}
