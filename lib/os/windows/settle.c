/* SPDX-License-Identifier: Apache-2.0 */
/* System and the heads of the lists; what the profile says is checked by them. */
#include <inttypes.h>
#include <stdio.h>

#include "os/windows/windows.h"

#define SYSTEM_PID 4u
#define DISPATCHER_PROCESS 3u		/* KOBJECTS.ProcessObject */
#define EPROCESS_BYTES_MAX 0x1000u
/* Data of the kernel that is searched for pointers. */
#define DATA_BYTES_MAX (32u * 1024 * 1024)
#define VCPUS_TRIED_MAX 64u
#define RING_BOUND 65536u		/* processes */

/* _KPROCESS.DirectoryTableBase: the same in all releases. */
#define ROOT_64 0x28u
#define ROOT_32 0x18u

struct settle {
	struct hvmi_os *os;
	struct windows_os *data;
	struct hvmi_space *space;
	const struct windows_user_layout *layout;	/* of the kernel's loader, too */
	uint32_t root_offset;
	const char *system_source, *modules_source;
	uint64_t modules;
	uint64_t system;
	uint64_t ring_head;	/* PsActiveProcessHead, as found along the list; or 0 */
};

static void set_member(struct settle *s, enum windows_member member, uint64_t offset,
		       uint32_t bytes)
{
	s->data->members[member] = (struct hvmi_member){
		.size = sizeof(struct hvmi_member), .bytes = bytes, .kind = HVMI_TYPE_INTEGER,
		.hop_count = 1, .pointer_bytes = s->data->pointer_bytes, .hops = { offset } };
}

static bool pointer_at(const struct settle *s, uint64_t gva, uint64_t *ret)
{
	return windows_pointer_at(s->os, s->space, gva, ret) == 0;
}

/* The page-table root of what may be a process, if it maps the same kernel. */
static bool process_root(const struct settle *s, uint64_t process, uint64_t *ret)
{
	uint64_t root;
	uint8_t type;
	if (!windows_is_kernel(s->os, process) || process % 8 ||
	    hvmi_space_read(s->space, process, &type, 1, NULL) || type != DISPATCHER_PROCESS ||
	    !pointer_at(s, process + s->root_offset, &root))
		return false;
	root &= s->data->found.config.paging == HVMI_PAGING_X86_PAE ? ~UINT64_C(0x1f) :
								      ~UINT64_C(0xfff);
	if (!root || !windows_root_maps(s->os->vm, &s->data->found, root))
		return false;
	*ret = root;
	return true;
}

/* A link of a list at `link` that is linked back to from both sides. */
static bool linked(const struct settle *s, uint64_t link)
{
	uint64_t next, previous, back, forth;
	uint32_t n = s->data->pointer_bytes;
	return pointer_at(s, link, &next) && pointer_at(s, link + n, &previous) &&
	       windows_is_kernel(s->os, next) && windows_is_kernel(s->os, previous) &&
	       pointer_at(s, next + n, &back) && back == link && pointer_at(s, previous, &forth) &&
	       forth == link;
}

/* Whether what the profile says of processes holds for one that is System. */
static bool positions_hold(const struct settle *s, uint64_t process)
{
	uint64_t pid;
	char name[8] = "";
	return windows_has(s->os, WINDOWS_PROCESS_PID) && windows_has(s->os, WINDOWS_PROCESS_LINKS) &&
	       windows_has(s->os, WINDOWS_PROCESS_NAME) &&
	       windows_read_pointer(s->os, s->space, WINDOWS_PROCESS_PID, process, &pid) == 0 &&
	       pid == SYSTEM_PID &&
	       hvmi_space_read_string(s->space,
				      process + windows_offset(s->os, WINDOWS_PROCESS_NAME), name,
				      sizeof(name), NULL) == 0 &&
	       strcmp(name, "System") == 0;
}

/*
 * Where a process has its id, links and name, from System alone: the id 4 stands before the links,
 * and what is linked has an id at the same place.
 */
static bool infer_positions(const struct settle *s, uint64_t process, uint64_t *pid_ret,
			    uint64_t *name_ret)
{
	uint8_t bytes[EPROCESS_BYTES_MAX];
	uint32_t n = s->data->pointer_bytes, found = 0;
	size_t got = 0;
	hvmi_space_read(s->space, process, bytes, sizeof(bytes), &got);
	for (size_t at = 0x60; at + 3 * n <= got; at += n) {
		uint64_t value = n == 8 ? load_le64(bytes + at) : load_le32(bytes + at), link, pid;
		if (value != SYSTEM_PID || !linked(s, process + at + n))
			continue;
		/* The head is in the list too, so one of two neighbours is a process. */
		bool agrees = false;
		for (uint32_t side = 0; side <= n && !agrees; side += n)
			agrees = pointer_at(s, process + at + n + side, &link) &&
				 pointer_at(s, link - n, &pid) && pid && pid % 4 == 0 &&
				 pid < 0x1000000;
		if (!agrees)
			continue;
		*pid_ret = at;
		found++;
	}
	if (found != 1)
		return false;
	static const char name[16] = "System";
	const uint8_t *text = memmem(bytes, got, name, 15);
	*name_ret = text ? (uint64_t)(text - bytes) : 0;
	return text != NULL;
}

/* Searching the kernel's data. */

static void try_word(struct settle *s, uint64_t at, uint64_t value)
{
	uint64_t base, back, root, pid, name;
	if (value % 4 || !windows_is_kernel(s->os, value))
		return;
	if (!s->modules && pointer_at(s, value + s->layout->module_base, &base) &&
	    base == s->data->found.image.base && pointer_at(s, value + s->data->pointer_bytes, &back) &&
	    back == at)
		s->modules = at;
	if (!s->system && process_root(s, value, &root) &&
	    (positions_hold(s, value) || infer_positions(s, value, &pid, &name)))
		s->system = value;
}

static void search_data(struct settle *s)
{
	const struct windows_image *image = &s->data->found.image;
	uint32_t n = s->data->pointer_bytes, left = DATA_BYTES_MAX / FRAME_SIZE;
	for (uint32_t i = 0; i < image->section_count; i++) {
		const struct windows_section *section = &image->sections[i];
		if (!(section->flags & SECTION_WRITE) || section->flags & SECTION_EXECUTE)
			continue;
		for (uint32_t at = 0; at < section->bytes && left; at += FRAME_SIZE, left--) {
			uint8_t page[FRAME_SIZE];
			uint64_t gva = image->base + section->rva + at;
			if (hvmi_space_read(s->space, gva, page, sizeof(page), NULL))
				continue;
			for (uint32_t o = 0; o < FRAME_SIZE && !(s->modules && s->system); o += n)
				try_word(s, gva + o, n == 8 ? load_le64(page + o) :
							      load_le32(page + o));
		}
	}
}

/* System. */

/* Along the list, from what a vCPU runs: System, and the head, which is in the kernel's image. */
static void search_ring(struct settle *s)
{
	const struct windows_image *image = &s->data->found.image;
	struct hvmi_vm_info info = { .size = sizeof(info) };
	uint64_t process, thread, link, root;
	hvmi_vm_get_info(s->os->vm, &info);
	for (uint32_t vcpu = 0; vcpu < MIN(info.vcpus, VCPUS_TRIED_MAX) && !s->data->anchor; vcpu++)
		if (windows_current(s->os, s->space, vcpu, &process, &thread, NULL) == 0 &&
		    process_root(s, process, &root))
			s->data->anchor = process;
	if (!s->data->anchor || !windows_has(s->os, WINDOWS_PROCESS_LINKS))
		return;
	struct list_walk walk;
	uint64_t offset = windows_offset(s->os, WINDOWS_PROCESS_LINKS);
	list_begin(&walk, s->space, s->data->anchor + offset, s->data->pointer_bytes, RING_BOUND);
	while (list_next(&walk, &link, "processes", NULL) == 1) {
		if (link - image->base < image->bytes)
			s->ring_head = link;
		else if (!s->system && process_root(s, link - offset, &root) &&
			 positions_hold(s, link - offset))
			s->system = link - offset;
	}
}

static uint64_t system_by_symbols(struct settle *s)
{
	const struct symbols *symbols = &s->os->profile->symbols;
	uint64_t gva, process, root;
	if (symbols_find(symbols, "PsInitialSystemProcess", &gva) == 0 &&
	    pointer_at(s, gva, &process) && process_root(s, process, &root)) {
		s->system_source = "PsInitialSystemProcess";
		return process;
	}
	if (windows_has(s->os, WINDOWS_PROCESS_LINKS) &&
	    symbols_find(symbols, "PsActiveProcessHead", &gva) == 0 && pointer_at(s, gva, &process)) {
		process -= windows_offset(s->os, WINDOWS_PROCESS_LINKS);
		if (process_root(s, process, &root) && positions_hold(s, process)) {
			s->system_source = "PsActiveProcessHead";
			return process;
		}
	}
	return 0;
}

static void forget_members(struct settle *s)
{
	memset(s->data->members, 0, sizeof(s->data->members));
}

/* Members whose value in System shows that they are where the profile says; else they go. */
static void check_members(struct settle *s)
{
	static const enum windows_member kernel_pointers[] = { WINDOWS_PROCESS_TOKEN,
							       WINDOWS_PROCESS_HANDLES };
	struct hvmi_os *os = s->os;
	uint64_t value, pid;
	for (size_t i = 0; i < ARRAY_SIZE(kernel_pointers); i++)
		if (windows_read_pointer(os, s->space, kernel_pointers[i], s->system, &value) == 0 &&
		    value && !windows_is_kernel(os, value))
			s->data->members[kernel_pointers[i]].hop_count = 0;
	/* System has no PEB, and no parent but Idle. */
	if (windows_read_pointer(os, s->space, WINDOWS_PROCESS_PEB, s->system, &value) == 0 && value)
		s->data->members[WINDOWS_PROCESS_PEB].hop_count = 0;
	if (windows_read_pointer(os, s->space, WINDOWS_PROCESS_PARENT, s->system, &value) == 0 &&
	    value)
		s->data->members[WINDOWS_PROCESS_PARENT].hop_count = 0;
	if (windows_read(os, s->space, WINDOWS_PROCESS_CREATED, s->system, &value) == 0 && value &&
	    !windows_time_ns(value))
		s->data->members[WINDOWS_PROCESS_CREATED].hop_count = 0;
	if (!windows_has(os, WINDOWS_PROCESS_THREADS) || !windows_has(os, WINDOWS_THREAD_LINKS) ||
	    !windows_has(os, WINDOWS_THREAD_CID))
		return;
	uint64_t head = s->system + windows_offset(os, WINDOWS_PROCESS_THREADS), thread;
	if (pointer_at(s, head, &thread) && windows_is_kernel(os, thread)) {
		thread -= windows_offset(os, WINDOWS_THREAD_LINKS);
		if (pointer_at(s, thread + windows_offset(os, WINDOWS_THREAD_CID), &pid) &&
		    pid != SYSTEM_PID)
			s->data->members[WINDOWS_PROCESS_THREADS].hop_count = 0;
	}
}

static void settle_system(struct settle *s)
{
	struct hvmi_os *os = s->os;
	char value[32];
	uint64_t pid, name, root, gpa;
	s->data->system = s->system;
	if (!s->system) {
		os_fact(os, "system", HVMI_CONFIDENCE_UNKNOWN, HVMI_NO_ADDRESS, 0, "not found",
			"neither by symbols, nor in the kernel's data, nor from the current process on");
		/* Nothing shows that what is known of another build holds for this one. */
		if (s->data->knowledge.types <= WINDOWS_SOURCE_NEAREST) {
			forget_members(s);
			s->data->anchor = 0;
		}
		return;
	}
	bool holds = positions_hold(s, s->system);
	if (holds) {
		check_members(s);
	} else {
		bool inferred = infer_positions(s, s->system, &pid, &name);
		forget_members(s);
		os_fact(os, "positions", inferred ? HVMI_CONFIDENCE_LOW : HVMI_CONFIDENCE_UNKNOWN,
			HVMI_NO_ADDRESS, 0,
			inferred ? "id, links, name and root of processes only" : "none",
			"what is known of structures does not hold for this kernel's System");
		if (inferred) {
			set_member(s, WINDOWS_PROCESS_PID, pid, s->data->pointer_bytes);
			set_member(s, WINDOWS_PROCESS_LINKS, pid + s->data->pointer_bytes,
				   2 * s->data->pointer_bytes);
			set_member(s, WINDOWS_PROCESS_NAME, name, 15);
		}
		set_member(s, WINDOWS_PROCESS_ROOT, s->root_offset, s->data->pointer_bytes);
	}
	if (hvmi_space_translate(s->space, s->system, &gpa))
		gpa = HVMI_NO_ADDRESS;
	snprintf(value, sizeof(value), "0x%" PRIx64, s->system);
	os_fact(os, "system", holds ? HVMI_CONFIDENCE_HIGH : HVMI_CONFIDENCE_MEDIUM, gpa, 0, value,
		"%s; %s", s->system_source,
		holds ? "its id is 4, its name System, its root maps the kernel" :
			"its root maps the kernel");
	if (process_root(s, s->system, &root))
		os->kernel.root = root;
}

/* Lists. */

/*
 * PsActiveProcessHead is what links to System from before it. The head is in the kernel's image,
 * where there are no processes.
 */
static void settle_processes(struct settle *s)
{
	struct hvmi_os *os = s->os;
	const struct windows_image *image = &s->data->found.image;
	uint64_t by_symbol = 0, by_system = 0, link;
	char value[32];
	if (!windows_has(os, WINDOWS_PROCESS_LINKS))
		return;
	uint64_t offset = windows_offset(os, WINDOWS_PROCESS_LINKS);
	if (symbols_find(&os->profile->symbols, "PsActiveProcessHead", &by_symbol) == 0 &&
	    !pointer_at(s, by_symbol, &link))
		by_symbol = 0;
	if (s->system && pointer_at(s, s->system + offset + s->data->pointer_bytes, &link) &&
	    link - image->base < image->bytes)
		by_system = link;
	s->data->processes = by_symbol ? by_symbol : by_system ? by_system : s->ring_head;
	if (s->system)
		s->data->anchor = s->system;
	const char *source = by_symbol && by_symbol == by_system ?
				     "PsActiveProcessHead; System links to it" :
			     by_symbol		? "PsActiveProcessHead" :
			     by_system		? "what links to System" :
			     s->ring_head	? "the list from the current process on leads to it" :
			     s->system		? "unknown: processes are listed from System on" :
			     s->data->anchor	? "unknown: processes are listed from the current one on" :
						  "System is unknown";
	snprintf(value, sizeof(value), "0x%" PRIx64, s->data->processes);
	os_fact(os, "processes", !s->data->processes ? HVMI_CONFIDENCE_UNKNOWN :
		by_symbol == by_system ? HVMI_CONFIDENCE_HIGH : HVMI_CONFIDENCE_MEDIUM,
		HVMI_NO_ADDRESS, 0, s->data->processes ? value : "unknown", "%s", source);
}

static bool is_module_head(const struct settle *s, uint64_t head)
{
	uint64_t first, base;
	return pointer_at(s, head, &first) && windows_is_kernel(s->os, first) &&
	       pointer_at(s, first + s->layout->module_base, &base) && base == s->data->found.image.base;
}

/* x86: KPCR.KdVersionBlock leads to it; the first processor's KPCR is where FS begins. */
static uint64_t modules_by_kpcr(const struct settle *s)
{
	uint64_t kpcr, block, head;
	if (s->data->pointer_bytes == 8)
		return 0;
	if (hvmi_vm_register(s->os->vm, 0, HVMI_X86_FS_BASE, &kpcr) || !windows_is_kernel(s->os, kpcr))
		kpcr = 0xffdff000u;
	if (!pointer_at(s, kpcr + 0x34, &block) || !windows_is_kernel(s->os, block) ||
	    !pointer_at(s, block + 0x18, &head) || !is_module_head(s, head))
		return 0;
	return head;
}

static void settle_modules(struct settle *s)
{
	char value[32];
	s->data->modules = s->modules;
	snprintf(value, sizeof(value), "0x%" PRIx64, s->modules);
	os_fact(s->os, "modules", s->modules ? HVMI_CONFIDENCE_HIGH : HVMI_CONFIDENCE_UNKNOWN,
		HVMI_NO_ADDRESS, 0, s->modules ? value : "unknown", "%s",
		s->modules ? s->modules_source :
			     "neither by symbols nor by a search of the kernel's data");
}

void windows_settle(struct hvmi_os *os, struct hvmi_space *space)
{
	struct windows_os *data = windows_data(os);
	struct settle s = { .os = os, .data = data, .space = space,
			    .layout = windows_user_layout(data->pointer_bytes == 8),
			    .root_offset = data->pointer_bytes == 8 ? ROOT_64 : ROOT_32 };
	s.system = system_by_symbols(&s);
	if (symbols_find(&os->profile->symbols, "PsLoadedModuleList", &s.modules) == 0 &&
	    is_module_head(&s, s.modules)) {
		s.modules_source = "PsLoadedModuleList; its first entry is the kernel";
	} else {
		s.modules = modules_by_kpcr(&s);
		s.modules_source = "KPCR.KdVersionBlock; its first entry is the kernel";
	}
	bool have_system = s.system, have_modules = s.modules;
	if (!have_system || !have_modules)
		search_data(&s);
	if (!have_system)
		s.system_source = "a search of the kernel's data";
	if (!s.system) {
		search_ring(&s);
		s.system_source = "the list of processes, from the current one on";
	}
	if (!have_modules)
		s.modules_source = "a search of the kernel's data; its first entry is the kernel";
	settle_system(&s);
	settle_processes(&s);
	settle_modules(&s);
	windows_settle_objects(os, space);
}
