/* SPDX-License-Identifier: Apache-2.0 */
/* Lists that change while they are read. Real guests that do are in tests/live. */
#include "suite.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <hvmi/backend.h>

#include "os/linux/linux.h"

/* The guest's memory: 64-bit words, so that every store is one. */
#define WORDS 8192u
static _Atomic uint64_t ram[WORDS];

/* Words of a task; as a module and an mm it has other ones. */
enum {
	NEXT, PREV, PID, TGID, COMM, COMM_2, LOCK, UID, START, MM, FLAGS, TASK_WORDS = 16,
	MODULE_AT = 4, LIST_AT = 2, MM_LOCKED = 1, ARG_START = 2, ARG_END = 3
};
#define HEAD 64u		/* words: init_task */
#define SLOT(n) (128u + (n) * TASK_WORDS)
#define SLOTS 200u
#define MODULES 16u
#define AN_MM 32u
#define READS_A_CHANGE 32u	/* and a list of 125 tasks takes thousands */
/* What stays for half of it is damage; more than a busy machine takes a processor away for. */
#define DAMAGE_NS 500000000u
#define POISON UINT64_C(0xdead000000000122)

static bool can_pause = true;
static int pauses, resumes;
/* Called before every word that is read; what the guest does meanwhile. */
static void (*meanwhile)(uint64_t gpa);

static int memory_open(const struct hvmi_target *target, const struct hvmi_backend_host *host,
		       void **ret, struct hvmi_error *err)
{
	(void)target;
	(void)host;
	(void)err;
	*ret = ram;
	return 0;
}

static void memory_close(void *machine)
{
	(void)machine;
}

static int memory_describe(void *machine, struct hvmi_machine *ret)
{
	(void)machine;
	ret->ranges = 1;
	return 0;
}

static int memory_range(void *machine, uint32_t index, struct hvmi_range *ret)
{
	(void)machine;
	(void)index;
	*ret = (struct hvmi_range){ 0, sizeof(ram) };
	return 0;
}

static int memory_read(void *machine, uint64_t gpa, void *buf, size_t len)
{
	(void)machine;
	for (size_t done = 0; done < len; done++) {
		if (meanwhile)
			meanwhile(gpa + done);
		uint64_t word = atomic_load_explicit(&ram[(gpa + done) / 8], memory_order_acquire);
		size_t from = (gpa + done) % 8, n = MIN(8 - from, len - done);
		memcpy((char *)buf + done, (char *)&word + from, n);
		done += n - 1;
	}
	return 0;
}

static int memory_pause(void *machine, struct hvmi_error *err)
{
	(void)machine;
	pauses++;
	return can_pause ? 0 : hvmi_error_set(err, -ENOTSUP, HVMI_NO_ADDRESS, "it never stops");
}

static int memory_resume(void *machine, struct hvmi_error *err)
{
	(void)machine;
	(void)err;
	resumes++;
	return 0;
}

static const struct hvmi_backend memory_backend = {
	.size = sizeof(memory_backend), .scheme = "memory", .open = memory_open,
	.close = memory_close, .describe = memory_describe, .range = memory_range,
	.read = memory_read, .pause = memory_pause, .resume = memory_resume,
};

static uint64_t get(uint32_t word)
{
	return atomic_load_explicit(&ram[word], memory_order_acquire);
}

static void put(uint32_t word, uint64_t value)
{
	atomic_store_explicit(&ram[word], value, memory_order_release);
}

static struct hvmi_vm *vm;
static struct hvmi_os *os;

static void member(enum linux_member m, uint32_t word, uint32_t bytes)
{
	((struct linux_os *)os->data)->members[m] = (struct hvmi_member){
		.size = sizeof(struct hvmi_member), .bytes = bytes, .kind = HVMI_TYPE_INTEGER,
		.hop_count = 1, .pointer_bytes = 8, .hops = { word * 8 } };
}

static void setup(void)
{
	static const struct {
		enum linux_member member;
		uint32_t word, bytes;
	} members[] = {
		{ LINUX_TASK_TASKS, NEXT, 16 }, { LINUX_TASK_PID, PID, 4 },
		{ LINUX_TASK_TGID, TGID, 4 }, { LINUX_TASK_COMM, COMM, 16 },
		{ LINUX_TASK_LOCK, LOCK, 4 }, { LINUX_TASK_UID, UID, 4 },
		{ LINUX_TASK_GID, UID, 4 }, { LINUX_TASK_EUID, UID, 4 },
		{ LINUX_TASK_EGID, UID, 4 }, { LINUX_TASK_START, START, 8 },
		{ LINUX_TASK_MM, MM, 8 }, { LINUX_TASK_FLAGS, FLAGS, 4 },
		{ LINUX_MODULE_LIST, LIST_AT, 16 }, { LINUX_MODULE_NAME, MODULE_AT, 16 },
		{ LINUX_MM_LOCK, MM_LOCKED, 8 }, { LINUX_MM_LIST, 0, 8 },
		{ LINUX_MM_ARG_START, ARG_START, 8 }, { LINUX_MM_ARG_END, ARG_END, 8 },
		{ LINUX_MM_ENV_START, ARG_START, 8 }, { LINUX_MM_ENV_END, ARG_END, 8 },
		{ LINUX_MM_PGD, 0, 8 },
		{ LINUX_VMA_START, 0, 8 }, { LINUX_VMA_END, 1, 8 }, { LINUX_VMA_FLAGS, 2, 8 },
		{ LINUX_VMA_NEXT, 3, 8 },
	};
	struct hvmi_open_options options = { .size = sizeof(options), .backend = &memory_backend };
	for (uint32_t i = 0; i < WORDS; i++)
		put(i, 0);
	meanwhile = NULL;
	can_pause = true;
	pauses = resumes = 0;
	ck_assert_int_eq(hvmi_open("memory:", &options, &vm, NULL), 0);
	os = calloc(1, sizeof(*os));
	os->vm = vm;
	os->ops = linux_ops();
	os->data = calloc(1, sizeof(struct linux_os));
	os->profile = profile_create();
	os->kernel = (struct hvmi_space_config){ .size = sizeof(os->kernel) };
	os->list_budget_ns = OS_LIST_BUDGET_NS;
	struct linux_os *data = os->data;
	for (size_t i = 0; i < ARRAY_SIZE(members); i++)
		member(members[i].member, members[i].word, members[i].bytes);
	member(LINUX_TASK_PGD, MM, 8);
	data->members[LINUX_TASK_PGD].hop_count = 2;	/* at the mm's first byte */
	linux_task_plan(data);
	data->init_task = HEAD * 8;
	data->modules = MODULES * 8;
	data->version = 6 << 8 | 1;
	put(HEAD + NEXT, HEAD * 8);
	put(HEAD + PREV, HEAD * 8);
	put(MODULES, MODULES * 8);
	put(MODULES + 1, MODULES * 8);
}

static void teardown(void)
{
	meanwhile = NULL;
	hvmi_os_detach(os);
	hvmi_close(vm);
}

/* Names hold the pid twice, far apart, so that one that is mixed is seen. */
static void name_words(uint64_t pid, char variant, uint64_t words[2])
{
	char text[17];
	snprintf(text, sizeof(text), "%c%06u%c%07u", variant, (unsigned)pid % 1000000, variant,
		 (unsigned)pid % 1000000);
	text[15] = '\0';
	memcpy(words, text, 16);
}

static void set_name(uint32_t task, char variant)
{
	uint64_t words[2];
	name_words(get(task + PID), variant, words);
	put(task + LOCK, 1);
	put(task + COMM, words[0]);
	put(task + COMM_2, words[1]);
	put(task + LOCK, 0);
}

/* As copy_process() and list_add_tail_rcu() do, in this order. */
static void birth(uint32_t task, uint64_t pid)
{
	uint32_t parent = (uint32_t)(get(HEAD + PREV) / 8);
	/* A new task begins as a copy of another one, links and all. */
	for (uint32_t i = 0; i < TASK_WORDS; i++)
		put(task + i, get(parent + i));
	put(task + START, pid * 1000);
	put(task + PID, pid);
	put(task + TGID, pid);
	put(task + UID, pid);
	set_name(task, 'a');
	uint64_t last = get(HEAD + PREV);
	put(task + NEXT, HEAD * 8);
	put(task + PREV, last);
	put((uint32_t)(last / 8) + NEXT, task * 8);
	put(HEAD + PREV, task * 8);
}

/* list_del_rcu(): the way on stays. */
static void death(uint32_t task)
{
	uint64_t next = get(task + NEXT), prev = get(task + PREV);
	put((uint32_t)(next / 8) + PREV, prev);
	put((uint32_t)(prev / 8) + NEXT, next);
	put(task + PREV, POISON);
}

static void check_task(const struct hvmi_task *task)
{
	uint64_t words[2];
	char name[17] = "";
	if (task->valid & HVMI_TASK_HAS_NAME) {
		name_words((uint64_t)task->pid, task->name[0], words);
		memcpy(name, words, 16);
		ck_assert(task->name[0] == 'a' || task->name[0] == 'b');
		ck_assert_str_eq(task->name, name);
	}
	ck_assert_int_eq(task->pid, task->tgid);
	ck_assert_uint_eq(task->uid, (uint32_t)task->pid);
	ck_assert_uint_eq(task->start_ns, (uint64_t)task->pid * 1000);
}

/* One list, checked; how it ended, and how many of the first `steady` pids were in it. */
static int list(uint32_t flags, uint32_t steady, uint32_t *steady_ret, uint32_t *count_ret,
		struct hvmi_error *err)
{
	struct hvmi_task_iter *iter;
	struct hvmi_task task = { .size = sizeof(task) };
	uint32_t found = 0, count = 0;
	int rc = hvmi_task_iter_create(os, flags, &iter, err);
	if (rc)
		return rc;
	while ((rc = hvmi_task_next(iter, &task, err)) == 1) {
		check_task(&task);
		found += task.pid <= (int32_t)steady;
		count++;
	}
	ck_assert_int_eq(hvmi_task_next(iter, &task, NULL), 0);
	hvmi_task_iter_destroy(iter);
	*steady_ret = found;
	*count_ret = count;
	return rc;
}

static atomic_bool stop;
static atomic_uint reads;

static void count_reads(uint64_t gpa)
{
	(void)gpa;
	atomic_fetch_add_explicit(&reads, 1, memory_order_relaxed);
}

/*
 * Tasks come and go all the time, and their memory is used again at once. The pace is set by the
 * reader, not by a clock: how often it is disturbed must not depend on how busy the machine is.
 */
static void *storm(void *context)
{
	uint64_t random = 12345, pid = 1000;
	unsigned seen = 0;
	bool alive[SLOTS] = { false };
	(void)context;
	for (uint32_t i = 0; !atomic_load(&stop); i++) {
		random = random * 6364136223846793005u + 1442695040888963407u;
		uint32_t slot = (uint32_t)(random >> 33) % SLOTS;
		/* A quarter stays, and changes names. */
		if (slot % 4 == 0)
			set_name(SLOT(slot), i % 2 ? 'a' : 'b');
		else if (alive[slot])
			death(SLOT(slot));
		else
			birth(SLOT(slot), ++pid % 900000 + 1000);
		alive[slot] = !alive[slot];
		while (atomic_load(&reads) - seen < READS_A_CHANGE && !atomic_load(&stop))
			sched_yield();
		seen = atomic_load(&reads);
	}
	return NULL;
}

START_TEST(a_storm)
{
	pthread_t thread;
	uint32_t steady = SLOTS / 4, found, count, inconsistent = 0, most = 0;
	struct hvmi_error err;
	for (uint32_t i = 0; i < SLOTS; i++)
		if (i % 4 == 0)
			birth(SLOT(i), i / 4 + 1);
	atomic_store(&stop, false);
	meanwhile = count_reads;
	ck_assert_int_eq(pthread_create(&thread, NULL, storm, NULL), 0);
	for (int i = 0; i < 2000; i++) {
		int rc = list(0, steady, &found, &count, &err);
		ck_assert_msg(rc == 0 || rc == -EBUSY, "%d: %s", rc, rc ? err.text : "");
		inconsistent += rc != 0;
		if (rc == 0)
			ck_assert_uint_eq(found, steady);
		most = MAX(most, count);
	}
	atomic_store(&stop, true);
	pthread_join(thread, NULL);
	ck_assert_uint_gt(most, steady);
	ck_assert_uint_lt(inconsistent, 200);
}
END_TEST

static void name_flips(uint64_t gpa)
{
	static char variant = 'a';
	if (gpa == (SLOT(1) + COMM) * 8) {
		variant ^= 'a' ^ 'b';
		set_name(SLOT(1), variant);
	}
}

/* A process that always changes its name loses it, and holds nobody up. */
START_TEST(a_restless_name)
{
	struct hvmi_task task = { .size = sizeof(task) };
	for (uint32_t i = 0; i < 3; i++)
		birth(SLOT(i), i + 1);
	meanwhile = name_flips;
	ck_assert_int_eq(hvmi_task_find(os, 2, &task, NULL), 0);
	ck_assert_uint_eq(task.valid & HVMI_TASK_HAS_NAME, 0);
	ck_assert_str_eq(task.name, "");
	ck_assert_int_eq(hvmi_task_find(os, 3, &task, NULL), 0);
	check_task(&task);
	ck_assert_uint_ne(task.valid & HVMI_TASK_HAS_NAME, 0);
}
END_TEST

/* Who changes a name was stopped half way; a lock that is never given back is none. */
START_TEST(a_locked_name)
{
	struct hvmi_task task = { .size = sizeof(task) };
	birth(SLOT(0), 1);
	put(SLOT(0) + LOCK, 1);
	ck_assert_int_eq(hvmi_task_find(os, 1, &task, NULL), 0);
	check_task(&task);
	ck_assert_uint_ne(task.valid & HVMI_TASK_HAS_NAME, 0);
}
END_TEST

/* What stays wrong is damage, not change. */
START_TEST(damage)
{
	uint32_t found, count;
	struct hvmi_error err;
	for (uint32_t i = 0; i < 5; i++)
		birth(SLOT(i), i + 1);
	os->list_budget_ns = DAMAGE_NS;
	put(SLOT(2) + NEXT, SLOT(0) * 8);
	ck_assert_int_eq(list(0, 5, &found, &count, &err), -EBADMSG);
	ck_assert_uint_eq(found, 5);
	put(SLOT(2) + NEXT, SLOT(3) * 8);
	ck_assert_int_eq(list(0, 5, &found, &count, &err), 0);
	/* Two that say to be the same: so it is. */
	put(SLOT(4) + PID, 1);
	put(SLOT(4) + TGID, 1);
	put(SLOT(4) + UID, 1);
	put(SLOT(4) + START, 1000);
	set_name(SLOT(4), 'b');
	ck_assert_int_eq(list(0, 5, &found, &count, &err), 0);
	ck_assert_uint_eq(count, 5);
}
END_TEST

/* The entry that is being read goes, and its memory is another task's at the end of the list. */
static void reuse(uint64_t gpa)
{
	static uint64_t pid = 5000;
	if (gpa == (SLOT(2) + PID) * 8 && pid < 5002) {
		death(SLOT(2));
		birth(SLOT(2), pid++);
	}
}

START_TEST(memory_used_again)
{
	uint32_t found, count;
	struct hvmi_error err;
	for (uint32_t i = 0; i < 6; i++)
		birth(SLOT(i), i + 1);
	meanwhile = reuse;
	ck_assert_int_eq(list(0, 6, &found, &count, &err), 0);
	ck_assert_uint_eq(found, 5);
	ck_assert_uint_eq(count, 6);
}
END_TEST

/* The link behind the reader goes as soon as he has it: for ever. */
static void always(uint64_t gpa)
{
	static uint64_t pid = 10000;
	if (gpa == (SLOT(1) + COMM) * 8 || gpa == (SLOT(2) + COMM) * 8) {
		uint32_t task = (uint32_t)(gpa / 8) - COMM;
		if (get(task + PREV) != POISON && pid < 900000) {
			death(task);
			birth(task, pid++);
		}
	}
}

START_TEST(no_end_of_changes)
{
	uint32_t found, count;
	struct hvmi_error err;
	for (uint32_t i = 0; i < 6; i++)
		birth(SLOT(i), i + 1);
	os->list_budget_ns = 30000000;
	meanwhile = always;
	ck_assert_int_eq(list(0, 1, &found, &count, &err), -EBUSY);
	ck_assert_ptr_nonnull(strstr(err.text, "HVMI_LIST_PAUSED"));
	ck_assert_int_eq(err.code, -EBUSY);
	/* Standing still there is no trouble. The guest of this test does not keep to that. */
	meanwhile = NULL;
	ck_assert_int_eq(list(HVMI_LIST_PAUSED, 1, &found, &count, &err), 0);
	ck_assert_uint_eq(count, 6);
}
END_TEST

START_TEST(paused)
{
	struct hvmi_task_iter *iter, *second;
	struct hvmi_task task = { .size = sizeof(task) };
	struct hvmi_module_iter *modules;
	struct hvmi_region_iter *regions;
	struct hvmi_error err;
	birth(SLOT(0), 1);
	ck_assert_int_eq(hvmi_task_iter_create(os, HVMI_LIST_PAUSED, &iter, NULL), 0);
	ck_assert_int_eq(pauses, 1);
	ck_assert_int_eq(hvmi_task_next(iter, &task, NULL), 1);
	ck_assert_int_eq(hvmi_task_iter_create(os, HVMI_LIST_PAUSED, &second, NULL), 0);
	ck_assert_int_eq(hvmi_module_iter_create(os, HVMI_LIST_PAUSED, &modules, NULL), 0);
	ck_assert_int_eq(hvmi_region_iter_create(os, &task, HVMI_LIST_PAUSED, &regions, NULL), 0);
	hvmi_task_iter_destroy(iter);
	hvmi_task_iter_destroy(second);
	hvmi_region_iter_destroy(regions);
	ck_assert_int_eq(resumes, 0);
	hvmi_module_iter_destroy(modules);
	ck_assert_int_eq(pauses, 1);
	ck_assert_int_eq(resumes, 1);
	/* What fails does not leave it paused. */
	((struct linux_os *)os->data)->init_task = 0;
	ck_assert_int_eq(hvmi_task_iter_create(os, HVMI_LIST_PAUSED, &iter, &err), -ENOTSUP);
	ck_assert_int_eq(resumes, 2);
	can_pause = false;
	ck_assert_int_eq(hvmi_module_iter_create(os, HVMI_LIST_PAUSED, &modules, &err), -ENOTSUP);
	ck_assert_str_eq(err.text, "it never stops");
	ck_assert_int_eq(hvmi_module_iter_create(os, HVMI_TASKS_THREADS, &modules, &err), -EINVAL);
}
END_TEST

/* Refreshes, and writes the differences as "+3 -2 ~4": pids in the order in which they are told. */
static int news(struct hvmi_task_watch *watch, uint32_t flags, char text[256], uint32_t *fields_ret)
{
	struct hvmi_task_news news = { .size = sizeof(news) };
	struct hvmi_task task = { .size = sizeof(task) };
	size_t len = 0;
	int rc = hvmi_task_watch_refresh(watch, flags, NULL);
	text[0] = '\0';
	*fields_ret = 0;
	while (hvmi_task_watch_next(watch, &news, &task, NULL) == 1) {
		len += (size_t)snprintf(text + len, 256 - len, "%s%c%d", len ? " " : "",
					"?=+-~"[news.change], task.pid);
		*fields_ret |= news.fields;
	}
	return rc;
}

static uint32_t reads_of_pgd;

static void count_pgd(uint64_t gpa)
{
	reads_of_pgd += gpa == AN_MM * 8;
}

START_TEST(watching)
{
	struct hvmi_task_watch *watch;
	char text[256];
	uint32_t fields;
	for (uint32_t i = 0; i < 4; i++)
		birth(SLOT(i), i + 1);
	put(SLOT(1) + MM, AN_MM * 8);
	ck_assert_int_eq(hvmi_task_watch_create(os, 4, &watch, NULL), -EINVAL);
	ck_assert_int_eq(hvmi_task_watch_create(os, _i ? HVMI_LIST_PAUSED : 0, &watch, NULL), 0);
	ck_assert_int_eq(news(watch, 0, text, &fields), 0);
	ck_assert_str_eq(text, "=1 =2 =3 =4");
	/* Where nothing changed, nothing is read behind pointers. */
	meanwhile = count_pgd;
	reads_of_pgd = 0;
	ck_assert_int_eq(news(watch, 0, text, &fields), 0);
	ck_assert_str_eq(text, "");
	ck_assert_uint_eq(reads_of_pgd, 0);
	ck_assert_int_eq(news(watch, HVMI_TASK_WATCH_READ_ALL, text, &fields), 0);
	ck_assert_str_eq(text, "");
	ck_assert_uint_ne(reads_of_pgd, 0);
	/* One ends, one begins where it was, one is called otherwise. */
	death(SLOT(1));
	birth(SLOT(1), 9);
	set_name(SLOT(2), 'b');
	ck_assert_int_eq(news(watch, 0, text, &fields), 0);
	ck_assert_str_eq(text, "-2 ~3 +9");
	ck_assert_uint_eq(fields, HVMI_TASK_HAS_NAME);
	put(SLOT(3) + UID, 0);
	death(SLOT(0));
	ck_assert_int_eq(news(watch, 0, text, &fields), 0);
	ck_assert_str_eq(text, "-1 ~4");
	ck_assert_uint_eq(fields, HVMI_TASK_HAS_UID);
	birth(SLOT(20), 20);
	birth(SLOT(21), 21);
	ck_assert_int_eq(news(watch, 0, text, &fields), 0);
	ck_assert_str_eq(text, "+20 +21");
	ck_assert_int_eq(news(watch, 2, text, &fields), -EINVAL);
	ck_assert_int_eq(pauses, _i ? 6 : 0);
	ck_assert_int_eq(resumes, pauses);
	hvmi_task_watch_destroy(watch);
	hvmi_task_watch_destroy(NULL);
}
END_TEST

/* A list that breaks off says nothing of what is behind the break. */
START_TEST(watching_damage)
{
	struct hvmi_task_watch *watch;
	char text[256];
	uint32_t fields;
	for (uint32_t i = 0; i < 6; i++)
		birth(SLOT(i), i + 1);
	os->list_budget_ns = DAMAGE_NS;
	ck_assert_int_eq(hvmi_task_watch_create(os, 0, &watch, NULL), 0);
	ck_assert_int_eq(news(watch, 0, text, &fields), 0);
	/* Two breaks: neither end leads to 3. */
	put(SLOT(1) + NEXT, SLOT(0) * 8);
	put(SLOT(3) + PREV, SLOT(0) * 8);
	set_name(SLOT(0), 'b');
	ck_assert_int_eq(news(watch, 0, text, &fields), -EBADMSG);
	ck_assert_str_eq(text, "~1");
	/* No list at all. */
	((struct linux_os *)os->data)->init_task = 0;
	ck_assert_int_eq(news(watch, 0, text, &fields), -ENOTSUP);
	ck_assert_str_eq(text, "");
	((struct linux_os *)os->data)->init_task = HEAD * 8;
	put(SLOT(1) + NEXT, SLOT(2) * 8);
	put(SLOT(3) + PREV, SLOT(2) * 8);
	death(SLOT(2));
	ck_assert_int_eq(news(watch, 0, text, &fields), 0);
	ck_assert_str_eq(text, "-3");
	hvmi_task_watch_destroy(watch);
}
END_TEST

/* While it is read first it is called otherwise, and afterwards as before again. */
static void name_returns(uint64_t gpa)
{
	static uint32_t times;
	if (gpa == (SLOT(1) + COMM) * 8 && ++times == 2)
		set_name(SLOT(1), 'b');
}

START_TEST(watching_a_name_that_returns)
{
	struct hvmi_task_watch *watch;
	char text[256];
	uint32_t fields;
	for (uint32_t i = 0; i < 3; i++)
		birth(SLOT(i), i + 1);
	ck_assert_int_eq(hvmi_task_watch_create(os, 0, &watch, NULL), 0);
	meanwhile = name_returns;
	ck_assert_int_eq(news(watch, 0, text, &fields), 0);
	meanwhile = NULL;
	set_name(SLOT(1), 'a');
	ck_assert_int_eq(news(watch, 0, text, &fields), 0);
	ck_assert_str_eq(text, "~2");
	hvmi_task_watch_destroy(watch);
}
END_TEST

/* What a watch tells, added up, is the list: in a storm each time, and at its end. */
START_TEST(watching_a_storm)
{
	static uint32_t known[1000000];
	struct hvmi_task_watch *watch;
	struct hvmi_task_news difference = { .size = sizeof(difference) };
	struct hvmi_task task = { .size = sizeof(task) };
	pthread_t thread;
	uint32_t steady = SLOTS / 4, held = 0, found, count, changed = 0;
	struct hvmi_error err;
	for (uint32_t i = 0; i < SLOTS; i++)
		if (i % 4 == 0)
			birth(SLOT(i), i / 4 + 1);
	ck_assert_int_eq(hvmi_task_watch_create(os, 0, &watch, NULL), 0);
	atomic_store(&stop, false);
	meanwhile = count_reads;
	ck_assert_int_eq(pthread_create(&thread, NULL, storm, NULL), 0);
	bool last = false;
	for (uint32_t i = 0; !last; i++) {
		/* On a busy machine the storm may have to be waited for. */
		last = i >= 1000 && changed > 10;
		if (last) {
			atomic_store(&stop, true);
			pthread_join(thread, NULL);
		}
		int rc = hvmi_task_watch_refresh(watch, 0, &err);
		ck_assert_msg(rc == 0 || rc == -EBUSY, "%d: %s", rc, rc ? err.text : "");
		while (hvmi_task_watch_next(watch, &difference, &task, NULL) == 1) {
			check_task(&task);
			bool ended = difference.change == HVMI_TASK_ENDED;
			bool begun = difference.change < HVMI_TASK_ENDED;
			changed += difference.change == HVMI_TASK_CHANGED;
			known[task.pid] += begun - ended;
			held += begun - ended;
			ck_assert_uint_le(known[task.pid], 2);
			ck_assert(!ended || task.pid > (int32_t)steady);
			ck_assert(difference.change != HVMI_TASK_CHANGED ||
				  difference.fields == HVMI_TASK_HAS_NAME);
		}
	}
	meanwhile = NULL;
	ck_assert_int_eq(list(0, steady, &found, &count, &err), 0);
	ck_assert_uint_eq(held, count);
	hvmi_task_watch_destroy(watch);
}
END_TEST

static void add_module(uint32_t at, const char *name)
{
	uint64_t words[2] = { 0 };
	memcpy(words, name, strlen(name));
	put(at + MODULE_AT, words[0]);
	put(at + MODULE_AT + 1, words[1]);
	uint64_t first = get(MODULES);
	put(at + LIST_AT, first);
	put(at + LIST_AT + 1, MODULES * 8);
	put((uint32_t)(first / 8) + 1, (at + LIST_AT) * 8);
	put(MODULES, (at + LIST_AT) * 8);
}

static uint32_t changes;

static void renames(uint64_t gpa)
{
	if (gpa == (SLOT(1) + MODULE_AT) * 8 && changes) {
		changes--;
		put(SLOT(1) + MODULE_AT, get(SLOT(1) + MODULE_AT) ^ 3);
	}
}

/* _i: how often it changes */
START_TEST(two_readings)
{
	struct hvmi_module_iter *iter;
	struct hvmi_module module = { .size = sizeof(module) };
	struct hvmi_error err;
	uint32_t count = 0;
	int rc;
	add_module(SLOT(0), "first");
	add_module(SLOT(1), "second");
	add_module(SLOT(2), "third");
	/* What ends well does however slowly it is read. */
	os->list_budget_ns = _i > 100 ? 30000000 : UINT64_MAX;
	changes = (uint32_t)_i;
	meanwhile = renames;
	ck_assert_int_eq(hvmi_module_iter_create(os, 0, &iter, &err), 0);
	while ((rc = hvmi_module_next(iter, &module, &err)) == 1) {
		count++;
		ck_assert_str_eq(module.path, "");
	}
	hvmi_module_iter_destroy(iter);
	ck_assert_uint_eq(count, 3);
	ck_assert_int_eq(rc, _i > 100 ? -EBUSY : 0);
	if (rc)
		ck_assert_ptr_nonnull(strstr(err.text, "two readings differ"));
}
END_TEST

static void ends(uint64_t gpa)
{
	/* As soon as the process's mm was read. */
	if (gpa == AN_MM * 8)
		put(SLOT(0) + MM, 0);
}

START_TEST(processes_that_end)
{
	struct hvmi_task task = { .size = sizeof(task) };
	struct hvmi_region_iter *iter;
	struct hvmi_region region = { .size = sizeof(region) };
	struct hvmi_error err;
	char buf[64];
	size_t len;
	uint32_t area = SLOT(10);
	birth(SLOT(0), 1);
	put(SLOT(0) + MM, AN_MM * 8);
	put(AN_MM, area * 8);
	put(area, 0x1000);
	put(area + 1, 0x3000);
	ck_assert_int_eq(hvmi_task_find(os, 1, &task, NULL), 0);
	ck_assert_int_eq(hvmi_region_iter_create(os, &task, 0, &iter, NULL), 0);
	ck_assert_int_eq(hvmi_region_next(iter, &region, NULL), 1);
	ck_assert_uint_eq(region.end, 0x3000);
	ck_assert_int_eq(hvmi_region_next(iter, &region, NULL), 0);
	hvmi_region_iter_destroy(iter);
	/* A writer that never is through. */
	os->list_budget_ns = 30000000;
	put(AN_MM + MM_LOCKED, 1);
	ck_assert_int_eq(hvmi_region_iter_create(os, &task, 0, &iter, NULL), 0);
	ck_assert_int_eq(hvmi_region_next(iter, &region, NULL), 1);
	hvmi_region_iter_destroy(iter);
	put(AN_MM + MM_LOCKED, 0);
	os->list_budget_ns = UINT64_MAX;
	/* It ends while its regions are read: then it has none. */
	meanwhile = ends;
	ck_assert_int_eq(hvmi_region_iter_create(os, &task, 0, &iter, NULL), 0);
	ck_assert_int_eq(hvmi_region_next(iter, &region, NULL), 0);
	hvmi_region_iter_destroy(iter);
	meanwhile = NULL;
	ck_assert_int_eq(hvmi_task_arguments(os, &task, buf, sizeof(buf), &len, &err), 0);
	ck_assert_uint_eq(len, 0);
	/* Its memory is another one's. */
	death(SLOT(0));
	birth(SLOT(0), 7);
	ck_assert_int_eq(hvmi_region_iter_create(os, &task, 0, &iter, &err), -ENOENT);
	ck_assert_int_eq(hvmi_task_arguments(os, &task, buf, sizeof(buf), &len, &err), -ENOENT);
	ck_assert_ptr_nonnull(strstr(err.text, "process 1 has ended"));
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("live");
	TCase *tcase = tcase_create("live");
	tcase_add_checked_fixture(tcase, setup, teardown);
	tcase_add_test(tcase, a_storm);
	tcase_add_test(tcase, a_restless_name);
	tcase_add_test(tcase, a_locked_name);
	tcase_add_test(tcase, damage);
	tcase_add_test(tcase, memory_used_again);
	tcase_add_test(tcase, no_end_of_changes);
	tcase_add_test(tcase, paused);
	tcase_add_test(tcase, processes_that_end);
	tcase_add_loop_test(tcase, watching, 0, 2);
	tcase_add_test(tcase, watching_damage);
	tcase_add_test(tcase, watching_a_name_that_returns);
	tcase_add_test(tcase, watching_a_storm);
	tcase_add_loop_test(tcase, two_readings, 0, 4);
	tcase_add_loop_test(tcase, two_readings, 1000000, 1000001);
	suite_add_tcase(suite, tcase);
	return run_suite(suite);
}
