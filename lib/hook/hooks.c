/* SPDX-License-Identifier: Apache-2.0 */
/* Opening, the event loop's part, and giving everything back. */
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "hook/hook.h"
#include "hook/journal.h"

/* Events without an answer that are kept for later. */
#define QUEUED_MAX 65536u

static bool watch_fd(int epoll, int fd)
{
	struct epoll_event event = { .events = EPOLLIN };
	return epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) == 0;
}

static void free_hooks(struct hvmi_hooks *hooks)
{
	while (hooks->graveyard) {
		struct hvmi_hook *next = hooks->graveyard->next;
		hook_free(hooks->graveyard);
		hooks->graveyard = next;
	}
	places_reap(hooks);
	if (hooks->fd >= 0)
		close(hooks->fd);
	if (hooks->wake >= 0)
		close(hooks->wake);
	pool_free(&hooks->hot_pool);
	pool_free(&hooks->hook_pool);
	pool_free(&hooks->place_pool);
	free(hooks->vcpus);
	free(hooks->adds);
	free(hooks->removes);
	free(hooks);
}

/* One event that waits here is answered such that the guest goes on as if nobody had been there. */
static void let_go(struct hvmi_hooks *hooks, const struct hvmi_event *event)
{
	struct hvmi_answer a = { .size = sizeof(a) };
	uint8_t byte;
	if (!(event->flags & HVMI_EVENT_WAITS))
		return;
	switch (event->kind) {
	case HVMI_EVENT_BREAKPOINT:
		/* Those of ours have gone; what is there now is the guest's. */
		if (event->insn_length && (event->gpa == HVMI_NO_ADDRESS ||
					   hvmi_vm_read(hooks->vm, event->gpa + event->insn_length - 1,
							&byte, 1, NULL) || byte == INT3))
			a.flags = HVMI_ANSWER_REINJECT;
		break;
	case HVMI_EVENT_DEBUG:
		a.flags = HVMI_ANSWER_REINJECT;
		break;
	case HVMI_EVENT_CPUID:
	case HVMI_EVENT_DESCRIPTOR:
		a.flags = hooks->abilities & CAN_EMULATE ? HVMI_ANSWER_EMULATE : 0;
		break;
	case HVMI_EVENT_STEP:
		a.flags = HVMI_ANSWER_STEP_OFF;
		break;
	default:
		break;
	}
	if (hvmi_events_answer(hooks->events, event, &a, NULL) && a.flags)
		hvmi_events_answer(hooks->events, event, NULL, NULL);
}

static void let_all_go(struct hvmi_hooks *hooks)
{
	if (hooks->turn)
		let_go(hooks, hooks->turn->event);
	while (hooks->first) {
		struct queued *q = hooks->first;
		hooks->first = q->next;
		let_go(hooks, &q->event);
		free(q->registers);
		free(q);
	}
	hooks->last = &hooks->first;
}

static void drop_transaction(struct hvmi_hooks *hooks)
{
	hvmi_hooks_abort(hooks);
	while (hooks->live) {
		struct hvmi_hook *hook = hooks->live;
		hook_unplace(hook, NULL);
		for (uint64_t i = 0; i < hook->ref_count; i++)
			follow_end(&hook->refs[i]);
		hooks->live = hook->next;
		hook->hot->state = HOOK_DEAD;
		hook->next = hooks->graveyard;
		hooks->graveyard = hook;
	}
	hooks->hook_count = 0;
}

/* The machine may go next, before those who still hold a hook. */
static void drop_spaces(struct hvmi_hooks *hooks)
{
	for (uint32_t i = 0; i < CPU_SPACES; i++) {
		hvmi_space_destroy(hooks->cpu_spaces[i].space);
		hooks->cpu_spaces[i].space = NULL;
	}
	for (struct hook_space *s = hooks->spaces; s; s = s->next) {
		hvmi_space_destroy(s->space);
		s->space = NULL;
	}
}

/*
 * In an order that does not upset the guest: first what it could run into, while it stands, then those
 * who have run into it, then the views that nobody needs any more.
 */
static void shut(struct hvmi_hooks *hooks)
{
	bool paused = hvmi_vm_pause(hooks->vm, NULL) == 0;
	events_drain(hooks, NULL);
	for (uint32_t i = 0; i < hooks->vm->description.vcpus; i++)
		step_forget(hooks, i);
	drop_transaction(hooks);
	places_clear(hooks);
	let_all_go(hooks);
	if (hooks->view != HVMI_VIEW_HOST) {
		hvmi_view_switch(hooks->events, HVMI_VIEW_HOST, NULL);
		hvmi_view_destroy(hooks->events, hooks->view, NULL);
	}
	hooks->view = HVMI_VIEW_HOST;
	for (uint32_t i = 0; i < SHARED_COUNT; i++)
		while (hooks->shared[i] && shared_release(hooks, (enum shared)i, NULL) == 0)
			;
	if (paused)
		hvmi_vm_resume(hooks->vm, NULL);
	if (hooks->options.journal)
		journal_hold(hooks->options.journal, false);
	drop_spaces(hooks);
	hooks->events->hooks = NULL;
	hooks->events = NULL;
}

/* The events close first. */
static void events_closing(void *context)
{
	shut(context);
}

HVMI_API int hvmi_hooks_open(struct hvmi_events *events, const struct hvmi_hooks_options *options,
			     struct hvmi_hooks **ret, struct hvmi_error *err)
{
	struct hvmi_hooks_options o = { .size = sizeof(o) };
	if (!events || !ret || (options && (options_copy(&o, sizeof(o), options) || o.flags ||
					    o.reserved)))
		return hvmi_error_set(err, -EINVAL, HVMI_NO_ADDRESS,
				      "a required argument is NULL, or struct hvmi_hooks_options "
				      "holds what this version does not know: zero it and set size");
	if (events->hooks)
		return hvmi_error_set(err, -EBUSY, HVMI_NO_ADDRESS,
				      "the hooks of this machine are open already");
	struct hvmi_hooks *hooks = calloc(1, sizeof(*hooks));
	if (!hooks)
		return hvmi_error_set(err, -ENOMEM, HVMI_NO_ADDRESS, "out of memory");
	hooks->vm = events->vm;
	hooks->options = o;
	hooks->last = &hooks->first;
	hooks->hot_pool.size = (sizeof(struct hot) + 63) & ~(size_t)63;
	hooks->hook_pool.size = (sizeof(struct hvmi_hook) + 63) & ~(size_t)63;
	hooks->place_pool.size = (sizeof(struct place) + 63) & ~(size_t)63;
	hooks_start_clock(hooks);
	hooks->abilities = plan_abilities(hooks->vm);
	hooks->vcpus = calloc(MAX(hooks->vm->description.vcpus, 1), sizeof(*hooks->vcpus));
	hooks->fd = epoll_create1(EPOLL_CLOEXEC);
	hooks->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (!hooks->vcpus || hooks->fd < 0 || hooks->wake < 0 ||
	    !watch_fd(hooks->fd, hooks->wake) || !watch_fd(hooks->fd, events->fd)) {
		free_hooks(hooks);
		return hvmi_error_set(err, -ENOMEM, HVMI_NO_ADDRESS, "out of memory or descriptors");
	}
	hooks->events = events;
	if (o.journal)
		journal_hold(o.journal, true);
	events->hooks = hooks;
	events->hooks_close = events_closing;
	*ret = hooks;
	return 0;
}

HVMI_API void hvmi_hooks_close(struct hvmi_hooks *hooks)
{
	if (!hooks)
		return;
	if (hooks->events)
		shut(hooks);
	/* In a callback its caller still looks at it. */
	hooks->free_later = hooks->depth;
	if (!hooks->depth)
		free_hooks(hooks);
}

HVMI_API int hvmi_hooks_fd(const struct hvmi_hooks *hooks)
{
	return hooks->fd;
}

static int enqueue(struct hvmi_hooks *hooks, const struct hvmi_event *event)
{
	struct queued *q = calloc(1, sizeof(*q));
	if (!q)
		return -ENOMEM;
	q->event = *event;
	/* Of one that does not wait they last until the next one. */
	if (!(event->flags & HVMI_EVENT_WAITS)) {
		q->registers = malloc(sizeof(*q->registers));
		if (!q->registers) {
			free(q);
			return -ENOMEM;
		}
		*q->registers = *event->registers;
		q->event.registers = q->registers;
	}
	*hooks->last = q;
	hooks->last = &q->next;
	return 0;
}

int events_drain(struct hvmi_hooks *hooks, struct hvmi_error *err)
{
	struct hvmi_event event = { .size = sizeof(event) };
	for (uint32_t i = 0; i < QUEUED_MAX; i++) {
		int rc = hvmi_events_next(hooks->events, 0, &event, err);
		if (rc <= 0)
			return rc;
		rc = enqueue(hooks, &event);
		if (rc) {
			let_go(hooks, &event);
			return hvmi_error_set(err, rc, HVMI_NO_ADDRESS, "out of memory");
		}
		eventfd_write(hooks->wake, 1);
	}
	return 0;
}

/* The next event, with what to free when it is over: 1, 0 or an error. */
static int next_event(struct hvmi_hooks *hooks, int timeout_ms, struct hvmi_event *ret,
		      struct hvmi_registers **free_ret, struct hvmi_error *err)
{
	struct queued *q = hooks->first;
	eventfd_t count;
	*free_ret = NULL;
	if (!q)
		return hvmi_events_next(hooks->events, timeout_ms, ret, err);
	hooks->first = q->next;
	if (!hooks->first) {
		hooks->last = &hooks->first;
		eventfd_read(hooks->wake, &count);
	}
	*ret = q->event;
	*free_ret = q->registers;
	free(q);
	return 1;
}

static void reap(struct hvmi_hooks *hooks)
{
	while (hooks->graveyard) {
		struct hvmi_hook *next = hooks->graveyard->next;
		hook_free(hooks->graveyard);
		hooks->graveyard = next;
	}
	places_reap(hooks);
}

HVMI_API int hvmi_hooks_dispatch(struct hvmi_hooks *hooks, int timeout_ms, struct hvmi_error *err)
{
	if (hooks->depth)
		return hvmi_error_set(err, -EBUSY, HVMI_NO_ADDRESS,
				      "hvmi_hooks_dispatch() was called in a callback of a hook");
	if (!hooks->events)
		return hvmi_error_set(err, -ESRCH, HVMI_NO_ADDRESS, "the machine's events are closed");
	int count = 0, rc = 0;
	hooks->depth++;
	while (hooks->events && count < DISPATCH_MAX) {
		struct hvmi_event event = { .size = sizeof(event) };
		struct hvmi_registers *registers;
		rc = next_event(hooks, count ? 0 : timeout_ms, &event, &registers, err);
		if (rc != 1)
			break;
		count++;
		rc = dispatch_event(hooks, &event, err);
		free(registers);
		if (rc)
			break;
	}
	hooks->depth--;
	if (hooks->free_later)
		free_hooks(hooks);
	else
		reap(hooks);
	return rc < 0 ? rc : count;
}

HVMI_API int hvmi_hooks_get_info(const struct hvmi_hooks *hooks, struct hvmi_hooks_info *ret)
{
	const struct hvmi_hooks_info info = {
		.size = sizeof(info), .hooks = hooks->hook_count, .places = hooks->place_count,
		.events = hooks->events_taken, .hits = hooks->hits, .filtered = hooks->filtered,
		.others = hooks->others, .tables = hooks->table_count, .walks = hooks->walks,
	};
	return result_copy(ret, &info, sizeof(info));
}
