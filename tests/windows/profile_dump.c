/* SPDX-License-Identifier: Apache-2.0 */
/*
 * profile_dump tables MACHINE BUILD REVISION | pdb FILE | isf FILE | releases: prints all types and
 * symbols that a loader made of something, for comparison with what others read there.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "os/windows/tables.h"
#include "profile/isf.h"
#include "profile/pdb.h"

static void print_members(const struct hvmi_profile *profile, const struct hvmi_type *type)
{
	struct hvmi_type_member member = { .size = sizeof(member) };
	char spelling[256];

	for (uint32_t i = 0; hvmi_profile_member_at(profile, type->id, i, &member) == 0; i++) {
		struct hvmi_type of = { .size = sizeof(of) };
		hvmi_profile_type(profile, member.type, &of);
		hvmi_profile_type_spelling(profile, member.type, spelling, sizeof(spelling));
		printf("M\t%s\t%s\t%" PRIu64 "\t%u\t%" PRIu64 "\t%s\n", type->name, member.name,
		       member.bit_offset, member.bit_size, of.bytes, spelling);
	}
}

static void print_enumerators(const struct hvmi_profile *profile, const struct hvmi_type *type)
{
	const char *name;
	int64_t value;

	for (uint32_t i = 0; hvmi_profile_enumerator_at(profile, type->id, i, &name, &value) == 0;
	     i++)
		printf("E\t%s\t%s\t%" PRId64 "\n", type->name, name, value);
}

static void print_profile(const struct hvmi_profile *profile)
{
	struct hvmi_type type = { .size = sizeof(type) };
	struct hvmi_symbol symbol = { .size = sizeof(symbol) };

	for (uint32_t id = 0; hvmi_profile_type(profile, id, &type) == 0; id++) {
		if (!type.name[0])
			continue;
		/* Of several with one name, that which is found by it. */
		struct hvmi_type found = { .size = sizeof(found) };
		if (hvmi_profile_find_type(profile, type.name, &found, NULL) || found.id != id)
			continue;
		printf("T\t%s\t%u\t%" PRIu64 "\t%u\n", type.name, type.kind, type.bytes, type.count);
		if (type.kind == HVMI_TYPE_ENUM)
			print_enumerators(profile, &type);
		else
			print_members(profile, &type);
	}
	for (uint32_t cursor = 0; hvmi_profile_next_symbol(profile, &cursor, &symbol) == 1;)
		printf("S\t%s\t0x%" PRIx64 "\n", symbol.name, symbol.gva);
}

static int print_releases(void)
{
	struct windows_kernel_id id;

	for (uint32_t i = 0; tables_release(i, &id); i++)
		printf("%u\t%u.%u.%u.%u\n", id.machine, id.major, id.minor, id.build, id.revision);
	return 0;
}

static int load_tables(struct hvmi_profile *profile, char **arguments)
{
	struct windows_kernel_id id = {
		.machine = (uint16_t)strtoul(arguments[0], NULL, 0),
		.build = (uint32_t)strtoul(arguments[1], NULL, 0),
		.revision = (uint32_t)strtoul(arguments[2], NULL, 0),
	};
	struct tables_layout layout;

	profile->pointer_bytes = id.machine == WINDOWS_MACHINE_X86 ? 4 : 8;
	int rc = tables_types(&id, &profile->types, &layout);
	if (rc == 0)
		printf("R\t%s\t%d\n", layout.release, layout.match);
	return rc;
}

static void *read_file(const char *path, size_t *len_ret)
{
	FILE *file = fopen(path, "rb");
	if (!file)
		return NULL;
	fseek(file, 0, SEEK_END);
	long len = ftell(file);
	rewind(file);
	void *bytes = malloc((size_t)len + 1);
	if (bytes)
		*len_ret = fread(bytes, 1, (size_t)len, file);
	fclose(file);
	return bytes;
}

static int load_pdb(struct hvmi_profile *profile, const char *path)
{
	struct hvmi_error err;
	struct pdb_id id;
	size_t len = 0;
	CLEANUP_FREE void *bytes = read_file(path, &len);

	if (!bytes)
		return -ENOENT;
	int rc = pdb_identify(bytes, len, &id, &err);
	if (rc == 0) {
		profile->pointer_bytes = id.machine == WINDOWS_MACHINE_X86 ? 4 : 8;
		rc = pdb_load(bytes, len, 0, &profile->types, &profile->symbols, &err);
	}
	if (rc == 0)
		rc = symbols_freeze(&profile->symbols);
	if (rc < 0) {
		fprintf(stderr, "%s\n", err.text);
		return rc;
	}
	char key[WINDOWS_PDB_KEY_BYTES];
	windows_pdb_key(id.guid, id.age, key);
	printf("I\t%s\t%u\n", key, id.machine);
	return 0;
}

static int load_isf(struct hvmi_profile *profile, const char *path)
{
	struct hvmi_error err;
	struct isf isf;
	size_t len = 0;
	CLEANUP_FREE void *bytes = read_file(path, &len);

	if (!bytes)
		return -ENOENT;
	int rc = isf_open(bytes, len, &isf, &err);
	if (rc == 0) {
		profile->pointer_bytes = isf.pointer_bytes;
		rc = isf_load(&isf, 0, &profile->types, &profile->symbols, &err);
		isf_close(&isf);
	}
	if (rc == 0)
		rc = symbols_freeze(&profile->symbols);
	if (rc < 0) {
		fprintf(stderr, "%s\n", err.text);
		return rc;
	}
	char key[WINDOWS_PDB_KEY_BYTES];
	windows_pdb_key(isf.guid, isf.age, key);
	printf("I\t%s\t%u\t%s\n", key, isf.machine, isf.pdb_name);
	return 0;
}

int main(int argc, char **argv)
{
	struct hvmi_profile *profile = profile_create();
	int rc = -EINVAL;

	if (argc == 2 && strcmp(argv[1], "releases") == 0)
		rc = print_releases();
	else if (argc == 5 && strcmp(argv[1], "tables") == 0)
		rc = load_tables(profile, argv + 2);
	else if (argc == 3 && strcmp(argv[1], "pdb") == 0)
		rc = load_pdb(profile, argv[2]);
	else if (argc == 3 && strcmp(argv[1], "isf") == 0)
		rc = load_isf(profile, argv[2]);
	if (rc < 0)
		fprintf(stderr, "%s\n", hvmi_error_name(rc));
	else
		print_profile(profile);
	profile_destroy(profile);
	return rc < 0;
}
