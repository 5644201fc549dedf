/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GUEST_ACTOR_H
#define GUEST_ACTOR_H

#include <sys/types.h>

/*
 * A role sets something up that is worth finding from outside, calls ready() in the process that is
 * the last to come into place, and ends in stay().
 */
#define ROLE(name) void role_##name(void)

/* Tells init; also gives the descriptor up. Any process of the role may call it, one must. */
void ready(void);
/* Blocks for ever. */
__attribute__((noreturn)) void stay(void);
/* A message on the console and exit: init then says that the role is missing. */
__attribute__((noreturn)) void fail(const char *what);
/* As fail() unless @condition. */
#define NEED(condition) do { if (!(condition)) fail(#condition); } while (0)
/* Real, effective and saved ids at once. */
void become(uid_t uid, gid_t gid);
/* fork() that fails loudly; the child gives up the descriptor of ready() unless @keep. */
pid_t branch(int keep);

/* The arguments and the environment as the kernel put them. */
extern char **actor_argv;
extern char **environ;

#endif
