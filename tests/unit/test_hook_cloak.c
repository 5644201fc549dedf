/* SPDX-License-Identifier: Apache-2.0 */
/* Int3s that the guest does not see: whatever it reads of its hooked pages, and whatever it writes there. */
#include "hook_machine.h"

#include <dirent.h>
#include <unistd.h>

#include <hvmi/journal.h>

#include "hook/journal.h"
#include "vm/vm.h"

static struct hvmi_error err;

/* Two pages with hooks, and one with what reads them. */
#define P 0x20000u
#define BYTES 0x2000u
#define READERS 0x30000u
#define OUT 0x14000u
/* Where the hooks are: a function's instruction, each side of the border, and data among others. */
#define HOOKED (P + 3)
static const uint64_t hooked[] = { HOOKED, P + 0x88, P + 0xffd, P + 0x1001, P + 0x1080 };
#define HOOKS (sizeof(hooked) / sizeof(*hooked))

/* Functions: of what is at their first argument, from outside the pages and from inside. */
enum {
	LOAD8 = 0x00, LOAD16 = 0x10, LOAD32 = 0x20, LOAD64 = 0x30, MOVUPS = 0x40, MOVDQU = 0x50,
	COPY = 0x60, SCAN = 0x70, ADD = 0x80, STORE64 = 0x90, STORE32 = 0xa0, LOAD_STORE = 0xb0,
	MOVE_ONE = 0xc0,
	INSIDE = 0x800	/* of P: all of these once more */
};
static const struct {
	uint32_t at;
	uint8_t len;
	const char *code;
} functions[] = {
	{ LOAD8, 3, "\x8a\x07\xc3" },
	{ LOAD16, 4, "\x66\x8b\x07\xc3" },
	{ LOAD32, 3, "\x8b\x07\xc3" },
	{ LOAD64, 4, "\x48\x8b\x07\xc3" },
	{ MOVUPS, 7, "\x0f\x10\x07\x0f\x11\x06\xc3" },
	{ MOVDQU, 8, "\xf3\x0f\x6f\x07\x0f\x11\x06\xc3" },
	{ COPY, 6, "\x48\x89\xd1\xf3\xa4\xc3" },
	{ SCAN, 12, "\x48\x89\xf0\x48\x89\xd1\xf2\xae\x48\x89\xc8\xc3" },
	{ ADD, 4, "\x48\x01\x37\xc3" },
	{ STORE64, 4, "\x48\x89\x37\xc3" },
	{ STORE32, 3, "\x89\x37\xc3" },
	/* Of the second argument too: what they read of one, they write to the other. */
	{ LOAD_STORE, 7, "\x48\x8b\x07\x48\x89\x06\xc3" },
	{ MOVE_ONE, 2, "\xa4\xc3" },
};

/* Machines whose int3s cannot be seen: in a view of their own, and in the guest's memory. */
static const int able[] = { 1, 2, 3 };
#define MACHINES ((int)(sizeof(able) / sizeof(*able)))
#define CLOAKS 3	/* in profiles */

static struct hook_machine m;
static uint8_t shadow[BYTES];	/* what the guest has there */
static int calls[HOOKS];
static struct hvmi_hook *hooks[HOOKS];
static struct hvmi_backend real;
static unsigned steps, emulated, data;	/* answers */

static void on_hook(void *context, const struct hvmi_hook_event *event, struct hvmi_verdict *verdict)
{
	(void)event;
	(void)verdict;
	++*(int *)context;
}

static uint64_t address_set;

/* A verdict that has the instruction touch something else. */
static void on_hook_that_sets(void *context, const struct hvmi_hook_event *event,
			      struct hvmi_verdict *verdict)
{
	(void)event;
	++*(int *)context;
	hvmi_registers_set(verdict->registers, HVMI_X86_RDI, address_set);
}

static int count_answers(void *machine, const struct hvmi_event *event,
			 const struct hvmi_answer *answer, struct hvmi_error *error)
{
	steps += (answer->flags & HVMI_ANSWER_STEP) != 0;
	emulated += (answer->flags & HVMI_ANSWER_EMULATE) != 0;
	data += (answer->flags & HVMI_ANSWER_READ_DATA) != 0;
	return real.event_answer(machine, event, answer, error);
}

static struct hvmi_hook_request execute(uint64_t address, int *counter)
{
	return (struct hvmi_hook_request){ .size = sizeof(struct hvmi_hook_request),
					   .kind = HVMI_HOOK_EXECUTE, .flags = HVMI_HOOK_STEALTH,
					   .space = m.space, .address = address,
					   .callback = on_hook, .context = counter };
}

static struct hvmi_hook *add(struct hvmi_hook_request r)
{
	struct hvmi_hook *hook;
	ck_assert_msg(hvmi_hook_add(m.hooks, &r, &hook, &err) == 0, "%s", err.text);
	return hook;
}

static void put_functions(void)
{
	static const uint8_t code[] = { 0x48, 0x89, 0x37, 0x48, 0x8b, 0x07, 0x48, 0x83, 0xc0, 0x01, 0xc3 };
	uint8_t readers[256] = { 0 };
	for (uint32_t i = 0; i < BYTES; i++)
		shadow[i] = (uint8_t)((7 * i + 3) & 0x7f);
	memcpy(shadow, code, sizeof(code));
	for (size_t i = 0; i < sizeof(functions) / sizeof(*functions); i++) {
		memcpy(readers + functions[i].at, functions[i].code, functions[i].len);
		memcpy(shadow + INSIDE + functions[i].at, functions[i].code, functions[i].len);
	}
	ck_assert_int_eq(hvmi_vm_write(m.vm, READERS, readers, sizeof(readers), NULL), 0);
	ck_assert_int_eq(hvmi_vm_write(m.vm, P, shadow, sizeof(shadow), NULL), 0);
}

static void open_machine(int profile)
{
	hook_machine_open(&m, &profiles[profile], "");
	put_functions();
	real = m.vm->backend;
	m.vm->backend.event_answer = count_answers;
	memset(calls, 0, sizeof(calls));
	for (size_t i = 0; i < HOOKS; i++)
		hooks[i] = add(execute(hooked[i], &calls[i]));
	steps = emulated = data = 0;
}

/* What is in the machine: all int3s, where they are not in a copy, and nothing else that differs. */
static void check_memory(bool placed)
{
	uint8_t now[BYTES], want[BYTES];
	struct hvmi_hook_info info = { .size = sizeof(info) };
	memcpy(want, shadow, sizeof(want));
	for (size_t i = 0; placed && i < HOOKS; i++)
		if (hooks[i] && hvmi_hook_get_info(hooks[i], &info) == 0 &&
		    info.mechanism == HVMI_MECHANISM_CLOAKED_INT3)
			want[hooked[i] - P] = 0xcc;
	ck_assert_int_eq(hvmi_vm_read(m.vm, P, now, sizeof(now), NULL), 0);
	ck_assert_mem_eq(now, want, sizeof(now));
}

static uint32_t rights_of(uint64_t page)
{
	uint32_t rights;
	ck_assert_int_eq(hvmi_view_get_rights(m.events, HVMI_VIEW_HOST, page, &rights, &err), 0);
	return rights;
}

static void close_machine(void)
{
	hvmi_hooks_close(m.hooks);
	m.hooks = NULL;
	check_memory(false);
	for (uint64_t gpa = 0; gpa < 0x40000; gpa += 0x1000)
		ck_assert_uint_eq(rights_of(gpa),
				  HVMI_RIGHT_READ | HVMI_RIGHT_WRITE | HVMI_RIGHT_EXECUTE);
	hook_machine_close(&m);
}

static void start(uint64_t function, uint64_t a, uint64_t b, uint64_t c)
{
	uint64_t number;
	ck_assert_int_eq(hvmi_vm_read(m.vm, MAILBOX + 80, &number, 8, NULL), 0);
	const uint64_t rest[] = { 1, function, a, b, c, 0, 0, 0 };
	number++;
	ck_assert_int_eq(hvmi_vm_write(m.vm, MAILBOX + 88, rest, sizeof(rest), NULL), 0);
	ck_assert_int_eq(hvmi_vm_write(m.vm, MAILBOX + 80, &number, 8, NULL), 0);
}

static uint64_t finish(void)
{
	uint64_t result;
	hook_machine_run(&m);
	ck_assert(probe_done(m.vm, &result));
	return result;
}

static uint64_t call_unchecked(uint64_t function, uint64_t a)
{
	start(function, a, OUT, 0);
	return finish();
}

static uint64_t call(uint64_t function, uint64_t a, uint64_t b, uint64_t c)
{
	start(function, a, b, c);
	uint64_t result = finish();
	check_memory(true);
	return result;
}

/* Reads of each size at each place where they meet a hook, or only its page. */
static void read_all(uint64_t functions_at)
{
	static const struct {
		uint32_t function;
		uint32_t len;
	} loads[] = { { LOAD8, 1 }, { LOAD16, 2 }, { LOAD32, 4 }, { LOAD64, 8 },
		      { MOVUPS, 16 }, { MOVDQU, 16 } };
	for (size_t l = 0; l < sizeof(loads) / sizeof(*loads); l++)
		for (size_t h = 0; h < HOOKS; h++)
			for (uint64_t at = hooked[h] - loads[l].len; at <= hooked[h] + 1; at++) {
				uint8_t got[16], fill[16] = { 0 };
				if (at < P)
					continue;
				ck_assert_int_eq(hvmi_vm_write(m.vm, OUT, fill, 16, NULL), 0);
				uint64_t value = call(functions_at + loads[l].function, at, OUT, 0);
				if (loads[l].len == 16)
					ck_assert_int_eq(hvmi_vm_read(m.vm, OUT, got, 16, NULL), 0);
				else
					memcpy(got, &value, 8);
				ck_assert_msg(memcmp(got, shadow + (at - P), loads[l].len) == 0,
					      "%u bytes at 0x%llx", loads[l].len,
					      (unsigned long long)at);
			}
}

START_TEST(reads)
{
	open_machine(able[_i]);
	read_all(READERS);
	for (size_t i = 0; i < HOOKS; i++)
		ck_assert_int_eq(calls[i], 0);
	/* The hook itself is where it was. */
	ck_assert_uint_eq(call(P, OUT, 41, 0), 42);
	ck_assert_int_eq(calls[0], 1);
	close_machine();
}
END_TEST

/* By instructions in the page that they read, some of which are hooked themselves. */
START_TEST(reads_inside)
{
	static const uint32_t at[] = { LOAD8, LOAD64, MOVUPS, MOVDQU };
	int told = 0;
	open_machine(able[_i]);
	read_all(P + INSIDE);
	for (size_t i = 0; i < 4; i++) {
		struct hvmi_hook *hook = add(execute(P + INSIDE + at[i], &told));
		uint64_t value;
		told = 0;
		start(P + INSIDE + at[i], HOOKED - 1, OUT, 0);
		value = finish();
		ck_assert_int_eq(told, 1);
		if (i > 1)
			ck_assert_int_eq(hvmi_vm_read(m.vm, OUT, &value, 8, NULL), 0);
		ck_assert_mem_eq(&value, shadow + 2, i == 0 ? 1 : 8);
		/* Its own bytes. */
		start(P + INSIDE + at[i], P + INSIDE + at[i], OUT, 0);
		value = finish();
		if (i > 1)
			ck_assert_int_eq(hvmi_vm_read(m.vm, OUT, &value, 8, NULL), 0);
		ck_assert_mem_eq(&value, shadow + INSIDE + at[i], i == 0 ? 1 : 8);
		ck_assert_int_eq(told, 2);
		ck_assert_int_eq(hvmi_hook_remove(hook, &err), 0);
		check_memory(true);
	}
	close_machine();
}
END_TEST

/* What one load of one page reads is given to it: no step, and nothing is away for it. */
START_TEST(given)
{
	open_machine(CLOAKS);
	call(READERS + LOAD64, HOOKED, 0, 0);
	ck_assert_uint_eq(data, 1);
	ck_assert_uint_eq(steps, 0);
	/* Beside them there is nothing to be given. */
	call(READERS + LOAD64, P + 0x100, 0, 0);
	ck_assert_uint_eq(emulated, 2);
	ck_assert_uint_eq(data, 1);
	ck_assert_uint_eq(steps, 0);
	/* Over the border, with both sides hooked. */
	call(READERS + LOAD64, P + 0xffc, 0, 0);
	ck_assert_uint_eq(data, 1);
	ck_assert_uint_eq(steps, 1);
	close_machine();
}
END_TEST

START_TEST(strings)
{
	uint8_t got[0x1100];
	open_machine(able[_i]);
	for (unsigned inside = 0; inside < 2; inside++) {
		const uint64_t f = inside ? P + INSIDE : READERS;
		/* All of it, from before one hook to behind the last. */
		call(f + COPY, OUT, P, sizeof(got));
		ck_assert_int_eq(hvmi_vm_read(m.vm, OUT, got, sizeof(got), NULL), 0);
		ck_assert_mem_eq(got, shadow, sizeof(got));
		/* There is no int3 to be found, and what is there is found where it is. */
		ck_assert_uint_eq(call(f + SCAN, P, 0xcc, sizeof(got)), 0);
		ck_assert_uint_eq(call(f + SCAN, P + 0x80, shadow[0x88], 0x20), 0x20 - 9);
	}
	/* And to there: over the hook, over the border. */
	for (uint64_t at = P + 0x80; at <= P + 0xff0; at += 0xf70) {
		for (uint32_t i = 0; i < 0x20; i++)
			got[i] = (uint8_t)(0x30 + i);
		ck_assert_int_eq(hvmi_vm_write(m.vm, OUT, got, 0x20, NULL), 0);
		memcpy(shadow + (at - P), got, 0x20);
		call(READERS + COPY, at, OUT, 0x20);
	}
	/* From one hooked page to the other. */
	memcpy(shadow + 0x1070, shadow + 0x78, 0x20);
	call(READERS + COPY, P + 0x1070, P + 0x78, 0x20);
	read_all(READERS);
	close_machine();
}
END_TEST

static void store(uint64_t function, uint64_t at, uint64_t value, size_t len)
{
	memcpy(shadow + (at - P), &value, len);
	call(function, at, value, 0);
}

START_TEST(writes)
{
	open_machine(able[_i]);
	for (unsigned inside = 0; inside < 2; inside++) {
		const uint64_t f = inside ? P + INSIDE : READERS;
		for (uint64_t at = P + 0x78; at < P + 0x90; at++) {
			store(f + STORE32, at, 0x11223344 + at, 4);
			ck_assert_mem_eq(&(uint64_t){ call(READERS + LOAD64, P + 0x84, 0, 0) },
					 shadow + 0x84, 8);
		}
		store(f + STORE64, P + 0xffb, 0x0102030405060708, 8);
		/* Read, changed and written at once. */
		for (uint64_t at = P + 0x81; at < P + 0x8a; at++) {
			uint64_t value;
			memcpy(&value, shadow + (at - P), 8);
			value += 0x5a;
			memcpy(shadow + (at - P), &value, 8);
			call(f + ADD, at, 0x5a, 0);
		}
	}
	/* What it reads of one it writes to another: two hooked pages in one function. */
	memcpy(shadow + 0x107c, shadow + 0x84, 8);
	call(READERS + LOAD_STORE, P + 0x84, P + 0x107c, 0);
	read_all(READERS);
	/* A guest that patches its own code: add $1 becomes add $2, by an instruction there that is told too. */
	ck_assert_uint_eq(call(P, OUT, 7, 0), 8);
	store(READERS + STORE64, P + 6, 0x000000c302c08348, 8);
	ck_assert_uint_eq(call(P, OUT, 7, 0), 9);
	ck_assert_int_eq(calls[0], 2);
	/* mov (%rdi),%rax becomes mov %rsi,%rax under the hook. */
	store(READERS + STORE32, HOOKED, 0x48f08948, 4);
	ck_assert_uint_eq(call(P, OUT, 7, 0), 9);
	ck_assert_int_eq(calls[0], 3);
	ck_assert_int_eq(hvmi_hook_remove(hooks[0], &err), 0);
	hooks[0] = NULL;
	check_memory(true);
	ck_assert_uint_eq(call(P, OUT, 7, 0), 9);
	close_machine();
}
END_TEST

/* An int3 of its own: it reads it, the hook is told, and it gets its exception. */
START_TEST(own_int3)
{
	uint64_t traps, before;
	open_machine(able[_i]);
	ck_assert_int_eq(hvmi_vm_read(m.vm, MAILBOX + 232, &before, 8, NULL), 0);
	store(READERS + STORE32, HOOKED, 0x90078bcc, 4);
	ck_assert_uint_eq(call(READERS + LOAD8, HOOKED, 0, 0) & 0xff, 0xcc);
	call(P, OUT, 7, 0);
	ck_assert_int_eq(calls[0], 1);
	ck_assert_int_eq(hvmi_vm_read(m.vm, MAILBOX + 232, &traps, 8, NULL), 0);
	ck_assert_uint_eq(traps, before + 1);
	/* Taken away again, it is the hook's alone. */
	store(READERS + STORE32, HOOKED, 0x48078b48, 4);
	ck_assert_uint_eq(call(P, OUT, 7, 0), 8);
	ck_assert_int_eq(calls[0], 2);
	/* And one that is left there stays when the hook goes. */
	store(READERS + STORE32, HOOKED, 0x90078bcc, 4);
	ck_assert_int_eq(hvmi_hook_remove(hooks[0], &err), 0);
	hooks[0] = NULL;
	check_memory(true);
	close_machine();
}
END_TEST

/* Hooks of the same bytes for reading and writing, and of the code for execution. */
START_TEST(with_access_hooks)
{
	int reads_told = 0, writes_told = 0, runs = 0;
	open_machine(able[_i]);
	struct hvmi_hook_request r = execute(P + 0x80, &reads_told);
	r.kind = HVMI_HOOK_ACCESS;
	r.len = 16;
	r.access = HVMI_RIGHT_READ;
	struct hvmi_hook *read = add(r);
	r.access = HVMI_RIGHT_WRITE;
	r.context = &writes_told;
	struct hvmi_hook *write = add(r);
	ck_assert_mem_eq(&(uint64_t){ call(READERS + LOAD64, P + 0x84, 0, 0) }, shadow + 0x84, 8);
	ck_assert_int_eq(reads_told, 1);
	store(READERS + STORE64, P + 0x84, 0x0807060504030201, 8);
	ck_assert_int_eq(writes_told, 1);
	/* Elsewhere in the page. */
	call(READERS + LOAD64, HOOKED, 0, 0);
	ck_assert_int_eq(reads_told, 1);
	r = execute(P, &runs);
	r.kind = HVMI_HOOK_ACCESS;
	r.len = 3;
	r.access = HVMI_RIGHT_EXECUTE;
	add(r);
	ck_assert_uint_eq(call(P, OUT, 7, 0), 8);
	ck_assert_int_eq(runs, 1);
	ck_assert_int_eq(calls[0], 1);
	/* Inside: it is executed, hooked, and reads what is hooked. */
	ck_assert_mem_eq(&(uint64_t){ call(P + INSIDE + LOAD64, P + 0x84, 0, 0) }, shadow + 0x84, 8);
	ck_assert_int_eq(reads_told, 2);
	uint64_t sum;
	memcpy(&sum, shadow + 0x84, 8);
	sum += 9;
	memcpy(shadow + 0x84, &sum, 8);
	call(P + INSIDE + ADD, P + 0x84, 9, 0);
	ck_assert_int_eq(reads_told, 3);
	ck_assert_int_eq(writes_told, 2);
	/* What stays is told as before. */
	ck_assert_int_eq(hvmi_hook_remove(read, &err), 0);
	for (size_t i = 0; i < HOOKS; i++) {
		ck_assert_int_eq(hvmi_hook_remove(hooks[i], &err), 0);
		hooks[i] = NULL;
	}
	store(READERS + STORE64, P + 0x84, 0x1817161514131211, 8);
	ck_assert_int_eq(writes_told, 3);
	ck_assert_int_eq(hvmi_hook_remove(write, &err), 0);
	close_machine();
}
END_TEST

/* One instruction that reads what is hooked, and writes what is hooked otherwise: told once. */
START_TEST(two_operands)
{
	int told = 0;
	open_machine(able[_i]);
	struct hvmi_hook_request r = execute(OUT, &told);
	r.kind = HVMI_HOOK_ACCESS;
	r.len = 8;
	r.access = HVMI_RIGHT_WRITE;
	add(r);
	call(READERS + MOVE_ONE, OUT, P + 0x88, 0);
	ck_assert_int_eq(told, 1);
	uint8_t byte;
	ck_assert_int_eq(hvmi_vm_read(m.vm, OUT, &byte, 1, NULL), 0);
	ck_assert_uint_eq(byte, shadow[0x88]);
	close_machine();
}
END_TEST

/* What it touches is what it is executed with. */
START_TEST(set_registers)
{
	int told = 0;
	struct hvmi_hook_info info = { .size = sizeof(info) };
	open_machine(able[_i]);
	struct hvmi_hook_request r = execute(READERS + LOAD64, &told);
	r.callback = on_hook_that_sets;
	address_set = P + 0x84;
	struct hvmi_hook *hook = add(r);
	ck_assert_mem_eq(&(uint64_t){ call(READERS + LOAD64, OUT, 0, 0) }, shadow + 0x84, 8);
	ck_assert_int_eq(told, 1);
	ck_assert_int_eq(hvmi_hook_remove(hook, &err), 0);
	/* The same from a hook of the access: it is told of one, and another one happens. */
	r = execute(P + 0x84, &told);
	r.kind = HVMI_HOOK_ACCESS;
	r.len = 8;
	r.access = HVMI_RIGHT_READ;
	r.callback = on_hook_that_sets;
	address_set = P + 0x83;
	hook = add(r);
	ck_assert_mem_eq(&(uint64_t){ call(READERS + LOAD64, P + 0x84, 0, 0) }, shadow + 0x83, 8);
	ck_assert_int_eq(hvmi_hook_get_info(hook, &info), 0);
	ck_assert_uint_eq(info.hits, 1);
	ck_assert_uint_eq(info.refused, 0);
	close_machine();
}
END_TEST

/* vCPU 0 reads over the border; the answer has been given, and it does not run yet. */
static void begin_step(uint64_t function, uint64_t at)
{
	start(function, at, OUT, 0);
	ck_assert_int_eq(hvmi_vm_pause(m.vm, &err), 0);
	ck_assert_int_eq(hvmi_hooks_dispatch(m.hooks, 0, &err), 1);
	ck_assert_uint_eq(steps, 1);
}

static uint8_t byte_at(uint64_t gpa)
{
	uint8_t byte;
	ck_assert_int_eq(hvmi_vm_read(m.vm, gpa, &byte, 1, NULL), 0);
	return byte;
}

static struct hvmi_event forged;
static struct hvmi_registers forged_registers;
static uint32_t forged_flags, forged_data_len;
static uint8_t forged_data[HVMI_ANSWER_DATA_MAX];
static int forged_answers;

static int next_or_forged(void *machine, struct hvmi_event *event, struct hvmi_registers *registers,
			  struct hvmi_error *error)
{
	if (!forged.kind)
		return real.event_next(machine, event, registers, error);
	size_t size = event->size;
	*event = forged;
	event->size = size;
	*registers = forged_registers;
	forged.kind = 0;
	return 1;
}

static int answer_or_forged(void *machine, const struct hvmi_event *event,
			    const struct hvmi_answer *answer, struct hvmi_error *error)
{
	if (event->vcpu == 0)
		return count_answers(machine, event, answer, error);
	forged_flags = answer->flags;
	forged_data_len = answer->data_len;
	if (answer->data_len)
		memcpy(forged_data, answer->data, answer->data_len);
	forged_answers++;
	return 0;
}

/* Something that vCPU 1 tries at an instruction that reads it. */
static void forge(uint64_t rip, uint64_t at, uint32_t access)
{
	forged = (struct hvmi_event){
		.kind = HVMI_EVENT_ACCESS, .vcpu = 1, .flags = HVMI_EVENT_WAITS, .gva = at,
		.gpa = at, .access = access,
	};
	ck_assert_int_eq(hvmi_vm_get_registers(m.vm, 1, &forged_registers, &err), 0);
	hvmi_registers_set(&forged_registers, HVMI_X86_RIP, rip);
	hvmi_registers_set(&forged_registers, HVMI_X86_RDI, at);
	forged_answers = 0;
	ck_assert_int_eq(hvmi_hooks_dispatch(m.hooks, 0, &err), 1);
	ck_assert_int_eq(forged_answers, 1);
}

/* While int3s are away for one vCPU no other gets past them: what it tries comes again. */
START_TEST(two_vcpus)
{
	const uint64_t function = _i ? P + INSIDE : READERS;
	open_machine(CLOAKS);
	m.vm->backend.event_next = next_or_forged;
	m.vm->backend.event_answer = answer_or_forged;
	begin_step(function + LOAD64, P + 0xffc);
	for (uint64_t page = P; page < P + BYTES; page += 0x1000)
		ck_assert_uint_eq(rights_of(page), _i ? 0 : HVMI_RIGHT_READ | HVMI_RIGHT_WRITE);
	ck_assert_uint_eq(byte_at(HOOKED), shadow[3]);
	forge(HOOKED, HOOKED, HVMI_RIGHT_EXECUTE);
	ck_assert_uint_eq(forged_flags, 0);
	ck_assert_int_eq(calls[0], 0);
	/* What it read before that is what is there, the guest's own int3 too. */
	if (_i == 0) {
		shadow[0x88] = 0xcc;
		ck_assert_int_eq(hvmi_vm_write(m.vm, P + 0x88, &shadow[0x88], 1, NULL), 0);
		forge(READERS + LOAD64, P + 0x84, HVMI_RIGHT_READ);
		ck_assert_uint_eq(forged_flags, HVMI_ANSWER_EMULATE | HVMI_ANSWER_READ_DATA);
		ck_assert_uint_eq(forged_data_len, 8);
		ck_assert_mem_eq(forged_data, shadow + 0x84, 8);
	}
	/* Still so, unless the first is elsewhere: then it has done that. */
	ck_assert_uint_eq(byte_at(HOOKED), shadow[3]);
	if (_i) {
		ck_assert_int_eq(hvmi_vm_set_register(m.vm, 0, HVMI_X86_RIP, READERS), 0);
		forge(HOOKED, HOOKED, HVMI_RIGHT_EXECUTE);
		ck_assert_uint_eq(forged_flags, 0);
		ck_assert_uint_eq(byte_at(HOOKED), 0xcc);
		ck_assert_uint_eq(rights_of(P), HVMI_RIGHT_EXECUTE);
		ck_assert_int_eq(hvmi_vm_set_register(m.vm, 0, HVMI_X86_RIP, READERS + LOAD64), 0);
	}
	ck_assert_int_eq(hvmi_vm_resume(m.vm, &err), 0);
	ck_assert_mem_eq(&(uint64_t){ finish() }, shadow + 0xffc, 8);
	check_memory(true);
	for (uint64_t page = P; page < P + BYTES; page += 0x1000)
		ck_assert_uint_eq(rights_of(page), HVMI_RIGHT_EXECUTE);
	close_machine();
}
END_TEST

/* Hooks come, go, and all are closed while int3s are away. */
START_TEST(changes_meanwhile)
{
	int later = 0;
	uint64_t result;
	open_machine(CLOAKS);
	begin_step(READERS + LOAD64, P + 0xffc);
	/* What the guest writes to its place meanwhile is its own, also if that is an int3. */
	shadow[0xffd] = 0xcc;
	ck_assert_int_eq(hvmi_vm_write(m.vm, P + 0xffd, &shadow[0xffd], 1, NULL), 0);
	ck_assert_int_eq(hvmi_hook_remove(hooks[2], &err), 0);
	ck_assert_uint_eq(byte_at(P + 0xffd), 0xcc);
	hooks[2] = NULL;
	add(execute(P + 6, &later));
	ck_assert_uint_eq(byte_at(P + 6), shadow[6]);
	ck_assert_int_eq(hvmi_vm_resume(m.vm, &err), 0);
	ck_assert_mem_eq(&(uint64_t){ finish() }, shadow + 0xffc, 8);
	ck_assert_uint_eq(byte_at(P + 6), 0xcc);
	start(P, OUT, 7, 0);
	ck_assert_uint_eq(finish(), 8);
	ck_assert_int_eq(later, 1);
	ck_assert_int_eq(calls[0], 1);

	/* All of one page, which is then nobody's. */
	steps = 0;
	uint64_t sum;
	memcpy(&sum, shadow + 0x1000, 8);
	sum += OUT;
	memcpy(shadow + 0x1000, &sum, 8);
	begin_step(READERS + ADD, P + 0x1000);
	for (size_t i = 3; i < HOOKS; i++) {
		ck_assert_int_eq(hvmi_hook_remove(hooks[i], &err), 0);
		hooks[i] = NULL;
	}
	ck_assert_uint_eq(rights_of(P + 0x1000),
			  HVMI_RIGHT_READ | HVMI_RIGHT_WRITE | HVMI_RIGHT_EXECUTE);
	/* And hooked anew, which the step that is under way has nothing to do with. */
	hooks[3] = add(execute(hooked[3], &calls[3]));
	ck_assert_uint_eq(byte_at(hooked[3]), 0xcc);
	ck_assert_int_eq(hvmi_vm_resume(m.vm, &err), 0);
	finish();
	ck_assert_mem_eq(&(uint64_t){ call_unchecked(READERS + LOAD64, P + 0xffc) }, shadow + 0xffc, 8);
	ck_assert_uint_eq(byte_at(hooked[3]), 0xcc);
	ck_assert_uint_eq(rights_of(P + 0x1000), HVMI_RIGHT_EXECUTE);

	/* Closed in the midst of a write. */
	steps = 0;
	memcpy(shadow + 0x84, &(uint64_t){ OUT }, 8);
	begin_step(READERS + STORE64, P + 0x84);
	hvmi_hooks_close(m.hooks);
	m.hooks = NULL;
	ck_assert_uint_eq(rights_of(P), HVMI_RIGHT_READ | HVMI_RIGHT_WRITE | HVMI_RIGHT_EXECUTE);
	ck_assert_int_eq(hvmi_vm_resume(m.vm, &err), 0);
	ck_assert(probe_done(m.vm, &result));
	close_machine();
}
END_TEST

/* The last int3 of a page goes while it is away, and another hook of the page stays: nobody waits for ever. */
START_TEST(access_stays)
{
	int told = 0;
	open_machine(CLOAKS);
	struct hvmi_hook_request r = execute(P + 0x1100, &told);
	r.kind = HVMI_HOOK_ACCESS;
	r.len = 8;
	r.access = HVMI_RIGHT_WRITE;
	add(r);
	r.address = P + 0x100;
	r.access = HVMI_RIGHT_EXECUTE;
	struct hvmi_hook *range = add(r);
	begin_step(READERS + LOAD64, P + 0xffc);
	/* Others are to be told of what they do to it, and do not get past int3s either. */
	ck_assert_uint_eq(rights_of(P + 0x1000), 0);
	ck_assert_int_eq(hvmi_hook_remove(range, &err), 0);
	ck_assert_uint_eq(rights_of(P) & HVMI_RIGHT_EXECUTE, 0);
	ck_assert_int_eq(hvmi_hooks_begin(m.hooks, &err), 0);
	for (size_t i = 0; i < HOOKS; i++) {
		ck_assert_int_eq(hvmi_hook_remove(hooks[i], &err), 0);
		hooks[i] = NULL;
	}
	ck_assert_int_eq(hvmi_hooks_commit(m.hooks, &err), 0);
	ck_assert_uint_eq(rights_of(P), HVMI_RIGHT_READ | HVMI_RIGHT_WRITE | HVMI_RIGHT_EXECUTE);
	ck_assert_uint_eq(rights_of(P + 0x1000), HVMI_RIGHT_READ | HVMI_RIGHT_EXECUTE);
	ck_assert_int_eq(hvmi_vm_resume(m.vm, &err), 0);
	ck_assert_mem_eq(&(uint64_t){ finish() }, shadow + 0xffc, 8);
	store(READERS + STORE64, P + 0x1100, 5, 8);
	ck_assert_int_eq(told, 1);
	close_machine();
}
END_TEST

/* What cannot be emulated is executed by the processor: by this vCPU, and by no other where that can be. */
START_TEST(not_emulated)
{
	const uint64_t function = _i ? P + INSIDE : READERS;
	uint64_t got[2];
	open_machine(CLOAKS);
	start(function + MOVDQU, HOOKED - 2, OUT, 0);
	for (int i = 0; i < 2; i++) {
		ck_assert_int_eq(hvmi_vm_pause(m.vm, &err), 0);
		ck_assert_int_eq(hvmi_hooks_dispatch(m.hooks, 0, &err), 1);
		ck_assert_uint_eq(data, 1);
		if (i == 0)
			ck_assert_int_eq(hvmi_vm_resume(m.vm, &err), 0);
	}
	ck_assert_uint_eq(rights_of(P), HVMI_RIGHT_READ | HVMI_RIGHT_WRITE |
				  (_i ? HVMI_RIGHT_EXECUTE : 0));
	ck_assert_int_eq(hvmi_vm_resume(m.vm, &err), 0);
	finish();
	ck_assert_int_eq(hvmi_vm_read(m.vm, OUT, got, 16, NULL), 0);
	ck_assert_mem_eq(got, shadow + 1, 16);
	check_memory(true);
	close_machine();
}
END_TEST

/* What the journal says is true at any moment, also of what the guest wrote and of what is away. */
START_TEST(journal)
{
	char folder[] = "/tmp/hvmi-cloak.XXXXXX";
	struct hvmi_hooks_options options = { .size = sizeof(options) };
	ck_assert_ptr_nonnull(mkdtemp(folder));
	open_machine(CLOAKS);
	hvmi_hooks_close(m.hooks);
	ck_assert_msg(hvmi_journal_open(m.vm, folder, 0, &options.journal, &err) == 0, "%s", err.text);
	ck_assert_int_eq(hvmi_hooks_open(m.events, &options, &m.hooks, &err), 0);
	for (size_t i = 0; i < HOOKS; i++)
		hooks[i] = add(execute(hooked[i], &calls[i]));
	read_all(READERS);
	store(READERS + STORE64, P + 0x84, 0x0807060504030201, 8);
	ck_assert_uint_eq(options.journal->patches.live, HOOKS);
	if (_i) {
		steps = 0;
		memcpy(shadow + 0xffc, &(uint64_t){ OUT }, 8);
		begin_step(READERS + STORE64, P + 0xffc);
		ck_assert_uint_eq(options.journal->patches.live, 0);
		ck_assert_int_eq(hvmi_vm_resume(m.vm, &err), 0);
		finish();
		check_memory(true);
	}
	/* What a program that was killed would leave: its int3s, and a journal from which they are undone. */
	struct journal_patches *left = &options.journal->patches;
	ck_assert_uint_eq(left->live, HOOKS);
	for (uint64_t id = 1; id <= options.journal->last_id; id++) {
		const struct journal_patch *patch = journal_patches_find(left, id);
		if (!patch)
			continue;
		ck_assert_uint_eq(patch->len, 1);
		ck_assert_uint_eq(patch->bytes[0], shadow[patch->gpa - P]);
		ck_assert_uint_eq(patch->bytes[1], 0xcc);
	}
	hvmi_hooks_close(m.hooks);
	m.hooks = NULL;
	check_memory(false);
	ck_assert_uint_eq(left->live, 0);
	hvmi_journal_close(options.journal);
	ck_assert_int_eq(rmdir(folder), 0);
	close_machine();
}
END_TEST

/* What fails on the way leaves nothing behind, and what cannot be put away is still no end of the guest. */
START_TEST(failures)
{
	static const char *const methods[] = { "event_request", "view_set_rights", "pause" };
	for (size_t i = 0; i < 3; i++)
		for (int n = 1; n < 8; n++) {
			char script[64];
			int told = 0;
			snprintf(script, sizeof(script), "fail %s %d EIO\n", methods[i], n);
			hook_machine_open(&m, &profiles[CLOAKS], script);
			put_functions();
			struct hvmi_hook_request r = execute(HOOKED, &told);
			struct hvmi_hook *hook;
			int rc = hvmi_hook_add(m.hooks, &r, &hook, &err);
			ck_assert(rc == 0 || rc == -EIO);
			if (rc) {
				struct hvmi_hooks_info info = { .size = sizeof(info) };
				ck_assert_int_eq(hvmi_hooks_get_info(m.hooks, &info), 0);
				ck_assert_uint_eq(info.places, 0);
				ck_assert_uint_eq(byte_at(HOOKED), shadow[3]);
				hook = add(r);
			}
			start(READERS + COPY, OUT, P, 0x20);
			finish();
			start(P, OUT, 7, 0);
			ck_assert_uint_eq(finish(), 8);
			ck_assert_int_eq(told, 1);
			rc = hvmi_hook_remove(hook, &err);
			ck_assert(rc == 0 || rc == -EIO);
			close_machine();
		}
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("hook_cloak");
	TCase *tests = tcase_create("hook_cloak");
	tcase_set_timeout(tests, 60);
	tcase_add_loop_test(tests, reads, 0, MACHINES);
	tcase_add_loop_test(tests, reads_inside, 0, MACHINES);
	tcase_add_test(tests, given);
	tcase_add_loop_test(tests, strings, 0, MACHINES);
	tcase_add_loop_test(tests, writes, 0, MACHINES);
	tcase_add_loop_test(tests, own_int3, 0, MACHINES);
	tcase_add_loop_test(tests, with_access_hooks, 0, MACHINES);
	tcase_add_loop_test(tests, two_operands, 0, MACHINES);
	tcase_add_loop_test(tests, set_registers, 0, MACHINES);
	tcase_add_loop_test(tests, two_vcpus, 0, 2);
	tcase_add_loop_test(tests, not_emulated, 0, 2);
	tcase_add_test(tests, changes_meanwhile);
	tcase_add_test(tests, access_stays);
	tcase_add_loop_test(tests, journal, 0, 2);
	tcase_add_test(tests, failures);
	suite_add_tcase(suite, tests);
	return run_suite(suite);
}
