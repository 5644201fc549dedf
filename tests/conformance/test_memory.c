/* SPDX-License-Identifier: Apache-2.0 */
/* Memory, registers, pauses: what needs no events. */
#include <stddef.h>
#include <stdlib.h>

#include "suite.h"

static void capabilities(void)
{
	unsigned can = 0;
	for (uint32_t c = 1; c < HVMI_CAN_EVENT + HVMI_EVENT_KIND_END; c++) {
		const char *name = hvmi_capability_name(c);
		error.text[0] = '\0';
		int r = hvmi_vm_capability(machine.vm, c, &error);
		if (!name) {
			SAME(r, -EINVAL);
			continue;
		}
		if (r != 0 && r != -ENOTSUP)
			fail("%s: %s", name, hvmi_error_name(r));
		if (r && !error.text[0])
			fail("%s cannot be had, and nobody says why", name);
		if (options.verbose)
			remark("can %s: %s", name, r ? error.text : "yes");
		can += r == 0;
	}
	remark("%u capabilities", can);
}

static void ranges(void)
{
	struct hvmi_range range;
	uint64_t sum = 0, end = 0;
	uint8_t byte;
	for (uint32_t i = 0; i < machine.info.ranges; i++) {
		SAME(hvmi_vm_range(machine.vm, i, &range), 0);
		CHECK(range.len > 0 && range.gpa >= end && range.gpa + range.len > range.gpa);
		/* Adjacent ones may differ in how they are reached; what lies between is no RAM. */
		if (range.gpa > end)
			SAME(hvmi_vm_read(machine.vm, end, &byte, 1, NULL), -EFAULT);
		end = range.gpa + range.len;
		sum += range.len;
	}
	SAME(hvmi_vm_range(machine.vm, machine.info.ranges, &range), -ENOENT);
	SAME(sum, machine.info.ram);
	SAME(end - 1, machine.info.max_gpa);
	SAME(hvmi_vm_read(machine.vm, end, &byte, 1, NULL), -EFAULT);
	SAME(hvmi_vm_read(machine.vm, UINT64_MAX, &byte, 1, NULL), -EFAULT);
}

/* At each end of each range: what is in it can be read, and how far one came is told. */
static void borders(void)
{
	for (uint32_t i = 0; i < machine.info.ranges && i < 64; i++) {
		struct hvmi_range range, next = { .gpa = 0 };
		uint8_t buf[16];
		size_t done = 77;
		SAME(hvmi_vm_range(machine.vm, i, &range), 0);
		uint64_t end = range.gpa + range.len;
		if (range.len < 16)
			continue;
		int first = hvmi_vm_read(machine.vm, range.gpa, buf, 1, NULL);
		int last = hvmi_vm_read(machine.vm, end - 1, buf, 1, NULL);
		CHECK((first == 0 || first == -EFAULT) && (last == 0 || last == -EFAULT));
		if (i + 1 < machine.info.ranges)
			SAME(hvmi_vm_range(machine.vm, i + 1, &next), 0);
		if (last == 0 && next.gpa != end) {
			SAME(hvmi_vm_read(machine.vm, end - 8, buf, 16, &done), -EFAULT);
			SAME(done, 8);
			SAME(hvmi_vm_read(machine.vm, end - 8, buf, 8, &done), 0);
			SAME(done, 8);
		}
		done = 77;
		SAME(hvmi_vm_read(machine.vm, range.gpa, buf, 0, &done), 0);
		SAME(done, 0);
	}
}

/* All at once is the same as in pieces that cross pages; and as through a pointer. */
static void pieces(void)
{
	static uint8_t whole[3 * PAGE], parts[3 * PAGE];
	static const size_t steps[] = { 1, 7, 4095, 4097 };
	struct hvmi_range range;
	uint64_t at = HVMI_NO_ADDRESS;
	const void *mapping;
	for (uint32_t i = 0; i < machine.info.ranges && at == HVMI_NO_ADDRESS; i++) {
		SAME(hvmi_vm_range(machine.vm, i, &range), 0);
		/* The first MiB may have holes where devices are. */
		if (range.len >= 0x200000 + sizeof(whole))
			at = range.gpa + 0x100000 + 5;
	}
	if (at == HVMI_NO_ADDRESS)
		skip("no range is large enough");
	bool pause = hvmi_vm_capability(machine.vm, HVMI_CAN_PAUSE, NULL) == 0 &&
		     !(machine.info.flags & HVMI_VM_STATIC);
	if (pause) {
		GOOD(hvmi_vm_pause(machine.vm, &error));
		machine.pauses++;
	}
	SAME(hvmi_vm_read(machine.vm, at, whole, sizeof(whole), NULL), 0);
	for (size_t s = 0; s < sizeof(steps) / sizeof(*steps); s++) {
		memset(parts, 0x55, sizeof(parts));
		for (size_t done = 0, n; done < sizeof(parts); done += n) {
			n = sizeof(parts) - done < steps[s] ? sizeof(parts) - done : steps[s];
			SAME(hvmi_vm_read(machine.vm, at + done, parts + done, n, NULL), 0);
		}
		CHECK(memcmp(whole, parts, sizeof(whole)) == 0);
	}
	int r = hvmi_vm_map(machine.vm, at, sizeof(whole), &mapping);
	if (machine.info.flags & HVMI_VM_MAPPED)
		SAME(r, 0);
	if (r == 0) {
		int same = memcmp(whole, mapping, sizeof(whole)) == 0;
		hvmi_vm_unmap(machine.vm, mapping, sizeof(whole));
		CHECK(same);
	}
}

static void writes(void)
{
	static uint8_t pattern[2 * PAGE], back[2 * PAGE];
	need_probe(0);
	uint64_t to = data_page(0) + PAGE - 100;
	for (size_t i = 0; i < sizeof(pattern); i++)
		pattern[i] = (uint8_t)(i * 7 + i / 256);
	/* Lengths around a page, from one page into the next and the one after. */
	static const size_t lengths[] = { 1, 3, 99, 100, 101, 4095, 4096, 4097, 6000 };
	for (size_t l = 0; l < sizeof(lengths) / sizeof(*lengths); l++) {
		memset(back, 0, sizeof(back));
		guest_write(to, back, sizeof(back));
		guest_write(to, pattern, lengths[l]);
		guest_read(to, back, sizeof(back));
		CHECK(memcmp(back, pattern, lengths[l]) == 0);
		CHECK(back[lengths[l]] == 0);
	}
	/* By physical address, a page's last bytes, and what the guest sees of them. */
	uint64_t value = 0x1122334455667788, gpa = gpa_of(data_page(1) + PAGE - 8);
	size_t done = 0;
	SAME(hvmi_vm_write(machine.vm, gpa, &value, 8, &done), 0);
	SAME(done, 8);
	SAME(guest_call(0, user_place(PLACE_read), data_page(1) + PAGE - 8, 0, 0).values[0], value);
	/* And what it writes. */
	guest_call(last_vcpu(), user_place(PLACE_write), data_page(2), ~value, 0);
	guest_read(data_page(2), &value, 8);
	SAME(value, ~0x1122334455667788ull);
	SAME(hvmi_vm_write(machine.vm, machine.info.max_gpa + 1, &value, 8, &done), -EFAULT);
	SAME(done, 0);
}

static void read_only(void)
{
	struct hvmi_range range;
	struct hvmi_events *events;
	uint64_t value;
	machine_close(&machine);
	GOOD(machine_open(&machine, options.target, 0));
	SAME(machine.info.flags & HVMI_VM_WRITABLE, 0);
	int write = -EACCES, set = -EACCES, open = 0;
	if (hvmi_vm_range(machine.vm, 0, &range) == 0 &&
	    hvmi_vm_read(machine.vm, range.gpa + range.len - 1, &value, 1, NULL) == 0)
		write = hvmi_vm_write(machine.vm, range.gpa + range.len - 1, &value, 1, NULL);
	if (machine.info.vcpus)
		set = hvmi_vm_set_register(machine.vm, 0, HVMI_X86_RAX, 0);
	open = hvmi_events_open(machine.vm, NULL, &events, &error);
	machine_close(&machine);
	GOOD(machine_open(&machine, options.target, HVMI_OPEN_WRITE));
	SAME(write, -EACCES);
	SAME(set, -EACCES);
	CHECK(open == -EACCES || open == -ENOTSUP);
}

static void pause_machine(void)
{
	GOOD(hvmi_vm_pause(machine.vm, &error));
	machine.pauses++;
}

static void resume_machine(void)
{
	GOOD(hvmi_vm_resume(machine.vm, &error));
	machine.pauses--;
}

static void registers(void)
{
	static struct hvmi_registers all, again;
	unsigned known = 0;
	if (!machine.info.vcpus)
		skip("the machine has no vCPUs");
	SAME(hvmi_vm_get_registers(machine.vm, machine.info.vcpus, &all, &error), -ENOENT);
	bool pause = hvmi_vm_capability(machine.vm, HVMI_CAN_PAUSE, NULL) == 0;
	if (pause)
		pause_machine();
	for (uint32_t vcpu = 0; vcpu < machine.info.vcpus; vcpu++) {
		memset(&all, 0, sizeof(all));
		memset(&again, 0, sizeof(again));
		GOOD(hvmi_vm_get_registers(machine.vm, vcpu, &all, &error));
		GOOD(hvmi_vm_get_registers(machine.vm, vcpu, &again, &error));
		known = 0;
		for (uint32_t id = 0; id < HVMI_REGISTERS_MAX; id++) {
			uint64_t one = 0;
			int r = hvmi_vm_register(machine.vm, vcpu, id, &one);
			if (!hvmi_registers_known(&all, id)) {
				SAME(r, -ENOTSUP);
				continue;
			}
			if (r || one != all.values[id] || (pause && one != again.values[id]))
				fail("vCPU %u: %s differs", vcpu, hvmi_register_name(id));
			known++;
		}
		CHECK(hvmi_registers_known(&all, HVMI_X86_RIP));
	}
	remark("%u registers", known);
}

static void set_registers(void)
{
	static const uint32_t ids[] = { HVMI_X86_RAX, HVMI_X86_RCX, HVMI_X86_RDX, HVMI_X86_RBX,
					HVMI_X86_RSI, HVMI_X86_RDI, HVMI_X86_RBP, HVMI_X86_R8,
					HVMI_X86_R9, HVMI_X86_R15, HVMI_X86_RIP };
	static struct hvmi_registers before, wanted, after;
	need_running();
	need(HVMI_CAN_SET_REGISTERS);
	need(HVMI_CAN_PAUSE);
	uint32_t vcpu = machine.info.vcpus - 1;
	pause_machine();
	GOOD(hvmi_vm_get_registers(machine.vm, vcpu, &before, &error));
	wanted = (struct hvmi_registers){ { 0 }, { 0 } };
	for (size_t i = 0; i < sizeof(ids) / sizeof(*ids); i++) {
		CHECK(hvmi_registers_known(&before, ids[i]));
		hvmi_registers_set(&wanted, ids[i], before.values[ids[i]] ^ (0x1234567 + i));
	}
	int set = hvmi_vm_set_registers(machine.vm, vcpu, &wanted, &error);
	int get = hvmi_vm_get_registers(machine.vm, vcpu, &after, &error);
	/* Back before anything is judged: the guest wants to live. */
	struct hvmi_registers restore = wanted;
	for (size_t i = 0; i < sizeof(ids) / sizeof(*ids); i++)
		hvmi_registers_set(&restore, ids[i], before.values[ids[i]]);
	GOOD(hvmi_vm_set_registers(machine.vm, vcpu, &restore, &error));
	SAME(set, 0);
	SAME(get, 0);
	for (uint32_t id = 0; id < HVMI_REGISTERS_MAX; id++) {
		if (!hvmi_registers_known(&before, id))
			continue;
		bool changed = hvmi_registers_known(&wanted, id);
		uint64_t value = changed ? wanted.values[id] : before.values[id];
		if (after.values[id] != value)
			fail("%s is 0x%llx, not 0x%llx", hvmi_register_name(id),
			     (unsigned long long)after.values[id], (unsigned long long)value);
	}
	GOOD(hvmi_vm_get_registers(machine.vm, vcpu, &after, &error));
	for (uint32_t id = 0; id < HVMI_REGISTERS_MAX; id++)
		if (hvmi_registers_known(&before, id) && after.values[id] != before.values[id])
			fail("%s did not come back", hvmi_register_name(id));
	/* One register alone. */
	SAME(hvmi_vm_set_register(machine.vm, vcpu, HVMI_X86_RBX, 0x42), 0);
	uint64_t value = 0;
	get = hvmi_vm_register(machine.vm, vcpu, HVMI_X86_RBX, &value);
	SAME(hvmi_vm_set_register(machine.vm, vcpu, HVMI_X86_RBX, before.values[HVMI_X86_RBX]), 0);
	SAME(get, 0);
	SAME(value, 0x42);
	resume_machine();
}

static uint64_t work(void)
{
	struct probe_mailbox box = mailbox_now();
	uint64_t sum = 0;
	for (uint32_t i = 0; i < machine.box.vcpus; i++)
		sum += box.work[i];
	return sum;
}

/* Whether the guest moves in that time. */
static bool moves(int ms)
{
	const uint64_t before = work();
	for (int64_t end = now_ms() + ms; work() == before && now_ms() < end;)
		nap_ms(5);
	return work() != before;
}

static void pauses(void)
{
	need_running();
	need(HVMI_CAN_PAUSE);
	SAME(hvmi_vm_resume(machine.vm, &error), -EINVAL);
	pause_machine();
	pause_machine();
	pause_machine();
	resume_machine();
	resume_machine();
	if (machine.space && machine.box.features & PROBE_WORKERS)
		CHECK(!moves(500));
	if (machine.space && machine.info.flags & HVMI_VM_WRITABLE) {
		start_call(0, user_place(PLACE_steps), 1, 0, 0);
		nap_ms(50);
		CHECK(!call_done());
	}
	resume_machine();
	SAME(hvmi_vm_resume(machine.vm, &error), -EINVAL);
	if (machine.space && machine.box.features & PROBE_WORKERS)
		CHECK(moves(options.timeout_ms));
	if (machine.space && machine.info.flags & HVMI_VM_WRITABLE)
		SAME(end_call().values[0], 7);
}

/* A machine that stands still is as if paused. */
static void static_pause(void)
{
	if (!(machine.info.flags & HVMI_VM_STATIC))
		skip("the machine runs");
	GOOD(hvmi_vm_pause(machine.vm, &error));
	GOOD(hvmi_vm_resume(machine.vm, &error));
	SAME(hvmi_vm_resume(machine.vm, &error), -EINVAL);
}

/* What the probe says of itself is found where it says. */
static void probe(void)
{
	if (!machine.space)
		skip("%s", machine.no_probe);
	uint8_t code[sizeof(machine.code)];
	guest_read(machine.box.exec, code, machine.box.code_bytes);
	CHECK(memcmp(code, machine.code, machine.box.code_bytes) == 0);
	if (machine.box.features & PROBE_KERNEL) {
		struct hvmi_space *space = kernel_space();
		int r = hvmi_space_read(space, machine.box.kcode, code, machine.box.code_bytes,
					NULL);
		hvmi_space_destroy(space);
		SAME(r, 0);
		CHECK(memcmp(code, machine.code, machine.box.code_bytes) == 0);
	}
	if (machine.info.flags & HVMI_VM_STATIC)
		return;
	for (uint32_t vcpu = 0; vcpu <= last_vcpu(); vcpu++)
		SAME(guest_call(vcpu, user_place(PLACE_steps), 100 + vcpu, 0, 0).values[0],
		     106 + vcpu);
	if (machine.box.features & PROBE_KERNEL)
		SAME(guest_call(0, kernel_place(PLACE_steps), 5, 0, 0).values[0], 11);
}

struct remaps {
	uint64_t reads, stale, busy, moves, wrong;
};

/* Read the page while the guest moves it, remembered and not, alone and with others. */
static void read_moving(struct hvmi_space *const spaces[2], uint64_t page, uint64_t complete,
			struct remaps *ret)
{
	uint64_t last = 0;
	for (unsigned i = 0; !call_done(); i++) {
		uint64_t before, value, other;
		struct hvmi_io items[2] = {
			{ .space = spaces[0], .address = page, .buf = &value, .len = 8 },
			{ .space = spaces[0], .address = page + PAGE, .buf = &other, .len = 8 },
		};
		guest_read(complete, &before, sizeof(before));
		int r = i % 3 == 2 ? (hvmi_read_v(machine.vm, items, 2), items[0].status) :
				     hvmi_space_read(spaces[i % 3], page, &value, 8, NULL);
		ret->reads++;
		ret->moves += before != last;
		last = before;
		if (r == -EBUSY)
			ret->busy++;
		else if (r)
			ret->wrong++;
		else
			ret->stale += value == PROBE_GONE || value < before;
	}
}

/* No read gives a byte of the page that was there before the guest's new mapping was complete. */
static void never_stale(void)
{
	need_probe(PROBE_KERNEL | PROBE_REMAPS);
	const uint64_t page = data_page(0), kdata = machine.box.kdata, all = kdata - gpa_of(kdata);
	const uint64_t moves = 2000ull * options.cycles, piece = 50000;
	struct hvmi_walk walk = { .size = sizeof(walk) };
	GOOD(hvmi_space_walk(machine.space, page, &walk, &error));
	const struct hvmi_walk_entry leaf = walk.entries[walk.entry_count - 1];
	struct probe_remap job = { .entry = leaf.gpa + all, .page = page };
	for (unsigned i = 0; i < PROBE_REMAP_FRAMES; i++) {
		uint64_t frame = gpa_of(data_page(2 + i)), bits = 0x000ffffffffff000;
		job.frames[i] = frame + all;
		/* Executable or not is left as it is, the system's own bits are cleared. */
		job.entries[i] = (leaf.value & 0x80000000000001ff & ~bits) | frame;
	}
	struct hvmi_space *spaces[2] = { machine.space, NULL };
	struct hvmi_space_config config = { .size = sizeof(config) };
	GOOD(hvmi_space_get_config(machine.space, &config));
	config.flags |= HVMI_SPACE_UNCACHED;
	GOOD(hvmi_space_create(machine.vm, &config, &spaces[1], &error));
	/* The page shows the first mapping before anybody reads. */
	struct remaps seen = { .reads = 0 };
	job.last = 1;
	guest_write(kdata, &job, sizeof(job));
	guest_call(0, kernel_place(PLACE_remap), kdata, 0, 0);
	/* Where guest and reader share a processor, a turn of either shows the other one move. */
	for (uint64_t done = 1; done < moves || (seen.moves <= 10 && done < 20 * moves);
	     done = job.last) {
		job.last = done + piece;
		guest_write(kdata + offsetof(struct probe_remap, last), &job.last, 8);
		start_call(0, kernel_place(PLACE_remap), kdata, 0, 0);
		read_moving(spaces, page, kdata + offsetof(struct probe_remap, complete), &seen);
		end_call();
	}
	SAME(hvmi_vm_write(machine.vm, leaf.gpa, &leaf.value, 8, NULL), 0);
	hvmi_space_destroy(spaces[1]);
	remark("%llu moves, %llu seen, %llu reads, %llu gave up", (unsigned long long)job.last,
	       (unsigned long long)seen.moves, (unsigned long long)seen.reads,
	       (unsigned long long)seen.busy);
	SAME(seen.stale, 0);
	SAME(seen.wrong, 0);
	CHECK(seen.moves > 10 && seen.busy < seen.reads / 2);
}

/* A machine can be opened again and again. */
static void opening(void)
{
	unsigned cycles = options.cycles / 50 + 2;
	for (unsigned i = 0; i < cycles; i++) {
		machine_close(&machine);
		GOOD(machine_open(&machine, options.target, HVMI_OPEN_WRITE));
	}
	remark("opened and closed %u times", cycles);
}

const struct test memory_tests[] = {
	{ "capabilities", capabilities }, { "ranges", ranges }, { "borders", borders },
	{ "pieces", pieces }, { "probe", probe }, { "writes", writes },
	{ "read-only", read_only }, { "registers", registers }, { "set-registers", set_registers },
	{ "pauses", pauses }, { "static-pause", static_pause },
	{ "never-stale", never_stale }, { "opening", opening },
	{ NULL, NULL },
};
