/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Drives libhvmi from a script: a command on each line of standard input, and for each one line that
 * begins with "ok", "none" or "error CODE". What the library logs comes before as "log LEVEL ...".
 */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <hvmi/hvmi.h>

static struct hvmi_vm *vm;
static struct hvmi_events *events;
static struct hvmi_watch *watching;
static struct hvmi_error error;

/* Events that wait: their registers are valid until they are answered. */
#define EVENTS_MAX 64
static struct hvmi_event waiting[EVENTS_MAX];

static void log_line(void *context, uint32_t level, const char *message)
{
	(void)context;
	printf("log %u %s\n", level, message);
}

static uint64_t number(const char *text)
{
	return text ? strtoull(text, NULL, 0) : 0;
}

static const char *word(void)
{
	return strtok(NULL, " ");
}

static int result(int rc)
{
	if (rc < 0)
		printf("error %s %s\n", hvmi_error_name(rc), error.code == rc ? error.text : "-");
	else
		printf("ok\n");
	return rc;
}

static void print_registers(const struct hvmi_registers *r)
{
	for (uint32_t id = 1; id < HVMI_REGISTERS_MAX; id++)
		if (hvmi_registers_known(r, id))
			printf(" %s=0x%llx", hvmi_register_name(id),
			       (unsigned long long)r->values[id]);
}

/* NAME=VALUE ... */
static bool take_registers(struct hvmi_registers *r)
{
	bool any = false;
	for (const char *text; (text = word());) {
		char name[32];
		unsigned long long value;
		if (sscanf(text, "%31[^=]=%llx", name, &value) == 2 && hvmi_register_id(name)) {
			hvmi_registers_set(r, hvmi_register_id(name), value);
			any = true;
		}
	}
	return any;
}

static void do_open(void)
{
	const char *target = word(), *how = word();
	struct hvmi_open_options o = { .size = sizeof(o), .log = log_line,
				       .flags = how && *how == 'w' ? HVMI_OPEN_WRITE : 0 };
	struct hvmi_vm_info info = { .size = sizeof(info) };
	int rc = hvmi_open(target, &o, &vm, &error);
	if (rc) {
		result(rc);
		return;
	}
	hvmi_vm_get_info(vm, &info);
	printf("ok arch=%u vcpus=%u flags=%u ranges=", info.arch, info.vcpus, info.flags);
	struct hvmi_range r;
	for (uint32_t i = 0; hvmi_vm_range(vm, i, &r) == 0; i++)
		printf("%s%llx+%llx", i ? "," : "", (unsigned long long)r.gpa,
		       (unsigned long long)r.len);
	printf(" format=%s\n", info.format);
}

static void do_read(void)
{
	uint64_t gpa = number(word()), len = number(word());
	const char *path = word();
	uint8_t *bytes = malloc(len + 1);
	size_t done = 0;
	int rc = hvmi_vm_read(vm, gpa, bytes, len, &done);
	FILE *f = fopen(path, "wb");
	fwrite(bytes, 1, done, f);
	fclose(f);
	free(bytes);
	error.code = 0;
	result(rc);
}

static void do_write(void)
{
	uint64_t gpa = number(word());
	const char *hex = word();
	uint8_t bytes[512];
	size_t len = 0;
	for (unsigned int byte; len < sizeof(bytes) && sscanf(hex + 2 * len, "%2x", &byte) == 1;)
		bytes[len++] = (uint8_t)byte;
	error.code = 0;
	result(hvmi_vm_write(vm, gpa, bytes, len, NULL));
}

static void do_registers(void)
{
	struct hvmi_registers r;
	int rc = hvmi_vm_get_registers(vm, (uint32_t)number(word()), &r, &error);
	if (rc) {
		result(rc);
		return;
	}
	printf("ok");
	print_registers(&r);
	printf("\n");
}

static void do_set(void)
{
	uint32_t vcpu = (uint32_t)number(word());
	struct hvmi_registers r = { 0 };
	take_registers(&r);
	result(hvmi_vm_set_registers(vm, vcpu, &r, &error));
}

static void do_request(bool cancel)
{
	struct hvmi_event_request r = { .size = sizeof(r) };
	const char *kind = word();
	for (uint32_t k = 1; k < HVMI_EVENT_KIND_END; k++)
		if (!strcmp(hvmi_event_name(k), kind))
			r.kind = k;
	if (r.kind == HVMI_EVENT_STEP) {
		r.vcpu = (uint32_t)number(word());
	} else {
		r.gva = number(word());
		if (r.kind == HVMI_EVENT_WATCHPOINT) {
			r.len = number(word());
			const char *how = word();
			r.access = (strchr(how, 'r') ? HVMI_RIGHT_READ : 0) |
				   (strchr(how, 'w') ? HVMI_RIGHT_WRITE : 0);
		}
	}
	const char *how = word();
	if (how && !strcmp(how, "async"))
		r.flags = HVMI_REQUEST_ASYNC;
	result(cancel ? hvmi_events_cancel(events, &r, &error) :
			hvmi_events_request(events, &r, &error));
}

static void do_next(void)
{
	struct hvmi_event e = { .size = sizeof(e) };
	int rc = hvmi_events_next(events, (int)number(word()), &e, &error);
	if (rc != 1) {
		if (rc)
			result(rc);
		else
			printf("none\n");
		return;
	}
	if (e.flags & HVMI_EVENT_WAITS)
		waiting[e.id % EVENTS_MAX] = e;
	printf("ok id=%llu kind=%s vcpu=%u flags=%u gva=0x%llx len=%llu access=%u",
	       (unsigned long long)e.id, hvmi_event_name(e.kind), e.vcpu, e.flags,
	       (unsigned long long)e.gva, (unsigned long long)e.len, e.access);
	print_registers(e.registers);
	printf("\n");
}

static void do_answer(void)
{
	uint64_t id = number(word());
	struct hvmi_answer a = { .size = sizeof(a) };
	const char *step = word();
	struct hvmi_registers r = { 0 };
	if (step && !strcmp(step, "step"))
		a.flags |= HVMI_ANSWER_STEP;
	if (step && !strcmp(step, "stepoff"))
		a.flags |= HVMI_ANSWER_STEP_OFF;
	if (take_registers(&r)) {
		a.flags |= HVMI_ANSWER_REGISTERS;
		a.registers = &r;
	}
	result(hvmi_events_answer(events, &waiting[id % EVENTS_MAX], &a, &error));
}

/* Answer COUNT events as they come, with TIMEOUT for each; say how many there were. */
static void do_drain(void)
{
	uint64_t count = number(word()), done = 0;
	int timeout = (int)number(word());
	for (; done < count; done++) {
		struct hvmi_event e = { .size = sizeof(e) };
		int rc = hvmi_events_next(events, timeout, &e, &error);
		if (rc == 1 && e.flags & HVMI_EVENT_WAITS)
			rc = hvmi_events_answer(events, &e, NULL, &error) ? -1 : 1;
		if (rc != 1)
			break;
	}
	printf("ok count=%llu\n", (unsigned long long)done);
}

static void do_news(void)
{
	struct hvmi_machine_news n = { .size = sizeof(n) };
	int rc = hvmi_watch_next(watching, &n, &error);
	if (rc == 1)
		printf("ok change=%u paused=%u target=%s uuid=%s\n", n.change, n.paused, n.target,
		       n.uuid);
	else if (rc)
		result(rc);
	else
		printf("none\n");
}

static void do_capability(void)
{
	result(hvmi_vm_capability(vm, (uint32_t)number(word()), &error));
}

static void run(const char *what)
{
	if (!strcmp(what, "open")) {
		do_open();
	} else if (!strcmp(what, "close")) {
		hvmi_close(vm);
		vm = NULL;
		printf("ok\n");
	} else if (!strcmp(what, "read")) {
		do_read();
	} else if (!strcmp(what, "write")) {
		do_write();
	} else if (!strcmp(what, "registers")) {
		do_registers();
	} else if (!strcmp(what, "set")) {
		do_set();
	} else if (!strcmp(what, "pause")) {
		result(hvmi_vm_pause(vm, &error));
	} else if (!strcmp(what, "resume")) {
		result(hvmi_vm_resume(vm, &error));
	} else if (!strcmp(what, "events")) {
		result(hvmi_events_open(vm, NULL, &events, &error));
	} else if (!strcmp(what, "noevents")) {
		hvmi_events_close(events);
		events = NULL;
		printf("ok\n");
	} else if (!strcmp(what, "request")) {
		do_request(false);
	} else if (!strcmp(what, "cancel")) {
		do_request(true);
	} else if (!strcmp(what, "next")) {
		do_next();
	} else if (!strcmp(what, "answer")) {
		do_answer();
	} else if (!strcmp(what, "drain")) {
		do_drain();
	} else if (!strcmp(what, "capability")) {
		do_capability();
	} else if (!strcmp(what, "watch")) {
		struct hvmi_open_options o = { .size = sizeof(o), .log = log_line };
		result(hvmi_watch_open(word(), &o, &watching, &error));
	} else if (!strcmp(what, "news")) {
		do_news();
	} else if (!strcmp(what, "nowatch")) {
		hvmi_watch_close(watching);
		printf("ok\n");
	} else {
		printf("error ? no such command\n");
	}
}

int main(void)
{
	static char line[65536];
	setvbuf(stdout, NULL, _IOLBF, 0);
	while (fgets(line, sizeof(line), stdin)) {
		line[strcspn(line, "\n")] = '\0';
		const char *what = strtok(line, " ");
		if (what)
			run(what);
		fflush(stdout);
	}
	hvmi_events_close(events);
	hvmi_close(vm);
	return 0;
}
