/* SPDX-License-Identifier: Apache-2.0 */
#include "vm/vm.h"

static const char *const event_names[HVMI_EVENT_KIND_END] = {
	[HVMI_EVENT_ACCESS] = "access", [HVMI_EVENT_STEP] = "step",
	[HVMI_EVENT_BREAKPOINT] = "breakpoint", [HVMI_EVENT_WATCHPOINT] = "watchpoint",
	[HVMI_EVENT_REGISTER] = "register", [HVMI_EVENT_MSR] = "msr",
	[HVMI_EVENT_CPUID] = "cpuid", [HVMI_EVENT_DEBUG] = "debug",
	[HVMI_EVENT_DESCRIPTOR] = "descriptor", [HVMI_EVENT_GUEST_REQUEST] = "guest-request",
	[HVMI_EVENT_UNIMPLEMENTED] = "unimplemented", [HVMI_EVENT_INTERRUPT] = "interrupt",
	[HVMI_EVENT_IO] = "io", [HVMI_EVENT_EXIT] = "exit",
};

/* Which methods a capability wants: one of a row is enough. */
#define METHOD(name) offsetof(struct hvmi_backend, name)
static const struct {
	const char *name;
	size_t methods[2];
} capabilities[] = {
	[HVMI_CAN_PAUSE] = { "pause", { METHOD(pause) } },
	[HVMI_CAN_SET_REGISTERS] = { "set-registers", { METHOD(set_registers), METHOD(set_register) } },
	[HVMI_CAN_INJECT] = { "inject", { METHOD(inject) } },
	[HVMI_CAN_BREAKPOINTS] = { "breakpoints", { METHOD(events_open) } },
	[HVMI_CAN_INT3] = { "int3", { METHOD(events_open) } },
	[HVMI_CAN_VIEWS] = { "views", { METHOD(view_create) } },
	[HVMI_CAN_REMAP] = { "remap", { METHOD(view_remap) } },
	[HVMI_CAN_PAGES] = { "pages", { METHOD(page_create) } },
	[HVMI_CAN_EMULATE] = { "emulate", { METHOD(events_open) } },
	[HVMI_CAN_EMULATE_DATA] = { "emulate-data", { METHOD(events_open) } },
	[HVMI_CAN_DENY] = { "deny", { METHOD(events_open) } },
	[HVMI_CAN_FAST_STEP] = { "fast-step", { METHOD(events_open) } },
	[HVMI_CAN_CONFIRM] = { "confirm", { METHOD(events_open) } },
	[HVMI_CAN_PAGE_WALK_RIGHT] = { "page-walk-right", { METHOD(view_set_rights) } },
};

HVMI_API const char *hvmi_event_name(uint32_t kind)
{
	return kind < ARRAY_SIZE(event_names) ? event_names[kind] : NULL;
}

HVMI_API const char *hvmi_capability_name(uint32_t capability)
{
	if (capability >= HVMI_CAN_EVENT)
		return hvmi_event_name(capability - HVMI_CAN_EVENT);
	return capability < ARRAY_SIZE(capabilities) ? capabilities[capability].name : NULL;
}

static bool has_method(const struct hvmi_backend *b, size_t offset)
{
	void (*method)(void);
	memcpy(&method, (const char *)b + offset, sizeof(method));
	return method;
}

static bool has_methods(const struct hvmi_backend *b, uint32_t capability)
{
	if (capability >= HVMI_CAN_EVENT)
		return b->events_open;
	const size_t *methods = capabilities[capability].methods;
	return has_method(b, methods[0]) || (methods[1] && has_method(b, methods[1]));
}

HVMI_API int hvmi_vm_capability(struct hvmi_vm *vm, uint32_t capability, struct hvmi_error *err)
{
	const struct hvmi_backend *b = &vm->backend;
	const char *name = hvmi_capability_name(capability);
	if (!name)
		return hvmi_error_set(err, -EINVAL, HVMI_NO_ADDRESS, "there is no capability %u",
				      capability);
	/* What stands still is paused. */
	if (capability == HVMI_CAN_PAUSE && (vm->description.flags & HVMI_VM_STATIC))
		return 0;
	/* Without a word of the backend, its methods speak for what is no event. */
	bool simple = capability <= HVMI_CAN_INJECT;
	if (!has_methods(b, capability) || (!b->capability && !simple))
		return hvmi_error_set(err, -ENOTSUP, HVMI_NO_ADDRESS,
				      "%s machines do not have '%s'", b->scheme, name);
	return b->capability ? b->capability(vm->machine, capability, err) : 0;
}
