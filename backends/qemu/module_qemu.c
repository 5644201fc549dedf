/* SPDX-License-Identifier: Apache-2.0 */
/* `qemu:QMP-SOCKET`. */
#include <stdlib.h>
#include <string.h>

#include "qemu.h"

static int open_socket(const struct hvmi_target *target, const struct hvmi_backend_host *host,
		       void **ret, struct hvmi_error *err)
{
	char *path = strdup(hvmi_target_what(target));
	if (!path)
		return hvmi_error_set(err, -ENOMEM, HVMI_NO_ADDRESS, "out of memory");
	struct monitor monitor;
	int rc = monitor_open_socket(&monitor, path, err);
	if (rc) {
		free(path);
		return rc;
	}
	return qemu_attach(&monitor, path, target, host, ret, err);
}

const struct hvmi_backend *hvmi_backend_entry(uint32_t version_major, uint32_t version_minor)
{
	static const struct hvmi_backend backend = {
		QEMU_METHODS,
		.scheme = "qemu",
		.open = open_socket,
	};
	(void)version_minor;
	return version_major == HVMI_VERSION_MAJOR ? &backend : NULL;
}
