/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Requests and responses of every version of Xen's vm_event interface, built byte by byte at the places
 * that xen/include/public/vm_event.h of each release gives them.
 */
#include "abi.h"
#include "suite.h"

#include <errno.h>
#include <string.h>

#include <hvmi/space.h>

/* The header and what follows it are where they always were. */
enum { VERSION = 0, FLAGS = 4, REASON = 8, VCPU = 12, VIEW = 16, BODY = 24, REGS = 56 };
enum { RFLAGS = 128 };
/* From version 4 on. */
enum { EFER = 216 };
enum { PAUSED = 1 << 0, EMULATE = 1 << 2, READ_DATA = 1 << 5, DENY = 1 << 6, ALTERNATE = 1 << 7,
       SET_REGISTERS = 1 << 8, INSN_DATA = 1 << 9, FAST_STEP = 1 << 11, NESTED = 1 << 12 };

/* Places that differ, from the beginning of the registers. */
static const struct {
	uint32_t bytes, dr6, dr7, rip, cr3, lstar, gdtr_base, gdtr_limit, cs_base, cs, cs_sel, fs_base,
		gs_base, kernel_gs, cs_rights;
} versions[] = {
	[3] = { .bytes = 312, .dr7 = 136, .rip = 144, .cr3 = 168, .lstar = 224, .fs_base = 232,
		.gs_base = 240, .cs_rights = 248 },
	[4] = { .bytes = 376, .dr6 = 136, .dr7 = 144, .rip = 152, .cr3 = 176, .lstar = 232,
		.cs_base = 240, .fs_base = 256, .gs_base = 264, .cs = 272, .kernel_gs = 296,
		.cs_sel = 304 },
	[5] = { .bytes = 384, .dr6 = 136, .dr7 = 144, .rip = 152, .cr3 = 176, .lstar = 232,
		.gdtr_base = 240, .cs_base = 248, .fs_base = 264, .gs_base = 272, .cs = 280,
		.kernel_gs = 304, .gdtr_limit = 312, .cs_sel = 314 },
	[6] = { .bytes = 384, .dr6 = 136, .dr7 = 144, .rip = 152, .cr3 = 176, .lstar = 232,
		.gdtr_base = 240, .cs_base = 248, .fs_base = 264, .gs_base = 272, .cs = 280,
		.kernel_gs = 304, .gdtr_limit = 312, .cs_sel = 314 },
	[7] = { .bytes = 400, .dr6 = 136, .dr7 = 144, .rip = 152, .cr3 = 176, .lstar = 232,
		.gdtr_base = 240, .cs_base = 264, .fs_base = 280, .gs_base = 288, .cs = 296,
		.kernel_gs = 320, .gdtr_limit = 328, .cs_sel = 330 },
};
#define EACH_VERSION(v) for (uint32_t v = ABI_VERSION_MIN; v <= ABI_VERSION_MAX; v++)

static uint8_t raw[ABI_BYTES_MAX + 16];
static struct abi_request request;
static struct hvmi_event event;
static struct hvmi_registers registers;

static void put(uint32_t at, uint64_t value, uint32_t bytes)
{
	memcpy(raw + at, &value, bytes);
}

static uint64_t at(uint32_t offset, uint32_t bytes)
{
	uint64_t value = 0;
	memcpy(&value, raw + offset, bytes);
	return value;
}

static void begin(uint32_t version, uint32_t reason, uint32_t flags)
{
	memset(raw, 0, sizeof(raw));
	memset(raw + versions[version].bytes, 0xee, 16);
	put(VERSION, version, 4);
	put(FLAGS, flags, 4);
	put(REASON, reason, 4);
	put(VCPU, 3, 4);
	put(REGS + versions[version].rip, 0xffffffff81001234, 8);
	/* 64-bit code: EFER.LMA, and L in CS. */
	if (version > 3) {
		put(REGS + EFER, 1 << 10, 8);
		put(REGS + versions[version].cs, 0x29bfffff, 4);
	}
}

static int take(uint32_t version)
{
	event = (struct hvmi_event){ .size = sizeof(event), .gva = HVMI_NO_ADDRESS,
				     .gpa = HVMI_NO_ADDRESS };
	memset(&registers, 0, sizeof(registers));
	return abi_request(version, raw, &request, &event, &registers);
}

START_TEST(sizes)
{
	EACH_VERSION(v)
		ck_assert_uint_eq(abi_bytes(v), versions[v].bytes);
	ck_assert_uint_eq(abi_bytes(0), 0);
	ck_assert_uint_eq(abi_bytes(2), 0);
	ck_assert_uint_eq(abi_bytes(8), 0);
	ck_assert_uint_eq(abi_bytes(UINT32_MAX), 0);
	ck_assert_uint_eq(abi_version_of(10), 0);
	ck_assert_uint_eq(abi_version_of(11), 3);
	ck_assert_uint_eq(abi_version_of(14), 6);
	ck_assert_uint_eq(abi_version_of(22), 7);
}
END_TEST

static void is(uint32_t id, uint64_t value)
{
	uint64_t got = 0;
	ck_assert_msg(hvmi_registers_get(&registers, id, &got) == 0, "%s is not known",
		      hvmi_register_name(id));
	ck_assert_msg(got == value, "%s is 0x%llx", hvmi_register_name(id),
		      (unsigned long long)got);
}

START_TEST(all_registers)
{
	static const uint32_t general[] = {
		HVMI_X86_RAX, HVMI_X86_RCX, HVMI_X86_RDX, HVMI_X86_RBX, HVMI_X86_RSP, HVMI_X86_RBP,
		HVMI_X86_RSI, HVMI_X86_RDI, HVMI_X86_R8, HVMI_X86_R9, HVMI_X86_R10, HVMI_X86_R11,
		HVMI_X86_R12, HVMI_X86_R13, HVMI_X86_R14, HVMI_X86_R15, HVMI_X86_RFLAGS,
	};
	EACH_VERSION(v) {
		begin(v, 10, PAUSED);
		for (uint32_t i = 0; i < 17; i++)
			put(REGS + 8 * i, 0x1111111100000000 + i, 8);
		put(REGS + versions[v].dr7, 0x400, 8);
		put(REGS + versions[v].cr3, 0x1aa000, 8);
		put(REGS + versions[v].lstar, 0xffffffff81e00000, 8);
		put(REGS + versions[v].fs_base, 0x7f0000001000, 8);
		put(REGS + versions[v].gs_base, 0xffff888000000000, 8);
		if (v == 3) {
			/* Packed attributes: type 11, S, P; L, G. */
			put(REGS + versions[v].cs_rights, 0xa9b, 4);
		} else {
			put(REGS + versions[v].dr6, 0xffff0ff0, 8);
			put(REGS + versions[v].cs_base, 0x12340000, 4);
			put(REGS + versions[v].cs, 0xa9bfffff, 4);
			put(REGS + versions[v].cs + 4, 0x0930ffff, 4);
			put(REGS + versions[v].cs_sel, 0x10, 2);
			put(REGS + versions[v].kernel_gs, 0x7fff0000, 8);
		}
		if (v >= 5) {
			put(REGS + versions[v].gdtr_base, 0xfffffe0000001000, 8);
			put(REGS + versions[v].gdtr_limit, 0x7f, 2);
		}
		ck_assert_int_eq(take(v), 0);
		for (uint32_t i = 0; i < 17; i++)
			is(general[i], 0x1111111100000000 + i);
		is(HVMI_X86_RIP, 0xffffffff81001234);
		is(HVMI_X86_DR7, 0x400);
		is(HVMI_X86_CR3, 0x1aa000);
		is(HVMI_X86_LSTAR, 0xffffffff81e00000);
		is(HVMI_X86_FS_BASE, 0x7f0000001000);
		is(HVMI_X86_GS_BASE, 0xffff888000000000);
		is(HVMI_X86_CS_RIGHTS, 0xa09b);
		ck_assert_int_eq(hvmi_registers_known(&registers, HVMI_X86_GDTR_BASE), v >= 5);
		ck_assert_int_eq(hvmi_registers_known(&registers, HVMI_X86_DR6), v >= 4);
		if (v == 3)
			continue;
		is(HVMI_X86_DR6, 0xffff0ff0);
		is(HVMI_X86_CS_SELECTOR, 0x10);
		is(HVMI_X86_CS_BASE, 0x12340000);
		/* With G the limit is in pages; without, and not present: in bytes, unusable. */
		is(HVMI_X86_CS_LIMIT, 0xffffffff);
		is(HVMI_X86_SS_LIMIT, 0xffff);
		is(HVMI_X86_SS_RIGHTS, 0x93);
		is(HVMI_X86_ES_RIGHTS, 0x10000);
		is(HVMI_X86_KERNEL_GS_BASE, 0x7fff0000);
		if (v >= 5) {
			is(HVMI_X86_GDTR_BASE, 0xfffffe0000001000);
			is(HVMI_X86_GDTR_LIMIT, 0x7f);
		}
	}
}
END_TEST

START_TEST(attributes)
{
	for (uint32_t a = 0; a < 0x1000; a++)
		ck_assert_uint_eq(abi_attributes(abi_rights(a)), a);
	/* Unusable wins over present. */
	ck_assert_uint_eq(abi_attributes(0x1a09b), 0xa1b);
}
END_TEST

START_TEST(wrong_version)
{
	EACH_VERSION(v) {
		begin(v, 10, PAUSED);
		put(VERSION, v + 1, 4);
		ck_assert_int_eq(take(v), -EBADMSG);
		put(VERSION, 0, 4);
		ck_assert_int_eq(take(v), -EBADMSG);
	}
}
END_TEST

START_TEST(accesses)
{
	EACH_VERSION(v) {
		begin(v, 1, PAUSED | ALTERNATE);
		put(VIEW, 5, 2);
		put(BODY, 0x1234, 8);
		put(BODY + 8, 0xabc, 8);
		put(BODY + 16, 0xffff888001234abc, 8);
		put(BODY + 24, 1 << 1 | 1 << 3 | 1 << 4, 4);
		ck_assert_int_eq(take(v), 0);
		ck_assert_uint_eq(event.kind, HVMI_EVENT_ACCESS);
		ck_assert_uint_eq(event.vcpu, 3);
		ck_assert_uint_eq(event.view, 5);
		ck_assert_uint_eq(event.flags, HVMI_EVENT_WAITS);
		ck_assert_uint_eq(event.gpa, 0x1234abc);
		ck_assert_uint_eq(event.gva, 0xffff888001234abc);
		ck_assert_uint_eq(event.access, HVMI_RIGHT_WRITE);
		ck_assert_uint_eq(request.gfn, 0x1234);
		/* In a page walk; the linear address is not valid. */
		put(BODY + 24, 1 << 0 | 1 << 2 | 1 << 5, 4);
		put(FLAGS, 0, 4);
		ck_assert_int_eq(take(v), 0);
		ck_assert_uint_eq(event.flags, HVMI_EVENT_IN_PAGE_WALK);
		ck_assert_uint_eq(event.gva, HVMI_NO_ADDRESS);
		ck_assert_uint_eq(event.access, HVMI_RIGHT_READ | HVMI_RIGHT_EXECUTE);
		ck_assert_uint_eq(event.view, 0);
	}
}
END_TEST

START_TEST(writes)
{
	static const uint32_t ids[] = { HVMI_X86_CR0, HVMI_X86_CR3, HVMI_X86_CR4, HVMI_X86_XCR0 };
	EACH_VERSION(v) {
		for (uint32_t i = 0; i < 5; i++) {
			begin(v, 4, PAUSED);
			put(BODY, i, 4);
			put(BODY + 8, 0x80050033, 8);
			put(BODY + 16, 0x80010033, 8);
			ck_assert_int_eq(take(v), 0);
			ck_assert_uint_eq(event.kind, i < 4 ? HVMI_EVENT_REGISTER : 0);
			if (i == 4)
				continue;
			ck_assert_uint_eq(event.reg, ids[i]);
			ck_assert_uint_eq(event.new_value, 0x80050033);
			ck_assert_uint_eq(event.old_value, 0x80010033);
		}
		begin(v, 5, PAUSED);
		put(BODY, 0xc0000082, 8);
		put(BODY + 8, 0x1111, 8);
		put(BODY + 16, 0x2222, 8);
		ck_assert_int_eq(take(v), 0);
		ck_assert_uint_eq(event.kind, HVMI_EVENT_MSR);
		ck_assert_uint_eq(event.msr, 0xc0000082);
		ck_assert_uint_eq(event.new_value, 0x1111);
		ck_assert_uint_eq(event.old_value, 0x2222);
	}
}
END_TEST

/* Version 6 put the pending exceptions before the length. */
START_TEST(debugging)
{
	EACH_VERSION(v) {
		uint32_t rest = v >= 6 ? BODY + 16 : BODY + 8;
		begin(v, 6, PAUSED);
		put(BODY, 0x1001, 8);
		put(rest, 1, 4);
		put(rest + 4, 6, 1);
		ck_assert_int_eq(take(v), 0);
		ck_assert_uint_eq(event.kind, HVMI_EVENT_BREAKPOINT);
		ck_assert_uint_eq(event.gva, 0xffffffff81001234);
		ck_assert_uint_eq(event.gpa, 0x1001234);
		ck_assert_uint_eq(event.insn_length, 1);
		ck_assert_uint_eq(request.trap_type, 6);
		ck_assert_uint_eq(event.pending_debug, 0);
		put(BODY, UINT64_MAX, 8);
		ck_assert_int_eq(take(v), 0);
		ck_assert_uint_eq(event.gpa, HVMI_NO_ADDRESS);
		put(REASON, 9, 4);
		put(rest, 0, 4);
		put(rest + 4, 3, 1);
		if (v >= 6)
			put(BODY + 8, 0x4000, 8);
		ck_assert_int_eq(take(v), 0);
		ck_assert_uint_eq(event.kind, HVMI_EVENT_DEBUG);
		ck_assert_uint_eq(event.insn_length, 0);
		ck_assert_uint_eq(event.pending_debug, v >= 6 ? 0x4000 : 0);
		ck_assert_uint_eq(request.trap_type, 3);
		/* What Xen leaves out on Intel follows from TF. */
		if (v >= 6)
			put(BODY + 8, 0, 8);
		ck_assert_int_eq(take(v), 0);
		ck_assert_uint_eq(event.pending_debug, 0);
		put(REGS + RFLAGS, 0x100, 8);
		ck_assert_int_eq(take(v), 0);
		ck_assert_uint_eq(event.pending_debug, v >= 6 ? 0x4000 : 0);
		ck_assert_uint_eq(request.pending_debug, v >= 6 ? 0x4000 : 0);
		put(rest + 4, 5, 1);
		ck_assert_int_eq(take(v), 0);
		ck_assert_uint_eq(event.pending_debug, 0);
		put(REASON, 7, 4);
		ck_assert_int_eq(take(v), 0);
		ck_assert_uint_eq(event.kind, HVMI_EVENT_STEP);
	}
}
END_TEST

/* Outside of 64-bit code an address is the segment's base and RIP, in 32 bits. */
START_TEST(segmented)
{
	begin(7, 6, PAUSED);
	put(REGS + versions[7].rip, 0x1234, 8);
	put(REGS + versions[7].cs_base, 0xfffff000, 4);
	put(REGS + versions[7].cs, 0x09bfffff, 4);
	put(REGS + EFER, 0, 8);
	ck_assert_int_eq(take(7), 0);
	ck_assert_uint_eq(event.gva, 0x234);
	put(REGS + EFER, 1 << 10, 8);
	put(REGS + versions[7].cs, 0x29bfffff, 4);
	ck_assert_int_eq(take(7), 0);
	is(HVMI_X86_EFER, 1 << 10);
	ck_assert_uint_eq(event.gva, 0x1234);
}
END_TEST

START_TEST(others)
{
	static const uint32_t tables[] = { 0, HVMI_X86_IDTR_BASE, HVMI_X86_GDTR_BASE,
					   HVMI_X86_LDTR_BASE, HVMI_X86_TR_BASE, 0 };
	EACH_VERSION(v) {
		begin(v, 10, PAUSED);
		put(BODY, 2, 4);
		put(BODY + 4, 0x40000001, 4);
		put(BODY + 8, 7, 4);
		ck_assert_int_eq(take(v), 0);
		ck_assert_uint_eq(event.kind, HVMI_EVENT_CPUID);
		ck_assert_uint_eq(event.insn_length, 2);
		ck_assert_uint_eq(event.leaf, 0x40000001);
		ck_assert_uint_eq(event.subleaf, 7);
		for (uint32_t i = 0; i < 6; i++) {
			begin(v, 13, PAUSED);
			put(BODY + 16, i, 1);
			put(BODY + 17, i & 1, 1);
			ck_assert_int_eq(take(v), 0);
			ck_assert_uint_eq(event.kind, tables[i] ? HVMI_EVENT_DESCRIPTOR : 0);
			ck_assert_uint_eq(event.reg, tables[i]);
			if (tables[i])
				ck_assert_uint_eq(event.access,
						  i & 1 ? HVMI_RIGHT_WRITE : HVMI_RIGHT_READ);
		}
		begin(v, 12, PAUSED);
		put(BODY, 14, 4);
		put(BODY + 4, 3, 4);
		put(BODY + 8, 6, 4);
		put(BODY + 16, 0xdead000, 8);
		ck_assert_int_eq(take(v), 0);
		ck_assert_uint_eq(event.kind, HVMI_EVENT_INTERRUPT);
		ck_assert_uint_eq(event.vector, 14);
		ck_assert_uint_eq(event.type, 3);
		ck_assert_uint_eq(event.error_code, 6);
		ck_assert_uint_eq(event.cr2, 0xdead000);
	}
	begin(7, 16, PAUSED);
	put(BODY, 2, 4);
	put(BODY + 4, 0x3f8, 2);
	put(BODY + 6, 1, 1);
	put(BODY + 7, 1, 1);
	ck_assert_int_eq(take(7), 0);
	ck_assert_uint_eq(event.kind, HVMI_EVENT_IO);
	ck_assert_uint_eq(event.port, 0x3f8);
	ck_assert_uint_eq(event.len, 2);
	ck_assert_uint_eq(event.access, HVMI_RIGHT_READ);
	ck_assert_uint_eq(event.flags, HVMI_EVENT_WAITS | HVMI_EVENT_STRING);
	begin(7, 15, NESTED);
	put(BODY, 10, 8);
	put(BODY + 8, 0x55, 8);
	ck_assert_int_eq(take(7), 0);
	ck_assert_uint_eq(event.kind, HVMI_EVENT_EXIT);
	ck_assert_uint_eq(event.exit_reason, 10);
	ck_assert_uint_eq(event.exit_qualification, 0x55);
	ck_assert_uint_eq(event.flags, HVMI_EVENT_NESTED);
	/* What nobody knows is no event. */
	for (uint32_t reason = 17; reason < 64; reason++) {
		begin(7, reason, PAUSED);
		ck_assert_int_eq(take(7), 0);
		ck_assert_uint_eq(event.kind, 0);
	}
}
END_TEST

static void respond(uint32_t version, struct abi_response response)
{
	ck_assert_int_eq(take(version), 0);
	abi_respond(version, raw, &response);
	for (uint32_t i = 0; i < 16; i++)
		ck_assert_uint_eq(raw[versions[version].bytes + i], 0xee);
	ck_assert_uint_eq(at(VERSION, 4), version);
	ck_assert_uint_eq(at(VCPU, 4), 3);
	ck_assert_uint_eq(at(REASON, 4), response.reason);
}

START_TEST(plain_response)
{
	EACH_VERSION(v) {
		/* Nothing of the request's flags but that the vCPU waits comes back. */
		begin(v, 1, PAUSED | ALTERNATE);
		put(VIEW, 5, 2);
		put(BODY, 0x1234, 8);
		put(BODY + 24, 2, 4);
		respond(v, (struct abi_response){ .reason = 1, .flags = EMULATE });
		ck_assert_uint_eq(at(FLAGS, 4), PAUSED | EMULATE);
		ck_assert_uint_eq(at(VIEW, 2), 0);
		/* Emulation needs the access that was told. */
		ck_assert_uint_eq(at(BODY, 8), 0x1234);
		ck_assert_uint_eq(at(BODY + 24, 4), 2);
		begin(v, 1, 0);
		respond(v, (struct abi_response){ .reason = 1 });
		ck_assert_uint_eq(at(FLAGS, 4), 0);
	}
}
END_TEST

START_TEST(response_registers)
{
	EACH_VERSION(v) {
		begin(v, 6, PAUSED);
		for (uint32_t i = 0; i < 17; i++)
			put(REGS + 8 * i, 0x100 + i, 8);
		struct hvmi_registers new = { 0 };
		hvmi_registers_set(&new, HVMI_X86_RIP, 0x5555);
		hvmi_registers_set(&new, HVMI_X86_R15, 0x6666);
		hvmi_registers_set(&new, HVMI_X86_CR3, 0x7777);
		respond(v, (struct abi_response){ .reason = 6, .flags = SET_REGISTERS,
						  .registers = &new });
		ck_assert_uint_eq(at(FLAGS, 4), PAUSED | SET_REGISTERS);
		ck_assert_uint_eq(at(REGS + versions[v].rip, 8), 0x5555);
		ck_assert_uint_eq(at(REGS + 15 * 8, 8), 0x6666);
		/* All the others as they were: Xen takes the whole block. */
		for (uint32_t i = 0; i < 17; i++)
			if (i != 15)
				ck_assert_uint_eq(at(REGS + 8 * i, 8), 0x100 + i);
		ck_assert_uint_eq(at(REGS + versions[v].cr3, 8), 0);
	}
	ck_assert(abi_sets(HVMI_X86_RIP) && abi_sets(HVMI_X86_RFLAGS) && abi_sets(HVMI_X86_R8));
	ck_assert(!abi_sets(HVMI_X86_CR3) && !abi_sets(HVMI_X86_DR7));
}
END_TEST

START_TEST(response_data)
{
	uint8_t data[256];
	for (uint32_t i = 0; i < sizeof(data); i++)
		data[i] = (uint8_t)~i;
	EACH_VERSION(v) {
		uint32_t room = versions[v].bytes - REGS - 4;
		uint32_t len = room < 256 ? room : 256;
		begin(v, 1, PAUSED);
		respond(v, (struct abi_response){ .reason = 1, .flags = EMULATE | READ_DATA,
						  .data = data, .data_len = len });
		ck_assert_uint_eq(at(REGS, 4), len);
		ck_assert_mem_eq(raw + REGS + 4, data, len);
		begin(v, 6, PAUSED);
		respond(v, (struct abi_response){ .reason = 6, .flags = EMULATE | INSN_DATA,
						  .data = data, .data_len = 16 });
		ck_assert_mem_eq(raw + REGS, data, 16);
		begin(v, 1, PAUSED | ALTERNATE);
		put(BODY, 0x1234, 8);
		respond(v, (struct abi_response){ .reason = 1, .flags = FAST_STEP | ALTERNATE,
						  .step_view = 4, .view = 2 });
		ck_assert_uint_eq(at(BODY, 2), 4);
		ck_assert_uint_eq(at(VIEW, 2), 2);
	}
}
END_TEST

START_TEST(release)
{
	EACH_VERSION(v) {
		begin(v, 1, 0);
		abi_release(v, raw, 6);
		ck_assert_uint_eq(at(VERSION, 4), v);
		ck_assert_uint_eq(at(FLAGS, 4), PAUSED);
		ck_assert_uint_eq(at(REASON, 4), 0);
		ck_assert_uint_eq(at(VCPU, 4), 6);
		for (uint32_t i = BODY; i < versions[v].bytes; i++)
			ck_assert_uint_eq(raw[i], 0);
		ck_assert_uint_eq(raw[versions[v].bytes], 0xee);
	}
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("xen_abi");
	TCase *requests = tcase_create("requests"), *responses = tcase_create("responses");

	tcase_add_test(requests, sizes);
	tcase_add_test(requests, all_registers);
	tcase_add_test(requests, attributes);
	tcase_add_test(requests, wrong_version);
	tcase_add_test(requests, accesses);
	tcase_add_test(requests, writes);
	tcase_add_test(requests, debugging);
	tcase_add_test(requests, segmented);
	tcase_add_test(requests, others);
	tcase_add_test(responses, plain_response);
	tcase_add_test(responses, response_registers);
	tcase_add_test(responses, response_data);
	tcase_add_test(responses, release);
	suite_add_tcase(suite, requests);
	suite_add_tcase(suite, responses);
	return run_suite(suite);
}
