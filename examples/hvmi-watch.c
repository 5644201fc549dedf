/* SPDX-License-Identifier: Apache-2.0 */
#include "hooking.h"

static const char usage[] =
	"Usage: hvmi-watch TARGET PLACE LENGTH [--access rwx] [--count N] [--json]\n"
	"Print who accesses bytes of a running guest. PLACE is kernel:ADDRESS, PID:ADDRESS,\n"
	"gpa:ADDRESS or a kernel address or symbol; LENGTH is in bytes.\n"
	"\n"
	"      --access rwx    reads, writes, execution; w if it is not given\n"
	"      --count N       end after N accesses\n";

#define SHOWN 16u

struct watch {
	struct tool tool;
	struct hooking hooking;
	struct who_finder who;
	bool who_known;
	struct hvmi_hook_request request;
};

/* What is there, or is going to be. */
static size_t value_of(const struct watch *w, const struct hvmi_hook_event *event, uint8_t bytes[SHOWN])
{
	struct hvmi_space *space;
	size_t len = event->len < SHOWN ? event->len : SHOWN, done = 0;
	if (event->value_len) {
		len = event->value_len < len ? event->value_len : len;
		memcpy(bytes, event->value, len);
		return len;
	}
	(void)w;
	if (hvmi_hook_event_space(event, &space, NULL) == 0)
		hvmi_space_read(space, event->gva, bytes, len, &done);
	return done;
}

static const char *symbol_of(const struct watch *w, uint64_t gva, char *buf, size_t size)
{
	struct hvmi_symbol symbol = { .size = sizeof(symbol) };
	uint64_t offset;
	if (w->tool.os && hvmi_profile_symbol_at(hvmi_os_profile(w->tool.os), gva, &symbol, &offset) == 0)
		snprintf(buf, size, "%s+0x%" PRIx64, symbol.name, offset);
	else
		snprintf(buf, size, "0x%" PRIx64, gva);
	return buf;
}

static void on_access(void *context, const struct hvmi_hook_event *event, struct hvmi_verdict *verdict)
{
	struct watch *w = context;
	struct who who = { .pid = -1, .tgid = -1 };
	uint8_t bytes[SHOWN];
	char hex[2 * SHOWN + 1] = "", rights[5], place[256];
	uint64_t rip = 0;
	(void)verdict;
	if (w->hooking.limit && w->hooking.count >= w->hooking.limit)
		return;
	w->hooking.count++;
	hvmi_registers_get(event->registers, HVMI_X86_RIP, &rip);
	if (w->who_known)
		who_runs(&w->who, event->registers, &who);
	size_t len = value_of(w, event, bytes);
	for (size_t i = 0; i < len; i++)
		snprintf(hex + 2 * i, 3, "%02x", bytes[i]);
	symbol_of(w, rip, place, sizeof(place));
	if (w->tool.json) {
		tool_print(&w->tool, tool_json_object(
			"vcpu", json_integer(event->event->vcpu), "tid", json_integer(who.pid),
			"name", tool_json_text(who.name, strlen(who.name)),
			"rip", tool_json_hex(rip), "symbol", tool_json_text(place, strlen(place)),
			"access", json_string(tool_rights(event->access, rights)),
			"address", tool_json_hex(event->gva), "length", tool_json_number(event->len),
			"bytes", json_string(hex),
			"done", json_boolean(event->flags & HVMI_HOOK_EVENT_DONE), NULL));
		return;
	}
	char *name = tool_escape(who.name, strlen(who.name)), *at = tool_escape(place, strlen(place));
	printf("%6d %-15s %s %s 0x%" PRIx64 " len %" PRIu64 " %s%s\n", who.pid, name,
	       tool_rights(event->access, rights), at, event->gva, event->len, hex,
	       event->flags & HVMI_HOOK_EVENT_DONE ? " (done; the place is behind it)" : "");
	free(name);
	free(at);
}

static uint32_t access_of(const char *text)
{
	uint32_t access = 0;
	for (; *text; text++) {
		const char *letter = strchr("rwx", *text);
		if (!letter)
			tool_die(TOOL_USAGE, "access is of the letters r, w and x");
		access |= *letter == 'r' ? HVMI_RIGHT_READ : *letter == 'w' ? HVMI_RIGHT_WRITE : HVMI_RIGHT_EXECUTE;
	}
	return access;
}

int main(int argc, char **argv)
{
	static const struct option options[] = { { "access", required_argument, NULL, 'a' },
						 { "count", required_argument, NULL, 'n' }, { 0 } };
	static struct watch w;
	struct tool_place place;
	w.request = (struct hvmi_hook_request){ .kind = HVMI_HOOK_ACCESS, .access = HVMI_RIGHT_WRITE,
						.callback = on_access, .context = &w };
	tool_begin(&w.tool, usage, argc, argv);
	for (int c; (c = tool_option(&w.tool, options)) != -1;) {
		if (c == 'a')
			w.request.access = access_of(optarg);
		else
			w.hooking.limit = tool_number("count", optarg, UINT64_MAX);
	}
	tool_operands(&w.tool, 3, 3);
	w.request.len = tool_number("length", w.tool.operands[2], HVMI_HOOK_BYTES);
	w.tool.write = true;
	tool_open(&w.tool);
	if (!tool_place(&w.tool, w.tool.operands[1], "kernel", &place))
		return tool_end(&w.tool);
	/* Without an operating system there are no names. */
	w.who_known = w.tool.os && !tool_windows(&w.tool) && who_begin(&w.who, &w.tool);
	hooking_begin(&w.hooking, &w.tool);
	tool_list(&w.tool);
	w.request.space = place.space;
	w.request.address = place.address;
	if (hooking_add(&w.hooking, &w.request)) {
		fprintf(stderr, "hvmi-watch: watching; end with Ctrl-C\n");
		hooking_run(&w.hooking);
	}
	hooking_end(&w.hooking);
	hvmi_space_destroy(place.space);
	who_end(&w.who);
	return tool_end(&w.tool);
}
