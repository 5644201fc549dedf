// SPDX-License-Identifier: Apache-2.0
/* The guest's first process: sets the scene, starts the cast, tells the truth, keeps still, tells it again. */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "scene.h"
#include "storm.h"
#include "truth.h"

#define READY_FD 3
#define STARTED_MS 120000

static void say(const char *format, ...)
{
	char line[512];
	va_list ap;
	va_start(ap, format);
	int n = vsnprintf(line, sizeof(line) - 1, format, ap);
	va_end(ap);
	if (n > (int)sizeof(line) - 2)
		n = sizeof(line) - 2;
	line[n++] = '\n';
	struct timespec t;
	clock_gettime(CLOCK_BOOTTIME, &t);
	dprintf(2, "guest: [%lld.%02ld] %.*s", (long long)t.tv_sec, t.tv_nsec / 10000000, n, line);
}

__attribute__((noreturn)) static void die(const char *what)
{
	say("FAILED: %s: %s", what, strerror(errno));
	reboot(RB_POWER_OFF);
	_exit(1);
}

static void nap_ms(long ms)
{
	struct timespec t = { ms / 1000, ms % 1000 * 1000000 };
	nanosleep(&t, NULL);
}

/* The modules lie in the order in which they have to be loaded. */
static void load_modules(void)
{
	FILE *list = fopen("/modules/list", "re");
	if (!list)
		return;
	char name[256], path[300];
	int loaded = 0;
	while (fgets(name, sizeof(name), list)) {
		name[strcspn(name, "\n")] = '\0';
		snprintf(path, sizeof(path), "/modules/%s", name);
		int fd = open(path, O_RDONLY | O_CLOEXEC);
		if (fd < 0 || syscall(SYS_finit_module, fd, "", 0))
			say("module %s: %s", name, strerror(errno));
		else
			loaded++;
		if (fd >= 0)
			close(fd);
		unlink(path);
	}
	fclose(list);
	say("%d modules loaded", loaded);
}

/* The virtio port that the host calls hvmi.truth. */
static int open_port(void)
{
	for (int tries = 0; tries < 200; tries++, nap_ms(20)) {
		DIR *d = opendir("/sys/class/virtio-ports");
		struct dirent *e;
		while (d && (e = readdir(d))) {
			char path[600], name[64] = "";
			snprintf(path, sizeof(path), "/sys/class/virtio-ports/%s/name", e->d_name);
			int fd = open(path, O_RDONLY | O_CLOEXEC);
			if (fd < 0)
				continue;
			if (read(fd, name, sizeof(name) - 1) < 0)
				name[0] = '\0';
			close(fd);
			if (strcmp(name, "hvmi.truth\n"))
				continue;
			snprintf(path, sizeof(path), "/dev/%s", e->d_name);
			fd = open(path, O_RDWR | O_CLOEXEC);
			if (fd < 0)
				continue;
			closedir(d);
			return fd;
		}
		if (d)
			closedir(d);
	}
	errno = ENODEV;
	die("the port hvmi.truth");
}

/* A storm of changes until the host answers; see storm.c. After it everything is as it was before. */
static void storm(int port)
{
	char byte;
	pid_t pid = fork();
	if (pid < 0)
		die("fork");
	if (pid == 0) {
		setpgid(0, 0);
		execl("/usr/bin/storm", "storm", NULL);
		_exit(127);
	}
	setpgid(pid, pid);
	truth_begin("storm");
	truth_end("storm");
	if (read(port, &byte, 1) != 1)
		die("the host's answer");
	/* Those that fork meanwhile are in the group too; orphans become ours. */
	for (int rounds = 0; rounds < 20; rounds++) {
		kill(-pid, SIGKILL);
		while (waitpid(-pid, NULL, WNOHANG) > 0)
			;
		nap_ms(20);
	}
	int fd = open(STORM_MODULE_FILE, O_RDONLY | O_CLOEXEC);
	if (fd >= 0 && syscall(SYS_finit_module, fd, "", 0) && errno != EEXIST)
		say("module " STORM_MODULE ": %s", strerror(errno));
	if (fd >= 0)
		close(fd);
	unlink(STORM_FILE);
	say("the storm is over");
}

/* A plain program, as opposed to one of the actor's roles. */
struct extra {
	uid_t uid;
	gid_t gid;
	const char *path;
	const char *const argv[6];
	const char *const envp[6];
};

static const struct extra extras[] = {
	{ 0, 0, "/usr/bin/sleep", { "sleep", "1000001" }, { "HOME=/root" } },
	{ 1000, 1000, "/usr/bin/sleep", { "sleep", "1000002" }, { "HOME=/home/alice", "USER=alice" } },
	{ 1001, 100, "/usr/bin/sleep", { "-sleep with spaces", "1000003" }, { "EMPTY=", "=odd", "", "noequals" } },
	{ 1001, 1001, "/usr/bin/bash", { "bash", "-c", "sleep 1000004; :" }, { "HOME=/home/bob" } },
	{ 65534, 65534, "/usr/bin/bash", { "-bash", "-c", "read -r x <> /run/fifo" }, { "A=1", "B=2" } },
	{ 0, 0, "/bin/busybox", { "busybox", "sleep", "1000005" }, { NULL } },
	{ 4000000000u, 4000000001u, "/bin/busybox", { "sh", "-c", "busybox sleep 1000006; :" }, { "PATH=/bin" } },
	{ 0, 0, "/usr/bin/tiny32", { "tiny32", "argument" }, { "BITS=32" } },
};

static pid_t start(const char *path, const char *const *argv, const char *const *envp, uid_t uid, gid_t gid,
	int ready)
{
	pid_t pid = fork();
	if (pid < 0)
		die("fork");
	if (pid)
		return pid;
	if (ready >= 0 && dup2(ready, READY_FD) < 0)
		_exit(126);
	if (uid || gid) {
		const gid_t groups[] = { gid, 27, 100, 65533 };
		if (setgroups(4, groups) || setresgid(gid, gid, gid) || setresuid(uid, uid, uid))
			_exit(126);
	}
	execve(path, (char *const *)argv, (char *const *)envp);
	dprintf(2, "guest: %s: %s\n", path, strerror(errno));
	_exit(127);
}

/* Every actor writes its role and a newline when it is in place. */
static pid_t start_actor(const char *role)
{
	static const char *const envp[] = {
		"PATH=/usr/bin:/bin", "HVMI_KEY=known value", "HVMI_RAW=\xff\xfe raw\x01\n%41", "HVMI_EMPTY=", NULL
	};
	int ends[2];
	if (pipe2(ends, O_CLOEXEC))
		die("pipe");
	pid_t pid = start("/usr/bin/actor", (const char *const[]){ "actor", role, NULL }, envp, 0, 0, ends[1]);
	close(ends[1]);

	struct pollfd p = { .fd = ends[0], .events = POLLIN };
	char answer[64];
	ssize_t n = 0;
	if (poll(&p, 1, STARTED_MS) == 1)
		n = read(ends[0], answer, sizeof(answer));
	close(ends[0]);
	if (n <= 0)
		say("role %s did not come into place", role);
	return pid;
}

/*
 * "spin" is the last because it takes a processor for itself from then on. Wait for the others to be
 * blocked before it and after it.
 */
static void wait_until_steady(pid_t spinner)
{
	for (int same = 0, tries = 0; same < 3; tries++) {
		if (tries > 4000) {
			say("it does not become steady");
			return;
		}
		same = truth_steady(spinner) ? same + 1 : 0;
		nap_ms(50);
	}
}

int main(void)
{
	setenv("PATH", "/usr/bin:/bin", 1);
	scene_base();
	/* A console that was not there for the kernel. */
	if (fcntl(0, F_GETFD) < 0) {
		int fd = open("/dev/console", O_RDWR);
		dup2(fd, 0);
		dup2(fd, 1);
		dup2(fd, 2);
	}
	say("up");
	load_modules();
	int port = open_port();
	truth_init(port);
	scene_set();
	say("the scene is set");

	for (size_t i = 0; i < sizeof(extras) / sizeof(*extras); i++) {
		const struct extra *e = &extras[i];
		if (access(e->path, X_OK) == 0)
			start(e->path, e->argv, e->envp, e->uid, e->gid, -1);
	}
	FILE *roles = popen("/usr/bin/actor --list", "r");
	char role[64];
	while (roles && fgets(role, sizeof(role), roles)) {
		role[strcspn(role, "\n")] = '\0';
		start_actor(role);
	}
	if (!roles || pclose(roles))
		die("actor --list");
	say("the cast is in place");

	truth_begin("machine");
	truth_machine();
	truth_end("machine");
	say("machine told");
	if (getenv("hvmi_storm"))
		storm(port);

	wait_until_steady(0);
	pid_t spinner = start_actor("spin");
	wait_until_steady(spinner);
	say("steady");

	static const char *const sections[] = { "before", "after" };
	for (int i = 0; i < 2; i++) {
		truth_begin(sections[i]);
		truth_tasks();
		truth_end(sections[i]);
		char byte;
		if (i == 0 && read(port, &byte, 1) != 1)
			die("the host's answer");
	}
	say("done");
	for (;;)
		pause();
}
