/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An image as it is mapped: the first byte says which of its 8 first pages are absent, the rest is
 * what is there. Everything is asked of it.
 */
#include <stdlib.h>

#include "profile/pe.h"

#define BASE 0xfffff80012340000ull

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct mapped {
	const uint8_t *bytes;
	size_t len;
	uint8_t absent;
};

static int read_mapped(void *context, uint64_t address, void *buf, size_t len)
{
	const struct mapped *m = context;
	uint64_t at = address - BASE;

	if (at > m->len || len > m->len - at)
		return -EFAULT;
	for (uint64_t page = at / 512; len && page <= (at + len - 1) / 512 && page < 8; page++)
		if (m->absent >> page & 1)
			return -EFAULT;
	memcpy(buf, m->bytes + at, len);
	return 0;
}

static void check(int rc, const struct hvmi_error *err)
{
	if (rc < 0 && (rc != err->code || !err->text[0]))
		abort();
}

static void ask(struct hvmi_pe *pe)
{
	struct hvmi_pe_info info = { .size = sizeof(info) };
	struct hvmi_pe_section section = { .size = sizeof(section) };
	struct hvmi_pe_export export = { .size = sizeof(export) }, found = export;
	struct hvmi_pe_import import = { .size = sizeof(import) };
	struct hvmi_pe_debug debug = { .size = sizeof(debug) };
	struct hvmi_pe_version version = { .size = sizeof(version) };
	struct hvmi_pe_function function = { .size = sizeof(function) };
	struct hvmi_error err = { 0 };
	uint32_t at = 0, count = 0;
	uint64_t place = 0;
	int rc;

	hvmi_pe_get_info(pe, &info);
	for (uint32_t i = 0; i < info.sections; i++)
		if (hvmi_pe_section(pe, i, &section) == 0 &&
		    section.gva + section.bytes > info.base + info.bytes)
			abort();
	while ((rc = hvmi_pe_next_export(pe, &at, &export, &err)) == 1) {
		char name[64] = "";
		if (count++ > 2 * PE_EXPORTS_MAX)
			abort();
		if (export.gva != HVMI_NO_ADDRESS && export.gva - info.base >= info.bytes)
			abort();
		if (strlen(export.name) < sizeof(name))
			strcpy(name, export.name);
		if (name[0] && count < 16)
			check(hvmi_pe_find_export(pe, name, &found, &err), &err);
	}
	check(rc, &err);
	check(hvmi_pe_find_ordinal(pe, export.ordinal, &found, &err), &err);
	for (count = 0; count < 10000; count++) {
		rc = hvmi_pe_next_import(pe, &place, &import, &err);
		if (rc != 1)
			break;
	}
	check(rc, &err);
	check(hvmi_pe_debug(pe, &debug, &err), &err);
	check(hvmi_pe_version(pe, &version, &err), &err);
	for (uint32_t i = 0; i < 64; i++)
		check(hvmi_pe_function(pe, info.base + 0x1000 + i * 16, &function, &err), &err);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct mapped m = { data + 1, size ? size - 1 : 0, size ? data[0] : 0 };
	const struct source source = { read_mapped, &m };
	struct hvmi_error err = { 0 };
	struct hvmi_pe *pe;

	if (size == 0)
		return 0;
	int rc = pe_open(&source, BASE, &pe, &err);
	check(rc, &err);
	if (rc == 0) {
		ask(pe);
		hvmi_pe_close(pe);
	}
	return 0;
}
