// SPDX-License-Identifier: Apache-2.0
/* Roles about what a process says it is: comm, arguments, environment, program. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "actor.h"
#include "scene.h"

/* Where a role goes on after it has started itself anew. */
ROLE(again)
{
	ready();
	stay();
}

ROLE(comms)
{
	static const char *const names[] = {
		"with spaces", "a b) R 1 (c", "[kthreadd]", "(paren", "paren)", "new\nline", "end\n",
		"\xff\xfe\x80raw\x01", "", " ", "tab\tand\r", "kworker/0:1-evt", "exactly 15 char",
		"cut off after the fifteenth", "back\\slash\\n", "\x1b[31mred\x1b[0m", "%s%n%d", "\xc3\xa9t\xc3\xa9",
		"swapper/0", "'\"`$(id)",
	};
	for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++)
		if (!branch(0)) {
			prctl(PR_SET_NAME, names[i]);
			stay();
		}
	ready();
	stay();
}

/* As setproctitle() does it, within the room that the arguments have. */
ROLE(title)
{
	size_t room = actor_argv[1] + strlen(actor_argv[1]) + 1 - actor_argv[0];
	memset(actor_argv[0], 0, room);
	memcpy(actor_argv[0], "new\ntitle", room < 9 ? room : 9);
	ready();
	stay();
}

/* Past the end of the arguments, into the environment: the kernel shows it as one string. */
ROLE(long_title)
{
	char *end = environ[0];
	for (char **e = environ; *e; e++)
		end = *e + strlen(*e);
	static const char title[] = "a title that is longer than arguments";
	size_t room = end - actor_argv[0];
	memcpy(actor_argv[0], title, room < sizeof(title) ? room : sizeof(title));
	ready();
	stay();
}

/* Arguments and environment in another place than the stack. */
ROLE(mm_arg)
{
	char *p = mmap(NULL, 3 * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	NEED(p != MAP_FAILED);
	/* Across a page boundary each. */
	static const char args[] = "moved\0arguments\0", vars[] = "MOVED=environment\0SECOND=1\0";
	char *a = p + 4096 - 4, *e = p + 2 * 4096 - 9;
	memcpy(a, args, sizeof(args) - 1);
	memcpy(e, vars, sizeof(vars) - 1);
	/* Downward, so a beginning goes before its end. */
	NEED(!prctl(PR_SET_MM, PR_SET_MM_ARG_START, a, 0, 0));
	NEED(!prctl(PR_SET_MM, PR_SET_MM_ARG_END, a + sizeof(args) - 1, 0, 0));
	NEED(!prctl(PR_SET_MM, PR_SET_MM_ENV_START, e, 0, 0));
	NEED(!prctl(PR_SET_MM, PR_SET_MM_ENV_END, e + sizeof(vars) - 1, 0, 0));
	ready();
	stay();
}

ROLE(big_environ)
{
	static char *argv[203], *envp[303];
	static char longest[100000];
	int n = 0;
	for (int i = 0; i < 200; i++)
		NEED(asprintf(&argv[n++], "argument %d%s", i, i % 3 ? "" : " \xff\n\"'") > 0);
	argv[n++] = "";
	argv[n] = NULL;
	n = 0;
	envp[n++] = "ACTOR_ROLE=again";
	for (int i = 0; i < 299; i++)
		NEED(asprintf(&envp[n++], "VARIABLE_%d=%0*d", i, i, i) > 0);
	memcpy(longest, "LONGEST=", 8);
	memset(longest + 8, 'x', sizeof(longest) - 9);
	envp[n++] = longest;
	envp[n] = NULL;
	execve("/usr/bin/actor", argv, envp);
	fail("exec");
}

/* From 5.18 on the kernel makes one empty argument of none. */
ROLE(no_args)
{
	char *const argv[] = { NULL }, *const envp[] = { "ACTOR_ROLE=again", NULL };
	execve("/usr/bin/actor", argv, envp);
	fail("exec");
}

/* Programs whose own names are long or odd; one without a name: executed by its descriptor. */
ROLE(long_name)
{
	char longest[sizeof(SCENE_NAMES) + 257] = SCENE_NAMES "/";
	memset(longest + sizeof(SCENE_NAMES), 'L', 255);
	const char *const paths[] = { longest, SCENE_NAMES "/a program\nof two lines", SCENE_NAMES "/gone program" };
	char *const envp[] = { "ACTOR_ROLE=again", NULL };
	char none;
	int begun[2];
	NEED(!pipe2(begun, O_CLOEXEC));
	for (size_t i = 0; i < 3; i++) {
		char *const argv[] = { "by another name", NULL };
		NEED(!link("/usr/bin/actor", paths[i]));
		if (!branch(0)) {
			execve(paths[i], argv, envp);
			fail("exec");
		}
	}
	/* Closed by each of them when it executes its program. */
	NEED(!close(begun[1]) && read(begun[0], &none, 1) == 0 && !close(begun[0]));
	NEED(!unlink(paths[2]));
	char *const argv[] = { "by descriptor", NULL };
	fexecve(open("/usr/bin/actor", O_RDONLY | O_CLOEXEC), argv, envp);
	fail("fexecve");
}
