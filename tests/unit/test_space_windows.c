/* SPDX-License-Identifier: Apache-2.0 */
/* What entries that are not present mean to Windows. */
#include "suite.h"

#include "machine.h"
#include "page_tables.h"

#define GVA 0x12345000ull
#define PROTOTYPES 0xffffa00000000000ull
#define PROTOTYPES_32 0x90000000ull
#define TARGET 0x300000ull

#define PROTOTYPE (1ull << 10)
#define TRANSITION (1ull << 11)
#define PROTECTION(access) ((uint64_t)(access) << 5)

static struct hvmi_vm *vm;
static struct page_tables tables;
static uint64_t pte, prototype_gpa, prototype_gva;

static void setup(uint32_t paging)
{
	bool wide = paging >= HVMI_PAGING_X86_4LEVEL;
	vm = machine_open(HVMI_OPEN_WRITE, "ram 0 64M");
	page_tables_init(&tables, vm, paging, 0x10000);
	pte = page_tables_map(&tables, GVA, TARGET, 1, PT_W | PT_U);
	prototype_gva = wide ? PROTOTYPES : PROTOTYPES_32;
	prototype_gpa = 0x400000;
	page_tables_map(&tables, prototype_gva, prototype_gpa, 1, PT_W);
	static const char text[] = "in memory";
	ck_assert_int_eq(hvmi_vm_write(vm, TARGET, text, sizeof(text), NULL), 0);
}

/* The fault, or 0 with the translation checked. */
static uint32_t fault_of(uint64_t entry, uint32_t flags, uint32_t *rights_ret)
{
	page_tables_set(&tables, pte, entry);
	struct hvmi_space *space = page_tables_space(&tables, flags | HVMI_SPACE_NX, 0);
	struct hvmi_walk walk = { .size = sizeof(walk) };
	struct hvmi_error err = { 0 };
	char text[16] = "";
	int rc = hvmi_space_walk(space, GVA + 4, &walk, &err);
	if (rc == 0) {
		ck_assert_uint_eq(walk.gpa, TARGET + 4);
		ck_assert_uint_eq(walk.page_size, 4096);
		ck_assert_int_eq(hvmi_space_read(space, GVA, text, 10, NULL), 0);
		ck_assert_str_eq(text, "in memory");
		if (rights_ret)
			*rights_ret = walk.rights;
	} else {
		ck_assert_int_eq(rc, -EFAULT);
		ck_assert_uint_ne(walk.fault, 0);
		ck_assert_str_ne(err.text, "");
		ck_assert_int_eq(hvmi_space_read(space, GVA, text, 10, NULL), -EFAULT);
	}
	hvmi_space_destroy(space);
	return rc ? walk.fault : 0;
}

static uint64_t to_prototype(uint32_t paging)
{
	return PROTOTYPE | PROTECTION(1) |
	       (paging == HVMI_PAGING_X86_PAE ? prototype_gva << 32 : prototype_gva << 16);
}

/* _i: a paging mode */
START_TEST(states)
{
	uint32_t paging = (uint32_t)_i, rights;
	setup(paging);
	uint64_t transition = TARGET | TRANSITION | PROTECTION(4);
	/* Without the flag nothing changes. */
	ck_assert_uint_eq(fault_of(transition, 0, NULL), HVMI_FAULT_NOT_PRESENT);
	ck_assert_uint_eq(fault_of(0, HVMI_SPACE_WINDOWS, NULL), HVMI_FAULT_NOT_PRESENT);
	ck_assert_uint_eq(fault_of(transition, HVMI_SPACE_WINDOWS, &rights), 0);
	ck_assert_uint_eq(rights, HVMI_RIGHT_READ | HVMI_RIGHT_WRITE | HVMI_RIGHT_USER);
	ck_assert_uint_eq(fault_of(TARGET | TRANSITION | PROTECTION(3), HVMI_SPACE_WINDOWS, &rights), 0);
	ck_assert_uint_eq(rights, HVMI_RIGHT_READ | HVMI_RIGHT_EXECUTE | HVMI_RIGHT_USER);
	ck_assert_uint_eq(fault_of(PROTECTION(4), HVMI_SPACE_WINDOWS, NULL), HVMI_FAULT_ZERO);
	uint64_t offset = paging == HVMI_PAGING_X86_32 ? 0x1234ull << 12 : 0x1234ull << 32;
	ck_assert_uint_eq(fault_of(offset | PROTECTION(4), HVMI_SPACE_WINDOWS, NULL),
			  HVMI_FAULT_PAGE_FILE);
	hvmi_close(vm);
}
END_TEST

/* _i: a paging mode whose entries hold the address of a prototype PTE */
START_TEST(prototypes)
{
	uint32_t paging = (uint32_t)_i;
	setup(paging);
	uint64_t entry = to_prototype(paging);
	static const struct {
		uint64_t prototype;
		uint32_t fault;
	} cases[] = {
		{ TARGET | PT_P, 0 },
		{ TARGET | TRANSITION | PROTECTION(1), 0 },
		{ 0xffff800000000000ull | PROTOTYPE, HVMI_FAULT_FILE },	/* a subsection */
		{ PROTECTION(4), HVMI_FAULT_ZERO },
		{ 0, HVMI_FAULT_ZERO },
		{ 5ull << 32 | PROTECTION(4), HVMI_FAULT_PAGE_FILE },
	};
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		page_tables_set(&tables, prototype_gpa, cases[i].prototype);
		ck_assert_uint_eq(fault_of(entry, HVMI_SPACE_WINDOWS, NULL), cases[i].fault);
	}
	/* One that is nowhere, one that only the VAD tells, one that refers to itself. */
	ck_assert_uint_eq(fault_of(PROTOTYPE | 0x9000000000ull << 16, HVMI_SPACE_WINDOWS, NULL),
			  HVMI_FAULT_FILE);
	ck_assert_uint_eq(fault_of(0xffffffff00000000ull | PROTOTYPE, HVMI_SPACE_WINDOWS, NULL),
			  HVMI_FAULT_FILE);
	page_tables_set(&tables, prototype_gpa, entry);
	ck_assert_uint_eq(fault_of(entry, HVMI_SPACE_WINDOWS, NULL), HVMI_FAULT_FILE);
	hvmi_close(vm);
}
END_TEST

/* A page table in transition; bits above physical memory that were inverted. */
START_TEST(tables_too)
{
	setup(HVMI_PAGING_X86_4LEVEL);
	uint64_t pde = page_tables_entry(&tables, GVA, 2);
	uint64_t table = page_tables_get(&tables, pde) & 0xfffffffff000ull;
	page_tables_set(&tables, pde, table | TRANSITION | PROTECTION(4));
	ck_assert_uint_eq(fault_of(TARGET | PT_P | PT_W | PT_U, HVMI_SPACE_WINDOWS, NULL), 0);
	ck_assert_uint_eq(fault_of(TARGET | TRANSITION | PROTECTION(4) | 0x0000200000000000ull,
				   HVMI_SPACE_WINDOWS, NULL), 0);
	ck_assert_uint_eq(fault_of(TARGET | PT_P | PT_W | PT_U, 0, NULL), HVMI_FAULT_NOT_PRESENT);
	hvmi_close(vm);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("space_windows");
	TCase *tcase = tcase_create("all");
	tcase_add_loop_test(tcase, states, HVMI_PAGING_X86_32, HVMI_PAGING_X86_5LEVEL);
	tcase_add_loop_test(tcase, prototypes, HVMI_PAGING_X86_PAE, HVMI_PAGING_X86_5LEVEL);
	tcase_add_test(tcase, tables_too);
	suite_add_tcase(suite, tcase);
	return run_suite(suite);
}
