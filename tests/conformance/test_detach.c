/* SPDX-License-Identifier: Apache-2.0 */
/* Leaving: again and again, with events in flight, from two machines; and what the guest says then. */
#include "suite.h"

#define RIGHTS (HVMI_RIGHT_READ | HVMI_RIGHT_WRITE | HVMI_RIGHT_EXECUTE)

/* Something that the guest runs into all the time, or at least when it is told to. */
static const char *disturb(struct machine *m)
{
	struct hvmi_event_request r = request_of(HVMI_EVENT_BREAKPOINT);
	if (hvmi_vm_capability(m->vm, HVMI_CAN_BREAKPOINTS, NULL) == 0) {
		r.gva = m->box.code + m->offsets[PLACE_work];
		GOOD(hvmi_events_request(m->events, &r, &error));
		r.gva = m->box.code + m->offsets[PLACE_steps_2];
		GOOD(hvmi_events_request(m->events, &r, &error));
		return "breakpoints";
	}
	if (hvmi_vm_capability(m->vm, HVMI_CAN_EVENT + HVMI_EVENT_ACCESS, NULL) == 0) {
		uint64_t gpa;
		r = request_of(HVMI_EVENT_ACCESS);
		GOOD(hvmi_events_request(m->events, &r, &error));
		GOOD(hvmi_space_translate(m->space, m->box.data, &gpa));
		GOOD(hvmi_view_set_rights(m->events, 0, gpa, 1, HVMI_RIGHT_READ, &error));
		if (m->box.features & PROBE_WORKERS) {
			GOOD(hvmi_space_translate(m->space, PROBE_WORK, &gpa));
			GOOD(hvmi_view_set_rights(m->events, 0, gpa, 1, HVMI_RIGHT_READ, &error));
		}
		return "accesses";
	}
	if (hvmi_vm_capability(m->vm, HVMI_CAN_EVENT + HVMI_EVENT_CPUID, NULL) == 0) {
		r = request_of(HVMI_EVENT_CPUID);
		GOOD(hvmi_events_request(m->events, &r, &error));
		return "CPUID";
	}
	skip("no kind of event that disturbs can be had");
}

/* A command that meets what disturb() did. */
static void start_disturbed(struct machine *m, unsigned i)
{
	if (hvmi_vm_capability(m->vm, HVMI_CAN_BREAKPOINTS, NULL) == 0)
		start_call(i % (last_vcpu() + 1), user_place(PLACE_steps), i, 0, 0);
	else if (hvmi_vm_capability(m->vm, HVMI_CAN_EVENT + HVMI_EVENT_ACCESS, NULL) == 0)
		start_call(i % (last_vcpu() + 1), user_place(PLACE_write), m->box.data, i, 0);
	else
		start_call(i % (last_vcpu() + 1), user_place(PLACE_cpuid), 0, 0, m->box.data);
}

static void close_events(void)
{
	hvmi_events_close(machine.events);
	machine.events = NULL;
}

static uint64_t rounds(const struct probe_mailbox *box)
{
	uint64_t sum = 0;
	for (uint32_t i = 0; i < PROBE_VCPUS_MAX; i++)
		sum += box->work[i];
	return sum;
}

/* Attach, be told of something, detach: with events that were answered, taken, or not even that. */
static void cycles(void)
{
	need_probe(0);
	struct hvmi_event event = { .size = sizeof(event) };
	int rc = hvmi_events_open(machine.vm, NULL, &machine.events, &error);
	if (rc == -ENOTSUP)
		skip("%s", error.text);
	GOOD(rc);
	close_events();
	struct probe_mailbox before = mailbox_now();
	uint64_t taken = 0, answered = 0;
	const char *what = "";
	int64_t start = now_ms();
	for (unsigned i = 0; i < options.cycles; i++) {
		open_events();
		what = disturb(&machine);
		start_disturbed(&machine, i);
		for (unsigned n = 0; n < i % 4; n++) {
			/* There are more of them where workers run into it too. */
			rc = hvmi_events_next(machine.events, n ? 0 : options.timeout_ms, &event,
					      &error);
			if (rc < 0)
				fail("cycle %u: %s", i, error.text);
			if (rc == 0)
				break;
			taken++;
			if ((n + i / 4) % 2 == 0) {
				pass_on(&machine, &event);
				answered++;
			}
		}
		close_events();
		struct probe_result result = end_call();
		if (strcmp(what, "breakpoints") == 0)
			SAME(result.values[0], i + 6);
	}
	struct probe_mailbox after = mailbox_now();
	SAME(after.work_errors, before.work_errors);
	SAME(after.sigsegvs, before.sigsegvs);
	remark("%u attach/detach cycles (%s) in %lld ms; %llu events taken, %llu of them answered; "
	       "workers did %llu rounds", options.cycles, what, (long long)(now_ms() - start),
	       (unsigned long long)taken, (unsigned long long)answered,
	       (unsigned long long)(rounds(&after) - rounds(&before)));
	if (machine.box.features & PROBE_WORKERS)
		CHECK(rounds(&after) > rounds(&before));
}

/* Nobody takes the events: they are given back all the same. */
static void in_flight(void)
{
	need_probe(0);
	struct probe_mailbox before = mailbox_now();
	for (unsigned i = 0; i < 5; i++) {
		int rc = hvmi_events_open(machine.vm, NULL, &machine.events, &error);
		if (rc == -ENOTSUP)
			skip("%s", error.text);
		GOOD(rc);
		disturb(&machine);
		start_disturbed(&machine, i);
		nap_ms(30);
		CHECK(!call_done());
		close_events();
		end_call();
	}
	SAME(mailbox_now().work_errors, before.work_errors);
}

/* Closing the machine closes its events, pauses and all. */
static void close_all(void)
{
	need_probe(0);
	int rc = hvmi_events_open(machine.vm, NULL, &machine.events, &error);
	if (rc == -ENOTSUP)
		skip("%s", error.text);
	GOOD(rc);
	disturb(&machine);
	start_disturbed(&machine, 2);
	nap_ms(30);
	uint64_t number = machine.number;
	if (hvmi_vm_capability(machine.vm, HVMI_CAN_PAUSE, NULL) == 0)
		GOOD(hvmi_vm_pause(machine.vm, &error));
	machine.events = NULL;
	machine_close(&machine);
	GOOD(machine_open(&machine, options.target, HVMI_OPEN_WRITE));
	/* The sim backend's machines end with whom they belong to. */
	if (machine.box.command.number == number)
		end_call();
	SAME(guest_call(0, user_place(PLACE_steps), 1, 0, 0).values[0], 7);
}

static void detach_stepping(void)
{
	need_probe(0);
	need_event(HVMI_EVENT_STEP);
	for (int i = 0; i < 3; i++) {
		open_events();
		struct hvmi_event_request r = request_of(HVMI_EVENT_STEP);
		r.vcpu = HVMI_ALL_VCPUS;
		request(&r);
		struct hvmi_event event = stop_before(last_vcpu(), PLACE_steps, 1, 0);
		answer(&event, HVMI_ANSWER_STEP);
		expect(HVMI_EVENT_STEP, ANYWHERE);
		close_events();
		SAME(end_call().values[0], 7);
	}
}

static void detach_in_view(void)
{
	need_probe(0);
	need(HVMI_CAN_VIEWS);
	for (int i = 0; i < 3; i++) {
		uint32_t view;
		open_events();
		struct hvmi_event_request r = request_of(HVMI_EVENT_ACCESS);
		request(&r);
		GOOD(hvmi_view_create(machine.events, RIGHTS, &view, &error));
		GOOD(hvmi_view_set_rights(machine.events, view, gpa_of(data_page(0)), 1,
					  HVMI_RIGHT_READ, &error));
		GOOD(hvmi_view_switch(machine.events, view, &error));
		start_call(last_vcpu(), user_place(PLACE_write), data_page(0), 0x700 + i, 0);
		expect(HVMI_EVENT_ACCESS, user_place(PLACE_write));
		close_events();
		end_call();
		uint64_t value;
		guest_read(data_page(0), &value, 8);
		SAME(value, 0x700 + i);
	}
}

static struct machine second;

static void end_second(void)
{
	machine_close(&second);
}

static void two_machines(void)
{
	need_probe(0);
	if (!options.second)
		skip("there is no --second");
	end_second();
	GOOD(machine_open(&second, options.second, HVMI_OPEN_WRITE));
	if (!second.space)
		skip("the second one: %s", second.no_probe);
	int rc = hvmi_events_open(machine.vm, NULL, &machine.events, &error);
	if (rc == -ENOTSUP)
		skip("%s", error.text);
	GOOD(rc);
	GOOD(hvmi_events_open(second.vm, NULL, &second.events, &error));
	disturb(&machine);
	disturb(&second);
	for (unsigned i = 0; i < 10; i++) {
		struct hvmi_event event = { .size = sizeof(event) };
		start_disturbed(&machine, 2 * i);
		/* Whatever the other one does, this one is not done before it is answered. */
		/* Its workers may meet more of them while one is answered, without end. */
		for (int n = 0; n < 10; n++) {
			if (hvmi_events_next(second.events, 5, &event, &error) != 1 || i % 2 == 0)
				break;
			pass_on(&second, &event);
		}
		CHECK(!call_done());
		for (int64_t end = now_ms() + options.timeout_ms; !call_done();) {
			if (now_ms() > end)
				fail("the probe does not come back");
			if (hvmi_events_next(machine.events, 5, &event, &error) == 1)
				pass_on(&machine, &event);
		}
	}
	/* One is left, the other goes on. */
	start_disturbed(&machine, 0);
	end_second();
	GOOD(machine_open(&second, options.second, HVMI_OPEN_WRITE));
	end_second();
	CHECK(!call_done());
	close_events();
	end_call();
}

/* What the guest says of itself after all this. */
static void guests_view(void)
{
	end_second();
	need_probe(PROBE_CHECKS);
	start_command(PROBE_CHECK, 0, 0, 0, 0, 0);
	struct probe_result result = end_call();
	struct probe_mailbox box = mailbox_now();
	box.dmesg[sizeof(box.dmesg) - 1] = '\0';
	if (result.values[CHECK_DMESG])
		fail("the guest's kernel complains %llu times, first: %s",
		     (unsigned long long)result.values[CHECK_DMESG], box.dmesg);
	if (result.values[CHECK_TEXT])
		fail("%llu bytes of the kernel's text differ, from 0x%llx on",
		     (unsigned long long)result.values[CHECK_TEXT],
		     (unsigned long long)result.values[CHECK_WHERE]);
	SAME(result.values[CHECK_INT3], 0);
	SAME(result.values[CHECK_TICKS], 0);
	SAME(box.work_errors, 0);
	if (machine.box.features & PROBE_KERNEL)
		CHECK(result.values[CHECK_TEXT_BYTES] > 1 << 20);
	remark("the guest compared %llu bytes of its kernel's text; %llu events of others were "
	       "passed on", (unsigned long long)result.values[CHECK_TEXT_BYTES],
	       (unsigned long long)machine.foreign);
}

const struct test detach_tests[] = {
	{ "in-flight", in_flight }, { "close-all", close_all },
	{ "detach-stepping", detach_stepping }, { "detach-in-view", detach_in_view },
	{ "cycles", cycles }, { "two-machines", two_machines }, { "guests-view", guests_view },
	{ NULL, NULL },
};
