/* SPDX-License-Identifier: Apache-2.0 */
/* A machine of QEMU's. */
#ifndef HVMI_BACKEND_QEMU_H
#define HVMI_BACKEND_QEMU_H

#include <pthread.h>

#include "monitor.h"
#include "ram.h"

#define QEMU_VCPUS_MAX 4096u

struct qemu {
	const struct hvmi_backend_host *host;
	pthread_mutex_t lock;	/* for all that follows but RAM that is mapped or copied */
	struct monitor monitor;
	char *name;		/* for messages */
	struct ram ram;
	uint32_t arch;
	bool tcg;
	char version[24];
	uint32_t vcpu_count;
	uint32_t *cpu_index;	/* QEMU's, by ours */

	bool paused;		/* by hvmi_vm_pause() */
	bool others_paused;	/* it did not run when we stopped it */
};

/*
 * Attach to the machine behind @p monitor, which is taken over with @p name, also on failure. Names
 * are allocated.
 */
int qemu_attach(struct monitor *monitor, char *name, const struct hvmi_target *target,
		const struct hvmi_backend_host *host, void **ret, struct hvmi_error *err);

/* The methods, but for scheme, open() and watch_*(). */
void qemu_close(void *machine);
int qemu_describe(void *machine, struct hvmi_machine *ret);
int qemu_range(void *machine, uint32_t index, struct hvmi_range *ret);
int qemu_read(void *machine, uint64_t gpa, void *buf, size_t len);
int qemu_map(void *machine, uint32_t index, const void **ret);
int qemu_next_data(void *machine, uint32_t index, uint64_t gpa, struct hvmi_range *ret);
int qemu_pause(void *machine, struct hvmi_error *err);
int qemu_resume(void *machine, struct hvmi_error *err);
int qemu_get_registers(void *machine, uint32_t vcpu, struct hvmi_registers *ret,
		       struct hvmi_error *err);

#define QEMU_METHODS                                                                               \
	.size = sizeof(struct hvmi_backend), .close = qemu_close, .describe = qemu_describe,       \
	.range = qemu_range, .read = qemu_read, .map = qemu_map, .next_data = qemu_next_data,      \
	.pause = qemu_pause, .resume = qemu_resume, .get_registers = qemu_get_registers

/* What each module exports. */
HVMI_API const struct hvmi_backend *hvmi_backend_entry(uint32_t version_major,
						       uint32_t version_minor);

#endif
