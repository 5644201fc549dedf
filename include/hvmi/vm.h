/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file vm.h
 * One machine: its guest-physical memory and its vCPUs.
 *
 * Reading memory, mapping it and reading registers of one machine is safe from any number of
 * threads at once. Everything else is one thread at a time per machine. Machines are independent
 * of each other.
 */
#ifndef HVMI_VM_H
#define HVMI_VM_H

#include <hvmi/error.h>
#include <hvmi/registers.h>

#ifdef __cplusplus
extern "C" {
#endif

struct hvmi_vm;
struct hvmi_backend;

/** Levels of log messages. */
enum hvmi_log_level { HVMI_LOG_ERROR = 1, HVMI_LOG_WARNING = 2, HVMI_LOG_INFO = 3, HVMI_LOG_DEBUG = 4 };

/** Receives log messages: printable UTF-8, no newline, valid during the call. */
typedef void (*hvmi_log_fn)(void *context, uint32_t level, const char *message);

/** hvmi_open_options.flags: allow writes to guest memory and registers. */
#define HVMI_OPEN_WRITE 1u

/** How to open a machine. Zero it, set size, then what is wanted. */
struct hvmi_open_options {
	size_t size;		/**< sizeof(struct hvmi_open_options) */
	uint32_t flags;		/**< HVMI_OPEN_* */
	uint32_t reserved;
	hvmi_log_fn log;	/**< may be NULL; called from the thread that calls the library */
	void *log_context;
	/** Use this backend whatever the scheme says, or NULL. Must outlive the machine. */
	const struct hvmi_backend *backend;
	/** Folder of hvmi-backend-SCHEME.so modules, or NULL for the library's own. */
	const char *module_dir;
	/**
	 * Bytes of guest memory that a backend which maps pages (backend.h, map_pages) may have
	 * mapped at once; 0: 256 MiB. What was not used lately goes first; at least 2 MiB may be
	 * mapped, and what hvmi_vm_map() gave stays and counts.
	 */
	uint64_t map_budget;
};

/**
 * Open a machine.
 * @param target  `SCHEME:WHAT[,option=value]...`, a comma in a value or in WHAT is doubled; without
 *                a scheme it is a file: `dump:`. A path that holds a colon is written with `dump:`.
 *                `dump:ram.bin,base=0x40000000`, `/tmp/guest.elf`.
 * @param options may be NULL
 * @return -EINVAL the target makes no sense, -ENOENT no such scheme, file or machine, -EACCES,
 *         -EBADMSG not a format that is known, or what the backend says.
 */
HVMI_API int hvmi_open(const char *target, const struct hvmi_open_options *options,
		       struct hvmi_vm **ret, struct hvmi_error *err);

/** Close a machine. Every space, OS and mapping of it must be gone. NULL is allowed. */
HVMI_API void hvmi_close(struct hvmi_vm *vm);

/** Processor architectures. */
enum hvmi_arch { HVMI_ARCH_UNKNOWN = 0, HVMI_ARCH_X86 = 1, HVMI_ARCH_ARM64 = 2 };

/** hvmi_vm_info.flags: nothing changes the memory: a file, or a machine that stays paused. */
#define HVMI_VM_STATIC 1u
/** hvmi_vm_info.flags: guest memory, some of it at least, can be mapped without copying. */
#define HVMI_VM_MAPPED 2u
/** hvmi_vm_info.flags: opened for writing and the backend can write. */
#define HVMI_VM_WRITABLE 4u

/** What a machine is. */
struct hvmi_vm_info {
	size_t size;		/**< sizeof(struct hvmi_vm_info) */
	uint32_t arch;		/**< enum hvmi_arch; UNKNOWN: nobody said, x86 is assumed */
	uint32_t flags;		/**< HVMI_VM_* */
	uint32_t vcpus;		/**< vCPUs whose registers can be read; 0 in a plain memory image */
	uint32_t ranges;	/**< number of RAM ranges */
	uint64_t ram;		/**< bytes in all RAM ranges */
	uint64_t max_gpa;	/**< the highest guest-physical address that is RAM */
	char scheme[16];	/**< "dump" */
	char format[48];	/**< what the backend met: "raw", "ELF core (QEMU)" ... */
};
HVMI_API int hvmi_vm_get_info(const struct hvmi_vm *vm, struct hvmi_vm_info *ret);

/** A range of guest-physical addresses: [gpa, gpa + len). */
struct hvmi_range {
	uint64_t gpa;
	uint64_t len;		/**< bytes, never 0, gpa + len never wraps */
};

/** RAM range number @p index, ascending and disjoint. -ENOENT: no such index. Any thread. */
HVMI_API int hvmi_vm_range(const struct hvmi_vm *vm, uint32_t index, struct hvmi_range *ret);

/**
 * The first stretch at or above @p gpa that may hold something other than zeros; what lies before
 * it is a hole, or RAM of zeros that was never written. For searches.
 * -ENOENT: nothing any more. Any thread.
 */
HVMI_API int hvmi_vm_next_data(const struct hvmi_vm *vm, uint64_t gpa, struct hvmi_range *ret);

/**
 * Read guest-physical memory. Any thread.
 * @param done_ret  bytes that were read, from the start, also on failure; may be NULL
 * @return -EFAULT: gpa + *done_ret is no RAM or is absent from the image. -EIO: the file was cut
 *         short or its medium failed.
 */
HVMI_API int hvmi_vm_read(struct hvmi_vm *vm, uint64_t gpa, void *buf, size_t len,
			  size_t *done_ret);

/** Write guest-physical memory; as hvmi_vm_read(). -EACCES: not opened for writing. */
HVMI_API int hvmi_vm_write(struct hvmi_vm *vm, uint64_t gpa, const void *buf, size_t len,
			   size_t *done_ret);

/**
 * A pointer to guest-physical memory, without copying. Read only, valid until hvmi_vm_unmap();
 * the guest may change it at any time, so copy before you judge. Any thread.
 * Map what is needed, give it back soon: where a backend maps piecemeal (a live machine), what is out
 * counts towards hvmi_open_options.map_budget, and shows the pages that were there when it was
 * mapped, whatever the guest puts in their place.
 * @return -EFAULT: not one stretch of RAM, or a page of it is absent. -ENOTSUP: this backend copies
 * (see HVMI_VM_MAPPED), or it maps piecemeal and the stretch crosses a multiple of 2 MiB: read it.
 * -EBUSY: what others hold fills the budget: read it.
 * A file that is cut short while it is mapped reads as zeros; hvmi_vm_lost() then tells.
 */
HVMI_API int hvmi_vm_map(struct hvmi_vm *vm, uint64_t gpa, size_t len, const void **ret);

/** Give back what hvmi_vm_map() or hvmi_space_map() gave, with the same length. Any thread. */
HVMI_API void hvmi_vm_unmap(struct hvmi_vm *vm, const void *mapping, size_t len);

/** 1 if memory vanished under a mapping (a file cut short) since it was opened, else 0. */
HVMI_API int hvmi_vm_lost(const struct hvmi_vm *vm);

/**
 * A note that came with the machine, such as the guest's VMCOREINFO in a crash dump.
 * @param name  "VMCOREINFO"; "WINDOWS-DUMP": lines NAME=VALUE of what a crash dump's header says:
 *              KdDebuggerDataBlock, PsLoadedModuleList, PsActiveProcessHead (guest-virtual),
 *              DirectoryTableBase, MinorVersion (the build), BugCheckCode ...
 * @param len_ret  the note's whole length, also when @p size is too small (-EOVERFLOW)
 * @return -ENOENT: there is none
 */
HVMI_API int hvmi_vm_note(struct hvmi_vm *vm, const char *name, void *buf, size_t size,
			  size_t *len_ret);

/** Read a register. -ENOENT: no such vCPU; -ENOTSUP: the machine does not tell this one. */
HVMI_API int hvmi_vm_register(struct hvmi_vm *vm, uint32_t vcpu, uint32_t id, uint64_t *ret);

/** Set a register. -EACCES: not opened for writing; else as hvmi_vm_register(). */
HVMI_API int hvmi_vm_set_register(struct hvmi_vm *vm, uint32_t vcpu, uint32_t id, uint64_t value);

/**
 * Read all registers that the machine tells, of one moment. Cheaper than one by one.
 * As hvmi_vm_register(); -ENOTSUP: it tells none.
 */
HVMI_API int hvmi_vm_get_registers(struct hvmi_vm *vm, uint32_t vcpu, struct hvmi_registers *ret,
				   struct hvmi_error *err);

/**
 * Set those registers that are known in @p values; the machine should be paused. All or none.
 * -ENOTSUP: one of them cannot be set.
 */
HVMI_API int hvmi_vm_set_registers(struct hvmi_vm *vm, uint32_t vcpu,
				   const struct hvmi_registers *values, struct hvmi_error *err);

/** Pause the machine; counted. Returns once no vCPU is running. No effect on a static machine. */
HVMI_API int hvmi_vm_pause(struct hvmi_vm *vm, struct hvmi_error *err);

/** Undo one hvmi_vm_pause(). -EINVAL: it was not paused by this handle. */
HVMI_API int hvmi_vm_resume(struct hvmi_vm *vm, struct hvmi_error *err);

#ifdef __cplusplus
}
#endif
#endif
