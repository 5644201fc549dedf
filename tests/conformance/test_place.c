/* SPDX-License-Identifier: Apache-2.0 */
/* Code placed in the guest's kernel, and programs that are killed while they place it. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "suite.h"

/* What one that places says at the beginning of each round. */
#define ROUND "placing"
/* Bytes behind the kernel's code that nobody uses: PLACE_spare. */
#define SPARE_BYTES 256

static struct hvmi_journal *journal;
static char directory[] = "/tmp/hvmi-conformance.XXXXXX";

static void need_kernel(void)
{
	need_probe(PROBE_KERNEL);
	need(HVMI_CAN_PAUSE);
	if (!machine.os)
		skip("the guest's system is not known");
}

static void make_directory(void)
{
	strcpy(strrchr(directory, '.') + 1, "XXXXXX");
	if (!mkdtemp(directory))
		fail("no folder for a journal: %s", directory);
}

/* Every journal is gone: nothing is in the guest. */
static void remove_directory(void)
{
	if (rmdir(directory))
		fail("a journal is left in %s", directory);
}

static struct hvmi_detour *detour_of(uint64_t gva, uint64_t memory, uint32_t memory_len)
{
	const struct hvmi_detour_request r = { .size = sizeof(r), .gva = gva, .code_room = 16,
					       .memory = memory, .memory_len = memory_len };
	struct hvmi_detour *detour;
	int rc = hvmi_detour_create(machine.os, &r, &detour, &error);
	if (rc == -ENOTSUP)
		skip("%s", error.text);
	GOOD(rc);
	return detour;
}

/* ADD RDI, @added; then what was replaced. */
static void commit(struct hvmi_detour *detour, uint8_t added)
{
	struct hvmi_detour_info info = { .size = sizeof(info) };
	uint8_t code[9] = { 0x48, 0x83, 0xc7, added, 0xe9 };
	GOOD(hvmi_detour_get_info(detour, &info));
	int32_t distance = (int32_t)(info.moved - (info.code + sizeof(code)));
	memcpy(code + 5, &distance, sizeof(distance));
	const int64_t end = now_ms() + options.timeout_ms;
	int rc;
	while ((rc = hvmi_detour_commit(detour, code, sizeof(code), journal, &error)) == -EBUSY &&
	       now_ms() < end)
		nap_ms(2);
	GOOD(rc);
}

static void undo(struct hvmi_detour *detour)
{
	const int64_t end = now_ms() + options.timeout_ms;
	int rc;
	while ((rc = hvmi_detour_undo(detour, &error)) == -EBUSY && now_ms() < end)
		nap_ms(2);
	GOOD(rc);
}

static uint64_t steps(uint64_t argument)
{
	return guest_call(last_vcpu(), kernel_place(PLACE_steps), argument, 0, 0).values[0];
}

/* In all the places where it is. */
static void code_is_whole(void)
{
	const uint64_t copies[] = { machine.box.code, machine.box.exec, machine.box.kcode };
	uint8_t now[PROBE_CODE_BYTES];
	for (size_t i = 0; i < sizeof(copies) / sizeof(*copies); i++) {
		guest_read(copies[i], now, machine.box.code_bytes);
		for (uint32_t at = 0; at < machine.box.code_bytes; at++)
			if (now[at] != machine.code[at])
				fail("code at 0x%llx is 0x%02x and not 0x%02x",
				     (unsigned long long)copies[i] + at, now[at], machine.code[at]);
	}
}

static void detour(void)
{
	struct hvmi_detour_info info = { .size = sizeof(info) };
	need_kernel();
	make_directory();
	GOOD(hvmi_journal_open(machine.vm, directory, 0, &journal, &error));
	struct hvmi_detour *d = detour_of(kernel_place(PLACE_steps), kernel_place(PLACE_spare),
					  SPARE_BYTES);
	code_is_whole();
	for (uint64_t i = 0; i < 5; i++) {
		commit(d, 100);
		SAME(steps(i), i + 106);
		undo(d);
		SAME(steps(i), i + 6);
		code_is_whole();
	}
	GOOD(hvmi_detour_get_info(d, &info));
	remark("%u bytes replaced by a jump of %u", info.replaced, info.jump_len);
	hvmi_detour_destroy(d);
	hvmi_journal_close(journal);
	remove_directory();
}

/* What the kernel calls at each tick of its clock. */
static uint64_t tick(void)
{
	static const char *const names[] = { "scheduler_tick", "sched_tick" };
	const struct hvmi_profile *profile = hvmi_os_profile(machine.os);
	uint64_t gva;
	for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++)
		if (hvmi_profile_symbol(profile, names[i], &gva, NULL) == 0)
			return gva;
	skip("the kernel has no function that is known to be called at each tick");
}

static struct probe_result check_guest(void)
{
	start_command(PROBE_CHECK, 0, 0, 0, 0, 0);
	struct probe_result result = end_call();
	SAME(result.values[CHECK_TICKS], 0);
	return result;
}

/* In padding of the kernel's own text; the guest itself compares its text. */
static void detour_hot(void)
{
	need_kernel();
	need_probe(PROBE_CHECKS);
	make_directory();
	GOOD(hvmi_journal_open(machine.vm, directory, 0, &journal, &error));
	struct hvmi_detour *d = detour_of(tick(), 0, 0);
	struct probe_result before = check_guest();
	commit(d, 0);
	CHECK(check_guest().values[CHECK_TEXT] > before.values[CHECK_TEXT]);
	undo(d);
	SAME(check_guest().values[CHECK_TEXT], before.values[CHECK_TEXT]);
	hvmi_detour_destroy(d);
	hvmi_journal_close(journal);
	remove_directory();
}

static void on_hook(void *context, const struct hvmi_hook_event *event, struct hvmi_verdict *verdict)
{
	(void)context;
	(void)event;
	(void)verdict;
}

/* Hooks that are hit while they come and go. */
static void hook_for_a_while(struct hvmi_hooks *hooks, unsigned i)
{
	struct hvmi_hook *hook[2];
	struct hvmi_hook_request r = { .size = sizeof(r), .kind = HVMI_HOOK_EXECUTE,
				       .space = machine.space, .callback = on_hook,
				       .address = exec_place(PLACE_steps_2) };
	GOOD(hvmi_hooks_begin(hooks, &error));
	GOOD(hvmi_hook_add(hooks, &r, &hook[0], &error));
	r.address = user_place(PLACE_work);
	GOOD(hvmi_hook_add(hooks, &r, &hook[1], &error));
	GOOD(hvmi_hooks_commit(hooks, &error));
	start_call(i % (last_vcpu() + 1), exec_place(PLACE_steps), i, 0, 0);
	while (!call_done())
		CHECK(hvmi_hooks_dispatch(hooks, 20, &error) >= 0);
	SAME(end_call().values[0], i + 6);
	GOOD(hvmi_hooks_begin(hooks, &error));
	GOOD(hvmi_hook_remove(hook[0], &error));
	GOOD(hvmi_hook_remove(hook[1], &error));
	GOOD(hvmi_hooks_commit(hooks, &error));
}

static bool can_hook(void)
{
	struct hvmi_hook_plan plan = { .size = sizeof(plan) };
	const struct hvmi_hook_request r = { .size = sizeof(r), .kind = HVMI_HOOK_EXECUTE,
					     .space = machine.space, .callback = on_hook };
	return !options.no_int3 && hvmi_hook_plan_request(machine.vm, &r, &plan, NULL) == 0;
}

void place_until_killed(void)
{
	struct hvmi_hooks_options o = { .size = sizeof(o) };
	struct hvmi_hooks *hooks = NULL;
	need_kernel();
	GOOD(hvmi_journal_open(machine.vm, options.place, 0, &journal, &error));
	o.journal = journal;
	if (can_hook()) {
		open_events();
		GOOD(hvmi_hooks_open(machine.events, &o, &hooks, &error));
	}
	struct hvmi_detour *own = detour_of(kernel_place(PLACE_steps), kernel_place(PLACE_spare),
					    SPARE_BYTES);
	struct hvmi_detour *hot = detour_of(tick(), 0, 0);
	for (unsigned i = 0;; i++) {
		puts(ROUND);
		fflush(stdout);
		commit(own, 100);
		commit(hot, 0);
		if (hooks)
			hook_for_a_while(hooks, i);
		else
			SAME(steps(i), i + 106);
		undo(hot);
		undo(own);
	}
}

/* This program once more, as one that places; its output in a pipe. */
static pid_t start_placing(FILE **ret)
{
	const char *arguments[16] = { "hvmi-conformance", options.target, "--place", directory };
	int ends[2], n = 4;
	if (options.module_dir) {
		arguments[n++] = "--module-dir";
		arguments[n++] = options.module_dir;
	}
	if (options.no_int3)
		arguments[n++] = "--no-int3";
	if (pipe(ends))
		fail("pipe");
	fflush(stdout);
	pid_t pid = fork();
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		dup2(ends[1], 1);
		close(ends[0]);
		close(ends[1]);
		execv("/proc/self/exe", (char **)arguments);
		_exit(127);
	}
	close(ends[1]);
	*ret = fdopen(ends[0], "r");
	if (pid < 0 || !*ret)
		fail("fork");
	return pid;
}

/* Until the next round begins; what else it says is passed on. false: it has ended. */
static bool next_round(FILE *out)
{
	char line[512];
	while (fgets(line, sizeof(line), out)) {
		line[strcspn(line, "\n")] = '\0';
		if (strcmp(line, ROUND) == 0)
			return true;
		remark("the one that places: %s", line);
	}
	return false;
}

/* Killed in its third round or so, after that part of the time that one takes. 77: it cannot place. */
static int place_and_kill(unsigned percent)
{
	FILE *out;
	int status;
	pid_t pid = start_placing(&out);
	/* The first one takes longer. */
	bool ready = next_round(out) && next_round(out);
	const int64_t begun = now_ms();
	ready = ready && next_round(out);
	if (ready)
		nap_ms((int)((now_ms() - begun) * percent / 100));
	kill(pid, SIGKILL);
	waitpid(pid, &status, 0);
	fclose(out);
	if (ready && WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL)
		return 0;
	return !ready && WIFEXITED(status) && WEXITSTATUS(status) == 77 ? 77 : -1;
}

static uint32_t recover(void)
{
	struct hvmi_recovered recovered = { .size = sizeof(recovered) };
	const int64_t end = now_ms() + options.timeout_ms;
	uint32_t restored = 0;
	int rc;
	do {
		rc = hvmi_recover(machine.vm, directory, machine.os, &recovered, &error);
		restored += recovered.restored;
	} while (rc == -EBUSY && now_ms() < end && (nap_ms(2), true));
	GOOD(rc);
	SAME(recovered.changed, 0);
	SAME(recovered.failed, 0);
	return restored;
}

static void killed(void)
{
	const unsigned rounds = options.cycles < 100 ? 4 : 12;
	uint8_t code[PROBE_CODE_BYTES];
	uint32_t restored = 0;
	need_kernel();
	need_probe(PROBE_CHECKS);
	make_directory();
	memcpy(code, machine.code, sizeof(code));
	uint64_t before = check_guest().values[CHECK_TEXT];
	for (unsigned i = 0; i < rounds; i++) {
		/* There is one client at a time, of some machines. */
		machine_close(&machine);
		int how = place_and_kill((100 * i + 50) / rounds);
		GOOD(machine_open(&machine, options.target, HVMI_OPEN_WRITE));
		if (how == 77) {
			remove_directory();
			skip("nothing can be placed");
		}
		SAME(how, 0);
		need_kernel();
		restored += recover();
		/* When the machine was opened it may have had int3s in it. */
		memcpy(machine.code, code, sizeof(code));
		code_is_whole();
		/* Whatever the dead one had begun. */
		end_call();
		SAME(steps(i), i + 6);
		SAME(guest_call(0, exec_place(PLACE_steps), i, 0, 0).values[0], i + 6);
	}
	SAME(check_guest().values[CHECK_TEXT], before);
	remark("%u programs were killed, %u patches put back", rounds, restored);
	CHECK(restored > 0);
	remove_directory();
}

const struct test place_tests[] = {
	{ "detour", detour }, { "detour-hot", detour_hot }, { "killed", killed }, { NULL, NULL },
};
