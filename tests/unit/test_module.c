/* SPDX-License-Identifier: Apache-2.0 */
/* Backends that are loaded as modules, through the public interface alone. */
#include "suite.h"
#include <string.h>

#include <hvmi/hvmi.h>

START_TEST(loads)
{
	struct hvmi_open_options options = { .size = sizeof(options), .module_dir = MODULE_DIR };
	struct hvmi_vm *vm;
	struct hvmi_error err;
	char text[8] = "";
	ck_assert_msg(hvmi_open("module:hello,size=4K", &options, &vm, &err) == 0, "%s", err.text);
	ck_assert_int_eq(hvmi_vm_read(vm, 0x1000, text, 6, NULL), 0);
	ck_assert_str_eq(text, "hello");
	struct hvmi_vm_info info = { .size = sizeof(info) };
	ck_assert_int_eq(hvmi_vm_get_info(vm, &info), 0);
	ck_assert_str_eq(info.scheme, "module");
	hvmi_close(vm);
	ck_assert_int_eq(hvmi_open("module:x,size=y", &options, &vm, &err), -EINVAL);
	ck_assert_str_eq(err.text, "size= is no number");
	ck_assert_int_eq(hvmi_open("module:x,sice=1", &options, &vm, &err), -EINVAL);
}
END_TEST

START_TEST(says_what_is_missing)
{
	struct hvmi_open_options options = { .size = sizeof(options), .module_dir = MODULE_DIR };
	struct hvmi_vm *vm;
	struct hvmi_error err;
	ck_assert_int_eq(hvmi_open("absent:x", &options, &vm, &err), -ENOENT);
	ck_assert_ptr_nonnull(strstr(err.text, "hvmi-backend-absent.so"));
	/* A module without an entry. */
	ck_assert_int_eq(hvmi_open("empty:x", &options, &vm, &err), -ENOTSUP);
	/* Not in the library's own folder. */
	ck_assert_int_eq(hvmi_open("module:x", NULL, &vm, &err), -ENOENT);
}
END_TEST

static char logged[128];

static void on_log(void *context, uint32_t level, const char *message)
{
	(void)context;
	(void)level;
	strncpy(logged, message, sizeof(logged) - 1);
}

START_TEST(watches)
{
	struct hvmi_open_options options = { .size = sizeof(options), .module_dir = MODULE_DIR,
					     .log = on_log, .flags = HVMI_OPEN_WRITE };
	struct hvmi_machine_news news = { .size = sizeof(news) };
	struct hvmi_watch *watch;
	struct hvmi_error err;
	ck_assert_int_eq(hvmi_watch_open("module:web d\033b broken", &options, &watch, &err), 0);
	ck_assert_str_eq(logged, "watching 'web d\\x1bb broken', flags 0");
	ck_assert_int_eq(hvmi_watch_fd(watch), 0);
	ck_assert_int_eq(hvmi_watch_next(watch, &news, &err), 1);
	ck_assert_str_eq(news.name, "web");
	ck_assert_uint_eq(news.change, HVMI_MACHINE_PRESENT);
	ck_assert_uint_eq(news.id, 5);
	/* A machine may be called anything. */
	ck_assert_int_eq(hvmi_watch_next(watch, &news, &err), 1);
	ck_assert_ptr_null(strchr(news.name, '\033'));
	ck_assert_int_eq(hvmi_watch_next(watch, &news, &err), -EIO);
	ck_assert_str_eq(err.text, "broken");
	hvmi_watch_close(watch);
	hvmi_watch_close(NULL);

	ck_assert_int_eq(hvmi_watch_open("module", &options, &watch, &err), 0);
	ck_assert_int_eq(hvmi_watch_next(watch, &news, &err), 0);
	hvmi_watch_close(watch);
	ck_assert_int_eq(hvmi_watch_open("module:one", &options, &watch, &err), 0);
	news.size = 2;
	ck_assert_int_eq(hvmi_watch_next(watch, &news, &err), -EINVAL);
	hvmi_watch_close(watch);

	ck_assert_int_eq(hvmi_watch_open("module:refuse", &options, &watch, &err), -EACCES);
	ck_assert_str_eq(err.text, "refused");
	ck_assert_int_eq(hvmi_watch_open("sim:x", &options, &watch, &err), -ENOTSUP);
	ck_assert_int_eq(hvmi_watch_open("absent:x", &options, &watch, &err), -ENOENT);
	ck_assert_int_eq(hvmi_watch_open("", &options, &watch, &err), -EINVAL);
	ck_assert_int_eq(hvmi_watch_open("/file", &options, &watch, &err), -EINVAL);
	ck_assert_int_eq(hvmi_watch_open(NULL, &options, &watch, &err), -EINVAL);
	options.reserved = 1;
	ck_assert_int_eq(hvmi_watch_open("module:x", &options, &watch, &err), -EINVAL);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("module");
	TCase *tcase = tcase_create("module");
	tcase_add_test(tcase, loads);
	tcase_add_test(tcase, says_what_is_missing);
	tcase_add_test(tcase, watches);
	suite_add_tcase(suite, tcase);
	return run_suite(suite);
}
