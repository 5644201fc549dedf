/* SPDX-License-Identifier: Apache-2.0 */
/* ELF cores of QEMU, kexec and VirtualBox. */
#include "suite.h"
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "dump_build.h"

/* From target/i386/arch_dump.c of QEMU. */
struct qemu_segment {
	uint32_t selector, limit, flags, pad;
	uint64_t base;
};
struct qemu_state {
	uint32_t version, size;
	uint64_t rax, rbx, rcx, rdx, rsi, rdi, rsp, rbp;
	uint64_t r8, r9, r10, r11, r12, r13, r14, r15;
	uint64_t rip, rflags;
	struct qemu_segment cs, ds, es, fs, gs, ss, ldt, tr, gdt, idt;
	uint64_t cr[5];
	uint64_t kernel_gs_base;
};
_Static_assert(sizeof(struct qemu_state) == 440, "as QEMU writes it");

/* From arch/x86/include/asm/user_64.h and include/linux/elfcore.h of Linux. */
struct prstatus64 {
	uint8_t head[112];
	uint64_t r15, r14, r13, r12, rbp, rbx, r11, r10, r9, r8, rax, rcx, rdx, rsi, rdi, orig_rax;
	uint64_t rip, cs, rflags, rsp, ss, fs_base, gs_base, ds, es, fs, gs;
	uint64_t fpvalid;
};
_Static_assert(sizeof(struct prstatus64) == 336, "as Linux writes it");

struct prstatus32 {
	uint8_t head[72];
	uint32_t ebx, ecx, edx, esi, edi, ebp, eax, ds, es, fs, gs, orig_eax, eip, cs, eflags, esp;
	uint32_t ss, fpvalid;
};
_Static_assert(sizeof(struct prstatus32) == 144, "as Linux writes it");

/* From include/VBox/vmm/dbgfcorefmt.h of VirtualBox, up to the extended state. */
struct vbox_selector {
	uint64_t base;
	uint32_t limit, rights;
	uint16_t selector, reserved[3];
};
struct vbox_table {
	uint64_t base;
	uint32_t limit, reserved;
};
struct vbox_cpu {
	uint64_t rax, rbx, rcx, rdx, rsi, rdi, r8, r9, r10, r11, r12, r13, r14, r15;
	uint64_t rip, rsp, rbp, rflags;
	struct vbox_selector cs, ds, es, fs, gs, ss;
	uint64_t cr0, cr2, cr3, cr4, dr[8];
	struct vbox_table gdtr, idtr;
	struct vbox_selector ldtr, tr;
	uint64_t sysenter_cs, sysenter_eip, sysenter_esp;
	uint64_t efer, star, pat, lstar, cstar, sfmask, kernel_gs_base, apic_base, tsc_aux;
	uint64_t xcr[2];
	uint32_t ext_len, pad;
	uint8_t ext[1024];
};

static struct qemu_state qemu_state(uint64_t n)
{
	struct qemu_state s = { .version = 1, .size = sizeof(s) };
	uint64_t *gpr = &s.rax;
	for (int i = 0; i < 18; i++)
		gpr[i] = n << 32 | (0x100u + i);
	struct qemu_segment *segment = &s.cs;
	for (int i = 0; i < 10; i++)
		segment[i] = (struct qemu_segment){ .selector = 0x10 + 8 * i, .limit = 0x1000 + i,
						    .base = n << 32 | 0x2000u * i };
	s.cs.flags = 0x00af9b00;
	s.ds.flags = 0;
	s.tr.flags = 0x00008b00;
	for (int i = 0; i < 5; i++)
		s.cr[i] = n << 32 | (0x300u + i);
	s.kernel_gs_base = n << 32 | 0x400;
	return s;
}

static void check_qemu(struct hvmi_vm *vm, uint32_t vcpu, uint64_t n)
{
	struct qemu_state s = qemu_state(n);
	check_register(vm, vcpu, HVMI_X86_RAX, s.rax);
	check_register(vm, vcpu, HVMI_X86_RBX, s.rbx);
	check_register(vm, vcpu, HVMI_X86_RCX, s.rcx);
	check_register(vm, vcpu, HVMI_X86_RDX, s.rdx);
	check_register(vm, vcpu, HVMI_X86_RSI, s.rsi);
	check_register(vm, vcpu, HVMI_X86_RDI, s.rdi);
	check_register(vm, vcpu, HVMI_X86_RSP, s.rsp);
	check_register(vm, vcpu, HVMI_X86_RBP, s.rbp);
	check_register(vm, vcpu, HVMI_X86_R8, s.r8);
	check_register(vm, vcpu, HVMI_X86_R15, s.r15);
	check_register(vm, vcpu, HVMI_X86_RIP, s.rip);
	check_register(vm, vcpu, HVMI_X86_RFLAGS, s.rflags);
	check_register(vm, vcpu, HVMI_X86_CS_SELECTOR, 0x10);
	check_register(vm, vcpu, HVMI_X86_CS_LIMIT, 0x1000);
	check_register(vm, vcpu, HVMI_X86_CS_RIGHTS, 0xa09b);
	check_register(vm, vcpu, HVMI_X86_DS_RIGHTS, 0x10000);
	check_register(vm, vcpu, HVMI_X86_TR_RIGHTS, 0x8b);
	check_register(vm, vcpu, HVMI_X86_GS_BASE, s.gs.base);
	check_register(vm, vcpu, HVMI_X86_LDTR_SELECTOR, s.ldt.selector);
	check_register(vm, vcpu, HVMI_X86_TR_BASE, s.tr.base);
	check_register(vm, vcpu, HVMI_X86_GDTR_BASE, s.gdt.base);
	check_register(vm, vcpu, HVMI_X86_GDTR_LIMIT, s.gdt.limit);
	check_register(vm, vcpu, HVMI_X86_IDTR_BASE, s.idt.base);
	check_register(vm, vcpu, HVMI_X86_IDTR_LIMIT, s.idt.limit);
	check_register(vm, vcpu, HVMI_X86_CR0, s.cr[0]);
	check_register(vm, vcpu, HVMI_X86_CR2, s.cr[2]);
	check_register(vm, vcpu, HVMI_X86_CR3, s.cr[3]);
	check_register(vm, vcpu, HVMI_X86_CR4, s.cr[4]);
	check_register(vm, vcpu, HVMI_X86_KERNEL_GS_BASE, s.kernel_gs_base);
	check_no_register(vm, vcpu, HVMI_X86_EFER);
	check_no_register(vm, vcpu, HVMI_X86_LSTAR);
	check_no_register(vm, vcpu, 0);
	check_no_register(vm, vcpu, HVMI_REGISTER_END);
	check_no_register(vm, vcpu, UINT32_MAX);
}

static void put_qemu_notes(struct blob *notes)
{
	static const char info[] = "OSRELEASE=6.1.0\nPAGESIZE=4096\n";
	struct prstatus64 status = { .rax = 0xbad, .rip = 0xbad };
	for (int i = 0; i < 2; i++)
		put_note(notes, "CORE", 5, 1, &status, sizeof(status));
	for (uint64_t i = 0; i < 2; i++) {
		struct qemu_state state = qemu_state(i + 1);
		put_note(notes, "QEMU", 5, 0, &state, sizeof(state));
	}
	put_note(notes, "VMCOREINFO", 11, 0, info, sizeof(info) - 1);
}

START_TEST(qemu)
{
	struct blob notes = { 0 }, blob = { 0 };
	put_qemu_notes(&notes);
	const struct load loads[] = {
		{ .gpa = 0, .len = 160 * PAGE },
		{ .gpa = 1ull << 32, .len = 32 * PAGE },
		{ .gpa = 0xfffc0000, .len = 4 * PAGE },
	};
	put_core(&blob, &(struct core){ .notes = &notes, .loads = loads, .load_count = 3,
					.odd = 5 });
	struct hvmi_vm *vm = image_open(&blob, "");
	check_format(vm, "ELF core (QEMU)");
	check_range(vm, 0, 0, 160 * PAGE);
	check_range(vm, 1, 0xfffc0000, 4 * PAGE);
	check_range(vm, 2, 1ull << 32, 32 * PAGE);
	for (int i = 0; i < 3; i++)
		check_memory(vm, loads[i].gpa, loads[i].len);
	check_absent(vm, 160 * PAGE, PAGE);
	check_absent(vm, 0xfffc4000, PAGE);
	struct hvmi_vm_info info = { .size = sizeof(info) };
	ck_assert_int_eq(hvmi_vm_get_info(vm, &info), 0);
	ck_assert_uint_eq(info.vcpus, 2);
	ck_assert_uint_eq(info.arch, HVMI_ARCH_X86);
	ck_assert_uint_eq(info.flags, HVMI_VM_STATIC | HVMI_VM_MAPPED);
	check_qemu(vm, 0, 1);
	check_qemu(vm, 1, 2);
	uint64_t value;
	ck_assert_int_eq(hvmi_vm_register(vm, 2, HVMI_X86_RAX, &value), -ENOENT);
	ck_assert_str_eq(log_text, "");
	hvmi_close(vm);
	blob_free(&blob);
	blob_free(&notes);
}
END_TEST

START_TEST(vmcoreinfo)
{
	struct blob notes = { 0 }, blob = { 0 };
	char text[64];
	size_t len = 0;
	put_qemu_notes(&notes);
	const struct load load = { .gpa = 0, .len = PAGE };
	put_core(&blob, &(struct core){ .notes = &notes, .loads = &load, .load_count = 1 });
	struct hvmi_vm *vm = image_open(&blob, "");
	ck_assert_int_eq(hvmi_vm_note(vm, "VMCOREINFO", text, sizeof(text), &len), 0);
	ck_assert_uint_eq(len, 30);
	ck_assert_int_eq(memcmp(text, "OSRELEASE=6.1.0\nPAGESIZE=4096\n", 30), 0);
	len = 0;
	ck_assert_int_eq(hvmi_vm_note(vm, "VMCOREINFO", text, 29, &len), -EOVERFLOW);
	ck_assert_uint_eq(len, 30);
	ck_assert_int_eq(hvmi_vm_note(vm, "QEMU", text, 29, &len), -ENOENT);
	hvmi_close(vm);
	blob_free(&blob);
	blob_free(&notes);
}
END_TEST

/* With paging=on a segment for each virtual mapping; many show the same memory. */
START_TEST(qemu_paging)
{
	enum { ALIASES = 500, PAGES = 64 };
	struct load loads[1 + ALIASES] = { { .gva = 0xffff888000000000, .gpa = 0x100000,
					     .len = PAGES * PAGE } };
	struct blob blob = { 0 };
	uint64_t at = 64 + (1 + ALIASES) * 56;
	for (uint64_t i = 0; i < ALIASES; i++) {
		uint64_t first = i * 7 % PAGES, len = 1 + i % 5;
		len = len < PAGES - first ? len : PAGES - first;
		loads[1 + i] = (struct load){ .gva = 0xffffc90000000000 + i * 0x10000,
					      .gpa = 0x100000 + first * PAGE, .len = len * PAGE,
					      .offset = at + first * PAGE };
	}
	put_core(&blob, &(struct core){ .loads = loads, .load_count = 1 + ALIASES });
	struct hvmi_vm *vm = image_open(&blob, "");
	struct hvmi_range range;
	check_format(vm, "ELF core");
	check_range(vm, 0, 0x100000, PAGES * PAGE);
	ck_assert_int_eq(hvmi_vm_range(vm, 1, &range), -ENOENT);
	check_memory(vm, 0x100000, PAGES * PAGE);
	ck_assert_str_eq(log_text, "");
	hvmi_close(vm);
	blob_free(&blob);
}
END_TEST

/* Overlaps whose bytes lie at different places are cut, not merged. */
START_TEST(overlapping)
{
	const struct load loads[] = {
		{ .gpa = 0x4000, .len = 0x4000 },
		{ .gpa = 0x2000, .len = 0x3000 },
		{ .gpa = 0x3000, .len = 0x2000 },
		{ .gpa = 0x7000, .len = 0x3000 },
		{ .gpa = 0x20800, .len = 0x300 },	/* need not be pages */
		{ .gpa = 0x20b00, .len = 0x500 },
	};
	struct blob blob = { 0 };
	put_core(&blob, &(struct core){ .loads = loads, .load_count = 6 });
	struct hvmi_vm *vm = image_open(&blob, "");
	check_memory(vm, 0x2000, 0x8000);
	check_memory(vm, 0x20800, 0x800);
	check_range(vm, 0, 0x2000, 0x3000);
	check_absent(vm, 0x1fff, 1);
	check_absent(vm, 0xa000, 1);
	hvmi_close(vm);
	blob_free(&blob);
}
END_TEST

START_TEST(narrow)
{
	struct prstatus32 status = { .ebx = 1, .ecx = 2, .edx = 3, .esi = 4, .edi = 5, .ebp = 6,
				     .eax = 7, .ds = 8, .es = 9, .fs = 10, .gs = 11, .eip = 12,
				     .cs = 13, .eflags = 14, .esp = 0xfffffff0, .ss = 16 };
	struct blob notes = { 0 }, blob = { 0 };
	put_note(&notes, "CORE", 5, 1, &status, sizeof(status));
	const struct load loads[] = {
		{ .gpa = 0, .len = 160 * PAGE }, { .gpa = 0xffff0000, .len = 16 * PAGE },
	};
	put_core(&blob, &(struct core){ .narrow = true, .machine = 3, .notes = &notes,
					.loads = loads, .load_count = 2 });
	struct hvmi_vm *vm = image_open(&blob, "");
	check_memory(vm, 0, 160 * PAGE);
	check_memory(vm, 0xffff0000, 16 * PAGE);
	check_register(vm, 0, HVMI_X86_RBX, 1);
	check_register(vm, 0, HVMI_X86_RCX, 2);
	check_register(vm, 0, HVMI_X86_RDX, 3);
	check_register(vm, 0, HVMI_X86_RSI, 4);
	check_register(vm, 0, HVMI_X86_RDI, 5);
	check_register(vm, 0, HVMI_X86_RBP, 6);
	check_register(vm, 0, HVMI_X86_RAX, 7);
	check_register(vm, 0, HVMI_X86_DS_SELECTOR, 8);
	check_register(vm, 0, HVMI_X86_ES_SELECTOR, 9);
	check_register(vm, 0, HVMI_X86_FS_SELECTOR, 10);
	check_register(vm, 0, HVMI_X86_GS_SELECTOR, 11);
	check_register(vm, 0, HVMI_X86_RIP, 12);
	check_register(vm, 0, HVMI_X86_CS_SELECTOR, 13);
	check_register(vm, 0, HVMI_X86_RFLAGS, 14);
	check_register(vm, 0, HVMI_X86_RSP, 0xfffffff0);
	check_register(vm, 0, HVMI_X86_SS_SELECTOR, 16);
	check_no_register(vm, 0, HVMI_X86_CR3);
	hvmi_close(vm);
	blob_free(&blob);
	blob_free(&notes);
}
END_TEST

START_TEST(vmcore)
{
	struct prstatus64 status = { .r15 = 15, .r14 = 14, .rax = 1, .rcx = 2, .rdi = 3, .rip = 4,
				     .cs = 0x10, .rflags = 5, .rsp = 6, .ss = 0x18, .fs_base = 7,
				     .gs_base = 8, .ds = 9, .gs = 10 };
	struct blob notes = { 0 }, blob = { 0 };
	put_note(&notes, "CORE", 5, 1, &status, sizeof(status));
	put_note(&notes, "VMCOREINFO", 11, 0, "CRASHTIME=1\n", 12);
	const struct load loads[] = {
		{ .gva = 0xffffffff81000000, .gpa = 0x1000000, .len = 8 * PAGE },
		{ .gva = 0xffff888000000000, .gpa = 0x100000, .len = 8 * PAGE },
		{ .gva = 0xffffc90000000000, .gpa = UINT64_MAX, .len = PAGE },	/* as kcore has */
	};
	put_core(&blob, &(struct core){ .notes = &notes, .loads = loads, .load_count = 3 });
	struct hvmi_vm *vm = image_open(&blob, "");
	check_format(vm, "ELF core (vmcore)");
	check_range(vm, 0, 0x100000, 8 * PAGE);
	check_range(vm, 1, 0x1000000, 8 * PAGE);
	check_memory(vm, 0x100000, 8 * PAGE);
	check_memory(vm, 0x1000000, 8 * PAGE);
	check_register(vm, 0, HVMI_X86_R15, 15);
	check_register(vm, 0, HVMI_X86_R14, 14);
	check_register(vm, 0, HVMI_X86_RAX, 1);
	check_register(vm, 0, HVMI_X86_RCX, 2);
	check_register(vm, 0, HVMI_X86_RDI, 3);
	check_register(vm, 0, HVMI_X86_RIP, 4);
	check_register(vm, 0, HVMI_X86_CS_SELECTOR, 0x10);
	check_register(vm, 0, HVMI_X86_RFLAGS, 5);
	check_register(vm, 0, HVMI_X86_RSP, 6);
	check_register(vm, 0, HVMI_X86_SS_SELECTOR, 0x18);
	check_register(vm, 0, HVMI_X86_DS_SELECTOR, 9);
	check_register(vm, 0, HVMI_X86_GS_SELECTOR, 10);
	check_no_register(vm, 0, HVMI_X86_GS_BASE);
	hvmi_close(vm);
	blob_free(&blob);
	blob_free(&notes);
}
END_TEST

START_TEST(arm64)
{
	uint8_t status[392] = { 0 };
	struct blob notes = { 0 }, blob = { 0 };
	put_note(&notes, "CORE", 5, 1, status, sizeof(status));
	const struct load load = { .gpa = 0x40000000, .len = 8 * PAGE };
	put_core(&blob, &(struct core){ .machine = 183, .notes = &notes, .loads = &load,
					.load_count = 1 });
	struct hvmi_vm *vm = image_open(&blob, "");
	struct hvmi_vm_info info = { .size = sizeof(info) };
	ck_assert_int_eq(hvmi_vm_get_info(vm, &info), 0);
	ck_assert_uint_eq(info.arch, HVMI_ARCH_ARM64);
	ck_assert_uint_eq(info.vcpus, 0);
	check_memory(vm, 0x40000000, 8 * PAGE);
	hvmi_close(vm);
	blob_free(&blob);
	blob_free(&notes);
}
END_TEST

/* No core of a real VirtualBox was at hand: this is the layout that its header file documents. */
static void put_vbox(struct blob *blob, uint32_t version, uint32_t name_nul)
{
	struct vbox_cpu cpu = {
		.rax = 1, .rbx = 2, .rsi = 5, .rdi = 6, .r15 = 14, .rip = 15, .rsp = 16, .rbp = 17,
		.rflags = 18,
		.cs = { .base = 0x20, .limit = 0x21, .rights = 0xaf9b, .selector = 0x23 },
		.gs = { .base = 0x30, .limit = 0x31, .rights = 0x10000, .selector = 0x33 },
		.tr = { .base = 0x40, .limit = 0x41, .rights = 0x8b, .selector = 0x43 },
		.cr0 = 0x50, .cr2 = 0x51, .cr3 = 0x52, .cr4 = 0x53,
		.dr = { 0x60, 0x61, 0x62, 0x63, 0x64, 0x65, 0x66, 0x67 },
		.gdtr = { .base = 0x70, .limit = 0x71 }, .idtr = { .base = 0x72, .limit = 0x73 },
		.sysenter_cs = 0x80, .sysenter_eip = 0x81, .sysenter_esp = 0x82,
		.efer = 0x90, .star = 0x91, .pat = 0x92, .lstar = 0x93, .cstar = 0x94,
		.sfmask = 0x95, .kernel_gs_base = 0x96, .tsc_aux = 0x98, .xcr = { 0x99 },
	};
	uint32_t descriptor[6] = { 0xc01ac0de, version, 24, 0x70000, 1, 1 };
	struct blob notes = { 0 };
	/* Before TSC_AUX was put in. */
	if (version < 0x10006)
		memmove(&cpu.tsc_aux, cpu.xcr, sizeof(cpu) - offsetof(struct vbox_cpu, xcr));
	put_note(&notes, "VBCORE", 6 + name_nul, 0xb00, descriptor, sizeof(descriptor));
	put_note(&notes, "VBCPU", 5 + name_nul, 0xb01, &cpu, sizeof(cpu));
	const struct load loads[] = {
		{ .gpa = 0, .len = 16 * PAGE },
		{ .gpa = 0xe0000000, .len = 16 * PAGE, .absent = 0 },
	};
	put_core(blob, &(struct core){ .notes = &notes, .loads = loads, .load_count = 2 });
	blob_free(&notes);
}

START_TEST(virtualbox)
{
	static const uint32_t versions[] = { 0x10004, 0x10005, 0x10006 };
	for (int i = 0; i < 6; i++) {
		uint32_t version = versions[i / 2];
		struct blob blob = { 0 };
		put_vbox(&blob, version, i % 2);
		struct hvmi_vm *vm = image_open(&blob, "");
		check_format(vm, "ELF core (VirtualBox)");
		check_memory(vm, 0, 16 * PAGE);
		check_memory(vm, 0xe0000000, 16 * PAGE);
		check_register(vm, 0, HVMI_X86_RAX, 1);
		check_register(vm, 0, HVMI_X86_RSI, 5);
		check_register(vm, 0, HVMI_X86_R15, 14);
		check_register(vm, 0, HVMI_X86_RIP, 15);
		check_register(vm, 0, HVMI_X86_RSP, 16);
		check_register(vm, 0, HVMI_X86_RBP, 17);
		check_register(vm, 0, HVMI_X86_RFLAGS, 18);
		check_register(vm, 0, HVMI_X86_CS_BASE, 0x20);
		check_register(vm, 0, HVMI_X86_CS_LIMIT, 0x21);
		check_register(vm, 0, HVMI_X86_CS_RIGHTS, 0xa09b);
		check_register(vm, 0, HVMI_X86_CS_SELECTOR, 0x23);
		check_register(vm, 0, HVMI_X86_GS_RIGHTS, 0x10000);
		check_register(vm, 0, HVMI_X86_TR_BASE, 0x40);
		check_register(vm, 0, HVMI_X86_TR_RIGHTS, 0x8b);
		check_register(vm, 0, HVMI_X86_CR0, 0x50);
		check_register(vm, 0, HVMI_X86_CR2, 0x51);
		check_register(vm, 0, HVMI_X86_CR3, 0x52);
		check_register(vm, 0, HVMI_X86_CR4, 0x53);
		check_register(vm, 0, HVMI_X86_DR3, 0x63);
		check_register(vm, 0, HVMI_X86_DR6, 0x66);
		check_register(vm, 0, HVMI_X86_DR7, 0x67);
		check_register(vm, 0, HVMI_X86_GDTR_BASE, 0x70);
		check_register(vm, 0, HVMI_X86_GDTR_LIMIT, 0x71);
		check_register(vm, 0, HVMI_X86_IDTR_BASE, 0x72);
		check_register(vm, 0, HVMI_X86_IDTR_LIMIT, 0x73);
		check_register(vm, 0, HVMI_X86_SYSENTER_CS, 0x80);
		check_register(vm, 0, HVMI_X86_SYSENTER_EIP, 0x81);
		check_register(vm, 0, HVMI_X86_SYSENTER_ESP, 0x82);
		check_register(vm, 0, HVMI_X86_EFER, 0x90);
		check_register(vm, 0, HVMI_X86_STAR, 0x91);
		check_register(vm, 0, HVMI_X86_PAT, 0x92);
		check_register(vm, 0, HVMI_X86_LSTAR, 0x93);
		check_register(vm, 0, HVMI_X86_CSTAR, 0x94);
		check_register(vm, 0, HVMI_X86_SYSCALL_MASK, 0x95);
		check_register(vm, 0, HVMI_X86_KERNEL_GS_BASE, 0x96);
		check_register(vm, 0, HVMI_X86_XCR0, 0x99);
		if (version >= 0x10006)
			check_register(vm, 0, HVMI_X86_TSC_AUX, 0x98);
		else
			check_no_register(vm, 0, HVMI_X86_TSC_AUX);
		hvmi_close(vm);
		blob_free(&blob);
	}
	struct blob blob = { 0 };
	struct hvmi_vm_info info = { .size = sizeof(info) };
	put_vbox(&blob, 0x20000, 0);
	struct hvmi_vm *vm = image_open(&blob, "");
	ck_assert_int_eq(hvmi_vm_get_info(vm, &info), 0);
	ck_assert_uint_eq(info.vcpus, 0);
	ck_assert_ptr_nonnull(strstr(log_text, "version 0x20000"));
	hvmi_close(vm);
	blob_free(&blob);
}
END_TEST

/* More segments than the header can count. */
START_TEST(many_segments)
{
	enum { COUNT = 70000 };
	struct load *loads = calloc(COUNT, sizeof(*loads));
	struct blob blob = { 0 };
	for (uint64_t i = 0; i < COUNT; i++)
		loads[i] = (struct load){ .gpa = 0x100000 + (COUNT - i) * 64, .len = 32 };
	put_core(&blob, &(struct core){ .extended = true, .loads = loads, .load_count = COUNT });
	struct hvmi_vm *vm = image_open(&blob, "");
	struct hvmi_range range;
	check_range(vm, 0, 0x100040, 32);
	check_range(vm, COUNT - 1, 0x100000 + 64ull * COUNT, 32);
	ck_assert_int_eq(hvmi_vm_range(vm, COUNT, &range), -ENOENT);
	for (uint64_t i = 0; i < COUNT; i += 997)
		check_memory(vm, loads[i].gpa, loads[i].len);
	hvmi_close(vm);
	blob_free(&blob);
	put_core(&blob, &(struct core){ .narrow = true, .machine = 3, .extended = true,
					.loads = loads, .load_count = 300 });
	vm = image_open(&blob, "");
	check_range(vm, 299, 0x100000 + 64ull * COUNT, 32);
	hvmi_close(vm);
	blob_free(&blob);
	free(loads);
}
END_TEST

START_TEST(not_of_a_machine)
{
	const struct load load = { .gva = 0x400000, .gpa = 0, .len = PAGE };
	const struct load process[] = { { .gva = 0x400000, .len = PAGE },
					{ .gva = 0x7fff00000000, .len = PAGE } };
	struct blob blob = { 0 };
	static const struct {
		uint16_t type, machine;
		int code;
		const char *text;
	} cases[] = {
		{ 1, 62, -EBADMSG, "object file" },
		{ 2, 62, -EBADMSG, "ELF program" },
		{ 3, 62, -EBADMSG, "program or library" },
		{ 0xff00, 62, -EBADMSG, "unknown type" },
		{ 4, 22, -ENOTSUP, "ELF type 22" },
	};
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		put_core(&blob, &(struct core){ .type = cases[i].type, .machine = cases[i].machine,
						.loads = &load, .load_count = 1 });
		image_refused(&blob, "", cases[i].code, cases[i].text);
		blob_free(&blob);
	}
	put_core(&blob, &(struct core){ .loads = process, .load_count = 2 });
	image_refused(&blob, "", -EBADMSG, "core of a process");
	blob_set(&blob, 5, 2, 1);
	image_refused(&blob, "", -ENOTSUP, "not little-endian");
	blob_set(&blob, 4, 3, 1);
	image_refused(&blob, "", -EBADMSG, "class 3");
	blob_free(&blob);
	put_core(&blob, &(struct core){ 0 });
	image_refused(&blob, "", -EBADMSG, "no segments");
	blob_free(&blob);
}
END_TEST

START_TEST(beyond_the_end)
{
	const struct load loads[] = {
		{ .gpa = 0, .len = 4 * PAGE },
		{ .gpa = 0x100000, .len = 8 * PAGE, .absent = 3 * PAGE + 100 },
	};
	struct blob blob = { 0 };
	put_core(&blob, &(struct core){ .loads = loads, .load_count = 2 });
	struct hvmi_vm *vm = image_open(&blob, "");
	check_memory(vm, 0, 4 * PAGE);
	check_memory(vm, 0x100000, 5 * PAGE - 100);
	check_absent(vm, 0x100000 + 5 * PAGE - 100, 3 * PAGE + 100);
	ck_assert_ptr_nonnull(strstr(log_text, "1 of 2 segments reach beyond"));
	hvmi_close(vm);
	/* Nothing of the memory is left. */
	blob.len = 64 + 2 * 56;
	image_refused(&blob, "", -EBADMSG, "cut short before its memory");
	blob_free(&blob);
}
END_TEST

/* Whatever is written there, opening ends, with what can be had or a sentence. */
static void try_open(const struct blob *blob)
{
	struct hvmi_vm *vm = NULL;
	struct hvmi_error err = { 0 };
	int fd = image_file(blob);
	int rc = hvmi_open(image_target(fd, ""), NULL, &vm, &err);
	if (rc)
		ck_assert_uint_gt(strlen(err.text), 20);
	hvmi_close(vm);
	ck_assert_int_eq(close(fd), 0);
}

START_TEST(damaged)
{
	struct blob notes = { 0 }, blob = { 0 };
	static const uint64_t values[] = { 0, 1, 0x7fffffff, 0xffffffff, 1ull << 63, UINT64_MAX,
					   UINT64_MAX - 4095 };
	put_qemu_notes(&notes);
	const struct load loads[] = { { .gpa = 0, .len = PAGE }, { .gpa = 0x4000, .len = PAGE } };
	put_core(&blob, &(struct core){ .notes = &notes, .loads = loads, .load_count = 2 });
	struct blob copy = { 0 };
	blob_put(&copy, blob.bytes, blob.len);
	for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++)
		for (size_t at = 4; at < 64 + 3 * 56 + 48; at += 4) {
			memcpy(copy.bytes, blob.bytes, blob.len);
			blob_set(&copy, at, values[i], 8);
			try_open(&copy);
			memcpy(copy.bytes, blob.bytes, blob.len);
			blob_set(&copy, at, values[i], 2);
			try_open(&copy);
		}
	memcpy(copy.bytes, blob.bytes, blob.len);
	for (copy.len = 1; copy.len < blob.len; copy.len += copy.len < 2000 ? 1 : 37)
		try_open(&copy);
	blob_free(&copy);
	blob_free(&blob);
	blob_free(&notes);
}
END_TEST

START_TEST(wrapping)
{
	struct blob blob = { 0 };
	const struct load load = { .gpa = UINT64_MAX - 2 * PAGE + 1, .len = 2 * PAGE };
	put_core(&blob, &(struct core){ .loads = &load, .load_count = 1 });
	image_refused(&blob, "", -EBADMSG, "wraps around");
	blob_free(&blob);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("dump_elf");
	TCase *tcase = tcase_create("dump_elf");
	tcase_add_test(tcase, qemu);
	tcase_add_test(tcase, vmcoreinfo);
	tcase_add_test(tcase, qemu_paging);
	tcase_add_test(tcase, overlapping);
	tcase_add_test(tcase, narrow);
	tcase_add_test(tcase, vmcore);
	tcase_add_test(tcase, arm64);
	tcase_add_test(tcase, virtualbox);
	tcase_add_test(tcase, many_segments);
	tcase_add_test(tcase, not_of_a_machine);
	tcase_add_test(tcase, beyond_the_end);
	tcase_add_test(tcase, damaged);
	tcase_add_test(tcase, wrapping);
	suite_add_tcase(suite, tcase);
	return run_suite(suite);
}
