/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>

#include "profile/profile.h"

/* Hostile types nest without end and fan out: one spelling visits no more than this many. */
#define VISITS_MAX 1000u
#define DEPTH_MAX 40u

struct spelling {
	const struct types *types;
	char *buf;
	size_t size, len;
	char last;			/* what was written last */
	uint32_t visits;
};

static void put(struct spelling *s, const char *text)
{
	size_t len = strlen(text);

	if (len == 0)
		return;
	if (s->len < s->size)
		memcpy(s->buf + s->len, text, MIN(len, s->size - s->len));
	s->len += len;
	s->last = text[len - 1];
}

static bool is_word(char c)
{
	return c == '_' || (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') ||
	       (c >= 'A' && c <= 'Z') || (unsigned char)c >= 0x80;
}

/* A token that keeps its distance from a word. */
static void put_apart(struct spelling *s, const char *text)
{
	if (is_word(s->last) || s->last == '}')
		put(s, " ");
	put(s, text);
}

static uint32_t behind_qualifiers(const struct types *types, uint32_t id)
{
	for (uint32_t i = 0; i < TYPE_CHAIN_MAX; i++) {
		if (types->types[id].kind != HVMI_TYPE_QUALIFIER)
			break;
		id = types->types[id].target;
	}
	return types->types[id].kind;
}

/* What a pointer to needs parentheses. */
static bool binds_right(const struct types *types, uint32_t id)
{
	uint32_t kind = behind_qualifiers(types, id);
	return kind == HVMI_TYPE_ARRAY || kind == HVMI_TYPE_FUNCTION;
}

static const char *keyword(const struct type *type)
{
	switch (type->kind) {
	case HVMI_TYPE_STRUCT: return "struct ";
	case HVMI_TYPE_UNION: return "union ";
	case HVMI_TYPE_ENUM: return "enum ";
	case HVMI_TYPE_FORWARD: return type->flags & TYPE_UNION_FORWARD ? "union " : "struct ";
	default: return "";
	}
}

static bool may_visit(struct spelling *s, uint32_t depth)
{
	return depth < DEPTH_MAX && s->visits < VISITS_MAX && ++s->visits;
}

static void put_left(struct spelling *s, uint32_t id, uint32_t depth);

static void put_qualified(struct spelling *s, const struct type *type, uint32_t depth)
{
	static const char *const words[] = {
		[QUALIFIER_OTHER] = "",
		[QUALIFIER_CONST] = "const",
		[QUALIFIER_VOLATILE] = "volatile",
		[QUALIFIER_RESTRICT] = "restrict",
	};
	const char *word = words[type->qualifier];

	if (word[0] == '\0') {
		put_left(s, type->target, depth + 1);
	} else if (behind_qualifiers(s->types, type->target) == HVMI_TYPE_POINTER) {
		put_left(s, type->target, depth + 1);
		put_apart(s, word);
	} else {
		put(s, word);
		put(s, " ");
		put_left(s, type->target, depth + 1);
	}
}

/* A declaration has its name in the middle: this is what stands before it... */
static void put_left(struct spelling *s, uint32_t id, uint32_t depth)
{
	const struct type *type = &s->types->types[id];
	const char *name = type_name(s->types, id);

	if (!may_visit(s, depth)) {
		put(s, "...");
		return;
	}
	switch (type->kind) {
	case HVMI_TYPE_VOID:
		put(s, "void");
		break;
	case HVMI_TYPE_POINTER:
		put_left(s, type->target, depth + 1);
		if (binds_right(s->types, type->target))
			put_apart(s, "(");
		put_apart(s, "*");
		break;
	case HVMI_TYPE_ARRAY:
	case HVMI_TYPE_FUNCTION:
		put_left(s, type->target, depth + 1);
		break;
	case HVMI_TYPE_QUALIFIER:
		put_qualified(s, type, depth);
		break;
	default:
		put(s, keyword(type));
		put(s, name[0] ? name : keyword(type)[0] ? "{...}" : "?");
		break;
	}
}

static void put_right(struct spelling *s, uint32_t id, uint32_t depth);

static void put_parameters(struct spelling *s, const struct type *type, uint32_t depth)
{
	put_apart(s, "(");
	if (type->count == 0)
		put(s, "void");
	for (uint32_t i = 0; i < type->count; i++) {
		uint32_t id = s->types->parameters[type->first + i];
		if (i > 0)
			put(s, ", ");
		if (id == 0 || s->visits >= VISITS_MAX) {
			put(s, "...");
			break;
		}
		put_left(s, id, depth + 1);
		put_right(s, id, depth + 1);
	}
	put(s, ")");
}

/* ... and this what stands after it. */
static void put_right(struct spelling *s, uint32_t id, uint32_t depth)
{
	const struct type *type = &s->types->types[id];
	char elements[16];

	if (!may_visit(s, depth))
		return;
	switch (type->kind) {
	case HVMI_TYPE_POINTER:
		if (binds_right(s->types, type->target))
			put(s, ")");
		break;
	case HVMI_TYPE_ARRAY:
		snprintf(elements, sizeof(elements), "[%u]", type->elements);
		put_apart(s, elements);
		break;
	case HVMI_TYPE_FUNCTION:
		put_parameters(s, type, depth);
		break;
	case HVMI_TYPE_QUALIFIER:
		break;
	default:
		return;
	}
	put_right(s, type->target, depth + 1);
}

int types_spell(const struct types *types, uint32_t id, char *buf, size_t size)
{
	struct spelling s = {.types = types, .buf = buf, .size = size};

	put_left(&s, id, 0);
	put_right(&s, id, 0);
	if (size > 0)
		buf[MIN(s.len, size - 1)] = '\0';
	return (int)s.len;
}

HVMI_API int hvmi_profile_type_spelling(const struct hvmi_profile *profile, uint32_t type,
					char *buf, size_t size)
{
	if (!profile || (!buf && size > 0))
		return -EINVAL;
	if (type >= profile->types.type_count)
		return -ENOENT;
	return types_spell(&profile->types, type, buf, size);
}
