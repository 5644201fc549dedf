/* SPDX-License-Identifier: Apache-2.0 */
/* What the library does between an event and its answer, among few hooks and many. */
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include "bench.h"

#define PAGES 100000u
#define EVENTS 20000u
#define HOT 1000u

/* A machine whose vCPU comes to one breakpoint after the other, in no order. */
static struct {
	uint8_t *ram;
	uint32_t hot, left, at;	/* the first `hot` hooks get all the events */
	int fd;
} machine;

static int bench_open(const struct hvmi_target *target, const struct hvmi_backend_host *host, void **ret,
		      struct hvmi_error *err)
{
	(void)target;
	(void)host;
	(void)err;
	*ret = &machine;
	return 0;
}

static void bench_close(void *m)
{
	(void)m;
}

static int bench_describe(void *m, struct hvmi_machine *ret)
{
	(void)m;
	ret->arch = HVMI_ARCH_X86;
	ret->vcpus = ret->ranges = 1;
	return 0;
}

static int bench_range(void *m, uint32_t index, struct hvmi_range *ret)
{
	(void)m;
	(void)index;
	*ret = (struct hvmi_range){ .len = PAGES * PAGE };
	return 0;
}

static int bench_read(void *m, uint64_t gpa, void *buf, size_t len)
{
	(void)m;
	__builtin_memcpy(buf, machine.ram + gpa, len);
	return 0;
}

static int bench_map(void *m, uint32_t index, const void **ret)
{
	(void)m;
	(void)index;
	*ret = machine.ram;
	return 0;
}

static int bench_pause(void *m, struct hvmi_error *err)
{
	(void)m;
	(void)err;
	return 0;
}

static int bench_capability(void *m, uint32_t capability, struct hvmi_error *err)
{
	(void)m;
	switch (capability) {
	case HVMI_CAN_PAUSE:
	case HVMI_CAN_BREAKPOINTS:
	case HVMI_CAN_EVENT + HVMI_EVENT_BREAKPOINT:
		return 0;
	default:
		return hvmi_error_set(err, -ENOTSUP, HVMI_NO_ADDRESS, "it does not do this");
	}
}

static int bench_events_open(void *m, uint32_t flags, int *fd_ret, struct hvmi_error *err)
{
	(void)m;
	(void)flags;
	(void)err;
	*fd_ret = machine.fd;
	return 0;
}

static int bench_event_request(void *m, const struct hvmi_event_request *r, struct hvmi_error *err)
{
	(void)m;
	(void)r;
	(void)err;
	return 0;
}

static uint64_t address_of(uint32_t number)
{
	return number * PAGE + 64 + number % 61 * 64;
}

static int bench_event_next(void *m, struct hvmi_event *event, struct hvmi_registers *registers,
			    struct hvmi_error *err)
{
	(void)m;
	(void)err;
	if (!machine.left)
		return 0;
	machine.left--;
	machine.at = (machine.at + 61803) % machine.hot;
	event->kind = HVMI_EVENT_BREAKPOINT;
	event->flags = HVMI_EVENT_WAITS;
	event->gva = address_of(machine.at);
	hvmi_registers_set(registers, HVMI_X86_RIP, event->gva);
	hvmi_registers_set(registers, HVMI_X86_CR3, 0);
	return 1;
}

static int bench_event_answer(void *m, const struct hvmi_event *event, const struct hvmi_answer *answer,
			      struct hvmi_error *err)
{
	(void)m;
	(void)event;
	(void)err;
	sink(answer->flags);
	return 0;
}

static const struct hvmi_backend backend = {
	.size = sizeof(backend), .scheme = "bench", .open = bench_open, .close = bench_close,
	.describe = bench_describe, .range = bench_range, .read = bench_read, .map = bench_map,
	.pause = bench_pause, .resume = bench_pause, .capability = bench_capability,
	.events_open = bench_events_open, .events_close = bench_close,
	.event_request = bench_event_request, .event_cancel = bench_event_request,
	.event_next = bench_event_next, .event_answer = bench_event_answer,
};

struct scene {
	struct hvmi_vm *vm;
	struct hvmi_events *events;
	struct hvmi_hooks *hooks;
	uint64_t calls;
};

static void on_hook(void *context, const struct hvmi_hook_event *event, struct hvmi_verdict *verdict)
{
	(void)event;
	(void)verdict;
	++*(uint64_t *)context;
}

static void dispatch(void *context)
{
	const struct scene *s = context;
	machine.left = EVENTS;
	while (hvmi_hooks_dispatch(s->hooks, 0, NULL) > 0)
		;
}

/* What the events cost without hooks. */
static void take_and_answer(void *context)
{
	const struct scene *s = context;
	struct hvmi_event event = { .size = sizeof(event) };
	machine.left = EVENTS;
	while (hvmi_events_next(s->events, 0, &event, NULL) == 1)
		hvmi_events_answer(s->events, &event, NULL, NULL);
}

/* Open, with so many hooks in one transaction. */
static void open_scene(struct scene *s, uint32_t count)
{
	const struct hvmi_open_options options = { .size = sizeof(options), .flags = HVMI_OPEN_WRITE,
						   .backend = &backend };
	const struct hvmi_space_config config = { .size = sizeof(config) };
	struct hvmi_space *space;
	struct hvmi_error err;
	machine.hot = count;
	machine.left = 0;
	int rc = hvmi_open("bench:", &options, &s->vm, &err);
	if (!rc)
		rc = hvmi_events_open(s->vm, NULL, &s->events, &err);
	if (!rc)
		rc = hvmi_hooks_open(s->events, NULL, &s->hooks, &err);
	if (!rc)
		rc = hvmi_space_create(s->vm, &config, &space, &err);
	if (!rc)
		rc = hvmi_hooks_begin(s->hooks, &err);
	for (uint32_t i = 0; !rc && i < count; i++) {
		const struct hvmi_hook_request r = {
			.size = sizeof(r), .kind = HVMI_HOOK_EXECUTE, .space = space,
			.address = address_of(i), .callback = on_hook, .context = &s->calls,
		};
		rc = hvmi_hook_add(s->hooks, &r, NULL, &err);
	}
	double begun = now_ns();
	if (!rc)
		rc = hvmi_hooks_commit(s->hooks, &err);
	if (rc)
		fail("hooks", &err);
	hvmi_space_destroy(space);
	fprintf(stderr, "hvmi-bench: %u hooks added at once: %.0f ns each\n", count, (now_ns() - begun) / count);
}

static void measure_events(const char *name, struct scene *s)
{
	s->calls = 0;
	compare(name, dispatch, take_and_answer, s, EVENTS,
		"taking and answering it without hooks; goal 100 ns more");
	if (s->calls != (uint64_t)EVENTS * (RUNS + 1)) {
		fprintf(stderr, "hvmi-bench: %llu calls, not %u\n", (unsigned long long)s->calls,
			EVENTS * (RUNS + 1));
		exit(1);
	}
}

void bench_hooks(void)
{
	static const uint32_t counts[] = { 1, 1000, 100000 };
	machine.ram = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	machine.fd = eventfd(0, EFD_CLOEXEC);
	if (machine.ram == MAP_FAILED || machine.fd < 0)
		return;
	/* Adding a hook reads there: not to be the first touch. */
	for (size_t i = 0; i < PAGES; i++)
		sink(*(volatile uint8_t *)&machine.ram[i * PAGE]);
	for (size_t i = 0; i < sizeof(counts) / sizeof(*counts); i++) {
		struct scene s = { .calls = 0 };
		char name[64];
		open_scene(&s, counts[i]);
		snprintf(name, sizeof(name), "an event of %u hooks", counts[i]);
		measure_events(name, &s);
		if (counts[i] > HOT) {
			machine.hot = HOT;
			machine.at = 0;
			snprintf(name, sizeof(name), "the same, of %u of them", HOT);
			measure_events(name, &s);
		}
		hvmi_hooks_close(s.hooks);
		hvmi_events_close(s.events);
		hvmi_close(s.vm);
	}
	close(machine.fd);
	munmap(machine.ram, PAGES * PAGE);
}
