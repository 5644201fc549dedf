/* SPDX-License-Identifier: Apache-2.0 */
#include "os/windows/knowledge.h"

#include <stdio.h>

#include "os/windows/files.h"
#include "os/windows/tables.h"
#include "profile/offsets.h"

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
	struct files_knowledge offsets;		/* to be applied last */
	struct hvmi_error *err;
};

static void state_types(struct load *load, const char *source, enum hvmi_confidence confidence)
{
	char value[48];
	snprintf(value, sizeof(value), "%u types", load->os->profile->types.type_count);
	os_fact(load->os, "types", confidence, HVMI_NO_ADDRESS, 0, value, "%s", source);
}

static void state_symbols(struct load *load, const char *source, enum hvmi_confidence confidence)
{
	char value[48];
	snprintf(value, sizeof(value), "%u symbols", load->os->profile->symbols.count);
	os_fact(load->os, "symbols", confidence, HVMI_NO_ADDRESS, 0, value, "%s", source);
}

/* Take from a file what is not known yet. */
static void take(struct load *load, struct files_knowledge *file, enum windows_source source,
		 const char *path)
{
	struct hvmi_profile *profile = load->os->profile;
	enum hvmi_confidence confidence = file->is_other ? HVMI_CONFIDENCE_LOW :
					  file->has_id && load->id->pdb_name[0] ?
							   HVMI_CONFIDENCE_HIGH :
							   HVMI_CONFIDENCE_MEDIUM;
	char text[400];

	snprintf(text, sizeof(text), "%s '%.300s', %s",
		 source == WINDOWS_SOURCE_PROFILE ? "the given profile" : "on the symbol path:", path,
		 file->is_other			       ? "of another kernel, as forced" :
		 confidence == HVMI_CONFIDENCE_HIGH ? "which has the kernel's PDB id" :
						       "which cannot be told to be of this kernel");
	/* Some public PDBs lack the kernel's structures: then what is built in knows more. */
	if (load->knowledge.types == WINDOWS_SOURCE_NONE &&
	    types_find(&file->types, "_EPROCESS") != TYPE_NONE) {
		profile->types = file->types;
		file->types = (struct types){ 0 };
		load->knowledge.types = source;
		state_types(load, text, confidence);
	}
	if (load->knowledge.symbols == WINDOWS_SOURCE_NONE && file->symbols.count) {
		profile->symbols = file->symbols;
		file->symbols = (struct symbols){ 0 };
		load->knowledge.symbols = source;
		state_symbols(load, text, confidence);
	}
}

static int load_profile(struct load *load)
{
	const struct hvmi_os_options *options = &load->os->options;
	struct files_knowledge file;

	if (!options->profile)
		return 0;
	int rc = files_load(options->profile, load->id, options->flags & HVMI_OS_FORCE_PROFILE,
			    &file, load->err);
	if (rc < 0)
		return rc;
	if (file.format == FILES_OFFSETS) {
		load->offsets = file;
		return 0;
	}
	take(load, &file, WINDOWS_SOURCE_PROFILE, options->profile);
	files_free(&file);
	return 0;
}

static bool is_complete(const struct load *load)
{
	return load->knowledge.types != WINDOWS_SOURCE_NONE &&
	       load->knowledge.symbols != WINDOWS_SOURCE_NONE;
}

static int load_path(struct load *load)
{
	const char *folders = load->os->options.symbol_path;
	struct files_knowledge file;
	char path[512];

	if (!folders || is_complete(load))
		return 0;
	int rc = files_search(load->os->vm, folders, load->id, &file, path, sizeof(path));
	if (rc == -ENOMEM)
		return hvmi_error_set(load->err, rc, HVMI_NO_ADDRESS, "no memory for symbols");
	if (rc < 0)
		return 0;
	take(load, &file, WINDOWS_SOURCE_PATH, path);
	files_free(&file);
	return 0;
}

static int apply_offsets(struct load *load)
{
	struct hvmi_profile *profile = load->os->profile;
	const struct files_knowledge *file = &load->offsets;

	if (!file->offsets)
		return 0;
	uint32_t known = profile->symbols.count;
	int rc = offsets_load(file->offsets, file->offsets_len, load->id->base,
			      profile->pointer_bytes, &profile->types, &profile->symbols, load->err);
	if (rc < 0)
		return rc;
	char value[48];
	snprintf(value, sizeof(value), "%u symbols, and members", profile->symbols.count - known);
	os_fact(load->os, "offsets", HVMI_CONFIDENCE_MEDIUM, HVMI_NO_ADDRESS, 0, value,
		"the given file '%.300s'%s", load->os->options.profile,
		file->is_other ? ", of another kernel, as forced" :
		file->has_id   ? "" : ", which does not say of which kernel it is");
	return 0;
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

	if (load->knowledge.types != WINDOWS_SOURCE_NONE)
		return 0;
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
	char release[24], source[96];

	if (load->knowledge.symbols != WINDOWS_SOURCE_NONE)
		return 0;
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
	snprintf(source, sizeof(source), "built in, of %s, by the kernel's PDB id", release);
	state_symbols(load, source, HVMI_CONFIDENCE_HIGH);
	return 0;
}

int windows_knowledge_load(struct hvmi_os *os, const struct windows_kernel_id *id,
			   struct windows_knowledge *ret, struct hvmi_error *err)
{
	struct load load = { .os = os, .id = id, .err = err };

	os->profile->pointer_bytes = id->machine == WINDOWS_MACHINE_X86 ? 4 : 8;
	int rc = load_profile(&load);
	if (rc == 0)
		rc = load_path(&load);
	if (rc == 0)
		rc = load_built_in_types(&load);
	if (rc == 0)
		rc = load_built_in_symbols(&load);
	if (rc == 0)
		rc = apply_offsets(&load);
	files_free(&load.offsets);
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
