/* SPDX-License-Identifier: Apache-2.0 */
#include "tool.h"

#include <signal.h>
#include <stdarg.h>
#include <unistd.h>

#include <hvmi/backend.h>

static const char common_usage[] =
	"      --json          print JSON\n"
	"      --verbose       print what the library logs to standard error\n"
	"  -h, --help          print this\n"
	"      --version       print the version\n";

/* Of a machine whose kernel may be Windows'. */
static const char guest_usage[] =
	"      --profile FILE  symbols and types of a Windows kernel (see hvmi-profiles(7))\n"
	"      --symbol-path FOLDERS\n"
	"                      where to look for them, separated by colons\n"
	"      --force-profile believe FILE though it is of another kernel\n"
	"\n"
	"TARGET is a memory image, or SCHEME:WHAT[,OPTION=VALUE]...\n";

static const char exit_usage[] =
	"Exit status: 0 all went well; 1 not found, not mapped, or incomplete; 2 usage;\n"
	"3 the target cannot be opened; 4 no operating system was recognised; 5 out of memory,\n"
	"or input or output fails.\n";

enum {
	OWN_OPTIONS_MAX = 12, COMMON_OPTIONS = 7, GUEST_OPTIONS = 3,
	OPTION_JSON = 0x1000, OPTION_VERBOSE, OPTION_VERSION, OPTION_PROFILE, OPTION_SYMBOL_PATH,
	OPTION_FORCE_PROFILE
};

static void error_line(const char *format, va_list args)
{
	/* On a terminal the line comes behind the output that it is about. */
	fflush(stdout);
	fprintf(stderr, "%s: ", program_invocation_short_name);
	vfprintf(stderr, format, args);
	fputc('\n', stderr);
}

void tool_die(enum tool_exit code, const char *format, ...)
{
	va_list args;
	va_start(args, format);
	error_line(format, args);
	va_end(args);
	exit(code);
}

void tool_error(struct tool *tool, enum tool_exit code, const char *format, ...)
{
	va_list args;
	va_start(args, format);
	error_line(format, args);
	va_end(args);
	if (tool->status < code)
		tool->status = code;
}

enum tool_exit tool_code(int rc)
{
	return rc == -ENOMEM || rc == -EIO || rc == -ESRCH ? TOOL_INTERNAL : TOOL_PARTIAL;
}

void tool_failed(struct tool *tool, int rc)
{
	tool_error(tool, tool_code(rc), "%s", tool->err.text);
}

static void see_output_arrived(void)
{
	errno = 0;
	/* Some file systems tell only when the file is closed. */
	if (fflush(stdout) || ferror(stdout) || close(STDOUT_FILENO))
		tool_die(TOOL_INTERNAL, "the output cannot be written: %s",
			 errno ? strerror(errno) : "a write failed");
}

/* Options and operands. */

void tool_begin(struct tool *tool, const char *usage, int argc, char **argv)
{
	memset(tool, 0, sizeof(*tool));
	tool->usage = usage;
	tool->operands = argv;
	tool->operand_count = argc;
	/* getopt's messages begin with it. */
	if (argc)
		argv[0] = program_invocation_short_name;
}

int tool_option(struct tool *tool, const struct option *own)
{
	struct option all[OWN_OPTIONS_MAX + COMMON_OPTIONS + 1] = {
		{ "json", no_argument, NULL, OPTION_JSON },
		{ "verbose", no_argument, NULL, OPTION_VERBOSE },
		{ "help", no_argument, NULL, 'h' },
		{ "version", no_argument, NULL, OPTION_VERSION },
		{ "profile", required_argument, NULL, OPTION_PROFILE },
		{ "symbol-path", required_argument, NULL, OPTION_SYMBOL_PATH },
		{ "force-profile", no_argument, NULL, OPTION_FORCE_PROFILE },
	};
	const size_t common = tool->guestless ? COMMON_OPTIONS - GUEST_OPTIONS : COMMON_OPTIONS;
	for (size_t i = common; i < COMMON_OPTIONS; i++)
		all[i] = (struct option){ NULL, 0, NULL, 0 };
	for (size_t i = 0; own && own[i].name && i < OWN_OPTIONS_MAX; i++)
		all[common + i] = own[i];
	for (;;) {
		int c = getopt_long(tool->operand_count, tool->operands, "h", all, NULL);
		if (c == OPTION_JSON) {
			tool->json = true;
		} else if (c == OPTION_VERBOSE) {
			tool->verbose = true;
		} else if (c == OPTION_PROFILE) {
			tool->profile = optarg;
		} else if (c == OPTION_SYMBOL_PATH) {
			tool->symbol_path = optarg;
		} else if (c == OPTION_FORCE_PROFILE) {
			tool->force_profile = true;
		} else if (c == 'h') {
			printf("%s%s%s%s", tool->usage, common_usage, tool->guestless ? "\n" : guest_usage,
			       exit_usage);
			see_output_arrived();
			exit(TOOL_OK);
		} else if (c == OPTION_VERSION) {
			printf("%s %s\n", program_invocation_short_name, hvmi_version());
			see_output_arrived();
			exit(TOOL_OK);
		} else if (c == '?') {
			exit(TOOL_USAGE);
		} else {
			return c;
		}
	}
}

void tool_operands(struct tool *tool, int min, int max)
{
	/* The first line of the usage, behind its "Usage: ". */
	const char *form = tool->usage + strlen("Usage: ");
	const int len = (int)strcspn(form, "\n");
	tool->operands += optind;
	tool->operand_count -= optind;
	if (tool->operand_count < min)
		tool_die(TOOL_USAGE, "something is missing: %.*s (--help tells more)", len, form);
	if (tool->operand_count > max)
		tool_die(TOOL_USAGE, "'%s' is too much: %.*s (--help tells more)",
			 tool->operands[max], len, form);
}

uint64_t tool_number(const char *what, const char *text, uint64_t max)
{
	uint64_t number;
	int rc = hvmi_parse_u64(text, &number);
	if (rc == -EINVAL)
		tool_die(TOOL_USAGE, "%s '%s' is no number: write 123 or 0x7b", what, text);
	if (rc || number > max)
		tool_die(TOOL_USAGE, "%s %s is above %" PRIu64, what, text, max);
	return number;
}

/* Opening and closing. */

static void log_line(void *context, uint32_t level, const char *message)
{
	static const char *const names[] = { "?", "error", "warning", "info", "debug" };
	(void)context;
	fprintf(stderr, "%s: %s: %s\n", program_invocation_short_name,
		names[level < sizeof(names) / sizeof(*names) ? level : 0], message);
}

struct hvmi_open_options tool_open_options(const struct tool *tool)
{
	return (struct hvmi_open_options){ .size = sizeof(struct hvmi_open_options),
					   .flags = tool->write ? HVMI_OPEN_WRITE : 0,
					   .log = tool->verbose ? log_line : NULL };
}

void tool_open(struct tool *tool)
{
	struct hvmi_open_options options = tool_open_options(tool);
	int rc = hvmi_open(tool->operands[0], &options, &tool->vm, &tool->err);
	if (rc)
		tool_die(rc == -ENOMEM ? TOOL_INTERNAL : TOOL_TARGET, "%s", tool->err.text);
}

int tool_attach(struct tool *tool)
{
	const struct hvmi_os_options options = {
		.size = sizeof(options), .flags = tool->force_profile ? HVMI_OS_FORCE_PROFILE : 0,
		.profile = tool->profile, .symbol_path = tool->symbol_path,
	};
	return hvmi_os_attach(tool->vm, &options, &tool->os, &tool->err);
}

void tool_open_os(struct tool *tool)
{
	if (!tool->vm)
		tool_open(tool);
	if (tool->os)
		return;
	int rc = tool_attach(tool);
	if (rc)
		tool_die(tool_code(rc) == TOOL_INTERNAL ? TOOL_INTERNAL : TOOL_OS, "%s",
			 tool->err.text);
}

/* What --pause has stopped: however the program ends, it goes on. */
static struct tool *stopped;
static FILE *output;
static char *kept;
static size_t kept_len;
static sigset_t signals_before;

static void resume_stopped(void)
{
	if (stopped)
		hvmi_vm_resume(stopped->vm, NULL);
	stopped = NULL;
}

bool tool_pause(struct tool *tool)
{
	if (!tool->pause)
		return true;
	sigset_t ending;
	sigemptyset(&ending);
	sigaddset(&ending, SIGHUP);
	sigaddset(&ending, SIGINT);
	sigaddset(&ending, SIGQUIT);
	sigaddset(&ending, SIGTERM);
	FILE *keep = open_memstream(&kept, &kept_len);
	if (!keep || atexit(resume_stopped))
		tool_die(TOOL_INTERNAL, "out of memory");
	sigprocmask(SIG_BLOCK, &ending, &signals_before);
	int rc = hvmi_vm_pause(tool->vm, &tool->err);
	if (rc) {
		sigprocmask(SIG_SETMASK, &signals_before, NULL);
		fclose(keep);
		tool_failed(tool, rc);
		return false;
	}
	stopped = tool;
	/* The C library's stdout is a variable. */
	output = stdout;
	stdout = keep;
	return true;
}

void tool_resume(struct tool *tool)
{
	if (!stopped)
		return;
	stopped = NULL;
	int rc = hvmi_vm_resume(tool->vm, &tool->err);
	FILE *keep = stdout;
	stdout = output;
	bool whole = fclose(keep) == 0;
	sigprocmask(SIG_SETMASK, &signals_before, NULL);
	if (!whole)
		tool_die(TOOL_INTERNAL, "out of memory");
	fwrite(kept, 1, kept_len, stdout);
	free(kept);
	if (rc)
		tool_failed(tool, rc);
}

int tool_end(struct tool *tool)
{
	tool_resume(tool);
	if (tool->in_list)
		fputs(tool->had_item ? "\n]\n" : "[]\n", stdout);
	if (tool->vm && hvmi_vm_lost(tool->vm))
		tool_error(tool, TOOL_INTERNAL, "%s was cut short while it was read",
			   tool->operands[0]);
	hvmi_os_detach(tool->os);
	hvmi_close(tool->vm);
	see_output_arrived();
	return tool->status;
}

/* Places. */

static bool is_kallsyms_address(const char *text)
{
	return strlen(text) == 16 && strspn(text, "0123456789abcdef") == 16;
}

bool tool_address(struct tool *tool, const char *text, uint64_t *ret)
{
	uint64_t address = 0, offset = 0;
	if (is_kallsyms_address(text)) {
		*ret = strtoull(text, NULL, 16);
		return true;
	}
	if (*text >= '0' && *text <= '9') {
		*ret = tool_number("address", text, UINT64_MAX);
		return true;
	}
	const char *plus = strchr(text, '+');
	if (!*text || plus == text)
		tool_die(TOOL_USAGE, "'%s' is no address: write 0x1234, SYMBOL or SYMBOL+0x10",
			 text);
	if (plus)
		offset = tool_number("offset", plus + 1, UINT64_MAX);
	tool_open_os(tool);
	char *name = strndup(text, plus ? (size_t)(plus - text) : strlen(text));
	if (!name)
		tool_die(TOOL_INTERNAL, "out of memory");
	int rc = hvmi_profile_symbol(hvmi_os_profile(tool->os), name, &address, &tool->err);
	free(name);
	if (rc)
		tool_failed(tool, rc);
	*ret = address + offset;
	return rc == 0;
}

bool tool_place(struct tool *tool, const char *text, const char *fallback,
		struct tool_place *ret)
{
	struct tool_place place = { 0 };
	const char *colon = strchr(text, ':'), *where = colon ? text : fallback;
	size_t len = colon ? (size_t)(colon - text) : strlen(fallback);
	bool physical = len == 3 && strncmp(where, "gpa", len) == 0;
	bool kernel = len == 6 && strncmp(where, "kernel", len) == 0;
	uint64_t pid = 0;
	if (!physical && !kernel) {
		char digits[12] = "";
		if (len < sizeof(digits))
			memcpy(digits, where, len);
		pid = tool_number("process", digits, INT32_MAX);
	}
	const char *address = colon ? colon + 1 : text;
	if (physical && (*address < '0' || *address > '9'))
		tool_die(TOOL_USAGE, "'%s' is no guest-physical address; a symbol is written "
			 "kernel:SYMBOL", address);
	if (!tool_address(tool, address, &place.address))
		return false;
	int rc = 0;
	if (!physical) {
		struct hvmi_task task = { .size = sizeof(task) };
		tool_open_os(tool);
		if (!kernel)
			rc = hvmi_task_find(tool->os, (int32_t)pid, &task, &tool->err);
		if (!rc)
			rc = kernel ? hvmi_os_kernel_space(tool->os, &place.space, &tool->err) :
				      hvmi_task_space(tool->os, &task, &place.space, &tool->err);
	}
	if (rc)
		tool_failed(tool, rc);
	else
		*ret = place;
	return rc == 0;
}

/* Text. */

char *tool_escape(const void *bytes, size_t len)
{
	size_t size = hvmi_text_escape(bytes, len, NULL, 0) + 1;
	char *text = malloc(size);
	if (!text)
		tool_die(TOOL_INTERNAL, "out of memory");
	hvmi_text_escape(bytes, len, text, size);
	return text;
}

const char *tool_rights(uint32_t rights, char buf[5])
{
	static const char letters[] = "rwxu";
	for (int i = 0; i < 4; i++)
		buf[i] = rights & 1u << i ? letters[i] : '-';
	buf[4] = 0;
	return buf;
}

const char *tool_size(uint64_t bytes, char buf[32])
{
	static const char *const units[] = { "bytes", "KiB", "MiB", "GiB", "TiB" };
	size_t unit = 0;
	while (unit < 4 && bytes && bytes % 1024 == 0) {
		bytes /= 1024;
		unit++;
	}
	snprintf(buf, 32, "%" PRIu64 " %s", bytes, units[unit]);
	return buf;
}

/* JSON. */

static json_t *need(json_t *value)
{
	if (!value)
		tool_die(TOOL_INTERNAL, "out of memory");
	return value;
}

json_t *tool_json_hex(uint64_t address)
{
	return need(json_sprintf("0x%" PRIx64, address));
}

json_t *tool_json_number(uint64_t number)
{
	return need(number <= INT64_MAX ? json_integer((json_int_t)number) :
		    json_sprintf("%" PRIu64, number));
}

json_t *tool_json_text(const void *bytes, size_t len)
{
	char *text = tool_escape(bytes, len);
	json_t *value = need(json_string(text));
	free(text);
	return value;
}

void tool_json_set(json_t *object, const char *key, json_t *value)
{
	if (json_object_set_new(object, key, need(value)))
		need(NULL);
}

void tool_json_append(json_t *array, json_t *value)
{
	if (json_array_append_new(array, need(value)))
		need(NULL);
}

json_t *tool_json_object(const char *key, ...)
{
	json_t *object = need(json_object());
	va_list args;
	va_start(args, key);
	for (; key; key = va_arg(args, const char *))
		tool_json_set(object, key, va_arg(args, json_t *));
	va_end(args);
	return object;
}

void tool_list(struct tool *tool)
{
	tool->in_list = tool->json;
}

void tool_print(struct tool *tool, json_t *value)
{
	if (tool->in_list)
		fputs(tool->had_item ? ",\n" : "[\n", stdout);
	tool->had_item = true;
	int rc = json_dumpf(value, stdout, tool->in_list ? 0 : JSON_INDENT(2) | JSON_ENCODE_ANY);
	if (rc && !ferror(stdout))
		need(NULL);
	if (!tool->in_list)
		putchar('\n');
	json_decref(value);
}

bool tool_windows(const struct tool *tool)
{
	struct hvmi_os_info info = { .size = sizeof(info) };
	return tool->os && hvmi_os_get_info(tool->os, &info) == 0 && info.kind == HVMI_OS_WINDOWS;
}
