/* SPDX-License-Identifier: Apache-2.0 */
#include "insn/relocate.h"

#define RSP 4u

/* The number of the register in ModRM.reg. */
static uint32_t register_of(const ZydisDecodedInstruction *raw)
{
	bool rex = raw->attributes & ZYDIS_ATTRIB_HAS_REX;
	return raw->raw.modrm.reg | (rex ? raw->raw.rex.R << 3 : 0);
}

/* MOV r64, imm64. */
static void put_load_address(struct mover *m, uint32_t reg, uint64_t address)
{
	mover_put_number(m, 0x48 | reg >> 3, 1);
	mover_put_number(m, 0xb8 | (reg & 7), 1);
	mover_put_number(m, address, 8);
}

/*
 * The instruction with [reg] where it has [rip + disp32]. The bits B and X, which say nothing for RIP,
 * are those of a base `reg` without an index.
 */
static void put_with_base(struct mover *m, const struct hvmi_insn *insn,
			  const ZydisDecodedInstruction *raw, uint32_t reg)
{
	uint8_t bytes[HVMI_INSN_BYTES];
	const uint32_t modrm = raw->raw.modrm.offset, rest = raw->raw.disp.offset + 4u;
	memcpy(bytes, insn->bytes, modrm);
	switch (raw->encoding) {
	case ZYDIS_INSTRUCTION_ENCODING_VEX:
		if (raw->raw.vex.size == 3)
			bytes[raw->raw.vex.offset + 1] |= 0x60;
		break;
	case ZYDIS_INSTRUCTION_ENCODING_EVEX:
		bytes[raw->raw.evex.offset + 1] |= 0x60;
		break;
	case ZYDIS_INSTRUCTION_ENCODING_XOP:
		bytes[raw->raw.xop.offset + 1] |= 0x60;
		break;
	default:
		if (raw->attributes & ZYDIS_ATTRIB_HAS_REX)
			bytes[raw->raw.rex.offset] =
				(uint8_t)((bytes[raw->raw.rex.offset] & ~3u) | reg >> 3);
	}
	mover_put(m, bytes, modrm);
	uint32_t low = reg & 7, mod = low == 5 ? 1 : 0;
	mover_put_number(m, mod << 6 | raw->raw.modrm.reg << 3 | low, 1);
	if (low == 4)
		mover_put_number(m, 0x24, 1);
	if (mod == 1)
		mover_put_number(m, 0, 1);
	mover_put(m, insn->bytes + rest, insn->len - rest);
}

/* LEA: its result is a constant. */
static void put_constant(struct mover *m, const ZydisDecodedInstruction *raw, uint64_t address)
{
	uint32_t reg = register_of(raw);
	if (raw->operand_width == 64) {
		put_load_address(m, reg, address);
		return;
	}
	if (raw->operand_width == 16)
		mover_put_number(m, 0x66, 1);
	if (reg >= 8)
		mover_put_number(m, 0x41, 1);
	mover_put_number(m, 0xb8 | (reg & 7), 1);
	mover_put_number(m, address, raw->operand_width / 8);
}

/* It writes a whole general register and reads memory alone, so that may hold the address before. */
static bool loads_register(const ZydisDecodedInstruction *raw)
{
	if (raw->operand_width < 32 || register_of(raw) == RSP)
		return false;
	switch (raw->mnemonic) {
	case ZYDIS_MNEMONIC_MOV:
		return raw->opcode_map == ZYDIS_OPCODE_MAP_DEFAULT && raw->opcode == 0x8b;
	case ZYDIS_MNEMONIC_MOVZX:
	case ZYDIS_MNEMONIC_MOVSX:
	case ZYDIS_MNEMONIC_MOVSXD:
		return true;
	default:
		return false;
	}
}

/* MOV between the accumulator and memory has a form with an address of 64 bits. */
static bool moves_accumulator(const ZydisDecodedInstruction *raw)
{
	return raw->mnemonic == ZYDIS_MNEMONIC_MOV &&
	       raw->opcode_map == ZYDIS_OPCODE_MAP_DEFAULT && raw->opcode >= 0x88 &&
	       raw->opcode <= 0x8b && register_of(raw) == 0;
}

static void put_accumulator(struct mover *m, const struct hvmi_insn *insn,
			    const ZydisDecodedInstruction *raw, uint64_t address)
{
	/* 88: A2, 89: A3, 8A: A0, 8B: A1; prefixes stay. */
	mover_put(m, insn->bytes, raw->raw.modrm.offset - 1u);
	mover_put_number(m, 0xa0 | (~raw->opcode & 2) | (raw->opcode & 1), 1);
	mover_put_number(m, address, 8);
}

/* A low register that the instruction does not use; 16: it uses RSP, or all. */
static uint32_t unused_register(const struct x86_insn *full)
{
	static const uint8_t candidates[] = { 0, 1, 2, 3, 6, 7 };
	uint32_t used = 0;
	for (uint32_t i = 0; i < full->raw.operand_count; i++) {
		const ZydisDecodedOperand *o = &full->operands[i];
		const ZydisRegister regs[] = {
			o->type == ZYDIS_OPERAND_TYPE_REGISTER ? o->reg.value : ZYDIS_REGISTER_NONE,
			o->type == ZYDIS_OPERAND_TYPE_MEMORY ? o->mem.base : ZYDIS_REGISTER_NONE,
			o->type == ZYDIS_OPERAND_TYPE_MEMORY ? o->mem.index : ZYDIS_REGISTER_NONE,
		};
		for (size_t j = 0; j < ARRAY_SIZE(regs); j++) {
			ZydisRegister r = ZydisRegisterGetLargestEnclosing(
				ZYDIS_MACHINE_MODE_LONG_64, regs[j]);
			if (r >= ZYDIS_REGISTER_RAX && r <= ZYDIS_REGISTER_R15)
				used |= 1u << (r - ZYDIS_REGISTER_RAX);
		}
	}
	for (size_t i = 0; !(used >> RSP & 1) && i < ARRAY_SIZE(candidates); i++)
		if (!(used >> candidates[i] & 1))
			return candidates[i];
	return 16;
}

/* With a register that is kept below the red zone meanwhile; LEA, PUSH, POP and MOV leave flags alone. */
static void put_borrowing(struct mover *m, const struct hvmi_insn *insn,
			  const ZydisDecodedInstruction *raw, uint32_t reg, uint64_t address)
{
	static const uint8_t below[] = { 0x48, 0x8d, 0x64, 0x24, 0x80 };
	static const uint8_t above[] = { 0x48, 0x8d, 0xa4, 0x24, 0x80, 0, 0, 0 };
	mover_put(m, below, sizeof(below));
	mover_put_number(m, 0x50 | reg, 1);
	put_load_address(m, reg, address);
	put_with_base(m, insn, raw, reg);
	mover_put_number(m, 0x58 | reg, 1);
	mover_put(m, above, sizeof(above));
}

/* A displacement does not reach. */
static int put_far(struct mover *m, const struct hvmi_insn *insn, const ZydisDecodedInstruction *raw,
		   const struct x86_insn *full, uint64_t address)
{
	uint32_t reg = unused_register(full);
	if (raw->mnemonic == ZYDIS_MNEMONIC_LEA && register_of(raw) != RSP) {
		put_constant(m, raw, address);
	} else if (raw->meta.branch_type != ZYDIS_BRANCH_TYPE_NONE) {
		return mover_refuse(m, insn, "the pointer it goes through is out of reach");
	} else if (loads_register(raw)) {
		put_load_address(m, register_of(raw), address);
		put_with_base(m, insn, raw, register_of(raw));
	} else if (moves_accumulator(raw)) {
		put_accumulator(m, insn, raw, address);
	} else if (reg == 16) {
		return mover_refuse(m, insn, "its operand is out of reach, and it uses RSP");
	} else if (!(m->move.flags & HVMI_MOVE_STACK)) {
		return mover_refuse(m, insn, "its operand is out of reach: allow the stack to be used "
				    "(HVMI_MOVE_STACK), or move it to within 2 GiB");
	} else {
		put_borrowing(m, insn, raw, reg, address);
	}
	return 0;
}

int mover_operand(struct mover *m, const struct hvmi_insn *insn, const ZydisDecodedInstruction *raw)
{
	const uint32_t at = raw->raw.disp.offset;
	uint64_t address = x86_wrap(insn->gva + insn->len + (uint64_t)raw->raw.disp.value,
				    raw->address_width);
	uint64_t end = m->move.from + m->out.from_len;
	bool beside = address - m->move.from < m->out.from_len ||
		      m->move.from - address < UINT16_MAX / 8;
	/* EIP wraps at 4 GiB, so that everything is in reach. */
	bool near = raw->address_width == 32 || mover_reaches(m, address);
	struct x86_insn full;
	if ((beside || !near) && x86_decode(insn->mode, insn->bytes, insn->len, &full))
		return mover_refuse(m, insn, "it does not decode");
	for (uint32_t i = 0; beside && i < full.raw.operand_count; i++) {
		const ZydisDecodedOperand *o = &full.operands[i];
		if (o->type == ZYDIS_OPERAND_TYPE_MEMORY && o->mem.type != ZYDIS_MEMOP_TYPE_AGEN &&
		    (o->mem.base == ZYDIS_REGISTER_RIP || o->mem.base == ZYDIS_REGISTER_EIP) &&
		    address < end && (address >= m->move.from ||
				      m->move.from - address < MAX(o->size / 8u, 1)))
			return mover_refuse(m, insn, "its operand is a part of the moved bytes");
	}
	if (!near)
		return put_far(m, insn, raw, &full, address);
	uint64_t next = m->move.to + m->out.len + insn->len;
	mover_put(m, insn->bytes, at);
	mover_put_number(m, address - next, 4);
	mover_put(m, insn->bytes + at + 4, insn->len - at - 4u);
	return 0;
}
