/* SPDX-License-Identifier: Apache-2.0 */
/* What the core does between whoever uses events and a backend. */
#include "suite.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "probe_machine.h"

static struct hvmi_error err;

static struct hvmi_vm *machine(void)
{
	return machine_open(HVMI_OPEN_WRITE, "%s", PROBE_SCRIPT);
}

static struct hvmi_events *open_events(struct hvmi_vm *vm)
{
	struct hvmi_events *events = NULL;
	ck_assert_msg(hvmi_events_open(vm, NULL, &events, &err) == 0, "%s", err.text);
	return events;
}

static struct hvmi_event_request kind(uint32_t kind)
{
	return (struct hvmi_event_request){ .size = sizeof(struct hvmi_event_request),
					    .kind = kind };
}

static struct hvmi_event_request breakpoint(uint64_t gva)
{
	struct hvmi_event_request r = kind(HVMI_EVENT_BREAKPOINT);
	r.gva = gva;
	return r;
}

/* A vCPU that waits at the function. */
static struct hvmi_event reach(struct hvmi_vm *vm, struct hvmi_events *events)
{
	struct hvmi_event_request r = breakpoint(FUNCTION);
	struct hvmi_event event = { .size = sizeof(event) };
	hvmi_events_request(events, &r, NULL);
	probe_start(vm, 1, DATA, 41);
	ck_assert_int_eq(hvmi_events_next(events, 0, &event, &err), 1);
	return event;
}

START_TEST(names)
{
	ck_assert_str_eq(hvmi_event_name(HVMI_EVENT_ACCESS), "access");
	ck_assert_str_eq(hvmi_event_name(HVMI_EVENT_EXIT), "exit");
	ck_assert_ptr_null(hvmi_event_name(0));
	ck_assert_ptr_null(hvmi_event_name(HVMI_EVENT_KIND_END));
	ck_assert_str_eq(hvmi_capability_name(HVMI_CAN_PAUSE), "pause");
	ck_assert_str_eq(hvmi_capability_name(HVMI_CAN_EVENT + HVMI_EVENT_MSR), "msr");
	ck_assert_ptr_null(hvmi_capability_name(0));
	ck_assert_ptr_null(hvmi_capability_name(HVMI_CAN_EVENT));
	ck_assert_ptr_null(hvmi_capability_name(UINT32_MAX));
	for (uint32_t i = 1; i < HVMI_EVENT_KIND_END; i++)
		ck_assert_ptr_nonnull(hvmi_event_name(i));
}
END_TEST

/* What a backend does not say, its methods say; nothing is promised that is an event. */
START_TEST(capabilities)
{
	static struct hvmi_backend silent, old;
	struct hvmi_open_options options = { .size = sizeof(options), .flags = HVMI_OPEN_WRITE,
					     .backend = &silent };
	struct hvmi_vm *vm;
	struct hvmi_events *events;
	silent = old = *hvmi_backend_sim();
	silent.capability = NULL;
	ck_assert_int_eq(machine_try(PROBE_SCRIPT, strlen(PROBE_SCRIPT), &options, &vm, &err), 0);
	ck_assert_int_eq(hvmi_vm_capability(vm, HVMI_CAN_PAUSE, &err), 0);
	ck_assert_int_eq(hvmi_vm_capability(vm, HVMI_CAN_SET_REGISTERS, &err), 0);
	ck_assert_int_eq(hvmi_vm_capability(vm, HVMI_CAN_INJECT, &err), 0);
	ck_assert_int_eq(hvmi_vm_capability(vm, HVMI_CAN_BREAKPOINTS, &err), -ENOTSUP);
	ck_assert_int_eq(hvmi_vm_capability(vm, HVMI_CAN_VIEWS, &err), -ENOTSUP);
	ck_assert_ptr_nonnull(strstr(err.text, "views"));
	ck_assert_int_eq(hvmi_vm_capability(vm, 9999, &err), -EINVAL);
	hvmi_close(vm);

	/* A table from before there were events: of every wrapper, an answer and no crash. */
	old.size = offsetof(struct hvmi_backend, get_registers);
	options.backend = &old;
	ck_assert_int_eq(machine_try(PROBE_SCRIPT, strlen(PROBE_SCRIPT), &options, &vm, &err), 0);
	ck_assert_int_eq(hvmi_vm_capability(vm, HVMI_CAN_PAUSE, &err), 0);
	for (uint32_t c = HVMI_CAN_INJECT; c <= HVMI_CAN_PAGE_WALK_RIGHT; c++)
		ck_assert_int_eq(hvmi_vm_capability(vm, c, &err), -ENOTSUP);
	ck_assert_int_eq(hvmi_events_open(vm, NULL, &events, &err), -ENOTSUP);
	struct hvmi_injection injection = { .size = sizeof(injection), .vector = 14, .type = 3 };
	ck_assert_int_eq(hvmi_vm_inject(vm, 0, &injection, &err), -ENOTSUP);
	hvmi_close(vm);

	vm = machine_open(HVMI_OPEN_WRITE, "ram 0 1M\nvcpu 0\nstatic\n");
	ck_assert_int_eq(hvmi_vm_capability(vm, HVMI_CAN_PAUSE, &err), 0);
	ck_assert_int_eq(hvmi_vm_capability(vm, HVMI_CAN_INT3, &err), -ENOTSUP);
	ck_assert_int_eq(hvmi_events_open(vm, NULL, &events, &err), -ENOTSUP);
	ck_assert_ptr_nonnull(strstr(err.text, "probe"));
	hvmi_close(vm);
}
END_TEST

/* With one method or the other, all registers or one: the same. */
static void check_all_registers(const struct hvmi_backend *backend, const char *failing)
{
	struct hvmi_open_options options = { .size = sizeof(options), .flags = HVMI_OPEN_WRITE,
					     .backend = backend };
	struct hvmi_registers values = { { 0 }, { 0 } }, now;
	struct hvmi_vm *vm;
	uint64_t value;
	char script[512];
	snprintf(script, sizeof(script), "ram 0 1M\nvcpu 0 rax 1\nvcpu 0 rbx 2\nvcpu 0 cr3 3\n%s",
		 failing);
	ck_assert_int_eq(machine_try(script, strlen(script), &options, &vm, &err), 0);
	ck_assert_int_eq(hvmi_vm_get_registers(vm, 0, &now, &err), 0);
	ck_assert_int_eq(hvmi_vm_get_registers(vm, 1, &now, &err), -ENOENT);
	ck_assert(hvmi_registers_known(&now, HVMI_X86_RBX));
	ck_assert(!hvmi_registers_known(&now, HVMI_X86_RCX));
	ck_assert_uint_eq(now.values[HVMI_X86_CR3], 3);
	ck_assert_int_eq(hvmi_vm_register(vm, 0, HVMI_X86_RBX, &value), 0);
	ck_assert_uint_eq(value, 2);
	ck_assert_int_eq(hvmi_vm_register(vm, 0, HVMI_X86_RCX, &value), -ENOTSUP);
	ck_assert_int_eq(hvmi_vm_register(vm, 0, 255, &value), -ENOTSUP);

	/* All or none: the third is not there, or fails. */
	hvmi_registers_set(&values, HVMI_X86_RAX, 0x10);
	hvmi_registers_set(&values, HVMI_X86_RBX, 0x20);
	if (!*failing)
		hvmi_registers_set(&values, HVMI_X86_CR2, 0x30);
	else
		hvmi_registers_set(&values, HVMI_X86_CR3, 0x30);
	ck_assert_int_eq(hvmi_vm_set_registers(vm, 0, &values, &err), *failing ? -EIO : -ENOTSUP);
	ck_assert_int_eq(hvmi_vm_get_registers(vm, 0, &now, &err), 0);
	ck_assert_uint_eq(now.values[HVMI_X86_RAX], 1);
	ck_assert_uint_eq(now.values[HVMI_X86_RBX], 2);
	ck_assert_uint_eq(now.values[HVMI_X86_CR3], 3);
	values = (struct hvmi_registers){ { 0 }, { 0 } };
	hvmi_registers_set(&values, HVMI_X86_RBX, 0x20);
	ck_assert_int_eq(hvmi_vm_set_registers(vm, 0, &values, &err), 0);
	ck_assert_int_eq(hvmi_vm_set_register(vm, 0, HVMI_X86_RAX, 0x11), 0);
	ck_assert_int_eq(hvmi_vm_get_registers(vm, 0, &now, &err), 0);
	ck_assert_uint_eq(now.values[HVMI_X86_RAX], 0x11);
	ck_assert_uint_eq(now.values[HVMI_X86_RBX], 0x20);
	hvmi_registers_set(&values, 200, 1);
	ck_assert_int_eq(hvmi_vm_set_registers(vm, 0, &values, &err), -ENOTSUP);
	hvmi_close(vm);
}

START_TEST(all_registers)
{
	static struct hvmi_backend single, all;
	single = all = *hvmi_backend_sim();
	single.get_registers = NULL;
	single.set_registers = NULL;
	all.get_register = NULL;
	all.set_register = NULL;
	check_all_registers(hvmi_backend_sim(), "");
	check_all_registers(&single, "");
	check_all_registers(&single, "fail set_register 3 EIO\n");
	check_all_registers(&all, "");
	check_all_registers(&all, "fail set_registers 1 EIO\n");
}
END_TEST

START_TEST(opening)
{
	struct hvmi_vm *vm = machine_open(0, "%s", PROBE_SCRIPT);
	struct hvmi_events *events, *second;
	ck_assert_int_eq(hvmi_events_open(vm, NULL, &events, &err), -EACCES);
	ck_assert_ptr_nonnull(strstr(err.text, "HVMI_OPEN_WRITE"));
	hvmi_close(vm);
	vm = machine();
	struct hvmi_events_options options = { .size = sizeof(options), .flags = 8 };
	ck_assert_int_eq(hvmi_events_open(vm, &options, &events, &err), -EINVAL);
	options.flags = HVMI_EVENTS_TAKE_OVER;
	ck_assert_int_eq(hvmi_events_open(vm, &options, NULL, &err), -EINVAL);
	ck_assert_int_eq(hvmi_events_open(vm, &options, &events, &err), 0);
	ck_assert_int_ge(hvmi_events_fd(events), 0);
	ck_assert_int_eq(hvmi_events_open(vm, NULL, &second, &err), -EBUSY);
	hvmi_events_close(events);
	hvmi_events_close(NULL);
	events = open_events(vm);
	/* Closing the machine closes them. */
	hvmi_close(vm);
}
END_TEST

START_TEST(requests)
{
	static const struct {
		struct hvmi_event_request request;
		int rc;
	} cases[] = {
		{ { .kind = 0 }, -EINVAL },
		{ { .kind = HVMI_EVENT_KIND_END }, -EINVAL },
		{ { .kind = HVMI_EVENT_CPUID, .flags = 1u << 20 }, -EINVAL },
		{ { .kind = HVMI_EVENT_CPUID, .flags = HVMI_REQUEST_ON_CHANGE }, -EINVAL },
		{ { .kind = HVMI_EVENT_CPUID, .flags = HVMI_REQUEST_USER }, -EINVAL },
		{ { .kind = HVMI_EVENT_CPUID, .gva = 0x1000 }, -EINVAL },
		{ { .kind = HVMI_EVENT_CPUID, .reserved = 1 }, -EINVAL },
		{ { .kind = HVMI_EVENT_STEP, .vcpu = 2 }, -ENOENT },
		{ { .kind = HVMI_EVENT_REGISTER, .reg = HVMI_X86_CR2 }, -EINVAL },
		{ { .kind = HVMI_EVENT_WATCHPOINT, .len = 8, .access = HVMI_RIGHT_WRITE }, -EINVAL },
		{ { .kind = HVMI_EVENT_WATCHPOINT, .gva = 8, .access = HVMI_RIGHT_WRITE }, -EINVAL },
		{ { .kind = HVMI_EVENT_WATCHPOINT, .gva = 8, .len = 8 }, -EINVAL },
		{ { .kind = HVMI_EVENT_WATCHPOINT, .gva = 8, .len = 8,
		    .access = HVMI_RIGHT_EXECUTE }, -EINVAL },
		{ { .kind = HVMI_EVENT_WATCHPOINT, .gva = UINT64_MAX - 8, .len = 16,
		    .access = HVMI_RIGHT_READ }, -EINVAL },
		{ { .kind = HVMI_EVENT_EXIT }, -ENOTSUP },
		{ { .kind = HVMI_EVENT_CPUID, .flags = HVMI_REQUEST_ASYNC }, 0 },
		{ { .kind = HVMI_EVENT_STEP, .vcpu = 1 }, 0 },
		{ { .kind = HVMI_EVENT_STEP, .vcpu = HVMI_ALL_VCPUS }, 0 },
		{ { .kind = HVMI_EVENT_REGISTER, .reg = HVMI_X86_CR3,
		    .flags = HVMI_REQUEST_MAY_DENY }, 0 },
		{ { .kind = HVMI_EVENT_REGISTER, .reg = HVMI_X86_CR0 }, 0 },
		{ { .kind = HVMI_EVENT_MSR, .msr = 0x175 }, 0 },
		{ { .kind = HVMI_EVENT_BREAKPOINT }, 0 },
		{ { .kind = HVMI_EVENT_BREAKPOINT, .gva = 0x1000 }, 0 },
		{ { .kind = HVMI_EVENT_WATCHPOINT, .gva = 8, .len = 8,
		    .access = HVMI_RIGHT_WRITE }, 0 },
		{ { .kind = HVMI_EVENT_WATCHPOINT, .gva = 8, .len = 8,
		    .access = HVMI_RIGHT_READ }, 0 },
		{ { .kind = HVMI_EVENT_GUEST_REQUEST, .flags = HVMI_REQUEST_USER }, 0 },
	};
	struct hvmi_vm *vm = machine();
	struct hvmi_events *events = open_events(vm);
	for (int round = 0; round < 2; round++) {
		for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
			struct hvmi_event_request r = cases[i].request;
			ck_assert_int_eq(hvmi_events_request(events, &r, &err), -EINVAL);
			r.size = sizeof(r);
			ck_assert_msg(hvmi_events_request(events, &r, &err) == cases[i].rc,
				      "case %zu: %s", i, err.text);
			if (cases[i].rc)
				continue;
			ck_assert_int_eq(hvmi_events_request(events, &r, &err), -EINVAL);
			/* How it is told makes it no other request. */
			r.flags ^= HVMI_REQUEST_ASYNC;
			ck_assert_int_eq(hvmi_events_request(events, &r, &err), -EINVAL);
		}
		for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
			struct hvmi_event_request r = cases[i].request;
			r.size = sizeof(r);
			if (cases[i].rc)
				continue;
			ck_assert_int_eq(hvmi_events_cancel(events, &r, &err), 0);
			ck_assert_int_eq(hvmi_events_cancel(events, &r, &err), -ENOENT);
		}
	}
	ck_assert_int_eq(hvmi_events_request(events, NULL, &err), -EINVAL);
	hvmi_close(vm);
}
END_TEST

/* No address says so in two ways. */
START_TEST(no_address)
{
	struct hvmi_vm *vm = machine();
	struct hvmi_events *events = open_events(vm);
	struct hvmi_event_request r = kind(HVMI_EVENT_BREAKPOINT);
	ck_assert_int_eq(hvmi_events_request(events, &r, &err), 0);
	r.gva = HVMI_NO_ADDRESS;
	ck_assert_int_eq(hvmi_events_request(events, &r, &err), -EINVAL);
	ck_assert_int_eq(hvmi_events_cancel(events, &r, &err), 0);
	hvmi_close(vm);
}
END_TEST

START_TEST(taking)
{
	struct hvmi_vm *vm = machine();
	struct hvmi_events *events = open_events(vm);
	struct hvmi_event event = { .size = sizeof(event) }, small = { .size = 4 };
	uint64_t value, rip;
	ck_assert_int_eq(hvmi_events_next(events, 0, &event, &err), 0);
	ck_assert_int_eq(hvmi_events_next(events, 1, &event, &err), 0);
	event = reach(vm, events);
	ck_assert_uint_eq(event.id, 1);
	ck_assert_uint_eq(event.kind, HVMI_EVENT_BREAKPOINT);
	ck_assert_uint_eq(event.vcpu, 1);
	ck_assert_uint_eq(event.gva, FUNCTION);
	ck_assert_int_eq(hvmi_registers_get(event.registers, HVMI_X86_RIP, &rip), 0);
	ck_assert_uint_eq(rip, FUNCTION);
	ck_assert(!probe_done(vm, &value));
	ck_assert_int_eq(hvmi_events_next(events, 0, &small, &err), -EINVAL);
	ck_assert_int_eq(hvmi_events_answer(events, &event, NULL, &err), 0);
	ck_assert_int_eq(hvmi_events_answer(events, &event, NULL, &err), -ENOENT);
	ck_assert(probe_done(vm, &value));
	ck_assert_uint_eq(value, 42);

	/* An older program's struct: what it does not know is not written. */
	struct { struct hvmi_event event; uint8_t behind[8]; } old;
	memset(&old, 0x5a, sizeof(old));
	old.event.size = offsetof(struct hvmi_event, gva);
	probe_start(vm, 0, DATA, 1);
	ck_assert_int_eq(hvmi_events_next(events, 0, &old.event, &err), 1);
	ck_assert_uint_eq(old.event.id, 2);
	ck_assert_uint_eq(old.event.gva, 0x5a5a5a5a5a5a5a5a);
	ck_assert_uint_eq(old.event.size, offsetof(struct hvmi_event, gva));
	ck_assert_int_eq(hvmi_events_answer(events, &old.event, NULL, &err), 0);
	hvmi_close(vm);
}
END_TEST

START_TEST(answers)
{
	static const uint8_t data[HVMI_ANSWER_DATA_MAX + 1];
	static const struct hvmi_registers registers;
	static const struct hvmi_injection good = { .size = sizeof(good), .vector = 14, .type = 3 },
		bad = { .size = sizeof(bad), .vector = 14, .type = 1 },
		no_length = { .size = sizeof(bad), .vector = 3, .type = 6 };
	const uint32_t e = HVMI_ANSWER_EMULATE;
	const struct {
		uint32_t flags, len;
		const void *data;
		const struct hvmi_registers *registers;
		const struct hvmi_injection *injection;
	} wrong[] = {
		{ .flags = 1u << 16 },
		{ .flags = HVMI_ANSWER_STEP | HVMI_ANSWER_STEP_OFF },
		{ .flags = HVMI_ANSWER_EMULATE_NO_WRITE },
		{ .flags = HVMI_ANSWER_READ_DATA, .data = data, .len = 1 },
		{ .flags = e | HVMI_ANSWER_READ_DATA },
		{ .flags = e | HVMI_ANSWER_READ_DATA, .data = data },
		{ .flags = e | HVMI_ANSWER_READ_DATA, .data = data, .len = sizeof(data) },
		{ .flags = e | HVMI_ANSWER_INSN_DATA, .data = data, .len = 15 },
		{ .flags = e | HVMI_ANSWER_INSN_DATA | HVMI_ANSWER_READ_DATA, .data = data,
		  .len = 16 },
		{ .flags = e | HVMI_ANSWER_READ_DATA | HVMI_ANSWER_REGISTERS, .data = data,
		  .len = 1, .registers = &registers },
		{ .flags = HVMI_ANSWER_REGISTERS },
		{ .flags = HVMI_ANSWER_INJECT },
		{ .flags = HVMI_ANSWER_INJECT, .injection = &bad },
		{ .flags = HVMI_ANSWER_INJECT, .injection = &no_length },
		{ .flags = HVMI_ANSWER_INJECT | HVMI_ANSWER_REINJECT, .injection = &good },
		{ .flags = HVMI_ANSWER_FAST_STEP | HVMI_ANSWER_VIEW },
		{ .flags = HVMI_ANSWER_FAST_STEP | e },
		{ .flags = HVMI_ANSWER_FAST_STEP | HVMI_ANSWER_STEP },
		{ .flags = HVMI_ANSWER_STEP },	/* not requested */
		{ .flags = HVMI_ANSWER_VIEW },	/* below: there is no view 9 */
	};
	struct hvmi_vm *vm = machine();
	struct hvmi_events *events = open_events(vm);
	struct hvmi_event event = reach(vm, events);
	uint64_t value;
	for (size_t i = 0; i < sizeof(wrong) / sizeof(*wrong); i++) {
		struct hvmi_answer a = { .size = sizeof(a), .flags = wrong[i].flags, .view = 9,
					 .data = wrong[i].data, .data_len = wrong[i].len,
					 .registers = wrong[i].registers,
					 .injection = wrong[i].injection };
		int rc = hvmi_events_answer(events, &event, &a, &err);
		ck_assert_msg(rc == -EINVAL || rc == -ENOENT, "case %zu: %d", i, rc);
		ck_assert(!probe_done(vm, &value));
	}
	struct hvmi_answer a = { .size = 4 };
	ck_assert_int_eq(hvmi_events_answer(events, &event, &a, &err), -EINVAL);
	a = (struct hvmi_answer){ .size = sizeof(a), .reserved = 1 };
	ck_assert_int_eq(hvmi_events_answer(events, &event, &a, &err), -EINVAL);
	/* After all that it still waits. */
	ck_assert_int_eq(hvmi_events_answer(events, &event, NULL, &err), 0);
	ck_assert(probe_done(vm, &value));
	/* REINJECT is for what the guest caused. */
	struct hvmi_event_request r = kind(HVMI_EVENT_STEP);
	r.vcpu = HVMI_ALL_VCPUS;
	ck_assert_int_eq(hvmi_events_request(events, &r, &err), 0);
	event = reach(vm, events);
	a = (struct hvmi_answer){ .size = sizeof(a), .flags = HVMI_ANSWER_STEP };
	ck_assert_int_eq(hvmi_events_answer(events, &event, &a, &err), 0);
	ck_assert_int_eq(hvmi_events_next(events, 0, &event, &err), 1);
	ck_assert_uint_eq(event.kind, HVMI_EVENT_STEP);
	a.flags = HVMI_ANSWER_REINJECT;
	ck_assert_int_eq(hvmi_events_answer(events, &event, &a, &err), -EINVAL);
	hvmi_close(vm);
}
END_TEST

START_TEST(injections)
{
	struct hvmi_injection i = { .size = sizeof(i), .vector = 14, .type = 3, .cr2 = 0x77 };
	struct hvmi_vm *vm = machine_open(0, "%s", PROBE_SCRIPT);
	uint64_t faults, value;
	ck_assert_int_eq(hvmi_vm_inject(vm, 0, &i, &err), -EACCES);
	hvmi_close(vm);
	vm = machine();
	ck_assert_int_eq(hvmi_vm_inject(vm, 2, &i, &err), -ENOENT);
	ck_assert_int_eq(hvmi_vm_inject(vm, 0, NULL, &err), -EINVAL);
	i.vector = 256;
	ck_assert_int_eq(hvmi_vm_inject(vm, 0, &i, &err), -EINVAL);
	i.vector = 14;
	i.type = 7;
	ck_assert_int_eq(hvmi_vm_inject(vm, 0, &i, &err), -EINVAL);
	i.type = 3;
	ck_assert_int_eq(hvmi_vm_inject(vm, 0, &i, &err), 0);
	ck_assert_int_eq(hvmi_vm_inject(vm, 0, &i, &err), -EBUSY);
	probe_start(vm, 0, DATA, 1);
	ck_assert(probe_done(vm, &value));
	ck_assert_int_eq(hvmi_vm_read(vm, MAILBOX + 240, &faults, 8, NULL), 0);
	ck_assert_uint_eq(faults, 1);
	hvmi_close(vm);
}
END_TEST

/*
 * All that can be done to a machine with events, one thing after the other: the first error, or 0. What
 * fails is left as it is; closing the events has to do.
 */
static int everything(struct hvmi_vm *vm, struct hvmi_events **events_ret)
{
	struct hvmi_event_request stop = breakpoint(FUNCTION), access = kind(HVMI_EVENT_ACCESS);
	struct hvmi_injection i = { .size = sizeof(i), .vector = 3, .type = 6, .insn_length = 1 };
	struct hvmi_event event = { .size = sizeof(event) };
	struct hvmi_registers registers;
	struct hvmi_events *events;
	uint32_t view, rights;
	uint64_t page;
	void *host;
	int r = hvmi_events_open(vm, NULL, &events, &err);
	if (r)
		return r;
	*events_ret = events;
#define TRY(call) do { int r_ = (call); if (r_ < 0) return r_; } while (0)
	TRY(hvmi_vm_get_registers(vm, 0, &registers, &err));
	TRY(hvmi_events_request(events, &access, &err));
	TRY(hvmi_events_request(events, &stop, &err));
	TRY(hvmi_view_create(events, 7, &view, &err));
	TRY(hvmi_page_create(events, &page, &host, &err));
	TRY(hvmi_view_remap(events, view, DATA + 4096, page, &err));
	TRY(hvmi_view_set_rights(events, view, DATA, 1, 1, &err));
	TRY(hvmi_view_get_rights(events, view, DATA, &rights, &err));
	TRY(hvmi_view_set_rights(events, 0, DATA, 1, 5, &err));
	TRY(hvmi_view_switch(events, view, &err));
	probe_start(vm, 1, DATA, 41);
	TRY(hvmi_events_next(events, 0, &event, &err));
	TRY(hvmi_vm_set_registers(vm, 1, event.registers, &err));
	TRY(hvmi_vm_inject(vm, 0, &i, &err));
	TRY(hvmi_events_answer(events, &event, NULL, &err));
	TRY(hvmi_events_next(events, 0, &event, &err));
	TRY(hvmi_events_cancel(events, &stop, &err));
	TRY(hvmi_view_switch(events, 0, &err));
	TRY(hvmi_view_remap(events, view, DATA + 4096, HVMI_NO_ADDRESS, &err));
	TRY(hvmi_page_destroy(events, page, &err));
	TRY(hvmi_view_destroy(events, view, &err));
	return 0;
#undef TRY
}

/* Whichever call of whichever method fails: nothing stays, and the guest goes on. */
START_TEST(failing)
{
	static const char *const methods[] = {
		"get_registers", "set_registers", "capability", "inject", "events_open",
		"event_request", "event_cancel", "event_next", "event_answer", "view_create",
		"view_destroy", "view_switch", "view_set_rights", "view_get_rights", "view_remap",
		"page_create", "page_destroy",
	};
	struct hvmi_events *events = NULL;
	struct hvmi_vm *vm = machine();
	ck_assert_msg(everything(vm, &events) == 0, "%s", err.text);
	hvmi_close(vm);
	for (size_t m = 0; m < sizeof(methods) / sizeof(*methods); m++) {
		unsigned failed = 0;
		for (unsigned n = 1; n < 100; n++) {
			uint64_t value, now;
			uint32_t rights = 0;
			events = NULL;
			vm = machine_open(HVMI_OPEN_WRITE, "%sfail %s %u EIO\n", PROBE_SCRIPT,
					  methods[m], n);
			int r = everything(vm, &events);
			ck_assert_msg(r == 0 || r == -EIO, "%s %u: %d", methods[m], n, r);
			failed += r != 0;
			hvmi_events_close(events);
			/* What was begun ends; if nothing was, it can be. */
			if (hvmi_vm_read(vm, MAILBOX + 80, &now, 8, NULL) == 0 && !now)
				probe_start(vm, 1, DATA, 41);
			ck_assert_msg(probe_done(vm, &value), "%s %u", methods[m], n);
			ck_assert_uint_eq(value, 42);
			/* Once more, with views as new. */
			if (hvmi_events_open(vm, NULL, &events, &err) == 0 &&
			    hvmi_view_get_rights(events, 0, DATA, &rights, &err) == 0)
				ck_assert_uint_eq(rights, 7);
			hvmi_close(vm);
			if (r == 0 && n > 40)
				break;
		}
		ck_assert_msg(failed, "%s", methods[m]);
	}
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("events");
	TCase *tcase = tcase_create("events");
	tcase_add_test(tcase, names);
	tcase_add_test(tcase, capabilities);
	tcase_add_test(tcase, all_registers);
	tcase_add_test(tcase, opening);
	tcase_add_test(tcase, requests);
	tcase_add_test(tcase, no_address);
	tcase_add_test(tcase, taking);
	tcase_add_test(tcase, answers);
	tcase_add_test(tcase, injections);
	tcase_add_test(tcase, failing);
	suite_add_tcase(suite, tcase);
	return run_suite(suite);
}
