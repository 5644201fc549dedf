/* SPDX-License-Identifier: Apache-2.0 */
#include "rsp.h"

#include <ctype.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

static int64_t now_ms(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static int64_t deadline_of(const struct rsp *r)
{
	return now_ms() + (r->late ? RSP_LATE_MS : RSP_TIMEOUT_MS);
}

static int gone(struct rsp *r)
{
	r->gone = true;
	return -ESRCH;
}

static int wait_for(struct rsp *r, short events, int64_t deadline)
{
	for (;;) {
		int64_t left = deadline - now_ms();
		struct pollfd p = { .fd = r->fd, .events = events };
		int n = poll(&p, 1, left > 0 ? (int)left : 0);
		if (n > 0)
			return 1;
		if (n == 0 || errno != EINTR)
			return 0;
	}
}

static int send_bytes(struct rsp *r, const char *bytes, size_t len)
{
	int64_t deadline = deadline_of(r);
	while (len) {
		ssize_t n = send(r->fd, bytes, len, MSG_DONTWAIT | MSG_NOSIGNAL);
		if (n >= 0) {
			bytes += n;
			len -= (size_t)n;
		} else if (errno != EAGAIN && errno != EINTR) {
			return gone(r);
		} else if (!wait_for(r, POLLOUT, deadline)) {
			return -ETIMEDOUT;
		}
	}
	return 0;
}

int rsp_send(struct rsp *r, const char *text)
{
	char frame[RSP_PACKET_MAX];
	uint8_t sum = 0;
	for (const char *p = text; *p; p++)
		sum += (uint8_t)*p;
	int len = snprintf(frame, sizeof(frame), "%s$%s#%02x", r->owed ? "+" : "", text, sum);
	if (len < 0 || (size_t)len >= sizeof(frame))
		return -EOVERFLOW;
	r->owed = false;
	return r->gone ? -ESRCH : send_bytes(r, frame, (size_t)len);
}

/* Undo the escapes of binary answers, in place. */
static size_t unescape(char *bytes, size_t len)
{
	size_t to = 0;
	for (size_t i = 0; i < len; i++)
		bytes[to++] = bytes[i] == '}' && i + 1 < len ? (char)(bytes[++i] ^ 0x20) : bytes[i];
	return to;
}

/* Take a whole packet out of what was received: 1, 0, or -EBADMSG. */
static int take_packet(struct rsp *r, size_t *len_ret)
{
	size_t start = 0;
	/* In between there are acknowledgements. */
	while (start < r->used && r->buf[start] != '$')
		start++;
	memmove(r->buf, r->buf + start, r->used -= start);
	const char *end = r->used ? memchr(r->buf, '#', r->used) : NULL;
	if (!end || (size_t)(end - r->buf) + 3 > r->used)
		return r->used == sizeof(r->buf) ? -EBADMSG : 0;
	size_t len = (size_t)(end - r->buf) - 1;
	if (len >= sizeof(r->packet))
		return -EBADMSG;
	uint8_t sum = 0, told;
	for (size_t i = 0; i < len; i++)
		sum += (uint8_t)r->buf[1 + i];
	if (rsp_hex(end + 1, 2, &told, 1) != 1 || told != sum)
		return -EBADMSG;
	memcpy(r->packet, r->buf + 1, len);
	r->used -= len + 4;
	memmove(r->buf, r->buf + len + 4, r->used);
	len = unescape(r->packet, len);
	r->packet[len] = '\0';
	*len_ret = len;
	r->owed = true;
	return 1;
}

/* The next packet: 1; 0: none by then. */
static int next_packet(struct rsp *r, int64_t deadline, size_t *len_ret)
{
	for (;;) {
		int rc = take_packet(r, len_ret);
		if (rc)
			return rc;
		ssize_t n = recv(r->fd, r->buf + r->used, sizeof(r->buf) - r->used, MSG_DONTWAIT);
		if (n > 0)
			r->used += (size_t)n;
		else if (n == 0 || (errno != EAGAIN && errno != EINTR))
			return gone(r);
		else if (!wait_for(r, POLLIN, deadline))
			return 0;
	}
}

int rsp_parse_stop(const char *text, struct rsp_stop *ret)
{
	uint8_t signal;
	*ret = (struct rsp_stop){ 0 };
	if ((text[0] != 'T' && text[0] != 'S') || rsp_hex(text + 1, strnlen(text + 1, 2), &signal, 1) != 1)
		return -EBADMSG;
	ret->signal = signal;
	static const struct {
		const char *name;
		char watch;
	} watches[] = { { "watch:", 'w' }, { "rwatch:", 'r' }, { "awatch:", 'a' } };
	for (const char *p = text + 3; text[0] == 'T' && *p; p += strcspn(p, ";"), p += *p == ';') {
		if (!strncmp(p, "thread:", 7)) {
			/* "01", or "p01.01" with the number of a process in front. */
			const char *number = p + 7, *dot = number + strcspn(number, ".;");
			if (*dot == '.')
				number = dot + 1;
			ret->thread = (uint32_t)strtoul(number, NULL, 16);
		}
		for (size_t i = 0; i < sizeof(watches) / sizeof(*watches); i++) {
			size_t len = strlen(watches[i].name);
			if (strncmp(p, watches[i].name, len))
				continue;
			ret->watch = watches[i].watch;
			ret->address = strtoull(p + len, NULL, 16);
		}
	}
	return 0;
}

/* 1: the packet says that the machine stopped, and that is kept. */
static int keep_stop(struct rsp *r)
{
	char kind = r->packet[0];
	if (kind == 'W' || kind == 'X')
		return gone(r);
	if (kind != 'T' && kind != 'S')
		return 0;
	struct rsp_stop stop;
	if (rsp_parse_stop(r->packet, &stop))
		return -EBADMSG;
	r->stop = stop;
	r->stopped = true;
	return 1;
}

int rsp_command(struct rsp *r, const char *text, size_t *len_ret)
{
	int rc = rsp_send(r, text);
	int64_t deadline = deadline_of(r);
	while (!rc) {
		size_t len;
		rc = next_packet(r, deadline, &len);
		r->late = rc == 0;
		if (rc <= 0)
			return rc ? rc : -ETIMEDOUT;
		/* "?" is answered with a stop; else it is news that crossed the command. */
		rc = text[0] == '?' ? 0 : keep_stop(r);
		if (rc == 0) {
			if (len_ret)
				*len_ret = len;
			return 0;
		}
		rc = rc < 0 ? rc : 0;
	}
	return rc;
}

int rsp_wait_stop(struct rsp *r, int timeout_ms, struct rsp_stop *ret)
{
	int64_t deadline = now_ms() + timeout_ms;
	while (!r->stopped) {
		size_t len;
		int rc = r->gone ? -ESRCH : next_packet(r, deadline, &len);
		if (rc == 1)
			rc = keep_stop(r);
		else if (rc == 0)
			return 0;
		if (rc < 0)
			return rc;
	}
	*ret = r->stop;
	r->stopped = false;
	return 1;
}

int rsp_interrupt(struct rsp *r, struct rsp_stop *ret)
{
	const char *bytes = r->owed ? "+\x03" : "\x03";
	r->owed = false;
	int rc = r->gone ? -ESRCH : send_bytes(r, bytes, strlen(bytes));
	if (rc)
		return rc;
	rc = rsp_wait_stop(r, r->late ? RSP_LATE_MS : RSP_TIMEOUT_MS, ret);
	r->late = rc == 0;
	return rc < 0 ? rc : rc ? 0 : -ETIMEDOUT;
}

static int digit(char c)
{
	return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 :
	       c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

int64_t rsp_hex(const char *text, size_t len, void *buf, size_t size)
{
	uint8_t *bytes = buf;
	size_t count = len / 2 < size ? len / 2 : size;
	for (size_t i = 0; i < count; i++) {
		int high = digit(text[2 * i]), low = digit(text[2 * i + 1]);
		if (high < 0 || low < 0)
			return -EBADMSG;
		bytes[i] = (uint8_t)(high << 4 | low);
	}
	return (int64_t)count;
}
