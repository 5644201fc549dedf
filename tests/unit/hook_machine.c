/* SPDX-License-Identifier: Apache-2.0 */
#include "hook_machine.h"

static struct hvmi_error err;
static const uint32_t *lacking;
static struct hvmi_backend backend;
static int (*original_capability)(void *machine, uint32_t capability, struct hvmi_error *error);

static const uint32_t none[] = { 0 };
static const uint32_t no_breakpoints[] = { HVMI_CAN_BREAKPOINTS, 0 };
static const uint32_t no_fast_step[] = { HVMI_CAN_BREAKPOINTS, HVMI_CAN_FAST_STEP, 0 };
static const uint32_t no_views[] = { HVMI_CAN_BREAKPOINTS, HVMI_CAN_VIEWS, 0 };
static const uint32_t no_access[] = { HVMI_CAN_BREAKPOINTS, HVMI_CAN_VIEWS,
				      HVMI_CAN_EVENT + HVMI_EVENT_ACCESS,
				      HVMI_CAN_EVENT + HVMI_EVENT_STEP, 0 };
static const uint32_t no_emulation[] = { HVMI_CAN_BREAKPOINTS, HVMI_CAN_VIEWS, HVMI_CAN_EMULATE,
					 HVMI_CAN_EMULATE_DATA, HVMI_CAN_EVENT + HVMI_EVENT_WATCHPOINT,
					 0 };
static const uint32_t no_step[] = { HVMI_CAN_BREAKPOINTS, HVMI_CAN_VIEWS, HVMI_CAN_EMULATE,
				    HVMI_CAN_EMULATE_DATA, HVMI_CAN_EVENT + HVMI_EVENT_STEP, 0 };
/* Where page rights are only for a view that cannot be: as with QEMU. */
static const uint32_t no_rights[] = { HVMI_CAN_EVENT + HVMI_EVENT_ACCESS, HVMI_CAN_VIEWS,
				      HVMI_CAN_INT3, HVMI_CAN_EMULATE, HVMI_CAN_EMULATE_DATA, 0 };

const struct profile profiles[] = {
	{ "all", none, 2, HVMI_MECHANISM_BREAKPOINT, HVMI_STEP_OVER_ANSWER },
	{ "no breakpoints", no_breakpoints, 2, HVMI_MECHANISM_HIDDEN_INT3, HVMI_STEP_OVER_FAST },
	{ "no fast step", no_fast_step, 2, HVMI_MECHANISM_HIDDEN_INT3, HVMI_STEP_OVER_VIEW },
	{ "no views", no_views, 2, HVMI_MECHANISM_CLOAKED_INT3, HVMI_STEP_OVER_EMULATE },
	{ "no access", no_access, 2, HVMI_MECHANISM_INT3, HVMI_STEP_OVER_EMULATE },
	{ "no emulation", no_emulation, 1, HVMI_MECHANISM_INT3, HVMI_STEP_OVER_RESTORE },
	{ "no step", no_step, 1, HVMI_MECHANISM_INT3, HVMI_STEP_OVER_TRAP_FLAG },
	{ "no rights", no_rights, 2, HVMI_MECHANISM_BREAKPOINT, HVMI_STEP_OVER_ANSWER },
};
const size_t profile_count = sizeof(profiles) / sizeof(*profiles);

static int capability(void *machine, uint32_t asked, struct hvmi_error *error)
{
	for (const uint32_t *lacks = lacking; *lacks; lacks++)
		if (*lacks == asked)
			return hvmi_error_set(error, -ENOTSUP, HVMI_NO_ADDRESS,
					      "this profile lacks '%s'", hvmi_capability_name(asked));
	return original_capability(machine, asked, error);
}

void hook_machine_open(struct hook_machine *m, const struct profile *profile, const char *extra)
{
	struct hvmi_open_options options = { .size = sizeof(options), .flags = HVMI_OPEN_WRITE,
					     .backend = &backend };
	const struct hvmi_space_config config = { .size = sizeof(config), .root = ROOT,
						  .paging = HVMI_PAGING_X86_4LEVEL,
						  .flags = HVMI_SPACE_NX };
	char script[4096];
	size_t len = (size_t)snprintf(script, sizeof(script), "%s", HOOK_SCRIPT);
	for (uint32_t v = 0; v < profile->vcpus; v++)
		len += (size_t)snprintf(script + len, sizeof(script) - len, HOOK_VCPU, v, v, v, v, v, v,
					v);
	snprintf(script + len, sizeof(script) - len, "%s%s", extra,
		 strstr(extra, "probe ") ? "" : "probe 0x10000\n");
	backend = *hvmi_backend_sim();
	original_capability = backend.capability;
	backend.capability = capability;
	lacking = profile->lacks;
	ck_assert_msg(machine_try(script, strlen(script), &options, &m->vm, &err) == 0, "%s", err.text);
	ck_assert_msg(hvmi_events_open(m->vm, NULL, &m->events, &err) == 0, "%s", err.text);
	ck_assert_msg(hvmi_hooks_open(m->events, NULL, &m->hooks, &err) == 0, "%s", err.text);
	ck_assert_msg(hvmi_space_create(m->vm, &config, &m->space, &err) == 0, "%s", err.text);
}

void hook_machine_close(struct hook_machine *m)
{
	static const uint8_t code[] = { 0x48, 0x89, 0x37, 0x48, 0x8b, 0x07, 0x48, 0x83, 0xc0, 0x01, 0xc3 };
	uint8_t now[sizeof(code)];
	hvmi_space_destroy(m->space);
	hvmi_hooks_close(m->hooks);
	ck_assert_int_eq(hvmi_vm_read(m->vm, FUNCTION, now, sizeof(now), NULL), 0);
	ck_assert_mem_eq(now, code, sizeof(code));
	hvmi_events_close(m->events);
	hvmi_close(m->vm);
}

int hook_machine_run(struct hook_machine *m)
{
	int all = 0;
	for (int n; (n = hvmi_hooks_dispatch(m->hooks, 0, &err)); all += n)
		ck_assert_msg(n > 0 && all < 10000, "%d, %d: %s", n, all, err.text);
	return all;
}

uint64_t hook_machine_call(struct hook_machine *m, uint64_t what)
{
	uint64_t result;
	probe_start(m->vm, 0, DATA, what);
	hook_machine_run(m);
	ck_assert(probe_done(m->vm, &result));
	return result;
}
