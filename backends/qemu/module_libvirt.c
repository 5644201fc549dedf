/* SPDX-License-Identifier: Apache-2.0 */
/* `libvirt:NAME`, `libvirt:URI#NAME`: QMP through libvirt, which holds the monitor. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <libvirt/libvirt-qemu.h>

#include "libvirt.h"
#include "qemu.h"

/*
 * libvirt waits for QEMU without end, so a thread of its own does. If it is still waiting when the
 * machine is closed, what it needs is left to it.
 */
struct passthrough {
	pthread_mutex_t lock;
	pthread_cond_t changed;
	virConnectPtr connection;
	virDomainPtr domain;
	pthread_t thread;
	bool busy, done, closed;
	char *command, *answer;
	int send_fd;
	int rc;
	struct hvmi_error error;
};

static void free_passthrough(struct passthrough *p)
{
	if (p->domain)
		virDomainFree(p->domain);
	if (p->connection)
		virConnectClose(p->connection);
	pthread_cond_destroy(&p->changed);
	pthread_mutex_destroy(&p->lock);
	if (p->send_fd >= 0)
		close(p->send_fd);
	free(p->command);
	free(p->answer);
	free(p);
}

static int pass_through(struct passthrough *p, const char *command, int send_fd, char **answer_ret,
			struct hvmi_error *err)
{
	char *text = NULL;
	int failed = send_fd < 0 ? virDomainQemuMonitorCommand(p->domain, command, &text, 0) :
				   virDomainQemuMonitorCommandWithFiles(p->domain, command, 1,
									&send_fd, NULL, NULL, &text,
									0);
	if (!failed) {
		*answer_ret = text;
		return 0;
	}
	int rc = libvirt_failed("libvirt does not pass the command on", err);
	/* Where QEMU has just ended, libvirt needs a moment to say so, on a busy host seconds. */
	for (int tries = 0; tries < 50 && virDomainIsActive(p->domain) == 1; tries++)
		usleep(100000);
	return virDomainIsActive(p->domain) == 1 ? rc : -ESRCH;
}

static void *work(void *context)
{
	struct passthrough *p = context;
	pthread_mutex_lock(&p->lock);
	while (!p->closed) {
		if (!p->busy || p->done) {
			pthread_cond_wait(&p->changed, &p->lock);
			continue;
		}
		pthread_mutex_unlock(&p->lock);
		char *answer = NULL;
		struct hvmi_error error = { 0 };
		int rc = pass_through(p, p->command, p->send_fd, &answer, &error);
		pthread_mutex_lock(&p->lock);
		p->rc = rc;
		p->error = error;
		free(p->answer);
		p->answer = answer;
		p->done = true;
		pthread_cond_broadcast(&p->changed);
	}
	pthread_mutex_unlock(&p->lock);
	free_passthrough(p);
	return NULL;
}

/* Until @p when: the thread is idle, or has an answer. */
static bool wait_until(struct passthrough *p, const struct timespec *when, bool for_answer)
{
	while (for_answer ? !p->done : p->busy && !p->done)
		if (pthread_cond_timedwait(&p->changed, &p->lock, when))
			return false;
	return true;
}

static int passthrough_execute(void *transport, const char *command, int send_fd, int timeout_ms,
			       char **answer_ret, struct hvmi_error *err)
{
	struct passthrough *p = transport;
	struct timespec when;
	clock_gettime(CLOCK_MONOTONIC, &when);
	when.tv_sec += timeout_ms / 1000;
	when.tv_nsec += timeout_ms % 1000 * 1000000L;
	if (when.tv_nsec >= 1000000000L) {
		when.tv_sec++;
		when.tv_nsec -= 1000000000L;
	}
	int rc = -ETIMEDOUT;
	pthread_mutex_lock(&p->lock);
	/* An answer that came too late for its command is nobody's. */
	if (wait_until(p, &when, false)) {
		free(p->command);
		if (p->send_fd >= 0)
			close(p->send_fd);
		p->command = strdup(command);
		p->send_fd = send_fd >= 0 ? dup(send_fd) : -1;
		p->done = false;
		p->busy = p->command;
		pthread_cond_broadcast(&p->changed);
		if (!p->command)
			rc = -ENOMEM;
		else if (wait_until(p, &when, true))
			rc = p->rc;
	}
	if (rc != -ETIMEDOUT && p->done) {
		p->busy = false;
		*answer_ret = p->answer;
		p->answer = NULL;
		if (rc && err)
			*err = p->error;
	}
	pthread_mutex_unlock(&p->lock);
	if (rc == -ETIMEDOUT)
		return hvmi_error_set(err, rc, HVMI_NO_ADDRESS,
				      "QEMU, or libvirt, does not answer in time: one of them, or "
				      "this host, is stopped or overloaded");
	if (rc == -ESRCH)
		return hvmi_error_set(err, rc, HVMI_NO_ADDRESS,
				      "the domain is gone: libvirt says that it does not run");
	return rc == -ENOMEM ? hvmi_error_set(err, rc, HVMI_NO_ADDRESS, "out of memory") : rc;
}

static int passthrough_drain(void *transport, uint32_t *saw)
{
	(void)transport;
	(void)saw;
	return 0;
}

static int passthrough_fd(void *transport)
{
	(void)transport;
	return -1;
}

static void passthrough_close(void *transport)
{
	struct passthrough *p = transport;
	pthread_mutex_lock(&p->lock);
	bool waiting = p->busy && !p->done;
	pthread_t thread = p->thread;
	p->closed = true;
	pthread_cond_broadcast(&p->changed);
	pthread_mutex_unlock(&p->lock);
	if (waiting)
		pthread_detach(thread);
	else
		pthread_join(thread, NULL);
}

static const struct monitor_ops passthrough_ops = {
	.execute = passthrough_execute,
	.drain = passthrough_drain,
	.fd = passthrough_fd,
	.close = passthrough_close,
};

static int find_domain(struct passthrough *p, const char *uri, const char *name,
		       struct hvmi_error *err)
{
	int rc = libvirt_connect(uri, &p->connection, err);
	if (rc)
		return rc;
	p->domain = virDomainLookupByName(p->connection, name);
	if (!p->domain)
		p->domain = virDomainLookupByUUIDString(p->connection, name);
	if (!p->domain)
		return hvmi_error_set(err, -ENOENT, HVMI_NO_ADDRESS,
				      "libvirt%s%s knows no domain '%s': virsh list --all shows "
				      "them", uri ? " at " : "", uri ? uri : "", name);
	if (virDomainIsActive(p->domain) != 1)
		return hvmi_error_set(err, -ENOENT, HVMI_NO_ADDRESS,
				      "the domain '%s' does not run: virsh start %s", name, name);
	return 0;
}

static int start(struct passthrough *p, struct hvmi_error *err)
{
	if (pthread_create(&p->thread, NULL, work, p))
		return hvmi_error_set(err, -ENOMEM, HVMI_NO_ADDRESS, "no thread can be made");
	return 0;
}

static int open_domain(const struct hvmi_target *target, const struct hvmi_backend_host *host,
		       void **ret, struct hvmi_error *err)
{
	/* URI#NAME, or NAME. */
	char *uri = strdup(hvmi_target_what(target));
	char *mark = uri ? strrchr(uri, '#') : NULL;
	char *name = strdup(mark ? mark + 1 : uri ? uri : "");
	struct passthrough *p = calloc(1, sizeof(*p));
	int rc = uri && name && p ? 0 : hvmi_error_set(err, -ENOMEM, HVMI_NO_ADDRESS,
						       "out of memory");
	if (mark)
		*mark = '\0';
	if (!rc) {
		pthread_condattr_t attr;
		pthread_condattr_init(&attr);
		pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
		pthread_cond_init(&p->changed, &attr);
		pthread_condattr_destroy(&attr);
		pthread_mutex_init(&p->lock, NULL);
		p->send_fd = -1;
		rc = find_domain(p, mark && *uri ? uri : NULL, name, err);
		if (!rc)
			rc = start(p, err);
		if (rc)
			free_passthrough(p);
	} else {
		free(p);
	}
	free(uri);
	if (rc) {
		free(name);
		return rc;
	}
	struct monitor monitor = { .ops = &passthrough_ops, .transport = p, .name = name };
	return qemu_attach(&monitor, name, target, host, ret, err);
}

const struct hvmi_backend *hvmi_backend_entry(uint32_t version_major, uint32_t version_minor)
{
	static const struct hvmi_backend backend = {
		QEMU_METHODS,
		.scheme = "libvirt",
		.open = open_domain,
		.watch_open = libvirt_watch_open,
		.watch_close = libvirt_watch_close,
		.watch_next = libvirt_watch_next,
	};
	(void)version_minor;
	return version_major == HVMI_VERSION_MAJOR ? &backend : NULL;
}
