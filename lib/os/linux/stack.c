/* SPDX-License-Identifier: Apache-2.0 */
#include "os/linux/linux.h"

/* THREAD_SIZE of x86-64 since 3.15; KASAN makes it larger, at most four times. */
#define STACK_SIZE (16 * KIB)
#define STACK_SIZE_MAX (64 * KIB)
/* CONFIG_NR_CPUS at most. */
#define CPUS_MAX 8192u

struct lister {
	const struct hvmi_os *os;
	struct hvmi_space *space;
	int (*each)(void *context, const struct os_stack *stack);
	void *context;
	struct hvmi_error *err;
};

/* The stack of a task, which a dead one has given back. */
static int tell(const struct lister *l, const struct hvmi_task *task)
{
	struct os_stack stack = { .object = task->object, .pid = task->pid, .tgid = task->tgid };
	uint64_t sp = 0, on_cpu = 0;
	int rc = linux_read(l->os, l->space, LINUX_TASK_STACK, task->object, &stack.start);
	if (!rc)
		rc = linux_read(l->os, l->space, LINUX_TASK_SP, task->object, &sp);
	if (!rc)
		rc = linux_read(l->os, l->space, LINUX_TASK_ON_CPU, task->object, &on_cpu);
	if (rc)
		return hvmi_error_set(l->err, rc, task->object,
				      "the task at 0x%llx cannot be read",
				      (unsigned long long)task->object);
	if (stack.start == 0 && task->state && strchr("ZX", (int)task->state))
		return 0;
	if (stack.start < LINUX_KERNEL_FIRST || stack.start % FRAME_SIZE)
		return hvmi_error_set(l->err, -EBADMSG, task->object,
				      "the stack of task %d cannot be at 0x%llx", (int)task->pid,
				      (unsigned long long)stack.start);
	uint64_t size = STACK_SIZE;
	while (sp - stack.start > size && sp - stack.start <= STACK_SIZE_MAX)
		size *= 2;
	stack.end = stack.start + size;
	stack.sp = sp;
	stack.running = on_cpu & 1;
	memcpy(stack.name, task->name, sizeof(stack.name));
	return l->each(l->context, &stack);
}

/* The idle tasks are in no list: struct rq has them, for each CPU. */
static int tell_idle(const struct lister *l)
{
	const struct hvmi_profile *profile = l->os->profile;
	uint64_t queues, offsets, cpus_at;
	if (hvmi_profile_symbol(profile, "runqueues", &queues, NULL) ||
	    hvmi_profile_symbol(profile, "__per_cpu_offset", &offsets, NULL) ||
	    hvmi_profile_symbol(profile, "nr_cpu_ids", &cpus_at, NULL))
		return hvmi_error_set(l->err, -ENOTSUP, HVMI_NO_ADDRESS,
				      "kernel %s does not show its idle tasks: one of the symbols "
				      "runqueues, __per_cpu_offset and nr_cpu_ids is missing",
				      l->os->release);
	uint8_t raw[8];
	if (hvmi_space_read(l->space, cpus_at, raw, 4, NULL) || load_le32(raw) - 1 >= CPUS_MAX)
		return hvmi_error_set(l->err, -EBADMSG, cpus_at,
				      "the kernel's number of CPUs makes no sense");
	const uint32_t cpus = load_le32(raw);
	for (uint32_t i = 0; i < cpus; i++) {
		struct hvmi_task task;
		uint64_t idle;
		int rc = hvmi_space_read(l->space, offsets + 8ull * i, raw, 8, NULL);
		if (!rc)
			rc = linux_read(l->os, l->space, LINUX_RQ_IDLE, queues + load_le64(raw),
					&idle);
		if (rc)
			return hvmi_error_set(l->err, rc, offsets + 8ull * i,
					      "the idle task of CPU %u cannot be read", i);
		/* One that was never started has none, or one that has not run. */
		if (!idle)
			continue;
		linux_task_read(l->os, l->space, idle, &task);
		rc = tell(l, &task);
		if (rc)
			return rc;
	}
	return 0;
}

int linux_stacks(struct hvmi_os *os, int (*each)(void *context, const struct os_stack *stack),
		 void *context, struct hvmi_error *err)
{
	static const enum linux_member needed[] = { LINUX_TASK_STACK, LINUX_TASK_SP,
						    LINUX_TASK_ON_CPU, LINUX_RQ_IDLE };
	struct lister l = { .os = os, .each = each, .context = context, .err = err };
	void *state;
	int rc = linux_require(os, "stacks of threads", needed, ARRAY_SIZE(needed), err);
	if (!rc)
		rc = hvmi_os_kernel_space(os, &l.space, err);
	if (rc)
		return rc;
	rc = linux_task_begin(os, HVMI_TASKS_THREADS, NULL, &state, err);
	if (!rc) {
		struct hvmi_task task;
		while ((rc = linux_task_next(state, &task, err)) == 1 && !(rc = tell(&l, &task)))
			;
		linux_task_end(state);
	}
	if (!rc)
		rc = tell_idle(&l);
	hvmi_space_destroy(l.space);
	return rc;
}
