/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Lists of a guest in a storm of changes (tests/guests/guest/storm.c), thousands of them. Whatever is
 * listed must be of the storm, whole, or what was there all the time.
 */
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <hvmi/hvmi.h>

#include "../guests/guest/storm.h"

#define STEADY_MAX 4096
#define PIDS_MAX 4194304
#define WRONG_SHOWN 40
/* Processes and threads that must have been met. */
#define DISTINCT_MIN 300u

struct figures {
	const char *what;
	uint64_t lists, entries, again, readings, inconsistent, gone, wrong;
	double cpu_seconds, longest;
};

static struct figures leaders = { .what = "lists of processes" };
static struct figures threads = { .what = "lists of threads" };
static struct figures paused = { .what = "lists of processes, paused" };
static struct figures maps = { .what = "lists of one's regions" };
static struct figures others = { .what = "lists of others' regions" };
static struct figures modules = { .what = "lists of modules" };
static struct figures watched = { .what = "differences of processes" };
static struct figures strings = { .what = "command lines" };
static struct figures attaches = { .what = "recognitions" };
static struct figures *now;

/* What was there before the storm's and stays. */
static struct hvmi_task steady[STEADY_MAX];
static struct hvmi_module steady_modules[STEADY_MAX];
static size_t steady_count, steady_module_count, threads_ended;
static uint64_t seen[PIDS_MAX / 64], distinct;
static uint32_t stamp[PIDS_MAX], round_number;
static int32_t workers[STORM_WORKERS], supervisor;

__attribute__((format(printf, 1, 2))) static void wrong(const char *format, ...)
{
	static unsigned shown;
	va_list args;
	now->wrong++;
	if (shown++ >= WRONG_SHOWN)
		return;
	va_start(args, format);
	printf("not ok - %s: ", now->what);
	vprintf(format, args);
	putchar('\n');
	va_end(args);
}

/* "the list of processes was read 3 times: ..." */
static void log_line(void *context, uint32_t level, const char *message)
{
	unsigned count;
	const char *was = strstr(message, " was read ");
	(void)context;
	if (level == HVMI_LOG_DEBUG && was && sscanf(was, " was read %u times", &count) == 1) {
		now->again++;
		now->readings += count;
	}
}

static double seconds(clockid_t clock)
{
	struct timespec t;
	clock_gettime(clock, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

struct begun {
	double wall, cpu;
};

static struct begun begin(void)
{
	return (struct begun){ seconds(CLOCK_MONOTONIC), seconds(CLOCK_PROCESS_CPUTIME_ID) };
}

static void took(struct begun start)
{
	double s = seconds(CLOCK_MONOTONIC) - start.wall;
	now->lists++;
	now->cpu_seconds += seconds(CLOCK_PROCESS_CPUTIME_ID) - start.cpu;
	if (s > now->longest)
		now->longest = s;
}

/* How a list ended. */
static void ended(int rc, const struct hvmi_error *err)
{
	if (rc == -EBUSY)
		now->inconsistent++;
	else if (rc == -ENOENT)
		now->gone++;
	else if (rc)
		wrong("it ended with %d: %s", rc, err->text);
}

static bool is_worker(const struct hvmi_task *task)
{
	return task->uid >= STORM_UID && task->uid < STORM_UID + STORM_WORKERS;
}

static bool of_storm(const struct hvmi_task *task)
{
	return is_worker(task) || strcmp(task->name, "storm") == 0 ||
	       (!(task->flags & HVMI_TASK_KERNEL) && strncmp(task->name, "w-", 2) == 0);
}

static void check_storm_task(const struct hvmi_task *task)
{
	uint32_t all = HVMI_TASK_HAS_PID | HVMI_TASK_HAS_TGID | HVMI_TASK_HAS_PPID |
		       HVMI_TASK_HAS_UID | HVMI_TASK_HAS_START | HVMI_TASK_HAS_STATE;
	if ((task->valid & all) != all || (task->flags & HVMI_TASK_KERNEL))
		wrong("%d: valid 0x%x, flags 0x%x", task->pid, task->valid, task->flags);
	if (!is_worker(task))
		return;
	uint32_t kind = task->uid - STORM_UID;
	if (task->euid != task->uid)
		wrong("%d: users %u and %u", task->pid, task->uid, task->euid);
	const char *const names[] = { storm_names[kind].worker, storm_names[kind].other,
				      storm_names[kind].third };
	bool known = !(task->valid & HVMI_TASK_HAS_NAME) && kind == STORM_NAME;
	for (int i = 0; i < 3; i++)
		known |= names[i] && strcmp(task->name, names[i]) == 0;
	if (!known)
		wrong("%d of user %u is called '%s'", task->pid, task->uid, task->name);
	if (kind != STORM_ORPHAN && workers[kind] && task->ppid != supervisor &&
	    task->ppid != workers[kind])
		wrong("%d of user %u is a child of %d", task->pid, task->uid, task->ppid);
	if (task->start_ns == 0)
		wrong("%d started at %llu ns", task->pid, (unsigned long long)task->start_ns);
}

static bool same(const struct hvmi_task *a, const struct hvmi_task *b)
{
	return a->tgid == b->tgid && a->object == b->object && a->start_ns == b->start_ns &&
	       a->ppid == b->ppid && a->uid == b->uid && a->root == b->root &&
	       a->flags == b->flags && strcmp(a->name, b->name) == 0;
}

static const struct hvmi_task *find_steady(int32_t pid)
{
	for (size_t i = 0; i < steady_count; i++)
		if (steady[i].pid == pid)
			return &steady[i];
	return NULL;
}

static void check_task(const struct hvmi_task *task)
{
	now->entries++;
	if (task->pid <= 0 || task->pid >= PIDS_MAX) {
		wrong("a pid %d", task->pid);
		return;
	}
	if (stamp[task->pid] == round_number)
		wrong("%d comes twice", task->pid);
	stamp[task->pid] = round_number;
	if (!(seen[task->pid / 64] & 1ull << task->pid % 64))
		distinct++;
	seen[task->pid / 64] |= 1ull << task->pid % 64;
	const struct hvmi_task *before = find_steady(task->pid);
	if (before ? !same(task, before) :
		     !of_storm(task) && strncmp(task->name, "kworker/", 8))
		wrong("%d, '%s' of user %u, child of %d", task->pid, task->name, task->uid,
		      task->ppid);
	if (!before && of_storm(task))
		check_storm_task(task);
}

static void list_tasks(struct hvmi_os *os, uint32_t flags, struct hvmi_task *other_ret)
{
	struct hvmi_task_iter *iter;
	struct hvmi_task task = { .size = sizeof(task) };
	struct hvmi_error err;
	struct begun start = begin();
	uint32_t storm = 0;
	round_number++;
	int rc = hvmi_task_iter_create(os, flags, &iter, &err);
	if (rc) {
		wrong("%s", err.text);
		return;
	}
	while ((rc = hvmi_task_next(iter, &task, &err)) == 1) {
		check_task(&task);
		/* Any of the storm's, a different one each time. */
		if (other_ret && is_worker(&task) && (storm++ == 0 || rand() % (int)storm == 0))
			*other_ret = task;
	}
	hvmi_task_iter_destroy(iter);
	took(start);
	ended(rc, &err);
	for (size_t i = 0; i < steady_count && rc == 0; i++) {
		struct hvmi_task *t = &steady[i];
		if (stamp[t->pid] == round_number ||
		    !(flags & HVMI_TASKS_THREADS || t->flags & HVMI_TASK_LEADER))
			continue;
		/* Some of the kernel's threads do end. But for good, and few. */
		if (!(t->flags & HVMI_TASK_KERNEL) || ++threads_ended > 4)
			wrong("%d, '%s', is missing", t->pid, t->name);
		*t = steady[--steady_count];
		i--;
	}
}

static struct hvmi_task_watch *watch;
static uint8_t watched_pids[PIDS_MAX];

/* What is told adds up to the list. */
static void watch_tasks(struct hvmi_os *os)
{
	struct hvmi_task_news news = { .size = sizeof(news) };
	struct hvmi_task task = { .size = sizeof(task) };
	struct hvmi_error err;
	struct begun start = begin();
	if (!watch && hvmi_task_watch_create(os, 0, &watch, &err)) {
		wrong("%s", err.text);
		return;
	}
	int rc = hvmi_task_watch_refresh(watch, 0, &err);
	took(start);
	ended(rc, &err);
	while (hvmi_task_watch_next(watch, &news, &task, NULL) == 1) {
		now->entries++;
		if (task.pid <= 0 || task.pid >= PIDS_MAX) {
			wrong("a pid %d", task.pid);
			continue;
		}
		uint8_t *held = &watched_pids[task.pid];
		bool there = news.change == HVMI_TASK_ENDED || news.change == HVMI_TASK_CHANGED;
		if (there != (*held > 0) && rc == 0)
			wrong("%d, '%s': %u of what is %sthere", task.pid, task.name, news.change,
			      *held ? "" : "not ");
		*held = news.change != HVMI_TASK_ENDED;
		if (!find_steady(task.pid) && of_storm(&task) && news.change != HVMI_TASK_ENDED)
			check_storm_task(&task);
	}
}

/* At the end, with the machine stopped for good: the sum is the list. */
static void compare_watch(struct hvmi_vm *vm, struct hvmi_os *os)
{
	struct hvmi_task_iter *iter;
	struct hvmi_task task = { .size = sizeof(task) };
	struct hvmi_error err;
	int64_t more = 0;
	if (hvmi_vm_pause(vm, &err)) {
		wrong("%s", err.text);
		return;
	}
	watch_tasks(os);
	for (int32_t pid = 0; pid < PIDS_MAX; pid++)
		more += watched_pids[pid];
	int rc = hvmi_task_iter_create(os, 0, &iter, &err);
	while (rc == 0 && (rc = hvmi_task_next(iter, &task, &err)) == 1) {
		more--;
		if (task.pid <= 0 || task.pid >= PIDS_MAX || !watched_pids[task.pid])
			wrong("%d, '%s', was not told", task.pid, task.name);
		rc = 0;
	}
	if (rc)
		wrong("%s", err.text);
	else
		hvmi_task_iter_destroy(iter);
	if (more)
		wrong("%lld too many were told", (long long)more);
	hvmi_task_watch_destroy(watch);
	hvmi_vm_resume(vm, NULL);
}

/* Before the checks: what is not the storm's. Whether all of its workers are there. */
static bool learn_tasks(struct hvmi_os *os)
{
	struct hvmi_task_iter *iter;
	struct hvmi_task task = { .size = sizeof(task) };
	struct hvmi_error err;
	int rc = hvmi_task_iter_create(os, HVMI_TASKS_THREADS | HVMI_LIST_PAUSED, &iter, &err);
	steady_count = 0;
	memset(workers, 0, sizeof(workers));
	while (rc == 0 && (rc = hvmi_task_next(iter, &task, &err)) == 1) {
		if (strcmp(task.name, "storm") == 0)
			supervisor = task.pid;
		if (is_worker(&task) && task.ppid == supervisor && task.pid == task.tgid &&
		    !workers[task.uid - STORM_UID])
			workers[task.uid - STORM_UID] = task.pid;
		if (!of_storm(&task) && strncmp(task.name, "kworker/", 8) && steady_count < STEADY_MAX)
			steady[steady_count++] = task;
		rc = 0;
	}
	if (rc)
		wrong("%s", err.text);
	else
		hvmi_task_iter_destroy(iter);
	for (int i = 0; i < STORM_WORKERS; i++)
		if (!workers[i] || !supervisor)
			return false;
	return true;
}

static void check_slot(const struct hvmi_region *region)
{
	uint64_t from = region->start - STORM_BASE, slot = from / STORM_SLOT;
	uint32_t rights = HVMI_RIGHT_READ | (slot % 2 ? 0 : HVMI_RIGHT_WRITE);
	if (slot >= STORM_SLOTS || from % STORM_SLOT ||
	    region->end - region->start != (slot % 3 + 1) * 4096 || region->rights != rights ||
	    (slot % 2 && (strcmp(region->path, STORM_FILE) || region->offset != slot * 4096)) ||
	    (slot % 2 == 0 && *region->path))
		wrong("0x%llx to 0x%llx, rights %u, offset 0x%llx, '%s'",
		      (unsigned long long)region->start, (unsigned long long)region->end,
		      region->rights, (unsigned long long)region->offset, region->path);
}

static bool known_path(const char *path)
{
	static const char *const known[] = { "/usr/bin/storm", "/lib", "/usr/lib", "[heap]", "[stack]",
					     "[vdso]", "[vvar", "[vsyscall]", STORM_FILE };
	if (!*path)
		return true;
	for (size_t i = 0; i < sizeof(known) / sizeof(*known); i++)
		if (strncmp(path, known[i], strlen(known[i])) == 0)
			return true;
	return false;
}

static void list_regions(struct hvmi_os *os, const struct hvmi_task *task)
{
	struct hvmi_region_iter *iter;
	struct hvmi_region region = { .size = sizeof(region) };
	struct hvmi_error err;
	struct begun start = begin();
	uint64_t end = 0;
	bool program = false;
	uint32_t count = 0;
	int rc = hvmi_region_iter_create(os, task, 0, &iter, &err);
	if (rc == 0) {
		while ((rc = hvmi_region_next(iter, &region, &err)) == 1) {
			count++;
			if (region.start < end || region.end <= region.start ||
			    (region.start | region.end) % 4096 || !known_path(region.path) ||
			    region.flags & HVMI_REGION_PATH_PARTIAL)
				wrong("%d: 0x%llx to 0x%llx '%s', flags %u", task->pid,
				      (unsigned long long)region.start,
				      (unsigned long long)region.end, region.path, region.flags);
			end = region.end;
			program |= strcmp(region.path, "/usr/bin/storm") == 0;
			if (region.start - STORM_BASE < STORM_SLOTS * STORM_SLOT)
				check_slot(&region);
		}
		hvmi_region_iter_destroy(iter);
	}
	took(start);
	ended(rc, &err);
	now->entries += count;
	if (rc == 0 && task->pid == workers[STORM_MAP] && (!program || count < 10))
		wrong("only %u regions", count);
}

static void read_arguments(struct hvmi_os *os, const struct hvmi_task *task)
{
	char buf[4096];
	size_t len;
	struct hvmi_error err;
	struct begun start = begin();
	int rc = hvmi_task_arguments(os, task, buf, sizeof(buf), &len, &err);
	took(start);
	/* Of a program that is beginning: what is there is not in memory yet. */
	if (rc == -EFAULT)
		rc = -EBUSY;
	ended(rc, &err);
	now->entries += rc == 0;
	const char *names[] = { "storm", storm_names[STORM_EXEC].other,
				storm_names[STORM_DETHREAD].third };
	bool known = rc || len == 0;
	for (int i = 0; i < 3; i++) {
		char want[64];
		int n = snprintf(want, sizeof(want), "%s%c%s", names[i], 0, STORM_ARGUMENT) + 1;
		known |= (i == 0 && len == sizeof("storm") && memcmp(buf, want, len) == 0) ||
			 (i && len == (size_t)n && memcmp(buf, want, len) == 0);
	}
	if (!known)
		wrong("%d: %zu bytes, '%.*s'", task->pid, len, (int)len, buf);
}

static void list_modules(struct hvmi_os *os, bool learn)
{
	struct hvmi_module_iter *iter;
	struct hvmi_module module = { .size = sizeof(module) };
	struct hvmi_error err;
	struct begun start = begin();
	size_t found = 0;
	int rc = hvmi_module_iter_create(os, 0, &iter, &err);
	if (rc) {
		ended(rc, &err);
		return;
	}
	while ((rc = hvmi_module_next(iter, &module, &err)) == 1) {
		now->entries++;
		bool moving = strcmp(module.name, STORM_MODULE) == 0, known = moving;
		if (learn && !moving && steady_module_count < STEADY_MAX)
			steady_modules[steady_module_count++] = module;
		for (size_t i = 0; i < steady_module_count && !moving; i++) {
			const struct hvmi_module *m = &steady_modules[i];
			if (m->object != module.object || strcmp(m->name, module.name) ||
			    m->base != module.base || m->bytes != module.bytes ||
			    m->state != module.state)
				continue;
			known = true;
			found++;
		}
		if (!known)
			wrong("'%s' at 0x%llx", module.name, (unsigned long long)module.base);
	}
	hvmi_module_iter_destroy(iter);
	took(start);
	ended(rc, &err);
	if (rc == 0 && found != steady_module_count)
		wrong("%zu of %zu are missing", steady_module_count - found, steady_module_count);
}

static void attach_again(struct hvmi_vm *vm)
{
	struct hvmi_os *os;
	struct hvmi_error err;
	struct begun start = begin();
	int rc = hvmi_os_attach(vm, NULL, &os, &err);
	took(start);
	if (rc)
		wrong("%s", err.text);
	else
		hvmi_os_detach(os);
}

static uint64_t report(void)
{
	struct figures *const all[] = { &leaders, &watched, &threads, &paused, &maps, &others, &modules,
					&strings, &attaches };
	uint64_t failures = 0;
	for (size_t i = 0; i < sizeof(all) / sizeof(*all); i++) {
		struct figures *f = all[i];
		printf("%s - %llu %s: %llu entries, %llu read again (%llu times in all), "
		       "%llu reported inconsistent, %llu gone, %llu wrong; %.3f ms of "
		       "processor each, the longest took %.1f ms\n", f->wrong || !f->lists ? "not ok" : "ok",
		       (unsigned long long)f->lists, f->what, (unsigned long long)f->entries,
		       (unsigned long long)f->again, (unsigned long long)f->readings,
		       (unsigned long long)f->inconsistent, (unsigned long long)f->gone,
		       (unsigned long long)f->wrong, f->lists ? f->cpu_seconds * 1e3 / (double)f->lists : 0,
		       f->longest * 1e3);
		failures += f->wrong || !f->lists;
		/* Nearly all must be lists indeed. */
		if (f->inconsistent * 20 > f->lists) {
			printf("not ok - more than one in twenty %s is inconsistent\n", f->what);
			failures++;
		}
	}
	printf("%s - %llu different processes and threads were met\n",
	       distinct > DISTINCT_MIN ? "ok" : "not ok", (unsigned long long)distinct);
	return failures + (distinct <= DISTINCT_MIN);
}

int main(int argc, char **argv)
{
	if (argc != 3) {
		fprintf(stderr, "usage: storm TARGET ROUNDS\n");
		return 2;
	}
	struct hvmi_open_options options = { .size = sizeof(options), .log = log_line };
	struct hvmi_vm *vm;
	struct hvmi_os *os;
	struct hvmi_error err;
	long rounds = atol(argv[2]);
	now = &attaches;
	if (hvmi_open(argv[1], &options, &vm, &err) || hvmi_os_attach(vm, NULL, &os, &err)) {
		printf("%s\n", err.text);
		return 1;
	}
	setvbuf(stdout, NULL, _IOLBF, 0);
	now = &paused;
	for (int tries = 0; !learn_tasks(os); tries++) {
		if (tries == 600) {
			printf("not ok - the storm does not begin\n");
			return 1;
		}
		nanosleep(&(struct timespec){ .tv_nsec = 100000000 }, NULL);
	}
	now = &modules;
	list_modules(os, true);
	/* A busy host gives the guest little time in each. */
	for (long i = 0; i < rounds || (distinct <= DISTINCT_MIN && i < 10 * rounds); i++) {
		if (hvmi_vm_lost(vm))
			break;
		struct hvmi_task other = { .size = sizeof(other) };
		now = &leaders;
		list_tasks(os, 0, i % 2 ? &other : NULL);
		now = &watched;
		watch_tasks(os);
		now = &threads;
		list_tasks(os, HVMI_TASKS_THREADS, i % 2 ? NULL : &other);
		now = &strings;
		if (other.pid)
			read_arguments(os, &other);
		now = &others;
		if (other.pid)
			list_regions(os, &other);
		struct hvmi_task map = { .size = sizeof(map) };
		now = &maps;
		if (hvmi_task_find(os, workers[STORM_MAP], &map, &err) == 0)
			list_regions(os, &map);
		now = &modules;
		list_modules(os, false);
		now = &paused;
		if (i % 50 == 0)
			list_tasks(os, HVMI_TASKS_THREADS | HVMI_LIST_PAUSED, NULL);
		now = &attaches;
		if (i % 200 == 0)
			attach_again(vm);
	}
	now = &watched;
	compare_watch(vm, os);
	hvmi_os_detach(os);
	hvmi_close(vm);
	uint64_t failures = report();
	printf("%llu failed\n", (unsigned long long)failures);
	return failures != 0;
}
