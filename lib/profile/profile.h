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
/* Below 2^24: struct member. */
#define TYPES_MAX 4000000u
/* Above this distance an address does not belong to the symbol below it. */
#define SYMBOL_BYTES_MAX (64u * 1024 * 1024)

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

/* One type; its id is its index, 0 is void. 100,000 of them are held for each machine: 16 bytes. */
struct type {
	uint32_t name;			/* offset in names */
	uint32_t kind : 4;		/* enum hvmi_type_kind */
	uint32_t flags : 4;		/* INTEGER, ENUM: HVMI_TYPE_*; others: TYPE_* */
	uint32_t count : 24;		/* members, enumerators, parameters */
	union {
		uint32_t target;	/* POINTER, ARRAY, TYPEDEF, QUALIFIER, FUNCTION: type id */
		uint32_t bytes;		/* INTEGER, FLOAT, STRUCT, UNION, ENUM */
	};
	union {
		uint32_t first;		/* STRUCT, UNION, ENUM, FUNCTION: index of the first */
		uint32_t elements;	/* ARRAY */
		uint32_t qualifier;	/* QUALIFIER: enum qualifier */
		uint32_t bits;		/* INTEGER in BTF: its width | its lowest bit << 8 */
	};
};

/* FORWARD: of a union; else of a struct. */
#define TYPE_UNION_FORWARD 1u
/* FUNCTION: one that exists, not just the type of one. */
#define TYPE_DEFINED_FUNCTION 1u

enum qualifier { QUALIFIER_OTHER, QUALIFIER_CONST, QUALIFIER_VOLATILE, QUALIFIER_RESTRICT };

struct member {
	uint32_t name;
	uint32_t type : 24;
	uint32_t bit_size : 8;		/* of a bit-field, else 0 */
	uint32_t bit_offset;
};

struct enumerator {
	uint32_t name;
	uint32_t low, high;		/* the value, in halves: 12 bytes and not 16 */
};

/*
 * A type graph. A loader fills it so that every name lies in names, every type id below type_count
 * and every range of members, enumerators and parameters in its array. What it need not promise:
 * that types make sense (cycles, sizes, members that lie outside). Whoever walks them is careful.
 */
struct types {
	struct type *types;
	struct member *members;		/* of structs and unions */
	struct enumerator *enumerators;
	uint32_t *parameters;		/* of functions: type ids; the last may be 0: "..." */
	char *names;			/* strings, each ended by a NUL, "" at 0 */
	uint32_t type_count, member_count, enumerator_count, parameter_count, names_len;
	struct name_index by_name;	/* structs, unions, enums, typedefs, base types, forwards */
};

/* Longest name in a type graph, without the NUL. */
#define TYPE_NAME_MAX 1024u
/* Typedefs, qualifiers and arrays that are looked through, one after the other. */
#define TYPE_CHAIN_MAX 64u
#define TYPE_NONE UINT32_MAX

/* Index by name, once everything is filled. -ENOMEM. */
int types_freeze(struct types *types);
void types_deinit(struct types *types);

static inline const char *type_name(const struct types *types, uint32_t id)
{
	return types->names + types->types[id].name;
}

/* Behind typedefs and qualifiers; TYPE_NONE where they go in a circle. */
uint32_t types_strip(const struct types *types, uint32_t id);
/* As hvmi_profile_find_type(): a type id, or TYPE_NONE. */
uint32_t types_find(const struct types *types, const char *name);
/* sizeof. False: it has none, or it does not fit. */
bool types_sizeof(const struct types *types, uint32_t id, uint32_t pointer_bytes,
		  uint64_t *bytes_ret);

/*
 * Every named member of a struct or union, those of anonymous members included, with its place
 * from the start of `id`. Ends when visit() returns true. -ENOENT: visit() never did; -EBADMSG: the
 * types contain each other, or have more than MEMBERS_BUDGET members.
 */
#define MEMBERS_BUDGET 100000u
typedef bool (*member_visit_fn)(void *context, const struct member *member, uint64_t bit_offset);
int types_each_member(const struct types *types, uint32_t id, member_visit_fn visit,
		      void *context);

/* The name that is most like the one that was asked for, offered one at a time. */
struct nearest {
	const char *wanted;
	size_t len;
	uint32_t distance;
	uint32_t budget;		/* of names compared: guests choose how many there are */
	const char *best;		/* NULL: none is near */
};
void nearest_init(struct nearest *nearest, const char *wanted, size_t len);
void nearest_offer(struct nearest *nearest, const char *name);
/* All that types_find() could find. */
void types_offer(const struct types *types, struct nearest *nearest);

struct hvmi_profile {
	struct symbols symbols;
	struct types types;
	uint32_t pointer_bytes;		/* 8 or 4 */
};

/* Room to spell a type in a sentence. */
#define SPELLING_TEXT 80u

/* As hvmi_profile_type_spelling(). */
int types_spell(const struct types *types, uint32_t id, char *buf, size_t size);
/* As hvmi_profile_find_type(): the id, or a negative error. */
int64_t profile_find_type(const struct hvmi_profile *profile, const char *name,
			  struct hvmi_error *err);

/* A profile without anything, or NULL. */
struct hvmi_profile *profile_create(void);
void profile_destroy(struct hvmi_profile *profile);

/*
 * hvmi_member_read() where the bytes of the object that the member begins with, its number or first
 * pointer, were copied before: `copy`.
 */
int member_read_copied(const struct hvmi_member *member, struct hvmi_space *space,
		       const uint8_t *copy, uint64_t *ret);

#endif
