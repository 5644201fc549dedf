/* SPDX-License-Identifier: Apache-2.0 */
/* Hooks of virtual addresses whose translation changes: by a guest that writes its own page tables. */
#include "hook_machine.h"

static struct hvmi_error err;

/*
 * The first 2 MiB as they are, at 0 and, with small pages of their own, at V and W, as a large page at L, and
 * all of the first two GiB once more in the upper half. vCPU 1 has a space of its own. The frames hold code
 * that differs in what it adds.
 */
#define V 0x200000ull
#define L 0x400000ull
#define W 0x8000000000ull
#define UPPER 0xffffff8000000000ull
#define OTHER_ROOT 0xa000u
#define V_ENTRY 0x5000u
#define W_ENTRY 0x8000u
#define L_ENTRY 0x4010u
#define W_TOP 0x2008u
#define UPPER_TOP 0x2ff8u
#define OTHER_V_ENTRY 0xd000u
#define SPLIT 0x9000u
#define FRAME(n) (0x20000u + 0x1000u * (n))
#define STORE32 0x11100u
#define P 0x63u		/* present, writable, accessed, dirty */
#define T 0x23u		/* a table */

#define SCRIPT                                                                                     \
	"probe 0x10000 paged\nvcpu 1 cr3 0xa000\nbytes 0x11100 89 37 c3\n"                         \
	"u64 0x2000 0x3023 0x6023\nu64 0x2ff8 0x3023\nu64 0x3000 0x4023\n"                         \
	"u64 0x4000 0xe3 0x5023 0xe3\nu64 0x5000 0x20063\n"                                        \
	"u64 0x6000 0x7023\nu64 0x7000 0x8023\nu64 0x8000 0x20063 0x21063\n"                       \
	"u64 0xa000 0xb023\nu64 0xaff8 0x3023\nu64 0xb000 0xc023\nu64 0xc000 0xe3 0xd023\n"        \
	"u64 0xd000 0x20063\n"                                                                     \
	"bytes 0x20000 48 89 37 48 8b 07 48 83 c0 01 c3\n"                                         \
	"bytes 0x21000 48 89 37 48 8b 07 48 83 c0 02 c3\n"                                         \
	"bytes 0x22000 48 89 37 48 8b 07 48 83 c0 03 c3\n"

/* Of the machines, those whose pages can be protected: in views or in view 0. */
static const int able[] = { 1, 2, 3 };
#define MACHINES ((int)(sizeof(able) / sizeof(*able)))

struct seen {
	int calls, moves;
	uint64_t gva, gpa, moved_to;
	uint32_t state;
	struct hook_machine *machine;
	void (*then)(struct seen *seen, const struct hvmi_hook_event *event);
};

static void on_hook(void *context, const struct hvmi_hook_event *event, struct hvmi_verdict *verdict)
{
	struct seen *seen = context;
	(void)verdict;
	if (event->flags & HVMI_HOOK_EVENT_MOVED) {
		seen->moves++;
		seen->moved_to = event->gpa;
		seen->state = event->state;
	} else {
		seen->calls++;
		seen->gva = event->gva;
		seen->gpa = event->gpa;
	}
	if (seen->then)
		seen->then(seen, event);
}

static struct hvmi_hook_request execute(const struct hook_machine *m, uint64_t address,
					struct seen *seen)
{
	return (struct hvmi_hook_request){ .size = sizeof(struct hvmi_hook_request),
					   .kind = HVMI_HOOK_EXECUTE, .space = m->space,
					   .flags = HVMI_HOOK_TELL_MOVES, .address = address,
					   .callback = on_hook, .context = seen };
}

static struct hvmi_hook_request writes(const struct hook_machine *m, uint64_t address, uint64_t len,
				       struct seen *seen)
{
	struct hvmi_hook_request r = execute(m, address, seen);
	r.kind = HVMI_HOOK_ACCESS;
	r.len = len;
	r.access = HVMI_RIGHT_WRITE;
	return r;
}

static struct hvmi_hook *add(struct hook_machine *m, struct hvmi_hook_request r)
{
	struct hvmi_hook *hook;
	ck_assert_msg(hvmi_hook_add(m->hooks, &r, &hook, &err) == 0, "%s", err.text);
	return hook;
}

static struct hvmi_hook_info info_of(const struct hvmi_hook *hook)
{
	struct hvmi_hook_info info = { .size = sizeof(info) };
	ck_assert_int_eq(hvmi_hook_get_info(hook, &info), 0);
	return info;
}

static struct hvmi_hooks_info all_of(const struct hook_machine *m)
{
	struct hvmi_hooks_info info = { .size = sizeof(info) };
	ck_assert_int_eq(hvmi_hooks_get_info(m->hooks, &info), 0);
	return info;
}

static void begin_call(struct hook_machine *m, uint32_t vcpu, uint64_t function, uint64_t to,
		       uint64_t what)
{
	uint64_t number;
	ck_assert_int_eq(hvmi_vm_read(m->vm, MAILBOX + 80, &number, 8, NULL), 0);
	const uint64_t rest[] = { 1 | (uint64_t)vcpu << 32, function, to, what, 0, 0, 0, 0 };
	number++;
	ck_assert_int_eq(hvmi_vm_write(m->vm, MAILBOX + 88, rest, sizeof(rest), NULL), 0);
	ck_assert_int_eq(hvmi_vm_write(m->vm, MAILBOX + 80, &number, 8, NULL), 0);
}

/* What the function returned, or UINT64_MAX if it did not come to its end. */
static uint64_t call(struct hook_machine *m, uint32_t vcpu, uint64_t function, uint64_t to,
		     uint64_t what)
{
	uint64_t result;
	begin_call(m, vcpu, function, to, what);
	hook_machine_run(m);
	return probe_done(m->vm, &result) ? result : UINT64_MAX;
}

/* The guest stores 8 bytes, as a system does that changes its tables. */
static void store(struct hook_machine *m, uint64_t to, uint64_t what)
{
	ck_assert_uint_eq(call(m, 0, FUNCTION, to, what), what + 1);
}

static void open_machine(struct hook_machine *m, int number)
{
	hook_machine_open(m, &profiles[able[number]], SCRIPT);
}

/* Nothing is left: rights, bytes. */
static void close_machine(struct hook_machine *m)
{
	uint8_t code[11] = { 0x48, 0x89, 0x37, 0x48, 0x8b, 0x07, 0x48, 0x83, 0xc0, 0x01, 0xc3 }, now[11];
	uint32_t rights;
	hvmi_hooks_close(m->hooks);
	m->hooks = NULL;
	for (uint64_t gpa = 0; gpa < 0x200000; gpa += 0x1000) {
		ck_assert_int_eq(hvmi_view_get_rights(m->events, HVMI_VIEW_HOST, gpa, &rights, &err), 0);
		ck_assert_uint_eq(rights, HVMI_RIGHT_READ | HVMI_RIGHT_WRITE | HVMI_RIGHT_EXECUTE);
	}
	for (uint8_t n = 0; n < 3; n++) {
		code[9] = n + 1;
		ck_assert_int_eq(hvmi_vm_read(m->vm, FRAME(n), now, sizeof(now), NULL), 0);
		ck_assert_mem_eq(now, code, sizeof(code));
	}
	hook_machine_close(m);
}

/* Call what is hooked at V + 3; it is told once, at its frame. */
#define HIT(function, frame)                                                                       \
	do {                                                                                       \
		int calls_ = seen.calls;                                                           \
		ck_assert_uint_eq(call(&m, 0, function, DATA, 50), 51 + (frame));                  \
		ck_assert_int_eq(seen.calls, calls_ + 1);                                          \
		ck_assert_uint_eq(seen.gva, (function) + 3);                                       \
		ck_assert_uint_eq(seen.gpa, FRAME(frame) + 3);                                     \
	} while (0)

START_TEST(remap)
{
	struct hook_machine m;
	struct seen seen = { .calls = 0 };
	open_machine(&m, _i);
	struct hvmi_hook *hook = add(&m, execute(&m, V + 3, &seen));
	ck_assert_uint_ne(info_of(hook).flags & HVMI_PLAN_FOLLOWS, 0);
	HIT(V, 0);
	for (unsigned i = 1; i <= 30; i++) {
		store(&m, V_ENTRY, FRAME(i % 3) | P);
		ck_assert_int_eq(seen.moves, (int)i);
		ck_assert_uint_eq(seen.moved_to, FRAME(i % 3) + 3);
		ck_assert_uint_eq(seen.state, HVMI_HOOK_STATE_FOLLOWS);
		HIT(V, i % 3);
		/* Nothing is at the frame that it left, not even in the guest's own reads. */
		ck_assert_uint_eq(call(&m, 0, FRAME((i + 1) % 3), DATA, 1), 2 + (i + 1) % 3);
	}
	ck_assert_uint_eq(info_of(hook).moves, 30);
	ck_assert_uint_eq(info_of(hook).gpa, FRAME(0) + 3);
	ck_assert_uint_eq(all_of(&m).tables, 4);
	ck_assert_int_eq(hvmi_hook_remove(hook, &err), 0);
	ck_assert_uint_eq(all_of(&m).tables, 0);
	ck_assert_uint_eq(all_of(&m).places, 0);
	store(&m, V_ENTRY, FRAME(1) | P);
	ck_assert_uint_eq(call(&m, 0, V, DATA, 1), 3);
	close_machine(&m);
}
END_TEST

/* Two stores make one entry; what is between them is what a walk makes of it. */
START_TEST(partial)
{
	struct hook_machine m;
	struct seen seen = { .calls = 0 };
	open_machine(&m, _i);
	struct hvmi_hook *hook = add(&m, execute(&m, V + 3, &seen));
	call(&m, 0, STORE32, V_ENTRY + 4, 0x80000000);
	ck_assert_int_eq(seen.moves, 0);
	HIT(V, 0);
	/* An address that is no RAM, until the other half has been written. */
	call(&m, 0, STORE32, V_ENTRY + 4, 1);
	ck_assert_uint_eq(info_of(hook).state, HVMI_HOOK_STATE_WAITS);
	ck_assert_uint_eq(info_of(hook).gpa, HVMI_NO_ADDRESS);
	call(&m, 0, STORE32, V_ENTRY, FRAME(2) | P);
	ck_assert_uint_eq(info_of(hook).state, HVMI_HOOK_STATE_WAITS);
	call(&m, 0, STORE32, V_ENTRY + 4, 0);
	ck_assert_uint_eq(info_of(hook).state, HVMI_HOOK_STATE_FOLLOWS);
	HIT(V, 2);
	close_machine(&m);
}
END_TEST

/* Accessed and dirty bits, set by the processor and cleared by the system, cost no walk. */
START_TEST(noted)
{
	struct hook_machine m;
	struct seen seen = { .calls = 0 }, first = { .calls = 0 };
	open_machine(&m, _i);
	struct hvmi_hook *hook = add(&m, execute(&m, V + 3, &seen));
	/* Its page walk is stopped before it is fetched. */
	add(&m, execute(&m, V, &first));
	for (int i = 0; i < 5; i++) {
		store(&m, V_ENTRY, FRAME(0) | 3);
		store(&m, 0x4008, 0x5003);
		/* One that it needs itself: set again before it is read. */
		ck_assert_uint_eq(call(&m, 0, FUNCTION, 0x3000, 0x4003), (0x4000 | T) + 1);
		HIT(V, 0);
		ck_assert_int_eq(first.calls, i + 1);
		ck_assert_uint_eq(first.gva, V);
		uint64_t entry;
		ck_assert_int_eq(hvmi_vm_read(m.vm, V_ENTRY, &entry, 8, NULL), 0);
		ck_assert_uint_eq(entry, FRAME(0) | T);
	}
	/* The first store there in a page walk of its own. */
	struct seen wrote = { .calls = 0 };
	add(&m, writes(&m, V + 64, 8, &wrote));
	store(&m, V_ENTRY, FRAME(0) | 3);
	ck_assert_uint_eq(call(&m, 0, FUNCTION, V + 64, 7), 8);
	ck_assert_int_eq(wrote.calls, 1);
	ck_assert_int_eq(seen.moves + wrote.moves, 0);
	ck_assert_uint_eq(all_of(&m).walks, 0);
	ck_assert_uint_eq(info_of(hook).moves, 0);
	/* Bits that are the system's own: a walk, no move. */
	store(&m, V_ENTRY, FRAME(0) | P | 0xe00);
	ck_assert_uint_gt(all_of(&m).walks, 0);
	ck_assert_int_eq(seen.moves + wrote.moves, 0);
	HIT(V, 0);
	close_machine(&m);
}
END_TEST

START_TEST(waits)
{
	struct hook_machine m;
	struct seen seen = { .calls = 0 };
	struct hvmi_hook *hook;
	open_machine(&m, _i);
	/* Not mapped: only who says so waits. */
	struct hvmi_hook_request r = execute(&m, W + 0x5003, &seen);
	ck_assert_int_eq(hvmi_hook_add(m.hooks, &r, &hook, &err), -EFAULT);
	ck_assert_uint_eq(all_of(&m).tables, 0);
	r.flags |= HVMI_HOOK_WAIT;
	hook = add(&m, r);
	ck_assert_uint_eq(info_of(hook).state, HVMI_HOOK_STATE_WAITS);
	ck_assert_uint_eq(info_of(hook).gpa, HVMI_NO_ADDRESS);
	ck_assert_uint_eq(call(&m, 0, W + 0x5000, DATA, 1), UINT64_MAX);
	store(&m, W_ENTRY + 0x28, FRAME(1) | P);
	HIT(W + 0x5000, 1);
	/* Away and back at each level; the top one is not that which tells of the space's end. */
	static const uint64_t entries[] = { W_ENTRY + 0x28, 0x7000, 0x6000, W_TOP };
	static const uint64_t values[] = { FRAME(1) | P, 0x8000 | T, 0x7000 | T, 0x6000 | T };
	for (size_t i = 0; i < 4; i++) {
		store(&m, entries[i], 0);
		ck_assert_uint_eq(info_of(hook).state, HVMI_HOOK_STATE_WAITS);
		ck_assert_uint_eq(seen.state, HVMI_HOOK_STATE_WAITS);
		ck_assert_uint_eq(call(&m, 0, FRAME(1), DATA, 1), 3);
		store(&m, entries[i], values[i]);
		ck_assert_uint_eq(info_of(hook).state, HVMI_HOOK_STATE_FOLLOWS);
		HIT(W + 0x5000, 1);
	}
	/* To devices: no RAM. */
	store(&m, W_ENTRY + 0x28, 0xfee00000 | P);
	ck_assert_uint_eq(info_of(hook).state, HVMI_HOOK_STATE_WAITS);
	store(&m, W_ENTRY + 0x28, FRAME(2) | P);
	HIT(W + 0x5000, 2);
	/* What is put together while nothing leads to it. */
	store(&m, W_TOP, 0);
	store(&m, W_ENTRY + 0x28, FRAME(0) | P);
	store(&m, W_TOP, 0x6000 | T);
	HIT(W + 0x5000, 0);
	ck_assert_int_eq(hvmi_hook_remove(hook, &err), 0);
	ck_assert_uint_eq(all_of(&m).places, 0);
	close_machine(&m);
}
END_TEST

START_TEST(large)
{
	struct hook_machine m;
	struct seen seen = { .calls = 0 };
	open_machine(&m, _i);
	const uint64_t at = L + FRAME(0);
	struct hvmi_hook *hook = add(&m, execute(&m, at + 3, &seen));
	ck_assert_uint_eq(all_of(&m).tables, 3);
	HIT(at, 0);
	uint64_t small[512];
	for (uint64_t i = 0; i < 512; i++)
		small[i] = i << 12 | P;
	ck_assert_int_eq(hvmi_vm_write(m.vm, SPLIT, small, sizeof(small), NULL), 0);
	/* Split: the memory is the same, and the new table is watched. */
	store(&m, L_ENTRY, SPLIT | T);
	ck_assert_int_eq(seen.moves, 0);
	ck_assert_uint_eq(all_of(&m).tables, 4);
	HIT(at, 0);
	store(&m, SPLIT + 8 * (FRAME(0) >> 12), FRAME(2) | P);
	HIT(at, 2);
	/* Joined: back, and the table that went is no table any more. */
	store(&m, L_ENTRY, 0xe3);
	ck_assert_uint_eq(all_of(&m).tables, 3);
	HIT(at, 0);
	uint64_t walks = all_of(&m).walks;
	store(&m, SPLIT + 8 * (FRAME(0) >> 12), FRAME(1) | P);
	ck_assert_uint_eq(all_of(&m).walks, walks);
	ck_assert_int_eq(seen.moves, 2);
	ck_assert_uint_eq(info_of(hook).moves, 2);
	close_machine(&m);
}
END_TEST

/* Two spaces share a page until one of them writes to it. */
START_TEST(copied)
{
	struct hook_machine m;
	struct seen seen = { .calls = 0 }, others = { .calls = 0 };
	struct hvmi_space_config config = { .size = sizeof(config) };
	struct hvmi_space *other;
	open_machine(&m, _i);
	ck_assert_int_eq(hvmi_space_get_config(m.space, &config), 0);
	config.root = OTHER_ROOT;
	ck_assert_int_eq(hvmi_space_create(m.vm, &config, &other, &err), 0);
	add(&m, execute(&m, V + 3, &seen));
	struct hvmi_hook_request r = execute(&m, V + 3, &others);
	r.space = other;
	add(&m, r);
	hvmi_space_destroy(other);
	/* The memory is one: both are told, of either. */
	HIT(V, 0);
	ck_assert_uint_eq(call(&m, 1, V, DATA, 50), 51);
	ck_assert_int_eq(seen.calls, 2);
	ck_assert_int_eq(others.calls, 2);
	store(&m, V_ENTRY, FRAME(1) | P);
	ck_assert_int_eq(seen.moves, 1);
	ck_assert_int_eq(others.moves, 0);
	HIT(V, 1);
	ck_assert_int_eq(others.calls, 2);
	ck_assert_uint_eq(call(&m, 1, V, DATA, 50), 51);
	ck_assert_int_eq(seen.calls, 3);
	ck_assert_int_eq(others.calls, 3);
	ck_assert_uint_eq(others.gpa, FRAME(0) + 3);
	close_machine(&m);
}
END_TEST

/* A system clears the page of a root before it is anything else. */
START_TEST(ends)
{
	struct hook_machine m;
	struct seen seen = { .calls = 0 }, upper = { .calls = 0 }, only = { .calls = 0 };
	open_machine(&m, _i);
	struct hvmi_hook *hook = add(&m, execute(&m, W + 3, &seen));
	struct hvmi_hook *kernel = add(&m, execute(&m, UPPER + V + 3, &upper));
	struct hvmi_hook_request r = execute(&m, UPPER + V + 3, &only);
	r.flags |= HVMI_HOOK_ONLY_SPACE;
	struct hvmi_hook *process = add(&m, r);
	HIT(W, 0);
	/* The process goes, and its root a while after that. */
	store(&m, W_TOP, 0);
	ck_assert_uint_eq(info_of(hook).state, HVMI_HOOK_STATE_WAITS);
	store(&m, UPPER_TOP, 0);
	ck_assert_uint_eq(info_of(hook).state, HVMI_HOOK_STATE_GONE);
	ck_assert_uint_eq(seen.state, HVMI_HOOK_STATE_GONE);
	ck_assert_uint_eq(seen.moved_to, HVMI_NO_ADDRESS);
	ck_assert_uint_eq(info_of(process).state, HVMI_HOOK_STATE_GONE);
	/* The kernel's own memory is hooked for all. */
	ck_assert_uint_eq(info_of(kernel).state, HVMI_HOOK_STATE_FIXED);
	ck_assert_uint_eq(upper.state, HVMI_HOOK_STATE_FIXED);
	ck_assert_uint_eq(info_of(kernel).gpa, FRAME(0) + 3);
	ck_assert_uint_eq(all_of(&m).tables, 0);
	upper.calls = only.calls = 0;
	ck_assert_uint_eq(call(&m, 1, UPPER + V, DATA, 50), 51);
	ck_assert_int_eq(upper.calls, 1);
	ck_assert_int_eq(only.calls, 0);
	/* Another space at the same root is not the one that was hooked. */
	store(&m, UPPER_TOP - 8, 0x3000 | T);
	store(&m, W_TOP, 0x6000 | T);
	int calls = seen.calls;
	ck_assert_uint_eq(call(&m, 0, W, DATA, 50), 51);
	ck_assert_int_eq(seen.calls, calls);
	ck_assert_int_eq(hvmi_hook_remove(hook, &err), 0);
	ck_assert_int_eq(hvmi_hook_remove(process, &err), 0);
	/* A new hook is one of the new space. */
	struct hvmi_hook *again = add(&m, execute(&m, W + 3, &seen));
	HIT(W, 0);
	store(&m, UPPER_TOP - 8, 0);
	ck_assert_uint_eq(info_of(again).state, HVMI_HOOK_STATE_GONE);
	close_machine(&m);
}
END_TEST

/* Tables and entries are shared, and watched for as long as somebody needs them. */
START_TEST(shared)
{
	struct hook_machine m;
	struct seen seen = { .calls = 0 }, second = { .calls = 0 }, wide = { .calls = 0 };
	open_machine(&m, _i);
	struct hvmi_hook *one = add(&m, execute(&m, W + 3, &seen));
	ck_assert_uint_eq(all_of(&m).tables, 4);
	struct hvmi_hook *two = add(&m, execute(&m, W + 0x1006, &second));
	struct hvmi_hook *three = add(&m, writes(&m, W + 0xfc0, 0x80, &wide));
	ck_assert_uint_eq(all_of(&m).tables, 4);
	/* One entry of two: who has nothing there stays. */
	store(&m, W_ENTRY + 8, FRAME(2) | P);
	ck_assert_int_eq(seen.moves, 0);
	ck_assert_int_eq(second.moves, 1);
	ck_assert_int_eq(wide.moves, 1);
	HIT(W, 0);
	/* Over both pages; what is written to the second is the code that is there. */
	ck_assert_uint_eq(call(&m, 0, FUNCTION, W + 0xffc, 0x4837894800000009), 0x483789480000000a);
	ck_assert_int_eq(wide.calls, 1);
	ck_assert_uint_eq(call(&m, 0, W + 0x1000, W + 0xffc, 0x4837894800000009), 0x483789480000000c);
	ck_assert_int_eq(second.calls, 1);
	ck_assert_int_eq(wide.calls, 2);
	/* A part of a range waits; the rest is where it was. */
	store(&m, W_ENTRY + 8, 0);
	ck_assert_uint_eq(info_of(three).state, HVMI_HOOK_STATE_WAITS);
	ck_assert_uint_eq(call(&m, 0, FUNCTION, W + 0xfd0, 9), 10);
	ck_assert_int_eq(wide.calls, 3);
	store(&m, W_ENTRY + 8, FRAME(1) | P);
	ck_assert_uint_eq(info_of(three).state, HVMI_HOOK_STATE_FOLLOWS);
	ck_assert_uint_eq(call(&m, 0, FUNCTION, W + 0x1020, 9), 10);
	ck_assert_int_eq(wide.calls, 4);
	/* An entry above all of them. */
	store(&m, 0x7000, 0);
	ck_assert_uint_eq(info_of(one).state, HVMI_HOOK_STATE_WAITS);
	ck_assert_uint_eq(info_of(two).state, HVMI_HOOK_STATE_WAITS);
	store(&m, 0x7000, 0x8000 | T);
	HIT(W, 0);
	ck_assert_int_eq(hvmi_hook_remove(one, &err), 0);
	ck_assert_int_eq(hvmi_hook_remove(three, &err), 0);
	ck_assert_uint_eq(all_of(&m).tables, 4);
	store(&m, W_ENTRY + 8, FRAME(0) | P);
	ck_assert_uint_eq(info_of(two).gpa, FRAME(0) + 6);
	ck_assert_int_eq(hvmi_hook_remove(two, &err), 0);
	ck_assert_uint_eq(all_of(&m).tables, 0);
	ck_assert_uint_eq(all_of(&m).places, 0);
	close_machine(&m);
}
END_TEST

/* Tables are rewritten in a loop: a walk or two for each write, and the memory of none of them is kept. */
START_TEST(hostile)
{
	struct hook_machine m;
	struct seen seen = { .calls = 0 };
	open_machine(&m, _i);
	const uint64_t at = W + 0x800;
	struct hvmi_hook *hook = add(&m, writes(&m, at, 8, &seen));
	/* A table that is its own table, no RAM, frames in all their states, nothing. */
	static const uint64_t nasty[] = { 0x8000 | T, 0xfffff000 | P, FRAME(0) | P, 1, 0x000ffffffffff000 | P,
					  0x8000000000000000 | FRAME(1) | P, 0, 0x12000 | 1, 0xe3,
					  0x2000 | T, 0x5000 | T };
	static const uint64_t entries[] = { W_ENTRY, 0x7000, 0x6000, W_TOP };
	static const uint64_t good[] = { FRAME(0) | P, 0x8000 | T, 0x7000 | T, 0x6000 | T };
	uint64_t stores = 0, walks = all_of(&m).walks;
	for (size_t level = 0; level < 4; level++) {
		for (size_t i = 0; i < 200; i++, stores++)
			store(&m, entries[level], nasty[i % (sizeof(nasty) / sizeof(*nasty))]);
		store(&m, entries[level], good[level]);
		stores++;
		ck_assert_uint_eq(info_of(hook).state, HVMI_HOOK_STATE_FOLLOWS);
		ck_assert_uint_eq(info_of(hook).gpa, FRAME(0) + 0x800);
		ck_assert_uint_eq(call(&m, 0, FUNCTION, at, 9), 10);
		ck_assert_int_eq(seen.calls, (int)level + 1);
	}
	ck_assert_uint_le(all_of(&m).walks - walks, 2 * stores);
	ck_assert_uint_le(all_of(&m).tables, 4);
	ck_assert_uint_le(all_of(&m).places, 6);
	close_machine(&m);
}
END_TEST

static void remove_it(struct seen *seen, const struct hvmi_hook_event *event)
{
	(void)seen;
	ck_assert_int_eq(hvmi_hook_remove(event->hook, &err), 0);
}

static void close_all(struct seen *seen, const struct hvmi_hook_event *event)
{
	hvmi_hooks_close(event->hooks);
	seen->machine->hooks = NULL;
}

static struct seen added;

static void add_another(struct seen *seen, const struct hvmi_hook_event *event)
{
	(void)event;
	if (!added.machine)
		add(seen->machine, execute(seen->machine, V + 6, &added));
	added.machine = seen->machine;
}

START_TEST(callbacks)
{
	static void (*const what[])(struct seen *, const struct hvmi_hook_event *) = { remove_it,
										       close_all,
										       add_another };
	for (size_t i = 0; i < 3; i++) {
		struct hook_machine m;
		struct seen seen = { .machine = &m, .then = what[i] };
		struct seen beside = { .calls = 0 };
		added = (struct seen){ .calls = 0 };
		open_machine(&m, _i);
		add(&m, execute(&m, V + 3, &seen));
		add(&m, execute(&m, V + 3, &beside));
		begin_call(&m, 0, FUNCTION, V_ENTRY, FRAME(1) | P);
		for (int n = 1; n > 0 && m.hooks;)
			n = hvmi_hooks_dispatch(m.hooks, 0, &err);
		ck_assert_int_eq(seen.moves, 1);
		uint64_t result;
		begin_call(&m, 0, V, DATA, 50);
		if (m.hooks)
			hook_machine_run(&m);
		ck_assert(probe_done(m.vm, &result));
		ck_assert_uint_eq(result, 52);
		ck_assert_int_eq(seen.calls, what[i] == add_another);
		ck_assert_int_eq(beside.calls, what[i] != close_all);
		ck_assert_int_eq(added.calls, what[i] == add_another);
		close_machine(&m);
	}
}
END_TEST

START_TEST(transactions)
{
	struct hook_machine m;
	struct seen seen = { .calls = 0 }, second = { .calls = 0 };
	open_machine(&m, _i);
	struct hvmi_hook *first = add(&m, execute(&m, V + 3, &seen));
	ck_assert_int_eq(hvmi_hooks_begin(m.hooks, &err), 0);
	ck_assert_int_eq(hvmi_hook_remove(first, &err), 0);
	add(&m, execute(&m, W + 3, &second));
	/* One that leaves follows until it has left. */
	store(&m, V_ENTRY, FRAME(1) | P);
	HIT(V, 1);
	struct hvmi_hook_request bad = execute(&m, W + 0x100000, &second);
	add(&m, bad);
	ck_assert_int_eq(hvmi_hooks_commit(m.hooks, &err), -EFAULT);
	ck_assert_uint_eq(all_of(&m).tables, 4);
	store(&m, V_ENTRY, FRAME(2) | P);
	HIT(V, 2);
	ck_assert_int_eq(hvmi_hooks_begin(m.hooks, &err), 0);
	ck_assert_int_eq(hvmi_hook_remove(first, &err), 0);
	struct hvmi_hook *next = add(&m, execute(&m, W + 3, &second));
	ck_assert_int_eq(hvmi_hooks_commit(m.hooks, &err), 0);
	store(&m, W_ENTRY, FRAME(1) | P);
	ck_assert_uint_eq(call(&m, 0, W, DATA, 50), 52);
	ck_assert_int_eq(second.calls, 1);
	ck_assert_uint_eq(info_of(next).moves, 1);
	int calls = seen.calls;
	ck_assert_uint_eq(call(&m, 0, V, DATA, 50), 53);
	ck_assert_int_eq(seen.calls, calls);
	close_machine(&m);
}
END_TEST

/* The instruction that changes the tables is hooked itself, and executed where nothing is. */
START_TEST(beside)
{
	struct hook_machine m;
	struct seen seen = { .calls = 0 }, writer = { .calls = 0 }, watcher = { .calls = 0 };
	open_machine(&m, _i);
	add(&m, execute(&m, V + 3, &seen));
	add(&m, execute(&m, AT_STORE, &writer));
	struct hvmi_hook_request r = writes(&m, V_ENTRY, 8, &watcher);
	for (unsigned i = 1; i <= 4; i++) {
		if (i == 3) {
			/* The tables themselves, too. */
			add(&m, r);
		}
		store(&m, V_ENTRY, FRAME(i % 3) | P);
		ck_assert_int_eq(seen.moves, (int)i);
		HIT(V, i % 3);
		ck_assert_int_eq(writer.calls, (int)i);
		ck_assert_int_eq(watcher.calls, i < 3 ? 0 : (int)i - 2);
	}
	close_machine(&m);
}
END_TEST

/* An int3 in a page table would be no entry: what leads there waits. */
START_TEST(tables)
{
	struct hook_machine m;
	struct seen seen = { .calls = 0 };
	open_machine(&m, _i);
	struct hvmi_hook *hook = add(&m, execute(&m, W + 3, &seen));
	store(&m, W_ENTRY, 0x6000 | P);
	ck_assert_uint_eq(info_of(hook).state, HVMI_HOOK_STATE_WAITS);
	struct hvmi_hook_request r = execute(&m, 0x8003, &seen);
	ck_assert_int_eq(hvmi_hook_add(m.hooks, &r, NULL, &err), -EBUSY);
	store(&m, W_ENTRY, FRAME(0) | P);
	HIT(W, 0);
	/* Code that becomes a table. */
	store(&m, 0x7000, FRAME(0) | T);
	ck_assert_uint_eq(info_of(hook).state, HVMI_HOOK_STATE_WAITS);
	store(&m, 0x7000, 0x8000 | T);
	HIT(W, 0);
	close_machine(&m);
}
END_TEST

/* Tables of a guest's making, outside of what it has mapped itself. */
#define CROWD_TOP 0x2010u		/* maps from here on: */
#define CROWD 0x10000000000ull
#define CROWD_TABLES 0x1000000ull
#define CROWD_TABLE(n) (CROWD_TABLES + 0x1000ull * (n))
#define CROWD_DIRECTORIES 8u
#define CROWD_MAX (CROWD_DIRECTORIES * 512)

static void entry(struct hook_machine *m, uint64_t gpa, uint64_t value)
{
	ck_assert_int_eq(hvmi_vm_write(m->vm, gpa, &value, 8, NULL), 0);
}

/* Each 2 MiB of it has a table of its own, whose first entries map the frames. */
static void make_crowd(struct hook_machine *m)
{
	entry(m, CROWD_TOP, CROWD_TABLE(0) | T);
	for (unsigned d = 0; d < CROWD_DIRECTORIES; d++)
		entry(m, CROWD_TABLE(0) + 8 * d, CROWD_TABLE(1 + d) | T);
	for (unsigned n = 0; n < CROWD_MAX; n++) {
		uint64_t table = CROWD_TABLE(1 + CROWD_DIRECTORIES + n);
		entry(m, CROWD_TABLE(1) + 8 * n, table | T);
		entry(m, table, FRAME(0) | P);
		entry(m, table + 8, FRAME(1) | P);
	}
}

/* No more than 4,096 tables are watched: who would need another is refused, or waits. */
START_TEST(limit)
{
	struct hook_machine m;
	struct seen seen = { .calls = 0 };
	struct hvmi_hook *hooks[CROWD_MAX];
	unsigned n = 0;
	hook_machine_open(&m, &profiles[able[_i]], SCRIPT "ram 16M 32M\n");
	make_crowd(&m);
	struct hvmi_hook_request r = execute(&m, W + 0x40000003, &seen);
	r.flags |= HVMI_HOOK_WAIT;
	struct hvmi_hook *waiting = add(&m, r);
	int rc = 0;
	for (r = execute(&m, CROWD + 3, &seen); n < CROWD_MAX; n++, r.address += 0x200000) {
		rc = hvmi_hook_add(m.hooks, &r, &hooks[n], &err);
		if (rc)
			break;
	}
	ck_assert_int_eq(rc, -EOVERFLOW);
	ck_assert_ptr_nonnull(strstr(err.text, "4096 pages"));
	ck_assert_uint_eq(all_of(&m).tables, 4096);
	/* Nothing of the one that was refused is there. */
	ck_assert_uint_eq(call(&m, 0, r.address - 3, DATA, 1), 2);
	ck_assert_int_eq(seen.calls, 0);
	ck_assert_int_eq(hvmi_hook_add(m.hooks, &r, NULL, &err), -EOVERFLOW);
	/* Those that share tables can be had, and all that are there work. */
	struct hvmi_hook *sharing = add(&m, execute(&m, CROWD + 0x1003, &seen));
	HIT(CROWD + 0x1000, 1);
	HIT(r.address - 3 - 0x200000, 0);
	/* Mapped by two tables that nobody watches yet. */
	const uint64_t mapped = FRAME(8) | T;
	entry(&m, FRAME(8), FRAME(9) | T);
	entry(&m, FRAME(9), FRAME(0) | P);
	store(&m, 0x6008, mapped);
	ck_assert_uint_eq(info_of(waiting).state, HVMI_HOOK_STATE_WAITS);
	ck_assert_uint_eq(all_of(&m).tables, 4096);
	for (unsigned i = 0; i < 2; i++)
		ck_assert_int_eq(hvmi_hook_remove(hooks[--n], &err), 0);
	ck_assert_uint_eq(all_of(&m).tables, 4094);
	store(&m, 0x6008, 0);
	store(&m, 0x6008, mapped);
	ck_assert_uint_eq(info_of(waiting).state, HVMI_HOOK_STATE_FOLLOWS);
	HIT(W + 0x40000000, 0);
	ck_assert_int_eq(hvmi_hook_remove(sharing, &err), 0);
	close_machine(&m);
}
END_TEST

/* Who wants the memory gets it, and who cannot have what he wants is told. */
START_TEST(fixed)
{
	struct hook_machine m;
	struct seen seen = { .calls = 0 };
	struct hvmi_hook *hook;
	open_machine(&m, _i);
	struct hvmi_hook_request r = execute(&m, V + 3, &seen);
	r.flags = HVMI_HOOK_FIXED | HVMI_HOOK_WAIT;
	ck_assert_int_eq(hvmi_hook_add(m.hooks, &r, &hook, &err), -EINVAL);
	r.flags = HVMI_HOOK_FIXED;
	hook = add(&m, r);
	ck_assert_uint_eq(info_of(hook).flags & HVMI_PLAN_FOLLOWS, 0);
	ck_assert_uint_eq(all_of(&m).tables, 0);
	store(&m, V_ENTRY, FRAME(1) | P);
	ck_assert_uint_eq(call(&m, 0, V, DATA, 50), 52);
	ck_assert_int_eq(seen.calls, 0);
	ck_assert_uint_eq(info_of(hook).state, HVMI_HOOK_STATE_FIXED);
	ck_assert_uint_eq(info_of(hook).gpa, FRAME(0) + 3);
	r.flags = HVMI_HOOK_WAIT;
	r.space = NULL;
	ck_assert_int_eq(hvmi_hook_add(m.hooks, &r, &hook, &err), -ENOTSUP);
	ck_assert_ptr_nonnull(strstr(err.text, "page tables"));
	close_machine(&m);
}
END_TEST

/* Breakpoints by address follow without the library. */
START_TEST(by_nature)
{
	struct hook_machine m;
	struct seen seen = { .calls = 0 };
	struct hvmi_hook *hook;
	hook_machine_open(&m, &profiles[0], SCRIPT);
	struct hvmi_hook_request r = execute(&m, W + 0x5003, &seen);
	ck_assert_int_eq(hvmi_hook_add(m.hooks, &r, &hook, &err), -ENOTSUP);
	r.flags = 0;
	ck_assert_int_eq(hvmi_hook_add(m.hooks, &r, &hook, &err), -EFAULT);
	r.flags = HVMI_HOOK_WAIT;
	hook = add(&m, r);
	ck_assert_uint_ne(info_of(hook).flags & HVMI_PLAN_FOLLOWS, 0);
	ck_assert_uint_eq(info_of(hook).state, HVMI_HOOK_STATE_FOLLOWS);
	ck_assert_uint_eq(all_of(&m).tables, 0);
	for (unsigned i = 0; i < 6; i++) {
		store(&m, W_ENTRY + 0x28, FRAME(i % 3) | P);
		HIT(W + 0x5000, i % 3);
	}
	close_machine(&m);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("hook_follow");
	TCase *tests = tcase_create("hook_follow");
	tcase_add_loop_test(tests, remap, 0, MACHINES);
	tcase_add_loop_test(tests, partial, 0, MACHINES);
	tcase_add_loop_test(tests, noted, 0, MACHINES);
	tcase_add_loop_test(tests, waits, 0, MACHINES);
	tcase_add_loop_test(tests, large, 0, MACHINES);
	tcase_add_loop_test(tests, copied, 0, MACHINES);
	tcase_add_loop_test(tests, ends, 0, MACHINES);
	tcase_add_loop_test(tests, shared, 0, MACHINES);
	tcase_add_loop_test(tests, hostile, 0, MACHINES);
	tcase_add_loop_test(tests, callbacks, 0, MACHINES);
	tcase_add_loop_test(tests, transactions, 0, MACHINES);
	tcase_add_loop_test(tests, beside, 0, MACHINES);
	tcase_add_loop_test(tests, tables, 0, MACHINES);
	tcase_add_loop_test(tests, limit, 0, MACHINES);
	tcase_add_loop_test(tests, fixed, 0, MACHINES);
	tcase_add_test(tests, by_nature);
	suite_add_tcase(suite, tests);
	return run_suite(suite);
}
