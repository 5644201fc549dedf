// SPDX-License-Identifier: Apache-2.0
/* Roles about open files. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <fcntl.h>
#include <signal.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <sys/un.h>
#include <unistd.h>

#include "actor.h"
#include "scene.h"

ROLE(files)
{
	int ends[2], fd = open("/scene/plain", O_RDWR | O_APPEND);
	NEED(fd >= 0 && lseek(fd, 1234, SEEK_SET) == 1234);
	NEED(open("/scene", O_RDONLY | O_DIRECTORY) >= 0);
	NEED(open(SCENE_TMPFS "/inner/file", O_PATH) >= 0);
	NEED(open(SCENE_BIND "/file", O_WRONLY | O_NONBLOCK) >= 0);
	NEED(open(SCENE_EXT4 "/opened", O_RDWR | O_CREAT | O_SYNC, 0640) >= 0);
	NEED(open(SCENE_TMPFS, O_RDWR | O_TMPFILE, 0600) >= 0);
	NEED(open("/scene/removed", O_RDWR | O_CREAT, 0600) >= 0 && !unlink("/scene/removed"));
	NEED(open("/dev/null", O_RDWR) >= 0 && open("/proc/self/status", O_RDONLY) >= 0);
	NEED(!pipe(ends) && !pipe2(ends, O_CLOEXEC | O_NONBLOCK));
	sigset_t set;
	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	int events = eventfd(3, 0), poll = epoll_create1(0);
	struct epoll_event e = { .events = EPOLLIN };
	NEED(events >= 0 && poll >= 0 && !epoll_ctl(poll, EPOLL_CTL_ADD, events, &e));
	NEED(timerfd_create(CLOCK_MONOTONIC, 0) >= 0 && signalfd(-1, &set, 0) >= 0);
	NEED(inotify_add_watch(inotify_init1(0), "/scene", IN_CREATE) >= 0);
	NEED(memfd_create("open memfd", MFD_ALLOW_SEALING) >= 0);
	/* Beyond the first table, with holes, and one file behind many numbers. */
	for (int n = 100; n < 300; n += 1 + n % 3)
		NEED(dup2(fd, n) == n);
	NEED(dup2(ends[0], 900) == 900);
	ready();
	stay();
}

static int listener(int family, int type, const void *address, socklen_t len)
{
	int s = socket(family, type, 0);
	NEED(s >= 0 && !bind(s, address, len));
	if (type == SOCK_STREAM)
		NEED(!listen(s, 5));
	return s;
}

ROLE(sockets)
{
	struct sockaddr_in in = { .sin_family = AF_INET, .sin_port = htons(8080) };
	in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	int server = listener(AF_INET, SOCK_STREAM, &in, sizeof(in)), client = socket(AF_INET, SOCK_STREAM, 0);
	NEED(client >= 0 && !connect(client, (struct sockaddr *)&in, sizeof(in)));
	NEED(accept(server, NULL, NULL) >= 0);
	in.sin_port = htons(5353);
	listener(AF_INET, SOCK_DGRAM, &in, sizeof(in));
	struct sockaddr_in6 in6 = { .sin6_family = AF_INET6, .sin6_port = htons(8081) };
	listener(AF_INET6, SOCK_STREAM, &in6, sizeof(in6));

	struct sockaddr_un un = { .sun_family = AF_UNIX, .sun_path = "/run/a socket" };
	listener(AF_UNIX, SOCK_STREAM, &un, sizeof(un));
	memcpy(un.sun_path, "\0abstract\xff", 10);
	listener(AF_UNIX, SOCK_DGRAM, &un, offsetof(struct sockaddr_un, sun_path) + 10);
	int pair[2];
	NEED(!socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair));
	NEED(send(pair[0], "queued", 6, 0) == 6);
	NEED(socket(AF_NETLINK, SOCK_RAW, 0) >= 0);
	ready();
	stay();
}

/* A session on a pseudo terminal. */
ROLE(terminal)
{
	int master = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
	NEED(master >= 0 && !grantpt(master) && !unlockpt(master));
	const char *name = ptsname(master);
	if (!branch(1)) {
		setsid();
		int tty = open(name, O_RDWR);
		NEED(tty >= 0 && !ioctl(tty, TIOCSCTTY, 0));
		for (int fd = 0; fd < 3; fd++)
			dup2(tty, fd);
		ready();
		char byte;
		for (;;)
			if (read(0, &byte, 1) < 0)
				stay();
	}
	stay();
}
