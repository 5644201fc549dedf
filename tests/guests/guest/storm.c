// SPDX-License-Identifier: Apache-2.0
/* Changes the guest's lists of processes, threads, regions and modules as fast as it can. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "storm.h"

#define PAGE 4096u

__attribute__((noreturn)) static void die(const char *what)
{
	dprintf(2, "guest: storm: %s: %s\n", what, strerror(errno));
	_exit(1);
}

static void nap_us(long us)
{
	struct timespec t = { .tv_nsec = us * 1000 };
	nanosleep(&t, NULL);
}

static void reap(pid_t pid)
{
	if (pid < 0)
		nap_us(1000);
	else
		waitpid(pid, NULL, 0);
}

static void begin_program(const char *name)
{
	char path[64];
	snprintf(path, sizeof(path), "/usr/bin/%s", name);
	execl(path, name, STORM_ARGUMENT, NULL);
	die(path);
}

static void work_fork(void)
{
	for (;;) {
		pid_t pid = fork();
		if (pid == 0)
			_exit(0);
		reap(pid);
	}
}

static void work_orphan(void)
{
	for (;;) {
		pid_t pid = fork();
		if (pid == 0) {
			if (fork() == 0)
				nap_us(2000);
			_exit(0);
		}
		reap(pid);
		nap_us(500);
	}
}

static void work_exec(void)
{
	for (;;) {
		pid_t pid = fork();
		if (pid == 0)
			begin_program(storm_names[STORM_EXEC].other);
		reap(pid);
	}
}

static void *short_thread(void *name)
{
	prctl(PR_SET_NAME, name);
	return NULL;
}

static void work_thread(void)
{
	for (;;) {
		pthread_t threads[4];
		int count = 0;
		while (count < 4 && pthread_create(&threads[count], NULL, short_thread,
						   (void *)storm_names[STORM_THREAD].other) == 0)
			count++;
		while (count)
			pthread_join(threads[--count], NULL);
		nap_us(200);
	}
}

static void *program_thread(void *name)
{
	prctl(PR_SET_NAME, storm_names[STORM_DETHREAD].other);
	begin_program(name);
	return NULL;
}

static void work_dethread(void)
{
	for (;;) {
		pid_t pid = fork();
		if (pid == 0) {
			pthread_t thread;
			if (pthread_create(&thread, NULL, program_thread,
					   (void *)storm_names[STORM_DETHREAD].third))
				_exit(1);
			for (;;)
				pause();
		}
		reap(pid);
	}
}

static void work_name(void)
{
	for (;;) {
		for (int i = 0; i < 100; i++)
			prctl(PR_SET_NAME, i % 2 ? storm_names[STORM_NAME].other :
						   storm_names[STORM_NAME].third);
		nap_us(200);
	}
}

static void work_map(void)
{
	int fd = open(STORM_FILE, O_RDONLY | O_CLOEXEC);
	uint32_t random = 1;
	char mapped[STORM_SLOTS] = { 0 };
	if (fd < 0)
		die(STORM_FILE);
	for (uint32_t i = 1;; i++) {
		random = random * 1103515245 + 12345;
		uint32_t slot = (random >> 16) % STORM_SLOTS, len = (slot % 3 + 1) * PAGE;
		void *at = (void *)(uintptr_t)(STORM_BASE + slot * STORM_SLOT);
		if (mapped[slot])
			munmap(at, len);
		else if (mmap(at, len, slot % 2 ? PROT_READ : PROT_READ | PROT_WRITE,
			      slot % 2 ? MAP_SHARED | MAP_FIXED :
					 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED,
			      slot % 2 ? fd : -1, slot % 2 ? slot * PAGE : 0) != at)
			die("mmap");
		mapped[slot] ^= 1;
		/* There has to be some time in which nothing changes. */
		if (i % 8 == 0)
			nap_us(3000);
	}
}

static void work_module(void)
{
	for (;;) {
		int fd = open(STORM_MODULE_FILE, O_RDONLY | O_CLOEXEC);
		if (fd < 0)
			return;
		syscall(SYS_delete_module, STORM_MODULE, O_NONBLOCK);
		nap_us(10000);
		syscall(SYS_finit_module, fd, "", 0);
		close(fd);
		nap_us(30000);
	}
}

static void start(unsigned worker)
{
	static void (*const work[STORM_WORKERS])(void) = {
		work_fork, work_orphan, work_exec, work_thread, work_dethread, work_name, work_map,
	};
	pid_t pid = fork();
	if (pid < 0)
		die("fork");
	if (pid)
		return;
	/* Who has the user has the name. */
	prctl(PR_SET_NAME, storm_names[worker].worker);
	signal(SIGCHLD, SIG_DFL);
	if (setresuid(STORM_UID + worker, STORM_UID + worker, STORM_UID + worker))
		die("setresuid");
	work[worker]();
}

int main(int argc, char **argv)
{
	if (argc > 1)
		return argv[0][0] == 0;		/* as another program: for a moment */
	int fd = open(STORM_FILE, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	if (fd < 0 || ftruncate(fd, (STORM_SLOTS + 4) * PAGE))
		die(STORM_FILE);
	close(fd);
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	signal(SIGCHLD, SIG_IGN);
	for (unsigned worker = 0; worker < STORM_WORKERS; worker++)
		start(worker);
	work_module();
	for (;;)
		pause();
}
