/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the cooperating guest and the suite have of each other: a mailbox, code and data at fixed
 * addresses of the process "hvmi-probe", and the same code in the kernel.
 */
#ifndef HVMI_CONFORMANCE_MAILBOX_H
#define HVMI_CONFORMANCE_MAILBOX_H

/* Guest-virtual addresses in the probe. All of it is locked in memory. */
#define PROBE_MAILBOX 0x10000000
#define PROBE_CODE 0x10001000		/* code.S, readable and executable */
#define PROBE_EXEC 0x10003000		/* the same once more, writable too */
#define PROBE_DATA 0x10010000		/* pages to be read and written */
#define PROBE_CODE_BYTES 0x2000
#define PROBE_DATA_BYTES 0x8000
/* One for each vCPU's worker, a page each, behind the data. */
#define PROBE_WORK 0x10020000
#define PROBE_VCPUS_MAX 8

/* The I/O port that the process may use. Port 0x80 Xen lets every guest use, without an exit. */
#define PROBE_PORT 0x84

#define PROBE_NAME "hvmi-probe"		/* as task_struct.comm has it */
#define PROBE_MAGIC "hvmi-probe-001\n"	/* 16 bytes with the NUL */

/*
 * Functions and places in code.S, in the order of the table of 32-bit offsets at its beginning.
 * Functions take up to six arguments and return RAX and RDX.
 */
#define PROBE_PLACES(X)                                                                            \
	X(steps) X(steps_1) X(steps_2) X(steps_3) X(steps_4)                                       \
	X(work) X(read) X(read_next) X(write) X(write_next) X(add) X(add_next)                     \
	X(copy) X(copy_insn) X(copy_next) X(int3) X(int3_next)                                     \
	X(cpuid) X(cpuid_insn) X(cpuid_next) X(icebp) X(icebp_next) X(trap) X(trap_next)           \
	X(loop) X(request_intel) X(request_amd)                                                    \
	X(cr0) X(cr0_insn) X(cr3) X(cr3_insn) X(cr4) X(cr4_insn) X(xcr0) X(xcr0_insn)              \
	X(msr) X(msr_insn) X(idt) X(gdt) X(ldt) X(tr)                                              \
	X(io) X(io_out) X(io_in) X(io_next) X(remap) X(spare)

#ifndef __ASSEMBLER__

#ifdef __KERNEL__
#include <linux/types.h>
#else
#include <stdint.h>
#endif

enum probe_place {
#define X(name) PLACE_##name,
	PROBE_PLACES(X)
#undef X
	PLACE_COUNT
};

/* probe_mailbox.features */
#define PROBE_KERNEL 1u		/* the module is there: PROBE_KCALL, PROBE_CHECK's hash */
#define PROBE_SIGNALS 2u	/* exceptions of the probe's own become counts */
#define PROBE_WORKERS 4u	/* a thread on each vCPU works all the time */
#define PROBE_CHECKS 8u		/* PROBE_CHECK, PROBE_SAY */
#define PROBE_ON_XEN 16u	/* hypercalls are there */
#define PROBE_AMD 32u		/* with vmmcall */
#define PROBE_REMAPS 64u	/* the kernel's data lies in a map of all memory: PLACE_remap */

/* probe_command.op */
#define PROBE_CALL 1u		/* call `function`, in the process */
#define PROBE_KCALL 2u		/* call `function`, in the kernel, with interrupts off */
#define PROBE_CHECK 3u		/* look at itself: results as enum probe_check */
#define PROBE_SAY 4u		/* say on the console what it knows of itself */

struct probe_command {
	uint64_t number;	/* another than before: a new command; written last */
	uint32_t op;
	uint32_t vcpu;		/* that carries it out */
	uint64_t function;	/* gva */
	uint64_t args[6];
};

/* Of PROBE_CHECK: 0 is good for the first four. */
enum probe_check {
	CHECK_TEXT,		/* bytes of the kernel's text that are not as they were */
	CHECK_INT3,		/* int3 more than there were */
	CHECK_TICKS,		/* vCPUs whose timer does not tick */
	CHECK_DMESG,		/* warnings and worse since the start */
	CHECK_WHERE,		/* gva of the first byte of CHECK_TEXT */
	CHECK_TEXT_BYTES,	/* how much was compared; 0: nothing could be */
	CHECK_COUNT
};

struct probe_result {
	uint64_t number;	/* of the command that is done; written last */
	int64_t status;		/* 0 or a negative errno of Linux */
	uint64_t values[8];	/* RAX, RDX of what was called */
};

struct probe_mailbox {
	char magic[16];
	uint32_t features;
	uint32_t vcpus;
	int32_t pid;
	uint32_t code_bytes;
	uint64_t code;		/* gva of the places' table, for PROBE_CALL */
	uint64_t exec;		/* the same, writable */
	uint64_t kcode;		/* the same, for PROBE_KCALL; 0 without */
	uint64_t data;
	uint64_t data_bytes;
	uint64_t kdata;		/* a page of the kernel's, for PROBE_KCALL */
	struct probe_command command;	/* at 80 */
	struct probe_result result;	/* at 152 */
	uint64_t sigtraps;
	uint64_t sigsegvs;
	uint64_t fault;		/* si_addr of the last of them */
	uint64_t work_errors;	/* a worker saw something else than it wrote */
	uint64_t work[PROBE_VCPUS_MAX];	/* rounds of each worker */
	char dmesg[256];	/* the first message that counts, of PROBE_CHECK */
};

/*
 * The argument of PLACE_remap, in the kernel's data: an address that is mapped to one of four frames after
 * the other. Each frame tells the number of its mapping while it is mapped, PROBE_GONE else. Each entry
 * differs from the 65,535 before it, by bits that are the system's own (SDM volume 3, 4.5.4).
 */
#define PROBE_REMAP_FRAMES 4
#define PROBE_GONE UINT64_MAX
struct probe_remap {
	uint64_t entry;		/* gva of the page-table entry */
	uint64_t page;		/* gva that it maps */
	uint64_t complete;	/* number of the last mapping; written when it is in force */
	uint64_t last;
	uint64_t frames[PROBE_REMAP_FRAMES];	/* gvas, of the kernel's own */
	uint64_t entries[PROBE_REMAP_FRAMES];	/* that map them, without the number */
};

/* Between the probe and the module: ioctl() on /proc/hvmi-probe, whatever its number. */
struct probe_kcall {
	uint32_t op;		/* PROBE_KCALL, PROBE_CHECK, or 0: code and data in values */
	uint32_t reserved;
	uint64_t function;
	uint64_t args[6];
	uint64_t values[8];
};

#endif
#endif
