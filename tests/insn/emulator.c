/* SPDX-License-Identifier: Apache-2.0 */
#include "emulator.h"

#include <stdio.h>

static const int general64[16] = {
	UC_X86_REG_RAX, UC_X86_REG_RCX, UC_X86_REG_RDX, UC_X86_REG_RBX, UC_X86_REG_RSP,
	UC_X86_REG_RBP, UC_X86_REG_RSI, UC_X86_REG_RDI, UC_X86_REG_R8,  UC_X86_REG_R9,
	UC_X86_REG_R10, UC_X86_REG_R11, UC_X86_REG_R12, UC_X86_REG_R13, UC_X86_REG_R14,
	UC_X86_REG_R15,
};
static const int general32[8] = {
	UC_X86_REG_EAX, UC_X86_REG_ECX, UC_X86_REG_EDX, UC_X86_REG_EBX, UC_X86_REG_ESP,
	UC_X86_REG_EBP, UC_X86_REG_ESI, UC_X86_REG_EDI,
};

int emulator_general(const struct emulator *e, uint32_t number)
{
	return e->mode == HVMI_INSN_X86_64 ? general64[number] : general32[number];
}

uint64_t random_next(uint64_t *state)
{
	/* xorshift64*, as in S. Vigna, "An experimental exploration of Marsaglia's generators". */
	*state ^= *state >> 12;
	*state ^= *state << 25;
	*state ^= *state >> 27;
	return *state * 0x2545f4914f6cdd1dull;
}

void emulator_open(struct emulator *e, uint32_t mode)
{
	e->mode = mode;
	TRY(uc_open(UC_ARCH_X86, mode == HVMI_INSN_X86_64 ? UC_MODE_64 : UC_MODE_32, &e->uc));
	e->data = aligned_alloc(4096, DATA_BYTES);
	e->stack = aligned_alloc(4096, STACK_BYTES);
	if (!e->data || !e->stack)
		FAIL("out of memory\n");
	TRY(uc_mem_map(e->uc, CODE, CODE_BYTES, UC_PROT_READ | UC_PROT_EXEC));
	TRY(uc_mem_map_ptr(e->uc, DATA, DATA_BYTES, UC_PROT_READ | UC_PROT_WRITE, e->data));
	TRY(uc_mem_map_ptr(e->uc, STACK, STACK_BYTES, UC_PROT_READ | UC_PROT_WRITE, e->stack));
}

void emulator_close(struct emulator *e)
{
	uc_close(e->uc);
	free(e->data);
	free(e->stack);
}

void emulator_randomise(struct emulator *e, uint64_t *random, struct hvmi_registers *ret)
{
	bool wide = e->mode == HVMI_INSN_X86_64;
	memset(ret, 0, sizeof(*ret));
	for (uint32_t i = 0; i < (wide ? 16 : 8); i++) {
		uint64_t value = random_below(random, 4) ?
				 DATA + DATA_BYTES / 4 + random_below(random, DATA_BYTES / 2) :
				 random_below(random, 64);
		if (i == 4)
			value = STACK_TOP;
		else if (i == 5)
			value = STACK_TOP + 8 * random_below(random, 64);
		hvmi_registers_set(ret, HVMI_X86_RAX + i, value);
		TRY(uc_reg_write(e->uc, emulator_general(e, i), &value));
	}
	uint64_t flags = 2 | (random_next(random) & 0x8d5) |
			 (random_below(random, 2) ? 0x400 : 0), zero = 0;
	TRY(uc_reg_write(e->uc, UC_X86_REG_EFLAGS, &flags));
	hvmi_registers_set(ret, HVMI_X86_RFLAGS, flags);
	for (uint32_t id = HVMI_X86_CS_BASE; id <= HVMI_X86_SS_BASE; id += 4)
		hvmi_registers_set(ret, id, zero);
	hvmi_registers_set(ret, HVMI_X86_SS_RIGHTS, 0xc093);
	if (wide) {
		uint64_t base = 0x100 + random_below(random, 256);
		TRY(uc_reg_write(e->uc, UC_X86_REG_GS_BASE, &base));
		hvmi_registers_set(ret, HVMI_X86_GS_BASE, base);
	}
}

static bool wanted(const struct hvmi_insn *insn, const struct x86_insn *full)
{
	switch (insn->category) {
	case HVMI_INSN_CALL:
	case HVMI_INSN_RETURN:
	case HVMI_INSN_JUMP:
	case HVMI_INSN_INTERRUPT:
	case HVMI_INSN_SYSTEM_CALL:
	case HVMI_INSN_SYSTEM_RETURN:
	case HVMI_INSN_SYSTEM:
	case HVMI_INSN_IO:
		return false;
	default:
		break;
	}
	if (insn->flags & HVMI_INSN_PRIVILEGED || insn->target != HVMI_NO_ADDRESS ||
	    full->raw.meta.category == ZYDIS_CATEGORY_IOSTRINGOP ||
	    full->raw.encoding != ZYDIS_INSTRUCTION_ENCODING_LEGACY)
		return false;
	/* Of several prefixes of one kind CPUs and QEMU take different ones. */
	uint32_t segments = 0, mandatory = 0;
	for (uint32_t i = 0; i < full->raw.raw.prefix_count; i++) {
		uint8_t byte = insn->bytes[i];
		segments += (byte & 0xe7) == 0x26 || byte == 0x64 || byte == 0x65;
		mandatory += byte == 0x66 || byte == 0xf2 || byte == 0xf3;
	}
	if (segments > 1 || mandatory > 1)
		return false;
	/* A REX that is not the last prefix is ignored, but not by QEMU. */
	for (uint32_t i = 0; insn->mode == HVMI_INSN_X86_64 && i + 1 < full->raw.raw.prefix_count; i++)
		if (insn->bytes[i] >> 4 == 4)
			return false;
	/* Selectors that are made up fault. */
	for (uint32_t i = 0; i < full->raw.operand_count; i++) {
		const ZydisDecodedOperand *o = &full->operands[i];
		if (o->type == ZYDIS_OPERAND_TYPE_REGISTER && o->reg.value >= ZYDIS_REGISTER_ES &&
		    o->reg.value <= ZYDIS_REGISTER_GS &&
		    o->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE)
			return false;
	}
	return full->raw.mnemonic != ZYDIS_MNEMONIC_STI;
}

void random_insn(uint64_t *random, uint32_t mode, uint64_t gva, struct hvmi_insn *ret,
		 struct x86_insn *full)
{
	uint8_t bytes[16];
	ret->size = sizeof(*ret);
	for (;;) {
		for (size_t i = 0; i < sizeof(bytes); i += 8) {
			uint64_t word = random_next(random);
			memcpy(bytes + i, &word, 8);
		}
		if (random_below(random, 3) == 0)
			bytes[random_below(random, 2)] = 0x0f;
		if (random_below(random, 3) == 0)
			bytes[0] = mode == HVMI_INSN_X86_64 ? 0x48 : 0x66;
		if (random_below(random, 8) == 0)	/* RIP-relative more often */
			bytes[2] = (uint8_t)((bytes[2] & 0x38) | 5);
		if (hvmi_insn_decode(mode, gva, bytes, sizeof(bytes), ret, NULL) ||
		    x86_decode(mode, bytes, ret->len, full))
			continue;
		if (full->raw.raw.disp.size == 32) {
			uint32_t disp = random_below(random, 256);
			if (ret->flags & HVMI_INSN_RELATIVE || full->raw.raw.modrm.rm == 5)
				disp += (uint32_t)(DATA + DATA_BYTES / 2 -
						   (ret->flags & HVMI_INSN_RELATIVE ?
						    gva + ret->len : 0));
			memcpy(bytes + full->raw.raw.disp.offset, &disp, 4);
			if (hvmi_insn_decode(mode, gva, bytes, ret->len, ret, NULL) ||
			    x86_decode(mode, bytes, ret->len, full))
				continue;
		}
		if (wanted(ret, full))
			return;
	}
}
