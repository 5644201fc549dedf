/* SPDX-License-Identifier: Apache-2.0 */
#include "hooking.h"

static const char usage[] =
	"Usage: hvmi-break TARGET PLACE [--count N] [--stack N] [--json]\n"
	"Print registers and the stack whenever a running guest comes to a place. PLACE is a\n"
	"kernel symbol or address, or PID:ADDRESS.\n"
	"\n"
	"      --count N       end after N times\n"
	"      --stack N       words of the stack that are looked at, 64 if it is not given\n";

#define WORDS_MAX 512u

static const uint32_t shown[] = {
	HVMI_X86_RIP, HVMI_X86_RSP, HVMI_X86_RFLAGS, HVMI_X86_RAX, HVMI_X86_RBX, HVMI_X86_RCX,
	HVMI_X86_RDX, HVMI_X86_RSI, HVMI_X86_RDI, HVMI_X86_RBP, HVMI_X86_R8, HVMI_X86_R9,
	HVMI_X86_R10, HVMI_X86_R11, HVMI_X86_R12, HVMI_X86_R13, HVMI_X86_R14, HVMI_X86_R15,
	HVMI_X86_CR3,
};

struct breaks {
	struct tool tool;
	struct hooking hooking;
	struct who_finder who;
	bool who_known;
	uint64_t words;
};

/* A word that points behind a symbol's start, as return addresses do: "name+0x12", or NULL. */
static char *return_address(const struct breaks *b, uint64_t word)
{
	struct hvmi_symbol symbol = { .size = sizeof(symbol) };
	uint64_t offset;
	if (!b->tool.os || !(word >> 63) ||
	    hvmi_profile_symbol_at(hvmi_os_profile(b->tool.os), word, &symbol, &offset) ||
	    !offset || offset > 0x10000 || !strchr("tT", (int)symbol.kind))
		return NULL;
	char *name = tool_escape(symbol.name, strlen(symbol.name)), *text;
	if (asprintf(&text, "%s+0x%" PRIx64, name, offset) < 0)
		tool_die(TOOL_INTERNAL, "out of memory");
	free(name);
	return text;
}

static json_t *registers_of(const struct hvmi_registers *registers)
{
	json_t *object = json_object();
	for (size_t i = 0; i < sizeof(shown) / sizeof(*shown); i++)
		if (hvmi_registers_known(registers, shown[i]))
			tool_json_set(object, hvmi_register_name(shown[i]),
				      tool_json_hex(registers->values[shown[i]]));
	return object;
}

/* Of the stack, what looks like return addresses: what called, and what once did. */
static json_t *stack_of(const struct breaks *b, const struct hvmi_hook_event *event)
{
	uint64_t words[WORDS_MAX], rsp = 0;
	struct hvmi_space *space;
	size_t done = 0;
	json_t *list = json_array();
	hvmi_registers_get(event->registers, HVMI_X86_RSP, &rsp);
	if (hvmi_hook_event_space(event, &space, NULL) == 0)
		hvmi_space_read(space, rsp, words, b->words * sizeof(*words), &done);
	for (size_t i = 0; i < done / sizeof(*words); i++) {
		char *text = return_address(b, words[i]);
		if (text)
			tool_json_append(list, tool_json_object(
				"address", tool_json_hex(words[i]), "symbol", json_string(text), NULL));
		free(text);
	}
	return list;
}

static void print_text(const struct who *who, uint32_t vcpu, json_t *registers, json_t *stack)
{
	char *name = tool_escape(who->name, strlen(who->name));
	const char *key;
	size_t index, column = 0;
	json_t *value;
	printf("vCPU %u, thread %d (%s)\n", vcpu, who->pid, name);
	json_object_foreach(registers, key, value)
		printf("%s%-6s %-18s", column++ % 4 ? "  " : column > 1 ? "\n  " : "  ", key,
		       json_string_value(value));
	putchar('\n');
	json_array_foreach(stack, index, value)
		printf("    %s %s\n", json_string_value(json_object_get(value, "address")),
		       json_string_value(json_object_get(value, "symbol")));
	free(name);
}

static void on_break(void *context, const struct hvmi_hook_event *event, struct hvmi_verdict *verdict)
{
	struct breaks *b = context;
	struct who who = { .pid = -1, .tgid = -1 };
	(void)verdict;
	if (b->hooking.limit && b->hooking.count >= b->hooking.limit)
		return;
	b->hooking.count++;
	if (b->who_known)
		who_runs(&b->who, event->registers, &who);
	json_t *registers = registers_of(event->registers), *stack = stack_of(b, event);
	if (b->tool.json) {
		tool_print(&b->tool, tool_json_object(
			"vcpu", json_integer(event->event->vcpu), "pid", json_integer(who.tgid),
			"tid", json_integer(who.pid), "name", tool_json_text(who.name, strlen(who.name)),
			"registers", registers, "stack", stack, NULL));
		return;
	}
	print_text(&who, event->event->vcpu, registers, stack);
	json_decref(registers);
	json_decref(stack);
}

int main(int argc, char **argv)
{
	static const struct option options[] = { { "count", required_argument, NULL, 'n' },
						 { "stack", required_argument, NULL, 's' }, { 0 } };
	static struct breaks b = { .words = 64 };
	struct hvmi_hook_request request = { .kind = HVMI_HOOK_EXECUTE, .callback = on_break,
					     .context = &b };
	struct tool_place place;
	tool_begin(&b.tool, usage, argc, argv);
	for (int c; (c = tool_option(&b.tool, options)) != -1;) {
		if (c == 'n')
			b.hooking.limit = tool_number("count", optarg, UINT64_MAX);
		else
			b.words = tool_number("stack", optarg, WORDS_MAX);
	}
	tool_operands(&b.tool, 2, 2);
	b.tool.write = true;
	tool_open(&b.tool);
	if (!tool_place(&b.tool, b.tool.operands[1], "kernel", &place))
		return tool_end(&b.tool);
	b.who_known = b.tool.os && !tool_windows(&b.tool) && who_begin(&b.who, &b.tool);
	hooking_begin(&b.hooking, &b.tool);
	tool_list(&b.tool);
	request.space = place.space;
	request.address = place.address;
	if (hooking_add(&b.hooking, &request)) {
		fprintf(stderr, "hvmi-break: waiting; end with Ctrl-C\n");
		hooking_run(&b.hooking);
	}
	hooking_end(&b.hooking);
	hvmi_space_destroy(place.space);
	who_end(&b.who);
	return tool_end(&b.tool);
}
