/* SPDX-License-Identifier: Apache-2.0 */
/* Which source wins, what is refused, and that sources agree with each other. */
#include "suite.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "os/windows/knowledge.h"
#include "os/windows/tables.h"
#include "pdb_build.h"

#define BASE 0xfffff80412000000ull

/* 10.0.19041.3570 and 10.0.17763.379, whose symbol files are in the tree. */
static const char key_19041[] = "606FF669409B00F7FC8C61A9C1670129-1";
static const char key_17763[] = "8B11040A5928757B11390AC78F6B6925-1";

static char folder[] = "/tmp/hvmi-knowledge-XXXXXX";

static struct windows_kernel_id make_id(const char *key, uint32_t build, uint32_t revision)
{
	static const uint8_t order[16] = { 3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15 };
	struct windows_kernel_id id = {
		.pdb_name = "ntkrnlmp.pdb", .age = 1, .machine = WINDOWS_MACHINE_X64,
		.major = 10, .build = build, .revision = revision, .base = BASE,
	};
	for (size_t i = 0; i < 16; i++) {
		unsigned byte;
		ck_assert_int_eq(sscanf(key + 2 * i, "%2x", &byte), 1);
		id.guid[order[i]] = (uint8_t)byte;
	}
	return id;
}

static struct hvmi_os *load(const struct windows_kernel_id *id, const char *profile,
			    const char *path, uint32_t flags, struct windows_knowledge *ret, int *rc_ret,
			    struct hvmi_error *err)
{
	struct hvmi_vm *vm = calloc(1, sizeof(*vm));
	struct hvmi_os *os = calloc(1, sizeof(*os));
	ck_assert(os && vm);
	os->vm = vm;
	os->profile = profile_create();
	os->options = (struct hvmi_os_options){
		.size = sizeof(os->options), .flags = flags, .profile = profile, .symbol_path = path };
	*ret = (struct windows_knowledge){ 0 };
	*rc_ret = windows_knowledge_load(os, id, ret, err);
	return os;
}

static void done(struct hvmi_os *os)
{
	profile_destroy(os->profile);
	for (uint32_t i = 0; i < os->fact_count; i++) {
		free(os->facts[i].name);
		free(os->facts[i].value);
		free(os->facts[i].source);
	}
	free(os->facts);
	free(os->vm);
	free(os);
}

static const struct os_fact *fact(const struct hvmi_os *os, const char *name)
{
	for (uint32_t i = 0; i < os->fact_count; i++)
		if (strcmp(os->facts[i].name, name) == 0)
			return &os->facts[i];
	ck_abort_msg("no fact '%s'", name);
}

static uint64_t offset_of(const struct hvmi_os *os, const char *type, const char *path)
{
	struct hvmi_member member = { .size = sizeof(member) };
	struct hvmi_error err;
	ck_assert_msg(hvmi_profile_member(os->profile, type, path, &member, &err) == 0, "%s",
		      err.text);
	return member.hops[0];
}

START_TEST(built_in)
{
	struct windows_kernel_id id = make_id(key_19041, 19041, 3570);
	struct windows_knowledge knowledge;
	struct hvmi_member member = { .size = sizeof(member) };
	int rc;

	struct hvmi_os *os = load(&id, NULL, NULL, 0, &knowledge, &rc, NULL);
	ck_assert_int_eq(rc, 0);
	ck_assert_int_eq(knowledge.types, WINDOWS_SOURCE_RELEASE);
	ck_assert_int_eq(knowledge.symbols, WINDOWS_SOURCE_PDB_ID);
	ck_assert_str_eq(knowledge.release, "10.0.19041.3570");
	ck_assert_uint_eq(fact(os, "types")->confidence, HVMI_CONFIDENCE_HIGH);
	ck_assert_uint_eq(fact(os, "symbols")->confidence, HVMI_CONFIDENCE_HIGH);
	ck_assert_uint_eq(offset_of(os, "_EPROCESS", "Pcb.DirectoryTableBase"), 0x28);
	ck_assert_uint_eq(offset_of(os, "_EPROCESS", "ActiveProcessLinks.Flink"), 0x448);
	ck_assert_uint_eq(offset_of(os, "_EPROCESS", "CreateTime.QuadPart"), 0x468);
	ck_assert_int_eq(hvmi_profile_member(os->profile, "_EPROCESS",
					     "VadRoot.Root.Left->Children[1].Red", &member, NULL), 0);
	ck_assert_uint_eq(member.hop_count, 4);
	ck_assert_uint_eq(member.bit_size, 1);
	ck_assert_int_eq(windows_knowledge_symbol(os, "NtFound", BASE + 4), 0);
	ck_assert_int_eq(symbols_freeze(&os->profile->symbols), 0);
	uint64_t gva;
	ck_assert_int_eq(hvmi_profile_symbol(os->profile, "NtFound", &gva, NULL), 0);
	ck_assert_uint_eq(gva, BASE + 4);
	done(os);

	/* Without an id there are types, without a machine there is nothing; neither is an error. */
	id.pdb_name[0] = '\0';
	id.build = 26100;
	os = load(&id, NULL, NULL, 0, &knowledge, &rc, NULL);
	ck_assert_int_eq(rc, 0);
	ck_assert_int_eq(knowledge.types, WINDOWS_SOURCE_NEAREST);
	ck_assert_int_eq(knowledge.symbols, WINDOWS_SOURCE_NONE);
	ck_assert_uint_eq(fact(os, "types")->confidence, HVMI_CONFIDENCE_LOW);
	done(os);
	id.machine = WINDOWS_MACHINE_ARM64;
	os = load(&id, NULL, NULL, 0, &knowledge, &rc, NULL);
	ck_assert_int_eq(rc, 0);
	ck_assert_int_eq(knowledge.types, WINDOWS_SOURCE_NONE);
	done(os);
}
END_TEST

/* Two sources that know the same kernel say the same of it. */
START_TEST(symbol_path)
{
	struct windows_kernel_id id = make_id(key_19041, 19041, 3570);
	struct windows_knowledge knowledge;
	char path[256];
	int rc;

	struct hvmi_os *own = load(&id, NULL, NULL, 0, &knowledge, &rc, NULL);
	snprintf(path, sizeof(path), "/nowhere::%s:%s", folder, WINDOWS_DATA "/isf");
	struct hvmi_os *os = load(&id, NULL, path, 0, &knowledge, &rc, NULL);
	ck_assert_int_eq(rc, 0);
#ifdef HVMI_HAVE_ISF
	ck_assert_int_eq(knowledge.types, WINDOWS_SOURCE_PATH);
	ck_assert_int_eq(knowledge.symbols, WINDOWS_SOURCE_PATH);
	ck_assert_uint_gt(os->profile->symbols.count, 40000);
	struct hvmi_symbol symbol = { .size = sizeof(symbol) };
	uint32_t compared = 0;
	for (uint32_t cursor = 0; hvmi_profile_next_symbol(own->profile, &cursor, &symbol) == 1;) {
		uint64_t gva;
		ck_assert_msg(symbols_find(&os->profile->symbols, symbol.name, &gva) == 0, "%s",
			      symbol.name);
		ck_assert_msg(gva == symbol.gva, "%s", symbol.name);
		compared++;
	}
	ck_assert_uint_gt(compared, 60);
	ck_assert_uint_eq(offset_of(os, "_EPROCESS", "ActiveProcessLinks"), 0x448);
	ck_assert_uint_eq(offset_of(os, "_MMVAD_SHORT", "u.VadFlags"), 0x30);
#endif
	ck_assert_uint_eq(offset_of(own, "_MMVAD_SHORT", "VadFlags"), 0x30);
	done(os);
	done(own);
}
END_TEST

START_TEST(wrong_profile)
{
	struct windows_kernel_id id = make_id(key_17763, 17763, 379);
	struct windows_knowledge knowledge;
	struct hvmi_error err;
	char path[256];
	int rc;

	snprintf(path, sizeof(path), "%s/isf/%s.json.xz", WINDOWS_DATA, key_19041);
	struct hvmi_os *os = load(&id, path, NULL, 0, &knowledge, &rc, &err);
#ifdef HVMI_HAVE_ISF
	ck_assert_int_eq(rc, -EINVAL);
	ck_assert_ptr_nonnull(strstr(err.text, "606FF669409B00F7FC8C61A9C16701291"));
	ck_assert_ptr_nonnull(strstr(err.text, "8B11040A5928757B11390AC78F6B69251"));
	done(os);
	os = load(&id, path, NULL, HVMI_OS_FORCE_PROFILE, &knowledge, &rc, &err);
	ck_assert_int_eq(rc, 0);
	ck_assert_int_eq(knowledge.types, WINDOWS_SOURCE_PROFILE);
	ck_assert_uint_eq(fact(os, "types")->confidence, HVMI_CONFIDENCE_LOW);
	ck_assert_uint_eq(offset_of(os, "_EPROCESS", "ActiveProcessLinks"), 0x448);
#else
	ck_assert_int_eq(rc, -ENOTSUP);
#endif
	done(os);
	os = load(&id, "/nowhere/at.all", NULL, 0, &knowledge, &rc, &err);
	ck_assert_int_eq(rc, -ENOENT);
	done(os);
	os = load(&id, "/proc/self/exe", NULL, 0, &knowledge, &rc, &err);
	ck_assert_int_eq(rc, -EBADMSG);
	done(os);
}
END_TEST

static void write_file(const char *name, const void *bytes, size_t len)
{
	char path[512];
	snprintf(path, sizeof(path), "%s/%s", folder, name);
	for (char *slash = path + strlen(folder) + 1; (slash = strchr(slash, '/')); slash++) {
		*slash = '\0';
		mkdir(path, 0700);
		*slash = '/';
	}
	FILE *file = fopen(path, "wb");
	ck_assert_ptr_nonnull(file);
	ck_assert_uint_eq(fwrite(bytes, 1, len, file), len);
	fclose(file);
}

/* A PDB without types, with one symbol. */
static uint8_t *make_pdb(const struct windows_kernel_id *id, size_t *len_ret)
{
	static uint8_t info[28], debug[64 + 22], section[40];
	static const uint8_t symbols[] = { 26, 0, 0x0e, 0x11, 2, 0, 0, 0, 0x34, 0x12, 0, 0, 1, 0,
					   'K', 'i', 'O', 'n', 'l', 'y', 'H', 'e', 'r', 'e', 'X', 'Y',
					   'Z', 0 };
	const struct pdb_build_stream streams[] = {
		{ NULL, 0 }, { info, sizeof(info) }, { NULL, 0 }, { debug, sizeof(debug) },
		{ symbols, sizeof(symbols) }, { section, sizeof(section) },
	};
	memcpy(info + 12, id->guid, 16);
	memset(debug, 0, sizeof(debug));
	memset(debug, 0xff, 4);
	debug[8] = (uint8_t)id->age;
	debug[20] = 4;
	debug[48] = 22;
	debug[58] = 0x64;
	debug[59] = 0x86;
	memset(debug + 64, 0xff, 22);
	debug[64 + 10] = 5;
	debug[64 + 11] = 0;
	section[13] = 0x10;
	return pdb_build(streams, ARRAY_SIZE(streams), len_ret);
}

START_TEST(symbol_store)
{
	struct windows_kernel_id id = make_id(key_17763, 17763, 379), other;
	struct windows_knowledge knowledge;
	struct hvmi_error err;
	size_t len;
	uint64_t gva;
	int rc;

	id.guid[3] ^= 0x55;
	other = id;
	other.age = 2;
	/* The plain name holds another kernel's: it is passed over. */
	uint8_t *file = make_pdb(&other, &len);
	write_file("ntkrnlmp.pdb/DE11040A5928757B11390AC78F6B69251/ntkrnlmp.pdb", file, len);
	free(file);
	struct hvmi_os *os = load(&id, NULL, folder, 0, &knowledge, &rc, &err);
	ck_assert_int_eq(rc, 0);
	ck_assert_int_eq(knowledge.symbols, WINDOWS_SOURCE_NONE);
	done(os);
	file = make_pdb(&id, &len);
	write_file("ntkrnlmp.pdb/DE11040A5928757B11390AC78F6B69251/ntkrnlmp.pdb", file, len);
	free(file);
	os = load(&id, NULL, folder, 0, &knowledge, &rc, &err);
	ck_assert_int_eq(rc, 0);
	ck_assert_int_eq(knowledge.symbols, WINDOWS_SOURCE_PATH);
	ck_assert_int_eq(knowledge.types, WINDOWS_SOURCE_RELEASE);
	ck_assert_int_eq(hvmi_profile_symbol(os->profile, "KiOnlyHereXYZ", &gva, NULL), 0);
	ck_assert_uint_eq(gva, BASE + 0x1000 + 0x1234);
	done(os);

	/* The guest chooses the name. */
	snprintf(id.pdb_name, sizeof(id.pdb_name), "../%s/ntkrnlmp.pdb", strrchr(folder, '/') + 1);
	os = load(&id, NULL, folder, 0, &knowledge, &rc, &err);
	ck_assert_int_eq(knowledge.symbols, WINDOWS_SOURCE_NONE);
	done(os);
}
END_TEST

START_TEST(offsets)
{
	static const char text[] =
		"# What I know.\n"
		"kernel 8B11040A5928757B11390AC78F6B69251\r\n"
		"\n"
		"symbol PsActiveProcessHead 0x1234   # moved\n"
		"symbol MyOwn 8\n"
		"struct _MINE 0x20\n"
		"member _MINE.first 0 u16\n"
		"member _MINE.flags 4 u32:3@5\n"
		"member _MINE.list 0x10 _LIST_ENTRY\n"
		"member _EPROCESS.ActiveProcessLinks 0x300\n"
		"member _EPROCESS.Added 0x308 _MINE*\n";
	struct windows_kernel_id id = make_id(key_17763, 17763, 379);
	struct windows_knowledge knowledge;
	struct hvmi_error err;
	struct hvmi_member member = { .size = sizeof(member) };
	char path[256];
	uint64_t gva;
	int rc;

	write_file("mine.offsets", text, sizeof(text) - 1);
	snprintf(path, sizeof(path), "%s/mine.offsets", folder);
	struct hvmi_os *os = load(&id, path, NULL, 0, &knowledge, &rc, &err);
	ck_assert_msg(rc == 0, "%s", err.text);
	ck_assert_int_eq(knowledge.types, WINDOWS_SOURCE_RELEASE);
	ck_assert_int_eq(hvmi_profile_symbol(os->profile, "PsActiveProcessHead", &gva, NULL), 0);
	ck_assert_uint_eq(gva, BASE + 0x1234);
	ck_assert_int_eq(hvmi_profile_symbol(os->profile, "MyOwn", &gva, NULL), 0);
	ck_assert_uint_eq(offset_of(os, "_EPROCESS", "ActiveProcessLinks.Blink"), 0x308);
	ck_assert_uint_eq(offset_of(os, "_EPROCESS", "UniqueProcessId"), 0x2e0);
	ck_assert_int_eq(hvmi_profile_member(os->profile, "_EPROCESS", "Added->flags", &member, &err),
			 0);
	ck_assert_uint_eq(member.hops[0], 0x308);
	ck_assert_uint_eq(member.bit_size, 3);
	ck_assert_uint_eq(member.bit_offset, 5);
	ck_assert_uint_eq(offset_of(os, "_MINE", "list.Blink"), 0x18);
	done(os);

	id.age = 3;
	os = load(&id, path, NULL, 0, &knowledge, &rc, &err);
	ck_assert_int_eq(rc, -EINVAL);
	done(os);
	os = load(&id, path, NULL, HVMI_OS_FORCE_PROFILE, &knowledge, &rc, &err);
	ck_assert_int_eq(rc, 0);
	done(os);
}
END_TEST

START_TEST(malformed_offsets)
{
	static const char *const texts[] = {
		"symbol", "symbol x", "symbol x y", "symbol x 1 2 3 4", "member _X 1", "member _X.y z",
		"member _X.y 0x100000000", "member .y 0", "member _X. 0", "struct _X", "struct _X -1",
		"kernel 1234", "what is this", "member _X.y 0 u7", "member _X.y 0 u8[", "member _X.y 0 u8:0",
		"member _X.y 0 u8:3@64", "member _X.y 0 u8[99999999999]",
	};
	struct windows_kernel_id id = make_id(key_17763, 17763, 379);
	struct windows_knowledge knowledge;
	struct hvmi_error err;
	char path[256];
	int rc;

	snprintf(path, sizeof(path), "%s/bad.offsets", folder);
	for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
		char text[256];
		int len = snprintf(text, sizeof(text), "symbol fine 1\n%s\n", texts[i]);
		write_file("bad.offsets", text, (size_t)len);
		struct hvmi_os *os = load(&id, path, NULL, 0, &knowledge, &rc, &err);
		/* A word that is no integer type names a struct. */
		if (strcmp(texts[i], "member _X.y 0 u7") == 0)
			ck_assert_int_eq(rc, 0);
		else
			ck_assert_msg(rc == -EBADMSG && strstr(err.text, "line 2"), "%s: %d %s", texts[i],
				      rc, err.text);
		done(os);
	}
}
END_TEST

static void make_folder(void)
{
	ck_assert_ptr_nonnull(mkdtemp(folder));
}

static void remove_folder(void)
{
	char command[256];
	snprintf(command, sizeof(command), "rm -r '%s'", folder);
	ck_assert_int_eq(system(command), 0);
}

int main(void)
{
	Suite *suite = suite_create("windows_knowledge");
	TCase *cases = tcase_create("windows_knowledge");
	tcase_add_unchecked_fixture(cases, make_folder, remove_folder);
	tcase_add_test(cases, built_in);
	tcase_add_test(cases, symbol_path);
	tcase_add_test(cases, wrong_profile);
	tcase_add_test(cases, symbol_store);
	tcase_add_test(cases, offsets);
	tcase_add_test(cases, malformed_offsets);
	suite_add_tcase(suite, cases);
	return run_suite(suite);
}
