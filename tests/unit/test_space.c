/* SPDX-License-Identifier: Apache-2.0 */
#include "suite.h"
#include <stdlib.h>
#include <string.h>

#include "machine.h"
#include "page_tables.h"

static struct hvmi_vm *vm;

static void setup(void)
{
	vm = machine_open(0, "arch x86\nram 0 1M\n");
}

static void teardown(void)
{
	hvmi_close(vm);
}

static int create(uint64_t root, uint32_t paging, uint32_t flags, uint32_t physical_bits)
{
	struct hvmi_space_config config = { .size = sizeof(config), .root = root, .paging = paging,
					    .flags = flags, .physical_bits = physical_bits };
	struct hvmi_space *space = (void *)&config;
	struct hvmi_error err = { .code = 1 };
	int rc = hvmi_space_create(vm, &config, &space, &err);
	if (rc) {
		ck_assert_ptr_eq(space, &config);
		ck_assert_int_eq(err.code, rc);
		ck_assert_int_gt(strlen(err.text), 10);
		return rc;
	}
	ck_assert_int_eq(err.code, 1);
	ck_assert_ptr_eq(hvmi_space_vm(space), vm);
	struct hvmi_space_config got = { .size = sizeof(got) };
	ck_assert_int_eq(hvmi_space_get_config(space, &got), 0);
	ck_assert_mem_eq(&got, &config, sizeof(got));
	hvmi_space_destroy(space);
	return 0;
}

START_TEST(config_is_judged)
{
	for (uint32_t paging = HVMI_PAGING_NONE; paging <= HVMI_PAGING_X86_5LEVEL; paging++) {
		ck_assert_int_eq(create(0x1000, paging, 0, 0), 0);
		ck_assert_int_eq(create(0x1000, paging, HVMI_SPACE_PSE | HVMI_SPACE_NX, 0), 0);
		ck_assert_int_eq(create(0x1000, paging, HVMI_SPACE_UNCACHED, 0), 0);
		ck_assert_int_eq(create(0x1000, paging, 16, 0), -EINVAL);
		ck_assert_int_eq(create(0x1000, paging, 0, 31), -EINVAL);
		ck_assert_int_eq(create(0x1000, paging, 0, 32), 0);
		ck_assert_int_eq(create(0x1000, paging, 0, 52), 0);
		ck_assert_int_eq(create(0x1000, paging, 0, 53), -EINVAL);
	}
	ck_assert_int_eq(create(0x1000, HVMI_PAGING_X86_5LEVEL + 1, 0, 0), -EINVAL);
	ck_assert_int_eq(create(0x1000, UINT32_MAX, 0, 0), -EINVAL);
	/* A root above the physical addresses; CR3's flags are above all of them. */
	ck_assert_int_eq(create(1ull << 40, HVMI_PAGING_X86_4LEVEL, 0, 40), -EINVAL);
	ck_assert_int_eq(create(1ull << 39, HVMI_PAGING_X86_4LEVEL, 0, 40), 0);
	ck_assert_int_eq(create(3ull << 61 | 0x1fff, HVMI_PAGING_X86_4LEVEL, 0, 40), 0);
	ck_assert_int_eq(create(1ull << 40, HVMI_PAGING_X86_PAE, 0, 40), 0);
}
END_TEST

START_TEST(struct_sizes_are_judged)
{
	struct {
		struct hvmi_space_config config;
		uint64_t more;
	} wide = { .config = { .size = sizeof(wide), .paging = HVMI_PAGING_X86_4LEVEL } };
	struct hvmi_space *space;
	ck_assert_int_eq(hvmi_space_create(vm, &wide.config, &space, NULL), 0);
	hvmi_space_destroy(space);
	wide.more = 1;
	ck_assert_int_eq(hvmi_space_create(vm, &wide.config, &space, NULL), -EINVAL);
	wide.more = 0;
	wide.config.reserved = 1;
	ck_assert_int_eq(hvmi_space_create(vm, &wide.config, &space, NULL), -EINVAL);
	wide.config.reserved = 0;
	wide.config.size = 0;
	ck_assert_int_eq(hvmi_space_create(vm, &wide.config, &space, NULL), -EINVAL);
	ck_assert_int_eq(hvmi_space_create(vm, NULL, &space, NULL), -EINVAL);
	ck_assert_int_eq(hvmi_space_create(NULL, &wide.config, &space, NULL), -EINVAL);
	hvmi_space_destroy(NULL);
}
END_TEST

START_TEST(arm64_machines_have_no_x86_tables)
{
	struct hvmi_vm *arm = machine_open(0, "arch arm64\nram 0 1M\nvcpu 0\n");
	struct hvmi_space_config config = { .size = sizeof(config),
					    .paging = HVMI_PAGING_X86_4LEVEL };
	struct hvmi_space *space;
	ck_assert_int_eq(hvmi_space_create(arm, &config, &space, NULL), -EINVAL);
	ck_assert_int_eq(hvmi_space_create_vcpu(arm, 0, &space, NULL), -ENOTSUP);
	hvmi_close(arm);
}
END_TEST

/* Without paging every 32-bit address is its own. */
START_TEST(no_paging)
{
	struct hvmi_space_config config = { .size = sizeof(config), .root = 0x123000 };
	struct hvmi_space *space;
	ck_assert_int_eq(hvmi_space_create(vm, &config, &space, NULL), 0);
	uint64_t gpa = 5;
	ck_assert_int_eq(hvmi_space_translate(space, 0xffffffff, &gpa), 0);
	ck_assert_uint_eq(gpa, 0xffffffff);
	ck_assert_int_eq(hvmi_space_translate(space, 0x100000000, &gpa), -EFAULT);
	struct hvmi_walk walk = { .size = sizeof(walk) };
	ck_assert_int_eq(hvmi_space_walk(space, 0x1234, &walk, NULL), 0);
	ck_assert_uint_eq(walk.gpa, 0x1234);
	ck_assert_uint_eq(walk.page_size, 1ull << 32);
	ck_assert_uint_eq(walk.rights, HVMI_RIGHT_READ | HVMI_RIGHT_WRITE | HVMI_RIGHT_EXECUTE |
				       HVMI_RIGHT_USER);
	ck_assert_uint_eq(walk.entry_count, 0);
	struct hvmi_mapping run = { .size = sizeof(run) };
	uint64_t cursor = 0x10;
	ck_assert_int_eq(hvmi_space_next_mapping(space, &cursor, UINT64_MAX, &run), 1);
	ck_assert_uint_eq(run.gva, 0x10);
	ck_assert_uint_eq(run.gpa, 0x10);
	ck_assert_uint_eq(run.len, 0xfffffff0);
	ck_assert_int_eq(hvmi_space_next_mapping(space, &cursor, UINT64_MAX, &run), 0);
	cursor = 0x10;
	ck_assert_int_eq(hvmi_space_next_mapping(space, &cursor, 0x10, &run), 1);
	ck_assert_uint_eq(run.len, 1);
	ck_assert_uint_eq(cursor, 0x11);
	char byte;
	ck_assert_int_eq(hvmi_space_read(space, 0xfffff, &byte, 1, NULL), 0);
	ck_assert_int_eq(hvmi_space_read(space, 0x100000, &byte, 1, NULL), -EFAULT);
	hvmi_space_destroy(space);
}
END_TEST

static struct hvmi_space_config of_vcpu(const char *registers)
{
	char script[512] = "ram 0 1M\n";
	strcat(script, registers);
	struct hvmi_vm *machine = machine_open(0, "%s", script);
	struct hvmi_space *space;
	struct hvmi_error err;
	int rc = hvmi_space_create_vcpu(machine, 0, &space, &err);
	ck_assert_msg(rc == 0, "%s", err.text);
	struct hvmi_space_config config = { .size = sizeof(config) };
	ck_assert_int_eq(hvmi_space_get_config(space, &config), 0);
	hvmi_space_destroy(space);
	hvmi_close(machine);
	return config;
}

START_TEST(modes_of_vcpus)
{
	static const struct {
		const char *registers;
		uint32_t paging, flags;
	} cases[] = {
		{ "vcpu 0 cr0 0x11", HVMI_PAGING_NONE, 0 },
		/* No EFER: a processor that has none. */
		{ "vcpu 0 cr0 0x80000011\nvcpu 0 cr3 0x5000\nvcpu 0 cr4 0", HVMI_PAGING_X86_32, 0 },
		{ "vcpu 0 cr0 0x80000011\nvcpu 0 cr3 0x5000\nvcpu 0 cr4 0x10\nvcpu 0 efer 0x800",
		  HVMI_PAGING_X86_32, HVMI_SPACE_PSE },
		{ "vcpu 0 cr0 0x80000011\nvcpu 0 cr3 0x5000\nvcpu 0 cr4 0x30\nvcpu 0 efer 0",
		  HVMI_PAGING_X86_PAE, 0 },
		{ "vcpu 0 cr0 0x80000011\nvcpu 0 cr3 0x5000\nvcpu 0 cr4 0x20\nvcpu 0 efer 0x800",
		  HVMI_PAGING_X86_PAE, HVMI_SPACE_NX },
		{ "vcpu 0 cr0 0x80000011\nvcpu 0 cr3 0x5000\nvcpu 0 cr4 0x20\nvcpu 0 efer 0x500",
		  HVMI_PAGING_X86_4LEVEL, 0 },
		{ "vcpu 0 cr0 0x80000011\nvcpu 0 cr3 0x5000\nvcpu 0 cr4 0x20\nvcpu 0 efer 0x100",
		  HVMI_PAGING_X86_4LEVEL, 0 },
		{ "vcpu 0 cr0 0x80000011\nvcpu 0 cr3 0x5000\nvcpu 0 cr4 0x20\nvcpu 0 efer 0x400",
		  HVMI_PAGING_X86_4LEVEL, 0 },
		{ "vcpu 0 cr0 0x80000011\nvcpu 0 cr3 0x5000\nvcpu 0 cr4 0x20\nvcpu 0 efer 0xd01",
		  HVMI_PAGING_X86_4LEVEL, HVMI_SPACE_NX },
		{ "vcpu 0 cr0 0x80000011\nvcpu 0 cr3 0x5000\nvcpu 0 cr4 0x1020\nvcpu 0 efer 0xd01",
		  HVMI_PAGING_X86_5LEVEL, HVMI_SPACE_NX },
		/* An ELF core of QEMU has no EFER, but tables where only long mode reaches. */
		{ "vcpu 0 cr0 0x80000011\nvcpu 0 cr3 0x5000\nvcpu 0 cr4 0x1020\n"
		  "vcpu 0 gdtr.base 0xfffffe0000001000\nvcpu 0 idtr.base 0xfffffe0000000000",
		  HVMI_PAGING_X86_5LEVEL, HVMI_SPACE_NX },
		/* LA57 means nothing outside of IA-32e mode. */
		{ "vcpu 0 cr0 0x80000011\nvcpu 0 cr3 0x5000\nvcpu 0 cr4 0x1020\nvcpu 0 efer 0x800",
		  HVMI_PAGING_X86_PAE, HVMI_SPACE_NX },
	};
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		struct hvmi_space_config config = of_vcpu(cases[i].registers);
		ck_assert_uint_eq(config.paging, cases[i].paging);
		ck_assert_uint_eq(config.flags, cases[i].flags);
		if (config.paging != HVMI_PAGING_NONE)
			ck_assert_uint_eq(config.root, 0x5000);
	}
}
END_TEST

START_TEST(unknown_registers_of_vcpus)
{
	static const char *const all[] = { "cr0 0x80000011", "cr3 0x5000", "cr4 0x20", "efer 0" };
	for (size_t without = 0; without < 4; without++) {
		char script[256] = "ram 0 1M\nvcpu 0\n";
		for (size_t i = 0; i < 4; i++)
			if (i != without)
				strcat(strcat(strcat(script, "vcpu 0 "), all[i]), "\n");
		struct hvmi_vm *machine = machine_open(0, "%s", script);
		struct hvmi_space *space = NULL;
		struct hvmi_error err;
		ck_assert_int_eq(hvmi_space_create_vcpu(machine, 0, &space, &err), -ENOTSUP);
		ck_assert_ptr_null(space);
		/* The sentence names the register. */
		char name[8] = "";
		memcpy(name, all[without], strcspn(all[without], " "));
		ck_assert_ptr_nonnull(strstr(err.text, name));
		ck_assert_int_eq(hvmi_space_create_vcpu(machine, 1, &space, &err), -ENOENT);
		hvmi_close(machine);
	}
	struct hvmi_vm *machine = machine_open(0, "ram 0 1M\nvcpu 0 cr0 1\n"
						  "fail get_register 1 ESRCH\n");
	struct hvmi_space *space;
	ck_assert_int_eq(hvmi_space_create_vcpu(machine, 0, &space, NULL), -ESRCH);
	ck_assert_int_eq(hvmi_space_create_vcpu(machine, 0, &space, NULL), 0);
	hvmi_space_destroy(space);
	hvmi_close(machine);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("space");
	TCase *tcase = tcase_create("space");
	tcase_add_checked_fixture(tcase, setup, teardown);
	tcase_add_test(tcase, config_is_judged);
	tcase_add_test(tcase, struct_sizes_are_judged);
	tcase_add_test(tcase, arm64_machines_have_no_x86_tables);
	tcase_add_test(tcase, no_paging);
	tcase_add_test(tcase, modes_of_vcpus);
	tcase_add_test(tcase, unknown_registers_of_vcpus);
	suite_add_tcase(suite, tcase);
	return run_suite(suite);
}
