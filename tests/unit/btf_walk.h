/* SPDX-License-Identifier: Apache-2.0 */
/* Asks a profile everything that there is to ask. */
#ifndef HVMI_TESTS_BTF_WALK_H
#define HVMI_TESTS_BTF_WALK_H

#include <hvmi/profile.h>

/* Whatever the types are: aborts if an answer contradicts another, or what profile.h promises. */
void btf_walk(const struct hvmi_profile *profile);

#endif
