/* SPDX-License-Identifier: Apache-2.0 */
/* Hooks come and go together or not at all. */
#include "hook/hook.h"

static int remember(struct hvmi_hook ***list, size_t *count, size_t *room, struct hvmi_hook *hook,
		    struct hvmi_error *err)
{
	if (*count == *room) {
		size_t more = *room ? 2 * *room : 16;
		struct hvmi_hook **grown = realloc(*list, more * sizeof(*grown));
		if (!grown)
			return hvmi_error_set(err, -ENOMEM, HVMI_NO_ADDRESS, "out of memory");
		*list = grown;
		*room = more;
	}
	(*list)[(*count)++] = hook;
	return 0;
}

static void enlist(struct hvmi_hooks *hooks, struct hvmi_hook *hook)
{
	hook->hot->state = HOOK_LIVE;
	hook->serial = ++hooks->serial;
	hook->previous = NULL;
	hook->next = hooks->live;
	if (hooks->live)
		hooks->live->previous = hook;
	hooks->live = hook;
	hooks->hook_count++;
}

/* It is not called any more; who looks at it in a callback still may. */
static void bury(struct hvmi_hooks *hooks, struct hvmi_hook *hook)
{
	if (hook->previous)
		hook->previous->next = hook->next;
	else
		hooks->live = hook->next;
	if (hook->next)
		hook->next->previous = hook->previous;
	hooks->hook_count--;
	hook->hot->state = HOOK_DEAD;
	for (uint32_t i = 0; i < hooks->vm->description.vcpus; i++)
		if (hooks->vcpus[i].stepper == hook)
			hooks->vcpus[i].stepper = NULL;
	if (!hooks->depth) {
		hook_free(hook);
		return;
	}
	hook->next = hooks->graveyard;
	hooks->graveyard = hook;
}

static void forget_transaction(struct hvmi_hooks *hooks, bool failed)
{
	for (size_t i = 0; failed && i < hooks->add_count; i++)
		hook_free(hooks->adds[i]);
	for (size_t i = 0; failed && i < hooks->remove_count; i++)
		hooks->removes[i]->hot->state = HOOK_LIVE;
	hooks->add_count = hooks->remove_count = 0;
	hooks->begun = false;
}

static int change(struct hvmi_hooks *hooks, struct hvmi_error *err)
{
	size_t added = 0, removed = 0;
	int rc = 0;
	while (!rc && added < hooks->add_count) {
		rc = hook_place(hooks->adds[added], err);
		added += rc == 0;
	}
	while (!rc && removed < hooks->remove_count) {
		rc = hook_unplace(hooks->removes[removed], err);
		removed += rc == 0;
	}
	if (rc) {
		while (removed-- > 0)
			if (hook_place(hooks->removes[removed], NULL))
				vm_log(hooks->vm, HVMI_LOG_ERROR,
				       "a hook at 0x%llx could not be put back",
				       (unsigned long long)hooks->removes[removed]->address);
		while (added-- > 0)
			hook_unplace(hooks->adds[added], NULL);
	}
	return rc;
}

static int commit(struct hvmi_hooks *hooks, struct hvmi_error *err)
{
	int rc = hvmi_vm_pause(hooks->vm, err);
	if (rc) {
		forget_transaction(hooks, true);
		return rc;
	}
	rc = events_drain(hooks, err);
	if (!rc)
		rc = change(hooks, err);
	if (!rc) {
		for (size_t i = 0; i < hooks->add_count; i++)
			enlist(hooks, hooks->adds[i]);
		for (size_t i = 0; i < hooks->remove_count; i++)
			bury(hooks, hooks->removes[i]);
	}
	forget_transaction(hooks, rc);
	int resume_rc = hvmi_vm_resume(hooks->vm, rc ? NULL : err);
	return rc ? rc : resume_rc;
}

static int need_open(const struct hvmi_hooks *hooks, struct hvmi_error *err)
{
	return hooks->events ? 0 : hvmi_error_set(err, -ESRCH, HVMI_NO_ADDRESS,
						  "the machine's events are closed");
}

HVMI_API int hvmi_hooks_begin(struct hvmi_hooks *hooks, struct hvmi_error *err)
{
	int rc = need_open(hooks, err);
	if (!rc && hooks->begun)
		rc = hvmi_error_set(err, -EBUSY, HVMI_NO_ADDRESS, "a transaction has begun already");
	hooks->begun |= !rc;
	return rc;
}

HVMI_API int hvmi_hooks_commit(struct hvmi_hooks *hooks, struct hvmi_error *err)
{
	int rc = need_open(hooks, err);
	if (!rc && !hooks->begun)
		rc = hvmi_error_set(err, -EINVAL, HVMI_NO_ADDRESS, "no transaction has begun");
	return rc ? rc : commit(hooks, err);
}

HVMI_API void hvmi_hooks_abort(struct hvmi_hooks *hooks)
{
	forget_transaction(hooks, true);
}

HVMI_API int hvmi_hook_add(struct hvmi_hooks *hooks, const struct hvmi_hook_request *request,
			   struct hvmi_hook **ret, struct hvmi_error *err)
{
	struct hvmi_hook *hook;
	int rc = need_open(hooks, err);
	if (!rc)
		rc = hook_create(hooks, request, &hook, err);
	if (rc)
		return rc;
	rc = remember(&hooks->adds, &hooks->add_count, &hooks->add_room, hook, err);
	if (rc)
		hook_free(hook);
	else if (!hooks->begun)
		rc = commit(hooks, err);
	if (!rc && ret)
		*ret = hook;
	return rc;
}

HVMI_API int hvmi_hook_remove(struct hvmi_hook *hook, struct hvmi_error *err)
{
	struct hvmi_hooks *hooks = hook->hooks;
	int rc = need_open(hooks, err);
	if (rc)
		return rc;
	/* One that this transaction adds just is not added. */
	for (size_t i = 0; hook->hot->state == HOOK_PENDING && i < hooks->add_count; i++)
		if (hooks->adds[i] == hook) {
			hooks->add_count--;
			memmove(&hooks->adds[i], &hooks->adds[i + 1],
				(hooks->add_count - i) * sizeof(*hooks->adds));
			hook_free(hook);
			return 0;
		}
	if (hook->hot->state != HOOK_LIVE)
		return hvmi_error_set(err, -EINVAL, hook->address, "the hook is being removed already");
	rc = remember(&hooks->removes, &hooks->remove_count, &hooks->remove_room, hook, err);
	if (rc)
		return rc;
	if (hooks->begun)
		hook->hot->state = HOOK_LEAVING;
	return hooks->begun ? 0 : commit(hooks, err);
}

HVMI_API int hvmi_hook_get_info(const struct hvmi_hook *hook, struct hvmi_hook_info *ret)
{
	const struct hvmi_hook_info info = {
		.size = sizeof(info), .hits = hook->hot->hits, .filtered = hook->filtered,
		.time_ns = hooks_ns(hook->hooks, hook->hot->ticks), .refused = hook->refused, .kind = hook->hot->kind,
		.mechanism = hook->plan.mechanism, .step_over = hook->plan.step_over,
		.flags = hook->plan.flags, .verdicts = hook->plan.verdicts,
		.address = hook->address, .gpa = hook->gpa, .state = follow_state(hook),
		.moves = hook->moves,
	};
	return result_copy(ret, &info, sizeof(info));
}
