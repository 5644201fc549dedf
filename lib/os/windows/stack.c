/* SPDX-License-Identifier: Apache-2.0 */
#include "os/windows/windows.h"

/* KTHREAD_STATE. */
enum { INITIALIZED = 0, RUNNING = 2, TERMINATED = 4 };

static int tell(const struct hvmi_os *os, struct hvmi_space *space, const struct hvmi_task *task,
		int (*each)(void *context, const struct os_stack *stack), void *context,
		struct hvmi_error *err)
{
	struct os_stack stack = { .object = task->object, .pid = task->pid, .tgid = task->tgid,
				  .start = task->stack_start, .end = task->stack_end };
	uint64_t state;
	int rc = windows_read(os, space, WINDOWS_THREAD_STATE, task->object, &state);
	if (!rc)
		rc = windows_read_pointer(os, space, WINDOWS_THREAD_KERNEL_STACK, task->object,
					  &stack.sp);
	if (rc)
		return hvmi_error_set(err, rc, task->object, "the thread at 0x%llx cannot be read",
				      (unsigned long long)task->object);
	/* One that has ended gives its stack back; the list still has it. */
	if (state == TERMINATED || (state == INITIALIZED && !stack.sp))
		return 0;
	if (!(task->valid & HVMI_TASK_HAS_STACK))
		return hvmi_error_set(err, -EBADMSG, task->object,
				      "where the stack of thread %d is makes no sense",
				      (int)task->pid);
	stack.running = state == RUNNING;
	memcpy(stack.name, task->name, sizeof(stack.name));
	return each(context, &stack);
}

/* Idle threads: they are in the list of the Idle process, which is in no list. */
static int tell_current(struct hvmi_os *os, struct hvmi_space *space,
			int (*each)(void *context, const struct os_stack *stack), void *context,
			struct hvmi_error *err)
{
	struct hvmi_vm_info info = { .size = sizeof(info) };
	hvmi_vm_get_info(os->vm, &info);
	for (uint32_t i = 0; i < info.vcpus; i++) {
		struct hvmi_task task;
		int rc = windows_task_current(os, i, HVMI_TASKS_THREADS, &task, err);
		if (!rc)
			rc = tell(os, space, &task, each, context, err);
		if (rc)
			return rc;
	}
	return 0;
}

int windows_stacks(struct hvmi_os *os, int (*each)(void *context, const struct os_stack *stack),
		   void *context, struct hvmi_error *err)
{
	static const enum windows_member needed[] = {
		WINDOWS_THREAD_STATE, WINDOWS_THREAD_KERNEL_STACK, WINDOWS_THREAD_STACK_BASE,
		WINDOWS_THREAD_STACK_LIMIT,
	};
	struct hvmi_space *space;
	void *state;
	int rc = windows_require(os, "stacks of threads", needed, ARRAY_SIZE(needed), err);
	if (!rc)
		rc = hvmi_os_kernel_space(os, &space, err);
	if (rc)
		return rc;
	rc = windows_task_begin(os, HVMI_TASKS_THREADS, NULL, &state, err);
	if (!rc) {
		struct hvmi_task task;
		while ((rc = windows_task_next(state, &task, err)) == 1 &&
		       !(rc = tell(os, space, &task, each, context, err)))
			;
		windows_task_end(state);
	}
	if (!rc)
		rc = tell_current(os, space, each, context, err);
	hvmi_space_destroy(space);
	return rc;
}
