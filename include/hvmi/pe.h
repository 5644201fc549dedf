/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file pe.h
 * Programs, libraries and drivers of Windows as they are mapped in guest memory: PE and PE32+.
 *
 * Format: "PE Format" of Microsoft's documentation (2023). What is read is what the guest has there
 * now; pages that are absent cost what is on them and no more. A handle is used by one thread at a
 * time, like its space, which must outlive it. Texts are raw bytes of the guest.
 */
#ifndef HVMI_PE_H
#define HVMI_PE_H

#include <hvmi/space.h>

#ifdef __cplusplus
extern "C" {
#endif

struct hvmi_pe;

/**
 * Open the image whose first byte is mapped at @p base.
 * @return -EFAULT: its headers are not in memory; -EBADMSG: there is no such image
 */
HVMI_API int hvmi_pe_open(struct hvmi_space *space, uint64_t base, struct hvmi_pe **ret,
			  struct hvmi_error *err);

/** NULL is allowed. */
HVMI_API void hvmi_pe_close(struct hvmi_pe *pe);

/** What the headers say. */
struct hvmi_pe_info {
	size_t size;		/**< sizeof(struct hvmi_pe_info) */
	uint64_t base;		/**< where it is mapped */
	uint64_t preferred_base;	/**< where its headers say; loaders set it to base */
	uint64_t bytes;		/**< of the whole image in memory */
	uint64_t entry;		/**< guest-virtual, HVMI_NO_ADDRESS: none */
	uint32_t machine;	/**< IMAGE_FILE_MACHINE_*: 0x14c x86, 0x8664 x64, 0xaa64 arm64 */
	uint32_t characteristics;	/**< IMAGE_FILE_*; 0x2000: a DLL */
	uint32_t subsystem;	/**< IMAGE_SUBSYSTEM_*; 1: native */
	uint32_t timestamp;	/**< of the link, or a hash of it */
	uint32_t checksum;
	uint32_t sections;
	uint32_t pointer_bytes;	/**< 4 or 8 */
	uint32_t reserved;
};
HVMI_API int hvmi_pe_get_info(const struct hvmi_pe *pe, struct hvmi_pe_info *ret);

/** A section. */
struct hvmi_pe_section {
	size_t size;		/**< sizeof(struct hvmi_pe_section) */
	uint64_t gva;
	uint64_t bytes;		/**< in memory */
	uint32_t characteristics;	/**< IMAGE_SCN_* */
	uint32_t rights;	/**< HVMI_RIGHT_* that follow from them */
	char name[9];
	char reserved[7];
};
/** Section number @p index. -ENOENT: no more; -EFAULT: its header is not in memory. */
HVMI_API int hvmi_pe_section(const struct hvmi_pe *pe, uint32_t index,
			     struct hvmi_pe_section *ret);

/** hvmi_pe_export.flags: it stands for one of another module, see forward. */
#define HVMI_PE_FORWARDED 1u
/** hvmi_pe_export.flags, hvmi_pe_import.flags: it has a name, which is not in memory. */
#define HVMI_PE_NAME_MISSING 2u
/** hvmi_pe_export.flags, hvmi_pe_import.flags: where it is, is not in memory. */
#define HVMI_PE_PLACE_MISSING 4u

/** An export. Texts are valid until the next call on the handle. */
struct hvmi_pe_export {
	size_t size;		/**< sizeof(struct hvmi_pe_export) */
	const char *name;	/**< "" if it has none */
	const char *forward;	/**< "NTDLL.RtlAllocateHeap", or "" */
	uint64_t gva;		/**< HVMI_NO_ADDRESS if forwarded or unknown */
	uint32_t ordinal;
	uint32_t flags;		/**< HVMI_PE_* */
};
/**
 * The next export, those with names first, in the order of the table; *@p cursor is 0 at first.
 * @return 1, or 0: no more; -EFAULT: the directory is not in memory; -EBADMSG: it makes no sense
 */
HVMI_API int hvmi_pe_next_export(struct hvmi_pe *pe, uint32_t *cursor, struct hvmi_pe_export *ret,
				 struct hvmi_error *err);
/** An export by name. -ENOENT: none, or its name is not in memory; else as above. */
HVMI_API int hvmi_pe_find_export(struct hvmi_pe *pe, const char *name, struct hvmi_pe_export *ret,
				 struct hvmi_error *err);
/** An export by ordinal. */
HVMI_API int hvmi_pe_find_ordinal(struct hvmi_pe *pe, uint32_t ordinal, struct hvmi_pe_export *ret,
				  struct hvmi_error *err);

/** An import. Texts are valid until the next call on the handle. */
struct hvmi_pe_import {
	size_t size;		/**< sizeof(struct hvmi_pe_import) */
	const char *module;	/**< "KERNEL32.dll", "" if it is not in memory */
	const char *name;	/**< "" if it is imported by ordinal */
	uint64_t slot;		/**< guest-virtual address of its entry in the import address table */
	uint64_t target;	/**< what is in the entry now, HVMI_NO_ADDRESS: not in memory */
	uint32_t ordinal;	/**< if it is imported by ordinal */
	uint32_t hint;
	uint32_t flags;		/**< HVMI_PE_NAME_MISSING, HVMI_PE_PLACE_MISSING */
	uint32_t reserved;
};
/**
 * The next import, module by module; *@p cursor is 0 at first.
 * @return 1, or 0: no more; -EFAULT: the directory is not in memory; -EBADMSG: it makes no sense
 */
HVMI_API int hvmi_pe_next_import(struct hvmi_pe *pe, uint64_t *cursor, struct hvmi_pe_import *ret,
				 struct hvmi_error *err);

/** Which program database belongs to an image. */
struct hvmi_pe_debug {
	size_t size;		/**< sizeof(struct hvmi_pe_debug) */
	uint32_t age;
	uint8_t guid[16];	/**< as the bytes lie in memory */
	char key[44];		/**< GUID and age as symbol stores name them */
	char name[260];		/**< of the file, often with a path: raw bytes */
};
/** -ENOENT: it names none; -EFAULT: that is not in memory. */
HVMI_API int hvmi_pe_debug(struct hvmi_pe *pe, struct hvmi_pe_debug *ret, struct hvmi_error *err);

/** Versions of the version resource, the most significant part first: 10.0.17763.379. */
struct hvmi_pe_version {
	size_t size;		/**< sizeof(struct hvmi_pe_version) */
	uint32_t file[4];
	uint32_t product[4];
};
/** -ENOENT: it has none; -EFAULT: that is not in memory (drivers discard it). */
HVMI_API int hvmi_pe_version(struct hvmi_pe *pe, struct hvmi_pe_version *ret,
			     struct hvmi_error *err);

/** A function of an x64 image and how its frame is undone: "x64 exception handling" (2023). */
struct hvmi_pe_function {
	size_t size;		/**< sizeof(struct hvmi_pe_function) */
	uint64_t start;
	uint64_t end;
	uint64_t unwind;	/**< guest-virtual address of its UNWIND_INFO */
	uint64_t chained;	/**< start of the function that it is a part of, or HVMI_NO_ADDRESS */
	uint64_t handler;	/**< of exceptions, or HVMI_NO_ADDRESS */
	uint32_t flags;		/**< UNW_FLAG_* */
	uint32_t prolog_bytes;
	uint32_t frame_register;	/**< 0: none */
	uint32_t frame_offset;	/**< bytes from the stack pointer to where that points */
	uint32_t code_count;
	uint16_t codes[255];	/**< UNWIND_CODE, the low byte is the offset in the prolog */
	uint16_t reserved;
};
/**
 * The function that an address is in, by the exception directory. -ENOENT: none (a leaf function has
 * none); -ENOTSUP: the image is not x64; -EFAULT: that is not in memory; -EBADMSG.
 */
HVMI_API int hvmi_pe_function(struct hvmi_pe *pe, uint64_t gva, struct hvmi_pe_function *ret,
			      struct hvmi_error *err);

#ifdef __cplusplus
}
#endif
#endif
