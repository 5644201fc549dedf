/* SPDX-License-Identifier: Apache-2.0 */
#include "rights.h"

#include <errno.h>
#include <stdlib.h>

#define LEAF 512u
#define SET 0x80u

int rights_init(struct rights *r, uint64_t max_gfn)
{
	r->count = max_gfn / LEAF + 1;
	r->leaves = calloc(r->count, sizeof(*r->leaves));
	return r->leaves ? 0 : -ENOMEM;
}

void rights_free(struct rights *r)
{
	for (uint64_t i = 0; r->leaves && i < r->count; i++)
		free(r->leaves[i]);
	free(r->leaves);
	*r = (struct rights){ 0 };
}

int rights_get(const struct rights *r, uint64_t gfn)
{
	const uint8_t *leaf = gfn / LEAF < r->count ? r->leaves[gfn / LEAF] : NULL;
	return leaf && leaf[gfn % LEAF] & SET ? (int)(leaf[gfn % LEAF] & ~SET) : -1;
}

int rights_reserve(struct rights *r, uint64_t gfn, uint64_t pages)
{
	for (uint64_t i = gfn / LEAF; i <= (gfn + pages - 1) / LEAF; i++) {
		if (i >= r->count)
			return -EFAULT;
		if (!r->leaves[i])
			r->leaves[i] = calloc(LEAF, 1);
		if (!r->leaves[i])
			return -ENOMEM;
	}
	return 0;
}

void rights_set(struct rights *r, uint64_t gfn, int value)
{
	if (gfn / LEAF < r->count && r->leaves[gfn / LEAF])
		r->leaves[gfn / LEAF][gfn % LEAF] = value < 0 ? 0 : (uint8_t)value | SET;
}

bool rights_next(const struct rights *r, uint64_t *gfn)
{
	for (uint64_t at = *gfn; at / LEAF < r->count;) {
		const uint8_t *leaf = r->leaves[at / LEAF];
		if (!leaf) {
			at = (at / LEAF + 1) * LEAF;
			continue;
		}
		if (leaf[at % LEAF] & SET) {
			*gfn = at;
			return true;
		}
		at++;
	}
	return false;
}
