/* SPDX-License-Identifier: Apache-2.0 */
/* Simulated machines that can do some of what hooks are made of, and not the rest. */
#ifndef HVMI_TESTS_HOOK_MACHINE_H
#define HVMI_TESTS_HOOK_MACHINE_H

#include "suite.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <hvmi/hook.h>

#include "probe_machine.h"

/* The function of probe_machine.h: its instructions. */
#define AT_STORE FUNCTION
#define AT_LOAD (FUNCTION + 3)
#define AT_ADD (FUNCTION + 6)
#define AT_RET (FUNCTION + 10)

/* 64-bit code in a space whose first 2 MiB are those of the machine, at 2 MiB once more. */
#define HOOK_SCRIPT                                                                                \
	"arch x86\nram 0 2M\nbytes 0x11000 48 89 37 48 8b 07 48 83 c0 01 c3\n"                      \
	"u64 0x2000 0x3003\nu64 0x3000 0x4003\nu64 0x4000 0x83 0x83\n"
#define HOOK_VCPU                                                                                  \
	"vcpu %u cr0 0x80050033\nvcpu %u cr3 0x2000\nvcpu %u cr4 0x20\nvcpu %u efer 0xd01\n"       \
	"vcpu %u cs.rights 0xa09b\nvcpu %u lstar 0\nvcpu %u xcr0 1\n"
#define ROOT 0x2000u
#define ALIAS 0x200000u

struct profile {
	const char *name;
	const uint32_t *lacks;	/* capabilities, 0 at the end */
	uint32_t vcpus;
	uint32_t mechanism, step_over;	/* of EXECUTE */
};

extern const struct profile profiles[];
extern const size_t profile_count;

struct hook_machine {
	struct hvmi_vm *vm;
	struct hvmi_events *events;
	struct hvmi_hooks *hooks;
	struct hvmi_space *space;
};

/* Open one; `extra` goes to the script's end, and may have another probe. */
void hook_machine_open(struct hook_machine *m, const struct profile *profile, const char *extra);
/* Close all of it; the machine's memory must be as it was. */
void hook_machine_close(struct hook_machine *m);
/* Dispatch until there is nothing any more; how many events. */
int hook_machine_run(struct hook_machine *m);
/* Have vCPU 0 call the function; what it returned. */
uint64_t hook_machine_call(struct hook_machine *m, uint64_t what);

#endif
