/* SPDX-License-Identifier: Apache-2.0 */
#include "os/windows/image.h"

#include <ctype.h>

#define MAGIC_32 0x10bu
#define MAGIC_64 0x20bu
#define HEADERS_OFFSET_MAX 0xc00u
#define IMAGE_BYTES_MAX (256u * 1024 * 1024)
#define DIRECTORY_EXPORT 0u
#define DIRECTORY_DEBUG 6u
#define DEBUG_ENTRIES_MAX 16u
#define DEBUG_ENTRY 28u
#define DEBUG_TYPE_CODEVIEW 2u
#define EXPORTS_MAX 65536u
#define EXPORT_DIRECTORY 40u

/* Where the fields of the optional header are that differ between PE32 and PE32+. */
struct optional_layout {
	uint32_t base_offset, base_bytes, count_offset, directory_offset;
};

static bool inside(const struct windows_image *image, uint32_t rva, uint32_t bytes)
{
	return bytes <= image->bytes && rva <= image->bytes - bytes;
}

static int image_bytes(struct hvmi_space *space, const struct windows_image *image, uint32_t rva,
		       void *buf, uint32_t bytes)
{
	if (!inside(image, rva, bytes))
		return -EBADMSG;
	return hvmi_space_read(space, image->base + rva, buf, bytes, NULL);
}

/* "RSDS", GUID, age, name; nothing is missed where it is not in memory. */
static void read_codeview(struct hvmi_space *space, struct windows_image *image, uint32_t rva,
			  uint32_t bytes)
{
	uint8_t entry[DEBUG_ENTRY], record[24 + IMAGE_PDB_NAME];
	for (uint32_t i = 0; i < MIN(bytes / DEBUG_ENTRY, DEBUG_ENTRIES_MAX); i++) {
		if (image_bytes(space, image, rva + i * DEBUG_ENTRY, entry, sizeof(entry)) ||
		    load_le32(entry + 12) != DEBUG_TYPE_CODEVIEW)
			continue;
		uint32_t len = load_le32(entry + 16), at = load_le32(entry + 20);
		if (len < 26)
			continue;
		len = MIN(len, (uint32_t)sizeof(record));
		memset(record, 0, sizeof(record));
		if (image_bytes(space, image, at, record, len) || memcmp(record, "RSDS", 4))
			continue;
		record[sizeof(record) - 1] = 0;
		const char *name = (const char *)record + 24;
		if (!*name)
			continue;
		for (const char *c = name; *c; c++)
			if (!isgraph((unsigned char)*c))
				return;
		memcpy(image->pdb_name, name, IMAGE_PDB_NAME);
		memcpy(image->pdb_guid, record + 4, sizeof(image->pdb_guid));
		image->pdb_age = load_le32(record + 20);
		return;
	}
}

static void read_sections(struct windows_image *image, const uint8_t *from, const uint8_t *end,
			  uint32_t count)
{
	for (; count && end - from >= 40 && image->section_count < IMAGE_SECTIONS_MAX;
	     count--, from += 40) {
		struct windows_section *section = &image->sections[image->section_count];
		*section = (struct windows_section){ .rva = load_le32(from + 12),
						     .bytes = load_le32(from + 8),
						     .flags = load_le32(from + 36) };
		memcpy(section->name, from, 8);
		for (char *c = section->name; *c; c++)
			if (!isgraph((unsigned char)*c))
				*c = '?';
		if (inside(image, section->rva, section->bytes))
			image->section_count++;
	}
}

int windows_image_read(struct hvmi_space *space, uint64_t base, struct windows_image *ret)
{
	static const struct optional_layout layout32 = { 28, 4, 92, 96 }, layout64 = { 24, 8, 108, 112 };
	uint8_t page[FRAME_SIZE];
	int rc = hvmi_space_read(space, base, page, sizeof(page), NULL);
	if (rc)
		return rc;
	uint32_t nt = load_le32(page + 0x3c);
	if (memcmp(page, "MZ", 2) || nt < 0x40 || nt > HEADERS_OFFSET_MAX ||
	    memcmp(page + nt, "PE\0\0", 4))
		return -EBADMSG;
	const uint8_t *file = page + nt + 4, *optional = file + 20;
	uint16_t optional_bytes = load_le16(file + 16), magic = load_le16(optional);
	if ((magic != MAGIC_32 && magic != MAGIC_64) || optional_bytes > 0x200)
		return -EBADMSG;
	const struct optional_layout *l = magic == MAGIC_64 ? &layout64 : &layout32;
	struct windows_image image = {
		.base = base,
		.linked_base = l->base_bytes == 8 ? load_le64(optional + l->base_offset) :
						    load_le32(optional + l->base_offset),
		.bytes = load_le32(optional + 56),
		.timestamp = load_le32(file + 4),
		.entry_rva = load_le32(optional + 16),
		.machine = load_le16(file),
	};
	if (image.bytes < FRAME_SIZE || image.bytes > IMAGE_BYTES_MAX)
		return -EBADMSG;
	read_sections(&image, optional + optional_bytes, page + sizeof(page), load_le16(file + 2));
	uint32_t directories = MIN(load_le32(optional + l->count_offset), 16u);
	if (l->directory_offset + directories * 8 > optional_bytes)
		directories = 0;
	const uint8_t *directory = optional + l->directory_offset;
	if (directories > DIRECTORY_EXPORT) {
		image.export_rva = load_le32(directory + 8 * DIRECTORY_EXPORT);
		image.export_bytes = load_le32(directory + 8 * DIRECTORY_EXPORT + 4);
	}
	if (directories > DIRECTORY_DEBUG)
		read_codeview(space, &image, load_le32(directory + 8 * DIRECTORY_DEBUG),
			      load_le32(directory + 8 * DIRECTORY_DEBUG + 4));
	*ret = image;
	return 0;
}

/* A string of the image: up to its NUL, or -EFAULT, -EBADMSG. */
static int image_string(struct hvmi_space *space, const struct windows_image *image, uint32_t rva,
			char *buf, size_t size)
{
	if (rva >= image->bytes)
		return -EBADMSG;
	return hvmi_space_read_string(space, image->base + rva, buf,
				      MIN(size, image->bytes - rva), NULL);
}

static int read_directory(struct hvmi_space *space, const struct windows_image *image,
			  uint8_t directory[EXPORT_DIRECTORY])
{
	if (!image->export_rva || image->export_bytes < EXPORT_DIRECTORY)
		return -ENOENT;
	return image_bytes(space, image, image->export_rva, directory, EXPORT_DIRECTORY);
}

int windows_image_export_name(struct hvmi_space *space, const struct windows_image *image,
			      char *buf, size_t size)
{
	uint8_t directory[EXPORT_DIRECTORY];
	int rc = read_directory(space, image, directory);
	return rc ? rc : image_string(space, image, load_le32(directory + 12), buf, size);
}

/* Entry `index` of an array of the directory; 0 or a negative error. */
static int array_entry(struct hvmi_space *space, const struct windows_image *image, uint32_t array,
		       uint32_t index, uint32_t bytes, uint32_t *ret)
{
	uint8_t value[4] = { 0 };
	if (array >= image->bytes)
		return -EBADMSG;
	int rc = image_bytes(space, image, array + index * bytes, value, bytes);
	*ret = load_le32(value);
	return rc;
}

int windows_image_export(struct hvmi_space *space, const struct windows_image *image,
			 const char *name, uint64_t *gva_ret)
{
	uint8_t directory[EXPORT_DIRECTORY];
	if (read_directory(space, image, directory))
		return -ENOENT;
	uint32_t functions = MIN(load_le32(directory + 20), EXPORTS_MAX);
	uint32_t high = MIN(load_le32(directory + 24), EXPORTS_MAX), low = 0;
	/* Names are sorted: the loader relies on it too. */
	while (low < high) {
		char text[128];
		uint32_t middle = low + (high - low) / 2, rva, ordinal;
		if (array_entry(space, image, load_le32(directory + 32), middle, 4, &rva) ||
		    image_string(space, image, rva, text, sizeof(text)))
			return -ENOENT;
		int order = strcmp(text, name);
		if (order < 0) {
			low = middle + 1;
		} else if (order > 0) {
			high = middle;
		} else {
			/* One that points into the directory is forwarded to another image. */
			if (array_entry(space, image, load_le32(directory + 36), middle, 2, &ordinal) ||
			    ordinal >= functions ||
			    array_entry(space, image, load_le32(directory + 28), ordinal, 4, &rva) ||
			    rva == 0 || rva >= image->bytes ||
			    (rva >= image->export_rva &&
			     rva - image->export_rva < image->export_bytes))
				return -ENOENT;
			*gva_ret = image->base + rva;
			return 0;
		}
	}
	return -ENOENT;
}

/* Read a stretch of the image; pages that are not in memory are zeros. NULL: out of bounds. */
static uint8_t *read_stretch(struct hvmi_space *space, const struct windows_image *image,
			     uint32_t rva, uint32_t bytes)
{
	if (!inside(image, rva, bytes))
		return NULL;
	uint8_t *buf = calloc(1, bytes + 1);
	for (uint32_t done = 0; buf && done < bytes;) {
		size_t n = MIN(bytes - done, FRAME_SIZE - (rva + done) % FRAME_SIZE);
		if (hvmi_space_read(space, image->base + rva + done, buf + done, n, NULL))
			memset(buf + done, 0, n);
		done += (uint32_t)n;
	}
	return buf;
}

int windows_image_exports(struct hvmi_space *space, const struct windows_image *image,
			  struct windows_export **ret, char **names_ret, uint32_t *count_ret)
{
	uint8_t directory[EXPORT_DIRECTORY];
	int rc = read_directory(space, image, directory);
	if (rc)
		return -ENOENT;
	uint32_t function_count = MIN(load_le32(directory + 20), EXPORTS_MAX);
	uint32_t name_count = MIN(load_le32(directory + 24), EXPORTS_MAX), count = 0;
	CLEANUP_FREE uint8_t *functions =
		read_stretch(space, image, load_le32(directory + 28), function_count * 4);
	CLEANUP_FREE uint8_t *names =
		read_stretch(space, image, load_le32(directory + 32), name_count * 4);
	CLEANUP_FREE uint8_t *ordinals =
		read_stretch(space, image, load_le32(directory + 36), name_count * 2);
	/* Linkers put the names into the directory. */
	char *text = (char *)read_stretch(space, image, image->export_rva, image->export_bytes);
	struct windows_export *exports = calloc(name_count ? name_count : 1, sizeof(*exports));
	if (!functions || !names || !ordinals || !text || !exports) {
		free(text);
		free(exports);
		return -ENOENT;
	}
	for (uint32_t i = 0; i < name_count; i++) {
		uint32_t name = load_le32(names + 4 * i) - image->export_rva;
		uint32_t ordinal = load_le16(ordinals + 2 * i);
		if (name >= image->export_bytes || ordinal >= function_count || !text[name])
			continue;
		uint32_t rva = load_le32(functions + 4 * ordinal);
		if (rva == 0 || rva >= image->bytes || rva - image->export_rva < image->export_bytes)
			continue;
		exports[count++] = (struct windows_export){ .name = name, .rva = rva };
	}
	*ret = exports;
	*names_ret = text;
	*count_ret = count;
	return 0;
}
