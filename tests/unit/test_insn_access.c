/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What memory instructions touch, where an emulator is no judge: sizes that depend on the CPU, segments,
 * wrapping, and registers that are not known.
 */
#include "suite.h"
#include <inttypes.h>
#include <string.h>

#include <hvmi/insn.h>

#include "insn_bytes.h"

#define AT 0x401000ull
/* In the texts: r, w, m (both) of gva+len, flags c b u (conditional, bound, unknown), =value, ?if. */
static const struct {
	uint32_t mode;
	const char *hex, *accesses;
} known[] = {
	{ HVMI_INSN_X86_64, "0fae2500000000", "w401007+576b r401207+64b" },	/* xsave of SSE only */
	{ HVMI_INSN_X86_64, "480fc720", "w10000+576b" },			/* xsavec64 */
	{ HVMI_INSN_X86_64, "0fae28", "r10000+576b" },				/* xrstor */
	{ HVMI_INSN_X86_64, "0fae00", "w10000+512b" },				/* fxsave */
	{ HVMI_INSN_X86_64, "c4e26990048a", "rffffffffffffffff+4cbu" },		/* vpgatherdd */
	{ HVMI_INSN_X86_64, "62f17c4a1100", "w10000+64cb" },			/* vmovups {k2} */
	{ HVMI_INSN_X86_64, "0fae38", "r10000+64b" },				/* clflush */
	{ HVMI_INSN_X86_64, "0f1800", "" },					/* prefetch */
	{ HVMI_INSN_X86_64, "0f1f00", "" },
	{ HVMI_INSN_X86_64, "488d00", "" },					/* lea */
	{ HVMI_INSN_X86_64, "f0480fc70e", "m7fff0+16=1122334455667788?" },	/* cmpxchg16b [rsi] */
	{ HVMI_INSN_X86_64, "c70078563412", "w10000+4=12345678" },
	{ HVMI_INSN_X86_64, "48c700ffffffff", "w10000+8=ffffffffffffffff" },
	{ HVMI_INSN_X86_64, "65488b042528000000", "rffff888000000028+8" },	/* gs:[0x28] */
	{ HVMI_INSN_X86_64, "64488b0425f0ffffff", "rffffffffffffffff+8u" },	/* fs is not known */
	{ HVMI_INSN_X86_64, "36488b00", "r10000+8" },				/* ss has no base there */
	{ HVMI_INSN_X86_64, "67488b00", "r10000+8" },
	{ HVMI_INSN_X86_64, "e800000000", "w8fff8+8=401005" },
	{ HVMI_INSN_X86_64, "c8100003", "r8ffe0+16 w8ffe0+32 w8ffd0+8cb" },	/* enter 16, 3 */
	{ HVMI_INSN_X86_64, "0f9200", "w10000+1=1" },				/* setb: CF is set */
	{ HVMI_INSN_X86_64, "f348ab", "w7ffd8+40=10000" },			/* rep stosq, DF */
	{ HVMI_INSN_X86_64, "f3a6", "r7ffec+5b r7fff4+5b" },			/* repe cmpsb */
	{ HVMI_INSN_X86_64, "d7", "r1122334455667788+1" },			/* xlat, AL = 0 */
	{ HVMI_INSN_X86_32, "60", "w18fffc+4=10000 w18fff8+4=5 w18fff4+4=0 w18fff0+4=55667788 "
				  "w18ffec+4=90000 w18ffe8+4=8fff0 w18ffe4+4=7fff0 w18ffe0+4=7fff8" },
	{ HVMI_INSN_X86_32, "8b00", "r510000+4" },				/* ds' base */
	{ HVMI_INSN_X86_32, "678b07", "r507788+4" },				/* [bx] */
	{ HVMI_INSN_X86_16, "66678b4600", "r57fff0+4" },			/* [esi] */
};

static struct hvmi_error err;

static struct hvmi_registers some_registers(void)
{
	static const struct {
		uint32_t id;
		uint64_t value;
	} values[] = {
		{ HVMI_X86_RAX, 0x10000 }, { HVMI_X86_RBX, 0x1122334455667788 }, { HVMI_X86_RCX, 5 },
		{ HVMI_X86_RDX, 0 }, { HVMI_X86_RSI, 0x7fff0 }, { HVMI_X86_RDI, 0x7fff8 },
		{ HVMI_X86_RSP, 0x90000 }, { HVMI_X86_RBP, 0x8fff0 }, { HVMI_X86_RFLAGS, 0x403 },
		{ HVMI_X86_XCR0, 7 }, { HVMI_X86_CS_BASE, 0 }, { HVMI_X86_DS_BASE, 0x500000 },
		{ HVMI_X86_ES_BASE, 0x500000 }, { HVMI_X86_SS_BASE, 0x100000 },
		{ HVMI_X86_SS_RIGHTS, 0xc093 }, { HVMI_X86_GS_BASE, 0xffff888000000000 },
	};
	struct hvmi_registers r = { 0 };
	for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++)
		hvmi_registers_set(&r, values[i].id, values[i].value);
	return r;
}

static void print(const struct hvmi_insn_accesses *told, char *to, size_t size)
{
	*to = 0;
	for (uint32_t i = 1; i < told->count; i++) {
		const struct hvmi_insn_access *a = &told->items[i];
		uint64_t value;
		memcpy(&value, a->value, 8);
		size_t len = strlen(to);
		snprintf(to + len, size - len, "%s%c%" PRIx64 "+%" PRIu64 "%s%s%s", i > 1 ? " " : "",
			 "-rwm"[a->kind], a->gva, a->len, a->flags & HVMI_ACCESS_CONDITIONAL ? "c" : "",
			 a->flags & HVMI_ACCESS_BOUND ? "b" : "",
			 a->flags & HVMI_ACCESS_UNKNOWN ? "u" : "");
		len = strlen(to);
		if (a->flags & HVMI_ACCESS_VALUE)
			snprintf(to + len, size - len, "=%" PRIx64 "%s", value,
				 a->flags & HVMI_ACCESS_VALUE_IF ? "?" : "");
	}
}

static void get(uint32_t mode, const char *hex, const struct hvmi_registers *registers,
		struct hvmi_insn_accesses *ret)
{
	struct hvmi_insn insn = { .size = sizeof(insn) };
	uint8_t bytes[16];
	size_t len = insn_bytes(hex, bytes);
	ck_assert_msg(!hvmi_insn_decode(mode, AT, bytes, len, &insn, &err), "%s", err.text);
	ck_assert_uint_eq(insn.len, len);
	ret->size = sizeof(*ret);
	ck_assert_int_eq(hvmi_insn_get_accesses(&insn, registers, ret, &err), 0);
	ck_assert_uint_eq(ret->items[0].kind, HVMI_RIGHT_EXECUTE);
	ck_assert_uint_eq(ret->items[0].gva, AT);
	ck_assert_uint_eq(ret->items[0].len, len);
}

START_TEST(accesses)
{
	struct hvmi_registers r = some_registers();
	struct hvmi_insn_accesses told;
	char text[512];
	get(known[_i].mode, known[_i].hex, &r, &told);
	print(&told, text, sizeof(text));
	ck_assert_msg(!strcmp(text, known[_i].accesses), "%s: %s", known[_i].hex, text);
}
END_TEST

/* Offsets wrap within their segment, at 64 KiB and at 4 GiB. */
START_TEST(wrapping)
{
	struct hvmi_registers r = some_registers();
	struct hvmi_insn_accesses told;
	char text[512];
	hvmi_registers_set(&r, HVMI_X86_RFLAGS, 2);
	get(HVMI_INSN_X86_16, "f3a4", &r, &told);
	print(&told, text, sizeof(text));
	ck_assert_str_eq(text, "w50fff8+5 r50fff0+5");
	hvmi_registers_set(&r, HVMI_X86_RCX, 0x10010);	/* CX counts */
	get(HVMI_INSN_X86_16, "f3a4", &r, &told);
	print(&told, text, sizeof(text));
	ck_assert_str_eq(text, "w50fff8+8 w500000+8 r50fff0+16");
	hvmi_registers_set(&r, HVMI_X86_RAX, 0xfffffffe);
	get(HVMI_INSN_X86_32, "8b00", &r, &told);
	print(&told, text, sizeof(text));
	ck_assert_str_eq(text, "r4ffffe+2 r500000+2");
	hvmi_registers_set(&r, HVMI_X86_RSP, 0x90002);
	hvmi_registers_set(&r, HVMI_X86_SS_RIGHTS, 0x93);
	get(HVMI_INSN_X86_32, "6a01", &r, &told);
	print(&told, text, sizeof(text));
	ck_assert_str_eq(text, "w10fffe+2 w100000+2");
	/* With AVX, which XCR0 has. */
	hvmi_registers_set(&r, HVMI_X86_RAX, UINT32_MAX);
	get(HVMI_INSN_X86_64, "0fae22", &r, &told);
	ck_assert_uint_eq(told.items[1].len, 832);
	/* No steps, no accesses. */
	hvmi_registers_set(&r, HVMI_X86_RCX, 0);
	get(HVMI_INSN_X86_64, "f348ab", &r, &told);
	ck_assert_uint_eq(told.count, 1);
	/* As many as there is address space. */
	hvmi_registers_set(&r, HVMI_X86_RCX, UINT64_MAX);
	get(HVMI_INSN_X86_64, "f348ab", &r, &told);
	ck_assert_uint_ge(told.count, 2);
}
END_TEST

START_TEST(not_all_told)
{
	static const char *const incomplete[] = { "cd80", "48cf", "ff18", "8ed8", "0f00d8", "cb" };
	struct hvmi_registers none = { 0 }, r = some_registers();
	struct hvmi_insn_accesses told;
	for (size_t i = 0; i < sizeof(incomplete) / sizeof(incomplete[0]); i++) {
		get(HVMI_INSN_X86_64, incomplete[i], &r, &told);
		ck_assert_msg(told.flags & HVMI_ACCESSES_INCOMPLETE, "%s", incomplete[i]);
	}
	get(HVMI_INSN_X86_64, "488b00", &r, &told);
	ck_assert_uint_eq(told.flags, 0);
	/* Without registers everything is unknown, and the count of what is touched is the same. */
	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
		get(known[i].mode, known[i].hex, &none, &told);
		for (uint32_t j = 1; j < told.count; j++)
			ck_assert(told.items[j].flags & HVMI_ACCESS_UNKNOWN || i == 0);
	}
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("insn_access");
	TCase *tcase = tcase_create("insn_access");
	tcase_add_loop_test(tcase, accesses, 0, sizeof(known) / sizeof(known[0]));
	tcase_add_test(tcase, wrapping);
	tcase_add_test(tcase, not_all_told);
	suite_add_tcase(suite, tcase);
	return run_suite(suite);
}
