/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which domains run. libvirt's own events need an event loop that a process has only one of, and that
 * is the program's; so the list is asked for every second and compared.
 */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "libvirt.h"

#define DOMAINS_MAX 65536

struct domain {
	char uuid[VIR_UUID_STRING_BUFLEN];
	int id;
	char *name;
	bool paused;
	bool seen;		/* in the newest list */
};

struct news {
	struct news *next;
	struct hvmi_machine_news text;
};

struct watch {
	virConnectPtr connection;
	char *uri;		/* or NULL */
	int timer;
	bool begun;
	struct domain *domains;
	size_t count;
	struct news *first, **last;
};

/* Part of a target, in which commas are doubled. */
static void append(char *target, size_t size, const char *text)
{
	size_t used = strlen(target);
	for (; *text && used + 3 < size; text++) {
		target[used++] = *text;
		if (*text == ',')
			target[used++] = ',';
	}
	target[used] = '\0';
}

static int tell(struct watch *w, const struct domain *d, uint32_t change)
{
	struct news *n = calloc(1, sizeof(*n));
	if (!n)
		return -ENOMEM;
	struct hvmi_machine_news *t = &n->text;
	t->change = change;
	t->id = d->id > 0 ? (uint32_t)d->id : 0;
	t->paused = d->paused;
	snprintf(t->name, sizeof(t->name), "%s", d->name);
	snprintf(t->uuid, sizeof(t->uuid), "%s", d->uuid);
	snprintf(t->type, sizeof(t->type), "hvm");
	append(t->target, sizeof(t->target), "libvirt:");
	if (w->uri) {
		append(t->target, sizeof(t->target), w->uri);
		append(t->target, sizeof(t->target), "#");
	}
	/* A name may be too long, or hold what means something else in a target. */
	bool plain = !strchr(d->name, '#') && 2 * strlen(d->name) + strlen(t->target) < 120;
	append(t->target, sizeof(t->target), plain ? d->name : d->uuid);
	*w->last = n;
	w->last = &n->next;
	return 0;
}

static struct domain *find(struct watch *w, const char *uuid, int id)
{
	for (size_t i = 0; i < w->count; i++)
		if (!strcmp(w->domains[i].uuid, uuid) && w->domains[i].id == id)
			return &w->domains[i];
	return NULL;
}

static int take_domain(struct watch *w, virDomainPtr domain)
{
	char uuid[VIR_UUID_STRING_BUFLEN];
	int state, id = (int)virDomainGetID(domain);
	/* It may have ended since. */
	if (virDomainGetUUIDString(domain, uuid) || virDomainGetState(domain, &state, NULL, 0) ||
	    id < 0)
		return 0;
	bool paused = state == VIR_DOMAIN_PAUSED || state == VIR_DOMAIN_PMSUSPENDED;
	struct domain *d = find(w, uuid, id);
	if (d) {
		bool changed = d->paused != paused;
		d->seen = true;
		d->paused = paused;
		return changed ? tell(w, d, paused ? HVMI_MACHINE_SUSPENDED :
						     HVMI_MACHINE_RESUMED) : 0;
	}
	struct domain *more = realloc(w->domains, (w->count + 1) * sizeof(*more));
	const char *name = virDomainGetName(domain);
	char *copy = name ? strdup(name) : NULL;
	w->domains = more ? more : w->domains;
	if (!more || !copy) {
		free(copy);
		return -ENOMEM;
	}
	d = &w->domains[w->count++];
	*d = (struct domain){ .id = id, .name = copy, .paused = paused, .seen = true };
	memcpy(d->uuid, uuid, sizeof(uuid));
	return tell(w, d, w->begun ? HVMI_MACHINE_APPEARED : HVMI_MACHINE_PRESENT);
}

static int look(struct watch *w, struct hvmi_error *err)
{
	virDomainPtr *list;
	int count = virConnectListAllDomains(w->connection, &list,
					     VIR_CONNECT_LIST_DOMAINS_ACTIVE);
	if (count < 0)
		return libvirt_failed("the list of domains", err);
	int rc = count > DOMAINS_MAX ? -EOVERFLOW : 0;
	for (size_t i = 0; i < w->count; i++)
		w->domains[i].seen = false;
	for (int i = 0; i < count; i++) {
		if (!rc)
			rc = take_domain(w, list[i]);
		virDomainFree(list[i]);
	}
	free(list);
	for (size_t i = 0; !rc && i < w->count;) {
		if (w->domains[i].seen) {
			i++;
			continue;
		}
		rc = tell(w, &w->domains[i], HVMI_MACHINE_GONE);
		free(w->domains[i].name);
		w->domains[i] = w->domains[--w->count];
	}
	w->begun = true;
	return rc ? hvmi_error_set(err, rc, HVMI_NO_ADDRESS, "out of memory for %d domains", count) :
		    0;
}

void libvirt_watch_close(void *watch)
{
	struct watch *w = watch;
	while (w->first) {
		struct news *next = w->first->next;
		free(w->first);
		w->first = next;
	}
	for (size_t i = 0; i < w->count; i++)
		free(w->domains[i].name);
	free(w->domains);
	if (w->timer >= 0)
		close(w->timer);
	if (w->connection)
		virConnectClose(w->connection);
	free(w->uri);
	free(w);
}

int libvirt_watch_open(const char *where, const struct hvmi_backend_host *host, void **ret,
		       int *fd_ret, struct hvmi_error *err)
{
	(void)host;
	struct watch *w = calloc(1, sizeof(*w));
	if (!w)
		return hvmi_error_set(err, -ENOMEM, HVMI_NO_ADDRESS, "out of memory");
	w->last = &w->first;
	w->timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	w->uri = *where ? strdup(where) : NULL;
	int rc = w->timer >= 0 ? libvirt_connect(w->uri, &w->connection, err) :
				 hvmi_error_set(err, -ENOMEM, HVMI_NO_ADDRESS,
						"no timer can be made");
	/* The first time at once. */
	struct itimerspec every = { .it_interval.tv_sec = 1, .it_value.tv_nsec = 1 };
	if (rc || timerfd_settime(w->timer, 0, &every, NULL)) {
		libvirt_watch_close(w);
		return rc ? rc : hvmi_error_set(err, -EIO, HVMI_NO_ADDRESS,
						"the timer cannot be set");
	}
	*ret = w;
	*fd_ret = w->timer;
	return 0;
}

int libvirt_watch_next(void *watch, struct hvmi_machine_news *ret, struct hvmi_error *err)
{
	struct watch *w = watch;
	uint64_t times;
	bool due = !w->begun;
	/* Readable until all news are taken. */
	if (!w->first && (read(w->timer, &times, sizeof(times)) == sizeof(times) || due)) {
		int rc = look(w, err);
		if (rc)
			return rc;
	}
	struct news *n = w->first;
	if (!n)
		return 0;
	size_t size = ret->size;
	*ret = n->text;
	ret->size = size;
	w->first = n->next;
	if (!w->first)
		w->last = &w->first;
	free(n);
	return 1;
}
