/* SPDX-License-Identifier: Apache-2.0 */
#include "ring.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "abi.h"
#include "journal.h"
#include "listener.h"

/* The shared part of a ring: four indexes, padding to 64 bytes, slots. */
enum { REQ_PROD, REQ_EVENT, RSP_PROD, RSP_EVENT };
#define SLOTS_AT 64u

/* Xen has 10 views with view 0; later releases may have more. */
#define VIEWS_MAX 256u

static uint32_t *index_of(const struct ring *ring, int which)
{
	return (uint32_t *)(void *)ring->page + which;
}

static uint8_t *slot(const struct ring *ring, uint32_t number)
{
	return ring->page + SLOTS_AT + (size_t)(number & (ring->slots - 1)) * ring->bytes;
}

bool ring_has(const struct ring *ring)
{
	uint32_t waiting = __atomic_load_n(index_of(ring, REQ_PROD), __ATOMIC_ACQUIRE) -
			   ring->consumed;
	/* As many as there are slots without a response. */
	uint32_t room = ring->slots - (ring->consumed - ring->produced);
	return waiting && room;
}

bool ring_take(struct ring *ring, void *raw)
{
	if (!ring_has(ring)) {
		/* Notify with the next one; and look again, it may have come meanwhile. */
		__atomic_store_n(index_of(ring, REQ_EVENT), ring->consumed + 1, __ATOMIC_SEQ_CST);
		if (!ring_has(ring))
			return false;
	}
	memcpy(raw, slot(ring, ring->consumed), ring->bytes);
	ring->consumed++;
	__atomic_store_n(index_of(ring, REQ_EVENT), ring->consumed + 1, __ATOMIC_SEQ_CST);
	return true;
}

void ring_put(const struct domain *d, struct ring *ring, const void *raw)
{
	memcpy(slot(ring, ring->produced), raw, ring->bytes);
	ring->produced++;
	__atomic_store_n(index_of(ring, RSP_PROD), ring->produced, __ATOMIC_SEQ_CST);
	d->xen.l.xenevtchn_notify(ring->evtchn, (evtchn_port_t)ring->port);
}

static void begin(struct ring *ring)
{
	memset(ring->page, 0, SLOTS_AT);
	ring->consumed = ring->produced = 0;
	__atomic_store_n(index_of(ring, REQ_EVENT), 1, __ATOMIC_SEQ_CST);
	__atomic_store_n(index_of(ring, RSP_EVENT), 1, __ATOMIC_SEQ_CST);
}

static int take_version(const struct domain *d, struct ring *ring, struct hvmi_error *err)
{
	const struct xen *xen = &d->xen;
	int version = xen->l.xc_vm_event_get_version ? xen->l.xc_vm_event_get_version(xen->xc) :
						       (int)abi_version_of(xen->minor);
	if (version < 0)
		return domain_fail(d, err, "asking for the version of Xen's events");
	ring->version = (uint32_t)version;
	ring->bytes = abi_bytes(ring->version);
	if (!ring->bytes)
		return hvmi_error_set(err, -ENOTSUP, HVMI_NO_ADDRESS,
				      "Xen %u.%u has version %d of its events, this libhvmi knows %u "
				      "to %u: bring it up to date", xen->major, xen->minor, version,
				      ABI_VERSION_MIN, ABI_VERSION_MAX);
	ring->slots = 1;
	while (2 * ring->slots * ring->bytes <= PAGE - SLOTS_AT)
		ring->slots *= 2;
	return 0;
}

static int busy(const struct domain *d, struct hvmi_error *err)
{
	uint32_t pid = journal_owner(d);
	if (pid)
		return hvmi_error_set(err, -EBUSY, HVMI_NO_ADDRESS,
				      "program %u has the events of %s: end it, or force it with "
				      "HVMI_EVENTS_TAKE_OVER", pid, d->label);
	if (listener_lives(d))
		return hvmi_error_set(err, -EBUSY, HVMI_NO_ADDRESS,
				      "another program has the events of %s: end it (xen-access, "
				      "drakvuf ...), or force it with HVMI_EVENTS_TAKE_OVER", d->label);
	return 0;
}

static int bind(struct domain *d, struct ring *ring, uint32_t remote, struct hvmi_error *err)
{
	const struct xen_libs *l = &d->xen.l;
	ring->evtchn = l->xenevtchn_open(&d->xen.logger.base, 0);
	if (!ring->evtchn)
		return domain_fail(d, err, "opening /dev/xen/evtchn (module xen-evtchn)");
	ring->port = l->xenevtchn_bind_interdomain(ring->evtchn, d->id, remote);
	if (ring->port < 0)
		return domain_fail(d, err, "binding the event channel");
	int fd = l->xenevtchn_fd(ring->evtchn);
	int flags = fcntl(fd, F_GETFL);
	if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK))
		return domain_fail(d, err, "preparing the event channel");
	return 0;
}

static void release(struct domain *d, struct ring *ring)
{
	const struct xen_libs *l = &d->xen.l;
	if (ring->page)
		l->xenforeignmemory_unmap(d->memory, ring->page, 1);
	if (ring->port >= 0)
		l->xenevtchn_unbind(ring->evtchn, (evtchn_port_t)ring->port);
	if (ring->evtchn)
		l->xenevtchn_close(ring->evtchn);
	*ring = (struct ring){ .port = -1 };
}

int ring_close(struct domain *d, struct ring *ring)
{
	if (d->xen.l.xc_monitor_disable(d->xen.xc, d->id) && errno == EBUSY)
		return -EBUSY;
	release(d, ring);
	return 0;
}

/* Without a look at whom it may belong to. errno EBUSY: somebody. */
static int enable(struct domain *d, struct ring *ring, struct hvmi_error *err)
{
	uint32_t remote = 0;
	*ring = (struct ring){ .port = -1 };
	int rc = take_version(d, ring, err);
	if (rc)
		return rc;
	ring->page = d->xen.l.xc_monitor_enable(d->xen.xc, d->id, &remote);
	if (!ring->page && errno == EBUSY)
		return hvmi_error_set(err, -EBUSY, HVMI_NO_ADDRESS, "%s: its events are held",
				      d->label);
	if (!ring->page)
		return domain_fail(d, err, "taking its events (xc_monitor_enable)");
	begin(ring);
	rc = bind(d, ring, remote, err);
	if (rc)
		ring_close(d, ring);
	return rc;
}

int ring_open(struct domain *d, bool take_over, struct ring *ret, struct hvmi_error *err)
{
	int rc = enable(d, ret, err);
	if (rc != -EBUSY)
		return rc;
	rc = take_over ? 0 : busy(d, err);
	if (!rc)
		rc = ring_recover(d, err);
	if (!rc)
		d->xen.host->log(d->xen.host, HVMI_LOG_INFO, "%s: took over the events that another "
				 "program had", d->label);
	return rc ? rc : enable(d, ret, err);
}

static void views_off(const struct domain *d)
{
	const struct xen *xen = &d->xen;
	bool on = false;
	if (!xen->l.xc_altp2m_get_domain_state || !xen->l.xc_altp2m_set_domain_state ||
	    xen->l.xc_altp2m_get_domain_state(xen->xc, d->id, &on) || !on)
		return;
	xen->l.xc_altp2m_switch_to_view(xen->xc, d->id, 0);
	for (uint16_t view = 1; view < VIEWS_MAX; view++)
		if (xen->l.xc_altp2m_destroy_view(xen->xc, d->id, view) && errno == EINVAL)
			break;
	xen->l.xc_altp2m_set_domain_state(xen->xc, d->id, false);
}

/* Xen ignores an answer for a vCPU that does not wait. */
static void release_vcpus(struct domain *d, struct ring *ring)
{
	uint8_t raw[ABI_BYTES_MAX];
	for (uint32_t vcpu = 0; vcpu < d->vcpus; vcpu++) {
		abi_release(ring->version, raw, vcpu);
		ring_put(d, ring, raw);
	}
}

static int recover_paused(struct domain *d, struct hvmi_error *err)
{
	const struct xen *xen = &d->xen;
	struct ring ring;
	views_off(d);
	for (uint32_t vcpu = 0; vcpu < d->vcpus; vcpu++)
		xen->l.xc_domain_debug_control(xen->xc, d->id, XEN_DOMCTL_DEBUG_OP_SINGLE_STEP_OFF,
					       vcpu);
	if (xen->l.xc_monitor_disable(xen->xc, d->id) && errno == EBUSY)
		return hvmi_error_set(err, -EBUSY, HVMI_NO_ADDRESS,
				      "%s: the ring that a killed program left is full, vCPUs wait in "
				      "line for it, and Xen cannot take it away: the domain has to be "
				      "restarted", d->label);
	/* A ring of its own for this: more answers than requests confuse its counts. */
	int rc = enable(d, &ring, err);
	if (rc)
		return rc;
	release_vcpus(d, &ring);
	ring_close(d, &ring);
	return 0;
}

int ring_recover(struct domain *d, struct hvmi_error *err)
{
	if (d->kind == DOMAIN_PV || !d->xen.l.xc_monitor_enable || !d->xen.l.xc_monitor_disable)
		return 0;
	if (d->xen.l.xc_domain_pause(d->xen.xc, d->id))
		return domain_fail(d, err, "pausing it");
	int rc = recover_paused(d, err);
	d->xen.l.xc_domain_unpause(d->xen.xc, d->id);
	return rc;
}
