/* SPDX-License-Identifier: Apache-2.0 */
#include "journal.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "ring.h"

#define MAGIC "hvmixen"
/* What a damaged file may claim, so that undoing it ends. */
#define PAUSES_MAX 1024u
#define PAGES_MAX (1u << 20)

struct journal {
	struct journal_record *record;
	int fd;			/* -1: there is no file, the record is in memory */
	char path[96];
};

static struct journal_record *map_file(int fd)
{
	void *map = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	return map == MAP_FAILED ? NULL : map;
}

static void fill(struct journal_record *record, const struct domain *d)
{
	*record = (struct journal_record){ .domain = d->id, .pid = (uint32_t)getpid() };
	memcpy(record->uuid, d->uuid, sizeof(record->uuid));
	memcpy(record->magic, MAGIC, sizeof(record->magic));
}

/* Complete and locked before it has the name by which others find it. */
static bool create_file(struct journal *j, const struct domain *d)
{
	char hidden[112];
	mkdir(JOURNAL_FOLDER, 0700);
	for (unsigned i = 0; i < 1000; i++) {
		snprintf(j->path, sizeof(j->path), JOURNAL_FOLDER "/xen-%u-%d-%u", d->id, (int)getpid(), i);
		snprintf(hidden, sizeof(hidden), JOURNAL_FOLDER "/.new-%u-%d-%u", d->id, (int)getpid(), i);
		j->fd = open(hidden, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
		if (j->fd < 0 && errno == EEXIST)
			continue;
		if (j->fd < 0)
			return false;
		if (flock(j->fd, LOCK_EX | LOCK_NB) == 0 && ftruncate(j->fd, PAGE) == 0)
			j->record = map_file(j->fd);
		if (j->record) {
			fill(j->record, d);
			bool linked = link(hidden, j->path) == 0;
			unlink(hidden);
			if (linked)
				return true;
			munmap(j->record, PAGE);
			j->record = NULL;
			close(j->fd);
			if (errno == EEXIST)
				continue;
			return false;
		}
		unlink(hidden);
		close(j->fd);
		return false;
	}
	return false;
}

int journal_need(struct domain *d, struct hvmi_error *err)
{
	if (d->journal)
		return 0;
	struct journal *j = calloc(1, sizeof(*j));
	if (!j)
		return hvmi_error_set(err, -ENOMEM, HVMI_NO_ADDRESS, "out of memory");
	if (!create_file(j, d)) {
		d->xen.host->log(d->xen.host, HVMI_LOG_WARNING,
				 "no journal can be kept in " JOURNAL_FOLDER " (%s): if this program is "
				 "killed, %s may stay paused", strerror(errno), d->label);
		j->fd = -1;
		j->record = calloc(1, sizeof(*j->record));
		if (!j->record) {
			free(j);
			return hvmi_error_set(err, -ENOMEM, HVMI_NO_ADDRESS, "out of memory");
		}
		fill(j->record, d);
	}
	d->journal = j;
	return 0;
}

struct journal_record *journal_record(struct domain *d)
{
	return d->journal->record;
}

int journal_add_pause(struct domain *d, int by, struct hvmi_error *err)
{
	int rc = journal_need(d, err);
	if (!rc)
		__atomic_fetch_add(&d->journal->record->paused, (uint32_t)by, __ATOMIC_SEQ_CST);
	return rc;
}

void journal_return_pages(const struct domain *d, uint64_t first, uint64_t pages,
			  uint64_t max_pages)
{
	const struct xen *xen = &d->xen;
	for (uint64_t i = 0; i < pages; i++) {
		xen_pfn_t gfn = first + i;
		/* Those that are not there are none of ours any more. */
		xen->l.xc_domain_decrease_reservation_exact(xen->xc, d->id, 1, 0, &gfn);
	}
	if (max_pages)
		xen->l.xc_domain_setmaxmem(xen->xc, d->id, max_pages * (PAGE / 1024));
}

/* The files of a domain: each opened one is given to visit(), which ends the walk by false. */
static void walk(const struct domain *d,
		 bool (*visit)(void *context, int fd, const char *path), void *context)
{
	char prefix[32];
	DIR *folder = opendir(JOURNAL_FOLDER);
	struct dirent *entry;
	bool more = true;
	int len = snprintf(prefix, sizeof(prefix), "xen-%u-", d->id);
	while (folder && more && (entry = readdir(folder))) {
		if (strncmp(entry->d_name, prefix, (size_t)len) != 0 || strlen(entry->d_name) > 64)
			continue;
		char path[96];
		snprintf(path, sizeof(path), JOURNAL_FOLDER "/%.64s", entry->d_name);
		int fd = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
		struct stat st;
		if (fd < 0)
			continue;
		if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_size == PAGE)
			more = visit(context, fd, path);
		close(fd);
	}
	if (folder)
		closedir(folder);
}

static bool read_record(const struct domain *d, int fd, struct journal_record *ret)
{
	return pread(fd, ret, sizeof(*ret), 0) == sizeof(*ret) &&
	       memcmp(ret->magic, MAGIC, sizeof(ret->magic)) == 0 &&
	       memcmp(ret->uuid, d->uuid, sizeof(ret->uuid)) == 0;
}

struct owner_search {
	const struct domain *d;
	uint32_t pid;
};

static bool visit_owner(void *context, int fd, const char *path)
{
	struct owner_search *s = context;
	struct journal_record record;
	(void)path;
	if (flock(fd, LOCK_SH | LOCK_NB) == 0 || !read_record(s->d, fd, &record) || !record.events)
		return true;
	s->pid = record.pid;
	return false;
}

uint32_t journal_owner(const struct domain *d)
{
	struct owner_search s = { .d = d };
	walk(d, visit_owner, &s);
	return s.pid;
}

struct recovery {
	struct domain *d;
	struct hvmi_error *err;
	int rc;
};

static void undo(struct recovery *r, const struct journal_record *record)
{
	struct domain *d = r->d;
	const struct xen *xen = &d->xen;
	if (record->events)
		r->rc = ring_recover(d, r->err);
	if (r->rc)
		return;
	if (record->pages <= PAGES_MAX && (record->pages || record->max_pages))
		journal_return_pages(d, record->first_page, record->pages, record->max_pages);
	for (uint32_t i = 0; i < record->paused && i < PAUSES_MAX; i++)
		xen->l.xc_domain_unpause(xen->xc, d->id);
	xen->host->log(xen->host, HVMI_LOG_INFO,
		       "%s: undid what program %u, which was killed, left behind%s%s", d->label,
		       record->pid, record->events ? ", its events" : "",
		       record->paused ? ", its pauses" : "");
}

static bool visit_dead(void *context, int fd, const char *path)
{
	struct recovery *r = context;
	struct journal_record record;
	if (flock(fd, LOCK_EX | LOCK_NB))
		return true;
	/* Another domain had this number once. */
	bool ours = read_record(r->d, fd, &record);
	if (ours && !r->d->write) {
		if (record.events || record.paused)
			r->d->xen.host->log(r->d->xen.host, HVMI_LOG_WARNING,
					    "program %u was killed and left its traces in %s: open "
					    "it for writing once to undo them", record.pid,
					    r->d->label);
		return true;
	}
	if (!r->d->write)
		return true;
	if (ours)
		undo(r, &record);
	if (!r->rc)
		unlink(path);
	return !r->rc;
}

int journal_recover(struct domain *d, struct hvmi_error *err)
{
	struct recovery r = { .d = d, .err = err };
	walk(d, visit_dead, &r);
	return r.rc;
}

void journal_close(struct domain *d)
{
	struct journal *j = d->journal;
	if (!j)
		return;
	for (uint32_t i = 0; i < j->record->paused; i++)
		d->xen.l.xc_domain_unpause(d->xen.xc, d->id);
	if (j->fd >= 0) {
		unlink(j->path);
		munmap(j->record, PAGE);
		close(j->fd);
	} else {
		free(j->record);
	}
	free(j);
	d->journal = NULL;
}
