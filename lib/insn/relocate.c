/* SPDX-License-Identifier: Apache-2.0 */
#include <inttypes.h>

#include "insn/relocate.h"

void mover_put(struct mover *m, const void *bytes, size_t len)
{
	if (m->out.len + len <= sizeof(m->out.bytes))
		memcpy(m->out.bytes + m->out.len, bytes, len);
	m->out.len += (uint32_t)len;
}

void mover_put_number(struct mover *m, uint64_t value, size_t len)
{
	uint8_t bytes[8];
	for (size_t i = 0; i < len; i++)
		bytes[i] = (uint8_t)(value >> 8 * i);
	mover_put(m, bytes, len);
}

bool mover_reaches(const struct mover *m, uint64_t address)
{
	if (m->move.mode == HVMI_INSN_X86_32)
		return true;
	uint64_t reach = m->move.mode == HVMI_INSN_X86_64 ? 1ull << 31 : 1u << 15;
	uint64_t limit = reach - 2 * HVMI_MOVED_BYTES;
	return address - m->move.to + limit < 2 * limit;
}

int mover_refuse(struct mover *m, const struct hvmi_insn *insn, const char *why)
{
	char text[HVMI_INSN_TEXT] = "";
	hvmi_insn_text(insn, text, sizeof(text), NULL);
	return hvmi_error_set(m->err, -ENOTSUP, insn->gva, "'%s' at 0x%" PRIx64 " cannot be moved to "
			      "0x%" PRIx64 ": %s", text, insn->gva, m->move.to + m->out.len, why);
}

static const char *whose_address_is_seen(const ZydisDecodedInstruction *raw,
					 const struct hvmi_insn *insn, uint32_t flags)
{
	switch (raw->mnemonic) {
	case ZYDIS_MNEMONIC_INT3:
	case ZYDIS_MNEMONIC_INT1:
	case ZYDIS_MNEMONIC_UD0:
	case ZYDIS_MNEMONIC_UD1:
	case ZYDIS_MNEMONIC_UD2:
		return "the guest looks up where it is";
	case ZYDIS_MNEMONIC_INT:
	case ZYDIS_MNEMONIC_INTO:
		break;
	default:
		if (insn->category == HVMI_INSN_CALL || insn->category == HVMI_INSN_SYSTEM_CALL)
			break;
		return NULL;
	}
	return flags & HVMI_MOVE_NO_RETURNS ? "it tells others where it is, which is refused here" :
					      NULL;
}

static int move_one(struct mover *m, uint32_t index)
{
	const struct hvmi_insn *insn = &m->insns[index];
	const char *why;
	ZydisDecodedInstruction raw;
	if (x86_decode_shallow(insn->mode, insn->bytes, insn->len, &raw))
		return hvmi_error_set(m->err, -EINVAL, insn->gva, "the bytes of the run changed");
	why = whose_address_is_seen(&raw, insn, m->move.flags);
	if (why)
		return mover_refuse(m, insn, why);
	if (insn->target != HVMI_NO_ADDRESS)
		return mover_branch(m, insn, &raw);
	if (insn->flags & HVMI_INSN_RELATIVE)
		return mover_operand(m, insn, &raw);
	mover_put(m, insn->bytes, insn->len);
	return 0;
}

/* Lengths do not depend on places, so that the second time all of them are known. */
static int move_all(struct mover *m)
{
	const struct hvmi_insn *last = &m->insns[m->out.count - 1];
	for (int round = 0; round < 2; round++) {
		m->out.len = 0;
		for (uint32_t i = 0; i < m->out.count; i++) {
			m->out.places[i].to = (uint16_t)m->out.len;
			int rc = move_one(m, i);
			if (rc)
				return rc;
		}
		m->out.places[m->out.count].to = (uint16_t)m->out.len;
		if (!(m->move.flags & HVMI_MOVE_JUMP_BACK) || last->flags & HVMI_INSN_ENDS)
			continue;
		int rc = mover_jump(m, last, m->move.from + m->out.from_len);
		if (rc)
			return rc;
	}
	if (m->out.len > sizeof(m->out.bytes))
		return hvmi_error_set(m->err, -EOVERFLOW, m->move.from, "the run of %" PRIu32 " bytes "
				      "at 0x%" PRIx64 " would be %" PRIu32 " bytes long", m->move.need,
				      m->move.from, m->out.len);
	return 0;
}

static int decode_all(struct mover *m)
{
	const uint8_t *bytes = m->move.bytes;
	uint32_t at = 0;
	while (at < m->move.need) {
		if (m->out.count == HVMI_MOVE_COUNT)
			return hvmi_error_set(m->err, -EOVERFLOW, m->move.from + at, "the run at "
					      "0x%" PRIx64 " has more than %u instructions",
					      m->move.from, HVMI_MOVE_COUNT);
		struct hvmi_insn *insn = &m->insns[m->out.count];
		insn->size = sizeof(*insn);
		int rc = hvmi_insn_decode(m->move.mode, m->move.from + at, bytes + at,
					  m->move.len - at, insn, m->err);
		if (rc)
			return rc;
		m->out.places[m->out.count++].from = (uint16_t)at;
		at += insn->len;
		if (insn->flags & HVMI_INSN_ENDS && !m->out.ends)
			m->out.ends = at;
	}
	m->out.places[m->out.count].from = (uint16_t)at;
	m->out.from_len = at;
	return 0;
}

HVMI_API int hvmi_insn_relocate(const struct hvmi_insn_move *move, struct hvmi_insn_moved *ret,
				struct hvmi_error *err)
{
	struct mover m;
	const uint32_t flags = HVMI_MOVE_JUMP_BACK | HVMI_MOVE_NO_RETURNS | HVMI_MOVE_STACK;
	memset(&m.out, 0, sizeof(m.out));
	m.err = err;
	if (options_copy(&m.move, sizeof(m.move), move) || !m.move.bytes || !m.move.need ||
	    m.move.need > HVMI_MOVE_BYTES || m.move.len < m.move.need || m.move.flags & ~flags)
		return hvmi_error_set(err, -EINVAL, HVMI_NO_ADDRESS, "the description of the run makes "
				      "no sense: size, flags, or its length, which is 1 to %u and not "
				      "more than there are bytes", HVMI_MOVE_BYTES);
	if (m.move.mode == HVMI_INSN_ARM64)
		return hvmi_error_set(err, -ENOTSUP, m.move.from, "instructions of arm64 cannot be "
				      "moved");
	if (m.move.mode != HVMI_INSN_X86_64 && (m.move.from >= 1ull << 32 || m.move.to >= 1ull << 32))
		return hvmi_error_set(err, -EINVAL, m.move.to, "outside of 64-bit mode there are no "
				      "addresses above 4 GiB");
	int rc = decode_all(&m);
	if (!rc)
		rc = move_all(&m);
	if (rc)
		return rc;
	if (result_copy(ret, &m.out, sizeof(m.out)))
		return hvmi_error_set(err, -EINVAL, HVMI_NO_ADDRESS, "hvmi_insn_moved.size is not set");
	return 0;
}
