/* SPDX-License-Identifier: Apache-2.0 */
#include "tool.h"

static const char usage[] =
	"Usage: hvmi-info TARGET [--explain] [--json]\n"
	"Say what a machine is and what runs in it.\n"
	"\n"
	"      --explain       print every fact with its source and how sure it is\n";

static const char *os_name(uint32_t kind)
{
	return kind == HVMI_OS_LINUX ? "linux" : kind == HVMI_OS_WINDOWS ? "windows" : NULL;
}

static const char *arch_name(uint32_t arch)
{
	return arch == HVMI_ARCH_X86 ? "x86" : arch == HVMI_ARCH_ARM64 ? "arm64" : NULL;
}

static const char *confidence_name(uint32_t confidence)
{
	static const char *const names[] = { "unknown", "low", "medium", "high" };
	return confidence < sizeof(names) / sizeof(*names) ? names[confidence] : "?";
}

static json_t *known_hex(uint64_t address)
{
	return address == HVMI_NO_ADDRESS ? json_null() : tool_json_hex(address);
}

static json_t *signed_hex(int64_t value)
{
	uint64_t magnitude = value < 0 ? -(uint64_t)value : (uint64_t)value;
	return json_sprintf("%s0x%" PRIx64, value < 0 ? "-" : "", magnitude);
}

/* Facts are printable; other strings may hold any byte of the guest. */
static json_t *known_text(const char *text)
{
	return text ? tool_json_text(text, strlen(text)) : json_null();
}

static void line(const char *name, const char *text)
{
	char *safe = tool_escape(text, strlen(text));
	printf("%-9s %s\n", name, safe);
	free(safe);
}

static void print_text(const struct hvmi_vm_info *vm, const struct hvmi_os_info *os)
{
	char size[32];
	const char *arch = arch_name(os ? os->arch : vm->arch);
	if (os) {
		const char *name = os_name(os->kind);
		line("os", name ? name : "?");
		line("release", os->release ? os->release : "?");
		line("banner", os->banner ? os->banner : "?");
	}
	line("arch", arch ? arch : "?");
	if (os) {
		printf("%-9s %" PRIu32 " levels, root 0x%" PRIx64 "\n", "paging", os->levels,
		       os->root);
		printf("%-9s 0x%016" PRIx64 ", gpa 0x%" PRIx64 ", 0x%" PRIx64 " bytes\n", "kernel",
		       os->kernel_gva, os->kernel_gpa, os->kernel_len);
		printf("%-9s %s0x%" PRIx64 " virtual, %s0x%" PRIx64 " physical\n", "slide",
		       os->slide < 0 ? "-" : "",
		       os->slide < 0 ? -(uint64_t)os->slide : (uint64_t)os->slide,
		       os->physical_slide < 0 ? "-" : "",
		       os->physical_slide < 0 ? -(uint64_t)os->physical_slide :
						(uint64_t)os->physical_slide);
	}
	printf("%-9s %s in %" PRIu32 " range%s, the last byte at 0x%" PRIx64 "\n", "ram",
	       tool_size(vm->ram, size), vm->ranges, vm->ranges == 1 ? "" : "s", vm->max_gpa);
	if (vm->vcpus)
		printf("%-9s %" PRIu32 " with registers\n", "vcpus", vm->vcpus);
	line("format", vm->format);
}

static json_t *ranges_json(const struct hvmi_vm *vm)
{
	json_t *ranges = json_array();
	struct hvmi_range range;
	for (uint32_t i = 0; hvmi_vm_range(vm, i, &range) == 0; i++)
		tool_json_append(ranges, tool_json_object("gpa", tool_json_hex(range.gpa), "len",
							  tool_json_number(range.len), NULL));
	return ranges;
}

static json_t *facts_json(const struct hvmi_os *os)
{
	json_t *facts = json_array();
	struct hvmi_fact fact = { .size = sizeof(fact) };
	for (uint32_t i = 0; hvmi_os_explain(os, i, &fact) == 0; i++)
		tool_json_append(facts, tool_json_object(
			"name", json_string(fact.name), "value", json_string(fact.value),
			"source", json_string(fact.source),
			"confidence", json_string(confidence_name(fact.confidence)),
			"gpa", known_hex(fact.gpa), "len", tool_json_number(fact.len), NULL));
	return facts;
}

static void print_facts(const struct hvmi_os *os)
{
	struct hvmi_fact fact = { .size = sizeof(fact) };
	for (uint32_t i = 0; hvmi_os_explain(os, i, &fact) == 0; i++) {
		printf("\n%s: %s\n  %s\n  confidence %s", fact.name, fact.value, fact.source,
		       confidence_name(fact.confidence));
		if (fact.gpa != HVMI_NO_ADDRESS)
			printf(", found at gpa 0x%" PRIx64, fact.gpa);
		if (fact.len)
			printf(", %" PRIu64 " bytes", fact.len);
		putchar('\n');
	}
}

static void print_json(struct tool *tool, const struct hvmi_vm_info *vm,
		       const struct hvmi_os_info *os)
{
	const char *name = os ? os_name(os->kind) : NULL;
	const char *arch = arch_name(os ? os->arch : vm->arch);
	tool_print(tool, tool_json_object(
		"os", known_text(name), "release", known_text(os ? os->release : NULL),
		"banner", known_text(os ? os->banner : NULL), "arch", known_text(arch),
		"levels", os ? tool_json_number(os->levels) : json_null(),
		"root", os ? known_hex(os->root) : json_null(),
		"kernel", os ? known_hex(os->kernel_gva) : json_null(),
		"kernel_gpa", os ? known_hex(os->kernel_gpa) : json_null(),
		"kernel_len", os ? tool_json_number(os->kernel_len) : json_null(),
		"slide", os ? signed_hex(os->slide) : json_null(),
		"physical_slide", os ? signed_hex(os->physical_slide) : json_null(),
		"ram", tool_json_number(vm->ram), "ranges", ranges_json(tool->vm),
		"vcpus", tool_json_number(vm->vcpus), "scheme", known_text(vm->scheme),
		"format", known_text(vm->format),
		"facts", tool->os ? facts_json(tool->os) : json_array(), NULL));
}

int main(int argc, char **argv)
{
	static const struct option options[] = { { "explain", no_argument, NULL, 'e' }, { 0 } };
	struct tool tool;
	bool explain = false;
	tool_begin(&tool, usage, argc, argv);
	while (tool_option(&tool, options) != -1)
		explain = true;
	tool_operands(&tool, 1, 1);
	tool_open(&tool);

	/* What is known of the machine is worth printing where no operating system is known. */
	struct hvmi_vm_info vm = { .size = sizeof(vm) };
	struct hvmi_os_info os = { .size = sizeof(os) };
	int rc = tool_attach(&tool);
	hvmi_vm_get_info(tool.vm, &vm);
	if (!rc)
		hvmi_os_get_info(tool.os, &os);
	if (tool.json)
		print_json(&tool, &vm, rc ? NULL : &os);
	else
		print_text(&vm, rc ? NULL : &os);
	if (!rc && !tool.json && explain)
		print_facts(tool.os);
	if (rc)
		tool_error(&tool, tool_code(rc) == TOOL_INTERNAL ? TOOL_INTERNAL : TOOL_OS, "%s",
			   tool.err.text);
	return tool_end(&tool);
}
