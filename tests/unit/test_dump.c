/* SPDX-License-Identifier: Apache-2.0 */
/* Raw images, options, and files that are no memory images. */
#include "suite.h"
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "dump_build.h"

#define GIB (1ull << 30)

/* Sanitizers need more address space than a limit would leave. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#elif defined(__has_feature)
#define SANITIZED (__has_feature(address_sanitizer) || __has_feature(thread_sanitizer))
#else
#define SANITIZED 0
#endif

static struct blob raw_image(size_t len)
{
	struct blob blob = { 0 };
	blob_memory(&blob, 0, len);
	return blob;
}

START_TEST(raw)
{
	struct blob blob = raw_image(40 * PAGE);
	struct hvmi_vm *vm = image_open(&blob, "");
	check_format(vm, "raw");
	check_range(vm, 0, 0, 40 * PAGE);
	check_memory(vm, 0, 40 * PAGE);
	check_absent(vm, 40 * PAGE, PAGE);
	struct hvmi_vm_info info = { .size = sizeof(info) };
	ck_assert_int_eq(hvmi_vm_get_info(vm, &info), 0);
	ck_assert_uint_eq(info.flags, HVMI_VM_STATIC | HVMI_VM_MAPPED);
	ck_assert_uint_eq(info.vcpus, 0);
	ck_assert_uint_eq(info.arch, HVMI_ARCH_UNKNOWN);
	ck_assert_str_eq(log_text, "");
	size_t len;
	ck_assert_int_eq(hvmi_vm_note(vm, "VMCOREINFO", NULL, 0, &len), -ENOENT);
	hvmi_close(vm);
	blob_free(&blob);
}
END_TEST

/* Bytes of the image at `offset` are memory_at(offset): the holes move addresses, not bytes. */
static void check_moved(struct hvmi_vm *vm, uint64_t gpa, uint64_t offset, uint64_t len)
{
	for (uint64_t i = 0; i < len; i += 57) {
		uint8_t byte;
		ck_assert_int_eq(hvmi_vm_read(vm, gpa + i, &byte, 1, NULL), 0);
		ck_assert_uint_eq(byte, memory_at(offset + i));
	}
}

START_TEST(base_and_holes)
{
	struct blob blob = raw_image(10 * PAGE);
	struct hvmi_vm *vm = image_open(&blob, ",base=1M");
	check_range(vm, 0, 1 << 20, 10 * PAGE);
	check_moved(vm, 1 << 20, 0, 10 * PAGE);
	check_absent(vm, (1 << 20) - PAGE, PAGE);
	hvmi_close(vm);

	vm = image_open(&blob, ",hole=0x6000+0x1000,base=0x1000,hole=0x3000+0x2000");
	check_range(vm, 0, 0x1000, 0x2000);
	check_range(vm, 1, 0x5000, 0x1000);
	check_range(vm, 2, 0x7000, 0x7000);
	check_moved(vm, 0x1000, 0, 0x2000);
	check_moved(vm, 0x5000, 0x2000, 0x1000);
	check_moved(vm, 0x7000, 0x3000, 0x7000);
	check_absent(vm, 0x3000, 0x2000);
	check_absent(vm, 0x6000, 0x1000);
	check_absent(vm, 0xe000, 0x1000);
	hvmi_close(vm);

	/* Memory that would begin in a hole begins behind it. */
	vm = image_open(&blob, ",base=0x2000,hole=0x1000+0x3000");
	check_range(vm, 0, 0x4000, 10 * PAGE);
	check_moved(vm, 0x4000, 0, 10 * PAGE);
	hvmi_close(vm);
	blob_free(&blob);
}
END_TEST

/* LiME's format=raw of a PC: what firmware told of, one after the other. */
START_TEST(holes_of_bytes)
{
	const uint64_t low = 0x9ec00, high = 0x3000;
	struct blob blob = raw_image(low + high);
	struct hvmi_vm *vm = image_open(&blob, ",base=0x1000,hole=0x9fc00+0x60400");
	ck_assert_ptr_null(strstr(log_text, "cut short"));
	check_range(vm, 0, 0x1000, low);
	check_range(vm, 1, 1 << 20, high);
	check_moved(vm, 0x1000, 0, low);
	check_moved(vm, 1 << 20, low, high);
	check_absent(vm, 0x9fc00, 0x400);
	hvmi_close(vm);
	vm = image_open(&blob, "");
	ck_assert_ptr_nonnull(strstr(log_text, "only 3072 bytes"));
	hvmi_close(vm);
	blob_free(&blob);
}
END_TEST

START_TEST(holes_that_touch)
{
	struct blob blob = raw_image(4 * PAGE);
	struct hvmi_vm *vm = image_open(&blob, ",hole=0+0x1000,hole=0x1000+4K,base=0");
	check_range(vm, 0, 0x2000, 4 * PAGE);
	check_moved(vm, 0x2000, 0, 4 * PAGE);
	hvmi_close(vm);
	/* Behind the memory it changes nothing, which is worth a warning. */
	vm = image_open(&blob, ",hole=0x4000+0x1000");
	check_range(vm, 0, 0, 4 * PAGE);
	ck_assert_ptr_nonnull(strstr(log_text, "changes nothing"));
	hvmi_close(vm);
	blob_free(&blob);
}
END_TEST

/* A q35 of 5 GiB: RAM at 0-2 GiB and 4-7 GiB; the file is sparse. */
START_TEST(sparse_q35)
{
	int fd = memfd_create("q35", MFD_CLOEXEC);
	struct hvmi_vm *vm;
	struct hvmi_error err;
	struct hvmi_range data;
	uint64_t low = 0x1234567890abcdef, high = 0xfedcba0987654321, got;
	ck_assert_int_eq(ftruncate(fd, 5 * GIB), 0);
	ck_assert_int_eq(pwrite(fd, &low, 8, 2 * GIB - 8), 8);
	ck_assert_int_eq(pwrite(fd, &high, 8, 2 * GIB), 8);
	ck_assert_int_eq(pwrite(fd, &high, 8, 5 * GIB - 8), 8);
	if (hvmi_open(image_target(fd, ",hole=0x80000000+0x80000000"), NULL, &vm, &err))
		ck_abort_msg("%s", err.text);
	check_range(vm, 0, 0, 2 * GIB);
	check_range(vm, 1, 4 * GIB, 3 * GIB);
	ck_assert_int_eq(hvmi_vm_read(vm, 2 * GIB - 8, &got, 8, NULL), 0);
	ck_assert_uint_eq(got, low);
	ck_assert_int_eq(hvmi_vm_read(vm, 4 * GIB, &got, 8, NULL), 0);
	ck_assert_uint_eq(got, high);
	ck_assert_int_eq(hvmi_vm_read(vm, 7 * GIB - 8, &got, 8, NULL), 0);
	ck_assert_uint_eq(got, high);
	size_t done;
	uint8_t across[16];
	ck_assert_int_eq(hvmi_vm_read(vm, 2 * GIB - 8, across, 16, &done), -EFAULT);
	ck_assert_uint_eq(done, 8);

	/* Searches see what was written, and little else. */
	uint64_t seen = 0, gpa = 0;
	bool found[3] = { false };
	while (hvmi_vm_next_data(vm, gpa, &data) == 0) {
		ck_assert_uint_ge(data.gpa, gpa);
		seen += data.len;
		found[0] |= data.gpa <= 2 * GIB - 8 && data.gpa + data.len >= 2 * GIB;
		found[1] |= data.gpa == 4 * GIB;
		found[2] |= data.gpa <= 7 * GIB - 8 && data.gpa + data.len == 7 * GIB;
		gpa = data.gpa + data.len;
	}
	ck_assert(found[0] && found[1] && found[2]);
	ck_assert_uint_lt(seen, 16 << 20);
	hvmi_close(vm);
	close(fd);
}
END_TEST

START_TEST(partial_page)
{
	struct blob blob = raw_image(2 * PAGE + 100);
	struct hvmi_vm *vm = image_open(&blob, "");
	check_range(vm, 0, 0, 2 * PAGE + 100);
	check_memory(vm, 0, 2 * PAGE + 100);
	check_absent(vm, 2 * PAGE + 100, 100);
	ck_assert_ptr_nonnull(strstr(log_text, "only 100 bytes"));
	hvmi_close(vm);
	blob_free(&blob);
}
END_TEST

START_TEST(bad_options)
{
	static const struct {
		const char *options, *text;
	} cases[] = {
		{ ",format=vmdk", "format=vmdk is not known" },
		{ ",base=12x", "base=12x" },
		{ ",base=0x1001", "no multiple of 4096" },
		{ ",base=0xfffffffffffff000", "address space" },
		{ ",hole=0x1000", "START+LENGTH" },
		{ ",hole=", "START+LENGTH" },
		{ ",hole=x+0x1000", "are numbers" },
		{ ",hole=0x1000+", "are numbers" },
		{ ",hole=0x1000+0", "is empty" },
		{ ",hole=0xfffffffffffff000+0x2000", "address space" },
		{ ",hole=0x1000+0x2000,hole=0x2000+0x1000", "overlap" },
		{ ",hole=0x1000+0x1000,hole=0x1000+0x1000", "overlap" },
	};
	struct blob blob = raw_image(8 * PAGE);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		image_refused(&blob, cases[i].options, -EINVAL, cases[i].text);
	struct hvmi_vm *vm;
	struct hvmi_error err;
	ck_assert_int_eq(hvmi_open("dump:", NULL, &vm, &err), -EINVAL);
	int fd = image_file(&blob);
	ck_assert_int_eq(hvmi_open(image_target(fd, ",bse=0"), NULL, &vm, &err), -EINVAL);
	close(fd);
	blob_free(&blob);
}
END_TEST

START_TEST(raw_options_of_others)
{
	struct blob blob = { 0 };
	put_lime(&blob, 0x1000, PAGE);
	image_refused(&blob, ",base=0x1000", -EINVAL, "are for raw images");
	image_refused(&blob, ",hole=0x1000+0x1000", -EINVAL, "are for raw images");
	image_refused(&blob, ",format=kdump", -EBADMSG, "no kdump");
	image_refused(&blob, ",format=elf", -EBADMSG, "no ELF");
	/* A guest can write any header to its address 0; then raw has to be forced. */
	struct hvmi_vm *vm = image_open(&blob, ",format=raw,base=0x1000");
	check_format(vm, "raw");
	check_range(vm, 0, 0x1000, PAGE + 32);
	hvmi_close(vm);
	vm = image_open(&blob, ",format=lime");
	check_format(vm, "LiME");
	hvmi_close(vm);
	/* AVML writes that format, too. */
	vm = image_open(&blob, ",format=avml");
	check_format(vm, "LiME");
	hvmi_close(vm);
	blob_free(&blob);
}
END_TEST

START_TEST(foreign)
{
	static const struct {
		const char *head;
		size_t len;
		int code;
		const char *text;
	} cases[] = {
		{ "\x1f\x8b\x08\0", 4, -ENOTSUP, "gunzip" },
		{ "\x38\x8d\xec\xd5", 4, -ENOTSUP, "zlib" },
		{ "\xfd" "7zXZ\0", 6, -ENOTSUP, "unxz" },
		{ "\x28\xb5\x2f\xfd", 4, -ENOTSUP, "unzstd" },
		{ "PK\3\4", 4, -ENOTSUP, "unzip" },
		{ "QFI\xfb", 4, -ENOTSUP, "qcow2" },
		{ "KDMV", 4, -ENOTSUP, "VMDK" },
		{ "MDMP", 4, -EBADMSG, "minidump" },
		{ "QEVM", 4, -ENOTSUP, "dump-guest-memory" },
		{ "\177VirtualBox SavedState", 22, -ENOTSUP, "dumpvmcore" },
	};
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct blob blob = { 0 };
		blob_put(&blob, cases[i].head, cases[i].len);
		image_refused(&blob, "", cases[i].code, cases[i].text);
		blob_zeros(&blob, 3 * PAGE);
		image_refused(&blob, "", cases[i].code, cases[i].text);
		hvmi_close(image_open(&blob, ",format=raw"));
		blob_free(&blob);
	}
	struct blob blob = { 0 };
	for (int i = 0; i < 1000; i++)
		blob_put(&blob, "Memory of a machine.\r\n", 22);
	image_refused(&blob, "", -EBADMSG, "text");
	hvmi_close(image_open(&blob, ",format=raw"));
	blob_free(&blob);
}
END_TEST

START_TEST(small)
{
	struct blob blob = { 0 };
	image_refused(&blob, "", -EBADMSG, "is empty");
	image_refused(&blob, ",format=raw", -EBADMSG, "is empty");
	image_refused(&blob, ",format=elf", -EBADMSG, "is empty");
	blob_zeros(&blob, PAGE - 1);
	image_refused(&blob, "", -EBADMSG, "too few");
	hvmi_close(image_open(&blob, ",format=raw"));
	blob_zeros(&blob, 1);
	/* A page of zeros, or of anything, is memory. */
	hvmi_close(image_open(&blob, ""));
	blob_free(&blob);
}
END_TEST

static void refused(const char *target, int code, const char *text)
{
	struct hvmi_vm *vm;
	struct hvmi_error err;
	int rc = hvmi_open(target, NULL, &vm, &err);
	ck_assert_msg(rc == code && strstr(err.text, text), "%s: %s: %s", target,
		      hvmi_error_name(rc), err.text);
}

START_TEST(no_regular_file)
{
	char folder[] = "/tmp/hvmi-dump-XXXXXX", path[64], target[128];
	ck_assert_ptr_nonnull(mkdtemp(folder));
	snprintf(target, sizeof(target), "dump:%s", folder);
	refused(target, -EBADMSG, "directory");
	snprintf(target, sizeof(target), "dump:%s/none", folder);
	refused(target, -ENOENT, "no such file");
	snprintf(target, sizeof(target), "%s/none", folder);
	refused(target, -ENOENT, "no such file");
	snprintf(path, sizeof(path), "%s/fifo", folder);
	snprintf(target, sizeof(target), "dump:%s", path);
	ck_assert_int_eq(mkfifo(path, 0600), 0);
	refused(target, -ENOTSUP, "pipe");	/* and does not wait for a writer */
	unlink(path);
	refused("dump:/dev/null", -ENOTSUP, "device");
	refused("dump:/dev/zero", -ENOTSUP, "device");

	int s = socket(AF_UNIX, SOCK_STREAM, 0);
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
	ck_assert_int_eq(bind(s, (struct sockaddr *)&address, sizeof(address)), 0);
	refused(target, -ENOTSUP, "regular file");
	close(s);
	unlink(path);

	int fd = open(path, O_CREAT | O_WRONLY, 0);
	ck_assert_int_ge(fd, 0);
	close(fd);
	if (geteuid())
		refused(target, -EACCES, "permission");
	else
		refused(target, -EBADMSG, "is empty");
	unlink(path);
	rmdir(folder);
}
END_TEST

/* Where a file cannot be mapped, it is read. */
START_TEST(unmappable)
{
	struct rlimit limit = { .rlim_cur = 1ull << 40, .rlim_max = 1ull << 40 };
	int fd = memfd_create("large", MFD_CLOEXEC);
	struct hvmi_vm *vm;
	struct hvmi_error err;
	struct hvmi_vm_info info = { .size = sizeof(info) };
	struct hvmi_range data;
	uint64_t value = 0x1122334455667788, got;
	ck_assert_int_eq(ftruncate(fd, 2ll << 40), 0);
	ck_assert_int_eq(pwrite(fd, &value, 8, 1ll << 40), 8);
	if (setrlimit(RLIMIT_AS, &limit))
		return;
	int rc = hvmi_open(image_target(fd, ""), NULL, &vm, &err);
	ck_assert_msg(rc == 0, "%s", err.text);
	ck_assert_int_eq(hvmi_vm_get_info(vm, &info), 0);
	ck_assert_uint_eq(info.flags, HVMI_VM_STATIC);
	ck_assert_int_eq(hvmi_vm_read(vm, 1ull << 40, &got, 8, NULL), 0);
	ck_assert_uint_eq(got, value);
	ck_assert_int_eq(hvmi_vm_next_data(vm, 0, &data), 0);
	ck_assert_uint_ge(data.gpa, (1ull << 40) - (4 << 20));
	/* Cut short: what is gone is an I/O error, not zeros. */
	ck_assert_int_eq(ftruncate(fd, PAGE), 0);
	ck_assert_int_eq(hvmi_vm_read(vm, 1ull << 40, &got, 8, NULL), -EIO);
	hvmi_close(vm);
	close(fd);
}
END_TEST

START_TEST(cut_while_open)
{
	struct blob blob = raw_image(16 * PAGE);
	struct hvmi_vm *vm;
	struct hvmi_error err;
	int fd = image_file(&blob);
	uint8_t page[PAGE];
	if (hvmi_open(image_target(fd, ""), NULL, &vm, &err))
		ck_abort_msg("%s", err.text);
	ck_assert_int_eq(ftruncate(fd, 4 * PAGE), 0);
	ck_assert_int_eq(hvmi_vm_read(vm, 3 * PAGE, page, PAGE, NULL), 0);
	ck_assert_int_eq(hvmi_vm_lost(vm), 0);
	ck_assert_int_eq(hvmi_vm_read(vm, 8 * PAGE, page, PAGE, NULL), -EIO);
	ck_assert_int_eq(hvmi_vm_lost(vm), 1);
	hvmi_close(vm);
	close(fd);
	blob_free(&blob);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("dump");
	TCase *tcase = tcase_create("dump");
	tcase_add_test(tcase, raw);
	tcase_add_test(tcase, base_and_holes);
	tcase_add_test(tcase, holes_of_bytes);
	tcase_add_test(tcase, holes_that_touch);
	tcase_add_test(tcase, sparse_q35);
	tcase_add_test(tcase, partial_page);
	tcase_add_test(tcase, bad_options);
	tcase_add_test(tcase, raw_options_of_others);
	tcase_add_test(tcase, foreign);
	tcase_add_test(tcase, small);
	tcase_add_test(tcase, no_regular_file);
	if (!SANITIZED)
		tcase_add_test(tcase, unmappable);
	tcase_add_test(tcase, cut_while_open);
	suite_add_tcase(suite, tcase);
	return run_suite(suite);
}
