/* SPDX-License-Identifier: Apache-2.0 */
/* QEMU's monitor: QMP commands and their answers, over whatever carries them. */
#ifndef HVMI_BACKEND_QEMU_MONITOR_H
#define HVMI_BACKEND_QEMU_MONITOR_H

#include <stdbool.h>
#include <sys/types.h>

#include <jansson.h>

#include <hvmi/backend.h>

/* How long QEMU may take to answer, and to greet who connects. */
#define MONITOR_TIMEOUT_MS 10000
/* The same once it did not: nobody wants to wait again and again. */
#define MONITOR_LATE_MS 3000
#define MONITOR_GREETING_MS 5000
/* Bytes of an answer that are taken. */
#define MONITOR_ANSWER_MAX (16u * 1024 * 1024)

/* What QEMU told without being asked; the last of these counts. */
#define MONITOR_SAW_STOP 1u
#define MONITOR_SAW_RESUME 2u

/* What carries commands. One thread at a time. */
struct monitor_ops {
	/*
	 * Send a QMP command and wait for its answer, which is allocated. @p send_fd goes with it, or
	 * is -1. -ESRCH: QEMU is gone.
	 */
	int (*execute)(void *transport, const char *command, int send_fd, int timeout_ms,
		       char **answer_ret, struct hvmi_error *err);
	/*
	 * Take what was told without being asked, without waiting. *@p saw: 0 or MONITOR_SAW_*.
	 * -ESRCH: QEMU is gone.
	 */
	int (*drain)(void *transport, uint32_t *saw);
	/* Polls readable when there may be something to drain; -1: there never is. */
	int (*fd)(void *transport);
	void (*close)(void *transport);
};

struct monitor {
	const struct monitor_ops *ops;
	void *transport;
	const char *name;	/* of the machine, for messages */
	pid_t peer;		/* who listens at the other end, or 0 */
	uint32_t saw;		/* MONITOR_SAW_*, or 0 since it was last cleared */
	bool gone;
	bool late;		/* it did not answer the last command in time */
};

/* Connect to the QMP socket at @p path, which stays the caller's. */
int monitor_open_socket(struct monitor *m, const char *path, struct hvmi_error *err);

void monitor_close(struct monitor *m);

/*
 * Carry out a QMP command. @p arguments is given away; NULL: none. @p ret gets what it returned,
 * or may be NULL. -ENOTSUP: QEMU does not know the command; -EIO: it refused.
 */
int monitor_command(struct monitor *m, const char *name, json_t *arguments, json_t **ret,
		    struct hvmi_error *err);

/* The same, with a descriptor that QEMU gets. */
int monitor_command_fd(struct monitor *m, const char *name, json_t *arguments, int fd,
		       struct hvmi_error *err);

/* Carry out a line of the human monitor, for a vCPU (by QEMU's index) or -1. */
int monitor_hmp(struct monitor *m, int64_t cpu, const char *line, char **text_ret,
		struct hvmi_error *err);

/* Whether the machine runs. */
enum monitor_status {
	MONITOR_STANDS, MONITOR_RUNS,
	MONITOR_TRAPPED		/* it stands for a debugger, be it there or not */
};
int monitor_status(struct monitor *m, enum monitor_status *ret, struct hvmi_error *err);

/* See monitor_ops.drain(); the result is in monitor.saw. */
int monitor_drain(struct monitor *m);

/* A sentence for a machine that ended. */
int monitor_gone(const struct monitor *m, struct hvmi_error *err);

#endif
