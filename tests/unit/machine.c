/* SPDX-License-Identifier: Apache-2.0 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "machine.h"

int machine_try(const void *script, size_t len, const struct hvmi_open_options *options,
		struct hvmi_vm **ret, struct hvmi_error *err)
{
	int fd = memfd_create("script", MFD_CLOEXEC);
	if (fd < 0 || write(fd, script, len) != (ssize_t)len)
		abort();
	char target[64];
	snprintf(target, sizeof(target), "sim:/proc/self/fd/%d", fd);
	int rc = hvmi_open(target, options, ret, err);
	close(fd);
	return rc;
}

struct hvmi_vm *machine_open(uint32_t flags, const char *format, ...)
{
	char *script;
	va_list args;
	va_start(args, format);
	int len = vasprintf(&script, format, args);
	va_end(args);
	if (len < 0)
		abort();
	struct hvmi_open_options options = { .size = sizeof(options), .flags = flags };
	struct hvmi_vm *vm;
	struct hvmi_error err;
	if (machine_try(script, (size_t)len, &options, &vm, &err)) {
		fprintf(stderr, "%s\n", err.text);
		abort();
	}
	free(script);
	return vm;
}
