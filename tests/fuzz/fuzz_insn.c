/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bytes of code: the first says mode and flags, the second how far they move. What decodes must be in
 * bounds, and what was moved must decode again, instruction by instruction.
 */
#include <stdlib.h>

#include <hvmi/insn.h>

#include "util/util.h"

#define FROM 0x401000ull

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool condition)
{
	if (!condition)
		abort();
}

static void fill(struct hvmi_registers *registers, const uint8_t *data, size_t size)
{
	for (uint32_t id = 1; id < HVMI_REGISTER_END; id++) {
		uint64_t value = 0;
		if (size >= 8)
			memcpy(&value, data + id % (size - 7), 8);
		if (value % 5)
			hvmi_registers_set(registers, id, value % 3 ? value : value % 4096);
	}
}

static void ask(const struct hvmi_insn *insn, const struct hvmi_registers *registers)
{
	struct hvmi_insn_accesses told = { .size = sizeof(told) };
	struct hvmi_error err;
	char text[HVMI_INSN_TEXT];
	require(insn->len >= 1 && insn->len <= HVMI_INSN_BYTES);
	require(hvmi_insn_text(insn, text, sizeof(text), &err) == 0 && text[0]);
	int rc = hvmi_insn_get_accesses(insn, registers, &told, &err);
	require(rc == (insn->mode == HVMI_INSN_ARM64 ? -ENOTSUP : 0));
	if (rc)
		return;
	require(told.count >= 1 && told.count <= HVMI_ACCESSES_MAX);
	for (uint32_t i = 0; i < told.count; i++) {
		const struct hvmi_insn_access *a = &told.items[i];
		require(a->len && a->kind && a->value_len <= sizeof(a->value));
		require(!(a->flags & HVMI_ACCESS_VALUE) == !a->value_len);
		require(!(a->flags & HVMI_ACCESS_UNKNOWN) || a->gva == HVMI_NO_ADDRESS);
	}
}

static void move(uint32_t mode, uint8_t flags, uint8_t where, const uint8_t *data, size_t size)
{
	static const uint64_t places[] = { 0x402000, 0x80000000, 0x7fff00000000, 0x10, 0xfffffff0 };
	struct hvmi_insn_moved moved = { .size = sizeof(moved) };
	struct hvmi_insn insn = { .size = sizeof(insn) };
	struct hvmi_error err = { 0 };
	struct hvmi_insn_move m = {
		.size = sizeof(m), .bytes = data, .from = FROM, .mode = mode, .flags = flags & 7,
		.to = places[where % ARRAY_SIZE(places)], .len = (uint32_t)MIN(size, 200),
		.need = (uint32_t)MIN(size, 1 + where / 2u),
	};
	int rc = hvmi_insn_relocate(&m, &moved, &err);
	if (rc) {
		require(rc == err.code && err.text[0]);
		return;
	}
	require(moved.len <= HVMI_MOVED_BYTES && moved.count && moved.count <= HVMI_MOVE_COUNT);
	require(moved.from_len >= m.need && moved.places[moved.count].from == moved.from_len);
	for (uint32_t i = 0; i < moved.count; i++) {
		const struct hvmi_insn_place *place = &moved.places[i];
		require(place->from < place[1].from && place->to < place[1].to);
		require(hvmi_insn_decode(mode, m.to + place->to, moved.bytes + place->to,
					 moved.len - place->to, &insn, &err) == 0);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct hvmi_registers registers = { 0 };
	struct hvmi_insn insn = { .size = sizeof(insn) };
	struct hvmi_error err;
	if (size < 3)
		return 0;
	uint32_t mode = 1 + data[0] % 4;
	fill(&registers, data, size);
	for (size_t at = 2, count = 0; at < size && count < 32; count++) {
		if (hvmi_insn_decode(mode, FROM + at * 4, data + at, size - at, &insn, &err)) {
			require(err.text[0]);
			break;
		}
		ask(&insn, &registers);
		at += insn.len;
	}
	move(mode, data[0] >> 2, data[1], data + 2, size - 2);
	return 0;
}
