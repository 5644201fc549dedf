/* SPDX-License-Identifier: Apache-2.0 */
#include "hook/detour.h"

#include "vm/vm.h"

HVMI_API int hvmi_detour_create(struct hvmi_os *os, const struct hvmi_detour_request *request,
				struct hvmi_detour **ret, struct hvmi_error *err)
{
	struct hvmi_detour_request r;
	if (options_copy(&r, sizeof(r), request) || r.code_room == 0 ||
	    r.code_room > HVMI_DETOUR_CODE || !r.memory != !r.memory_len ||
	    r.memory_len > UINT64_MAX - r.memory)
		return hvmi_error_set(err, -EINVAL, HVMI_NO_ADDRESS,
				      "struct hvmi_detour_request makes no sense: see detour.h");
	struct hvmi_detour *detour = calloc(1, sizeof(*detour));
	if (!detour)
		return hvmi_error_set(err, -ENOMEM, HVMI_NO_ADDRESS, "out of memory");
	detour->os = os;
	int rc = hvmi_os_kernel_space(os, &detour->space, err);
	if (!rc)
		rc = detour_plan(detour, &r, err);
	if (rc) {
		hvmi_detour_destroy(detour);
		return rc;
	}
	*ret = detour;
	return 0;
}

HVMI_API void hvmi_detour_destroy(struct hvmi_detour *detour)
{
	if (!detour)
		return;
	hvmi_space_destroy(detour->space);
	free(detour);
}

HVMI_API int hvmi_detour_get_info(const struct hvmi_detour *detour, struct hvmi_detour_info *ret)
{
	struct hvmi_detour_info info = detour->info;
	info.placed = detour->journal != NULL;
	return result_copy(ret, &info, sizeof(info));
}

/* -EBUSY, with one who is in the way, if anybody is. */
static int check_quiet(struct hvmi_detour *d, const struct hvmi_code *ranges, size_t count,
		       struct hvmi_error *err)
{
	struct hvmi_occupant who;
	char name[4 * sizeof(who.name) + 1];
	int rc = hvmi_quiet_check(d->os, ranges, count, &who, 1, err);
	if (rc <= 0)
		return rc;
	if (who.kind != HVMI_OCCUPANT_THREAD)
		return hvmi_error_set(err, -EBUSY, who.gva,
				      who.kind == HVMI_OCCUPANT_VCPU ?
				      "vCPU %u is at 0x%llx, in code that is to be changed" :
				      "vCPU %u returns to 0x%llx, in code that is to be changed",
				      who.vcpu, (unsigned long long)who.gva);
	text_sanitise(who.name, strnlen(who.name, sizeof(who.name)), name, sizeof(name));
	return hvmi_error_set(err, -EBUSY, who.gva,
			      "thread %d (%s) returns to 0x%llx, in code that is to be changed",
			      (int)who.pid, name, (unsigned long long)who.gva);
}

/* As long as it is what the plan was made from. */
static int check_plan(struct hvmi_detour *d, const struct detour_part *part, struct hvmi_error *err)
{
	uint8_t now[DETOUR_MEMORY_MAX];
	int rc = hvmi_space_read(d->space, part->gva, now, part->len, NULL);
	if (!rc && memcmp(now, part->planned_over, part->len) != 0)
		rc = -EBUSY;
	return !rc ? 0 : hvmi_error_set(err, rc, part->gva,
					"what is at 0x%llx has changed since the detour was planned "
					"(%s): plan it again", (unsigned long long)part->gva,
					hvmi_error_name(rc));
}

static int undo_part(struct hvmi_detour *d, struct detour_part *part, struct hvmi_error *err)
{
	int changed = 0;
	for (size_t i = DETOUR_PATCHES; i-- > 0;) {
		int rc = part->ids[i] ? hvmi_patch_undo(d->journal, part->ids[i], err) : 0;
		if (rc && rc != -EBADMSG)
			return rc;
		changed = rc ? rc : changed;
		part->ids[i] = 0;
	}
	return changed;
}

static int place_part(struct hvmi_detour *d, struct detour_part *part, struct hvmi_error *err)
{
	uint32_t n;
	for (uint32_t done = 0, i = 0; done < part->len; done += n, i++) {
		struct hvmi_patch patch = { .size = sizeof(patch), .gva = part->gva + done,
					    .bytes = part->bytes + done, .flags = part->flags };
		n = MIN(part->len - done, FRAME_SIZE - (uint32_t)(patch.gva % FRAME_SIZE));
		patch.len = n;
		int rc = hvmi_space_translate(d->space, patch.gva, &patch.gpa);
		if (rc)
			hvmi_error_set(err, rc, patch.gva, "0x%llx is not mapped any more",
				       (unsigned long long)patch.gva);
		else
			rc = hvmi_patch_place(d->journal, &patch, err);
		if (rc) {
			undo_part(d, part, NULL);
			return rc;
		}
		part->ids[i] = patch.id;
	}
	return 0;
}

static int commit_paused(struct hvmi_detour *d, struct hvmi_error *err)
{
	/* Who is at its start enters the jump. */
	const struct hvmi_code replaced = { d->info.gva + 1, d->info.replaced - 1 };
	int rc = check_plan(d, &d->jump, err);
	if (!rc)
		rc = check_plan(d, &d->memory, err);
	if (!rc)
		rc = check_quiet(d, &replaced, 1, err);
	if (!rc)
		rc = place_part(d, &d->memory, err);
	if (rc)
		return rc;
	rc = place_part(d, &d->jump, err);
	if (rc)
		undo_part(d, &d->memory, NULL);
	return rc;
}

/* Resumes; an error of that is told only if there is no other. */
static int end_pause(struct hvmi_detour *d, int rc, struct hvmi_error *err)
{
	int resume_rc = hvmi_vm_resume(d->os->vm, rc ? NULL : err);
	return rc ? rc : resume_rc;
}

HVMI_API int hvmi_detour_commit(struct hvmi_detour *detour, const void *code, size_t len,
				struct hvmi_journal *journal, struct hvmi_error *err)
{
	if (!code || len == 0 || len > detour->code_room || !journal || detour->journal)
		return hvmi_error_set(err, -EINVAL, detour->info.gva,
				      "the detour of 0x%llx is placed already, or there is no code, "
				      "too much, or no journal",
				      (unsigned long long)detour->info.gva);
	memcpy(detour->memory.bytes + (detour->info.code - detour->info.memory), code, len);
	int rc = hvmi_vm_pause(detour->os->vm, err);
	if (rc)
		return rc;
	detour->journal = journal;
	rc = commit_paused(detour, err);
	if (rc)
		detour->journal = NULL;
	return end_pause(detour, rc, err);
}

static int undo_paused(struct hvmi_detour *d, struct hvmi_error *err)
{
	const struct hvmi_code jump = { d->info.gva + 1, d->info.jump_len - 1 };
	const struct hvmi_code memory = { d->info.memory, d->info.memory_len };
	int rc = 0;
	if (d->jump.ids[0]) {
		rc = check_quiet(d, &jump, 1, err);
		if (!rc)
			rc = undo_part(d, &d->jump, err);
		d->lost = rc == -EBADMSG;
	}
	if (!rc && d->lost)
		rc = hvmi_error_set(err, -EBADMSG, d->info.gva,
				    "the guest had changed the jump at 0x%llx, and may still get to "
				    "the code by it", (unsigned long long)d->info.gva);
	if (!rc)
		rc = check_quiet(d, &memory, 1, err);
	if (rc)
		return rc;
	rc = undo_part(d, &d->memory, err);
	if (!rc || rc == -EBADMSG)
		d->journal = NULL;
	return rc;
}

HVMI_API int hvmi_detour_undo(struct hvmi_detour *detour, struct hvmi_error *err)
{
	if (!detour->journal)
		return hvmi_error_set(err, -EINVAL, detour->info.gva,
				      "the detour of 0x%llx is not placed",
				      (unsigned long long)detour->info.gva);
	int rc = hvmi_vm_pause(detour->os->vm, err);
	if (rc)
		return rc;
	return end_pause(detour, undo_paused(detour, err), err);
}
