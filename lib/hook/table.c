/* SPDX-License-Identifier: Apache-2.0 */
/* Places by address: linear probing, at most three quarters full. */
#include "hook/hook.h"

static size_t home(const struct table *table, uint64_t key)
{
	/* Fibonacci hashing: addresses differ in their middle bits. */
	return (size_t)((key ^ key >> 29) * 0x9e3779b97f4a7c15ull >> 20) & (table->room - 1);
}

struct place *table_find(const struct table *table, uint64_t key)
{
	if (!table->count)
		return NULL;
	for (size_t i = home(table, key);; i = (i + 1) & (table->room - 1)) {
		const struct slot *slot = &table->slots[i];
		if (!slot->place || slot->key == key)
			return slot->place;
	}
}

static void insert(struct table *table, struct place *place)
{
	size_t i = home(table, place->key);
	while (table->slots[i].place)
		i = (i + 1) & (table->room - 1);
	table->slots[i] = (struct slot){ .key = place->key, .place = place };
}

int table_reserve(struct table *table)
{
	if (table->count + 1 <= table->room / 4 * 3)
		return 0;
	struct table grown = { .count = table->count, .room = table->room ? 2 * table->room : 16 };
	grown.slots = calloc(grown.room, sizeof(*grown.slots));
	if (!grown.slots)
		return -ENOMEM;
	for (size_t i = 0; i < table->room; i++)
		if (table->slots[i].place)
			insert(&grown, table->slots[i].place);
	free(table->slots);
	*table = grown;
	return 0;
}

void table_add(struct table *table, struct place *place)
{
	insert(table, place);
	table->count++;
}

void table_remove(struct table *table, uint64_t key)
{
	if (!table->count)
		return;
	size_t mask = table->room - 1, hole = home(table, key);
	while (table->slots[hole].place && table->slots[hole].key != key)
		hole = (hole + 1) & mask;
	if (!table->slots[hole].place)
		return;
	table->count--;
	/* What follows moves up, unless it is at or behind its home already. */
	for (size_t i = (hole + 1) & mask; table->slots[i].place; i = (i + 1) & mask) {
		size_t from = home(table, table->slots[i].key);
		if (((i - from) & mask) >= ((i - hole) & mask)) {
			table->slots[hole] = table->slots[i];
			hole = i;
		}
	}
	table->slots[hole].place = NULL;
}
