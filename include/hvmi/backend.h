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

#include <hvmi/vm.h>

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
