/* SPDX-License-Identifier: Apache-2.0 */
/* What of libvirt is common to machines and to watching them. */
#ifndef HVMI_BACKEND_QEMU_LIBVIRT_H
#define HVMI_BACKEND_QEMU_LIBVIRT_H

#include <libvirt/libvirt.h>

#include <hvmi/backend.h>

/* Connect to a QEMU driver; @p uri NULL: the one that libvirt prefers. */
int libvirt_connect(const char *uri, virConnectPtr *ret, struct hvmi_error *err);

/* libvirt's last error as one of ours. */
int libvirt_failed(const char *what, struct hvmi_error *err);

/* hvmi_backend.watch_*(). */
int libvirt_watch_open(const char *where, const struct hvmi_backend_host *host, void **ret,
		       int *fd_ret, struct hvmi_error *err);
void libvirt_watch_close(void *watch);
int libvirt_watch_next(void *watch, struct hvmi_machine_news *ret, struct hvmi_error *err);

#endif
