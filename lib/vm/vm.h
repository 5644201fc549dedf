/* SPDX-License-Identifier: Apache-2.0 */
/* Inside a machine. */
#ifndef HVMI_LIB_VM_H
#define HVMI_LIB_VM_H

#include <hvmi/backend.h>
#include <hvmi/vm.h>

#include "vm/guard.h"
#include "vm/physmap.h"

struct vm_range {
	uint64_t gpa, len;
	const uint8_t *host;	/* NULL: hvmi_vm.physmap or the backend's read() reach it */
	struct guard *guard;	/* of host */
	uint32_t index;		/* what the backend calls it */
};

/* What a user and a backend have of each other. */
struct link {
	void *module;			/* dlopen()ed, or NULL */
	struct hvmi_backend_host host;
	hvmi_log_fn log;
	void *log_context;
};

/*
 * Find the backend of a scheme: given, built in, or a module. *table_ret: a copy, zero behind what
 * its author knew. Also after a failure unlink_backend() gives back what the link holds.
 */
int link_backend(struct link *link, const char *scheme, const struct hvmi_open_options *options,
		 struct hvmi_backend *table_ret, struct hvmi_error *err);
void unlink_backend(struct link *link);

struct hvmi_vm {
	struct hvmi_backend backend;
	void *machine;
	struct link link;
	struct hvmi_events *events;	/* that are open, or NULL */
	struct hvmi_machine description;
	struct vm_range *ranges;	/* ascending */
	uint32_t range_count;
	struct physmap *physmap;	/* of the ranges without a pointer; NULL: they are copied */
	bool pointers;			/* some memory is reached by host pointers */
	uint32_t pauses;
	/* Told before the first pause and after the last resume, or NULL: see hook/journal.h. */
	void (*held)(void *context, bool held);
	void *held_context;
	/*
	 * 0 while the machine runs; else a number that stands for this state of its memory: another
	 * one after each pause, and after each write of ours.
	 */
	_Atomic(uint64_t) still;
	_Atomic(uint64_t) still_last;
	_Atomic(void *) spare_cache;	/* of a space that is gone: its pages are there already */
	uint64_t ram;
};

/* The range that holds gpa, or NULL. */
static inline const struct vm_range *vm_range_of(const struct hvmi_vm *vm, uint64_t gpa)
{
	uint32_t low = 0, high = vm->range_count;
	while (low < high) {
		uint32_t middle = low + (high - low) / 2;
		const struct vm_range *r = &vm->ranges[middle];
		if (gpa - r->gpa < r->len)
			return r;
		if (gpa < r->gpa)
			high = middle;
		else
			low = middle + 1;
	}
	return NULL;
}

/*
 * Host pointer to gpa and how many bytes follow it in one piece, or NULL where there is none (then
 * hvmi_vm_read() may still do). What is read there may be the zeros of a vanished file: check
 * vm_lost() where that matters.
 */
static inline const void *vm_pointer(const struct hvmi_vm *vm, uint64_t gpa, uint64_t *len_ret)
{
	const struct vm_range *r = vm_range_of(vm, gpa);
	if (!r || !r->host)
		return NULL;
	*len_ret = r->len - (gpa - r->gpa);
	return r->host + (gpa - r->gpa);
}

/* The machine has stopped, or something was written to it. */
static inline void vm_still_again(struct hvmi_vm *vm)
{
	atomic_store(&vm->still, atomic_fetch_add(&vm->still_last, 1) + 1);
}

/*
 * Before something begins that wants to see the machine as it is now: what was mapped piecemeal may
 * be out of date. Any thread.
 */
static inline void vm_refresh(struct hvmi_vm *vm)
{
	if (vm->physmap)
		physmap_refresh(vm->physmap);
}

static inline bool vm_is_static(const struct hvmi_vm *vm)
{
	return vm->description.flags & HVMI_VM_STATIC;
}

/* Whether nothing changes the memory now. Any thread. */
static inline bool vm_stands_still(const struct hvmi_vm *vm)
{
	return atomic_load(&vm->still) != 0;
}

/* A struct source over guest-physical memory: .context is the struct hvmi_vm. */
int vm_source_read(void *context, uint64_t gpa, void *buf, size_t len);

void vm_log(struct hvmi_vm *vm, uint32_t level, const char *format, ...) HVMI_PRINTF(3, 4);

/* -EACCES with a sentence, unless the machine was opened for writing. */
int vm_need_write(const struct hvmi_vm *vm, struct hvmi_error *err);

/* The caller's sized struct as this version knows it, checked. */
int injection_take(struct hvmi_injection *to, const struct hvmi_injection *from,
		   struct hvmi_error *err);

/* lib/space/cache.c: what spaces left behind. */
void space_cache_free_spare(struct hvmi_vm *vm);

/* Target strings. */
struct hvmi_target {
	char *scheme;	/* these point into one allocation */
	char *what;
	uint32_t option_count;
	struct target_option {
		const char *name, *value;
		bool asked;
	} *options;
};
int target_parse(const char *text, struct hvmi_target **ret, struct hvmi_error *err);
void target_free(struct hvmi_target *target);

/* Built-in backends by scheme, or NULL. */
const struct hvmi_backend *builtin_backend(const char *scheme);

#endif
