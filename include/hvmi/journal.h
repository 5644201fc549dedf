/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file journal.h
 * Bytes placed in a guest, and the undo journal that outlives who placed them.
 *
 * A journal is a file, one for each machine, in a folder that the caller names. Everything that is
 * going to be placed in the guest is written to it first, so whatever happens to the program, the next
 * one can put the guest right: hvmi_recover(), hvmi_journal_open() with HVMI_JOURNAL_RECOVER, or the
 * tool hvmi-recover(1). It is written for the end of a process, SIGKILL included; it is not forced to
 * the disk, because no guest outlives its host.
 *
 * The file says of which machine it is, and of which life of it, as far as the backend and the page
 * fault handler of its first vCPU tell. It is locked while the journal is open. A journal is used by one
 * thread at a time, the one that uses the machine, and must be closed before it.
 */
#ifndef HVMI_JOURNAL_H
#define HVMI_JOURNAL_H

#include <hvmi/os.h>

#ifdef __cplusplus
extern "C" {
#endif

struct hvmi_journal;

/** hvmi_journal_open() flags: if a program was killed, do as hvmi_recover() first. */
#define HVMI_JOURNAL_RECOVER 1u
/**
 * hvmi_journal_open() flags: throw away what an earlier journal says, be it of another life of the
 * machine or damaged. What it speaks of stays in the guest.
 */
#define HVMI_JOURNAL_DISCARD 2u

/**
 * Open the journal of a machine, and make it if there is none.
 * @param directory  a folder, no symbolic link, that belongs to us or root and that nobody else may
 *                   write to
 * @param flags      HVMI_JOURNAL_*
 * @return -EACCES: the machine was opened for reading only, or the folder or file is open to others;
 *         -EBUSY: another program has it open, or was killed and left traces: recover;
 *         -EBADMSG: it is of another machine or life of it, or damaged; -ENOENT: no such folder;
 *         -EIO: it cannot be written
 */
HVMI_API int hvmi_journal_open(struct hvmi_vm *vm, const char *directory, uint32_t flags,
			       struct hvmi_journal **ret, struct hvmi_error *err);

/**
 * Close it. The file goes if nothing of it is in the guest any more; else it stays, as after a kill.
 * NULL is allowed.
 */
HVMI_API void hvmi_journal_close(struct hvmi_journal *journal);

/** Bytes of a patch at most. */
#define HVMI_PATCH_BYTES 4096u
/** Patches that a journal has at most at a time. */
#define HVMI_PATCHES_MAX 1048576u

/**
 * hvmi_patch.flags: what is placed is code to which vCPUs go and return: it is only taken away when no
 * vCPU and no thread is in it. Needs @ref hvmi_patch.gva.
 */
#define HVMI_PATCH_CODE 1u

/** Bytes to be placed. Zero it, set size, then the rest. */
struct hvmi_patch {
	size_t size;		/**< sizeof(struct hvmi_patch) */
	uint64_t gpa;		/**< they lie in one page: gpa % 4096 + len <= 4096 */
	uint64_t gva;		/**< where the guest runs them, or HVMI_NO_ADDRESS */
	const void *bytes;
	uint32_t len;		/**< 1 to HVMI_PATCH_BYTES */
	uint32_t flags;		/**< HVMI_PATCH_* */
	/** What to call it from now on; set by hvmi_patch_place(). */
	uint64_t id;
};

/**
 * Write bytes into a guest, after what was there has been noted in the journal. The machine should be
 * paused, and no vCPU be in the middle of them.
 * @return -EFAULT: no RAM is there; -EOVERFLOW: HVMI_PATCHES_MAX; -EIO: the journal cannot be written;
 *         else as hvmi_vm_write(). Then nothing was placed.
 */
HVMI_API int hvmi_patch_place(struct hvmi_journal *journal, struct hvmi_patch *patch,
			      struct hvmi_error *err);

/**
 * Write back what was there before, if what was placed still is. Patches that overlap are undone in
 * the opposite order.
 * @return -EBADMSG: the guest has other bytes there now, which are left alone, and the patch is
 *         forgotten; -ENOENT: no such patch; else as hvmi_vm_write(), and it is as it was
 */
HVMI_API int hvmi_patch_undo(struct hvmi_journal *journal, uint64_t id, struct hvmi_error *err);

/** hvmi_recovered.flags: the machine stood still on the dead program's account, and runs again. */
#define HVMI_RECOVERED_RESUMED 1u
/** hvmi_recovered.flags: the end of the journal is no record. One that was being written is normal. */
#define HVMI_RECOVERED_TORN 2u

/** What a recovery found and did, in patches. */
struct hvmi_recovered {
	size_t size;		/**< sizeof(struct hvmi_recovered) */
	uint32_t flags;		/**< HVMI_RECOVERED_* */
	uint32_t restored;	/**< bytes were put back */
	uint32_t absent;	/**< what was there before is there */
	uint32_t changed;	/**< the guest has other bytes there, which were left alone */
	uint32_t waiting;	/**< left where they are: a vCPU or thread may still run them */
	uint32_t failed;	/**< could not be written */
	uint32_t pid;		/**< of the program that left them */
	uint32_t reserved;
};

/**
 * Put a guest right whose program was killed: its events end, its patches are undone, last first, and
 * if it had paused the machine that goes on. The machine is paused meanwhile.
 * @param os   of this machine, to look at threads where HVMI_PATCH_CODE wants it; NULL: such patches
 *             wait
 * @param ret  also set on -EBUSY; may be NULL
 * @return 0: nothing is left but what @p ret says was changed, and the file is gone; -ENOENT: there is
 *         no journal of this machine; -EBUSY: its program runs, or some patches wait or failed, and the
 *         journal is kept: call again after a while; else as hvmi_journal_open()
 */
HVMI_API int hvmi_recover(struct hvmi_vm *vm, const char *directory, struct hvmi_os *os,
			  struct hvmi_recovered *ret, struct hvmi_error *err);

#ifdef __cplusplus
}
#endif
#endif
