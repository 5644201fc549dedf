/* SPDX-License-Identifier: Apache-2.0 */
/* What lists cost. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench.h"

uint32_t list_processes(struct hvmi_os *os)
{
	struct hvmi_task_iter *iter;
	struct hvmi_task task = { .size = sizeof(task) };
	struct hvmi_error err;
	uint32_t count = 0;
	if (hvmi_task_iter_create(os, 0, &iter, &err))
		fail("processes", &err);
	while (hvmi_task_next(iter, &task, &err) == 1)
		count++;
	hvmi_task_iter_destroy(iter);
	return count;
}

/* The same list by pointers into the image, nothing checked: pid, state, parent, name. */
struct chase {
	const uint8_t *image, *ram;
	uint64_t image_gva, image_len, direct_map, ram_len;
	uint64_t tasks, pid, parent, comm, init_task;
};

static const uint8_t *chase_pointer(const struct chase *c, uint64_t gva)
{
	return gva - c->image_gva < c->image_len ? c->image + (gva - c->image_gva) :
						   c->ram + (gva - c->direct_map) % c->ram_len;
}

static uint64_t chase_load(const struct chase *c, uint64_t gva)
{
	uint64_t value;
	memcpy(&value, chase_pointer(c, gva), sizeof(value));
	return value;
}

static uint32_t chase_list(const struct chase *c)
{
	uint32_t count = 0;
	volatile uint64_t sink = 0;
	uint64_t head = c->init_task + c->tasks;
	for (uint64_t at = chase_load(c, head); at != head && count < 100000;
	     at = chase_load(c, at), count++) {
		uint64_t task = at - c->tasks;
		char comm[16];
		memcpy(comm, chase_pointer(c, task + c->comm), sizeof(comm));
		sink = sink + chase_load(c, task + c->pid) +
		       chase_load(c, chase_load(c, task + c->parent) + c->pid) + (uint8_t)comm[0];
	}
	return count;
}

static uint64_t offset_of(struct hvmi_os *os, const char *path)
{
	struct hvmi_member member = { .size = sizeof(member) };
	struct hvmi_error err;
	if (hvmi_profile_member(hvmi_os_profile(os), "task_struct", path, &member, &err))
		fail(path, &err);
	return member.hops[0];
}

/* Refreshes of a watch where nothing changes, next to whole lists. */
static void bench_watch(struct hvmi_os *os)
{
	struct hvmi_task_watch *watch;
	struct hvmi_task_news news = { .size = sizeof(news) };
	struct hvmi_task task = { .size = sizeof(task) };
	struct hvmi_error err;
	double ns[RUNS], base[RUNS];
	if (hvmi_task_watch_create(os, 0, &watch, &err))
		fail("a watch", &err);
	for (int i = -2; i < RUNS; i++) {
		double start = now_ns();
		hvmi_task_watch_refresh(watch, 0, &err);
		while (hvmi_task_watch_next(watch, &news, &task, &err) == 1)
			;
		double middle = now_ns();
		list_processes(os);
		if (i >= 0) {
			ns[i] = middle - start;
			base[i] = now_ns() - middle;
		}
	}
	hvmi_task_watch_destroy(watch);
	report("watch_processes", ns, base, 1, "nothing changed; the list read anew");
}

void bench_lists(struct image *image)
{
	struct hvmi_os *os = image->os;
	struct hvmi_os_info info = { .size = sizeof(info) };
	struct hvmi_error err;
	hvmi_os_get_info(os, &info);
	if (!image->direct_map)
		return;
	struct chase c = { .image = image->bytes + info.kernel_gpa, .ram = image->bytes,
			   .image_gva = info.kernel_gva, .image_len = info.kernel_len,
			   .ram_len = image->len, .direct_map = image->direct_map,
			   .tasks = offset_of(os, "tasks"), .pid = offset_of(os, "pid"),
			   .parent = offset_of(os, "real_parent"), .comm = offset_of(os, "comm") };
	if (hvmi_profile_symbol(hvmi_os_profile(os), "init_task", &c.init_task, &err))
		fail("the list's baseline", &err);

	double ns[RUNS], base[RUNS];
	uint32_t count = 0, chased = 0;
	for (int i = -1; i < RUNS; i++) {
		double start = now_ns();
		count = list_processes(os);
		double middle = now_ns();
		chased = chase_list(&c);
		if (i >= 0) {
			ns[i] = middle - start;
			base[i] = now_ns() - middle;
		}
	}
	char what[96];
	snprintf(what, sizeof(what), "%u processes with 12 fields; a raw chase of %u with 3", count,
		 chased);
	report("list_processes", ns, base, 1, what);
	bench_watch(os);
}
