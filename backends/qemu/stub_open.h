/* SPDX-License-Identifier: Apache-2.0 */
/* How the gdbstub is reached, and what it says of its registers. */
#ifndef HVMI_BACKEND_QEMU_STUB_OPEN_H
#define HVMI_BACKEND_QEMU_STUB_OPEN_H

#include "stub.h"

/* Connect to the stub; *@p ours_ret: it was off, and we turned it on. */
int stub_connect(struct monitor *m, bool take_over, int *fd_ret, bool *ours_ret,
		 struct hvmi_error *err);
/* Turn it off. */
void stub_disconnect(struct monitor *m);

/* Fill stub.registers from the stub's description of itself. */
int stub_read_layout(struct stub *s, struct hvmi_error *err);

#endif
