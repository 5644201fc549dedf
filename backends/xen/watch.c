/* SPDX-License-Identifier: Apache-2.0 */
#include "xen.h"

#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <unistd.h>

/* xenstore tells that domains come and go; that one is paused nobody tells, so it is looked at. */
#define LOOK_AGAIN_MS 500

struct known {
	struct xen_domain domain;
	char name[128];
	bool seen;
};

struct watch {
	struct xen_libs libs;
	int poll_fd, timer_fd;
	struct known *known;
	size_t count;
	struct hvmi_machine_news *news;	/* not yet given */
	size_t news_count, news_next;
	bool begun;
};

static bool at_rest(const struct xen_domain *d)
{
	return d->paused || d->shut_down;
}

static int tell(struct watch *watch, const struct known *known, uint32_t change)
{
	struct hvmi_machine_news *news =
		realloc(watch->news, (watch->news_count + 1) * sizeof(*news));
	if (!news)
		return -ENOMEM;
	watch->news = news;
	struct hvmi_machine_news *n = &news[watch->news_count++];
	*n = (struct hvmi_machine_news){ .size = sizeof(*n), .change = change,
					 .id = known->domain.id,
					 .paused = at_rest(&known->domain) };
	snprintf(n->target, sizeof(n->target), "xen:%u", known->domain.id);
	snprintf(n->name, sizeof(n->name), "%s", known->name);
	snprintf(n->type, sizeof(n->type), "%s", known->domain.hvm ? "hvm" : "pv");
	xen_uuid_text(known->domain.uuid, n->uuid);
	return 0;
}

static struct known *find(struct watch *watch, const struct xen_domain *domain)
{
	for (size_t i = 0; i < watch->count; i++)
		if (watch->known[i].domain.id == domain->id &&
		    memcmp(watch->known[i].domain.uuid, domain->uuid, 16) == 0)
			return &watch->known[i];
	return NULL;
}

/* A domain that is there now. */
static int meet(struct watch *watch, const struct xen_domain *domain)
{
	struct known *known = find(watch, domain);
	if (known) {
		bool before = at_rest(&known->domain), now = at_rest(domain);
		known->domain = *domain;
		known->seen = true;
		return before == now ? 0 :
		       tell(watch, known, now ? HVMI_MACHINE_SUSPENDED : HVMI_MACHINE_RESUMED);
	}
	struct known *grown = realloc(watch->known, (watch->count + 1) * sizeof(*grown));
	if (!grown)
		return -ENOMEM;
	watch->known = grown;
	known = &grown[watch->count++];
	*known = (struct known){ .domain = *domain, .seen = true };
	xen_domain_name(&watch->libs, domain->id, known->name, sizeof(known->name));
	return tell(watch, known, watch->begun ? HVMI_MACHINE_APPEARED : HVMI_MACHINE_PRESENT);
}

static int look(struct watch *watch)
{
	struct xen_domain domain;
	/* Domain 0 is where this runs. */
	uint32_t id = 1;
	int rc = 0, end;
	for (size_t i = 0; i < watch->count; i++)
		watch->known[i].seen = false;
	while (!rc && (end = xen_domain_from(&watch->libs, id, &domain)) == 0) {
		if (!domain.dying)
			rc = meet(watch, &domain);
		id = domain.id + 1;
	}
	if (!rc && end != -ENOENT)
		return end;
	for (size_t i = 0; i < watch->count && !rc;) {
		if (watch->known[i].seen) {
			i++;
			continue;
		}
		rc = tell(watch, &watch->known[i], HVMI_MACHINE_GONE);
		watch->known[i] = watch->known[--watch->count];
	}
	watch->begun = true;
	return rc;
}

void xen_watch_close(void *state)
{
	struct watch *watch = state;
	if (watch->timer_fd >= 0)
		close(watch->timer_fd);
	if (watch->poll_fd >= 0)
		close(watch->poll_fd);
	xen_libs_close(&watch->libs);
	free(watch->known);
	free(watch->news);
	free(watch);
}

static int add(const struct watch *watch, int fd)
{
	struct epoll_event interest = { .events = EPOLLIN };
	return epoll_ctl(watch->poll_fd, EPOLL_CTL_ADD, fd, &interest);
}

int xen_watch_open(const char *where, const struct hvmi_backend_host *host, void **ret,
		   int *fd_ret, struct hvmi_error *err)
{
	const struct itimerspec tick = {
		.it_interval = { .tv_nsec = LOOK_AGAIN_MS * 1000000L },
		.it_value = { .tv_nsec = LOOK_AGAIN_MS * 1000000L },
	};
	(void)host;
	if (*where)
		return hvmi_error_set(err, -EINVAL, HVMI_NO_ADDRESS,
				      "'xen' is all that can be said of Xen's machines, not "
				      "'xen:%s'", where);
	struct watch *watch = calloc(1, sizeof(*watch));
	if (!watch)
		return hvmi_error_set(err, -ENOMEM, HVMI_NO_ADDRESS, "out of memory");
	watch->timer_fd = watch->poll_fd = -1;
	int rc = xen_libs_open(&watch->libs, err);
	if (!rc) {
		watch->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
		watch->poll_fd = epoll_create1(EPOLL_CLOEXEC);
		if (watch->timer_fd < 0 || watch->poll_fd < 0 ||
		    timerfd_settime(watch->timer_fd, 0, &tick, NULL) < 0 ||
		    add(watch, watch->timer_fd) < 0)
			rc = hvmi_error_set(err, -EIO, HVMI_NO_ADDRESS,
					    "no timer can be had: %s", strerror(errno));
	}
	if (!rc) {
		rc = look(watch);
		if (rc)
			hvmi_error_set(err, rc, HVMI_NO_ADDRESS,
				       "Xen does not list its domains (%s): run as root in dom0",
				       hvmi_error_name(rc));
	}
	if (rc) {
		xen_watch_close(watch);
		return rc;
	}
	struct xs_handle *store = watch->libs.store;
	if (store && watch->libs.xs_watch(store, "@introduceDomain", "hvmi") &&
	    watch->libs.xs_watch(store, "@releaseDomain", "hvmi"))
		add(watch, watch->libs.xs_fileno(store));
	*ret = watch;
	*fd_ret = watch->poll_fd;
	return 0;
}

int xen_watch_next(void *state, struct hvmi_machine_news *ret, struct hvmi_error *err)
{
	struct watch *watch = state;
	if (watch->news_next == watch->news_count) {
		uint64_t ticks;
		bool woken = read(watch->timer_fd, &ticks, sizeof(ticks)) == sizeof(ticks);
		char **change;
		while (watch->libs.store && watch->begun &&
		       (change = watch->libs.xs_check_watch(watch->libs.store))) {
			woken = true;
			free(change);
		}
		watch->news_next = watch->news_count = 0;
		int rc = woken ? look(watch) : 0;
		if (rc)
			return hvmi_error_set(err, rc, HVMI_NO_ADDRESS, "Xen lists no domains");
	}
	if (watch->news_next == watch->news_count)
		return 0;
	*ret = watch->news[watch->news_next++];
	return 1;
}
