/* SPDX-License-Identifier: Apache-2.0 */
#include "space/space.h"

/* How much of a string is copied at once: most are short. */
#define STRING_STEP 256u

/* Exactly one of to and from is given. */
static int transfer(struct hvmi_space *space, uint64_t gva, void *to, const void *from, size_t len,
		    size_t *done_ret)
{
	size_t done = 0;
	int rc = 0;
	while (done < len && !rc) {
		uint64_t at, gpa, left;
		if (__builtin_add_overflow(gva, done, &at))
			rc = -EFAULT;
		else
			rc = space_resolve(space, at, &gpa, &left);
		if (rc)
			break;
		size_t n = MIN(len - done, left), moved = 0;
		if (to)
			rc = hvmi_vm_read(space->vm, gpa, (char *)to + done, n, &moved);
		else
			rc = hvmi_vm_write(space->vm, gpa, (const char *)from + done, n, &moved);
		done += moved;
	}
	if (done_ret)
		*done_ret = done;
	return rc;
}

HVMI_API int hvmi_space_read(struct hvmi_space *space, uint64_t gva, void *buf, size_t len,
			     size_t *done_ret)
{
	return transfer(space, gva, buf, NULL, len, done_ret);
}

HVMI_API int hvmi_space_write(struct hvmi_space *space, uint64_t gva, const void *buf, size_t len,
			      size_t *done_ret)
{
	/* Whether writing is allowed does not hang on what is mapped. */
	int rc = hvmi_vm_write(space->vm, 0, buf, 0, NULL);
	if (rc) {
		if (done_ret)
			*done_ret = 0;
		return rc;
	}
	return transfer(space, gva, NULL, buf, len, done_ret);
}

HVMI_API int hvmi_space_read_string(struct hvmi_space *space, uint64_t gva, char *buf, size_t size,
				    size_t *len_ret)
{
	if (!buf || size == 0)
		return -EINVAL;
	size_t len = 0;
	int rc = -EOVERFLOW;
	while (len < size) {
		uint64_t at;
		if (__builtin_add_overflow(gva, len, &at)) {
			rc = -EFAULT;
			break;
		}
		size_t moved, n = MIN(size - len, STRING_STEP - at % STRING_STEP);
		int read_rc = hvmi_space_read(space, at, buf + len, n, &moved);
		const char *end = memchr(buf + len, 0, moved);
		if (end) {
			len = (size_t)(end - buf);
			rc = 0;
			break;
		}
		len += moved;
		if (read_rc) {
			rc = read_rc;
			break;
		}
	}
	len = MIN(len, size - 1);
	buf[len] = '\0';
	if (len_ret)
		*len_ret = len;
	return rc;
}

HVMI_API int hvmi_space_map(struct hvmi_space *space, uint64_t gva, size_t len, const void **ret)
{
	uint64_t first, left;
	int rc = space_resolve(space, gva, &first, &left);
	if (rc)
		return rc;
	/* Nothing can be mapped that is larger than RAM, so do not look at its pages. */
	if (len > space->vm->ram)
		return -EFAULT;
	for (uint64_t done = left; done < len; done += left) {
		uint64_t at, gpa;
		if (__builtin_add_overflow(gva, done, &at))
			return -EFAULT;
		rc = space_resolve(space, at, &gpa, &left);
		if (rc)
			return rc;
		if (gpa != first + done)
			return -ENOTSUP;
	}
	return hvmi_vm_map(space->vm, first, len, ret);
}
