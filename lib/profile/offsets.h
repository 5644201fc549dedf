/* SPDX-License-Identifier: Apache-2.0 */
/* Offsets files, hvmi-profiles(7): a few facts that somebody knows, in lines of text. */
#ifndef HVMI_LIB_OFFSETS_H
#define HVMI_LIB_OFFSETS_H

#include "profile/profile.h"

#define OFFSETS_BYTES_MAX (16u * MIB)

struct offsets_id {
	bool has_id;		/* the file says which kernel it is of: */
	uint8_t guid[16];	/* as the bytes lie in the image's CodeView record */
	uint32_t age;
};

/* Only what it says of its kernel. Lines that are malformed are left to offsets_load(). */
void offsets_identify(const char *text, size_t len, struct offsets_id *ret);

/*
 * Add to types (which are frozen and stay so) and symbols (not frozen), and replace what is there.
 * -EBADMSG: a line is malformed (@p err says which), -ENOMEM; then both are as before.
 */
int offsets_load(const char *text, size_t len, uint64_t base, uint32_t pointer_bytes,
		 struct types *types, struct symbols *symbols, struct hvmi_error *err);

#endif
