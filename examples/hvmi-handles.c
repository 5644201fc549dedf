/* SPDX-License-Identifier: Apache-2.0 */
#include "tool.h"

static const char usage[] =
	"Usage: hvmi-handles TARGET PID [--json]\n"
	"List the open handles of a process of Windows.\n"
	"\n";

static void print_handle(struct tool *tool, const struct hvmi_handle *handle)
{
	if (tool->json) {
		tool_print(tool, tool_json_object(
			"handle", tool_json_hex(handle->handle),
			"type", *handle->type ? tool_json_text(handle->type, strlen(handle->type)) :
						json_null(),
			"access", tool_json_hex(handle->access),
			"name", tool_json_text(handle->name, strlen(handle->name)),
			"object", tool_json_hex(handle->object), NULL));
		return;
	}
	char *type = tool_escape(handle->type, strlen(handle->type));
	char *name = tool_escape(handle->name, strlen(handle->name));
	printf("%8" PRIx64 " %-20s %08" PRIx32 " %016" PRIx64 " %s\n", handle->handle,
	       *type ? type : "?", handle->access, handle->object, name);
	free(type);
	free(name);
}

int main(int argc, char **argv)
{
	struct tool tool;
	tool_begin(&tool, usage, argc, argv);
	while (tool_option(&tool, NULL) != -1)
		;
	tool_operands(&tool, 2, 2);
	int32_t pid = (int32_t)tool_number("process", tool.operands[1], INT32_MAX);
	tool_open_os(&tool);
	tool_list(&tool);

	struct hvmi_handle_iter *iter = NULL;
	struct hvmi_handle handle = { .size = sizeof(handle) };
	struct hvmi_task task = { .size = sizeof(task) };
	int rc = hvmi_task_find(tool.os, pid, &task, &tool.err);
	if (!rc)
		rc = hvmi_handle_iter_create(tool.os, &task, &iter, &tool.err);
	if (!rc && !tool.json)
		printf("%8s %-20s %8s %-16s %s\n", "HANDLE", "TYPE", "ACCESS", "OBJECT", "NAME");
	if (!rc)
		while ((rc = hvmi_handle_next(iter, &handle, &tool.err)) == 1)
			print_handle(&tool, &handle);
	if (rc < 0)
		tool_failed(&tool, rc);
	hvmi_handle_iter_destroy(iter);
	return tool_end(&tool);
}
