/* SPDX-License-Identifier: Apache-2.0 */
/* What libhvmi takes longer than a bare loop of Xen's own calls, and than Debian's xen-access. */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <xenforeignmemory.h>

#include "../conformance/suite.h"

#define CHUNK_PAGES 512u
#define ROUNDS_MAX 64u

struct options options = { .timeout_ms = 120000 };
struct machine machine;
struct hvmi_error error;

static uint64_t now_ns(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static int compare(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
	return x < y ? -1 : x > y;
}

static uint64_t median(uint64_t *values, unsigned count)
{
	qsort(values, count, sizeof(*values), compare);
	return values[count / 2];
}

/* The first byte of each 2 MiB of the memory below `bytes`. */
static uint64_t map_ours(const char *target, uint64_t bytes)
{
	struct hvmi_vm *vm;
	GOOD(hvmi_open(target, NULL, &vm, &error));
	uint64_t begun = now_ns();
	for (uint64_t gpa = 0; gpa < bytes; gpa += CHUNK_PAGES * PAGE) {
		uint8_t byte;
		GOOD(hvmi_vm_read(vm, gpa, &byte, 1, NULL));
	}
	uint64_t took = now_ns() - begun;
	hvmi_close(vm);
	return took;
}

static uint64_t map_bare(uint32_t domain, uint64_t bytes)
{
	static void *maps[4096];
	xenforeignmemory_handle *memory = xenforeignmemory_open(NULL, 0);
	xen_pfn_t frames[CHUNK_PAGES];
	int errors[CHUNK_PAGES];
	size_t count = 0;
	if (!memory)
		fail("xenforeignmemory_open");
	uint64_t begun = now_ns();
	for (uint64_t gfn = 0; gfn < bytes / PAGE && count < 4096; gfn += CHUNK_PAGES) {
		for (uint32_t i = 0; i < CHUNK_PAGES; i++)
			frames[i] = gfn + i;
		void *at = xenforeignmemory_map(memory, domain, PROT_READ, CHUNK_PAGES, frames, errors);
		if (!at)
			fail("xenforeignmemory_map");
		*(volatile uint8_t *)at;
		maps[count++] = at;
	}
	uint64_t took = now_ns() - begun;
	while (count)
		xenforeignmemory_unmap(memory, maps[--count], CHUNK_PAGES);
	xenforeignmemory_close(memory);
	return took;
}

static void map(const char *target, uint32_t domain, unsigned rounds)
{
	const uint64_t bytes = 128u << 20;
	uint64_t ours[ROUNDS_MAX], bare[ROUNDS_MAX];
	/* Both once before: what is done for the first time counts for neither. */
	map_bare(domain, bytes);
	map_ours(target, bytes);
	for (unsigned i = 0; i < rounds; i++) {
		bare[i] = map_bare(domain, bytes);
		ours[i] = map_ours(target, bytes);
	}
	uint64_t a = median(ours, rounds), b = median(bare, rounds);
	printf("mapping 128 MiB in batches of 2 MiB: libhvmi %.3f ms, a bare loop %.3f ms, ratio %.3f "
	       "(medians of %u)\n", (double)a / 1e6, (double)b / 1e6, (double)a / (double)b, rounds);
}

/*
 * Executes int3 as often as RDI says, and returns how far the time-stamp counter came: rdtsc;
 * shl $32, %rdx; or %rdx, %rax; mov %rax, %r8; 1: int3; dec %rdi; jnz 1b; rdtsc; shl $32, %rdx;
 * or %rdx, %rax; sub %r8, %rax; ret
 */
static const uint8_t int3_loop[] = {
	0x0f, 0x31, 0x48, 0xc1, 0xe2, 0x20, 0x48, 0x09, 0xd0, 0x49, 0x89, 0xc0, 0xcc, 0x48, 0xff, 0xcf,
	0x75, 0xfa, 0x0f, 0x31, 0x48, 0xc1, 0xe2, 0x20, 0x48, 0x09, 0xd0, 0x4c, 0x29, 0xc0, 0xc3,
};
/* Behind what the suite keeps there. */
#define LOOP_AT (PROBE_EXEC + PROBE_CODE_BYTES - 64)

static uint64_t nobody_listens(uint64_t count)
{
	return guest_call(0, LOOP_AT, count, 0, 0).values[0] / count;
}

static uint64_t xen_access(uint64_t count, const char *domain)
{
	pid_t child = fork();
	if (child == 0) {
		int null = open("/dev/null", O_RDWR);
		dup2(null, 1);
		dup2(null, 2);
		execlp("xen-access", "xen-access", domain, "breakpoint", (char *)NULL);
		_exit(127);
	}
	nap_ms(1500);
	uint64_t each = nobody_listens(count);
	/* Asked to end, it would set the rights of a million pages first; opening recovers from this. */
	kill(child, SIGKILL);
	int status = 0;
	waitpid(child, &status, 0);
	if (WIFEXITED(status) && WEXITSTATUS(status) == 127)
		fail("xen-access is not there");
	return each;
}

static uint64_t ours(uint64_t count)
{
	struct hvmi_event event = { .size = sizeof(event) };
	struct hvmi_answer reinject = { .size = sizeof(reinject), .flags = HVMI_ANSWER_REINJECT };
	open_events();
	struct hvmi_event_request r = request_of(HVMI_EVENT_BREAKPOINT);
	request(&r);
	start_call(0, LOOP_AT, count, 0, 0);
	for (uint64_t i = 0; i < count; i++) {
		int got = hvmi_events_next(machine.events, options.timeout_ms, &event, &error);
		if (got != 1)
			fail("event %llu: %s", (unsigned long long)i, got ? error.text : "none came");
		GOOD(hvmi_events_answer(machine.events, &event, &reinject, &error));
	}
	uint64_t each = end_call().values[0] / count;
	hvmi_events_close(machine.events);
	machine.events = NULL;
	return each;
}

static void breakpoints(const char *target, const char *domain, unsigned rounds)
{
	const uint64_t count = 200;
	uint64_t theirs[ROUNDS_MAX], mine[ROUNDS_MAX];
	GOOD(machine_open(&machine, target, HVMI_OPEN_WRITE));
	need_probe(PROBE_SIGNALS);
	need(HVMI_CAN_INT3);
	guest_write(LOOP_AT, int3_loop, sizeof(int3_loop));
	for (unsigned i = 0; i < rounds; i++) {
		theirs[i] = xen_access(count, domain);
		mine[i] = ours(count);
	}
	uint64_t a = median(mine, rounds), b = median(theirs, rounds), alone = nobody_listens(count);
	printf("an int3 of the guest, reinjected: libhvmi %llu ticks, xen-access %llu, ratio %.3f "
	       "(medians of %u times %llu; %llu of them are the guest's own)\n", (unsigned long long)a,
	       (unsigned long long)b, (double)a / (double)b, rounds, (unsigned long long)count,
	       (unsigned long long)alone);
	machine_close(&machine);
}

int main(int argc, char **argv)
{
	unsigned rounds = argc == 5 ? (unsigned)atoi(argv[4]) : 0;
	if (rounds == 0 || rounds > ROUNDS_MAX) {
		fprintf(stderr, "usage: hvmi-speed map|breakpoints TARGET DOMAIN-NUMBER ROUNDS\n");
		return 2;
	}
	if (strcmp(argv[1], "map") == 0)
		map(argv[2], (uint32_t)atoi(argv[3]), rounds);
	else
		breakpoints(argv[2], argv[3], rounds);
	return 0;
}
