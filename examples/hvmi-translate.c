/* SPDX-License-Identifier: Apache-2.0 */
#include "tool.h"

static const char usage[] =
	"Usage: hvmi-translate TARGET ADDRESS [OPTION]...\n"
	"       hvmi-translate TARGET --all [OPTION]...\n"
	"Translate a guest-virtual address, showing every paging-structure entry on the way.\n"
	"ADDRESS is a number, SYMBOL or SYMBOL+NUMBER.\n"
	"\n"
	"      --all           list all runs of mapped memory of the space\n"
	"      --pid PID       in the space of this process; else in the kernel's\n"
	"      --root GPA      in the space with this page-table root (CR3); no operating\n"
	"                      system is needed\n"
	"      --levels N      levels of --root: 2 (32-bit), 3 (PAE), 4 or 5; 4 if not given\n";

/* Page tables that refer to themselves can map all of the space. */
#define RUNS_MAX 16777216u

struct request {
	bool all;
	const char *pid, *root, *levels;
};

#define ARM64_MODE 6

static struct hvmi_space *open_space(struct tool *tool, const struct request *request)
{
	static const uint32_t modes[] = {
		[2] = HVMI_PAGING_X86_32, [3] = HVMI_PAGING_X86_PAE,
		[4] = HVMI_PAGING_X86_4LEVEL, [5] = HVMI_PAGING_X86_5LEVEL,
		[ARM64_MODE] = HVMI_PAGING_ARM64,
	};
	struct hvmi_space *space = NULL;
	struct hvmi_task task = { .size = sizeof(task) };
	int rc;
	if (request->root) {
		uint64_t root = tool_number("root", request->root, UINT64_MAX);
		uint64_t levels = request->levels ? tool_number("levels", request->levels, 5) : 4;
		if (levels < 2)
			tool_die(TOOL_USAGE, "--levels is 2 to 5");
		tool_open(tool);
		struct hvmi_vm_info info = { .size = sizeof(info) };
		hvmi_vm_get_info(tool->vm, &info);
		if (info.arch == HVMI_ARCH_ARM64)
			levels = ARM64_MODE;
		struct hvmi_space_config config = {
			.size = sizeof(config), .root = root, .paging = modes[levels],
			.flags = levels == 2 ? HVMI_SPACE_PSE : HVMI_SPACE_NX,
		};
		rc = hvmi_space_create(tool->vm, &config, &space, &tool->err);
	} else if (request->pid) {
		int32_t pid = (int32_t)tool_number("process", request->pid, INT32_MAX);
		tool_open_os(tool);
		rc = hvmi_task_find(tool->os, pid, &task, &tool->err);
		if (!rc)
			rc = hvmi_task_space(tool->os, &task, &space, &tool->err);
	} else {
		tool_open_os(tool);
		rc = hvmi_os_kernel_space(tool->os, &space, &tool->err);
	}
	if (rc)
		tool_failed(tool, rc);
	return space;
}

static void print_walk(const struct hvmi_walk *walk)
{
	static const char *const entries[] = { "?", "PTE", "PDE", "PDPTE", "PML4E", "PML5E" };
	char size[32], rights[5];
	printf("gva    0x%016" PRIx64 "\n", walk->gva);
	for (uint32_t i = 0; i < walk->entry_count; i++) {
		const struct hvmi_walk_entry *entry = &walk->entries[i];
		printf("%-6s 0x%016" PRIx64 " at gpa 0x%" PRIx64 "\n",
		       entries[entry->level <= 5 ? entry->level : 0], entry->value, entry->gpa);
	}
	if (walk->fault == HVMI_FAULT_NONE)
		printf("gpa    0x%016" PRIx64 ", %s page, %s\n", walk->gpa,
		       tool_size(walk->page_size, size), tool_rights(walk->rights, rights));
}

static void print_walk_json(struct tool *tool, const struct hvmi_walk *walk)
{
	static const char *const faults[] = { NULL, "non-canonical", "not-present", "reserved",
					      "no-memory" };
	bool fault = walk->fault != HVMI_FAULT_NONE;
	char rights[5];
	json_t *entries = json_array();
	for (uint32_t i = 0; i < walk->entry_count; i++) {
		const struct hvmi_walk_entry *entry = &walk->entries[i];
		tool_json_append(entries, tool_json_object(
			"level", tool_json_number(entry->level), "gpa", tool_json_hex(entry->gpa),
			"value", tool_json_hex(entry->value), NULL));
	}
	tool_print(tool, tool_json_object(
		"gva", tool_json_hex(walk->gva),
		"gpa", fault ? json_null() : tool_json_hex(walk->gpa),
		"page_size", fault ? json_null() : tool_json_number(walk->page_size),
		"rights", fault ? json_null() : json_string(tool_rights(walk->rights, rights)),
		"entries", entries,
		"fault", !fault ? json_null() :
			 json_string(walk->fault <= HVMI_FAULT_NO_MEMORY ? faults[walk->fault] :
				     "unknown"),
		"fault_level", walk->fault_level ? tool_json_number(walk->fault_level) :
						   json_null(), NULL));
}

static void translate(struct tool *tool, struct hvmi_space *space, uint64_t gva)
{
	struct hvmi_walk walk = { .size = sizeof(walk) };
	int rc = hvmi_space_walk(space, gva, &walk, &tool->err);
	if (rc && rc != -EFAULT) {
		tool_failed(tool, rc);
		return;
	}
	if (tool->json)
		print_walk_json(tool, &walk);
	else
		print_walk(&walk);
	if (rc)
		tool_failed(tool, rc);
}

static void print_all(struct tool *tool, struct hvmi_space *space)
{
	struct hvmi_mapping run = { .size = sizeof(run) };
	uint64_t cursor = 0;
	uint32_t count = 0;
	char rights[5];
	int rc;
	while ((rc = hvmi_space_next_mapping(space, &cursor, UINT64_MAX, &run)) == 1 &&
	       count++ < RUNS_MAX) {
		tool_rights(run.rights, rights);
		if (tool->json)
			tool_print(tool, tool_json_object(
				"gva", tool_json_hex(run.gva), "gpa", tool_json_hex(run.gpa),
				"len", tool_json_number(run.len), "rights", json_string(rights),
				NULL));
		else
			printf("%016" PRIx64 "-%016" PRIx64 " %s gpa 0x%" PRIx64 "\n", run.gva,
			       run.gva + run.len - 1, rights, run.gpa);
	}
	if (rc == 1)
		tool_error(tool, TOOL_PARTIAL, "there are more than %u runs", RUNS_MAX);
	else if (rc)
		tool_error(tool, tool_code(rc), "the page tables are too large, or refer to "
			   "themselves: the list ends at 0x%" PRIx64, cursor);
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "all", no_argument, NULL, 'a' }, { "pid", required_argument, NULL, 'p' },
		{ "root", required_argument, NULL, 'r' },
		{ "levels", required_argument, NULL, 'l' }, { 0 },
	};
	struct tool tool;
	struct request request = { 0 };
	tool_begin(&tool, usage, argc, argv);
	for (int c; (c = tool_option(&tool, options)) != -1;) {
		if (c == 'a')
			request.all = true;
		else
			*(c == 'p' ? &request.pid : c == 'r' ? &request.root : &request.levels) =
				optarg;
	}
	int operands = request.all ? 1 : 2;
	tool_operands(&tool, operands, operands);
	if (request.pid && request.root)
		tool_die(TOOL_USAGE, "--pid and --root exclude each other");
	if (request.levels && !request.root)
		tool_die(TOOL_USAGE, "--levels goes with --root");

	uint64_t gva = 0;
	struct hvmi_space *space = open_space(&tool, &request);
	bool ready = space && (request.all || tool_address(&tool, tool.operands[1], &gva));
	if (request.all)
		tool_list(&tool);
	if (ready && request.all)
		print_all(&tool, space);
	else if (ready)
		translate(&tool, space, gva);
	else if (tool.json && !request.all)
		tool_print(&tool, json_null());
	hvmi_space_destroy(space);
	return tool_end(&tool);
}
