/* SPDX-License-Identifier: Apache-2.0 */
/* How the accesses of an instruction are collected. */
#ifndef HVMI_LIB_INSN_ACCESS_H
#define HVMI_LIB_INSN_ACCESS_H

#include "insn/x86.h"

struct access_list {
	struct x86_insn insn;
	const struct hvmi_insn *public;
	const struct hvmi_registers *registers;
	uint32_t stack_width;	/* bits of the stack pointer: SS.B decides outside of 64-bit mode */
	struct hvmi_insn_accesses out;
};

/* A general register, segment selector or RIP of Zydis; -1: not known or of another kind. */
int access_register(const struct access_list *list, ZydisRegister reg, uint64_t *ret);
/* The base of a segment; 0 of those that 64-bit mode ignores. -1: not known. */
int access_segment_base(const struct access_list *list, ZydisRegister segment, uint64_t *ret);
/* The offset in its segment that a memory operand names, wrapped. -1: a register is not known. */
int access_offset(const struct access_list *list, const ZydisDecodedOperandMem *mem, uint64_t *ret);
/* HVMI_RIGHT_* of an operand's actions. */
uint32_t access_kind(const ZydisDecodedOperand *operand);

/*
 * Add an access of `len` bytes at an offset that wraps at `width` bits; two where it does. What does
 * not fit makes the list incomplete. NULL: nothing was added, or there were two; else the one.
 */
struct hvmi_insn_access *access_add(struct access_list *list, ZydisRegister segment, uint64_t offset,
				    uint32_t width, uint64_t len, uint32_t kind, uint32_t flags);
/* The same where the address is not known. */
struct hvmi_insn_access *access_add_unknown(struct access_list *list, uint64_t len, uint32_t kind,
					    uint32_t flags);

/* What the instruction does to the stack; the caller adds what else it touches. */
void access_stack(struct access_list *list);
/* How far a POP has moved the stack pointer when it computes the address of its operand. */
uint64_t access_pop_shift(const struct access_list *list, const ZydisDecodedOperandMem *mem);
void access_string(struct access_list *list);
/* XSAVE and its kin. */
void access_xsave(struct access_list *list, const ZydisDecodedOperand *operand);

/* Tell what is going to be written to the memory operand, if it is known. */
void access_value(const struct access_list *list, struct hvmi_insn_access *access);
void access_set_value(struct hvmi_insn_access *access, const void *value, uint32_t len);

#endif
