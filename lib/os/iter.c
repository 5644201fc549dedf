/* SPDX-License-Identifier: Apache-2.0 */
#include "os/iter.h"

int iter_create(const struct list_kind *kind, const struct list_request *request,
		struct os_iter **ret, struct hvmi_error *err)
{
	struct hvmi_os *os = request->os;
	if (request->flags & ~(kind->flags | HVMI_LIST_PAUSED))
		return hvmi_error_set(err, -EINVAL, HVMI_NO_ADDRESS, "unknown flags 0x%x",
				      request->flags);
	struct os_iter *iter = calloc(1, sizeof(*iter));
	if (!iter)
		return hvmi_error_set(err, -ENOMEM, HVMI_NO_ADDRESS, "out of memory");
	iter->os = os;
	iter->kind = kind;
	iter->paused = request->flags & HVMI_LIST_PAUSED;
	/* Somebody may resume a machine that only he paused, before the list is at its end. */
	iter->copied = !iter->paused && !vm_is_static(os->vm);
	int rc = iter->paused ? hvmi_vm_pause(os->vm, err) : 0;
	if (rc) {
		free(iter);
		return rc;
	}
	rc = iter->copied ? snapshot_take(kind, request, &iter->snapshot, err) :
			    kind->begin(request, &iter->state, err);
	if (rc) {
		if (iter->paused)
			hvmi_vm_resume(os->vm, NULL);
		free(iter);
		return rc;
	}
	*ret = iter;
	return 0;
}

int iter_next(struct os_iter *iter, void *record, struct hvmi_error *err)
{
	const struct list_kind *kind = iter->kind;
	if (!iter->copied)
		return kind->next(iter->os, iter->state, record, err);
	struct snapshot *s = &iter->snapshot;
	if (iter->at == s->count) {
		int rc = s->end;
		if (rc && err)
			*err = s->error;
		s->end = 0;
		return rc;
	}
	memcpy(record, s->records + iter->at++ * kind->record_bytes, kind->record_bytes);
	if (kind->path_at != SIZE_MAX) {
		uintptr_t offset;
		memcpy(&offset, (char *)record + kind->path_at, sizeof(offset));
		const char *path = s->text + offset;
		memcpy((char *)record + kind->path_at, &path, sizeof(path));
	}
	return 1;
}

void iter_destroy(struct os_iter *iter)
{
	if (!iter)
		return;
	if (iter->copied)
		snapshot_free(&iter->snapshot);
	else
		iter->kind->end(iter->os, iter->state);
	if (iter->paused)
		hvmi_vm_resume(iter->os->vm, NULL);
	free(iter);
}
