/* SPDX-License-Identifier: Apache-2.0 */
#include "insn/access.h"

/* PUSHF stores without VM and RF (vol. 2, PUSHF). */
#define RFLAGS_PUSHED 0xfcffffull

static ZydisRegister of_stack_width(const struct access_list *list, ZydisRegister r64)
{
	return list->stack_width == 64 ? r64 :
	       list->stack_width == 32 ? r64 - ZYDIS_REGISTER_RAX + ZYDIS_REGISTER_EAX :
					 r64 - ZYDIS_REGISTER_RAX + ZYDIS_REGISTER_AX;
}

/* At an offset from RSP or RBP. */
static struct hvmi_insn_access *add(struct access_list *list, ZydisRegister from, int64_t offset,
				    uint64_t len, uint32_t kind, uint32_t flags)
{
	uint64_t pointer;
	flags |= HVMI_ACCESS_IMPLICIT;
	if (access_register(list, of_stack_width(list, from), &pointer))
		return access_add_unknown(list, len, kind, flags);
	return access_add(list, ZYDIS_REGISTER_SS, pointer + (uint64_t)offset, list->stack_width, len,
			  kind, flags);
}

static bool pushed_value(const struct access_list *list, uint64_t *ret)
{
	const ZydisDecodedInstruction *raw = &list->insn.raw;
	const ZydisDecodedOperand *first = &list->insn.operands[0];
	uint64_t base, rflags;
	switch (raw->mnemonic) {
	case ZYDIS_MNEMONIC_CALL:
		if (raw->meta.branch_type == ZYDIS_BRANCH_TYPE_FAR ||
		    access_segment_base(list, ZYDIS_REGISTER_CS, &base))
			return false;
		*ret = list->public->gva + raw->length - base;
		return true;
	case ZYDIS_MNEMONIC_PUSHF:
	case ZYDIS_MNEMONIC_PUSHFD:
	case ZYDIS_MNEMONIC_PUSHFQ:
		if (hvmi_registers_get(list->registers, HVMI_X86_RFLAGS, &rflags))
			return false;
		*ret = rflags & RFLAGS_PUSHED;
		return true;
	case ZYDIS_MNEMONIC_PUSH:
		if (first->type == ZYDIS_OPERAND_TYPE_IMMEDIATE) {
			*ret = first->imm.value.u;
			return true;
		}
		return first->type == ZYDIS_OPERAND_TYPE_REGISTER &&
		       access_register(list, first->reg.value, ret) == 0;
	default:
		return false;
	}
}

/* Eight registers in the order of their numbers, SP as it was (vol. 2, PUSHA). */
static void push_all(struct access_list *list)
{
	uint32_t size = list->insn.raw.operand_width / 8;
	for (uint32_t i = 0; i < 8; i++) {
		uint64_t value;
		struct hvmi_insn_access *access = add(list, ZYDIS_REGISTER_RSP,
						      -(int64_t)(size * (i + 1)), size,
						      HVMI_RIGHT_WRITE, 0);
		if (access && !access_register(list, ZYDIS_REGISTER_RAX + i, &value))
			access_set_value(access, &value, size);
	}
}

/* Vol. 2, ENTER: with nesting it copies the frame pointers of outer levels. */
static void enter(struct access_list *list)
{
	uint32_t size = list->insn.raw.operand_width / 8;
	uint64_t room = list->insn.operands[0].imm.value.u & 0xffff, value;
	uint32_t level = list->insn.operands[1].imm.value.u & 31;
	if (level > 1)
		add(list, ZYDIS_REGISTER_RBP, -(int64_t)((level - 1) * size), (level - 1) * size,
		    HVMI_RIGHT_READ, 0);
	uint32_t pushed = level ? (level + 1) * size : size;
	struct hvmi_insn_access *access = add(list, ZYDIS_REGISTER_RSP, -(int64_t)pushed, pushed,
					      HVMI_RIGHT_WRITE, 0);
	if (access && level == 0 && !access_register(list, ZYDIS_REGISTER_RBP, &value))
		access_set_value(access, &value, size);
	/* It faults where the new top of the stack cannot be written. */
	if (room)
		add(list, ZYDIS_REGISTER_RSP, -(int64_t)(pushed + room), size, HVMI_RIGHT_WRITE,
		    HVMI_ACCESS_CONDITIONAL | HVMI_ACCESS_BOUND);
}

uint64_t access_pop_shift(const struct access_list *list, const ZydisDecodedOperandMem *mem)
{
	return list->insn.raw.mnemonic == ZYDIS_MNEMONIC_POP &&
	       (mem->base == ZYDIS_REGISTER_RSP || mem->base == ZYDIS_REGISTER_ESP) ?
	       list->insn.raw.operand_width / 8 : 0;
}

void access_stack(struct access_list *list)
{
	const ZydisDecodedInstruction *raw = &list->insn.raw;
	switch (raw->mnemonic) {
	case ZYDIS_MNEMONIC_ENTER:
		enter(list);
		return;
	case ZYDIS_MNEMONIC_LEAVE:
		add(list, ZYDIS_REGISTER_RBP, 0, raw->operand_width / 8, HVMI_RIGHT_READ, 0);
		return;
	case ZYDIS_MNEMONIC_PUSHA:
	case ZYDIS_MNEMONIC_PUSHAD:
		push_all(list);
		return;
	default:
		break;
	}
	for (uint32_t i = 0; i < raw->operand_count; i++) {
		const ZydisDecodedOperand *o = &list->insn.operands[i];
		if (o->type != ZYDIS_OPERAND_TYPE_MEMORY ||
		    o->visibility != ZYDIS_OPERAND_VISIBILITY_HIDDEN ||
		    o->mem.segment != ZYDIS_REGISTER_SS)
			continue;
		/* IRET takes SS:SP or more only where it leaves the ring; POPA skips SP. */
		uint32_t size = o->size / 8;
		bool skips = raw->mnemonic == ZYDIS_MNEMONIC_POPA ||
			     raw->mnemonic == ZYDIS_MNEMONIC_POPAD;
		uint32_t flags = skips || (raw->meta.category == ZYDIS_CATEGORY_RET &&
				 raw->meta.branch_type == ZYDIS_BRANCH_TYPE_NONE &&
				 raw->operand_width != 64) ? HVMI_ACCESS_BOUND : 0;
		if (!(access_kind(o) & HVMI_RIGHT_WRITE)) {
			add(list, ZYDIS_REGISTER_RSP, 0, size, HVMI_RIGHT_READ, flags);
			continue;
		}
		uint64_t value;
		struct hvmi_insn_access *access = add(list, ZYDIS_REGISTER_RSP, -(int64_t)size, size,
						      HVMI_RIGHT_WRITE, flags);
		if (access && pushed_value(list, &value))
			access_set_value(access, &value, size);
	}
}
