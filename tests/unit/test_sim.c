/* SPDX-License-Identifier: Apache-2.0 */
#include "suite.h"
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "machine.h"

#define GIB (1ull << 30)

static char log_text[4096];

static void collect_log(void *context, uint32_t level, const char *message)
{
	(void)context;
	size_t len = strlen(log_text);
	snprintf(log_text + len, sizeof(log_text) - len, "%u %s\n", level, message);
}

static int try(const char *script, uint32_t flags, struct hvmi_vm **ret, struct hvmi_error *err)
{
	struct hvmi_open_options options = { .size = sizeof(options), .flags = flags,
					     .log = collect_log };
	log_text[0] = '\0';
	return machine_try(script, strlen(script), &options, ret, err);
}

static struct hvmi_vm *good(const char *script, uint32_t flags)
{
	struct hvmi_vm *vm;
	struct hvmi_error err;
	int rc = try(script, flags, &vm, &err);
	ck_assert_msg(rc == 0, "%s", err.text);
	return vm;
}

START_TEST(what_it_says)
{
	struct hvmi_vm *vm = good("# a comment\n\n\t arch x86 \r\nram 0 640K\nram 1M 15M\n"
				  "ram 0x100000000 1G\nvcpu 0 rax 1\nvcpu 2\nstatic", 0);
	struct hvmi_vm_info info = { .size = sizeof(info) };
	ck_assert_int_eq(hvmi_vm_get_info(vm, &info), 0);
	ck_assert_uint_eq(info.arch, HVMI_ARCH_X86);
	ck_assert_uint_eq(info.flags, HVMI_VM_STATIC | HVMI_VM_MAPPED);
	ck_assert_uint_eq(info.vcpus, 3);
	ck_assert_uint_eq(info.ranges, 3);
	ck_assert_uint_eq(info.ram, (640 << 10) + (15 << 20) + GIB);
	ck_assert_uint_eq(info.max_gpa, 5 * GIB - 1);
	ck_assert_str_eq(info.scheme, "sim");
	ck_assert_str_eq(info.format, "script");
	hvmi_close(vm);
	vm = good("", 0);
	ck_assert_int_eq(hvmi_vm_get_info(vm, &info), 0);
	ck_assert_uint_eq(info.arch, HVMI_ARCH_UNKNOWN);
	ck_assert_uint_eq(info.flags, 0);
	ck_assert_uint_eq(info.ranges, 0);
	hvmi_close(vm);
	vm = good("arch arm64\nram 4G 4096\nnomap", HVMI_OPEN_WRITE);
	ck_assert_int_eq(hvmi_vm_get_info(vm, &info), 0);
	ck_assert_uint_eq(info.arch, HVMI_ARCH_ARM64);
	ck_assert_uint_eq(info.flags, HVMI_VM_WRITABLE);
	hvmi_close(vm);
}
END_TEST

START_TEST(contents)
{
	char script[512], path[] = "/tmp/test-sim-XXXXXX";
	int fd = mkstemp(path);
	ck_assert_int_ge(fd, 0);
	char page[5000];
	memset(page, 'p', sizeof(page));
	ck_assert_int_eq(write(fd, page, sizeof(page)), sizeof(page));
	close(fd);
	snprintf(script, sizeof(script),
		 "ram 0 1M\nbytes 0x10 de ad beef 0123456789ABCDEF\n"
		 "u64 0xffe 0x1122334455667788 1K\n"
		 "u32 0x2000 0xffffffff 7\nload 0x3100 %s  \nbytes 0x3101 78\n", path);
	struct hvmi_vm *vm = good(script, 0);
	uint8_t buf[5100];
	ck_assert_int_eq(hvmi_vm_read(vm, 0xf, buf, 14, NULL), 0);
	ck_assert_mem_eq(buf, "\0\xde\xad\xbe\xef\x01\x23\x45\x67\x89\xab\xcd\xef\0", 14);
	ck_assert_int_eq(hvmi_vm_read(vm, 0xffe, buf, 16, NULL), 0);
	ck_assert_mem_eq(buf, "\x88\x77\x66\x55\x44\x33\x22\x11\0\4\0\0\0\0\0\0", 16);
	ck_assert_int_eq(hvmi_vm_read(vm, 0x2000, buf, 8, NULL), 0);
	ck_assert_mem_eq(buf, "\xff\xff\xff\xff\7\0\0\0", 8);
	ck_assert_int_eq(hvmi_vm_read(vm, 0x30ff, buf, 5002, NULL), 0);
	ck_assert_uint_eq(buf[0], 0);
	ck_assert_uint_eq(buf[2], 'x');
	buf[2] = 'p';
	ck_assert_mem_eq(buf + 1, page, 5000);
	ck_assert_uint_eq(buf[5001], 0);
	hvmi_close(vm);
	unlink(path);
}
END_TEST

/* Ranges of many GiB cost nothing until they are written to, and searches jump over them. */
START_TEST(next_data)
{
	struct hvmi_vm *vm = good("ram 0 1024G\nram 2048G 0x10800\nbytes 512G 01\n"
				  "bytes 0xfff 0101\nbytes 0x3000 01\nu64 0x200000107f8 5\n",
				  HVMI_OPEN_WRITE);
	static const struct hvmi_range expected[] = {
		{ 0, 0x2000 }, { 0x3000, 0x1000 }, { 512 * GIB, 0x1000 },
		{ 0x20000010000, 0x800 },
	};
	struct hvmi_range range;
	uint64_t from = 0;
	for (size_t i = 0; i < 4; i++) {
		ck_assert_int_eq(hvmi_vm_next_data(vm, from, &range), 0);
		ck_assert_uint_eq(range.gpa, expected[i].gpa);
		ck_assert_uint_eq(range.len, expected[i].len);
		from = range.gpa + range.len;
	}
	ck_assert_int_eq(hvmi_vm_next_data(vm, from, &range), -ENOENT);
	ck_assert_int_eq(hvmi_vm_next_data(vm, 0x17ff, &range), 0);
	ck_assert_uint_eq(range.gpa, 0x17ff);
	ck_assert_uint_eq(range.len, 0x801);
	/* Writes make data. */
	ck_assert_int_eq(hvmi_vm_write(vm, 4 * GIB - 1, "xy", 2, NULL), 0);
	ck_assert_int_eq(hvmi_vm_next_data(vm, 0x4000, &range), 0);
	ck_assert_uint_eq(range.gpa, 4 * GIB - 0x1000);
	ck_assert_uint_eq(range.len, 0x2000);
	hvmi_close(vm);
}
END_TEST

START_TEST(writing)
{
	struct hvmi_vm *vm = good("ram 0 1M\nvcpu 0 rip 5\n", 0);
	ck_assert_int_eq(hvmi_vm_write(vm, 0, "x", 1, NULL), -EACCES);
	ck_assert_int_eq(hvmi_vm_set_register(vm, 0, HVMI_X86_RIP, 6), -EACCES);
	hvmi_close(vm);
	vm = good("ram 0 1M\nvcpu 0 rip 5\n", HVMI_OPEN_WRITE);
	const void *host;
	ck_assert_int_eq(hvmi_vm_map(vm, 0x1000, 0x1000, &host), 0);
	ck_assert_int_eq(hvmi_vm_write(vm, 0x1ffe, "xyz", 3, NULL), 0);
	ck_assert_mem_eq((const char *)host + 0xffe, "xy", 2);
	char buf[4] = "";
	ck_assert_int_eq(hvmi_vm_read(vm, 0x1ffe, buf, 3, NULL), 0);
	ck_assert_str_eq(buf, "xyz");
	hvmi_vm_unmap(vm, host, 0x1000);
	ck_assert_int_eq(hvmi_vm_set_register(vm, 0, HVMI_X86_RIP, 6), 0);
	ck_assert_int_eq(hvmi_vm_set_register(vm, 0, HVMI_X86_RAX, 6), -ENOTSUP);
	ck_assert_str_eq(log_text, "4 sim: write 0x1ffe 3\n4 sim: vcpu 0 rip 0x6\n");
	hvmi_close(vm);
}
END_TEST

START_TEST(registers)
{
	struct hvmi_vm *vm = good("vcpu 0 cr3 0x1000\nvcpu 1 cr3 0x2000\nvcpu 1 gs.base 0xfff\n"
				  "vcpu 0 cr3 0x3000\n", HVMI_OPEN_WRITE);
	uint64_t value = 9;
	ck_assert_int_eq(hvmi_vm_register(vm, 0, HVMI_X86_CR3, &value), 0);
	ck_assert_uint_eq(value, 0x3000);
	ck_assert_int_eq(hvmi_vm_register(vm, 1, HVMI_X86_CR3, &value), 0);
	ck_assert_uint_eq(value, 0x2000);
	ck_assert_int_eq(hvmi_vm_register(vm, 1, HVMI_X86_GS_BASE, &value), 0);
	ck_assert_uint_eq(value, 0xfff);
	ck_assert_int_eq(hvmi_vm_register(vm, 0, HVMI_X86_GS_BASE, &value), -ENOTSUP);
	ck_assert_int_eq(hvmi_vm_register(vm, 0, HVMI_REGISTER_END, &value), -ENOTSUP);
	ck_assert_int_eq(hvmi_vm_register(vm, 0, UINT32_MAX, &value), -ENOTSUP);
	ck_assert_int_eq(hvmi_vm_register(vm, 2, HVMI_X86_CR3, &value), -ENOENT);
	ck_assert_uint_eq(value, 0xfff);
	hvmi_close(vm);
}
END_TEST

START_TEST(pausing)
{
	struct hvmi_vm *vm = good("ram 0 4K\nfail pause 2 EBUSY\nfail resume 2 ESRCH\n", 0);
	struct hvmi_error err;
	ck_assert_int_eq(hvmi_vm_pause(vm, NULL), 0);
	ck_assert_int_eq(hvmi_vm_resume(vm, NULL), 0);
	ck_assert_int_eq(hvmi_vm_pause(vm, &err), -EBUSY);
	ck_assert_ptr_nonnull(strstr(err.text, "pause"));
	ck_assert_int_eq(hvmi_vm_pause(vm, &err), 0);
	ck_assert_int_eq(hvmi_vm_resume(vm, &err), -ESRCH);
	ck_assert_int_eq(hvmi_vm_resume(vm, &err), 0);
	ck_assert_str_eq(log_text, "4 sim: pause\n4 sim: resume\n4 sim: pause\n4 sim: resume\n");
	/* The core lets no machine go paused, unless it cannot help it. */
	ck_assert_int_eq(hvmi_vm_pause(vm, NULL), 0);
	hvmi_close(vm);
	ck_assert_ptr_null(strstr(log_text, "closed"));
	vm = good("ram 0 4K\nfail resume 1 EIO\n", 0);
	ck_assert_int_eq(hvmi_vm_pause(vm, NULL), 0);
	hvmi_close(vm);
	ck_assert_ptr_nonnull(strstr(log_text, "2 sim: closed while paused\n"));
}
END_TEST

START_TEST(absent_pages)
{
	struct hvmi_vm *vm = good("ram 0 1M\nram 2M 1M\nabsent 0x3000 8K\n", HVMI_OPEN_WRITE);
	uint8_t buf[0x8000];
	size_t done;
	const void *host;
	ck_assert_int_eq(hvmi_vm_read(vm, 0x1000, buf, 0x2000, &done), 0);
	ck_assert_int_eq(hvmi_vm_read(vm, 0x1001, buf, 0x4000, &done), -EFAULT);
	ck_assert_uint_eq(done, 0x1fff);
	ck_assert_int_eq(hvmi_vm_write(vm, 0x2fff, buf, 2, &done), -EFAULT);
	ck_assert_uint_eq(done, 1);
	ck_assert_int_eq(hvmi_vm_read(vm, 0x4fff, buf, 1, &done), -EFAULT);
	ck_assert_int_eq(hvmi_vm_read(vm, 0x5000, buf, 0x1000, &done), 0);
	ck_assert_int_eq(hvmi_vm_map(vm, 0, 0x1000, &host), -ENOTSUP);
	/* Only where it must, is memory not mapped. */
	ck_assert_int_eq(hvmi_vm_map(vm, 2 << 20, 0x1000, &host), 0);
	hvmi_vm_unmap(vm, host, 0x1000);
	hvmi_close(vm);
}
END_TEST

START_TEST(failures)
{
	struct hvmi_vm *vm = good("ram 0 1M\nnomap\nfail read 3 EIO 2\nfail read 6 ESRCH\n"
				  "fail get_register 1 EACCES\nvcpu 0 rax 1\n"
				  "fail read 8 EBUSY 0xffffffffffffffff\n", 0);
	char c;
	static const int expected[] = { 0, 0, -EIO, -EIO, 0, -ESRCH, 0, -EBUSY, -EBUSY };
	for (size_t i = 0; i < 9; i++)
		ck_assert_int_eq(hvmi_vm_read(vm, 0, &c, 1, NULL), expected[i]);
	uint64_t value;
	ck_assert_int_eq(hvmi_vm_register(vm, 0, HVMI_X86_RAX, &value), -EACCES);
	ck_assert_int_eq(hvmi_vm_register(vm, 0, HVMI_X86_RAX, &value), 0);
	hvmi_close(vm);
	/* Methods that opening calls make opening fail. */
	struct hvmi_error err;
	ck_assert_int_eq(try("ram 0 4K\nfail open 1 ETIMEDOUT", 0, &vm, &err), -ETIMEDOUT);
	ck_assert_int_eq(try("ram 0 4K\nfail describe 1 EIO", 0, &vm, &err), -EIO);
	ck_assert_int_eq(try("ram 0 4K\nfail range 1 EIO", 0, &vm, &err), -EIO);
	ck_assert_int_eq(try("ram 0 4K\nram 1M 4K\nfail map 2 ENOMEM", 0, &vm, &err), -ENOMEM);
	vm = good("ram 0 4K\nfail range 2 EIO\nfail map 1 ENOTSUP", 0);
	hvmi_close(vm);
}
END_TEST

START_TEST(notes)
{
	char script[128], path[] = "/tmp/test-sim-XXXXXX";
	int fd = mkstemp(path);
	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(write(fd, "OSRELEASE=6\n", 12), 12);
	close(fd);
	snprintf(script, sizeof(script), "note VMCOREINFO %s\nnote EMPTY /dev/null\n", path);
	struct hvmi_vm *vm = good(script, 0);
	char buf[32] = "";
	size_t len = 0;
	ck_assert_int_eq(hvmi_vm_note(vm, "VMCOREINFO", buf, 11, &len), -EOVERFLOW);
	ck_assert_uint_eq(len, 12);
	ck_assert_int_eq(hvmi_vm_note(vm, "VMCOREINFO", buf, 12, &len), 0);
	ck_assert_str_eq(buf, "OSRELEASE=6\n");
	ck_assert_int_eq(hvmi_vm_note(vm, "EMPTY", NULL, 0, &len), 0);
	ck_assert_uint_eq(len, 0);
	ck_assert_int_eq(hvmi_vm_note(vm, "VMCORE", buf, 12, &len), -ENOENT);
	hvmi_close(vm);
	unlink(path);
}
END_TEST

/* Each bad line is the third, and its sentence names file and line. */
START_TEST(bad_scripts)
{
	static const char *const lines[] = {
		"rom 0 4K", "ram", "ram 0", "ram 0 0", "ram x 4K", "ram 0 4K 5",
		"ram 0 99999999999999999999", "ram 0xfffffffffffff000 8K",
		"ram 0xfffffffffffff000 4K", "ram 0 16777216T", "ram 0 4000T", "arch",
		"arch vax", "arch x86 64", "load", "load 0", "load 0 /nonexistent", "load 0 /",
		"load 0x10000000 /etc/passwd", "load 0xfffff /etc/passwd", "bytes", "bytes 0",
		"bytes 0 1", "bytes 0 0g", "bytes 0 +1", "bytes 0xfffff 0102",
		"bytes 0xffffffffffffffff 0102", "bytes 0x1000000 01", "u64", "u64 0", "u64 0 x",
		"u64 0xffff9 1", "u64 0 0x10000000000000000", "u32 0 0x100000000",
		"u32 0xffffd 1", "vcpu", "vcpu x", "vcpu 4096", "vcpu 0 raz 1", "vcpu 0 rax",
		"vcpu 0 rax x", "vcpu 0 rax 1 2", "vcpu 0xffffffffffffffff", "static 1",
		"nomap 1", "absent", "absent 0", "absent 0 0", "absent 0 1", "absent 1 4K",
		"fail", "fail read", "fail read 1", "fail read 0 EIO", "fail read x EIO",
		"fail read 1 EPERM", "fail read 1 unknown", "fail read 1 OK", "fail close 1 EIO", "lacks", "lacks nothing",
		"fail read 1 EIO x", "fail read 1 EIO 1 1", "note", "note X",
		"note X /nonexistent", "note X /", "RAM 0 4K",
	};
	for (size_t i = 0; i < sizeof(lines) / sizeof(*lines); i++) {
		char script[256];
		snprintf(script, sizeof(script), "\nram 0 1M\n%s\nrom again\n", lines[i]);
		struct hvmi_vm *vm = NULL;
		struct hvmi_error err = { .code = 0 };
		int rc = try(script, 0, &vm, &err);
		ck_assert_msg(rc < 0, "%s", lines[i]);
		ck_assert_ptr_null(vm);
		ck_assert_int_eq(err.code, rc);
		ck_assert_msg(strstr(err.text, ":3: ") != NULL, "%s: %s", lines[i], err.text);
		ck_assert_int_eq(try(script, 0, &vm, NULL), rc);
	}
	struct hvmi_vm *vm;
	struct hvmi_error err;
	ck_assert_int_eq(machine_try("ram 0 4K\n\0\n", 11, NULL, &vm, &err), -EINVAL);
	ck_assert_ptr_nonnull(strstr(err.text, ":2: "));
	ck_assert_int_eq(hvmi_open("sim:/nonexistent", NULL, &vm, &err), -ENOENT);
	ck_assert_int_eq(hvmi_open("sim:/", NULL, &vm, &err), -EIO);
	ck_assert_int_eq(hvmi_open("sim:/dev/zero", NULL, &vm, &err), -EOVERFLOW);
	ck_assert_int_eq(hvmi_open("sim:/dev/null,x=1", NULL, &vm, &err), -EINVAL);
}
END_TEST

/* A relative path is taken from the script's folder. */
START_TEST(relative_paths)
{
	char folder[] = "/tmp/test-sim-XXXXXX", path[64], target[80];
	ck_assert_ptr_nonnull(mkdtemp(folder));
	snprintf(path, sizeof(path), "%s/the image", folder);
	FILE *f = fopen(path, "w");
	fputs("image", f);
	fclose(f);
	char script[64];
	snprintf(script, sizeof(script), "%s/script", folder);
	f = fopen(script, "w");
	fputs("ram 0 4K\nload 5 the image\n", f);
	fclose(f);
	snprintf(target, sizeof(target), "sim:%s", script);
	struct hvmi_vm *vm;
	struct hvmi_error err;
	int rc = hvmi_open(target, NULL, &vm, &err);
	ck_assert_msg(rc == 0, "%s", err.text);
	char buf[6] = "";
	ck_assert_int_eq(hvmi_vm_read(vm, 5, buf, 5, NULL), 0);
	ck_assert_str_eq(buf, "image");
	hvmi_close(vm);
	unlink(path);
	unlink(script);
	rmdir(folder);
}
END_TEST

static void *read_much(void *context)
{
	char c;
	for (int i = 0; i < 20000; i++)
		hvmi_vm_read(context, (uint64_t)i, &c, 1, NULL);
	return NULL;
}

/* Calls are counted right though they run concurrently. */
START_TEST(threads)
{
	struct hvmi_vm *vm = good("ram 0 1M\nnomap\nfail read 80001 EIO\n", 0);
	pthread_t all[4];
	for (int i = 0; i < 4; i++)
		ck_assert_int_eq(pthread_create(&all[i], NULL, read_much, vm), 0);
	for (int i = 0; i < 4; i++)
		pthread_join(all[i], NULL);
	char c;
	ck_assert_int_eq(hvmi_vm_read(vm, 0, &c, 1, NULL), -EIO);
	ck_assert_int_eq(hvmi_vm_read(vm, 0, &c, 1, NULL), 0);
	hvmi_close(vm);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("sim");
	TCase *tcase = tcase_create("sim");
	tcase_add_test(tcase, what_it_says);
	tcase_add_test(tcase, contents);
	tcase_add_test(tcase, next_data);
	tcase_add_test(tcase, writing);
	tcase_add_test(tcase, registers);
	tcase_add_test(tcase, pausing);
	tcase_add_test(tcase, absent_pages);
	tcase_add_test(tcase, failures);
	tcase_add_test(tcase, notes);
	tcase_add_test(tcase, bad_scripts);
	tcase_add_test(tcase, relative_paths);
	tcase_add_test(tcase, threads);
	suite_add_tcase(suite, tcase);
	return run_suite(suite);
}
