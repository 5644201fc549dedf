/* SPDX-License-Identifier: Apache-2.0 */
#include "stub.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "stub_open.h"

int stub_failed(struct stub *s, int rc, const char *what, struct hvmi_error *err)
{
	if (rc == -ESRCH) {
		s->monitor->gone = true;
		return monitor_gone(s->monitor, err);
	}
	return hvmi_error_set(err, rc, HVMI_NO_ADDRESS, "the gdbstub of %s %s when asked to %s",
			      s->monitor->name,
			      rc == -ETIMEDOUT ? "does not answer" :
			      rc == -ENOTSUP ? "refuses" : "answers nonsense", what);
}

/* A command whose answer is "OK". */
static int command_ok(struct stub *s, const char *text, const char *what, struct hvmi_error *err)
{
	int rc = rsp_command(&s->rsp, text, NULL);
	if (!rc && strcmp(s->rsp.packet, "OK"))
		rc = -ENOTSUP;
	return rc ? stub_failed(s, rc, what, err) : 0;
}

/*
 * QEMU ends single-stepping of its current vCPU only, whoever of them stops; and it is the one that
 * stopped afterwards.
 */
static int make_current(struct stub *s, uint32_t vcpu, struct hvmi_error *err)
{
	if (s->current == vcpu)
		return 0;
	char text[32];
	snprintf(text, sizeof(text), "Hc%x", s->cpu_index[vcpu] + 1);
	int rc = command_ok(s, text, "choose a vCPU", err);
	if (!rc)
		s->current = vcpu;
	return rc;
}

void stub_stopped(struct stub *s, const struct rsp_stop *stop)
{
	s->running = false;
	s->selected = s->current = stop->thread ? stub_vcpu(s, stop) : UINT32_MAX;
	if (s->current != UINT32_MAX)
		s->armed[s->current] = false;
}

static int select_vcpu(struct stub *s, uint32_t vcpu, struct hvmi_error *err)
{
	if (s->selected == vcpu)
		return 0;
	char text[32];
	snprintf(text, sizeof(text), "Hg%x", s->cpu_index[vcpu] + 1);
	int rc = command_ok(s, text, "choose a vCPU", err);
	if (!rc)
		s->selected = vcpu;
	return rc;
}

int stub_get(struct stub *s, uint32_t vcpu, struct hvmi_registers *ret, struct hvmi_error *err)
{
	size_t len;
	int rc = select_vcpu(s, vcpu, err);
	if (rc)
		return rc;
	rc = rsp_command(&s->rsp, "g", &len);
	if (rc)
		return stub_failed(s, rc, "read registers", err);
	for (uint32_t id = 0; id < HVMI_REGISTERS_MAX; id++) {
		const struct stub_register *r = &s->registers[id];
		uint64_t value = 0;
		if (!r->known || 2 * (r->offset + r->size) > len)
			continue;
		/* 'x' digits: not available. */
		if (rsp_hex(s->rsp.packet + 2 * r->offset, 2 * r->size, &value, sizeof(value)) > 0)
			hvmi_registers_set(ret, id, value);
	}
	return 0;
}

int stub_set(struct stub *s, uint32_t vcpu, uint32_t id, uint64_t value, struct hvmi_error *err)
{
	const struct stub_register *r = &s->registers[id];
	int rc = select_vcpu(s, vcpu, err);
	if (rc)
		return rc;
	char text[64];
	int len = snprintf(text, sizeof(text), "P%x=", r->number);
	for (uint32_t i = 0; i < r->size && i < 8; i++)
		len += snprintf(text + len, sizeof(text) - (size_t)len, "%02x",
				(unsigned int)(value >> 8 * i & 0xff));
	return command_ok(s, text, "set a register", err);
}

int stub_write(struct stub *s, uint64_t gpa, const void *buf, size_t len, struct hvmi_error *err)
{
	/* QEMU takes packets of 4 KiB. */
	enum { MOST = 1920 };
	for (size_t done = 0, n; done < len; done += n) {
		char text[64 + 2 * MOST];
		n = len - done < MOST ? len - done : MOST;
		int at = snprintf(text, sizeof(text), "M%llx,%zx:",
				  (unsigned long long)(gpa + done), n);
		for (size_t i = 0; i < n; i++) {
			static const char digits[] = "0123456789abcdef";
			uint8_t byte = ((const uint8_t *)buf)[done + i];
			text[at++] = digits[byte >> 4];
			text[at++] = digits[byte & 15];
		}
		text[at] = '\0';
		int rc = command_ok(s, text, "write memory", err);
		if (rc)
			return rc;
	}
	return 0;
}

int stub_read_virtual(struct stub *s, uint64_t gva, void *buf, size_t len)
{
	char text[64];
	size_t got = 0;
	int rc = command_ok(s, "Qqemu.PhyMemMode:0", "use virtual addresses", NULL);
	if (rc)
		return rc;
	snprintf(text, sizeof(text), "m%llx,%zx", (unsigned long long)gva, len);
	rc = rsp_command(&s->rsp, text, &got);
	if (!rc && (got != 2 * len || rsp_hex(s->rsp.packet, got, buf, len) < 0))
		rc = -EFAULT;
	int back = command_ok(s, "Qqemu.PhyMemMode:1", "use guest-physical addresses", NULL);
	return rc ? rc : back;
}

int stub_point(struct stub *s, bool insert, char type, uint64_t gva, uint64_t len,
	       struct hvmi_error *err)
{
	char text[64];
	snprintf(text, sizeof(text), "%c%c,%llx,%llx", insert ? 'Z' : 'z', type,
		 (unsigned long long)gva, (unsigned long long)len);
	return command_ok(s, text, insert ? "set a breakpoint or watchpoint" :
					    "remove a breakpoint or watchpoint", err);
}

static int set_step_flags(struct stub *s, uint32_t flags, struct hvmi_error *err)
{
	flags &= s->step_bits;
	if (s->step_flags == flags)
		return 0;
	char text[32];
	snprintf(text, sizeof(text), "Qqemu.sstep=%x", flags);
	int rc = command_ok(s, text, "set how vCPUs are stepped", err);
	if (!rc)
		s->step_flags = flags;
	return rc;
}

static int go(struct stub *s, const char *text, struct hvmi_error *err)
{
	s->rsp.stopped = false;
	int rc = rsp_send(&s->rsp, text);
	if (rc)
		return stub_failed(s, rc, "continue", err);
	s->running = true;
	return 0;
}

int stub_run(struct stub *s, const char *actions, struct hvmi_error *err)
{
	size_t room = 32 + 16 * (size_t)s->vcpu_count, len;
	char *text = malloc(room);
	if (!text)
		return hvmi_error_set(err, -ENOMEM, HVMI_NO_ADDRESS, "out of memory");
	int rc = 0;
	len = (size_t)snprintf(text, room, actions ? "vCont" : "vCont;c");
	for (uint32_t i = 0; !rc && actions && i < s->vcpu_count; i++) {
		if (actions[i] == 's') {
			rc = make_current(s, i, err);
			rc = rc ? rc : set_step_flags(s, STUB_STEP, err);
			s->armed[i] = true;
		}
		if (actions[i])
			len += (size_t)snprintf(text + len, room - len, ";%c:%x", actions[i],
						s->cpu_index[i] + 1);
	}
	if (!rc)
		rc = go(s, text, err);
	free(text);
	return rc;
}

int stub_step(struct stub *s, uint32_t vcpu, struct hvmi_error *err)
{
	char text[32];
	int rc = make_current(s, vcpu, err);
	if (!rc)
		rc = set_step_flags(s, STUB_STEP_ALONE, err);
	if (rc)
		return rc;
	s->armed[vcpu] = true;
	snprintf(text, sizeof(text), "vCont;s:%x", s->cpu_index[vcpu] + 1);
	return go(s, text, err);
}

int stub_interrupt(struct stub *s, struct rsp_stop *ret, struct hvmi_error *err)
{
	int rc = rsp_interrupt(&s->rsp, ret);
	if (rc)
		return stub_failed(s, rc, "stop", err);
	stub_stopped(s, ret);
	return 0;
}

uint32_t stub_vcpu(const struct stub *s, const struct rsp_stop *stop)
{
	for (uint32_t i = 0; i < s->vcpu_count; i++)
		if (s->cpu_index[i] + 1 == stop->thread)
			return i;
	return 0;
}

/* What QEMU can do, and how its registers are numbered. */
static int ask(struct stub *s, struct hvmi_error *err)
{
	int rc = rsp_command(&s->rsp, "?", NULL);
	s->rsp.stopped = false;
	/* It also removes what somebody left behind of breakpoints, of the current vCPU. */
	for (uint32_t i = 0; !rc && i < s->vcpu_count; i++) {
		rc = make_current(s, i, err);
		if (rc)
			return rc;
		rc = rsp_command(&s->rsp, "?", NULL);
	}
	if (!rc)
		rc = rsp_command(&s->rsp, "qSupported", NULL);
	if (rc)
		return stub_failed(s, rc, "begin", err);
	rc = stub_read_layout(s, err);
	if (rc)
		return rc;
	rc = rsp_command(&s->rsp, "qqemu.sstepbits", NULL);
	if (rc)
		return stub_failed(s, rc, "say how it steps", err);
	s->step_bits = strstr(s->rsp.packet, "NOIRQ") ? STUB_STEP_ALONE : STUB_STEP;
	return command_ok(s, "Qqemu.PhyMemMode:1", "use guest-physical addresses", err);
}

int stub_open(struct stub **ret, struct monitor *m, const uint32_t *cpu_index, uint32_t vcpu_count,
	      bool take_over, struct hvmi_error *err)
{
	struct stub *s = calloc(1, sizeof(*s));
	if (!s)
		return hvmi_error_set(err, -ENOMEM, HVMI_NO_ADDRESS, "out of memory");
	s->monitor = m;
	s->cpu_index = cpu_index;
	s->vcpu_count = vcpu_count;
	s->selected = s->current = UINT32_MAX;
	s->armed = calloc(vcpu_count, sizeof(*s->armed));
	if (!s->armed) {
		free(s);
		return hvmi_error_set(err, -ENOMEM, HVMI_NO_ADDRESS, "out of memory");
	}
	s->step_flags = UINT32_MAX;
	int rc = stub_connect(m, take_over, &s->rsp.fd, &s->ours, err);
	if (rc) {
		free(s->armed);
		free(s);
		return rc;
	}
	rc = ask(s, err);
	if (rc) {
		stub_close(s);
		return rc;
	}
	*ret = s;
	return 0;
}

void stub_close(struct stub *s)
{
	if (!s)
		return;
	if (!s->ours && !s->running && !s->rsp.gone) {
		/* Whoever uses it next finds it as it was. */
		set_step_flags(s, STUB_STEP_ALONE, NULL);
		command_ok(s, "Qqemu.PhyMemMode:0", "use virtual addresses", NULL);
	}
	if (s->ours)
		stub_disconnect(s->monitor);
	close(s->rsp.fd);
	free(s->armed);
	free(s);
}
