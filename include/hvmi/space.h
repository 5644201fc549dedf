/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file space.h
 * An address space: a page-table root and a paging mode.
 *
 * Translation follows the Intel SDM volume 3 (2023-06), chapter 4 "Paging", and the AMD APM
 * volume 2, chapter 5. A space is cheap to make and is used by one thread at a time; make one for
 * each thread. It must go before its machine.
 *
 * A space remembers some thousands of translations. They are never stale: with each is kept what it
 * was made from, and after every copy that is compared with what the page tables hold now; where it
 * differs the copy is made again. So what was read was mapped there at one moment of the call, also
 * while the guest runs. (Only a guest that takes a page away and puts the very same entry back within
 * one copy is not noticed.) Nothing has to be flushed.
 */
#ifndef HVMI_SPACE_H
#define HVMI_SPACE_H

#include <hvmi/vm.h>

#ifdef __cplusplus
extern "C" {
#endif

struct hvmi_space;

/** How linear addresses are translated. */
enum hvmi_paging {
	HVMI_PAGING_NONE = 0,		/**< CR0.PG clear: 32-bit linear = physical */
	HVMI_PAGING_X86_32 = 1,		/**< 2 levels, 4 KiB and (with PSE) 4 MiB pages, PSE-36 */
	HVMI_PAGING_X86_PAE = 2,	/**< 3 levels, 4 KiB and 2 MiB */
	HVMI_PAGING_X86_4LEVEL = 3,	/**< 48-bit, 4 KiB, 2 MiB, 1 GiB */
	HVMI_PAGING_X86_5LEVEL = 4,	/**< LA57: 57-bit, 4 KiB, 2 MiB, 1 GiB */
	/**
	 * VMSAv8-64, granule of 4 KiB, 48 bits in 4 levels, of an arm64 machine. One root for both
	 * halves of the space, as Windows has it: TTBR1_EL1 is 2 KiB behind TTBR0_EL1.
	 */
	HVMI_PAGING_ARM64 = 5
};

/** hvmi_space_config.flags: CR4.PSE, 4 MiB pages in HVMI_PAGING_X86_32. */
#define HVMI_SPACE_PSE 1u
/** hvmi_space_config.flags: EFER.NXE; without it bit 63 of an entry is reserved. */
#define HVMI_SPACE_NX 2u

/**
 * hvmi_space_config.flags: remember no translations. For a space that is used for little: it takes
 * less memory, and is as true.
 */
#define HVMI_SPACE_UNCACHED 4u
/**
 * hvmi_space_config.flags: entries that are not present are those of Windows: pages in transition
 * and behind prototype PTEs, which are in memory, are translated too. Spaces of a Windows guest have it.
 */
#define HVMI_SPACE_WINDOWS 8u

/** What makes an address space. Zero it, set size, then the rest. */
struct hvmi_space_config {
	size_t size;		/**< sizeof(struct hvmi_space_config) */
	uint64_t root;		/**< CR3; its flag and PCID bits are ignored */
	uint32_t paging;	/**< enum hvmi_paging */
	uint32_t flags;		/**< HVMI_SPACE_* */
	uint32_t physical_bits;	/**< MAXPHYADDR, 32 to 52; 0: 52. PSE-36 reaches 40 at most */
	uint32_t reserved;
};

/** Make an address space. -EINVAL: the configuration makes no sense. */
HVMI_API int hvmi_space_create(struct hvmi_vm *vm, const struct hvmi_space_config *config,
			       struct hvmi_space **ret, struct hvmi_error *err);

/** Make the address space that a vCPU runs in now. -ENOTSUP: its control registers are unknown. */
HVMI_API int hvmi_space_create_vcpu(struct hvmi_vm *vm, uint32_t vcpu, struct hvmi_space **ret,
				    struct hvmi_error *err);

/** NULL is allowed. */
HVMI_API void hvmi_space_destroy(struct hvmi_space *space);

/** The configuration that it was made with. */
HVMI_API int hvmi_space_get_config(const struct hvmi_space *space, struct hvmi_space_config *ret);

/** The machine it belongs to. */
HVMI_API struct hvmi_vm *hvmi_space_vm(const struct hvmi_space *space);

/** Rights of a page, as the CPU combines them over all levels. */
#define HVMI_RIGHT_READ 1u
#define HVMI_RIGHT_WRITE 2u	/**< for supervisor writes CR0.WP decides too */
#define HVMI_RIGHT_EXECUTE 4u
#define HVMI_RIGHT_USER 8u	/**< from CPL 3; SMEP, SMAP and protection keys not considered */

/** What stops a translation. */
enum hvmi_fault {
	HVMI_FAULT_NONE = 0,
	HVMI_FAULT_NON_CANONICAL = 1,	/**< the address is not one of this paging mode */
	HVMI_FAULT_NOT_PRESENT = 2,	/**< entries[entry_count - 1] is not present */
	HVMI_FAULT_RESERVED = 3,	/**< entries[entry_count - 1] has a reserved bit set */
	HVMI_FAULT_NO_MEMORY = 4,	/**< the last entry is where no RAM is; its value is 0 */
	/* With HVMI_SPACE_WINDOWS: what is not present is ... */
	HVMI_FAULT_PAGE_FILE = 5,	/**< ... in a page file */
	HVMI_FAULT_FILE = 6,		/**< ... a part of a file that is not in memory */
	HVMI_FAULT_ZERO = 7		/**< ... without memory yet: a program would read zeros */
};

/** One paging-structure entry that a translation used. */
struct hvmi_walk_entry {
	uint64_t gpa;
	uint64_t value;
	uint32_t level;		/**< 5: PML5E, 4: PML4E, 3: PDPTE, 2: PDE, 1: PTE, 0: prototype PTE */
	uint32_t reserved;
};

/** A translation in full. */
struct hvmi_walk {
	size_t size;		/**< sizeof(struct hvmi_walk) */
	uint64_t gva;
	uint64_t gpa;		/**< HVMI_NO_ADDRESS on a fault */
	uint64_t page_size;	/**< bytes; 0 on a fault */
	uint32_t rights;	/**< HVMI_RIGHT_*; 0 on a fault */
	uint32_t fault;		/**< enum hvmi_fault */
	uint32_t fault_level;	/**< level of the entry that stopped it, 0 if none did */
	uint32_t entry_count;
	struct hvmi_walk_entry entries[5];
};

/**
 * Translate and tell everything.
 * @param ret  written also when the result is -EFAULT, where it describes the fault
 * @return -EFAULT: the translation faults (ret->fault, and @p err says level and entry); -EIO,
 *         -ESRCH: a table could not be read for no fault of the guest's
 */
HVMI_API int hvmi_space_walk(struct hvmi_space *space, uint64_t gva, struct hvmi_walk *ret,
			     struct hvmi_error *err);

/**
 * Translate one address. -EFAULT: it is not mapped; else as hvmi_space_walk(). The answer is of one
 * moment; a running guest may change it at once.
 */
HVMI_API int hvmi_space_translate(struct hvmi_space *space, uint64_t gva, uint64_t *gpa_ret);

/** A run of mapped memory: equal rights, contiguous in both address spaces, as long as it goes. */
struct hvmi_mapping {
	size_t size;		/**< sizeof(struct hvmi_mapping) */
	uint64_t gva;
	uint64_t gpa;
	uint64_t len;		/**< bytes, never 0 */
	uint32_t rights;	/**< HVMI_RIGHT_* */
	uint32_t reserved;
};

/** Entries that one hvmi_space_next_mapping() examines at most. */
#define HVMI_SPACE_STEP_BUDGET 16777216u

/**
 * The first run of mapped memory at or above *@p cursor (0 at first; it is moved behind the run, or
 * to UINT64_MAX, which ends the space). Costs time in proportion to what is mapped. A run that
 * starts below *@p cursor is given from *@p cursor on. Mapped means translated, to RAM or not.
 * @param last  the highest address of interest, inclusive
 * @return 1: *@p ret is a run; 0: no more; -EOVERFLOW: HVMI_SPACE_STEP_BUDGET entries were examined
 *         without an answer (page tables that refer to themselves do that); -EIO, -ESRCH: a table
 *         could not be read for no fault of the guest's. On both *@p cursor moved on, so calling
 *         again goes on from there. A run is given in parts if the budget ends within it.
 */
HVMI_API int hvmi_space_next_mapping(struct hvmi_space *space, uint64_t *cursor, uint64_t last,
				     struct hvmi_mapping *ret);

/**
 * Read virtual memory, across pages.
 * @param buf       what lies behind *@p done_ret bytes in it after a failure means nothing
 * @param done_ret  bytes that were read, from the start, also on failure; may be NULL
 * @return -EFAULT: gva + *done_ret is not mapped, or mapped to where no RAM is; else as
 *         hvmi_vm_read(). -EBUSY: the guest changed this translation a hundred times meanwhile.
 */
HVMI_API int hvmi_space_read(struct hvmi_space *space, uint64_t gva, void *buf, size_t len,
			     size_t *done_ret);

/**
 * Write virtual memory, whatever its rights; as hvmi_space_read() and hvmi_vm_write(). What a running
 * guest does to the translation while it is written cannot be undone: pause it.
 */
HVMI_API int hvmi_space_write(struct hvmi_space *space, uint64_t gva, const void *buf, size_t len,
			      size_t *done_ret);

/** One piece of many that are read or written at once. Never grows. */
struct hvmi_io {
	struct hvmi_space *space;	/**< NULL: @ref address is guest-physical */
	uint64_t address;
	void *buf;
	size_t len;
	size_t done;		/**< bytes that were read or written, from the start, also on failure */
	int32_t status;		/**< 0, or what the single call would have said */
	uint32_t reserved;
};

/**
 * Read many pieces, of any spaces of one machine. As one hvmi_space_read() or hvmi_vm_read() for each,
 * and each as true, but the waits for memory overlap, and where each access is a call to somewhere
 * else near ones are read in one. The spaces are in use meanwhile. No order; buffers that overlap hold
 * one or the other.
 * @return 0: all of every piece; else the status of the first piece that has one. -EINVAL of a piece:
 *         its space belongs to another machine.
 */
HVMI_API int hvmi_read_v(struct hvmi_vm *vm, struct hvmi_io *items, size_t count);

/** Write many pieces, one after the other; as hvmi_read_v() and hvmi_space_write(). */
HVMI_API int hvmi_write_v(struct hvmi_vm *vm, struct hvmi_io *items, size_t count);

/**
 * Read a C string: up to the first NUL, at most @p size - 1 bytes; @p buf is always terminated.
 * @param size     of @p buf, not 0
 * @param len_ret  length of what is in @p buf, also on failure; may be NULL
 * @return -EFAULT: unmapped before its end (what could be read is in @p buf); -EOVERFLOW: no NUL in
 *         @p size bytes (all but the last are in @p buf); else as hvmi_space_read().
 */
HVMI_API int hvmi_space_read_string(struct hvmi_space *space, uint64_t gva, char *buf, size_t size,
				    size_t *len_ret);

/**
 * A pointer to virtual memory, without copying; as hvmi_vm_map(), given back by hvmi_vm_unmap().
 * -ENOTSUP also where the pages are not contiguous in guest-physical memory.
 */
HVMI_API int hvmi_space_map(struct hvmi_space *space, uint64_t gva, size_t len, const void **ret);

#ifdef __cplusplus
}
#endif
#endif
