/* SPDX-License-Identifier: Apache-2.0 */
#include "os/linux/linux.h"

#define VCPUS_TRIED_MAX 64u
#define CR4_LA57 (UINT64_C(1) << 12)
/* Smaller ones are not Linux: a stripped kernel's text alone has more. */
#define IMAGE_LEN_MIN (2 * MIB)
/* Runs outside the image (modules may be mapped near it) that are looked at. */
#define IMAGE_RUNS_TRIED_MAX 4096u

static void add_run(struct linux_image *image, const struct hvmi_mapping *mapping)
{
	struct image_run run = { .offset = mapping->gva - image->gva, .len = mapping->len,
				 .rights = mapping->rights };
	image->len = run.offset + run.len;
	if (image->run_count < IMAGE_RUNS_MAX) {
		image->runs[image->run_count++] = run;
		return;
	}
	/* The rest as one: what has every right is searched for everything. */
	struct image_run *last = &image->runs[IMAGE_RUNS_MAX - 1];
	last->len = image->len - last->offset;
	last->rights |= run.rights;
}

int image_probe(struct hvmi_vm *vm, uint64_t root, uint32_t paging, struct linux_image *ret)
{
	struct hvmi_space_config config = { .size = sizeof(config), .root = root, .paging = paging,
					    .flags = HVMI_SPACE_NX };
	struct hvmi_space *space;
	int rc = hvmi_space_create(vm, &config, &space, NULL);
	if (rc)
		return rc;
	struct linux_image image = { .root = root, .paging = paging };
	struct hvmi_mapping mapping = { .size = sizeof(mapping) };
	uint64_t cursor = LINUX_IMAGE_FIRST;
	for (uint32_t i = 0; i < IMAGE_RUNS_TRIED_MAX; i++) {
		rc = hvmi_space_next_mapping(space, &cursor, LINUX_IMAGE_LAST, &mapping);
		if (rc != 1)
			break;
		if (mapping.rights & HVMI_RIGHT_USER)
			continue;
		/* The image starts with code, and all of it lies in one piece of memory. */
		if (image.len == 0 && (mapping.rights & HVMI_RIGHT_EXECUTE)) {
			image.gva = mapping.gva;
			image.gpa = mapping.gpa;
		}
		if (image.gva && mapping.gva - image.gva == mapping.gpa - image.gpa)
			add_run(&image, &mapping);
	}
	hvmi_space_destroy(space);
	if (image.len < IMAGE_LEN_MIN)
		return -ENOENT;
	*ret = image;
	return 0;
}

struct search {
	struct hvmi_vm *vm;
	image_candidate_fn candidate;
	void *context;
	uint64_t max_gpa;
	/* Every process's root maps the same image: show each once. */
	struct {
		uint64_t gva, gpa;
	} shown[64];
	uint32_t shown_count;
};

static int try_root(struct search *search, uint64_t root, uint32_t paging, const char *how,
		    uint64_t at)
{
	struct linux_image image;
	if (image_probe(search->vm, root, paging, &image))
		return 0;
	for (uint32_t i = 0; i < search->shown_count; i++)
		if (search->shown[i].gva == image.gva && search->shown[i].gpa == image.gpa)
			return 0;
	/* Nobody but an attacker has so many; each costs a search of its image. */
	if (search->shown_count == ARRAY_SIZE(search->shown))
		return -ENOENT;
	search->shown[search->shown_count].gva = image.gva;
	search->shown[search->shown_count++].gpa = image.gpa;
	struct image_candidate candidate = { .image = &image, .how = how, .at = at };
	return search->candidate(search->context, &candidate);
}

int vcpu_paging(struct hvmi_vm *vm, uint32_t vcpu, uint32_t *ret)
{
	uint64_t cr4;
	int rc = hvmi_vm_register(vm, vcpu, HVMI_X86_CR4, &cr4);
	if (!rc)
		*ret = cr4 & CR4_LA57 ? HVMI_PAGING_X86_5LEVEL : HVMI_PAGING_X86_4LEVEL;
	return rc;
}

static int search_registers(struct search *search)
{
	for (uint32_t vcpu = 0; vcpu < VCPUS_TRIED_MAX; vcpu++) {
		uint64_t cr3;
		int rc = hvmi_vm_register(search->vm, vcpu, HVMI_X86_CR3, &cr3);
		if (rc == -ENOENT)
			return 0;
		if (rc)
			continue;
		uint32_t first = HVMI_PAGING_X86_4LEVEL, last = HVMI_PAGING_X86_5LEVEL, known;
		if (vcpu_paging(search->vm, vcpu, &known) == 0)
			first = last = known;
		/* Under page-table isolation the kernel's root is the lower page of a pair. */
		const uint64_t roots[] = { cr3 & ~UINT64_C(0x1fff), cr3 & ~UINT64_C(0xfff) };
		for (uint32_t paging = first; paging <= last; paging++)
			for (size_t i = 0; i < ARRAY_SIZE(roots); i++) {
				rc = try_root(search, roots[i], paging, "CR3 of a vCPU",
					      HVMI_NO_ADDRESS);
				if (rc)
					return rc;
			}
	}
	return 0;
}

static int root_window(void *context, uint64_t gpa, const uint8_t *bytes, size_t len)
{
	struct search *search = context;
	/* A root's last entry maps the kernel image: present, a table, in memory that exists. */
	size_t skip = (size_t)(-gpa % FRAME_SIZE);
	for (size_t page = skip; page + FRAME_SIZE <= len; page += FRAME_SIZE) {
		uint64_t entry = load_le64(bytes + page + FRAME_SIZE - 8);
		uint64_t table = entry & 0x000ffffffffff000ull;
		if (!(entry & 1) || (entry & 0x80) || entry >> 52 || table > search->max_gpa)
			continue;
		for (uint32_t paging = HVMI_PAGING_X86_4LEVEL; paging <= HVMI_PAGING_X86_5LEVEL;
		     paging++) {
			int rc = try_root(search, gpa + page, paging,
					  "the page-table root", gpa + page);
			if (rc)
				return rc;
		}
	}
	return 0;
}

int image_search(struct hvmi_vm *vm, image_candidate_fn candidate, void *context)
{
	struct hvmi_vm_info info = { .size = sizeof(info) };
	hvmi_vm_get_info(vm, &info);
	struct search search = { .vm = vm, .candidate = candidate, .context = context,
				 .max_gpa = info.max_gpa };
	int rc = search_registers(&search);
	if (!rc)
		rc = scan_memory(vm, 0, MIB, FRAME_SIZE, root_window, &search);
	if (!rc && info.max_gpa >= MIB)
		rc = scan_memory(vm, MIB, info.max_gpa + 1, FRAME_SIZE, root_window, &search);
	return rc ? rc : -ENOENT;
}

int image_scan(struct hvmi_vm *vm, const struct linux_image *image, size_t overlap,
	       scan_window_fn window, void *context)
{
	static const struct {
		uint32_t mask, rights;
	} classes[] = {
		{ HVMI_RIGHT_WRITE | HVMI_RIGHT_EXECUTE, 0 },
		{ HVMI_RIGHT_WRITE | HVMI_RIGHT_EXECUTE, HVMI_RIGHT_WRITE },
		{ HVMI_RIGHT_EXECUTE, HVMI_RIGHT_EXECUTE },
	};
	for (size_t c = 0; c < ARRAY_SIZE(classes); c++)
		for (uint32_t i = 0; i < image->run_count; i++) {
			const struct image_run *run = &image->runs[i];
			if ((run->rights & classes[c].mask) != classes[c].rights)
				continue;
			uint64_t from = image->gpa + run->offset;
			int rc = scan_memory(vm, from, from + run->len, overlap, window, context);
			if (rc)
				return rc;
		}
	return 0;
}
