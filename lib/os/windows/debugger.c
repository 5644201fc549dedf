/* SPDX-License-Identifier: Apache-2.0 */
#include "os/windows/debugger.h"

#include <inttypes.h>
#include <stdio.h>

#define NOTE_BYTES 2048u
#define BLOCK_BYTES 0x230u
#define BLOCK_BYTES_MAX 0x1000u
#define BLOCK_TAG 0x4742444bu		/* "KDBG" */
#define TAG_AT 0x10u
#define SIZE_AT 0x14u
#define BASE_AT 0x18u
/* Since 8 it is encoded while Windows runs. */
#define BUILD_ENCODED 9200u
/* KPCR.KdVersionBlock of x86, and DBGKD_GET_VERSION64.DebuggerDataList. */
#define KPCR_32 0xffdff000u
#define KPCR_VERSION 0x34u
#define VERSION_LIST 0x20u
#define DATA_BYTES_MAX (32u * 1024 * 1024)

/* The value of "NAME=" in the note; 0: it is not there. */
static uint64_t note_value(const char *note, const char *name)
{
	size_t len = strlen(name);
	for (const char *line = note; *line; line = strchr(line, '\n') + 1) {
		if (strncmp(line, name, len) == 0 && line[len] == '=')
			return strtoull(line + len + 1, NULL, 0);
		if (!strchr(line, '\n'))
			break;
	}
	return 0;
}

int windows_header_read(struct hvmi_vm *vm, struct windows_header *ret)
{
	char note[NOTE_BYTES];
	size_t len = 0;
	if (hvmi_vm_note(vm, "WINDOWS-DUMP", note, sizeof(note) - 1, &len))
		return -ENOENT;
	note[len] = '\0';
	*ret = (struct windows_header){
		.machine = (uint32_t)note_value(note, "MachineImageType"),
		.pae = note_value(note, "PaeEnabled") == 1,
		.root = note_value(note, "DirectoryTableBase"),
		.modules = note_value(note, "PsLoadedModuleList"),
		.processes = note_value(note, "PsActiveProcessHead"),
		.debugger = note_value(note, "KdDebuggerDataBlock"),
	};
	return 0;
}

/* KDDEBUGGER_DATA64: wdbgexts.h of the Windows SDK. All pointers have 64 bits. */
static const struct field {
	const char *name;
	uint32_t offset;
} fields[] = {
	{ "PsLoadedModuleList", 0x48 },		{ "PsActiveProcessHead", 0x50 },
	{ "PspCidTable", 0x58 },		{ "KeBugCheckCallbackListHead", 0x80 },
	{ "ObpRootDirectoryObject", 0x98 },	{ "NtBuildLab", 0x208 },
	{ "KiProcessorBlock", 0x218 },		{ "MmUnloadedDrivers", 0x220 },
	{ "MmLastUnloadedDriver", 0x228 },
};

static bool in_image(const struct windows_os *data, uint64_t gva)
{
	return gva - data->found.image.base < data->found.image.bytes;
}

static uint64_t block_pointer(const struct windows_os *data, const uint8_t *at)
{
	/* Those of 32 bits are sign-extended, or not. */
	return data->pointer_bytes == 8 ? load_le64(at) : load_le32(at);
}

static bool block_read(const struct hvmi_os *os, struct hvmi_space *space, uint64_t gva,
		       uint8_t block[BLOCK_BYTES])
{
	const struct windows_os *data = windows_data(os);
	return in_image(data, gva) &&
	       hvmi_space_read(space, gva, block, BLOCK_BYTES, NULL) == 0 &&
	       load_le32(block + TAG_AT) == BLOCK_TAG && load_le32(block + SIZE_AT) >= BLOCK_BYTES &&
	       load_le32(block + SIZE_AT) <= BLOCK_BYTES_MAX &&
	       block_pointer(data, block + BASE_AT) == data->found.image.base;
}

/* Searching the kernel's data, where it is not encoded. */
static uint64_t block_search(const struct hvmi_os *os, struct hvmi_space *space)
{
	const struct windows_os *data = windows_data(os);
	const struct windows_image *image = &data->found.image;
	uint32_t left = DATA_BYTES_MAX / FRAME_SIZE;
	uint8_t page[FRAME_SIZE], block[BLOCK_BYTES];
	for (uint32_t i = 0; i < image->section_count; i++) {
		const struct windows_section *section = &image->sections[i];
		if (!(section->flags & SECTION_WRITE) || section->flags & SECTION_EXECUTE)
			continue;
		for (uint32_t at = 0; at < section->bytes && left; at += FRAME_SIZE, left--) {
			uint64_t gva = image->base + section->rva + at;
			if (hvmi_space_read(space, gva, page, sizeof(page), NULL))
				continue;
			for (uint32_t o = 0; o < FRAME_SIZE; o += data->pointer_bytes)
				if (load_le32(page + o) == BLOCK_TAG &&
				    block_read(os, space, gva + o - TAG_AT, block))
					return gva + o - TAG_AT;
		}
	}
	return 0;
}

/* x86: the KPCR leads to it. */
static uint64_t block_by_kpcr(const struct hvmi_os *os, struct hvmi_space *space)
{
	uint64_t version, list, block;
	if (windows_data(os)->pointer_bytes == 8 ||
	    windows_pointer_at(os, space, KPCR_32 + KPCR_VERSION, &version) ||
	    windows_pointer_at(os, space, version + VERSION_LIST, &list) ||
	    windows_pointer_at(os, space, list, &block))
		return 0;
	return block;
}

static uint64_t block_find(const struct hvmi_os *os, struct hvmi_space *space, uint64_t by_header,
			   const char **source_ret)
{
	uint8_t block[BLOCK_BYTES];
	uint64_t gva;
	*source_ret = "the dump's header";
	if (block_read(os, space, by_header, block))
		return by_header;
	*source_ret = "KdDebuggerDataBlock";
	if (symbols_find(&os->profile->symbols, "KdDebuggerDataBlock", &gva) == 0 &&
	    block_read(os, space, gva, block))
		return gva;
	*source_ret = "KPCR.KdVersionBlock";
	gva = block_by_kpcr(os, space);
	if (gva && block_read(os, space, gva, block))
		return gva;
	*source_ret = "a search of the kernel's data";
	return windows_data(os)->id.build < BUILD_ENCODED ? block_search(os, space) : 0;
}

/* A head in the kernel's image with a list that is linked to it from both ends. */
static bool is_head(const struct hvmi_os *os, struct hvmi_space *space, uint64_t gva)
{
	uint32_t n = windows_data(os)->pointer_bytes;
	uint64_t next, previous, back, forth;
	return in_image(windows_data(os), gva) && windows_pointer_at(os, space, gva, &next) == 0 &&
	       windows_pointer_at(os, space, gva + n, &previous) == 0 &&
	       windows_pointer_at(os, space, next + n, &back) == 0 && back == gva &&
	       windows_pointer_at(os, space, previous, &forth) == 0 && forth == gva;
}

static uint32_t add(struct hvmi_os *os, const char *name, uint64_t gva)
{
	uint64_t known;
	return symbols_find(&os->profile->symbols, name, &known) != 0 &&
	       windows_knowledge_symbol(os, name, gva) == 0;
}

void windows_debugger_read(struct hvmi_os *os, struct hvmi_space *space)
{
	struct windows_os *data = windows_data(os);
	struct windows_header header = { 0 };
	uint8_t block[BLOCK_BYTES];
	uint32_t added = 0;
	const char *source;
	char value[48];
	if (windows_header_read(os->vm, &header) == 0) {
		if (is_head(os, space, header.modules))
			added += add(os, "PsLoadedModuleList", header.modules);
		if (is_head(os, space, header.processes))
			added += add(os, "PsActiveProcessHead", header.processes);
		snprintf(value, sizeof(value), "%u symbols", added);
		os_fact(os, "dump header", HVMI_CONFIDENCE_MEDIUM, HVMI_NO_ADDRESS, 0, value,
			"heads of lists in the crash dump's header, which are linked to");
		if (added && symbols_freeze(&os->profile->symbols))
			return;
	}
	uint64_t gva = block_find(os, space, header.debugger, &source), gpa;
	if (!gva || !block_read(os, space, gva, block) || hvmi_space_translate(space, gva, &gpa))
		return;
	added = 0;
	for (size_t i = 0; i < ARRAY_SIZE(fields); i++) {
		uint64_t place = block_pointer(data, block + fields[i].offset);
		if (in_image(data, place))
			added += add(os, fields[i].name, place);
	}
	if (added && symbols_freeze(&os->profile->symbols))
		return;
	snprintf(value, sizeof(value), "0x%" PRIx64, gva);
	os_fact(os, "debugger data", HVMI_CONFIDENCE_MEDIUM, gpa, BLOCK_BYTES, value,
		"%s; its KernBase is the kernel's; %u symbols", source, added);
}
