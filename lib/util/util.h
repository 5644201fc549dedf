/* SPDX-License-Identifier: Apache-2.0 */
/* Small things that every layer uses. */
#ifndef HVMI_LIB_UTIL_H
#define HVMI_LIB_UTIL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <hvmi/error.h>

#define MIN(a, b) ((a) < (b) ? (a) : (b))
#define MAX(a, b) ((a) > (b) ? (a) : (b))
#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))

#define FRAME_SIZE 4096u
#define KIB 1024ull
#define MIB (1024ull * KIB)
#define GIB (1024ull * MIB)

static inline void cleanup_free(void *p)
{
	free(*(void **)p);
}
/* Frees a heap pointer at the end of its scope. */
#define CLEANUP_FREE __attribute__((cleanup(cleanup_free)))

/*
 * malloc() for what is filled at once: large blocks get all their memory in one call, where thousands of
 * page faults would cost more than what is computed.
 */
void *malloc_filled(size_t len);
/* The same for a part of a block: what lies in it whole pages of gets its memory. */
void memory_fill(void *p, size_t len);

/*
 * Loads that come before it are done before those that come after it, also of memory that guests
 * change.
 */
static inline void fence_loads(void)
{
#if defined(__SANITIZE_THREAD__) && defined(__x86_64__)
	/* It knows no fences. This processor does not need one for that, just the compiler. */
	__asm__ volatile("" : : : "memory");
#else
	__atomic_thread_fence(__ATOMIC_ACQUIRE);
#endif
}

/* Guest data is little-endian and rarely aligned. */
static inline uint16_t load_le16(const void *p)
{
	const uint8_t *b = p;
	return (uint16_t)(b[0] | b[1] << 8);
}

static inline uint32_t load_le32(const void *p)
{
	const uint8_t *b = p;
	return b[0] | (uint32_t)b[1] << 8 | (uint32_t)b[2] << 16 | (uint32_t)b[3] << 24;
}

static inline uint64_t load_le64(const void *p)
{
	const uint8_t *b = p;
	return load_le32(b) | (uint64_t)load_le32(b + 4) << 32;
}

/*
 * Bytes at addresses: how parsers of guest data get their input. read() copies all of
 * [address, address + len) or fails with a negative error.
 */
struct source {
	int (*read)(void *context, uint64_t address, void *buf, size_t len);
	void *context;
};

static inline int source_read(const struct source *source, uint64_t address, void *buf, size_t len)
{
	return source->read(source->context, address, buf, len);
}

/* A source over bytes in host memory that stand at [base, base + len); for tests and fuzzers. */
struct bytes_source {
	const void *bytes;
	size_t len;
	uint64_t base;
};
int bytes_source_read(void *context, uint64_t address, void *buf, size_t len);

/*
 * Copies *from, a sized public struct, over *to. -EINVAL if the caller's size is nonsense or a
 * byte that this version does not know is not zero. `known` is sizeof of the struct.
 */
int options_copy(void *to, size_t known, const void *from);

/*
 * Fills the caller's sized struct from ours, as much as the caller knows; keeps the caller's size,
 * zeroes what we do not know. -EINVAL if the caller's size is too small to be any version.
 */
int result_copy(void *to, const void *from, size_t known);

/* As hvmi_text_escape(), but leaves backslashes alone: for text that is already escaped in part. */
size_t text_sanitise(const void *bytes, size_t len, char *buf, size_t size);

#endif
