/* SPDX-License-Identifier: Apache-2.0 */
#include "profile/profile.h"

/* Anonymous structs inside each other; real ones go 6 deep. */
#define NESTING_MAX 32u

static bool is_looked_for(const struct types *types, const struct type *type)
{
	const uint32_t kinds = 1u << HVMI_TYPE_INTEGER | 1u << HVMI_TYPE_FLOAT |
			       1u << HVMI_TYPE_STRUCT | 1u << HVMI_TYPE_UNION |
			       1u << HVMI_TYPE_ENUM | 1u << HVMI_TYPE_TYPEDEF |
			       1u << HVMI_TYPE_FORWARD;
	return (kinds >> type->kind & 1) && types->names[type->name] != '\0';
}

int types_freeze(struct types *types)
{
	uint32_t count = 0;

	for (uint32_t id = 0; id < types->type_count; id++)
		count += is_looked_for(types, &types->types[id]);
	CLEANUP_FREE uint32_t *ids = malloc_filled(MAX(count, 1u) * 2 * sizeof(*ids));
	if (!ids)
		return -ENOMEM;
	uint32_t *hashes = ids + count, n = 0;
	uint64_t secret = name_secret();
	for (uint32_t id = 0; id < types->type_count; id++) {
		if (!is_looked_for(types, &types->types[id]))
			continue;
		const char *name = type_name(types, id);
		ids[n] = id;
		hashes[n++] = name_hash(name, strlen(name), secret);
	}
	name_index_deinit(&types->by_name);
	return name_index_build(&types->by_name, hashes, secret, ids, count);
}

void types_deinit(struct types *types)
{
	free(types->types);
	free(types->members);
	free(types->enumerators);
	free(types->parameters);
	free(types->names);
	name_index_deinit(&types->by_name);
	*types = (struct types){0};
}

uint32_t types_strip(const struct types *types, uint32_t id)
{
	for (uint32_t i = 0; i < TYPE_CHAIN_MAX; i++) {
		const struct type *type = &types->types[id];
		if (type->kind != HVMI_TYPE_TYPEDEF && type->kind != HVMI_TYPE_QUALIFIER)
			return id;
		id = type->target;
	}
	return TYPE_NONE;
}

bool types_sizeof(const struct types *types, uint32_t id, uint32_t pointer_bytes,
		  uint64_t *bytes_ret)
{
	uint64_t elements = 1, bytes;

	for (uint32_t i = 0; i < TYPE_CHAIN_MAX; i++) {
		const struct type *type = &types->types[id];
		switch (type->kind) {
		case HVMI_TYPE_TYPEDEF:
		case HVMI_TYPE_QUALIFIER:
			id = type->target;
			break;
		case HVMI_TYPE_ARRAY:
			if (__builtin_mul_overflow(elements, type->elements, &elements))
				return false;
			id = type->target;
			break;
		case HVMI_TYPE_INTEGER:
		case HVMI_TYPE_FLOAT:
		case HVMI_TYPE_STRUCT:
		case HVMI_TYPE_UNION:
		case HVMI_TYPE_ENUM:
		case HVMI_TYPE_POINTER:
			bytes = type->kind == HVMI_TYPE_POINTER ? pointer_bytes : type->bytes;
			return !__builtin_mul_overflow(elements, bytes, bytes_ret);
		default:
			return false;
		}
	}
	return false;
}

/* Where a plain name is looked for: the order of hvmi_profile_find_type(); 0: not there. */
static uint32_t rank(uint32_t kind)
{
	switch (kind) {
	case HVMI_TYPE_STRUCT: return 6;
	case HVMI_TYPE_UNION: return 5;
	case HVMI_TYPE_ENUM: return 4;
	case HVMI_TYPE_TYPEDEF: return 3;
	case HVMI_TYPE_INTEGER:
	case HVMI_TYPE_FLOAT: return 2;
	case HVMI_TYPE_FORWARD: return 1;
	default: return 0;
	}
}

static bool is_tagged(const struct type *type, uint32_t tag)
{
	if (type->kind != HVMI_TYPE_FORWARD)
		return type->kind == tag;
	return tag == (type->flags & TYPE_UNION_FORWARD ? HVMI_TYPE_UNION : HVMI_TYPE_STRUCT);
}

/* `tag` is the kind that it must be, that of the keyword before the name; VOID: any. */
static uint32_t find_exact(const struct types *types, uint32_t tag, const char *name)
{
	uint32_t count, best = TYPE_NONE, best_rank = 0;
	const uint32_t *ids = name_index_bucket(&types->by_name, name, strlen(name), &count);

	for (uint32_t i = 0; i < count; i++) {
		const struct type *type = &types->types[ids[i]];
		if (rank(type->kind) <= best_rank || (tag && !is_tagged(type, tag)) ||
		    strcmp(type_name(types, ids[i]), name) != 0)
			continue;
		best = ids[i];
		best_rank = rank(type->kind);
	}
	return best;
}

uint32_t types_find(const struct types *types, const char *name)
{
	static const struct {
		char keyword[8];
		uint32_t tag;
	} tags[] = {
		{ "struct ", HVMI_TYPE_STRUCT },
		{ "union ", HVMI_TYPE_UNION },
		{ "enum ", HVMI_TYPE_ENUM },
	};
	/* What gcc calls them, and what clang calls them, as C programmers do. */
	static const char *const aliases[][2] = {
		{ "short int", "short" },
		{ "short unsigned int", "unsigned short" },
		{ "unsigned int", "unsigned" },
		{ "long int", "long" },
		{ "long unsigned int", "unsigned long" },
		{ "long long int", "long long" },
		{ "long long unsigned int", "unsigned long long" },
		{ "_Bool", "bool" },
	};
	for (size_t i = 0; i < ARRAY_SIZE(tags); i++) {
		size_t len = strlen(tags[i].keyword);
		if (strncmp(name, tags[i].keyword, len) == 0)
			return find_exact(types, tags[i].tag, name + len);
	}
	uint32_t id = find_exact(types, HVMI_TYPE_VOID, name);
	for (size_t i = 0; i < ARRAY_SIZE(aliases) && id == TYPE_NONE; i++)
		for (int which = 0; which < 2; which++)
			if (strcmp(name, aliases[i][which]) == 0)
				id = find_exact(types, HVMI_TYPE_INTEGER, aliases[i][!which]);
	return id;
}

void types_offer(const struct types *types, struct nearest *nearest)
{
	for (uint32_t id = 0; id < types->type_count; id++)
		if (is_looked_for(types, &types->types[id]))
			nearest_offer(nearest, type_name(types, id));
}

struct member_walk {
	const struct types *types;
	uint32_t budget;
	member_visit_fn visit;
	void *context;
};

static int visit_members(struct member_walk *walk, uint32_t id, uint64_t bit_offset,
			 uint32_t depth)
{
	const struct types *types = walk->types;
	const struct type *type = &types->types[id];

	if (depth == NESTING_MAX)
		return -EBADMSG;
	for (uint32_t i = 0; i < type->count; i++) {
		const struct member *member = &types->members[type->first + i];
		uint64_t at = bit_offset + member->bit_offset;
		if (walk->budget-- == 0)
			return -EBADMSG;
		if (types->names[member->name] != '\0') {
			if (walk->visit(walk->context, member, at))
				return 0;
			continue;
		}
		uint32_t inner = types_strip(types, member->type);
		if (inner == TYPE_NONE || (types->types[inner].kind != HVMI_TYPE_STRUCT &&
					   types->types[inner].kind != HVMI_TYPE_UNION))
			continue;	/* an unnamed bit-field is padding */
		int err = visit_members(walk, inner, at, depth + 1);
		if (err != -ENOENT)
			return err;
	}
	return -ENOENT;
}

int types_each_member(const struct types *types, uint32_t id, member_visit_fn visit,
		      void *context)
{
	struct member_walk walk = {types, MEMBERS_BUDGET, visit, context};
	uint32_t kind = types->types[id].kind;

	if (kind != HVMI_TYPE_STRUCT && kind != HVMI_TYPE_UNION)
		return -ENOENT;
	return visit_members(&walk, id, 0, 0);
}
