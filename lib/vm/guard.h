/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Host memory that may vanish: a file that is cut short while it is mapped raises SIGBUS. A guarded
 * area gets zeros from the page that vanished to the area's end instead, and remembers where they
 * begin. A signal handler belongs to the whole process; this list is the library's only global
 * state.
 */
#ifndef HVMI_LIB_GUARD_H
#define HVMI_LIB_GUARD_H

#include <stdatomic.h>

#include "util/util.h"

struct guard {
	_Atomic(uintptr_t) base;	/* 0: not in use */
	_Atomic(uintptr_t) end;
	_Atomic(uintptr_t) lost_from;	/* UINTPTR_MAX: nothing is lost */
	struct guard *next, *next_free;
};

/* Something was lost, ever, in any area. Ask after copying; guard_real() says what. */
extern _Atomic(bool) guard_lost;

/* Guard [base, base + len). NULL: out of memory. */
struct guard *guard_add(const void *base, size_t len);
/* Before the area is unmapped. NULL is allowed. */
void guard_remove(struct guard *guard);

/* How many of the bytes [from, from + len) are real. Ask after they were copied. */
static inline size_t guard_real(const struct guard *guard, const void *from, size_t len)
{
	uintptr_t lost = atomic_load_explicit(&guard->lost_from, memory_order_acquire);
	uintptr_t start = (uintptr_t)from;
	return lost >= start + len ? len : lost <= start ? 0 : lost - start;
}

#endif
