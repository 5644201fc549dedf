/* SPDX-License-Identifier: Apache-2.0 */
/*
 * count CASE TIMES: one operation many times on a fixed machine, for counting.py to count its
 * instructions. Times are noise where others work too; instructions are not.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>

#include <hvmi/backend.h>
#include <hvmi/hvmi.h>

#define RAM (16u << 20)
#define PAGE 4096u
#define ROOT 0x1000u

static uint64_t memory[RAM / 8];
static uint32_t machine_flags;

static int open_fixed(const struct hvmi_target *target, const struct hvmi_backend_host *host,
		      void **ret, struct hvmi_error *err)
{
	(void)target;
	(void)host;
	(void)err;
	*ret = memory;
	return 0;
}

static void close_fixed(void *machine)
{
	(void)machine;
}

static int describe_fixed(void *machine, struct hvmi_machine *ret)
{
	(void)machine;
	ret->flags = machine_flags;
	ret->arch = HVMI_ARCH_X86;
	ret->vcpus = ret->ranges = 1;
	return 0;
}

static int range_fixed(void *machine, uint32_t index, struct hvmi_range *ret)
{
	(void)machine;
	(void)index;
	*ret = (struct hvmi_range){ .gpa = 0, .len = RAM };
	return 0;
}

static int read_fixed(void *machine, uint64_t gpa, void *buf, size_t len)
{
	memcpy(buf, (const uint8_t *)machine + gpa, len);
	return 0;
}

static int map_fixed(void *machine, uint32_t index, const void **ret)
{
	(void)index;
	*ret = machine;
	return 0;
}

/* Its vCPU comes to a breakpoint when the case says so. */
#define HOOKS 1000u
static uint64_t breakpoint;	/* 0: to none */

static int pause_fixed(void *machine, struct hvmi_error *err)
{
	(void)machine;
	(void)err;
	return 0;
}

static int capability_fixed(void *machine, uint32_t capability, struct hvmi_error *err)
{
	(void)machine;
	return capability == HVMI_CAN_PAUSE || capability == HVMI_CAN_BREAKPOINTS ||
	       capability == HVMI_CAN_EVENT + HVMI_EVENT_BREAKPOINT ? 0 :
	       hvmi_error_set(err, -ENOTSUP, HVMI_NO_ADDRESS, "it does not do this");
}

static int events_open_fixed(void *machine, uint32_t flags, int *fd_ret, struct hvmi_error *err)
{
	(void)machine;
	(void)flags;
	(void)err;
	static int fd = -1;
	fd = fd < 0 ? eventfd(0, EFD_CLOEXEC) : fd;
	*fd_ret = fd;
	return 0;
}

static int event_request_fixed(void *machine, const struct hvmi_event_request *r, struct hvmi_error *err)
{
	(void)machine;
	(void)r;
	(void)err;
	return 0;
}

static int event_next_fixed(void *machine, struct hvmi_event *event, struct hvmi_registers *registers,
			    struct hvmi_error *err)
{
	(void)machine;
	(void)err;
	if (!breakpoint)
		return 0;
	event->kind = HVMI_EVENT_BREAKPOINT;
	event->flags = HVMI_EVENT_WAITS;
	event->gva = breakpoint;
	hvmi_registers_set(registers, HVMI_X86_RIP, breakpoint);
	hvmi_registers_set(registers, HVMI_X86_CR3, ROOT);
	breakpoint = 0;
	return 1;
}

static int event_answer_fixed(void *machine, const struct hvmi_event *event,
			      const struct hvmi_answer *answer, struct hvmi_error *err)
{
	(void)machine;
	(void)event;
	(void)answer;
	(void)err;
	return 0;
}

static const struct hvmi_backend backend = {
	.size = sizeof(backend), .scheme = "fixed", .open = open_fixed, .close = close_fixed,
	.describe = describe_fixed, .range = range_fixed, .read = read_fixed, .map = map_fixed,
	.pause = pause_fixed, .resume = pause_fixed, .capability = capability_fixed,
	.events_open = events_open_fixed, .events_close = close_fixed,
	.event_request = event_request_fixed, .event_cancel = event_request_fixed,
	.event_next = event_next_fixed, .event_answer = event_answer_fixed,
};

/* 256 pages of 4 KiB at 0, and one of 2 MiB at 1 GiB. */
static void make_tables(void)
{
	memory[ROOT / 8] = 0x2003;
	memory[0x2000 / 8] = 0x3003;
	memory[0x2008 / 8] = 0x5003;
	memory[0x3000 / 8] = 0x4003;
	for (uint64_t i = 0; i < 256; i++)
		memory[0x4000 / 8 + i] = (0x400000 + i * 7 % 256 * PAGE) | 3;
	memory[0x5000 / 8] = 0x800083;
}

static int ignore(void *context, uint32_t pattern, uint64_t address)
{
	(void)context;
	(void)pattern;
	(void)address;
	return 0;
}

struct fixture {
	struct hvmi_vm *vm;
	struct hvmi_space *space;
	struct hvmi_events *events;
	struct hvmi_hooks *hooks;	/* at HOOKS addresses, if the case has events */
};

static uint64_t small_page(uint64_t i)
{
	return (i * 37 & 255) * PAGE;
}

static void read8(struct fixture *f, uint64_t i)
{
	uint64_t value;
	hvmi_space_read(f->space, small_page(i), &value, 8, NULL);
}

static void read8_large(struct fixture *f, uint64_t i)
{
	uint64_t value;
	hvmi_space_read(f->space, 0x40000000 + (i * 8191 & 0x1ffff8), &value, 8, NULL);
}

static void translate(struct fixture *f, uint64_t i)
{
	uint64_t gpa;
	hvmi_space_translate(f->space, small_page(i), &gpa);
}

static void copy4k(struct fixture *f, uint64_t i)
{
	static uint8_t page[PAGE];
	hvmi_space_read(f->space, small_page(i), page, PAGE, NULL);
}

static void scatter64(struct fixture *f, uint64_t i)
{
	static struct hvmi_io items[64];
	static uint64_t values[64];
	for (uint64_t k = 0; k < 64; k++)
		items[k] = (struct hvmi_io){ .space = f->space, .buf = &values[k], .len = 8,
					     .address = small_page(i + k) };
	hvmi_read_v(f->vm, items, 64);
}

static void search64k(struct fixture *f, uint64_t i)
{
	struct hvmi_pattern patterns[] = { { .bytes = "needle", .len = 6 },
					   { .bytes = "haystack", .len = 8 } };
	struct hvmi_search s = { .size = sizeof(s), .patterns = patterns, .pattern_count = 2,
				 .found = ignore, .first = 0x400000, .last = 0x40ffff };
	(void)i;
	hvmi_search(f->vm, &s, NULL, NULL);
}

static void no_verdict(void *context, const struct hvmi_hook_event *event, struct hvmi_verdict *verdict)
{
	(void)context;
	(void)event;
	(void)verdict;
}

static uint64_t hooked(uint64_t i)
{
	return 0x1000 + i * 613 % HOOKS * 64;
}

static int add_hooks(struct fixture *f)
{
	int rc = hvmi_events_open(f->vm, NULL, &f->events, NULL);
	rc = rc ? rc : hvmi_hooks_open(f->events, NULL, &f->hooks, NULL);
	for (uint64_t i = 0; !rc && i < HOOKS; i++) {
		const struct hvmi_hook_request r = {
			.size = sizeof(r), .kind = HVMI_HOOK_EXECUTE, .space = f->space,
			.address = hooked(i), .callback = no_verdict,
		};
		rc = hvmi_hook_add(f->hooks, &r, NULL, NULL);
	}
	return rc;
}

static void event(struct fixture *f, uint64_t i)
{
	breakpoint = hooked(i);
	if (hvmi_hooks_dispatch(f->hooks, 0, NULL) != 1)
		exit(1);
}

static const struct {
	const char *name;
	void (*run)(struct fixture *f, uint64_t i);
	uint32_t machine_flags, space_flags;
} cases[] = {
	{ "read8", read8, HVMI_VM_STATIC, 0 },
	{ "read8_large", read8_large, HVMI_VM_STATIC, 0 },
	{ "read8_running", read8, 0, 0 },
	{ "read8_uncached", read8, HVMI_VM_STATIC, HVMI_SPACE_UNCACHED },
	{ "translate", translate, HVMI_VM_STATIC, 0 },
	{ "translate_uncached", translate, HVMI_VM_STATIC, HVMI_SPACE_UNCACHED },
	{ "copy4k", copy4k, HVMI_VM_STATIC, 0 },
	{ "scatter64", scatter64, HVMI_VM_STATIC, 0 },
	{ "search64k", search64k, HVMI_VM_STATIC, 0 },
	{ "event", event, 0, 0 },
};

int main(int argc, char **argv)
{
	size_t which = 0;
	while (argc == 3 && which < sizeof(cases) / sizeof(*cases) &&
	       strcmp(cases[which].name, argv[1]) != 0)
		which++;
	if (argc != 3 || which == sizeof(cases) / sizeof(*cases)) {
		fprintf(stderr, "usage: count CASE TIMES\n");
		return 2;
	}
	machine_flags = cases[which].machine_flags;
	make_tables();
	struct hvmi_open_options options = { .size = sizeof(options), .backend = &backend,
					     .flags = HVMI_OPEN_WRITE };
	struct hvmi_space_config config = { .size = sizeof(config), .root = ROOT,
					    .paging = HVMI_PAGING_X86_4LEVEL,
					    .flags = cases[which].space_flags };
	struct fixture f = { .hooks = NULL };
	if (hvmi_open("fixed:", &options, &f.vm, NULL) ||
	    hvmi_space_create(f.vm, &config, &f.space, NULL) || (cases[which].run == event && add_hooks(&f)))
		return 1;
	uint64_t times = strtoull(argv[2], NULL, 10);
	for (uint64_t i = 0; i < times; i++)
		cases[which].run(&f, i);
	hvmi_hooks_close(f.hooks);
	hvmi_events_close(f.events);
	hvmi_space_destroy(f.space);
	hvmi_close(f.vm);
	return 0;
}
