/* SPDX-License-Identifier: Apache-2.0 */
/* Places and breakpoints by address: linear probing, at most four fifths full. */
#include "hook/hook.h"

static size_t home(const struct table *table, uint64_t key)
{
	/* Fibonacci hashing: addresses differ in their middle bits. */
	return (size_t)((key ^ key >> 29) * 0x9e3779b97f4a7c15ull >> 20) & (table->room - 1);
}

/* Where a key is, or would be. */
static size_t slot_of(const struct table *table, uint64_t key)
{
	size_t i = home(table, key);
	while (table->slots[i].value && table->slots[i].key != key)
		i = (i + 1) & (table->room - 1);
	return i;
}

void *table_find(const struct table *table, uint64_t key)
{
	return table->count ? table->slots[slot_of(table, key)].value : NULL;
}

void table_set(struct table *table, uint64_t key, void *value)
{
	table->slots[slot_of(table, key)] = (struct slot){ .key = key, .value = value };
}

int table_reserve(struct table *table)
{
	if (table->count + 1 <= table->room - table->room / 5)
		return 0;
	struct table grown = { .count = table->count, .room = table->room ? 2 * table->room : 16 };
	grown.slots = calloc(grown.room, sizeof(*grown.slots));
	if (!grown.slots)
		return -ENOMEM;
	for (size_t i = 0; i < table->room; i++)
		if (table->slots[i].value)
			table_set(&grown, table->slots[i].key, table->slots[i].value);
	free(table->slots);
	*table = grown;
	return 0;
}

void table_add(struct table *table, uint64_t key, void *value)
{
	table_set(table, key, value);
	table->count++;
}

void table_remove(struct table *table, uint64_t key)
{
	if (!table->count)
		return;
	size_t mask = table->room - 1, hole = slot_of(table, key);
	if (!table->slots[hole].value)
		return;
	table->count--;
	/* What follows moves up, unless it is at or behind its home already. */
	for (size_t i = (hole + 1) & mask; table->slots[i].value; i = (i + 1) & mask) {
		size_t from = home(table, table->slots[i].key);
		if (((i - from) & mask) >= ((i - hole) & mask)) {
			table->slots[hole] = table->slots[i];
			hole = i;
		}
	}
	table->slots[hole].value = NULL;
}
