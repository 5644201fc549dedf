/* SPDX-License-Identifier: Apache-2.0 */
#include "os/iter.h"

#include <time.h>

/* Most memory that a copy takes: more than a million tasks. */
#define SNAPSHOT_BYTES_MAX (256 * MIB)
/* Walks before a list is given up, however long they take. */
#define WALKS_MIN 3u
#define WAIT_FIRST_NS 10000u
#define WAIT_LAST_NS 10000000u

static uint64_t now_ns(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

/* Who changes a list may itself have been stopped in the middle of it: give him the processor. */
static void wait_after(uint32_t walks)
{
	uint64_t ns = MIN((uint64_t)WAIT_FIRST_NS << MIN(walks, 20u), (uint64_t)WAIT_LAST_NS);
	struct timespec t = { .tv_nsec = (long)ns };
	nanosleep(&t, NULL);
}

void snapshot_free(struct snapshot *s)
{
	free(s->records);
	free(s->text);
	*s = (struct snapshot){ 0 };
}

/* Room for `more` bytes behind the `used` ones of an array that has `*size`. */
static int reserve(struct snapshot *s, void **array, size_t used, size_t more, size_t *size,
		   struct hvmi_error *err)
{
	if (more <= *size - used)
		return 0;
	size_t wanted = MAX(used + more, *size ? 2 * *size : 4096);
	if (wanted > SNAPSHOT_BYTES_MAX) {
		s->full = true;
		return hvmi_error_set(err, -EOVERFLOW, HVMI_NO_ADDRESS,
				      "the list of %s is too long to be copied from a running "
				      "machine: pause it (HVMI_LIST_PAUSED) to read it in place",
				      s->kind->what);
	}
	void *grown = realloc(*array, wanted);
	if (!grown)
		return hvmi_error_set(err, -ENOMEM, HVMI_NO_ADDRESS, "out of memory");
	*array = grown;
	*size = wanted;
	return 0;
}

/* The path of a record goes to the snapshot's text, and its offset there into the record. */
static int keep_path(struct snapshot *s, char *record, struct hvmi_error *err)
{
	const char *path;
	memcpy(&path, record + s->kind->path_at, sizeof(path));
	size_t len = path ? strlen(path) : 0;
	int rc = reserve(s, (void **)&s->text, s->text_len, len + 1, &s->text_capacity, err);
	if (rc)
		return rc;
	uintptr_t offset = s->text_len;
	memcpy(s->text + offset, path ? path : "", len + 1);
	memcpy(record + s->kind->path_at, &offset, sizeof(offset));
	s->text_len += len + 1;
	return 0;
}

/* One walk: 0, what begin() fails with, or what the list ends with; s->begun tells which. */
static int collect(struct snapshot *s, const struct list_request *request, struct hvmi_error *err)
{
	const struct list_kind *kind = s->kind;
	void *state;
	s->count = s->text_len = 0;
	int rc = kind->begin(request, &state, err);
	s->begun = rc == 0;
	if (rc)
		return rc;
	for (;;) {
		rc = reserve(s, (void **)&s->records, s->count * kind->record_bytes,
			     kind->record_bytes, &s->capacity, err);
		if (rc)
			break;
		char *record = (char *)s->records + s->count * kind->record_bytes;
		memset(record, 0, kind->record_bytes);
		rc = kind->next(request->os, state, record, err);
		if (rc == 1 && kind->path_at != SIZE_MAX)
			rc = keep_path(s, record, err) ?: 1;
		if (rc != 1)
			break;
		s->count++;
	}
	kind->end(request->os, state);
	return rc;
}

static bool equal(const struct snapshot *a, const struct snapshot *b)
{
	const struct list_kind *kind = a->kind;
	if (a->count != b->count || a->text_len != b->text_len ||
	    (a->text_len && memcmp(a->text, b->text, a->text_len)))
		return false;
	for (size_t i = 0; i < a->count; i++) {
		size_t at = i * kind->record_bytes + kind->same_at;
		if (memcmp(a->records + at, b->records + at, kind->same_bytes))
			return false;
	}
	return true;
}

/* Reading a list of a running machine. */
struct reading {
	struct list_request request;
	struct snapshot now, before;
	bool comparable;		/* `now` was read to its end without a complaint */
	uint32_t walks;
	uint64_t start_ns;
	/* What is wrong with the last walk, and since when it has been the same. */
	struct hvmi_error wrong;
	uint64_t since_ns;
};

/* Failures that a change under the reader can lead to. */
static bool may_pass(const struct reading *r, int rc)
{
	return !r->now.full &&
	       (rc == -EBUSY || rc == -EBADMSG || rc == -EFAULT || rc == -EOVERFLOW);
}

static int collect_next(struct reading *r, struct hvmi_error *wrong)
{
	struct snapshot other = r->before;
	r->before = r->now;
	r->now = other;
	r->walks++;
	return collect(&r->now, &r->request, wrong);
}

/* One walk: 0 if what was read is believed, else what is wrong with it. */
static int read_once(struct reading *r, struct hvmi_error *wrong)
{
	const struct list_kind *kind = r->now.kind;
	bool compare = r->comparable;
	int rc = collect_next(r, wrong);
	if (!rc && kind->check)
		rc = kind->check(r->now.records, r->now.count, wrong);
	r->comparable = rc == 0;
	if (rc || !kind->twice || (compare && equal(&r->now, &r->before)))
		return rc;
	return hvmi_error_set(wrong, -EBUSY, HVMI_NO_ADDRESS, "two readings differ");
}

static int read_until_consistent(struct reading *r)
{
	for (;;) {
		bool could_compare = r->comparable;
		struct hvmi_error wrong;
		int rc = read_once(r, &wrong);
		if (rc == 0)
			return 0;
		/* That two walks differ is never the same as before. */
		if (wrong.code != r->wrong.code || wrong.address != r->wrong.address ||
		    wrong.address == HVMI_NO_ADDRESS)
			r->since_ns = now_ns();
		r->wrong = wrong;
		if (!may_pass(r, rc))
			return rc;
		/* The first of two walks. */
		if (r->comparable && !could_compare)
			continue;
		if (r->walks >= WALKS_MIN && now_ns() - r->start_ns >= r->request.os->list_budget_ns)
			return rc;
		wait_after(r->walks);
	}
}

static int give_up(struct reading *r)
{
	struct hvmi_error last = r->wrong;
	return hvmi_error_set(&r->wrong, -EBUSY, last.address,
			      "the list of %s changed each of the %u times that it was read in "
			      "%u ms: pause the machine to read it standing still "
			      "(HVMI_LIST_PAUSED, or --pause of the tools); last, %s",
			      r->now.kind->what, r->walks,
			      (unsigned)((now_ns() - r->start_ns) / 1000000), last.text);
}

/*
 * What is wrong with a list may be so, and not be changing: then two walks as of a machine that stands
 * still give the same, and that is the list.
 */
static bool read_damaged(struct reading *r, int *rc_ret)
{
	struct hvmi_error wrong[2];
	r->request.flags &= ~OS_LIST_LIVE;
	int first = collect_next(r, &wrong[0]), second = collect_next(r, &wrong[1]);
	if (first == second && equal(&r->now, &r->before)) {
		if (second)
			r->wrong = wrong[1];
		*rc_ret = second;
		return true;
	}
	/* It does change: back to entries that are looked at twice. */
	r->request.flags |= OS_LIST_LIVE;
	*rc_ret = read_once(r, &wrong[0]);
	return *rc_ret == 0;
}

static int take_running(const struct list_kind *kind, const struct list_request *request,
			struct snapshot *ret, struct hvmi_error *err)
{
	struct reading r = { .request = *request, .now.kind = kind, .before.kind = kind,
			     .start_ns = now_ns() };
	r.request.flags |= OS_LIST_LIVE;
	int rc = read_until_consistent(&r);
	if (r.walks > (kind->twice ? 2u : 1u))
		vm_log(request->os->vm, HVMI_LOG_DEBUG, "the list of %s was read %u times: %s",
		       kind->what, r.walks, r.wrong.text);
	if (rc && may_pass(&r, rc) &&
	    (now_ns() - r.since_ns < request->os->list_budget_ns / 2 || !read_damaged(&r, &rc)))
		rc = give_up(&r);
	snapshot_free(&r.before);
	if (rc && !r.now.begun) {
		if (err)
			*err = r.wrong;
		snapshot_free(&r.now);
		return rc;
	}
	*ret = r.now;
	ret->end = rc;
	ret->error = r.wrong;
	return 0;
}

int snapshot_take(const struct list_kind *kind, const struct list_request *request,
		  struct snapshot *ret, struct hvmi_error *err)
{
	if (!vm_stands_still(request->os->vm))
		return take_running(kind, request, ret, err);
	struct snapshot s = { .kind = kind };
	s.end = collect(&s, request, &s.error);
	if (!s.begun) {
		if (err)
			*err = s.error;
		return s.end;
	}
	*ret = s;
	return 0;
}
