/* SPDX-License-Identifier: Apache-2.0 */
#include "hook/hook.h"

static int malformed(struct hvmi_error *err, uint64_t address, const char *what)
{
	return hvmi_error_set(err, -EINVAL, address, "the hook makes no sense: %s", what);
}

/* Flags that a kind may have. */
static uint32_t flags_of(uint32_t kind)
{
	switch (kind) {
	case HVMI_HOOK_EXECUTE:
	case HVMI_HOOK_ACCESS:
		return HVMI_HOOK_STEALTH | HVMI_HOOK_ONLY_SPACE | HVMI_HOOK_FIXED |
		       HVMI_HOOK_WAIT | HVMI_HOOK_TELL_MOVES;
	case HVMI_HOOK_REGISTER:
	case HVMI_HOOK_MSR:
		return HVMI_HOOK_STEALTH | HVMI_HOOK_ON_CHANGE | HVMI_HOOK_MAY_DENY;
	case HVMI_HOOK_DESCRIPTOR:
	case HVMI_HOOK_PROCESS_SWITCH:
		return HVMI_HOOK_STEALTH | HVMI_HOOK_MAY_DENY;
	case HVMI_HOOK_GUEST_REQUEST:
		return HVMI_HOOK_STEALTH | HVMI_HOOK_USER;
	default:
		return HVMI_HOOK_STEALTH;
	}
}

static int check_register(const struct hvmi_hook_request *r, struct hvmi_error *err)
{
	if (r->kind == HVMI_HOOK_REGISTER && r->reg != HVMI_X86_CR0 && r->reg != HVMI_X86_CR3 &&
	    r->reg != HVMI_X86_CR4 && r->reg != HVMI_X86_XCR0)
		return malformed(err, HVMI_NO_ADDRESS, "reg must be CR0, CR3, CR4 or XCR0");
	if (r->kind == HVMI_HOOK_DESCRIPTOR && r->reg && r->reg != HVMI_X86_GDTR_BASE &&
	    r->reg != HVMI_X86_IDTR_BASE && r->reg != HVMI_X86_LDTR_BASE &&
	    r->reg != HVMI_X86_TR_BASE)
		return malformed(err, HVMI_NO_ADDRESS,
				 "reg must be 0, or the base of GDTR, IDTR, LDTR or TR");
	if (r->kind != HVMI_HOOK_REGISTER && r->kind != HVMI_HOOK_DESCRIPTOR && r->reg)
		return malformed(err, HVMI_NO_ADDRESS, "its kind has no reg");
	if (r->kind != HVMI_HOOK_MSR && r->msr)
		return malformed(err, HVMI_NO_ADDRESS, "its kind has no msr");
	if (r->kind == HVMI_HOOK_MSR && r->msr > UINT32_MAX)
		return malformed(err, HVMI_NO_ADDRESS, "an MSR's index has 32 bits");
	if (r->kind != HVMI_HOOK_REGISTER && r->ignored)
		return malformed(err, HVMI_NO_ADDRESS, "only registers have ignored bits");
	return 0;
}

static int check_range(const struct hvmi_hook_request *r, struct hvmi_error *err)
{
	if (r->kind == HVMI_HOOK_EXECUTE) {
		if (r->len > 1 || r->access)
			return malformed(err, r->address,
					 "execution is hooked at an address, without len and "
					 "access; that of a range is a kind of access");
		return 0;
	}
	if (r->len == 0 || r->len - 1 > UINT64_MAX - r->address)
		return malformed(err, r->address, "len is 0, or the range wraps");
	if (r->len > HVMI_HOOK_BYTES)
		return hvmi_error_set(err, -EOVERFLOW, r->address,
				      "one hook covers %u MiB at most: use several",
				      HVMI_HOOK_BYTES >> 20);
	if (!r->access || r->access & ~(HVMI_RIGHT_READ | HVMI_RIGHT_WRITE | HVMI_RIGHT_EXECUTE))
		return malformed(err, r->address, "access must be of read, write and execute");
	return 0;
}

int request_take(struct hvmi_hook_request *to, const struct hvmi_hook_request *from,
		 struct hvmi_error *err)
{
	*to = (struct hvmi_hook_request){ .size = sizeof(*to) };
	if (!from || options_copy(to, sizeof(*to), from))
		return malformed(err, HVMI_NO_ADDRESS,
				 "it holds what this version does not know: zero it and set size");
	if (!hvmi_hook_kind_name(to->kind))
		return malformed(err, HVMI_NO_ADDRESS, "there is no such kind");
	if (to->flags & ~flags_of(to->kind))
		return malformed(err, HVMI_NO_ADDRESS, "a flag is not of its kind");
	if (to->flags & HVMI_HOOK_ONLY_SPACE && !to->space)
		return malformed(err, to->address, "HVMI_HOOK_ONLY_SPACE without a space");
	if (to->flags & HVMI_HOOK_FIXED && to->flags & (HVMI_HOOK_WAIT | HVMI_HOOK_TELL_MOVES))
		return malformed(err, to->address, "HVMI_HOOK_FIXED excludes _WAIT and _TELL_MOVES");
	if (to->other_root && !(to->flags & HVMI_HOOK_ONLY_SPACE))
		return malformed(err, to->address, "other_root is for HVMI_HOOK_ONLY_SPACE");
	bool memory = to->kind == HVMI_HOOK_EXECUTE || to->kind == HVMI_HOOK_ACCESS;
	if (!memory && (to->space || to->address || to->len || to->access))
		return malformed(err, to->address, "its kind has no address");
	int rc = check_register(to, err);
	return rc || !memory ? rc : check_range(to, err);
}

static int share_space(struct hvmi_hooks *hooks, const struct hvmi_space *space,
		       struct hook_space **ret, struct hvmi_error *err)
{
	struct hvmi_space_config config = { .size = sizeof(config) };
	if (hvmi_space_vm(space) != hooks->vm)
		return malformed(err, HVMI_NO_ADDRESS, "its space is another machine's");
	hvmi_space_get_config(space, &config);
	config.flags |= HVMI_SPACE_UNCACHED;
	for (struct hook_space *s = hooks->spaces; s; s = s->next)
		if (memcmp(&s->config, &config, sizeof(config)) == 0) {
			s->users++;
			*ret = s;
			return 0;
		}
	struct hook_space *s = calloc(1, sizeof(*s));
	if (!s)
		return hvmi_error_set(err, -ENOMEM, HVMI_NO_ADDRESS, "out of memory");
	s->config = config;
	s->root = root_of(config.root, config.paging);
	s->users = 1;
	int rc = hvmi_space_create(hooks->vm, &config, &s->space, err);
	if (rc) {
		free(s);
		return rc;
	}
	s->next = hooks->spaces;
	hooks->spaces = s;
	*ret = s;
	return 0;
}

static void leave_space(struct hvmi_hooks *hooks, struct hook_space *space)
{
	if (!space || --space->users)
		return;
	struct hook_space **at = &hooks->spaces;
	while (*at != space)
		at = &(*at)->next;
	*at = space->next;
	hvmi_space_destroy(space->space);
	free(space);
}

static void put_memory(struct hvmi_hooks *hooks, struct hvmi_hook *hook, struct hot *hot)
{
	if (hook)
		pool_put(&hooks->hook_pool, hook);
	if (hot)
		pool_put(&hooks->hot_pool, hot);
}

int hook_create(struct hvmi_hooks *hooks, const struct hvmi_hook_request *request,
		struct hvmi_hook **ret, struct hvmi_error *err)
{
	struct hvmi_hook_request r;
	int rc = request_take(&r, request, err);
	if (!rc && !r.callback)
		rc = malformed(err, r.address, "it has no callback");
	if (rc)
		return rc;
	struct hvmi_hook *hook = pool_get(&hooks->hook_pool);
	struct hot *hot = pool_get(&hooks->hot_pool);
	if (!hook || !hot) {
		put_memory(hooks, hook, hot);
		return hvmi_error_set(err, -ENOMEM, HVMI_NO_ADDRESS, "out of memory");
	}
	*hot = (struct hot){
		.hook = hook, .callback = r.callback, .context = r.context, .kind = (uint8_t)r.kind,
		.state = HOOK_PENDING, .flags = (uint16_t)r.flags, .access = r.access,
	};
	*hook = (struct hvmi_hook){
		.hot = hot, .address = r.address, .last = r.address + (r.len ? r.len - 1 : 0),
		.hooks = hooks, .request = r, .gpa = HVMI_NO_ADDRESS,
	};
	rc = plan_make(hooks->vm, hooks->abilities, &r, &hook->plan, err);
	if (!rc && r.space)
		rc = share_space(hooks, r.space, &hot->space, err);
	if (rc) {
		put_memory(hooks, hook, hot);
		return rc;
	}
	if (hot->space)
		hook->other_root = root_of(r.other_root, hot->space->config.paging);
	hook->follows = hook->plan.flags & HVMI_PLAN_FOLLOWS ? HVMI_HOOK_STATE_FOLLOWS :
							       HVMI_HOOK_STATE_FIXED;
	hook->request.space = NULL;
	*ret = hook;
	return 0;
}

void hook_free(struct hvmi_hook *hook)
{
	leave_space(hook->hooks, hook->hot->space);
	if (hook->refs != &hook->one)
		free(hook->refs);
	put_memory(hook->hooks, hook, hook->hot);
}
