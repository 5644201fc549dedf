/* SPDX-License-Identifier: Apache-2.0 */
#include <stddef.h>
#include <time.h>

#include "suite.h"

#define FIELD(name) (machine.mailbox + offsetof(struct probe_mailbox, name))
/* How far from a place its instructions are. */
#define NEAR 64u

int64_t now_ms(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

void nap_ms(int ms)
{
	const struct timespec nap = { .tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000l };
	nanosleep(&nap, NULL);
}

void need(uint32_t capability)
{
	if (hvmi_vm_capability(machine.vm, capability, &error))
		skip("%s: %s", hvmi_capability_name(capability), error.text);
}

void need_event(uint32_t kind)
{
	need(HVMI_CAN_EVENT + kind);
}

void need_running(void)
{
	if (machine.info.flags & HVMI_VM_STATIC)
		skip("the machine stands still");
}

void need_probe(uint32_t features)
{
	static const char *const names[] = { "no module in its kernel", "no signals", "no workers",
					     "no checks of its own", "not on Xen",
					     "no AMD processor", "no map of its memory" };
	need_running();
	if (!machine.space)
		skip("%s", machine.no_probe);
	if (!(machine.info.flags & HVMI_VM_WRITABLE))
		skip("the machine cannot be written to");
	for (unsigned i = 0; i < sizeof(names) / sizeof(*names); i++)
		if (features & ~machine.box.features & 1u << i)
			skip("the guest has %s", names[i]);
}

uint64_t user_place(enum probe_place place)
{
	return machine.box.code + machine.offsets[place];
}

uint64_t exec_place(enum probe_place place)
{
	return machine.box.exec + machine.offsets[place];
}

uint64_t kernel_place(enum probe_place place)
{
	need_probe(PROBE_KERNEL);
	return machine.box.kcode + machine.offsets[place];
}

uint64_t data_page(unsigned index)
{
	return machine.box.data + (uint64_t)index * PAGE;
}

uint64_t gpa_of(uint64_t gva)
{
	uint64_t gpa;
	int r = hvmi_space_translate(machine.space, gva, &gpa);
	if (r)
		fail("0x%llx is not mapped: %s", (unsigned long long)gva, hvmi_error_name(r));
	return gpa;
}

void guest_read(uint64_t gva, void *buf, size_t len)
{
	int r = hvmi_space_read(machine.space, gva, buf, len, NULL);
	if (r)
		fail("0x%llx cannot be read: %s", (unsigned long long)gva, hvmi_error_name(r));
}

void guest_write(uint64_t gva, const void *buf, size_t len)
{
	int r = hvmi_space_write(machine.space, gva, buf, len, NULL);
	if (r)
		fail("0x%llx cannot be written: %s", (unsigned long long)gva, hvmi_error_name(r));
}

struct hvmi_space *kernel_space(void)
{
	/* The process maps the kernel too. */
	struct hvmi_space_config config = { .size = sizeof(config) };
	struct hvmi_space *space;
	GOOD(hvmi_space_get_config(machine.space, &config));
	GOOD(hvmi_space_create(machine.vm, &config, &space, &error));
	return space;
}

struct probe_mailbox mailbox_now(void)
{
	struct probe_mailbox box;
	guest_read(machine.mailbox, &box, sizeof(box));
	return box;
}

uint32_t last_vcpu(void)
{
	uint32_t guest = machine.box.vcpus, host = machine.info.vcpus;
	return (guest < host ? guest : host) - 1;
}

void start_command(uint32_t op, uint32_t vcpu, uint64_t function, uint64_t a, uint64_t b, uint64_t c)
{
	struct probe_command command = { .number = machine.number + 1, .op = op, .vcpu = vcpu,
					 .function = function, .args = { a, b, c } };
	const size_t rest = offsetof(struct probe_command, op);
	if (!call_done())
		fail("the probe is not done with what it was told before");
	/* The number last: whoever sees it sees the rest. */
	guest_write(FIELD(command) + rest, (const char *)&command + rest, sizeof(command) - rest);
	machine.number = command.number;
	guest_write(FIELD(command.number), &command.number, sizeof(command.number));
}

void start_call(uint32_t vcpu, uint64_t function, uint64_t a, uint64_t b, uint64_t c)
{
	uint64_t kcode = machine.box.kcode;
	bool kernel = kcode && function - kcode < PROBE_CODE_BYTES;
	start_command(kernel ? PROBE_KCALL : PROBE_CALL, vcpu, function, a, b, c);
}

bool call_done(void)
{
	uint64_t number;
	guest_read(FIELD(result.number), &number, sizeof(number));
	return number == machine.number;
}

struct probe_result end_call(void)
{
	struct probe_result result;
	for (int64_t end = now_ms() + options.timeout_ms; !call_done(); nap_ms(1))
		if (now_ms() > end)
			fail("the probe did not come back in %d ms", options.timeout_ms);
	guest_read(FIELD(result), &result, sizeof(result));
	if (result.status)
		fail("the probe says %lld", (long long)result.status);
	return result;
}

struct probe_result end_call_passing(uint64_t function)
{
	struct hvmi_event event = { .size = sizeof(event) };
	for (int64_t end = now_ms() + options.timeout_ms; !call_done() && now_ms() < end;) {
		int r = hvmi_events_next(machine.events, 1, &event, &error);
		if (r < 0)
			fail("hvmi_events_next: %s: %s", hvmi_error_name(r), error.text);
		bool ours = r == 1 && event_at(&event, function);
		if (r == 1)
			pass_on(&machine, &event);
		CHECK(!ours);
	}
	return end_call();
}

struct probe_result guest_call(uint32_t vcpu, uint64_t function, uint64_t a, uint64_t b, uint64_t c)
{
	start_call(vcpu, function, a, b, c);
	return end_call();
}

void open_events(void)
{
	GOOD(hvmi_events_open(machine.vm, NULL, &machine.events, &error));
}

struct hvmi_event_request request_of(uint32_t kind)
{
	return (struct hvmi_event_request){ .size = sizeof(struct hvmi_event_request),
					    .kind = kind };
}

void request(const struct hvmi_event_request *r)
{
	int rc = hvmi_events_request(machine.events, r, &error);
	if (rc)
		fail("request of %s: %s: %s", hvmi_event_name(r->kind), hvmi_error_name(rc),
		     error.text);
}

uint64_t event_register(const struct hvmi_event *event, uint32_t id)
{
	uint64_t value;
	if (hvmi_registers_get(event->registers, id, &value))
		fail("the %s event does not tell %s", hvmi_event_name(event->kind),
		     hvmi_register_name(id));
	return value;
}

/* What lets the instruction happen, once. */
static uint32_t let_happen(struct machine *m, const struct hvmi_event *event)
{
	switch (event->kind) {
	case HVMI_EVENT_BREAKPOINT:
		return event->insn_length ? HVMI_ANSWER_REINJECT : 0;
	case HVMI_EVENT_DEBUG:
		return HVMI_ANSWER_REINJECT;
	case HVMI_EVENT_ACCESS:
	case HVMI_EVENT_CPUID:
	case HVMI_EVENT_DESCRIPTOR:
	case HVMI_EVENT_IO:
		return hvmi_vm_capability(m->vm, HVMI_CAN_EMULATE, NULL) ? 0 :
									   HVMI_ANSWER_EMULATE;
	default:
		return 0;
	}
}

/*
 * The vCPU comes to an instruction again and again while it is asked for; where it cannot be emulated, one
 * looks away for a moment.
 */
static void look_away(struct machine *m, const struct hvmi_event *event)
{
	struct hvmi_event_request r = request_of(event->kind);
	int asked = hvmi_events_cancel(m->events, &r, &error);
	GOOD(hvmi_events_answer(m->events, event, NULL, &error));
	nap_ms(5);
	if (asked == 0)
		GOOD(hvmi_events_request(m->events, &r, &error));
}

void pass_on(struct machine *m, const struct hvmi_event *event)
{
	struct hvmi_answer a = { .size = sizeof(a), .flags = let_happen(m, event) };
	m->foreign++;
	if (!(event->flags & HVMI_EVENT_WAITS))
		return;
	int r = event->kind == HVMI_EVENT_CPUID && !a.flags ? -ENOTSUP :
		hvmi_events_answer(m->events, event, &a, &error);
	if (r == -ENOTSUP && a.flags != HVMI_ANSWER_REINJECT)
		look_away(m, event);
	else
		GOOD(r);
}

bool event_at(const struct hvmi_event *event, uint64_t where)
{
	uint64_t rip;
	return hvmi_registers_get(event->registers, HVMI_X86_RIP, &rip) == 0 && rip - where < NEAR;
}

struct hvmi_event expect(uint32_t kind, uint64_t where)
{
	struct hvmi_event event = { .size = sizeof(event) };
	const int64_t end = now_ms() + options.timeout_ms;
	uint64_t others = 0;
	for (int64_t left; (left = end - now_ms()) > 0;) {
		int r = hvmi_events_next(machine.events, (int)left, &event, &error);
		if (r < 0)
			fail("hvmi_events_next: %s: %s", hvmi_error_name(r), error.text);
		if (r == 0)
			break;
		if (event.kind == kind && (where == ANYWHERE || event_at(&event, where)))
			return event;
		others++;
		pass_on(&machine, &event);
	}
	fail("no event of kind %s at 0x%llx in %d ms (%llu others; the probe %s)",
	     hvmi_event_name(kind), (unsigned long long)where, options.timeout_ms,
	     (unsigned long long)others, call_done() ? "is done" : "is not done");
}

void no_event(void)
{
	struct hvmi_event event = { .size = sizeof(event) };
	int r = hvmi_events_next(machine.events, 0, &event, &error);
	if (r == 1)
		fail("an event of kind %s too many", hvmi_event_name(event.kind));
	SAME(r, 0);
}

void answer_with(const struct hvmi_event *event, const struct hvmi_answer *a)
{
	CHECK(event->flags & HVMI_EVENT_WAITS);
	int r = hvmi_events_answer(machine.events, event, a, &error);
	if (r)
		fail("answer 0x%x to %s: %s: %s", a->flags, hvmi_event_name(event->kind),
		     hvmi_error_name(r), error.text);
}

void answer(const struct hvmi_event *event, uint32_t flags)
{
	struct hvmi_answer a = { .size = sizeof(a), .flags = flags };
	answer_with(event, &a);
}

void answer_at(const struct hvmi_event *event, uint32_t flags, uint64_t rip, const uint64_t *rax)
{
	struct hvmi_registers registers = *event->registers;
	struct hvmi_answer a = { .size = sizeof(a), .flags = flags | HVMI_ANSWER_REGISTERS,
				 .registers = &registers };
	hvmi_registers_set(&registers, HVMI_X86_RIP, rip);
	if (rax)
		hvmi_registers_set(&registers, HVMI_X86_RAX, *rax);
	answer_with(event, &a);
}

struct hvmi_event stop_at(uint32_t vcpu, uint64_t function, uint64_t a, uint64_t b)
{
	struct hvmi_event_request r = request_of(HVMI_EVENT_BREAKPOINT);
	uint8_t first;
	bool by_address = hvmi_vm_capability(machine.vm, HVMI_CAN_BREAKPOINTS, NULL) == 0;
	if (!by_address)
		need(HVMI_CAN_INT3);
	r.gva = by_address ? function : 0;
	request(&r);
	guest_read(function, &first, 1);
	if (!by_address)
		guest_write(function, "\xcc", 1);
	start_call(vcpu, function, a, b, 0);
	struct hvmi_event event = expect(HVMI_EVENT_BREAKPOINT, function);
	SAME(event.gva, function);
	if (!by_address)
		guest_write(function, &first, 1);
	/* The vCPU waits whether it is asked for any longer or not. */
	GOOD(hvmi_events_cancel(machine.events, &r, &error));
	return event;
}

struct hvmi_event stop_before(uint32_t vcpu, enum probe_place place, uint64_t a, uint64_t b)
{
	return stop_at(vcpu, exec_place(place), a, b);
}

struct hvmi_event stop_anywhere(uint32_t vcpu)
{
	struct hvmi_event_request r = request_of(HVMI_EVENT_CPUID);
	uint64_t at = user_place(PLACE_cpuid);
	/* Emulators of AMD's SVM know no intercept of int3: CPUID is the surer way there. */
	if (hvmi_vm_capability(machine.vm, HVMI_CAN_BREAKPOINTS, NULL) == 0 ||
	    hvmi_vm_capability(machine.vm, HVMI_CAN_EVENT + HVMI_EVENT_CPUID, NULL))
		return stop_before(vcpu, PLACE_steps, 1, 0);
	request(&r);
	start_call(vcpu, at, 0, 0, data_page(0));
	struct hvmi_event event = expect(HVMI_EVENT_CPUID, at);
	GOOD(hvmi_events_cancel(machine.events, &r, &error));
	return event;
}

void end_anywhere(uint32_t kind)
{
	struct probe_result done = end_call();
	if (kind != HVMI_EVENT_CPUID)
		SAME(done.values[0], 7);
}
