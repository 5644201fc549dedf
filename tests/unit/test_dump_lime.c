/* SPDX-License-Identifier: Apache-2.0 */
/* LiME, and AVML, which compresses it. */
#include "suite.h"
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "dump_build.h"
#include "snappy_frame.h"

START_TEST(lime)
{
	struct blob blob = { 0 };
	put_lime(&blob, 0x1000, 0x9e000);
	put_lime(&blob, 0x100000, 20 * PAGE);
	put_lime(&blob, 1ull << 32, 3 * PAGE);
	put_lime(&blob, 0xff000, PAGE);
	struct hvmi_vm *vm = image_open(&blob, "");
	check_format(vm, "LiME");
	check_range(vm, 0, 0x1000, 0x9e000);
	check_range(vm, 1, 0xff000, PAGE);
	check_range(vm, 2, 0x100000, 20 * PAGE);
	check_range(vm, 3, 1ull << 32, 3 * PAGE);
	check_memory(vm, 0x1000, 0x9e000);
	check_memory(vm, 0xff000, 21 * PAGE);
	check_memory(vm, 1ull << 32, 3 * PAGE);
	check_absent(vm, 0, PAGE);
	check_absent(vm, 0x9f000, PAGE);
	check_absent(vm, 0x100000 + 20 * PAGE, PAGE);
	struct hvmi_vm_info info = { .size = sizeof(info) };
	ck_assert_int_eq(hvmi_vm_get_info(vm, &info), 0);
	ck_assert_uint_eq(info.flags, HVMI_VM_STATIC | HVMI_VM_MAPPED);
	ck_assert_str_eq(log_text, "");
	/* Data is told in whole pages of the guest, though headers shift them in the file. */
	struct hvmi_range data;
	ck_assert_int_eq(hvmi_vm_next_data(vm, 0x2345, &data), 0);
	ck_assert_uint_eq(data.gpa, 0x2345);
	ck_assert_uint_eq((data.gpa + data.len) % PAGE, 0);
	hvmi_close(vm);
	blob_free(&blob);
}
END_TEST

START_TEST(lime_cut)
{
	struct blob blob = { 0 };
	put_lime(&blob, 0x1000, 4 * PAGE);
	size_t first = blob.len;
	put_lime(&blob, 0x100000, 4 * PAGE);
	blob.len -= PAGE + 10;
	struct hvmi_vm *vm = image_open(&blob, "");
	check_memory(vm, 0x1000, 4 * PAGE);
	check_memory(vm, 0x100000, 3 * PAGE - 10);
	check_absent(vm, 0x103000 - 10, PAGE + 10);
	ck_assert_ptr_nonnull(strstr(log_text, "cut short"));
	hvmi_close(vm);
	for (size_t len = first; len < first + 33; len++) {
		blob.len = len;
		vm = image_open(&blob, "");
		check_memory(vm, 0x1000, 4 * PAGE);
		ck_assert_int_eq(!*log_text, len == first);
		hvmi_close(vm);
	}
	/* Less than the first header, or nothing behind it. */
	blob.len = 31;
	image_refused(&blob, "", -EBADMSG, "copy it again");
	blob.len = 32;
	image_refused(&blob, "", -EBADMSG, "without any memory");
	blob_free(&blob);
}
END_TEST

START_TEST(lime_odd)
{
	struct blob blob = { 0 };
	put_lime(&blob, 0x1000, PAGE);
	/* Zeros up to the end of a block, as dd leaves them. */
	blob_align(&blob, PAGE);
	hvmi_close(image_open(&blob, ""));
	blob_zeros(&blob, 4 * PAGE);
	image_refused(&blob, "", -EBADMSG, "padded");
	blob_free(&blob);

	put_lime(&blob, 0x1000, 2 * PAGE);
	put_lime(&blob, 0x2000, 2 * PAGE);
	struct hvmi_vm *vm = image_open(&blob, "");
	check_memory(vm, 0x1000, 3 * PAGE);
	ck_assert_ptr_nonnull(strstr(log_text, "more than once"));
	hvmi_close(vm);
	blob_set(&blob, 4, 2, 4);
	image_refused(&blob, "", -ENOTSUP, "version 2");
	blob_set(&blob, 4, 1, 4);
	blob_set(&blob, 16, 0xfff, 8);
	image_refused(&blob, "", -EBADMSG, "says 0x1000-0xfff");
	blob_set(&blob, 8, 0, 8);
	blob_set(&blob, 16, UINT64_MAX, 8);
	image_refused(&blob, "", -EBADMSG, "damaged");
	blob_set(&blob, 16, UINT64_MAX - 1, 8);
	vm = image_open(&blob, "");
	hvmi_close(vm);
	blob_free(&blob);
}
END_TEST

/* The check value of CRC-32C, and 32 bytes of RFC 3720, appendix B.4. */
START_TEST(checksum)
{
	struct crc32c_tables tables;
	uint8_t bytes[32];
	crc32c_init(&tables);
	ck_assert_uint_eq(crc32c(&tables, "123456789", 9), 0xe3069283);
	ck_assert_uint_eq(crc32c(&tables, bytes, 0), 0);
	memset(bytes, 0xff, sizeof(bytes));
	ck_assert_uint_eq(crc32c(&tables, bytes, 32), 0x62a8ab43);
	for (int i = 0; i < 32; i++)
		bytes[i] = (uint8_t)i;
	ck_assert_uint_eq(crc32c(&tables, bytes, 32), 0x46dd794e);
}
END_TEST

#ifdef HVMI_HAVE_SNAPPY

START_TEST(avml)
{
	static const struct chunks forms[] = {
		{ 0 },
		{ .stored = true },
		{ .skippable = true },
		{ .plain = 10000 },
		{ .plain = 777, .skippable = true },
		{ .plain = 65535, .stored = true, .skippable = true },
	};
	for (size_t i = 0; i < sizeof(forms) / sizeof(forms[0]); i++) {
		struct blob blob = { 0 };
		put_avml(&blob, 0x1000, 0x9e000, &forms[i]);
		put_avml(&blob, 0x100000, 100 * PAGE, &forms[i]);
		put_avml(&blob, 0x100000 + 100 * PAGE, 5 * PAGE + 1, &forms[i]);
		put_avml(&blob, 1ull << 32, PAGE, &forms[i]);
		struct hvmi_vm *vm = image_open(&blob, "");
		check_format(vm, "AVML");
		check_range(vm, 0, 0x1000, 0x9e000);
		check_range(vm, 1, 0x100000, 105 * PAGE + 1);
		check_range(vm, 2, 1ull << 32, PAGE);
		check_memory(vm, 1ull << 32, PAGE);
		check_memory(vm, 0x100000, 105 * PAGE + 1);
		check_memory(vm, 0x1000, 0x9e000);
		check_absent(vm, 0x100000 + 105 * PAGE + 1, PAGE);
		struct hvmi_vm_info info = { .size = sizeof(info) };
		ck_assert_int_eq(hvmi_vm_get_info(vm, &info), 0);
		ck_assert_uint_eq(info.flags, HVMI_VM_STATIC);
		ck_assert_str_eq(log_text, "");
		hvmi_close(vm);
		blob_free(&blob);
	}
}
END_TEST

START_TEST(avml_cut)
{
	struct blob blob = { 0 };
	uint8_t byte;
	put_avml(&blob, 0, 64 * PAGE, NULL);
	size_t first = blob.len;
	put_avml(&blob, 0x100000, 64 * PAGE, NULL);
	size_t whole = blob.len;
	/* In the last block's last chunk, without a trailer to go back by. */
	blob.len = whole - 100;
	struct hvmi_vm *vm = image_open(&blob, "");
	check_memory(vm, 0, 64 * PAGE);
	check_memory(vm, 0x100000, 48 * PAGE);
	ck_assert_int_eq(hvmi_vm_read(vm, 0x100000 + 48 * PAGE, &byte, 1, NULL), -EFAULT);
	ck_assert_ptr_nonnull(strstr(log_text, "cut short"));
	hvmi_close(vm);
	/* Only trailers are gone. */
	for (size_t cut = 1; cut <= 8; cut++) {
		blob.len = whole - cut;
		vm = image_open(&blob, "");
		check_memory(vm, 0x100000, 64 * PAGE);
		hvmi_close(vm);
	}
	for (size_t len = first + 1; len < first + 80; len++) {
		blob.len = len;
		vm = image_open(&blob, "");
		check_memory(vm, 0, 64 * PAGE);
		ck_assert_int_eq(hvmi_vm_read(vm, 0x100000, &byte, 1, NULL), -EFAULT);
		hvmi_close(vm);
	}
	blob_free(&blob);
}
END_TEST

/* A byte is wrong in one chunk: that chunk cannot be read, others can. */
START_TEST(avml_damaged)
{
	struct blob blob = { 0 };
	uint8_t byte;
	put_avml(&blob, 0, 64 * PAGE, NULL);
	size_t second = 32 + 10;
	second += 4 + (blob.bytes[second + 1] | blob.bytes[second + 2] << 8);
	ck_assert_uint_eq(blob.bytes[second], 0);
	blob.bytes[second + 4] ^= 1;	/* of its checksum */
	struct hvmi_vm *vm = image_open(&blob, "");
	check_memory(vm, 0, 16 * PAGE);
	ck_assert_int_eq(hvmi_vm_read(vm, 16 * PAGE, &byte, 1, NULL), -EBADMSG);
	ck_assert_int_eq(hvmi_vm_read(vm, 32 * PAGE - 1, &byte, 1, NULL), -EBADMSG);
	check_memory(vm, 32 * PAGE, 32 * PAGE);
	hvmi_close(vm);
	blob.bytes[second + 4] ^= 1;
	blob.bytes[second + 200] ^= 0x55;	/* of what is compressed */
	vm = image_open(&blob, "");
	ck_assert_int_eq(hvmi_vm_read(vm, 16 * PAGE, &byte, 1, NULL), -EBADMSG);
	check_memory(vm, 32 * PAGE, 32 * PAGE);
	hvmi_close(vm);
	blob.bytes[second] = 2;		/* a chunk that must be understood, and is not */
	vm = image_open(&blob, "");
	check_memory(vm, 0, 16 * PAGE);
	ck_assert_int_eq(hvmi_vm_read(vm, 16 * PAGE, &byte, 1, NULL), -EBADMSG);
	ck_assert_int_eq(hvmi_vm_read(vm, 48 * PAGE, &byte, 1, NULL), -EBADMSG);
	hvmi_close(vm);
	/* And without the trailer. */
	blob.len -= 8;
	image_refused(&blob, "", -EBADMSG, "cannot be read at offset");
	blob_free(&blob);
}
END_TEST

START_TEST(avml_any_byte)
{
	struct blob blob = { 0 }, copy = { 0 };
	put_avml(&blob, 0x1000, 3 * PAGE, &(struct chunks){ .plain = 5000 });
	put_avml(&blob, 0x10000, PAGE, NULL);
	blob_put(&copy, blob.bytes, blob.len);
	for (size_t at = 0; at < blob.len; at += at < 100 ? 1 : 5) {
		struct hvmi_vm *vm = NULL;
		uint8_t buf[3 * PAGE];
		memcpy(copy.bytes, blob.bytes, blob.len);
		copy.bytes[at] ^= (uint8_t)(1 << at % 8);
		int fd = image_file(&copy);
		if (hvmi_open(image_target(fd, ""), NULL, &vm, NULL) == 0) {
			size_t done;
			hvmi_vm_read(vm, 0x1000, buf, sizeof(buf), &done);
			/* The checksum lets nothing wrong through. */
			size_t wrong = 0;
			for (size_t i = 0; i < done && at >= 32; i++)
				wrong += buf[i] != memory_at(0x1000 + i);
			ck_assert_uint_eq(wrong, 0);
		}
		hvmi_close(vm);
		close(fd);
	}
	blob_free(&copy);
	blob_free(&blob);
}
END_TEST

/* More than the cache holds, from several threads, each in an order of its own. */
struct reader {
	struct hvmi_vm *vm;
	uint64_t len, step;
	uint64_t wrong;
};

static void *read_all(void *context)
{
	struct reader *reader = context;
	uint64_t pages = reader->len / PAGE;
	for (uint64_t i = 0; i < 2 * pages; i++) {
		uint64_t gpa = i * reader->step % pages * PAGE;
		uint8_t page[PAGE];
		if (hvmi_vm_read(reader->vm, gpa, page, PAGE, NULL)) {
			reader->wrong++;
			continue;
		}
		for (size_t j = 0; j < PAGE; j += 61)
			reader->wrong += page[j] != memory_at(gpa + j);
	}
	return NULL;
}

START_TEST(avml_threads)
{
	enum { THREADS = 8, LEN = 8 << 20 };
	struct blob blob = { 0 };
	for (uint64_t gpa = 0; gpa < LEN; gpa += 1 << 20)
		put_avml(&blob, gpa, 1 << 20, NULL);
	struct hvmi_vm *vm = image_open(&blob, "");
	struct reader readers[THREADS];
	pthread_t threads[THREADS];
	for (uint64_t i = 0; i < THREADS; i++) {
		readers[i] = (struct reader){ .vm = vm, .len = LEN, .step = 1 + 2 * i };
		ck_assert_int_eq(pthread_create(&threads[i], NULL, read_all, &readers[i]), 0);
	}
	for (int i = 0; i < THREADS; i++) {
		pthread_join(threads[i], NULL);
		ck_assert_uint_eq(readers[i].wrong, 0);
	}
	hvmi_close(vm);
	blob_free(&blob);
}
END_TEST

#else

START_TEST(avml_without_snappy)
{
	struct blob blob = { 0 };
	put_avml(&blob, 0x1000, PAGE, &(struct chunks){ .stored = true });
	image_refused(&blob, "", -ENOTSUP, "built without snappy");
	blob_free(&blob);
}
END_TEST

#endif

int main(void)
{
	Suite *suite = suite_create("dump_lime");
	TCase *tcase = tcase_create("dump_lime");
	tcase_add_test(tcase, lime);
	tcase_add_test(tcase, lime_cut);
	tcase_add_test(tcase, lime_odd);
	tcase_add_test(tcase, checksum);
#ifdef HVMI_HAVE_SNAPPY
	tcase_add_test(tcase, avml);
	tcase_add_test(tcase, avml_cut);
	tcase_add_test(tcase, avml_damaged);
	tcase_add_test(tcase, avml_any_byte);
	tcase_add_test(tcase, avml_threads);
#else
	tcase_add_test(tcase, avml_without_snappy);
#endif
	suite_add_tcase(suite, tcase);
	return run_suite(suite);
}
