/* SPDX-License-Identifier: Apache-2.0 */
/* The few instructions that a simulated vCPU knows: Intel SDM volume 2. */
#include <string.h>

#include "probe.h"

#define FLAG_ZF 0x40u
#define FLAG_TF 0x100u
/* Of the mailbox: what exceptions add to. */
#define MAILBOX_TRAPS 232
#define MAILBOX_FAULTS 240
#define MAILBOX_ADDRESS 248

struct insn {
	struct sim *sim;
	struct sim_probe *probe;
	uint64_t *regs;
	uint8_t code[15];
	size_t len;		/* read so far */
	size_t have;
	uint32_t rex;
	bool rep, repne, narrow;	/* prefixes F3, F2, 66 */
	uint32_t mod, reg, rm;
	uint64_t address;	/* of a memory operand */
	enum cpu_result stop;	/* set when something says that it ends here */
	bool stopped;
	uint32_t operand_len;	/* of memory that it touched, for watchpoints */
	uint64_t operand;
	uint32_t operand_access;
};

static uint64_t *gpr(struct insn *i, uint32_t number)
{
	return &i->regs[HVMI_X86_RAX + number];
}

static bool stop(struct insn *i, enum cpu_result why)
{
	i->stopped = true;
	i->stop = why;
	return false;
}

static bool tell(struct insn *i, const struct hvmi_event_request *request, struct hvmi_event event)
{
	if (request && probe_tell(i->sim, request, event))
		return stop(i, CPU_STOPPED);
	return true;
}

#define CR0_PG (1ull << 31)
#define ENTRY_FRAME 0x000ffffffffff000ull
enum { ENTRY_P = 1, ENTRY_A = 0x20, ENTRY_D = 0x40, ENTRY_PS = 0x80 };

/* One entry of a page table, with the bits that an access notes in it set. */
static bool note_use(struct insn *i, uint64_t gva, uint64_t at, uint64_t bits, uint64_t *entry)
{
	uint32_t rights;
	uint8_t *host = probe_page(i->sim, at, &rights);
	if (!host)
		return stop(i, CPU_FAULT);
	memcpy(entry, host, sizeof(*entry));
	if (!(*entry & ENTRY_P))
		return stop(i, CPU_FAULT);
	if ((*entry & bits) == bits)
		return true;
	const struct hvmi_event_request *r = probe_request(i->probe, HVMI_EVENT_ACCESS);
	if (!(rights & HVMI_RIGHT_WRITE) && r && !probe_answered(i->probe, HVMI_ANSWER_EMULATE) &&
	    !tell(i, r, (struct hvmi_event){ .kind = HVMI_EVENT_ACCESS, .gva = gva, .gpa = at,
					     .flags = HVMI_EVENT_IN_PAGE_WALK,
					     .access = HVMI_RIGHT_READ | HVMI_RIGHT_WRITE }))
		return false;
	*entry |= bits;
	memcpy(host, entry, sizeof(*entry));
	return true;
}

/* Four levels: SDM volume 3, 4.5. Rights of the guest's own are not looked at. */
static bool walk(struct insn *i, uint64_t gva, uint32_t access, uint64_t *gpa_ret)
{
	uint64_t table = i->regs[HVMI_X86_CR3] & ENTRY_FRAME, entry;
	*gpa_ret = gva;
	if (!i->probe->paged || !(i->regs[HVMI_X86_CR0] & CR0_PG))
		return true;
	for (uint32_t shift = 39;; shift -= 9) {
		uint64_t at = table + (gva >> shift & 511) * 8, bits = access ? ENTRY_A : 0;
		uint32_t rights;
		const uint8_t *host = probe_page(i->sim, at, &rights);
		if (!host)
			return stop(i, CPU_FAULT);
		memcpy(&entry, host, sizeof(entry));
		bool leaf = shift == 12 || (shift < 39 && entry & ENTRY_PS);
		bits |= leaf && access & HVMI_RIGHT_WRITE ? ENTRY_D : 0;
		if (!note_use(i, gva, at, bits, &entry))
			return false;
		uint64_t below = (1ull << shift) - 1;
		if (leaf) {
			*gpa_ret = (entry & ENTRY_FRAME & ~below) | (gva & below);
			return true;
		}
		table = entry & ENTRY_FRAME;
	}
}

bool cpu_translate(struct sim *sim, uint64_t gva, uint64_t *gpa_ret)
{
	struct insn i = { .sim = sim, .probe = sim->probe,
			  .regs = sim->vcpus[sim->probe->vcpu].values };
	return walk(&i, gva, 0, gpa_ret);
}

/* An event about what a page allows: to be called for all that an instruction touches, before it does. */
static bool touch(struct insn *i, uint64_t gva, uint32_t len, uint32_t access)
{
	for (uint64_t at = gva, end = gva + len; at < end; at = (at / SIM_PAGE + 1) * SIM_PAGE) {
		uint32_t rights;
		uint64_t gpa;
		if (!walk(i, at, access, &gpa))
			return false;
		if (!probe_page(i->sim, gpa, &rights))
			return stop(i, CPU_FAULT);
		if ((rights & access) == access || probe_answered(i->probe, HVMI_ANSWER_EMULATE))
			continue;
		const struct hvmi_event_request *r = probe_request(i->probe, HVMI_EVENT_ACCESS);
		/* Nobody listens: as if it were allowed. */
		if (r && !tell(i, r, (struct hvmi_event){ .kind = HVMI_EVENT_ACCESS, .gva = at,
							  .gpa = gpa, .access = access }))
			return false;
	}
	if (access != HVMI_RIGHT_EXECUTE && !probe_answered(i->probe, HVMI_ANSWER_EMULATE)) {
		i->operand = gva;
		i->operand_len = len;
		i->operand_access = access;
	}
	return true;
}

/* Bytes of memory, whatever the rights. */
static bool transfer(struct insn *i, uint64_t gva, void *buf, size_t len, bool write)
{
	const struct pass *pass = &i->probe->runs[i->probe->vcpu].pass;
	if (write && probe_answered(i->probe, HVMI_ANSWER_EMULATE_NO_WRITE))
		return true;
	if (!write && probe_answered(i->probe, HVMI_ANSWER_READ_DATA)) {
		memset(buf, 0, len);
		memcpy(buf, pass->data, len < pass->data_len ? len : pass->data_len);
		return true;
	}
	for (size_t n = 0; n < len; n++) {
		uint32_t rights;
		uint64_t gpa;
		uint8_t *at = walk(i, gva + n, 0, &gpa) ? probe_page(i->sim, gpa, &rights) : NULL;
		if (!at)
			return stop(i, CPU_FAULT);
		if (write)
			*at = ((uint8_t *)buf)[n];
		else
			((uint8_t *)buf)[n] = *at;
	}
	return true;
}

static uint8_t next_byte(struct insn *i)
{
	if (i->len < i->have)
		return i->code[i->len++];
	stop(i, CPU_UNKNOWN);
	return 0;
}

static uint64_t immediate(struct insn *i, size_t bytes)
{
	uint64_t value = 0;
	for (size_t n = 0; n < bytes; n++)
		value |= (uint64_t)next_byte(i) << 8 * n;
	uint64_t sign = 1ull << (8 * bytes - 1);
	return (value ^ sign) - sign;
}

/* Only [register], [register + disp8] and registers. */
static bool modrm(struct insn *i)
{
	uint8_t byte = next_byte(i);
	i->mod = byte >> 6;
	i->reg = (byte >> 3 & 7) | (i->rex & 4) << 1;
	i->rm = (byte & 7) | (i->rex & 1) << 3;
	if (i->mod == 3)
		return true;
	if ((byte & 7) == 4 || i->mod == 2 || (i->mod == 0 && (byte & 7) == 5))
		return stop(i, CPU_UNKNOWN);
	i->address = *gpr(i, i->rm) + (i->mod == 1 ? immediate(i, 1) : 0);
	return !i->stopped;
}

static void set_zero_flag(struct insn *i, uint64_t value)
{
	uint64_t *flags = &i->regs[HVMI_X86_RFLAGS];
	*flags = value ? *flags & ~(uint64_t)FLAG_ZF : *flags | FLAG_ZF;
}

static bool read_rm(struct insn *i, uint32_t len, uint32_t access, uint64_t *ret)
{
	*ret = 0;
	if (i->mod == 3) {
		*ret = len == 8 ? *gpr(i, i->rm) : (uint32_t)*gpr(i, i->rm);
		return true;
	}
	return touch(i, i->address, len, access) && transfer(i, i->address, ret, len, false);
}

static bool write_rm(struct insn *i, uint32_t len, uint64_t value)
{
	if (i->mod == 3) {
		*gpr(i, i->rm) = len == 8 ? value : (uint32_t)value;
		return true;
	}
	return transfer(i, i->address, &value, len, true);
}

/* add, or, xor and mov of a register to r/m, and of r/m to a register. */
static bool move(struct insn *i, uint8_t opcode)
{
	uint32_t len = i->rex & 8 ? 8 : 4;
	uint64_t value, other;
	if (!modrm(i))
		return false;
	if (opcode == 0x8b) {
		if (!read_rm(i, len, HVMI_RIGHT_READ, &value))
			return false;
		*gpr(i, i->reg) = value;
		return true;
	}
	value = *gpr(i, i->reg);
	if (opcode == 0x89) {
		if (i->mod != 3 && !touch(i, i->address, len, HVMI_RIGHT_WRITE))
			return false;
		return write_rm(i, len, value);
	}
	if (opcode == 0x83) {
		if (i->reg & 7)
			return stop(i, CPU_UNKNOWN);
		value = immediate(i, 1);
	}
	if (i->stopped || !read_rm(i, len, HVMI_RIGHT_READ | HVMI_RIGHT_WRITE, &other))
		return false;
	value = opcode == 0x09 ? other | value : opcode == 0x31 ? other ^ value : other + value;
	if (len == 4)
		value = (uint32_t)value;
	set_zero_flag(i, value);
	return write_rm(i, len, value);
}

static bool push(struct insn *i, uint64_t value)
{
	uint64_t *rsp = gpr(i, 4);
	if (!touch(i, *rsp - 8, 8, HVMI_RIGHT_WRITE) || !transfer(i, *rsp - 8, &value, 8, true))
		return false;
	*rsp -= 8;
	return true;
}

static bool pop(struct insn *i, uint64_t *ret)
{
	uint64_t *rsp = gpr(i, 4);
	if (!touch(i, *rsp, 8, HVMI_RIGHT_READ) || !transfer(i, *rsp, ret, 8, false))
		return false;
	*rsp += 8;
	return true;
}

/* One turn of rep movsb. */
static bool copy_string(struct insn *i, uint64_t *rip)
{
	uint8_t byte = 0;
	uint64_t *count = gpr(i, 1), *from = gpr(i, 6), *to = gpr(i, 7);
	if (i->rep && !*count)
		return true;
	if (!touch(i, *from, 1, HVMI_RIGHT_READ) || !touch(i, *to, 1, HVMI_RIGHT_WRITE) ||
	    !transfer(i, *from, &byte, 1, false) || !transfer(i, *to, &byte, 1, true))
		return false;
	++*from;
	++*to;
	if (i->rep && --*count)
		*rip -= i->len;
	i->probe->runs[i->probe->vcpu].pass.turns++;
	return true;
}

/* One turn of scasb; repeated, until it finds the byte, or another one. */
static bool scan_string(struct insn *i, uint64_t *rip)
{
	uint8_t byte = 0;
	uint64_t *count = gpr(i, 1), *at = gpr(i, 7);
	bool repeated = i->rep || i->repne;
	if (repeated && !*count)
		return true;
	if (!touch(i, *at, 1, HVMI_RIGHT_READ) || !transfer(i, *at, &byte, 1, false))
		return false;
	++*at;
	set_zero_flag(i, (uint8_t)*gpr(i, 0) ^ byte);
	bool equal = byte == (uint8_t)*gpr(i, 0);
	if (repeated && --*count && equal != i->repne)
		*rip -= i->len;
	i->probe->runs[i->probe->vcpu].pass.turns = PROBE_TURNS;
	return true;
}

/* mov of 8 bits, or of 16, to a register. */
static bool load_part(struct insn *i, uint32_t len)
{
	uint64_t value = 0;
	if (!modrm(i) || i->mod == 3)
		return i->stopped ? false : stop(i, CPU_UNKNOWN);
	if (!touch(i, i->address, len, HVMI_RIGHT_READ) ||
	    !transfer(i, i->address, &value, len, false))
		return false;
	memcpy(gpr(i, i->reg), &value, len);
	return true;
}

/* movups, and movdqu, which cannot be emulated. */
static bool move_vector(struct insn *i, bool store, bool known)
{
	if (!known && probe_answered(i->probe, HVMI_ANSWER_EMULATE))
		return stop(i, CPU_UNKNOWN);
	if (!modrm(i) || i->mod == 3)
		return i->stopped ? false : stop(i, CPU_UNKNOWN);
	uint8_t *xmm = i->probe->runs[i->probe->vcpu].xmm[i->reg];
	return touch(i, i->address, 16, store ? HVMI_RIGHT_WRITE : HVMI_RIGHT_READ) &&
	       transfer(i, i->address, xmm, 16, store);
}

static const struct hvmi_event_request *register_request(const struct sim_probe *probe,
							 uint32_t reg, uint64_t msr,
							 uint64_t old, uint64_t new)
{
	for (size_t n = 0; n < probe->request_count; n++) {
		const struct hvmi_event_request *r = &probe->requests[n];
		bool mine = reg ? r->kind == HVMI_EVENT_REGISTER && r->reg == reg :
				  r->kind == HVMI_EVENT_MSR && r->msr == msr;
		if (!mine)
			continue;
		if (r->flags & HVMI_REQUEST_ON_CHANGE && old == new)
			return NULL;
		return old != new && !((old ^ new) & ~r->ignored) ? NULL : r;
	}
	return NULL;
}

/* The told write of a register; the answer may deny it. */
static bool set_register(struct insn *i, uint32_t id, uint64_t msr, uint64_t *to, uint64_t value)
{
	const struct hvmi_event_request *r =
		register_request(i->probe, id, msr, *to, value);
	struct hvmi_event event = { .kind = id ? HVMI_EVENT_REGISTER : HVMI_EVENT_MSR, .reg = id,
				    .msr = msr, .old_value = *to, .new_value = value,
				    .gva = HVMI_NO_ADDRESS, .gpa = HVMI_NO_ADDRESS };
	if (!tell(i, r, event))
		return false;
	if (!(r && r->flags & HVMI_REQUEST_MAY_DENY &&
	      probe_answered(i->probe, HVMI_ANSWER_DENY)))
		*to = value;
	return true;
}

static uint32_t msr_register(uint64_t msr)
{
	static const struct {
		uint64_t msr;
		uint32_t id;
	} known[] = {
		{ 0x174, HVMI_X86_SYSENTER_CS }, { 0x175, HVMI_X86_SYSENTER_ESP },
		{ 0x176, HVMI_X86_SYSENTER_EIP }, { 0x277, HVMI_X86_PAT },
		{ 0xc0000080, HVMI_X86_EFER }, { 0xc0000082, HVMI_X86_LSTAR },
		{ 0xc0000103, HVMI_X86_TSC_AUX },
	};
	for (size_t n = 0; n < sizeof(known) / sizeof(*known); n++)
		if (known[n].msr == msr)
			return known[n].id;
	return 0;
}

static bool access_msr(struct insn *i, bool write)
{
	uint32_t id = msr_register((uint32_t)*gpr(i, 1));
	if (!id)
		return stop(i, CPU_UNKNOWN);
	uint64_t value = (uint32_t)*gpr(i, 0) | *gpr(i, 2) << 32;
	if (write)
		return set_register(i, 0, (uint32_t)*gpr(i, 1), &i->regs[id], value);
	*gpr(i, 0) = (uint32_t)i->regs[id];
	*gpr(i, 2) = i->regs[id] >> 32;
	return true;
}

static bool access_control(struct insn *i, bool write)
{
	uint32_t id = 0;
	if (!modrm(i))
		return false;
	switch (i->reg) {
	case 0: id = HVMI_X86_CR0; break;
	case 3: id = HVMI_X86_CR3; break;
	case 4: id = HVMI_X86_CR4; break;
	default: return stop(i, CPU_UNKNOWN);
	}
	if (write)
		return set_register(i, id, 0, &i->regs[id], *gpr(i, i->rm));
	*gpr(i, i->rm) = i->regs[id];
	return true;
}

static struct hvmi_event plain(uint32_t kind)
{
	return (struct hvmi_event){ .kind = kind, .gva = HVMI_NO_ADDRESS,
				    .gpa = HVMI_NO_ADDRESS };
}

static bool cpuid(struct insn *i)
{
	struct hvmi_event event = plain(HVMI_EVENT_CPUID);
	event.leaf = (uint32_t)*gpr(i, 0);
	event.subleaf = (uint32_t)*gpr(i, 1);
	event.insn_length = (uint32_t)i->len;
	if (!tell(i, probe_request(i->probe, HVMI_EVENT_CPUID), event))
		return false;
	*gpr(i, 0) = event.leaf;
	*gpr(i, 3) = event.subleaf;
	*gpr(i, 1) = 0x006d6973;
	*gpr(i, 2) = i->probe->vcpu;
	return true;
}

static bool descriptor(struct insn *i, uint32_t base, uint32_t limit, bool load)
{
	struct hvmi_event event = plain(HVMI_EVENT_DESCRIPTOR);
	uint8_t bytes[10] = { 0 };
	const struct hvmi_event_request *r = probe_request(i->probe, HVMI_EVENT_DESCRIPTOR);
	event.reg = base;
	event.access = load ? HVMI_RIGHT_WRITE : HVMI_RIGHT_READ;
	if (!tell(i, r, event))
		return false;
	if (load && r && r->flags & HVMI_REQUEST_MAY_DENY &&
	    probe_answered(i->probe, HVMI_ANSWER_DENY))
		return true;
	if (!limit) {
		/* LDTR and TR: a selector, in a register. */
		if (load)
			i->regs[base - 1] = (uint16_t)*gpr(i, i->rm);
		else
			*gpr(i, i->rm) = i->regs[base - 1];
		return true;
	}
	if (!touch(i, i->address, 10, load ? HVMI_RIGHT_READ : HVMI_RIGHT_WRITE))
		return false;
	memcpy(bytes, &i->regs[limit], 2);
	memcpy(bytes + 2, &i->regs[base], 8);
	if (!transfer(i, i->address, bytes, 10, !load))
		return false;
	i->regs[limit] = bytes[0] | (uint64_t)bytes[1] << 8;
	memcpy(&i->regs[base], bytes + 2, 8);
	return true;
}

/* VMCALL, VMMCALL. */
static bool hypercall(struct insn *i)
{
	const struct hvmi_event_request *r = probe_request(i->probe, HVMI_EVENT_GUEST_REQUEST);
	bool known = *gpr(i, 0) == 34 && *gpr(i, 7) == 24;
	if (known && !tell(i, r, plain(HVMI_EVENT_GUEST_REQUEST)))
		return false;
	*gpr(i, 0) = known ? 0 : (uint64_t)-38;
	return true;
}

/* 0F 01 */
static bool system_group(struct insn *i)
{
	uint8_t byte = i->len < i->have ? i->code[i->len] : 0;
	if (byte == 0xc1 || byte == 0xd9) {
		next_byte(i);
		return hypercall(i);
	}
	if (byte == 0xd0) {
		next_byte(i);
		*gpr(i, 0) = (uint32_t)i->regs[HVMI_X86_XCR0];
		*gpr(i, 2) = i->regs[HVMI_X86_XCR0] >> 32;
		return true;
	}
	if (byte == 0xd1) {
		next_byte(i);
		return set_register(i, HVMI_X86_XCR0, 0, &i->regs[HVMI_X86_XCR0],
				    (uint32_t)*gpr(i, 0) | *gpr(i, 2) << 32);
	}
	if (!modrm(i) || i->mod == 3 || (i->reg & 7) > 3)
		return i->stopped ? false : stop(i, CPU_UNKNOWN);
	bool idt = i->reg & 1;
	return descriptor(i, idt ? HVMI_X86_IDTR_BASE : HVMI_X86_GDTR_BASE,
			  idt ? HVMI_X86_IDTR_LIMIT : HVMI_X86_GDTR_LIMIT, i->reg & 2);
}

static bool port(struct insn *i, bool out)
{
	struct hvmi_event event = plain(HVMI_EVENT_IO);
	event.port = (uint16_t)*gpr(i, 2);
	event.len = 1;
	event.access = out ? HVMI_RIGHT_WRITE : HVMI_RIGHT_READ;
	if (!tell(i, probe_request(i->probe, HVMI_EVENT_IO), event))
		return false;
	if (!out)
		*gpr(i, 0) |= 0xff;
	return true;
}

/* int3 and icebp: events until an answer changes something; without one, the guest's own exception. */
static bool software_exception(struct insn *i, uint32_t kind, uint32_t vector)
{
	struct hvmi_event event = plain(kind);
	event.gva = i->regs[HVMI_X86_RIP];
	if (!walk(i, event.gva, 0, &event.gpa))
		return false;
	event.insn_length = (uint32_t)i->len;
	const struct hvmi_event_request *r = NULL;
	for (size_t n = 0; n < i->probe->request_count && !r; n++)
		if (i->probe->requests[n].kind == kind &&
		    i->probe->requests[n].gva == HVMI_NO_ADDRESS)
			r = &i->probe->requests[n];
	if (!probe_answered(i->probe, HVMI_ANSWER_REINJECT) && !tell(i, r, event))
		return false;
	cpu_deliver(i->sim, vector, 0);
	return true;
}

/* 0F */
static bool two_bytes(struct insn *i)
{
	uint8_t opcode = next_byte(i);
	switch (opcode) {
	case 0x00:
		if (!modrm(i) || i->mod != 3 || (i->reg & 7) > 3)
			return i->stopped ? false : stop(i, CPU_UNKNOWN);
		return descriptor(i, i->reg & 1 ? HVMI_X86_TR_BASE : HVMI_X86_LDTR_BASE, 0,
				  i->reg & 2);
	case 0x01:
		return system_group(i);
	case 0x10:
	case 0x11:
		return move_vector(i, opcode == 0x11, true);
	case 0x6f:
		return i->rep ? move_vector(i, false, false) : stop(i, CPU_UNKNOWN);
	case 0x1e:
	case 0x1f:
		return modrm(i);
	case 0x20:
	case 0x22:
		return access_control(i, opcode == 0x22);
	case 0x30:
	case 0x32:
		return access_msr(i, opcode == 0x30);
	case 0xa2:
		return cpuid(i);
	default:
		return stop(i, CPU_UNKNOWN);
	}
}

static bool one_byte(struct insn *i, uint8_t opcode, uint64_t *rip)
{
	uint32_t number = (opcode & 7) | (i->rex & 1) << 3;
	uint64_t value;
	switch (opcode) {
	case 0x8a:
		return load_part(i, 1);
	case 0x01: case 0x09: case 0x31: case 0x83: case 0x89: case 0x8b:
		if (i->narrow)
			return opcode == 0x8b ? load_part(i, 2) : stop(i, CPU_UNKNOWN);
		return move(i, opcode);
	case 0x0d:
		*gpr(i, 0) |= immediate(i, 4);
		return !i->stopped;
	case 0x50: case 0x51: case 0x52: case 0x53: case 0x54: case 0x55: case 0x56: case 0x57:
		return push(i, *gpr(i, number));
	case 0x58: case 0x59: case 0x5a: case 0x5b: case 0x5c: case 0x5d: case 0x5e: case 0x5f:
		return pop(i, &value) && (*gpr(i, number) = value, true);
	case 0x75:
		value = immediate(i, 1);
		*rip += i->regs[HVMI_X86_RFLAGS] & FLAG_ZF ? 0 : value;
		return !i->stopped;
	case 0x90:
		return true;
	case 0x9c:
		return push(i, i->regs[HVMI_X86_RFLAGS]);
	case 0x9d:
		return pop(i, &i->regs[HVMI_X86_RFLAGS]);
	case 0xa4:
		return copy_string(i, rip);
	case 0xae:
		return scan_string(i, rip);
	case 0xb8: case 0xb9: case 0xba: case 0xbb: case 0xbc: case 0xbd: case 0xbe: case 0xbf:
		value = (uint32_t)immediate(i, 4);
		*gpr(i, number) = value;
		return !i->stopped;
	case 0xc1:
		if (!modrm(i) || i->mod != 3 || (i->reg & 7) != 4)
			return i->stopped ? false : stop(i, CPU_UNKNOWN);
		value = immediate(i, 1) & 63;
		*gpr(i, i->rm) <<= value;
		return !i->stopped;
	case 0xc3:
		return pop(i, rip);
	case 0xcc:
		return software_exception(i, HVMI_EVENT_BREAKPOINT, 3);
	case 0xec: case 0xee:
		return port(i, opcode == 0xee);
	case 0xf1:
		return software_exception(i, HVMI_EVENT_DEBUG, 1);
	case 0xff:
		if (!modrm(i) || i->mod != 3 || (i->reg & 7) != 1)
			return i->stopped ? false : stop(i, CPU_UNKNOWN);
		set_zero_flag(i, --*gpr(i, i->rm));
		return true;
	default:
		return stop(i, CPU_UNKNOWN);
	}
}

static bool fetch(struct insn *i)
{
	const struct pass *pass = &i->probe->runs[i->probe->vcpu].pass;
	uint64_t rip = i->regs[HVMI_X86_RIP];
	if (probe_answered(i->probe, HVMI_ANSWER_INSN_DATA)) {
		memcpy(i->code, pass->data, sizeof(i->code));
		i->have = sizeof(i->code);
		return true;
	}
	if (!touch(i, rip, 1, HVMI_RIGHT_EXECUTE))
		return false;
	/* The rest may lie on a page that is not there, or may not be executed. */
	for (i->have = 0; i->have < sizeof(i->code); i->have++) {
		uint32_t rights;
		uint64_t gpa;
		const uint8_t *at = cpu_translate(i->sim, rip + i->have, &gpa) ?
					    probe_page(i->sim, gpa, &rights) : NULL;
		if (!at)
			break;
		i->code[i->have] = *at;
	}
	return true;
}

/* A watchpoint tells what was done; each at most once for an instruction. */
static void tell_watchpoints(struct insn *i)
{
	for (size_t n = 0; i->operand_len && n < i->probe->request_count; n++) {
		const struct hvmi_event_request *r = &i->probe->requests[n];
		if (r->kind != HVMI_EVENT_WATCHPOINT || !(r->access & i->operand_access) ||
		    i->operand >= r->gva + r->len || r->gva >= i->operand + i->operand_len)
			continue;
		probe_tell(i->sim, r, (struct hvmi_event){
			.kind = HVMI_EVENT_WATCHPOINT, .gva = r->gva, .gpa = r->gva, .len = r->len,
			.access = r->access & i->operand_access });
	}
}

void cpu_deliver(struct sim *sim, uint32_t vector, uint64_t cr2)
{
	uint64_t left;
	uint8_t *mailbox = sim_ram(sim, sim->probe->mailbox, &left);
	uint64_t count;
	uint8_t *counter = mailbox + (vector == 14 ? MAILBOX_FAULTS : MAILBOX_TRAPS);
	if (vector != 14 && vector != 1 && vector != 3)
		return;
	memcpy(&count, counter, 8);
	count++;
	memcpy(counter, &count, 8);
	if (vector == 14) {
		memcpy(mailbox + MAILBOX_ADDRESS, &cr2, 8);
		sim->vcpus[sim->probe->vcpu].values[HVMI_X86_CR2] = cr2;
	}
}

enum cpu_result cpu_execute(struct sim *sim)
{
	struct insn i = { .sim = sim, .probe = sim->probe,
			  .regs = sim->vcpus[sim->probe->vcpu].values };
	bool trap = i.regs[HVMI_X86_RFLAGS] & FLAG_TF;
	if (!fetch(&i))
		return i.stop;
	uint8_t opcode = next_byte(&i);
	for (; opcode == 0xf3 || opcode == 0xf2 || opcode == 0x66 || (opcode & 0xf0) == 0x40;
	     opcode = next_byte(&i)) {
		if (opcode == 0xf3)
			i.rep = true;
		else if (opcode == 0xf2)
			i.repne = true;
		else if (opcode == 0x66)
			i.narrow = true;
		else
			i.rex = opcode;
	}
	/* A jump adds to where the next instruction is, once that is known. */
	uint64_t jump = 0, *rip = &i.regs[HVMI_X86_RIP];
	bool done = opcode == 0x0f ? two_bytes(&i) : one_byte(&i, opcode, &jump);
	if (!done || i.stopped)
		return i.stop;
	*rip = opcode == 0xc3 ? jump : *rip + i.len + jump;
	tell_watchpoints(&i);
	if (trap) {
		struct hvmi_event event = plain(HVMI_EVENT_DEBUG);
		const struct hvmi_event_request *r = probe_request(i.probe, HVMI_EVENT_DEBUG);
		event.gva = event.gpa = *rip;
		event.pending_debug = 1u << 14;
		i.regs[HVMI_X86_RFLAGS] &= ~(uint64_t)FLAG_TF;
		if (!r || !probe_tell(sim, r, event))
			cpu_deliver(sim, 1, 0);
	}
	return CPU_DONE;
}
