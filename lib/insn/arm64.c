/* SPDX-License-Identifier: Apache-2.0 */
#include <capstone/capstone.h>
#include <stdio.h>

#include "insn/insn.h"

struct decoded {
	csh handle;
	cs_insn *insn;
	size_t count;
};

static void done(struct decoded *d)
{
	if (d->count)
		cs_free(d->insn, d->count);
	if (d->handle)
		cs_close(&d->handle);
}
#define CLEANUP_DECODED __attribute__((cleanup(done)))

static int disassemble(uint64_t gva, const uint8_t *bytes, size_t len, struct decoded *ret)
{
	if (gva % 4)
		return -EBADMSG;
	if (len < 4)
		return -EOVERFLOW;
	if (cs_open(CS_ARCH_ARM64, CS_MODE_LITTLE_ENDIAN, &ret->handle) ||
	    cs_option(ret->handle, CS_OPT_DETAIL, CS_OPT_ON))
		return -ENOMEM;
	ret->count = cs_disasm(ret->handle, bytes, 4, gva, 1, &ret->insn);
	if (ret->count)
		return 0;
	return cs_errno(ret->handle) == CS_ERR_MEM ? -ENOMEM : -EBADMSG;
}

static uint32_t category(csh handle, const cs_insn *insn)
{
	switch (insn->id) {
	case ARM64_INS_SVC:
		return HVMI_INSN_SYSTEM_CALL;
	case ARM64_INS_BRK:
	case ARM64_INS_HLT:
	case ARM64_INS_HVC:
	case ARM64_INS_SMC:
		return HVMI_INSN_INTERRUPT;
	case ARM64_INS_ERET:
		return HVMI_INSN_SYSTEM_RETURN;
	case ARM64_INS_RET:
		return HVMI_INSN_RETURN;
	case ARM64_INS_BL:
	case ARM64_INS_BLR:
		return HVMI_INSN_CALL;
	case ARM64_INS_MSR:
	case ARM64_INS_MRS:
	case ARM64_INS_SYS:
	case ARM64_INS_SYSL:
	case ARM64_INS_TLBI:
	case ARM64_INS_AT:
		return HVMI_INSN_SYSTEM;
	case ARM64_INS_NOP:
	case ARM64_INS_HINT:
		return HVMI_INSN_NOP;
	default:
		break;
	}
	if (cs_insn_group(handle, insn, CS_GRP_JUMP))
		return HVMI_INSN_JUMP;
	if (cs_insn_group(handle, insn, ARM64_GRP_NEON) ||
	    cs_insn_group(handle, insn, ARM64_GRP_FPARMV8))
		return HVMI_INSN_VECTOR;
	return HVMI_INSN_OTHER;
}

static bool conditional(const cs_insn *insn)
{
	switch (insn->id) {
	case ARM64_INS_CBZ:
	case ARM64_INS_CBNZ:
	case ARM64_INS_TBZ:
	case ARM64_INS_TBNZ:
		return true;
	case ARM64_INS_B:
		return insn->detail->arm64.cc != ARM64_CC_INVALID &&
		       insn->detail->arm64.cc < ARM64_CC_AL;
	default:
		return false;
	}
}

/*
 * Arm ARM (DDI 0487) C5.1: op1 of a system instruction is 3 where EL0 has it too. Hints and barriers are
 * what is left with op0 = 0 when the writes to PSTATE are taken out.
 */
static bool privileged(const cs_insn *insn)
{
	uint32_t word = load_le32(insn->bytes);
	if (insn->id == ARM64_INS_ERET || insn->id == ARM64_INS_HVC || insn->id == ARM64_INS_SMC)
		return true;
	if ((word & 0xffc00000) != 0xd5000000)
		return false;
	bool hint = (word >> 19 & 3) == 0 && (word >> 12 & 15) != 4;
	return !hint && (word >> 16 & 7) != 3;
}

static void describe(csh handle, const cs_insn *insn, struct hvmi_insn *ret)
{
	const cs_arm64 *arm = &insn->detail->arm64;
	ret->len = 4;
	ret->category = category(handle, insn);
	bool branch = ret->category == HVMI_INSN_JUMP || ret->category == HVMI_INSN_CALL;
	const cs_arm64_op *last = arm->op_count ? &arm->operands[arm->op_count - 1] : NULL;
	bool immediate = last && last->type == ARM64_OP_IMM;
	uint32_t flags = 0;
	if (privileged(insn))
		flags |= HVMI_INSN_PRIVILEGED;
	if (conditional(insn))
		flags |= HVMI_INSN_CONDITIONAL;
	if (branch && immediate)
		ret->target = (uint64_t)last->imm;
	else if (branch || ret->category == HVMI_INSN_RETURN)
		flags |= HVMI_INSN_INDIRECT;
	/* Loads of a literal have an address where others have a register. */
	if ((branch && immediate) || insn->id == ARM64_INS_ADR || insn->id == ARM64_INS_ADRP ||
	    ((insn->id == ARM64_INS_LDR || insn->id == ARM64_INS_LDRSW) && immediate &&
	     arm->op_count == 2))
		flags |= HVMI_INSN_RELATIVE;
	if ((ret->category == HVMI_INSN_JUMP && !(flags & HVMI_INSN_CONDITIONAL)) ||
	    ret->category == HVMI_INSN_RETURN || ret->category == HVMI_INSN_SYSTEM_RETURN)
		flags |= HVMI_INSN_ENDS;
	ret->flags = flags;
}

static int decode(struct hvmi_insn *ret, const uint8_t *bytes, size_t len)
{
	CLEANUP_DECODED struct decoded d = { 0 };
	int rc = disassemble(ret->gva, bytes, len, &d);
	if (!rc)
		describe(d.handle, d.insn, ret);
	return rc;
}

static int text(const struct hvmi_insn *insn, char *buf, size_t size)
{
	CLEANUP_DECODED struct decoded d = { 0 };
	int rc = disassemble(insn->gva, insn->bytes, insn->len, &d);
	if (rc)
		return rc;
	const char *space = d.insn->op_str[0] ? " " : "";
	int len = snprintf(buf, size, "%s%s%s", d.insn->mnemonic, space, d.insn->op_str);
	return len < 0 || (size_t)len >= size ? -EOVERFLOW : 0;
}

const struct insn_decoder insn_decoder_arm64 = { .decode = decode, .text = text };
