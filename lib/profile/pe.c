/* SPDX-License-Identifier: Apache-2.0 */
#include "profile/pe.h"

#include <stdio.h>

#define DOS_BYTES 64u
#define DOS_MAGIC 0x5a4du
#define PE_MAGIC 0x4550u
#define HEADERS_AT_MAX 0x10000u
#define FILE_HEADER_BYTES 24u		/* with the signature */
#define OPTIONAL_BYTES_32 96u		/* without directories */
#define OPTIONAL_BYTES_64 112u
#define MAGIC_32 0x10bu
#define MAGIC_64 0x20bu
#define SECTION_BYTES 40u
#define IMAGE_BYTES_MAX (1024u * MIB)
#define DEBUG_ENTRY_BYTES 28u
#define DEBUG_ENTRIES_MAX 32u
#define DEBUG_CODEVIEW 2u
#define RSDS_BYTES 24u

int pe_read(const struct hvmi_pe *pe, uint32_t rva, void *buf, uint32_t len)
{
	if (rva > pe->bytes || len > pe->bytes - rva)
		return -EBADMSG;
	return source_read(&pe->source, pe->base + rva, buf, len);
}

int pe_read_text(const struct hvmi_pe *pe, uint32_t rva, char *buf, uint32_t size)
{
	uint32_t len = 0;

	if (rva == 0 || rva >= pe->bytes)
		return -EBADMSG;
	while (len < size - 1) {
		/* To the end of the page at most: the next one may be absent, and not needed. */
		uint32_t n = MIN(64u - (rva + len) % 64u, size - 1 - len);
		n = MIN(n, pe->bytes - rva - len);
		if (n == 0)
			break;
		int rc = pe_read(pe, rva + len, buf + len, n);
		if (rc < 0)
			return rc;
		const char *end = memchr(buf + len, '\0', n);
		if (end)
			return 0;
		len += n;
	}
	buf[len] = '\0';
	return 0;
}

int pe_failed(int rc, const struct hvmi_pe *pe, const char *what, struct hvmi_error *err)
{
	return hvmi_error_set(err, rc, pe->base, "%s of the image at 0x%llx %s", what,
			      (unsigned long long)pe->base,
			      rc == -EFAULT  ? "is not in memory" :
			      rc == -EBADMSG ? "makes no sense" :
			      rc == -ENOENT  ? "does not exist" :
			      rc == -ENOMEM  ? "needs more memory than there is" :
					       "cannot be read");
}

static void read_directories(struct hvmi_pe *pe, const uint8_t *at, uint32_t count)
{
	for (uint32_t i = 0; i < MIN(count, (uint32_t)PE_DIRECTORIES); i++) {
		struct pe_range range = { load_le32(at + i * 8), load_le32(at + i * 8 + 4) };
		/* One that lies outside is as good as none. */
		if (range.rva != 0 && range.rva < pe->bytes)
			pe->directories[i] =
				(struct pe_range){ range.rva, MIN(range.bytes, pe->bytes - range.rva) };
	}
}

static int read_headers(struct hvmi_pe *pe)
{
	uint8_t dos[DOS_BYTES], file[FILE_HEADER_BYTES];
	uint8_t optional[OPTIONAL_BYTES_64 + PE_DIRECTORIES * 8] = { 0 };

	int rc = pe_read(pe, 0, dos, sizeof(dos));
	if (rc < 0)
		return rc;
	uint32_t at = load_le32(dos + 60);
	if (load_le16(dos) != DOS_MAGIC || at > HEADERS_AT_MAX)
		return -EBADMSG;
	rc = pe_read(pe, at, file, sizeof(file));
	if (rc < 0)
		return rc;
	uint32_t optional_bytes = load_le16(file + 20);
	if (load_le32(file) != PE_MAGIC || optional_bytes < OPTIONAL_BYTES_32)
		return -EBADMSG;
	uint32_t len = MIN(optional_bytes, (uint32_t)sizeof(optional));
	rc = pe_read(pe, at + FILE_HEADER_BYTES, optional, len);
	if (rc < 0)
		return rc;
	uint32_t magic = load_le16(optional);
	bool wide = magic == MAGIC_64;
	uint32_t fixed = wide ? OPTIONAL_BYTES_64 : OPTIONAL_BYTES_32;
	uint32_t bytes = load_le32(optional + 56), entry = load_le32(optional + 16);
	if ((!wide && magic != MAGIC_32) || len < fixed || bytes > IMAGE_BYTES_MAX ||
	    bytes < at + FILE_HEADER_BYTES + optional_bytes)
		return -EBADMSG;
	pe->bytes = bytes;
	pe->sections_rva = at + FILE_HEADER_BYTES + optional_bytes;
	pe->info = (struct hvmi_pe_info){
		.base = pe->base,
		.preferred_base = wide ? load_le64(optional + 24) : load_le32(optional + 28),
		.bytes = bytes,
		.entry = entry && entry < bytes ? pe->base + entry : HVMI_NO_ADDRESS,
		.machine = load_le16(file + 4),
		.characteristics = load_le16(file + 22),
		.subsystem = load_le16(optional + 68),
		.timestamp = load_le32(file + 8),
		.checksum = load_le32(optional + 64),
		.sections = MIN(load_le16(file + 6), PE_SECTIONS_MAX),
		.pointer_bytes = wide ? 8 : 4,
	};
	read_directories(pe, optional + fixed,
			 MIN(load_le32(optional + fixed - 4), (len - fixed) / 8));
	return 0;
}

int pe_open(const struct source *source, uint64_t base, struct hvmi_pe **ret,
	    struct hvmi_error *err)
{
	struct hvmi_pe *pe = calloc(1, sizeof(*pe));

	if (!pe)
		return hvmi_error_set(err, -ENOMEM, HVMI_NO_ADDRESS, "out of memory");
	pe->source = *source;
	pe->base = base;
	/* Until the headers say how much there is. */
	pe->bytes = HEADERS_AT_MAX * 2;
	int rc = read_headers(pe);
	if (rc < 0) {
		free(pe);
		return hvmi_error_set(err, rc, base, "there is no PE image at 0x%llx: %s",
				      (unsigned long long)base,
				      rc == -EFAULT ? "its headers are not in memory" :
						      "the headers make no sense");
	}
	*ret = pe;
	return 0;
}

static int space_read(void *context, uint64_t address, void *buf, size_t len)
{
	return hvmi_space_read(context, address, buf, len, NULL);
}

HVMI_API int hvmi_pe_open(struct hvmi_space *space, uint64_t base, struct hvmi_pe **ret,
			  struct hvmi_error *err)
{
	const struct source source = { space_read, space };

	if (!space || !ret)
		return hvmi_error_set(err, -EINVAL, HVMI_NO_ADDRESS,
				      "a space and a place for the handle are needed");
	return pe_open(&source, base, ret, err);
}

HVMI_API void hvmi_pe_close(struct hvmi_pe *pe)
{
	if (!pe)
		return;
	pe_exports_free(pe->exports);
	free(pe);
}

HVMI_API int hvmi_pe_get_info(const struct hvmi_pe *pe, struct hvmi_pe_info *ret)
{
	return pe && ret ? result_copy(ret, &pe->info, sizeof(pe->info)) : -EINVAL;
}

HVMI_API int hvmi_pe_section(const struct hvmi_pe *pe, uint32_t index,
			     struct hvmi_pe_section *ret)
{
	uint8_t header[SECTION_BYTES];

	if (!pe || !ret)
		return -EINVAL;
	if (index >= pe->info.sections)
		return -ENOENT;
	int rc = pe_read(pe, pe->sections_rva + index * SECTION_BYTES, header, sizeof(header));
	if (rc < 0)
		return rc;
	uint32_t flags = load_le32(header + 36), rva = load_le32(header + 12);
	struct hvmi_pe_section section = {
		.gva = pe->base + rva,
		.bytes = load_le32(header + 8) ? load_le32(header + 8) : load_le32(header + 16),
		.characteristics = flags,
		.rights = (flags >> 30 & 1 ? HVMI_RIGHT_READ : 0) |
			  (flags >> 31 & 1 ? HVMI_RIGHT_WRITE : 0) |
			  (flags >> 29 & 1 ? HVMI_RIGHT_EXECUTE : 0),
	};
	if (rva > pe->bytes)
		return -EBADMSG;
	section.bytes = MIN(section.bytes, pe->bytes - rva);
	memcpy(section.name, header, 8);
	return result_copy(ret, &section, sizeof(section));
}

/* "RSDS", GUID, age, name. */
static int read_codeview(const struct hvmi_pe *pe, const uint8_t *entry, struct hvmi_pe_debug *ret)
{
	uint8_t record[RSDS_BYTES];
	uint32_t rva = load_le32(entry + 20);

	int rc = pe_read(pe, rva, record, sizeof(record));
	if (rc < 0)
		return rc;
	if (memcmp(record, "RSDS", 4) != 0)
		return -ENOENT;
	memcpy(ret->guid, record + 4, sizeof(ret->guid));
	ret->age = load_le32(record + 20);
	rc = pe_read_text(pe, rva + RSDS_BYTES, ret->name, sizeof(ret->name));
	if (rc == -EFAULT)
		ret->name[0] = '\0';
	int len = snprintf(ret->key, sizeof(ret->key), "%08X%04X%04X", load_le32(ret->guid),
			   load_le16(ret->guid + 4), load_le16(ret->guid + 6));
	for (size_t i = 8; i < 16; i++)
		len += snprintf(ret->key + len, sizeof(ret->key) - (size_t)len, "%02X",
				ret->guid[i]);
	snprintf(ret->key + len, sizeof(ret->key) - (size_t)len, "%X", ret->age);
	return 0;
}

HVMI_API int hvmi_pe_debug(struct hvmi_pe *pe, struct hvmi_pe_debug *ret, struct hvmi_error *err)
{
	struct hvmi_pe_debug debug = { 0 };
	uint8_t entry[DEBUG_ENTRY_BYTES];

	if (!pe || !ret)
		return hvmi_error_set(err, -EINVAL, HVMI_NO_ADDRESS,
				      "an image and a place for the result are needed");
	const struct pe_range *range = &pe->directories[PE_DEBUG];
	int rc = -ENOENT;
	for (uint32_t i = 0; i < MIN(range->bytes / DEBUG_ENTRY_BYTES, DEBUG_ENTRIES_MAX); i++) {
		int got = pe_read(pe, range->rva + i * DEBUG_ENTRY_BYTES, entry, sizeof(entry));
		if (got == 0 && load_le32(entry + 12) != DEBUG_CODEVIEW)
			continue;
		if (got == 0)
			got = read_codeview(pe, entry, &debug);
		if (got == 0 && result_copy(ret, &debug, sizeof(debug)) == 0)
			return 0;
		if (got == 0)
			return hvmi_error_set(err, -EINVAL, HVMI_NO_ADDRESS,
					      "hvmi_pe_debug.size is not set");
		if (rc == -ENOENT)
			rc = got;
	}
	return pe_failed(rc, pe, "the name of the program database", err);
}
