/* SPDX-License-Identifier: Apache-2.0 */
/* Writes BTF for tests: types one after the other, then a blob of them. Aborts if memory ends. */
#ifndef HVMI_TESTS_BTF_BUILD_H
#define HVMI_TESTS_BTF_BUILD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum btf_build_kind {
	KIND_INT = 1, KIND_PTR, KIND_ARRAY, KIND_STRUCT, KIND_UNION, KIND_ENUM, KIND_FWD,
	KIND_TYPEDEF, KIND_VOLATILE, KIND_CONST, KIND_RESTRICT, KIND_FUNC, KIND_FUNC_PROTO,
	KIND_VAR, KIND_DATASEC, KIND_FLOAT, KIND_DECL_TAG, KIND_TYPE_TAG, KIND_ENUM64,
	KIND_COUNT
};

struct btf_build {
	uint8_t *types;
	size_t types_len;
	char *names;
	size_t names_len;
	uint32_t count;			/* types; also the id of the last one */
	uint8_t layout[128][4];		/* as the kernel's kinds are; a test may change it */
	uint32_t layout_count;
};

void btf_build_init(struct btf_build *build);
void btf_build_deinit(struct btf_build *build);

/* A name's offset in the strings; equal names share it. */
uint32_t btf_build_name(struct btf_build *build, const char *name);
/* The 12 bytes of a type; its elements follow by btf_build_words(). Returns its id. */
uint32_t btf_build_type(struct btf_build *build, const char *name, uint32_t kind, bool flag,
			uint32_t vlen, uint32_t size_or_type);
void btf_build_word(struct btf_build *build, uint32_t word);

uint32_t btf_build_int(struct btf_build *build, const char *name, uint32_t bytes,
		       uint32_t encoding);
/* An integer that is a bit-field in the older form. */
uint32_t btf_build_bits(struct btf_build *build, const char *name, uint32_t bytes,
			uint32_t first_bit, uint32_t bits);
/* PTR, TYPEDEF, CONST and their like. */
uint32_t btf_build_of(struct btf_build *build, uint32_t kind, const char *name, uint32_t type);
uint32_t btf_build_array(struct btf_build *build, uint32_t type, uint32_t count);
/* One member after the other, as many as the struct said. */
void btf_build_member(struct btf_build *build, const char *name, uint32_t type,
		      uint32_t bit_offset);
void btf_build_bit_field(struct btf_build *build, const char *name, uint32_t type,
			 uint32_t bit_offset, uint32_t bits);
/* Also a parameter: its name and its type. */
void btf_build_enumerator(struct btf_build *build, const char *name, uint32_t value);

/* The blob, to be freed: header of 24 or 32 bytes, with or without a layout section (32 only). */
uint8_t *btf_build_blob(const struct btf_build *build, uint32_t header_len, bool layout,
			size_t *len_ret);

/* Types that a test refers to, by id. */
struct btf_sample {
	uint32_t u32, list_head, state, flags, big, mm, task, cred, hook, function, restricted,
		tagged, variable, section, tag, number, matrix;
};

/* Every kind, in a small kernel whose source stands in btf_build.c. */
void btf_build_sample(struct btf_build *build, struct btf_sample *ret);

#endif
