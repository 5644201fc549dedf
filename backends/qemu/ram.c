/* SPDX-License-Identifier: Apache-2.0 */
#include "ram.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "hmp.h"
#include "process.h"

#define PAGE 4096u
/* Words of a page that the monitor is asked for when RAM is compared. */
#define CHECK_WORDS 64u
#define CHECK_PAGES 4u

/* "pc.ram", "/objects/ram": what the memory backend is called. */
static const char *backend_id(const char *region)
{
	const char *slash = strrchr(region, '/');
	return slash ? slash + 1 : region;
}

static bool is_memdev(const json_t *memdevs, const char *region)
{
	size_t i;
	json_t *memdev;
	json_array_foreach(memdevs, i, memdev) {
		const char *id = json_string_value(json_object_get(memdev, "id"));
		if (id && !strcmp(id, backend_id(region)))
			return true;
	}
	/* Machine types of before QEMU 5.0 have RAM without a backend. */
	size_t len = strlen(region);
	return len > 4 && !strcmp(region + len - 4, ".ram") && strcmp(region, "vga.ram");
}

static int take_pieces(struct ram *ram, const struct hmp_piece *pieces, size_t count,
		       const json_t *memdevs, struct hvmi_error *err)
{
	ram->ranges = calloc(count, sizeof(*ram->ranges));
	if (!ram->ranges)
		return hvmi_error_set(err, -ENOMEM, HVMI_NO_ADDRESS, "out of memory");
	for (size_t i = 0; i < count; i++) {
		const struct hmp_piece *p = &pieces[i];
		if (!is_memdev(memdevs, p->region))
			continue;
		struct ram_range *last = ram->count ? &ram->ranges[ram->count - 1] : NULL;
		/* What is read-only for the guest now, in front of 1 MiB, is RAM all the same. */
		if (last && last->gpa + last->len == p->gpa &&
		    last->offset + last->len == p->offset && !strcmp(last->region, p->region)) {
			last->len += p->len;
			continue;
		}
		struct ram_range *r = &ram->ranges[ram->count++];
		*r = (struct ram_range){ .gpa = p->gpa, .len = p->len, .offset = p->offset };
		memcpy(r->region, p->region, sizeof(r->region));
	}
	if (!ram->count)
		return hvmi_error_set(err, -ENOTSUP, HVMI_NO_ADDRESS,
				      "QEMU shows no RAM in 'info mtree -f'");
	return 0;
}

static int find_ranges(struct ram *ram, struct monitor *m, struct hvmi_error *err)
{
	char *text;
	int rc = monitor_hmp(m, -1, "info mtree -f", &text, err);
	if (rc)
		return rc;
	struct hmp_piece *pieces = NULL;
	size_t count = 0;
	rc = hmp_mtree(text, &pieces, &count);
	free(text);
	if (rc)
		return hvmi_error_set(err, rc, HVMI_NO_ADDRESS,
				      "'info mtree -f' of %s is not understood: QEMU 3.0 or later "
				      "is needed", m->name);
	json_t *memdevs = NULL;
	rc = monitor_command(m, "query-memdev", NULL, &memdevs, err);
	if (!rc)
		rc = take_pieces(ram, pieces, count, memdevs, err);
	json_decref(memdevs);
	free(pieces);
	return rc;
}

static int host_address(struct monitor *m, uint64_t gpa, uint64_t *ret)
{
	char line[64], *text;
	snprintf(line, sizeof(line), "gpa2hva 0x%llx", (unsigned long long)gpa);
	int rc = monitor_hmp(m, -1, line, &text, NULL);
	if (rc)
		return rc;
	rc = hmp_gpa2hva(text, ret);
	free(text);
	return rc;
}

static int find_host_addresses(struct ram *ram, struct monitor *m)
{
	for (size_t i = 0; i < ram->count; i++) {
		struct ram_range *r = &ram->ranges[i];
		uint64_t first, last;
		int rc = host_address(m, r->gpa, &first);
		if (!rc)
			rc = host_address(m, r->gpa + r->len - 1, &last);
		if (rc == -ESRCH || rc == -ETIMEDOUT)
			return rc;
		if (!rc && last - first == r->len - 1)
			r->hva = first;
	}
	return 0;
}

static int add_file(struct ram *ram, struct ram_range *r, const struct process_area *area, int fd)
{
	struct ram_file *files = realloc(ram->files, (ram->file_count + 1) * sizeof(*files));
	if (!files)
		return -ENOMEM;
	ram->files = files;
	files[ram->file_count] = (struct ram_file){ .fd = fd, .device = area->device,
						    .inode = area->inode, .from = area->offset,
						    .to = area->offset + r->len };
	r->file = ram->file_count++;
	r->file_offset = area->offset;
	return 0;
}

static bool known_file(struct ram *ram, struct ram_range *r, const struct process_area *area)
{
	for (size_t i = 0; i < ram->file_count; i++) {
		struct ram_file *f = &ram->files[i];
		if (f->device != area->device || f->inode != area->inode)
			continue;
		f->from = f->from < area->offset ? f->from : area->offset;
		f->to = f->to > area->offset + r->len ? f->to : area->offset + r->len;
		r->file = i;
		r->file_offset = area->offset;
		return true;
	}
	return false;
}

/* Map what is needed of a file, at the granularity that its file system wants (huge pages). */
static int map_file(struct ram_file *f)
{
	struct stat st;
	if (fstat(f->fd, &st) || (uint64_t)st.st_size < f->to)
		return -ENOENT;
	uint64_t unit = st.st_blksize > (long)PAGE && !(st.st_blksize & (st.st_blksize - 1)) ?
				(uint64_t)st.st_blksize : PAGE;
	f->from &= ~(unit - 1);
	f->to = (f->to + unit - 1) & ~(unit - 1);
	void *base = mmap(NULL, f->to - f->from, PROT_READ, MAP_SHARED | MAP_NORESERVE, f->fd,
			  (off_t)f->from);
	if (base == MAP_FAILED)
		return errno == ENOMEM ? -ENOMEM : -EACCES;
	/* A child has no use for it, and a core dump would hold the guest. */
	madvise(base, f->to - f->from, MADV_DONTFORK);
	madvise(base, f->to - f->from, MADV_DONTDUMP);
	f->base = base;
	return 0;
}

static void drop_files(struct ram *ram)
{
	for (size_t i = 0; i < ram->file_count; i++) {
		if (ram->files[i].base)
			munmap(ram->files[i].base, ram->files[i].to - ram->files[i].from);
		close(ram->files[i].fd);
	}
	free(ram->files);
	ram->files = NULL;
	ram->file_count = 0;
	for (size_t i = 0; i < ram->count; i++)
		ram->ranges[i].host = NULL;
}

static int map_files(struct ram *ram)
{
	for (size_t i = 0; i < ram->file_count; i++) {
		int rc = map_file(&ram->files[i]);
		if (rc)
			return rc;
	}
	return 0;
}

/* Find the files behind the ranges through QEMU's process and map them. */
static int map_process(struct ram *ram, pid_t pid, bool *private_ret)
{
	bool *found = calloc(ram->count, sizeof(*found));
	struct process_area *area = malloc(sizeof(*area));
	int rc = found && area ? 0 : -ENOMEM;
	for (size_t i = 0; !rc && i < ram->count; i++) {
		struct ram_range *r = &ram->ranges[i];
		rc = r->hva ? process_area(pid, r->hva, r->len, area) : -ENOENT;
		if (rc)
			break;
		if (!area->shared || !area->inode) {
			*private_ret = true;
			continue;
		}
		int fd;
		if (!known_file(ram, r, area)) {
			rc = process_open_file(pid, area, &fd);
			if (!rc && (rc = add_file(ram, r, area, fd)))
				close(fd);
		}
		found[i] = !rc;
	}
	if (!rc)
		rc = map_files(ram);
	for (size_t i = 0; !rc && i < ram->count; i++) {
		struct ram_range *r = &ram->ranges[i];
		if (found[i])
			r->host = ram->files[r->file].base +
				  (r->file_offset - ram->files[r->file].from);
	}
	if (rc)
		drop_files(ram);
	free(area);
	free(found);
	return rc;
}

/* Map files that QEMU names, where its process is closed to us. */
static int map_named(struct ram *ram, struct monitor *m)
{
	int rc = 0;
	for (size_t i = 0; !rc && i < ram->count; i++) {
		struct ram_range *r = &ram->ranges[i];
		char object[96];
		json_t *share = NULL, *path = NULL;
		snprintf(object, sizeof(object), "/objects/%s", backend_id(r->region));
		if (monitor_command(m, "qom-get", json_pack("{s:s,s:s}", "path", object, "property",
							    "share"), &share, NULL) ||
		    !json_is_true(share) ||
		    monitor_command(m, "qom-get", json_pack("{s:s,s:s}", "path", object, "property",
							    "mem-path"), &path, NULL) ||
		    !json_is_string(path))
			rc = -ENOENT;
		int fd = rc ? -1 : open(json_string_value(path), O_RDONLY | O_CLOEXEC | O_NOCTTY);
		struct stat st;
		if (!rc && (fd < 0 || fstat(fd, &st) || !S_ISREG(st.st_mode)))
			rc = -ENOENT;
		if (!rc) {
			struct process_area area = { .device = st.st_dev, .inode = st.st_ino,
						     .offset = r->offset };
			if (known_file(ram, r, &area))
				close(fd);
			else
				rc = add_file(ram, r, &area, fd);
		}
		if (rc && fd >= 0)
			close(fd);
		json_decref(share);
		json_decref(path);
	}
	if (!rc)
		rc = map_files(ram);
	for (size_t i = 0; !rc && i < ram->count; i++) {
		struct ram_range *r = &ram->ranges[i];
		r->host = ram->files[r->file].base + (r->file_offset - ram->files[r->file].from);
	}
	if (rc)
		drop_files(ram);
	return rc;
}

int ram_read(const struct ram *ram, const struct ram_range *r, uint64_t gpa, void *buf, size_t len)
{
	if (r->host) {
		memcpy(buf, r->host + (gpa - r->gpa), len);
		return 0;
	}
	if (ram->process < 0 || !r->hva)
		return -ENOTSUP;
	for (size_t done = 0; done < len;) {
		ssize_t n = pread(ram->process, (char *)buf + done, len - done,
				  (off_t)(r->hva + (gpa - r->gpa) + done));
		if (n > 0)
			done += (size_t)n;
		else if (n == 0 || errno != EINTR)
			return n == 0 ? -ESRCH : -EIO;
	}
	return 0;
}

int ram_write(const struct ram *ram, const struct ram_range *r, uint64_t gpa, const void *buf,
	      size_t len)
{
	if (ram->process < 0 || !r->hva)
		return -ENOTSUP;
	for (size_t done = 0; done < len;) {
		ssize_t n = pwrite(ram->process, (const char *)buf + done, len - done,
				   (off_t)(r->hva + (gpa - r->gpa) + done));
		if (n > 0)
			done += (size_t)n;
		else if (n == 0 || errno != EINTR)
			return n == 0 ? -ESRCH : errno == EBADF ? -ENOTSUP : -EIO;
	}
	return 0;
}

static int read_words(struct monitor *m, uint64_t gpa, uint64_t *words, size_t count,
		      struct hvmi_error *err)
{
	char line[64], *text;
	snprintf(line, sizeof(line), "xp /%zugx 0x%llx", count, (unsigned long long)gpa);
	int rc = monitor_hmp(m, -1, line, &text, err);
	if (rc)
		return rc;
	rc = hmp_xp(text, gpa, words, count);
	free(text);
	return rc;
}

int ram_read_monitor(struct monitor *m, uint64_t gpa, void *buf, size_t len,
		     struct hvmi_error *err)
{
	uint64_t words[2 * PAGE / 8];
	for (size_t done = 0, n; done < len; done += n) {
		uint64_t at = gpa + done, from = at & ~(uint64_t)7;
		size_t skip = (size_t)(at - from);
		n = len - done < sizeof(words) - skip ? len - done : sizeof(words) - skip;
		int rc = read_words(m, from, words, (skip + n + 7) / 8, err);
		if (rc)
			return rc;
		memcpy((char *)buf + done, (const char *)words + skip, n);
	}
	return 0;
}

/* Whether a stretch holds what QEMU says that it holds; the guest may be writing to it. */
static int compare_at(const struct ram *ram, const struct ram_range *r, uint64_t gpa,
		      struct monitor *m)
{
	for (int tries = 0; tries < 5; tries++) {
		uint64_t before[CHECK_WORDS], told[CHECK_WORDS], after[CHECK_WORDS];
		int rc = ram_read(ram, r, gpa, before, sizeof(before));
		if (!rc)
			rc = read_words(m, gpa, told, CHECK_WORDS, NULL);
		if (!rc)
			rc = ram_read(ram, r, gpa, after, sizeof(after));
		if (rc)
			return rc;
		size_t same = 0;
		while (same < CHECK_WORDS &&
		       (told[same] == before[same] || told[same] == after[same]))
			same++;
		if (same == CHECK_WORDS)
			return 0;
	}
	return -ENOENT;
}

/* Compare the first page and some that hold something. */
static int compare_range(const struct ram *ram, const struct ram_range *r, struct monitor *m)
{
	int rc = compare_at(ram, r, r->gpa, m);
	uint64_t step = (r->len / 256 + PAGE) & ~(uint64_t)(PAGE - 1);
	for (uint64_t at = 0, found = 0; !rc && at + PAGE <= r->len && found < CHECK_PAGES;
	     at += step) {
		static const uint8_t zeros[8 * CHECK_WORDS];
		uint8_t bytes[sizeof(zeros)];
		rc = ram_read(ram, r, r->gpa + at, bytes, sizeof(bytes));
		if (!rc && memcmp(bytes, zeros, sizeof(zeros))) {
			rc = compare_at(ram, r, r->gpa + at, m);
			found++;
		}
	}
	return rc;
}

static int compare(const struct ram *ram, struct monitor *m)
{
	int rc = 0;
	for (size_t i = 0; !rc && i < ram->count; i++)
		rc = compare_range(ram, &ram->ranges[i], m);
	return rc;
}

/* QEMU's process, as far as it can be told: who listens, and whose thread runs the first vCPU. */
static size_t find_processes(struct monitor *m, pid_t pids[2])
{
	size_t count = 0;
	if (m->peer > 0)
		pids[count++] = m->peer;
	json_t *cpus = NULL;
	if (monitor_command(m, "query-cpus-fast", NULL, &cpus, NULL))
		return count;
	const json_t *thread = json_object_get(json_array_get(cpus, 0), "thread-id");
	pid_t pid = process_of_thread((pid_t)json_integer_value(thread));
	if (pid > 0 && (!count || pids[0] != pid))
		pids[count++] = pid;
	json_decref(cpus);
	return count;
}

/* Use a process if it really holds the guest's RAM: 0, or why not. */
static int try_process(struct ram *ram, struct monitor *m, pid_t pid, bool write,
		       bool *private_ret)
{
	*private_ret = false;
	int rc = map_process(ram, pid, private_ret);
	int memory_rc = rc == -ENOENT ? rc : process_open_memory(pid, write, &ram->process);
	if (!rc && *private_ret)
		rc = memory_rc;
	if (!rc)
		rc = compare(ram, m);
	if (rc) {
		drop_files(ram);
		if (ram->process >= 0)
			close(ram->process);
		ram->process = -1;
	}
	return rc;
}

#define FASTER                                                                                     \
	"start QEMU with '-object memory-backend-memfd,id=ram,size=SIZE,share=on -machine "        \
	"memory-backend=ram' (libvirt: memoryBacking with source memfd and access shared)"

int ram_open(struct ram *ram, struct monitor *m, const struct hvmi_backend_host *host,
	     struct hvmi_error *err)
{
	*ram = (struct ram){ .process = -1 };
	int rc = find_ranges(ram, m, err);
	if (rc)
		return rc;
	rc = find_host_addresses(ram, m);
	if (rc == -ESRCH)
		return monitor_gone(m, err);
	pid_t pids[2];
	size_t count = find_processes(m, pids);
	bool is_private = false;
	bool write = host->flags & HVMI_OPEN_WRITE;
	rc = -ENOENT;
	for (size_t i = 0; rc && i < count; i++) {
		int one = try_process(ram, m, pids[i], write, &is_private);
		/* Of several reasons, the one of the process that does hold it. */
		if (one != -ENOENT || i == 0)
			rc = one;
	}
	if (!rc && !is_private) {
		ram->way = "shared";
	} else if (!rc) {
		ram->way = "copied";
		host->log(host, HVMI_LOG_WARNING,
			  "%s: RAM is not shared and is copied out of QEMU's process; to map it, "
			  FASTER, m->name);
	} else if (!map_named(ram, m) && !compare(ram, m)) {
		ram->way = "shared";
	} else {
		drop_files(ram);
		ram->way = "through the monitor";
		host->log(host, HVMI_LOG_WARNING,
			  "%s: QEMU's process %s, so RAM is read through its monitor, which is slow; "
			  "run as root or as QEMU's user with CAP_SYS_PTRACE, and " FASTER, m->name,
			  rc == -EACCES ? "may not be looked into" : "is not found on this host");
	}
	return 0;
}

void ram_close(struct ram *ram)
{
	drop_files(ram);
	if (ram->process >= 0)
		close(ram->process);
	ram->process = -1;
	free(ram->ranges);
	ram->ranges = NULL;
	ram->count = 0;
}

const struct ram_range *ram_range_of(const struct ram *ram, uint64_t gpa)
{
	for (size_t i = 0; i < ram->count; i++)
		if (gpa - ram->ranges[i].gpa < ram->ranges[i].len)
			return &ram->ranges[i];
	return NULL;
}

int ram_next_data(const struct ram *ram, const struct ram_range *r, uint64_t gpa,
		  struct hvmi_range *ret)
{
	*ret = (struct hvmi_range){ .gpa = gpa, .len = r->gpa + r->len - gpa };
	if (!r->host)
		return 0;
	/* What no process ever touched is a hole of the file, zeros without being there. */
	int fd = ram->files[r->file].fd;
	off_t first = (off_t)(r->file_offset + (gpa - r->gpa));
	off_t end = (off_t)(r->file_offset + r->len);
	off_t data = lseek(fd, first, SEEK_DATA);
	if (data < 0)
		return errno == ENXIO ? -ENOENT : 0;
	if (data >= end)
		return -ENOENT;
	off_t hole = lseek(fd, data, SEEK_HOLE);
	ret->gpa = gpa + (uint64_t)(data - first);
	ret->len = (uint64_t)((hole > data && hole < end ? hole : end) - data);
	return 0;
}
