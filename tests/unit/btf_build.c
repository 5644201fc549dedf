/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>

#include "btf_build.h"

static void *append(void *array, size_t *len, const void *bytes, size_t n)
{
	/* Appending is rare enough that every call may move what is there. */
	uint8_t *moved = realloc(array, *len + n);
	if (!moved)
		abort();
	memcpy(moved + *len, bytes, n);
	*len += n;
	return moved;
}

static void put_le32(uint8_t *at, uint32_t value)
{
	for (int i = 0; i < 4; i++)
		at[i] = (uint8_t)(value >> 8 * i);
}

void btf_build_init(struct btf_build *build)
{
	static const uint8_t kinds[KIND_COUNT][2] = {
		[KIND_INT] = {4, 0},	    [KIND_ARRAY] = {12, 0},
		[KIND_STRUCT] = {0, 12},    [KIND_UNION] = {0, 12},
		[KIND_ENUM] = {0, 8},	    [KIND_FUNC_PROTO] = {0, 8},
		[KIND_VAR] = {4, 0},	    [KIND_DATASEC] = {0, 12},
		[KIND_DECL_TAG] = {4, 0},   [KIND_ENUM64] = {0, 12},
	};
	*build = (struct btf_build){.layout_count = KIND_COUNT};
	for (int i = 0; i < KIND_COUNT; i++)
		memcpy(build->layout[i], kinds[i], 2);
	build->names = append(NULL, &build->names_len, "", 1);
}

void btf_build_deinit(struct btf_build *build)
{
	free(build->types);
	free(build->names);
}

uint32_t btf_build_name(struct btf_build *build, const char *name)
{
	for (size_t at = 0; at < build->names_len; at += strlen(build->names + at) + 1)
		if (strcmp(build->names + at, name) == 0)
			return (uint32_t)at;
	uint32_t at = (uint32_t)build->names_len;
	build->names = append(build->names, &build->names_len, name, strlen(name) + 1);
	return at;
}

void btf_build_word(struct btf_build *build, uint32_t word)
{
	uint8_t bytes[4];
	put_le32(bytes, word);
	build->types = append(build->types, &build->types_len, bytes, sizeof(bytes));
}

uint32_t btf_build_type(struct btf_build *build, const char *name, uint32_t kind, bool flag,
			uint32_t vlen, uint32_t size_or_type)
{
	btf_build_word(build, btf_build_name(build, name));
	btf_build_word(build, (uint32_t)flag << 31 | kind << 24 | vlen);
	btf_build_word(build, size_or_type);
	return ++build->count;
}

uint32_t btf_build_int(struct btf_build *build, const char *name, uint32_t bytes,
		       uint32_t encoding)
{
	uint32_t id = btf_build_type(build, name, KIND_INT, false, 0, bytes);
	btf_build_word(build, encoding << 24 | bytes * 8);
	return id;
}

uint32_t btf_build_bits(struct btf_build *build, const char *name, uint32_t bytes,
			uint32_t first_bit, uint32_t bits)
{
	uint32_t id = btf_build_type(build, name, KIND_INT, false, 0, bytes);
	btf_build_word(build, first_bit << 16 | bits);
	return id;
}

uint32_t btf_build_of(struct btf_build *build, uint32_t kind, const char *name, uint32_t type)
{
	return btf_build_type(build, name, kind, false, 0, type);
}

uint32_t btf_build_array(struct btf_build *build, uint32_t type, uint32_t count)
{
	uint32_t id = btf_build_type(build, "", KIND_ARRAY, false, 0, 0);
	btf_build_word(build, type);
	btf_build_word(build, type);
	btf_build_word(build, count);
	return id;
}

void btf_build_member(struct btf_build *build, const char *name, uint32_t type,
		      uint32_t bit_offset)
{
	btf_build_word(build, btf_build_name(build, name));
	btf_build_word(build, type);
	btf_build_word(build, bit_offset);
}

void btf_build_bit_field(struct btf_build *build, const char *name, uint32_t type,
			 uint32_t bit_offset, uint32_t bits)
{
	btf_build_member(build, name, type, bits << 24 | bit_offset);
}

void btf_build_enumerator(struct btf_build *build, const char *name, uint32_t value)
{
	btf_build_word(build, btf_build_name(build, name));
	btf_build_word(build, value);
}

uint8_t *btf_build_blob(const struct btf_build *build, uint32_t header_len, bool layout,
			size_t *len_ret)
{
	size_t layout_len = layout ? (size_t)build->layout_count * 4 : 0;
	size_t len = header_len + build->types_len + layout_len + build->names_len;
	uint8_t *blob = calloc(1, len);
	if (!blob)
		abort();
	memcpy(blob, "\x9f\xeb\x01", 3);
	put_le32(blob + 4, header_len);
	put_le32(blob + 12, (uint32_t)build->types_len);
	put_le32(blob + 16, (uint32_t)(build->types_len + layout_len));
	put_le32(blob + 20, (uint32_t)build->names_len);
	if (layout) {
		put_le32(blob + 24, (uint32_t)build->types_len);
		put_le32(blob + 28, (uint32_t)layout_len);
	}
	uint8_t *at = blob + header_len;
	memcpy(at, build->types, build->types_len);
	memcpy(at + build->types_len, build->layout, layout_len);
	memcpy(at + build->types_len + layout_len, build->names, build->names_len);
	*len_ret = len;
	return blob;
}

/*
 * typedef unsigned int u32;
 * enum state { RUNNING = 0, DEAD = -1 };
 * enum flags { FLAG_LOW = 1, FLAG_HIGH = 0x80000000 };
 * enum big { BIG_LOW = 1, BIG_HIGH = 0x123456789abcdef0 };
 * struct list_head { struct list_head *next, *prev; };
 * struct mm { union { struct { long users; void *pgd; }; char raw[32]; }; };
 * struct task {
 *	volatile long state;
 *	struct list_head tasks;
 *	union { int pid; struct { unsigned short low, high; }; };
 *	u32 in_exec : 1, kind : 3, : 2, wide : 20;
 *	struct mm *mm;
 *	char comm[16];
 *	const struct cred *cred;		// never defined
 *	int (*hook)(struct task *, const char *restrict, ...);
 *	enum state st;
 *	_Bool dead;
 *	short prio : 12;
 *	struct mm *mms[2];
 *	int matrix[2][3];
 *	double load;
 *	char flex[];
 * };
 * int run(struct task *, const char *restrict, ...);
 * struct task *current;
 */
struct base_ids {
	uint32_t int_, long_, short_, ushort, char_, bool_, mm_pointer, cred_pointer;
};

static void sample_task(struct btf_build *b, struct btf_sample *s, const struct base_ids *id)
{
	uint32_t halves = btf_build_type(b, "", KIND_STRUCT, false, 2, 4);
	btf_build_member(b, "low", id->ushort, 0);
	btf_build_member(b, "high", id->ushort, 16);
	uint32_t either = btf_build_type(b, "", KIND_UNION, false, 2, 4);
	btf_build_member(b, "pid", id->int_, 0);
	btf_build_member(b, "", halves, 0);
	uint32_t state = btf_build_of(b, KIND_VOLATILE, "", id->long_);
	uint32_t comm = btf_build_array(b, id->char_, 16);
	uint32_t mms = btf_build_array(b, id->mm_pointer, 2);
	uint32_t row = btf_build_array(b, id->int_, 3);
	s->matrix = btf_build_array(b, row, 2);
	uint32_t flex = btf_build_array(b, id->char_, 0);
	s->task = btf_build_type(b, "task", KIND_STRUCT, true, 18, 128);
	btf_build_member(b, "state", state, 0);
	btf_build_member(b, "tasks", s->list_head, 8 * 8);
	btf_build_member(b, "", either, 24 * 8);
	btf_build_bit_field(b, "in_exec", s->u32, 28 * 8, 1);
	btf_build_bit_field(b, "kind", s->u32, 28 * 8 + 1, 3);
	btf_build_bit_field(b, "", s->u32, 28 * 8 + 4, 2);
	btf_build_bit_field(b, "wide", s->u32, 28 * 8 + 6, 20);
	btf_build_member(b, "mm", id->mm_pointer, 32 * 8);
	btf_build_member(b, "comm", comm, 40 * 8);
	btf_build_member(b, "cred", id->cred_pointer, 56 * 8);
	btf_build_member(b, "hook", s->hook, 64 * 8);
	btf_build_member(b, "st", s->state, 72 * 8);
	btf_build_member(b, "dead", id->bool_, 76 * 8);
	btf_build_bit_field(b, "prio", id->short_, 78 * 8, 12);
	btf_build_member(b, "mms", mms, 80 * 8);
	btf_build_member(b, "matrix", s->matrix, 96 * 8);
	btf_build_member(b, "load", s->number, 120 * 8);
	btf_build_member(b, "flex", flex, 128 * 8);
}

static void sample_enums(struct btf_build *b, struct btf_sample *s)
{
	s->state = btf_build_type(b, "state", KIND_ENUM, true, 2, 4);
	btf_build_enumerator(b, "RUNNING", 0);
	btf_build_enumerator(b, "DEAD", UINT32_MAX);
	s->flags = btf_build_type(b, "flags", KIND_ENUM, false, 2, 4);
	btf_build_enumerator(b, "FLAG_LOW", 1);
	btf_build_enumerator(b, "FLAG_HIGH", 0x80000000);
	s->big = btf_build_type(b, "big", KIND_ENUM64, false, 2, 8);
	btf_build_enumerator(b, "BIG_LOW", 1);
	btf_build_word(b, 0);
	btf_build_enumerator(b, "BIG_HIGH", 0x9abcdef0);
	btf_build_word(b, 0x12345678);
}

void btf_build_sample(struct btf_build *b, struct btf_sample *s)
{
	enum { SIGNED = 1, CHAR = 2, BOOL = 4 };
	struct base_ids id = {
		.int_ = btf_build_int(b, "int", 4, SIGNED),
		.long_ = btf_build_int(b, "long int", 8, SIGNED),
		.short_ = btf_build_int(b, "short int", 2, SIGNED),
		.ushort = btf_build_int(b, "short unsigned int", 2, 0),
		.char_ = btf_build_int(b, "char", 1, SIGNED | CHAR),
		.bool_ = btf_build_int(b, "_Bool", 1, BOOL),
	};
	uint32_t uint_id = btf_build_int(b, "unsigned int", 4, 0);
	s->number = btf_build_type(b, "double", KIND_FLOAT, false, 0, 8);
	s->u32 = btf_build_of(b, KIND_TYPEDEF, "u32", uint_id);
	sample_enums(b, s);

	/* It points to itself: the pointer comes first and names a type that is yet to come. */
	uint32_t list_pointer = btf_build_of(b, KIND_PTR, "", b->count + 2);
	s->list_head = btf_build_type(b, "list_head", KIND_STRUCT, false, 2, 16);
	btf_build_member(b, "next", list_pointer, 0);
	btf_build_member(b, "prev", list_pointer, 64);

	uint32_t void_pointer = btf_build_of(b, KIND_PTR, "", 0);
	uint32_t inner = btf_build_type(b, "", KIND_STRUCT, false, 2, 16);
	btf_build_member(b, "users", id.long_, 0);
	btf_build_member(b, "pgd", void_pointer, 64);
	uint32_t raw = btf_build_array(b, id.char_, 32);
	uint32_t both = btf_build_type(b, "", KIND_UNION, false, 2, 32);
	btf_build_member(b, "", inner, 0);
	btf_build_member(b, "raw", raw, 0);
	s->mm = btf_build_type(b, "mm", KIND_STRUCT, false, 1, 32);
	btf_build_member(b, "", both, 0);
	id.mm_pointer = btf_build_of(b, KIND_PTR, "", s->mm);

	s->cred = btf_build_of(b, KIND_FWD, "cred", 0);
	uint32_t const_cred = btf_build_of(b, KIND_CONST, "", s->cred);
	id.cred_pointer = btf_build_of(b, KIND_PTR, "", const_cred);
	uint32_t const_char = btf_build_of(b, KIND_CONST, "", id.char_);
	s->tagged = btf_build_of(b, KIND_TYPE_TAG, "user", const_char);
	uint32_t const_char_pointer = btf_build_of(b, KIND_PTR, "", s->tagged);
	s->restricted = btf_build_of(b, KIND_RESTRICT, "", const_char_pointer);

	/* task comes after these: a pointer to it, the function's type, a pointer to that. */
	uint32_t task_pointer = btf_build_of(b, KIND_PTR, "", b->count + 12);
	uint32_t prototype = btf_build_type(b, "", KIND_FUNC_PROTO, false, 3, id.int_);
	btf_build_enumerator(b, "task", task_pointer);
	btf_build_enumerator(b, "text", s->restricted);
	btf_build_enumerator(b, "", 0);
	s->hook = btf_build_of(b, KIND_PTR, "", prototype);
	sample_task(b, s, &id);

	s->function = btf_build_type(b, "run", KIND_FUNC, false, 1, prototype);
	s->variable = btf_build_of(b, KIND_VAR, "current", task_pointer);
	btf_build_word(b, 1);
	s->section = btf_build_type(b, ".data..percpu", KIND_DATASEC, false, 1, 8);
	btf_build_word(b, s->variable);
	btf_build_word(b, 0);
	btf_build_word(b, 8);
	s->tag = btf_build_of(b, KIND_DECL_TAG, "note", s->task);
	btf_build_word(b, UINT32_MAX);
}
