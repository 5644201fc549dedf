/* SPDX-License-Identifier: Apache-2.0 */
#include "tool.h"

static const char usage[] =
	"Usage: hvmi-callbacks TARGET [--services] [--json]\n"
	"List what drivers asked the kernel of a Windows guest to call.\n"
	"\n"
	"      --services      the system services instead\n";

#define MODULES_MAX 16384u

/* Where modules are, to say whose a routine is. */
static struct place {
	uint64_t start, end;
	char name[64];
} *places;
static size_t place_count;

static void load_modules(struct tool *tool)
{
	struct hvmi_module_iter *iter;
	struct hvmi_module module = { .size = sizeof(module) };
	if (hvmi_module_iter_create(tool->os, 0, &iter, NULL))
		return;
	places = calloc(MODULES_MAX, sizeof(*places));
	if (!places)
		tool_die(TOOL_INTERNAL, "out of memory");
	while (place_count < MODULES_MAX && hvmi_module_next(iter, &module, NULL) == 1) {
		struct place *place = &places[place_count++];
		*place = (struct place){ .start = module.base, .end = module.base + module.bytes };
		memcpy(place->name, module.name, sizeof(place->name));
	}
	hvmi_module_iter_destroy(iter);
}

static const char *module_at(uint64_t gva)
{
	for (size_t i = 0; i < place_count; i++)
		if (gva >= places[i].start && gva < places[i].end)
			return places[i].name;
	return NULL;
}

static json_t *module_json(uint64_t gva)
{
	const char *name = module_at(gva);
	return name ? tool_json_text(name, strlen(name)) : json_null();
}

static void print_module(uint64_t gva)
{
	const char *module = module_at(gva);
	char *name = tool_escape(module ? module : "?", module ? strlen(module) : 1);
	printf(" %-24s", name);
	free(name);
}

static const char *kind_name(uint32_t kind)
{
	static const char *const names[] = { "?", "process", "thread", "image", "registry", "bugcheck",
					     "bugcheck-reason" };
	return kind < sizeof(names) / sizeof(*names) ? names[kind] : "?";
}

static void print_callback(struct tool *tool, const struct hvmi_callback *callback)
{
	size_t len = strlen(callback->detail);
	if (tool->json) {
		tool_print(tool, tool_json_object(
			"kind", json_string(kind_name(callback->kind)),
			"function", tool_json_hex(callback->function),
			"module", module_json(callback->function),
			"context", tool_json_hex(callback->context),
			"detail", tool_json_text(callback->detail, len),
			"object", tool_json_hex(callback->object), NULL));
		return;
	}
	char *detail = tool_escape(callback->detail, len);
	printf("%-16s %016" PRIx64, kind_name(callback->kind), callback->function);
	print_module(callback->function);
	printf(" %s\n", detail);
	free(detail);
}

/* What a service is called: many are exported, a PDB names all. */
static const char *symbol_at(struct tool *tool, uint64_t gva)
{
	struct hvmi_symbol symbol = { .size = sizeof(symbol) };
	uint64_t offset;
	bool exact = hvmi_profile_symbol_at(hvmi_os_profile(tool->os), gva, &symbol, &offset) == 0 &&
		     offset == 0;
	return exact ? symbol.name : NULL;
}

static int list_services(struct tool *tool)
{
	struct hvmi_service service = { .size = sizeof(service) };
	int rc = 0;
	for (uint32_t table = 0; table < 2; table++) {
		uint32_t index = 0;
		while (!(rc = hvmi_service_read(tool->os, table, index, &service, &tool->err))) {
			const char *name = symbol_at(tool, service.function);
			index++;
			if (tool->json) {
				tool_print(tool, tool_json_object(
					"number", tool_json_hex(service.number),
					"function", tool_json_hex(service.function),
					"name", name ? tool_json_text(name, strlen(name)) : json_null(),
					"module", module_json(service.function),
					"arguments", tool_json_number(service.arguments), NULL));
				continue;
			}
			printf("%4" PRIx32 " %016" PRIx64, service.number, service.function);
			print_module(service.function);
			char *safe = tool_escape(name ? name : "", name ? strlen(name) : 0);
			printf(" %s\n", safe);
			free(safe);
		}
		if (rc != -ENOENT)
			return rc;
	}
	return 0;
}

int main(int argc, char **argv)
{
	static const struct option options[] = { { "services", no_argument, NULL, 's' }, { 0 } };
	struct tool tool;
	bool services = false;
	tool_begin(&tool, usage, argc, argv);
	while (tool_option(&tool, options) != -1)
		services = true;
	tool_operands(&tool, 1, 1);
	tool_open_os(&tool);
	tool_list(&tool);
	load_modules(&tool);

	struct hvmi_callback_iter *iter = NULL;
	struct hvmi_callback callback = { .size = sizeof(callback) };
	int rc = services ? list_services(&tool) :
			    hvmi_callback_iter_create(tool.os, &iter, &tool.err);
	if (iter)
		while ((rc = hvmi_callback_next(iter, &callback, &tool.err)) == 1)
			print_callback(&tool, &callback);
	if (rc < 0)
		tool_failed(&tool, rc);
	for (uint32_t kind = HVMI_CALLBACK_PROCESS; iter && kind <= HVMI_CALLBACK_BUGCHECK_REASON;
	     kind++)
		if (!hvmi_callback_known(tool.os, kind))
			tool_error(&tool, TOOL_PARTIAL, "%s callbacks are left out: where they are is "
				   "unknown", kind_name(kind));
	hvmi_callback_iter_destroy(iter);
	free(places);
	return tool_end(&tool);
}
