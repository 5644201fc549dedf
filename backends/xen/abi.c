/* SPDX-License-Identifier: Apache-2.0 */
#include "abi.h"

#include <stdbool.h>
#include <string.h>

enum reason {
	REASON_MEM_ACCESS = 1, REASON_WRITE_CTRLREG = 4, REASON_MOV_TO_MSR = 5,
	REASON_SOFTWARE_BREAKPOINT = 6, REASON_SINGLESTEP = 7, REASON_GUEST_REQUEST = 8,
	REASON_DEBUG_EXCEPTION = 9, REASON_CPUID = 10, REASON_INTERRUPT = 12,
	REASON_DESCRIPTOR_ACCESS = 13, REASON_EMUL_UNIMPLEMENTED = 14, REASON_VMEXIT = 15,
	REASON_IO = 16,
};

/* The head; then a union of what the reason has, then the registers. */
#define AT_VERSION 0u
#define AT_FLAGS 4u
#define AT_REASON 8u
#define AT_VCPU 12u
#define AT_VIEW 16u
#define AT_UNION 24u
#define AT_REGISTERS 56u

#define MEM_ACCESS_GLA_VALID (1u << 3)
#define MEM_ACCESS_FAULT_IN_GPT (1u << 5)
#define PAGE 4096u

/*
 * struct vm_event_regs_x86 in its order: register, bytes, first and last version. Id 0: not used here.
 * KIND_SELECTOR: a limit of 20 bits and 12 bits of rights, for _LIMIT and _RIGHTS.
 */
enum { KIND_PLAIN, KIND_SELECTOR };
static const struct {
	uint16_t id;
	uint8_t size, first, last, kind;
} layout[] = {
#define ALL(id) { HVMI_X86_##id, 8, 3, 7, KIND_PLAIN }
	ALL(RAX), ALL(RCX), ALL(RDX), ALL(RBX), ALL(RSP), ALL(RBP), ALL(RSI), ALL(RDI),
	ALL(R8), ALL(R9), ALL(R10), ALL(R11), ALL(R12), ALL(R13), ALL(R14), ALL(R15), ALL(RFLAGS),
	{ HVMI_X86_DR6, 8, 4, 7, KIND_PLAIN },
	ALL(DR7), ALL(RIP), ALL(CR0), ALL(CR2), ALL(CR3), ALL(CR4), ALL(SYSENTER_CS),
	ALL(SYSENTER_ESP), ALL(SYSENTER_EIP), ALL(EFER), ALL(STAR), ALL(LSTAR),
#undef ALL
	{ HVMI_X86_GDTR_BASE, 8, 5, 7, KIND_PLAIN },
	{ 0, 8, 7, 7, KIND_PLAIN },	/* npt_base */
	{ 0, 8, 7, 7, KIND_PLAIN },	/* vmtrace_pos */
	{ HVMI_X86_CS_BASE, 4, 4, 7, KIND_PLAIN }, { HVMI_X86_SS_BASE, 4, 4, 7, KIND_PLAIN },
	{ HVMI_X86_DS_BASE, 4, 4, 7, KIND_PLAIN }, { HVMI_X86_ES_BASE, 4, 4, 7, KIND_PLAIN },
	{ HVMI_X86_FS_BASE, 8, 3, 7, KIND_PLAIN }, { HVMI_X86_GS_BASE, 8, 3, 7, KIND_PLAIN },
	{ 0, 8, 3, 3, KIND_PLAIN },	/* cs_arbytes and padding */
	{ HVMI_X86_CS_LIMIT, 4, 4, 7, KIND_SELECTOR }, { HVMI_X86_SS_LIMIT, 4, 4, 7, KIND_SELECTOR },
	{ HVMI_X86_DS_LIMIT, 4, 4, 7, KIND_SELECTOR }, { HVMI_X86_ES_LIMIT, 4, 4, 7, KIND_SELECTOR },
	{ HVMI_X86_FS_LIMIT, 4, 4, 7, KIND_SELECTOR }, { HVMI_X86_GS_LIMIT, 4, 4, 7, KIND_SELECTOR },
	{ HVMI_X86_KERNEL_GS_BASE, 8, 4, 7, KIND_PLAIN },
	{ HVMI_X86_GDTR_LIMIT, 2, 5, 7, KIND_PLAIN },
	{ HVMI_X86_CS_SELECTOR, 2, 4, 7, KIND_PLAIN }, { HVMI_X86_SS_SELECTOR, 2, 4, 7, KIND_PLAIN },
	{ HVMI_X86_DS_SELECTOR, 2, 4, 7, KIND_PLAIN }, { HVMI_X86_ES_SELECTOR, 2, 4, 7, KIND_PLAIN },
	{ HVMI_X86_FS_SELECTOR, 2, 4, 7, KIND_PLAIN }, { HVMI_X86_GS_SELECTOR, 2, 4, 7, KIND_PLAIN },
	{ 0, 2, 5, 7, KIND_PLAIN },	/* padding */
	{ 0, 4, 4, 4, KIND_PLAIN },
};
#define LAYOUT_COUNT (sizeof(layout) / sizeof(*layout))

static uint64_t load(const uint8_t *at, unsigned size)
{
	uint64_t value = 0;
	memcpy(&value, at, size);
	return value;
}

static void store(uint8_t *at, uint64_t value, unsigned size)
{
	memcpy(at, &value, size);
}

static bool has(size_t field, uint32_t version)
{
	return version >= layout[field].first && version <= layout[field].last;
}

uint32_t abi_request_size(uint32_t version)
{
	if (version < ABI_VERSION_MIN || version > ABI_VERSION_MAX)
		return 0;
	uint32_t size = AT_REGISTERS;
	for (size_t i = 0; i < LAYOUT_COUNT; i++)
		size += has(i, version) ? layout[i].size : 0;
	return size;
}

void abi_head(const uint8_t *request, struct abi_head *ret)
{
	*ret = (struct abi_head){
		.version = (uint32_t)load(request + AT_VERSION, 4),
		.flags = (uint32_t)load(request + AT_FLAGS, 4),
		.reason = (uint32_t)load(request + AT_REASON, 4),
		.vcpu = (uint32_t)load(request + AT_VCPU, 4),
		.view = (uint16_t)load(request + AT_VIEW, 2),
	};
}

/* Rights as registers.h has them; a limit in pages was shifted by Xen. */
static void selector(struct hvmi_registers *to, uint32_t limit_id, uint64_t value)
{
	uint64_t limit = value & 0xfffff, packed = value >> 20;
	uint64_t rights = (packed & 0xff) | (packed & 0xf00) << 4;
	if (!(packed & 0x80))
		rights |= 1u << 16;
	if (rights & 1u << 15)
		limit = limit << 12 | 0xfff;
	hvmi_registers_set(to, limit_id, limit);
	hvmi_registers_set(to, limit_id + 1, rights);
}

static void registers_of(uint32_t version, const uint8_t *request, struct hvmi_registers *ret)
{
	const uint8_t *at = request + AT_REGISTERS;
	for (size_t i = 0; i < LAYOUT_COUNT; i++) {
		if (!has(i, version))
			continue;
		uint64_t value = load(at, layout[i].size);
		if (layout[i].kind == KIND_SELECTOR)
			selector(ret, layout[i].id, value);
		else if (layout[i].id)
			hvmi_registers_set(ret, layout[i].id, value);
		at += layout[i].size;
	}
}

static uint32_t control_register(uint64_t index)
{
	static const uint32_t ids[] = { HVMI_X86_CR0, HVMI_X86_CR3, HVMI_X86_CR4, HVMI_X86_XCR0 };
	return index < sizeof(ids) / sizeof(*ids) ? ids[index] : 0;
}

static uint32_t descriptor_register(uint64_t index)
{
	static const uint32_t ids[] = { 0, HVMI_X86_IDTR_BASE, HVMI_X86_GDTR_BASE,
					HVMI_X86_LDTR_BASE, HVMI_X86_TR_BASE };
	return index < sizeof(ids) / sizeof(*ids) ? ids[index] : 0;
}

/* struct vm_event_mem_access: gfn, offset, gla, flags */
static void access_event(const uint8_t *u, struct hvmi_event *event)
{
	uint64_t flags = load(u + 24, 4);
	event->kind = HVMI_EVENT_ACCESS;
	event->gpa = load(u, 8) * PAGE + load(u + 8, 8) % PAGE;
	if (flags & MEM_ACCESS_GLA_VALID)
		event->gva = load(u + 16, 8);
	/* MEM_ACCESS_R, _W and _X are bits 0 to 2, as ours. */
	event->access = flags & 7;
	if (flags & MEM_ACCESS_FAULT_IN_GPT)
		event->flags |= HVMI_EVENT_IN_PAGE_WALK;
}

/* struct vm_event_debug: gfn, pending_dbg since version 6, insn_length, type */
static void debug_event(uint32_t version, const uint8_t *u, struct hvmi_event *event)
{
	unsigned at = version >= 6 ? 16 : 8;
	event->gpa = load(u, 8) * PAGE;
	if (version >= 6)
		event->pending_debug = load(u + 8, 8);
	event->insn_length = (uint32_t)load(u + at, 4);
	event->type = (uint32_t)load(u + at + 4, 1);
}

int abi_event(uint32_t version, const uint8_t *request, struct hvmi_event *event,
	      struct hvmi_registers *registers)
{
	const uint8_t *u = request + AT_UNION;
	struct abi_head head;
	abi_head(request, &head);
	registers_of(version, request, registers);
	uint64_t rip = registers->values[HVMI_X86_RIP];
	uint64_t cs_base = 0;
	hvmi_registers_get(registers, HVMI_X86_CS_BASE, &cs_base);
	event->vcpu = head.vcpu;
	event->flags = head.flags & ABI_FLAG_VCPU_PAUSED ? HVMI_EVENT_WAITS : 0;
	if (head.flags & ABI_FLAG_NESTED_P2M)
		event->flags |= HVMI_EVENT_NESTED;
	event->view = head.flags & ABI_FLAG_ALTERNATE_P2M ? head.view : 0;
	switch (head.reason) {
	case REASON_MEM_ACCESS:
		access_event(u, event);
		break;
	case REASON_WRITE_CTRLREG:	/* index, padding, new, old */
		event->kind = HVMI_EVENT_REGISTER;
		event->reg = control_register(load(u, 4));
		event->new_value = load(u + 8, 8);
		event->old_value = load(u + 16, 8);
		break;
	case REASON_MOV_TO_MSR:		/* msr, new, old */
		event->kind = HVMI_EVENT_MSR;
		event->msr = load(u, 8);
		event->new_value = load(u + 8, 8);
		event->old_value = load(u + 16, 8);
		break;
	case REASON_SOFTWARE_BREAKPOINT:
	case REASON_DEBUG_EXCEPTION:
		debug_event(version, u, event);
		event->kind = head.reason == REASON_DEBUG_EXCEPTION ? HVMI_EVENT_DEBUG :
								      HVMI_EVENT_BREAKPOINT;
		event->gva = cs_base + rip;
		event->gpa += event->gva % PAGE;
		break;
	case REASON_SINGLESTEP:		/* gfn */
		event->kind = HVMI_EVENT_STEP;
		event->gva = cs_base + rip;
		event->gpa = load(u, 8) * PAGE + event->gva % PAGE;
		break;
	case REASON_GUEST_REQUEST:
		event->kind = HVMI_EVENT_GUEST_REQUEST;
		break;
	case REASON_CPUID:		/* insn_length, leaf, subleaf */
		event->kind = HVMI_EVENT_CPUID;
		event->insn_length = (uint32_t)load(u, 4);
		event->leaf = (uint32_t)load(u + 4, 4);
		event->subleaf = (uint32_t)load(u + 8, 4);
		break;
	case REASON_INTERRUPT:		/* vector, type, error code, padding, cr2 */
		event->kind = HVMI_EVENT_INTERRUPT;
		event->vector = (uint32_t)load(u, 4);
		event->type = (uint32_t)load(u + 4, 4);
		event->error_code = (uint32_t)load(u + 8, 4);
		event->cr2 = load(u + 16, 8);
		break;
	case REASON_DESCRIPTOR_ACCESS:	/* 16 bytes of the processor's, descriptor, is_write */
		event->kind = HVMI_EVENT_DESCRIPTOR;
		event->reg = descriptor_register(load(u + 16, 1));
		event->access = load(u + 17, 1) ? HVMI_RIGHT_WRITE : HVMI_RIGHT_READ;
		break;
	case REASON_EMUL_UNIMPLEMENTED:
		event->kind = HVMI_EVENT_UNIMPLEMENTED;
		break;
	case REASON_VMEXIT:		/* reason, qualification */
		event->kind = HVMI_EVENT_EXIT;
		event->exit_reason = load(u, 8);
		event->exit_qualification = load(u + 8, 8);
		break;
	case REASON_IO:			/* bytes, port, in, string */
		event->kind = HVMI_EVENT_IO;
		event->len = load(u, 4);
		event->port = (uint32_t)load(u + 4, 2);
		event->access = load(u + 6, 1) ? HVMI_RIGHT_READ : HVMI_RIGHT_WRITE;
		if (load(u + 7, 1))
			event->flags |= HVMI_EVENT_STRING;
		break;
	default:
		return -ENOTSUP;
	}
	return 0;
}

/* Xen takes the general registers, rip and rflags from the whole block. */
static bool settable(uint32_t id)
{
	return (id >= HVMI_X86_RAX && id <= HVMI_X86_R15) || id == HVMI_X86_RIP ||
	       id == HVMI_X86_RFLAGS;
}

static int put_registers(uint32_t version, uint8_t *response, const struct hvmi_registers *values,
			 struct hvmi_error *err)
{
	struct hvmi_registers now = { 0 };
	uint64_t value, before;
	registers_of(version, response, &now);
	for (uint32_t id = 1; id < HVMI_REGISTERS_MAX; id++) {
		if (hvmi_registers_get(values, id, &value) || settable(id))
			continue;
		/* What was copied from the event and left alone is no wish. */
		if (hvmi_registers_get(&now, id, &before) || before != value)
			return hvmi_error_set(err, -ENOTSUP, HVMI_NO_ADDRESS,
					      "an answer in Xen sets general registers, rip and "
					      "rflags, not %s: use hvmi_vm_set_registers()",
					      hvmi_register_name(id) ? hvmi_register_name(id) : "?");
	}
	uint8_t *at = response + AT_REGISTERS;
	for (size_t i = 0; i < LAYOUT_COUNT; i++) {
		if (!has(i, version))
			continue;
		if (settable(layout[i].id) && !hvmi_registers_get(values, layout[i].id, &value))
			store(at, value, layout[i].size);
		at += layout[i].size;
	}
	return 0;
}

/* What is emulated, and with what: vm_event_emulate_check() in xen/arch/x86/vm_event.c. */
static int put_emulation(uint32_t version, uint32_t reason, const struct hvmi_answer *answer,
			 uint8_t *response, uint32_t *flags, struct hvmi_error *err)
{
	bool insn = answer->flags & HVMI_ANSWER_INSN_DATA;
	bool data = answer->flags & HVMI_ANSWER_READ_DATA;
	uint32_t room = abi_request_size(version) - AT_REGISTERS - 4;
	if (reason == REASON_CPUID && !insn && !data && !(answer->flags & HVMI_ANSWER_REGISTERS)) {
		/* Its registers hold the result already; what is left is to go behind it. */
		uint64_t length = load(response + AT_UNION, 4);
		struct hvmi_registers now = { 0 };
		registers_of(version, response, &now);
		now.values[HVMI_X86_RIP] += length;
		*flags |= ABI_FLAG_SET_REGISTERS;
		return put_registers(version, response, &now, err);
	}
	if (insn ? reason != REASON_SOFTWARE_BREAKPOINT :
		   reason != REASON_MEM_ACCESS && reason != REASON_DESCRIPTOR_ACCESS)
		return hvmi_error_set(err, -ENOTSUP, HVMI_NO_ADDRESS,
				      "Xen emulates in answer to accesses and descriptor accesses, "
				      "and given instructions in answer to breakpoints");
	if (data && answer->data_len > room)
		return hvmi_error_set(err, -ENOTSUP, HVMI_NO_ADDRESS,
				      "this Xen takes %u bytes of data at most", room);
	*flags |= ABI_FLAG_EMULATE;
	if (answer->flags & HVMI_ANSWER_EMULATE_NO_WRITE)
		*flags |= ABI_FLAG_EMULATE_NOWRITE;
	if (insn) {
		*flags |= ABI_FLAG_SET_EMUL_INSN_DATA;
		memcpy(response + AT_REGISTERS, answer->data, answer->data_len);
	} else if (data) {
		*flags |= ABI_FLAG_SET_EMUL_READ_DATA;
		store(response + AT_REGISTERS, answer->data_len, 4);
		memcpy(response + AT_REGISTERS + 4, answer->data, answer->data_len);
	}
	return 0;
}

int abi_response(uint32_t version, const uint8_t *request, const struct hvmi_answer *answer,
		 int stepping, uint8_t *response, struct hvmi_error *err)
{
	uint8_t out[ABI_REQUEST_MAX];
	struct abi_head head;
	uint32_t f = answer->flags, size = abi_request_size(version);
	memcpy(out, request, size);
	abi_head(request, &head);
	uint32_t flags = head.flags & (ABI_FLAG_VCPU_PAUSED | ABI_FLAG_NESTED_P2M);
	int rc = 0;
	if (f & HVMI_ANSWER_EMULATE)
		rc = put_emulation(version, head.reason, answer, out, &flags, err);
	if (!rc && f & HVMI_ANSWER_REGISTERS) {
		flags |= ABI_FLAG_SET_REGISTERS;
		rc = put_registers(version, out, answer->registers, err);
	}
	if (rc)
		return rc;
	bool toggle = (f & HVMI_ANSWER_STEP && !stepping) || (f & HVMI_ANSWER_STEP_OFF && stepping);
	flags |= toggle ? ABI_FLAG_TOGGLE_SINGLESTEP : 0;
	flags |= f & HVMI_ANSWER_DENY ? ABI_FLAG_DENY : 0;
	flags |= f & HVMI_ANSWER_CONFIRM ? ABI_FLAG_GET_NEXT_INTERRUPT : 0;
	flags |= f & HVMI_ANSWER_RESET_TRACE ? ABI_FLAG_RESET_VMTRACE : 0;
	flags |= f & HVMI_ANSWER_RESET_FORK_STATE ? ABI_FLAG_RESET_FORK_STATE : 0;
	flags |= f & HVMI_ANSWER_RESET_FORK_MEMORY ? ABI_FLAG_RESET_FORK_MEMORY : 0;
	if (f & HVMI_ANSWER_VIEW) {
		flags |= ABI_FLAG_ALTERNATE_P2M;
		store(out + AT_VIEW, answer->view, 2);
	}
	if (f & HVMI_ANSWER_FAST_STEP) {
		/* One instruction in view 0; the view to return to lies over the union. */
		flags |= ABI_FLAG_FAST_SINGLESTEP | ABI_FLAG_ALTERNATE_P2M;
		store(out + AT_VIEW, 0, 2);
		store(out + AT_UNION, answer->view, 2);
	}
	store(out + AT_FLAGS, flags, 4);
	memcpy(response, out, size);
	return 0;
}

void abi_release(uint32_t version, uint32_t vcpu, uint8_t *response)
{
	memset(response, 0, abi_request_size(version));
	store(response + AT_VERSION, version, 4);
	store(response + AT_FLAGS, ABI_FLAG_VCPU_PAUSED, 4);
	store(response + AT_VCPU, vcpu, 4);
}
