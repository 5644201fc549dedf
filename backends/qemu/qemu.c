/* SPDX-License-Identifier: Apache-2.0 */
#include "qemu.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "process.h"
#include "run.h"

static int compare_indexes(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
	return x < y ? -1 : x > y;
}

static int take_vcpus(struct qemu *q, const json_t *cpus, struct hvmi_error *err)
{
	size_t count = json_array_size(cpus);
	if (count == 0 || count > QEMU_VCPUS_MAX)
		return hvmi_error_set(err, -EOVERFLOW, HVMI_NO_ADDRESS, "%s has %zu vCPUs", q->name,
				      count);
	q->cpu_index = calloc(count, sizeof(*q->cpu_index));
	q->vcpus = calloc(count, sizeof(*q->vcpus));
	if (!q->cpu_index || !q->vcpus)
		return hvmi_error_set(err, -ENOMEM, HVMI_NO_ADDRESS, "out of memory");
	for (size_t i = 0; i < count; i++)
		q->cpu_index[i] = (uint32_t)json_integer_value(
			json_object_get(json_array_get(cpus, i), "cpu-index"));
	qsort(q->cpu_index, count, sizeof(*q->cpu_index), compare_indexes);
	q->vcpu_count = (uint32_t)count;
	q->thread = (int)json_integer_value(json_object_get(json_array_get(cpus, 0), "thread-id"));
	const char *target = json_string_value(json_object_get(json_array_get(cpus, 0), "target"));
	if (target && (!strcmp(target, "x86_64") || !strcmp(target, "i386")))
		q->arch = HVMI_ARCH_X86;
	else if (target && !strcmp(target, "aarch64"))
		q->arch = HVMI_ARCH_ARM64;
	return 0;
}

static void take_version(struct qemu *q, const json_t *version)
{
	const json_t *v = json_object_get(version, "qemu");
	snprintf(q->version, sizeof(q->version), "%d.%d.%d",
		 (int)json_integer_value(json_object_get(v, "major")),
		 (int)json_integer_value(json_object_get(v, "minor")),
		 (int)json_integer_value(json_object_get(v, "micro")));
}

/* By its process, which only it has had: a UUID need not be set, and may be copied. */
static int take_identity(struct qemu *q, struct hvmi_error *err)
{
	json_t *answer;
	int rc = monitor_command(&q->monitor, "query-uuid", NULL, &answer, err);
	if (rc)
		return rc;
	const char *uuid = json_string_value(json_object_get(answer, "UUID"));
	snprintf(q->identity, sizeof(q->identity), "QEMU, UUID %.36s, thread %d since %llu",
		 uuid ? uuid : "?", q->thread, process_start_of(q->thread));
	json_decref(answer);
	return 0;
}

static int ask(struct qemu *q, struct hvmi_error *err)
{
	json_t *answer;
	int rc = monitor_command(&q->monitor, "query-version", NULL, &answer, err);
	if (rc)
		return rc;
	take_version(q, answer);
	json_decref(answer);
	rc = monitor_command(&q->monitor, "query-cpus-fast", NULL, &answer, err);
	if (rc)
		return rc;
	rc = take_vcpus(q, answer, err);
	json_decref(answer);
	if (rc)
		return rc;
	/* What is not KVM translates code, and does not see it change under its feet. */
	rc = monitor_command(&q->monitor, "query-kvm", NULL, &answer, err);
	if (rc)
		return rc;
	q->tcg = !json_is_true(json_object_get(answer, "enabled"));
	json_decref(answer);
	rc = take_identity(q, err);
	return rc ? rc : ram_open(&q->ram, &q->monitor, q->host, err);
}

void qemu_close(void *machine)
{
	struct qemu *q = machine;
	run_drop_stub(q);
	ram_close(&q->ram);
	monitor_close(&q->monitor);
	pthread_mutex_destroy(&q->lock);
	free(q->cpu_index);
	free(q->vcpus);
	free(q->name);
	free(q);
}

static int take_options(struct qemu *q, const struct hvmi_target *target, struct hvmi_error *err)
{
	const char *how = hvmi_target_option(target, "write");
	if (how && strcmp(how, "plain") && strcmp(how, "safe"))
		return hvmi_error_set(err, -EINVAL, HVMI_NO_ADDRESS,
				      "write=%s is not known: safe or plain", how);
	q->write_plain = how && !strcmp(how, "plain");
	return 0;
}

int qemu_attach(struct monitor *monitor, char *name, const struct hvmi_target *target,
		const struct hvmi_backend_host *host, void **ret, struct hvmi_error *err)
{
	struct qemu *q = calloc(1, sizeof(*q));
	if (!q) {
		monitor_close(monitor);
		free(name);
		return hvmi_error_set(err, -ENOMEM, HVMI_NO_ADDRESS, "out of memory");
	}
	q->host = host;
	q->monitor = *monitor;
	q->monitor.name = q->name = name;
	q->ram.process = -1;
	pthread_mutex_init(&q->lock, NULL);
	int rc = take_options(q, target, err);
	if (!rc)
		rc = ask(q, err);
	if (rc) {
		qemu_close(q);
		return rc;
	}
	*ret = q;
	return 0;
}

int qemu_describe(void *machine, struct hvmi_machine *ret)
{
	const struct qemu *q = machine;
	ret->arch = q->arch;
	ret->vcpus = q->vcpu_count;
	ret->ranges = (uint32_t)q->ram.count;
	snprintf(ret->format, sizeof(ret->format), "QEMU %s, RAM %s", q->version, q->ram.way);
	return 0;
}

int qemu_range(void *machine, uint32_t index, struct hvmi_range *ret)
{
	const struct ram_range *r = &((struct qemu *)machine)->ram.ranges[index];
	*ret = (struct hvmi_range){ .gpa = r->gpa, .len = r->len };
	return 0;
}

int qemu_map(void *machine, uint32_t index, const void **ret)
{
	const struct ram_range *r = &((struct qemu *)machine)->ram.ranges[index];
	if (!r->host)
		return -ENOTSUP;
	*ret = r->host;
	return 0;
}

int qemu_next_data(void *machine, uint32_t index, uint64_t gpa, struct hvmi_range *ret)
{
	const struct ram *ram = &((struct qemu *)machine)->ram;
	return ram_next_data(ram, &ram->ranges[index], gpa, ret);
}

int qemu_read(void *machine, uint64_t gpa, void *buf, size_t len)
{
	struct qemu *q = machine;
	const struct ram_range *r = ram_range_of(&q->ram, gpa);
	if (!r)
		return -EFAULT;
	int rc = ram_read(&q->ram, r, gpa, buf, len);
	if (rc != -ENOTSUP)
		return rc;
	pthread_mutex_lock(&q->lock);
	rc = ram_read_monitor(&q->monitor, gpa, buf, len, NULL);
	pthread_mutex_unlock(&q->lock);
	return rc;
}

/* Through the stub: QEMU forgets its translation of what is written to. */
static int write_told(struct qemu *q, uint64_t gpa, const void *buf, size_t len)
{
	int rc = run_hold_stub(q, false, NULL);
	if (rc)
		return rc;
	rc = stub_write(q->stub, gpa, buf, len, NULL);
	int release_rc = run_release(q, NULL);
	return rc ? rc : release_rc;
}

int qemu_write(void *machine, uint64_t gpa, const void *buf, size_t len)
{
	struct qemu *q = machine;
	const struct ram_range *r = ram_range_of(&q->ram, gpa);
	if (!r)
		return -EFAULT;
	int rc = q->tcg && !q->write_plain ? -ENOTSUP : ram_write(&q->ram, r, gpa, buf, len);
	if (rc != -ENOTSUP)
		return rc;
	pthread_mutex_lock(&q->lock);
	rc = write_told(q, gpa, buf, len);
	pthread_mutex_unlock(&q->lock);
	return rc;
}

int qemu_pause(void *machine, struct hvmi_error *err)
{
	struct qemu *q = machine;
	pthread_mutex_lock(&q->lock);
	int rc = run_hold(q, err);
	q->paused = !rc;
	pthread_mutex_unlock(&q->lock);
	return rc;
}

int qemu_resume(void *machine, struct hvmi_error *err)
{
	struct qemu *q = machine;
	pthread_mutex_lock(&q->lock);
	q->paused = false;
	int rc = run_release(q, err);
	q->paused = rc;
	pthread_mutex_unlock(&q->lock);
	return rc;
}

int qemu_identity(void *machine, char *buf, size_t size)
{
	const struct qemu *q = machine;
	int len = snprintf(buf, size, "%s", q->identity);
	return len > 0 && (size_t)len < size ? 0 : -EOVERFLOW;
}

int qemu_adopt_pause(void *machine, struct hvmi_error *err)
{
	struct qemu *q = machine;
	(void)err;
	pthread_mutex_lock(&q->lock);
	q->others_paused = false;
	pthread_mutex_unlock(&q->lock);
	return 0;
}

int qemu_capability(void *machine, uint32_t capability, struct hvmi_error *err)
{
	struct qemu *q = machine;
	switch (capability) {
	case HVMI_CAN_PAUSE:
		return 0;
	case HVMI_CAN_SET_REGISTERS:
	case HVMI_CAN_BREAKPOINTS:
	case HVMI_CAN_EVENT + HVMI_EVENT_STEP:
	case HVMI_CAN_EVENT + HVMI_EVENT_BREAKPOINT:
	case HVMI_CAN_EVENT + HVMI_EVENT_WATCHPOINT:
		if (q->arch == HVMI_ARCH_X86)
			return 0;
		return hvmi_error_set(err, -ENOTSUP, HVMI_NO_ADDRESS,
				      "of QEMU's machines only those of x86 have registers and "
				      "events yet");
	default:
		return hvmi_error_set(err, -ENOTSUP, HVMI_NO_ADDRESS,
				      "QEMU does not do this: its gdbstub has breakpoints, "
				      "watchpoints, single-steps and registers");
	}
}
