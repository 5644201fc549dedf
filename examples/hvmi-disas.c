/* SPDX-License-Identifier: Apache-2.0 */
#include "tool.h"

static const char usage[] =
	"Usage: hvmi-disas TARGET PLACE [OPTION]...\n"
	"Disassemble code of a guest.\n"
	"PLACE is kernel:ADDRESS, PID:ADDRESS or gpa:ADDRESS; kernel: may be left out.\n"
	"ADDRESS is a number, SYMBOL or SYMBOL+NUMBER.\n"
	"\n"
	"      --count N       so many instructions; 16 if not given\n"
	"      --function      up to the next symbol of the kernel\n"
	"      --mode MODE     16, 32, 64 or arm64; else as the kernel runs\n";

#define INSTRUCTIONS_MAX 1048576u

struct request {
	uint64_t count;
	uint32_t mode;		/* enum hvmi_insn_mode; 0: the kernel's */
	bool function;
};

static uint32_t take_mode(const char *text)
{
	static const char *const names[] = { "", "16", "32", "64", "arm64" };
	for (uint32_t i = HVMI_INSN_X86_16; i <= HVMI_INSN_ARM64; i++)
		if (strcmp(text, names[i]) == 0)
			return i;
	tool_die(TOOL_USAGE, "there is no mode '%s': 16, 32, 64 or arm64", text);
}

static uint32_t default_mode(const struct tool *tool)
{
	struct hvmi_vm_info vm = { .size = sizeof(vm) };
	struct hvmi_os_info os = { .size = sizeof(os) };
	hvmi_vm_get_info(tool->vm, &vm);
	if (vm.arch == HVMI_ARCH_ARM64)
		return HVMI_INSN_ARM64;
	if (tool->os && hvmi_os_get_info(tool->os, &os) == 0 &&
	    (os.paging == HVMI_PAGING_X86_32 || os.paging == HVMI_PAGING_X86_PAE))
		return HVMI_INSN_X86_32;
	return HVMI_INSN_X86_64;
}

/* SYMBOL or SYMBOL+0xNUMBER, escaped, or "". The caller frees. */
static char *name_of(const struct tool *tool, uint64_t gva, bool *start_ret)
{
	struct hvmi_symbol symbol = { .size = sizeof(symbol) };
	uint64_t offset;
	char *text = NULL;
	*start_ret = false;
	if (!tool->os || gva == HVMI_NO_ADDRESS ||
	    hvmi_profile_symbol_at(hvmi_os_profile(tool->os), gva, &symbol, &offset))
		return tool_escape("", 0);
	char *name = tool_escape(symbol.name, strlen(symbol.name));
	*start_ret = offset == 0;
	if (offset == 0)
		return name;
	if (asprintf(&text, "%s+0x%" PRIx64, name, offset) < 0)
		tool_die(TOOL_INTERNAL, "out of memory");
	free(name);
	return text;
}

static uint64_t next_symbol(const struct tool *tool, uint64_t gva)
{
	struct hvmi_symbol symbol = { .size = sizeof(symbol) };
	uint32_t cursor = 0;
	while (tool->os &&
	       hvmi_profile_next_symbol(hvmi_os_profile(tool->os), &cursor, &symbol) == 1)
		if (symbol.gva > gva)
			return symbol.gva;
	return HVMI_NO_ADDRESS;
}

static void print_insn(struct tool *tool, const struct hvmi_insn *insn, const char *text)
{
	bool start, ignored;
	char hex[3 * sizeof(insn->bytes) + 1] = "";
	for (uint32_t i = 0; i < insn->len; i++)
		snprintf(hex + 3 * i, 4, "%02x ", insn->bytes[i]);
	hex[3 * insn->len - 1] = '\0';
	char *name = name_of(tool, insn->gva, &start);
	char *target = name_of(tool, insn->target, &ignored);
	if (tool->json) {
		tool_print(tool, tool_json_object(
			"address", tool_json_hex(insn->gva), "bytes", json_string(hex),
			"text", text ? tool_json_text(text, strlen(text)) : json_null(),
			"symbol", *name ? json_string(name) : json_null(),
			"target", insn->target == HVMI_NO_ADDRESS ? json_null() :
				  tool_json_hex(insn->target),
			"target_symbol", *target ? json_string(target) : json_null(), NULL));
	} else {
		if (start)
			printf("%s:\n", name);
		printf("%016" PRIx64 "  %-30s  %s%s%s\n", insn->gva, hex, text ? text : "(bad)",
		       *target ? "  ; " : "", target);
	}
	free(name);
	free(target);
}

/* Bytes at the place, as many as are there; 0: none. */
static size_t read_bytes(struct tool *tool, const struct tool_place *place, uint64_t at, uint8_t *buf)
{
	size_t done = 0;
	int rc = place->space ? hvmi_space_read(place->space, at, buf, HVMI_INSN_BYTES, &done) :
				hvmi_vm_read(tool->vm, at, buf, HVMI_INSN_BYTES, &done);
	if (rc && !done)
		tool_error(tool, tool_code(rc), "0x%" PRIx64 " is not mapped", at);
	return done;
}

static void disassemble(struct tool *tool, const struct tool_place *place,
			const struct request *request)
{
	uint64_t at = place->address;
	uint64_t end = request->function ? next_symbol(tool, at) : HVMI_NO_ADDRESS;
	uint32_t mode = request->mode ? request->mode : default_mode(tool);
	for (uint64_t i = 0; i < request->count && at < end; i++) {
		uint8_t bytes[HVMI_INSN_BYTES];
		char text[HVMI_INSN_TEXT];
		struct hvmi_insn insn = { .size = sizeof(insn) };
		size_t len = read_bytes(tool, place, at, bytes);
		if (!len)
			return;
		int rc = hvmi_insn_decode(mode, at, bytes, len, &insn, &tool->err);
		if (rc == -EOVERFLOW) {
			tool_error(tool, TOOL_PARTIAL, "the instruction at 0x%" PRIx64
				   " goes on where nothing is mapped", at);
			return;
		}
		if (!rc)
			rc = hvmi_insn_text(&insn, text, sizeof(text), &tool->err);
		else if (rc == -EBADMSG)
			insn = (struct hvmi_insn){ .size = sizeof(insn), .gva = at,
						   .target = HVMI_NO_ADDRESS, .bytes = { *bytes },
						   .len = 1 };
		if (rc && rc != -EBADMSG) {
			tool_failed(tool, rc);
			return;
		}
		print_insn(tool, &insn, rc ? NULL : text);
		at += insn.len;
		if (at < insn.len)
			return;
	}
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "count", required_argument, NULL, 'n' }, { "function", no_argument, NULL, 'f' },
		{ "mode", required_argument, NULL, 'm' }, { 0 },
	};
	struct tool tool;
	struct tool_place place;
	struct request request = { 0 };
	tool_begin(&tool, usage, argc, argv);
	for (int c; (c = tool_option(&tool, options)) != -1;) {
		if (c == 'n')
			request.count = tool_number("number of instructions", optarg,
						    INSTRUCTIONS_MAX);
		else if (c == 'm')
			request.mode = take_mode(optarg);
		else
			request.function = true;
	}
	tool_operands(&tool, 2, 2);
	if (!request.count)
		request.count = request.function ? INSTRUCTIONS_MAX : 16;
	tool_open(&tool);
	bool found = tool_place(&tool, tool.operands[1], "kernel", &place);
	tool_list(&tool);
	if (found) {
		disassemble(&tool, &place, &request);
		hvmi_space_destroy(place.space);
	}
	return tool_end(&tool);
}
