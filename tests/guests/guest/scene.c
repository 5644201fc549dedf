// SPDX-License-Identifier: Apache-2.0
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/loop.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "scene.h"

static void complain(const char *what)
{
	dprintf(2, "guest: %s: %s\n", what, strerror(errno));
}

static void mount_at(const char *type, const char *source, const char *at, unsigned long flags, const char *data)
{
	mkdir(at, 0755);
	if (mount(source, at, type, flags, data) && errno != EBUSY)
		complain(at);
}

void scene_base(void)
{
	mount_at("proc", "proc", "/proc", 0, NULL);
	mount_at("sysfs", "sysfs", "/sys", 0, NULL);
	mount_at("devtmpfs", "dev", "/dev", 0, NULL);
	mount_at("devpts", "devpts", "/dev/pts", 0, NULL);
	mount_at("tmpfs", "shm", "/dev/shm", 0, NULL);
	mount_at("tmpfs", "run", "/run", 0, NULL);
	mount_at("tmpfs", "tmp", "/tmp", 0, "mode=1777");
}

static void file_of(const char *path, size_t size)
{
	int fd = open(path, O_CREAT | O_WRONLY | O_TRUNC | O_CLOEXEC, 0755);
	if (fd < 0) {
		complain(path);
		return;
	}
	char page[4096];
	for (size_t done = 0; done < size; done += sizeof(page)) {
		memset(page, 'a' + done / sizeof(page) % 26, sizeof(page));
		if (write(fd, page, sizeof(page)) != sizeof(page))
			complain(path);
	}
	close(fd);
}

static void setting(const char *path, const char *value)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0 || write(fd, value, strlen(value)) < 0)
		complain(path);
	if (fd >= 0)
		close(fd);
}

/* A whole file system of another type, from an image in the initramfs. */
static void mount_image(const char *image, const char *type, const char *at)
{
	int control = open("/dev/loop-control", O_RDWR | O_CLOEXEC);
	int number = control < 0 ? -1 : ioctl(control, LOOP_CTL_GET_FREE);
	if (control >= 0)
		close(control);
	if (number < 0) {
		complain("loop-control");
		return;
	}
	char device[32];
	snprintf(device, sizeof(device), "/dev/loop%d", number);
	int loop = open(device, O_RDWR | O_CLOEXEC), file = open(image, O_RDWR | O_CLOEXEC);
	if (loop < 0 || file < 0 || ioctl(loop, LOOP_SET_FD, file))
		complain(device);
	else
		mount_at(type, device, at, 0, NULL);
	if (file >= 0)
		close(file);
	if (loop >= 0)
		close(loop);
}

/* Each level's name is near NAME_MAX, all together near PATH_MAX. */
static void deep_directories(void)
{
	int at = open(SCENE_DEEP, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	for (int level = 0; at >= 0 && level < SCENE_DEEP_LEVELS; level++) {
		char name[256];
		memset(name, 'a' + level, 255);
		name[255] = '\0';
		mkdirat(at, name, 0755);
		int next = openat(at, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		close(at);
		at = next;
	}
	if (at < 0) {
		complain(SCENE_DEEP);
		return;
	}
	int fd = openat(at, "bottom", O_CREAT | O_WRONLY | O_CLOEXEC, 0644);
	if (fd < 0 || ftruncate(fd, 8192))
		complain("bottom");
	if (fd >= 0)
		close(fd);
	close(at);
}

void scene_set(void)
{
	umask(0);
	sethostname("hvmi-guest", 10);
	setting("/proc/sys/kernel/kptr_restrict", "0");
	setting("/proc/sys/kernel/hung_task_timeout_secs", "0");
	setting("/proc/sys/vm/nr_hugepages", "2");
	setting("/proc/sys/vm/mmap_min_addr", "4096");

	static const char *const directories[] = {
		"/scene", SCENE_NAMES, SCENE_DEEP, SCENE_JAIL, "/scene/lower", "/scene/upper", "/home",
		"/home/alice", "/scene/private", "/scene/gone", NULL
	};
	for (const char *const *d = directories; *d; d++)
		if (mkdir(*d, 0755))
			complain(*d);
	file_of("/scene/plain", 8 * 4096);
	deep_directories();

	mount_at("tmpfs", "on another mount", SCENE_TMPFS, 0, NULL);
	mkdir(SCENE_TMPFS "/inner", 0755);
	file_of(SCENE_TMPFS "/inner/file", 4 * 4096);
	mount_at(NULL, SCENE_TMPFS "/inner", SCENE_BIND, MS_BIND, NULL);
	mount_image("/ext4.img", "ext4", SCENE_EXT4);
	file_of(SCENE_EXT4 "/file on ext4", 4 * 4096);
	file_of("/scene/lower/from below", 2 * 4096);
	mount_at("tmpfs", "upper", "/scene/upper", 0, NULL);
	mkdir("/scene/upper/up", 0755);
	mkdir("/scene/upper/work", 0755);
	mount_at("overlay", "overlay", SCENE_OVERLAY, 0,
		"lowerdir=/scene/lower,upperdir=/scene/upper/up,workdir=/scene/upper/work");
	file_of(SCENE_OVERLAY "/from above", 2 * 4096);

	mkdir(SCENE_JAIL "/inside", 0755);
	file_of(SCENE_JAIL "/inside/file", 2 * 4096);
	if (mkfifo("/run/fifo", 0666))
		complain("fifo");

	/* 127.0.0.1 works once lo is up. */
	int s = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	struct ifreq lo = { .ifr_name = "lo", .ifr_flags = IFF_UP | IFF_RUNNING };
	if (s < 0 || ioctl(s, SIOCSIFFLAGS, &lo))
		complain("lo");
	if (s >= 0)
		close(s);
}
