/* SPDX-License-Identifier: Apache-2.0 */
#include "tool.h"

#include <poll.h>
#include <signal.h>

static const char usage[] =
	"Usage: hvmi-list WHERE [--follow] [--json]\n"
	"List the machines of a hypervisor: WHERE is \"xen\", \"libvirt\" or \"libvirt:URI\".\n"
	"\n"
	"      --follow        go on with what becomes of them\n";

static volatile sig_atomic_t stopped;

static void stop(int signal)
{
	(void)signal;
	stopped = 1;
}

static const char *change_name(uint32_t change)
{
	static const char *const names[] = {
		[HVMI_MACHINE_PRESENT] = "present", [HVMI_MACHINE_APPEARED] = "appeared",
		[HVMI_MACHINE_GONE] = "gone", [HVMI_MACHINE_SUSPENDED] = "suspended",
		[HVMI_MACHINE_RESUMED] = "resumed",
	};
	return change < sizeof(names) / sizeof(*names) && names[change] ? names[change] : "?";
}

static json_t *text_or_null(const char *text)
{
	return *text ? tool_json_text(text, strlen(text)) : json_null();
}

static void print_news(struct tool *tool, const struct hvmi_machine_news *news)
{
	if (tool->json) {
		tool_print(tool, tool_json_object(
			"change", json_string(change_name(news->change)),
			"target", text_or_null(news->target),
			"name", text_or_null(news->name),
			"uuid", text_or_null(news->uuid),
			"type", text_or_null(news->type),
			"paused", json_boolean(news->paused), NULL));
		return;
	}
	printf("%-10s %-16s %-5s %-6s %-36s %s\n", change_name(news->change), news->target,
	       news->type, news->paused ? "paused" : "runs", news->uuid, news->name);
}

/* What there is now; 0 when there is no more. */
static int print_pending(struct tool *tool, struct hvmi_watch *watch)
{
	struct hvmi_machine_news news = { .size = sizeof(news) };
	int rc;
	while ((rc = hvmi_watch_next(watch, &news, &tool->err)) == 1)
		print_news(tool, &news);
	fflush(stdout);
	return rc;
}

static int follow(struct tool *tool, struct hvmi_watch *watch)
{
	struct pollfd fd = { .fd = hvmi_watch_fd(watch), .events = POLLIN };
	struct sigaction action = { .sa_handler = stop };
	sigset_t blocked, before;
	sigemptyset(&blocked);
	sigaddset(&blocked, SIGINT);
	sigaddset(&blocked, SIGTERM);
	/* Blocked but while waiting, so that none is missed. */
	sigprocmask(SIG_BLOCK, &blocked, &before);
	sigaction(SIGINT, &action, NULL);
	sigaction(SIGTERM, &action, NULL);
	int rc = 0;
	while (!stopped && !rc && !ferror(stdout)) {
		if (ppoll(&fd, 1, NULL, &before) == 1)
			rc = print_pending(tool, watch);
	}
	return rc;
}

int main(int argc, char **argv)
{
	static const struct option options[] = { { "follow", no_argument, NULL, 'f' }, { 0 } };
	struct tool tool;
	bool following = false;
	tool_begin(&tool, usage, argc, argv);
	tool.guestless = true;
	while (tool_option(&tool, options) != -1)
		following = true;
	tool_operands(&tool, 1, 1);
	struct hvmi_open_options open = tool_open_options(&tool);
	struct hvmi_watch *watch;
	int rc = hvmi_watch_open(tool.operands[0], &open, &watch, &tool.err);
	if (rc)
		tool_die(rc == -ENOMEM ? TOOL_INTERNAL : TOOL_TARGET, "%s", tool.err.text);
	tool_list(&tool);
	if (!tool.json)
		printf("%-10s %-16s %-5s %-6s %-36s %s\n", "NEWS", "TARGET", "TYPE", "STATE",
		       "UUID", "NAME");
	rc = print_pending(&tool, watch);
	if (!rc && following)
		rc = follow(&tool, watch);
	if (rc < 0)
		tool_failed(&tool, rc);
	hvmi_watch_close(watch);
	return tool_end(&tool);
}
