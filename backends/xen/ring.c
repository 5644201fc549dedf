/* SPDX-License-Identifier: Apache-2.0 */
#include "ring.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <unistd.h>

/* How long what rings once is waited for. */
#define SETTLE_MS 1000

/* struct sring in xen/include/public/io/ring.h */
struct ring_head {
	uint32_t request_produced, request_event, response_produced, response_event;
};

static struct ring_head *head_of(const struct xen_events *events)
{
	return (struct ring_head *)(void *)events->ring;
}

bool xen_ring_take(struct xen_events *events, uint8_t *request)
{
	struct ring_head *head = head_of(events);
	uint32_t produced = __atomic_load_n(&head->request_produced, __ATOMIC_ACQUIRE);
	if (produced == events->consumed)
		return false;
	memcpy(request, events->ring + ABI_RING_HEAD +
				(events->consumed % ABI_RING_SLOTS) * events->slot, events->slot);
	events->consumed++;
	__atomic_store_n(&head->request_event, events->consumed + 1, __ATOMIC_RELEASE);
	return true;
}

void xen_ring_give(struct xen *xen, struct xen_events *events, const uint8_t *response)
{
	struct ring_head *head = head_of(events);
	memcpy(events->ring + ABI_RING_HEAD + (events->produced % ABI_RING_SLOTS) * events->slot,
	       response, events->slot);
	events->produced++;
	__atomic_store_n(&head->response_produced, events->produced, __ATOMIC_SEQ_CST);
	xen->libs.xenevtchn_notify(events->channel, events->local_port);
}

static void attach_clean(struct xen_events *events)
{
	struct ring_head *head = head_of(events);
	memset(events->ring, 0, XEN_PAGE);
	events->consumed = events->produced = 0;
	head->request_event = head->response_event = 1;
}

static int bind(struct xen *xen, struct xen_events *events)
{
	struct xen_libs *libs = &xen->libs;
	events->channel = libs->xenevtchn_open(&libs->silent, 0);
	if (!events->channel)
		return xen_code(errno);
	xenevtchn_port_or_error_t port =
		libs->xenevtchn_bind_interdomain(events->channel, xen->domain.id, events->port);
	if (port < 0)
		return xen_code(errno);
	events->local_port = (int)port;
	int fd = libs->xenevtchn_fd(events->channel), flags = fcntl(fd, F_GETFL);
	return flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0 ? -EIO : 0;
}

static int enable(struct xen *xen, struct xen_events *events)
{
	struct xen_libs *libs = &xen->libs;
	events->ring = libs->xc_monitor_enable(libs->xch, xen->domain.id, &events->port);
	if (!events->ring)
		return errno == EBUSY ? -EBUSY : xen_code(errno);
	attach_clean(events);
	return bind(xen, events);
}

static void disable(struct xen *xen, struct xen_events *events)
{
	struct xen_libs *libs = &xen->libs;
	if (events->ring) {
		libs->xc_monitor_disable(libs->xch, xen->domain.id);
		munmap(events->ring, XEN_PAGE);
		events->ring = NULL;
	}
	if (events->local_port >= 0)
		libs->xenevtchn_unbind(events->channel, (evtchn_port_t)events->local_port);
	events->local_port = -1;
	if (events->channel)
		libs->xenevtchn_close(events->channel);
	events->channel = NULL;
}

/* The channel's descriptor says that there are events, xenstore's that some domain ended. */
static int watch(struct xen *xen, struct xen_events *events)
{
	struct xen_libs *libs = &xen->libs;
	struct epoll_event interest = { .events = EPOLLIN };
	events->poll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (events->poll_fd < 0 ||
	    epoll_ctl(events->poll_fd, EPOLL_CTL_ADD, libs->xenevtchn_fd(events->channel),
		      &interest) < 0)
		return -EIO;
	/* A handle of its own: reading a watch would take another's answers. */
	events->store = libs->xs_open(0);
	if (events->store && (!libs->xs_watch(events->store, "@releaseDomain", "hvmi") ||
			      epoll_ctl(events->poll_fd, EPOLL_CTL_ADD,
					libs->xs_fileno(events->store), &interest) < 0)) {
		libs->xs_close(events->store);
		events->store = NULL;
	}
	return 0;
}

/* Binding rings once, and so does a new watch: neither is news. */
static void settle(struct xen *xen, struct xen_events *events)
{
	struct xen_libs *libs = &xen->libs;
	struct pollfd fds[] = {
		{ .fd = libs->xenevtchn_fd(events->channel), .events = POLLIN },
		{ .fd = events->store ? libs->xs_fileno(events->store) : -1, .events = POLLIN },
	};
	if (poll(&fds[0], 1, SETTLE_MS) == 1) {
		xenevtchn_port_or_error_t port = libs->xenevtchn_pending(events->channel);
		if (port >= 0)
			libs->xenevtchn_unmask(events->channel, (evtchn_port_t)port);
	}
	if (events->store && poll(&fds[1], 1, SETTLE_MS) == 1)
		free(libs->xs_check_watch(events->store));
}

int xen_ring_open(struct xen *xen, struct xen_events *events)
{
	int rc = enable(xen, events);
	if (!rc)
		rc = watch(xen, events);
	if (rc)
		xen_ring_close(xen, events);
	else
		settle(xen, events);
	return rc;
}

void xen_ring_close(struct xen *xen, struct xen_events *events)
{
	disable(xen, events);
	if (events->store)
		xen->libs.xs_close(events->store);
	if (events->poll_fd >= 0)
		close(events->poll_fd);
	events->store = NULL;
	events->poll_fd = -1;
}

/*
 * The ring of a program that died: Xen keeps it, and the vCPUs that wait for an answer, which must
 * come through a ring. So a new one takes its place for as long as it takes to answer all. It is not
 * kept, because its counts are off by these answers.
 */
int xen_ring_recover(struct xen *xen)
{
	struct xen_libs *libs = &xen->libs;
	struct xen_events events = { .local_port = -1, .poll_fd = -1 };
	uint8_t response[ABI_REQUEST_MAX];
	int version = libs->xc_vm_event_get_version(libs->xch);
	events.version = version < 0 ? 0 : (uint32_t)version;
	events.slot = abi_request_size(events.version);
	if (!events.slot)
		return -ENOTSUP;
	libs->xc_domain_pause(libs->xch, xen->domain.id);
	libs->xc_monitor_disable(libs->xch, xen->domain.id);
	int rc = enable(xen, &events);
	for (uint32_t i = 0; i < xen->domain.vcpus && !rc; i++) {
		abi_release(events.version, i, response);
		xen_ring_give(xen, &events, response);
	}
	if (libs->xc_altp2m_set_domain_state)
		libs->xc_altp2m_set_domain_state(libs->xch, xen->domain.id, false);
	for (uint32_t i = 0; i < xen->domain.vcpus; i++)
		libs->xc_domain_debug_control(libs->xch, xen->domain.id,
					      XEN_DOMCTL_DEBUG_OP_SINGLE_STEP_OFF, i);
	disable(xen, &events);
	libs->xc_domain_unpause(libs->xch, xen->domain.id);
	return rc;
}
