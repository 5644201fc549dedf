/* SPDX-License-Identifier: Apache-2.0 */
#include "insn/x86.h"

static int init(uint32_t mode, ZydisDecoder *decoder)
{
	static const struct {
		ZydisMachineMode machine;
		ZydisStackWidth stack;
	} modes[] = {
		[HVMI_INSN_X86_16] = { ZYDIS_MACHINE_MODE_LEGACY_16, ZYDIS_STACK_WIDTH_16 },
		[HVMI_INSN_X86_32] = { ZYDIS_MACHINE_MODE_LEGACY_32, ZYDIS_STACK_WIDTH_32 },
		[HVMI_INSN_X86_64] = { ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64 },
	};
	return ZYAN_SUCCESS(ZydisDecoderInit(decoder, modes[mode].machine, modes[mode].stack)) ?
	       0 : -EBADMSG;
}

static int error(ZyanStatus status)
{
	if (ZYAN_SUCCESS(status))
		return 0;
	return status == ZYDIS_STATUS_NO_MORE_DATA ? -EOVERFLOW : -EBADMSG;
}

int x86_decode(uint32_t mode, const uint8_t *bytes, size_t len, struct x86_insn *ret)
{
	ZydisDecoder decoder;
	ZydisDecoderContext context;
	if (init(mode, &decoder))
		return -EBADMSG;
	int rc = error(ZydisDecoderDecodeInstruction(&decoder, &context, bytes, len, &ret->raw));
	if (rc)
		return rc;
	ret->width = mode == HVMI_INSN_X86_64 ? 64 : mode == HVMI_INSN_X86_32 ? 32 : 16;
	return error(ZydisDecoderDecodeOperands(&decoder, &context, &ret->raw, ret->operands,
						ret->raw.operand_count));
}

int x86_decode_shallow(uint32_t mode, const uint8_t *bytes, size_t len, ZydisDecodedInstruction *ret)
{
	ZydisDecoder decoder;
	if (init(mode, &decoder))
		return -EBADMSG;
	return error(ZydisDecoderDecodeInstruction(&decoder, NULL, bytes, len, ret));
}

/* By the set of instructions it is of. */
static uint32_t category_of_set(const ZydisDecodedInstruction *raw)
{
	if (raw->encoding != ZYDIS_INSTRUCTION_ENCODING_LEGACY)
		/* AVX, but also ANDN and its like, which have general registers. */
		return raw->meta.category == ZYDIS_CATEGORY_BMI1 ||
		       raw->meta.category == ZYDIS_CATEGORY_BMI2 ? HVMI_INSN_OTHER :
								   HVMI_INSN_VECTOR;
	switch (raw->meta.isa_ext) {
	case ZYDIS_ISA_EXT_MMX:
	case ZYDIS_ISA_EXT_SSE:
	case ZYDIS_ISA_EXT_SSE2:
	case ZYDIS_ISA_EXT_SSE3:
	case ZYDIS_ISA_EXT_SSSE3:
	case ZYDIS_ISA_EXT_SSE4:
	case ZYDIS_ISA_EXT_SSE4A:
	case ZYDIS_ISA_EXT_AES:
	case ZYDIS_ISA_EXT_SHA:
	case ZYDIS_ISA_EXT_PCLMULQDQ:
		return HVMI_INSN_VECTOR;
	case ZYDIS_ISA_EXT_X87:
		return HVMI_INSN_FLOAT;
	default:
		/* MOV to and from control and debug registers is in no category of its own. */
		return raw->attributes & ZYDIS_ATTRIB_IS_PRIVILEGED ? HVMI_INSN_SYSTEM :
								      HVMI_INSN_OTHER;
	}
}

static uint32_t category(const ZydisDecodedInstruction *raw)
{
	switch (raw->mnemonic) {
	case ZYDIS_MNEMONIC_UD0:
	case ZYDIS_MNEMONIC_UD1:
	case ZYDIS_MNEMONIC_UD2:
		return HVMI_INSN_INTERRUPT;
	case ZYDIS_MNEMONIC_IRET:
	case ZYDIS_MNEMONIC_IRETD:
	case ZYDIS_MNEMONIC_IRETQ:
	case ZYDIS_MNEMONIC_SYSEXIT:
		return HVMI_INSN_SYSTEM_RETURN;
	case ZYDIS_MNEMONIC_SYSENTER:
		return HVMI_INSN_SYSTEM_CALL;
	case ZYDIS_MNEMONIC_ENTER:
	case ZYDIS_MNEMONIC_LEAVE:
		return HVMI_INSN_STACK;
	case ZYDIS_MNEMONIC_ENDBR32:
	case ZYDIS_MNEMONIC_ENDBR64:
		return HVMI_INSN_NOP;
	default:
		break;
	}
	switch (raw->meta.category) {
	case ZYDIS_CATEGORY_CALL:
		return HVMI_INSN_CALL;
	case ZYDIS_CATEGORY_RET:
		return HVMI_INSN_RETURN;
	case ZYDIS_CATEGORY_COND_BR:
	case ZYDIS_CATEGORY_UNCOND_BR:
		return HVMI_INSN_JUMP;
	case ZYDIS_CATEGORY_INTERRUPT:
		return HVMI_INSN_INTERRUPT;
	case ZYDIS_CATEGORY_SYSCALL:
		return HVMI_INSN_SYSTEM_CALL;
	case ZYDIS_CATEGORY_SYSRET:
		return HVMI_INSN_SYSTEM_RETURN;
	case ZYDIS_CATEGORY_PUSH:
	case ZYDIS_CATEGORY_POP:
		return HVMI_INSN_STACK;
	case ZYDIS_CATEGORY_STRINGOP:
	case ZYDIS_CATEGORY_IOSTRINGOP:
		return HVMI_INSN_STRING;
	case ZYDIS_CATEGORY_IO:
		return HVMI_INSN_IO;
	case ZYDIS_CATEGORY_X87_ALU:
	case ZYDIS_CATEGORY_FCMOV:
		return HVMI_INSN_FLOAT;
	case ZYDIS_CATEGORY_SYSTEM:
	case ZYDIS_CATEGORY_VTX:
		return HVMI_INSN_SYSTEM;
	case ZYDIS_CATEGORY_NOP:
	case ZYDIS_CATEGORY_WIDENOP:
		return HVMI_INSN_NOP;
	default:
		break;
	}
	return category_of_set(raw);
}

/* XBEGIN goes there only on an abort. */
static bool conditional(const ZydisDecodedInstruction *raw)
{
	return raw->meta.category == ZYDIS_CATEGORY_COND_BR ||
	       raw->mnemonic == ZYDIS_MNEMONIC_XBEGIN || raw->mnemonic == ZYDIS_MNEMONIC_INTO;
}

static bool relative(const ZydisDecodedInstruction *raw)
{
	return raw->attributes & ZYDIS_ATTRIB_IS_RELATIVE;
}

void x86_describe(const ZydisDecodedInstruction *raw, struct hvmi_insn *ret)
{
	ret->len = raw->length;
	ret->category = category(raw);
	uint32_t flags = 0;
	if (raw->attributes & ZYDIS_ATTRIB_IS_PRIVILEGED)
		flags |= HVMI_INSN_PRIVILEGED;
	if (raw->attributes & (ZYDIS_ATTRIB_HAS_REP | ZYDIS_ATTRIB_HAS_REPE | ZYDIS_ATTRIB_HAS_REPNE))
		flags |= HVMI_INSN_REPEATED;
	if (raw->attributes & ZYDIS_ATTRIB_HAS_LOCK)
		flags |= HVMI_INSN_LOCKED;
	if (raw->meta.branch_type == ZYDIS_BRANCH_TYPE_FAR)
		flags |= HVMI_INSN_FAR;
	if (conditional(raw))
		flags |= HVMI_INSN_CONDITIONAL;
	if (relative(raw))
		flags |= HVMI_INSN_RELATIVE;
	bool branch = ret->category == HVMI_INSN_JUMP || ret->category == HVMI_INSN_CALL;
	if (raw->raw.imm[0].is_relative) {
		/* A branch of 16 bits in 64-bit mode is one of AMD's; Intel ignores the prefix. */
		uint32_t width = ret->mode == HVMI_INSN_X86_64 ? 64 : 32;
		ret->target = x86_wrap(ret->gva + raw->length + raw->raw.imm[0].value.u, width);
	} else if ((branch && !(flags & HVMI_INSN_FAR && raw->raw.imm[0].size)) ||
		   ret->category == HVMI_INSN_RETURN) {
		flags |= HVMI_INSN_INDIRECT;
	}
	if ((ret->category == HVMI_INSN_JUMP && !conditional(raw)) ||
	    ret->category == HVMI_INSN_RETURN || ret->category == HVMI_INSN_SYSTEM_RETURN ||
	    raw->mnemonic == ZYDIS_MNEMONIC_UD0 || raw->mnemonic == ZYDIS_MNEMONIC_UD1 ||
	    raw->mnemonic == ZYDIS_MNEMONIC_UD2)
		flags |= HVMI_INSN_ENDS;
	ret->flags = flags;
}

static int decode(struct hvmi_insn *ret, const uint8_t *bytes, size_t len)
{
	ZydisDecodedInstruction raw;
	int rc = x86_decode_shallow(ret->mode, bytes, len, &raw);
	if (!rc)
		x86_describe(&raw, ret);
	return rc;
}

static int text(const struct hvmi_insn *insn, char *buf, size_t size)
{
	struct x86_insn full;
	ZydisFormatter formatter;
	int rc = x86_decode(insn->mode, insn->bytes, insn->len, &full);
	if (rc)
		return rc;
	if (!ZYAN_SUCCESS(ZydisFormatterInit(&formatter, ZYDIS_FORMATTER_STYLE_INTEL)) ||
	    !ZYAN_SUCCESS(ZydisFormatterFormatInstruction(&formatter, &full.raw, full.operands,
							  full.raw.operand_count_visible, buf, size,
							  insn->gva, NULL)))
		return -EOVERFLOW;
	return 0;
}

const struct insn_decoder insn_decoder_x86 = { .decode = decode, .text = text };
