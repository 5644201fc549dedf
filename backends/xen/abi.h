/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Xen's vm_event interface, versions 3 (Xen 4.11) to 7 (4.15 and later), as one event of ours: see
 * xen/include/public/vm_event.h of each. Only here is it known that they differ.
 */
#ifndef XEN_ABI_H
#define XEN_ABI_H

#include <stdbool.h>
#include <stdint.h>

#include <hvmi/event.h>
#include <hvmi/space.h>

#define ABI_VERSION_MIN 3u
#define ABI_VERSION_MAX 7u
/* Bytes of a request or response, of the largest version. */
#define ABI_BYTES_MAX 400u

/* Segment attributes as Xen packs them in 12 bits, to the layout of registers.h, and back. */
uint32_t abi_rights(uint32_t attributes);
uint32_t abi_attributes(uint32_t rights);

/* Bytes of a request of that version; 0: it is not known. */
uint32_t abi_bytes(uint32_t version);
/* The version that a release of Xen has, where it cannot be asked; 0: not known. */
uint32_t abi_version_of(uint32_t minor);

/* What a request holds beside the event. */
struct abi_request {
	uint32_t reason;	/* VM_EVENT_REASON_* */
	uint32_t vcpu;
	bool paused;		/* the vCPU waits */
	uint64_t gfn;		/* of ACCESS */
	uint32_t trap_type;	/* of breakpoints and #DB */
	uint64_t pending_debug;
};

/*
 * Translate a request: @p raw is a copy, abi_bytes(version) long. @p event comes as event_next() of
 * backend.h has it; its kind stays 0 where Xen tells of something else.
 * -EBADMSG: it is not of that version.
 */
int abi_request(uint32_t version, const void *raw, struct abi_request *ret, struct hvmi_event *event,
		struct hvmi_registers *registers);

/* What a response is to do, beside letting the vCPU go on. */
struct abi_response {
	uint32_t flags;			/* VM_EVENT_FLAG_* */
	uint32_t reason;		/* VM_EVENT_REASON_* that decides what of it counts */
	uint16_t view;			/* with ALTERNATE_P2M */
	uint16_t step_view;		/* with FAST_SINGLESTEP */
	const struct hvmi_registers *registers;	/* with SET_REGISTERS: those that are known */
	const void *data;		/* with SET_EMUL_*_DATA */
	uint32_t data_len;
};

/* Make the response to a request out of its bytes, in their place. */
void abi_respond(uint32_t version, void *raw, const struct abi_response *response);

/* A response to no request: let a vCPU go on. */
void abi_release(uint32_t version, void *raw, uint32_t vcpu);

/* Whether SET_REGISTERS sets it. */
bool abi_sets(uint32_t id);

#endif
