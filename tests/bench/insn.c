/* SPDX-License-Identifier: Apache-2.0 */
/* Decoding, accesses and moving of instructions, over a function's typical code. */
#include <string.h>

#include "bench.h"

#define ROUNDS 2000u

/* A prologue, loads and stores, a call, a compare and branch, a string store, an epilogue. */
static const uint8_t code[] = {
	0xf3, 0x0f, 0x1e, 0xfa, 0x55, 0x48, 0x89, 0xe5, 0x41, 0x54, 0x53, 0x48, 0x89, 0xfb,
	0x48, 0x8b, 0x47, 0x18, 0x48, 0x8b, 0x15, 0x00, 0x10, 0x00, 0x00, 0x65, 0x48, 0x8b,
	0x0c, 0x25, 0x28, 0x00, 0x00, 0x00, 0x48, 0x89, 0x4d, 0xe8, 0x89, 0x14, 0x83,
	0xe8, 0x00, 0x20, 0x00, 0x00, 0x83, 0x7b, 0x08, 0x00, 0x74, 0x40, 0xf3, 0x48, 0xab,
	0x5b, 0x41, 0x5c, 0x5d, 0xc3,
};

struct work {
	struct hvmi_insn insns[32];
	struct hvmi_registers registers;
	uint32_t count;
};

static void decode(void *context)
{
	const struct work *w = context;
	struct hvmi_insn insn = { .size = sizeof(insn) };
	for (uint32_t round = 0; round < ROUNDS; round++)
		for (uint32_t i = 0; i < w->count; i++) {
			hvmi_insn_decode(HVMI_INSN_X86_64, w->insns[i].gva, w->insns[i].bytes, 15,
					 &insn, NULL);
			sink(insn.len);
		}
}

static void accesses(void *context)
{
	const struct work *w = context;
	struct hvmi_insn_accesses told = { .size = sizeof(told) };
	for (uint32_t round = 0; round < ROUNDS; round++)
		for (uint32_t i = 0; i < w->count; i++) {
			hvmi_insn_get_accesses(&w->insns[i], &w->registers, &told, NULL);
			sink(told.count);
		}
}

static void relocate(void *context)
{
	struct hvmi_insn_moved moved = { .size = sizeof(moved) };
	const struct hvmi_insn_move move = {
		.size = sizeof(move), .bytes = code, .from = 0xffffffff81000000, .mode = HVMI_INSN_X86_64,
		.to = 0xffffffffc0000000, .len = sizeof(code), .need = sizeof(code),
	};
	(void)context;
	for (uint32_t round = 0; round < ROUNDS; round++) {
		hvmi_insn_relocate(&move, &moved, NULL);
		sink(moved.len);
	}
}

/* What a copy of the same bytes costs. */
static void copy(void *context)
{
	const struct work *w = context;
	struct hvmi_insn insn;
	for (uint32_t round = 0; round < ROUNDS; round++)
		for (uint32_t i = 0; i < w->count; i++) {
			memcpy(&insn, &w->insns[i], sizeof(insn));
			__asm__ volatile("" : : "r"(&insn) : "memory");
		}
}

void bench_insn(void)
{
	struct work w = { .count = 0 };
	struct hvmi_error err;
	for (uint32_t at = 0; at < sizeof(code); at += w.insns[w.count++].len) {
		w.insns[w.count].size = sizeof(w.insns[0]);
		int rc = hvmi_insn_decode(HVMI_INSN_X86_64, 0xffffffff81000000 + at, code + at,
					  sizeof(code) - at, &w.insns[w.count], &err);
		if (rc == -ENOTSUP)
			return;
		if (rc)
			fail("decode", &err);
	}
	for (uint32_t id = 1; id < HVMI_REGISTER_END; id++)
		hvmi_registers_set(&w.registers, id, 0x1000 * id);
	double per = (double)ROUNDS * w.count;
	compare("decode an instruction", decode, copy, &w, per, "a copy of what it returns");
	compare("its accesses", accesses, copy, &w, per, "the same; goal 300 ns");
	compare("move it, in a run", relocate, copy, &w, per, "the same; goal 1000 ns");
}
