/* SPDX-License-Identifier: Apache-2.0 */
#include "os/linux/linux.h"
#include "os/task.h"

#define PF_KTHREAD 0x00200000u		/* include/linux/sched.h, since 2.6.27 */
#define TASKS_BOUND (4u * 1024 * 1024)	/* PID_MAX_LIMIT */

struct task_iter {
	struct hvmi_os *os;
	struct hvmi_space *space;
	struct task_reuse *reuse;	/* or NULL */
	bool threads, live;
	struct list_walk processes, group;
	uint64_t leader, tgid;	/* whose threads are being listed */
	uint64_t wait_ns;	/* see task_reader */
	uint32_t left;	/* threads of all processes together */
	int damage;	/* a process's threads were damaged: said at the end of the list */
	struct hvmi_error damage_text;
};

/* What happens to what its pointers lead to is told by them, but for who it is: that is overwritten. */
void linux_task_plan(struct linux_os *data)
{
	static const uint8_t ids[] = {
		LINUX_TASK_STATE, LINUX_TASK_EXIT_STATE, LINUX_TASK_FLAGS, LINUX_TASK_PID,
		LINUX_TASK_TGID, LINUX_TASK_PPID, LINUX_TASK_COMM, LINUX_TASK_MM, LINUX_TASK_PGD,
		LINUX_TASK_UID, LINUX_TASK_GID, LINUX_TASK_EUID, LINUX_TASK_EGID, LINUX_TASK_START,
		LINUX_TASK_THREADS,
	};
	window_plan(&data->task, data->members, ids, ARRAY_SIZE(ids),
		    1ull << LINUX_TASK_UID | 1ull << LINUX_TASK_GID | 1ull << LINUX_TASK_EUID |
		    1ull << LINUX_TASK_EGID);
}

int linux_task_begin(struct hvmi_os *os, uint32_t flags, struct task_reuse *reuse, void **state_ret,
		     struct hvmi_error *err)
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
	iter->reuse = reuse;
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

static void read_ids(struct window *window, struct hvmi_task *task)
{
	uint64_t uid, gid, euid, egid;
	if (window_read(window, LINUX_TASK_UID, &uid) || window_read(window, LINUX_TASK_GID, &gid) ||
	    window_read(window, LINUX_TASK_EUID, &euid) ||
	    window_read(window, LINUX_TASK_EGID, &egid))
		return;
	task->uid = (uint32_t)uid;
	task->gid = (uint32_t)gid;
	task->euid = (uint32_t)euid;
	task->egid = (uint32_t)egid;
	task->valid |= HVMI_TASK_HAS_UID;
}

/* Of a task with an mm, which has a pgd. */
static void set_root(const struct hvmi_os *os, struct hvmi_space *space, uint64_t mm, uint64_t pgd,
		     struct hvmi_task *task)
{
	if (mm == 0) {
		/* A kernel thread borrows whatever is loaded; all of them map the kernel. */
		if (!(task->flags & HVMI_TASK_KERNEL))
			return;
		task->root = os->kernel.root;
	} else if (pgd % FRAME_SIZE || hvmi_space_translate(space, pgd, &task->root)) {
		return;
	}
	task->valid |= HVMI_TASK_HAS_ROOT;
}

void linux_task_root(const struct hvmi_os *os, struct hvmi_space *space, struct hvmi_task *task)
{
	uint64_t mm, pgd = 0;
	task->valid &= ~HVMI_TASK_HAS_ROOT;
	if (linux_read(os, space, LINUX_TASK_MM, task->object, &mm) == 0 &&
	    (mm == 0 || linux_read(os, space, LINUX_MM_PGD, mm, &pgd) == 0))
		set_root(os, space, mm, pgd, task);
}

static void read_name(const struct hvmi_os *os, const struct window *window, struct hvmi_task *task)
{
	/* TASK_COMM_LEN is 16; what has no NUL in it is no name. */
	size_t size = MIN(linux_data(os)->members[LINUX_TASK_COMM].bytes, sizeof(task->name));
	size_t len = 0;
	if (window_bytes(window, LINUX_TASK_COMM, task->name, size) == 0)
		len = strnlen(task->name, size);
	else
		size = 0;
	if (len < size)
		task->valid |= HVMI_TASK_HAS_NAME;
	else
		len = 0;
	memset(task->name + len, 0, sizeof(task->name) - len);
}

void linux_task_read(const struct hvmi_os *os, struct hvmi_space *space, uint64_t object,
		     struct hvmi_task *task)
{
	struct window window;
	uint64_t value, exit_state, pgd = 0;
	window_open(&window, &linux_data(os)->task, space, object);
	*task = (struct hvmi_task){ .object = object };
	if (window_read(&window, LINUX_TASK_PID, &value) == 0) {
		task->pid = (int32_t)value;
		task->valid |= HVMI_TASK_HAS_PID;
	}
	if (window_read(&window, LINUX_TASK_TGID, &value) == 0) {
		task->tgid = (int32_t)value;
		task->valid |= HVMI_TASK_HAS_TGID;
		if (task->tgid == task->pid)
			task->flags |= HVMI_TASK_LEADER;
	}
	if (window_read(&window, LINUX_TASK_PPID, &value) == 0) {
		task->ppid = (int32_t)value;
		task->valid |= HVMI_TASK_HAS_PPID;
	}
	if (window_read(&window, LINUX_TASK_FLAGS, &value) == 0) {
		task->flags |= value & PF_KTHREAD ? HVMI_TASK_KERNEL : 0;
		task->valid |= HVMI_TASK_HAS_FLAGS;
	}
	if (window_read(&window, LINUX_TASK_STATE, &value) == 0 &&
	    window_read(&window, LINUX_TASK_EXIT_STATE, &exit_state) == 0) {
		task->state = state_letter(value, exit_state);
		task->valid |= HVMI_TASK_HAS_STATE;
	}
	if (window_read(&window, LINUX_TASK_START, &task->start_ns) == 0)
		task->valid |= HVMI_TASK_HAS_START;
	if (window_read(&window, LINUX_TASK_THREADS, &value) == 0) {
		task->threads = (uint32_t)value;
		task->valid |= HVMI_TASK_HAS_THREADS;
	}
	read_name(os, &window, task);
	read_ids(&window, task);
	if (window_read(&window, LINUX_TASK_MM, &value) == 0 &&
	    (value == 0 || window_read(&window, LINUX_TASK_PGD, &pgd) == 0))
		set_root(os, space, value, pgd, task);
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
 * is still, so that its memory has been no other task's. `known`: nothing happened to it since it was
 * read, which was seen just now.
 */
static int settle(struct task_iter *iter, uint64_t object, const struct hvmi_task *known,
		  struct hvmi_task *ret, struct hvmi_error *err)
{
	if (known) {
		*ret = *known;
	} else {
		linux_task_settle(iter->os, iter->space, object, &iter->wait_ns, ret);
		task_confirm_read(iter->reuse, &linux_data(iter->os)->task, iter->space, object);
	}
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
	const struct hvmi_task *known = task_find_read(iter->reuse, &linux_data(iter->os)->task,
						       iter->space, object);
	if (iter->live)
		rc = settle(iter, object, known, ret, err);
	else if (known)
		*ret = *known;
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
