/* SPDX-License-Identifier: Apache-2.0 */
/* Finding the kernel of a Windows guest: from registers, or from physical memory alone. */
#ifndef HVMI_LIB_WINDOWS_FIND_H
#define HVMI_LIB_WINDOWS_FIND_H

#include "os/windows/image.h"
#include "vm/vm.h"

/* A kernel and page tables that map all of it. */
struct windows_found {
	struct hvmi_space_config config;
	struct windows_image image;
	uint64_t image_gpa;
	char how[128];
	uint64_t at;		/* guest-physical address of what led to the root, or HVMI_NO_ADDRESS */
	uint64_t shadow_root;	/* a KVA-shadow root that a vCPU was in, or HVMI_NO_ADDRESS */
};

/*
 * KUSER_SHARED_DATA: one page at one address in all releases, with what the kernel says of itself.
 * Fields and offsets: ntddk.h of the Windows SDK.
 */
struct windows_shared {
	uint64_t gva, gpa;
	uint32_t major, minor;
	uint32_t build;			/* since 10; else 0 */
	uint64_t boot_time;		/* 100 ns since 1601, UTC; 0: unknown */
	char system_root[64];		/* "C:\\Windows", as far as it is ASCII */
};
/* -ENOENT: what is mapped there is none. */
int windows_shared_read(struct hvmi_space *space, struct windows_shared *ret);

/*
 * All return 0 or -ENOENT; -EIO, -ENOMEM.
 * By registers: cheap, a few dozen reads for a machine that is no Windows.
 */
int windows_find_by_registers(struct hvmi_vm *vm, struct windows_found *ret);
/* By the root and the heads of lists that a crash dump's header tells. */
int windows_find_by_header(struct hvmi_vm *vm, struct windows_found *ret);
/* By the processor start block in the first MiB (x64). Cheap too. */
int windows_find_by_stub(struct hvmi_vm *vm, struct windows_found *ret);
/* By page tables that map themselves, anywhere in memory. */
int windows_find_by_tables(struct hvmi_vm *vm, struct windows_found *ret);

/* Whether page tables at `root` map the same kernel. */
bool windows_root_maps(struct hvmi_vm *vm, const struct windows_found *found, uint64_t root);

#endif
