/* SPDX-License-Identifier: Apache-2.0 */
#include "space/cache.h"

#define CR0_PG (1ull << 31)
#define CR4_PSE (1ull << 4)
#define CR4_PAE (1ull << 5)
#define CR4_LA57 (1ull << 12)
#define EFER_LME (1ull << 8)
#define EFER_LMA (1ull << 10)
#define EFER_NXE (1ull << 11)

HVMI_API int hvmi_space_create(struct hvmi_vm *vm, const struct hvmi_space_config *config,
			       struct hvmi_space **ret, struct hvmi_error *err)
{
	if (!vm || !config || !ret)
		return hvmi_error_set(err, -EINVAL, HVMI_NO_ADDRESS, "a required argument is NULL");
	vm_refresh(vm);
	struct hvmi_space *space = calloc(1, sizeof(*space));
	if (!space)
		return hvmi_error_set(err, -ENOMEM, HVMI_NO_ADDRESS, "out of memory");
	space->vm = vm;
	space->config.size = sizeof(space->config);
	int rc;
	if (options_copy(&space->config, sizeof(space->config), config))
		rc = hvmi_error_set(err, -EINVAL, HVMI_NO_ADDRESS,
				    "struct hvmi_space_config holds what this version does not "
				    "know: zero it and set size");
	else if ((vm->description.arch == HVMI_ARCH_ARM64) !=
		 (space->config.paging == HVMI_PAGING_ARM64) &&
		 vm->description.arch != HVMI_ARCH_UNKNOWN)
		rc = hvmi_error_set(err, -EINVAL, HVMI_NO_ADDRESS,
				    "paging of %s makes no sense in %s machine",
				    space->config.paging == HVMI_PAGING_ARM64 ? "arm64" : "x86",
				    space->config.paging == HVMI_PAGING_ARM64 ? "an x86" :
										"an arm64");
	else
		rc = space_set_mode(space, err);
	if (rc) {
		free(space);
		return rc;
	}
	*ret = space;
	return 0;
}

/* A vCPU, and what is known of it already. */
struct cpu {
	struct hvmi_vm *vm;
	uint32_t vcpu;
	const struct hvmi_registers *known;	/* or NULL */
};

static int cpu_register(const struct cpu *cpu, uint32_t id, uint64_t *ret)
{
	if (cpu->known && hvmi_registers_get(cpu->known, id, ret) == 0)
		return 0;
	return hvmi_vm_register(cpu->vm, cpu->vcpu, id, ret);
}

/* A control register; what it is needed for is part of the sentence. */
static int control_register(const struct cpu *cpu, uint32_t id, uint64_t *ret,
			    struct hvmi_error *err)
{
	int rc = cpu_register(cpu, id, ret);
	if (rc == -ENOENT)
		return hvmi_error_set(err, rc, HVMI_NO_ADDRESS, "the machine has no vCPU %u",
				      cpu->vcpu);
	if (rc)
		return hvmi_error_set(err, rc, HVMI_NO_ADDRESS,
				      "the address space of vCPU %u cannot be told: its %s cannot "
				      "be read (%s)", cpu->vcpu, hvmi_register_name(id),
				      hvmi_error_name(rc));
	return 0;
}

/*
 * EFER, or what must be in it: ELF cores of QEMU do not have it. Tables above 4 GiB can only be
 * referred to in long mode, and every 64-bit system that uses it disables execution by page.
 */
static int efer_of_vcpu(const struct cpu *cpu, uint64_t *ret, struct hvmi_error *err)
{
	uint64_t gdtr, idtr;
	if (cpu_register(cpu, HVMI_X86_EFER, ret) == -ENOTSUP &&
	    cpu_register(cpu, HVMI_X86_GDTR_BASE, &gdtr) == 0 &&
	    cpu_register(cpu, HVMI_X86_IDTR_BASE, &idtr) == 0 &&
	    gdtr > UINT32_MAX && idtr > UINT32_MAX) {
		*ret = EFER_LMA | EFER_NXE;
		return 0;
	}
	return control_register(cpu, HVMI_X86_EFER, ret, err);
}

/* 4.1.1: the four paging modes. */
static int mode_of_vcpu(const struct cpu *cpu, struct hvmi_space_config *config,
			struct hvmi_error *err)
{
	uint64_t cr4, efer;
	int rc = control_register(cpu, HVMI_X86_CR3, &config->root, err);
	if (!rc)
		rc = control_register(cpu, HVMI_X86_CR4, &cr4, err);
	if (rc)
		return rc;
	if (!(cr4 & CR4_PAE)) {
		config->paging = HVMI_PAGING_X86_32;
		config->flags = cr4 & CR4_PSE ? HVMI_SPACE_PSE : 0;
		return 0;
	}
	rc = efer_of_vcpu(cpu, &efer, err);
	if (rc)
		return rc;
	/* With paging on LMA equals LME; backends that read it from a dump may know only one. */
	if (!(efer & (EFER_LMA | EFER_LME)))
		config->paging = HVMI_PAGING_X86_PAE;
	else
		config->paging = cr4 & CR4_LA57 ? HVMI_PAGING_X86_5LEVEL : HVMI_PAGING_X86_4LEVEL;
	config->flags = efer & EFER_NXE ? HVMI_SPACE_NX : 0;
	return 0;
}

int space_config_of_vcpu(struct hvmi_vm *vm, uint32_t vcpu, const struct hvmi_registers *known,
			 struct hvmi_space_config *ret, struct hvmi_error *err)
{
	const struct cpu cpu = { .vm = vm, .vcpu = vcpu, .known = known };
	struct hvmi_space_config config = { .size = sizeof(config) };
	uint64_t cr0;
	int rc = control_register(&cpu, HVMI_X86_CR0, &cr0, err);
	if (!rc && cr0 & CR0_PG)
		rc = mode_of_vcpu(&cpu, &config, err);
	if (!rc)
		*ret = config;
	return rc;
}

HVMI_API int hvmi_space_create_vcpu(struct hvmi_vm *vm, uint32_t vcpu, struct hvmi_space **ret,
				    struct hvmi_error *err)
{
	if (!vm || !ret)
		return hvmi_error_set(err, -EINVAL, HVMI_NO_ADDRESS, "a required argument is NULL");
	if (vm->description.arch == HVMI_ARCH_ARM64)
		return hvmi_error_set(err, -ENOTSUP, HVMI_NO_ADDRESS,
				      "address spaces of arm64 vCPUs are not known");
	struct hvmi_space_config config;
	int rc = space_config_of_vcpu(vm, vcpu, NULL, &config, err);
	return rc ? rc : hvmi_space_create(vm, &config, ret, err);
}

HVMI_API void hvmi_space_destroy(struct hvmi_space *space)
{
	if (!space)
		return;
	space_cache_release(space->vm, space->cache);
	free(space);
}

HVMI_API int hvmi_space_get_config(const struct hvmi_space *space, struct hvmi_space_config *ret)
{
	return result_copy(ret, &space->config, sizeof(space->config));
}

HVMI_API struct hvmi_vm *hvmi_space_vm(const struct hvmi_space *space)
{
	return space->vm;
}
