/* SPDX-License-Identifier: Apache-2.0 */
/* Command line, environment and path of a process. */
#include "os/windows/windows.h"

/* What the environment may have: 32,767 characters until Vista, then what memory allows. */
#define ENVIRONMENT_BYTES_MAX (4u * 1024 * 1024)

/* A process's parameters; a WOW64 process has the same on both sides. */
struct parameters {
	struct hvmi_space *space;
	const struct windows_user_layout *layout;
	uint64_t gva;		/* 0: there are none */
};

static int user_pointer(const struct parameters *p, uint64_t gva, uint64_t *ret)
{
	uint8_t bytes[8] = { 0 };
	int rc = hvmi_space_read(p->space, gva, bytes, p->layout->pointer_bytes, NULL);
	if (!rc)
		*ret = load_le64(bytes);
	return rc;
}

static int parameters_open(struct hvmi_os *os, const struct hvmi_task *task, struct parameters *ret,
			   struct hvmi_error *err)
{
	struct hvmi_task t = *task;
	struct hvmi_space *kernel;
	int rc;
	*ret = (struct parameters){ .layout = windows_user_layout(windows_data(os)->pointer_bytes == 8) };
	if (!(t.flags & HVMI_TASK_LEADER)) {
		rc = hvmi_os_kernel_space(os, &kernel, err);
		if (rc)
			return rc;
		uint64_t process = windows_task_process(os, kernel, &t);
		rc = process ? windows_process_read(os, kernel, process, &t) : -EFAULT;
		hvmi_space_destroy(kernel);
		if (rc)
			return hvmi_error_set(err, rc, t.object, "the process of thread %d cannot be "
					      "read", (int)task->pid);
	}
	if (!(t.valid & HVMI_TASK_HAS_USER_BLOCK))
		return hvmi_error_set(err, -EFAULT, t.object,
				      "where the PEB of process %d is cannot be read", (int)t.pid);
	if (!t.user_block)
		return 0;
	t.size = sizeof(t);
	rc = hvmi_task_space(os, &t, &ret->space, err);
	if (rc)
		return rc;
	rc = user_pointer(ret, t.user_block + ret->layout->peb_parameters, &ret->gva);
	if (rc) {
		hvmi_space_destroy(ret->space);
		ret->space = NULL;
		return hvmi_error_set(err, rc, t.user_block,
				      "the PEB of process %d at 0x%llx is not in memory", (int)t.pid,
				      (unsigned long long)t.user_block);
	}
	return 0;
}

/* A UNICODE_STRING as one string with its NUL. */
static int read_command(const struct parameters *p, char *buf, size_t size, size_t *len_ret)
{
	size_t len;
	int rc = windows_string(p->space, p->gva + p->layout->parameters_command,
				p->layout->pointer_bytes, buf, size, &len);
	if (rc)
		return rc;
	if (!len)
		return 0;
	*len_ret = MIN(len, size ? strlen(buf) : 0) + (size != 0);
	return len < size ? 0 : -EOVERFLOW;
}

/* Strings one after the other, each with its NUL; an empty one ends them. */
static int read_environment(const struct parameters *p, char *buf, size_t size, size_t *len_ret)
{
	uint64_t gva;
	int rc = user_pointer(p, p->gva + p->layout->parameters_environment, &gva);
	if (rc || !gva)
		return rc;
	CLEANUP_FREE uint8_t *text = NULL;
	size_t len = 0, end = 0;
	bool ended = false;
	while (!ended && len < ENVIRONMENT_BYTES_MAX) {
		size_t n = FRAME_SIZE - (gva + len) % FRAME_SIZE, got = 0;
		uint8_t *grown = realloc(text, len + n);
		if (!grown)
			return -ENOMEM;
		text = grown;
		rc = hvmi_space_read(p->space, gva + len, text + len, n, &got);
		len += got;
		for (; !ended && end + 2 <= len; end += 2)
			ended = load_le16(text + end) == 0 &&
				(end == 0 || load_le16(text + end - 2) == 0);
		if (rc)
			break;
	}
	/* Without the NUL that ends the block. */
	size_t bytes = ended ? end - 2 : end;
	size_t whole = 0;
	for (size_t at = 0, n; at < bytes; at += n + 2) {
		for (n = 0; at + n + 2 <= bytes && load_le16(text + at + n); n += 2)
			;
		size_t room = whole < size ? size - whole : 0;
		whole += windows_utf8(text + at, n, room ? buf + whole : NULL, room) + 1;
	}
	*len_ret = MIN(whole, size ? size - 1 : 0);
	if (whole >= size)
		return -EOVERFLOW;
	return ended ? 0 : rc ? rc : -EOVERFLOW;
}

int windows_task_strings(struct hvmi_os *os, const struct hvmi_task *task, int which, char *buf,
			 size_t size, size_t *len_ret, struct hvmi_error *err)
{
	static const char *const what[] = { "the command line", "the environment" };
	struct parameters p;
	*len_ret = 0;
	int rc = parameters_open(os, task, &p, err);
	if (rc || !p.space)
		return rc;
	if (p.gva)
		rc = which == 0 ? read_command(&p, buf, size, len_ret) :
				  read_environment(&p, buf, size, len_ret);
	/* Else its page tables may have been another's. */
	int gone = vm_stands_still(os->vm) ? 0 : windows_task_check(os, p.space, task, err);
	hvmi_space_destroy(p.space);
	if (gone) {
		*len_ret = 0;
		return gone;
	}
	if (rc == -EOVERFLOW)
		return hvmi_error_set(err, rc, p.gva, "%s of process %d is longer than %zu bytes",
				      what[which], (int)task->tgid, size);
	if (rc)
		return hvmi_error_set(err, rc, p.gva, "%s of process %d is not in memory or makes no "
				      "sense", what[which], (int)task->tgid);
	return 0;
}

/*
 * What the kernel keeps for its audit is the best: the name by which the program was started. Else
 * the file that is mapped.
 */
static int read_path(struct hvmi_os *os, struct hvmi_space *space, uint64_t process, char *buf,
		     size_t size)
{
	uint64_t at;
	size_t len;
	int rc = windows_read_pointer(os, space, WINDOWS_PROCESS_IMAGE, process, &at);
	if (!rc && at) {
		rc = windows_string(space, at, windows_data(os)->pointer_bytes, buf, size, &len);
		if (rc || len)
			return rc ? rc : len < size ? 0 : -EOVERFLOW;
	}
	rc = windows_read_pointer(os, space, WINDOWS_PROCESS_IMAGE_FILE, process, &at);
	if (!rc && at)
		return windows_file_path(os, space, windows_fast_ref(os, at), buf, size);
	rc = windows_read_pointer(os, space, WINDOWS_PROCESS_IMAGE_BASE, process, &at);
	if (rc)
		return rc == -ENOENT ? -ENOTSUP : rc;
	return at ? windows_mapped_path(os, space, process, at, buf, size) : -ENOENT;
}

int windows_task_path(struct hvmi_os *os, const struct hvmi_task *task, char *buf, size_t size,
		      struct hvmi_error *err)
{
	struct hvmi_space *space;
	int rc = hvmi_os_kernel_space(os, &space, err);
	if (rc)
		return rc;
	uint64_t process = windows_task_process(os, space, task);
	buf[0] = '\0';
	rc = process ? read_path(os, space, process, buf, size) : -EFAULT;
	hvmi_space_destroy(space);
	if (rc)
		return hvmi_error_set(err, rc, process,
				      rc == -ENOENT ? "process %d runs no program, or it is not known "
						      "which" :
				      rc == -EOVERFLOW ? "the path of process %d does not fit" :
							 "the path of process %d cannot be read",
				      (int)task->tgid);
	return 0;
}
