/* SPDX-License-Identifier: Apache-2.0 */
#include "os/linux/path.h"

#include <stdio.h>

#define NAME_BYTES 255u		/* NAME_MAX */
#define MOUNTS_MAX 256u		/* that one path goes through; names are bounded by PATH_BYTES */

static const char deleted[] = " (deleted)";

/* A path that grows to the front. */
struct prepend {
	char *buf;
	size_t start;
};

static bool prepend(struct prepend *p, const char *text, size_t len)
{
	if (len > p->start)
		return false;
	p->start -= len;
	memcpy(p->buf + p->start, text, len);
	return true;
}

static int read_name(const struct hvmi_os *os, struct hvmi_space *space, uint64_t dentry,
		     char name[NAME_BYTES + 1], size_t *len_ret)
{
	uint64_t text, len;
	if (linux_read(os, space, LINUX_DENTRY_NAME, dentry, &text) ||
	    linux_read(os, space, LINUX_DENTRY_LEN, dentry, &len) || len > NAME_BYTES ||
	    hvmi_space_read(space, text, name, len, NULL))
		return -EBADMSG;
	name[len] = '\0';
	*len_ret = len;
	return 0;
}

/*
 * Files that have no place in a tree (shared memory, pipes, sockets) name themselves through a
 * function: which one says how.
 */
static int dynamic_path(const struct hvmi_os *os, struct hvmi_space *space, uint64_t dentry,
			uint64_t function, char buf[PATH_BYTES])
{
	static const struct {
		const char *function, *format;
		bool inode;
	} known[] = {
		{ "simple_dname", "/%s (deleted)", false },
		{ "anon_inodefs_dname", "anon_inode:%s", false },
		{ "dmabuffs_dname", "/dmabuf:%s", false },
		{ "pipefs_dname", "pipe:[%llu]", true },
		{ "sockfs_dname", "socket:[%llu]", true },
	};
	char name[NAME_BYTES + 1];
	size_t len;
	if (read_name(os, space, dentry, name, &len))
		return -EBADMSG;
	struct hvmi_symbol symbol = { .size = sizeof(symbol) };
	uint64_t offset, inode = 0;
	snprintf(buf, PATH_BYTES, "%s", name);
	if (hvmi_profile_symbol_at(os->profile, function, &symbol, &offset) || offset)
		return 0;
	for (size_t i = 0; i < ARRAY_SIZE(known); i++) {
		if (strcmp(known[i].function, symbol.name) != 0)
			continue;
		if (!known[i].inode)
			snprintf(buf, PATH_BYTES, known[i].format, name);
		else if (linux_read(os, space, LINUX_DENTRY_INODE, dentry, &inode) == 0)
			snprintf(buf, PATH_BYTES, known[i].format, (unsigned long long)inode);
		break;
	}
	return 0;
}

static bool unlinked(const struct hvmi_os *os, struct hvmi_space *space, uint64_t dentry,
		     uint64_t parent)
{
	uint64_t hashed;
	return parent != dentry &&
	       linux_read(os, space, LINUX_DENTRY_HASHED, dentry, &hashed) == 0 && hashed == 0;
}

/* fs/file_table.c: a file that only holds the pages of another one, which its user opened. */
static bool backing_file(const struct hvmi_os *os, struct hvmi_space *space, uint64_t file)
{
	/* FMODE_BACKING moved from bit 25 to 24; FMODE_NOACCOUNT is set along with it. */
	const uint64_t backing = 3u << 24, noaccount = 1u << 29;
	uint64_t mode;
	return linux_has(os, LINUX_BACKING_DENTRY) &&
	       linux_read(os, space, LINUX_FILE_MODE, file, &mode) == 0 && (mode & noaccount) &&
	       (mode & backing);
}

static int read_path(const struct hvmi_os *os, struct hvmi_space *space, uint64_t dentry,
		     uint64_t vfsmount, char buf[PATH_BYTES])
{
	uint64_t mount, root, parent, above, ops, dynamic;
	struct prepend p = { buf, PATH_BYTES - 1 };
	buf[PATH_BYTES - 1] = '\0';
	mount = linux_container(os, LINUX_MOUNT_MNT, vfsmount);
	if (linux_read(os, space, LINUX_MOUNT_ROOT, mount, &root) ||
	    linux_read(os, space, LINUX_DENTRY_PARENT, dentry, &parent))
		return -EBADMSG;
	if (linux_read(os, space, LINUX_DENTRY_OPS, dentry, &ops) == 0 && ops &&
	    linux_read(os, space, LINUX_DENTRY_DYNAMIC, dentry, &dynamic) == 0 && dynamic &&
	    (parent != dentry || dentry != root))
		return dynamic_path(os, space, dentry, dynamic, buf);
	if (unlinked(os, space, dentry, parent))
		prepend(&p, deleted, sizeof(deleted) - 1);
	size_t tail = p.start;
	int rc = 0;
	for (uint32_t mounts = 0;;) {
		char name[NAME_BYTES + 1];
		size_t len;
		rc = -EBADMSG;
		if (dentry == root) {
			if (linux_read(os, space, LINUX_MOUNT_PARENT, mount, &above))
				break;
			rc = 0;
			if (above == mount)
				break;
			rc = -EBADMSG;
			if (++mounts > MOUNTS_MAX ||
			    linux_read(os, space, LINUX_MOUNT_POINT, mount, &dentry) ||
			    linux_read(os, space, LINUX_MOUNT_ROOT, above, &root))
				break;
			mount = above;
			continue;
		}
		if (linux_read(os, space, LINUX_DENTRY_PARENT, dentry, &parent))
			break;
		/* A root that is not this mount's: the tree was taken away from under it. */
		if (parent == dentry) {
			rc = 0;
			break;
		}
		if (read_name(os, space, dentry, name, &len) || len == 0 ||
		    !prepend(&p, name, len) || !prepend(&p, "/", 1))
			break;
		dentry = parent;
	}
	if (p.start == tail && rc == 0)
		prepend(&p, "/", 1);
	memmove(buf, buf + p.start, PATH_BYTES - p.start);
	return rc;
}

int linux_file_read(const struct hvmi_os *os, struct hvmi_space *space, uint64_t file,
		    struct linux_file *ret)
{
	bool backing = backing_file(os, space, file);
	uint64_t dentry, vfsmount, device;
	memset(ret, 0, sizeof(*ret));
	if (!linux_has(os, LINUX_MOUNT_MNT) ||
	    linux_read(os, space, backing ? LINUX_BACKING_DENTRY : LINUX_FILE_DENTRY, file,
		       &dentry) ||
	    linux_read(os, space, backing ? LINUX_BACKING_MOUNT : LINUX_FILE_MOUNT, file,
		       &vfsmount))
		return -EBADMSG;
	linux_read(os, space, backing ? LINUX_DENTRY_INODE : LINUX_FILE_INODE,
		   backing ? dentry : file, &ret->inode);
	if (linux_read(os, space, backing ? LINUX_DENTRY_DEVICE : LINUX_FILE_DEVICE,
		       backing ? dentry : file, &device) == 0)
		ret->device = (uint32_t)device;
	return read_path(os, space, dentry, vfsmount, ret->path);
}
