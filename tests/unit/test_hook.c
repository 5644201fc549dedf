/* SPDX-License-Identifier: Apache-2.0 */
/* Hooks of addresses, on machines that can do more or less. */
#include "hook_machine.h"

static struct hvmi_error err;

/* What callbacks see, and what they say. */
struct seen {
	int calls;
	uint64_t gva, gpa, len, rsi;
	uint32_t access, flags, value_len;
	uint64_t value;
	uint32_t action, steps;
	uint32_t set_reg;
	uint64_t set_value;
	int order, *counter;
	struct hvmi_hook *hook;
	void (*then)(struct seen *seen, const struct hvmi_hook_event *event);
	struct hook_machine *machine;
};

static void on_hook(void *context, const struct hvmi_hook_event *event, struct hvmi_verdict *verdict)
{
	struct seen *seen = context;
	seen->calls++;
	seen->gva = event->gva;
	seen->gpa = event->gpa;
	seen->len = event->len;
	seen->access = event->access;
	seen->flags = event->flags;
	seen->value_len = event->value_len;
	memcpy(&seen->value, event->value, 8);
	hvmi_registers_get(event->registers, HVMI_X86_RSI, &seen->rsi);
	if (seen->counter)
		seen->order = ++*seen->counter;
	verdict->action = seen->action;
	verdict->steps = seen->flags & HVMI_HOOK_EVENT_STEP ? 0 : seen->steps;
	if (seen->set_reg)
		hvmi_registers_set(verdict->registers, seen->set_reg, seen->set_value);
	if (seen->then)
		seen->then(seen, event);
}

static struct hvmi_hook_request execute(const struct hook_machine *m, uint64_t address,
					struct seen *seen)
{
	return (struct hvmi_hook_request){ .size = sizeof(struct hvmi_hook_request),
					   .kind = HVMI_HOOK_EXECUTE, .space = m->space,
					   .address = address, .callback = on_hook, .context = seen };
}

static struct hvmi_hook_request access_of(const struct hook_machine *m, uint64_t address, uint64_t len,
					  uint32_t access, struct seen *seen)
{
	struct hvmi_hook_request r = execute(m, address, seen);
	r.kind = HVMI_HOOK_ACCESS;
	r.len = len;
	r.access = access;
	return r;
}

/* Whether the machine can tell accesses before they happen. */
static bool has_pages(const struct hook_machine *m)
{
	struct hvmi_hook_plan plan = { .size = sizeof(plan) };
	const struct hvmi_hook_request r = { .size = sizeof(r), .kind = HVMI_HOOK_ACCESS, .len = 1,
					     .access = HVMI_RIGHT_EXECUTE };
	int rc = hvmi_hook_plan_request(m->vm, &r, &plan, &err);
	ck_assert(rc == 0 || rc == -ENOTSUP);
	return rc == 0;
}

static struct hvmi_hook *add(struct hook_machine *m, const struct hvmi_hook_request *r)
{
	struct hvmi_hook *hook;
	ck_assert_msg(hvmi_hook_add(m->hooks, r, &hook, &err) == 0, "%s", err.text);
	return hook;
}

static struct hvmi_hook_info info_of(const struct hvmi_hook *hook)
{
	struct hvmi_hook_info info = { .size = sizeof(info) };
	ck_assert_int_eq(hvmi_hook_get_info(hook, &info), 0);
	return info;
}

/* On every machine: each execution is one call, the guest computes what it did, and nothing stays. */
START_TEST(executes)
{
	const struct profile *profile = &profiles[_i];
	struct hook_machine m;
	struct seen seen = { .calls = 0 };
	hook_machine_open(&m, profile, "");
	struct hvmi_hook_request r = execute(&m, AT_LOAD, &seen);
	struct hvmi_hook *hook = add(&m, &r);
	struct hvmi_hook_info info = info_of(hook);
	ck_assert_uint_eq(info.mechanism, profile->mechanism);
	ck_assert_uint_eq(info.step_over, profile->step_over);
	ck_assert_uint_eq(info.gpa, AT_LOAD);
	for (uint64_t i = 1; i <= 20; i++) {
		ck_assert_uint_eq(hook_machine_call(&m, 40 + i), 41 + i);
		ck_assert_int_eq(seen.calls, (int)i);
		ck_assert_uint_eq(seen.gva, AT_LOAD);
		ck_assert_uint_eq(seen.rsi, 40 + i);
	}
	ck_assert_uint_eq(info_of(hook).hits, 20);
	ck_assert_uint_eq(info_of(hook).refused, 0);
	ck_assert_int_eq(hvmi_hook_remove(hook, &err), 0);
	ck_assert_uint_eq(hook_machine_call(&m, 7), 8);
	ck_assert_int_eq(seen.calls, 20);
	struct hvmi_hooks_info all = { .size = sizeof(all) };
	ck_assert_int_eq(hvmi_hooks_get_info(m.hooks, &all), 0);
	ck_assert_uint_eq(all.hooks, 0);
	ck_assert_uint_eq(all.places, 0);
	ck_assert_uint_eq(all.hits, 20);
	hook_machine_close(&m);
}
END_TEST

/* What the guest reads of hooked code is its own where that was promised. */
START_TEST(stealth)
{
	const struct profile *profile = &profiles[_i];
	struct hook_machine m;
	struct seen seen = { .calls = 0 };
	uint8_t byte;
	hook_machine_open(&m, profile, "");
	struct hvmi_hook_request r = execute(&m, AT_ADD, &seen);
	r.flags = HVMI_HOOK_STEALTH;
	struct hvmi_hook *hook = NULL;
	int rc = hvmi_hook_add(m.hooks, &r, &hook, &err);
	if (profile->mechanism == HVMI_MECHANISM_INT3) {
		ck_assert_int_eq(rc, -ENOTSUP);
		ck_assert_ptr_nonnull(strstr(err.text, "HVMI_HOOK_STEALTH"));
	} else {
		ck_assert_int_eq(rc, 0);
		/* mov %rsi,(%rdi); mov (%rdi),%rax there: what the guest itself writes, it reads. */
		uint64_t result;
		probe_start(m.vm, 0, AT_ADD, 0x000000c301c08348);
		hook_machine_run(&m);
		ck_assert(probe_done(m.vm, &result));
		ck_assert_uint_eq(result, 0x000000c301c08349);
		ck_assert_int_eq(seen.calls, 1);
		/* And its new code runs: add $1, %eax. The hook is still there. */
		ck_assert_uint_eq(hook_machine_call(&m, 5), 6);
		ck_assert_int_eq(seen.calls, 2);
		ck_assert_int_eq(hvmi_vm_read(m.vm, AT_ADD, &byte, 1, NULL), 0);
		/* What is not in a copy is in memory, and the guest does not see it. */
		ck_assert_uint_eq(byte, profile->mechanism == HVMI_MECHANISM_CLOAKED_INT3 ? 0xcc : 0x48);
		ck_assert_int_eq(hvmi_vm_write(m.vm, AT_ADD, "\x48\x83\xc0\x01\xc3\0\0\0", 8, NULL), 0);
	}
	hook_machine_close(&m);
}
END_TEST

/* Registers, skipped instructions, several hooks in order, the strongest verdict. */
START_TEST(verdicts)
{
	const struct profile *profile = &profiles[_i];
	struct hook_machine m;
	int counter = 0;
	struct seen first = { .counter = &counter, .set_reg = HVMI_X86_RAX, .set_value = 100 };
	struct seen second = { .counter = &counter, .action = HVMI_VERDICT_SKIP };
	hook_machine_open(&m, profile, "");
	struct hvmi_hook_request a = execute(&m, AT_ADD, &first), b = execute(&m, AT_ADD, &second);
	struct hvmi_hook *one = add(&m, &a);
	ck_assert_uint_eq(hook_machine_call(&m, 7), 101);
	struct hvmi_hook *two = add(&m, &b);
	counter = 0;
	ck_assert_uint_eq(hook_machine_call(&m, 7), 100);
	ck_assert_int_eq(first.order, 1);
	ck_assert_int_eq(second.order, 2);
	/* The first that sets a register wins. */
	second.set_reg = HVMI_X86_RAX;
	second.set_value = 200;
	ck_assert_uint_eq(hook_machine_call(&m, 7), 100);
	ck_assert_int_eq(hvmi_hook_remove(one, &err), 0);
	ck_assert_uint_eq(hook_machine_call(&m, 7), 200);
	/* Elsewhere: rip. */
	second.action = HVMI_VERDICT_CONTINUE;
	second.set_reg = HVMI_X86_RIP;
	second.set_value = AT_RET;
	ck_assert_uint_eq(hook_machine_call(&m, 7), 7);
	ck_assert_uint_eq(info_of(two).refused, 0);
	/* What cannot be: refused, counted, and the guest goes on. */
	second.set_reg = 0;
	second.action = 99;
	ck_assert_uint_eq(hook_machine_call(&m, 7), 8);
	ck_assert_uint_eq(info_of(two).refused, 1);
	second.action = HVMI_VERDICT_EMULATE_READ;
	ck_assert_uint_eq(hook_machine_call(&m, 7), 8);
	ck_assert_uint_eq(info_of(two).refused, 2);
	hook_machine_close(&m);
}
END_TEST

START_TEST(steps)
{
	const struct profile *profile = &profiles[_i];
	struct hook_machine m;
	struct seen seen = { .steps = 2 };
	hook_machine_open(&m, profile, "");
	struct hvmi_hook_request r = execute(&m, AT_STORE, &seen);
	struct hvmi_hook *hook = add(&m, &r);
	bool can = info_of(hook).flags & HVMI_PLAN_STEPS;
	ck_assert_uint_eq(hook_machine_call(&m, 7), 8);
	if (can) {
		ck_assert_int_eq(seen.calls, 3);
		ck_assert_uint_eq(seen.flags, HVMI_HOOK_EVENT_STEP);
		/* What is emulated is no step. */
		ck_assert_uint_eq(seen.gva, profile->step_over == HVMI_STEP_OVER_EMULATE ? AT_RET : AT_ADD);
	} else {
		ck_assert_int_eq(seen.calls, 1);
		ck_assert_uint_eq(info_of(hook).refused, 1);
	}
	hook_machine_close(&m);
}
END_TEST

static void remove_it(struct seen *seen, const struct hvmi_hook_event *event)
{
	ck_assert_ptr_eq(event->hook, seen->hook);
	ck_assert_int_eq(hvmi_hook_remove(event->hook, &err), 0);
	ck_assert_int_eq(hvmi_hook_remove(event->hook, &err), -EINVAL);
	ck_assert_int_eq(hvmi_hooks_dispatch(event->hooks, 0, &err), -EBUSY);
}

static void close_all(struct seen *seen, const struct hvmi_hook_event *event)
{
	hvmi_hooks_close(event->hooks);
	seen->machine->hooks = NULL;
}

static void close_events(struct seen *seen, const struct hvmi_hook_event *event)
{
	hvmi_hooks_close(event->hooks);
	seen->machine->hooks = NULL;
	hvmi_events_close(seen->machine->events);
	seen->machine->events = NULL;
}

static void add_another(struct seen *seen, const struct hvmi_hook_event *event)
{
	struct hvmi_hook_request r = execute(seen->machine, AT_ADD, seen + 1);
	struct hvmi_hook_request here = execute(seen->machine, seen->gva, seen + 2);
	seen->then = NULL;
	ck_assert_int_eq(hvmi_hook_add(event->hooks, &r, NULL, &err), 0);
	ck_assert_int_eq(hvmi_hook_add(event->hooks, &here, NULL, &err), 0);
}

/* Callbacks may do all that. */
START_TEST(callbacks)
{
	const struct profile *profile = &profiles[_i];
	struct hook_machine m;
	hook_machine_open(&m, profile, "");
	struct seen seen[3] = { { .then = remove_it, .machine = &m } };
	struct hvmi_hook_request r = execute(&m, AT_LOAD, seen);
	seen->hook = add(&m, &r);
	/* The one behind it is called all the same. */
	struct seen behind = { .machine = &m };
	const struct hvmi_hook_request there_too = execute(&m, AT_LOAD, &behind);
	struct hvmi_hook *stays = add(&m, &there_too);
	ck_assert_uint_eq(hook_machine_call(&m, 7), 8);
	ck_assert_int_eq(behind.calls, 1);
	ck_assert_uint_eq(hook_machine_call(&m, 7), 8);
	ck_assert_int_eq(behind.calls, 2);
	ck_assert_int_eq(seen->calls, 1);
	ck_assert_int_eq(hvmi_hook_remove(stays, &err), 0);

	/* The new one at the same address is not called for what was there before it. */
	seen->then = add_another;
	add(&m, &r);
	ck_assert_uint_eq(hook_machine_call(&m, 7), 8);
	ck_assert_int_eq(seen[0].calls, 2);
	ck_assert_int_eq(seen[1].calls, 1);
	ck_assert_int_eq(seen[2].calls, 0);
	ck_assert_uint_eq(hook_machine_call(&m, 7), 8);
	ck_assert_int_eq(seen[2].calls, 1);

	seen->then = close_all;
	uint64_t result;
	probe_start(m.vm, 0, DATA, 9);
	ck_assert_int_eq(hvmi_hooks_dispatch(m.hooks, 0, &err), 1);
	ck_assert_ptr_null(m.hooks);
	struct hvmi_event event = { .size = sizeof(event) };
	ck_assert_int_eq(hvmi_events_next(m.events, 0, &event, &err), 0);
	ck_assert(probe_done(m.vm, &result));
	ck_assert_uint_eq(result, 10);

	ck_assert_int_eq(hvmi_hooks_open(m.events, NULL, &m.hooks, &err), 0);
	seen->then = close_events;
	add(&m, &r);
	probe_start(m.vm, 0, DATA, 10);
	ck_assert_int_eq(hvmi_hooks_dispatch(m.hooks, 0, &err), 1);
	/* It goes on within the next call that lets it. */
	ck_assert_int_eq(hvmi_vm_pause(m.vm, &err), 0);
	ck_assert_int_eq(hvmi_vm_resume(m.vm, &err), 0);
	ck_assert(probe_done(m.vm, &result));
	ck_assert_uint_eq(result, 11);
	hook_machine_close(&m);
}
END_TEST

/* The same memory by another address is another address; by gpa it is the same. */
START_TEST(addresses)
{
	const struct profile *profile = &profiles[_i];
	struct hook_machine m;
	struct seen alias = { .calls = 0 }, physical = { .calls = 0 };
	hook_machine_open(&m, profile, "");
	struct hvmi_hook_request r = execute(&m, ALIAS + AT_LOAD, &alias);
	struct hvmi_hook *hook = add(&m, &r);
	ck_assert_uint_eq(info_of(hook).gpa, AT_LOAD);
	r = execute(&m, AT_LOAD, &physical);
	r.space = NULL;
	/* Breakpoints by address know no gpa; the machine that can do all has another way. */
	bool can = strcmp(profile->name, "no rights") != 0;
	ck_assert_int_eq(hvmi_hook_add(m.hooks, &r, NULL, &err), can ? 0 : -ENOTSUP);
	if (!can)
		ck_assert_ptr_nonnull(strstr(err.text, "give a space"));
	ck_assert_uint_eq(hook_machine_call(&m, 7), 8);
	ck_assert_int_eq(alias.calls, 0);
	ck_assert_int_eq(physical.calls, can);
	hook_machine_close(&m);
}
END_TEST

/* All or none. */
START_TEST(transactions)
{
	const struct profile *profile = &profiles[_i];
	struct hook_machine m;
	struct seen seen[4] = { { .calls = 0 } };
	struct hvmi_hook *hooks[4];
	hook_machine_open(&m, profile, "");
	struct hvmi_hook_request r = execute(&m, AT_STORE, &seen[0]);
	struct hvmi_hook *old = add(&m, &r);
	ck_assert_int_eq(hvmi_hooks_commit(m.hooks, &err), -EINVAL);
	ck_assert_int_eq(hvmi_hooks_begin(m.hooks, &err), 0);
	ck_assert_int_eq(hvmi_hooks_begin(m.hooks, &err), -EBUSY);
	static const uint64_t at[] = { AT_LOAD, AT_ADD, AT_RET };
	for (int i = 0; i < 3; i++) {
		r = execute(&m, at[i], &seen[i + 1]);
		hooks[i] = add(&m, &r);
	}
	ck_assert_int_eq(hvmi_hook_remove(old, &err), 0);
	ck_assert_int_eq(hvmi_hook_remove(old, &err), -EINVAL);
	/* Nothing has changed yet. */
	ck_assert_uint_eq(hook_machine_call(&m, 7), 8);
	ck_assert_int_eq(seen[0].calls, 1);
	ck_assert_int_eq(seen[1].calls, 0);
	ck_assert_int_eq(hvmi_hooks_commit(m.hooks, &err), 0);
	ck_assert_uint_eq(hook_machine_call(&m, 7), 8);
	for (int i = 0; i < 4; i++)
		ck_assert_int_eq(seen[i].calls, 1);

	/* One is not mapped: nothing of it happens, also not what was to be removed. */
	ck_assert_int_eq(hvmi_hooks_begin(m.hooks, &err), 0);
	ck_assert_int_eq(hvmi_hook_remove(hooks[0], &err), 0);
	r = execute(&m, AT_STORE, &seen[0]);
	add(&m, &r);
	r = execute(&m, 0x40000000, &seen[0]);
	add(&m, &r);
	ck_assert_int_eq(hvmi_hooks_commit(m.hooks, &err), -EFAULT);
	ck_assert_uint_eq(err.address, 0x40000000);
	ck_assert_uint_eq(hook_machine_call(&m, 7), 8);
	ck_assert_int_eq(seen[0].calls, 1);
	ck_assert_int_eq(seen[1].calls, 2);

	/* Dropped; and added and removed in one. */
	ck_assert_int_eq(hvmi_hooks_begin(m.hooks, &err), 0);
	ck_assert_int_eq(hvmi_hook_remove(hooks[0], &err), 0);
	hvmi_hooks_abort(m.hooks);
	ck_assert_int_eq(hvmi_hooks_begin(m.hooks, &err), 0);
	r = execute(&m, AT_STORE, &seen[0]);
	ck_assert_int_eq(hvmi_hook_remove(add(&m, &r), &err), 0);
	ck_assert_int_eq(hvmi_hooks_commit(m.hooks, &err), 0);
	ck_assert_uint_eq(hook_machine_call(&m, 7), 8);
	ck_assert_int_eq(seen[0].calls, 1);
	ck_assert_int_eq(seen[1].calls, 3);
	hook_machine_close(&m);
}
END_TEST

/* A vCPU that stands at a hook that goes, an int3 of the guest's own at a hook. */
START_TEST(stale)
{
	const struct profile *profile = &profiles[_i];
	struct hook_machine m;
	struct seen seen = { .calls = 0 };
	uint64_t result;
	hook_machine_open(&m, profile, "");
	struct hvmi_hook_request r = execute(&m, AT_LOAD, &seen);
	struct hvmi_hook *hook = add(&m, &r);
	probe_start(m.vm, 0, DATA, 9);
	ck_assert_int_eq(hvmi_hook_remove(hook, &err), 0);
	hook_machine_run(&m);
	ck_assert(probe_done(m.vm, &result));
	ck_assert_uint_eq(result, 10);
	ck_assert_int_eq(seen.calls, 0);

	/* Closed with a vCPU that stands there. */
	add(&m, &r);
	probe_start(m.vm, 0, DATA, 19);
	hvmi_hooks_close(m.hooks);
	m.hooks = NULL;
	ck_assert(probe_done(m.vm, &result));
	ck_assert_uint_eq(result, 20);

	/* And the events themselves. */
	ck_assert_int_eq(hvmi_hooks_open(m.events, NULL, &m.hooks, &err), 0);
	add(&m, &r);
	probe_start(m.vm, 0, DATA, 29);
	hvmi_events_close(m.events);
	m.events = NULL;
	ck_assert_int_eq(hvmi_hooks_dispatch(m.hooks, 0, &err), -ESRCH);
	ck_assert_int_eq(hvmi_hook_add(m.hooks, &r, NULL, &err), -ESRCH);
	ck_assert_int_eq(hvmi_vm_pause(m.vm, &err), 0);
	ck_assert_int_eq(hvmi_vm_resume(m.vm, &err), 0);
	ck_assert(probe_done(m.vm, &result));
	ck_assert_uint_eq(result, 30);
	hook_machine_close(&m);
}
END_TEST

/* Exactly the bytes, whatever else is in the page. */
START_TEST(accesses)
{
	const struct profile *profile = &profiles[_i];
	struct hook_machine m;
	struct seen hit = { .calls = 0 }, before = { .calls = 0 }, behind = { .calls = 0 },
		    reads = { .calls = 0 }, overlap = { .calls = 0 }, physical = { .calls = 0 };
	hook_machine_open(&m, profile, "");
	if (!has_pages(&m)) {
		hook_machine_close(&m);
		return;
	}
	struct hvmi_hook_request r = access_of(&m, DATA + 4, 1, HVMI_RIGHT_WRITE, &hit);
	struct hvmi_hook *hook = NULL;
	ck_assert_msg(hvmi_hook_add(m.hooks, &r, &hook, &err) == 0, "%s", err.text);
	struct hvmi_hook_info info = info_of(hook);
	ck_assert_uint_eq(info.mechanism, HVMI_MECHANISM_PAGE);
	r = access_of(&m, DATA - 8, 8, HVMI_RIGHT_WRITE, &before);
	add(&m, &r);
	r = access_of(&m, DATA + 8, 8, HVMI_RIGHT_WRITE | HVMI_RIGHT_READ, &behind);
	add(&m, &r);
	r = access_of(&m, DATA + 7, 2, HVMI_RIGHT_READ, &reads);
	add(&m, &r);
	r = access_of(&m, DATA - 0x800, 0x1800, HVMI_RIGHT_WRITE, &overlap);
	add(&m, &r);
	r = access_of(&m, DATA, 1, HVMI_RIGHT_WRITE, &physical);
	r.space = NULL;
	add(&m, &r);
	ck_assert_uint_eq(hook_machine_call(&m, 0x1122), 0x1123);
	ck_assert_int_eq(hit.calls, 1);
	ck_assert_uint_eq(hit.gva, DATA);
	ck_assert_uint_eq(hit.gpa, DATA);
	ck_assert_uint_eq(hit.len, 8);
	ck_assert_uint_eq(hit.access, HVMI_RIGHT_WRITE);
	ck_assert_uint_eq(hit.flags, 0);
	ck_assert_uint_eq(hit.value_len, 8);
	ck_assert_uint_eq(hit.value, 0x1122);
	ck_assert_int_eq(before.calls, 0);
	ck_assert_int_eq(behind.calls, 0);
	ck_assert_int_eq(reads.calls, 1);
	ck_assert_uint_eq(reads.access, HVMI_RIGHT_READ);
	ck_assert_int_eq(overlap.calls, 1);
	ck_assert_int_eq(physical.calls, 1);
	ck_assert_uint_eq(info_of(hook).hits, 1);

	/* Across the border of two pages, both hooked: one access, one call. */
	uint64_t result;
	overlap.calls = 0;
	probe_start(m.vm, 0, DATA - 4, 5);
	hook_machine_run(&m);
	ck_assert(probe_done(m.vm, &result));
	ck_assert_uint_eq(result, 6);
	ck_assert_int_eq(overlap.calls, 1);
	ck_assert_int_eq(before.calls, 1);
	ck_assert_int_eq(hit.calls, 1);
	ck_assert_int_eq(physical.calls, 2);
	hook_machine_close(&m);
}
END_TEST

/* Writes that do not happen, reads of something else, other instructions. */
START_TEST(access_verdicts)
{
	const struct profile *profile = &profiles[_i];
	struct hook_machine m;
	struct seen seen = { .action = HVMI_VERDICT_DENY };
	hook_machine_open(&m, profile, "u64 0x12000 77\n");
	if (!has_pages(&m)) {
		hook_machine_close(&m);
		return;
	}
	struct hvmi_hook_request r = access_of(&m, DATA, 8, HVMI_RIGHT_WRITE, &seen);
	struct hvmi_hook *hook = add(&m, &r);
	ck_assert_uint_eq(hook_machine_call(&m, 5), 78);
	seen.action = HVMI_VERDICT_SKIP;
	ck_assert_uint_eq(hook_machine_call(&m, 5), 78);
	seen.action = HVMI_VERDICT_CONTINUE;
	ck_assert_uint_eq(hook_machine_call(&m, 5), 6);
	ck_assert_int_eq(seen.calls, 3);
	ck_assert_uint_eq(info_of(hook).refused, 0);
	hook_machine_close(&m);
}
END_TEST

/* Executed, read and written at once: code pages, and an address in one that is hooked too. */
START_TEST(execute_ranges)
{
	const struct profile *profile = &profiles[_i];
	struct hook_machine m;
	struct seen range = { .calls = 0 }, other = { .calls = 0 }, point = { .calls = 0 };
	hook_machine_open(&m, profile, "");
	if (!has_pages(&m)) {
		hook_machine_close(&m);
		return;
	}
	struct hvmi_hook_request r = access_of(&m, AT_ADD + 1, 2, HVMI_RIGHT_EXECUTE, &range);
	add(&m, &r);
	r = access_of(&m, FUNCTION + 0x100, 0x100, HVMI_RIGHT_EXECUTE, &other);
	add(&m, &r);
	r = execute(&m, AT_ADD, &point);
	add(&m, &r);
	for (int i = 1; i < 4; i++) {
		ck_assert_uint_eq(hook_machine_call(&m, 7), 8);
		ck_assert_int_eq(range.calls, i);
		ck_assert_uint_eq(range.gva, AT_ADD);
		ck_assert_uint_eq(range.len, 4);
		ck_assert_int_eq(point.calls, i);
		ck_assert_int_eq(other.calls, 0);
	}
	hook_machine_close(&m);
}
END_TEST

/* An instruction that meets both kinds of hooks meets each once. */
START_TEST(both)
{
	const struct profile *profile = &profiles[_i];
	struct hook_machine m;
	struct seen point = { .calls = 0 }, data = { .calls = 0 };
	hook_machine_open(&m, profile, "");
	if (!has_pages(&m)) {
		hook_machine_close(&m);
		return;
	}
	struct hvmi_hook_request r = execute(&m, AT_STORE, &point);
	add(&m, &r);
	r = access_of(&m, DATA, 8, HVMI_RIGHT_WRITE, &data);
	add(&m, &r);
	for (int i = 1; i < 4; i++) {
		ck_assert_uint_eq(hook_machine_call(&m, 7), 8);
		ck_assert_int_eq(point.calls, i);
		ck_assert_int_eq(data.calls, i);
	}
	hook_machine_close(&m);
}
END_TEST

/* Watchpoints tell after the access, and do not overlap. */
START_TEST(watchpoints)
{
	struct hook_machine m;
	struct seen seen = { .calls = 0 }, other = { .calls = 0 };
	struct hvmi_hook *hook;
	hook_machine_open(&m, &profiles[profile_count - 1], "");
	ck_assert(!has_pages(&m));
	struct hvmi_hook_request r = access_of(&m, DATA + 4, 2, HVMI_RIGHT_WRITE, &seen);
	hook = add(&m, &r);
	ck_assert_uint_eq(info_of(hook).mechanism, HVMI_MECHANISM_WATCHPOINT);
	ck_assert_uint_eq(info_of(hook).flags & HVMI_PLAN_AFTER, HVMI_PLAN_AFTER);
	ck_assert_uint_eq(hook_machine_call(&m, 7), 8);
	ck_assert_int_eq(seen.calls, 1);
	ck_assert_uint_eq(seen.flags, HVMI_HOOK_EVENT_DONE | HVMI_HOOK_EVENT_INEXACT);
	ck_assert_uint_eq(seen.gva, DATA + 4);
	/* The same once more, and others. */
	add(&m, &r);
	r.context = &other;
	r.address++;
	ck_assert_int_eq(hvmi_hook_add(m.hooks, &r, NULL, &err), -EBUSY);
	r.address = DATA + 6;
	add(&m, &r);
	r.access = HVMI_RIGHT_EXECUTE;
	ck_assert_int_eq(hvmi_hook_add(m.hooks, &r, NULL, &err), -ENOTSUP);
	r.access = HVMI_RIGHT_READ;
	r.space = NULL;
	ck_assert_int_eq(hvmi_hook_add(m.hooks, &r, NULL, &err), -ENOTSUP);
	ck_assert_uint_eq(hook_machine_call(&m, 7), 8);
	ck_assert_int_eq(seen.calls, 3);
	ck_assert_int_eq(other.calls, 1);
	/* What has been done cannot be denied. */
	seen.action = HVMI_VERDICT_DENY;
	ck_assert_uint_eq(hook_machine_call(&m, 7), 8);
	ck_assert_uint_eq(info_of(hook).refused, 1);
	hook_machine_close(&m);
}
END_TEST

START_TEST(bad_requests)
{
	struct hook_machine m;
	struct seen seen = { .calls = 0 };
	struct hvmi_hook *hook;
	struct hvmi_hooks *second;
	hook_machine_open(&m, &profiles[0], "absent 0x1f0000 0x1000\n");
	ck_assert_int_eq(hvmi_hooks_open(m.events, NULL, &second, &err), -EBUSY);
	ck_assert_int_eq(hvmi_hook_add(m.hooks, NULL, &hook, &err), -EINVAL);
	struct hvmi_hook_request good = execute(&m, AT_LOAD, &seen), r = good;
#define REFUSED(code, part)                                                                        \
	do {                                                                                       \
		ck_assert_int_eq(hvmi_hook_add(m.hooks, &r, &hook, &err), code);                   \
		ck_assert_msg(strstr(err.text, part) != NULL, "%s", err.text);                     \
		r = good;                                                                          \
	} while (0)
	r.kind = 0;
	REFUSED(-EINVAL, "no such kind");
	r.kind = HVMI_HOOK_KIND_END;
	REFUSED(-EINVAL, "no such kind");
	struct {
		struct hvmi_hook_request known;
		uint64_t unknown;
	} newer = { .known = good, .unknown = 1 };
	newer.known.size = sizeof(newer);
	ck_assert_int_eq(hvmi_hook_add(m.hooks, &newer.known, &hook, &err), -EINVAL);
	r.callback = NULL;
	REFUSED(-EINVAL, "callback");
	r.flags = HVMI_HOOK_ON_CHANGE;
	REFUSED(-EINVAL, "flag");
	r.flags = HVMI_HOOK_ONLY_SPACE;
	r.space = NULL;
	REFUSED(-EINVAL, "ONLY_SPACE");
	r.len = 2;
	REFUSED(-EINVAL, "range");
	r.reg = HVMI_X86_CR3;
	REFUSED(-EINVAL, "reg");
	r.address = 0x40000000;
	REFUSED(-EFAULT, "0x40000000");
	r.address = 0x1f0000;
	REFUSED(-EFAULT, "absent");
	r.space = NULL;
	r.address = 0xfee00000;
	REFUSED(-EFAULT, "no RAM");
	r.kind = HVMI_HOOK_ACCESS;
	r.access = HVMI_RIGHT_WRITE;
	REFUSED(-EINVAL, "len");
	r.kind = HVMI_HOOK_ACCESS;
	r.len = 8;
	REFUSED(-EINVAL, "access");
	r.kind = HVMI_HOOK_ACCESS;
	r.access = HVMI_RIGHT_USER;
	r.len = 8;
	REFUSED(-EINVAL, "access");
	r.kind = HVMI_HOOK_ACCESS;
	r.access = HVMI_RIGHT_WRITE;
	r.len = UINT64_MAX;
	REFUSED(-EINVAL, "wraps");
	r.kind = HVMI_HOOK_ACCESS;
	r.access = HVMI_RIGHT_WRITE;
	r.len = HVMI_HOOK_BYTES + 1;
	REFUSED(-EOVERFLOW, "64 MiB");
	r.kind = HVMI_HOOK_ACCESS;
	r.access = HVMI_RIGHT_WRITE;
	r.address = 0x1effff;
	r.len = 2;
	REFUSED(-EFAULT, "absent");
	r.kind = HVMI_HOOK_CPUID;
	REFUSED(-EINVAL, "address");
	r = (struct hvmi_hook_request){ .size = sizeof(r), .kind = HVMI_HOOK_REGISTER,
					.reg = HVMI_X86_RAX, .callback = on_hook };
	REFUSED(-EINVAL, "CR0");
	r = (struct hvmi_hook_request){ .size = sizeof(r), .kind = HVMI_HOOK_MSR,
					.msr = 1ull << 32, .callback = on_hook };
	REFUSED(-EINVAL, "MSR");
#undef REFUSED
	/* The same hook twice: both are called. */
	add(&m, &good);
	add(&m, &good);
	ck_assert_uint_eq(hook_machine_call(&m, 7), 8);
	ck_assert_int_eq(seen.calls, 2);
	hook_machine_close(&m);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("hook");
	TCase *tests = tcase_create("hook");
	const int n = (int)profile_count;
	tcase_add_loop_test(tests, executes, 0, n);
	tcase_add_loop_test(tests, stealth, 0, n);
	tcase_add_loop_test(tests, verdicts, 0, n);
	tcase_add_loop_test(tests, steps, 0, n);
	tcase_add_loop_test(tests, callbacks, 0, n);
	tcase_add_loop_test(tests, addresses, 0, n);
	tcase_add_loop_test(tests, transactions, 0, n);
	tcase_add_loop_test(tests, stale, 0, n);
	tcase_add_loop_test(tests, accesses, 0, n);
	tcase_add_loop_test(tests, access_verdicts, 0, n);
	tcase_add_loop_test(tests, execute_ranges, 0, n);
	tcase_add_loop_test(tests, both, 0, n);
	tcase_add_test(tests, watchpoints);
	tcase_add_test(tests, bad_requests);
	suite_add_tcase(suite, tests);
	return run_suite(suite);
}
