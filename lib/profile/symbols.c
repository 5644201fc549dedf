/* SPDX-License-Identifier: Apache-2.0 */
#include "profile/profile.h"

/* Kind letter and NUL. */
#define NAME_EXTRA 2u
#define FIRST_CAPACITY 1024u

static const char *name_of(const struct symbols *symbols, uint32_t index)
{
	return symbols->names + symbols->name[index] + 1;
}

static bool is_global(const struct symbols *symbols, uint32_t index)
{
	char kind = symbols->names[symbols->name[index]];
	return kind >= 'A' && kind <= 'Z';
}

/* realloc() that frees nothing on failure and never asks for 0 bytes. */
static int resize(void *array, uint64_t count, size_t item)
{
	void **p = array;
	void *moved = realloc(*p, MAX(count, 1u) * item);
	if (!moved)
		return -ENOMEM;
	*p = moved;
	return 0;
}

static int set_capacity(struct symbols *symbols, uint32_t count, uint32_t names_len)
{
	if (count != symbols->capacity) {
		if (resize(&symbols->gva, count, sizeof(*symbols->gva)) < 0 ||
		    resize(&symbols->name, count, sizeof(*symbols->name)) < 0)
			return -ENOMEM;
		symbols->capacity = count;
	}
	if (names_len != symbols->names_capacity) {
		if (resize(&symbols->names, names_len, 1) < 0)
			return -ENOMEM;
		symbols->names_capacity = names_len;
	}
	return 0;
}

int symbols_reserve(struct symbols *symbols, uint32_t count, uint32_t names_len)
{
	uint64_t all = (uint64_t)symbols->count + count;
	uint64_t all_names = (uint64_t)symbols->names_len + names_len;

	if (all > SYMBOLS_MAX || all_names > SYMBOL_NAMES_MAX)
		return -EOVERFLOW;
	return set_capacity(symbols, (uint32_t)MAX(all, symbols->capacity),
			    (uint32_t)MAX(all_names, symbols->names_capacity));
}

/* Make room for one more symbol, twice as much as there was: adding stays linear. */
static int grow(struct symbols *symbols, size_t len)
{
	if (symbols->count >= SYMBOLS_MAX || len > SYMBOL_NAMES_MAX - NAME_EXTRA ||
	    symbols->names_len > SYMBOL_NAMES_MAX - NAME_EXTRA - len)
		return -EOVERFLOW;

	uint32_t capacity = symbols->capacity, names_capacity = symbols->names_capacity;
	uint32_t names_len = symbols->names_len + (uint32_t)len + NAME_EXTRA;
	if (symbols->count == capacity)
		capacity = MIN(MAX(capacity * 2, FIRST_CAPACITY), SYMBOLS_MAX);
	if (names_len > names_capacity)
		names_capacity = MAX(MIN(MAX(names_capacity * 2, FIRST_CAPACITY), SYMBOL_NAMES_MAX),
				     names_len);
	return set_capacity(symbols, capacity, names_capacity);
}

int symbols_add(struct symbols *symbols, uint64_t gva, uint32_t kind, const char *name, size_t len)
{
	if (symbols->count >= symbols->capacity ||
	    len + NAME_EXTRA > symbols->names_capacity - symbols->names_len) {
		int err = grow(symbols, len);
		if (err < 0)
			return err;
	}
	char *to = symbols->names + symbols->names_len;
	symbols->gva[symbols->count] = gva;
	symbols->name[symbols->count] = symbols->names_len;
	to[0] = (char)kind;
	memcpy(to + 1, name, len);
	to[1 + len] = '\0';
	symbols->count++;
	symbols->names_len += (uint32_t)len + NAME_EXTRA;
	return 0;
}

struct sort_item {
	uint64_t gva;
	uint32_t name;
};

/* One pass of a radix sort: stable. Returns false if all keys have the same byte there. */
static bool sort_by_byte(const struct sort_item *from, struct sort_item *to, uint32_t count,
			 unsigned int shift)
{
	uint32_t at[256] = {0};

	for (uint32_t i = 0; i < count; i++)
		at[from[i].gva >> shift & 0xff]++;
	if (at[from[0].gva >> shift & 0xff] == count)
		return false;
	for (uint32_t i = 0, sum = 0; i < ARRAY_SIZE(at); i++) {
		uint32_t n = at[i];
		at[i] = sum;
		sum += n;
	}
	for (uint32_t i = 0; i < count; i++)
		to[at[from[i].gva >> shift & 0xff]++] = from[i];
	return true;
}

static int sort_by_address(struct symbols *symbols)
{
	uint32_t count = symbols->count, i = 1;

	while (i < count && symbols->gva[i - 1] <= symbols->gva[i])
		i++;
	if (i >= count)
		return 0;

	struct sort_item *items = malloc(2 * sizeof(*items) * (size_t)count);
	if (!items)
		return -ENOMEM;
	struct sort_item *from = items, *to = items + count;
	for (i = 0; i < count; i++)
		from[i] = (struct sort_item){symbols->gva[i], symbols->name[i]};
	for (unsigned int shift = 0; shift < 64; shift += 8) {
		if (!sort_by_byte(from, to, count, shift))
			continue;
		struct sort_item *sorted = to;
		to = from;
		from = sorted;
	}
	for (i = 0; i < count; i++) {
		symbols->gva[i] = from[i].gva;
		symbols->name[i] = from[i].name;
	}
	free(items);
	return 0;
}

int symbols_freeze(struct symbols *symbols)
{
	int err = sort_by_address(symbols);
	if (err < 0)
		return err;
	err = set_capacity(symbols, symbols->count, symbols->names_len);
	if (err < 0)
		return err;

	CLEANUP_FREE uint32_t *hashes = malloc_filled(MAX(symbols->count, 1u) * sizeof(*hashes));
	if (!hashes)
		return -ENOMEM;
	uint64_t secret = name_secret();
	for (uint32_t i = 0; i < symbols->count; i++) {
		const char *name = name_of(symbols, i);
		hashes[i] = name_hash(name, strlen(name), secret);
	}
	name_index_deinit(&symbols->by_name);
	return name_index_build(&symbols->by_name, hashes, secret, NULL, symbols->count);
}

void symbols_deinit(struct symbols *symbols)
{
	free(symbols->gva);
	free(symbols->name);
	free(symbols->names);
	name_index_deinit(&symbols->by_name);
	*symbols = (struct symbols){0};
}

int symbols_find(const struct symbols *symbols, const char *name, uint64_t *gva_ret)
{
	uint32_t count, best = UINT32_MAX;
	const uint32_t *ids = name_index_bucket(&symbols->by_name, name, strlen(name), &count);

	for (uint32_t i = 0; i < count; i++) {
		if (strcmp(name_of(symbols, ids[i]), name) != 0)
			continue;
		if (best == UINT32_MAX || is_global(symbols, ids[i]))
			best = ids[i];
		if (is_global(symbols, best))
			break;
	}
	if (best == UINT32_MAX)
		return -ENOENT;
	*gva_ret = symbols->gva[best];
	return 0;
}

int symbols_at(const struct symbols *symbols, uint64_t gva, uint32_t *index_ret)
{
	uint32_t low = 0, high = symbols->count;

	while (low < high) {
		uint32_t middle = low + (high - low) / 2;
		if (symbols->gva[middle] <= gva)
			low = middle + 1;
		else
			high = middle;
	}
	if (low == 0)
		return -ENOENT;
	uint32_t last = low - 1;
	uint64_t at = symbols->gva[last];
	/* No object is that big: behind it lies something that is not the kernel's. */
	if (gva != at && (low == symbols->count || symbols->gva[low] - at > SYMBOL_BYTES_MAX))
		return -ENOENT;

	uint32_t best = last;
	for (uint32_t i = last;; i--) {
		if (symbols->gva[i] != at)
			break;
		if (is_global(symbols, i) || !is_global(symbols, best))
			best = i;
		if (i == 0)
			break;
	}
	*index_ret = best;
	return 0;
}

void symbols_get(const struct symbols *symbols, uint32_t index, struct hvmi_symbol *ret)
{
	*ret = (struct hvmi_symbol){
		.gva = symbols->gva[index],
		.name = name_of(symbols, index),
		.kind = (uint8_t)symbols->names[symbols->name[index]],
	};
}
