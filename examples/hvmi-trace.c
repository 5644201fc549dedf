/* SPDX-License-Identifier: Apache-2.0 */
#include "hooking.h"

static const char usage[] =
	"Usage: hvmi-trace TARGET [--pid PID] [--call NAME] [--count N] [--results | --summary]\n"
	"                  [--json]\n"
	"Print the system calls of a running Linux guest (x86-64) as they are made.\n"
	"\n"
	"      --pid PID       of this process only\n"
	"      --call NAME     this system call only\n"
	"      --count N       end after N of them\n"
	"      --results       print each when it returns, with its result\n"
	"      --summary       no calls, but at the end how many of each there were\n";

#define PATH_MAX_SHOWN 256
#define ARGUMENTS 6
#define NAMES 3
#define ERRNO_MAX 4095		/* MAX_ERRNO of include/linux/err.h */
/* An entry's code up to the call of its handler. */
#define ENTRY_BYTES 1024
/* Calls under way that are remembered: a guest can make up threads without end. */
#define PENDING_MAX 65536u

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
	const char *symbols[NAMES];	/* all but the first: its names in other releases */
	uint8_t abi;
	bool indirect;			/* the last argument is where that register points to */
	uint32_t arguments[ARGUMENTS];
	const char *handlers[NAMES];	/* what the entry calls: the results are there when it returns */
} entries[] = {
	{ { "entry_SYSCALL_64" }, ABI_64, false,
	  { HVMI_X86_RDI, HVMI_X86_RSI, HVMI_X86_RDX, HVMI_X86_R10, HVMI_X86_R8, HVMI_X86_R9 },
	  { "do_syscall_64" } },
	{ { "entry_INT80_compat", "asm_int80_emulation" }, ABI_32, false,
	  { HVMI_X86_RBX, HVMI_X86_RCX, HVMI_X86_RDX, HVMI_X86_RSI, HVMI_X86_RDI, HVMI_X86_RBP },
	  { "do_int80_syscall_32", "int80_emulation", "do_int80_emulation" } },
	{ { "entry_SYSENTER_compat" }, ABI_32, true,
	  { HVMI_X86_RBX, HVMI_X86_RCX, HVMI_X86_RDX, HVMI_X86_RSI, HVMI_X86_RDI, HVMI_X86_RBP },
	  { "do_SYSENTER_32" } },
	{ { "entry_SYSCALL_compat" }, ABI_32, true,
	  { HVMI_X86_RBX, HVMI_X86_RBP, HVMI_X86_RDX, HVMI_X86_RSI, HVMI_X86_RDI, HVMI_X86_RSP },
	  { "do_fast_syscall_32" } },
};
#define ENTRIES COUNT(entries)

/* One process that made calls, for the summary. */
struct tally {
	struct who who;
	uint64_t counts[ABIS][CALLS + 1];	/* the last: of unknown numbers */
	struct tally *next;
};

/* A call that is made. */
struct made {
	struct who who;
	const struct abi *abi;
	const struct call *call;	/* NULL: it is not known */
	uint64_t number;
	uint32_t vcpu;
	json_t *arguments;
	uint64_t missing[ARGUMENTS];	/* of strings that could not be read; 0: none */
	struct made *next;
};

struct trace {
	struct tool tool;
	struct hooking hooking;
	struct who_finder who;
	int64_t pid;			/* -1: all */
	const char *call;		/* NULL: all */
	bool summary, results;
	struct tally *tallies;
	struct made *pending;		/* those that have not returned yet */
	uint32_t pending_count;
	struct hvmi_member result;	/* in the registers that the kernel saves on its stack */
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

static json_t *argument(char kind, uint64_t value)
{
	/* Not known to be a number of 64 bits: file descriptors and AT_FDCWD are int. */
	if (kind == 'd')
		return json_integer((int32_t)value);
	return kind == 'u' ? tool_json_number(value) : tool_json_hex(value);
}

static void print_json(struct trace *t, const struct made *made, json_t *result)
{
	json_t *object = tool_json_object(
		"vcpu", json_integer(made->vcpu), "pid", json_integer(made->who.tgid),
		"tid", json_integer(made->who.pid),
		"name", tool_json_text(made->who.name, strlen(made->who.name)),
		"abi", json_string(made->abi->name), "number", tool_json_number(made->number),
		"call", made->call ? json_string(made->call->name) : json_null(),
		"arguments", json_incref(made->arguments), NULL);
	if (t->results)
		json_object_set(object, "result", result);
	tool_print(&t->tool, object);
}

static void print_result(const json_t *result)
{
	json_int_t value = json_integer_value(result);
	if (!json_is_integer(result))
		printf(" = ?");
	else if (value < 0 && value >= -ERRNO_MAX)
		printf(" = %" PRId64 " (%s)", (int64_t)value, strerror((int)-value));
	else
		printf(value >= 0 && value <= INT32_MAX ? " = %" PRIu64 : " = 0x%" PRIx64, (uint64_t)value);
}

static void print_text(const struct made *made)
{
	char *process = tool_escape(made->who.name, strlen(made->who.name));
	size_t index;
	json_t *value;
	printf("%6d %-15s %s", made->who.pid, process, made->abi == abis ? "" : "i386 ");
	if (made->call)
		printf("%s(", made->call->name);
	else
		printf("%" PRIu64 "(", made->number);
	json_array_foreach(made->arguments, index, value) {
		char *text = json_dumps(value, JSON_ENCODE_ANY);
		/* Addresses are strings in JSON; here they are numbers. */
		bool hex = text && strncmp(text, "\"0x", 3) == 0;
		printf("%s%.*s", index ? ", " : "", text ? (int)strlen(text) - 2 * hex : 0,
		       text ? text + hex : "");
		free(text);
	}
	printf(")");
	free(process);
}

static bool enough(const struct trace *t)
{
	return t->hooking.limit && t->hooking.count >= t->hooking.limit;
}

/* Prints it, if it is not one too many, and forgets it; NULL: it did not return. Takes the result. */
static void print_made(struct trace *t, struct made *made, json_t *result)
{
	result = result ? result : json_null();
	if (t->tool.json && !enough(t)) {
		print_json(t, made, result);
	} else if (!enough(t)) {
		print_text(made);
		if (t->results)
			print_result(result);
		printf("\n");
	}
	json_decref(result);
	json_decref(made->arguments);
	free(made);
	t->hooking.count++;
}

static struct made *take_pending(struct trace *t, int32_t tid)
{
	for (struct made **at = &t->pending; *at; at = &(*at)->next) {
		struct made *made = *at;
		if (made->who.pid != tid)
			continue;
		*at = made->next;
		t->pending_count--;
		return made;
	}
	return NULL;
}

static void end_pending(struct trace *t)
{
	while (t->pending) {
		struct made *made = t->pending;
		t->pending = made->next;
		print_made(t, made, NULL);
	}
	t->pending_count = 0;
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

static struct made *take_call(const struct door *door, const struct hvmi_hook_event *event,
			      const struct who *who, const struct call *call, uint64_t number)
{
	const struct entry *entry = door->entry;
	struct made *made = calloc(1, sizeof(*made));
	if (!made)
		tool_die(TOOL_INTERNAL, "out of memory");
	*made = (struct made){ .who = *who, .abi = &abis[entry->abi], .call = call, .number = number,
			       .vcpu = event->event->vcpu, .arguments = json_array() };
	const char *kinds = call ? call->arguments : "xxxxxx";
	for (uint32_t i = 0; i < ARGUMENTS && kinds[i]; i++) {
		uint64_t value = argument_value(event, entry, i);
		json_t *text = kinds[i] == 's' ? text_at(event, value) : NULL;
		if (kinds[i] == 's' && !text)
			made->missing[i] = value;
		tool_json_append(made->arguments, text ? text : argument(kinds[i], value));
	}
	return made;
}

/* They do not return. */
static bool is_end(const struct call *call)
{
	return call && (strcmp(call->name, "exit") == 0 || strcmp(call->name, "exit_group") == 0);
}

static void on_call(void *context, const struct hvmi_hook_event *event, struct hvmi_verdict *verdict)
{
	const struct door *door = context;
	const struct abi *abi = &abis[door->entry->abi];
	struct trace *t = door->trace;
	struct who who = { .pid = -1, .tgid = -1 };
	uint64_t number = UINT64_MAX;
	(void)verdict;
	if (enough(t))
		return;
	hvmi_registers_get(event->registers, HVMI_X86_RAX, &number);
	number = door->entry->abi == ABI_64 ? number : (uint32_t)number;
	const struct call *call = find_call(abi, number);
	if (t->call && (!call || strcmp(call->name, t->call) != 0))
		return;
	who_runs(&t->who, event->registers, &who);
	if (t->pid >= 0 && who.tgid != t->pid)
		return;
	if (t->summary) {
		count(t, &who, door->entry->abi, number);
		t->hooking.count++;
		return;
	}
	/* One of a thread that ended in it, or came back another way. */
	struct made *before = t->results ? take_pending(t, who.pid) : NULL;
	if (before)
		print_made(t, before, NULL);
	struct made *made = take_call(door, event, &who, call, number);
	if (!t->results || is_end(call)) {
		print_made(t, made, NULL);
		return;
	}
	if (t->pending_count == PENDING_MAX)
		end_pending(t);
	made->next = t->pending;
	t->pending = made;
	t->pending_count++;
}

/* Behind the call of the entry's handler: the stack begins with the registers that the program gets. */
static void on_return(void *context, const struct hvmi_hook_event *event, struct hvmi_verdict *verdict)
{
	const struct door *door = context;
	struct trace *t = door->trace;
	struct who who = { .pid = -1, .tgid = -1 };
	uint64_t rsp = 0, value = 0;
	(void)verdict;
	if (enough(t))
		return;
	who_runs(&t->who, event->registers, &who);
	struct made *made = take_pending(t, who.pid);
	if (!made)
		return;
	hvmi_registers_get(event->registers, HVMI_X86_RSP, &rsp);
	int rc = hvmi_member_read(&t->result, t->who.kernel, rsp, &value);
	/* The kernel has had to read them. */
	for (size_t i = 0; i < ARGUMENTS; i++) {
		json_t *text = made->missing[i] ? text_at(event, made->missing[i]) : NULL;
		if (text)
			json_array_set_new(made->arguments, i, text);
	}
	int64_t result = door->entry->abi == ABI_64 ? (int64_t)value : (int32_t)value;
	print_made(t, made, rc ? NULL : json_integer(result));
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
		{ "count", required_argument, NULL, 'n' }, { "summary", no_argument, NULL, 's' },
		{ "results", no_argument, NULL, 'r' }, { 0 }
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
		else if (c == 'r')
			t->results = true;
		else
			t->summary = true;
	}
	if (t->results && t->summary)
		tool_die(TOOL_USAGE, "--results and --summary exclude each other");
	tool_operands(&t->tool, 1, 1);
	if (t->call && !known_call(t->call))
		tool_die(TOOL_USAGE, "'%s' is no system call", t->call);
}

/* -ENOENT: the kernel has none of them. */
static int find_symbol(struct trace *t, const char *const names[NAMES], uint64_t *ret)
{
	int rc = -ENOENT;
	for (size_t i = 0; rc && i < NAMES && names[i]; i++)
		rc = hvmi_profile_symbol(hvmi_os_profile(t->tool.os), names[i], ret, &t->tool.err);
	return rc;
}

/* Behind the call of its handler. */
static int find_return(struct trace *t, const struct entry *entry, uint64_t gva, uint64_t *ret)
{
	struct hvmi_insn insn = { .size = sizeof(insn) };
	uint64_t handler;
	int rc = find_symbol(t, entry->handlers, &handler);
	for (uint64_t end = gva + ENTRY_BYTES; !rc && gva < end; gva += insn.len) {
		rc = hvmi_insn_read(t->who.kernel, HVMI_INSN_X86_64, gva, &insn, &t->tool.err);
		if (!rc && insn.category == HVMI_INSN_CALL && insn.target == handler) {
			*ret = gva + insn.len;
			return 0;
		}
	}
	return rc ? rc : -ENOENT;
}

/* One of several: false where the kernel has no such entry, or it was told why it cannot be hooked. */
static bool hook_entry(struct trace *t, size_t i)
{
	const struct entry *entry = &entries[i];
	struct hvmi_hook_request request = { .kind = HVMI_HOOK_EXECUTE, .callback = on_call,
					     .context = &t->doors[i], .space = t->who.kernel };
	t->doors[i] = (struct door){ t, entry };
	int rc = find_symbol(t, entry->symbols, &request.address);
	if (rc && i == 0)
		tool_error(&t->tool, TOOL_OS, "%s", t->tool.err.text);
	if (rc || !hooking_add(&t->hooking, &request))
		return false;
	if (!t->results)
		return true;
	rc = find_return(t, entry, request.address, &request.address);
	if (rc) {
		tool_error(&t->tool, TOOL_OS, "where calls return from %s is not known: do without --results",
			   entry->symbols[0]);
		return false;
	}
	request.callback = on_return;
	return hooking_add(&t->hooking, &request);
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
	t.result.size = sizeof(t.result);
	if (t.results && hvmi_profile_member(hvmi_os_profile(t.tool.os), "struct pt_regs", "ax", &t.result,
					     &t.tool.err))
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
	end_pending(&t);
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
