/* SPDX-License-Identifier: Apache-2.0 */
#include <inttypes.h>
#include <stdio.h>

#include <hvmi/pe.h>

#include "os/list.h"
#include "os/windows/debugger.h"
#include "os/windows/search.h"

/* Where the linker puts kernels. */
#define LINKED_BASE_64 0x140000000ull
#define LINKED_BASE_32 0x400000ull
#define SECTION_DISCARDABLE 0x02000000u
#define LAB_BYTES 128u
#define VCPUS_CHECKED_MAX 1024u
#define SHADOWS_CHECKED_MAX 256u
#define ROOT_ADDRESS 0x000ffffffffff000ull

/* Version. */

/* Free builds have 0xf in the upper four bits, checked ones 0xc. */
static uint32_t read_build(struct hvmi_os *os, struct hvmi_space *space, const char **source_ret)
{
	struct windows_os *data = windows_data(os);
	struct hvmi_pe_export export = { .size = sizeof(export) };
	struct hvmi_pe *pe;
	uint32_t number = 0;
	*source_ret = "KUSER_SHARED_DATA.NtBuildNumber";
	if (data->shared.build)
		return data->shared.build;
	*source_ret = "the export NtBuildNumber";
	if (hvmi_pe_open(space, data->found.image.base, &pe, NULL) == 0) {
		if (hvmi_pe_find_export(pe, "NtBuildNumber", &export, NULL) ||
		    hvmi_space_read(space, export.gva, &number, sizeof(number), NULL))
			number = 0;
		hvmi_pe_close(pe);
		if (number)
			return number & 0xffff;
	}
	*source_ret = "nothing that tells it";
	return 0;
}

/* 379 of 10.0.17763.379, if the image's version resource is in memory and of this build. */
static uint32_t read_revision(struct hvmi_space *space, const struct windows_kernel_id *id)
{
	struct hvmi_pe_version version = { .size = sizeof(version) };
	struct hvmi_pe *pe;
	if (hvmi_pe_open(space, id->base, &pe, NULL))
		return 0;
	int rc = hvmi_pe_version(pe, &version, NULL);
	hvmi_pe_close(pe);
	return rc || version.file[2] != id->build ? 0 : version.file[3];
}

static bool is_lab_char(uint8_t c)
{
	return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
	       c == '.' || c == '_' || c == '-' || c == '(' || c == ')';
}

/* "17763.1.amd64fre.rs5_release.180914-1434" around the mark at `at`. */
static bool lab_around(const uint8_t *bytes, size_t len, size_t at, char lab[LAB_BYTES],
		       size_t *first_ret)
{
	size_t first = at, end = at;
	while (first > 0 && at - first < 32 && is_lab_char(bytes[first - 1]))
		first--;
	while (end < len && end - first < LAB_BYTES - 1 && is_lab_char(bytes[end]))
		end++;
	if (first == at || bytes[first] < '1' || bytes[first] > '9' || end == len || bytes[end])
		return false;
	memcpy(lab, bytes + first, end - first);
	lab[end - first] = '\0';
	*first_ret = first;
	return true;
}

static const char *machine_name(const struct hvmi_os *os)
{
	switch (windows_data(os)->found.image.machine) {
	case WINDOWS_MACHINE_X64:
		return "x64";
	case WINDOWS_MACHINE_ARM64:
		return "arm64";
	default:
		return os->kernel.paging == HVMI_PAGING_X86_PAE ? "x86 PAE" : "x86";
	}
}

/* NtBuildLab, by its symbol or by what it looks like. */
static uint64_t read_lab(struct hvmi_os *os, struct hvmi_space *space, char lab[LAB_BYTES])
{
	static const char *const names[] = { "NtBuildLabEx", "NtBuildLab" };
	const struct windows_image *image = &windows_data(os)->found.image;
	uint64_t gva;
	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		if (symbols_find(&os->profile->symbols, names[i], &gva) == 0 &&
		    hvmi_space_read_string(space, gva, lab, LAB_BYTES, NULL) == 0 && *lab >= '1' &&
		    *lab <= '9')
			return gva;
	const char *mark = image->machine == WINDOWS_MACHINE_X86   ? ".x86fre." :
			   image->machine == WINDOWS_MACHINE_ARM64 ? ".arm64fre." : ".amd64fre.";
	for (uint32_t i = 0; i < image->section_count; i++) {
		const struct windows_section *section = &image->sections[i];
		if (section->flags & (SECTION_EXECUTE | SECTION_DISCARDABLE))
			continue;
		uint8_t pages[2 * FRAME_SIZE];	/* two, for one that lies across */
		for (uint32_t at = 0; at < section->bytes; at += FRAME_SIZE) {
			size_t got = 0;
			gva = image->base + section->rva + at;
			hvmi_space_read(space, gva, pages, sizeof(pages), &got);
			const uint8_t *found = got ? memmem(pages, got, mark, strlen(mark)) : NULL;
			size_t mark_at = found ? (size_t)(found - pages) : 0, first;
			if (found && lab_around(pages, got, mark_at, lab, &first))
				return gva + first;
		}
	}
	lab[0] = '\0';
	return 0;
}

static void state_release(struct hvmi_os *os, struct hvmi_space *space, const char *build_source)
{
	struct windows_os *data = windows_data(os);
	const struct windows_kernel_id *id = &data->id;
	char lab[LAB_BYTES], build[16];
	uint64_t at = read_lab(os, space, lab), gpa;
	snprintf(build, sizeof(build), "%u.", id->build);
	bool agrees = strncmp(lab, build, strlen(build)) == 0;
	snprintf(os->release, sizeof(os->release), "%u.%u.%u", id->major, id->minor, id->build);
	snprintf(os->banner, sizeof(os->banner), "Windows %s %s%s%s", os->release,
		 machine_name(os), *lab ? " " : "", lab);
	os_fact(os, "release", !id->build ? HVMI_CONFIDENCE_LOW :
		agrees ? HVMI_CONFIDENCE_HIGH : HVMI_CONFIDENCE_MEDIUM, data->shared.gpa, 0,
		os->release, "KUSER_SHARED_DATA; build: %s%s", build_source,
		agrees ? "; NtBuildLab agrees" : "");
	if (!at || hvmi_space_translate(space, at, &gpa))
		gpa = HVMI_NO_ADDRESS;
	os_fact(os, "banner", *lab ? HVMI_CONFIDENCE_MEDIUM : HVMI_CONFIDENCE_UNKNOWN, gpa, 0,
		*lab ? lab : "not in memory", "NtBuildLab");
}

/* The kernel. */

static void state_kernel(struct hvmi_os *os)
{
	struct windows_os *data = windows_data(os);
	const struct windows_image *image = &data->found.image;
	char value[160], key[WINDOWS_PDB_KEY_BYTES];
	bool wide = data->pointer_bytes == 8;
	os->info.arch = image->machine == WINDOWS_MACHINE_ARM64 ? HVMI_ARCH_ARM64 : HVMI_ARCH_X86;
	os->info.levels = os->kernel.paging == HVMI_PAGING_X86_5LEVEL ? 5 :
			  os->kernel.paging == HVMI_PAGING_X86_PAE    ? 3 :
			  os->kernel.paging == HVMI_PAGING_X86_32     ? 2 : 4;
	os->info.kernel_gva = image->base;
	os->info.kernel_gpa = data->found.image_gpa;
	os->info.kernel_len = image->bytes;
	os->info.slide = (int64_t)(image->base - (wide ? LINKED_BASE_64 : LINKED_BASE_32));
	snprintf(value, sizeof(value), "gva 0x%" PRIx64 ", gpa 0x%" PRIx64 ", %u KiB, %s",
		 image->base, data->found.image_gpa, image->bytes / 1024,
		 machine_name(os));
	if (data->found.at == HVMI_NO_ADDRESS)
		os_fact(os, "kernel", HVMI_CONFIDENCE_HIGH, data->found.image_gpa, image->bytes, value,
			"%s", data->found.how);
	else
		os_fact(os, "kernel", HVMI_CONFIDENCE_HIGH, data->found.image_gpa, image->bytes, value,
			"%s at gpa 0x%" PRIx64, data->found.how, data->found.at);
	if (image->pdb_name[0]) {
		windows_pdb_key(image->pdb_guid, image->pdb_age, key);
		snprintf(value, sizeof(value), "%s %s", image->pdb_name, key);
	}
	os_fact(os, "pdb", image->pdb_name[0] ? HVMI_CONFIDENCE_HIGH : HVMI_CONFIDENCE_UNKNOWN,
		HVMI_NO_ADDRESS, 0, image->pdb_name[0] ? value : "not in memory",
		"the image's CodeView record: name of the PDB, GUID and age");
}

/* A process's root for user mode, which lacks the kernel; 0: none of the first has one. */
static uint64_t find_user_root(struct hvmi_os *os, struct hvmi_space *space)
{
	const struct windows_os *data = windows_data(os);
	struct list_walk walk;
	uint64_t link, root;
	if (!data->processes || !windows_has(os, WINDOWS_PROCESS_USER_ROOT))
		return 0;
	list_begin(&walk, space, data->processes, data->pointer_bytes, SHADOWS_CHECKED_MAX);
	while (list_next(&walk, &link, "processes", NULL) == 1) {
		uint8_t first;
		if (windows_read_pointer(os, space, WINDOWS_PROCESS_USER_ROOT,
					 link - windows_offset(os, WINDOWS_PROCESS_LINKS), &root))
			continue;
		root &= ROOT_ADDRESS;
		if (root && hvmi_vm_read(os->vm, root, &first, 1, NULL) == 0 &&
		    !windows_root_maps(os->vm, &data->found, root))
			return root;
	}
	return 0;
}

/*
 * KVA shadow: then entries from user mode are in a section of their own. Without registers it shows
 * in processes; that none of them is shadowed proves nothing.
 */
static void state_shadow(struct hvmi_os *os, struct hvmi_space *space)
{
	const struct windows_os *data = windows_data(os);
	const struct windows_image *image = &data->found.image;
	uint64_t lstar;
	if (data->found.shadow_root != HVMI_NO_ADDRESS) {
		os_fact(os, "kpti", HVMI_CONFIDENCE_HIGH, data->found.shadow_root, FRAME_SIZE, "on",
			"a vCPU is in a root that lacks the kernel");
		return;
	}
	if (hvmi_vm_register(os->vm, 0, HVMI_X86_LSTAR, &lstar)) {
		uint64_t root = find_user_root(os, space);
		if (root)
			os_fact(os, "kpti", HVMI_CONFIDENCE_MEDIUM, root, FRAME_SIZE, "on",
				"a process has a root for user mode, which lacks the kernel");
		return;
	}
	for (uint32_t i = 0; lstar >= image->base && i < image->section_count; i++) {
		const struct windows_section *section = &image->sections[i];
		if (lstar - image->base - section->rva >= section->bytes)
			continue;
		bool on = strcmp(section->name, "KVASCODE") == 0;
		os_fact(os, "kpti", HVMI_CONFIDENCE_HIGH, HVMI_NO_ADDRESS, 0, on ? "on" : "off",
			"LSTAR is in section %s", section->name);
		return;
	}
}

static void state_root(struct hvmi_os *os)
{
	const struct windows_os *data = windows_data(os);
	struct hvmi_vm_info info = { .size = sizeof(info) };
	uint32_t vcpus = 0, agree = 0;
	char value[32];
	hvmi_vm_get_info(os->vm, &info);
	for (uint32_t i = 0; i < MIN(info.vcpus, VCPUS_CHECKED_MAX); i++) {
		uint64_t cr3;
		if (hvmi_vm_register(os->vm, i, HVMI_X86_CR3, &cr3))
			continue;
		vcpus++;
		agree += windows_root_maps(os->vm, &data->found, cr3);
	}
	snprintf(value, sizeof(value), "0x%" PRIx64, os->kernel.root);
	bool own = data->system && os->kernel.root != data->found.config.root;
	own = own || data->system;
	os_fact(os, "root", data->system ? HVMI_CONFIDENCE_HIGH : HVMI_CONFIDENCE_LOW,
		os->kernel.root, FRAME_SIZE, value, "%s; CR3 of %u of %u vCPUs maps the same kernel",
		own ? "that of System" : "that in which the kernel was found: System's is unknown",
		agree, vcpus);
}

/* Every export is a symbol, too: what a table by PDB id lacks. */
static void add_exports(struct hvmi_os *os, struct hvmi_space *space)
{
	struct hvmi_pe_export export = { .size = sizeof(export) };
	struct hvmi_pe *pe;
	uint32_t cursor = 0, added = 0;
	char value[64];
	if (hvmi_pe_open(space, windows_data(os)->found.image.base, &pe, NULL))
		return;
	while (hvmi_pe_next_export(pe, &cursor, &export, NULL) == 1)
		if (export.name[0] && export.gva != HVMI_NO_ADDRESS)
			added += windows_knowledge_symbol(os, export.name, export.gva) == 0;
	hvmi_pe_close(pe);
	if (!added)
		return;
	if (symbols_freeze(&os->profile->symbols))
		return;
	snprintf(value, sizeof(value), "%u symbols", added);
	os_fact(os, "exports", HVMI_CONFIDENCE_HIGH, HVMI_NO_ADDRESS, 0, value,
		"the export directory of the kernel image");
}

static int attach(struct hvmi_os *os, int (*find)(struct hvmi_vm *vm, struct windows_found *ret),
		  struct hvmi_error *err)
{
	struct windows_os *data = calloc(1, sizeof(*data));
	struct hvmi_space *space;
	const char *build_source;
	if (!data)
		return hvmi_error_set(err, -ENOMEM, HVMI_NO_ADDRESS, "out of memory");
	os->data = data;
	int rc = find(os->vm, &data->found);
	if (rc)
		return rc;
	os->recognised = true;
	const struct windows_image *image = &data->found.image;
	os->kernel = data->found.config;
	/* What arm64 has in entries that are not present is another story. */
	if (image->machine != WINDOWS_MACHINE_ARM64)
		os->kernel.flags |= HVMI_SPACE_WINDOWS;
	data->pointer_bytes = image->machine == WINDOWS_MACHINE_X86 ? 4 : 8;
	data->user_end = data->pointer_bytes == 8 ? 0x800000000000ull : 0xc0000000ull;
	rc = hvmi_space_create(os->vm, &os->kernel, &space, err);
	if (rc)
		return rc;
	windows_shared_read(space, &data->shared);
	data->id = (struct windows_kernel_id){
		.age = image->pdb_age, .machine = image->machine, .base = image->base,
		.major = (uint16_t)data->shared.major, .minor = (uint16_t)data->shared.minor,
		.build = read_build(os, space, &build_source),
	};
	memcpy(data->id.guid, image->pdb_guid, sizeof(data->id.guid));
	memcpy(data->id.pdb_name, image->pdb_name, sizeof(data->id.pdb_name));
	data->id.revision = read_revision(space, &data->id);
	state_kernel(os);
	rc = windows_knowledge_load(os, &data->id, &data->knowledge, err);
	if (!rc) {
		os->profile->pointer_bytes = data->pointer_bytes;
		add_exports(os, space);
		windows_debugger_read(os, space);
		state_release(os, space, build_source);
		windows_members_find(os->profile, data->members);
		windows_process_plan(data);
		windows_settle(os, space);
		windows_search(os, space);
		state_shadow(os, space);
		state_root(os);
	}
	hvmi_space_destroy(space);
	return rc;
}

/* What is cheap. */
static int find_first(struct hvmi_vm *vm, struct windows_found *ret)
{
	int rc = windows_find_by_header(vm, ret);
	if (rc == -ENOENT)
		rc = windows_find_by_registers(vm, ret);
	return rc == -ENOENT ? windows_find_by_stub(vm, ret) : rc;
}

static int attach_first(struct hvmi_os *os, struct hvmi_error *err)
{
	return attach(os, find_first, err);
}

static int attach_search(struct hvmi_os *os, struct hvmi_error *err)
{
	return attach(os, windows_find_by_tables, err);
}

static void detach(struct hvmi_os *os)
{
	free(os->data);
	os->data = NULL;
}

#define WINDOWS_OPS(how)                                                                           \
	{                                                                                          \
		.kind = HVMI_OS_WINDOWS, .name = "Windows", .attach = how, .detach = detach,       \
		.task_begin = windows_task_begin, .task_next = windows_task_next,                  \
		.task_end = windows_task_end, .task_strings = windows_task_strings,                \
		.task_path = windows_task_path, .task_current = windows_task_current,             \
		.stacks = windows_stacks,                                                          \
		.module_begin = windows_module_begin, .module_next = windows_module_next,          \
		.module_begin_task = windows_module_begin_task,                                    \
		.module_end = windows_module_end, .region_begin = windows_region_begin,            \
		.region_next = windows_region_next, .region_end = windows_region_end,              \
	}

const struct os_ops *windows_ops(void)
{
	static const struct os_ops ops = WINDOWS_OPS(attach_first);
	return &ops;
}

const struct os_ops *windows_search_ops(void)
{
	static const struct os_ops ops = WINDOWS_OPS(attach_search);
	return &ops;
}
