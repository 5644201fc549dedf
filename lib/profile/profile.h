/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Inside a profile: one symbol table and one type graph, filled by loaders (kallsyms, BTF, later
 * ISF and PDB), then frozen.
 */
#ifndef HVMI_LIB_PROFILE_H
#define HVMI_LIB_PROFILE_H

#include <hvmi/profile.h>

#include "profile/name_index.h"
#include "util/util.h"

/* Bounds on what a guest can make us hold. */
#define SYMBOLS_MAX 2000000u
#define SYMBOL_NAMES_MAX (64u * 1024 * 1024)
/* Above this distance an address does not belong to the symbol below it. */
#define SYMBOL_BYTES_MAX (64u * 1024 * 1024)
#define TYPES_MAX 4000000u
#define MEMBERS_MAX 16000000u
#define TYPE_NAMES_MAX (64u * 1024 * 1024)

struct symbols {
	uint32_t count, capacity;
	uint32_t names_len, names_capacity;
	uint64_t *gva;		/* ascending once frozen */
	uint32_t *name;		/* offset in names: the kind letter, then the name, then a NUL */
	char *names;
	struct name_index by_name;	/* once frozen */
};

/* A zeroed struct symbols is empty and may be added to. */
int symbols_reserve(struct symbols *symbols, uint32_t count, uint32_t names_len);
/* The name has no NUL inside and is copied. -EOVERFLOW: a bound above. -ENOMEM. */
int symbols_add(struct symbols *symbols, uint64_t gva, uint32_t kind, const char *name, size_t len);
/* Sort by address (stable, does nothing if sorted), index by name, give back spare memory. */
int symbols_freeze(struct symbols *symbols);
void symbols_deinit(struct symbols *symbols);
/* As hvmi_profile_symbol(). */
int symbols_find(const struct symbols *symbols, const char *name, uint64_t *gva_ret);
/* The symbol that hvmi_profile_symbol_at() means, by index. */
int symbols_at(const struct symbols *symbols, uint64_t gva, uint32_t *index_ret);
/* Everything but ret->size, which is zeroed. */
void symbols_get(const struct symbols *symbols, uint32_t index, struct hvmi_symbol *ret);

/* One type; its id is its index. */
struct type {
	uint32_t name;		/* offset in names */
	uint8_t kind;		/* enum hvmi_type_kind */
	uint8_t flags;
	uint16_t reserved;
	uint32_t target;	/* type id */
	uint32_t count;		/* members, enumerators, parameters, array elements */
	union {
		uint64_t bytes;		/* INTEGER, FLOAT, POINTER, STRUCT, UNION, ENUM */
	};
	uint32_t first;		/* index of the first member, enumerator or parameter */
	uint32_t reserved2;
};

struct member {
	uint32_t name;
	uint32_t type;
	uint32_t bit_offset;	/* BTF's limit too */
	uint32_t bit_size;
};

struct enumerator {
	uint32_t name;
	uint32_t reserved;
	int64_t value;
};

struct types {
	struct type *types;
	struct member *members;		/* of structs and unions; parameters of functions */
	struct enumerator *enumerators;
	char *names;			/* NUL-terminated strings, "" at 0 */
	uint32_t type_count, member_count, enumerator_count, names_len;
	uint32_t *buckets;		/* named types by name */
	uint32_t bucket_count;
	uint32_t *enumerator_buckets;
	uint32_t enumerator_bucket_count;
};

void types_deinit(struct types *types);

struct hvmi_profile {
	struct symbols symbols;
	struct types types;
	uint32_t pointer_bytes;		/* 8 or 4 */
};

/* A profile without anything, or NULL. */
struct hvmi_profile *profile_create(void);
void profile_destroy(struct hvmi_profile *profile);

#endif
