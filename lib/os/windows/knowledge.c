/* SPDX-License-Identifier: Apache-2.0 */
#include "os/windows/knowledge.h"

#include <stdio.h>

#include "os/windows/tables.h"

void windows_pdb_key(const uint8_t guid[16], uint32_t age, char ret[WINDOWS_PDB_KEY_BYTES])
{
	int len = snprintf(ret, WINDOWS_PDB_KEY_BYTES, "%08X%04X%04X", load_le32(guid),
			   load_le16(guid + 4), load_le16(guid + 6));
	for (size_t i = 8; i < 16; i++)
		len += snprintf(ret + len, WINDOWS_PDB_KEY_BYTES - (size_t)len, "%02X", guid[i]);
	snprintf(ret + len, WINDOWS_PDB_KEY_BYTES - (size_t)len, "%X", age);
}

/* What is being put together: each part comes from the best source that has it. */
struct load {
	struct hvmi_os *os;
	const struct windows_kernel_id *id;
	struct windows_knowledge knowledge;
	struct hvmi_error *err;
};

static void state_types(struct load *load, const char *source, enum hvmi_confidence confidence)
{
	char value[48];
	snprintf(value, sizeof(value), "%u types", load->os->profile->types.type_count);
	os_fact(load->os, "types", confidence, HVMI_NO_ADDRESS, 0, value, "%s", source);
}

static int load_built_in_types(struct load *load)
{
	static const struct {
		enum windows_source source;
		enum hvmi_confidence confidence;
		const char *text;
	} matches[] = {
		[TABLES_NEAREST] = { WINDOWS_SOURCE_NEAREST, HVMI_CONFIDENCE_LOW,
				     "built in, of %s, the nearest release that is known" },
		[TABLES_BUILD] = { WINDOWS_SOURCE_RELEASE, HVMI_CONFIDENCE_MEDIUM,
				   "built in, of %s, the same build" },
		[TABLES_EXACT] = { WINDOWS_SOURCE_RELEASE, HVMI_CONFIDENCE_HIGH,
				   "built in, of %s, this very release" },
	};
	struct tables_layout layout;
	char source[96];
	int err = tables_types(load->id, &load->os->profile->types, &layout);

	if (err == -ENOENT) {
		os_fact(load->os, "types", HVMI_CONFIDENCE_UNKNOWN, HVMI_NO_ADDRESS, 0, "none",
			"nothing is built in for machine type 0x%x", load->id->machine);
		return 0;
	}
	if (err < 0)
		return hvmi_error_set(load->err, err, HVMI_NO_ADDRESS, "no memory for types");
	load->knowledge.types = matches[layout.match].source;
	snprintf(load->knowledge.release, sizeof(load->knowledge.release), "%s", layout.release);
	snprintf(source, sizeof(source), matches[layout.match].text, layout.release);
	state_types(load, source, matches[layout.match].confidence);
	return 0;
}

static int load_built_in_symbols(struct load *load)
{
	struct symbols *symbols = &load->os->profile->symbols;
	char release[24], value[48];
	int err = load->id->pdb_name[0] ? tables_symbols(load->id, symbols, release) : -ENOENT;

	if (err == -ENOENT) {
		os_fact(load->os, "symbols", HVMI_CONFIDENCE_UNKNOWN, HVMI_NO_ADDRESS, 0, "none",
			"%s; give a PDB or ISF file of it for all symbols",
			load->id->pdb_name[0] ? "the kernel's PDB id is not among those built in" :
						"the kernel's PDB id is not known");
		return 0;
	}
	if (err < 0)
		return hvmi_error_set(load->err, err, HVMI_NO_ADDRESS, "no memory for symbols");
	load->knowledge.symbols = WINDOWS_SOURCE_PDB_ID;
	snprintf(value, sizeof(value), "%u symbols", symbols->count);
	os_fact(load->os, "symbols", HVMI_CONFIDENCE_HIGH, HVMI_NO_ADDRESS, 0, value,
		"built in, of %s, by the kernel's PDB id", release);
	return 0;
}

int windows_knowledge_load(struct hvmi_os *os, const struct windows_kernel_id *id,
			   struct windows_knowledge *ret, struct hvmi_error *err)
{
	struct load load = { .os = os, .id = id, .err = err };

	os->profile->pointer_bytes = id->machine == WINDOWS_MACHINE_X86 ? 4 : 8;
	int rc = load_built_in_types(&load);
	if (rc == 0)
		rc = load_built_in_symbols(&load);
	if (rc == 0 && symbols_freeze(&os->profile->symbols) < 0)
		rc = hvmi_error_set(err, -ENOMEM, HVMI_NO_ADDRESS, "no memory for symbols");
	if (rc == 0)
		*ret = load.knowledge;
	return rc;
}

int windows_knowledge_symbol(struct hvmi_os *os, const char *name, uint64_t gva)
{
	uint64_t known;

	if (symbols_find(&os->profile->symbols, name, &known) == 0)
		return 0;
	return symbols_add(&os->profile->symbols, gva, 0, name, strlen(name));
}
