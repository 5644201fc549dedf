/* SPDX-License-Identifier: Apache-2.0 */
#include "xen.h"

#include <cpuid.h>
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Xen says what it could not do on stderr unless somebody else takes it. */
static void __attribute__((format(printf, 5, 0)))
take_message(xentoollog_logger *base, xentoollog_level level, int error, const char *context,
	     const char *format, va_list args)
{
	const struct xen_logger *logger = (const struct xen_logger *)base;
	char text[512];
	(void)level;
	vsnprintf(text, sizeof(text), format, args);
	for (size_t len = strlen(text); len && text[len - 1] == '\n'; len--)
		text[len - 1] = '\0';
	logger->host->log(logger->host, HVMI_LOG_DEBUG, "%s: %s%s%s", context ? context : "xen", text,
			  error > 0 ? ": " : "", error > 0 ? strerror(error) : "");
}

static void take_progress(xentoollog_logger *base, const char *context, const char *what,
			  int percent, unsigned long done, unsigned long total)
{
	(void)base, (void)context, (void)what, (void)percent, (void)done, (void)total;
}

static void destroy_logger(xentoollog_logger *base)
{
	(void)base;
}

int xen_code(int error)
{
	switch (error) {
	case EACCES:
	case EPERM:
		return -EACCES;
	case EOPNOTSUPP:
	case ENOSYS:
	case ENODEV:
	case ENXIO:
	case ENOTTY:
		return -ENOTSUP;
	case EINVAL:
	case EFAULT:
	case ESRCH:
	case ENOENT:
	case EBUSY:
	case ENOMEM:
	case EOVERFLOW:
		return -error;
	default:
		return -EIO;
	}
}

bool xen_since(const struct xen *xen, uint32_t minor, uint32_t point)
{
	return xen->major > 4 || (xen->major == 4 && (xen->minor > minor ||
						      (xen->minor == minor && xen->point >= point)));
}

static int load_functions(struct xen_libs *l, void *library, const char *id, const char *soname,
			  struct hvmi_error *err)
{
	const char *missing = NULL;
	/* POSIX has dlsym() give functions as void *. */
#define LIBRARY(id_, soname_)
#define MAY(library_, name)                                                                        \
	if (!strcmp(id, #library_))                                                                \
		*(void **)&l->name = dlsym(library, #name);
#define NEED(library_, name)                                                                       \
	MAY(library_, name)                                                                        \
	if (!strcmp(id, #library_) && !l->name)                                                    \
		missing = #name;
#include "libs.def"
	if (!missing)
		return 0;
	return hvmi_error_set(err, -ENOTSUP, HVMI_NO_ADDRESS,
			      "%s has no %s(): this release of Xen is not served", soname, missing);
}

static int load_library(struct xen_libs *l, void **library, const char *id, const char *soname,
			struct hvmi_error *err)
{
	*library = dlopen(soname, RTLD_NOW | RTLD_LOCAL);
	if (*library)
		return load_functions(l, *library, id, soname, err);
	const char *reason = dlerror();
	return hvmi_error_set(err, -ENOTSUP, HVMI_NO_ADDRESS,
			      "%s cannot be opened (%.150s): install Xen's libraries for the release "
			      "that runs, in Debian libxenmisc4.NN and what it needs", soname,
			      reason ? reason : "?");
}

/* The stable libraries, by which the release is told. */
static int load_stable(struct xen_libs *l, struct hvmi_error *err)
{
	int rc = 0;
#define LIBRARY(id, soname)                                                                        \
	{                                                                                          \
		const char *name_ = soname;                                                        \
		if (!rc && name_)                                                                  \
			rc = load_library(l, &l->id, #id, name_, err);                             \
	}
#define NEED(library, name)
#define MAY(library, name)
#include "libs.def"
	return rc;
}

static int no_hypervisor(int error, const char *what, struct hvmi_error *err)
{
	if (error == EACCES || error == EPERM)
		return hvmi_error_set(err, -EACCES, HVMI_NO_ADDRESS,
				      "no permission to call Xen (%s): run as root, in dom0", what);
	return hvmi_error_set(err, -ENOTSUP, HVMI_NO_ADDRESS,
			      "this is no dom0 of Xen (%s: %s): start Xen, and load the kernel's "
			      "module xen-privcmd", what, strerror(error));
}

static int ask_version(struct xen *xen, struct hvmi_error *err)
{
	int version = xen->l.xencall2(xen->call, __HYPERVISOR_xen_version, XENVER_version, 0);
	if (version < 0)
		return no_hypervisor(errno, "asking for its version", err);
	xen->major = (uint32_t)version >> 16;
	xen->minor = (uint32_t)version & 0xffff;
	/* ".7", ".1-pre" */
	char *extra = xen->l.xencall_alloc_buffer(xen->call, sizeof(xen_extraversion_t));
	if (!extra)
		return hvmi_error_set(err, -ENOMEM, HVMI_NO_ADDRESS, "out of memory");
	memset(extra, 0, sizeof(xen_extraversion_t));
	if (xen->l.xencall2(xen->call, __HYPERVISOR_xen_version, XENVER_extraversion,
			    (uintptr_t)extra) == 0 && extra[0] == '.')
		xen->point = (uint32_t)strtoul(extra + 1, NULL, 10);
	xen->l.xencall_free_buffer(xen->call, extra);
	return 0;
}

static bool is_amd(void)
{
	unsigned a, b = 0, c = 0, d = 0;
	char vendor[13] = "";
	__cpuid(0, a, b, c, d);
	memcpy(vendor, &b, 4);
	memcpy(vendor + 4, &d, 4);
	memcpy(vendor + 8, &c, 4);
	return !strcmp(vendor, "AuthenticAMD") || !strcmp(vendor, "HygonGenuine");
}

static int connect_all(struct xen *xen, struct hvmi_error *err)
{
	int rc = load_stable(&xen->l, err);
	if (rc)
		return rc;
	xen->call = xen->l.xencall_open(&xen->logger.base, 0);
	if (!xen->call)
		return no_hypervisor(errno, "/dev/xen/privcmd", err);
	rc = ask_version(xen, err);
	if (rc)
		return rc;
	char soname[64];
	snprintf(soname, sizeof(soname), "libxenctrl.so.%u.%u", xen->major, xen->minor);
	rc = load_library(&xen->l, &xen->l.ctrl, "ctrl", soname, err);
	if (rc)
		return rc;
	xen->xc = xen->l.xc_interface_open(&xen->logger.base, &xen->logger.base, 0);
	if (!xen->xc)
		return no_hypervisor(errno, "libxenctrl", err);
	xen->amd = is_amd();
	return 0;
}

int xen_connect(struct xen *xen, const struct hvmi_backend_host *host, struct hvmi_error *err)
{
	*xen = (struct xen){ .host = host,
			     .logger = { .base = { .vmessage = take_message,
						   .progress = take_progress,
						   .destroy = destroy_logger },
					 .host = host } };
	int rc = connect_all(xen, err);
	if (rc)
		xen_disconnect(xen);
	return rc;
}

void xen_disconnect(struct xen *xen)
{
	if (xen->xc)
		xen->l.xc_interface_close(xen->xc);
	if (xen->call)
		xen->l.xencall_close(xen->call);
#define LIBRARY(id, soname)                                                                        \
	if (xen->l.id)                                                                             \
		dlclose(xen->l.id);
#define NEED(library, name)
#define MAY(library, name)
#include "libs.def"
	*xen = (struct xen){ 0 };
}

bool xen_store_read(const struct xen *xen, struct xs_handle *store, const char *path, char *buf,
		    size_t size)
{
	unsigned len = 0;
	char *value = store ? xen->l.xs_read(store, XBT_NULL, path, &len) : NULL;
	if (!value)
		return false;
	snprintf(buf, size, "%.*s", (int)(len < size ? len : size), value);
	free(value);
	return true;
}
