/* SPDX-License-Identifier: Apache-2.0 */
#include "insn/access.h"

int access_register(const struct access_list *list, ZydisRegister reg, uint64_t *ret)
{
	/* In Zydis' order: AL CL DL BL AH CH DH BH SPL BPL SIL DIL R8B ...; else as encoded. */
	static const uint8_t general[16] = {
		HVMI_X86_RAX, HVMI_X86_RCX, HVMI_X86_RDX, HVMI_X86_RBX, HVMI_X86_RSP, HVMI_X86_RBP,
		HVMI_X86_RSI, HVMI_X86_RDI, HVMI_X86_R8, HVMI_X86_R9, HVMI_X86_R10, HVMI_X86_R11,
		HVMI_X86_R12, HVMI_X86_R13, HVMI_X86_R14, HVMI_X86_R15,
	};
	static const uint8_t segments[6] = {
		HVMI_X86_ES_SELECTOR, HVMI_X86_CS_SELECTOR, HVMI_X86_SS_SELECTOR,
		HVMI_X86_DS_SELECTOR, HVMI_X86_FS_SELECTOR, HVMI_X86_GS_SELECTOR,
	};
	uint64_t value, next = list->public->gva + list->insn.raw.length;
	uint32_t index, shift = 0, width;
	if (reg >= ZYDIS_REGISTER_RAX && reg <= ZYDIS_REGISTER_R15) {
		index = reg - ZYDIS_REGISTER_RAX, width = 64;
	} else if (reg >= ZYDIS_REGISTER_EAX && reg <= ZYDIS_REGISTER_R15D) {
		index = reg - ZYDIS_REGISTER_EAX, width = 32;
	} else if (reg >= ZYDIS_REGISTER_AX && reg <= ZYDIS_REGISTER_R15W) {
		index = reg - ZYDIS_REGISTER_AX, width = 16;
	} else if (reg >= ZYDIS_REGISTER_AL && reg <= ZYDIS_REGISTER_R15B) {
		index = reg - ZYDIS_REGISTER_AL, width = 8;
		if (reg >= ZYDIS_REGISTER_AH && reg <= ZYDIS_REGISTER_BH)
			index = reg - ZYDIS_REGISTER_AH, shift = 8;
		else if (reg >= ZYDIS_REGISTER_SPL)
			index = reg - ZYDIS_REGISTER_SPL + 4;
	} else if (reg >= ZYDIS_REGISTER_ES && reg <= ZYDIS_REGISTER_GS) {
		return hvmi_registers_get(list->registers, segments[reg - ZYDIS_REGISTER_ES], ret);
	} else if (reg == ZYDIS_REGISTER_RIP || reg == ZYDIS_REGISTER_EIP) {
		*ret = x86_wrap(next, reg == ZYDIS_REGISTER_RIP ? 64 : 32);
		return 0;
	} else {
		return -1;
	}
	if (hvmi_registers_get(list->registers, general[index], &value))
		return -1;
	*ret = x86_wrap(value >> shift, width);
	return 0;
}

int access_segment_base(const struct access_list *list, ZydisRegister segment, uint64_t *ret)
{
	static const uint8_t bases[6] = {
		HVMI_X86_ES_BASE, HVMI_X86_CS_BASE, HVMI_X86_SS_BASE,
		HVMI_X86_DS_BASE, HVMI_X86_FS_BASE, HVMI_X86_GS_BASE,
	};
	*ret = 0;
	if (segment < ZYDIS_REGISTER_ES || segment > ZYDIS_REGISTER_GS ||
	    (list->insn.width == 64 && segment != ZYDIS_REGISTER_FS &&
	     segment != ZYDIS_REGISTER_GS))
		return 0;
	return hvmi_registers_get(list->registers, bases[segment - ZYDIS_REGISTER_ES], ret);
}

int access_offset(const struct access_list *list, const ZydisDecodedOperandMem *mem, uint64_t *ret)
{
	uint64_t base = 0, index = 0;
	if (mem->type == ZYDIS_MEMOP_TYPE_VSIB ||
	    (mem->base != ZYDIS_REGISTER_NONE && access_register(list, mem->base, &base)) ||
	    (mem->index != ZYDIS_REGISTER_NONE && access_register(list, mem->index, &index)))
		return -1;
	uint64_t offset = base + index * mem->scale + (uint64_t)mem->disp.value;
	*ret = x86_wrap(offset, list->insn.raw.address_width);
	return 0;
}

uint32_t access_kind(const ZydisDecodedOperand *operand)
{
	return (operand->actions & ZYDIS_OPERAND_ACTION_MASK_READ ? HVMI_RIGHT_READ : 0) |
	       (operand->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE ? HVMI_RIGHT_WRITE : 0);
}

static struct hvmi_insn_access *append(struct access_list *list, uint64_t gva, uint64_t len,
				       uint32_t kind, uint32_t flags)
{
	if (list->out.count == HVMI_ACCESSES_MAX) {
		list->out.flags |= HVMI_ACCESSES_INCOMPLETE;
		return NULL;
	}
	struct hvmi_insn_access *access = &list->out.items[list->out.count++];
	*access = (struct hvmi_insn_access){
		.gva = gva, .len = len, .kind = kind, .flags = flags, .unit = (uint32_t)len,
	};
	return access;
}

/* Linear addresses wrap too, at 4 GiB outside of 64-bit mode. */
static struct hvmi_insn_access *add_linear(struct access_list *list, uint64_t gva, uint64_t len,
					   uint32_t kind, uint32_t flags)
{
	uint32_t width = list->insn.width == 64 ? 64 : 32;
	gva = x86_wrap(gva, width);
	uint64_t left = (width == 64 ? 0 : 1ull << 32) - gva;	/* 0: all of 2^64 */
	if (left == 0 || len <= left)
		return append(list, gva, len, kind, flags);
	append(list, gva, left, kind, flags);
	append(list, 0, len - left, kind, flags);
	return NULL;
}

struct hvmi_insn_access *access_add_unknown(struct access_list *list, uint64_t len, uint32_t kind,
					    uint32_t flags)
{
	return len && kind ? append(list, HVMI_NO_ADDRESS, len, kind, flags | HVMI_ACCESS_UNKNOWN) :
			     NULL;
}

struct hvmi_insn_access *access_add(struct access_list *list, ZydisRegister segment, uint64_t offset,
				    uint32_t width, uint64_t len, uint32_t kind, uint32_t flags)
{
	uint64_t base;
	if (len == 0 || kind == 0)
		return NULL;
	if (access_segment_base(list, segment, &base))
		return access_add_unknown(list, len, kind, flags);
	offset = x86_wrap(offset, width);
	if (width == 64)
		return add_linear(list, base + offset, len, kind, flags);
	uint64_t size = 1ull << width, left = size - offset;
	if (len >= size)
		return add_linear(list, base, size, kind, flags);
	if (len <= left)
		return add_linear(list, base + offset, len, kind, flags);
	add_linear(list, base + offset, left, kind, flags);
	add_linear(list, base, len - left, kind, flags);
	return NULL;
}

#define CACHE_LINE 64u

/* An operand whose size or address is not what it says. true: it was dealt with. */
static bool add_special(struct access_list *list, const ZydisDecodedOperand *operand,
			uint64_t offset)
{
	const ZydisDecodedInstruction *raw = &list->insn.raw;
	uint32_t width = raw->address_width, size = operand->size / 8;
	uint64_t bit;
	switch (raw->mnemonic) {
	case ZYDIS_MNEMONIC_CLFLUSH:
	case ZYDIS_MNEMONIC_CLFLUSHOPT:
	case ZYDIS_MNEMONIC_CLWB:
	case ZYDIS_MNEMONIC_CLDEMOTE:
		access_add(list, operand->mem.segment, offset & ~(uint64_t)(CACHE_LINE - 1), width,
			   CACHE_LINE, HVMI_RIGHT_READ, HVMI_ACCESS_BOUND);
		return true;
	case ZYDIS_MNEMONIC_BT:
	case ZYDIS_MNEMONIC_BTS:
	case ZYDIS_MNEMONIC_BTR:
	case ZYDIS_MNEMONIC_BTC:
		/* A bit offset in a register is signed and reaches beyond the operand (vol. 2, BT). */
		if (list->insn.operands[1].type != ZYDIS_OPERAND_TYPE_REGISTER)
			return false;
		if (access_register(list, list->insn.operands[1].reg.value, &bit)) {
			access_add_unknown(list, size, access_kind(operand), 0);
			return true;
		}
		bit = x86_sign_extend(bit, operand->size);
		offset += (uint64_t)((int64_t)bit >> (size == 8 ? 6 : size == 4 ? 5 : 4)) * size;
		access_add(list, operand->mem.segment, offset, width, size, access_kind(operand), 0);
		return true;
	case ZYDIS_MNEMONIC_FXSAVE:
	case ZYDIS_MNEMONIC_FXSAVE64:
	case ZYDIS_MNEMONIC_FXRSTOR:
	case ZYDIS_MNEMONIC_FXRSTOR64:
		access_add(list, operand->mem.segment, offset, width, 512, access_kind(operand),
			   HVMI_ACCESS_BOUND);
		return true;
	default:
		return false;
	}
}

/* Conditional in Zydis' words, and done by CPUs all the same. */
static bool always(const ZydisDecodedInstruction *raw)
{
	return raw->meta.category == ZYDIS_CATEGORY_CMOV ||
	       raw->mnemonic == ZYDIS_MNEMONIC_CMPXCHG ||
	       raw->mnemonic == ZYDIS_MNEMONIC_CMPXCHG8B ||
	       raw->mnemonic == ZYDIS_MNEMONIC_CMPXCHG16B;
}

static uint32_t operand_flags(const struct access_list *list, const ZydisDecodedOperand *operand)
{
	const ZydisDecodedInstruction *raw = &list->insn.raw;
	uint32_t flags = operand->visibility == ZYDIS_OPERAND_VISIBILITY_HIDDEN ?
			 HVMI_ACCESS_IMPLICIT : 0;
	if (raw->avx.mask.reg > ZYDIS_REGISTER_K0 && raw->avx.mask.reg <= ZYDIS_REGISTER_K7)
		flags |= HVMI_ACCESS_CONDITIONAL | HVMI_ACCESS_BOUND;
	if (!always(raw) && operand->actions & (ZYDIS_OPERAND_ACTION_CONDREAD |
						ZYDIS_OPERAND_ACTION_CONDWRITE))
		flags |= HVMI_ACCESS_CONDITIONAL | HVMI_ACCESS_BOUND;
	switch (raw->mnemonic) {
	case ZYDIS_MNEMONIC_MASKMOVQ:
	case ZYDIS_MNEMONIC_MASKMOVDQU:
	case ZYDIS_MNEMONIC_VMASKMOVDQU:
	case ZYDIS_MNEMONIC_VMASKMOVPS:
	case ZYDIS_MNEMONIC_VMASKMOVPD:
	case ZYDIS_MNEMONIC_VPMASKMOVD:
	case ZYDIS_MNEMONIC_VPMASKMOVQ:
		flags |= HVMI_ACCESS_CONDITIONAL | HVMI_ACCESS_BOUND;
		break;
	default:
		break;
	}
	return flags;
}

/* What is relative to another thing than an address: tiles, bounds, enclaves, 64-byte stores. */
static bool untold(const ZydisDecodedInstruction *raw)
{
	switch (raw->meta.category) {
	case ZYDIS_CATEGORY_AMX_TILE:
	case ZYDIS_CATEGORY_MPX:
	case ZYDIS_CATEGORY_SGX:
	case ZYDIS_CATEGORY_PADLOCK:
	case ZYDIS_CATEGORY_ENQCMD:
	case ZYDIS_CATEGORY_VTX:
	case ZYDIS_CATEGORY_KEYLOCKER:
	case ZYDIS_CATEGORY_KEYLOCKER_WIDE:
	case ZYDIS_CATEGORY_UINTR:
	case ZYDIS_CATEGORY_CET:
	case ZYDIS_CATEGORY_INTERRUPT:
	case ZYDIS_CATEGORY_SEGOP:
	case ZYDIS_CATEGORY_KNC:
		return raw->mnemonic != ZYDIS_MNEMONIC_ENDBR32 &&
		       raw->mnemonic != ZYDIS_MNEMONIC_ENDBR64;
	default:
		break;
	}
	switch (raw->mnemonic) {
	case ZYDIS_MNEMONIC_IRET:
	case ZYDIS_MNEMONIC_IRETD:
	case ZYDIS_MNEMONIC_IRETQ:
	case ZYDIS_MNEMONIC_LTR:
	case ZYDIS_MNEMONIC_LLDT:
	case ZYDIS_MNEMONIC_LAR:
	case ZYDIS_MNEMONIC_LSL:
	case ZYDIS_MNEMONIC_VERR:
	case ZYDIS_MNEMONIC_VERW:
		return true;
	default:
		return raw->meta.branch_type == ZYDIS_BRANCH_TYPE_FAR;
	}
}

static bool loads_segment(const struct x86_insn *insn)
{
	for (uint32_t i = 0; i < insn->raw.operand_count; i++) {
		const ZydisDecodedOperand *o = &insn->operands[i];
		if (o->type == ZYDIS_OPERAND_TYPE_REGISTER && o->reg.value >= ZYDIS_REGISTER_ES &&
		    o->reg.value <= ZYDIS_REGISTER_GS && access_kind(o) & HVMI_RIGHT_WRITE &&
		    insn->raw.meta.category != ZYDIS_CATEGORY_SYSCALL &&
		    insn->raw.meta.category != ZYDIS_CATEGORY_SYSRET)
			return true;
	}
	return false;
}

static void add_operand(struct access_list *list, const ZydisDecodedOperand *operand)
{
	const ZydisDecodedInstruction *raw = &list->insn.raw;
	const ZydisDecodedOperandMem *mem = &operand->mem;
	uint32_t flags = operand_flags(list, operand), kind = access_kind(operand);
	uint64_t offset, al;
	if (mem->type == ZYDIS_MEMOP_TYPE_AGEN || raw->mnemonic == ZYDIS_MNEMONIC_INVLPG)
		return;
	if (raw->meta.category == ZYDIS_CATEGORY_XSAVE ||
	    raw->meta.category == ZYDIS_CATEGORY_XSAVEOPT) {
		access_xsave(list, operand);
		return;
	}
	if (access_offset(list, mem, &offset)) {
		uint32_t more = mem->type == ZYDIS_MEMOP_TYPE_VSIB ?
				HVMI_ACCESS_CONDITIONAL | HVMI_ACCESS_BOUND : 0;
		access_add_unknown(list, MAX(operand->size / 8, 1), kind, flags | more);
		return;
	}
	if (raw->mnemonic == ZYDIS_MNEMONIC_XLAT) {
		if (access_register(list, ZYDIS_REGISTER_AL, &al)) {
			access_add_unknown(list, 1, kind, flags);
			return;
		}
		offset += al;
	}
	offset += access_pop_shift(list, mem);
	if (add_special(list, operand, offset))
		return;
	struct hvmi_insn_access *access = access_add(list, mem->segment, offset, raw->address_width,
						     operand->size / 8, kind, flags);
	if (access && kind & HVMI_RIGHT_WRITE && operand == &list->insn.operands[0])
		access_value(list, access);
}

static bool touches_nothing(const ZydisDecodedInstruction *raw)
{
	switch (raw->meta.category) {
	case ZYDIS_CATEGORY_NOP:
	case ZYDIS_CATEGORY_WIDENOP:
	case ZYDIS_CATEGORY_PREFETCH:
	case ZYDIS_CATEGORY_PREFETCHWT1:
		return true;
	default:
		return raw->mnemonic == ZYDIS_MNEMONIC_ENTER || raw->mnemonic == ZYDIS_MNEMONIC_LEAVE;
	}
}

static void collect(struct access_list *list)
{
	const ZydisDecodedInstruction *raw = &list->insn.raw;
	uint64_t rax;
	if (untold(raw) || loads_segment(&list->insn))
		list->out.flags |= HVMI_ACCESSES_INCOMPLETE;
	if (raw->meta.category == ZYDIS_CATEGORY_STRINGOP ||
	    raw->meta.category == ZYDIS_CATEGORY_IOSTRINGOP) {
		access_string(list);
		return;
	}
	if (raw->mnemonic == ZYDIS_MNEMONIC_CLZERO) {
		if (access_register(list, list->insn.operands[0].reg.value, &rax))
			access_add_unknown(list, CACHE_LINE, HVMI_RIGHT_WRITE, HVMI_ACCESS_IMPLICIT);
		else
			access_add(list, ZYDIS_REGISTER_DS, rax & ~(uint64_t)(CACHE_LINE - 1),
				   raw->address_width, CACHE_LINE, HVMI_RIGHT_WRITE,
				   HVMI_ACCESS_IMPLICIT);
	}
	for (uint32_t i = 0; i < raw->operand_count && !touches_nothing(raw); i++) {
		const ZydisDecodedOperand *o = &list->insn.operands[i];
		bool stack = o->visibility == ZYDIS_OPERAND_VISIBILITY_HIDDEN &&
			     o->mem.segment == ZYDIS_REGISTER_SS;
		if (o->type == ZYDIS_OPERAND_TYPE_MEMORY && !stack)
			add_operand(list, o);
	}
	access_stack(list);
}

HVMI_API int hvmi_insn_get_accesses(const struct hvmi_insn *insn,
				    const struct hvmi_registers *registers,
				    struct hvmi_insn_accesses *ret, struct hvmi_error *err)
{
	const struct insn_decoder *decoder = NULL;
	struct hvmi_insn copy;
	struct access_list list;
	uint64_t rights;
	int rc = insn_copy(&copy, insn, err);
	if (!rc)
		rc = insn_decoder_find(copy.mode, copy.gva, &decoder, err);
	if (rc)
		return rc;
	if (copy.mode == HVMI_INSN_ARM64)
		return hvmi_error_set(err, -ENOTSUP, copy.gva, "accesses are known of x86 "
				      "instructions only: the registers of arm64 have no ids");
	rc = x86_decode(copy.mode, copy.bytes, copy.len, &list.insn);
	if (rc)
		return hvmi_error_set(err, -EINVAL, copy.gva, "this is no instruction that the "
				      "library decoded: its bytes are none");
	list.public = &copy;
	list.registers = registers;
	list.stack_width = list.insn.width;
	if (list.insn.width != 64 && !hvmi_registers_get(registers, HVMI_X86_SS_RIGHTS, &rights))
		list.stack_width = rights >> 14 & 1 ? 32 : 16;
	list.out.size = sizeof(list.out);
	list.out.count = list.out.flags = 0;
	add_linear(&list, copy.gva, copy.len, HVMI_RIGHT_EXECUTE, HVMI_ACCESS_IMPLICIT);
	collect(&list);
	/* What is not used is most of it. */
	size_t used = offsetof(struct hvmi_insn_accesses, items) +
		      list.out.count * sizeof(list.out.items[0]);
	if (ret->size == sizeof(*ret))
		memcpy(ret, &list.out, used);
	else if (result_copy(ret, &list.out, used))
		return hvmi_error_set(err, -EINVAL, copy.gva, "hvmi_insn_accesses.size is not set");
	return 0;
}
