/* SPDX-License-Identifier: Apache-2.0 */
/* Hooks: what they tell, and that the guest computes what it would have computed. */
#include <poll.h>

#include "suite.h"

static struct hvmi_hooks *hooks;

/* What a callback saw of the probe's own doing; others run the same code. */
struct seen {
	uint64_t calls, gva, gpa, len, value;
	uint32_t access, flags, action;
	uint32_t set_reg;
	uint64_t set_value;
	uint64_t only_at;	/* count those alone whose vCPU is within 64 bytes; 0: all */
};

static void on_hook(void *context, const struct hvmi_hook_event *event, struct hvmi_verdict *verdict)
{
	struct seen *seen = context;
	if (seen->only_at && !event_at(event->event, seen->only_at))
		return;
	seen->calls++;
	seen->gva = event->gva;
	seen->gpa = event->gpa;
	seen->len = event->len;
	seen->access = event->access;
	seen->flags = event->flags;
	memcpy(&seen->value, event->value, sizeof(seen->value));
	verdict->action = seen->action;
	if (seen->set_reg)
		hvmi_registers_set(verdict->registers, seen->set_reg, seen->set_value);
}

static struct hvmi_hook_request execute(uint64_t gva, struct seen *seen)
{
	return (struct hvmi_hook_request){ .size = sizeof(struct hvmi_hook_request),
					   .kind = HVMI_HOOK_EXECUTE, .space = machine.space,
					   .address = gva, .callback = on_hook, .context = seen };
}

static struct hvmi_hook_request access_to(uint64_t gva, uint64_t len, uint32_t access,
					  struct seen *seen)
{
	struct hvmi_hook_request r = execute(gva, seen);
	r.kind = HVMI_HOOK_ACCESS;
	r.len = len;
	r.access = access;
	return r;
}

/* Opens events and hooks, if such a hook can be had. */
static struct hvmi_hook_plan open_for(struct hvmi_hook_request r)
{
	struct hvmi_hook_plan plan = { .size = sizeof(plan) };
	need_probe(0);
	need(HVMI_CAN_PAUSE);
	r.space = r.kind == HVMI_HOOK_EXECUTE || r.kind == HVMI_HOOK_ACCESS ? machine.space : NULL;
	int rc = hvmi_hook_plan_request(machine.vm, &r, &plan, &error);
	if (rc == -ENOTSUP)
		skip("%s", error.text);
	GOOD(rc);
	open_events();
	GOOD(hvmi_hooks_open(machine.events, NULL, &hooks, &error));
	return plan;
}

static struct hvmi_hook *add(const struct hvmi_hook_request *r)
{
	struct hvmi_hook *hook;
	GOOD(hvmi_hook_add(hooks, r, &hook, &error));
	return hook;
}

/* Dispatch until the probe is back. */
static struct probe_result finish_call(void)
{
	const int64_t end = now_ms() + options.timeout_ms;
	while (!call_done()) {
		int n = hvmi_hooks_dispatch(hooks, 20, &error);
		if (n < 0)
			fail("hvmi_hooks_dispatch: %s: %s", hvmi_error_name(n), error.text);
		if (now_ms() > end)
			fail("the probe did not come back in %d ms", options.timeout_ms);
	}
	return end_call();
}

static uint64_t call(uint32_t vcpu, uint64_t function, uint64_t a, uint64_t b)
{
	start_call(vcpu, function, a, b, 0);
	return finish_call().values[0];
}

static void close_hooks(void)
{
	hvmi_hooks_close(hooks);
	hvmi_events_close(machine.events);
	machine.events = NULL;
}

static void execution(void)
{
	struct seen seen = { .calls = 0 }, twice = { .calls = 0 };
	struct hvmi_hook_plan plan = open_for(execute(0, &seen));
	uint64_t at = exec_place(PLACE_steps_2);
	struct hvmi_hook_request r = execute(at, &seen);
	uint8_t before[16], after[16];
	guest_read(at, before, sizeof(before));
	struct hvmi_hook *hook = add(&r);
	r.context = &twice;
	add(&r);
	remark("by %s, got over by %s", hvmi_hook_mechanism_name(plan.mechanism),
	       hvmi_step_over_name(plan.step_over));
	for (uint32_t i = 0; i < 20; i++)
		SAME(call(i % (last_vcpu() + 1), exec_place(PLACE_steps), i, 0), i + 6);
	SAME(seen.calls, 20);
	SAME(twice.calls, 20);
	SAME(seen.gva, at);
	GOOD(hvmi_hook_remove(hook, &error));
	SAME(call(0, exec_place(PLACE_steps), 1, 0), 7);
	SAME(seen.calls, 20);
	SAME(twice.calls, 21);
	close_hooks();
	guest_read(at, after, sizeof(after));
	CHECK(memcmp(before, after, sizeof(before)) == 0);
	SAME(guest_call(0, exec_place(PLACE_steps), 1, 0, 0).values[0], 7);
}

static void stealth(void)
{
	struct seen seen = { .calls = 0 };
	struct hvmi_hook_request r = execute(0, &seen);
	r.flags = HVMI_HOOK_STEALTH;
	open_for(r);
	uint64_t want, at = exec_place(PLACE_steps_2);
	guest_read(at, &want, sizeof(want));
	r.address = at;
	add(&r);
	/* What the guest itself reads of its code. */
	SAME(call(0, user_place(PLACE_read), at, 0), want);
	SAME(call(0, exec_place(PLACE_steps), 1, 0), 7);
	SAME(seen.calls, 1);
	close_hooks();
}

/* What the guest reads and writes at hooks is as if there were none, in whatever way it does that. */
static void stealth_accesses(void)
{
	struct seen seen = { .calls = 0 };
	struct hvmi_hook_request r = execute(0, &seen);
	r.flags = HVMI_HOOK_STEALTH;
	struct hvmi_hook_plan plan = open_for(r);
	const uint64_t from = data_page(3), at[] = { from + 0x104, from + PAGE - 2, from + PAGE + 1 };
	uint8_t want[2 * PAGE], now[2 * PAGE];
	for (uint32_t i = 0; i < sizeof(want); i++)
		want[i] = (uint8_t)(i * 7 + 3) & 0x7f;
	guest_write(from, want, sizeof(want));
	for (unsigned i = 0; i < 3; i++) {
		r.address = at[i];
		add(&r);
	}
	remark("by %s, got over by %s", hvmi_hook_mechanism_name(plan.mechanism),
	       hvmi_step_over_name(plan.step_over));
	for (unsigned i = 0; i < 3; i++)
		for (uint64_t gva = at[i] - 8; gva <= at[i] + 1; gva++) {
			uint64_t value = call(last_vcpu(), user_place(PLACE_read), gva, 0);
			CHECK(memcmp(&value, want + (gva - from), 8) == 0);
		}
	/* Strings: from there, over the border, and to there. */
	start_call(0, user_place(PLACE_copy), data_page(5), from + 0x80, PAGE);
	finish_call();
	guest_read(data_page(5), now, PAGE);
	CHECK(memcmp(now, want + 0x80, PAGE) == 0);
	memmove(want + 0x100, want + PAGE - 8, 16);
	start_call(0, user_place(PLACE_copy), from + 0x100, data_page(5) + PAGE - 0x88, 16);
	finish_call();
	/* Writes, and what is read, changed and written. */
	for (unsigned i = 0; i < 3; i++)
		for (uint64_t gva = at[i] - 7; gva <= at[i]; gva++) {
			uint64_t value = 0x1122334455667700 + gva % 64, changed;
			call(0, user_place(PLACE_write), gva, value);
			call(last_vcpu(), user_place(PLACE_add), gva, 0x10203);
			value += 0x10203;
			memcpy(want + (gva - from), &value, 8);
			changed = call(0, user_place(PLACE_read), gva, 0);
			SAME(changed, value);
		}
	/* An instruction that is hooked, and reads what is hooked: itself. */
	r.address = exec_place(PLACE_read);
	guest_read(r.address, now, 8);
	add(&r);
	uint64_t itself = call(0, r.address, r.address, 0);
	CHECK(memcmp(&itself, now, 8) == 0);
	SAME(seen.calls, 1);
	close_hooks();
	guest_read(from, now, sizeof(now));
	CHECK(memcmp(now, want, sizeof(now)) == 0);
}

static void verdict(void)
{
	struct seen seen = { .action = HVMI_VERDICT_SKIP };
	struct hvmi_hook_plan plan = open_for(execute(0, &seen));
	if (!(plan.verdicts >> HVMI_VERDICT_SKIP & 1))
		skip("instructions cannot be skipped");
	struct hvmi_hook_request r = execute(exec_place(PLACE_steps_2), &seen);
	add(&r);
	SAME(call(0, exec_place(PLACE_steps), 10, 0), 14);
	seen.action = HVMI_VERDICT_CONTINUE;
	seen.set_reg = HVMI_X86_RIP;
	seen.set_value = exec_place(PLACE_steps_4);
	SAME(call(last_vcpu(), exec_place(PLACE_steps), 10, 0), 10);
	seen.set_reg = HVMI_X86_RAX;
	seen.set_value = 100;
	SAME(call(0, exec_place(PLACE_steps), 10, 0), 106);
	SAME(seen.calls, 3);
	close_hooks();
}

/* One that writes, and those beside it. */
static void bytes(void)
{
	struct seen hit = { .calls = 0 }, before = { .calls = 0 }, behind = { .calls = 0 };
	struct hvmi_hook_plan plan = open_for(access_to(0, 1, HVMI_RIGHT_WRITE, &hit));
	uint64_t gva = data_page(1) + 64, at = user_place(PLACE_write), value;
	hit.only_at = before.only_at = behind.only_at = at;
	struct hvmi_hook_request r = access_to(gva, 8, HVMI_RIGHT_WRITE, &hit);
	struct hvmi_hook *hook = add(&r);
	r = access_to(gva - 8, 8, HVMI_RIGHT_WRITE, &before);
	add(&r);
	r = access_to(gva + 8, 8, HVMI_RIGHT_WRITE, &behind);
	add(&r);
	remark("by %s, got over by %s", hvmi_hook_mechanism_name(plan.mechanism),
	       hvmi_step_over_name(plan.step_over));
	for (uint64_t i = 1; i <= 10; i++) {
		call((uint32_t)i % (last_vcpu() + 1), at, gva, 0x1000 + i);
		guest_read(gva, &value, sizeof(value));
		SAME(value, 0x1000 + i);
		SAME(hit.calls, i);
		if (!(plan.flags & HVMI_PLAN_AFTER)) {
			SAME(hit.gva, gva);
			SAME(hit.len, 8);
			SAME(hit.value, 0x1000 + i);
		}
	}
	SAME(call(0, user_place(PLACE_read), gva, 0), 0x100a);
	call(0, at, gva + 16, 1);
	SAME(hit.calls, 10);
	SAME(before.calls + behind.calls, 0);
	call(0, at, gva + 4, 2);
	SAME(behind.calls + hit.calls, plan.flags & HVMI_PLAN_AFTER ? 11 : 12);
	GOOD(hvmi_hook_remove(hook, &error));
	close_hooks();
}

static void denied(void)
{
	struct seen seen = { .action = HVMI_VERDICT_DENY };
	struct hvmi_hook_plan plan = open_for(access_to(0, 1, HVMI_RIGHT_WRITE, &seen));
	if (!(plan.verdicts >> HVMI_VERDICT_DENY & 1))
		skip("accesses cannot be denied");
	uint64_t gva = data_page(1) + 8, value = 4711;
	guest_write(gva, &value, sizeof(value));
	seen.only_at = user_place(PLACE_write);
	struct hvmi_hook_request r = access_to(gva, 8, HVMI_RIGHT_WRITE, &seen);
	add(&r);
	call(0, user_place(PLACE_write), gva, 1);
	guest_read(gva, &value, sizeof(value));
	SAME(value, 4711);
	seen.action = HVMI_VERDICT_CONTINUE;
	call(0, user_place(PLACE_write), gva, 2);
	guest_read(gva, &value, sizeof(value));
	SAME(value, 2);
	close_hooks();
}

static void transaction(void)
{
	struct seen seen = { .calls = 0 };
	open_for(execute(0, &seen));
	struct hvmi_hook_request r = execute(exec_place(PLACE_steps_1), &seen);
	GOOD(hvmi_hooks_begin(hooks, &error));
	add(&r);
	r.address = exec_place(PLACE_steps_2);
	add(&r);
	SAME(call(0, exec_place(PLACE_steps), 1, 0), 7);
	SAME(seen.calls, 0);
	/* Not mapped in the probe. */
	r.address = 0x20000000000;
	add(&r);
	SAME(hvmi_hooks_commit(hooks, &error), -EFAULT);
	SAME(call(0, exec_place(PLACE_steps), 1, 0), 7);
	SAME(seen.calls, 0);
	GOOD(hvmi_hooks_begin(hooks, &error));
	for (int i = 0; i < 3; i++) {
		r.address = exec_place(PLACE_steps_1 + i);
		add(&r);
	}
	GOOD(hvmi_hooks_commit(hooks, &error));
	SAME(call(last_vcpu(), exec_place(PLACE_steps), 1, 0), 7);
	SAME(seen.calls, 3);
	close_hooks();
}

/* A page that the guest maps to one of four frames after the other. */
struct moving {
	struct probe_remap job;
	struct hvmi_walk_entry leaf;
	uint64_t page, last;
};

/* The frames hold what the page held, but for its first 8 bytes. */
static void begin_moving(struct moving *m, uint64_t page)
{
	const uint64_t kdata = machine.box.kdata, all = kdata - gpa_of(kdata);
	struct hvmi_walk walk = { .size = sizeof(walk) };
	uint8_t bytes[PAGE];
	GOOD(hvmi_space_walk(machine.space, page, &walk, &error));
	*m = (struct moving){ .page = page, .leaf = walk.entries[walk.entry_count - 1] };
	m->job.entry = m->leaf.gpa + all;
	m->job.page = page;
	guest_read(page, bytes, sizeof(bytes));
	for (unsigned i = 0; i < PROBE_REMAP_FRAMES; i++) {
		guest_write(data_page(2 + i), bytes, sizeof(bytes));
		uint64_t frame = gpa_of(data_page(2 + i)), bits = 0x000ffffffffff000;
		m->job.frames[i] = frame + all;
		m->job.entries[i] = (m->leaf.value & 0x80000000000001ff & ~bits) | frame;
	}
}

/* On to the next frame; where it is. While hooks are open they are dispatched. */
static uint64_t move_on(struct moving *m)
{
	m->job.complete = m->last;
	m->job.last = ++m->last;
	guest_write(machine.box.kdata, &m->job, sizeof(m->job));
	start_call(0, kernel_place(PLACE_remap), machine.box.kdata, 0, 0);
	if (machine.events)
		finish_call();
	else
		end_call();
	return m->job.entries[m->last % PROBE_REMAP_FRAMES] & 0x000ffffffffff000;
}

static void end_moving(struct moving *m)
{
	/* The processor learns of it by the guest, which adds bits of its own. */
	for (unsigned i = 0; i < PROBE_REMAP_FRAMES; i++)
		m->job.entries[i] = m->leaf.value & 0x800ffffffffff1ff;
	move_on(m);
	SAME(hvmi_vm_write(machine.vm, m->leaf.gpa, &m->leaf.value, 8, NULL), 0);
}

/* A hook of a virtual address is hit wherever the guest maps the address to. */
static void follow(bool execution)
{
	struct seen seen = { .calls = 0 };
	struct hvmi_hook_request r = execution ? execute(0, &seen) :
						 access_to(0, 8, HVMI_RIGHT_WRITE, &seen);
	need_probe(PROBE_KERNEL | PROBE_REMAPS);
	r.space = machine.space;
	struct hvmi_hook_plan plan = { .size = sizeof(plan) };
	if (hvmi_hook_plan_request(machine.vm, &r, &plan, &error) || !(plan.flags & HVMI_PLAN_FOLLOWS))
		skip("such hooks do not follow a translation here");
	const uint64_t at = execution ? exec_place(PLACE_steps_2) : data_page(0) + 64;
	const unsigned moves = options.cycles < 100 ? options.cycles : 100;
	const bool told = plan.mechanism != HVMI_MECHANISM_BREAKPOINT &&
			  plan.mechanism != HVMI_MECHANISM_WATCHPOINT;
	struct moving m;
	begin_moving(&m, at / PAGE * PAGE);
	open_for(r);
	r.address = at;
	seen.only_at = execution ? 0 : user_place(PLACE_write);
	struct hvmi_hook *hook = add(&r);
	for (unsigned i = 0; i <= moves; i++) {
		uint64_t frame = i ? move_on(&m) : gpa_of(at) / PAGE * PAGE;
		if (execution)
			SAME(call(0, exec_place(PLACE_steps), i, 0), i + 6);
		else
			call(0, user_place(PLACE_write), at, i);
		SAME(seen.calls, i + 1);
		SAME(seen.gva, at);
		if (told)
			SAME(seen.gpa, frame + at % PAGE);
	}
	struct hvmi_hook_info info = { .size = sizeof(info) };
	struct hvmi_hooks_info all = { .size = sizeof(all) };
	GOOD(hvmi_hook_get_info(hook, &info));
	GOOD(hvmi_hooks_get_info(hooks, &all));
	remark("by %s, got over by %s: %u moves of the guest's, %llu of the hook's, %llu walks, %llu "
	       "tables, %llu events", hvmi_hook_mechanism_name(plan.mechanism),
	       hvmi_step_over_name(plan.step_over), moves, (unsigned long long)info.moves,
	       (unsigned long long)all.walks, (unsigned long long)all.tables,
	       (unsigned long long)all.events);
	SAME(info.state, HVMI_HOOK_STATE_FOLLOWS);
	SAME(info.moves, told ? moves : 0);
	close_hooks();
	end_moving(&m);
	if (execution)
		SAME(guest_call(0, exec_place(PLACE_steps), 1, 0, 0).values[0], 7);
}

static void follow_execution(void)
{
	follow(true);
}

static void follow_writes(void)
{
	follow(false);
}

/* Again and again in code that works all the time; closing in the midst of it. */
static void cycles(void)
{
	struct seen seen = { .calls = 0 };
	const unsigned count = options.cycles < 100 ? options.cycles : 100;
	open_for(execute(0, &seen));
	struct hvmi_hook_request r = execute(exec_place(PLACE_steps_2), &seen);
	struct hvmi_hook_request work = execute(machine.box.code + machine.offsets[PLACE_work], &seen);
	for (unsigned i = 0; i < count; i++) {
		GOOD(hvmi_hooks_begin(hooks, &error));
		struct hvmi_hook *one = add(&r), *two = add(&work);
		GOOD(hvmi_hooks_commit(hooks, &error));
		SAME(call(i % (last_vcpu() + 1), exec_place(PLACE_steps), i, 0), i + 6);
		GOOD(hvmi_hooks_begin(hooks, &error));
		GOOD(hvmi_hook_remove(one, &error));
		GOOD(hvmi_hook_remove(two, &error));
		GOOD(hvmi_hooks_commit(hooks, &error));
		if (i % 10 == 9) {
			add(&work);
			start_call(0, exec_place(PLACE_steps), i, 0, 0);
			close_hooks();
			SAME(end_call().values[0], i + 6);
			open_events();
			GOOD(hvmi_hooks_open(machine.events, NULL, &hooks, &error));
		}
	}
	CHECK(seen.calls >= count);
	struct hvmi_hooks_info info = { .size = sizeof(info) };
	GOOD(hvmi_hooks_get_info(hooks, &info));
	SAME(info.hooks, 0);
	SAME(info.places, 0);
	close_hooks();
}

static void leaf(void)
{
	struct seen seen = { .only_at = user_place(PLACE_cpuid) };
	const struct hvmi_hook_request r = { .size = sizeof(r), .kind = HVMI_HOOK_CPUID,
					     .callback = on_hook, .context = &seen };
	struct probe_result result;
	uint32_t want[4], got[4];
	open_for(r);
	guest_call(0, user_place(PLACE_cpuid), 0, 0, data_page(0));
	guest_read(data_page(0), want, sizeof(want));
	add(&r);
	start_call(0, user_place(PLACE_cpuid), 0, 0, data_page(0));
	result = finish_call();
	(void)result;
	guest_read(data_page(0), got, sizeof(got));
	CHECK(memcmp(want, got, sizeof(want)) == 0);
	SAME(seen.calls, 1);
	close_hooks();
}

/* Where there is none, it says so. */
static void process_switch(void)
{
	struct seen seen = { .calls = 0 };
	const struct hvmi_hook_request r = { .size = sizeof(r), .kind = HVMI_HOOK_PROCESS_SWITCH,
					     .callback = on_hook, .context = &seen };
	need_running();
	need_probe(0);
	if (hvmi_vm_capability(machine.vm, HVMI_CAN_EVENT + HVMI_EVENT_REGISTER, NULL)) {
		open_for(execute(0, &seen));
		SAME(hvmi_hook_add(hooks, &r, NULL, &error), -ENOTSUP);
		CHECK(strstr(error.text, "process switch"));
		close_hooks();
		return;
	}
	open_for(r);
	add(&r);
	need_probe(PROBE_WORKERS);
	for (int64_t end = now_ms() + options.timeout_ms; !seen.calls;) {
		CHECK(hvmi_hooks_dispatch(hooks, 20, &error) >= 0);
		CHECK(now_ms() < end);
	}
	close_hooks();
}

const struct test hook_tests[] = {
	{ "hook-execution", execution },
	{ "hook-stealth", stealth },
	{ "hook-stealth-accesses", stealth_accesses },
	{ "hook-verdict", verdict },
	{ "hook-bytes", bytes },
	{ "hook-denied", denied },
	{ "hook-transaction", transaction },
	{ "hook-follows", follow_execution },
	{ "hook-writes-follow", follow_writes },
	{ "hook-cycles", cycles },
	{ "hook-cpuid", leaf },
	{ "hook-process-switch", process_switch },
	{ NULL, NULL },
};
