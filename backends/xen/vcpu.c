/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Registers of HVM and PVH guests: records of what Xen saves of a domain (xen/include/public/arch-x86/
 * hvm/save.h), whose layouts never change. They are set by loading such records again. Xen stops vCPUs
 * of which no record is loaded, and forgets what a CPU's record does not hold (the upper halves of
 * vector registers), so CPU and XSAVE of every vCPU are loaded.
 */
#include "domain.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <x86intrin.h>

#include <xen/hvm/save.h>

#include "abi.h"

/* An XSAVE area with AMX is 11 KiB. */
#define RECORD_MAX 32768u

struct field {
	uint16_t id, offset;
	uint8_t bytes;
	bool rights;
};

#define FIELD(id_, member)                                                                         \
	{ .id = HVMI_X86_##id_, .offset = offsetof(struct hvm_hw_cpu, member),                     \
	  .bytes = sizeof(((struct hvm_hw_cpu *)0)->member) }
#define SEGMENT(id_, name)                                                                         \
	FIELD(id_##_SELECTOR, name##_sel), FIELD(id_##_BASE, name##_base),                         \
	FIELD(id_##_LIMIT, name##_limit),                                                          \
	{ .id = HVMI_X86_##id_##_RIGHTS, .offset = offsetof(struct hvm_hw_cpu, name##_arbytes),    \
	  .bytes = 4, .rights = true }

static const struct field fields[] = {
	FIELD(RAX, rax), FIELD(RCX, rcx), FIELD(RDX, rdx), FIELD(RBX, rbx), FIELD(RSP, rsp),
	FIELD(RBP, rbp), FIELD(RSI, rsi), FIELD(RDI, rdi), FIELD(R8, r8), FIELD(R9, r9),
	FIELD(R10, r10), FIELD(R11, r11), FIELD(R12, r12), FIELD(R13, r13), FIELD(R14, r14),
	FIELD(R15, r15), FIELD(RIP, rip), FIELD(RFLAGS, rflags), FIELD(CR0, cr0), FIELD(CR2, cr2),
	FIELD(CR3, cr3), FIELD(CR4, cr4), FIELD(DR0, dr0), FIELD(DR1, dr1), FIELD(DR2, dr2),
	FIELD(DR3, dr3), FIELD(DR6, dr6), FIELD(DR7, dr7),
	SEGMENT(CS, cs), SEGMENT(DS, ds), SEGMENT(ES, es), SEGMENT(FS, fs), SEGMENT(GS, gs),
	SEGMENT(SS, ss), SEGMENT(TR, tr), SEGMENT(LDTR, ldtr),
	FIELD(GDTR_BASE, gdtr_base), FIELD(GDTR_LIMIT, gdtr_limit), FIELD(IDTR_BASE, idtr_base),
	FIELD(IDTR_LIMIT, idtr_limit), FIELD(SYSENTER_CS, sysenter_cs),
	FIELD(SYSENTER_ESP, sysenter_esp), FIELD(SYSENTER_EIP, sysenter_eip),
	FIELD(KERNEL_GS_BASE, shadow_gs), FIELD(STAR, msr_star), FIELD(LSTAR, msr_lstar),
	FIELD(CSTAR, msr_cstar), FIELD(SYSCALL_MASK, msr_syscall_mask), FIELD(EFER, msr_efer),
	FIELD(TSC_AUX, msr_tsc_aux),
};
#define FIELDS (sizeof(fields) / sizeof(*fields))

/* One record of a vCPU: its length, or -1 with errno. */
static int get_record(const struct domain *d, uint16_t code, uint32_t vcpu, void *buf, uint32_t size)
{
	const struct xen *xen = &d->xen;
	/* It says 0 without the length. */
	memset(buf, 0, size);
	return xen->l.xc_domain_hvm_getcontext_partial(xen->xc, d->id, code, (uint16_t)vcpu, buf,
						       size);
}

static int get_hvm(const struct domain *d, uint32_t vcpu, struct hvmi_registers *ret, uint8_t *buf,
		   struct hvmi_error *err)
{
	if (get_record(d, HVM_SAVE_CODE(CPU), vcpu, buf, RECORD_MAX)) {
		if (errno == ENODATA)
			return hvmi_error_set(err, -ENOENT, HVMI_NO_ADDRESS,
					      "vCPU %u of %s is offline", vcpu, d->label);
		return domain_fail(d, err, "reading registers of vCPU %u", vcpu);
	}
	for (size_t i = 0; i < FIELDS; i++) {
		uint64_t value = 0;
		memcpy(&value, buf + fields[i].offset, fields[i].bytes);
		hvmi_registers_set(ret, fields[i].id,
				   fields[i].rights ? abi_rights((uint32_t)value) : value);
	}
	/* Where a processor does not have them, nor has the guest. */
	if (get_record(d, CPU_XSAVE_CODE, vcpu, buf, RECORD_MAX) == 0)
		hvmi_registers_set(ret, HVMI_X86_XCR0, ((struct hvm_hw_cpu_xsave *)buf)->xcr0);
	if (get_record(d, HVM_SAVE_CODE(MTRR), vcpu, buf, RECORD_MAX) == 0)
		hvmi_registers_set(ret, HVMI_X86_PAT, ((struct hvm_hw_mtrr *)buf)->msr_pat_cr);
	if (get_record(d, HVM_SAVE_CODE(LAPIC_REGS), vcpu, buf, RECORD_MAX) == 0) {
		/* Task priority: Intel SDM volume 3, 11.8.6. */
		uint32_t priority;
		memcpy(&priority, buf + 0x80, sizeof(priority));
		hvmi_registers_set(ret, HVMI_X86_CR8, priority >> 4 & 15);
	}
	return 0;
}

int vcpu_get_registers(void *machine, uint32_t vcpu, struct hvmi_registers *ret,
		       struct hvmi_error *err)
{
	const struct domain *d = machine;
	if (d->kind == DOMAIN_PV)
		return pv_get_registers(d, vcpu, ret, err);
	uint8_t *buf = malloc(RECORD_MAX);
	if (!buf)
		return hvmi_error_set(err, -ENOMEM, HVMI_NO_ADDRESS, "out of memory");
	int rc = get_hvm(d, vcpu, ret, buf, err);
	free(buf);
	return rc;
}

/* A walk over records: struct hvm_save_descriptor and as much data as it says. */
struct records {
	uint8_t *bytes;
	uint32_t len;
};

static struct hvm_save_descriptor *next_record(const struct records *r, uint32_t *at)
{
	if (*at > r->len || r->len - *at < sizeof(struct hvm_save_descriptor))
		return NULL;
	struct hvm_save_descriptor *record = (void *)(r->bytes + *at);
	if (record->length > r->len - *at - sizeof(*record))
		return NULL;
	*at += (uint32_t)sizeof(*record) + record->length;
	return record;
}

static bool known_any(const struct hvmi_registers *values, const uint32_t *ids, size_t count)
{
	for (size_t i = 0; i < count; i++)
		if (hvmi_registers_known(values, ids[i]))
			return true;
	return false;
}

/* Change a vCPU's record, if it is one that holds any of the values. */
static void change_record(struct hvm_save_descriptor *record, const struct hvmi_registers *values)
{
	uint8_t *data = (uint8_t *)(record + 1);
	if (record->typecode == HVM_SAVE_CODE(CPU) && record->length >= HVM_SAVE_LENGTH(CPU)) {
		for (size_t i = 0; i < FIELDS; i++) {
			if (!hvmi_registers_known(values, fields[i].id))
				continue;
			uint64_t value = values->values[fields[i].id];
			if (fields[i].rights)
				value = abi_attributes((uint32_t)value);
			memcpy(data + fields[i].offset, &value, fields[i].bytes);
		}
	} else if (record->typecode == CPU_XSAVE_CODE &&
		   record->length >= offsetof(struct hvm_hw_cpu_xsave, save_area) &&
		   hvmi_registers_known(values, HVMI_X86_XCR0)) {
		((struct hvm_hw_cpu_xsave *)data)->xcr0 = values->values[HVMI_X86_XCR0];
	} else if (record->typecode == HVM_SAVE_CODE(MTRR) &&
		   record->length >= HVM_SAVE_LENGTH(MTRR) &&
		   hvmi_registers_known(values, HVMI_X86_PAT)) {
		((struct hvm_hw_mtrr *)data)->msr_pat_cr = values->values[HVMI_X86_PAT];
	}
}

/* What is loaded: the rest of the machine stays as it is. */
static bool is_loaded(uint16_t code, const struct hvmi_registers *values)
{
	static const uint32_t in_mtrr[] = { HVMI_X86_PAT };
	return code == HVM_SAVE_CODE(HEADER) || code == HVM_SAVE_CODE(CPU) ||
	       code == CPU_XSAVE_CODE || code == HVM_SAVE_CODE(END) ||
	       (code == HVM_SAVE_CODE(MTRR) && known_any(values, in_mtrr, 1));
}

/* Leaves what is to be loaded; false: the vCPU has no record. */
static bool change_records(struct records *r, uint32_t vcpu, const struct hvmi_registers *values,
			   uint64_t tsc_advance)
{
	uint32_t at = 0, to = 0;
	bool found = false;
	struct hvm_save_descriptor *record;
	while ((record = next_record(r, &at))) {
		uint16_t code = record->typecode;
		if (!is_loaded(code, values))
			continue;
		if (code == HVM_SAVE_CODE(CPU) && record->length >= HVM_SAVE_LENGTH(CPU))
			((struct hvm_hw_cpu *)(record + 1))->tsc += tsc_advance;
		if (record->instance == vcpu && code != HVM_SAVE_CODE(HEADER)) {
			found |= code == HVM_SAVE_CODE(CPU);
			change_record(record, values);
		}
		uint32_t bytes = (uint32_t)sizeof(*record) + record->length;
		memmove(r->bytes + to, record, bytes);
		to += bytes;
		if (code == HVM_SAVE_CODE(END))
			break;
	}
	r->len = to;
	return found;
}

static int set_paused(const struct domain *d, uint32_t vcpu, const struct hvmi_registers *values,
		      struct hvmi_error *err)
{
	const struct xen *xen = &d->xen;
	int size = xen->l.xc_domain_hvm_getcontext(xen->xc, d->id, NULL, 0);
	if (size <= 0)
		return domain_fail(d, err, "asking for the size of its context");
	struct records r = { .bytes = malloc((size_t)size) };
	if (!r.bytes)
		return hvmi_error_set(err, -ENOMEM, HVMI_NO_ADDRESS, "out of memory");
	uint64_t before = __rdtsc();
	int len = xen->l.xc_domain_hvm_getcontext(xen->xc, d->id, r.bytes, (uint32_t)size);
	int rc = 0;
	if (len <= 0) {
		rc = domain_fail(d, err, "reading its context");
	} else {
		/*
		 * The guest's time would stand still from the first of these calls to the second. What is
		 * added is less than what passes, so time never goes back for the guest.
		 */
		r.len = (uint32_t)len;
		if (!change_records(&r, vcpu, values, __rdtsc() - before))
			rc = hvmi_error_set(err, -ENOENT, HVMI_NO_ADDRESS,
					    "vCPU %u of %s is offline", vcpu, d->label);
		else if (xen->l.xc_domain_hvm_setcontext(xen->xc, d->id, r.bytes, r.len))
			rc = domain_fail(d, err, "setting registers of vCPU %u (Xen checks them)",
					 vcpu);
	}
	free(r.bytes);
	return rc;
}

static int check_known(const struct domain *d, const struct hvmi_registers *values,
		       struct hvmi_error *err)
{
	for (uint32_t id = 1; id < HVMI_REGISTERS_MAX; id++) {
		bool can = id == HVMI_X86_XCR0 || id == HVMI_X86_PAT;
		for (size_t i = 0; i < FIELDS && !can; i++)
			can = fields[i].id == id;
		const char *name = hvmi_register_name(id);
		if (!can && hvmi_registers_known(values, id))
			return hvmi_error_set(err, -ENOTSUP, HVMI_NO_ADDRESS,
					      "%s: Xen cannot set %s", d->label,
					      name ? name : "that register");
	}
	return 0;
}

int vcpu_set_registers(void *machine, uint32_t vcpu, const struct hvmi_registers *values,
		       struct hvmi_error *err)
{
	struct domain *d = machine;
	if (d->kind == DOMAIN_PV)
		return hvmi_error_set(err, -ENOTSUP, HVMI_NO_ADDRESS,
				      "%s is a PV guest: its registers cannot be set", d->label);
	int rc = check_known(d, values, err);
	if (rc)
		return rc;
	rc = domain_pause(d, err);
	if (rc)
		return rc;
	rc = set_paused(d, vcpu, values, err);
	int resume_rc = domain_resume(d, rc ? NULL : err);
	return rc ? rc : resume_rc;
}
