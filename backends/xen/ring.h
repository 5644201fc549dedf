/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The page through which Xen tells of events (monitor ring, xen/include/public/io/ring.h): requests and
 * responses share its slots. Only one program at a time can have it, and Xen does not notice when
 * that one dies.
 */
#ifndef XEN_RING_H
#define XEN_RING_H

#include "domain.h"

struct ring {
	uint32_t version;	/* of the interface */
	uint32_t bytes;		/* of a slot */
	uint32_t slots;		/* a power of two */
	uint8_t *page;
	uint32_t consumed;	/* requests */
	uint32_t produced;	/* responses */
	xenevtchn_handle *evtchn;
	int port;		/* ours; negative: not bound */
};

/* -EBUSY: another program has it. What a dead one left is put right first. */
int ring_open(struct domain *d, bool take_over, struct ring *ret, struct hvmi_error *err);

/* Give it back; every vCPU must have been answered. -EBUSY: vCPUs wait in line for a slot. */
int ring_close(struct domain *d, struct ring *ring);

/* Copy the next request: ring->bytes; false: there is none. */
bool ring_take(struct ring *ring, void *raw);
bool ring_has(const struct ring *ring);
/* Put a response, and have Xen look at it. */
void ring_put(const struct domain *d, struct ring *ring, const void *raw);

/*
 * Let a domain go on whose program died: views off, steps off, the ring away, and each vCPU that
 * waits for an answer gets one.
 */
int ring_recover(struct domain *d, struct hvmi_error *err);

#endif
