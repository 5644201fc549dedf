/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The bytes of a journal: a header, then records that are only ever appended. The host's byte order: it
 * is read where it was written. No word of it is believed before its checksum was.
 */
#ifndef HVMI_LIB_JOURNAL_FORMAT_H
#define HVMI_LIB_JOURNAL_FORMAT_H

#include <hvmi/journal.h>

#include "util/util.h"

#define JOURNAL_MAGIC "HVMIjrn"
#define JOURNAL_VERSION 1u
/* What a file may grow to before it is refused. */
#define JOURNAL_FILE_MAX (512 * MIB)

/* Which machine, and which life of it. */
struct journal_identity {
	char machine[128];
	/* Of the first vCPU's page fault handler: it moves when the guest boots; 0: unknown. */
	uint64_t boot_gva, boot_gpa;
};

struct journal_header {
	char magic[8];
	uint32_t version;
	uint32_t checksum;	/* of what is before `holding`, this field being 0 */
	struct journal_identity identity;
	uint32_t pid;
	uint32_t reserved;
	uint32_t holding;	/* the program may have stopped the machine */
	uint32_t reserved2;
};

enum journal_kind { JOURNAL_PLACED = 1, JOURNAL_UNDONE = 2 };

struct journal_record {
	uint32_t checksum;	/* of all of the record, this field being 0 */
	uint32_t size;		/* of all of the record, a multiple of 8 */
	uint32_t kind;		/* enum journal_kind */
	uint32_t flags;		/* HVMI_PATCH_* */
	uint64_t id;		/* of JOURNAL_PLACED: ascending */
	uint64_t gpa, gva;
	uint32_t len;		/* the original bytes follow, then those that were placed */
	uint32_t reserved;
};

#define JOURNAL_RECORD_MAX (sizeof(struct journal_record) + 2 * HVMI_PATCH_BYTES)

/* Something that was placed. One allocation. */
struct journal_patch {
	uint64_t id, gpa, gva;
	uint32_t len, flags;
	uint8_t bytes[];	/* original, then placed */
};

/* What is placed, in ascending order of ids. */
struct journal_patches {
	struct journal_item {
		uint64_t id;
		struct journal_patch *patch;	/* NULL: it was undone */
	} *items;
	size_t count, live, room;
};

uint32_t journal_checksum(const void *bytes, size_t len);

void journal_header_seal(struct journal_header *header);
/* -EBADMSG: it is no header of this version. */
int journal_header_check(const struct journal_header *header);

/* Writes a record of a patch to buf, of JOURNAL_RECORD_MAX bytes; returns its size. */
size_t journal_record_placed(const struct journal_patch *patch, void *buf);
size_t journal_record_undone(uint64_t id, void *buf);

struct journal_patch *journal_patch_create(uint32_t len);
/* Takes the patch, on failure too. -ENOMEM, -EOVERFLOW. */
int journal_patches_add(struct journal_patches *patches, struct journal_patch *patch);
/* NULL: there is none. */
struct journal_patch *journal_patches_find(const struct journal_patches *patches, uint64_t id);
void journal_patches_remove(struct journal_patches *patches, uint64_t id);
void journal_patches_free(struct journal_patches *patches);

/*
 * Read the records behind the header, up to the first that is none. *end_ret: how far that is. 0,
 * -ENOMEM, -EOVERFLOW; patches must be freed in any case.
 */
int journal_parse(const uint8_t *bytes, size_t len, struct journal_patches *ret, size_t *end_ret);

#endif
