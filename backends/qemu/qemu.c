/* SPDX-License-Identifier: Apache-2.0 */
#include "qemu.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "hmp.h"

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
	if (!q->cpu_index)
		return hvmi_error_set(err, -ENOMEM, HVMI_NO_ADDRESS, "out of memory");
	for (size_t i = 0; i < count; i++)
		q->cpu_index[i] = (uint32_t)json_integer_value(
			json_object_get(json_array_get(cpus, i), "cpu-index"));
	qsort(q->cpu_index, count, sizeof(*q->cpu_index), compare_indexes);
	q->vcpu_count = (uint32_t)count;
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
	return ram_open(&q->ram, &q->monitor, q->host, err);
}

void qemu_close(void *machine)
{
	struct qemu *q = machine;
	ram_close(&q->ram);
	monitor_close(&q->monitor);
	pthread_mutex_destroy(&q->lock);
	free(q->cpu_index);
	free(q->name);
	free(q);
}

int qemu_attach(struct monitor *monitor, char *name, const struct hvmi_target *target,
		const struct hvmi_backend_host *host, void **ret, struct hvmi_error *err)
{
	(void)target;
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
	int rc = ask(q, err);
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

/* Stop the machine if it runs, and remember whether others had. */
static int stop(struct qemu *q, struct hvmi_error *err)
{
	bool running;
	int rc = monitor_running(&q->monitor, &running, err);
	if (rc)
		return rc;
	q->others_paused = !running;
	return running ? monitor_command(&q->monitor, "stop", NULL, NULL, err) : 0;
}

int qemu_pause(void *machine, struct hvmi_error *err)
{
	struct qemu *q = machine;
	pthread_mutex_lock(&q->lock);
	int rc = stop(q, err);
	if (!rc)
		q->paused = true;
	pthread_mutex_unlock(&q->lock);
	return rc;
}

int qemu_resume(void *machine, struct hvmi_error *err)
{
	struct qemu *q = machine;
	pthread_mutex_lock(&q->lock);
	int rc = q->others_paused ? 0 :
				    monitor_command(&q->monitor, "cont", NULL, NULL, err);
	if (!rc)
		q->paused = false;
	pthread_mutex_unlock(&q->lock);
	return rc;
}

static int get_registers(struct qemu *q, uint32_t vcpu, struct hvmi_registers *ret,
			 struct hvmi_error *err)
{
	char *text;
	int rc = monitor_hmp(&q->monitor, q->cpu_index[vcpu], "info registers", &text, err);
	if (rc)
		return rc;
	if (q->arch == HVMI_ARCH_X86)
		hmp_registers_x86(text, ret);
	free(text);
	return 0;
}

int qemu_get_registers(void *machine, uint32_t vcpu, struct hvmi_registers *ret,
			      struct hvmi_error *err)
{
	struct qemu *q = machine;
	pthread_mutex_lock(&q->lock);
	int rc = get_registers(q, vcpu, ret, err);
	pthread_mutex_unlock(&q->lock);
	return rc;
}
