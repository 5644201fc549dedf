/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>

#include "hmp.h"
#include "run.h"

/* Bits of RFLAGS that are there: Intel SDM volume 1, 3.4.3. */
#define RFLAGS_BITS 0x3f7fd5ull

/* What the human monitor prints, of a vCPU that may be running. */
static int get_printed(struct qemu *q, uint32_t vcpu, struct hvmi_registers *ret,
		       struct hvmi_error *err)
{
	char *text;
	int rc = monitor_hmp(&q->monitor, q->cpu_index[vcpu], "info registers", &text, err);
	if (rc)
		return rc;
	if (q->arch == HVMI_ARCH_X86)
		hmp_registers_x86(text, ret);
	free(text);
	return 0;
}

static int get_all(struct qemu *q, uint32_t vcpu, struct hvmi_registers *ret,
		   struct hvmi_error *err)
{
	int rc = get_printed(q, vcpu, ret, err);
	if (rc || !q->stub || q->stub->running)
		return rc;
	struct hvmi_registers more = { 0 };
	rc = stub_get(q->stub, vcpu, &more, err);
	for (uint32_t id = 0; !rc && id < HVMI_REGISTERS_MAX; id++) {
		/* In 32-bit code the stub has zeros for them. */
		bool hidden = id >= HVMI_X86_R8 && id <= HVMI_X86_R15 &&
			      !hvmi_registers_known(ret, id);
		if (hvmi_registers_known(&more, id) && !hidden)
			hvmi_registers_set(ret, id, more.values[id]);
	}
	return rc;
}

int qemu_get_registers(void *machine, uint32_t vcpu, struct hvmi_registers *ret,
		       struct hvmi_error *err)
{
	struct qemu *q = machine;
	pthread_mutex_lock(&q->lock);
	int rc = get_all(q, vcpu, ret, err);
	pthread_mutex_unlock(&q->lock);
	return rc;
}

static bool same(uint32_t id, uint64_t a, uint64_t b)
{
	return !((a ^ b) & (id == HVMI_X86_RFLAGS ? RFLAGS_BITS : UINT64_MAX));
}

/* Which of @p values differ from what is: -ENOTSUP if one of those cannot be set. */
static int find_changes(struct qemu *q, uint32_t vcpu, const struct hvmi_registers *old,
			const struct hvmi_registers *values, struct hvmi_registers *changes,
			struct hvmi_error *err)
{
	struct hvmi_registers printed = { 0 };
	bool have_printed = false;
	for (uint32_t id = 0; id < HVMI_REGISTERS_MAX; id++) {
		if (!hvmi_registers_known(values, id))
			continue;
		if (hvmi_registers_known(old, id)) {
			if (!same(id, old->values[id], values->values[id]))
				hvmi_registers_set(changes, id, values->values[id]);
			continue;
		}
		int rc = have_printed ? 0 : get_printed(q, vcpu, &printed, err);
		if (rc)
			return rc;
		have_printed = true;
		if (!hvmi_registers_known(&printed, id) ||
		    printed.values[id] != values->values[id]) {
			const char *name = hvmi_register_name(id);
			return hvmi_error_set(err, -ENOTSUP, HVMI_NO_ADDRESS,
					      "QEMU's gdbstub cannot set %s",
					      name ? name : "that register");
		}
	}
	return 0;
}

static int set_changes(struct qemu *q, uint32_t vcpu, const struct hvmi_registers *values,
		       const struct hvmi_registers *from, struct hvmi_error *err)
{
	for (uint32_t id = 0; id < HVMI_REGISTERS_MAX; id++) {
		if (!hvmi_registers_known(values, id))
			continue;
		int rc = stub_set(q->stub, vcpu, id, from->values[id], err);
		if (rc)
			return rc;
	}
	return 0;
}

int qemu_set_held(struct qemu *q, uint32_t vcpu, const struct hvmi_registers *values,
		  struct hvmi_error *err)
{
	struct hvmi_registers old = { 0 }, changes = { 0 }, now = { 0 };
	int rc = stub_get(q->stub, vcpu, &old, err);
	if (!rc)
		rc = find_changes(q, vcpu, &old, values, &changes, err);
	if (!rc)
		rc = set_changes(q, vcpu, &changes, &changes, err);
	if (!rc)
		rc = stub_get(q->stub, vcpu, &now, err);
	/* The stub says OK to what it does not do. */
	for (uint32_t id = 0; !rc && id < HVMI_REGISTERS_MAX; id++)
		if (hvmi_registers_known(&changes, id) &&
		    !same(id, now.values[id], changes.values[id]))
			rc = hvmi_error_set(err, -ENOTSUP, HVMI_NO_ADDRESS,
					    "QEMU does not take %#llx for %s",
					    (unsigned long long)changes.values[id],
					    hvmi_register_name(id));
	if (rc && rc != -ESRCH)
		set_changes(q, vcpu, &changes, &old, NULL);
	if (!rc)
		run_note_rip(q, vcpu, &now);
	return rc;
}

int qemu_set_registers(void *machine, uint32_t vcpu, const struct hvmi_registers *values,
		       struct hvmi_error *err)
{
	struct qemu *q = machine;
	pthread_mutex_lock(&q->lock);
	int rc = run_hold_stub(q, false, err);
	if (!rc) {
		rc = qemu_set_held(q, vcpu, values, err);
		int release_rc = run_release(q, rc ? NULL : err);
		rc = rc ? rc : release_rc;
	}
	pthread_mutex_unlock(&q->lock);
	return rc;
}
