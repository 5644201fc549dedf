/* SPDX-License-Identifier: Apache-2.0 */
#include "vm/vm.h"

#include <stdio.h>

struct hvmi_watch {
	struct hvmi_backend backend;
	struct link link;
	void *state;	/* the backend's, or NULL */
	int fd;
};

#define SCHEME_BYTES 64u

HVMI_API int hvmi_watch_open(const char *where, const struct hvmi_open_options *options,
			     struct hvmi_watch **ret, struct hvmi_error *err)
{
	struct hvmi_open_options o = { .size = sizeof(o) };
	if (!where || !ret || (options && (options_copy(&o, sizeof(o), options) || o.reserved)))
		return hvmi_error_set(err, -EINVAL, HVMI_NO_ADDRESS,
				      "a required argument is NULL, or struct hvmi_open_options "
				      "holds what this version does not know: zero it and set size");
	/* Nothing is changed by watching. */
	o.flags = 0;
	char scheme[SCHEME_BYTES];
	size_t len = strspn(where, "abcdefghijklmnopqrstuvwxyz0123456789-");
	if (len == 0 || len >= sizeof(scheme) || (where[len] && where[len] != ':'))
		return hvmi_error_set(err, -EINVAL, HVMI_NO_ADDRESS,
				      "say which machines: a scheme such as \"xen\", or "
				      "\"libvirt:URI\"");
	snprintf(scheme, sizeof(scheme), "%.*s", (int)len, where);
	struct hvmi_watch *watch = calloc(1, sizeof(*watch));
	if (!watch)
		return hvmi_error_set(err, -ENOMEM, HVMI_NO_ADDRESS, "out of memory");
	int rc = link_backend(&watch->link, scheme, &o, &watch->backend, err);
	if (!rc && !watch->backend.watch_open)
		rc = hvmi_error_set(err, -ENOTSUP, HVMI_NO_ADDRESS,
				    "'%s:' does not know which machines there are", scheme);
	void *state = NULL;
	if (!rc)
		rc = watch->backend.watch_open(where[len] ? where + len + 1 : "",
					       &watch->link.host, &state, &watch->fd, err);
	if (rc) {
		hvmi_watch_close(watch);
		return rc;
	}
	watch->state = state;
	*ret = watch;
	return 0;
}

HVMI_API void hvmi_watch_close(struct hvmi_watch *watch)
{
	if (!watch)
		return;
	if (watch->state)
		watch->backend.watch_close(watch->state);
	unlink_backend(&watch->link);
	free(watch);
}

HVMI_API int hvmi_watch_fd(const struct hvmi_watch *watch)
{
	return watch->fd;
}

HVMI_API int hvmi_watch_next(struct hvmi_watch *watch, struct hvmi_machine_news *ret,
			     struct hvmi_error *err)
{
	struct hvmi_machine_news news = { .size = sizeof(news) };
	int rc = watch->backend.watch_next(watch->state, &news, err);
	if (rc != 1)
		return rc;
	/* Whoever named a machine may have meant harm to terminals. */
	struct hvmi_machine_news safe = news;
	text_sanitise(news.name, strnlen(news.name, sizeof(news.name)), safe.name,
		      sizeof(safe.name));
	if (result_copy(ret, &safe, sizeof(safe)))
		return hvmi_error_set(err, -EINVAL, HVMI_NO_ADDRESS,
				      "hvmi_machine_news.size is not set");
	return 1;
}
