/* SPDX-License-Identifier: Apache-2.0 */
/* Rights of pages, views, other frames, emulation. */
#include "suite.h"

#define RIGHTS (HVMI_RIGHT_READ | HVMI_RIGHT_WRITE | HVMI_RIGHT_EXECUTE)

static void set_rights(uint32_t view, uint64_t gva, uint64_t pages, uint32_t rights)
{
	/* Pages that follow each other in the process need not do so in the machine. */
	for (uint64_t i = 0; i < pages; i++) {
		uint32_t now = 0;
		uint64_t gpa = gpa_of(gva + i * PAGE) / PAGE * PAGE;
		GOOD(hvmi_view_set_rights(machine.events, view, gpa, 1, rights, &error));
		GOOD(hvmi_view_get_rights(machine.events, view, gpa, &now, &error));
		SAME(now, rights);
	}
}

static void begin_access(void)
{
	need_probe(0);
	need_event(HVMI_EVENT_ACCESS);
	open_events();
	struct hvmi_event_request r = request_of(HVMI_EVENT_ACCESS);
	request(&r);
}

/* An access to memory at the first instruction of a place. */
static struct hvmi_event access_event(enum probe_place place, uint64_t gva, uint64_t value)
{
	uint64_t at = user_place(place);
	start_call(last_vcpu(), at, gva, value, 0);
	struct hvmi_event event = expect(HVMI_EVENT_ACCESS, at);
	SAME(event_register(&event, HVMI_X86_RIP), at);
	SAME(event.gva, gva);
	SAME(event.gpa, gpa_of(gva));
	SAME(event.vcpu, last_vcpu());
	SAME(event.flags & (HVMI_EVENT_WAITS | HVMI_EVENT_IN_PAGE_WALK), HVMI_EVENT_WAITS);
	CHECK(!call_done());
	return event;
}

static void access_write(void)
{
	uint64_t gva = data_page(0) + 0x128, value = 1;
	begin_access();
	guest_write(gva, &value, 8);
	set_rights(0, gva, 1, HVMI_RIGHT_READ | HVMI_RIGHT_EXECUTE);
	/* Reading is allowed. */
	SAME(guest_call(last_vcpu(), user_place(PLACE_read), gva, 0, 0).values[0], 1);
	no_event();
	struct hvmi_event event = access_event(PLACE_write, gva, 0x1234);
	SAME(event.access, HVMI_RIGHT_WRITE);
	guest_read(gva, &value, 8);
	SAME(value, 1);
	set_rights(0, gva, 1, RIGHTS);
	answer(&event, 0);
	end_call();
	guest_read(gva, &value, 8);
	SAME(value, 0x1234);
	no_event();
}

static void access_read(void)
{
	uint64_t gva = data_page(0) + 0xff8, value = 0x99;
	begin_access();
	guest_write(gva, &value, 8);
	set_rights(0, gva, 1, 0);
	struct hvmi_event event = access_event(PLACE_read, gva, 0);
	SAME(event.access, HVMI_RIGHT_READ);
	/* The host's own view of it stays. */
	guest_read(gva, &value, 8);
	SAME(value, 0x99);
	set_rights(0, gva, 1, RIGHTS);
	answer(&event, 0);
	SAME(end_call().values[0], 0x99);
}

static void access_execute(void)
{
	uint64_t at = exec_place(PLACE_steps);
	begin_access();
	set_rights(0, at / PAGE * PAGE, 1, HVMI_RIGHT_READ | HVMI_RIGHT_WRITE);
	start_call(0, at, 3, 0, 0);
	struct hvmi_event event = expect(HVMI_EVENT_ACCESS, at);
	SAME(event.access, HVMI_RIGHT_EXECUTE);
	SAME(event.gva, at);
	SAME(event.gpa, gpa_of(at));
	SAME(event.vcpu, 0);
	set_rights(0, at / PAGE * PAGE, 1, RIGHTS);
	answer(&event, 0);
	SAME(end_call().values[0], 9);
}

static void access_modify(void)
{
	uint64_t gva = data_page(1), value = 40;
	begin_access();
	guest_write(gva, &value, 8);
	set_rights(0, gva, 1, HVMI_RIGHT_READ);
	struct hvmi_event event = access_event(PLACE_add, gva, 2);
	CHECK(event.access & HVMI_RIGHT_WRITE);
	SAME(event.access & ~(HVMI_RIGHT_WRITE | HVMI_RIGHT_READ), 0);
	set_rights(0, gva, 1, RIGHTS);
	answer(&event, 0);
	end_call();
	guest_read(gva, &value, 8);
	SAME(value, 42);
}

/* Four bytes on one page, four on the next, which alone is protected. */
static void access_straddling(void)
{
	uint64_t gva = data_page(2) - 4, value = 0, at = user_place(PLACE_write);
	begin_access();
	guest_write(gva, &value, 8);
	set_rights(0, data_page(2), 1, HVMI_RIGHT_READ);
	start_call(last_vcpu(), at, gva, 0x8877665544332211, 0);
	struct hvmi_event event = expect(HVMI_EVENT_ACCESS, at);
	SAME(event.gpa / PAGE, gpa_of(data_page(2)) / PAGE);
	SAME(event.access, HVMI_RIGHT_WRITE);
	CHECK(event.gva == gva || event.gva == data_page(2));
	guest_read(gva, &value, 8);
	SAME(value, 0);
	set_rights(0, data_page(2), 1, RIGHTS);
	answer(&event, 0);
	end_call();
	guest_read(gva, &value, 8);
	SAME(value, 0x8877665544332211);
}

/* rep movsb runs into a protected page: what came before it is done, and it goes on from there. */
static void access_string(void)
{
	uint8_t from[64], to[64] = { 0 };
	uint64_t source = data_page(4), target = data_page(3) - 32;
	for (size_t i = 0; i < sizeof(from); i++)
		from[i] = (uint8_t)(i + 1);
	begin_access();
	guest_write(source, from, sizeof(from));
	guest_write(target, to, sizeof(to));
	set_rights(0, data_page(3), 1, HVMI_RIGHT_READ);
	start_call(last_vcpu(), user_place(PLACE_copy), target, source, 64);
	struct hvmi_event event = expect(HVMI_EVENT_ACCESS, user_place(PLACE_copy));
	SAME(event_register(&event, HVMI_X86_RIP), user_place(PLACE_copy_insn));
	SAME(event.gva, data_page(3));
	SAME(event.gpa, gpa_of(data_page(3)));
	SAME(event_register(&event, HVMI_X86_RCX), 32);
	set_rights(0, data_page(3), 1, RIGHTS);
	answer(&event, 0);
	end_call();
	guest_read(target, to, sizeof(to));
	CHECK(memcmp(from, to, sizeof(to)) == 0);
}

/* A view in which one page cannot be written to; all vCPUs are in it. */
static uint32_t begin_view(uint64_t gva)
{
	uint32_t view;
	need_probe(0);
	need(HVMI_CAN_VIEWS);
	begin_access();
	GOOD(hvmi_view_create(machine.events, RIGHTS, &view, &error));
	CHECK(view != HVMI_VIEW_HOST);
	set_rights(view, gva, 1, HVMI_RIGHT_READ | HVMI_RIGHT_EXECUTE);
	GOOD(hvmi_view_switch(machine.events, view, &error));
	return view;
}

static void end_view(uint32_t view)
{
	GOOD(hvmi_view_switch(machine.events, HVMI_VIEW_HOST, &error));
	GOOD(hvmi_view_destroy(machine.events, view, &error));
	CHECK(hvmi_view_destroy(machine.events, view, &error) != 0);
	guest_call(last_vcpu(), user_place(PLACE_write), data_page(0), 5, 0);
	no_event();
}

static void views(void)
{
	uint64_t gva = data_page(0) + 8, value;
	uint32_t view = begin_view(gva), rights;
	GOOD(hvmi_view_get_rights(machine.events, 0, gpa_of(gva) / PAGE * PAGE, &rights, &error));
	SAME(rights & RIGHTS, RIGHTS);
	struct hvmi_event event = access_event(PLACE_write, gva, 0x55);
	SAME(event.view, view);
	SAME(event.access, HVMI_RIGHT_WRITE);
	/* In the other view it is allowed, and the vCPU stays there. */
	struct hvmi_answer a = { .size = sizeof(a), .flags = HVMI_ANSWER_VIEW,
				 .view = HVMI_VIEW_HOST };
	answer_with(&event, &a);
	end_call();
	guest_read(gva, &value, 8);
	SAME(value, 0x55);
	guest_call(last_vcpu(), user_place(PLACE_write), gva, 0x56, 0);
	no_event();
	end_view(view);
}

/* One instruction in view 0, with a step event between. */
static void view_step(void)
{
	uint64_t gva = data_page(0) + 8, value;
	need_probe(0);
	need_event(HVMI_EVENT_STEP);
	uint32_t view = begin_view(gva);
	struct hvmi_event_request r = request_of(HVMI_EVENT_STEP);
	r.vcpu = HVMI_ALL_VCPUS;
	request(&r);
	for (uint64_t i = 0; i < 3; i++) {
		struct hvmi_answer a = { .size = sizeof(a) };
		struct hvmi_event event = access_event(PLACE_write, gva, 70 + i);
		for (unsigned tries = 0;; tries++) {
			SAME(event.view, view);
			a.view = HVMI_VIEW_HOST;
			a.flags = HVMI_ANSWER_VIEW | HVMI_ANSWER_STEP;
			answer_with(&event, &a);
			event = expect(HVMI_EVENT_STEP, ANYWHERE);
			SAME(event.view, HVMI_VIEW_HOST);
			if (event_at(&event, user_place(PLACE_write)))
				break;
			/* An interrupt came between: the instruction is still to come. */
			CHECK(tries < 20);
			a.view = view;
			a.flags = HVMI_ANSWER_VIEW | HVMI_ANSWER_STEP_OFF;
			answer_with(&event, &a);
			event = expect(HVMI_EVENT_ACCESS, user_place(PLACE_write));
		}
		SAME(event_register(&event, HVMI_X86_RIP), user_place(PLACE_write_next));
		guest_read(gva, &value, 8);
		SAME(value, 70 + i);
		a.view = view;
		a.flags = HVMI_ANSWER_VIEW | HVMI_ANSWER_STEP_OFF;
		answer_with(&event, &a);
		end_call();
	}
	no_event();
	end_view(view);
}

static void view_fast_step(void)
{
	uint64_t gva = data_page(0) + 8, value;
	need_probe(0);
	need(HVMI_CAN_FAST_STEP);
	uint32_t view = begin_view(gva);
	for (uint64_t i = 0; i < 3; i++) {
		struct hvmi_event event = access_event(PLACE_write, gva, 80 + i);
		SAME(event.view, view);
		struct hvmi_answer a = { .size = sizeof(a), .flags = HVMI_ANSWER_FAST_STEP,
					 .view = view };
		answer_with(&event, &a);
		end_call();
		no_event();
		guest_read(gva, &value, 8);
		SAME(value, 80 + i);
	}
	end_view(view);
}

static void remap_data(void)
{
	uint64_t gva = data_page(5), own = 1, other = 2, frame;
	void *host;
	need_probe(0);
	need(HVMI_CAN_VIEWS);
	need(HVMI_CAN_REMAP);
	need(HVMI_CAN_PAGES);
	uint32_t view = begin_view(data_page(0));
	GOOD(hvmi_page_create(machine.events, &frame, &host, &error));
	CHECK(frame % PAGE == 0 && frame > machine.info.max_gpa);
	for (size_t i = 0; i < PAGE; i++)
		CHECK(((volatile uint8_t *)host)[i] == 0);
	guest_write(gva, &own, 8);
	memcpy(host, &other, 8);
	GOOD(hvmi_view_remap(machine.events, view, gpa_of(gva), frame, &error));
	SAME(guest_call(0, user_place(PLACE_read), gva, 0, 0).values[0], 2);
	/* What the guest writes there goes there. */
	guest_call(last_vcpu(), user_place(PLACE_write), gva, 3, 0);
	SAME(*(volatile uint64_t *)host, 3);
	guest_read(gva, &own, 8);
	SAME(own, 1);
	GOOD(hvmi_view_switch(machine.events, HVMI_VIEW_HOST, &error));
	SAME(guest_call(0, user_place(PLACE_read), gva, 0, 0).values[0], 1);
	GOOD(hvmi_view_switch(machine.events, view, &error));
	GOOD(hvmi_view_remap(machine.events, view, gpa_of(gva), HVMI_NO_ADDRESS, &error));
	SAME(guest_call(0, user_place(PLACE_read), gva, 0, 0).values[0], 1);
	GOOD(hvmi_page_destroy(machine.events, frame, &error));
	no_event();
	end_view(view);
}

/* A copy of a page of code, changed: executed in the view, not seen when it is read. */
static void remap_code(void)
{
	uint64_t code = exec_place(PLACE_steps), page = machine.box.exec, frame, bytes;
	uint32_t offset = machine.offsets[PLACE_steps_2] + 3;
	void *host;
	need_probe(0);
	need(HVMI_CAN_VIEWS);
	need(HVMI_CAN_REMAP);
	need(HVMI_CAN_PAGES);
	CHECK(offset < PAGE);
	uint32_t view = begin_view(data_page(0));
	GOOD(hvmi_page_create(machine.events, &frame, &host, &error));
	memcpy(host, machine.code, PAGE);
	/* add $2 becomes add $32. */
	SAME(((uint8_t *)host)[offset], 2);
	((uint8_t *)host)[offset] = 32;
	GOOD(hvmi_view_remap(machine.events, view, gpa_of(page), frame, &error));
	SAME(guest_call(last_vcpu(), code, 1, 0, 0).values[0], 37);
	GOOD(hvmi_view_set_rights(machine.events, view, gpa_of(page), 1, HVMI_RIGHT_EXECUTE,
				  &error));
	start_call(last_vcpu(), user_place(PLACE_read), page + offset / 8 * 8, 0, 0);
	struct hvmi_event event = expect(HVMI_EVENT_ACCESS, user_place(PLACE_read));
	SAME(event.access, HVMI_RIGHT_READ);
	struct hvmi_answer a = { .size = sizeof(a), .flags = HVMI_ANSWER_VIEW };
	answer_with(&event, &a);
	memcpy(&bytes, machine.code + offset / 8 * 8, 8);
	SAME(end_call().values[0], bytes);
	GOOD(hvmi_view_switch(machine.events, HVMI_VIEW_HOST, &error));
	SAME(guest_call(last_vcpu(), code, 1, 0, 0).values[0], 7);
	GOOD(hvmi_view_remap(machine.events, view, gpa_of(page), HVMI_NO_ADDRESS, &error));
	GOOD(hvmi_page_destroy(machine.events, frame, &error));
	end_view(view);
}

static struct hvmi_event begin_emulate(uint32_t capability, enum probe_place place, uint64_t gva,
				       uint32_t rights, uint64_t value)
{
	need_probe(0);
	need(capability);
	begin_access();
	set_rights(0, gva, 1, rights);
	return access_event(place, gva, value);
}

static void emulate(void)
{
	uint64_t gva, value = 1;
	need_probe(0);
	gva = data_page(6) + 64;
	guest_write(gva, &value, 8);
	struct hvmi_event event = begin_emulate(HVMI_CAN_EMULATE, PLACE_write, gva,
						HVMI_RIGHT_READ, 0x4711);
	answer(&event, HVMI_ANSWER_EMULATE);
	end_call();
	guest_read(gva, &value, 8);
	SAME(value, 0x4711);
	no_event();
	/* It was for one instruction. */
	event = access_event(PLACE_write, gva, 0x4712);
	answer(&event, HVMI_ANSWER_EMULATE | HVMI_ANSWER_EMULATE_NO_WRITE);
	end_call();
	guest_read(gva, &value, 8);
	SAME(value, 0x4711);
	no_event();
}

static void emulate_read(void)
{
	uint64_t gva, value = 1, given = 0xfeedfacecafef00d;
	need_probe(0);
	gva = data_page(6) + 64;
	guest_write(gva, &value, 8);
	struct hvmi_event event = begin_emulate(HVMI_CAN_EMULATE_DATA, PLACE_read, gva, 0, 0);
	struct hvmi_answer a = { .size = sizeof(a), .data = &given, .data_len = 8,
				 .flags = HVMI_ANSWER_EMULATE | HVMI_ANSWER_READ_DATA };
	answer_with(&event, &a);
	SAME(end_call().values[0], given);
	guest_read(gva, &value, 8);
	SAME(value, 1);
	no_event();
}

/* Instead of mov (%rdi), %rax: mov %rsi, %rax, as long as that. */
static void emulate_instruction(void)
{
	static const uint8_t insn[16] = { 0x48, 0x89, 0xf0, 0xc3, 0x90, 0x90, 0x90, 0x90,
					  0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90 };
	need_probe(0);
	struct hvmi_event event = begin_emulate(HVMI_CAN_EMULATE_DATA, PLACE_read, data_page(6), 0,
						0x246);
	struct hvmi_answer a = { .size = sizeof(a), .data = insn, .data_len = 16,
				 .flags = HVMI_ANSWER_EMULATE | HVMI_ANSWER_INSN_DATA };
	answer_with(&event, &a);
	SAME(end_call().values[0], 0x246);
	no_event();
}

/* monitor, which no emulator of a hypervisor knows. */
static void unimplemented(void)
{
	static const uint8_t insn[16] = { 0x0f, 0x01, 0xc8, 0x90 };
	uint64_t gva, value = 0x31;
	need_probe(0);
	gva = data_page(6);
	need(HVMI_CAN_EMULATE_DATA);
	need_event(HVMI_EVENT_UNIMPLEMENTED);
	guest_write(gva, &value, 8);
	begin_access();
	struct hvmi_event_request r = request_of(HVMI_EVENT_UNIMPLEMENTED);
	request(&r);
	set_rights(0, gva, 1, 0);
	struct hvmi_event event = access_event(PLACE_read, gva, 0);
	struct hvmi_answer a = { .size = sizeof(a), .data = insn, .data_len = 16,
				 .flags = HVMI_ANSWER_EMULATE | HVMI_ANSWER_INSN_DATA };
	answer_with(&event, &a);
	event = expect(HVMI_EVENT_UNIMPLEMENTED, user_place(PLACE_read));
	SAME(event_register(&event, HVMI_X86_RIP), user_place(PLACE_read));
	SAME(event.vcpu, last_vcpu());
	/* The real one, as it stands there. */
	set_rights(0, gva, 1, RIGHTS);
	answer(&event, 0);
	SAME(end_call().values[0], 0x31);
}

const struct test access_tests[] = {
	{ "access-write", access_write }, { "access-read", access_read },
	{ "access-execute", access_execute }, { "access-modify", access_modify },
	{ "access-straddling", access_straddling }, { "access-string", access_string },
	{ "views", views }, { "view-step", view_step }, { "view-fast-step", view_fast_step },
	{ "remap-data", remap_data }, { "remap-code", remap_code }, { "emulate", emulate },
	{ "emulate-read", emulate_read }, { "emulate-instruction", emulate_instruction },
	{ "unimplemented", unimplemented }, { NULL, NULL },
};
