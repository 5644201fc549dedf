/* SPDX-License-Identifier: Apache-2.0 */
/* Which mechanism serves a request: the one table of it. docs/hooks.md shows what comes of it. */
#include "hook/hook.h"

static const char *const kind_names[HVMI_HOOK_KIND_END] = {
	[HVMI_HOOK_EXECUTE] = "execute", [HVMI_HOOK_ACCESS] = "access",
	[HVMI_HOOK_REGISTER] = "register", [HVMI_HOOK_MSR] = "msr",
	[HVMI_HOOK_DESCRIPTOR] = "descriptor", [HVMI_HOOK_CPUID] = "cpuid",
	[HVMI_HOOK_GUEST_REQUEST] = "guest request", [HVMI_HOOK_BREAKPOINT] = "breakpoint",
	[HVMI_HOOK_DEBUG] = "debug", [HVMI_HOOK_PROCESS_SWITCH] = "process switch",
};

static const char *const mechanism_names[HVMI_MECHANISM_END] = {
	[HVMI_MECHANISM_BREAKPOINT] = "breakpoint by address",
	[HVMI_MECHANISM_HIDDEN_INT3] = "hidden int3", [HVMI_MECHANISM_INT3] = "int3",
	[HVMI_MECHANISM_PAGE] = "page rights", [HVMI_MECHANISM_WATCHPOINT] = "watchpoint",
	[HVMI_MECHANISM_EVENT] = "event", [HVMI_MECHANISM_CLOAKED_INT3] = "cloaked int3",
};

static const char *const step_over_names[HVMI_STEP_OVER_END] = {
	[HVMI_STEP_OVER_ANSWER] = "answer", [HVMI_STEP_OVER_FAST] = "fast step",
	[HVMI_STEP_OVER_VIEW] = "step in view 0", [HVMI_STEP_OVER_EMULATE] = "emulation",
	[HVMI_STEP_OVER_RESTORE] = "restore and step",
	[HVMI_STEP_OVER_TRAP_FLAG] = "restore and TF",
};

HVMI_API const char *hvmi_hook_kind_name(uint32_t kind)
{
	return kind < HVMI_HOOK_KIND_END ? kind_names[kind] : NULL;
}

HVMI_API const char *hvmi_hook_mechanism_name(uint32_t mechanism)
{
	return mechanism < HVMI_MECHANISM_END ? mechanism_names[mechanism] : NULL;
}

HVMI_API const char *hvmi_step_over_name(uint32_t step_over)
{
	return step_over < HVMI_STEP_OVER_END ? step_over_names[step_over] : NULL;
}

/* Abilities and what a machine is asked for them; those of several are there if all are. */
static const struct {
	uint32_t ability, capability;
} asked[] = {
	{ CAN_BREAKPOINTS, HVMI_CAN_BREAKPOINTS },
	{ CAN_INT3, HVMI_CAN_INT3 },
	{ CAN_VIEWS, HVMI_CAN_VIEWS },
	{ CAN_VIEWS, HVMI_CAN_REMAP },
	{ CAN_VIEWS, HVMI_CAN_PAGES },
	{ CAN_ACCESS, HVMI_CAN_EVENT + HVMI_EVENT_ACCESS },
	{ CAN_STEP, HVMI_CAN_EVENT + HVMI_EVENT_STEP },
	{ CAN_FAST_STEP, HVMI_CAN_FAST_STEP },
	{ CAN_EMULATE, HVMI_CAN_EMULATE },
	{ CAN_EMULATE_DATA, HVMI_CAN_EMULATE_DATA },
	{ CAN_WATCHPOINTS, HVMI_CAN_EVENT + HVMI_EVENT_WATCHPOINT },
	{ CAN_SET_REGISTERS, HVMI_CAN_SET_REGISTERS },
	{ CAN_INJECT, HVMI_CAN_INJECT },
	{ CAN_DENY, HVMI_CAN_DENY },
	{ CAN_DEBUG, HVMI_CAN_EVENT + HVMI_EVENT_DEBUG },
	{ CAN_UNIMPLEMENTED, HVMI_CAN_EVENT + HVMI_EVENT_UNIMPLEMENTED },
};

uint32_t plan_abilities(struct hvmi_vm *vm)
{
	uint32_t has = ~0u, lacks = 0;
	struct hvmi_insn insn = { .size = sizeof(insn) };
	for (size_t i = 0; i < ARRAY_SIZE(asked); i++)
		if (hvmi_vm_capability(vm, asked[i].capability, NULL))
			lacks |= asked[i].ability;
	if (hvmi_insn_decode(HVMI_INSN_X86_64, 0, "\x90", 1, &insn, NULL))
		lacks |= CAN_DECODE;
	if (vm->description.vcpus != 1)
		lacks |= HAS_ONE_VCPU;
	return has & ~lacks;
}

enum { NEEDS_SPACE = 1, NO_EXECUTE = 2 };

/* In the order in which they are preferred. */
static const struct way {
	uint8_t kind, mechanism, step_over;
	uint32_t needs;		/* enum ability */
	uint32_t flags;		/* HVMI_PLAN_STEALTH, HVMI_PLAN_AFTER */
	uint32_t limits;
} ways[] = {
#define HIDDEN (CAN_INT3 | CAN_VIEWS | CAN_ACCESS)
	{ HVMI_HOOK_EXECUTE, HVMI_MECHANISM_BREAKPOINT, HVMI_STEP_OVER_ANSWER, CAN_BREAKPOINTS,
	  HVMI_PLAN_STEALTH, NEEDS_SPACE },
	{ HVMI_HOOK_EXECUTE, HVMI_MECHANISM_HIDDEN_INT3, HVMI_STEP_OVER_FAST,
	  HIDDEN | CAN_FAST_STEP | CAN_STEP, HVMI_PLAN_STEALTH, 0 },
	{ HVMI_HOOK_EXECUTE, HVMI_MECHANISM_HIDDEN_INT3, HVMI_STEP_OVER_VIEW, HIDDEN | CAN_STEP,
	  HVMI_PLAN_STEALTH, 0 },
	{ HVMI_HOOK_EXECUTE, HVMI_MECHANISM_CLOAKED_INT3, HVMI_STEP_OVER_EMULATE,
	  CAN_INT3 | CAN_ACCESS | CAN_EMULATE | CAN_EMULATE_DATA | CAN_STEP | CAN_DECODE,
	  HVMI_PLAN_STEALTH, 0 },
	{ HVMI_HOOK_EXECUTE, HVMI_MECHANISM_INT3, HVMI_STEP_OVER_EMULATE,
	  CAN_INT3 | CAN_EMULATE_DATA, 0, 0 },
	{ HVMI_HOOK_EXECUTE, HVMI_MECHANISM_INT3, HVMI_STEP_OVER_RESTORE,
	  CAN_INT3 | CAN_STEP | HAS_ONE_VCPU, 0, 0 },
	{ HVMI_HOOK_EXECUTE, HVMI_MECHANISM_INT3, HVMI_STEP_OVER_TRAP_FLAG,
	  CAN_INT3 | CAN_DEBUG | CAN_SET_REGISTERS | HAS_ONE_VCPU, 0, 0 },
	{ HVMI_HOOK_ACCESS, HVMI_MECHANISM_PAGE, HVMI_STEP_OVER_FAST,
	  CAN_ACCESS | CAN_DECODE | CAN_VIEWS | CAN_FAST_STEP | CAN_STEP, HVMI_PLAN_STEALTH, 0 },
	{ HVMI_HOOK_ACCESS, HVMI_MECHANISM_PAGE, HVMI_STEP_OVER_VIEW,
	  CAN_ACCESS | CAN_DECODE | CAN_VIEWS | CAN_STEP, HVMI_PLAN_STEALTH, 0 },
	{ HVMI_HOOK_ACCESS, HVMI_MECHANISM_PAGE, HVMI_STEP_OVER_EMULATE,
	  CAN_ACCESS | CAN_DECODE | CAN_EMULATE, HVMI_PLAN_STEALTH, 0 },
	{ HVMI_HOOK_ACCESS, HVMI_MECHANISM_WATCHPOINT, HVMI_STEP_OVER_ANSWER, CAN_WATCHPOINTS,
	  HVMI_PLAN_STEALTH | HVMI_PLAN_AFTER, NEEDS_SPACE | NO_EXECUTE },
#undef HIDDEN
};

static const char *limit(const struct way *way, const struct hvmi_hook_request *r)
{
	if (way->limits & NEEDS_SPACE && !r->space)
		return "its breakpoints and watchpoints are of virtual addresses: give a space";
	if (way->limits & NO_EXECUTE && r->access & HVMI_RIGHT_EXECUTE)
		return "its watchpoints tell reads and writes: for execution, hook addresses";
	if (r->flags & HVMI_HOOK_STEALTH && !(way->flags & HVMI_PLAN_STEALTH))
		return "the guest could see the int3 in its memory, and HVMI_HOOK_STEALTH was asked "
		       "for: that needs breakpoints by address, views, or rights that can be taken "
		       "from pages and single steps";
	return NULL;
}

/* Why it cannot be had: what stands in the way of the way that comes nearest. */
static int refuse(struct hvmi_vm *vm, uint32_t abilities, const struct hvmi_hook_request *r,
		  struct hvmi_error *err)
{
	struct hvmi_error why = { .text = "" };
	for (size_t i = 0; i < ARRAY_SIZE(ways); i++) {
		const char *sentence = limit(&ways[i], r);
		if (ways[i].kind == r->kind && !(ways[i].needs & ~abilities) && sentence)
			return hvmi_error_set(err, -ENOTSUP, r->address,
					      "%s machines cannot hook this %s: %s",
					      vm->backend.scheme, kind_names[r->kind], sentence);
	}
	/* The nearest may be a way that is not visible, and it is short of few abilities. */
	const struct way *nearest = NULL;
	for (size_t i = 0; i < ARRAY_SIZE(ways); i++)
		if (ways[i].kind == r->kind && !limit(&ways[i], r) &&
		    (!nearest || __builtin_popcount(ways[i].needs & ~abilities) <
					 __builtin_popcount(nearest->needs & ~abilities)))
			nearest = &ways[i];
	uint32_t missing = nearest ? nearest->needs & ~abilities : 0;
	for (size_t i = 0; i < ARRAY_SIZE(asked); i++)
		if (missing & asked[i].ability &&
		    hvmi_vm_capability(vm, asked[i].capability, &why))
			break;
	if (!why.text[0])
		hvmi_error_set(&why, -ENOTSUP, HVMI_NO_ADDRESS, missing & CAN_DECODE ?
			       "the library was built without Zydis" : "this needs a single vCPU");
	return hvmi_error_set(err, -ENOTSUP, r->address, "%s machines cannot hook this %s: %.280s",
			      vm->backend.scheme, kind_names[r->kind], why.text);
}

/* What an event of the machine's own serves. */
static uint32_t event_capability(uint32_t kind)
{
	switch (kind) {
	case HVMI_HOOK_MSR: return HVMI_CAN_EVENT + HVMI_EVENT_MSR;
	case HVMI_HOOK_DESCRIPTOR: return HVMI_CAN_EVENT + HVMI_EVENT_DESCRIPTOR;
	case HVMI_HOOK_CPUID: return HVMI_CAN_EVENT + HVMI_EVENT_CPUID;
	case HVMI_HOOK_GUEST_REQUEST: return HVMI_CAN_EVENT + HVMI_EVENT_GUEST_REQUEST;
	case HVMI_HOOK_BREAKPOINT: return HVMI_CAN_INT3;
	case HVMI_HOOK_DEBUG: return HVMI_CAN_EVENT + HVMI_EVENT_DEBUG;
	default: return HVMI_CAN_EVENT + HVMI_EVENT_REGISTER;
	}
}

/* Whether the hook goes where its address goes; -ENOTSUP: that was asked for and cannot be had. */
static int plan_follow(struct hvmi_vm *vm, uint32_t abilities, const struct hvmi_hook_request *r,
		       struct hvmi_hook_plan *plan, struct hvmi_error *err)
{
	bool moved = plan->mechanism != HVMI_MECHANISM_BREAKPOINT &&
		     plan->mechanism != HVMI_MECHANISM_WATCHPOINT;
	struct hvmi_space_config config = { .size = sizeof(config) };
	bool paged = r->space && hvmi_space_get_config(r->space, &config) == 0 &&
		     config.paging != HVMI_PAGING_NONE;
	bool able = paged && (!moved || follow_step_over(abilities));
	if ((r->flags & HVMI_HOOK_WAIT && !able) ||
	    (r->flags & HVMI_HOOK_TELL_MOVES && !(able && moved)))
		return hvmi_error_set(err, -ENOTSUP, r->address,
				      "%s machines cannot hook this %s: that it waits for its memory, "
				      "or tells of its moves, takes a space with page tables%s",
				      vm->backend.scheme, kind_names[r->kind], paged ?
				      ", and rights that can be taken from pages" : "");
	plan->flags |= able && !(moved && r->flags & HVMI_HOOK_FIXED) ? HVMI_PLAN_FOLLOWS : 0;
	return 0;
}

#define BIT(action) (1u << HVMI_VERDICT_##action)

static uint32_t verdicts_of_memory(uint32_t abilities, uint32_t kind, const struct hvmi_hook_plan *p)
{
	uint32_t v = BIT(CONTINUE);
	bool int3 = p->mechanism == HVMI_MECHANISM_INT3 ||
		    p->mechanism == HVMI_MECHANISM_HIDDEN_INT3 ||
		    p->mechanism == HVMI_MECHANISM_CLOAKED_INT3;
	if (p->flags & HVMI_PLAN_AFTER)
		return v;
	if (abilities & CAN_SET_REGISTERS && abilities & CAN_DECODE)
		v |= BIT(SKIP) | BIT(DENY);
	if (kind == HVMI_HOOK_EXECUTE && int3)
		v |= BIT(REINJECT);
	if (abilities & CAN_EMULATE_DATA && p->mechanism != HVMI_MECHANISM_BREAKPOINT)
		v |= BIT(EMULATE_INSN);
	if (p->mechanism == HVMI_MECHANISM_PAGE) {
		v |= abilities & CAN_EMULATE ? BIT(DENY) : 0;
		v |= abilities & CAN_EMULATE_DATA ? BIT(EMULATE_READ) : 0;
	}
	return v;
}

static uint32_t verdicts_of_event(uint32_t abilities, const struct hvmi_hook_request *r)
{
	switch (r->kind) {
	case HVMI_HOOK_CPUID:
		return BIT(CONTINUE) | (abilities & CAN_SET_REGISTERS ? BIT(SKIP) | BIT(DENY) : 0);
	case HVMI_HOOK_BREAKPOINT:
		return BIT(CONTINUE) | BIT(REINJECT) |
		       (abilities & CAN_SET_REGISTERS ? BIT(SKIP) | BIT(DENY) : 0);
	case HVMI_HOOK_DEBUG:
		return BIT(CONTINUE) | BIT(REINJECT) | BIT(SKIP) | BIT(DENY);
	case HVMI_HOOK_GUEST_REQUEST:
		return BIT(CONTINUE);
	default:
		return BIT(CONTINUE) | (r->flags & HVMI_HOOK_MAY_DENY ? BIT(SKIP) | BIT(DENY) : 0);
	}
}

static int plan_event(struct hvmi_vm *vm, uint32_t abilities, const struct hvmi_hook_request *r,
		      struct hvmi_hook_plan *ret, struct hvmi_error *err)
{
	struct hvmi_error why;
	int rc = hvmi_vm_capability(vm, event_capability(r->kind), &why);
	if (!rc && r->flags & HVMI_HOOK_MAY_DENY)
		rc = hvmi_vm_capability(vm, HVMI_CAN_DENY, &why);
	if (rc)
		return hvmi_error_set(err, rc, HVMI_NO_ADDRESS, "%s machines cannot hook %s: %.280s",
				      vm->backend.scheme, kind_names[r->kind], why.text);
	ret->mechanism = HVMI_MECHANISM_EVENT;
	ret->step_over = HVMI_STEP_OVER_ANSWER;
	ret->flags = HVMI_PLAN_STEALTH;
	ret->verdicts = verdicts_of_event(abilities, r);
	return 0;
}

int plan_make(struct hvmi_vm *vm, uint32_t abilities, const struct hvmi_hook_request *request,
	      struct hvmi_hook_plan *ret, struct hvmi_error *err)
{
	*ret = (struct hvmi_hook_plan){ .size = sizeof(*ret) };
	bool memory = request->kind == HVMI_HOOK_EXECUTE || request->kind == HVMI_HOOK_ACCESS;
	int rc = memory ? -ENOTSUP : plan_event(vm, abilities, request, ret, err);
	for (size_t i = 0; memory && i < ARRAY_SIZE(ways) && rc; i++) {
		if (ways[i].kind != request->kind || ways[i].needs & ~abilities ||
		    limit(&ways[i], request))
			continue;
		ret->mechanism = ways[i].mechanism;
		ret->step_over = ways[i].step_over;
		ret->flags = ways[i].flags;
		ret->verdicts = verdicts_of_memory(abilities, request->kind, ret);
		rc = 0;
	}
	if (rc)
		return memory ? refuse(vm, abilities, request, err) : rc;
	rc = memory ? plan_follow(vm, abilities, request, ret, err) : 0;
	if (rc)
		return rc;
	ret->flags |= abilities & CAN_SET_REGISTERS ? HVMI_PLAN_REGISTERS : 0;
	ret->flags |= abilities & CAN_STEP ? HVMI_PLAN_STEPS : 0;
	return 0;
}

HVMI_API int hvmi_hook_plan_request(struct hvmi_vm *vm, const struct hvmi_hook_request *request,
				    struct hvmi_hook_plan *ret, struct hvmi_error *err)
{
	struct hvmi_hook_request r;
	struct hvmi_hook_plan plan;
	if (!vm || !ret)
		return hvmi_error_set(err, -EINVAL, HVMI_NO_ADDRESS, "a required argument is NULL");
	int rc = request_take(&r, request, err);
	if (!rc)
		rc = plan_make(vm, plan_abilities(vm), &r, &plan, err);
	return rc ? rc : result_copy(ret, &plan, sizeof(plan));
}
