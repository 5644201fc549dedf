/* SPDX-License-Identifier: Apache-2.0 */
#include "profile/profile.h"

struct walk {
	const struct hvmi_profile *profile;
	const struct types *types;
	const char *path;
	struct hvmi_member member;
	struct hvmi_error *err;
};

struct find {
	const struct types *types;
	const char *name;
	size_t len;
	const struct member *member;
	uint64_t bit_offset;
};

static int malformed(struct walk *walk)
{
	return hvmi_error_set(walk->err, -EINVAL, HVMI_NO_ADDRESS,
			      "'%s' is no path to a member: write \"a.b[2].c\"", walk->path);
}

static int makes_no_sense(struct walk *walk, uint32_t id, const char *why)
{
	char text[SPELLING_TEXT];
	types_spell(walk->types, id, text, sizeof(text));
	return hvmi_error_set(walk->err, -EBADMSG, HVMI_NO_ADDRESS,
			      "the types of this kernel are damaged: %s %s", text, why);
}

static int too_far(struct walk *walk)
{
	return hvmi_error_set(walk->err, -EOVERFLOW, HVMI_NO_ADDRESS,
			      "'%s' leads beyond the address space", walk->path);
}

/* The member's offset so far is of a pointer: continue where it points to. */
static int follow(struct walk *walk, const struct type *pointer)
{
	if (walk->member.hop_count == HVMI_PATH_HOPS)
		return hvmi_error_set(walk->err, -EOVERFLOW, HVMI_NO_ADDRESS,
				      "'%s' goes through more than %d pointers", walk->path,
				      HVMI_PATH_HOPS - 1);
	walk->member.hop_count++;
	walk->member.type = pointer->target;
	return 0;
}

static int advance(struct walk *walk, uint64_t bytes)
{
	uint64_t *offset = &walk->member.hops[walk->member.hop_count - 1];
	if (__builtin_add_overflow(*offset, bytes, offset))
		return too_far(walk);
	return 0;
}

/* The type that the path has come to, behind typedefs and qualifiers; NULL: -EBADMSG. */
static const struct type *strip(struct walk *walk)
{
	uint32_t id = types_strip(walk->types, walk->member.type);
	if (id == TYPE_NONE) {
		makes_no_sense(walk, walk->member.type, "is defined by itself");
		return NULL;
	}
	return &walk->types->types[id];
}

static bool has_name(void *context, const struct member *member, uint64_t bit_offset)
{
	struct find *find = context;
	const char *name = find->types->names + member->name;

	if (strncmp(name, find->name, find->len) != 0 || name[find->len] != '\0')
		return false;
	find->member = member;
	find->bit_offset = bit_offset;
	return true;
}

struct offer {
	const struct types *types;
	struct nearest nearest;
};

static bool offer_name(void *context, const struct member *member, uint64_t bit_offset)
{
	struct offer *offer = context;
	(void)bit_offset;
	nearest_offer(&offer->nearest, offer->types->names + member->name);
	return false;
}

static int no_member(struct walk *walk, uint32_t id, const struct find *find)
{
	struct offer offer = {.types = walk->types};
	char text[SPELLING_TEXT];
	int len = (int)MIN(find->len, TYPE_NAME_MAX);

	if (!walk->err)
		return -ENOENT;
	types_spell(walk->types, id, text, sizeof(text));
	nearest_init(&offer.nearest, find->name, find->len);
	types_each_member(walk->types, id, offer_name, &offer);
	if (!offer.nearest.best)
		return hvmi_error_set(walk->err, -ENOENT, HVMI_NO_ADDRESS,
				      "%s has no member '%.*s'", text, len, find->name);
	return hvmi_error_set(walk->err, -ENOENT, HVMI_NO_ADDRESS,
			      "%s has no member '%.*s' (did you mean '%s'?)", text, len,
			      find->name, offer.nearest.best);
}

/* Where the path is no struct or union: why a member's name cannot follow. */
static int no_struct(struct walk *walk, uint32_t kind, const struct find *find)
{
	char text[SPELLING_TEXT];
	const char *why = "is no struct or union";

	types_spell(walk->types, walk->member.type, text, sizeof(text));
	if (kind == HVMI_TYPE_FORWARD)
		why = "is not defined in this kernel, only declared";
	else if (kind == HVMI_TYPE_ARRAY)
		why = "is an array and wants an index";
	else if (kind == HVMI_TYPE_POINTER)
		why = "is a pointer to a pointer and wants an index";
	return hvmi_error_set(walk->err, -ENOENT, HVMI_NO_ADDRESS, "'%.*s' in '%s': %s %s",
			      (int)MIN(find->len, TYPE_NAME_MAX), find->name, walk->path, text,
			      why);
}

/*
 * A bit-field is told as bits of its declared type's storage, as compilers read it, or, where it
 * crosses into the next, as bits from the byte that it starts in.
 */
static int enter_bit_field(struct walk *walk, const struct find *find)
{
	uint64_t bytes, unit, bits = find->member->bit_size;

	if (!types_sizeof(walk->types, find->member->type, walk->profile->pointer_bytes, &bytes) ||
	    bytes > 16 || bits > bytes * 8)
		return makes_no_sense(walk, find->member->type, "is too small for its bit-field");
	unit = MAX(bytes, 1u) * 8;
	if (find->bit_offset % unit + bits > unit)
		unit = 8;
	walk->member.type = find->member->type;
	walk->member.bit_size = find->member->bit_size;
	walk->member.bit_offset = (uint32_t)(find->bit_offset % unit);
	return advance(walk, find->bit_offset / unit * (unit / 8));
}

static int enter_member(struct walk *walk, const char *name, size_t len)
{
	struct find find = {.types = walk->types, .name = name, .len = len};
	const struct type *type = strip(walk);
	int err;

	if (walk->member.bit_size)
		return hvmi_error_set(walk->err, -ENOENT, HVMI_NO_ADDRESS,
				      "'%.*s' in '%s': a bit-field has no members",
				      (int)MIN(len, TYPE_NAME_MAX), name, walk->path);
	if (type && type->kind == HVMI_TYPE_POINTER) {
		err = follow(walk, type);
		if (err < 0)
			return err;
		type = strip(walk);
	}
	if (!type)
		return -EBADMSG;
	if (type->kind != HVMI_TYPE_STRUCT && type->kind != HVMI_TYPE_UNION)
		return no_struct(walk, type->kind, &find);

	uint32_t id = (uint32_t)(type - walk->types->types);
	err = types_each_member(walk->types, id, has_name, &find);
	if (err == -ENOENT)
		return no_member(walk, id, &find);
	if (err < 0)
		return makes_no_sense(walk, id, "contains itself or too much");

	uint64_t bytes, bits = find.member->bit_size;
	if (bits == 0) {
		if (!types_sizeof(walk->types, find.member->type, walk->profile->pointer_bytes,
				  &bytes))
			bytes = 0;
		bits = bytes > type->bytes ? UINT64_MAX / 2 : bytes * 8;
	}
	if (find.bit_offset + bits > (uint64_t)type->bytes * 8)
		return makes_no_sense(walk, id, "has a member that lies outside of it");
	if (find.member->bit_size)
		return enter_bit_field(walk, &find);
	if (find.bit_offset % 8 != 0)
		return makes_no_sense(walk, id, "has a member that does not start at a byte");
	walk->member.type = find.member->type;
	return advance(walk, find.bit_offset / 8);
}

static int enter_element(struct walk *walk, uint64_t index)
{
	const struct type *type = strip(walk);
	uint64_t bytes;
	char text[SPELLING_TEXT];
	int err;

	if (!type)
		return -EBADMSG;
	types_spell(walk->types, walk->member.type, text, sizeof(text));
	if (walk->member.bit_size ||
	    (type->kind != HVMI_TYPE_ARRAY && type->kind != HVMI_TYPE_POINTER))
		return hvmi_error_set(walk->err, -ENOENT, HVMI_NO_ADDRESS,
				      "[%llu] in '%s': %s is no array and no pointer",
				      (unsigned long long)index, walk->path, text);
	if (type->kind == HVMI_TYPE_ARRAY && type->elements && index >= type->elements)
		return hvmi_error_set(walk->err, -ENOENT, HVMI_NO_ADDRESS,
				      "[%llu] in '%s': %s has only %u elements",
				      (unsigned long long)index, walk->path, text, type->elements);
	if (!types_sizeof(walk->types, type->target, walk->profile->pointer_bytes, &bytes))
		return hvmi_error_set(walk->err, -ENOENT, HVMI_NO_ADDRESS,
				      "[%llu] in '%s': the elements of %s have no size",
				      (unsigned long long)index, walk->path, text);
	if (type->kind == HVMI_TYPE_POINTER) {
		err = follow(walk, type);
		if (err < 0)
			return err;
	}
	walk->member.type = type->target;
	if (__builtin_mul_overflow(bytes, index, &bytes))
		return too_far(walk);
	return advance(walk, bytes);
}

static bool is_name(char c)
{
	return c != '\0' && c != '.' && c != '-' && c != '[' && c != ']' && c != '>';
}

/* "[n]": moves *at behind it. */
static int parse_index(struct walk *walk, const char **at, uint64_t *ret)
{
	const char *p = *at + 1;
	uint64_t index = 0;

	if (*p < '0' || *p > '9')
		return malformed(walk);
	for (; *p >= '0' && *p <= '9'; p++)
		if (__builtin_mul_overflow(index, 10u, &index) ||
		    __builtin_add_overflow(index, (uint64_t)(*p - '0'), &index))
			return too_far(walk);
	if (*p != ']')
		return malformed(walk);
	*at = p + 1;
	*ret = index;
	return 0;
}

static int walk_path(struct walk *walk)
{
	const char *at = walk->path;
	bool want_name = *at != '[';

	while (want_name || *at) {
		int err;
		if (want_name) {
			size_t len = 0;
			while (is_name(at[len]))
				len++;
			if (len == 0)
				return malformed(walk);
			err = enter_member(walk, at, len);
			at += len;
			want_name = false;
		} else if (*at == '[') {
			uint64_t index = 0;
			err = parse_index(walk, &at, &index);
			if (err == 0)
				err = enter_element(walk, index);
		} else if (*at == '.' || (at[0] == '-' && at[1] == '>')) {
			at += *at == '.' ? 1 : 2;
			want_name = true;
			err = 0;
		} else {
			return malformed(walk);
		}
		if (err < 0)
			return err;
	}
	return 0;
}

HVMI_API int hvmi_profile_member(const struct hvmi_profile *profile, const char *type,
				 const char *path, struct hvmi_member *ret, struct hvmi_error *err)
{
	if (!profile || !type || !path || !ret)
		return hvmi_error_set(err, -EINVAL, HVMI_NO_ADDRESS,
				      "a profile, a type, a path and a place for the member are "
				      "needed");
	int64_t id = profile_find_type(profile, type, err);
	if (id < 0)
		return (int)id;
	struct walk walk = {
		.profile = profile,
		.types = &profile->types,
		.path = path,
		.member = {
			.hop_count = 1,
			.pointer_bytes = profile->pointer_bytes,
			.type = (uint32_t)id,
		},
		.err = err,
	};
	int status = walk_path(&walk);
	if (status < 0)
		return status;
	const struct type *stripped = strip(&walk);
	if (!stripped)
		return -EBADMSG;
	walk.member.kind = stripped->kind;
	if (stripped->kind == HVMI_TYPE_INTEGER || stripped->kind == HVMI_TYPE_ENUM)
		walk.member.flags = stripped->flags;
	types_sizeof(walk.types, walk.member.type, profile->pointer_bytes, &walk.member.bytes);
	status = result_copy(ret, &walk.member, sizeof(walk.member));
	if (status < 0)
		return hvmi_error_set(err, status, HVMI_NO_ADDRESS,
				      "struct hvmi_member: its size is not set");
	return 0;
}
