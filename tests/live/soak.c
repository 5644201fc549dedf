/* SPDX-License-Identifier: Apache-2.0 */
/*
 * soak TARGET CYCLES: hooks come and go on kernel functions that a running Linux guest calls all the time,
 * so often, and on until a tenth as many hits were told: a busy host gives the guest little time for each.
 * Prints "cycles N hits N"; what became of the guest, others look at.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <hvmi/hvmi.h>

static const char *const functions[] = {
	"__schedule", "scheduler_tick", "ktime_get", "__x64_sys_getppid", "__x64_sys_openat", "do_syscall_64",
	"update_process_times", "__x64_sys_getuid", "try_to_wake_up", "handle_mm_fault", "_raw_spin_lock",
	"wake_up_process",
};
#define FUNCTIONS (sizeof(functions) / sizeof(*functions))

static struct hvmi_error err;

static void check(int rc, const char *what)
{
	if (rc >= 0)
		return;
	fprintf(stderr, "soak: %s: %s\n", what, err.text);
	exit(1);
}

static void on_hook(void *context, const struct hvmi_hook_event *event, struct hvmi_verdict *verdict)
{
	(void)event;
	(void)verdict;
	++*(uint64_t *)context;
}

/* Some come, all that were there go, each in one transaction. */
static void cycle(struct hvmi_hooks *hooks, struct hvmi_space *kernel, const uint64_t *places,
		  struct hvmi_hook **live, uint32_t *random, uint64_t *hits)
{
	check(hvmi_hooks_begin(hooks, &err), "begin");
	for (size_t i = 0; i < FUNCTIONS; i++) {
		*random = *random * 1664525 + 1013904223;
		if (live[i]) {
			check(hvmi_hook_remove(live[i], &err), functions[i]);
			live[i] = NULL;
		} else if (places[i] && *random >> 30 == 0) {
			const struct hvmi_hook_request r = {
				.size = sizeof(r), .kind = HVMI_HOOK_EXECUTE, .space = kernel,
				.address = places[i], .callback = on_hook, .context = hits,
			};
			check(hvmi_hook_add(hooks, &r, &live[i], &err), functions[i]);
		}
	}
	check(hvmi_hooks_commit(hooks, &err), "commit");
	check(hvmi_hooks_dispatch(hooks, 1, &err), "dispatch");
}

int main(int argc, char **argv)
{
	const struct hvmi_open_options options = { .size = sizeof(options), .flags = HVMI_OPEN_WRITE };
	struct hvmi_vm *vm;
	struct hvmi_os *os;
	struct hvmi_space *kernel;
	struct hvmi_events *events;
	struct hvmi_hooks *hooks;
	struct hvmi_hook *live[FUNCTIONS] = { NULL };
	uint64_t places[FUNCTIONS] = { 0 }, hits = 0;
	uint32_t random = 1;
	if (argc != 3)
		return 2;
	unsigned long cycles = strtoul(argv[2], NULL, 0);
	check(hvmi_open(argv[1], &options, &vm, &err), argv[1]);
	check(hvmi_os_attach(vm, NULL, &os, &err), argv[1]);
	check(hvmi_os_kernel_space(os, &kernel, &err), "the kernel's space");
	size_t found = 0;
	for (size_t i = 0; i < FUNCTIONS; i++)
		found += hvmi_profile_symbol(hvmi_os_profile(os), functions[i], &places[i], &err) == 0;
	if (found < FUNCTIONS / 2)
		check(-1, "the functions' symbols");
	check(hvmi_events_open(vm, NULL, &events, &err), "events");
	check(hvmi_hooks_open(events, NULL, &hooks, &err), "hooks");
	unsigned long done = 0;
	for (; done < cycles || (hits <= cycles / 10 && done < 20 * cycles); done++)
		cycle(hooks, kernel, places, live, &random, &hits);
	hvmi_hooks_close(hooks);
	hvmi_events_close(events);
	printf("cycles %lu hits %" PRIu64 "\n", done, hits);
	hvmi_space_destroy(kernel);
	hvmi_os_detach(os);
	hvmi_close(vm);
	return 0;
}
