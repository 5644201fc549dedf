/* SPDX-License-Identifier: Apache-2.0 */
#include "tool.h"

static const char usage[] =
	"Usage: hvmi-struct TARGET TYPE[.PATH] [--at ADDRESS] [--json]\n"
	"Print the layout of a type of the kernel, or where a member of it lies, such as\n"
	"task_struct, 'union thread_union', pid_type, task_struct.mm.pgd.\n"
	"\n"
	"      --at ADDRESS    print the values of the object at this address: 0x1000, SYMBOL,\n"
	"                      or PID:0x1000 in a process\n";

#define DEPTH_MAX 16u
/* Types come from the guest too: anonymous members may multiply without end. */
#define MEMBERS_MAX 200000u

struct view {
	struct tool tool;
	const struct hvmi_profile *profile;
	struct tool_place at;	/* without a space: no values */
	uint32_t members;
	size_t unreadable;
};

static bool is_aggregate(uint32_t kind)
{
	return kind == HVMI_TYPE_STRUCT || kind == HVMI_TYPE_UNION;
}

/* What a type is behind typedefs and qualifiers. */
static struct hvmi_type resolve(const struct view *v, uint32_t id)
{
	struct hvmi_type type = { .size = sizeof(type) };
	for (unsigned depth = 0; depth < DEPTH_MAX; depth++) {
		if (hvmi_profile_type(v->profile, id, &type))
			break;
		if (type.kind != HVMI_TYPE_TYPEDEF && type.kind != HVMI_TYPE_QUALIFIER)
			return type;
		id = type.target;
	}
	return (struct hvmi_type){ .size = sizeof(type), .name = "", .kind = HVMI_TYPE_UNKNOWN };
}

/* As C spells it. */
static json_t *spell(const struct view *v, uint32_t type)
{
	char text[512] = "?";
	hvmi_profile_type_spelling(v->profile, type, text, sizeof(text));
	return tool_json_text(text, strlen(text));
}

static const char *enumerator_name(const struct view *v, const struct hvmi_type *type,
				   uint64_t value)
{
	const char *name;
	int64_t candidate;
	for (uint32_t i = 0; i < type->count; i++)
		if (hvmi_profile_enumerator_at(v->profile, type->id, i, &name, &candidate) == 0 &&
		    candidate == (int64_t)value)
			return name;
	return NULL;
}

static bool is_text(const struct view *v, const struct hvmi_type *type)
{
	struct hvmi_type element = resolve(v, type->target);
	return type->kind == HVMI_TYPE_ARRAY && element.kind == HVMI_TYPE_INTEGER &&
	       element.bytes == 1 &&
	       (element.flags & HVMI_TYPE_CHAR || strcmp(element.name, "char") == 0);
}

/* Null: it could not be read; NULL: it is nothing that is printed. */
static json_t *value_of(struct view *v, const struct hvmi_member *member)
{
	struct hvmi_type type = resolve(v, member->type);
	char text[256];
	uint64_t number, gva;
	int rc;
	if (is_text(v, &type)) {
		size_t len = member->bytes < sizeof(text) ? member->bytes : sizeof(text);
		rc = hvmi_member_address(member, v->at.space, v->at.address, &gva);
		if (!rc)
			rc = hvmi_space_read(v->at.space, gva, text, len, NULL);
		if (!rc)
			return tool_json_text(text, strnlen(text, len));
	} else {
		rc = hvmi_member_read(member, v->at.space, v->at.address, &number);
	}
	if (rc == -EINVAL)
		return NULL;
	v->unreadable += rc != 0;
	if (rc)
		return json_null();
	if (type.kind == HVMI_TYPE_POINTER)
		return tool_json_hex(number);
	if (type.flags & HVMI_TYPE_BOOL)
		return json_boolean(number != 0);
	const char *name = type.kind == HVMI_TYPE_ENUM ? enumerator_name(v, &type, number) : NULL;
	if (name)
		return tool_json_text(name, strlen(name));
	return type.flags & HVMI_TYPE_SIGNED ? json_integer((json_int_t)number) :
					       tool_json_number(number);
}

/* A member as a JSON object, which is what is printed from, too. */
static json_t *describe(struct view *v, const char *name, const struct hvmi_member *member)
{
	uint64_t offset = member->hops[member->hop_count - 1] + member->bit_offset / 8;
	json_t *object = tool_json_object(
		"name", tool_json_text(name, strlen(name)), "type", spell(v, member->type),
		"offset", tool_json_number(offset), "size", tool_json_number(member->bytes), NULL);
	if (member->bit_size) {
		tool_json_set(object, "bit_offset", tool_json_number(member->bit_offset % 8));
		tool_json_set(object, "bit_size", tool_json_number(member->bit_size));
	}
	json_t *value = v->at.space ? value_of(v, member) : NULL;
	if (value)
		tool_json_set(object, "value", value);
	return object;
}

static json_t *describe_members(struct view *v, const struct hvmi_type *type, uint64_t base_bits,
				unsigned depth)
{
	struct hvmi_type_member member = { .size = sizeof(member) };
	json_t *members = json_array();
	for (uint32_t i = 0; i < type->count; i++) {
		if (hvmi_profile_member_at(v->profile, type->id, i, &member) ||
		    v->members++ >= MEMBERS_MAX)
			break;
		struct hvmi_type inner = resolve(v, member.type);
		uint64_t bits = base_bits + member.bit_offset;
		struct hvmi_member access = {
			.size = sizeof(access), .bytes = inner.bytes, .bit_offset = bits % 8,
			.bit_size = member.bit_size, .type = member.type, .kind = inner.kind,
			.flags = inner.flags, .hop_count = 1, .pointer_bytes = 8,
			.hops = { bits / 8 },
		};
		json_t *object = describe(v, member.name, &access);
		if (!*member.name && is_aggregate(inner.kind) && depth < DEPTH_MAX)
			tool_json_set(object, "members",
				      describe_members(v, &inner, bits, depth + 1));
		tool_json_append(members, object);
	}
	return members;
}

static json_t *describe_enumerators(const struct view *v, const struct hvmi_type *type)
{
	json_t *enumerators = json_array();
	const char *name;
	int64_t value;
	for (uint32_t i = 0;
	     hvmi_profile_enumerator_at(v->profile, type->id, i, &name, &value) == 0; i++)
		tool_json_append(enumerators, tool_json_object(
			"name", tool_json_text(name, strlen(name)), "value", json_integer(value),
			NULL));
	return enumerators;
}

static long long number_in(const json_t *object, const char *key)
{
	return json_integer_value(json_object_get(object, key));
}

static void print_member(const json_t *member, int depth)
{
	const json_t *hops = json_object_get(member, "hops");
	const json_t *value = json_object_get(member, "value");
	const char *name = json_string_value(json_object_get(member, "name"));
	char offset[256], bits[32] = "";
	int len = 0;
	for (size_t i = 0; i + 1 < json_array_size(hops); i++)
		len += snprintf(offset + len, sizeof(offset) - len, "%lld->",
				json_integer_value(json_array_get(hops, i)));
	len += snprintf(offset + len, sizeof(offset) - len, "%lld", number_in(member, "offset"));
	if (json_object_get(member, "bit_size")) {
		snprintf(offset + len, sizeof(offset) - len, ":%lld",
			 number_in(member, "bit_offset"));
		snprintf(bits, sizeof(bits), ":%lld", number_in(member, "bit_size"));
	}
	printf("%8s %7lld  %*s%s%s%s%s", offset, number_in(member, "size"), 4 * depth, "",
	       json_string_value(json_object_get(member, "type")), *name ? " " : "", name, bits);
	if (value && json_is_integer(value))
		printf(" = %lld", (long long)json_integer_value(value));
	else if (value)
		printf(" = %s", json_is_string(value) ? json_string_value(value) :
		       json_is_null(value) ? "?" : json_is_true(value) ? "true" : "false");
	putchar('\n');
	size_t i;
	json_t *each;
	json_array_foreach(json_object_get(member, "members"), i, each)
		print_member(each, depth + 1);
}

static void print_type(const json_t *object)
{
	size_t i;
	json_t *each;
	printf("%s, %lld bytes\n", json_string_value(json_object_get(object, "type")),
	       number_in(object, "size"));
	if (json_object_get(object, "members"))
		printf("%8s %7s  MEMBER\n", "OFFSET", "SIZE");
	json_array_foreach(json_object_get(object, "members"), i, each)
		print_member(each, 0);
	json_array_foreach(json_object_get(object, "enumerators"), i, each)
		printf("%20lld  %s\n", number_in(each, "value"),
		       json_string_value(json_object_get(each, "name")));
}

static json_t *describe_type(struct view *v, const char *name)
{
	struct hvmi_type type = { .size = sizeof(type) };
	int rc = hvmi_profile_find_type(v->profile, name, &type, &v->tool.err);
	if (rc) {
		tool_failed(&v->tool, rc);
		return NULL;
	}
	struct hvmi_type real = resolve(v, type.id);
	json_t *object = tool_json_object("type", spell(v, type.id), "size",
					  tool_json_number(type.bytes), NULL);
	if (is_aggregate(real.kind))
		tool_json_set(object, "members", describe_members(v, &real, 0, 0));
	else if (real.kind == HVMI_TYPE_ENUM)
		tool_json_set(object, "enumerators", describe_enumerators(v, &real));
	return object;
}

static json_t *describe_path(struct view *v, const char *type, const char *path)
{
	struct hvmi_member member = { .size = sizeof(member) };
	int rc = hvmi_profile_member(v->profile, type, path, &member, &v->tool.err);
	if (rc) {
		tool_failed(&v->tool, rc);
		return NULL;
	}
	json_t *object = describe(v, path, &member), *hops = json_array();
	for (uint32_t i = 0; i < member.hop_count; i++)
		tool_json_append(hops, tool_json_number(member.hops[i]));
	tool_json_set(object, "hops", hops);
	return object;
}

int main(int argc, char **argv)
{
	static const struct option options[] = { { "at", required_argument, NULL, 'a' }, { 0 } };
	struct view v = { 0 };
	const char *at = NULL;
	json_t *object = NULL;
	tool_begin(&v.tool, usage, argc, argv);
	while (tool_option(&v.tool, options) != -1)
		at = optarg;
	tool_operands(&v.tool, 2, 2);
	tool_open_os(&v.tool);
	v.profile = hvmi_os_profile(v.tool.os);

	char *type = v.tool.operands[1], *path = strpbrk(type, ".-");
	if (path) {
		size_t mark = strncmp(path, "->", 2) == 0 ? 2 : 1;
		*path = '\0';
		path += mark;
	}
	if (!at || tool_place(&v.tool, at, "kernel", &v.at)) {
		if (at && !v.at.space)
			tool_die(TOOL_USAGE, "--at takes an address of the kernel or of a process");
		object = path ? describe_path(&v, type, path) : describe_type(&v, type);
	}
	if (v.tool.json) {
		tool_print(&v.tool, object ? object : json_null());
	} else if (object) {
		if (path)
			print_member(object, 0);
		else
			print_type(object);
		json_decref(object);
	}
	if (v.members > MEMBERS_MAX)
		tool_error(&v.tool, TOOL_PARTIAL, "it has more than %u members", MEMBERS_MAX);
	if (v.unreadable)
		tool_error(&v.tool, TOOL_PARTIAL, "values that are not in memory: %zu",
			   v.unreadable);
	hvmi_space_destroy(v.at.space);
	return tool_end(&v.tool);
}
