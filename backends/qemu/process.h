/* SPDX-License-Identifier: Apache-2.0 */
/* What /proc tells of QEMU's process. */
#ifndef HVMI_BACKEND_QEMU_PROCESS_H
#define HVMI_BACKEND_QEMU_PROCESS_H

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* What lies behind [hva, hva + len) of a process. */
struct process_area {
	bool shared;		/* what the guest writes there goes to the file */
	uint64_t device, inode, offset;
	char path[PATH_MAX];
};

/* -ENOENT: not one piece of one file, or no memory; -EACCES; -ESRCH: no such process. */
int process_area(pid_t pid, uint64_t hva, uint64_t len, struct process_area *ret);

/* Open the file behind an area. */
int process_open_file(pid_t pid, const struct process_area *area, int *fd_ret);

/* Open the process's memory for reading, and for writing where that is allowed. */
int process_open_memory(pid_t pid, bool write, int *fd_ret);

/* When a thread was started, in clock ticks since the host was; 0: there is none. */
unsigned long long process_start_of(pid_t tid);

/* The process that a thread belongs to, or 0. */
pid_t process_of_thread(pid_t tid);

#endif
