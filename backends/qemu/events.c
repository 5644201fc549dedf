/* SPDX-License-Identifier: Apache-2.0 */
#include "events.h"

#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include <hvmi/space.h>

#include "run.h"

/* More than this is no use, and each costs a packet. */
#define POINTS_MAX 65536u
#define TURN_MS 20
#define LOOK_MS 200

static bool asked_for_step(const struct qemu_events *e, uint32_t vcpu)
{
	for (size_t i = 0; i < e->step_count; i++)
		if (e->steps[i].vcpu == HVMI_ALL_VCPUS || e->steps[i].vcpu == vcpu)
			return true;
	return false;
}

static bool asynchronous(const struct qemu *q, const struct hvmi_event *event)
{
	const struct qemu_events *e = q->events;
	for (size_t i = 0; event->kind == HVMI_EVENT_STEP && i < e->step_count; i++)
		if (e->steps[i].vcpu == HVMI_ALL_VCPUS || e->steps[i].vcpu == event->vcpu)
			return e->steps[i].flags & HVMI_REQUEST_ASYNC;
	return false;
}

static void tell(struct qemu *q, const struct hvmi_event *event,
		 const struct hvmi_registers *registers, uint32_t request_flags)
{
	struct qemu_events *e = q->events;
	struct qemu_pending *p = calloc(1, sizeof(*p));
	if (!p) {
		q->host->log(q->host, HVMI_LOG_ERROR, "out of memory: an event is lost");
		return;
	}
	p->event = *event;
	p->registers = *registers;
	if (!(request_flags & HVMI_REQUEST_ASYNC))
		p->event.flags |= HVMI_EVENT_WAITS;
	*e->last = p;
	e->last = &p->next;
	e->waiting++;
	eventfd_write(e->wake, 1);
}

const struct qemu_point *events_breakpoint_at(const struct qemu *q, uint64_t gva)
{
	for (size_t i = 0; q->events && i < q->events->point_count; i++) {
		const struct qemu_point *p = &q->events->points[i];
		if (p->request.kind == HVMI_EVENT_BREAKPOINT && p->request.gva == gva)
			return p;
	}
	return NULL;
}

bool events_reached(struct qemu *q, uint32_t vcpu, const struct hvmi_registers *registers)
{
	struct qemu_vcpu *v = &q->vcpus[vcpu];
	const struct qemu_point *p = v->rip_known ? events_breakpoint_at(q, v->rip) : NULL;
	/* Others may have let it run into what was told and not answered. */
	if (!p || (v->standing && v->standing_at == v->rip))
		return p;
	v->standing = true;
	v->standing_at = v->rip;
	struct hvmi_event event = { .kind = HVMI_EVENT_BREAKPOINT, .vcpu = vcpu, .gva = v->rip,
				    .gpa = HVMI_NO_ADDRESS };
	tell(q, &event, registers, p->request.flags);
	return true;
}

void events_stepped(struct qemu *q, uint32_t vcpu, const struct hvmi_registers *registers)
{
	struct hvmi_event event = { .kind = HVMI_EVENT_STEP, .vcpu = vcpu, .gva = HVMI_NO_ADDRESS,
				    .gpa = HVMI_NO_ADDRESS };
	if (q->vcpus[vcpu].stepping && asked_for_step(q->events, vcpu))
		tell(q, &event, registers, asynchronous(q, &event) ? HVMI_REQUEST_ASYNC : 0);
	/* A step goes over a breakpoint without a word. */
	events_reached(q, vcpu, registers);
}

static const struct qemu_point *watchpoint_at(const struct qemu *q, char watch, uint64_t address)
{
	const struct qemu_point *near = NULL;
	const char type = watch == 'w' ? '2' : watch == 'r' ? '3' : '4';
	for (size_t i = 0; i < q->events->point_count; i++) {
		const struct qemu_point *p = &q->events->points[i];
		if (p->request.kind != HVMI_EVENT_WATCHPOINT ||
		    address - p->request.gva >= p->request.len)
			continue;
		if (p->type == type && address == p->request.gva)
			return p;
		near = p;
	}
	return near;
}

bool events_trapped(struct qemu *q, uint32_t vcpu, const struct rsp_stop *stop,
		    const struct hvmi_registers *registers)
{
	const struct qemu_point *p = stop->watch ?
		watchpoint_at(q, stop->watch, stop->address) : NULL;
	if (p) {
		struct hvmi_event event = {
			.kind = HVMI_EVENT_WATCHPOINT, .vcpu = vcpu, .gva = stop->address,
			.gpa = HVMI_NO_ADDRESS, .len = p->request.len - (stop->address - p->request.gva),
			.access = p->request.access,
		};
		tell(q, &event, registers, p->request.flags);
	}
	if (q->vcpus[vcpu].stepping) {
		events_stepped(q, vcpu, registers);
		return true;
	}
	return stop->watch || events_reached(q, vcpu, registers);
}

static void start_timer(struct qemu *q, long ms)
{
	struct itimerspec time = { .it_value.tv_nsec = ms * 1000000 };
	timerfd_settime(q->events->timer, 0, &time, NULL);
}

void events_start_turn(struct qemu *q)
{
	start_timer(q, TURN_MS);
}

static void watch_fd(struct qemu_events *e, int fd)
{
	struct epoll_event event = { .events = EPOLLIN };
	if (fd >= 0)
		epoll_ctl(e->fd, EPOLL_CTL_ADD, fd, &event);
}

static void free_events(struct qemu_events *e)
{
	while (e->first) {
		struct qemu_pending *next = e->first->next;
		free(e->first);
		e->first = next;
	}
	if (e->fd >= 0)
		close(e->fd);
	if (e->wake >= 0)
		close(e->wake);
	if (e->timer >= 0)
		close(e->timer);
	free(e->points);
	free(e->steps);
	free(e);
}

static struct qemu_events *new_events(void)
{
	struct qemu_events *e = calloc(1, sizeof(*e));
	if (!e)
		return NULL;
	e->last = &e->first;
	e->fd = epoll_create1(EPOLL_CLOEXEC);
	e->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	e->timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	if (e->fd < 0 || e->wake < 0 || e->timer < 0) {
		free_events(e);
		return NULL;
	}
	return e;
}

int qemu_events_open(void *machine, uint32_t flags, int *fd_ret, struct hvmi_error *err)
{
	struct qemu *q = machine;
	struct qemu_events *e = new_events();
	if (!e)
		return hvmi_error_set(err, -ENOMEM, HVMI_NO_ADDRESS, "out of memory or descriptors");
	pthread_mutex_lock(&q->lock);
	int rc = run_hold_stub(q, flags & HVMI_EVENTS_TAKE_OVER, err);
	if (!rc) {
		watch_fd(e, e->wake);
		watch_fd(e, e->timer);
		watch_fd(e, q->stub->rsp.fd);
		watch_fd(e, q->monitor.ops->fd(q->monitor.transport));
		q->events = e;
		*fd_ret = e->fd;
		rc = run_release(q, err);
	}
	if (rc) {
		q->events = NULL;
		free_events(e);
	}
	pthread_mutex_unlock(&q->lock);
	return rc;
}

void qemu_events_close(void *machine)
{
	struct qemu *q = machine;
	pthread_mutex_lock(&q->lock);
	struct qemu_events *e = q->events;
	if (!run_hold_stub(q, false, NULL))
		for (size_t i = 0; i < e->point_count; i++)
			stub_point(q->stub, false, e->points[i].type, e->points[i].request.gva,
				   e->points[i].request.len, NULL);
	q->events = NULL;
	free_events(e);
	run_drop_stub(q);
	pthread_mutex_unlock(&q->lock);
}

/* Room for one more of @p size bytes each. */
static void *grown(void *array, size_t count, size_t size)
{
	return count < POINTS_MAX && (count & (count - 1)) == 0 ?
		       realloc(array, (count ? 2 * count : 1) * size) : count < POINTS_MAX ? array : NULL;
}

static int add_step(struct qemu *q, const struct hvmi_event_request *r, struct hvmi_error *err)
{
	struct qemu_events *e = q->events;
	void *steps = grown(e->steps, e->step_count, sizeof(*e->steps));
	if (!steps)
		return hvmi_error_set(err, -ENOMEM, HVMI_NO_ADDRESS, "out of memory");
	e->steps = steps;
	e->steps[e->step_count++] = *r;
	return 0;
}

static char type_of(const struct qemu *q, const struct hvmi_event_request *r)
{
	/* Under KVM a software breakpoint is an int3 in the guest's memory. */
	if (r->kind == HVMI_EVENT_BREAKPOINT)
		return q->tcg ? '0' : '1';
	return r->access == HVMI_RIGHT_WRITE ? '2' : r->access == HVMI_RIGHT_READ ? '3' : '4';
}

static int add_point(struct qemu *q, const struct hvmi_event_request *r, struct hvmi_error *err)
{
	struct qemu_events *e = q->events;
	void *points = grown(e->points, e->point_count, sizeof(*e->points));
	if (!points)
		return hvmi_error_set(err, e->point_count < POINTS_MAX ? -ENOMEM : -EOVERFLOW,
				      r->gva, "out of memory, or %u breakpoints are set", POINTS_MAX);
	e->points = points;
	struct qemu_point *p = &e->points[e->point_count];
	*p = (struct qemu_point){ .request = *r, .type = type_of(q, r) };
	if (r->kind == HVMI_EVENT_BREAKPOINT)
		p->request.len = 1;
	int rc = run_hold_stub(q, false, err);
	if (rc)
		return rc;
	rc = stub_point(q->stub, true, p->type, p->request.gva, p->request.len, err);
	if (rc == -ENOTSUP && !q->tcg)
		rc = hvmi_error_set(err, rc, r->gva,
				    "KVM has no room for this: it has 4 breakpoints and "
				    "watchpoints, of up to 8 bytes each, and none for reads alone");
	if (!rc)
		e->point_count++;
	int release_rc = run_release(q, rc ? NULL : err);
	return rc ? rc : release_rc;
}

int qemu_event_request(void *machine, const struct hvmi_event_request *r, struct hvmi_error *err)
{
	struct qemu *q = machine;
	pthread_mutex_lock(&q->lock);
	int rc = r->kind == HVMI_EVENT_STEP ? add_step(q, r, err) : add_point(q, r, err);
	pthread_mutex_unlock(&q->lock);
	return rc;
}

/* What is pending of a breakpoint or watchpoint that goes never happened. */
static void forget(struct qemu *q, const struct hvmi_event_request *r)
{
	struct qemu_events *e = q->events;
	for (struct qemu_pending **at = &e->first; *at;) {
		struct qemu_pending *p = *at;
		bool its = p->event.kind == r->kind &&
			   (r->kind == HVMI_EVENT_STEP ? !asked_for_step(e, p->event.vcpu) :
							 p->event.gva - r->gva < (r->len ? r->len : 1));
		if (!its) {
			at = &p->next;
			continue;
		}
		*at = p->next;
		free(p);
		e->waiting--;
	}
	e->last = &e->first;
	while (*e->last)
		e->last = &(*e->last)->next;
}

static int cancel_point(struct qemu *q, const struct hvmi_event_request *r, struct hvmi_error *err)
{
	struct qemu_events *e = q->events;
	size_t i = 0;
	while (i < e->point_count && (e->points[i].request.kind != r->kind ||
				      e->points[i].request.gva != r->gva ||
				      (r->kind == HVMI_EVENT_WATCHPOINT &&
				       (e->points[i].request.len != r->len ||
					e->points[i].request.access != r->access))))
		i++;
	if (i == e->point_count)
		return hvmi_error_set(err, -ENOENT, r->gva, "there is no such request");
	int rc = stub_point(q->stub, false, e->points[i].type, r->gva, e->points[i].request.len,
			    err);
	if (!rc)
		e->points[i] = e->points[--e->point_count];
	return rc;
}

static void cancel_step(struct qemu *q, const struct hvmi_event_request *r)
{
	struct qemu_events *e = q->events;
	for (size_t i = 0; i < e->step_count; i++)
		if (e->steps[i].vcpu == r->vcpu) {
			e->steps[i] = e->steps[--e->step_count];
			break;
		}
	for (uint32_t i = 0; i < q->vcpu_count; i++)
		if (!asked_for_step(e, i))
			q->vcpus[i].stepping = false;
}

int qemu_event_cancel(void *machine, const struct hvmi_event_request *r, struct hvmi_error *err)
{
	struct qemu *q = machine;
	pthread_mutex_lock(&q->lock);
	int rc = run_hold_stub(q, false, err);
	if (!rc) {
		if (r->kind == HVMI_EVENT_STEP)
			cancel_step(q, r);
		else
			rc = cancel_point(q, r, err);
		if (!rc)
			forget(q, r);
		int release_rc = run_release(q, rc ? NULL : err);
		rc = rc ? rc : release_rc;
	}
	pthread_mutex_unlock(&q->lock);
	return rc;
}

/* A vCPU that waits in a HLT must not keep others from being stepped. */
static int next_turn(struct qemu *q, struct hvmi_error *err)
{
	uint64_t times;
	if (read(q->events->timer, &times, sizeof(times)) != sizeof(times) ||
	    !q->stub->running)
		return 0;
	int rc = run_hold(q, err);
	return rc ? rc : run_release(q, err);
}

int qemu_event_next(void *machine, struct hvmi_event *event, struct hvmi_registers *registers,
		    struct hvmi_error *err)
{
	struct qemu *q = machine;
	pthread_mutex_lock(&q->lock);
	struct qemu_events *e = q->events;
	int rc = e->first ? 0 : run_pump(q, err);
	if (!rc && !e->first)
		rc = next_turn(q, err);
	struct qemu_pending *p = rc ? NULL : e->first;
	if (p) {
		e->first = p->next;
		if (!e->first)
			e->last = &e->first;
		size_t size = event->size;
		*event = p->event;
		event->size = size;
		*registers = p->registers;
		free(p);
		rc = 1;
		if (!(event->flags & HVMI_EVENT_WAITS)) {
			e->waiting--;
			int go_rc = run_release(q, err);
			rc = go_rc ? go_rc : rc;
		}
	}
	/* Where nobody tells us that others resume it, we look. */
	if (!rc && q->others_paused && q->monitor.ops->fd(q->monitor.transport) < 0)
		start_timer(q, LOOK_MS);
	if (!e->first) {
		eventfd_t count;
		eventfd_read(e->wake, &count);
	}
	pthread_mutex_unlock(&q->lock);
	return rc;
}

/* What is pending of a vCPU that was sent elsewhere: it is not at that breakpoint any more. */
static void moved(struct qemu *q, uint32_t vcpu)
{
	struct qemu_vcpu *v = &q->vcpus[vcpu];
	v->standing = false;
	for (struct qemu_pending **at = &q->events->first; *at; at = &(*at)->next) {
		struct qemu_pending *p = *at;
		if (p->event.kind != HVMI_EVENT_BREAKPOINT || p->event.vcpu != vcpu)
			continue;
		*at = p->next;
		if (!*at)
			q->events->last = at;
		q->events->waiting--;
		free(p);
		break;
	}
}

int qemu_event_answer(void *machine, const struct hvmi_event *event,
		      const struct hvmi_answer *answer, struct hvmi_error *err)
{
	struct qemu *q = machine;
	int rc = 0;
	if (answer->flags & ~(HVMI_ANSWER_STEP | HVMI_ANSWER_STEP_OFF | HVMI_ANSWER_REGISTERS))
		return hvmi_error_set(err, -ENOTSUP, HVMI_NO_ADDRESS,
				      "an answer to QEMU can set registers and single-step, and "
				      "nothing else");
	pthread_mutex_lock(&q->lock);
	struct qemu_vcpu *v = &q->vcpus[event->vcpu];
	if (answer->flags & HVMI_ANSWER_STEP && !asked_for_step(q->events, event->vcpu))
		rc = hvmi_error_set(err, -EINVAL, HVMI_NO_ADDRESS,
				    "HVMI_EVENT_STEP was not requested for vCPU %u", event->vcpu);
	if (!rc && answer->flags & HVMI_ANSWER_REGISTERS)
		rc = qemu_set_held(q, event->vcpu, answer->registers, err);
	if (!rc) {
		if (v->rip_known && v->standing && v->rip != v->standing_at)
			moved(q, event->vcpu);
		if (answer->flags & (HVMI_ANSWER_STEP | HVMI_ANSWER_STEP_OFF))
			v->stepping = answer->flags & HVMI_ANSWER_STEP;
		q->events->waiting--;
		rc = run_release(q, err);
		/* After a failure it still waits. */
		q->events->waiting += rc != 0;
	}
	pthread_mutex_unlock(&q->lock);
	return rc;
}
