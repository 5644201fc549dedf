/* SPDX-License-Identifier: Apache-2.0 */
/* Registers as the writers of dumps lay them out. */
#ifndef HVMI_BACKENDS_DUMP_VCPU_H
#define HVMI_BACKENDS_DUMP_VCPU_H

#include "image.h"

/* `len` bytes of struct elf_prstatus, of which prstatus_known() knew the length. */
bool prstatus_known(size_t len);
void vcpu_from_prstatus(struct dump_vcpu *vcpu, const uint8_t *desc, size_t len);

/* QEMUCPUState, which may be longer. */
#define QEMU_STATE_BYTES 432u
void vcpu_from_qemu(struct dump_vcpu *vcpu, const uint8_t *desc, size_t len);

/* DBGFCORECPU up to where its extended state begins. */
#define VBOX_CORE_MAGIC 0xc01ac0deu
#define VBOX_CPU_BYTES 584u
bool vbox_known(uint32_t version);
void vcpu_from_vbox(struct dump_vcpu *vcpu, const uint8_t *desc, uint32_t version);

/* vcpu_guest_context_t of x86: its size tells which. */
#define XEN_CONTEXT64_BYTES 5168u
#define XEN_CONTEXT32_BYTES 2800u
void vcpu_from_xen(struct dump_vcpu *vcpu, const uint8_t *context, bool wide, bool hvm);

/* CONTEXT of winnt.h, of x64 (at least 0x100 bytes) or of x86 (0xcc). */
void vcpu_from_context(struct dump_vcpu *vcpu, const uint8_t *context, bool wide);

/* KSPECIAL_REGISTERS of x64 or of x86. */
#define SPECIAL64_BYTES 0xd8u
#define SPECIAL32_BYTES 0x3cu
void vcpu_from_special(struct dump_vcpu *vcpu, const uint8_t *special, bool wide);

#endif
