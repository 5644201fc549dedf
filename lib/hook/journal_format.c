/* SPDX-License-Identifier: Apache-2.0 */
#include "hook/journal_format.h"

/* CRC-32 of IEEE 802.3, four bits at a time. */
uint32_t journal_checksum(const void *bytes, size_t len)
{
	static const uint32_t table[16] = {
		0x00000000, 0x1db71064, 0x3b6e20c8, 0x26d930ac, 0x76dc4190, 0x6b6b51f4,
		0x4db26158, 0x5005713c, 0xedb88320, 0xf00f9344, 0xd6d6a3e8, 0xcb61b38c,
		0x9b64c2b0, 0x86d3d2d4, 0xa00ae278, 0xbdbdf21c,
	};
	const uint8_t *p = bytes;
	uint32_t crc = UINT32_MAX;
	for (size_t i = 0; i < len; i++) {
		crc ^= p[i];
		crc = crc >> 4 ^ table[crc & 15];
		crc = crc >> 4 ^ table[crc & 15];
	}
	return ~crc;
}

static uint32_t header_checksum(const struct journal_header *header)
{
	struct journal_header copy = *header;
	copy.checksum = 0;
	return journal_checksum(&copy, offsetof(struct journal_header, holding));
}

void journal_header_seal(struct journal_header *header)
{
	header->checksum = header_checksum(header);
}

int journal_header_check(const struct journal_header *header)
{
	if (memcmp(header->magic, JOURNAL_MAGIC, sizeof(header->magic)) != 0 ||
	    header->version != JOURNAL_VERSION || header->checksum != header_checksum(header) ||
	    !memchr(header->identity.machine, '\0', sizeof(header->identity.machine)))
		return -EBADMSG;
	return 0;
}

static void seal_record(void *buf, size_t size)
{
	uint32_t checksum = journal_checksum(buf, size);
	memcpy(buf, &checksum, sizeof(checksum));
}

size_t journal_record_placed(const struct journal_patch *patch, void *buf)
{
	size_t size = (sizeof(struct journal_record) + 2 * (size_t)patch->len + 7) & ~(size_t)7;
	struct journal_record record = {
		.size = (uint32_t)size, .kind = JOURNAL_PLACED, .flags = patch->flags,
		.id = patch->id, .gpa = patch->gpa, .gva = patch->gva, .len = patch->len,
	};
	memset(buf, 0, size);
	memcpy(buf, &record, sizeof(record));
	memcpy((uint8_t *)buf + sizeof(record), patch->bytes, 2 * (size_t)patch->len);
	seal_record(buf, size);
	return size;
}

size_t journal_record_undone(uint64_t id, void *buf)
{
	struct journal_record record = { .size = sizeof(record), .kind = JOURNAL_UNDONE, .id = id };
	memcpy(buf, &record, sizeof(record));
	seal_record(buf, sizeof(record));
	return sizeof(record);
}

struct journal_patch *journal_patch_create(uint32_t len)
{
	struct journal_patch *patch = calloc(1, sizeof(*patch) + 2 * (size_t)len);
	if (patch)
		patch->len = len;
	return patch;
}

/* Without the places of those that are gone. */
static void pack(struct journal_patches *patches)
{
	size_t to = 0;
	for (size_t i = 0; i < patches->count; i++)
		if (patches->items[i].patch)
			patches->items[to++] = patches->items[i];
	patches->count = to;
}

static int make_room(struct journal_patches *patches)
{
	if (patches->count < patches->room)
		return 0;
	if (patches->live < patches->count / 2) {
		pack(patches);
		return 0;
	}
	size_t room = patches->room ? 2 * patches->room : 16;
	struct journal_item *items = realloc(patches->items, room * sizeof(*items));
	if (!items)
		return -ENOMEM;
	patches->items = items;
	patches->room = room;
	return 0;
}

int journal_patches_add(struct journal_patches *patches, struct journal_patch *patch)
{
	int rc = patches->live >= HVMI_PATCHES_MAX ? -EOVERFLOW : make_room(patches);
	if (rc) {
		free(patch);
		return rc;
	}
	patches->items[patches->count++] = (struct journal_item){ patch->id, patch };
	patches->live++;
	return 0;
}

static struct journal_item *find(const struct journal_patches *patches, uint64_t id)
{
	size_t low = 0, high = patches->count;
	while (low < high) {
		size_t middle = low + (high - low) / 2;
		if (patches->items[middle].id == id)
			return &patches->items[middle];
		if (patches->items[middle].id < id)
			low = middle + 1;
		else
			high = middle;
	}
	return NULL;
}

struct journal_patch *journal_patches_find(const struct journal_patches *patches, uint64_t id)
{
	const struct journal_item *item = find(patches, id);
	return item ? item->patch : NULL;
}

void journal_patches_remove(struct journal_patches *patches, uint64_t id)
{
	struct journal_item *item = find(patches, id);
	if (!item || !item->patch)
		return;
	free(item->patch);
	item->patch = NULL;
	patches->live--;
}

void journal_patches_free(struct journal_patches *patches)
{
	for (size_t i = 0; i < patches->count; i++)
		free(patches->items[i].patch);
	free(patches->items);
	*patches = (struct journal_patches){ 0 };
}

/* A record at the start of bytes that is whole and makes sense. */
static bool take_record(const uint8_t *bytes, size_t len, struct journal_record *ret)
{
	static const uint32_t zero;
	struct journal_record record;
	if (len < sizeof(record))
		return false;
	memcpy(&record, bytes, sizeof(record));
	if (record.size < sizeof(record) || record.size > len ||
	    record.size > JOURNAL_RECORD_MAX + 7 || record.size % 8)
		return false;
	uint8_t copy[JOURNAL_RECORD_MAX + 8];
	memcpy(copy, bytes, record.size);
	memcpy(copy, &zero, sizeof(zero));
	if (journal_checksum(copy, record.size) != record.checksum)
		return false;
	if (record.kind == JOURNAL_PLACED &&
	    (record.len == 0 || record.len > HVMI_PATCH_BYTES || record.flags & ~HVMI_PATCH_CODE ||
	     record.gpa % FRAME_SIZE + record.len > FRAME_SIZE ||
	     record.size - sizeof(record) < 2 * (size_t)record.len))
		return false;
	*ret = record;
	return record.kind == JOURNAL_PLACED || record.kind == JOURNAL_UNDONE;
}

static int add_placed(struct journal_patches *patches, const struct journal_record *record,
		      const uint8_t *bytes)
{
	struct journal_patch *patch = journal_patch_create(record->len);
	if (!patch)
		return -ENOMEM;
	patch->id = record->id;
	patch->gpa = record->gpa;
	patch->gva = record->gva;
	patch->flags = record->flags;
	memcpy(patch->bytes, bytes, 2 * (size_t)record->len);
	return journal_patches_add(patches, patch);
}

int journal_parse(const uint8_t *bytes, size_t len, struct journal_patches *ret, size_t *end_ret)
{
	struct journal_record record;
	uint64_t last = 0;
	size_t at = 0;
	int rc = 0;
	while (!rc && take_record(bytes + at, len - at, &record)) {
		if (record.kind == JOURNAL_UNDONE) {
			journal_patches_remove(ret, record.id);
		} else {
			if (record.id <= last)
				break;
			last = record.id;
			rc = add_placed(ret, &record, bytes + at + sizeof(record));
		}
		if (!rc)
			at += record.size;
	}
	*end_ret = at;
	return rc;
}
