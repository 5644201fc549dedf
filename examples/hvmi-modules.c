/* SPDX-License-Identifier: Apache-2.0 */
#include "tool.h"

static const char usage[] =
	"Usage: hvmi-modules TARGET [--pid PID] [--pause] [--json]\n"
	"List the loaded modules of the kernel, or of a process of Windows.\n"
	"\n"
	"      --pid PID       the program and libraries of a process (Windows)\n"
	TOOL_PAUSE_USAGE;

static const char *state_name(uint32_t state)
{
	switch (state) {
	case HVMI_MODULE_LIVE:
		return "live";
	case HVMI_MODULE_COMING:
		return "coming";
	case HVMI_MODULE_GOING:
		return "going";
	case HVMI_MODULE_UNFORMED:
		return "unformed";
	default:
		return NULL;
	}
}

static void print_module(struct tool *tool, const struct hvmi_module *module)
{
	const char *state = state_name(module->state);
	size_t len = strnlen(module->name, sizeof(module->name));
	if (tool->json) {
		json_t *object = tool_json_object(
			"name", tool_json_text(module->name, len),
			"base", tool_json_hex(module->base),
			"size", tool_json_number(module->bytes),
			"state", state ? json_string(state) : json_null(),
			"object", tool_json_hex(module->object), NULL);
		if (tool_windows(tool)) {
			tool_json_set(object, "path", *module->path ?
				      tool_json_text(module->path, strlen(module->path)) : json_null());
			tool_json_set(object, "entry", tool_json_hex(module->entry));
			tool_json_set(object, "is_32bit",
				      json_boolean(module->flags & HVMI_MODULE_32BIT));
		}
		tool_print(tool, object);
		return;
	}
	char *name = tool_escape(module->name, len);
	printf("%-28s 0x%016" PRIx64 " %8" PRIu64 " %s\n", name, module->base, module->bytes,
	       state ? state : "?");
	free(name);
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "pause", no_argument, NULL, 's' }, { "pid", required_argument, NULL, 'p' }, { 0 },
	};
	struct tool tool;
	int32_t pid = -1;
	tool_begin(&tool, usage, argc, argv);
	for (int c; (c = tool_option(&tool, options)) != -1;) {
		if (c == 's')
			tool.pause = true;
		else
			pid = (int32_t)tool_number("process", optarg, INT32_MAX);
	}
	tool_operands(&tool, 1, 1);
	tool_open_os(&tool);
	tool_list(&tool);
	if (!tool_pause(&tool))
		return tool_end(&tool);

	struct hvmi_module_iter *iter = NULL;
	struct hvmi_module module = { .size = sizeof(module) };
	struct hvmi_task task = { .size = sizeof(task) };
	int rc = pid < 0 ? 0 : hvmi_task_find(tool.os, pid, &task, &tool.err);
	if (!rc)
		rc = pid < 0 ? hvmi_module_iter_create(tool.os, 0, &iter, &tool.err) :
			       hvmi_module_iter_create_task(tool.os, &task, 0, &iter, &tool.err);
	if (!rc && !tool.json)
		printf("%-28s %-18s %8s %s\n", "NAME", "BASE", "SIZE", "STATE");
	if (!rc)
		while ((rc = hvmi_module_next(iter, &module, &tool.err)) == 1)
			print_module(&tool, &module);
	if (rc < 0)
		tool_failed(&tool, rc);
	hvmi_module_iter_destroy(iter);
	return tool_end(&tool);
}
