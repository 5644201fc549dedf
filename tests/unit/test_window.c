/* SPDX-License-Identifier: Apache-2.0 */
/* Members that are read by copies of the memory around them are what they are when read one by one. */
#include "suite.h"

#include "machine.h"
#include "os/window.h"

#define END 0x10000u	/* of memory */

enum { SIGNED, UNSIGNED, POINTER, BITS, UID, GID, NEAR, FAR, OTHER, DEEP, NARROW, LACKING, IDS };

static struct hvmi_member members[IDS];
static struct window_plan plan;
static struct hvmi_vm *vm;

static void member(uint32_t id, uint32_t bytes, uint32_t flags, uint32_t hops, uint64_t first,
		   uint64_t second, uint64_t third)
{
	members[id] = (struct hvmi_member){
		.size = sizeof(members[id]), .bytes = bytes, .kind = HVMI_TYPE_INTEGER, .flags = flags,
		.hop_count = hops, .pointer_bytes = 8, .hops = { first, second, third },
	};
}

static void poke(uint64_t gpa, uint64_t value)
{
	ck_assert_int_eq(hvmi_vm_write(vm, gpa, &value, sizeof(value), NULL), 0);
}

static void setup(void)
{
	/* Not in the order in which they lie. */
	static const uint8_t ids[] = { OTHER, FAR, NEAR, UID, POINTER, SIGNED, BITS, GID, DEEP, NARROW,
				       LACKING, UNSIGNED };
	member(SIGNED, 4, HVMI_TYPE_SIGNED, 1, 0x18, 0, 0);
	member(UNSIGNED, 4, 0, 1, 0x2c, 0, 0);
	member(POINTER, 8, 0, 1, 0x900, 0, 0);
	member(BITS, 4, 0, 1, 0x908, 0, 0);
	members[BITS].bit_offset = 3;
	members[BITS].bit_size = 7;
	member(UID, 4, 0, 2, 0x900, 4, 0);
	member(GID, 4, HVMI_TYPE_SIGNED, 2, 0x900, 8, 0);
	member(NEAR, 8, 0, 2, 0x900, 20, 0);
	member(FAR, 8, 0, 2, 0x900, 200, 0);
	member(OTHER, 4, 0, 2, 0xa00, 0, 0);
	member(DEEP, 4, 0, 3, 0x900, 8, 4);
	member(NARROW, 4, 0, 2, 0xa00, 4, 0);
	members[NARROW].pointer_bytes = 4;
	vm = machine_open(HVMI_OPEN_WRITE, "arch x86\nram 0 64K\n");
	for (uint64_t gpa = 0; gpa < END; gpa += 8)
		poke(gpa, (gpa + 1) * 0x9e3779b97f4a7c15ull);
	window_plan(&plan, members, ids, sizeof(ids), 0);
}

static void teardown(void)
{
	hvmi_close(vm);
}

static void compare(struct hvmi_space *space, uint64_t object)
{
	struct window window;
	window_open(&window, &plan, space, object);
	for (uint32_t round = 0; round < 2; round++)
		for (uint32_t id = IDS; id-- > 0;) {
			uint64_t value = 0, expected = 0;
			int rc = members[id].hop_count ?
				 hvmi_member_read(&members[id], space, object, &expected) : -ENOENT;
			ck_assert_int_eq(window_read(&window, id, &value), rc);
			ck_assert_uint_eq(value, expected);
		}
}

START_TEST(numbers)
{
	/* One of a group is in memory that is not there; all are; there is nothing behind the pointer. */
	static const uint64_t leads_to[] = { 0x4000, 0x4ff8, END - 12, END - 212, 0, UINT64_MAX - 3 };
	const struct hvmi_space_config config = { .size = sizeof(config), .paging = HVMI_PAGING_NONE,
						  .flags = _i ? HVMI_SPACE_UNCACHED : 0 };
	struct hvmi_space *space;
	ck_assert_int_eq(hvmi_space_create(vm, &config, &space, NULL), 0);
	for (size_t i = 0; i < ARRAY_SIZE(leads_to); i++)
		for (uint64_t object = 0x1000; object < 0x2000; object += 0x170) {
			poke(object + 0x900, leads_to[i]);
			poke(object + 0xa00, 0x6000);
			poke(leads_to[i] < END - 16 ? leads_to[i] + 8 : 0x6000, 0x7000);
			compare(space, object);
		}
	/* Of the object itself there is only a part, or nothing. */
	compare(space, END - 0x40);
	compare(space, END - 0x904);
	compare(space, END - 0x908);
	compare(space, END);
	hvmi_space_destroy(space);
}
END_TEST

/* Three copies of the object, and one of what lies together behind a pointer. */
START_TEST(pieces)
{
	ck_assert_uint_eq(plan.own_count, 3);
	ck_assert_uint_eq(plan.piece_count, 6);
	ck_assert_uint_eq(plan.places[UID].number_piece, plan.places[NEAR].number_piece);
	ck_assert_uint_ne(plan.places[UID].number_piece, plan.places[FAR].number_piece);
	ck_assert_uint_eq(plan.places[BITS].whole, 0);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("window");
	TCase *tcase = tcase_create("window");
	tcase_add_checked_fixture(tcase, setup, teardown);
	tcase_add_loop_test(tcase, numbers, 0, 2);
	tcase_add_test(tcase, pieces);
	suite_add_tcase(suite, tcase);
	return run_suite(suite);
}
