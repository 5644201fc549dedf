/* SPDX-License-Identifier: Apache-2.0 */
/* Opening machines: targets, backend tables, ranges, partial reads, notes, pausing. */
#include "suite.h"
#include <stdlib.h>
#include <string.h>

#include <hvmi/backend.h>

#include "vm/vm.h"

/*
 * A backend of two ranges, the upper one given first, with an absent page in each. What it does is
 * set by the tests; each is its own process.
 */
#define LOW_GPA 0x10000u
#define LOW_LEN 0x3000u
#define HIGH_GPA 0x13000u	/* touches the lower range */
#define HIGH_LEN 0x2800u	/* ends inside a page */
#define ABSENT_GPA 0x14000u

static uint8_t memory[0x16000];
static int opened, closed, paused;
static struct hvmi_range ranges[2] = { { HIGH_GPA, HIGH_LEN }, { LOW_GPA, LOW_LEN } };
static bool can_map;

static int fake_open(const struct hvmi_target *target, const struct hvmi_backend_host *host,
		     void **ret, struct hvmi_error *err)
{
	if (strcmp(hvmi_target_what(target), "refused") == 0)
		return hvmi_error_set(err, -EACCES, HVMI_NO_ADDRESS, "refused on demand");
	hvmi_target_option(target, "known");
	host->log(host, HVMI_LOG_INFO, "opened %s", hvmi_target_what(target));
	*ret = memory;
	opened++;
	return 0;
}

static void fake_close(void *machine)
{
	ck_assert_ptr_eq(machine, memory);
	closed++;
}

static int fake_describe(void *machine, struct hvmi_machine *ret)
{
	(void)machine;
	ret->ranges = 2;
	ret->vcpus = 1;
	strcpy(ret->format, "fake\x1b[1m");
	return 0;
}

static int fake_range(void *machine, uint32_t index, struct hvmi_range *ret)
{
	(void)machine;
	*ret = ranges[index];
	return 0;
}

static bool absent(uint64_t gpa, size_t len)
{
	return gpa < ABSENT_GPA + FRAME_SIZE && gpa + len > ABSENT_GPA;
}

static int fake_read(void *machine, uint64_t gpa, void *buf, size_t len)
{
	(void)machine;
	if (absent(gpa, len))
		return -EFAULT;
	memcpy(buf, memory + gpa, len);
	return 0;
}

static int fake_write(void *machine, uint64_t gpa, const void *buf, size_t len)
{
	(void)machine;
	if (absent(gpa, len))
		return -EFAULT;
	memcpy(memory + gpa, buf, len);
	return 0;
}

static int fake_map(void *machine, uint32_t index, const void **ret)
{
	(void)machine;
	if (!can_map)
		return -ENOTSUP;
	*ret = memory + ranges[index].gpa;
	return 0;
}

static int fake_get_register(void *machine, uint32_t vcpu, uint32_t id, uint64_t *ret)
{
	(void)machine;
	ck_assert_uint_eq(vcpu, 0);
	if (id != HVMI_X86_RIP)
		return -ENOTSUP;
	*ret = 0x1234;
	return 0;
}

static int fake_pause(void *machine, struct hvmi_error *err)
{
	(void)machine;
	(void)err;
	paused++;
	return 0;
}

static int fake_resume(void *machine, struct hvmi_error *err)
{
	(void)machine;
	(void)err;
	paused--;
	return 0;
}

static struct hvmi_backend fake = {
	.size = sizeof(fake),
	.scheme = "fake",
	.open = fake_open,
	.close = fake_close,
	.describe = fake_describe,
	.range = fake_range,
	.read = fake_read,
	.write = fake_write,
	.map = fake_map,
	.get_register = fake_get_register,
	.pause = fake_pause,
	.resume = fake_resume,
};

static int open_fake(const char *target, uint32_t flags, struct hvmi_vm **ret,
		     struct hvmi_error *err)
{
	struct hvmi_open_options options = { .size = sizeof(options), .flags = flags,
					     .backend = &fake };
	return hvmi_open(target, &options, ret, err);
}

static struct hvmi_vm *must_open(uint32_t flags)
{
	struct hvmi_vm *vm;
	struct hvmi_error err;
	for (size_t i = 0; i < sizeof(memory); i++)
		memory[i] = (uint8_t)(i * 31 + (i >> 8));
	ck_assert_msg(open_fake("fake:x", flags, &vm, &err) == 0, "%s", err.text);
	return vm;
}

START_TEST(targets)
{
	struct hvmi_target *t;
	ck_assert_int_eq(target_parse("dump:ram,,1.bin,base=0x4000,hole=1M+2M,hole=a,,b", &t, NULL),
			 0);
	ck_assert_str_eq(t->scheme, "dump");
	ck_assert_str_eq(hvmi_target_what(t), "ram,1.bin");
	ck_assert_str_eq(hvmi_target_option(t, "base"), "0x4000");
	ck_assert_ptr_null(hvmi_target_option(t, "format"));
	size_t cursor = 0;
	ck_assert_str_eq(hvmi_target_option_next(t, "hole", &cursor), "1M+2M");
	ck_assert_str_eq(hvmi_target_option_next(t, "hole", &cursor), "a,b");
	ck_assert_ptr_null(hvmi_target_option_next(t, "hole", &cursor));
	target_free(t);

	static const struct {
		const char *text, *scheme, *what;
	} cases[] = {
		{ "ram.bin", "dump", "ram.bin" },
		{ "./xen:5", "dump", "./xen:5" },
		{ "/a:b", "dump", "/a:b" },
		{ "xen:5", "xen", "5" },
		{ "Xen:5", "dump", "Xen:5" },
		{ ":x", "dump", ":x" },
		{ "libvirt:qemu:///system#web", "libvirt", "qemu:///system#web" },
		{ "sim:", "sim", "" },
	};
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		ck_assert_int_eq(target_parse(cases[i].text, &t, NULL), 0);
		ck_assert_str_eq(t->scheme, cases[i].scheme);
		ck_assert_str_eq(t->what, cases[i].what);
		target_free(t);
	}
	struct hvmi_error err;
	ck_assert_int_eq(target_parse("", &t, &err), -EINVAL);
	ck_assert_int_eq(target_parse("a,b", &t, &err), -EINVAL);
	ck_assert_ptr_nonnull(strstr(err.text, "'b'"));
	ck_assert_int_eq(target_parse("a,=b", &t, &err), -EINVAL);
	ck_assert_int_eq(target_parse("a,", &t, &err), -EINVAL);
}
END_TEST

START_TEST(numbers)
{
	static const struct {
		const char *text;
		int rc;
		uint64_t value;
	} cases[] = {
		{ "0", 0, 0 },
		{ "123", 0, 123 },
		{ "0x1F", 0, 31 },
		{ "4K", 0, 4096 },
		{ "0x10M", 0, 16 << 20 },
		{ "18446744073709551615", 0, UINT64_MAX },
		{ "18446744073709551616", -EOVERFLOW, 0 },
		{ "0xffffffffffffffff", 0, UINT64_MAX },
		{ "0x1ffffffffffffffff", -EOVERFLOW, 0 },
		{ "16777216T", -EOVERFLOW, 0 },
		{ "", -EINVAL, 0 },
		{ "0x", -EINVAL, 0 },
		{ "K", -EINVAL, 0 },
		{ "1KK", -EINVAL, 0 },
		{ "-1", -EINVAL, 0 },
		{ " 1", -EINVAL, 0 },
		{ "1 ", -EINVAL, 0 },
		{ "12a", -EINVAL, 0 },
	};
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		uint64_t value = 77;
		ck_assert_msg(hvmi_parse_u64(cases[i].text, &value) == cases[i].rc, "%s",
			      cases[i].text);
		ck_assert_uint_eq(value, cases[i].rc ? 77 : cases[i].value);
	}
}
END_TEST

START_TEST(opening)
{
	struct hvmi_vm *vm = NULL;
	struct hvmi_error err;
	ck_assert_int_eq(open_fake("fake:refused", 0, &vm, &err), -EACCES);
	ck_assert_str_eq(err.text, "refused on demand");
	ck_assert_int_eq(closed, 0);

	ck_assert_int_eq(open_fake("fake:x,known=1,unknown=2", 0, &vm, &err), -EINVAL);
	ck_assert_ptr_nonnull(strstr(err.text, "'unknown'"));
	ck_assert_int_eq(opened, 1);
	ck_assert_int_eq(closed, 1);
	ck_assert_ptr_null(vm);

	ck_assert_int_eq(open_fake("fake:x,known=1", 0, &vm, &err), 0);
	hvmi_close(vm);
	ck_assert_int_eq(closed, 2);
	hvmi_close(NULL);

	ck_assert_int_eq(hvmi_open("nobody:x", NULL, &vm, &err), -ENOENT);
	ck_assert_ptr_nonnull(strstr(err.text, "dump:nobody:"));
	ck_assert_int_eq(hvmi_open("a-scheme-that-is-too-long:x", NULL, &vm, &err), -ENOENT);
	ck_assert_int_eq(hvmi_open(NULL, NULL, &vm, &err), -EINVAL);
}
END_TEST

START_TEST(options_are_checked)
{
	struct hvmi_vm *vm;
	struct {
		struct hvmi_open_options options;
		uint64_t newer;
	} o = { .options = { .size = sizeof(o), .backend = &fake } };
	ck_assert_int_eq(hvmi_open("fake:x", &o.options, &vm, NULL), 0);
	hvmi_close(vm);
	o.newer = 1;
	ck_assert_int_eq(hvmi_open("fake:x", &o.options, &vm, NULL), -EINVAL);
	o.options.size = 0;
	ck_assert_int_eq(hvmi_open("fake:x", &o.options, &vm, NULL), -EINVAL);
	o.options.size = sizeof(o.options);
	o.options.flags = 0x100;
	ck_assert_int_eq(hvmi_open("fake:x", &o.options, &vm, NULL), -EINVAL);
}
END_TEST

START_TEST(tables)
{
	struct hvmi_vm *vm;
	struct hvmi_error err;
	/* A backend built against a header that ended with the required methods. */
	size_t whole = fake.size;
	fake.size = offsetof(struct hvmi_backend, write);
	ck_assert_int_eq(open_fake("fake:x", HVMI_OPEN_WRITE, &vm, &err), 0);
	ck_assert_int_eq(hvmi_vm_write(vm, LOW_GPA, "x", 1, NULL), -ENOTSUP);
	uint64_t value;
	ck_assert_int_eq(hvmi_vm_register(vm, 0, HVMI_X86_RIP, &value), -ENOTSUP);
	ck_assert_int_eq(hvmi_vm_pause(vm, &err), -ENOTSUP);
	hvmi_close(vm);
	fake.size--;
	ck_assert_int_eq(open_fake("fake:x", 0, &vm, &err), -EINVAL);
	fake.size = whole;
	fake.read = NULL;
	ck_assert_int_eq(open_fake("fake:x", 0, &vm, &err), -EINVAL);
}
END_TEST

START_TEST(ranges_are_checked)
{
	struct hvmi_vm *vm;
	struct hvmi_error err;
	const struct hvmi_range good = ranges[0];
	static const struct hvmi_range bad[] = {
		{ LOW_GPA + LOW_LEN - 1, 0x1000 },
		{ LOW_GPA - 1, 2 },
		{ LOW_GPA, LOW_LEN },
		{ 0x20000, 0 },
		{ UINT64_MAX - 4095, 4097 },
	};
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		ranges[0] = bad[i];
		ck_assert_int_eq(open_fake("fake:x", 0, &vm, &err), -EBADMSG);
		ck_assert_int_eq(opened, closed);
	}
	ranges[0] = good;
}
END_TEST

START_TEST(description)
{
	struct hvmi_vm *vm = must_open(HVMI_OPEN_WRITE);
	struct hvmi_vm_info info = { .size = sizeof(info) };
	ck_assert_int_eq(hvmi_vm_get_info(vm, &info), 0);
	ck_assert_uint_eq(info.ranges, 2);
	ck_assert_uint_eq(info.ram, LOW_LEN + HIGH_LEN);
	ck_assert_uint_eq(info.max_gpa, HIGH_GPA + HIGH_LEN - 1);
	ck_assert_str_eq(info.format, "fake\\x1b[1m");
	ck_assert_str_eq(info.scheme, "fake");
	ck_assert_uint_eq(info.flags, HVMI_VM_WRITABLE);
	struct hvmi_range r;
	ck_assert_int_eq(hvmi_vm_range(vm, 0, &r), 0);
	ck_assert_uint_eq(r.gpa, LOW_GPA);
	ck_assert_int_eq(hvmi_vm_range(vm, 1, &r), 0);
	ck_assert_uint_eq(r.gpa, HIGH_GPA);
	ck_assert_int_eq(hvmi_vm_range(vm, 2, &r), -ENOENT);
	ck_assert_int_eq(hvmi_vm_next_data(vm, 0, &r), 0);
	ck_assert_uint_eq(r.gpa, LOW_GPA);
	ck_assert_int_eq(hvmi_vm_next_data(vm, HIGH_GPA + HIGH_LEN, &r), -ENOENT);

	/* A caller built against an older, smaller struct. */
	struct {
		struct hvmi_vm_info info;
		uint8_t behind;
	} old = { .info = { .size = offsetof(struct hvmi_vm_info, ram) }, .behind = 0xaa };
	old.info.ram = 0x5555;
	ck_assert_int_eq(hvmi_vm_get_info(vm, &old.info), 0);
	ck_assert_uint_eq(old.info.ranges, 2);
	ck_assert_uint_eq(old.info.ram, 0x5555);
	hvmi_close(vm);
}
END_TEST

/* _i: whether the backend maps */
START_TEST(reading)
{
	can_map = _i;
	struct hvmi_vm *vm = must_open(0);
	uint8_t buf[0x6000];
	size_t done = 99;
	ck_assert_int_eq(hvmi_vm_read(vm, HIGH_GPA - 8, buf, 16, &done), 0);
	ck_assert_uint_eq(done, 16);
	ck_assert_mem_eq(buf, memory + HIGH_GPA - 8, 16);
	ck_assert_int_eq(hvmi_vm_read(vm, LOW_GPA, buf, 0, &done), 0);
	ck_assert_uint_eq(done, 0);

	ck_assert_int_eq(hvmi_vm_read(vm, LOW_GPA - 1, buf, 2, &done), -EFAULT);
	ck_assert_uint_eq(done, 0);
	ck_assert_int_eq(hvmi_vm_read(vm, UINT64_MAX, buf, 2, &done), -EFAULT);
	ck_assert_int_eq(hvmi_vm_read(vm, HIGH_GPA + HIGH_LEN - 4, buf, 8, &done), -EFAULT);
	ck_assert_uint_eq(done, 4);
	ck_assert_mem_eq(buf, memory + HIGH_GPA + HIGH_LEN - 4, 4);

	/* Over both ranges; the absent page is seen only where the backend copies. */
	int rc = hvmi_vm_read(vm, LOW_GPA + 5, buf, sizeof(buf), &done);
	ck_assert_int_eq(rc, -EFAULT);
	ck_assert_uint_eq(done, (can_map ? HIGH_GPA + HIGH_LEN : ABSENT_GPA) - LOW_GPA - 5);
	ck_assert_mem_eq(buf, memory + LOW_GPA + 5, done);
	ck_assert_int_eq(hvmi_vm_read(vm, ABSENT_GPA + FRAME_SIZE, buf, 16, &done), 0);
	ck_assert_mem_eq(buf, memory + ABSENT_GPA + FRAME_SIZE, 16);

	const void *p;
	ck_assert_int_eq(hvmi_vm_map(vm, LOW_GPA + 1, 16, &p), can_map ? 0 : -ENOTSUP);
	if (can_map) {
		ck_assert_ptr_eq(p, memory + LOW_GPA + 1);
		hvmi_vm_unmap(vm, p, 16);
	}
	ck_assert_int_eq(hvmi_vm_map(vm, LOW_GPA, LOW_LEN + 1, &p), -EFAULT);
	ck_assert_int_eq(hvmi_vm_map(vm, 0, 1, &p), -EFAULT);
	ck_assert_int_eq(hvmi_vm_lost(vm), 0);
	hvmi_close(vm);
}
END_TEST

START_TEST(writing)
{
	struct hvmi_vm *vm = must_open(0);
	size_t done = 99;
	ck_assert_int_eq(hvmi_vm_write(vm, LOW_GPA, "abc", 3, &done), -EACCES);
	ck_assert_uint_eq(done, 0);
	ck_assert_int_eq(hvmi_vm_set_register(vm, 0, HVMI_X86_RIP, 1), -EACCES);
	hvmi_close(vm);
	vm = must_open(HVMI_OPEN_WRITE);
	ck_assert_int_eq(hvmi_vm_write(vm, HIGH_GPA - 2, "abcd", 4, &done), 0);
	ck_assert_mem_eq(memory + HIGH_GPA - 2, "abcd", 4);
	ck_assert_int_eq(hvmi_vm_write(vm, ABSENT_GPA - 3, "abcd", 4, &done), -EFAULT);
	ck_assert_uint_eq(done, 3);
	ck_assert_mem_eq(memory + ABSENT_GPA - 3, "abc", 3);
	hvmi_close(vm);
}
END_TEST

START_TEST(registers)
{
	struct hvmi_vm *vm = must_open(HVMI_OPEN_WRITE);
	uint64_t value = 0;
	ck_assert_int_eq(hvmi_vm_register(vm, 0, HVMI_X86_RIP, &value), 0);
	ck_assert_uint_eq(value, 0x1234);
	ck_assert_int_eq(hvmi_vm_register(vm, 0, HVMI_X86_RAX, &value), -ENOTSUP);
	ck_assert_int_eq(hvmi_vm_register(vm, 1, HVMI_X86_RIP, &value), -ENOENT);
	ck_assert_int_eq(hvmi_vm_set_register(vm, 0, HVMI_X86_RIP, 1), -ENOTSUP);
	hvmi_close(vm);
	for (uint32_t id = 1; id < HVMI_REGISTER_END; id++) {
		ck_assert_msg(hvmi_register_name(id) != NULL, "register %u has no name", id);
		ck_assert_uint_eq(hvmi_register_id(hvmi_register_name(id)), id);
	}
	ck_assert_ptr_null(hvmi_register_name(0));
	ck_assert_ptr_null(hvmi_register_name(HVMI_REGISTER_END));
	ck_assert_uint_eq(hvmi_register_id("eax"), 0);
}
END_TEST

START_TEST(pausing)
{
	struct hvmi_vm *vm = must_open(0);
	struct hvmi_error err;
	ck_assert_int_eq(hvmi_vm_resume(vm, &err), -EINVAL);
	ck_assert_int_eq(hvmi_vm_pause(vm, &err), 0);
	ck_assert_int_eq(hvmi_vm_pause(vm, &err), 0);
	ck_assert_int_eq(paused, 1);
	ck_assert_int_eq(hvmi_vm_resume(vm, &err), 0);
	ck_assert_int_eq(paused, 1);
	ck_assert_int_eq(hvmi_vm_resume(vm, &err), 0);
	ck_assert_int_eq(paused, 0);
	ck_assert_int_eq(hvmi_vm_pause(vm, &err), 0);
	hvmi_close(vm);
	ck_assert_int_eq(paused, 0);
}
END_TEST

static char logged[128];

static void keep_log(void *context, uint32_t level, const char *message)
{
	ck_assert_ptr_eq(context, logged);
	ck_assert_uint_eq(level, HVMI_LOG_INFO);
	strcpy(logged, message);
}

START_TEST(logging)
{
	struct hvmi_open_options options = { .size = sizeof(options), .backend = &fake,
					     .log = keep_log, .log_context = logged };
	struct hvmi_vm *vm;
	ck_assert_int_eq(hvmi_open("fake:a\nb\xff", &options, &vm, NULL), 0);
	ck_assert_str_eq(logged, "opened a\\x0ab\\xff");
	hvmi_close(vm);
}
END_TEST

START_TEST(text)
{
	static const struct {
		const char *in;
		size_t len;
		const char *out;
	} cases[] = {
		{ "plain", 5, "plain" },
		{ "a\0b", 3, "a\\x00b" },
		{ "\x1b[31m\n", 6, "\\x1b[31m\\x0a" },
		{ "C:\\x", 4, "C:\\\\x" },
		{ "\x7f", 1, "\\x7f" },
		{ "gr\xc3\xbc\xc3\x9f", 6, "gr\xc3\xbc\xc3\x9f" },
		{ "\xe2\x82\xac\xf0\x9f\x90\xa7", 7, "\xe2\x82\xac\xf0\x9f\x90\xa7" },
		{ "\xc2\x9b", 2, "\\xc2\\x9b" },		/* a C1 control */
		{ "\xc0\xaf", 2, "\\xc0\\xaf" },		/* overlong */
		{ "\xe0\x80\xaf", 3, "\\xe0\\x80\\xaf" },
		{ "\xed\xa0\x80", 3, "\\xed\\xa0\\x80" },	/* a surrogate */
		{ "\xf4\x90\x80\x80", 4, "\\xf4\\x90\\x80\\x80" },
		{ "\xe2\x82", 2, "\\xe2\\x82" },		/* cut off */
		{ "\xe2\x82x", 3, "\\xe2\\x82x" },
		{ "\xff", 1, "\\xff" },
	};
	char buf[64];
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		ck_assert_uint_eq(hvmi_text_escape(cases[i].in, cases[i].len, buf, sizeof(buf)),
				  strlen(cases[i].out));
		ck_assert_str_eq(buf, cases[i].out);
	}
	/* Never half an escape or half a character, and nothing behind what did not fit. */
	ck_assert_uint_eq(hvmi_text_escape("ab\xc3\xbc" "c", 5, buf, 4), 5);
	ck_assert_str_eq(buf, "ab");
	ck_assert_uint_eq(hvmi_text_escape("a\n", 2, buf, 5), 5);
	ck_assert_str_eq(buf, "a");
	ck_assert_uint_eq(hvmi_text_escape("abc", 3, NULL, 0), 3);
}
END_TEST

START_TEST(errors)
{
	struct hvmi_error err;
	ck_assert_int_eq(hvmi_error_set(&err, -EFAULT, 0x1000, "nothing at \"%s\"\n", "a\xff"),
			 -EFAULT);
	ck_assert_str_eq(err.text, "nothing at \"a\\xff\"\\x0a");
	ck_assert_uint_eq(err.address, 0x1000);
	ck_assert_int_eq(hvmi_error_set(&err, -EIO, HVMI_NO_ADDRESS, "outer: %s", err.text), -EIO);
	ck_assert_str_eq(err.text, "outer: nothing at \"a\\xff\"\\x0a");
	ck_assert_int_eq(hvmi_error_set(NULL, -EIO, 0, "nobody"), -EIO);
	char wide[3 * HVMI_ERROR_TEXT];
	memset(wide, 'x', sizeof(wide));
	wide[sizeof(wide) - 1] = '\0';
	hvmi_error_set(&err, -EIO, 0, "%s", wide);
	ck_assert_uint_eq(strlen(err.text), HVMI_ERROR_TEXT - 1);
	ck_assert_str_eq(hvmi_error_name(-EFAULT), "EFAULT");
	ck_assert_str_eq(hvmi_error_name(-12345), "unknown");
	ck_assert_str_eq(hvmi_version(), "1.0.0");
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("vm");
	TCase *tcase = tcase_create("vm");
	tcase_add_test(tcase, targets);
	tcase_add_test(tcase, numbers);
	tcase_add_test(tcase, opening);
	tcase_add_test(tcase, options_are_checked);
	tcase_add_test(tcase, tables);
	tcase_add_test(tcase, ranges_are_checked);
	tcase_add_test(tcase, description);
	tcase_add_loop_test(tcase, reading, 0, 2);
	tcase_add_test(tcase, writing);
	tcase_add_test(tcase, registers);
	tcase_add_test(tcase, pausing);
	tcase_add_test(tcase, logging);
	tcase_add_test(tcase, text);
	tcase_add_test(tcase, errors);
	suite_add_tcase(suite, tcase);
	return run_suite(suite);
}
