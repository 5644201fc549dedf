/* SPDX-License-Identifier: Apache-2.0 */
#include "xen.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define FOLDER "/run/hvmi"

/* Bytes of the file that are locked: by everyone who has the domain open; by who holds the ring. */
enum { LOCK_OPEN, LOCK_RING };

struct held {
	int32_t pauses;		/* of all holders together */
	int32_t ring;		/* 1: one of them holds it */
};

struct xen_holder {
	int fd;
	struct held *held;
};

/* Locks of the open file: two handles in one process exclude each other too. */
static int lock(int fd, short type, off_t byte)
{
	struct flock lock = { .l_type = type, .l_whence = SEEK_SET, .l_start = byte, .l_len = 1 };
	return fcntl(fd, F_OFD_SETLK, &lock);
}

/* Nobody who is alive has the domain open: what stands in the file is of the dead. */
static void recover(struct xen *xen, struct held *held)
{
	int32_t pauses = __atomic_exchange_n(&held->pauses, 0, __ATOMIC_RELAXED);
	if (__atomic_exchange_n(&held->ring, 0, __ATOMIC_RELAXED)) {
		xen->host->log(xen->host, HVMI_LOG_WARNING,
			       "domain %u: a program that held its events has died; they are "
			       "given back", xen->domain.id);
		xen_ring_recover(xen);
	}
	/* The file is root's, but what stands in it need not be what we wrote. */
	for (int32_t i = 0; i < pauses && i < 4096; i++)
		xen->libs.xc_domain_unpause(xen->libs.xch, xen->domain.id);
	if (pauses > 0)
		xen->host->log(xen->host, HVMI_LOG_WARNING,
			       "domain %u: a program that had paused it has died; it goes on",
			       xen->domain.id);
}

struct xen_holder *xen_holder_open(struct xen *xen)
{
	char path[128], uuid[37];
	struct xen_holder *holder = calloc(1, sizeof(*holder));
	if (!holder)
		return NULL;
	xen_uuid_text(xen->domain.uuid, uuid);
	snprintf(path, sizeof(path), FOLDER "/xen-%u-%s", xen->domain.id, uuid);
	mkdir(FOLDER, 0700);
	holder->fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (holder->fd < 0 || ftruncate(holder->fd, sizeof(struct held)) < 0)
		goto failed;
	holder->held = mmap(NULL, sizeof(struct held), PROT_READ | PROT_WRITE, MAP_SHARED,
			    holder->fd, 0);
	if (holder->held == MAP_FAILED)
		goto failed;
	if (lock(holder->fd, F_WRLCK, LOCK_OPEN) == 0)
		recover(xen, holder->held);
	lock(holder->fd, F_RDLCK, LOCK_OPEN);
	return holder;
failed:
	xen->host->log(xen->host, HVMI_LOG_WARNING,
		       FOLDER " cannot be used (%s): if this program is killed, what it holds of "
		       "domain %u stays", strerror(errno), xen->domain.id);
	if (holder->fd >= 0)
		close(holder->fd);
	free(holder);
	return NULL;
}

void xen_holder_close(struct xen_holder *holder)
{
	if (!holder)
		return;
	munmap(holder->held, sizeof(*holder->held));
	close(holder->fd);
	free(holder);
}

void xen_holder_pauses(struct xen_holder *holder, int change)
{
	if (holder)
		__atomic_add_fetch(&holder->held->pauses, change, __ATOMIC_RELAXED);
}

int xen_holder_take_ring(struct xen_holder *holder)
{
	if (!holder)
		return 0;
	if (lock(holder->fd, F_WRLCK, LOCK_RING) < 0)
		return -EBUSY;
	__atomic_store_n(&holder->held->ring, 1, __ATOMIC_RELAXED);
	return 0;
}

void xen_holder_drop_ring(struct xen_holder *holder)
{
	if (!holder)
		return;
	__atomic_store_n(&holder->held->ring, 0, __ATOMIC_RELAXED);
	lock(holder->fd, F_UNLCK, LOCK_RING);
}
