/* SPDX-License-Identifier: Apache-2.0 */
/* Reading a task that the guest may be changing. */
#ifndef HVMI_LIB_TASK_H
#define HVMI_LIB_TASK_H

#include "os/os.h"
#include "os/window.h"

struct task_reader {
	const struct hvmi_os *os;
	struct hvmi_space *space;
	uint64_t object;
	const struct hvmi_task *process;	/* of a thread, where its reader wants it */
	uint64_t *wait_ns;	/* how long the whole list may still wait for tasks to come to rest */
	void (*read)(const struct task_reader *reader, struct hvmi_task *ret);
	/*
	 * The fields that somebody is changing right now, as bits of hvmi_task.valid; may be NULL.
	 * What was read once, then not being changed, then read again and the same, is whole: had
	 * somebody been in the middle of it the first time, he was through by the second.
	 */
	uint32_t (*busy)(const struct task_reader *reader);
};

/* All together, for who was stopped in the middle; a guest that changes all can cost no more. */
#define TASK_WAIT_NS 50000000u

/* Read it until it comes to rest. A field that does not is not valid. */
void task_settle(const struct task_reader *reader, struct hvmi_task *ret);

/* Fields that differ, as bits of hvmi_task.valid; not state and threads, which change in passing. */
uint32_t task_differences(const struct hvmi_task *a, const struct hvmi_task *b);

/*
 * Tasks that were read before. find() gives the one that was at `object` when it had the same marks
 * (window_marks()), or NULL: then it has to be read, and the marks are kept for it. Where it may change
 * meanwhile confirm() is told the marks of afterwards: others than before are not its marks.
 */
struct task_reuse {
	const struct hvmi_task *(*find)(struct task_reuse *reuse, uint64_t object,
					const uint8_t *marks, size_t len);
	void (*confirm)(struct task_reuse *reuse, const uint8_t *marks, size_t len);
};

/* The task at an object if nothing happened to it since it was read; `reuse` may be NULL. */
const struct hvmi_task *task_find_read(struct task_reuse *reuse, const struct window_plan *plan,
				       struct hvmi_space *space, uint64_t object);
/* After such a task of a running machine was read. */
void task_confirm_read(struct task_reuse *reuse, const struct window_plan *plan,
		       struct hvmi_space *space, uint64_t object);

#endif
