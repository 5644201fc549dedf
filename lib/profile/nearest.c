/* SPDX-License-Identifier: Apache-2.0 */
#include "profile/profile.h"

/* Longer names are not compared. */
#define LEN_MAX 48u
/* Insertions, deletions and replacements by which a suggestion may differ. */
#define DISTANCE_MAX 2u
#define BUDGET 20000u

void nearest_init(struct nearest *nearest, const char *wanted, size_t len)
{
	/* In a short name two other letters are another name. */
	uint32_t limit = len < 4 ? 1 : DISTANCE_MAX;
	*nearest = (struct nearest){
		.wanted = wanted, .len = len, .distance = limit + 1, .budget = BUDGET};
}

/* Levenshtein's distance, one row of the table at a time. */
static uint32_t distance(const char *a, size_t a_len, const char *b, size_t b_len)
{
	uint8_t row[LEN_MAX + 1];

	for (size_t j = 0; j <= b_len; j++)
		row[j] = (uint8_t)j;
	for (size_t i = 1; i <= a_len; i++) {
		uint8_t diagonal = row[0];
		row[0] = (uint8_t)i;
		for (size_t j = 1; j <= b_len; j++) {
			uint8_t replaced = (uint8_t)(diagonal + (a[i - 1] != b[j - 1]));
			uint8_t other = (uint8_t)(MIN(row[j], row[j - 1]) + 1);
			diagonal = row[j];
			row[j] = MIN(replaced, other);
		}
	}
	return row[b_len];
}

void nearest_offer(struct nearest *nearest, const char *name)
{
	if (nearest->len > LEN_MAX || nearest->distance == 0)
		return;
	size_t len = strnlen(name, LEN_MAX + 1);
	size_t apart = len > nearest->len ? len - nearest->len : nearest->len - len;
	if (len > LEN_MAX || apart >= nearest->distance || nearest->budget == 0)
		return;
	nearest->budget--;
	uint32_t found = distance(nearest->wanted, nearest->len, name, len);
	if (found < nearest->distance) {
		nearest->distance = found;
		nearest->best = name;
	}
}
