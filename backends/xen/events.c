/* SPDX-License-Identifier: Apache-2.0 */
#include "events.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "journal.h"

/* How often closing looks again while vCPUs wait in line for a slot of the ring, 1 ms apart. */
#define CLOSE_TRIES 1000
#define DRAIN_MAX 1000
#define STORE_MS 2000

static void free_waiting(struct waiting *w)
{
	while (w) {
		struct waiting *next = w->next;
		free(w);
		w = next;
	}
}

static void free_events(struct domain *d)
{
	struct events *e = d->events;
	if (e->store)
		d->xen.l.xs_close(e->store);
	if (e->epoll >= 0)
		close(e->epoll);
	if (e->wake >= 0)
		close(e->wake);
	for (size_t i = 0; e->views && i < VIEWS_MAX; i++) {
		rights_free(&e->views[i].rights);
		free(e->views[i].remaps);
	}
	free_waiting(e->waiting);
	free_waiting(e->spare);
	free(e->views);
	free(e->pages);
	free(e->step_wanted);
	free(e->stepping);
	free(e->answered);
	free(e);
	d->events = NULL;
}

static struct events *new_events(const struct domain *d)
{
	struct events *e = calloc(1, sizeof(*e));
	if (!e)
		return NULL;
	e->ring.port = -1;
	e->epoll = epoll_create1(EPOLL_CLOEXEC);
	e->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	e->views = calloc(VIEWS_MAX, sizeof(*e->views));
	e->step_wanted = calloc(d->vcpus, sizeof(*e->step_wanted));
	e->stepping = calloc(d->vcpus, sizeof(*e->stepping));
	e->answered = calloc(d->vcpus, sizeof(*e->answered));
	return e;
}

static bool watch_fd(const struct events *e, int fd)
{
	struct epoll_event event = { .events = EPOLLIN };
	return epoll_ctl(e->epoll, EPOLL_CTL_ADD, fd, &event) == 0;
}

/* A domain that goes says nothing through its ring. */
static void watch_store(struct domain *d)
{
	struct events *e = d->events;
	const struct xen_libs *l = &d->xen.l;
	e->store = l->xs_open(0);
	if (!e->store)
		return;
	/* The first news is that there is somebody who watches. */
	struct pollfd fd = { .fd = l->xs_fileno(e->store), .events = POLLIN };
	if (l->xs_watch(e->store, "@releaseDomain", "hvmi") && watch_fd(e, fd.fd) &&
	    poll(&fd, 1, STORE_MS) == 1) {
		free(l->xs_check_watch(e->store));
		return;
	}
	l->xs_close(e->store);
	e->store = NULL;
}

static int prepare(struct domain *d, struct hvmi_error *err)
{
	struct events *e = d->events;
	if (e->epoll < 0 || e->wake < 0 || !e->views || !e->step_wanted || !e->stepping || !e->answered ||
	    !watch_fd(e, e->wake) || rights_init(&e->views[0].rights, d->max_gfn))
		return hvmi_error_set(err, -ENOMEM, HVMI_NO_ADDRESS,
				      "out of memory or descriptors");
	e->views[0].exists = true;
	e->views[0].default_rights = HVMI_RIGHT_READ | HVMI_RIGHT_WRITE | HVMI_RIGHT_EXECUTE;
	watch_store(d);
	return 0;
}

/* So that the descriptor is readable only while there is something. */
static void drain_notifications(struct domain *d)
{
	const struct xen_libs *l = &d->xen.l;
	struct ring *ring = &d->events->ring;
	xenevtchn_port_or_error_t port = l->xenevtchn_pending(ring->evtchn);
	if (port >= 0)
		l->xenevtchn_unmask(ring->evtchn, (evtchn_port_t)port);
}

static int take_ring(struct domain *d, uint32_t flags, struct hvmi_error *err)
{
	struct events *e = d->events;
	int rc = journal_need(d, err);
	if (!rc)
		rc = ring_open(d, flags & HVMI_EVENTS_TAKE_OVER, &e->ring, err);
	if (rc)
		return rc;
	journal_record(d)->events = 1;
	/* A port that was bound is pending. */
	drain_notifications(d);
	if (watch_fd(e, d->xen.l.xenevtchn_fd(e->ring.evtchn)))
		return 0;
	rc = hvmi_error_set(err, -ENOMEM, HVMI_NO_ADDRESS, "out of descriptors");
	ring_close(d, &e->ring);
	journal_record(d)->events = 0;
	return rc;
}

int events_open(void *machine, uint32_t flags, int *fd_ret, struct hvmi_error *err)
{
	struct domain *d = machine;
	if (d->kind == DOMAIN_PV)
		return hvmi_error_set(err, -ENOTSUP, HVMI_NO_ADDRESS,
				      "%s is a PV guest: Xen has events for HVM and PVH guests only",
				      d->label);
	if (!d->xen.l.xc_monitor_enable || !d->xen.l.xc_monitor_disable)
		return hvmi_error_set(err, -ENOTSUP, HVMI_NO_ADDRESS,
				      "the libxenctrl of this Xen has no monitor functions");
	d->events = new_events(d);
	if (!d->events)
		return hvmi_error_set(err, -ENOMEM, HVMI_NO_ADDRESS, "out of memory");
	int rc = prepare(d, err);
	if (!rc)
		rc = take_ring(d, flags, err);
	if (rc) {
		free_events(d);
		return rc;
	}
	*fd_ret = d->events->epoll;
	return 0;
}

int events_request(void *machine, const struct hvmi_event_request *request, struct hvmi_error *err)
{
	struct domain *d = machine;
	int rc = monitor_request(d, request, true, err);
	if (!rc)
		d->events->requested[request->kind]++;
	return rc;
}

int events_cancel(void *machine, const struct hvmi_event_request *request, struct hvmi_error *err)
{
	struct domain *d = machine;
	int rc = monitor_request(d, request, false, err);
	if (!rc)
		d->events->requested[request->kind]--;
	return rc;
}

static struct waiting *new_waiting(struct events *e)
{
	struct waiting *w = e->spare;
	if (!w)
		return calloc(1, sizeof(*w));
	e->spare = w->next;
	return w;
}

/* Whether it is of a kind that somebody still wants to be told of. */
static bool wanted(const struct domain *d, const struct hvmi_event *event, uint64_t gfn)
{
	const struct events *e = d->events;
	switch (event->kind) {
	case 0:
		return false;
	case HVMI_EVENT_ACCESS:
		return event->access & ~views_rights(d, event->view, gfn);
	case HVMI_EVENT_INTERRUPT:
		return true;
	default:
		return e->requested[event->kind];
	}
}

/* 1: it is to be told; 0: it was dealt with. */
static int take_in(struct domain *d, struct waiting *w, struct hvmi_event *event,
		   struct hvmi_registers *registers)
{
	struct events *e = d->events;
	if (abi_request(e->ring.version, w->raw, &w->request, event, registers) ||
	    event->vcpu >= d->vcpus) {
		d->xen.host->log(d->xen.host, HVMI_LOG_ERROR,
				 "%s: Xen sent an event that makes no sense, it is ignored", d->label);
		w->next = e->spare;
		e->spare = w;
		return 0;
	}
	w->vcpu = event->vcpu;
	w->kind = event->kind;
	w->insn_length = event->insn_length;
	w->next = e->waiting;
	e->waiting = w;
	bool tell = wanted(d, event, w->request.gfn);
	if (event->kind == HVMI_EVENT_ACCESS) {
		/* Xen calls every write a read, too: what was not allowed is what counts. */
		uint32_t denied = event->access & ~views_rights(d, event->view, w->request.gfn);
		if (!denied)
			views_heal(d, event->view, w->request.gfn);
		else
			event->access = denied;
	}
	/* One that does not wait gives its slot back at once. */
	if (!tell || !w->request.paused)
		answer_plainly(d, w);
	return tell;
}

static void set_awake(struct events *e, bool awake)
{
	eventfd_t value;
	if (awake && !e->awake)
		eventfd_write(e->wake, 1);
	else if (!awake && e->awake)
		eventfd_read(e->wake, &value);
	e->awake = awake;
}

static bool domain_went(struct domain *d)
{
	struct events *e = d->events;
	char **news;
	bool any = false;
	while (e->store && (news = d->xen.l.xs_check_watch(e->store))) {
		free(news);
		any = true;
	}
	if (any && !domain_alive(d))
		e->gone = true;
	return e->gone;
}

static int next(struct domain *d, struct hvmi_event *event, struct hvmi_registers *registers,
		struct hvmi_error *err)
{
	struct events *e = d->events;
	const struct hvmi_event empty = *event;
	for (bool drained = false;;) {
		struct waiting *w = new_waiting(e);
		if (!w)
			return hvmi_error_set(err, -ENOMEM, HVMI_NO_ADDRESS, "out of memory");
		if (ring_take(&e->ring, w->raw)) {
			if (take_in(d, w, event, registers))
				return 1;
			*event = empty;
			memset(registers->known, 0, sizeof(registers->known));
			continue;
		}
		w->next = e->spare;
		e->spare = w;
		if (drained)
			return 0;
		drain_notifications(d);
		drained = true;
	}
}

int events_next(void *machine, struct hvmi_event *event, struct hvmi_registers *registers,
		struct hvmi_error *err)
{
	struct domain *d = machine;
	struct events *e = d->events;
	if (domain_went(d)) {
		set_awake(e, true);
		return domain_gone(d, err);
	}
	int rc = next(d, event, registers, err);
	/* Its notification may be gone already. */
	set_awake(e, rc == 1 && ring_has(&e->ring));
	return rc;
}

/* Answer everything that waits, taken or not; a guest that runs may always have one more. */
static void answer_all(struct domain *d)
{
	struct events *e = d->events;
	struct hvmi_registers registers;
	struct hvmi_event event;
	while (e->waiting)
		answer_plainly(d, e->waiting);
	for (int i = 0; i < DRAIN_MAX; i++) {
		struct waiting *w = new_waiting(e);
		if (!w)
			return;
		if (!ring_take(&e->ring, w->raw)) {
			w->next = e->spare;
			e->spare = w;
			return;
		}
		event = (struct hvmi_event){ .gva = HVMI_NO_ADDRESS, .gpa = HVMI_NO_ADDRESS };
		memset(registers.known, 0, sizeof(registers.known));
		take_in(d, w, &event, &registers);
		while (e->waiting)
			answer_plainly(d, e->waiting);
	}
}

/* The ring cannot go while vCPUs stand in line for a slot: they get one if those before them go on. */
static void give_ring_back(struct domain *d)
{
	const struct xen *xen = &d->xen;
	for (int i = 0; i < CLOSE_TRIES; i++) {
		const struct timespec nap = { .tv_nsec = 1000000 };
		answer_all(d);
		if (ring_close(d, &d->events->ring) == 0)
			return;
		xen->l.xc_domain_unpause(xen->xc, d->id);
		nanosleep(&nap, NULL);
		answer_all(d);
		xen->l.xc_domain_pause(xen->xc, d->id);
	}
	xen->host->log(xen->host, HVMI_LOG_ERROR,
		       "%s: vCPUs wait for the ring of its events, which could not be given back",
		       d->label);
}

/*
 * Xen carries out what an answer says (registers, emulation, a write that waited) when the vCPU runs
 * next, and forgets it with the ring: let those run that were answered.
 */
static void let_run(struct domain *d)
{
	const struct xen *xen = &d->xen;
	struct events *e = d->events;
	struct domain_info info;
	for (uint32_t vcpu = 0; vcpu < d->vcpus; vcpu++) {
		xc_vcpuinfo_t before, now;
		if (!e->answered[vcpu] || xen->l.xc_vcpu_getinfo(xen->xc, d->id, vcpu, &before))
			continue;
		for (int i = 0; i < CLOSE_TRIES; i++) {
			const struct timespec nap = { .tv_nsec = 500000 };
			answer_all(d);
			/* Nobody runs in a domain that is paused. */
			if (domain_get_info(xen, d->id, &info) || info.flags & XEN_DOMINF_paused ||
			    xen->l.xc_vcpu_getinfo(xen->xc, d->id, vcpu, &now) || !now.online ||
			    now.blocked || now.cpu_time != before.cpu_time)
				break;
			nanosleep(&nap, NULL);
		}
		e->answered[vcpu] = false;
	}
}

void events_close(void *machine)
{
	struct domain *d = machine;
	const struct xen *xen = &d->xen;
	/* Nothing new, rights included, while what is under way comes to its end. */
	monitor_all_off(d);
	views_restore_rights(d);
	answer_all(d);
	let_run(d);
	bool paused = journal_add_pause(d, 1, NULL) == 0 &&
		     xen->l.xc_domain_pause(xen->xc, d->id) == 0;
	answer_all(d);
	views_close(d);
	for (uint32_t vcpu = 0; vcpu < d->vcpus; vcpu++)
		if (d->events->stepping[vcpu])
			monitor_stop_stepping(d, vcpu);
	give_ring_back(d);
	journal_record(d)->events = 0;
	pages_close(d);
	if (paused)
		xen->l.xc_domain_unpause(xen->xc, d->id);
	journal_add_pause(d, -1, NULL);
	free_events(d);
}
