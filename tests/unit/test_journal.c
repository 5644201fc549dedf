/* SPDX-License-Identifier: Apache-2.0 */
/* Undo journals: what is placed is put back, whatever became of who placed it, or of the file. */
#include "suite.h"
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "machine.h"

#include "hook/journal.h"

#define CODE 0x11000u

static struct hvmi_error err;
static struct hvmi_vm *vm;
static char folder[64], file[128];

static void setup(void)
{
	snprintf(folder, sizeof(folder), "/tmp/hvmi-journal.XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(folder));
	vm = machine_open(HVMI_OPEN_WRITE, "arch x86\nram 0 1M\nvcpu 0 cr0 1\nvcpu 0 rip 0x11009\n"
			  "bytes 0x11000 00 01 02 03 04 05 06 07 08 09 0a 0b 0c 0d 0e 0f\n");
}

static void teardown(void)
{
	char command[96];
	hvmi_close(vm);
	snprintf(command, sizeof(command), "rm -rf %s", folder);
	ck_assert_int_eq(system(command), 0);
}

/* The one file in the folder, or NULL. */
static const char *the_file(void)
{
	DIR *d = opendir(folder);
	bool found = false;
	for (struct dirent *e; (e = readdir(d));)
		if (e->d_name[0] != '.') {
			ck_assert(!found);
			found = true;
			snprintf(file, sizeof(file), "%.60s/%.60s", folder, e->d_name);
		}
	closedir(d);
	return found ? file : NULL;
}

static struct hvmi_journal *open_journal(uint32_t flags)
{
	struct hvmi_journal *j = NULL;
	int rc = hvmi_journal_open(vm, folder, flags, &j, &err);
	ck_assert_msg(rc == 0, "%s", err.text);
	return j;
}

static int place_at(struct hvmi_journal *j, uint64_t gpa, const char *bytes, uint32_t flags,
		    uint64_t *id)
{
	struct hvmi_patch p = { .size = sizeof(p), .gpa = gpa, .gva = gpa, .bytes = bytes,
				.len = (uint32_t)strlen(bytes), .flags = flags };
	int rc = hvmi_patch_place(j, &p, &err);
	*id = p.id;
	return rc;
}

static void place(struct hvmi_journal *j, uint64_t gpa, const char *bytes, uint64_t *id)
{
	ck_assert_int_eq(place_at(j, gpa, bytes, 0, id), 0);
}

static void has(uint64_t gpa, const char *bytes)
{
	char now[64];
	ck_assert_int_eq(hvmi_vm_read(vm, gpa, now, strlen(bytes), NULL), 0);
	ck_assert_mem_eq(now, bytes, strlen(bytes));
}

/* All that the machine came with. */
static void is_whole(void)
{
	uint8_t now[16];
	ck_assert_int_eq(hvmi_vm_read(vm, CODE, now, sizeof(now), NULL), 0);
	for (uint8_t i = 0; i < 16; i++)
		ck_assert_uint_eq(now[i], i);
}

/* As a SIGKILL does: the lock goes, and nothing else. */
static void die(struct hvmi_journal *j)
{
	vm->held = NULL;
	journal_file_close(j, false);
	free(j);
}

START_TEST(place_and_undo)
{
	uint64_t a, b;
	struct stat st;
	struct hvmi_journal *j = open_journal(0), *second;
	ck_assert_ptr_nonnull(the_file());
	ck_assert_int_eq(stat(file, &st), 0);
	ck_assert_uint_eq(st.st_mode & 0777, 0600);
	place(j, CODE, "\xcc", &a);
	place(j, CODE + 4, "abc", &b);
	has(CODE, "\xcc");
	has(CODE + 4, "abc");
	ck_assert_uint_ne(a, b);
	ck_assert_int_eq(hvmi_journal_open(vm, folder, 0, &second, &err), -EBUSY);
	ck_assert_int_eq(hvmi_recover(vm, folder, NULL, NULL, &err), -EBUSY);
	ck_assert_int_eq(hvmi_patch_undo(j, a, &err), 0);
	ck_assert_int_eq(hvmi_patch_undo(j, a, &err), -ENOENT);
	ck_assert_int_eq(hvmi_patch_undo(j, b, &err), 0);
	is_whole();
	hvmi_journal_close(j);
	ck_assert_ptr_null(the_file());
	ck_assert_int_eq(hvmi_recover(vm, folder, NULL, NULL, &err), -ENOENT);
}
END_TEST

START_TEST(arguments)
{
	struct hvmi_journal *j;
	uint64_t id;
	ck_assert_int_eq(hvmi_journal_open(vm, "/nonexistent/x", 0, &j, &err), -ENOENT);
	ck_assert_int_eq(hvmi_journal_open(vm, folder, 4, &j, &err), -EINVAL);
	ck_assert_int_eq(hvmi_journal_open(vm, NULL, 0, &j, &err), -EINVAL);
	j = open_journal(0);
	struct hvmi_patch p = { .size = sizeof(p), .gpa = CODE, .gva = HVMI_NO_ADDRESS,
				.bytes = "x", .len = 1 };
	p.flags = HVMI_PATCH_CODE;
	ck_assert_int_eq(hvmi_patch_place(j, &p, &err), -EINVAL);
	p.flags = 2;
	ck_assert_int_eq(hvmi_patch_place(j, &p, &err), -EINVAL);
	p.flags = 0;
	p.len = 0;
	ck_assert_int_eq(hvmi_patch_place(j, &p, &err), -EINVAL);
	ck_assert_int_eq(place_at(j, 0x11fff, "ab", 0, &id), -EINVAL);
	ck_assert_int_eq(place_at(j, 1u << 20, "ab", 0, &id), -EFAULT);
	hvmi_journal_close(j);
	hvmi_journal_close(NULL);
	ck_assert_ptr_null(the_file());
}
END_TEST

START_TEST(killed)
{
	uint64_t id;
	struct hvmi_recovered r = { .size = sizeof(r) };
	struct hvmi_journal *j = open_journal(0);
	place(j, CODE, "\xcc", &id);
	place(j, CODE + 2, "abc", &id);
	/* Over what is placed already: last first. */
	place(j, CODE + 1, "defg", &id);
	place(j, CODE + 8, "\xcc", &id);
	place(j, CODE + 10, "xyz", &id);
	die(j);
	/* The guest writes over one, and over a part of another, and has put one back itself. */
	ck_assert_int_eq(hvmi_vm_write(vm, CODE + 8, "!", 1, NULL), 0);
	ck_assert_int_eq(hvmi_vm_write(vm, CODE + 10, "\x0a\x0b\x0c", 3, NULL), 0);
	ck_assert_int_eq(hvmi_journal_open(vm, folder, 0, &j, &err), -EBUSY);
	ck_assert_int_eq(hvmi_recover(vm, folder, NULL, &r, &err), 0);
	ck_assert_uint_eq(r.restored, 3);
	ck_assert_uint_eq(r.changed, 1);
	ck_assert_uint_eq(r.absent, 1);
	ck_assert_uint_eq(r.waiting + r.failed, 0);
	ck_assert_uint_eq(r.pid, (uint32_t)getpid());
	has(CODE + 8, "!");
	ck_assert_int_eq(hvmi_vm_write(vm, CODE + 8, "\x08", 1, NULL), 0);
	is_whole();
	ck_assert_ptr_null(the_file());
}
END_TEST

START_TEST(cut_write)
{
	/* Some bytes of a patch got there, others did not. */
	uint64_t id;
	struct hvmi_recovered r = { .size = sizeof(r) };
	struct hvmi_journal *j = open_journal(0);
	place(j, CODE + 4, "abcd", &id);
	die(j);
	ck_assert_int_eq(hvmi_vm_write(vm, CODE + 6, "\x06\x07", 2, NULL), 0);
	ck_assert_int_eq(hvmi_recover(vm, folder, NULL, &r, &err), 0);
	ck_assert_uint_eq(r.restored, 1);
	is_whole();
}
END_TEST

START_TEST(changed_under_undo)
{
	uint64_t id;
	struct hvmi_journal *j = open_journal(0);
	place(j, CODE, "ab", &id);
	ck_assert_int_eq(hvmi_vm_write(vm, CODE, "!!", 2, NULL), 0);
	ck_assert_int_eq(hvmi_patch_undo(j, id, &err), -EBADMSG);
	has(CODE, "!!");
	ck_assert_int_eq(hvmi_patch_undo(j, id, &err), -ENOENT);
	hvmi_journal_close(j);
	ck_assert_ptr_null(the_file());
}
END_TEST

START_TEST(kept_when_closed)
{
	/* Who closes with patches placed leaves them to the next. */
	uint64_t id;
	struct hvmi_journal *j = open_journal(0);
	place(j, CODE, "ab", &id);
	hvmi_journal_close(j);
	ck_assert_ptr_nonnull(the_file());
	j = open_journal(HVMI_JOURNAL_RECOVER);
	is_whole();
	ck_assert_int_eq(hvmi_patch_undo(j, id, &err), -ENOENT);
	hvmi_journal_close(j);
	ck_assert_ptr_null(the_file());
}
END_TEST

START_TEST(occupied)
{
	/* The vCPU is at CODE + 9: what is placed around it waits, what begins there does not. */
	uint64_t id;
	struct hvmi_recovered r = { .size = sizeof(r) };
	struct hvmi_journal *j = open_journal(0);
	place(j, CODE + 9, "ab", &id);
	place(j, CODE, "abc", &id);
	ck_assert_int_eq(place_at(j, CODE + 4, "code", HVMI_PATCH_CODE, &id), 0);
	die(j);
	ck_assert_int_eq(hvmi_recover(vm, folder, NULL, &r, &err), -EBUSY);
	ck_assert_uint_eq(r.restored, 2);
	/* Nobody is in it, but nobody can say so of threads. */
	ck_assert_uint_eq(r.waiting, 1);
	has(CODE + 4, "code");
	ck_assert_ptr_nonnull(the_file());
	/* It stays in the journal of the next program. */
	j = open_journal(HVMI_JOURNAL_RECOVER);
	ck_assert_int_eq(hvmi_patch_undo(j, id, &err), 0);
	hvmi_journal_close(j);
	is_whole();
	ck_assert_ptr_null(the_file());

	j = open_journal(0);
	place(j, CODE + 8, "abc", &id);
	die(j);
	ck_assert_int_eq(hvmi_recover(vm, folder, NULL, &r, &err), -EBUSY);
	ck_assert_uint_eq(r.waiting, 1);
	ck_assert_int_eq(hvmi_vm_set_register(vm, 0, HVMI_X86_RIP, CODE + 8), 0);
	ck_assert_int_eq(hvmi_recover(vm, folder, NULL, &r, &err), 0);
	is_whole();
}
END_TEST

/* Every length that a write can be cut at: what is whole before is undone. */
START_TEST(torn)
{
	uint64_t id;
	struct stat st;
	uint8_t bytes[4096];
	struct hvmi_journal *j = open_journal(0);
	place(j, CODE, "\xcc", &id);
	const off_t first = (off_t)j->end;
	ck_assert_ptr_nonnull(the_file());
	die(j);
	ck_assert_int_eq(stat(file, &st), 0);
	ck_assert_int_eq(st.st_size, first);
	int fd = open(file, O_RDONLY);
	const ssize_t len = read(fd, bytes, sizeof(bytes));
	close(fd);
	ck_assert_int_eq(len, first);
	for (ssize_t cut = 0; cut <= len; cut++) {
		struct hvmi_recovered r = { .size = sizeof(r) };
		ck_assert_int_eq(hvmi_vm_write(vm, CODE, "\xcc", 1, NULL), 0);
		fd = open(file, O_WRONLY | O_CREAT | O_TRUNC, 0600);
		ck_assert_int_eq(write(fd, bytes, (size_t)cut), cut);
		close(fd);
		ck_assert_int_eq(hvmi_recover(vm, folder, NULL, &r, &err), 0);
		ck_assert_uint_eq(r.restored, cut == len);
		ck_assert_ptr_null(the_file());
	}
	is_whole();
	/* One bit of it. */
	for (ssize_t i = 0; i < len * 8; i++) {
		struct hvmi_recovered r = { .size = sizeof(r) };
		uint8_t damaged[sizeof(bytes)];
		memcpy(damaged, bytes, (size_t)len);
		damaged[i / 8] ^= (uint8_t)(1u << i % 8);
		ck_assert_int_eq(hvmi_vm_write(vm, CODE, "\xcc", 1, NULL), 0);
		fd = open(file, O_WRONLY | O_CREAT | O_TRUNC, 0600);
		ck_assert_int_eq(write(fd, damaged, (size_t)len), len);
		close(fd);
		int rc = hvmi_recover(vm, folder, NULL, &r, &err);
		const size_t checked = offsetof(struct journal_header, holding);
		if ((size_t)i / 8 < checked) {
			ck_assert_int_eq(rc, -EBADMSG);
			unlink(file);
		} else {
			ck_assert_int_eq(rc, 0);
			/* `holding` and what is reserved behind it are not checked. */
			bool whole = (size_t)i / 8 < sizeof(struct journal_header);
			ck_assert_uint_eq(r.restored, whole);
			ck_assert_uint_eq(!(r.flags & HVMI_RECOVERED_TORN), whole);
		}
	}
}
END_TEST

START_TEST(others)
{
	uint64_t id;
	struct hvmi_journal *j = open_journal(0);
	place(j, CODE, "ab", &id);
	die(j);
	ck_assert_ptr_nonnull(the_file());
	/* A file that others may write to, a link, a folder of others. */
	ck_assert_int_eq(chmod(file, 0620), 0);
	ck_assert_int_eq(hvmi_recover(vm, folder, NULL, NULL, &err), -EACCES);
	ck_assert_int_eq(chmod(file, 0600), 0);
	ck_assert_int_eq(chmod(folder, 0777), 0);
	ck_assert_int_eq(hvmi_recover(vm, folder, NULL, NULL, &err), -EACCES);
	ck_assert_int_eq(chmod(folder, 0700), 0);
	char moved[160], link_name[96];
	snprintf(moved, sizeof(moved), "%s.moved", file);
	ck_assert_int_eq(link(file, moved), 0);
	ck_assert_int_eq(hvmi_recover(vm, folder, NULL, NULL, &err), -EACCES);
	ck_assert_int_eq(unlink(file), 0);
	ck_assert_int_eq(symlink(moved, file), 0);
	ck_assert_int_eq(hvmi_recover(vm, folder, NULL, NULL, &err), -EACCES);
	ck_assert_int_eq(hvmi_journal_open(vm, folder, HVMI_JOURNAL_RECOVER, &j, &err), -EACCES);
	ck_assert_int_eq(rename(moved, file), 0);
	snprintf(link_name, sizeof(link_name), "%s.link", folder);
	ck_assert_int_eq(symlink(folder, link_name), 0);
	ck_assert_int_eq(hvmi_recover(vm, link_name, NULL, NULL, &err), -ENOENT);
	ck_assert_int_eq(unlink(link_name), 0);
	ck_assert_int_eq(hvmi_recover(vm, folder, NULL, NULL, &err), 0);
	is_whole();
}
END_TEST

START_TEST(another_machine)
{
	uint64_t id;
	struct hvmi_journal *j = open_journal(0);
	place(j, CODE, "ab", &id);
	/* Another machine's, under this one's name; and one of another life. */
	snprintf(j->header.identity.machine, sizeof(j->header.identity.machine), "another");
	ck_assert_int_eq(journal_file_rewrite(j, &err), 0);
	die(j);
	ck_assert_int_eq(hvmi_recover(vm, folder, NULL, NULL, &err), -EBADMSG);
	has(CODE, "ab");
	ck_assert_int_eq(hvmi_journal_open(vm, folder, HVMI_JOURNAL_RECOVER, &j, &err), -EBADMSG);
	j = open_journal(HVMI_JOURNAL_DISCARD);
	has(CODE, "ab");
	hvmi_journal_close(j);
	ck_assert_ptr_null(the_file());
}
END_TEST

START_TEST(another_life)
{
	struct journal_identity a, b;
	struct hvmi_journal *j;
	uint64_t id;
	hvmi_close(vm);
	vm = machine_open(HVMI_OPEN_WRITE, "arch x86\nram 0 1M\n"
			  "vcpu 0 cr0 1\nvcpu 0 idtr.base 0x1000\n"
			  "bytes 0x1070 34 12 08 00 00 8e 01 00\n");
	journal_identify(vm, &a);
	ck_assert_uint_eq(a.boot_gva, 0x11234);
	ck_assert_uint_eq(a.boot_gpa, 0x11234);
	j = open_journal(0);
	place(j, CODE, "ab", &id);
	die(j);
	ck_assert_int_eq(hvmi_vm_write(vm, 0x1070, "\x35", 1, NULL), 0);
	journal_identify(vm, &b);
	ck_assert_uint_eq(b.boot_gva, 0x11235);
	ck_assert_int_eq(hvmi_recover(vm, folder, NULL, NULL, &err), -EBADMSG);
	has(CODE, "ab");
	ck_assert_int_eq(hvmi_vm_write(vm, 0x1070, "\x34", 1, NULL), 0);
	ck_assert_int_eq(hvmi_recover(vm, folder, NULL, NULL, &err), 0);
}
END_TEST

START_TEST(grows_no_more)
{
	/* What was undone does not stay in the file for ever. */
	enum { LIVE = 500, ROUNDS = 20000 };
	uint64_t ids[LIVE], id, largest = 0;
	struct hvmi_recovered r = { .size = sizeof(r) };
	struct hvmi_journal *j = open_journal(0);
	for (int i = 0; i < LIVE; i++)
		place(j, 0x20000 + 8u * (unsigned)i, "12345678", &ids[i]);
	for (int i = 0; i < ROUNDS; i++) {
		place(j, CODE, "ab", &id);
		ck_assert_int_eq(hvmi_patch_undo(j, id, &err), 0);
		largest = MAX(largest, j->end);
	}
	ck_assert_uint_lt(largest, 1024 * 1024);
	ck_assert_uint_eq(j->patches.live, LIVE);
	die(j);
	ck_assert_int_eq(hvmi_recover(vm, folder, NULL, &r, &err), 0);
	ck_assert_uint_eq(r.restored, LIVE);
	is_whole();
	has(0x20000, "");
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("journal");
	TCase *cases = tcase_create("journal");
	tcase_add_checked_fixture(cases, setup, teardown);
	tcase_add_test(cases, place_and_undo);
	tcase_add_test(cases, arguments);
	tcase_add_test(cases, killed);
	tcase_add_test(cases, cut_write);
	tcase_add_test(cases, changed_under_undo);
	tcase_add_test(cases, kept_when_closed);
	tcase_add_test(cases, occupied);
	tcase_add_test(cases, torn);
	tcase_add_test(cases, others);
	tcase_add_test(cases, another_machine);
	tcase_add_test(cases, another_life);
	tcase_add_test(cases, grows_no_more);
	suite_add_tcase(suite, cases);
	return run_suite(suite);
}
