/* SPDX-License-Identifier: Apache-2.0 */
#include "os/iter.h"
#include "os/task.h"
#include "profile/name_index.h"

#define NONE UINT32_MAX

/* A task, and by what it is seen that nothing happened to it. */
struct watched {
	struct hvmi_task task;
	uint32_t before;	/* which it was in the list before, or NONE */
	uint32_t mark_len;	/* 0: it has to be read */
	uint32_t reused;	/* it was not read again */
	uint32_t followed;	/* it is in the next list too */
	uint8_t marks[WINDOW_MARK_BYTES];
};

struct hvmi_task_watch {
	struct task_reuse reuse;	/* first, so that one is the other */
	struct hvmi_os *os;
	uint32_t flags;
	bool begun, read_all;
	struct snapshot before, now;	/* of struct watched */
	bool first;			/* `now` is the first list */
	struct name_index index;	/* of `now`, by object */
	uint64_t secret;
	/* While a list is read, when `now` is what was read before. */
	void *state;			/* of the operating system's list */
	size_t cursor;			/* the list's order mostly stays */
	struct watched asked;		/* the task that find() was asked for last */
	/* While differences are told: first what ended, then what is there. */
	size_t at_before, at_now;
};

static struct watched *watched(const struct snapshot *s, size_t index)
{
	return (struct watched *)(void *)s->records + index;
}

static uint32_t object_hash(uint64_t object, uint64_t secret)
{
	return name_hash((const char *)&object, sizeof(object), secret);
}

static uint32_t look_up(struct hvmi_task_watch *watch, uint64_t object)
{
	const struct snapshot *s = &watch->now;
	uint32_t count;
	if (watch->cursor < s->count && watched(s, watch->cursor)->task.object == object)
		return (uint32_t)watch->cursor++;
	const uint32_t *bucket = name_index_bucket(&watch->index, (const char *)&object,
						   sizeof(object), &count);
	for (uint32_t i = 0; i < count; i++)
		if (watched(s, bucket[i])->task.object == object) {
			watch->cursor = bucket[i] + 1;
			return bucket[i];
		}
	return NONE;
}

static const struct hvmi_task *find(struct task_reuse *reuse, uint64_t object, const uint8_t *marks,
				    size_t len)
{
	struct hvmi_task_watch *watch = (struct hvmi_task_watch *)reuse;
	struct watched *asked = &watch->asked;
	asked->task.object = object;
	asked->before = look_up(watch, object);
	asked->mark_len = (uint32_t)len;
	asked->reused = false;
	memcpy(asked->marks, marks, len);
	if (watch->read_all || !len || asked->before == NONE)
		return NULL;
	const struct watched *known = watched(&watch->now, asked->before);
	asked->reused = known->mark_len == len && !memcmp(known->marks, marks, len);
	return asked->reused ? &known->task : NULL;
}

static void confirm(struct task_reuse *reuse, const uint8_t *marks, size_t len)
{
	struct watched *asked = &((struct hvmi_task_watch *)reuse)->asked;
	if (asked->mark_len != len || memcmp(asked->marks, marks, len))
		asked->mark_len = 0;
}

/* The list's state is the watch, which has the state of the operating system's list. */
static int watch_begin(const struct list_request *request, void **state_ret, struct hvmi_error *err)
{
	struct hvmi_task_watch *watch = (struct hvmi_task_watch *)request->reuse;
	int rc = tasks_begin(request, &watch->state, err);
	watch->cursor = 0;
	if (!rc)
		*state_ret = watch;
	return rc;
}

static int watch_next(struct hvmi_os *os, void *state, void *record, struct hvmi_error *err)
{
	struct hvmi_task_watch *watch = state;
	struct watched *w = record;
	watch->asked = (struct watched){ .task.object = UINT64_MAX, .before = NONE };
	int rc = os->ops->task_next(watch->state, &w->task, err);
	if (rc != 1)
		return rc;
	if (watch->asked.task.object == w->task.object) {
		w->reused = watch->asked.reused;
		w->before = watch->asked.before;
		w->mark_len = watch->asked.mark_len;
		memcpy(w->marks, watch->asked.marks, w->mark_len);
	} else {
		w->before = look_up(watch, w->task.object);
	}
	return 1;
}

static void watch_end(struct hvmi_os *os, void *state)
{
	tasks_end(os, ((struct hvmi_task_watch *)state)->state);
}

static int watch_check(const void *records, size_t count, struct hvmi_error *err)
{
	return tasks_check(records, count, sizeof(struct watched), err);
}

static const struct list_kind watched_kind = {
	.what = "processes",
	.record_bytes = sizeof(struct watched),
	.path_at = SIZE_MAX,
	.same_at = offsetof(struct watched, task.object),
	.same_bytes = offsetof(struct hvmi_task, threads) - offsetof(struct hvmi_task, object),
	.begin = watch_begin,
	.next = watch_next,
	.end = watch_end,
	.check = watch_check,
};

HVMI_API int hvmi_task_watch_create(struct hvmi_os *os, uint32_t flags, struct hvmi_task_watch **ret,
				    struct hvmi_error *err)
{
	if (flags & ~(HVMI_TASKS_THREADS | HVMI_LIST_PAUSED))
		return hvmi_error_set(err, -EINVAL, HVMI_NO_ADDRESS, "unknown flags 0x%x", flags);
	struct hvmi_task_watch *watch = calloc(1, sizeof(*watch));
	if (!watch)
		return hvmi_error_set(err, -ENOMEM, HVMI_NO_ADDRESS, "out of memory");
	watch->reuse = (struct task_reuse){ .find = find, .confirm = confirm };
	watch->os = os;
	watch->flags = flags;
	watch->secret = name_secret();
	*ret = watch;
	return 0;
}

HVMI_API void hvmi_task_watch_destroy(struct hvmi_task_watch *watch)
{
	if (!watch)
		return;
	snapshot_free(&watch->before);
	snapshot_free(&watch->now);
	name_index_deinit(&watch->index);
	free(watch);
}

/* What is at the same place later may be another task. */
static bool same_task(const struct hvmi_task *a, const struct hvmi_task *b)
{
	return a->pid == b->pid && a->tgid == b->tgid && a->start_ns == b->start_ns &&
	       a->created_ns == b->created_ns;
}

/* Say of the tasks before which of them are here too. Whether all have kept their places. */
static bool follow(const struct snapshot *before, struct snapshot *now)
{
	bool kept = before->count == now->count;
	for (size_t i = 0; i < before->count; i++)
		watched(before, i)->followed = false;
	for (size_t i = 0; i < now->count; i++) {
		struct watched *w = watched(now, i);
		kept &= w->before == i;
		if (w->before == NONE)
			continue;
		struct watched *was = watched(before, w->before);
		if (was->followed || !same_task(&was->task, &w->task))
			w->before = NONE;
		else
			was->followed = true;
	}
	return kept;
}

/* A list that was not read to its end says nothing of what did not come: it stays. */
static int keep_missing(const struct snapshot *before, struct snapshot *now)
{
	size_t missing = 0;
	for (size_t i = 0; i < before->count; i++)
		missing += !watched(before, i)->followed;
	if (!missing)
		return 0;
	size_t bytes = (now->count + missing) * sizeof(struct watched);
	void *grown = realloc(now->records, bytes);
	if (!grown)
		return -ENOMEM;
	now->records = grown;
	now->capacity = bytes;
	for (size_t i = 0; i < before->count; i++) {
		struct watched *was = watched(before, i);
		if (was->followed)
			continue;
		struct watched *w = watched(now, now->count++);
		*w = *was;
		w->before = (uint32_t)i;
		w->reused = was->followed = true;
	}
	return 0;
}

static int index_build(const struct hvmi_task_watch *watch, const struct snapshot *now,
		       struct name_index *ret)
{
	CLEANUP_FREE uint32_t *hashes = malloc((now->count + 1) * sizeof(*hashes));
	if (!hashes)
		return -ENOMEM;
	for (size_t i = 0; i < now->count; i++)
		hashes[i] = object_hash(watched(now, i)->task.object, watch->secret);
	return name_index_build(ret, hashes, watch->secret, NULL, (uint32_t)now->count);
}

/* Makes `now` the list that is known, and frees it if that fails. */
static int take(struct hvmi_task_watch *watch, struct snapshot *now)
{
	struct name_index index = { 0 };
	bool kept = follow(&watch->now, now);
	int rc = now->end ? keep_missing(&watch->now, now) : 0;
	if (!rc && (!kept || now->end))
		rc = index_build(watch, now, &index);
	if (rc) {
		snapshot_free(now);
		return rc;
	}
	if (!kept || now->end) {
		name_index_deinit(&watch->index);
		watch->index = index;
	}
	watch->first = !watch->begun;
	watch->begun = true;
	watch->before = watch->now;
	watch->now = *now;
	watch->at_before = watch->at_now = 0;
	return 0;
}

HVMI_API int hvmi_task_watch_refresh(struct hvmi_task_watch *watch, uint32_t flags,
				     struct hvmi_error *err)
{
	const struct list_request request = { .os = watch->os, .reuse = &watch->reuse,
					      .flags = watch->flags & ~HVMI_LIST_PAUSED };
	bool pause = watch->flags & HVMI_LIST_PAUSED;
	struct snapshot now;
	if (flags & ~HVMI_TASK_WATCH_READ_ALL)
		return hvmi_error_set(err, -EINVAL, HVMI_NO_ADDRESS, "unknown flags 0x%x", flags);
	snapshot_free(&watch->before);
	watch->at_now = watch->now.count;
	watch->read_all = flags & HVMI_TASK_WATCH_READ_ALL;
	int rc = pause ? hvmi_vm_pause(watch->os->vm, err) : 0;
	if (rc)
		return rc;
	rc = snapshot_take(&watched_kind, &request, &now, err);
	if (pause)
		hvmi_vm_resume(watch->os->vm, NULL);
	if (rc)
		return rc;
	rc = take(watch, &now);
	if (rc)
		return hvmi_error_set(err, rc, HVMI_NO_ADDRESS, "out of memory");
	if (watch->now.end && err)
		*err = watch->now.error;
	return watch->now.end;
}

/* The next difference: 1, or 0. */
static int next_change(struct hvmi_task_watch *watch, struct hvmi_task_news *news,
		       const struct hvmi_task **task_ret)
{
	while (watch->at_before < watch->before.count) {
		const struct watched *w = watched(&watch->before, watch->at_before++);
		if (w->followed)
			continue;
		news->change = HVMI_TASK_ENDED;
		*task_ret = &w->task;
		return 1;
	}
	while (watch->at_now < watch->now.count) {
		const struct watched *w = watched(&watch->now, watch->at_now++);
		if (w->before == NONE)
			news->change = watch->first ? HVMI_TASK_PRESENT : HVMI_TASK_STARTED;
		else if (!w->reused &&
			 (news->fields = task_differences(
				  &watched(&watch->before, w->before)->task, &w->task)))
			news->change = HVMI_TASK_CHANGED;
		else
			continue;
		*task_ret = &w->task;
		return 1;
	}
	return 0;
}

HVMI_API int hvmi_task_watch_next(struct hvmi_task_watch *watch, struct hvmi_task_news *ret,
				  struct hvmi_task *task_ret, struct hvmi_error *err)
{
	struct hvmi_task_news news = { 0 };
	const struct hvmi_task *task;
	int rc = next_change(watch, &news, &task);
	if (rc == 1 && (result_copy(ret, &news, sizeof(news)) ||
			result_copy(task_ret, task, sizeof(*task))))
		return hvmi_error_set(err, -EINVAL, HVMI_NO_ADDRESS,
				      "hvmi_task_news.size or hvmi_task.size is not set");
	return rc;
}
