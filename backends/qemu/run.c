/* SPDX-License-Identifier: Apache-2.0 */
#include "run.h"

#include "events.h"

static bool held(const struct qemu *q)
{
	return q->paused || q->others_paused || (q->events && q->events->waiting);
}

/* How long a vCPU that is stepped by itself may take before one looks what it does. */
#define STEP_MS 200
#define STEP_TRIES 25
/* Iterations of a string instruction that are stepped over at once. */
#define REPEATS_MAX 4096

void run_note_rip(struct qemu *q, uint32_t vcpu, const struct hvmi_registers *registers)
{
	struct qemu_vcpu *v = &q->vcpus[vcpu];
	v->rip_known = !hvmi_registers_get(registers, HVMI_X86_RIP, &v->rip);
}

/* Steps of vCPUs that ended together with what was told. */
static int finish_steps(struct qemu *q, uint32_t told, struct hvmi_error *err)
{
	for (uint32_t i = 0; q->events && i < q->vcpu_count; i++) {
		struct qemu_vcpu *v = &q->vcpus[i];
		struct hvmi_registers registers = { 0 };
		uint64_t rip = v->rip;
		if (i == told || !v->stepping || !v->rip_known)
			continue;
		int rc = stub_get(q->stub, i, &registers, err);
		if (rc)
			return rc;
		run_note_rip(q, i, &registers);
		if (v->rip_known && v->rip != rip)
			events_stepped(q, i, &registers);
	}
	return 0;
}

/* Whether [at, ...) is a string instruction with a prefix that repeats it. */
static bool repeats(const uint8_t *insn, size_t len)
{
	bool prefix = false;
	for (size_t i = 0; i < len; i++) {
		uint8_t b = insn[i];
		if (b == 0xf2 || b == 0xf3)
			prefix = true;
		else if (b == 0x66 || b == 0x67 || b == 0x2e || b == 0x36 || b == 0x3e || b == 0x26 ||
			 b == 0x64 || b == 0x65 || (b >= 0x40 && b <= 0x4f))
			continue;
		else
			return prefix && ((b >= 0x6c && b <= 0x6f) || (b >= 0xa4 && b <= 0xa7) ||
					  (b >= 0xaa && b <= 0xaf));
	}
	return false;
}

/*
 * QEMU ends a step for the APIC's sake too, before anything was executed. What leads to itself is a
 * string instruction, or it is believed after a while.
 */
static bool empty_step(struct qemu *q, uint32_t vcpu, const struct rsp_stop *stop, uint64_t from)
{
	struct qemu_vcpu *v = &q->vcpus[vcpu];
	uint8_t insn[15];
	if (stop->watch || !v->rip_known || v->rip != from ||
	    (!stub_read_virtual(q->stub, from, insn, sizeof(insn)) && repeats(insn, sizeof(insn))))
		v->empty_steps = 0;
	else
		v->empty_steps = (v->empty_steps + 1) % STEP_TRIES;
	return v->empty_steps;
}

/* All vCPUs stopped: say what happened. @p asked: we wanted that. */
static int stopped(struct qemu *q, const struct rsp_stop *stop, bool asked, struct hvmi_error *err)
{
	stub_stopped(q->stub, stop);
	if (stop->signal != 5) {
		if (!asked && !q->others_paused) {
			q->others_paused = true;
			q->host->log(q->host, HVMI_LOG_INFO, "%s was paused by another program",
				     q->name);
		}
		return finish_steps(q, UINT32_MAX, err);
	}
	uint32_t vcpu = stub_vcpu(q->stub, stop);
	struct hvmi_registers registers = { 0 };
	int rc = stub_get(q->stub, vcpu, &registers, err);
	if (rc)
		return rc;
	const uint64_t from = q->vcpus[vcpu].rip;
	bool stepped = q->vcpus[vcpu].stepping && q->vcpus[vcpu].rip_known;
	run_note_rip(q, vcpu, &registers);
	bool empty = stepped && q->events && empty_step(q, vcpu, stop, from);
	/* What nobody asked for would stop it there again and again. */
	if (!empty && (!q->events || !events_trapped(q, vcpu, stop, &registers)) &&
	    q->vcpus[vcpu].rip_known)
		stub_point(q->stub, false, q->tcg ? '0' : '1', q->vcpus[vcpu].rip, 1, NULL);
	return finish_steps(q, vcpu, err);
}

/* Others may have resumed what they, or we, had stopped. */
static int sync_others(struct qemu *q, struct hvmi_error *err)
{
	bool told = q->monitor.saw == MONITOR_SAW_RESUME;
	q->monitor.saw = 0;
	if ((!q->others_paused && !told) || (q->stub && q->stub->running))
		return 0;
	enum monitor_status status;
	int rc = monitor_status(&q->monitor, &status, err);
	if (rc || status != MONITOR_RUNS)
		return rc;
	q->others_paused = false;
	if (q->stub && !q->stub->running) {
		/* The stub tells of stops only to who continued through it. */
		struct rsp_stop stop;
		q->stub->running = true;
		rc = stub_interrupt(q->stub, &stop, err);
		if (!rc)
			rc = stopped(q, &stop, true, err);
		if (!rc)
			rc = run_release(q, err);
	} else if (q->paused) {
		rc = monitor_command(&q->monitor, "stop", NULL, NULL, err);
	}
	return rc;
}

int run_pump(struct qemu *q, struct hvmi_error *err)
{
	int rc = monitor_drain(&q->monitor);
	if (rc)
		return rc == -ESRCH ? monitor_gone(&q->monitor, err) :
				      hvmi_error_set(err, rc, HVMI_NO_ADDRESS,
						     "QEMU's news cannot be taken");
	bool any = false;
	while (q->stub) {
		struct rsp_stop stop;
		rc = rsp_wait_stop(&q->stub->rsp, 0, &stop);
		if (rc < 0)
			return stub_failed(q->stub, rc, "tell of stops", err);
		if (rc == 0)
			break;
		if (!q->stub->running)
			continue;
		any = true;
		rc = stopped(q, &stop, false, err);
		/* It may be nobody's, such as of a breakpoint that has just gone. */
		if (!rc)
			rc = run_release(q, err);
		if (rc)
			return rc;
	}
	/* QEMU tells of a stop in both places, here first. */
	return any ? 0 : sync_others(q, err);
}

int run_hold(struct qemu *q, struct hvmi_error *err)
{
	if (q->stub) {
		int rc = run_pump(q, err);
		struct rsp_stop stop;
		if (!rc && q->stub->running) {
			rc = stub_interrupt(q->stub, &stop, err);
			if (!rc)
				rc = stopped(q, &stop, true, err);
		}
		return rc;
	}
	int rc = sync_others(q, err);
	if (rc || held(q))
		return rc;
	enum monitor_status status;
	rc = monitor_status(&q->monitor, &status, err);
	if (rc)
		return rc;
	q->others_paused = status != MONITOR_RUNS;
	return q->others_paused ? 0 : monitor_command(&q->monitor, "stop", NULL, NULL, err);
}

int run_hold_stub(struct qemu *q, bool take_over, struct hvmi_error *err)
{
	/* Connecting stops it anyway. */
	int rc = run_hold(q, err);
	if (rc || q->stub)
		return rc;
	enum monitor_status status;
	rc = monitor_status(&q->monitor, &status, err);
	if (!rc)
		rc = stub_open(&q->stub, &q->monitor, q->cpu_index, q->vcpu_count, take_over, err);
	/* If it stood for a debugger, that one is gone: it was killed, or we took over. */
	if (!rc && status == MONITOR_TRAPPED)
		q->others_paused = false;
	if (rc)
		run_release(q, NULL);
	return rc;
}

/* One step of one vCPU: 1: it ended; 0: it did not, though it had its time. */
static int step_once(struct qemu *q, uint32_t vcpu, struct rsp_stop *stop, struct hvmi_error *err)
{
	int rc = stub_step(q->stub, vcpu, err);
	if (rc)
		return rc;
	rc = rsp_wait_stop(&q->stub->rsp, STEP_MS, stop);
	if (rc < 0)
		return stub_failed(q->stub, rc, "step", err);
	if (rc == 1) {
		stub_stopped(q->stub, stop);
		q->others_paused |= stop->signal != 5;
		return stop->signal == 5;
	}
	/* A HLT: it is executed, and the vCPU waits for an interrupt. */
	rc = stub_interrupt(q->stub, stop, err);
	return rc ? rc : stop->signal == 5;
}

/* Have a vCPU execute the instruction at the breakpoint where it stands; the others stand, too. */
static int step_over(struct qemu *q, uint32_t vcpu, struct hvmi_error *err)
{
	struct qemu_vcpu *v = &q->vcpus[vcpu];
	const struct qemu_point *p = events_breakpoint_at(q, v->standing_at);
	v->standing = false;
	if (!p || !v->rip_known || v->rip != v->standing_at)
		return 0;
	const uint64_t from = v->rip;
	const char type = p->type;
	int rc = stub_point(q->stub, false, type, from, 1, err);
	if (rc)
		return rc;
	struct rsp_stop stop = { 0 };
	struct hvmi_registers registers = { 0 };
	int repeat = 0, tries = 0;
	do {
		int ended = step_once(q, vcpu, &stop, err);
		rc = ended < 0 ? ended : stub_get(q->stub, vcpu, &registers, err);
		if (rc)
			break;
		run_note_rip(q, vcpu, &registers);
		if ((!ended || empty_step(q, vcpu, &stop, from)) && ++tries < STEP_TRIES)
			continue;
		if (!ended || stop.watch)
			break;
	} while (v->rip == from && ++repeat < REPEATS_MAX);
	if (rc)
		return rc;
	if (tries == STEP_TRIES)
		q->host->log(q->host, HVMI_LOG_WARNING,
			     "vCPU %u does not get over the breakpoint at %#llx", vcpu,
			     (unsigned long long)from);
	rc = stub_point(q->stub, true, type, from, 1, err);
	if (!rc && stop.watch)
		events_trapped(q, vcpu, &stop, &registers);
	else if (!rc && v->stepping)
		events_stepped(q, vcpu, &registers);
	return rc;
}

/*
 * A vCPU that was being stepped when another one stopped, and is not to be stepped any more: QEMU
 * would stop it behind its next instruction, and would not heed a breakpoint there.
 */
static int disarm(struct qemu *q, uint32_t vcpu, struct hvmi_error *err)
{
	struct hvmi_registers registers = { 0 };
	struct rsp_stop stop;
	int rc = stub_get(q->stub, vcpu, &registers, err);
	if (rc)
		return rc;
	run_note_rip(q, vcpu, &registers);
	if (events_reached(q, vcpu, &registers))
		return 0;
	rc = step_once(q, vcpu, &stop, err);
	if (rc >= 0 && stop.watch)
		rc = stub_get(q->stub, vcpu, &registers, err);
	if (rc >= 0 && stop.watch && q->events)
		events_trapped(q, vcpu, &stop, &registers);
	return rc < 0 ? rc : 0;
}

static int go_on(struct qemu *q, struct hvmi_error *err)
{
	uint32_t stepping = 0, chosen = 0;
	for (uint32_t i = 0; i < q->vcpu_count; i++) {
		int rc = 0;
		if (q->vcpus[i].standing)
			rc = step_over(q, i, err);
		if (!rc && q->stub->armed[i] && !q->vcpus[i].stepping)
			rc = disarm(q, i, err);
		if (rc)
			return rc;
		stepping += q->vcpus[i].stepping;
	}
	if (held(q))
		return 0;
	if (!stepping)
		return stub_run(q->stub, NULL, err);
	/* One at a time: of several that stop together, QEMU tells one. */
	struct qemu_events *e = q->events;
	for (uint32_t i = 1; i <= q->vcpu_count; i++) {
		chosen = (e->turn + i) % q->vcpu_count;
		if (q->vcpus[chosen].stepping)
			break;
	}
	e->turn = chosen;
	char actions[QEMU_VCPUS_MAX];
	for (uint32_t i = 0; i < q->vcpu_count; i++) {
		q->vcpus[i].rip_known &= q->vcpus[i].stepping;
		actions[i] = !q->vcpus[i].stepping ? 'c' : i == chosen ? 's' : '\0';
	}
	if (stepping > 1)
		events_start_turn(q);
	return stub_run(q->stub, actions, err);
}

int run_release(struct qemu *q, struct hvmi_error *err)
{
	if (held(q))
		return 0;
	if (!q->stub)
		return monitor_command(&q->monitor, "cont", NULL, NULL, err);
	return q->stub->running ? 0 : go_on(q, err);
}

void run_drop_stub(struct qemu *q)
{
	if (!q->stub)
		return;
	int rc = run_hold(q, NULL);
	for (uint32_t i = 0; i < q->vcpu_count; i++) {
		q->vcpus[i] = (struct qemu_vcpu){ 0 };
		if (!rc && q->stub->armed[i])
			rc = disarm(q, i, NULL);
	}
	stub_close(q->stub);
	q->stub = NULL;
	if (!rc)
		run_release(q, NULL);
}
