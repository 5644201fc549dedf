// SPDX-License-Identifier: Apache-2.0
/* The first process of a guest with many: see crowd.py. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

int main(void)
{
	/* What the kernel does not know of its command line becomes our environment. */
	int count = 2000, started = 0;
	const char *given = getenv("crowd");
	if (given)
		count = atoi(given);
	mkdir("/dev", 0755);
	mount("devtmpfs", "/dev", "devtmpfs", 0, NULL);
	int console = open("/dev/console", O_RDWR);
	while (started < count) {
		char name[16];
		pid_t pid = fork();
		if (pid < 0)
			break;
		if (pid == 0) {
			snprintf(name, sizeof(name), "crowd-%d", started);
			prctl(PR_SET_NAME, name);
			for (;;)
				pause();
		}
		started++;
	}
	dprintf(console, "crowd: %d started\n", started);
	for (;;)
		pause();
}
