/* SPDX-License-Identifier: Apache-2.0 */
/* Inside the Windows recogniser. */
#ifndef HVMI_LIB_WINDOWS_H
#define HVMI_LIB_WINDOWS_H

#include "os/list.h"
#include "os/os.h"
#include "os/window.h"
#include "os/windows/find.h"
#include "os/windows/knowledge.h"

/* Members of kernel structures by the names below; each is looked up once, when attaching. */
enum windows_member {
#define MEMBER(id, type, paths) WINDOWS_##id,
#include "os/windows/members.def"
#undef MEMBER
	WINDOWS_MEMBER_COUNT
};

/* A type of objects, by its index. */
struct windows_type {
	uint64_t object;	/* _OBJECT_TYPE, 0: no such index */
	char name[32];
};
#define WINDOWS_TYPES_MAX 256u

struct windows_os {
	struct windows_found found;
	struct windows_shared shared;
	struct windows_kernel_id id;
	struct windows_knowledge knowledge;
	uint32_t pointer_bytes;
	uint64_t user_end;		/* the first address that is no process's own */
	uint64_t system;		/* _EPROCESS of System, 0: unknown */
	uint64_t processes;		/* PsActiveProcessHead, 0: unknown */
	uint64_t anchor;		/* an _EPROCESS that is listed, where the head is unknown; or 0 */
	uint64_t modules;		/* PsLoadedModuleList, 0: unknown */
	uint64_t root_directory;	/* _OBJECT_DIRECTORY of "\\", 0: unknown */
	uint8_t type_cookie;		/* since 10: indexes in headers are scrambled with it */
	struct windows_type types[WINDOWS_TYPES_MAX];
	struct hvmi_member members[WINDOWS_MEMBER_COUNT];	/* hop_count 0: unknown */
	struct window_plan process;	/* of members, what says that one is as it was */
};

static inline struct windows_os *windows_data(const struct hvmi_os *os)
{
	return os->data;
}

static inline bool windows_has(const struct hvmi_os *os, enum windows_member member)
{
	return windows_data(os)->members[member].hop_count != 0;
}

/* Where a member is in its structure; windows_has() must hold. */
static inline uint64_t windows_offset(const struct hvmi_os *os, enum windows_member member)
{
	return windows_data(os)->members[member].hops[0];
}

void windows_members_find(const struct hvmi_profile *profile,
			  struct hvmi_member members[WINDOWS_MEMBER_COUNT]);
/* Plan how it is seen that a process is as it was, when the members are known. */
void windows_process_plan(struct windows_os *data);

/* Whether an address is the kernel's. */
bool windows_is_kernel(const struct hvmi_os *os, uint64_t gva);

/*
 * Read a member as a number, a pointer or a large integer: as wide as it is, at most 8 bytes.
 * -ENOENT: this kernel lacks the member, or nobody knows where it is; else as hvmi_space_read().
 */
int windows_read(const struct hvmi_os *os, struct hvmi_space *space, enum windows_member member,
		 uint64_t object, uint64_t *ret);
/* The same for what is a pointer, whatever the type says (arrays of one, _EX_FAST_REF ...). */
int windows_read_pointer(const struct hvmi_os *os, struct hvmi_space *space,
			 enum windows_member member, uint64_t object, uint64_t *ret);
/* A pointer of the guest's size at an address. */
int windows_pointer_at(const struct hvmi_os *os, struct hvmi_space *space, uint64_t gva,
		       uint64_t *ret);
/* An _EX_FAST_REF without its counter. */
uint64_t windows_fast_ref(const struct hvmi_os *os, uint64_t value);

/* Say which of `members` is unknown: -ENOTSUP with a sentence, or 0. */
int windows_require(const struct hvmi_os *os, const char *what, const enum windows_member *members,
		    size_t count, struct hvmi_error *err);

/* Where a symbol is; what its absence stops, as in "callbacks". -ENOTSUP says which file would help. */
int windows_symbol(const struct hvmi_os *os, const char *what, const char *name, uint64_t *ret,
		   struct hvmi_error *err);

/* Text. */

/* UTF-16 to UTF-8: at most size - 1 bytes and a NUL, whole characters. An unpaired surrogate becomes the
 * three bytes that the scheme of UTF-8 gives it, a NUL the two that are too long. Returns the length
 * that the whole has. */
size_t windows_utf8(const uint8_t *utf16, size_t bytes, char *buf, size_t size);
/* The same of characters of one byte, which is how the registry compresses names. */
size_t windows_latin1(const uint8_t *text, size_t bytes, char *buf, size_t size);
/*
 * A UNICODE_STRING of the guest as UTF-8; `pointer_bytes` is that of its owner (4 in a WOW64
 * process). What does not fit is cut. -EFAULT: not in memory; -EBADMSG: its lengths make no sense.
 */
int windows_string(struct hvmi_space *space, uint64_t gva, uint32_t pointer_bytes, char *buf,
		   size_t size, size_t *len_ret);

/* 100 ns since 1601 to ns since 1970; 0 if that makes no sense. */
uint64_t windows_time_ns(uint64_t filetime);

/*
 * The part of user memory that the loader keeps, the same in all releases; `wide` is that of a
 * 64-bit process.
 */
struct windows_user_layout {
	uint32_t pointer_bytes;
	uint32_t peb_image_base, peb_ldr, peb_parameters;
	uint32_t ldr_modules;
	uint32_t parameters_path, parameters_command, parameters_environment;
	uint32_t module_base, module_entry, module_bytes, module_path, module_name;
};
const struct windows_user_layout *windows_user_layout(bool wide);

/* The _EPROCESS of an _ETHREAD. -ENOENT: unknown where it says so; -EFAULT. */
int windows_thread_process(const struct hvmi_os *os, struct hvmi_space *space, uint64_t thread,
			   uint64_t *ret);

/* The _EPROCESS of a task, or 0. */
uint64_t windows_task_process(const struct hvmi_os *os, struct hvmi_space *space,
			      const struct hvmi_task *task);

/* Fill in a process by its _EPROCESS. -EFAULT: there is no memory. */
int windows_process_read(const struct hvmi_os *os, struct hvmi_space *space, uint64_t object,
			 struct hvmi_task *ret);

/*
 * The path of a _FILE_OBJECT, from its volume's device on. What could be read is in buf on
 * failure too. -ENOENT: the device has no name, or it is unknown where; -EFAULT; -EOVERFLOW.
 */
int windows_file_path(const struct hvmi_os *os, struct hvmi_space *space, uint64_t file, char *buf,
		      size_t size);

/*
 * The path of the file that a process has mapped at an address. -ENOENT: none; else as
 * windows_file_path().
 */
int windows_mapped_path(struct hvmi_os *os, struct hvmi_space *space, uint64_t process,
			uint64_t gva, char *buf, size_t size);

/* Find the types of objects and the root directory. */
void windows_settle_objects(struct hvmi_os *os, struct hvmi_space *space);

/* -ENOTSUP with a sentence if the guest is no Windows, else 0. */
int windows_only(const struct hvmi_os *os, struct hvmi_error *err);

/* Find System, the list heads, and check what the profile says by them. */
void windows_settle(struct hvmi_os *os, struct hvmi_space *space);

/* The methods of struct os_ops. */
int windows_task_begin(struct hvmi_os *os, uint32_t flags, struct task_reuse *reuse,
		       void **state_ret, struct hvmi_error *err);
int windows_task_next(void *state, struct hvmi_task *ret, struct hvmi_error *err);
void windows_task_end(void *state);
int windows_task_strings(struct hvmi_os *os, const struct hvmi_task *task, int which, char *buf,
			 size_t size, size_t *len_ret, struct hvmi_error *err);
int windows_task_path(struct hvmi_os *os, const struct hvmi_task *task, char *buf, size_t size,
		      struct hvmi_error *err);
int windows_task_current(struct hvmi_os *os, uint32_t vcpu, uint32_t flags, struct hvmi_task *ret,
			 struct hvmi_error *err);
int windows_stacks(struct hvmi_os *os, int (*each)(void *context, const struct os_stack *stack),
		   void *context, struct hvmi_error *err);
/* The _EPROCESS and _ETHREAD that a vCPU runs. As hvmi_task_current(). */
int windows_current(const struct hvmi_os *os, struct hvmi_space *space, uint32_t vcpu,
		    uint64_t *process_ret, uint64_t *thread_ret, struct hvmi_error *err);
/* Of a running machine: -ENOENT if the process of a task that was listed before has ended. */
int windows_task_check(const struct hvmi_os *os, struct hvmi_space *space,
		       const struct hvmi_task *task, struct hvmi_error *err);
int windows_module_begin_task(struct hvmi_os *os, const struct hvmi_task *task, uint32_t flags,
			      void **state_ret, struct hvmi_error *err);
int windows_module_begin(struct hvmi_os *os, uint32_t flags, void **state_ret,
			 struct hvmi_error *err);
int windows_module_next(void *state, struct hvmi_module *ret, struct hvmi_error *err);
void windows_module_end(void *state);
int windows_region_begin(struct hvmi_os *os, const struct hvmi_task *task, uint32_t flags,
			 void **state_ret, struct hvmi_error *err);
int windows_region_next(void *state, struct hvmi_region *ret, struct hvmi_error *err);
void windows_region_end(void *state);

#endif
