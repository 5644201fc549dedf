/* SPDX-License-Identifier: Apache-2.0 */
/* The events of a domain: its monitor ring, and what was put into the guest with it. */
#ifndef HVMI_BACKEND_XEN_RING_H
#define HVMI_BACKEND_XEN_RING_H

#include "abi.h"
#include "xen.h"

#define XEN_VIEWS 10u	/* MAX_ALTP2M with view 0, xen/arch/x86/include/asm/altp2m.h */

struct xen_vcpu {
	bool waits;		/* for the answer to `request` */
	bool stepping;
	uint8_t request[ABI_REQUEST_MAX];
};

struct xen_page {
	uint64_t gfn;
	void *host;
};

struct xen_events {
	/* ring.c */
	uint32_t version, slot;	/* interface version, and bytes of a slot */
	uint8_t *ring;		/* the page that is shared with Xen, or NULL */
	uint32_t port;		/* of the domain */
	uint32_t consumed, produced;
	xenevtchn_handle *channel;
	int local_port;		/* -1: not bound */
	int poll_fd;		/* of the channel and of xenstore */
	struct xs_handle *store;	/* that tells when domains end; or NULL */

	struct xen_vcpu *vcpus;
	struct hvmi_event_request *requests;
	size_t request_count;
	bool step_monitor, denies;

	/* view.c */
	bool views_on;
	bool views[XEN_VIEWS];
	/* A bit for each frame whose rights in view 0 were set; NULL: none. */
	uint64_t *restricted;
	uint64_t frames;	/* that the bits reach */
	struct xen_page *pages;
	size_t page_count;
	uint64_t first_free, max_pages;	/* frame for the next page; before the first was added */
};

/* Attach to the ring. -EBUSY: it is held. */
int xen_ring_open(struct xen *xen, struct xen_events *events);
void xen_ring_close(struct xen *xen, struct xen_events *events);
/* The next request is copied; false: none. */
bool xen_ring_take(struct xen_events *events, uint8_t *request);
void xen_ring_give(struct xen *xen, struct xen_events *events, const uint8_t *response);

/* view.c */
/* Whether this access is one that was asked for; if not, it is allowed from here on. */
bool xen_view_expected(struct xen *xen, const struct hvmi_event *event);
/* Rights back, while the ring is there; then views, pages and the limit of memory. */
void xen_views_release(struct xen *xen, struct xen_events *events);
void xen_pages_release(struct xen *xen, struct xen_events *events);

#endif
