/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Filling a type graph of which it is not known beforehand how large it gets. The first failure
 * sticks: callers may go on, and find it when they finish.
 */
#ifndef HVMI_LIB_TYPES_BUILD_H
#define HVMI_LIB_TYPES_BUILD_H

#include "profile/profile.h"

/* Bounds on what a file can make us hold; the largest kernel PDB has a tenth of it. */
#define BUILD_MEMBERS_MAX 8000000u
#define BUILD_NAMES_MAX (256u * 1024 * 1024)

struct types_build {
	struct types graph;
	uint32_t type_capacity, member_capacity, enumerator_capacity, parameter_capacity,
		names_capacity;
	char *adopted;		/* names before those in graph.names, or NULL */
	uint32_t adopted_len;
	int error;		/* -ENOMEM, -EOVERFLOW: a bound, -EBADMSG: what the caller set */
};

/* Void is type 0, "" is at 0 of the names. */
void types_build_begin(struct types_build *build);
/* Begin with a copy of what is there; an empty graph gets its void and "". */
void types_build_thaw(struct types_build *build, const struct types *from);
/*
 * Take over bytes in which the caller's names lie, before any name is added. They stay where they are
 * until it is finished; the first is a NUL.
 */
void types_build_adopt(struct types_build *build, char *bytes, uint32_t len);
/* A copy of a name: its offset in names; 0 on failure. Names may hold no NUL. */
uint32_t types_build_name(struct types_build *build, const char *name, size_t len);
/* The id of a new type, 0 on failure. Ids are dense and ascend. */
uint32_t types_build_type(struct types_build *build, struct type type);
/* Their index; those of one struct must follow each other. */
uint32_t types_build_member(struct types_build *build, struct member member);
uint32_t types_build_enumerator(struct types_build *build, uint32_t name, int64_t value);
uint32_t types_build_parameter(struct types_build *build, uint32_t type);

/*
 * Check that every type id exists, freeze, and move the graph to *ret, which was empty. On failure
 * everything is freed and *ret is left alone.
 */
int types_build_finish(struct types_build *build, struct types *ret);
void types_build_abort(struct types_build *build);

#endif
