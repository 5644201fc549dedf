/* SPDX-License-Identifier: Apache-2.0 */
#include "insn/relocate.h"

#define PREFIX_BND 0xf2
#define JMP_REL8 0xeb
#define JMP_REL 0xe9
#define CALL_REL 0xe8

/* Bytes of a displacement. */
static uint32_t wide(const struct mover *m)
{
	return m->move.mode == HVMI_INSN_X86_16 ? 2 : 4;
}

static void put_displacement(struct mover *m, uint64_t to)
{
	mover_put_number(m, to - (m->move.to + m->out.len + wide(m)), wide(m));
}

/* JMP or CALL through an address in the code: "call [rip + 2]; jmp over it; address". */
static void put_through(struct mover *m, bool call, uint64_t to)
{
	static const uint8_t jmp_code[] = { 0xff, 0x25, 0, 0, 0, 0 };
	static const uint8_t call_code[] = { 0xff, 0x15, 2, 0, 0, 0, JMP_REL8, 8 };
	if (call)
		mover_put(m, call_code, sizeof(call_code));
	else
		mover_put(m, jmp_code, sizeof(jmp_code));
	mover_put_number(m, to, 8);
}
#define THROUGH_JMP_BYTES 14u

static int put_jump(struct mover *m, const struct hvmi_insn *insn, uint64_t to, bool near)
{
	if (near) {
		mover_put_number(m, JMP_REL, 1);
		put_displacement(m, to);
	} else if (m->move.mode == HVMI_INSN_X86_64) {
		put_through(m, false, to);
	} else {
		return mover_refuse(m, insn, "its target is out of reach of 16-bit code");
	}
	return 0;
}

int mover_jump(struct mover *m, const struct hvmi_insn *insn, uint64_t to)
{
	return put_jump(m, insn, to, mover_reaches(m, to));
}

/* LOOP, LOOPE, LOOPNE and JCXZ have a short form only: they go to a jump. */
static int put_counted(struct mover *m, const struct hvmi_insn *insn,
		       const ZydisDecodedInstruction *raw, uint64_t to, bool near)
{
	mover_put(m, insn->bytes, raw->raw.imm[0].offset);
	uint32_t jump = near ? 1 + wide(m) : THROUGH_JMP_BYTES;
	mover_put_number(m, 2, 1);
	mover_put_number(m, JMP_REL8, 1);
	mover_put_number(m, jump, 1);
	return put_jump(m, insn, to, near);
}

static int put_conditional(struct mover *m, const struct hvmi_insn *insn,
			   const ZydisDecodedInstruction *raw, uint64_t to, bool near)
{
	uint32_t condition = raw->opcode & 15;
	if (near) {
		mover_put_number(m, 0x0f, 1);
		mover_put_number(m, 0x80 | condition, 1);
		put_displacement(m, to);
		return 0;
	}
	mover_put_number(m, 0x70 | (condition ^ 1), 1);
	mover_put_number(m, THROUGH_JMP_BYTES, 1);
	return put_jump(m, insn, to, false);
}

/* Where a target is now; false: it is not where an instruction begins. */
static bool target_now(const struct mover *m, uint64_t target, bool *inside, uint64_t *ret)
{
	uint64_t offset = target - m->move.from;
	*inside = offset < m->out.from_len;
	*ret = target;
	for (uint32_t i = 0; *inside && i < m->out.count; i++) {
		if (m->out.places[i].from == offset) {
			*ret = m->move.to + m->out.places[i].to;
			return true;
		}
	}
	return !*inside;
}

int mover_branch(struct mover *m, const struct hvmi_insn *insn, const ZydisDecodedInstruction *raw)
{
	bool inside;
	uint64_t to;
	if (raw->attributes & ZYDIS_ATTRIB_HAS_OPERANDSIZE)
		return mover_refuse(m, insn, "CPUs differ on its operand-size prefix, or cut EIP");
	if (!target_now(m, insn->target, &inside, &to))
		return mover_refuse(m, insn, "it branches into the middle of a moved instruction");
	if (inside && insn->category == HVMI_INSN_CALL)
		return mover_refuse(m, insn, "it calls into the moved bytes");
	bool near = inside || mover_reaches(m, to);
	if (!near && m->move.mode == HVMI_INSN_X86_16)
		return mover_refuse(m, insn, "its target is out of reach of 16-bit code");
	if (raw->mnemonic == ZYDIS_MNEMONIC_XBEGIN) {
		if (!near)
			return mover_refuse(m, insn, "its target is out of reach");
		mover_put(m, insn->bytes, raw->raw.imm[0].offset);
		put_displacement(m, to);
		return 0;
	}
	if (raw->opcode_map == ZYDIS_OPCODE_MAP_DEFAULT && (raw->opcode & 0xfc) == 0xe0)
		return put_counted(m, insn, raw, to, near);
	/* The hints 2E and 3E are for CPUs that are gone. */
	if (raw->attributes & ZYDIS_ATTRIB_HAS_BND && (near || insn->category != HVMI_INSN_JUMP))
		mover_put_number(m, PREFIX_BND, 1);
	if (insn->flags & HVMI_INSN_CONDITIONAL)
		return put_conditional(m, insn, raw, to, near);
	if (insn->category != HVMI_INSN_CALL)
		return put_jump(m, insn, to, near);
	if (near) {
		mover_put_number(m, CALL_REL, 1);
		put_displacement(m, to);
	} else {
		put_through(m, true, to);
	}
	return 0;
}
