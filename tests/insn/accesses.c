/* SPDX-License-Identifier: Apache-2.0 */
/*
 * accesses COUNT: instructions that were made up run in Unicorn, which reports every read and write;
 * they must be those that the library tells beforehand, and so must be what was written.
 */
#include <inttypes.h>
#include <stdio.h>

#include "emulator.h"

#define SEEN_MAX 4096u

static struct {
	uint64_t gva;
	uint32_t len, kind;
} seen[SEEN_MAX];
static uint32_t seen_count;
static uint64_t values, ran, with_memory;

static void on_memory(uc_engine *uc, uc_mem_type type, uint64_t address, int size, int64_t value,
		      void *context)
{
	(void)uc;
	(void)value;
	(void)context;
	if (seen_count == SEEN_MAX)
		FAIL("too many accesses\n");
	seen[seen_count].gva = address;
	seen[seen_count].len = (uint32_t)size;
	seen[seen_count++].kind = type == UC_MEM_WRITE ? HVMI_RIGHT_WRITE : HVMI_RIGHT_READ;
}

static void fail(const struct hvmi_insn *insn, const struct hvmi_insn_accesses *told,
		 const char *what, uint64_t address)
{
	char text[HVMI_INSN_TEXT];
	hvmi_insn_text(insn, text, sizeof(text), NULL);
	fprintf(stderr, "%s (", text);
	for (uint32_t i = 0; i < insn->len; i++)
		fprintf(stderr, "%02x", insn->bytes[i]);
	fprintf(stderr, "): %s at %" PRIx64 "\n", what, address);
	for (uint32_t i = 0; i < told->count; i++)
		fprintf(stderr, "  told %" PRIx64 "+%" PRIu64 " kind %" PRIu32 " flags %" PRIu32 "\n",
			told->items[i].gva, told->items[i].len, told->items[i].kind,
			told->items[i].flags);
	for (uint32_t i = 0; i < seen_count; i++)
		fprintf(stderr, "  seen %" PRIx64 "+%" PRIu32 " kind %" PRIu32 "\n", seen[i].gva,
			seen[i].len, seen[i].kind);
	exit(1);
}

static bool told_byte(const struct hvmi_insn_accesses *told, uint64_t address, uint32_t kind)
{
	for (uint32_t i = 0; i < told->count; i++)
		if (told->items[i].kind & kind && address - told->items[i].gva < told->items[i].len)
			return true;
	return false;
}

static bool seen_byte(uint64_t address, uint32_t kind)
{
	for (uint32_t i = 0; i < seen_count; i++)
		if (seen[i].kind & kind && address - seen[i].gva < seen[i].len)
			return true;
	return false;
}

static void check_value(const struct emulator *e, const struct hvmi_insn *insn,
			const struct hvmi_insn_accesses *told, const struct hvmi_insn_access *a)
{
	for (uint64_t i = 0; i < a->len; i++) {
		uint8_t byte;
		TRY(uc_mem_read(e->uc, a->gva + i, &byte, 1));
		if (byte != a->value[i % a->value_len])
			fail(insn, told, "another value was written", a->gva + i);
	}
	values++;
}

static void check(const struct emulator *e, const struct hvmi_insn *insn,
		  const struct hvmi_insn_accesses *told)
{
	for (uint32_t i = 0; i < seen_count; i++)
		for (uint32_t byte = 0; byte < seen[i].len; byte++)
			if (!told_byte(told, seen[i].gva + byte, seen[i].kind))
				fail(insn, told, "an access was not told", seen[i].gva + byte);
	for (uint32_t i = 0; i < told->count; i++) {
		const struct hvmi_insn_access *a = &told->items[i];
		if (a->flags & HVMI_ACCESS_UNKNOWN)
			fail(insn, told, "the address is said to be unknown", 0);
		/* QEMU leaves out what is reserved in the environment of the FPU. */
		if (a->flags & (HVMI_ACCESS_CONDITIONAL | HVMI_ACCESS_BOUND) ||
		    (insn->category == HVMI_INSN_FLOAT && a->len > 10) ||
		    a->kind == HVMI_RIGHT_EXECUTE)
			continue;
		for (uint32_t kind = 1; kind <= 2; kind++)
			for (uint64_t byte = 0; a->kind & kind && byte < a->len; byte++)
				if (!seen_byte(a->gva + byte, kind))
					fail(insn, told, "nothing is accessed", a->gva + byte);
		if ((a->flags & (HVMI_ACCESS_VALUE | HVMI_ACCESS_VALUE_IF)) == HVMI_ACCESS_VALUE)
			check_value(e, insn, told, a);
	}
	ran++;
	with_memory += told->count > 1;
}

/* Where QEMU's emulation accesses another number of bytes than CPUs do. */
static bool wrong_in_qemu(const struct x86_insn *full)
{
	switch (full->raw.mnemonic) {
	case ZYDIS_MNEMONIC_ENTER:	/* with levels */
		return full->operands[1].imm.value.u & 31;
	case ZYDIS_MNEMONIC_PUNPCKLBW:	/* of MMX */
	case ZYDIS_MNEMONIC_PUNPCKLWD:
	case ZYDIS_MNEMONIC_PUNPCKLDQ:
		return true;
	case ZYDIS_MNEMONIC_TEST:	/* with the other number in ModRM, the same */
		return full->raw.raw.modrm.reg == 1 && full->raw.raw.imm[0].size;
	case ZYDIS_MNEMONIC_SHLD:	/* forgets the immediate behind the displacement */
	case ZYDIS_MNEMONIC_SHRD:
		return full->raw.raw.imm[0].size;
	case ZYDIS_MNEMONIC_FLDENV:	/* takes REX.W for a third size */
	case ZYDIS_MNEMONIC_FNSTENV:
	case ZYDIS_MNEMONIC_FRSTOR:
	case ZYDIS_MNEMONIC_FNSAVE:
		return full->raw.attributes & ZYDIS_ATTRIB_HAS_REX && full->raw.raw.rex.W;
	default:
		return full->raw.meta.category == ZYDIS_CATEGORY_CONVERT ||
		       full->raw.meta.category == ZYDIS_CATEGORY_MPX;
	}
}

/* Unicorn reports the words on both sides of a border of pages whole. */
static bool crosses(const struct hvmi_insn_accesses *told)
{
	for (uint32_t i = 1; i < told->count; i++)
		if (told->items[i].gva >> 12 != (told->items[i].gva + told->items[i].len - 1) >> 12 &&
		    told->items[i].unit > 1)
			return true;
	return false;
}

static void run(uint32_t mode, uint32_t count, uint64_t seed)
{
	struct emulator e;
	struct hvmi_insn insn;
	struct x86_insn full;
	struct hvmi_registers registers;
	struct hvmi_insn_accesses told = { .size = sizeof(told) };
	struct hvmi_error err;
	uc_hook hook;
	uint64_t random = seed, at = CODE;
	emulator_open(&e, mode);
	TRY(uc_hook_add(e.uc, &hook, UC_HOOK_MEM_READ | UC_HOOK_MEM_WRITE, (void *)on_memory, NULL, 1,
			0));
	for (uint32_t i = 0; i < count; i++, at += 16) {
		if (at >= CODE + CODE_BYTES - 32)
			at = CODE;
		random_insn(&random, mode, at, &insn, &full);
		emulator_randomise(&e, &random, &registers);
		if (insn.category == HVMI_INSN_STRING) {
			uint64_t steps = random_below(&random, 40);
			hvmi_registers_set(&registers, HVMI_X86_RCX, steps);
			TRY(uc_reg_write(e.uc, mode == HVMI_INSN_X86_64 ? UC_X86_REG_RCX :
					 UC_X86_REG_ECX, &steps));
		}
		if (hvmi_insn_get_accesses(&insn, &registers, &told, &err))
			FAIL("%s\n", err.text);
		TRY(uc_mem_write(e.uc, at, insn.bytes, insn.len));
		TRY(uc_ctl_remove_cache(e.uc, at, at + 16));
		seen_count = 0;
		uint64_t end = 0;
		uc_err status = uc_emu_start(e.uc, at, at + insn.len, 0, 0);
		TRY(uc_reg_read(e.uc, UC_X86_REG_RIP, &end));
		if (status == UC_ERR_OK && end == at + insn.len &&
		    !wrong_in_qemu(&full) && !crosses(&told))
			check(&e, &insn, &told);
	}
	emulator_close(&e);
}

int main(int argc, char **argv)
{
	if (argc < 2)
		FAIL("usage: accesses COUNT [SEED]\n");
	uint32_t count = (uint32_t)strtoul(argv[1], NULL, 0);
	uint64_t seed = argc > 2 ? strtoull(argv[2], NULL, 0) : 88172645463325252ull;
	run(HVMI_INSN_X86_64, count, seed);
	run(HVMI_INSN_X86_32, count, seed);
	printf("%" PRIu64 " instructions ran, %" PRIu64 " of them touched memory, %" PRIu64
	       " values were as told\n", ran, with_memory, values);
	if (with_memory < count / 10 || values < count / 100)
		FAIL("too few of them could run\n");
	return 0;
}
