/* SPDX-License-Identifier: Apache-2.0 */
/* Parts of the Linux recogniser on machines made for them; real kernels are in tests/guests. */
#include "suite.h"

#include <stdlib.h>
#include <string.h>

#include "machine.h"
#include "os/linux/linux.h"
#include "os/linux/maple.h"
#include "page_tables.h"

#define TEXT_GVA (LINUX_IMAGE_FIRST + 0x1200000)
#define TEXT_GPA 0x400000ull

static struct hvmi_vm *vm;

static void put(uint64_t gpa, uint64_t value)
{
	ck_assert_int_eq(hvmi_vm_write(vm, gpa, &value, sizeof(value), NULL), 0);
}

/* An image of so many pages, every other one read-only data. */
static void map_image(struct page_tables *tables, uint32_t pages)
{
	for (uint64_t i = 0; i < pages; i++)
		page_tables_map(tables, TEXT_GVA + i * 4096, TEXT_GPA + i * 4096, 1,
				i % 2 ? PT_NX : 0);
}

/* _i: a paging mode */
START_TEST(images)
{
	struct page_tables tables;
	struct linux_image image;
	vm = machine_open(HVMI_OPEN_WRITE, "ram 0 64M");
	page_tables_init(&tables, vm, (uint32_t)_i, 0x10000);
	ck_assert_int_eq(image_probe(vm, tables.root, (uint32_t)_i, &image), -ENOENT);
	map_image(&tables, 300);
	/* Too small; then far more runs than are kept, the last of which takes the rest. */
	ck_assert_int_eq(image_probe(vm, tables.root, (uint32_t)_i, &image), -ENOENT);
	map_image(&tables, 1024);
	/* A module, and memory of another image: not in one piece with this one. */
	page_tables_map(&tables, TEXT_GVA + (8 << 20), 0x2000000, 1, 0);
	ck_assert_int_eq(image_probe(vm, tables.root, (uint32_t)_i, &image), 0);
	ck_assert_uint_eq(image.gva, TEXT_GVA);
	ck_assert_uint_eq(image.gpa, TEXT_GPA);
	ck_assert_uint_eq(image.len, 1024 * 4096);
	ck_assert_uint_eq(image.run_count, IMAGE_RUNS_MAX);
	const struct image_run *last = &image.runs[IMAGE_RUNS_MAX - 1];
	ck_assert_uint_eq(last->offset + last->len, image.len);
	ck_assert_uint_eq(last->rights, HVMI_RIGHT_READ | HVMI_RIGHT_EXECUTE);
	/* The other mode sees no image in these tables. */
	uint32_t other = HVMI_PAGING_X86_4LEVEL + HVMI_PAGING_X86_5LEVEL - (uint32_t)_i;
	ck_assert_int_eq(image_probe(vm, tables.root, other, &image), -ENOENT);
	hvmi_close(vm);
}
END_TEST

static int count_candidates(void *context, const struct image_candidate *candidate)
{
	ck_assert_uint_eq(candidate->image->gva, TEXT_GVA);
	++*(int *)context;
	return 0;
}

/* A root anywhere in memory leads to the image; each image is shown once. */
START_TEST(searches)
{
	struct page_tables tables;
	int count = 0;
	vm = machine_open(HVMI_OPEN_WRITE, "ram 0 64M");
	page_tables_init(&tables, vm, HVMI_PAGING_X86_4LEVEL, 0x3000000);
	ck_assert_int_eq(image_search(vm, count_candidates, &count), -ENOENT);
	ck_assert_int_eq(count, 0);
	map_image(&tables, 1024);
	put(0x5000 + 511 * 8, page_tables_get(&tables, tables.root + 511 * 8));
	ck_assert_int_eq(image_search(vm, count_candidates, &count), -ENOENT);
	ck_assert_int_eq(count, 1);
	hvmi_close(vm);
}
END_TEST

START_TEST(vmcoreinfo)
{
	static const char text[] = "OSRELEASE=6.1.0\nPAGESIZE=4096\nSYMBOL(_stext)=ffffffff81000000\n"
				   "SYMBOL(swapper_pg_dir)=ffffffff82610000\n"
				   "NUMBER(phys_base)=-23068672\nKERNELOFFSET=22400000\n"
				   "NUMBER(pgtable_l5_enabled)=1\n";
	struct vmcoreinfo info;
	size_t offset;
	ck_assert_int_eq(vmcoreinfo_probe(text, sizeof(text), &offset), 0);
	ck_assert_uint_eq(offset, 0);
	ck_assert_int_eq(vmcoreinfo_parse(text, sizeof(text), &info), 0);
	ck_assert_str_eq(info.release, "6.1.0");
	ck_assert(info.have_stext && info.have_root && info.have_phys_base && info.have_slide &&
		  info.have_levels);
	ck_assert_uint_eq(info.stext, 0xffffffff81000000);
	ck_assert_uint_eq(info.root, 0xffffffff82610000);
	ck_assert_uint_eq(info.phys_base, (uint64_t)-23068672);
	ck_assert_uint_eq(info.slide, 0x22400000);
	ck_assert_uint_eq(info.levels, 5);

	static const char bad[] = "OSRELEASE=\nSYMBOL(_stext)=1ffffffffffffffff\nKERNELOFFSET=12x\n"
				  "NUMBER(phys_base)=-\nNUMBER(pgtable_l5_enabled)=11\n=\n\nX";
	ck_assert_int_eq(vmcoreinfo_parse(bad, sizeof(bad), &info), 0);
	ck_assert_str_eq(info.release, "");
	ck_assert(!info.have_stext && !info.have_phys_base && !info.have_slide && !info.have_levels);
	ck_assert_int_eq(vmcoreinfo_parse("OSRELEAS", 8, &info), -EBADMSG);
	ck_assert_int_eq(vmcoreinfo_probe("OSRELEAS", 8, &offset), -ENOENT);
}
END_TEST

static int walk_list(struct hvmi_space *space, uint32_t bound, uint32_t *count_ret)
{
	struct list_walk walk;
	uint64_t link;
	int rc;
	*count_ret = 0;
	list_begin(&walk, space, 0x1000, 8, bound);
	while ((rc = list_next(&walk, &link, "things", NULL)) == 1)
		++*count_ret;
	ck_assert_int_eq(list_next(&walk, &link, "things", NULL), 0);
	return rc;
}

START_TEST(lists)
{
	static const uint64_t at[] = { 0x1000, 0x2000, 0x3000, 0x4000, 0x5000 };
	struct hvmi_space_config config = { .size = sizeof(config) };
	struct hvmi_space *space;
	uint32_t count;
	vm = machine_open(HVMI_OPEN_WRITE, "ram 0 1M");
	ck_assert_int_eq(hvmi_space_create(vm, &config, &space, NULL), 0);
	for (size_t i = 0; i < 5; i++) {
		put(at[i], at[(i + 1) % 5]);
		put(at[(i + 1) % 5] + 8, at[i]);
	}
	ck_assert_int_eq(walk_list(space, 100, &count), 0);
	ck_assert_uint_eq(count, 4);
	ck_assert_int_eq(walk_list(space, 3, &count), -EOVERFLOW);
	ck_assert_uint_eq(count, 3);
	/* Broken in the middle: what lies behind is reached from the other end, nothing twice. */
	put(at[2], 0xffff0000);
	ck_assert_int_eq(walk_list(space, 100, &count), -EBADMSG);
	ck_assert_uint_eq(count, 4);
	put(at[2], at[1]);
	ck_assert_int_eq(walk_list(space, 100, &count), -EBADMSG);
	ck_assert_uint_eq(count, 4);
	put(at[2], at[3]);
	put(at[4] + 8, at[4]);
	ck_assert_int_eq(walk_list(space, 100, &count), -EBADMSG);
	ck_assert_uint_eq(count, 4);
	/* Both ends. */
	put(at[0], 0);
	ck_assert_int_eq(walk_list(space, 100, &count), -EBADMSG);
	ck_assert_uint_eq(count, 1);
	/* Broken at an entry whose address is 0. */
	put(at[0], 0);
	put(8, at[0]);
	put(0, 0xffff0000);
	put(at[0] + 8, at[4]);
	ck_assert_int_eq(walk_list(space, 100, &count), -EBADMSG);
	ck_assert_uint_eq(count, 2);
	/* A list of its head alone. */
	put(at[0], at[0]);
	put(at[0] + 8, at[0]);
	ck_assert_int_eq(walk_list(space, 100, &count), 0);
	ck_assert_uint_eq(count, 0);
	hvmi_space_destroy(space);
	hvmi_close(vm);
}
END_TEST

/* Maple trees: nodes at 0x1000 (a range node), 0x2000 and 0x3000 (leaves), 256 bytes each. */
#define PIVOT(node, i) ((node) + 8 + (i) * 8u)
#define SLOT(node, i) ((node) + 128 + (i) * 8u)
#define LEAF(node) ((node) | 1 << 3 | 4)
#define RANGE(node) ((node) | 2 << 3 | 2)

static int walk_tree(struct hvmi_os *os, struct hvmi_space *space, uint64_t root, uint64_t *sum_ret)
{
	struct maple_walk *walk = calloc(1, sizeof(*walk));
	uint64_t entry, first, last;
	*sum_ret = 0;
	int rc = maple_begin(walk, os, space, root, NULL);
	if (!rc)
		while ((rc = maple_next(walk, &entry, &first, &last, NULL)) == 1) {
			ck_assert_uint_le(first, last);
			*sum_ret = *sum_ret * 10 + (entry >> 4);
		}
	ck_assert_int_eq(walk->depth, 0);
	free(walk);
	return rc;
}

START_TEST(trees)
{
	struct hvmi_space_config config = { .size = sizeof(config) };
	struct hvmi_space *space;
	struct linux_os data = { 0 };
	struct hvmi_os os = { .data = &data };
	uint64_t sum;
	vm = machine_open(HVMI_OPEN_WRITE, "ram 0 1M");
	ck_assert_int_eq(hvmi_space_create(vm, &config, &space, NULL), 0);
	for (enum linux_member m = LINUX_RANGE_PIVOT; m <= LINUX_ARANGE_SLOT; m++)
		data.members[m].hop_count = 1;
	data.members[LINUX_RANGE_PIVOT].hops[0] = data.members[LINUX_ARANGE_PIVOT].hops[0] = 8;
	data.members[LINUX_RANGE_PIVOT].bytes = data.members[LINUX_ARANGE_PIVOT].bytes = 15 * 8;
	data.members[LINUX_RANGE_SLOT].hops[0] = data.members[LINUX_ARANGE_SLOT].hops[0] = 128;
	data.members[LINUX_RANGE_SLOT].bytes = data.members[LINUX_ARANGE_SLOT].bytes = 16 * 8;

	put(SLOT(0x1000, 0), LEAF(0x2000));
	put(PIVOT(0x1000, 0), 0x7fff);
	put(SLOT(0x1000, 1), LEAF(0x3000));
	put(PIVOT(0x1000, 1), UINT64_MAX);
	put(SLOT(0x2000, 0), 0);
	put(PIVOT(0x2000, 0), 0x0fff);
	put(SLOT(0x2000, 1), 0x10);
	put(PIVOT(0x2000, 1), 0x1fff);
	put(SLOT(0x2000, 2), 0x20);
	put(PIVOT(0x2000, 2), 0x7fff);
	put(SLOT(0x3000, 0), 0x30);
	put(PIVOT(0x3000, 0), 0x8fff);
	put(SLOT(0x3000, 1), 0);
	ck_assert_int_eq(walk_tree(&os, space, RANGE(0x1000), &sum), 0);
	ck_assert_uint_eq(sum, 123);
	ck_assert_int_eq(walk_tree(&os, space, 0, &sum), 0);
	ck_assert_uint_eq(sum, 0);
	/* Pivots that go back, a dead node, a node that is not there, a type that is none. */
	put(PIVOT(0x2000, 1), 0x0fff);
	ck_assert_int_eq(walk_tree(&os, space, RANGE(0x1000), &sum), -EBADMSG);
	put(PIVOT(0x2000, 1), 0x1fff);
	put(0x3000, 0x3000);
	ck_assert_int_eq(walk_tree(&os, space, RANGE(0x1000), &sum), -EBADMSG);
	ck_assert_uint_eq(sum, 12);
	put(0x3000, 0);
	put(SLOT(0x1000, 1), LEAF(0x300000));
	ck_assert_int_eq(walk_tree(&os, space, RANGE(0x1000), &sum), -EBADMSG);
	put(SLOT(0x1000, 1), 0x3000 | 9 << 3 | 4);
	ck_assert_int_eq(walk_tree(&os, space, RANGE(0x1000), &sum), -EBADMSG);
	/* Leaves and children of nothing: many of them would show nothing for long. */
	put(SLOT(0x1000, 1), LEAF(0x3000));
	put(SLOT(0x3000, 0), 0);
	ck_assert_int_eq(walk_tree(&os, space, RANGE(0x1000), &sum), -EBADMSG);
	ck_assert_uint_eq(sum, 12);
	put(SLOT(0x3000, 0), 0x30);
	put(SLOT(0x1000, 0), RANGE(0x4000));
	put(SLOT(0x4000, 0), 0);
	ck_assert_int_eq(walk_tree(&os, space, RANGE(0x1000), &sum), -EBADMSG);
	/* A root may be empty. */
	ck_assert_int_eq(walk_tree(&os, space, LEAF(0x4000) | 2, &sum), 0);
	/* A tree that holds itself ends at its depth. */
	put(SLOT(0x1000, 0), RANGE(0x1000));
	put(PIVOT(0x1000, 0), UINT64_MAX);
	ck_assert_int_eq(walk_tree(&os, space, RANGE(0x1000), &sum), -EOVERFLOW);
	hvmi_space_destroy(space);
	hvmi_close(vm);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("linux");
	TCase *tcase = tcase_create("linux");
	tcase_add_loop_test(tcase, images, HVMI_PAGING_X86_4LEVEL, HVMI_PAGING_X86_5LEVEL + 1);
	tcase_add_test(tcase, searches);
	tcase_add_test(tcase, vmcoreinfo);
	tcase_add_test(tcase, lists);
	tcase_add_test(tcase, trees);
	suite_add_tcase(suite, tcase);
	return run_suite(suite);
}
