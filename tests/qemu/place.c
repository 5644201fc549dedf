/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Places things in the kernel of a live Linux guest:
 *   place TARGET DIR quiet SYMBOL...     who is in these functions
 *   place TARGET DIR detour SYMBOL GVA   count its calls at GVA until a line comes, then take it away
 *   place TARGET DIR storm SYMBOL GVA SEED COLD...
 *                                        patches in COLD functions, a detour of SYMBOL, on and off,
 *                                        until it is killed
 */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <hvmi/hvmi.h>

static struct hvmi_error err;
static struct hvmi_vm *vm;
static struct hvmi_os *os;
static struct hvmi_space *space;

static void need(int rc, const char *what)
{
	if (rc >= 0)
		return;
	printf("failed: %s: %s: %s\n", what, hvmi_error_name(rc), err.code == rc ? err.text : "");
	exit(1);
}

static uint64_t symbol(const char *name)
{
	uint64_t gva = 0;
	need(hvmi_profile_symbol(hvmi_os_profile(os), name, &gva, &err), name);
	return gva;
}

/* Up to the next symbol. */
static uint64_t length(uint64_t gva)
{
	struct hvmi_symbol s = { .size = sizeof(s) };
	for (uint32_t cursor = 0; hvmi_profile_next_symbol(hvmi_os_profile(os), &cursor, &s) == 1;)
		if (s.gva > gva)
			return s.gva - gva;
	return 0;
}

static void quiet(const char *name)
{
	struct hvmi_occupant who[4];
	struct hvmi_code code = { .gva = symbol(name) };
	code.len = length(code.gva);
	int count = hvmi_quiet_check(os, &code, 1, who, 4, &err);
	need(count, name);
	printf("%s %d", name, count);
	for (int i = 0; i < count && i < 4; i++)
		printf(" %u:%d:%.16s:%s+0x%llx", who[i].kind, (int)who[i].pid, who[i].name, name,
		       (unsigned long long)(who[i].gva - code.gva));
	printf("\n");
}

static void nap(long us)
{
	nanosleep(&(struct timespec){ .tv_nsec = us * 1000 }, NULL);
}

/* LOCK INC of a word of the guest's, then what was replaced. */
static size_t make_code(const struct hvmi_detour_info *info, uint64_t counter, uint8_t *code)
{
	int32_t distance = (int32_t)(counter - (info->code + 8));
	int32_t back = (int32_t)(info->moved - (info->code + 13));
	memcpy(code, "\xf0\x48\xff\x05", 4);
	memcpy(code + 4, &distance, 4);
	code[8] = 0xe9;
	memcpy(code + 9, &back, 4);
	return 13;
}

static struct hvmi_detour *commit(const char *name, uint64_t counter, struct hvmi_journal *journal)
{
	struct hvmi_detour_request request = { .size = sizeof(request), .gva = symbol(name),
					       .code_room = 32 };
	struct hvmi_detour_info info = { .size = sizeof(info) };
	struct hvmi_detour *detour;
	uint8_t code[32];
	int rc;
	need(hvmi_detour_create(os, &request, &detour, &err), "create");
	hvmi_detour_get_info(detour, &info);
	size_t len = make_code(&info, counter, code);
	for (int i = 0; (rc = hvmi_detour_commit(detour, code, len, journal, &err)) == -EBUSY && i < 1000;
	     i++)
		nap(2000);
	need(rc, "commit");
	return detour;
}

static void take_away(struct hvmi_detour *detour)
{
	int rc;
	for (int i = 0; (rc = hvmi_detour_undo(detour, &err)) == -EBUSY && i < 1000; i++)
		nap(2000);
	need(rc, "undo");
	hvmi_detour_destroy(detour);
}

static void count_calls(const char *name, uint64_t counter, struct hvmi_journal *journal)
{
	struct hvmi_detour_info info = { .size = sizeof(info) };
	char line[16];
	struct hvmi_detour *detour = commit(name, counter, journal);
	hvmi_detour_get_info(detour, &info);
	printf("placed gva=0x%llx jump=%u replaced=%u code=0x%llx moved=0x%llx memory_len=%u\n",
	       (unsigned long long)info.gva, info.jump_len, info.replaced,
	       (unsigned long long)info.code, (unsigned long long)info.moved, info.memory_len);
	fflush(stdout);
	if (!fgets(line, sizeof(line), stdin))
		exit(1);
	take_away(detour);
	printf("undone\n");
}

#define PATCHES 16

static void storm(const char *name, uint64_t counter, char **cold, int count,
		  struct hvmi_journal *journal)
{
	uint64_t ids[PATCHES] = { 0 }, gpas[PATCHES];
	struct hvmi_detour *detour = NULL;
	printf("ready\n");
	fflush(stdout);
	for (;;) {
		size_t i = (size_t)random() % PATCHES;
		/* Each has 16 bytes of its own in one of the functions. */
		uint64_t gva = symbol(cold[i % (size_t)count]) + 16 * (i / (size_t)count);
		if (ids[i]) {
			need(hvmi_patch_undo(journal, ids[i], &err), "patch_undo");
			ids[i] = 0;
			continue;
		}
		uint8_t bytes[16];
		struct hvmi_patch patch = { .size = sizeof(patch), .gva = gva, .bytes = bytes };
		need(hvmi_space_translate(space, gva, &gpas[i]), "translate");
		patch.gpa = gpas[i];
		patch.len = 1 + (uint32_t)random() % 16;
		if (patch.gpa % 4096 + patch.len > 4096)
			continue;
		for (size_t b = 0; b < sizeof(bytes); b++)
			bytes[b] = (uint8_t)random();
		need(hvmi_patch_place(journal, &patch, &err), "patch_place");
		ids[i] = patch.id;
		if (random() % 4)
			continue;
		if (detour)
			take_away(detour);
		detour = detour ? NULL : commit(name, counter, journal);
	}
}

int main(int argc, char **argv)
{
	struct hvmi_open_options options = { .size = sizeof(options), .flags = HVMI_OPEN_WRITE };
	struct hvmi_journal *journal;
	if (argc < 5)
		return 2;
	const char *what = argv[3];
	need(hvmi_open(argv[1], &options, &vm, &err), argv[1]);
	need(hvmi_os_attach(vm, NULL, &os, &err), "attach");
	need(hvmi_os_kernel_space(os, &space, &err), "space");
	if (!strcmp(what, "quiet")) {
		need(hvmi_vm_pause(vm, &err), "pause");
		for (int i = 4; i < argc; i++)
			quiet(argv[i]);
		hvmi_vm_resume(vm, &err);
	} else {
		uint64_t counter = argc > 5 ? strtoull(argv[5], NULL, 0) : 0;
		need(hvmi_journal_open(vm, argv[2], 0, &journal, &err), "journal");
		if (!strcmp(what, "detour")) {
			count_calls(argv[4], counter, journal);
		} else if (argc > 7) {
			srandom((unsigned)atoi(argv[6]));
			storm(argv[4], counter, argv + 7, argc - 7, journal);
		}
		hvmi_journal_close(journal);
	}
	hvmi_space_destroy(space);
	hvmi_os_detach(os);
	hvmi_close(vm);
	return 0;
}
