/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The types stream: records with ascending numbers. Each gets the type with its number in the graph,
 * those that are none (lists, bit-fields) too; what they refer to may be declared before it is
 * defined, and is then looked up by name.
 */
#include "profile/pdb_types.h"

#define HEADER_BYTES 56u
#define FIRST_INDEX_MAX 0x10000u

static int measure(struct pdb_types *t)
{
	const struct pdb_stream *stream = &t->stream;

	if (stream->len < HEADER_BYTES)
		return pdb_bad(t->file, "its types have no header");
	uint32_t header = load_le32(stream->bytes + 4), end = load_le32(stream->bytes + 12);
	uint32_t bytes = load_le32(stream->bytes + 16);
	t->first = load_le32(stream->bytes + 8);
	if (header < HEADER_BYTES || header > stream->len || bytes > stream->len - header ||
	    t->first < PDB_SIMPLE_MAX || t->first > FIRST_INDEX_MAX || end < t->first ||
	    end - t->first > bytes / 4 || end - t->first > TYPES_MAX / 2)
		return pdb_bad(t->file, "its types have an impossible number or length");
	t->count = end - t->first;
	t->records = calloc(MAX(t->count, 1u), sizeof(*t->records));
	if (!t->records)
		return pdb_no_memory(t->file);
	uint32_t at = header;
	for (uint32_t i = 0; i < t->count; i++) {
		if (header + bytes - at < 4)
			return pdb_bad(t->file, "its types are cut short");
		uint32_t len = load_le16(stream->bytes + at) + 2u;
		if (len < 4 || len > header + bytes - at)
			return pdb_bad(t->file, "its types are cut short");
		t->records[i].offset = at;
		at += len;
	}
	return 0;
}

struct pdb_cursor pdb_record(const struct pdb_types *t, uint32_t index, uint32_t *kind_ret)
{
	const uint8_t *at = t->stream.bytes + t->records[index].offset;

	*kind_ret = load_le16(at + 2);
	return (struct pdb_cursor){ .at = at + 4, .end = at + 2 + load_le16(at) };
}

/* What a record calls its struct, union or enum. */
static bool tagged_name(const struct pdb_types *t, uint32_t index, struct pdb_tag *ret)
{
	uint32_t kind;
	struct pdb_cursor c = pdb_record(t, index, &kind);

	if (!pdb_parse_tag(&c, kind, ret))
		return false;
	/* The mangled one tells apart what is nameless. */
	if (!ret->unique_len) {
		ret->unique = ret->name;
		ret->unique_len = ret->name_len;
	}
	return true;
}

/* All definitions, to be found by name. */
static int index_definitions(struct pdb_types *t)
{
	CLEANUP_FREE uint32_t *ids = malloc(MAX(t->count, 1u) * 2 * sizeof(*ids));
	uint32_t *hashes = ids + MAX(t->count, 1u), n = 0;
	struct pdb_tag tag;

	if (!ids)
		return pdb_no_memory(t->file);
	uint64_t secret = name_secret();
	for (uint32_t i = 0; i < t->count; i++) {
		if (!tagged_name(t, i, &tag) || (tag.properties & PDB_FORWARD))
			continue;
		ids[n] = i;
		hashes[n++] = name_hash(tag.unique, tag.unique_len, secret);
	}
	if (name_index_build(&t->definitions, hashes, secret, ids, n) < 0)
		return pdb_no_memory(t->file);
	return 0;
}

static bool same_tag(uint32_t a, uint32_t b)
{
	/* A class may be declared as a struct. */
	return (a == HVMI_TYPE_UNION) == (b == HVMI_TYPE_UNION) &&
	       (a == HVMI_TYPE_ENUM) == (b == HVMI_TYPE_ENUM);
}

/* The definition that a declaration means, else itself. */
static uint32_t defined(const struct pdb_types *t, uint32_t index)
{
	struct pdb_tag wanted, tag;
	uint32_t count;

	if (!tagged_name(t, index, &wanted) || !(wanted.properties & PDB_FORWARD))
		return index;
	const uint32_t *ids =
		name_index_bucket(&t->definitions, wanted.unique, wanted.unique_len, &count);
	for (uint32_t i = 0; i < count; i++) {
		if (!tagged_name(t, ids[i], &tag) || tag.unique_len != wanted.unique_len ||
		    memcmp(tag.unique, wanted.unique, tag.unique_len) != 0)
			continue;
		/* The first of the name decides: a file may have as many as it likes. */
		return same_tag(tag.kind, wanted.kind) ? ids[i] : index;
	}
	return index;
}

/* Types that have numbers of their own, without records. */
static const struct simple {
	uint8_t kind, bytes, type, flags;
	const char *name;
} simple_types[] = {
	{ 0x08, 4, HVMI_TYPE_INTEGER, HVMI_TYPE_SIGNED, "HRESULT" },
	{ 0x10, 1, HVMI_TYPE_INTEGER, HVMI_TYPE_SIGNED | HVMI_TYPE_CHAR, "signed char" },
	{ 0x11, 2, HVMI_TYPE_INTEGER, HVMI_TYPE_SIGNED, "short" },
	{ 0x12, 4, HVMI_TYPE_INTEGER, HVMI_TYPE_SIGNED, "long" },
	{ 0x13, 8, HVMI_TYPE_INTEGER, HVMI_TYPE_SIGNED, "long long" },
	{ 0x14, 16, HVMI_TYPE_INTEGER, HVMI_TYPE_SIGNED, "__int128" },
	{ 0x20, 1, HVMI_TYPE_INTEGER, 0, "unsigned char" },
	{ 0x21, 2, HVMI_TYPE_INTEGER, 0, "unsigned short" },
	{ 0x22, 4, HVMI_TYPE_INTEGER, 0, "unsigned long" },
	{ 0x23, 8, HVMI_TYPE_INTEGER, 0, "unsigned long long" },
	{ 0x24, 16, HVMI_TYPE_INTEGER, 0, "unsigned __int128" },
	{ 0x30, 1, HVMI_TYPE_INTEGER, HVMI_TYPE_BOOL, "bool" },
	{ 0x31, 2, HVMI_TYPE_INTEGER, HVMI_TYPE_BOOL, "bool16" },
	{ 0x32, 4, HVMI_TYPE_INTEGER, HVMI_TYPE_BOOL, "bool32" },
	{ 0x33, 8, HVMI_TYPE_INTEGER, HVMI_TYPE_BOOL, "bool64" },
	{ 0x40, 4, HVMI_TYPE_FLOAT, 0, "float" },
	{ 0x41, 8, HVMI_TYPE_FLOAT, 0, "double" },
	{ 0x42, 10, HVMI_TYPE_FLOAT, 0, "long double" },
	{ 0x68, 1, HVMI_TYPE_INTEGER, HVMI_TYPE_SIGNED, "signed char" },
	{ 0x69, 1, HVMI_TYPE_INTEGER, 0, "unsigned char" },
	{ 0x70, 1, HVMI_TYPE_INTEGER, HVMI_TYPE_SIGNED | HVMI_TYPE_CHAR, "char" },
	{ 0x71, 2, HVMI_TYPE_INTEGER, HVMI_TYPE_CHAR, "wchar_t" },
	{ 0x72, 2, HVMI_TYPE_INTEGER, HVMI_TYPE_SIGNED, "short" },
	{ 0x73, 2, HVMI_TYPE_INTEGER, 0, "unsigned short" },
	{ 0x74, 4, HVMI_TYPE_INTEGER, HVMI_TYPE_SIGNED, "int" },
	{ 0x75, 4, HVMI_TYPE_INTEGER, 0, "unsigned int" },
	{ 0x76, 8, HVMI_TYPE_INTEGER, HVMI_TYPE_SIGNED, "long long" },
	{ 0x77, 8, HVMI_TYPE_INTEGER, 0, "unsigned long long" },
	{ 0x78, 16, HVMI_TYPE_INTEGER, HVMI_TYPE_SIGNED, "__int128" },
	{ 0x79, 16, HVMI_TYPE_INTEGER, 0, "unsigned __int128" },
	{ 0x7a, 2, HVMI_TYPE_INTEGER, HVMI_TYPE_CHAR, "char16_t" },
	{ 0x7b, 4, HVMI_TYPE_INTEGER, HVMI_TYPE_CHAR, "char32_t" },
	{ 0x7c, 1, HVMI_TYPE_INTEGER, HVMI_TYPE_CHAR, "char8_t" },
};

static uint32_t make_simple(struct pdb_types *t, uint32_t kind)
{
	for (size_t i = 0; i < ARRAY_SIZE(simple_types); i++) {
		const struct simple *s = &simple_types[i];
		if (s->kind != kind)
			continue;
		struct type type = {
			.name = types_build_name(&t->build, s->name, strlen(s->name)),
			.kind = s->type & 15u,
			.flags = s->flags & 15u,
			.bytes = s->bytes,
		};
		type.bits = type.bytes * 8;
		return types_build_type(&t->build, type);
	}
	return 0;	/* void, and what is none */
}

uint32_t pdb_make_pointer(struct pdb_types *t, uint32_t target, uint32_t bytes)
{
	if (bytes == t->pointer_bytes || (bytes != 4 && bytes != 8))
		return types_build_type(&t->build, (struct type){ .kind = HVMI_TYPE_POINTER,
								  .target = target });
	/* A pointer of another width cannot be followed by the rules of this kernel. */
	return pdb_type_id(t, bytes == 4 ? 0x22 : 0x23);
}

uint32_t pdb_type_id(struct pdb_types *t, uint32_t index)
{
	/* Widths of pointers by mode. */
	static const uint8_t pointers[16] = { [4] = 4, [5] = 4, [6] = 8 };

	if (index >= t->first && index - t->first < t->count)
		return 1 + defined(t, index - t->first);
	if (index >= PDB_SIMPLE_MAX)
		return 0;
	uint32_t *id = &t->simple[index];
	if (*id == 0) {
		uint32_t mode = index >> 8 & 15;
		*id = mode == 0 ? make_simple(t, index) :
				  pdb_make_pointer(t, pdb_type_id(t, index & 0xff), pointers[mode]);
	}
	return *id;
}

/* Arrays are recorded with their bytes, and are to have elements. */
static void count_elements(struct pdb_types *t)
{
	struct types *graph = &t->build.graph;

	for (uint32_t i = 0; i < t->count; i++) {
		struct type *type = &graph->types[1 + i];
		uint64_t bytes;
		if (type->kind != HVMI_TYPE_ARRAY)
			continue;
		bool known = types_sizeof(graph, type->target, t->pointer_bytes, &bytes);
		type->elements = known && bytes > 0 ? (uint32_t)(type->elements / bytes) : 0;
	}
}

static int load(struct pdb_types *t, struct types *ret)
{
	int err = measure(t);

	if (err == 0)
		err = index_definitions(t);
	if (err < 0)
		return err;
	types_build_begin(&t->build);
	/* Names stay where they are, in the stream. */
	t->stream.copy[0] = '\0';
	types_build_adopt(&t->build, (char *)t->stream.copy, t->stream.len);
	t->stream.copy = NULL;
	for (uint32_t i = 0; i < t->count; i++)
		types_build_type(&t->build, (struct type){ .kind = HVMI_TYPE_UNKNOWN });
	for (uint32_t i = 0; i < t->count && !t->build.error; i++) {
		struct type type = { .kind = HVMI_TYPE_UNKNOWN };
		if (!pdb_fill_type(t, i, &type)) {
			types_build_abort(&t->build);
			return hvmi_error_set(t->file->err, -EBADMSG, HVMI_NO_ADDRESS,
					      "this PDB is malformed: type 0x%x makes no sense",
					      t->first + i);
		}
		t->build.graph.types[1 + i] = type;
	}
	if (!t->build.error)
		count_elements(t);
	err = types_build_finish(&t->build, ret);
	if (err == -ENOMEM)
		return pdb_no_memory(t->file);
	if (err < 0)
		return pdb_bad(t->file, err == -EOVERFLOW ? "it has more types than are believed" :
							    "its types make no sense");
	return 0;
}

int pdb_load_types(const struct pdb_file *file, uint32_t pointer_bytes, struct types *ret)
{
	CLEANUP_FREE struct pdb_types *t = calloc(1, sizeof(*t));

	if (!t)
		return pdb_no_memory(file);
	t->file = file;
	t->pointer_bytes = pointer_bytes;
	int err = pdb_stream_read(file, PDB_STREAM_TYPES, &t->stream);
	if (err == 0 && t->stream.len > 0)
		err = pdb_stream_own(file, &t->stream);
	if (err == 0 && t->stream.len > 0)
		err = load(t, ret);
	name_index_deinit(&t->definitions);
	pdb_stream_free(&t->stream);
	free(t->records);
	return err;
}
