/* SPDX-License-Identifier: Apache-2.0 */
#include "hook/journal.h"

#include <unistd.h>

/* The file is written anew when more than this, and most of it, says nothing any more. */
#define DEAD_MAX (256 * KIB)

void journal_hold(struct hvmi_journal *journal, bool hold)
{
	uint32_t holding = hold;
	if (hold ? journal->holds++ == 0 : --journal->holds == 0) {
		journal->header.holding = holding;
		/* What cannot be noted is not worth failing for: a machine that stands is seen. */
		if (pwrite(journal->fd, &holding, sizeof(holding),
			   offsetof(struct journal_header, holding)) < 0)
			vm_log(journal->vm, HVMI_LOG_WARNING,
			       "the journal %s cannot be written", journal->name);
	}
}

static void vm_held(void *context, bool held)
{
	journal_hold(context, held);
}

/* What an earlier program left is put right, thrown away, or a reason not to begin. */
static int settle(struct hvmi_journal *journal, const struct journal_identity *identity,
		  uint32_t flags, struct hvmi_error *err)
{
	bool empty = false;
	int rc = journal_file_load(journal, identity, &empty, err);
	if (rc == -EBADMSG && flags & HVMI_JOURNAL_DISCARD) {
		journal_patches_free(&journal->patches);
		return 0;
	}
	if (rc || empty || (!journal->patches.live && !journal->header.holding))
		return rc;
	if (flags & HVMI_JOURNAL_DISCARD) {
		journal_patches_free(&journal->patches);
		return 0;
	}
	if (!(flags & HVMI_JOURNAL_RECOVER))
		return hvmi_error_set(err, -EBUSY, HVMI_NO_ADDRESS,
				      "program %u was killed and left %zu patches in this machine: "
				      "run hvmi-recover, or open with HVMI_JOURNAL_RECOVER",
				      journal->header.pid, journal->patches.live);
	rc = journal_recover(journal, NULL, NULL, err);
	/* What vCPUs may still run stays in the journal, and is nobody's way. */
	return rc == -EBUSY ? 0 : rc;
}

HVMI_API int hvmi_journal_open(struct hvmi_vm *vm, const char *directory, uint32_t flags,
			       struct hvmi_journal **ret, struct hvmi_error *err)
{
	struct journal_identity identity;
	if (!directory || flags & ~(HVMI_JOURNAL_RECOVER | HVMI_JOURNAL_DISCARD))
		return hvmi_error_set(err, -EINVAL, HVMI_NO_ADDRESS,
				      "a journal needs a folder, and flags of journal.h");
	if (vm->held)
		return hvmi_error_set(err, -EBUSY, HVMI_NO_ADDRESS,
				      "a journal of this machine is open already");
	int rc = vm_need_write(vm, err);
	if (rc)
		return rc;
	struct hvmi_journal *journal = calloc(1, sizeof(*journal));
	if (!journal)
		return hvmi_error_set(err, -ENOMEM, HVMI_NO_ADDRESS, "out of memory");
	journal->vm = vm;
	journal_identify(vm, &identity);
	rc = journal_file_open(journal, directory, &identity, true, err);
	if (!rc)
		rc = settle(journal, &identity, flags, err);
	if (!rc) {
		journal->holds = vm->pauses && !vm_is_static(vm);
		journal->header = (struct journal_header){
			.magic = JOURNAL_MAGIC, .version = JOURNAL_VERSION, .identity = identity,
			.pid = (uint32_t)getpid(), .holding = journal->holds,
		};
		rc = journal_file_rewrite(journal, err);
	}
	if (rc) {
		journal_file_close(journal, false);
		free(journal);
		return rc;
	}
	vm->held = vm_held;
	vm->held_context = journal;
	*ret = journal;
	return 0;
}

HVMI_API void hvmi_journal_close(struct hvmi_journal *journal)
{
	if (!journal)
		return;
	journal->vm->held = NULL;
	/* The program lives, and will let the machine run. */
	journal->holds = 1;
	journal_hold(journal, false);
	journal_file_close(journal, journal->patches.live == 0);
	free(journal);
}

static struct journal_patch *make_patch(const struct hvmi_patch *from, const void *original,
					uint64_t id)
{
	struct journal_patch *patch = journal_patch_create(from->len);
	if (!patch)
		return NULL;
	patch->id = id;
	patch->gpa = from->gpa;
	patch->gva = from->gva;
	patch->flags = from->flags;
	memcpy(patch->bytes, original, from->len);
	memcpy(patch->bytes + from->len, from->bytes, from->len);
	return patch;
}

static size_t record_size(uint32_t len)
{
	return (sizeof(struct journal_record) + 2 * (size_t)len + 7) & ~(size_t)7;
}

int journal_add(struct hvmi_journal *journal, struct hvmi_patch *patches,
		const void *const *originals, size_t count, struct hvmi_error *err)
{
	size_t len = 0, added = 0;
	for (size_t i = 0; i < count; i++)
		len += record_size(patches[i].len);
	CLEANUP_FREE uint8_t *records = calloc(1, MAX(len, (size_t)1));
	uint8_t *to = records;
	int rc = records ? 0 : -ENOMEM;
	const uint64_t first = journal->last_id + 1;
	for (; !rc && added < count; added++) {
		struct journal_patch *p = make_patch(&patches[added], originals[added],
						     first + added);
		if (p)
			to += journal_record_placed(p, to);
		rc = p ? journal_patches_add(&journal->patches, p) : -ENOMEM;
		if (rc)
			break;
	}
	if (rc)
		hvmi_error_set(err, rc, HVMI_NO_ADDRESS, rc == -ENOMEM ? "out of memory" :
			       "the journal has all the patches that it can have");
	else
		rc = journal_file_append(journal, records, len, err);
	for (size_t i = 0; i < added; i++) {
		if (rc)
			journal_patches_remove(&journal->patches, first + i);
		else
			patches[i].id = first + i;
	}
	if (!rc)
		journal->last_id += count;
	return rc;
}

int journal_forget(struct hvmi_journal *journal, uint64_t id, struct hvmi_error *err)
{
	uint8_t record[sizeof(struct journal_record)];
	const struct journal_patch *patch = journal_patches_find(&journal->patches, id);
	if (!patch)
		return hvmi_error_set(err, -ENOENT, HVMI_NO_ADDRESS, "there is no patch %llu",
				      (unsigned long long)id);
	size_t len = journal_record_undone(id, record);
	journal->dead += record_size(patch->len) + len;
	journal_patches_remove(&journal->patches, id);
	int rc = journal_file_append(journal, record, len, err);
	if (journal->dead > DEAD_MAX && journal->dead > journal->end / 2)
		/* If it cannot be, it goes on growing. */
		journal_file_rewrite(journal, NULL);
	return rc;
}

int journal_look(struct hvmi_vm *vm, const struct journal_patch *patch, enum journal_state *ret)
{
	uint8_t now[HVMI_PATCH_BYTES];
	const uint8_t *original = patch->bytes, *placed = patch->bytes + patch->len;
	int rc = hvmi_vm_read(vm, patch->gpa, now, patch->len, NULL);
	if (rc)
		return rc;
	*ret = JOURNAL_STATE_ORIGINAL;
	for (uint32_t i = 0; i < patch->len; i++) {
		if (now[i] == original[i])
			continue;
		if (now[i] != placed[i]) {
			*ret = JOURNAL_STATE_CHANGED;
			break;
		}
		*ret = JOURNAL_STATE_PLACED;
	}
	return 0;
}

int journal_restore(struct hvmi_vm *vm, const struct journal_patch *patch)
{
	return hvmi_vm_write(vm, patch->gpa, patch->bytes, patch->len, NULL);
}

static int check_patch(const struct hvmi_patch *patch, struct hvmi_error *err)
{
	if (!patch->bytes || patch->len == 0 || patch->len > HVMI_PATCH_BYTES ||
	    patch->gpa % FRAME_SIZE + patch->len > FRAME_SIZE || patch->flags & ~HVMI_PATCH_CODE ||
	    (patch->flags & HVMI_PATCH_CODE && patch->gva == HVMI_NO_ADDRESS))
		return hvmi_error_set(err, -EINVAL, patch->gpa,
				      "struct hvmi_patch makes no sense: bytes of one page, and "
				      "code has a gva");
	return 0;
}

HVMI_API int hvmi_patch_place(struct hvmi_journal *journal, struct hvmi_patch *patch,
			      struct hvmi_error *err)
{
	struct hvmi_patch p;
	uint8_t original[HVMI_PATCH_BYTES] = { 0 };
	const void *originals[] = { original };
	if (options_copy(&p, sizeof(p), patch))
		return hvmi_error_set(err, -EINVAL, HVMI_NO_ADDRESS, "set hvmi_patch.size");
	int rc = check_patch(&p, err);
	if (rc)
		return rc;
	rc = hvmi_vm_read(journal->vm, p.gpa, original, p.len, NULL);
	if (rc)
		return hvmi_error_set(err, rc, p.gpa, "what is at 0x%llx cannot be read (%s)",
				      (unsigned long long)p.gpa, hvmi_error_name(rc));
	rc = journal_add(journal, &p, originals, 1, err);
	if (rc)
		return rc;
	journal_hold(journal, true);
	rc = hvmi_vm_write(journal->vm, p.gpa, p.bytes, p.len, NULL);
	if (rc) {
		hvmi_error_set(err, rc, p.gpa, "0x%llx cannot be written (%s)",
			       (unsigned long long)p.gpa, hvmi_error_name(rc));
		/* A part of it may have been. */
		if (!hvmi_vm_write(journal->vm, p.gpa, original, p.len, NULL) || rc == -EACCES ||
		    rc == -ENOTSUP || rc == -EFAULT)
			journal_forget(journal, p.id, NULL);
	} else {
		patch->id = p.id;
	}
	journal_hold(journal, false);
	return rc;
}

HVMI_API int hvmi_patch_undo(struct hvmi_journal *journal, uint64_t id, struct hvmi_error *err)
{
	const struct journal_patch *patch = journal_patches_find(&journal->patches, id);
	enum journal_state state;
	if (!patch)
		return hvmi_error_set(err, -ENOENT, HVMI_NO_ADDRESS, "there is no patch %llu",
				      (unsigned long long)id);
	const uint64_t gpa = patch->gpa;
	journal_hold(journal, true);
	int rc = journal_look(journal->vm, patch, &state);
	if (!rc && state == JOURNAL_STATE_PLACED)
		rc = journal_restore(journal->vm, patch);
	if (rc)
		hvmi_error_set(err, rc, gpa, "0x%llx cannot be put back (%s)",
			       (unsigned long long)gpa, hvmi_error_name(rc));
	else
		rc = journal_forget(journal, id, err);
	journal_hold(journal, false);
	if (!rc && state == JOURNAL_STATE_CHANGED)
		return hvmi_error_set(err, -EBADMSG, gpa,
				      "the guest has other bytes at 0x%llx now, which were left "
				      "alone", (unsigned long long)gpa);
	return rc;
}
