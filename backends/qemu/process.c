/* SPDX-License-Identifier: Apache-2.0 */
#include "process.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

static int from_errno(int error)
{
	return error == EACCES || error == EPERM ? -EACCES : error == ENOMEM ? -ENOMEM :
	       error == ESRCH ? -ESRCH : -ENOENT;
}

/* A line of maps: proc(5). */
static bool take_line(const char *line, uint64_t *start, uint64_t *end, struct process_area *ret)
{
	char rights[5];
	unsigned long long first, last, offset, inode;
	unsigned int major_number, minor_number;
	int at = 0;
	if (sscanf(line, "%llx-%llx %4s %llx %x:%x %llu %n", &first, &last, rights, &offset,
		   &major_number, &minor_number, &inode, &at) != 7)
		return false;
	*start = first;
	*end = last;
	ret->shared = rights[3] == 's';
	ret->device = makedev(major_number, minor_number);
	ret->inode = inode;
	ret->offset = offset;
	snprintf(ret->path, sizeof(ret->path), "%.*s", (int)strcspn(line + at, "\n"), line + at);
	return true;
}

int process_area(pid_t pid, uint64_t hva, uint64_t len, struct process_area *ret)
{
	char path[64];
	snprintf(path, sizeof(path), "/proc/%d/maps", (int)pid);
	FILE *f = fopen(path, "re");
	if (!f)
		return from_errno(errno);
	char *line = NULL;
	size_t room = 0;
	uint64_t done = 0;
	int rc = -ENOENT;
	struct process_area *area = malloc(sizeof(*area));
	/* What madvise() and the like split is several lines of one file. */
	while (area && done < len && getline(&line, &room, f) > 0) {
		uint64_t start, end;
		if (!take_line(line, &start, &end, area) || hva + done < start || hva + done >= end)
			continue;
		area->offset += hva + done - start;
		if (done == 0)
			*ret = *area;
		else if (area->shared != ret->shared || area->device != ret->device ||
			 area->inode != ret->inode || area->offset != ret->offset + done)
			break;
		done = end - hva < len ? end - hva : len;
	}
	/* Nothing at all is how the kernel shows the maps of what is not ours to see. */
	if (done == len)
		rc = 0;
	else if (ferror(f))
		rc = from_errno(errno);
	free(area);
	free(line);
	fclose(f);
	return rc;
}

static bool is_file(int fd, const struct process_area *area)
{
	struct stat st;
	/* Layered file systems give stat() another device than the mapping. */
	return fstat(fd, &st) == 0 && st.st_ino == area->inode && S_ISREG(st.st_mode);
}

static int try_open(const char *path, const struct process_area *area, int *fd_ret)
{
	struct stat st;
	if (stat(path, &st) || st.st_ino != area->inode || !S_ISREG(st.st_mode))
		return -ENOENT;
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
	if (fd < 0)
		return from_errno(errno);
	if (!is_file(fd, area)) {
		close(fd);
		return -ENOENT;
	}
	*fd_ret = fd;
	return 0;
}

int process_open_file(pid_t pid, const struct process_area *area, int *fd_ret)
{
	char path[64 + 256];
	snprintf(path, sizeof(path), "/proc/%d/fd", (int)pid);
	DIR *dir = opendir(path);
	int rc = dir ? -ENOENT : from_errno(errno);
	struct dirent *entry;
	while (rc == -ENOENT && dir && (entry = readdir(dir))) {
		snprintf(path, sizeof(path), "/proc/%d/fd/%s", (int)pid, entry->d_name);
		rc = try_open(path, area, fd_ret);
	}
	if (dir)
		closedir(dir);
	return rc == 0 || try_open(area->path, area, fd_ret) == 0 ? 0 : rc;
}

int process_open_memory(pid_t pid, bool write, int *fd_ret)
{
	char path[64];
	snprintf(path, sizeof(path), "/proc/%d/mem", (int)pid);
	int fd = open(path, (write ? O_RDWR : O_RDONLY) | O_CLOEXEC);
	if (fd < 0)
		return from_errno(errno);
	*fd_ret = fd;
	return 0;
}

unsigned long long process_start_of(pid_t tid)
{
	char path[64], line[1024];
	snprintf(path, sizeof(path), "/proc/%d/stat", (int)tid);
	FILE *f = fopen(path, "re");
	unsigned long long start = 0;
	/* Behind the name, which may hold anything: proc(5), field 22. */
	const char *end = f && fgets(line, sizeof(line), f) ? strrchr(line, ')') : NULL;
	if (end)
		sscanf(end, ") %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s "
		       "%*s %*s %llu", &start);
	if (f)
		fclose(f);
	return start;
}

pid_t process_of_thread(pid_t tid)
{
	char path[64], line[256];
	snprintf(path, sizeof(path), "/proc/%d/status", (int)tid);
	FILE *f = fopen(path, "re");
	int pid = 0;
	while (f && fgets(line, sizeof(line), f) && sscanf(line, "Tgid: %d", &pid) != 1)
		;
	if (f)
		fclose(f);
	return pid;
}
