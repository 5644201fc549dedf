/* SPDX-License-Identifier: Apache-2.0 */
#include "os/task.h"
#include "os/windows/windows.h"

#define PROCESSES_BOUND (1u * 1024 * 1024)
#define THREADS_BOUND (4u * 1024 * 1024)
#define NAME_BYTES 15u
#define PROCESSORS_MAX 2048u

struct task_iter {
	struct hvmi_os *os;
	struct hvmi_space *space;
	struct task_reuse *reuse;	/* or NULL */
	bool threads, from_anchor, live;
	struct list_walk processes, group;
	struct hvmi_task process;	/* whose threads are being listed */
	uint64_t wait_ns;		/* see task_reader */
	uint32_t left;			/* threads of all processes together */
	int damage;			/* a process's threads were damaged: said at the end */
	struct hvmi_error damage_text;
};

void windows_process_plan(struct windows_os *data)
{
	static const uint8_t ids[] = {
		WINDOWS_PROCESS_ROOT, WINDOWS_PROCESS_PID, WINDOWS_PROCESS_NAME,
		WINDOWS_PROCESS_PARENT, WINDOWS_PROCESS_CREATED, WINDOWS_PROCESS_EXITED,
		WINDOWS_PROCESS_EXIT_STATUS, WINDOWS_PROCESS_THREAD_COUNT, WINDOWS_PROCESS_PEB,
		WINDOWS_PROCESS_WOW64, WINDOWS_PROCESS_TOKEN, WINDOWS_PROCESS_PROTECTION,
	};
	window_plan(&data->process, data->members, ids, ARRAY_SIZE(ids), 0);
}

int windows_task_begin(struct hvmi_os *os, uint32_t flags, struct task_reuse *reuse,
		       void **state_ret, struct hvmi_error *err)
{
	static const enum windows_member needed[] = { WINDOWS_PROCESS_LINKS, WINDOWS_PROCESS_PID };
	static const enum windows_member needed_threads[] = { WINDOWS_PROCESS_THREADS,
							      WINDOWS_THREAD_LINKS,
							      WINDOWS_THREAD_CID };
	const struct windows_os *data = windows_data(os);
	int rc = windows_require(os, "processes", needed, ARRAY_SIZE(needed), err);
	if (!rc && flags & HVMI_TASKS_THREADS)
		rc = windows_require(os, "threads", needed_threads, ARRAY_SIZE(needed_threads), err);
	if (rc)
		return rc;
	if (!data->processes && !data->anchor)
		return hvmi_error_set(err, -ENOTSUP, HVMI_NO_ADDRESS,
				      "processes cannot be listed: neither PsActiveProcessHead nor "
				      "System was found in Windows %s", os->release);
	struct task_iter *iter = calloc(1, sizeof(*iter));
	if (!iter)
		return hvmi_error_set(err, -ENOMEM, HVMI_NO_ADDRESS, "out of memory");
	iter->os = os;
	iter->threads = flags & HVMI_TASKS_THREADS;
	/* A thread shows much of its process, and so is always read. */
	iter->reuse = iter->threads ? NULL : reuse;
	iter->live = flags & OS_LIST_LIVE;
	iter->wait_ns = TASK_WAIT_NS;
	iter->left = THREADS_BOUND;
	iter->group.done = true;
	iter->from_anchor = !data->processes;
	rc = hvmi_os_kernel_space(os, &iter->space, err);
	if (rc) {
		free(iter);
		return rc;
	}
	list_begin(&iter->processes, iter->space, data->processes ? data->processes :
		   data->anchor + windows_offset(os, WINDOWS_PROCESS_LINKS), data->pointer_bytes,
		   PROCESSES_BOUND);
	iter->processes.live = iter->live;
	*state_ret = iter;
	return 0;
}

void windows_task_end(void *state)
{
	struct task_iter *iter = state;
	hvmi_space_destroy(iter->space);
	free(iter);
}

/* Ids are multiples of 4 and fit 32 bits; what is none is left out. */
static bool read_id(const struct hvmi_os *os, struct hvmi_space *space, uint64_t gva, int32_t *ret)
{
	uint64_t value;
	if (windows_pointer_at(os, space, gva, &value) || value > INT32_MAX)
		return false;
	*ret = (int32_t)value;
	return true;
}

static void read_times(const struct hvmi_os *os, struct hvmi_space *space, bool thread,
		       struct hvmi_task *task)
{
	const struct windows_os *data = windows_data(os);
	uint64_t created, exited;
	if (windows_read(os, space, thread ? WINDOWS_THREAD_CREATED : WINDOWS_PROCESS_CREATED,
			 task->object, &created) == 0) {
		/* A thread's was shifted to make room for flags until 2003. */
		if (thread && data->id.major == 5)
			created >>= 3;
		task->created_ns = windows_time_ns(created);
		if (task->created_ns)
			task->valid |= HVMI_TASK_HAS_CREATED;
		if (task->created_ns && data->shared.boot_time && created >= data->shared.boot_time) {
			task->start_ns = (created - data->shared.boot_time) * 100;
			task->valid |= HVMI_TASK_HAS_START;
		}
	}
	/* A thread's is a union with a list until it ends. */
	if (thread || windows_read(os, space, WINDOWS_PROCESS_EXITED, task->object, &exited) ||
	    !exited)
		return;
	task->exited_ns = windows_time_ns(exited);
	if (!task->exited_ns)
		return;
	task->flags |= HVMI_TASK_EXITED;
	task->state = 'Z';
	task->valid |= HVMI_TASK_HAS_EXITED | HVMI_TASK_HAS_STATE;
	uint64_t status;
	if (windows_read(os, space, WINDOWS_PROCESS_EXIT_STATUS, task->object, &status) == 0) {
		task->exit_status = (uint32_t)status;
		task->valid |= HVMI_TASK_HAS_EXIT_STATUS;
	}
}

/* A process that has ended may have given its page tables away: only what maps the kernel is one. */
static void read_root(const struct hvmi_os *os, struct hvmi_space *space, struct hvmi_task *task)
{
	uint64_t root;
	if (windows_read_pointer(os, space, WINDOWS_PROCESS_ROOT, task->object, &root))
		return;
	root &= os->kernel.paging == HVMI_PAGING_X86_PAE ? ~UINT64_C(0x1f) : ~UINT64_C(0xfff);
	if (!root || !windows_root_maps(os->vm, &windows_data(os)->found, root))
		return;
	task->root = root;
	task->valid |= HVMI_TASK_HAS_ROOT;
}

static void read_user_block(const struct hvmi_os *os, struct hvmi_space *space,
			    struct hvmi_task *task)
{
	uint64_t peb, wow64;
	if (windows_read_pointer(os, space, WINDOWS_PROCESS_PEB, task->object, &peb) ||
	    windows_is_kernel(os, peb))
		return;
	task->user_block = peb;
	/* Processes of the kernel's own have none. */
	if (!peb && !(task->flags & HVMI_TASK_EXITED))
		task->flags |= HVMI_TASK_KERNEL;
	task->valid |= HVMI_TASK_HAS_USER_BLOCK | HVMI_TASK_HAS_FLAGS;
	if (windows_read_pointer(os, space, WINDOWS_PROCESS_WOW64, task->object, &wow64) || !wow64)
		return;
	task->flags |= HVMI_TASK_32BIT;
	enum windows_member indirect = windows_has(os, WINDOWS_WOW64_PEB) ? WINDOWS_WOW64_PEB :
									    WINDOWS_WOW64_PEB_OLD;
	if (windows_is_kernel(os, wow64) &&
	    windows_read_pointer(os, space, indirect, wow64, &wow64))
		return;
	if (wow64 <= UINT32_MAX)
		task->user_block_32 = wow64;
}

/* The mandatory label is a group whose authority is 16: S-1-16-RID. */
static void read_token(const struct hvmi_os *os, struct hvmi_space *space, struct hvmi_task *task)
{
	uint64_t token, value, groups, count, sid;
	uint8_t label[12];
	uint32_t n = windows_data(os)->pointer_bytes;
	if (windows_read_pointer(os, space, WINDOWS_PROCESS_TOKEN, task->object, &token))
		return;
	token = windows_fast_ref(os, token);
	if (!windows_is_kernel(os, token))
		return;
	if (windows_read(os, space, WINDOWS_TOKEN_SESSION, token, &value) == 0) {
		task->session = (uint32_t)value;
		task->valid |= HVMI_TASK_HAS_SESSION;
	}
	if (windows_read(os, space, WINDOWS_TOKEN_INTEGRITY, token, &value) ||
	    windows_read(os, space, WINDOWS_TOKEN_GROUP_COUNT, token, &count) || value >= count ||
	    windows_read_pointer(os, space, WINDOWS_TOKEN_GROUPS, token, &groups) ||
	    windows_pointer_at(os, space, groups + value * 2 * n, &sid) ||
	    hvmi_space_read(space, sid, label, sizeof(label), NULL) || label[0] != 1 ||
	    label[1] != 1 || label[7] != 16)
		return;
	task->integrity = load_le32(label + 8);
	task->valid |= HVMI_TASK_HAS_INTEGRITY;
}

static void read_process(const struct hvmi_os *os, struct hvmi_space *space, uint64_t object,
			 struct hvmi_task *task)
{
	uint64_t value;
	*task = (struct hvmi_task){ .object = object, .process = object,
				    .flags = HVMI_TASK_LEADER, .valid = HVMI_TASK_HAS_PROCESS };
	if (read_id(os, space, object + windows_offset(os, WINDOWS_PROCESS_PID), &task->pid)) {
		task->tgid = task->pid;
		task->valid |= HVMI_TASK_HAS_PID | HVMI_TASK_HAS_TGID;
	}
	if (windows_has(os, WINDOWS_PROCESS_PARENT) &&
	    read_id(os, space, object + windows_offset(os, WINDOWS_PROCESS_PARENT), &task->ppid))
		task->valid |= HVMI_TASK_HAS_PPID;
	if (windows_has(os, WINDOWS_PROCESS_NAME) &&
	    hvmi_space_read(space, object + windows_offset(os, WINDOWS_PROCESS_NAME), task->name,
			    NAME_BYTES, NULL) == 0) {
		size_t len = strnlen(task->name, NAME_BYTES);
		memset(task->name + len, 0, sizeof(task->name) - len);
		task->valid |= HVMI_TASK_HAS_NAME;
	} else {
		memset(task->name, 0, sizeof(task->name));
	}
	read_times(os, space, false, task);
	if (windows_read(os, space, WINDOWS_PROCESS_THREAD_COUNT, object, &value) == 0) {
		task->threads = (uint32_t)value;
		task->valid |= HVMI_TASK_HAS_THREADS;
	}
	if (windows_read(os, space, WINDOWS_PROCESS_PROTECTION, object, &value) == 0) {
		task->protection = (uint8_t)value;
		task->valid |= HVMI_TASK_HAS_PROTECTION;
	}
	read_root(os, space, task);
	read_user_block(os, space, task);
	read_token(os, space, task);
}

int windows_process_read(const struct hvmi_os *os, struct hvmi_space *space, uint64_t object,
			 struct hvmi_task *ret)
{
	uint8_t byte;
	int rc = hvmi_space_read(space, object, &byte, 1, NULL);
	if (!rc)
		read_process(os, space, object, ret);
	return rc;
}

/* KTHREAD_STATE: initialized, ready, running, standby, terminated, waiting, transition, deferred
 * ready, gate wait; a thread that is suspended waits. */
static uint32_t thread_letter(uint64_t state, uint64_t suspended)
{
	static const char letters[] = "IRRRXSSRS";
	if (state >= sizeof(letters) - 1)
		return 0;
	return suspended && letters[state] == 'S' ? 'T' : (uint8_t)letters[state];
}

static void read_thread(const struct hvmi_os *os, struct hvmi_space *space, uint64_t object,
			const struct hvmi_task *process, struct hvmi_task *task)
{
	const struct windows_os *data = windows_data(os);
	uint64_t value, suspended = 0, base, limit;
	*task = (struct hvmi_task){
		.object = object, .process = process->object, .root = process->root,
		.tgid = process->tgid, .ppid = process->ppid, .threads = process->threads,
		.session = process->session, .integrity = process->integrity,
		.protection = process->protection,
		.flags = process->flags & (HVMI_TASK_KERNEL | HVMI_TASK_32BIT),
		.valid = process->valid & (HVMI_TASK_HAS_PROCESS | HVMI_TASK_HAS_ROOT |
					   HVMI_TASK_HAS_TGID | HVMI_TASK_HAS_PPID |
					   HVMI_TASK_HAS_THREADS | HVMI_TASK_HAS_SESSION |
					   HVMI_TASK_HAS_INTEGRITY | HVMI_TASK_HAS_PROTECTION |
					   HVMI_TASK_HAS_FLAGS | HVMI_TASK_HAS_NAME),
	};
	memcpy(task->name, process->name, sizeof(task->name));
	if (windows_has(os, WINDOWS_THREAD_CID) &&
	    read_id(os, space, object + windows_offset(os, WINDOWS_THREAD_CID) +
		    data->pointer_bytes, &task->pid))
		task->valid |= HVMI_TASK_HAS_PID;
	read_times(os, space, true, task);
	windows_read(os, space, WINDOWS_THREAD_SUSPENDED, object, &suspended);
	if (windows_read(os, space, WINDOWS_THREAD_STATE, object, &value) == 0 &&
	    (task->state = thread_letter(value, suspended))) {
		task->valid |= HVMI_TASK_HAS_STATE;
		task->flags |= task->state == 'X' ? HVMI_TASK_EXITED : 0;
	}
	if (windows_read_pointer(os, space, WINDOWS_THREAD_TEB, object, &value) == 0 &&
	    !windows_is_kernel(os, value)) {
		task->user_block = value;
		task->valid |= HVMI_TASK_HAS_USER_BLOCK;
	}
	/* What the program asked for, where there is one; StartAddress is ntdll's then. */
	if ((windows_read_pointer(os, space, WINDOWS_THREAD_WIN32_START, object, &value) == 0 &&
	     value) || windows_read_pointer(os, space, WINDOWS_THREAD_START, object, &value) == 0) {
		task->entry = value;
		task->valid |= HVMI_TASK_HAS_ENTRY;
	}
	if (windows_read_pointer(os, space, WINDOWS_THREAD_STACK_BASE, object, &base) == 0 &&
	    windows_read_pointer(os, space, WINDOWS_THREAD_STACK_LIMIT, object, &limit) == 0 &&
	    windows_is_kernel(os, base) && limit < base) {
		task->stack_start = limit;
		task->stack_end = base;
		task->valid |= HVMI_TASK_HAS_STACK;
	}
}

static void read_any(const struct task_reader *reader, struct hvmi_task *ret)
{
	if (reader->process)
		read_thread(reader->os, reader->space, reader->object, reader->process, ret);
	else
		read_process(reader->os, reader->space, reader->object, ret);
}

/*
 * A process, or a thread of `process`. Of a running machine: a copy that is whole, of what was in
 * its list before it was copied and is still, so that its memory has been nothing else's.
 */
static int read_entry(struct task_iter *iter, uint64_t object,
		      const struct hvmi_task *process, const struct list_walk *walk,
		      struct hvmi_task *ret, struct hvmi_error *err)
{
	const struct task_reader reader = { .os = iter->os, .space = iter->space, .object = object,
					    .process = process, .wait_ns = &iter->wait_ns,
					    .read = read_any };
	const struct window_plan *plan = &windows_data(iter->os)->process;
	const struct hvmi_task *known = task_find_read(iter->reuse, plan, iter->space, object);
	if (known) {
		*ret = *known;
	} else if (iter->live) {
		task_settle(&reader, ret);
		task_confirm_read(iter->reuse, plan, iter->space, object);
	} else {
		read_any(&reader, ret);
	}
	if (!iter->live)
		return 1;
	if ((walk && !list_holds(walk)) || !(ret->valid & HVMI_TASK_HAS_PID))
		return hvmi_error_set(err, -EBUSY, object,
				      "what is at 0x%llx ended while it was read",
				      (unsigned long long)object);
	return 1;
}

static int next_process(struct task_iter *iter, struct hvmi_task *ret, struct hvmi_error *err)
{
	uint64_t link;
	if (iter->from_anchor) {
		iter->from_anchor = false;
		return read_entry(iter, windows_data(iter->os)->anchor, NULL, NULL, ret, err);
	}
	int rc = list_next(&iter->processes, &link, "processes", err);
	if (rc != 1)
		return rc;
	return read_entry(iter, link - windows_offset(iter->os, WINDOWS_PROCESS_LINKS), NULL,
			  &iter->processes, ret, err);
}

static int next_thread(struct task_iter *iter, struct hvmi_task *ret, struct hvmi_error *err)
{
	for (;;) {
		uint64_t link;
		int rc = list_next(&iter->group, &link, "threads", &iter->damage_text);
		if (rc == 1) {
			if (iter->left == 0)
				return hvmi_error_set(err, -EOVERFLOW, link,
						      "the lists of threads do not end");
			iter->left--;
			return read_entry(iter, link - windows_offset(iter->os,
								      WINDOWS_THREAD_LINKS),
					  &iter->process, &iter->group, ret, err);
		}
		if (rc < 0 && iter->live) {
			if (err)
				*err = iter->damage_text;
			return rc;
		}
		if (rc < 0)
			iter->damage = rc;
		rc = next_process(iter, &iter->process, err);
		if (rc == 0 && iter->damage) {
			rc = iter->damage;
			iter->damage = 0;
			if (err)
				*err = iter->damage_text;
			return rc;
		}
		if (rc != 1)
			return rc;
		list_begin(&iter->group, iter->space, iter->process.object +
			   windows_offset(iter->os, WINDOWS_PROCESS_THREADS),
			   windows_data(iter->os)->pointer_bytes, THREADS_BOUND);
		iter->group.live = iter->live;
	}
}

int windows_task_next(void *state, struct hvmi_task *ret, struct hvmi_error *err)
{
	struct task_iter *iter = state;
	return iter->threads ? next_thread(iter, ret, err) : next_process(iter, ret, err);
}

/* The process that a thread is of. */
int windows_thread_process(const struct hvmi_os *os, struct hvmi_space *space, uint64_t thread,
			   uint64_t *ret)
{
	if (windows_has(os, WINDOWS_THREAD_PROCESS))
		return windows_read_pointer(os, space, WINDOWS_THREAD_PROCESS, thread, ret);
	if (!windows_has(os, WINDOWS_THREAD_APC))
		return -ENOENT;
	return windows_read_pointer(os, space, WINDOWS_APC_PROCESS,
				    thread + windows_offset(os, WINDOWS_THREAD_APC), ret);
}

uint64_t windows_task_process(const struct hvmi_os *os, struct hvmi_space *space,
			      const struct hvmi_task *task)
{
	uint64_t process;
	if (task->flags & HVMI_TASK_LEADER)
		return task->object;
	if (task->valid & HVMI_TASK_HAS_PROCESS)
		return task->process;
	return windows_thread_process(os, space, task->object, &process) ? 0 : process;
}

int windows_task_check(const struct hvmi_os *os, struct hvmi_space *space,
		       const struct hvmi_task *task, struct hvmi_error *err)
{
	struct hvmi_task now = { 0 };
	uint64_t process = windows_task_process(os, space, task);
	fence_loads();
	if (!process || windows_process_read(os, space, process, &now))
		return hvmi_error_set(err, -EFAULT, task->object,
				      "the process of the task at 0x%llx cannot be read",
				      (unsigned long long)task->object);
	bool created = task->flags & HVMI_TASK_LEADER && task->valid & HVMI_TASK_HAS_CREATED;
	if ((task->valid & HVMI_TASK_HAS_TGID && now.tgid != task->tgid) ||
	    (created && now.created_ns != task->created_ns))
		return hvmi_error_set(err, -ENOENT, process, "process %d has ended",
				      (int)task->tgid);
	return 0;
}

/* Whether a vCPU is on a thread's stack of the kernel. */
static bool is_on_stack(const struct hvmi_os *os, struct hvmi_space *space, uint32_t vcpu,
			uint64_t thread)
{
	uint64_t rsp, base, limit;
	return hvmi_vm_register(os->vm, vcpu, HVMI_X86_RSP, &rsp) == 0 &&
	       windows_read_pointer(os, space, WINDOWS_THREAD_STACK_BASE, thread, &base) == 0 &&
	       windows_read_pointer(os, space, WINDOWS_THREAD_STACK_LIMIT, thread, &limit) == 0 &&
	       windows_is_kernel(os, limit) && rsp >= limit && rsp < base;
}

/*
 * The KPRCB of a vCPU whose registers do not lead to it: that in KiProcessorBlock whose thread has the
 * stack that it is on, or the only one there is.
 */
static int search_prcb(const struct hvmi_os *os, struct hvmi_space *space, uint32_t vcpu,
		       uint64_t *ret)
{
	uint32_t n = windows_data(os)->pointer_bytes, count = 0;
	uint64_t block, prcb, thread, found = 0;
	if (symbols_find(&os->profile->symbols, "KiProcessorBlock", &block))
		return -ENOTSUP;
	for (; count < PROCESSORS_MAX; count++) {
		if (windows_pointer_at(os, space, block + count * (uint64_t)n, &prcb) ||
		    !windows_is_kernel(os, prcb) ||
		    windows_read_pointer(os, space, WINDOWS_PRCB_THREAD, prcb, &thread))
			break;
		if (is_on_stack(os, space, vcpu, thread)) {
			*ret = prcb;
			return 0;
		}
		found = prcb;
	}
	*ret = found;
	return count == 1 ? 0 : -ENOTSUP;
}

static int find_prcb(const struct hvmi_os *os, struct hvmi_space *space, uint32_t vcpu,
		     uint64_t *ret)
{
	static const uint32_t bases[] = { HVMI_X86_GS_BASE, HVMI_X86_KERNEL_GS_BASE };
	bool wide = windows_data(os)->pointer_bytes == 8;
	uint64_t kpcr = 0;
	for (size_t i = 0; i < (wide ? ARRAY_SIZE(bases) : 1) && !windows_is_kernel(os, kpcr); i++)
		if (hvmi_vm_register(os->vm, vcpu, wide ? bases[i] : HVMI_X86_FS_BASE, &kpcr))
			kpcr = 0;
	return windows_is_kernel(os, kpcr) ?
		windows_read_pointer(os, space, WINDOWS_PCR_PRCB, kpcr, ret) :
		search_prcb(os, space, vcpu, ret);
}

int windows_current(const struct hvmi_os *os, struct hvmi_space *space, uint32_t vcpu,
		    uint64_t *process_ret, uint64_t *thread_ret, struct hvmi_error *err)
{
	static const enum windows_member needed[] = { WINDOWS_PCR_PRCB, WINDOWS_PRCB_THREAD,
						      WINDOWS_PROCESS_PID };
	uint64_t prcb = 0;
	struct hvmi_vm_info info = { .size = sizeof(info) };
	hvmi_vm_get_info(os->vm, &info);
	if (vcpu >= info.vcpus)
		return hvmi_error_set(err, -ENOENT, HVMI_NO_ADDRESS, "there is no vCPU %u", vcpu);
	int rc = windows_require(os, "what a vCPU runs", needed, ARRAY_SIZE(needed), err);
	if (rc)
		return rc;
	rc = find_prcb(os, space, vcpu, &prcb);
	if (rc == -ENOTSUP)
		return hvmi_error_set(err, rc, HVMI_NO_ADDRESS,
				      "neither the registers of vCPU %u nor KiProcessorBlock tell where "
				      "its KPRCB is", vcpu);
	if (!rc)
		rc = windows_read_pointer(os, space, WINDOWS_PRCB_THREAD, prcb, thread_ret);
	if (!rc)
		rc = windows_thread_process(os, space, *thread_ret, process_ret);
	return rc ? hvmi_error_set(err, rc, prcb, "the KPCR of vCPU %u leads to what is not in memory",
				   vcpu) : 0;
}

int windows_task_current(struct hvmi_os *os, uint32_t vcpu, uint32_t flags, struct hvmi_task *ret,
			 struct hvmi_error *err)
{
	struct hvmi_space *space;
	struct hvmi_task owner;
	uint64_t process, thread;
	int rc = hvmi_os_kernel_space(os, &space, err);
	if (rc)
		return rc;
	rc = windows_current(os, space, vcpu, &process, &thread, err);
	if (!rc) {
		read_process(os, space, process, &owner);
		if (flags & HVMI_TASKS_THREADS)
			read_thread(os, space, thread, &owner, ret);
		else
			*ret = owner;
	}
	hvmi_space_destroy(space);
	return rc;
}
