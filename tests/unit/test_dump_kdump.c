/* SPDX-License-Identifier: Apache-2.0 */
/* kdump-compressed images, plain and flattened. */
#include "suite.h"
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "dump_build.h"

#define FRAMES 0x10200u

/* 64 MiB and a piece above, with a hole for devices in the first. */
static bool ram(uint64_t pfn)
{
	return pfn < 0x4000 ? pfn < 0xa0 || pfn >= 0x100 : pfn >= 0x10000 && pfn < 0x10100;
}

/* What a filter left: a few pages here and there, of the first MiB all. */
static bool dumped(uint64_t pfn)
{
	return ram(pfn) && (pfn < 0x100 || pfn % 64 < 3 || pfn >= 0x10000);
}

static void put_image(struct blob *blob, bool narrow, const struct blob *notes)
{
	put_kdump(blob, &(struct kdump){ .narrow = narrow, .frames = FRAMES, .ram = ram,
					 .dumped = dumped, .notes = notes,
#ifdef HVMI_HAVE_SNAPPY
					 .snappy = true,
#endif
					 .vmcoreinfo = "OSRELEASE=6.1.0\nPAGESIZE=4096\n" });
}

#ifdef HVMI_HAVE_KDUMPFILE

static void check_image(struct hvmi_vm *vm)
{
	struct hvmi_range range;
	uint8_t page[PAGE];
	check_range(vm, 0, 0, 0xa0 * PAGE);
	check_range(vm, 1, 0x100 * PAGE, 0x3f00 * PAGE);
	check_range(vm, 2, 0x10000ull * PAGE, 0x100 * PAGE);
	ck_assert_int_eq(hvmi_vm_range(vm, 3, &range), -ENOENT);
	check_memory(vm, 0, 0xa0 * PAGE);
	check_memory(vm, 0x100 * PAGE, 3 * PAGE);
	check_memory(vm, 0x10000ull * PAGE, 0x100 * PAGE);
	check_absent(vm, 0xa0 * PAGE, 0x60 * PAGE);
	for (uint64_t pfn = 0x100; pfn < 0x4000; pfn += 13)
		ck_assert_int_eq(hvmi_vm_read(vm, pfn * PAGE, page, PAGE, NULL),
				 dumped(pfn) ? 0 : -EFAULT);
	/* A read goes as far as pages are there. */
	uint8_t buf[8 * PAGE];
	size_t done;
	ck_assert_int_eq(hvmi_vm_read(vm, 0x140 * PAGE + 5, buf, sizeof(buf), &done), -EFAULT);
	ck_assert_uint_eq(done, 3 * PAGE - 5);
	for (size_t i = 0; i < done; i++)
		ck_assert_uint_eq(buf[i], memory_at(0x140 * PAGE + 5 + i));

	/* Searches see exactly what was dumped. */
	uint64_t gpa = 0, expected = 0, seen = 0;
	for (uint64_t pfn = 0; pfn < FRAMES; pfn++)
		expected += dumped(pfn);
	while (hvmi_vm_next_data(vm, gpa, &range) == 0) {
		ck_assert_uint_eq(range.len % PAGE, 0);
		for (gpa = range.gpa; gpa < range.gpa + range.len; gpa += PAGE, seen++)
			ck_assert(dumped(gpa / PAGE));
	}
	ck_assert_uint_eq(seen, expected);
	ck_assert_int_eq(hvmi_vm_next_data(vm, 0x1234567, &range), 0);
	ck_assert_uint_eq(range.gpa, 0x1240000);
	ck_assert_uint_eq(range.len, 3 * PAGE);
}

static void check_notes(struct hvmi_vm *vm)
{
	char text[64];
	size_t len;
	ck_assert_int_eq(hvmi_vm_note(vm, "VMCOREINFO", text, sizeof(text), &len), 0);
	ck_assert_uint_eq(len, 30);
	ck_assert_int_eq(memcmp(text, "OSRELEASE=6.1.0\n", 16), 0);
	check_register(vm, 0, HVMI_X86_RAX, 0x1111);
	check_register(vm, 1, HVMI_X86_RAX, 0x2222);
	check_register(vm, 1, HVMI_X86_CR3, 0x3333);
	struct hvmi_vm_info info = { .size = sizeof(info) };
	ck_assert_int_eq(hvmi_vm_get_info(vm, &info), 0);
	ck_assert_uint_eq(info.vcpus, 2);
	ck_assert_uint_eq(info.arch, HVMI_ARCH_X86);
	ck_assert_uint_eq(info.flags, HVMI_VM_STATIC);
}

/* A QEMUCPUState, in its simplest; test_dump_elf.c has it in full. */
static struct blob qemu_notes(void)
{
	struct blob notes = { 0 };
	uint64_t state[55] = { 440ull << 32 | 1 };
	state[1] = 0x1111;
	put_note(&notes, "QEMU", 5, 0, state, sizeof(state));
	state[1] = 0x2222;
	state[52] = 0x3333;
	put_note(&notes, "QEMU", 5, 0, state, sizeof(state));
	return notes;
}

START_TEST(plain)
{
	for (int narrow = 0; narrow < 2; narrow++) {
		struct blob blob = { 0 }, notes = qemu_notes();
		put_image(&blob, narrow, &notes);
		struct hvmi_vm *vm = image_open(&blob, "");
		check_format(vm, "kdump-compressed (QEMU)");
		check_image(vm);
		check_notes(vm);
		ck_assert_str_eq(log_text, "");
		hvmi_close(vm);
		hvmi_close(image_open(&blob, ",format=kdump"));
		blob_free(&blob);
		blob_free(&notes);
	}
}
END_TEST

START_TEST(without_notes)
{
	struct blob blob = { 0 };
	put_kdump(&blob, &(struct kdump){ .frames = FRAMES, .ram = ram, .dumped = dumped });
	struct hvmi_vm *vm = image_open(&blob, "");
	size_t len;
	check_format(vm, "kdump-compressed");
	check_image(vm);
	ck_assert_int_eq(hvmi_vm_note(vm, "VMCOREINFO", NULL, 0, &len), -ENOENT);
	hvmi_close(vm);
	blob_free(&blob);
}
END_TEST

START_TEST(flattened)
{
	struct blob blob = { 0 }, flat = { 0 }, notes = qemu_notes();
	put_image(&blob, false, &notes);
	put_flat(&flat, &blob);
	struct hvmi_vm *vm = image_open(&flat, "");
	check_format(vm, "kdump-compressed (QEMU)");
	check_image(vm);
	check_notes(vm);
	hvmi_close(vm);
	hvmi_close(image_open(&flat, ",format=kdump"));
	size_t whole = flat.len;
	flat.len = whole - 16;
	image_refused(&flat, "", -EBADMSG, "flattened record");
	flat.len = whole - 5000;
	image_refused(&flat, "", -EBADMSG, "flattened record");
	flat.len = 4096 + 7;
	image_refused(&flat, "", -EBADMSG, "flattened record");
	flat.len = 20;
	image_refused(&flat, "", -EBADMSG, "flattened");
	flat.len = whole;
	blob_set(&flat, PAGE, 0x7f, 1);		/* the first record belongs far out */
	image_refused(&flat, "", -EBADMSG, "makes no sense");
	blob_set(&flat, 23, 2, 1);
	image_refused(&flat, "", -ENOTSUP, "type 2");
	setenv("TMPDIR", "/nowhere", 1);
	blob_set(&flat, 23, 1, 1);
	image_refused(&flat, "", -EACCES, "TMPDIR");
	unsetenv("TMPDIR");
	blob_free(&flat);
	blob_free(&blob);
	blob_free(&notes);
}
END_TEST

START_TEST(damaged)
{
	static const uint64_t values[] = { 0, 1, 0xff, 0x7fffffff, 0xffffffff, 1ull << 62,
					   UINT64_MAX };
	struct blob blob = { 0 }, copy = { 0 }, notes = qemu_notes();
	put_image(&blob, false, &notes);
	blob_put(&copy, blob.bytes, blob.len);
	for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++)
		for (size_t at = 8; at < PAGE + 104; at += 4) {
			struct hvmi_vm *vm = NULL;
			uint8_t page[PAGE];
			if (at == 12)
				at = 404;
			if (at == 472)
				at = PAGE;
			memcpy(copy.bytes, blob.bytes, blob.len);
			blob_set(&copy, at, values[i], 4 + 4 * (i & 1));
			int fd = image_file(&copy);
			if (hvmi_open(image_target(fd, ""), NULL, &vm, NULL) == 0)
				hvmi_vm_read(vm, 0x10000, page, PAGE, NULL);
			hvmi_close(vm);
			close(fd);
		}
	memcpy(copy.bytes, blob.bytes, blob.len);
	for (copy.len = 9; copy.len < 10 * PAGE; copy.len += 41) {
		struct hvmi_vm *vm = NULL;
		int fd = image_file(&copy);
		hvmi_open(image_target(fd, ""), NULL, &vm, NULL);
		hvmi_close(vm);
		close(fd);
	}
	blob_free(&copy);
	blob_free(&blob);
	blob_free(&notes);
}
END_TEST

START_TEST(refused)
{
	struct blob blob = { 0 };
	put_kdump(&blob, &(struct kdump){ .frames = FRAMES, .ram = ram, .dumped = dumped });
	blob_set(&blob, 436, 0x7fffffff, 4);
	image_refused(&blob, "", -EOVERFLOW, "bitmaps");
	blob_set(&blob, 436, 1 << 16, 4);
	image_refused(&blob, "", -EBADMSG, "cut short in its bitmaps");
	blob_set(&blob, 436, 2, 4);
	image_refused(&blob, "", -EBADMSG, "cannot tell of");
	blob_set(&blob, 436, 6, 4);
	blob_set(&blob, PAGE + 56, 1ull << 40, 8);
	image_refused(&blob, "", -EBADMSG, "the notes should take");
	blob_set(&blob, PAGE + 56, 0, 8);
	blob_set(&blob, 428, 4095, 4);
	image_refused(&blob, "", -EBADMSG, "makes no sense");
	blob_free(&blob);
}
END_TEST

struct reader {
	struct hvmi_vm *vm;
	uint64_t step, wrong;
};

static void *read_all(void *context)
{
	struct reader *reader = context;
	for (uint64_t i = 0; i < 3 * 0x4000; i++) {
		uint64_t pfn = i * reader->step % 0x4000;
		uint8_t page[PAGE];
		int rc = hvmi_vm_read(reader->vm, pfn * PAGE, page, PAGE, NULL);
		if (rc != (dumped(pfn) ? 0 : -EFAULT))
			reader->wrong++;
		for (size_t j = 0; j < PAGE && !rc; j += 61)
			reader->wrong += page[j] != memory_at(pfn * PAGE + j);
	}
	return NULL;
}

START_TEST(threads)
{
	enum { THREADS = 24 };	/* more than contexts are kept */
	struct blob blob = { 0 };
	put_image(&blob, false, NULL);
	struct hvmi_vm *vm = image_open(&blob, "");
	struct reader readers[THREADS];
	pthread_t ids[THREADS];
	for (uint64_t i = 0; i < THREADS; i++) {
		readers[i] = (struct reader){ .vm = vm, .step = 1 + 2 * i };
		ck_assert_int_eq(pthread_create(&ids[i], NULL, read_all, &readers[i]), 0);
	}
	for (int i = 0; i < THREADS; i++) {
		pthread_join(ids[i], NULL);
		ck_assert_uint_eq(readers[i].wrong, 0);
	}
	hvmi_close(vm);
	blob_free(&blob);
}
END_TEST

START_TEST(cut_while_open)
{
	struct blob blob = { 0 };
	uint8_t page[PAGE];
	struct hvmi_vm *vm;
	put_image(&blob, false, NULL);
	int fd = image_file(&blob);
	ck_assert_int_eq(hvmi_open(image_target(fd, ""), NULL, &vm, NULL), 0);
	ck_assert_int_eq(ftruncate(fd, 10 * PAGE), 0);
	ck_assert_int_ne(hvmi_vm_read(vm, 0x10000ull * PAGE, page, PAGE, NULL), 0);
	hvmi_close(vm);
	close(fd);
	blob_free(&blob);
}
END_TEST

#else

START_TEST(without_libkdumpfile)
{
	struct blob blob = { 0 };
	put_image(&blob, false, NULL);
	image_refused(&blob, "", -ENOTSUP, "built without libkdumpfile");
	blob_free(&blob);
}
END_TEST

#endif

int main(void)
{
	Suite *suite = suite_create("dump_kdump");
	TCase *tcase = tcase_create("dump_kdump");
#ifdef HVMI_HAVE_KDUMPFILE
	tcase_add_test(tcase, plain);
	tcase_add_test(tcase, without_notes);
	tcase_add_test(tcase, flattened);
	tcase_add_test(tcase, damaged);
	tcase_add_test(tcase, refused);
	tcase_add_test(tcase, threads);
	tcase_add_test(tcase, cut_while_open);
#else
	tcase_add_test(tcase, without_libkdumpfile);
#endif
	tcase_set_timeout(tcase, 120);
	suite_add_tcase(suite, tcase);
	return run_suite(suite);
}
