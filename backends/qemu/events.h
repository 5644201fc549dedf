/* SPDX-License-Identifier: Apache-2.0 */
/* What was asked for, and what happened. With the lock held. */
#ifndef HVMI_BACKEND_QEMU_EVENTS_H
#define HVMI_BACKEND_QEMU_EVENTS_H

#include "qemu.h"

/* A vCPU stopped at a breakpoint, a watchpoint or behind a step: whether anybody asked for it. */
bool events_trapped(struct qemu *q, uint32_t vcpu, const struct rsp_stop *stop,
		    const struct hvmi_registers *registers);
/* A vCPU that is stepped executed an instruction. */
void events_stepped(struct qemu *q, uint32_t vcpu, const struct hvmi_registers *registers);

/* Whether a vCPU stands at a breakpoint that was not told: it is then. */
bool events_reached(struct qemu *q, uint32_t vcpu, const struct hvmi_registers *registers);

/* The breakpoint that was asked for at @p gva, or NULL. */
const struct qemu_point *events_breakpoint_at(const struct qemu *q, uint64_t gva);

/* Wake up the loop of events when the vCPU whose turn it is has had its time. */
void events_start_turn(struct qemu *q);

#endif
