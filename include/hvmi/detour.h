/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file detour.h
 * Detours: a function of an x86 guest's kernel first goes through code of the caller's, in the guest.
 *
 * A jump replaces the first instructions of the function; these are moved to other memory, from where a
 * jump leads back behind them. What is placed is in an undo journal (journal.h) first. Detours of one
 * machine are used by one thread at a time, and go before their OS and journal.
 *
 * A detour can be seen by the guest, as changed text and as code at a place where none should be: Windows'
 * PatchGuard looks. For hooks that the guest cannot see use breakpoints in views.
 */
#ifndef HVMI_DETOUR_H
#define HVMI_DETOUR_H

#include <hvmi/insn.h>
#include <hvmi/journal.h>
#include <hvmi/quiet.h>

#ifdef __cplusplus
extern "C" {
#endif

struct hvmi_detour;

/** Bytes of the caller's code at most. */
#define HVMI_DETOUR_CODE 2048u

/** What to detour. Zero it, set size, then what is wanted. */
struct hvmi_detour_request {
	size_t size;		/**< sizeof(struct hvmi_detour_request) */
	uint64_t gva;		/**< the function's first instruction, in the kernel's space */
	/**
	 * Memory for the code: mapped for execution, used by nobody, all bytes 0 or INT3; or 0: slack at
	 * the end of the kernel's own text is looked for.
	 */
	uint64_t memory;
	uint32_t memory_len;	/**< bytes of it; 0 with slack */
	uint32_t code_room;	/**< bytes that the caller's code is going to have, 1 to HVMI_DETOUR_CODE */
};

/** Where everything is. Set size. */
struct hvmi_detour_info {
	size_t size;		/**< sizeof(struct hvmi_detour_info) */
	uint64_t gva;		/**< of the jump: behind ENDBR64 and what ftrace uses, if they are there */
	uint64_t code;		/**< where the caller's code goes */
	uint64_t moved;		/**< what the jump replaced: the code jumps there to go on */
	uint64_t memory;	/**< of both */
	uint32_t memory_len;
	uint32_t jump_len;	/**< bytes of the jump: 5, or 14 where the memory is far away */
	uint32_t replaced;	/**< bytes of whole instructions that it replaces */
	uint32_t placed;	/**< 1: it is in the guest */
};

/**
 * Plan a detour: nothing is written to the guest.
 * @return -ENOTSUP: it cannot be, and @p err says why: an instruction that cannot be moved (see
 *         hvmi_insn_relocate(); calls, whose return address would be in other memory, too), a branch of
 *         the function into what is replaced, a function that is too short or detoured already, no
 *         slack that is large enough, a kernel that is not x86-64 or 32-bit x86;
 *         -EFAULT: the function or the memory is not mapped; -EBUSY: the memory is in use; -EINVAL
 */
HVMI_API int hvmi_detour_create(struct hvmi_os *os, const struct hvmi_detour_request *request,
				struct hvmi_detour **ret, struct hvmi_error *err);

HVMI_API int hvmi_detour_get_info(const struct hvmi_detour *detour, struct hvmi_detour_info *ret);

/**
 * Place it, with the machine paused meanwhile, if no vCPU and no thread is in the instructions that are
 * replaced.
 *
 * The code is entered by a jump, with the stack and all registers as at the function's first instruction,
 * and any thread, interrupt or vCPU may be in it at once. It keeps what it uses, and leaves to
 * @ref hvmi_detour_info.moved, or returns to the function's caller. Its memory is not writable.
 * @param code  as it is to stand at @ref hvmi_detour_info.code
 * @param len   of it, at most @ref hvmi_detour_request.code_room
 * @return -EBUSY: somebody is there (@p err names one): try again; or what the plan was made from has
 *         changed: make another; else as hvmi_patch_place() and hvmi_quiet_check(). Then nothing was
 *         placed.
 */
HVMI_API int hvmi_detour_commit(struct hvmi_detour *detour, const void *code, size_t len,
				struct hvmi_journal *journal, struct hvmi_error *err);

/**
 * Take it away, with the machine paused meanwhile. The function is itself again at once, the code when
 * no vCPU and no thread is in it.
 * @return -EBUSY: somebody still is: call again after a while; -EBADMSG: the guest had changed the jump
 *         or the code, which was left alone; -EINVAL: it is not placed
 */
HVMI_API int hvmi_detour_undo(struct hvmi_detour *detour, struct hvmi_error *err);

/** Forget it. What is placed stays, in the journal and in the guest. NULL is allowed. */
HVMI_API void hvmi_detour_destroy(struct hvmi_detour *detour);

#ifdef __cplusplus
}
#endif
#endif
