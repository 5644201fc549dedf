/* SPDX-License-Identifier: Apache-2.0 */
#include "os/task.h"

#include <time.h>

#define READINGS_MAX 16u
/* Doubled until it is the longest. */
#define WAIT_FIRST_NS 25000u
#define WAIT_LAST_NS 5000000u

/* What a bit of hvmi_task.valid stands for. State and threads change in passing. */
#define FIELD(bit, name) { HVMI_TASK_HAS_##bit, offsetof(struct hvmi_task, name), \
			   sizeof(((struct hvmi_task *)0)->name) }
static const struct {
	uint32_t bit, at, bytes;
} fields[] = {
	FIELD(PID, pid), FIELD(TGID, tgid), FIELD(PPID, ppid), FIELD(UID, uid), FIELD(UID, gid),
	FIELD(UID, euid), FIELD(UID, egid), FIELD(NAME, name), FIELD(START, start_ns),
	FIELD(FLAGS, flags), FIELD(ROOT, root), FIELD(CREATED, created_ns),
	FIELD(EXITED, exited_ns), FIELD(EXIT_STATUS, exit_status), FIELD(SESSION, session),
	FIELD(INTEGRITY, integrity), FIELD(PROTECTION, protection), FIELD(PROCESS, process),
	FIELD(USER_BLOCK, user_block), FIELD(USER_BLOCK, user_block_32), FIELD(ENTRY, entry),
	FIELD(STACK, stack_start), FIELD(STACK, stack_end),
};

uint32_t task_differences(const struct hvmi_task *a, const struct hvmi_task *b)
{
	uint32_t bits = a->valid ^ b->valid;
	for (size_t i = 0; i < ARRAY_SIZE(fields); i++)
		if (memcmp((const char *)a + fields[i].at, (const char *)b + fields[i].at,
			   fields[i].bytes))
			bits |= fields[i].bit;
	return bits & ~(HVMI_TASK_HAS_STATE | HVMI_TASK_HAS_THREADS);
}

static void forget(struct hvmi_task *task, uint32_t bits)
{
	task->valid &= ~bits;
	for (size_t i = 0; i < ARRAY_SIZE(fields); i++)
		if (fields[i].bit & bits & ~HVMI_TASK_HAS_FLAGS)
			memset((char *)task + fields[i].at, 0, fields[i].bytes);
}

/* false: there is no time left. */
static bool wait_a_little(uint64_t *left_ns, uint32_t times)
{
	uint64_t ns = MIN((uint64_t)WAIT_FIRST_NS << times, (uint64_t)WAIT_LAST_NS);
	if (*left_ns < ns)
		return false;
	*left_ns -= ns;
	nanosleep(&(struct timespec){ .tv_nsec = (long)ns }, NULL);
	return true;
}

void task_settle(const struct task_reader *reader, struct hvmi_task *ret)
{
	struct hvmi_task before;
	uint32_t changed, busy;
	reader->read(reader, &before);
	for (uint32_t i = 1;; i++) {
		fence_loads();
		busy = reader->busy ? reader->busy(reader) : 0;
		fence_loads();
		reader->read(reader, ret);
		changed = task_differences(&before, ret);
		if (!(changed | busy) || i == READINGS_MAX ||
		    (i > 2 && !wait_a_little(reader->wait_ns, i - 3)))
			break;
		before = *ret;
	}
	/* What is said to be changed all the time, and does not change, is not. */
	forget(ret, changed ? changed | busy : 0);
}

const struct hvmi_task *task_find_read(struct task_reuse *reuse, const struct window_plan *plan,
				       struct hvmi_space *space, uint64_t object)
{
	struct window window;
	uint8_t marks[WINDOW_MARK_BYTES];
	if (!reuse)
		return NULL;
	window_open(&window, plan, space, object);
	size_t len = window_marks(&window, marks);
	fence_loads();
	return reuse->find(reuse, object, marks, len);
}

void task_confirm_read(struct task_reuse *reuse, const struct window_plan *plan,
		       struct hvmi_space *space, uint64_t object)
{
	struct window window;
	uint8_t marks[WINDOW_MARK_BYTES];
	if (!reuse)
		return;
	fence_loads();
	window_open(&window, plan, space, object);
	reuse->confirm(reuse, marks, window_marks(&window, marks));
}
