/* SPDX-License-Identifier: Apache-2.0 */
/* x86 instructions as Zydis has them. */
#ifndef HVMI_LIB_INSN_X86_H
#define HVMI_LIB_INSN_X86_H

#include <Zydis/Zydis.h>

#include "insn/insn.h"

struct x86_insn {
	ZydisDecodedInstruction raw;
	ZydisDecodedOperand operands[ZYDIS_MAX_OPERAND_COUNT];
	uint32_t width;		/* of addresses in this mode: 16, 32 or 64 bits */
};

/* All of an instruction; errors as those of insn_decoder.decode. */
int x86_decode(uint32_t mode, const uint8_t *bytes, size_t len, struct x86_insn *ret);

/* Without the operands. */
int x86_decode_shallow(uint32_t mode, const uint8_t *bytes, size_t len, ZydisDecodedInstruction *ret);

/* What a public instruction says of it; gva, mode and target are set already. */
void x86_describe(const ZydisDecodedInstruction *raw, struct hvmi_insn *ret);

/* The low `width` bits. */
static inline uint64_t x86_wrap(uint64_t address, uint32_t width)
{
	return width == 64 ? address : address & ((1ull << width) - 1);
}

static inline uint64_t x86_sign_extend(uint64_t value, uint32_t bits)
{
	return (uint64_t)((int64_t)(value << (64 - bits)) >> (64 - bits));
}

#endif
