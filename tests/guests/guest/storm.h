/* SPDX-License-Identifier: Apache-2.0 */
/* What the guest's storm does, for who makes it and for who looks at it. */
#ifndef GUEST_STORM_H
#define GUEST_STORM_H

/* Worker number N, and all that it starts, has this user, and no name but those of its line. */
#define STORM_UID 5000u
enum storm_worker {
	STORM_FORK,	/* children that end at once */
	STORM_ORPHAN,	/* children whose children outlive them */
	STORM_EXEC,	/* children that begin another program */
	STORM_THREAD,	/* threads that end at once */
	STORM_DETHREAD,	/* children, one thread of which begins another program */
	STORM_NAME,	/* a process that takes one of two names, again and again */
	STORM_MAP,	/* a process that maps and unmaps pages */
	STORM_WORKERS
};

static const struct {
	const char *worker, *other, *third;
} storm_names[STORM_WORKERS] = {
	{ "w-fork", 0, 0 },
	{ "w-orphan", 0, 0 },
	{ "w-exec", "exec-a", 0 },
	{ "w-thread", "a-thread", 0 },
	{ "w-dethread", "d-thread", "exec-b" },
	{ "w-name", "aaaaaaaaaaaaaaa", "bbbbbbbbbbbbbbb" },
	{ "w-map", 0, 0 },
};
/* Programs by their names are called with their name and this. */
#define STORM_ARGUMENT "argument"

/*
 * Where STORM_MAP maps: slots of STORM_SLOT bytes. Slot N has N % 3 + 1 pages at its beginning, of
 * private memory that may be written if N is even, of STORM_FILE at page N if it is odd; or nothing.
 */
#define STORM_BASE 0x200000000000ull
#define STORM_SLOT 0x10000u
#define STORM_SLOTS 64u
#define STORM_FILE "/run/storm-file"

/* A module that comes and goes. */
#define STORM_MODULE "nls_iso8859_1"
#define STORM_MODULE_FILE "/modules/storm/nls_iso8859_1.ko"

#endif
