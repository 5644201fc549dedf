/* SPDX-License-Identifier: Apache-2.0 */
#include "os/windows/find.h"

#include <inttypes.h>
#include <stdio.h>

#include "os/scan.h"
#include "os/windows/debugger.h"

#define CR0_PG (UINT64_C(1) << 31)
#define CR4_PAE (UINT64_C(1) << 5)
#define CR4_LA57 (UINT64_C(1) << 12)
#define EFER_LMA (UINT64_C(1) << 10)

#define VCPUS_TRIED_MAX 64u
/* A kernel's image is smaller: 18 MiB have been seen. */
#define KERNEL_BYTES_MAX (64 * MIB)
#define KERNEL_BYTES_MIN MIB
/* Pages of mapped memory that are looked at for the image, over all candidates. */
#define PAGES_TRIED_MAX (8u * 1024 * 1024)
#define RUNS_TRIED_MAX (1u * 1024 * 1024)
#define ROOTS_TRIED_MAX 64u
#define PDPT_SEARCHES_MAX 8u

#define ENTRY_FRAME 0x000ffffffffff000ull

static bool is_64(uint32_t paging)
{
	return paging == HVMI_PAGING_X86_4LEVEL || paging == HVMI_PAGING_X86_5LEVEL ||
	       paging == HVMI_PAGING_ARM64;
}

/* Where kernels are loaded, by what the boot loader and MiInitSystem have chosen so far. */
static bool may_be_kernel(uint32_t paging, uint64_t gva)
{
	return is_64(paging) ? gva >= 0xfffff80000000000ull && gva < 0xffffff0000000000ull :
			       gva >= 0x80000000u && gva <= UINT32_MAX;
}

int windows_shared_read(struct hvmi_space *space, struct windows_shared *ret)
{
	struct hvmi_space_config config = { .size = sizeof(config) };
	uint8_t page[0x300];
	hvmi_space_get_config(space, &config);
	struct windows_shared shared = {
		.gva = is_64(config.paging) ? 0xfffff78000000000ull : 0xffdf0000u,
	};
	if (hvmi_space_read(space, shared.gva, page, sizeof(page), NULL) ||
	    hvmi_space_translate(space, shared.gva, &shared.gpa))
		return -ENOENT;
	shared.major = load_le32(page + 0x26c);
	shared.minor = load_le32(page + 0x270);
	const uint8_t *root = page + 0x30;
	uint16_t letter = load_le16(root);
	if (shared.major < 5 || shared.major > 20 || shared.minor > 20 || letter < 'A' ||
	    letter > 'z' || load_le16(root + 2) != ':' || load_le16(root + 4) != '\\')
		return -ENOENT;
	if (shared.major >= 10)
		shared.build = load_le32(page + 0x260);
	for (size_t i = 0; i < sizeof(shared.system_root) - 1; i++) {
		uint16_t c = load_le16(root + 2 * i);
		if (c < ' ' || c > '~')
			break;
		shared.system_root[i] = (char)c;
	}
	/* KSYSTEM_TIME: LowPart, High1Time, High2Time; torn while High1 and High2 differ. */
	uint64_t since_boot = load_le64(page + 0x8), now = load_le64(page + 0x14);
	if (load_le32(page + 0xc) == load_le32(page + 0x10) &&
	    load_le32(page + 0x18) == load_le32(page + 0x1c) && now > since_boot)
		shared.boot_time = now - since_boot;
	*ret = shared;
	return 0;
}

/* The image. */

/* Whether an image is the kernel's, by whatever of it is in memory. */
static bool is_kernel(uint32_t paging, const struct windows_image *image)
{
	static const char *const pdb_names[] = { "ntkrnlmp.pdb", "ntoskrnl.pdb", "ntkrnlpa.pdb",
						 "ntkrpamp.pdb", "ntkrla57.pdb" };
	static const char *const names[] = { "ntoskrnl.exe", "ntkrnlmp.exe", "ntkrnlpa.exe",
					     "ntkrpamp.exe", "ntkrla57.exe" };
	uint32_t machine = paging == HVMI_PAGING_ARM64 ? WINDOWS_MACHINE_ARM64 :
			   is_64(paging)	       ? WINDOWS_MACHINE_X64 : WINDOWS_MACHINE_X86;
	if (image->machine != machine || image->bytes < KERNEL_BYTES_MIN ||
	    image->bytes > KERNEL_BYTES_MAX)
		return false;
	if (image->pdb_name[0]) {
		for (size_t i = 0; i < ARRAY_SIZE(pdb_names); i++)
			if (strcmp(image->pdb_name, pdb_names[i]) == 0)
				return true;
		return false;
	}
	if (image->name[0]) {
		for (size_t i = 0; i < ARRAY_SIZE(names); i++)
			if (strcmp(image->name, names[i]) == 0)
				return true;
		return false;
	}
	/* Sections that no other image has. */
	for (uint32_t i = 0; i < image->section_count; i++)
		if (strcmp(image->sections[i].name, "INITKDBG") == 0 ||
		    strcmp(image->sections[i].name, "PAGEKD") == 0)
			return true;
	return false;
}

static bool kernel_at(struct hvmi_space *space, uint32_t paging, uint64_t base,
		      struct windows_image *ret)
{
	uint8_t magic[2];
	return hvmi_space_read(space, base, magic, sizeof(magic), NULL) == 0 && magic[0] == 'M' &&
	       magic[1] == 'Z' && windows_image_read(space, base, ret) == 0 &&
	       is_kernel(paging, ret);
}

/* The kernel that holds `hint`, downwards from there. */
static bool find_below(struct hvmi_space *space, uint32_t paging, uint64_t hint,
		       struct windows_image *ret)
{
	if (!may_be_kernel(paging, hint))
		return false;
	uint64_t base = hint & ~(uint64_t)(FRAME_SIZE - 1);
	for (uint64_t i = 0; i < KERNEL_BYTES_MAX / FRAME_SIZE && may_be_kernel(paging, base);
	     i++, base -= FRAME_SIZE)
		if (kernel_at(space, paging, base, ret) && hint - base < ret->bytes)
			return true;
	return false;
}

struct search {
	struct hvmi_vm *vm;
	struct windows_found *ret;
	uint64_t max_gpa;
	uint32_t pages_left, runs_left, roots_left, pdpts_left;
	/* A self-map to which a PDPT is being looked for. */
	uint64_t frames[4], pdpt;
};

/* The kernel anywhere in the space. */
static bool find_mapped(struct search *search, struct hvmi_space *space, uint32_t paging,
			struct windows_image *ret)
{
	uint64_t cursor = is_64(paging) ? 0xfffff80000000000ull : 0x80000000u;
	uint64_t last = is_64(paging) ? 0xfffff8ffffffffffull : UINT32_MAX;
	struct hvmi_mapping run = { .size = sizeof(run) };
	while (search->runs_left && hvmi_space_next_mapping(space, &cursor, last, &run) == 1) {
		search->runs_left--;
		for (uint64_t at = 0; at < run.len; at += FRAME_SIZE) {
			uint8_t magic[2];
			if (search->pages_left == 0)
				return false;
			search->pages_left--;
			if (hvmi_vm_read(search->vm, run.gpa + at, magic, 2, NULL) == 0 &&
			    magic[0] == 'M' && magic[1] == 'Z' &&
			    kernel_at(space, paging, run.gva + at, ret))
				return true;
		}
	}
	return false;
}

static struct hvmi_space_config space_config(uint32_t paging, uint64_t root)
{
	return (struct hvmi_space_config){
		.size = sizeof(struct hvmi_space_config), .root = root, .paging = paging,
		.flags = paging == HVMI_PAGING_X86_32 ? HVMI_SPACE_PSE : HVMI_SPACE_NX };
}

static bool accept(struct search *search, struct hvmi_space *space, const char *how, uint64_t at)
{
	struct windows_found *found = search->ret;
	found->config.size = sizeof(found->config);
	hvmi_space_get_config(space, &found->config);
	found->at = at;
	snprintf(found->how, sizeof(found->how), "%s", how);
	/* The header was read, so it is mapped. */
	return hvmi_space_translate(space, found->image.base, &found->image_gpa) == 0;
}

bool windows_root_maps(struct hvmi_vm *vm, const struct windows_found *found, uint64_t root)
{
	struct hvmi_space_config config = found->config;
	struct hvmi_space *space;
	uint64_t gpa;
	config.root = root;
	if (hvmi_space_create(vm, &config, &space, NULL))
		return false;
	bool same = hvmi_space_translate(space, found->image.base, &gpa) == 0 &&
		    gpa == found->image_gpa;
	hvmi_space_destroy(space);
	return same;
}

/* By registers. */

/* How a vCPU's addresses are translated, as far as its registers tell. */
static bool vcpu_config(struct hvmi_vm *vm, uint32_t vcpu, struct hvmi_space_config *ret)
{
	uint64_t cr0, cr3, cr4, efer, idtr, lstar, rip;
	if (hvmi_vm_register(vm, vcpu, HVMI_X86_CR3, &cr3))
		return false;
	if (hvmi_vm_register(vm, vcpu, HVMI_X86_CR0, &cr0) == 0 && !(cr0 & CR0_PG))
		return false;
	bool have_cr4 = hvmi_vm_register(vm, vcpu, HVMI_X86_CR4, &cr4) == 0;
	bool have_idtr = hvmi_vm_register(vm, vcpu, HVMI_X86_IDTR_BASE, &idtr) == 0;
	bool long_mode = true;
	if (hvmi_vm_register(vm, vcpu, HVMI_X86_EFER, &efer) == 0 && efer)
		long_mode = efer & EFER_LMA;
	else if (have_idtr)
		long_mode = idtr > UINT32_MAX;
	else if (have_cr4)
		long_mode = cr4 & CR4_PAE;
	/* Where RIP is all that may lead to the kernel, it tells how wide that is. */
	if (long_mode && !have_idtr && hvmi_vm_register(vm, vcpu, HVMI_X86_EFER, &efer) &&
	    hvmi_vm_register(vm, vcpu, HVMI_X86_LSTAR, &lstar) &&
	    hvmi_vm_register(vm, vcpu, HVMI_X86_RIP, &rip) == 0)
		long_mode = rip > UINT32_MAX;
	uint32_t paging = long_mode ? have_cr4 && cr4 & CR4_LA57 ? HVMI_PAGING_X86_5LEVEL :
								    HVMI_PAGING_X86_4LEVEL :
			  have_cr4 && !(cr4 & CR4_PAE) ? HVMI_PAGING_X86_32 :
							 HVMI_PAGING_X86_PAE;
	uint64_t flags = paging == HVMI_PAGING_X86_PAE ? 0x1f : FRAME_SIZE - 1;
	*ret = space_config(paging, cr3 & ~flags);
	return true;
}

#define HINTS_MAX 8u

/* Addresses in the kernel's image that the registers hold or lead to. */
static uint32_t vcpu_hints(struct hvmi_vm *vm, uint32_t vcpu, struct hvmi_space *space,
			   uint32_t paging, uint64_t hints[HINTS_MAX])
{
	static const uint32_t ids[] = { HVMI_X86_LSTAR, HVMI_X86_SYSENTER_EIP, HVMI_X86_RIP };
	static const uint8_t vectors[] = { 14, 3, 0 };	/* KiPageFault, KiBreakpointTrap ... */
	uint64_t value;
	uint32_t count = 0;
	for (size_t i = 0; i < 2; i++)
		if (hvmi_vm_register(vm, vcpu, ids[i], &value) == 0 && may_be_kernel(paging, value))
			hints[count++] = value;
	if (hvmi_vm_register(vm, vcpu, HVMI_X86_IDTR_BASE, &value) == 0)
		for (size_t i = 0; i < ARRAY_SIZE(vectors); i++) {
			uint32_t bytes = is_64(paging) ? 16 : 8;
			uint8_t gate[16] = { 0 };
			if (hvmi_space_read(space, value + vectors[i] * bytes, gate, bytes, NULL))
				continue;
			uint64_t handler = load_le16(gate) | (uint64_t)load_le16(gate + 6) << 16 |
					   (is_64(paging) ? (uint64_t)load_le32(gate + 8) << 32 : 0);
			if (may_be_kernel(paging, handler))
				hints[count++] = handler;
		}
	if (hvmi_vm_register(vm, vcpu, ids[2], &value) == 0 && may_be_kernel(paging, value))
		hints[count++] = value;
	return count;
}

/*
 * In user mode a vCPU may be in page tables that map no more of the kernel than its entries (KVA
 * shadow). Those entries load the kernel's root from the KPRCB: KPCR + 0x7000 (1709 to 1809) or
 * 0x9000 (since 1903). It is checked by what it maps, so trying more pages does no harm.
 */
static uint32_t shadowed_roots(struct hvmi_vm *vm, uint32_t vcpu, struct hvmi_space *space,
			       uint64_t max_gpa, uint64_t roots[16])
{
	static const uint32_t ids[] = { HVMI_X86_GS_BASE, HVMI_X86_KERNEL_GS_BASE };
	uint32_t count = 0;
	for (size_t i = 0; i < ARRAY_SIZE(ids); i++) {
		uint64_t kpcr, root;
		if (hvmi_vm_register(vm, vcpu, ids[i], &kpcr) || kpcr >> 47 != 0x1ffff)
			continue;
		for (uint64_t offset = 0x7000; offset <= 0xb000; offset += FRAME_SIZE) {
			if (hvmi_space_read(space, kpcr + offset, &root, sizeof(root), NULL))
				continue;
			root &= ENTRY_FRAME;
			if (root && root <= max_gpa)
				roots[count++] = root;
		}
	}
	return count;
}

static bool try_vcpu_root(struct search *search, uint64_t root, uint32_t paging,
			  const uint64_t *hints, uint32_t hint_count, const char *how)
{
	struct hvmi_space_config config = space_config(paging, root);
	struct hvmi_space *space;
	bool found = false;
	if (hvmi_space_create(search->vm, &config, &space, NULL))
		return false;
	for (uint32_t i = 0; i < hint_count && !found; i++)
		found = find_below(space, paging, hints[i], &search->ret->image) &&
			accept(search, space, how, HVMI_NO_ADDRESS);
	hvmi_space_destroy(space);
	return found;
}

static bool try_vcpu(struct search *search, uint32_t vcpu)
{
	struct hvmi_space_config config;
	struct hvmi_space *space;
	uint64_t hints[HINTS_MAX], roots[16];
	char how[128];
	if (!vcpu_config(search->vm, vcpu, &config) ||
	    hvmi_space_create(search->vm, &config, &space, NULL))
		return false;
	uint32_t hint_count = vcpu_hints(search->vm, vcpu, space, config.paging, hints);
	uint32_t root_count = hint_count && is_64(config.paging) ?
		shadowed_roots(search->vm, vcpu, space, search->max_gpa, roots) : 0;
	hvmi_space_destroy(space);
	snprintf(how, sizeof(how), "below the entry points of vCPU %u, in the space of its CR3",
		 vcpu);
	if (try_vcpu_root(search, config.root, config.paging, hints, hint_count, how))
		return true;
	snprintf(how, sizeof(how), "below the entry points of vCPU %u, whose CR3 is a KVA-shadow "
		 "root: the kernel's is in its KPRCB", vcpu);
	for (uint32_t i = 0; i < root_count; i++)
		if (roots[i] != config.root &&
		    try_vcpu_root(search, roots[i], config.paging, hints, hint_count, how)) {
			search->ret->shadow_root = config.root;
			return true;
		}
	return false;
}

static void search_init(struct search *search, struct hvmi_vm *vm, struct windows_found *ret)
{
	struct hvmi_vm_info info = { .size = sizeof(info) };
	hvmi_vm_get_info(vm, &info);
	memset(ret, 0, sizeof(*ret));
	ret->shadow_root = HVMI_NO_ADDRESS;
	*search = (struct search){ .vm = vm, .ret = ret, .max_gpa = info.max_gpa,
				   .pages_left = PAGES_TRIED_MAX, .runs_left = RUNS_TRIED_MAX,
				   .roots_left = ROOTS_TRIED_MAX,
				   .pdpts_left = PDPT_SEARCHES_MAX };
}

int windows_find_by_registers(struct hvmi_vm *vm, struct windows_found *ret)
{
	struct search search;
	struct hvmi_vm_info info = { .size = sizeof(info) };
	hvmi_vm_get_info(vm, &info);
	search_init(&search, vm, ret);
	for (uint32_t vcpu = 0; vcpu < MIN(info.vcpus, VCPUS_TRIED_MAX); vcpu++)
		if (try_vcpu(&search, vcpu))
			return 0;
	return -ENOENT;
}

/* By the header of a crash dump. */

int windows_find_by_header(struct hvmi_vm *vm, struct windows_found *ret)
{
	struct windows_header header;
	struct search search;
	if (windows_header_read(vm, &header))
		return -ENOENT;
	uint32_t paging = header.machine == WINDOWS_MACHINE_ARM64 ? HVMI_PAGING_ARM64 :
			  header.machine == WINDOWS_MACHINE_X64	  ? HVMI_PAGING_X86_4LEVEL :
			  header.machine != WINDOWS_MACHINE_X86	  ? HVMI_PAGING_NONE :
			  header.pae				  ? HVMI_PAGING_X86_PAE :
								    HVMI_PAGING_X86_32;
	if (paging == HVMI_PAGING_NONE)
		return -ENOENT;
	const uint64_t hints[] = { header.modules, header.processes, header.debugger };
	uint64_t root = header.root & ~(paging == HVMI_PAGING_X86_PAE ? UINT64_C(0x1f) :
									FRAME_SIZE - UINT64_C(1));
	search_init(&search, vm, ret);
	return try_vcpu_root(&search, root, paging, hints, ARRAY_SIZE(hints),
			     "below the heads of lists, in the root, that the dump's header tells") ?
		       0 : -ENOENT;
}

/* By memory. */

/* A root that also maps KUSER_SHARED_DATA: decoys rarely do. */
static bool try_root(struct search *search, uint64_t root, uint32_t paging, const char *how,
		     uint64_t at)
{
	struct hvmi_space_config config = space_config(paging, root);
	struct hvmi_space *space;
	struct windows_shared shared;
	if (hvmi_space_create(search->vm, &config, &space, NULL))
		return false;
	bool found = windows_shared_read(space, &shared) == 0 &&
		     find_mapped(search, space, paging, &search->ret->image) &&
		     accept(search, space, how, at);
	hvmi_space_destroy(space);
	return found;
}

/*
 * PROCESSOR_START_BLOCK: a page in the first MiB with which the HAL starts processors. It begins
 * with a jump and a flag that it is complete; LmTarget at 0x70, CR3 at 0xa0.
 */
int windows_find_by_stub(struct hvmi_vm *vm, struct windows_found *ret)
{
	struct search search;
	uint8_t block[0xa8];
	search_init(&search, vm, ret);
	for (uint64_t gpa = 0x1000; gpa < MIB; gpa += FRAME_SIZE) {
		if (hvmi_vm_read(vm, gpa, block, sizeof(block), NULL) ||
		    (load_le64(block) & 0xffffffffffff00ffull) != 0x00000001000600e9ull ||
		    (load_le64(block + 0x70) & 0xfffff80000000003ull) != 0xfffff80000000000ull)
			continue;
		uint64_t root = load_le64(block + 0xa0);
		if (root % FRAME_SIZE == 0 && root <= search.max_gpa &&
		    try_root(&search, root, HVMI_PAGING_X86_4LEVEL,
			     "mapped by the root in the processor start block", gpa))
			return 0;
	}
	return -ENOENT;
}

/* Which entry of the upper half of a table refers to the table itself, and that only. */
static bool maps_itself(const uint8_t *page, uint64_t gpa)
{
	for (uint32_t i = 256; i < 512; i++) {
		uint64_t entry = load_le64(page + 8 * i);
		if ((entry & ENTRY_FRAME) == gpa && (entry & 0x83) == 3)
			return true;
	}
	return false;
}

static int pdpt_window(void *context, uint64_t gpa, const uint8_t *bytes, size_t len)
{
	struct search *search = context;
	for (size_t at = (size_t)(-gpa % 32); at + 32 <= len; at += 32) {
		uint32_t same = 0;
		for (; same < 4; same++) {
			uint64_t entry = load_le64(bytes + at + 8 * same);
			if (!(entry & 1) || (entry & ENTRY_FRAME) != search->frames[same])
				break;
		}
		if (same == 4) {
			search->pdpt = gpa + at;
			return 1;
		}
	}
	return 0;
}

/* PAE: the fourth page directory maps all four; the PDPT that holds them is anywhere below 4 GiB. */
static bool try_pae(struct search *search, const uint8_t *page, uint64_t gpa)
{
	for (uint32_t i = 0; i < 4; i++) {
		uint64_t entry = load_le64(page + 8 * i);
		if ((entry & 0x83) != 3 || (entry & ENTRY_FRAME) > search->max_gpa)
			return false;
		search->frames[i] = entry & ENTRY_FRAME;
	}
	if (search->frames[3] != gpa || search->pdpts_left == 0)
		return false;
	search->pdpts_left--;
	if (scan_memory(search->vm, 0, MIN(search->max_gpa, UINT32_MAX) + 1, 0, pdpt_window,
			search) != 1)
		return false;
	return try_root(search, search->pdpt, HVMI_PAGING_X86_PAE,
			"mapped by the page directory that maps itself", gpa);
}

static int table_window(void *context, uint64_t gpa, const uint8_t *bytes, size_t len)
{
	struct search *search = context;
	uint8_t copy[FRAME_SIZE];
	for (size_t at = (size_t)(-gpa % FRAME_SIZE); at + FRAME_SIZE <= len; at += FRAME_SIZE) {
		const uint8_t *page = bytes + at;
		uint64_t here = gpa + at;
		/* x64: what KUSER_SHARED_DATA and the HAL's memory are under is there in each root. */
		bool wide = (load_le64(page + 8 * 511) & 0x83) == 3 &&
			    (load_le64(page + 8 * 0x1ef) & 0x83) == 3;
		bool pae = (load_le64(page + 8 * 3) & ENTRY_FRAME) == here &&
			   (load_le64(page + 8 * 3) & 0x83) == 3;
		bool narrow = here <= UINT32_MAX &&
			      (load_le32(page + 4 * 0x300) & 0xfffff083u) == ((uint32_t)here | 3);
		if (!wide && !pae && !narrow)
			continue;
		memcpy(copy, page, sizeof(copy));
		if (wide && maps_itself(copy, here)) {
			if (search->roots_left-- == 0)
				return -ENOENT;
			if (try_root(search, here, HVMI_PAGING_X86_4LEVEL,
				     "mapped by the root that maps itself", here))
				return 1;
		}
		if (pae && try_pae(search, copy, here))
			return 1;
		if (narrow) {
			if (search->roots_left-- == 0)
				return -ENOENT;
			if (try_root(search, here, HVMI_PAGING_X86_32,
				     "mapped by the page directory that maps itself", here))
				return 1;
		}
	}
	return 0;
}

int windows_find_by_tables(struct hvmi_vm *vm, struct windows_found *ret)
{
	struct search search;
	search_init(&search, vm, ret);
	int rc = scan_memory(vm, 0, search.max_gpa + 1, 0, table_window, &search);
	return rc == 1 ? 0 : rc == 0 ? -ENOENT : rc;
}
