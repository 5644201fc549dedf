/* SPDX-License-Identifier: Apache-2.0 */
/* Reading what a running kernel changes. Locks cannot be taken, but they can be looked at. */
#include "os/linux/linux.h"
#include "os/task.h"

/* struct rw_semaphore: bit 0 of its count since 5.3, kernel/locking/rwsem.c. */
#define RWSEM_WRITER 1u

static bool locked(const struct hvmi_os *os, struct hvmi_space *space, enum linux_member member,
		   uint64_t object, uint64_t mask)
{
	uint64_t value;
	fence_loads();
	bool yes = linux_read(os, space, member, object, &value) == 0 && (value & mask);
	fence_loads();
	return yes;
}

static void read_task(const struct task_reader *reader, struct hvmi_task *ret)
{
	linux_task_read(reader->os, reader->space, reader->object, ret);
}

/* task_lock() is what names are changed under, until 6.13. */
static uint32_t task_busy(const struct task_reader *reader)
{
	return locked(reader->os, reader->space, LINUX_TASK_LOCK, reader->object, UINT32_MAX) ?
		       HVMI_TASK_HAS_NAME : 0;
}

void linux_task_settle(const struct hvmi_os *os, struct hvmi_space *space, uint64_t object,
		       uint64_t *wait_ns, struct hvmi_task *ret)
{
	const struct task_reader reader = { .os = os, .space = space, .object = object,
					    .wait_ns = wait_ns, .read = read_task,
					    .busy = task_busy };
	task_settle(&reader, ret);
}

int linux_task_mm(const struct hvmi_os *os, struct hvmi_space *space, const struct hvmi_task *task,
		  uint64_t *ret, struct hvmi_error *err)
{
	uint64_t pid, start, mm;
	fence_loads();
	if (linux_read(os, space, LINUX_TASK_MM, task->object, &mm))
		return hvmi_error_set(err, -EFAULT, task->object,
				      "the task at 0x%llx cannot be read",
				      (unsigned long long)task->object);
	if (((task->valid & HVMI_TASK_HAS_PID) &&
	     linux_read(os, space, LINUX_TASK_PID, task->object, &pid) == 0 &&
	     (int32_t)pid != task->pid) ||
	    ((task->valid & HVMI_TASK_HAS_START) &&
	     linux_read(os, space, LINUX_TASK_START, task->object, &start) == 0 &&
	     start != task->start_ns))
		return hvmi_error_set(err, -ENOENT, task->object, "process %d has ended",
				      (int)task->pid);
	*ret = mm;
	return 0;
}

int linux_regions_rest(const struct hvmi_os *os, struct hvmi_space *space, uint64_t mm,
		       struct hvmi_error *err)
{
	uint64_t rename_lock;
	uint32_t sequence = 0;
	if (linux_data(os)->version >= (5 << 8 | 3) &&
	    locked(os, space, LINUX_MM_LOCK, mm, RWSEM_WRITER))
		return hvmi_error_set(err, -EBUSY, mm, "its regions are being changed");
	/* A seqlock's count, which comes first in it, is odd while it is held. */
	if (symbols_find(&os->profile->symbols, "rename_lock", &rename_lock) == 0 &&
	    hvmi_space_read(space, rename_lock, &sequence, sizeof(sequence), NULL) == 0 &&
	    (sequence & 1))
		return hvmi_error_set(err, -EBUSY, rename_lock, "a file is being renamed");
	return 0;
}
