/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file search.h
 * Searches of memory, physical or virtual, for one or many byte patterns at once.
 */
#ifndef HVMI_SEARCH_H
#define HVMI_SEARCH_H

#include <hvmi/space.h>

#ifdef __cplusplus
extern "C" {
#endif

/** Bytes of a pattern at most. */
#define HVMI_PATTERN_BYTES 4096u
/** Patterns of one search at most. */
#define HVMI_PATTERNS_MAX 1024u

/** A byte pattern. Never grows. */
struct hvmi_pattern {
	const void *bytes;
	const void *mask;	/**< bits that matter, as many bytes; NULL: all */
	uint32_t len;		/**< bytes, 1 to HVMI_PATTERN_BYTES; one bit must matter at least */
	uint32_t align;		/**< matches begin at multiples of this, a power of two; 0: anywhere */
};

/**
 * A match. The guest may have changed it by now: read it again before it is judged. Return 0 to go
 * on, a positive number to end the search.
 * @param pattern  its index
 */
typedef int (*hvmi_search_fn)(void *context, uint32_t pattern, uint64_t address);

/** What to look for, and where. Zero it, set size, then what is wanted. */
struct hvmi_search {
	size_t size;		/**< sizeof(struct hvmi_search) */
	struct hvmi_space *space;	/**< NULL: guest-physical memory */
	uint64_t first;		/**< where a match may begin: from here ... */
	uint64_t last;		/**< ... to here, inclusive; 0: to the end */
	const struct hvmi_pattern *patterns;
	uint32_t pattern_count;
	uint32_t reserved;
	hvmi_search_fn found;
	void *context;
	uint64_t budget;	/**< bytes that are looked at at most; 0: no limit */
};

/**
 * Search. Each match of each pattern is told once, in ascending order but for a few KiB. A match
 * lies in one stretch of RAM, or of mapped pages; absent pages, and RAM that was never written (see
 * hvmi_vm_next_data()), are left out. Takes time in proportion to the memory, hardly to the number
 * of patterns; patterns whose bytes are rare cost least.
 * @param next_ret  where to go on: hvmi_search.first of the next call; UINT64_MAX after the end. May
 *                  be NULL
 * @return 0: to the end; 1: the callback ended it; -EOVERFLOW: the budget is used up; -EINVAL: the
 *         patterns make no sense; -EIO, -ESRCH: memory could not be read for no fault of the guest's
 */
HVMI_API int hvmi_search(struct hvmi_vm *vm, const struct hvmi_search *search, uint64_t *next_ret,
			 struct hvmi_error *err);

#ifdef __cplusplus
}
#endif
#endif
