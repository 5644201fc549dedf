/* SPDX-License-Identifier: Apache-2.0 */
/* The first process: mounts, loads the module, starts a few processes and the probe. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "probe.h"

static unsigned long long symbol(const char *name)
{
	FILE *file = fopen("/proc/kallsyms", "re");
	char line[256], found[128];
	unsigned long long address = 0, value;
	while (file && !address && fgets(line, sizeof(line), file))
		if (sscanf(line, "%llx %*c %127s", &value, found) == 2 && strcmp(found, name) == 0)
			address = value;
	if (file)
		fclose(file);
	return address;
}

/* Modules cannot ask for the bounds of the kernel's text. */
static void load_module(void)
{
	int fd = open("/hvmi_probe.ko", O_RDONLY | O_CLOEXEC);
	if (fd < 0) {
		puts("GUEST: no module");
		return;
	}
	char options[128];
	snprintf(options, sizeof(options), "text=%llu text_end=%llu", symbol("_stext"),
		 symbol("_etext"));
	if (syscall(SYS_finit_module, fd, options, 0))
		perror("GUEST: hvmi_probe.ko");
	close(fd);
}

static void child(const char *name, void (*run)(void))
{
	pid_t pid = fork();
	if (pid < 0)
		perror("GUEST: fork");
	if (pid)
		return;
	prctl(PR_SET_NAME, name);
	run();
	_exit(1);
}

static void sleep_for_ever(void)
{
	for (;;)
		pause();
}

/* Another process than the probe that runs now and then: page-table roots are switched. */
static void nap_for_ever(void)
{
	for (;;)
		usleep(50000);
}

int main(void)
{
	static const char *const folders[] = { "/proc", "/sys", "/dev" };
	static const char *const types[] = { "proc", "sysfs", "devtmpfs" };
	for (int i = 0; i < 3; i++)
		if (mount(types[i], folders[i], types[i], 0, NULL) && i != 2)
			perror(folders[i]);
	int console = open("/dev/console", O_RDWR | O_CLOEXEC);
	for (int fd = 0; console >= 0 && fd < 3; fd++)
		dup2(console, fd);
	setvbuf(stdout, NULL, _IOLBF, 0);
	load_module();
	child("sleeper-1", sleep_for_ever);
	child("sleeper-2", nap_for_ever);
	child(PROBE_NAME, probe_run);
	for (;;) {
		int status;
		pid_t pid = wait(&status);
		if (pid > 0)
			printf("GUEST: process %d ended: 0x%x\n", pid, status);
		else
			pause();
	}
}
