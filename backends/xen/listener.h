/* SPDX-License-Identifier: Apache-2.0 */
/* Whether whoever took a domain's ring still lives, which Xen does not say. */
#ifndef XEN_LISTENER_H
#define XEN_LISTENER_H

#include "domain.h"

/*
 * Of programs without libhvmi; the others have a journal. Where it cannot be known, one lives. What
 * the guest does with ports of its own does not make a living one seem dead.
 */
bool listener_lives(const struct domain *d);

#endif
