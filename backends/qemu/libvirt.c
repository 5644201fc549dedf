/* SPDX-License-Identifier: Apache-2.0 */
#include "libvirt.h"

#include <stdio.h>
#include <string.h>

#include <libvirt/virterror.h>

static void be_quiet(void *context, virErrorPtr error)
{
	(void)context;
	(void)error;
}

int libvirt_failed(const char *what, struct hvmi_error *err)
{
	const virError *error = virGetLastError();
	int code = error ? error->code : VIR_ERR_INTERNAL_ERROR;
	int rc = code == VIR_ERR_NO_DOMAIN || code == VIR_ERR_NO_CONNECT ? -ENOENT :
		 code == VIR_ERR_AUTH_FAILED || code == VIR_ERR_AUTH_CANCELLED ||
				 code == VIR_ERR_AUTH_UNAVAILABLE || code == VIR_ERR_ACCESS_DENIED ||
				 code == VIR_ERR_OPERATION_DENIED ? -EACCES :
		 code == VIR_ERR_NO_MEMORY ? -ENOMEM :
		 code == VIR_ERR_NO_SUPPORT ? -ENOTSUP :
		 code == VIR_ERR_OPERATION_TIMEOUT ? -ETIMEDOUT : -EIO;
	const char *reason = error && error->message ? error->message : "libvirt does not say why";
	/* It says so in words only. */
	if (strstr(reason, "Permission denied"))
		rc = -EACCES;
	return hvmi_error_set(err, rc, HVMI_NO_ADDRESS, "%s: %s%s", what, reason,
			      rc == -EACCES ? " (be root, or in the group libvirt)" : "");
}

int libvirt_connect(const char *uri, virConnectPtr *ret, struct hvmi_error *err)
{
	/* Or libvirt prints errors. The handler is the process's, and there is no other way. */
	virSetErrorFunc(NULL, be_quiet);
	virConnectPtr connection = virConnectOpen(uri);
	if (!connection)
		return libvirt_failed(uri ? uri : "libvirt", err);
	const char *type = virConnectGetType(connection);
	if (!type || strcmp(type, "QEMU")) {
		int rc = hvmi_error_set(err, -ENOTSUP, HVMI_NO_ADDRESS,
					"%s is libvirt's driver for %s, and QEMU's is needed: "
					"libvirt:qemu:///system#NAME", uri ? uri : "the default URI",
					type ? type : "something else");
		virConnectClose(connection);
		return rc;
	}
	*ret = connection;
	return 0;
}
