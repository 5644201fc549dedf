/* SPDX-License-Identifier: Apache-2.0 */
#include <inttypes.h>
#include <stdio.h>

#include "os/linux/linux.h"

#define VCPUS_CHECKED_MAX 1024u
/* Symbol tables that are decoded before a guest full of decoys is given up. */
#define TABLES_TRIED_MAX 32u

/* Finding the symbol table in an image. */

struct recognition {
	struct hvmi_os *os;
	struct linux_os *data;
	char how[96];
	uint32_t images, tables;	/* that were tried */
	struct hvmi_error refusal;	/* of the last table */
};

struct kallsyms_search {
	struct recognition *r;
	const struct linux_image *image;
};

/* A table is believed when it decodes to symbols that suit the image: decoys may come first. */
static int kallsyms_window(void *context, uint64_t gpa, const uint8_t *bytes, size_t len)
{
	struct kallsyms_search *search = context;
	struct recognition *r = search->r;
	struct source source = { vm_source_read, r->os->vm };
	const struct linux_image *image = search->image;
	const struct kallsyms_hints hints = {
		.have_shift = true,
		.shift = image->gva - image->gpa,
		.image_gva = image->gva,
		.image_len = image->len,
		.stext_gva = r->data->vmcoreinfo.have_stext ? r->data->vmcoreinfo.stext : 0,
	};
	for (size_t offset = 0; kallsyms_scan(bytes, len, &offset) == 0; offset++) {
		struct kallsyms found;
		if (kallsyms_locate(&source, gpa + offset, &found))
			continue;
		if (r->tables++ == TABLES_TRIED_MAX)
			return -ENOENT;
		if (kallsyms_load(&source, &found, &hints, &r->os->profile->symbols,
				  &r->refusal) == 0) {
			r->data->kallsyms = found;
			return 1;
		}
		symbols_deinit(&r->os->profile->symbols);
		vm_log(r->os->vm, HVMI_LOG_INFO, "no symbols at gpa 0x%" PRIx64 ": %s",
		       gpa + offset, r->refusal.text);
	}
	return 0;
}

static int try_image(void *context, const struct image_candidate *candidate)
{
	struct recognition *r = context;
	struct kallsyms_search search = { .r = r, .image = candidate->image };
	r->images++;
	int rc = image_scan(r->os->vm, candidate->image, KALLSYMS_TOKEN_TABLE_MAX, kallsyms_window,
			    &search);
	if (rc != 1)
		return rc;
	r->data->image = *candidate->image;
	r->data->shift = candidate->image->gva - candidate->image->gpa;
	if (candidate->at == HVMI_NO_ADDRESS)
		snprintf(r->how, sizeof(r->how), "mapped by %s", candidate->how);
	else
		snprintf(r->how, sizeof(r->how), "mapped by %s at gpa 0x%" PRIx64, candidate->how,
			 candidate->at);
	return 1;
}

static void state_symbols(struct recognition *r)
{
	static const char *const modes[] = { "undecided", "absolute", "base-relative",
					     "base-relative with absolute per-CPU symbols",
					     "relative to their own place" };
	const struct kallsyms *k = &r->data->kallsyms;
	char value[128];
	snprintf(value, sizeof(value), "%u symbols, addresses %s", r->os->profile->symbols.count,
		 k->address_mode < ARRAY_SIZE(modes) ? modes[k->address_mode] : "?");
	uint64_t gva;
	bool agrees = symbols_find(&r->os->profile->symbols, "_text", &gva) == 0 &&
		      gva == r->data->image.gva;
	os_fact(r->os, "kallsyms", agrees ? HVMI_CONFIDENCE_HIGH : HVMI_CONFIDENCE_MEDIUM,
		k->token_table_at, 0, value, "token table found in the kernel image%s",
		agrees ? "; its _text is where the image begins" : "");
}

/* VMCOREINFO. */

/* From a note of the image, before anything else is known. */
static void read_note(struct recognition *r)
{
	uint8_t text[VMCOREINFO_BYTES_MAX];
	size_t len = 0;
	int rc = hvmi_vm_note(r->os->vm, "VMCOREINFO", text, sizeof(text), &len);
	if (rc == -EOVERFLOW)
		len = sizeof(text);
	else if (rc)
		return;
	if (vmcoreinfo_parse(text, len, &r->data->vmcoreinfo) == 0)
		os_fact(r->os, "vmcoreinfo", HVMI_CONFIDENCE_MEDIUM, HVMI_NO_ADDRESS, len,
			r->data->vmcoreinfo.release, "a note of the image");
}

static void read_vmcoreinfo(struct recognition *r, struct hvmi_space *space)
{
	uint8_t page[VMCOREINFO_BYTES_MAX];
	uint64_t pointer, gva, gpa;
	struct vmcoreinfo *info = &r->data->vmcoreinfo;
	if (info->release[0] ||
	    symbols_find(&r->os->profile->symbols, "vmcoreinfo_data", &pointer) ||
	    hvmi_space_read(space, pointer, &gva, sizeof(gva), NULL) ||
	    hvmi_space_read(space, gva, page, sizeof(page), NULL) ||
	    vmcoreinfo_parse(page, sizeof(page), info))
		return;
	if (hvmi_space_translate(space, gva, &gpa))
		gpa = HVMI_NO_ADDRESS;
	os_fact(r->os, "vmcoreinfo", HVMI_CONFIDENCE_MEDIUM, gpa, strnlen((char *)page, sizeof(page)),
		info->release, "at symbol vmcoreinfo_data");
}

/* What the image says of itself. */

static uint32_t parse_version(const char *release)
{
	unsigned major, minor;
	if (sscanf(release, "%3u.%3u", &major, &minor) != 2 || major > 255 || minor > 255)
		return 0;
	return major << 8 | minor;
}

static void read_release(struct recognition *r, struct hvmi_space *space)
{
	struct hvmi_os *os = r->os;
	const struct symbols *symbols = &os->profile->symbols;
	char uts[65] = "";
	uint64_t gva, gpa = HVMI_NO_ADDRESS, at;
	char text[sizeof(os->banner)] = "";
	if (symbols_find(symbols, "linux_banner", &gva) == 0) {
		hvmi_space_read_string(space, gva, text, sizeof(text), NULL);
		gpa = gva - r->data->shift;
	}
	text[strcspn(text, "\n")] = '\0';
	text_sanitise(text, strlen(text), os->banner, sizeof(os->banner));
	static const char prefix[] = "Linux version ";
	if (strncmp(os->banner, prefix, sizeof(prefix) - 1) == 0) {
		const char *release = os->banner + sizeof(prefix) - 1;
		snprintf(os->release, sizeof(os->release), "%.*s", (int)strcspn(release, " "),
			 release);
	}
	if (symbols_find(symbols, "init_uts_ns", &gva) == 0 &&
	    linux_address(os, space, LINUX_UTS_RELEASE, gva, &at) == 0)
		hvmi_space_read_string(space, at, uts, sizeof(uts), NULL);

	const char *noted = r->data->vmcoreinfo.release;
	bool uts_agrees = os->release[0] && strcmp(uts, os->release) == 0;
	bool note_agrees = os->release[0] && strcmp(noted, os->release) == 0;
	const char *source = os->release[0] ? "linux_banner" : uts[0] ? "init_uts_ns" :
			     noted[0] ? "VMCOREINFO" : "nothing that names it";
	if (!os->release[0])
		text_sanitise(uts[0] ? uts : noted, strlen(uts[0] ? uts : noted), os->release,
			      sizeof(os->release));
	os_fact(os, "release",
		!os->release[0] ? HVMI_CONFIDENCE_UNKNOWN :
		uts_agrees || note_agrees ? HVMI_CONFIDENCE_HIGH : HVMI_CONFIDENCE_MEDIUM,
		gpa, 0, os->release, "%s%s%s", source, uts_agrees ? "; init_uts_ns agrees" : "",
		note_agrees ? "; VMCOREINFO agrees" : "");
	os_fact(os, "banner", os->banner[0] ? HVMI_CONFIDENCE_MEDIUM : HVMI_CONFIDENCE_UNKNOWN, gpa, 0,
		os->banner, "linux_banner");
	r->data->version = parse_version(os->release);
}

/*
 * Which of the many roots that map the kernel is the kernel's own: init_mm.pgd, which is the symbol
 * swapper_pg_dir (init_top_pgt in the symbols of x86-64).
 */
static void settle_root(struct recognition *r, struct hvmi_space *space)
{
	struct hvmi_os *os = r->os;
	const struct linux_image *image = &r->data->image;
	uint64_t init_mm, pgd, gpa = HVMI_NO_ADDRESS, by_symbol = HVMI_NO_ADDRESS, gva;
	if (symbols_find(&os->profile->symbols, "init_mm", &init_mm) == 0 &&
	    linux_read(os, space, LINUX_MM_PGD, init_mm, &pgd) == 0)
		hvmi_space_translate(space, pgd, &gpa);
	if (symbols_find(&os->profile->symbols, "init_top_pgt", &gva) == 0 ||
	    symbols_find(&os->profile->symbols, "swapper_pg_dir", &gva) == 0)
		by_symbol = gva - r->data->shift;
	else if (r->data->vmcoreinfo.have_root)
		by_symbol = r->data->vmcoreinfo.root - r->data->shift;

	const uint64_t roots[] = { gpa, by_symbol };
	struct linux_image again;
	char value[32];
	os->kernel.root = image->root;
	uint32_t confidence = HVMI_CONFIDENCE_LOW;
	const char *source = r->how;
	for (size_t i = 0; i < ARRAY_SIZE(roots); i++) {
		if (roots[i] == HVMI_NO_ADDRESS || roots[i] % FRAME_SIZE ||
		    image_probe(os->vm, roots[i], image->paging, &again) ||
		    again.gva != image->gva || again.gpa != image->gpa)
			continue;
		os->kernel.root = roots[i];
		confidence = gpa == by_symbol ? HVMI_CONFIDENCE_HIGH : HVMI_CONFIDENCE_MEDIUM;
		source = gpa == by_symbol ? "init_mm.pgd and the symbol of the kernel's root agree" :
			 i == 0 ? "init_mm.pgd" : "the symbol of the kernel's root";
		break;
	}

	uint32_t vcpus = 0, agree = 0;
	struct hvmi_vm_info info = { .size = sizeof(info) };
	hvmi_vm_get_info(os->vm, &info);
	for (uint32_t i = 0; i < MIN(info.vcpus, VCPUS_CHECKED_MAX); i++) {
		uint64_t cr3;
		if (hvmi_vm_register(os->vm, i, HVMI_X86_CR3, &cr3))
			continue;
		vcpus++;
		agree += (image_probe(os->vm, cr3 & ~UINT64_C(0x1fff), image->paging, &again) == 0 ||
			  image_probe(os->vm, cr3 & ~UINT64_C(0xfff), image->paging, &again) == 0) &&
			 again.gva == image->gva && again.gpa == image->gpa;
	}
	snprintf(value, sizeof(value), "0x%" PRIx64, os->kernel.root);
	if (vcpus)
		os_fact(os, "root", confidence, os->kernel.root, FRAME_SIZE, value,
			"%s; CR3 of %u of %u vCPUs maps the same kernel", source, agree, vcpus);
	else
		os_fact(os, "root", confidence, os->kernel.root, FRAME_SIZE, value, "%s", source);
}

static void state_image(struct recognition *r)
{
	struct hvmi_os *os = r->os;
	const struct linux_image *image = &r->data->image;
	const struct vmcoreinfo *v = &r->data->vmcoreinfo;
	char value[96];
	os->info.arch = HVMI_ARCH_X86;
	os->info.levels = image->paging == HVMI_PAGING_X86_5LEVEL ? 5 : 4;
	os->info.kernel_gva = image->gva;
	os->info.kernel_gpa = image->gpa;
	os->info.kernel_len = image->len;
	os->info.slide = (int64_t)(image->gva - LINUX_IMAGE_FIRST - LINUX_PHYSICAL_START);
	os->info.physical_slide = (int64_t)(image->gpa - LINUX_PHYSICAL_START);

	snprintf(value, sizeof(value), "gva 0x%" PRIx64 ", gpa 0x%" PRIx64 ", %" PRIu64 " KiB",
		 image->gva, image->gpa, image->len / 1024);
	bool where = v->have_phys_base &&
		     v->phys_base == image->gpa - (image->gva - LINUX_IMAGE_FIRST);
	os_fact(os, "kernel", where ? HVMI_CONFIDENCE_HIGH : HVMI_CONFIDENCE_MEDIUM, image->gpa,
		image->len, value, "%s%s", r->how, where ? "; phys_base in VMCOREINFO agrees" : "");

	snprintf(value, sizeof(value), "0x%" PRIx64, (uint64_t)os->info.slide);
	bool slide = v->have_slide && v->slide == (uint64_t)os->info.slide;
	os_fact(os, "slide", slide ? HVMI_CONFIDENCE_HIGH : HVMI_CONFIDENCE_MEDIUM, HVMI_NO_ADDRESS,
		0, value, "where the image begins, against 0x%" PRIx64 "%s",
		(uint64_t)(LINUX_IMAGE_FIRST + LINUX_PHYSICAL_START),
		slide		  ? "; KERNELOFFSET in VMCOREINFO agrees" :
		v->have_slide ? "; KERNELOFFSET in VMCOREINFO does not agree" : "");

	snprintf(value, sizeof(value), "%u", os->info.levels);
	bool levels = v->have_levels && v->levels == os->info.levels;
	uint32_t paging;
	bool cr4 = vcpu_paging(os->vm, 0, &paging) == 0 && paging == image->paging;
	os_fact(os, "levels", levels || cr4 ? HVMI_CONFIDENCE_HIGH : HVMI_CONFIDENCE_MEDIUM,
		HVMI_NO_ADDRESS, 0, value, "the page tables map the image so%s%s",
		levels ? "; pgtable_l5_enabled in VMCOREINFO agrees" : "",
		cr4 ? "; CR4 agrees" : "");
}

static void settle_lists(struct recognition *r, struct hvmi_space *space)
{
	struct hvmi_os *os = r->os;
	const struct symbols *symbols = &os->profile->symbols;
	char value[32];
	const char *source = "symbol init_task";
	if (symbols_find(symbols, "init_task", &r->data->init_task)) {
		source = "the task swapper/0 that is its own parent";
		if (linux_find_init_task(os, space, &r->data->init_task))
			r->data->init_task = 0;
	}
	if (r->data->init_task) {
		snprintf(value, sizeof(value), "0x%" PRIx64, r->data->init_task);
		os_fact(os, "init_task", HVMI_CONFIDENCE_MEDIUM,
			r->data->init_task - r->data->shift, 0, value, "%s", source);
	}
	if (symbols_find(symbols, "modules", &r->data->modules))
		r->data->modules = 0;
}

static int not_found(struct recognition *r, struct hvmi_error *err)
{
	struct hvmi_vm_info info = { .size = sizeof(info) };
	hvmi_vm_get_info(r->os->vm, &info);
	if (info.ram == 0)
		return hvmi_error_set(err, -ENOENT, HVMI_NO_ADDRESS,
				      "no operating system: the machine has no RAM");
	if (r->tables)
		return hvmi_error_set(err, -ENOENT, HVMI_NO_ADDRESS,
				      "no operating system was recognised: %u symbol tables of Linux "
				      "were found, none that suits its kernel image: %s", r->tables,
				      r->refusal.text);
	if (r->images)
		return hvmi_error_set(err, -ENOENT, HVMI_NO_ADDRESS,
				      "no operating system was recognised: %u kernel images are "
				      "mapped, none with Linux's symbol table (CONFIG_KALLSYMS)",
				      r->images);
	if (strstr(info.format, "Xen PV"))
		return hvmi_error_set(err, -ENOENT, HVMI_NO_ADDRESS,
				      "no operating system was recognised: this is a PV guest of Xen, "
				      "whose page tables hold machine addresses; they are not "
				      "supported, PVH and HVM guests are");
	bool raw = strcmp(info.format, "raw") == 0;
	return hvmi_error_set(err, -ENOENT, HVMI_NO_ADDRESS,
			      "no operating system was recognised: %" PRIu64 " MiB of RAM hold no "
			      "page tables of Linux or Windows; is the image complete%s?",
			      info.ram >> 20,
			      raw ? ", does it start at guest-physical 0 (else give base=) and "
				    "continue behind its holes, such as the one below 4 GiB (else "
				    "give hole=)" : "");
}

static int linux_attach(struct hvmi_os *os, struct hvmi_error *err)
{
	struct linux_os *data = calloc(1, sizeof(*data));
	if (!data)
		return hvmi_error_set(err, -ENOMEM, HVMI_NO_ADDRESS, "out of memory");
	os->data = data;
	struct recognition r = { .os = os, .data = data };
	read_note(&r);
	int rc = image_search(os->vm, try_image, &r);
	if (rc == -ENOENT)
		return not_found(&r, err);
	if (rc != 1)
		return hvmi_error_set(err, rc, HVMI_NO_ADDRESS, "guest memory cannot be searched: %s",
				      hvmi_error_name(rc));
	os->kernel = (struct hvmi_space_config){ .size = sizeof(os->kernel),
						 .root = data->image.root,
						 .paging = data->image.paging,
						 .flags = HVMI_SPACE_NX };
	struct hvmi_space *space;
	rc = hvmi_space_create(os->vm, &os->kernel, &space, err);
	if (rc)
		return rc;
	state_symbols(&r);
	read_vmcoreinfo(&r, space);
	linux_load_types(os);
	linux_members_find(os->profile, data->members);
	linux_task_plan(data);
	read_release(&r, space);
	state_image(&r);
	settle_root(&r, space);
	settle_lists(&r, space);
	hvmi_space_destroy(space);
	return 0;
}

static void linux_detach(struct hvmi_os *os)
{
	free(os->data);
	os->data = NULL;
}

const struct os_ops *linux_ops(void)
{
	static const struct os_ops ops = {
		.kind = HVMI_OS_LINUX,
		.name = "Linux",
		.attach = linux_attach,
		.detach = linux_detach,
		.task_begin = linux_task_begin,
		.task_next = linux_task_next,
		.task_end = linux_task_end,
		.task_strings = linux_task_strings,
		.stacks = linux_stacks,
		.module_begin = linux_module_begin,
		.module_next = linux_module_next,
		.module_end = linux_module_end,
		.region_begin = linux_region_begin,
		.region_next = linux_region_next,
		.region_end = linux_region_end,
	};
	return &ops;
}
