/* SPDX-License-Identifier: Apache-2.0 */
/* kdump-compressed images, plain and flattened. */
#include "suite.h"
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "dump_build.h"
#include "unpack.h"

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
					 .compressed = true,
					 .vmcoreinfo = "OSRELEASE=6.1.0\nPAGESIZE=4096\n" });
}

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
	flat.len = whole - 32;
	image_refused(&flat, "", -EBADMSG, "flattened record");
	flat.len = whole - 5000;
	image_refused(&flat, "", -EBADMSG, "flattened record");
	flat.len = 4096 + 7;
	image_refused(&flat, "", -EBADMSG, "flattened record");
	flat.len = 20;
	image_refused(&flat, "", -EBADMSG, "flattened");
	flat.len = whole;
	blob_set(&flat, PAGE, 0x7f, 1);	/* the first record belongs far out */
	image_refused(&flat, "", -EBADMSG, "makes no sense");
	blob_set(&flat, 23, 2, 1);
	image_refused(&flat, "", -ENOTSUP, "type 2");
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

/* What cannot be decompressed is refused at once. */
START_TEST(unpackable)
{
	static const uint32_t each[] = { 1, 2, 4, 0x20 };
	struct blob blob = { 0 };
	put_kdump(&blob, &(struct kdump){ .frames = FRAMES, .ram = ram, .dumped = dumped });
	for (int i = 0; i < 4; i++) {
		blob_set(&blob, 424, each[i], 4);
		const char *missing = unpack_missing(each[i]);
		if (missing)
			image_refused(&blob, "", -ENOTSUP, missing);
		else
			hvmi_close(image_open(&blob, ""));
	}
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
	enum { THREADS = 24 };
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

static bool from_0x1234_on(uint64_t pfn)
{
	return dumped(pfn) && pfn >= 0x1234 && pfn < 0x10080;
}

/* One of several files: the bitmaps tell of all pages, the descriptors of some. */
START_TEST(split)
{
	struct blob blob = { 0 };
	uint8_t page[PAGE];
	put_kdump(&blob, &(struct kdump){ .frames = FRAMES, .ram = ram, .dumped = from_0x1234_on });
	for (uint64_t pfn = 0; pfn < FRAMES; pfn++)
		if (dumped(pfn))
			blob.bytes[4 * PAGE + 3 * PAGE + pfn / 8] |= (uint8_t)(1 << pfn % 8);
	blob_set(&blob, PAGE + 12, 1, 4);
	blob_set(&blob, PAGE + 80, 0x1234, 8);
	blob_set(&blob, PAGE + 88, 0x10080, 8);
	struct hvmi_vm *vm = image_open(&blob, "");
	ck_assert_ptr_nonnull(strstr(log_text, "one part of a split"));
	for (uint64_t pfn = 0; pfn < FRAMES; pfn++)
		if (ram(pfn))
			ck_assert_int_eq(hvmi_vm_read(vm, pfn * PAGE, page, PAGE, NULL),
					 from_0x1234_on(pfn) ? 0 : -EFAULT);
	check_memory(vm, 0x1240 * PAGE, 3 * PAGE);
	check_memory(vm, 0x10000ull * PAGE, 0x80 * PAGE);
	struct hvmi_range data;
	ck_assert_int_eq(hvmi_vm_next_data(vm, 0, &data), 0);
	ck_assert_uint_eq(data.gpa, 0x1240 * PAGE);
	hvmi_close(vm);
	blob_free(&blob);
}
END_TEST

START_TEST(zeros)
{
	struct blob blob = { 0 };
	struct hvmi_range data;
	uint8_t page[PAGE], none[PAGE] = { 0 };
	put_kdump(&blob, &(struct kdump){ .frames = FRAMES, .ram = ram, .dumped = ram,
					  .compressed = true, .zeros = true });
	struct hvmi_vm *vm = image_open(&blob, "");
	ck_assert_int_eq(hvmi_vm_read(vm, 0x200 * PAGE, page, PAGE, NULL), 0);
	ck_assert_int_eq(memcmp(page, none, PAGE), 0);
	uint64_t seen = 0, gpa = 0, expected = 0;
	for (uint64_t pfn = 0; pfn < FRAMES; pfn++)
		expected += ram(pfn) && pfn % 16;
	while (hvmi_vm_next_data(vm, gpa, &data) == 0) {
		ck_assert_uint_eq(data.len % PAGE, 0);
		for (gpa = data.gpa; gpa < data.gpa + data.len; gpa += PAGE, seen++)
			if (gpa / PAGE % 16 == 0)
				ck_abort_msg("0x%lx is zeros", gpa);
	}
	ck_assert_uint_eq(seen, expected);
	hvmi_close(vm);
	blob_free(&blob);
}
END_TEST

START_TEST(cut)
{
	struct blob blob = { 0 };
	uint8_t page[PAGE];
	put_image(&blob, false, NULL);
	blob.len -= 20 * PAGE;
	struct hvmi_vm *vm = image_open(&blob, "");
	check_memory(vm, 0, 0xa0 * PAGE);
	ck_assert_int_eq(hvmi_vm_read(vm, 0x100ffull * PAGE, page, PAGE, NULL), -EFAULT);
	hvmi_close(vm);
	/* In the descriptors. */
	blob.len = 10 * PAGE + 24 * 0xa0;
	vm = image_open(&blob, "");
	ck_assert_ptr_nonnull(strstr(log_text, "cut short"));
	ck_assert_int_eq(hvmi_vm_read(vm, 0, page, PAGE, NULL), -EFAULT);
	ck_assert_int_eq(hvmi_vm_read(vm, 0x10000ull * PAGE, page, PAGE, NULL), -EFAULT);
	hvmi_close(vm);
	blob_free(&blob);
}
END_TEST

/* A page whose descriptor or bytes make no sense cannot be read; others can. */
START_TEST(bad_pages)
{
	static const struct {
		uint64_t offset;
		uint32_t len, flags;
		int code;
	} cases[] = {
		{ 1ull << 60, PAGE, 0, -EFAULT }, { UINT64_MAX, PAGE, 0, -EFAULT },
		{ 0, PAGE - 1, 0, -EBADMSG },	  { 0, PAGE + 1, 0, -EBADMSG },
		{ 0, 0, 2, -EBADMSG },		  { 0, 100, 2, -EBADMSG },
		{ 0, UINT32_MAX, 2, -EBADMSG },	  { 0, PAGE, 3, -ENOTSUP },
#ifdef HVMI_HAVE_ZLIB
		{ 0, 0, 1, -EBADMSG },		  { 0, 100, 1, -EBADMSG },
#endif
#ifdef HVMI_HAVE_SNAPPY
		{ 0, 0, 4, -EBADMSG },		  { 0, 100, 4, -EBADMSG },
#endif
#ifdef HVMI_HAVE_ZSTD
		{ 0, 0, 0x20, -EBADMSG },	  { 0, 100, 0x20, -EBADMSG },
#endif
	};
	struct blob blob = { 0 };
	put_image(&blob, false, NULL);
	size_t descriptor = 10 * PAGE + 24;	/* of page 1 */
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		uint8_t page[PAGE];
		blob_set(&blob, descriptor, cases[i].offset, 8);
		blob_set(&blob, descriptor + 8, cases[i].len, 4);
		blob_set(&blob, descriptor + 12, cases[i].flags, 4);
		struct hvmi_vm *vm = image_open(&blob, "");
		ck_assert_int_eq(hvmi_vm_read(vm, PAGE, page, PAGE, NULL), cases[i].code);
		check_memory(vm, 0, PAGE);
		check_memory(vm, 2 * PAGE, 8 * PAGE);
		hvmi_close(vm);
	}
	blob_free(&blob);
}
END_TEST

/* Each kind of instruction of LZO1X, by hand. */
START_TEST(lzo)
{
	uint8_t in[8192], out[40000], expected[40000];
	static const uint8_t hello[] = { 17 + 5, 'h', 'e', 'l', 'l', 'o', 0x11, 0, 0 };
	ck_assert_int_eq(lzo_unpack(hello, 9, out, 5), 0);
	ck_assert_int_eq(memcmp(out, "hello", 5), 0);
	for (size_t len = 0; len < 9; len++)
		ck_assert_int_eq(lzo_unpack(hello, len, out, 5), -EBADMSG);
	ck_assert_int_eq(lzo_unpack(hello, 9, out, 4), -EBADMSG);
	ck_assert_int_eq(lzo_unpack(hello, 9, out, 6), -EBADMSG);

	/* Short copies; what a code below 16 means depends on the literals before it. */
	static const uint8_t few[] = {
		17 + 3, 'a', 'b', 'c',			/* abc */
		2 << 2 | 1, 0, 'd',			/* 2 from distance 3: ab, and d */
		64 | 1 << 5 | 1 << 2 | 2, 0, 'e', 'f',	/* 4 from distance 2: bdbd, ef */
		128 | 3 << 5 | 3 << 2, 0,		/* 8 from distance 4: bdefbdef */
		1, 'w', 'x', 'y', 'z',			/* 4 literals */
		0 << 2, 0,				/* would be 3 from distance 2049 */
	};
	ck_assert_int_eq(lzo_unpack(few, sizeof(few), out, 100), -EBADMSG);
	memcpy(in, few, sizeof(few));
	memcpy(in + sizeof(few) - 2, "\x11\0\0", 3);
	ck_assert_int_eq(lzo_unpack(in, sizeof(few) + 1, out, 24), 0);
	ck_assert_int_eq(memcmp(out, "abcabdbdbdefbdefbdefwxyz", 24), 0);

	/* 2100 literals; 3 from distance 2049 + 1 + (2 << 2); 33 + 7 from 300; a long one from 1. */
	size_t n = 0;
	in[n++] = 0;
	for (size_t left = 2100 - 18; left > 255; left -= 255)
		in[n++] = 0;
	in[n++] = (2100 - 18) % 255;
	for (size_t i = 0; i < 2100; i++)
		in[n++] = expected[i] = memory_at(i);
	const uint8_t tail[] = {
		1 << 2, 2,
		32, 7, (299 & 63) << 2, 299 >> 6,
		32, 0, 0, 0, 100, 0 << 2, 0,		/* 2 + 31 + 3 * 255 + 100 */
		17,					/* 16 KiB and more behind is nothing yet */
	};
	memcpy(in + n, tail, sizeof(tail));
	size_t at = 2100;
	for (size_t i = 0; i < 3; i++, at++)
		expected[at] = expected[at - 2058];
	for (size_t i = 0; i < 40; i++, at++)
		expected[at] = expected[at - 300];
	for (size_t i = 0; i < 898; i++, at++)
		expected[at] = expected[at - 1];
	memcpy(in + n + sizeof(tail) - 1, "\x11\0\0", 3);
	ck_assert_int_eq(lzo_unpack(in, n + sizeof(tail) + 2, out, at), 0);
	ck_assert_int_eq(memcmp(out, expected, at), 0);

	/* From far: 16384 + (1 << 14) + 5, after 33000 bytes of one kind and another. */
	n = 0;
	in[n++] = 17 + 200;
	for (size_t i = 0; i < 200; i++)
		in[n++] = expected[i] = memory_at(i);
	in[n++] = 32;
	for (size_t left = 32900 - 33; left > 255; left -= 255)
		in[n++] = 0;
	in[n++] = (32900 - 33) % 255;
	in[n++] = 0;
	in[n++] = 0;
	memset(expected + 200, expected[199], 32900);
	const uint8_t far[] = { 16 | 8 | 3, 300 % 64 << 2 | 1, 300 / 64, '!', 0x11, 0, 0 };
	memcpy(in + n, far, sizeof(far));
	memcpy(expected + 33100, expected + 33100 - 32768 - 300, 5);
	expected[33105] = '!';
	ck_assert_int_eq(lzo_unpack(in, n + sizeof(far), out, 33106), 0);
	ck_assert_int_eq(memcmp(out, expected, 33106), 0);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("dump_kdump");
	TCase *tcase = tcase_create("dump_kdump");
	tcase_add_test(tcase, plain);
	tcase_add_test(tcase, without_notes);
	tcase_add_test(tcase, flattened);
	tcase_add_test(tcase, damaged);
	tcase_add_test(tcase, refused);
	tcase_add_test(tcase, threads);
	tcase_add_test(tcase, cut_while_open);
	tcase_add_test(tcase, split);
	tcase_add_test(tcase, zeros);
	tcase_add_test(tcase, cut);
	tcase_add_test(tcase, bad_pages);
	tcase_add_test(tcase, lzo);
	tcase_add_test(tcase, unpackable);
	suite_add_tcase(suite, tcase);
	return run_suite(suite);
}
