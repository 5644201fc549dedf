/* SPDX-License-Identifier: Apache-2.0 */
#include "os/iter.h"

#include <stdarg.h>
#include <stdio.h>

#define FACTS_MAX 64u

static char *text_duplicate(const char *text)
{
	size_t len = strlen(text), safe_len = text_sanitise(text, len, NULL, 0);
	char *copy = malloc(safe_len + 1);
	if (copy)
		text_sanitise(text, len, copy, safe_len + 1);
	return copy;
}

static void fact_free(struct os_fact *fact)
{
	free(fact->name);
	free(fact->value);
	free(fact->source);
}

void os_fact(struct hvmi_os *os, const char *name, uint32_t confidence, uint64_t gpa, uint64_t len,
	     const char *value, const char *source_format, ...)
{
	char source[512];
	va_list args;
	va_start(args, source_format);
	vsnprintf(source, sizeof(source), source_format, args);
	va_end(args);
	if (os->fact_count == FACTS_MAX)
		return;
	if (!os->facts)
		os->facts = calloc(FACTS_MAX, sizeof(*os->facts));
	if (!os->facts)
		return;
	struct os_fact fact = {
		.name = text_duplicate(name),
		.value = text_duplicate(value),
		.source = text_duplicate(source),
		.confidence = confidence,
		.gpa = gpa,
		.len = len,
	};
	if (!fact.name || !fact.value || !fact.source)
		fact_free(&fact);
	else
		os->facts[os->fact_count++] = fact;
}

static void os_clear(struct hvmi_os *os)
{
	if (os->ops)
		os->ops->detach(os);
	profile_destroy(os->profile);
	for (uint32_t i = 0; i < os->fact_count; i++)
		fact_free(&os->facts[i]);
	free(os->facts);
	memset(os, 0, sizeof(*os));
}

HVMI_API int hvmi_os_attach(struct hvmi_vm *vm, const struct hvmi_os_options *options,
			    struct hvmi_os **ret, struct hvmi_error *err)
{
	const struct os_ops *const known[] = { windows_ops(), linux_ops(),
						windows_search_ops() };
	struct hvmi_os_options o = { .size = sizeof(o) };
	if (!vm || !ret || (options && (options_copy(&o, sizeof(o), options) ||
					(o.flags & ~HVMI_OS_FORCE_PROFILE) || o.reserved)))
		return hvmi_error_set(err, -EINVAL, HVMI_NO_ADDRESS,
				      "a required argument is NULL, or struct hvmi_os_options holds "
				      "what this version does not know: zero it and set size");
	vm_refresh(vm);
	struct hvmi_os *os = calloc(1, sizeof(*os));
	if (!os)
		return hvmi_error_set(err, -ENOMEM, HVMI_NO_ADDRESS, "out of memory");
	int rc = -ENOENT;
	bool recognised = false;
	for (size_t i = 0; i < ARRAY_SIZE(known) && rc == -ENOENT && !recognised; i++) {
		os->ops = known[i];
		os->vm = vm;
		os->options = o;
		os->list_budget_ns = OS_LIST_BUDGET_NS;
		os->profile = profile_create();
		rc = os->profile ? os->ops->attach(os, err) :
				   hvmi_error_set(err, -ENOMEM, HVMI_NO_ADDRESS, "out of memory");
		recognised = os->recognised;
		if (rc)
			os_clear(os);
	}
	if (rc) {
		free(os);
		return rc;
	}
	os->options = (struct hvmi_os_options){ 0 };
	*ret = os;
	return 0;
}

HVMI_API void hvmi_os_detach(struct hvmi_os *os)
{
	if (!os)
		return;
	os_clear(os);
	free(os);
}

HVMI_API int hvmi_os_get_info(const struct hvmi_os *os, struct hvmi_os_info *ret)
{
	struct hvmi_os_info info = os->info;
	info.kind = os->ops->kind;
	info.release = os->release;
	info.banner = os->banner;
	info.root = os->kernel.root;
	info.paging = os->kernel.paging;
	return result_copy(ret, &info, sizeof(info));
}

HVMI_API int hvmi_os_explain(const struct hvmi_os *os, uint32_t index, struct hvmi_fact *ret)
{
	if (index >= os->fact_count)
		return -ENOENT;
	const struct os_fact *f = &os->facts[index];
	struct hvmi_fact fact = { .name = f->name, .value = f->value, .source = f->source,
				  .confidence = f->confidence, .gpa = f->gpa, .len = f->len };
	return result_copy(ret, &fact, sizeof(fact));
}

HVMI_API const struct hvmi_profile *hvmi_os_profile(const struct hvmi_os *os)
{
	return os->profile;
}

HVMI_API int hvmi_os_kernel_space(const struct hvmi_os *os, struct hvmi_space **ret,
				  struct hvmi_error *err)
{
	return hvmi_space_create(os->vm, &os->kernel, ret, err);
}

HVMI_API int hvmi_task_find(struct hvmi_os *os, int32_t pid, struct hvmi_task *ret,
			    struct hvmi_error *err)
{
	/* Leaders first: most questions are about processes, and threads cost more. */
	for (uint32_t flags = 0; flags <= HVMI_TASKS_THREADS; flags += HVMI_TASKS_THREADS) {
		struct hvmi_task_iter *iter;
		int rc = hvmi_task_iter_create(os, flags, &iter, err);
		if (rc)
			return rc;
		struct hvmi_task task = { .size = sizeof(task) };
		while ((rc = hvmi_task_next(iter, &task, err)) == 1)
			if ((task.valid & HVMI_TASK_HAS_PID) && task.pid == pid)
				break;
		hvmi_task_iter_destroy(iter);
		if (rc < 0)
			return rc;
		if (rc == 1) {
			if (result_copy(ret, &task, sizeof(task)))
				return hvmi_error_set(err, -EINVAL, HVMI_NO_ADDRESS,
						      "hvmi_task.size is not set");
			return 0;
		}
	}
	return hvmi_error_set(err, -ENOENT, HVMI_NO_ADDRESS, "there is no process or thread %d",
			      (int)pid);
}

int task_take(struct hvmi_task *to, const struct hvmi_task *from, struct hvmi_error *err)
{
	if (!from || options_copy(to, sizeof(*to), from))
		return hvmi_error_set(err, -EINVAL, HVMI_NO_ADDRESS,
				      "the task is not one that this library gave");
	return 0;
}

HVMI_API int hvmi_task_space(struct hvmi_os *os, const struct hvmi_task *task,
			     struct hvmi_space **ret, struct hvmi_error *err)
{
	struct hvmi_task t;
	int rc = task_take(&t, task, err);
	if (rc)
		return rc;
	if (!(t.valid & HVMI_TASK_HAS_ROOT))
		return hvmi_error_set(err, -ENOENT, t.object,
				      "the page-table root of process %d is unknown (it is exiting, "
				      "or its memory is missing from the image)", (int)t.pid);
	struct hvmi_space_config config = os->kernel;
	config.root = t.root;
	return hvmi_space_create(os->vm, &config, ret, err);
}

HVMI_API int hvmi_task_current(struct hvmi_os *os, uint32_t vcpu, uint32_t flags,
			       struct hvmi_task *ret, struct hvmi_error *err)
{
	struct hvmi_task task = { 0 };
	if (flags & ~HVMI_TASKS_THREADS)
		return hvmi_error_set(err, -EINVAL, HVMI_NO_ADDRESS, "unknown flags 0x%x", flags);
	if (!os->ops->task_current)
		return hvmi_error_set(err, -ENOTSUP, HVMI_NO_ADDRESS,
				      "what a vCPU runs cannot be told for %s yet", os->ops->name);
	int rc = os->ops->task_current(os, vcpu, flags, &task, err);
	if (!rc && result_copy(ret, &task, sizeof(task)))
		return hvmi_error_set(err, -EINVAL, HVMI_NO_ADDRESS, "hvmi_task.size is not set");
	return rc;
}

HVMI_API int hvmi_task_path(struct hvmi_os *os, const struct hvmi_task *task, char *buf,
			    size_t size, struct hvmi_error *err)
{
	struct hvmi_task t;
	int rc = task_take(&t, task, err);
	if (rc)
		return rc;
	if (!os->ops->task_path)
		return hvmi_error_set(err, -ENOTSUP, HVMI_NO_ADDRESS,
				      "paths of programs cannot be told for %s yet", os->ops->name);
	if (!buf || !size)
		return hvmi_error_set(err, -EINVAL, HVMI_NO_ADDRESS, "there is no room for a path");
	return os->ops->task_path(os, &t, buf, size, err);
}

static int task_strings(struct hvmi_os *os, const struct hvmi_task *task, int which, char *buf,
			size_t size, size_t *len_ret, struct hvmi_error *err)
{
	struct hvmi_task t;
	int rc = task_take(&t, task, err);
	return rc ? rc : os->ops->task_strings(os, &t, which, buf, size, len_ret, err);
}

HVMI_API int hvmi_task_arguments(struct hvmi_os *os, const struct hvmi_task *task, char *buf,
				 size_t size, size_t *len_ret, struct hvmi_error *err)
{
	return task_strings(os, task, 0, buf, size, len_ret, err);
}

HVMI_API int hvmi_task_environment(struct hvmi_os *os, const struct hvmi_task *task, char *buf,
				   size_t size, size_t *len_ret, struct hvmi_error *err)
{
	return task_strings(os, task, 1, buf, size, len_ret, err);
}
