/* SPDX-License-Identifier: Apache-2.0 */
/* Hooks of what machines have an event for. */
#include "hook_machine.h"

#include <dirent.h>
#include <unistd.h>

#include <hvmi/journal.h>

static struct hvmi_error err;

struct seen {
	int calls;
	uint64_t old_value, new_value;
	uint32_t reg, action, set_reg;
	uint64_t set_value, skipped_to;
};

static void on_hook(void *context, const struct hvmi_hook_event *event, struct hvmi_verdict *verdict)
{
	struct seen *seen = context;
	seen->calls++;
	seen->old_value = event->event->old_value;
	seen->new_value = event->event->new_value;
	seen->reg = event->event->reg;
	verdict->action = seen->action;
	if (seen->set_reg)
		hvmi_registers_set(verdict->registers, seen->set_reg, seen->set_value);
}

static struct hvmi_hook *add(struct hook_machine *m, uint32_t kind, uint32_t flags, uint32_t reg,
			     uint64_t msr, struct seen *seen)
{
	const struct hvmi_hook_request r = { .size = sizeof(r), .kind = kind, .flags = flags, .reg = reg,
					     .msr = msr, .callback = on_hook, .context = seen };
	struct hvmi_hook *hook;
	ck_assert_msg(hvmi_hook_add(m->hooks, &r, &hook, &err) == 0, "%s", err.text);
	return hook;
}

/* Have vCPU 0 run code at DATA, with arguments in rdi and rsi; what it returned. */
static uint64_t run_code(struct hook_machine *m, const char *code, size_t len, uint64_t a, uint64_t b)
{
	uint64_t number, result;
	ck_assert_int_eq(hvmi_vm_write(m->vm, DATA, code, len, NULL), 0);
	ck_assert_int_eq(hvmi_vm_read(m->vm, MAILBOX + 80, &number, 8, NULL), 0);
	const uint64_t rest[] = { 1, DATA, a, b, 0, 0, 0, 0 };
	number++;
	ck_assert_int_eq(hvmi_vm_write(m->vm, MAILBOX + 88, rest, sizeof(rest), NULL), 0);
	ck_assert_int_eq(hvmi_vm_write(m->vm, MAILBOX + 80, &number, 8, NULL), 0);
	hook_machine_run(m);
	ck_assert(probe_done(m->vm, &result));
	return result;
}
#define RUN(m, code, a, b) run_code(m, code, sizeof(code) - 1, a, b)

/* mov %rdi,%cr3; mov %rsi,%cr3; mov %cr3,%rax; ret */
#define WRITE_CR3 "\x0f\x22\xdf\x0f\x22\xde\x0f\x20\xd8\xc3"

START_TEST(registers)
{
	struct hook_machine m;
	struct seen all = { .calls = 0 }, changes = { .calls = 0 }, switches = { .calls = 0 },
		    deny = { .action = HVMI_VERDICT_DENY };
	hook_machine_open(&m, &profiles[0], "");
	struct hvmi_hook *one = add(&m, HVMI_HOOK_REGISTER, HVMI_HOOK_ON_CHANGE, HVMI_X86_CR3, 0, &changes);
	ck_assert_uint_eq(RUN(&m, WRITE_CR3, 0x2000, 0x2001), 0x2001);
	ck_assert_int_eq(changes.calls, 1);
	ck_assert_uint_eq(changes.old_value, 0x2000);
	ck_assert_uint_eq(changes.new_value, 0x2001);
	/* One that wants all writes: the machine is asked anew, and each gets what it wants. */
	struct hvmi_hook *two = add(&m, HVMI_HOOK_REGISTER, 0, HVMI_X86_CR3, 0, &all);
	add(&m, HVMI_HOOK_PROCESS_SWITCH, 0, 0, 0, &switches);
	ck_assert_uint_eq(RUN(&m, WRITE_CR3, 0x2001, 0x2000), 0x2000);
	ck_assert_int_eq(all.calls, 2);
	ck_assert_int_eq(changes.calls, 2);
	ck_assert_int_eq(switches.calls, 0);
	ck_assert_uint_eq(RUN(&m, WRITE_CR3, 0x8000000000005000, 0x2000), 0x2000);
	ck_assert_int_eq(switches.calls, 2);
	ck_assert_int_eq(hvmi_hook_remove(two, &err), 0);
	struct hvmi_hook *three = add(&m, HVMI_HOOK_REGISTER, HVMI_HOOK_MAY_DENY, HVMI_X86_CR3, 0, &deny);
	ck_assert_uint_eq(RUN(&m, WRITE_CR3, 0x5000, 0x6000), 0x2000);
	ck_assert_int_eq(deny.calls, 2);
	ck_assert_int_eq(hvmi_hook_remove(three, &err), 0);
	ck_assert_int_eq(hvmi_hook_remove(one, &err), 0);
	/* Who did not say that it may deny, cannot. */
	three = add(&m, HVMI_HOOK_REGISTER, 0, HVMI_X86_CR3, 0, &deny);
	struct hvmi_hook_info info = { .size = sizeof(info) };
	ck_assert_uint_eq(RUN(&m, WRITE_CR3, 0x5000, 0x2000), 0x2000);
	ck_assert_int_eq(hvmi_hook_get_info(three, &info), 0);
	ck_assert_uint_eq(info.refused, 2);
	hook_machine_close(&m);
}
END_TEST

START_TEST(msrs)
{
	struct hook_machine m;
	struct seen seen = { .action = HVMI_VERDICT_SKIP };
	hook_machine_open(&m, &profiles[0], "");
	add(&m, HVMI_HOOK_MSR, HVMI_HOOK_MAY_DENY, 0, 0xc0000082, &seen);
	/* mov $0xc0000082,%ecx; mov $5,%eax; mov $0,%edx; wrmsr; rdmsr; ret */
#define WRITE_LSTAR "\xb9\x82\0\0\xc0\xb8\x05\0\0\0\xba\0\0\0\0\x0f\x30\x0f\x32\xc3"
	ck_assert_uint_eq(RUN(&m, WRITE_LSTAR, 0, 0), 0);
	seen.action = HVMI_VERDICT_CONTINUE;
	ck_assert_uint_eq(RUN(&m, WRITE_LSTAR, 0, 0), 5);
	ck_assert_int_eq(seen.calls, 2);
	ck_assert_uint_eq(seen.new_value, 5);
	hook_machine_close(&m);
}
END_TEST

START_TEST(cpuid)
{
	struct hook_machine m;
	struct seen seen = { .calls = 0 };
	hook_machine_open(&m, &profiles[0], "");
	struct hvmi_hook *hook = add(&m, HVMI_HOOK_CPUID, 0, 0, 0, &seen);
	/* mov $7,%eax; cpuid; mov %rcx,%rax; ret */
#define CPUID "\xb8\x07\0\0\0\x0f\xa2\x48\x89\xc8\xc3"
	ck_assert_uint_eq(RUN(&m, CPUID, 0, 0), 0x6d6973);
	ck_assert_int_eq(seen.calls, 1);
	/* Who sets registers, sets its results. */
	seen.set_reg = HVMI_X86_RCX;
	seen.set_value = 0x1234;
	ck_assert_uint_eq(RUN(&m, CPUID, 0, 0), 0x1234);
	ck_assert_int_eq(hvmi_hook_remove(hook, &err), 0);
	ck_assert_uint_eq(RUN(&m, CPUID, 0, 0), 0x6d6973);
	ck_assert_int_eq(seen.calls, 2);
	hook_machine_close(&m);
}
END_TEST

START_TEST(descriptors)
{
	struct hook_machine m;
	struct seen gdt = { .calls = 0 }, all = { .calls = 0 };
	hook_machine_open(&m, &profiles[0], "vcpu 0 gdtr.base 0x1000\nvcpu 0 gdtr.limit 0x7f\n"
			  "vcpu 0 idtr.base 0x3000\nvcpu 0 idtr.limit 0xff\n");
	add(&m, HVMI_HOOK_DESCRIPTOR, 0, HVMI_X86_GDTR_BASE, 0, &gdt);
	add(&m, HVMI_HOOK_DESCRIPTOR, 0, 0, 0, &all);
	/* sidt (%rdi); sgdt (%rdi); lgdt (%rdi); ret */
	RUN(&m, "\x0f\x01\x0f\x0f\x01\x07\x0f\x01\x17\xc3", 0x14000, 0);
	ck_assert_int_eq(all.calls, 3);
	ck_assert_int_eq(gdt.calls, 2);
	ck_assert_uint_eq(gdt.reg, HVMI_X86_GDTR_BASE);
	hook_machine_close(&m);
}
END_TEST

static uint64_t traps(struct hook_machine *m)
{
	uint64_t count;
	ck_assert_int_eq(hvmi_vm_read(m->vm, MAILBOX + 232, &count, 8, NULL), 0);
	return count;
}

/* What the guest does to itself reaches it, unless a verdict says otherwise; whatever is ours stays ours. */
START_TEST(exceptions)
{
	struct hook_machine m;
	struct seen int3 = { .calls = 0 }, debug = { .calls = 0 }, point = { .calls = 0 };
	hook_machine_open(&m, &profiles[1], "");
	add(&m, HVMI_HOOK_BREAKPOINT, 0, 0, 0, &int3);
	add(&m, HVMI_HOOK_DEBUG, 0, 0, 0, &debug);
	const struct hvmi_hook_request r = {
		.size = sizeof(r), .kind = HVMI_HOOK_EXECUTE, .space = m.space, .address = AT_LOAD,
		.callback = on_hook, .context = &point,
	};
	ck_assert_int_eq(hvmi_hook_add(m.hooks, &r, NULL, &err), 0);
	/* int3; int1; mov %rdi,%rax; ret */
#define TRAPS "\xcc\xf1\x48\x89\xf8\xc3"
	ck_assert_uint_eq(RUN(&m, TRAPS, 3, 0), 3);
	ck_assert_int_eq(int3.calls, 1);
	ck_assert_int_eq(debug.calls, 1);
	ck_assert_uint_eq(traps(&m), 2);
	int3.action = HVMI_VERDICT_SKIP;
	debug.action = HVMI_VERDICT_DENY;
	ck_assert_uint_eq(RUN(&m, TRAPS, 3, 0), 3);
	ck_assert_uint_eq(traps(&m), 2);
	ck_assert_uint_eq(hook_machine_call(&m, 7), 8);
	ck_assert_int_eq(point.calls, 1);
	ck_assert_int_eq(int3.calls, 2);
	/* Our int3 can become the guest's. */
	point.action = HVMI_VERDICT_REINJECT;
	ck_assert_uint_eq(traps(&m), 2);
	uint64_t result;
	probe_start(m.vm, 0, DATA, 7);
	hook_machine_run(&m);
	ck_assert_uint_eq(traps(&m), 3);
	probe_done(m.vm, &result);
	hook_machine_close(&m);
}
END_TEST

/* A hook where the guest has an int3 already: both are told, and the guest gets its own. */
START_TEST(guests_int3)
{
	struct hook_machine m;
	struct seen int3 = { .calls = 0 }, point = { .calls = 0 };
	hook_machine_open(&m, &profiles[_i], "bytes 0x12000 cc 48 89 f8 c3\n");
	add(&m, HVMI_HOOK_BREAKPOINT, 0, 0, 0, &int3);
	const struct hvmi_hook_request r = {
		.size = sizeof(r), .kind = HVMI_HOOK_EXECUTE, .space = m.space, .address = DATA,
		.callback = on_hook, .context = &point,
	};
	struct hvmi_hook *hook;
	ck_assert_int_eq(hvmi_hook_add(m.hooks, &r, &hook, &err), 0);
	uint64_t number = 1;
	const uint64_t rest[] = { 1, DATA, 3, 0, 0, 0, 0, 0 };
	ck_assert_int_eq(hvmi_vm_write(m.vm, MAILBOX + 88, rest, sizeof(rest), NULL), 0);
	ck_assert_int_eq(hvmi_vm_write(m.vm, MAILBOX + 80, &number, 8, NULL), 0);
	hook_machine_run(&m);
	ck_assert(probe_done(m.vm, &number));
	ck_assert_uint_eq(number, 3);
	ck_assert_int_eq(point.calls, 1);
	ck_assert_int_eq(int3.calls, 1);
	ck_assert_uint_eq(traps(&m), 1);
	ck_assert_int_eq(hvmi_hook_remove(hook, &err), 0);
	uint8_t byte;
	ck_assert_int_eq(hvmi_vm_read(m.vm, DATA, &byte, 1, NULL), 0);
	ck_assert_uint_eq(byte, 0xcc);
	hook_machine_close(&m);
}
END_TEST

START_TEST(guest_requests)
{
	struct hook_machine m;
	struct seen seen = { .calls = 0 };
	hook_machine_open(&m, &profiles[0], "");
	add(&m, HVMI_HOOK_GUEST_REQUEST, HVMI_HOOK_USER, 0, 0, &seen);
	/* mov $34,%eax; mov $24,%edi; vmcall; ret */
	ck_assert_uint_eq(RUN(&m, "\xb8\x22\0\0\0\xbf\x18\0\0\0\x0f\x01\xc1\xc3", 0, 0), 0);
	ck_assert_int_eq(seen.calls, 1);
	hook_machine_close(&m);
}
END_TEST

static int files_in(const char *folder)
{
	DIR *dir = opendir(folder);
	int count = 0;
	ck_assert_ptr_nonnull(dir);
	for (const struct dirent *entry; (entry = readdir(dir));)
		count += entry->d_name[0] != '.';
	closedir(dir);
	return count;
}

/* An int3 in the guest's memory is written down first, and forgotten when it is gone. */
START_TEST(journal)
{
	struct hook_machine m;
	struct seen seen = { .calls = 0 };
	char folder[] = "/tmp/hvmi-hook.XXXXXX";
	struct hvmi_hooks_options options = { .size = sizeof(options) };
	struct hvmi_hook *hook;
	uint8_t byte;
	ck_assert_ptr_nonnull(mkdtemp(folder));
	hook_machine_open(&m, &profiles[3], "");
	hvmi_hooks_close(m.hooks);
	ck_assert_msg(hvmi_journal_open(m.vm, folder, 0, &options.journal, &err) == 0, "%s", err.text);
	ck_assert_int_eq(hvmi_hooks_open(m.events, &options, &m.hooks, &err), 0);
	const struct hvmi_hook_request r = {
		.size = sizeof(r), .kind = HVMI_HOOK_EXECUTE, .space = m.space, .address = AT_LOAD,
		.callback = on_hook, .context = &seen,
	};
	ck_assert_msg(hvmi_hook_add(m.hooks, &r, &hook, &err) == 0, "%s", err.text);
	ck_assert_int_eq(hvmi_vm_read(m.vm, AT_LOAD, &byte, 1, NULL), 0);
	ck_assert_uint_eq(byte, 0xcc);
	ck_assert_int_eq(files_in(folder), 1);
	ck_assert_uint_eq(hook_machine_call(&m, 7), 8);
	ck_assert_int_eq(seen.calls, 1);
	ck_assert_int_eq(hvmi_hook_remove(hook, &err), 0);
	ck_assert_int_eq(hvmi_hook_add(m.hooks, &r, &hook, &err), 0);
	/* What the guest has put there meanwhile stays. */
	ck_assert_int_eq(hvmi_vm_write(m.vm, AT_LOAD, "\x90", 1, NULL), 0);
	ck_assert_int_eq(hvmi_hook_remove(hook, &err), 0);
	ck_assert_int_eq(hvmi_vm_read(m.vm, AT_LOAD, &byte, 1, NULL), 0);
	ck_assert_uint_eq(byte, 0x90);
	ck_assert_int_eq(hvmi_vm_write(m.vm, AT_LOAD, "\x48", 1, NULL), 0);
	ck_assert_int_eq(hvmi_hook_add(m.hooks, &r, NULL, &err), 0);
	hvmi_hooks_close(m.hooks);
	m.hooks = NULL;
	hvmi_journal_close(options.journal);
	ck_assert_int_eq(files_in(folder), 0);
	hook_machine_close(&m);
	rmdir(folder);
}
END_TEST

/* What fails on the way leaves nothing behind. */
START_TEST(failures)
{
	static const char *const methods[] = { "event_request", "view_create", "view_switch",
					       "page_create", "view_remap", "view_set_rights", "pause" };
	for (size_t i = 0; i < sizeof(methods) / sizeof(*methods); i++)
		for (int n = 1; n < 6; n++) {
			struct hook_machine m;
			struct seen seen = { .calls = 0 };
			char script[64];
			snprintf(script, sizeof(script), "fail %s %d EIO\n", methods[i], n);
			hook_machine_open(&m, &profiles[2], script);
			struct hvmi_hook_request r = {
				.size = sizeof(r), .kind = HVMI_HOOK_EXECUTE, .space = m.space,
				.address = AT_LOAD, .callback = on_hook, .context = &seen,
			};
			int rc = hvmi_hook_add(m.hooks, &r, NULL, &err);
			ck_assert(rc == 0 || rc == -EIO);
			struct hvmi_hooks_info info = { .size = sizeof(info) };
			ck_assert_int_eq(hvmi_hooks_get_info(m.hooks, &info), 0);
			ck_assert_uint_eq(info.hooks, rc == 0);
			if (rc) {
				ck_assert_uint_eq(info.places, 0);
				ck_assert_int_eq(hvmi_hook_add(m.hooks, &r, NULL, &err), 0);
			}
			ck_assert_uint_eq(hook_machine_call(&m, 7), 8);
			ck_assert_int_eq(seen.calls, 1);
			hook_machine_close(&m);
		}
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("hook_events");
	TCase *tests = tcase_create("hook_events");
	tcase_add_test(tests, registers);
	tcase_add_test(tests, msrs);
	tcase_add_test(tests, cpuid);
	tcase_add_test(tests, descriptors);
	tcase_add_test(tests, exceptions);
	tcase_add_loop_test(tests, guests_int3, 1, 4);
	tcase_add_test(tests, guest_requests);
	tcase_add_test(tests, journal);
	tcase_add_test(tests, failures);
	suite_add_tcase(suite, tests);
	return run_suite(suite);
}
