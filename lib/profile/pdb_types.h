/* SPDX-License-Identifier: Apache-2.0 */
/* Between pdb_types.c, which numbers types, and pdb_records.c, which understands their records. */
#ifndef HVMI_LIB_PDB_TYPES_H
#define HVMI_LIB_PDB_TYPES_H

#include "profile/pdb_file.h"
#include "profile/types_build.h"

/* Numbers below are of simple types. */
#define PDB_SIMPLE_MAX 0x1000u

struct pdb_types {
	const struct pdb_file *file;
	struct pdb_stream stream;
	uint32_t first, count;		/* numbers of types */
	struct pdb_type_record {
		uint32_t offset;	/* in the stream */
		uint32_t list, list_count;	/* of a list that was read: its elements */
		bool is_read;
	} *records;
	struct name_index definitions;
	struct types_build build;
	uint32_t simple[PDB_SIMPLE_MAX];	/* type ids, 0: not made, or void */
	uint32_t pointer_bytes;
};

/* Bytes of a record, taken from the front. */
struct pdb_cursor {
	const uint8_t *at, *end;
};
struct pdb_cursor pdb_record(const struct pdb_types *t, uint32_t index, uint32_t *kind_ret);

/* The common part of structs, unions and enums. */
struct pdb_tag {
	uint32_t kind;		/* enum hvmi_type_kind */
	uint32_t properties;	/* PDB_FORWARD ... */
	uint32_t fields;	/* number of the list */
	uint32_t underlying;	/* of an enum: number of its type */
	uint64_t bytes;
	const char *name, *unique;
	size_t name_len, unique_len;	/* unique_len 0: none */
};
#define PDB_FORWARD 0x80u
#define PDB_UNIQUE_NAME 0x200u
/* False: the record is of another kind, or is cut short. */
bool pdb_parse_tag(struct pdb_cursor *c, uint32_t kind, struct pdb_tag *ret);

/* The type with a number of the file, made if need be; 0 for void and what does not exist. */
uint32_t pdb_type_id(struct pdb_types *t, uint32_t index);
uint32_t pdb_make_pointer(struct pdb_types *t, uint32_t target, uint32_t bytes);
/* False: record `index` (from 0) is malformed. */
bool pdb_fill_type(struct pdb_types *t, uint32_t index, struct type *ret);

#endif
