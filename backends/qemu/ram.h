/* SPDX-License-Identifier: Apache-2.0 */
/* A machine's RAM: where it is, and the quickest way to its bytes. */
#ifndef HVMI_BACKEND_QEMU_RAM_H
#define HVMI_BACKEND_QEMU_RAM_H

#include "monitor.h"

struct ram_range {
	uint64_t gpa, len;
	uint64_t offset;	/* in its memory region */
	char region[64];	/* QEMU's name of that */
	uint64_t hva;		/* in QEMU's process; 0: QEMU does not tell */
	const uint8_t *host;	/* in ours, or NULL */
	size_t file;		/* that it is mapped from, where host is there */
	uint64_t file_offset;
};

/* A file, most often without a name, that holds RAM. */
struct ram_file {
	int fd;
	uint64_t device, inode;
	uint64_t from, to;	/* what is needed of it, then what is mapped */
	uint8_t *base;
};

struct ram {
	struct ram_range *ranges;
	size_t count;
	struct ram_file *files;
	size_t file_count;
	int process;		/* QEMU's memory as a file, or -1 */
	const char *way;	/* in words */
};

/* Needs a monitor; logs what would make it faster. */
int ram_open(struct ram *ram, struct monitor *m, const struct hvmi_backend_host *host,
	     struct hvmi_error *err);
void ram_close(struct ram *ram);

/*
 * Copy from or to a range, without QEMU's doing. Any thread. -ENOTSUP: only the monitor reaches it;
 * -ESRCH: QEMU is gone.
 */
int ram_read(const struct ram *ram, const struct ram_range *range, uint64_t gpa, void *buf,
	     size_t len);
int ram_write(const struct ram *ram, const struct ram_range *range, uint64_t gpa, const void *buf,
	      size_t len);

/* The same through the monitor. Not two threads at once. */
int ram_read_monitor(struct monitor *m, uint64_t gpa, void *buf, size_t len,
		     struct hvmi_error *err);

/* The range that holds gpa, or NULL. */
const struct ram_range *ram_range_of(const struct ram *ram, uint64_t gpa);

/* As hvmi_backend.next_data(). */
int ram_next_data(const struct ram *ram, const struct ram_range *range, uint64_t gpa,
		  struct hvmi_range *ret);

#endif
