/* SPDX-License-Identifier: Apache-2.0 */
/* Who is in code. */
#ifndef HVMI_LIB_QUIET_H
#define HVMI_LIB_QUIET_H

#include <hvmi/quiet.h>

#include "vm/vm.h"

/* What is looked for, and what was found. Zero it, set the first line, and what is wanted. */
struct quiet_search {
	const struct hvmi_code *ranges;
	size_t count;
	bool *busy;			/* or NULL: by range, set where somebody is in it */
	struct hvmi_occupant *ret;
	size_t room, found;
};

/* Only the vCPUs' RIP. -ENOTSUP: they have no registers. */
int quiet_search_vcpus(struct quiet_search *search, struct hvmi_vm *vm, struct hvmi_error *err);
/* As hvmi_quiet_check(), vCPUs included. */
int quiet_search(struct quiet_search *search, struct hvmi_os *os, struct hvmi_error *err);

#endif
