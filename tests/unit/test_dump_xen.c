/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Cores of Xen. These images follow Xen's docs/misc/dump-core-format.txt and its public headers,
 * and were compared with those that Xen 4.17 writes of a PVH and a PV guest.
 */
#include "suite.h"
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "dump_build.h"

/* struct vcpu_guest_context of xen/include/public/arch-x86. */
struct context64 {
	uint8_t fpu[512];
	uint64_t flags;
	uint64_t r15, r14, r13, r12, rbp, rbx, r11, r10, r9, r8, rax, rcx, rdx, rsi, rdi;
	uint32_t error_code, entry_vector;
	uint64_t rip;
	uint16_t cs, pad[3];
	uint64_t rflags, rsp;
	uint16_t ss, pad_ss[3], es, pad_es[3], ds, pad_ds[3], fs, pad_fs[3], gs, pad_gs[3];
	uint8_t traps[256][16];
	uint64_t ldt_base, ldt_entries, gdt_frames[16], gdt_entries;
	uint64_t kernel_ss, kernel_sp, ctrlreg[8], debugreg[8];
	uint64_t callbacks[3], vm_assist;
	uint64_t fs_base, gs_base_kernel, gs_base_user;
};
_Static_assert(sizeof(struct context64) == 5168, "as Xen writes it");

struct context32 {
	uint8_t fpu[512];
	uint32_t flags;
	uint32_t ebx, ecx, edx, esi, edi, ebp, eax;
	uint16_t error_code, entry_vector;
	uint32_t eip;
	uint16_t cs, pad;
	uint32_t eflags, esp;
	uint16_t ss, pad_ss, es, pad_es, ds, pad_ds, fs, pad_fs, gs, pad_gs;
	uint8_t traps[256][8];
	uint32_t ldt_base, ldt_entries, gdt_frames[16], gdt_entries;
	uint32_t kernel_ss, kernel_sp, ctrlreg[8], debugreg[8];
	uint32_t callbacks[4], vm_assist;
};
_Static_assert(sizeof(struct context32) == 2800, "as Xen writes it");

static const uint64_t pfns[] = { 0, 1, 2, 3, 0x100, 0x101, 0x80, UINT64_MAX, 0x100000, 0x102 };
enum { PAGES = sizeof(pfns) / sizeof(pfns[0]) };

static void check_pages(struct hvmi_vm *vm)
{
	struct hvmi_range range;
	check_range(vm, 0, 0, 4 * PAGE);
	check_range(vm, 1, 0x80 * PAGE, PAGE);
	check_range(vm, 2, 0x100 * PAGE, 2 * PAGE);
	check_range(vm, 3, 0x102 * PAGE, PAGE);		/* elsewhere in the file */
	check_range(vm, 4, 0x100000ull * PAGE, PAGE);
	ck_assert_int_eq(hvmi_vm_range(vm, 5, &range), -ENOENT);
	for (int i = 0; i < PAGES; i++)
		if (pfns[i] != UINT64_MAX)
			check_memory(vm, pfns[i] * PAGE, PAGE);
	/* Across two ranges. */
	uint8_t byte[16];
	ck_assert_int_eq(hvmi_vm_read(vm, 0x102 * PAGE - 8, byte, 16, NULL), 0);
	for (int i = 0; i < 16; i++)
		ck_assert_uint_eq(byte[i], memory_at(0x102 * PAGE - 8 + i));
	check_absent(vm, 4 * PAGE, PAGE);
	check_absent(vm, UINT64_MAX - PAGE + 1, PAGE - 1);
}

START_TEST(hvm)
{
	struct context64 contexts[2] = {
		{ .r15 = 1, .r12 = 2, .rbp = 3, .rbx = 4, .r8 = 5, .rax = 6, .rdi = 7, .rip = 8,
		  .cs = 0x10, .rflags = 9, .rsp = 10, .ss = 0x18, .es = 11, .ds = 12, .fs = 13,
		  .gs = 14, .ctrlreg = { 0x20, 0, 0x22, 0x23, 0x24 },
		  .debugreg = { 0x30, 0x31, 0x32, 0x33, 0, 0, 0x36, 0x37 }, .fs_base = 0x40,
		  .gs_base_kernel = 0x41, .gs_base_user = 0x42 },
		{ .cs = 0x33, .gs_base_kernel = 0x51, .gs_base_user = 0x52 },
	};
	struct blob blob = { 0 };
	put_xen_core(&blob, &(struct xen_core){ .pfns = pfns, .pages = PAGES, .contexts = contexts,
						.context_len = sizeof(contexts[0]), .vcpus = 2 });
	struct hvmi_vm *vm = image_open(&blob, "");
	check_format(vm, "ELF core (Xen HVM)");
	check_pages(vm);
	check_register(vm, 0, HVMI_X86_R15, 1);
	check_register(vm, 0, HVMI_X86_R12, 2);
	check_register(vm, 0, HVMI_X86_RBP, 3);
	check_register(vm, 0, HVMI_X86_RBX, 4);
	check_register(vm, 0, HVMI_X86_R8, 5);
	check_register(vm, 0, HVMI_X86_RAX, 6);
	check_register(vm, 0, HVMI_X86_RDI, 7);
	check_register(vm, 0, HVMI_X86_RIP, 8);
	check_register(vm, 0, HVMI_X86_CS_SELECTOR, 0x10);
	check_register(vm, 0, HVMI_X86_RFLAGS, 9);
	check_register(vm, 0, HVMI_X86_RSP, 10);
	check_register(vm, 0, HVMI_X86_SS_SELECTOR, 0x18);
	check_register(vm, 0, HVMI_X86_ES_SELECTOR, 11);
	check_register(vm, 0, HVMI_X86_DS_SELECTOR, 12);
	check_register(vm, 0, HVMI_X86_FS_SELECTOR, 13);
	check_register(vm, 0, HVMI_X86_GS_SELECTOR, 14);
	check_register(vm, 0, HVMI_X86_CR0, 0x20);
	check_register(vm, 0, HVMI_X86_CR2, 0x22);
	check_register(vm, 0, HVMI_X86_CR3, 0x23);
	check_register(vm, 0, HVMI_X86_CR4, 0x24);
	check_register(vm, 0, HVMI_X86_DR0, 0x30);
	check_register(vm, 0, HVMI_X86_DR3, 0x33);
	check_register(vm, 0, HVMI_X86_DR6, 0x36);
	check_register(vm, 0, HVMI_X86_DR7, 0x37);
	check_register(vm, 0, HVMI_X86_FS_BASE, 0x40);
	check_register(vm, 0, HVMI_X86_GS_BASE, 0x41);
	check_register(vm, 0, HVMI_X86_KERNEL_GS_BASE, 0x42);
	check_register(vm, 1, HVMI_X86_GS_BASE, 0x52);
	check_register(vm, 1, HVMI_X86_KERNEL_GS_BASE, 0x51);
	check_no_register(vm, 0, HVMI_X86_LSTAR);
	ck_assert_str_eq(log_text, "");
	hvmi_close(vm);
	blob_free(&blob);
}
END_TEST

START_TEST(pv)
{
	struct context32 context = { .ebx = 1, .ecx = 2, .edi = 3, .eax = 4, .eip = 5, .cs = 0x61,
				     .eflags = 6, .esp = 7, .ss = 8, .gs = 9,
				     .ctrlreg = { 0x20, 0, 0x22, 0x23, 0x24 },
				     .debugreg = { 0x30, [7] = 0x37 } };
	struct blob blob = { 0 };
	put_xen_core(&blob, &(struct xen_core){ .pv = true, .pfns = pfns, .pages = PAGES,
						.contexts = &context,
						.context_len = sizeof(context), .vcpus = 1 });
	struct hvmi_vm *vm = image_open(&blob, "");
	check_format(vm, "ELF core (Xen PV)");
	ck_assert_ptr_nonnull(strstr(log_text, "machine addresses"));
	check_pages(vm);
	check_register(vm, 0, HVMI_X86_RBX, 1);
	check_register(vm, 0, HVMI_X86_RCX, 2);
	check_register(vm, 0, HVMI_X86_RDI, 3);
	check_register(vm, 0, HVMI_X86_RAX, 4);
	check_register(vm, 0, HVMI_X86_RIP, 5);
	check_register(vm, 0, HVMI_X86_CS_SELECTOR, 0x61);
	check_register(vm, 0, HVMI_X86_RFLAGS, 6);
	check_register(vm, 0, HVMI_X86_RSP, 7);
	check_register(vm, 0, HVMI_X86_SS_SELECTOR, 8);
	check_register(vm, 0, HVMI_X86_GS_SELECTOR, 9);
	check_register(vm, 0, HVMI_X86_CR0, 0x20);
	check_register(vm, 0, HVMI_X86_CR2, 0x22);
	check_register(vm, 0, HVMI_X86_CR4, 0x24);
	check_register(vm, 0, HVMI_X86_DR0, 0x30);
	check_register(vm, 0, HVMI_X86_DR7, 0x37);
	check_no_register(vm, 0, HVMI_X86_CR3);
	hvmi_close(vm);
	blob_free(&blob);
}
END_TEST

START_TEST(pv_of_64_bits)
{
	/* Both in ring 3: the flag VGCF_in_kernel tells the kernel. */
	struct context64 contexts[2] = {
		{ .flags = 0x3d, .cs = 0xe033, .gs_base_kernel = 0x41, .gs_base_user = 0x42 },
		{ .flags = 0x31, .cs = 0xe033, .gs_base_kernel = 0x51, .gs_base_user = 0x52 },
	};
	struct blob blob = { 0 };
	put_xen_core(&blob, &(struct xen_core){ .pv = true, .pfns = pfns, .pages = PAGES,
						.contexts = contexts,
						.context_len = sizeof(contexts[0]), .vcpus = 2 });
	struct hvmi_vm *vm = image_open(&blob, "");
	check_register(vm, 0, HVMI_X86_GS_BASE, 0x41);
	check_register(vm, 0, HVMI_X86_KERNEL_GS_BASE, 0x42);
	check_register(vm, 1, HVMI_X86_GS_BASE, 0x52);
	check_register(vm, 1, HVMI_X86_KERNEL_GS_BASE, 0x51);
	check_no_register(vm, 0, HVMI_X86_CR3);
	struct hvmi_os *os;
	struct hvmi_error err;
	ck_assert_int_eq(hvmi_os_attach(vm, NULL, &os, &err), -ENOENT);
	ck_assert_ptr_nonnull(strstr(err.text, "PV guest of Xen"));
	hvmi_close(vm);
	blob_free(&blob);
}
END_TEST

START_TEST(unknown_contexts)
{
	uint8_t contexts[2 * 1000] = { 0 };
	struct blob blob = { 0 };
	struct hvmi_vm_info info = { .size = sizeof(info) };
	put_xen_core(&blob, &(struct xen_core){ .pfns = pfns, .pages = PAGES, .contexts = contexts,
						.context_len = 1000, .vcpus = 2 });
	struct hvmi_vm *vm = image_open(&blob, "");
	check_pages(vm);
	ck_assert_int_eq(hvmi_vm_get_info(vm, &info), 0);
	ck_assert_uint_eq(info.vcpus, 0);
	ck_assert_ptr_nonnull(strstr(log_text, "contexts of 1000 bytes"));
	hvmi_close(vm);
	blob_free(&blob);
}
END_TEST

START_TEST(damaged)
{
	static const uint64_t values[] = { 0, 1, 0xffffffff, 1ull << 62, UINT64_MAX - 4095 };
	struct blob blob = { 0 }, copy = { 0 };
	put_xen_core(&blob, &(struct xen_core){ .pfns = pfns, .pages = PAGES });
	blob_put(&copy, blob.bytes, blob.len);
	size_t tail = blob.len - 200;
	for (size_t round = 0; round < 6; round++)
		for (size_t at = 4; at + 8 <= blob.len; at += 4) {
			struct hvmi_vm *vm = NULL;
			if (at == 1024)
				at = tail / 4 * 4;
			copy.len = blob.len;
			memcpy(copy.bytes, blob.bytes, blob.len);
			if (round < 5)
				blob_set(&copy, at, values[round], 8);
			else
				copy.len = at;
			int fd = image_file(&copy);
			hvmi_open(image_target(fd, ""), NULL, &vm, NULL);
			hvmi_close(vm);
			close(fd);
		}
	copy.len = tail;
	image_refused(&copy, "", -EBADMSG, "copy it again");
	memcpy(copy.bytes, blob.bytes, blob.len);
	copy.len = blob.len;
	/* The number of the format's version, the notes' last 8 bytes. */
	blob_set(&copy, 64 + 6 * 64 + 16 + 16 + 32 + 16 + 4, 7, 4);
	image_refused(&copy, "", -ENOTSUP, "version 7.1");
	memcpy(copy.bytes, blob.bytes, blob.len);
	blob_set(&copy, 64 + 6 * 64 + 16 + 16 + 24, 65536, 8);
	image_refused(&copy, "", -ENOTSUP, "pages of 65536 bytes");
	blob_set(&copy, 64 + 6 * 64 + 16 + 16, 1, 8);
	image_refused(&copy, "", -EBADMSG, "header note");
	blob_free(&copy);
	blob_free(&blob);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("dump_xen");
	TCase *tcase = tcase_create("dump_xen");
	tcase_add_test(tcase, hvm);
	tcase_add_test(tcase, pv);
	tcase_add_test(tcase, pv_of_64_bits);
	tcase_add_test(tcase, unknown_contexts);
	tcase_add_test(tcase, damaged);
	suite_add_tcase(suite, tcase);
	return run_suite(suite);
}
