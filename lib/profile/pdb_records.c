/* SPDX-License-Identifier: Apache-2.0 */
#include "profile/pdb_types.h"

enum {
	LF_MODIFIER = 0x1001, LF_POINTER = 0x1002, LF_PROCEDURE = 0x1008, LF_MFUNCTION = 0x1009,
	LF_ARGLIST = 0x1201, LF_FIELDLIST = 0x1203, LF_BITFIELD = 0x1205,
	LF_BCLASS = 0x1400, LF_VBCLASS = 0x1401, LF_IVBCLASS = 0x1402, LF_INDEX = 0x1404,
	LF_VFUNCTAB = 0x1409, LF_BINTERFACE = 0x151a,
	LF_ENUMERATE = 0x1502, LF_ARRAY = 0x1503, LF_CLASS = 0x1504, LF_STRUCTURE = 0x1505,
	LF_UNION = 0x1506, LF_ENUM = 0x1507, LF_MEMBER = 0x150d, LF_STMEMBER = 0x150e,
	LF_METHOD = 0x150f, LF_NESTTYPE = 0x1510, LF_ONEMETHOD = 0x1511, LF_INTERFACE = 0x1519,
};
/* Numbers above follow their own code. */
enum {
	LF_NUMERIC = 0x8000, LF_CHAR = 0x8000, LF_SHORT, LF_USHORT, LF_LONG, LF_ULONG,
	LF_QUADWORD = 0x8009, LF_UQUADWORD = 0x800a
};
#define PADDING_FIRST 0xf0u
/* Lists that continue each other; one holds 64 KiB. */
#define LIST_CHAIN_MAX 64u

static bool take(struct pdb_cursor *c, size_t len, const uint8_t **ret)
{
	if (len > (size_t)(c->end - c->at))
		return false;
	*ret = c->at;
	c->at += len;
	return true;
}

static bool take_u16(struct pdb_cursor *c, uint32_t *ret)
{
	const uint8_t *at;
	bool taken = take(c, 2, &at);
	if (taken)
		*ret = load_le16(at);
	return taken;
}

static bool take_u32(struct pdb_cursor *c, uint32_t *ret)
{
	const uint8_t *at;
	bool taken = take(c, 4, &at);
	if (taken)
		*ret = load_le32(at);
	return taken;
}

static bool take_number(struct pdb_cursor *c, int64_t *ret)
{
	const uint8_t *at;
	uint32_t code;

	if (!take_u16(c, &code))
		return false;
	if (code < LF_NUMERIC) {
		*ret = code;
		return true;
	}
	static const uint8_t sizes[] = { 1, 2, 2, 4, 4, 0, 0, 0, 0, 8, 8 };
	uint32_t which = code - LF_NUMERIC;
	if (which >= ARRAY_SIZE(sizes) || !sizes[which] || !take(c, sizes[which], &at))
		return false;
	switch (code) {
	case LF_CHAR: *ret = (int8_t)at[0]; break;
	case LF_SHORT: *ret = (int16_t)load_le16(at); break;
	case LF_USHORT: *ret = load_le16(at); break;
	case LF_LONG: *ret = (int32_t)load_le32(at); break;
	case LF_ULONG: *ret = load_le32(at); break;
	default: *ret = (int64_t)load_le64(at); break;
	}
	return true;
}

static bool take_name(struct pdb_cursor *c, const char **ret, size_t *len_ret)
{
	size_t room = (size_t)(c->end - c->at), len = strnlen((const char *)c->at, room);

	if (len == room)
		return false;
	*ret = (const char *)c->at;
	*len_ret = len;
	c->at += len + 1;
	return true;
}

bool pdb_parse_tag(struct pdb_cursor *c, uint32_t kind, struct pdb_tag *ret)
{
	struct pdb_tag tag = { 0 };
	uint32_t count, ignored;
	int64_t bytes = 0;

	switch (kind) {
	case LF_CLASS:
	case LF_STRUCTURE:
	case LF_INTERFACE: tag.kind = HVMI_TYPE_STRUCT; break;
	case LF_UNION: tag.kind = HVMI_TYPE_UNION; break;
	case LF_ENUM: tag.kind = HVMI_TYPE_ENUM; break;
	default: return false;
	}
	if (!take_u16(c, &count) || !take_u16(c, &tag.properties))
		return false;
	if (tag.kind == HVMI_TYPE_ENUM && !take_u32(c, &tag.underlying))
		return false;
	if (!take_u32(c, &tag.fields))
		return false;
	if (tag.kind == HVMI_TYPE_STRUCT && (!take_u32(c, &ignored) || !take_u32(c, &ignored)))
		return false;
	if (tag.kind != HVMI_TYPE_ENUM && !take_number(c, &bytes))
		return false;
	if (!take_name(c, &tag.name, &tag.name_len) || bytes < 0 || bytes > UINT32_MAX)
		return false;
	/* A name that was too long for its record lost the unique one. */
	if ((tag.properties & PDB_UNIQUE_NAME) && !take_name(c, &tag.unique, &tag.unique_len))
		tag.unique_len = 0;
	tag.bytes = (uint64_t)bytes;
	*ret = tag;
	return true;
}

/* A name that lies in the stream, which the graph keeps. */
static uint32_t put_name(struct pdb_types *t, const char *name, size_t len)
{
	if (len == 0)
		return 0;
	return len <= TYPE_NAME_MAX ? (uint32_t)((const uint8_t *)name - t->stream.bytes) :
				      types_build_name(&t->build, name, TYPE_NAME_MAX);
}

/* The names that compilers give to what has none are no names. */
static uint32_t put_type_name(struct pdb_types *t, const struct pdb_tag *tag)
{
	static const char *const nameless[] = { "<unnamed-", "__unnamed", "<anonymous-" };

	for (size_t i = 0; i < ARRAY_SIZE(nameless); i++)
		if (memmem(tag->name, tag->name_len, nameless[i], strlen(nameless[i])))
			return 0;
	return put_name(t, tag->name, tag->name_len);
}

/* A member's type, behind the bit-field that it may be. */
static bool put_member(struct pdb_types *t, uint32_t type, int64_t offset, const char *name,
		       size_t name_len)
{
	struct member member = { 0 };
	uint32_t kind = 0, first_bit = 0;

	if (offset < 0 || offset > UINT32_MAX / 8 - 8)
		return false;
	if (type >= t->first && type - t->first < t->count) {
		struct pdb_cursor c = pdb_record(t, type - t->first, &kind);
		const uint8_t *bits;
		if (kind == LF_BITFIELD) {
			if (!take_u32(&c, &type) || !take(&c, 2, &bits) || bits[0] > 64 ||
			    bits[0] == 0 || bits[1] >= 64)
				return false;
			member.bit_size = bits[0];
			first_bit = bits[1];
		}
	}
	member.type = pdb_type_id(t, type) & 0xffffff;
	member.bit_offset = (uint32_t)offset * 8 + first_bit;
	member.name = put_name(t, name, name_len);
	types_build_member(&t->build, member);
	return true;
}

/* Entries of a list that are no data: only their lengths matter. */
static bool skip_entry(struct pdb_cursor *c, uint32_t kind)
{
	uint32_t attributes, ignored;
	const char *name;
	size_t len;
	int64_t number;

	if (!take_u16(c, &attributes))
		return false;
	switch (kind) {
	case LF_VBCLASS:
	case LF_IVBCLASS:
		return take_u32(c, &ignored) && take_u32(c, &ignored) && take_number(c, &number) &&
		       take_number(c, &number);
	case LF_VFUNCTAB:
		return take_u32(c, &ignored);
	case LF_STMEMBER:
	case LF_METHOD:
	case LF_NESTTYPE:
		return take_u32(c, &ignored) && take_name(c, &name, &len);
	case LF_ONEMETHOD:
		/* Introducing virtual methods (4, and pure 6) tell their place in the table. */
		return take_u32(c, &ignored) &&
		       ((attributes >> 2 & 7) != 4 && (attributes >> 2 & 7) != 6 ?
				true : take_u32(c, &ignored)) && take_name(c, &name, &len);
	default:
		return false;
	}
}

static bool take_entry(struct pdb_types *t, struct pdb_cursor *c, uint32_t *next_ret)
{
	uint32_t kind, attributes, type;
	const char *name = "";
	size_t name_len = 0;
	int64_t number;

	if (!take_u16(c, &kind))
		return false;
	switch (kind) {
	case LF_MEMBER:
		return take_u16(c, &attributes) && take_u32(c, &type) && take_number(c, &number) &&
		       take_name(c, &name, &name_len) &&
		       put_member(t, type, number, name, name_len);
	case LF_BCLASS:
	case LF_BINTERFACE:
		/* The members of a base are members of what derives from it. */
		return take_u16(c, &attributes) && take_u32(c, &type) && take_number(c, &number) &&
		       put_member(t, type, number, name, name_len);
	case LF_ENUMERATE:
		if (!take_u16(c, &attributes) || !take_number(c, &number) ||
		    !take_name(c, &name, &name_len))
			return false;
		types_build_enumerator(&t->build, put_name(t, name, name_len), number);
		return true;
	case LF_INDEX:
		return take_u16(c, &attributes) && take_u32(c, next_ret);
	default:
		return skip_entry(c, kind);
	}
}

/* Members and enumerators of a list and of those that continue it. */
static bool read_list(struct pdb_types *t, uint32_t index)
{
	for (uint32_t i = 0; i < LIST_CHAIN_MAX && index != 0; i++) {
		uint32_t kind, next = 0;
		if (index < t->first || index - t->first >= t->count)
			return false;
		struct pdb_cursor c = pdb_record(t, index - t->first, &kind);
		if (kind != LF_FIELDLIST)
			return false;
		while (c.at < c.end && !t->build.error) {
			if (*c.at >= PADDING_FIRST)
				c.at++;
			else if (!take_entry(t, &c, &next))
				return false;
		}
		index = next;
	}
	return true;
}

/* Each list is read once, however many types share it. */
static bool put_list(struct pdb_types *t, const struct pdb_tag *tag, struct type *type)
{
	const struct types *graph = &t->build.graph;
	bool is_enum = tag->kind == HVMI_TYPE_ENUM;

	if (tag->fields == 0)
		return true;
	if (tag->fields < t->first || tag->fields - t->first >= t->count)
		return false;
	struct pdb_type_record *record = &t->records[tag->fields - t->first];
	if (!record->is_read) {
		uint32_t member = graph->member_count, enumerator = graph->enumerator_count;
		if (!read_list(t, tag->fields))
			return false;
		record->is_read = true;
		record->list = is_enum ? enumerator : member;
		record->list_count = is_enum ? graph->enumerator_count - enumerator :
					       graph->member_count - member;
	}
	if (record->list_count > 0xffffff)
		return false;
	/* One list for an enum and a struct: the graph's own check refuses what is not there. */
	type->first = record->list;
	type->count = record->list_count & 0xffffff;
	return true;
}

static bool fill_tagged(struct pdb_types *t, const struct pdb_tag *tag, struct type *type)
{
	type->kind = tag->kind & 15u;
	type->name = put_type_name(t, tag);
	type->bytes = (uint32_t)tag->bytes;
	if (tag->properties & PDB_FORWARD) {
		type->kind = HVMI_TYPE_FORWARD;
		type->flags = tag->kind == HVMI_TYPE_UNION ? TYPE_UNION_FORWARD : 0;
		type->bytes = 0;
		return true;
	}
	if (tag->kind == HVMI_TYPE_ENUM) {
		uint32_t id = pdb_type_id(t, tag->underlying);
		const struct type *underlying = &t->build.graph.types[id];
		bool known = !t->build.error && underlying->kind == HVMI_TYPE_INTEGER;
		type->bytes = known ? underlying->bytes : 4;
		type->flags = known ? underlying->flags & HVMI_TYPE_SIGNED : HVMI_TYPE_SIGNED;
	}
	return put_list(t, tag, type);
}

static bool fill_pointer(struct pdb_types *t, struct pdb_cursor *c, struct type *type)
{
	uint32_t target, attributes;

	if (!take_u32(c, &target) || !take_u32(c, &attributes))
		return false;
	uint32_t bytes = attributes >> 13 & 0x3f;
	type->kind = HVMI_TYPE_POINTER;
	type->target = pdb_type_id(t, target);
	if (bytes != t->pointer_bytes && (bytes == 4 || bytes == 8)) {
		type->kind = HVMI_TYPE_INTEGER;
		type->bytes = bytes;
		type->bits = bytes * 8;
	}
	return true;
}

static bool fill_modifier(struct pdb_types *t, struct pdb_cursor *c, struct type *type)
{
	uint32_t target, flags;

	if (!take_u32(c, &target) || !take_u16(c, &flags))
		return false;
	type->kind = HVMI_TYPE_QUALIFIER;
	type->target = pdb_type_id(t, target);
	type->qualifier = flags & 1 ? QUALIFIER_CONST : flags & 2 ? QUALIFIER_VOLATILE :
								    QUALIFIER_OTHER;
	return true;
}

static bool fill_array(struct pdb_types *t, struct pdb_cursor *c, struct type *type)
{
	uint32_t target, index;
	int64_t bytes;

	if (!take_u32(c, &target) || !take_u32(c, &index) || !take_number(c, &bytes) || bytes < 0 ||
	    bytes > UINT32_MAX)
		return false;
	type->kind = HVMI_TYPE_ARRAY;
	type->target = pdb_type_id(t, target);
	type->elements = (uint32_t)bytes;	/* until they are counted */
	return true;
}

static bool put_parameters(struct pdb_types *t, uint32_t index, struct type *type)
{
	uint32_t kind, count, parameter;

	if (index < t->first || index - t->first >= t->count)
		return true;
	struct pdb_type_record *record = &t->records[index - t->first];
	struct pdb_cursor c = pdb_record(t, index - t->first, &kind);
	if (kind != LF_ARGLIST)
		return true;
	if (!record->is_read) {
		if (!take_u32(&c, &count) || count > (size_t)(c.end - c.at) / 4)
			return false;
		record->list = t->build.graph.parameter_count;
		record->list_count = count;
		record->is_read = true;
		for (uint32_t i = 0; i < count && take_u32(&c, &parameter); i++)
			types_build_parameter(&t->build, pdb_type_id(t, parameter));
	}
	type->first = record->list;
	type->count = record->list_count & 0xffffff;
	return true;
}

static bool fill_function(struct pdb_types *t, struct pdb_cursor *c, bool is_method,
			  struct type *type)
{
	const uint8_t *ignored;
	uint32_t result, list;

	if (!take_u32(c, &result) || !take(c, is_method ? 12 : 4, &ignored) || !take_u32(c, &list))
		return false;
	type->kind = HVMI_TYPE_FUNCTION;
	type->target = pdb_type_id(t, result);
	return put_parameters(t, list, type);
}

bool pdb_fill_type(struct pdb_types *t, uint32_t index, struct type *ret)
{
	uint32_t kind;
	struct pdb_cursor c = pdb_record(t, index, &kind);
	struct pdb_tag tag;

	switch (kind) {
	case LF_POINTER: return fill_pointer(t, &c, ret);
	case LF_MODIFIER: return fill_modifier(t, &c, ret);
	case LF_ARRAY: return fill_array(t, &c, ret);
	case LF_PROCEDURE: return fill_function(t, &c, false, ret);
	case LF_MFUNCTION: return fill_function(t, &c, true, ret);
	case LF_CLASS:
	case LF_STRUCTURE:
	case LF_INTERFACE:
	case LF_UNION:
	case LF_ENUM:
		return pdb_parse_tag(&c, kind, &tag) && fill_tagged(t, &tag, ret);
	default:
		return true;
	}
}
