/* SPDX-License-Identifier: Apache-2.0 */
#include "vm/events.h"

#include <poll.h>
#include <time.h>

/* What an answer's flag needs the machine to be able to do. */
static const struct {
	uint32_t flags, capability;
} needs[] = {
	{ HVMI_ANSWER_DENY, HVMI_CAN_DENY },
	{ HVMI_ANSWER_EMULATE | HVMI_ANSWER_EMULATE_NO_WRITE, HVMI_CAN_EMULATE },
	{ HVMI_ANSWER_READ_DATA | HVMI_ANSWER_INSN_DATA, HVMI_CAN_EMULATE_DATA },
	{ HVMI_ANSWER_STEP | HVMI_ANSWER_STEP_OFF, HVMI_CAN_EVENT + HVMI_EVENT_STEP },
	{ HVMI_ANSWER_FAST_STEP, HVMI_CAN_FAST_STEP },
	{ HVMI_ANSWER_VIEW, HVMI_CAN_VIEWS },
	{ HVMI_ANSWER_REGISTERS, HVMI_CAN_SET_REGISTERS },
	{ HVMI_ANSWER_INJECT, HVMI_CAN_INJECT },
	{ HVMI_ANSWER_CONFIRM, HVMI_CAN_CONFIRM },
};

HVMI_API int hvmi_events_open(struct hvmi_vm *vm, const struct hvmi_events_options *options,
			      struct hvmi_events **ret, struct hvmi_error *err)
{
	struct hvmi_events_options o = { .size = sizeof(o) };
	if (!vm || !ret || (options && (options_copy(&o, sizeof(o), options) || o.reserved ||
					o.flags & ~HVMI_EVENTS_TAKE_OVER)))
		return hvmi_error_set(err, -EINVAL, HVMI_NO_ADDRESS,
				      "a required argument is NULL, or struct hvmi_events_options "
				      "holds what this version does not know: zero it and set size");
	if (vm->events)
		return hvmi_error_set(err, -EBUSY, HVMI_NO_ADDRESS,
				      "the events of this machine are open in this program already");
	if (!vm->backend.events_open)
		return hvmi_error_set(err, -ENOTSUP, HVMI_NO_ADDRESS, "%s machines have no events",
				      vm->backend.scheme);
	int rc = vm_need_write(vm, err);
	if (rc)
		return rc;
	struct hvmi_events *events = calloc(1, sizeof(*events));
	if (!events)
		return hvmi_error_set(err, -ENOMEM, HVMI_NO_ADDRESS, "out of memory");
	events->vm = vm;
	rc = vm->backend.events_open(vm->machine, o.flags, &events->fd, err);
	if (rc) {
		free(events);
		return rc;
	}
	/* Asking costs hypercalls, answering must not. */
	for (size_t i = 0; i < ARRAY_SIZE(needs); i++)
		if (hvmi_vm_capability(vm, needs[i].capability, NULL))
			events->answers |= needs[i].flags;
	vm->events = events;
	*ret = events;
	return 0;
}

static void free_list(struct taken *taken)
{
	while (taken) {
		struct taken *next = taken->next;
		free(taken);
		taken = next;
	}
}

HVMI_API void hvmi_events_close(struct hvmi_events *events)
{
	if (!events)
		return;
	if (events->hooks)
		events->hooks_close(events->hooks);
	events->vm->backend.events_close(events->vm->machine);
	events->vm->events = NULL;
	free_list(events->waiting);
	free_list(events->spare);
	free(events->requests);
	free(events->index);
	free(events);
}

HVMI_API int hvmi_events_fd(const struct hvmi_events *events)
{
	return events->fd;
}

static int malformed(struct hvmi_error *err, uint64_t address, const char *what)
{
	return hvmi_error_set(err, -EINVAL, address, "the request makes no sense: %s", what);
}

/* What makes a request of its kind: everything else must be zero. */
static int check_kind(const struct hvmi_vm *vm, const struct hvmi_event_request *r,
		      struct hvmi_error *err)
{
	uint32_t allowed = HVMI_REQUEST_ASYNC;
	if (r->kind == HVMI_EVENT_REGISTER || r->kind == HVMI_EVENT_MSR)
		allowed |= HVMI_REQUEST_ON_CHANGE | HVMI_REQUEST_MAY_DENY;
	if (r->kind == HVMI_EVENT_DESCRIPTOR)
		allowed |= HVMI_REQUEST_MAY_DENY;
	if (r->kind == HVMI_EVENT_GUEST_REQUEST)
		allowed |= HVMI_REQUEST_USER;
	if (r->flags & ~allowed || r->reserved)
		return malformed(err, HVMI_NO_ADDRESS, "a flag is not of its kind");
	bool at_address = r->kind == HVMI_EVENT_BREAKPOINT || r->kind == HVMI_EVENT_WATCHPOINT;
	if (!at_address && r->gva != HVMI_NO_ADDRESS)
		return malformed(err, r->gva, "its kind has no address");
	if (r->kind == HVMI_EVENT_STEP && r->vcpu != HVMI_ALL_VCPUS &&
	    r->vcpu >= vm->description.vcpus)
		return hvmi_error_set(err, -ENOENT, HVMI_NO_ADDRESS, "the machine has no vCPU %u",
				      r->vcpu);
	if (r->kind == HVMI_EVENT_REGISTER && r->reg != HVMI_X86_CR0 && r->reg != HVMI_X86_CR3 &&
	    r->reg != HVMI_X86_CR4 && r->reg != HVMI_X86_XCR0)
		return malformed(err, HVMI_NO_ADDRESS,
				 "reg must be CR0, CR3, CR4 or XCR0");
	if (r->kind != HVMI_EVENT_WATCHPOINT)
		return 0;
	if (r->gva == HVMI_NO_ADDRESS || r->len == 0 || r->len - 1 > UINT64_MAX - r->gva)
		return malformed(err, r->gva, "a watchpoint needs gva and len");
	if (!r->access || r->access & ~(HVMI_RIGHT_READ | HVMI_RIGHT_WRITE))
		return malformed(err, r->gva, "access must be read, write or both");
	return 0;
}

static int take_request(const struct hvmi_events *events, struct hvmi_event_request *to,
			const struct hvmi_event_request *from, struct hvmi_error *err)
{
	*to = (struct hvmi_event_request){ .size = sizeof(*to) };
	if (!from || options_copy(to, sizeof(*to), from))
		return malformed(err, HVMI_NO_ADDRESS,
				 "it holds what this version does not know: zero it and set size");
	if (!hvmi_event_name(to->kind))
		return malformed(err, HVMI_NO_ADDRESS, "there is no such kind of event");
	if (to->gva == 0)
		to->gva = HVMI_NO_ADDRESS;
	return check_kind(events->vm, to, err);
}

static uint32_t capability_of(const struct hvmi_event_request *r)
{
	if (r->kind == HVMI_EVENT_BREAKPOINT)
		return r->gva == HVMI_NO_ADDRESS ? HVMI_CAN_INT3 : HVMI_CAN_BREAKPOINTS;
	return HVMI_CAN_EVENT + r->kind;
}

HVMI_API int hvmi_events_request(struct hvmi_events *events,
				 const struct hvmi_event_request *request, struct hvmi_error *err)
{
	struct hvmi_vm *vm = events->vm;
	struct hvmi_event_request r;
	int rc = take_request(events, &r, request, err);
	if (!rc && request_find(events, &r))
		rc = hvmi_error_set(err, -EINVAL, r.gva, "this was requested already");
	if (!rc)
		rc = hvmi_vm_capability(vm, capability_of(&r), err);
	if (!rc && r.flags & HVMI_REQUEST_MAY_DENY)
		rc = hvmi_vm_capability(vm, HVMI_CAN_DENY, err);
	if (!rc)
		rc = request_make_room(events, err);
	if (!rc)
		rc = vm->backend.event_request(vm->machine, &r, err);
	if (!rc)
		request_add(events, &r);
	return rc;
}

HVMI_API int hvmi_events_cancel(struct hvmi_events *events,
				const struct hvmi_event_request *request, struct hvmi_error *err)
{
	struct hvmi_vm *vm = events->vm;
	struct hvmi_event_request r;
	int rc = take_request(events, &r, request, err);
	if (rc)
		return rc;
	struct hvmi_event_request *known = request_find(events, &r);
	if (!known)
		return hvmi_error_set(err, -ENOENT, r.gva, "this was not requested");
	rc = vm->backend.event_cancel(vm->machine, known, err);
	if (!rc)
		request_remove(events, known);
	return rc;
}

static int64_t now_ms(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* Take one, waiting for it if need be: 1, 0 or an error. */
static int take(struct hvmi_events *events, struct taken *taken, int timeout_ms,
		struct hvmi_error *err)
{
	struct hvmi_vm *vm = events->vm;
	int64_t deadline = timeout_ms > 0 ? now_ms() + timeout_ms : 0;
	for (;;) {
		taken->event = (struct hvmi_event){ .size = sizeof(taken->event),
						    .gva = HVMI_NO_ADDRESS,
						    .gpa = HVMI_NO_ADDRESS };
		memset(taken->registers.known, 0, sizeof(taken->registers.known));
		int rc = vm->backend.event_next(vm->machine, &taken->event, &taken->registers,
						err);
		if (rc || timeout_ms == 0)
			return rc;
		int64_t left = timeout_ms < 0 ? -1 : deadline - now_ms();
		if (timeout_ms > 0 && left <= 0)
			return 0;
		struct pollfd fd = { .fd = events->fd, .events = POLLIN };
		if (poll(&fd, 1, (int)left) < 0 && errno != EINTR)
			return hvmi_error_set(err, -EIO, HVMI_NO_ADDRESS,
					      "the events' descriptor cannot be polled");
	}
}

HVMI_API int hvmi_events_next(struct hvmi_events *events, int timeout_ms, struct hvmi_event *ret,
			      struct hvmi_error *err)
{
	struct taken *taken = events->spare;
	if (!taken) {
		taken = calloc(1, sizeof(*taken));
		if (!taken)
			return hvmi_error_set(err, -ENOMEM, HVMI_NO_ADDRESS, "out of memory");
		events->spare = taken;
	}
	if (ret->size < offsetof(struct hvmi_event, id) + sizeof(ret->id))
		return hvmi_error_set(err, -EINVAL, HVMI_NO_ADDRESS, "hvmi_event.size is not set");
	int saved = errno;
	int rc = take(events, taken, timeout_ms, err);
	errno = saved;
	if (rc != 1)
		return rc;
	taken->event.id = ++events->last_id;
	taken->event.registers = &taken->registers;
	/* One that does not wait stays the first spare one: its registers last until the next. */
	if (taken->event.flags & HVMI_EVENT_WAITS) {
		events->spare = taken->next;
		taken->next = events->waiting;
		events->waiting = taken;
	}
	result_copy(ret, &taken->event, sizeof(taken->event));
	return 1;
}

static int check_flags(const struct hvmi_events *events, const struct hvmi_event *event,
		       const struct hvmi_answer *a, struct hvmi_error *err)
{
	uint32_t f = a->flags;
	const uint32_t emulation = HVMI_ANSWER_EMULATE_NO_WRITE | HVMI_ANSWER_READ_DATA |
				   HVMI_ANSWER_INSN_DATA;
	const uint32_t data = HVMI_ANSWER_READ_DATA | HVMI_ANSWER_INSN_DATA;
	const uint32_t all = 2 * HVMI_ANSWER_RESET_FORK_MEMORY - 1;
	bool guests_own = event->kind == HVMI_EVENT_BREAKPOINT || event->kind == HVMI_EVENT_DEBUG;
	const char *wrong = NULL;
	if (f & ~all || a->reserved)
		wrong = "a flag is not known";
	else if (f & emulation && !(f & HVMI_ANSWER_EMULATE))
		wrong = "what is to be emulated needs HVMI_ANSWER_EMULATE";
	else if ((f & data) == data)
		wrong = "READ_DATA and INSN_DATA exclude each other";
	else if (f & data && f & HVMI_ANSWER_REGISTERS)
		wrong = "emulation with data and REGISTERS exclude each other";
	else if (f & data && (!a->data || a->data_len == 0 || a->data_len > HVMI_ANSWER_DATA_MAX))
		wrong = "data or its length is missing";
	else if (f & HVMI_ANSWER_INSN_DATA && a->data_len != 16)
		wrong = "INSN_DATA needs 16 bytes";
	else if (f & HVMI_ANSWER_STEP && f & HVMI_ANSWER_STEP_OFF)
		wrong = "STEP and STEP_OFF exclude each other";
	else if (f & HVMI_ANSWER_FAST_STEP &&
		 f & (HVMI_ANSWER_VIEW | HVMI_ANSWER_EMULATE | HVMI_ANSWER_STEP))
		wrong = "FAST_STEP excludes VIEW, EMULATE and STEP";
	else if (f & HVMI_ANSWER_INJECT && f & HVMI_ANSWER_REINJECT)
		wrong = "INJECT and REINJECT exclude each other";
	else if (f & HVMI_ANSWER_REINJECT && !guests_own)
		wrong = "REINJECT is for breakpoints and debug exceptions";
	else if (f & HVMI_ANSWER_REGISTERS && !a->registers)
		wrong = "registers are missing";
	if (wrong)
		return hvmi_error_set(err, -EINVAL, HVMI_NO_ADDRESS,
				      "the answer makes no sense: %s", wrong);
	for (size_t i = 0; f & events->answers && i < ARRAY_SIZE(needs); i++) {
		int rc = f & needs[i].flags ?
				 hvmi_vm_capability(events->vm, needs[i].capability, err) : 0;
		if (rc)
			return rc;
	}
	return 0;
}

HVMI_API int hvmi_events_answer(struct hvmi_events *events, const struct hvmi_event *event,
				const struct hvmi_answer *answer, struct hvmi_error *err)
{
	struct hvmi_answer a = { .size = sizeof(a) };
	if (answer && options_copy(&a, sizeof(a), answer))
		return hvmi_error_set(err, -EINVAL, HVMI_NO_ADDRESS,
				      "struct hvmi_answer holds what this version does not know: "
				      "zero it and set size");
	struct taken **at = &events->waiting;
	while (*at && (*at)->event.id != event->id)
		at = &(*at)->next;
	struct taken *taken = *at;
	if (!taken)
		return hvmi_error_set(err, -ENOENT, HVMI_NO_ADDRESS,
				      "no event %llu waits for an answer",
				      (unsigned long long)event->id);
	struct hvmi_injection injection = { .size = sizeof(injection) };
	int rc = check_flags(events, &taken->event, &a, err);
	if (!rc && a.flags & HVMI_ANSWER_INJECT) {
		rc = injection_take(&injection, a.injection, err);
		a.injection = &injection;
	}
	if (!rc)
		rc = events->vm->backend.event_answer(events->vm->machine, &taken->event, &a, err);
	if (rc)
		return rc;
	*at = taken->next;
	taken->next = events->spare;
	events->spare = taken;
	return 0;
}
