/* SPDX-License-Identifier: Apache-2.0 */
/* module_images TARGET: prints what can be read of the images of a Windows guest's modules. */
#include <inttypes.h>
#include <stdio.h>

#include <hvmi/hvmi.h>

static void print_image(struct hvmi_space *space, const struct hvmi_module *module)
{
	struct hvmi_pe_debug debug = { .size = sizeof(debug) };
	struct hvmi_pe_version version = { .size = sizeof(version) };
	struct hvmi_pe_export export = { .size = sizeof(export) };
	struct hvmi_pe_import import = { .size = sizeof(import) };
	struct hvmi_error err;
	struct hvmi_pe *pe;
	uint32_t at = 0, exports = 0, named = 0, imports = 0;
	uint64_t place = 0;

	int rc = hvmi_pe_open(space, module->base, &pe, &err);
	if (rc) {
		printf("0x%" PRIx64 "\t%s\t%s\n", module->base, module->name, hvmi_error_name(rc));
		return;
	}
	int debug_rc = hvmi_pe_debug(pe, &debug, &err), version_rc = hvmi_pe_version(pe, &version, &err);
	int export_rc, import_rc;
	while ((export_rc = hvmi_pe_next_export(pe, &at, &export, &err)) == 1) {
		exports++;
		named += export.name[0] != '\0';
	}
	while ((import_rc = hvmi_pe_next_import(pe, &place, &import, &err)) == 1)
		imports++;
	printf("0x%" PRIx64 "\t%s\t%s\t%s\t%u.%u.%u.%u\t%u\t%u\t%s\t%u\t%s\n", module->base,
	       module->name, debug_rc ? hvmi_error_name(debug_rc) : debug.key,
	       version_rc ? hvmi_error_name(version_rc) : "", version.file[0], version.file[1],
	       version.file[2], version.file[3], exports, named,
	       export_rc ? hvmi_error_name(export_rc) : "", imports,
	       import_rc ? hvmi_error_name(import_rc) : "");
	hvmi_pe_close(pe);
}

int main(int argc, char **argv)
{
	struct hvmi_module module = { .size = sizeof(module) };
	struct hvmi_module_iter *iter;
	struct hvmi_space *space;
	struct hvmi_vm *vm;
	struct hvmi_os *os;
	struct hvmi_error err;

	if (argc != 2 || hvmi_open(argv[1], NULL, &vm, &err) || hvmi_os_attach(vm, NULL, &os, &err) ||
	    hvmi_os_kernel_space(os, &space, &err) || hvmi_module_iter_create(os, 0, &iter, &err))
		return fprintf(stderr, "%s\n", argc == 2 ? err.text : "usage: module_images TARGET"), 1;
	while (hvmi_module_next(iter, &module, &err) == 1)
		print_image(space, &module);
	hvmi_module_iter_destroy(iter);
	hvmi_space_destroy(space);
	hvmi_os_detach(os);
	hvmi_close(vm);
	return 0;
}
