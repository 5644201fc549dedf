/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Requests and responses of Xen's monitor ring: xen/include/public/vm_event.h. The struct grew with
 * VM_EVENT_INTERFACE_VERSION; here is the one place that knows how: 3 is Xen 4.11, 4 is 4.12, 5 is
 * 4.13, 6 is 4.14, 7 is 4.15 to at least 4.20.
 */
#ifndef HVMI_BACKEND_XEN_ABI_H
#define HVMI_BACKEND_XEN_ABI_H

#include <stdint.h>

#include <hvmi/backend.h>

#define ABI_VERSION_MIN 3u
#define ABI_VERSION_MAX 7u
#define ABI_REQUEST_MAX 400u

/* A ring is one page: a head of 64 bytes (public/io/ring.h), then slots of this size, 8 in every version. */
#define ABI_RING_HEAD 64u
#define ABI_RING_SLOTS 8u

/* flags */
#define ABI_FLAG_VCPU_PAUSED (1u << 0)
#define ABI_FLAG_EMULATE (1u << 2)
#define ABI_FLAG_EMULATE_NOWRITE (1u << 3)
#define ABI_FLAG_TOGGLE_SINGLESTEP (1u << 4)
#define ABI_FLAG_SET_EMUL_READ_DATA (1u << 5)
#define ABI_FLAG_DENY (1u << 6)
#define ABI_FLAG_ALTERNATE_P2M (1u << 7)
#define ABI_FLAG_SET_REGISTERS (1u << 8)
#define ABI_FLAG_SET_EMUL_INSN_DATA (1u << 9)
#define ABI_FLAG_GET_NEXT_INTERRUPT (1u << 10)
#define ABI_FLAG_FAST_SINGLESTEP (1u << 11)
#define ABI_FLAG_NESTED_P2M (1u << 12)
#define ABI_FLAG_RESET_VMTRACE (1u << 13)
#define ABI_FLAG_RESET_FORK_STATE (1u << 14)
#define ABI_FLAG_RESET_FORK_MEMORY (1u << 15)

/* Bytes of a request; 0: a version that is not known. */
uint32_t abi_request_size(uint32_t version);

/* Fields that every version has at one place. */
struct abi_head {
	uint32_t version, flags, reason, vcpu;
	uint16_t view;
};
void abi_head(const uint8_t *request, struct abi_head *ret);

/*
 * What a request says. -ENOTSUP: a reason that is no event of ours. The version is the ring's; that in
 * the request was compared.
 */
int abi_event(uint32_t version, const uint8_t *request, struct hvmi_event *event,
	      struct hvmi_registers *registers);

/*
 * The response to a request. `stepping`: whether the vCPU is stepped now, which is toggled.
 * -ENOTSUP, -EINVAL: this answer cannot be given; then the response is not written.
 */
int abi_response(uint32_t version, const uint8_t *request, const struct hvmi_answer *answer,
		 int stepping, uint8_t *response, struct hvmi_error *err);

/* A response that does nothing but let a vCPU go on. */
void abi_release(uint32_t version, uint32_t vcpu, uint8_t *response);

#endif
