/* SPDX-License-Identifier: Apache-2.0 */
/* The mailbox, and events of those who watch the vCPUs that serve it. */
#include <string.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "probe.h"

/* Of the mailbox. */
#define COMMAND 80	/* number, op and vcpu, function, arguments */
#define RESULT 152	/* number, status, rax, rdx */
#define STACK 4088

/* Instructions that one call of the library lets the guest do. */
#define BUDGET 1000000u
/* Events that one instruction makes at most. */
#define QUEUE_SPARE 8u

/* Kinds whose answer lets the instruction go on: it is not told once more. */
#define GOES_ON (1u << HVMI_EVENT_REGISTER | 1u << HVMI_EVENT_MSR | 1u << HVMI_EVENT_DESCRIPTOR |  \
		 1u << HVMI_EVENT_GUEST_REQUEST | 1u << HVMI_EVENT_IO)

/* Kinds that an instruction causes before it is executed: one that is emulated does not any more. */
#define BY_INSTRUCTION (GOES_ON | 1u << HVMI_EVENT_ACCESS | 1u << HVMI_EVENT_CPUID)

static uint64_t *registers_of(struct sim *sim)
{
	return sim->vcpus[sim->probe->vcpu].values;
}

static struct run *busy_run(const struct sim_probe *probe)
{
	return &probe->runs[probe->vcpu];
}

static uint8_t *mailbox_at(struct sim *sim, uint64_t offset)
{
	uint64_t left;
	return sim_ram(sim, sim->probe->mailbox + offset, &left);
}

static uint64_t mailbox_get(struct sim *sim, uint64_t offset)
{
	uint64_t value;
	memcpy(&value, mailbox_at(sim, offset), sizeof(value));
	return value;
}

static void mailbox_set(struct sim *sim, uint64_t offset, uint64_t value)
{
	memcpy(mailbox_at(sim, offset), &value, sizeof(value));
}

void probe_snapshot(const struct sim_vcpu *vcpu, struct hvmi_registers *ret)
{
	for (uint32_t id = 1; id < HVMI_REGISTER_END; id++)
		if (vcpu->known[id])
			hvmi_registers_set(ret, id, vcpu->values[id]);
}

const struct hvmi_event_request *probe_request(const struct sim_probe *probe, uint32_t kind)
{
	for (size_t i = 0; i < probe->request_count; i++)
		if (probe->requests[i].kind == kind)
			return &probe->requests[i];
	return NULL;
}

bool probe_answered(const struct sim_probe *probe, uint32_t flags)
{
	return busy_run(probe)->pass.flags & flags;
}

int probe_tell(struct sim *sim, const struct hvmi_event_request *request, struct hvmi_event event)
{
	struct sim_probe *probe = sim->probe;
	struct run *run = busy_run(probe);
	if (run->pass.told >> event.kind & 1 ||
	    (run->pass.flags & HVMI_ANSWER_EMULATE && BY_INSTRUCTION >> event.kind & 1))
		return 0;
	struct queued *slot = &probe->queue[(probe->head + probe->queued) % PROBE_QUEUE];
	event.size = sizeof(event);
	event.vcpu = probe->vcpu;
	event.view = run->view;
	event.flags |= request->flags & HVMI_REQUEST_ASYNC ? 0 : HVMI_EVENT_WAITS;
	slot->event = event;
	memset(&slot->registers, 0, sizeof(slot->registers));
	probe_snapshot(&sim->vcpus[probe->vcpu], &slot->registers);
	probe->queued++;
	uint64_t one = 1;
	if (write(probe->fd, &one, sizeof(one)) != sizeof(one))
		sim->host->log(sim->host, HVMI_LOG_ERROR, "sim: the events' descriptor is broken");
	if (!(event.flags & HVMI_EVENT_WAITS))
		return 0;
	run->waits++;
	return 1;
}

static void finish(struct sim *sim, int64_t status)
{
	struct sim_probe *probe = sim->probe;
	mailbox_set(sim, RESULT + 8, (uint64_t)status);
	mailbox_set(sim, RESULT + 16, registers_of(sim)[HVMI_X86_RAX]);
	mailbox_set(sim, RESULT + 24, registers_of(sim)[HVMI_X86_RDX]);
	mailbox_set(sim, RESULT, probe->command);
	probe->busy = false;
}

static void start(struct sim *sim)
{
	static const uint32_t arguments[] = { HVMI_X86_RDI, HVMI_X86_RSI, HVMI_X86_RDX,
					      HVMI_X86_RCX, HVMI_X86_R8, HVMI_X86_R9 };
	struct sim_probe *probe = sim->probe;
	uint64_t number = mailbox_get(sim, COMMAND), what = mailbox_get(sim, COMMAND + 8);
	if (number == mailbox_get(sim, RESULT))
		return;
	probe->command = number;
	probe->vcpu = (uint32_t)(what >> 32);
	if (probe->vcpu >= sim->vcpu_count || (uint32_t)what - 1 > 1) {
		mailbox_set(sim, RESULT + 8,
			    (uint64_t)(probe->vcpu >= sim->vcpu_count ? -EINVAL : -ENOSYS));
		mailbox_set(sim, RESULT, number);
		return;
	}
	probe->busy = true;
	uint64_t *values = registers_of(sim);
	for (size_t i = 0; i < 6; i++)
		values[arguments[i]] = mailbox_get(sim, COMMAND + 24 + 8 * i);
	values[HVMI_X86_RIP] = mailbox_get(sim, COMMAND + 16);
	values[HVMI_X86_RSP] = probe->mailbox + STACK;
	values[HVMI_X86_RFLAGS] = 2;
	/* Nothing is executed at the mailbox: what returns there has ended. */
	mailbox_set(sim, STACK, probe->mailbox);
}

static void deliver_injection(struct sim *sim)
{
	struct run *run = busy_run(sim->probe);
	static const struct hvmi_event_request waits;
	/* Without one it is the timer that comes next. */
	struct hvmi_event event = { .kind = HVMI_EVENT_INTERRUPT, .vector = 0xec,
				    .gva = HVMI_NO_ADDRESS, .gpa = HVMI_NO_ADDRESS };
	bool confirm = run->confirm;
	run->confirm = false;
	if (run->inject) {
		event.vector = run->injection.vector;
		event.type = run->injection.type;
		event.error_code = run->injection.error_code;
		event.cr2 = run->injection.vector == 14 ? run->injection.cr2 : 0;
		run->inject = false;
		cpu_deliver(sim, run->injection.vector, run->injection.cr2);
	}
	if (confirm)
		probe_tell(sim, &waits, event);
}

/* 1: the vCPU waits. */
static int reach_breakpoint(struct sim *sim, uint64_t rip)
{
	for (size_t i = 0; i < sim->probe->request_count; i++) {
		const struct hvmi_event_request *r = &sim->probe->requests[i];
		uint64_t gpa;
		if (r->kind == HVMI_EVENT_BREAKPOINT && r->gva == rip &&
		    cpu_translate(sim, rip, &gpa))
			return probe_tell(sim, r, (struct hvmi_event){
				.kind = HVMI_EVENT_BREAKPOINT, .gva = rip, .gpa = gpa });
	}
	return 0;
}

static void executed(struct sim *sim)
{
	struct run *run = busy_run(sim->probe);
	bool emulated = run->pass.flags & HVMI_ANSWER_EMULATE;
	if (run->fast_step) {
		run->view = run->next_view;
		run->fast_step = false;
	}
	if (run->pass.turns >= PROBE_TURNS || run->pass.rip != registers_of(sim)[HVMI_X86_RIP])
		run->pass = (struct pass){ .rip = registers_of(sim)[HVMI_X86_RIP] };
	/* A step is one of the processor's. */
	if (!run->step || emulated)
		return;
	for (size_t i = 0; i < sim->probe->request_count; i++) {
		const struct hvmi_event_request *r = &sim->probe->requests[i];
		if (r->kind == HVMI_EVENT_STEP &&
		    (r->vcpu == HVMI_ALL_VCPUS || r->vcpu == sim->probe->vcpu)) {
			probe_tell(sim, r, (struct hvmi_event){
				.kind = HVMI_EVENT_STEP, .gva = HVMI_NO_ADDRESS,
				.gpa = HVMI_NO_ADDRESS });
			return;
		}
	}
}

static void unknown_instruction(struct sim *sim)
{
	struct run *run = busy_run(sim->probe);
	const struct hvmi_event_request *r = probe_request(sim->probe, HVMI_EVENT_UNIMPLEMENTED);
	if (r && run->pass.flags & HVMI_ANSWER_EMULATE) {
		run->pass.flags = 0;
		probe_tell(sim, r, (struct hvmi_event){ .kind = HVMI_EVENT_UNIMPLEMENTED,
							.gva = HVMI_NO_ADDRESS,
							.gpa = HVMI_NO_ADDRESS });
	} else {
		finish(sim, -ENOSYS);
	}
}

void probe_run(struct sim *sim)
{
	struct sim_probe *probe = sim->probe;
	if (!probe)
		return;
	for (uint32_t i = 0; i < BUDGET && !sim->paused; i++) {
		if (!probe->busy)
			start(sim);
		if (!probe->busy)
			return;
		struct run *run = busy_run(probe);
		uint64_t rip = registers_of(sim)[HVMI_X86_RIP];
		if (run->waits || probe->queued + QUEUE_SPARE > PROBE_QUEUE)
			return;
		if (rip == probe->mailbox) {
			finish(sim, 0);
			continue;
		}
		if (run->pass.rip != rip)
			run->pass = (struct pass){ .rip = rip };
		if (run->inject || run->confirm) {
			deliver_injection(sim);
			continue;
		}
		if (reach_breakpoint(sim, rip))
			return;
		switch (cpu_execute(sim)) {
		case CPU_DONE: executed(sim); break;
		case CPU_STOPPED: break;
		case CPU_FAULT: finish(sim, -EFAULT); break;
		case CPU_UNKNOWN: unknown_instruction(sim); break;
		}
	}
}

int probe_start(struct sim *sim)
{
	if (!sim->probe)
		return 0;
	sim->probe->runs = calloc(sim->vcpu_count ? sim->vcpu_count : 1, sizeof(struct run));
	if (!sim->probe->runs)
		return -ENOMEM;
	for (size_t i = 0; i < sim->vcpu_count; i++)
		for (uint32_t id = HVMI_X86_RAX; id <= HVMI_X86_RFLAGS; id++)
			sim->vcpus[i].known[id] = true;
	return 0;
}

static int no_probe(const struct sim *sim, struct hvmi_error *err)
{
	return sim->probe ? 0 : hvmi_error_set(err, -ENOTSUP, HVMI_NO_ADDRESS,
					       "sim: the script has no probe: add \"probe GPA\"");
}

int probe_capability(void *machine, uint32_t capability, struct hvmi_error *err)
{
	const struct sim *sim = machine;
	if (sim->lacks[capability / 64] >> capability % 64 & 1)
		return hvmi_error_set(err, -ENOTSUP, HVMI_NO_ADDRESS,
				      "sim: the script says that the machine lacks it");
	if (capability == HVMI_CAN_PAUSE || capability == HVMI_CAN_SET_REGISTERS)
		return 0;
	if (capability == HVMI_CAN_EVENT + HVMI_EVENT_INTERRUPT && sim->probe)
		return hvmi_error_set(err, -ENOTSUP, HVMI_NO_ADDRESS,
				      "sim: such events come in answer to HVMI_ANSWER_CONFIRM");
	if (capability == HVMI_CAN_PAGE_WALK_RIGHT ||
	    capability == HVMI_CAN_EVENT + HVMI_EVENT_EXIT)
		return hvmi_error_set(err, -ENOTSUP, HVMI_NO_ADDRESS,
				      "sim: no simulated vCPU does that");
	return no_probe(sim, err);
}

int probe_inject(void *machine, uint32_t vcpu, const struct hvmi_injection *injection,
		 struct hvmi_error *err)
{
	struct sim *sim = machine;
	int r = no_probe(sim, err);
	if (r)
		return r;
	struct run *run = &sim->probe->runs[vcpu];
	if (run->inject)
		return hvmi_error_set(err, -EBUSY, HVMI_NO_ADDRESS,
				      "sim: vCPU %u has an injection waiting", vcpu);
	run->inject = true;
	run->injection = *injection;
	return 0;
}

int probe_events_open(void *machine, uint32_t flags, int *fd_ret, struct hvmi_error *err)
{
	struct sim *sim = machine;
	(void)flags;
	int r = no_probe(sim, err);
	if (r)
		return r;
	sim->probe->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (sim->probe->fd < 0)
		return hvmi_error_set(err, -ENOMEM, HVMI_NO_ADDRESS,
				      "sim: no descriptor is left for events");
	sim->probe->open = true;
	*fd_ret = sim->probe->fd;
	return 0;
}

void probe_events_close(void *machine)
{
	struct sim *sim = machine;
	struct sim_probe *probe = sim->probe;
	if (!probe || !probe->open)
		return;
	probe->open = false;
	close(probe->fd);
	free(probe->requests);
	probe->requests = NULL;
	probe->request_count = probe->head = probe->queued = 0;
	for (size_t i = 0; i < sim->vcpu_count; i++) {
		struct run *run = &probe->runs[i];
		struct run left = { .inject = run->inject, .injection = run->injection };
		memcpy(left.xmm, run->xmm, sizeof(left.xmm));
		*run = left;
	}
	views_free(probe);
	probe_run(sim);
}

int probe_event_request(void *machine, const struct hvmi_event_request *request,
			struct hvmi_error *err)
{
	struct sim_probe *probe = ((struct sim *)machine)->probe;
	struct hvmi_event_request *grown =
		realloc(probe->requests, (probe->request_count + 1) * sizeof(*grown));
	if (!grown)
		return hvmi_error_set(err, -ENOMEM, HVMI_NO_ADDRESS, "sim: out of memory");
	probe->requests = grown;
	grown[probe->request_count++] = *request;
	return 0;
}

static bool same_request(const struct hvmi_event_request *a, const struct hvmi_event_request *b)
{
	return a->kind == b->kind && a->vcpu == b->vcpu && a->reg == b->reg && a->msr == b->msr &&
	       a->gva == b->gva && a->len == b->len && a->access == b->access;
}

int probe_event_cancel(void *machine, const struct hvmi_event_request *request,
		       struct hvmi_error *err)
{
	struct sim_probe *probe = ((struct sim *)machine)->probe;
	for (size_t i = 0; i < probe->request_count; i++) {
		if (!same_request(&probe->requests[i], request))
			continue;
		probe->requests[i] = probe->requests[--probe->request_count];
		if (request->kind == HVMI_EVENT_STEP)
			for (size_t n = 0; n < ((struct sim *)machine)->vcpu_count; n++)
				if (request->vcpu == HVMI_ALL_VCPUS || request->vcpu == n)
					probe->runs[n].step = false;
		return 0;
	}
	return hvmi_error_set(err, -ENOENT, HVMI_NO_ADDRESS, "sim: there is no such request");
}

int probe_event_next(void *machine, struct hvmi_event *event, struct hvmi_registers *registers,
		     struct hvmi_error *err)
{
	struct sim *sim = machine;
	struct sim_probe *probe = sim->probe;
	(void)err;
	if (!probe->queued)
		probe_run(sim);
	if (!probe->queued)
		return 0;
	*event = probe->queue[probe->head].event;
	*registers = probe->queue[probe->head].registers;
	probe->head = (probe->head + 1) % PROBE_QUEUE;
	uint64_t count;
	if (--probe->queued == 0 && read(probe->fd, &count, sizeof(count)) < 0)
		sim->host->log(sim->host, HVMI_LOG_ERROR, "sim: the events' descriptor is broken");
	return 1;
}

static int check_answer(struct sim_probe *probe, uint32_t vcpu, const struct hvmi_answer *answer,
			struct hvmi_error *err)
{
	const uint32_t views = HVMI_ANSWER_VIEW | HVMI_ANSWER_FAST_STEP;
	if (answer->flags & views &&
	    (answer->view >= PROBE_VIEWS_MAX || (answer->view && !probe->views[answer->view].used)))
		return hvmi_error_set(err, -EINVAL, HVMI_NO_ADDRESS, "sim: there is no view %u",
				      answer->view);
	if (answer->flags & HVMI_ANSWER_STEP && !probe_request(probe, HVMI_EVENT_STEP))
		return hvmi_error_set(err, -EINVAL, HVMI_NO_ADDRESS,
				      "sim: HVMI_EVENT_STEP must be requested before");
	if (answer->flags & HVMI_ANSWER_INJECT && probe->runs[vcpu].inject)
		return hvmi_error_set(err, -EBUSY, HVMI_NO_ADDRESS,
				      "sim: vCPU %u has an injection waiting", vcpu);
	return 0;
}

static void goes_on(struct run *run, const struct hvmi_answer *a)
{
	if (a->flags & HVMI_ANSWER_VIEW)
		run->view = a->view;
	if (a->flags & HVMI_ANSWER_FAST_STEP) {
		run->view = HVMI_VIEW_HOST;
		run->next_view = a->view;
		run->fast_step = true;
	}
	if (a->flags & HVMI_ANSWER_STEP)
		run->step = true;
	if (a->flags & HVMI_ANSWER_STEP_OFF)
		run->step = false;
	if (a->flags & HVMI_ANSWER_INJECT) {
		run->inject = true;
		run->injection = *a->injection;
	}
	if (a->flags & HVMI_ANSWER_CONFIRM)
		run->confirm = true;
}

int probe_event_answer(void *machine, const struct hvmi_event *event,
		       const struct hvmi_answer *answer, struct hvmi_error *err)
{
	struct sim *sim = machine;
	struct run *run = &sim->probe->runs[event->vcpu];
	struct sim_vcpu *vcpu = &sim->vcpus[event->vcpu];
	int r = check_answer(sim->probe, event->vcpu, answer, err);
	if (r)
		return r;
	run->waits--;
	goes_on(run, answer);
	for (uint32_t id = 1; answer->flags & HVMI_ANSWER_REGISTERS && id < HVMI_REGISTER_END; id++)
		if (hvmi_registers_known(answer->registers, id))
			vcpu->values[id] = answer->registers->values[id];
	uint64_t rip = vcpu->values[HVMI_X86_RIP];
	if (run->pass.rip != rip)
		run->pass = (struct pass){ .rip = rip };
	/* An access that is allowed by now is made by the processor. */
	uint32_t flags = answer->flags, rights;
	if (event->kind == HVMI_EVENT_ACCESS && !(flags & HVMI_ANSWER_INSN_DATA) &&
	    probe_rights(sim, event->vcpu, event->gpa, &rights) &&
	    (rights & event->access) == event->access)
		flags &= ~(HVMI_ANSWER_EMULATE | HVMI_ANSWER_EMULATE_NO_WRITE |
			   HVMI_ANSWER_READ_DATA);
	/* What an answer says of the instruction is for where it was asked. */
	uint64_t asked;
	if (hvmi_registers_get(event->registers, HVMI_X86_RIP, &asked) == 0 && asked == rip) {
		bool by_address = event->kind == HVMI_EVENT_BREAKPOINT && !event->insn_length;
		if (by_address || GOES_ON >> event->kind & 1)
			run->pass.told |= 1u << event->kind;
		run->pass.flags = flags;
		run->pass.data_len = 0;
		if (flags & (HVMI_ANSWER_READ_DATA | HVMI_ANSWER_INSN_DATA)) {
			memcpy(run->pass.data, answer->data, answer->data_len);
			run->pass.data_len = answer->data_len;
		}
	}
	/* The trap of a step of the guest's own is behind its instruction. */
	if (event->kind == HVMI_EVENT_DEBUG && event->pending_debug) {
		run->pass.flags = 0;
		if (answer->flags & HVMI_ANSWER_REINJECT)
			cpu_deliver(sim, 1, 0);
	}
	probe_run(sim);
	return 0;
}

void probe_free(struct sim *sim)
{
	if (!sim->probe)
		return;
	probe_events_close(sim);
	views_free(sim->probe);
	free(sim->probe->runs);
	free(sim->probe);
	sim->probe = NULL;
}
