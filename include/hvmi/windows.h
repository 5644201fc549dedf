/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file windows.h
 * What only Windows has: handles, objects, drivers, callbacks, services, the registry.
 *
 * All of it works on an OS handle whose kind is HVMI_OS_WINDOWS; for others -ENOTSUP. Iterators are
 * as those of os.h: each in one thread at a time, `..._next()` returns 1, 0 at the end, or an error
 * after which the list has ended. Text is UTF-8; an unpaired surrogate of the guest's UTF-16 is
 * the three bytes that the scheme of UTF-8 gives it, and a NUL within is C0 80, so that different names
 * stay different: hvmi_text_escape() makes \\xed\\xa0\\x80 of U+D800, and \\xc0\\x80 of a NUL. Strings
 * that a call on an iterator gave are valid until the next call on it. Addresses are guest-virtual.
 */
#ifndef HVMI_WINDOWS_H
#define HVMI_WINDOWS_H

#include <hvmi/os.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Tokens. */

/** Bytes of hvmi_token.user: the longest SID as text. */
#define HVMI_SID_TEXT 192

/** Who a process is: its primary token (_TOKEN). */
struct hvmi_token {
	size_t size;		/**< sizeof(struct hvmi_token) */
	uint64_t object;
	uint32_t session;
	uint32_t integrity;	/**< RID of the mandatory label, 0x2000 medium; 0: it has none */
	uint64_t present;	/**< privileges that it may enable: bit N is the privilege with LUID N */
	uint64_t enabled;	/**< those that are enabled */
	char user[HVMI_SID_TEXT];	/**< "S-1-5-18" */
};

/** The primary token of a task's process. -EFAULT, -EBADMSG: it cannot be read. */
HVMI_API int hvmi_token_read(struct hvmi_os *os, const struct hvmi_task *task,
			     struct hvmi_token *ret, struct hvmi_error *err);

/* Objects. */

/** An object of the object manager. */
struct hvmi_object {
	size_t size;		/**< sizeof(struct hvmi_object) */
	uint64_t object;	/**< its body: an _EPROCESS, a _DRIVER_OBJECT ... */
	const char *name;
	char type[32];		/**< "Directory", "SymbolicLink" ...; "" if unknown */
};

struct hvmi_object_iter;

/**
 * Begin a list of what is in a directory.
 * @param path  "\\" or NULL for the root, "\\Device", "\\Driver" ..., compared without case
 * @return -ENOENT: there is no such directory
 */
HVMI_API int hvmi_object_iter_create(struct hvmi_os *os, const char *path,
				     struct hvmi_object_iter **ret, struct hvmi_error *err);
HVMI_API int hvmi_object_next(struct hvmi_object_iter *iter, struct hvmi_object *ret,
			      struct hvmi_error *err);
HVMI_API void hvmi_object_iter_destroy(struct hvmi_object_iter *iter);

/* Handles. */

/** An open handle of a process. */
struct hvmi_handle {
	size_t size;		/**< sizeof(struct hvmi_handle) */
	uint64_t handle;	/**< the number that the process uses, a multiple of 4 */
	uint64_t object;
	uint32_t access;	/**< access mask that was granted */
	uint32_t reserved;
	char type[32];		/**< "File", "Key", "Process" ...; "" if unknown */
	/**
	 * Path of a file, key or named object; of a process or thread "NAME (PID)", "NAME (PID, TID)";
	 * "" if it has none.
	 */
	const char *name;
};

struct hvmi_handle_iter;

/** Begin a list of a process's handles; System's are those of the kernel. */
HVMI_API int hvmi_handle_iter_create(struct hvmi_os *os, const struct hvmi_task *task,
				     struct hvmi_handle_iter **ret, struct hvmi_error *err);
HVMI_API int hvmi_handle_next(struct hvmi_handle_iter *iter, struct hvmi_handle *ret,
			      struct hvmi_error *err);
HVMI_API void hvmi_handle_iter_destroy(struct hvmi_handle_iter *iter);

/* Drivers and devices. */

/** Entries of hvmi_driver.dispatch: IRP_MJ_CREATE to IRP_MJ_PNP. */
#define HVMI_DISPATCH_COUNT 28

/** A driver, from the object manager's directories \\Driver and \\FileSystem. */
struct hvmi_driver {
	size_t size;		/**< sizeof(struct hvmi_driver) */
	uint64_t object;	/**< its _DRIVER_OBJECT */
	uint64_t start;		/**< of its image */
	uint64_t bytes;
	uint64_t module;	/**< hvmi_module.object of its image, or 0 */
	uint64_t device;	/**< its first _DEVICE_OBJECT, or 0 */
	uint64_t unload;	/**< DriverUnload, or 0 */
	uint64_t dispatch[HVMI_DISPATCH_COUNT];	/**< MajorFunction; 0: could not be read */
	const char *name;	/**< "\\Driver\\disk" */
	const char *service;	/**< key of its service below Services, or "" */
};

struct hvmi_driver_iter;
HVMI_API int hvmi_driver_iter_create(struct hvmi_os *os, struct hvmi_driver_iter **ret,
				     struct hvmi_error *err);
HVMI_API int hvmi_driver_next(struct hvmi_driver_iter *iter, struct hvmi_driver *ret,
			      struct hvmi_error *err);
HVMI_API void hvmi_driver_iter_destroy(struct hvmi_driver_iter *iter);

/** A device of a driver. */
struct hvmi_device {
	size_t size;		/**< sizeof(struct hvmi_device) */
	uint64_t object;	/**< its _DEVICE_OBJECT */
	uint64_t driver;	/**< its _DRIVER_OBJECT */
	uint64_t attached;	/**< the device that is stacked on it, or 0 */
	uint32_t type;		/**< FILE_DEVICE_* */
	uint32_t reserved;
	const char *name;	/**< "\\Device\\Harddisk0\\DR0" or "" */
};

struct hvmi_device_iter;
/** Begin a list of a driver's devices. */
HVMI_API int hvmi_device_iter_create(struct hvmi_os *os, const struct hvmi_driver *driver,
				     struct hvmi_device_iter **ret, struct hvmi_error *err);
HVMI_API int hvmi_device_next(struct hvmi_device_iter *iter, struct hvmi_device *ret,
			      struct hvmi_error *err);
HVMI_API void hvmi_device_iter_destroy(struct hvmi_device_iter *iter);

/** A driver that was unloaded (MmUnloadedDrivers). */
struct hvmi_unloaded {
	size_t size;		/**< sizeof(struct hvmi_unloaded) */
	uint64_t start, end;	/**< where it was */
	uint64_t time_ns;	/**< when, since 1970, UTC; 0: unknown */
	char name[64];
};

/**
 * Unloaded driver number @p index, as the kernel has them in its ring. -ENOENT: no more; -ENOTSUP:
 * MmUnloadedDrivers is unknown.
 */
HVMI_API int hvmi_unloaded_read(struct hvmi_os *os, uint32_t index, struct hvmi_unloaded *ret,
				struct hvmi_error *err);

/* What the kernel calls. */

enum hvmi_callback_kind {
	HVMI_CALLBACK_PROCESS = 1,	/**< PsSetCreateProcessNotifyRoutine() */
	HVMI_CALLBACK_THREAD = 2,	/**< PsSetCreateThreadNotifyRoutine() */
	HVMI_CALLBACK_IMAGE = 3,	/**< PsSetLoadImageNotifyRoutine() */
	HVMI_CALLBACK_REGISTRY = 4,	/**< CmRegisterCallback(); since Vista */
	HVMI_CALLBACK_BUGCHECK = 5,	/**< KeRegisterBugCheckCallback() */
	HVMI_CALLBACK_BUGCHECK_REASON = 6	/**< KeRegisterBugCheckReasonCallback() */
};

/** A routine that a driver asked the kernel to call. */
struct hvmi_callback {
	size_t size;		/**< sizeof(struct hvmi_callback) */
	uint32_t kind;		/**< enum hvmi_callback_kind */
	uint32_t reserved;
	uint64_t function;
	uint64_t context;	/**< what it is given, or 0 */
	uint64_t object;	/**< the kernel's record of it */
	char detail[64];	/**< altitude (registry), component (bug check), or "" */
};

struct hvmi_callback_iter;

/**
 * Begin a list of callbacks, kind after kind. Those of a kind whose place in this kernel is unknown
 * (its symbol is in no table, and its place not found) are left out; hvmi_callback_known() tells.
 */
HVMI_API int hvmi_callback_iter_create(struct hvmi_os *os, struct hvmi_callback_iter **ret,
				       struct hvmi_error *err);
/** A list that is damaged ends, and the error comes after all other kinds. */
HVMI_API int hvmi_callback_next(struct hvmi_callback_iter *iter, struct hvmi_callback *ret,
				struct hvmi_error *err);
HVMI_API void hvmi_callback_iter_destroy(struct hvmi_callback_iter *iter);
/** 1 if callbacks of a kind can be listed, else 0. */
HVMI_API int hvmi_callback_known(const struct hvmi_os *os, uint32_t kind);

/** A system service. */
struct hvmi_service {
	size_t size;		/**< sizeof(struct hvmi_service) */
	uint64_t function;
	uint32_t number;	/**< what a program passes: 0x1000 and above in table 1 */
	uint32_t arguments;	/**< bytes of them on the stack */
};

/**
 * Entry @p index of a service table. @p table: 0 the kernel's (KiServiceTable), 1 win32k's.
 * -ENOENT: no more; -ENOTSUP: where the table is is unknown; -EFAULT: not in memory.
 */
HVMI_API int hvmi_service_read(struct hvmi_os *os, uint32_t table, uint32_t index,
			       struct hvmi_service *ret, struct hvmi_error *err);

/** A descriptor of the IDT or GDT. */
struct hvmi_descriptor {
	size_t size;		/**< sizeof(struct hvmi_descriptor) */
	uint64_t base;		/**< handler of a gate, or base of a segment */
	uint32_t limit;		/**< of a segment, in bytes; 0 of a gate */
	uint32_t selector;	/**< of a gate's handler */
	uint32_t type;		/**< 4 bits; for a segment with bit 4 (S) */
	uint32_t dpl;
	uint32_t present;	/**< 0 or 1 */
	uint32_t ist;		/**< of a 64-bit gate */
};

/** Tables of hvmi_descriptor_read(). */
#define HVMI_TABLE_IDT 0u
#define HVMI_TABLE_GDT 1u

/**
 * Entry @p index of a vCPU's IDT or GDT. A system segment of 64-bit mode takes two of the GDT.
 * -ENOENT: beyond its limit; -ENOTSUP: its registers are unknown; -EFAULT: not in memory.
 */
HVMI_API int hvmi_descriptor_read(struct hvmi_os *os, uint32_t vcpu, uint32_t table,
				  uint32_t index, struct hvmi_descriptor *ret,
				  struct hvmi_error *err);

/* The registry, as far as it is in memory. */

/** A hive: a part of the registry that is loaded from one file. */
struct hvmi_hive {
	size_t size;		/**< sizeof(struct hvmi_hive) */
	uint64_t object;	/**< its _CMHIVE */
	uint32_t root;		/**< cell of its root key */
	uint32_t reserved;
	const char *path;	/**< of its file, "\\SystemRoot\\System32\\Config\\SYSTEM", or "" */
	const char *mount;	/**< where it is mounted, "\\REGISTRY\\MACHINE\\SYSTEM", or "" (7) */
};

struct hvmi_hive_iter;
HVMI_API int hvmi_hive_iter_create(struct hvmi_os *os, struct hvmi_hive_iter **ret,
				   struct hvmi_error *err);
HVMI_API int hvmi_hive_next(struct hvmi_hive_iter *iter, struct hvmi_hive *ret,
			    struct hvmi_error *err);
HVMI_API void hvmi_hive_iter_destroy(struct hvmi_hive_iter *iter);

/** A key. */
struct hvmi_key {
	size_t size;		/**< sizeof(struct hvmi_key) */
	uint64_t hive;		/**< hvmi_hive.object */
	uint32_t cell;		/**< its index in the hive */
	uint32_t subkeys;	/**< how many, volatile ones included */
	uint32_t values;
	uint32_t reserved;
	uint64_t written_ns;	/**< last written, since 1970, UTC; 0: unknown */
	char name[768];		/**< at most 256 characters */
};

/**
 * A key of a hive.
 * @param path  from the hive's root, "Setup\\AllowStart", compared without case; "" or NULL: the root
 * @return -ENOENT: there is none; -EFAULT: not in memory on the way; -EBADMSG: damaged
 */
HVMI_API int hvmi_key_find(struct hvmi_os *os, const struct hvmi_hive *hive, const char *path,
			   struct hvmi_key *ret, struct hvmi_error *err);

struct hvmi_key_iter;
/** Begin a list of a key's subkeys. Those that are not in memory are skipped and told at the end. */
HVMI_API int hvmi_key_iter_create(struct hvmi_os *os, const struct hvmi_key *key,
				  struct hvmi_key_iter **ret, struct hvmi_error *err);
HVMI_API int hvmi_key_next(struct hvmi_key_iter *iter, struct hvmi_key *ret,
			   struct hvmi_error *err);
HVMI_API void hvmi_key_iter_destroy(struct hvmi_key_iter *iter);

/** A value of a key. */
struct hvmi_value {
	size_t size;		/**< sizeof(struct hvmi_value) */
	uint32_t type;		/**< REG_*: 1 string, 2 with variables, 3 binary, 4 32 bits, 7 strings */
	uint32_t bytes;		/**< of its data */
	const uint8_t *data;	/**< NULL if it is not in memory */
	const char *name;	/**< "" is the key's default */
};

struct hvmi_value_iter;
/** Begin a list of a key's values. As for subkeys. */
HVMI_API int hvmi_value_iter_create(struct hvmi_os *os, const struct hvmi_key *key,
				    struct hvmi_value_iter **ret, struct hvmi_error *err);
HVMI_API int hvmi_value_next(struct hvmi_value_iter *iter, struct hvmi_value *ret,
			     struct hvmi_error *err);
HVMI_API void hvmi_value_iter_destroy(struct hvmi_value_iter *iter);

#ifdef __cplusplus
}
#endif
#endif
