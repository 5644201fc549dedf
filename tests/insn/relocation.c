/* SPDX-License-Identifier: Apache-2.0 */
/*
 * relocation COUNT: runs of instructions that were made up are moved, near and far; both run in Unicorn
 * from the same state, and must leave the same registers and memory, and for the same place.
 */
#include <inttypes.h>
#include <stdio.h>

#include "emulator.h"

#define RUN (CODE + 0x8000)
#define NEAR_PLACE (CODE + 0x2000)
#define FAR_PLACE 0x740000000ull
#define STEPS_MAX 400u

struct state {
	uint64_t general[16], flags, vectors[16][2], left_for, highest;
	uint8_t data[DATA_BYTES], stack[STACK_BYTES];
	bool faulted;
};

static struct {
	uint64_t first, len, left_for, highest;	/* highest: of the stack pointer */
	uint32_t steps;
} now;

static void on_instruction(uc_engine *uc, uint64_t address, uint32_t size, void *context)
{
	uint64_t pointer = 0;
	(void)size;
	TRY(uc_reg_read(uc, emulator_general(context, 4), &pointer));
	now.highest = MAX(now.highest, pointer);
	if (address - now.first < now.len && now.steps++ < STEPS_MAX)
		return;
	now.left_for = address;
	uc_emu_stop(uc);
}

static void save(const struct emulator *e, struct state *s)
{
	uint32_t count = e->mode == HVMI_INSN_X86_64 ? 16 : 8;
	memset(s->general, 0, sizeof(s->general));
	memset(s->vectors, 0, sizeof(s->vectors));
	for (uint32_t i = 0; i < count; i++) {
		TRY(uc_reg_read(e->uc, emulator_general(e, i), &s->general[i]));
		TRY(uc_reg_read(e->uc, UC_X86_REG_XMM0 + (int)i, s->vectors[i]));
	}
	TRY(uc_reg_read(e->uc, UC_X86_REG_EFLAGS, &s->flags));
	memcpy(s->data, e->data, DATA_BYTES);
	memcpy(s->stack, e->stack, STACK_BYTES);
}

static void restore(const struct emulator *e, const struct state *s)
{
	uint32_t count = e->mode == HVMI_INSN_X86_64 ? 16 : 8;
	for (uint32_t i = 0; i < count; i++) {
		TRY(uc_reg_write(e->uc, emulator_general(e, i), &s->general[i]));
		TRY(uc_reg_write(e->uc, UC_X86_REG_XMM0 + (int)i, s->vectors[i]));
	}
	TRY(uc_reg_write(e->uc, UC_X86_REG_EFLAGS, &s->flags));
	memcpy(e->data, s->data, DATA_BYTES);
	memcpy(e->stack, s->stack, STACK_BYTES);
}

/* Run [at, at + len) from a state until it is left. */
static void execute(const struct emulator *e, const struct state *from, uint64_t at, uint64_t len,
		    struct state *ret)
{
	restore(e, from);
	now.first = at;
	now.len = len;
	now.steps = 0;
	now.left_for = now.highest = 0;
	TRY(uc_ctl_remove_cache(e->uc, at, at + len + 16));
	uc_err status = uc_emu_start(e->uc, at, 0, 0, 0);
	save(e, ret);
	ret->left_for = now.left_for;
	ret->highest = now.highest;
	ret->faulted = status != UC_ERR_OK || !now.left_for || now.steps > STEPS_MAX;
}

/* Branches, and what else is relative; false: none this time. */
static bool random_relative(uint64_t *random, bool wide, uint8_t *to, uint32_t *len)
{
	static const uint8_t through[][3] = { { 0xff, 0x15 }, { 0xff, 0x25 }, { 0xff, 0x35 } };
	uint32_t rel = random_below(random, 240) - 100, small = random_below(random, 60) - 10;
	switch (random_below(random, 12)) {
	case 0:
		to[0] = (uint8_t)(0x70 | random_below(random, 16));
		to[1] = (uint8_t)small, *len = 2;
		return true;
	case 1:
		to[0] = 0x0f;
		to[1] = (uint8_t)(0x80 | random_below(random, 16));
		memcpy(to + 2, &rel, 4), *len = 6;
		return true;
	case 2:
		to[0] = (uint8_t)(0xe0 + random_below(random, 4));	/* LOOP, JCXZ */
		to[1] = (uint8_t)small, *len = 2;
		return true;
	case 3:
		to[0] = random_below(random, 2) ? 0xe8 : 0xe9;
		memcpy(to + 1, &rel, 4), *len = 5;
		return true;
	case 4:
		to[0] = 0xeb;
		to[1] = (uint8_t)small, *len = 2;
		return true;
	case 5:		/* JECXZ, or JCXZ */
		to[0] = 0x67, to[1] = 0xe3;
		to[2] = (uint8_t)small, *len = 3;
		return true;
	case 6:
		if (!wide)
			return false;
		memcpy(to, through[random_below(random, 3)], 2);
		rel = (uint32_t)(DATA + 8 * random_below(random, 512) - RUN);
		memcpy(to + 2, &rel, 4), *len = 6;
		return true;
	case 7:		/* LEA */
		if (!wide)
			return false;
		to[0] = (uint8_t)(0x48 | (random_below(random, 2) << 2));
		to[1] = 0x8d;
		to[2] = (uint8_t)(random_below(random, 8) << 3 | 5);
		memcpy(to + 3, &rel, 4), *len = 7;
		return true;
	default:
		return false;
	}
}

/* What makes a stack of other memory, where return addresses are not looked for. */
static bool moves_stack(const struct x86_insn *full)
{
	for (uint32_t i = 0; i < full->raw.operand_count; i++) {
		const ZydisDecodedOperand *o = &full->operands[i];
		if (o->type == ZYDIS_OPERAND_TYPE_REGISTER &&
		    o->visibility != ZYDIS_OPERAND_VISIBILITY_HIDDEN &&
		    o->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE &&
		    ZydisRegisterGetLargestEnclosing(ZYDIS_MACHINE_MODE_LONG_64, o->reg.value) ==
		    ZYDIS_REGISTER_RSP)
			return true;
	}
	return false;
}

/* Unicorn 2.0.1 does not set these registers. */
static bool uses_mmx(const struct x86_insn *full)
{
	for (uint32_t i = 0; i < full->raw.operand_count; i++)
		if (full->operands[i].type == ZYDIS_OPERAND_TYPE_REGISTER &&
		    ZydisRegisterGetClass(full->operands[i].reg.value) == ZYDIS_REGCLASS_MMX)
			return true;
	return false;
}

/* QEMU's bugs would make a difference where there is none. */
static bool unfit(const struct x86_insn *full)
{
	switch (full->raw.mnemonic) {
	case ZYDIS_MNEMONIC_TEST:
		return full->raw.raw.modrm.reg == 1;
	case ZYDIS_MNEMONIC_SHLD:
	case ZYDIS_MNEMONIC_SHRD:
	case ZYDIS_MNEMONIC_ENTER:
	case ZYDIS_MNEMONIC_LEAVE:
		return true;
	case ZYDIS_MNEMONIC_POPF:	/* may begin to trap */
	case ZYDIS_MNEMONIC_POPFD:
	case ZYDIS_MNEMONIC_POPFQ:
	case ZYDIS_MNEMONIC_RDTSC:
	case ZYDIS_MNEMONIC_RDTSCP:
	case ZYDIS_MNEMONIC_RDRAND:
	case ZYDIS_MNEMONIC_RDSEED:
	case ZYDIS_MNEMONIC_RDPMC:
		return true;
	default:
		/* The environment of the FPU has the address of the last instruction. */
		return full->raw.meta.category == ZYDIS_CATEGORY_X87_ALU ||
		       full->raw.meta.category == ZYDIS_CATEGORY_CONVERT ||
		       full->raw.mnemonic == ZYDIS_MNEMONIC_FXSAVE ||
		       full->raw.mnemonic == ZYDIS_MNEMONIC_FXSAVE64 ||
		       full->raw.meta.category == ZYDIS_CATEGORY_XSAVE ||
		       full->raw.meta.category == ZYDIS_CATEGORY_XSAVEOPT;
	}
}

static uint32_t random_run(uint64_t *random, uint32_t mode, uint8_t *to)
{
	uint32_t len = 0, count = 1 + random_below(random, 8);
	for (uint32_t i = 0; i < count; i++) {
		struct hvmi_insn insn = { .size = sizeof(insn) };
		struct x86_insn full;
		uint32_t one = 0;
		if (random_relative(random, mode == HVMI_INSN_X86_64, to + len, &one)) {
			len += one;
			continue;
		}
		do {
			random_insn(random, mode, RUN + len, &insn, &full);
		} while (unfit(&full) || uses_mmx(&full) || moves_stack(&full));
		memcpy(to + len, insn.bytes, insn.len);
		len += insn.len;
	}
	return len;
}

/* Calls leave an address of the moved code on the stack: make it that of the original. */
static void translate_returns(struct state *s, const struct hvmi_insn_moved *moved, uint64_t to,
			      uint32_t pointer_len)
{
	for (uint64_t at = STACK_BYTES / 2; at + 8 <= STACK_BYTES / 2 + 4096; at++) {
		uint64_t value = 0;
		memcpy(&value, s->stack + at, pointer_len);
		if (value < to || value > to + moved->len)
			continue;
		/* A return address lies behind the instruction, which a far call is a jump short of. */
		for (uint32_t i = 1; i <= moved->count; i++) {
			uint64_t now_at = to + moved->places[i].to;
			if (value != now_at && value + 10 != now_at)
				continue;
			value = RUN + moved->places[i].from;
			memcpy(s->stack + at, &value, pointer_len);
			break;
		}
	}
}

static void fail(const char *what, const uint8_t *bytes, const struct hvmi_insn_moved *moved,
		 uint64_t to, uint32_t mode)
{
	struct hvmi_insn insn = { .size = sizeof(insn) };
	char text[HVMI_INSN_TEXT];
	fprintf(stderr, "%s\n", what);
	for (uint32_t at = 0; at < moved->from_len; at += insn.len) {
		hvmi_insn_decode(mode, RUN + at, bytes + at, 15, &insn, NULL);
		hvmi_insn_text(&insn, text, sizeof(text), NULL);
		fprintf(stderr, "  %" PRIx64 " %s\n", insn.gva, text);
	}
	for (uint32_t at = 0; at < moved->len; at += insn.len) {
		if (hvmi_insn_decode(mode, to + at, moved->bytes + at, moved->len - at, &insn, NULL))
			break;
		hvmi_insn_text(&insn, text, sizeof(text), NULL);
		fprintf(stderr, "    %" PRIx64 " %s\n", insn.gva, text);
	}
	exit(1);
}

static bool same(const struct state *a, const struct state *b, bool stack_used)
{
	/* What lies below the red zone may have been borrowed. */
	size_t dead = stack_used ? MIN(a->highest - 128 - STACK, STACK_BYTES) : 0;
	return !memcmp(a->general, b->general, sizeof(a->general)) && a->flags == b->flags &&
	       !memcmp(a->vectors, b->vectors, sizeof(a->vectors)) &&
	       !memcmp(a->data, b->data, DATA_BYTES) &&
	       !memcmp(a->stack + dead, b->stack + dead, STACK_BYTES - dead);
}

static const char *difference(const struct state *a, const struct state *b)
{
	static char text[128];
	if (a->flags != b->flags) {
		snprintf(text, sizeof(text), "it leaves flags %" PRIx64 " and not %" PRIx64, b->flags,
			 a->flags);
		return text;
	}
	for (uint32_t i = 0; i < 16; i++) {
		if (a->general[i] == b->general[i])
			continue;
		snprintf(text, sizeof(text), "it leaves %" PRIx64 " and not %" PRIx64 " in register %"
			 PRIu32, b->general[i], a->general[i], i);
		return text;
	}
	return "it leaves other vectors or memory";
}

static uint64_t compared, refused, reached_far, faulted;

/* false: it is refused. */
static bool relocate(const struct emulator *e, const uint8_t *bytes, uint32_t len, uint64_t to,
		     struct hvmi_insn_moved *ret)
{
	struct hvmi_error err;
	struct hvmi_insn_move move = {
		.size = sizeof(move), .bytes = bytes, .from = RUN, .to = to, .mode = e->mode,
		.len = len + 15, .need = len,
		.flags = HVMI_MOVE_JUMP_BACK | (to == FAR_PLACE ? HVMI_MOVE_STACK : 0),
	};
	ret->size = sizeof(*ret);
	int rc = hvmi_insn_relocate(&move, ret, &err);
	if (rc && rc != -ENOTSUP)
		FAIL("%s\n", err.text);
	refused += rc != 0;
	return rc == 0;
}

static void compare(struct emulator *e, const struct state *start, const struct state *original,
		    const uint8_t *bytes, const struct hvmi_insn_moved *moved, uint64_t to)
{
	static struct state after;
	TRY(uc_mem_write(e->uc, to, moved->bytes, moved->len));
	execute(e, start, to, moved->len, &after);
	if (after.faulted && now.steps > STEPS_MAX)
		return;		/* what was moved may take more steps */
	if (after.faulted)
		fail("what was moved faults", bytes, moved, to, e->mode);
	translate_returns(&after, moved, to, e->mode == HVMI_INSN_X86_64 ? 8 : 4);
	if (after.left_for != original->left_for)
		fail("it goes to another place", bytes, moved, to, e->mode);
	if (!same(original, &after, to == FAR_PLACE))
		fail(difference(original, &after), bytes, moved, to, e->mode);
	compared++;
	reached_far += to == FAR_PLACE;
}

static void run(uint32_t mode, uint32_t count, uint64_t seed)
{
	static struct state start, original;
	struct emulator e;
	struct hvmi_registers registers;
	uc_hook hook;
	uint8_t bytes[256], nops[4096];
	uint64_t random = seed;
	emulator_open(&e, mode);
	if (mode == HVMI_INSN_X86_64)
		TRY(uc_mem_map(e.uc, FAR_PLACE, 4096, UC_PROT_READ | UC_PROT_EXEC));
	memset(nops, 0x90, sizeof(nops));
	memset(bytes, 0x90, sizeof(bytes));
	TRY(uc_hook_add(e.uc, &hook, UC_HOOK_CODE, (void *)on_instruction, &e, 1, 0));
	for (uint32_t i = 0; i < DATA_BYTES; i += 8) {
		/* Pointers through which calls and jumps may go, not to the run. */
		uint64_t word = CODE + 0xc000 + random_below(&random, 0x3000);
		memcpy(e.data + i, &word, 8);
	}
	for (uint32_t i = 0; i < count; i++) {
		emulator_randomise(&e, &random, &registers);
		for (uint32_t j = 0; j < 256; j++)
			e.stack[STACK_BYTES / 2 + 1536 + random_below(&random, 2048)] =
				(uint8_t)random_next(&random);
		uint32_t len = random_run(&random, mode, bytes);
		memset(bytes + len, 0x90, sizeof(bytes) - len);
		save(&e, &start);
		TRY(uc_mem_write(e.uc, CODE + 0x7000, nops, sizeof(nops)));
		TRY(uc_mem_write(e.uc, RUN, bytes, sizeof(bytes)));
		/* Unicorn aborts on some branches into instructions, which are refused. */
		struct hvmi_insn_moved near, far;
		bool is_near = relocate(&e, bytes, len, NEAR_PLACE, &near);
		bool is_far = mode == HVMI_INSN_X86_64 && relocate(&e, bytes, len, FAR_PLACE, &far);
		if (!is_near)
			continue;
		execute(&e, &start, RUN, len, &original);
		if (original.faulted) {
			faulted++;
			restore(&e, &start);
			continue;
		}
		compare(&e, &start, &original, bytes, &near, NEAR_PLACE);
		if (is_far)
			compare(&e, &start, &original, bytes, &far, FAR_PLACE);
		restore(&e, &start);
	}
	emulator_close(&e);
}

int main(int argc, char **argv)
{
	if (argc < 2)
		FAIL("usage: relocation COUNT [SEED]\n");
	uint32_t count = (uint32_t)strtoul(argv[1], NULL, 0);
	uint64_t seed = argc > 2 ? strtoull(argv[2], NULL, 0) : 88172645463325252ull;
	run(HVMI_INSN_X86_64, count, seed);
	run(HVMI_INSN_X86_32, count, seed);
	printf("%" PRIu64 " runs did the same when moved, %" PRIu64 " of them far away; %" PRIu64
	       " were refused, %" PRIu64 " faulted before\n", compared, reached_far, refused, faulted);
	if (compared < count / 4 || reached_far < count / 10 || !refused)
		FAIL("too few of them could be compared\n");
	return 0;
}
