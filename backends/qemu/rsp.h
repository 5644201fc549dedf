/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Packets of GDB's remote serial protocol: "Debugging with GDB", appendix E. One thread at a time.
 */
#ifndef HVMI_BACKEND_QEMU_RSP_H
#define HVMI_BACKEND_QEMU_RSP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Bytes of a packet that are taken, without its frame. */
#define RSP_PACKET_MAX 65536u
#define RSP_TIMEOUT_MS 10000
#define RSP_LATE_MS 3000

/* Why all vCPUs stopped. */
struct rsp_stop {
	uint32_t signal;	/* 5: a breakpoint, watchpoint or step; else somebody stopped them */
	uint32_t thread;	/* QEMU's index of the vCPU + 1; 0: it does not say */
	char watch;		/* 'w', 'r' or 'a' (either) where it is a watchpoint, else 0 */
	uint64_t address;	/* of that watchpoint */
};

struct rsp {
	int fd;
	bool gone;
	bool late;		/* it did not answer the last command in time */
	bool owed;		/* an acknowledgement, which goes with what is sent next */
	bool stopped;		/* stop was received and not taken */
	struct rsp_stop stop;
	size_t used;
	char buf[2 * RSP_PACKET_MAX];	/* [0, used) was received and not taken */
	char packet[RSP_PACKET_MAX];	/* the last one */
};

/*
 * Send a packet and wait for the answer, which is *@p len_ret bytes in rsp.packet with a NUL behind
 * them. -ESRCH: the other end is gone; -ETIMEDOUT; -EBADMSG.
 */
int rsp_command(struct rsp *r, const char *text, size_t *len_ret);

/* Send a packet that has no answer until the machine stops. */
int rsp_send(struct rsp *r, const char *text);

/* Stop a running machine, which may just have stopped. */
int rsp_interrupt(struct rsp *r, struct rsp_stop *ret);

/* The next stop: 1; 0: none within @p timeout_ms; -ESRCH, -EBADMSG. */
int rsp_wait_stop(struct rsp *r, int timeout_ms, struct rsp_stop *ret);

/* Pure: a stop reply, "T05thread:01;watch:ffff...;" -EBADMSG. */
int rsp_parse_stop(const char *text, struct rsp_stop *ret);

/* @p len hex digits of bytes, as many as fit: how many bytes, or -EBADMSG. */
int64_t rsp_hex(const char *text, size_t len, void *buf, size_t size);

#endif
