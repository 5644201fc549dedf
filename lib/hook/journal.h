/* SPDX-License-Identifier: Apache-2.0 */
/* Inside a journal, and what the hook layer does with it beside what is public. */
#ifndef HVMI_LIB_JOURNAL_H
#define HVMI_LIB_JOURNAL_H

#include "hook/journal_format.h"
#include "vm/vm.h"

struct hvmi_journal {
	struct hvmi_vm *vm;
	int directory, fd;	/* the file is locked; -1: not open */
	char name[40];
	struct journal_header header;
	struct journal_patches patches;
	uint64_t last_id;
	uint64_t end;		/* where the next record goes */
	uint64_t dead;		/* bytes of records that say nothing any more */
	bool torn;		/* what was behind `end` was no record */
	uint32_t holds;		/* see journal_hold() */
};

/*
 * The parts of hvmi_patch_place() and hvmi_patch_undo(), for who writes many at once: first add all, in
 * one write to the file; then write to the guest; what was undone there is forgotten here.
 */
/* `original` and patch->bytes are copied. All or none. */
int journal_add(struct hvmi_journal *journal, struct hvmi_patch *patches,
		const void *const *originals, size_t count, struct hvmi_error *err);
int journal_forget(struct hvmi_journal *journal, uint64_t id, struct hvmi_error *err);

/*
 * From the first true to the last false the program may have the machine stopped: if it is killed
 * meanwhile, recovery lets the machine run. hvmi_vm_pause() and _resume() say it themselves; who opens
 * events says it for as long as they are open.
 */
void journal_hold(struct hvmi_journal *journal, bool hold);

/* What became of a patch in the guest. */
enum journal_state { JOURNAL_STATE_PLACED, JOURNAL_STATE_ORIGINAL, JOURNAL_STATE_CHANGED };
/* Each byte that is one of ours is one of ours: a write that was cut in two counts as placed. */
int journal_look(struct hvmi_vm *vm, const struct journal_patch *patch, enum journal_state *ret);
/* Writes the original back over what journal_look() found to be placed. */
int journal_restore(struct hvmi_vm *vm, const struct journal_patch *patch);

/* journal_file.c */
/* What this machine is; fields that nobody tells are empty. */
void journal_identify(struct hvmi_vm *vm, struct journal_identity *ret);
/*
 * Find and lock the file of vm in a folder. With create it is made if it is not there. The header is
 * not read. -ENOENT, -EACCES, -EBUSY, -EIO.
 */
int journal_file_open(struct hvmi_journal *journal, const char *directory,
		      const struct journal_identity *identity, bool create, struct hvmi_error *err);
/* Read what is in it, of this machine and life. *empty_ret: nothing is in it yet. */
int journal_file_load(struct hvmi_journal *journal, const struct journal_identity *identity,
		      bool *empty_ret, struct hvmi_error *err);
/* Make it a new one with what is live. */
int journal_file_rewrite(struct hvmi_journal *journal, struct hvmi_error *err);
int journal_file_append(struct hvmi_journal *journal, const void *bytes, size_t len,
			struct hvmi_error *err);
void journal_file_close(struct hvmi_journal *journal, bool remove);

/* recover.c: what journal_file_load() loaded. */
int journal_recover(struct hvmi_journal *journal, struct hvmi_os *os, struct hvmi_recovered *ret,
		    struct hvmi_error *err);

#endif
