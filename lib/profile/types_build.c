/* SPDX-License-Identifier: Apache-2.0 */
#include "profile/types_build.h"

#define FIRST_CAPACITY 256u

/* Room for `more` items at the end of an array, half as much again as there was: linear in all. */
static bool reserve(struct types_build *build, void *array, uint32_t *capacity, uint32_t count,
		    size_t more, size_t item, uint32_t max)
{
	void **p = array;

	if (build->error)
		return false;
	if (more > max || count > max - more) {
		build->error = -EOVERFLOW;
		return false;
	}
	if (count + more <= *capacity)
		return true;
	uint64_t wanted = MAX(MAX((uint64_t)*capacity / 2 * 3, FIRST_CAPACITY), count + more);
	wanted = MIN(wanted, max);
	void *moved = realloc(*p, wanted * item);
	if (!moved) {
		build->error = -ENOMEM;
		return false;
	}
	/* Most of it will be filled: the file is not at its end. */
	memory_fill((uint8_t *)moved + *capacity * item, (wanted - *capacity) * item);
	*p = moved;
	*capacity = (uint32_t)wanted;
	return true;
}

void types_build_begin(struct types_build *build)
{
	*build = (struct types_build){0};
	types_build_name(build, "", 0);
	types_build_type(build, (struct type){.kind = HVMI_TYPE_VOID});
}

void types_build_adopt(struct types_build *build, char *bytes, uint32_t len)
{
	build->adopted = bytes;
	build->adopted_len = len;
	if (len > BUILD_NAMES_MAX)
		build->error = build->error ? build->error : -EOVERFLOW;
}

static bool copy(struct types_build *build, void *array, uint32_t *capacity, uint32_t *count,
		 const void *from, uint32_t from_count, size_t item, uint32_t max)
{
	void **p = array;

	if (!reserve(build, array, capacity, 0, from_count, item, max))
		return false;
	if (from_count)
		memcpy(*p, from, from_count * item);
	*count = from_count;
	return true;
}

void types_build_thaw(struct types_build *build, const struct types *from)
{
	struct types *graph = &build->graph;

	*build = (struct types_build){0};
	if (from->type_count == 0) {
		types_build_begin(build);
		return;
	}
	copy(build, &graph->types, &build->type_capacity, &graph->type_count, from->types,
	     from->type_count, sizeof(*from->types), TYPES_MAX);
	copy(build, &graph->members, &build->member_capacity, &graph->member_count, from->members,
	     from->member_count, sizeof(*from->members), BUILD_MEMBERS_MAX);
	copy(build, &graph->enumerators, &build->enumerator_capacity, &graph->enumerator_count,
	     from->enumerators, from->enumerator_count, sizeof(*from->enumerators),
	     BUILD_MEMBERS_MAX);
	copy(build, &graph->parameters, &build->parameter_capacity, &graph->parameter_count,
	     from->parameters, from->parameter_count, sizeof(*from->parameters),
	     BUILD_MEMBERS_MAX);
	copy(build, &graph->names, &build->names_capacity, &graph->names_len, from->names,
	     from->names_len, 1, BUILD_NAMES_MAX);
}

uint32_t types_build_name(struct types_build *build, const char *name, size_t len)
{
	struct types *graph = &build->graph;

	if (len == 0 && graph->names_len > 0)
		return 0;
	if (len > TYPE_NAME_MAX) {
		build->error = build->error ? build->error : -EOVERFLOW;
		return 0;
	}
	if (!reserve(build, &graph->names, &build->names_capacity, graph->names_len, len + 1, 1,
		     BUILD_NAMES_MAX - build->adopted_len))
		return 0;
	uint32_t at = graph->names_len;
	memcpy(graph->names + at, name, len);
	graph->names[at + len] = '\0';
	graph->names_len += (uint32_t)len + 1;
	return build->adopted_len + at;
}

uint32_t types_build_type(struct types_build *build, struct type type)
{
	struct types *graph = &build->graph;

	if (!reserve(build, &graph->types, &build->type_capacity, graph->type_count, 1,
		     sizeof(*graph->types), TYPES_MAX))
		return 0;
	graph->types[graph->type_count] = type;
	return graph->type_count++;
}

uint32_t types_build_member(struct types_build *build, struct member member)
{
	struct types *graph = &build->graph;

	if (!reserve(build, &graph->members, &build->member_capacity, graph->member_count, 1,
		     sizeof(*graph->members), BUILD_MEMBERS_MAX))
		return 0;
	graph->members[graph->member_count] = member;
	return graph->member_count++;
}

uint32_t types_build_enumerator(struct types_build *build, uint32_t name, int64_t value)
{
	struct types *graph = &build->graph;

	if (!reserve(build, &graph->enumerators, &build->enumerator_capacity,
		     graph->enumerator_count, 1, sizeof(*graph->enumerators), BUILD_MEMBERS_MAX))
		return 0;
	graph->enumerators[graph->enumerator_count] = (struct enumerator){
		.name = name,
		.low = (uint32_t)(uint64_t)value,
		.high = (uint32_t)((uint64_t)value >> 32),
	};
	return graph->enumerator_count++;
}

uint32_t types_build_parameter(struct types_build *build, uint32_t type)
{
	struct types *graph = &build->graph;

	if (!reserve(build, &graph->parameters, &build->parameter_capacity,
		     graph->parameter_count, 1, sizeof(*graph->parameters), BUILD_MEMBERS_MAX))
		return 0;
	graph->parameters[graph->parameter_count] = type;
	return graph->parameter_count++;
}

static bool in(uint32_t first, uint32_t count, uint32_t limit)
{
	return first <= limit && count <= limit - first;
}

/* What struct types promises to all who read it. */
static bool is_sound(const struct types *graph)
{
	for (uint32_t id = 0; id < graph->type_count; id++) {
		const struct type *type = &graph->types[id];
		switch (type->kind) {
		case HVMI_TYPE_POINTER:
		case HVMI_TYPE_ARRAY:
		case HVMI_TYPE_TYPEDEF:
		case HVMI_TYPE_QUALIFIER:
			if (type->target >= graph->type_count)
				return false;
			break;
		case HVMI_TYPE_FUNCTION:
			if (type->target >= graph->type_count ||
			    !in(type->first, type->count, graph->parameter_count))
				return false;
			break;
		case HVMI_TYPE_STRUCT:
		case HVMI_TYPE_UNION:
			if (!in(type->first, type->count, graph->member_count))
				return false;
			break;
		case HVMI_TYPE_ENUM:
			if (!in(type->first, type->count, graph->enumerator_count))
				return false;
			break;
		}
	}
	for (uint32_t i = 0; i < graph->member_count; i++)
		if (graph->members[i].type >= graph->type_count)
			return false;
	for (uint32_t i = 0; i < graph->parameter_count; i++)
		if (graph->parameters[i] >= graph->type_count)
			return false;
	return true;
}

/* Put the names that were added behind those that were there. */
static int join_names(struct types_build *build)
{
	struct types *graph = &build->graph;

	if (!build->adopted)
		return 0;
	char *names = realloc(build->adopted, (size_t)build->adopted_len + graph->names_len);
	if (!names)
		return -ENOMEM;
	memcpy(names + build->adopted_len, graph->names, graph->names_len);
	free(graph->names);
	graph->names = names;
	graph->names_len += build->adopted_len;
	build->adopted = NULL;
	return 0;
}

/* Give back what was not needed. */
static void trim(void *array, uint32_t capacity, uint32_t count, size_t item)
{
	void **p = array;
	void *moved = count && count < capacity ? realloc(*p, count * item) : NULL;

	if (moved)
		*p = moved;
}

int types_build_finish(struct types_build *build, struct types *ret)
{
	int err = build->error;

	if (err == 0 && !is_sound(&build->graph))
		err = -EBADMSG;
	if (err == 0)
		err = join_names(build);
	if (err == 0)
		err = types_freeze(&build->graph);
	if (err < 0) {
		types_build_abort(build);
		return err;
	}
	struct types *graph = &build->graph;
	trim(&graph->types, build->type_capacity, graph->type_count, sizeof(*graph->types));
	trim(&graph->members, build->member_capacity, graph->member_count, sizeof(*graph->members));
	trim(&graph->enumerators, build->enumerator_capacity, graph->enumerator_count,
	     sizeof(*graph->enumerators));
	*ret = build->graph;
	*build = (struct types_build){0};
	return 0;
}

void types_build_abort(struct types_build *build)
{
	types_deinit(&build->graph);
	free(build->adopted);
	*build = (struct types_build){0};
}
