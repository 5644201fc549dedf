// SPDX-License-Identifier: Apache-2.0
/* Roles about what is mapped: files of all kinds, memory of all kinds. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/shm.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "actor.h"
#include "scene.h"

#define PAGE 4096ul

static char *map(void *at, size_t pages, int prot, int flags, int fd, off_t offset)
{
	char *p = mmap(at, pages * PAGE, prot, flags | (fd < 0 ? MAP_ANONYMOUS : 0), fd, offset);
	if (p == MAP_FAILED)
		fail("mmap");
	return p;
}

/* Maps @pages of @path and closes it; touches the first. */
static char *map_path(const char *path, size_t pages, int prot, int flags)
{
	int fd = open(path, (flags & MAP_SHARED) && (prot & PROT_WRITE) ? O_RDWR | O_CLOEXEC : O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		fail(path);
	char *p = map(NULL, pages, prot, flags, fd, 0);
	if (prot & PROT_READ)
		(void)*(volatile char *)p;
	close(fd);
	return p;
}

/* Names that a reader of maps or of a path may trip over; each is mapped and stays open. */
ROLE(odd_files)
{
	static const char *const names[] = {
		"with space", "new\nline", "back\\slash", "like\\012an escape", "tab\there", "\xc3\xa9t\xc3\xa9",
		"\xff\xfe not UTF-8", "ends in (deleted)", "looks gone (deleted)", "[heap]", "[stack]", "[anon:fake]",
		"trailing ", "-", "...", "\x1b[31mred", "%2f", "\"quoted\"", "null", "#hash",
	};
	for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++) {
		char path[300];
		snprintf(path, sizeof(path), "%s/%s", SCENE_NAMES, names[i]);
		int fd = open(path, O_CREAT | O_RDWR, 0644);
		NEED(fd >= 0 && !ftruncate(fd, 2 * PAGE));
		map(NULL, 1 + i % 2, PROT_READ, i % 3 ? MAP_PRIVATE : MAP_SHARED, fd, 0);
	}
	ready();
	stay();
}

ROLE(deep_file)
{
	NEED(!chdir(SCENE_DEEP));
	for (int level = 0; level < SCENE_DEEP_LEVELS; level++) {
		char name[256];
		memset(name, 'a' + level, 255);
		name[255] = '\0';
		NEED(!chdir(name));
	}
	map_path("bottom", 2, PROT_READ, MAP_PRIVATE);
	ready();
	stay();
}

ROLE(mounts)
{
	map_path(SCENE_TMPFS "/inner/file", 4, PROT_READ, MAP_PRIVATE);
	map_path(SCENE_BIND "/file", 4, PROT_READ | PROT_WRITE, MAP_SHARED)[PAGE] = 'B';
	map_path(SCENE_EXT4 "/file on ext4", 4, PROT_READ | PROT_WRITE, MAP_SHARED)[0] = 'E';
	map_path(SCENE_EXT4 "/file on ext4", 2, PROT_READ | PROT_WRITE, MAP_PRIVATE)[0] = 'P';
	map_path(SCENE_OVERLAY "/from below", 1, PROT_READ, MAP_SHARED);
	map_path(SCENE_OVERLAY "/from above", 1, PROT_READ, MAP_PRIVATE);
	map_path("/dev/zero", 3, PROT_READ | PROT_WRITE, MAP_PRIVATE)[0] = 'Z';
	map_path("/scene/plain", 8, PROT_READ, MAP_SHARED);
	ready();
	stay();
}

ROLE(gone_files)
{
	static const char *const paths[] = {
		SCENE_TMPFS "/gone", "/scene/gone too", "/dev/shm/posix shm", SCENE_EXT4 "/gone",
	};
	for (size_t i = 0; i < sizeof(paths) / sizeof(*paths); i++) {
		int fd = open(paths[i], O_CREAT | O_RDWR, 0600);
		NEED(fd >= 0 && !ftruncate(fd, 4 * PAGE));
		map(NULL, 4, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0)[PAGE] = 'g';
		NEED(!unlink(paths[i]));
	}
	/* The same name again, not gone. */
	int fd = open(paths[0], O_CREAT | O_RDWR, 0600);
	NEED(fd >= 0 && !ftruncate(fd, PAGE));
	map(NULL, 1, PROT_READ, MAP_SHARED, fd, 0);
	/* Renamed while mapped. */
	NEED(!rename(paths[0], SCENE_TMPFS "/renamed"));

	fd = memfd_create("a memfd, with spaces", 0);
	NEED(fd >= 0 && !ftruncate(fd, 2 * PAGE));
	map(NULL, 2, PROT_READ | PROT_EXEC, MAP_PRIVATE, fd, 0);
	fd = memfd_create("", MFD_CLOEXEC);
	NEED(fd >= 0 && !ftruncate(fd, PAGE));
	map(NULL, 1, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0)[0] = 'm';
	close(fd);
	ready();
	stay();
}

ROLE(memory)
{
	/* Shared anonymous memory, seen by a child too. */
	map(NULL, 4, PROT_READ | PROT_WRITE, MAP_SHARED, -1, 0)[0] = 's';
	map_path("/dev/zero", 2, PROT_READ | PROT_WRITE, MAP_SHARED)[0] = 'z';
	if (!branch(0))
		stay();

	int id = shmget(0x48564d49, 3 * PAGE, IPC_CREAT | 0600);
	NEED(id >= 0 && *(char *)memset(shmat(id, NULL, 0), 'k', 1) == 'k');
	NEED(shmat(id, NULL, SHM_RDONLY) != (void *)-1);
	id = shmget(IPC_PRIVATE, PAGE, 0600);
	NEED(id >= 0 && shmat(id, NULL, 0) != (void *)-1 && !shmctl(id, IPC_RMID, NULL));

	/* Pages of 2 MiB: reserved ones, and one that the kernel may make of small ones. */
	char *huge = mmap(NULL, 2 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB, -1, 0);
	if (huge != MAP_FAILED)
		huge[12345] = 'h';
	char *area = map(NULL, 2048, PROT_READ | PROT_WRITE, MAP_PRIVATE, -1, 0);
	char *aligned = (char *)(((unsigned long)area + (2 << 20) - 1) & -(2ul << 20));
	madvise(aligned, 2 << 20, MADV_HUGEPAGE);
	memset(aligned, 't', 2 << 20);

	/* Much that is reserved, little that is there. */
	map(NULL, (1ul << 40) / PAGE, PROT_NONE, MAP_PRIVATE | MAP_NORESERVE, -1, 0);
	char *sparse = map(NULL, (4ul << 30) / PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_NORESERVE, -1, 0);
	sparse[0] = 1;
	sparse[3ul << 30] = 2;
	(void)*(volatile char *)(sparse + (2ul << 30));		/* the zero page */

	map(NULL, 4, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_GROWSDOWN, -1, 0)[3 * PAGE] = 'd';
	char *locked = map(NULL, 2, PROT_READ | PROT_WRITE, MAP_PRIVATE, -1, 0);
	NEED(!mlock(locked, 2 * PAGE));
	char *kept = map(NULL, 2, PROT_READ | PROT_WRITE, MAP_PRIVATE, -1, 0);
	NEED(!madvise(kept, 2 * PAGE, MADV_DONTFORK) && !madvise(kept, PAGE, MADV_DONTDUMP));
	memset(kept, 'x', 2 * PAGE);
	NEED(!madvise(kept + PAGE, PAGE, MADV_DONTNEED));

	aio_context_t aio = 0;
	syscall(SYS_io_setup, 8, &aio);
	memset(malloc(100000), 'm', 100000);

	int fd = memfd_create("far", MFD_CLOEXEC);
	NEED(fd >= 0 && !ftruncate(fd, 1l << 46));
	map(NULL, 2, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0x123456789000)[PAGE] = 'f';
	map(NULL, 1, PROT_READ, MAP_SHARED, fd, (1l << 46) - PAGE);
	ready();
	stay();
}

/* Every protection, private and shared, with a guard after each. */
ROLE(protections)
{
	int fd = memfd_create("protections", 0);
	NEED(fd >= 0 && !ftruncate(fd, 16 * PAGE));
	char *p = map(NULL, 64, PROT_NONE, MAP_PRIVATE | MAP_NORESERVE, -1, 0);
	for (int prot = 0; prot < 8; prot++) {
		char *at = p + prot * 4 * PAGE;
		map(at, 1, PROT_WRITE, MAP_PRIVATE | MAP_FIXED, -1, 0)[0] = 'a' + prot;
		NEED(!mprotect(at, PAGE, prot));
		map(at + 2 * PAGE, 1, prot, MAP_SHARED | MAP_FIXED, fd, prot * PAGE);
	}
	ready();
	stay();
}

/* The ends of the address space; beyond 47 bits only where the processor has 57 and the kernel uses them. */
ROLE(low_and_high)
{
	static const unsigned long at[] = {
		0x10000, 0x7ffff000, 0x100000000, 0x7fffffffe000, 1ul << 47, 1ul << 55, (1ul << 56) - 2 * PAGE,
	};
	for (size_t i = 0; i < sizeof(at) / sizeof(*at); i++) {
		char *p = mmap((void *)at[i], PAGE, PROT_READ | PROT_WRITE,
			MAP_PRIVATE | MAP_ANONYMOUS | (at[i] < 1ul << 47 ? MAP_FIXED_NOREPLACE : 0), -1, 0);
		if (p != MAP_FAILED)
			*p = 'l';
	}
	if (!branch(0)) {
		/* The bottom-up layout of old, at fixed addresses. */
		personality(ADDR_NO_RANDOMIZE | ADDR_COMPAT_LAYOUT);
		execle("/usr/bin/actor", "actor", "fixed addresses", NULL, (char *[]){ "ACTOR_ROLE=again", NULL });
	}
	ready();
	stay();
}

#define MANY 3200

ROLE(many_vmas)
{
	char *p = map(NULL, MANY, PROT_READ | PROT_WRITE, MAP_PRIVATE, -1, 0);
	for (int i = 0; i < MANY; i += 2)
		NEED(!mprotect(p + i * PAGE, PAGE, i % 4 ? PROT_READ : PROT_READ | PROT_EXEC));
	for (int i = 1; i < MANY; i += 16)
		p[i * PAGE] = i;
	ready();
	stay();
}

#ifndef PR_SET_VMA
#define PR_SET_VMA 0x53564d41
#define PR_SET_VMA_ANON_NAME 0
#endif

/* Since 5.17, where the kernel's configuration has it. */
ROLE(named_vmas)
{
	static const char *const names[] = {
		"a heap", "with:colons.and-dots",
		"eighty-characters-is-the-longest-name-that-the-kernel-takes-with-its-terminator",
	};
	for (size_t i = 0; i < 3; i++) {
		char *p = map(NULL, 3, PROT_READ | PROT_WRITE, MAP_PRIVATE, -1, 0);
		prctl(PR_SET_VMA, PR_SET_VMA_ANON_NAME, p, PAGE, names[i]);
		p = map(NULL, 2, PROT_READ | PROT_WRITE, MAP_SHARED, -1, 0);
		prctl(PR_SET_VMA, PR_SET_VMA_ANON_NAME, p, 2 * PAGE, names[i]);
	}
	ready();
	stay();
}
