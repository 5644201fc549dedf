/* SPDX-License-Identifier: Apache-2.0 */
#include "hook/quiet.h"

#include "os/os.h"

/* IRQ_STACK_SIZE of Linux on x86-64 without KASAN; Windows has 24 KiB at most, of DPC stacks. */
#define OTHER_STACK (24 * KIB)
/* What a stack may claim to have. */
#define STACK_MAX (256 * KIB)
#define STACKS_MAX (4u * 1024 * 1024)

/* A vCPU in the kernel. */
struct place {
	uint64_t rip, rsp;
	bool kernel, known;	/* known: it is on the stack of a thread */
};

struct collected {
	struct os_stack *items;
	size_t count, room;
};

static void note(struct quiet_search *search, const struct hvmi_occupant *who)
{
	bool in = false;
	for (size_t i = 0; i < search->count; i++) {
		if (who->gva - search->ranges[i].gva >= search->ranges[i].len)
			continue;
		in = true;
		if (search->busy)
			search->busy[i] = true;
	}
	if (!in)
		return;
	if (search->found < search->room)
		search->ret[search->found] = *who;
	search->found++;
}

static int read_places(struct hvmi_vm *vm, bool stacks, struct place *places,
		       struct hvmi_error *err)
{
	for (uint32_t i = 0; i < vm->description.vcpus; i++) {
		struct hvmi_registers r;
		uint64_t cs = 0;
		int rc = hvmi_vm_get_registers(vm, i, &r, err);
		if (rc)
			return rc;
		if (hvmi_registers_get(&r, HVMI_X86_RIP, &places[i].rip) ||
		    (stacks && (hvmi_registers_get(&r, HVMI_X86_RSP, &places[i].rsp) ||
				hvmi_registers_get(&r, HVMI_X86_CS_SELECTOR, &cs))))
			return hvmi_error_set(err, -ENOTSUP, HVMI_NO_ADDRESS,
					      "RIP, RSP and CS of vCPU %u are not known", i);
		places[i].kernel = (cs & 3) == 0;
	}
	return 0;
}

static void note_places(struct quiet_search *search, const struct place *places, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++) {
		struct hvmi_occupant who = { .kind = HVMI_OCCUPANT_VCPU, .vcpu = i,
					     .gva = places[i].rip, .at = HVMI_NO_ADDRESS };
		note(search, &who);
	}
}

static int begin(struct hvmi_vm *vm, bool stacks, struct place **ret, struct hvmi_error *err)
{
	uint32_t count = vm->description.vcpus;
	if (!count)
		return hvmi_error_set(err, -ENOTSUP, HVMI_NO_ADDRESS,
				      "the vCPUs of this machine have no registers, so nobody knows "
				      "where they are");
	struct place *places = calloc(count, sizeof(*places));
	if (!places)
		return hvmi_error_set(err, -ENOMEM, HVMI_NO_ADDRESS, "out of memory");
	int rc = read_places(vm, stacks, places, err);
	if (rc)
		free(places);
	else
		*ret = places;
	return rc;
}

int quiet_search_vcpus(struct quiet_search *search, struct hvmi_vm *vm, struct hvmi_error *err)
{
	struct place *places = NULL;
	int rc = begin(vm, false, &places, err);
	if (rc)
		return rc;
	note_places(search, places, vm->description.vcpus);
	free(places);
	return 0;
}

/* Which addresses are of interest at all: nearly all words are none. */
static void find_bounds(const struct quiet_search *search, uint64_t *first, uint64_t *last)
{
	*first = UINT64_MAX;
	*last = 0;
	for (size_t i = 0; i < search->count; i++) {
		const struct hvmi_code *r = &search->ranges[i];
		if (!r->len)
			continue;
		*first = MIN(*first, r->gva);
		*last = MAX(*last, r->gva + r->len - 1);
	}
}

/* Words of [from, end), as far as it is mapped: *done_ret. */
static int scan(struct quiet_search *search, struct hvmi_space *space, uint64_t from, uint64_t end,
		const struct hvmi_occupant *whose, uint64_t *done_ret)
{
	struct hvmi_space_config config = { .size = sizeof(config) };
	uint8_t bytes[FRAME_SIZE];
	hvmi_space_get_config(space, &config);
	const size_t word_len = config.paging == HVMI_PAGING_X86_32 ||
				config.paging == HVMI_PAGING_X86_PAE ? 4 : 8;
	uint64_t first, last, at = from & ~(uint64_t)(word_len - 1);
	int rc = 0;
	find_bounds(search, &first, &last);
	while (at < end) {
		size_t n = (size_t)MIN(end - at, FRAME_SIZE - at % FRAME_SIZE);
		rc = hvmi_space_read(space, at, bytes, n, NULL);
		if (rc)
			break;
		for (size_t i = 0; i + word_len <= n; i += word_len) {
			uint64_t word = word_len == 4 ? load_le32(bytes + i) : load_le64(bytes + i);
			if (word < first || word > last)
				continue;
			struct hvmi_occupant who = *whose;
			who.gva = word;
			who.at = at + i;
			note(search, &who);
		}
		at += n;
	}
	*done_ret = at;
	return rc;
}

static int collect(void *context, const struct os_stack *stack)
{
	struct collected *c = context;
	if (c->count == STACKS_MAX)
		return -EOVERFLOW;
	if (c->count == c->room) {
		size_t room = c->room ? 2 * c->room : 256;
		struct os_stack *items = realloc(c->items, room * sizeof(*items));
		if (!items)
			return -ENOMEM;
		c->items = items;
		c->room = room;
	}
	c->items[c->count++] = *stack;
	return 0;
}

static bool on_stack(const struct os_stack *stack, uint64_t rsp)
{
	return rsp >= stack->start && rsp <= stack->end;
}

/* Where what is live of a stack begins; its end: nowhere. */
static uint64_t live_part(const struct os_stack *stack, const struct place *places, uint32_t vcpus,
			  uint32_t *vcpu_ret)
{
	bool elsewhere = false;
	*vcpu_ret = HVMI_NO_VCPU;
	for (uint32_t i = 0; i < vcpus; i++) {
		if (places[i].kernel && on_stack(stack, places[i].rsp)) {
			*vcpu_ret = i;
			return places[i].rsp;
		}
		elsewhere |= places[i].kernel && !places[i].known;
	}
	/* It runs: in user mode, or on another stack above some part of this one. */
	if (stack->running)
		return elsewhere ? stack->start : stack->end;
	return on_stack(stack, stack->sp) ? stack->sp : stack->start;
}

static int scan_thread(struct quiet_search *search, struct hvmi_space *space,
		       const struct os_stack *stack, const struct place *places, uint32_t vcpus,
		       struct hvmi_error *err)
{
	struct hvmi_occupant who = { .kind = HVMI_OCCUPANT_THREAD, .object = stack->object,
				     .pid = stack->pid, .tgid = stack->tgid };
	uint64_t done;
	memcpy(who.name, stack->name, sizeof(who.name));
	if (stack->start > stack->end || stack->end - stack->start > STACK_MAX)
		return hvmi_error_set(err, -EBADMSG, stack->object,
				      "the stack of thread %d is said to be at 0x%llx to 0x%llx",
				      (int)stack->pid, (unsigned long long)stack->start,
				      (unsigned long long)stack->end);
	uint64_t from = live_part(stack, places, vcpus, &who.vcpu);
	int rc = scan(search, space, from, stack->end, &who, &done);
	return !rc ? 0 : hvmi_error_set(err, rc, done,
					"the stack of thread %d cannot be read at 0x%llx (%s), so it "
					"is not known where it returns to", (int)stack->pid,
					(unsigned long long)done, hvmi_error_name(rc));
}

static int search_stacks(struct quiet_search *search, struct hvmi_os *os, struct place *places,
			 const struct collected *stacks, struct hvmi_error *err)
{
	const uint32_t vcpus = os->vm->description.vcpus;
	struct hvmi_space *space;
	uint64_t done;
	int rc = hvmi_os_kernel_space(os, &space, err);
	if (rc)
		return rc;
	for (uint32_t i = 0; i < vcpus; i++)
		for (size_t j = 0; j < stacks->count; j++)
			places[i].known |= on_stack(&stacks->items[j], places[i].rsp);
	for (size_t i = 0; !rc && i < stacks->count; i++)
		rc = scan_thread(search, space, &stacks->items[i], places, vcpus, err);
	for (uint32_t i = 0; !rc && i < vcpus; i++) {
		struct hvmi_occupant who = { .kind = HVMI_OCCUPANT_STACK, .vcpu = i };
		/* It ends where nothing is mapped. */
		if (places[i].kernel && !places[i].known)
			scan(search, space, places[i].rsp, places[i].rsp + OTHER_STACK, &who, &done);
	}
	hvmi_space_destroy(space);
	return rc;
}

int quiet_search(struct quiet_search *search, struct hvmi_os *os, struct hvmi_error *err)
{
	struct collected stacks = { 0 };
	struct place *places = NULL;
	if (!vm_stands_still(os->vm))
		return hvmi_error_set(err, -EINVAL, HVMI_NO_ADDRESS,
				      "the machine runs: pause it to see who is where");
	if (!os->ops->stacks)
		return hvmi_error_set(err, -ENOTSUP, HVMI_NO_ADDRESS,
				      "stacks of threads are not known of %s", os->ops->name);
	int rc = begin(os->vm, true, &places, err);
	if (rc)
		return rc;
	note_places(search, places, os->vm->description.vcpus);
	struct hvmi_error reason = { 0 };
	rc = os->ops->stacks(os, collect, &stacks, &reason);
	if (rc && err)
		*err = reason;
	if (rc && !reason.code)
		hvmi_error_set(err, rc, HVMI_NO_ADDRESS, "the stacks of threads cannot be had (%s)",
			       hvmi_error_name(rc));
	if (!rc)
		rc = search_stacks(search, os, places, &stacks, err);
	free(stacks.items);
	free(places);
	return rc;
}

HVMI_API int hvmi_quiet_check(struct hvmi_os *os, const struct hvmi_code *ranges, size_t count,
			      struct hvmi_occupant *ret, size_t room, struct hvmi_error *err)
{
	struct quiet_search search = { .ranges = ranges, .count = count, .ret = ret, .room = room };
	for (size_t i = 0; i < count; i++)
		if (ranges[i].len && ranges[i].gva > UINT64_MAX - (ranges[i].len - 1))
			return hvmi_error_set(err, -EINVAL, ranges[i].gva,
					      "a range wraps around the end of the space");
	int rc = quiet_search(&search, os, err);
	return rc ? rc : (int)MIN(search.found, (size_t)INT32_MAX);
}
