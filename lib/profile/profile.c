/* SPDX-License-Identifier: Apache-2.0 */
#include "profile/profile.h"

struct hvmi_profile *profile_create(void)
{
	struct hvmi_profile *profile = calloc(1, sizeof(*profile));
	if (profile)
		profile->pointer_bytes = 8;
	return profile;
}

void profile_destroy(struct hvmi_profile *profile)
{
	if (!profile)
		return;
	symbols_deinit(&profile->symbols);
	types_deinit(&profile->types);
	free(profile);
}

HVMI_API int hvmi_profile_symbol(const struct hvmi_profile *profile, const char *name,
				 uint64_t *gva_ret, struct hvmi_error *err)
{
	if (!profile || !name || !gva_ret)
		return hvmi_error_set(err, -EINVAL, HVMI_NO_ADDRESS,
				      "a profile, a name and a place for the address are needed");
	if (symbols_find(&profile->symbols, name, gva_ret) == 0)
		return 0;
	if (profile->symbols.count == 0)
		return hvmi_error_set(err, -ENOENT, HVMI_NO_ADDRESS,
				      "symbol '%s': the symbols of this kernel are not known",
				      name);
	return hvmi_error_set(err, -ENOENT, HVMI_NO_ADDRESS, "the kernel has no symbol '%s'", name);
}

HVMI_API int hvmi_profile_symbol_at(const struct hvmi_profile *profile, uint64_t gva,
				    struct hvmi_symbol *ret, uint64_t *offset_ret)
{
	struct hvmi_symbol symbol;
	uint32_t index;

	if (!profile || !ret)
		return -EINVAL;
	int err = symbols_at(&profile->symbols, gva, &index);
	if (err < 0)
		return err;
	symbols_get(&profile->symbols, index, &symbol);
	err = result_copy(ret, &symbol, sizeof(symbol));
	if (err == 0 && offset_ret)
		*offset_ret = gva - symbol.gva;
	return err;
}

HVMI_API int hvmi_profile_next_symbol(const struct hvmi_profile *profile, uint32_t *cursor,
				      struct hvmi_symbol *ret)
{
	struct hvmi_symbol symbol;

	if (!profile || !cursor || !ret)
		return -EINVAL;
	if (*cursor >= profile->symbols.count)
		return 0;
	symbols_get(&profile->symbols, *cursor, &symbol);
	int err = result_copy(ret, &symbol, sizeof(symbol));
	if (err < 0)
		return err;
	++*cursor;
	return 1;
}

static int no_type(const struct types *types, const char *name, struct hvmi_error *err)
{
	struct nearest nearest;

	if (!err)
		return -ENOENT;
	if (types->type_count == 0)
		return hvmi_error_set(err, -ENOENT, HVMI_NO_ADDRESS,
				      "type '%s': the types of this kernel are not known", name);
	const char *space = strchr(name, ' ');
	const char *own = space ? space + 1 : name;
	nearest_init(&nearest, own, strlen(own));
	types_offer(types, &nearest);
	if (!nearest.best)
		return hvmi_error_set(err, -ENOENT, HVMI_NO_ADDRESS, "the kernel has no type '%s'",
				      name);
	return hvmi_error_set(err, -ENOENT, HVMI_NO_ADDRESS,
			      "the kernel has no type '%s' (did you mean '%s'?)", name,
			      nearest.best);
}

int64_t profile_find_type(const struct hvmi_profile *profile, const char *name,
			  struct hvmi_error *err)
{
	uint32_t id = types_find(&profile->types, name);
	return id == TYPE_NONE ? no_type(&profile->types, name, err) : (int64_t)id;
}

static int give_type(const struct hvmi_profile *profile, uint32_t id, struct hvmi_type *ret)
{
	const struct type *type = &profile->types.types[id];
	struct hvmi_type result = {
		.name = type_name(&profile->types, id),
		.id = id,
		.kind = type->kind,
		.count = type->count,
	};
	types_sizeof(&profile->types, id, profile->pointer_bytes, &result.bytes);
	switch (type->kind) {
	case HVMI_TYPE_INTEGER:
	case HVMI_TYPE_ENUM:
		result.flags = type->flags;
		break;
	case HVMI_TYPE_ARRAY:
		result.count = type->elements;
		result.target = type->target;
		break;
	case HVMI_TYPE_POINTER:
	case HVMI_TYPE_TYPEDEF:
	case HVMI_TYPE_QUALIFIER:
	case HVMI_TYPE_FUNCTION:
		result.target = type->target;
		break;
	}
	return result_copy(ret, &result, sizeof(result));
}

HVMI_API int hvmi_profile_type(const struct hvmi_profile *profile, uint32_t id,
			       struct hvmi_type *ret)
{
	if (!profile || !ret)
		return -EINVAL;
	if (id >= profile->types.type_count)
		return -ENOENT;
	return give_type(profile, id, ret);
}

HVMI_API int hvmi_profile_find_type(const struct hvmi_profile *profile, const char *name,
				    struct hvmi_type *ret, struct hvmi_error *err)
{
	if (!profile || !name || !ret)
		return hvmi_error_set(err, -EINVAL, HVMI_NO_ADDRESS,
				      "a profile, a name and a place for the type are needed");
	int64_t id = profile_find_type(profile, name, err);
	if (id < 0)
		return (int)id;
	int status = give_type(profile, (uint32_t)id, ret);
	if (status < 0)
		return hvmi_error_set(err, status, HVMI_NO_ADDRESS,
				      "struct hvmi_type: its size is not set");
	return 0;
}

HVMI_API int hvmi_profile_sizeof(const struct hvmi_profile *profile, const char *type,
				 uint64_t *bytes_ret, struct hvmi_error *err)
{
	if (!profile || !type || !bytes_ret)
		return hvmi_error_set(err, -EINVAL, HVMI_NO_ADDRESS,
				      "a profile, a type and a place for the size are needed");
	int64_t id = profile_find_type(profile, type, err);
	if (id < 0)
		return (int)id;
	if (!types_sizeof(&profile->types, (uint32_t)id, profile->pointer_bytes, bytes_ret))
		return hvmi_error_set(err, -ENOENT, HVMI_NO_ADDRESS, "type '%s' has no size", type);
	return 0;
}

HVMI_API int hvmi_profile_member_at(const struct hvmi_profile *profile, uint32_t type,
				    uint32_t index, struct hvmi_type_member *ret)
{
	if (!profile || !ret)
		return -EINVAL;
	const struct types *types = &profile->types;
	if (type >= types->type_count)
		return -ENOENT;
	const struct type *owner = &types->types[type];
	if ((owner->kind != HVMI_TYPE_STRUCT && owner->kind != HVMI_TYPE_UNION) ||
	    index >= owner->count)
		return -ENOENT;
	const struct member *member = &types->members[owner->first + index];
	struct hvmi_type_member result = {
		.name = types->names + member->name,
		.bit_offset = member->bit_offset,
		.bit_size = member->bit_size,
		.type = member->type,
	};
	return result_copy(ret, &result, sizeof(result));
}

static int64_t enumerator_value(const struct enumerator *enumerator)
{
	return (int64_t)((uint64_t)enumerator->high << 32 | enumerator->low);
}

HVMI_API int hvmi_profile_enumerator_at(const struct hvmi_profile *profile, uint32_t type,
					uint32_t index, const char **name_ret, int64_t *value_ret)
{
	if (!profile || !name_ret || !value_ret)
		return -EINVAL;
	const struct types *types = &profile->types;
	if (type >= types->type_count)
		return -ENOENT;
	const struct type *owner = &types->types[type];
	if (owner->kind != HVMI_TYPE_ENUM || index >= owner->count)
		return -ENOENT;
	const struct enumerator *enumerator = &types->enumerators[owner->first + index];
	*name_ret = types->names + enumerator->name;
	*value_ret = enumerator_value(enumerator);
	return 0;
}

HVMI_API int hvmi_profile_enumerator(const struct hvmi_profile *profile, const char *name,
				     int64_t *ret, struct hvmi_error *err)
{
	if (!profile || !name || !ret)
		return hvmi_error_set(err, -EINVAL, HVMI_NO_ADDRESS,
				      "a profile, a name and a place for the value are needed");
	/* There are some 20,000, their names lie in this order: cheaper than an index to keep. */
	const struct types *types = &profile->types;
	for (uint32_t i = 0; i < types->enumerator_count; i++) {
		if (strcmp(types->names + types->enumerators[i].name, name) != 0)
			continue;
		*ret = enumerator_value(&types->enumerators[i]);
		return 0;
	}
	return hvmi_error_set(err, -ENOENT, HVMI_NO_ADDRESS, "the kernel has no enumerator '%s'",
			      name);
}
