/* SPDX-License-Identifier: Apache-2.0 */
#include "tool.h"

static const char usage[] =
	"Usage: hvmi-maps TARGET PID [--pause] [--json]\n"
	"List the memory regions of a process, in the format of /proc/PID/maps.\n"
	"\n"
	TOOL_PAUSE_USAGE;

/* As show_map_vma() in fs/proc/task_mmu.c: the path begins in this column. */
#define PATH_COLUMN 73

static void print_region(struct tool *tool, const struct hvmi_region *region)
{
	char rights[5], device[12];
	bool shared = region->flags & HVMI_REGION_SHARED;
	bool partial = region->flags & HVMI_REGION_PATH_PARTIAL;
	tool_rights(region->rights, rights);
	rights[3] = '\0';
	snprintf(device, sizeof(device), "%02x:%02x", (unsigned)region->device >> 20,
		 (unsigned)region->device & 0xfffff);
	if (tool->json) {
		bool unknown = partial && !*region->path;
		json_t *path = unknown ? json_null() :
					 tool_json_text(region->path, strlen(region->path));
		json_t *object = tool_json_object(
			"start", tool_json_hex(region->start), "end", tool_json_hex(region->end),
			"prot", json_string(rights), "shared", json_boolean(shared),
			"offset", tool_json_hex(region->offset),
			"inode", tool_json_number(region->inode), "device", json_string(device),
			"path", path, "path_partial", json_boolean(partial),
			"object", tool_json_hex(region->object), NULL);
		if (tool_windows(tool)) {
			tool_json_set(object, "protection", tool_json_hex(region->protection));
			tool_json_set(object, "image",
				      json_boolean(region->flags & HVMI_REGION_IMAGE));
			tool_json_set(object, "private",
				      json_boolean(region->flags & HVMI_REGION_PRIVATE));
			tool_json_set(object, "guard",
				      json_boolean(region->flags & HVMI_REGION_GUARD));
		}
		tool_print(tool, object);
		return;
	}
	int column = printf("%08" PRIx64 "-%08" PRIx64 " %s%c %08" PRIx64 " %s %" PRIu64 " ",
			    region->start, region->end, rights, shared ? 's' : 'p',
			    region->offset, device, region->inode);
	if (*region->path || partial) {
		char *path = tool_escape(region->path, strlen(region->path));
		int gap = column < PATH_COLUMN ? PATH_COLUMN - column : 1;
		/* The end of a path is known before its beginning. */
		printf("%*s%s%s", gap, "", partial ? "?" : "", path);
		free(path);
	}
	putchar('\n');
}

int main(int argc, char **argv)
{
	static const struct option options[] = { { "pause", no_argument, NULL, 's' }, { 0 } };
	struct tool tool;
	tool_begin(&tool, usage, argc, argv);
	while (tool_option(&tool, options) != -1)
		tool.pause = true;
	tool_operands(&tool, 2, 2);
	int32_t pid = (int32_t)tool_number("process", tool.operands[1], INT32_MAX);
	tool_open_os(&tool);
	tool_list(&tool);
	if (!tool_pause(&tool))
		return tool_end(&tool);

	struct hvmi_region_iter *iter = NULL;
	struct hvmi_region region = { .size = sizeof(region) };
	struct hvmi_task task = { .size = sizeof(task) };
	int rc = hvmi_task_find(tool.os, pid, &task, &tool.err);
	if (!rc)
		rc = hvmi_region_iter_create(tool.os, &task, 0, &iter, &tool.err);
	if (!rc)
		while ((rc = hvmi_region_next(iter, &region, &tool.err)) == 1)
			print_region(&tool, &region);
	if (rc < 0)
		tool_failed(&tool, rc);
	hvmi_region_iter_destroy(iter);
	return tool_end(&tool);
}
