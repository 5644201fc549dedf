/* SPDX-License-Identifier: Apache-2.0 */
/* The command line and the environment of a process. */
#include "os/linux/linux.h"

/* How often strings are read of a process that changes what it runs meanwhile. */
#define READINGS_MAX 16u

/* Where they are: the members of mm_struct from LINUX_MM_ARG_START on. */
struct bounds {
	uint64_t mm;		/* 0: the task has no memory of its own */
	uint64_t args, args_end, env, env_end;
};

static int read_bounds(const struct hvmi_os *os, struct hvmi_space *space,
		       const struct hvmi_task *task, bool live, struct bounds *ret,
		       struct hvmi_error *err)
{
	*ret = (struct bounds){ 0 };
	int rc = live ? linux_task_mm(os, space, task, &ret->mm, err) :
			linux_read(os, space, LINUX_TASK_MM, task->object, &ret->mm);
	if (rc == -ENOENT || (!rc && !ret->mm))
		return rc;
	if (rc || linux_read(os, space, LINUX_MM_ARG_START, ret->mm, &ret->args) ||
	    linux_read(os, space, LINUX_MM_ARG_END, ret->mm, &ret->args_end) ||
	    linux_read(os, space, LINUX_MM_ENV_START, ret->mm, &ret->env) ||
	    linux_read(os, space, LINUX_MM_ENV_END, ret->mm, &ret->env_end))
		return hvmi_error_set(err, -EFAULT, task->object, "process %d cannot be read",
				      (int)task->pid);
	return 0;
}

static int read_between(struct hvmi_space *space, uint64_t start, uint64_t end, char *buf,
			size_t size, size_t *len_ret)
{
	size_t want = MIN(end - start, (uint64_t)size);
	int rc = hvmi_space_read(space, start, buf, want, len_ret);
	return rc ? rc : end - start > size ? -EOVERFLOW : 0;
}

static int read_strings(struct hvmi_space *space, const struct bounds *b, int which, char *buf,
			size_t size, size_t *len_ret)
{
	char last = 0;
	uint64_t start = which ? b->env : b->args, end = which ? b->env_end : b->args_end;
	*len_ret = 0;
	if (start >= end)
		return 0;
	if (which || end != b->env || b->env_end <= end ||
	    hvmi_space_read(space, end - 1, &last, 1, NULL) || !last)
		return read_between(space, start, end, buf, size, len_ret);
	/*
	 * The NUL at the end was overwritten: the process wrote a longer title over the environment
	 * (setproctitle). /proc shows it up to its NUL, one page at most.
	 */
	size_t len = 0, want = MIN(b->env_end - start, (uint64_t)FRAME_SIZE);
	int rc = read_between(space, start, start + want, buf, size, &len);
	const char *nul = len ? memchr(buf, 0, len) : NULL;
	*len_ret = nul ? (size_t)(nul - buf) + 1 : len;
	return nul ? 0 : rc;
}

static int strings_error(const struct hvmi_task *task, int which, const struct bounds *b, int rc,
			 size_t size, size_t len, struct hvmi_error *err)
{
	const char *what = which ? "the environment" : "the command line";
	uint64_t start = which ? b->env : b->args;
	if (rc == -EOVERFLOW)
		return hvmi_error_set(err, rc, start, "%s of process %d is longer than %zu bytes",
				      what, (int)task->pid, size);
	return hvmi_error_set(err, rc, start + len,
			      "%s of process %d is not in memory from 0x%llx on", what,
			      (int)task->pid, (unsigned long long)(start + len));
}

int linux_task_strings(struct hvmi_os *os, const struct hvmi_task *task, int which, char *buf,
		       size_t size, size_t *len_ret, struct hvmi_error *err)
{
	static const enum linux_member needed[] = { LINUX_TASK_MM, LINUX_MM_ARG_START,
						    LINUX_MM_ARG_END, LINUX_MM_ENV_START,
						    LINUX_MM_ENV_END };
	struct hvmi_space *kernel, *space;
	struct hvmi_task now = *task;
	bool live = !vm_stands_still(os->vm);
	*len_ret = 0;
	int rc = linux_require(os, which ? "the environment" : "the command line", needed,
			       ARRAY_SIZE(needed), err);
	if (!rc)
		rc = hvmi_os_kernel_space(os, &kernel, err);
	if (rc)
		return rc;
	for (uint32_t i = 1;; i++) {
		struct bounds bounds, after;
		rc = read_bounds(os, kernel, task, live, &bounds, err);
		if (rc || !bounds.mm)
			break;
		/* The one that it was listed with may have been another program's. */
		if (live)
			linux_task_root(os, kernel, &now);
		rc = hvmi_task_space(os, &now, &space, err);
		if (rc && !live)
			break;
		if (!rc) {
			rc = read_strings(space, &bounds, which, buf, size, len_ret);
			hvmi_space_destroy(space);
			if (rc)
				strings_error(task, which, &bounds, rc, size, *len_ret, err);
		}
		/* Memory that was the process's all the time, at one place. */
		if (!live || (read_bounds(os, kernel, task, live, &after, NULL) == 0 &&
			      memcmp(&bounds, &after, sizeof(bounds)) == 0))
			break;
		*len_ret = 0;
		if (i == READINGS_MAX) {
			rc = hvmi_error_set(err, -EBUSY, task->object,
					    "process %d changed each of the %u times that its "
					    "strings were read", (int)task->pid, i);
			break;
		}
	}
	hvmi_space_destroy(kernel);
	return rc;
}
