/* SPDX-License-Identifier: Apache-2.0 */
#include "tool.h"

static const char usage[] =
	"Usage: hvmi-symbol TARGET NAME|ADDRESS [--json]\n"
	"       hvmi-symbol TARGET --all [NAME] [--json]\n"
	"Print the address of a kernel symbol, or the symbol at an address, as\n"
	"/proc/kallsyms does.\n"
	"\n"
	"      --all           all symbols, or all that have the name\n";

static void print_symbol(struct tool *tool, const struct hvmi_symbol *symbol, uint64_t offset)
{
	char kind[2] = { symbol->kind > ' ' && symbol->kind < 0x7f ? (char)symbol->kind : '?', 0 };
	if (tool->json) {
		tool_print(tool, tool_json_object(
			"name", tool_json_text(symbol->name, strlen(symbol->name)),
			"address", tool_json_hex(symbol->gva),
			"kind", symbol->kind ? json_string(kind) : json_null(),
			"offset", tool_json_number(offset), NULL));
		return;
	}
	char *name = tool_escape(symbol->name, strlen(symbol->name));
	printf("%016" PRIx64 " %s %s", symbol->gva, kind, name);
	if (offset)
		printf("+0x%" PRIx64, offset);
	putchar('\n');
	free(name);
}

/* Those of this name, or all; at this address, or anywhere. Returns how many. */
static size_t print_matching(struct tool *tool, const char *name, uint64_t gva, size_t most)
{
	const struct hvmi_profile *profile = hvmi_os_profile(tool->os);
	struct hvmi_symbol symbol = { .size = sizeof(symbol) };
	uint32_t cursor = 0;
	size_t count = 0;
	while (count < most && hvmi_profile_next_symbol(profile, &cursor, &symbol) == 1) {
		if ((name && strcmp(symbol.name, name) != 0) ||
		    (gva != HVMI_NO_ADDRESS && symbol.gva != gva))
			continue;
		print_symbol(tool, &symbol, 0);
		count++;
	}
	return count;
}

static void print_one(struct tool *tool, const char *text)
{
	const struct hvmi_profile *profile = hvmi_os_profile(tool->os);
	struct hvmi_symbol symbol = { .size = sizeof(symbol) };
	uint64_t gva, offset;
	/* A plain name goes by name: of several at its address it is the one to print. */
	if (hvmi_profile_symbol(profile, text, &gva, NULL) == 0) {
		print_matching(tool, text, gva, 1);
		return;
	}
	if (tool_address(tool, text, &gva)) {
		if (hvmi_profile_symbol_at(profile, gva, &symbol, &offset) == 0) {
			print_symbol(tool, &symbol, offset);
			return;
		}
		tool_error(tool, TOOL_PARTIAL, "no symbol is near 0x%" PRIx64, gva);
	}
	if (tool->json)
		tool_print(tool, json_null());
}

int main(int argc, char **argv)
{
	static const struct option options[] = { { "all", no_argument, NULL, 'a' }, { 0 } };
	struct tool tool;
	bool all = false;
	tool_begin(&tool, usage, argc, argv);
	while (tool_option(&tool, options) != -1)
		all = true;
	tool_operands(&tool, all ? 1 : 2, 2);
	tool_open_os(&tool);
	const char *text = tool.operand_count > 1 ? tool.operands[1] : NULL;
	if (all) {
		tool_list(&tool);
		if (!print_matching(&tool, text, HVMI_NO_ADDRESS, SIZE_MAX))
			tool_error(&tool, TOOL_PARTIAL, text ? "there is no symbol '%s'" :
				   "no symbols were found in this kernel", text);
	} else {
		print_one(&tool, text);
	}
	return tool_end(&tool);
}
