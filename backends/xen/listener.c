/* SPDX-License-Identifier: Apache-2.0 */
#include "listener.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <xen/event_channel.h>

#include "journal.h"

/* Ports that are looked at, of the 131072 that a domain may have. */
#define PORTS 8192u
/* The first pid namespace (Linux, PROC_PID_INIT_INO): from there all processes are seen. */
#define FIRST_PID_NAMESPACE 0xeffffffcu

struct ports {
	uint32_t xens[PORTS / 32];	/* its ports that Xen says are Xen's: until 4.18 */
	uint32_t held[PORTS / 32];	/* those to which somebody holds the other end */
	bool loose;			/* one waits for this domain to take the other end */
	bool elsewhere;			/* a third domain has the other end of one */
};

static void set(uint32_t *bits, uint32_t port)
{
	if (port < PORTS)
		bits[port / 32] |= 1u << port % 32;
}

static void note(struct ports *ports, const evtchn_status_t *status, uint32_t here, int error)
{
	if (error == EACCES)
		set(ports->xens, status->port);
	else if (!error && status->status == EVTCHNSTAT_unbound && status->u.unbound.dom == here)
		ports->loose = true;
	else if (!error && status->status == EVTCHNSTAT_interdomain &&
		 status->u.interdomain.dom != here)
		ports->elsewhere = true;
}

/* Of every port of a domain: its status, or why Xen does not say. */
static void note_ports(const struct domain *d, evtchn_status_t *status, uint32_t domain,
		       uint32_t here, struct ports *ports)
{
	const struct xen *xen = &d->xen;
	for (uint32_t p = 0; p < PORTS; p++) {
		*status = (evtchn_status_t){ .dom = (domid_t)domain, .port = p };
		int rc = xen->l.xencall2(xen->call, __HYPERVISOR_event_channel_op, EVTCHNOP_status,
					 (uintptr_t)status);
		int error = rc < 0 ? errno : 0;
		/* There are no more. */
		if (error == EINVAL || error == ESRCH)
			return;
		if (domain == d->id)
			note(ports, status, here, error);
		else if (!error && status->status == EVTCHNSTAT_interdomain &&
			 status->u.interdomain.dom == d->id)
			set(ports->held, status->u.interdomain.port);
	}
}

static uint32_t domain_here(const struct domain *d)
{
	const struct xen *xen = &d->xen;
	struct xs_handle *store = xen->l.xs_open(0);
	char text[16] = "";
	bool known = store && xen_store_read(xen, store, "domid", text, sizeof(text));
	if (store)
		xen->l.xs_close(store);
	return known ? (uint32_t)strtoul(text, NULL, 10) : 0;
}

static bool starts(const char *text, const char *with)
{
	return strncmp(text, with, strlen(with)) == 0;
}

/* Where a link in /proc leads; false: there is none. */
static bool leads(int folder, const char *name, char ret[256])
{
	ssize_t len = readlinkat(folder, name, ret, 255);
	ret[len < 0 ? 0 : len] = '\0';
	return len >= 0;
}

/* Listens to event channels, and is none of those of ours, whose journals say to which. */
static bool has_channels(int process)
{
	int fd = openat(process, "fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *folder = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *entry;
	bool channels = false, journal = false;
	char link[256];
	if (!folder) {
		/* Gone meanwhile, or not to be looked at. */
		bool gone = errno == ENOENT || errno == ESRCH;
		if (fd >= 0)
			close(fd);
		return !gone;
	}
	while ((entry = readdir(folder))) {
		if (!leads(fd, entry->d_name, link))
			continue;
		channels = channels || strcmp(link, "/dev/xen/evtchn") == 0;
		journal = journal || starts(link, JOURNAL_FOLDER "/xen-");
	}
	closedir(folder);
	return channels && !journal;
}

/* Has memory of domains mapped, as everyone has who has the ring. */
static bool has_memory(int process)
{
	int fd = openat(process, "maps", O_RDONLY | O_CLOEXEC);
	FILE *maps = fd < 0 ? NULL : fdopen(fd, "r");
	char *line = NULL;
	size_t size = 0;
	bool found = false;
	if (!maps) {
		if (fd >= 0)
			close(fd);
		return true;
	}
	while (!found && getline(&line, &size, maps) > 0)
		found = strstr(line, "/xen/privcmd");
	free(line);
	fclose(maps);
	return found;
}

static bool may_listen(int process)
{
	char link[256];
	if (!has_channels(process) || !has_memory(process))
		return false;
	/* A device model has both. */
	const char *name = leads(process, "exe", link) ? strrchr(link, '/') : NULL;
	return !name || !starts(name, "/qemu-");
}

static bool process_may_listen(void)
{
	struct stat space;
	struct dirent *entry;
	bool found = false;
	if (stat("/proc/self/ns/pid", &space) || space.st_ino != FIRST_PID_NAMESPACE)
		return true;
	DIR *folder = opendir("/proc");
	while (folder && !found && (entry = readdir(folder))) {
		if (!isdigit((unsigned char)entry->d_name[0]) ||
		    strtol(entry->d_name, NULL, 10) == (long)getpid())
			continue;
		int process = openat(dirfd(folder), entry->d_name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		if (process < 0)
			continue;
		found = may_listen(process);
		close(process);
	}
	if (!folder)
		return true;
	closedir(folder);
	return found;
}

/*
 * A process that listens has a port bound to the ring's, which is Xen's; its port goes with it. So a
 * port of Xen's that nobody holds belongs to a dead program. (Those of device models, which are
 * Xen's too, are held.) From 4.19 on Xen does not say which ports are its own, and guests have some
 * that nobody holds: then no process may be there that could be it, either.
 */
bool listener_lives(const struct domain *d)
{
	const struct xen *xen = &d->xen;
	struct ports ports = { .loose = false };
	struct domain_info info = { 0 };
	uint32_t here = domain_here(d);
	evtchn_status_t *status = xen->l.xencall_alloc_buffer(xen->call, sizeof(*status));
	if (!status)
		return true;
	note_ports(d, status, d->id, here, &ports);
	for (uint32_t id = 0; domain_next_info(xen, id, &info) == 0; id = info.id + 1)
		if (info.id != d->id)
			note_ports(d, status, info.id, here, &ports);
	xen->l.xencall_free_buffer(xen->call, status);
	bool told = false;
	for (uint32_t i = 0; i < PORTS / 32; i++) {
		told = told || ports.xens[i];
		if (ports.xens[i] & ~ports.held[i])
			return false;
	}
	return told || !ports.loose || ports.elsewhere || process_may_listen();
}
