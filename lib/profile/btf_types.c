/* SPDX-License-Identifier: Apache-2.0 */
#include "profile/btf_loader.h"

static int fill_integer(struct btf_loader *loader, const struct btf_record *record,
			struct type *type)
{
	uint32_t info = load_le32(record->info);
	uint32_t bits = info & 0xff, first_bit = info >> 16 & 0xff, encoding = info >> 24 & 0xf;

	if (record->value > 16 || first_bit + bits > record->value * 8)
		return btf_bad(loader, "an integer with an impossible size");
	type->kind = HVMI_TYPE_INTEGER;
	/* BTF's bits are the same as HVMI_TYPE_SIGNED, _CHAR and _BOOL. */
	type->flags = encoding & (HVMI_TYPE_SIGNED | HVMI_TYPE_CHAR | HVMI_TYPE_BOOL);
	type->bytes = record->value;
	type->bits = bits | first_bit << 8;
	loader->odd_integers |= bits != record->value * 8;
	return 0;
}

static int fill_members(struct btf_loader *loader, const struct btf_record *record,
			struct type *type)
{
	type->kind = record->kind == BTF_STRUCT ? HVMI_TYPE_STRUCT : HVMI_TYPE_UNION;
	type->bytes = record->value;
	type->count = record->vlen;
	type->first = loader->member;
	for (uint32_t i = 0; i < record->vlen; i++) {
		const uint8_t *at = record->info + (size_t)i * 12;
		uint32_t name = load_le32(at), target = load_le32(at + 4);
		uint32_t offset = load_le32(at + 8), bit_size = 0;
		if (record->flag) {
			bit_size = offset >> 24;
			offset &= 0xffffff;
		}
		if (name >= loader->names_len)
			return btf_bad(loader, "a member's name lies outside the strings");
		if (target >= loader->graph->type_count)
			return btf_bad(loader, "a member's type does not exist");
		if (offset / 8 > record->value)
			return btf_bad(loader, "a member lies outside of it");
		loader->graph->members[loader->member++] = (struct member){
			.name = name, .type = target, .bit_size = bit_size, .bit_offset = offset};
	}
	return 0;
}

static int fill_enumerators(struct btf_loader *loader, const struct btf_record *record,
			    struct type *type)
{
	bool wide = record->kind == BTF_ENUM64, is_signed = record->flag;
	size_t stride = wide ? 12 : 8;

	if (record->value != 1 && record->value != 2 && record->value != 4 && record->value != 8)
		return btf_bad(loader, "an enum with an impossible size");
	/* Before they were told apart, values were defined to be signed. */
	for (uint32_t i = 0; i < record->vlen && !loader->signs_told && !is_signed; i++)
		is_signed = load_le32(record->info + i * stride + 4) >> 31;
	type->kind = HVMI_TYPE_ENUM;
	type->flags = is_signed ? HVMI_TYPE_SIGNED : 0;
	type->bytes = record->value;
	type->count = record->vlen;
	type->first = loader->enumerator;
	for (uint32_t i = 0; i < record->vlen; i++) {
		const uint8_t *at = record->info + i * stride;
		uint32_t name = load_le32(at), low = load_le32(at + 4);
		uint32_t high = is_signed && low >> 31 ? UINT32_MAX : 0;
		if (name >= loader->names_len)
			return btf_bad(loader, "an enumerator's name lies outside the strings");
		if (wide)
			high = load_le32(at + 8);
		loader->graph->enumerators[loader->enumerator++] =
			(struct enumerator){.name = name, .low = low, .high = high};
	}
	return 0;
}

static int fill_prototype(struct btf_loader *loader, const struct btf_record *record,
			  struct type *type)
{
	type->kind = HVMI_TYPE_FUNCTION;
	type->count = record->vlen;
	type->first = loader->parameter;
	for (uint32_t i = 0; i < record->vlen; i++) {
		const uint8_t *at = record->info + (size_t)i * 8;
		uint32_t target = load_le32(at + 4);
		if (load_le32(at) >= loader->names_len)
			return btf_bad(loader, "a parameter's name lies outside the strings");
		if (target >= loader->graph->type_count)
			return btf_bad(loader, "a parameter's type does not exist");
		loader->graph->parameters[loader->parameter++] = target;
	}
	return 0;
}

static int fill_array(struct btf_loader *loader, const struct btf_record *record,
		      struct type *type)
{
	type->kind = HVMI_TYPE_ARRAY;
	type->target = load_le32(record->info);
	type->elements = load_le32(record->info + 8);
	if (type->target >= loader->graph->type_count ||
	    load_le32(record->info + 4) >= loader->graph->type_count)
		return btf_bad(loader, "an array of a type that does not exist");
	return 0;
}

static int fill_section(struct btf_loader *loader, const struct btf_record *record)
{
	for (uint32_t i = 0; i < record->vlen; i++)
		if (load_le32(record->info + (size_t)i * 12) >= loader->graph->type_count)
			return btf_bad(loader, "a section with a variable that does not exist");
	return 0;
}

/* Kinds that are a name, at most, and another type. */
static int fill_reference(struct btf_loader *loader, const struct btf_record *record,
			  struct type *type)
{
	if (record->value >= loader->graph->type_count)
		return btf_bad(loader, "it refers to a type that does not exist");
	type->target = record->value;
	switch (record->kind) {
	case BTF_PTR:
		type->kind = HVMI_TYPE_POINTER;
		break;
	case BTF_TYPEDEF:
		type->kind = HVMI_TYPE_TYPEDEF;
		break;
	case BTF_FUNC:
		type->kind = HVMI_TYPE_FUNCTION;
		type->flags = TYPE_DEFINED_FUNCTION;
		break;
	case BTF_FUNC_PROTO:
		return fill_prototype(loader, record, type);
	case BTF_CONST:
	case BTF_VOLATILE:
	case BTF_RESTRICT:
	case BTF_TYPE_TAG:
		type->kind = HVMI_TYPE_QUALIFIER;
		type->qualifier = record->kind == BTF_CONST	 ? QUALIFIER_CONST
				  : record->kind == BTF_VOLATILE ? QUALIFIER_VOLATILE
				  : record->kind == BTF_RESTRICT ? QUALIFIER_RESTRICT
								 : QUALIFIER_OTHER;
		break;
	}
	return 0;
}

int btf_fill_type(struct btf_loader *loader, const struct btf_record *record)
{
	struct type *type = &loader->graph->types[loader->type];

	*type = (struct type){.kind = HVMI_TYPE_UNKNOWN};
	if (record->kind >= BTF_KIND_COUNT)
		return 0;
	if (record->name >= loader->names_len)
		return btf_bad(loader, "its name lies outside the strings");
	if (record->vlen && !loader->kinds[record->kind].element && record->kind != BTF_FUNC)
		return btf_bad(loader, "it has elements, which its kind does not have");
	type->name = record->name;
	switch (record->kind) {
	case BTF_INT:
		return fill_integer(loader, record, type);
	case BTF_ARRAY:
		return fill_array(loader, record, type);
	case BTF_STRUCT:
	case BTF_UNION:
		return fill_members(loader, record, type);
	case BTF_ENUM:
	case BTF_ENUM64:
		return fill_enumerators(loader, record, type);
	case BTF_FWD:
		type->kind = HVMI_TYPE_FORWARD;
		type->flags = record->flag ? TYPE_UNION_FORWARD : 0;
		return 0;
	case BTF_FLOAT:
		if (record->value == 0 || record->value > 16)
			return btf_bad(loader, "a floating point number with an impossible size");
		type->kind = HVMI_TYPE_FLOAT;
		type->bytes = record->value;
		return 0;
	case BTF_DATASEC:
		return fill_section(loader, record);
	default:
		return fill_reference(loader, record, type);
	}
}
