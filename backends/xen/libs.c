/* SPDX-License-Identifier: Apache-2.0 */
#include "libs.h"

#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

/* xen/include/public/xen.h and version.h */
#define HYPERCALL_XEN_VERSION 17
#define XENVER_VERSION 0

static const char *const files[] = {
#define LIBRARY(id, file) [XEN_##id] = file,
#define NEEDED(library, function)
#define PROBED(library, function)
#include "functions.def"
#undef LIBRARY
#undef NEEDED
#undef PROBED
};

static const struct {
	const char *name;
	enum xen_library library;
	bool needed;
	size_t offset;
} functions[] = {
#define LIBRARY(id, file)
#define NEEDED(library, function)                                                                  \
	{ #function, XEN_##library, true, offsetof(struct xen_libs, function) },
#define PROBED(library, function)                                                                  \
	{ #function, XEN_##library, false, offsetof(struct xen_libs, function) },
#include "functions.def"
#undef LIBRARY
#undef NEEDED
#undef PROBED
};

int xen_code(int error)
{
	switch (error) {
	case ESRCH:
		return -ESRCH;
	case EPERM:
	case EACCES:
		return -EACCES;
	case EBUSY:
		return -EBUSY;
	case ENOMEM:
		return -ENOMEM;
	case ENOENT:
	case ENXIO:
		return -ENOENT;
	case EOPNOTSUPP:
	case ENOSYS:
	case ENODEV:	/* no hardware-assisted paging, for rings */
	case EXDEV:	/* what excludes a ring is in use */
		return -ENOTSUP;
	case EFAULT:
		return -EFAULT;
	default:
		return -EIO;
	}
}

static void log_nothing(struct xentoollog_logger *logger, xentoollog_level level, int error,
			const char *context, const char *format, va_list args)
{
	(void)logger;
	(void)level;
	(void)error;
	(void)context;
	(void)format;
	(void)args;
}

static int resolve(struct xen_libs *libs, enum xen_library library, struct hvmi_error *err)
{
	for (size_t i = 0; i < sizeof(functions) / sizeof(*functions); i++) {
		if (functions[i].library != library)
			continue;
		void *function = dlsym(libs->handles[library], functions[i].name);
		if (!function && functions[i].needed)
			return hvmi_error_set(err, -ENOTSUP, HVMI_NO_ADDRESS,
					      "the libraries of Xen %u.%u have no %s: this release "
					      "is not supported, 4.17 and later are", libs->major,
					      libs->minor, functions[i].name);
		memcpy((char *)libs + functions[i].offset, &function, sizeof(function));
	}
	return 0;
}

static int open_library(struct xen_libs *libs, enum xen_library library, struct hvmi_error *err)
{
	char name[64];
	const char *file = files[library];
	if (!file) {
		snprintf(name, sizeof(name), "libxenctrl.so.%u.%u", libs->major, libs->minor);
		file = name;
	}
	libs->handles[library] = dlopen(file, RTLD_NOW | RTLD_LOCAL);
	if (!libs->handles[library]) {
		const char *reason = dlerror();
		return hvmi_error_set(err, -ENOENT, HVMI_NO_ADDRESS,
				      "%s cannot be loaded (%s): install Xen's libraries of the "
				      "release that runs (Debian: libxenmisc4.NN)", file,
				      reason ? reason : "?");
	}
	return resolve(libs, library, err);
}

/* -ENOENT and the like: /dev/xen/privcmd is what all of it goes through. */
static int no_xen(int error, struct hvmi_error *err)
{
	if (error == EACCES || error == EPERM)
		return hvmi_error_set(err, -EACCES, HVMI_NO_ADDRESS,
				      "no permission to call Xen: run as root in dom0, or give "
				      "access to /dev/xen/privcmd and /dev/xen/evtchn");
	return hvmi_error_set(err, -ENOENT, HVMI_NO_ADDRESS,
			      "this is no dom0 of Xen: /dev/xen/privcmd says %s (is Xen booted, "
			      "and the module xen-privcmd loaded?)", strerror(error));
}

/* The release is in the name of one library, so it is asked for without that one. */
static int ask_version(struct xen_libs *libs, struct hvmi_error *err)
{
	xencall_handle *call = libs->xencall_open(&libs->silent, 0);
	if (!call)
		return no_xen(errno, err);
	int version = libs->xencall2(call, HYPERCALL_XEN_VERSION, XENVER_VERSION, 0);
	int error = errno;
	libs->xencall_close(call);
	if (version < 0)
		return no_xen(error, err);
	libs->major = (unsigned)version >> 16;
	libs->minor = (unsigned)version & 0xffff;
	return 0;
}

int xen_libs_open(struct xen_libs *libs, struct hvmi_error *err)
{
	memset(libs, 0, sizeof(*libs));
	libs->silent.vmessage = log_nothing;
	int rc = open_library(libs, XEN_XENCALL, err);
	if (!rc)
		rc = ask_version(libs, err);
	for (int i = XEN_XENCALL + 1; i < XEN_LIBRARY_COUNT && !rc; i++)
		rc = open_library(libs, (enum xen_library)i, err);
	if (!rc) {
		libs->xch = libs->xc_interface_open(&libs->silent, &libs->silent, 0);
		rc = libs->xch ? 0 : no_xen(errno, err);
	}
	if (!rc) {
		libs->memory = libs->xenforeignmemory_open(&libs->silent, 0);
		rc = libs->memory ? 0 : no_xen(errno, err);
	}
	if (!rc) {
		libs->devices = libs->xendevicemodel_open(&libs->silent, 0);
		rc = libs->devices ? 0 : no_xen(errno, err);
	}
	if (rc) {
		xen_libs_close(libs);
		return rc;
	}
	libs->store = libs->xs_open(0);
	return 0;
}

void xen_libs_close(struct xen_libs *libs)
{
	if (libs->store)
		libs->xs_close(libs->store);
	if (libs->devices)
		libs->xendevicemodel_close(libs->devices);
	if (libs->memory)
		libs->xenforeignmemory_close(libs->memory);
	if (libs->xch)
		libs->xc_interface_close(libs->xch);
	for (int i = XEN_LIBRARY_COUNT - 1; i >= 0; i--)
		if (libs->handles[i])
			dlclose(libs->handles[i]);
	memset(libs, 0, sizeof(*libs));
}
