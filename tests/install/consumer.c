/* SPDX-License-Identifier: Apache-2.0 */
/* A C99 program outside the tree: reads an image, then a machine of its own making. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <hvmi/backend.h>
#include <hvmi/hvmi.h>

#define CHECK(condition) \
	do { \
		if (!(condition)) { \
			fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition); \
			exit(1); \
		} \
	} while (0)

static int machine_open(const struct hvmi_target *target, const struct hvmi_backend_host *host,
			void **ret, struct hvmi_error *err)
{
	if (strcmp(hvmi_target_what(target), "here") != 0)
		return hvmi_error_set(err, -ENOENT, HVMI_NO_ADDRESS, "there is no '%s'",
				      hvmi_target_what(target));
	host->log(host, HVMI_LOG_INFO, "opened %s", hvmi_target_what(target));
	*ret = NULL;
	return 0;
}

static void machine_close(void *machine)
{
	(void)machine;
}

static int machine_describe(void *machine, struct hvmi_machine *ret)
{
	(void)machine;
	ret->ranges = 1;
	strcpy(ret->format, "made up");
	return 0;
}

static int machine_range(void *machine, uint32_t index, struct hvmi_range *ret)
{
	(void)machine;
	(void)index;
	ret->gpa = 0x1000;
	ret->len = 0x1000;
	return 0;
}

static int machine_read(void *machine, uint64_t gpa, void *buf, size_t len)
{
	size_t i;
	(void)machine;
	for (i = 0; i < len; i++)
		((unsigned char *)buf)[i] = (unsigned char)((gpa + i) * 7);
	return 0;
}

static void count_line(void *context, uint32_t level, const char *message)
{
	(void)level;
	(void)message;
	++*(int *)context;
}

static void use_own_backend(void)
{
	static const struct hvmi_backend backend = {
		.size = sizeof(backend), .scheme = "own", .open = machine_open,
		.close = machine_close, .describe = machine_describe, .range = machine_range,
		.read = machine_read,
	};
	int lines = 0;
	struct hvmi_open_options options = {
		.size = sizeof(options), .backend = &backend, .log = count_line,
		.log_context = &lines,
	};
	struct hvmi_vm_info info = { .size = sizeof(info) };
	struct hvmi_vm *vm = NULL;
	struct hvmi_error err;
	unsigned char bytes[2];
	size_t done = 9;

	CHECK(hvmi_open("own:elsewhere", &options, &vm, &err) == -ENOENT);
	CHECK(strcmp(err.text, "there is no 'elsewhere'") == 0);
	CHECK(hvmi_open("own:here", &options, &vm, &err) == 0);
	CHECK(lines >= 1);
	CHECK(hvmi_vm_get_info(vm, &info) == 0 && strcmp(info.format, "made up") == 0);
	CHECK(hvmi_vm_read(vm, 0x1001, bytes, 2, NULL) == 0 && bytes[0] == 7 && bytes[1] == 14);
	CHECK(hvmi_vm_read(vm, 0x1fff, bytes, 2, &done) == -EFAULT && done == 1);
	hvmi_close(vm);
}

int main(int argc, char **argv)
{
	struct hvmi_vm *vm = NULL;
	struct hvmi_os *os = NULL;
	struct hvmi_error err;
	char text[8] = "";

	CHECK(argc == 2);
	CHECK(strcmp(hvmi_version(), "1.0.0") == 0);
	CHECK(hvmi_open("/nonexistent", NULL, &vm, &err) == -ENOENT && err.code == -ENOENT);
	CHECK(strstr(err.text, "/nonexistent") != NULL && vm == NULL);
	CHECK(hvmi_open(argv[1], NULL, &vm, &err) == 0);
	CHECK(hvmi_vm_read(vm, 0, text, 5, NULL) == 0 && strcmp(text, "image") == 0);
	CHECK(hvmi_os_attach(vm, NULL, &os, &err) == -ENOENT && os == NULL);
	hvmi_close(vm);
	use_own_backend();
	puts("ok");
	return 0;
}
