/* SPDX-License-Identifier: Apache-2.0 */
#include "insn/access.h"

#define LEGACY_AND_HEADER 576u
#define HEADER 512u
#define XSTATE_ALIGN 64u

/*
 * State components by their bit in XCR0 and IA32_XSS (vol. 1, 13.1): where one ends in the standard
 * format on Intel's CPUs, which reach furthest, and its size. CPUID leaf 0Dh has what holds on one CPU.
 */
static const struct {
	uint16_t end, size;
} components[] = {
	[2] = { 832, 256 },	/* AVX */
	[3] = { 1024, 64 },	/* MPX bounds */
	[4] = { 1088, 64 },	/* MPX configuration */
	[5] = { 1152, 64 },	/* AVX-512 masks */
	[6] = { 1664, 512 },	/* upper halves of ZMM0 to 15 */
	[7] = { 2688, 1024 },	/* ZMM16 to 31 */
	[8] = { 0, 128 },	/* processor trace; only compacted, as all of IA32_XSS */
	[9] = { 2752, 64 },	/* PKRU */
	[10] = { 0, 64 },	/* PASID */
	[11] = { 0, 64 },	/* CET of user mode */
	[12] = { 0, 64 },	/* CET of supervisor mode */
	[13] = { 0, 64 },	/* hardware duty cycling */
	[14] = { 0, 64 },	/* user interrupts */
	[15] = { 0, 832 },	/* last branch records */
	[16] = { 0, 64 },	/* hardware P-states */
	[17] = { 2816, 64 },	/* AMX configuration */
	[18] = { 11008, 8192 },	/* AMX tiles */
	[19] = { 1088, 128 },	/* APX */
};

/* Bytes that the components of a mask need at most. */
static uint32_t area(uint64_t mask, bool compacted)
{
	uint32_t len = LEGACY_AND_HEADER;
	for (uint32_t i = 2; i < ARRAY_SIZE(components); i++) {
		if (!(mask >> i & 1))
			continue;
		if (compacted)
			len += (components[i].size + XSTATE_ALIGN - 1) & ~(XSTATE_ALIGN - 1);
		else
			len = MAX(len, components[i].end);
	}
	return len;
}

void access_xsave(struct access_list *list, const ZydisDecodedOperand *operand)
{
	const ZydisDecodedInstruction *raw = &list->insn.raw;
	bool compacted = false, supervisor = false, restores = false;
	switch (raw->mnemonic) {
	case ZYDIS_MNEMONIC_XSAVES:
	case ZYDIS_MNEMONIC_XSAVES64:
		supervisor = compacted = true;
		break;
	case ZYDIS_MNEMONIC_XSAVEC:
	case ZYDIS_MNEMONIC_XSAVEC64:
		compacted = true;
		break;
	case ZYDIS_MNEMONIC_XRSTORS:
	case ZYDIS_MNEMONIC_XRSTORS64:
		supervisor = true;
		/* fall through */
	case ZYDIS_MNEMONIC_XRSTOR:
	case ZYDIS_MNEMONIC_XRSTOR64:
		restores = true;
		break;
	default:
		break;
	}
	uint64_t xcr0, eax, edx, mask = UINT64_MAX, offset;
	if (!hvmi_registers_get(list->registers, HVMI_X86_XCR0, &xcr0) && !supervisor)
		mask = xcr0;
	if (!access_register(list, ZYDIS_REGISTER_EAX, &eax) &&
	    !access_register(list, ZYDIS_REGISTER_EDX, &edx))
		mask &= edx << 32 | eax;
	/* What is restored may be in either format; its header says. */
	uint32_t len = area(mask, compacted);
	if (restores)
		len = MAX(area(mask, true), area(mask, false));
	uint32_t kind = restores ? HVMI_RIGHT_READ : HVMI_RIGHT_WRITE;
	if (access_offset(list, &operand->mem, &offset)) {
		access_add_unknown(list, len, kind, HVMI_ACCESS_BOUND);
		return;
	}
	access_add(list, operand->mem.segment, offset, raw->address_width, len, kind,
		   HVMI_ACCESS_BOUND);
	/* XSAVE and XSAVEOPT keep the header's bits of what they do not save (vol. 1, 13.7). */
	if (!restores && !compacted)
		access_add(list, operand->mem.segment, offset + HEADER, raw->address_width, 64,
			   HVMI_RIGHT_READ, HVMI_ACCESS_BOUND);
}
