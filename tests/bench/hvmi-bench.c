/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What attaching and listing cost on an image, each next to a hand-written baseline in the same run.
 * Prints figures; judges nothing.
 */
#include <getopt.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <hvmi/hvmi.h>

#define RUNS 15

static bool json;

static double now_ns(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;
	return x < y ? -1 : x > y;
}

static double median(double *values, size_t count)
{
	qsort(values, count, sizeof(*values), compare);
	return values[count / 2];
}

static void report(const char *name, double ns, double baseline_ns, const char *baseline)
{
	if (json)
		printf("{\"name\":\"%s\",\"ns\":%.0f,\"baseline_ns\":%.0f,\"ratio\":%.3f}\n", name, ns,
		       baseline_ns, ns / baseline_ns);
	else
		printf("%-18s %12.3f ms  baseline %12.3f ms  ratio %7.3f  (%s)\n", name, ns / 1e6,
		       baseline_ns / 1e6, ns / baseline_ns, baseline);
}

static _Noreturn void fail(const char *what, const struct hvmi_error *err)
{
	fprintf(stderr, "hvmi-bench: %s: %s\n", what, err->text);
	exit(1);
}

static struct hvmi_vm *open_image(const char *target)
{
	struct hvmi_vm *vm;
	struct hvmi_error err;
	if (hvmi_open(target, NULL, &vm, &err))
		fail(target, &err);
	return vm;
}

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

static void bench_attach(const char *target)
{
	double ns[RUNS], base[RUNS];
	struct hvmi_error err;
	int rc = 0;
	for (int i = -1; i < RUNS; i++) {
		struct hvmi_vm *vm = open_image(target);
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
	report(rc ? "attach_not_found" : "attach", median(ns, RUNS), median(base, RUNS),
	       "memchr over all RAM");
	if (rc)
		fail("nothing more can be measured", &err);
}

static uint32_t list(struct hvmi_os *os)
{
	struct hvmi_task_iter *iter;
	struct hvmi_task task = { .size = sizeof(task) };
	struct hvmi_error err;
	uint32_t count = 0;
	if (hvmi_task_iter_create(os, 0, &iter, &err))
		fail("processes", &err);
	while (hvmi_task_next(iter, &task, &err) == 1)
		count++;
	hvmi_task_iter_destroy(iter);
	return count;
}

/* The same list by pointers into the image, nothing checked: pid, state, parent, name. */
struct chase {
	const uint8_t *image, *ram;
	uint64_t image_gva, image_len, direct_map, ram_len;
	uint64_t tasks, pid, parent, comm, init_task;
};

static const uint8_t *chase_pointer(const struct chase *c, uint64_t gva)
{
	return gva - c->image_gva < c->image_len ? c->image + (gva - c->image_gva) :
						   c->ram + (gva - c->direct_map) % c->ram_len;
}

static uint64_t chase_load(const struct chase *c, uint64_t gva)
{
	uint64_t value;
	memcpy(&value, chase_pointer(c, gva), sizeof(value));
	return value;
}

static uint32_t chase_list(const struct chase *c)
{
	uint32_t count = 0;
	volatile uint64_t sink = 0;
	uint64_t head = c->init_task + c->tasks;
	for (uint64_t at = chase_load(c, head); at != head && count < 100000;
	     at = chase_load(c, at), count++) {
		uint64_t task = at - c->tasks;
		char comm[16];
		memcpy(comm, chase_pointer(c, task + c->comm), sizeof(comm));
		sink = sink + chase_load(c, task + c->pid) +
		       chase_load(c, chase_load(c, task + c->parent) + c->pid) + (uint8_t)comm[0];
	}
	return count;
}

static uint64_t offset_of(struct hvmi_os *os, const char *path)
{
	struct hvmi_member member = { .size = sizeof(member) };
	struct hvmi_error err;
	if (hvmi_profile_member(hvmi_os_profile(os), "task_struct", path, &member, &err))
		fail(path, &err);
	return member.hops[0];
}

static void bench_list(struct hvmi_vm *vm, struct hvmi_os *os)
{
	struct hvmi_os_info info = { .size = sizeof(info) };
	struct hvmi_vm_info machine = { .size = sizeof(machine) };
	struct hvmi_space *space;
	struct hvmi_error err;
	uint64_t at;
	const void *image, *ram;
	struct hvmi_range low;
	hvmi_os_get_info(os, &info);
	hvmi_vm_get_info(vm, &machine);
	if (machine.ranges != 1 || hvmi_vm_range(vm, 0, &low) || low.gpa ||
	    hvmi_vm_map(vm, info.kernel_gpa, info.kernel_len, &image) ||
	    hvmi_vm_map(vm, 0, low.len, &ram)) {
		fprintf(stderr, "hvmi-bench: the list's baseline wants a raw image from 0\n");
		return;
	}
	struct chase c = { .image = image, .ram = ram, .image_gva = info.kernel_gva,
			   .image_len = info.kernel_len, .ram_len = low.len,
			   .tasks = offset_of(os, "tasks"), .pid = offset_of(os, "pid"),
			   .parent = offset_of(os, "real_parent"), .comm = offset_of(os, "comm") };
	if (hvmi_profile_symbol(hvmi_os_profile(os), "init_task", &c.init_task, &err) ||
	    hvmi_profile_symbol(hvmi_os_profile(os), "page_offset_base", &at, &err) ||
	    hvmi_os_kernel_space(os, &space, &err))
		fail("the list's baseline", &err);
	hvmi_space_read(space, at, &c.direct_map, sizeof(c.direct_map), NULL);
	hvmi_space_destroy(space);

	double ns[RUNS], base[RUNS];
	uint32_t count = 0, chased = 0;
	for (int i = -1; i < RUNS; i++) {
		double start = now_ns();
		count = list(os);
		double middle = now_ns();
		chased = chase_list(&c);
		if (i >= 0) {
			ns[i] = middle - start;
			base[i] = now_ns() - middle;
		}
	}
	char what[96];
	snprintf(what, sizeof(what), "%u processes with 12 fields; a raw chase of %u with 3", count,
		 chased);
	report("list_processes", median(ns, RUNS), median(base, RUNS), what);
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
					     NULL) != 0 || list(os) == 0);
	}
	int status = 1;
	waitpid(child, &status, 0);
	return status == 0;
}

static void bench_memory(const char *target)
{
	size_t low = 0, high = 256;	/* MiB */
	while (high - low > 1) {
		size_t middle = (low + high) / 2;
		if (works_within(target, middle << 20))
			high = middle;
		else
			low = middle;
	}
	if (json)
		printf("{\"name\":\"attach_peak_private_kib\",\"kib\":%zu}\n", high * 1024);
	else
		printf("%-18s %12zu MiB private suffice to attach and list (RLIMIT_DATA)\n",
		       "attach_peak", high);
}

int main(int argc, char **argv)
{
	static const struct option options[] = { { "json", no_argument, NULL, 'j' },
						 { "help", no_argument, NULL, 'h' },
						 { 0 } };
	for (int c; (c = getopt_long(argc, argv, "jh", options, NULL)) != -1;) {
		if (c != 'j') {
			printf("usage: hvmi-bench IMAGE [--json]\n");
			return c == 'h' ? 0 : 2;
		}
		json = true;
	}
	if (optind + 1 != argc) {
		fprintf(stderr, "usage: hvmi-bench IMAGE [--json]\n");
		return 2;
	}
	const char *target = argv[optind];
	bench_memory(target);
	bench_attach(target);
	struct hvmi_vm *vm = open_image(target);
	struct hvmi_os *os;
	struct hvmi_error err;
	if (hvmi_os_attach(vm, NULL, &os, &err))
		fail(target, &err);
	bench_list(vm, os);
	hvmi_os_detach(os);
	hvmi_close(vm);
	return 0;
}
