/* SPDX-License-Identifier: Apache-2.0 */
/* Crash dumps of Windows, in each way in which they say what they hold. */
#include "suite.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "dump_build.h"

enum { FULL = 1, KERNEL = 2, SMALL = 4, BITMAP = 5, RANGES = 8 };

/* Runs of pages that a machine has: the hole is that of PCs. */
static const struct run {
	uint64_t pfn, count;
} runs[] = { { 1, 0x9e }, { 0x100, 0x22 }, { 0x123, 1 }, { 0x100000, 9 } };
#define RUNS (sizeof(runs) / sizeof(runs[0]))

/* A header as Windows makes it: filled with "PAGE", then with what is known. */
static void put_header(struct blob *blob, bool wide, uint32_t type, bool pae)
{
	static const char filler[] = "PAGE";
	for (uint32_t i = 0; i < (wide ? 0x2000 : 0x1000) / 4; i++)
		blob_put(blob, filler, 4);
	blob_set(blob, 4, wide ? 0x34365544 : 0x504d5544, 4);
	blob_set(blob, 8, 15, 4);
	blob_set(blob, 12, wide ? 19041 : 2600, 4);
	if (wide) {
		blob_set(blob, 0x10, 0x1ad000, 8);
		blob_set(blob, 0x20, 0xfffff80012345678, 8);
		blob_set(blob, 0x28, 0xfffff80012345690, 8);
		blob_set(blob, 0x30, 0x8664, 4);
		blob_set(blob, 0x34, 4, 4);
		blob_set(blob, 0x38, 0xe2, 4);
		blob_set(blob, 0x80, 0xfffff80011111110, 8);
		blob_set(blob, 0xf98, type, 4);
		return;
	}
	blob_set(blob, 0x10, 0x39000, 4);
	blob_set(blob, 0x18, 0x80553fc0, 4);
	blob_set(blob, 0x1c, 0x8055a158, 4);
	blob_set(blob, 0x20, 0x14c, 4);
	blob_set(blob, 0x24, 1, 4);
	blob_set(blob, 0x5c, pae, 1);
	blob_set(blob, 0x60, 0x80545ae0, 4);
	blob_set(blob, 0xf88, type, 4);
}

static void put_memory(struct blob *blob)
{
	for (size_t i = 0; i < RUNS; i++)
		blob_memory(blob, runs[i].pfn * PAGE, runs[i].count * PAGE);
}

static void put_full(struct blob *blob, bool wide, bool pae)
{
	size_t word = wide ? 8 : 4, at = wide ? 0x88 : 0x64;
	put_header(blob, wide, FULL, pae);
	blob_set(blob, at, RUNS, 4);
	for (size_t i = 0; i < RUNS; i++) {
		blob_set(blob, at + word * (2 + 2 * i), runs[i].pfn, word);
		blob_set(blob, at + word * (3 + 2 * i), runs[i].count, word);
	}
	put_memory(blob);
}

/* A bitmap behind whatever header it has. */
static void put_bits(struct blob *blob, uint64_t bits)
{
	size_t start = blob->len;
	blob_zeros(blob, (bits + 7) / 8);
	for (size_t i = 0; i < RUNS; i++)
		for (uint64_t pfn = runs[i].pfn; pfn < runs[i].pfn + runs[i].count; pfn++)
			blob->bytes[start + pfn / 8] |= (uint8_t)(1u << pfn % 8);
	blob_align(blob, PAGE);
}

static void put_bitmap(struct blob *blob, const char *magic)
{
	const uint64_t bits = 0x100009;
	put_header(blob, true, BITMAP, false);
	blob_put(blob, magic, 8);
	blob_zeros(blob, 0x30);
	blob_set(blob, 0x2030, bits, 8);
	put_bits(blob, bits);
	blob_set(blob, 0x2020, blob->len, 8);
	put_memory(blob);
}

static void put_kernel(struct blob *blob, bool wide)
{
	const uint64_t bits = 0x100010;
	size_t start = wide ? 0x2000 : 0x1000;
	put_header(blob, wide, KERNEL, true);
	blob_put(blob, "SDMPDUMP", 8);
	blob_zeros(blob, wide ? 0x20 : 0x18);
	blob_set(blob, start + 0x10, bits, 4);
	put_bits(blob, bits);
	blob_set(blob, start + 0xc, blob->len, 4);
	put_memory(blob);
}

static void put_ranges(struct blob *blob)
{
	put_header(blob, true, RANGES, false);
	blob_number(blob, 0x40, 4);
	blob_put(blob, "RDMPDUMP", 8);
	blob_zeros(blob, 0x24);
	for (size_t i = 0; i < RUNS; i++) {
		blob_number(blob, runs[i].pfn, 8);
		blob_number(blob, runs[i].count, 8);
	}
	blob_align(blob, PAGE);
	blob_set(blob, 0x2018, blob->len, 8);
	blob_set(blob, 0x2010, blob->len - 0x2020, 8);
	put_memory(blob);
}

static void check_image(const struct blob *blob, const char *format)
{
	struct hvmi_vm *vm = image_open(blob, "");
	check_format(vm, format);
	for (size_t i = 0; i < RUNS; i++) {
		check_range(vm, (uint32_t)i, runs[i].pfn * PAGE, runs[i].count * PAGE);
		check_memory(vm, runs[i].pfn * PAGE, runs[i].count * PAGE);
	}
	check_absent(vm, 0, PAGE);
	check_absent(vm, 0x122 * PAGE, PAGE);
	struct hvmi_vm_info info = { .size = sizeof(info) };
	ck_assert_int_eq(hvmi_vm_get_info(vm, &info), 0);
	ck_assert_uint_eq(info.ranges, RUNS);
	ck_assert_uint_eq(info.arch, HVMI_ARCH_X86);
	ck_assert_str_eq(log_text, "");
	hvmi_close(vm);
}

START_TEST(kinds)
{
	struct blob blob = { 0 };
	put_full(&blob, true, false);
	check_image(&blob, "Windows crash dump (full, x64)");
	blob_free(&blob);
	put_full(&blob, false, false);
	check_image(&blob, "Windows crash dump (full, x86)");
	blob_free(&blob);
	put_full(&blob, false, true);
	check_image(&blob, "Windows crash dump (full, x86 PAE)");
	blob_free(&blob);
	put_bitmap(&blob, "FDMPDUMP");
	check_image(&blob, "Windows crash dump (bitmap, x64)");
	blob_set(&blob, 0xf98, 6, 4);
	check_image(&blob, "Windows crash dump (kernel bitmap, x64)");
	blob_free(&blob);
	put_bitmap(&blob, "SDMPDUMP");
	check_image(&blob, "Windows crash dump (bitmap, x64)");
	blob_free(&blob);
	put_kernel(&blob, true);
	check_image(&blob, "Windows crash dump (kernel, x64)");
	blob_free(&blob);
	put_kernel(&blob, false);
	check_image(&blob, "Windows crash dump (kernel, x86 PAE)");
	blob_free(&blob);
	put_ranges(&blob);
	check_image(&blob, "Windows crash dump (kernel ranges, x64)");
	blob_free(&blob);
}
END_TEST

START_TEST(registers)
{
	struct blob blob = { 0 };
	put_full(&blob, true, false);
	struct hvmi_vm *vm = image_open(&blob, "");
	/* There is no context: "PAGE" is where it would be. */
	check_register(vm, 0, HVMI_X86_CR3, 0x1ad000);
	check_no_register(vm, 0, HVMI_X86_RIP);
	check_no_register(vm, 0, HVMI_X86_CR4);
	hvmi_close(vm);
	blob_set(&blob, 0x348 + 0x30, 0x10000b, 4);
	blob_set(&blob, 0x348 + 0x38, 0x10, 2);
	blob_set(&blob, 0x348 + 0x44, 0x246, 4);
	blob_set(&blob, 0x348 + 0x78, 0x1122334455667788, 8);
	blob_set(&blob, 0x348 + 0x98, 0xffffa001, 8);
	blob_set(&blob, 0x348 + 0xf0, 15, 8);
	blob_set(&blob, 0x348 + 0xf8, 0xfffff80411112222, 8);
	vm = image_open(&blob, "");
	check_register(vm, 0, HVMI_X86_CS_SELECTOR, 0x10);
	check_register(vm, 0, HVMI_X86_RFLAGS, 0x246);
	check_register(vm, 0, HVMI_X86_RAX, 0x1122334455667788);
	check_register(vm, 0, HVMI_X86_RSP, 0xffffa001);
	check_register(vm, 0, HVMI_X86_R15, 15);
	check_register(vm, 0, HVMI_X86_RIP, 0xfffff80411112222);
	hvmi_close(vm);
	blob_free(&blob);

	put_full(&blob, false, true);
	blob_set(&blob, 0x320, 0x1003f, 4);
	blob_set(&blob, 0x320 + 0x90, 0x30, 2);
	blob_set(&blob, 0x320 + 0xb0, 0xaabb, 4);
	blob_set(&blob, 0x320 + 0xb8, 0x804d9000, 4);
	blob_set(&blob, 0x320 + 0xc4, 0xf78a0000, 4);
	vm = image_open(&blob, "");
	check_register(vm, 0, HVMI_X86_CR3, 0x39000);
	check_register(vm, 0, HVMI_X86_FS_SELECTOR, 0x30);
	check_register(vm, 0, HVMI_X86_RAX, 0xaabb);
	check_register(vm, 0, HVMI_X86_RIP, 0x804d9000);
	check_register(vm, 0, HVMI_X86_RSP, 0xf78a0000);
	hvmi_close(vm);
	blob_free(&blob);
}
END_TEST

/* A machine of 16 pages: tables, KDDEBUGGER_DATA64, KiProcessorBlock, two KPRCBs. */
enum {
	TABLE = 0x1000, LOWER = 0x2000, LOWEST = 0x3000, DEBUGGER = 0x4000, BLOCK = 0x5000,
	PRCB = 0x6000, PRCB_STEP = 0x2000, ELSEWHERE = 0xa000, SEGMENTS = 0xb000, PAGES = 16,
	NUMBER = 0x24, SPECIAL = 0x100, SAVED = 0x200, POINTER = 0x800, HEADER_CONTEXT = 0x348,
};
enum paging { TWO, PAE, FOUR, FOUR_LARGE, FIVE };

static size_t at_memory(bool wide, uint64_t gpa)
{
	return (wide ? 0x2000 : 0x1000) + gpa;
}

static uint64_t kernel_base(enum paging paging)
{
	return paging <= PAE ? 0x80000000 : paging == FIVE ? 0xff11000000000000 : 0xfffff80000000000;
}

/* The kernel's base leads to gpa 0, by pages of 4 MiB, 2 MiB, 4 KiB, 1 GiB and 2 MiB. */
static void put_tables(struct blob *blob, enum paging paging)
{
	size_t root = at_memory(paging > PAE, TABLE), lower = at_memory(paging > PAE, LOWER);
	size_t lowest = at_memory(paging > PAE, LOWEST);
	switch (paging) {
	case TWO:
		blob_set(blob, root + 4 * 0x200, 0x83, 4);
		break;
	case PAE:
		blob_set(blob, root + 8 * 2, LOWER | 1, 8);
		blob_set(blob, lower, 0x83, 8);
		break;
	case FOUR:
		blob_set(blob, root + 8 * 0x1f0, LOWER | 3, 8);
		blob_set(blob, lower, LOWEST | 3, 8);
		/* As directory it is its own table. */
		blob_set(blob, lowest, LOWEST | 3, 8);
		for (uint64_t i = 1; i < PAGES; i++)
			blob_set(blob, lowest + 8 * i, i << 12 | 3, 8);
		break;
	case FOUR_LARGE:
		blob_set(blob, root + 8 * 0x1f0, LOWER | 3, 8);
		blob_set(blob, lower, 0x83, 8);
		break;
	case FIVE:
		blob_set(blob, root + 8 * 0x111, LOWER | 3, 8);
		blob_set(blob, lower, LOWEST | 3, 8);
		blob_set(blob, lowest, 0x83, 8);
		break;
	}
}

static void put_saved(struct blob *blob, bool wide, size_t at, uint64_t rip)
{
	blob_set(blob, at + (wide ? 0x30 : 0), wide ? 0x10000f : 0x1001f, 4);
	blob_set(blob, at + (wide ? 0xf8 : 0xb8), rip, wide ? 8 : 4);
	blob_set(blob, at + (wide ? 0x98 : 0xc4), rip + 0x1000, wide ? 8 : 4);
	if (!wide)
		blob_set(blob, at + 0x90, 0x30, 2);
}

static void put_processors(struct blob *blob, enum paging paging)
{
	bool wide = paging > PAE;
	size_t word = wide ? 8 : 4, runs_at = wide ? 0x88 : 0x64, block = at_memory(wide, DEBUGGER);
	uint64_t base = kernel_base(paging);
	put_header(blob, wide, FULL, paging == PAE);
	blob_set(blob, 0x10, TABLE, word);
	blob_set(blob, wide ? 0x34 : 0x24, 2, 4);
	blob_set(blob, wide ? 0x80 : 0x60, base + DEBUGGER, word);
	blob_set(blob, runs_at, 1, 4);
	blob_set(blob, runs_at + 2 * word, 0, word);
	blob_set(blob, runs_at + 3 * word, PAGES, word);
	blob_zeros(blob, PAGES * PAGE);
	put_tables(blob, paging);
	blob_set(blob, block + 0x10, 0x4742444b, 4);
	blob_set(blob, block + 0x14, 0x340, 4);
	blob_set(blob, block + 0x218, base + BLOCK, 8);
	blob_set(blob, block + 0x2bc, SAVED, 2);
	blob_set(blob, block + 0x2be, NUMBER, 2);
	blob_set(blob, block + 0x2f2, SPECIAL, 2);
	blob_set(blob, block + 0x338, POINTER, 2);
	for (uint32_t i = 0; i < 2; i++) {
		size_t prcb = at_memory(wide, PRCB + PRCB_STEP * i), special = prcb + SPECIAL;
		blob_set(blob, at_memory(wide, BLOCK) + i * word, base + PRCB + PRCB_STEP * i, word);
		blob_set(blob, prcb + NUMBER, i, 4);
		blob_set(blob, special, 0x80050033, 4);
		blob_set(blob, special + 2 * word, TABLE + 0x100000 * i, word);
		if (wide)
			blob_set(blob, special + 0xa8, base + PRCB_STEP * i, 8);
		else
			blob_set(blob, special + 0x2c, base + SEGMENTS, 4);
		/* That of the second is elsewhere. */
		put_saved(blob, wide, i ? at_memory(wide, ELSEWHERE) : prcb + SAVED, 0x81000000 + i);
		if (i)
			blob_set(blob, prcb + POINTER, base + ELSEWHERE, word);
	}
	/* The descriptor with selector 0x30: data at 0x12345678. */
	blob_set(blob, at_memory(wide, SEGMENTS) + 0x32, 0x345678, 3);
	blob_set(blob, at_memory(wide, SEGMENTS) + 0x35, 0x93, 1);
	blob_set(blob, at_memory(wide, SEGMENTS) + 0x37, 0x12, 1);
}

static uint32_t count_vcpus(struct hvmi_vm *vm)
{
	struct hvmi_vm_info info = { .size = sizeof(info) };
	ck_assert_int_eq(hvmi_vm_get_info(vm, &info), 0);
	return info.vcpus;
}

START_TEST(processors)
{
	for (enum paging paging = TWO; paging <= FIVE; paging++) {
		struct blob blob = { 0 };
		put_processors(&blob, paging);
		struct hvmi_vm *vm = image_open(&blob, "");
		ck_assert_uint_eq(count_vcpus(vm), 2);
		for (uint32_t i = 0; i < 2; i++) {
			check_register(vm, i, HVMI_X86_RIP, 0x81000000 + i);
			check_register(vm, i, HVMI_X86_RSP, 0x81001000 + i);
			check_register(vm, i, HVMI_X86_CR0, 0x80050033);
			check_register(vm, i, HVMI_X86_CR3, TABLE + 0x100000 * i);
			if (paging > PAE)
				check_register(vm, i, HVMI_X86_GS_BASE,
					       kernel_base(paging) + PRCB_STEP * i);
			else
				check_register(vm, i, HVMI_X86_FS_BASE, 0x12345678);
		}
		hvmi_close(vm);
		blob_free(&blob);
	}
}
END_TEST

START_TEST(crashed_processor)
{
	struct blob blob = { 0 };
	put_processors(&blob, FOUR);
	/* The header's is the second's, and knows more. */
	put_saved(&blob, true, HEADER_CONTEXT, 0x81000001);
	blob_set(&blob, HEADER_CONTEXT + 0x78, 0xabcd, 8);
	struct hvmi_vm *vm = image_open(&blob, "");
	check_register(vm, 0, HVMI_X86_RAX, 0);
	check_register(vm, 1, HVMI_X86_RAX, 0xabcd);
	check_register(vm, 1, HVMI_X86_CR3, TABLE);
	hvmi_close(vm);
	/* It is of neither. */
	put_saved(&blob, true, HEADER_CONTEXT, 0x82000000);
	vm = image_open(&blob, "");
	check_register(vm, 0, HVMI_X86_RIP, 0x81000000);
	check_register(vm, 1, HVMI_X86_RIP, 0x81000001);
	hvmi_close(vm);
	/* It is of the one whose is not there. */
	blob_set(&blob, at_memory(true, ELSEWHERE) + 0x30, 0, 4);
	vm = image_open(&blob, "");
	check_register(vm, 0, HVMI_X86_RIP, 0x81000000);
	check_register(vm, 1, HVMI_X86_RIP, 0x82000000);
	check_register(vm, 1, HVMI_X86_GS_BASE, kernel_base(FOUR) + PRCB_STEP);
	hvmi_close(vm);
	blob_free(&blob);
}
END_TEST

/* Changes of put_processors(), and how many processors are told then. */
static const struct {
	size_t at;
	uint64_t value;
	size_t bytes;
	uint32_t vcpus;
} hostile[] = {
	{ 0x34, UINT32_MAX, 4, 2 },			/* more processors than there can be */
	{ 0x34, 0, 4, 1 },
	{ 0x80, 0x4141414141414141, 8, 1 },		/* wild debugger data */
	{ 0x10, 0xfffffffffffff000, 8, 1 },		/* a root that does not exist */
	{ 0x2000 + DEBUGGER + 0x10, 0, 4, 1 },		/* encoded */
	{ 0x2000 + DEBUGGER + 0x14, UINT32_MAX, 4, 2 },
	{ 0x2000 + DEBUGGER + 0x14, 0x290, 4, 1 },	/* as of XP, which is not of 64 bits */
	{ 0x2000 + DEBUGGER + 0x218, 0x4141414141414141, 8, 1 },
	{ 0x2000 + DEBUGGER + 0x218, 0xfffff80000000000 + PAGES * 0x1000 - 4, 8, 1 },
	{ 0x2000 + DEBUGGER + 0x2bc, 0xffff, 2, 2 },
	{ 0x2000 + DEBUGGER + 0x338, 0xffff, 2, 2 },
	{ 0x2000 + BLOCK + 8, 0xfffff80000000000 + PRCB, 8, 1 },	/* one twice */
	{ 0x2000 + BLOCK + 8, 0x41414141, 8, 1 },
	{ 0x2000 + PRCB + PRCB_STEP + POINTER, 0x8000000000000000, 8, 2 },
	/* Tables that are what they map. */
	{ 0x2000 + LOWER, LOWER | 3, 8, 1 },
	{ 0x2000 + LOWEST + 8 * (BLOCK >> 12), LOWEST | 3, 8, 1 },
};

START_TEST(hostile_processors)
{
	for (size_t i = 0; i < sizeof(hostile) / sizeof(hostile[0]); i++) {
		struct blob blob = { 0 };
		put_processors(&blob, FOUR);
		blob_set(&blob, hostile[i].at, hostile[i].value, hostile[i].bytes);
		struct hvmi_vm *vm = image_open(&blob, "");
		ck_assert_msg(count_vcpus(vm) == hostile[i].vcpus, "case %zu: %u vCPUs", i,
			      count_vcpus(vm));
		hvmi_close(vm);
		blob_free(&blob);
	}
}
END_TEST

START_TEST(note)
{
	struct blob blob = { 0 };
	char text[1024];
	size_t len;
	put_full(&blob, true, false);
	struct hvmi_vm *vm = image_open(&blob, "");
	ck_assert_int_eq(hvmi_vm_note(vm, "WINDOWS-DUMP", text, sizeof(text) - 1, &len), 0);
	text[len] = '\0';
	ck_assert_ptr_nonnull(strstr(text, "KdDebuggerDataBlock=0xfffff80011111110\n"));
	ck_assert_ptr_nonnull(strstr(text, "PsLoadedModuleList=0xfffff80012345678\n"));
	ck_assert_ptr_nonnull(strstr(text, "PsActiveProcessHead=0xfffff80012345690\n"));
	ck_assert_ptr_nonnull(strstr(text, "DirectoryTableBase=0x1ad000\n"));
	ck_assert_ptr_nonnull(strstr(text, "MinorVersion=19041\n"));
	ck_assert_ptr_nonnull(strstr(text, "BugCheckCode=0xe2\n"));
	ck_assert_int_eq(hvmi_vm_note(vm, "WINDOWS-DUMP", text, 10, &len), -EOVERFLOW);
	ck_assert_int_eq(hvmi_vm_note(vm, "VMCOREINFO", text, sizeof(text), &len), -ENOENT);
	hvmi_close(vm);
	blob_free(&blob);
	put_full(&blob, false, true);
	vm = image_open(&blob, "");
	ck_assert_int_eq(hvmi_vm_note(vm, "WINDOWS-DUMP", text, sizeof(text) - 1, &len), 0);
	text[len] = '\0';
	ck_assert_ptr_nonnull(strstr(text, "PaeEnabled=1\n"));
	ck_assert_ptr_nonnull(strstr(text, "KdDebuggerDataBlock=0x80545ae0\n"));
	hvmi_close(vm);
	blob_free(&blob);
}
END_TEST

START_TEST(arm64)
{
	struct blob blob = { 0 };
	put_full(&blob, true, false);
	blob_set(&blob, 0x30, 0xaa64, 4);
	struct hvmi_vm *vm = image_open(&blob, "");
	struct hvmi_vm_info info = { .size = sizeof(info) };
	ck_assert_int_eq(hvmi_vm_get_info(vm, &info), 0);
	ck_assert_uint_eq(info.arch, HVMI_ARCH_ARM64);
	ck_assert_uint_eq(info.vcpus, 0);
	check_memory(vm, PAGE, 0x9e * PAGE);
	hvmi_close(vm);
	blob_free(&blob);
}
END_TEST

START_TEST(cut_short)
{
	struct blob blob = { 0 };
	put_bitmap(&blob, "FDMPDUMP");
	blob.len -= 3 * PAGE + 5;
	struct hvmi_vm *vm = image_open(&blob, "");
	check_memory(vm, 0x100000ull * PAGE, 5 * PAGE);
	check_absent(vm, 0x100005ull * PAGE, PAGE);
	ck_assert_ptr_nonnull(strstr(log_text, "4 pages of memory are absent"));
	hvmi_close(vm);
	blob_free(&blob);
}
END_TEST

START_TEST(damaged)
{
	struct blob blob = { 0 };
	put_header(&blob, true, SMALL, false);
	image_refused(&blob, "", -ENOTSUP, "small dump");
	blob_set(&blob, 0xf98, 77, 4);
	image_refused(&blob, "", -ENOTSUP, "type 77");
	blob_set(&blob, 0xf98, FULL, 4);
	image_refused(&blob, "", -EBADMSG, "runs of memory");
	blob_set(&blob, 0x88, 43, 4);
	image_refused(&blob, "", -EBADMSG, "43 runs");
	blob_set(&blob, 0x88, 1, 4);
	blob_set(&blob, 0x98, UINT64_MAX / 2, 8);
	image_refused(&blob, "", -EBADMSG, "which no machine has");
	blob_set(&blob, 0xf98, BITMAP, 4);
	image_refused(&blob, "", -EBADMSG, "bitmap");
	blob_free(&blob);
	put_bitmap(&blob, "FDMPDUMP");
	blob_set(&blob, 0x2030, UINT64_MAX, 8);
	image_refused(&blob, "", -EBADMSG, "too large");
	blob_set(&blob, 0x2000, 0, 4);
	image_refused(&blob, "", -EBADMSG, "bitmap header");
	blob_free(&blob);
	put_ranges(&blob);
	blob_set(&blob, 0x2018, UINT64_MAX, 8);
	image_refused(&blob, "", -EBADMSG, "ranges");
	blob.len = 0x1800;
	image_refused(&blob, "", -EBADMSG, "header");
	blob_free(&blob);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("dump_crash");
	TCase *cases = tcase_create("dump_crash");
	tcase_add_test(cases, kinds);
	tcase_add_test(cases, registers);
	tcase_add_test(cases, processors);
	tcase_add_test(cases, crashed_processor);
	tcase_add_test(cases, hostile_processors);
	tcase_add_test(cases, note);
	tcase_add_test(cases, arm64);
	tcase_add_test(cases, cut_short);
	tcase_add_test(cases, damaged);
	suite_add_tcase(suite, cases);
	return run_suite(suite);
}
