/* SPDX-License-Identifier: Apache-2.0 */
/* A run of instructions on its way to another address. */
#ifndef HVMI_LIB_INSN_RELOCATE_H
#define HVMI_LIB_INSN_RELOCATE_H

#include "insn/x86.h"

struct mover {
	struct hvmi_insn_move move;
	struct hvmi_insn insns[HVMI_MOVE_COUNT];
	struct hvmi_insn_moved out;	/* len: where the next byte goes */
	struct hvmi_error *err;
};

/* Append bytes. What does not fit is counted all the same, and noticed at the end. */
void mover_put(struct mover *m, const void *bytes, size_t len);
void mover_put_number(struct mover *m, uint64_t value, size_t len);

/*
 * Whether a displacement of the mode's width reaches an address from wherever in the moved code. It is
 * asked before places are known, so it leaves a margin of all of that code.
 */
bool mover_reaches(const struct mover *m, uint64_t address);

/* -ENOTSUP, with a sentence that ends in `why`. */
int mover_refuse(struct mover *m, const struct hvmi_insn *insn, const char *why);

/* A jump to anywhere. */
int mover_jump(struct mover *m, const struct hvmi_insn *insn, uint64_t to);
/* A branch relative to its address. */
int mover_branch(struct mover *m, const struct hvmi_insn *insn, const ZydisDecodedInstruction *raw);
/* An instruction with an operand relative to RIP. */
int mover_operand(struct mover *m, const struct hvmi_insn *insn, const ZydisDecodedInstruction *raw);

#endif
