/* SPDX-License-Identifier: Apache-2.0 */
#include "tool.h"

#include <time.h>

static const char usage[] =
	"Usage: hvmi-recover TARGET [OPTION]...\n"
	"Put a guest right whose program was killed: what it had placed in the guest is\n"
	"undone, and a machine that it had stopped goes on.\n"
	"\n"
	"      --directory DIR  where the program kept its journal; /run/hvmi if not given\n"
	"      --wait SECONDS   try so long to find code that was placed unused; 10\n"
	"      --discard        throw the journal away, undoing nothing\n";

struct request {
	const char *directory;
	uint64_t wait;
	bool discard;
};

static void print(struct tool *tool, bool journal, const struct hvmi_recovered *r)
{
	if (tool->json) {
		tool_print(tool, tool_json_object(
			"journal", json_boolean(journal), "pid", tool_json_number(r->pid),
			"restored", tool_json_number(r->restored),
			"absent", tool_json_number(r->absent),
			"changed", tool_json_number(r->changed),
			"waiting", tool_json_number(r->waiting),
			"failed", tool_json_number(r->failed),
			"resumed", json_boolean(r->flags & HVMI_RECOVERED_RESUMED),
			"torn", json_boolean(r->flags & HVMI_RECOVERED_TORN), NULL));
		return;
	}
	if (!journal) {
		printf("nothing was left in this machine\n");
		return;
	}
	printf("program %u: %u patches undone, %u had not got there", r->pid, r->restored, r->absent);
	if (r->changed)
		printf(", %u the guest has changed since: left alone", r->changed);
	if (r->waiting)
		printf(", %u are in use: left", r->waiting);
	if (r->failed)
		printf(", %u could not be undone", r->failed);
	printf(r->flags & HVMI_RECOVERED_RESUMED ? "; the machine goes on\n" : "\n");
}

static void add(struct hvmi_recovered *all, const struct hvmi_recovered *one)
{
	all->pid = one->pid ? one->pid : all->pid;
	all->flags |= one->flags;
	all->restored += one->restored;
	all->absent += one->absent;
	all->changed += one->changed;
	all->waiting = one->waiting;
	all->failed = one->failed;
}

/* As often as it takes for threads to leave code that was placed. */
static int recover(struct tool *tool, const struct request *request, struct hvmi_recovered *all)
{
	static const struct timespec pause = { .tv_nsec = 100000000 };
	for (uint64_t tries = 0;; tries++) {
		struct hvmi_recovered one = { .size = sizeof(one) };
		int rc = hvmi_recover(tool->vm, request->directory, tool->os, &one, &tool->err);
		add(all, &one);
		if (rc != -EBUSY || !one.waiting || tries >= 10 * request->wait)
			return rc;
		/* It takes the guest's threads to say who is where. */
		struct hvmi_error why = tool->err;
		if (!tool->os && tool_attach(tool)) {
			tool->err = why;
			return rc;
		}
		if (tries)
			nanosleep(&pause, NULL);
	}
}

static int discard(struct tool *tool, const struct request *request)
{
	struct hvmi_journal *journal;
	int rc = hvmi_journal_open(tool->vm, request->directory, HVMI_JOURNAL_DISCARD, &journal,
				   &tool->err);
	if (!rc)
		hvmi_journal_close(journal);
	return rc;
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "directory", required_argument, NULL, 'd' }, { "wait", required_argument, NULL, 'w' },
		{ "discard", no_argument, NULL, 'x' }, { 0 },
	};
	struct tool tool;
	struct request request = { .directory = "/run/hvmi", .wait = 10 };
	struct hvmi_recovered all = { .size = sizeof(all) };
	tool_begin(&tool, usage, argc, argv);
	for (int c; (c = tool_option(&tool, options)) != -1;) {
		if (c == 'd')
			request.directory = optarg;
		else if (c == 'w')
			request.wait = tool_number("number of seconds", optarg, 86400);
		else
			request.discard = true;
	}
	tool_operands(&tool, 1, 1);
	tool.write = true;
	tool_open(&tool);
	int rc = request.discard ? discard(&tool, &request) : recover(&tool, &request, &all);
	if (rc && rc != -ENOENT && !all.pid) {
		if (tool.json)
			tool_print(&tool, json_null());
	} else {
		print(&tool, rc != -ENOENT && !request.discard, &all);
	}
	if (rc && rc != -ENOENT)
		tool_failed(&tool, rc);
	return tool_end(&tool);
}
