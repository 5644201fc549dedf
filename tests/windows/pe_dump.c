/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pe_dump IMAGE BASE [PAGE...]: prints all that is read of an image as it is mapped (IMAGE is that:
 * one byte of file for each of memory), without the pages that are given.
 */
#include <inttypes.h>
#include <stdio.h>

#include "profile/pe.h"

struct mapped {
	uint8_t *bytes;
	size_t len;
	uint64_t base;
	char **absent;
	int absent_count;
};

static int read_mapped(void *context, uint64_t address, void *buf, size_t len)
{
	const struct mapped *m = context;

	if (address < m->base || address - m->base > m->len || len > m->len - (address - m->base))
		return -EFAULT;
	uint64_t at = address - m->base;
	for (int i = 0; i < m->absent_count; i++) {
		uint64_t page = strtoull(m->absent[i], NULL, 0);
		if (len && at / FRAME_SIZE <= page && page <= (at + len - 1) / FRAME_SIZE)
			return -EFAULT;
	}
	memcpy(buf, m->bytes + at, len);
	return 0;
}

static void print_header(struct hvmi_pe *pe)
{
	struct hvmi_pe_info info = { .size = sizeof(info) };
	struct hvmi_pe_section section = { .size = sizeof(section) };
	struct hvmi_pe_debug debug = { .size = sizeof(debug) };
	struct hvmi_pe_version version = { .size = sizeof(version) };
	struct hvmi_error err;

	hvmi_pe_get_info(pe, &info);
	printf("info\t0x%x\t0x%" PRIx64 "\t0x%" PRIx64 "\t0x%x\t%u\n", info.machine, info.bytes,
	       info.entry, info.characteristics, info.pointer_bytes);
	for (uint32_t i = 0; i < info.sections; i++)
		if (hvmi_pe_section(pe, i, &section) == 0)
			printf("section\t%s\t0x%" PRIx64 "\t0x%" PRIx64 "\t%u\n", section.name,
			       section.gva, section.bytes, section.rights);
	int rc = hvmi_pe_debug(pe, &debug, &err);
	printf("debug\t%s\t%s\n", rc ? hvmi_error_name(rc) : debug.key, rc ? "" : debug.name);
	rc = hvmi_pe_version(pe, &version, &err);
	printf("version\t%s\t%u.%u.%u.%u\t%u.%u.%u.%u\n", rc ? hvmi_error_name(rc) : "",
	       version.file[0], version.file[1], version.file[2], version.file[3],
	       version.product[0], version.product[1], version.product[2], version.product[3]);
}

static void print_tables(struct hvmi_pe *pe)
{
	struct hvmi_pe_export export = { .size = sizeof(export) };
	struct hvmi_pe_import import = { .size = sizeof(import) };
	struct hvmi_error err;
	uint32_t at = 0;
	uint64_t place = 0;
	int rc;

	while ((rc = hvmi_pe_next_export(pe, &at, &export, &err)) == 1)
		printf("export\t%u\t%s\t0x%" PRIx64 "\t%s\t%u\n", export.ordinal, export.name,
		       export.gva, export.forward, export.flags);
	printf("exports\t%s\n", rc ? hvmi_error_name(rc) : "");
	while ((rc = hvmi_pe_next_import(pe, &place, &import, &err)) == 1)
		printf("import\t%s\t%s\t%u\t%u\t0x%" PRIx64 "\t%u\n", import.module, import.name,
		       import.ordinal, import.hint, import.slot, import.flags);
	printf("imports\t%s\n", rc ? hvmi_error_name(rc) : "");
}

/* Every function, found by the address of its last byte. */
static void print_functions(struct hvmi_pe *pe)
{
	struct hvmi_pe_function f = { .size = sizeof(f) };
	struct hvmi_pe_info info = { .size = sizeof(info) };
	struct hvmi_error err;

	hvmi_pe_get_info(pe, &info);
	for (uint64_t gva = info.base; gva < info.base + info.bytes; gva++) {
		if (hvmi_pe_function(pe, gva, &f, &err) != 0)
			continue;
		printf("function\t0x%" PRIx64 "\t0x%" PRIx64 "\t%u\t%u\t%u\t%u", f.start, f.end,
		       f.flags, f.prolog_bytes, f.frame_register, f.frame_offset);
		for (uint32_t i = 0; i < f.code_count; i++)
			printf("%s%04x", i ? " " : "\t", f.codes[i]);
		printf("\n");
		gva = f.end - 1;
	}
}

int main(int argc, char **argv)
{
	struct mapped m = { 0 };
	struct hvmi_pe *pe;
	struct hvmi_error err;

	FILE *file = argc >= 3 ? fopen(argv[1], "rb") : NULL;
	if (!file)
		return 2;
	m.bytes = malloc(64 * MIB);
	m.len = m.bytes ? fread(m.bytes, 1, 64 * MIB, file) : 0;
	fclose(file);
	m.base = strtoull(argv[2], NULL, 0);
	m.absent = argv + 3;
	m.absent_count = argc - 3;
	const struct source source = { read_mapped, &m };
	int rc = pe_open(&source, m.base, &pe, &err);
	if (rc == 0) {
		print_header(pe);
		print_tables(pe);
		print_functions(pe);
		hvmi_pe_close(pe);
	} else {
		printf("error\t%s\t%s\n", hvmi_error_name(rc), err.text);
	}
	free(m.bytes);
	return 0;
}
