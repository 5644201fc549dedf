// SPDX-License-Identifier: Apache-2.0
#define _GNU_SOURCE
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "truth.h"

static int out_fd = -1;
static char out[32768];		/* what a virtio port takes at once */
static size_t out_len;

static void flush(void)
{
	for (size_t done = 0; done < out_len;) {
		ssize_t n = write(out_fd, out + done, out_len - done);
		if (n < 0 && errno != EINTR) {
			perror("truth");
			_exit(1);
		}
		if (n > 0)
			done += n;
	}
	out_len = 0;
}

static void put(const void *bytes, size_t len)
{
	while (len) {
		size_t n = sizeof(out) - out_len;
		if (n > len)
			n = len;
		memcpy(out + out_len, bytes, n);
		out_len += n;
		bytes = (const char *)bytes + n;
		len -= n;
		if (out_len == sizeof(out))
			flush();
	}
}

static void record(char kind, const void *bytes, size_t len)
{
	uint32_t len32 = len;
	put(&kind, 1);
	put(&len32, 4);
	put(bytes, len);
}

void truth_init(int fd)
{
	out_fd = fd;
}

void truth_begin(const char *section)
{
	record('B', section, strlen(section));
}

void truth_end(const char *section)
{
	record('E', section, strlen(section));
	flush();
}

void truth_file(const char *path)
{
	static char piece[65536];
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return;
	record('N', path, strlen(path));
	ssize_t n;
	while ((n = read(fd, piece, sizeof(piece))) > 0)
		record('D', piece, n);
	close(fd);
}

static void link_target(const char *path)
{
	char target[8192], name[512];
	ssize_t n = readlink(path, target, sizeof(target));
	if (n < 0)
		return;
	record('N', name, snprintf(name, sizeof(name), "%s->", path));
	record('D', target, n);
}

/* opendir() would allocate. */
struct dir {
	int fd;
	size_t at, len;
	char buf[8192];
};

static bool dir_open(struct dir *d, const char *path)
{
	d->fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	d->at = d->len = 0;
	return d->fd >= 0;
}

/* The next name, NULL at the end, where the directory is closed. */
static const char *dir_next(struct dir *d)
{
	for (;;) {
		if (d->at >= d->len) {
			long n = syscall(SYS_getdents64, d->fd, d->buf, sizeof(d->buf));
			if (n <= 0) {
				close(d->fd);
				return NULL;
			}
			d->at = 0;
			d->len = n;
		}
		struct dirent64 *e = (void *)(d->buf + d->at);
		d->at += e->d_reclen;
		if (e->d_name[0] != '.')
			return e->d_name;
	}
}

static void files_below(const char *path)
{
	static struct dir d;
	if (!dir_open(&d, path))
		return;
	const char *name;
	while ((name = dir_next(&d))) {
		char file[512];
		snprintf(file, sizeof(file), "%s/%s", path, name);
		truth_file(file);
	}
}

static void links_below(const char *path)
{
	static struct dir d;
	if (!dir_open(&d, path))
		return;
	const char *name;
	while ((name = dir_next(&d))) {
		char file[512];
		snprintf(file, sizeof(file), "%s/%s", path, name);
		link_target(file);
	}
}

/*
 * maps, then "pagemap": eight bytes for the first page of each of its lines, in their order. A
 * newline in a path is shown as \012, and so is a backslash and three digits: for lines with a
 * backslash the link in map_files says which.
 */
static void maps(const char *process)
{
	static char text[4 << 20];
	static uint64_t entries[65536];
	char path[512];
	snprintf(path, sizeof(path), "%s/maps", process);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return;
	record('N', path, strlen(path));
	size_t len = 0;
	ssize_t n;
	while ((n = read(fd, text + len, sizeof(text) - 1 - len)) > 0) {
		record('D', text + len, n);
		len += n;
	}
	close(fd);
	text[len] = '\0';
	if (!len)
		return;

	snprintf(path, sizeof(path), "%s/pagemap", process);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	size_t lines = 0;
	for (char *line = text, *end; (end = strchr(line, '\n')); line = end + 1) {
		*end = '\0';
		uint64_t entry = 0;
		unsigned long long start, stop;
		if (sscanf(line, "%llx-%llx", &start, &stop) != 2)
			continue;
		if (fd >= 0 && pread(fd, &entry, 8, start / 4096 * 8) != 8)
			entry = 0;
		if (lines < sizeof(entries) / sizeof(*entries))
			entries[lines++] = entry;
		if (strchr(line, '\\')) {
			char file[600];
			snprintf(file, sizeof(file), "%s/map_files/%llx-%llx", process, start, stop);
			link_target(file);
		}
	}
	if (fd >= 0)
		close(fd);
	record('N', path, strlen(path));
	record('D', entries, lines * sizeof(*entries));
}

/* The first line of sched: the only place that shows a kernel thread's own, short name. */
static void sched(const char *task)
{
	char path[512], text[1024];
	snprintf(path, sizeof(path), "%s/sched", task);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return;
	ssize_t n = read(fd, text, sizeof(text));
	close(fd);
	if (n <= 0)
		return;
	char *end = memchr(text, '\n', n);
	record('N', path, strlen(path));
	record('D', text, end ? end - text : n);
}

static void task_files(const char *task, const char *const *names)
{
	for (; *names; names++) {
		char path[512];
		snprintf(path, sizeof(path), "%s/%s", task, *names);
		truth_file(path);
	}
}

/* Field @index (from 3 on, as proc(5) counts) of a stat file's text. */
static const char *stat_field(const char *stat, int index)
{
	const char *p = strrchr(stat, ')');
	for (int i = 2; p && i < index; i++) {
		p = strchr(p, ' ');
		if (p)
			p++;
	}
	return p;
}

static ssize_t read_stat(const char *task, char *text, size_t size)
{
	char path[512];
	snprintf(path, sizeof(path), "%s/stat", task);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -1;
	ssize_t n = read(fd, text, size - 1);
	close(fd);
	text[n > 0 ? n : 0] = '\0';
	return n;
}

#define PF_KTHREAD 0x00200000ul

static bool is_kernel_thread(const char *stat)
{
	const char *flags = stat_field(stat, 9);
	return flags && (strtoul(flags, NULL, 10) & PF_KTHREAD);
}

void truth_tasks(void)
{
	static struct dir processes, tasks;
	static const char *const of_task[] = { "stat", "status", "comm", NULL };
	static const char *const of_process[] = { "cmdline", "environ", "auxv", NULL };
	static const char *const links[] = { "exe", "cwd", "root", NULL };

	if (!dir_open(&processes, "/proc"))
		return;
	const char *pid;
	while ((pid = dir_next(&processes))) {
		if (!isdigit(pid[0]))
			continue;
		char process[32], task[64], path[128], stat[1024];
		snprintf(process, sizeof(process), "/proc/%.16s", pid);
		if (read_stat(process, stat, sizeof(stat)) <= 0)
			continue;
		bool kernel = is_kernel_thread(stat);

		snprintf(path, sizeof(path), "%s/task", process);
		const char *tid;
		if (!dir_open(&tasks, path))
			continue;
		while ((tid = dir_next(&tasks))) {
			snprintf(task, sizeof(task), "%s/task/%.16s", process, tid);
			task_files(task, of_task);
			if (kernel)
				sched(task);
		}
		if (kernel)
			continue;
		task_files(process, of_process);
		maps(process);
		for (const char *const *l = links; *l; l++) {
			snprintf(path, sizeof(path), "%s/%s", process, *l);
			link_target(path);
		}
		snprintf(path, sizeof(path), "%s/fd", process);
		links_below(path);
		snprintf(path, sizeof(path), "%s/ns", process);
		links_below(path);
	}
	static const char *const of_machine[] = {
		"/proc/modules", "/proc/self/mountinfo", "/proc/net/tcp", "/proc/net/udp",
		"/proc/net/unix", "/proc/sysvipc/shm", "/proc/uptime", NULL
	};
	for (const char *const *f = of_machine; *f; f++)
		truth_file(*f);
}

void truth_machine(void)
{
	static const char *const files[] = {
		"/proc/version", "/proc/cmdline", "/proc/cpuinfo", "/proc/iomem", "/proc/stat",
		"/proc/sys/kernel/osrelease", "/proc/sys/kernel/hostname",
		"/proc/sys/kernel/random/boot_id", "/sys/kernel/vmcoreinfo", "/proc/kallsyms", NULL
	};
	for (const char *const *f = files; *f; f++)
		truth_file(*f);
	files_below("/sys/kernel/btf");
}

bool truth_steady(int spinner)
{
	static struct dir processes, tasks;
	static uint64_t last;
	uint64_t sum = 0xcbf29ce484222325;
	bool idle = true;

	if (!dir_open(&processes, "/proc"))
		return false;
	const char *pid;
	while ((pid = dir_next(&processes))) {
		if (!isdigit(pid[0]))
			continue;
		char path[64], stat[1024];
		snprintf(path, sizeof(path), "/proc/%.16s", pid);
		if (read_stat(path, stat, sizeof(stat)) <= 0)
			continue;
		/* It ends by itself, some seconds after the file system was mounted. */
		if (strstr(stat, " (ext4lazyinit) "))
			idle = false;
		if (is_kernel_thread(stat))
			continue;
		snprintf(path, sizeof(path), "/proc/%.16s/task", pid);
		const char *tid;
		if (!dir_open(&tasks, path))
			continue;
		while ((tid = dir_next(&tasks))) {
			snprintf(path, sizeof(path), "/proc/%.16s/task/%.16s", pid, tid);
			if (read_stat(path, stat, sizeof(stat)) <= 0)
				continue;
			const char *state = stat_field(stat, 3);
			if (!state)
				continue;
			int id = atoi(stat);
			if (*state == 'R' && id != getpid() && id != spinner)
				idle = false;
			for (const char *p = stat; p <= state; p++)
				sum = (sum ^ (unsigned char)*p) * 0x100000001b3;
		}
	}
	bool same = sum == last;
	last = sum;
	return same && idle;
}
