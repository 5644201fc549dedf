/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file os.h
 * The operating system in a machine: what it is, its processes, modules and memory regions.
 *
 * An OS handle is immutable after hvmi_os_attach(): any number of iterators of any threads at
 * once, each iterator in one thread at a time. It must go before its machine.
 */
#ifndef HVMI_OS_H
#define HVMI_OS_H

#include <hvmi/profile.h>

#ifdef __cplusplus
extern "C" {
#endif

struct hvmi_os;

enum hvmi_os_kind { HVMI_OS_UNKNOWN = 0, HVMI_OS_LINUX = 1, HVMI_OS_WINDOWS = 2 };

/** hvmi_os_options.flags: believe options.profile even if it is of another kernel. */
#define HVMI_OS_FORCE_PROFILE 1u

/**
 * How to attach. Zero it, set size, then what is wanted. What is supplied here wins over what the
 * library knows and finds; nothing need be.
 */
struct hvmi_os_options {
	size_t size;		/**< sizeof(struct hvmi_os_options) */
	uint32_t flags;		/**< HVMI_OS_* */
	uint32_t reserved;
	/**
	 * Windows: a file with the kernel's symbols and types, or NULL: a PDB, an ISF file (JSON, or
	 * that in .xz), or an offsets file; see hvmi-profiles(7). It must be of the kernel that runs.
	 */
	const char *profile;
	/**
	 * Windows: folders, separated by ':', in which a PDB or ISF file of the kernel is looked for,
	 * or NULL. A folder may be a symbol store (NAME.pdb/GUIDAGE/NAME.pdb), hold ISF files as
	 * NAME.pdb/GUID-AGE.json[.xz], or just files of these names.
	 */
	const char *symbol_path;
};

/**
 * Recognise the operating system, from memory and, where there are any, registers. Nothing else is
 * needed.
 * @param options  may be NULL
 * @return -ENOENT: no operating system that is known was found (@p err says what was looked for);
 *         -ENOTSUP: recognised, but too old or built without what is needed;
 *         -EINVAL: options.profile is of another kernel; -EBADMSG: it is no profile
 */
HVMI_API int hvmi_os_attach(struct hvmi_vm *vm, const struct hvmi_os_options *options,
			    struct hvmi_os **ret, struct hvmi_error *err);

/** NULL is allowed. */
HVMI_API void hvmi_os_detach(struct hvmi_os *os);

/** What was recognised. Strings live as long as the handle. */
struct hvmi_os_info {
	size_t size;		/**< sizeof(struct hvmi_os_info) */
	uint32_t kind;		/**< enum hvmi_os_kind */
	uint32_t arch;		/**< enum hvmi_arch */
	uint32_t paging;	/**< enum hvmi_paging of the kernel */
	uint32_t levels;	/**< page-table levels */
	const char *release;	/**< "6.1.0-37-amd64" */
	const char *banner;	/**< the whole build banner */
	uint64_t kernel_gva;	/**< start of the kernel image (Linux: _text) */
	uint64_t kernel_gpa;	/**< the same in guest-physical memory */
	uint64_t kernel_len;	/**< bytes of the image */
	int64_t slide;		/**< KASLR: kernel_gva minus where it was linked */
	int64_t physical_slide;	/**< KASLR: kernel_gpa minus where it was linked to be loaded */
	uint64_t root;		/**< page-table root of the kernel, guest-physical */
};
HVMI_API int hvmi_os_get_info(const struct hvmi_os *os, struct hvmi_os_info *ret);

/** How sure something is. */
enum hvmi_confidence {
	HVMI_CONFIDENCE_UNKNOWN = 0,	/**< not found */
	HVMI_CONFIDENCE_LOW = 1,	/**< inferred */
	HVMI_CONFIDENCE_MEDIUM = 2,	/**< one source, checked for plausibility */
	HVMI_CONFIDENCE_HIGH = 3	/**< independent sources agree */
};

/** One thing that attaching found out. Strings live as long as the handle. */
struct hvmi_fact {
	size_t size;		/**< sizeof(struct hvmi_fact) */
	const char *name;	/**< "release", "slide", "root", "btf", ... */
	const char *value;	/**< printable */
	const char *source;	/**< where it was found and what it was checked with */
	uint32_t confidence;	/**< enum hvmi_confidence */
	uint32_t reserved;
	uint64_t gpa;		/**< where it was found, or HVMI_NO_ADDRESS */
	uint64_t len;		/**< bytes it occupies there, or 0 */
};

/** Fact number @p index, in the order they were found. -ENOENT: no more. */
HVMI_API int hvmi_os_explain(const struct hvmi_os *os, uint32_t index, struct hvmi_fact *ret);

/** Symbols and types of the kernel; lives as long as the handle. */
HVMI_API const struct hvmi_profile *hvmi_os_profile(const struct hvmi_os *os);

/** A new address space of the kernel, to be destroyed by the caller. */
HVMI_API int hvmi_os_kernel_space(const struct hvmi_os *os, struct hvmi_space **ret,
				  struct hvmi_error *err);

/*
 * Lists. Of a machine that stands still (HVMI_VM_STATIC, or HVMI_LIST_PAUSED) they are read as they
 * are asked for. Of one that runs a list is read when its iterator is created, and again while it
 * changes under the reader, for about a second at most:
 * - each entry of a list of tasks is whole, was in the list while it was read, and what was there
 *   all the time is there, once;
 * - a list of modules or regions is that of one moment;
 * - a list that could not be had so ends with -EBUSY (or its creation fails with it), and the entries
 *   that came before are good, but some may be missing;
 * - a name, an owner, ... that changes faster than it can be read is unknown.
 */

/**
 * For every list: pause the machine for the life of the iterator, which then is one thread at a time
 * as hvmi_vm_pause() is. -ENOTSUP: it cannot be paused. The guest stands still meanwhile, and stays
 * so if the program ends without destroying the iterator.
 */
#define HVMI_LIST_PAUSED 65536u

/* Processes and threads. */

/** hvmi_task.flags: a kernel thread. */
#define HVMI_TASK_KERNEL 1u
/** hvmi_task.flags: the leader of its process; its pid is the process's. */
#define HVMI_TASK_LEADER 2u
/** hvmi_task.flags: a 32-bit process on a 64-bit kernel (Windows: WOW64). */
#define HVMI_TASK_32BIT 4u
/** hvmi_task.flags: it has ended, but is still listed. */
#define HVMI_TASK_EXITED 8u

/** Bits of hvmi_task.valid: fields that are known. Others are zero or empty. */
#define HVMI_TASK_HAS_PID 1u
#define HVMI_TASK_HAS_TGID 2u
#define HVMI_TASK_HAS_PPID 4u
#define HVMI_TASK_HAS_UID 8u		/**< uid, gid, euid, egid */
#define HVMI_TASK_HAS_NAME 16u
#define HVMI_TASK_HAS_STATE 32u
#define HVMI_TASK_HAS_START 64u
#define HVMI_TASK_HAS_FLAGS 128u	/**< HVMI_TASK_KERNEL */
#define HVMI_TASK_HAS_ROOT 256u
#define HVMI_TASK_HAS_THREADS 512u
#define HVMI_TASK_HAS_CREATED 1024u
#define HVMI_TASK_HAS_EXITED 2048u		/**< exited_ns; only if it has ended */
#define HVMI_TASK_HAS_EXIT_STATUS 4096u		/**< only if it has ended */
#define HVMI_TASK_HAS_SESSION 8192u
#define HVMI_TASK_HAS_INTEGRITY 16384u
#define HVMI_TASK_HAS_PROTECTION 32768u
#define HVMI_TASK_HAS_PROCESS 65536u
#define HVMI_TASK_HAS_USER_BLOCK 131072u
#define HVMI_TASK_HAS_ENTRY 262144u
#define HVMI_TASK_HAS_STACK 524288u

/** A process, or one thread of it. */
struct hvmi_task {
	size_t size;		/**< sizeof(struct hvmi_task) */
	uint32_t valid;		/**< HVMI_TASK_HAS_* */
	uint32_t flags;		/**< HVMI_TASK_KERNEL ... */
	/** Guest-virtual address. Linux: of its task_struct; Windows: of its _EPROCESS or _ETHREAD. */
	uint64_t object;
	/** Linux: of the thread, as gettid(), in the first pid namespace; Windows: thread id. */
	int32_t pid;
	int32_t tgid;		/**< of the process (Linux: getpid()) */
	int32_t ppid;		/**< of the parent process */
	uint32_t threads;	/**< threads in the process */
	uint32_t uid, gid;	/**< real; in the first user namespace */
	uint32_t euid, egid;	/**< effective */
	/**
	 * The letter that ps shows: R S D T t X Z P I. Windows: of threads R (running, ready,
	 * standby), S (waiting), T (suspended), I (initialised), X (terminated); of processes Z
	 * (ended, but still listed), else unknown.
	 */
	uint32_t state;
	uint32_t reserved;
	uint64_t start_ns;	/**< since the guest booted */
	uint64_t root;		/**< page-table root (Linux: of the kernel half's owner, mm->pgd) */
	char name[64];		/**< Linux: comm, raw bytes; Windows: ImageFileName, of the process */
	uint64_t created_ns;	/**< since 1970-01-01, UTC */
	uint64_t exited_ns;	/**< since 1970-01-01, UTC */
	uint32_t exit_status;	/**< Windows: an NTSTATUS or what the program chose */
	uint32_t session;	/**< Windows: session id */
	uint32_t integrity;	/**< Windows: RID of the mandatory label, 0x2000 medium, 0x3000 high */
	uint32_t protection;	/**< Windows: _PS_PROTECTION: type, audit bit 3, signer << 4 */
	uint64_t process;	/**< Windows: guest-virtual address of the process's _EPROCESS */
	uint64_t user_block;	/**< Windows: PEB of a process, TEB of a thread */
	uint64_t user_block_32;	/**< Windows: PEB of the 32-bit side of a WOW64 process, or 0 */
	uint64_t entry;		/**< Windows: where a thread was started, in user mode if it can */
	uint64_t stack_start;	/**< lowest address of a thread's kernel stack */
	uint64_t stack_end;	/**< behind its highest */
};

struct hvmi_task_iter;

/**
 * hvmi_task_iter_create() flags: every thread, not just the leaders. Windows: threads only, their
 * processes in @ref hvmi_task.process.
 */
#define HVMI_TASKS_THREADS 1u

/**
 * Begin a list of all processes, the idle task left out. Ended ones that are listed are listed.
 * @param flags  HVMI_TASKS_*, HVMI_LIST_*
 */
HVMI_API int hvmi_task_iter_create(struct hvmi_os *os, uint32_t flags,
				   struct hvmi_task_iter **ret, struct hvmi_error *err);

/**
 * The next task: 1, 0 at the end. A list that is damaged is followed from its other end as well
 * and then ends with -EBADMSG; one that goes on too long ends with -EOVERFLOW; one of a running
 * machine that kept changing with -EBUSY. What came before stays good.
 */
HVMI_API int hvmi_task_next(struct hvmi_task_iter *iter, struct hvmi_task *ret,
			    struct hvmi_error *err);
HVMI_API void hvmi_task_iter_destroy(struct hvmi_task_iter *iter);

/*
 * Differences between lists. A watch holds the list that it read last, and reads it again by what
 * changed: of each task that is listed, its links and what tells that it is another or a changed one;
 * all the rest only of those.
 *
 * Read each time are, of Linux: ids, the start, the name, the state, flags, the user and group ids, and
 * the pointers to the parent, the memory (which a new program is given) and what threads share. So what
 * is not noticed is what is overwritten behind such a pointer while it stays: @ref hvmi_task.root, and
 * @ref hvmi_task.ppid of a parent whose id is changed. Of Windows: ids, times, exit, the name, the
 * page-table root, threads, protection, PEB and the pointer to the token; what is overwritten in a
 * token is not noticed. Threads of Windows are read whole each time. HVMI_TASK_WATCH_READ_ALL notices
 * all of it.
 *
 * What came and went, or changed and changed back, between two refreshes is not told: events tell that.
 * @ref hvmi_task.state and @ref hvmi_task.threads are no differences; threads of Linux is as of when the
 * task was read.
 */

/** What became of a task. Append-only. */
enum hvmi_task_change {
	HVMI_TASK_PRESENT = 1,	/**< it was there at the first refresh */
	HVMI_TASK_STARTED = 2,
	HVMI_TASK_ENDED = 3,	/**< it is no longer listed; the task is as it was last */
	HVMI_TASK_CHANGED = 4
};

/** A difference. */
struct hvmi_task_news {
	size_t size;		/**< sizeof(struct hvmi_task_news) */
	uint32_t change;	/**< enum hvmi_task_change */
	/** HVMI_TASK_CHANGED: HVMI_TASK_HAS_* of what is another value, or became known or unknown. */
	uint32_t fields;
};

struct hvmi_task_watch;

/**
 * Make a watch, which reads nothing yet. One thread at a time.
 * @param flags  HVMI_TASKS_THREADS; HVMI_LIST_PAUSED: pause the machine for each refresh
 */
HVMI_API int hvmi_task_watch_create(struct hvmi_os *os, uint32_t flags,
				    struct hvmi_task_watch **ret, struct hvmi_error *err);

/** hvmi_task_watch_refresh() flags: read every task in full. */
#define HVMI_TASK_WATCH_READ_ALL 1u

/**
 * Read the list again; what hvmi_task_watch_next() has not told yet is forgotten.
 * @return as hvmi_task_next() ends: then what could be read is told, and what is missing in it is
 *         kept, and not taken for ended. With any other failure nothing is told, and the next
 *         refresh is compared with the last that was read.
 */
HVMI_API int hvmi_task_watch_refresh(struct hvmi_task_watch *watch, uint32_t flags,
				     struct hvmi_error *err);

/**
 * The next difference between the last two lists, first what ended: 1, or 0 when all were told.
 * @param task_ret  the task, as hvmi_task_next()
 */
HVMI_API int hvmi_task_watch_next(struct hvmi_task_watch *watch, struct hvmi_task_news *ret,
				  struct hvmi_task *task_ret, struct hvmi_error *err);

/** NULL is allowed. */
HVMI_API void hvmi_task_watch_destroy(struct hvmi_task_watch *watch);

/** Find a process or thread by pid. -ENOENT: none; -EBUSY: none in a list that kept changing. */
HVMI_API int hvmi_task_find(struct hvmi_os *os, int32_t pid, struct hvmi_task *ret,
			    struct hvmi_error *err);

/**
 * What a vCPU runs: a process, or with HVMI_TASKS_THREADS a thread. -ENOENT: no such vCPU; -ENOTSUP:
 * its registers do not tell, or not for this operating system.
 */
HVMI_API int hvmi_task_current(struct hvmi_os *os, uint32_t vcpu, uint32_t flags,
			       struct hvmi_task *ret, struct hvmi_error *err);

/** The address space of a task; a kernel thread's is the kernel's. Destroyed by the caller. */
HVMI_API int hvmi_task_space(struct hvmi_os *os, const struct hvmi_task *task,
			     struct hvmi_space **ret, struct hvmi_error *err);

/**
 * The command line of a process: its arguments, each ended by a NUL. Empty for a kernel thread.
 * Windows: one string, as the process was given it, in UTF-8 (see windows.h).
 * @param len_ret  bytes in @p buf
 * @return -EFAULT: (partly) paged out, -EOVERFLOW: longer than @p size; what was read is in @p buf
 *         and *@p len_ret is set. Of a running machine: -ENOENT: the task has ended since it was
 *         listed; -EBUSY: it kept changing
 */
HVMI_API int hvmi_task_arguments(struct hvmi_os *os, const struct hvmi_task *task, char *buf,
				 size_t size, size_t *len_ret, struct hvmi_error *err);

/** The environment of a process as it was started; as hvmi_task_arguments(). */
HVMI_API int hvmi_task_environment(struct hvmi_os *os, const struct hvmi_task *task, char *buf,
				   size_t size, size_t *len_ret, struct hvmi_error *err);

/**
 * The path of the program that a process runs, in UTF-8 for Windows (a device path, such as
 * "\\Device\\HarddiskVolume2\\Windows\\explorer.exe").
 * @param buf  receives a terminated string of at most @p size - 1 bytes
 * @return -ENOENT: it has none; -ENOTSUP: not for this operating system; -EFAULT: not in memory;
 *         -EOVERFLOW: longer than @p size, what fits is in @p buf
 */
HVMI_API int hvmi_task_path(struct hvmi_os *os, const struct hvmi_task *task, char *buf,
			    size_t size, struct hvmi_error *err);

/* Modules of the kernel, and of processes. */

enum hvmi_module_state {
	HVMI_MODULE_UNKNOWN = 0,
	HVMI_MODULE_LIVE = 1,
	HVMI_MODULE_COMING = 2,
	HVMI_MODULE_GOING = 3,
	HVMI_MODULE_UNFORMED = 4
};

/** hvmi_module.flags: of the 32-bit side of a process. */
#define HVMI_MODULE_32BIT 1u

/** A loaded module. */
struct hvmi_module {
	size_t size;		/**< sizeof(struct hvmi_module) */
	/** Guest-virtual address. Linux: its struct module; Windows: its _LDR_DATA_TABLE_ENTRY. */
	uint64_t object;
	uint64_t base;		/**< where its code begins */
	uint64_t bytes;		/**< of all its parts together, as lsmod says */
	uint32_t state;		/**< enum hvmi_module_state */
	uint32_t flags;		/**< HVMI_MODULE_* */
	char name[64];		/**< what fits; "" if it could not be read */
	uint64_t entry;		/**< where it is entered, or 0 (Windows) */
	/** Path of its file, or "" if unknown. Valid until the next call on the iterator. */
	const char *path;
};

struct hvmi_module_iter;
/**
 * Begin a list of the kernel's modules.
 * @param flags  HVMI_LIST_*
 */
HVMI_API int hvmi_module_iter_create(struct hvmi_os *os, uint32_t flags,
				     struct hvmi_module_iter **ret, struct hvmi_error *err);
/**
 * Begin a list of what a process's loader has loaded: its program and libraries, for a WOW64 process
 * the 64-bit ones, then the 32-bit ones. The process itself keeps that list and may lie.
 * @param flags  HVMI_LIST_*
 * @return -ENOTSUP: not for this operating system; -EFAULT: the list is not in memory
 */
HVMI_API int hvmi_module_iter_create_task(struct hvmi_os *os, const struct hvmi_task *task,
					  uint32_t flags, struct hvmi_module_iter **ret,
					  struct hvmi_error *err);
/** As hvmi_task_next(). */
HVMI_API int hvmi_module_next(struct hvmi_module_iter *iter, struct hvmi_module *ret,
			      struct hvmi_error *err);
HVMI_API void hvmi_module_iter_destroy(struct hvmi_module_iter *iter);

/* Memory regions of a process. */

/** hvmi_region.flags: changes are shared with other mappings ('s' in /proc/PID/maps). */
#define HVMI_REGION_SHARED 1u
/** hvmi_region.flags: backed by a file, @ref hvmi_region.offset is meaningful. */
#define HVMI_REGION_FILE 2u
/** hvmi_region.flags: the path could not be read in full. */
#define HVMI_REGION_PATH_PARTIAL 4u
/** hvmi_region.flags: the mapping of a program or library (Windows: SEC_IMAGE). */
#define HVMI_REGION_IMAGE 8u
/** hvmi_region.flags: guarded: the first access raises an exception. */
#define HVMI_REGION_GUARD 16u
/** hvmi_region.flags: private memory (Windows; others are sections). */
#define HVMI_REGION_PRIVATE 32u

/** A region of virtual memory: [start, end). */
struct hvmi_region {
	size_t size;		/**< sizeof(struct hvmi_region) */
	/** Guest-virtual address. Linux: its vm_area_struct; Windows: its _MMVAD_SHORT. */
	uint64_t object;
	uint64_t start;
	uint64_t end;
	uint64_t offset;	/**< bytes into the file */
	uint64_t inode;		/**< of the file, or 0 */
	uint32_t device;	/**< of the file: (major << 20) | minor, or 0 */
	uint32_t rights;	/**< HVMI_RIGHT_READ, _WRITE, _EXECUTE; what was asked for */
	uint32_t flags;		/**< HVMI_REGION_* */
	uint32_t protection;	/**< Windows: PAGE_* as VirtualQuery() gives it; else 0 */
	/**
	 * Path of the file as in the first mount namespace's /proc/PID/maps, raw bytes, or
	 * "[heap]", "[stack]", "[vdso]", "[anon:NAME]" ..., or "". Windows: UTF-8, from the volume's
	 * device on. Valid until the next call on the iterator.
	 */
	const char *path;
};

struct hvmi_region_iter;

/**
 * Begin a list of the regions of a task's address space; none for a kernel thread.
 * @param flags  HVMI_LIST_*
 * @return of a running machine -ENOENT: the task has ended since it was listed
 */
HVMI_API int hvmi_region_iter_create(struct hvmi_os *os, const struct hvmi_task *task,
				     uint32_t flags, struct hvmi_region_iter **ret,
				     struct hvmi_error *err);
/** As hvmi_task_next(), but not followed from its other end; ascending addresses. */
HVMI_API int hvmi_region_next(struct hvmi_region_iter *iter, struct hvmi_region *ret,
			      struct hvmi_error *err);
HVMI_API void hvmi_region_iter_destroy(struct hvmi_region_iter *iter);

#ifdef __cplusplus
}
#endif
#endif
