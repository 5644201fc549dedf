/* SPDX-License-Identifier: Apache-2.0 */
#include "vm/vm.h"

HVMI_API int hvmi_vm_register(struct hvmi_vm *vm, uint32_t vcpu, uint32_t id, uint64_t *ret)
{
	const struct hvmi_backend *b = &vm->backend;
	if (vcpu >= vm->description.vcpus)
		return -ENOENT;
	if (b->get_register)
		return b->get_register(vm->machine, vcpu, id, ret);
	struct hvmi_registers all = { 0 };
	int rc = b->get_registers ? b->get_registers(vm->machine, vcpu, &all, NULL) : -ENOTSUP;
	return rc ? rc : hvmi_registers_get(&all, id, ret) ? -ENOTSUP : 0;
}

HVMI_API int hvmi_vm_set_register(struct hvmi_vm *vm, uint32_t vcpu, uint32_t id, uint64_t value)
{
	const struct hvmi_backend *b = &vm->backend;
	if (vcpu >= vm->description.vcpus)
		return -ENOENT;
	if (!(vm->link.host.flags & HVMI_OPEN_WRITE))
		return -EACCES;
	if (b->set_register)
		return b->set_register(vm->machine, vcpu, id, value);
	if (id >= HVMI_REGISTER_END || !b->set_registers)
		return -ENOTSUP;
	struct hvmi_registers one = { 0 };
	hvmi_registers_set(&one, id, value);
	return b->set_registers(vm->machine, vcpu, &one, NULL);
}

static int no_vcpu(const struct hvmi_vm *vm, uint32_t vcpu, struct hvmi_error *err)
{
	if (vcpu < vm->description.vcpus)
		return 0;
	return hvmi_error_set(err, -ENOENT, HVMI_NO_ADDRESS, "the machine has no vCPU %u", vcpu);
}

HVMI_API int hvmi_vm_get_registers(struct hvmi_vm *vm, uint32_t vcpu, struct hvmi_registers *ret,
				   struct hvmi_error *err)
{
	const struct hvmi_backend *b = &vm->backend;
	int rc = no_vcpu(vm, vcpu, err);
	if (rc)
		return rc;
	if (!b->get_registers && !b->get_register)
		return hvmi_error_set(err, -ENOTSUP, HVMI_NO_ADDRESS,
				      "%s machines tell no registers", b->scheme);
	struct hvmi_registers all = { 0 };
	uint64_t value;
	if (b->get_registers) {
		rc = b->get_registers(vm->machine, vcpu, &all, err);
		if (rc)
			return rc;
	} else {
		for (uint32_t id = 1; id < HVMI_REGISTER_END; id++) {
			rc = b->get_register(vm->machine, vcpu, id, &value);
			if (rc == 0)
				hvmi_registers_set(&all, id, value);
			else if (rc != -ENOTSUP)
				return hvmi_error_set(err, rc, HVMI_NO_ADDRESS,
						      "%s of vCPU %u cannot be read",
						      hvmi_register_name(id), vcpu);
		}
	}
	*ret = all;
	return 0;
}

/* What backends with the single method have: undone as far as it went. */
static int set_one_by_one(struct hvmi_vm *vm, uint32_t vcpu, const struct hvmi_registers *values,
			  struct hvmi_error *err)
{
	const struct hvmi_backend *b = &vm->backend;
	struct hvmi_registers old;
	int rc = hvmi_vm_get_registers(vm, vcpu, &old, err);
	if (rc)
		return rc;
	for (uint32_t id = 1; id < HVMI_REGISTER_END; id++) {
		if (!hvmi_registers_known(values, id))
			continue;
		rc = b->set_register(vm->machine, vcpu, id, values->values[id]);
		if (!rc)
			continue;
		for (uint32_t done = 1; done < id; done++)
			if (hvmi_registers_known(values, done) && hvmi_registers_known(&old, done))
				b->set_register(vm->machine, vcpu, done, old.values[done]);
		return hvmi_error_set(err, rc, HVMI_NO_ADDRESS, "%s of vCPU %u cannot be set (%s)",
				      hvmi_register_name(id), vcpu, hvmi_error_name(rc));
	}
	return 0;
}

HVMI_API int hvmi_vm_set_registers(struct hvmi_vm *vm, uint32_t vcpu,
				   const struct hvmi_registers *values, struct hvmi_error *err)
{
	int rc = no_vcpu(vm, vcpu, err);
	if (!rc)
		rc = vm_need_write(vm, err);
	if (!rc)
		rc = hvmi_vm_capability(vm, HVMI_CAN_SET_REGISTERS, err);
	if (rc)
		return rc;
	for (uint32_t id = 0; id < HVMI_REGISTERS_MAX; id++)
		if ((id == 0 || id >= HVMI_REGISTER_END) && hvmi_registers_known(values, id))
			return hvmi_error_set(err, -ENOTSUP, HVMI_NO_ADDRESS,
					      "there is no register %u", id);
	if (vm->backend.set_registers)
		return vm->backend.set_registers(vm->machine, vcpu, values, err);
	return set_one_by_one(vm, vcpu, values, err);
}

int vm_need_write(const struct hvmi_vm *vm, struct hvmi_error *err)
{
	if (vm->link.host.flags & HVMI_OPEN_WRITE)
		return 0;
	return hvmi_error_set(err, -EACCES, HVMI_NO_ADDRESS,
			      "the machine was opened for reading only: open it with "
			      "HVMI_OPEN_WRITE");
}

HVMI_API int hvmi_vm_inject(struct hvmi_vm *vm, uint32_t vcpu,
			    const struct hvmi_injection *injection, struct hvmi_error *err)
{
	struct hvmi_injection i = { .size = sizeof(i) };
	int rc = no_vcpu(vm, vcpu, err);
	if (!rc)
		rc = vm_need_write(vm, err);
	if (!rc)
		rc = injection_take(&i, injection, err);
	if (!rc)
		rc = hvmi_vm_capability(vm, HVMI_CAN_INJECT, err);
	return rc ? rc : vm->backend.inject(vm->machine, vcpu, &i, err);
}

int injection_take(struct hvmi_injection *to, const struct hvmi_injection *from,
		   struct hvmi_error *err)
{
	/* SDM volume 3, 25.8.3: type 1 is reserved, and instructions have 1 to 15 bytes. */
	if (!from || options_copy(to, sizeof(*to), from) || to->vector > 255 || to->type > 6 ||
	    to->type == 1 || to->insn_length > 15 || (to->type >= 4 && to->insn_length == 0))
		return hvmi_error_set(err, -EINVAL, HVMI_NO_ADDRESS,
				      "struct hvmi_injection makes no sense: see event.h");
	return 0;
}
