/* SPDX-License-Identifier: Apache-2.0 */
/* What the iterators over lists of every noun share. */
#ifndef HVMI_LIB_ITER_H
#define HVMI_LIB_ITER_H

#include "os/os.h"

/* The caller's sized task as this version knows it. */
int task_take(struct hvmi_task *to, const struct hvmi_task *from, struct hvmi_error *err);

/* What a list is asked of. */
struct list_request {
	struct hvmi_os *os;
	const struct hvmi_task *task;	/* or NULL */
	uint32_t flags;			/* of the caller, and OS_LIST_LIVE */
	struct task_reuse *reuse;	/* of tasks, or NULL */
};

/* One noun. */
struct list_kind {
	const char *what;		/* "processes" */
	uint32_t flags;			/* that callers may give, beside HVMI_LIST_PAUSED */
	size_t record_bytes;		/* of the struct that next() fills: public, without padding */
	size_t path_at;			/* offset in it of a const char *, or SIZE_MAX */
	size_t same_at, same_bytes;	/* what of a record stays while nothing happens to it */
	/*
	 * Believe a list of a running machine when two walks give the same: of one moment, but not
	 * to be had where something always changes. Else next() sees to it that an entry is whole.
	 */
	bool twice;
	int (*begin)(const struct list_request *request, void **state_ret, struct hvmi_error *err);
	int (*next)(struct hvmi_os *os, void *state, void *record, struct hvmi_error *err);
	void (*end)(struct hvmi_os *os, void *state);
	/* Of a running machine: whether all records can be of one list. May be NULL. */
	int (*check)(const void *records, size_t count, struct hvmi_error *err);
};

/* A list as it was read: an array of records, and the text that they point to. */
struct snapshot {
	const struct list_kind *kind;
	uint8_t *records;
	char *text;			/* paths are offsets into it until they are given out */
	size_t count;			/* records */
	size_t capacity, text_len, text_capacity;	/* bytes */
	bool begun;			/* there is a list, if perhaps not to its end */
	bool full;			/* it was given up because it is too large */
	int end;			/* what the list ends with: 0 or an error */
	struct hvmi_error error;
};

/*
 * Read a whole list. On a running machine: again and again until it is consistent, for at most
 * os->list_budget_ns; what was not is given with -EBUSY at its end, and damage that stays as of a
 * machine that stands still.
 */
int snapshot_take(const struct list_kind *kind, const struct list_request *request,
		  struct snapshot *ret, struct hvmi_error *err);
void snapshot_free(struct snapshot *snapshot);

/* What every kind of list of tasks is made of. */
int tasks_begin(const struct list_request *request, void **state_ret, struct hvmi_error *err);
void tasks_end(struct hvmi_os *os, void *state);
/* -EBUSY: a pid comes twice. The tasks lie `stride` bytes apart. */
int tasks_check(const void *tasks, size_t count, size_t stride, struct hvmi_error *err);

/* What is behind every public iterator. */
struct os_iter {
	struct hvmi_os *os;
	const struct list_kind *kind;
	bool copied, paused;
	void *state;			/* of kind's, unless copied */
	struct snapshot snapshot;	/* if copied */
	size_t at;
};

int iter_create(const struct list_kind *kind, const struct list_request *request,
		struct os_iter **ret, struct hvmi_error *err);
/* `record` is kind's whole struct. */
int iter_next(struct os_iter *iter, void *record, struct hvmi_error *err);
void iter_destroy(struct os_iter *iter);

#endif
