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
	pthread_barrier_t *start;
	double cpu_ns, begun, ended;	/* the latter: now_ns() */
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
		if (i == READS / 8) {
			pthread_barrier_wait(r->start);
			start = thread_ns();
			r->begun = now_ns();
		}
		state ^= state << 13;
		state ^= state >> 7;
		state ^= state << 17;
		hvmi_space_read(space, r->gva + (state % r->len & ~7ull), &value, 8, NULL);
		sum += value;
	}
	r->cpu_ns = thread_ns() - start;
	r->ended = now_ns();
	sink(sum);
	hvmi_space_destroy(space);
	return NULL;
}

/* `count` readers at once: the processor time of the slowest, and the time that all took. */
static void read_at_once(struct image *image, struct hvmi_vm *vm, uint32_t count, double *cpu_ret,
			 double *wall_ret)
{
	struct reader r[2];
	pthread_t threads[2];
	pthread_barrier_t start;
	pthread_barrier_init(&start, NULL, count);
	for (uint32_t k = 0; k < count; k++) {
		r[k] = (struct reader){ .image = image, .vm = vm, .start = &start, .len = MIB,
					.gva = image->direct_map + 256 * MIB };
		pthread_create(&threads[k], NULL, reader, &r[k]);
	}
	double begun = 0, ended = 0;
	*cpu_ret = 0;
	for (uint32_t k = 0; k < count; k++) {
		pthread_join(threads[k], NULL);
		begun = k && begun < r[k].begun ? begun : r[k].begun;
		ended = r[k].ended > ended ? r[k].ended : ended;
		*cpu_ret = r[k].cpu_ns > *cpu_ret ? r[k].cpu_ns : *cpu_ret;
	}
	*wall_ret = ended - begun;
	pthread_barrier_destroy(&start);
}

/* Two readers at once, each of as many reads as one alone: 1 is perfect scaling. */
static void parallel(struct image *image, struct hvmi_vm *vm, const char *name)
{
	double both[RUNS], alone[RUNS], both_wall[RUNS], alone_wall[RUNS];
	char wall[64];
	cpu_set_t all, before;
	sched_getaffinity(0, sizeof(before), &before);
	CPU_ZERO(&all);
	for (int cpu = 0; cpu < 64; cpu++)
		CPU_SET(cpu, &all);
	sched_setaffinity(0, sizeof(all), &all);
	for (int i = 0; i < RUNS; i++) {
		read_at_once(image, vm, 1, &alone[i], &alone_wall[i]);
		read_at_once(image, vm, 2, &both[i], &both_wall[i]);
	}
	sched_setaffinity(0, sizeof(before), &before);
	report(name, both, alone, READS, "one reader alone; processor time");
	snprintf(wall, sizeof(wall), "%s_wall", name);
	report(wall, both_wall, alone_wall, READS, "one reader alone; 2 times its reads in this time");
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
