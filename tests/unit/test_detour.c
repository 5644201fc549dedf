/* SPDX-License-Identifier: Apache-2.0 */
/* Who is in code, slack, and detours, on a made-up kernel. Real ones are in tests/qemu. */
#include "suite.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "machine.h"
#include "page_tables.h"

#include "hook/detour.h"
#include "hook/journal.h"
#include "hook/slack.h"

#define TEXT 0xffffffff81000000ull
#define TEXT_GPA 0x20000u
#define TEXT_LEN 0x2000u
#define ETEXT (TEXT + 0x1e05)
#define STACK 0xffffc90000000000ull
#define STACK_GPA 0x40000u
#define STACK_LEN 0x4000u
#define FAR (STACK + 0x40000000ull)
#define FAR_GPA 0x60000u
#define GOOD (TEXT + 0)
#define CROSSES (TEXT + 0xffd)

static struct hvmi_error err;
static struct hvmi_vm *vm;
static struct hvmi_os *os;
static struct hvmi_journal *journal;
static char folder[64];
static uint8_t begun[TEXT_LEN];
/* One thread, and whether it runs. */
static struct os_stack thread;
static int stacks_rc;

static const struct {
	const char *name;
	uint64_t at;
	const char *bytes;
	size_t len;
} functions[] = {
#define FUNCTION(name, at, bytes) { name, at, bytes, sizeof(bytes) - 1 }
	/* endbr64; nop; push rbp; mov rbp, rsp; sub rsp, 16; mov rax, [rip + 0x100]; leave; ret */
	FUNCTION("good", 0, "\xf3\x0f\x1e\xfa\x0f\x1f\x44\x00\x00\x55\x48\x89\xe5\x48\x83\xec\x10"
		 "\x48\x8b\x05\x00\x01\x00\x00\xc9\xc3"),
	/* push rbp; mov rbp, rsp; inc eax; dec edi; jnz to the mov; pop rbp; ret */
	FUNCTION("loops", 0x40, "\x55\x48\x89\xe5\xff\xc0\xff\xcf\x75\xf7\x5d\xc3"),
	/* push rbp; call */
	FUNCTION("calls", 0x80, "\x55\xe8\x00\x00\x00\x00\x5d\xc3"),
	/* xor eax, eax; ret */
	FUNCTION("short", 0xc0, "\x31\xc0\xc3"),
	FUNCTION("behind", 0xc3, "\x90\x90\x90\x90\x90\x90\x90\xc3"),
	FUNCTION("jumps", 0x100, "\xe9\x00\x00\x00\x00"),
	FUNCTION("breaks", 0x140, "\xcc\x90\x90\x90\x90\xc3"),
	FUNCTION("bad", 0x180, "\x55\x06\x90\x90\x90\xc3"),
	/* push rbp; mov rbp, rsp; sub rsp, 16; leave; ret: in two pages. */
	FUNCTION("crosses", 0xffd, "\x55\x48\x89\xe5\x48\x83\xec\x10\xc9\xc3"),
	FUNCTION("_etext", 0x1e05, ""),
};

static int each_stack(struct hvmi_os *unused, int (*each)(void *context, const struct os_stack *stack),
		      void *context, struct hvmi_error *error)
{
	(void)unused;
	if (stacks_rc)
		return hvmi_error_set(error, stacks_rc, HVMI_NO_ADDRESS, "no stacks");
	return each(context, &thread);
}

static void nothing(struct hvmi_os *unused)
{
	(void)unused;
}

static const struct os_ops ops = { .kind = HVMI_OS_LINUX, .name = "Made-up", .detach = nothing,
				   .stacks = each_stack };

static void write_gpa(uint64_t gpa, const void *bytes, size_t len)
{
	ck_assert_int_eq(hvmi_vm_write(vm, gpa, bytes, len, NULL), 0);
}

static void push(uint64_t gva, uint64_t word)
{
	write_gpa(gva - STACK + STACK_GPA, &word, 8);
}

static void set(uint32_t id, uint64_t value)
{
	ck_assert_int_eq(hvmi_vm_set_register(vm, 0, id, value), 0);
}

static void make_text(void)
{
	memset(begun, 0x90, sizeof(begun));
	memset(begun + 0x1e05, 0, TEXT_LEN - 0x1e05);
	for (size_t i = 0; i < ARRAY_SIZE(functions); i++) {
		memcpy(begun + functions[i].at, functions[i].bytes, functions[i].len);
		ck_assert_int_eq(symbols_add(&os->profile->symbols, TEXT + functions[i].at, 't',
					     functions[i].name, strlen(functions[i].name)), 0);
	}
	ck_assert_int_eq(symbols_freeze(&os->profile->symbols), 0);
	write_gpa(TEXT_GPA, begun, sizeof(begun));
}

static void setup(void)
{
	struct page_tables t;
	snprintf(folder, sizeof(folder), "/tmp/hvmi-detour.XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(folder));
	vm = machine_open(HVMI_OPEN_WRITE, "arch x86\nram 0 1M\nvcpu 0 cr0 1\nvcpu 0 rip 0x1\n"
			  "vcpu 0 rsp 0x1\nvcpu 0 cs.selector 0x33\n");
	page_tables_init(&t, vm, HVMI_PAGING_X86_4LEVEL, 0x80000);
	for (uint64_t at = 0; at < TEXT_LEN; at += 4096)
		page_tables_map(&t, TEXT + at, TEXT_GPA + at, 1, 0);
	for (uint64_t at = 0; at < STACK_LEN; at += 4096)
		page_tables_map(&t, STACK + at, STACK_GPA + at, 1, PT_W | PT_NX);
	page_tables_map(&t, FAR, FAR_GPA, 1, 0);
	os = calloc(1, sizeof(*os));
	os->vm = vm;
	os->ops = &ops;
	os->profile = profile_create();
	os->kernel = (struct hvmi_space_config){ .size = sizeof(os->kernel), .root = t.root,
						 .paging = t.paging, .flags = HVMI_SPACE_NX };
	os->info.kernel_gva = TEXT;
	os->info.kernel_len = TEXT_LEN;
	make_text();
	thread = (struct os_stack){ .object = 0xffff888000001000, .pid = 7, .tgid = 5, .name = "worker",
				    .start = STACK, .end = STACK + STACK_LEN, .sp = STACK + 0x3000 };
	stacks_rc = 0;
	ck_assert_int_eq(hvmi_journal_open(vm, folder, 0, &journal, &err), 0);
}

static void teardown(void)
{
	char command[96];
	hvmi_journal_close(journal);
	hvmi_os_detach(os);
	hvmi_close(vm);
	snprintf(command, sizeof(command), "rm -rf %s", folder);
	ck_assert_int_eq(system(command), 0);
}

static int create(uint64_t gva, uint32_t room, struct hvmi_detour **ret)
{
	struct hvmi_detour_request r = { .size = sizeof(r), .gva = gva, .code_room = room };
	return hvmi_detour_create(os, &r, ret, &err);
}

static struct hvmi_detour *plan(uint64_t gva, struct hvmi_detour_info *info)
{
	struct hvmi_detour *detour = NULL;
	int rc = create(gva, 16, &detour);
	ck_assert_msg(rc == 0, "%s", err.text);
	info->size = sizeof(*info);
	ck_assert_int_eq(hvmi_detour_get_info(detour, info), 0);
	return detour;
}

static void text_is(uint64_t gva, const void *bytes, size_t len)
{
	uint8_t now[64];
	ck_assert_int_eq(hvmi_vm_read(vm, gva - TEXT + TEXT_GPA, now, len, NULL), 0);
	ck_assert_mem_eq(now, bytes, len);
}

static void is_whole(void)
{
	uint8_t now[TEXT_LEN];
	ck_assert_int_eq(hvmi_vm_read(vm, TEXT_GPA, now, sizeof(now), NULL), 0);
	ck_assert_mem_eq(now, begun, sizeof(now));
}

START_TEST(quiet)
{
	struct hvmi_code ranges[] = { { TEXT + 0x10, 0x10 }, { TEXT + 0x40, 0 }, { TEXT + 0x80, 4 } };
	struct hvmi_occupant who[4];
	ck_assert_int_eq(hvmi_quiet_check(os, ranges, 3, who, 4, &err), -EINVAL);
	ck_assert_int_eq(hvmi_vm_pause(vm, &err), 0);
	ck_assert_int_eq(hvmi_quiet_check(os, ranges, 3, who, 4, &err), 0);
	ck_assert_int_eq(hvmi_quiet_check(os, ranges, 0, NULL, 0, &err), 0);
	/* Borders; what is below the stack pointer is old. */
	push(STACK + 0x3000, TEXT + 0xf);
	push(STACK + 0x3008, TEXT + 0x20);
	push(STACK + 0x3010, TEXT + 0x40);
	push(STACK + 0x2ff8, TEXT + 0x18);
	ck_assert_int_eq(hvmi_quiet_check(os, ranges, 3, who, 4, &err), 0);
	push(STACK + 0x3018, TEXT + 0x10);
	push(STACK + 0x3ff8, TEXT + 0x83);
	ck_assert_int_eq(hvmi_quiet_check(os, ranges, 3, who, 1, &err), 2);
	ck_assert_int_eq(hvmi_quiet_check(os, ranges, 3, who, 4, &err), 2);
	ck_assert_uint_eq(who[0].kind, HVMI_OCCUPANT_THREAD);
	ck_assert_uint_eq(who[0].gva, TEXT + 0x10);
	ck_assert_uint_eq(who[0].at, STACK + 0x3018);
	ck_assert_int_eq(who[0].pid, 7);
	ck_assert_str_eq(who[0].name, "worker");
	ck_assert_uint_eq(who[0].vcpu, HVMI_NO_VCPU);
	ck_assert_uint_eq(who[1].gva, TEXT + 0x83);
	set(HVMI_X86_RIP, TEXT + 0x1f);
	ck_assert_int_eq(hvmi_quiet_check(os, ranges, 3, who, 4, &err), 3);
	ck_assert_uint_eq(who[0].kind, HVMI_OCCUPANT_VCPU);
	/* A range that wraps. */
	ranges[0] = (struct hvmi_code){ UINT64_MAX, 2 };
	ck_assert_int_eq(hvmi_quiet_check(os, ranges, 1, who, 4, &err), -EINVAL);
}
END_TEST

START_TEST(quiet_running)
{
	const struct hvmi_code range = { TEXT + 0x10, 0x10 };
	struct hvmi_occupant who;
	ck_assert_int_eq(hvmi_vm_pause(vm, &err), 0);
	push(STACK + 0x3018, TEXT + 0x10);
	/* It runs in user mode: nothing of its kernel stack is in use. */
	thread.running = true;
	ck_assert_int_eq(hvmi_quiet_check(os, &range, 1, &who, 1, &err), 0);
	/* In the kernel, above that word, below it, and on another stack. */
	set(HVMI_X86_CS_SELECTOR, 0x10);
	set(HVMI_X86_RSP, STACK + 0x3020);
	ck_assert_int_eq(hvmi_quiet_check(os, &range, 1, &who, 1, &err), 0);
	set(HVMI_X86_RSP, STACK + 0x3010);
	ck_assert_int_eq(hvmi_quiet_check(os, &range, 1, &who, 1, &err), 1);
	ck_assert_uint_eq(who.vcpu, 0);
	set(HVMI_X86_RSP, 0x70000);
	ck_assert_int_eq(hvmi_quiet_check(os, &range, 1, &who, 1, &err), 1);
	/* The other stack itself: none of a thread's. */
	thread.start = thread.end = thread.sp = STACK + 0x1000;
	set(HVMI_X86_RSP, STACK + 0x3000);
	ck_assert_int_eq(hvmi_quiet_check(os, &range, 1, &who, 1, &err), 1);
	ck_assert_uint_eq(who.kind, HVMI_OCCUPANT_STACK);
	/* What cannot be told is an error. */
	thread.end = STACK + (1 << 20);
	ck_assert_int_eq(hvmi_quiet_check(os, &range, 1, &who, 1, &err), -EBADMSG);
	thread.start = thread.sp = STACK + STACK_LEN - 8;
	thread.end = STACK + STACK_LEN + 4096;
	thread.running = false;
	ck_assert_int_eq(hvmi_quiet_check(os, &range, 1, &who, 1, &err), -EFAULT);
	stacks_rc = -ENOTSUP;
	ck_assert_int_eq(hvmi_quiet_check(os, &range, 1, &who, 1, &err), -ENOTSUP);
}
END_TEST

START_TEST(place_and_undo)
{
	struct hvmi_detour_info info;
	struct hvmi_detour *d = plan(GOOD, &info);
	is_whole();
	/* Behind ENDBR and ftrace's NOP; three instructions. */
	ck_assert_uint_eq(info.gva, GOOD + 9);
	ck_assert_uint_eq(info.replaced, 8);
	ck_assert_uint_eq(info.jump_len, 5);
	ck_assert_uint_ge(info.memory, ETEXT + 16);
	ck_assert_uint_eq(info.memory % 16, 0);
	ck_assert_uint_le(info.memory + info.memory_len, TEXT + TEXT_LEN);
	ck_assert_uint_eq(info.moved, info.memory);
	ck_assert_uint_eq(info.placed, 0);
	ck_assert_int_eq(hvmi_detour_undo(d, &err), -EINVAL);
	ck_assert_int_eq(hvmi_detour_commit(d, "0123456789abcdefg", 17, journal, &err), -EINVAL);
	ck_assert_int_eq(hvmi_detour_commit(d, "code", 4, NULL, &err), -EINVAL);
	ck_assert_int_eq(hvmi_detour_commit(d, "code", 4, journal, &err), 0);
	ck_assert_int_eq(hvmi_detour_commit(d, "code", 4, journal, &err), -EINVAL);
	uint8_t jump[5] = { 0xe9 };
	uint32_t distance = (uint32_t)(info.code - (info.gva + 5));
	memcpy(jump + 1, &distance, 4);
	text_is(info.gva, jump, 5);
	text_is(info.code, "code\xcc", 5);
	text_is(info.moved, begun + 9, 8);
	/* Then a jump back to what follows. */
	jump[0] = 0xe9;
	distance = (uint32_t)(info.gva + 8 - (info.moved + 8 + 5));
	memcpy(jump + 1, &distance, 4);
	text_is(info.moved + 8, jump, 5);
	/* It is detoured now. */
	struct hvmi_detour *second;
	ck_assert_int_eq(create(GOOD, 16, &second), -ENOTSUP);
	ck_assert_int_eq(hvmi_detour_undo(d, &err), 0);
	is_whole();
	hvmi_detour_destroy(d);
	hvmi_detour_destroy(NULL);
}
END_TEST

START_TEST(in_the_way)
{
	struct hvmi_detour_info info;
	struct hvmi_detour *d = plan(GOOD, &info);
	/* In what is replaced; but who is about to begin it is not in the way. */
	push(STACK + 0x3100, info.gva + 1);
	ck_assert_int_eq(hvmi_detour_commit(d, "c", 1, journal, &err), -EBUSY);
	ck_assert_ptr_nonnull(strstr(err.text, "worker"));
	push(STACK + 0x3100, info.gva + 8);
	push(STACK + 0x3108, info.gva);
	set(HVMI_X86_RIP, info.gva + 4);
	ck_assert_int_eq(hvmi_detour_commit(d, "c", 1, journal, &err), -EBUSY);
	is_whole();
	set(HVMI_X86_RIP, info.gva);
	ck_assert_int_eq(hvmi_detour_commit(d, "c", 1, journal, &err), 0);
	/* Somebody in the code: the function is itself again, the code stays. */
	push(STACK + 0x3110, info.code + 2);
	ck_assert_int_eq(hvmi_detour_undo(d, &err), -EBUSY);
	text_is(info.gva, begun + 9, 8);
	text_is(info.code, "c", 1);
	set(HVMI_X86_RIP, info.moved + 4);
	push(STACK + 0x3110, 0);
	ck_assert_int_eq(hvmi_detour_undo(d, &err), -EBUSY);
	set(HVMI_X86_RIP, 0);
	ck_assert_int_eq(hvmi_detour_undo(d, &err), 0);
	is_whole();
	hvmi_detour_destroy(d);
}
END_TEST

START_TEST(refused)
{
	static const struct {
		uint64_t at;
		const char *why;
	} cases[] = {
		{ 0x40, "branch of its own" }, { 0x80, "tells others" }, { 0xc0, "shorter" },
		{ 0x100, "detoured already" }, { 0x140, "detoured already" }, { 0x180, "" },
	};
	struct hvmi_detour *d;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		ck_assert_int_eq(create(TEXT + cases[i].at, 16, &d), -ENOTSUP);
		ck_assert_msg(strstr(err.text, cases[i].why) != NULL, "%s", err.text);
	}
	ck_assert_int_eq(create(TEXT - 4096, 16, &d), -EFAULT);
	ck_assert_int_eq(create(GOOD, 0, &d), -EINVAL);
	ck_assert_int_eq(create(GOOD, HVMI_DETOUR_CODE + 1, &d), -EINVAL);
	ck_assert_int_eq(create(GOOD, HVMI_DETOUR_CODE, &d), -ENOTSUP);
	ck_assert_ptr_nonnull(strstr(err.text, "padding"));
	os->kernel.paging = HVMI_PAGING_ARM64;
	ck_assert_int_lt(create(GOOD, 16, &d), 0);
}
END_TEST

START_TEST(memory_of_the_callers)
{
	struct hvmi_detour_request r = { .size = sizeof(r), .gva = GOOD, .code_room = 16,
					 .memory = TEXT + 0x1f01, .memory_len = 0xff };
	struct hvmi_detour *d;
	struct hvmi_detour_info info = { .size = sizeof(info) };
	ck_assert_int_eq(hvmi_detour_create(os, &r, &d, &err), 0);
	hvmi_detour_get_info(d, &info);
	ck_assert_uint_eq(info.memory, TEXT + 0x1f10);
	hvmi_detour_destroy(d);
	r.memory_len = 20;
	ck_assert_int_eq(hvmi_detour_create(os, &r, &d, &err), -EINVAL);
	r.memory = TEXT + 0x1000;
	r.memory_len = 0x100;
	ck_assert_int_eq(hvmi_detour_create(os, &r, &d, &err), -EBUSY);
	/* Far away, and not to be executed. */
	r.memory = STACK;
	ck_assert_int_eq(hvmi_detour_create(os, &r, &d, &err), -EFAULT);
	r.memory = TEXT + TEXT_LEN;
	ck_assert_int_eq(hvmi_detour_create(os, &r, &d, &err), -EFAULT);
}
END_TEST

/* Beyond the reach of a near jump: the address goes with it, and more is moved. */
START_TEST(memory_far_away)
{
	static const uint8_t jump[] = { 0xff, 0x25, 0, 0, 0, 0 };
	/* mov rax, address; mov rax, [rax]: what was relative to RIP. */
	static const uint8_t take[] = { 0x48, 0xb8 }, load[] = { 0x48, 0x8b, 0x00 };
	struct hvmi_detour_request r = { .size = sizeof(r), .gva = GOOD, .code_room = 16,
					 .memory = FAR, .memory_len = 0x100 };
	struct hvmi_detour *d;
	struct hvmi_detour_info info = { .size = sizeof(info) };
	uint8_t now[40];
	uint64_t to, loaded = GOOD + 24 + 0x100;
	ck_assert_msg(hvmi_detour_create(os, &r, &d, &err) == 0, "%s", err.text);
	hvmi_detour_get_info(d, &info);
	ck_assert_uint_eq(info.memory, FAR);
	ck_assert_uint_eq(info.jump_len, 14);
	ck_assert_uint_eq(info.replaced, 15);
	ck_assert_msg(hvmi_detour_commit(d, "code", 4, journal, &err) == 0, "%s", err.text);
	ck_assert_int_eq(hvmi_vm_read(vm, TEXT_GPA + 9, now, 14, NULL), 0);
	ck_assert_mem_eq(now, jump, sizeof(jump));
	memcpy(&to, now + sizeof(jump), 8);
	ck_assert_uint_eq(to, info.code);
	/* The first three as they were, the load in another form, and the way back. */
	ck_assert_int_eq(hvmi_vm_read(vm, FAR_GPA, now, sizeof(now), NULL), 0);
	ck_assert_mem_eq(now, begun + 9, 8);
	ck_assert_mem_eq(now + 8, take, sizeof(take));
	ck_assert_mem_eq(now + 10, &loaded, 8);
	ck_assert_mem_eq(now + 18, load, sizeof(load));
	ck_assert_mem_eq(now + 21, jump, sizeof(jump));
	memcpy(&to, now + 21 + sizeof(jump), 8);
	ck_assert_uint_eq(to, info.gva + 15);
	ck_assert_int_eq(hvmi_detour_undo(d, &err), 0);
	is_whole();
	hvmi_detour_destroy(d);
}
END_TEST

START_TEST(jump_in_two_pages)
{
	struct hvmi_detour_info info;
	struct hvmi_detour *d = plan(CROSSES, &info);
	uint8_t jump[5] = { 0xe9 };
	uint32_t distance = (uint32_t)(info.code - (CROSSES + 5));
	ck_assert_uint_eq(info.gva, CROSSES);
	ck_assert_int_eq(hvmi_detour_commit(d, "code", 4, journal, &err), 0);
	memcpy(jump + 1, &distance, 4);
	text_is(CROSSES, jump, sizeof(jump));
	ck_assert_int_eq(hvmi_detour_undo(d, &err), 0);
	is_whole();
	hvmi_detour_destroy(d);
}
END_TEST

START_TEST(plans_grow_old)
{
	struct hvmi_detour_info a, b, c;
	struct hvmi_detour *first = plan(GOOD, &a), *same = plan(GOOD, &b);
	ck_assert_uint_eq(a.memory, b.memory);
	ck_assert_int_eq(hvmi_detour_commit(first, "c", 1, journal, &err), 0);
	ck_assert_int_eq(hvmi_detour_commit(same, "c", 1, journal, &err), -EBUSY);
	hvmi_detour_destroy(same);
	/* The next one has other memory. */
	struct hvmi_detour *other = plan(TEXT + 0xc3, &c);
	ck_assert_uint_ge(c.memory, a.memory + a.memory_len);
	hvmi_detour_destroy(other);
	ck_assert_int_eq(hvmi_detour_undo(first, &err), 0);
	hvmi_detour_destroy(first);
	is_whole();
}
END_TEST

START_TEST(guest_changes_it)
{
	struct hvmi_detour_info info;
	struct hvmi_detour *d = plan(GOOD, &info);
	ck_assert_int_eq(hvmi_detour_commit(d, "c", 1, journal, &err), 0);
	write_gpa(info.gva - TEXT + TEXT_GPA + 2, "\xff", 1);
	ck_assert_int_eq(hvmi_detour_undo(d, &err), -EBADMSG);
	ck_assert_int_eq(hvmi_detour_undo(d, &err), -EBADMSG);
	text_is(info.code, "c", 1);
	hvmi_detour_destroy(d);
}
END_TEST

START_TEST(killed)
{
	struct hvmi_detour_info info;
	struct hvmi_recovered r = { .size = sizeof(r) };
	struct hvmi_detour *d = plan(GOOD, &info);
	ck_assert_int_eq(hvmi_detour_commit(d, "c", 1, journal, &err), 0);
	push(STACK + 0x3110, info.code + 2);
	vm->held = NULL;
	journal_file_close(journal, false);
	free(journal);
	journal = NULL;
	hvmi_detour_destroy(d);
	/* The function is right at once, the code goes when it is quiet. */
	ck_assert_int_eq(hvmi_recover(vm, folder, NULL, &r, &err), -EBUSY);
	ck_assert_uint_eq(r.restored, 1);
	ck_assert_uint_eq(r.waiting, 1);
	text_is(info.gva, begun + 9, 8);
	ck_assert_int_eq(hvmi_recover(vm, folder, os, &r, &err), -EBUSY);
	push(STACK + 0x3110, 0);
	ck_assert_int_eq(hvmi_recover(vm, folder, NULL, &r, &err), -EBUSY);
	ck_assert_int_eq(hvmi_recover(vm, folder, os, &r, &err), 0);
	ck_assert_uint_eq(r.restored, 1);
	is_whole();
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("detour");
	TCase *cases = tcase_create("detour");
	tcase_add_checked_fixture(cases, setup, teardown);
	tcase_add_test(cases, quiet);
	tcase_add_test(cases, quiet_running);
	tcase_add_test(cases, place_and_undo);
	tcase_add_test(cases, in_the_way);
	tcase_add_test(cases, refused);
	tcase_add_test(cases, memory_of_the_callers);
	tcase_add_test(cases, memory_far_away);
	tcase_add_test(cases, jump_in_two_pages);
	tcase_add_test(cases, plans_grow_old);
	tcase_add_test(cases, guest_changes_it);
	tcase_add_test(cases, killed);
	suite_add_tcase(suite, cases);
	return run_suite(suite);
}
