/* SPDX-License-Identifier: Apache-2.0 */
/* Machines of the sim backend out of scripts in memory. */
#ifndef HVMI_TESTS_MACHINE_H
#define HVMI_TESTS_MACHINE_H

#include <stdbool.h>

#include "../../backends/sim/sim.h"

/* Open what a script of `len` bytes makes. options may be NULL. */
int machine_try(const void *script, size_t len, const struct hvmi_open_options *options,
		struct hvmi_vm **ret, struct hvmi_error *err);

/* The same for a formatted script that must be good. */
struct hvmi_vm *machine_open(uint32_t flags, const char *format, ...) HVMI_PRINTF(2, 3);

#endif
