/* SPDX-License-Identifier: Apache-2.0 */
/* QEMU's gdbstub. While we are connected, all vCPUs run or none does. One thread at a time. */
#ifndef HVMI_BACKEND_QEMU_STUB_H
#define HVMI_BACKEND_QEMU_STUB_H

#include "monitor.h"
#include "rsp.h"

/* A register as the stub numbers it. */
struct stub_register {
	bool known;
	uint32_t number, size;
	size_t offset;		/* in the answer that holds all of them */
};

struct stub {
	struct rsp rsp;
	struct monitor *monitor;
	bool ours;		/* we turned it on */
	bool running;		/* as far as we let it */
	uint32_t vcpu_count;
	const uint32_t *cpu_index;
	/* QEMU's current vCPU for registers, and for what concerns running; UINT32_MAX: not known. */
	uint32_t selected, current;
	bool *armed;		/* by vCPU: QEMU single-steps it until a stop is of it */
	uint32_t step_flags;	/* what QEMU was told */
	uint32_t step_bits;	/* what it knows */
	struct stub_register registers[HVMI_REGISTERS_MAX];
};

/* What a vCPU does while it is stepped: sstep bits of QEMU. */
#define STUB_STEP 1u
#define STUB_STEP_ALONE 7u	/* no interrupts, and no time passes */

/*
 * Connect, turning the stub on if it is off. The machine is stopped then. -EBUSY: a debugger is
 * connected, and @p take_over is not set.
 */
int stub_open(struct stub **ret, struct monitor *m, const uint32_t *cpu_index, uint32_t vcpu_count,
	      bool take_over, struct hvmi_error *err);
/* Turn it off if it was. Whether the machine runs is as before. NULL is allowed. */
void stub_close(struct stub *s);

/* Registers that the stub tells, of a stopped vCPU. */
int stub_get(struct stub *s, uint32_t vcpu, struct hvmi_registers *ret, struct hvmi_error *err);
/* Set one. */
int stub_set(struct stub *s, uint32_t vcpu, uint32_t id, uint64_t value, struct hvmi_error *err);
/* Write guest-physical memory; translations of code in it go. */
int stub_write(struct stub *s, uint64_t gpa, const void *buf, size_t len, struct hvmi_error *err);
/* Read memory as the chosen vCPU sees it. */
int stub_read_virtual(struct stub *s, uint64_t gva, void *buf, size_t len);
/* Insert or remove: type '0' software breakpoint, '1' hardware, '2' write, '3' read, '4' either. */
int stub_point(struct stub *s, bool insert, char type, uint64_t gva, uint64_t len,
	       struct hvmi_error *err);

/* What each vCPU is to do: 'c' run, 's' execute one instruction, 0 stand still. NULL: all run. */
int stub_run(struct stub *s, const char *actions, struct hvmi_error *err);
/* Let one vCPU execute one instruction; the others stand. It is armed until it did. */
int stub_step(struct stub *s, uint32_t vcpu, struct hvmi_error *err);
/* Take note of a stop that rsp_wait_stop() gave. */
void stub_stopped(struct stub *s, const struct rsp_stop *stop);
/* Stop all. It may be stopped already: take the stop. */
int stub_interrupt(struct stub *s, struct rsp_stop *ret, struct hvmi_error *err);
/* The vCPU of a stop. */
uint32_t stub_vcpu(const struct stub *s, const struct rsp_stop *stop);
/* A sentence for an error of rsp.h. */
int stub_failed(struct stub *s, int rc, const char *what, struct hvmi_error *err);

#endif
