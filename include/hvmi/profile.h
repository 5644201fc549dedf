/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file profile.h
 * Symbols and types of a kernel, wherever they came from.
 *
 * A profile is immutable: any thread. Strings that it gives live as long as it does.
 */
#ifndef HVMI_PROFILE_H
#define HVMI_PROFILE_H

#include <hvmi/space.h>

#ifdef __cplusplus
extern "C" {
#endif

struct hvmi_profile;

/** A symbol. */
struct hvmi_symbol {
	size_t size;		/**< sizeof(struct hvmi_symbol) */
	uint64_t gva;		/**< where it is in the running guest, slide included */
	const char *name;
	uint32_t kind;		/**< the letter of nm ('T' text, 'd' data, ...), 0 if unknown */
	uint32_t reserved;
};

/**
 * The address of a symbol. Where several have the name, the first global one (a letter in upper
 * case), else the one with the lowest address; iterate for the others. -ENOENT: none.
 */
HVMI_API int hvmi_profile_symbol(const struct hvmi_profile *profile, const char *name,
				 uint64_t *gva_ret, struct hvmi_error *err);

/**
 * The nearest symbol at or below an address; of several at one address the first global one.
 * @param offset_ret  gva - ret->gva; may be NULL
 * @return -ENOENT: the address is outside the kernel image's symbols: below the first, above the
 *         last, or in a gap that is larger than any object
 */
HVMI_API int hvmi_profile_symbol_at(const struct hvmi_profile *profile, uint64_t gva,
				    struct hvmi_symbol *ret, uint64_t *offset_ret);

/** The next symbol in order of address; *@p cursor is 0 at first. 1: got one, 0: no more. */
HVMI_API int hvmi_profile_next_symbol(const struct hvmi_profile *profile, uint32_t *cursor,
				      struct hvmi_symbol *ret);

/** Kinds of types. */
enum hvmi_type_kind {
	HVMI_TYPE_VOID = 0,
	HVMI_TYPE_INTEGER = 1,		/**< with HVMI_TYPE_SIGNED, _CHAR, _BOOL in flags */
	HVMI_TYPE_FLOAT = 2,
	HVMI_TYPE_POINTER = 3,		/**< target: what it points to */
	HVMI_TYPE_ARRAY = 4,		/**< target: its elements; count: how many */
	HVMI_TYPE_STRUCT = 5,
	HVMI_TYPE_UNION = 6,
	HVMI_TYPE_ENUM = 7,
	HVMI_TYPE_TYPEDEF = 8,		/**< target: what it names */
	HVMI_TYPE_QUALIFIER = 9,	/**< const, volatile, restrict, attribute; target: of what */
	HVMI_TYPE_FUNCTION = 10,	/**< target: what it returns */
	HVMI_TYPE_FORWARD = 11,		/**< a struct or union whose members are unknown */
	HVMI_TYPE_UNKNOWN = 12		/**< no type (a variable, section or tag), or a new kind */
};

/** hvmi_type.flags: values of this integer or enum are signed. */
#define HVMI_TYPE_SIGNED 1u
/** hvmi_type.flags: the integer is meant as a character. */
#define HVMI_TYPE_CHAR 2u
/** hvmi_type.flags: the integer is a truth value. */
#define HVMI_TYPE_BOOL 4u

/** A type, by its number in the profile; 0 is void. */
struct hvmi_type {
	size_t size;		/**< sizeof(struct hvmi_type) */
	const char *name;	/**< its own name, "" if it has none */
	uint64_t bytes;		/**< sizeof, through typedefs and qualifiers; 0 if unknown */
	uint32_t id;
	uint32_t kind;		/**< enum hvmi_type_kind */
	uint32_t flags;		/**< HVMI_TYPE_SIGNED ...; of integers and enums only */
	uint32_t target;	/**< type id, see the kinds */
	uint32_t count;		/**< members, enumerators, parameters or array elements */
	uint32_t reserved;
};

/** A type by number; numbers are dense, from 0 on. -ENOENT: no such number. */
HVMI_API int hvmi_profile_type(const struct hvmi_profile *profile, uint32_t id,
			       struct hvmi_type *ret);

/**
 * A type by name: "struct task_struct", "union NAME", "enum NAME", or a plain name, which is looked
 * for among structs, unions, enums, typedefs and base types in this order. Base types may be named
 * as gcc does or as in C: "long unsigned int" and "unsigned long" are the same. A struct or union
 * that is only declared is found last. Of several that are left, the first. -ENOENT: none.
 */
HVMI_API int hvmi_profile_find_type(const struct hvmi_profile *profile, const char *name,
				    struct hvmi_type *ret, struct hvmi_error *err);

/** One member of a struct or union, as declared. */
struct hvmi_type_member {
	size_t size;		/**< sizeof(struct hvmi_type_member) */
	const char *name;	/**< "" if anonymous */
	uint64_t bit_offset;	/**< from the start of the type it is declared in */
	uint32_t bit_size;	/**< width of a bit-field, else 0 */
	uint32_t type;		/**< type id */
};

/** Member number @p index of a struct or union. -ENOENT: no such index. */
HVMI_API int hvmi_profile_member_at(const struct hvmi_profile *profile, uint32_t type,
				    uint32_t index, struct hvmi_type_member *ret);

/** Enumerator number @p index of an enum. -ENOENT: no such index. */
HVMI_API int hvmi_profile_enumerator_at(const struct hvmi_profile *profile, uint32_t type,
					uint32_t index, const char **name_ret, int64_t *value_ret);

/** The value of an enumerator, whatever its enum; of several, the first. -ENOENT: none. */
HVMI_API int hvmi_profile_enumerator(const struct hvmi_profile *profile, const char *name,
				     int64_t *ret, struct hvmi_error *err);

/**
 * A type as C spells it: "struct list_head *", "char [16]", "void (*)(struct foo *, int)";
 * "struct {...}" if it has no name. What is too long or too deep to be spelt ends in "...".
 * @param buf  receives at most @p size bytes with the terminating NUL (may be NULL if size is 0)
 * @return its length as snprintf does, or -ENOENT
 */
HVMI_API int hvmi_profile_type_spelling(const struct hvmi_profile *profile, uint32_t type,
					char *buf, size_t size);

/** sizeof a type, named as for hvmi_profile_find_type(). -ENOENT: no such type, or no size. */
HVMI_API int hvmi_profile_sizeof(const struct hvmi_profile *profile, const char *type,
				 uint64_t *bytes_ret, struct hvmi_error *err);

/** Most entries of hvmi_member.hops: a path goes through one pointer less. */
#define HVMI_PATH_HOPS 8

/**
 * Where a path leads. Start at the object's address; for each but the last of hops[]: add it and
 * read a pointer there; then add the last: that is the address of the member.
 */
struct hvmi_member {
	size_t size;		/**< sizeof(struct hvmi_member) */
	uint64_t bytes;		/**< size of the member, for a bit-field of its declared type */
	uint32_t bit_offset;	/**< bit-field: its lowest bit, counted from hops[hop_count - 1] */
	uint32_t bit_size;	/**< bit-field: its width, else 0 */
	uint32_t type;		/**< type id, as declared */
	uint32_t kind;		/**< enum hvmi_type_kind, behind typedefs and qualifiers */
	uint32_t flags;		/**< HVMI_TYPE_SIGNED ... */
	uint32_t hop_count;	/**< at least 1 */
	uint32_t pointer_bytes;	/**< size of the pointers on the way, 4 or 8 */
	uint32_t reserved;
	uint64_t hops[HVMI_PATH_HOPS];	/**< byte offsets */
};

/**
 * Find a member by a path such as "mm.pgd", "comm", "fs.pwd.dentry", "mem[1].base". Anonymous
 * members are looked through; "." goes through a pointer where it must ("->" is allowed too). An
 * index, in decimal, is of an array, within its bounds (one of no elements is flexible: it has
 * none), or of a pointer, as in C.
 * @return -EINVAL: the path is malformed; -ENOENT: no such type or member (@p err says at which
 *         step); -EOVERFLOW: too many hops, or beyond 2^64; -EBADMSG: the types make no sense
 */
HVMI_API int hvmi_profile_member(const struct hvmi_profile *profile, const char *type,
				 const char *path, struct hvmi_member *ret, struct hvmi_error *err);

/**
 * Read a member of an object as a number: integers, enums, bit-fields and pointers of at most 8
 * bytes, sign-extended where they are signed.
 * @param space   where the object is; it, not the profile, limits the threads
 * @param object  guest-virtual address of the object
 * @return -EFAULT: unmapped on the way; -EINVAL: not a number; else as hvmi_profile_member()
 */
HVMI_API int hvmi_profile_read(const struct hvmi_profile *profile, struct hvmi_space *space,
			       uint64_t object, const char *type, const char *path, uint64_t *ret,
			       struct hvmi_error *err);

/**
 * The same with a member that was looked up before; for loops. It need not be of a profile that
 * still exists.
 */
HVMI_API int hvmi_member_read(const struct hvmi_member *member, struct hvmi_space *space,
			      uint64_t object, uint64_t *ret);

/** The address of a member of an object, its pointers followed. -EFAULT: unmapped on the way. */
HVMI_API int hvmi_member_address(const struct hvmi_member *member, struct hvmi_space *space,
				 uint64_t object, uint64_t *gva_ret);

#ifdef __cplusplus
}
#endif
#endif
