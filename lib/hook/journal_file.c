/* SPDX-License-Identifier: Apache-2.0 */
#include "hook/journal.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

/* SDM volume 3, 6.14.1: gates of long mode have 16 bytes, those of protected mode 8. */
static int handler_address(struct hvmi_space *space, const struct hvmi_registers *r, uint64_t *ret)
{
	enum { PAGE_FAULT = 14, EFER_LMA = 1 << 10 };
	uint64_t base, cr0, efer = 0;
	uint8_t gate[16] = { 0 };
	if (hvmi_registers_get(r, HVMI_X86_IDTR_BASE, &base) ||
	    hvmi_registers_get(r, HVMI_X86_CR0, &cr0) || !(cr0 & 1))
		return -ENOTSUP;
	hvmi_registers_get(r, HVMI_X86_EFER, &efer);
	size_t size = efer & EFER_LMA ? 16 : 8;
	int rc = hvmi_space_read(space, base + PAGE_FAULT * size, gate, size, NULL);
	if (!rc)
		*ret = load_le16(gate) | (uint64_t)load_le16(gate + 6) << 16 |
		       (uint64_t)load_le32(gate + 8) << 32;
	return rc;
}

void journal_identify(struct hvmi_vm *vm, struct journal_identity *ret)
{
	struct hvmi_registers registers;
	struct hvmi_space *space;
	*ret = (struct journal_identity){ 0 };
	char *machine = ret->machine;
	if (!vm->backend.identity ||
	    vm->backend.identity(vm->machine, machine, sizeof(ret->machine)))
		snprintf(machine, sizeof(ret->machine), "%s, %llu bytes of RAM",
			 vm->backend.scheme, (unsigned long long)vm->ram);
	machine[sizeof(ret->machine) - 1] = '\0';
	/* The rest of it takes part in checksums and comparisons. */
	memset(machine + strlen(machine), 0, sizeof(ret->machine) - strlen(machine));
	if (hvmi_vm_get_registers(vm, 0, &registers, NULL) ||
	    hvmi_space_create_vcpu(vm, 0, &space, NULL))
		return;
	uint64_t gva, gpa;
	if (!handler_address(space, &registers, &gva) && !hvmi_space_translate(space, gva, &gpa)) {
		ret->boot_gva = gva;
		ret->boot_gpa = gpa;
	}
	hvmi_space_destroy(space);
}

static bool of_others(const struct stat *st)
{
	return (st->st_uid != geteuid() && st->st_uid != 0) || st->st_mode & (S_IWGRP | S_IWOTH);
}

static int failed(const struct hvmi_journal *journal, const char *what, struct hvmi_error *err)
{
	int error = errno;
	int rc = error == EACCES || error == EPERM || error == ELOOP || error == EROFS ? -EACCES :
		 error == ENOENT || error == ENOTDIR ? -ENOENT : error == ENOMEM ? -ENOMEM : -EIO;
	return hvmi_error_set(err, rc, HVMI_NO_ADDRESS, "the journal %s cannot be %s: %s",
			      journal->name, what, strerror(error));
}

static int open_directory(struct hvmi_journal *journal, const char *path, struct hvmi_error *err)
{
	struct stat st;
	journal->directory = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (journal->directory < 0 || fstat(journal->directory, &st)) {
		int error = errno;
		return hvmi_error_set(err, error == EACCES ? -EACCES : -ENOENT, HVMI_NO_ADDRESS,
				      "the folder %s for journals cannot be opened: %s", path,
				      strerror(error == ENOTDIR || error == ELOOP ? ENOTDIR : error));
	}
	if (of_others(&st))
		return hvmi_error_set(err, -EACCES, HVMI_NO_ADDRESS,
				      "others may write to %s: a journal's folder must be ours or "
				      "root's alone (chmod 700)", path);
	return 0;
}

/* 1: it was taken away before it was locked. */
static int lock_file(struct hvmi_journal *journal, struct hvmi_error *err)
{
	struct stat st;
	if (fstat(journal->fd, &st))
		return failed(journal, "looked at", err);
	if (!S_ISREG(st.st_mode) || of_others(&st) || st.st_nlink > 1)
		return hvmi_error_set(err, -EACCES, HVMI_NO_ADDRESS,
				      "the journal %s is no plain file of ours: remove it",
				      journal->name);
	if (flock(journal->fd, LOCK_EX | LOCK_NB)) {
		if (errno != EWOULDBLOCK)
			return failed(journal, "locked", err);
		struct journal_header header = { 0 };
		if (pread(journal->fd, &header, sizeof(header), 0) != sizeof(header))
			header.pid = 0;
		return hvmi_error_set(err, -EBUSY, HVMI_NO_ADDRESS,
				      "program %u has the journal %s open: end it first",
				      header.pid, journal->name);
	}
	if (fstat(journal->fd, &st))
		return failed(journal, "looked at", err);
	return st.st_nlink == 0;
}

int journal_file_open(struct hvmi_journal *journal, const char *directory,
		      const struct journal_identity *identity, bool create, struct hvmi_error *err)
{
	/* FNV-1a; who meets a name of another machine's sees that by the header. */
	uint64_t hash = 0xcbf29ce484222325ull;
	for (const char *c = identity->machine; *c; c++)
		hash = (hash ^ (uint8_t)*c) * 0x100000001b3ull;
	snprintf(journal->name, sizeof(journal->name), "hvmi-%016llx.journal",
		 (unsigned long long)hash);
	journal->fd = -1;
	int rc = open_directory(journal, directory, err);
	for (int tries = 0; !rc; tries++) {
		int flags = O_RDWR | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC | (create ? O_CREAT : 0);
		journal->fd = openat(journal->directory, journal->name, flags, 0600);
		if (journal->fd < 0) {
			rc = failed(journal, "opened", err);
			break;
		}
		rc = lock_file(journal, err);
		if (rc != 1)
			break;
		close(journal->fd);
		journal->fd = -1;
		rc = tries < 100 ? 0 : hvmi_error_set(err, -EBUSY, HVMI_NO_ADDRESS,
						      "the journal %s comes and goes",
						      journal->name);
	}
	if (rc)
		journal_file_close(journal, false);
	return rc;
}

void journal_file_close(struct hvmi_journal *journal, bool remove)
{
	if (remove && journal->fd >= 0)
		unlinkat(journal->directory, journal->name, 0);
	if (journal->fd >= 0)
		close(journal->fd);
	if (journal->directory >= 0)
		close(journal->directory);
	journal->fd = journal->directory = -1;
	journal_patches_free(&journal->patches);
}

static int read_all(struct hvmi_journal *journal, uint8_t *bytes, size_t len,
		    struct hvmi_error *err)
{
	for (size_t done = 0; done < len;) {
		ssize_t n = pread(journal->fd, bytes + done, len - done, (off_t)done);
		if (n == 0)
			errno = EIO;
		if (n <= 0 && !(n < 0 && errno == EINTR))
			return failed(journal, "read", err);
		done += n > 0 ? (size_t)n : 0;
	}
	return 0;
}

static int check_identity(const struct hvmi_journal *journal,
			  const struct journal_identity *identity, struct hvmi_error *err)
{
	const struct journal_identity *was = &journal->header.identity;
	if (memcmp(was->machine, identity->machine, sizeof(was->machine)) != 0)
		return hvmi_error_set(err, -EBADMSG, HVMI_NO_ADDRESS,
				      "the journal %s is of the machine %s, and this is %s",
				      journal->name, was->machine, identity->machine);
	if (was->boot_gva && identity->boot_gva &&
	    (was->boot_gva != identity->boot_gva || was->boot_gpa != identity->boot_gpa))
		return hvmi_error_set(err, -EBADMSG, was->boot_gpa,
				      "the journal %s is of an earlier life of this machine: its "
				      "page fault handler was at 0x%llx and is at 0x%llx. If the "
				      "guest was booted since, discard it", journal->name,
				      (unsigned long long)was->boot_gva,
				      (unsigned long long)identity->boot_gva);
	return 0;
}

int journal_file_load(struct hvmi_journal *journal, const struct journal_identity *identity,
		      bool *empty_ret, struct hvmi_error *err)
{
	struct stat st;
	if (fstat(journal->fd, &st))
		return failed(journal, "looked at", err);
	/* Whoever made it was killed before it had said anything. */
	*empty_ret = (uint64_t)st.st_size < sizeof(journal->header);
	if (*empty_ret)
		return 0;
	if ((uint64_t)st.st_size > JOURNAL_FILE_MAX)
		return hvmi_error_set(err, -EBADMSG, HVMI_NO_ADDRESS,
				      "the journal %s is larger than any", journal->name);
	size_t len = (size_t)st.st_size, end = 0;
	CLEANUP_FREE uint8_t *bytes = malloc(len);
	if (!bytes)
		return hvmi_error_set(err, -ENOMEM, HVMI_NO_ADDRESS, "out of memory");
	int rc = read_all(journal, bytes, len, err);
	if (rc)
		return rc;
	memcpy(&journal->header, bytes, sizeof(journal->header));
	if (journal_header_check(&journal->header))
		return hvmi_error_set(err, -EBADMSG, HVMI_NO_ADDRESS,
				      "%s is no journal of this version: discard it, or recover "
				      "with the version that wrote it", journal->name);
	rc = check_identity(journal, identity, err);
	if (rc)
		return rc;
	const size_t start = sizeof(journal->header);
	rc = journal_parse(bytes + start, len - start, &journal->patches, &end);
	if (rc)
		return hvmi_error_set(err, rc, HVMI_NO_ADDRESS, "the journal %s cannot be read (%s)",
				      journal->name, hvmi_error_name(rc));
	journal->torn = end < len - start;
	journal->end = start + end;
	const struct journal_patches *p = &journal->patches;
	journal->last_id = p->count ? p->items[p->count - 1].id : 0;
	return 0;
}

static int write_all(int fd, const void *bytes, size_t len, uint64_t at)
{
	for (size_t done = 0; done < len;) {
		ssize_t n = pwrite(fd, (const uint8_t *)bytes + done, len - done,
				   (off_t)(at + done));
		if (n < 0 && errno != EINTR)
			return -EIO;
		done += n > 0 ? (size_t)n : 0;
	}
	return 0;
}

int journal_file_append(struct hvmi_journal *journal, const void *bytes, size_t len,
			struct hvmi_error *err)
{
	if (journal->end + len > JOURNAL_FILE_MAX)
		return hvmi_error_set(err, -EOVERFLOW, HVMI_NO_ADDRESS, "the journal %s is full",
				      journal->name);
	if (write_all(journal->fd, bytes, len, journal->end)) {
		int rc = failed(journal, "written", err);
		/* Half a record is behind the end; the next one is written over it. */
		return ftruncate(journal->fd, (off_t)journal->end) ? -EIO : rc;
	}
	journal->end += len;
	return 0;
}

/* All of what is live, one after the other; returns the bytes. */
static uint64_t write_live(const struct hvmi_journal *journal, int fd, bool *good)
{
	enum { ROOM = 64 * 1024 };
	CLEANUP_FREE uint8_t *buf = malloc(ROOM + JOURNAL_RECORD_MAX + 8);
	uint64_t at = sizeof(journal->header);
	size_t used = 0;
	*good = buf != NULL;
	for (size_t i = 0; *good && i < journal->patches.count; i++) {
		if (!journal->patches.items[i].patch)
			continue;
		used += journal_record_placed(journal->patches.items[i].patch, buf + used);
		if (used < ROOM)
			continue;
		*good = !write_all(fd, buf, used, at);
		at += used;
		used = 0;
	}
	*good = *good && !write_all(fd, buf, used, at);
	return at + used;
}

int journal_file_rewrite(struct hvmi_journal *journal, struct hvmi_error *err)
{
	char name[sizeof(journal->name) + 8];
	snprintf(name, sizeof(name), ".%s.new", journal->name);
	unlinkat(journal->directory, name, 0);
	int fd = openat(journal->directory, name,
			O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0)
		return failed(journal, "written anew", err);
	journal_header_seal(&journal->header);
	bool good = !flock(fd, LOCK_EX | LOCK_NB) &&
		    !write_all(fd, &journal->header, sizeof(journal->header), 0);
	uint64_t end = 0;
	if (good)
		end = write_live(journal, fd, &good);
	good = good && !renameat(journal->directory, name, journal->directory, journal->name);
	if (!good) {
		int rc = failed(journal, "written anew", err);
		unlinkat(journal->directory, name, 0);
		close(fd);
		return rc;
	}
	close(journal->fd);
	journal->fd = fd;
	journal->end = end;
	journal->dead = 0;
	journal->torn = false;
	return 0;
}
