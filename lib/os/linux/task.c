/* SPDX-License-Identifier: Apache-2.0 */
#include "os/linux/linux.h"
#include "os/task.h"

#define PF_KTHREAD 0x00200000u		/* include/linux/sched.h, since 2.6.27 */
#define TASKS_BOUND (4u * 1024 * 1024)	/* PID_MAX_LIMIT */

struct task_iter {
	struct hvmi_os *os;
	struct hvmi_space *space;
	bool threads, live;
	struct list_walk processes, group;
	uint64_t leader, tgid;	/* whose threads are being listed */
	uint64_t wait_ns;	/* see task_reader */
	uint32_t left;	/* threads of all processes together */
	int damage;	/* a process's threads were damaged: said at the end of the list */
	struct hvmi_error damage_text;
};

int linux_task_begin(struct hvmi_os *os, uint32_t flags, void **state_ret, struct hvmi_error *err)
{
	static const enum linux_member needed[] = { LINUX_TASK_TASKS, LINUX_TASK_PID };
	static const enum linux_member needed_threads[] = { LINUX_TASK_THREAD_HEAD,
							    LINUX_TASK_THREAD_NODE };
	bool threads = flags & HVMI_TASKS_THREADS;
	int rc = linux_require(os, "processes", needed, ARRAY_SIZE(needed), err);
	if (!rc && threads)
		rc = linux_require(os, "threads", needed_threads, ARRAY_SIZE(needed_threads), err);
	if (rc)
		return rc;
	uint64_t init_task = linux_data(os)->init_task;
	if (!init_task)
		return hvmi_error_set(err, -ENOTSUP, HVMI_NO_ADDRESS,
				      "processes cannot be listed: init_task was not found in "
				      "kernel %s", os->release);
	struct task_iter *iter = calloc(1, sizeof(*iter));
	if (!iter)
		return hvmi_error_set(err, -ENOMEM, HVMI_NO_ADDRESS, "out of memory");
	iter->os = os;
	iter->threads = threads;
	iter->live = flags & OS_LIST_LIVE;
	iter->wait_ns = TASK_WAIT_NS;
	iter->left = TASKS_BOUND;
	iter->group.done = true;
	rc = hvmi_os_kernel_space(os, &iter->space, err);
	if (rc) {
		free(iter);
		return rc;
	}
	uint64_t head = init_task + linux_data(os)->members[LINUX_TASK_TASKS].hops[0];
	list_begin(&iter->processes, iter->space, head, 8, TASKS_BOUND);
	iter->processes.live = iter->live;
	*state_ret = iter;
	return 0;
}

void linux_task_end(void *state)
{
	struct task_iter *iter = state;
	hvmi_space_destroy(iter->space);
	free(iter);
}

/* The letter that /proc shows: get_task_state() in fs/proc/array.c. */
static uint32_t state_letter(uint64_t state, uint64_t exit_state)
{
	enum {
		INTERRUPTIBLE = 1, UNINTERRUPTIBLE = 2, REPORTED = 0x7f, NOLOAD = 0x400,
		RTLOCK_WAIT = 0x1000, FROZEN = 0x8000,
	};
	static const char letters[] = "RSDTtXZP";
	if ((state & (UNINTERRUPTIBLE | NOLOAD)) == (UNINTERRUPTIBLE | NOLOAD))
		return 'I';
	uint64_t bits = (state | exit_state) & REPORTED;
	if (state & (RTLOCK_WAIT | FROZEN))
		bits = UNINTERRUPTIBLE;
	return (uint8_t)letters[bits ? 64 - __builtin_clzll(bits) : 0];
}

static void read_ids(const struct hvmi_os *os, struct hvmi_space *space, struct hvmi_task *task)
{
	const struct {
		enum linux_member member;
		uint32_t *to;
	} ids[] = {
		{ LINUX_TASK_UID, &task->uid },
		{ LINUX_TASK_GID, &task->gid },
		{ LINUX_TASK_EUID, &task->euid },
		{ LINUX_TASK_EGID, &task->egid },
	};
	uint64_t values[ARRAY_SIZE(ids)];
	for (size_t i = 0; i < ARRAY_SIZE(ids); i++)
		if (linux_read(os, space, ids[i].member, task->object, &values[i]))
			return;
	for (size_t i = 0; i < ARRAY_SIZE(ids); i++)
		*ids[i].to = (uint32_t)values[i];
	task->valid |= HVMI_TASK_HAS_UID;
}

void linux_task_root(const struct hvmi_os *os, struct hvmi_space *space, struct hvmi_task *task)
{
	uint64_t mm, pgd, root;
	task->valid &= ~HVMI_TASK_HAS_ROOT;
	if (linux_read(os, space, LINUX_TASK_MM, task->object, &mm))
		return;
	if (mm == 0) {
		/* A kernel thread borrows whatever is loaded; all of them map the kernel. */
		if (!(task->flags & HVMI_TASK_KERNEL))
			return;
		task->root = os->kernel.root;
	} else {
		if (linux_read(os, space, LINUX_MM_PGD, mm, &pgd) || pgd % FRAME_SIZE ||
		    hvmi_space_translate(space, pgd, &root))
			return;
		task->root = root;
	}
	task->valid |= HVMI_TASK_HAS_ROOT;
}

void linux_task_read(const struct hvmi_os *os, struct hvmi_space *space, uint64_t object,
		     struct hvmi_task *task)
{
	uint64_t value, exit_state, name;
	*task = (struct hvmi_task){ .object = object };
	if (linux_read(os, space, LINUX_TASK_PID, object, &value) == 0) {
		task->pid = (int32_t)value;
		task->valid |= HVMI_TASK_HAS_PID;
	}
	if (linux_read(os, space, LINUX_TASK_TGID, object, &value) == 0) {
		task->tgid = (int32_t)value;
		task->valid |= HVMI_TASK_HAS_TGID;
		if (task->tgid == task->pid)
			task->flags |= HVMI_TASK_LEADER;
	}
	if (linux_read(os, space, LINUX_TASK_PPID, object, &value) == 0) {
		task->ppid = (int32_t)value;
		task->valid |= HVMI_TASK_HAS_PPID;
	}
	if (linux_read(os, space, LINUX_TASK_FLAGS, object, &value) == 0) {
		task->flags |= value & PF_KTHREAD ? HVMI_TASK_KERNEL : 0;
		task->valid |= HVMI_TASK_HAS_FLAGS;
	}
	if (linux_read(os, space, LINUX_TASK_STATE, object, &value) == 0 &&
	    linux_read(os, space, LINUX_TASK_EXIT_STATE, object, &exit_state) == 0) {
		task->state = state_letter(value, exit_state);
		task->valid |= HVMI_TASK_HAS_STATE;
	}
	if (linux_read(os, space, LINUX_TASK_START, object, &task->start_ns) == 0)
		task->valid |= HVMI_TASK_HAS_START;
	if (linux_read(os, space, LINUX_TASK_THREADS, object, &value) == 0) {
		task->threads = (uint32_t)value;
		task->valid |= HVMI_TASK_HAS_THREADS;
	}
	if (linux_address(os, space, LINUX_TASK_COMM, object, &name) == 0) {
		/* TASK_COMM_LEN is 16; what has no NUL in it is no name. */
		size_t size = MIN(linux_data(os)->members[LINUX_TASK_COMM].bytes,
				  sizeof(task->name));
		if (hvmi_space_read_string(space, name, task->name, size, NULL) == 0)
			task->valid |= HVMI_TASK_HAS_NAME;
		else
			memset(task->name, 0, sizeof(task->name));
	}
	read_ids(os, space, task);
	linux_task_root(os, space, task);
}

static int next_process(struct task_iter *iter, uint64_t *task_ret, struct hvmi_error *err)
{
	uint64_t link;
	int rc = list_next(&iter->processes, &link, "processes", err);
	if (rc == 1)
		*task_ret = linux_container(iter->os, LINUX_TASK_TASKS, link);
	return rc;
}

static int next_thread(struct task_iter *iter, uint64_t *task_ret, struct hvmi_error *err)
{
	for (;;) {
		uint64_t link, head;
		int rc = list_next(&iter->group, &link, "threads", &iter->damage_text);
		if (rc == 1) {
			*task_ret = linux_container(iter->os, LINUX_TASK_THREAD_NODE, link);
			if (iter->left == 0)
				return hvmi_error_set(err, -EOVERFLOW, link,
						      "there are more threads than Linux allows");
			iter->left--;
			return 1;
		}
		if (rc < 0 && iter->live) {
			if (err)
				*err = iter->damage_text;
			return rc;
		}
		if (rc < 0)
			iter->damage = rc;
		rc = next_process(iter, &iter->leader, err);
		if (rc == 0 && iter->damage) {
			rc = iter->damage;
			iter->damage = 0;
			if (err)
				*err = iter->damage_text;
		}
		if (rc != 1)
			return rc;
		linux_read(iter->os, iter->space, LINUX_TASK_TGID, iter->leader, &iter->tgid);
		if (linux_address(iter->os, iter->space, LINUX_TASK_THREAD_HEAD, iter->leader,
				  &head))
			iter->damage = hvmi_error_set(&iter->damage_text, -EBADMSG, iter->leader,
						      "the threads of the task at 0x%llx cannot "
						      "be read",
						      (unsigned long long)iter->leader);
		else
			list_begin(&iter->group, iter->space, head, 8, TASKS_BOUND);
		iter->group.live = iter->live;
	}
}

/*
 * Of a running machine: a copy that is whole, of a task that was in the list before it was copied and
 * is still, so that its memory has been no other task's.
 */
static int settle(struct task_iter *iter, uint64_t object, struct hvmi_task *ret,
		  struct hvmi_error *err)
{
	linux_task_settle(iter->os, iter->space, object, &iter->wait_ns, ret);
	if (!list_holds(iter->threads ? &iter->group : &iter->processes))
		return hvmi_error_set(err, -EBUSY, object,
				      "the task at 0x%llx ended while it was read",
				      (unsigned long long)object);
	/* While a thread takes its leader's place the ids do not agree: de_thread() in fs/exec.c. */
	if (ret->pid <= 0 ||
	    ((ret->valid & HVMI_TASK_HAS_TGID) &&
	     ret->tgid != (iter->threads ? (int32_t)iter->tgid : ret->pid)))
		return hvmi_error_set(err, -EBUSY, object,
				      "the task at 0x%llx has pid %d and is not of this process",
				      (unsigned long long)object, (int)ret->pid);
	return 1;
}

int linux_task_next(void *state, struct hvmi_task *ret, struct hvmi_error *err)
{
	struct task_iter *iter = state;
	uint64_t object = 0;
	int rc = iter->threads ? next_thread(iter, &object, err) :
				 next_process(iter, &object, err);
	if (rc != 1)
		return rc;
	if (iter->live)
		rc = settle(iter, object, ret, err);
	else
		linux_task_read(iter->os, iter->space, object, ret);
	if (rc == 1 && !(ret->valid & HVMI_TASK_HAS_PID))
		return hvmi_error_set(err, -EBADMSG, object,
				      "the list of tasks leads to 0x%llx, where there is no memory",
				      (unsigned long long)object);
	return rc;
}

/* init_task without its symbol. */

struct init_search {
	const struct hvmi_os *os;
	struct hvmi_space *space;
	uint64_t found;
};

static int init_window(void *context, uint64_t gpa, const uint8_t *bytes, size_t len)
{
	static const char name[] = "swapper/0";
	struct init_search *search = context;
	const struct linux_os *data = linux_data(search->os);
	const uint8_t *at = bytes, *end = bytes + len;
	while ((at = memmem(at, (size_t)(end - at), name, sizeof(name)))) {
		uint64_t comm = gpa + (uint64_t)(at - bytes) + data->shift, parent;
		uint64_t task = comm - data->members[LINUX_TASK_COMM].hops[0];
		if (linux_read(search->os, search->space, LINUX_TASK_PARENT, task, &parent) == 0 &&
		    parent == task) {
			search->found = task;
			return 1;
		}
		at++;
	}
	return 0;
}

int linux_find_init_task(const struct hvmi_os *os, struct hvmi_space *space, uint64_t *ret)
{
	const struct linux_image *image = &linux_data(os)->image;
	if (!linux_has(os, LINUX_TASK_COMM) || !linux_has(os, LINUX_TASK_PARENT))
		return -ENOENT;
	struct init_search search = { .os = os, .space = space };
	for (uint32_t i = 0; i < image->run_count; i++) {
		if (!(image->runs[i].rights & HVMI_RIGHT_WRITE))
			continue;
		uint64_t from = image->gpa + image->runs[i].offset;
		if (scan_memory(os->vm, from, from + image->runs[i].len, FRAME_SIZE, init_window,
				&search) == 1) {
			*ret = search.found;
			return 0;
		}
	}
	return -ENOENT;
}
