/* SPDX-License-Identifier: Apache-2.0 */
#include "tool.h"

static const char usage[] =
	"Usage: hvmi-modules TARGET [--json]\n"
	"List the loaded modules of the kernel, the newest first.\n"
	"\n";

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
		tool_print(tool, tool_json_object(
			"name", tool_json_text(module->name, len),
			"base", tool_json_hex(module->base),
			"size", tool_json_number(module->bytes),
			"state", state ? json_string(state) : json_null(),
			"object", tool_json_hex(module->object), NULL));
		return;
	}
	char *name = tool_escape(module->name, len);
	printf("%-28s 0x%016" PRIx64 " %8" PRIu64 " %s\n", name, module->base, module->bytes,
	       state ? state : "?");
	free(name);
}

int main(int argc, char **argv)
{
	struct tool tool;
	tool_begin(&tool, usage, argc, argv);
	while (tool_option(&tool, NULL) != -1)
		;
	tool_operands(&tool, 1, 1);
	tool_open_os(&tool);
	tool_list(&tool);

	struct hvmi_module_iter *iter = NULL;
	struct hvmi_module module = { .size = sizeof(module) };
	int rc = hvmi_module_iter_create(tool.os, &iter, &tool.err);
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
