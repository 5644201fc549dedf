/* SPDX-License-Identifier: Apache-2.0 */
/* Between btf.c, which takes a blob apart, and btf_types.c, which understands its types. */
#ifndef HVMI_LIB_BTF_LOADER_H
#define HVMI_LIB_BTF_LOADER_H

#include "profile/btf.h"

enum btf_kind {
	BTF_INT = 1, BTF_PTR, BTF_ARRAY, BTF_STRUCT, BTF_UNION, BTF_ENUM, BTF_FWD, BTF_TYPEDEF,
	BTF_VOLATILE, BTF_CONST, BTF_RESTRICT, BTF_FUNC, BTF_FUNC_PROTO, BTF_VAR, BTF_DATASEC,
	BTF_FLOAT, BTF_DECL_TAG, BTF_TYPE_TAG, BTF_ENUM64,
	BTF_KIND_COUNT
};

#define BTF_KINDS_MAX 128u

/* Bytes that follow a type: once, and for each of its `vlen` elements. */
struct btf_kind_size {
	uint8_t info, element;
	bool known;
};

struct btf_loader {
	const uint8_t *types;
	const char *names;
	uint32_t types_len, names_len;
	struct btf_kind_size kinds[BTF_KINDS_MAX];
	bool signs_told;		/* enums say whether they are signed: since 6.1 */
	bool odd_integers;		/* bit-fields may be told by the integer's own bits */
	struct types *graph;
	uint32_t type, member, enumerator, parameter;	/* filled so far */
	struct hvmi_error *err;
};

/* The 12 bytes of a type, decoded. Since 7.2 `vlen` has 24 bits and `kind` 7; older ones are 0. */
struct btf_record {
	uint32_t name, kind, vlen, value;
	bool flag;
	const uint8_t *info;		/* what follows */
};

static inline int btf_bad(const struct btf_loader *loader, const char *what)
{
	return hvmi_error_set(loader->err, -EBADMSG, HVMI_NO_ADDRESS,
			      "this BTF is malformed: type %u: %s", loader->type, what);
}

/* Put one type into the graph as number loader->type. Types after it are not there yet. */
int btf_fill_type(struct btf_loader *loader, const struct btf_record *record);

#endif
