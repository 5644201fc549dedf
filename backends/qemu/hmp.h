/* SPDX-License-Identifier: Apache-2.0 */
/* What QEMU's human monitor prints. These are pure: text in, structs out, all of it bounded. */
#ifndef HVMI_BACKEND_QEMU_HMP_H
#define HVMI_BACKEND_QEMU_HMP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <hvmi/registers.h>

#define HMP_PIECES_MAX 65536u

/* A line of `info mtree -f`: guest-physical addresses that are backed by host memory. */
struct hmp_piece {
	uint64_t gpa, len;
	uint64_t offset;	/* in its memory region */
	bool rom;		/* the guest cannot write it (now) */
	char region[64];
};

/*
 * The RAM and ROM of the address space "memory", allocated. -EBADMSG: no such thing in @p text.
 */
int hmp_mtree(const char *text, struct hmp_piece **ret, size_t *count_ret);

/* `gpa2hva`: -ENOENT if it is no address. */
int hmp_gpa2hva(const char *text, uint64_t *ret);

/* `xp /COUNTgx`: @p count words of 64 bits from @p gpa on. -EFAULT: some of it is no RAM. */
int hmp_xp(const char *text, uint64_t gpa, uint64_t *words, size_t count);

/* `info registers` of an x86 vCPU: sets what it finds. */
void hmp_registers_x86(const char *text, struct hvmi_registers *ret);

#endif
