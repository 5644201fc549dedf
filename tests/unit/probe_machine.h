/* SPDX-License-Identifier: Apache-2.0 */
/* A simulated machine whose vCPUs do something: hvmi-sim(5). */
#ifndef HVMI_TESTS_PROBE_MACHINE_H
#define HVMI_TESTS_PROBE_MACHINE_H

#include "machine.h"

#define MAILBOX 0x10000u
#define FUNCTION 0x11000u	/* mov %rsi, (%rdi); mov (%rdi), %rax; add $1, %rax; ret */
#define DATA 0x12000u

#define PROBE_SCRIPT                                                                               \
	"arch x86\nram 0 1M\nvcpu 0 cr0 1\nvcpu 1 cr0 1\n"                                         \
	"bytes 0x11000 48 89 37 48 8b 07 48 83 c0 01 c3\nprobe 0x10000\n"

/* Have a vCPU call the function with where to and what. */
static inline void probe_start(struct hvmi_vm *vm, uint32_t vcpu, uint64_t to, uint64_t what)
{
	uint64_t number;
	if (hvmi_vm_read(vm, MAILBOX + 80, &number, 8, NULL))
		abort();
	const uint64_t rest[] = { 1 | (uint64_t)vcpu << 32, FUNCTION, to, what, 0, 0, 0, 0 };
	number++;
	if (hvmi_vm_write(vm, MAILBOX + 88, rest, sizeof(rest), NULL) ||
	    hvmi_vm_write(vm, MAILBOX + 80, &number, 8, NULL))
		abort();
}

/* Whether it is done, and then what it returned. */
static inline bool probe_done(struct hvmi_vm *vm, uint64_t *ret)
{
	uint64_t number, result[3];
	if (hvmi_vm_read(vm, MAILBOX + 80, &number, 8, NULL) ||
	    hvmi_vm_read(vm, MAILBOX + 152, result, sizeof(result), NULL))
		abort();
	*ret = result[2];
	return result[0] == number && result[1] == 0;
}

#endif
