/* SPDX-License-Identifier: Apache-2.0 */
#include "profile/pe.h"

#define DESCRIPTOR_BYTES 20u
#define MODULES_MAX 4096u
#define SLOTS_MAX 65536u

/* The cursor: which module, and which of its entries. */
#define CURSOR(module, slot) ((uint64_t)(module) << 32 | (slot))

struct descriptor {
	uint32_t lookup, name, slots;	/* RVAs; lookup is 0 where old linkers made none */
};

/* 0, or 1: the end. */
static int read_descriptor(const struct hvmi_pe *pe, uint32_t module, struct descriptor *ret)
{
	uint8_t bytes[DESCRIPTOR_BYTES];
	uint64_t rva = (uint64_t)pe->directories[PE_IMPORT].rva + module * DESCRIPTOR_BYTES;

	if (pe->directories[PE_IMPORT].rva == 0 || module >= MODULES_MAX)
		return 1;
	int rc = rva > pe->bytes ? -EBADMSG : pe_read(pe, (uint32_t)rva, bytes, sizeof(bytes));
	if (rc < 0)
		return rc;
	*ret = (struct descriptor){
		load_le32(bytes), load_le32(bytes + 12), load_le32(bytes + 16)
	};
	return ret->name == 0 || ret->slots == 0;
}

static int read_entry(const struct hvmi_pe *pe, uint32_t rva, uint32_t slot, uint64_t *ret)
{
	uint8_t bytes[8] = { 0 };
	uint64_t at = (uint64_t)rva + (uint64_t)slot * pe->info.pointer_bytes;

	if (at > pe->bytes)
		return -EBADMSG;
	int rc = pe_read(pe, (uint32_t)at, bytes, pe->info.pointer_bytes);
	if (rc == 0)
		*ret = load_le64(bytes);
	return rc;
}

/* What an entry of the lookup table means. */
static void get_name(struct hvmi_pe *pe, uint64_t lookup, struct hvmi_pe_import *ret)
{
	uint8_t hint[2];
	uint32_t rva = (uint32_t)lookup;

	if (lookup >> (pe->info.pointer_bytes * 8 - 1)) {
		ret->ordinal = lookup & 0xffff;
		return;
	}
	/* Two bytes of hint, then the name. */
	if (rva >= pe->bytes || pe->bytes - rva < 3 ||
	    pe_read(pe, rva, hint, sizeof(hint)) < 0 ||
	    pe_read_text(pe, rva + 2, pe->name, sizeof(pe->name)) < 0) {
		ret->flags |= HVMI_PE_NAME_MISSING;
		return;
	}
	ret->hint = load_le16(hint);
	ret->name = pe->name;
}

/* 1: got it, 0: the module has no more. */
static int get(struct hvmi_pe *pe, const struct descriptor *d, uint32_t slot,
	       struct hvmi_pe_import *ret)
{
	struct hvmi_pe_import import = { .module = "", .name = "", .target = HVMI_NO_ADDRESS };
	uint64_t lookup = 0, target = 0;

	if (slot >= SLOTS_MAX)
		return 0;
	int slot_rc = read_entry(pe, d->slots, slot, &target);
	int lookup_rc = d->lookup ? read_entry(pe, d->lookup, slot, &lookup) : -EFAULT;
	if (lookup_rc == -EBADMSG || slot_rc == -EBADMSG)
		return 0;
	/* Without the lookup table the end is known from the table of addresses alone. */
	if (lookup_rc == 0 ? lookup == 0 : slot_rc < 0 || target == 0)
		return 0;
	import.slot = pe->base + d->slots + (uint64_t)slot * pe->info.pointer_bytes;
	if (slot_rc == 0)
		import.target = target;
	else
		import.flags |= HVMI_PE_PLACE_MISSING;
	if (lookup_rc == 0)
		get_name(pe, lookup, &import);
	else
		import.flags |= HVMI_PE_NAME_MISSING;
	if (pe_read_text(pe, d->name, pe->other, PE_MODULE_BYTES) == 0)
		import.module = pe->other;
	*ret = import;
	return 1;
}

HVMI_API int hvmi_pe_next_import(struct hvmi_pe *pe, uint64_t *cursor, struct hvmi_pe_import *ret,
				 struct hvmi_error *err)
{
	struct hvmi_pe_import import;
	struct descriptor descriptor;

	if (!pe || !cursor || !ret)
		return hvmi_error_set(err, -EINVAL, HVMI_NO_ADDRESS,
				      "an image, a cursor and a place for the import are needed");
	uint32_t module = (uint32_t)(*cursor >> 32), slot = (uint32_t)*cursor;
	for (;; module++, slot = 0) {
		int rc = read_descriptor(pe, module, &descriptor);
		if (rc < 0)
			return pe_failed(rc, pe, "the import directory", err);
		if (rc == 1) {
			*cursor = CURSOR(module, 0);
			return 0;
		}
		if (get(pe, &descriptor, slot, &import) == 0)
			continue;
		if (result_copy(ret, &import, sizeof(import)) < 0)
			return hvmi_error_set(err, -EINVAL, HVMI_NO_ADDRESS,
					      "hvmi_pe_import.size is not set");
		*cursor = CURSOR(module, slot + 1);
		return 1;
	}
}
