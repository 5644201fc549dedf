/* SPDX-License-Identifier: Apache-2.0 */
/* The libraries of the Xen that runs here, opened when they are needed. */
#ifndef HVMI_BACKEND_XEN_LIBS_H
#define HVMI_BACKEND_XEN_LIBS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <xenctrl.h>
#include <xencall.h>
#include <xendevicemodel.h>
#include <xenevtchn.h>
#include <xenforeignmemory.h>
#include <xenstore.h>
#include <xentoollog.h>

#include <hvmi/backend.h>

/* Since 4.18; older headers lack it. */
int xc_monitor_io(xc_interface *xch, uint32_t domain_id, bool enable);

enum xen_library {
#define LIBRARY(id, file) XEN_##id,
#define NEEDED(library, function)
#define PROBED(library, function)
#include "functions.def"
#undef LIBRARY
#undef NEEDED
#undef PROBED
	XEN_LIBRARY_COUNT
};

/* Functions under their own names: libs->xc_domain_pause(...). */
struct xen_libs {
	void *handles[XEN_LIBRARY_COUNT];
	unsigned major, minor;	/* of the Xen that runs */
	xc_interface *xch;
	xenforeignmemory_handle *memory;
	xendevicemodel_handle *devices;
	struct xs_handle *store;	/* NULL: xenstored does not answer */
	xentoollog_logger silent;	/* Xen's libraries write to stderr otherwise */
#define LIBRARY(id, file)
#define NEEDED(library, function) __typeof__(&function) function;
#define PROBED NEEDED
#include "functions.def"
#undef LIBRARY
#undef NEEDED
#undef PROBED
};

/* Open all; what was opened before a failure is closed again. */
int xen_libs_open(struct xen_libs *libs, struct hvmi_error *err);
void xen_libs_close(struct xen_libs *libs);

/* The library's error for errno of a call to Xen. */
int xen_code(int error);

/* Whether the running release is at least this one. */
static inline bool xen_since(const struct xen_libs *libs, unsigned major, unsigned minor)
{
	return libs->major != major ? libs->major > major : libs->minor >= minor;
}

#endif
