/* SPDX-License-Identifier: Apache-2.0 */
/* System services and the processor's descriptor tables. */
#include <hvmi/windows.h>

#include "os/windows/windows.h"

#define SERVICES_MAX 4096u		/* bits 11:0 of a service number */
#define TASKS_TRIED_MAX 4096u

/* A KSERVICE_TABLE_DESCRIPTOR: Base, Count, Limit, Number. */
struct service_table {
	uint64_t base, arguments;
	uint32_t limit;
};

static int read_descriptor(const struct hvmi_os *os, struct hvmi_space *space, uint64_t gva,
			   struct service_table *ret)
{
	uint32_t n = windows_data(os)->pointer_bytes;
	uint64_t limit;
	int rc = windows_pointer_at(os, space, gva, &ret->base);
	if (!rc)
		rc = windows_pointer_at(os, space, gva + 2 * n, &limit);
	if (!rc)
		rc = windows_pointer_at(os, space, gva + 3 * n, &ret->arguments);
	if (rc)
		return rc;
	if (!windows_is_kernel(os, ret->base) || (uint32_t)limit == 0 ||
	    (uint32_t)limit > SERVICES_MAX)
		return -EBADMSG;
	ret->limit = (uint32_t)limit;
	return 0;
}

/* win32k's table is mapped in sessions only: the root of a process that sees it. */
static bool find_session(struct hvmi_os *os, uint64_t gva, struct hvmi_space **space)
{
	struct hvmi_task_iter *iter;
	struct hvmi_task task = { .size = sizeof(task) };
	uint64_t gpa;
	bool found = false;
	if (hvmi_task_iter_create(os, 0, &iter, NULL))
		return false;
	for (uint32_t i = 0; i < TASKS_TRIED_MAX && !found && hvmi_task_next(iter, &task, NULL) == 1;
	     i++) {
		struct hvmi_space *other;
		if (hvmi_task_space(os, &task, &other, NULL))
			continue;
		found = hvmi_space_translate(other, gva, &gpa) == 0;
		if (found) {
			hvmi_space_destroy(*space);
			*space = other;
		} else {
			hvmi_space_destroy(other);
		}
	}
	hvmi_task_iter_destroy(iter);
	return found;
}

static int read_service(struct hvmi_os *os, struct hvmi_space *space,
			const struct service_table *table, uint32_t index,
			struct hvmi_service *service)
{
	uint8_t entry[4], bytes;
	int rc = hvmi_space_read(space, table->base + index * 4, entry, sizeof(entry), NULL);
	if (rc)
		return rc;
	if (windows_data(os)->pointer_bytes == 4) {
		service->function = load_le32(entry);
		rc = hvmi_space_read(space, table->arguments + index, &bytes, 1, NULL);
		service->arguments = rc ? 0 : bytes;
		return 0;
	}
	/* Relative to the table; the low 4 bits count arguments on the stack. Shifted since Vista. */
	int32_t offset = (int32_t)load_le32(entry);
	service->arguments = (uint32_t)(offset & 15) * 8;
	offset = windows_data(os)->id.major >= 6 ? offset >> 4 : offset & ~15;
	service->function = table->base + (uint64_t)(int64_t)offset;
	return 0;
}

HVMI_API int hvmi_service_read(struct hvmi_os *os, uint32_t table, uint32_t index,
			       struct hvmi_service *ret, struct hvmi_error *err)
{
	struct hvmi_service service = { .number = table << 12 | index };
	struct service_table t = { 0 };
	struct hvmi_space *space;
	uint64_t gva, gpa;
	int rc = windows_only(os, err);
	if (rc)
		return rc;
	if (table > 1)
		return hvmi_error_set(err, -EINVAL, HVMI_NO_ADDRESS, "there are service tables 0 and 1");
	rc = windows_symbol(os, "services", table ? "KeServiceDescriptorTableShadow" :
						    "KeServiceDescriptorTable", &gva, err);
	if (rc)
		return rc;
	rc = hvmi_os_kernel_space(os, &space, err);
	if (rc)
		return rc;
	rc = read_descriptor(os, space, gva + table * 4 * windows_data(os)->pointer_bytes, &t);
	if (!rc && index >= t.limit)
		rc = -ENOENT;
	if (!rc && table && hvmi_space_translate(space, t.base, &gpa) &&
	    !find_session(os, t.base, &space))
		rc = -EFAULT;
	if (!rc)
		rc = read_service(os, space, &t, index, &service);
	hvmi_space_destroy(space);
	if (rc)
		return hvmi_error_set(err, rc, gva, rc == -ENOENT ? "there is no service 0x%x" :
				      "service 0x%x cannot be read", service.number);
	if (result_copy(ret, &service, sizeof(service)))
		return hvmi_error_set(err, -EINVAL, HVMI_NO_ADDRESS, "hvmi_service.size is not set");
	return 0;
}

/* Intel SDM volume 3, 6.11 and 6.14.1 (gates), 3.4.5 (segments). */
static void decode(struct hvmi_descriptor *d, bool gate, bool wide, const uint8_t bytes[16])
{
	uint32_t low = load_le32(bytes), high = load_le32(bytes + 4);
	d->present = high >> 15 & 1;
	d->dpl = high >> 13 & 3;
	if (gate) {
		d->base = (low & 0xffff) | (high & 0xffff0000u) |
			  (wide ? (uint64_t)load_le32(bytes + 8) << 32 : 0);
		d->selector = low >> 16;
		d->type = high >> 8 & 15;
		d->ist = wide ? high & 7 : 0;
		return;
	}
	d->base = low >> 16 | (high & 0xff) << 16 | (high & 0xff000000u);
	d->limit = (low & 0xffff) | (high & 0xf0000);
	if (high >> 23 & 1)
		d->limit = d->limit << 12 | 0xfff;
	d->type = high >> 8 & 31;
	/* A system segment of 64-bit mode has the rest of its base behind it. */
	if (wide && !(d->type & 16) && d->type)
		d->base |= (uint64_t)load_le32(bytes + 8) << 32;
}

HVMI_API int hvmi_descriptor_read(struct hvmi_os *os, uint32_t vcpu, uint32_t table,
				  uint32_t index, struct hvmi_descriptor *ret,
				  struct hvmi_error *err)
{
	struct hvmi_descriptor descriptor = { 0 };
	struct hvmi_space *space;
	uint64_t base, limit;
	uint8_t bytes[16] = { 0 };
	int rc = windows_only(os, err);
	if (rc)
		return rc;
	bool gate = table == HVMI_TABLE_IDT, wide = windows_data(os)->pointer_bytes == 8;
	if (table > HVMI_TABLE_GDT)
		return hvmi_error_set(err, -EINVAL, HVMI_NO_ADDRESS, "%u is no descriptor table", table);
	if (hvmi_vm_register(os->vm, vcpu, gate ? HVMI_X86_IDTR_BASE : HVMI_X86_GDTR_BASE, &base) ||
	    hvmi_vm_register(os->vm, vcpu, gate ? HVMI_X86_IDTR_LIMIT : HVMI_X86_GDTR_LIMIT, &limit))
		return hvmi_error_set(err, -ENOTSUP, HVMI_NO_ADDRESS,
				      "where the tables of vCPU %u are is unknown", vcpu);
	uint32_t size = gate && wide ? 16 : 8;
	uint64_t offset = (uint64_t)index * size;
	if (offset + size - 1 > MIN(limit, 0xffffu))
		return hvmi_error_set(err, -ENOENT, HVMI_NO_ADDRESS, "there is no entry %u", index);
	rc = hvmi_os_kernel_space(os, &space, err);
	if (rc)
		return rc;
	rc = hvmi_space_read(space, base + offset, bytes, size, NULL);
	if (!rc && !gate && wide && offset + 15 <= MIN(limit, 0xffffu))
		hvmi_space_read(space, base + offset + 8, bytes + 8, 8, NULL);
	hvmi_space_destroy(space);
	if (rc)
		return hvmi_error_set(err, rc, base + offset, "entry %u is not in memory", index);
	decode(&descriptor, gate, wide, bytes);
	if (result_copy(ret, &descriptor, sizeof(descriptor)))
		return hvmi_error_set(err, -EINVAL, HVMI_NO_ADDRESS,
				      "hvmi_descriptor.size is not set");
	return 0;
}
