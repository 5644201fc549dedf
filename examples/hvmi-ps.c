/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <poll.h>
#include <signal.h>

#include "tool.h"
#include "tree.h"

static const char usage[] =
	"Usage: hvmi-ps TARGET [OPTION]...\n"
	"List processes.\n"
	"\n"
	"      --threads       list every thread\n"
	"      --tree          children below their parents\n"
	"      --pid PID       this process only\n"
	"      --running       what each vCPU runs\n"
	"      --arguments     with command lines\n"
	"      --environment   with environments\n"
	"      --watch SECONDS print differences every so often, until interrupted\n"
	TOOL_PAUSE_USAGE;

#define STRINGS_MAX (8u * 1024 * 1024)	/* Linux allows 6 MiB, see MAX_ARG_STRINGS */
#define DEPTH_SHOWN 40u

struct ps {
	struct tool tool;
	bool threads, as_tree, arguments, environment, running, windows;
	uint32_t change;	/* enum hvmi_task_change of what is printed, or 0 */
	size_t incomplete;	/* command lines and environments */
	struct tree branches;
};

typedef int (*strings_fn)(struct hvmi_os *os, const struct hvmi_task *task, char *buf,
			  size_t size, size_t *len_ret, struct hvmi_error *err);

/* Strings that each end with a NUL; NULL if nothing could be read. */
static char *read_strings(struct ps *ps, const struct hvmi_task *task, strings_fn fn,
			  size_t *len_ret)
{
	char *buf = NULL;
	int rc = -EOVERFLOW;
	size_t len = 0;
	for (size_t size = 8192; rc == -EOVERFLOW && size <= STRINGS_MAX; size *= 4) {
		char *grown = realloc(buf, size);
		if (!grown)
			tool_die(TOOL_INTERNAL, "out of memory");
		buf = grown;
		len = 0;
		rc = fn(ps->tool.os, task, buf, size, &len, &ps->tool.err);
	}
	/* Since it was listed it may have ended. */
	ps->incomplete += rc != 0 && rc != -ENOENT;
	*len_ret = len;
	if (rc && len == 0) {
		free(buf);
		return NULL;
	}
	return buf;
}

/* The next of those strings, escaped; NULL at the end. */
static char *next_string(const char *buf, size_t len, size_t *at)
{
	if (*at >= len)
		return NULL;
	size_t n = strnlen(buf + *at, len - *at);
	char *text = tool_escape(buf + *at, n);
	*at += n + 1;
	return text;
}

static json_t *strings_json(struct ps *ps, const struct hvmi_task *task, strings_fn fn)
{
	size_t len, at = 0;
	char *buf = read_strings(ps, task, fn, &len);
	if (!buf)
		return json_null();
	json_t *array = json_array();
	for (char *text; (text = next_string(buf, len, &at)); free(text))
		tool_json_append(array, json_string(text));
	free(buf);
	return array;
}

static void print_strings(struct ps *ps, const struct hvmi_task *task, strings_fn fn,
			  const char *first, const char *next)
{
	size_t len, at = 0;
	char *buf = read_strings(ps, task, fn, &len);
	if (!buf)
		printf("%s?", first);
	for (char *text; buf && (text = next_string(buf, len, &at)); free(text), first = next)
		printf("%s%s", first, text);
	free(buf);
}

static json_t *if_known(const struct hvmi_task *task, uint32_t bit, uint64_t number)
{
	return task->valid & bit ? tool_json_number(number) : json_null();
}

static json_t *hex_if_known(const struct hvmi_task *task, uint32_t bit, uint64_t address)
{
	return task->valid & bit ? tool_json_hex(address) : json_null();
}

/* What only Windows has. */
static void add_windows(struct ps *ps, const struct hvmi_task *task, json_t *object)
{
	static char path[65536];
	bool has_path = task->flags & HVMI_TASK_LEADER &&
			hvmi_task_path(ps->tool.os, task, path, sizeof(path), NULL) == 0;
	const struct {
		const char *name;
		json_t *value;
	} fields[] = {
		{ "path", has_path ? tool_json_text(path, strlen(path)) : json_null() },
		{ "exited", json_boolean(task->flags & HVMI_TASK_EXITED) },
		{ "is_32bit", json_boolean(task->flags & HVMI_TASK_32BIT) },
		{ "created_ns", if_known(task, HVMI_TASK_HAS_CREATED, task->created_ns) },
		{ "exited_ns", if_known(task, HVMI_TASK_HAS_EXITED, task->exited_ns) },
		{ "exit_status", if_known(task, HVMI_TASK_HAS_EXIT_STATUS, task->exit_status) },
		{ "session", if_known(task, HVMI_TASK_HAS_SESSION, task->session) },
		{ "integrity", hex_if_known(task, HVMI_TASK_HAS_INTEGRITY, task->integrity) },
		{ "protection", hex_if_known(task, HVMI_TASK_HAS_PROTECTION, task->protection) },
		{ "process", hex_if_known(task, HVMI_TASK_HAS_PROCESS, task->process) },
		{ "user_block", hex_if_known(task, HVMI_TASK_HAS_USER_BLOCK, task->user_block) },
		{ "user_block_32", task->user_block_32 ? tool_json_hex(task->user_block_32) :
							 json_null() },
		{ "entry", hex_if_known(task, HVMI_TASK_HAS_ENTRY, task->entry) },
		{ "stack_start", hex_if_known(task, HVMI_TASK_HAS_STACK, task->stack_start) },
		{ "stack_end", hex_if_known(task, HVMI_TASK_HAS_STACK, task->stack_end) },
	};
	for (size_t i = 0; i < sizeof(fields) / sizeof(*fields); i++)
		tool_json_set(object, fields[i].name, fields[i].value);
}

static const char *const change_names[] = { "", "present", "started", "ended", "changed" };
static const char change_signs[] = "  +-~";

static void print_task_json(struct ps *ps, const struct hvmi_task *task)
{
	char state[2] = { (char)task->state, 0 };
	json_t *object = tool_json_object(
		"pid", task->valid & HVMI_TASK_HAS_PID ? json_integer(task->pid) : json_null(),
		"tgid", task->valid & HVMI_TASK_HAS_TGID ? json_integer(task->tgid) : json_null(),
		"ppid", task->valid & HVMI_TASK_HAS_PPID ? json_integer(task->ppid) : json_null(),
		"uid", if_known(task, HVMI_TASK_HAS_UID, task->uid),
		"gid", if_known(task, HVMI_TASK_HAS_UID, task->gid),
		"euid", if_known(task, HVMI_TASK_HAS_UID, task->euid),
		"egid", if_known(task, HVMI_TASK_HAS_UID, task->egid),
		"comm", task->valid & HVMI_TASK_HAS_NAME ?
			tool_json_text(task->name, strnlen(task->name, sizeof(task->name))) :
			json_null(),
		"state", task->valid & HVMI_TASK_HAS_STATE ? json_string(state) : json_null(),
		"threads", if_known(task, HVMI_TASK_HAS_THREADS, task->threads),
		"kernel_thread", task->valid & HVMI_TASK_HAS_FLAGS ?
			json_boolean(task->flags & HVMI_TASK_KERNEL) : json_null(),
		"start_ns", if_known(task, HVMI_TASK_HAS_START, task->start_ns),
		"root", task->valid & HVMI_TASK_HAS_ROOT ? tool_json_hex(task->root) : json_null(),
		"object", tool_json_hex(task->object), NULL);
	if (ps->windows)
		add_windows(ps, task, object);
	if (ps->change)
		tool_json_set(object, "change", json_string(change_names[ps->change]));
	if (ps->arguments)
		tool_json_set(object, "arguments", strings_json(ps, task, hvmi_task_arguments));
	if (ps->environment)
		tool_json_set(object, "environment",
			      strings_json(ps, task, hvmi_task_environment));
	tool_print(&ps->tool, object);
}

static void print_number(const struct hvmi_task *task, uint32_t bit, int width, int64_t number)
{
	if (task->valid & bit)
		printf("%*" PRId64 " ", width, number);
	else
		printf("%*s ", width, "?");
}

static void print_task(void *context, const struct hvmi_task *task, size_t depth)
{
	struct ps *ps = context;
	if (ps->tool.json) {
		print_task_json(ps, task);
		return;
	}
	bool kernel = task->flags & HVMI_TASK_KERNEL, named = task->valid & HVMI_TASK_HAS_NAME;
	char *name = tool_escape(task->name, strnlen(task->name, sizeof(task->name)));
	if (ps->change)
		printf("%c ", change_signs[ps->change]);
	if (ps->threads)
		print_number(task, HVMI_TASK_HAS_TGID, 7, task->tgid);
	print_number(task, HVMI_TASK_HAS_PID, 7, task->pid);
	print_number(task, HVMI_TASK_HAS_PPID, 7, task->ppid);
	print_number(task, HVMI_TASK_HAS_UID, 6, task->uid);
	printf("%c ", task->valid & HVMI_TASK_HAS_STATE ? (char)task->state : '?');
	print_number(task, HVMI_TASK_HAS_THREADS, 4, task->threads);
	if (task->valid & HVMI_TASK_HAS_START)
		printf("%7" PRIu64 ".%02u", task->start_ns / 1000000000,
		       (unsigned)(task->start_ns / 10000000 % 100));
	else
		printf("%10s", "?");
	printf(" %*s%s%s%s", (int)(2 * (depth < DEPTH_SHOWN ? depth : DEPTH_SHOWN)), "",
	       kernel ? "[" : "", named ? name : "?", kernel ? "]" : "");
	free(name);
	if (ps->arguments)
		print_strings(ps, task, hvmi_task_arguments, ": ", " ");
	if (ps->environment)
		print_strings(ps, task, hvmi_task_environment, "\n        ", "\n        ");
	putchar('\n');
}

static void list_tasks(struct ps *ps, int32_t pid)
{
	struct hvmi_task_iter *iter = NULL;
	struct hvmi_task task = { .size = sizeof(task) };
	int rc = hvmi_task_iter_create(ps->tool.os, ps->threads ? HVMI_TASKS_THREADS : 0, &iter,
				       &ps->tool.err);
	size_t found = 0;
	if (!rc)
		while ((rc = hvmi_task_next(iter, &task, &ps->tool.err)) == 1) {
			if (pid >= 0 && task.tgid != pid)
				continue;
			found++;
			if (ps->as_tree)
				tree_add(&ps->branches, &task);
			else
				print_task(ps, &task, 0);
		}
	hvmi_task_iter_destroy(iter);
	tree_walk(&ps->branches, print_task, ps);
	if (rc < 0)
		tool_failed(&ps->tool, rc);
	else if (pid >= 0 && !found)
		tool_error(&ps->tool, TOOL_PARTIAL, "there is no process %" PRId32, pid);
	if (ps->incomplete)
		tool_error(&ps->tool, TOOL_PARTIAL,
			   "command lines and environments that are not in memory in full: %zu",
			   ps->incomplete);
}

static void list_running(struct ps *ps)
{
	struct hvmi_vm_info info = { .size = sizeof(info) };
	struct hvmi_task task = { .size = sizeof(task) };
	hvmi_vm_get_info(ps->tool.vm, &info);
	for (uint32_t vcpu = 0; vcpu < info.vcpus; vcpu++) {
		int rc = hvmi_task_current(ps->tool.os, vcpu, ps->threads ? HVMI_TASKS_THREADS : 0,
					   &task, &ps->tool.err);
		if (rc)
			tool_failed(&ps->tool, rc);
		else
			print_task(ps, &task, 0);
		if (rc == -ENOTSUP)
			return;
	}
	if (info.vcpus == 0)
		tool_error(&ps->tool, TOOL_PARTIAL, "the target has no registers");
}

static volatile sig_atomic_t interrupted;

static void interrupt(int number)
{
	interrupted = number;
}

/* Until the time is over or a signal comes, also one that came a moment ago. */
static void rest(uint32_t seconds)
{
	sigset_t all, before;
	sigfillset(&all);
	sigprocmask(SIG_BLOCK, &all, &before);
	if (!interrupted)
		ppoll(NULL, 0, &(struct timespec){ .tv_sec = seconds }, &before);
	sigprocmask(SIG_SETMASK, &before, NULL);
}

static void print_changes(struct ps *ps, struct hvmi_task_watch *watch, int32_t pid)
{
	struct hvmi_task_news news = { .size = sizeof(news) };
	struct hvmi_task task = { .size = sizeof(task) };
	bool arguments = ps->arguments, environment = ps->environment;
	while (hvmi_task_watch_next(watch, &news, &task, NULL) == 1) {
		if ((pid >= 0 && task.tgid != pid) || news.change > HVMI_TASK_CHANGED)
			continue;
		ps->change = news.change;
		/* What has ended has no memory. */
		ps->arguments = arguments && news.change != HVMI_TASK_ENDED;
		ps->environment = environment && news.change != HVMI_TASK_ENDED;
		print_task(ps, &task, 0);
	}
	ps->arguments = arguments;
	ps->environment = environment;
}

static void watch_tasks(struct ps *ps, int32_t pid, uint32_t seconds)
{
	static const int ending[] = { SIGINT, SIGTERM, SIGHUP };
	struct sigaction action = { .sa_handler = interrupt };
	struct hvmi_vm_info info = { .size = sizeof(info) };
	struct hvmi_task_watch *watch;
	/* Between two looks only, so that --pause leaves no machine stopped. */
	for (size_t i = 0; i < sizeof(ending) / sizeof(*ending); i++)
		sigaction(ending[i], &action, NULL);
	hvmi_vm_get_info(ps->tool.vm, &info);
	int rc = hvmi_task_watch_create(ps->tool.os, (ps->threads ? HVMI_TASKS_THREADS : 0) |
					(ps->tool.pause ? HVMI_LIST_PAUSED : 0), &watch,
					&ps->tool.err);
	if (rc) {
		tool_failed(&ps->tool, rc);
		return;
	}
	while (!interrupted) {
		rc = hvmi_task_watch_refresh(watch, 0, &ps->tool.err);
		if (rc)
			tool_failed(&ps->tool, rc);
		print_changes(ps, watch, pid);
		if (fflush(stdout) || info.flags & HVMI_VM_STATIC ||
		    (rc && rc != -EBUSY && rc != -EBADMSG && rc != -EOVERFLOW) ||
		    hvmi_vm_lost(ps->tool.vm))
			break;
		rest(seconds);
	}
	hvmi_task_watch_destroy(watch);
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "arguments", no_argument, NULL, 'a' }, { "environment", no_argument, NULL, 'e' },
		{ "pause", no_argument, NULL, 's' }, { "pid", required_argument, NULL, 'p' },
		{ "running", no_argument, NULL, 'r' }, { "threads", no_argument, NULL, 'l' },
		{ "tree", no_argument, NULL, 't' }, { "watch", required_argument, NULL, 'w' }, { 0 },
	};
	struct ps ps = { 0 };
	int32_t pid = -1;
	uint32_t seconds = 0;
	bool watch = false;
	tool_begin(&ps.tool, usage, argc, argv);
	for (int c; (c = tool_option(&ps.tool, options)) != -1;) {
		if (c == 'p')
			pid = (int32_t)tool_number("process", optarg, INT32_MAX);
		else if (c == 'w')
			seconds = (uint32_t)tool_number("number of seconds", optarg, 1000000);
		if (c != 'p')
			*(c == 'w' ? &watch : c == 'a' ? &ps.arguments : c == 'e' ? &ps.environment :
			  c == 'l' ? &ps.threads : c == 'r' ? &ps.running :
			  c == 's' ? &ps.tool.pause : &ps.as_tree) = true;
	}
	tool_operands(&ps.tool, 1, 1);
	if (watch && seconds == 0)
		tool_die(TOOL_USAGE, "--watch wants 1 second at least");
	if (watch && (ps.as_tree || ps.running))
		tool_die(TOOL_USAGE, "--watch goes with neither --tree nor --running");
	tool_open_os(&ps.tool);
	ps.windows = tool_windows(&ps.tool);
	tool_list(&ps.tool);
	if (!watch && !tool_pause(&ps.tool))
		return tool_end(&ps.tool);
	if (!ps.tool.json)
		printf("%s%s%7s %7s %6s S %4s %10s NAME\n", watch ? "  " : "",
		       ps.threads ? "   TGID " : "", "PID", "PPID", "UID", "THR", "START");
	if (watch)
		watch_tasks(&ps, pid, seconds);
	else if (ps.running)
		list_running(&ps);
	else
		list_tasks(&ps, pid);
	return tool_end(&ps.tool);
}
