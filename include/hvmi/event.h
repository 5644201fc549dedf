/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file event.h
 * Events of a running machine: what its vCPUs do that somebody asked to be told.
 *
 * Open the events of a machine, request kinds of them, then wait on the descriptor and take them one
 * by one. A vCPU that stopped for an event (HVMI_EVENT_WAITS) goes on when it is answered. One
 * thread at a time per machine for all of this; the machine can be paused and resumed meanwhile.
 *
 * Backends differ in what they can do: hvmi_vm_capability() tells before, and says what to change.
 */
#ifndef HVMI_EVENT_H
#define HVMI_EVENT_H

#include <hvmi/vm.h>

#ifdef __cplusplus
extern "C" {
#endif

/** Kinds of events. Append-only. */
enum hvmi_event_kind {
	/** An access that the view in use does not allow (view.h): gva, gpa, access. */
	HVMI_EVENT_ACCESS = 1,
	/**
	 * An instruction was executed while the vCPU was single-stepped. The request allows it;
	 * HVMI_ANSWER_STEP begins it.
	 */
	HVMI_EVENT_STEP = 2,
	/**
	 * A breakpoint was reached: gva, and gpa where it is known. Requested by address where
	 * HVMI_CAN_BREAKPOINTS; then the instruction there has not been executed and is when the
	 * event is answered. Without an address where HVMI_CAN_INT3: every int3 that the guest
	 * executes, insn_length; the vCPU stands before it and meets it again unless the answer
	 * changes something.
	 */
	HVMI_EVENT_BREAKPOINT = 3,
	/** Data at a watched gva was accessed: gva, len, access. The access was done. */
	HVMI_EVENT_WATCHPOINT = 4,
	/** A control register was written: reg, old_value, new_value. */
	HVMI_EVENT_REGISTER = 5,
	/** WRMSR: msr, old_value, new_value. */
	HVMI_EVENT_MSR = 6,
	/**
	 * CPUID: leaf, subleaf, insn_length. The vCPU stands before it, as for an int3; its
	 * registers may hold the result already. HVMI_ANSWER_EMULATE lets it happen.
	 */
	HVMI_EVENT_CPUID = 7,
	/** A debug exception (#DB) of the guest's own: gva, pending_debug, insn_length. */
	HVMI_EVENT_DEBUG = 8,
	/** LGDT, SGDT, LIDT ... STR: reg (HVMI_X86_GDTR_BASE, _IDTR_, _LDTR_ or _TR_BASE), access. */
	HVMI_EVENT_DESCRIPTOR = 9,
	/** The guest asks for attention by a hypercall (Xen: HVMOP_guest_request_vm_event). */
	HVMI_EVENT_GUEST_REQUEST = 10,
	/** An instruction that was to be emulated is not known to the emulator. */
	HVMI_EVENT_UNIMPLEMENTED = 11,
	/** The interrupt that is delivered next: vector, type, error_code, cr2. */
	HVMI_EVENT_INTERRUPT = 12,
	/** IN, OUT and their string forms: port, len, access. */
	HVMI_EVENT_IO = 13,
	/** A VM exit: exit_reason, exit_qualification (Intel SDM volume 3, appendix C). */
	HVMI_EVENT_EXIT = 14,
	HVMI_EVENT_KIND_END	/**< one past the last that this header knows */
};

/** What may be had from a machine, for hvmi_vm_capability(). Append-only. */
enum hvmi_capability {
	HVMI_CAN_PAUSE = 1,
	HVMI_CAN_SET_REGISTERS = 2,	/**< of a vCPU that is paused */
	HVMI_CAN_INJECT = 3,
	HVMI_CAN_BREAKPOINTS = 4,	/**< placed by address, not visible to the guest */
	HVMI_CAN_INT3 = 5,		/**< events for int3 that the guest executes */
	HVMI_CAN_VIEWS = 6,		/**< alternate views beside view 0 */
	HVMI_CAN_REMAP = 7,		/**< another frame for a page in an alternate view */
	HVMI_CAN_PAGES = 8,		/**< hvmi_page_create() */
	HVMI_CAN_EMULATE = 9,		/**< answers HVMI_ANSWER_EMULATE ... */
	HVMI_CAN_EMULATE_DATA = 10,	/**< ... _READ_DATA and _INSN_DATA */
	HVMI_CAN_DENY = 11,		/**< writes of registers and MSRs can be denied */
	HVMI_CAN_FAST_STEP = 12,
	HVMI_CAN_CONFIRM = 13,		/**< HVMI_ANSWER_CONFIRM */
	HVMI_CAN_PAGE_WALK_RIGHT = 14,	/**< HVMI_RIGHT_PAGE_WALK */
	/** An event of kind K can be requested: HVMI_CAN_EVENT + K. */
	HVMI_CAN_EVENT = 256
};

/**
 * Whether a machine can do something, as it is opened and configured now.
 * @param capability  enum hvmi_capability
 * @return 0: yes; -ENOTSUP: no, and @p err says what would have to change
 */
HVMI_API int hvmi_vm_capability(struct hvmi_vm *vm, uint32_t capability, struct hvmi_error *err);

/** The name of a kind of event, "breakpoint"; NULL if it is unknown. Static. Any thread. */
HVMI_API const char *hvmi_event_name(uint32_t kind);

/** The name of a capability, "views"; NULL if it is unknown. Static. Any thread. */
HVMI_API const char *hvmi_capability_name(uint32_t capability);

/** hvmi_injection.error_code: none is pushed. */
#define HVMI_NO_ERROR_CODE 4294967295u

/** An interrupt or exception to be delivered to a vCPU: Intel SDM volume 3, 25.8.3. */
struct hvmi_injection {
	size_t size;		/**< sizeof(struct hvmi_injection) */
	uint32_t vector;	/**< 0 to 255 */
	uint32_t type;		/**< 0 external, 2 NMI, 3 exception, 4 INT n, 5 INT1, 6 INT3 */
	uint32_t error_code;	/**< or HVMI_NO_ERROR_CODE */
	uint32_t insn_length;	/**< bytes, for types 4 to 6 */
	uint64_t cr2;		/**< for a page fault: vector 14 */
};

/**
 * Have a vCPU take an interrupt or exception when it runs next. Whether it was delivered can be
 * confirmed by an answer with HVMI_ANSWER_CONFIRM.
 * @return -EBUSY: one is waiting already; -EACCES: not opened for writing
 */
HVMI_API int hvmi_vm_inject(struct hvmi_vm *vm, uint32_t vcpu,
			    const struct hvmi_injection *injection, struct hvmi_error *err);

/** Events of one machine; at most one at a time. */
struct hvmi_events;

/** hvmi_events_options.flags: take the machine's events from another program that holds them. */
#define HVMI_EVENTS_TAKE_OVER 1u

/** How to open events. Zero it, set size, then what is wanted. */
struct hvmi_events_options {
	size_t size;		/**< sizeof(struct hvmi_events_options) */
	uint32_t flags;		/**< HVMI_EVENTS_* */
	uint32_t reserved;
};

/**
 * Open the events of a machine. What a program that was killed left behind is put right. Nothing is
 * requested yet.
 * @param options  may be NULL
 * @return -EACCES: not opened for writing; -EBUSY: another program holds them; -ENOTSUP: this
 *         machine has none
 */
HVMI_API int hvmi_events_open(struct hvmi_vm *vm, const struct hvmi_events_options *options,
			      struct hvmi_events **ret, struct hvmi_error *err);

/**
 * Give everything back: requests end, events that wait are answered such that the guest goes on as if
 * nobody had been there, views are switched back and destroyed, steps end. NULL is allowed.
 */
HVMI_API void hvmi_events_close(struct hvmi_events *events);

/**
 * A descriptor that polls readable when hvmi_events_next() has something, and now and then when it finds that it has
 * nothing. Do not read it.
 */
HVMI_API int hvmi_events_fd(const struct hvmi_events *events);

/** hvmi_event_request.vcpu: all of them. */
#define HVMI_ALL_VCPUS 4294967295u

/** hvmi_event_request.flags: the vCPU does not wait for an answer. */
#define HVMI_REQUEST_ASYNC 1u
/** hvmi_event_request.flags: writes that change nothing are left out. */
#define HVMI_REQUEST_ON_CHANGE 2u
/** hvmi_event_request.flags: guest requests from user mode too. */
#define HVMI_REQUEST_USER 4u
/** hvmi_event_request.flags: writes are to be denied by some answers. */
#define HVMI_REQUEST_MAY_DENY 8u

/** What to be told of. Zero it, set size and kind, then what the kind needs. */
struct hvmi_event_request {
	size_t size;		/**< sizeof(struct hvmi_event_request) */
	uint32_t kind;		/**< enum hvmi_event_kind */
	uint32_t flags;		/**< HVMI_REQUEST_* */
	uint32_t vcpu;		/**< STEP: which, or HVMI_ALL_VCPUS */
	uint32_t reg;		/**< REGISTER: HVMI_X86_CR0, _CR3, _CR4 or _XCR0 */
	uint64_t msr;		/**< MSR: its index */
	uint64_t ignored;	/**< REGISTER, CR4: bits whose change is no event */
	uint64_t gva;		/**< BREAKPOINT by address, WATCHPOINT; else HVMI_NO_ADDRESS or 0 */
	uint64_t len;		/**< WATCHPOINT: bytes */
	uint32_t access;	/**< WATCHPOINT: HVMI_RIGHT_READ, _WRITE */
	uint32_t reserved;
};

/**
 * Begin to be told of something. The same request twice is -EINVAL.
 * @return -ENOTSUP: this machine cannot tell (@p err says why, and what would help)
 */
HVMI_API int hvmi_events_request(struct hvmi_events *events,
				 const struct hvmi_event_request *request, struct hvmi_error *err);

/** End it; by kind, vcpu, reg, msr, gva, len and access. -ENOENT: it was not requested. */
HVMI_API int hvmi_events_cancel(struct hvmi_events *events,
				const struct hvmi_event_request *request, struct hvmi_error *err);

/** hvmi_event.flags: the vCPU waits until hvmi_events_answer(). */
#define HVMI_EVENT_WAITS 1u
/** hvmi_event.flags, ACCESS: the CPU read or wrote page tables, gva is what it translated. */
#define HVMI_EVENT_IN_PAGE_WALK 2u
/** hvmi_event.flags: a nested guest's. */
#define HVMI_EVENT_NESTED 4u
/** hvmi_event.flags, IO: a string instruction. */
#define HVMI_EVENT_STRING 8u

/** What happened. Fields that its kind does not name are 0, addresses HVMI_NO_ADDRESS. */
struct hvmi_event {
	size_t size;		/**< sizeof(struct hvmi_event) */
	uint64_t id;		/**< ascending, never 0 */
	uint32_t kind;		/**< enum hvmi_event_kind */
	uint32_t vcpu;
	uint32_t flags;		/**< HVMI_EVENT_* */
	uint32_t view;		/**< that the vCPU was in, 0 without views */
	/** At the event; what the backend did not send is unknown. Valid until the answer. */
	const struct hvmi_registers *registers;
	uint64_t gva;
	uint64_t gpa;
	uint64_t len;		/**< bytes */
	uint32_t access;	/**< HVMI_RIGHT_READ, _WRITE, _EXECUTE that was tried */
	uint32_t reg;		/**< enum hvmi_register */
	uint64_t msr;
	uint64_t old_value;
	uint64_t new_value;
	uint32_t leaf;
	uint32_t subleaf;
	uint32_t insn_length;	/**< bytes */
	uint32_t port;
	uint64_t pending_debug;	/**< as the VMCS field: Intel SDM volume 3, 25.4.2 */
	uint32_t vector;
	uint32_t type;		/**< as hvmi_injection.type */
	uint32_t error_code;
	uint32_t reserved;
	uint64_t cr2;
	uint64_t exit_reason;
	uint64_t exit_qualification;
};

/**
 * The next event.
 * @param timeout_ms  how long to wait for one; 0: not at all, negative: for ever
 * @return 1: *@p ret is one; 0: none in that time; -ESRCH: the machine is gone
 */
HVMI_API int hvmi_events_next(struct hvmi_events *events, int timeout_ms, struct hvmi_event *ret,
			      struct hvmi_error *err);

/** hvmi_answer.flags: the write of the register, MSR or descriptor does not happen. */
#define HVMI_ANSWER_DENY 1u
/** hvmi_answer.flags: the instruction is carried out by the hypervisor, whatever the view says. */
#define HVMI_ANSWER_EMULATE 2u
/** hvmi_answer.flags, with EMULATE: what it writes to memory is thrown away. */
#define HVMI_ANSWER_EMULATE_NO_WRITE 4u
/** hvmi_answer.flags, with EMULATE: what it reads from memory is hvmi_answer.data. */
#define HVMI_ANSWER_READ_DATA 8u
/** hvmi_answer.flags, with EMULATE: its 16 bytes, at rip, are hvmi_answer.data. */
#define HVMI_ANSWER_INSN_DATA 16u
/** hvmi_answer.flags: single-step the vCPU from now on. STEP must have been requested. */
#define HVMI_ANSWER_STEP 32u
/** hvmi_answer.flags: end that. */
#define HVMI_ANSWER_STEP_OFF 64u
/** hvmi_answer.flags: one instruction in view 0, then hvmi_answer.view, without an event. */
#define HVMI_ANSWER_FAST_STEP 128u
/** hvmi_answer.flags: the vCPU goes on in hvmi_answer.view. */
#define HVMI_ANSWER_VIEW 256u
/** hvmi_answer.flags: the vCPU goes on with hvmi_answer.registers (those that are known in it). */
#define HVMI_ANSWER_REGISTERS 512u
/** hvmi_answer.flags: hvmi_answer.injection is delivered. */
#define HVMI_ANSWER_INJECT 1024u
/** hvmi_answer.flags, BREAKPOINT and DEBUG: the guest gets the exception that it caused. */
#define HVMI_ANSWER_REINJECT 2048u
/** hvmi_answer.flags: an event of kind INTERRUPT is to tell what is delivered next. */
#define HVMI_ANSWER_CONFIRM 4096u
/** hvmi_answer.flags: begin the vCPU's processor trace anew (Xen: vmtrace). */
#define HVMI_ANSWER_RESET_TRACE 8192u
/** hvmi_answer.flags: a fork gets its parent's registers back (Xen 4.17). */
#define HVMI_ANSWER_RESET_FORK_STATE 16384u
/** hvmi_answer.flags: a fork gets its parent's memory back (Xen 4.17). */
#define HVMI_ANSWER_RESET_FORK_MEMORY 32768u

/** Bytes of hvmi_answer.data at most. */
#define HVMI_ANSWER_DATA_MAX 256u

/** How a vCPU goes on. Zero it, set size, then what is wanted; all zero: go on. */
struct hvmi_answer {
	size_t size;		/**< sizeof(struct hvmi_answer) */
	uint32_t flags;		/**< HVMI_ANSWER_* */
	uint32_t view;
	const struct hvmi_registers *registers;
	const void *data;
	uint32_t data_len;	/**< 1 to HVMI_ANSWER_DATA_MAX; 16 for INSN_DATA */
	uint32_t reserved;
	const struct hvmi_injection *injection;
};

/**
 * Answer an event that waits; each of them once, in any order.
 * @param answer  NULL: just go on
 * @return -ENOENT: no such event waits; -ENOTSUP: this machine cannot do that; -EINVAL: the flags
 *         exclude each other. After a failure the event still waits.
 */
HVMI_API int hvmi_events_answer(struct hvmi_events *events, const struct hvmi_event *event,
				const struct hvmi_answer *answer, struct hvmi_error *err);

#ifdef __cplusplus
}
#endif
#endif
