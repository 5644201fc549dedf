/* SPDX-License-Identifier: Apache-2.0 */
/*
 * quiet IMAGE: IMAGE is a raw image, in whose folder there is guest.elf with registers. Every thread of a
 * guest that stands still is in the scheduler, but for those that run; those that sleep are in the
 * function that they sleep in; nobody is in one that ends the guest.
 */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <hvmi/hvmi.h>

#define OCCUPANTS 4096

static struct hvmi_error err;
static struct hvmi_vm *vm;
static struct hvmi_os *os;
static struct hvmi_occupant who[OCCUPANTS];
static int failed;

static void check(bool good, const char *what, const char *name, long number)
{
	if (good)
		return;
	printf("not ok - %s: %s, %ld\n", name, what, number);
	failed++;
}

static void open_image(const char *path)
{
	if (hvmi_open(path, NULL, &vm, &err) || hvmi_os_attach(vm, NULL, &os, &err)) {
		printf("%s: %s\n", path, err.text);
		exit(1);
	}
}

/* Who is behind the first byte of a function. */
static int ask(const char *name)
{
	struct hvmi_symbol s = { .size = sizeof(s) };
	struct hvmi_code code = { 0 };
	uint32_t cursor = 0;
	if (hvmi_profile_symbol(hvmi_os_profile(os), name, &code.gva, &err)) {
		printf("%s\n", err.text);
		exit(1);
	}
	while (hvmi_profile_next_symbol(hvmi_os_profile(os), &cursor, &s) == 1 && s.gva <= code.gva)
		;
	code.gva++;
	code.len = s.gva - code.gva;
	return hvmi_quiet_check(os, &code, 1, who, OCCUPANTS, &err);
}

static bool is_among(int count, uint64_t object)
{
	for (int i = 0; i < count; i++)
		if (who[i].object == object && who[i].kind == HVMI_OCCUPANT_THREAD)
			return true;
	return false;
}

static void check_scheduler(void)
{
	struct hvmi_task_iter *iter;
	struct hvmi_task task = { .size = sizeof(task) };
	int count = ask("__schedule"), threads = 0, idle = 0;
	check(count > 0 && count < OCCUPANTS, err.text, "__schedule", count);
	for (int i = 0; i < count; i++)
		idle += strncmp(who[i].name, "swapper/", 8) == 0;
	if (hvmi_task_iter_create(os, HVMI_TASKS_THREADS, &iter, &err)) {
		printf("%s\n", err.text);
		exit(1);
	}
	while (hvmi_task_next(iter, &task, &err) == 1) {
		threads++;
		if (task.state != 'R' && task.state != 'Z')
			check(is_among(count, task.object), "a thread that sleeps is not there",
			      task.name, task.pid);
	}
	hvmi_task_iter_destroy(iter);
	check(threads > 50, "threads", "list", threads);
	/* Two vCPUs: one spins in user mode, whose idle task waits. */
	check(idle >= 1, "idle tasks", "swapper", idle);
	printf("%d threads, %d words into __schedule\n", threads, count);
}

static void check_sleepers(void)
{
	int count = ask("do_nanosleep"), sleeps = 0;
	for (int i = 0; i < count; i++) {
		sleeps += strcmp(who[i].name, "sleep") == 0;
		check(who[i].kind == HVMI_OCCUPANT_THREAD && who[i].pid > 1, "no thread",
		      who[i].name, who[i].pid);
	}
	check(sleeps > 0, "nobody sleeps", "do_nanosleep", count);
}

int main(int argc, char **argv)
{
	static const char *const cold[] = { "panic", "kernel_halt", "emergency_restart" };
	char path[4096];
	if (argc < 2)
		return 2;
	/* Nobody knows where vCPUs are that have no registers. */
	open_image(argv[1]);
	check(ask("panic") == -ENOTSUP, err.text, "an image without registers", 0);
	hvmi_os_detach(os);
	hvmi_close(vm);
	const char *slash = strrchr(argv[1], '/');
	snprintf(path, sizeof(path), "%.*sguest.elf", slash ? (int)(slash - argv[1]) + 1 : 0, argv[1]);
	open_image(path);
	check_scheduler();
	check_sleepers();
	for (size_t i = 0; i < sizeof(cold) / sizeof(*cold); i++)
		check(ask(cold[i]) == 0, err.text, cold[i], 0);
	hvmi_os_detach(os);
	hvmi_close(vm);
	return failed != 0;
}
