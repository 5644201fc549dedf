/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who holds the machine. It runs if nobody does: hvmi_vm_pause(), events that wait, other programs. With
 * the lock held.
 */
#ifndef HVMI_BACKEND_QEMU_RUN_H
#define HVMI_BACKEND_QEMU_RUN_H

#include "qemu.h"

/* Stop the machine for a moment; run_release() must follow. */
int run_hold(struct qemu *q, struct hvmi_error *err);
/* As run_hold(), with the gdbstub, which is turned on if it is off. */
int run_hold_stub(struct qemu *q, bool take_over, struct hvmi_error *err);
/* Let it go on, unless somebody holds it. */
int run_release(struct qemu *q, struct hvmi_error *err);

/* Remember where a vCPU stands, out of its registers. */
void run_note_rip(struct qemu *q, uint32_t vcpu, const struct hvmi_registers *registers);

/* Have the gdbstub off again; the machine stands or runs as it should afterwards. */
void run_drop_stub(struct qemu *q);

/* Take what QEMU told since: stops, and that others resumed the machine. -ESRCH: it is gone. */
int run_pump(struct qemu *q, struct hvmi_error *err);

#endif
