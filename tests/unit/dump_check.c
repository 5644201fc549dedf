/* SPDX-License-Identifier: Apache-2.0 */
#include "dump_build.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

char log_text[4096];

int image_file(const struct blob *blob)
{
	int fd = memfd_create("image", MFD_CLOEXEC);
	ck_assert_int_ge(fd, 0);
	for (size_t done = 0; done < blob->len;) {
		ssize_t n = write(fd, blob->bytes + done, blob->len - done);
		ck_assert_int_gt(n, 0);
		done += (size_t)n;
	}
	return fd;
}

const char *image_target(int fd, const char *options)
{
	static char target[512];
	snprintf(target, sizeof(target), "dump:/proc/self/fd/%d%s", fd, options);
	return target;
}

static void keep_log(void *context, uint32_t level, const char *message)
{
	(void)context;
	if (level > HVMI_LOG_WARNING)
		return;
	size_t len = strlen(log_text);
	snprintf(log_text + len, sizeof(log_text) - len, "%s\n", message);
}

static int try_open(const struct blob *blob, const char *options, struct hvmi_vm **ret,
		    struct hvmi_error *err)
{
	struct hvmi_open_options o = { .size = sizeof(o), .log = keep_log };
	int fd = image_file(blob);
	log_text[0] = '\0';
	int rc = hvmi_open(image_target(fd, options), &o, ret, err);
	close(fd);
	return rc;
}

struct hvmi_vm *image_open(const struct blob *blob, const char *options)
{
	struct hvmi_vm *vm;
	struct hvmi_error err;
	if (try_open(blob, options, &vm, &err))
		ck_abort_msg("%s", err.text);
	return vm;
}

void image_refused(const struct blob *blob, const char *options, int code, const char *text)
{
	struct hvmi_vm *vm;
	struct hvmi_error err;
	int rc = try_open(blob, options, &vm, &err);
	if (rc == 0)
		ck_abort_msg("was opened; expected: %s", text);
	ck_assert_msg(rc == code && err.code == code && strstr(err.text, text),
		      "got %s: %s; expected %s: %s", hvmi_error_name(rc), err.text,
		      hvmi_error_name(code), text);
	/* The file is named. */
	ck_assert_ptr_nonnull(strstr(err.text, "/proc/self/fd/"));
}

void check_memory(struct hvmi_vm *vm, uint64_t gpa, uint64_t len)
{
	static const size_t sizes[] = { 1, 8, 13, PAGE, 3 * PAGE + 5, 100000, SIZE_MAX };
	uint8_t *buf = malloc(len);
	ck_assert_ptr_nonnull(buf);
	for (size_t i = len > 16 * PAGE ? 3 : 0; i < sizeof(sizes) / sizeof(sizes[0]); i++)
		for (uint64_t done = 0, n; done < len; done += n) {
			size_t got = 0;
			n = sizes[i] < len - done ? sizes[i] : len - done;
			memset(buf, 0xa5, n);
			int rc = hvmi_vm_read(vm, gpa + done, buf, n, &got);
			ck_assert_msg(rc == 0 && got == n, "%s at 0x%lx + %zu",
				      hvmi_error_name(rc), gpa + done, got);
			for (size_t j = 0; j < n; j++)
				if (buf[j] != memory_at(gpa + done + j))
					ck_abort_msg("0x%lx reads wrongly", gpa + done + j);
		}
	const uint8_t *mapping;
	if (hvmi_vm_map(vm, gpa, len, (const void **)&mapping) == 0) {
		for (uint64_t j = 0; j < len; j++)
			if (mapping[j] != memory_at(gpa + j))
				ck_abort_msg("0x%lx is mapped wrongly", gpa + j);
		hvmi_vm_unmap(vm, mapping, len);
	}
	free(buf);
}

void check_absent(struct hvmi_vm *vm, uint64_t gpa, uint64_t len)
{
	uint64_t step = len > 1024 ? len / 64 : 1;
	uint8_t byte;
	size_t got;
	for (uint64_t done = 0; done < len; done += step)
		ck_assert_int_eq(hvmi_vm_read(vm, gpa + done, &byte, 1, &got), -EFAULT);
	ck_assert_int_eq(hvmi_vm_read(vm, gpa + len - 1, &byte, 1, &got), -EFAULT);
}

void check_range(struct hvmi_vm *vm, uint32_t index, uint64_t gpa, uint64_t len)
{
	struct hvmi_range range;
	ck_assert_int_eq(hvmi_vm_range(vm, index, &range), 0);
	ck_assert_msg(range.gpa == gpa && range.len == len, "range %u is 0x%lx+0x%lx", index,
		      range.gpa, range.len);
}

void check_register(struct hvmi_vm *vm, uint32_t vcpu, uint32_t id, uint64_t value)
{
	uint64_t got = 0;
	int rc = hvmi_vm_register(vm, vcpu, id, &got);
	ck_assert_msg(rc == 0 && got == value, "vCPU %u %s: %s, 0x%lx instead of 0x%lx", vcpu,
		      hvmi_register_name(id), hvmi_error_name(rc), got, value);
}

void check_no_register(struct hvmi_vm *vm, uint32_t vcpu, uint32_t id)
{
	uint64_t got;
	ck_assert_int_eq(hvmi_vm_register(vm, vcpu, id, &got), -ENOTSUP);
}

void check_format(struct hvmi_vm *vm, const char *format)
{
	struct hvmi_vm_info info = { .size = sizeof(info) };
	ck_assert_int_eq(hvmi_vm_get_info(vm, &info), 0);
	ck_assert_str_eq(info.format, format);
	ck_assert_str_eq(info.scheme, "dump");
	ck_assert_uint_eq(info.flags & HVMI_VM_STATIC, HVMI_VM_STATIC);
}
