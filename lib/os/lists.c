/* SPDX-License-Identifier: Apache-2.0 */
/* The public iterators: the operating system's methods behind a handle for each noun. */
#include "os/iter.h"

struct hvmi_task_iter {
	struct os_iter base;
};
struct hvmi_module_iter {
	struct os_iter base;
};
struct hvmi_region_iter {
	struct os_iter base;
};

int tasks_begin(const struct list_request *request, void **state_ret, struct hvmi_error *err)
{
	return request->os->ops->task_begin(request->os, request->flags, request->reuse, state_ret,
					    err);
}

static int task_next(struct hvmi_os *os, void *state, void *record, struct hvmi_error *err)
{
	return os->ops->task_next(state, record, err);
}

void tasks_end(struct hvmi_os *os, void *state)
{
	os->ops->task_end(state);
}

static int compare_pids(const void *a, const void *b)
{
	const struct hvmi_task *x = *(const struct hvmi_task *const *)a;
	const struct hvmi_task *y = *(const struct hvmi_task *const *)b;
	return x->pid < y->pid ? -1 : x->pid > y->pid;
}

/*
 * No pid twice: a thread that takes its leader's place may be met as itself and as the leader, or
 * a pid may have been given away again.
 */
int tasks_check(const void *tasks, size_t count, size_t stride, struct hvmi_error *err)
{
	CLEANUP_FREE const struct hvmi_task **sorted = malloc((count + 1) * sizeof(*sorted));
	size_t known = 0;
	if (!sorted)
		return hvmi_error_set(err, -ENOMEM, HVMI_NO_ADDRESS, "out of memory");
	for (size_t i = 0; i < count; i++) {
		const struct hvmi_task *task = (const void *)((const char *)tasks + i * stride);
		if (task->valid & HVMI_TASK_HAS_PID)
			sorted[known++] = task;
	}
	qsort(sorted, known, sizeof(*sorted), compare_pids);
	for (size_t i = 1; i < known; i++)
		if (sorted[i]->pid == sorted[i - 1]->pid)
			return hvmi_error_set(err, -EBUSY, sorted[i]->object,
					      "the list of processes has pid %d twice",
					      (int)sorted[i]->pid);
	return 0;
}

static int task_check(const void *records, size_t count, struct hvmi_error *err)
{
	return tasks_check(records, count, sizeof(struct hvmi_task), err);
}

static const struct list_kind task_kind = {
	.what = "processes",
	.flags = HVMI_TASKS_THREADS,
	.record_bytes = sizeof(struct hvmi_task),
	.path_at = SIZE_MAX,
	.same_at = offsetof(struct hvmi_task, object),
	.same_bytes = offsetof(struct hvmi_task, threads) - offsetof(struct hvmi_task, object),
	.begin = tasks_begin,
	.next = task_next,
	.end = tasks_end,
	.check = task_check,
};

HVMI_API int hvmi_task_iter_create(struct hvmi_os *os, uint32_t flags, struct hvmi_task_iter **ret,
				   struct hvmi_error *err)
{
	const struct list_request request = { .os = os, .flags = flags };
	struct os_iter *iter;
	int rc = iter_create(&task_kind, &request, &iter, err);
	if (!rc)
		*ret = (struct hvmi_task_iter *)iter;
	return rc;
}

HVMI_API int hvmi_task_next(struct hvmi_task_iter *iter, struct hvmi_task *ret,
			    struct hvmi_error *err)
{
	struct hvmi_task task = { 0 };
	int rc = iter_next(&iter->base, &task, err);
	if (rc == 1 && result_copy(ret, &task, sizeof(task)))
		return hvmi_error_set(err, -EINVAL, HVMI_NO_ADDRESS,
				      "hvmi_task.size is not set");
	return rc;
}

HVMI_API void hvmi_task_iter_destroy(struct hvmi_task_iter *iter)
{
	iter_destroy((struct os_iter *)iter);
}

static int module_begin(const struct list_request *request, void **state_ret,
			struct hvmi_error *err)
{
	const struct os_ops *ops = request->os->ops;
	return request->task ? ops->module_begin_task(request->os, request->task, request->flags,
						      state_ret, err) :
			       ops->module_begin(request->os, request->flags, state_ret, err);
}

static int module_next(struct hvmi_os *os, void *state, void *record, struct hvmi_error *err)
{
	return os->ops->module_next(state, record, err);
}

static void module_end(struct hvmi_os *os, void *state)
{
	os->ops->module_end(state);
}

static const struct list_kind module_kind = {
	.what = "modules",
	.record_bytes = sizeof(struct hvmi_module),
	.path_at = offsetof(struct hvmi_module, path),
	.same_bytes = sizeof(struct hvmi_module),
	.twice = true,
	.begin = module_begin,
	.next = module_next,
	.end = module_end,
};

HVMI_API int hvmi_module_iter_create(struct hvmi_os *os, uint32_t flags,
				     struct hvmi_module_iter **ret, struct hvmi_error *err)
{
	const struct list_request request = { .os = os, .flags = flags };
	struct os_iter *iter;
	int rc = iter_create(&module_kind, &request, &iter, err);
	if (!rc)
		*ret = (struct hvmi_module_iter *)iter;
	return rc;
}

HVMI_API int hvmi_module_iter_create_task(struct hvmi_os *os, const struct hvmi_task *task,
					  uint32_t flags, struct hvmi_module_iter **ret,
					  struct hvmi_error *err)
{
	struct hvmi_task t;
	int rc = task_take(&t, task, err);
	const struct list_request request = { .os = os, .task = &t, .flags = flags };
	struct os_iter *iter;
	if (!rc && !os->ops->module_begin_task)
		rc = hvmi_error_set(err, -ENOTSUP, HVMI_NO_ADDRESS,
				    "modules of processes cannot be listed for %s: see its regions",
				    os->ops->name);
	if (!rc)
		rc = iter_create(&module_kind, &request, &iter, err);
	if (!rc)
		*ret = (struct hvmi_module_iter *)iter;
	return rc;
}

HVMI_API int hvmi_module_next(struct hvmi_module_iter *iter, struct hvmi_module *ret,
			      struct hvmi_error *err)
{
	struct hvmi_module module = { .path = "" };
	int rc = iter_next(&iter->base, &module, err);
	if (rc == 1 && result_copy(ret, &module, sizeof(module)))
		return hvmi_error_set(err, -EINVAL, HVMI_NO_ADDRESS,
				      "hvmi_module.size is not set");
	return rc;
}

HVMI_API void hvmi_module_iter_destroy(struct hvmi_module_iter *iter)
{
	iter_destroy((struct os_iter *)iter);
}

static int region_begin(const struct list_request *request, void **state_ret,
			struct hvmi_error *err)
{
	return request->os->ops->region_begin(request->os, request->task, request->flags,
					      state_ret, err);
}

static int region_next(struct hvmi_os *os, void *state, void *record, struct hvmi_error *err)
{
	return os->ops->region_next(state, record, err);
}

static void region_end(struct hvmi_os *os, void *state)
{
	os->ops->region_end(state);
}

static const struct list_kind region_kind = {
	.what = "regions",
	.record_bytes = sizeof(struct hvmi_region),
	.path_at = offsetof(struct hvmi_region, path),
	.same_bytes = sizeof(struct hvmi_region),
	.twice = true,
	.begin = region_begin,
	.next = region_next,
	.end = region_end,
};

HVMI_API int hvmi_region_iter_create(struct hvmi_os *os, const struct hvmi_task *task,
				     uint32_t flags, struct hvmi_region_iter **ret,
				     struct hvmi_error *err)
{
	struct hvmi_task t;
	int rc = task_take(&t, task, err);
	const struct list_request request = { .os = os, .task = &t, .flags = flags };
	struct os_iter *iter;
	if (!rc)
		rc = iter_create(&region_kind, &request, &iter, err);
	if (!rc)
		*ret = (struct hvmi_region_iter *)iter;
	return rc;
}

HVMI_API int hvmi_region_next(struct hvmi_region_iter *iter, struct hvmi_region *ret,
			      struct hvmi_error *err)
{
	struct hvmi_region region = { 0 };
	int rc = iter_next(&iter->base, &region, err);
	if (rc == 1 && result_copy(ret, &region, sizeof(region)))
		return hvmi_error_set(err, -EINVAL, HVMI_NO_ADDRESS,
				      "hvmi_region.size is not set");
	return rc;
}

HVMI_API void hvmi_region_iter_destroy(struct hvmi_region_iter *iter)
{
	iter_destroy((struct os_iter *)iter);
}
