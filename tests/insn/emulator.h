/* SPDX-License-Identifier: Apache-2.0 */
/* One vCPU of Unicorn with a little memory, and instructions that were made up. */
#ifndef HVMI_TESTS_EMULATOR_H
#define HVMI_TESTS_EMULATOR_H

#include <stdbool.h>
#include <unicorn/unicorn.h>

#include "insn/x86.h"

#define CODE 0x40000000ull
#define CODE_BYTES 0x10000u
#define DATA 0x40100000ull
#define DATA_BYTES 0x10000u
#define STACK 0x40200000ull
#define STACK_BYTES 0x10000u
/* Where the stack pointer begins. */
#define STACK_TOP (STACK + STACK_BYTES / 2 + 2048)

#define FAIL(...) (fprintf(stderr, __VA_ARGS__), exit(1))
#define TRY(call)                                                                                  \
	do {                                                                                       \
		uc_err status_ = (call);                                                           \
		if (status_)                                                                       \
			FAIL("%s:%d: %s\n", __FILE__, __LINE__, uc_strerror(status_));             \
	} while (0)

struct emulator {
	uc_engine *uc;
	uint32_t mode;
	uint8_t *data, *stack;		/* the host's pointers to them */
};

/* Unicorn's id of a general register by its number, of the width of the mode. */
int emulator_general(const struct emulator *e, uint32_t number);

void emulator_open(struct emulator *e, uint32_t mode);
void emulator_close(struct emulator *e);
/* Random registers that point into the data, or are small. */
void emulator_randomise(struct emulator *e, uint64_t *random, struct hvmi_registers *ret);

uint64_t random_next(uint64_t *state);
static inline uint32_t random_below(uint64_t *state, uint32_t end)
{
	return (uint32_t)(random_next(state) >> 16) % end;
}
/*
 * An instruction that an unprivileged program runs and that does not branch; its displacement of 32
 * bits, if it has one, is small, or leads from `gva` into the data.
 */
void random_insn(uint64_t *random, uint32_t mode, uint64_t gva, struct hvmi_insn *ret,
		 struct x86_insn *full);

#endif
