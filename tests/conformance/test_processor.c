/* SPDX-License-Identifier: Apache-2.0 */
/* What a vCPU does beside accessing memory: registers, CPUID, exceptions, descriptors, ports. */
#include <cpuid.h>

#include "suite.h"

struct written {
	enum probe_place place, insn;
	uint32_t reg;
	uint64_t mask;		/* bits that may be flipped for a moment */
};

static struct hvmi_event_request register_request(const struct written *w, uint32_t flags)
{
	struct hvmi_event_request r = request_of(HVMI_EVENT_REGISTER);
	r.reg = w->reg;
	r.flags = flags;
	return r;
}

static struct hvmi_event register_event(const struct written *w, uint64_t old, uint64_t new)
{
	struct hvmi_event event = expect(HVMI_EVENT_REGISTER, kernel_place(w->place));
	SAME(event.reg, w->reg);
	SAME(event.old_value, old);
	SAME(event.new_value, new);
	return event;
}

static void written(const struct written *w)
{
	need_probe(PROBE_KERNEL);
	need_event(HVMI_EVENT_REGISTER);
	uint64_t at = kernel_place(w->place);
	uint32_t vcpu = last_vcpu();
	/* CR3 is the process's own: others have others. */
	struct probe_result plain = guest_call(vcpu, at, 0, 0, 0);
	uint64_t old = plain.values[0], new = old ^ w->mask;
	SAME(plain.values[1], old);
	open_events();
	struct hvmi_event_request r = register_request(w, 0);
	int rc = hvmi_events_request(machine.events, &r, &error);
	if (rc == -ENOTSUP)
		skip("%s", error.text);
	GOOD(rc);
	start_call(vcpu, at, w->mask, 0, 0);
	struct hvmi_event event = register_event(w, old, new);
	SAME(event.vcpu, vcpu);
	SAME(event.flags & HVMI_EVENT_WAITS, HVMI_EVENT_WAITS);
	answer(&event, 0);
	event = register_event(w, new, old);
	answer(&event, 0);
	struct probe_result result = end_call_passing(at);
	SAME(result.values[0], old);
	SAME(result.values[1], new);
	GOOD(hvmi_events_cancel(machine.events, &r, &error));

	/* What changes nothing is not told if it need not be. */
	r = register_request(w, HVMI_REQUEST_ON_CHANGE);
	request(&r);
	start_call(vcpu, at, 0, 0, 0);
	end_call_passing(at);
	start_call(vcpu, at, w->mask, 0, 0);
	event = register_event(w, old, new);
	answer(&event, 0);
	event = register_event(w, new, old);
	answer(&event, 0);
	end_call_passing(at);
	GOOD(hvmi_events_cancel(machine.events, &r, &error));
}

static void deny(const struct written *w)
{
	need_probe(PROBE_KERNEL);
	need_event(HVMI_EVENT_REGISTER);
	need(HVMI_CAN_DENY);
	uint64_t at = kernel_place(w->place);
	uint64_t old = guest_call(0, at, 0, 0, 0).values[0];
	open_events();
	struct hvmi_event_request r =
		register_request(w, HVMI_REQUEST_MAY_DENY | HVMI_REQUEST_ON_CHANGE);
	request(&r);
	start_call(0, at, w->mask, 0, 0);
	struct hvmi_event event = register_event(w, old, old ^ w->mask);
	answer(&event, HVMI_ANSWER_DENY);
	/* The second write now changes nothing. */
	struct probe_result result = end_call();
	SAME(result.values[0], old);
	SAME(result.values[1], old);
}

/* AM, PWT (or a PCID that nobody has), DE: without effect for a moment. */
static const struct written cr0 = { PLACE_cr0, PLACE_cr0_insn, HVMI_X86_CR0, 0x40000 };
static const struct written cr3 = { PLACE_cr3, PLACE_cr3_insn, HVMI_X86_CR3, 8 };
static const struct written cr4 = { PLACE_cr4, PLACE_cr4_insn, HVMI_X86_CR4, 8 };

static void write_cr0(void)
{
	written(&cr0);
}

static void write_cr3(void)
{
	written(&cr3);
}

static void write_cr4(void)
{
	written(&cr4);
}

static void deny_cr0(void)
{
	deny(&cr0);
}

static void deny_cr4(void)
{
	deny(&cr4);
}

/* The highest part that is on and may be off alone: AVX, else SSE. */
static void write_xcr0(void)
{
	struct written w = { PLACE_xcr0, PLACE_xcr0_insn, HVMI_X86_XCR0, 2 };
	need_probe(PROBE_KERNEL);
	uint64_t cr4_now = guest_call(0, kernel_place(PLACE_cr4), 0, 0, 0).values[0];
	if (!(cr4_now & 1 << 18))
		skip("the guest does not use XCR0");
	uint64_t xcr0 = guest_call(0, kernel_place(PLACE_xcr0), 0, 0, 0).values[0];
	if (xcr0 & 4)
		w.mask = xcr0 & 0xe0 ? 0xe0 : 4;
	written(&w);
}

static void ignored_bits(void)
{
	need_probe(PROBE_KERNEL);
	need_event(HVMI_EVENT_REGISTER);
	open_events();
	struct hvmi_event_request r = register_request(&cr4, HVMI_REQUEST_ON_CHANGE);
	r.ignored = cr4.mask;
	int rc = hvmi_events_request(machine.events, &r, &error);
	if (rc == -ENOTSUP)
		skip("%s", error.text);
	GOOD(rc);
	uint64_t foreign = machine.foreign;
	struct probe_result result = guest_call(0, kernel_place(PLACE_cr4), cr4.mask, 0, 0);
	SAME(result.values[1], result.values[0] ^ cr4.mask);
	struct hvmi_event event = { .size = sizeof(event) };
	while (hvmi_events_next(machine.events, 0, &event, &error) == 1) {
		uint64_t rip = event_register(&event, HVMI_X86_RIP) - kernel_place(PLACE_cr4);
		bool ours = rip < 64;
		pass_on(&machine, &event);
		CHECK(!ours);
	}
	machine.foreign = foreign;
	/* Others of its bits still count. */
	start_call(0, kernel_place(PLACE_cr4), 4, 0, 0);
	event = register_event(&cr4, result.values[0], result.values[0] ^ 4);
	answer(&event, 0);
	event = register_event(&cr4, result.values[0] ^ 4, result.values[0]);
	answer(&event, 0);
	end_call();
}

/* Not waited for: told all the same. */
static void write_async(void)
{
	need_probe(PROBE_KERNEL);
	need_event(HVMI_EVENT_REGISTER);
	uint64_t at = kernel_place(PLACE_cr0);
	uint64_t old = guest_call(0, at, 0, 0, 0).values[0];
	open_events();
	struct hvmi_event_request r =
		register_request(&cr0, HVMI_REQUEST_ASYNC | HVMI_REQUEST_ON_CHANGE);
	int rc = hvmi_events_request(machine.events, &r, &error);
	if (rc == -ENOTSUP)
		skip("%s", error.text);
	GOOD(rc);
	guest_call(0, at, cr0.mask, 0, 0);
	struct hvmi_event event = register_event(&cr0, old, old ^ cr0.mask);
	SAME(event.flags & HVMI_EVENT_WAITS, 0);
	event = register_event(&cr0, old ^ cr0.mask, old);
	SAME(hvmi_events_answer(machine.events, &event, NULL, &error), -ENOENT);
}

#define SYSENTER_ESP 0x175u

static struct hvmi_event msr_event(uint64_t old, uint64_t new)
{
	struct hvmi_event event = expect(HVMI_EVENT_MSR, kernel_place(PLACE_msr));
	SAME(event.msr, SYSENTER_ESP);
	SAME(event.old_value, old);
	SAME(event.new_value, new);
	return event;
}

static void write_msr(void)
{
	struct hvmi_event_request r = request_of(HVMI_EVENT_MSR);
	need_probe(PROBE_KERNEL);
	need_event(HVMI_EVENT_MSR);
	uint64_t at = kernel_place(PLACE_msr), mask = 0x1000;
	uint32_t vcpu = last_vcpu();
	uint64_t old = guest_call(vcpu, at, SYSENTER_ESP, 0, 0).values[0];
	open_events();
	r.msr = SYSENTER_ESP;
	request(&r);
	start_call(vcpu, at, SYSENTER_ESP, mask, 0);
	struct hvmi_event event = msr_event(old, old ^ mask);
	SAME(event.vcpu, vcpu);
	answer(&event, 0);
	event = msr_event(old ^ mask, old);
	answer(&event, 0);
	SAME(end_call().values[1], old ^ mask);
	GOOD(hvmi_events_cancel(machine.events, &r, &error));
	guest_call(vcpu, at, SYSENTER_ESP, mask, 0);
	no_event();
}

static void deny_msr(void)
{
	struct hvmi_event_request r = request_of(HVMI_EVENT_MSR);
	need_probe(PROBE_KERNEL);
	need_event(HVMI_EVENT_MSR);
	need(HVMI_CAN_DENY);
	uint64_t at = kernel_place(PLACE_msr), mask = 0x1000;
	uint64_t old = guest_call(0, at, SYSENTER_ESP, 0, 0).values[0];
	open_events();
	r.msr = SYSENTER_ESP;
	r.flags = HVMI_REQUEST_MAY_DENY;
	request(&r);
	start_call(0, at, SYSENTER_ESP, mask, 0);
	struct hvmi_event event = msr_event(old, old ^ mask);
	answer(&event, HVMI_ANSWER_DENY);
	event = msr_event(old, old);
	answer(&event, 0);
	SAME(end_call().values[1], old);
}

static void cpuid(void)
{
	uint32_t plain[4], seen[4];
	struct hvmi_event_request r = request_of(HVMI_EVENT_CPUID);
	need_probe(0);
	need_event(HVMI_EVENT_CPUID);
	uint64_t at = user_place(PLACE_cpuid), out = data_page(0);
	guest_call(last_vcpu(), at, 4, 1, out);
	guest_read(out, plain, sizeof(plain));
	open_events();
	request(&r);
	start_call(last_vcpu(), at, 4, 1, out);
	struct hvmi_event event = expect(HVMI_EVENT_CPUID, at);
	SAME(event.leaf, 4);
	SAME(event.subleaf, 1);
	SAME(event.insn_length, 2);
	SAME(event.vcpu, last_vcpu());
	SAME(event_register(&event, HVMI_X86_RIP), user_place(PLACE_cpuid_insn));
	/* The guest sees what it is given. */
	if (hvmi_vm_capability(machine.vm, HVMI_CAN_SET_REGISTERS, NULL) == 0) {
		struct hvmi_registers registers = *event.registers;
		struct hvmi_answer a = { .size = sizeof(a), .registers = &registers,
					 .flags = HVMI_ANSWER_REGISTERS };
		hvmi_registers_set(&registers, HVMI_X86_RAX, 0x11);
		hvmi_registers_set(&registers, HVMI_X86_RBX, 0x22);
		hvmi_registers_set(&registers, HVMI_X86_RCX, 0x33);
		hvmi_registers_set(&registers, HVMI_X86_RDX, 0x44);
		hvmi_registers_set(&registers, HVMI_X86_RIP, user_place(PLACE_cpuid_next));
		answer_with(&event, &a);
		end_call();
		guest_read(out, seen, sizeof(seen));
		for (uint32_t i = 0; i < 4; i++)
			SAME(seen[i], 0x11 * (i + 1));
		start_call(last_vcpu(), at, 4, 1, out);
		event = expect(HVMI_EVENT_CPUID, at);
	}
	/* And what it would have seen. */
	pass_on(&machine, &event);
	end_call();
	guest_read(out, seen, sizeof(seen));
	CHECK(memcmp(seen, plain, sizeof(seen)) == 0);
	GOOD(hvmi_events_cancel(machine.events, &r, &error));
}

static bool on_amd(void)
{
	unsigned a, b = 0, c, d;
	return __get_cpuid(0, &a, &b, &c, &d) && b == signature_AMD_ebx;
}

static void debug(enum probe_place place, enum probe_place where, uint32_t insn_length)
{
	struct hvmi_event_request r = request_of(HVMI_EVENT_DEBUG);
	need_probe(PROBE_SIGNALS);
	need_event(HVMI_EVENT_DEBUG);
	uint64_t at = user_place(place), traps = mailbox_now().sigtraps;
	open_events();
	request(&r);
	start_call(last_vcpu(), at, 9, 0, 0);
	struct hvmi_event event = expect(HVMI_EVENT_DEBUG, at);
	SAME(event.vcpu, last_vcpu());
	SAME(event_register(&event, HVMI_X86_RIP), user_place(where));
	if (insn_length) {
		SAME(event.insn_length, insn_length);
	} else if (event.pending_debug || !on_amd()) {
		/* BS: it was a single step. AMD's processors have no such field. */
		SAME(event.pending_debug & 1 << 14, 1 << 14);
	}
	answer(&event, HVMI_ANSWER_REINJECT);
	SAME(end_call().values[0], 9);
	SAME(mailbox_now().sigtraps, traps + 1);
	GOOD(hvmi_events_cancel(machine.events, &r, &error));
	SAME(guest_call(last_vcpu(), at, 10, 0, 0).values[0], 10);
	SAME(mailbox_now().sigtraps, traps + 2);
}

static void debug_icebp(void)
{
	debug(PLACE_icebp, PLACE_icebp, 1);
}

static void debug_trap(void)
{
	debug(PLACE_trap, PLACE_trap_next, 0);
}

static void descriptor(enum probe_place place, uint32_t reg, bool loads)
{
	struct hvmi_event_request r = request_of(HVMI_EVENT_DESCRIPTOR);
	uint64_t at = kernel_place(place);
	uint32_t flags = hvmi_vm_capability(machine.vm, HVMI_CAN_EMULATE, NULL) ?
				 0 : HVMI_ANSWER_EMULATE;
	open_events();
	request(&r);
	start_call(last_vcpu(), at, machine.box.kdata, 0, 0);
	for (int i = 0; i < (loads ? 2 : 1); i++) {
		struct hvmi_event event = expect(HVMI_EVENT_DESCRIPTOR, at);
		SAME(event.reg, reg);
		SAME(event.access, i ? HVMI_RIGHT_WRITE : HVMI_RIGHT_READ);
		SAME(event.vcpu, last_vcpu());
		answer(&event, flags);
	}
	end_call();
	GOOD(hvmi_events_cancel(machine.events, &r, &error));
	hvmi_events_close(machine.events);
	machine.events = NULL;
}

static void descriptors(void)
{
	need_probe(PROBE_KERNEL);
	need_event(HVMI_EVENT_DESCRIPTOR);
	descriptor(PLACE_idt, HVMI_X86_IDTR_BASE, true);
	descriptor(PLACE_gdt, HVMI_X86_GDTR_BASE, true);
	descriptor(PLACE_ldt, HVMI_X86_LDTR_BASE, true);
	descriptor(PLACE_tr, HVMI_X86_TR_BASE, false);
}

static uint64_t request_place(bool kernel)
{
	enum probe_place place = machine.box.features & PROBE_AMD ? PLACE_request_amd :
								     PLACE_request_intel;
	return kernel ? kernel_place(place) : user_place(place);
}

static void guest_request(void)
{
	struct hvmi_event_request r = request_of(HVMI_EVENT_GUEST_REQUEST);
	need_probe(PROBE_KERNEL | PROBE_ON_XEN);
	need_event(HVMI_EVENT_GUEST_REQUEST);
	open_events();
	request(&r);
	start_call(last_vcpu(), request_place(true), 0, 0, 0);
	struct hvmi_event event = expect(HVMI_EVENT_GUEST_REQUEST, request_place(true));
	SAME(event.vcpu, last_vcpu());
	SAME(event.flags & HVMI_EVENT_WAITS, HVMI_EVENT_WAITS);
	answer(&event, 0);
	SAME(end_call().values[0], 0);
	GOOD(hvmi_events_cancel(machine.events, &r, &error));
	/* Without waiting, and from a process. */
	r.flags = HVMI_REQUEST_ASYNC | HVMI_REQUEST_USER;
	int rc = hvmi_events_request(machine.events, &r, &error);
	if (rc == -ENOTSUP)
		skip("from user mode: %s", error.text);
	GOOD(rc);
	SAME(guest_call(0, request_place(false), 0, 0, 0).values[0], 0);
	event = expect(HVMI_EVENT_GUEST_REQUEST, request_place(false));
	SAME(event.vcpu, 0);
	SAME(event.flags & HVMI_EVENT_WAITS, 0);
}

static void ports(void)
{
	struct hvmi_event_request r = request_of(HVMI_EVENT_IO);
	need_probe(0);
	need_event(HVMI_EVENT_IO);
	need(HVMI_CAN_SET_REGISTERS);
	open_events();
	request(&r);
	start_call(last_vcpu(), user_place(PLACE_io), PROBE_PORT, 0x5a, 0);
	struct hvmi_event event = expect(HVMI_EVENT_IO, user_place(PLACE_io));
	SAME(event.port, PROBE_PORT);
	SAME(event.len, 1);
	SAME(event.access, HVMI_RIGHT_WRITE);
	SAME(event_register(&event, HVMI_X86_RAX) & 0xff, 0x5a);
	SAME(event_register(&event, HVMI_X86_RIP), user_place(PLACE_io_out));
	answer_at(&event, 0, user_place(PLACE_io_in), NULL);
	event = expect(HVMI_EVENT_IO, user_place(PLACE_io));
	SAME(event.port, PROBE_PORT);
	SAME(event.access, HVMI_RIGHT_READ);
	SAME(event_register(&event, HVMI_X86_RIP), user_place(PLACE_io_in));
	uint64_t rax = 0x77;
	answer_at(&event, 0, user_place(PLACE_io_next), &rax);
	SAME(end_call().values[0], 0x77);
	GOOD(hvmi_events_cancel(machine.events, &r, &error));
}

/* Exits come all the time: a few of them, and then the guest goes on. */
static void exits(void)
{
	struct hvmi_event_request r = request_of(HVMI_EVENT_EXIT);
	struct hvmi_event event = { .size = sizeof(event) };
	need_probe(0);
	need_event(HVMI_EVENT_EXIT);
	open_events();
	request(&r);
	for (int i = 0; i < 20; i++) {
		SAME(hvmi_events_next(machine.events, options.timeout_ms, &event, &error), 1);
		SAME(event.kind, HVMI_EVENT_EXIT);
		/* Intel SDM volume 3, table C-1 */
		CHECK((event.exit_reason & 0xffff) < 80);
		CHECK(event.vcpu < machine.info.vcpus);
		if (event.flags & HVMI_EVENT_WAITS)
			answer(&event, 0);
	}
	GOOD(hvmi_events_cancel(machine.events, &r, &error));
	hvmi_events_close(machine.events);
	machine.events = NULL;
	SAME(guest_call(0, user_place(PLACE_steps), 1, 0, 0).values[0], 7);
}

const struct test processor_tests[] = {
	{ "write-cr0", write_cr0 }, { "write-cr3", write_cr3 }, { "write-cr4", write_cr4 },
	{ "write-xcr0", write_xcr0 }, { "write-ignored", ignored_bits },
	{ "write-async", write_async }, { "deny-cr0", deny_cr0 }, { "deny-cr4", deny_cr4 },
	{ "write-msr", write_msr }, { "deny-msr", deny_msr }, { "cpuid", cpuid },
	{ "debug-icebp", debug_icebp }, { "debug-trap", debug_trap },
	{ "descriptors", descriptors }, { "guest-request", guest_request }, { "ports", ports },
	{ "exits", exits }, { NULL, NULL },
};
