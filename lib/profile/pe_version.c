/* SPDX-License-Identifier: Apache-2.0 */
/* Resources: a tree of three levels, by type, name and language. */
#include "profile/pe.h"

#define RESOURCE_VERSION 16u
#define DIRECTORY_BYTES 16u
#define ENTRY_BYTES 8u
#define ENTRIES_MAX 4096u
#define IS_DIRECTORY 0x80000000u
#define LEVELS 3u
#define DATA_BYTES 16u
/* VS_VERSIONINFO: three lengths, "VS_VERSION_INFO" in UTF-16, padding, then the fixed part. */
#define FIXED_AT 40u
#define FIXED_BYTES 52u
#define FIXED_SIGNATURE 0xfeef04bdu

static int read_at(const struct hvmi_pe *pe, uint32_t offset, void *buf, uint32_t len)
{
	uint32_t rva;

	if (__builtin_add_overflow(pe->directories[PE_RESOURCE].rva, offset, &rva))
		return -EBADMSG;
	return pe_read(pe, rva, buf, len);
}

/* The entry with an id, or with id 0 the first: where it leads. */
static int find(const struct hvmi_pe *pe, uint32_t directory, uint32_t id, uint32_t *ret)
{
	uint8_t bytes[DIRECTORY_BYTES];

	int rc = read_at(pe, directory, bytes, sizeof(bytes));
	if (rc < 0)
		return rc;
	uint32_t count = (uint32_t)load_le16(bytes + 12) + load_le16(bytes + 14);
	for (uint32_t i = 0; i < MIN(count, ENTRIES_MAX); i++) {
		rc = read_at(pe, directory + DIRECTORY_BYTES + i * ENTRY_BYTES, bytes, ENTRY_BYTES);
		if (rc < 0)
			return rc;
		if (id == 0 || load_le32(bytes) == id) {
			*ret = load_le32(bytes + 4);
			return 0;
		}
	}
	return -ENOENT;
}

static void get_numbers(const uint8_t *at, uint32_t ret[4])
{
	uint32_t high = load_le32(at), low = load_le32(at + 4);

	ret[0] = high >> 16;
	ret[1] = high & 0xffff;
	ret[2] = low >> 16;
	ret[3] = low & 0xffff;
}

static int read_version(const struct hvmi_pe *pe, struct hvmi_pe_version *ret)
{
	uint8_t data[DATA_BYTES], bytes[FIXED_AT + FIXED_BYTES];
	uint32_t at = 0;

	if (pe->directories[PE_RESOURCE].rva == 0)
		return -ENOENT;
	for (uint32_t level = 0; level < LEVELS; level++) {
		int rc = find(pe, at & ~IS_DIRECTORY, level == 0 ? RESOURCE_VERSION : 0, &at);
		if (rc < 0)
			return rc;
		if (!(at & IS_DIRECTORY) != (level == LEVELS - 1))
			return -EBADMSG;
	}
	int rc = read_at(pe, at, data, sizeof(data));
	if (rc == 0 && load_le32(data + 4) < sizeof(bytes))
		rc = -EBADMSG;
	if (rc == 0)
		rc = pe_read(pe, load_le32(data), bytes, sizeof(bytes));
	if (rc < 0)
		return rc;
	if (load_le32(bytes + FIXED_AT) != FIXED_SIGNATURE)
		return -EBADMSG;
	get_numbers(bytes + FIXED_AT + 8, ret->file);
	get_numbers(bytes + FIXED_AT + 16, ret->product);
	return 0;
}

HVMI_API int hvmi_pe_version(struct hvmi_pe *pe, struct hvmi_pe_version *ret,
			     struct hvmi_error *err)
{
	struct hvmi_pe_version version = { 0 };

	if (!pe || !ret)
		return hvmi_error_set(err, -EINVAL, HVMI_NO_ADDRESS,
				      "an image and a place for the version are needed");
	int rc = read_version(pe, &version);
	if (rc < 0)
		return pe_failed(rc, pe, "the version resource", err);
	if (result_copy(ret, &version, sizeof(version)) < 0)
		return hvmi_error_set(err, -EINVAL, HVMI_NO_ADDRESS,
				      "hvmi_pe_version.size is not set");
	return 0;
}
