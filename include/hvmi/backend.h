/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file backend.h
 * For authors of backends: one way to reach machines.
 *
 * A backend is a table of methods. It is built in, given in hvmi_open_options.backend, or a module
 * `hvmi-backend-SCHEME.so` that exports hvmi_backend_entry(). The core checks every argument before
 * it calls a method, splits what crosses ranges, and answers -ENOTSUP for a method that is NULL; so
 * the plain implementation of each contract below is the right one.
 */
#ifndef HVMI_BACKEND_H
#define HVMI_BACKEND_H

#include <hvmi/event.h>
#include <hvmi/view.h>
#include <hvmi/vm.h>
#include <hvmi/watch.h>

#ifdef __cplusplus
extern "C" {
#endif

/** A parsed target; valid during open(). */
struct hvmi_target;

/** WHAT of the target, commas undoubled. */
HVMI_API const char *hvmi_target_what(const struct hvmi_target *target);

/**
 * The value of an option, or NULL if it was not given. The core refuses a target with an option
 * that no backend asked for, so ask for every option that you know, on every successful open.
 */
HVMI_API const char *hvmi_target_option(const struct hvmi_target *target, const char *name);

/**
 * The next occurrence of an option that may be repeated, from *@p cursor (0 at first); NULL at
 * the end.
 */
HVMI_API const char *hvmi_target_option_next(const struct hvmi_target *target, const char *name,
					     size_t *cursor);

/** What the core gives to open(); valid until close(). */
struct hvmi_backend_host {
	size_t size;
	uint32_t flags;		/**< HVMI_OPEN_* of the caller */
	uint32_t reserved;
	/** Log a formatted message; never NULL. @p host is this struct. */
	void (*log)(const struct hvmi_backend_host *host, uint32_t level, const char *format, ...)
		HVMI_PRINTF(3, 4);
};

/** What a backend says of a machine it opened. */
struct hvmi_machine {
	size_t size;		/**< set by the core */
	uint32_t arch;		/**< enum hvmi_arch */
	uint32_t flags;		/**< HVMI_VM_STATIC where nothing changes the memory */
	uint32_t vcpus;
	uint32_t ranges;	/**< at most HVMI_RANGES_MAX */
	char format[48];
};

/** Most RAM ranges that the core accepts. */
#define HVMI_RANGES_MAX 1048576u

/** See the file comment. Methods return 0 or a negative error of the closed set. */
struct hvmi_backend {
	size_t size;		/**< sizeof(struct hvmi_backend) */
	const char *scheme;	/**< lower-case letters, digits and '-', at most 15 characters */

	/* Since 1.0, required. */
	/** Attach. On failure leave *@p ret alone; close() will not be called. */
	int (*open)(const struct hvmi_target *target, const struct hvmi_backend_host *host,
		    void **ret, struct hvmi_error *err);
	/** Detach, free everything. */
	void (*close)(void *machine);
	/** Called once, after open(). */
	int (*describe)(void *machine, struct hvmi_machine *ret);
	/**
	 * RAM range number @p index, any order; ranges must not overlap (the core refuses them).
	 * Called once for each index, after describe().
	 */
	int (*range)(void *machine, uint32_t index, struct hvmi_range *ret);
	/**
	 * Copy [gpa, gpa + len), which lies in one range. All or nothing. Any thread, concurrently.
	 * -EFAULT: a page of it is absent.
	 */
	int (*read)(void *machine, uint64_t gpa, void *buf, size_t len);

	/* Since 1.0, optional. */
	/** As read(). Called only if the machine was opened with HVMI_OPEN_WRITE. */
	int (*write)(void *machine, uint64_t gpa, const void *buf, size_t len);
	/**
	 * A host pointer to the whole of range @p index, readable (and only readable) until
	 * close(). Called once for each range, after range(). Where it is missing, or answers
	 * -ENOTSUP for a range, read() is used. If a page behind the pointer vanishes and the
	 * access raises SIGBUS, the core puts a page of zeros there and reports -EIO.
	 */
	int (*map)(void *machine, uint32_t index, const void **ret);
	/**
	 * The first stretch at or above @p gpa in range @p index that may hold something other than
	 * zeros; -ENOENT: none. Any thread. NULL: all of every range may.
	 */
	int (*next_data)(void *machine, uint32_t index, uint64_t gpa, struct hvmi_range *ret);
	/** As hvmi_vm_note(): len_ret is set with -EOVERFLOW too. */
	int (*note)(void *machine, const char *name, void *buf, size_t size, size_t *len_ret);
	/** @p vcpu is below hvmi_machine.vcpus. -ENOTSUP: not this register. Any thread. */
	int (*get_register)(void *machine, uint32_t vcpu, uint32_t id, uint64_t *ret);
	int (*set_register)(void *machine, uint32_t vcpu, uint32_t id, uint64_t value);
	/** Not counted: the core calls it for the first pause and the last resume only. */
	int (*pause)(void *machine, struct hvmi_error *err);
	int (*resume)(void *machine, struct hvmi_error *err);

	/* Since 1.0, optional: many registers at once. */
	/**
	 * All that can be told, of one moment; @p ret comes with none known. Any thread. Where it
	 * is there, get_register() need not be.
	 */
	int (*get_registers)(void *machine, uint32_t vcpu, struct hvmi_registers *ret,
			     struct hvmi_error *err);
	/**
	 * Set those that are known, all or none. Where it is there, set_register() need not be.
	 * Called whether the machine is paused or not.
	 */
	int (*set_registers)(void *machine, uint32_t vcpu, const struct hvmi_registers *values,
			     struct hvmi_error *err);

	/* Since 1.0, optional: running machines. Called if opened with HVMI_OPEN_WRITE only. */
	/**
	 * enum hvmi_capability: 0, or -ENOTSUP with a sentence that says what would have to change.
	 * Called for those only whose methods are there, without HVMI_OPEN_WRITE too. Changes
	 * nothing.
	 */
	int (*capability)(void *machine, uint32_t capability, struct hvmi_error *err);
	/** -EBUSY: one is waiting. */
	int (*inject)(void *machine, uint32_t vcpu, const struct hvmi_injection *injection,
		      struct hvmi_error *err);

	/* Since 1.0, optional: events; all of them or none. */
	/** @param flags  HVMI_EVENTS_* @param fd_ret  polls readable when event_next() has one */
	int (*events_open)(void *machine, uint32_t flags, int *fd_ret, struct hvmi_error *err);
	/**
	 * Everything back as it was: also requests, views, pages, steps, and events that were taken
	 * and not answered or not even taken.
	 */
	void (*events_close)(void *machine);
	/** The core refuses doubles, and cancels only what was requested. */
	int (*event_request)(void *machine, const struct hvmi_event_request *request,
			     struct hvmi_error *err);
	int (*event_cancel)(void *machine, const struct hvmi_event_request *request,
			    struct hvmi_error *err);
	/**
	 * 1: an event; 0: none now. Never blocks. @p event comes zeroed, addresses HVMI_NO_ADDRESS;
	 * id and registers are the core's to set, and @p registers comes with none known. -ESRCH:
	 * the machine is gone.
	 */
	int (*event_next)(void *machine, struct hvmi_event *event,
			  struct hvmi_registers *registers, struct hvmi_error *err);
	/** @p event as event_next() gave it; it waits, and is answered once. */
	int (*event_answer)(void *machine, const struct hvmi_event *event,
			    const struct hvmi_answer *answer, struct hvmi_error *err);

	/* Since 1.0, optional: view.h; called while events are open. view_set_rights() and
	 * view_get_rights() with view 0 may be there alone. Gpas are multiples of 4 KiB. */
	int (*view_create)(void *machine, uint32_t rights, uint32_t *view_ret,
			   struct hvmi_error *err);
	int (*view_destroy)(void *machine, uint32_t view, struct hvmi_error *err);
	int (*view_switch)(void *machine, uint32_t view, struct hvmi_error *err);
	int (*view_set_rights)(void *machine, uint32_t view, uint64_t gpa, uint64_t pages,
			       uint32_t rights, struct hvmi_error *err);
	int (*view_get_rights)(void *machine, uint32_t view, uint64_t gpa, uint32_t *rights_ret,
			       struct hvmi_error *err);
	int (*view_remap)(void *machine, uint32_t view, uint64_t gpa, uint64_t target,
			  struct hvmi_error *err);
	int (*page_create)(void *machine, uint64_t *gpa_ret, void **host_ret,
			   struct hvmi_error *err);
	int (*page_destroy)(void *machine, uint64_t gpa, struct hvmi_error *err);

	/* Since 1.0, optional: watch.h; no machine is opened for it. All of them or none. */
	/** @p where: what followed the colon, or "". @p host is valid until watch_close(). */
	int (*watch_open)(const char *where, const struct hvmi_backend_host *host, void **ret,
			  int *fd_ret, struct hvmi_error *err);
	void (*watch_close)(void *watch);
	/** As hvmi_watch_next(). */
	int (*watch_next)(void *watch, struct hvmi_machine_news *ret, struct hvmi_error *err);

	/*
	 * Since 1.0, optional: memory that is mapped piecemeal: ranges for which map() is missing or says
	 * -ENOTSUP. The core maps chunks of up to 2 MiB when they are first touched, keeps them
	 * within hvmi_open_options.map_budget, and copies through them. All three from any thread,
	 * concurrently, also for the same pages.
	 */
	/**
	 * Map @p pages (1 to 512) guest frames from @p gpa on, which is a multiple of 4 KiB; [gpa,
	 * gpa + pages * 4096) lies in one range and in one chunk that begins at a multiple of 2 MiB.
	 * *@p ret: a host mapping of all of them, one after the other, writable too if the machine
	 * was opened with HVMI_OPEN_WRITE, valid until unmap_pages(). status[i]: 0, or the negative
	 * error of page i, which the core then does not touch: -EFAULT where the guest has no page
	 * (absent, ballooned out), or one that is paged out on the host and could not be had back
	 * within reasonable time. Pages may fail one by one; on an error of the whole call nothing
	 * is mapped. -ENOTSUP, -ENOMEM, -EBUSY: read() and write() are used for this access;
	 * -ENOTSUP for the first page of RAM, which the core asks for when opening: for all.
	 */
	int (*map_pages)(void *machine, uint64_t gpa, uint32_t pages, const void **ret,
			 int32_t *status);
	/** Give back what one map_pages() gave, whole: the same pointer and number. */
	void (*unmap_pages)(void *machine, const void *mapping, uint32_t pages);
	/**
	 * Changes when mappings that were given before may show other memory than the guest has now
	 * in their place (it ballooned a page out and in again, say). Cheap: it is asked when a
	 * machine is paused or resumed, a space made, an OS attached to, a list begun. The core
	 * then drops what it has mapped. NULL: that never happens.
	 */
	uint64_t (*map_generation)(void *machine);

	/* Since 1.0, optional: what programs leave that were killed. */
	/**
	 * Text that no other machine that this host has, or had since it was started, would give: an
	 * undo journal is found and judged by it. NULL: the scheme and the size of RAM must do.
	 */
	int (*identity)(void *machine, char *buf, size_t size);
	/**
	 * Called while paused: that it stood before was the doing of a program that was killed, so
	 * resume() is to let it run. NULL: what a killed program pauses does not stay so.
	 */
	int (*adopt_pause)(void *machine, struct hvmi_error *err);
};

/**
 * What a module exports: returns its table, which lives as long as the module is loaded, or NULL
 * if it cannot serve this version of the library.
 */
#define HVMI_BACKEND_ENTRY "hvmi_backend_entry"
typedef const struct hvmi_backend *(*hvmi_backend_entry_fn)(uint32_t version_major,
							    uint32_t version_minor);

#ifdef __cplusplus
}
#endif
#endif
