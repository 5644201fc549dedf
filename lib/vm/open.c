/* SPDX-License-Identifier: Apache-2.0 */
#include "vm/vm.h"

static int compare_ranges(const void *a, const void *b)
{
	const struct vm_range *x = a, *y = b;
	return x->gpa < y->gpa ? -1 : x->gpa > y->gpa;
}

static int map_range(struct hvmi_vm *vm, struct vm_range *r)
{
	const void *host;
	int rc = vm->backend.map ? vm->backend.map(vm->machine, r->index, &host) : -ENOTSUP;
	if (rc == -ENOTSUP)
		return 0;
	if (rc)
		return rc;
	r->host = host;
	r->guard = guard_add(host, r->len);
	return r->guard ? 0 : -ENOMEM;
}

/* Is there a range that the backend maps piecemeal? */
static bool maps_pages(const struct hvmi_vm *vm)
{
	if (!vm->backend.map_pages || !vm->backend.unmap_pages)
		return false;
	for (uint32_t i = 0; i < vm->range_count; i++) {
		const struct vm_range *r = &vm->ranges[i];
		uint64_t gpa = r->gpa + FRAME_SIZE - 1;
		gpa -= gpa % FRAME_SIZE;
		if (r->host || gpa < r->gpa || r->len < gpa - r->gpa + FRAME_SIZE)
			continue;
		int32_t status = 0;
		const void *host;
		int rc = vm->backend.map_pages(vm->machine, gpa, 1, &host, &status);
		if (rc == 0)
			vm->backend.unmap_pages(vm->machine, host, 1);
		return rc != -ENOTSUP;
	}
	return false;
}

static int take_ranges(struct hvmi_vm *vm, uint64_t map_budget, struct hvmi_error *err)
{
	uint32_t count = vm->description.ranges;
	if (count > HVMI_RANGES_MAX)
		return hvmi_error_set(err, -EOVERFLOW, HVMI_NO_ADDRESS,
				      "the machine has %u RAM ranges, more than %u", count,
				      HVMI_RANGES_MAX);
	vm->ranges = calloc(MAX(count, 1u), sizeof(*vm->ranges));
	if (!vm->ranges)
		return hvmi_error_set(err, -ENOMEM, HVMI_NO_ADDRESS, "out of memory");
	for (uint32_t i = 0; i < count; i++) {
		struct hvmi_range range;
		int rc = vm->backend.range(vm->machine, i, &range);
		if (rc)
			return hvmi_error_set(err, rc, HVMI_NO_ADDRESS,
					      "RAM range %u cannot be had", i);
		if (range.len == 0 || range.gpa > UINT64_MAX - range.len)
			return hvmi_error_set(err, -EBADMSG, range.gpa, "RAM range %u is malformed",
					      i);
		vm->ranges[i] = (struct vm_range){ .gpa = range.gpa, .len = range.len, .index = i };
		vm->ram += range.len;
	}
	qsort(vm->ranges, count, sizeof(*vm->ranges), compare_ranges);
	for (uint32_t i = 1; i < count; i++)
		if (vm->ranges[i].gpa - vm->ranges[i - 1].gpa < vm->ranges[i - 1].len)
			return hvmi_error_set(err, -EBADMSG, vm->ranges[i].gpa,
					      "RAM ranges overlap");
	vm->range_count = count;
	for (uint32_t i = 0; i < count; i++) {
		int rc = map_range(vm, &vm->ranges[i]);
		if (rc)
			return hvmi_error_set(err, rc, vm->ranges[i].gpa,
					      "guest memory cannot be mapped: %s",
					      hvmi_error_name(rc));
	}
	for (uint32_t i = 0; i < count; i++)
		vm->pointers |= vm->ranges[i].host != NULL;
	if (maps_pages(vm) && physmap_create(vm, map_budget, &vm->physmap))
		return hvmi_error_set(err, -ENOMEM, HVMI_NO_ADDRESS, "out of memory");
	vm->pointers |= vm->physmap != NULL;
	if (vm->description.flags & HVMI_VM_STATIC)
		vm_still_again(vm);
	return 0;
}

static int open_machine(struct hvmi_vm *vm, const struct hvmi_target *target, uint64_t map_budget,
			struct hvmi_error *err)
{
	void *machine = NULL;
	int rc = vm->backend.open(target, &vm->link.host, &machine, err);
	if (rc)
		return rc;
	vm->machine = machine;
	for (uint32_t i = 0; i < target->option_count; i++)
		if (!target->options[i].asked)
			return hvmi_error_set(err, -EINVAL, HVMI_NO_ADDRESS,
					      "'%s' is no option of %s targets here",
					      target->options[i].name, vm->backend.scheme);
	struct hvmi_machine description = { .size = sizeof(description) };
	rc = vm->backend.describe(vm->machine, &description);
	if (rc)
		return hvmi_error_set(err, rc, HVMI_NO_ADDRESS, "the machine cannot be described");
	vm->description = description;
	vm->description.format[sizeof(vm->description.format) - 1] = '\0';
	return take_ranges(vm, map_budget, err);
}

HVMI_API int hvmi_open(const char *target_text, const struct hvmi_open_options *options,
		       struct hvmi_vm **ret, struct hvmi_error *err)
{
	if (!target_text || !ret)
		return hvmi_error_set(err, -EINVAL, HVMI_NO_ADDRESS, "a required argument is NULL");
	struct hvmi_open_options o = { .size = sizeof(o) };
	if (options && (options_copy(&o, sizeof(o), options) || o.flags & ~HVMI_OPEN_WRITE ||
			o.reserved))
		return hvmi_error_set(err, -EINVAL, HVMI_NO_ADDRESS,
				      "struct hvmi_open_options holds what this version does not "
				      "know: zero it and set size");
	struct hvmi_target *target;
	int rc = target_parse(target_text, &target, err);
	if (rc)
		return rc;
	struct hvmi_vm *vm = calloc(1, sizeof(*vm));
	if (!vm) {
		target_free(target);
		return hvmi_error_set(err, -ENOMEM, HVMI_NO_ADDRESS, "out of memory");
	}
	rc = link_backend(&vm->link, target->scheme, &o, &vm->backend, err);
	if (!rc)
		rc = open_machine(vm, target, o.map_budget, err);
	target_free(target);
	if (rc) {
		hvmi_close(vm);
		return rc;
	}
	*ret = vm;
	return 0;
}

HVMI_API void hvmi_close(struct hvmi_vm *vm)
{
	if (!vm)
		return;
	hvmi_events_close(vm->events);
	if (vm->pauses && vm->backend.resume && !(vm->description.flags & HVMI_VM_STATIC))
		vm->backend.resume(vm->machine, NULL);
	for (uint32_t i = 0; i < vm->range_count; i++)
		guard_remove(vm->ranges[i].guard);
	space_cache_free_spare(vm);
	physmap_destroy(vm->physmap);
	if (vm->machine)
		vm->backend.close(vm->machine);
	free(vm->ranges);
	unlink_backend(&vm->link);
	free(vm);
}
