/* SPDX-License-Identifier: Apache-2.0 */
#include <dlfcn.h>
#include <stdarg.h>
#include <stdio.h>

#include "vm/vm.h"

#define SCHEME_MAX 15u

static void log_message(const struct link *link, uint32_t level, const char *format, va_list args)
{
	if (!link->log)
		return;
	char raw[1024], safe[1024];
	vsnprintf(raw, sizeof(raw), format, args);
	text_sanitise(raw, strlen(raw), safe, sizeof(safe));
	link->log(link->log_context, level, safe);
}

void vm_log(struct hvmi_vm *vm, uint32_t level, const char *format, ...)
{
	va_list args;
	va_start(args, format);
	log_message(&vm->link, level, format, args);
	va_end(args);
}

static void host_log(const struct hvmi_backend_host *host, uint32_t level, const char *format, ...)
{
	va_list args;
	va_start(args, format);
	log_message((const void *)((const char *)host - offsetof(struct link, host)), level,
		    format, args);
	va_end(args);
}

/* The folder `hvmi` beside this very library: trees can be moved, and built ones tried in place. */
static int default_folder(char *folder, size_t size)
{
	static const char here;
	Dl_info info;
	if (!dladdr(&here, &info) || !info.dli_fname)
		return -ENOENT;
	char *path = realpath(info.dli_fname, NULL);
	if (!path)
		return -ENOENT;
	char *end = strrchr(path, '/');
	int len = snprintf(folder, size, "%.*s/hvmi", end ? (int)(end - path) : 0, path);
	free(path);
	return len < 0 || (size_t)len >= size ? -EOVERFLOW : 0;
}

static int load_module(struct link *link, const char *scheme, const char *folder,
		       const struct hvmi_backend **ret, struct hvmi_error *err)
{
	char path[4096], own[4000];
	if (!folder && default_folder(own, sizeof(own)))
		return hvmi_error_set(err, -ENOENT, HVMI_NO_ADDRESS,
				      "the folder of libhvmi.so cannot be told: set module_dir");
	int len = snprintf(path, sizeof(path), "%s/hvmi-backend-%s.so", folder ? folder : own,
			   scheme);
	if (len < 0 || (size_t)len >= sizeof(path))
		return hvmi_error_set(err, -EINVAL, HVMI_NO_ADDRESS, "module_dir is too long");
	link->module = dlopen(path, RTLD_NOW | RTLD_LOCAL);
	if (!link->module) {
		const char *reason = dlerror();
		return hvmi_error_set(err, -ENOENT, HVMI_NO_ADDRESS,
				      "no backend for '%s:' (%s); if this is a file, write "
				      "dump:%s:...", scheme, reason ? reason : "?", scheme);
	}
	/* POSIX has dlsym() give functions as void *. */
	hvmi_backend_entry_fn entry;
	*(void **)&entry = dlsym(link->module, HVMI_BACKEND_ENTRY);
	const struct hvmi_backend *backend =
		entry ? entry(HVMI_VERSION_MAJOR, HVMI_VERSION_MINOR) : NULL;
	if (!backend)
		return hvmi_error_set(err, -ENOTSUP, HVMI_NO_ADDRESS,
				      "%s does not serve libhvmi %s: install the module that "
				      "belongs to this library", path, hvmi_version());
	*ret = backend;
	return 0;
}

/* Optional methods that make sense together only. */
static bool whole(const struct hvmi_backend *b)
{
	bool events = b->events_open;
	bool watch = b->watch_open;
	return events == !!b->events_close && events == !!b->event_request &&
	       events == !!b->event_cancel && events == !!b->event_next &&
	       events == !!b->event_answer && watch == !!b->watch_close &&
	       watch == !!b->watch_next && (events || (!b->view_create && !b->page_create));
}

static int take_backend(const struct hvmi_backend *backend, struct hvmi_backend *ret,
			struct hvmi_error *err)
{
	if (backend->size < offsetof(struct hvmi_backend, write))
		return hvmi_error_set(err, -EINVAL, HVMI_NO_ADDRESS,
				      "the backend's table is too small");
	memset(ret, 0, sizeof(*ret));
	memcpy(ret, backend, MIN(backend->size, sizeof(*ret)));
	if (!ret->scheme || !ret->open || !ret->close || !ret->describe || !ret->range ||
	    !ret->read || !whole(ret))
		return hvmi_error_set(err, -EINVAL, HVMI_NO_ADDRESS,
				      "the backend lacks a required method");
	return 0;
}

int link_backend(struct link *link, const char *scheme, const struct hvmi_open_options *options,
		 struct hvmi_backend *table_ret, struct hvmi_error *err)
{
	link->log = options->log;
	link->log_context = options->log_context;
	link->host = (struct hvmi_backend_host){ .size = sizeof(link->host),
						 .flags = options->flags, .log = host_log };
	const struct hvmi_backend *backend = options->backend ? options->backend :
								builtin_backend(scheme);
	if (!backend) {
		if (strlen(scheme) > SCHEME_MAX)
			return hvmi_error_set(err, -ENOENT, HVMI_NO_ADDRESS,
					      "no backend for '%s:'; if this is a file, write "
					      "dump:%s:...", scheme, scheme);
		int rc = load_module(link, scheme, options->module_dir, &backend, err);
		if (rc)
			return rc;
	}
	return take_backend(backend, table_ret, err);
}

void unlink_backend(struct link *link)
{
	if (link->module)
		dlclose(link->module);
}
