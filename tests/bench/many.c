/* SPDX-License-Identifier: Apache-2.0 */
/* Many readers of one machine, and many machines in one process. */
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "bench.h"

#define READS 4000000u
#define IMAGES 1000u

struct reader {
	struct image *image;
	struct hvmi_vm *vm;
	uint64_t gva, len;
	double cpu_ns;
};

static double thread_ns(void)
{
	struct timespec t;
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static void *reader(void *context)
{
	struct reader *r = context;
	struct hvmi_space *space = space_of(r->vm, &r->image->kernel, 0);
	uint64_t state = 88172645463325252ull, sum = 0;
	double start = 0;
	for (uint32_t i = 0; i < READS + READS / 8; i++) {
		uint64_t value = 0;
		if (i == READS / 8)
			start = thread_ns();
		state ^= state << 13;
		state ^= state >> 7;
		state ^= state << 17;
		hvmi_space_read(space, r->gva + (state % r->len & ~7ull), &value, 8, NULL);
		sum += value;
	}
	r->cpu_ns = thread_ns() - start;
	sink(sum);
	hvmi_space_destroy(space);
	return NULL;
}

/* Processor time of one reader alone, and of the slower of two at once: 1 is perfect scaling. */
static void parallel(struct image *image, struct hvmi_vm *vm, const char *name)
{
	double both[RUNS], alone[RUNS];
	cpu_set_t all, before;
	sched_getaffinity(0, sizeof(before), &before);
	CPU_ZERO(&all);
	for (int cpu = 0; cpu < 64; cpu++)
		CPU_SET(cpu, &all);
	sched_setaffinity(0, sizeof(all), &all);
	for (int i = 0; i < RUNS; i++) {
		struct reader r[3];
		pthread_t threads[2];
		for (int k = 0; k < 3; k++)
			r[k] = (struct reader){ image, vm, image->direct_map + 256 * MIB, MIB, 0 };
		reader(&r[2]);
		for (int k = 0; k < 2; k++)
			pthread_create(&threads[k], NULL, reader, &r[k]);
		for (int k = 0; k < 2; k++)
			pthread_join(threads[k], NULL);
		both[i] = r[0].cpu_ns > r[1].cpu_ns ? r[0].cpu_ns : r[1].cpu_ns;
		alone[i] = r[2].cpu_ns;
	}
	sched_setaffinity(0, sizeof(before), &before);
	report(name, both, alone, READS, "one reader alone; processor time");
}

void bench_parallel(struct image *image)
{
	if (!image->direct_map || image->len < 512 * MIB)
		return;
	parallel(image, image->vm, "read8_two_threads");
	parallel(image, image->running, "read8_two_threads_running");
}

static uint64_t private_kib(void)
{
	char line[256];
	unsigned long long kib = 0;
	FILE *f = fopen("/proc/self/status", "re");
	while (f && fgets(line, sizeof(line), f))
		if (sscanf(line, "RssAnon: %llu kB", &kib) == 1)
			break;
	if (f)
		fclose(f);
	return kib;
}

/* 1,000 images of 64 MiB, sparse, all open and read through a space each. */
void bench_handles(void)
{
	struct rlimit files;
	getrlimit(RLIMIT_NOFILE, &files);
	files.rlim_cur = files.rlim_max;
	setrlimit(RLIMIT_NOFILE, &files);
	static struct hvmi_vm *vms[IMAGES];
	static struct hvmi_space *spaces[IMAGES];
	char path[] = "/tmp/hvmi-bench-XXXXXX";
	int fd = mkstemp(path);
	if (fd < 0 || ftruncate(fd, 64 * MIB) != 0)
		return;
	uint64_t pml4[3] = { 0x2003, 0x3003, 0x83 };
	for (int i = 0; i < 3; i++)
		if (pwrite(fd, &pml4[i], 8, 0x1000 * (i + 1)) != 8)
			return;
	uint64_t before = private_kib(), sum = 0;
	for (uint32_t i = 0; i < IMAGES; i++) {
		struct hvmi_space_config config = { .size = sizeof(config), .root = 0x1000,
						    .paging = HVMI_PAGING_X86_4LEVEL };
		vms[i] = open_image(path, NULL);
		spaces[i] = space_of(vms[i], &config, 0);
	}
	for (uint32_t i = 0; i < IMAGES; i++) {
		uint64_t value = 1;
		if (hvmi_space_read(spaces[i], 0x1000, &value, 8, NULL) || value != 0x2003) {
			fprintf(stderr, "hvmi-bench: image %u reads wrong\n", i);
			exit(1);
		}
		sum += value;
	}
	sink(sum);
	report_kib("handle_private_kib", (private_kib() - before) / IMAGES,
		   "private memory of each of 1,000 open images, with a space that was read through");
	for (uint32_t i = 0; i < IMAGES; i++) {
		hvmi_space_destroy(spaces[i]);
		hvmi_close(vms[i]);
	}
	close(fd);
	unlink(path);
}
