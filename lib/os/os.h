/* SPDX-License-Identifier: Apache-2.0 */
/* What the recognisers of operating systems share, and what each must bring. */
#ifndef HVMI_LIB_OS_H
#define HVMI_LIB_OS_H

#include <hvmi/os.h>

#include "profile/profile.h"
#include "vm/vm.h"

struct os_fact {
	char *name, *value, *source;
	uint32_t confidence;
	uint64_t gpa, len;
};

/*
 * Added to the flags of a list: the machine runs while it is read. Then begin() and next() answer
 * -EBUSY, -EBADMSG or -EFAULT where what they met cannot be of one moment, and the list is begun
 * again: it is only believed if none did. Without it they give what is there.
 */
#define OS_LIST_LIVE 2147483648u
/* How long a list that changes is read again. */
#define OS_LIST_BUDGET_NS 1000000000u

struct task_reuse;

/* The kernel stack of a thread of a machine that stands still. */
struct os_stack {
	uint64_t object;		/* as hvmi_task */
	int32_t pid, tgid;
	char name[64];
	uint64_t start, end;
	uint64_t sp;			/* where it was switched out; old if it runs */
	bool running;			/* on a CPU, as the OS sees it */
};

/* One operating system. */
struct os_ops {
	enum hvmi_os_kind kind;
	const char *name;
	/*
	 * Look for it in os->vm and fill os: info, kernel, profile, facts, data. -ENOENT: it is
	 * not there, unless os->recognised. What was filled before a failure is freed by the caller with detach().
	 */
	int (*attach)(struct hvmi_os *os, struct hvmi_error *err);
	void (*detach)(struct hvmi_os *os);

	/* `reuse` may be NULL; see task.h. */
	int (*task_begin)(struct hvmi_os *os, uint32_t flags, struct task_reuse *reuse,
			  void **state_ret, struct hvmi_error *err);
	int (*task_next)(void *state, struct hvmi_task *ret, struct hvmi_error *err);
	void (*task_end)(void *state);
	/* Which: 0 the arguments, 1 the environment. */
	int (*task_strings)(struct hvmi_os *os, const struct hvmi_task *task, int which, char *buf,
			    size_t size, size_t *len_ret, struct hvmi_error *err);

	/* May be NULL: -ENOTSUP. */
	int (*task_path)(struct hvmi_os *os, const struct hvmi_task *task, char *buf, size_t size,
			 struct hvmi_error *err);
	int (*task_current)(struct hvmi_os *os, uint32_t vcpu, uint32_t flags,
			    struct hvmi_task *ret, struct hvmi_error *err);

	/*
	 * Kernel stacks of all threads that have one, idle ones too; each() ends it by anything but
	 * 0. May be NULL: -ENOTSUP.
	 */
	int (*stacks)(struct hvmi_os *os, int (*each)(void *context, const struct os_stack *stack),
		      void *context, struct hvmi_error *err);

	int (*module_begin)(struct hvmi_os *os, uint32_t flags, void **state_ret,
			    struct hvmi_error *err);
	/* Of a process; the state is as module_begin()'s. May be NULL. */
	int (*module_begin_task)(struct hvmi_os *os, const struct hvmi_task *task, uint32_t flags,
				 void **state_ret, struct hvmi_error *err);
	int (*module_next)(void *state, struct hvmi_module *ret, struct hvmi_error *err);
	void (*module_end)(void *state);

	/* Live: -ENOENT if the task has ended. */
	int (*region_begin)(struct hvmi_os *os, const struct hvmi_task *task, uint32_t flags,
			    void **state_ret, struct hvmi_error *err);
	int (*region_next)(void *state, struct hvmi_region *ret, struct hvmi_error *err);
	void (*region_end)(void *state);
};

struct hvmi_os {
	const struct os_ops *ops;
	struct hvmi_vm *vm;
	struct hvmi_os_options options;	/* strings are the caller's: valid during attach() only */
	struct hvmi_profile *profile;
	struct hvmi_space_config kernel;
	struct hvmi_os_info info;
	char release[128];
	char banner[512];
	struct os_fact *facts;
	uint32_t fact_count;
	uint64_t list_budget_ns;	/* OS_LIST_BUDGET_NS; tests shorten it */
	void *data;	/* of the operating system */
	bool recognised;	/* attach() knows that it is there: -ENOENT means something else */
};

/* Note a fact; the texts are formatted and sanitised. Running out of memory loses the fact. */
void os_fact(struct hvmi_os *os, const char *name, uint32_t confidence, uint64_t gpa, uint64_t len,
	     const char *value, const char *source_format, ...) HVMI_PRINTF(7, 8);

/* A member of a kernel structure, and the paths that it has had, separated by '|'. */
struct os_member_name {
	const char *type, *paths;
};
/* Look members up; one that the profile lacks is left alone. */
void os_members_find(const struct hvmi_profile *profile, const struct os_member_name *names,
		     struct hvmi_member *members, size_t count);

const struct os_ops *linux_ops(void);
/* By registers and other cheap means, and by searching all of memory. */
const struct os_ops *windows_ops(void);
const struct os_ops *windows_search_ops(void);

#endif
