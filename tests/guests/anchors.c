/* SPDX-License-Identifier: Apache-2.0 */
/*
 * On a real image: what is found through symbols is found without them too, as it must be where a
 * kernel was built without CONFIG_KALLSYMS_ALL.
 */
#include <stdio.h>

#include "os/linux/linux.h"

static int passed, failed;

static void check(const char *what, bool good)
{
	printf("%s - %s\n", good ? "ok" : "not ok", what);
	passed += good;
	failed += !good;
}

int main(int argc, char **argv)
{
	struct hvmi_vm *vm;
	struct hvmi_os *os;
	struct hvmi_space *space;
	struct hvmi_error err;
	if (argc != 2 || hvmi_open(argv[1], NULL, &vm, &err) ||
	    hvmi_os_attach(vm, NULL, &os, &err) || hvmi_os_kernel_space(os, &space, &err)) {
		printf("%s\n", argc == 2 ? err.text : "usage: anchors IMAGE");
		return 1;
	}
	uint64_t init_task = 0, start_btf, gpa = 0, len = 0;
	check("init_task", linux_find_init_task(os, space, &init_task) == 0 &&
			   init_task == linux_data(os)->init_task);
	check("__start_BTF is a symbol",
	      symbols_find(&os->profile->symbols, "__start_BTF", &start_btf) == 0);
	uint32_t count = os->profile->types.type_count;
	types_deinit(&os->profile->types);
	check("BTF", linux_search_types(os, &gpa, &len) == 0 &&
		     gpa == start_btf - linux_data(os)->shift &&
		     os->profile->types.type_count == count);
	hvmi_space_destroy(space);
	hvmi_os_detach(os);
	hvmi_close(vm);
	printf("%d passed, %d failed\n", passed, failed);
	return failed != 0;
}
