/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file registers.h
 * vCPU registers by id. Ids are append-only.
 */
#ifndef HVMI_REGISTERS_H
#define HVMI_REGISTERS_H

#include <hvmi/common.h>

/**
 * x86 registers. Segment bases and limits are those of the hidden part; access rights are in the
 * layout of the VMCS access-rights field (Intel SDM volume 3, 25.4.1): type, S, DPL, P, AVL, L, D,
 * G, unusable in bit 16.
 */
enum hvmi_register {
	HVMI_X86_RAX = 1, HVMI_X86_RCX, HVMI_X86_RDX, HVMI_X86_RBX,
	HVMI_X86_RSP, HVMI_X86_RBP, HVMI_X86_RSI, HVMI_X86_RDI,
	HVMI_X86_R8, HVMI_X86_R9, HVMI_X86_R10, HVMI_X86_R11,
	HVMI_X86_R12, HVMI_X86_R13, HVMI_X86_R14, HVMI_X86_R15,
	HVMI_X86_RIP, HVMI_X86_RFLAGS,
	HVMI_X86_CR0, HVMI_X86_CR2, HVMI_X86_CR3, HVMI_X86_CR4, HVMI_X86_CR8, HVMI_X86_XCR0,
	HVMI_X86_DR0, HVMI_X86_DR1, HVMI_X86_DR2, HVMI_X86_DR3, HVMI_X86_DR6, HVMI_X86_DR7,
	HVMI_X86_CS_SELECTOR, HVMI_X86_CS_BASE, HVMI_X86_CS_LIMIT, HVMI_X86_CS_RIGHTS,
	HVMI_X86_DS_SELECTOR, HVMI_X86_DS_BASE, HVMI_X86_DS_LIMIT, HVMI_X86_DS_RIGHTS,
	HVMI_X86_ES_SELECTOR, HVMI_X86_ES_BASE, HVMI_X86_ES_LIMIT, HVMI_X86_ES_RIGHTS,
	HVMI_X86_FS_SELECTOR, HVMI_X86_FS_BASE, HVMI_X86_FS_LIMIT, HVMI_X86_FS_RIGHTS,
	HVMI_X86_GS_SELECTOR, HVMI_X86_GS_BASE, HVMI_X86_GS_LIMIT, HVMI_X86_GS_RIGHTS,
	HVMI_X86_SS_SELECTOR, HVMI_X86_SS_BASE, HVMI_X86_SS_LIMIT, HVMI_X86_SS_RIGHTS,
	HVMI_X86_TR_SELECTOR, HVMI_X86_TR_BASE, HVMI_X86_TR_LIMIT, HVMI_X86_TR_RIGHTS,
	HVMI_X86_LDTR_SELECTOR, HVMI_X86_LDTR_BASE, HVMI_X86_LDTR_LIMIT, HVMI_X86_LDTR_RIGHTS,
	HVMI_X86_GDTR_BASE, HVMI_X86_GDTR_LIMIT, HVMI_X86_IDTR_BASE, HVMI_X86_IDTR_LIMIT,
	HVMI_X86_EFER, HVMI_X86_STAR, HVMI_X86_LSTAR, HVMI_X86_CSTAR, HVMI_X86_SYSCALL_MASK,
	HVMI_X86_SYSENTER_CS, HVMI_X86_SYSENTER_ESP, HVMI_X86_SYSENTER_EIP,
	HVMI_X86_KERNEL_GS_BASE, HVMI_X86_PAT, HVMI_X86_TSC_AUX,
	HVMI_REGISTER_END	/**< one past the last that this header knows */
};

#ifdef __cplusplus
extern "C" {
#endif

/** The name of a register, "cr3"; NULL if the id is unknown. Static. Any thread. */
HVMI_API const char *hvmi_register_name(uint32_t id);

/** The id of a register by its name, in lower case; 0 if there is none. Any thread. */
HVMI_API uint32_t hvmi_register_id(const char *name);

/** Ids are below this for ever. */
#define HVMI_REGISTERS_MAX 256u

/** Registers of a vCPU at one moment. This struct is frozen: it never grows. */
struct hvmi_registers {
	uint64_t known[4];			/**< bit id % 64 of known[id / 64] */
	uint64_t values[HVMI_REGISTERS_MAX];	/**< by id; meaningless unless known */
};

/** Set one. Any thread; @p id below HVMI_REGISTERS_MAX. */
static inline void hvmi_registers_set(struct hvmi_registers *registers, uint32_t id, uint64_t value)
{
	registers->known[id / 64] |= (uint64_t)1 << id % 64;
	registers->values[id] = value;
}

/** Whether one is known. */
static inline int hvmi_registers_known(const struct hvmi_registers *registers, uint32_t id)
{
	return id < HVMI_REGISTERS_MAX && (registers->known[id / 64] >> id % 64 & 1);
}

/** Get one: 0, or -1 if it is not known. */
static inline int hvmi_registers_get(const struct hvmi_registers *registers, uint32_t id,
				     uint64_t *ret)
{
	if (!hvmi_registers_known(registers, id))
		return -1;
	*ret = registers->values[id];
	return 0;
}

#ifdef __cplusplus
}
#endif
#endif
