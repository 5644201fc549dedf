/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Formats: Documentation/bpf/btf.rst and include/uapi/linux/btf.h up to Linux 7.2, which are facts
 * about every blob: layouts, limits and bit positions below are theirs.
 */
#include "profile/btf_loader.h"

#define MAGIC 0xeb9fu
#define HEADER_BYTES 24u
#define HEADER_BYTES_LAYOUT 32u		/* since 7.1 */
#define HEADER_BYTES_MAX 256u
#define TYPE_BYTES 12u
#define LAYOUT_BYTES 4u

/* What follows the 12 bytes of a type, by kind. */
static const struct btf_kind_size kinds[BTF_KIND_COUNT] = {
	[BTF_INT] = {.info = 4},
	[BTF_ARRAY] = {.info = 12},
	[BTF_STRUCT] = {.element = 12},
	[BTF_UNION] = {.element = 12},
	[BTF_ENUM] = {.element = 8},
	[BTF_FUNC_PROTO] = {.element = 8},
	[BTF_VAR] = {.info = 4},
	[BTF_DATASEC] = {.element = 12},
	[BTF_DECL_TAG] = {.info = 4},
	[BTF_ENUM64] = {.element = 12},
};

struct section {
	uint32_t offset, len;		/* behind the header */
};

struct header {
	uint32_t len;
	struct section types, names, layout;
};

static bool overlap(struct section a, struct section b)
{
	return a.len && b.len && a.offset < (uint64_t)b.offset + b.len &&
	       b.offset < (uint64_t)a.offset + a.len;
}

static struct section get_section(const uint8_t *at)
{
	return (struct section){load_le32(at), load_le32(at + 4)};
}

/* NULL, or why it is none. */
static const char *parse_header(const uint8_t *bytes, size_t len, struct header *ret,
				uint64_t *blob_len_ret)
{
	struct header header = {0};

	if (len < HEADER_BYTES)
		return "it is shorter than its header";
	if (load_le16(bytes) != MAGIC)
		return "its magic number is wrong";
	if (bytes[2] != 1 || bytes[3] != 0)
		return "it is of a version that is not known";
	header.len = load_le32(bytes + 4);
	if (header.len < HEADER_BYTES || header.len > HEADER_BYTES_MAX || header.len % 4 != 0)
		return "its header has an impossible length";
	header.types = get_section(bytes + 8);
	header.names = get_section(bytes + 16);
	if (header.len >= HEADER_BYTES_LAYOUT) {
		if (len < HEADER_BYTES_LAYOUT)
			return "it is shorter than its header";
		header.layout = get_section(bytes + 24);
	}
	if (header.types.offset % 4 != 0 || header.types.len % 4 != 0 ||
	    header.types.len < TYPE_BYTES || header.names.len < 2 ||
	    header.layout.offset % 4 != 0 || header.layout.len % LAYOUT_BYTES != 0)
		return "its sections have impossible places or lengths";
	if (overlap(header.types, header.names) || overlap(header.types, header.layout) ||
	    overlap(header.names, header.layout))
		return "its sections overlap";

	uint64_t end = MAX((uint64_t)header.types.offset + header.types.len,
			   (uint64_t)header.names.offset + header.names.len);
	if (header.layout.len)
		end = MAX(end, (uint64_t)header.layout.offset + header.layout.len);
	/* A longer header may tell of sections that are not known here; else there is no gap. */
	if (header.len <= HEADER_BYTES_LAYOUT &&
	    end != (uint64_t)header.types.len + header.names.len + header.layout.len)
		return "there are gaps between its sections";
	if (header.len + end > BTF_BYTES_MAX)
		return "it is too long to be true";
	*ret = header;
	*blob_len_ret = header.len + end;
	return NULL;
}

int btf_probe(const void *bytes, size_t len, uint64_t *blob_len_ret)
{
	struct header header;
	uint64_t blob_len;

	len = MIN(len, BTF_PROBE_BYTES);
	if (parse_header(bytes, len, &header, &blob_len))
		return -EBADMSG;
	/* The first type, where it is seen: a module's blob names it in the kernel's strings. */
	uint64_t first = (uint64_t)header.len + header.types.offset;
	if (first + TYPE_BYTES <= len) {
		const uint8_t *at = (const uint8_t *)bytes + first;
		if (load_le32(at) >= header.names.len || (load_le32(at + 4) >> 24 & 0x7f) == 0)
			return -EBADMSG;
	}
	*blob_len_ret = blob_len;
	return 0;
}

static int bad_blob(struct hvmi_error *err, const char *what)
{
	return hvmi_error_set(err, -EBADMSG, HVMI_NO_ADDRESS, "this BTF is malformed: %s", what);
}

static int check_names(const struct btf_loader *loader)
{
	const char *names = loader->names;
	uint32_t len = loader->names_len;
	unsigned char control = 0;

	if (names[0] != '\0' || names[len - 1] != '\0')
		return bad_blob(loader->err, "its strings do not start and end with a NUL");
	/* All of them, without a branch: it is what tells chance finds apart most quickly. */
	for (uint32_t i = 0; i < len; i++)
		control |= (unsigned char)(names[i] - 1) < 0x1f;
	if (control)
		return bad_blob(loader->err, "its strings hold control characters");
	/* Names are hashed and measured later, many types may share one: none may be long. */
	for (uint32_t at = 0; len - at > TYPE_NAME_MAX + 1;) {
		const char *end = memrchr(names + at, '\0', TYPE_NAME_MAX + 1);
		if (!end)
			return bad_blob(loader->err, "one of its strings is too long");
		at = (uint32_t)(end - names) + 1;
	}
	return 0;
}

/* What is known of each kind: by us, else by the blob's layout section. */
static int learn_kinds(struct btf_loader *loader, const uint8_t *layout, uint32_t layout_count)
{
	memcpy(loader->kinds, kinds, sizeof(kinds));
	for (uint32_t kind = 1; kind < BTF_KIND_COUNT; kind++)
		loader->kinds[kind].known = true;
	for (uint32_t kind = 1; kind < MIN(layout_count, BTF_KINDS_MAX); kind++) {
		struct btf_kind_size told = {layout[(size_t)kind * LAYOUT_BYTES],
					     layout[(size_t)kind * LAYOUT_BYTES + 1], true};
		struct btf_kind_size *size = &loader->kinds[kind];
		if (size->known && (size->info != told.info || size->element != told.element))
			return hvmi_error_set(loader->err, -EBADMSG, HVMI_NO_ADDRESS,
					      "this BTF lays out types of kind %u in a way that "
					      "this version of the library does not know", kind);
		*size = told;
	}
	return 0;
}

/* Decode the type at *offset and move *offset behind it. False: -EBADMSG, which has been told. */
static inline bool next_record(const struct btf_loader *loader, uint32_t *offset,
			       struct btf_record *ret)
{
	const uint8_t *at = loader->types + *offset;
	uint32_t left = loader->types_len - *offset;

	if (left < TYPE_BYTES) {
		btf_bad(loader, "it is cut short");
		return false;
	}
	uint32_t info = load_le32(at + 4);
	ret->name = load_le32(at);
	ret->vlen = info & 0xffffff;
	ret->kind = info >> 24 & 0x7f;
	ret->flag = info >> 31;
	ret->value = load_le32(at + 8);
	ret->info = at + TYPE_BYTES;
	struct btf_kind_size size = loader->kinds[ret->kind];
	if (!size.known) {
		hvmi_error_set(loader->err, -EBADMSG, HVMI_NO_ADDRESS,
			       "type %u of this BTF is of kind %u, which this version of the "
			       "library does not know", loader->type, ret->kind);
		return false;
	}
	uint64_t bytes = TYPE_BYTES + size.info + (uint64_t)ret->vlen * size.element;
	if (bytes > left) {
		btf_bad(loader, "it is cut short");
		return false;
	}
	*offset += (uint32_t)bytes;
	return true;
}

/* Count everything: what is held is then allocated in its exact size. */
static int measure(struct btf_loader *loader)
{
	struct types *graph = loader->graph;
	uint32_t elements[BTF_KINDS_MAX] = {0}, flags[BTF_KINDS_MAX] = {0};
	struct btf_record record;

	loader->type = 1;
	for (uint32_t offset = 0; offset < loader->types_len; loader->type++) {
		if (!next_record(loader, &offset, &record))
			return -EBADMSG;
		if (loader->type >= TYPES_MAX)
			return btf_bad(loader, "there are too many");
		elements[record.kind] += record.vlen;
		flags[record.kind] += record.flag;
	}
	graph->type_count = loader->type;
	graph->names_len = loader->names_len;
	graph->member_count = elements[BTF_STRUCT] + elements[BTF_UNION];
	graph->enumerator_count = elements[BTF_ENUM] + elements[BTF_ENUM64];
	graph->parameter_count = elements[BTF_FUNC_PROTO];
	loader->signs_told = flags[BTF_ENUM] || elements[BTF_ENUM64];
	return 0;
}

static int allocate(struct btf_loader *loader)
{
	struct types *graph = loader->graph;

	graph->types = malloc_filled(sizeof(*graph->types) * graph->type_count);
	graph->members = malloc_filled(sizeof(*graph->members) * MAX(graph->member_count, 1u));
	graph->enumerators =
		malloc_filled(sizeof(*graph->enumerators) * MAX(graph->enumerator_count, 1u));
	graph->parameters = malloc_filled(sizeof(*graph->parameters) * MAX(graph->parameter_count, 1u));
	if (!graph->types || !graph->members || !graph->enumerators || !graph->parameters)
		return hvmi_error_set(loader->err, -ENOMEM, HVMI_NO_ADDRESS,
				      "no memory for %u types", graph->type_count);
	graph->types[0] = (struct type){.kind = HVMI_TYPE_VOID};
	return 0;
}

static int fill(struct btf_loader *loader)
{
	struct btf_record record;

	loader->type = 1;
	for (uint32_t offset = 0; offset < loader->types_len; loader->type++) {
		if (!next_record(loader, &offset, &record))
			return -EBADMSG;
		int err = btf_fill_type(loader, &record);
		if (err < 0)
			return err;
	}
	return 0;
}

/* A function is to look like its prototype, which may come after it. */
static int link_functions(struct btf_loader *loader)
{
	struct type *types = loader->graph->types;

	for (loader->type = 1; loader->type < loader->graph->type_count; loader->type++) {
		struct type *type = &types[loader->type];
		if (type->kind != HVMI_TYPE_FUNCTION || !(type->flags & TYPE_DEFINED_FUNCTION))
			continue;
		const struct type *prototype = &types[type->target];
		if (prototype->kind != HVMI_TYPE_FUNCTION || prototype->flags)
			return btf_bad(loader, "a function whose type is none of a function");
		type->target = prototype->target;
		type->first = prototype->first;
		type->count = prototype->count;
	}
	return 0;
}

/* The older form of bit-fields: an integer type that occupies part of its bytes. */
static int find_bit_fields(struct btf_loader *loader)
{
	const struct types *graph = loader->graph;

	if (!loader->odd_integers)
		return 0;
	for (uint32_t i = 0; i < graph->member_count; i++) {
		struct member *member = &graph->members[i];
		uint32_t id = types_strip(graph, member->type);
		if (member->bit_size || id == TYPE_NONE)
			continue;
		const struct type *type = &graph->types[id];
		uint32_t bits = type->bits & 0xff;
		if (type->kind != HVMI_TYPE_INTEGER || bits == type->bytes * 8)
			continue;
		if (__builtin_add_overflow(member->bit_offset, type->bits >> 8,
					   &member->bit_offset))
			return bad_blob(loader->err, "a bit-field lies outside of its struct");
		member->bit_size = bits;
	}
	return 0;
}

/* Only the strings of the blob are still needed. */
static char *keep_names(void *blob, const struct btf_loader *loader)
{
	memmove(blob, loader->names, loader->names_len);
	char *names = realloc(blob, loader->names_len);
	return names ? names : blob;
}

static int load(const uint8_t *blob, size_t len, struct btf_loader *loader)
{
	struct header header;
	uint64_t blob_len;

	const char *why = parse_header(blob, len, &header, &blob_len);
	if (why)
		return bad_blob(loader->err, why);
	if (blob_len > len)
		return bad_blob(loader->err, "it is cut short");

	const uint8_t *sections = blob + header.len;
	loader->types = sections + header.types.offset;
	loader->types_len = header.types.len;
	loader->names = (const char *)sections + header.names.offset;
	loader->names_len = header.names.len;
	int status = check_names(loader);
	if (status == 0 && header.layout.len)
		status = learn_kinds(loader, sections + header.layout.offset,
				     header.layout.len / LAYOUT_BYTES);
	else if (status == 0)
		status = learn_kinds(loader, NULL, 0);
	if (status < 0 || (status = measure(loader)) < 0 || (status = allocate(loader)) < 0 ||
	    (status = fill(loader)) < 0 || (status = link_functions(loader)) < 0)
		return status;
	return find_bit_fields(loader);
}

int btf_load(void *blob, size_t len, struct types *ret, struct hvmi_error *err)
{
	struct types graph = {0};
	struct btf_loader loader = {.graph = &graph, .err = err};

	int status = load(blob, len, &loader);
	if (status < 0) {
		types_deinit(&graph);
		free(blob);
		return status;
	}
	graph.names = keep_names(blob, &loader);
	status = types_freeze(&graph);
	if (status < 0) {
		types_deinit(&graph);
		return hvmi_error_set(err, status, HVMI_NO_ADDRESS, "no memory for types");
	}
	*ret = graph;
	return 0;
}
