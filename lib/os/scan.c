/* SPDX-License-Identifier: Apache-2.0 */
#include "os/scan.h"

#define WINDOW_BYTES (1 * MIB)

struct scan {
	struct hvmi_vm *vm;
	size_t overlap;
	scan_window_fn window;
	void *context;
	uint8_t *buffer;	/* for memory that cannot be mapped */
};

/* One stretch that lies in one range. */
static int scan_stretch(struct scan *scan, uint64_t gpa, uint64_t len)
{
	for (uint64_t done = 0; done < len;) {
		size_t n = MIN(len - done, WINDOW_BYTES), got = n;
		const void *bytes, *mapping = NULL;
		if (hvmi_vm_map(scan->vm, gpa + done, n, &mapping) == 0) {
			bytes = mapping;
		} else {
			if (hvmi_vm_read(scan->vm, gpa + done, scan->buffer, n, &got) == -EIO)
				return -EIO;
			bytes = scan->buffer;
		}
		if (got) {
			int rc = scan->window(scan->context, gpa + done, bytes, got);
			if (mapping)
				hvmi_vm_unmap(scan->vm, mapping, n);
			if (rc)
				return rc;
		}
		if (got < n)
			/* Over the absent page. */
			done = ((gpa + done + got) / FRAME_SIZE + 1) * FRAME_SIZE - gpa;
		else
			done += done + n < len ? n - scan->overlap : n;
	}
	return 0;
}

int scan_memory(struct hvmi_vm *vm, uint64_t gpa, uint64_t end, size_t overlap,
		scan_window_fn window, void *context)
{
	CLEANUP_FREE uint8_t *buffer = malloc(WINDOW_BYTES);
	if (!buffer)
		return -ENOMEM;
	struct scan scan = { vm, overlap, window, context, buffer };
	struct hvmi_range data;
	while (gpa < end && hvmi_vm_next_data(vm, gpa, &data) == 0 && data.gpa < end) {
		uint64_t stop = MIN(data.gpa + data.len, end);
		int rc = scan_stretch(&scan, data.gpa, stop - data.gpa);
		if (rc)
			return rc;
		gpa = stop;
	}
	return 0;
}
