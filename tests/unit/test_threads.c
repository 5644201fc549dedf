/* SPDX-License-Identifier: Apache-2.0 */
/* Any number of threads read one machine at once, each through a space of its own. */
#include "suite.h"
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "machine.h"

#include <hvmi/hvmi.h>

#define THREADS 4
#define ROUNDS 20000
#define RAM_PAGES 64

/* Pages of 4 KiB hold their number; a space of 4 MiB pages maps them from 0x400000 on. */
static void *reader(void *context)
{
	struct hvmi_vm *vm = context;
	struct hvmi_space_config config = { .size = sizeof(config), .root = 0,
					    .paging = HVMI_PAGING_X86_32, .flags = HVMI_SPACE_PSE };
	struct hvmi_space *space;
	if (hvmi_space_create(vm, &config, &space, NULL))
		return context;
	void *result = NULL;
	for (uint32_t i = 0; i < ROUNDS && !result; i++) {
		uint32_t page = 1 + i * 7 % (RAM_PAGES - 2), direct = 0, mapped[2] = { 0 };
		const void *pointer = NULL;
		if (hvmi_vm_read(vm, page * 4096, &direct, sizeof(direct), NULL) ||
		    hvmi_space_read(space, 0x400000 + page * 4096, mapped, sizeof(mapped), NULL) ||
		    direct != page || mapped[0] != page)
			result = context;
		if (hvmi_vm_map(vm, page * 4096, 4096, &pointer) == 0 &&
		    memcmp(pointer, &page, sizeof(page)) != 0)
			result = context;
	}
	hvmi_space_destroy(space);
	return result;
}

/* _i: whether the backend maps */
START_TEST(readers)
{
	struct hvmi_vm *vm = machine_open(HVMI_OPEN_WRITE, "ram 0 256K\nstatic\n%s",
					  _i ? "" : "nomap\n");
	/* The page directory: entry 1 maps the first 4 MiB. */
	uint32_t entry = 0x83;
	ck_assert_int_eq(hvmi_vm_write(vm, 4, &entry, sizeof(entry), NULL), 0);
	for (uint32_t page = 1; page < RAM_PAGES; page++)
		ck_assert_int_eq(hvmi_vm_write(vm, page * 4096, &page, sizeof(page), NULL), 0);
	pthread_t threads[THREADS];
	for (int i = 0; i < THREADS; i++)
		ck_assert_int_eq(pthread_create(&threads[i], NULL, reader, vm), 0);
	for (int i = 0; i < THREADS; i++) {
		void *result;
		pthread_join(threads[i], &result);
		ck_assert_ptr_null(result);
	}
	hvmi_close(vm);
}
END_TEST

static void *opener(void *context)
{
	for (int i = 0; i < 200; i++) {
		struct hvmi_vm *vm;
		if (hvmi_open(context, NULL, &vm, NULL))
			return context;
		uint32_t value;
		int rc = hvmi_vm_read(vm, 0, &value, sizeof(value), NULL);
		hvmi_close(vm);
		if (rc)
			return context;
	}
	return NULL;
}

/* Machines are independent: open and close them anywhere, at any time. */
START_TEST(openers)
{
	char path[] = "/tmp/hvmi-threads-XXXXXX";
	int fd = mkstemp(path);
	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(ftruncate(fd, 1 << 20), 0);
	pthread_t threads[THREADS];
	for (int i = 0; i < THREADS; i++)
		ck_assert_int_eq(pthread_create(&threads[i], NULL, opener, path), 0);
	for (int i = 0; i < THREADS; i++) {
		void *result;
		pthread_join(threads[i], &result);
		ck_assert_ptr_null(result);
	}
	close(fd);
	unlink(path);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("threads");
	TCase *tcase = tcase_create("threads");
	tcase_add_loop_test(tcase, readers, 0, 2);
	tcase_add_test(tcase, openers);
	suite_add_tcase(suite, tcase);
	return run_suite(suite);
}
