/* SPDX-License-Identifier: Apache-2.0 */
#include "vm/vm.h"

#include <stdio.h>

HVMI_API int hvmi_vm_get_info(const struct hvmi_vm *vm, struct hvmi_vm_info *ret)
{
	const struct hvmi_machine *d = &vm->description;
	struct hvmi_vm_info info = {
		.arch = d->arch,
		.flags = d->flags & HVMI_VM_STATIC,
		.vcpus = d->vcpus,
		.ranges = vm->range_count,
		.ram = vm->ram,
	};
	if (vm->range_count) {
		const struct vm_range *last = &vm->ranges[vm->range_count - 1];
		info.max_gpa = last->gpa + last->len - 1;
		if (vm->ranges[0].host || vm->physmap)
			info.flags |= HVMI_VM_MAPPED;
	}
	if ((vm->link.host.flags & HVMI_OPEN_WRITE) && (vm->backend.write || vm->physmap))
		info.flags |= HVMI_VM_WRITABLE;
	snprintf(info.scheme, sizeof(info.scheme), "%s", vm->backend.scheme);
	text_sanitise(d->format, strlen(d->format), info.format, sizeof(info.format));
	return result_copy(ret, &info, sizeof(info));
}

HVMI_API int hvmi_vm_range(const struct hvmi_vm *vm, uint32_t index, struct hvmi_range *ret)
{
	if (index >= vm->range_count)
		return -ENOENT;
	*ret = (struct hvmi_range){ .gpa = vm->ranges[index].gpa, .len = vm->ranges[index].len };
	return 0;
}

HVMI_API int hvmi_vm_next_data(const struct hvmi_vm *vm, uint64_t gpa, struct hvmi_range *ret)
{
	for (uint32_t i = 0; i < vm->range_count; i++) {
		const struct vm_range *r = &vm->ranges[i];
		if (gpa > r->gpa && gpa - r->gpa >= r->len)
			continue;
		uint64_t from = MAX(gpa, r->gpa), end = r->gpa + r->len;
		struct hvmi_range data = { .gpa = from, .len = end - from };
		if (vm->backend.next_data) {
			int rc = vm->backend.next_data(vm->machine, r->index, from, &data);
			if (rc == -ENOENT)
				continue;
			/* A backend that cannot tell is no reason to find nothing. */
			if (rc || data.gpa < from || data.gpa >= end || data.len == 0 ||
			    data.len > end - data.gpa)
				data = (struct hvmi_range){ .gpa = from, .len = end - from };
		}
		*ret = data;
		return 0;
	}
	return -ENOENT;
}

/* Where bytes go: one of the two is NULL. */
struct transfer {
	uint8_t *to;
	const uint8_t *from;
};

/* The plain contract of read() and write() is all or nothing; find out how far it goes. */
static int transfer_copied(const struct hvmi_vm *vm, uint64_t gpa, struct transfer t, size_t len,
			   size_t *done)
{
	if (t.from && !vm->backend.write)
		return -ENOTSUP;
	size_t step = len;
	while (*done < len) {
		size_t n = MIN(step, len - *done);
		int rc = t.to ? vm->backend.read(vm->machine, gpa + *done, t.to + *done, n) :
				vm->backend.write(vm->machine, gpa + *done, t.from + *done, n);
		if (rc == 0) {
			*done += n;
			step = step == len ? len : FRAME_SIZE;
		} else if (rc == -EFAULT && step == len &&
			   n > FRAME_SIZE - (gpa + *done) % FRAME_SIZE) {
			step = FRAME_SIZE - (gpa + *done) % FRAME_SIZE;
		} else {
			return rc;
		}
	}
	return 0;
}

/* Through what is mapped piecemeal, and where that cannot be, through the backend. */
static int transfer_pieces(const struct hvmi_vm *vm, uint64_t gpa, struct transfer t, size_t len,
			   size_t *done)
{
	while (*done < len) {
		struct physmap_copy copy = { t.to ? t.to + *done : NULL,
					     t.from ? t.from + *done : NULL };
		size_t n = 0;
		int rc = physmap_copy(vm->physmap, gpa + *done, copy, len - *done, &n);
		if (rc == -ENOTSUP) {
			struct transfer rest = { copy.to, copy.from };
			size_t left = CHUNK_SIZE - (gpa + *done) % CHUNK_SIZE;
			rc = transfer_copied(vm, gpa + *done, rest, MIN(left, len - *done), &n);
		}
		*done += n;
		if (rc)
			return rc;
	}
	return 0;
}

static int transfer_in_range(const struct hvmi_vm *vm, const struct vm_range *r, uint64_t gpa,
			     struct transfer t, size_t len, size_t *done)
{
	if (!r->host && vm->physmap)
		return transfer_pieces(vm, gpa, t, len, done);
	if (!r->host || t.from)
		return transfer_copied(vm, gpa, t, len, done);
	const uint8_t *host = r->host + (gpa - r->gpa);
	memcpy(t.to, host, len);
	*done = guard_real(r->guard, host, len);
	return *done == len ? 0 : -EIO;
}

static int transfer(const struct hvmi_vm *vm, uint64_t gpa, struct transfer t, size_t len,
		    size_t *done_ret)
{
	int rc = 0;
	size_t done = 0;
	while (done < len && !rc) {
		uint64_t at;
		const struct vm_range *r = NULL;
		if (!__builtin_add_overflow(gpa, done, &at))
			r = vm_range_of(vm, at);
		if (!r) {
			rc = -EFAULT;
			break;
		}
		struct transfer rest = { t.to ? t.to + done : NULL, t.from ? t.from + done : NULL };
		size_t n = MIN(len - done, r->len - (at - r->gpa)), moved = 0;
		rc = transfer_in_range(vm, r, at, rest, n, &moved);
		done += moved;
	}
	if (done_ret)
		*done_ret = done;
	return rc;
}

HVMI_API int hvmi_vm_read(struct hvmi_vm *vm, uint64_t gpa, void *buf, size_t len,
			  size_t *done_ret)
{
	return transfer(vm, gpa, (struct transfer){ .to = buf }, len, done_ret);
}

HVMI_API int hvmi_vm_write(struct hvmi_vm *vm, uint64_t gpa, const void *buf, size_t len,
			   size_t *done_ret)
{
	int rc = !(vm->link.host.flags & HVMI_OPEN_WRITE) ? -EACCES :
		 !vm->backend.write && !vm->physmap ? -ENOTSUP : 0;
	if (rc) {
		if (done_ret)
			*done_ret = 0;
		return rc;
	}
	rc = transfer(vm, gpa, (struct transfer){ .from = buf }, len, done_ret);
	/* It may have been a page table. */
	if (atomic_load(&vm->still))
		vm_still_again(vm);
	return rc;
}

HVMI_API int hvmi_vm_map(struct hvmi_vm *vm, uint64_t gpa, size_t len, const void **ret)
{
	const struct vm_range *r = vm_range_of(vm, gpa);
	if (!r || len > r->len - (gpa - r->gpa))
		return -EFAULT;
	if (!r->host)
		return vm->physmap ? physmap_hold(vm->physmap, gpa, len, ret) : -ENOTSUP;
	*ret = r->host + (gpa - r->gpa);
	return 0;
}

HVMI_API void hvmi_vm_unmap(struct hvmi_vm *vm, const void *mapping, size_t len)
{
	/* Whole ranges stay mapped until hvmi_close(). */
	(void)len;
	if (vm->physmap)
		physmap_unhold(vm->physmap, mapping);
}

HVMI_API int hvmi_vm_lost(const struct hvmi_vm *vm)
{
	for (uint32_t i = 0; i < vm->range_count; i++)
		if (vm->ranges[i].guard &&
		    guard_real(vm->ranges[i].guard, vm->ranges[i].host, vm->ranges[i].len) !=
			    vm->ranges[i].len)
			return 1;
	return 0;
}

HVMI_API int hvmi_vm_note(struct hvmi_vm *vm, const char *name, void *buf, size_t size,
			  size_t *len_ret)
{
	return vm->backend.note ? vm->backend.note(vm->machine, name, buf, size, len_ret) : -ENOENT;
}

HVMI_API int hvmi_vm_pause(struct hvmi_vm *vm, struct hvmi_error *err)
{
	if (vm->pauses == 0 && !(vm->description.flags & HVMI_VM_STATIC)) {
		if (!vm->backend.pause || !vm->backend.resume)
			return hvmi_error_set(err, -ENOTSUP, HVMI_NO_ADDRESS,
					      "%s machines cannot be paused", vm->backend.scheme);
		if (vm->held)
			vm->held(vm->held_context, true);
		int rc = vm->backend.pause(vm->machine, err);
		if (rc && vm->held)
			vm->held(vm->held_context, false);
		if (rc)
			return rc;
		vm_still_again(vm);
	}
	vm->pauses++;
	vm_refresh(vm);
	return 0;
}

HVMI_API int hvmi_vm_resume(struct hvmi_vm *vm, struct hvmi_error *err)
{
	if (vm->pauses == 0)
		return hvmi_error_set(err, -EINVAL, HVMI_NO_ADDRESS,
				      "the machine was not paused by this handle");
	if (vm->pauses == 1 && !(vm->description.flags & HVMI_VM_STATIC)) {
		/* Before it runs: who reads meanwhile checks. */
		uint64_t still = atomic_exchange(&vm->still, 0);
		int rc = vm->backend.resume(vm->machine, err);
		if (rc) {
			atomic_store(&vm->still, still);
			return rc;
		}
		if (vm->held)
			vm->held(vm->held_context, false);
	}
	vm->pauses--;
	vm_refresh(vm);
	return 0;
}

int vm_source_read(void *context, uint64_t gpa, void *buf, size_t len)
{
	return hvmi_vm_read(context, gpa, buf, len, NULL);
}
