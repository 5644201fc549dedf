/* SPDX-License-Identifier: Apache-2.0 */
/* Breakpoints, steps, watchpoints, injections; requests and answers as such. */
#include <poll.h>

#include "suite.h"

static void breakpoint(uint64_t at, uint32_t vcpu)
{
	struct hvmi_event_request r = request_of(HVMI_EVENT_BREAKPOINT);
	need_probe(0);
	need(HVMI_CAN_BREAKPOINTS);
	open_events();
	r.gva = at;
	request(&r);
	for (uint64_t i = 0; i < 3; i++) {
		start_call(vcpu, at, 100 + i, 0, 0);
		struct hvmi_event event = expect(HVMI_EVENT_BREAKPOINT, at);
		SAME(event.gva, at);
		if (event.gpa != HVMI_NO_ADDRESS)
			SAME(event.gpa, gpa_of(at));
		SAME(event.vcpu, vcpu);
		SAME(event.flags & HVMI_EVENT_WAITS, HVMI_EVENT_WAITS);
		SAME(event.insn_length, 0);
		SAME(event_register(&event, HVMI_X86_RIP), at);
		SAME(event_register(&event, HVMI_X86_RDI), 100 + i);
		CHECK(!call_done());
		answer(&event, 0);
		SAME(end_call().values[0], 106 + i);
		no_event();
	}
	/* The guest reads its own code and sees nothing of it. */
	if (at - machine.box.code < PROBE_CODE_BYTES) {
		uint64_t bytes;
		memcpy(&bytes, machine.code + (at - machine.box.code), 8);
		SAME(guest_call(vcpu, user_place(PLACE_read), at, 0, 0).values[0], bytes);
	}
	GOOD(hvmi_events_cancel(machine.events, &r, &error));
	SAME(guest_call(vcpu, at, 1, 0, 0).values[0], 7);
	no_event();
}

static void breakpoint_user(void)
{
	need_probe(0);
	breakpoint(user_place(PLACE_steps), last_vcpu());
}

static void breakpoint_kernel(void)
{
	breakpoint(kernel_place(PLACE_steps), 0);
}

static void breakpoint_registers(void)
{
	struct hvmi_event_request r = request_of(HVMI_EVENT_BREAKPOINT);
	need_probe(0);
	need(HVMI_CAN_BREAKPOINTS);
	need(HVMI_CAN_SET_REGISTERS);
	open_events();
	r.gva = user_place(PLACE_steps_2);
	request(&r);
	start_call(0, user_place(PLACE_steps), 10, 0, 0);
	struct hvmi_event event = expect(HVMI_EVENT_BREAKPOINT, r.gva);
	SAME(event_register(&event, HVMI_X86_RAX), 10);
	/* Another value, in the same place. */
	uint64_t rax = 1000;
	answer_at(&event, 0, r.gva, &rax);
	SAME(end_call().values[0], 1006);
	/* And another place: what lies between does not happen. */
	start_call(0, user_place(PLACE_steps), 10, 0, 0);
	event = expect(HVMI_EVENT_BREAKPOINT, r.gva);
	answer_at(&event, 0, user_place(PLACE_steps_4), &rax);
	SAME(end_call().values[0], 1000);
	no_event();
}

/* One after the other, both hit; the second is not missed by stepping over the first. */
static void breakpoints_adjacent(void)
{
	static const enum probe_place places[] = { PLACE_steps_1, PLACE_steps_2, PLACE_steps_3 };
	struct hvmi_event_request r = request_of(HVMI_EVENT_BREAKPOINT);
	need_probe(0);
	need(HVMI_CAN_BREAKPOINTS);
	open_events();
	for (size_t i = 0; i < 3; i++) {
		r.gva = user_place(places[i]);
		request(&r);
	}
	start_call(last_vcpu(), user_place(PLACE_steps), 1, 0, 0);
	for (size_t i = 0; i < 3; i++) {
		struct hvmi_event event = expect(HVMI_EVENT_BREAKPOINT, user_place(PLACE_steps));
		SAME(event.gva, user_place(places[i]));
		answer(&event, 0);
	}
	SAME(end_call().values[0], 7);
	no_event();
}

static void breakpoint_async(void)
{
	struct hvmi_event_request r = request_of(HVMI_EVENT_BREAKPOINT);
	need_probe(0);
	need(HVMI_CAN_BREAKPOINTS);
	open_events();
	r.gva = user_place(PLACE_steps);
	r.flags = HVMI_REQUEST_ASYNC;
	int rc = hvmi_events_request(machine.events, &r, &error);
	if (rc == -ENOTSUP)
		skip("%s", error.text);
	GOOD(rc);
	/* Taking it may be what lets the guest go on; an answer is not. */
	start_call(0, r.gva, 1, 0, 0);
	struct hvmi_event event = expect(HVMI_EVENT_BREAKPOINT, r.gva);
	SAME(event.flags & HVMI_EVENT_WAITS, 0);
	SAME(event.gva, r.gva);
	SAME(hvmi_events_answer(machine.events, &event, NULL, &error), -ENOENT);
	SAME(end_call().values[0], 7);
	no_event();
}

static void int3_own(void)
{
	struct hvmi_event_request r = request_of(HVMI_EVENT_BREAKPOINT);
	uint64_t at = user_place(PLACE_int3);
	need_probe(PROBE_SIGNALS);
	need(HVMI_CAN_INT3);
	open_events();
	request(&r);
	uint64_t traps = mailbox_now().sigtraps;
	start_call(last_vcpu(), at, 5, 0, 0);
	struct hvmi_event event = expect(HVMI_EVENT_BREAKPOINT, at);
	SAME(event.gva, at);
	if (event.gpa != HVMI_NO_ADDRESS)
		SAME(event.gpa, gpa_of(at));
	SAME(event.vcpu, last_vcpu());
	SAME(event.insn_length, 1);
	SAME(event_register(&event, HVMI_X86_RIP), at);
	/* The guest's own: it gets it. */
	answer(&event, HVMI_ANSWER_REINJECT);
	SAME(end_call().values[0], 5);
	SAME(mailbox_now().sigtraps, traps + 1);
	if (hvmi_vm_capability(machine.vm, HVMI_CAN_SET_REGISTERS, NULL) == 0) {
		start_call(0, at, 6, 0, 0);
		event = expect(HVMI_EVENT_BREAKPOINT, at);
		answer_at(&event, 0, user_place(PLACE_int3_next), NULL);
		SAME(end_call().values[0], 6);
		SAME(mailbox_now().sigtraps, traps + 1);
	}
	GOOD(hvmi_events_cancel(machine.events, &r, &error));
	SAME(guest_call(0, at, 7, 0, 0).values[0], 7);
	SAME(mailbox_now().sigtraps, traps + 2);
}

/* One that somebody else put there: taken away again, it was never there. */
static void int3_placed(void)
{
	need_probe(PROBE_SIGNALS);
	need(HVMI_CAN_INT3);
	open_events();
	struct hvmi_event_request r = request_of(HVMI_EVENT_BREAKPOINT);
	uint64_t at = exec_place(PLACE_steps_1), traps = mailbox_now().sigtraps;
	request(&r);
	guest_write(at, "\xcc", 1);
	start_call(last_vcpu(), exec_place(PLACE_steps), 5, 0, 0);
	struct hvmi_event event = expect(HVMI_EVENT_BREAKPOINT, at);
	SAME(event.gva, at);
	guest_write(at, machine.code + machine.offsets[PLACE_steps_1], 1);
	answer(&event, 0);
	SAME(end_call().values[0], 11);
	SAME(mailbox_now().sigtraps, traps);
}

/*
 * Step through steps(). False: an interrupt came between and was stepped into, as it may; it is over when
 * this returns.
 */
static bool step_through(uint64_t start)
{
	static const enum probe_place places[] = { PLACE_steps_1, PLACE_steps_2, PLACE_steps_3,
						   PLACE_steps_4 };
	static const uint64_t rax[] = { 1, 1, 3, 7 };
	uint64_t code = start - machine.offsets[PLACE_steps];
	struct hvmi_event event = stop_at(last_vcpu(), start, 1, 0);
	answer(&event, HVMI_ANSWER_STEP);
	for (size_t i = 0; i <= sizeof(places) / sizeof(*places); i++) {
		if (i)
			answer(&event, 0);
		event = expect(HVMI_EVENT_STEP, ANYWHERE);
		SAME(event.vcpu, last_vcpu());
		if (!event_at(&event, start)) {
			answer(&event, HVMI_ANSWER_STEP_OFF);
			SAME(end_call().values[0], 7);
			return false;
		}
		/* endbr64 comes first. */
		SAME(event_register(&event, HVMI_X86_RIP),
		     i ? code + machine.offsets[places[i - 1]] : start + 4);
		if (i)
			SAME(event_register(&event, HVMI_X86_RAX), rax[i - 1]);
	}
	answer(&event, HVMI_ANSWER_STEP_OFF);
	SAME(end_call().values[0], 7);
	return true;
}

static void step_at(uint64_t start, unsigned tries)
{
	open_events();
	struct hvmi_event_request r = request_of(HVMI_EVENT_STEP);
	r.vcpu = last_vcpu();
	request(&r);
	unsigned interrupts = 0;
	while (!step_through(start))
		if (++interrupts == tries)
			fail("an interrupt came between %u times", interrupts);
	if (interrupts)
		remark("an interrupt came between %u times", interrupts);
	no_event();
}

static void step_user(void)
{
	need_probe(0);
	need_event(HVMI_EVENT_STEP);
	step_at(exec_place(PLACE_steps), 200);
}

/* With interrupts off. */
static void step_kernel(void)
{
	need_probe(PROBE_KERNEL);
	need_event(HVMI_EVENT_STEP);
	step_at(kernel_place(PLACE_steps), 1);
}

static struct hvmi_event watched(uint32_t access, uint64_t gva, uint64_t len)
{
	struct hvmi_event_request r = request_of(HVMI_EVENT_WATCHPOINT);
	need_probe(0);
	need_event(HVMI_EVENT_WATCHPOINT);
	open_events();
	r.gva = gva;
	r.len = len;
	r.access = access;
	request(&r);
	bool write = access == HVMI_RIGHT_WRITE;
	/* What is not watched is no event. */
	guest_call(last_vcpu(), user_place(PLACE_write), gva + 16, 1, 0);
	no_event();
	uint64_t function = user_place(write ? PLACE_write : PLACE_read);
	start_call(last_vcpu(), function, gva, 0xabcdef, 0);
	struct hvmi_event event = expect(HVMI_EVENT_WATCHPOINT, function);
	SAME(event.gva, gva);
	SAME(event.len, len);
	SAME(event.access & access, access);
	SAME(event.vcpu, last_vcpu());
	/* The access was done. */
	SAME(event_register(&event, HVMI_X86_RIP),
	     user_place(write ? PLACE_write_next : PLACE_read_next));
	return event;
}

static void watchpoint_write(void)
{
	uint64_t value;
	need_probe(0);
	struct hvmi_event event = watched(HVMI_RIGHT_WRITE, data_page(3) + 8, 8);
	guest_read(data_page(3) + 8, &value, 8);
	SAME(value, 0xabcdef);
	answer(&event, 0);
	end_call();
	/* Reading is not what was asked for. */
	SAME(guest_call(0, user_place(PLACE_read), data_page(3) + 8, 0, 0).values[0], 0xabcdef);
	no_event();
}

static void watchpoint_read(void)
{
	uint64_t value = 0x77;
	need_probe(0);
	guest_write(data_page(3) + 8, &value, 8);
	struct hvmi_event event = watched(HVMI_RIGHT_READ, data_page(3) + 8, 8);
	SAME(event_register(&event, HVMI_X86_RAX), 0x77);
	answer(&event, 0);
	SAME(end_call().values[0], 0x77);
	no_event();
}

/* There is nothing, though what the machine says of its own state may be on its way. */
static void nothing_to_poll(void)
{
	struct hvmi_event event = { .size = sizeof(event) };
	struct pollfd fd = { .fd = hvmi_events_fd(machine.events), .events = POLLIN };
	CHECK(fd.fd >= 0);
	for (int64_t end = now_ms() + options.timeout_ms; poll(&fd, 1, 0);) {
		SAME(hvmi_events_next(machine.events, 0, &event, &error), 0);
		CHECK(now_ms() < end);
	}
	SAME(hvmi_events_next(machine.events, 0, &event, &error), 0);
}

static void opening(void)
{
	struct hvmi_events *second;
	struct hvmi_event event = { .size = sizeof(event) };
	need_running();
	int r = hvmi_events_open(machine.vm, NULL, &machine.events, &error);
	if (r == -ENOTSUP)
		skip("%s", error.text);
	GOOD(r);
	SAME(hvmi_events_open(machine.vm, NULL, &second, &error), -EBUSY);
	nothing_to_poll();
	int64_t start = now_ms();
	SAME(hvmi_events_next(machine.events, 30, &event, &error), 0);
	CHECK(now_ms() - start >= 29);
	hvmi_events_close(machine.events);
	machine.events = NULL;
	open_events();
}

static void requests(void)
{
	static const uint32_t kinds[] = { HVMI_EVENT_BREAKPOINT, HVMI_EVENT_STEP,
					  HVMI_EVENT_REGISTER, HVMI_EVENT_CPUID };
	need_probe(0);
	open_events();
	struct hvmi_event_request r = request_of(HVMI_EVENT_KIND_END);
	SAME(hvmi_events_request(machine.events, &r, &error), -EINVAL);
	unsigned tried = 0;
	for (size_t i = 0; i < sizeof(kinds) / sizeof(*kinds); i++) {
		r = request_of(kinds[i]);
		uint32_t capability = HVMI_CAN_EVENT + kinds[i];
		if (kinds[i] == HVMI_EVENT_REGISTER)
			r.reg = HVMI_X86_CR0;
		if (kinds[i] == HVMI_EVENT_BREAKPOINT) {
			r.gva = user_place(PLACE_trap);
			capability = HVMI_CAN_BREAKPOINTS;
		}
		if (hvmi_vm_capability(machine.vm, capability, NULL)) {
			SAME(hvmi_events_request(machine.events, &r, &error), -ENOTSUP);
			continue;
		}
		SAME(hvmi_events_cancel(machine.events, &r, &error), -ENOENT);
		request(&r);
		SAME(hvmi_events_request(machine.events, &r, &error), -EINVAL);
		GOOD(hvmi_events_cancel(machine.events, &r, &error));
		SAME(hvmi_events_cancel(machine.events, &r, &error), -ENOENT);
		request(&r);
		tried++;
	}
	if (!tried)
		skip("none of the kinds can be requested");
}

static void answers(void)
{
	need_probe(0);
	open_events();
	struct hvmi_event event = stop_anywhere(0);
	uint32_t where = event.kind;
	struct hvmi_answer a = { .size = sizeof(a),
				 .flags = HVMI_ANSWER_STEP | HVMI_ANSWER_STEP_OFF };
	SAME(hvmi_events_answer(machine.events, &event, &a, &error), -EINVAL);
	a.flags = HVMI_ANSWER_READ_DATA;
	SAME(hvmi_events_answer(machine.events, &event, &a, &error), -EINVAL);
	a.flags = HVMI_ANSWER_REGISTERS;
	SAME(hvmi_events_answer(machine.events, &event, &a, &error), -EINVAL);
	a.flags = 1u << 31;
	SAME(hvmi_events_answer(machine.events, &event, &a, &error), -EINVAL);
	static const uint32_t wants[][2] = {
		{ HVMI_ANSWER_EMULATE, HVMI_CAN_EMULATE }, { HVMI_ANSWER_VIEW, HVMI_CAN_VIEWS },
		{ HVMI_ANSWER_FAST_STEP, HVMI_CAN_FAST_STEP }, { HVMI_ANSWER_DENY, HVMI_CAN_DENY },
		{ HVMI_ANSWER_CONFIRM, HVMI_CAN_CONFIRM },
	};
	for (size_t i = 0; i < sizeof(wants) / sizeof(*wants); i++) {
		a.flags = wants[i][0];
		if (hvmi_vm_capability(machine.vm, wants[i][1], NULL))
			SAME(hvmi_events_answer(machine.events, &event, &a, &error), -ENOTSUP);
	}
	CHECK(!call_done());
	struct hvmi_event other = event;
	other.id += 1000;
	SAME(hvmi_events_answer(machine.events, &other, NULL, &error), -ENOENT);
	GOOD(hvmi_events_answer(machine.events, &event, NULL, &error));
	SAME(hvmi_events_answer(machine.events, &event, NULL, &error), -ENOENT);
	end_anywhere(where);
}

/* A page fault that never was: the guest's own handler sees it. */
static void inject(bool by_answer)
{
	struct hvmi_injection fault = { .size = sizeof(fault), .vector = 14, .type = 3,
					.error_code = 4, .cr2 = 0xdead0000 };
	need_probe(PROBE_SIGNALS);
	need(HVMI_CAN_INJECT);
	open_events();
	uint64_t before = mailbox_now().sigsegvs;
	struct hvmi_event event = stop_anywhere(last_vcpu());
	uint32_t where = event.kind;
	if (by_answer) {
		struct hvmi_answer a = { .size = sizeof(a), .flags = HVMI_ANSWER_INJECT,
					 .injection = &fault };
		answer_with(&event, &a);
	} else {
		GOOD(hvmi_vm_inject(machine.vm, event.vcpu, &fault, &error));
		SAME(hvmi_vm_inject(machine.vm, event.vcpu, &fault, &error), -EBUSY);
		answer(&event, 0);
	}
	end_anywhere(where);
	struct probe_mailbox box = mailbox_now();
	SAME(box.sigsegvs, before + 1);
	SAME(box.fault, 0xdead0000);
}

static void inject_directly(void)
{
	inject(false);
}

static void inject_by_answer(void)
{
	inject(true);
}

static void inject_confirmed(void)
{
	struct hvmi_injection fault = { .size = sizeof(fault), .vector = 14, .type = 3,
					.error_code = 4, .cr2 = 0xbeef0000 };
	need_probe(PROBE_SIGNALS);
	need(HVMI_CAN_INJECT);
	need(HVMI_CAN_CONFIRM);
	open_events();
	uint64_t before = mailbox_now().sigsegvs;
	struct hvmi_event event = stop_anywhere(last_vcpu());
	uint32_t where = event.kind;
	struct hvmi_answer a = { .size = sizeof(a),
				 .flags = HVMI_ANSWER_INJECT | HVMI_ANSWER_CONFIRM,
				 .injection = &fault };
	/* It comes in answer to that, whether such events can be requested or not. */
	uint64_t rip = event_register(&event, HVMI_X86_RIP);
	answer_with(&event, &a);
	event = expect(HVMI_EVENT_INTERRUPT, rip);
	SAME(event.vcpu, last_vcpu());
	SAME(event.vector, 14);
	SAME(event.type, 3);
	SAME(event.error_code, 4);
	SAME(event.cr2, 0xbeef0000);
	answer(&event, 0);
	end_anywhere(where);
	SAME(mailbox_now().sigsegvs, before + 1);
}

/*
 * Workers of two vCPUs meet the same breakpoint. Where a machine stops as a whole for an event the
 * second comes after the answer to the first; else both wait, and may be answered in any order.
 */
static void two_vcpus(void)
{
	struct hvmi_event_request r = request_of(HVMI_EVENT_BREAKPOINT);
	struct hvmi_event waiting[2];
	uint64_t hits[PROBE_VCPUS_MAX] = { 0 }, both = 0;
	need_probe(PROBE_WORKERS);
	need(HVMI_CAN_BREAKPOINTS);
	if (machine.box.vcpus < 2 || machine.info.vcpus < 2)
		skip("there is one vCPU");
	open_events();
	r.gva = user_place(PLACE_work);
	request(&r);
	for (int64_t end = now_ms() + options.timeout_ms; hits[0] < 3 || hits[1] < 3;) {
		int count = 0;
		if (now_ms() > end)
			fail("vCPU 0 came %llu times, vCPU 1 %llu times",
			     (unsigned long long)hits[0], (unsigned long long)hits[1]);
		waiting[count++] = expect(HVMI_EVENT_BREAKPOINT, r.gva);
		waiting[1].size = sizeof(waiting[1]);
		count += hvmi_events_next(machine.events, 50, &waiting[1], &error);
		CHECK(count == 1 || waiting[0].vcpu != waiting[1].vcpu);
		both += count == 2;
		while (count--) {
			SAME(waiting[count].gva, r.gva);
			CHECK(waiting[count].vcpu < 2);
			SAME(event_register(&waiting[count], HVMI_X86_RDI),
			     PROBE_WORK + PAGE * waiting[count].vcpu);
			hits[waiting[count].vcpu]++;
			answer(&waiting[count], 0);
		}
	}
	remark("both vCPUs waited %llu times", (unsigned long long)both);
	SAME(mailbox_now().work_errors, machine.box.work_errors);
}

const struct test event_tests[] = {
	{ "events-open", opening }, { "requests", requests },
	{ "breakpoint-user", breakpoint_user }, { "breakpoint-kernel", breakpoint_kernel },
	{ "breakpoint-registers", breakpoint_registers },
	{ "breakpoints-adjacent", breakpoints_adjacent }, { "breakpoint-async", breakpoint_async },
	{ "int3-own", int3_own }, { "int3-placed", int3_placed }, { "step-user", step_user },
	{ "step-kernel", step_kernel },
	{ "watchpoint-write", watchpoint_write }, { "watchpoint-read", watchpoint_read },
	{ "answers", answers }, { "inject", inject_directly },
	{ "inject-by-answer", inject_by_answer }, { "inject-confirmed", inject_confirmed },
	{ "two-vcpus", two_vcpus }, { NULL, NULL },
};
