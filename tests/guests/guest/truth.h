/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GUEST_TRUTH_H
#define GUEST_TRUTH_H

#include <stdbool.h>
#include <stddef.h>

/*
 * The guest tells what it knows about itself as the raw contents of files of /proc and /sys; the host
 * parses them. The stream is a sequence of records: one byte of kind, four bytes of length (little
 * endian), the payload.
 *	B	a section begins; payload: its name
 *	N	a file begins; payload: its path, or "path->" for a symbolic link whose target follows
 *	D	the next piece of the file's contents
 *	E	the section's end; payload: its name
 * The memory of the calling process does not change between two calls: no allocation happens here.
 */

/* Send records to @fd from now on. */
void truth_init(int fd);

void truth_begin(const char *section);
/* Ends the section and flushes. */
void truth_end(const char *section);

/* The whole of one file; a file that cannot be opened is left out. */
void truth_file(const char *path);
/* What changes slowly or never: kernel, symbols, types. */
void truth_machine(void);
/* Every task and what belongs to it. */
void truth_tasks(void);

/*
 * Whether nothing has moved since the last call: no task of user space has appeared, gone, or changed
 * state, and none but the caller and @spinner is on its way to run.
 */
bool truth_steady(int spinner);

#endif
