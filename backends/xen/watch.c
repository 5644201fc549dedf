/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which domains there are. xenstore tells that some came or went; that one was paused, nobody tells:
 * Xen is asked a few times a second.
 */
#include "watch.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "domain.h"

#define LOOK_MS 200

/* A domain as it was told. */
struct known {
	uint32_t id;
	uint8_t uuid[16];
	bool suspended, seen;
	struct hvmi_machine_news news;
};

struct watch {
	struct xen xen;
	struct xs_handle *store;
	int epoll, timer;
	bool began;
	struct known *known;
	size_t count, room;
	struct hvmi_machine_news *queue;
	size_t queued, taken, queue_room;
};

void watch_close(void *context)
{
	struct watch *w = context;
	if (w->store)
		w->xen.l.xs_close(w->store);
	if (w->timer >= 0)
		close(w->timer);
	if (w->epoll >= 0)
		close(w->epoll);
	xen_disconnect(&w->xen);
	free(w->known);
	free(w->queue);
	free(w);
}

static bool watch_fd(const struct watch *w, int fd)
{
	struct epoll_event event = { .events = EPOLLIN };
	return epoll_ctl(w->epoll, EPOLL_CTL_ADD, fd, &event) == 0;
}

static int prepare(struct watch *w, struct hvmi_error *err)
{
	const struct itimerspec time = { .it_interval.tv_nsec = LOOK_MS * 1000000l,
					 .it_value.tv_nsec = 1 };
	w->store = w->xen.l.xs_open(0);
	if (!w->store)
		return hvmi_error_set(err, -EACCES, HVMI_NO_ADDRESS,
				      "xenstore cannot be reached: run as root in dom0, and see that "
				      "xenstored runs");
	w->epoll = epoll_create1(EPOLL_CLOEXEC);
	w->timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	if (w->epoll < 0 || w->timer < 0 || timerfd_settime(w->timer, 0, &time, NULL) ||
	    !w->xen.l.xs_watch(w->store, "@introduceDomain", "hvmi") ||
	    !w->xen.l.xs_watch(w->store, "@releaseDomain", "hvmi") || !watch_fd(w, w->timer) ||
	    !watch_fd(w, w->xen.l.xs_fileno(w->store)))
		return hvmi_error_set(err, -EIO, HVMI_NO_ADDRESS,
				      "domains cannot be watched: %s", strerror(errno));
	return 0;
}

int watch_open(const char *where, const struct hvmi_backend_host *host, void **ret, int *fd_ret,
	       struct hvmi_error *err)
{
	if (where[0])
		return hvmi_error_set(err, -EINVAL, HVMI_NO_ADDRESS,
				      "there is nothing to say behind 'xen:' for its domains");
	struct watch *w = calloc(1, sizeof(*w));
	if (!w)
		return hvmi_error_set(err, -ENOMEM, HVMI_NO_ADDRESS, "out of memory");
	w->epoll = w->timer = -1;
	int rc = xen_connect(&w->xen, host, err);
	if (rc) {
		free(w);
		return rc;
	}
	rc = prepare(w, err);
	if (rc) {
		watch_close(w);
		return rc;
	}
	*ret = w;
	*fd_ret = w->epoll;
	return 0;
}

static void tell(struct watch *w, const struct known *k, uint32_t change)
{
	if (w->queued == w->queue_room) {
		size_t room = w->queue_room ? 2 * w->queue_room : 64;
		struct hvmi_machine_news *queue = realloc(w->queue, room * sizeof(*queue));
		if (!queue) {
			w->xen.host->log(w->xen.host, HVMI_LOG_ERROR, "out of memory: news is lost");
			return;
		}
		w->queue = queue;
		w->queue_room = room;
	}
	struct hvmi_machine_news *news = &w->queue[w->queued++];
	*news = k->news;
	news->change = change;
	news->paused = k->suspended;
}

static bool is_suspended(const struct domain_info *info)
{
	uint32_t reason = info->flags >> XEN_DOMINF_shutdownshift & XEN_DOMINF_shutdownmask;
	return info->flags & XEN_DOMINF_paused ||
	       (info->flags & XEN_DOMINF_shutdown && reason == SHUTDOWN_suspend);
}

static void describe(const struct watch *w, const struct domain_info *info,
		     struct hvmi_machine_news *ret)
{
	*ret = (struct hvmi_machine_news){ .size = sizeof(*ret), .id = info->id };
	snprintf(ret->target, sizeof(ret->target), "xen:%u", info->id);
	snprintf(ret->type, sizeof(ret->type), "%s", domain_kind_name(info->kind));
	domain_name(&w->xen, w->store, info->id, ret->name, sizeof(ret->name));
	domain_format_uuid(info->uuid, ret->uuid);
}

static struct known *find(struct watch *w, const struct domain_info *info)
{
	for (size_t i = 0; i < w->count; i++)
		if (w->known[i].id == info->id &&
		    memcmp(w->known[i].uuid, info->uuid, sizeof(info->uuid)) == 0)
			return &w->known[i];
	return NULL;
}

static void add(struct watch *w, const struct domain_info *info)
{
	if (w->count == w->room) {
		size_t room = w->room ? 2 * w->room : 64;
		struct known *known = realloc(w->known, room * sizeof(*known));
		if (!known)
			return;
		w->known = known;
		w->room = room;
	}
	struct known *k = &w->known[w->count];
	*k = (struct known){ .id = info->id, .suspended = is_suspended(info), .seen = true };
	memcpy(k->uuid, info->uuid, sizeof(k->uuid));
	describe(w, info, &k->news);
	/* Its name is written a moment after it was made. */
	if (!k->news.name[0] && w->began)
		return;
	w->count++;
	tell(w, k, w->began ? HVMI_MACHINE_APPEARED : HVMI_MACHINE_PRESENT);
}

static void look(struct watch *w)
{
	struct domain_info info;
	for (size_t i = 0; i < w->count; i++)
		w->known[i].seen = false;
	int rc = 0;
	for (uint32_t id = 1; (rc = domain_next_info(&w->xen, id, &info)) == 0; id = info.id + 1) {
		if (info.flags & XEN_DOMINF_dying)
			continue;
		struct known *k = find(w, &info);
		if (!k) {
			add(w, &info);
			continue;
		}
		k->seen = true;
		if (k->suspended != is_suspended(&info)) {
			k->suspended = !k->suspended;
			tell(w, k, k->suspended ? HVMI_MACHINE_SUSPENDED : HVMI_MACHINE_RESUMED);
		}
	}
	/* Xen did not answer: nothing is known to have gone. */
	for (size_t i = 0; rc == -ESRCH && i < w->count; i++) {
		if (w->known[i].seen)
			continue;
		tell(w, &w->known[i], HVMI_MACHINE_GONE);
		w->known[i--] = w->known[--w->count];
	}
	w->began = true;
}

int watch_next(void *context, struct hvmi_machine_news *ret, struct hvmi_error *err)
{
	struct watch *w = context;
	uint64_t ticks;
	char **news;
	(void)err;
	if (w->taken == w->queued) {
		w->taken = w->queued = 0;
		bool due = !w->began || read(w->timer, &ticks, sizeof(ticks)) > 0;
		while ((news = w->xen.l.xs_check_watch(w->store))) {
			free(news);
			due = true;
		}
		if (due)
			look(w);
	}
	if (w->taken == w->queued)
		return 0;
	*ret = w->queue[w->taken++];
	return 1;
}
