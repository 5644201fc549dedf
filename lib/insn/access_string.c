/* SPDX-License-Identifier: Apache-2.0 */
#include "insn/access.h"

#define RFLAGS_DF (1ull << 10)

/* Steps that are left; 1 without REP. -1: the counter is not known. */
static int steps(const struct access_list *list, uint64_t *ret)
{
	static const uint64_t repeated = ZYDIS_ATTRIB_HAS_REP | ZYDIS_ATTRIB_HAS_REPE |
					 ZYDIS_ATTRIB_HAS_REPNE;
	*ret = 1;
	if (!(list->insn.raw.attributes & repeated))
		return 0;
	if (access_register(list, ZYDIS_REGISTER_RCX, ret))
		return -1;
	*ret = x86_wrap(*ret, list->insn.raw.address_width);
	return 0;
}

static bool compares(const ZydisDecodedInstruction *raw)
{
	switch (raw->mnemonic) {
	case ZYDIS_MNEMONIC_CMPSB:
	case ZYDIS_MNEMONIC_CMPSW:
	case ZYDIS_MNEMONIC_CMPSD:
	case ZYDIS_MNEMONIC_CMPSQ:
	case ZYDIS_MNEMONIC_SCASB:
	case ZYDIS_MNEMONIC_SCASW:
	case ZYDIS_MNEMONIC_SCASD:
	case ZYDIS_MNEMONIC_SCASQ:
		return true;
	default:
		return false;
	}
}

static void add(struct access_list *list, const ZydisDecodedOperand *operand, int counted,
		uint64_t count)
{
	const ZydisDecodedInstruction *raw = &list->insn.raw;
	uint32_t unit = operand->size / 8, kind = access_kind(operand);
	uint32_t flags = HVMI_ACCESS_IMPLICIT;
	uint64_t offset, rflags = 0, len;
	if (compares(raw) && count > 1)
		flags |= HVMI_ACCESS_BOUND;
	bool directed = !hvmi_registers_get(list->registers, HVMI_X86_RFLAGS, &rflags) || count == 1;
	struct hvmi_insn_access *access;
	uint32_t before = list->out.count;
	if (counted || !directed || access_offset(list, &operand->mem, &offset)) {
		access = access_add_unknown(list, unit, kind, flags | HVMI_ACCESS_BOUND);
	} else {
		if (__builtin_mul_overflow(count, unit, &len))
			len = UINT64_MAX;
		if (rflags & RFLAGS_DF)
			offset -= len - unit;
		access = access_add(list, operand->mem.segment, offset, raw->address_width, len, kind,
				    flags);
	}
	for (uint32_t i = before; i < list->out.count; i++)
		list->out.items[i].unit = unit;
	if (access && kind & HVMI_RIGHT_WRITE)
		access_value(list, access);
}

void access_string(struct access_list *list)
{
	uint64_t count;
	int counted = steps(list, &count);
	if (!counted && count == 0)
		return;
	for (uint32_t i = 0; i < list->insn.raw.operand_count; i++)
		if (list->insn.operands[i].type == ZYDIS_OPERAND_TYPE_MEMORY)
			add(list, &list->insn.operands[i], counted, count);
}
