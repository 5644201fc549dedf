/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file hook.h
 * Hooks: be called when a running machine executes, touches or changes something, and decide what
 * becomes of it.
 *
 * A hook is a request; the library finds the mechanism by what the machine can do (docs/hooks.md has the
 * table) and does what it takes that the guest goes on as if nothing were there. Hooks change in
 * transactions: all of a batch or none, while the machine stands still. The event loop is the
 * caller's: wait on hvmi_hooks_fd(), then call hvmi_hooks_dispatch(), which calls back.
 *
 * One thread at a time per machine for all of this. A callback may call everything here but
 * hvmi_hooks_dispatch(): add and remove hooks, its own too, pause the machine, close the hooks.
 */
#ifndef HVMI_HOOK_H
#define HVMI_HOOK_H

#include <hvmi/event.h>
#include <hvmi/insn.h>
#include <hvmi/journal.h>
#include <hvmi/view.h>

#ifdef __cplusplus
extern "C" {
#endif

/** The hooks of one machine; at most one at a time. */
struct hvmi_hooks;
/** One hook. */
struct hvmi_hook;

/** What is hooked. Append-only. */
enum hvmi_hook_kind {
	/** The instruction at an address is going to be executed. */
	HVMI_HOOK_EXECUTE = 1,
	/**
	 * Bytes of a range are accessed. Exactly these: what an instruction touches is found by decoding
	 * it. Execution means that an instruction has bytes in the range.
	 */
	HVMI_HOOK_ACCESS = 2,
	/** CR0, CR3, CR4 or XCR0 is written. */
	HVMI_HOOK_REGISTER = 3,
	/** WRMSR to one MSR. */
	HVMI_HOOK_MSR = 4,
	/** GDTR, IDTR, LDTR or TR is loaded or stored: reg is its _BASE, 0 all of them. */
	HVMI_HOOK_DESCRIPTOR = 5,
	HVMI_HOOK_CPUID = 6,
	/** The guest calls the introspection by a hypercall. */
	HVMI_HOOK_GUEST_REQUEST = 7,
	/** The guest executes an int3 of its own. */
	HVMI_HOOK_BREAKPOINT = 8,
	/** The guest gets a debug exception of its own. */
	HVMI_HOOK_DEBUG = 9,
	/** A vCPU goes over to another page-table root: CR3 is written, and changes. */
	HVMI_HOOK_PROCESS_SWITCH = 10,
	HVMI_HOOK_KIND_END	/**< one past the last that this header knows */
};

/** How a hook is realised. Append-only. */
enum hvmi_hook_mechanism {
	/** A breakpoint by address of the hypervisor's or emulator's own, as QEMU has it. */
	HVMI_MECHANISM_BREAKPOINT = 1,
	/** An int3 in a copy of the page, which vCPUs execute and do not read: a view of its own. */
	HVMI_MECHANISM_HIDDEN_INT3 = 2,
	/** An int3 in the guest's memory, which the guest can read. */
	HVMI_MECHANISM_INT3 = 3,
	/** Rights are taken from pages, in a view of its own where there are views. */
	HVMI_MECHANISM_PAGE = 4,
	/** A watchpoint by address: it tells after the access. */
	HVMI_MECHANISM_WATCHPOINT = 5,
	/** The machine has an event of this kind. */
	HVMI_MECHANISM_EVENT = 6,
	/**
	 * An int3 in the guest's memory, in a page from which the rights to read and write are taken: what
	 * its instructions read there is what belongs there, and what they write belongs there then.
	 */
	HVMI_MECHANISM_CLOAKED_INT3 = 7,
	HVMI_MECHANISM_END
};

/** How a vCPU gets over a hook. Append-only. */
enum hvmi_step_over {
	/** The answer is enough. */
	HVMI_STEP_OVER_ANSWER = 1,
	/** One instruction in view 0 and back, by the hypervisor. */
	HVMI_STEP_OVER_FAST = 2,
	/** One single-step in view 0, and back at its event. */
	HVMI_STEP_OVER_VIEW = 3,
	/** The hypervisor emulates the instruction, from clean bytes where they are patched. */
	HVMI_STEP_OVER_EMULATE = 4,
	/** The patch goes, one single-step, the patch comes back. With one vCPU only. */
	HVMI_STEP_OVER_RESTORE = 5,
	/** The same with RFLAGS.TF and the debug exception, which the guest may notice. */
	HVMI_STEP_OVER_TRAP_FLAG = 6,
	HVMI_STEP_OVER_END
};

/**
 * hvmi_hook_request.flags: refuse a mechanism that the guest could notice by reading memory or flags. What
 * reads memory past its processors' page rights, as devices do, is another matter: docs/hooks.md, "Cloaked
 * int3s".
 */
#define HVMI_HOOK_STEALTH 1u
/**
 * hvmi_hook_request.flags: only vCPUs whose page-table root is that of the space. Without it all for
 * whom the address leads to the same memory: kernel code in every process, code that processes share.
 */
#define HVMI_HOOK_ONLY_SPACE 2u
/** hvmi_hook_request.flags, REGISTER and MSR: writes that change nothing are left out. */
#define HVMI_HOOK_ON_CHANGE 4u
/** hvmi_hook_request.flags, REGISTER, MSR, DESCRIPTOR, PROCESS_SWITCH: the verdict may be to deny. */
#define HVMI_HOOK_MAY_DENY 8u
/** hvmi_hook_request.flags, GUEST_REQUEST: from user mode too. */
#define HVMI_HOOK_USER 16u
/**
 * hvmi_hook_request.flags, EXECUTE and ACCESS: an address that is not mapped is no error: the hook is
 * there as soon as something is. -ENOTSUP without HVMI_PLAN_FOLLOWS.
 */
#define HVMI_HOOK_WAIT 32u
/**
 * hvmi_hook_request.flags, EXECUTE and ACCESS: the hook stays with the memory that is there when it is
 * added, whatever becomes of the address; page tables are not watched for it. Breakpoints and
 * watchpoints by address follow all the same.
 */
#define HVMI_HOOK_FIXED 64u
/**
 * hvmi_hook_request.flags, EXECUTE and ACCESS: the callback is also called, with HVMI_HOOK_EVENT_MOVED,
 * when the library has moved the hook. -ENOTSUP where it does not move it itself.
 */
#define HVMI_HOOK_TELL_MOVES 128u

/** Bytes that one hook of kind ACCESS covers at most. */
#define HVMI_HOOK_BYTES 67108864u

struct hvmi_hook_event;
struct hvmi_verdict;

/**
 * Called for what was hooked.
 * @param event    valid during the call, and no longer once the hooks are closed in it
 * @param verdict  what becomes of it; all zero: the guest goes on
 *
 * The vCPU waits until it returns (with QEMU, all of them do). One that does not return for long makes
 * the guest's clocks and watchdogs complain; one that never returns leaves the guest standing, and is
 * put right by ending the program and what docs/hooks.md says of recovery.
 */
typedef void (*hvmi_hook_fn)(void *context, const struct hvmi_hook_event *event,
			     struct hvmi_verdict *verdict);

/** What to hook. Zero it, set size, kind and callback, then what the kind needs. */
struct hvmi_hook_request {
	size_t size;		/**< sizeof(struct hvmi_hook_request) */
	uint32_t kind;		/**< enum hvmi_hook_kind */
	uint32_t flags;		/**< HVMI_HOOK_* */
	/**
	 * EXECUTE, ACCESS: the space of @ref address, which is copied and may go; NULL: it is
	 * guest-physical, and every way to the memory counts. The hook goes where the address goes, if
	 * its plan has HVMI_PLAN_FOLLOWS (docs/hooks.md, "Translations that change").
	 */
	struct hvmi_space *space;
	uint64_t address;	/**< EXECUTE, ACCESS */
	uint64_t len;		/**< ACCESS: bytes, 1 to HVMI_HOOK_BYTES */
	uint32_t access;	/**< ACCESS: HVMI_RIGHT_READ, _WRITE, _EXECUTE */
	uint32_t reg;		/**< REGISTER: HVMI_X86_CR0, _CR3, _CR4, _XCR0; DESCRIPTOR: see there */
	uint64_t msr;		/**< MSR: its index */
	uint64_t ignored;	/**< REGISTER: bits whose change does not count */
	/** ONLY_SPACE: the process's other root, where it has two (KPTI, KVA shadow); 0: none. */
	uint64_t other_root;
	hvmi_hook_fn callback;
	void *context;		/**< what it is called with */
};

/** hvmi_hook_event.flags: the access has been done; registers are those behind the instruction. */
#define HVMI_HOOK_EVENT_DONE 1u
/** hvmi_hook_event.flags: a single-step that a verdict of this hook asked for. */
#define HVMI_HOOK_EVENT_STEP 2u
/**
 * hvmi_hook_event.flags: the instruction could not be decoded, so that it is only known to touch the
 * page, or the first byte it touches.
 */
#define HVMI_HOOK_EVENT_INEXACT 4u
/**
 * hvmi_hook_event.flags: nothing was hit: the hook has moved, waits, is back, or is gone; see state, and
 * gpa for where its first byte is now. What a verdict says is ignored; it is no hit.
 */
#define HVMI_HOOK_EVENT_MOVED 8u

/** What a hook has to do with the translation of its address. Append-only. */
enum hvmi_hook_state {
	/**
	 * It has no virtual address, or stays with the memory: HVMI_HOOK_FIXED, a machine without
	 * HVMI_PLAN_FOLLOWS, or an address of the upper half whose space has ended.
	 */
	HVMI_HOOK_STATE_FIXED = 0,
	/** It is where its address leads to. */
	HVMI_HOOK_STATE_FOLLOWS = 1,
	/** Some of it, or all, is not mapped to RAM now; it comes back when it is. */
	HVMI_HOOK_STATE_WAITS = 2,
	/** Its space has ended. It is not called any more, and only to be removed. */
	HVMI_HOOK_STATE_GONE = 3,
	HVMI_HOOK_STATE_END
};

/** What happened. Filled by the library. */
struct hvmi_hook_event {
	size_t size;
	struct hvmi_hooks *hooks;
	struct hvmi_hook *hook;
	const struct hvmi_event *event;	/**< as the machine told it */
	const struct hvmi_registers *registers;	/**< of the vCPU; what is not known is unknown */
	uint32_t kind;		/**< of the hook */
	uint32_t flags;		/**< HVMI_HOOK_EVENT_* */
	/** EXECUTE: the address. ACCESS: of the whole access, not cut to the range. */
	uint64_t gva;
	uint64_t gpa;		/**< HVMI_NO_ADDRESS where it is not known */
	uint64_t len;		/**< ACCESS: bytes */
	uint32_t access;	/**< ACCESS: HVMI_RIGHT_* of it */
	uint32_t value_len;	/**< ACCESS, writes: bytes of @ref value that are known, else 0 */
	/** What is going to be written, little-endian, from gva on. */
	uint8_t value[HVMI_ACCESS_VALUE_MAX];
	uint32_t steps_left;	/**< with HVMI_HOOK_EVENT_STEP */
	uint32_t state;		/**< with HVMI_HOOK_EVENT_MOVED: enum hvmi_hook_state */
};

/**
 * The instruction that the vCPU stands before, decoded when it is asked for.
 * @return -ENOTSUP with HVMI_HOOK_EVENT_DONE; else as hvmi_insn_read()
 */
HVMI_API int hvmi_hook_event_insn(const struct hvmi_hook_event *event, struct hvmi_insn *ret,
				  struct hvmi_error *err);

/** The address space that the vCPU is in; the library's, valid during the callback. */
HVMI_API int hvmi_hook_event_space(const struct hvmi_hook_event *event, struct hvmi_space **ret,
				   struct hvmi_error *err);

/** What becomes of the event; of several hooks the highest wins, the first added among equals. */
enum hvmi_verdict_action {
	/** As if there were no hook. An exception of the guest's own reaches it. */
	HVMI_VERDICT_CONTINUE = 0,
	/** EXECUTE: the guest gets a breakpoint exception (#BP). Others: as CONTINUE. */
	HVMI_VERDICT_REINJECT = 1,
	/** The instruction is executed, and what it reads from memory is hvmi_verdict.data. */
	HVMI_VERDICT_EMULATE_READ = 2,
	/** hvmi_verdict.data is executed in its place: 16 bytes. */
	HVMI_VERDICT_EMULATE_INSN = 3,
	/** The instruction is not executed; an exception of the guest's own does not reach it. */
	HVMI_VERDICT_SKIP = 4,
	/**
	 * The write of the register does not happen. ACCESS: nor does the write to memory; where
	 * writes cannot be thrown away, and for all else, as SKIP.
	 */
	HVMI_VERDICT_DENY = 5,
	HVMI_VERDICT_END
};

/** hvmi_verdict.flags: the vCPU goes on in hvmi_verdict.view; hooks in the library's own view sleep. */
#define HVMI_VERDICT_VIEW 1u
/** hvmi_verdict.flags: hvmi_verdict.injection is delivered. */
#define HVMI_VERDICT_INJECT 2u

/**
 * A verdict. It comes zeroed. The rest of it, beside the action, adds up: a register gets the value that
 * the first hook gave it that set it, view and injection are the first, steps the most.
 */
struct hvmi_verdict {
	size_t size;		/**< set by the library */
	uint32_t action;	/**< enum hvmi_verdict_action */
	uint32_t flags;		/**< HVMI_VERDICT_VIEW, _INJECT */
	/** What hvmi_registers_set() sets here, the vCPU goes on with. None is set at first. */
	struct hvmi_registers *registers;
	uint32_t steps;		/**< single-step so many instructions, each with a call of this hook */
	uint32_t view;
	uint32_t data_len;	/**< EMULATE_READ: 1 to HVMI_ANSWER_DATA_MAX; EMULATE_INSN: 16 */
	uint32_t reserved;
	uint8_t *data;		/**< HVMI_ANSWER_DATA_MAX bytes to be filled, not zeroed */
	struct hvmi_injection injection;
};

/** What realises a request on a machine. Set size. */
struct hvmi_hook_plan {
	size_t size;		/**< sizeof(struct hvmi_hook_plan) */
	uint32_t mechanism;	/**< enum hvmi_hook_mechanism */
	uint32_t step_over;	/**< enum hvmi_step_over */
	uint32_t flags;		/**< HVMI_PLAN_* */
	uint32_t verdicts;	/**< a bit for each enum hvmi_verdict_action that can be had */
};

/** hvmi_hook_plan.flags: no instruction of the guest's finds it in memory or flags. */
#define HVMI_PLAN_STEALTH 1u
/** hvmi_hook_plan.flags: the event comes after the access. */
#define HVMI_PLAN_AFTER 2u
/** hvmi_hook_plan.flags: verdicts may set registers. */
#define HVMI_PLAN_REGISTERS 4u
/** hvmi_hook_plan.flags: verdicts may ask for single-steps. */
#define HVMI_PLAN_STEPS 8u
/** hvmi_hook_plan.flags: it goes where its virtual address goes: enum hvmi_hook_state. */
#define HVMI_PLAN_FOLLOWS 16u

/**
 * What a request would be realised by; nothing is changed.
 * @param request  address and callback need not make sense
 * @return -ENOTSUP: it cannot be had; @p err says why, and what would help
 */
HVMI_API int hvmi_hook_plan_request(struct hvmi_vm *vm, const struct hvmi_hook_request *request,
				    struct hvmi_hook_plan *ret, struct hvmi_error *err);

/** "hidden int3"; NULL if it is unknown. Static. Any thread. */
HVMI_API const char *hvmi_hook_mechanism_name(uint32_t mechanism);
/** "fast step"; NULL if it is unknown. Static. Any thread. */
HVMI_API const char *hvmi_step_over_name(uint32_t step_over);
/** "execute"; NULL if it is unknown. Static. Any thread. */
HVMI_API const char *hvmi_hook_kind_name(uint32_t kind);

/** How to open hooks. Zero it, set size, then what is wanted. */
struct hvmi_hooks_options {
	size_t size;		/**< sizeof(struct hvmi_hooks_options) */
	uint32_t flags;		/**< none yet */
	uint32_t reserved;
	/**
	 * Events that are no hook's: those that the caller requested of hvmi_events itself. It answers
	 * them. NULL: they are answered such that the guest goes on.
	 */
	void (*other)(void *context, const struct hvmi_event *event);
	void *context;
	/**
	 * Of the same machine, or NULL: where int3s in the guest's own memory are noted before they are
	 * placed, so that hvmi_recover() can take them away if this program is killed. It must outlive
	 * the hooks. Other mechanisms end with the program or the hypervisor's own clean-up.
	 */
	struct hvmi_journal *journal;
};

/**
 * Open the hooks of a machine whose events are open. From then on its events are taken by
 * hvmi_hooks_dispatch() and nowhere else.
 * @param options  may be NULL
 * @return -EBUSY: they are open
 */
HVMI_API int hvmi_hooks_open(struct hvmi_events *events, const struct hvmi_hooks_options *options,
			     struct hvmi_hooks **ret, struct hvmi_error *err);

/**
 * Remove all hooks and give everything back, in an order that does not upset the guest; a transaction
 * is dropped. The events stay open. Closing the events first has the same effect on the guest, and
 * leaves only this to be done. Handles of hooks end. NULL is allowed.
 */
HVMI_API void hvmi_hooks_close(struct hvmi_hooks *hooks);

/** A descriptor that polls readable when hvmi_hooks_dispatch() has something to do. Do not read it. */
HVMI_API int hvmi_hooks_fd(const struct hvmi_hooks *hooks);

/**
 * Take events and call back, until there are none.
 * @param timeout_ms  how long to wait for the first; 0: not at all, negative: for ever
 * @return how many were taken, 0: none in that time; -ESRCH: the machine is gone; -EBUSY: called in a
 *         callback
 */
HVMI_API int hvmi_hooks_dispatch(struct hvmi_hooks *hooks, int timeout_ms, struct hvmi_error *err);

/**
 * Begin a transaction: what is added and removed from here on happens at hvmi_hooks_commit(). Without
 * one each call is a transaction of its own. -EBUSY: one has begun.
 */
HVMI_API int hvmi_hooks_begin(struct hvmi_hooks *hooks, struct hvmi_error *err);

/**
 * Do all of it or none: the machine is stopped, events that it has told are taken, to be dispatched
 * later by the hooks as they are then, and the hooks change.
 * @return what failed first; then nothing has changed, and the handles of the transaction's hooks end
 */
HVMI_API int hvmi_hooks_commit(struct hvmi_hooks *hooks, struct hvmi_error *err);

/** Drop a transaction. Its hooks' handles end. No effect without one. */
HVMI_API void hvmi_hooks_abort(struct hvmi_hooks *hooks);

/**
 * Add a hook. Any number may be on the same address, of the same request too: each is called, in the
 * order in which they were added. Ranges may overlap (but see HVMI_MECHANISM_WATCHPOINT in docs/hooks.md).
 * @param ret  the handle, valid until the hook is removed, the hooks are closed, or its transaction
 *             fails; may be NULL
 * @return -EINVAL: the request makes no sense; -EFAULT: the address is not mapped (but see
 *         HVMI_HOOK_WAIT), or is no RAM (devices cannot be hooked by memory); -ENOTSUP: this machine
 *         cannot, or not with stealth; -EOVERFLOW: more than 4,096 pages of page tables would have to
 *         be watched, or the range is too long
 */
HVMI_API int hvmi_hook_add(struct hvmi_hooks *hooks, const struct hvmi_hook_request *request,
			   struct hvmi_hook **ret, struct hvmi_error *err);

/**
 * Remove a hook; it is not called any more when this (or the commit of the transaction) returns.
 * In its own callback too. -EINVAL: it is being removed already.
 */
HVMI_API int hvmi_hook_remove(struct hvmi_hook *hook, struct hvmi_error *err);

/** A hook, what realises it, and what it cost. Set size. */
struct hvmi_hook_info {
	size_t size;		/**< sizeof(struct hvmi_hook_info) */
	uint64_t hits;		/**< calls of its callback */
	/** Events that the mechanism told and this hook was not called for: other bytes, another space. */
	uint64_t filtered;
	uint64_t time_ns;	/**< in its callback */
	uint64_t refused;	/**< verdicts that could not be carried out; the guest went on */
	uint32_t kind;
	uint32_t mechanism;	/**< enum hvmi_hook_mechanism */
	uint32_t step_over;	/**< enum hvmi_step_over */
	uint32_t flags;		/**< HVMI_PLAN_* */
	uint32_t verdicts;	/**< as hvmi_hook_plan.verdicts */
	uint32_t state;		/**< enum hvmi_hook_state */
	uint64_t address;
	/** Where that is; HVMI_NO_ADDRESS where the mechanism needs none, or while it is not mapped. */
	uint64_t gpa;
	uint64_t moves;		/**< changes of the translation that moved it, or a part of it */
};
HVMI_API int hvmi_hook_get_info(const struct hvmi_hook *hook, struct hvmi_hook_info *ret);

/** What all hooks of a machine cost together. Set size. */
struct hvmi_hooks_info {
	size_t size;		/**< sizeof(struct hvmi_hooks_info) */
	uint64_t hooks;
	uint64_t places;	/**< breakpoints, pages and kinds of events that realise them */
	uint64_t events;	/**< taken */
	uint64_t hits;		/**< calls of callbacks */
	uint64_t filtered;	/**< events that no hook was called for */
	uint64_t others;	/**< events of nobody's, and of hvmi_hooks_options.other */
	uint64_t tables;	/**< pages that are watched since hooks depend on page tables in them */
	uint64_t walks;		/**< translations that were made anew because such a table changed */
};
HVMI_API int hvmi_hooks_get_info(const struct hvmi_hooks *hooks, struct hvmi_hooks_info *ret);

#ifdef __cplusplus
}
#endif
#endif
