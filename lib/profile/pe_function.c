/* SPDX-License-Identifier: Apache-2.0 */
/* The exception directory of x64 images: RUNTIME_FUNCTION entries in ascending order. */
#include "profile/pe.h"

#define MACHINE_X64 0x8664u
#define ENTRY_BYTES 12u
#define UNWIND_BYTES 4u
#define UNWIND_VERSION_MAX 2u
#define FLAG_EXCEPTION 1u
#define FLAG_TERMINATION 2u
#define FLAG_CHAINED 4u

struct entry {
	uint32_t start, end, unwind;
};

static int read_entry(const struct hvmi_pe *pe, uint32_t rva, struct entry *ret)
{
	uint8_t bytes[ENTRY_BYTES];

	int rc = pe_read(pe, rva, bytes, sizeof(bytes));
	if (rc == 0)
		*ret = (struct entry){ load_le32(bytes), load_le32(bytes + 4), load_le32(bytes + 8) };
	return rc;
}

static int find(const struct hvmi_pe *pe, uint32_t rva, struct entry *ret)
{
	const struct pe_range *range = &pe->directories[PE_EXCEPTION];
	uint32_t low = 0, high = range->bytes / ENTRY_BYTES;

	while (low < high) {
		uint32_t middle = low + (high - low) / 2;
		struct entry entry = { 0 };
		int rc = read_entry(pe, range->rva + middle * ENTRY_BYTES, &entry);
		if (rc < 0)
			return rc;
		if (rva >= entry.start && rva < entry.end) {
			*ret = entry;
			return 0;
		}
		if (rva < entry.start)
			high = middle;
		else
			low = middle + 1;
	}
	return -ENOENT;
}

/* An odd address is that of another entry, which is meant instead. */
static int follow(const struct hvmi_pe *pe, struct entry *entry)
{
	struct entry other;

	if (!(entry->unwind & 1))
		return 0;
	int rc = read_entry(pe, entry->unwind & ~1u, &other);
	if (rc == 0 && (other.unwind & 1))
		rc = -EBADMSG;
	if (rc == 0)
		entry->unwind = other.unwind;
	return rc;
}

static int read_unwind(const struct hvmi_pe *pe, const struct entry *entry,
		       struct hvmi_pe_function *ret)
{
	uint8_t head[UNWIND_BYTES], codes[2 * 256 + ENTRY_BYTES];

	int rc = pe_read(pe, entry->unwind, head, sizeof(head));
	if (rc < 0)
		return rc;
	if ((head[0] & 7) == 0 || (head[0] & 7) > UNWIND_VERSION_MAX)
		return -EBADMSG;
	ret->flags = head[0] >> 3;
	ret->prolog_bytes = head[1];
	ret->code_count = head[2];
	ret->frame_register = head[3] & 15;
	ret->frame_offset = (head[3] >> 4) * 16u;
	/* An even number of codes, then a handler or the entry of what this is a part of. */
	uint32_t codes_bytes = (head[2] + 1u) / 2 * 4, more = 0;
	if (ret->flags & FLAG_CHAINED)
		more = ENTRY_BYTES;
	else if (ret->flags & (FLAG_EXCEPTION | FLAG_TERMINATION))
		more = 4;
	rc = pe_read(pe, entry->unwind + UNWIND_BYTES, codes, codes_bytes + more);
	if (rc < 0)
		return rc;
	for (uint32_t i = 0; i < ret->code_count; i++)
		ret->codes[i] = load_le16(codes + 2 * i);
	if (ret->flags & FLAG_CHAINED)
		ret->chained = pe->base + load_le32(codes + codes_bytes);
	else if (more)
		ret->handler = pe->base + load_le32(codes + codes_bytes);
	return 0;
}

HVMI_API int hvmi_pe_function(struct hvmi_pe *pe, uint64_t gva, struct hvmi_pe_function *ret,
			      struct hvmi_error *err)
{
	struct hvmi_pe_function function = { .chained = HVMI_NO_ADDRESS, .handler = HVMI_NO_ADDRESS };
	struct entry entry = { 0 };

	if (!pe || !ret)
		return hvmi_error_set(err, -EINVAL, HVMI_NO_ADDRESS,
				      "an image and a place for the function are needed");
	if (pe->info.machine != MACHINE_X64)
		return hvmi_error_set(err, -ENOTSUP, pe->base,
				      "the image at 0x%llx is not for x64: others are not understood",
				      (unsigned long long)pe->base);
	int rc = gva < pe->base || gva - pe->base >= pe->bytes ?
			 -ENOENT : find(pe, (uint32_t)(gva - pe->base), &entry);
	if (rc == -ENOENT)
		return hvmi_error_set(err, rc, gva, "there is no function at 0x%llx that the image's "
				      "exception directory knows", (unsigned long long)gva);
	if (rc == 0)
		rc = follow(pe, &entry);
	if (rc == 0)
		rc = read_unwind(pe, &entry, &function);
	if (rc < 0)
		return pe_failed(rc, pe, "the exception directory", err);
	function.start = pe->base + entry.start;
	function.end = pe->base + entry.end;
	function.unwind = pe->base + entry.unwind;
	if (result_copy(ret, &function, sizeof(function)) < 0)
		return hvmi_error_set(err, -EINVAL, HVMI_NO_ADDRESS,
				      "hvmi_pe_function.size is not set");
	return 0;
}
