/* SPDX-License-Identifier: Apache-2.0 */
/* A machine whose RAM, from guest-physical 0 on or where memory_base says, is the fuzzer's input. */
#ifndef HVMI_FUZZ_MEMORY_VM_H
#define HVMI_FUZZ_MEMORY_VM_H

#include <string.h>

#include <hvmi/backend.h>

struct memory_input {
	const uint8_t *data;
	size_t size;
};

static struct memory_input memory_input;
static uint64_t memory_base;

static inline int memory_open(const struct hvmi_target *target,
			      const struct hvmi_backend_host *host, void **ret,
			      struct hvmi_error *err)
{
	(void)target;
	(void)host;
	(void)err;
	*ret = &memory_input;
	return 0;
}

static inline void memory_close(void *machine)
{
	(void)machine;
}

static inline int memory_describe(void *machine, struct hvmi_machine *ret)
{
	(void)machine;
	ret->ranges = 1;
	ret->flags = HVMI_VM_STATIC;
	return 0;
}

static inline int memory_range(void *machine, uint32_t index, struct hvmi_range *ret)
{
	(void)index;
	ret->gpa = memory_base;
	ret->len = ((struct memory_input *)machine)->size;
	return 0;
}

static inline int memory_read(void *machine, uint64_t gpa, void *buf, size_t len)
{
	memcpy(buf, ((struct memory_input *)machine)->data + (gpa - memory_base), len);
	return 0;
}

/* NULL if there are no bytes. */
static inline struct hvmi_vm *memory_vm(const uint8_t *data, size_t size)
{
	static const struct hvmi_backend backend = {
		.size = sizeof(backend),
		.scheme = "memory",
		.open = memory_open,
		.close = memory_close,
		.describe = memory_describe,
		.range = memory_range,
		.read = memory_read,
	};
	struct hvmi_open_options options = { .size = sizeof(options), .backend = &backend };
	struct hvmi_vm *vm = NULL;
	memory_input = (struct memory_input){ data, size };
	if (size)
		hvmi_open("memory:input", &options, &vm, NULL);
	return vm;
}

#endif
