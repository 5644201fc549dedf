/* SPDX-License-Identifier: Apache-2.0 */
#include "abi.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>

#include <xenctrl.h>
#include <xen/vm_event.h>

/* Since 4.18: not in every header. */
#ifndef VM_EVENT_REASON_IO_INSTRUCTION
#define VM_EVENT_REASON_IO_INSTRUCTION 16
#endif

#define RFLAGS_TF (1u << 8)
/* Single step: Intel SDM volume 3, 18.2.3. */
#define DR6_BS (1u << 14)

/* The same in all versions: before the registers, and the first of these. */
struct header {
	uint32_t version, flags, reason, vcpu;
	uint16_t view, pad[3];
};
union body {
	struct {
		uint64_t gfn, offset, gla;
		uint32_t flags, pad;
	} access;
	struct {
		uint32_t index, pad;
		uint64_t new_value, old_value;
	} control;
	struct {
		uint64_t msr, new_value, old_value;
	} msr;
	/* Versions 3 to 5. */
	struct {
		uint64_t gfn;
		uint32_t insn_length;
		uint8_t type, pad[3];
	} debug3;
	/* From version 6 on. */
	struct {
		uint64_t gfn, pending;
		uint32_t insn_length;
		uint8_t type, pad[3];
	} debug6;
	struct {
		uint64_t arch[2];
		uint8_t descriptor, is_write, pad[6];
	} descriptor;
	struct {
		uint32_t insn_length, leaf, subleaf, pad;
	} cpuid;
	struct {
		uint32_t vector, type, error_code, pad;
		uint64_t cr2;
	} interrupt;
	struct {
		uint64_t reason, qualification;
	} exit;
	struct {
		uint32_t bytes;
		uint16_t port;
		uint8_t in, string;
	} io;
	struct {
		uint16_t view;
	} fast_step;
};
struct selector {
	uint32_t packed;	/* limit in 20 bits, attributes in 12 */
};
#define COMMON                                                                                     \
	uint64_t rax, rcx, rdx, rbx, rsp, rbp, rsi, rdi, r8, r9, r10, r11, r12, r13, r14, r15,     \
		rflags;
#define CONTROL                                                                                    \
	uint64_t dr7, rip, cr0, cr2, cr3, cr4, sysenter_cs, sysenter_esp, sysenter_eip, efer,      \
		star, lstar;
#define SEGMENTS                                                                                   \
	uint32_t cs_base, ss_base, ds_base, es_base;                                               \
	uint64_t fs_base, gs_base;                                                                 \
	struct selector cs, ss, ds, es, fs, gs;                                                    \
	uint64_t kernel_gs_base;
struct registers3 {
	COMMON
	CONTROL
	uint64_t fs_base, gs_base;
	uint32_t cs_attributes, pad;
};
struct registers4 {
	COMMON
	uint64_t dr6;
	CONTROL
	SEGMENTS
	uint16_t cs_sel, ss_sel, ds_sel, es_sel, fs_sel, gs_sel;
	uint32_t pad;
};
struct registers5 {
	COMMON
	uint64_t dr6;
	CONTROL
	uint64_t gdtr_base;
	SEGMENTS
	uint16_t gdtr_limit, cs_sel, ss_sel, ds_sel, es_sel, fs_sel, gs_sel, pad;
};
struct registers7 {
	COMMON
	uint64_t dr6;
	CONTROL
	uint64_t gdtr_base, npt_base, vmtrace_pos;
	SEGMENTS
	uint16_t gdtr_limit, cs_sel, ss_sel, ds_sel, es_sel, fs_sel, gs_sel, pad;
};
#define BODY sizeof(struct header)
#define REGISTERS (sizeof(struct header) + sizeof(union body))
_Static_assert(REGISTERS + sizeof(struct registers3) == 312, "version 3");
_Static_assert(REGISTERS + sizeof(struct registers4) == 376, "version 4");
_Static_assert(REGISTERS + sizeof(struct registers5) == 384, "versions 5 and 6");
_Static_assert(REGISTERS + sizeof(struct registers7) == ABI_BYTES_MAX, "version 7");
#if VM_EVENT_INTERFACE_VERSION == 7
_Static_assert(sizeof(vm_event_request_t) == ABI_BYTES_MAX &&
	       offsetof(vm_event_request_t, u) == BODY &&
	       offsetof(vm_event_request_t, data) == REGISTERS &&
	       offsetof(struct vm_event_regs_x86, gs_sel) == offsetof(struct registers7, gs_sel),
	       "version 7 is not as it was");
#endif

/* Where a version has a register. */
enum form { PLAIN, PACKED_LIMIT, PACKED_RIGHTS, ATTRIBUTES };
struct place {
	uint16_t id, offset;
	uint8_t bytes, form;
};
#define PLACE(s, id_, member, form_)                                                               \
	{ .id = HVMI_X86_##id_, .offset = offsetof(struct s, member),                              \
	  .bytes = sizeof(((struct s *)0)->member), .form = form_ }
#define AT(s, id_, member) PLACE(s, id_, member, PLAIN)
#define SEGMENT(s, id_, name)                                                                      \
	AT(s, id_##_SELECTOR, name##_sel), AT(s, id_##_BASE, name##_base),                         \
	PLACE(s, id_##_LIMIT, name, PACKED_LIMIT), PLACE(s, id_##_RIGHTS, name, PACKED_RIGHTS)
/* The first of them are those that a response sets. */
#define GENERAL(s)                                                                                 \
	AT(s, RAX, rax), AT(s, RCX, rcx), AT(s, RDX, rdx), AT(s, RBX, rbx), AT(s, RSP, rsp),       \
	AT(s, RBP, rbp), AT(s, RSI, rsi), AT(s, RDI, rdi), AT(s, R8, r8), AT(s, R9, r9),           \
	AT(s, R10, r10), AT(s, R11, r11), AT(s, R12, r12), AT(s, R13, r13), AT(s, R14, r14),       \
	AT(s, R15, r15), AT(s, RFLAGS, rflags), AT(s, RIP, rip)
#define GENERAL_COUNT 18u
#define SYSTEM(s)                                                                                  \
	AT(s, DR7, dr7), AT(s, CR0, cr0), AT(s, CR2, cr2), AT(s, CR3, cr3), AT(s, CR4, cr4),       \
	AT(s, SYSENTER_CS, sysenter_cs), AT(s, SYSENTER_ESP, sysenter_esp),                        \
	AT(s, SYSENTER_EIP, sysenter_eip), AT(s, EFER, efer), AT(s, STAR, star),                   \
	AT(s, LSTAR, lstar)
#define FULL(s)                                                                                    \
	GENERAL(s), SYSTEM(s), AT(s, DR6, dr6), SEGMENT(s, CS, cs), SEGMENT(s, SS, ss),            \
	SEGMENT(s, DS, ds), SEGMENT(s, ES, es), SEGMENT(s, FS, fs), SEGMENT(s, GS, gs),            \
	AT(s, KERNEL_GS_BASE, kernel_gs_base)
#define GDTR(s) AT(s, GDTR_BASE, gdtr_base), AT(s, GDTR_LIMIT, gdtr_limit)

static const struct place places3[] = {
	GENERAL(registers3), SYSTEM(registers3), AT(registers3, FS_BASE, fs_base),
	AT(registers3, GS_BASE, gs_base), PLACE(registers3, CS_RIGHTS, cs_attributes, ATTRIBUTES),
};
static const struct place places4[] = { FULL(registers4) };
static const struct place places5[] = { FULL(registers5), GDTR(registers5) };
static const struct place places7[] = { FULL(registers7), GDTR(registers7) };

static const struct {
	const struct place *places;
	uint16_t count, bytes;
} versions[ABI_VERSION_MAX + 1] = {
#define VERSION(p, s) { p, sizeof(p) / sizeof(*(p)), REGISTERS + sizeof(struct s) }
	[3] = VERSION(places3, registers3), [4] = VERSION(places4, registers4),
	[5] = VERSION(places5, registers5), [6] = VERSION(places5, registers5),
	[7] = VERSION(places7, registers7),
};

uint32_t abi_rights(uint32_t attributes)
{
	uint32_t rights = (attributes & 0xff) | (attributes & 0xf00) << 4;
	/* What is not present is what VMX calls unusable. */
	return attributes & 0x80 ? rights : rights | 0x10000;
}

uint32_t abi_attributes(uint32_t rights)
{
	uint32_t attributes = (rights & 0xff) | (rights >> 4 & 0xf00);
	return rights & 0x10000 ? attributes & ~0x80u : attributes;
}

uint32_t abi_bytes(uint32_t version)
{
	return version <= ABI_VERSION_MAX ? versions[version].bytes : 0;
}

uint32_t abi_version_of(uint32_t minor)
{
	static const uint8_t of[] = { [11] = 3, [12] = 4, [13] = 5, [14] = 6, [15] = 7 };
	return minor < sizeof(of) ? of[minor] : 7;
}

bool abi_sets(uint32_t id)
{
	for (uint32_t i = 0; i < GENERAL_COUNT; i++)
		if (places7[i].id == id)
			return true;
	return false;
}

static void take_registers(uint32_t version, const uint8_t *from, struct hvmi_registers *ret)
{
	for (uint32_t i = 0; i < versions[version].count; i++) {
		const struct place *p = &versions[version].places[i];
		uint64_t value = 0;
		memcpy(&value, from + p->offset, p->bytes);
		if (p->form == PACKED_LIMIT)
			/* In pages where G is set. */
			value = value >> 31 ? (value & 0xfffff) << 12 | 0xfff : value & 0xfffff;
		else if (p->form != PLAIN)
			value = abi_rights((uint32_t)(p->form == PACKED_RIGHTS ? value >> 20 : value));
		hvmi_registers_set(ret, p->id, value);
	}
}

/* Where the vCPU stands, as a linear address. */
static uint64_t linear_rip(const struct hvmi_registers *r)
{
	uint64_t rip = r->values[HVMI_X86_RIP];
	bool long_mode = r->values[HVMI_X86_EFER] >> 10 & 1;
	bool code64 = r->values[HVMI_X86_CS_RIGHTS] >> 13 & 1;
	if ((long_mode && code64) || !hvmi_registers_known(r, HVMI_X86_CS_BASE))
		return rip;
	return (uint32_t)(r->values[HVMI_X86_CS_BASE] + rip);
}

static uint64_t gpa_at(uint64_t gfn, uint64_t gva)
{
	/* Xen has all ones where there is no translation; addresses have 52 bits at most. */
	return gfn >> 40 ? HVMI_NO_ADDRESS : gfn << 12 | (gva & 0xfff);
}

static void take_access(const union body *u, struct abi_request *q, struct hvmi_event *e)
{
	uint32_t flags = u->access.flags;
	e->kind = HVMI_EVENT_ACCESS;
	e->access = (flags & MEM_ACCESS_R ? HVMI_RIGHT_READ : 0) |
		    (flags & MEM_ACCESS_W ? HVMI_RIGHT_WRITE : 0) |
		    (flags & MEM_ACCESS_X ? HVMI_RIGHT_EXECUTE : 0);
	if (flags & MEM_ACCESS_GLA_VALID)
		e->gva = u->access.gla;
	if (flags & MEM_ACCESS_FAULT_IN_GPT)
		e->flags |= HVMI_EVENT_IN_PAGE_WALK;
	e->gpa = gpa_at(u->access.gfn, u->access.offset);
	q->gfn = u->access.gfn;
}

static void take_control(const union body *u, struct hvmi_event *e)
{
	static const uint32_t ids[] = {
		[VM_EVENT_X86_CR0] = HVMI_X86_CR0, [VM_EVENT_X86_CR3] = HVMI_X86_CR3,
		[VM_EVENT_X86_CR4] = HVMI_X86_CR4, [VM_EVENT_X86_XCR0] = HVMI_X86_XCR0,
	};
	if (u->control.index >= sizeof(ids) / sizeof(*ids))
		return;
	e->kind = HVMI_EVENT_REGISTER;
	e->reg = ids[u->control.index];
	e->old_value = u->control.old_value;
	e->new_value = u->control.new_value;
}

/* On Intel, Xen up to 4.20 at least leaves out what is pending: a vCPU that steps tells it itself. */
static uint64_t pending_debug(const union body *u, uint64_t rflags)
{
	bool exception = u->debug6.type == 3;
	return !u->debug6.pending && exception && rflags & RFLAGS_TF ? DR6_BS : u->debug6.pending;
}

static void take_debug(uint32_t version, const union body *u, uint64_t gva, uint64_t rflags,
		       struct abi_request *q, struct hvmi_event *e)
{
	bool breakpoint = q->reason == VM_EVENT_REASON_SOFTWARE_BREAKPOINT;
	e->kind = breakpoint ? HVMI_EVENT_BREAKPOINT : HVMI_EVENT_DEBUG;
	e->gva = gva;
	e->insn_length = version >= 6 ? u->debug6.insn_length : u->debug3.insn_length;
	q->trap_type = version >= 6 ? u->debug6.type : u->debug3.type;
	if (breakpoint)
		e->gpa = gpa_at(u->debug3.gfn, gva);
	else if (version >= 6)
		e->pending_debug = q->pending_debug = pending_debug(u, rflags);
}

static void take_descriptor(const union body *u, struct hvmi_event *e)
{
	static const uint32_t ids[] = {
		[VM_EVENT_DESC_IDTR] = HVMI_X86_IDTR_BASE, [VM_EVENT_DESC_GDTR] = HVMI_X86_GDTR_BASE,
		[VM_EVENT_DESC_LDTR] = HVMI_X86_LDTR_BASE, [VM_EVENT_DESC_TR] = HVMI_X86_TR_BASE,
	};
	uint8_t descriptor = u->descriptor.descriptor;
	if (descriptor >= sizeof(ids) / sizeof(*ids) || !ids[descriptor])
		return;
	e->kind = HVMI_EVENT_DESCRIPTOR;
	e->reg = ids[descriptor];
	e->access = u->descriptor.is_write ? HVMI_RIGHT_WRITE : HVMI_RIGHT_READ;
}

static void take_body(uint32_t version, const union body *u, uint64_t gva, uint64_t rflags,
		      struct abi_request *q, struct hvmi_event *e)
{
	switch (q->reason) {
	case VM_EVENT_REASON_MEM_ACCESS:
		take_access(u, q, e);
		break;
	case VM_EVENT_REASON_WRITE_CTRLREG:
		take_control(u, e);
		break;
	case VM_EVENT_REASON_MOV_TO_MSR:
		e->kind = HVMI_EVENT_MSR;
		e->msr = u->msr.msr;
		e->old_value = u->msr.old_value;
		e->new_value = u->msr.new_value;
		break;
	case VM_EVENT_REASON_SOFTWARE_BREAKPOINT:
	case VM_EVENT_REASON_DEBUG_EXCEPTION:
		take_debug(version, u, gva, rflags, q, e);
		break;
	case VM_EVENT_REASON_SINGLESTEP:
		e->kind = HVMI_EVENT_STEP;
		break;
	case VM_EVENT_REASON_GUEST_REQUEST:
		e->kind = HVMI_EVENT_GUEST_REQUEST;
		break;
	case VM_EVENT_REASON_CPUID:
		e->kind = HVMI_EVENT_CPUID;
		e->leaf = u->cpuid.leaf;
		e->subleaf = u->cpuid.subleaf;
		e->insn_length = u->cpuid.insn_length;
		break;
	case VM_EVENT_REASON_INTERRUPT:
		e->kind = HVMI_EVENT_INTERRUPT;
		e->vector = u->interrupt.vector;
		e->type = u->interrupt.type;
		e->error_code = u->interrupt.error_code;
		e->cr2 = u->interrupt.cr2;
		break;
	case VM_EVENT_REASON_DESCRIPTOR_ACCESS:
		take_descriptor(u, e);
		break;
	case VM_EVENT_REASON_EMUL_UNIMPLEMENTED:
		e->kind = HVMI_EVENT_UNIMPLEMENTED;
		break;
	case VM_EVENT_REASON_VMEXIT:
		e->kind = HVMI_EVENT_EXIT;
		e->exit_reason = u->exit.reason;
		e->exit_qualification = u->exit.qualification;
		break;
	case VM_EVENT_REASON_IO_INSTRUCTION:
		e->kind = HVMI_EVENT_IO;
		e->port = u->io.port;
		e->len = u->io.bytes;
		e->access = u->io.in ? HVMI_RIGHT_READ : HVMI_RIGHT_WRITE;
		e->flags |= u->io.string ? HVMI_EVENT_STRING : 0;
		break;
	default:
		break;
	}
}

int abi_request(uint32_t version, const void *raw, struct abi_request *ret, struct hvmi_event *event,
		struct hvmi_registers *registers)
{
	struct header h;
	union body u;
	memcpy(&h, raw, sizeof(h));
	memcpy(&u, (const uint8_t *)raw + BODY, sizeof(u));
	if (h.version != version)
		return -EBADMSG;
	*ret = (struct abi_request){ .reason = h.reason, .vcpu = h.vcpu,
				     .paused = h.flags & VM_EVENT_FLAG_VCPU_PAUSED };
	take_registers(version, (const uint8_t *)raw + REGISTERS, registers);
	event->vcpu = h.vcpu;
	event->flags = ret->paused ? HVMI_EVENT_WAITS : 0;
	if (version >= 7 && h.flags & VM_EVENT_FLAG_NESTED_P2M)
		event->flags |= HVMI_EVENT_NESTED;
	if (h.flags & VM_EVENT_FLAG_ALTERNATE_P2M)
		event->view = h.view;
	take_body(version, &u, linear_rip(registers), registers->values[HVMI_X86_RFLAGS], ret, event);
	return 0;
}

static void put_registers(uint32_t version, uint8_t *to, const struct hvmi_registers *values)
{
	for (uint32_t i = 0; i < GENERAL_COUNT; i++) {
		const struct place *p = &versions[version].places[i];
		if (hvmi_registers_known(values, p->id))
			memcpy(to + p->offset, &values->values[p->id], p->bytes);
	}
}

void abi_respond(uint32_t version, void *raw, const struct abi_response *r)
{
	struct header h;
	uint8_t *bytes = raw;
	memcpy(&h, raw, sizeof(h));
	h.flags = (h.flags & VM_EVENT_FLAG_VCPU_PAUSED) | r->flags;
	h.reason = r->reason;
	h.view = r->view;
	memcpy(raw, &h, sizeof(h));
	if (r->flags & VM_EVENT_FLAG_FAST_SINGLESTEP)
		memcpy(bytes + BODY, &r->step_view, sizeof(r->step_view));
	if (r->flags & VM_EVENT_FLAG_SET_REGISTERS)
		put_registers(version, bytes + REGISTERS, r->registers);
	if (r->flags & VM_EVENT_FLAG_SET_EMUL_READ_DATA) {
		memcpy(bytes + REGISTERS, &r->data_len, sizeof(r->data_len));
		memcpy(bytes + REGISTERS + sizeof(r->data_len), r->data, r->data_len);
	} else if (r->flags & VM_EVENT_FLAG_SET_EMUL_INSN_DATA) {
		memcpy(bytes + REGISTERS, r->data, r->data_len);
	}
}

void abi_release(uint32_t version, void *raw, uint32_t vcpu)
{
	struct header h = { .version = version, .flags = VM_EVENT_FLAG_VCPU_PAUSED, .vcpu = vcpu };
	memset(raw, 0, versions[version].bytes);
	memcpy(raw, &h, sizeof(h));
}
