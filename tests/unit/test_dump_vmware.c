/* SPDX-License-Identifier: Apache-2.0 */
/* States of VMware, with memory inside and beside them. */
#include "suite.h"
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "dump_build.h"

#define MAGIC_0 0xbed2bed0u
#define MAGIC_2 0xbed2bed2u

/* Two regions: the memory below and above the hole of PCs. */
#define LOW_PAGES 20u
#define HIGH_PAGES 7u
#define HIGH_GFN 0x100000u

static void put_tag(struct blob *blob, const char *name, size_t index_count,
		    const uint32_t *indices, uint64_t value, size_t bytes)
{
	blob_number(blob, index_count << 6 | bytes, 1);
	blob_number(blob, strlen(name), 1);
	blob_put(blob, name, strlen(name));
	for (size_t i = 0; i < index_count; i++)
		blob_number(blob, indices[i], 4);
	blob_number(blob, value, bytes);
}

static void put_region(struct blob *blob, uint32_t index, uint64_t gfn, uint64_t frame,
		       uint64_t count)
{
	put_tag(blob, "regionPPN", 1, &index, gfn, 8);
	put_tag(blob, "regionPageNum", 1, &index, frame, 4);
	put_tag(blob, "regionSize", 1, &index, count, 4);
}

static void put_both(struct blob *blob)
{
	blob_memory(blob, 0, LOW_PAGES * PAGE);
	blob_memory(blob, (uint64_t)HIGH_GFN * PAGE, HIGH_PAGES * PAGE);
}

/* Memory inside: -1 not, else the long data's flags 62 or 63. */
static void put_state(struct blob *blob, uint32_t magic, bool regions, int inside)
{
	static const char *const groups[] = { "Checkpoint", "memory", "cpu" };
	static const uint32_t zeros[] = { 0, 0 };
	blob_number(blob, magic, 4);
	blob_number(blob, 8, 4);
	blob_number(blob, 3, 4);
	for (size_t i = 0; i < 3; i++) {
		char name[64] = "";
		strcpy(name, groups[i]);
		blob_put(blob, name, sizeof(name));
		blob_zeros(blob, 16);
	}
	blob_set(blob, 12 + 64, blob->len, 8);
	blob_zeros(blob, 2);
	blob_set(blob, 12 + 144, blob->len, 8);
	put_tag(blob, "align_mask", 0, NULL, 0xffff, 4);
	if (regions) {
		put_tag(blob, "regionsCount", 0, NULL, 2, 4);
		put_region(blob, 1, HIGH_GFN, LOW_PAGES, HIGH_PAGES);
		put_region(blob, 0, 0, 0, LOW_PAGES);
	}
	if (inside > 0) {
		size_t bytes = magic == MAGIC_0 ? 4 : 8;
		blob_number(blob, 2u << 6 | (unsigned)inside, 1);
		blob_number(blob, 6, 1);
		blob_put(blob, "Memory", 6);
		blob_put(blob, zeros, 8);
		blob_number(blob, (LOW_PAGES + HIGH_PAGES) * PAGE, bytes);
		blob_number(blob, (LOW_PAGES + HIGH_PAGES) * PAGE, bytes);
		blob_number(blob, 13, 2);
		blob_zeros(blob, 13);
		put_both(blob);
	}
	blob_zeros(blob, 2);
	blob_set(blob, 12 + 224, blob->len, 8);
	for (uint32_t vcpu = 0; vcpu < 2; vcpu++) {
		const uint32_t cr3[] = { vcpu, 3 }, cr4[] = { vcpu, 4 }, cr0[] = { vcpu, 0 };
		put_tag(blob, "CR", 2, cr3, 0x1000, 4);
		put_tag(blob, "CR64", 2, cr0, 0x80050033, 8);
		put_tag(blob, "CR64", 2, cr3, 0x1ad000 + vcpu, 8);
		put_tag(blob, "CR64", 2, cr4, 0x6f8, 8);
		put_tag(blob, "rip", 1, &vcpu, 0xfffff80412345678, 8);
	}
	blob_zeros(blob, 2);
}

static void check_regions(struct hvmi_vm *vm)
{
	check_range(vm, 0, 0, LOW_PAGES * PAGE);
	check_range(vm, 1, (uint64_t)HIGH_GFN * PAGE, HIGH_PAGES * PAGE);
	check_memory(vm, 0, LOW_PAGES * PAGE);
	check_memory(vm, (uint64_t)HIGH_GFN * PAGE, HIGH_PAGES * PAGE);
	check_absent(vm, LOW_PAGES * PAGE, PAGE);
	check_register(vm, 0, HVMI_X86_CR0, 0x80050033);
	check_register(vm, 0, HVMI_X86_CR3, 0x1ad000);
	check_register(vm, 1, HVMI_X86_CR3, 0x1ad001);
	check_register(vm, 1, HVMI_X86_CR4, 0x6f8);
	check_register(vm, 0, HVMI_X86_RIP, 0xfffff80412345678);
	check_no_register(vm, 0, HVMI_X86_RAX);
}

START_TEST(inside)
{
	for (int i = 0; i < 2; i++) {
		struct blob blob = { 0 };
		put_state(&blob, i ? MAGIC_2 : MAGIC_0, true, 62);
		struct hvmi_vm *vm = image_open(&blob, "");
		check_format(vm, "VMware state");
		check_regions(vm);
		ck_assert_str_eq(log_text, "");
		hvmi_close(vm);
		blob_free(&blob);
	}
	struct blob blob = { 0 };
	put_state(&blob, MAGIC_2, true, 63);
	image_refused(&blob, "", -ENOTSUP, "compressed");
	blob_free(&blob);
}
END_TEST

static struct hvmi_vm *open_beside(const struct blob *state, const struct blob *memory, size_t cut)
{
	struct hvmi_vm *vm;
	char options[64];
	struct blob part = *memory;
	part.len -= cut;
	int fd = image_file(&part);
	snprintf(options, sizeof(options), ",memory=/proc/self/fd/%d", fd);
	vm = image_open(state, options);
	close(fd);
	return vm;
}

START_TEST(beside)
{
	struct blob state = { 0 }, memory = { 0 };
	put_state(&state, MAGIC_2, true, -1);
	put_both(&memory);
	struct hvmi_vm *vm = open_beside(&state, &memory, 0);
	check_format(vm, "VMware state and memory");
	check_regions(vm);
	hvmi_close(vm);
	vm = open_beside(&state, &memory, 2 * PAGE);
	check_memory(vm, (uint64_t)HIGH_GFN * PAGE, (HIGH_PAGES - 2) * PAGE);
	check_absent(vm, (uint64_t)(HIGH_GFN + HIGH_PAGES - 2) * PAGE, PAGE);
	ck_assert_ptr_nonnull(strstr(log_text, "cut short"));
	hvmi_close(vm);
	image_refused(&state, "", -ENOENT, "memory=FILE");
	blob_free(&state);

	/* A machine whose memory is in one piece does not say so. */
	put_state(&state, MAGIC_2, false, -1);
	memory.len = LOW_PAGES * PAGE;
	vm = open_beside(&state, &memory, 0);
	check_range(vm, 0, 0, LOW_PAGES * PAGE);
	check_memory(vm, 0, LOW_PAGES * PAGE);
	hvmi_close(vm);
	image_refused(&memory, ",memory=/dev/null", -EINVAL, "for states of VMware");
	blob_free(&state);
	blob_free(&memory);
}
END_TEST

static void write_blob(const char *path, const struct blob *blob)
{
	FILE *file = fopen(path, "wb");
	ck_assert_ptr_nonnull(file);
	ck_assert_uint_eq(fwrite(blob->bytes, 1, blob->len, file), blob->len);
	fclose(file);
}

START_TEST(by_name)
{
	char folder[] = "/tmp/hvmi-vmware-XXXXXX", path[64], memory_path[64];
	struct blob state = { 0 }, memory = { 0 };
	struct hvmi_error err;
	struct hvmi_vm *vm;
	ck_assert_ptr_nonnull(mkdtemp(folder));
	snprintf(path, sizeof(path), "%s/web.1.vmss", folder);
	snprintf(memory_path, sizeof(memory_path), "%s/web.1.vmem", folder);
	put_state(&state, MAGIC_2, true, -1);
	put_both(&memory);
	write_blob(path, &state);
	ck_assert_int_eq(hvmi_open(path, NULL, &vm, &err), -ENOENT);
	write_blob(memory_path, &memory);
	ck_assert_int_eq(hvmi_open(path, NULL, &vm, &err), 0);
	check_regions(vm);
	hvmi_close(vm);
	unlink(path);
	unlink(memory_path);
	rmdir(folder);
	blob_free(&state);
	blob_free(&memory);
}
END_TEST

START_TEST(damaged)
{
	struct blob blob = { 0 };
	put_state(&blob, MAGIC_2, true, 62);
	size_t whole = blob.len;
	for (size_t len = 12; len < 500; len += 7) {
		blob.len = len;
		image_refused(&blob, "", -EBADMSG, "");
	}
	blob.len = whole;
	blob_set(&blob, 8, 2000, 4);
	image_refused(&blob, "", -EBADMSG, "damaged");
	blob_set(&blob, 8, 3, 4);
	blob_set(&blob, 12 + 144, UINT64_MAX, 8);
	image_refused(&blob, "", -EBADMSG, "damaged");
	blob_free(&blob);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("dump_vmware");
	TCase *cases = tcase_create("dump_vmware");
	tcase_add_test(cases, inside);
	tcase_add_test(cases, beside);
	tcase_add_test(cases, by_name);
	tcase_add_test(cases, damaged);
	suite_add_tcase(suite, cases);
	return run_suite(suite);
}
