/* SPDX-License-Identifier: Apache-2.0 */
#include "vcpu.h"

/* A register at an offset of a structure. */
struct place {
	uint16_t id;
	uint16_t offset;
	uint8_t bytes;
};

static uint64_t load(const uint8_t *from, uint8_t bytes)
{
	return bytes == 8 ? load_le64(from) : bytes == 4 ? load_le32(from) : load_le16(from);
}

static void take(struct dump_vcpu *vcpu, const uint8_t *from, const struct place *places,
		 size_t count)
{
	for (size_t i = 0; i < count; i++)
		vcpu_set(vcpu, places[i].id, load(from + places[i].offset, places[i].bytes));
}

/* struct elf_prstatus of Linux, arch/x86/include/asm/elf.h and user_64.h: pr_reg is at 112. */
static const struct place prstatus64[] = {
	{ HVMI_X86_R15, 112, 8 }, { HVMI_X86_R14, 120, 8 }, { HVMI_X86_R13, 128, 8 },
	{ HVMI_X86_R12, 136, 8 }, { HVMI_X86_RBP, 144, 8 }, { HVMI_X86_RBX, 152, 8 },
	{ HVMI_X86_R11, 160, 8 }, { HVMI_X86_R10, 168, 8 }, { HVMI_X86_R9, 176, 8 },
	{ HVMI_X86_R8, 184, 8 }, { HVMI_X86_RAX, 192, 8 }, { HVMI_X86_RCX, 200, 8 },
	{ HVMI_X86_RDX, 208, 8 }, { HVMI_X86_RSI, 216, 8 }, { HVMI_X86_RDI, 224, 8 },
	{ HVMI_X86_RIP, 240, 8 }, { HVMI_X86_CS_SELECTOR, 248, 2 }, { HVMI_X86_RFLAGS, 256, 8 },
	{ HVMI_X86_RSP, 264, 8 }, { HVMI_X86_SS_SELECTOR, 272, 2 },
	/* fs_base and gs_base at 280 are the thread's in user mode, not the processor's. */
	{ HVMI_X86_DS_SELECTOR, 296, 2 }, { HVMI_X86_ES_SELECTOR, 304, 2 },
	{ HVMI_X86_FS_SELECTOR, 312, 2 }, { HVMI_X86_GS_SELECTOR, 320, 2 },
};
#define PRSTATUS64_BYTES 336u

/* The same of 32 bits, user_32.h: pr_reg is at 72. */
static const struct place prstatus32[] = {
	{ HVMI_X86_RBX, 72, 4 }, { HVMI_X86_RCX, 76, 4 }, { HVMI_X86_RDX, 80, 4 },
	{ HVMI_X86_RSI, 84, 4 }, { HVMI_X86_RDI, 88, 4 }, { HVMI_X86_RBP, 92, 4 },
	{ HVMI_X86_RAX, 96, 4 }, { HVMI_X86_DS_SELECTOR, 100, 2 },
	{ HVMI_X86_ES_SELECTOR, 104, 2 }, { HVMI_X86_FS_SELECTOR, 108, 2 },
	{ HVMI_X86_GS_SELECTOR, 112, 2 }, { HVMI_X86_RIP, 120, 4 },
	{ HVMI_X86_CS_SELECTOR, 124, 2 }, { HVMI_X86_RFLAGS, 128, 4 },
	{ HVMI_X86_RSP, 132, 4 }, { HVMI_X86_SS_SELECTOR, 136, 2 },
};
#define PRSTATUS32_BYTES 144u

bool prstatus_known(size_t len)
{
	return len == PRSTATUS64_BYTES || len == PRSTATUS32_BYTES;
}

void vcpu_from_prstatus(struct dump_vcpu *vcpu, const uint8_t *desc, size_t len)
{
	/* Other notes of the same vCPU tell the same and more. */
	struct dump_vcpu before = *vcpu;
	if (len == PRSTATUS64_BYTES)
		take(vcpu, desc, prstatus64, ARRAY_SIZE(prstatus64));
	else
		take(vcpu, desc, prstatus32, ARRAY_SIZE(prstatus32));
	for (uint32_t id = 0; id < HVMI_REGISTER_END; id++)
		if (vcpu_knows(&before, id))
			vcpu->value[id] = before.value[id];
}

/* A segment: the ids of its parts, and where it begins. */
struct segment_place {
	uint16_t selector, base, limit, rights;
	uint16_t offset;
};

#define SEGMENT(name, offset)                                                                      \
	{ HVMI_X86_##name##_SELECTOR, HVMI_X86_##name##_BASE, HVMI_X86_##name##_LIMIT,             \
	  HVMI_X86_##name##_RIGHTS, offset }

/* QEMUCPUState, version 1: target/i386/arch_dump.c of QEMU. */
static const struct place qemu[] = {
	{ HVMI_X86_RAX, 8, 8 }, { HVMI_X86_RBX, 16, 8 }, { HVMI_X86_RCX, 24, 8 },
	{ HVMI_X86_RDX, 32, 8 }, { HVMI_X86_RSI, 40, 8 }, { HVMI_X86_RDI, 48, 8 },
	{ HVMI_X86_RSP, 56, 8 }, { HVMI_X86_RBP, 64, 8 }, { HVMI_X86_R8, 72, 8 },
	{ HVMI_X86_R9, 80, 8 }, { HVMI_X86_R10, 88, 8 }, { HVMI_X86_R11, 96, 8 },
	{ HVMI_X86_R12, 104, 8 }, { HVMI_X86_R13, 112, 8 }, { HVMI_X86_R14, 120, 8 },
	{ HVMI_X86_R15, 128, 8 }, { HVMI_X86_RIP, 136, 8 }, { HVMI_X86_RFLAGS, 144, 8 },
	{ HVMI_X86_GDTR_LIMIT, 348, 4 }, { HVMI_X86_GDTR_BASE, 360, 8 },
	{ HVMI_X86_IDTR_LIMIT, 372, 4 }, { HVMI_X86_IDTR_BASE, 384, 8 },
	{ HVMI_X86_CR0, 392, 8 }, { HVMI_X86_CR2, 408, 8 }, { HVMI_X86_CR3, 416, 8 },
	{ HVMI_X86_CR4, 424, 8 },
};
static const struct segment_place qemu_segments[] = {
	SEGMENT(CS, 152), SEGMENT(DS, 176), SEGMENT(ES, 200), SEGMENT(FS, 224),
	SEGMENT(GS, 248), SEGMENT(SS, 272), SEGMENT(LDTR, 296), SEGMENT(TR, 320),
};
#define QEMU_KERNEL_GS_BASE 432

/* Unusable, in the layout that registers.h tells. */
#define RIGHTS_UNUSABLE 0x10000u

void vcpu_from_qemu(struct dump_vcpu *vcpu, const uint8_t *desc, size_t len)
{
	take(vcpu, desc, qemu, ARRAY_SIZE(qemu));
	for (size_t i = 0; i < ARRAY_SIZE(qemu_segments); i++) {
		const struct segment_place *s = &qemu_segments[i];
		const uint8_t *from = desc + s->offset;
		/* The flags are the second word of a descriptor. */
		uint32_t rights = load_le32(from + 8) >> 8 & 0xf0ff;
		vcpu_set(vcpu, s->selector, load_le16(from));
		vcpu_set(vcpu, s->limit, load_le32(from + 4));
		vcpu_set(vcpu, s->rights, rights & 0x80 ? rights : rights | RIGHTS_UNUSABLE);
		vcpu_set(vcpu, s->base, load_le64(from + 16));
	}
	/* Appended later, without a new version. */
	if (MIN(len, load_le32(desc + 4)) >= QEMU_KERNEL_GS_BASE + 8)
		vcpu_set(vcpu, HVMI_X86_KERNEL_GS_BASE, load_le64(desc + QEMU_KERNEL_GS_BASE));
}

/* DBGFCORECPU: include/VBox/vmm/dbgfcorefmt.h of VirtualBox. */
static const struct place vbox[] = {
	{ HVMI_X86_RAX, 0, 8 }, { HVMI_X86_RBX, 8, 8 }, { HVMI_X86_RCX, 16, 8 },
	{ HVMI_X86_RDX, 24, 8 }, { HVMI_X86_RSI, 32, 8 }, { HVMI_X86_RDI, 40, 8 },
	{ HVMI_X86_R8, 48, 8 }, { HVMI_X86_R9, 56, 8 }, { HVMI_X86_R10, 64, 8 },
	{ HVMI_X86_R11, 72, 8 }, { HVMI_X86_R12, 80, 8 }, { HVMI_X86_R13, 88, 8 },
	{ HVMI_X86_R14, 96, 8 }, { HVMI_X86_R15, 104, 8 }, { HVMI_X86_RIP, 112, 8 },
	{ HVMI_X86_RSP, 120, 8 }, { HVMI_X86_RBP, 128, 8 }, { HVMI_X86_RFLAGS, 136, 8 },
	{ HVMI_X86_CR0, 288, 8 }, { HVMI_X86_CR2, 296, 8 }, { HVMI_X86_CR3, 304, 8 },
	{ HVMI_X86_CR4, 312, 8 }, { HVMI_X86_DR0, 320, 8 }, { HVMI_X86_DR1, 328, 8 },
	{ HVMI_X86_DR2, 336, 8 }, { HVMI_X86_DR3, 344, 8 }, { HVMI_X86_DR6, 368, 8 },
	{ HVMI_X86_DR7, 376, 8 }, { HVMI_X86_GDTR_BASE, 384, 8 },
	{ HVMI_X86_GDTR_LIMIT, 392, 4 }, { HVMI_X86_IDTR_BASE, 400, 8 },
	{ HVMI_X86_IDTR_LIMIT, 408, 4 }, { HVMI_X86_SYSENTER_CS, 464, 8 },
	{ HVMI_X86_SYSENTER_EIP, 472, 8 }, { HVMI_X86_SYSENTER_ESP, 480, 8 },
	{ HVMI_X86_EFER, 488, 8 }, { HVMI_X86_STAR, 496, 8 }, { HVMI_X86_PAT, 504, 8 },
	{ HVMI_X86_LSTAR, 512, 8 }, { HVMI_X86_CSTAR, 520, 8 },
	{ HVMI_X86_SYSCALL_MASK, 528, 8 }, { HVMI_X86_KERNEL_GS_BASE, 536, 8 },
};
static const struct segment_place vbox_segments[] = {
	SEGMENT(CS, 144), SEGMENT(DS, 168), SEGMENT(ES, 192), SEGMENT(FS, 216),
	SEGMENT(GS, 240), SEGMENT(SS, 264), SEGMENT(LDTR, 416), SEGMENT(TR, 440),
};

bool vbox_known(uint32_t version)
{
	return version >= 0x10004 && version <= 0x10006;
}

void vcpu_from_vbox(struct dump_vcpu *vcpu, const uint8_t *desc, uint32_t version)
{
	take(vcpu, desc, vbox, ARRAY_SIZE(vbox));
	for (size_t i = 0; i < ARRAY_SIZE(vbox_segments); i++) {
		const struct segment_place *s = &vbox_segments[i];
		const uint8_t *from = desc + s->offset;
		vcpu_set(vcpu, s->base, load_le64(from));
		vcpu_set(vcpu, s->limit, load_le32(from + 8));
		vcpu_set(vcpu, s->rights, load_le32(from + 12) & 0x1f0ff);
		vcpu_set(vcpu, s->selector, load_le16(from + 16));
	}
	/* Version 0x10006 put TSC_AUX between the APIC base and the XCRs. */
	if (version >= 0x10006)
		vcpu_set(vcpu, HVMI_X86_TSC_AUX, load_le64(desc + 552));
	vcpu_set(vcpu, HVMI_X86_XCR0, load_le64(desc + (version >= 0x10006 ? 560 : 552)));
}

/* struct vcpu_guest_context of x86_64: xen/include/public/arch-x86/xen.h and xen-x86_64.h. */
static const struct place xen64[] = {
	{ HVMI_X86_R15, 520, 8 }, { HVMI_X86_R14, 528, 8 }, { HVMI_X86_R13, 536, 8 },
	{ HVMI_X86_R12, 544, 8 }, { HVMI_X86_RBP, 552, 8 }, { HVMI_X86_RBX, 560, 8 },
	{ HVMI_X86_R11, 568, 8 }, { HVMI_X86_R10, 576, 8 }, { HVMI_X86_R9, 584, 8 },
	{ HVMI_X86_R8, 592, 8 }, { HVMI_X86_RAX, 600, 8 }, { HVMI_X86_RCX, 608, 8 },
	{ HVMI_X86_RDX, 616, 8 }, { HVMI_X86_RSI, 624, 8 }, { HVMI_X86_RDI, 632, 8 },
	{ HVMI_X86_RIP, 648, 8 }, { HVMI_X86_CS_SELECTOR, 656, 2 }, { HVMI_X86_RFLAGS, 664, 8 },
	{ HVMI_X86_RSP, 672, 8 }, { HVMI_X86_SS_SELECTOR, 680, 2 },
	{ HVMI_X86_ES_SELECTOR, 688, 2 }, { HVMI_X86_DS_SELECTOR, 696, 2 },
	{ HVMI_X86_FS_SELECTOR, 704, 2 }, { HVMI_X86_GS_SELECTOR, 712, 2 },
	{ HVMI_X86_CR0, 4984, 8 }, { HVMI_X86_CR2, 5000, 8 }, { HVMI_X86_CR4, 5016, 8 },
	{ HVMI_X86_DR0, 5048, 8 }, { HVMI_X86_DR1, 5056, 8 }, { HVMI_X86_DR2, 5064, 8 },
	{ HVMI_X86_DR3, 5072, 8 }, { HVMI_X86_DR6, 5096, 8 }, { HVMI_X86_DR7, 5104, 8 },
	{ HVMI_X86_FS_BASE, 5144, 8 },
};
#define XEN64_FLAGS 512
#define XEN_IN_KERNEL 4u
#define XEN64_CR3 5008
#define XEN64_GS_BASE_KERNEL 5152
#define XEN64_GS_BASE_USER 5160

/* The same of x86_32: xen-x86_32.h. */
static const struct place xen32[] = {
	{ HVMI_X86_RBX, 516, 4 }, { HVMI_X86_RCX, 520, 4 }, { HVMI_X86_RDX, 524, 4 },
	{ HVMI_X86_RSI, 528, 4 }, { HVMI_X86_RDI, 532, 4 }, { HVMI_X86_RBP, 536, 4 },
	{ HVMI_X86_RAX, 540, 4 }, { HVMI_X86_RIP, 548, 4 }, { HVMI_X86_CS_SELECTOR, 552, 2 },
	{ HVMI_X86_RFLAGS, 556, 4 }, { HVMI_X86_RSP, 560, 4 }, { HVMI_X86_SS_SELECTOR, 564, 2 },
	{ HVMI_X86_ES_SELECTOR, 568, 2 }, { HVMI_X86_DS_SELECTOR, 572, 2 },
	{ HVMI_X86_FS_SELECTOR, 576, 2 }, { HVMI_X86_GS_SELECTOR, 580, 2 },
	{ HVMI_X86_CR0, 2716, 4 }, { HVMI_X86_CR2, 2724, 4 }, { HVMI_X86_CR4, 2732, 4 },
	{ HVMI_X86_DR0, 2748, 4 }, { HVMI_X86_DR1, 2752, 4 }, { HVMI_X86_DR2, 2756, 4 },
	{ HVMI_X86_DR3, 2760, 4 }, { HVMI_X86_DR6, 2772, 4 }, { HVMI_X86_DR7, 2776, 4 },
};
#define XEN32_CR3 2728

void vcpu_from_xen(struct dump_vcpu *vcpu, const uint8_t *context, bool wide, bool hvm)
{
	if (wide)
		take(vcpu, context, xen64, ARRAY_SIZE(xen64));
	else
		take(vcpu, context, xen32, ARRAY_SIZE(xen32));
	/* A PV guest's CR3 is a machine address, which says nothing about guest-physical memory. */
	if (hvm)
		vcpu_set(vcpu, HVMI_X86_CR3, wide ? load_le64(context + XEN64_CR3) :
						    load_le32(context + XEN32_CR3));
	if (wide) {
		/* What GS is now, and what SWAPGS would make it. A PV guest's kernel is in ring 3. */
		bool kernel = hvm ? (vcpu->value[HVMI_X86_CS_SELECTOR] & 3) == 0 :
				    load_le64(context + XEN64_FLAGS) & XEN_IN_KERNEL;
		uint64_t first = load_le64(context + XEN64_GS_BASE_KERNEL);
		uint64_t second = load_le64(context + XEN64_GS_BASE_USER);
		vcpu_set(vcpu, HVMI_X86_GS_BASE, kernel ? first : second);
		vcpu_set(vcpu, HVMI_X86_KERNEL_GS_BASE, kernel ? second : first);
	}
}

/* CONTEXT: winnt.h of the Windows SDK. */
static const struct place context64[] = {
	{ HVMI_X86_CS_SELECTOR, 0x38, 2 }, { HVMI_X86_DS_SELECTOR, 0x3a, 2 },
	{ HVMI_X86_ES_SELECTOR, 0x3c, 2 }, { HVMI_X86_FS_SELECTOR, 0x3e, 2 },
	{ HVMI_X86_GS_SELECTOR, 0x40, 2 }, { HVMI_X86_SS_SELECTOR, 0x42, 2 },
	{ HVMI_X86_RFLAGS, 0x44, 4 }, { HVMI_X86_DR0, 0x48, 8 }, { HVMI_X86_DR1, 0x50, 8 },
	{ HVMI_X86_DR2, 0x58, 8 }, { HVMI_X86_DR3, 0x60, 8 }, { HVMI_X86_DR6, 0x68, 8 },
	{ HVMI_X86_DR7, 0x70, 8 }, { HVMI_X86_RAX, 0x78, 8 }, { HVMI_X86_RCX, 0x80, 8 },
	{ HVMI_X86_RDX, 0x88, 8 }, { HVMI_X86_RBX, 0x90, 8 }, { HVMI_X86_RSP, 0x98, 8 },
	{ HVMI_X86_RBP, 0xa0, 8 }, { HVMI_X86_RSI, 0xa8, 8 }, { HVMI_X86_RDI, 0xb0, 8 },
	{ HVMI_X86_R8, 0xb8, 8 }, { HVMI_X86_R9, 0xc0, 8 }, { HVMI_X86_R10, 0xc8, 8 },
	{ HVMI_X86_R11, 0xd0, 8 }, { HVMI_X86_R12, 0xd8, 8 }, { HVMI_X86_R13, 0xe0, 8 },
	{ HVMI_X86_R14, 0xe8, 8 }, { HVMI_X86_R15, 0xf0, 8 }, { HVMI_X86_RIP, 0xf8, 8 },
};
static const struct place context32[] = {
	{ HVMI_X86_DR0, 0x4, 4 }, { HVMI_X86_DR1, 0x8, 4 }, { HVMI_X86_DR2, 0xc, 4 },
	{ HVMI_X86_DR3, 0x10, 4 }, { HVMI_X86_DR6, 0x14, 4 }, { HVMI_X86_DR7, 0x18, 4 },
	{ HVMI_X86_GS_SELECTOR, 0x8c, 2 }, { HVMI_X86_FS_SELECTOR, 0x90, 2 },
	{ HVMI_X86_ES_SELECTOR, 0x94, 2 }, { HVMI_X86_DS_SELECTOR, 0x98, 2 },
	{ HVMI_X86_RDI, 0x9c, 4 }, { HVMI_X86_RSI, 0xa0, 4 }, { HVMI_X86_RBX, 0xa4, 4 },
	{ HVMI_X86_RDX, 0xa8, 4 }, { HVMI_X86_RCX, 0xac, 4 }, { HVMI_X86_RAX, 0xb0, 4 },
	{ HVMI_X86_RBP, 0xb4, 4 }, { HVMI_X86_RIP, 0xb8, 4 }, { HVMI_X86_CS_SELECTOR, 0xbc, 2 },
	{ HVMI_X86_RFLAGS, 0xc0, 4 }, { HVMI_X86_RSP, 0xc4, 4 }, { HVMI_X86_SS_SELECTOR, 0xc8, 2 },
};

void vcpu_from_context(struct dump_vcpu *vcpu, const uint8_t *context, bool wide)
{
	if (wide)
		take(vcpu, context, context64, ARRAY_SIZE(context64));
	else
		take(vcpu, context, context32, ARRAY_SIZE(context32));
}

/* _KSPECIAL_REGISTERS of Windows, as its PDBs tell from XP to 11. */
static const struct place special64[] = {
	{ HVMI_X86_CR0, 0x0, 8 }, { HVMI_X86_CR2, 0x8, 8 }, { HVMI_X86_CR3, 0x10, 8 },
	{ HVMI_X86_CR4, 0x18, 8 }, { HVMI_X86_GDTR_LIMIT, 0x56, 2 },
	{ HVMI_X86_GDTR_BASE, 0x58, 8 }, { HVMI_X86_IDTR_LIMIT, 0x66, 2 },
	{ HVMI_X86_IDTR_BASE, 0x68, 8 }, { HVMI_X86_TR_SELECTOR, 0x70, 2 },
	{ HVMI_X86_LDTR_SELECTOR, 0x72, 2 }, { HVMI_X86_GS_BASE, 0xa8, 8 },
	{ HVMI_X86_KERNEL_GS_BASE, 0xb0, 8 }, { HVMI_X86_STAR, 0xb8, 8 },
	{ HVMI_X86_LSTAR, 0xc0, 8 }, { HVMI_X86_CSTAR, 0xc8, 8 },
	{ HVMI_X86_SYSCALL_MASK, 0xd0, 8 },
};
static const struct place special32[] = {
	{ HVMI_X86_CR0, 0x0, 4 }, { HVMI_X86_CR2, 0x4, 4 }, { HVMI_X86_CR3, 0x8, 4 },
	{ HVMI_X86_CR4, 0xc, 4 }, { HVMI_X86_GDTR_LIMIT, 0x2a, 2 },
	{ HVMI_X86_GDTR_BASE, 0x2c, 4 }, { HVMI_X86_IDTR_LIMIT, 0x32, 2 },
	{ HVMI_X86_IDTR_BASE, 0x34, 4 }, { HVMI_X86_TR_SELECTOR, 0x38, 2 },
	{ HVMI_X86_LDTR_SELECTOR, 0x3a, 2 },
};

void vcpu_from_special(struct dump_vcpu *vcpu, const uint8_t *special, bool wide)
{
	if (wide)
		take(vcpu, special, special64, ARRAY_SIZE(special64));
	else
		take(vcpu, special, special32, ARRAY_SIZE(special32));
}
