/* SPDX-License-Identifier: Apache-2.0 */
/* What a vCPU sees: its space, its instruction, and whether it is one that a hook is about. */
#include "hook/hook.h"

#include "space/space.h"

int cpu_space(struct turn *turn, struct hvmi_space **ret, struct hvmi_error *err)
{
	struct hvmi_hooks *hooks = turn->hooks;
	struct hvmi_space_config config;
	int rc = space_config_of_vcpu(hooks->vm, turn->event->vcpu, turn->event->registers, &config,
				      err);
	if (rc)
		return rc;
	config.root = root_of(config.root, config.paging);
	config.flags |= HVMI_SPACE_UNCACHED;
	for (uint32_t i = 0; i < CPU_SPACES; i++) {
		struct cpu_space *s = &hooks->cpu_spaces[i];
		if (s->space && memcmp(&s->config, &config, sizeof(config)) == 0) {
			*ret = s->space;
			return 0;
		}
	}
	struct hvmi_space *space;
	rc = hvmi_space_create(hooks->vm, &config, &space, err);
	if (rc)
		return rc;
	struct cpu_space *s = &hooks->cpu_spaces[hooks->next_cpu_space++ % CPU_SPACES];
	hvmi_space_destroy(s->space);
	*s = (struct cpu_space){ .config = config, .space = space };
	*ret = space;
	return 0;
}

int clean_read(struct hvmi_hooks *hooks, struct hvmi_space *space, uint64_t gva, void *buf, size_t len,
	       size_t *done_ret)
{
	uint8_t *bytes = buf;
	int rc = hvmi_space_read(space, gva, buf, len, done_ret);
	/* Hidden ones are in another frame. */
	for (size_t i = 0; hooks->tables[PLACE_INT3].count && i < *done_ret; i++) {
		uint64_t gpa;
		if (bytes[i] != INT3 || hvmi_space_translate(space, gva + i, &gpa))
			continue;
		const struct place *place = place_find(hooks, PLACE_INT3, gpa);
		if (place && place->placed && !place->hidden && !place->away)
			bytes[i] = place->original;
	}
	return rc;
}

/* How it decodes. Some machines leave out of their events what that takes, and tell it when asked. */
static int mode_of(struct turn *turn, uint32_t *ret, uint64_t *cs_base_ret, struct hvmi_error *err)
{
	const struct hvmi_registers *told = turn->event->registers;
	struct hvmi_registers now = { .known = { 0 } };
	*cs_base_ret = 0;
	int rc = hvmi_insn_mode(told, ret, err);
	if (rc == -ENOTSUP &&
	    hvmi_vm_get_registers(turn->hooks->vm, turn->event->vcpu, &now, NULL) == 0) {
		rc = hvmi_insn_mode(&now, ret, err);
		told = &now;
	}
	if (!rc && *ret != HVMI_INSN_X86_64)
		hvmi_registers_get(told, HVMI_X86_CS_BASE, cs_base_ret);
	return rc;
}

static int decode(struct turn *turn, struct hvmi_error *err)
{
	uint8_t bytes[HVMI_INSN_BYTES];
	size_t done = 0;
	uint32_t mode;
	struct hvmi_space *space;
	if (!turn->rip_known)
		return hvmi_error_set(err, -ENOTSUP, HVMI_NO_ADDRESS,
				      "where the vCPU stands is not known");
	uint64_t cs;
	int rc = mode_of(turn, &mode, &cs, err);
	if (!rc)
		rc = cpu_space(turn, &space, err);
	if (rc)
		return rc;
	uint64_t gva = mode == HVMI_INSN_X86_64 ? turn->rip : (uint32_t)(cs + turn->rip);
	rc = clean_read(turn->hooks, space, gva, bytes, sizeof(bytes), &done);
	if (!done)
		return hvmi_error_set(err, rc, gva, "the instruction at 0x%llx cannot be read",
				      (unsigned long long)gva);
	turn->insn.size = sizeof(turn->insn);
	return hvmi_insn_decode(mode, gva, bytes, done, &turn->insn, err);
}

int turn_insn(struct turn *turn, const struct hvmi_insn **ret, struct hvmi_error *err)
{
	if (turn->insn_rc > 0)
		turn->insn_rc = decode(turn, &turn->insn_err);
	if (turn->insn_rc && err)
		*err = turn->insn_err;
	if (!turn->insn_rc)
		*ret = &turn->insn;
	return turn->insn_rc;
}

bool turn_lies_in(struct turn *turn, const struct place *page)
{
	const struct hvmi_insn *insn;
	struct hvmi_space *space;
	bool known = turn_insn(turn, &insn, NULL) == 0;
	uint64_t first = known ? insn->gva : turn->rip, gpa;
	uint64_t last = first + (known ? insn->len : HVMI_INSN_BYTES) - 1;
	if (cpu_space(turn, &space, NULL))
		return true;
	return (hvmi_space_translate(space, first, &gpa) == 0 && gpa - page->key < FRAME_SIZE) ||
	       (hvmi_space_translate(space, last, &gpa) == 0 && gpa - page->key < FRAME_SIZE);
}

bool hook_reached(struct turn *turn, const struct hot *hot, bool by_gva)
{
	const struct hvmi_hook *hook = hot->hook;
	uint64_t root, mine, theirs;
	struct hvmi_space *space;
	if (!hot->space || hot->space->config.paging == HVMI_PAGING_NONE)
		return true;
	bool known = hvmi_registers_get(turn->event->registers, HVMI_X86_CR3, &root) == 0;
	root = known ? root_of(root, hot->space->config.paging) : 0;
	if (known && root == hot->space->root)
		return true;
	if (hot->flags & HVMI_HOOK_ONLY_SPACE)
		return known && hook->other_root && root == hook->other_root;
	/* A place found by its gpa is that memory, whatever the space. */
	if (!by_gva)
		return true;
	return hvmi_space_translate(hot->space->space, hook->address, &mine) == 0 &&
	       cpu_space(turn, &space, NULL) == 0 &&
	       hvmi_space_translate(space, hook->address, &theirs) == 0 && mine == theirs;
}

HVMI_API int hvmi_hook_event_insn(const struct hvmi_hook_event *event, struct hvmi_insn *ret,
				  struct hvmi_error *err)
{
	const struct hvmi_insn *insn;
	struct turn *turn = event->hooks->turn;
	if (!turn)
		return hvmi_error_set(err, -EINVAL, HVMI_NO_ADDRESS, "the event is over");
	if (event->flags & HVMI_HOOK_EVENT_DONE)
		return hvmi_error_set(err, -ENOTSUP, HVMI_NO_ADDRESS,
				      "the instruction has been executed: where it began is not known");
	int rc = turn_insn(turn, &insn, err);
	return rc ? rc : result_copy(ret, insn, sizeof(*insn));
}

HVMI_API int hvmi_hook_event_space(const struct hvmi_hook_event *event, struct hvmi_space **ret,
				   struct hvmi_error *err)
{
	if (!event->hooks->turn)
		return hvmi_error_set(err, -EINVAL, HVMI_NO_ADDRESS, "the event is over");
	return cpu_space(event->hooks->turn, ret, err);
}
