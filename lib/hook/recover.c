/* SPDX-License-Identifier: Apache-2.0 */
#include "hook/journal.h"

#include <unistd.h>

#include "hook/quiet.h"
#include "os/os.h"

/* A program that is killed may have left breakpoints, and vCPUs that wait for it. */
static int end_events(struct hvmi_vm *vm, struct hvmi_error *err)
{
	struct hvmi_events *events;
	if (vm->events || !vm->backend.events_open)
		return 0;
	int rc = hvmi_events_open(vm, NULL, &events, err);
	if (!rc)
		hvmi_events_close(events);
	return rc == -ENOTSUP ? 0 : rc;
}

/*
 * Which patches somebody is in, by their index. Without an operating system those that may be returned
 * into are taken for busy, and of others only the vCPUs count that are in the middle of them.
 */
static int find_busy(struct hvmi_journal *journal, struct hvmi_os *os, bool *busy,
		     struct hvmi_error *err)
{
	const struct journal_patches *p = &journal->patches;
	CLEANUP_FREE struct hvmi_code *ranges = calloc(MAX(p->count, (size_t)1), sizeof(*ranges));
	if (!ranges)
		return hvmi_error_set(err, -ENOMEM, HVMI_NO_ADDRESS, "out of memory");
	bool code = false;
	for (size_t i = 0; i < p->count; i++) {
		const struct journal_patch *patch = p->items[i].patch;
		if (!patch || patch->gva == HVMI_NO_ADDRESS || !patch->gva)
			continue;
		bool is_code = patch->flags & HVMI_PATCH_CODE;
		ranges[i].gva = patch->gva + !is_code;
		ranges[i].len = patch->len - !is_code;
		code |= is_code;
	}
	struct quiet_search search = { .ranges = ranges, .count = p->count, .busy = busy };
	int rc = code && os ? quiet_search(&search, os, err) :
			      quiet_search_vcpus(&search, journal->vm, err);
	/* Nothing is known of vCPUs: then what may be in use is. */
	if (rc && rc != -ENOTSUP && rc != -EFAULT && rc != -EBADMSG)
		return rc;
	for (size_t i = 0; code && (rc || !os) && i < p->count; i++)
		busy[i] |= p->items[i].patch && p->items[i].patch->flags & HVMI_PATCH_CODE;
	return 0;
}

static void undo(struct hvmi_journal *journal, const bool *busy, struct hvmi_recovered *found)
{
	const struct journal_patches *p = &journal->patches;
	for (size_t i = p->count; i-- > 0;) {
		const struct journal_patch *patch = p->items[i].patch;
		enum journal_state state;
		if (!patch)
			continue;
		int rc = journal_look(journal->vm, patch, &state);
		if (!rc && state == JOURNAL_STATE_PLACED && busy[i]) {
			found->waiting++;
			continue;
		}
		if (!rc && state == JOURNAL_STATE_PLACED)
			rc = journal_restore(journal->vm, patch);
		/* Memory that the guest does not have any more is changed enough. */
		if (rc == -EFAULT) {
			state = JOURNAL_STATE_CHANGED;
			rc = 0;
		}
		if (rc) {
			found->failed++;
			continue;
		}
		found->restored += state == JOURNAL_STATE_PLACED;
		found->absent += state == JOURNAL_STATE_ORIGINAL;
		found->changed += state == JOURNAL_STATE_CHANGED;
		if (state == JOURNAL_STATE_CHANGED)
			vm_log(journal->vm, HVMI_LOG_WARNING,
			       "at 0x%llx the guest has other bytes than were placed: left alone",
			       (unsigned long long)patch->gpa);
		journal_forget(journal, patch->id, NULL);
	}
}

static int undo_all(struct hvmi_journal *journal, struct hvmi_os *os, struct hvmi_recovered *found,
		    struct hvmi_error *err)
{
	CLEANUP_FREE bool *busy = calloc(MAX(journal->patches.count, (size_t)1), sizeof(*busy));
	if (!busy)
		return hvmi_error_set(err, -ENOMEM, HVMI_NO_ADDRESS, "out of memory");
	int rc = find_busy(journal, os, busy, err);
	if (rc)
		return rc;
	undo(journal, busy, found);
	if (found->failed || found->waiting)
		return hvmi_error_set(err, -EBUSY, HVMI_NO_ADDRESS,
				      "%u patches wait until nobody is in them, and %u could not be "
				      "undone: try again", found->waiting, found->failed);
	return 0;
}

int journal_recover(struct hvmi_journal *journal, struct hvmi_os *os, struct hvmi_recovered *ret,
		    struct hvmi_error *err)
{
	struct hvmi_vm *vm = journal->vm;
	struct hvmi_recovered found = { .size = sizeof(found), .pid = journal->header.pid };
	found.flags = journal->torn ? HVMI_RECOVERED_TORN : 0;
	int rc = end_events(vm, err);
	if (rc)
		return rc;
	rc = hvmi_vm_pause(vm, err);
	/* One that cannot be paused is a file. */
	bool paused = rc == 0;
	if (rc && rc != -ENOTSUP)
		return rc;
	rc = 0;
	if (paused && journal->header.holding && vm->backend.adopt_pause) {
		rc = vm->backend.adopt_pause(vm->machine, err);
		found.flags |= rc ? 0 : HVMI_RECOVERED_RESUMED;
	}
	if (!rc)
		rc = undo_all(journal, os, &found, err);
	if (paused) {
		struct hvmi_error reason;
		int resume_rc = hvmi_vm_resume(vm, &reason);
		if (resume_rc && err)
			*err = reason;
		rc = resume_rc ? resume_rc : rc;
		if (!resume_rc && journal->header.holding) {
			/* Should we be killed in our turn, nobody else need do it. */
			journal->holds = 1;
			journal_hold(journal, false);
		}
	}
	if (ret)
		result_copy(ret, &found, sizeof(found));
	return rc;
}

HVMI_API int hvmi_recover(struct hvmi_vm *vm, const char *directory, struct hvmi_os *os,
			  struct hvmi_recovered *ret, struct hvmi_error *err)
{
	struct journal_identity identity;
	struct hvmi_journal journal = { .vm = vm, .directory = -1, .fd = -1 };
	bool empty = false;
	const struct hvmi_recovered nothing = { 0 };
	if (!directory || (os && os->vm != vm) || (ret && result_copy(ret, &nothing, sizeof(nothing))))
		return hvmi_error_set(err, -EINVAL, HVMI_NO_ADDRESS,
				      "recovery needs a folder, an OS of the same machine, and "
				      "hvmi_recovered.size");
	int rc = vm_need_write(vm, err);
	if (rc)
		return rc;
	if (vm->held)
		return hvmi_error_set(err, -EBUSY, HVMI_NO_ADDRESS,
				      "a journal of this machine is open: close it first");
	journal_identify(vm, &identity);
	rc = journal_file_open(&journal, directory, &identity, false, err);
	if (rc)
		return rc;
	rc = journal_file_load(&journal, &identity, &empty, err);
	if (!rc && !empty)
		rc = journal_recover(&journal, os, ret, err);
	journal_file_close(&journal, !rc);
	return rc;
}
