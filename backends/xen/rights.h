/* SPDX-License-Identifier: Apache-2.0 */
/* The rights of pages that were set, by page: a byte each, in leaves of 512 that are made on demand. */
#ifndef XEN_RIGHTS_H
#define XEN_RIGHTS_H

#include <stdbool.h>
#include <stdint.h>

struct rights {
	uint8_t **leaves;
	uint64_t count;
};

/* -ENOMEM */
int rights_init(struct rights *r, uint64_t max_gfn);
void rights_free(struct rights *r);
/* HVMI_RIGHT_*, or a negative number: none were set. */
int rights_get(const struct rights *r, uint64_t gfn);
/* Make room, so that rights_set() cannot fail. -ENOMEM. */
int rights_reserve(struct rights *r, uint64_t gfn, uint64_t pages);
/* @p value negative: none. */
void rights_set(struct rights *r, uint64_t gfn, int value);
/* The first page at or above gfn that has some; false: none. */
bool rights_next(const struct rights *r, uint64_t *gfn);

#endif
