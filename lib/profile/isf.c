/* SPDX-License-Identifier: Apache-2.0 */
#include "profile/isf.h"

static const uint8_t xz_magic[] = { 0xfd, '7', 'z', 'X', 'Z', 0 };

bool isf_probe(const void *bytes, size_t len)
{
	const uint8_t *b = bytes;

	if (len >= sizeof(xz_magic) && memcmp(b, xz_magic, sizeof(xz_magic)) == 0)
		return true;
	for (size_t i = 0; i < len; i++)
		if (!strchr(" \t\r\n", b[i]) || b[i] == '\0')
			return b[i] == '{';
	return false;
}

#ifndef HVMI_HAVE_ISF

int isf_open(const void *bytes, size_t len, struct isf *ret, struct hvmi_error *err)
{
	(void)bytes;
	(void)len;
	(void)ret;
	return hvmi_error_set(err, -ENOTSUP, HVMI_NO_ADDRESS,
			      "this library was built without jansson and liblzma, which ISF files "
			      "need");
}

void isf_close(struct isf *isf)
{
	(void)isf;
}

int isf_load(const struct isf *isf, uint64_t base, struct types *types, struct symbols *symbols,
	     struct hvmi_error *err)
{
	(void)isf;
	(void)base;
	(void)types;
	(void)symbols;
	return hvmi_error_set(err, -ENOTSUP, HVMI_NO_ADDRESS, "there is no ISF");
}

#else

#include <jansson.h>
#include <lzma.h>
#include <stdio.h>

#include "profile/types_build.h"

/* Pointers to arrays of pointers ... in one type; real ones go 4 deep. */
#define DEPTH_MAX 32u
#define XZ_MEMORY_MAX (128u * MIB)

static int bad(struct hvmi_error *err, const char *what)
{
	return hvmi_error_set(err, -EBADMSG, HVMI_NO_ADDRESS, "this ISF file is malformed: %s", what);
}

static int no_memory(struct hvmi_error *err)
{
	return hvmi_error_set(err, -ENOMEM, HVMI_NO_ADDRESS, "no memory for an ISF file");
}

static int unpack(const void *bytes, size_t len, char **ret, size_t *len_ret,
		  struct hvmi_error *err)
{
	lzma_stream stream = LZMA_STREAM_INIT;
	CLEANUP_FREE uint8_t *out = NULL;
	size_t size = 0;
	lzma_ret status = LZMA_OK;

	if (lzma_stream_decoder(&stream, XZ_MEMORY_MAX, LZMA_CONCATENATED) != LZMA_OK)
		return no_memory(err);
	stream.next_in = bytes;
	stream.avail_in = len;
	while (status == LZMA_OK && size < ISF_BYTES_MAX) {
		size_t wanted = MIN(MAX(size * 2, MIB), ISF_BYTES_MAX);
		uint8_t *moved = realloc(out, wanted);
		if (!moved) {
			lzma_end(&stream);
			return no_memory(err);
		}
		out = moved;
		stream.next_out = out + size;
		stream.avail_out = wanted - size;
		while (status == LZMA_OK && stream.avail_out > 0)
			status = lzma_code(&stream, LZMA_FINISH);
		size = wanted - stream.avail_out;
	}
	lzma_end(&stream);
	if (status != LZMA_STREAM_END)
		return bad(err, status == LZMA_OK ? "it unpacks to more than is believed" :
						    "it cannot be unpacked");
	*ret = (char *)out;
	*len_ret = size;
	out = NULL;
	return 0;
}

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* "169C65213E3E42DDBEB4E3AC66312B82": the first three fields are numbers, the rest bytes. */
static bool parse_guid(const char *text, uint8_t ret[16])
{
	static const uint8_t order[16] = { 3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15 };

	if (!text || strlen(text) != 32)
		return false;
	for (size_t i = 0; i < 16; i++) {
		int high = hex_digit(text[2 * i]), low = hex_digit(text[2 * i + 1]);
		if (high < 0 || low < 0)
			return false;
		ret[order[i]] = (uint8_t)(high << 4 | low);
	}
	return true;
}

static bool get_number(const json_t *object, const char *key, int64_t min, int64_t max,
		       int64_t *ret)
{
	const json_t *value = json_object_get(object, key);

	if (!json_is_integer(value) || json_integer_value(value) < min ||
	    json_integer_value(value) > max)
		return false;
	*ret = json_integer_value(value);
	return true;
}

static const char *get_text(const json_t *object, const char *key)
{
	return json_string_value(json_object_get(object, key));
}

static void read_identity(struct isf *isf)
{
	const json_t *pdb = json_object_get(
		json_object_get(json_object_get(isf->json, "metadata"), "windows"), "pdb");
	const json_t *pointer =
		json_object_get(json_object_get(isf->json, "base_types"), "pointer");
	const char *name = get_text(pdb, "database");
	int64_t age, number;

	isf->has_pdb = parse_guid(get_text(pdb, "GUID"), isf->guid) &&
		       get_number(pdb, "age", 0, UINT32_MAX, &age);
	if (isf->has_pdb)
		isf->age = (uint32_t)age;
	snprintf(isf->pdb_name, sizeof(isf->pdb_name), "%s", name ? name : "");
	if (get_number(pdb, "machine_type", 0, UINT16_MAX, &number))
		isf->machine = (uint16_t)number;
	isf->pointer_bytes = get_number(pointer, "size", 4, 8, &number) && number == 4 ? 4 : 8;
}

int isf_open(const void *bytes, size_t len, struct isf *ret, struct hvmi_error *err)
{
	CLEANUP_FREE char *text = NULL;
	struct isf isf = { 0 };
	json_error_t reason;

	if (len > ISF_BYTES_MAX)
		return bad(err, "it is too long to be true");
	if (len >= sizeof(xz_magic) && memcmp(bytes, xz_magic, sizeof(xz_magic)) == 0) {
		int rc = unpack(bytes, len, &text, &len, err);
		if (rc < 0)
			return rc;
		bytes = text;
	}
	isf.json = json_loadb(bytes, len, 0, &reason);
	if (!isf.json) {
		if (json_error_code(&reason) == json_error_out_of_memory)
			return no_memory(err);
		return hvmi_error_set(err, -EBADMSG, HVMI_NO_ADDRESS,
				      "this is no ISF file: line %d: %s", reason.line, reason.text);
	}
	if (!json_is_object(json_object_get(isf.json, "user_types")) &&
	    !json_is_object(json_object_get(isf.json, "symbols"))) {
		json_decref(isf.json);
		return bad(err, "it has neither user_types nor symbols");
	}
	read_identity(&isf);
	*ret = isf;
	return 0;
}

void isf_close(struct isf *isf)
{
	json_decref(isf->json);
	isf->json = NULL;
}

struct loader {
	const struct isf *isf;
	struct types_build build;
	json_t *ids;		/* of structs, unions and enums, by name */
	json_t *base_ids;
	uint32_t function;
};

static bool put_type(struct loader *l, const json_t *type, uint32_t depth, uint32_t *ret);

static uint32_t put_name(struct loader *l, const char *name)
{
	return types_build_name(&l->build, name, strlen(name));
}

static bool remember(struct loader *l, json_t *ids, const char *name, uint32_t id)
{
	if (json_object_set_new(ids, name, json_integer(id)) == 0)
		return true;
	l->build.error = -ENOMEM;
	return false;
}

static uint32_t recall(const json_t *ids, const char *name)
{
	return (uint32_t)json_integer_value(json_object_get(ids, name));
}

static bool put_base(struct loader *l, const char *name, const json_t *base)
{
	const char *kind = get_text(base, "kind");
	int64_t bytes;

	if (!kind || !get_number(base, "size", 0, 64, &bytes))
		return false;
	if (strcmp(kind, "void") == 0 || bytes == 0)
		return true;
	struct type type = { .name = put_name(l, name), .kind = HVMI_TYPE_INTEGER };
	if (strcmp(kind, "float") == 0)
		type.kind = HVMI_TYPE_FLOAT;
	else if (strcmp(kind, "bool") == 0)
		type.flags = HVMI_TYPE_BOOL;
	else
		type.flags = json_is_true(json_object_get(base, "signed")) ? HVMI_TYPE_SIGNED : 0;
	/* Windows' unsigned char is a number. */
	if (strcmp(kind, "char") == 0 && (type.flags & HVMI_TYPE_SIGNED))
		type.flags |= HVMI_TYPE_CHAR;
	type.bytes = (uint32_t)bytes;
	type.bits = type.bytes * 8;
	return remember(l, l->base_ids, name, types_build_type(&l->build, type));
}

static bool put_enum(struct loader *l, const char *name, json_t *of)
{
	json_t *constants = json_object_get(of, "constants"), *value;
	const char *base = get_text(of, "base"), *key;
	int64_t bytes;

	if (!get_number(of, "size", 1, 8, &bytes) || !json_is_object(constants))
		return false;
	uint32_t under = base ? recall(l->base_ids, base) : 0;
	struct type type = {
		.name = put_name(l, name),
		.kind = HVMI_TYPE_ENUM,
		.flags = under ? l->build.graph.types[under].flags & HVMI_TYPE_SIGNED :
				 HVMI_TYPE_SIGNED,
		.bytes = (uint32_t)bytes,
		.first = l->build.graph.enumerator_count,
		.count = json_object_size(constants) & 0xffffff,
	};
	json_object_foreach(constants, key, value) {
		if (!json_is_integer(value))
			return false;
		types_build_enumerator(&l->build, put_name(l, key), json_integer_value(value));
	}
	return remember(l, l->ids, name, types_build_type(&l->build, type));
}

static bool declare_struct(struct loader *l, const char *name, const json_t *of)
{
	const char *kind = get_text(of, "kind");
	int64_t bytes;

	if (!kind || !get_number(of, "size", 0, UINT32_MAX, &bytes))
		return false;
	bool is_union = strcmp(kind, "union") == 0;
	struct type type = {
		.name = put_name(l, name),
		.kind = is_union ? HVMI_TYPE_UNION : HVMI_TYPE_STRUCT,
		.bytes = (uint32_t)bytes,
	};
	return remember(l, l->ids, name, types_build_type(&l->build, type));
}

static bool put_derived(struct loader *l, const json_t *type, const char *kind, uint32_t depth,
			uint32_t *ret)
{
	struct type of = { .kind = HVMI_TYPE_POINTER };
	uint32_t target;
	int64_t count = 0;

	if (strcmp(kind, "array") == 0) {
		of.kind = HVMI_TYPE_ARRAY;
		if (!get_number(type, "count", 0, UINT32_MAX, &count))
			return false;
		of.elements = (uint32_t)count;
	}
	if (!put_type(l, json_object_get(type, "subtype"), depth + 1, &target))
		return false;
	of.target = target;
	*ret = types_build_type(&l->build, of);
	return true;
}

static bool put_type(struct loader *l, const json_t *type, uint32_t depth, uint32_t *ret)
{
	const char *kind = get_text(type, "kind"), *name = get_text(type, "name");

	if (!kind || depth > DEPTH_MAX)
		return false;
	if (strcmp(kind, "pointer") == 0 || strcmp(kind, "array") == 0)
		return put_derived(l, type, kind, depth, ret);
	if (strcmp(kind, "function") == 0) {
		*ret = l->function;
		return true;
	}
	if (!name)
		return false;
	if (strcmp(kind, "base") == 0) {
		*ret = recall(l->base_ids, name);
		return true;
	}
	uint32_t id = recall(l->ids, name);
	if (id == 0) {
		/* Only declared. */
		id = types_build_type(&l->build, (struct type){
			.name = put_name(l, name),
			.kind = HVMI_TYPE_FORWARD,
			.flags = strcmp(kind, "union") == 0 ? TYPE_UNION_FORWARD : 0,
		});
		if (!remember(l, l->ids, name, id))
			return false;
	}
	*ret = id;
	return true;
}

static bool put_field(struct loader *l, const char *name, const json_t *field,
		      struct member *ret)
{
	const json_t *type = json_object_get(field, "type");
	const char *kind = get_text(type, "kind");
	int64_t offset, bits = 0, bit = 0;
	uint32_t id;

	if (!kind || !get_number(field, "offset", 0, UINT32_MAX / 8 - 8, &offset))
		return false;
	if (strcmp(kind, "bitfield") == 0) {
		if (!get_number(type, "bit_length", 1, 64, &bits) ||
		    !get_number(type, "bit_position", 0, 63, &bit))
			return false;
		type = json_object_get(type, "type");
	}
	if (!put_type(l, type, 0, &id))
		return false;
	bool is_anonymous = json_is_true(json_object_get(field, "anonymous"));
	*ret = (struct member){
		.name = is_anonymous ? 0 : put_name(l, name),
		.type = id & 0xffffff,
		.bit_size = bits & 0xff,
		.bit_offset = (uint32_t)(offset * 8 + bit),
	};
	return true;
}

static bool put_fields(struct loader *l, const char *name, json_t *of)
{
	json_t *fields = json_object_get(of, "fields"), *field;
	const char *key;

	if (!json_is_object(fields))
		return false;
	uint32_t first = l->build.graph.member_count;
	json_object_foreach(fields, key, field) {
		struct member member;
		if (!put_field(l, key, field, &member))
			return false;
		types_build_member(&l->build, member);
	}
	if (l->build.error)
		return true;
	struct type *type = &l->build.graph.types[recall(l->ids, name)];
	type->first = first;
	type->count = (l->build.graph.member_count - first) & 0xffffff;
	return true;
}

/* NULL: fine; else the name of what is malformed. */
static const char *put_all(struct loader *l)
{
	json_t *json = l->isf->json, *of;
	const char *name;

	json_object_foreach(json_object_get(json, "base_types"), name, of)
		if (!put_base(l, name, of) && !l->build.error)
			return name;
	l->function = types_build_type(&l->build, (struct type){ .kind = HVMI_TYPE_FUNCTION });
	json_object_foreach(json_object_get(json, "enums"), name, of)
		if (!put_enum(l, name, of) && !l->build.error)
			return name;
	json_object_foreach(json_object_get(json, "user_types"), name, of)
		if (!declare_struct(l, name, of) && !l->build.error)
			return name;
	if (l->build.error)
		return NULL;
	json_object_foreach(json_object_get(json, "user_types"), name, of)
		if (!put_fields(l, name, of) && !l->build.error)
			return name;
	return NULL;
}

static int load_types(const struct isf *isf, struct types *ret, struct hvmi_error *err)
{
	struct loader l = { .isf = isf, .ids = json_object(), .base_ids = json_object() };

	types_build_begin(&l.build);
	if (!l.ids || !l.base_ids)
		l.build.error = -ENOMEM;
	const char *wrong = l.build.error ? NULL : put_all(&l);
	json_decref(l.ids);
	json_decref(l.base_ids);
	if (wrong) {
		char text[64];
		hvmi_text_escape(wrong, strnlen(wrong, sizeof(text)), text, sizeof(text));
		types_build_abort(&l.build);
		return hvmi_error_set(err, -EBADMSG, HVMI_NO_ADDRESS,
				      "this ISF file is malformed: type '%s' makes no sense", text);
	}
	int rc = types_build_finish(&l.build, ret);
	if (rc == -ENOMEM)
		return no_memory(err);
	return rc < 0 ? bad(err, "its types are more than are believed, or make no sense") : 0;
}

static int load_symbols(const struct isf *isf, uint64_t base, struct symbols *ret,
			struct hvmi_error *err)
{
	json_t *symbols = json_object_get(isf->json, "symbols"), *symbol;
	struct symbols loaded = { 0 };
	const char *name;
	int rc = 0;

	json_object_foreach(symbols, name, symbol) {
		const json_t *address = json_object_get(symbol, "address");
		/* Addresses of Linux are negative or lost their last bits: they are not for us. */
		if (rc == 0 && json_is_integer(address) && name[0] != '\0' &&
		    strlen(name) <= TYPE_NAME_MAX)
			rc = symbols_add(&loaded, base + (uint64_t)json_integer_value(address), 0,
					 name, strlen(name));
	}
	if (rc == 0)
		rc = symbols_reserve(ret, loaded.count, loaded.names_len);
	for (uint32_t i = 0; rc == 0 && i < loaded.count; i++) {
		struct hvmi_symbol one;
		symbols_get(&loaded, i, &one);
		symbols_add(ret, one.gva, one.kind, one.name, strlen(one.name));
	}
	symbols_deinit(&loaded);
	if (rc == -ENOMEM)
		return no_memory(err);
	return rc < 0 ? bad(err, "it has more symbols than are believed") : 0;
}

int isf_load(const struct isf *isf, uint64_t base, struct types *types, struct symbols *symbols,
	     struct hvmi_error *err)
{
	struct types loaded = { 0 };

	int rc = load_types(isf, &loaded, err);
	if (rc == 0)
		rc = load_symbols(isf, base, symbols, err);
	if (rc < 0)
		types_deinit(&loaded);
	else
		*types = loaded;
	return rc;
}

#endif
