/* SPDX-License-Identifier: Apache-2.0 */
#include "util/util.h"

#include <hvmi/registers.h>

#define SEGMENT(ID, name)                                                                          \
	[HVMI_X86_##ID##_SELECTOR] = name ".selector", [HVMI_X86_##ID##_BASE] = name ".base",      \
	[HVMI_X86_##ID##_LIMIT] = name ".limit", [HVMI_X86_##ID##_RIGHTS] = name ".rights"

static const char *const names[HVMI_REGISTER_END] = {
	[HVMI_X86_RAX] = "rax", [HVMI_X86_RCX] = "rcx", [HVMI_X86_RDX] = "rdx",
	[HVMI_X86_RBX] = "rbx", [HVMI_X86_RSP] = "rsp", [HVMI_X86_RBP] = "rbp",
	[HVMI_X86_RSI] = "rsi", [HVMI_X86_RDI] = "rdi", [HVMI_X86_R8] = "r8",
	[HVMI_X86_R9] = "r9", [HVMI_X86_R10] = "r10", [HVMI_X86_R11] = "r11",
	[HVMI_X86_R12] = "r12", [HVMI_X86_R13] = "r13", [HVMI_X86_R14] = "r14",
	[HVMI_X86_R15] = "r15", [HVMI_X86_RIP] = "rip", [HVMI_X86_RFLAGS] = "rflags",
	[HVMI_X86_CR0] = "cr0", [HVMI_X86_CR2] = "cr2", [HVMI_X86_CR3] = "cr3",
	[HVMI_X86_CR4] = "cr4", [HVMI_X86_CR8] = "cr8", [HVMI_X86_XCR0] = "xcr0",
	[HVMI_X86_DR0] = "dr0", [HVMI_X86_DR1] = "dr1", [HVMI_X86_DR2] = "dr2",
	[HVMI_X86_DR3] = "dr3", [HVMI_X86_DR6] = "dr6", [HVMI_X86_DR7] = "dr7",
	SEGMENT(CS, "cs"), SEGMENT(DS, "ds"), SEGMENT(ES, "es"), SEGMENT(FS, "fs"),
	SEGMENT(GS, "gs"), SEGMENT(SS, "ss"), SEGMENT(TR, "tr"), SEGMENT(LDTR, "ldtr"),
	[HVMI_X86_GDTR_BASE] = "gdtr.base", [HVMI_X86_GDTR_LIMIT] = "gdtr.limit",
	[HVMI_X86_IDTR_BASE] = "idtr.base", [HVMI_X86_IDTR_LIMIT] = "idtr.limit",
	[HVMI_X86_EFER] = "efer", [HVMI_X86_STAR] = "star", [HVMI_X86_LSTAR] = "lstar",
	[HVMI_X86_CSTAR] = "cstar", [HVMI_X86_SYSCALL_MASK] = "syscall_mask",
	[HVMI_X86_SYSENTER_CS] = "sysenter_cs", [HVMI_X86_SYSENTER_ESP] = "sysenter_esp",
	[HVMI_X86_SYSENTER_EIP] = "sysenter_eip", [HVMI_X86_KERNEL_GS_BASE] = "kernel_gs_base",
	[HVMI_X86_PAT] = "pat", [HVMI_X86_TSC_AUX] = "tsc_aux",
};

HVMI_API const char *hvmi_register_name(uint32_t id)
{
	return id < HVMI_REGISTER_END ? names[id] : NULL;
}

HVMI_API uint32_t hvmi_register_id(const char *name)
{
	for (uint32_t id = 1; id < HVMI_REGISTER_END; id++)
		if (names[id] && strcmp(names[id], name) == 0)
			return id;
	return 0;
}
