/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file quiet.h
 * Whether code is at rest: no vCPU runs in it, and no thread is going to return into it.
 */
#ifndef HVMI_QUIET_H
#define HVMI_QUIET_H

#include <hvmi/os.h>

#ifdef __cplusplus
extern "C" {
#endif

/** A range of code: [gva, gva + len). */
struct hvmi_code {
	uint64_t gva;
	uint64_t len;		/**< bytes; 0: nothing is in it */
};

/** How somebody is in a range. Append-only. */
enum hvmi_occupant_kind {
	HVMI_OCCUPANT_VCPU = 1,		/**< a vCPU's RIP is in it */
	HVMI_OCCUPANT_THREAD = 2,	/**< a word on the kernel stack of a thread leads into it */
	HVMI_OCCUPANT_STACK = 3		/**< the same of another stack that a vCPU is on: interrupts' */
};

/** hvmi_occupant.vcpu: none of its. */
#define HVMI_NO_VCPU 4294967295u

/** Somebody in a range. Never grows. */
struct hvmi_occupant {
	uint32_t kind;		/**< enum hvmi_occupant_kind */
	uint32_t vcpu;		/**< VCPU, STACK: which; THREAD: the one that runs it, or HVMI_NO_VCPU */
	uint64_t gva;		/**< the address in the range */
	uint64_t at;		/**< THREAD, STACK: where on the stack it is; else HVMI_NO_ADDRESS */
	uint64_t object;	/**< THREAD: as hvmi_task.object */
	int32_t pid, tgid;	/**< THREAD: as in struct hvmi_task; idle ones of Linux: 0 */
	char name[64];		/**< THREAD: as hvmi_task.name, raw bytes */
};

/**
 * Look for who is in ranges of kernel code. The machine must stand still, or the answer is of no use:
 * -EINVAL.
 *
 * Looked at are RIP of each vCPU, the kernel stack of each thread from its stack pointer up, and
 * whatever other stack a vCPU is on, 16 KiB of it at most. Each word of these that is an address in a
 * range counts, be it a return address or not: somebody may be named who is not there, but nobody is
 * left out. A pointer to the start of a function that was handed over on a stack is such a word: where
 * it does no harm to be entered at the start, begin one byte behind it. What is only called through a
 * pointer elsewhere (a timer, a work item) is not in it.
 *
 * @param ret   receives the first @p room occupants; may be NULL if that is 0
 * @return how many there are, at most INT32_MAX; 0: it is quiet. Where that cannot be said: -ENOTSUP:
 *         stacks are not known of this operating system or kernel, or vCPUs have no registers;
 *         -EFAULT: a thread's stack is not in memory; -EINVAL: the machine runs
 */
HVMI_API int hvmi_quiet_check(struct hvmi_os *os, const struct hvmi_code *ranges, size_t count,
			      struct hvmi_occupant *ret, size_t room, struct hvmi_error *err);

#ifdef __cplusplus
}
#endif
#endif
