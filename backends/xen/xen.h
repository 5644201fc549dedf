/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The Xen that runs here: its libraries, its version. Nothing of Xen is linked; libxenctrl is opened
 * by the release that the hypervisor says it is, so that one build serves them all. Of structures
 * that libxenctrl shares with its callers only what is the same in Xen 4.11 to 4.22 is used.
 */
#ifndef XEN_XEN_H
#define XEN_XEN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <xencall.h>
#include <xenctrl.h>
#include <xendevicemodel.h>
#include <xenevtchn.h>
#include <xenforeignmemory.h>
#include <xenstore.h>
#include <xentoollog.h>

#include <hvmi/backend.h>

#define PAGE 4096u

/* Since Xen 4.18: not in every header. */
int xc_monitor_io(xc_interface *xch, uint32_t domain_id, bool enable);

struct xen_libs {
#define LIBRARY(id, soname) void *id;
#define NEED(library, name) __typeof__(name) *name;
#define MAY(library, name) __typeof__(name) *name;
#include "libs.def"
};

struct xen_logger {
	xentoollog_logger base;
	const struct hvmi_backend_host *host;
};

struct xen {
	const struct hvmi_backend_host *host;
	struct xen_logger logger;
	struct xen_libs l;
	xencall_handle *call;
	xc_interface *xc;
	uint32_t major, minor, point;	/* 4.17.3 */
	bool amd;			/* SVM and not VMX */
};

int xen_connect(struct xen *xen, const struct hvmi_backend_host *host, struct hvmi_error *err);
void xen_disconnect(struct xen *xen);

/* Whether the hypervisor is at least 4.minor.point. */
bool xen_since(const struct xen *xen, uint32_t minor, uint32_t point);

/* The code of the closed set for an errno of Xen's. */
int xen_code(int error);

/* xs_read() as a string of at most size - 1 bytes, cut there; false: there is no such node. */
bool xen_store_read(const struct xen *xen, struct xs_handle *store, const char *path, char *buf,
		    size_t size);

#endif
