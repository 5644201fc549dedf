// SPDX-License-Identifier: Apache-2.0
/* Roles about tasks: their tree, ids, threads and states. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <grp.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/file.h>
#include <sys/fsuid.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/msg.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/sem.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "actor.h"

/* A child of whoever takes in the children of the dead. */
static void orphan(void)
{
	pid_t parent = branch(0);
	if (!parent) {
		if (!branch(0))
			stay();
		_exit(0);
	}
	NEED(waitpid(parent, NULL, 0) == parent);
}

/*
 * Seven levels, a leaf beside each, other ids, sessions and groups on the way. One orphan is left to
 * the first process, one to the process that offers itself on the way.
 */
ROLE(tree)
{
	orphan();
	for (int level = 0; level < 7; level++) {
		if (!branch(0)) {
			setpgid(0, 0);
			stay();
		}
		if (branch(1))
			stay();
		if (level == 1)
			setsid();
		if (level == 3)
			NEED(!prctl(PR_SET_CHILD_SUBREAPER, 1));
		NEED(!setresgid(2000 + level, 2000 + level, 0) && !setresuid(2000 + level, 0, 0));
	}
	orphan();
	ready();
	stay();
}

ROLE(ids)
{
	static const struct {
		uid_t r, e, s, fs;
	} sets[] = {
		{ 1000, 0, 0, 0 }, { 0, 1000, 0, 1000 }, { 1000, 1001, 1002, 1003 }, { 1, 2, 3, 2 },
		{ 4294967294u, 0, 4294967294u, 7 }, { 2147483648u, 2147483647u, 65536, 2147483647u },
	};
	for (size_t i = 0; i < sizeof(sets) / sizeof(*sets); i++) {
		if (branch(0))
			continue;
		const gid_t groups[] = { 5, 4, 3, 70000 };
		NEED(!setgroups(i % 5, groups));
		setfsgid(sets[i].fs + 1);
		NEED(!setresgid(sets[i].r, sets[i].e + 1, sets[i].s));
		setfsuid(sets[i].fs);
		NEED(!setresuid(sets[i].r, sets[i].e, sets[i].s));
		if (sets[i].fs != sets[i].e)
			setfsuid(sets[i].fs);
		stay();
	}
	ready();
	stay();
}

static void *wait_futex(void *word)
{
	syscall(SYS_futex, word, 0, 0, NULL, NULL, 0);
	return NULL;
}

static void *wait_sleep(void *unused)
{
	struct timespec t = { 1000000, 0 };
	(void)unused;
	nanosleep(&t, NULL);
	return NULL;
}

static void *wait_pipe(void *unused)
{
	int ends[2];
	char byte;
	(void)unused;
	if (pipe(ends) || read(ends[0], &byte, 1) < 0)
		return NULL;
	return NULL;
}

static void *wait_poll(void *unused)
{
	(void)unused;
	poll(NULL, 0, -1);
	return NULL;
}

static void *wait_epoll(void *unused)
{
	struct epoll_event e;
	(void)unused;
	epoll_wait(epoll_create1(0), &e, 1, -1);
	return NULL;
}

static void *wait_signal(void *unused)
{
	sigset_t set;
	int got;
	(void)unused;
	sigfillset(&set);
	sigwait(&set, &got);
	return NULL;
}

static void *wait_message(void *unused)
{
	char message[64];
	(void)unused;
	msgrcv(msgget(IPC_PRIVATE, 0600), message, 1, 0, 0);
	return NULL;
}

static void *wait_semaphore(void *unused)
{
	struct sembuf down = { 0, -1, 0 };
	(void)unused;
	semop(semget(IPC_PRIVATE, 1, 0600), &down, 1);
	return NULL;
}

static void *wait_socket(void *unused)
{
	int pair[2];
	char byte;
	(void)unused;
	socketpair(AF_UNIX, SOCK_DGRAM, 0, pair);
	recv(pair[0], &byte, 1, 0);
	return NULL;
}

static void *wait_mutex(void *unused)
{
	static pthread_mutex_t m = PTHREAD_MUTEX_INITIALIZER;
	(void)unused;
	pthread_mutex_lock(&m);
	pthread_mutex_lock(&m);
	return NULL;
}

static void *wait_other_ids(void *unused)
{
	(void)unused;
	/* Linux has ids per thread; libc hides it. */
	syscall(SYS_setresuid, 3000, 3001, 3002);
	return wait_poll(NULL);
}

ROLE(threads)
{
	static int word;
	static const struct {
		const char *name;
		void *(*run)(void *);
	} all[] = {
		{ "futex", wait_futex }, { "sleep", wait_sleep }, { "pipe", wait_pipe }, { "poll", wait_poll },
		{ "epoll", wait_epoll }, { "signal", wait_signal }, { "message", wait_message },
		{ "semaphore", wait_semaphore }, { "socket", wait_socket }, { "mutex", wait_mutex },
		{ "fifteen letters", wait_futex }, { "\xc3\xa9t\xc3\xa9 \xff", wait_futex },
		{ "other ids", wait_other_ids }, { "a) S 1 (b", wait_futex }, { "", wait_futex },
	};
	for (size_t i = 0; i < sizeof(all) / sizeof(*all); i++) {
		pthread_t t;
		NEED(!pthread_create(&t, NULL, all[i].run, &word));
		NEED(!pthread_setname_np(t, all[i].name));
	}
	ready();
	stay();
}

ROLE(stopped)
{
	pid_t pid = branch(0);
	if (!pid) {
		raise(SIGSTOP);
		stay();
	}
	int status;
	NEED(waitpid(pid, &status, WUNTRACED) == pid && WIFSTOPPED(status));
	ready();
	stay();
}

ROLE(traced)
{
	pid_t pid = branch(0);
	if (!pid) {
		ptrace(PTRACE_TRACEME, 0, 0, 0);
		raise(SIGUSR1);
		stay();
	}
	int status;
	NEED(waitpid(pid, &status, 0) == pid && WIFSTOPPED(status));
	ready();
	stay();
}

ROLE(zombies)
{
	pid_t pids[3];
	for (int i = 0; i < 3; i++) {
		pids[i] = branch(0);
		if (pids[i])
			continue;
		if (i == 1) {
			become(1000, 1000);
			prctl(PR_SET_NAME, "un-dead");
			raise(SIGKILL);
		}
		_exit(i);
	}
	siginfo_t info;
	for (int i = 0; i < 3; i++)
		NEED(!waitid(P_PID, pids[i], &info, WEXITED | WNOWAIT));
	ready();
	stay();
}

static void *survive(void *unused)
{
	(void)unused;
	ready();
	stay();
}

/* The first thread ends, the process goes on: a zombie for a leader. */
ROLE(headless)
{
	pthread_t t;
	NEED(!pthread_create(&t, NULL, survive, NULL));
	pthread_setname_np(t, "survivor");
	/* pthread_exit() would look for a library to unwind the stack with. */
	for (;;)
		syscall(SYS_exit, 0);
}

static int vfork_child(void *unused)
{
	(void)unused;
	ready();
	stay();
}

/*
 * The parent is uninterruptible (D) until its child, with which it shares its memory, execs or ends.
 * Not by vfork(): the child does more than that function allows.
 */
ROLE(vforked)
{
	static char stack[16384] __attribute__((aligned(16)));
	clone(vfork_child, stack + sizeof(stack), CLONE_VM | CLONE_VFORK | SIGCHLD, NULL);
	stay();
}

static int share(void *unused)
{
	(void)unused;
	prctl(PR_SET_NAME, "same mm");
	stay();
}

/* Two processes, not threads of one, with one address space; one of them shares its files too. */
ROLE(shared_mm)
{
	static char stacks[2][16384] __attribute__((aligned(16)));
	NEED(clone(share, stacks[0] + sizeof(stacks[0]), CLONE_VM | SIGCHLD, NULL) > 0);
	NEED(clone(share, stacks[1] + sizeof(stacks[1]), CLONE_VM | CLONE_FILES | CLONE_FS | SIGCHLD, NULL) > 0);
	ready();
	stay();
}

ROLE(blocked)
{
	int fd = open("/run/lock-me", O_CREAT | O_RDWR | O_CLOEXEC, 0600);
	NEED(fd >= 0 && !flock(fd, LOCK_EX));
	struct flock whole = { .l_type = F_WRLCK };
	NEED(!fcntl(fd, F_SETLK, &whole));
	if (!branch(0)) {
		prctl(PR_SET_NAME, "in flock");
		flock(open("/run/lock-me", O_RDWR), LOCK_EX);
	}
	if (!branch(0)) {
		prctl(PR_SET_NAME, "in fcntl");
		fcntl(fd, F_SETLKW, &whole);
	}
	if (!branch(0)) {
		prctl(PR_SET_NAME, "in open");
		mkfifo("/run/nobody", 0600);
		if (open("/run/nobody", O_RDONLY) < 0)
			stay();
	}
	ready();
	prctl(PR_SET_NAME, "in wait");
	waitpid(-1, NULL, 0);
	stay();
}

ROLE(restricted)
{
	if (!branch(0)) {
		struct sched_param p = { .sched_priority = 7 };
		prctl(PR_SET_NAME, "fifo");
		NEED(!sched_setscheduler(0, SCHED_FIFO, &p));
		stay();
	}
	if (!branch(0)) {
		prctl(PR_SET_NAME, "batch");
		NEED(!sched_setscheduler(0, SCHED_BATCH, &(struct sched_param){ 0 }));
		NEED(!setpriority(PRIO_PROCESS, 0, -5));
		become(1000, 1000);
		NEED(!prctl(PR_SET_DUMPABLE, 0));
		stay();
	}
	if (!branch(0)) {
		struct sock_filter allow = BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
		struct sock_fprog program = { 1, &allow };
		prctl(PR_SET_NAME, "filtered");
		NEED(!prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
		NEED(!prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program));
		stay();
	}
	ready();
	stay();
}

/*
 * Runs for ever on the last processor, in user space, with known registers: the one state that a
 * processor's registers can be compared in.
 */
ROLE(spin)
{
	cpu_set_t set;
	CPU_ZERO(&set);
	CPU_SET(sysconf(_SC_NPROCESSORS_ONLN) - 1, &set);
	NEED(!sched_setaffinity(0, sizeof(set), &set));
	setpriority(PRIO_PROCESS, 0, 19);
	become(1000, 1000);
	ready();
	__asm__ volatile(
		"movabs $0x1122334455667788, %%rbx\n"
		"movabs $0x48564d49535049ff, %%r12\n"
		"mov %0, %%r13\n"
		"1: jmp 1b\n" : : "r"(environ) : "rbx", "r12", "r13");
}
