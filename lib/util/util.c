/* SPDX-License-Identifier: Apache-2.0 */
#include <sys/mman.h>

#include "util/util.h"

/* Linux 5.14; older headers lack it, older kernels refuse it, which does no harm. */
#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

/* From here on malloc() maps fresh memory. */
#define FILLED_MIN (128 * KIB)

void memory_fill(void *p, size_t len)
{
	uintptr_t from = ((uintptr_t)p + FRAME_SIZE - 1) & -(uintptr_t)FRAME_SIZE;
	uintptr_t to = ((uintptr_t)p + len) & -(uintptr_t)FRAME_SIZE;
	if (len >= FILLED_MIN)
		madvise((uint8_t *)p + (from - (uintptr_t)p), to - from, MADV_POPULATE_WRITE);
}

void *malloc_filled(size_t len)
{
	void *p = malloc(len);
	if (p)
		memory_fill(p, len);
	return p;
}

int bytes_source_read(void *context, uint64_t address, void *buf, size_t len)
{
	const struct bytes_source *source = context;
	if (address < source->base || address - source->base > source->len ||
	    len > source->len - (address - source->base))
		return -EFAULT;
	memcpy(buf, (const uint8_t *)source->bytes + (address - source->base), len);
	return 0;
}

/* Every sized struct begins with a size_t and holds at least one more field. */
#define SIZED_MIN (2 * sizeof(size_t))

int options_copy(void *to, size_t known, const void *from)
{
	size_t size;
	memcpy(&size, from, sizeof(size));
	if (size < SIZED_MIN || size > 64 * KIB)
		return -EINVAL;
	for (size_t i = known; i < size; i++)
		if (((const uint8_t *)from)[i])
			return -EINVAL;
	memset(to, 0, known);
	memcpy(to, from, MIN(size, known));
	return 0;
}

int result_copy(void *to, const void *from, size_t known)
{
	size_t size;
	memcpy(&size, to, sizeof(size));
	if (size < SIZED_MIN || size > 64 * KIB)
		return -EINVAL;
	size_t shared = MIN(size, known);
	memcpy((uint8_t *)to + sizeof(size), (const uint8_t *)from + sizeof(size),
	       shared - sizeof(size));
	memset((uint8_t *)to + shared, 0, size - shared);
	return 0;
}
