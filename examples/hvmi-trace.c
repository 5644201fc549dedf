/* SPDX-License-Identifier: Apache-2.0 */
#include "hooking.h"

static const char usage[] =
	"Usage: hvmi-trace TARGET [--pid PID] [--call NAME] [--count N] [--summary] [--json]\n"
	"Print the system calls of a running Linux guest (x86-64) as they are made.\n"
	"\n"
	"      --pid PID       of this process only\n"
	"      --call NAME     this system call only\n"
	"      --count N       end after N of them\n"
	"      --summary       no calls, but at the end how many of each there were\n";

#define PATH_MAX_SHOWN 256
#define ARGUMENTS 6

static const struct call {
	const char *name, *arguments;
} calls[] = {
#define X(number, name, arguments) [number] = { #name, arguments },
#include "syscalls.def"
#undef X
};
#define CALLS (sizeof(calls) / sizeof(*calls))

/* One process that made calls, for the summary. */
struct tally {
	struct who who;
	uint64_t counts[CALLS + 1];	/* the last: of unknown numbers */
	struct tally *next;
};

struct trace {
	struct tool tool;
	struct hooking hooking;
	struct who_finder who;
	int64_t pid;			/* -1: all */
	const char *call;		/* NULL: all */
	bool summary;
	struct tally *tallies;
};

static void count(struct trace *t, const struct who *who, uint64_t number)
{
	struct tally *tally = t->tallies;
	while (tally && tally->who.tgid != who->tgid)
		tally = tally->next;
	if (!tally) {
		tally = calloc(1, sizeof(*tally));
		if (!tally)
			tool_die(TOOL_INTERNAL, "out of memory");
		tally->next = t->tallies;
		t->tallies = tally;
	}
	/* A program may have another name by now. */
	tally->who = *who;
	tally->counts[number < CALLS && calls[number].name ? number : CALLS]++;
}

/* A string of the caller's, or NULL where it cannot be read. */
static json_t *text_at(const struct hvmi_hook_event *event, uint64_t gva)
{
	char text[PATH_MAX_SHOWN];
	struct hvmi_space *space;
	size_t len;
	int rc = hvmi_hook_event_space(event, &space, NULL);
	if (!rc)
		rc = hvmi_space_read_string(space, gva, text, sizeof(text), &len);
	return rc && rc != -EOVERFLOW ? NULL : tool_json_text(text, len);
}

static json_t *argument(const struct hvmi_hook_event *event, char kind, uint64_t value)
{
	json_t *text = kind == 's' ? text_at(event, value) : NULL;
	if (text)
		return text;
	/* Not known to be a number of 64 bits: file descriptors and AT_FDCWD are int. */
	if (kind == 'd')
		return json_integer((int32_t)value);
	return kind == 'u' ? tool_json_number(value) : tool_json_hex(value);
}

static void print_json(struct trace *t, const struct hvmi_hook_event *event, const struct who *who,
		       uint64_t number, const char *name, json_t *arguments)
{
	tool_print(&t->tool, tool_json_object(
		"vcpu", json_integer(event->event->vcpu), "pid", json_integer(who->tgid),
		"tid", json_integer(who->pid), "name", tool_json_text(who->name, strlen(who->name)),
		"number", tool_json_number(number), "call", name ? json_string(name) : json_null(),
		"arguments", arguments, NULL));
}

static void print_text(const struct who *who, uint64_t number, const char *name, json_t *arguments)
{
	char *process = tool_escape(who->name, strlen(who->name));
	size_t index;
	json_t *value;
	printf("%6d %-15s ", who->pid, process);
	if (name)
		printf("%s(", name);
	else
		printf("%" PRIu64 "(", number);
	json_array_foreach(arguments, index, value) {
		char *text = json_dumps(value, JSON_ENCODE_ANY);
		/* Addresses are strings in JSON; here they are numbers. */
		bool hex = text && strncmp(text, "\"0x", 3) == 0;
		printf("%s%.*s", index ? ", " : "", text ? (int)strlen(text) - 2 * hex : 0,
		       text ? text + hex : "");
		free(text);
	}
	printf(")\n");
	json_decref(arguments);
	free(process);
}

static void on_call(void *context, const struct hvmi_hook_event *event, struct hvmi_verdict *verdict)
{
	static const uint32_t ids[ARGUMENTS] = { HVMI_X86_RDI, HVMI_X86_RSI, HVMI_X86_RDX,
						 HVMI_X86_R10, HVMI_X86_R8, HVMI_X86_R9 };
	struct trace *t = context;
	struct who who = { .pid = -1, .tgid = -1 };
	uint64_t number = UINT64_MAX;
	(void)verdict;
	if (t->hooking.limit && t->hooking.count >= t->hooking.limit)
		return;
	hvmi_registers_get(event->registers, HVMI_X86_RAX, &number);
	const struct call *call = number < CALLS && calls[number].name ? &calls[number] : NULL;
	if (t->call && (!call || strcmp(call->name, t->call) != 0))
		return;
	who_runs(&t->who, event->registers, &who);
	if (t->pid >= 0 && who.tgid != t->pid)
		return;
	t->hooking.count++;
	if (t->summary) {
		count(t, &who, number);
		return;
	}
	json_t *arguments = json_array();
	const char *kinds = call ? call->arguments : "xxxxxx";
	for (uint32_t i = 0; i < ARGUMENTS && kinds[i]; i++) {
		uint64_t value = 0;
		hvmi_registers_get(event->registers, ids[i], &value);
		tool_json_append(arguments, argument(event, kinds[i], value));
	}
	if (t->tool.json)
		print_json(t, event, &who, number, call ? call->name : NULL, arguments);
	else
		print_text(&who, number, call ? call->name : NULL, arguments);
}

static void print_tally(struct trace *t, const struct tally *tally)
{
	for (size_t i = 0; i <= CALLS; i++) {
		const char *name = i < CALLS ? calls[i].name : "unknown";
		if (!tally->counts[i])
			continue;
		if (t->tool.json) {
			tool_print(&t->tool, tool_json_object(
				"pid", json_integer(tally->who.tgid),
				"name", tool_json_text(tally->who.name, strlen(tally->who.name)),
				"call", json_string(name),
				"count", tool_json_number(tally->counts[i]), NULL));
			continue;
		}
		char *process = tool_escape(tally->who.name, strlen(tally->who.name));
		printf("%6d %-15s %-20s %" PRIu64 "\n", tally->who.tgid, process, name,
		       tally->counts[i]);
		free(process);
	}
}

static bool known_call(const char *name)
{
	for (size_t i = 0; i < CALLS; i++)
		if (calls[i].name && strcmp(calls[i].name, name) == 0)
			return true;
	return false;
}

static void take_options(struct trace *t, int argc, char **argv)
{
	static const struct option options[] = {
		{ "pid", required_argument, NULL, 'p' }, { "call", required_argument, NULL, 'c' },
		{ "count", required_argument, NULL, 'n' }, { "summary", no_argument, NULL, 's' }, { 0 }
	};
	t->pid = -1;
	tool_begin(&t->tool, usage, argc, argv);
	for (int c; (c = tool_option(&t->tool, options)) != -1;) {
		if (c == 'p')
			t->pid = (int64_t)tool_number("pid", optarg, INT32_MAX);
		else if (c == 'c')
			t->call = optarg;
		else if (c == 'n')
			t->hooking.limit = tool_number("count", optarg, UINT64_MAX);
		else
			t->summary = true;
	}
	tool_operands(&t->tool, 1, 1);
	if (t->call && !known_call(t->call))
		tool_die(TOOL_USAGE, "'%s' is no system call", t->call);
}

int main(int argc, char **argv)
{
	static struct trace t;
	struct hvmi_hook_request request = { .kind = HVMI_HOOK_EXECUTE, .callback = on_call,
					     .context = &t };
	take_options(&t, argc, argv);
	t.tool.write = true;
	tool_open_os(&t.tool);
	if (tool_windows(&t.tool))
		tool_die(TOOL_OS, "system calls are known of Linux guests only");
	/* Where SYSCALL leads, in 64-bit programs: all registers are still the caller's. */
	int rc = hvmi_profile_symbol(hvmi_os_profile(t.tool.os), "entry_SYSCALL_64", &request.address,
				     &t.tool.err);
	if (rc || !who_begin(&t.who, &t.tool))
		tool_die(TOOL_OS, "%s", t.tool.err.text);
	hooking_begin(&t.hooking, &t.tool);
	tool_list(&t.tool);
	request.space = t.who.kernel;
	if (hooking_add(&t.hooking, &request)) {
		fprintf(stderr, "hvmi-trace: tracing; end with Ctrl-C\n");
		hooking_run(&t.hooking);
	}
	hooking_end(&t.hooking);
	while (t.tallies) {
		struct tally *next = t.tallies->next;
		print_tally(&t, t.tallies);
		free(t.tallies);
		t.tallies = next;
	}
	who_end(&t.who);
	return tool_end(&t.tool);
}
