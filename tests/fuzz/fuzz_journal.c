/* SPDX-License-Identifier: Apache-2.0 */
/* The records of a journal: what is read must be in bounds, and is the same when it is written again. */
#include <stdlib.h>

#include "hook/journal_format.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool condition)
{
	if (!condition)
		abort();
}

/* Half of the inputs have good checksums, or nothing would get past them. */
static void seal(uint8_t *bytes, size_t len)
{
	struct journal_record record;
	for (size_t at = 0; len - at >= sizeof(record); at += record.size) {
		memcpy(&record, bytes + at, sizeof(record));
		if (record.size < sizeof(record) || record.size > len - at)
			return;
		memset(bytes + at, 0, sizeof(record.checksum));
		record.checksum = journal_checksum(bytes + at, record.size);
		memcpy(bytes + at, &record.checksum, sizeof(record.checksum));
	}
}

static void check_again(const struct journal_patches *patches)
{
	static uint8_t buf[JOURNAL_RECORD_MAX + 8];
	size_t live = 0;
	for (size_t i = 0; i < patches->count; i++) {
		const struct journal_patch *p = patches->items[i].patch;
		struct journal_patches again = { 0 };
		size_t end;
		require(!i || patches->items[i - 1].id < patches->items[i].id);
		require(journal_patches_find(patches, patches->items[i].id) == p);
		if (!p)
			continue;
		live++;
		require(p->len >= 1 && p->len <= HVMI_PATCH_BYTES && p->gpa % 4096 + p->len <= 4096);
		size_t len = journal_record_placed(p, buf);
		require(journal_parse(buf, len, &again, &end) == 0 && end == len);
		require(again.live == 1 && !memcmp(again.items[0].patch->bytes, p->bytes,
						   2 * (size_t)p->len));
		journal_patches_free(&again);
	}
	require(live == patches->live);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct journal_patches patches = { 0 };
	struct journal_header header;
	size_t end = 0;
	if (size < 1)
		return 0;
	if (size > sizeof(header)) {
		memcpy(&header, data + 1, sizeof(header));
		journal_header_check(&header);
	}
	uint8_t *copy = malloc(size);
	require(copy);
	memcpy(copy, data + 1, size - 1);
	if (data[0] & 1)
		seal(copy, size - 1);
	require(journal_parse(copy, size - 1, &patches, &end) == 0 && end <= size - 1);
	check_again(&patches);
	journal_patches_free(&patches);
	free(copy);
	return 0;
}
