/* SPDX-License-Identifier: Apache-2.0 */
#ifndef XEN_WATCH_H
#define XEN_WATCH_H

#include <hvmi/backend.h>

int watch_open(const char *where, const struct hvmi_backend_host *host, void **ret, int *fd_ret,
	       struct hvmi_error *err);
void watch_close(void *watch);
int watch_next(void *watch, struct hvmi_machine_news *ret, struct hvmi_error *err);

#endif
