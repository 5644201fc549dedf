/* SPDX-License-Identifier: Apache-2.0 */
/* A program that meets trouble: what it holds of a domain when it is killed, or the domain goes, is said
 * by its first argument. It prints a line at each stage, which the scripts of dom0 wait for. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "../conformance/suite.h"

#define RIGHTS (HVMI_RIGHT_READ | HVMI_RIGHT_WRITE | HVMI_RIGHT_EXECUTE)
#define CHUNK (2u << 20)
#define NOBODY 65534

struct options options = { .timeout_ms = 30000 };
struct machine machine;
struct hvmi_error error;

static volatile sig_atomic_t asked_to_end;

static void say(const char *stage)
{
	printf("%s\n", stage);
	fflush(stdout);
}

static void on_end(int number)
{
	(void)number;
	asked_to_end = 1;
}

/* Opens without looking for the probe: what is wrong is to be told by hvmi_open() itself. */
static void open_plainly(const char *target, uint32_t flags)
{
	const struct hvmi_open_options o = { .size = sizeof(o), .flags = flags };
	int r = hvmi_open(target, &o, &machine.vm, &error);
	if (r)
		fail("open: %s: %s", hvmi_error_name(r), error.text);
	machine.info.size = sizeof(machine.info);
	hvmi_vm_get_info(machine.vm, &machine.info);
}

static void open_events_plainly(const char *target)
{
	open_plainly(target, HVMI_OPEN_WRITE);
	int r = hvmi_events_open(machine.vm, NULL, &machine.events, &error);
	if (r)
		fail("events: %s: %s", hvmi_error_name(r), error.text);
}

static void close_plainly(void)
{
	hvmi_events_close(machine.events);
	hvmi_close(machine.vm);
	say("closed");
}

static void as_nobody(const char *target)
{
	if (setgid(NOBODY) || setuid(NOBODY))
		fail("setuid");
	open_plainly(target, 0);
}

/* Reads all of the memory, again and again: 0 when the domain went. */
static void hold_memory(const char *target)
{
	open_plainly(target, 0);
	for (bool first = true; !asked_to_end; first = false) {
		/* What begins anew, as a list does, looks whether the memory is still the domain's. */
		const struct hvmi_space_config none = { .size = sizeof(none),
							.paging = HVMI_PAGING_NONE };
		struct hvmi_space *space;
		GOOD(hvmi_space_create(machine.vm, &none, &space, &error));
		hvmi_space_destroy(space);
		for (uint32_t i = 0; i < machine.info.ranges; i++) {
			struct hvmi_range range;
			GOOD(hvmi_vm_range(machine.vm, i, &range));
			for (uint64_t at = 0; at < range.len; at += CHUNK) {
				uint8_t byte;
				int r = hvmi_vm_read(machine.vm, range.gpa + at, &byte, 1, NULL);
				if (r) {
					printf("read: %s\n", hvmi_error_name(r));
					close_plainly();
					exit(r == -ESRCH ? 0 : 1);
				}
			}
		}
		if (first)
			say("holding");
		nap_ms(100);
	}
	close_plainly();
}

static void request_cpuid(void)
{
	struct hvmi_event_request r = request_of(HVMI_EVENT_CPUID);
	request(&r);
}

static struct hvmi_event next_event(uint32_t kind)
{
	struct hvmi_event event = { .size = sizeof(event) };
	for (int64_t end = now_ms() + options.timeout_ms; now_ms() < end;) {
		int r = hvmi_events_next(machine.events, 1000, &event, &error);
		if (r < 0)
			fail("next: %s: %s", hvmi_error_name(r), error.text);
		if (r == 1 && event.kind == kind)
			return event;
		if (r == 1)
			pass_on(&machine, &event);
	}
	fail("no event of kind %s came", hvmi_event_name(kind));
}

/* Is told of events and answers them: 0 when the domain went. */
static void hold_events(const char *target)
{
	struct hvmi_event event = { .size = sizeof(event) };
	const struct hvmi_answer let = { .size = sizeof(let), .flags = HVMI_ANSWER_EMULATE };
	open_events_plainly(target);
	request_cpuid();
	say("holding");
	while (!asked_to_end) {
		int r = hvmi_events_next(machine.events, 500, &event, &error);
		if (r == 1)
			r = hvmi_events_answer(machine.events, &event, &let, &error);
		if (r < 0) {
			printf("events: %s: %s\n", hvmi_error_name(r), error.text);
			close_plainly();
			exit(r == -ESRCH ? 0 : 1);
		}
	}
	close_plainly();
}

static void open_probe(const char *target)
{
	GOOD(machine_open(&machine, target, HVMI_OPEN_WRITE));
	need_probe(PROBE_WORKERS);
	open_events();
}

static uint64_t work_page(void)
{
	return gpa_of(PROBE_WORK) / PAGE * PAGE;
}

/* A vCPU that nobody answers any more. */
static struct hvmi_event meet_cpuid(void)
{
	request_cpuid();
	start_call(0, user_place(PLACE_cpuid), 0, 0, data_page(0));
	return next_event(HVMI_EVENT_CPUID);
}

static void hang_cpuid(void)
{
	need_event(HVMI_EVENT_CPUID);
	meet_cpuid();
}

static void hang_access(void)
{
	need_event(HVMI_EVENT_ACCESS);
	struct hvmi_event_request r = request_of(HVMI_EVENT_ACCESS);
	request(&r);
	GOOD(hvmi_view_set_rights(machine.events, 0, work_page(), 1, HVMI_RIGHT_READ, &error));
	next_event(HVMI_EVENT_ACCESS);
}

/* In a view of ours, with a page of ours in it. */
static void hang_view(void)
{
	uint32_t view;
	uint64_t frame;
	void *host;
	need(HVMI_CAN_VIEWS);
	need(HVMI_CAN_PAGES);
	struct hvmi_event_request r = request_of(HVMI_EVENT_ACCESS);
	request(&r);
	GOOD(hvmi_view_create(machine.events, RIGHTS, &view, &error));
	GOOD(hvmi_page_create(machine.events, &frame, &host, &error));
	GOOD(hvmi_view_remap(machine.events, view, gpa_of(PROBE_DATA), frame, &error));
	GOOD(hvmi_view_set_rights(machine.events, view, work_page(), 1, HVMI_RIGHT_READ, &error));
	GOOD(hvmi_view_switch(machine.events, view, &error));
	next_event(HVMI_EVENT_ACCESS);
}

static void hang_step(void)
{
	need_event(HVMI_EVENT_STEP);
	struct hvmi_event_request r = request_of(HVMI_EVENT_STEP);
	r.vcpu = HVMI_ALL_VCPUS;
	request(&r);
	struct hvmi_event event = meet_cpuid();
	answer(&event, HVMI_ANSWER_EMULATE | HVMI_ANSWER_STEP);
	next_event(HVMI_EVENT_STEP);
}

static void hang_pause(void)
{
	GOOD(hvmi_vm_pause(machine.vm, &error));
}

/* Nobody of us listens: whether somebody else is told. */
static void run_int3(const char *target)
{
	GOOD(machine_open(&machine, target, HVMI_OPEN_WRITE));
	need_probe(PROBE_SIGNALS);
	SAME(guest_call(0, user_place(PLACE_int3), 5, 0, 0).values[0], 5);
	machine_close(&machine);
}

static const struct {
	const char *name;
	void (*run)(void);
} ways[] = {
	{ "cpuid", hang_cpuid }, { "access", hang_access }, { "view", hang_view },
	{ "step", hang_step }, { "pause", hang_pause },
};

int main(int argc, char **argv)
{
	const struct sigaction end = { .sa_handler = on_end };
	sigaction(SIGTERM, &end, NULL);
	if (argc != 3) {
		fprintf(stderr, "usage: hvmi-agent open|nobody|int3|memory|events|cpuid|access|view|"
				"step|pause TARGET\n");
		return 2;
	}
	if (strcmp(argv[1], "open") == 0) {
		open_events_plainly(argv[2]);
		close_plainly();
	} else if (strcmp(argv[1], "nobody") == 0) {
		as_nobody(argv[2]);
	} else if (strcmp(argv[1], "int3") == 0) {
		run_int3(argv[2]);
	} else if (strcmp(argv[1], "memory") == 0) {
		hold_memory(argv[2]);
	} else if (strcmp(argv[1], "events") == 0) {
		hold_events(argv[2]);
	} else {
		for (size_t i = 0; i < sizeof(ways) / sizeof(*ways); i++) {
			if (strcmp(argv[1], ways[i].name) != 0)
				continue;
			open_probe(argv[2]);
			ways[i].run();
			say("hanging");
			/* To be killed. */
			for (;;)
				pause();
		}
		return 2;
	}
	return 0;
}
