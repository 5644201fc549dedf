/* SPDX-License-Identifier: Apache-2.0 */
/* Searches of guest-physical memory, in windows, without copying where that is possible. */
#ifndef HVMI_LIB_SCAN_H
#define HVMI_LIB_SCAN_H

#include "vm/vm.h"

/*
 * One window of memory. The guest may change the bytes at any time: a find is a hint, to be read
 * again and judged. Return 0 to go on, anything else to end the search with it.
 */
typedef int (*scan_window_fn)(void *context, uint64_t gpa, const uint8_t *bytes, size_t len);

/*
 * Show every byte of RAM in [gpa, end) that may be other than zero, in windows in ascending order.
 * Neighbouring windows overlap by `overlap` bytes (less than 512 KiB) where the memory goes on.
 * Pages that are absent are left out. -EIO: the medium failed.
 */
int scan_memory(struct hvmi_vm *vm, uint64_t gpa, uint64_t end, size_t overlap,
		scan_window_fn window, void *context);

#endif
