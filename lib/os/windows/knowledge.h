/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is known of a Windows kernel's symbols and structures, from whatever source has it:
 * the user's profile, the user's symbol path, the built-in tables by PDB id, those by release.
 */
#ifndef HVMI_LIB_WINDOWS_KNOWLEDGE_H
#define HVMI_LIB_WINDOWS_KNOWLEDGE_H

#include "os/os.h"

/* IMAGE_FILE_HEADER.Machine. */
#define WINDOWS_MACHINE_X86 0x14cu
#define WINDOWS_MACHINE_X64 0x8664u
#define WINDOWS_MACHINE_ARM64 0xaa64u

/* What tells a kernel from all others. Zero what is unknown. */
struct windows_kernel_id {
	char pdb_name[64];	/* "ntkrnlmp.pdb", as the image says; "": unknown */
	uint8_t guid[16];	/* bytes of the CodeView record; meaningful if pdb_name is there */
	uint32_t age;
	uint16_t machine;	/* WINDOWS_MACHINE_* */
	uint16_t major, minor;	/* 10, 0 */
	uint32_t build;		/* 17763: NtBuildNumber without its flags */
	uint32_t revision;	/* 107 of 10.0.17763.107 */
	uint64_t base;		/* guest-virtual address of the image: symbols are slid by it */
};

/* Where types or symbols came from; the better the higher. */
enum windows_source {
	WINDOWS_SOURCE_NONE = 0,
	WINDOWS_SOURCE_NEAREST,		/* built in, of another build: check what it says */
	WINDOWS_SOURCE_RELEASE,		/* built in, of this build, perhaps of another revision */
	WINDOWS_SOURCE_PDB_ID,		/* built in, of this very kernel */
	WINDOWS_SOURCE_PATH,		/* a file on the user's symbol path, of this very kernel */
	WINDOWS_SOURCE_PROFILE		/* the user's profile */
};

struct windows_knowledge {
	enum windows_source types, symbols;
	char release[24];		/* of the built-in layout that was taken, "10.0.17763.107"; or "" */
};

/*
 * Fill os->profile (types, symbols, pointer_bytes), freeze it, and say with os_fact() where all
 * came from ("types", "symbols"). os->options holds what the user supplied. A kernel of which
 * nothing is known is no error: *ret says so. What is missing can be added later with
 * windows_knowledge_symbol().
 * Errors are the user's files' alone: -ENOENT, -EACCES, -EBADMSG (not a profile), -EINVAL (a profile
 * of another kernel, without HVMI_OS_FORCE_PROFILE); or -ENOMEM.
 */
int windows_knowledge_load(struct hvmi_os *os, const struct windows_kernel_id *id,
			   struct windows_knowledge *ret, struct hvmi_error *err);

/* "339E74133576439CBCDF7E0229DA37731", as symbol stores name folders. */
#define WINDOWS_PDB_KEY_BYTES 41u
void windows_pdb_key(const uint8_t guid[16], uint32_t age, char ret[WINDOWS_PDB_KEY_BYTES]);

/*
 * Add a symbol that was found otherwise (from the kernel's exports, KDBG, registers ...), unless
 * it is there already; symbols_freeze() anew after the last one. -EOVERFLOW, -ENOMEM.
 */
int windows_knowledge_symbol(struct hvmi_os *os, const char *name, uint64_t gva);

#endif
