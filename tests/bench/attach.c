/* SPDX-License-Identifier: Apache-2.0 */
/* What attaching costs. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench.h"

/* The least that a search without knowledge does: look at every byte once. */
static double full_pass(struct hvmi_vm *vm)
{
	static uint8_t copy[1 << 20];
	volatile size_t found = 0;
	double start = now_ns();
	struct hvmi_range r;
	for (uint32_t i = 0; hvmi_vm_range(vm, i, &r) == 0; i++)
		for (uint64_t done = 0; done < r.len; done += sizeof(copy)) {
			size_t n = r.len - done < sizeof(copy) ? r.len - done : sizeof(copy);
			const void *bytes;
			if (hvmi_vm_map(vm, r.gpa + done, n, &bytes)) {
				hvmi_vm_read(vm, r.gpa + done, copy, n, &n);
				bytes = copy;
			}
			found = found + (memchr(bytes, 0x9f, n) != NULL);
			for (const uint8_t *p = bytes; (p = memchr(p, 0x9f, n - (size_t)(p - (const uint8_t *)bytes)));)
				p++;
		}
	return now_ns() - start;
}

void bench_attach(const char *target)
{
	double ns[RUNS], base[RUNS];
	struct hvmi_error err;
	int rc = 0;
	for (int i = -1; i < RUNS; i++) {
		struct hvmi_vm *vm = open_image(target, NULL);
		double start = now_ns();
		struct hvmi_os *os = NULL;
		rc = hvmi_os_attach(vm, NULL, &os, &err);
		double stop = now_ns(), pass = full_pass(vm);
		if (i >= 0) {
			ns[i] = stop - start;
			base[i] = pass;
		}
		hvmi_os_detach(os);
		hvmi_close(vm);
	}
	report(rc ? "attach_not_found" : "attach", ns, base, 1, "memchr over all RAM");
	if (rc)
		fail("nothing more can be measured", &err);
}

/* Does attaching and listing work when private memory may only grow by so much? */
static bool works_within(const char *target, size_t bytes)
{
	pid_t child = fork();
	if (child == 0) {
		char line[256];
		size_t data = 0;
		FILE *f = fopen("/proc/self/status", "r");
		while (f && fgets(line, sizeof(line), f))
			sscanf(line, "VmData: %zu kB", &data);
		struct rlimit limit = { data * 1024 + bytes, RLIM_INFINITY };
		struct hvmi_vm *vm;
		struct hvmi_os *os;
		if (setrlimit(RLIMIT_DATA, &limit) || hvmi_open(target, NULL, &vm, NULL) ||
		    hvmi_os_attach(vm, NULL, &os, NULL))
			_exit(1);
		struct hvmi_type task = { .size = sizeof(task) };
		_exit(hvmi_profile_find_type(hvmi_os_profile(os), "struct task_struct", &task,
					     NULL) != 0 || list_processes(os) == 0);
	}
	int status = 1;
	waitpid(child, &status, 0);
	return status == 0;
}

void bench_memory(const char *target)
{
	size_t low = 0, high = 256;	/* MiB */
	while (high - low > 1) {
		size_t middle = (low + high) / 2;
		if (works_within(target, middle << 20))
			high = middle;
		else
			low = middle;
	}
	report_kib("attach_private_kib", high * 1024,
		   "private memory in which attaching and listing works (RLIMIT_DATA)");
}
