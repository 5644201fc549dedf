/* SPDX-License-Identifier: Apache-2.0 */
#include "space/space.h"

int space_entry_read_slow(struct hvmi_space *space, uint64_t gpa, uint64_t *ret)
{
	size_t size = (size_t)1 << space->entry_shift;
	const struct vm_range *range = vm_range_of(space->vm, gpa);
	if (range && range->host && range->len >= size && gpa - range->gpa <= range->len - size) {
		space->window.gpa = range->gpa;
		space->window.starts = range->len - size + 1;
		space->window.to_host = (uintptr_t)range->host - range->gpa;
		*ret = entry_load(range->host + (gpa - range->gpa), space->entry_shift);
		return 0;
	}
	uint8_t bytes[8];
	int rc = hvmi_vm_read(space->vm, gpa, bytes, size, NULL);
	if (rc)
		return rc;
	*ret = entry_load(bytes, space->entry_shift);
	return 0;
}

int space_entry_lost(const struct hvmi_space *space, uint64_t gpa)
{
	const struct vm_range *range = vm_range_of(space->vm, gpa);
	size_t size = (size_t)1 << space->entry_shift;
	if (!range || !range->host)
		return -EFAULT;
	const uint8_t *from = range->host + (gpa - range->gpa);
	return guard_real(range->guard, from, size) == size ? -EFAULT : -EIO;
}
