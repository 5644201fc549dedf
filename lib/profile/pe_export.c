/* SPDX-License-Identifier: Apache-2.0 */
#include "profile/pe.h"

#define DIRECTORY_BYTES 40u

void pe_exports_free(struct pe_exports *exports)
{
	if (!exports)
		return;
	free(exports->functions);
	free(exports->names);
	free(exports->ordinals);
	free(exports->named);
	free(exports);
}

int pe_export_name(const struct hvmi_pe *pe, char *buf, uint32_t size)
{
	uint8_t directory[DIRECTORY_BYTES];
	const struct pe_range *range = &pe->directories[PE_EXPORT];

	if (range->rva == 0)
		return -ENOENT;
	int rc = pe_read(pe, range->rva, directory, sizeof(directory));
	return rc < 0 ? rc : pe_read_text(pe, load_le32(directory + 12), buf, size);
}

/* An array of numbers, as much of it as is in memory. */
static int read_numbers(const struct hvmi_pe *pe, uint32_t rva, uint32_t count, uint32_t bytes,
			uint32_t **ret)
{
	uint8_t chunk[256];
	uint32_t *numbers = malloc(MAX(count, 1u) * sizeof(*numbers));

	if (!numbers)
		return -ENOMEM;
	*ret = numbers;
	for (uint32_t done = 0; done < count;) {
		uint64_t at = (uint64_t)rva + (uint64_t)done * bytes;
		/* Up to a multiple of the chunk: what is absent is absent by pages. */
		uint32_t n = MIN((uint32_t)(sizeof(chunk) - at % sizeof(chunk)) / bytes,
				 count - done);
		n = MAX(n, 1u);
		int rc = at > pe->bytes ? -EBADMSG : pe_read(pe, (uint32_t)at, chunk, n * bytes);
		if (rc < 0 && rc != -EFAULT)
			return rc;
		for (uint32_t i = 0; i < n; i++)
			numbers[done + i] = rc < 0     ? PE_MISSING :
					    bytes == 2 ? load_le16(chunk + i * 2) :
							 load_le32(chunk + i * 4);
		done += n;
	}
	return 0;
}

static int read_tables(const struct hvmi_pe *pe, struct pe_exports *e)
{
	uint8_t directory[DIRECTORY_BYTES];
	const struct pe_range *range = &pe->directories[PE_EXPORT];

	if (range->rva == 0)
		return 0;
	int rc = pe_read(pe, range->rva, directory, sizeof(directory));
	if (rc < 0)
		return rc;
	e->ordinal_base = load_le32(directory + 16);
	uint32_t functions = load_le32(directory + 20), names = load_le32(directory + 24);
	if (functions > PE_EXPORTS_MAX || names > PE_EXPORTS_MAX)
		return -EBADMSG;
	rc = read_numbers(pe, load_le32(directory + 28), functions, 4, &e->functions);
	if (rc == 0)
		rc = read_numbers(pe, load_le32(directory + 32), names, 4, &e->names);
	if (rc == 0)
		rc = read_numbers(pe, load_le32(directory + 36), names, 2, &e->ordinals);
	if (rc < 0)
		return rc;
	e->named = calloc(MAX(functions, 1u), 1);
	if (!e->named)
		return -ENOMEM;
	for (uint32_t i = 0; i < names; i++) {
		e->unsure |= e->ordinals[i] == PE_MISSING;
		if (e->ordinals[i] < functions)
			e->named[e->ordinals[i]] = 1;
	}
	e->function_count = functions;
	e->name_count = names;
	return 0;
}

static int load_exports(struct hvmi_pe *pe, struct hvmi_error *err)
{
	if (pe->exports)
		return 0;
	struct pe_exports *exports = calloc(1, sizeof(*exports));
	int rc = exports ? read_tables(pe, exports) : -ENOMEM;
	if (rc < 0) {
		pe_exports_free(exports);
		return pe_failed(rc, pe, "the export directory", err);
	}
	pe->exports = exports;
	return 0;
}

/* An RVA inside the directory itself is that of a text: "MODULE.Name" or "MODULE.#12". */
static bool is_forward(const struct hvmi_pe *pe, uint32_t rva)
{
	const struct pe_range *range = &pe->directories[PE_EXPORT];
	return rva >= range->rva && rva - range->rva < range->bytes;
}

/* Fill in export `function`, whose name is at `name` (0: it has none). */
static void get(struct hvmi_pe *pe, uint32_t function, uint32_t name, struct hvmi_pe_export *ret)
{
	const struct pe_exports *e = pe->exports;
	struct hvmi_pe_export export = {
		.name = "", .forward = "", .gva = HVMI_NO_ADDRESS,
	};
	uint32_t rva = function < e->function_count ? e->functions[function] : PE_MISSING;

	export.ordinal = function < e->function_count ? e->ordinal_base + function : 0;
	if (name == PE_MISSING || (name && pe_read_text(pe, name, pe->name, sizeof(pe->name)) < 0))
		export.flags |= HVMI_PE_NAME_MISSING;
	else if (name)
		export.name = pe->name;
	if (rva == PE_MISSING || rva == 0) {
		export.flags |= HVMI_PE_PLACE_MISSING;
	} else if (is_forward(pe, rva)) {
		export.flags |= HVMI_PE_FORWARDED;
		if (pe_read_text(pe, rva, pe->other, sizeof(pe->other)) == 0)
			export.forward = pe->other;
		else
			export.flags |= HVMI_PE_PLACE_MISSING;
	} else if (rva < pe->bytes) {
		export.gva = pe->base + rva;
	} else {
		export.flags |= HVMI_PE_PLACE_MISSING;
	}
	*ret = export;
}

static int give(const struct hvmi_pe_export *export, struct hvmi_pe_export *ret,
		struct hvmi_error *err)
{
	if (result_copy(ret, export, sizeof(*export)) == 0)
		return 0;
	return hvmi_error_set(err, -EINVAL, HVMI_NO_ADDRESS, "hvmi_pe_export.size is not set");
}

static bool next_nameless(const struct pe_exports *e, uint32_t *function)
{
	for (; *function < e->function_count; ++*function)
		if (e->functions[*function] != 0 && !e->named[*function])
			return true;
	return false;
}

HVMI_API int hvmi_pe_next_export(struct hvmi_pe *pe, uint32_t *cursor, struct hvmi_pe_export *ret,
				 struct hvmi_error *err)
{
	struct hvmi_pe_export export;

	if (!pe || !cursor || !ret)
		return hvmi_error_set(err, -EINVAL, HVMI_NO_ADDRESS,
				      "an image, a cursor and a place for the export are needed");
	int rc = load_exports(pe, err);
	if (rc < 0)
		return rc;
	const struct pe_exports *e = pe->exports;
	if (*cursor < e->name_count) {
		get(pe, e->ordinals[*cursor], e->names[*cursor], &export);
		rc = give(&export, ret, err);
		*cursor += rc == 0;
		return rc < 0 ? rc : 1;
	}
	uint32_t function = *cursor - e->name_count;
	if (!next_nameless(e, &function))
		return 0;
	get(pe, function, e->unsure ? PE_MISSING : 0, &export);
	rc = give(&export, ret, err);
	if (rc == 0)
		*cursor = e->name_count + function + 1;
	return rc < 0 ? rc : 1;
}

/* Tables are sorted by name, which loaders rely on. */
static bool search(struct hvmi_pe *pe, const char *name, uint32_t *ret)
{
	const struct pe_exports *e = pe->exports;
	uint32_t low = 0, high = e->name_count;

	while (low < high) {
		uint32_t middle = low + (high - low) / 2;
		if (e->names[middle] == PE_MISSING ||
		    pe_read_text(pe, e->names[middle], pe->name, sizeof(pe->name)) < 0)
			return false;
		int order = strcmp(pe->name, name);
		if (order == 0) {
			*ret = middle;
			return true;
		}
		if (order < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return false;
}

/* Where a page with names is absent, or they are not sorted. */
static bool scan(struct hvmi_pe *pe, const char *name, uint32_t *ret)
{
	const struct pe_exports *e = pe->exports;

	for (uint32_t i = 0; i < e->name_count; i++) {
		if (e->names[i] != PE_MISSING &&
		    pe_read_text(pe, e->names[i], pe->name, sizeof(pe->name)) == 0 &&
		    strcmp(pe->name, name) == 0) {
			*ret = i;
			return true;
		}
	}
	return false;
}

HVMI_API int hvmi_pe_find_export(struct hvmi_pe *pe, const char *name, struct hvmi_pe_export *ret,
				 struct hvmi_error *err)
{
	struct hvmi_pe_export export;
	uint32_t index;

	if (!pe || !name || !ret)
		return hvmi_error_set(err, -EINVAL, HVMI_NO_ADDRESS,
				      "an image, a name and a place for the export are needed");
	int rc = load_exports(pe, err);
	if (rc < 0)
		return rc;
	if (!search(pe, name, &index) && !scan(pe, name, &index))
		return hvmi_error_set(err, -ENOENT, pe->base,
				      "the image at 0x%llx exports no '%s' in memory",
				      (unsigned long long)pe->base, name);
	get(pe, pe->exports->ordinals[index], pe->exports->names[index], &export);
	return give(&export, ret, err);
}

HVMI_API int hvmi_pe_find_ordinal(struct hvmi_pe *pe, uint32_t ordinal, struct hvmi_pe_export *ret,
				  struct hvmi_error *err)
{
	struct hvmi_pe_export export;

	if (!pe || !ret)
		return hvmi_error_set(err, -EINVAL, HVMI_NO_ADDRESS,
				      "an image and a place for the export are needed");
	int rc = load_exports(pe, err);
	if (rc < 0)
		return rc;
	const struct pe_exports *e = pe->exports;
	uint32_t function = ordinal - e->ordinal_base, name = e->unsure ? PE_MISSING : 0;
	if (ordinal < e->ordinal_base || function >= e->function_count ||
	    e->functions[function] == 0)
		return hvmi_error_set(err, -ENOENT, pe->base,
				      "the image at 0x%llx exports no ordinal %u",
				      (unsigned long long)pe->base, ordinal);
	for (uint32_t i = 0; i < e->name_count; i++) {
		if (e->ordinals[i] == function) {
			name = e->names[i];
			break;
		}
	}
	get(pe, function, name, &export);
	return give(&export, ret, err);
}
