/* SPDX-License-Identifier: Apache-2.0 */
#include "xen.h"

#include <xen/hvm/save.h>

/* An XSAVE area with all components that exist, with room. */
#define RECORD_MAX 65536u

/* Fields of struct hvm_hw_cpu, which is part of Xen's migration format and never changes. */
#define FIELD(id, field) { HVMI_X86_##id, offsetof(struct hvm_hw_cpu, field),                      \
			   sizeof(((struct hvm_hw_cpu *)NULL)->field) }
#define SEGMENT(ID, name)                                                                          \
	FIELD(ID##_SELECTOR, name##_sel), FIELD(ID##_BASE, name##_base),                           \
	FIELD(ID##_LIMIT, name##_limit), FIELD(ID##_RIGHTS, name##_arbytes)
static const struct {
	uint32_t id;
	size_t offset, size;
} fields[] = {
	FIELD(RAX, rax), FIELD(RBX, rbx), FIELD(RCX, rcx), FIELD(RDX, rdx), FIELD(RSP, rsp),
	FIELD(RBP, rbp), FIELD(RSI, rsi), FIELD(RDI, rdi), FIELD(R8, r8), FIELD(R9, r9),
	FIELD(R10, r10), FIELD(R11, r11), FIELD(R12, r12), FIELD(R13, r13), FIELD(R14, r14),
	FIELD(R15, r15), FIELD(RIP, rip), FIELD(RFLAGS, rflags), FIELD(CR0, cr0), FIELD(CR2, cr2),
	FIELD(CR3, cr3), FIELD(CR4, cr4), FIELD(DR0, dr0), FIELD(DR1, dr1), FIELD(DR2, dr2),
	FIELD(DR3, dr3), FIELD(DR6, dr6), FIELD(DR7, dr7), SEGMENT(CS, cs), SEGMENT(DS, ds),
	SEGMENT(ES, es), SEGMENT(FS, fs), SEGMENT(GS, gs), SEGMENT(SS, ss), SEGMENT(TR, tr),
	SEGMENT(LDTR, ldtr), FIELD(GDTR_BASE, gdtr_base), FIELD(GDTR_LIMIT, gdtr_limit),
	FIELD(IDTR_BASE, idtr_base), FIELD(IDTR_LIMIT, idtr_limit), FIELD(EFER, msr_efer),
	FIELD(STAR, msr_star), FIELD(LSTAR, msr_lstar), FIELD(CSTAR, msr_cstar),
	FIELD(SYSCALL_MASK, msr_syscall_mask), FIELD(SYSENTER_CS, sysenter_cs),
	FIELD(SYSENTER_ESP, sysenter_esp), FIELD(SYSENTER_EIP, sysenter_eip),
	FIELD(KERNEL_GS_BASE, shadow_gs), FIELD(TSC_AUX, msr_tsc_aux),
};

static bool is_rights(uint32_t id)
{
	return id == HVMI_X86_CS_RIGHTS || id == HVMI_X86_DS_RIGHTS || id == HVMI_X86_ES_RIGHTS ||
	       id == HVMI_X86_FS_RIGHTS || id == HVMI_X86_GS_RIGHTS || id == HVMI_X86_SS_RIGHTS ||
	       id == HVMI_X86_TR_RIGHTS || id == HVMI_X86_LDTR_RIGHTS;
}

/* Xen keeps them packed as AMD does (APM volume 2, 15.5.1); ours have Intel's gap and bit 16. */
static uint64_t rights_from_packed(uint64_t packed)
{
	uint64_t rights = (packed & 0xff) | (packed & 0xf00) << 4;
	return packed & 0x80 ? rights : rights | 1u << 16;
}

static uint64_t rights_to_packed(uint64_t rights)
{
	uint64_t packed = (rights & 0xff) | (rights >> 4 & 0xf00);
	return rights & 1u << 16 ? packed & ~UINT64_C(0x80) : packed;
}

/* One record of a vCPU; the length is not known before. */
static int record(const struct xen *xen, unsigned type, uint32_t vcpu, void *buf, size_t size)
{
	const struct xen_libs *libs = &xen->libs;
	memset(buf, 0, size);
	return libs->xc_domain_hvm_getcontext_partial(libs->xch, xen->domain.id, (uint16_t)type,
						      (uint16_t)vcpu, buf, (uint32_t)size);
}

static int hvm_registers(const struct xen *xen, uint32_t vcpu, struct hvmi_registers *ret,
			 struct hvmi_error *err)
{
	struct hvm_hw_cpu cpu;
	struct hvm_hw_mtrr mtrr;
	if (record(xen, HVM_SAVE_CODE(CPU), vcpu, &cpu, sizeof(cpu)) < 0)
		return errno == ENODATA || errno == ENOENT ?
			       hvmi_error_set(err, -ENOTSUP, HVMI_NO_ADDRESS,
					      "vCPU %u was not started by the guest", vcpu) :
			       xen_failed(xen, err, "its registers cannot be read");
	for (size_t i = 0; i < sizeof(fields) / sizeof(*fields); i++) {
		uint64_t value = 0;
		memcpy(&value, (const char *)&cpu + fields[i].offset, fields[i].size);
		hvmi_registers_set(ret, fields[i].id,
				   is_rights(fields[i].id) ? rights_from_packed(value) : value);
	}
	if (record(xen, HVM_SAVE_CODE(MTRR), vcpu, &mtrr, sizeof(mtrr)) >= 0)
		hvmi_registers_set(ret, HVMI_X86_PAT, mtrr.msr_pat_cr);
	uint8_t *area = malloc(RECORD_MAX);
	if (area && record(xen, CPU_XSAVE_CODE, vcpu, area, RECORD_MAX) >= 0) {
		uint64_t xcr0;
		memcpy(&xcr0, area + offsetof(struct hvm_hw_cpu_xsave, xcr0), sizeof(xcr0));
		hvmi_registers_set(ret, HVMI_X86_XCR0, xcr0);
	}
	free(area);
	return 0;
}

static int pv_registers(const struct xen *xen, uint32_t vcpu, struct hvmi_registers *ret,
			struct hvmi_error *err)
{
	const struct xen_libs *libs = &xen->libs;
	vcpu_guest_context_any_t any;
	memset(&any, 0, sizeof(any));
	if (libs->xc_vcpu_getcontext(libs->xch, xen->domain.id, vcpu, &any) < 0)
		return xen_failed(xen, err, "its registers cannot be read");
	const vcpu_guest_context_x86_64_t *c = &any.x64;
	const cpu_user_regs_x86_64_t *r = &c->user_regs;
	const struct {
		uint32_t id;
		uint64_t value;
	} values[] = {
		{ HVMI_X86_RAX, r->rax }, { HVMI_X86_RBX, r->rbx }, { HVMI_X86_RCX, r->rcx },
		{ HVMI_X86_RDX, r->rdx }, { HVMI_X86_RSP, r->rsp }, { HVMI_X86_RBP, r->rbp },
		{ HVMI_X86_RSI, r->rsi }, { HVMI_X86_RDI, r->rdi }, { HVMI_X86_R8, r->r8 },
		{ HVMI_X86_R9, r->r9 }, { HVMI_X86_R10, r->r10 }, { HVMI_X86_R11, r->r11 },
		{ HVMI_X86_R12, r->r12 }, { HVMI_X86_R13, r->r13 }, { HVMI_X86_R14, r->r14 },
		{ HVMI_X86_R15, r->r15 }, { HVMI_X86_RIP, r->rip },
		{ HVMI_X86_RFLAGS, r->rflags }, { HVMI_X86_CS_SELECTOR, r->cs },
		{ HVMI_X86_SS_SELECTOR, r->ss }, { HVMI_X86_DS_SELECTOR, r->ds },
		{ HVMI_X86_ES_SELECTOR, r->es }, { HVMI_X86_FS_SELECTOR, r->fs },
		{ HVMI_X86_GS_SELECTOR, r->gs }, { HVMI_X86_FS_BASE, c->fs_base },
		{ HVMI_X86_GS_BASE, c->flags & VGCF_in_kernel ? c->gs_base_kernel :
								 c->gs_base_user },
		{ HVMI_X86_KERNEL_GS_BASE, c->flags & VGCF_in_kernel ? c->gs_base_user :
									c->gs_base_kernel },
		{ HVMI_X86_CR0, c->ctrlreg[0] }, { HVMI_X86_CR2, c->ctrlreg[2] },
		{ HVMI_X86_CR3, xen_cr3_to_pfn_x86_64(c->ctrlreg[3]) * XEN_PAGE },
		{ HVMI_X86_CR4, c->ctrlreg[4] }, { HVMI_X86_DR0, c->debugreg[0] },
		{ HVMI_X86_DR1, c->debugreg[1] }, { HVMI_X86_DR2, c->debugreg[2] },
		{ HVMI_X86_DR3, c->debugreg[3] }, { HVMI_X86_DR6, c->debugreg[6] },
		{ HVMI_X86_DR7, c->debugreg[7] },
	};
	for (size_t i = 0; i < sizeof(values) / sizeof(*values); i++)
		hvmi_registers_set(ret, values[i].id, values[i].value);
	return 0;
}

int xen_get_registers(void *machine, uint32_t vcpu, struct hvmi_registers *ret,
		      struct hvmi_error *err)
{
	const struct xen *xen = machine;
	return xen->domain.hvm ? hvm_registers(xen, vcpu, ret, err) :
				 pv_registers(xen, vcpu, ret, err);
}

static int change(struct hvm_hw_cpu *cpu, const struct hvmi_registers *values,
		  struct hvmi_error *err)
{
	struct hvmi_registers left = *values;
	for (size_t i = 0; i < sizeof(fields) / sizeof(*fields); i++) {
		uint64_t value;
		if (hvmi_registers_get(&left, fields[i].id, &value))
			continue;
		if (is_rights(fields[i].id))
			value = rights_to_packed(value);
		if (fields[i].size < 8 && value >> 8 * fields[i].size)
			return hvmi_error_set(err, -EINVAL, HVMI_NO_ADDRESS,
					      "%s has %zu bytes only",
					      hvmi_register_name(fields[i].id), fields[i].size);
		memcpy((char *)cpu + fields[i].offset, &value, fields[i].size);
		left.known[fields[i].id / 64] &= ~(1ull << fields[i].id % 64);
	}
	for (uint32_t id = 0; id < HVMI_REGISTERS_MAX; id++)
		if (hvmi_registers_known(&left, id))
			return hvmi_error_set(err, -ENOTSUP, HVMI_NO_ADDRESS,
					      "%s cannot be set in a domain of Xen",
					      hvmi_register_name(id) ? hvmi_register_name(id) : "?");
	return 0;
}

/* Copies a record to the end of a context; 0 if there is none. */
static size_t take_record(uint8_t *to, const uint8_t *context, size_t len, unsigned type,
			  uint32_t vcpu)
{
	struct hvm_save_descriptor d;
	for (size_t at = 0; at + sizeof(d) <= len; at += sizeof(d) + d.length) {
		memcpy(&d, context + at, sizeof(d));
		if (d.length > len - at - sizeof(d))
			return 0;
		if (d.typecode != type || d.instance != vcpu)
			continue;
		memcpy(to, context + at, sizeof(d) + d.length);
		return sizeof(d) + d.length;
	}
	return 0;
}

/*
 * A context with this vCPU's records and no others leaves devices and the other vCPUs alone. The XSAVE
 * record must be there, or Xen resets what the CPU record does not hold.
 */
static int change_context(struct xen *xen, uint32_t vcpu, const struct hvmi_registers *values,
			  uint8_t *whole, size_t len, uint8_t *part, struct hvmi_error *err)
{
	static const unsigned types[] = { HVM_SAVE_CODE(HEADER), HVM_SAVE_CODE(CPU),
					  CPU_XSAVE_CODE, HVM_SAVE_CODE(END) };
	size_t used = 0;
	for (size_t i = 0; i < sizeof(types) / sizeof(*types); i++) {
		bool own = types[i] == HVM_SAVE_CODE(CPU) || types[i] == CPU_XSAVE_CODE;
		size_t n = take_record(part + used, whole, len, types[i], own ? vcpu : 0);
		if (n == 0 && types[i] != CPU_XSAVE_CODE)
			return hvmi_error_set(err, -ENOTSUP, HVMI_NO_ADDRESS,
					      "vCPU %u was not started by the guest", vcpu);
		if (n && types[i] == HVM_SAVE_CODE(CPU)) {
			struct hvm_hw_cpu cpu;
			uint8_t *at = part + used + sizeof(struct hvm_save_descriptor);
			memcpy(&cpu, at, sizeof(cpu));
			int rc = change(&cpu, values, err);
			if (rc)
				return rc;
			memcpy(at, &cpu, sizeof(cpu));
		}
		used += n;
	}
	if (xen->libs.xc_domain_hvm_setcontext(xen->libs.xch, xen->domain.id, part,
					       (uint32_t)used) < 0)
		return errno == EINVAL ?
			       hvmi_error_set(err, -EINVAL, HVMI_NO_ADDRESS,
					      "Xen refuses these values: a control register has a "
					      "bit that the guest's processor lacks") :
			       xen_failed(xen, err, "its registers cannot be set");
	return 0;
}

int xen_set_registers(void *machine, uint32_t vcpu, const struct hvmi_registers *values,
		      struct hvmi_error *err)
{
	struct xen *xen = machine;
	const struct xen_libs *libs = &xen->libs;
	if (!xen->domain.hvm)
		return hvmi_error_set(err, -ENOTSUP, HVMI_NO_ADDRESS,
				      "registers of PV guests cannot be set");
	int size = libs->xc_domain_hvm_getcontext(libs->xch, xen->domain.id, NULL, 0);
	if (size <= 0)
		return xen_failed(xen, err, "its registers cannot be read");
	uint8_t *whole = calloc(2, (size_t)size);
	if (!whole)
		return hvmi_error_set(err, -ENOMEM, HVMI_NO_ADDRESS, "out of memory");
	int len = libs->xc_domain_hvm_getcontext(libs->xch, xen->domain.id, whole, (uint32_t)size);
	int rc = len <= 0 || len > size ?
			 xen_failed(xen, err, "its registers cannot be read") :
			 change_context(xen, vcpu, values, whole, (size_t)len, whole + size, err);
	free(whole);
	return rc;
}

int xen_inject(void *machine, uint32_t vcpu, const struct hvmi_injection *i,
	       struct hvmi_error *err)
{
	struct xen *xen = machine;
	const struct xen_libs *libs = &xen->libs;
	if (libs->xendevicemodel_inject_event(libs->devices, (domid_t)xen->domain.id, (int)vcpu,
					      (uint8_t)i->vector, (uint8_t)i->type, i->error_code,
					      (uint8_t)i->insn_length, i->cr2) == 0)
		return 0;
	if (errno == EBUSY)
		return hvmi_error_set(err, -EBUSY, HVMI_NO_ADDRESS,
				      "vCPU %u has an injection that it has not taken yet", vcpu);
	return xen_failed(xen, err, "nothing can be injected");
}

int xen_pause(void *machine, struct hvmi_error *err)
{
	struct xen *xen = machine;
	if (xen->libs.xc_domain_pause(xen->libs.xch, xen->domain.id) < 0)
		return xen_failed(xen, err, "it cannot be paused");
	xen_holder_pauses(xen->holder, 1);
	return 0;
}

int xen_resume(void *machine, struct hvmi_error *err)
{
	struct xen *xen = machine;
	if (xen->libs.xc_domain_unpause(xen->libs.xch, xen->domain.id) < 0)
		return xen_failed(xen, err, "it cannot be resumed");
	xen_holder_pauses(xen->holder, -1);
	return 0;
}
