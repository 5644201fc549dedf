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

struct call {
	const char *name, *arguments;
};
#define X(number, name, arguments) [number] = { #name, arguments },
static const struct call calls64[] = {
#include "syscalls.def"
}, calls32[] = {
#include "syscalls32.def"
};
#undef X
#define COUNT(array) (sizeof(array) / sizeof(*(array)))
#define CALLS (COUNT(calls64) > COUNT(calls32) ? COUNT(calls64) : COUNT(calls32))

enum { ABI_64, ABI_32, ABIS };
static const struct abi {
	const char *name;
	const struct call *calls;
	size_t count;
} abis[ABIS] = {
	{ "x86-64", calls64, COUNT(calls64) },
	{ "i386", calls32, COUNT(calls32) },
};

/*
 * Where calls enter the kernel (arch/x86/entry), all registers still being the caller's. The 32-bit
 * programs' SYSCALL has taken ECX, so EBP is the second argument, and the sixth is at the stack's end, as
 * it is at EBP for SYSENTER.
 */
static const struct entry {
	const char *symbols[2];		/* the second: its name in other releases */
	uint8_t abi;
	bool indirect;			/* the last argument is where that register points to */
	uint32_t arguments[ARGUMENTS];
} entries[] = {
	{ { "entry_SYSCALL_64" }, ABI_64, false,
	  { HVMI_X86_RDI, HVMI_X86_RSI, HVMI_X86_RDX, HVMI_X86_R10, HVMI_X86_R8, HVMI_X86_R9 } },
	{ { "entry_INT80_compat", "asm_int80_emulation" }, ABI_32, false,
	  { HVMI_X86_RBX, HVMI_X86_RCX, HVMI_X86_RDX, HVMI_X86_RSI, HVMI_X86_RDI, HVMI_X86_RBP } },
	{ { "entry_SYSENTER_compat" }, ABI_32, true,
	  { HVMI_X86_RBX, HVMI_X86_RCX, HVMI_X86_RDX, HVMI_X86_RSI, HVMI_X86_RDI, HVMI_X86_RBP } },
	{ { "entry_SYSCALL_compat" }, ABI_32, true,
	  { HVMI_X86_RBX, HVMI_X86_RBP, HVMI_X86_RDX, HVMI_X86_RSI, HVMI_X86_RDI, HVMI_X86_RSP } },
};
#define ENTRIES COUNT(entries)

/* One process that made calls, for the summary. */
struct tally {
	struct who who;
	uint64_t counts[ABIS][CALLS + 1];	/* the last: of unknown numbers */
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
	/* The contexts of the hooks. */
	struct door {
		struct trace *trace;
		const struct entry *entry;
	} doors[ENTRIES];
};

/* NULL: not known. */
static const struct call *find_call(const struct abi *abi, uint64_t number)
{
	return number < abi->count && abi->calls[number].name ? &abi->calls[number] : NULL;
}

static void count(struct trace *t, const struct who *who, uint32_t abi, uint64_t number)
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
	tally->counts[abi][find_call(&abis[abi], number) ? number : CALLS]++;
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
		       const struct abi *abi, uint64_t number, const char *name, json_t *arguments)
{
	tool_print(&t->tool, tool_json_object(
		"vcpu", json_integer(event->event->vcpu), "pid", json_integer(who->tgid),
		"tid", json_integer(who->pid), "name", tool_json_text(who->name, strlen(who->name)),
		"abi", json_string(abi->name), "number", tool_json_number(number), "call", name ? json_string(name) : json_null(),
		"arguments", arguments, NULL));
}

static void print_text(const struct who *who, const struct abi *abi, uint64_t number, const char *name,
		       json_t *arguments)
{
	char *process = tool_escape(who->name, strlen(who->name));
	size_t index;
	json_t *value;
	printf("%6d %-15s %s", who->pid, process, abi == abis ? "" : "i386 ");
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

static uint64_t argument_value(const struct hvmi_hook_event *event, const struct entry *entry, uint32_t i)
{
	struct hvmi_space *space;
	uint64_t value = 0;
	hvmi_registers_get(event->registers, entry->arguments[i], &value);
	if (entry->abi == ABI_64)
		return value;
	uint32_t narrow = (uint32_t)value;
	if (entry->indirect && i == ARGUMENTS - 1 &&
	    (hvmi_hook_event_space(event, &space, NULL) ||
	     hvmi_space_read(space, narrow, &narrow, sizeof(narrow), NULL)))
		return 0;
	return narrow;
}

static void on_call(void *context, const struct hvmi_hook_event *event, struct hvmi_verdict *verdict)
{
	const struct door *door = context;
	const struct entry *entry = door->entry;
	const struct abi *abi = &abis[entry->abi];
	struct trace *t = door->trace;
	struct who who = { .pid = -1, .tgid = -1 };
	uint64_t number = UINT64_MAX;
	(void)verdict;
	if (t->hooking.limit && t->hooking.count >= t->hooking.limit)
		return;
	hvmi_registers_get(event->registers, HVMI_X86_RAX, &number);
	number = entry->abi == ABI_64 ? number : (uint32_t)number;
	const struct call *call = find_call(abi, number);
	const char *name = call ? call->name : NULL;
	if (t->call && (!call || strcmp(name, t->call) != 0))
		return;
	who_runs(&t->who, event->registers, &who);
	if (t->pid >= 0 && who.tgid != t->pid)
		return;
	t->hooking.count++;
	if (t->summary) {
		count(t, &who, entry->abi, number);
		return;
	}
	json_t *arguments = json_array();
	const char *kinds = call ? call->arguments : "xxxxxx";
	for (uint32_t i = 0; i < ARGUMENTS && kinds[i]; i++)
		tool_json_append(arguments, argument(event, kinds[i], argument_value(event, entry, i)));
	if (t->tool.json)
		print_json(t, event, &who, abi, number, name, arguments);
	else
		print_text(&who, abi, number, name, arguments);
}

static void print_tally(struct trace *t, const struct tally *tally, uint32_t abi)
{
	for (size_t i = 0; i <= CALLS; i++) {
		const struct call *call = find_call(&abis[abi], i);
		const char *name = call ? call->name : "unknown";
		uint64_t calls = tally->counts[abi][i];
		if (!calls)
			continue;
		if (t->tool.json) {
			tool_print(&t->tool, tool_json_object(
				"pid", json_integer(tally->who.tgid),
				"name", tool_json_text(tally->who.name, strlen(tally->who.name)),
				"abi", json_string(abis[abi].name), "call", json_string(name),
				"count", tool_json_number(calls), NULL));
			continue;
		}
		char *process = tool_escape(tally->who.name, strlen(tally->who.name));
		printf("%6d %-15s %s%-20s %" PRIu64 "\n", tally->who.tgid, process,
		       abi == ABI_64 ? "" : "i386 ", name, calls);
		free(process);
	}
}

static bool known_call(const char *name)
{
	for (size_t abi = 0; abi < ABIS; abi++)
		for (size_t i = 0; i < abis[abi].count; i++) {
			const struct call *call = find_call(&abis[abi], i);
			if (call && strcmp(call->name, name) == 0)
				return true;
		}
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

/* One of several: false where the kernel has no such entry, or it was told why it cannot be hooked. */
static bool hook_entry(struct trace *t, size_t i)
{
	const struct entry *entry = &entries[i];
	struct hvmi_hook_request request = { .kind = HVMI_HOOK_EXECUTE, .callback = on_call,
					     .context = &t->doors[i], .space = t->who.kernel };
	int rc = -ENOENT;
	for (size_t k = 0; rc && k < COUNT(entry->symbols) && entry->symbols[k]; k++)
		rc = hvmi_profile_symbol(hvmi_os_profile(t->tool.os), entry->symbols[k],
					 &request.address, &t->tool.err);
	t->doors[i] = (struct door){ t, entry };
	if (rc && i == 0)
		tool_error(&t->tool, TOOL_OS, "%s", t->tool.err.text);
	return rc == 0 && hooking_add(&t->hooking, &request);
}

int main(int argc, char **argv)
{
	static struct trace t;
	take_options(&t, argc, argv);
	t.tool.write = true;
	tool_open_os(&t.tool);
	if (tool_windows(&t.tool))
		tool_die(TOOL_OS, "system calls are known of Linux guests only");
	if (!who_begin(&t.who, &t.tool))
		tool_die(TOOL_OS, "%s", t.tool.err.text);
	hooking_begin(&t.hooking, &t.tool);
	tool_list(&t.tool);
	bool hooked = hook_entry(&t, 0);
	/* Kernels without 32-bit programs lack these. */
	for (size_t i = 1; hooked && i < ENTRIES; i++)
		hook_entry(&t, i);
	if (hooked) {
		fprintf(stderr, "hvmi-trace: tracing; end with Ctrl-C\n");
		hooking_run(&t.hooking);
	}
	hooking_end(&t.hooking);
	while (t.tallies) {
		struct tally *next = t.tallies->next;
		for (uint32_t abi = 0; abi < ABIS; abi++)
			print_tally(&t, t.tallies, abi);
		free(t.tallies);
		t.tallies = next;
	}
	who_end(&t.who);
	return tool_end(&t.tool);
}
