/* SPDX-License-Identifier: Apache-2.0 */
/* Decoding instructions, from bytes and from spaces. */
#include "suite.h"
#include <stdlib.h>
#include <string.h>

#include <hvmi/insn.h>

#include "insn_bytes.h"
#include "machine.h"

#define AT 0x401000ull

#ifdef HVMI_HAVE_ZYDIS
#define X86 true
#else
#define X86 false
#endif
#ifdef HVMI_HAVE_CAPSTONE
#define ARM64 true
#else
#define ARM64 false
#endif

static struct hvmi_error err;

static const struct {
	uint32_t mode;
	const char *hex;
	const char *text;	/* NULL: not compared */
	uint32_t category, flags;
	uint64_t target;
} known[] = {
	{ HVMI_INSN_X86_64, "90", "nop", HVMI_INSN_NOP, 0, HVMI_NO_ADDRESS },
	{ HVMI_INSN_X86_64, "f30f1efa", "endbr64", HVMI_INSN_NOP, 0, HVMI_NO_ADDRESS },
	{ HVMI_INSN_X86_64, "55", "push rbp", HVMI_INSN_STACK, 0, HVMI_NO_ADDRESS },
	{ HVMI_INSN_X86_64, "e8fbffffff", "call 0x0000000000401000", HVMI_INSN_CALL,
	  HVMI_INSN_RELATIVE, AT },
	{ HVMI_INSN_X86_64, "ffd0", "call rax", HVMI_INSN_CALL, HVMI_INSN_INDIRECT, HVMI_NO_ADDRESS },
	{ HVMI_INSN_X86_64, "ff2500000000", "jmp [0x0000000000401006]", HVMI_INSN_JUMP,
	  HVMI_INSN_INDIRECT | HVMI_INSN_ENDS | HVMI_INSN_RELATIVE, HVMI_NO_ADDRESS },
	{ HVMI_INSN_X86_64, "ff28", NULL, HVMI_INSN_JUMP,
	  HVMI_INSN_INDIRECT | HVMI_INSN_ENDS | HVMI_INSN_FAR, HVMI_NO_ADDRESS },
	{ HVMI_INSN_X86_64, "74fe", "jz 0x0000000000401000", HVMI_INSN_JUMP,
	  HVMI_INSN_CONDITIONAL | HVMI_INSN_RELATIVE, AT },
	{ HVMI_INSN_X86_64, "e300", "jrcxz 0x0000000000401002", HVMI_INSN_JUMP,
	  HVMI_INSN_CONDITIONAL | HVMI_INSN_RELATIVE, AT + 2 },
	{ HVMI_INSN_X86_64, "ebfe", NULL, HVMI_INSN_JUMP, HVMI_INSN_ENDS | HVMI_INSN_RELATIVE, AT },
	{ HVMI_INSN_X86_64, "c3", "ret", HVMI_INSN_RETURN, HVMI_INSN_INDIRECT | HVMI_INSN_ENDS,
	  HVMI_NO_ADDRESS },
	{ HVMI_INSN_X86_64, "48cf", "iretq", HVMI_INSN_SYSTEM_RETURN, HVMI_INSN_ENDS,
	  HVMI_NO_ADDRESS },
	{ HVMI_INSN_X86_64, "480f07", NULL, HVMI_INSN_SYSTEM_RETURN,
	  HVMI_INSN_ENDS | HVMI_INSN_PRIVILEGED, HVMI_NO_ADDRESS },
	{ HVMI_INSN_X86_64, "0f05", "syscall", HVMI_INSN_SYSTEM_CALL, 0, HVMI_NO_ADDRESS },
	{ HVMI_INSN_X86_64, "cc", "int3", HVMI_INSN_INTERRUPT, 0, HVMI_NO_ADDRESS },
	{ HVMI_INSN_X86_64, "0f0b", "ud2", HVMI_INSN_INTERRUPT, HVMI_INSN_ENDS, HVMI_NO_ADDRESS },
	{ HVMI_INSN_X86_64, "0f22d8", "mov cr3, rax", HVMI_INSN_SYSTEM, HVMI_INSN_PRIVILEGED,
	  HVMI_NO_ADDRESS },
	{ HVMI_INSN_X86_64, "0f30", "wrmsr", HVMI_INSN_SYSTEM, HVMI_INSN_PRIVILEGED, HVMI_NO_ADDRESS },
	{ HVMI_INSN_X86_64, "f4", "hlt", HVMI_INSN_SYSTEM, HVMI_INSN_PRIVILEGED, HVMI_NO_ADDRESS },
	{ HVMI_INSN_X86_64, "f348ab", "rep stosq", HVMI_INSN_STRING, HVMI_INSN_REPEATED,
	  HVMI_NO_ADDRESS },
	{ HVMI_INSN_X86_64, "f0480fc70f", NULL, HVMI_INSN_OTHER, HVMI_INSN_LOCKED, HVMI_NO_ADDRESS },
	{ HVMI_INSN_X86_64, "488b0511000000", "mov rax, [0x0000000000401018]", HVMI_INSN_OTHER,
	  HVMI_INSN_RELATIVE, HVMI_NO_ADDRESS },
	{ HVMI_INSN_X86_64, "0f1003", NULL, HVMI_INSN_VECTOR, 0, HVMI_NO_ADDRESS },
	{ HVMI_INSN_X86_64, "d9e8", NULL, HVMI_INSN_FLOAT, 0, HVMI_NO_ADDRESS },
	{ HVMI_INSN_X86_64, "ec", NULL, HVMI_INSN_IO, 0, HVMI_NO_ADDRESS },
	{ HVMI_INSN_X86_32, "60", "pushad", HVMI_INSN_STACK, 0, HVMI_NO_ADDRESS },
	{ HVMI_INSN_X86_32, "40", "inc eax", HVMI_INSN_OTHER, 0, HVMI_NO_ADDRESS },
	{ HVMI_INSN_X86_32, "e9fbefbfff", NULL, HVMI_INSN_JUMP, HVMI_INSN_ENDS | HVMI_INSN_RELATIVE,
	  0 },
	{ HVMI_INSN_X86_32, "ea000000000800", NULL, HVMI_INSN_JUMP, HVMI_INSN_ENDS | HVMI_INSN_FAR,
	  HVMI_NO_ADDRESS },
	{ HVMI_INSN_X86_16, "e80000", NULL, HVMI_INSN_CALL, HVMI_INSN_RELATIVE, AT + 3 },
	{ HVMI_INSN_X86_16, "b83412", "mov ax, 0x1234", HVMI_INSN_OTHER, 0, HVMI_NO_ADDRESS },
	{ HVMI_INSN_ARM64, "1f2003d5", "nop", HVMI_INSN_NOP, 0, HVMI_NO_ADDRESS },
	{ HVMI_INSN_ARM64, "00000014", "b #0x401000", HVMI_INSN_JUMP,
	  HVMI_INSN_ENDS | HVMI_INSN_RELATIVE, AT },
	{ HVMI_INSN_ARM64, "01000094", "bl #0x401004", HVMI_INSN_CALL, HVMI_INSN_RELATIVE, AT + 4 },
	{ HVMI_INSN_ARM64, "40000054", "b.eq #0x401008", HVMI_INSN_JUMP,
	  HVMI_INSN_CONDITIONAL | HVMI_INSN_RELATIVE, AT + 8 },
	{ HVMI_INSN_ARM64, "400000b4", NULL, HVMI_INSN_JUMP,
	  HVMI_INSN_CONDITIONAL | HVMI_INSN_RELATIVE, AT + 8 },
	{ HVMI_INSN_ARM64, "40000036", NULL, HVMI_INSN_JUMP,
	  HVMI_INSN_CONDITIONAL | HVMI_INSN_RELATIVE, AT + 8 },
	{ HVMI_INSN_ARM64, "c0035fd6", "ret", HVMI_INSN_RETURN, HVMI_INSN_INDIRECT | HVMI_INSN_ENDS,
	  HVMI_NO_ADDRESS },
	{ HVMI_INSN_ARM64, "00021fd6", "br x16", HVMI_INSN_JUMP, HVMI_INSN_INDIRECT | HVMI_INSN_ENDS,
	  HVMI_NO_ADDRESS },
	{ HVMI_INSN_ARM64, "010000d4", "svc #0", HVMI_INSN_SYSTEM_CALL, 0, HVMI_NO_ADDRESS },
	{ HVMI_INSN_ARM64, "e0039fd6", "eret", HVMI_INSN_SYSTEM_RETURN,
	  HVMI_INSN_PRIVILEGED | HVMI_INSN_ENDS, HVMI_NO_ADDRESS },
	{ HVMI_INSN_ARM64, "002018d5", "msr ttbr0_el1, x0", HVMI_INSN_SYSTEM, HVMI_INSN_PRIVILEGED,
	  HVMI_NO_ADDRESS },
	{ HVMI_INSN_ARM64, "41d03bd5", NULL, HVMI_INSN_SYSTEM, 0, HVMI_NO_ADDRESS },
	{ HVMI_INSN_ARM64, "40000058", NULL, HVMI_INSN_OTHER, HVMI_INSN_RELATIVE, HVMI_NO_ADDRESS },
	{ HVMI_INSN_ARM64, "40000010", NULL, HVMI_INSN_OTHER, HVMI_INSN_RELATIVE, HVMI_NO_ADDRESS },
};

START_TEST(instruction)
{
	struct hvmi_insn insn = { .size = sizeof(insn) };
	uint8_t bytes[16];
	char text[HVMI_INSN_TEXT];
	size_t len = insn_bytes(known[_i].hex, bytes);
	int rc = hvmi_insn_decode(known[_i].mode, AT, bytes, len, &insn, &err);
	if (!(known[_i].mode == HVMI_INSN_ARM64 ? ARM64 : X86)) {
		ck_assert_int_eq(rc, -ENOTSUP);
		return;
	}
	ck_assert_msg(rc == 0, "%s: %s", known[_i].hex, err.text);
	ck_assert_uint_eq(insn.len, len);
	ck_assert_uint_eq(insn.gva, AT);
	ck_assert_mem_eq(insn.bytes, bytes, len);
	ck_assert_msg(insn.category == known[_i].category, "%s: category %u", known[_i].hex,
		      insn.category);
	ck_assert_msg(insn.flags == known[_i].flags, "%s: flags %u", known[_i].hex, insn.flags);
	ck_assert_msg(insn.target == known[_i].target, "%s", known[_i].hex);
	ck_assert_int_eq(hvmi_insn_text(&insn, text, sizeof(text), &err), 0);
	if (known[_i].text)
		ck_assert_str_eq(text, known[_i].text);
	ck_assert_int_eq(hvmi_insn_text(&insn, text, strlen(text), &err), -EOVERFLOW);
	/* All but its last byte are no instruction. */
	struct hvmi_insn untouched = insn;
	ck_assert_int_lt(hvmi_insn_decode(known[_i].mode, AT, bytes, len - 1, &insn, &err), 0);
	ck_assert_int_eq(err.code, -EOVERFLOW);
	ck_assert_mem_eq(&insn, &untouched, sizeof(insn));
}
END_TEST

START_TEST(refusals)
{
	struct hvmi_insn insn = { .size = sizeof(insn) };
	char text[HVMI_INSN_TEXT];
	ck_assert_int_eq(hvmi_insn_decode(0, AT, "\x90", 1, &insn, &err), -EINVAL);
	ck_assert_int_eq(hvmi_insn_decode(5, AT, "\x90", 1, &insn, &err), -EINVAL);
	ck_assert_int_eq(hvmi_insn_text(&insn, text, sizeof(text), &err), -EINVAL);
	if (X86) {
		ck_assert_int_eq(hvmi_insn_decode(HVMI_INSN_X86_64, AT, "\x90", 1, &insn, &err), 0);
		ck_assert_int_eq(hvmi_insn_decode(HVMI_INSN_X86_64, AT, "\x06", 1, &insn, &err),
				 -EBADMSG);
		ck_assert_uint_eq(err.address, AT);
		ck_assert_ptr_nonnull(strstr(err.text, "06"));
		/* Prefixes without end. */
		ck_assert_int_eq(hvmi_insn_decode(HVMI_INSN_X86_64, AT,
						  "ffffffffffffffffffffffff", 24, &insn, &err),
				 -EBADMSG);
		insn.size = 0;
		ck_assert_int_eq(hvmi_insn_decode(HVMI_INSN_X86_64, AT, "\x90", 1, &insn, &err),
				 -EINVAL);
		insn.size = sizeof(insn);
	}
	if (ARM64) {
		ck_assert_int_eq(hvmi_insn_decode(HVMI_INSN_ARM64, AT + 2, "\x1f\x20\x03\xd5", 4,
						  &insn, &err), -EBADMSG);
		ck_assert_int_eq(hvmi_insn_decode(HVMI_INSN_ARM64, AT, "\0\0\0\0", 4, &insn, &err),
				 -EBADMSG);
	}
}
END_TEST

static struct hvmi_registers mode_registers(uint64_t cr0, uint64_t efer, uint64_t rights,
					    uint64_t rflags)
{
	struct hvmi_registers r = { 0 };
	hvmi_registers_set(&r, HVMI_X86_CR0, cr0);
	hvmi_registers_set(&r, HVMI_X86_EFER, efer);
	hvmi_registers_set(&r, HVMI_X86_CS_RIGHTS, rights);
	hvmi_registers_set(&r, HVMI_X86_RFLAGS, rflags);
	return r;
}

START_TEST(modes)
{
	static const struct {
		uint64_t cr0, efer, rights, rflags;
		uint32_t mode;
	} cases[] = {
		{ 0x80000001, 0x500, 0xa09b, 2, HVMI_INSN_X86_64 },
		{ 0x80000001, 0x500, 0xc09b, 2, HVMI_INSN_X86_32 },
		{ 0x80000001, 0x500, 0x809b, 2, HVMI_INSN_X86_16 },
		{ 0x80000001, 0, 0xe09b, 2, HVMI_INSN_X86_32 },
		{ 0x80000001, 0, 0xc09b, 0x20002, HVMI_INSN_X86_16 },
		{ 0, 0, 0xc09b, 2, HVMI_INSN_X86_16 },
	};
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct hvmi_registers r = mode_registers(cases[i].cr0, cases[i].efer,
							 cases[i].rights, cases[i].rflags);
		uint32_t mode = 0;
		ck_assert_int_eq(hvmi_insn_mode(&r, &mode, &err), 0);
		ck_assert_uint_eq(mode, cases[i].mode);
		r.known[HVMI_X86_EFER / 64] &= ~(1ull << HVMI_X86_EFER % 64);
		ck_assert_int_eq(hvmi_insn_mode(&r, &mode, &err), -ENOTSUP);
	}
}
END_TEST

/* Without paging, and RAM that ends at 1 MiB. */
START_TEST(in_a_space)
{
	struct hvmi_vm *vm = machine_open(HVMI_OPEN_WRITE, "ram 0 1M\n");
	struct hvmi_space_config config = { .size = sizeof(config), .paging = HVMI_PAGING_NONE };
	struct hvmi_insn insn = { .size = sizeof(insn) };
	struct hvmi_space *space;
	uint8_t bytes[16];
	ck_assert_int_eq(hvmi_space_create(vm, &config, &space, &err), 0);
	if (!X86)
		goto end;
	size_t len = insn_bytes("c7050010400078563412", bytes);
	for (size_t here = 1; here <= len; here++) {
		/* Across a border: with memory behind it ... */
		ck_assert_int_eq(hvmi_vm_write(vm, 0x3000 - here, bytes, len, NULL), 0);
		ck_assert_int_eq(hvmi_insn_read(space, HVMI_INSN_X86_32, 0x3000 - here, &insn, &err),
				 0);
		ck_assert_uint_eq(insn.len, len);
		ck_assert_mem_eq(insn.bytes, bytes, len);
		/* ... and without, where only what goes on there fails. */
		ck_assert_int_eq(hvmi_vm_write(vm, 0x100000 - here, bytes, here, NULL), 0);
		int rc = hvmi_insn_read(space, HVMI_INSN_X86_32, 0x100000 - here, &insn, &err);
		ck_assert_int_eq(rc, here == len ? 0 : -EFAULT);
		if (here < len)
			ck_assert_uint_eq(err.address, 0x100000);
	}
	ck_assert_int_eq(hvmi_insn_read(space, HVMI_INSN_X86_32, 0x200000, &insn, &err), -EFAULT);
	ck_assert_uint_eq(err.address, 0x200000);
	ck_assert_int_eq(hvmi_vm_write(vm, 0x5000, "\xff\xff", 2, NULL), 0);
	ck_assert_int_eq(hvmi_insn_read(space, HVMI_INSN_X86_32, 0x5000, &insn, &err), -EBADMSG);
end:
	hvmi_space_destroy(space);
	hvmi_close(vm);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("insn");
	TCase *tcase = tcase_create("insn");
	tcase_add_loop_test(tcase, instruction, 0, sizeof(known) / sizeof(known[0]));
	tcase_add_test(tcase, refusals);
	tcase_add_test(tcase, modes);
	tcase_add_test(tcase, in_a_space);
	suite_add_tcase(suite, tcase);
	return run_suite(suite);
}
