/* SPDX-License-Identifier: Apache-2.0 */
#include "insn/access.h"

void access_set_value(struct hvmi_insn_access *access, const void *value, uint32_t len)
{
	access->flags |= HVMI_ACCESS_VALUE;
	access->value_len = len;
	memcpy(access->value, value, len);
}

/* Of a register or an immediate. */
static bool operand_value(const struct access_list *list, const ZydisDecodedOperand *operand,
			  uint64_t *ret)
{
	if (operand->type == ZYDIS_OPERAND_TYPE_REGISTER)
		return access_register(list, operand->reg.value, ret) == 0;
	*ret = operand->imm.value.u;
	return operand->type == ZYDIS_OPERAND_TYPE_IMMEDIATE;
}

/* Vol. 1, appendix B: the condition in the low four bits of Jcc, SETcc and CMOVcc. */
static bool condition(uint32_t code, uint64_t rflags)
{
	bool cf = rflags & 1, pf = rflags >> 2 & 1, zf = rflags >> 6 & 1, sf = rflags >> 7 & 1;
	bool of = rflags >> 11 & 1;
	bool met[8] = { of, cf, zf, cf || zf, sf, pf, sf != of, zf || sf != of };
	return met[code >> 1 & 7] != (code & 1);
}

static bool set_by_condition(const struct access_list *list, uint64_t *ret)
{
	uint64_t rflags;
	if (hvmi_registers_get(list->registers, HVMI_X86_RFLAGS, &rflags))
		return false;
	*ret = condition(list->insn.raw.opcode, rflags);
	return true;
}

/* CMPXCHG8B and 16B store C:B. */
static void value_of_pair(const struct access_list *list, struct hvmi_insn_access *access)
{
	uint64_t low, high;
	if (access_register(list, ZYDIS_REGISTER_RBX, &low) ||
	    access_register(list, ZYDIS_REGISTER_RCX, &high))
		return;
	uint64_t pair[2] = { low, high };
	if (access->len == 8)
		pair[0] = (low & UINT32_MAX) | high << 32;
	access_set_value(access, pair, (uint32_t)access->len);
	access->flags |= HVMI_ACCESS_VALUE_IF;
}

void access_value(const struct access_list *list, struct hvmi_insn_access *access)
{
	const ZydisDecodedInstruction *raw = &list->insn.raw;
	const ZydisDecodedOperand *second = &list->insn.operands[1];
	uint32_t size = access->unit;
	uint64_t value;
	bool found;
	switch (raw->mnemonic) {
	case ZYDIS_MNEMONIC_MOV:
	case ZYDIS_MNEMONIC_MOVNTI:
	case ZYDIS_MNEMONIC_XCHG:
	case ZYDIS_MNEMONIC_STOSB:
	case ZYDIS_MNEMONIC_STOSW:
	case ZYDIS_MNEMONIC_STOSD:
	case ZYDIS_MNEMONIC_STOSQ:
		found = operand_value(list, second, &value);
		break;
	case ZYDIS_MNEMONIC_MOVBE:
		found = operand_value(list, second, &value);
		value = found ? __builtin_bswap64(value) >> (64 - 8 * size) : 0;
		break;
	case ZYDIS_MNEMONIC_CMPXCHG:
		found = operand_value(list, second, &value);
		access->flags |= found ? HVMI_ACCESS_VALUE_IF : 0;
		break;
	case ZYDIS_MNEMONIC_CMPXCHG8B:
	case ZYDIS_MNEMONIC_CMPXCHG16B:
		value_of_pair(list, access);
		return;
	default:
		found = raw->meta.category == ZYDIS_CATEGORY_SETCC && set_by_condition(list, &value);
		break;
	}
	if (found && size <= sizeof(value))
		access_set_value(access, &value, size);
}
