/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "probe.h"

static void say_file(const char *what, const char *path)
{
	char line[4096];
	FILE *file = fopen(path, "re");
	printf("GUEST: begin %s\n", what);
	while (file && fgets(line, sizeof(line), file))
		fputs(line, stdout);
	if (file)
		fclose(file);
	printf("GUEST: end %s\n", what);
}

/* PID PPID NAME, of processes. */
static void say_processes(void)
{
	DIR *proc = opendir("/proc");
	struct dirent *entry;
	printf("GUEST: begin ps\nPID PPID COMMAND\n");
	while (proc && (entry = readdir(proc))) {
		char path[300], line[512];
		if (!isdigit((unsigned char)*entry->d_name))
			continue;
		snprintf(path, sizeof(path), "/proc/%s/stat", entry->d_name);
		FILE *file = fopen(path, "re");
		char *open = NULL, *close = NULL;
		if (file && fgets(line, sizeof(line), file)) {
			open = strchr(line, '(');
			close = strrchr(line, ')');
		}
		if (open && close && strlen(close) > 4) {
			*close = 0;
			printf("%s %d %s\n", entry->d_name, atoi(close + 4), open + 1);
		}
		if (file)
			fclose(file);
	}
	if (proc)
		closedir(proc);
	printf("GUEST: end ps\n");
}

void say(void)
{
	char maps[64];
	flockfile(stdout);
	say_processes();
	say_file("modules", "/proc/modules");
	say_file("maps 1", "/proc/1/maps");
	snprintf(maps, sizeof(maps), "maps %d", getpid());
	say_file(maps, "/proc/self/maps");
	funlockfile(stdout);
}

static int kmsg = -1;

void check_begin(void)
{
	kmsg = open("/dev/kmsg", O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	if (kmsg >= 0)
		lseek(kmsg, 0, SEEK_END);
}

/* What a kernel says when time goes by in jumps: emulators do that to it, and so does whoever pauses it. */
static bool about_time(const char *text)
{
	static const char *const beginnings[] = {
		"hrtimer: interrupt took ", "clocksource: ", "sched: RT throttling activated",
	};
	for (size_t i = 0; i < sizeof(beginnings) / sizeof(*beginnings); i++)
		if (strncmp(text, beginnings[i], strlen(beginnings[i])) == 0)
			return true;
	return false;
}

/* Warnings and worse since the start: how many, the first, and all of them on the console. */
static uint64_t check_dmesg(char *first, size_t size)
{
	static uint64_t count;
	char record[8192];
	if (kmsg < 0)
		return 0;
	for (;;) {
		ssize_t n = read(kmsg, record, sizeof(record) - 1);
		if (n < 0 && errno == EPIPE)
			continue;	/* overwritten before it was read */
		if (n <= 0)
			return count;
		record[n] = 0;
		const char *text = strchr(record, ';');
		if ((atoi(record) & 7) > 4 || !text || about_time(text + 1))
			continue;
		if (!count++)
			snprintf(first, size, "%s", text + 1);
		printf("GUEST: kernel: %.*s\n", (int)strcspn(text + 1, "\n"), text + 1);
	}
}

static int64_t now_ns(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000000000ll + now.tv_nsec;
}

/* A timer that does not tick never wakes this up, and whoever waits for the result sees that. */
static uint64_t check_ticks(unsigned vcpus)
{
	uint64_t wrong = 0;
	for (unsigned vcpu = 0; vcpu < vcpus; vcpu++) {
		const struct timespec nap = { .tv_nsec = 30000000 };
		cpu_set_t set;
		CPU_ZERO(&set);
		CPU_SET(vcpu, &set);
		int64_t start = now_ns();
		if (sched_setaffinity(0, sizeof(set), &set) || nanosleep(&nap, NULL) ||
		    now_ns() - start < nap.tv_nsec)
			wrong++;
	}
	return wrong;
}

void check_run(struct probe_mailbox *mailbox, uint64_t values[CHECK_COUNT])
{
	values[CHECK_TICKS] = check_ticks(mailbox->vcpus);
	values[CHECK_DMESG] = check_dmesg(mailbox->dmesg, sizeof(mailbox->dmesg));
}
