/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The first and only program of a guest: for each line on its console it has children make system calls,
 * known ones and no others, and says how many. Static, and without libc's fork(), which makes calls itself.
 */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#define CHILDREN 4
#define NARROW "/narrow"	/* narrow.c: one more child */
#define I386_OPEN 5
#define I386_GETGID 47

/* Not inlined anywhere: hvmi-watch looks for who writes it. */
static volatile unsigned long written __attribute__((aligned(64)));

/* Static and not position-independent: its address has 32 bits. */
static char narrow_path[] = "/no/such/32";

/* A call of the 32-bit interface, which 64-bit programs have too. */
static long call32(long number, long first, long second)
{
	long result;
	__asm__ volatile("int $0x80" : "=a"(result) : "a"(number), "b"(first), "c"(second), "d"(0)
			 : "memory", "r8", "r9", "r10", "r11");
	return result;
}

static void child(int number, int calls)
{
	char path[64];
	for (int i = 0; i < calls; i++) {
		syscall(SYS_getppid);
		if (i % 2 == 0) {
			snprintf(path, sizeof(path), "/no/such/%d/%d", number, i / 2);
			syscall(SYS_openat, AT_FDCWD, path, O_RDONLY, 0);
		}
		if (i % 4 == 0)
			syscall(SYS_getuid);
		if (i % 4 == 0)
			call32(I386_GETGID, 0, 0);
		if (i % 8 == 0)
			call32(I386_OPEN, (long)narrow_path, O_WRONLY);
		written = (unsigned long)i;
	}
	syscall(SYS_exit_group, 7);
}

static void narrow_child(int calls)
{
	char text[16];
	char *arguments[] = { NARROW, text, NULL };
	snprintf(text, sizeof(text), "%d", calls);
	syscall(SYS_execve, NARROW, arguments, NULL);
	syscall(SYS_exit_group, 1);
}

int main(void)
{
	char line[64];
	struct termios terminal;
	mount("proc", "/proc", "proc", 0, NULL);
	if (tcgetattr(0, &terminal) == 0) {
		terminal.c_lflag &= ~(tcflag_t)(ECHO | ISIG);
		tcsetattr(0, TCSANOW, &terminal);
	}
	printf("GUEST: up %d written %p\n", getpid(), (void *)&written);
	fflush(stdout);
	while (fgets(line, sizeof(line), stdin)) {
		int calls = 0, status, bad = 0;
		long pids[CHILDREN + 1];
		if (sscanf(line, "go %d", &calls) != 1)
			continue;
		written = 1000 + (unsigned long)calls;
		for (int i = 0; i <= CHILDREN; i++) {
			pids[i] = syscall(SYS_fork);
			if (pids[i] == 0 && i < CHILDREN)
				child(i, calls);
			else if (pids[i] == 0)
				narrow_child(calls);
		}
		for (int i = 0; i < CHILDREN; i++) {
			bad += waitpid((pid_t)pids[i], &status, 0) != pids[i] || !WIFEXITED(status) ||
			       WEXITSTATUS(status) != 7;
			printf("GUEST: child %ld getppid %d openat %d getuid %d getgid32 %d open32 %d\n",
			       pids[i], calls, (calls + 1) / 2, (calls + 3) / 4, (calls + 3) / 4,
			       (calls + 7) / 8);
		}
		bad += waitpid((pid_t)pids[CHILDREN], &status, 0) != pids[CHILDREN] || !WIFEXITED(status);
		printf("GUEST: narrow %ld way %d getppid %d open %d mmap2 %d\n", pids[CHILDREN],
		       WEXITSTATUS(status), calls, (calls + 1) / 2, (calls + 7) / 8);
		printf("GUEST: done %d bad\n", bad);
		fflush(stdout);
	}
	pause();
}
