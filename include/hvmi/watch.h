/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file watch.h
 * Which machines there are, and what becomes of them.
 */
#ifndef HVMI_WATCH_H
#define HVMI_WATCH_H

#include <hvmi/vm.h>

#ifdef __cplusplus
extern "C" {
#endif

/** What became of a machine. Append-only. */
enum hvmi_machine_change {
	HVMI_MACHINE_PRESENT = 1,	/**< it was there when watching began */
	HVMI_MACHINE_APPEARED = 2,
	HVMI_MACHINE_GONE = 3,
	HVMI_MACHINE_SUSPENDED = 4,	/**< it was paused, or saved */
	HVMI_MACHINE_RESUMED = 5
};

/** A machine, and news of it. Strings are printable UTF-8, empty where there is nothing to say. */
struct hvmi_machine_news {
	size_t size;		/**< sizeof(struct hvmi_machine_news) */
	uint32_t change;	/**< enum hvmi_machine_change */
	uint32_t id;		/**< that the hypervisor gives it, or 0 */
	uint32_t paused;	/**< 1: it is paused now */
	uint32_t reserved;
	char target[128];	/**< what to open it with: "xen:5" */
	char name[128];
	char uuid[40];		/**< 8-4-4-4-12 hex digits */
	char type[16];		/**< "hvm", "pvh", "pv" ... */
};

struct hvmi_watch;

/**
 * Begin to watch.
 * @param where    a scheme whose backend knows its machines, with what that backend wants behind a
 *                 colon: "xen", "libvirt:qemu:///system"
 * @param options  for .log and .module_dir; may be NULL
 * @return -ENOTSUP: the backend does not know its machines; as hvmi_open() otherwise
 */
HVMI_API int hvmi_watch_open(const char *where, const struct hvmi_open_options *options,
			     struct hvmi_watch **ret, struct hvmi_error *err);

/** NULL is allowed. */
HVMI_API void hvmi_watch_close(struct hvmi_watch *watch);

/** A descriptor that polls readable when hvmi_watch_next() may have something. Do not read it. */
HVMI_API int hvmi_watch_fd(const struct hvmi_watch *watch);

/**
 * The next piece of news; first all machines that are PRESENT. Does not wait.
 * @return 1: *@p ret is one; 0: nothing more now
 */
HVMI_API int hvmi_watch_next(struct hvmi_watch *watch, struct hvmi_machine_news *ret,
			     struct hvmi_error *err);

#ifdef __cplusplus
}
#endif
#endif
