/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What it costs to read a guest, each figure next to a hand-written baseline in the same run. Prints
 * figures; judges nothing. docs/performance.md has results.
 */
#include <fcntl.h>
#include <getopt.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "bench.h"

static bool json;

double now_ns(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static int ascending(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;
	return x < y ? -1 : x > y;
}

double median(double *values, uint32_t count)
{
	qsort(values, count, sizeof(*values), ascending);
	return values[count / 2];
}

void report(const char *name, const double ns_runs[RUNS], const double base_runs[RUNS], double per,
	    const char *baseline)
{
	double runs[RUNS], base[RUNS];
	memcpy(runs, ns_runs, sizeof(runs));
	memcpy(base, base_runs, sizeof(base));
	double ns = median(runs, RUNS) / per, baseline_ns = median(base, RUNS) / per;
	if (json)
		printf("{\"name\":\"%s\",\"ns\":%.2f,\"baseline_ns\":%.2f,\"ratio\":%.3f}\n", name,
		       ns, baseline_ns, ns / baseline_ns);
	else
		printf("%-26s %14.2f ns  baseline %14.2f ns  ratio %7.3f  (%s)\n", name, ns,
		       baseline_ns, ns / baseline_ns, baseline);
	fflush(stdout);
}

void report_kib(const char *name, uint64_t kib, const char *what)
{
	if (json)
		printf("{\"name\":\"%s\",\"kib\":%llu}\n", name, (unsigned long long)kib);
	else
		printf("%-26s %14llu KiB  (%s)\n", name, (unsigned long long)kib, what);
	fflush(stdout);
}

void compare(const char *name, bench_fn run, bench_fn baseline, void *context, double per,
	     const char *what)
{
	double ns[RUNS], base[RUNS];
	/* By turns, so that what else the machine does meets both. */
	for (int i = -1; i < RUNS; i++) {
		double start = now_ns();
		run(context);
		double middle = now_ns();
		baseline(context);
		if (i >= 0) {
			ns[i] = middle - start;
			base[i] = now_ns() - middle;
		}
	}
	report(name, ns, base, per, what);
}

_Noreturn void fail(const char *what, const struct hvmi_error *err)
{
	fprintf(stderr, "hvmi-bench: %s: %s\n", what, err->text);
	exit(1);
}

struct hvmi_vm *open_image(const char *target, const struct hvmi_backend *backend)
{
	struct hvmi_open_options options = { .size = sizeof(options), .backend = backend };
	struct hvmi_vm *vm;
	struct hvmi_error err;
	if (hvmi_open(target, &options, &vm, &err))
		fail(target, &err);
	return vm;
}

struct hvmi_space *space_of(struct hvmi_vm *vm, const struct hvmi_space_config *config,
			    uint32_t flags)
{
	struct hvmi_space_config c = *config;
	struct hvmi_space *space;
	struct hvmi_error err;
	c.flags |= flags;
	if (hvmi_space_create(vm, &c, &space, &err))
		fail("space", &err);
	return space;
}

/* false: no raw image, so there is nothing that a pointer chase could be made in. */
static bool take_image(struct image *image, const char *path)
{
	struct hvmi_vm_info info = { .size = sizeof(info) };
	struct hvmi_range range;
	struct hvmi_error err;
	struct stat file;
	image->path = path;
	image->vm = open_image(path, NULL);
	hvmi_vm_get_info(image->vm, &info);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (info.ranges != 1 || hvmi_vm_range(image->vm, 0, &range) || range.gpa || fd < 0 ||
	    fstat(fd, &file) != 0 || (uint64_t)file.st_size != range.len) {
		fprintf(stderr, "hvmi-bench: the other baselines want a raw image from 0\n");
		return false;
	}
	image->len = range.len;
	image->bytes = mmap(NULL, image->len, PROT_READ, MAP_SHARED, fd, 0);
	close(fd);
	if (image->bytes == MAP_FAILED)
		return false;
	image->running = open_image(path, running_backend());
	if (hvmi_os_attach(image->vm, NULL, &image->os, &err))
		fail(path, &err);
	struct hvmi_space *space;
	uint64_t at;
	if (hvmi_os_kernel_space(image->os, &space, &err))
		fail("the kernel's space", &err);
	image->kernel.size = sizeof(image->kernel);
	hvmi_space_get_config(space, &image->kernel);
	if (hvmi_profile_symbol(hvmi_os_profile(image->os), "page_offset_base", &at, NULL) == 0)
		hvmi_space_read(space, at, &image->direct_map, sizeof(image->direct_map), NULL);
	hvmi_space_destroy(space);
	/* What a first touch of a mapped file costs is the kernel's; it is paid here. */
	for (uint64_t gpa = 0; gpa < image->len; gpa += PAGE) {
		uint8_t byte;
		hvmi_vm_read(image->vm, gpa, &byte, 1, NULL);
		hvmi_vm_read(image->running, gpa, &byte, 1, NULL);
		sink(image->bytes[gpa]);
	}
	return true;
}

/* Moving between processors costs more than what is measured. */
static void pin(void)
{
	cpu_set_t set;
	CPU_ZERO(&set);
	int cpu = sched_getcpu();
	if (cpu >= 0) {
		CPU_SET(cpu, &set);
		sched_setaffinity(0, sizeof(set), &set);
	}
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
	struct image image = { 0 };
	pin();
	bench_insn();
	bench_memory(target);
	bench_handles();
	bench_attach(target);
	if (take_image(&image, target)) {
		bench_reads(&image);
		bench_lists(&image);
		bench_search(&image);
		bench_parallel(&image);
	}
	/* Last: what it gives back would be there for the others without page faults. */
	bench_hooks();
	hvmi_os_detach(image.os);
	hvmi_close(image.running);
	hvmi_close(image.vm);
	return 0;
}
