/* SPDX-License-Identifier: Apache-2.0 */
#include "os/windows/tables.h"

#include <stdio.h>

#include "profile/types_build.h"

struct table_type {
	uint16_t name, base;		/* base: of base_types[], then BASE_* */
	uint16_t pointers, elements;	/* an array (0: none) of pointers to the base */
};

struct table_member {
	uint16_t name, offset, type;
	uint8_t bit_size, bit;
};

struct table_layout {
	uint32_t first;
	uint16_t count;
	uint32_t bytes;
	uint16_t is_union;
};

#define STRUCTS_NONE 0xffffu

static const struct base_type {
	const char *name;
	uint8_t bytes, kind, flags;
} base_types[] = {
	{ "", 0, HVMI_TYPE_VOID, 0 },
	{ "char", 1, HVMI_TYPE_INTEGER, HVMI_TYPE_SIGNED | HVMI_TYPE_CHAR },
	{ "unsigned char", 1, HVMI_TYPE_INTEGER, 0 },
	{ "wchar_t", 2, HVMI_TYPE_INTEGER, HVMI_TYPE_CHAR },
	{ "short", 2, HVMI_TYPE_INTEGER, HVMI_TYPE_SIGNED },
	{ "unsigned short", 2, HVMI_TYPE_INTEGER, 0 },
	{ "long", 4, HVMI_TYPE_INTEGER, HVMI_TYPE_SIGNED },
	{ "unsigned long", 4, HVMI_TYPE_INTEGER, 0 },
	{ "long long", 8, HVMI_TYPE_INTEGER, HVMI_TYPE_SIGNED },
	{ "unsigned long long", 8, HVMI_TYPE_INTEGER, 0 },
};
/* tables.py counts on from base_types[] in this order. */
enum { BASE_FUNCTION = ARRAY_SIZE(base_types), BASE_ENUM, BASE_STRUCT };

#include "windows_tables.h"	/* made by tables.py */

static void release_text(uint16_t major, uint16_t minor, uint32_t build, uint32_t revision,
			 char ret[24])
{
	snprintf(ret, 24, "%u.%u.%u.%u", major, minor, build, revision);
}

/* How far a release is from the one that is wanted: less is nearer. */
static uint64_t distance(const struct table_release *release, const struct windows_kernel_id *id)
{
	bool newer = release->build > id->build ||
		     (release->build == id->build && release->revision > id->revision);
	uint32_t builds = newer ? release->build - id->build : id->build - release->build;
	uint32_t revisions = release->revision > id->revision ?
				     release->revision - id->revision :
				     id->revision - release->revision;

	if (builds == 0)
		return (uint64_t)newer << 32 | revisions;
	/* Of an older build the last revision is nearest, of a newer one the first. */
	revisions = newer ? release->revision : UINT16_MAX - MIN(release->revision, UINT16_MAX);
	return (newer ? 3ull : 2ull) << 60 | (uint64_t)builds << 32 | revisions;
}

static bool is_common(const struct table_release *release)
{
	return release->build == 0;
}

/* The layout of a struct in the nearest release that has it. */
static const struct table_layout *find_layout(const struct windows_kernel_id *id, uint32_t index,
					      const struct table_release **release_ret)
{
	const struct table_release *best = NULL;
	uint64_t best_distance = UINT64_MAX;

	for (size_t i = 0; i < ARRAY_SIZE(table_releases); i++) {
		const struct table_release *release = &table_releases[i];
		if (release->machine != id->machine || release->layouts[index] == STRUCTS_NONE)
			continue;
		/* What is the same in all releases is only there where none has its own. */
		uint64_t far = is_common(release) ? UINT64_MAX - 1 : distance(release, id);
		if (far < best_distance) {
			best = release;
			best_distance = far;
		}
	}
	if (!best)
		return NULL;
	*release_ret = best;
	return &table_layouts[best->layouts[index]];
}

struct filling {
	struct types_build build;
	uint32_t bases[ARRAY_SIZE(base_types)];
	uint32_t structs[STRUCTS];	/* type ids; 0: this machine lacks it */
	const struct table_layout *layouts[STRUCTS];
	uint32_t function;		/* a pointer to any function */
	uint32_t types[ARRAY_SIZE(table_types)];	/* type ids, 0: not needed yet */
	uint32_t names[sizeof(names)];	/* where a name went, 0: not needed yet */
};

static uint32_t put_name(struct filling *f, uint32_t name)
{
	if (name && !f->names[name])
		f->names[name] = types_build_name(&f->build, names + name, strlen(names + name));
	return f->names[name];
}

static uint32_t put_base(struct filling *f, const struct table_type *type)
{
	if (type->base < ARRAY_SIZE(base_types))
		return f->bases[type->base];
	if (type->base == BASE_FUNCTION)
		return f->function;
	if (type->base == BASE_ENUM)
		return types_build_type(&f->build,
					(struct type){ .name = put_name(f, type->name),
						       .kind = HVMI_TYPE_ENUM,
						       .flags = HVMI_TYPE_SIGNED,
						       .bytes = 4 });
	for (uint32_t i = 0; i < STRUCTS; i++)
		if (f->structs[i] && struct_names[i] == type->name)
			return f->structs[i];
	return types_build_type(&f->build, (struct type){ .name = put_name(f, type->name),
							  .kind = HVMI_TYPE_FORWARD });
}

static uint32_t put_type(struct filling *f, uint32_t index)
{
	const struct table_type *type = &table_types[index];

	if (f->types[index])
		return f->types[index];
	uint32_t id = put_base(f, type);
	for (uint32_t i = 0; i < type->pointers; i++)
		id = types_build_type(&f->build,
				      (struct type){ .kind = HVMI_TYPE_POINTER, .target = id });
	if (type->elements)
		id = types_build_type(&f->build, (struct type){ .kind = HVMI_TYPE_ARRAY,
								.target = id,
								.elements = type->elements });
	f->types[index] = id;
	return id;
}

static void put_bases(struct filling *f)
{
	for (size_t i = 0; i < ARRAY_SIZE(base_types); i++) {
		const struct base_type *base = &base_types[i];
		if (base->kind == HVMI_TYPE_VOID)
			continue;
		struct type type = {
			.name = types_build_name(&f->build, base->name, strlen(base->name)),
			.kind = base->kind & 15u,
			.flags = base->flags & 15u,
			.bytes = base->bytes,
		};
		type.bits = type.bytes * 8;
		f->bases[i] = types_build_type(&f->build, type);
	}
	f->function = types_build_type(
		&f->build,
		(struct type){ .kind = HVMI_TYPE_POINTER,
			       .target = types_build_type(
				       &f->build, (struct type){ .kind = HVMI_TYPE_FUNCTION }) });
}

static void put_members(struct filling *f, uint32_t index)
{
	const struct table_layout *layout = f->layouts[index];
	uint32_t ids[LAYOUT_MEMBERS_MAX], count = layout->count;

	/* Types first: making one may move the array of types. */
	for (uint32_t i = 0; i < count; i++)
		ids[i] = put_type(f, table_members[layout->first + i].type);
	uint32_t first = f->build.graph.member_count;
	for (uint32_t i = 0; i < count; i++) {
		const struct table_member *member = &table_members[layout->first + i];
		types_build_member(&f->build, (struct member){
						      .name = put_name(f, member->name),
						      .type = ids[i] & 0xffffff,
						      .bit_size = member->bit_size,
						      .bit_offset = member->offset * 8u + member->bit,
					      });
	}
	if (f->build.error)
		return;
	struct type *type = &f->build.graph.types[f->structs[index]];
	type->first = first;
	type->count = count & 0xffffff;
}

static enum tables_match judge(const struct table_release *release,
			       const struct windows_kernel_id *id)
{
	if (release->build != id->build)
		return TABLES_NEAREST;
	return id->revision && release->revision == id->revision ? TABLES_EXACT : TABLES_BUILD;
}

/* Every struct gets its id first: they refer to each other. */
static int put_structs(struct filling *f, const struct windows_kernel_id *id,
		       struct tables_layout *layout_ret)
{
	int err = -ENOENT;

	for (uint32_t i = 0; i < STRUCTS; i++) {
		const struct table_release *release;
		f->layouts[i] = find_layout(id, i, &release);
		if (!f->layouts[i])
			continue;
		f->structs[i] = types_build_type(
			&f->build,
			(struct type){ .name = put_name(f, struct_names[i]),
				       .kind = f->layouts[i]->is_union ? HVMI_TYPE_UNION :
									 HVMI_TYPE_STRUCT,
				       .bytes = f->layouts[i]->bytes });
		if (strcmp(names + struct_names[i], "_EPROCESS") != 0)
			continue;
		layout_ret->match = judge(release, id);
		release_text(release->major, release->minor, release->build, release->revision,
			     layout_ret->release);
		err = 0;
	}
	return err;
}

int tables_types(const struct windows_kernel_id *id, struct types *ret,
		 struct tables_layout *layout_ret)
{
	CLEANUP_FREE struct filling *f = calloc(1, sizeof(*f));
	struct tables_layout layout = { 0 };

	if (!f)
		return -ENOMEM;
	types_build_begin(&f->build);
	put_bases(f);
	int err = put_structs(f, id, &layout);
	if (err < 0) {
		types_build_abort(&f->build);
		return err;
	}
	for (uint32_t i = 0; i < STRUCTS; i++)
		if (f->layouts[i])
			put_members(f, i);
	err = types_build_finish(&f->build, ret);
	if (err == 0)
		*layout_ret = layout;
	return err;
}

static const struct table_kernel *find_kernel(const struct windows_kernel_id *id)
{
	for (size_t i = 0; i < ARRAY_SIZE(table_kernels); i++)
		if (memcmp(table_kernels[i].guid, id->guid, sizeof(id->guid)) == 0 &&
		    table_kernels[i].age == id->age)
			return &table_kernels[i];
	return NULL;
}

int tables_symbols(const struct windows_kernel_id *id, struct symbols *symbols,
		   char release_ret[24])
{
	const struct table_kernel *kernel = find_kernel(id);

	if (!kernel)
		return -ENOENT;
	for (uint32_t i = 0; i < SYMBOLS; i++) {
		if (kernel->rvas[i] == 0)
			continue;
		int err = symbols_add(symbols, id->base + kernel->rvas[i], 0, symbol_names[i],
				      strlen(symbol_names[i]));
		if (err < 0)
			return err;
	}
	release_text(kernel->major, kernel->minor, kernel->build, kernel->revision, release_ret);
	return 0;
}

bool tables_release(uint32_t index, struct windows_kernel_id *ret)
{
	for (size_t i = 0; i < ARRAY_SIZE(table_releases); i++) {
		const struct table_release *release = &table_releases[i];
		if (is_common(release) || index-- > 0)
			continue;
		*ret = (struct windows_kernel_id){
			.machine = release->machine,
			.major = release->major,
			.minor = release->minor,
			.build = release->build,
			.revision = release->revision,
		};
		return true;
	}
	return false;
}
