/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A real guest whose memory an attacker rewrites: every run changes words that the library reads
 * (pointers among them, aimed at other kernel objects), then attaches and lists everything. Whatever
 * comes out must come soon, without a crash, and be a result or an error with a sentence.
 */
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <hvmi/backend.h>
#include <hvmi/hvmi.h>

#define TOUCHED_MAX (1u << 20)
#define WORDS_CHANGED 24
#define LIST_MAX 8000000u

/* The image, privately mapped: what is changed never reaches the file. */
static uint8_t *ram;
static uint64_t ram_len;
/* Where the library read, while `record` is set. */
static bool record;
static uint64_t touched[TOUCHED_MAX];
static uint32_t touched_count;

static int image_open(const struct hvmi_target *target, const struct hvmi_backend_host *host,
		      void **ret, struct hvmi_error *err)
{
	(void)target;
	(void)host;
	(void)err;
	*ret = ram;
	return 0;
}

static void image_close(void *machine)
{
	(void)machine;
}

static int image_describe(void *machine, struct hvmi_machine *ret)
{
	(void)machine;
	ret->ranges = 1;
	ret->flags = HVMI_VM_STATIC;
	return 0;
}

static int image_range(void *machine, uint32_t index, struct hvmi_range *ret)
{
	(void)machine;
	(void)index;
	*ret = (struct hvmi_range){ 0, ram_len };
	return 0;
}

static int image_read(void *machine, uint64_t gpa, void *buf, size_t len)
{
	(void)machine;
	if (record && len <= 4096 && touched_count < TOUCHED_MAX)
		touched[touched_count++] = gpa;
	memcpy(buf, ram + gpa, len);
	return 0;
}

static const struct hvmi_backend image_backend = {
	.size = sizeof(image_backend),
	.scheme = "image",
	.open = image_open,
	.close = image_close,
	.describe = image_describe,
	.range = image_range,
	.read = image_read,
};

static uint64_t random_state;

static uint64_t random_u64(void)
{
	/* xorshift64*, Marsaglia 2003 */
	random_state ^= random_state >> 12;
	random_state ^= random_state << 25;
	random_state ^= random_state >> 27;
	return random_state * 2685821657736338717ull;
}

struct tally {
	uint32_t tasks, modules, regions, errors;
};

static void checked(int rc, struct hvmi_error *err, struct tally *tally)
{
	if (rc >= 0)
		return;
	tally->errors++;
	if (strcmp(hvmi_error_name(rc), "unknown") == 0 || err->code != rc || err->text[0] == '\0') {
		printf("an error without a sentence, or outside the set: %d\n", rc);
		exit(1);
	}
}

static void list_regions(struct hvmi_os *os, const struct hvmi_task *task, struct tally *tally)
{
	struct hvmi_region_iter *iter;
	struct hvmi_region region = { .size = sizeof(region) };
	struct hvmi_error err = { 0 };
	uint64_t end = 0;
	int rc = hvmi_region_iter_create(os, task, 0, &iter, &err);
	if (rc) {
		checked(rc, &err, tally);
		return;
	}
	while ((rc = hvmi_region_next(iter, &region, &err)) == 1) {
		if (region.start < end || region.end <= region.start ||
		    strlen(region.path) >= 100000 || ++tally->regions > LIST_MAX) {
			printf("a region that cannot be\n");
			exit(1);
		}
		end = region.end;
	}
	checked(rc, &err, tally);
	hvmi_region_iter_destroy(iter);
}

static void list_modules(struct hvmi_module_iter *modules, struct tally *tally)
{
	struct hvmi_module module = { .size = sizeof(module) };
	struct hvmi_error err = { 0 };
	int rc;
	while ((rc = hvmi_module_next(modules, &module, &err)) == 1)
		if (++tally->modules > LIST_MAX || strlen(module.path) >= 100000)
			exit(1);
	hvmi_module_iter_destroy(modules);
	checked(rc, &err, tally);
}

static void list_keys(struct hvmi_os *os, const struct hvmi_key *key, uint32_t depth,
		      struct tally *tally)
{
	struct hvmi_value_iter *values;
	struct hvmi_key_iter *keys;
	struct hvmi_value value = { .size = sizeof(value) };
	struct hvmi_key sub = { .size = sizeof(sub) };
	struct hvmi_error err = { 0 };
	uint64_t sum = 0;
	int rc = hvmi_value_iter_create(os, key, &values, &err);
	if (rc == 0) {
		while ((rc = hvmi_value_next(values, &value, &err)) == 1)
			for (uint32_t i = 0; value.data && i < value.bytes; i++)
				sum += value.data[i];
		hvmi_value_iter_destroy(values);
	}
	checked(rc, &err, tally);
	rc = depth ? hvmi_key_iter_create(os, key, &keys, &err) : -ENOENT;
	if (rc == 0) {
		uint32_t left = 100;
		while (left-- && (rc = hvmi_key_next(keys, &sub, &err)) == 1)
			list_keys(os, &sub, depth - 1, tally);
		hvmi_key_iter_destroy(keys);
	}
	if (depth)
		checked(rc, &err, tally);
	tally->errors += sum == 1;
}

/* Handles of a process; what of the others only Windows has. */
static void list_handles(struct hvmi_os *os, const struct hvmi_task *task, struct tally *tally)
{
	struct hvmi_handle_iter *iter;
	struct hvmi_handle handle = { .size = sizeof(handle) };
	struct hvmi_token token = { .size = sizeof(token) };
	struct hvmi_error err = { 0 };
	checked(hvmi_token_read(os, task, &token, &err), &err, tally);
	int rc = hvmi_handle_iter_create(os, task, &iter, &err);
	if (rc == 0) {
		uint32_t count = 0;
		while ((rc = hvmi_handle_next(iter, &handle, &err)) == 1)
			if (++count > LIST_MAX || strlen(handle.name) >= 100000)
				exit(1);
		hvmi_handle_iter_destroy(iter);
	}
	checked(rc, &err, tally);
}

static void list_windows(struct hvmi_os *os, struct tally *tally)
{
	struct hvmi_driver_iter *drivers;
	struct hvmi_device_iter *devices;
	struct hvmi_callback_iter *callbacks;
	struct hvmi_hive_iter *hives;
	struct hvmi_driver driver = { .size = sizeof(driver) };
	struct hvmi_device device = { .size = sizeof(device) };
	struct hvmi_callback callback = { .size = sizeof(callback) };
	struct hvmi_hive hive = { .size = sizeof(hive) };
	struct hvmi_key key = { .size = sizeof(key) };
	struct hvmi_service service = { .size = sizeof(service) };
	struct hvmi_unloaded unloaded = { .size = sizeof(unloaded) };
	struct hvmi_error err = { 0 };
	int rc = hvmi_driver_iter_create(os, &drivers, &err);
	if (rc == 0) {
		while ((rc = hvmi_driver_next(drivers, &driver, &err)) == 1) {
			struct hvmi_error inner = { 0 };
			int created = hvmi_device_iter_create(os, &driver, &devices, &inner);
			if (created == 0) {
				while ((created = hvmi_device_next(devices, &device, &inner)) == 1)
					;
				hvmi_device_iter_destroy(devices);
			}
			checked(created, &inner, tally);
		}
		hvmi_driver_iter_destroy(drivers);
	}
	checked(rc, &err, tally);
	rc = hvmi_callback_iter_create(os, &callbacks, &err);
	if (rc == 0) {
		while ((rc = hvmi_callback_next(callbacks, &callback, &err)) == 1)
			;
		hvmi_callback_iter_destroy(callbacks);
	}
	checked(rc, &err, tally);
	rc = hvmi_hive_iter_create(os, &hives, &err);
	if (rc == 0) {
		while ((rc = hvmi_hive_next(hives, &hive, &err)) == 1) {
			struct hvmi_error inner = { 0 };
			int found = hvmi_key_find(os, &hive, "", &key, &inner);
			checked(found, &inner, tally);
			if (found == 0)
				list_keys(os, &key, 3, tally);
		}
		hvmi_hive_iter_destroy(hives);
	}
	checked(rc, &err, tally);
	for (uint32_t i = 0; hvmi_unloaded_read(os, i, &unloaded, NULL) == 0; i++)
		;
	for (uint32_t i = 0; hvmi_service_read(os, 0, i, &service, NULL) == 0; i++)
		;
}

static void list_processes(struct hvmi_os *os, struct tally *tally)
{
	static char path[65536];
	struct hvmi_task_iter *tasks;
	struct hvmi_module_iter *modules;
	struct hvmi_task task = { .size = sizeof(task) };
	struct hvmi_error err = { 0 };
	int rc = hvmi_task_iter_create(os, 0, &tasks, &err);
	if (rc == 0) {
		while ((rc = hvmi_task_next(tasks, &task, &err)) == 1) {
			struct hvmi_error inner = { 0 };
			checked(hvmi_task_path(os, &task, path, sizeof(path), &inner), &inner,
				tally);
			list_handles(os, &task, tally);
			int created = hvmi_module_iter_create_task(os, &task, 0, &modules, &inner);
			checked(created, &inner, tally);
			if (created == 0)
				list_modules(modules, tally);
		}
		hvmi_task_iter_destroy(tasks);
	}
	checked(rc, &err, tally);
}

static void list_all(struct hvmi_os *os, struct tally *tally)
{
	static char strings[65536];
	struct hvmi_task_iter *tasks;
	struct hvmi_task task = { .size = sizeof(task) };
	struct hvmi_error err = { 0 };
	size_t len;
	int rc = hvmi_task_iter_create(os, HVMI_TASKS_THREADS, &tasks, &err);
	if (rc == 0) {
		while ((rc = hvmi_task_next(tasks, &task, &err)) == 1) {
			if (++tally->tasks > LIST_MAX || memchr(task.name, 0, 64) == NULL)
				exit(1);
			struct hvmi_error inner = { 0 };
			checked(hvmi_task_arguments(os, &task, strings, sizeof(strings), &len,
						    &inner), &inner, tally);
			checked(hvmi_task_environment(os, &task, strings, sizeof(strings), &len,
						      &inner), &inner, tally);
			list_regions(os, &task, tally);
		}
		hvmi_task_iter_destroy(tasks);
	}
	checked(rc, &err, tally);
	list_processes(os, tally);
	struct hvmi_os_info info = { .size = sizeof(info) };
	hvmi_os_get_info(os, &info);
	if (info.kind == HVMI_OS_WINDOWS)
		list_windows(os, tally);
	struct hvmi_module_iter *modules;
	rc = hvmi_module_iter_create(os, 0, &modules, &err);
	checked(rc, &err, tally);
	if (rc == 0)
		list_modules(modules, tally);
}

static struct hvmi_os *attach(struct hvmi_vm *vm, struct tally *tally)
{
	struct hvmi_os *os = NULL;
	struct hvmi_error err = { 0 };
	int rc = hvmi_os_attach(vm, NULL, &os, &err);
	checked(rc, &err, tally);
	return os;
}

struct change {
	uint64_t gpa, old;
};

/* Words near where the library reads get a number, another such word, or an address of one. */
static void change_words(struct change changes[WORDS_CHANGED])
{
	for (int i = 0; i < WORDS_CHANGED; i++) {
		uint64_t gpa = touched[random_u64() % touched_count] & ~7ull;
		uint64_t from = touched[random_u64() % touched_count] & ~7ull, value;
		switch (random_u64() % 6) {
		case 0: value = random_u64(); break;
		case 1: value = random_u64() % 4096; break;
		case 2: value = UINT64_MAX - random_u64() % 4096; break;
		case 3: memcpy(&value, ram + gpa, 8); value ^= 1ull << random_u64() % 64; break;
		case 4: memcpy(&value, ram + gpa, 8); value += random_u64() % 256 * 8 - 1024; break;
		default: memcpy(&value, ram + from, 8); break;
		}
		changes[i].gpa = gpa;
		memcpy(&changes[i].old, ram + gpa, 8);
		memcpy(ram + gpa, &value, 8);
	}
}

static void restore_words(const struct change changes[WORDS_CHANGED])
{
	for (int i = WORDS_CHANGED; i-- > 0;)
		memcpy(ram + changes[i].gpa, &changes[i].old, 8);
}

static int compare_gpa(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
	return x < y ? -1 : x > y;
}

/* Each place once: else the top of the page tables would be all that is ever hit. */
static void touched_unique(void)
{
	uint32_t kept = 0;
	qsort(touched, touched_count, sizeof(*touched), compare_gpa);
	for (uint32_t i = 0; i < touched_count; i++)
		if (i == 0 || touched[i] != touched[kept - 1])
			touched[kept++] = touched[i];
	touched_count = kept;
}

static double seconds(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

int main(int argc, char **argv)
{
	if (argc != 5) {
		fprintf(stderr, "usage: hostile IMAGE LISTS ATTACHES SEED\n");
		return 2;
	}
	int fd = open(argv[1], O_RDONLY);
	struct stat status;
	if (fd < 0 || fstat(fd, &status)) {
		perror(argv[1]);
		return 1;
	}
	ram_len = (uint64_t)status.st_size;
	ram = mmap(NULL, ram_len, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
	if (ram == MAP_FAILED) {
		perror(argv[1]);
		return 1;
	}
	long lists = atol(argv[2]), attaches = atol(argv[3]);
	random_state = strtoull(argv[4], NULL, 0) | 1;
	struct hvmi_open_options options = { .size = sizeof(options), .backend = &image_backend };
	struct hvmi_error err;
	struct hvmi_vm *vm;
	if (hvmi_open("image:x", &options, &vm, &err)) {
		printf("%s\n", err.text);
		return 1;
	}
	struct tally whole = { 0 }, sum = { 0 };
	struct change changes[WORDS_CHANGED];
	record = true;
	struct hvmi_os *os = attach(vm, &whole);
	if (!os)
		return 1;
	list_all(os, &whole);
	record = false;
	touched_unique();
	printf("untouched: %u tasks, %u modules, %u regions, %u errors; %u places read\n",
	       whole.tasks, whole.modules, whole.regions, whole.errors, touched_count);
	double worst = 0;
	long passed = 0;
	for (long i = 0; i < lists; i++) {
		double start = seconds();
		change_words(changes);
		list_all(os, &sum);
		restore_words(changes);
		worst = seconds() - start > worst ? seconds() - start : worst;
		passed++;
	}
	hvmi_os_detach(os);
	printf("lists: %u tasks, %u modules, %u regions, %u errors; the longest took %.3f s\n",
	       sum.tasks, sum.modules, sum.regions, sum.errors, worst);
	uint32_t attached = 0;
	worst = 0;
	for (long i = 0; i < attaches; i++) {
		double start = seconds();
		change_words(changes);
		os = attach(vm, &sum);
		if (os) {
			attached++;
			list_all(os, &sum);
		}
		hvmi_os_detach(os);
		restore_words(changes);
		worst = seconds() - start > worst ? seconds() - start : worst;
		passed++;
	}
	printf("attaches: %u of %ld recognised; the longest took %.3f s\n", attached, attaches, worst);
	struct tally again = { 0 };
	os = attach(vm, &again);
	if (os)
		list_all(os, &again);
	hvmi_os_detach(os);
	hvmi_close(vm);
	bool same = memcmp(&whole, &again, sizeof(whole)) == 0;
	if (!same)
		printf("the untouched guest looks different afterwards\n");
	printf("%ld passed, %d failed\n", passed + same, !same);
	return !same;
}
