/* SPDX-License-Identifier: Apache-2.0 */
/* Views: what the core refuses, and what becomes of those that are there. */
#include "suite.h"
#include <stdlib.h>
#include <string.h>

#include "probe_machine.h"

static struct hvmi_error err;
static struct hvmi_vm *vm;
static struct hvmi_events *events;

static void setup(void)
{
	vm = machine_open(HVMI_OPEN_WRITE, "%s", PROBE_SCRIPT);
	ck_assert_int_eq(hvmi_events_open(vm, NULL, &events, &err), 0);
}

static void teardown(void)
{
	hvmi_close(vm);
}

START_TEST(arguments)
{
	uint32_t view, rights;
	uint64_t page;
	void *host;
	ck_assert_int_eq(hvmi_view_create(events, 8, &view, &err), -EINVAL);
	ck_assert_int_eq(hvmi_view_create(events, 7 | HVMI_RIGHT_PAGE_WALK, &view, &err), -ENOTSUP);
	ck_assert_int_eq(hvmi_view_create(events, 7, &view, &err), 0);
	ck_assert_uint_ne(view, 0);
	ck_assert_int_eq(hvmi_view_destroy(events, 0, &err), -EINVAL);
	ck_assert_int_eq(hvmi_view_set_rights(events, view, DATA + 1, 1, 1, &err), -EINVAL);
	ck_assert_int_eq(hvmi_view_set_rights(events, view, DATA, 0, 1, &err), -EINVAL);
	ck_assert_int_eq(hvmi_view_set_rights(events, view, DATA, UINT64_MAX, 1, &err), -EINVAL);
	ck_assert_int_eq(hvmi_view_set_rights(events, view, 1ull << 52, 1, 1, &err), -EINVAL);
	ck_assert_int_eq(hvmi_view_set_rights(events, view, DATA, 1, 32, &err), -EINVAL);
	ck_assert_int_eq(hvmi_view_get_rights(events, view, DATA + 8, &rights, &err), -EINVAL);
	ck_assert_int_eq(hvmi_view_remap(events, 0, DATA, FUNCTION, &err), -EINVAL);
	ck_assert_int_eq(hvmi_view_remap(events, view, DATA + 1, FUNCTION, &err), -EINVAL);
	ck_assert_int_eq(hvmi_view_remap(events, view, DATA, FUNCTION + 1, &err), -EINVAL);
	ck_assert_int_eq(hvmi_page_destroy(events, 1, &err), -EINVAL);
	/* What is not there. */
	ck_assert_int_eq(hvmi_view_switch(events, view + 1, &err), -ENOENT);
	ck_assert_int_eq(hvmi_view_destroy(events, view + 1, &err), -ENOENT);
	ck_assert_int_eq(hvmi_view_set_rights(events, view, 1u << 20, 1, 1, &err), -EFAULT);
	ck_assert_int_eq(hvmi_view_remap(events, view, DATA, 1u << 30, &err), -EFAULT);
	ck_assert_int_eq(hvmi_page_destroy(events, 1u << 30, &err), -ENOENT);
	/* A page that is in use. */
	ck_assert_int_eq(hvmi_page_create(events, &page, &host, &err), 0);
	ck_assert_uint_ge(page, 1u << 20);
	ck_assert_int_eq(hvmi_view_remap(events, view, DATA, page, &err), 0);
	ck_assert_int_eq(hvmi_page_destroy(events, page, &err), -EBUSY);
	ck_assert_int_eq(hvmi_view_destroy(events, view, &err), 0);
	ck_assert_int_eq(hvmi_page_destroy(events, page, &err), 0);
	ck_assert_int_eq(hvmi_page_destroy(events, page, &err), -ENOENT);
}
END_TEST

START_TEST(rights)
{
	uint32_t view, now;
	ck_assert_int_eq(hvmi_view_create(events, 5, &view, &err), 0);
	ck_assert_int_eq(hvmi_view_set_rights(events, view, DATA, 3, 1, &err), 0);
	static const uint32_t expected[] = { 5, 1, 1, 1, 5 };
	for (uint32_t i = 0; i < 5; i++) {
		ck_assert_int_eq(hvmi_view_get_rights(events, view, DATA - 4096 + 4096 * i, &now,
						      &err), 0);
		ck_assert_uint_eq(now, expected[i]);
	}
	ck_assert_int_eq(hvmi_view_get_rights(events, 0, DATA, &now, &err), 0);
	ck_assert_uint_eq(now, 7);
	/* Another frame has the view's rights again. */
	ck_assert_int_eq(hvmi_view_remap(events, view, DATA, FUNCTION, &err), 0);
	ck_assert_int_eq(hvmi_view_get_rights(events, view, DATA, &now, &err), 0);
	ck_assert_uint_eq(now, 5);
}
END_TEST

/* A vCPU in a view that goes is in view 0. */
START_TEST(destroyed_in_use)
{
	struct hvmi_event_request r = { .size = sizeof(r), .kind = HVMI_EVENT_ACCESS };
	struct hvmi_event event = { .size = sizeof(event) };
	uint32_t view;
	uint64_t value;
	ck_assert_int_eq(hvmi_events_request(events, &r, &err), 0);
	ck_assert_int_eq(hvmi_view_create(events, 7, &view, &err), 0);
	ck_assert_int_eq(hvmi_view_set_rights(events, view, DATA, 1, 1, &err), 0);
	ck_assert_int_eq(hvmi_view_switch(events, view, &err), 0);
	probe_start(vm, 0, DATA, 9);
	ck_assert_int_eq(hvmi_events_next(events, 0, &event, &err), 1);
	ck_assert_uint_eq(event.view, view);
	ck_assert_uint_eq(event.access, HVMI_RIGHT_WRITE);
	ck_assert_int_eq(hvmi_view_destroy(events, view, &err), 0);
	ck_assert_int_eq(hvmi_events_answer(events, &event, NULL, &err), 0);
	ck_assert(probe_done(vm, &value));
	ck_assert_uint_eq(value, 10);
}
END_TEST

/* A backend without alternate views may have rights of view 0. */
START_TEST(host_view_alone)
{
	static struct hvmi_backend backend;
	struct hvmi_open_options options = { .size = sizeof(options), .flags = HVMI_OPEN_WRITE,
					     .backend = &backend };
	struct hvmi_vm *other;
	struct hvmi_events *its;
	uint32_t view = 77, now;
	uint64_t page;
	void *host;
	backend = *hvmi_backend_sim();
	backend.view_create = NULL;
	backend.view_remap = NULL;
	backend.page_create = NULL;
	ck_assert_int_eq(machine_try(PROBE_SCRIPT, strlen(PROBE_SCRIPT), &options, &other, &err), 0);
	ck_assert_int_eq(hvmi_events_open(other, NULL, &its, &err), 0);
	ck_assert_int_eq(hvmi_view_create(its, 7, &view, &err), -ENOTSUP);
	ck_assert_uint_eq(view, 77);
	ck_assert_int_eq(hvmi_view_switch(its, 1, &err), -ENOTSUP);
	ck_assert_int_eq(hvmi_view_destroy(its, 1, &err), -ENOTSUP);
	ck_assert_int_eq(hvmi_view_remap(its, 1, DATA, FUNCTION, &err), -ENOTSUP);
	ck_assert_int_eq(hvmi_page_create(its, &page, &host, &err), -ENOTSUP);
	ck_assert_int_eq(hvmi_page_destroy(its, 0x100000, &err), -ENOTSUP);
	ck_assert_int_eq(hvmi_view_set_rights(its, 1, DATA, 1, 1, &err), -ENOTSUP);
	ck_assert_int_eq(hvmi_view_set_rights(its, 0, DATA, 1, 1, &err), 0);
	ck_assert_int_eq(hvmi_view_get_rights(its, 0, DATA, &now, &err), 0);
	ck_assert_uint_eq(now, 1);
	hvmi_close(other);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("view");
	TCase *tcase = tcase_create("view");
	tcase_add_checked_fixture(tcase, setup, teardown);
	tcase_add_test(tcase, arguments);
	tcase_add_test(tcase, rights);
	tcase_add_test(tcase, destroyed_in_use);
	tcase_add_test(tcase, host_view_alone);
	suite_add_tcase(suite, tcase);
	return run_suite(suite);
}
