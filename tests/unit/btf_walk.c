/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "btf_walk.h"

#define must(truth) must_be(truth, #truth, __LINE__)

static void must_be(int truth, const char *text, int line)
{
	if (truth)
		return;
	fprintf(stderr, "%s:%d: not true: %s\n", __FILE__, line, text);
	abort();
}

static void walk_spelling(const struct hvmi_profile *profile, uint32_t id)
{
	char all[2048], some[7];

	int len = hvmi_profile_type_spelling(profile, id, all, sizeof(all));
	must(len > 0);
	must(strlen(all) == ((size_t)len < sizeof(all) ? (size_t)len : sizeof(all) - 1));
	must(hvmi_profile_type_spelling(profile, id, some, sizeof(some)) == len);
	must(strncmp(all, some, sizeof(some) - 1) == 0);
	must(hvmi_profile_type_spelling(profile, id, NULL, 0) == len);
}

static void check_member(const struct hvmi_profile *profile, const struct hvmi_member *member)
{
	struct hvmi_type type = {.size = sizeof(type)};

	must(member->hop_count >= 1 && member->hop_count <= HVMI_PATH_HOPS);
	must(hvmi_profile_type(profile, member->type, &type) == 0);
	must(type.bytes == member->bytes);
	must(member->kind != HVMI_TYPE_TYPEDEF && member->kind != HVMI_TYPE_QUALIFIER);
	must(member->bit_size == 0 || member->bit_size <= member->bytes * 8);
}

static void walk_members(const struct hvmi_profile *profile, const struct hvmi_type *type)
{
	static const char *const tails[] = {"", "[0]", "[1].x", ".next", "->next.prev"};
	struct hvmi_type_member member = {.size = sizeof(member)};
	struct hvmi_type found = {.size = sizeof(found)};
	char owner[1100], path[1100];

	snprintf(owner, sizeof(owner), "%s %s", type->kind == HVMI_TYPE_STRUCT ? "struct" : "union",
		 type->name);
	int known = type->name[0] != '\0';
	if (known)
		must(hvmi_profile_find_type(profile, owner, &found, NULL) == 0);
	for (uint32_t i = 0; i < type->count; i++) {
		struct hvmi_member result = {.size = sizeof(result)};
		struct hvmi_error err = {0};
		must(hvmi_profile_member_at(profile, type->id, i, &member) == 0);
		for (size_t t = 0; known && t < sizeof(tails) / sizeof(tails[0]); t++) {
			snprintf(path, sizeof(path), "%s%s", member.name, tails[t]);
			if (hvmi_profile_member(profile, owner, path, &result, &err) == 0)
				check_member(profile, &result);
			else
				must(err.code < 0 && err.text[0] != '\0');
		}
	}
	must(hvmi_profile_member_at(profile, type->id, type->count, &member) == -ENOENT);
}

static void walk_enumerators(const struct hvmi_profile *profile, const struct hvmi_type *type)
{
	const char *name;
	int64_t value, first;

	for (uint32_t i = 0; i < type->count; i++) {
		must(hvmi_profile_enumerator_at(profile, type->id, i, &name, &value) == 0);
		must(hvmi_profile_enumerator(profile, name, &first, NULL) == 0);
	}
	must(hvmi_profile_enumerator_at(profile, type->id, type->count, &name, &value) == -ENOENT);
}

void btf_walk(const struct hvmi_profile *profile)
{
	struct hvmi_type type = {.size = sizeof(type)}, other = {.size = sizeof(other)};
	struct hvmi_error err;
	uint64_t bytes;

	for (uint32_t id = 0; hvmi_profile_type(profile, id, &type) == 0; id++) {
		must(type.id == id && type.kind <= HVMI_TYPE_UNKNOWN);
		must(hvmi_profile_type(profile, type.target, &other) == 0);
		walk_spelling(profile, id);
		/* A hostile name may look like "enum x", which asks for another. */
		if (type.name[0] && !strchr(type.name, ' ') &&
		    hvmi_profile_find_type(profile, type.name, &other, &err) == 0)
			must(strcmp(other.name, type.name) == 0 || other.kind == HVMI_TYPE_INTEGER);
		if (hvmi_profile_sizeof(profile, type.name, &bytes, &err) != 0)
			must(err.text[0] != '\0');
		if (type.kind == HVMI_TYPE_STRUCT || type.kind == HVMI_TYPE_UNION)
			walk_members(profile, &type);
		else if (type.kind == HVMI_TYPE_ENUM)
			walk_enumerators(profile, &type);
	}
}
