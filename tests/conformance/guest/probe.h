/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HVMI_CONFORMANCE_PROBE_H
#define HVMI_CONFORMANCE_PROBE_H

#include "mailbox.h"

/* Serve the mailbox for ever. */
void probe_run(void);

/* Say on the console what the guest knows of itself. */
void say(void);

/* PROBE_CHECK without the module's part. check_begin(): what came before does not count. */
void check_begin(void);
void check_run(struct probe_mailbox *mailbox, uint64_t values[CHECK_COUNT]);

#endif
