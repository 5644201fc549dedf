/* SPDX-License-Identifier: Apache-2.0 */
/* A request as Xen puts it into the ring: its version, then its bytes; and an answer to it. */
#include <stdlib.h>
#include <string.h>

#include "abi.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(const struct hvmi_event *e, const struct hvmi_registers *r)
{
	if (e->kind >= HVMI_EVENT_KIND_END || (e->gpa >> 52 && e->gpa != HVMI_NO_ADDRESS))
		abort();
	if ((e->kind == HVMI_EVENT_REGISTER || e->kind == HVMI_EVENT_DESCRIPTOR) &&
	    !hvmi_registers_known(r, HVMI_X86_RIP))
		abort();
	if ((e->kind == HVMI_EVENT_REGISTER || e->kind == HVMI_EVENT_DESCRIPTOR) &&
	    (e->reg == 0 || e->reg >= HVMI_REGISTER_END))
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint32_t version = size ? data[0] % 10 : 0, bytes = abi_bytes(version);
	if (!bytes || size < 1)
		return 0;
	uint8_t *raw = calloc(1, bytes);
	struct hvmi_registers *registers = calloc(1, sizeof(*registers));
	struct abi_request request;
	struct hvmi_event event = { .gva = HVMI_NO_ADDRESS, .gpa = HVMI_NO_ADDRESS };
	if (!raw || !registers)
		abort();
	memcpy(raw, data + 1, size - 1 < bytes ? size - 1 : bytes);
	if (abi_request(version, raw, &request, &event, registers) == 0) {
		check(&event, registers);
		struct abi_response response = {
			/* Without data from outside. */
			.flags = (request.reason * 77u) & ~(1u << 5) & ~(1u << 9),
			.reason = request.reason, .registers = registers,
		};
		abi_respond(version, raw, &response);
	}
	abi_release(version, raw, size > 1 ? data[1] : 0);
	free(registers);
	free(raw);
	return 0;
}
