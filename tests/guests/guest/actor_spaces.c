// SPDX-License-Identifier: Apache-2.0
/* Roles with another view of the system: roots, mounts, namespaces. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "actor.h"
#include "scene.h"

static void make_and_map(const char *path)
{
	int fd = open(path, O_CREAT | O_RDWR, 0644);
	NEED(fd >= 0 && !ftruncate(fd, 8192));
	char *p = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	NEED(p != MAP_FAILED);
	p[0] = 'm';
}

ROLE(jail)
{
	NEED(!chroot(SCENE_JAIL) && !chdir("/inside"));
	make_and_map("/inside/file");
	become(1002, 1002);
	ready();
	stay();
}

/* A mount that no other process sees, and one over a file. */
ROLE(mount_ns)
{
	NEED(!unshare(CLONE_NEWNS));
	NEED(!mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL));
	NEED(!mount("private", "/scene/private", "tmpfs", 0, NULL));
	make_and_map("/scene/private/mine alone");
	NEED(!mount("/scene/private/mine alone", "/scene/plain", NULL, MS_BIND, NULL));
	make_and_map("/scene/plain");
	ready();
	stay();
}

/* A file of a file system that is no longer in anyone's tree. */
ROLE(detached)
{
	NEED(!mount("detached", "/scene/gone", "tmpfs", 0, NULL));
	mkdir("/scene/gone/below", 0755);
	make_and_map("/scene/gone/below/file");
	NEED(!chdir("/scene/gone/below"));
	NEED(!umount2("/scene/gone", MNT_DETACH));
	ready();
	stay();
}

/* Processes 1 and 2 of a namespace of their own, inside another such. */
ROLE(pid_ns)
{
	for (int level = 0; level < 2; level++) {
		NEED(!unshare(CLONE_NEWPID));
		if (branch(1))
			stay();
		if (!branch(0))
			stay();
	}
	ready();
	stay();
}

static void write_to(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	NEED(fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text));
	close(fd);
}

/* Root inside, 100000 outside; a host name and a network of its own. */
ROLE(user_ns)
{
	int to_parent[2], to_child[2];
	char byte = 0, path[64];
	NEED(!pipe(to_parent) && !pipe(to_child));
	pid_t pid = branch(1);
	if (!pid) {
		NEED(!unshare(CLONE_NEWUSER | CLONE_NEWUTS | CLONE_NEWNET | CLONE_NEWIPC));
		NEED(write(to_parent[1], &byte, 1) == 1 && read(to_child[0], &byte, 1) == 1);
		become(0, 0);
		NEED(!sethostname("inside", 6));
		if (!branch(0)) {
			become(33, 44);
			stay();
		}
		ready();
		stay();
	}
	NEED(read(to_parent[0], &byte, 1) == 1);
	snprintf(path, sizeof(path), "/proc/%d/uid_map", pid);
	write_to(path, "0 100000 65536");
	snprintf(path, sizeof(path), "/proc/%d/gid_map", pid);
	write_to(path, "0 200000 65536");
	NEED(write(to_child[1], &byte, 1) == 1);
	stay();
}
