/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The kernel's own code says where its data is: routines that are exported use the arrays of
 * callbacks, the entry of system calls uses the tables of services.
 */
#include <hvmi/insn.h>

#include "os/windows/search.h"

#define ROUTINE_BYTES_MAX 4096u
#define INSNS_MAX 512u			/* of one routine */
#define BRANCHES_MAX 64u		/* of it that wait to be read */
#define CALLS_MAX 16u			/* of one level */
#define DEPTH_MAX 1u			/* PsSetLoadImageNotifyRoutine: what it calls does it */
#define REFERENCES_MAX 128u
#define ARRAY_CHECKED 8u		/* the shortest that there has been */
#define RUNDOWN_MAX 0xffffu		/* twice the references to a block; 1: it is going away */
#define SERVICES_MAX 4096u
#define SECTION_BYTES_MAX (32u * 1024 * 1024)

/* What a level of routines refers to, and what it calls. */
struct references {
	uint64_t data[REFERENCES_MAX], calls[CALLS_MAX];
	uint32_t data_count, call_count;
};

static void add_once(uint64_t *values, uint32_t *count, uint32_t max, uint64_t value)
{
	for (uint32_t i = 0; i < *count; i++)
		if (values[i] == value)
			return;
	if (*count < max)
		values[(*count)++] = value;
}

static void add_data(const struct search *s, struct references *refs, uint64_t gva)
{
	if (gva % s->pointer_bytes == 0 && search_in_section(s, gva, SECTION_WRITE, SECTION_EXECUTE))
		add_once(refs->data, &refs->data_count, REFERENCES_MAX, gva);
}

/* Addresses of data that an instruction has in it: relative to RIP, or whole on x86. */
static void add_operands(const struct search *s, const struct hvmi_insn *insn,
			 struct references *refs)
{
	if (s->pointer_bytes == 4) {
		for (uint32_t at = 1; at + 4 <= insn->len; at++)
			add_data(s, refs, load_le32(insn->bytes + at));
		return;
	}
	/* ModRM with mod 0 and r/m 5, a displacement, and an immediate of 0, 1, 2 or 4 bytes. */
	static const uint8_t immediates[] = { 0, 1, 2, 4 };
	if (!(insn->flags & HVMI_INSN_RELATIVE))
		return;
	for (size_t i = 0; i < ARRAY_SIZE(immediates); i++) {
		uint32_t tail = immediates[i] + 4u;
		if (insn->len < tail + 2 || (insn->bytes[insn->len - tail - 1] & 0xc7) != 5)
			continue;
		int32_t to = (int32_t)load_le32(insn->bytes + insn->len - tail);
		add_data(s, refs, insn->gva + insn->len + (uint64_t)(int64_t)to);
	}
}

/* A routine: every instruction that branches of it lead to. */
struct routine {
	uint64_t start;
	uint64_t seen[ROUTINE_BYTES_MAX / 64];	/* by offset, those that are read or waiting */
	uint64_t waiting[BRANCHES_MAX];
	uint32_t waiting_count;
};

static void add_branch(const struct search *s, struct routine *routine, uint64_t gva,
		       struct references *refs)
{
	uint64_t offset = gva - routine->start;
	if (offset >= ROUTINE_BYTES_MAX) {
		if (search_in_section(s, gva, SECTION_EXECUTE, 0))
			add_once(refs->calls, &refs->call_count, CALLS_MAX, gva);
		return;
	}
	uint64_t *word = &routine->seen[offset / 64], bit = UINT64_C(1) << offset % 64;
	if (*word & bit || routine->waiting_count == BRANCHES_MAX)
		return;
	*word |= bit;
	routine->waiting[routine->waiting_count++] = gva;
}

static void read_routine(const struct search *s, uint64_t gva, struct references *refs)
{
	uint32_t mode = s->pointer_bytes == 8 ? HVMI_INSN_X86_64 : HVMI_INSN_X86_32;
	struct routine routine = { .start = gva };
	add_branch(s, &routine, gva, refs);
	for (uint32_t i = 0; i < INSNS_MAX && routine.waiting_count; i++) {
		struct hvmi_insn insn = { .size = sizeof(insn) };
		uint64_t at = routine.waiting[--routine.waiting_count];
		if (hvmi_insn_read(s->space, mode, at, &insn, NULL))
			continue;
		if (insn.category == HVMI_INSN_JUMP)
			add_branch(s, &routine, insn.target, refs);
		else if (insn.category != HVMI_INSN_CALL)
			add_operands(s, &insn, refs);
		else if (search_in_section(s, insn.target, SECTION_EXECUTE, 0))
			add_once(refs->calls, &refs->call_count, CALLS_MAX, insn.target);
		if (!(insn.flags & HVMI_INSN_ENDS))
			add_branch(s, &routine, at + insn.len, refs);
	}
}

/* A callback's function: of a module, and of its code as far as that is known; or of none. */
static bool may_be_function(const struct search *s, uint64_t gva)
{
	return windows_is_kernel(s->os, gva) &&
	       (gva - s->image->base >= s->image->bytes ||
		search_in_section(s, gva, SECTION_EXECUTE, 0));
}

/*
 * _EX_FAST_REF to { EX_RUNDOWN_REF; Function; Context } outside of images, or zero. At least one
 * function is a module's: memory of zeros is no array.
 */
static bool is_array(const struct search *s, uint64_t array)
{
	uint32_t n = s->pointer_bytes;
	bool in_module = false;
	for (uint32_t i = 0; i < ARRAY_CHECKED; i++) {
		uint64_t entry, rundown, function;
		if (windows_pointer_at(s->os, s->space, array + i * (uint64_t)n, &entry))
			return false;
		if (!entry)
			continue;
		uint64_t block = windows_fast_ref(s->os, entry);
		if (!windows_is_kernel(s->os, block) || search_in_module(s, block) ||
		    windows_pointer_at(s->os, s->space, block, &rundown) || rundown > RUNDOWN_MAX ||
		    windows_pointer_at(s->os, s->space, block + n, &function) ||
		    !may_be_function(s, function))
			return false;
		in_module = in_module || search_in_module(s, function);
	}
	return in_module;
}

/* The array that a routine uses: itself, or what it calls. 0: there is none, or more than one. */
static uint64_t array_of(const struct search *s, uint64_t routine)
{
	struct references level = { .call_count = 1, .calls = { routine } };
	for (uint32_t depth = 0; depth <= DEPTH_MAX; depth++) {
		struct references next = { 0 };
		uint64_t found = 0;
		uint32_t count = 0;
		for (uint32_t i = 0; i < level.call_count; i++)
			read_routine(s, level.calls[i], &next);
		for (uint32_t i = 0; i < next.data_count; i++)
			if (is_array(s, next.data[i])) {
				found = next.data[i];
				count++;
			}
		if (count)
			return count == 1 ? found : 0;
		level = next;
	}
	return 0;
}

/* Exports that use an array; the other came with Vista or was always there. */
static const struct array {
	const char *symbol, *add, *other, *source;
} arrays[] = {
	{ "PspCreateProcessNotifyRoutine", "PsSetCreateProcessNotifyRoutine",
	  "PsSetCreateProcessNotifyRoutineEx", "the array that PsSetCreateProcessNotifyRoutine uses" },
	{ "PspCreateThreadNotifyRoutine", "PsSetCreateThreadNotifyRoutine",
	  "PsRemoveCreateThreadNotifyRoutine", "the array that PsSetCreateThreadNotifyRoutine uses" },
	{ "PspLoadImageNotifyRoutine", "PsSetLoadImageNotifyRoutine",
	  "PsRemoveLoadImageNotifyRoutine", "the array that PsSetLoadImageNotifyRoutine uses" },
	{ "CmpCallBackVector", "CmRegisterCallback", "CmUnRegisterCallback",	/* until 2003 */
	  "the array that CmRegisterCallback uses" },
};

static void search_arrays(const struct search *s)
{
	const struct symbols *symbols = &s->os->profile->symbols;
	uint64_t found[ARRAY_SIZE(arrays)] = { 0 };
	for (size_t i = 0; i < ARRAY_SIZE(arrays); i++) {
		if (symbols_find(symbols, arrays[i].symbol, &found[i]) == 0)
			continue;
		uint64_t add, other;
		if (symbols_find(symbols, arrays[i].add, &add))
			continue;
		found[i] = array_of(s, add);
		/* An array that is empty is not seen: what is seen then must not pass for it. */
		if (symbols_find(symbols, arrays[i].other, &other) == 0 &&
		    array_of(s, other) != found[i])
			found[i] = 0;
	}
	for (size_t i = 0; i < ARRAY_SIZE(arrays); i++) {
		bool alone = found[i] != 0;
		for (size_t k = 0; k < ARRAY_SIZE(arrays); k++)
			alone = alone && (k == i || found[k] != found[i]);
		if (alone && search_wants(s, arrays[i].symbol))
			search_add(s, arrays[i].symbol, found[i], arrays[i].source);
	}
}

/* Tables of services. */

struct descriptor {
	uint64_t base;
	uint32_t limit;
};

/* A KSERVICE_TABLE_DESCRIPTOR: Base, Count, Limit, Number. */
static struct descriptor read_table(const struct search *s, uint64_t gva)
{
	uint64_t limit = search_pointer(s, gva + 2 * s->pointer_bytes);
	return (struct descriptor){ search_pointer(s, gva), (uint32_t)MIN(limit, UINT32_MAX) };
}

static bool is_table(const struct search *s, struct descriptor table, bool kernel)
{
	return table.limit && table.limit <= SERVICES_MAX && windows_is_kernel(s->os, table.base) &&
	       (table.base - s->image->base < s->image->bytes) == kernel;
}

/* The kernel's table alone, and the one that has win32k's behind it. */
static bool are_tables(const struct search *s, uint64_t plain, uint64_t shadow)
{
	struct descriptor first = read_table(s, plain), same = read_table(s, shadow);
	return plain != shadow && search_in_section(s, plain, 0, 0) &&
	       search_in_section(s, shadow, 0, 0) && is_table(s, first, true) && first.base == same.base &&
	       first.limit == same.limit &&
	       is_table(s, read_table(s, shadow + 4 * s->pointer_bytes), false);
}

static uint64_t relative(uint64_t gva, const uint8_t *at)
{
	return gva + 7 + (uint64_t)(int64_t)(int32_t)load_le32(at + 3);
}

/*
 * x64: KiSystemServiceRepeat is LEA R10, KeServiceDescriptorTable; LEA R11,
 * KeServiceDescriptorTableShadow. 0 at the end; -EBADMSG: it is there twice, and differs.
 */
static int search_dispatcher(const struct search *s, uint64_t gva, const uint8_t *code, size_t len,
			     uint64_t *plain_ret, uint64_t *shadow_ret)
{
	static const uint8_t first[] = { 0x4c, 0x8d, 0x15 }, second[] = { 0x4c, 0x8d, 0x1d };
	const uint8_t *at = code;
	while ((at = memmem(at, len - (size_t)(at - code), first, sizeof(first)))) {
		size_t offset = (size_t)(at - code);
		if (len - offset < 14)
			break;
		if (memcmp(at + 7, second, sizeof(second)) == 0) {
			uint64_t plain = relative(gva + offset, at);
			uint64_t shadow = relative(gva + offset + 7, at + 7);
			if (*plain_ret && (plain != *plain_ret || shadow != *shadow_ret))
				return -EBADMSG;
			if (are_tables(s, plain, shadow)) {
				*plain_ret = plain;
				*shadow_ret = shadow;
			}
		}
		at++;
	}
	return 0;
}

static void search_tables_64(const struct search *s)
{
	uint8_t code[FRAME_SIZE + 16];
	uint32_t left = SECTION_BYTES_MAX / FRAME_SIZE;
	uint64_t plain = 0, shadow = 0;
	for (uint32_t i = 0; i < s->image->section_count; i++) {
		const struct windows_section *section = &s->image->sections[i];
		if (!(section->flags & SECTION_EXECUTE))
			continue;
		/* What lies across the end of a page is found with it. */
		for (uint32_t at = 0; at < section->bytes && left; at += FRAME_SIZE, left--) {
			uint64_t gva = s->image->base + section->rva + at;
			size_t got = 0;
			hvmi_space_read(s->space, gva, code, MIN(sizeof(code), section->bytes - at),
					&got);
			if (search_dispatcher(s, gva, code, got, &plain, &shadow))
				return;
		}
	}
	if (!plain)
		return;
	if (search_wants(s, "KeServiceDescriptorTable"))
		search_add(s, "KeServiceDescriptorTable", plain, "what the entry of system calls uses");
	search_add(s, "KeServiceDescriptorTableShadow", shadow, "what the entry of system calls uses");
}

/* x86: KeServiceDescriptorTable is exported, and but one other may begin as it does. */
static void search_tables_32(const struct search *s)
{
	uint64_t plain, shadow = 0;
	uint32_t count = 0, left = SECTION_BYTES_MAX / FRAME_SIZE;
	uint8_t page[FRAME_SIZE];
	if (symbols_find(&s->os->profile->symbols, "KeServiceDescriptorTable", &plain) ||
	    !is_table(s, read_table(s, plain), true))
		return;
	uint32_t base = (uint32_t)read_table(s, plain).base;
	for (uint32_t i = 0; i < s->image->section_count; i++) {
		const struct windows_section *section = &s->image->sections[i];
		if (section->flags & SECTION_EXECUTE)
			continue;
		for (uint32_t at = 0; at < section->bytes && left; at += FRAME_SIZE, left--) {
			uint64_t gva = s->image->base + section->rva + at;
			if (hvmi_space_read(s->space, gva, page, sizeof(page), NULL))
				continue;
			uint32_t end = MIN((uint32_t)FRAME_SIZE, section->bytes - at);
			for (uint32_t o = 0; o + 4 <= end; o += 4)
				if (load_le32(page + o) == base && are_tables(s, plain, gva + o)) {
					shadow = gva + o;
					count++;
				}
		}
	}
	if (count == 1)
		search_add(s, "KeServiceDescriptorTableShadow", shadow,
			   "the one table that has the kernel's services and others");
}

void search_code(const struct search *s)
{
	if (s->image->machine == WINDOWS_MACHINE_ARM64)
		return;
	search_arrays(s);
	if (!search_wants(s, "KeServiceDescriptorTableShadow"))
		return;
	if (s->pointer_bytes == 8)
		search_tables_64(s);
	else
		search_tables_32(s);
}
