/* SPDX-License-Identifier: Apache-2.0 */
/* Files that are cut short while they are mapped: no SIGBUS reaches the program. */
#include "suite.h"
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <hvmi/vm.h>

#include "vm/guard.h"

#define PAGES 16

/* The sanitizer ends a program in its own way. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SANITIZED 1
#endif
#endif

struct image {
	char path[64];
	int fd;
};

static struct image make_image(void)
{
	struct image image = { "/tmp/hvmi-guard-XXXXXX", -1 };
	image.fd = mkstemp(image.path);
	ck_assert_int_ge(image.fd, 0);
	uint8_t page[FRAME_SIZE];
	for (int i = 0; i < PAGES; i++) {
		memset(page, i + 1, sizeof(page));
		ck_assert_int_eq(write(image.fd, page, sizeof(page)), sizeof(page));
	}
	return image;
}

static struct hvmi_vm *open_image(const struct image *image)
{
	struct hvmi_vm *vm;
	struct hvmi_error err;
	ck_assert_msg(hvmi_open(image->path, NULL, &vm, &err) == 0, "%s", err.text);
	return vm;
}

static void remove_image(struct image *image)
{
	close(image->fd);
	unlink(image->path);
}

START_TEST(cut_short)
{
	struct image image = make_image(), other_image = make_image();
	struct hvmi_vm *vm = open_image(&image), *other = open_image(&other_image);
	uint8_t buf[PAGES * FRAME_SIZE];
	size_t done;
	const void *mapping;
	ck_assert_int_eq(hvmi_vm_map(vm, 0, sizeof(buf), &mapping), 0);
	ck_assert_int_eq(hvmi_vm_read(vm, 0, buf, sizeof(buf), &done), 0);

	ck_assert_int_eq(ftruncate(image.fd, 4 * FRAME_SIZE), 0);
	ck_assert_int_eq(hvmi_vm_read(vm, 0, buf, sizeof(buf), &done), -EIO);
	ck_assert_uint_eq(done, 4 * FRAME_SIZE);
	ck_assert_uint_eq(buf[4 * FRAME_SIZE - 1], 4);
	ck_assert_int_eq(hvmi_vm_lost(vm), 1);
	/* A mapping that the caller holds reads as zeros. */
	ck_assert_uint_eq(((const uint8_t *)mapping)[5 * FRAME_SIZE], 0);
	ck_assert_uint_eq(((const uint8_t *)mapping)[3 * FRAME_SIZE], 4);

	/* What is left can be read, and what goes later is noticed as well. */
	ck_assert_int_eq(hvmi_vm_read(vm, FRAME_SIZE, buf, FRAME_SIZE, &done), 0);
	ck_assert_uint_eq(buf[0], 2);
	ck_assert_int_eq(ftruncate(image.fd, FRAME_SIZE), 0);
	ck_assert_int_eq(hvmi_vm_read(vm, FRAME_SIZE, buf, FRAME_SIZE, &done), -EIO);
	ck_assert_uint_eq(done, 0);
	/* Growing again brings nothing back. */
	ck_assert_int_eq(ftruncate(image.fd, PAGES * FRAME_SIZE), 0);
	ck_assert_int_eq(hvmi_vm_read(vm, 8 * FRAME_SIZE, buf, 1, &done), -EIO);

	ck_assert_int_eq(hvmi_vm_read(other, 0, buf, sizeof(buf), &done), 0);
	ck_assert_uint_eq(buf[PAGES * FRAME_SIZE - 1], PAGES);
	ck_assert_int_eq(hvmi_vm_lost(other), 0);
	hvmi_close(vm);
	ck_assert_int_eq(hvmi_vm_read(other, 0, buf, sizeof(buf), &done), 0);
	hvmi_close(other);
	remove_image(&image);
	remove_image(&other_image);
}
END_TEST

/* An area that ends where the next one starts, inside one page: both lose what is in it. */
START_TEST(shared_page)
{
	struct image image = make_image();
	uint8_t *bytes = mmap(NULL, PAGES * FRAME_SIZE, PROT_READ, MAP_SHARED, image.fd, 0);
	ck_assert_ptr_ne(bytes, MAP_FAILED);
	size_t border = 6 * FRAME_SIZE + 100;
	struct guard *low = guard_add(bytes, border);
	struct guard *high = guard_add(bytes + border, PAGES * FRAME_SIZE - border);
	ck_assert_int_eq(ftruncate(image.fd, 5 * FRAME_SIZE), 0);
	ck_assert_uint_eq(*(volatile uint8_t *)(bytes + border), 0);
	ck_assert_uint_eq(guard_real(high, bytes + border, 10), 0);
	ck_assert_uint_eq(guard_real(low, bytes, border), 6 * FRAME_SIZE);
	ck_assert_uint_eq(*(volatile uint8_t *)(bytes + 5 * FRAME_SIZE), 0);
	ck_assert_uint_eq(guard_real(low, bytes, border), 5 * FRAME_SIZE);
	guard_remove(low);
	guard_remove(high);
	guard_remove(NULL);
	munmap(bytes, PAGES * FRAME_SIZE);
	remove_image(&image);
}
END_TEST

static volatile sig_atomic_t chained;
static void *chained_page;

static void on_bus(int signal, siginfo_t *info, void *context)
{
	(void)signal;
	(void)context;
	chained++;
	mmap((void *)((uintptr_t)info->si_addr & ~(uintptr_t)(FRAME_SIZE - 1)), FRAME_SIZE,
	     PROT_READ, MAP_FIXED | MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
}

/* A SIGBUS that is none of ours goes to whom it went before. */
START_TEST(others_signals)
{
	struct sigaction action = { .sa_sigaction = on_bus, .sa_flags = SA_SIGINFO };
	ck_assert_int_eq(sigaction(SIGBUS, &action, NULL), 0);
	struct image image = make_image(), own = make_image();
	struct hvmi_vm *vm = open_image(&own);
	chained_page = mmap(NULL, PAGES * FRAME_SIZE, PROT_READ, MAP_SHARED, image.fd, 0);
	ck_assert_int_eq(ftruncate(image.fd, 0), 0);
	ck_assert_uint_eq(*(volatile uint8_t *)chained_page, 0);
	ck_assert_int_eq(chained, 1);
	hvmi_close(vm);
	munmap(chained_page, PAGES * FRAME_SIZE);
	remove_image(&image);
	remove_image(&own);
}
END_TEST

#ifndef SANITIZED
/* Nobody else handles it: the default action, which ends the program. */
START_TEST(default_action)
{
	struct image image = make_image(), own = make_image();
	open_image(&own);
	uint8_t *bytes = mmap(NULL, FRAME_SIZE, PROT_READ, MAP_SHARED, image.fd, 0);
	ck_assert_int_eq(ftruncate(image.fd, 0), 0);
	remove_image(&image);
	remove_image(&own);
	*(volatile uint8_t *)bytes;
}
END_TEST
#endif

int main(void)
{
	Suite *suite = suite_create("guard");
	TCase *tcase = tcase_create("guard");
	tcase_add_test(tcase, cut_short);
	tcase_add_test(tcase, shared_page);
	tcase_add_test(tcase, others_signals);
#ifndef SANITIZED
	tcase_add_test_raise_signal(tcase, default_action, SIGBUS);
#endif
	suite_add_tcase(suite, tcase);
	return run_suite(suite);
}
