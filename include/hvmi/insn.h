/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file insn.h
 * Instructions: decode them, say what memory they touch, move them elsewhere.
 *
 * x86 of 16, 32 and 64 bits is decoded by Zydis, arm64 by Capstone. A library built without one of them
 * says -ENOTSUP for its instructions. Nothing here needs a machine but hvmi_insn_read(); all of it is
 * pure and may be called from any number of threads. Section numbers are those of the Intel SDM (2023-06).
 */
#ifndef HVMI_INSN_H
#define HVMI_INSN_H

#include <hvmi/registers.h>
#include <hvmi/space.h>

#ifdef __cplusplus
extern "C" {
#endif

/** How bytes are decoded. */
enum hvmi_insn_mode {
	HVMI_INSN_X86_16 = 1,	/**< real mode, virtual-8086 mode, 16-bit segments */
	HVMI_INSN_X86_32 = 2,
	HVMI_INSN_X86_64 = 3,
	HVMI_INSN_ARM64 = 4
};

/** What an instruction is for. */
enum hvmi_insn_category {
	HVMI_INSN_OTHER = 0,
	HVMI_INSN_CALL = 1,
	HVMI_INSN_RETURN = 2,	/**< from a call */
	HVMI_INSN_JUMP = 3,	/**< conditional ones have HVMI_INSN_CONDITIONAL */
	HVMI_INSN_INTERRUPT = 4,	/**< INT, INT3, INT1, INTO, UD; BRK, HLT, HVC, SMC, SVC of arm64 */
	HVMI_INSN_SYSTEM_CALL = 5,	/**< SYSCALL, SYSENTER */
	HVMI_INSN_SYSTEM_RETURN = 6,	/**< SYSRET, SYSEXIT, IRET; ERET of arm64 */
	HVMI_INSN_STACK = 7,	/**< PUSH, POP, ENTER, LEAVE and the like */
	HVMI_INSN_STRING = 8,	/**< MOVS, STOS, LODS, CMPS, SCAS, INS, OUTS */
	HVMI_INSN_IO = 9,	/**< IN, OUT */
	HVMI_INSN_VECTOR = 10,	/**< SSE, AVX and the like */
	HVMI_INSN_FLOAT = 11,	/**< x87 */
	HVMI_INSN_SYSTEM = 12,	/**< control registers, MSRs, descriptor tables, virtualisation */
	HVMI_INSN_NOP = 13
};

/** hvmi_insn.flags: needs CPL 0, not considering IOPL; EL1 or higher. */
#define HVMI_INSN_PRIVILEGED 1u
/** hvmi_insn.flags: whether it goes to its target depends on flags or registers. */
#define HVMI_INSN_CONDITIONAL 2u
/** hvmi_insn.flags: control flow goes to where a register or memory says. */
#define HVMI_INSN_INDIRECT 4u
/** hvmi_insn.flags: what follows it is not what runs next: JMP, RET, IRET, UD2 and the like. */
#define HVMI_INSN_ENDS 8u
/** hvmi_insn.flags: REP, REPE or REPNE is in effect. */
#define HVMI_INSN_REPEATED 16u
/** hvmi_insn.flags: LOCK is in effect. */
#define HVMI_INSN_LOCKED 32u
/** hvmi_insn.flags: a far branch, which loads CS. */
#define HVMI_INSN_FAR 64u
/** hvmi_insn.flags: an operand is relative to the instruction's address. */
#define HVMI_INSN_RELATIVE 128u

/** No instruction is longer. */
#define HVMI_INSN_BYTES 15u

/** One instruction. Set size. */
struct hvmi_insn {
	size_t size;		/**< sizeof(struct hvmi_insn) */
	uint64_t gva;		/**< linear: CS's base is in it */
	/**
	 * Where a direct jump or call leads, else HVMI_NO_ADDRESS. Linear; that IP wraps at the end of
	 * a 16-bit segment is not considered.
	 */
	uint64_t target;
	uint32_t mode;		/**< enum hvmi_insn_mode */
	uint32_t category;	/**< enum hvmi_insn_category */
	uint32_t flags;		/**< HVMI_INSN_* */
	uint32_t len;		/**< bytes, 1 to HVMI_INSN_BYTES */
	uint8_t bytes[16];	/**< the first @ref len of them are the instruction */
};

/**
 * How a vCPU decodes now, from CR0, EFER, RFLAGS and CS. -ENOTSUP: one that matters is not known.
 */
HVMI_API int hvmi_insn_mode(const struct hvmi_registers *registers, uint32_t *ret,
			    struct hvmi_error *err);

/**
 * Decode the first instruction in @p bytes.
 * @param gva  where they are in the guest
 * @param len  bytes there are; more than HVMI_INSN_BYTES are not looked at
 * @return -EBADMSG: no instruction; -EOVERFLOW: it goes on behind @p len bytes; -EINVAL: no such mode;
 *         -ENOTSUP: the library was built without the decoder
 */
HVMI_API int hvmi_insn_decode(uint32_t mode, uint64_t gva, const void *bytes, size_t len,
			      struct hvmi_insn *ret, struct hvmi_error *err);

/**
 * Decode the instruction at an address of a space. The next page is read only where the instruction
 * reaches into it.
 * @return -EFAULT: it, or the rest of it, is not mapped, and @p err says which address; else as
 *         hvmi_space_read() and hvmi_insn_decode()
 */
HVMI_API int hvmi_insn_read(struct hvmi_space *space, uint32_t mode, uint64_t gva,
			    struct hvmi_insn *ret, struct hvmi_error *err);

/** Bytes that hold every text of hvmi_insn_text(). */
#define HVMI_INSN_TEXT 160u

/**
 * An instruction in words: Intel's syntax, "mov rax, [0x00000000004011c5]"; Arm's for arm64.
 * -EOVERFLOW: @p size is too small; else as hvmi_insn_decode().
 */
HVMI_API int hvmi_insn_text(const struct hvmi_insn *insn, char *buf, size_t size,
			    struct hvmi_error *err);

/** hvmi_insn_access.flags: it may or may not happen: a mask, a comparison, or a count decides. */
#define HVMI_ACCESS_CONDITIONAL 1u
/** hvmi_insn_access.flags: not all of @ref len need be touched. */
#define HVMI_ACCESS_BOUND 2u
/** hvmi_insn_access.flags: no operand names it: the stack, string operations, the fetch. */
#define HVMI_ACCESS_IMPLICIT 4u
/**
 * hvmi_insn_access.flags: the address depends on registers that are not known, as vector registers
 * never are; gva is HVMI_NO_ADDRESS.
 */
#define HVMI_ACCESS_UNKNOWN 8u
/** hvmi_insn_access.flags: @ref value is what is going to be written. */
#define HVMI_ACCESS_VALUE 16u
/**
 * hvmi_insn_access.flags: with HVMI_ACCESS_VALUE: only if a comparison with memory succeeds, else what
 * is there is written again (CMPXCHG and its kin).
 */
#define HVMI_ACCESS_VALUE_IF 32u

/** Bytes of a value that can be told. */
#define HVMI_ACCESS_VALUE_MAX 16u

/** One access. Never grows. */
struct hvmi_insn_access {
	uint64_t gva;		/**< linear; the lowest byte */
	uint64_t len;		/**< bytes, not 0; UINT64_MAX: the whole address space */
	uint32_t kind;		/**< HVMI_RIGHT_READ, _WRITE, _EXECUTE */
	uint32_t flags;		/**< HVMI_ACCESS_* */
	uint32_t unit;		/**< bytes of one step; less than len where it is repeated */
	uint32_t value_len;	/**< with HVMI_ACCESS_VALUE: bytes of it, which repeat over len */
	uint8_t value[HVMI_ACCESS_VALUE_MAX];	/**< little-endian */
};

/** hvmi_insn_accesses.flags: some are not listed: descriptors, TSS, IDT, stacks of other rings, tiles. */
#define HVMI_ACCESSES_INCOMPLETE 1u

/** Accesses that are listed at most; no instruction has more. */
#define HVMI_ACCESSES_MAX 16u

/** All accesses of one instruction. Set size. */
struct hvmi_insn_accesses {
	size_t size;		/**< sizeof(struct hvmi_insn_accesses) */
	uint32_t count;
	uint32_t flags;		/**< HVMI_ACCESSES_* */
	struct hvmi_insn_access items[HVMI_ACCESSES_MAX];
};

/**
 * What memory an x86 instruction touches when it runs with these registers; the first is its own fetch.
 * An instruction that both reads and writes an operand has one access with both rights. What a page
 * walk, a shadow stack or a fault touches is not listed.
 *
 * - REP is one access over all that is left (two where the address wraps), and nothing if the count is
 *   0; for CMPS and SCAS with HVMI_ACCESS_BOUND, because what is compared may end it.
 * - CMOV reads, and CMPXCHG, CMPXCHG8B and CMPXCHG16B write, whatever they decide, as CPUs do.
 * - Gathers and scatters have one access with HVMI_ACCESS_UNKNOWN. Masked moves have all of their
 *   operand with HVMI_ACCESS_CONDITIONAL and HVMI_ACCESS_BOUND, also where the mask is in a register.
 * - XSAVE and its kin depend on CPUID leaf 0Dh, which is not known: len is what the largest known layout
 *   needs for the components that XCR0 and EDX:EAX select (all that are known, if XCR0 is not; those of
 *   XSS too for XSAVES and XRSTORS), with HVMI_ACCESS_BOUND. FXSAVE has 512 bytes, as a bound.
 * - Prefetches and NOP touch nothing; CLFLUSH and its kin read their line of 64 bytes.
 *
 * @param insn       of hvmi_insn_decode() or hvmi_insn_read()
 * @param registers  of the vCPU, before the instruction runs
 * @return -ENOTSUP: an instruction of arm64, or the library was built without Zydis; else as
 *         hvmi_insn_decode()
 */
HVMI_API int hvmi_insn_get_accesses(const struct hvmi_insn *insn,
				    const struct hvmi_registers *registers,
				    struct hvmi_insn_accesses *ret, struct hvmi_error *err);

/** hvmi_insn_move.flags: append a jump to what follows the run, if the run gets there. */
#define HVMI_MOVE_JUMP_BACK 1u
/**
 * hvmi_insn_move.flags: refuse what leaves its own address where others see it: CALL, SYSCALL, INT.
 * Without it they leave an address in the moved code, to which they return.
 */
#define HVMI_MOVE_NO_RETURNS 2u
/**
 * hvmi_insn_move.flags: operands out of reach may borrow a register that is kept on the stack
 * meanwhile, 128 bytes (the red zone of System V) below its top.
 */
#define HVMI_MOVE_STACK 4u

/** Bytes of a run at most. */
#define HVMI_MOVE_BYTES 128u
/** Instructions of a run at most. */
#define HVMI_MOVE_COUNT 64u
/** Bytes that a run has at most once moved. */
#define HVMI_MOVED_BYTES 1280u

/** A run of instructions and where it goes. Zero it, set size, then the rest. */
struct hvmi_insn_move {
	size_t size;		/**< sizeof(struct hvmi_insn_move) */
	const void *bytes;	/**< the run, and what follows it */
	uint64_t from, to;	/**< linear addresses, of the same CS */
	uint32_t mode;		/**< enum hvmi_insn_mode, of x86 */
	uint32_t flags;		/**< HVMI_MOVE_* */
	uint32_t len;		/**< bytes there are in @ref bytes */
	uint32_t need;		/**< the run is all instructions that begin in so many bytes */
};

/** An instruction's place, from the start of the run. Never grows. */
struct hvmi_insn_place {
	uint16_t from, to;
};

/** A run that was moved. Set size. */
struct hvmi_insn_moved {
	size_t size;		/**< sizeof(struct hvmi_insn_moved) */
	uint32_t len;		/**< bytes of the code below */
	uint32_t from_len;	/**< bytes of the run in its old place, @ref hvmi_insn_move.need or more */
	uint32_t count;		/**< instructions */
	/** Bytes up to the end of the first instruction with HVMI_INSN_ENDS; 0: there is none. */
	uint32_t ends;
	uint8_t bytes[HVMI_MOVED_BYTES];
	/** Where each instruction was and is; places[count] is the end of the run (the jump back). */
	struct hvmi_insn_place places[HVMI_MOVE_COUNT + 1];
};

/**
 * Move a run of x86 instructions to another address, with the same meaning. Nothing is written to the
 * guest. Branches are widened; those to instructions of the run lead to where these are now; others, and
 * operands relative to RIP, are led to where they led. What a displacement of 32 bits cannot reach is
 * reached through an address in the code. Such indirect jumps fault where CET tracks indirect branches
 * and no ENDBR is at their target: there keep @ref hvmi_insn_move.to within 2 GiB.
 *
 * @return -ENOTSUP: it cannot be moved; @p err has the address of the instruction, and says why:
 *         - a branch into the middle of an instruction of the run, a call into the run;
 *         - an operand that is a part of the run itself;
 *         - INT3, INT1, UD, whose address guests look up; what HVMI_MOVE_NO_RETURNS says;
 *         - a branch with an operand-size prefix, on which CPUs differ or which cuts EIP;
 *         - what cannot be reached: in 16-bit code branches over 32 KiB; indirect branches through
 *           memory, XBEGIN, and operands of instructions that use RSP; without HVMI_MOVE_STACK operands
 *           of all but LEA and loads of a whole general register;
 *         -EBADMSG: no instruction; -EOVERFLOW: @p move->len ends in one, or too many instructions;
 *         -EINVAL: misuse
 */
HVMI_API int hvmi_insn_relocate(const struct hvmi_insn_move *move, struct hvmi_insn_moved *ret,
				struct hvmi_error *err);

#ifdef __cplusplus
}
#endif
#endif
