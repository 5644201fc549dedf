// SPDX-License-Identifier: Apache-2.0
/* actor ROLE: one program for all that the guest's cast does. actor --list: the roles, in their order. */
#define _GNU_SOURCE
#include <errno.h>
#include <grp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "actor.h"

#define READY_FD 3

char **actor_argv;
static const char *role_name;

#define X(name) ROLE(name);
#include "roles.def"
X(spin)
X(again)
#undef X

static const struct {
	const char *name;
	void (*play)(void);
} roles[] = {
#define X(name) { #name, role_##name },
#include "roles.def"
	X(spin)
	X(again)
#undef X
};

void ready(void)
{
	/* A child that gave the descriptor up has nobody to tell. */
	if (write(READY_FD, role_name, strlen(role_name)) < 0 && errno != EBADF)
		fail("ready");
	close(READY_FD);
}

void stay(void)
{
	for (;;)
		pause();
}

void fail(const char *what)
{
	dprintf(2, "actor %s: %s: %s\n", role_name, what, strerror(errno));
	_exit(1);
}

void become(uid_t uid, gid_t gid)
{
	NEED(!setgroups(1, &gid) && !setresgid(gid, gid, gid) && !setresuid(uid, uid, uid));
}

pid_t branch(int keep)
{
	pid_t pid = fork();
	NEED(pid >= 0);
	if (!pid && !keep)
		close(READY_FD);
	return pid;
}

int main(int argc, char **argv)
{
	if (argc == 2 && !strcmp(argv[1], "--list")) {
		for (size_t i = 0; i < sizeof(roles) / sizeof(*roles) - 2; i++)
			puts(roles[i].name);
		return 0;
	}
	/* Roles that start themselves anew say which role goes on in the environment, not in argv. */
	role_name = getenv("ACTOR_ROLE") ? getenv("ACTOR_ROLE") : argc > 1 ? argv[1] : "";
	actor_argv = argv;
	for (size_t i = 0; i < sizeof(roles) / sizeof(*roles); i++)
		if (!strcmp(roles[i].name, role_name))
			roles[i].play();
	fail("no such role");
}
