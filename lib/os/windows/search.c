/* SPDX-License-Identifier: Apache-2.0 */
#include "os/windows/search.h"

#include <inttypes.h>
#include <stdio.h>

#define DATA_BYTES_MAX (32u * 1024 * 1024)
#define MODULES_MAX 4096u
#define MODULE_BYTES_MAX (256u * 1024 * 1024)
/* Entries of a list that are looked at, and all that lists may cost together. */
#define ENTRIES_MAX 4096u
#define STEPS_MAX (256u * 1024)

#define HIVE_SIGNATURE 0xbee0bee0u
#define RECORD_BYTES 64u
#define ALTITUDE_BYTES 128u
/* MmUnloadedDrivers: { UNICODE_STRING Name; PVOID Start, End; LARGE_INTEGER CurrentTime; }[50] */
#define UNLOADED_COUNT 50u
#define UNLOADED_BYTES 40u
/* KBUGCHECK_CALLBACK_REASON: wdm.h. Those for pages and triage data have lists of their own since 10. */
#define REASON_DATA 2u
#define REASON_DUMP_IO 3u
#define REASON_MULTI_PART 5u
#define REASON_LAST 16u
#define STATE_LAST 4u			/* KBUGCHECK_BUFFER_DUMP_STATE: BufferIncomplete */

bool search_in_section(const struct search *s, uint64_t gva, uint32_t with, uint32_t without)
{
	for (uint32_t i = 0; i < s->image->section_count; i++) {
		const struct windows_section *section = &s->image->sections[i];
		if ((section->flags & with) == with && !(section->flags & without) &&
		    gva - s->image->base - section->rva < section->bytes)
			return true;
	}
	return false;
}

bool search_in_module(const struct search *s, uint64_t gva)
{
	for (uint32_t i = 0; i < s->module_count; i++)
		if (gva >= s->modules[i].start && gva < s->modules[i].end)
			return true;
	return false;
}

uint64_t search_pointer(const struct search *s, uint64_t gva)
{
	uint64_t value;
	return windows_pointer_at(s->os, s->space, gva, &value) ? 0 : value;
}

bool search_wants(const struct search *s, const char *symbol)
{
	uint64_t known;
	return symbols_find(&s->os->profile->symbols, symbol, &known) != 0;
}

void search_add(const struct search *s, const char *symbol, uint64_t gva, const char *source)
{
	char value[32];
	uint64_t gpa;
	if (windows_knowledge_symbol(s->os, symbol, gva))
		return;
	if (hvmi_space_translate(s->space, gva, &gpa))
		gpa = HVMI_NO_ADDRESS;
	snprintf(value, sizeof(value), "0x%" PRIx64, gva);
	os_fact(s->os, symbol, HVMI_CONFIDENCE_MEDIUM, gpa, 0, value, "%s", source);
}

static uint64_t load(const struct search *s, const uint8_t *at)
{
	return s->pointer_bytes == 8 ? load_le64(at) : load_le32(at);
}

static void load_modules(struct search *s)
{
	const struct windows_user_layout *layout = windows_user_layout(s->pointer_bytes == 8);
	struct list_walk walk;
	uint64_t link;
	uint8_t bytes[4];
	s->modules = calloc(MODULES_MAX, sizeof(*s->modules));
	if (!s->modules || !s->data->modules)
		return;
	list_begin(&walk, s->space, s->data->modules, s->pointer_bytes, MODULES_MAX);
	while (s->module_count < MODULES_MAX && list_next(&walk, &link, "modules", NULL) == 1) {
		uint64_t start = search_pointer(s, link + layout->module_base);
		if (!windows_is_kernel(s->os, start) ||
		    hvmi_space_read(s->space, link + layout->module_bytes, bytes, 4, NULL) ||
		    load_le32(bytes) > MODULE_BYTES_MAX)
			continue;
		s->modules[s->module_count++] = (struct search_module){
			start, start + load_le32(bytes) };
	}
}

/* Lists. */

/* What an entry at a link says: 0, it is none; 1, it may be one; 2, that it is. */
typedef int (*judge_fn)(const struct search *s, uint64_t link);

static int is_hive(const struct search *s, uint64_t link)
{
	uint64_t hive = link - windows_offset(s->os, WINDOWS_HIVE_LINKS), signature;
	return windows_read(s->os, s->space, WINDOWS_HIVE_SIGNATURE, hive, &signature) == 0 &&
	       (uint32_t)signature == HIVE_SIGNATURE ? 2 : 0;
}

/* A routine's address: of a module, or at least one that may be. */
static int is_routine(const struct search *s, uint64_t gva)
{
	return search_in_module(s, gva) ? 2 : windows_is_kernel(s->os, gva);
}

/*
 * KBUGCHECK_CALLBACK_RECORD: Entry, CallbackRoutine, Buffer, Length, Component, Checksum, State. The
 * checksum is the sum of what is before it.
 */
static int is_bugcheck(const struct search *s, uint64_t link)
{
	uint8_t record[RECORD_BYTES];
	uint32_t n = s->pointer_bytes;
	if (hvmi_space_read(s->space, link, record, 8 * n, NULL))
		return 0;
	uint64_t routine = load(s, record + 2 * n), component = load(s, record + 5 * n);
	uint64_t sum = routine + load(s, record + 3 * n) + load_le32(record + 4 * n) + component;
	if (n == 4)
		sum = (uint32_t)sum;
	if (sum != load(s, record + 6 * n) || record[7 * n] > STATE_LAST ||
	    !windows_is_kernel(s->os, component))
		return 0;
	return is_routine(s, routine);
}

/* KBUGCHECK_REASON_CALLBACK_RECORD: Entry, CallbackRoutine, Component, Checksum, Reason, State. */
static int is_bugcheck_reason(const struct search *s, uint64_t link)
{
	uint8_t record[RECORD_BYTES];
	uint32_t n = s->pointer_bytes;
	if (hvmi_space_read(s->space, link, record, 5 * n + 8, NULL))
		return 0;
	uint64_t routine = load(s, record + 2 * n), component = load(s, record + 3 * n);
	uint32_t reason = load_le32(record + 5 * n);
	uint64_t sum = routine + reason + component;
	if (n == 4)
		sum = (uint32_t)sum;
	if (sum != load(s, record + 4 * n) || !reason || reason > REASON_LAST ||
	    record[5 * n + 4] > STATE_LAST || !windows_is_kernel(s->os, component))
		return 0;
	int judged = is_routine(s, routine);
	bool main = reason == REASON_DATA || reason == REASON_DUMP_IO || reason == REASON_MULTI_PART;
	return main ? judged : MIN(judged, 1);
}

/* Links, two numbers, a cookie, context, function, altitude: a decimal number as text. */
static int is_registry(const struct search *s, uint64_t link)
{
	uint32_t n = s->pointer_bytes, dots = 0;
	uint64_t function = search_pointer(s, link + 3 * n + 16);
	char text[ALTITUDE_BYTES];
	size_t len;
	if (!windows_is_kernel(s->os, function) ||
	    windows_string(s->space, link + 4 * n + 16, n, text, sizeof(text), &len) || !len ||
	    len >= sizeof(text))
		return 0;
	for (size_t i = 0; i < len; i++) {
		dots += text[i] == '.';
		if (text[i] != '.' && (text[i] < '0' || text[i] > '9'))
			return 0;
	}
	return dots > 1 || text[0] == '.' ? 0 : is_routine(s, function);
}

/* Unloaded drivers. */

/* Whether an entry is one; empty ones are told by `empty_ret`. */
static bool is_unloaded(const struct search *s, uint64_t at, bool *empty_ret)
{
	static const uint8_t zeros[UNLOADED_BYTES];
	uint8_t entry[UNLOADED_BYTES];
	uint32_t n = s->pointer_bytes, bytes = 4 * n + 8;
	char name[ALTITUDE_BYTES];
	size_t len;
	if (hvmi_space_read(s->space, at, entry, bytes, NULL))
		return false;
	*empty_ret = memcmp(entry, zeros, bytes) == 0;
	if (*empty_ret)
		return true;
	uint64_t start = load(s, entry + 2 * n), end = load(s, entry + 3 * n);
	uint64_t time = load_le64(entry + 4 * n);
	if (!windows_is_kernel(s->os, start) || start % FRAME_SIZE || end % FRAME_SIZE ||
	    end <= start || end - start > MODULE_BYTES_MAX || !windows_time_ns(time) ||
	    time < s->data->shared.boot_time ||
	    windows_string(s->space, at, n, name, sizeof(name), &len) || len >= sizeof(name) ||
	    len < 5)
		return false;
	for (size_t i = 0; i < len; i++)
		if ((uint8_t)name[i] < ' ')
			return false;
	return strchr(name, '.') != NULL;
}

/* They are filled from the first on, in turn. */
static bool is_unloaded_array(const struct search *s, uint64_t array)
{
	bool empty = false, ended = false;
	for (uint32_t i = 0; i < UNLOADED_COUNT; i++) {
		if (!is_unloaded(s, array + i * (uint64_t)(4 * s->pointer_bytes + 8), &empty) ||
		    (i == 0 && empty) || (ended && !empty))
			return false;
		ended = empty;
	}
	return true;
}

/* The kernel's data. */

static const struct wanted {
	const char *symbol;
	judge_fn judge;			/* NULL: unloaded drivers */
	uint32_t first_major;
	const char *source;
} wanted[] = {
	{ "CmpHiveListHead", is_hive, 5, "a list from the kernel's data with hives' signatures only" },
	{ "KeBugCheckCallbackListHead", is_bugcheck, 5,
	  "a list from the kernel's data whose records have their checksums" },
	{ "KeBugCheckReasonCallbackListHead", is_bugcheck_reason, 5,
	  "a list from the kernel's data whose records have their checksums and reasons" },
	{ "CallbackListHead", is_registry, 6,
	  "a list from the kernel's data with routines and altitudes" },
	{ "MmUnloadedDrivers", NULL, 5, "a pointer in the kernel's data to names, ranges and times" },
};

struct finding {
	uint64_t at, first;
	uint32_t count;
	bool wanted;
};

static bool list_judge(const struct search *s, judge_fn judge, uint64_t head, uint32_t *steps)
{
	struct list_walk walk;
	uint64_t link;
	int rc, best = 0;
	list_begin(&walk, s->space, head, s->pointer_bytes, ENTRIES_MAX);
	while ((rc = list_next(&walk, &link, "entries", NULL)) == 1) {
		int judged = *steps ? judge(s, link) : 0;
		if (!judged)
			return false;
		(*steps)--;
		best = MAX(best, judged);
	}
	return rc == 0 && best == 2;
}

/* A word of the kernel's data, and what it points to. */
static void try_word(const struct search *s, uint64_t at, uint64_t value, struct finding *findings,
		     uint32_t *steps)
{
	uint8_t target[16];
	uint32_t n = s->pointer_bytes;
	if (value == at || value % n || !windows_is_kernel(s->os, value) ||
	    hvmi_space_read(s->space, value, target, 2 * n, NULL))
		return;
	bool is_list = load(s, target + n) == at;
	/* Lengths of a UNICODE_STRING, and where it is. */
	uint32_t len = load_le16(target), room = load_le16(target + 2);
	bool is_name = len && len % 2 == 0 && len <= room && windows_is_kernel(s->os, load(s, target + n));
	for (size_t i = 0; i < ARRAY_SIZE(wanted); i++) {
		struct finding *found = &findings[i];
		if (!found->wanted || found->count > 1)
			continue;
		bool holds = wanted[i].judge ? is_list && list_judge(s, wanted[i].judge, at, steps) :
					       is_name && value != found->first &&
						       is_unloaded_array(s, value);
		if (!holds)
			continue;
		*found = (struct finding){ .at = at, .first = value, .count = found->count + 1,
					   .wanted = true };
	}
}

static void search_data(const struct search *s)
{
	struct finding findings[ARRAY_SIZE(wanted)] = { 0 };
	uint32_t left = DATA_BYTES_MAX / FRAME_SIZE, steps = STEPS_MAX, count = 0;
	for (size_t i = 0; i < ARRAY_SIZE(wanted); i++) {
		bool possible = wanted[i].judge != is_hive ||
				(windows_has(s->os, WINDOWS_HIVE_LINKS) &&
				 windows_has(s->os, WINDOWS_HIVE_SIGNATURE));
		findings[i].wanted = possible && s->data->id.major >= wanted[i].first_major &&
				     search_wants(s, wanted[i].symbol);
		count += findings[i].wanted;
	}
	for (uint32_t i = 0; count && i < s->image->section_count; i++) {
		const struct windows_section *section = &s->image->sections[i];
		if (!(section->flags & SECTION_WRITE) || section->flags & SECTION_EXECUTE)
			continue;
		for (uint32_t at = 0; at < section->bytes && left; at += FRAME_SIZE, left--) {
			uint8_t page[FRAME_SIZE];
			uint64_t gva = s->image->base + section->rva + at;
			if (hvmi_space_read(s->space, gva, page, sizeof(page), NULL))
				continue;
			uint32_t end = MIN((uint32_t)FRAME_SIZE, section->bytes - at);
			for (uint32_t o = 0; o + s->pointer_bytes <= end; o += s->pointer_bytes)
				try_word(s, gva + o, load(s, page + o), findings, &steps);
		}
	}
	for (size_t i = 0; i < ARRAY_SIZE(wanted); i++)
		if (findings[i].count == 1 && steps)
			search_add(s, wanted[i].symbol, findings[i].at, wanted[i].source);
}

void windows_search(struct hvmi_os *os, struct hvmi_space *space)
{
	struct search s = { .os = os, .data = windows_data(os), .space = space,
			    .image = &windows_data(os)->found.image,
			    .pointer_bytes = windows_data(os)->pointer_bytes };
	uint32_t known = os->profile->symbols.count;
	load_modules(&s);
	if (s.module_count) {
		search_data(&s);
		search_code(&s);
	}
	free(s.modules);
	if (os->profile->symbols.count != known)
		symbols_freeze(&os->profile->symbols);
}
