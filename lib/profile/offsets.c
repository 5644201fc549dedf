/* SPDX-License-Identifier: Apache-2.0 */
#include "profile/offsets.h"

#include "profile/types_build.h"

#define WORDS_MAX 4u
#define WORD_MAX 255u
#define LINE_MAX_BYTES 1024u
#define ELEMENTS_MAX 1000000u

struct line {
	uint32_t number;
	uint32_t count;
	char *words[WORDS_MAX];
	char text[LINE_MAX_BYTES];
};

struct loader {
	struct types_build build;
	struct symbols symbols;
	uint64_t base;
	uint32_t pointer_bytes;
	struct line line;
	struct hvmi_error *err;
};

/* 1: a line with words, 0: the end, -EBADMSG: one that is too long or has a NUL. */
static int next_line(const char **at, const char *end, struct line *line)
{
	while (*at < end) {
		const char *stop = memchr(*at, '\n', (size_t)(end - *at));
		size_t len = (size_t)((stop ? stop : end) - *at);
		line->number++;
		line->count = 0;
		if (len >= sizeof(line->text) || memchr(*at, '\0', len))
			return -EBADMSG;
		memcpy(line->text, *at, len);
		line->text[len] = '\0';
		*at += len + (stop != NULL);
		line->text[strcspn(line->text, "#\r")] = '\0';
		char *rest = NULL;
		for (char *word = strtok_r(line->text, " \t", &rest); word;
		     word = strtok_r(NULL, " \t", &rest)) {
			if (line->count == WORDS_MAX || strlen(word) > WORD_MAX) {
				line->count = 0;
				return -EBADMSG;
			}
			line->words[line->count++] = word;
		}
		if (line->count > 0)
			return 1;
	}
	return 0;
}

static int bad(const struct loader *l, const char *what)
{
	return hvmi_error_set(l->err, -EBADMSG, HVMI_NO_ADDRESS,
			      "line %u of the offsets file is malformed: %s", l->line.number, what);
}

/* "GUIDAGE" as symbol stores write it. */
static bool parse_key(const char *text, struct offsets_id *ret)
{
	static const uint8_t order[16] = { 3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15 };
	char digits[3] = "", *end;

	if (strlen(text) < 33 || strlen(text) > 40 ||
	    strspn(text, "0123456789abcdefABCDEF") != strlen(text))
		return false;
	for (size_t i = 0; i < 16; i++) {
		memcpy(digits, text + 2 * i, 2);
		ret->guid[order[i]] = (uint8_t)strtoul(digits, NULL, 16);
	}
	ret->age = (uint32_t)strtoul(text + 32, &end, 16);
	ret->has_id = true;
	return true;
}

void offsets_identify(const char *text, size_t len, struct offsets_id *ret)
{
	struct line line = { 0 };
	const char *at = text, *end = text + len;

	*ret = (struct offsets_id){ 0 };
	while (!ret->has_id && next_line(&at, end, &line) == 1)
		if (line.count == 2 && strcmp(line.words[0], "kernel") == 0)
			parse_key(line.words[1], ret);
}

static bool number(const char *text, uint64_t max, uint64_t *ret)
{
	return hvmi_parse_u64(text, ret) == 0 && *ret <= max;
}

static uint32_t find(const struct types_build *build, const char *name, bool any_kind)
{
	const struct types *graph = &build->graph;

	for (uint32_t id = 1; id < graph->type_count; id++) {
		uint32_t kind = graph->types[id].kind;
		if ((any_kind || kind == HVMI_TYPE_STRUCT || kind == HVMI_TYPE_UNION) &&
		    strcmp(graph->names + graph->types[id].name, name) == 0)
			return id;
	}
	return 0;
}

static uint32_t put_struct(struct loader *l, const char *name)
{
	uint32_t id = find(&l->build, name, false);

	if (id)
		return id;
	return types_build_type(&l->build,
				(struct type){ .name = types_build_name(&l->build, name,
									strlen(name)),
					       .kind = HVMI_TYPE_STRUCT });
}

static uint32_t put_integer(struct loader *l, const char *name)
{
	uint64_t bits;

	if ((name[0] != 'u' && name[0] != 'i') || !number(name + 1, 64, &bits) ||
	    (bits != 8 && bits != 16 && bits != 32 && bits != 64))
		return 0;
	uint32_t id = find(&l->build, name, true);
	if (id)
		return id;
	struct type type = {
		.name = types_build_name(&l->build, name, strlen(name)),
		.kind = HVMI_TYPE_INTEGER,
		.flags = name[0] == 'i' ? HVMI_TYPE_SIGNED : 0,
		.bytes = (uint32_t)bits / 8,
		.bits = (uint32_t)bits,
	};
	return types_build_type(&l->build, type);
}

/* u32, i8, a struct's name; [n] behind it for an array, * for a pointer, :n@b for a bit-field. */
static bool put_type(struct loader *l, char *text, struct member *ret)
{
	uint64_t bits = 0, first = 0, elements = 0;
	bool is_pointer = false;
	char *colon = strchr(text, ':'), *bracket = strchr(text, '[');

	if (colon) {
		char *at = strchr(colon, '@');
		*colon = '\0';
		if (at)
			*at = '\0';
		if (!number(colon + 1, 64, &bits) || bits == 0 ||
		    (at && !number(at + 1, 63, &first)))
			return false;
	}
	if (bracket) {
		size_t len = strlen(bracket);
		if (colon || len < 3 || bracket[len - 1] != ']')
			return false;
		bracket[len - 1] = '\0';
		*bracket = '\0';
		if (!number(bracket + 1, ELEMENTS_MAX, &elements))
			return false;
	}
	size_t len = strlen(text);
	if (len > 0 && text[len - 1] == '*') {
		text[len - 1] = '\0';
		is_pointer = true;
	}
	uint32_t id = put_integer(l, text);
	if (id == 0 && text[0] != '\0' && strcmp(text, "void") != 0)
		id = put_struct(l, text);
	if (is_pointer)
		id = types_build_type(&l->build,
				      (struct type){ .kind = HVMI_TYPE_POINTER, .target = id });
	if (bracket)
		id = types_build_type(&l->build, (struct type){ .kind = HVMI_TYPE_ARRAY,
								.target = id,
								.elements = (uint32_t)elements });
	ret->type = id & 0xffffff;
	ret->bit_size = bits & 0xff;
	ret->bit_offset += (uint32_t)first;
	return id != 0 || l->build.error;
}

/* Where a struct already has the member, or TYPE_NONE. */
static uint32_t find_member(const struct types *graph, uint32_t id, const char *name)
{
	for (uint32_t i = 0; i < graph->types[id].count; i++)
		if (strcmp(graph->names + graph->members[graph->types[id].first + i].name, name) == 0)
			return graph->types[id].first + i;
	return TYPE_NONE;
}

/* Members of a struct follow each other: one that gets another moves to the end of all. */
static void append_member(struct loader *l, uint32_t id, struct member member)
{
	struct types *graph = &l->build.graph;
	uint32_t first = graph->types[id].first, count = graph->types[id].count;

	if (first + count != graph->member_count) {
		uint32_t moved = graph->member_count;
		for (uint32_t i = 0; i < count; i++)
			types_build_member(&l->build, graph->members[first + i]);
		first = moved;
	}
	types_build_member(&l->build, member);
	if (l->build.error)
		return;
	graph->types[id].first = first;
	graph->types[id].count = (count + 1) & 0xffffff;
}

static int do_member(struct loader *l)
{
	char pointer[] = "void*", *type = pointer;
	char *dot = strchr(l->line.words[1], '.');
	uint64_t offset;

	if (l->line.count < 3 || !dot || dot[1] == '\0' || dot == l->line.words[1])
		return bad(l, "write \"member STRUCT.NAME OFFSET [TYPE]\"");
	*dot = '\0';
	if (!number(l->line.words[2], UINT32_MAX / 8 - 8, &offset))
		return bad(l, "the offset is no number, or too large");
	uint32_t id = put_struct(l, l->line.words[1]);
	struct member member = { .bit_offset = (uint32_t)offset * 8 };
	uint32_t at = l->build.error ? TYPE_NONE : find_member(&l->build.graph, id, dot + 1);
	if (l->line.count == 4)
		type = l->line.words[3];
	else if (at != TYPE_NONE)
		type = NULL;
	if (type && !put_type(l, type, &member))
		return bad(l, "the type is none");
	if (l->build.error)
		return 0;
	if (at == TYPE_NONE) {
		member.name = types_build_name(&l->build, dot + 1, strlen(dot + 1));
		append_member(l, id, member);
		return 0;
	}
	struct member *known = &l->build.graph.members[at];
	if (type) {
		member.name = known->name;
		*known = member;
	} else {
		known->bit_offset = member.bit_offset + known->bit_offset % 8;
	}
	return 0;
}

static int do_struct(struct loader *l)
{
	uint64_t bytes;

	if (l->line.count != 3 || !number(l->line.words[2], UINT32_MAX, &bytes))
		return bad(l, "write \"struct NAME BYTES\"");
	uint32_t id = put_struct(l, l->line.words[1]);
	if (!l->build.error)
		l->build.graph.types[id].bytes = (uint32_t)bytes;
	return 0;
}

static int do_symbol(struct loader *l)
{
	uint64_t offset;

	if (l->line.count != 3 || !number(l->line.words[2], UINT64_MAX, &offset))
		return bad(l, "write \"symbol NAME OFFSET-FROM-THE-KERNEL'S-BASE\"");
	/* A global one is found before those of other sources. */
	int err = symbols_add(&l->symbols, l->base + offset, 'D', l->line.words[1],
			      strlen(l->line.words[1]));
	return err < 0 ? bad(l, "there are too many symbols") : 0;
}

static int do_line(struct loader *l)
{
	static const struct {
		const char *word;
		int (*run)(struct loader *l);
	} commands[] = {
		{ "member", do_member },
		{ "struct", do_struct },
		{ "symbol", do_symbol },
	};
	struct offsets_id ignored;

	if (l->line.count < 2)
		return bad(l, "a word is missing");
	for (size_t i = 0; i < ARRAY_SIZE(commands); i++)
		if (strcmp(l->line.words[0], commands[i].word) == 0)
			return commands[i].run(l);
	if (strcmp(l->line.words[0], "kernel") == 0)
		return parse_key(l->line.words[1], &ignored) ? 0 :
			       bad(l, "write \"kernel GUIDAGE\", as symbol stores do");
	return bad(l, "it begins with none of kernel, symbol, struct, member");
}

/* A struct that was not told its size reaches to the end of its last member. */
static void grow_structs(struct loader *l)
{
	struct types *graph = &l->build.graph;

	for (uint32_t id = 1; id < graph->type_count; id++) {
		struct type *type = &graph->types[id];
		if (type->kind != HVMI_TYPE_STRUCT || type->count == 0)
			continue;
		for (uint32_t i = 0; i < type->count; i++) {
			const struct member *member = &graph->members[type->first + i];
			uint64_t bytes = 0;
			if (member->type == id ||
			    !types_sizeof(graph, member->type, l->pointer_bytes, &bytes))
				bytes = 0;
			uint64_t end = member->bit_offset / 8 + bytes;
			if (end > type->bytes && end <= UINT32_MAX)
				type->bytes = (uint32_t)end;
		}
	}
}

int offsets_load(const char *text, size_t len, uint64_t base, uint32_t pointer_bytes,
		 struct types *types, struct symbols *symbols, struct hvmi_error *err)
{
	CLEANUP_FREE struct loader *l = calloc(1, sizeof(*l));
	const char *at = text, *end = text + len;
	int rc;

	if (!l)
		return hvmi_error_set(err, -ENOMEM, HVMI_NO_ADDRESS, "no memory for offsets");
	l->base = base;
	l->pointer_bytes = pointer_bytes;
	l->err = err;
	types_build_thaw(&l->build, types);
	while ((rc = next_line(&at, end, &l->line)) == 1 && (rc = do_line(l)) == 0)
		;
	if (rc == -EBADMSG && !l->line.count)
		rc = bad(l, "it has too many words, or too long ones");
	if (rc == 0) {
		grow_structs(l);
		struct types loaded;
		rc = symbols_reserve(symbols, l->symbols.count, l->symbols.names_len);
		if (rc == 0)
			rc = types_build_finish(&l->build, &loaded);
		if (rc == 0) {
			types_deinit(types);
			*types = loaded;
			for (uint32_t i = 0; i < l->symbols.count; i++) {
				struct hvmi_symbol one;
				symbols_get(&l->symbols, i, &one);
				symbols_add(symbols, one.gva, one.kind, one.name, strlen(one.name));
			}
		} else {
			rc = hvmi_error_set(err, rc, HVMI_NO_ADDRESS, "no memory for offsets");
		}
	}
	symbols_deinit(&l->symbols);
	types_build_abort(&l->build);
	return rc;
}
