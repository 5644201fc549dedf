/* SPDX-License-Identifier: Apache-2.0 */
#include "tool.h"

static const char usage[] =
	"Usage: hvmi-drivers TARGET [OPTION]...\n"
	"List the drivers of a Windows guest.\n"
	"\n"
	"      --dispatch      with their dispatch tables\n"
	"      --devices       with their devices\n"
	"      --unloaded      drivers that were unloaded instead\n";

struct drivers {
	struct tool tool;
	bool dispatch, devices, unloaded;
};

static const char *const functions[HVMI_DISPATCH_COUNT] = {
	"CREATE", "CREATE_NAMED_PIPE", "CLOSE", "READ", "WRITE", "QUERY_INFORMATION",
	"SET_INFORMATION", "QUERY_EA", "SET_EA", "FLUSH_BUFFERS", "QUERY_VOLUME_INFORMATION",
	"SET_VOLUME_INFORMATION", "DIRECTORY_CONTROL", "FILE_SYSTEM_CONTROL", "DEVICE_CONTROL",
	"INTERNAL_DEVICE_CONTROL", "SHUTDOWN", "LOCK_CONTROL", "CLEANUP", "CREATE_MAILSLOT",
	"QUERY_SECURITY", "SET_SECURITY", "POWER", "SYSTEM_CONTROL", "DEVICE_CHANGE", "QUERY_QUOTA",
	"SET_QUOTA", "PNP",
};

static json_t *text_json(const char *text)
{
	return *text ? tool_json_text(text, strlen(text)) : json_null();
}

static json_t *list_devices(struct drivers *d, const struct hvmi_driver *driver)
{
	struct hvmi_device_iter *iter = NULL;
	struct hvmi_device device = { .size = sizeof(device) };
	json_t *array = d->tool.json ? json_array() : NULL;
	int rc = hvmi_device_iter_create(d->tool.os, driver, &iter, &d->tool.err);
	if (!rc)
		while ((rc = hvmi_device_next(iter, &device, &d->tool.err)) == 1) {
			if (array) {
				tool_json_append(array, tool_json_object(
					"object", tool_json_hex(device.object),
					"name", text_json(device.name),
					"type", tool_json_number(device.type),
					"attached", tool_json_hex(device.attached), NULL));
				continue;
			}
			char *name = tool_escape(device.name, strlen(device.name));
			printf("    device %016" PRIx64 " type 0x%" PRIx32 " %s\n", device.object,
			       device.type, name);
			free(name);
		}
	if (rc < 0)
		tool_failed(&d->tool, rc);
	hvmi_device_iter_destroy(iter);
	return array;
}

static void print_driver(struct drivers *d, const struct hvmi_driver *driver)
{
	if (d->tool.json) {
		json_t *dispatch = json_array();
		for (size_t i = 0; i < HVMI_DISPATCH_COUNT; i++)
			tool_json_append(dispatch, tool_json_hex(driver->dispatch[i]));
		json_t *object = tool_json_object(
			"name", text_json(driver->name), "service", text_json(driver->service),
			"start", tool_json_hex(driver->start),
			"size", tool_json_number(driver->bytes),
			"module", tool_json_hex(driver->module),
			"unload", tool_json_hex(driver->unload), "dispatch", dispatch,
			"object", tool_json_hex(driver->object), NULL);
		if (d->devices)
			tool_json_set(object, "devices", list_devices(d, driver));
		tool_print(&d->tool, object);
		return;
	}
	char *name = tool_escape(driver->name, strlen(driver->name));
	printf("%016" PRIx64 " %8" PRIu64 " %016" PRIx64 " %s\n", driver->start, driver->bytes,
	       driver->object, *name ? name : "?");
	free(name);
	for (size_t i = 0; d->dispatch && i < HVMI_DISPATCH_COUNT; i++)
		printf("    %-24s %016" PRIx64 "\n", functions[i], driver->dispatch[i]);
	if (d->devices)
		list_devices(d, driver);
}

static int list_unloaded(struct drivers *d)
{
	struct hvmi_unloaded u = { .size = sizeof(u) };
	int rc = 0;
	for (uint32_t i = 0; !(rc = hvmi_unloaded_read(d->tool.os, i, &u, &d->tool.err)); i++) {
		if (d->tool.json) {
			tool_print(&d->tool, tool_json_object(
				"name", text_json(u.name), "start", tool_json_hex(u.start),
				"end", tool_json_hex(u.end),
				"time_ns", tool_json_number(u.time_ns), NULL));
			continue;
		}
		char *name = tool_escape(u.name, strlen(u.name));
		printf("%016" PRIx64 " %016" PRIx64 " %s\n", u.start, u.end, name);
		free(name);
	}
	return rc == -ENOENT ? 0 : rc;
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "devices", no_argument, NULL, 'd' }, { "dispatch", no_argument, NULL, 'p' },
		{ "unloaded", no_argument, NULL, 'u' }, { 0 },
	};
	struct drivers d = { 0 };
	tool_begin(&d.tool, usage, argc, argv);
	for (int c; (c = tool_option(&d.tool, options)) != -1;)
		*(c == 'd' ? &d.devices : c == 'p' ? &d.dispatch : &d.unloaded) = true;
	tool_operands(&d.tool, 1, 1);
	tool_open_os(&d.tool);
	tool_list(&d.tool);

	struct hvmi_driver_iter *iter = NULL;
	struct hvmi_driver driver = { .size = sizeof(driver) };
	int rc = d.unloaded ? list_unloaded(&d) :
			      hvmi_driver_iter_create(d.tool.os, &iter, &d.tool.err);
	if (iter && !d.tool.json)
		printf("%-16s %8s %-16s NAME\n", "START", "SIZE", "OBJECT");
	if (iter)
		while ((rc = hvmi_driver_next(iter, &driver, &d.tool.err)) == 1)
			print_driver(&d, &driver);
	if (rc < 0)
		tool_failed(&d.tool, rc);
	hvmi_driver_iter_destroy(iter);
	return tool_end(&d.tool);
}
