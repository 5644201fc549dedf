/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <stdlib.h>

#include "suite.h"

static void on_log(void *context, uint32_t level, const char *message)
{
	(void)context;
	if (options.verbose || level <= HVMI_LOG_WARNING)
		printf("# log %u: %s\n", level, message);
}

static int say_no_probe(struct machine *m, const char *what, const struct hvmi_error *err)
{
	snprintf(m->no_probe, sizeof(m->no_probe), "%.150s%s%.200s", what, err ? ": " : "",
		 err ? err->text : "");
	return -1;
}

/* Where linear is physical: what the sim backend's vCPUs see. */
static int physical_space(struct machine *m, struct hvmi_error *err)
{
	struct hvmi_space_config config = { .size = sizeof(config), .paging = HVMI_PAGING_NONE };
	return hvmi_space_create(m->vm, &config, &m->space, err);
}

static int process_space(struct machine *m, struct hvmi_error *err)
{
	struct hvmi_task_iter *tasks;
	struct hvmi_task task = { .size = sizeof(task) };
	int r = hvmi_os_attach(m->vm, NULL, &m->os, err);
	if (r == 0)
		r = hvmi_task_iter_create(m->os, 0, &tasks, err);
	if (r)
		return r;
	while ((r = hvmi_task_next(tasks, &task, err)) == 1)
		if (strcmp(task.name, PROBE_NAME) == 0)
			break;
	hvmi_task_iter_destroy(tasks);
	if (r == 1)
		return hvmi_task_space(m->os, &task, &m->space, err);
	return r ? r : hvmi_error_set(err, -ENOENT, HVMI_NO_ADDRESS, "no process " PROBE_NAME);
}

static int find_probe(struct machine *m)
{
	struct hvmi_error err;
	int r;
	m->mailbox = PROBE_MAILBOX;
	if (options.mailbox) {
		if (strncmp(options.mailbox, "gpa:", 4) != 0 ||
		    hvmi_parse_u64(options.mailbox + 4, &m->mailbox))
			return say_no_probe(m, "--mailbox is not gpa:NUMBER", NULL);
		r = physical_space(m, &err);
	} else {
		r = process_space(m, &err);
	}
	if (r)
		return say_no_probe(m, "no probe in the guest", &err);
	r = hvmi_space_read(m->space, m->mailbox, &m->box, sizeof(m->box), NULL);
	if (r == 0 && memcmp(m->box.magic, PROBE_MAGIC, sizeof(m->box.magic)) != 0)
		r = -ENOENT;
	if (r == 0)
		r = hvmi_space_read(m->space, m->box.code, m->offsets, sizeof(m->offsets), NULL);
	if (r == 0)
		r = hvmi_space_read(m->space, m->box.code, m->code, sizeof(m->code), NULL);
	if (r) {
		hvmi_space_destroy(m->space);
		m->space = NULL;
		return say_no_probe(m, "the probe's mailbox cannot be read", NULL);
	}
	m->number = m->box.command.number;
	return 0;
}

int machine_open(struct machine *m, const char *target, uint32_t flags)
{
	struct hvmi_open_options o = { .size = sizeof(o), .flags = flags, .log = on_log,
				       .module_dir = options.module_dir };
	*m = (struct machine){ .target = target, .info = { .size = sizeof(m->info) } };
	int r = hvmi_open(target, &o, &m->vm, &error);
	if (r)
		return r;
	hvmi_vm_get_info(m->vm, &m->info);
	find_probe(m);
	return 0;
}

void machine_close(struct machine *m)
{
	if (!m->vm)
		return;
	hvmi_events_close(m->events);
	hvmi_space_destroy(m->space);
	hvmi_os_detach(m->os);
	hvmi_close(m->vm);
	*m = (struct machine){ 0 };
}

/* The result of the last command, or -1. */
static int idle(struct machine *m)
{
	struct probe_result result;
	int r = hvmi_space_read(m->space, m->mailbox + offsetof(struct probe_mailbox, result),
				&result, sizeof(result), NULL);
	return r == 0 && result.number == m->number ? 0 : -1;
}

/* What stop_at() put into code. */
static int repair(struct machine *m)
{
	const uint64_t copies[] = { m->box.exec, m->box.kcode };
	uint8_t now[PROBE_CODE_BYTES];
	size_t len = m->box.code_bytes < sizeof(now) ? m->box.code_bytes : sizeof(now);
	for (size_t i = 0; i < 2; i++) {
		if (!copies[i])
			continue;
		int r = hvmi_space_read(m->space, copies[i], now, len, NULL);
		if (r == 0 && memcmp(now, m->code, len) != 0)
			r = hvmi_space_write(m->space, copies[i], m->code, len, NULL);
		if (r)
			return r;
	}
	return 0;
}

int machine_settle(struct machine *m)
{
	if (!m->vm)
		return -1;
	/* First: a vCPU may wait before it. */
	if (m->space && !(m->info.flags & HVMI_VM_STATIC) &&
	    (m->info.flags & HVMI_VM_WRITABLE) && repair(m))
		return -1;
	hvmi_events_close(m->events);
	m->events = NULL;
	while (m->pauses && hvmi_vm_resume(m->vm, NULL) == 0)
		m->pauses--;
	if (!m->space || m->info.flags & HVMI_VM_STATIC)
		return 0;
	for (int64_t end = now_ms() + options.timeout_ms; idle(m); nap_ms(2))
		if (now_ms() > end)
			return -1;
	return 0;
}
