/* SPDX-License-Identifier: Apache-2.0 */
/* What real machines have, as their backends say it; for the table in docs/hooks.md. */
#ifndef HVMI_TESTS_HOOK_TABLE_H
#define HVMI_TESTS_HOOK_TABLE_H

#include <hvmi/hook.h>

#define E(kind) (HVMI_CAN_EVENT + HVMI_EVENT_##kind)
#define XEN_EVENTS                                                                                 \
	HVMI_CAN_SET_REGISTERS, HVMI_CAN_INJECT, HVMI_CAN_EMULATE, HVMI_CAN_EMULATE_DATA,          \
		HVMI_CAN_DENY, HVMI_CAN_INT3, E(BREAKPOINT), E(REGISTER), E(MSR), E(CPUID),        \
		E(DEBUG), E(DESCRIPTOR), E(GUEST_REQUEST), E(UNIMPLEMENTED)
#define XEN_VIEWS HVMI_CAN_VIEWS, HVMI_CAN_REMAP, HVMI_CAN_PAGES
#define QEMU_EVENTS                                                                                \
	HVMI_CAN_SET_REGISTERS, HVMI_CAN_BREAKPOINTS, E(STEP), E(BREAKPOINT), E(WATCHPOINT)

static const struct column {
	const char *name;
	uint32_t has[24];
} columns[] = {
	{ "QEMU, TCG or KVM", { QEMU_EVENTS } },
	{ "Xen, Intel, altp2m, from 4.14", { XEN_EVENTS, XEN_VIEWS, E(ACCESS), E(STEP),
					     HVMI_CAN_FAST_STEP } },
	{ "Xen, Intel, altp2m, before 4.14", { XEN_EVENTS, XEN_VIEWS, E(ACCESS), E(STEP) } },
	{ "Xen, Intel, no altp2m", { XEN_EVENTS, E(ACCESS), E(STEP) } },
	{ "Xen, AMD", { XEN_EVENTS } },
};
#define COLUMNS (sizeof(columns) / sizeof(*columns))
#undef E

static const struct row {
	const char *name;
	struct hvmi_hook_request request;
	int space;	/* with one */
} rows[] = {
#define R(...) { .size = sizeof(struct hvmi_hook_request), __VA_ARGS__ }
	{ "execution of a virtual address", R(.kind = HVMI_HOOK_EXECUTE), 1 },
	{ "execution of a physical address", R(.kind = HVMI_HOOK_EXECUTE), 0 },
	{ "reads and writes of a virtual range",
	  R(.kind = HVMI_HOOK_ACCESS, .len = 1, .access = HVMI_RIGHT_READ | HVMI_RIGHT_WRITE), 1 },
	{ "reads and writes of a physical range",
	  R(.kind = HVMI_HOOK_ACCESS, .len = 1, .access = HVMI_RIGHT_READ | HVMI_RIGHT_WRITE), 0 },
	{ "execution of a range",
	  R(.kind = HVMI_HOOK_ACCESS, .len = 1, .access = HVMI_RIGHT_EXECUTE), 1 },
	{ "CR0, CR3, CR4, XCR0", R(.kind = HVMI_HOOK_REGISTER, .reg = HVMI_X86_CR0), 0 },
	{ "an MSR", R(.kind = HVMI_HOOK_MSR), 0 },
	{ "GDTR, IDTR, LDTR, TR", R(.kind = HVMI_HOOK_DESCRIPTOR), 0 },
	{ "CPUID", R(.kind = HVMI_HOOK_CPUID), 0 },
	{ "a hypercall of the guest's", R(.kind = HVMI_HOOK_GUEST_REQUEST), 0 },
	{ "int3 of the guest's own", R(.kind = HVMI_HOOK_BREAKPOINT), 0 },
	{ "debug exceptions of its own", R(.kind = HVMI_HOOK_DEBUG), 0 },
	{ "process switch", R(.kind = HVMI_HOOK_PROCESS_SWITCH), 0 },
#undef R
};
#define ROWS (sizeof(rows) / sizeof(*rows))

#endif
