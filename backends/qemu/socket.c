/* SPDX-License-Identifier: Apache-2.0 */
/* QMP over its own unix socket. */
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "monitor.h"

struct connection {
	int fd;
	const char *path;
	char *buf;	/* [0, used) was received and not yet taken */
	size_t used, room;
	uint64_t last_id;
	uint32_t saw;
};

static int64_t now_ms(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* 1: ready, 0: not in time. */
static int wait_for(int fd, short events, int64_t deadline)
{
	for (;;) {
		int64_t left = deadline - now_ms();
		struct pollfd p = { .fd = fd, .events = events };
		int n = poll(&p, 1, left > 0 ? (int)left : 0);
		if (n > 0)
			return 1;
		if (n == 0 || errno != EINTR)
			return 0;
	}
}

/* Receive what is there. 1: something, 0: nothing now, or -ESRCH, -ENOMEM, -EOVERFLOW. */
static int receive(struct connection *c)
{
	if (c->room - c->used < 4096) {
		size_t room = c->room ? 2 * c->room : 65536;
		char *buf = room <= MONITOR_ANSWER_MAX ? realloc(c->buf, room) : NULL;
		if (!buf)
			return room <= MONITOR_ANSWER_MAX ? -ENOMEM : -EOVERFLOW;
		c->buf = buf;
		c->room = room;
	}
	ssize_t n = recv(c->fd, c->buf + c->used, c->room - c->used, MSG_DONTWAIT);
	if (n > 0) {
		c->used += (size_t)n;
		return 1;
	}
	return n < 0 && (errno == EAGAIN || errno == EINTR) ? 0 : -ESRCH;
}

/* The next whole line if there is one, NUL-terminated and the caller's, or NULL. */
static char *take_line(struct connection *c)
{
	char *end = c->used ? memchr(c->buf, '\n', c->used) : NULL;
	if (!end)
		return NULL;
	size_t len = (size_t)(end - c->buf) + 1;
	char *line = malloc(len);
	if (!line)
		return NULL;
	memcpy(line, c->buf, len - 1);
	line[len - 1] = '\0';
	memmove(c->buf, c->buf + len, c->used - len);
	c->used -= len;
	return line;
}

/* A line by @p deadline: 0, -ETIMEDOUT or what receive() says. */
static int next_line(struct connection *c, int64_t deadline, char **ret)
{
	for (;;) {
		char *line = take_line(c);
		if (line) {
			*ret = line;
			return 0;
		}
		int rc = receive(c);
		if (rc < 0)
			return rc;
		if (rc == 0 && !wait_for(c->fd, POLLIN, deadline))
			return -ETIMEDOUT;
	}
}

/* What was told without being asked: true if @p message is of that kind. */
static bool note_event(struct connection *c, const json_t *message)
{
	const char *name = json_string_value(json_object_get(message, "event"));
	/* The last of the two counts. */
	if (name && !strcmp(name, "STOP"))
		c->saw = MONITOR_SAW_STOP;
	if (name && !strcmp(name, "RESUME"))
		c->saw = MONITOR_SAW_RESUME;
	return name;
}

static int send_all(struct connection *c, const char *text, size_t len, int send_fd,
		    int64_t deadline)
{
	while (len) {
		struct iovec part = { .iov_base = (void *)(uintptr_t)text, .iov_len = len };
		union {
			struct cmsghdr header;
			char bytes[CMSG_SPACE(sizeof(int))];
		} control = { 0 };
		struct msghdr message = { .msg_iov = &part, .msg_iovlen = 1 };
		if (send_fd >= 0) {
			message.msg_control = &control;
			message.msg_controllen = sizeof(control);
			struct cmsghdr *header = CMSG_FIRSTHDR(&message);
			header->cmsg_level = SOL_SOCKET;
			header->cmsg_type = SCM_RIGHTS;
			header->cmsg_len = CMSG_LEN(sizeof(int));
			memcpy(CMSG_DATA(header), &send_fd, sizeof(int));
		}
		ssize_t n = sendmsg(c->fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
		if (n >= 0) {
			text += n;
			len -= (size_t)n;
			send_fd = -1;
		} else if (errno != EAGAIN && errno != EINTR) {
			return -ESRCH;
		} else if (!wait_for(c->fd, POLLOUT, deadline)) {
			return -ETIMEDOUT;
		}
	}
	return 0;
}

static int failed(const struct connection *c, int rc, struct hvmi_error *err)
{
	switch (rc) {
	case -ESRCH:
		return hvmi_error_set(err, rc, HVMI_NO_ADDRESS,
				      "%s is gone: QEMU ended or closed its monitor", c->path);
	case -ETIMEDOUT:
		return hvmi_error_set(err, rc, HVMI_NO_ADDRESS,
				      "QEMU at %s does not answer in time: it, or this host, is stopped "
				      "or overloaded", c->path);
	case -EOVERFLOW:
		return hvmi_error_set(err, rc, HVMI_NO_ADDRESS,
				      "an answer of QEMU at %s is longer than %u bytes", c->path,
				      MONITOR_ANSWER_MAX);
	default:
		return hvmi_error_set(err, rc, HVMI_NO_ADDRESS, "out of memory");
	}
}

static int socket_execute(void *transport, const char *command, int send_fd, int timeout_ms,
			  char **answer_ret, struct hvmi_error *err)
{
	struct connection *c = transport;
	int64_t deadline = now_ms() + timeout_ms;
	uint64_t id = ++c->last_id;
	/* The answer to a command that took too long may still come: numbers tell them apart. */
	char *text;
	int len = asprintf(&text, "{\"id\":%llu,%s\n", (unsigned long long)id, command + 1);
	if (len < 0)
		return failed(c, -ENOMEM, err);
	int rc = send_all(c, text, (size_t)len, send_fd, deadline);
	free(text);
	while (!rc) {
		char *line = NULL;
		rc = next_line(c, deadline, &line);
		if (rc)
			break;
		json_t *message = json_loads(line, 0, NULL);
		bool ours = !note_event(c, message) &&
			    json_integer_value(json_object_get(message, "id")) == (json_int_t)id;
		json_decref(message);
		if (ours) {
			*answer_ret = line;
			return 0;
		}
		free(line);
	}
	return failed(c, rc, err);
}

static int socket_drain(void *transport, uint32_t *saw)
{
	struct connection *c = transport;
	int rc;
	do {
		rc = receive(c);
		char *line;
		while ((line = take_line(c))) {
			json_t *message = json_loads(line, 0, NULL);
			note_event(c, message);
			json_decref(message);
			free(line);
		}
	} while (rc == 1);
	*saw = c->saw;
	c->saw = 0;
	return rc;
}

static int socket_fd(void *transport)
{
	return ((struct connection *)transport)->fd;
}

static void socket_close(void *transport)
{
	struct connection *c = transport;
	close(c->fd);
	free(c->buf);
	free(c);
}

static const struct monitor_ops socket_ops = {
	.execute = socket_execute,
	.drain = socket_drain,
	.fd = socket_fd,
	.close = socket_close,
};

#define HELD "QMP serves one client at a time"

static int no_connection(const char *path, int error, struct hvmi_error *err)
{
	switch (error) {
	case EACCES:
	case EPERM:
		return hvmi_error_set(err, -EACCES, HVMI_NO_ADDRESS,
				      "no permission to connect to %s: run as the user that QEMU "
				      "runs as", path);
	case ENOENT:
	case ENOTDIR:
		return hvmi_error_set(err, -ENOENT, HVMI_NO_ADDRESS,
				      "there is no socket %s: start QEMU with -qmp "
				      "unix:%s,server=on,wait=off", path, path);
	case ECONNREFUSED:
		return hvmi_error_set(err, -ENOENT, HVMI_NO_ADDRESS,
				      "nobody listens at %s: its QEMU ended, or it is no socket",
				      path);
	case EAGAIN:
		return hvmi_error_set(err, -ETIMEDOUT, HVMI_NO_ADDRESS,
				      "%s does not accept connections: " HELD ", and others wait",
				      path);
	default:
		return hvmi_error_set(err, -EIO, HVMI_NO_ADDRESS, "cannot connect to %s: %s", path,
				      strerror(error));
	}
}

static int connect_to(const char *path, int64_t deadline, int *fd_ret, struct hvmi_error *err)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	if (strlen(path) >= sizeof(address.sun_path))
		return hvmi_error_set(err, -EINVAL, HVMI_NO_ADDRESS,
				      "the path of a unix socket has at most %zu bytes: %s",
				      sizeof(address.sun_path) - 1, path);
	strcpy(address.sun_path, path);
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return hvmi_error_set(err, -EIO, HVMI_NO_ADDRESS, "no socket can be made: %s",
				      strerror(errno));
	/* EAGAIN: the queue of those that want to connect is full. */
	while (connect(fd, (struct sockaddr *)&address, sizeof(address))) {
		int error = errno;
		if ((error != EAGAIN && error != EINTR) || now_ms() >= deadline) {
			close(fd);
			return no_connection(path, error, err);
		}
		poll(NULL, 0, 20);
	}
	*fd_ret = fd;
	return 0;
}

static int greeted(struct connection *c, int64_t deadline, struct hvmi_error *err)
{
	char *line = NULL;
	int rc = next_line(c, deadline, &line);
	if (rc == -ETIMEDOUT && !c->used)
		return hvmi_error_set(err, rc, HVMI_NO_ADDRESS,
				      "%s does not greet within %d s: " HELD ", so another program "
				      "may hold it (libvirt: use libvirt:NAME; else give QEMU one "
				      "more -qmp socket), or it is no QMP socket", c->path,
				      MONITOR_GREETING_MS / 1000);
	if (rc == -ESRCH)
		return hvmi_error_set(err, rc, HVMI_NO_ADDRESS,
				      "%s closes the connection at once: QEMU ended, or it is no "
				      "QMP socket", c->path);
	if (rc && rc != -ETIMEDOUT)
		return failed(c, rc, err);
	json_t *message = rc ? NULL : json_loads(line, 0, NULL);
	bool is_qmp = json_object_get(message, "QMP");
	json_decref(message);
	free(line);
	if (!is_qmp)
		return hvmi_error_set(err, -EBADMSG, HVMI_NO_ADDRESS,
				      "%s is no QMP socket: it does not speak JSON (a human "
				      "monitor does not do; give QEMU -qmp "
				      "unix:PATH,server=on,wait=off)", c->path);
	return 0;
}

int monitor_open_socket(struct monitor *m, const char *path, struct hvmi_error *err)
{
	struct connection *c = calloc(1, sizeof(*c));
	if (!c)
		return hvmi_error_set(err, -ENOMEM, HVMI_NO_ADDRESS, "out of memory");
	c->path = path;
	int64_t deadline = now_ms() + MONITOR_GREETING_MS;
	int rc = connect_to(path, deadline, &c->fd, err);
	if (rc) {
		free(c);
		return rc;
	}
	rc = greeted(c, deadline, err);
	if (rc) {
		socket_close(c);
		return rc;
	}
	struct ucred peer = { 0 };
	socklen_t len = sizeof(peer);
	getsockopt(c->fd, SOL_SOCKET, SO_PEERCRED, &peer, &len);
	*m = (struct monitor){ .ops = &socket_ops, .transport = c, .name = path,
			       .peer = peer.pid };
	rc = monitor_command(m, "qmp_capabilities", NULL, NULL, err);
	if (rc)
		monitor_close(m);
	return rc;
}
